"""NumPy's functions of order, sets and bins in terms of accel's: see `functions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..functions import gathering, histograms, nan_reductions, ordering, quantiles, sets, shapes
from ..tensors.arguments import unused
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .functions import flag, handles, option
from .reductions import HANDLERS

__all__ = ["HANDLERS"]

HANDLERS.update({
    np.lexsort: ordering.lexsort, np.digitize: ordering.digitize,
    np.union1d: sets.union1d, np.extract: lambda condition, arr:
    gathering.masked_select(shapes.ravel(arr), record("ne", shapes.ravel(condition), 0)),
})  # fmt: skip


def _array(operand: Any) -> Any:
    """Lists are arrays to NumPy."""
    return np.asarray(operand) if isinstance(operand, (list, tuple)) else operand


def _flat(a: Any, axis: Any) -> tuple[Tensor, int]:
    """NumPy's axis=None: the flattened operand."""
    return (shapes.ravel(as_tensor(a)), 0) if axis is None else (as_tensor(a), axis)


# -- order ---------------------------------------------------------------------------------
def _ordered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(
        a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
    ) -> Tensor:
        unused(function.__name__, order=order)
        x, over = _flat(a, axis)
        return function(x, axis=over)

    return handler


handles("sort")(_ordered(ordering.sort))
handles("argsort")(_ordered(ordering.argsort))


def _partitioned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A whole sort puts every element where a partition would."""

    def handler(
        a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
    ) -> Tensor:
        unused(function.__name__, order=order)
        x, over = _flat(a, axis)
        n = x.shape[one_axis(over, x.ndim, "partition")]
        if not all(-n <= k < n for k in np.atleast_1d(kth).tolist()):
            raise ArgumentError(f"partition: kth={kth} of {n} elements",
                                remedy="give places within the axis")  # fmt: skip
        return function(x, axis=over)

    return handler


handles("partition")(_partitioned(ordering.sort))
handles("argpartition")(_partitioned(ordering.argsort))


@handles("searchsorted")
def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Tensor:
    return ordering.searchsorted(a, _array(v), side=side, sorter=sorter)


# -- quantiles -----------------------------------------------------------------------------
def _middle(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(
        a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
        keepdims: Any = False,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out)
        return function(a, axis=axis, keepdims=flag(keepdims))

    return handler


def _level(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(
        a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
        method: str = "linear", keepdims: Any = False, *, weights: Any = None,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out, weights=weights)
        return function(a, q, axis=axis, keepdims=flag(keepdims), method=method)

    return handler


for _function in (quantiles.median, quantiles.nanmedian):
    handles(_function.__name__)(_middle(_function))
for _function in (quantiles.quantile, quantiles.nanquantile, quantiles.percentile,
                  quantiles.nanpercentile):  # fmt: skip
    handles(_function.__name__)(_level(_function))


# -- reductions that pass NaN by -------------------------------------------------------------
def _known(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Tensor:
        unused(function.__name__, out=out)
        return function(a, axis=axis, keepdims=flag(keepdims))

    return handler


for _function in (nan_reductions.nanmax, nan_reductions.nanmin, nan_reductions.nanargmax,
                  nan_reductions.nanargmin):  # fmt: skip
    handles(_function.__name__)(_known(_function))


@handles("nanprod")
def _nanprod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
) -> Tensor:
    unused("nanprod", out=out)
    return nan_reductions.nanprod(a, axis=axis, dtype=dtype, keepdims=flag(keepdims))


def _known_scan(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tensor:
        unused(function.__name__, out=out)
        x, over = _flat(a, axis)
        return function(x, axis=over, dtype=dtype)

    return handler


handles("nancumsum")(_known_scan(nan_reductions.nancumsum))
handles("nancumprod")(_known_scan(nan_reductions.nancumprod))


def _known_moment(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
        keepdims: Any = False, *, correction: Any = None,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out)
        x = as_tensor(a) if dtype is None else record("cast", a, dtype=dtype)
        less = option(correction)
        return function(x, axis=axis, keepdims=flag(keepdims),
                        correction=ddof if less is None else less)  # fmt: skip

    return handler


handles("nanvar")(_known_moment(nan_reductions.nanvar))
handles("nanstd")(_known_moment(nan_reductions.nanstd))


# -- sets ----------------------------------------------------------------------------------
@handles("unique")
def _unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False,
    return_counts: bool = False, axis: Any = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    values, first, inverse, counts = sets.distinct(ar, axis, equal_nan)
    chosen = [values]
    chosen += [r for r, asked in ((first, return_index), (inverse, return_inverse),
                                  (counts, return_counts)) if asked]  # fmt: skip
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


for _name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
    handles(_name)(getattr(sets, _name))


@handles("isin", "in1d")
def _isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *,
    kind: Any = None,
) -> Tensor:  # fmt: skip
    return sets.isin(_array(element), _array(test_elements), invert=invert)


def _pair(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def handler(ar1: Any, ar2: Any, assume_unique: bool = False) -> Tensor:
        return function(ar1, ar2)

    return handler


for _function in (sets.intersect1d, sets.setdiff1d, sets.setxor1d):
    handles(_function.__name__)(_pair(_function))


# -- bins ----------------------------------------------------------------------------------
@handles("bincount")
def _bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Tensor:
    return histograms.bincount(x, weights, minlength)


@handles("histogram")
def _histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Tensor, Tensor]:
    """Counts are integers, unless there are weights."""
    x = as_tensor(a)
    if isinstance(bins, str):
        raise ArgumentError(f"histogram: bins={bins!r}", remedy="give a number of bins")
    edges = histograms.bounds_of("histogram", x, bins, range)
    dtype = dtypes.int64 if weights is None else as_tensor(weights).dtype
    ones = record("broadcast_to", record("cast", 1, dtype=dtype), shape=x.shape)
    each = histograms.weights_of("histogram", x, ones if weights is None else weights, dtype)
    hist = histograms.counted(x, edges, each)
    return (histograms.scaled(hist, edges) if density else hist), edges


@handles("histogram_bin_edges")
def _histogram_bin_edges(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None
) -> Tensor:
    return _histogram(a, bins, range)[1]
