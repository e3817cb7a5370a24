"""Scatters that multiply, or keep an extreme, where several values fall on one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import TensorType
from .gather import grid_of, scatter_type
from .indexing import INDEXED, assert_within, axis_prepare, checked, checked_node
from .reduce import unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, F64, I32, I64 = dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64
FOLDS: dict[str, Any] = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["reduce"] not in FOLDS:
        raise ArgumentError(f"scatter_reduce: reduce={attrs['reduce']!r}",
                            remedy="use 'sum', 'prod', 'mean', 'amax' or 'amin'")  # fmt: skip
    if attrs["reduce"] != "prod" and types[0].dtype.kind == "c":
        raise DTypeError(f"scatter_reduce: the extremes of {types[0]}",
                         remedy="complex numbers are not ordered")  # fmt: skip
    return {**axis_prepare("scatter_reduce")(types, attrs), "reduce": attrs["reduce"]}


def _type(x: TensorType, index: TensorType, v: TensorType, *, axis: int, reduce: str) -> TensorType:
    return scatter_type(x, index, v, axis=axis)


def _unchecked_reference(
    x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int, reduce: str
) -> np.ndarray:
    assert_within(index, x.shape[axis])
    result = x.copy()
    if index.size:
        with np.errstate(all="ignore"):
            FOLDS[reduce].at(result, grid_of(index, axis), v)
    return result


def _reference(
    x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int, reduce: str
) -> np.ndarray:
    index = checked(index, x.shape[axis], "scatter_reduce", wrap=False)
    return _unchecked_reference(x, index, v, axis=axis, reduce=reduce)


def _expand(b: Builder, x: Node, index: Node, v: Node, *, axis: int, reduce: str) -> Node:
    found = checked_node(b, index, x.type.shape[axis], "scatter_reduce", wrap=False)
    return b.scatter_reduce_unchecked(x, found, v, axis=axis, reduce=reduce)


def _gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None, Node]:
    """Extremes share it evenly among what is equal to them; a product gives each factor the
    product of the others, by division unless one is 0."""
    x, index, v = node.inputs
    axis, reduce = node.attrs["axis"], node.attrs["reduce"]

    def taken(whole: Node) -> Node:
        return b.gather_unchecked(whole, index, axis=axis)

    if reduce == "prod":
        return _product_gradient(b, g, node, taken)
    own, values = b.eq(x, node), b.eq(v, taken(node))
    count = b.scatter_add_unchecked(b.cast(own, dtype=g.type.dtype), index,
                                    b.cast(values, dtype=g.type.dtype), axis=axis)  # fmt: skip
    share = b.div(g, count)
    return b.where(own, share, 0), None, b.where(values, taken(share), 0)


def _product_gradient(b: Builder, g: Node, node: Node, taken: Any) -> tuple[Node, None, Node]:
    """The others' product is that of the factors that are not 0, where no other one is 0."""
    x, index, v = node.inputs
    axis, dtype = node.attrs["axis"], node.type.dtype
    x_zero, v_zero = b.eq(x, 0), b.eq(v, 0)
    rest = b.scatter_reduce_unchecked(b.where(x_zero, 1, x), index, b.where(v_zero, 1, v),
                                      axis=axis, reduce="prod")  # fmt: skip
    zeros = b.scatter_add_unchecked(b.cast(x_zero, dtype=I64), index, b.cast(v_zero, dtype=I64),
                                    axis=axis)  # fmt: skip
    scaled = b.mul(g, b.conj(rest) if dtype.kind == "c" else rest)

    def of(factor: Node, zero: Node, scaled: Node, zeros: Node) -> Node:
        factor = b.conj(factor) if dtype.kind == "c" else factor
        others = b.sub(zeros, b.cast(zero, dtype=I64))
        found = b.where(zero, scaled, b.div(scaled, b.where(zero, 1, factor)))
        return b.where(b.eq(others, 0), found, 0)

    return of(x, x_zero, scaled, zeros), None, of(v, v_zero, taken(scaled), taken(zeros))


def _samples() -> list[Sample]:
    wide, column = np.array([[0, 3], [1, 1], [2, 0]]), np.array([[2, 0, 1]], np.int32)
    return [
        Sample((TensorType(dtype, (3, 4)), index, TensorType(dtype, index.shape)),
               {"axis": axis, "reduce": reduce}, low=0.5, high=2.0)
        for reduce in FOLDS
        for dtype, axis, index in ((F32, 1, wide), (F64, -1, wide), (I32, 0, column),
                                   (F32, 0, np.zeros((0, 2), np.int64)))
    ]  # fmt: skip


def _errors() -> list[ErrorSample]:
    x, v, index = TensorType(F32, (3, 4)), TensorType(F32, (3, 2)), TensorType(I64, (3, 2))
    attrs = {"axis": 1, "reduce": "amax"}
    return [
        ErrorSample((x, TensorType(I64, (3,)), v), attrs, ShapeError, "dimensions"),
        ErrorSample((x, TensorType(F32, (3, 2)), v), attrs, DTypeError, "index"),
        ErrorSample((x, index, TensorType(I32, (3, 2))), attrs, DTypeError),
        ErrorSample((x, index, v), {**attrs, "reduce": "median"}, ArgumentError, "reduce="),
    ]


def _error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Extremes are off by no more than the worst operand; a product by its factors' errors
    beside the greatest that the others can make."""
    carried = max(np.max(errors[0], initial=0.0), np.max(errors[2], initial=0.0))
    if attrs["reduce"] != "prod":
        return np.full(out.shape, carried)
    x, v = np.abs(np.asarray(values[0], float)), np.abs(np.asarray(values[2], float))
    n = v.size
    most = np.prod(np.maximum(v, 1.0)) * max(np.max(x, initial=0.0), 1.0)
    return np.full(out.shape, most * ((n + 1) * carried + n * unit_roundoff(out.dtype)))


_COMMON: dict[str, Any] = {
    **INDEXED, "arity": (3, 3), "attrs": {"axis": REQUIRED, "reduce": REQUIRED},
    "prepare": _prepare, "infer": _type, "error": _error, "samples": _samples, "ulp": 2,
}  # fmt: skip

register(Op(
    name="scatter_reduce_unchecked", form="opaque", reference=_unchecked_reference,
    gradient=_gradient, error_samples=_errors,
    doc="`scatter_reduce` at indices that are known to be in range.",
    unsupported="values that fall on one place are folded in order, one at a time", **_COMMON,
))  # fmt: skip
register(Op(
    name="scatter_reduce", form="composite", reference=_reference, expand=_expand,
    error_samples=lambda: [*_errors(), ErrorSample(
        (TensorType(F32, (3,)), np.array([3]), TensorType(F32, (1,))),
        {"axis": 0, "reduce": "prod"}, IndexOutOfRangeError, "index 3")],
    doc="The first operand multiplied by values at indexed places along an axis, or the greatest "
    "or least of both.", **_COMMON,
))  # fmt: skip
