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
from ..types import Shape, TensorType, broadcast_shapes
from .reduce import unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["check_integers", "check_values", "checked", "checked_node"]

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


def _axis_prepare(name: str) -> Callable[[Sequence[TensorType], dict[str, Any]], dict[str, Any]]:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        check_integers(name, types[1])
        return {"axis": one_axis(attrs["axis"], types[0].ndim, name)}

    return prepare


def checked(index: np.ndarray, size: int, what: str, wrap: bool = True) -> np.ndarray:
    """`index` as int64 in [0, size).

    Raises
    ------
    IndexOutOfRangeError
        Naming the first index that lies outside.
    """
    wide = index.astype(np.int64)
    if wrap:
        wide = np.where(wide < 0, wide + size, wide)
    outside = (wide < 0) | (wide >= size)
    if outside.any():
        first = index[outside].flat[0]
        raise IndexOutOfRangeError(f"{what}: index {first} is out of range for extent {size}",
                                   remedy=f"keep indices below {size}")  # fmt: skip
    return wide


def checked_node(b: Builder, index: Node, size: int, what: str, wrap: bool = True) -> Node:
    return b.check_index(index, size=size, wrap=wrap, what=what)


def _zeros_like(b: Builder, x: Node) -> Node:
    return b.full(0, x.type.shape, x.type.dtype)


def _within(index: np.ndarray, size: int) -> None:
    assert not index.size or (index.min() >= 0 and index.max() < size), "unchecked index"


def _scattered_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Of sums whose number of terms data decides: at most all values fall on one place."""
    n = np.size(values[1])
    carried = np.max(errors[0], initial=0.0) + np.sum(errors[2])
    size = np.max(np.abs(values[0]), initial=0.0) + np.sum(np.abs(np.asarray(values[2], float)))
    bound = carried + (n + 1) * unit_roundoff(out.dtype) * size
    return np.full(out.shape, np.inf if np.isnan(bound) else bound)


# -- take: whole slices by a list of places -------------------------------------------------
def _take_type(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    return x.with_shape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _take_unchecked_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    _within(index, x.shape[axis])
    return np.take(x, index, axis) if x.shape[axis] else np.empty(
        x.shape[:axis] + index.shape + x.shape[axis + 1 :], x.dtype
    )


def _take_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    x, index = node.inputs
    axis = node.attrs["axis"]
    flat = b.reshape(index, shape=(index.type.size,))
    shape = x.type.shape[:axis] + flat.type.shape + x.type.shape[axis + 1 :]
    g = b.reshape(g, shape=shape)
    return b.index_add_unchecked(_zeros_like(b, x), flat, g, axis=axis), None


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
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (2,))), {"axis": 0}, DTypeError, "index"),
        ErrorSample((TensorType(F32, (3,)), TensorType(I64, (2,))), {"axis": 1}, AxisError),
    ]


def _range_errors() -> list[ErrorSample]:
    return [
        *_take_errors(),
        ErrorSample((TensorType(F32, (3,)), np.array([3])), {"axis": 0}, IndexOutOfRangeError,
                    "index 3 is out of range"),
    ]


_INDEXED: dict[str, Any] = {
    "category": "movement", "promote": "none", "exact": True, "attrs": {"axis": 0}, "cost": 2.0,
}  # fmt: skip

register(Op(
    name="take_unchecked", form="indexed", arity=(2, 2), prepare=_axis_prepare("take"),
    infer=_take_type, reference=_take_unchecked_reference, gradient=_take_gradient,
    samples=_take_samples, error_samples=_take_errors, **_INDEXED,
    doc="`take` of indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="take", form="composite", arity=(2, 2), prepare=_axis_prepare("take"),
    infer=_take_type, reference=_take_reference("take"), expand=_take_expand, **_INDEXED,
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
        ErrorSample((TensorType(F32, (5, 2)), np.array([-1])), {}, IndexOutOfRangeError, "index -1"),
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
    _within(index, x.shape[axis])
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
        Sample((TensorType(F32, (5, 3)), np.array([4, 0, 0]), TensorType(F32, (3, 3))), {"axis": 0}),
        Sample((TensorType(F64, (2, 4)), np.array([1]), TensorType(F64, (2, 1))), {"axis": -1}),
        Sample((TensorType(I32, (3,)), np.array([1, 1], np.int32), TensorType(I32, (2,))), {"axis": 0}),
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


_ADDED = {**_INDEXED, "category": "reduction", "kinds": "iufc", "exact": False}

register(Op(
    name="index_add_unchecked", form="indexed", arity=(3, 3), prepare=_axis_prepare("index_add"),
    infer=_index_add_type, reference=_index_add_unchecked_reference,
    gradient=_index_add_gradient, error=_scattered_error, samples=_index_add_samples,
    error_samples=_index_add_errors, **_ADDED,
    doc="`index_add` at indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="index_add", form="composite", arity=(3, 3), prepare=_axis_prepare("index_add"),
    infer=_index_add_type, reference=_index_add_reference, expand=_index_add_expand,
    error=_scattered_error, **_ADDED,
    samples=lambda: [*_index_add_samples(), Sample(
        (TensorType(F32, (4,)), np.array([-1, 0]), TensorType(F32, (2,))), {"axis": 0})],
    error_samples=lambda: [*_index_add_errors(), ErrorSample(
        (TensorType(F32, (4,)), np.array([4]), TensorType(F32, (1,))), {"axis": 0},
        IndexOutOfRangeError, "index 4")],
    doc="The first operand with slices added at integer places along an axis, in order.",
))  # fmt: skip


# -- gather, scatter: one element for each index --------------------------------------------
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


def _places(index: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


def _gather_unchecked_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    _within(index, x.shape[axis])
    if not index.size:
        return np.empty(index.shape, x.dtype)
    return x[_places(index, axis)]


def _gather_reference(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    places = checked(index, x.shape[axis], "gather", wrap=False)
    return _gather_unchecked_reference(x, places, axis=axis)


def _gather_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    x, index = node.inputs
    return b.scatter_add_unchecked(_zeros_like(b, x), index, g, axis=node.attrs["axis"]), None


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
    name="gather_unchecked", form="indexed", arity=(2, 2), prepare=_axis_prepare("gather"),
    infer=_gather_type, reference=_gather_unchecked_reference, gradient=_gather_gradient,
    samples=_gather_samples, error_samples=_gather_errors, **_INDEXED,
    doc="`gather` of indices that are known to be in range.",
))  # fmt: skip

register(Op(
    name="gather", form="composite", arity=(2, 2), prepare=_axis_prepare("gather"),
    infer=_gather_type, reference=_gather_reference, expand=_gather_expand,
    samples=_gather_samples, **_INDEXED,
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
    prepare=_axis_prepare("take_along_axis"), reference=_along_reference, expand=_along_expand,
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
    "broadcast (NumPy's take_along_axis).", **_INDEXED,
))  # fmt: skip


def _scatter_type(x: TensorType, index: TensorType, v: TensorType, *, axis: int) -> TensorType:
    _check_prefix("scatter", x, index, axis)
    check_values("scatter", x, v, index.shape)
    return x.with_shape(x.shape)


def _scatter_unchecked_reference(add: bool) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, index: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
        _within(index, x.shape[axis])
        result = x.copy()
        with np.errstate(all="ignore"):
            if index.size and add:
                np.add.at(result, _places(index, axis), v)
            elif index.size:
                result[_places(index, axis)] = v
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
    kept = b.scatter_unchecked(g, index, _zeros_like(b, v), axis=axis)
    count = b.iota(shape=(index.type.size,), axis=0, dtype=I64)
    number = b.reshape(count, shape=index.type.shape)
    winners = b.scatter_unchecked(b.full(0, x.type.shape, I64), index, number, axis=axis)
    stayed = b.eq(b.gather_unchecked(winners, index, axis=axis), number)
    part = b.gather_unchecked(g, index, axis=axis)
    return kept, None, b.where(stayed, part, _zeros_like(b, v))


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
    common: dict[str, Any] = _ADDED if add else _INDEXED
    error = _scattered_error if add else None
    register(Op(
        name=f"{name}_unchecked", form="indexed", arity=(3, 3), prepare=_axis_prepare(name),
        infer=_scatter_type, reference=_scatter_unchecked_reference(add), gradient=gradient,
        error=error, samples=_scatter_samples, error_samples=_scatter_errors,
        doc=f"`{name}` at indices that are known to be in range.", **common,
    ))  # fmt: skip
    register(Op(
        name=name, form="composite", arity=(3, 3), prepare=_axis_prepare(name),
        infer=_scatter_type, reference=_scatter_reference(name, add), error=error,
        expand=_scatter_expand(name), samples=_scatter_samples, doc=doc, **common,
        error_samples=lambda: [*_scatter_errors(), ErrorSample(
            (TensorType(F32, (3,)), np.array([3]), TensorType(F32, (1,))), {"axis": 0},
            IndexOutOfRangeError, "index 3")],
    ))  # fmt: skip


_register_scatter("scatter_add", True, _scatter_add_gradient,
                  "The first operand with values added at indexed places along an axis, in order.")  # fmt: skip
_register_scatter("scatter", False, _scatter_gradient,
                  "The first operand with values put at indexed places along an axis; of equal "
                  "indices the last in row-major order stays.")  # fmt: skip
