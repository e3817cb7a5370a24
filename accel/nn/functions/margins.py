"""Losses of similarities and margins."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError
from ...frontend import public as accel
from ...frontend.arguments import public
from ...frontend.functions import logsigmoid, relu, softplus
from ...frontend.recording import as_tensor
from ...frontend.tensor import Tensor
from .losses import reduced

__all__ = [
    "cosine_embedding_loss", "cosine_similarity", "hinge_embedding_loss", "margin_ranking_loss",
    "multilabel_soft_margin_loss", "pairwise_distance", "soft_margin_loss", "triplet_margin_loss",
]  # fmt: skip


@public
def cosine_similarity(x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The product of `x` and `y` along `dim` over their lengths, each at least `eps`.

    Examples
    --------
    >>> import accel
    >>> x, y = accel.Tensor([[3.0, 4.0]]), accel.Tensor([[4.0, 3.0]])
    >>> round(accel.nn.functional.cosine_similarity(x, y).item(), 4)
    0.96
    """
    x, y = as_tensor(x), as_tensor(y)
    lengths = [accel.sqrt(accel.sum(each * each, dim=dim)) for each in (x, y)]
    first, second = (accel.maximum(length, eps) for length in lengths)
    return accel.sum(x * y, dim=dim) / (first * second)


@public
def pairwise_distance(
    x: Any, y: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of ``x - y + eps`` along the last axis."""
    apart = as_tensor(x) - as_tensor(y) + eps
    return accel.linalg.vector_norm(apart, ord=p, axis=-1, keepdims=keepdim)


@public
def hinge_embedding_loss(
    x: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Distances `x` where the target is 1, what they lack to `margin` where it is -1."""
    x, target = as_tensor(x), as_tensor(target)
    loss = accel.where(target != 1, relu(margin - x), 0.0) + accel.where(target != -1, x, 0.0)
    return reduced("hinge_embedding_loss", loss, reduction)


@public
def margin_ranking_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target (x1 - x2)): with target 1 the first is to be greater, with -1 the
    second."""
    apart = as_tensor(x1) - as_tensor(x2)
    return reduced("margin_ranking_loss", relu(margin - as_tensor(target) * apart), reduction)


@public
def soft_margin_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)) for targets 1 and -1."""
    loss = softplus(-as_tensor(target) * as_tensor(x), threshold=float("inf"))
    return reduced("soft_margin_loss", loss, reduction)


@public
def multilabel_soft_margin_loss(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """The mean over the last axis of the binary cross entropy of logits; `weight` by class."""
    x, target = as_tensor(x), as_tensor(target)
    loss = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x))
    loss = loss if weight is None else loss * weight
    return reduced("multilabel_soft_margin_loss", accel.mean(loss, axis=-1), reduction)


@public
def cosine_embedding_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1.

    Parameters
    ----------
    x1, x2
        Shape (N, D) or (D,).
    target
        Shape (N,) or ().
    """
    x1, x2, target = as_tensor(x1), as_tensor(x2), as_tensor(target)
    squares = [accel.sum(each * each, axis=-1) + 1e-12 for each in (x1, x2)]
    cosine = accel.sum(x1 * x2, axis=-1) / accel.sqrt(squares[0] * squares[1])
    loss = accel.where(target == 1, 1 - cosine, 0.0)
    loss = loss + accel.where(target == -1, relu(cosine - margin), 0.0)
    return reduced("cosine_embedding_loss", loss, reduction)


@public
def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
    eps: float = 1e-6, swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) for the p-norm distance d.

    With `swap` the negative's distance is the lesser of those to anchor and positive.

    Notes
    -----
    V. Balntas et al.: Learning shallow convolutional feature descriptors with triplet losses.
    BMVC 2016.
    """
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_loss: margin {margin}", remedy="give more than 0")
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = accel.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced("triplet_margin_loss", relu(near - far + margin), reduction)
