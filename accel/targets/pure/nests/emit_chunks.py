"""Reductions of few rows, cut into chunks: many work items where there would be one or few.

Every sweep of such a nest becomes two kernels. The first takes a chunk of the outermost swept
dimension an item and leaves the chunk's totals in scratch memory; the second merges a row's
totals in their order and computes what follows for the row. The size of chunks depends on
the nest alone, so that results are the same at any number of threads.

Scratch memory of a row (of a panel, where the last dimension is kept): first the values that
later sweeps need, then the totals of each chunk, all in rooms of 8 bytes a lane.
"""

from __future__ import annotations

from ....ir.dataclass import dataclass
from .emit_panel import PanelWriter
from .emit_sweep import SweepWriter, Writer
from .schedule import BLOCK, PANEL, PANEL_ROWS, Schedule

__all__ = ["Chunks", "Stage", "chunks_of", "stages", "write_chunk", "write_joint"]

#: Rows of a nest below which they are cut; chunks of all rows that are then aimed at, and those
#: of a panel at most: reading the totals of 64 takes a tenth of the time of a 16 MB sum.
_FEW_ITEMS, _CHUNKS, _PANEL_CHUNKS = 16, 64, 16
#: Points of a chunk at least; with fewer chunks of these than four a nest is not cut.
_LEAST_POINTS, _LEAST_CHUNKS = 1 << 15, 4
#: Bytes of a room a lane.
_ROOM = 8


@dataclass(frozen=True)
class Chunks:
    """How a nest is cut: `count` chunks of `size` indices of the outermost swept dimension, the
    last of which may be shorter; `bytes` of scratch memory in all."""

    count: int
    size: int
    bytes: int


@dataclass(frozen=True)
class Stage:
    """One kernel of a nest in chunks: that of a sweep which takes chunks, or which joins them."""

    sweep: int
    joins: bool


def stages(schedule: Schedule) -> list[Stage]:
    """The kernels of a nest in chunks, in their order."""
    return [Stage(n, joins) for n in range(len(schedule.sweeps)) for joins in (False, True)]


def chunks_of(schedule: Schedule, rows: int) -> Chunks | None:
    """How to cut a nest of `rows` work items; None where that does not pay."""
    cuts = (schedule.kind == "row" and not schedule.stash) or schedule.panelled
    if not cuts or schedule.serial or not 0 < rows < _FEW_ITEMS:
        return None
    extent = schedule.nest.extents[schedule.swept[0]]
    parts = schedule.nest.points // _LEAST_POINTS
    if parts < _LEAST_CHUNKS or parts < 2 * rows:
        return None
    wanted = min(_CHUNKS, parts) // rows
    if schedule.panelled:
        wanted = min(wanted, _PANEL_CHUNKS)
    size = -(-extent // wanted)
    if schedule.panelled or len(schedule.swept) == 1:
        whole = PANEL_ROWS if schedule.panelled else BLOCK
        size = -(-size // whole) * whole
    count = -(-extent // size)
    if count < 2:
        return None
    return Chunks(count, size, rows * _row_bytes(schedule, count))


def _row_bytes(schedule: Schedule, count: int) -> int:
    lanes = PANEL if schedule.panelled else 1
    return lanes * _ROOM * (len(schedule.kept) + count * schedule.totals)


class _Scratch:
    """The scratch memory of a row.

    Parameters
    ----------
    writer
        The kernel.
    row
        The row's number.
    """

    def __init__(self, writer: Writer, row: str) -> None:
        fn, schedule = writer.fn, writer.schedule
        first = writer.slots.chunks
        assert first is not None
        self.fn = fn
        self.size = writer.values.argument(first + 2)
        self.count = writer.values.argument(first + 3)
        self._room = _ROOM * (PANEL if schedule.panelled else 1)
        self._totals = schedule.totals
        kept = len(schedule.kept)
        rooms = fn.integer("add", fn.integer("mul", self.count, self._totals), kept)
        start = fn.integer("mul", row, fn.integer("mul", rooms, self._room))
        base = fn.gep(writer.values.pointer(first), start)
        self.kept = {p: fn.gep(base, k * self._room) for k, p in enumerate(schedule.kept)}
        self._first = fn.gep(base, kept * self._room)

    def totals(self, chunk: str) -> list[str]:
        """The rooms of a chunk's totals."""
        start = self.fn.gep(self._first, self.fn.integer("mul", chunk, self._totals * self._room))
        return [self.fn.gep(start, k * self._room) for k in range(self._totals)]


def write_chunk(writer: Writer, sweep: int, item: str) -> None:
    """Work item `item` of the kernel that takes chunks."""
    fn, values, schedule = writer.fn, writer.values, writer.schedule
    first = writer.slots.chunks
    assert first is not None
    count = values.argument(first + 3)
    chunk = fn.integer("urem", item, count)
    row = fn.integer("udiv", item, count)
    scratch = _Scratch(writer, row)
    low = fn.integer("mul", chunk, scratch.size)
    high = fn.integer("add", low, scratch.size)
    extent = values.extent[schedule.swept[0]]
    part = low, fn.call("i64", "llvm.smin.i64", ("i64", high), ("i64", extent))
    rooms = scratch.totals(chunk)
    if schedule.panelled:
        begin, end = writer.enter_columns(row)
        PanelWriter(writer, rooms, scratch.kept).add(sweep, begin, end, part)
        return
    _enter_row(writer, sweep, row, scratch)
    if not schedule.sweeps[sweep].body:
        return
    own = SweepWriter(writer, schedule.sweeps[sweep])
    totals = own.loop(0, [r.identity(w, True) for r, w in own.reducers], part)
    room = iter(rooms)
    for (reducer, width), total in zip(own.reducers, totals, strict=True):
        folded = reducer.folded(total, width, 1, True)
        for type_, value in zip(reducer.types(1, True), folded, strict=True):
            fn.store(type_, value, next(room), 1)


def write_joint(writer: Writer, sweep: int, item: str) -> None:
    """Work item `item` of the kernel that joins chunks: a row."""
    fn, schedule = writer.fn, writer.schedule
    scratch = _Scratch(writer, item)
    if schedule.panelled:
        begin, end = writer.enter_columns(item)
        panel = PanelWriter(writer, scratch.totals("0"), scratch.kept)

        def joined(own: SweepWriter, lane: str) -> list[list[str]]:
            def held(chunk: str) -> list[list[str]]:
                rooms = PanelWriter(writer, scratch.totals(chunk), scratch.kept)
                return rooms.held(own, lane)

            return own.joined(scratch.count, held)

        panel.finish(sweep, begin, end, joined)
        return
    _enter_row(writer, sweep, item, scratch)
    own = SweepWriter(writer, schedule.sweeps[sweep])
    own.reducers = [(r, 1) for r, _ in own.reducers]

    def held(chunk: str) -> list[list[str]]:
        types = [t for r, _ in own.reducers for t in r.types(1, True)]
        rooms = scratch.totals(chunk)
        return own.unflat([fn.load(t, p, 1) for t, p in zip(types, rooms, strict=False)], True)

    own.finish(own.joined(scratch.count, held), writer.count())
    writer.at_depth(1, sweep + 1)
    for place in schedule.kept:
        if schedule.given(place) == sweep + 1:
            writer.values.save(place, scratch.kept[place])


def _enter_row(writer: Writer, sweep: int, row: str, scratch: _Scratch) -> None:
    """Move to a row, and name what earlier sweeps have found for it."""
    writer.decode(row)
    writer.at_depth(1, 0)
    for place in writer.schedule.kept:
        if writer.schedule.given(place) <= sweep:
            writer.values.reload(place, scratch.kept[place])
