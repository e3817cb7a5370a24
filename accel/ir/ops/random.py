"""Random numbers: Philox4x32-10, the same on every target.

The state is an int64 pair (seed, offset). One draw uses one offset; element i of it is one
block of four 32-bit words w0..w3 = philox(counter, key) with

    counter = (low word of i, high word of i, low word of offset, high word of offset)
    key     = (low word of seed, high word of seed)

Recipes, where i is the place in row-major order:

- bits: w0
- uniform in [0, 1): float32 (w0 >> 8) 2^-24; float64 ((w0 >> 5) 2^26 + (w1 >> 6)) 2^-53;
  float16 (w0 >> 21) 2^-11; bfloat16 (w0 >> 24) 2^-8: all exact
- normal: sqrt(-2 log u) cos(2 pi v). In float32, u = ((w0 >> 8) + 1) 2^-24 and
  v = (w1 >> 8) 2^-24 (float16 and bfloat16 round that); in float64, u = 1 - uniform(w0, w1)
  and v = uniform(w2, w3)
- integers in [low, high): low + floor(((w1 2^32 + w0) (high - low)) / 2^64)

The expansions write this in int64, whose products wrap: a word is an int64 in [0, 2^32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..dtypes import DType
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .movement import as_shape
from .reduce import Prepare

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["philox"]

F16, BF16, F32, F64, I32, I64 = (
    dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64,
)  # fmt: skip

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, by which the key grows
ROUNDS = 10
LOW = 0xFFFFFFFF
_BLOCK = 1 << 12  # numbers whose words lie in the nearest cache
FRACTION_BITS = {"float16": 11, "bfloat16": 8, "float32": 24}
SOURCE = (
    "J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as "
    "1, 2, 3. SC 2011"
)

Words = tuple[Any, Any, Any, Any]


# -- the generator, in NumPy ----------------------------------------------------------------
def philox(counter: Sequence[np.ndarray | int], key: Sequence[int]) -> Words:
    """Philox4x32-10 of four counter words and two key words, as uint64 arrays below 2**32.

    Examples
    --------
    >>> [f"{int(w):08x}" for w in philox((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = (int(k) for k in key)
    low, half = np.uint64(LOW), np.uint64(32)
    for _ in range(ROUNDS):
        p0 = c0 * np.uint64(MULTIPLIERS[0])
        p1 = c2 * np.uint64(MULTIPLIERS[1])
        c0, c2 = (p1 >> half) ^ c1 ^ np.uint64(k0), (p0 >> half) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & low, p0 & low
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def _words(state: np.ndarray, shape: Shape) -> Words:
    return _words_at(state, np.arange(math.prod(shape), dtype=np.uint64).reshape(shape))


def _words_at(state: np.ndarray, place: np.ndarray) -> Words:
    seed, offset = (int(v) % 2**64 for v in state)
    counter = (place & np.uint64(LOW), place >> np.uint64(32), offset & LOW, offset >> 32)
    return philox(counter, (seed & LOW, seed >> 32))


def _uniform_from(high: np.ndarray, low: np.ndarray, dtype: DType) -> np.ndarray:
    """The uniform recipe, exact in float64."""
    if dtype is F64:
        whole = (high >> np.uint64(5)) * np.uint64(2**26) + (low >> np.uint64(6))
        return whole * 2.0**-53
    bits = FRACTION_BITS[dtype.name]
    return (high >> np.uint64(32 - bits)) * 2.0**-bits


def _uniform_reference(state: np.ndarray, *, shape: Shape, dtype: DType) -> np.ndarray:
    """In blocks that lie near: the words of all places take twenty times the memory."""
    drawn = np.empty(math.prod(shape), dtype.numpy)
    for begin in range(0, drawn.size, _BLOCK):
        part = drawn[begin : begin + _BLOCK]
        high, low, *_ = _words_at(state, np.arange(begin, begin + part.size, dtype=np.uint64))
        part[:] = _uniform_from(high, low, dtype)
    return drawn.reshape(shape)


# -- the generator, as a graph --------------------------------------------------------------
def _philox_nodes(b: Builder, counter: Sequence[Node], key: Sequence[Node]) -> Sequence[Node]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = b.mul(c0, MULTIPLIERS[0]), b.mul(c2, MULTIPLIERS[1])
        c0 = b.bitwise_xor(b.bitwise_xor(_high(b, p1), c1), k0)
        c2 = b.bitwise_xor(b.bitwise_xor(_high(b, p0), c3), k1)
        c1, c3 = _low(b, p1), _low(b, p0)
        k0, k1 = _low(b, b.add(k0, WEYL[0])), _low(b, b.add(k1, WEYL[1]))
    return c0, c1, c2, c3


def _low(b: Builder, x: Node) -> Node:
    return b.bitwise_and(x, LOW)


def _high(b: Builder, x: Node) -> Node:
    """The upper word: int64 shifts copy the sign, which the mask removes."""
    return b.bitwise_and(b.bitwise_right_shift(x, 32), LOW)


def _words_nodes(b: Builder, state: Node, shape: Shape) -> Sequence[Node]:
    """The four words for each element, flat."""
    place = b.iota(shape=(math.prod(shape),), axis=0, dtype=I64)
    seed, offset = (
        b.reshape(b.slice(state, start=(i,), stop=(i + 1,), step=(1,)), shape=()) for i in (0, 1)
    )
    counter = (_low(b, place), _high(b, place), _low(b, offset), _high(b, offset))
    return _philox_nodes(b, counter, (_low(b, seed), _high(b, seed)))


def _uniform_nodes(b: Builder, high: Node, low: Node, dtype: DType) -> Node:
    if dtype is F64:
        upper = b.mul(b.bitwise_right_shift(high, 5), 2**26)
        whole = b.cast(b.add(upper, b.bitwise_right_shift(low, 6)), F64)
        return b.mul(whole, 2.0**-53)
    bits = FRACTION_BITS[dtype.name]
    return b.mul(b.cast(b.bitwise_right_shift(high, 32 - bits), dtype), 2.0**-bits)


# -- declarations ---------------------------------------------------------------------------
def _check_state(name: str, state: TensorType) -> None:
    if state.dtype is not I64:
        raise DTypeError(f"{name}: a state of {state}", remedy="the state is int64[2]")
    if state.shape != (2,):
        raise ShapeError(f"{name}: a state of {state}", remedy="the state is int64[2]")


def _prepare(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        _check_state(name, types[0])
        shape = as_shape(attrs["shape"], name)
        if any(n < 0 for n in shape):
            raise ArgumentError(f"{name}: shape {list(shape)} has a negative extent",
                                remedy="give extents of 0 or more")  # fmt: skip
        full = {**attrs, "shape": shape}
        if "dtype" in attrs:
            full["dtype"] = dtypes.to_dtype(attrs["dtype"])
            kinds = "iu" if "low" in attrs else "f"
            if full["dtype"].kind not in kinds:
                raise DTypeError(f"{name} draws no {full['dtype']}",
                                 remedy="choose an integer dtype" if kinds == "iu"
                                 else "choose a floating dtype")  # fmt: skip
        return full

    return prepare


def _drawn(state: TensorType, *, shape: Shape, dtype: DType = I64, **attrs: Any) -> TensorType:
    return TensorType(dtype, shape, state.device)


_STATE = np.array([42, 7], np.int64)
_FAR = np.array([-(2**62) + 12345, 2**40 + 3], np.int64)


def _state_errors(**attrs: Any) -> list[ErrorSample]:
    return [
        ErrorSample((TensorType(F32, (2,)),), {"shape": (3,), **attrs}, DTypeError, r"int64\[2\]"),
        ErrorSample((TensorType(I64, (3,)),), {"shape": (3,), **attrs}, ShapeError),
        ErrorSample((TensorType(I64, (2,)),), {"shape": (-3,), **attrs}, ArgumentError),
    ]


def _float_samples() -> list[Sample]:
    cases = [((5,), F32, _STATE), ((2, 3), F64, _STATE), ((0, 3), F32, _STATE), ((), F32, _FAR),
             ((4,), F16, _STATE), ((4,), BF16, _STATE), ((6,), F64, _FAR)]  # fmt: skip
    return [Sample((state,), {"shape": s, "dtype": d}) for s, d, state in cases]


def _register_draw(
    name: str, attrs: dict[str, Any], prepare: Any, reference: Any, expand: Any,
    samples: Any, errors: Any, doc: str, cost: float = 60.0, ulp: float = 0.0,
) -> None:  # fmt: skip
    register(Op(
        name=name, form="random", category="random", arity=(1, 1), promote="none",
        attrs={"shape": REQUIRED, **attrs}, prepare=prepare, infer=_drawn, exact=True,
        reference=reference, expand=expand, samples=samples, error_samples=errors, doc=doc,
        cost=cost, ulp=ulp, source=SOURCE,
    ))  # fmt: skip


_register_draw(
    "random_bits", {}, _prepare("random_bits"),
    lambda state, *, shape: _words(state, shape)[0].astype(np.int64),
    lambda b, state, *, shape: b.reshape(_words_nodes(b, state, shape)[0], shape=shape),
    lambda: [Sample((s,), {"shape": n}) for s, n in
             [(_STATE, (5,)), (_FAR, (2, 3)), (_STATE, ()), (_STATE, (0,))]],
    _state_errors, "32 random bits an element, as int64.",
)  # fmt: skip


def _uniform_expand(b: Builder, state: Node, *, shape: Shape, dtype: DType) -> Node:
    high, low, *_ = _words_nodes(b, state, shape)
    return b.reshape(_uniform_nodes(b, high, low, dtype), shape=shape)


_register_draw(
    "random_uniform", {"dtype": F32}, _prepare("random_uniform"),
    _uniform_reference, _uniform_expand, _float_samples,
    lambda: [*_state_errors(),
             ErrorSample((TensorType(I64, (2,)),), {"shape": 3, "dtype": I32}, DTypeError)],
    "Uniform numbers in [0, 1).",
)  # fmt: skip


def _normal_reference(state: np.ndarray, *, shape: Shape, dtype: DType) -> np.ndarray:
    words = _words(state, shape)
    if dtype is F64:
        u, v = 1.0 - _uniform_from(words[0], words[1], F64), _uniform_from(words[2], words[3], F64)
    else:
        u = ((words[0] >> np.uint64(8)) + np.uint64(1)) * 2.0**-24
        v = (words[1] >> np.uint64(8)) * 2.0**-24
    return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * math.pi * v)


def _normal_expand(b: Builder, state: Node, *, shape: Shape, dtype: DType) -> Node:
    words = _words_nodes(b, state, shape)
    if dtype is F64:
        u = b.sub(1.0, _uniform_nodes(b, words[0], words[1], F64))
        v = _uniform_nodes(b, words[2], words[3], F64)
    else:
        whole = b.add(b.bitwise_right_shift(words[0], 8), 1)
        u = b.mul(b.cast(whole, F32), 2.0**-24)
        v = _uniform_nodes(b, words[1], words[1], F32)
    radius = b.sqrt(b.mul(b.log(u), -2.0))
    drawn = b.mul(radius, b.cos(b.mul(v, 2.0 * math.pi)))
    return b.reshape(b.cast(drawn, dtype), shape=shape)


_register_draw(
    "random_normal", {"dtype": F32}, _prepare("random_normal"), _normal_reference,
    _normal_expand, _float_samples,
    lambda: [*_state_errors(),
             ErrorSample((TensorType(I64, (2,)),), {"shape": 3, "dtype": I32}, DTypeError)],
    "Standard normal numbers, by the method of Box and Muller.", cost=90.0, ulp=8,
)  # fmt: skip


def _integers_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    full = _prepare("random_integers")(types, attrs)
    (low,) = as_shape(attrs["low"], "random_integers")
    (high,) = as_shape(attrs["high"], "random_integers")
    info = np.iinfo(full["dtype"].numpy)
    if not info.min <= low < high <= info.max + 1:
        raise ArgumentError(
            f"random_integers: low {low} and high {high} for {full['dtype']}",
            remedy="low must be below high, and both within the dtype's range",
        )
    return {**full, "low": low, "high": high}


def _integers_reference(
    state: np.ndarray, *, shape: Shape, low: int, high: int, dtype: DType
) -> np.ndarray:
    """In Python's integers: the recipe as it is written."""
    words = _words(state, shape)
    draws = [
        low + (((int(upper) << 32 | int(lower)) * (high - low)) >> 64)
        for lower, upper in zip(words[0].ravel(), words[1].ravel(), strict=True)
    ]
    return np.array(draws, dtype=dtype.numpy).reshape(shape)


def _integers_expand(
    b: Builder, state: Node, *, shape: Shape, low: int, high: int, dtype: DType
) -> Node:
    """The upper 64 bits of a 128-bit product, from its four 32-bit partial products."""
    w0, w1 = _words_nodes(b, state, shape)[:2]
    r1, r0 = divmod(high - low, 2**32)
    middle = b.add(_wrapping(b, w1, r0), _high(b, _wrapping(b, w0, r0)))
    carried = b.add(_low(b, middle), _wrapping(b, w0, r1))
    upper = b.add(_high(b, middle), _high(b, carried))
    upper = b.add(upper, _wrapping(b, w1, r1))
    drawn = b.add(upper, b.constant(low, I64))
    return b.reshape(b.cast(drawn, dtype), shape=shape)


def _wrapping(b: Builder, word: Node, factor: int) -> Node:
    return b.mul(word, b.constant(factor, I64))


_register_draw(
    "random_integers", {"low": 0, "high": REQUIRED, "dtype": I64}, _integers_prepare,
    _integers_reference, _integers_expand,
    lambda: [
        Sample((_STATE,), {"shape": (5,), "high": 10}),
        Sample((_STATE,), {"shape": (2, 3), "low": -5, "high": 6, "dtype": I32}),
        Sample((_FAR,), {"shape": (4,), "low": -(2**63), "high": 2**63}),
        Sample((_STATE,), {"shape": (4,), "high": 2**64, "dtype": dtypes.uint64}),
        Sample((_STATE,), {"shape": (4,), "high": 2**40 + 12345}),
        Sample((_STATE,), {"shape": (0,), "high": 2, "dtype": dtypes.uint8}),
    ],
    lambda: [
        *_state_errors(high=3),
        ErrorSample((TensorType(I64, (2,)),), {"shape": 3, "low": 2, "high": 2}, ArgumentError),
        ErrorSample((TensorType(I64, (2,)),), {"shape": 3, "high": 300, "dtype": dtypes.uint8},
                    ArgumentError, "range"),
        ErrorSample((TensorType(I64, (2,)),), {"shape": 3, "high": 3, "dtype": F32}, DTypeError),
    ],
    "Integers in [low, high), each equally likely to within 2^-64 of the range.",
)  # fmt: skip


def _advance_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    _check_state("random_advance", types[0])
    (count,) = as_shape(attrs["count"], "random_advance")
    return {"count": count}


register(Op(
    name="random_advance", form="random", category="random", arity=(1, 1), promote="none",
    attrs={"count": 1}, prepare=_advance_prepare, exact=True,
    infer=lambda state, *, count: TensorType(I64, (2,), state.device),
    reference=lambda state, *, count: state + np.array([0, count], np.int64),
    expand=lambda b, state, *, count: b.add(state, b.constant(np.array([0, count], np.int64))),
    samples=lambda: [Sample((_STATE,)), Sample((_FAR,), {"count": 5})],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2,)),), {}, DTypeError),
        ErrorSample((TensorType(I64, ()),), {}, ShapeError),
    ],
    doc="The state after `count` draws.",
))  # fmt: skip
