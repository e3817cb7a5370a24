"""The weight gradient of convolutions: how it is divided and scheduled.

Sums of products over images and places are formed in a fixed number of chunks, which are added
up in order: the result does not depend on how many threads there are. Its error is at most
about terms * eps * (|source| * |gradient|).
"""

from __future__ import annotations

import math

from ....forking import cached_property
from ....ir.dataclass import dataclass
from ..gemm.spec import Matrix
from ..machine import threads
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES
from .geometry import Geometry, ceil_div, displacements, even, phases_of
from .spec import WEIGHT_HEADER, Axis, block_of
from .turn import emit_turn
from .weight_emit import emit_gather, emit_products

__all__ = ["Addresses", "WeightGradient", "emit_gather", "emit_products", "emit_turn"]

_SLAB_BYTES = 192 << 10  # of packed source
_SUM_BYTES = 256 << 10  # of the sums of a block of channels
_LINES = 1024  # of a block of channels
_PLACES = 256  # of a block: what keeps the turned gradient in the first-level cache
_CHUNKS = 8  # items of a large gradient at least
_CHUNK_WORK = 1 << 18  # multiply-adds for which an item more is worth while
_GATHERED = 64  # lines of an item of the second kernel
_SCRATCH_KEPT = 8 << 20
_FEW_PARTS = 16
_PAGE = 4096


@dataclass(frozen=True)
class Addresses:
    """Where the functions that the kernels call lie."""

    tiles: int
    pack: int
    turn: int


@dataclass(frozen=True)
class WeightGradient:
    """One weight gradient at run time.

    Attributes
    ----------
    element, machine
        What it is computed in, and on.
    batch, groups, m, channels
        How many images and groups, and output and source channels of a group.
    axes
        As in `Windows`; the weight's bytes of the taps are not used.
    gradient, source
        Their batch strides are those of images, channels and planes; columns of the gradient
        are consecutive.
    result
        Contiguous; its batch stride is that of output channels.
    """

    element: str
    machine: Machine
    batch: int
    groups: int
    m: int
    channels: int
    axes: tuple[Axis, Axis, Axis]
    gradient: Matrix
    source: Matrix
    result: Matrix

    @property
    def size(self) -> int:
        return ELEMENT_BYTES[self.element]

    @property
    def taps(self) -> int:
        return math.prod(len(axis.taps) for axis in self.axes)

    @property
    def lines(self) -> int:
        """Channels and taps of a group."""
        return self.channels * self.taps

    @cached_property
    def work(self) -> int:
        """Multiply-adds."""
        places = math.prod(axis.extent for axis in self.axes)
        return self.batch * places * self.groups * self.m * self.lines

    @cached_property
    def sums_row(self) -> int:
        """Bytes of the sums of a line: output channels in whole vectors."""
        lanes = self.machine.lanes(self.size)
        return ceil_div(self.m, lanes) * lanes * self.size

    @cached_property
    def block_channels(self) -> int:
        """Channels of an item."""
        lines = min(_LINES, _SUM_BYTES // max(1, self.sums_row))
        return even(self.channels, lines // self.taps)

    @cached_property
    def block(self) -> tuple[int, int]:
        """(rows, columns) of a block of places."""
        planes, rows, columns = self.axes
        down, across = phases_of(rows), phases_of(columns)
        depth = len(displacements(planes)) * len(down.firsts) * len(across.firsts)
        depth *= max(1, self.block_channels) * self.size
        width = even(columns.extent, _PLACES)
        fitting = _SLAB_BYTES // max(1, depth * (width + across.span)) - down.span
        return even(rows.extent, min(fitting, _PLACES // width)), width

    @cached_property
    def geometry(self) -> Geometry:
        lanes = self.machine.lanes(self.size)
        return Geometry.of(self.axes, *self.block, self.size, lanes)

    @cached_property
    def blocks(self) -> int:
        """Blocks of places of the whole batch."""
        (rows, columns), (deep, down, across) = self.block, self.axes
        return self.batch * deep.extent * ceil_div(down.extent, rows) * ceil_div(
            across.extent, columns
        )  # fmt: skip

    @cached_property
    def chunks(self) -> int:
        """Chunks of blocks that are summed apart."""
        wanted = min(_CHUNKS, self.work // _CHUNK_WORK)
        return max(1, min(self.blocks, ceil_div(wanted, self.groups * self._channel_blocks)))

    @property
    def _channel_blocks(self) -> int:
        return ceil_div(self.channels, self.block_channels)

    @cached_property
    def _slab(self) -> int:
        return self.geometry.slab(self.block_channels)

    @cached_property
    def _slot(self) -> int:
        """Bytes of scratch space of a part."""
        rows, columns = self.block
        turned = (rows * columns + 1) * self.sums_row
        return ceil_div(self._slab + turned, _PAGE) * _PAGE + 64

    @cached_property
    def _items(self) -> int:
        return self.groups * self.chunks * self._channel_blocks

    @cached_property
    def _grain(self) -> int:
        parts = max(_FEW_PARTS, _SCRATCH_KEPT // self._slot)
        return threads.grain(self._items, self.work, 1, parts)

    @property
    def _sums(self) -> int:
        """Where the sums lie in the scratch space."""
        return self._slot * (ceil_div(self._items, self._grain) if self._grain else 1)

    @property
    def empty(self) -> bool:
        """Whether the result has no elements."""
        return not self.groups * self.m * self.lines

    @property
    def scratch(self) -> int:
        """Bytes of scratch space."""
        if self.empty:
            return 0
        return self._sums + self.chunks * self.groups * self.lines * self.sums_row

    def schedule(
        self, addresses: Addresses, scratch: tuple[int, int]
    ) -> list[tuple[tuple[int, ...], int, int]]:
        """(argument block, items, items of a part) of the two kernels; none for an empty
        result. `scratch` is base index and byte offset of the scratch space."""
        if self.empty:
            return []
        planes, rows, columns = self.axes
        block_rows, block_columns = self.block
        line_blocks = ceil_div(self.lines, _GATHERED)
        header = {
            "column_blocks": ceil_div(columns.extent, block_columns),
            "row_blocks": ceil_div(rows.extent, block_rows), "planes": planes.extent,
            "groups": self.groups, "block_columns": block_columns, "block_rows": block_rows,
            "m": self.m, "columns": columns.extent, "rows": rows.extent,
            "channels": self.channels, "tiles": addresses.tiles, "pack": addresses.pack,
            "turn": addresses.turn, "grain": self._grain or self._items, "slot": self._slot,
            "slab": self._slab, "sums_row": self.sums_row,
            "channel_blocks": self._channel_blocks, "block_channels": self.block_channels,
            "chunks": self.chunks, "blocks": self.blocks, "taps": self.taps,
            "lines": self.lines, "block_lines": _GATHERED, "line_blocks": line_blocks,
            "at_sums": self._sums, **self.geometry.header(self.axes),
        }  # fmt: skip
        taps = self.geometry.taps(self.axes, self.size)
        lines = [c * self.geometry.channel + t for c in range(self.block_channels) for t in taps]
        steps = [part for j in range(block_columns) for part in (j * self.size, j * self.sums_row)]
        tables = {"at_lines": lines, "at_steps": steps, **self.geometry.tables(self.axes)}
        operands = [self.gradient, self.source, Matrix(*scratch, 0, 0), self.result]
        block = block_of(WEIGHT_HEADER, header, operands, tables)
        items = self.groups * line_blocks
        added = self.chunks * self.groups * self.lines * self.m
        return [(block, self._items, self._grain), (block, items, threads.grain(items, 4 * added))]
