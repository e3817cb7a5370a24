"""Images taken apart and put together: patches, pixels moved to channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor
from .spatial import batched, numbers

__all__ = ["channel_shuffle", "fold", "pixel_shuffle", "pixel_unshuffle", "unfold"]


# -- patches --------------------------------------------------------------------------------
def _patches(
    name: str, extents: Sequence[int], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Where patches lie in a flattened padded image, as [taps, patches]; kernel, padding and
    the padded extents."""
    kernel = numbers(name, "kernel_size", kernel_size, 2)
    pads = numbers(name, "padding", padding, 2)
    rows = list(zip(extents, kernel, numbers(name, "dilation", dilation, 2), pads,
                    numbers(name, "stride", stride, 2), strict=True))  # fmt: skip
    if any(k < 1 or d < 1 or p < 0 or s < 1 for _, k, d, p, s in rows):
        raise ArgumentError(f"{name}: kernel, dilation, padding or stride is too small",
                            remedy="give 1 or more, and a padding of 0 or more")  # fmt: skip
    axes = []
    for n, k, d, p, s in rows:
        count = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if count < 1:
            raise ShapeError(
                f"{name}: a patch that spans {d * (k - 1) + 1} of an extent of {n} padded to "
                f"{n + 2 * p}",
                remedy="use a smaller kernel",
            )
        axes.append(accel.arange(k).unsqueeze(1) * d + accel.arange(count) * s)
    padded = tuple([n + 2 * p for n, _, _, p, _ in rows])
    (kh, oh), (kw, ow) = (a.shape for a in axes)
    place = axes[0].reshape(kh, 1, oh, 1) * padded[1] + axes[1].reshape(1, kw, 1, ow)
    return place.reshape(kh * kw, oh * ow), kernel, pads, padded


@public
def unfold(
    x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The patches under a sliding kernel as columns.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W).
    kernel_size, dilation, padding, stride
        As for `conv2d`.

    Returns
    -------
    Tensor
        Shape (N, C * elements of the kernel, number of patches).

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.unfold(accel.ones((1, 2, 4, 4)), 3).shape
    (1, 18, 4)
    """

    def apply(image: Tensor) -> Tensor:
        n, channels, *extents = image.shape
        place, kernel, (ph, pw), padded = _patches(
            "unfold", extents, kernel_size, dilation, padding, stride
        )
        wide = accel.pad(image, (pw, pw, ph, ph)) if ph or pw else image
        flat = wide.reshape(n, channels, padded[0] * padded[1])
        columns = record("take_unchecked", flat, place, axis=2)
        return columns.reshape(n, channels * math.prod(kernel), place.shape[1])

    return batched("unfold", 2, x, apply)


@public
def fold(
    x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
    stride: Any = 1,
) -> Tensor:  # fmt: skip
    """Add the columns of `unfold` up to an image; where patches overlap, their elements add.

    Parameters
    ----------
    x
        Shape (N, C * elements of the kernel, number of patches), or without N.
    output_size
        Extents of the image.

    Raises
    ------
    ShapeError
        When the columns are not those of such an image.

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.fold(accel.ones((1, 4, 1)), 2, 2).shape
    (1, 1, 2, 2)
    """
    extents = numbers("fold", "output_size", output_size, 2)

    def apply(columns: Tensor) -> Tensor:
        place, kernel, (ph, pw), (height, width) = _patches(
            "fold", extents, kernel_size, dilation, padding, stride
        )
        n, rows, count = columns.shape
        taps = math.prod(kernel)
        if rows % taps or count != place.shape[1]:
            raise ShapeError(
                f"fold: columns of shape {list(columns.shape)} for {place.shape[1]} patches of "
                f"{taps} elements",
                remedy="give what unfold makes of such an image",
            )
        flat = columns.reshape(n, rows // taps, taps * count)
        image = accel.zeros((n, rows // taps, height * width), dtype=columns.dtype)
        image = record("index_add_unchecked", image, place.reshape(-1), flat, axis=2)
        image = image.reshape(n, rows // taps, height, width)
        return image[:, :, ph : height - ph, pw : width - pw]

    return batched("fold", 1, x, apply)


# -- pixels and channels --------------------------------------------------------------------
@public
def pixel_shuffle(x: Any, upscale_factor: int) -> Tensor:
    """Channels moved into space: (..., C r², H, W) to (..., C, H r, W r).

    Raises
    ------
    ShapeError
        When r² does not divide the channels.

    Notes
    -----
    W. Shi et al.: Real-time single image and video super-resolution. CVPR 2016.
    """
    x, r = as_tensor(x), _factor("pixel_shuffle", upscale_factor)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: an input of shape {list(x.shape)} by {r}",
                         remedy="the square of the factor must divide the channels")  # fmt: skip
    *lead, channels, h, w = x.shape
    parts = x.reshape(-1, channels // (r * r), r, r, h, w)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(*lead, channels // (r * r), h * r, w * r)


@public
def pixel_unshuffle(x: Any, downscale_factor: int) -> Tensor:
    """Space moved into channels: the inverse of `pixel_shuffle`."""
    x, r = as_tensor(x), _factor("pixel_unshuffle", downscale_factor)
    if x.ndim < 3 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(f"pixel_unshuffle: an input of shape {list(x.shape)} by {r}",
                         remedy="the factor must divide height and width")  # fmt: skip
    *lead, channels, h, w = x.shape
    parts = x.reshape(-1, channels, h // r, r, w // r, r)
    return parts.permute(0, 1, 3, 5, 2, 4).reshape(*lead, channels * r * r, h // r, w // r)


@public
def channel_shuffle(x: Any, groups: int) -> Tensor:
    """Channels of (N, C, ...) dealt out from `groups` groups in turn."""
    x, groups = as_tensor(x), _factor("channel_shuffle", groups)
    if x.ndim < 3 or x.shape[1] % groups:
        raise ShapeError(f"channel_shuffle: {groups} groups of shape {list(x.shape)}",
                         remedy="the groups must divide the channels")  # fmt: skip
    n, channels, *rest = x.shape
    parts = x.reshape(n, groups, channels // groups, math.prod(rest))
    return parts.permute(0, 2, 1, 3).reshape(n, channels, *rest)


def _factor(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}: a factor of {value!r}", remedy="give an int of 1 or more")
    return value
