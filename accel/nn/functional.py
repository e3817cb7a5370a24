"""Neural functions: activations, layers and losses without state.

Arguments follow torch. Every function takes tensors and arrays, and has a gradient with respect
to its floating-point arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel
from ..frontend.arguments import public
from ..frontend.functions import (
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from ..frontend.norms import log_softmax, softmax
from ..frontend.recording import as_tensor, record
from ..frontend.tensor import Tensor

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "cosine_similarity",
    "cross_entropy", "dropout", "elu", "embedding", "gelu", "glu", "hardsigmoid",
    "hardswish", "hardtanh", "huber_loss", "kl_div", "l1_loss", "layer_norm",
    "leaky_relu", "linear", "log_softmax", "logsigmoid", "mish", "mse_loss", "nll_loss", "one_hot",
    "prelu", "relu", "relu6", "rms_norm", "selu", "sigmoid",
    "silu", "smooth_l1_loss", "softmax", "softplus", "softsign", "tanh", "tanhshrink",
]  # fmt: skip


# Layers -------------------------------------------------------------------------------------


@public
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


@public
def embedding(index: Any, weight: Any) -> Tensor:
    """Rows of `weight` at integer places: shape (*index.shape, width).

    Raises
    ------
    IndexOutOfRangeError
        For an index below 0 or beyond the last row, when the result is computed.
    """
    return record("embedding", weight, index)


@public
def one_hot(index: Any, num_classes: int) -> Tensor:
    """A 1 at each index and 0 elsewhere, along a new last axis; int64."""
    return record("one_hot", index, num_classes=num_classes)


@public
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


@public
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


@public
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


@public
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


@public
def nll_loss(
    log_probabilities: Any, target: Any, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probability of the target class; arguments as for `cross_entropy`."""
    return record(
        "nll_loss", log_probabilities, target, ignore_index=ignore_index, reduction=reduction
    )


@public
def mse_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared difference."""
    return record("mse_loss", x, target, reduction=reduction)


@public
def l1_loss(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The absolute difference."""
    return record("l1_loss", x, target, reduction=reduction)


@public
def smooth_l1_loss(x: Any, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Squared within `beta` of the target, absolute beyond."""
    return record("smooth_l1_loss", x, target, beta=beta, reduction=reduction)


@public
def huber_loss(x: Any, target: Any, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Squared within `delta` of the target, `delta` times the absolute difference beyond."""
    return record("huber_loss", x, target, delta=delta, reduction=reduction)


@public
def binary_cross_entropy(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Of probabilities `x` and targets in [0, 1]."""
    return record("binary_cross_entropy", x, target, reduction=reduction)


@public
def binary_cross_entropy_with_logits(x: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Of logits `x` and targets in [0, 1], computed without overflow."""
    return record("binary_cross_entropy_with_logits", x, target, reduction=reduction)


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
def kl_div(x: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """Divergence of log-probabilities `x` from the target distribution.

    `reduction` may also be ``"batchmean"``: the sum over the extent of the first axis.
    """
    return record("kl_div", x, target, log_target=log_target, reduction=reduction)
