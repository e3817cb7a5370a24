"""How a nest runs: what is computed where, in how many sweeps, in how many lanes.

The last dimension of the domain is spread over vector lanes. The dimensions that a row is
*swept* over are the reduced ones; without reductions, the last one. The rest are *outer*: they
are decoded from the number of the work item, a row. Three kinds of nest follow:

- ``map``: nothing is reduced; a row sweeps the last dimension. (With one dimension only there
  are no rows, and elements are the work items.) Where operands are consecutive along another
  dimension instead (a transpose), a work item is a few rows of that one, written strip by
  strip; such operands are transposed through small *tiles*.
- ``row``: the last dimension is reduced; lanes run along the sweep and are folded at its end.
- ``column``: the last dimension is kept; a work item is a block of lanes of it, each lane
  with an accumulator of its own. Where one dimension is reduced, the block is a *panel* of many
  registers: a few rows of it are added at a time, so that memory is read in long stretches, and
  what belongs to a column (totals, results) waits on the stack. Few rows in all need no panel.

Every value has a *depth*: 0, once a call; 1, once a row; 2 + k, in the k-th swept loop. And a
*phase*: the first sweep in which it can be computed, counted by the reductions it needs. A
sweep computes what its reductions and stores need; values of earlier sweeps are computed once
more when that is cheap or in panels, else they are *stashed* in scratch memory by the earlier
sweep.
"""

from __future__ import annotations

import dataclasses

from ....forking import cached_property
from ....ir.dataclass import dataclass
from .. import vecmath
from ..machine.jit import Machine
from .emit_reduce import addend
from .nest import (
    Access,
    Gather,
    Instruction,
    Iota,
    Nest,
    Pointwise,
    Reduce,
    ScatterAdd,
    Store,
    operands_of,
)

__all__ = ["GROUP_LANES", "GROUP_ROWS", "PANEL", "PANEL_ROWS", "TILE_ROWS", "Schedule", "Sweep",
           "normalised"]  # fmt: skip

#: Elements that a lane accumulator of floats takes in before it is added to a wider one.
BLOCK = 2048
#: Lanes of a panel, and the rows of it that are added at a time.
PANEL, PANEL_ROWS = 1024, 16
#: Rows of so many lanes are added a few at a time, without a loop, where little is done with each
#: element: more of them are then on their way from memory at once.
GROUP_LANES, GROUP_ROWS = 256, 8
_GROUP_WORK = 6
#: Values on the stack a panel at most: they share the first-level cache.
PANEL_VALUES = 8
#: Rows of a tile.
TILE_ROWS = 16
#: Above this much code kernels use one register a value, and one loop for sweep and tail.
LONG = 1200
#: From so many instructions on, elements that fill no strip of lanes go by way of the stack
#: through the code of all others: copying them takes fewer. About as many a function takes.
SHARED, _FUNCTION = 30, 15
#: From this much code on, elements wait for their operations one after the other, more than
#: operations for units to run on.
CHAIN = 64

_WEIGHTS = dict.fromkeys(vecmath.FUNCTIONS, 3) | {
    "pow": 10, "sin": 5, "cos": 5, "tan": 5, "fmod": 5, "remainder": 5, "floor_divide": 5,
}  # fmt: skip
_HEAVY = set(vecmath.FUNCTIONS) - vecmath.SHORT


@dataclass(frozen=True)
class Sweep:
    """One pass over the swept dimensions of a row.

    Attributes
    ----------
    body
        Places of the instructions computed, in order (stores and reductions included).
    reloads
        Places whose values an earlier sweep has stashed.
    saves
        Places whose values this sweep stashes.
    """

    body: tuple[int, ...]
    reloads: tuple[int, ...]
    saves: tuple[int, ...] = ()


def normalised(nest: Nest) -> Nest:
    """The nest with at least one dimension, and a reduced one if anything is reduced."""
    folds = any(isinstance(i, Reduce) for i in nest.instructions)
    extra = not nest.extents or (folds and not any(nest.reduced))
    if not extra:
        return nest
    accesses = tuple(
        Access(a.operand, a.dtype, (*a.strides, 0), a.offset) for a in nest.accesses
    )
    return dataclasses.replace(
        nest, extents=(*nest.extents, 1), reduced=(*nest.reduced, folds), accesses=accesses
    )


class Schedule:
    """The plan by which a nest is emitted; it depends on `Nest.key()` and the machine only.

    Attributes
    ----------
    nest
        The nest, normalised.
    kind
        ``map``, ``row`` or ``column``.
    outer, swept
        Dimensions decoded from the row number, and looped over within a row.
    tiled, tiles
        The dimension whose rows are tiled (or None), and the accesses that have tiles.
    dims, depth, phase
        For every instruction; see the module's documentation.
    sweeps
        The passes over a row, at least one.
    stash
        Places stashed by a sweep for later ones, widest elements first.
    """

    @classmethod
    def of(cls, nest: Nest) -> Schedule:
        """The schedule of a nest, made once."""
        schedule = nest.derived.get("schedule")
        if schedule is None:
            schedule = nest.derived["schedule"] = cls(nest)
        return schedule

    def __init__(self, nest: Nest) -> None:
        self.nest = nest = normalised(nest)
        self.last = last = len(nest.extents) - 1
        reduced = tuple(d for d, r in enumerate(nest.reduced) if r)
        self.kind = ("row" if nest.reduced[last] else "column") if reduced else "map"
        self.swept = reduced or (last,)
        self.tiled, self.tiles = nest.transposed()
        inside = (*self.swept, self.tiled)
        self.outer = tuple(d for d in range(last) if d not in inside)
        self.dims = self._dims()
        self.phase, self.depth = self._levels()
        self.heavy = self._heavy()
        self.sweeps, stash = self._sweeps()
        sizes = {place: nest.instructions[place].dtype.itemsize for place in stash}
        self.stash = tuple(sorted(stash, key=lambda place: (-sizes[place], place)))

    @property
    def by_elements(self) -> bool:
        """Whether the work items are elements of the only dimension."""
        return self.kind == "map" and not self.outer and self.tiled is None

    @cached_property
    def by_strips(self) -> bool:
        """Whether much is done with consecutive elements, and single ones, and no others."""
        code = self.nest.instructions
        elsewhere = any(
            isinstance(i, (Gather, ScatterAdd))
            or (isinstance(i, Pointwise) and i.op == "check_index")
            for i in code
        )
        classes = {a.lane_class for a in self.nest.accesses}
        plain = self.by_elements and not elsewhere and classes <= {"0", "1"}
        return plain and SHARED <= sum(
            _FUNCTION if _weight(i) > 1 else 1
            for p, i in enumerate(code) if self.depth[p] > 1 and self.is_vector(p)
        )

    @property
    def deepest(self) -> int:
        return 1 + len(self.swept)

    @cached_property
    def panelled(self) -> bool:
        """Whether work items are panels: see the module's documentation."""
        if self.kind != "column" or len(self.swept) > 1 or self.serial:
            return False
        totals = sum(isinstance(i, Reduce) for i in self.nest.instructions)
        return totals + len(self.kept) <= PANEL_VALUES

    @property
    def grouped(self) -> bool:
        """Whether rows of a panel are added a few at a time."""
        return self.narrow and self.work <= _GROUP_WORK

    @property
    def totals(self) -> int:
        """Values of a sweep's totals at most: those of places have two."""
        code = self.nest.instructions
        found = [[code[p] for p in sweep.body] for sweep in self.sweeps]
        return max(sum(2 if "arg" in i.op else 1 for i in own if isinstance(i, Reduce))
                   for own in found)  # fmt: skip

    def given(self, place: int) -> int:
        """The phase from which on a value can be used."""
        return self.phase[place] + isinstance(self.nest.instructions[place], Reduce)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The values of a row that sweeps behind the one that gives them need."""
        code = self.nest.instructions
        found = set()
        for user, i in enumerate(code):
            for place in operands_of(i):
                given = self.given(place)
                late = self.depth[user] > 1 or self.phase[user] > given
                if given > 0 and late and not self.in_sweep(place):
                    found.add(place)
        return tuple(sorted(found))

    def column_lanes(self, machine: Machine) -> int:
        """Lanes of a work item of kind ``column``."""
        return PANEL if self.panelled else self.widths(machine)[0]

    def _dims(self) -> tuple[frozenset[int], ...]:
        """The dimensions along which every instruction has to run."""
        nest = self.nest
        found = list(nest.varies())
        for place, i in enumerate(nest.instructions):
            if isinstance(i, Store):
                strides = nest.accesses[i.access].strides
                found[place] |= {d for d, s in enumerate(strides) if s != 0}
            elif isinstance(i, ScatterAdd):
                found[place] = frozenset(range(len(nest.extents)))
        return tuple(found)

    def _levels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(phase, depth) of every instruction; a reduction's are those of its sweep."""
        phases: list[int] = []
        depths: list[int] = []
        ready: list[int] = []  # the phase from which on a value can be used
        for i, dims in zip(self.nest.instructions, self.dims, strict=True):
            phase = max((ready[o] for o in operands_of(i)), default=0)
            loops = [k for k, d in enumerate(self.swept) if d in dims]
            if isinstance(i, Reduce):
                depth = self.deepest
            elif loops:
                depth = 2 + loops[-1]
            else:
                depth = 1 if dims or phase or isinstance(i, Store) else 0
            phases.append(phase)
            depths.append(depth)
            ready.append(phase + isinstance(i, Reduce))
        return tuple(phases), tuple(depths)

    def _heavy(self) -> tuple[bool, ...]:
        """Whether computing a swept value once more costs more than storing and loading it."""
        heavy: list[bool] = []
        for place, i in enumerate(self.nest.instructions):
            own = isinstance(i, Pointwise) and i.op in _HEAVY and i.dtype.kind in "iuf"
            below = any(heavy[o] and self.in_sweep(o) for o in operands_of(i))
            heavy.append(self.in_sweep(place) and (own or below))
        return tuple(heavy)

    def in_sweep(self, place: int) -> bool:
        """Whether the value of an instruction exists inside a sweep only."""
        return self.depth[place] > 1 and not isinstance(self.nest.instructions[place], Reduce)

    def _sweeps(self) -> tuple[tuple[Sweep, ...], set[int]]:
        code = self.nest.instructions
        roots = [
            p for p, i in enumerate(code)
            if isinstance(i, Reduce)
            or (isinstance(i, (Store, ScatterAdd)) and self.depth[p] > 1)
        ]  # fmt: skip
        last = max((self.phase[p] for p in roots), default=0)
        bodies: list[set[int]] = []
        reloads: list[set[int]] = []
        for phase in range(last + 1):
            body, reload = self._demanded([p for p in roots if self.phase[p] == phase], bodies)
            bodies.append(body)
            reloads.append(reload)
        stash = set().union(*reloads)
        sweeps: list[Sweep] = []
        for body, reload in zip(bodies, reloads, strict=True):
            earlier = set().union(*bodies[: len(sweeps)])
            saves = (stash & body) - earlier
            sweeps.append(Sweep(tuple(sorted(body)), tuple(sorted(reload)), tuple(sorted(saves))))
        return tuple(sweeps), stash

    def _demanded(
        self, roots: list[int], earlier: list[set[int]]
    ) -> tuple[set[int], set[int]]:
        """(places to compute, places to reload) in the sweep that runs `roots`."""
        body: set[int] = set()
        reload: set[int] = set()
        waiting = list(roots)
        while waiting:
            place = waiting.pop()
            if place in body or place in reload:
                continue
            known = any(place in b for b in earlier)
            vector = self.last in self.dims[place] and self.depth[place] == self.deepest
            if known and self.heavy[place] and vector and not self.panelled:
                reload.add(place)
                continue
            body.add(place)
            operands = operands_of(self.nest.instructions[place])
            waiting.extend(o for o in operands if self.in_sweep(o))
        return body, reload

    # -- lanes ----------------------------------------------------------------------------
    @cached_property
    def serial(self) -> bool:
        """Whether lanes could collide: a scatter whose places vary along the last dimension."""
        nest = self.nest
        for i in nest.instructions:
            if isinstance(i, ScatterAdd):
                moving = any(self.last in self.dims[k] for k in i.indices)
                if moving or nest.accesses[i.access].lane_class != "1":
                    return True
        return False

    @cached_property
    def work(self) -> int:
        """About how much code the innermost loops hold."""
        return sum(_weight(i) for p, i in enumerate(self.nest.instructions)
                   if self.depth[p] > 1 and self.is_vector(p))  # fmt: skip

    @cached_property
    def narrow(self) -> bool:
        """Whether there is no vector math, and at most one value in lanes waits beside those
        that the next operation takes."""
        last = {o: p for p, i in enumerate(self.nest.instructions) for o in operands_of(i)}
        alive: set[int] = set()
        for place, i in enumerate(self.nest.instructions):
            alive = {p for p in alive if last[p] > place}
            if _weight(i) > 1 or len(alive) > 1:
                return False
            if place in last and self.is_vector(place):
                alive.add(place)
        return True

    def is_vector(self, place: int) -> bool:
        """Whether the value has one element a lane."""
        return self.last in self.dims[place]

    def native_lanes(self, machine: Machine) -> int:
        """Lanes that fill one register with the widest elements of the nest."""
        widest = max((self._lane_bytes(i) for p, i in enumerate(self.nest.instructions)
                      if self.is_vector(p) or isinstance(i, Reduce)), default=8)  # fmt: skip
        return machine.lanes(widest)

    def _lane_bytes(self, i: Instruction) -> int:
        if isinstance(i, Reduce):
            if "arg" in i.op:
                return 4
            if i.op == "sum":
                return addend(self.nest.instructions[i.input].dtype, i.dtype).itemsize
        return 8 if isinstance(i, (Iota, Gather)) else i.dtype.itemsize

    def widths(self, machine: Machine) -> tuple[int, ...]:
        """Lanes of the strips into which the last dimension is cut, falling: as many whole
        groups of the first as there are, then of the next. With masks the last strip is one
        of native registers whose lanes may lie outside; else it takes elements one by one.
        Consecutive elements have strips of one length only (`emit_strips`).

        Four registers a value interleave independent work, which triples the speed of chains
        of vector math. Very long kernels take fewer, for the sake of compile time. Where few
        values live at a time, a chain of plain operations, each of which waits for the last,
        takes twice as many. Where the data are one long row, a long kernel is one loop with
        masks: it waits as long for a few lanes as for all.
        """
        if self.serial:
            return (1,)
        native = self.native_lanes(machine)
        registers = 4 if self.work <= 400 else 2 if self.work <= LONG else 1
        whole = machine.has_masks and self.by_elements and self.work > CHAIN
        if whole and self.narrow:
            registers *= 2
        if not machine.has_fma:  # vector math calls a function for every lane
            registers = max(1, registers // 2)
        wide = min(64 if self.kind == "column" else 256, native * registers)
        if whole or self.by_strips:
            return (wide,)
        if machine.has_masks:
            return (native,) if self.work > LONG else (wide, native)
        return tuple(sorted({wide, native, 1}, reverse=True))


def _weight(i: Instruction) -> int:
    """About how much code an instruction makes."""
    return _WEIGHTS.get(i.op, 1) if isinstance(i, Pointwise) else 1
