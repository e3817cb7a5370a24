"""NumPy's reductions and running sums in terms of accel's: see `functions`.

A handler is made for each family of arguments: NumPy's ``where=`` and ``initial=`` become a choice
before the reduction and one more operand behind it, ``ddof=`` a correction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..functions import dtype_functions, elementwise, reductions, shapes
from ..tensors.arguments import UNSET, unused
from ..tensors.recording import as_tensor
from ..tensors.tensor import Tensor
from .functions import HANDLERS, Handler, flag, handles, option

__all__ = ["HANDLERS"]


def _reduction(function: Handler) -> Handler:
    def handler(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
        *, initial: Any = None, where: Any = UNSET,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out)
        kept = {} if dtype is None else {"dtype": dtype}
        return _masked(function, a, where, initial, axis=axis, keepdims=flag(keepdims), **kept)

    return handler


_UNITS = {"sum": 0, "prod": 1, "any": False, "all": True, "nansum": 0}


def _masked(function: Handler, a: Any, where: Any, initial: Any, **options: Any) -> Tensor:
    """A reduction of the elements where a mask is true, `initial` added in."""
    name = function.__name__
    if where is not UNSET and where is not True:
        unit = initial if name in ("amax", "amin") else _UNITS.get(name)
        if unit is None:
            raise ArgumentError(f"{name} where= without initial=", remedy="give initial=")
        a = elementwise.where(where, a, unit)
    result = function(a, **options)
    if initial is None or isinstance(initial, type(np._NoValue)):
        return result
    join = {"sum": elementwise.add, "nansum": elementwise.add, "prod": elementwise.mul,
            "amax": elementwise.maximum, "amin": elementwise.minimum}.get(name)  # fmt: skip
    if join is None:
        raise ArgumentError(f"{name} does not take initial=", remedy="leave it out")
    return join(result, initial)


for _name, _function in (
    ("sum", reductions.sum), ("prod", reductions.prod), ("mean", reductions.mean),
    ("nansum", reductions.nansum),
):  # fmt: skip
    handles(_name)(_reduction(_function))


def _without_dtype(function: Handler) -> Handler:
    def handler(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
        where: Any = UNSET,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out)
        return _masked(function, a, where, initial, axis=axis, keepdims=flag(keepdims))

    return handler


for _names, _function in (
    (("max", "amax"), reductions.amax), (("min", "amin"), reductions.amin),
    (("any",), reductions.any), (("all",), reductions.all), (("nanmean",), reductions.nanmean),
):  # fmt: skip
    handles(*_names)(_without_dtype(_function))


def _place(function: Handler) -> Handler:
    def handler(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tensor:
        unused(function.__name__, out=out)
        return function(a, axis=axis, keepdims=flag(keepdims))

    return handler


handles("argmax")(_place(reductions.argmax))
handles("argmin")(_place(reductions.argmin))


def _moment(function: Handler) -> Handler:
    def handler(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
        keepdims: Any = False, *, correction: Any = None, mean: Any = None, where: Any = None,
    ) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out, mean=option(mean), where=option(where))
        less = option(correction)
        a = a if dtype is None else dtype_functions.astype(a, dtype)
        return function(a, axis=axis, correction=ddof if less is None else less,
                        keepdims=flag(keepdims))  # fmt: skip

    return handler


handles("var")(_moment(reductions.var))
handles("std")(_moment(reductions.std))


def _scan(function: Handler) -> Handler:
    def handler(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tensor:
        unused(function.__name__, out=out)
        if axis is None:
            a, axis = shapes.ravel(a), 0
        return function(a, axis=axis, dtype=dtype)

    return handler


handles("cumsum")(_scan(reductions.cumsum))
handles("cumprod")(_scan(reductions.cumprod))


def _standard_scan(function: Handler) -> Handler:
    def handler(x: Any, /, *, axis: Any = UNSET, dtype: Any = None, out: Any = None,
                include_initial: bool = False) -> Tensor:  # fmt: skip
        unused(function.__name__, out=out)
        return function(x, axis=axis, dtype=dtype, include_initial=include_initial)

    return handler


handles("cumulative_sum")(_standard_scan(reductions.cumsum))
handles("cumulative_prod")(_standard_scan(reductions.cumprod))


@handles("count_nonzero")
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return reductions.count_nonzero(a, axis=axis, keepdims=keepdims)


@handles("ptp")
def _ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Tensor:
    unused("ptp", out=out)
    over: dict[str, Any] = {"axis": axis, "keepdims": flag(keepdims)}
    return elementwise.sub(reductions.amax(a, **over), reductions.amin(a, **over))


@handles("average")
def _average(a: Any, axis: Any = None, weights: Any = None, *, keepdims: Any = False) -> Tensor:
    keep = flag(keepdims)
    if weights is None:
        return reductions.mean(a, axis=axis, keepdims=keep)
    a, weights = as_tensor(a), as_tensor(weights)
    if weights.ndim == 1 and a.ndim > 1 and isinstance(axis, int):
        axis %= a.ndim
        shape = tuple(-1 if i == axis else 1 for i in range(a.ndim))
        weights = shapes.broadcast_to(shapes.reshape(weights, shape), a.shape)
    total = reductions.sum(elementwise.mul(a, weights), axis=axis, keepdims=keep)
    return elementwise.div(total, reductions.sum(weights, axis=axis, keepdims=keep))
