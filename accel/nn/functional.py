"""Neural functions: activations, layers and losses without state.

Arguments follow torch. Every function takes tensors and arrays, and has a gradient with respect
to its floating-point arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import accel

from ..errors import ArgumentError, ShapeError
from ..frontend.recording import as_tensor, record
from ..frontend.tensor import Tensor

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "cross_entropy", "dropout",
    "elu", "embedding", "gelu", "glu", "hardswish", "hardtanh", "huber_loss", "kl_div", "l1_loss",
    "layer_norm", "leaky_relu", "linear", "log_softmax", "logsigmoid", "mish", "mse_loss",
    "nll_loss", "one_hot", "prelu", "relu", "relu6", "rms_norm", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "softmax", "softplus", "tanh",
]  # fmt: skip


# Activations --------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return record("relu", x)


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6)."""
    return record("relu6", x)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return record("sigmoid", x)


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return record("tanh", x)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return record("silu", x)


def mish(x: Any) -> Tensor:
    """x * tanh(softplus(x))."""
    return record("mish", x)


def selu(x: Any) -> Tensor:
    """ELU scaled so that activations normalise themselves."""
    return record("selu", x)


def hardswish(x: Any) -> Tensor:
    """x * relu6(x + 3) / 6."""
    return record("hardswish", x)


def logsigmoid(x: Any) -> Tensor:
    """log(sigmoid(x))."""
    return record("logsigmoid", x)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; `approximate="tanh"` for its estimate."""
    return record("gelu", x, approximate=approximate)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where positive, `negative_slope` times x elsewhere."""
    return record("leaky_relu", x, negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    return record("elu", x, alpha=alpha)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere."""
    return record("celu", x, alpha=alpha)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x exceeds the threshold."""
    return record("softplus", x, beta=beta, threshold=threshold)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x clamped to [min_val, max_val]."""
    return record("hardtanh", x, min_val=min_val, max_val=max_val)


def prelu(x: Any, weight: Any) -> Tensor:
    """x where positive, weight * x elsewhere; several weights belong to axis 1.

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.prelu(accel.Tensor([-2.0, 4.0]), accel.Tensor([0.5])).tolist()
    [-1.0, 4.0]
    """
    x, weight = as_tensor(x), as_tensor(weight)
    if weight.size > 1 and x.ndim > 2:
        weight = record("reshape", weight, shape=(weight.size, *[1] * (x.ndim - 2)))
    elif weight.size == 1:
        weight = record("reshape", weight, shape=())
    return record("prelu", x, weight)


def glu(x: Any, dim: int = -1) -> Tensor:
    """The first half of `dim` times the sigmoid of the second half.

    Raises
    ------
    ShapeError
        When the extent of `dim` is odd.
    """
    x = as_tensor(x)
    extent = x.shape[dim]
    if extent % 2:
        raise ShapeError(
            f"glu: axis {dim} of shape {tuple(x.shape)} has odd extent {extent}",
            remedy="give it an even extent",
        )
    first, second = accel.split(x, extent // 2, dim=dim)
    return first * sigmoid(second)


def softmax(x: Any, dim: int = -1) -> Tensor:
    """exp(x) over its sum along `dim`, computed without overflow."""
    return record("softmax", x, axis=dim)


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """The logarithm of softmax, computed without overflow."""
    return record("log_softmax", x, axis=dim)


# Layers -------------------------------------------------------------------------------------


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., in).
    weight
        Shape (out, in).
    bias
        Shape (out,), or None.

    Raises
    ------
    ShapeError
        When the extents misfit.
    """
    return record("linear", x, weight) if bias is None else record("linear", x, weight, bias)


def embedding(index: Any, weight: Any) -> Tensor:
    """Rows of `weight` at integer places: shape (*index.shape, width).

    Raises
    ------
    IndexOutOfRangeError
        For an index below 0 or beyond the last row, when the result is computed.
    """
    return record("embedding", weight, index)


def one_hot(index: Any, num_classes: int) -> Tensor:
    """A 1 at each index and 0 elsewhere, along a new last axis; int64."""
    return record("one_hot", index, num_classes=num_classes)


def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """The last axes brought to mean 0 and variance 1, times `weight`, plus `bias`.

    Parameters
    ----------
    normalized_shape
        Extents of the axes that are normalised together.
    weight, bias
        Of that shape, or None.
    eps
        Added to the variance.

    Raises
    ------
    ShapeError
        When the last axes have other extents.
    """
    x, count = _normalized(x, normalized_shape, "layer_norm")
    if bias is not None and weight is None:
        weight = accel.ones(x.shape[-count:], dtype=x.dtype)
    given = [operand for operand in (weight, bias) if operand is not None]
    return record("layer_norm", x, *given, normalized_ndim=count, eps=eps)


def rms_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    """The last axes divided by the root of their mean square, times `weight`.

    Parameters
    ----------
    normalized_shape
        Extents of the axes that are normalised together.
    weight
        Of that shape, or None.
    eps
        Added to the mean square; None is the dtype's machine epsilon.

    Raises
    ------
    ShapeError
        When the last axes have other extents.
    """
    x, count = _normalized(x, normalized_shape, "rms_norm")
    if eps is None:
        eps = float(accel.finfo(x.dtype).eps)
    given = [] if weight is None else [weight]
    return record("rms_norm", x, *given, normalized_ndim=count, eps=eps)


def _normalized(x: Any, normalized_shape: int | Sequence[int], op: str) -> tuple[Tensor, int]:
    """`x` as a tensor, and how many of its last axes `normalized_shape` names."""
    x = as_tensor(x)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"{op}: normalized_shape {shape} is not the end of shape {tuple(x.shape)}",
            remedy="name the extents of the last axes",
        )
    return x, len(shape)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p
        Probability in [0, 1].
    training
        When false, `x` is returned as it is.
    """
    check_probability("dropout", p)
    x = as_tensor(x)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = accel.rand(*x.shape) >= p
    return record("where", kept, x * (1.0 / (1.0 - p)), 0.0)


def check_probability(op: str, p: float) -> None:
    """Raise ArgumentError unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"{op}: p is {p!r}", remedy="pass a probability from 0 to 1")


# Losses -------------------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability that softmax of `logits` gives to the target class.

    Parameters
    ----------
    logits
        Shape (N, C), (C,) or (N, C, d1, ...): the class axis is 1.
    target
        Class numbers: integers of the shape without the class axis.
    ignore_index
        Targets of this value count neither in the loss nor in its gradient.
    label_smoothing
        Share of the target that is spread evenly over all classes.
    reduction
        ``"mean"`` over the targets that count, ``"sum"`` or ``"none"``.

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
    return record(
        "cross_entropy",
        logits,
        target,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def nll_loss(
    log_probabilities: Any, target: Any, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probability of the target class; arguments as for `cross_entropy`."""
    return record(
        "nll_loss", log_probabilities, target, ignore_index=ignore_index, reduction=reduction
    )


def mse_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared difference."""
    return record("mse_loss", x, target, reduction=reduction)


def l1_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The absolute difference."""
    return record("l1_loss", x, target, reduction=reduction)


def smooth_l1_loss(x: Any, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Squared within `beta` of the target, absolute beyond."""
    return record("smooth_l1_loss", x, target, beta=beta, reduction=reduction)


def huber_loss(x: Any, target: Any, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Squared within `delta` of the target, `delta` times the absolute difference beyond."""
    return record("huber_loss", x, target, delta=delta, reduction=reduction)


def binary_cross_entropy(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Of probabilities `x` and targets in [0, 1]."""
    return record("binary_cross_entropy", x, target, reduction=reduction)


def binary_cross_entropy_with_logits(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Of logits `x` and targets in [0, 1], computed without overflow."""
    return record("binary_cross_entropy_with_logits", x, target, reduction=reduction)


def kl_div(x: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """Divergence of log-probabilities `x` from the target distribution.

    `reduction` may also be ``"batchmean"``: the sum over the extent of the first axis.
    """
    return record("kl_div", x, target, log_target=log_target, reduction=reduction)
