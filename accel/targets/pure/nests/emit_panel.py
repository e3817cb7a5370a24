"""Panels of columns: reductions of many registers of lanes, a few rows at a time.

Totals wait in memory while other lanes of the panel are at work, and so do the values of a
column that later sweeps need: on the stack, or where a reduction is cut into chunks (see
`emit_chunks`), in scratch memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ..machine.llvm_text import ELEMENT_BYTES
from .emit_sweep import SweepWriter, Writer
from .schedule import GROUP_LANES, GROUP_ROWS, PANEL, PANEL_ROWS
from .site import ELEMENTS

__all__ = ["PanelWriter"]

#: A place in memory for one value of every lane: its address, and the bytes of an element.
Room = tuple[str, int]
#: Gives the totals of a sweep at a lane.
Totals = Callable[[SweepWriter, str], "list[list[str]]"]


class PanelWriter:
    """The sweeps of one panel.

    Parameters
    ----------
    writer
        The kernel.
    totals
        Addresses of the rooms for the totals of a sweep.
    kept
        Address of the room of every value that later sweeps need.
    """

    def __init__(self, writer: Writer, totals: Sequence[str], kept: dict[int, str]) -> None:
        self.writer = writer
        self.fn = writer.fn
        self.values = writer.values
        self.schedule = writer.schedule
        self.totals = list(zip(totals, total_sizes(writer), strict=True))
        code = writer.nest.instructions
        self.kept = {place: (room, code[place].dtype.itemsize) for place, room in kept.items()}
        (self.dim,) = self.schedule.swept

    @classmethod
    def on_stack(cls, writer: Writer) -> PanelWriter:
        """A writer whose rooms are on the stack; to be made in the entry block."""

        def room(size: int) -> str:
            return writer.fn.op(f"alloca [{PANEL * size} x i8], align 64")

        code = writer.nest.instructions
        totals = [room(size) for size in total_sizes(writer)]
        return cls(writer, totals, {p: room(code[p].dtype.itemsize) for p in writer.schedule.kept})

    def write(self, begin: str, end: str) -> None:
        """The lanes from `begin` to `end`, in all rows."""
        fn, extent = self.fn, self.values.extent[self.dim]
        few, panel, done = (fn.label(stem) for stem in ("few", "panel", "added"))
        fn.cond_br(fn.icmp("sle", extent, PANEL_ROWS), few, panel)
        fn.block(few)
        self.writer.strips(begin, end, lambda at: self.writer.row())
        fn.br(done)
        fn.block(panel)
        for number in range(len(self.schedule.sweeps)):
            self.add(number, begin, end, ("0", extent))
            self.finish(number, begin, end)
        fn.br(done)
        fn.block(done)

    def add(self, number: int, begin: str, end: str, rows: tuple[str, str]) -> None:
        """Totals of the rows from `rows[0]` to `rows[1]` in a sweep, begun anew."""
        fn, sweep = self.fn, self.schedule.sweeps[number]

        def clear(at: str) -> None:
            writer = SweepWriter(self.writer, sweep)
            totals = [r.identity(w, True) for r, w in writer.reducers]
            self._hold(writer, totals, fn.integer("sub", at, begin))

        def add(at: str, low: str, stop: str | None = None) -> None:
            """The rows from `low` to `stop`, or a group of them, at a strip."""
            lane = fn.integer("sub", at, begin)
            writer = self._start(number, lane)
            totals = self.held(writer, lane)
            totals = (writer.row_group(self.dim, low, totals) if stop is None
                      else writer.rows(self.dim, low, stop, totals))  # fmt: skip
            self._hold(writer, totals, lane)

        def add_rows(low: str, first: str, last: str) -> None:
            """The rows from `low` on, in the lanes from `first` to `last`."""
            with fn.loop(low, rows[1], PANEL_ROWS) as chunk:
                stop = fn.integer("add", chunk.index, PANEL_ROWS)
                stop = fn.call("i64", "llvm.smin.i64", ("i64", stop), ("i64", rows[1]))
                self.writer.strips(first, last, lambda at: add(at, chunk.index, stop))

        if not sweep.body:
            return
        self.writer.strips(begin, end, clear)
        if not self.schedule.grouped:
            add_rows(rows[0], begin, end)
            return
        wide = fn.icmp("sge", fn.integer("sub", end, begin), GROUP_LANES)
        whole = self.writer.whole(begin, end, self.writer.width)
        with fn.when(wide):
            rest = fn.integer("srem", fn.integer("sub", rows[1], rows[0]), GROUP_ROWS)
            last = fn.integer("sub", rows[1], rest)
            with fn.loop(rows[0], last, GROUP_ROWS) as group:
                self.writer.whole_strips(begin, whole, lambda at: add(at, group.index))
            add_rows(last, begin, whole)
        add_rows(rows[0], fn.op(f"select i1 {wide}, i64 {whole}, i64 {begin}"), end)

    def finish(self, number: int, begin: str, end: str, totals: Totals | None = None) -> None:
        """The results of a sweep, and what is computed of them for each column; `totals` gives
        the totals at a lane of the panel where they are not in the rooms."""

        def finish(at: str) -> None:
            lane = self.fn.integer("sub", at, begin)
            writer = self._start(number, lane)
            writer.finish((totals or self.held)(writer, lane), self.values.extent[self.dim])
            self.writer.at_depth(1, number + 1)
            for place, room in self.kept.items():
                if self.schedule.given(place) == number + 1:
                    self.values.save(place, self._at(room, lane))

        self.writer.strips(begin, end, finish)

    def _start(self, number: int, lane: str) -> SweepWriter:
        """The writer of a sweep at a strip, with all values of its columns named."""
        self.writer.at_depth(1, 0)
        for place, room in self.kept.items():
            if self.schedule.given(place) <= number:
                self.values.reload(place, self._at(room, lane))
        return SweepWriter(self.writer, self.schedule.sweeps[number])

    def _at(self, room: Room, lane: str) -> str:
        return self.fn.gep(room[0], self.fn.integer("mul", lane, room[1]))

    # -- totals ---------------------------------------------------------------------------
    def _slots(self, writer: SweepWriter, lane: str) -> list[tuple[str, str, int]]:
        """(type, pointer, alignment) of the totals from a lane of the panel on."""
        own = [(t, ELEMENT_BYTES[ELEMENTS[d]]) for r, w in writer.reducers
               for t, d in zip(r.types(w, True), r.total, strict=True)]  # fmt: skip
        return [(t, self._at(room, lane), size)
                for (t, size), room in zip(own, self.totals, strict=False)]  # fmt: skip

    def _hold(self, writer: SweepWriter, totals: list[list[str]], lane: str) -> None:
        flat = [v for total in totals for v in total]
        for (type_, pointer, size), value in zip(self._slots(writer, lane), flat, strict=True):
            self.fn.store(type_, value, pointer, size)

    def held(self, writer: SweepWriter, lane: str) -> list[list[str]]:
        """The totals of a sweep at a strip."""
        slots = self._slots(writer, lane)
        return writer.unflat([self.fn.load(t, p, size) for t, p, size in slots], True)


def total_sizes(writer: Writer) -> list[int]:
    """Bytes of an element of every value of a sweep's totals; sweeps share their rooms."""
    writers = [SweepWriter(writer, sweep) for sweep in writer.schedule.sweeps]
    sizes = [[ELEMENT_BYTES[ELEMENTS[d]] for r, _ in w.reducers for d in r.total] for w in writers]
    return [max(same) for same in itertools.zip_longest(*sizes, fillvalue=1)]
