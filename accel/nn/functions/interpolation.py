"""Images at other extents: the elements between elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .spatial import numbers

__all__ = ["interpolate"]


@public
def interpolate(
    x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:  # fmt: skip
    """An image at other extents.

    Parameters
    ----------
    x
        Shape (N, C, *spatial) with one to three spatial dimensions.
    size, scale_factor
        The new extents, or the factor to the old ones; one number, or one a dimension. Exactly
        one of them.
    mode
        ``"nearest"``, ``"nearest-exact"``, ``"linear"`` (one spatial dimension), ``"bilinear"``
        (two), ``"trilinear"`` (three), ``"bicubic"`` (two; a = -0.75) or ``"area"``.
    align_corners
        Whether the centres of the corner elements stay where they are, for the linear modes and
        bicubic.
    recompute_scale_factor
        Whether the factor is taken from the rounded extents and not as it was given.
    antialias
        Whether modes bilinear and bicubic (then with a = -0.5) average over as many elements as
        an output element covers, when an image shrinks.

    Raises
    ------
    ArgumentError
        For a mode that does not suit the number of dimensions.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[[1.0, 3.0]]])
    >>> accel.nn.functional.interpolate(x, size=4, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    x = as_tensor(x)
    count = x.ndim - 2
    if not 1 <= count <= 3:
        raise ShapeError(f"interpolate: an input of shape {list(x.shape)}",
                         remedy="give [N, C, *spatial] with 1 to 3 spatial dimensions")  # fmt: skip
    if antialias and mode not in _FILTERS:
        raise ArgumentError(f"interpolate: antialias with mode {mode!r}",
                            remedy="use 'bilinear' or 'bicubic'")  # fmt: skip
    if align_corners is not None and mode not in _SMOOTH:
        raise ArgumentError(f"interpolate: align_corners with mode {mode!r}",
                            remedy="leave it out")  # fmt: skip
    sizes, factors = _target(x, count, size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        pools = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
        return pools[count - 1](x, sizes)
    if mode not in _MODES or _MODES[mode] not in (0, count):
        fitting = [repr(m) for m, n in _MODES.items() if n in (0, count)]
        raise ArgumentError(f"interpolate: mode {mode!r} for {count} spatial dimensions",
                            remedy="use " + " or ".join([*fitting, "'area'"]))  # fmt: skip
    function = _averaged if antialias else _resampled
    for axis, (m, factor) in enumerate(zip(sizes, factors, strict=True), 2):
        x = function(x, axis, m, factor, mode, bool(align_corners))
    return x


#: Modes, and for how many spatial dimensions they are (0: any).
_MODES = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 2, "trilinear": 3,
          "bicubic": 2}  # fmt: skip
_SMOOTH = ("linear", "bilinear", "trilinear", "bicubic")


def _target(
    x: Tensor, count: int, size: Any, scale_factor: Any, recompute: bool
) -> tuple[tuple[int, ...], list[float | None]]:
    """The new extents, and the factors to use where they were given (None: by the extents)."""
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: size and scale_factor",
                            remedy="give exactly one of them")  # fmt: skip
    if size is not None:
        sizes = numbers("interpolate", "size", size, count)
        factors: list[float | None] = [None] * count
    else:
        given = numbers("interpolate", "scale_factor", scale_factor, count)
        sizes = tuple([math.floor(n * f) for n, f in zip(x.shape[2:], given, strict=True)])
        factors = [None] * count if recompute else [float(f) for f in given]
    if any(n < 1 for n in (*sizes, *x.shape[2:])):
        raise ArgumentError(f"interpolate: from extents {list(x.shape[2:])} to {list(sizes)}",
                            remedy="give extents of 1 or more")  # fmt: skip
    return sizes, factors


def _resampled(
    x: Tensor, axis: int, m: int, factor: float | None, mode: str, align_corners: bool
) -> Tensor:
    """`x` with `m` elements along an axis: a weighted sum of one, two or four of the old."""
    n = x.shape[axis]
    if n == m and factor in (None, 1.0):
        return x
    real = accel.float64 if x.dtype.name == "float64" else accel.float32
    number = accel.arange(m, dtype=real)
    step = n / m if factor is None else 1 / factor
    if mode in ("nearest", "nearest-exact"):
        shift = 0.5 if mode == "nearest-exact" else 0.0
        return _taken(x, accel.floor((number + shift) * step), axis)
    if align_corners:
        source = number * ((n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        source = (number + 0.5) * step - 0.5
    if mode == "bicubic":
        first = accel.floor(source)
        weights = _cubic_weights(source - first)
        places = [first + shift for shift in (-1, 0, 1, 2)]
    else:
        source = accel.maximum(source, 0.0)
        first = accel.floor(source)
        part = accel.minimum(source - first, 1.0)
        weights, places = [1 - part, part], [first, first + 1]
    tail = (m,) + (1,) * (x.ndim - 1 - axis)
    parts = [
        _taken(x, place, axis) * weight.reshape(*tail)
        for place, weight in zip(places, weights, strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.astype(x.dtype)


def _taken(x: Tensor, place: Tensor, axis: int) -> Tensor:
    index = accel.clamp(place, 0, x.shape[axis] - 1).astype(accel.int64)
    return record("take_unchecked", x, index, axis=axis)


def _cubic_weights(t: Tensor, a: float = -0.75) -> list[Tensor]:
    """R. Keys: Cubic convolution interpolation for digital image processing. 1981."""

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


# -- with as many elements as are covered -----------------------------------------------------
def _triangle(d: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(d), 0.0)


def _cubic(d: np.ndarray) -> np.ndarray:
    d, a = np.abs(d), -0.5
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


#: Weights by distance, and the distance to which they reach.
_FILTERS: dict[str, tuple[Any, float]] = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}


def _averaged(
    x: Tensor, axis: int, m: int, factor: float | None, mode: str, align_corners: bool
) -> Tensor:
    """`x` with `m` elements along an axis, as a product with the matrix of their weights."""
    n = x.shape[axis]
    if align_corners:
        step = (n - 1) / (m - 1) if m > 1 else 0.0
    else:
        step = n / m if factor is None else 1 / factor
    filtered, reach = _FILTERS[mode]
    wide = max(step, 1.0)
    centre = step * (np.arange(m)[:, None] + 0.5)
    first = np.maximum(np.trunc(centre - reach * wide + 0.5), 0)
    last = np.minimum(np.trunc(centre + reach * wide + 0.5), n)
    place = np.arange(n)
    weights = filtered((place - centre + 0.5) / wide) * ((place >= first) & (place < last))
    weights = weights / weights.sum(1, keepdims=True)
    real = accel.float64 if x.dtype.name == "float64" else accel.float32
    matrix = accel.asarray(weights.T).astype(real)
    turned = accel.moveaxis(x.astype(real), axis, -1)
    return accel.moveaxis(turned @ matrix, -1, axis).astype(x.dtype)
