"""Reductions made of others: variance, logsumexp, counting. Half precision is computed in
float32 and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .. import dtypes
from ..axes import reduced_shape
from ..op import Op, Sample, register
from ..types import Shape, TensorType
from .reduce import (
    REDUCTION,
    complex_error_samples,
    count,
    infer_as,
    infer_reduction,
    prepare_reduction,
    reduction_errors,
    reduction_samples,
    restore,
    widened,
)

if TYPE_CHECKING:
    from ..builder import Builder
    from ..dtypes import DType
    from ..node import Node

__all__: list[str] = []

F32, F64, F16, I32, BOOL = (
    dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int32, dtypes.bool_,
)  # fmt: skip


# -- variance ---------------------------------------------------------------------------
def _var_expand(
    b: Builder, x: Node, *, axis: Shape, keepdims: bool, correction: float
) -> Node:
    return b.cast(_variance(b, x, axis, keepdims, correction), x.type.dtype)


def _std_expand(
    b: Builder, x: Node, *, axis: Shape, keepdims: bool, correction: float
) -> Node:
    return b.cast(b.sqrt(_variance(b, x, axis, keepdims, correction)), x.type.dtype)


def _variance(b: Builder, x: Node, axis: Shape, keepdims: bool, correction: float) -> Node:
    """Of float32 the squares are taken and summed in float64: the result is rounded once."""
    exact = F64 if x.type.dtype is F32 else None
    centred = _centred(b, x, axis, exact)
    total = b.sum(b.mul(centred, centred), axis=axis, keepdims=keepdims)
    return b.div(total, max(count(x.type.shape, axis) - correction, 0.0))


def _centred(b: Builder, x: Node, axis: Shape, exact: DType | None = None) -> Node:
    """x less its mean, the difference being taken in the dtype `exact`."""
    wide = widened(b, x)
    mean = b.mean(wide, axis=axis, keepdims=True)
    if exact is not None:
        wide, mean = b.cast(wide, exact), b.cast(mean, exact)
    return b.sub(wide, mean)


def _var_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    x, axis = node.inputs[0], node.attrs["axis"]
    degrees = max(count(x.type.shape, axis) - node.attrs["correction"], 0.0)
    scale = b.div(b.mul(widened(b, restore(b, g, node)), 2.0), degrees)
    return (b.cast(b.mul(scale, _centred(b, x, axis)), x.type.dtype),)


def _std_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    """Zero where the deviation is zero, as in torch."""
    x, axis = node.inputs[0], node.attrs["axis"]
    degrees = max(count(x.type.shape, axis) - node.attrs["correction"], 0.0)
    out = widened(b, restore(b, node, node))
    flat = b.eq(out, 0.0)
    scale = b.div(widened(b, restore(b, g, node)), b.mul(b.where(flat, 1.0, out), degrees))
    scale = b.where(flat, 0.0, scale)
    return (b.cast(b.mul(scale, _centred(b, x, axis)), x.type.dtype),)


def _variance_reference(root: bool) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray, *, axis: Shape, keepdims: bool, correction: float
    ) -> np.ndarray:
        with np.errstate(all="ignore"):
            n = count(x.shape, axis)
            mean = np.true_divide(x.sum(axis=axis, keepdims=True), n)
            total = np.square(x - mean).sum(axis=axis, keepdims=keepdims)
            variance = np.true_divide(total, max(n - correction, 0.0))
            return np.sqrt(variance) if root else variance

    return reference


def _moment_samples() -> list[Sample]:
    return [
        *reduction_samples((F32, F64, F16, I32))(),
        Sample((TensorType(F32, (4, 3)),), {"axis": 0, "correction": 1}),
        Sample((TensorType(F32, (4, 1)),), {"axis": 1, "correction": 1}),
    ]


for _name, _expand, _gradient, _doc in (
    ("var", _var_expand, _var_gradient,
     "The variance over axes: the squares' sum over n less `correction`."),
    ("std", _std_expand, _std_gradient, "The standard deviation over axes, the root of `var`."),
):  # fmt: skip
    register(Op(
        name=_name, form="composite", category="reduction", arity=(1, 1), kinds="biuf",
        attrs={**REDUCTION, "correction": 0.0}, promote="float", prepare=prepare_reduction(_name),
        infer=infer_reduction,
        reference=_variance_reference(_name == "std"), expand=_expand, gradient=_gradient,
        ulp=8, samples=_moment_samples, error_samples=complex_error_samples, doc=_doc,
    ))  # fmt: skip


def _logsumexp_expand(b: Builder, x: Node, *, axis: Shape, keepdims: bool) -> Node:
    shape = reduced_shape(x.type.shape, axis, keepdims)
    if count(x.type.shape, axis) == 0:
        return b.full(-math.inf, shape, x.type.dtype)
    wide = widened(b, x)
    top = b.amax(wide, axis=axis, keepdims=True)
    # A top that is no number is left out: -inf - -inf would be NaN where the result is -inf.
    top = b.where(b.isfinite(top), top, 0.0)
    total = b.log(b.sum(b.exp(b.sub(wide, top)), axis=axis, keepdims=True))
    return b.cast(b.reshape(b.add(total, top), shape=shape), x.type.dtype)


def _logsumexp_reference(x: np.ndarray, *, axis: Shape, keepdims: bool) -> np.ndarray:
    with np.errstate(all="ignore"):
        top = x.max(axis=axis, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0.0)
        total = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
        return total.reshape(reduced_shape(x.shape, axis, keepdims))


def _logsumexp_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    x = node.inputs[0]
    out = widened(b, restore(b, node, node))
    out = b.where(b.eq(out, -math.inf), 0.0, out)
    share = b.exp(b.sub(widened(b, x), out))
    return (b.cast(b.mul(widened(b, restore(b, g, node)), share), x.type.dtype),)


register(Op(
    name="logsumexp", form="composite", category="reduction", arity=(1, 1), kinds="biuf",
    attrs=REDUCTION, promote="float", prepare=prepare_reduction("logsumexp"), infer=infer_reduction,
    reference=_logsumexp_reference, expand=_logsumexp_expand, gradient=_logsumexp_gradient,
    samples=lambda: [
        *reduction_samples((F32, F64, F16, I32))(),
        Sample((np.array([[-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0]], np.float32),),
               {"axis": 1}),
        Sample((TensorType(F32, (2, 3)),), {"axis": 1}, low=-1e30, high=1e30),
    ],
    error_samples=complex_error_samples, ulp=8,
    doc="The logarithm of the sum of exponentials over axes, without overflow; -inf over none.",
))  # fmt: skip


def _count_expand(b: Builder, x: Node, *, axis: Shape, keepdims: bool) -> Node:
    truth = x if x.type.dtype is BOOL else b.ne(x, 0)
    return b.sum(truth, axis=axis, keepdims=keepdims)


register(Op(
    name="count_nonzero", form="composite", category="reduction", arity=(1, 1),
    attrs=REDUCTION, prepare=prepare_reduction("count_nonzero"), infer=infer_as(dtypes.int64),
    reference=lambda x, *, axis, keepdims: np.asarray(
        (x != 0).sum(axis=axis, keepdims=keepdims, dtype=np.int64)
    ),
    expand=_count_expand,
    exact=True, discontinuous=True, samples=reduction_samples((F32, I32, BOOL, F16)),
    error_samples=reduction_errors, doc="How many elements over the axes are not zero.",
))  # fmt: skip
