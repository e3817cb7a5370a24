"""Accumulators of reductions, written on lanes.

A reduction keeps one *state* in two forms. The **inner** state takes in elements, lane by
lane, within a block; at the end of a block it is folded to fewer lanes, widened and merged
into the **total**. Sums of floats so get the accuracy of nested sums: float32 within blocks of
2,048 elements, float64 across them. Everything happens in a fixed order, whatever part of the
rows a call computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...ir import dtypes
from ...ir.dtypes import DType
from .llvm_text import Function, Lanes
from .lowering import greater, lesser
from .site import ELEMENTS, Site, cast

__all__ = ["Reducer", "make_reducer"]

State = list[str]


def make_reducer(fn: Function, op: str, source: DType, dtype: DType) -> Reducer:
    """The accumulator of reduction `op` over values of `source` with result `dtype`."""
    if op in ("sum", "mean", "prod"):
        return _Arithmetic(fn, op, source, dtype)
    if op in ("any", "all"):
        return _Logical(fn, op, source, dtypes.bool_)
    if op in ("argmax", "argmin"):
        return _Place(fn, op, source, dtype)
    return _Extremum(fn, op, source, dtype)


class Reducer(ABC):
    """What reductions share: folding of lanes by a fixed tree, and defaults.

    Attributes
    ----------
    inner, total
        The dtypes of the state's values, in a block and across blocks.
    blocked
        Whether blocks must be of bounded length.
    placed
        Whether the numbers of the elements matter.
    """

    inner: tuple[DType, ...]
    total: tuple[DType, ...]
    blocked = False
    placed = False

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        self.fn = fn
        self.op = op
        self.source = source
        self.dtype = dtype
        self.inner = self.total = (dtype,)

    def types(self, width: int, total: bool) -> list[str]:
        """The LLVM types of a state."""
        return [self._lanes(d, width).type for d in (self.total if total else self.inner)]

    def _lanes(self, dtype: DType, width: int) -> Lanes:
        return Lanes(self.fn, ELEMENTS[dtype], width)

    @abstractmethod
    def identity(self, width: int, total: bool) -> State:
        """The state of no elements."""
    def step(self, width: int, state: State, value: str, place: str, mask: str | None) -> State:
        """The inner state with `value` (of the source dtype) taken in where `mask` holds;
        `place` are the elements' numbers in the block (int32 lanes)."""
        del place
        site = Site(self.fn, width)
        value = self.prepared(site, value)
        if mask is not None:
            value = self._lanes(self.inner[0], width).select(
                mask, value, self.identity(width, False)[0]
            )
        return self.merge(width, state, [value], False)

    def prepared(self, site: Site, value: str) -> str:
        """An element as the inner state holds it."""
        return cast(site, value, self.source, self.inner[0])

    @abstractmethod
    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        """Both states as one, `a` holding the earlier elements where that matters."""
    def widened(self, width: int, state: State, first: str) -> State:
        """An inner state as a total; `first` is the number of the block's first element."""
        del first
        pairs = zip(state, self.inner, self.total, strict=True)
        return [cast(Site(self.fn, width), v, a, b) for v, a, b in pairs]

    def folded(self, state: State, width: int, to: int, total: bool) -> State:
        """The state of `width` lanes in `to` lanes; spare lanes hold the identity."""
        if width < to:
            held = zip(self.identity(to, total), self.types(to, total), self.types(1, total),
                       state, strict=True)  # fmt: skip
            return [self.fn.op(f"insertelement {t} {i}, {e} {v}, i64 0") for i, t, e, v in held]
        while width > to:
            half = width // 2
            low = self._part(state, width, range(half), total)
            high = self._part(state, width, range(half, width), total)
            state, width = self.merge(half, low, high, total), half
        return state

    def _part(self, state: State, width: int, lanes: Sequence[int], total: bool) -> State:
        types = self.types(width, total)
        if len(lanes) == 1:
            return [self.fn.op(f"extractelement {t} {v}, i64 {lanes[0]}")
                    for t, v in zip(types, state, strict=True)]  # fmt: skip
        order = ", ".join(f"i32 {k}" for k in lanes)
        return [self.fn.op(f"shufflevector {t} {v}, {t} poison, <{len(lanes)} x i32> <{order}>")
                for t, v in zip(types, state, strict=True)]  # fmt: skip

    def result(self, width: int, state: State, count: str) -> str:
        """The value of a total over `count` elements (an i64)."""
        del count
        return cast(Site(self.fn, width), state[0], self.total[0], self.dtype)


class _Arithmetic(Reducer):
    """Sums, means and products. Float products are taken in float64, for their range."""

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        super().__init__(fn, op, source, dtype)
        self.blocked = dtype.kind == "f" and op != "prod"
        if dtype is dtypes.float32:
            self.total = (dtypes.float64,)
            self.inner = self.total if op == "prod" else self.inner

    def identity(self, width: int, total: bool) -> State:
        lanes = self._lanes((self.total if total else self.inner)[0], width)
        return [lanes.const(1 if self.op == "prod" else 0)]

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        lanes = self._lanes((self.total if total else self.inner)[0], width)
        return [lanes.mul(a[0], b[0]) if self.op == "prod" else lanes.add(a[0], b[0])]

    def result(self, width: int, state: State, count: str) -> str:
        lanes = self._lanes(self.total[0], width)
        if self.op == "mean":
            number = self.fn.op(f"sitofp i64 {count} to {lanes.element}")
            state = [lanes.div(state[0], lanes.splat(number))]
        return super().result(width, state, count)


class _Logical(Reducer):
    """any and all: of numbers, whether they are not zero."""

    def identity(self, width: int, total: bool) -> State:
        return [self._lanes(dtypes.bool_, width).const(self.op == "all")]

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        lanes = self._lanes(dtypes.bool_, width)
        return [lanes.mask_op("or" if self.op == "any" else "and", a[0], b[0])]


class _Extremum(Reducer):
    """amax and amin; NaN wins."""

    def identity(self, width: int, total: bool) -> State:
        return [_worst(self._lanes(self.dtype, width), self.dtype, self.op)]

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        site = Site(self.fn, width)
        pick = greater if self.op == "amax" else lesser
        return [pick(site, self.dtype, a[0], b[0])]


def _worst(lanes: Lanes, dtype: DType, op: str) -> str:
    """The number that no other number loses to."""
    low = op in ("amax", "argmax")
    if dtype.kind == "f":
        return lanes.const(float("-inf") if low else float("inf"))
    if dtype.kind in "bu":
        return lanes.const(0 if low else (1 << lanes.bits) - 1)
    return lanes.const(-(1 << (lanes.bits - 1)) if low else (1 << (lanes.bits - 1)) - 1)


class _Place(Reducer):
    """argmax and argmin: the first place of the extremum; the first NaN wins over all.

    The state is (value, place). Place -1 says that nothing has beaten the worst number there
    is; if nothing does, the first element holds it. Within a block the place is counted from
    its start, in 32 bits.
    """

    blocked = True
    placed = True

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        super().__init__(fn, op, source, dtype)
        held = dtypes.uint8 if source.kind == "b" else source
        self.inner = (held, dtypes.int32)
        self.total = (held, dtypes.int64)

    def identity(self, width: int, total: bool) -> State:
        value = _worst(self._lanes(self.inner[0], width), self.inner[0], self.op)
        return [value, self._places(width, total).const(-1)]

    def _places(self, width: int, total: bool) -> Lanes:
        return self._lanes((self.total if total else self.inner)[1], width)

    def widened(self, width: int, state: State, first: str) -> State:
        value, place = super().widened(width, state, first)
        places = self._places(width, True)
        moved = places.add(place, places.splat(first))
        return [value, places.select(places.cmp("slt", place, 0), -1, moved)]

    def step(self, width: int, state: State, value: str, place: str, mask: str | None) -> State:
        value = self.prepared(Site(self.fn, width), value)
        numbers, places = self._lanes(self.inner[0], width), self._places(width, False)
        # Places grow, so that of ties the one in the state comes first.
        better = self._better(width, state[0], value)
        if mask is not None:
            better = numbers.mask_op("and", better, mask)
        return [numbers.select(better, value, state[0]), places.select(better, place, state[1])]

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        numbers, places = self._lanes(self.inner[0], width), self._places(width, total)
        tie = numbers.cmp("oeq" if numbers.is_float else "eq", a[0], b[0])
        if numbers.is_float:
            nans = (numbers.cmp("uno", v[0], v[0]) for v in (a, b))
            tie = numbers.mask_op("or", tie, numbers.mask_op("and", *nans))
        before = numbers.mask_op("and", tie, places.cmp("slt", b[1], a[1]))
        better = numbers.mask_op("or", self._better(width, a[0], b[0]), before)
        return [numbers.select(better, b[0], a[0]), places.select(better, b[1], a[1])]

    def _better(self, width: int, held: str, value: str) -> str:
        """Where `value` beats the held one whatever their order."""
        lanes, dtype = self._lanes(self.inner[0], width), self.inner[0]
        stem = "gt" if self.op == "argmax" else "lt"
        if dtype.kind != "f":
            return lanes.cmp(("s" if dtype.kind == "i" else "u") + stem, value, held)
        beats = lanes.cmp("u" + stem, value, held)  # or either is NaN
        return lanes.mask_op("and", beats, lanes.cmp("ord", held, held))

    def result(self, width: int, state: State, count: str) -> str:
        del count
        places = self._lanes(dtypes.int64, width)
        place = places.select(places.cmp("slt", state[1], 0), 0, state[1])
        return cast(Site(self.fn, width), place, dtypes.int64, self.dtype)
