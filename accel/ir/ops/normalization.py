"""Softmax and the normalisations: composites of reductions and pointwise ops.

Half precision is computed in float32 and rounded once. The explicit gradients are closed
forms with few reductions, so that each fuses into one kernel over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError, ShapeError
from .. import dtypes
from ..axes import one_axis
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .reduce import Prepare, sum_to, widened

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F16, F32, F64, I32 = dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32


# -- softmax, log_softmax -----------------------------------------------------------------
def _shifted(b: Builder, x: Node, axis: int) -> tuple[Node, Node, Node]:
    """x - max(x), its exponential, and the exponential's sum, along `axis`."""
    wide = widened(b, x)
    shifted = b.sub(wide, b.amax(wide, axis=axis, keepdims=True))
    power = b.exp(shifted)
    return shifted, power, b.sum(power, axis=axis, keepdims=True)


def _softmax_expand(b: Builder, x: Node, *, axis: int) -> Node:
    if x.type.size == 0:
        return x
    _, power, total = _shifted(b, x, axis)  # a total is at least 1, or NaN
    return b.cast(b.mul(power, b.reciprocal(total)), x.type.dtype)


def _log_softmax_expand(b: Builder, x: Node, *, axis: int) -> Node:
    if x.type.size == 0:
        return x
    shifted, _, total = _shifted(b, x, axis)
    return b.cast(b.sub(shifted, b.log(total)), x.type.dtype)


def _softmax_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    y, g = widened(b, node), widened(b, g)
    mean = b.sum(b.mul(g, y), axis=node.attrs["axis"], keepdims=True)
    return (b.cast(b.mul(y, b.sub(g, mean)), node.type.dtype),)


def _log_softmax_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    y, g = widened(b, node), widened(b, g)
    total = b.sum(g, axis=node.attrs["axis"], keepdims=True)
    return (b.cast(b.sub(g, b.mul(b.exp(y), total)), node.type.dtype),)


def _softmax_reference(x: np.ndarray, *, axis: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        power = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
        return power / power.sum(axis=axis, keepdims=True)


def _log_softmax_reference(x: np.ndarray, *, axis: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _softmax_samples() -> list[Sample]:
    special = np.array([[-np.inf, 1, 2], [-np.inf] * 3, [np.inf, 1, 2], [np.nan, 0, 1]], np.float32)
    return [
        Sample((TensorType(F32, (3, 4)),), {"axis": -1}),
        Sample((TensorType(F32, (2, 3, 4)),), {"axis": 1}),
        Sample((TensorType(F32, (4,)),), {"axis": 0}, low=-1e4, high=1e4),
        Sample((TensorType(F64, (3, 1)),), {"axis": 1}),
        Sample((TensorType(F16, (3, 4)),), {"axis": 0}),
        Sample((TensorType(I32, (3, 4)),), {"axis": 0}),
        Sample((TensorType(F32, (0, 4)),), {"axis": 1}),
        Sample((TensorType(F32, (4, 0)),), {"axis": 1}),
        Sample((special,), {"axis": 1}),
    ]


def _register_softmax(name: str, reference: Any, expand: Any, gradient: Any, doc: str) -> None:
    register(Op(
        name=name, form="composite", category="reduction", arity=(1, 1), kinds="biuf",
        promote="float", attrs={"axis": -1},
        prepare=lambda types, attrs: {"axis": one_axis(attrs["axis"], types[0].ndim, name)},
        infer=lambda x, *, axis: x.with_shape(x.shape), reference=reference, expand=expand,
        gradient=gradient, ulp=8, samples=_softmax_samples, cost=8.0, doc=doc,
        error_samples=lambda: [
            ErrorSample((TensorType(F32, (2, 3)),), {"axis": 2}, AxisError, "axis 2"),
            ErrorSample((TensorType(F32, ()),), {}, AxisError, "0-d"),
            ErrorSample((TensorType(dtypes.complex64, (2,)),), {}, DTypeError),
        ],
    ))  # fmt: skip


_register_softmax(
    "softmax", _softmax_reference, _softmax_expand, _softmax_gradient,
    "Exponentials along an axis over their sum, without overflow; a row of -inf is NaN.",
)  # fmt: skip
_register_softmax(
    "log_softmax", _log_softmax_reference, _log_softmax_expand, _log_softmax_gradient,
    "The logarithm of `softmax`, without overflow.",
)  # fmt: skip


# -- layer_norm, rms_norm -----------------------------------------------------------------
def _norm_prepare(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        x, n = types[0], attrs["normalized_ndim"]
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= x.ndim:
            raise ArgumentError(f"{name}: {n!r} normalised dimensions of {x}",
                                remedy=f"give a number from 1 to {x.ndim}")  # fmt: skip
        for t, word in zip(types[1:], ("weight", "bias"), strict=False):
            if t.shape != x.shape[x.ndim - n :]:
                raise ShapeError(f"{name}: a {word} of {t} for the last {n} dimensions of {x}",
                                 remedy=f"make the {word}'s shape that of these")  # fmt: skip
        return {"normalized_ndim": n, "eps": float(attrs["eps"])}

    return prepare


def _rows(x: Node, normalized_ndim: int) -> Shape:
    return tuple(range(x.type.ndim - normalized_ndim, x.type.ndim))


def _normalized(b: Builder, x: Node, axes: Shape, eps: float, centre: bool) -> tuple[Node, Node]:
    """The normalised rows, and the factor that each was scaled by."""
    wide = widened(b, x)
    if centre:
        wide = b.sub(wide, b.mean(wide, axis=axes, keepdims=True))
    square = b.mean(b.mul(wide, wide), axis=axes, keepdims=True)
    scale = b.div(1.0, b.sqrt(b.add(square, eps)))
    return b.mul(wide, scale), scale


def _norm_expand(centre: bool) -> Callable[..., Node]:
    def expand(
        b: Builder, x: Node, weight: Node | None = None, bias: Node | None = None,
        *, normalized_ndim: int, eps: float,
    ) -> Node:  # fmt: skip
        result, _ = _normalized(b, x, _rows(x, normalized_ndim), eps, centre)
        if weight is not None:
            result = b.mul(result, weight)
        if bias is not None:
            result = b.add(result, bias)
        return b.cast(result, x.type.dtype)

    return expand


def _norm_gradient(centre: bool) -> Callable[[Builder, Node, Node], list[Node]]:
    """dx = scale * (h - mean(h) - y mean(h y)) for h = g * weight and normalised rows y;
    without a centre there is no mean(h)."""

    def gradient(b: Builder, g: Node, node: Node) -> list[Node]:
        x, *parameters = node.inputs
        axes = _rows(x, node.attrs["normalized_ndim"])
        y, scale = _normalized(b, x, axes, node.attrs["eps"], centre)
        g = widened(b, g)
        h = b.mul(g, parameters[0]) if parameters else g
        inner = b.sub(h, b.mul(y, b.mean(b.mul(h, y), axis=axes, keepdims=True)))
        if centre:
            inner = b.sub(inner, b.mean(h, axis=axes, keepdims=True))
        found = [b.cast(b.mul(scale, inner), x.type.dtype)]
        for p, sensitivity in zip(parameters, (b.mul(g, y), g), strict=False):
            found.append(b.cast(sum_to(b, sensitivity, p.type.shape), p.type.dtype))
        return found

    return gradient


def _norm_reference(centre: bool) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray, *parameters: np.ndarray, normalized_ndim: int, eps: float
    ) -> np.ndarray:
        axes = tuple(range(x.ndim - normalized_ndim, x.ndim))
        n = math.prod(x.shape[a] for a in axes)
        with np.errstate(all="ignore"):
            if centre:
                x = x - np.true_divide(x.sum(axis=axes, keepdims=True), n)
            square = np.true_divide(np.square(x).sum(axis=axes, keepdims=True), n)
            result = x / np.sqrt(square + eps)
            if parameters:
                result = result * parameters[0]
            return result + parameters[1] if len(parameters) > 1 else result

    return reference


def _norm_samples(most: int) -> Callable[[], list[Sample]]:
    cases = [((3, 4), 1, F32), ((2, 3, 4), 2, F32), ((3, 1), 1, F32), ((4,), 1, F64),
             ((0, 4), 1, F32), ((2, 4), 1, F16), ((3, 0), 1, F32)]  # fmt: skip

    def samples() -> list[Sample]:
        found = []
        for i, (shape, n, dtype) in enumerate(cases):
            parameters = (TensorType(dtype, shape[len(shape) - n :]),) * (most - i % (most + 1))
            attrs = {"normalized_ndim": n, "eps": 1e-5 if i % 2 else 1e-3}
            found.append(Sample((TensorType(dtype, shape), *parameters), attrs))
        return found

    return samples


def _register_norm(name: str, centre: bool, doc: str, source: str) -> None:
    most = 2 if centre else 1
    register(Op(
        name=name, form="composite", category="reduction", arity=(1, 1 + most), kinds="f",
        attrs={"normalized_ndim": REQUIRED, "eps": 1e-5}, prepare=_norm_prepare(name),
        infer=lambda x, *parameters, normalized_ndim, eps: x.with_shape(x.shape),
        reference=_norm_reference(centre), expand=_norm_expand(centre),
        gradient=_norm_gradient(centre), samples=_norm_samples(most), ulp=16, cost=8.0,
        error_samples=lambda: [
            ErrorSample((TensorType(F32, (2, 3)),), {"normalized_ndim": 3}, ArgumentError,
                        "1 to 2"),
            ErrorSample((TensorType(F32, (2, 3)), TensorType(F32, (2,))), {"normalized_ndim": 1},
                        ShapeError, "weight"),
            ErrorSample((TensorType(I32, (2, 3)),), {"normalized_ndim": 1}, DTypeError),
        ],
        doc=doc, source=source,
    ))  # fmt: skip


_register_norm(
    "layer_norm", True,
    "The last dimensions brought to mean 0 and variance 1 (`eps` added to it), times a weight, "
    "plus a bias.", "J. L. Ba, J. R. Kiros, G. E. Hinton: Layer normalization. 2016",
)  # fmt: skip
_register_norm(
    "rms_norm", False,
    "The last dimensions over the root of their mean square (`eps` added to it), times a weight.",
    "B. Zhang, R. Sennrich: Root mean square layer normalization. NeurIPS 2019",
)  # fmt: skip
