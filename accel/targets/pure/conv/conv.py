"""Convolutions of the pure target: how a window is divided, packed and scheduled.

:func:`plan` chooses from extents and strides the block of places and output channels that is
an item, and whether the source is copied into scratch space block by block (packed) or read
as it lies. :func:`schedule` writes the argument block. The code depends on neither, so another
shape needs another argument block and no compile.

**Accuracy.** An element is one chain of fused multiply-adds over channels, then taps, whatever
the division: its error is at most about terms * eps * (|weight| * |source|).
"""

from __future__ import annotations

import functools
from dataclasses import replace

from ....ir.dataclass import dataclass
from ..gemm.spec import MatmulSpec, Matrix
from ..machine import threads
from ..machine.llvm_text import LINE
from .emit import emit_windows
from .finite import emit_finite, finite_block
from .geometry import Geometry, ceil_div, displacements, even, phases_of, shared_zeros
from .pack import emit_pack
from .spec import FLAG_BYTES, HEADER, POOL, Axis, Windows, block_of
from .tiles import ROWS, emit_tiles

__all__ = [
    "Axis", "Plan", "Windows", "emit_finite", "emit_pack", "emit_tiles", "emit_windows",
    "finite_block", "merged", "plan", "schedule",
]  # fmt: skip

_SLAB_BYTES = 256 << 10  # of packed source: a quarter of a second-level cache, with sums behind
_STRIP_BYTES = 64 << 10  # of packed source, if strips are taken of a few rows of it
_SUM_BYTES = 32 << 10  # of the sums of a few output channels over a block
_COLUMNS = 512  # of a block at most
_STEPS = 256  # of a table, about
_ITEMS = 8  # of a large convolution at least, for the sake of threads
_ITEM_WORK = 1 << 18  # multiply-adds for which an item more is worth while
_PAGE = 4096
_SCRATCH_KEPT = 8 << 20
_FEW_PARTS = 16
_FEW_VECTORS = 4


# -- the division ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Plan:
    """How a window is divided into items, and what its scratch space holds.

    Attributes
    ----------
    block
        Output channels, rows and columns of an item.
    packed
        Whether the source is copied to scratch space.
    geometry
        Of the packed source; if it is read as it lies, its pitch is the source's own.
    lined
        Vectors of a row, if each is summed with those below it; 0 if places run on from row to
        row, those between two rows included.
    slab, sums_row, slot
        Bytes of the packed source, between rows of sums, and of it all.
    items, grain, parts
        Items, items of a part of which one thread does all, and how many parts there are.
    """

    block: tuple[int, int, int]
    packed: bool
    geometry: Geometry
    lined: int
    slab: int
    sums_row: int
    slot: int
    items: int
    grain: int
    parts: int

    @property
    def scratch(self) -> int:
        """Bytes of scratch space."""
        return FLAG_BYTES + self.slot * self.parts


def _direct(spec: MatmulSpec, windows: Windows) -> bool:
    """Whether the source can be read as it lies: no padding, no strides, rows closely spaced."""
    x, size = windows.source, spec.size
    _, rows, columns = windows.axes
    if (x.column != size and columns.source != 1) or rows.stride != 1 or columns.stride != 1:
        return False
    for axis in windows.axes:
        taps = [tap for tap, _ in axis.taps]
        if not taps or min(taps) < 0 or max(taps) + (axis.extent - 1) * axis.stride >= axis.source:
            return False
    if x.batch[1] % _PAGE == 0 and windows.channels >= 32:  # they would crowd few cache sets
        return False
    close = size * columns.extent <= x.row <= 1.25 * size * columns.extent
    return rows.extent == 1 or (x.row % size == 0 and close)


def _pitch(spec: MatmulSpec, windows: Windows, direct: bool, width: int) -> int:
    """Elements from row to row of a block of `width` columns as tiles read it."""
    if direct and windows.axes[1].extent > 1:
        return windows.source.row // spec.size
    columns = windows.axes[2]
    shared = shared_zeros(columns) if width >= columns.extent else 0
    shared = min(shared, spec.machine.lanes(spec.size))  # as many follow the last row
    return width + phases_of(columns).span - shared


def _block(spec: MatmulSpec, windows: Windows, direct: bool) -> tuple[int, int, int]:
    """(output channels, rows, columns) of an item: what keeps the packed source and the sums
    of a few channels in the second-level cache."""
    size = spec.size
    planes, rows, columns = windows.axes
    down, across = phases_of(rows), phases_of(columns)
    phases = len(displacements(planes)) * len(down.firsts) * len(across.firsts)
    depth = max(1, windows.channels * phases * size)
    room = _SUM_BYTES // (min(ROWS, max(1, windows.rows)) * size)
    lanes = spec.machine.lanes(size)
    width = even(columns.extent, min(_COLUMNS, room))
    least = 4 * lanes
    while width > least and depth * (1 + down.span) * (width + across.span) > _SLAB_BYTES:
        width = even(columns.extent, width // 2)
    pitch = _pitch(spec, windows, direct, width)
    fitting = min(_SLAB_BYTES // (depth * pitch) - down.span, room // pitch)
    if windows.strips:
        fitting = _STRIP_BYTES // (depth * pitch) - down.span
    block_m, height = _shared(windows, even(rows.extent, fitting), width)
    if windows.pooled:  # blocks hold whole pools
        height, width = [ceil_div(n, POOL) * POOL for n in (height, width)]
    if windows.strips:  # ... and whole vectors
        width = ceil_div(width, lanes) * lanes
    return block_m, height, width


def _fills_lanes(
    windows: Windows, direct: bool, block: tuple[int, int, int], lanes: int
) -> bool:
    """Whether rows of a block are a few whole vectors, so that none need reach over the
    places between two rows, of which a packed source has some."""
    width = block[2]
    _, rows, columns = windows.axes
    whole = width % lanes == 0 and columns.extent % width == 0
    return not direct and whole and width <= _FEW_VECTORS * lanes and rows.extent > 1


def _least_places(windows: Windows, block: tuple[int, int, int], pitch: int) -> int:
    """Places of the smallest block."""
    _, height, width = block
    _, rows, columns = windows.axes
    last_rows, last_columns = (rows.extent - 1) % height, (columns.extent - 1) % width
    return last_rows * pitch + last_columns + 1


@functools.lru_cache(maxsize=1024)
def plan(spec: MatmulSpec, windows: Windows) -> Plan:
    """How `windows` is divided; it depends on no address and not on the number of threads."""
    size, lanes = spec.size, spec.machine.lanes(spec.size)
    planes, rows, columns = windows.axes
    direct = not windows.strips and _direct(spec, windows)
    block = _block(spec, windows, direct)
    pitch = _pitch(spec, windows, direct, block[2])
    if direct and _least_places(windows, block, pitch) < lanes:
        direct = False
        block = _block(spec, windows, direct)
        pitch = _pitch(spec, windows, direct, block[2])
    block_m, height, width = block
    geometry = replace(Geometry.of(windows.axes, height, width, size, lanes), pitch=pitch)
    lined = width // lanes if _fills_lanes(windows, direct, block, lanes) else 0
    room = POOL * lanes if windows.pooled else lanes  # vectors of the last row reach behind it
    slab = 0 if direct else geometry.slab(windows.channels)
    sums_row = (ceil_div(height * pitch + room, lanes) | 1) * lanes * size
    sums = 0 if windows.strips else min(ROWS, windows.rows) * sums_row
    slot = ceil_div(slab + sums, _PAGE) * _PAGE + LINE
    items = ceil_div(columns.extent, width) * ceil_div(rows.extent, height)
    items *= ceil_div(windows.rows, block_m) * planes.extent * windows.groups * windows.batch
    parts = max(_FEW_PARTS, _SCRATCH_KEPT // slot)
    grain = threads.grain(items, windows.size * max(1, windows.terms), 1, parts)
    return Plan(
        block, not direct, geometry, lined, slab, sums_row, slot,
        items, grain, ceil_div(items, grain) if grain else 1,
    )  # fmt: skip


def _shared(windows: Windows, height: int, width: int) -> tuple[int, int]:
    """(output channels, rows) of an item: enough items for several threads, if there is
    enough work. First the output channels are divided, which packs nothing twice on one
    thread, then the rows."""
    work = windows.size * max(1, windows.terms)
    wanted = min(_ITEMS, work // _ITEM_WORK)
    planes, rows, columns = windows.axes
    around = windows.batch * windows.groups * planes.extent * ceil_div(columns.extent, width)
    items = around * ceil_div(rows.extent, height)
    if not items or items >= wanted:
        return max(1, windows.rows), height
    blocks = min(ceil_div(wanted, items), ceil_div(windows.rows, ROWS))
    block_m = ceil_div(ceil_div(windows.rows, blocks), ROWS) * ROWS
    blocks = ceil_div(windows.rows, block_m)
    if items * blocks < wanted:
        height = even(rows.extent, ceil_div(rows.extent * around * blocks, wanted))
    return block_m, height


# -- argument blocks -------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """One kernel call: its argument block, items, and the items of a part."""

    arguments: tuple[int, ...]
    items: int
    grain: int


def _taps(spec: MatmulSpec, windows: Windows, plan: Plan) -> list[tuple[int, int]]:
    """(bytes of the weight, bytes of the source as tiles read it) of each tap."""
    x = windows.source
    taps = [
        (w0 + w1 + w2, t0 * x.batch[2] + t1 * x.row + t2 * spec.size)
        for t0, w0 in windows.axes[0].taps
        for t1, w1 in windows.axes[1].taps for t2, w2 in windows.axes[2].taps
    ]  # fmt: skip
    if not plan.packed:
        return taps
    packed = plan.geometry.taps(windows.axes, spec.size)
    return [(weight, at) for (weight, _), at in zip(taps, packed, strict=True)]


def _steps(spec: MatmulSpec, windows: Windows, plan: Plan) -> tuple[dict[str, int], list[int]]:
    """The slots of the header that walk the table of steps, and the table: taps inside
    channels, several channels a turn if there are few taps."""
    taps = _taps(spec, windows, plan)
    a = windows.weight.batch[1]
    b = plan.geometry.channel if plan.packed else windows.source.batch[1]
    most = max(1, _STEPS // max(1, len(taps)))
    turn = max((n for n in range(1, most + 1) if windows.channels % n == 0), default=1)
    table = [part for c in range(turn) for w, at in taps for part in (c * a + w, c * b + at)]
    outer = windows.channels // turn if taps else 0
    walk = {"inner": turn * len(taps), "outer": outer, "a_step": turn * a, "b_step": turn * b}
    return walk, table


def schedule(
    spec: MatmulSpec, windows: Windows, tiles: int, pack: int, scratch: tuple[int, int] = (0, 0),
    guarded: bool = False,
) -> list[Step]:
    """The kernel calls that compute `windows`; none if the result has no elements.

    Parameters
    ----------
    spec
        What the kernel was emitted for.
    windows
        Extents and operands.
    tiles, pack
        Addresses of the tile library and of the packing function of the element type.
    scratch
        (base index, byte offset) of ``plan(spec, windows).scratch`` bytes.
    guarded
        Whether to do nothing unless the flag there is set.
    """
    if not windows.size:
        return []
    made = plan(spec, windows)
    planes, rows, columns = windows.axes
    steps, table = _steps(spec, windows, made)
    block_m, block_rows, block_columns = made.block
    header = {
        "m_blocks": ceil_div(windows.rows, block_m),
        "row_blocks": ceil_div(rows.extent, block_rows),
        "column_blocks": ceil_div(columns.extent, block_columns), "planes": planes.extent,
        "groups": windows.groups, "block_m": block_m, "block_columns": block_columns,
        "block_rows": block_rows, "m": windows.rows, "columns": columns.extent,
        "rows": rows.extent, "channels": windows.channels, "packed": int(made.packed),
        "guarded": int(guarded), "tiles": tiles, "pack": pack, "grain": made.grain or made.items,
        "slot": made.slot, "slab": made.slab, "sums_row": made.sums_row, "lined": made.lined,
        "sums_pitch": block_columns if made.lined else made.geometry.pitch,
        **made.geometry.header(windows.axes), **steps,
    }  # fmt: skip
    tables = {
        "at_lines": [i * windows.weight.row for i in range(ROWS)],
        "at_steps": table, **made.geometry.tables(windows.axes),
    }  # fmt: skip
    place = Matrix(*scratch, 0, 0)
    operands = [windows.weight, windows.source, place, *windows.outputs, *windows.extras]
    return [Step(block_of(HEADER, header, operands, tables), made.items, made.grain)]


# -- merging axes ----------------------------------------------------------------------------
def merged(windows: Windows) -> Windows:
    """The window with rows joined to one where taps reach over neither rows nor columns and
    every operand lies so: a kernel of 1 x 1 sees an image as one line."""
    planes, rows, columns = windows.axes
    for axis in (rows, columns):
        same = axis.extent == axis.source and axis.stride == 1
        if not same or [tap for tap, _ in axis.taps] != [0]:
            return windows
    if windows.pooled:
        return windows
    matrices = [o for o in (windows.source, *windows.outputs, *windows.extras)
                if isinstance(o, Matrix)]  # fmt: skip
    if rows.extent == 1 or any(o.row != columns.extent * o.column for o in matrices):
        return windows
    extent = rows.extent * columns.extent
    taps = ((0, rows.taps[0][1] + columns.taps[0][1]),)
    axes = (planes, Axis(1, 1), Axis(extent, extent, 1, taps))
    return replace(windows, axes=axes)
