"""Softmax and its kin, and the norms of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ir.axes import one_axis
from .arguments import UNSET, public
from .recording import as_tensor, record
from .reductions import axes_of
from .tensor import Tensor

__all__ = ["log_softmax", "norm", "softmax", "softmin", "vector_norm"]

def _softmax(op: str, doc: str, sign: int = 1) -> Callable[..., Tensor]:
    def function(
        x: Any, /, dim: int = -1, *, axis: Any = UNSET, dtype: Any = None
    ) -> Tensor:  # fmt: skip
        x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
        x = record("neg", x) if sign < 0 else x
        name = "softmax" if sign < 0 else op
        return record(name, x, axis=dim if axis is UNSET else axis)

    function.__name__ = function.__qualname__ = op
    function.__doc__ = f"""{doc}

Parameters
----------
x
    Of integer or floating dtype.
dim, axis
    The axis whose elements compete; the last by default.
dtype
    Converts first.

Examples
--------
>>> import accel
>>> accel.{op}(accel.asarray([[0.0, 0.0]])).shape
(1, 2)
"""
    return public(function)


softmax = _softmax("softmax", "exp(x) over its sum along an axis, without overflow.")
log_softmax = _softmax("log_softmax", "The logarithm of softmax, accurate where that is small.")
softmin = _softmax("softmin", "softmax of -x.", -1)


@public
def vector_norm(
    x: Any, /, ord: float = 2, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
    keepdims: bool = False, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of the elements over axes, all of them by default.

    Parameters
    ----------
    x
        Of floating or complex dtype.
    ord
        2 (Euclid's), 1, inf, -inf, 0 (how many are not zero) or any other power.
    axis, dim, keepdims, keepdim
        As in `sum`.
    dtype
        Converts first.

    Examples
    --------
    >>> import accel
    >>> accel.vector_norm(accel.asarray([3.0, 4.0])).item()
    5.0
    """
    x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
    over: dict[str, Any] = {"axis": axes_of("vector_norm", dim, axis),
                            "keepdims": keepdim or keepdims}  # fmt: skip
    if ord == 2 and x.dtype.kind != "c":
        return record("sqrt", record("sum", record("square", x), **over))
    size = record("abs", x)
    if ord == math.inf or ord == -math.inf:
        return record("amax" if ord > 0 else "amin", size, **over)
    if ord == 0:
        counted = record("count_nonzero", size, **over)
        return record("cast", counted, dtype=size.dtype) if size.dtype.is_floating else counted
    if ord == 1:
        return record("sum", size, **over)
    if ord == 2:
        return record("sqrt", record("sum", record("square", size), **over))
    return record("pow", record("sum", record("pow", size, float(ord)), **over), 1.0 / ord)


@public
def norm(
    x: Any, /, p: Any = None, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
    keepdims: bool = False, dtype: Any = None, ord: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of vectors, or over two axes with `p` given by name that of matrices.

    Parameters
    ----------
    x
        Of floating or complex dtype.
    p, ord
        A number for vectors, as in `vector_norm`; "fro", or 1, -1, inf and -inf over a pair
        of axes, for matrices.
    axis, dim, keepdims, keepdim, dtype
        As in `sum`.

    Examples
    --------
    >>> import accel
    >>> accel.norm(accel.asarray([[3.0, 4.0]]), dim=1).tolist()
    [5.0]
    """
    kind = ord if p is None else p
    over = axes_of("norm", dim, axis)
    keep = keepdim or keepdims
    if kind is None or kind == "fro":
        return vector_norm(x, 2, over, keep, dtype=dtype)
    if ord is not None and (as_tensor(x).ndim if over is None else _length(over)) == 2:
        x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
        return _matrix_norm(x, kind, over or (0, 1), keep)
    return vector_norm(x, kind, over, keep, dtype=dtype)


def _length(over: Any) -> int:
    return len(over) if isinstance(over, (tuple, list)) else 1


def _matrix_norm(x: Tensor, kind: Any, over: Any, keep: bool) -> Tensor:
    """The greatest (or for negative kinds least) sum of magnitudes of a column or row."""
    rows, columns = (one_axis(a, x.ndim, "norm") for a in over)
    if kind not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(f"norm: ord={kind!r} of matrices",
                            remedy="use 'fro', 1, -1, inf or -inf")  # fmt: skip
    if rows == columns:
        raise ShapeError("norm: the axes of a matrix norm are equal", remedy="name two axes")
    summed, folded = (rows, columns) if kind in (1, -1) else (columns, rows)
    sums = record("sum", record("abs", x), axis=summed, keepdims=True)
    found = record("amax" if kind > 0 else "amin", sums, axis=folded, keepdims=True)
    return found if keep else record("squeeze", found, axis=(rows, columns))
