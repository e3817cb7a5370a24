"""Losses of two arrays, element by element."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ShapeError
from ...frontend import public as accel
from ...frontend.functions.elementwise import softplus
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor
from .class_losses import check_reduction

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip


def reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of `loss`, or `loss` itself."""
    check_reduction(name, reduction)
    if reduction == "none":
        return loss
    return accel.mean(loss) if reduction == "mean" else accel.sum(loss)


def _weighted(name: str, x: Any, target: Any, weight: Any, reduction: str) -> Tensor:
    """The op of this name; with weights the mean is over these."""
    if weight is None:
        return record(name, x, target, reduction=reduction)
    weight = as_tensor(weight)
    loss = record(name, x, target, reduction="none") * weight
    if reduction == "mean":
        return loss.sum() / accel.broadcast_to(weight, loss.shape).sum()
    return reduced(name, loss, reduction)


@public
def mse_loss(x: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """The squared difference; with a `weight` for each element, the mean is by weight."""
    return _weighted("mse_loss", x, target, weight, reduction)


@public
def l1_loss(x: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """The absolute difference; with a `weight` for each element, the mean is by weight."""
    return _weighted("l1_loss", x, target, weight, reduction)


@public
def smooth_l1_loss(x: Any, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Squared within `beta` of the target, absolute beyond."""
    return record("smooth_l1_loss", x, target, beta=beta, reduction=reduction)


@public
def huber_loss(
    x: Any, target: Any, *, delta: float = 1.0, reduction: str = "mean", weight: Any = None
) -> Tensor:
    """Squared within `delta` of the target, `delta` times the absolute difference beyond.

    With a `weight` for each element, the mean is that of the weighted losses (as in torch).
    """
    if weight is None:
        return record("huber_loss", x, target, delta=delta, reduction=reduction)
    loss = record("huber_loss", x, target, delta=delta, reduction="none")
    return reduced("huber_loss", loss * weight, reduction)


@public
def binary_cross_entropy(
    x: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    """Of probabilities `x` and targets in [0, 1]; each element's loss times its `weight`."""
    if weight is None:
        return record("binary_cross_entropy", x, target, reduction=reduction)
    loss = record("binary_cross_entropy", x, target, reduction="none")
    return reduced("binary_cross_entropy", loss * weight, reduction)


@public
def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, *, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Of logits `x` and targets in [0, 1], computed without overflow.

    Parameters
    ----------
    weight
        A factor for each element's loss, or None.
    pos_weight
        A factor for the positive part of it, such as [C] for [N, C]: above 1 it raises recall.
    """
    name = "binary_cross_entropy_with_logits"
    if weight is None and pos_weight is None:
        return record(name, x, target, reduction=reduction)
    if pos_weight is None:
        loss = record(name, x, target, reduction="none")
    else:
        x, target = as_tensor(x), as_tensor(target)
        part = (pos_weight - 1) * target + 1
        loss = (1 - target) * x + part * softplus(-x, threshold=math.inf)
    return reduced(name, loss if weight is None else loss * weight, reduction)


@public
def kl_div(x: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """Divergence of log-probabilities `x` from the target distribution.

    `reduction` may also be ``"batchmean"``: the sum over the extent of the first axis.
    """
    return record("kl_div", x, target, log_target=log_target, reduction=reduction)


@public
def gaussian_nll_loss(
    x: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-likelihood of targets under normal distributions.

    Parameters
    ----------
    x, var
        Means and variances; `var` has the shape of `x`, that without the last axis, or one with
        an extent of 1 in place of another.
    full
        Whether the constant log(2π) / 2 counts.
    eps
        The least variance; it has no gradient there.

    Raises
    ------
    ShapeError
        When the variances do not fit.

    Notes
    -----
    D. Nix, A. Weigend: Estimating the mean and variance of the target probability distribution.
    1994.
    """
    x, target, var = as_tensor(x), as_tensor(target), as_tensor(var)
    if var.ndim and tuple(var.shape) == tuple(x.shape[:-1]) and var.shape != x.shape:
        var = var.unsqueeze(-1)
    misfits = [n for n, m in zip(var.shape, x.shape, strict=False) if n != m]
    if var.ndim and (var.ndim != x.ndim or len(misfits) > 1 or any(n != 1 for n in misfits)):
        raise ShapeError(
            f"gaussian_nll_loss: variances of shape {list(var.shape)} for {list(x.shape)}",
            remedy="give one for each element, or for each row",
        )
    var = var + accel.stop_gradient(accel.maximum(var, eps) - var)  # slopes pass, as in torch
    loss = (accel.log(var) + (x - target) ** 2 / var) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced("gaussian_nll_loss", loss, reduction)


@public
def poisson_nll_loss(
    x: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-likelihood of counts under Poisson distributions of rates exp(x), or x.

    Parameters
    ----------
    log_input
        Whether `x` is the rate's logarithm.
    full
        Whether Stirling's approximation of log(target!) counts, for targets above 1.
    eps
        Added to the rate inside the logarithm, without `log_input`.
    """
    x, target = as_tensor(x), as_tensor(target)
    loss = accel.exp(x) - target * x if log_input else x - target * accel.log(x + eps)
    if full:
        safe = accel.where(target > 1, target, 1.0)
        stirling = safe * accel.log(safe) - safe + 0.5 * accel.log(2 * math.pi * safe)
        loss = loss + accel.where(target > 1, stirling, 0.0)
    return reduced("poisson_nll_loss", loss, reduction)
