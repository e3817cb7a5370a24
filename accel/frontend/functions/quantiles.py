"""Medians and quantiles.

All are elements of the sorted operand, or lie between two of them: gradients go to these.
A lane that holds NaN gives NaN; the functions named ``nan…`` pass NaN by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError, EmptyReductionError
from ...ir import dtypes
from ...ir.axes import reduced_shape, some_axes
from ..tensors.arguments import UNSET, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .dtype_functions import inexact
from .indexing import get_item
from .ordering import along, at_places, found_along
from .reductions import ValuesAndIndices, axes_of

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]


def _lanes(op: str, x: Any, axis: Any) -> tuple[Tensor, tuple[int, ...]]:
    """`x` with the folded axes as one, the last; and which they were."""
    x = as_tensor(x)
    axes = some_axes(axis, x.ndim, op)
    others = [i for i in range(x.ndim) if i not in axes]
    shape = (*[x.shape[i] for i in others], math.prod(x.shape[i] for i in axes))
    lanes = record("permute", x, axes=(*others, *axes))
    return record("reshape", lanes, shape=shape), axes


def _counts(lanes: Tensor) -> Tensor:
    """How many elements of each lane are not NaN, with the lane's axis of extent 1."""
    known = record("logical_not", record("isnan", lanes))
    return record("sum", known, axis=-1, keepdims=True)


# -- medians ---------------------------------------------------------------------------------
def _mean_of_middles(op: str, x: Any, axis: Any, keep: bool, ignore: bool) -> Tensor:
    """NumPy's median: the mean of the two middle elements, or the one."""
    lanes, axes = _lanes(op, x, axis)
    ordered = record("sort", inexact(lanes), axis=-1)
    n = lanes.shape[-1]
    if not n:
        middles = ordered  # their mean is NaN
    elif ignore:
        count = _counts(ordered)
        low = record("maximum", record("floor_divide", record("sub", count, 1), 2), 0)
        high = record("minimum", record("floor_divide", count, 2), n - 1)
        places = record("cat", low, high, axis=-1)
        middles = record("take_along_axis", ordered, places, axis=-1)
    else:
        middles = get_item(ordered, (..., slice((n - 1) // 2, n // 2 + 1)))
    found = record("mean", middles, axis=-1)
    if n and not ignore:
        found = _nan_wins(ordered, found)
    return record("reshape", found, shape=reduced_shape(as_tensor(x).shape, axes, keep))


def _nan_wins(ordered: Tensor, found: Tensor) -> Tensor:
    """`found`, or NaN for lanes that hold one: it is their last."""
    last = get_item(ordered, (..., -1))
    if found.ndim == ordered.ndim:
        last = record("expand_dims", last, axis=last.ndim)
    return record("where", record("isnan", last), last, found)


def _lower_middle(
    op: str, x: Any, dim: Any, keep: bool, ignore: bool
) -> ValuesAndIndices:
    """torch's median: the lower of the two middle elements and where it first stands."""
    x, over = along(op, x, dim, UNSET)
    n = x.shape[over]
    if not n and math.prod([m for i, m in enumerate(x.shape) if i != over]):
        raise EmptyReductionError(f"{op} of {list(x.shape)} along axis {over}: no elements",
                                  remedy="make sure that the axis is not empty")  # fmt: skip
    ordered = record("sort", x, axis=over)
    known = record("logical_not", record("isnan", x))
    count = record("sum", known, axis=over, keepdims=True)
    rank = record("maximum", record("floor_divide", record("sub", count, 1), 2), 0)
    if not ignore:  # the first NaN, where there is one
        rank = record("where", record("lt", count, n), count, rank)
    return found_along(x, at_places(ordered, rank, over), over, keep)


def _median(name: str, ignore: bool, what: str, example: str) -> Callable[..., Any]:
    def median(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool | None = None,
    ) -> Any:  # fmt: skip
        if axis is not UNSET or keepdims is not None:
            over = axes_of(name, dim, axis)
            return _mean_of_middles(name, x, over, bool(keepdim or keepdims), ignore)
        if dim is UNSET or dim is None:
            flat = record("reshape", as_tensor(x), shape=-1)
            return _lower_middle(name, flat, 0, False, ignore).values
        return _lower_middle(name, x, dim, keepdim, ignore)

    median.__name__ = median.__qualname__ = name
    median.__doc__ = f"""The median; {what}.

Parameters
----------
x
    Of bool, integer or floating dtype.
axis, keepdims
    NumPy's: an int, a tuple of ints or None; the mean of the two middle elements.
dim, keepdim
    torch's: the lower of the two middle elements along it, and its place. Without any of
    these the lower middle of all elements.

Returns
-------
Tensor or ValuesAndIndices
    Values; with ``dim`` the named pair (values, indices).

Examples
--------
>>> import accel
>>> x = accel.asarray([4.0, 1.0, {"float('nan'), " if ignore else ""}3.0, 2.0])
>>> accel.{name}(x).item(), accel.{name}(x, axis=0).item(), accel.{name}(x, 0).indices.item()
{example}
"""
    return public(median)


median = _median("median", False, "NaN where there is a NaN", "(2.0, 2.5, 3)")
nanmedian = _median("nanmedian", True, "NaN are passed by", "(2.0, 2.5, 4)")


# -- quantiles -------------------------------------------------------------------------------
#: The parameters of the continuous methods (Hyndman and Fan, 1996).
_CONTINUOUS = {
    "linear": (1.0, 1.0), "hazen": (0.5, 0.5), "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
    "interpolated_inverted_cdf": (0.0, 1.0),
}  # fmt: skip
_METHODS = (
    *_CONTINUOUS, "lower", "higher", "midpoint", "nearest", "inverted_cdf",
    "averaged_inverted_cdf", "closest_observation",
)  # fmt: skip


def _rank(q: Tensor, n: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Between which places of n sorted elements a quantile lies, in float64: the lower one,
    and the weight of the next."""
    if method in _CONTINUOUS:
        a, b = _CONTINUOUS[method]
        rank = record("add", record("mul", n, q), record("mul", q, 1 - a - b))
        rank = record("add", rank, a - 1)
        if method == "linear":
            rank = record("mul", record("sub", n, 1), q)
        rank = record("minimum", record("maximum", rank, 0), record("sub", n, 1))
        low = record("floor", rank)
        return low, record("sub", rank, low)
    from_zero = method in ("lower", "higher", "midpoint", "nearest")
    rank = record("mul", record("sub", n, 1) if from_zero else n, q)
    if method == "closest_observation":
        rank = record("sub", rank, 1.5)
    elif not from_zero:
        rank = record("sub", rank, 1)
    low = record("floor", rank)
    part = record("sub", rank, low)
    if method == "lower":
        weight = record("mul", part, 0)
    elif method in ("nearest", "closest_observation"):  # half-way to the even place
        even = record("eq", record("remainder", low, 2), 1 if method != "nearest" else 0)
        up = record("gt", part, 0 if method != "nearest" else 0.5)
        odd = record("logical_not", even)
        half = record("eq", part, 0 if method != "nearest" else 0.5)
        weight = record("logical_or", up, record("logical_and", half, odd))
    else:
        weight = record("ne", part, 0)
    weight = record("cast", weight, dtype=dtypes.float64)
    if method == "midpoint":
        weight = record("mul", weight, 0.5)
    elif method == "averaged_inverted_cdf":
        weight = record("mul", record("add", weight, 1), 0.5)
    return low, weight


def _between(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    """The point between two elements, exact at both ends; infinite ends stay."""
    gap = record("sub", high, low)
    near = record("add", low, record("mul", gap, weight))
    far = record("sub", high, record("mul", gap, record("sub", 1, weight)))
    found = record("where", record("lt", weight, 0.5), near, far)
    whole = record("logical_or", record("eq", low, high), record("eq", weight, 0))
    found = record("where", whole, low, found)
    return record("where", record("eq", weight, 1), high, found)


def _levels(op: str, q: Any, scale: float) -> Tensor:
    """The levels as float64; numbers are checked, of a Tensor those out of range are NaN."""
    if not isinstance(q, Tensor):
        listed = np.asarray(q, np.float64) / scale
        if not ((listed >= 0) & (listed <= 1)).all():
            raise ArgumentError(f"{op}: levels {q!r}",
                                remedy=f"give numbers from 0 to {scale:g}")  # fmt: skip
        return Tensor(listed.tolist(), dtypes.float64)
    levels = record("div", record("cast", q, dtype=dtypes.float64), scale)
    inside = record("logical_and", record("ge", levels, 0), record("le", levels, 1))
    return record("where", inside, levels, math.nan)


def _quantiles(
    op: str, x: Any, q: Any, axis: Any, keep: bool, method: str, ignore: bool, scale: float
) -> Tensor:
    if method not in _METHODS:
        raise ArgumentError(f"{op}: method {method!r}", remedy=f"use one of {', '.join(_METHODS)}")
    levels = _levels(op, q, scale)
    lanes, axes = _lanes(op, x, axis)
    shape = as_tensor(x).shape
    kept = reduced_shape(shape, axes, keep)
    n = lanes.shape[-1]
    if not n:
        raise EmptyReductionError(f"{op} of {list(shape)} over axes {axes}: no elements",
                                  remedy="make sure that the axes are not empty")  # fmt: skip
    ordered = record("sort", inexact(lanes), axis=-1)
    count: Any = _counts(ordered) if ignore else Tensor([n])
    row = record("reshape", levels, shape=(1,) * (lanes.ndim - 1) + (levels.size,))
    low, weight = _rank(row, record("cast", count, dtype=dtypes.float64), method)
    wrong = record("isnan", low)
    low = record("cast", record("where", wrong, 0, low), dtype=dtypes.int64)
    last = record("maximum", record("sub", count, 1), 0)

    def end(place: Tensor) -> Tensor:
        inside = record("minimum", record("maximum", place, 0), last)
        return record("take_along_axis", ordered, inside, axis=-1)

    weight = record("cast", weight, dtype=ordered.dtype)
    found = _between(end(low), end(record("add", low, 1)), weight)
    if isinstance(q, Tensor):
        found = record("where", wrong, math.nan, found)
    if not ignore:
        found = _nan_wins(ordered, found)
    found = record("moveaxis", found, source=-1, destination=0)
    return record("reshape", found, shape=(*levels.shape, *kept))


def _quantile(name: str, scale: float, ignore: bool) -> Callable[..., Tensor]:
    def quantile(
        x: Any, q: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False, interpolation: str = "linear", method: str | None = None,
    ) -> Tensor:  # fmt: skip
        over, keep = axes_of(name, dim, axis), keepdim or keepdims
        return _quantiles(name, x, q, over, keep, method or interpolation, ignore, scale)

    quantile.__name__ = quantile.__qualname__ = name
    word = "percentiles" if scale == 100 else "quantiles"
    missing = "NaN are passed by" if ignore else "NaN where there is a NaN"
    quantile.__doc__ = f"""The {word} of the elements over axes; {missing}.

Parameters
----------
x
    Of bool, integer or floating dtype; integers become float32.
q
    The levels, from 0 to {scale:g}: a number, or numbers of any shape. Of a Tensor of levels
    those out of range give NaN.
axis, dim
    One axis or a tuple of axes; all by default.
keepdims, keepdim
    Whether the folded axes stay, with extent 1.
method, interpolation
    NumPy's and torch's word for what lies between two elements: "linear", "lower", "higher",
    "midpoint", "nearest" or one of NumPy's others.

Returns
-------
Tensor
    Of the shape of q, then that of the axes that are left.

Raises
------
ArgumentError
    For a level out of range, and for a method that does not exist.
EmptyReductionError
    Over no elements.

Notes
-----
R. J. Hyndman and Y. Fan, Sample quantiles in statistical packages, 1996.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([1.0, 2.0, 3.0, 4.0]), {[0.5 * scale, 1.0 * scale]}).tolist()
[2.5, 4.0]
"""
    return public(quantile)


quantile = _quantile("quantile", 1.0, False)
nanquantile = _quantile("nanquantile", 1.0, True)
percentile = _quantile("percentile", 100.0, False)
nanpercentile = _quantile("nanpercentile", 100.0, True)
