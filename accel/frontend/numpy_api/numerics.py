"""NumPy's functions of numerical work in terms of accel's: see `functions`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ir.axes import one_axis
from ..functions import combining, elementwise, gathering, joining, ordering, reductions, shapes
from ..tensors.arguments import unused
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .functions import handles
from .ordering import HANDLERS

__all__ = ["HANDLERS"]


@handles("interp")
def _interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Tensor:
    """The line between the points on either side; a NaN stays one."""
    if period is not None:
        raise ArgumentError("interp: period", remedy="take the remainder of x by the period")
    x, points, heights = (as_tensor(np.asarray(v) if isinstance(v, (list, tuple)) else v)
                          for v in (x, xp, fp))  # fmt: skip
    if points.ndim != 1 or points.shape != heights.shape or not points.size:
        raise ShapeError(f"interp: points {points.shape}, values {heights.shape}",
                         remedy="give as many values as points, one or more")  # fmt: skip
    last = points.size - 1
    at = elementwise.clip(ordering.searchsorted(points, x, side="right") - 1, 0, max(last - 1, 0))
    low, high = at, elementwise.clip(at + 1, 0, last)
    x0, x1 = (gathering.take(points, i) for i in (low, high))
    y0, y1 = (gathering.take(heights, i) for i in (low, high))
    found = record("div", y1 - y0, x1 - x0) * (x - x0) + y0
    found = elementwise.where(x <= points[0], heights[0] if left is None else left, found)
    found = elementwise.where(elementwise.eq(x, points[0]), heights[0], found)
    found = elementwise.where(x > points[last], heights[last] if right is None else right, found)
    return elementwise.where(elementwise.eq(x, points[last]), heights[last], found)


@handles("trapezoid", "trapz")
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    y = as_tensor(y)
    axis = one_axis(axis, y.ndim, "trapezoid")
    n = y.shape[axis]
    if x is not None:
        x = as_tensor(np.asarray(x) if isinstance(x, (list, tuple)) else x)
        over = 0 if x.ndim == 1 else axis
        dx = reductions.diff(x, axis=over)
        if x.ndim == 1:
            dx = shapes.reshape(dx, tuple(-1 if i == axis else 1 for i in range(y.ndim)))
    low = joining.narrow(y, axis, 0, max(n - 1, 0))
    high = joining.narrow(y, axis, min(n, 1), max(n - 1, 0))
    return reductions.sum((low + high) * 0.5 * dx, axis=axis)


def _variables(m: Any, y: Any, rowvar: bool) -> Tensor:
    """The variables of `m`, and of `y` unless it is None, observations in columns; one variable
    alone is a row."""
    x = joining.atleast_2d(as_tensor(np.asarray(m) if isinstance(m, (list, tuple)) else m))
    x = x if rowvar or x.shape[0] == 1 else shapes.matrix_transpose(x)
    return x if y is None else joining.cat([x, _variables(y, None, rowvar)], axis=0)


@handles("cov")
def _cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
    fweights: Any = None, aweights: Any = None, *, dtype: Any = None,
) -> Tensor:  # fmt: skip
    unused("cov", dtype=dtype)
    correction = int(not bias) if ddof is None else ddof
    return shapes.squeeze(
        combining.cov(
            _variables(m, y, rowvar), correction=correction, fweights=fweights, aweights=aweights
        )
    )


@handles("corrcoef")
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Tensor:
    unused("corrcoef", dtype=dtype)
    return shapes.squeeze(combining.corrcoef(_variables(x, y, rowvar)))


@handles("apply_along_axis")
def _apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Tensor:
    """`func1d` of each line, one after the other, and its results where the lines lay."""
    x = as_tensor(arr)
    axis = one_axis(axis, x.ndim, "apply_along_axis")
    lines = shapes.moveaxis(x, axis, -1)
    around = lines.shape[:-1]
    if 0 in around:
        raise ArgumentError("apply_along_axis: no lines", remedy="give an array with elements")
    flat = shapes.reshape(lines, (-1, x.shape[axis]))
    found = joining.stack([as_tensor(func1d(flat[i], *args, **kwargs))
                           for i in range(flat.shape[0])])  # fmt: skip
    made = found.ndim - 1
    found = shapes.reshape(found, around + found.shape[1:])
    order = [*range(axis), *range(len(around), len(around) + made), *range(axis, len(around))]
    return shapes.permute_dims(found, order)


def _of_values(function: Any) -> Any:
    """What leaves accel by its meaning: files and text are of the values."""

    def read(*args: Any, **kwargs: Any) -> Any:
        values = [np.asarray(a) if isinstance(a, Tensor) else a for a in args]
        named = {k: np.asarray(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        return function(*values, **named)

    return read


for _name in "save savez savez_compressed savetxt array2string array_repr array_str".split():
    handles(_name)(_of_values(getattr(np, _name)))
