"""Losses of classes: class numbers or distributions as targets."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.functions.norms import log_softmax
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor

__all__ = ["cross_entropy", "nll_loss"]


@public
def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability that softmax of `logits` gives to the target.

    Parameters
    ----------
    logits
        Shape (N, C), (C,) or (N, C, d1, ...): the class axis is 1.
    target
        Class numbers: integers of the shape without the class axis. Or probabilities: floats of
        the shape of `logits`.
    weight
        Shape (C,): a factor for each class, or None.
    ignore_index
        Targets of this value count neither in the loss nor in its gradient.
    label_smoothing
        Share of the target that is spread evenly over all classes.
    reduction
        ``"mean"`` over the targets that count, by their weights (of probabilities: over all
        distributions), ``"sum"`` or ``"none"``.

    Raises
    ------
    IndexOutOfRangeError
        For a class that is not there, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> loss = accel.nn.functional.cross_entropy(accel.zeros((2, 4)), accel.asarray([0, 3]))
    >>> round(loss.item(), 4)
    1.3863
    """
    target = as_tensor(target)
    if target.dtype.kind == "f":
        return _soft_cross_entropy(as_tensor(logits), target, weight, label_smoothing, reduction)
    attrs: dict[str, Any] = {"ignore_index": ignore_index, "reduction": reduction}
    if weight is None:
        return record("cross_entropy", logits, target, label_smoothing=label_smoothing, **attrs)
    logits = as_tensor(logits)
    scores = log_softmax(logits, _class_axis("cross_entropy", logits))
    loss = _weighted_nll("cross_entropy", scores, target, weight, **attrs)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing {label_smoothing}",
                            remedy="give a number from 0 to 1")  # fmt: skip
    if label_smoothing == 0:
        return loss
    spread = _spread_loss(scores, target, weight, **attrs)
    return loss * (1 - label_smoothing) + spread * label_smoothing


@public
def nll_loss(
    log_probabilities: Any, target: Any, weight: Any = None, *, ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-probability of the target class; arguments as for `cross_entropy`."""
    attrs: dict[str, Any] = {"ignore_index": ignore_index, "reduction": reduction}
    if weight is None:
        return record("nll_loss", log_probabilities, target, **attrs)
    return _weighted_nll("nll_loss", as_tensor(log_probabilities), as_tensor(target), weight,
                         **attrs)  # fmt: skip


def _class_axis(name: str, x: Tensor) -> int:
    if x.ndim == 0:
        raise ShapeError(f"{name}: scores of shape []",
                         remedy="scores are [N, classes, ...]")  # fmt: skip
    return 0 if x.ndim == 1 else 1


def _class_weight(name: str, x: Tensor, weight: Any) -> Tensor:
    weight = as_tensor(weight)
    classes = x.shape[_class_axis(name, x)]
    if tuple(weight.shape) != (classes,):
        raise ShapeError(f"{name}: a weight of shape {list(weight.shape)} for {classes} classes",
                         remedy=f"make its shape [{classes}]")  # fmt: skip
    return weight


def _target_weights(weight: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The weight of each target's class, 0 where it does not count."""
    counted = target != ignore_index
    rows = record("embedding", weight.reshape(-1, 1), accel.where(counted, target, 0))
    return accel.where(counted, rows.reshape(target.shape), 0.0)


def _reduced(loss: Tensor, weights: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / weights.sum()


def _weighted_nll(
    name: str, scores: Tensor, target: Tensor, weight: Any, *, ignore_index: int, reduction: str
) -> Tensor:
    weight = _class_weight(name, scores, weight)
    check_reduction(name, reduction)
    each = record("nll_loss", scores, target, ignore_index=ignore_index, reduction="none")
    weights = _target_weights(weight, target, ignore_index)
    return _reduced(each * weights, weights, reduction)


def _spread_loss(
    scores: Tensor, target: Tensor, weight: Any, *, ignore_index: int, reduction: str
) -> Tensor:
    """The loss of an even distribution in place of the targets that count."""
    weight = _class_weight("cross_entropy", scores, weight)
    axis = _class_axis("cross_entropy", scores)
    each = -accel.mean(scores * _along(weight, scores, axis), axis=axis)
    each = accel.where(target != ignore_index, each, 0.0)
    return _reduced(each, _target_weights(weight, target, ignore_index), reduction)


def _along(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    return weight.reshape(-1, *[1] * (x.ndim - 1 - axis))


def _soft_cross_entropy(
    x: Tensor, target: Tensor, weight: Any, label_smoothing: float, reduction: str
) -> Tensor:
    """The cross entropy of distributions over the classes."""
    if target.shape != x.shape:
        raise ShapeError(
            f"cross_entropy: logits of shape {list(x.shape)} and probabilities of shape "
            f"{list(target.shape)}",
            remedy="make the shapes equal, or give class numbers as integers",
        )
    check_reduction("cross_entropy", reduction)
    axis = _class_axis("cross_entropy", x)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[axis]
    if weight is not None:
        target = target * _along(_class_weight("cross_entropy", x, weight), x, axis)
    loss = -accel.sum(log_softmax(x, axis) * target, axis=axis)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / max(loss.size, 1)


def check_reduction(name: str, reduction: str) -> None:
    """Raise ArgumentError unless `reduction` is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{name}: reduction {reduction!r}",
                            remedy="use 'mean', 'sum' or 'none'")  # fmt: skip
