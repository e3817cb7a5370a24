"""Products over a shared axis: matmul, and the forms that expand to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError, ShapeError
from .. import dtypes
from ..axes import one_axis, ordered_axes
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes
from .matrices import adjoint
from .reduce import sum_to, unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, F64, F16, I32, BOOL, C64 = (
    dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int32, dtypes.bool_, dtypes.complex64,
)  # fmt: skip
NUMERIC = "iufc"


def _types(*shapes: Shape, dtype: dtypes.DType = F32) -> tuple[TensorType, ...]:
    return tuple(TensorType(dtype, s) for s in shapes)


def _bool_error(*shapes: Shape, **attrs: Any) -> ErrorSample:
    return ErrorSample(_types(*shapes, dtype=BOOL), attrs, DTypeError, "bool")


# -- matmul -------------------------------------------------------------------------------
def _matmul_type(x: TensorType, y: TensorType) -> TensorType:
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"matmul: {x} with {y}", remedy="use * for 0-d operands")
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        raise ShapeError(
            f"matmul: {x} with {y}: inner extents {x.shape[-1]} and {inner} differ",
            remedy="transpose or reshape one operand",
        )
    batch = broadcast_shapes([x.shape[:-2], y.shape[:-2]], f"matmul: {x} with {y}: batch")
    rows = x.shape[-2:-1]
    columns = y.shape[-1:] if y.ndim > 1 else ()
    return TensorType(x.dtype, batch + rows + columns, x.device)


def _matmul_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.matmul(x, y)


def _matmul_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x, y = (np.abs(np.asarray(v, np.complex128)) for v in values)
    e, f = (np.broadcast_to(v, w.shape) for v, w in zip(errors, (x, y), strict=True))
    with np.errstate(all="ignore"):
        rounding = (x.shape[-1] + 2) * unit_roundoff(out.dtype)
        bound = np.matmul(x, f) + np.matmul(e, y + f) + rounding * np.matmul(x + e, y + f)
    return np.where(np.isnan(bound), np.inf, bound)


def _matmul_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node] | tuple[None, None]:
    """Vectors are taken as matrices of one row or column; batch broadcasting is undone."""
    x, y = node.inputs
    if not node.type.dtype.is_inexact:
        return None, None
    if x.type.ndim == 1 and y.type.ndim == 1:
        return (b.mul(g, _conjugate(b, y)), b.mul(g, _conjugate(b, x)))
    m = x if x.type.ndim > 1 else b.reshape(x, shape=(1, *x.type.shape))
    n = y if y.type.ndim > 1 else b.reshape(y, shape=(*y.type.shape, 1))
    batch = broadcast_shapes([m.type.shape[:-2], n.type.shape[:-2]])
    g = b.reshape(g, shape=(*batch, m.type.shape[-2], n.type.shape[-1]))
    left = sum_to(b, b.matmul(g, adjoint(b, n)), m.type.shape)
    if n.type.ndim == 2 and m.type.ndim > 2:  # one product in place of a batch and a sum
        rows = math.prod(m.type.shape[:-1])
        m = b.reshape(m, shape=(rows, m.type.shape[-1]))
        g = b.reshape(g, shape=(rows, n.type.shape[-1]))
    if _is_transposed(y):  # a weight's gradient in the layout of the weight
        product = adjoint(b, b.matmul(adjoint(b, g), m))
    else:
        product = b.matmul(adjoint(b, m), g)
    right = sum_to(b, product, n.type.shape)
    return b.reshape(left, shape=x.type.shape), b.reshape(right, shape=y.type.shape)


def _is_transposed(x: Node) -> bool:
    axes = x.attrs["axes"] if x.op.name == "permute" else ()
    return len(axes) > 1 and axes[-2:] == (len(axes) - 1, len(axes) - 2)


def _conjugate(b: Builder, x: Node) -> Node:
    return b.conj(x) if x.type.dtype.kind == "c" else x


_PRODUCTS: list[tuple[Shape, Shape]] = [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)), ((3, 0), (0, 2)), ((0, 3), (3, 2)), ((1, 1), (1, 1)),
]  # fmt: skip

register(Op(
    name="matmul", form="contraction", category="matmul", arity=(2, 2), kinds=NUMERIC,
    infer=_matmul_type, reference=_matmul_reference, gradient=_matmul_gradient,
    error=_matmul_error, cost=2.0,  # of each multiply-add along the shared axis
    samples=lambda: [
        *[Sample(_types(*s)) for s in _PRODUCTS],
        *[Sample(_types((3, 4), (4, 2), dtype=d)) for d in (F64, F16, I32, dtypes.uint8, C64)],
        Sample((TensorType(F32, (3, 4)), TensorType(I32, (4, 2)))),
    ],
    error_samples=lambda: [
        ErrorSample(_types((3, 4), (3, 4)), {}, ShapeError, "inner extents 4 and 3"),
        ErrorSample(_types((2, 3, 4), (3, 4, 5)), {}, ShapeError, "batch"),
        ErrorSample(_types((), (4,)), {}, ShapeError), _bool_error((2, 2), (2, 2)),
    ],
    doc="The matrix product of the last two axes, broadcast over the others; a 1-d operand is "
    "a row on the left and a column on the right.",
))  # fmt: skip


# -- dot, vecdot, outer, bmm --------------------------------------------------------------
def _dot_type(x: TensorType, y: TensorType) -> TensorType:
    if x.ndim == 0 or y.ndim == 0:
        return x.with_shape(x.shape + y.shape)
    inner = -2 if y.ndim > 1 else -1
    if x.shape[-1] != y.shape[inner]:
        raise ShapeError(
            f"dot: {x} with {y}: extents {x.shape[-1]} and {y.shape[inner]} differ",
            remedy="transpose or reshape one operand",
        )
    rest = y.shape[:-2] + y.shape[-1:] if y.ndim > 1 else ()
    return x.with_shape(x.shape[:-1] + rest)


def _dot_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NumPy's dot takes 0 times infinity of a 0-d operand for 0."""
    with np.errstate(all="ignore"):
        return np.dot(x, y) if x.ndim and y.ndim else np.multiply(x, y)


def _dot_expand(b: Builder, x: Node, y: Node) -> Node:
    if x.type.ndim == 0 or y.type.ndim == 0:
        return b.mul(x, y)
    if y.type.ndim <= 2:
        return b.matmul(x, y)
    return b.tensordot(x, y, axes=((-1,), (-2,)))


register(Op(
    name="dot", form="composite", category="matmul", arity=(2, 2), kinds=NUMERIC,
    infer=_dot_type, expand=_dot_expand, cost=2.0, reference=_dot_reference,
    samples=lambda: [
        *[Sample(_types(*s)) for s in [((4,), (4,)), ((3, 4), (4, 2)), ((), (3,)), ((2, 3), (3,)),
                                       ((2, 3), (4, 3, 2)), ((0,), (0,))]],
        Sample(_types((4,), (4,), dtype=I32)), Sample(_types((4,), (4,), dtype=C64)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((3,), (4,)), {}, ShapeError, "3 and 4"), _bool_error((2,), (2,)),
    ],
    doc="The sum of products over the last axis of one and the last but one of the other "
    "operand (NumPy's dot).",
))  # fmt: skip


def _vecdot_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    x, y = types
    ndim = max(x.ndim, y.ndim)
    axis = one_axis(attrs["axis"], ndim, "vecdot")
    if axis < ndim - min(x.ndim, y.ndim):
        raise AxisError(f"vecdot: {x} and {y} do not share axis {axis - ndim}",
                        remedy="name an axis that both operands have")  # fmt: skip
    n, m = x.shape[axis - ndim], y.shape[axis - ndim]
    if n != m:
        raise ShapeError(f"vecdot: {x} with {y}: extents {n} and {m} differ along axis {axis}",
                         remedy="make the extents of the axis equal")  # fmt: skip
    return {"axis": axis}


def _vecdot_type(x: TensorType, y: TensorType, *, axis: int) -> TensorType:
    shape = broadcast_shapes([x.shape, y.shape], "vecdot")
    return TensorType(x.dtype, shape[:axis] + shape[axis + 1 :], x.device)


def _vecdot_expand(b: Builder, x: Node, y: Node, *, axis: int) -> Node:
    products = b.mul(_conjugate(b, x), y)
    return b.sum(products, axis=axis, dtype=x.type.dtype)


register(Op(
    name="vecdot", form="composite", category="reduction", arity=(2, 2), kinds=NUMERIC,
    attrs={"axis": -1}, prepare=_vecdot_prepare, infer=_vecdot_type, expand=_vecdot_expand,
    reference=lambda x, y, *, axis: np.sum(np.conj(x) * y, axis=axis, dtype=x.dtype), cost=2.0,
    samples=lambda: [
        Sample(_types((3, 4), (3, 4))), Sample(_types((3, 4), (4,))),
        Sample(_types((2, 3, 4), (3, 4)), {"axis": -2}), Sample(_types((0,), (0,))),
        Sample(_types((3, 4), (1, 4), dtype=I32)), Sample(_types((4,), (4,), dtype=C64)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((3,), (4,)), {}, ShapeError, "3 and 4"),
        ErrorSample(_types((3, 4), (4,)), {"axis": 0}, AxisError, "share"),
        ErrorSample(_types((3, 1), (3, 4)), {}, ShapeError), _bool_error((2,), (2,)),
    ],
    doc="The sum along an axis of the products of conjugate(first) and second.",
))  # fmt: skip


def _outer_type(x: TensorType, y: TensorType) -> TensorType:
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer: {x} with {y}", remedy="flatten both operands to 1-d")
    return x.with_shape(x.shape + y.shape)


register(Op(
    name="outer", form="composite", category="elementwise", arity=(2, 2), kinds=NUMERIC,
    infer=_outer_type, reference=lambda x, y: np.multiply.outer(x, y),
    expand=lambda b, x, y: b.mul(b.reshape(x, shape=(x.type.shape[0], 1)), y),
    samples=lambda: [
        Sample(_types((3,), (4,))), Sample(_types((0,), (2,))),
        Sample(_types((1,), (2,), dtype=I32)),
        Sample(_types((2,), (2,), dtype=C64)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((3, 1), (4,)), {}, ShapeError, "1-d"), _bool_error((2,), (2,)),
    ],
    doc="The products of every element of one vector with every element of the other.",
))  # fmt: skip


def _bmm_type(x: TensorType, y: TensorType) -> TensorType:
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0]:
        raise ShapeError(f"bmm: {x} with {y}",
                         remedy="give 3-d operands of one batch extent, or use matmul")  # fmt: skip
    return _matmul_type(x, y)


register(Op(
    name="bmm", form="composite", category="matmul", arity=(2, 2), kinds=NUMERIC,
    infer=_bmm_type, reference=_matmul_reference, expand=lambda b, x, y: b.matmul(x, y), cost=2.0,
    samples=lambda: [
        Sample(_types((2, 3, 4), (2, 4, 5))), Sample(_types((0, 3, 4), (0, 4, 5))),
        Sample(_types((2, 1, 4), (2, 4, 1), dtype=F64)),
        Sample(_types((2, 2, 2), (2, 2, 2), dtype=I32)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((2, 3, 4), (4, 5)), {}, ShapeError, "3-d"),
        ErrorSample(_types((2, 3, 4), (2, 3, 4)), {}, ShapeError, "inner"),
        _bool_error((1, 2, 2), (1, 2, 2)),
    ],
    doc="The products of two batches of matrices.",
))  # fmt: skip


# -- tensordot ----------------------------------------------------------------------------
def _tensordot_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    x, y = types
    axes = attrs["axes"]
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ArgumentError(f"tensordot: {axes} axes of {x} and {y}",
                                remedy="name at most as many axes as both have")  # fmt: skip
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise ArgumentError(f"tensordot: axes {axes!r}", remedy="give a number or two tuples")
    left = ordered_axes(axes[0], x.ndim, "tensordot")
    right = ordered_axes(axes[1], y.ndim, "tensordot")
    if [x.shape[i] for i in left] != [y.shape[i] for i in right]:
        raise ShapeError(f"tensordot: {x} over axes {left} with {y} over axes {right}",
                         remedy="pair axes of equal extents")  # fmt: skip
    return {"axes": (left, right)}


def _tensordot_type(x: TensorType, y: TensorType, *, axes: tuple[Shape, Shape]) -> TensorType:
    left = tuple(n for i, n in enumerate(x.shape) if i not in axes[0])
    return x.with_shape(left + tuple(n for i, n in enumerate(y.shape) if i not in axes[1]))


def _tensordot_expand(b: Builder, x: Node, y: Node, *, axes: tuple[Shape, Shape]) -> Node:
    rows = [i for i in range(x.type.ndim) if i not in axes[0]]
    columns = [i for i in range(y.type.ndim) if i not in axes[1]]
    inner = math.prod(x.type.shape[i] for i in axes[0])
    x_shape = [x.type.shape[i] for i in rows]
    y_shape = [y.type.shape[i] for i in columns]
    left = b.reshape(b.permute(x, axes=(*rows, *axes[0])), shape=(math.prod(x_shape), inner))
    right = b.reshape(b.permute(y, axes=(*axes[1], *columns)), shape=(inner, math.prod(y_shape)))
    return b.reshape(b.matmul(left, right), shape=(*x_shape, *y_shape))


def _tensordot_reference(x: np.ndarray, y: np.ndarray, *, axes: tuple[Shape, Shape]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.tensordot(x, y, axes)


register(Op(
    name="tensordot", form="composite", category="matmul", arity=(2, 2), kinds=NUMERIC,
    attrs={"axes": 2}, prepare=_tensordot_prepare, infer=_tensordot_type,
    reference=_tensordot_reference, expand=_tensordot_expand, cost=2.0,
    samples=lambda: [
        Sample(_types((2, 3, 4), (3, 4, 5))), Sample(_types((2, 3), (3, 4)), {"axes": 1}),
        Sample(_types((2, 3), (4,)), {"axes": 0}),
        Sample(_types((2, 3, 4), (4, 5, 2)), {"axes": ((0, -1), (2, 0))}),
        Sample(_types((2, 0), (0, 3)), {"axes": 1}), Sample(_types((2, 2), (2, 2), dtype=I32)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((2, 3), (2, 3)), {"axes": 1}, ShapeError, "axes"),
        ErrorSample(_types((2, 3), (2, 3)), {"axes": 3}, ArgumentError),
        ErrorSample(_types((2, 3), (2, 3)), {"axes": ((0,), (2,))}, AxisError),
        _bool_error((2, 2), (2, 2)),
    ],
    doc="The sum of products over pairs of axes.",
))  # fmt: skip


# -- linear -------------------------------------------------------------------------------
def _linear_type(x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: {x} with a weight of {weight}",
            remedy="the weight is [outputs, inputs], and inputs is the last extent of x",
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: a bias of {bias} for a weight of {weight}",
                         remedy="the bias is [outputs]")  # fmt: skip
    return x.with_shape(x.shape[:-1] + weight.shape[:1])


def _linear_reference(x: np.ndarray, weight: np.ndarray, *bias: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return sum(bias, np.matmul(x, weight.T))


def _linear_expand(b: Builder, x: Node, weight: Node, bias: Node | None = None) -> Node:
    product = b.matmul(x, b.permute(weight, axes=(1, 0)))
    return product if bias is None else b.add(product, bias)


register(Op(
    name="linear", form="composite", category="matmul", arity=(2, 3), kinds=NUMERIC,
    infer=_linear_type, reference=_linear_reference, expand=_linear_expand, cost=2.0,
    samples=lambda: [
        Sample(_types((3, 4), (5, 4), (5,))), Sample(_types((3, 4), (5, 4))),
        Sample(_types((4,), (5, 4), (5,))), Sample(_types((2, 3, 4), (5, 4), (5,))),
        Sample(_types((0, 4), (5, 4), (5,))), Sample(_types((3, 4), (5, 4), (5,), dtype=F64)),
    ],
    error_samples=lambda: [
        ErrorSample(_types((3, 4), (4, 5)), {}, ShapeError, "outputs, inputs"),
        ErrorSample(_types((3, 4), (5, 4), (4,)), {}, ShapeError, "bias"),
        _bool_error((2, 2), (2, 2)),
    ],
    doc="x @ weight.T + bias, with the weight as [outputs, inputs].",
))  # fmt: skip
