"""Diagonals put into matrices, matrices along a diagonal, and what lies on one side of it."""

from __future__ import annotations

from typing import Any

from ...errors import ShapeError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from . import creation
from .joining import atleast_2d, diagonal

__all__ = [
    "block_diag", "diag", "diag_embed", "diagflat", "diagonal_scatter", "tril", "triu",
]  # fmt: skip


@public
def diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last axis of `x` on a diagonal and 0 elsewhere.

    Parameters
    ----------
    x
        Shape (..., n).
    offset
        Which diagonal: above the main one if positive.
    dim1, dim2
        The axes of the result that are rows and columns.

    Examples
    --------
    >>> import accel
    >>> accel.diag_embed(accel.asarray([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    x = as_tensor(x)
    if not x.ndim:
        raise ShapeError("diag_embed of a 0-d tensor", remedy="give it an axis")
    axes = one_axis(dim1, x.ndim + 1, "diag_embed"), one_axis(dim2, x.ndim + 1, "diag_embed")
    if axes[0] == axes[1]:
        raise ShapeError(f"diag_embed: rows and columns are both axis {dim1}",
                         remedy="name two axes")  # fmt: skip
    n = x.shape[-1] + abs(offset)
    chosen, values = _along_diagonal(x, n, n, offset)
    zero = record("cast", 0, dtype=x.dtype)
    return record("moveaxis", record("where", chosen, values, zero), source=(-2, -1),
                  destination=axes)  # fmt: skip


def _along_diagonal(x: Tensor, rows: int, columns: int, offset: int) -> tuple[Tensor, Tensor]:
    """Where a diagonal of matrices is, and values that on it are the last axis of `x`."""
    row = record("iota", shape=(rows, 1), axis=0, dtype=dtypes.int64)
    column = record("iota", shape=(1, columns), axis=1, dtype=dtypes.int64)
    chosen = record("eq", record("add", row, offset), column)
    spare = (rows if offset >= 0 else columns) - x.shape[-1]
    outer = (0,) * (x.ndim - 1)
    wide = record("pad", x, low=(*outer, 0), high=(*outer, spare)) if spare else x
    return chosen, record("expand_dims", wide, axis=-1 if offset >= 0 else -2)


@public
def diag(x: Any, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal.

    Examples
    --------
    >>> import accel
    >>> accel.diag(accel.asarray([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    x = as_tensor(x)
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag of shape {list(x.shape)}",
                         remedy="use diagonal or diag_embed")  # fmt: skip
    return diag_embed(x, diagonal) if x.ndim == 1 else _diagonal(x, diagonal)


_diagonal = diagonal  # the argument of `diag` has that name in torch


@public
def diagflat(x: Any, offset: int = 0) -> Tensor:
    """The matrix with the elements of `x`, in order, on its diagonal."""
    return diag_embed(record("reshape", x, shape=-1), offset)


@public
def diagonal_scatter(x: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """`x` with `src` on the diagonal of two axes.

    Parameters
    ----------
    src
        Of the shape of ``diagonal(x, offset, dim1, dim2)``.

    Examples
    --------
    >>> import accel
    >>> accel.diagonal_scatter(accel.zeros((2, 2)), accel.asarray([1.0, 2.0])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    x, src = as_tensor(x), as_tensor(src)
    wanted = diagonal(x, offset, dim1, dim2).shape
    if src.shape != wanted:
        raise ShapeError(f"diagonal_scatter: a source of shape {list(src.shape)} for a diagonal "
                         f"of shape {list(wanted)}", remedy="make the shapes equal")  # fmt: skip
    if not src.shape[-1]:
        return x
    turned = record("moveaxis", x, source=(dim1, dim2), destination=(-2, -1))
    rows, columns = turned.shape[-2:]
    chosen, values = _along_diagonal(src, rows, columns, offset)
    changed = record("where", chosen, record("cast", values, dtype=x.dtype), turned)
    return record("moveaxis", changed, source=(-2, -1), destination=(dim1, dim2))


@public
def block_diag(*tensors: Any) -> Tensor:
    """The matrix with the operands along its diagonal and 0 elsewhere; vectors are rows.

    Examples
    --------
    >>> import accel
    >>> accel.block_diag(accel.asarray([1]), accel.asarray([[2, 3]])).tolist()
    [[1, 0, 0], [0, 2, 3]]
    """
    blocks = [atleast_2d(x) for x in tensors] or [creation.zeros((1, 0))]
    for block in blocks:
        if block.ndim > 2:
            raise ShapeError(f"block_diag of shape {list(block.shape)}",
                             remedy="give matrices, vectors and numbers")  # fmt: skip
    width, before, rows = sum(b.shape[1] for b in blocks), 0, []
    for block in blocks:
        behind = width - before - block.shape[1]
        rows.append(record("pad", block, low=(0, before), high=(0, behind)))
        before += block.shape[1]
    return record("cat", *rows, axis=0)


@public
def tril(x: Any, /, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The elements on and below a diagonal of the last two axes, zeros elsewhere."""
    return record("tril", x, diagonal=diagonal if k is None else k)


@public
def triu(x: Any, /, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The elements on and above a diagonal of the last two axes, zeros elsewhere."""
    return record("triu", x, diagonal=diagonal if k is None else k)
