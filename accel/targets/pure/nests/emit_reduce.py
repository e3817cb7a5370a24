"""Accumulators of reductions, written on lanes.

A reduction keeps one *state* in two forms. The **inner** state takes in elements, lane by
lane, within a block; at the end of a block it is folded to fewer lanes, widened and merged
into the **total**. Sums of floats so get the accuracy of nested sums: float32 within blocks of
2,048 elements, float64 across them. Everything happens in a fixed order, whatever part of the
rows a call computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ....ir import dtypes
from ....ir.dtypes import DType
from ..machine.llvm_text import Function, Lanes
from .lowering import greater, lesser
from .site import ELEMENTS, Site, cast

__all__ = ["Reducer", "addend", "make_reducer"]

State = list[str]


def make_reducer(fn: Function, op: str, source: DType, dtype: DType) -> Reducer:
    """The accumulator of reduction `op` over values of `source` with result `dtype`."""
    if dtype is dtypes.bool_ and op in ("sum", "prod"):
        op = "any" if op == "sum" else "all"
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
        return [self._lanes(d, width).type for d in self._dtypes(total)]

    def _dtypes(self, total: bool) -> tuple[DType, ...]:
        return self.total if total else self.inner

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
            lanes = [self._lanes(d, width) for d in self._dtypes(total)]
            pairs = list(zip(lanes, state, strict=True))
            low = [_lanes_of(n, v, range(half)) for n, v in pairs]
            high = [_lanes_of(n, v, range(half, width)) for n, v in pairs]
            state, width = self.merge(half, low, high, total), half
        return state

    def result(self, width: int, state: State, count: str) -> str:
        """The value of a total over `count` elements (an i64)."""
        del count
        return cast(Site(self.fn, width), state[0], self.total[0], self.dtype)


def addend(source: DType, dtype: DType) -> DType:
    """In what a sum of `source` with result `dtype` adds up the elements of a block. Small
    integers take few bits: a lane has at most 2,048 of them in a block."""
    if dtype.kind not in "iu" or dtype.itemsize < 8 or source.kind not in "biu":
        return dtype
    if source.kind == "b":
        return dtypes.uint16
    return (dtypes.int32 if source.kind == "i" else dtypes.uint32) if source.itemsize < 4 else dtype


class _Arithmetic(Reducer):
    """Sums, means and products. Float products are taken in float64, for their range."""

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        super().__init__(fn, op, source, dtype)
        if op == "sum":
            self.inner = (addend(source, dtype),)
        self.blocked = (dtype.kind == "f" or self.inner != self.total) and op != "prod"
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

    def folded(self, state: State, width: int, to: int, total: bool) -> State:
        if width == 1 or to > 1:
            return super().folded(state, width, to, total)
        lanes = self._lanes(dtypes.bool_, width)
        bits = self.fn.op(f"bitcast {lanes.type} {state[0]} to i{width}")
        test = "ne" if self.op == "any" else "eq"
        return [self.fn.op(f"icmp {test} i{width} {bits}, {0 if self.op == 'any' else -1}")]


class _Extremum(Reducer):
    """amax and amin; NaN wins. Within a block floats keep the extreme number and, apart from
    it, a NaN if there was one: an instruction or two each, where both in one take four."""

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        super().__init__(fn, op, source, dtype)
        if dtype.kind == "f":
            self.inner = (dtype, dtype)

    def identity(self, width: int, total: bool) -> State:
        lanes = self._lanes(self.dtype, width)
        state = [_worst(lanes, self.dtype, self.op), lanes.const(0)]
        return state[: len(self._dtypes(total))]

    def step(self, width: int, state: State, value: str, place: str, mask: str | None) -> State:
        lanes = self._lanes(self.dtype, width)
        value = self.prepared(Site(self.fn, width), value)
        if mask is not None:
            value = lanes.select(mask, value, self.identity(width, True)[0])
        return self.merge(width, state, [value] * len(state), False)

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        if len(a) == 1:
            pick = greater if self.op == "amax" else lesser
            return [pick(Site(self.fn, width), self.dtype, a[0], b[0])]
        lanes = self._lanes(self.dtype, width)
        beats = lanes.cmp(_beats(self.op), b[0], a[0])
        return [lanes.select(beats, b[0], a[0]), _nan(lanes, b[1], a[1])]

    def folded(self, state: State, width: int, to: int, total: bool) -> State:
        """Totals to one lane: the numbers, and all NaN at once."""
        if not total or self.dtype.kind != "f" or to > 1 or width == 1:
            return super().folded(state, width, to, total)
        lanes, fn = self._lanes(self.dtype, width), self.fn
        nans = lanes.cmp("uno", state[0], state[0])
        bits = fn.op(f"bitcast {lanes.mask_type} {nans} to i{width}")
        best = _halved(
            lanes, state[0], lambda n, a, b: n.select(n.cmp(_beats(self.op), b, a), b, a)
        )
        none = fn.op(f"icmp eq i{width} {bits}, 0")
        return [self._lanes(self.dtype, 1).select(none, best, float("nan"))]

    def widened(self, width: int, state: State, first: str) -> State:
        del first
        return state if len(state) == 1 else [_nan(self._lanes(self.dtype, width), *state[::-1])]


def _beats(op: str) -> str:
    """The predicate by which one float beats another; NaN does not."""
    return "ogt" if op in ("amax", "argmax") else "olt"


def _nan(lanes: Lanes, value: str, otherwise: str) -> str:
    """`value` where it is NaN."""
    return lanes.select(lanes.cmp("uno", value, value), value, otherwise)


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
    its start, in 32 bits, and floats keep the first NaN's place apart: so a step waits for one
    comparison only.
    """

    blocked = True
    placed = True

    def __init__(self, fn: Function, op: str, source: DType, dtype: DType) -> None:
        super().__init__(fn, op, source, dtype)
        held = dtypes.uint8 if source.kind == "b" else source
        # -1 is the greatest of the unsigned places, so that the least of two is the first.
        self.inner = (held, dtypes.uint32, dtypes.uint32)[: 3 if source.kind == "f" else 2]
        self.total = (held, dtypes.int64)

    def identity(self, width: int, total: bool) -> State:
        value = _worst(self._lanes(self.inner[0], width), self.inner[0], self.op)
        none = self._places(width, total).const(-1)
        return [value, none] if total else [value, *[none] * (len(self.inner) - 1)]

    def _places(self, width: int, total: bool) -> Lanes:
        return self._lanes((self.total if total else self.inner)[1], width)

    def step(self, width: int, state: State, value: str, place: str, mask: str | None) -> State:
        numbers, places = self._lanes(self.inner[0], width), self._places(width, False)
        value = self.prepared(Site(self.fn, width), value)
        if mask is not None:
            value = numbers.select(mask, value, self.identity(width, False)[0])
        # Places grow, so that of ties the one in the state comes first.
        better = self._better(numbers, value, state[0])
        found = [numbers.select(better, value, state[0]), places.select(better, place, state[1])]
        if numbers.is_float:
            nan = places.select(numbers.cmp("uno", value, value), place, -1)
            found.append(places.intrinsic("umin", state[2], nan))
        return found

    def folded(self, state: State, width: int, to: int, total: bool) -> State:
        """By the value first: then the least place among the lanes that hold it."""
        if total or width <= to:
            return super().folded(state, width, to, total)
        numbers, places = self._lanes(self.inner[0], width), self._places(width, False)
        best = _halved(numbers, state[0], lambda n, a, b: n.select(self._better(n, b, a), b, a))
        holds = numbers.cmp("oeq" if numbers.is_float else "eq", state[0], numbers.splat(best))
        held = places.select(holds, state[1], -1)
        return [best, *(
            _halved(places, p, lambda n, a, b: n.intrinsic("umin", a, b))
            for p in (held, *state[2:])
        )]  # fmt: skip

    def widened(self, width: int, state: State, first: str) -> State:
        numbers, places = self._lanes(self.inner[0], width), self._places(width, False)
        value, place = state[:2]
        if len(state) == 3:
            none = places.cmp("eq", state[2], -1)
            value = numbers.select(none, value, float("nan"))
            place = places.select(none, place, state[2])
        none, wide = places.cmp("eq", place, -1), self._places(width, True)
        moved = wide.add(wide.convert("zext", place, places), wide.splat(first))
        return [value, wide.select(none, -1, moved)]

    def merge(self, width: int, a: State, b: State, total: bool) -> State:
        assert total  # inner states are folded to one lane, or hold one element a lane
        numbers, places = self._lanes(self.total[0], width), self._places(width, True)
        better = self._better(numbers, b[0], a[0])
        if numbers.is_float:
            ordered = numbers.cmp("ord", a[0], a[0])
            nan = numbers.cmp("uno", b[0], b[0])
            better = numbers.mask_op("or", better, numbers.mask_op("and", nan, ordered))
        return [numbers.select(better, b[0], a[0]), places.select(better, b[1], a[1])]

    def _better(self, numbers: Lanes, value: str, held: str) -> str:
        """Where `value` beats the held one; NaN does not."""
        if numbers.is_float:
            return numbers.cmp(_beats(self.op), value, held)
        sign = "s" if self.inner[0].kind == "i" else "u"
        return numbers.cmp(sign + _beats(self.op)[1:], value, held)

    def result(self, width: int, state: State, count: str) -> str:
        del count
        places = self._lanes(dtypes.int64, width)
        place = places.select(places.cmp("slt", state[1], 0), 0, state[1])
        return cast(Site(self.fn, width), place, dtypes.int64, self.dtype)


def _halved(lanes: Lanes, value: str, join: Callable[[Lanes, str, str], str]) -> str:
    """All lanes joined to one, the lower half with the upper."""
    while lanes.width > 1:
        half = Lanes(lanes.fn, lanes.element, lanes.width // 2)
        low = _lanes_of(lanes, value, range(half.width))
        high = _lanes_of(lanes, value, range(half.width, lanes.width))
        lanes, value = half, join(half, low, high)
    return value


def _lanes_of(lanes: Lanes, value: str, chosen: Sequence[int]) -> str:
    """The chosen lanes of a vector; one alone is a scalar."""
    if len(chosen) == 1:
        return lanes.fn.op(f"extractelement {lanes.type} {value}, i64 {chosen[0]}")
    order = ", ".join(f"i32 {k}" for k in chosen)
    return lanes.fn.op(
        f"shufflevector {lanes.type} {value}, {lanes.type} poison, <{len(chosen)} x i32> <{order}>"
    )
