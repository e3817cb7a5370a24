"""Sorting and searching: elements in order, their places, places among sorted elements.

The order is that of `ir.order`: NaN last, zeros equal, equal elements in the order in which
they stand, descending as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError, ShapeError
from .. import dtypes
from ..axes import one_axis
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..order import places_in_order, sorted_along
from ..types import TensorType
from .indexing import zeros_like
from .reduce import Prepare, widened

if TYPE_CHECKING:
    from ..builder import Builder, Operand
    from ..node import Node

__all__: list[str] = []

F32, F64, F16, BF16, C64 = (
    dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.complex64,
)  # fmt: skip
I32, I64, U8, BOOL = dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.bool_


# -- shared rules -------------------------------------------------------------------------
def _prepare(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        full = {**attrs, "axis": one_axis(attrs["axis"], types[0].ndim, name)}
        for flag in ("descending", "largest"):
            if flag in full:
                full[flag] = bool(full[flag])
        if "k" in full:
            full["k"] = _count(name, types[0], full["axis"], full["k"])
        return full

    return prepare


def _count(name: str, x: TensorType, axis: int, k: Any) -> int:
    try:
        count = operator.index(k)
    except TypeError:
        count = -1
    if not 0 <= count <= x.shape[axis]:
        raise ArgumentError(f"{name}: k={k!r} of {x.shape[axis]} elements along axis {axis}",
                            remedy="give an int from 0 to the extent of the axis")  # fmt: skip
    return count


def _places_type(x: TensorType, **attrs: Any) -> TensorType:
    return TensorType(I64, x.shape, x.device)


def _unless_exact(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Nothing is known of a lane's places where an element of it may have moved."""
    moved = np.any(errors[0] > 0, axis=attrs["axis"], keepdims=True)
    return np.broadcast_to(np.where(moved, np.inf, 0.0), out.shape)


def _sorted_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Sorting brings elements no further apart than they were."""
    return np.broadcast_to(np.max(errors[0], axis=attrs["axis"], keepdims=True, initial=0.0),
                           out.shape)  # fmt: skip


#: Ties, both zeros, NaN of either sign, infinities.
_SPECIAL = np.array([[0.0, np.nan, -0.0, 2.0], [-np.inf, -np.nan, np.inf, np.nan],
                     [1.0, 1.0, -1.0, 1.0]], np.float32)  # fmt: skip
_COMPLEX = np.array([1 + 2j, 1 - 1j, complex(1, np.nan), complex(np.nan, 0), 0, -1j], np.complex64)


def _samples(**attrs: Any) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        shapes = [((7,), 0), ((3, 4), 0), ((2, 3, 5), -2), ((0, 3), 1), ((3, 0), 1), ((1, 1), 0)]
        found = [Sample((TensorType(F32, s),), {"axis": a, **attrs}) for s, a in shapes]
        for dtype in (F64, F16, BF16, I32, U8, BOOL):
            found.append(Sample((TensorType(dtype, (5, 3)),), {"axis": 0, **attrs}))
        for array in (_SPECIAL, _SPECIAL.astype(np.float16), _SPECIAL.astype(np.float64)):
            found.append(Sample((array,), {"axis": 1, **attrs}))
        return found

    return samples


def _errors(**attrs: Any) -> Callable[[], list[ErrorSample]]:
    return lambda: [
        ErrorSample((TensorType(F32, (2, 3)),), {"axis": 2, **attrs}, AxisError, "axis 2"),
        ErrorSample((TensorType(F32, ()),), {"axis": 0, **attrs}, AxisError, "0-d"),
        ErrorSample((TensorType(F32, (2, 3)),), {"axis": 0.5, **attrs}, ArgumentError, "integer"),
    ]


_SORTS = "NumPy's sorts are vectorised machine code already"

_COMMON: dict[str, Any] = {
    "form": "opaque", "category": "reduction", "arity": (1, 1), "exact": True, "cost": 20.0,
    "unsupported": _SORTS,
}  # fmt: skip


# -- sort, argsort, topk ------------------------------------------------------------------
def _sort_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    x = node.inputs[0]
    if not x.type.dtype.is_inexact:
        return (None,)
    places = b.argsort(x, **node.attrs)
    return (b.scatter_add_unchecked(zeros_like(b, x), places, g, axis=node.attrs["axis"]),)


def _in_both_directions(samples: Callable[[], list[Sample]]) -> Callable[[], list[Sample]]:
    return lambda: [
        Sample(s.operands, {**s.attrs, "descending": way})
        for s in [*samples(), Sample((_COMPLEX,), {"axis": 0})] for way in (False, True)
    ]  # fmt: skip


_ORDER: dict[str, Any] = {"axis": -1, "descending": False}

register(Op(
    name="sort", **_COMMON, attrs=_ORDER, prepare=_prepare("sort"),
    infer=lambda x, *, axis, descending: x.with_shape(x.shape),
    reference=lambda x, *, axis, descending: sorted_along(x, axis, descending),
    gradient=_sort_gradient, error=_sorted_error,
    samples=_in_both_directions(_samples()), error_samples=_errors(),
    doc="The elements along an axis in order: NaN last (first when descending), equal ones in "
    "the order in which they stand.",
))  # fmt: skip

register(Op(
    name="argsort", **_COMMON, attrs=_ORDER, prepare=_prepare("argsort"), infer=_places_type,
    reference=lambda x, *, axis, descending: places_in_order(x, axis, descending),
    discontinuous=True, error=_unless_exact,
    samples=_in_both_directions(_samples()), error_samples=_errors(),
    doc="Where the elements lie that `sort` puts in order.",
))  # fmt: skip


def _topk_type(x: TensorType, *, k: int, axis: int, largest: bool) -> TensorType:
    return TensorType(I64, (*x.shape[:axis], k, *x.shape[axis + 1 :]), x.device)


def _topk_samples() -> list[Sample]:
    found = [*_samples()(), Sample((_COMPLEX,), {"axis": 0})]
    fitting = [s for s in found if 0 not in s.operands[0].shape]
    return [
        Sample(s.operands, {**s.attrs, "k": min(2, s.operands[0].shape[s.attrs["axis"]]),
                            "largest": largest})
        for s in fitting for largest in (False, True)
    ] + [
        Sample((TensorType(F32, (5, 2)),), {"axis": 0, "k": 0}),
        Sample((TensorType(F32, (5, 2)),), {"axis": 0, "k": 5}),
        Sample((TensorType(F32, (3, 0)),), {"axis": 1, "k": 0}),
    ]  # fmt: skip


register(Op(
    name="topk_indices", **_COMMON, attrs={"k": REQUIRED, "axis": -1, "largest": True},
    prepare=_prepare("topk"), infer=_topk_type,
    reference=lambda x, *, k, axis, largest: places_in_order(x, axis, largest, k),
    discontinuous=True, error=_unless_exact, samples=_topk_samples,
    error_samples=lambda: [
        *_errors(k=1)(),
        ErrorSample((TensorType(F32, (3,)),), {"k": 4}, ArgumentError, "k=4 of 3 elements"),
        ErrorSample((TensorType(F32, (3,)),), {"k": -1}, ArgumentError, "k=-1"),
        ErrorSample((TensorType(F32, (3,)),), {"k": 1.5}, ArgumentError, "k=1.5"),
    ],
    doc="Where the k greatest elements along an axis lie, in order; or the k least. NaN counts "
    "as greatest, the first of equal elements comes first.",
))  # fmt: skip


# -- running extrema ----------------------------------------------------------------------
def _running_reference(fold: Any) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, *, axis: int) -> np.ndarray:
        extreme = fold.accumulate(x, axis=axis)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        numbers = np.arange(x.shape[axis]).reshape(shape)
        return np.maximum.accumulate(np.where((x == extreme) | (x != x), numbers, 0), axis=axis)

    return reference


def _register_running(name: str, fold: Any, word: str) -> None:
    register(Op(
        name=name, **{**_COMMON, "cost": 4.0, "unsupported": ""},
        attrs={"axis": -1}, prepare=_prepare(name),
        kinds="biuf", infer=_places_type, reference=_running_reference(fold), discontinuous=True,
        error=_unless_exact, samples=_samples(),
        error_samples=lambda: [
            *_errors()(), ErrorSample((TensorType(C64, (3,)),), {"axis": 0}, DTypeError),
        ],
        doc=f"For each place along an axis that of the {word} element so far: the last among "
        "equals, NaN before all.",
    ))  # fmt: skip


_register_running("cumargmax", np.maximum, "greatest")
_register_running("cumargmin", np.minimum, "least")


# -- searchsorted -------------------------------------------------------------------------
def _searchsorted_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["side"] not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side={attrs['side']!r}",
                            remedy="use 'left' or 'right'")  # fmt: skip
    return attrs


def _searchsorted_type(x: TensorType, v: TensorType, *, side: str) -> TensorType:
    if x.ndim != 1 and (x.ndim != v.ndim or not x.ndim or x.shape[:-1] != v.shape[:-1]):
        raise ShapeError(
            f"searchsorted: {v} in {x}",
            remedy="give sorted elements in one dimension, or for each row of values a row",
        )
    return TensorType(I64, v.shape, v.device)


def _searchsorted_reference(x: np.ndarray, v: np.ndarray, *, side: Any) -> np.ndarray:
    if x.dtype in (F16.numpy, BF16.numpy):  # of which NumPy orders not every NaN
        x, v = x.astype(np.float32), v.astype(np.float32)
    if x.ndim == 1:
        return np.searchsorted(x, v, side)
    result = np.empty(v.shape, np.int64)
    for row in np.ndindex(v.shape[:-1]):
        result[row] = np.searchsorted(x[row], v[row], side)
    return result


def _searched_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = np.any(errors[0] > 0) | np.asarray(errors[1] > 0)
    return np.broadcast_to(np.where(moved, np.inf, 0.0), out.shape)


#: From so many values on, searching with vectors is worth a kernel of its own.
_MANY = 1024


def _searchsorted_expand(b: Builder, x: Node, v: Node, *, side: str) -> Node:
    """The halving of one window for all values at once, without a branch: after the first step
    the window's size is a power of two, so that no place lies outside."""
    n = x.type.shape[-1]
    if not 0 < n < 2**31 or v.type.size < _MANY or x.type.dtype.kind == "c":
        return b.binary_search(x, v, side=side)
    x, v = widened(b, x), widened(b, v)
    size = 1 << (n.bit_length() - 1)
    one_row, shape = x.type.ndim == 1, v.type.shape

    def before(places: Node) -> Node:
        element = (b.take_unchecked(x, places, axis=0) if one_row
                   else b.gather_unchecked(x, places, axis=len(shape) - 1))  # fmt: skip
        return b.lt(element, v) if side == "left" else b.le(element, v)

    def chosen(test: Node, many: int) -> Node:
        return b.where(test, b.constant(many, I32), b.constant(0, I32))

    place = b.full(0, shape, I32)
    if n > size:
        place = chosen(before(b.full(size - 1, shape, I32)), n - size)
    while size > 1:
        size //= 2
        place = b.add(place, chosen(before(b.add(place, b.constant(size - 1, I32))), size))
    place = b.cast(b.add(place, chosen(before(place), 1)), I64)
    if x.type.dtype.kind != "f":
        return place
    last: Operand = n  # NaN lies behind the numbers, or behind all
    if side == "left":
        last = b.sum(b.eq(x, x), axis=-1, keepdims=not one_row)
    return b.where(b.isnan(v), last, place)


_ROW = np.array([-1.0, 0.0, 0.0, 2.0, np.nan], np.float32)
_WANTED = np.array([[0.0, -0.0, 3.0], [-5.0, 2.0, np.nan]], np.float32)

_SEARCH: dict[str, Any] = {
    "category": "reduction", "arity": (2, 2), "exact": True, "attrs": {"side": "left"},
    "prepare": _searchsorted_prepare, "infer": _searchsorted_type,
    "reference": _searchsorted_reference, "discontinuous": True, "cost": 20.0,
    "error": _searched_error,
}  # fmt: skip


def _search_samples() -> list[Sample]:
    return [
        Sample((_ROW.astype(d.numpy), _WANTED.astype(d.numpy)), {"side": side})
        for side in ("left", "right") for d in (F32, F64, F16, BF16)
    ] + [
        Sample((_ROW[:0], _WANTED)),
        Sample((np.array([1, 3, 3, 7], np.int32), np.array(3, np.int64)), {"side": "right"}),
        Sample((np.array([0, 1, 200], np.uint8), np.array([5, 255], np.uint8))),
        Sample((np.array([[1, 3], [2, 2]]), np.array([[2, 2, 9], [2, 3, 0]])), {"side": "right"}),
        Sample((np.sort(_COMPLEX), _COMPLEX)),
        Sample((np.array([False, True]), np.array([True, False]))),
    ]


def _many_samples() -> list[Sample]:
    """Enough values for vectors, in windows of any size, with and without NaN."""
    row, rows = np.arange(-3.0, 3.0), np.arange(12.0).reshape(2, 6) % 5 - 2
    return [
        Sample((row.astype(d.numpy), TensorType(d, (9, 130))), {"side": side})
        for side in ("left", "right") for d in (F32, F64, I32, F16)
    ] + [
        Sample((_ROW[5 - n :], np.resize(_WANTED, 1100)), {"side": side})
        for n in range(1, 6) for side in ("left", "right")
    ] + [Sample((np.sort(rows), TensorType(F64, (2, 700))), {"side": "right"})]  # fmt: skip


def _search_errors() -> list[ErrorSample]:
    return [
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (2,))), {"side": "up"}, ArgumentError),
        ErrorSample((TensorType(F32, (2, 3)), TensorType(F32, (3, 2))), {}, ShapeError, "row"),
        ErrorSample((TensorType(F32, ()), TensorType(F32, (2,))), {}, ShapeError),
    ]


register(Op(
    name="binary_search", form="opaque", samples=_search_samples, error_samples=_search_errors,
    unsupported="few values are not worth a kernel",
    **_SEARCH, doc="`searchsorted` of few values or of complex ones, each searched by itself.",
))  # fmt: skip

register(Op(
    name="searchsorted", form="composite", expand=_searchsorted_expand, **_SEARCH,
    samples=lambda: [*_search_samples(), *_many_samples()], error_samples=_search_errors,
    doc="Where in sorted elements each value would be put: in front of equal ones (left), or "
    "behind them.",
))  # fmt: skip
