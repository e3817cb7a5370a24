"""One element for each index: gather and scatter along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import AxisError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes
from .indexing import (
    ADDED,
    INDEXED,
    assert_within,
    axis_prepare,
    check_values,
    checked,
    checked_node,
    scattered_error,
    zeros_like,
)

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["grid_of", "scatter_type"]

F32, F64, I32, I64, BF16 = (
    dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.bfloat16,
)  # fmt: skip


def _check_prefix(name: str, x: TensorType, index: TensorType, axis: int) -> None:
    fits = x.ndim == index.ndim and all(
        i == axis or n <= m for i, (n, m) in enumerate(zip(index.shape, x.shape, strict=True))
    )
    if not fits:
        raise ShapeError(
            f"{name}: an index of {index} for {x} along axis {axis}",
            remedy="give as many dimensions, and no greater extents beside the axis",
        )


def _gather_type(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    _check_prefix("gather", x, index, axis)
    return x.with_shape(index.shape)


def grid_of(index: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """NumPy's index of the elements at the places of `index` along the axis."""
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


def _gather_unchecked_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    assert_within(index, x.shape[axis])
    if not index.size:
        return np.empty(index.shape, x.dtype)
    return x[grid_of(index, axis)]


def _gather_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    index = checked(index, x.shape[axis], "gather", wrap=False)
    return _gather_unchecked_reference(x, index, axis=axis)


def _gather_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    x, index = node.inputs
    return b.scatter_add_unchecked(zeros_like(b, x), index, g, axis=node.attrs["axis"]), None


def _gather_expand(b: Builder, x: Node, index: Node, *, axis: int) -> Node:
    places = checked_node(b, index, x.type.shape[axis], "gather", wrap=False)
    return b.gather_unchecked(x, places, axis=axis)


def _gather_samples() -> list[Sample]:
    return [
        Sample((TensorType(F32, (3, 4)), np.array([[0, 3], [1, 1], [2, 0]])), {"axis": 1}),
        Sample((TensorType(F32, (3, 4)), np.array([[2, 0]])), {"axis": 0}),
        Sample((TensorType(F64, (5,)), np.array([4, 4, 0], np.int32)), {"axis": -1}),
        Sample((TensorType(I32, (2, 2)), np.zeros((0, 2), np.int64)), {"axis": 0}),
        Sample((TensorType(BF16, (3,)), np.array([1])), {"axis": 0}),
    ]


def _gather_errors() -> list[ErrorSample]:
    x = TensorType(F32, (3, 4))
    return [
        ErrorSample((x, TensorType(I64, (3,))), {"axis": 1}, ShapeError, "dimensions"),
        ErrorSample((x, TensorType(I64, (4, 2))), {"axis": 1}, ShapeError),
        ErrorSample((x, TensorType(F32, (3, 2))), {"axis": 1}, DTypeError),
        ErrorSample((x, TensorType(I64, (3, 2))), {"axis": 2}, AxisError),
    ]


register(Op(
    name="gather_unchecked", form="indexed", arity=(2, 2), prepare=axis_prepare("gather"),
    infer=_gather_type, reference=_gather_unchecked_reference, gradient=_gather_gradient,
    samples=_gather_samples, error_samples=_gather_errors, **INDEXED,
    doc="`gather` of indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="gather", form="composite", arity=(2, 2), prepare=axis_prepare("gather"),
    infer=_gather_type, reference=_gather_reference, expand=_gather_expand,
    samples=_gather_samples, **INDEXED,
    error_samples=lambda: [*_gather_errors(), ErrorSample(
        (TensorType(F32, (3,)), np.array([-1])), {"axis": 0}, IndexOutOfRangeError, "index -1")],
    doc="For each index, the element at that place along the axis and at the index's own "
    "place in the other dimensions (torch's gather).",
))  # fmt: skip


def _along_shapes(x: Shape, index: Shape, axis: int) -> tuple[Shape, Shape]:
    """Both shapes spread over each other's extents beside the axis."""
    if len(x) != len(index):
        raise ShapeError(f"take_along_axis: an index of shape {list(index)} for {list(x)}",
                         remedy="give as many dimensions")  # fmt: skip
    head = broadcast_shapes([x[:axis], index[:axis]], "take_along_axis")
    tail = broadcast_shapes([x[axis + 1 :], index[axis + 1 :]], "take_along_axis")
    return (*head, x[axis], *tail), (*head, index[axis], *tail)


def _along_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    wide, places = _along_shapes(x.shape, index.shape, axis)
    index = checked(index, x.shape[axis], "take_along_axis")
    spread = np.broadcast_to(x, wide)
    return _gather_unchecked_reference(spread, np.broadcast_to(index, places), axis=axis)


def _along_expand(b: Builder, x: Node, index: Node, *, axis: int) -> Node:
    wide, places = _along_shapes(x.type.shape, index.type.shape, axis)
    found = checked_node(b, index, x.type.shape[axis], "take_along_axis")
    if x.type.shape != wide:
        x = b.broadcast_to(x, shape=wide)
    if found.type.shape != places:
        found = b.broadcast_to(found, shape=places)
    return b.gather_unchecked(x, found, axis=axis)


register(Op(
    name="take_along_axis", form="composite", arity=(2, 2),
    prepare=axis_prepare("take_along_axis"), reference=_along_reference, expand=_along_expand,
    infer=lambda x, index, *, axis: x.with_shape(_along_shapes(x.shape, index.shape, axis)[1]),
    samples=lambda: [
        Sample((TensorType(F32, (3, 4)), np.array([[0, -1], [1, 1], [2, 0]])), {"axis": 1}),
        Sample((TensorType(F32, (3, 4)), np.array([[2], [0]])), {"axis": 0}),
        Sample((TensorType(F64, (1, 4)), np.array([[2], [0]])), {"axis": 1}),
        Sample((TensorType(I32, (5,)), np.array([4, 4, 0], np.int32)), {"axis": -1}),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (3, 4)), TensorType(I64, (3,))), {"axis": 1}, ShapeError),
        ErrorSample((TensorType(F32, (3, 4)), TensorType(I64, (2, 2))), {"axis": 1}, ShapeError),
        ErrorSample((TensorType(F32, (3,)), np.array([-4])), {"axis": 0}, IndexOutOfRangeError),
    ],
    doc="For each index, the element at that place along the axis; the other dimensions "
    "broadcast (NumPy's take_along_axis).", **INDEXED,
))  # fmt: skip


def scatter_type(x: TensorType, index: TensorType, v: TensorType, *, axis: int) -> TensorType:
    _check_prefix("scatter", x, index, axis)
    check_values("scatter", x, v, index.shape)
    return x.with_shape(x.shape)


def _scatter_unchecked_reference(add: bool) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
        assert_within(index, x.shape[axis])
        result = x.copy()
        with np.errstate(all="ignore"):
            if index.size and add:
                np.add.at(result, grid_of(index, axis), v)
            elif index.size:  # NumPy assigns in the order of memory, the op in row-major order
                result[grid_of(np.array(index, order="C"), axis)] = np.array(v, order="C")
        return result

    return reference


def _scatter_reference(name: str, add: bool) -> Callable[..., np.ndarray]:
    unchecked = _scatter_unchecked_reference(add)

    def reference(x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
        return unchecked(x, checked(index, x.shape[axis], name, wrap=False), v, axis=axis)

    return reference


def _scatter_add_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None, Node]:
    return g, None, b.gather_unchecked(g, node.inputs[1], axis=node.attrs["axis"])


def _scatter_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None, Node]:
    """Of values put at one place, only the one that stayed has a slope: each value's number is
    scattered in the same way to find it."""
    x, index, v = node.inputs
    axis = node.attrs["axis"]
    kept = b.scatter_unchecked(g, index, zeros_like(b, v), axis=axis)
    count = b.iota(shape=(index.type.size,), axis=0, dtype=I64)
    number = b.reshape(count, shape=index.type.shape)
    winners = b.scatter_unchecked(b.full(0, x.type.shape, I64), index, number, axis=axis)
    stayed = b.eq(b.gather_unchecked(winners, index, axis=axis), number)
    part = b.gather_unchecked(g, index, axis=axis)
    return kept, None, b.where(stayed, part, zeros_like(b, v))


def _scatter_expand(name: str) -> Callable[..., Node]:
    def expand(b: Builder, x: Node, index: Node, v: Node, *, axis: int) -> Node:
        places = checked_node(b, index, x.type.shape[axis], name, wrap=False)
        return b.apply(f"{name}_unchecked", x, places, v, axis=axis)

    return expand


def _scatter_samples() -> list[Sample]:
    return [
        Sample((s.operands[0], s.operands[1], TensorType(s.operands[0].dtype, s.operands[1].shape)),
               s.attrs)
        for s in _gather_samples()
    ]  # fmt: skip


def _scatter_errors() -> list[ErrorSample]:
    x, v = TensorType(F32, (3, 4)), TensorType(F32, (3, 2))
    return [
        ErrorSample((x, TensorType(I64, (3,)), v), {"axis": 1}, ShapeError, "dimensions"),
        ErrorSample((x, TensorType(I64, (2, 2)), v), {"axis": 1}, ShapeError, "values"),
        ErrorSample((x, TensorType(I64, (3, 2)), TensorType(I32, (3, 2))), {"axis": 1}, DTypeError),
        ErrorSample((x, TensorType(F32, (3, 2)), v), {"axis": 1}, DTypeError, "index"),
    ]


def _register_scatter(name: str, add: bool, gradient: Any, doc: str) -> None:
    common: dict[str, Any] = ADDED if add else INDEXED
    error = scattered_error if add else None
    register(Op(
        name=f"{name}_unchecked", form="indexed", arity=(3, 3), prepare=axis_prepare(name),
        infer=scatter_type, reference=_scatter_unchecked_reference(add), gradient=gradient,
        error=error, samples=_scatter_samples, error_samples=_scatter_errors,
        doc=f"`{name}` at indices that are known to be in range.", **common,
    ))  # fmt: skip
    register(Op(
        name=name, form="composite", arity=(3, 3), prepare=axis_prepare(name),
        infer=scatter_type, reference=_scatter_reference(name, add), error=error,
        expand=_scatter_expand(name), samples=_scatter_samples, doc=doc, **common,
        error_samples=lambda: [*_scatter_errors(), ErrorSample(
            (TensorType(F32, (3,)), np.array([3]), TensorType(F32, (1,))), {"axis": 0},
            IndexOutOfRangeError, "index 3")],
    ))  # fmt: skip


_register_scatter(
    "scatter_add", True, _scatter_add_gradient,
    "The first operand with values added at indexed places along an axis, in order.",
)  # fmt: skip
_register_scatter(
    "scatter", False, _scatter_gradient,
    "The first operand with values put at indexed places along an axis; of equal indices the "
    "last in row-major order stays.",
)  # fmt: skip
