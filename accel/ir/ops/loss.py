"""Losses: composites of reductions and pointwise ops, half precision computed in float32.

`reduction` is ``"mean"``, ``"sum"`` or ``"none"``. Class targets select by comparison with
the classes' numbers, never by a gather, so that a loss fuses into one kernel over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes
from .reduce import sum_to, widened

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F16, F32, F64, I32, I64 = (
    dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64,
)  # fmt: skip

Pair = tuple[TensorType, TensorType]


def _check_reduction(name: str, attrs: dict[str, Any], *more: str) -> None:
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
        _check_reduction(name, given, *reductions)
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
            ErrorSample((TensorType(F32, (3,)), TensorType(F32, (4,))), {}, ShapeError, "broadcast"),
            ErrorSample((TensorType(F32, (3,)),) * 2, {"reduction": "max"}, ArgumentError, "'mean'"),
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


# -- losses of class targets ------------------------------------------------------------------
def _class_axis(x: TensorType | np.ndarray) -> int:
    return 0 if x.ndim == 1 else 1


def _class_type(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, target: TensorType, *, reduction: str, **attrs: Any) -> TensorType:
        if x.dtype.kind != "f":
            raise DTypeError(f"{name}: scores of {x}", remedy="convert them to a floating dtype")
        if target.dtype.kind not in "iu":
            raise DTypeError(f"{name}: targets of {target}",
                             remedy="give class numbers, as integers")  # fmt: skip
        axis = _class_axis(x)
        wanted = x.shape[:axis] + x.shape[axis + 1 :]
        if x.ndim == 0 or target.shape != wanted:
            raise ShapeError(f"{name}: scores of {x} with targets of {target}",
                             remedy="scores are [N, classes, ...], targets [N, ...]")  # fmt: skip
        return TensorType(x.dtype, wanted if reduction == "none" else (), x.device)

    return infer


def _class_prepare(name: str) -> Callable[[Sequence[TensorType], dict[str, Any]], dict[str, Any]]:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        _check_reduction(name, attrs)
        full = {**attrs, "ignore_index": int(attrs["ignore_index"])}
        if "label_smoothing" in attrs:
            smoothing = full["label_smoothing"] = float(attrs["label_smoothing"])
            if not 0.0 <= smoothing <= 1.0:
                raise ArgumentError(f"{name}: label_smoothing {smoothing}",
                                    remedy="give a number from 0 to 1")  # fmt: skip
        return full

    return prepare


def _selected(
    b: Builder, x: Node, target: Node, ignore_index: int, what: str
) -> tuple[Node, Node, Node | None]:
    """Which class each target names, as bools over the scores' shape; which targets count
    (over the targets' shape); how many of them."""
    axis, shape = _class_axis(x.type), x.type.shape
    kept = shape[:axis] + (1,) + shape[axis + 1 :]
    classes = b.iota(shape=shape, axis=axis, dtype=I64)
    target = b.cast(target, I64)
    counted = b.ne(target, b.constant(ignore_index, I64))
    legal = b.where(counted, target, b.constant(0, I64))
    if shape[axis]:
        legal = b.check_index(legal, size=shape[axis], wrap=False, what=what)
    chosen = b.eq(classes, b.reshape(legal, shape=kept))
    return chosen, counted, b.sum(counted)


def _averaged(b: Builder, loss: Node, counted: Node, count: Node | None, reduction: str) -> Node:
    loss = b.where(counted, loss, 0.0)
    if reduction == "none":
        return loss
    total = b.sum(loss)
    return total if reduction == "sum" or count is None else b.div(total, count)


def _cross_entropy_expand(
    b: Builder, x: Node, target: Node, *, reduction: str, ignore_index: int, label_smoothing: float
) -> Node:
    """log(sum(exp(z))) - z[target] with z = x - max(x): exact where the target is likely."""
    axis = _class_axis(x.type)
    wide = widened(b, x)
    chosen, counted, count = _selected(b, x, target, ignore_index, "cross_entropy: target")
    if x.type.shape[axis]:
        shifted = b.sub(wide, b.amax(wide, axis=axis, keepdims=True))
    else:
        shifted = wide
    loss = b.log(b.sum(b.exp(shifted), axis=axis))
    picked = b.sum(b.where(chosen, shifted, 0.0), axis=axis)
    if label_smoothing:
        picked = b.add(
            b.mul(picked, 1.0 - label_smoothing),
            b.mul(b.mean(shifted, axis=axis), label_smoothing),
        )
    loss = _averaged(b, b.sub(loss, picked), counted, count, reduction)
    return b.cast(loss, x.type.dtype)


def _cross_entropy_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    """(softmax - target distribution) * g: no scatter."""
    x, target = node.inputs
    attrs, axis = node.attrs, _class_axis(x.type)
    wide = widened(b, x)
    chosen, counted, count = _selected(
        b, x, target, attrs["ignore_index"], "cross_entropy: target"
    )
    scale = widened(b, g)
    if attrs["reduction"] == "mean":
        scale = b.div(scale, count)
    scale = b.where(counted, scale, 0.0)
    kept = x.type.shape[:axis] + (1,) + x.type.shape[axis + 1 :]
    smoothing = attrs["label_smoothing"]
    share = smoothing / max(x.type.shape[axis], 1)
    wanted = b.where(chosen, 1.0 - smoothing + share, b.constant(share, wide.type.dtype))
    slope = b.sub(b.softmax(wide, axis=axis), wanted)
    # A row that does not count gives 0 even where its softmax is NaN.
    part = b.where(b.reshape(counted, shape=kept), b.mul(b.reshape(scale, shape=kept), slope), 0.0)
    return b.cast(part, x.type.dtype), None


def _checked_targets(
    name: str, x: np.ndarray, target: np.ndarray, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    counted = target.astype(np.int64) != ignore_index
    size = x.shape[_class_axis(x)]
    outside = counted & ((target < 0) | (target >= size))
    if outside.any():
        raise IndexOutOfRangeError(
            f"{name}: target: index {target[outside].flat[0]} is out of range for {size} classes",
            remedy="targets are class numbers from 0, or ignore_index",
        )
    return counted, np.where(counted, target, 0).astype(np.int64)


def _picked(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    axis = _class_axis(x)
    if x.size == 0:
        return np.zeros(target.shape, x.dtype)
    return np.take_along_axis(x, np.expand_dims(target, axis), axis).squeeze(axis)


def _average(loss: np.ndarray, counted: np.ndarray, reduction: str) -> np.ndarray:
    loss = np.where(counted, loss, 0.0)
    if reduction == "none":
        return loss
    total = np.asarray(loss.sum())
    return total if reduction == "sum" else np.true_divide(total, counted.sum())


def _cross_entropy_reference(
    x: np.ndarray, target: np.ndarray, *, reduction: str, ignore_index: int, label_smoothing: float
) -> np.ndarray:
    counted, legal = _checked_targets("cross_entropy", x, target, ignore_index)
    axis = _class_axis(x)
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        loss = np.log(np.exp(shifted).sum(axis=axis)) - (1 - label_smoothing) * _picked(
            shifted, legal
        )
        if label_smoothing:
            mean = np.true_divide(shifted.sum(axis=axis), x.shape[axis])
            loss = loss - label_smoothing * mean
        return _average(loss, counted, reduction)


def _nll_expand(
    b: Builder, x: Node, target: Node, *, reduction: str, ignore_index: int
) -> Node:
    chosen, counted, count = _selected(b, x, target, ignore_index, "nll_loss: target")
    loss = b.neg(b.sum(b.where(chosen, widened(b, x), 0.0), axis=_class_axis(x.type)))
    return b.cast(_averaged(b, loss, counted, count, reduction), x.type.dtype)


def _nll_reference(
    x: np.ndarray, target: np.ndarray, *, reduction: str, ignore_index: int
) -> np.ndarray:
    counted, legal = _checked_targets("nll_loss", x, target, ignore_index)
    with np.errstate(all="ignore"):
        return _average(-_picked(x, legal), counted, reduction)


def _class_samples(**more: Any) -> list[Sample]:
    rows, image = np.array([0, 3, 1]), np.array([[[1, 2]], [[0, 1]]])
    cases: list[tuple[Shape, np.ndarray, dict[str, Any]]] = [
        ((3, 4), rows, {}), ((3, 4), rows, {"reduction": "sum"}), ((3, 4), rows, {"reduction": "none"}),
        ((4,), np.array(2), {}), ((2, 3, 1, 2), image, {}), ((3, 4), np.array([0, -100, 2]), {}),
        ((2, 3), np.array([1, 0], np.int32), {"ignore_index": 0}),
        ((2, 3), np.array([1, 1]), {"ignore_index": 1, "reduction": "sum"}),
        ((0, 3), np.zeros(0, np.int64), {"reduction": "sum"}),
    ]  # fmt: skip
    found = [Sample((TensorType(F32, s), t), {**a, **more}) for s, t, a in cases]
    return found + [Sample((TensorType(d, (3, 4)), rows), more) for d in (F64, F16)]


def _class_errors() -> list[ErrorSample]:
    x = TensorType(F32, (3, 4))
    return [
        ErrorSample((x, TensorType(I64, (4,))), {}, ShapeError, "classes"),
        ErrorSample((x, TensorType(F32, (3,))), {}, DTypeError, "integers"),
        ErrorSample((TensorType(I32, (3, 4)), TensorType(I64, (3,))), {}, DTypeError),
        ErrorSample((x, TensorType(I64, (3,))), {"reduction": "avg"}, ArgumentError, "'sum'"),
        ErrorSample((x, np.array([0, 4, 1])), {}, IndexOutOfRangeError, "index 4"),
        ErrorSample((x, np.array([0, -1, 1])), {}, IndexOutOfRangeError, "index -1"),
    ]


_CLASS: dict[str, Any] = {
    "form": "composite", "category": "reduction", "arity": (2, 2), "promote": "none", "ulp": 8,
    "cost": 8.0, "error_samples": _class_errors,
}  # fmt: skip

register(Op(
    name="cross_entropy", **_CLASS, prepare=_class_prepare("cross_entropy"),
    attrs={"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0},
    infer=_class_type("cross_entropy"), reference=_cross_entropy_reference,
    expand=_cross_entropy_expand, gradient=_cross_entropy_gradient,
    samples=lambda: [
        *_class_samples(), *_class_samples(label_smoothing=0.2)[:2],
        Sample((np.array([[-np.inf, 0, 1], [1e4, -1e4, 0]], np.float32), np.array([1, 0]))),
    ],
    doc="-log(softmax(scores)[target]) along axis 1 (0 of a vector). The mean is over the "
    "targets that are not `ignore_index`.",
))  # fmt: skip

register(Op(
    name="nll_loss", **_CLASS, prepare=_class_prepare("nll_loss"),
    attrs={"reduction": "mean", "ignore_index": -100}, infer=_class_type("nll_loss"),
    reference=_nll_reference, expand=_nll_expand, samples=_class_samples,
    doc="-scores[target] along axis 1 (0 of a vector), for log-probabilities.",
))  # fmt: skip
