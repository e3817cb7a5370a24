"""Losses of similarities and margins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.functions.elementwise import logsigmoid, relu, softplus
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor
from ...frontend.tensors.tensor import Tensor
from .losses import reduced

__all__ = [
    "cosine_embedding_loss", "cosine_similarity", "hinge_embedding_loss", "margin_ranking_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "pairwise_distance", "pdist", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
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
def pdist(x: Any, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows, in the order (0, 1), (0, 2), …

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.pdist(accel.asarray([[0.0], [1.0], [3.0]])).tolist()
    [1.0, 3.0, 2.0]
    """
    x = as_tensor(x)
    if x.ndim != 2:
        raise ShapeError(f"pdist of shape {list(x.shape)}", remedy="give a matrix of rows")
    first, second = np.triu_indices(x.shape[0], 1)
    rows = [accel.take(x, accel.asarray(i.astype(np.int64)), axis=0) for i in (first, second)]
    return accel.linalg.vector_norm(rows[0] - rows[1], ord=p, axis=-1)


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
def multi_margin_loss(
    x: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """What the other classes' scores lack to be `margin` below the target's, to the power of p,
    as the mean over the classes.

    Parameters
    ----------
    x
        Scores, shape (N, C) or (C,).
    target
        Class numbers, shape (N,) or ().
    p
        1 or 2.
    weight
        Shape (C,), a factor for each target class; or None.

    Raises
    ------
    IndexOutOfRangeError
        For a class that is not there, when the result is computed.
    """
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p is {p}", remedy="use 1 or 2")
    x, target = as_tensor(x), as_tensor(target)
    if x.ndim not in (1, 2) or target.shape != x.shape[:-1]:
        raise ShapeError(f"multi_margin_loss: targets of shape {list(target.shape)} for scores of "
                         f"shape {list(x.shape)}",
                         remedy="give scores [N, C] and targets [N]")  # fmt: skip
    place = target.unsqueeze(-1)
    lack = relu(margin - accel.gather(x, -1, place) + x)
    lack = lack if p == 1 else lack * lack
    if weight is not None:
        lack = lack * accel.take(as_tensor(weight), target, axis=0).unsqueeze(-1)
    own = accel.arange(x.shape[-1]) == place
    loss = accel.sum(accel.where(own, 0.0, lack), axis=-1) / x.shape[-1]
    return reduced("multi_margin_loss", loss, reduction)


@public
def multilabel_margin_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """What all scores that are no target's lack to be 1 below each target's, summed, over the
    number of classes.

    Parameters
    ----------
    x
        Scores, shape (N, C) or (C,).
    target
        Class numbers of the same shape; those behind the first -1 do not count.
    """
    x, target = as_tensor(x), as_tensor(target)
    if x.ndim not in (1, 2) or target.shape != x.shape:
        raise ShapeError(f"multilabel_margin_loss: targets of shape {list(target.shape)} for "
                         f"scores of shape {list(x.shape)}",
                         remedy="make the shapes equal")  # fmt: skip
    counts = accel.cumprod((target >= 0).astype(accel.int64), -1)
    place = accel.where(counts > 0, target, 0).astype(accel.int64)
    chosen = accel.scatter_add(accel.zeros(x.shape, dtype=accel.int64), -1, place, counts) > 0
    lack = relu(1 - accel.gather(x, -1, place).unsqueeze(-1) + x.unsqueeze(-2))
    taken = (counts > 0).unsqueeze(-1) & accel.logical_not(chosen).unsqueeze(-2)
    loss = accel.sum(accel.where(taken, lack, 0.0), axis=(-2, -1)) / x.shape[-1]
    return reduced("multilabel_margin_loss", loss, reduction)


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


@public
def triplet_margin_with_distance_loss(
    anchor: Any, positive: Any, negative: Any, *,
    distance_function: Callable[[Any, Any], Any] | None = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """`triplet_margin_loss` with a distance of one's own; None is `pairwise_distance`."""
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_with_distance_loss: margin {margin}",
                            remedy="give more than 0")  # fmt: skip
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = accel.minimum(far, distance(positive, negative))
    return reduced("triplet_margin_with_distance_loss", relu(near - far + margin), reduction)
