"""Reductions, and what the rules of all reductions share.

They have `axis`, a sorted tuple of axes (None, all of them, when applied), and `keepdims`.
The NumPy references get float64 for the smaller floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ...errors import AxisError, DTypeError, EmptyReductionError
from .. import dtypes
from ..axes import kept_shape, reduced_shape, some_axes
from ..dtypes import DType
from ..op import ErrorSample, Op, Sample, get_op, register
from ..types import Shape, TensorType

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = [
    "REDUCTION", "Prepare", "accumulator", "bounded", "complex_error_samples", "converted", "count",
    "exclusive_product", "infer_as", "infer_reduction", "magnitude", "part_along",
    "prepare_reduction", "reduction_errors", "reduction_samples", "restore", "sum_to",
    "unit_roundoff", "wide_dtype", "widened",
]  # fmt: skip

F32, F64, F16, I32, I64, U8, BOOL = (
    dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int32, dtypes.int64, dtypes.uint8,
    dtypes.bool_,
)  # fmt: skip

Prepare = Callable[[Sequence[TensorType], dict[str, Any]], dict[str, Any]]


# -- shared by the rules ------------------------------------------------------------------
def restore(b: Builder, g: Node, node: Node) -> Node:
    """A reduction's cotangent `g` (or its result) with the reduced axes back as 1."""
    return b.reshape(g, shape=kept_shape(node.inputs[0].type.shape, node.attrs["axis"]))


def _spread(b: Builder, g: Node, node: Node) -> Node:
    """A reduction's cotangent, spread over its operand's shape and in its dtype."""
    x = node.inputs[0].type
    return b.cast(b.broadcast_to(restore(b, g, node), shape=x.shape), x.dtype)


def sum_to(b: Builder, g: Node, shape: Shape) -> Node:
    """Undo broadcasting: `g` summed to `shape`, from which it was broadcast."""
    extra = g.type.ndim - len(shape)
    ones = [i + extra for i, n in enumerate(shape) if n == 1 and g.type.shape[i + extra] != 1]
    axes = (*range(extra), *ones)
    if axes:
        g = b.sum(g, axis=axes, keepdims=False)
    return g if g.type.shape == shape else b.reshape(g, shape=shape)


def widened(b: Builder, x: Node) -> Node:
    """Half precision carried to float32, in which composites compute; others as they are."""
    return b.cast(x, F32) if x.type.dtype.kind == "f" and x.type.dtype.itemsize == 2 else x


def unit_roundoff(dtype: Any) -> float:
    """The spacing of `dtype` at 1, which bounds an operation's relative error; 0 for integers."""
    if np.dtype(dtype).kind in "biu":
        return 0.0
    return float(ml_dtypes.finfo(dtype).eps)


def prepare_reduction(name: str) -> Prepare:
    """The rule that brings a reduction's attributes into canonical form."""

    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        axis = some_axes(attrs["axis"], types[0].ndim, name)
        full = {**attrs, "axis": axis, "keepdims": bool(attrs["keepdims"])}
        if "dtype" in attrs:
            full["dtype"] = accumulator(types[0].dtype, attrs["dtype"])
        if "correction" in attrs:
            full["correction"] = float(attrs["correction"])
        return full

    return prepare


def accumulator(source: DType, wanted: Any) -> DType:
    """The dtype of a sum or product: integers widen to 64 bits unless another is asked for."""
    if wanted is not None:
        return dtypes.to_dtype(wanted)
    if source.kind in "bi":
        return dtypes.int64
    return dtypes.uint64 if source.kind == "u" else source


def infer_reduction(x: TensorType, *, axis: Shape, keepdims: bool, **attrs: Any) -> TensorType:
    dtype = attrs.get("dtype", x.dtype)
    return TensorType(dtype, reduced_shape(x.shape, axis, keepdims), x.device)


def infer_as(dtype: DType) -> Callable[..., TensorType]:
    """The type rule of a reduction whose result has a dtype of its own."""

    def infer(x: TensorType, *, axis: Shape, keepdims: bool) -> TensorType:
        return TensorType(dtype, reduced_shape(x.shape, axis, keepdims), x.device)

    return infer


def wide_dtype(dtype: DType) -> Any:
    """What NumPy accumulates in for a result of `dtype`."""
    return {"f": np.float64, "c": np.complex128}.get(dtype.kind, dtype.numpy)


def converted(x: np.ndarray, dtype: DType) -> np.ndarray:
    """`x` cast to `dtype`, then held wide enough to accumulate in."""
    rounded = get_op("cast").reference(x, dtype=dtype, weak=False)
    return rounded.astype(wide_dtype(dtype))


REDUCTION = {"axis": None, "keepdims": False}
_SHAPES: list[tuple[Shape, dict[str, Any]]] = [
    ((3, 4), {}), ((3, 4), {"axis": 0}), ((2, 3, 4), {"axis": (-1, 0), "keepdims": True}),
    ((), {}), ((5, 1), {"axis": 1}), ((2, 3), {"axis": ()}),
]  # fmt: skip
_EMPTY: list[tuple[Shape, dict[str, Any]]] = [
    ((0,), {}), ((3, 0), {"axis": 1}), ((3, 0), {"axis": 0}),
]  # fmt: skip


def reduction_samples(
    dtypes_: Sequence[DType], empty: bool = True, **more: Any
) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        cases = _SHAPES + (_EMPTY if empty else [((3, 0), {"axis": 0})])
        found = [Sample((TensorType(dtypes_[0], s),), {**a, **more}) for s, a in cases]
        found += [Sample((TensorType(d, (4, 3)),), {"axis": -1, **more}) for d in dtypes_[1:]]
        return found

    return samples


def reduction_errors() -> list[ErrorSample]:
    x = TensorType(F32, (2, 3))
    return [
        ErrorSample((x,), {"axis": 2}, AxisError, "axis 2"),
        ErrorSample((x,), {"axis": (0, -2)}, AxisError, "twice"),
    ]


def complex_error_samples() -> list[ErrorSample]:
    z = TensorType(dtypes.complex64, (2, 3))
    return [*reduction_errors(), ErrorSample((z,), {"axis": 0}, DTypeError)]


def magnitude(x: Any) -> np.ndarray:
    return np.abs(np.asarray(x, dtype=np.complex128 if np.iscomplexobj(x) else np.float64))


def bounded(bound: Any) -> np.ndarray:
    """NaN in a bound (inf - inf, 0 * inf) says nothing: no bound."""
    return np.where(np.isnan(bound), np.inf, bound)


def count(shape: Shape, axis: Shape) -> int:
    return math.prod(shape[a] for a in axis)


# -- sum, prod, mean ----------------------------------------------------------------------
def _sum_reference(x: np.ndarray, *, axis: Shape, keepdims: bool, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return converted(x, dtype).sum(axis=axis, keepdims=keepdims, dtype=wide_dtype(dtype))


def _prod_reference(x: np.ndarray, *, axis: Shape, keepdims: bool, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return converted(x, dtype).prod(axis=axis, keepdims=keepdims, dtype=wide_dtype(dtype))


def _mean_reference(x: np.ndarray, *, axis: Shape, keepdims: bool) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.true_divide(x.sum(axis=axis, keepdims=keepdims), count(x.shape, axis))


def _sum_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    axis, keep = attrs["axis"], attrs["keepdims"]
    n = count(np.shape(values[0]), axis)
    carried = np.sum(errors[0], axis=axis, keepdims=keep)
    size = np.sum(magnitude(values[0]), axis=axis, keepdims=keep)
    return bounded(carried + n * unit_roundoff(out.dtype) * (size + carried))


def _mean_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    n = max(count(np.shape(values[0]), attrs["axis"]), 1)
    total = _sum_error(values, errors, out, attrs)
    return bounded(total / n + unit_roundoff(out.dtype) * magnitude(out))


def _prod_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    axis, keep = attrs["axis"], attrs["keepdims"]
    n = count(np.shape(values[0]), axis)
    size = magnitude(values[0])
    with np.errstate(all="ignore"):
        most = np.prod(size + errors[0], axis=axis, keepdims=keep)
        return bounded(
            most - np.prod(size, axis=axis, keepdims=keep) + n * unit_roundoff(out.dtype) * most
        )


def _mean_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    n = count(node.inputs[0].type.shape, node.attrs["axis"])
    return (_spread(b, b.div(g, float(n)), node),)


def _prod_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    """Each element's cofactor as (product before it) * (product behind it): zeros need no
    special case, and every derivative of it is right as well."""
    x = node.inputs[0]
    if not x.type.dtype.is_inexact:
        return (None,)
    axis, shape = node.attrs["axis"], x.type.shape
    others = tuple(i for i in range(x.type.ndim) if i not in axis)
    order = others + axis
    flat = b.permute(b.cast(x, node.type.dtype), axes=order)
    flat = b.reshape(flat, shape=(*[shape[i] for i in others], count(shape, axis)))
    last = len(others)
    before = exclusive_product(b, flat, last)
    behind = b.flip(exclusive_product(b, b.flip(flat, axis=(last,)), last), axis=(last,))
    cofactor = b.reshape(b.mul(before, behind), shape=tuple(shape[i] for i in order))
    cofactor = b.permute(cofactor, axes=tuple(np.argsort(order).tolist()))
    if cofactor.type.dtype.kind == "c":
        cofactor = b.conj(cofactor)
    return (b.cast(b.mul(restore(b, g, node), cofactor), x.type.dtype),)


def exclusive_product(b: Builder, x: Node, axis: int) -> Node:
    """Along `axis`, the product of the elements before each one."""
    n = x.type.shape[axis]
    if n == 0:
        return x
    one = b.full(1.0, kept_shape(x.type.shape, (axis,)), x.type.dtype)
    return b.cumprod(b.cat(one, part_along(b, x, axis, 0, n - 1), axis=axis), axis=axis)


def part_along(b: Builder, x: Node, axis: int, start: int, stop: int) -> Node:
    """``x[..., start:stop, ...]`` along `axis`."""
    shape = x.type.shape
    return b.slice(
        x,
        start=tuple(start if i == axis else 0 for i in range(len(shape))),
        stop=tuple(stop if i == axis else n for i, n in enumerate(shape)),
        step=(1,) * len(shape),
    )


def _sum_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    return (_spread(b, g, node) if node.inputs[0].type.dtype.is_inexact else None,)


_TOTAL: dict[str, Any] = {
    "form": "reduce", "category": "reduction", "arity": (1, 1),
    "attrs": {**REDUCTION, "dtype": None}, "infer": infer_reduction,
    "error_samples": reduction_errors,
}  # fmt: skip
_TOTAL_DTYPES = (F32, F64, F16, I32, U8, BOOL, dtypes.complex64)

register(Op(
    name="sum", **_TOTAL, prepare=prepare_reduction("sum"), reference=_sum_reference,
    gradient=_sum_gradient, error=_sum_error,
    samples=lambda: [
        *reduction_samples(_TOTAL_DTYPES)(),
        Sample((TensorType(F32, (4, 3)),), {"axis": 0, "dtype": F64}),
        Sample((TensorType(I32, (4, 3)),), {"axis": 1, "dtype": F32}),
    ],
    doc="The sum over axes. Bool and integers add up in 64 bits; `dtype` converts first.",
))  # fmt: skip

register(Op(
    name="prod", **_TOTAL, prepare=prepare_reduction("prod"), reference=_prod_reference,
    gradient=_prod_gradient, error=_prod_error, samples=reduction_samples(_TOTAL_DTYPES),
    doc="The product over axes. Bool and integers multiply in 64 bits; `dtype` converts first.",
))  # fmt: skip

register(Op(
    name="mean", form="reduce", category="reduction", arity=(1, 1), attrs=REDUCTION,
    promote="float", prepare=prepare_reduction("mean"), infer=infer_reduction,
    reference=_mean_reference,
    gradient=_mean_gradient, error=_mean_error, error_samples=reduction_errors,
    samples=reduction_samples((F32, F64, F16, I32, BOOL, dtypes.complex128)), ulp=1,
    doc="The arithmetic mean over axes; NaN over no elements.",
))  # fmt: skip


# -- extrema ------------------------------------------------------------------------------
def _infer_extremum(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axis: Shape, keepdims: bool) -> TensorType:
        _need_elements(x, axis, name)
        return TensorType(x.dtype, reduced_shape(x.shape, axis, keepdims), x.device)

    return infer


def _need_elements(x: TensorType, axis: Shape, name: str) -> None:
    result = math.prod(n for i, n in enumerate(x.shape) if i not in axis)
    if count(x.shape, axis) == 0 and result:
        raise EmptyReductionError(
            f"{name}: {x} has no elements over axes {axis}, and {name} has no identity",
            remedy="make sure that the reduced axes are not empty, or treat that case apart",
        )


def _extremum_reference(fold: Any) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, *, axis: Shape, keepdims: bool) -> np.ndarray:
        if x.size == 0:
            return np.empty(reduced_shape(x.shape, axis, keepdims), x.dtype)
        with np.errstate(all="ignore"):
            return fold.reduce(x, axis=axis, keepdims=keepdims)

    return reference


def _extremum_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    """Ties share equally, as in torch."""
    x = node.inputs[0]
    if not x.type.dtype.is_inexact:
        return (None,)
    chosen = b.eq(x, restore(b, node, node))
    ties = b.sum(chosen, axis=node.attrs["axis"], keepdims=True)
    return (b.where(chosen, b.div(restore(b, g, node), b.cast(ties, x.type.dtype)), 0.0),)


def _extremum_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    return np.max(errors[0], axis=attrs["axis"], keepdims=attrs["keepdims"], initial=0.0)


def _empty_error_samples() -> list[ErrorSample]:
    return [
        *complex_error_samples(),
        ErrorSample((TensorType(F32, (3, 0)),), {"axis": 1}, EmptyReductionError, "identity"),
    ]


def _register_extremum(name: str, fold: Any, word: str) -> None:
    register(Op(
        name=name, form="reduce", category="reduction", arity=(1, 1), attrs=REDUCTION,
        kinds="biuf", prepare=prepare_reduction(name), infer=_infer_extremum(name),
        reference=_extremum_reference(fold), gradient=_extremum_gradient,
        error=_extremum_error, error_samples=_empty_error_samples,
        samples=reduction_samples((F32, F64, F16, I32, U8, BOOL), empty=False),
        doc=f"The {word} over axes. NaN wins; the gradient is shared by equal elements.",
    ))  # fmt: skip


_register_extremum("amax", np.maximum, "greatest element")
_register_extremum("amin", np.minimum, "least element")


# -- any, all -----------------------------------------------------------------------------
def _truth_error(unit: bool) -> Callable[..., np.ndarray]:
    """No error where an element that is surely `unit` decides, or all are sure."""

    def error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
        axis, keep = attrs["axis"], attrs["keepdims"]
        size = magnitude(values[0])
        sure_true = size > errors[0]
        sure_false = (size == 0) & (errors[0] == 0)
        decided = np.any(sure_true if unit else sure_false, axis=axis, keepdims=keep)
        decided |= np.all(sure_true | sure_false, axis=axis, keepdims=keep)
        return np.where(decided, 0.0, np.inf)

    return error


def _register_truth(name: str, unit: bool, doc: str) -> None:
    fold = np.any if unit else np.all

    def reference(x: np.ndarray, *, axis: Shape, keepdims: bool) -> np.ndarray:
        return np.asarray(fold(x != 0, axis=axis, keepdims=keepdims))

    register(Op(
        name=name, form="reduce", category="reduction", arity=(1, 1), attrs=REDUCTION,
        prepare=prepare_reduction(name), infer=infer_as(dtypes.bool_), reference=reference,
        exact=True,
        discontinuous=True, error=_truth_error(unit), error_samples=reduction_errors,
        samples=reduction_samples((BOOL, F32, F16, I32, dtypes.complex64)), doc=doc,
    ))  # fmt: skip


_register_truth("any", True, "Whether any element over the axes is not zero (NaN is not).")
_register_truth("all", False, "Whether no element over the axes is zero.")


# -- argmax, argmin -----------------------------------------------------------------------
def _prepare_arg(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        axis = some_axes(attrs["axis"], types[0].ndim, name)
        if len(axis) != 1:
            raise AxisError(
                f"{name} of {types[0]} takes one axis, got {axis}",
                remedy="name one axis, or flatten the operand first",
            )
        return {"axis": axis, "keepdims": bool(attrs["keepdims"])}

    return prepare


def _infer_arg(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axis: Shape, keepdims: bool) -> TensorType:
        _need_elements(x, axis, name)
        return TensorType(dtypes.int64, reduced_shape(x.shape, axis, keepdims), x.device)

    return infer


def _arg_error(sign: float) -> Callable[..., np.ndarray]:
    """No error where one element is surely the extreme one."""

    def error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
        axis, keep = attrs["axis"][0], attrs["keepdims"]
        x = sign * np.asarray(values[0], dtype=np.float64)
        with np.errstate(all="ignore"):
            floor = np.max(x - errors[0], axis=axis, keepdims=True, initial=-np.inf)
            rivals = np.sum(~(x + errors[0] < floor), axis=axis, keepdims=keep)
        exact = np.all(errors[0] == 0, axis=axis, keepdims=keep)
        return np.where(exact | (rivals <= 1), 0.0, np.inf)

    return error


def _register_arg(name: str, choose: Any, sign: float, word: str) -> None:
    def reference(x: np.ndarray, *, axis: Shape, keepdims: bool) -> np.ndarray:
        if x.size == 0:
            return np.empty(reduced_shape(x.shape, axis, keepdims), np.int64)
        return choose(x, axis=axis[0], keepdims=keepdims).astype(np.int64)

    register(Op(
        name=name, form="reduce", category="reduction", arity=(1, 1), attrs=REDUCTION,
        kinds="biuf", prepare=_prepare_arg(name), infer=_infer_arg(name), reference=reference,
        discontinuous=True, error=_arg_error(sign),
        samples=lambda: [
            Sample((TensorType(F32, (7,)),)),
            Sample((TensorType(F32, (3, 4)),), {"axis": 0}),
            Sample((TensorType(F64, (2, 3, 4)),), {"axis": -2, "keepdims": True}),
            Sample((np.array([2.0, np.nan, 5.0, np.nan], np.float32),), {"axis": 0}),
            Sample((np.array([[3, 1, 3], [1, 1, 7]], np.int32),), {"axis": 1}),
            Sample((TensorType(F16, (5, 2)),), {"axis": 0}),
            Sample((TensorType(BOOL, (5, 2)),), {"axis": 0}),
            Sample((TensorType(F32, (0, 3)),), {"axis": 1}),
        ],
        error_samples=lambda: [
            ErrorSample((TensorType(F32, (2, 3)),), {}, AxisError, "one axis"),
            ErrorSample((TensorType(F32, (2, 3)),), {"axis": 2}, AxisError, "axis 2"),
            ErrorSample((TensorType(F32, (2, 0)),), {"axis": 1}, EmptyReductionError),
            ErrorSample((TensorType(dtypes.complex64, (2,)),), {"axis": 0}, DTypeError),
        ],
        doc=f"The place of the {word} element along one axis: the first among equals, NaN "
        "before all.",
    ))  # fmt: skip


_register_arg("argmax", np.argmax, 1.0, "greatest")
_register_arg("argmin", np.argmin, -1.0, "least")
