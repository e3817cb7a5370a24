"""Losses of two arrays, element by element: composites, half precision computed in float32.

`reduction` is ``"mean"``, ``"sum"`` or ``"none"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes
from .reduce import sum_to, widened

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["check_reduction"]

F16, F32, F64, I32, I64 = (
    dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64,
)  # fmt: skip

Pair = tuple[TensorType, TensorType]


def check_reduction(name: str, attrs: dict[str, Any], *more: str) -> None:
    legal = ("mean", "sum", "none", *more)
    if attrs["reduction"] not in legal:
        raise ArgumentError(f"{name}: reduction {attrs['reduction']!r}",
                            remedy="use one of " + ", ".join(map(repr, legal)))  # fmt: skip


# -- losses of two arrays, element by element -----------------------------------------------
def _reduced_nodes(b: Builder, loss: Node, reduction: str) -> Node:
    if reduction == "none":
        return loss
    return b.mean(loss) if reduction == "mean" else b.sum(loss)


def _reduced(loss: np.ndarray, reduction: str) -> np.ndarray:
    if reduction == "none":
        return loss
    total = np.asarray(loss.sum())
    return total if reduction == "sum" else np.true_divide(total, loss.size)


def _spread_cotangent(b: Builder, g: Node, node: Node) -> Node:
    """The cotangent of each element's loss, before it broadcasts."""
    g = widened(b, g)
    if node.attrs["reduction"] == "mean":
        size = math.prod(broadcast_shapes([n.type.shape for n in node.inputs]))
        g = b.div(g, float(size))
    return g


def _elementwise_type(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, y: TensorType, *, reduction: str, **attrs: Any) -> TensorType:
        shape = broadcast_shapes([x.shape, y.shape], name)
        return TensorType(x.dtype, shape if reduction == "none" else (), x.device)

    return infer


def _pair_samples(low: float | None, high: float | None, **attrs: Any) -> list[Sample]:
    cases: list[tuple[Shape, Shape, str]] = [
        ((3, 4), (3, 4), "mean"), ((3, 4), (4,), "sum"), ((3, 4), (3, 4), "none"), ((), (), "mean"),
        ((0,), (0,), "mean"), ((0,), (0,), "sum"),
    ]  # fmt: skip
    found = [
        Sample((TensorType(F32, s), TensorType(F32, t)), {"reduction": r, **attrs}, low, high)
        for s, t, r in cases
    ]
    for dtype in (F64, F16):
        found.append(Sample((TensorType(dtype, (2, 3)),) * 2, dict(attrs), low, high))
    return found


def _register_elementwise(
    name: str,
    attrs: dict[str, Any],
    reference: Callable[..., np.ndarray],
    expand: Callable[..., Node],
    doc: str,
    gradient: Callable[..., Sequence[Node]] | None = None,
    low: float | None = None,
    high: float | None = None,
    reductions: tuple[str, ...] = (),
) -> None:
    """Register a loss from its value for each element.

    `reference` and `expand` give that value; `gradient(b, x, y, **attrs)` its derivatives.
    """

    def prepare(types: Sequence[TensorType], given: dict[str, Any]) -> dict[str, Any]:
        check_reduction(name, given, *reductions)
        return {
            k: v if isinstance(attrs.get(k), bool) or k == "reduction" else _positive(name, k, v)
            for k, v in given.items()
        }

    def whole_reference(x: np.ndarray, y: np.ndarray, *, reduction: str, **given: Any) -> Any:
        with np.errstate(all="ignore"):
            loss = np.asarray(reference(x, y, **given))
            if reduction == "batchmean":
                return np.true_divide(loss.sum(), loss.shape[0])
            return _reduced(loss, reduction)

    def whole_expand(b: Builder, x: Node, y: Node, *, reduction: str, **given: Any) -> Node:
        loss = expand(b, widened(b, x), widened(b, y), **given)
        if reduction == "batchmean":
            loss = b.div(b.sum(loss), float(loss.type.shape[0]))
        else:
            loss = _reduced_nodes(b, loss, reduction)
        return b.cast(loss, x.type.dtype)

    def whole_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
        assert gradient is not None
        scale = _spread_cotangent(b, g, node)
        rest = {k: v for k, v in node.attrs.items() if k != "reduction"}
        x, y = node.inputs
        slopes = gradient(b, widened(b, x), widened(b, y), **rest)
        shape = broadcast_shapes([x.type.shape, y.type.shape])
        found = []
        for operand, slope in zip((x, y), slopes, strict=True):
            part = b.broadcast_to(b.mul(scale, slope), shape=shape)
            found.append(b.cast(sum_to(b, part, operand.type.shape), operand.type.dtype))
        return found

    register(Op(
        name=name, form="composite", category="reduction", arity=(2, 2), kinds="biuf",
        promote="float", attrs={"reduction": "mean", **attrs}, prepare=prepare,
        infer=_elementwise_type(name), reference=whole_reference, expand=whole_expand,
        gradient=whole_gradient if gradient is not None else None, ulp=8, cost=8.0, doc=doc,
        samples=lambda: _pair_samples(low, high), error_samples=lambda: [
            ErrorSample((TensorType(F32, (3,)), TensorType(F32, (4,))), {}, ShapeError,
                        "broadcast"),
            ErrorSample((TensorType(F32, (3,)),) * 2, {"reduction": "max"}, ArgumentError,
                        "'mean'"),
            ErrorSample((TensorType(dtypes.complex64, (3,)),) * 2, {}, DTypeError),
        ],
    ))  # fmt: skip


def _positive(name: str, key: str, value: Any) -> float:
    number = float(value)
    if not number >= 0:
        raise ArgumentError(f"{name}: {key} {number}", remedy="give a positive number")
    return number


def _mse_gradient(b: Builder, x: Node, y: Node) -> tuple[Node, Node]:
    slope = b.mul(b.sub(x, y), 2.0)
    return slope, b.neg(slope)


def _mse_expand(b: Builder, x: Node, y: Node) -> Node:
    difference = b.sub(x, y)
    return b.mul(difference, difference)


_register_elementwise(
    "mse_loss", {}, lambda x, y: np.square(x - y), _mse_expand,
    "The squared difference.", _mse_gradient,
)  # fmt: skip
_register_elementwise(
    "l1_loss", {}, lambda x, y: np.abs(x - y), lambda b, x, y: b.abs(b.sub(x, y)),
    "The absolute difference.",
)  # fmt: skip


def _smooth_reference(x: np.ndarray, y: np.ndarray, *, beta: float) -> np.ndarray:
    size = np.abs(x - y)
    if beta == 0:
        return size
    return np.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def _smooth_expand(b: Builder, x: Node, y: Node, *, beta: float) -> Node:
    size = b.abs(b.sub(x, y))
    if beta == 0:
        return size
    near = b.div(b.mul(b.mul(size, 0.5), size), beta)
    return b.where(b.lt(size, beta), near, b.sub(size, 0.5 * beta))


def _limited(b: Builder, x: Node, bound: float) -> Node:
    return b.maximum(b.minimum(x, bound), -bound)


def _smooth_gradient(b: Builder, x: Node, y: Node, *, beta: float) -> tuple[Node, Node]:
    difference = b.sub(x, y)
    if beta == 0:
        slope = b.sign(difference)
    else:
        slope = _limited(b, b.div(difference, beta), 1.0)
    return slope, b.neg(slope)


_register_elementwise(
    "smooth_l1_loss", {"beta": 1.0}, _smooth_reference, _smooth_expand,
    "The absolute difference less beta/2, rounded off to a parabola below `beta`.",
    _smooth_gradient,
)  # fmt: skip


def _huber_reference(x: np.ndarray, y: np.ndarray, *, delta: float) -> np.ndarray:
    size = np.abs(x - y)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def _huber_expand(b: Builder, x: Node, y: Node, *, delta: float) -> Node:
    size = b.abs(b.sub(x, y))
    far = b.mul(b.sub(size, 0.5 * delta), delta)
    return b.where(b.le(size, delta), b.mul(b.mul(size, 0.5), size), far)


def _huber_gradient(b: Builder, x: Node, y: Node, *, delta: float) -> tuple[Node, Node]:
    slope = _limited(b, b.sub(x, y), delta)
    return slope, b.neg(slope)


_register_elementwise(
    "huber_loss", {"delta": 1.0}, _huber_reference, _huber_expand,
    "Half the squared difference up to `delta`, linear beyond.", _huber_gradient,
)  # fmt: skip


# -- binary cross-entropy, divergence --------------------------------------------------------
def _bce_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (y - 1) * np.maximum(np.log1p(-x), -100.0) - y * np.maximum(np.log(x), -100.0)


def _bce_logs(b: Builder, x: Node) -> tuple[Node, Node]:
    """log(x) and log(1 - x), cut off at -100 so that a sure miss is finite (as in torch)."""
    return b.maximum(b.log(x), -100.0), b.maximum(b.log1p(b.neg(x)), -100.0)


def _bce_expand(b: Builder, x: Node, y: Node) -> Node:
    yes, no = _bce_logs(b, x)
    return b.sub(b.mul(b.sub(y, 1.0), no), b.mul(y, yes))


def _bce_gradient(b: Builder, x: Node, y: Node) -> tuple[Node, Node]:
    variance = b.maximum(b.mul(b.sub(1.0, x), x), 1e-12)
    yes, no = _bce_logs(b, x)
    return b.div(b.sub(x, y), variance), b.sub(no, yes)


_register_elementwise(
    "binary_cross_entropy", {}, _bce_reference, _bce_expand,
    "-(y log x + (1 - y) log(1 - x)) for probabilities x; logarithms are cut off at -100.",
    _bce_gradient, low=0.01, high=0.99,
)  # fmt: skip


def _logits_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) - x * y + np.log1p(np.exp(-np.abs(x)))


def _logits_expand(b: Builder, x: Node, y: Node) -> Node:
    tail = b.log1p(b.exp(b.neg(b.abs(x))))
    return b.add(b.sub(b.maximum(x, 0.0), b.mul(x, y)), tail)


_register_elementwise(
    "binary_cross_entropy_with_logits", {}, _logits_reference, _logits_expand,
    "`binary_cross_entropy` of sigmoid(x), without overflow.",
    lambda b, x, y: (b.sub(b.sigmoid(x), y), b.neg(x)),
)  # fmt: skip


def _kl_reference(x: np.ndarray, y: np.ndarray, *, log_target: bool) -> np.ndarray:
    if log_target:
        return np.exp(y) * (y - x)
    return np.where(y == 0, 0.0, y * np.log(np.where(y == 0, 1.0, y))) - y * x


def _kl_expand(b: Builder, x: Node, y: Node, *, log_target: bool) -> Node:
    if log_target:
        return b.mul(b.exp(y), b.sub(y, x))
    nothing = b.eq(y, 0.0)
    own = b.where(nothing, 0.0, b.mul(y, b.log(b.where(nothing, 1.0, y))))
    return b.sub(own, b.mul(y, x))


_register_elementwise(
    "kl_div", {"log_target": False}, _kl_reference, _kl_expand,
    "y (log y - x) for log-probabilities x and probabilities y (or their logarithms, with "
    "`log_target`); \"batchmean\" divides the sum by the first extent.",
    low=0.01, high=1.0, reductions=("batchmean",),
)  # fmt: skip
