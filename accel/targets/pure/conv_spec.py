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

from dataclasses import dataclass
from typing import NamedTuple

from .gemm_spec import RECORD, Constant, Matrix

__all__ = ["AXES", "HEADER", "Axis", "Windows", "block_of"]

AXES = 3

# The slots of an argument block, 64-bit integers: a header, a record for weight, source,
# scratch space, outputs and extras, then tables. Fastest first, an item is a block of output
# channels, of columns and of rows, a plane, a group, an image.
#   m_blocks ... groups       how many of each there are
#   block_*, m, rows, columns extents of a block, and of the whole
#   channels                  of the source in a group
#   packed                    whether the source is copied to scratch space first
#   pitch                     elements from a row of a block to the next, as tiles read it
#   tiles, pack               addresses of the tile library and of the packing function
#   grain, slot               items of a part, bytes of scratch space of a part
#   slab                      of these, bytes for the packed source; sums lie behind
#   sums_row                  bytes between rows of sums
#   channel, phase            bytes of a channel and of a phase of it in the packed source
#   height, width             rows and columns of a phase
#   stride*, source*          of the three axes
#   taps0, phases1, phases2   lengths of their tables
#   inner ... b_step          see `conv_tiles`
#   at_*                      bytes from the block's start to a table
HEADER = (
    "m_blocks", "column_blocks", "row_blocks", "planes", "groups",
    "block_m", "block_columns", "block_rows", "m", "columns", "rows", "channels",
    "packed", "pitch", "tiles", "pack", "grain", "slot", "slab", "sums_row",
    "channel", "phase", "height", "width",
    "stride0", "stride1", "stride2", "source0", "source1", "source2",
    "taps0", "phases1", "phases2", "inner", "outer", "a_step", "b_step",
    "at_lines", "at_taps0", "at_phases1", "at_phases2", "at_steps",
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
    header: dict[str, int], operands: list[Matrix | Constant], tables: dict[str, list[int]]
) -> tuple[int, ...]:
    """The slots of an argument block; `tables` are named by the header's slots ``at_*``."""
    at = 8 * (len(HEADER) + len(RECORD) * len(operands))
    content: list[int] = []
    places = {}
    for name, values in tables.items():
        places[name] = at + 8 * len(content)
        content += values
    full = {**header, **places}
    block = [full.pop(name, 0) for name in HEADER]
    assert not full, full
    for operand in operands:
        if isinstance(operand, Constant):
            block += [0, operand.bits, *[0] * (len(RECORD) - 2)]
        else:
            base, offset, row, column, strides, panel = operand
            block += [base, offset, *strides, *[0] * (AXES - len(strides)), row, column, panel]
    return (*block, *content)
