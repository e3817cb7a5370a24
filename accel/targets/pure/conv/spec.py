"""What a convolution kernel computes, and the layout of its argument block.

All convolutions are *windows*: each place q of the result sums, over channels and taps, a
weight times the source element at ``q * stride + tap`` along every axis, zero outside of the
source. A padding is a tap of negative displacement, a dilation a wider spacing of the taps,
and the gradient with respect to the image a few windows over the result's gradient, one for
each remainder of the image's places by the stride.

Sources of one or two spatial axes have leading axes of extent 1, so that there are always
three: planes, rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ....ir.dataclass import dataclass
from ..gemm.spec import RECORD, Constant, Matrix

__all__ = ["AXES", "FLAG_BYTES", "HEADER", "POOL", "WEIGHT_HEADER", "Axis", "Windows", "block_of"]

AXES = 3

POOL = 2
"""Rows and columns of the windows whose greatest element a pooled convolution stores."""

FLAG_BYTES = 64
"""At the start of a convolution's scratch space: a flag, see `conv_finite`."""

# The slots of argument blocks, 64-bit integers: a header, records of the operands (weight,
# source, scratch space, outputs, extras; or gradient, source, scratch space, result), tables.
#   pitch, height             elements from row to row and rows of a packed block
#   phase, channel            bytes of a phase of a channel in it, and of a channel
#   stride*, source*          of the three axes
#   taps0, phases1, phases2   lengths of the tables of what is packed
#   pack                      address of the packing function
#   at_*                      bytes from the block's start to a table
_PACKING = (
    "pitch", "height", "phase", "channel", "stride0", "stride1", "stride2",
    "source0", "source1", "source2", "taps0", "phases1", "phases2", "pack",
    "at_taps0", "at_phases1", "at_phases2",
)  # fmt: skip
# Fastest first, an item is a block of output channels, of columns and of rows, a plane, a
# group, an image.
#   m_blocks ... groups       how many of each there are
#   block_*, m, rows, columns extents of a block, and of the whole
#   channels                  of the source in a group
#   tiles                     address of the tile library
#   grain, slot               items of a part, bytes of scratch space of a part
#   slab                      of these, bytes for the packed source
#   sums_row                  bytes between rows of sums
_BLOCKS = (
    "column_blocks", "row_blocks", "planes", "groups", "block_columns", "block_rows",
    "m", "columns", "rows", "channels", "tiles", "grain", "slot", "slab", "sums_row",
    "at_lines", "at_steps",
)  # fmt: skip
#   packed                    whether the source is copied to scratch space first
#   guarded                   whether to run only if the flag at the scratch space's start is set
#   inner ... b_step          see `conv_tiles`
#   lined                     vectors of a row, each summed with those below it; 0: places run
#                             on from row to row
#   sums_pitch                elements from row to row of sums
HEADER = (
    *_PACKING, *_BLOCKS, "m_blocks", "block_m", "packed", "guarded", "inner", "outer", "a_step",
    "b_step", "lined", "sums_pitch",
)  # fmt: skip
# Of the weight gradient, an item is a block of channels, a group, a chunk of the blocks of
# places; then a block of lines (channels and taps), a group.
#   blocks, taps              of places, and of a channel
#   at_sums                   bytes from the scratch space's start to the sums
WEIGHT_HEADER = (
    *_PACKING, *_BLOCKS, "channel_blocks", "block_channels", "chunks", "blocks", "taps", "turn",
    "lines", "block_lines", "line_blocks", "at_sums",
)  # fmt: skip


class Axis(NamedTuple):
    """One spatial axis of a window.

    Attributes
    ----------
    extent, source
        Places of the result, and elements of the source.
    stride
        Elements of the source from place to place.
    taps
        (displacement in the source, bytes of the weight) of each tap.
    """

    extent: int
    source: int
    stride: int = 1
    taps: tuple[tuple[int, int], ...] = ((0, 0),)


@dataclass(frozen=True)
class Windows:
    """One convolution at run time.

    Attributes
    ----------
    batch, groups
        How many images, and groups of channels.
    rows, channels
        Output channels and source channels of a group.
    axes
        Planes, rows, columns.
    weight
        Its batch strides are those of groups and of source channels, `row` that of output
        channels; the taps hold the rest.
    source, outputs, extras
        Their batch strides are those of images, channels and planes.
    pooled
        Whether the outputs are the maxima of windows of 2 x 2 places.
    strips
        Whether strips of rows are summed and finished in registers: see `conv.strips`.
    """

    batch: int
    groups: int
    rows: int
    channels: int
    axes: tuple[Axis, Axis, Axis]
    weight: Matrix
    source: Matrix
    outputs: tuple[Matrix, ...]
    extras: tuple[Matrix | Constant, ...] = ()
    pooled: bool = False
    strips: bool = False

    @property
    def size(self) -> int:
        """Elements of the result."""
        found = self.batch * self.groups * self.rows
        for axis in self.axes:
            found *= axis.extent
        return found

    @property
    def terms(self) -> int:
        """Products that an element of the result sums."""
        found = self.channels
        for axis in self.axes:
            found *= len(axis.taps)
        return found


def block_of(
    names: Sequence[str], header: dict[str, int], operands: Sequence[Matrix | Constant],
    tables: dict[str, list[int]],
) -> tuple[int, ...]:  # fmt: skip
    """The slots of an argument block whose header has the slots `names`; `tables` are named by
    those that hold their places."""
    at = 8 * (len(names) + len(RECORD) * len(operands))
    content: list[int] = []
    places = {}
    for name, values in tables.items():
        places[name] = at + 8 * len(content)
        content += values
    full = {**header, **places}
    block = [full.pop(name, 0) for name in names]
    assert not full, full
    for operand in operands:
        if isinstance(operand, Constant):
            block += [0, operand.bits, *[0] * (len(RECORD) - 2)]
        else:
            base, offset, row, column, strides, panel = operand
            block += [base, offset, *strides, *[0] * (AXES - len(strides)), row, column, panel]
    return (*block, *content)
