"""The sweeps of a kernel: loops over the dimensions that a row is swept over.

`Writer` is what all parts of a kernel are written with; `SweepWriter` writes one pass, whose
wide main loop and masked or scalar tail take elements into the reductions' states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from ..machine.jit import Machine
from ..machine.llvm_text import Function
from .arguments import Slots
from .emit_reduce import Reducer, make_reducer
from .emit_values import Values
from .nest import Load, Reduce, ScatterAdd, Store
from .schedule import BLOCK, GROUP_ROWS, Schedule, Sweep

__all__ = ["SweepWriter", "Writer"]


class Writer:
    """A kernel being written: the function, its arguments and values, and the plan.

    Attributes
    ----------
    schedule, nest
        What is written.
    machine
        For what.
    widths, width
        Lanes of the strips of the last dimension, and of the widest.
    fn, slots, values
        The function, its argument block, the values at the point of writing.
    """

    def __init__(self, schedule: Schedule, name: str, machine: Machine, chunked: bool) -> None:
        self.schedule = schedule
        self.nest = schedule.nest
        self.machine = machine
        self.widths = schedule.widths(machine)
        self.width = self.widths[0]
        bits = machine.vector_bytes * 8
        attrs = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        parameters = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]
        self.fn = Function(name, parameters, "i64", attrs, instructions=machine.instructions)
        self.fn.repeated = self.nest.repeated
        self.slots = Slots(schedule, chunked)
        self.values = Values(self.fn, schedule, self.slots, machine.vector_bytes)

    def at_depth(self, depth: int, phase: int) -> None:
        """Write what is computed outside the sweeps, at a depth and phase."""
        schedule = self.schedule
        self.write_all(
            p for p in range(len(self.nest.instructions))
            if schedule.depth[p] == depth and schedule.phase[p] == phase
        )  # fmt: skip

    def write_all(self, places: Iterable[int]) -> None:
        """Write instructions in order, stores last: an operand may be overwritten in place."""
        code = self.nest.instructions
        writes = (Store, ScatterAdd)
        for place in sorted(places, key=lambda p: (isinstance(code[p], writes), p)):
            self.values.write(place)

    def decode(self, item: str) -> None:
        """Set the indices of the outer dimensions from the number of a row."""
        fn, outer = self.fn, self.schedule.outer
        for place in range(len(outer) - 1, -1, -1):
            index = item
            if place > 0:
                extent = self.values.extent[outer[place]]
                index = fn.integer("urem", item, extent)
                item = fn.integer("udiv", item, extent)
            self.values.enter(outer[place], index)

    def enter_columns(self, item: str) -> tuple[str, str]:
        """Move to a block of lanes of the last dimension; returns where it begins and ends."""
        fn, values, last = self.fn, self.values, self.schedule.last
        extent, lanes = values.extent[last], self.schedule.column_lanes(self.machine)
        blocks = fn.integer("udiv", fn.integer("add", extent, lanes - 1), lanes)
        if self.schedule.outer:
            self.decode(fn.integer("udiv", item, blocks))
            item = fn.integer("urem", item, blocks)
        begin = fn.integer("mul", item, lanes)
        end = fn.integer("add", begin, lanes)
        return begin, fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", extent))

    def whole(self, begin: str, end: str, width: int) -> str:
        """The end of the whole groups of `width` from `begin` on."""
        length = self.fn.integer("sub", end, begin)
        return self.fn.integer("add", begin, self.fn.integer("and", length, -width))

    def strips(self, begin: str, end: str, write: Callable[[str], None]) -> None:
        """`write` at each strip of lanes of the last dimension; it gets the first lane's index."""
        fn, values = self.fn, self.values
        masks = self.machine.has_masks and self.width > 1
        for width in self.widths[:1] if masks else self.widths:
            whole = end if masks else self.whole(begin, end, width)
            with fn.loop(begin, whole, width) as strip, values.scope():
                values.lanes(width, (strip.index, end) if masks else None)
                values.enter(self.schedule.last, strip.index)
                write(strip.index)
            begin = whole

    def whole_strips(self, begin: str, end: str, write: Callable[[str], None]) -> None:
        """`write` at each strip of the widest lanes, which all lie inside: without masks, as the
        processor reads ahead of plain loads only."""
        with self.fn.loop(begin, end, self.width) as strip, self.values.scope():
            self.values.lanes(self.width, None)
            self.values.enter(self.schedule.last, strip.index)
            write(strip.index)

    def row(self) -> None:
        """The sweeps of a row, and what is computed between them."""
        self.at_depth(1, 0)
        for number, sweep in enumerate(self.schedule.sweeps):
            if sweep.body:
                self.sweep(sweep)
            self.at_depth(1, number + 1)

    def sweep(self, sweep: Sweep) -> None:
        """One pass over the swept dimensions; leaves the reductions' results as values."""
        writer = SweepWriter(self, sweep)
        states = writer.loop(0, [r.identity(w, True) for r, w in writer.reducers])
        writer.finish(states, self.count())

    def count(self) -> str:
        """How many points a row is swept over."""
        count = "1"
        for dim in self.schedule.swept:
            count = self.fn.integer("mul", count, self.values.extent[dim])
        return count


class SweepWriter:
    """The loops of one sweep. Totals are carried through all loops, as one flat list."""

    def __init__(self, emitter: Writer, sweep: Sweep) -> None:
        self.emitter = emitter
        self.fn = emitter.fn
        self.values = emitter.values
        self.schedule = emitter.schedule
        self.sweep = sweep
        code = emitter.nest.instructions
        self.places = [p for p in sweep.body if isinstance(code[p], Reduce)]
        self.reducers: list[tuple[Reducer, int]] = []
        for place in self.places:
            i = code[place]
            assert isinstance(i, Reduce)
            reducer = make_reducer(self.fn, i.op, code[i.input].dtype, i.dtype)
            self.reducers.append((reducer, self._total_width(place, reducer.placed)))
        self.inner = self._at(self.schedule.deepest)
        # Strips of lanes by which elements are asked for ahead of their use.
        self.ahead = int(bool(self.places) and self.schedule.kind == "row" and not self._again)
        self.numbered = bool(sweep.saves or sweep.reloads) or any(
            r.placed for r, _ in self.reducers
        )

    def _at(self, depth: int) -> list[int]:
        """The instructions of the sweep at a depth, but for reductions."""
        return [
            p for p in self.sweep.body
            if self.schedule.depth[p] == depth and p not in self.places
        ]  # fmt: skip

    def _total_width(self, place: int, placed: bool) -> int:
        """Lanes of a reduction's total: in a row those of the tail, or one register; of places
        one."""
        if self.schedule.kind == "row":
            if placed:
                return 1
            return min(self.emitter.width, self.schedule.native_lanes(self.emitter.machine))
        return self.values.width if self.schedule.is_vector(place) else 1

    def loop(
        self, level: int, totals: list[list[str]], part: tuple[str, str] | None = None
    ) -> list[list[str]]:
        """The loops from the `level`-th swept dimension on, over a part of that one."""
        dim = self.schedule.swept[level]
        low, high = part or ("0", self.values.extent[dim])
        if level == len(self.schedule.swept) - 1:
            return self._innermost(dim, low, high, totals)
        with self.fn.loop(low, high, carried=self._carried(totals)) as loop:
            with self.values.scope():
                self.values.enter(dim, loop.index)
                self.values.number = self._linear(dim, loop.index)
                self.emitter.write_all(self._at(2 + level))
                inside = self.loop(level + 1, self.unflat(loop.values, True))
            loop.next = _flat(inside)
        return self.unflat(loop.values, True)

    def finish(self, states: list[list[str]], count: str) -> None:
        """Name the results of totals over `count` elements."""
        for place, (reducer, width), state in zip(
            self.places, self.reducers, states, strict=True
        ):
            if self.schedule.kind == "row":
                state, width = reducer.folded(state, width, 1, True), 1
            self.values.define(place, width, reducer.result(width, state, count))

    def rows(self, dim: int, low: str, high: str, totals: list[list[str]]) -> list[list[str]]:
        """Some rows of a panel, added to `totals`."""
        self.ahead = 2  # a row's part of the panel is too short for the processor to foresee
        with self.values.scope():
            self.values.spread(self.inner)
            return self._block(dim, low, high, 1, False, totals)

    def row_group(self, dim: int, low: str, totals: list[list[str]]) -> list[list[str]]:
        """`GROUP_ROWS` rows of a panel from `low` on, added to `totals` without a loop."""
        with self.values.scope():
            self.values.spread(self.inner)
            widths = [w for _, w in self.reducers]
            states = [r.identity(w, False) for r, w in self.reducers]
            for number in range(GROUP_ROWS):
                with self._point(dim, self.fn.integer("add", low, number), None):
                    states = self._stepped(widths, states, str(number))
            return self._merged(dim, low, widths, states, totals)

    def joined(
        self, count: str, held: Callable[[str], list[list[str]]]
    ) -> list[list[str]]:
        """The totals that `held` gives for the numbers below `count`, merged in their order."""
        states = [r.identity(w, True) for r, w in self.reducers]
        with self.fn.loop(0, count, carried=self._carried(states)) as loop:
            states = self.unflat(loop.values, True)
            pairs = zip(self.reducers, states, held(loop.index), strict=True)
            loop.next = _flat([r.merge(w, a, b, True) for (r, w), a, b in pairs])
        return self.unflat(loop.values, True)

    def unflat(self, flat: list[str], total: bool) -> list[list[str]]:
        found, at = [], 0
        for reducer, _ in self.reducers:
            size = len(reducer.total if total else reducer.inner)
            found.append(flat[at : at + size])
            at += size
        return found

    def _linear(self, dim: int, index: str) -> str:
        """The linear number, among the points swept, of `index` of the next dimension."""
        if not self.numbered:
            return "0"
        before = self.fn.integer("mul", self.values.number, self.values.extent[dim])
        return self.fn.integer("add", before, index)

    def _innermost(
        self, dim: int, low: str, high: str, totals: list[list[str]]
    ) -> list[list[str]]:
        schedule, emitter = self.schedule, self.emitter
        if schedule.by_elements:
            low, high = "%begin", "%end"
        if schedule.kind == "column":
            return self._strip(dim, low, high, self.values.width, totals)
        *strips, tail = emitter.widths
        for width in strips:
            # Only the first strip can be longer than a block.
            whole = emitter.whole(low, high, width)
            short = width < emitter.width
            totals = self._strip(dim, low, whole, width, totals, short=short)
            low = whole
        return self._strip(dim, low, high, tail, totals, masked=tail > 1, short=bool(strips))

    def _strip(
        self, dim: int, low: str, high: str, width: int, totals: list[list[str]],
        masked: bool = False, short: bool = False,
    ) -> list[list[str]]:  # fmt: skip
        """A part of the innermost dimension in one width, block by block, added to `totals`."""
        fn, values = self.fn, self.values
        with values.scope():
            values.width = width
            values.spread(self.inner)
            step = 1 if self.schedule.kind == "column" else width
            # In a row without a whole block of lanes, no lanes need folding either.
            folds = self.schedule.kind == "row" and width > 1 and bool(self.reducers)
            if not (folds or any(r.blocked for r, _ in self.reducers)):
                return self._block(dim, low, high, step, masked, totals)
            if short:  # often there is nothing left
                carried = self._carried(totals)
                with fn.when(fn.icmp("slt", low, high), carried) as rest:
                    rest.next = _flat(self._block(dim, low, high, step, masked, totals))
                return self.unflat(rest.values, True)
            with fn.loop(low, high, BLOCK, carried=self._carried(totals)) as loop:
                end = fn.integer("add", loop.index, BLOCK)
                end = fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", high))
                held = self.unflat(loop.values, True)
                loop.next = _flat(self._block(dim, loop.index, end, step, masked, held))
            return self.unflat(loop.values, True)

    def _carried(self, totals: list[list[str]]) -> list[tuple[str, str]]:
        types = [t for r, w in self.reducers for t in r.types(w, True)]
        return list(zip(types, _flat(totals), strict=True))

    def _block(
        self, dim: int, low: str, high: str, step: int, masked: bool, totals: list[list[str]]
    ) -> list[list[str]]:
        """One loop over elements; inner states start anew and are merged into `totals`."""
        row = self.schedule.kind == "row"
        widths = [self.values.width if row else w for _, w in self.reducers]
        begin = [r.identity(w, False) for (r, _), w in zip(self.reducers, widths, strict=True)]
        types = [t for (r, _), w in zip(self.reducers, widths, strict=True)
                 for t in r.types(w, False)]  # fmt: skip
        carried = list(zip(types, _flat(begin), strict=True))
        with self.fn.loop(low, high, step, carried=carried) as loop:
            with self._point(dim, loop.index, high if masked else None):
                local = self.fn.integer("sub", loop.index, low)
                states = self._stepped(widths, self.unflat(loop.values, False), local)
            loop.next = _flat(states)
        return self._merged(dim, low, widths, self.unflat(loop.values, False), totals)

    def _stepped(
        self, widths: list[int], states: list[list[str]], local: str
    ) -> list[list[str]]:
        """The inner states, a point further; `local` is its number in the block."""
        steps = zip(self.places, self.reducers, widths, states, strict=True)
        return [self._step(place, r, w, state, local) for place, (r, _), w, state in steps]

    def _merged(
        self, dim: int, low: str, widths: list[int], states: list[list[str]],
        totals: list[list[str]],
    ) -> list[list[str]]:  # fmt: skip
        """The totals, with the inner states of a block that began at `low`."""
        merged = []
        first = self._linear(dim, low)
        for (reducer, total), w, state, held in zip(
            self.reducers, widths, states, totals, strict=True
        ):
            to = min(w, total)
            state = reducer.widened(to, reducer.folded(state, w, to, False), first)
            state = reducer.folded(state, to, total, True)
            merged.append(reducer.merge(total, held, state, True))
        return merged

    @contextlib.contextmanager
    def _point(self, dim: int, index: str, end: str | None) -> Iterator[None]:
        """The body of the innermost loop; reductions step inside."""
        values = self.values
        with values.scope():
            if end is not None:
                values.lanes(values.width, (index, end))
            values.enter(dim, index)
            values.number = self._linear(dim, index)
            for place in self.sweep.reloads:
                values.reload(place, values.stash(place))
            if self.ahead:
                values.prefetch_lanes(self.inner, self.ahead)
            if end is None and values.width > 1:
                self._prefetch_rows()
            self.emitter.write_all(self.inner)
            for place in self.sweep.saves:
                values.save(place, values.stash(place))
            yield

    @property
    def _again(self) -> bool:
        """Whether a row is swept over several times, and another follows."""
        schedule = self.schedule
        return schedule.kind == "row" and bool(schedule.outer) and len(schedule.sweeps) > 1

    def _prefetch_rows(self) -> None:
        """Ask for what later sweeps write, and in the last sweep but one for the next row: each
        sweep else waits for memory at its start, and memory for the others."""
        schedule = self.schedule
        if not self._again:
            return
        bodies = [sweep.body for sweep in schedule.sweeps]
        code, number = self.emitter.nest.instructions, schedule.sweeps.index(self.sweep)
        if number == 0:
            later = [(p, code[p]) for body in bodies[1:] for p in body]
            writes = [p for p, i in later if isinstance(i, Store) and not i.streamed]
            self.values.prefetch_rows(writes, following=False)
        if number == len(bodies) - 2:
            reads = {p for body in bodies for p in body if isinstance(code[p], Load)}
            self.values.prefetch_rows(reads, following=True)

    def _step(
        self, place: int, reducer: Reducer, width: int, state: list[str], local: str
    ) -> list[str]:
        """Take one point into an inner state; `local` is its number in the block."""
        i = self.emitter.nest.instructions[place]
        assert isinstance(i, Reduce)
        values = self.values
        value = values.get(i.input, width)
        along = self.schedule.kind == "row"
        numbers = values.lane_numbers(local, width, along) if reducer.placed else ""
        return reducer.step(width, state, value, numbers, values.mask if along else None)


def _flat(states: list[list[str]]) -> list[str]:
    return [v for state in states for v in state]
