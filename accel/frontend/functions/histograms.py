"""Histograms: how many elements fall in each bin."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...ir import dtypes
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .sets import elements

__all__ = ["bincount", "histc", "histogram"]


class Histogram(NamedTuple):
    """What `histogram` gives."""

    hist: Tensor
    bin_edges: Tensor


def _bins(op: str, bins: Any) -> int:
    try:
        count = operator.index(bins)
    except TypeError:
        count = 0
    if count < 1:
        raise ArgumentError(f"{op}: {bins!r} bins", remedy="give a positive number of bins")
    return count


def edges_of(x: Tensor, count: int, low: Any, high: Any) -> Tensor:
    """`count` bins of equal width from `low` to `high`; where these are equal, from half below
    to half above."""
    wide = dtypes.float64
    low, high = (record("cast", v, dtype=wide) for v in (low, high))
    equal = record("eq", low, high)
    low = record("where", equal, record("sub", low, 0.5), low)
    high = record("where", equal, record("add", high, 0.5), high)
    step = record("div", record("sub", high, low), count)
    number = record("iota", shape=(count + 1,), axis=0, dtype=wide)
    inner = record("add", low, record("mul", number, step))
    edges = record("where", record("eq", number, count), high, inner)
    return record("cast", edges, dtype=x.dtype if x.dtype.is_inexact else wide)


def counted(x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
    """The sums of the weights of the elements in each bin; the last includes its bound."""
    count = edges.shape[0] - 1
    flat = record("reshape", x, shape=-1)
    above = record("searchsorted", edges, flat, side="right")
    top = record("take", edges, Tensor([count]), axis=0)
    place = record("where", record("eq", flat, top), count, above)
    # what lies below all bins falls in 0, what lies above or is NaN in count + 1
    place = record("where", record("isnan", flat), count + 1, place)
    zeros = record("broadcast_to", record("cast", 0, dtype=weights.dtype), shape=(count + 2,))
    total = record("index_add_unchecked", zeros, place, weights, axis=0)
    return record("slice", total, start=(1,), stop=(count + 1,), step=(1,))


def _ones(x: Tensor, dtype: Any) -> Tensor:
    return record("broadcast_to", record("cast", 1, dtype=dtype), shape=(x.size,))


def range_of(op: str, x: Tensor, given: Any) -> tuple[Any, Any]:
    """The bounds that were given, or those of the elements.

    Raises
    ------
    ArgumentError
        Where the greater stands first.
    """
    if given is not None:
        low, high = given
        if not isinstance(low, Tensor) and not isinstance(high, Tensor) and low > high:
            raise ArgumentError(f"{op}: from {low} to {high}", remedy="give the lesser first")
        return low, high
    if not x.size:
        return 0.0, 1.0
    return record("amin", x), record("amax", x)


@public
def histc(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall in each of `bins` equal parts of the range from `min` to `max`, in
    the dtype of x (torch's histc).

    Parameters
    ----------
    x
        Of floating dtype; elements outside of the range, and NaN, are not counted.
    bins
        How many bins.
    min, max
        The range, the upper bound included; where equal, that of the elements.

    Raises
    ------
    ArgumentError
        For no bins, or a range from the greater to the lesser.

    Examples
    --------
    >>> import accel
    >>> accel.histc(accel.asarray([1.0, 2.0, 1.0]), bins=4, min=0, max=3).tolist()
    [0.0, 2.0, 1.0, 0.0]
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise DTypeError(f"histc of {x.dtype}", remedy="convert it with .astype(float)")
    count = _bins("histc", bins)
    given = None if type(min) is type(max) and min == max else (min, max)
    edges = edges_of(x, count, *range_of("histc", x, given))
    return counted(x, edges, _ones(x, x.dtype))


@public
def histogram(
    x: Any, bins: Any = 10, *, range: Any = None, weight: Any = None, density: bool = False
) -> Histogram:
    """How many elements fall in each bin, in the dtype of x, and the bins' bounds (torch's
    histogram).

    Parameters
    ----------
    x
        Of floating dtype; elements outside of the bins, and NaN, are not counted.
    bins
        How many bins of equal width, or their ascending bounds.
    range
        The bounds of all bins together; by default those of the elements.
    weight
        For each element what it counts; differentiable.
    density
        Whether to scale the result to an integral of 1.

    Examples
    --------
    >>> import accel
    >>> h = accel.histogram(accel.asarray([1.0, 2.0, 1.0]), 2)
    >>> h.hist.tolist(), h.bin_edges.tolist()
    ([2.0, 1.0], [1.0, 1.5, 2.0])
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise DTypeError(f"histogram of {x.dtype}", remedy="convert it with .astype(float)")
    edges = bounds_of("histogram", x, bins, range)
    edges = record("cast", edges, dtype=x.dtype)
    weights = _ones(x, x.dtype) if weight is None else weights_of("histogram", x, weight, x.dtype)
    hist = counted(x, edges, weights)
    return Histogram(scaled(hist, edges) if density else hist, edges)


def bounds_of(op: str, x: Tensor, bins: Any, range: Any) -> Tensor:
    """The bins' bounds: as given, or so many of equal width."""
    if isinstance(bins, (Tensor, np.ndarray, list, tuple)):
        edges = as_tensor(bins) if isinstance(bins, (Tensor, np.ndarray)) else Tensor(bins)
        if edges.ndim != 1 or edges.size < 2:
            raise ShapeError(f"{op}: bounds of shape {list(edges.shape)}",
                             remedy="give two or more in one dimension")  # fmt: skip
        return edges
    return edges_of(x, _bins(op, bins), *range_of(op, x, range))


def weights_of(op: str, x: Tensor, weight: Any, dtype: Any) -> Tensor:
    """The weights in one dimension.

    Raises
    ------
    ShapeError
        Unless there is one for each element.
    """
    weights = as_tensor(weight)
    if weights.shape != x.shape:
        raise ShapeError(f"{op}: weights of shape {list(weights.shape)} for {list(x.shape)}",
                         remedy="give one weight for each element")  # fmt: skip
    return record("reshape", record("cast", weights, dtype=dtype), shape=-1)


def scaled(hist: Tensor, edges: Tensor) -> Tensor:
    """A histogram as a density."""
    n = edges.shape[0]
    upper = record("slice", edges, start=(1,), stop=(n,), step=(1,))
    lower = record("slice", edges, start=(0,), stop=(n - 1,), step=(1,))
    total = record("mul", record("sub", upper, lower), record("sum", hist))
    return record("div", hist, total)


@public
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each of the numbers 0, 1, 2 … occurs; or the sums of the weights at each.

    Parameters
    ----------
    x
        Non-negative integers in one dimension; computed at once, for the greatest of them
        decides the length.
    weights
        For each element what it counts; differentiable.
    minlength
        The least length of the result.

    Raises
    ------
    ArgumentError
        For negative elements or a negative length.
    TracedValueError
        Inside a compiled function; `index_add` to zeros of a known length does the same.

    Examples
    --------
    >>> import accel
    >>> accel.bincount(accel.asarray([1, 3, 1])).tolist()
    [0, 2, 0, 1]
    """
    x = as_tensor(x)
    if x.dtype.kind not in "biu" or x.ndim != 1:
        kind: Any = DTypeError if x.dtype.kind not in "biu" else ShapeError
        raise kind(f"bincount of {x.dtype}{list(x.shape)}", remedy="give integers in one dimension")
    if minlength < 0:
        raise ArgumentError(f"bincount: minlength={minlength}", remedy="give 0 or more")
    places = elements("bincount", x)
    if places.size and int(places.min()) < 0:
        raise ArgumentError(f"bincount of {int(places.min())}", remedy="give numbers of 0 or more")
    if weights is None:
        return Tensor(np.bincount(places.astype(np.int64), minlength=minlength))
    weights = as_tensor(weights)
    dtype = weights.dtype if weights.dtype.is_inexact else dtypes.float64
    values = weights_of("bincount", x, weights, dtype)
    count = max(minlength, int(places.max()) + 1 if places.size else 0)
    zeros = record("broadcast_to", record("cast", 0, dtype=dtype), shape=(count,))
    index = record("cast", x, dtype=dtypes.int64)
    return record("index_add", zeros, index, values, axis=0)
