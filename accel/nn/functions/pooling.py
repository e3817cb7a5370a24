"""Pooling: windows of an image folded to their greatest element or their mean."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ArgumentError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import record
from ...frontend.tensors.tensor import Tensor
from .spatial import batched, numbers

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d",
]  # fmt: skip


# -- max_pool -------------------------------------------------------------------------------
@public
def max_pool1d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The greatest element of each window of a sequence; as `max_pool2d`."""
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


@public
def max_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The greatest element of each window of an image.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    kernel_size
        Extents of the window; one int, or one a dimension.
    stride
        Places from window to window; None is the window's extent.
    padding
        Places around the image, of -inf, at most half of a window.
    dilation
        Places from one element of a window to the next.
    ceil_mode
        Whether windows count that reach beyond the end.
    return_indices
        Whether to give also where the elements were, as int64 over the flattened image.

    Returns
    -------
    Tensor or (Tensor, Tensor)
        Shape (N, C, H', W').

    Raises
    ------
    ShapeError
        When a window is larger than the padded image.

    Examples
    --------
    >>> import accel
    >>> x = accel.arange(16.0).reshape(1, 1, 4, 4)
    >>> accel.nn.functional.max_pool2d(x, 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


@public
def max_pool3d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The greatest element of each window of a volume; as `max_pool2d`."""
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


def _max_pool(
    name: str, count: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    attrs = _window(name, count, kernel_size, stride, padding, ceil_mode)
    attrs["dilation"] = numbers(name, "dilation", dilation, count)

    def apply(image: Tensor) -> Any:
        values = record("max_pool", image, **attrs)
        return (values, record("max_pool_indices", image, **attrs)) if return_indices else values

    return batched(name, count, x, apply)


def _window(
    name: str, count: int, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> dict[str, Any]:
    kernel = numbers(name, "kernel_size", kernel_size, count)
    return {
        "kernel": kernel,
        "stride": kernel if stride is None else numbers(name, "stride", stride, count),
        "padding": numbers(name, "padding", padding, count),
        "ceil_mode": ceil_mode,
    }


# -- avg_pool -------------------------------------------------------------------------------
@public
def avg_pool1d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The mean of each window of a sequence; as `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, None)  # fmt: skip


@public
def avg_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: float | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of an image.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    kernel_size, stride, padding, ceil_mode
        As for `max_pool2d`; padding holds zeros.
    count_include_pad
        Whether padding counts in the mean.
    divisor_override
        What sums are divided by instead of the number of elements.

    Returns
    -------
    Tensor
        Shape (N, C, H', W').

    Examples
    --------
    >>> import accel
    >>> x = accel.arange(16.0).reshape(1, 1, 4, 4)
    >>> accel.nn.functional.avg_pool2d(x, 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, divisor_override)  # fmt: skip


@public
def avg_pool3d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: float | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of a volume; as `avg_pool2d`."""
    return _avg_pool("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, divisor_override)  # fmt: skip


def _avg_pool(
    name: str, count: int, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: float | None,
) -> Tensor:  # fmt: skip
    attrs = _window(name, count, kernel_size, stride, padding, ceil_mode)
    more = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return batched(name, count, x, lambda image: record("avg_pool", image, **attrs, **more))


# -- adaptive pools: windows that divide the image evenly ------------------------------------
@public
def adaptive_avg_pool1d(x: Any, output_size: Any) -> Tensor:
    """Means of a sequence at a given number of places; as `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_avg_pool1d", 1, x, output_size, _adaptive_mean)


@public
def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """Means of windows that divide an image into a given number of places.

    Window i of m along an extent of n reaches from floor(i n / m) to ceil((i + 1) n / m).

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    output_size
        Extents of the result; one int, or one a dimension; None keeps an extent.

    Returns
    -------
    Tensor
        Shape (N, C, *output_size).

    Examples
    --------
    >>> import accel
    >>> accel.nn.functional.adaptive_avg_pool2d(accel.ones((1, 2, 7, 5)), (1, None)).shape
    (1, 2, 1, 5)
    """
    return _adaptive("adaptive_avg_pool2d", 2, x, output_size, _adaptive_mean)


@public
def adaptive_avg_pool3d(x: Any, output_size: Any) -> Tensor:
    """Means of a volume at a given number of places; as `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_avg_pool3d", 3, x, output_size, _adaptive_mean)


@public
def adaptive_max_pool1d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of a sequence at a given number of places; as `adaptive_max_pool2d`."""
    chosen = _adaptive_max_and_indices if return_indices else _adaptive_max
    return _adaptive("adaptive_max_pool1d", 1, x, output_size, chosen)


@public
def adaptive_max_pool2d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of windows that divide an image as those of `adaptive_avg_pool2d` do.

    With `return_indices` also where they were, as int64 over the flattened image.
    """
    chosen = _adaptive_max_and_indices if return_indices else _adaptive_max
    return _adaptive("adaptive_max_pool2d", 2, x, output_size, chosen)


@public
def adaptive_max_pool3d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of a volume at a given number of places; as `adaptive_max_pool2d`."""
    chosen = _adaptive_max_and_indices if return_indices else _adaptive_max
    return _adaptive("adaptive_max_pool3d", 3, x, output_size, chosen)


def _adaptive(name: str, count: int, x: Any, output_size: Any, function: Any) -> Any:
    def apply(image: Tensor) -> Any:
        given = numbers(name, "output_size", output_size, count)
        pairs = list(zip(image.shape[2:], given, strict=True))
        places = tuple([n if m is None else m for n, m in pairs])
        if any(isinstance(m, bool) or not isinstance(m, int) or m < 1 for m in places):
            raise ArgumentError(f"{name}: output_size {output_size!r}",
                                remedy="give an int of 1 or more, or None")  # fmt: skip
        if any(n < 1 for n in image.shape[2:]):
            raise ArgumentError(f"{name}: an image of shape {list(image.shape)}",
                                remedy="give an image with elements")  # fmt: skip
        return function(image, places)

    return batched(name, count, x, apply)


def _even_windows(x: Tensor, places: tuple[int, ...]) -> tuple[int, ...] | None:
    """The extents of the windows if they do not overlap and are alike."""
    pairs = list(zip(x.shape[2:], places, strict=True))
    return None if any(n % m for n, m in pairs) else tuple([n // m for n, m in pairs])


def _along(n: int, m: int) -> tuple[Tensor, Tensor]:
    """Where the windows' elements are along a dimension, as [places, longest window], those
    beyond a window's end repeating its last; and the windows' lengths."""
    number = accel.arange(m)
    start, end = number * n // m, -(-(number + 1) * n // m)
    longest = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
    place = start.unsqueeze(1) + accel.arange(longest)
    return accel.minimum(place, (end - 1).unsqueeze(1)), end - start


def _adaptive_mean(x: Tensor, places: tuple[int, ...]) -> Tensor:
    kernel = _even_windows(x, places)
    if kernel is not None:
        return record("avg_pool", x, kernel=kernel)
    for axis, (n, m) in enumerate(zip(x.shape[2:], places, strict=True), 2):
        if n != m:
            place, length = _along(n, m)
            tail = [1] * (x.ndim - 1 - axis)
            values = record("take_unchecked", x, place, axis=axis)
            within = accel.arange(place.shape[1]) < length.unsqueeze(1)
            values = accel.where(within.reshape(*within.shape, *tail), values, 0.0)
            x = accel.sum(values, axis=axis + 1) / length.reshape(m, *tail)
    return x


def _adaptive_max(x: Tensor, places: tuple[int, ...]) -> Tensor:
    kernel = _even_windows(x, places)
    if kernel is not None:
        return record("max_pool", x, kernel=kernel)
    for axis, (n, m) in enumerate(zip(x.shape[2:], places, strict=True), 2):
        if n != m:
            values = record("take_unchecked", x, _along(n, m)[0], axis=axis)
            x = accel.amax(values, dim=axis + 1)
    return x


def _adaptive_max_and_indices(x: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    kernel = _even_windows(x, places)
    if kernel is not None:
        return record("max_pool", x, kernel=kernel), record("max_pool_indices", x, kernel=kernel)
    table: Any = 0  # of flat places: [*places, *window]
    count = len(places)
    for axis, (n, m) in enumerate(zip(x.shape[2:], places, strict=True)):
        place, _ = _along(n, m)
        shape = [1] * (2 * count)
        shape[axis], shape[count + axis] = place.shape
        table = table * n + place.reshape(*shape)
    rows = table.reshape(math.prod(places), -1)
    lead = x.shape[:2]
    values = record("take_unchecked", x.reshape(*lead, -1), rows, axis=2)
    chosen = accel.argmax(values, axis=3)
    index = accel.take_along_axis(rows, chosen.reshape(-1, rows.shape[0]).t(), axis=1).t()
    found = accel.take_along_axis(values, chosen.unsqueeze(3), axis=3)
    return found.reshape(*lead, *places), index.reshape(*lead, *places)
