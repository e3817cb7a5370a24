"""From a loop nest to the LLVM IR of one kernel.

A kernel is ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``: `bases` is the call's table
of pointers, `args` the block that `pack_arguments` makes, ``[begin, end)`` the part of the
work items (`work_items`) to do: elements where the domain is one dimension without
reductions, else rows, or blocks of rows where operands are transposed, or blocks of lanes of
rows where the last dimension is kept beside a reduction. Results do not depend on how the
items are split. The status is 0, or one more than the node number of a `check_index` that
failed; the kernel has then used index 0 instead.

`schedule.py` decides what is computed where; this module writes it: the prologue (arguments,
values computed once), rows, sweeps with a wide main loop and a masked or scalar tail.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .arguments import SCRATCH_ALIGNMENT, Slots, pack_arguments
from .emit_reduce import Reducer, make_reducer
from .emit_values import Values
from .jit import Machine, host_machine
from .llvm_text import ELEMENT_BYTES, Function, module_text
from .nest import Nest, Pointwise, Reduce, ScatterAdd, Store
from .schedule import BLOCK, PANEL, PANEL_ROWS, TILE_ROWS, Schedule, Sweep
from .site import ELEMENTS

__all__ = [
    "KernelCode", "emit_nest", "item_multiple", "pack_arguments", "scratch_bytes", "splittable",
    "work_items", "work_of",
]  # fmt: skip

# What one op on one element, and one access, weigh against a multiply-add in a product.
_OP, _ACCESS = 4, 4


@dataclass(frozen=True)
class KernelCode:
    """The code of a nest.

    Attributes
    ----------
    name
        The exported function.
    text
        A complete LLVM module; equal for equal keys but for the name.
    slots
        The layout of the argument block.
    """

    name: str
    text: str
    slots: Slots


def emit_nest(nest: Nest, name: str, machine: Machine | None = None) -> KernelCode:
    """Write the kernel of a nest.

    Parameters
    ----------
    nest
        What to compute; every op must be `supported` by the lowerings.
    name
        The function's symbol.
    machine
        What to write for; the host unless given.
    """
    schedule = Schedule.of(nest)
    emitter = _Emitter(schedule, name, machine or host_machine())
    emitter.write()
    return KernelCode(name, module_text([emitter.fn]), emitter.slots)


def work_items(nest: Nest, machine: Machine | None = None) -> int:
    """How many work items a kernel of the nest has; 0 when there is nothing to store."""
    schedule = Schedule.of(nest)
    extents = schedule.nest.extents
    kept = [extents[d] for d in schedule.outer]
    last = extents[schedule.last]
    if schedule.by_elements:
        return last
    if schedule.kind == "column":
        kept.append(-(-last // schedule.column_lanes(machine or host_machine())))
    elif schedule.kind == "map" and last == 0:
        return 0
    if schedule.tiled is not None:
        kept.append(-(-extents[schedule.tiled] // TILE_ROWS))
    items = 1
    for extent in kept:
        items *= extent
    return items


def item_multiple(nest: Nest) -> int:
    """Of what number the items of a part should be a multiple, so that lanes are filled."""
    return 1024 if Schedule.of(nest).by_elements else 1


def splittable(nest: Nest) -> bool:
    """Whether calls may share the work items among them; a scatter needs one call."""
    return not any(isinstance(i, ScatterAdd) for i in nest.instructions)


def scratch_bytes(nest: Nest, machine: Machine | None = None, parts: int = 1) -> int:
    """Bytes of scratch memory, aligned to 8, that calls for `parts` parts of the items need;
    often 0. Each part has cache lines of its own."""
    schedule = Schedule.of(nest)
    swept = 1
    for d in schedule.swept:
        swept *= schedule.nest.extents[d]
    width = schedule.widths(machine or host_machine())[0] if schedule.kind == "column" else 1
    sizes = [schedule.nest.instructions[p].dtype.itemsize for p in schedule.stash]
    area = swept * width * sum(sizes)
    return area if parts == 1 else parts * (-(-area // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT)


def work_of(nest: Nest) -> int:
    """About how long the nest takes, in multiply-adds that take as long."""
    schedule = Schedule.of(nest)
    points = schedule.nest.points
    return points * (_OP * schedule.work + _ACCESS * len(schedule.nest.accesses))


class _Emitter:
    """Writes one kernel; see the module's documentation."""

    def __init__(self, schedule: Schedule, name: str, machine: Machine) -> None:
        self.schedule = schedule
        self.nest = schedule.nest
        self.machine = machine
        self.widths = schedule.widths(machine)
        self.width = self.widths[0]
        bits = machine.vector_bytes * 8
        attrs = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        parameters = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]
        self.fn = Function(name, parameters, "i64", attrs)
        self.slots = Slots(schedule)
        self.values = Values(self.fn, schedule, self.slots)

    def write(self) -> None:
        fn = self.fn
        status = fn.op("alloca i64, align 8")
        fn.store("i64", "0", status, 8)
        self.values.status = status
        self.values.place_tiles(self.width, self.machine.vector_bytes)
        if self.schedule.panelled:
            self._place_panel()
        with fn.when(fn.icmp("slt", "%begin", "%end")):
            self.values.prologue(self.widths)
            self._refuse_empty_sizes()
            self._at_depth(0, 0)
            self._items()
        if fn.streams:
            fn.do("fence seq_cst")
        fn.do(f"ret i64 {fn.load('i64', status, 8)}")

    def _refuse_empty_sizes(self) -> None:
        """Return where an index is checked against an extent of 0: not even 0 may be used."""
        fn, values = self.fn, self.values
        for place, i in enumerate(self.nest.instructions):
            if not (isinstance(i, Pointwise) and i.op == "check_index"):
                continue
            refuse, go_on = fn.label("refuse"), fn.label("accept")
            empty = fn.icmp("eq", values.argument(self.slots.extra[place]), 0)
            for dim in self.schedule.swept if self.schedule.depth[place] > 1 else ():
                reached = fn.icmp("ne", values.extent[dim], 0)
                empty = fn.op(f"and i1 {empty}, {reached}")
            fn.cond_br(empty, refuse, go_on)
            fn.block(refuse)
            fn.do(f"ret i64 {values.argument(self.slots.extra[place] + 1)}")
            fn.block(go_on)

    # -- rows -----------------------------------------------------------------------------
    def _items(self) -> None:
        """All work items of the call."""
        if self.schedule.by_elements:
            self._row()
            return
        with self.fn.loop("%begin", "%end") as loop, self.values.scope():
            if self.schedule.kind == "column":
                self._column_item(loop.index)
            elif self.schedule.tiled is not None:
                self._tiled_item(loop.index, self.schedule.tiled)
            else:
                self._decode(loop.index)
                self._row()

    def _decode(self, item: str) -> None:
        """Set the indices of the outer dimensions from the number of a row."""
        fn, outer = self.fn, self.schedule.outer
        for place in range(len(outer) - 1, -1, -1):
            index = item
            if place > 0:
                extent = self.values.extent[outer[place]]
                index = fn.integer("urem", item, extent)
                item = fn.integer("udiv", item, extent)
            self.values.enter(outer[place], index)

    def _column_item(self, item: str) -> None:
        """One block of lanes of the last dimension."""
        fn, values, last = self.fn, self.values, self.schedule.last
        extent, lanes = values.extent[last], self.schedule.column_lanes(self.machine)
        blocks = fn.integer("udiv", fn.integer("add", extent, lanes - 1), lanes)
        if self.schedule.outer:
            self._decode(fn.integer("udiv", item, blocks))
            item = fn.integer("urem", item, blocks)
        begin = fn.integer("mul", item, lanes)
        end = fn.integer("add", begin, lanes)
        end = fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", extent))
        if self.schedule.panelled:
            self._panel(begin, end)
        else:
            self._strips(begin, end, lambda at: self._row())

    def _strips(self, begin: str, end: str, write: Callable[[str], None]) -> None:
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

    # -- panels ---------------------------------------------------------------------------
    def _place_panel(self) -> None:
        """Room on the stack for the totals of a panel's sweep, and for what later ones need."""
        writers = [_SweepWriter(self, sweep) for sweep in self.schedule.sweeps]
        sizes = [
            [ELEMENT_BYTES[ELEMENTS[d]] for r, _ in w.reducers for d in r.total] for w in writers
        ]
        most = [max(same) for same in itertools.zip_longest(*sizes, fillvalue=1)]
        self.totals = [(self._room(size), size) for size in most]
        code = self.nest.instructions
        self.kept = {p: (self._room(code[p].dtype.itemsize), code[p].dtype.itemsize)
                     for p in self.schedule.kept}  # fmt: skip

    def _room(self, size: int) -> str:
        return self.fn.op(f"alloca [{PANEL * size} x i8], align 64")

    def _panel(self, begin: str, end: str) -> None:
        """The lanes from `begin` to `end`, a few rows at a time."""
        fn, (dim,) = self.fn, self.schedule.swept
        extent = self.values.extent[dim]
        few, panel, done = (fn.label(stem) for stem in ("few", "panel", "added"))
        fn.cond_br(fn.icmp("sle", extent, PANEL_ROWS), few, panel)
        fn.block(few)
        self._strips(begin, end, lambda at: self._row())
        fn.br(done)
        fn.block(panel)
        for number in range(len(self.schedule.sweeps)):
            self._panel_sweep(number, begin, end)
        fn.br(done)
        fn.block(done)

    def _panel_sweep(self, number: int, begin: str, end: str) -> None:
        """One sweep over the rows of a panel."""
        fn, sweep, (dim,) = self.fn, self.schedule.sweeps[number], self.schedule.swept
        extent = self.values.extent[dim]

        def start(at: str) -> _SweepWriter:
            self._at_depth(1, 0)
            self._recall(number, fn.integer("sub", at, begin))
            return _SweepWriter(self, sweep)

        def clear(at: str) -> None:
            writer = _SweepWriter(self, sweep)
            totals = [r.identity(w, True) for r, w in writer.reducers]
            self._hold(writer, totals, fn.integer("sub", at, begin))

        def add(at: str) -> None:
            writer = start(at)
            lane = fn.integer("sub", at, begin)
            totals = writer.rows(dim, chunk.index, stop, self._held(writer, lane))
            self._hold(writer, totals, lane)

        def finish(at: str) -> None:
            writer = start(at)
            lane = fn.integer("sub", at, begin)
            writer.finish(self._held(writer, lane), extent)
            self._at_depth(1, number + 1)
            self._keep(number + 1, lane)

        if sweep.body:
            self._strips(begin, end, clear)
            with fn.loop(0, extent, PANEL_ROWS) as chunk:
                stop = fn.integer("add", chunk.index, PANEL_ROWS)
                stop = fn.call("i64", "llvm.smin.i64", ("i64", stop), ("i64", extent))
                self._strips(begin, end, add)
        self._strips(begin, end, finish)

    def _keep(self, phase: int, lane: str) -> None:
        """Put on the stack what has been computed for `phase` and is needed behind it."""
        for place, (room, size) in self.kept.items():
            if self._given(place) == phase:
                at = self.fn.gep(room, self.fn.integer("mul", lane, size))
                self.values.save(place, at)

    def _recall(self, phase: int, lane: str) -> None:
        """Name the values that have been kept up to `phase`."""
        for place, (room, size) in self.kept.items():
            if self._given(place) <= phase:
                self.values.reload(place, self.fn.gep(room, self.fn.integer("mul", lane, size)))

    def _given(self, place: int) -> int:
        """The phase from which on a value can be used."""
        return self.schedule.phase[place] + isinstance(self.nest.instructions[place], Reduce)

    def _slots_of(self, writer: _SweepWriter, lane: str) -> list[tuple[str, str, int]]:
        """(type, pointer, alignment) of the totals from a lane of the panel on."""
        types = [(t, ELEMENT_BYTES[ELEMENTS[d]]) for r, w in writer.reducers
                 for t, d in zip(r.types(w, True), r.total, strict=True)]  # fmt: skip
        return [(t, self.fn.gep(room, self.fn.integer("mul", lane, size)), own)
                for (t, own), (room, size) in zip(types, self.totals, strict=False)]  # fmt: skip

    def _hold(self, writer: _SweepWriter, totals: list[list[str]], lane: str) -> None:
        slots = self._slots_of(writer, lane)
        for (type_, pointer, size), total in zip(slots, _flat(totals), strict=True):
            self.fn.store(type_, total, pointer, size)

    def _held(self, writer: _SweepWriter, lane: str) -> list[list[str]]:
        slots = self._slots_of(writer, lane)
        return writer.unflat([self.fn.load(t, p, size) for t, p, size in slots], True)

    # -- tiles ----------------------------------------------------------------------------
    def _tiled_item(self, item: str, dim: int) -> None:
        """A few rows along `dim`, in strips of lanes of the last dimension."""
        fn, values, last = self.fn, self.values, self.schedule.last
        extent = values.extent[dim]
        blocks = fn.integer("udiv", fn.integer("add", extent, TILE_ROWS - 1), TILE_ROWS)
        if self.schedule.outer:
            self._decode(fn.integer("udiv", item, blocks))
            item = fn.integer("urem", item, blocks)
        first = fn.integer("mul", item, TILE_ROWS)
        end = fn.integer("add", first, TILE_ROWS)
        rows = first, fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", extent))
        low, high = "0", values.extent[last]
        *strips, tail = self.widths
        for width in strips:
            whole = self.whole(low, high, width)
            self._tiles(dim, rows, (low, whole), width, masked=False)
            low = whole
        self._tiles(dim, rows, (low, high), tail, masked=tail > 1)

    def _tiles(
        self, dim: int, rows: tuple[str, str], columns: tuple[str, str], width: int, masked: bool
    ) -> None:
        """The rows from `rows[0]` to `rows[1]` of `dim`, for each strip of the columns."""
        fn, values = self.fn, self.values
        body = self.schedule.sweeps[0].body
        with fn.loop(*columns, width) as strip, values.scope():
            values.lanes(width, (strip.index, columns[1]) if masked else None)
            values.spread(body)
            values.enter(self.schedule.last, strip.index)
            room = fn.integer("sub", columns[1], strip.index)
            values.fill_tiles(rows, room)
            with fn.loop(*rows) as row, values.scope():
                values.enter(dim, row.index)
                values.number = fn.integer("sub", row.index, rows[0])
                self._at_depth(1, 0)
                self.write_all(body)

    def whole(self, begin: str, end: str, width: int) -> str:
        """The end of the whole groups of `width` from `begin` on."""
        length = self.fn.integer("sub", end, begin)
        return self.fn.integer("add", begin, self.fn.integer("and", length, -width))

    def _row(self) -> None:
        """The sweeps of a row, and what is computed between them."""
        self._at_depth(1, 0)
        for number, sweep in enumerate(self.schedule.sweeps):
            if sweep.body:
                self._sweep(sweep)
            self._at_depth(1, number + 1)

    def _at_depth(self, depth: int, phase: int) -> None:
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

    # -- sweeps ---------------------------------------------------------------------------
    def _sweep(self, sweep: Sweep) -> None:
        """One pass over the swept dimensions; leaves the reductions' results as values."""
        values = self.values
        writer = _SweepWriter(self, sweep)
        states = writer.loop(0, [r.identity(w, True) for r, w in writer.reducers])
        count = "1"
        for dim in self.schedule.swept:
            count = self.fn.integer("mul", count, values.extent[dim])
        writer.finish(states, count)


class _SweepWriter:
    """The loops of one sweep. Totals are carried through all loops, as one flat list."""

    def __init__(self, emitter: _Emitter, sweep: Sweep) -> None:
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
        self.ahead = False
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

    def loop(self, level: int, totals: list[list[str]]) -> list[list[str]]:
        """The loops from the `level`-th swept dimension on."""
        dim = self.schedule.swept[level]
        if level == len(self.schedule.swept) - 1:
            return self._innermost(dim, totals)
        with self.fn.loop(0, self.values.extent[dim], carried=self._carried(totals)) as loop:
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
        # Beside long work too few loads are under way to hide the memory's latency.
        self.ahead = any(self.schedule.heavy[p] for p in self.inner)
        with self.values.scope():
            self.values.spread(self.inner)
            return self._block(dim, low, high, 1, False, totals)

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

    def _innermost(self, dim: int, totals: list[list[str]]) -> list[list[str]]:
        schedule, emitter = self.schedule, self.emitter
        low, high = "0", self.values.extent[dim]
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
            if short or not (folds or any(r.blocked for r, _ in self.reducers)):
                return self._block(dim, low, high, step, masked, totals)
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
                states = self.unflat(loop.values, False)
                local = self.fn.integer("sub", loop.index, low)
                for k, ((reducer, _), w) in enumerate(zip(self.reducers, widths, strict=True)):
                    states[k] = self._step(self.places[k], reducer, w, states[k], local)
            loop.next = _flat(states)
        merged = []
        first = self._linear(dim, low)
        for (reducer, total), w, state, held in zip(
            self.reducers, widths, self.unflat(loop.values, False), totals, strict=True
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
                values.prefetch(self.inner)
            self.emitter.write_all(self.inner)
            for place in self.sweep.saves:
                values.save(place, values.stash(place))
            yield

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
