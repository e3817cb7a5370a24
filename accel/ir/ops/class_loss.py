"""Losses of class targets: composites, half precision computed in float32.

The target's score is selected by comparison with the classes' numbers, never by a gather, so
that a loss fuses into one kernel over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .loss import check_reduction
from .reduce import Prepare, widened

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F16, F32, F64, I32, I64 = (
    dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64,
)  # fmt: skip


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


def _class_prepare(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        check_reduction(name, attrs)
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
    if not shape[axis]:
        target = b.maximum(target, 1)  # none is legal: 0 stands for those that do not count
    legal = b.where(counted, target, b.constant(0, I64))
    legal = b.check_index(legal, size=max(shape[axis], 1), wrap=False, what=what)
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
        ((3, 4), rows, {}), ((3, 4), rows, {"reduction": "sum"}),
        ((3, 4), rows, {"reduction": "none"}),
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
