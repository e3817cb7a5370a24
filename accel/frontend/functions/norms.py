"""Softmax and its kin, and the norms of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .reductions import axes_of

__all__ = ["log_softmax", "matrix_norm", "norm", "softmax", "softmin", "vector_norm"]


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
    if isinstance(ord, str):
        raise ArgumentError(f"vector_norm: ord={ord!r}", remedy="give a number")
    x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
    over: dict[str, Any] = {"axis": axes_of("vector_norm", dim, axis),
                            "keepdims": keepdim or keepdims}  # fmt: skip
    if ord == 2 and x.dtype.kind != "c":
        return _root(record("sum", record("square", x), **over))
    size = record("abs", x)
    if ord == math.inf or ord == -math.inf:
        return record("amax" if ord > 0 else "amin", size, **over)
    if ord == 0:
        counted = record("count_nonzero", size, **over)
        return record("cast", counted, dtype=size.dtype) if size.dtype.is_floating else counted
    if ord == 1:
        return record("sum", size, **over)
    if ord == 2:
        return _root(record("sum", record("square", size), **over))
    return _root(record("sum", record("pow", size, float(ord)), **over), float(ord))


def _root(total: Tensor, degree: float = 2.0) -> Tensor:
    """The root of a sum of powers; where that is 0, the slope is taken for 0, as in torch."""
    differentiated = total.requires_grad and degree > 0
    zero = record("eq", total, 0) if differentiated else None
    if zero is not None:
        total = record("where", zero, 1, total)
    root = record("sqrt", total) if degree == 2 else record("pow", total, 1.0 / degree)
    return root if zero is None else record("where", zero, 0, root)


@public
def matrix_norm(
    x: Any, /, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, axis: Any = UNSET,
    keepdims: bool = False, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of matrices.

    Parameters
    ----------
    x
        Shape [..., m, n].
    ord
        "fro", the root of the sum of squares; "nuc", the sum of singular values; 2 and -2, the
        largest and the least of them; 1 and -1, the greatest and least sum of magnitudes in a
        column, inf and -inf, in a row.
    dim, axis
        The axes of rows and columns.
    keepdim, keepdims
        Whether they stay, with extent 1.
    dtype
        Converts first.

    Raises
    ------
    ShapeError
        For fewer than two dimensions.
    ArgumentError
        For another norm.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_norm(accel.asarray([[3.0, 0.0], [0.0, 4.0]]), "nuc").item()
    7.0
    """
    x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
    over = tuple(dim if axis is UNSET else axis)
    if x.ndim < 2 or len(over) != 2:
        raise ShapeError(f"matrix_norm of shape {list(x.shape)} over axes {over}",
                         remedy="give a matrix, and two axes")  # fmt: skip
    keep = keepdim or keepdims
    rows, columns = (one_axis(a, x.ndim, "matrix_norm") for a in over)
    if rows == columns:
        raise ShapeError("matrix_norm: the axes are equal", remedy="name two axes")
    if ord == "fro":
        return vector_norm(x, 2, axis=(rows, columns), keepdims=keep)
    if ord in ("nuc", 2, -2):
        found = _of_values(x, ord, rows, columns)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, folded = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = record("sum", record("abs", x), axis=summed, keepdims=True)
        found = record("amax" if ord > 0 else "amin", sums, axis=folded, keepdims=True)
    else:
        raise ArgumentError(f"norm: ord={ord!r} of matrices",
                            remedy="use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")  # fmt: skip
    return found if keep else record("squeeze", found, axis=(rows, columns))


def _of_values(x: Tensor, ord: Any, rows: int, columns: int) -> Tensor:
    """A norm made of singular values, with the matrices' axes kept."""
    kept = tuple([1 if i in (rows, columns) else n for i, n in enumerate(x.shape)])
    x = record("moveaxis", x, source=(rows, columns), destination=(-2, -1))
    fold = {"nuc": "sum", 2: "amax", -2: "amin"}[ord]
    return record("reshape", record(fold, record("svdvals", x), axis=-1), shape=kept)


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
    p
        A number, as in `vector_norm`, also over two axes; "fro", which is 2, or "nuc", the sum of
        matrices' singular values.
    ord
        As NumPy has it: over two axes a norm of `matrix_norm`.
    axis, dim, keepdims, keepdim, dtype
        As in `sum`.

    Examples
    --------
    >>> import accel
    >>> accel.norm(accel.asarray([[3.0, 4.0]]), dim=1).tolist()
    [5.0]
    """
    x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
    over, keep = axes_of("norm", dim, axis), keepdim or keepdims
    if ord is None and p != "nuc":
        return vector_norm(x, 2 if p is None or p == "fro" else p, over, keep)
    kind = p if ord is None else ord
    if isinstance(over, int) or (over is not None and len(over) == 1):
        return vector_norm(x, kind, over, keep)
    if over is None and x.ndim == 1:
        return vector_norm(x, kind, keepdim=keep)
    if over is None and x.ndim != 2:
        raise ShapeError(f"norm: ord={kind!r} of shape {list(x.shape)}",
                         remedy="name the axis of vectors, or the two of matrices")  # fmt: skip
    return matrix_norm(x, kind, over or (0, 1), keep)
