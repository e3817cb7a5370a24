"""Activations that cut, shrink or draw their slopes, and dropout for self-normalising nets."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError
from ...frontend import public as accel
from ...frontend.functions.norms import softmax
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor

__all__ = ["alpha_dropout", "feature_alpha_dropout", "gumbel_softmax", "hardshrink", "rrelu",
           "softmin", "softshrink", "threshold"]  # fmt: skip


@public
def hardshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x beyond `lambd` on either side, 0 between.

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.hardshrink(accel.asarray([-1.0, 0.25, 0.75])).tolist()
    [-1.0, 0.0, 0.75]
    """
    x = as_tensor(x)
    return record("where", record("logical_and", x >= -lambd, x <= lambd), 0.0, x)


@public
def softshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, 0 where it would cross.

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.softshrink(accel.asarray([-1.0, 0.25, 0.75])).tolist()
    [-0.5, 0.0, 0.25]
    """
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd is {lambd}", remedy="give 0 or more")
    x = as_tensor(x)
    moved = record("where", x > lambd, x - lambd, record("where", x < -lambd, x + lambd, 0.0))
    return record("where", record("isnan", x), x, moved)


@public
def threshold(x: Any, threshold: float, value: float) -> Tensor:
    """x where it is above the threshold (or NaN), `value` elsewhere."""
    x = as_tensor(x)
    return record("where", x <= threshold, value, x)


@public
def softmin(x: Any, dim: int = -1, dtype: Any = None) -> Tensor:
    """`softmax` of the negative."""
    return softmax(record("neg", x), dim, dtype=dtype)


@public
def rrelu(x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """Leaky ReLU whose slopes are drawn evenly from `lower` to `upper`, each its own, in
    training; elsewhere their mean.

    Notes
    -----
    B. Xu et al.: Empirical evaluation of rectified activations in convolutional network. 2015.
    """
    x = as_tensor(x)
    if lower > upper:
        raise ArgumentError(f"rrelu: slopes from {lower} to {upper}",
                            remedy="give the lower one first")  # fmt: skip
    slope: Any = (lower + upper) / 2
    if training:
        slope = accel.uniform(lower, upper, x.shape).astype(x.dtype)
    return record("where", x > 0, x, x * slope)


@public
def gumbel_softmax(logits: Any, tau: float = 1.0, hard: bool = False, dim: int = -1) -> Tensor:
    """A random choice among classes, differentiable in the logits.

    Parameters
    ----------
    logits
        Unnormalised log-probabilities.
    tau
        Temperature: near 0 the choices are nearly one-hot.
    hard
        Whether the values are one-hot; the gradient stays that of the soft ones.
    dim
        The axis of the classes.

    Notes
    -----
    E. Jang, S. Gu, B. Poole: Categorical reparameterization with Gumbel-softmax. ICLR 2017.
    """
    logits = as_tensor(logits)
    drawn = accel.rand(*logits.shape).astype(logits.dtype)
    least = float(accel.finfo(logits.dtype).smallest_normal)
    noise = -accel.log(accel.maximum(-accel.log(accel.maximum(drawn, least)), least))
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    chosen = accel.argmax(soft, dim, True)
    count = record("iota", shape=soft.shape, axis=dim % soft.ndim, dtype=accel.int64)
    one = record("cast", record("eq", count, chosen), dtype=soft.dtype)
    return one + (soft - accel.stop_gradient(soft))


# -- dropout that keeps mean and variance ------------------------------------------------------
_FLOOR = -1.7580993408473766  # of selu, far from 0


@public
def alpha_dropout(x: Any, p: float = 0.5, training: bool = False) -> Tensor:
    """Elements put to the floor of `selu` with probability `p`, then all scaled and moved so
    that mean 0 and variance 1 stay.

    Notes
    -----
    G. Klambauer et al.: Self-normalizing neural networks. NeurIPS 2017.
    """
    x = as_tensor(x)
    return _alpha_dropout("alpha_dropout", x, p, training, x.shape)


@public
def feature_alpha_dropout(x: Any, p: float = 0.5, training: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    x = as_tensor(x)
    shape = x.shape[:2] + (1,) * (x.ndim - 2)
    return _alpha_dropout("feature_alpha_dropout", x, p, training, shape)


def _alpha_dropout(
    name: str, x: Tensor, p: float, training: bool, shape: tuple[int, ...]
) -> Tensor:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{name}: p is {p!r}", remedy="pass a probability from 0 to 1")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    scale = ((1 - p) * (1 + p * _FLOOR * _FLOOR)) ** -0.5
    kept = accel.rand(*shape) >= p
    return record("where", kept, x * scale, scale * _FLOOR) - scale * _FLOOR * p
