"""Normalisation of channels: batch, group and instance norm, by way of `layer_norm`."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor

__all__ = ["batch_norm", "group_norm", "instance_norm", "local_response_norm", "normalize"]


@public
def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel brought to mean 0 and variance 1, times `weight`, plus `bias`.

    In training, mean and variance are those of the batch, and the running statistics move
    towards them; otherwise they are the running ones, and the function is one product and sum.

    Parameters
    ----------
    x
        Shape (N, C, ...).
    running_mean, running_var
        Shape (C,); in training they get new values. None: there are none, and the batch's
        statistics are used.
    weight, bias
        Shape (C,), or None.
    momentum
        Share of the batch in the new running statistics, whose variance is the unbiased one.
    eps
        Added to the variance.

    Raises
    ------
    ShapeError
        When the channels misfit, and in training for a single value a channel.

    Notes
    -----
    S. Ioffe, C. Szegedy: Batch normalization. ICML 2015.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[1.0], [3.0]])
    >>> y = accel.nn.functional.batch_norm(x, None, None, training=True, eps=0.0)
    >>> y.tolist()
    [[-1.0], [1.0]]
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: an input of shape {list(x.shape)}",
                         remedy="give [N, C, ...]")  # fmt: skip
    _check_channels("batch_norm", x.shape[1], running_mean=running_mean, running_var=running_var,
                    weight=weight, bias=bias)  # fmt: skip
    if not training and running_mean is not None:
        return _with_statistics(x, running_mean, running_var, weight, bias, eps)
    count = x.shape[0] * math.prod(x.shape[2:])
    if training and count == 1:
        raise ShapeError(
            f"batch_norm: one value a channel in training, of an input of shape {list(x.shape)}",
            remedy="give a larger batch, or call eval() on the module",
        )
    order = (1, 0, *range(2, x.ndim))
    by_channel = accel.permute(x, order)
    if training and running_mean is not None:
        _move(by_channel, running_mean, running_var, momentum, count)
    rows = record("layer_norm", by_channel, normalized_ndim=x.ndim - 1, eps=eps)
    return _affine(accel.permute(rows, order), weight, bias)


def _check_channels(name: str, channels: int, **parameters: Any) -> None:
    for word, parameter in parameters.items():
        if parameter is not None and tuple(parameter.shape) != (channels,):
            raise ShapeError(
                f"{name}: a {word} of shape {list(parameter.shape)} for {channels} channels",
                remedy=f"make its shape [{channels}]",
            )


def _on_channels(x: Tensor, parameter: Any) -> Tensor:
    return as_tensor(parameter).reshape(-1, *[1] * (x.ndim - 2))


def _affine(x: Tensor, weight: Any, bias: Any) -> Tensor:
    dtype = x.dtype
    if weight is not None:
        x = x * _on_channels(x, weight)
    if bias is not None:
        x = x + _on_channels(x, bias)
    return x.astype(dtype)


def _with_statistics(
    x: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, eps: float
) -> Tensor:
    """A factor and a summand for each channel, so that little is done for each element."""
    factor = accel.rsqrt(variance + eps)
    if weight is not None:
        factor = factor * weight
    summand = -mean * factor
    if bias is not None:
        summand = summand + bias
    return (x * _on_channels(x, factor) + _on_channels(x, summand)).astype(x.dtype)


def _move(x: Tensor, running_mean: Tensor, running_var: Tensor, share: Any, count: int) -> None:
    """Running statistics towards those of `x` [C, ...]; written as `layer_norm` writes its own,
    so that the two are computed once."""
    with accel.no_grad():
        axes = tuple(range(1, x.ndim))
        wide = x.astype(running_mean.dtype)
        mean = accel.mean(wide, axis=axes, keepdims=True)
        centred = wide - mean
        variance = accel.mean(centred * centred, axis=axes, keepdims=True).reshape(-1)
        variance = variance * (count / (count - 1))
        for running, found in ((running_mean, mean.reshape(-1)), (running_var, variance)):
            running.data = (running * (1 - share) + found * share).astype(running.dtype)


@public
def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Each group of channels of each sample brought to mean 0 and variance 1.

    Parameters
    ----------
    x
        Shape (N, C, ...).
    num_groups
        A divisor of C.
    weight, bias
        Shape (C,), or None: a factor and a summand for each channel.
    eps
        Added to the variance.

    Raises
    ------
    ShapeError
        When the channels misfit.

    Notes
    -----
    Y. Wu, K. He: Group normalization. ECCV 2018.
    """
    x = as_tensor(x)
    if isinstance(num_groups, bool) or not isinstance(num_groups, int) or num_groups < 1:
        raise ArgumentError(f"group_norm: num_groups {num_groups!r}",
                            remedy="give an int of 1 or more")  # fmt: skip
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: {num_groups} groups of an input of shape {list(x.shape)}",
                         remedy="give [N, C, ...] with a multiple of the groups as C")  # fmt: skip
    _check_channels("group_norm", x.shape[1], weight=weight, bias=bias)
    n, channels = x.shape[0], x.shape[1]
    size = channels // num_groups * math.prod(x.shape[2:])
    rows = record("layer_norm", x.reshape(n, num_groups, size), normalized_ndim=1, eps=eps)
    return _affine(rows.reshape(*x.shape), weight, bias)


@public
def instance_norm(
    x: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel of each sample brought to mean 0 and variance 1.

    Parameters
    ----------
    x
        Shape (N, C, ...).
    running_mean, running_var
        Shape (C,), or None; with `use_input_stats` they move towards the means of the samples'
        statistics, without it they are used.
    weight, bias
        Shape (C,), or None.
    momentum
        Share of the batch in the new running statistics.
    eps
        Added to the variance.

    Raises
    ------
    ShapeError
        When the channels misfit, or there is a single value a channel.

    Notes
    -----
    D. Ulyanov, A. Vedaldi, V. Lempitsky: Instance normalization. 2016.
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"instance_norm: an input of shape {list(x.shape)}",
                         remedy="give [N, C, ...]")  # fmt: skip
    channels, size = x.shape[1], math.prod(x.shape[2:])
    _check_channels("instance_norm", channels, running_mean=running_mean, running_var=running_var,
                    weight=weight, bias=bias)  # fmt: skip
    if not use_input_stats and running_mean is not None:
        return _with_statistics(x, running_mean, running_var, weight, bias, eps)
    if size == 1:
        raise ShapeError(
            f"instance_norm: one value a channel, of an input of shape {list(x.shape)}",
            remedy="give larger images",
        )
    flat = x.reshape(x.shape[0], channels, size)
    if running_mean is not None:
        _move_by_sample(flat, running_mean, running_var, momentum)
    rows = record("layer_norm", flat, normalized_ndim=1, eps=eps)
    return _affine(rows.reshape(*x.shape), weight, bias)


def _move_by_sample(x: Tensor, running_mean: Tensor, running_var: Tensor, share: float) -> None:
    with accel.no_grad():
        wide = x.astype(running_mean.dtype)
        mean = accel.mean(wide, axis=(0, 2))
        variance = accel.mean(accel.var(wide, axis=2, correction=1), axis=0)
        for running, found in ((running_mean, mean), (running_var, variance)):
            running.data = (running * (1 - share) + found * share).astype(running.dtype)


@public
def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Each element over (k + alpha m)^beta, m being the mean square of `size` neighbouring
    channels, of which those beyond the ends are 0.

    Parameters
    ----------
    x
        Shape (N, C, ...).

    Notes
    -----
    A. Krizhevsky et al.: ImageNet classification with deep convolutional neural networks.
    NeurIPS 2012.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[[2.0]]])
    >>> accel.nn.functional.local_response_norm(x, 1, alpha=1.0, beta=1.0, k=0.0).tolist()
    [[[0.5]]]
    """
    x = as_tensor(x)
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: an input of shape {list(x.shape)}",
                         remedy="give [N, C, ...] with three dimensions or more")  # fmt: skip
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"local_response_norm: size {size!r}",
                            remedy="give an int of 1 or more")  # fmt: skip
    outer = (0,) * (x.ndim - 2)
    wide = record("pad", x * x, low=(0, size // 2, *outer), high=(0, (size - 1) // 2, *outer))
    channels = x.shape[1]
    total = wide[:, :channels]
    for i in range(1, size):
        total = total + wide[:, i : i + channels]
    return x / accel.pow(total * (alpha / size) + k, beta)


@public
def normalize(x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """`x` over its p-norm along an axis (or several), which counts as `eps` at least.

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.normalize(accel.asarray([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    x = as_tensor(x)
    size = accel.linalg.vector_norm(x, ord=p, axis=dim, keepdims=True)
    return x / accel.maximum(size, eps)
