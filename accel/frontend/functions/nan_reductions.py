"""Reductions and scans that pass NaN by, beside `nansum` and `nanmean`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, axis_of, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from . import reductions
from .reductions import axes_of

__all__ = [
    "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmin", "nanprod", "nanstd",
    "nanvar",
]  # fmt: skip


def _filled(x: Tensor, value: float) -> Tensor:
    """`x` with a number in place of NaN; what has no NaN as it is."""
    if not x.dtype.is_inexact:
        return x
    return record("where", record("isnan", x), value, x)


def _extremum(name: str, word: str) -> Callable[..., Tensor]:
    fold, beyond = f"a{name[3:]}", -math.inf if name == "nanmax" else math.inf

    def extremum(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False,
    ) -> Tensor:  # fmt: skip
        x, over = as_tensor(x), {"axis": axes_of(name, dim, axis), "keepdims": keepdim or keepdims}
        found = record(fold, _filled(x, beyond), **over)
        if not x.dtype.is_inexact:
            return found
        return record("where", record("all", record("isnan", x), **over), math.nan, found)

    extremum.__name__ = extremum.__qualname__ = name
    extremum.__doc__ = f"""The {word} element over axes that is not NaN; NaN where all are.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([1.0, float("nan"), 2.0])).item()
{"2.0" if name == "nanmax" else "1.0"}
"""
    return public(extremum)


nanmax = _extremum("nanmax", "greatest")
nanmin = _extremum("nanmin", "least")


def _place(name: str, word: str) -> Callable[..., Tensor]:
    fold, beyond = name.replace("nanarg", "a"), -math.inf if name == "nanargmax" else math.inf

    def place(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False,
    ) -> Tensor:  # fmt: skip
        x, axis, keep = as_tensor(x), axis_of(name, dim, axis), keepdim or keepdims
        flat = axis is None
        lanes = record("reshape", x, shape=-1) if flat else x
        over = 0 if flat else one_axis(axis, x.ndim, name)
        extreme = record(fold, _filled(lanes, beyond), axis=over, keepdims=True)
        found = record("argmax", record("eq", lanes, extreme), axis=over, keepdims=keep)
        if x.dtype.is_inexact:  # a lane of NaN alone has no such place
            n = lanes.shape[over]
            missing = record("all", record("isnan", lanes), axis=over, keepdims=keep)
            what = f"{name} of NaN alone"
            found = record("check_index", record("where", missing, n, found), size=n, wrap=False,
                           what=what)  # fmt: skip
        return record("reshape", found, shape=(1,) * x.ndim) if keep and flat else found

    place.__name__ = place.__qualname__ = name
    place.__doc__ = f"""The place of the {word} element that is not NaN, the first among equals.

Raises
------
IndexOutOfRangeError
    When the result is computed, for elements along the axis that are all NaN.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([float("nan"), 1.0, 2.0])).item()
{"2" if name == "nanargmax" else "1"}
"""
    return public(place)


nanargmax = _place("nanargmax", "greatest")
nanargmin = _place("nanargmin", "least")


@public
def nanprod(x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
            keepdims: bool = False, dtype: Any = None) -> Tensor:  # fmt: skip
    """The product over axes of the elements that are not NaN."""
    known = _filled(as_tensor(x), 1)
    return reductions.prod(known, axes_of("nanprod", dim, axis), keepdim or keepdims, dtype=dtype)


@public
def nancumsum(x: Any, dim: Any = UNSET, dtype: Any = None, *, axis: Any = UNSET) -> Tensor:
    """The running sum along an axis, NaN taken for 0."""
    return reductions.cumsum(_filled(as_tensor(x), 0), dim, dtype, axis=axis)


@public
def nancumprod(x: Any, dim: Any = UNSET, dtype: Any = None, *, axis: Any = UNSET) -> Tensor:
    """The running product along an axis, NaN taken for 1."""
    return reductions.cumprod(_filled(as_tensor(x), 1), dim, dtype, axis=axis)


@public
def nanvar(x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
           keepdims: bool = False, correction: float = 0) -> Tensor:  # fmt: skip
    """The variance over axes of the elements that are not NaN; NaN where these are too few.

    Examples
    --------
    >>> import accel
    >>> accel.nanvar(accel.asarray([1.0, float("nan"), 3.0])).item()
    1.0
    """
    x, over = as_tensor(x), axes_of("nanvar", dim, axis)
    centre = reductions.nanmean(x, axis=over, keepdims=True)
    offsets = _filled(record("sub", x, centre), 0)
    total = record("sum", record("square", offsets), axis=over, keepdims=keepdim or keepdims)
    known = record("logical_not", record("isnan", x))
    count = record("sum", known, axis=over, keepdims=keepdim or keepdims)
    count = record("sub", record("cast", count, dtype=total.dtype), correction)
    few = record("le", count, 0)
    return record("where", few, math.nan, record("div", total, count))


@public
def nanstd(x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
           keepdims: bool = False, correction: float = 0) -> Tensor:  # fmt: skip
    """The standard deviation over axes of the elements that are not NaN."""
    return record("sqrt", nanvar(x, dim, keepdim, axis=axis, keepdims=keepdims,
                                 correction=correction))  # fmt: skip
