"""Pools by p-norms, and the places of maxima put back where they were."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor
from ...frontend.tensors.tensor import Tensor
from .pooling import avg_pool1d, avg_pool2d, avg_pool3d
from .spatial import batched, numbers

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d"]

_AVERAGES = (avg_pool1d, avg_pool2d, avg_pool3d)


# -- norms of windows -----------------------------------------------------------------------
@public
def lp_pool1d(
    x: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window of a sequence; as `lp_pool2d`."""
    return _lp_pool("lp_pool1d", 1, x, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool2d(
    x: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window of an image: the root of order p of the sum of powers.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    norm_type
        p; 1 gives sums. Signs are kept out of the root: a negative sum counts as 0.
    kernel_size, stride, ceil_mode
        As for `avg_pool2d`. A window that reaches beyond the end counts as if it were whole.

    Returns
    -------
    Tensor
        Shape (N, C, H', W').

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.lp_pool2d(accel.asarray([[[3.0, 4.0]]]), 2, (1, 2)).tolist()
    [[[5.0]]]
    """
    return _lp_pool("lp_pool2d", 2, x, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool3d(
    x: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window of a volume; as `lp_pool2d`."""
    return _lp_pool("lp_pool3d", 3, x, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(
    name: str, count: int, x: Any, p: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    if not p:
        raise ArgumentError(f"{name}: norm_type is {p}", remedy="give another number than 0")
    kernel = numbers(name, "kernel_size", kernel_size, count)
    mean = _AVERAGES[count - 1](accel.pow(as_tensor(x), p), kernel, stride, 0, ceil_mode)
    return accel.pow(accel.relu(mean) * math.prod(kernel), 1.0 / p)


# -- the inverse of max_pool ----------------------------------------------------------------
@public
def max_unpool1d(
    x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The elements of a pooled sequence at their old places; as `max_unpool2d`."""
    return _max_unpool("max_unpool1d", 1, x, indices, kernel_size, stride, padding, output_size)


@public
def max_unpool2d(
    x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The elements of a pooled image at their old places, 0 elsewhere.

    Parameters
    ----------
    x, indices
        What `max_pool2d` gives with `return_indices`.
    kernel_size, stride, padding
        Those of the pool.
    output_size
        Extents of the result, with or without batch and channels; None takes the least that
        the windows fill.

    Raises
    ------
    IndexOutOfRangeError
        For a place outside of the result, when it is computed.
    ArgumentError
        For extents that no such pool comes from.

    Examples
    --------
    >>> import accel
    >>> F = accel.nn.functional
    >>> pooled = F.max_pool2d(accel.asarray([[[1.0, 2.0], [3.0, 4.0]]]), 2, return_indices=True)
    >>> F.max_unpool2d(*pooled, 2).tolist()
    [[[0.0, 0.0], [0.0, 4.0]]]
    """
    return _max_unpool("max_unpool2d", 2, x, indices, kernel_size, stride, padding, output_size)


@public
def max_unpool3d(
    x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The elements of a pooled volume at their old places; as `max_unpool2d`."""
    return _max_unpool("max_unpool3d", 3, x, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    name: str, count: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Tensor:  # fmt: skip
    x, indices = as_tensor(x), as_tensor(indices)
    if x.shape != indices.shape:
        raise ShapeError(f"{name}: indices of shape {list(indices.shape)} for {list(x.shape)}",
                         remedy="give those of the same pool")  # fmt: skip
    kernel = numbers(name, "kernel_size", kernel_size, count)
    steps = kernel if stride is None else numbers(name, "stride", stride, count)
    pads = numbers(name, "padding", padding, count)
    least = [
        (n - 1) * s - 2 * p + k
        for n, k, s, p in zip(x.shape[-count:], kernel, steps, pads, strict=True)
    ]
    extents = least if output_size is None else [int(n) for n in output_size][-count:]
    fits = len(extents) == count and all(
        m - s < n < m + s for n, m, s in zip(extents, least, steps, strict=True)
    )
    if output_size is not None and not fits:
        raise ArgumentError(f"{name}: output_size {tuple(output_size)} where {least} is natural",
                            remedy="stay within one stride of that")  # fmt: skip

    def apply(image: Tensor) -> Tensor:
        lead = image.shape[:2]
        places = indices.reshape(*lead, -1)
        empty = accel.zeros((*lead, math.prod(extents)), dtype=image.dtype)
        return accel.scatter(empty, 2, places, image.reshape(*lead, -1)).reshape(*lead, *extents)

    return batched(name, count, x, apply)
