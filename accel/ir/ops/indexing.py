"""Gathers and scatters: elements at places that data decides.

Each public op checks its indices (`check_index`) and applies a primitive named `_unchecked`,
which may take them as in range. Gradients use the primitives on the indices that were
checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import AxisError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..axes import one_axis
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .logic import check_index
from .reduce import Prepare, unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = [
    "ADDED", "INDEXED", "assert_within", "axis_prepare", "check_integers", "check_values",
    "checked", "checked_node", "scattered_error", "zeros_like",
]  # fmt: skip

F32, F64, I32, I64, BOOL, BF16 = (
    dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.bool_, dtypes.bfloat16,
)  # fmt: skip


# -- shared rules -------------------------------------------------------------------------
def check_integers(name: str, index: TensorType) -> None:
    if index.dtype.kind not in "iu":
        raise DTypeError(f"{name}: an index of {index}", remedy="convert it with .astype(int)")


def check_values(name: str, x: TensorType, v: TensorType, shape: Shape) -> None:
    if x.dtype is not v.dtype:
        raise DTypeError(f"{name}: values of {v} for {x}",
                         remedy=f"convert them with .astype({x.dtype!r})")  # fmt: skip
    if v.shape != shape:
        raise ShapeError(f"{name}: values of {v} where {list(shape)} are needed, for {x}",
                         remedy="broadcast the values to that shape")  # fmt: skip


def axis_prepare(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        check_integers(name, types[1])
        return {"axis": one_axis(attrs["axis"], types[0].ndim, name)}

    return prepare


def checked(index: np.ndarray, size: int, what: str, wrap: bool = True) -> np.ndarray:
    """`index` as int64 in [0, size); raises in the words of the op `check_index`."""
    return check_index(index, size=size, wrap=wrap, what=what)


def checked_node(b: Builder, index: Node, size: int, what: str, wrap: bool = True) -> Node:
    return b.check_index(index, size=size, wrap=wrap, what=what)


def zeros_like(b: Builder, x: Node) -> Node:
    return b.full(0, x.type.shape, x.type.dtype)


def assert_within(index: np.ndarray, size: int) -> None:
    assert not index.size or (index.min() >= 0 and index.max() < size), "unchecked index"


def scattered_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Of sums whose number of terms data decides: at most all values fall on one place."""
    n = np.size(values[1])
    carried = np.max(errors[0], initial=0.0) + np.sum(errors[2])
    size = np.max(np.abs(values[0]), initial=0.0) + np.sum(np.abs(values[2]))
    bound = carried + (n + 1) * unit_roundoff(out.dtype) * size
    return np.full(out.shape, np.inf if np.isnan(bound) else bound)


# -- take: whole slices by a list of places -------------------------------------------------
def _take_type(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    return x.with_shape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _take_unchecked_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    assert_within(index, x.shape[axis])
    return np.take(x, index, axis) if x.shape[axis] else np.empty(
        x.shape[:axis] + index.shape + x.shape[axis + 1 :], x.dtype
    )


def _take_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    x, index = node.inputs
    axis = node.attrs["axis"]
    flat = b.reshape(index, shape=(index.type.size,))
    shape = x.type.shape[:axis] + flat.type.shape + x.type.shape[axis + 1 :]
    g = b.reshape(g, shape=shape)
    return b.index_add_unchecked(zeros_like(b, x), flat, g, axis=axis), None


def _take_reference(name: str, wrap: bool = True) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, index: np.ndarray, *, axis: int = 0) -> np.ndarray:
        places = checked(index, x.shape[axis], name, wrap)
        return _take_unchecked_reference(x, places, axis=axis)

    return reference


def _take_expand(b: Builder, x: Node, index: Node, *, axis: int) -> Node:
    places = checked_node(b, index, x.type.shape[axis], "take")
    return b.take_unchecked(x, places, axis=axis)


def _take_samples() -> list[Sample]:
    return [
        Sample((TensorType(F32, (5, 3)), np.array([4, 0, 0])), {"axis": 0}),
        Sample((TensorType(F32, (2, 4)), np.array([[1, 3], [0, 2]])), {"axis": -1}),
        Sample((TensorType(F64, (5,)), np.array(2)), {"axis": 0}),
        Sample((TensorType(I32, (5, 2)), np.array([1, 1], np.int32)), {"axis": 0}),
        Sample((TensorType(BOOL, (3,)), np.array([2, 0], np.uint8)), {"axis": 0}),
        Sample((TensorType(BF16, (3, 2)), np.zeros(0, np.int64)), {"axis": 0}),
        Sample((TensorType(F32, (3, 0)), np.array([1, 2])), {"axis": 0}),
    ]


def _take_errors() -> list[ErrorSample]:
    return [
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (2,))), {"axis": 0}, DTypeError,
                    "index"),
        ErrorSample((TensorType(F32, (3,)), TensorType(I64, (2,))), {"axis": 1}, AxisError),
    ]


def _range_errors() -> list[ErrorSample]:
    return [
        *_take_errors(),
        ErrorSample((TensorType(F32, (3,)), np.array([3])), {"axis": 0}, IndexOutOfRangeError,
                    "index 3 is out of range"),
    ]


INDEXED: dict[str, Any] = {
    "category": "movement", "promote": "none", "exact": True, "attrs": {"axis": 0}, "cost": 2.0,
}  # fmt: skip

register(Op(
    name="take_unchecked", form="indexed", arity=(2, 2), prepare=axis_prepare("take"),
    infer=_take_type, reference=_take_unchecked_reference, gradient=_take_gradient,
    samples=_take_samples, error_samples=_take_errors, **INDEXED,
    doc="`take` of indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="take", form="composite", arity=(2, 2), prepare=axis_prepare("take"),
    infer=_take_type, reference=_take_reference("take"), expand=_take_expand, **INDEXED,
    samples=lambda: [*_take_samples(),
                     Sample((TensorType(F32, (5, 3)), np.array([-1, 2])), {"axis": 0})],
    error_samples=_range_errors,
    doc="Slices of the first operand along an axis, at integer places; negative ones count "
    "from the end.",
))  # fmt: skip


def _embedding_type(weight: TensorType, index: TensorType) -> TensorType:
    if weight.ndim != 2:
        raise ShapeError(f"embedding: a weight of {weight}", remedy="the weight is [rows, width]")
    check_integers("embedding", index)
    return _take_type(weight, index, axis=0)


def _embedding_expand(b: Builder, weight: Node, index: Node) -> Node:
    places = checked_node(b, index, weight.type.shape[0], "embedding", wrap=False)
    return b.take_unchecked(weight, places, axis=0)


register(Op(
    name="embedding", form="composite", category="movement", arity=(2, 2), promote="none",
    infer=_embedding_type, reference=_take_reference("embedding", wrap=False), exact=True,
    expand=_embedding_expand, cost=2.0,
    samples=lambda: [
        Sample((TensorType(F32, (5, 3)), np.array([[4, 0], [0, 2]]))),
        Sample((TensorType(F64, (5, 3)), np.array(1))),
        Sample((TensorType(F32, (5, 3)), np.zeros((0, 2), np.int32))),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (5,)), TensorType(I64, (2,))), {}, ShapeError, "rows, width"),
        ErrorSample((TensorType(F32, (5, 2)), TensorType(F32, (2,))), {}, DTypeError),
        ErrorSample((TensorType(F32, (5, 2)), np.array([-1])), {}, IndexOutOfRangeError,
                    "index -1"),
    ],
    doc="The rows of a weight matrix at integer places.",
))  # fmt: skip


# -- index_add: slices added at a list of places --------------------------------------------
def _index_add_type(x: TensorType, index: TensorType, v: TensorType, *, axis: int) -> TensorType:
    if index.ndim != 1:
        raise ShapeError(f"index_add: an index of {index}", remedy="flatten the index to 1-d")
    check_values("index_add", x, v, x.shape[:axis] + index.shape + x.shape[axis + 1 :])
    return x.with_shape(x.shape)


def _index_add_unchecked_reference(
    x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int
) -> np.ndarray:
    assert_within(index, x.shape[axis])
    result = x.copy()
    with np.errstate(all="ignore"):
        places: Any = (slice(None),) * axis + (index,)
        np.add.at(result, places, v)
    return result


def _index_add_reference(
    x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int
) -> np.ndarray:
    places = checked(index, x.shape[axis], "index_add")
    return _index_add_unchecked_reference(x, places, v, axis=axis)


def _index_add_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None, Node]:
    return g, None, b.take_unchecked(g, node.inputs[1], axis=node.attrs["axis"])


def _index_add_expand(b: Builder, x: Node, index: Node, v: Node, *, axis: int) -> Node:
    places = checked_node(b, index, x.type.shape[axis], "index_add")
    return b.index_add_unchecked(x, places, v, axis=axis)


def _index_add_samples() -> list[Sample]:
    return [
        Sample((TensorType(F32, (5, 3)), np.array([4, 0, 0]), TensorType(F32, (3, 3))),
               {"axis": 0}),
        Sample((TensorType(F64, (2, 4)), np.array([1]), TensorType(F64, (2, 1))), {"axis": -1}),
        Sample((TensorType(I32, (3,)), np.array([1, 1], np.int32), TensorType(I32, (2,))),
               {"axis": 0}),
        Sample((TensorType(F32, (3,)), np.zeros(0, np.int64), TensorType(F32, (0,))), {"axis": 0}),
    ]


def _index_add_errors() -> list[ErrorSample]:
    x, i = TensorType(F32, (5, 3)), TensorType(I64, (2,))
    return [
        ErrorSample((x, i, TensorType(F32, (3, 3))), {"axis": 0}, ShapeError, "values"),
        ErrorSample((x, i, TensorType(F64, (2, 3))), {"axis": 0}, DTypeError, "values"),
        ErrorSample((x, TensorType(I64, (1, 2)), TensorType(F32, (2, 3))), {"axis": 0}, ShapeError),
        ErrorSample((x, i, TensorType(F32, (2, 3))), {"axis": 2}, AxisError),
    ]


ADDED = {**INDEXED, "category": "reduction", "kinds": "iufc", "exact": False}

register(Op(
    name="index_add_unchecked", form="indexed", arity=(3, 3), prepare=axis_prepare("index_add"),
    infer=_index_add_type, reference=_index_add_unchecked_reference,
    gradient=_index_add_gradient, error=scattered_error, samples=_index_add_samples,
    error_samples=_index_add_errors, **ADDED,
    doc="`index_add` at indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="index_add", form="composite", arity=(3, 3), prepare=axis_prepare("index_add"),
    infer=_index_add_type, reference=_index_add_reference, expand=_index_add_expand,
    error=scattered_error, **ADDED,
    samples=lambda: [*_index_add_samples(), Sample(
        (TensorType(F32, (4,)), np.array([-1, 0]), TensorType(F32, (2,))), {"axis": 0})],
    error_samples=lambda: [*_index_add_errors(), ErrorSample(
        (TensorType(F32, (4,)), np.array([4]), TensorType(F32, (1,))), {"axis": 0},
        IndexOutOfRangeError, "index 4")],
    doc="The first operand with slices added at integer places along an axis, in order.",
))  # fmt: skip
