"""Inverses, ranks, systems of equations: what is solved with the factorisations.

All take matrices in the last two axes, any number of them in the axes before, in float32, float64
or complex; integers are computed in float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ir import dtypes
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .complex_numbers import adjoint
from .decompositions import eigvalsh, slogdet, svdvals
from .dtype_functions import inexact
from .norms import matrix_norm
from .shapes import matrix_transpose

__all__ = [
    "LstsqResult", "cholesky_inverse", "cholesky_solve", "cond", "inv", "inverse", "lstsq",
    "matrix_rank", "pinv", "pinverse", "solve", "solve_triangular", "tensorinv", "tensorsolve",
]  # fmt: skip


class LstsqResult(NamedTuple):
    """What `lstsq` gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


# -- inverses, ranks -----------------------------------------------------------------------
@public
def inv(x: Any, /) -> Tensor:
    """Inverses of square matrices.

    Raises
    ------
    LinAlgError
        For a singular matrix.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.inv(accel.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return record("inv", x)


inverse = inv


def _relative(x: Tensor, values: Tensor | None, rtol: Any, atol: Any) -> Any:
    """The tolerance relative to the largest singular value; `values` serve an absolute one."""
    if rtol is None:
        eps = float(np.finfo(x.dtype.numpy).eps)
        rtol = 0.0 if atol is not None else max(x.shape[-2:]) * eps
    if atol is None or values is None or not values.shape[-1]:
        return rtol
    largest = record("amax", values, axis=-1)
    return record("maximum", rtol, record("div", atol, largest))


def _is_matrix(name: str, x: Tensor) -> None:
    if x.ndim < 2:
        raise ShapeError(f"{name} of shape {list(x.shape)}",
                         remedy="give a matrix: two dimensions or more")  # fmt: skip


@public
def pinv(x: Any, /, rtol: Any = None, *, atol: Any = None, hermitian: bool = False,
         rcond: Any = None) -> Tensor:  # fmt: skip
    """Moore-Penrose inverses of matrices of any shape and rank.

    Parameters
    ----------
    x
        Shape [..., m, n].
    rtol, rcond
        Singular values up to this share of the largest are taken for 0: a number, or one for
        each matrix; max(m, n) times the dtype's epsilon by default.
    atol
        Singular values up to this one are taken for 0 as well.
    hermitian
        Whether matrices are Hermitian, which is quicker.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.pinv(accel.asarray([[2.0, 0.0], [0.0, 0.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    x = inexact(x)
    _is_matrix("pinv", x)
    values = None if atol is None else svdvals(x)
    share = _relative(x, values, rcond if rtol is None else rtol, atol)
    share = record("cast", as_tensor(share), dtype=x.dtype.real)
    return record("pinv", x, share.detach(), hermitian=bool(hermitian))


@public
def pinverse(x: Any, /, rcond: Any = 1e-15) -> Tensor:
    """torch's name for `pinv`, with its default of `rcond`."""
    return pinv(x, rcond)


@public
def matrix_rank(x: Any, /, rtol: Any = None, *, atol: Any = None, tol: Any = None,
                hermitian: bool = False) -> Tensor:  # fmt: skip
    """How many singular values are not negligible.

    Parameters
    ----------
    x
        Shape [..., m, n].
    rtol
        Negligible are values up to this share of the largest; max(m, n) times the dtype's epsilon
        by default.
    atol, tol
        Negligible are values up to this one, as well.
    hermitian
        Whether matrices are Hermitian.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_rank(accel.asarray([[1.0, 2.0], [2.0, 4.0]])).item()
    1
    """
    x = inexact(x)
    _is_matrix("matrix_rank", x)
    values = record("abs", eigvalsh(x)) if hermitian else svdvals(x)
    if not values.shape[-1]:
        return record("sum", values, axis=-1, dtype=dtypes.int64)
    share = as_tensor(_relative(x, values, rtol, tol if atol is None else atol))
    share = record("reshape", share, shape=(*share.shape, 1))  # one for each matrix
    largest = record("amax", values, axis=-1, keepdims=True)
    return record("sum", record("gt", values, record("mul", largest, share)), axis=-1)


@public
def cond(x: Any, /, p: Any = None) -> Tensor:
    """The condition of matrices for inversion: their norm times that of the inverse.

    Parameters
    ----------
    x
        Shape [..., n, n]; of any shape where p is None, 2 or -2.
    p
        A norm of `matrix_norm`; 2 by default, the ratio of extreme singular values.

    Returns
    -------
    Tensor
        Infinity where a matrix is singular.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.cond(accel.asarray([[1.0, 0.0], [0.0, 4.0]])).item()
    4.0
    """
    x = inexact(x)
    _is_matrix("cond", x)
    if p is None or p in (2, -2):
        values = svdvals(x)
        if not values.shape[-1]:
            raise ShapeError(f"cond of shape {list(x.shape)}", remedy="give a matrix with elements")
        most, least = (record(f, values, axis=-1) for f in ("amax", "amin"))
        ratio = record("div", *((least, most) if p == -2 else (most, least)))
        return record("where", record("eq", least, 0), 0.0 if p == -2 else math.inf, ratio)
    singular = record("eq", slogdet(x).sign, 0)
    unit = record("eye", n=x.shape[-1], dtype=x.dtype)
    each = record("reshape", singular, shape=(*singular.shape, 1, 1))
    product = record("mul", matrix_norm(x, p), matrix_norm(inv(record("where", each, unit, x)), p))
    return record("where", singular, math.inf, product)


# -- systems of equations -------------------------------------------------------------------
@public
def solve(x1: Any, x2: Any, /, *, left: bool = True) -> Tensor:
    """Solutions of linear equations.

    Parameters
    ----------
    x1
        Matrices, shape [..., n, n].
    x2
        A vector [n], or matrices [..., n, k] whose columns are right-hand sides.
    left
        False solves X x1 = x2, with x2 [..., k, n].

    Raises
    ------
    LinAlgError
        For a singular matrix.
    ShapeError
        Where shapes do not fit.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.solve(accel.asarray([[2.0, 0.0], [0.0, 4.0]]), accel.ones(2)).tolist()
    [0.5, 0.25]
    """
    if left:
        return record("solve", x1, x2)
    return _turned("solve", as_tensor(x1), as_tensor(x2))


def _turned(op: str, a: Tensor, y: Tensor, **attrs: Any) -> Tensor:
    """The solution x of x a = y, from that of aᵀ xᵀ = yᵀ."""
    for operand in (a, y):
        _is_matrix(op, operand)
    return matrix_transpose(record(op, matrix_transpose(a), matrix_transpose(y), **attrs))


@public
def solve_triangular(a: Any, b: Any, /, *, upper: bool, left: bool = True,
                     unitriangular: bool = False) -> Tensor:  # fmt: skip
    """Solutions of linear equations by substitution.

    Parameters
    ----------
    a
        Matrices, shape [..., n, n], of which one triangle is read.
    b
        A vector [n], or matrices [..., n, k]; [..., k, n] where not `left`.
    upper
        Which triangle.
    left
        False solves X a = b.
    unitriangular
        Whether the diagonal is taken for 1.

    Raises
    ------
    LinAlgError
        For a 0 on the diagonal.

    Examples
    --------
    >>> import accel
    >>> a = accel.asarray([[2.0, 0.0], [1.0, 1.0]])
    >>> accel.linalg.solve_triangular(a, accel.ones((2, 1)), upper=False).tolist()
    [[0.5], [0.5]]
    """
    if left:
        return record("solve_triangular", a, b, upper=upper, unitriangular=unitriangular)
    return _turned("solve_triangular", as_tensor(a), as_tensor(b), upper=not upper,
                   unitriangular=unitriangular)  # fmt: skip


@public
def cholesky_solve(b: Any, factor: Any, /, upper: bool = False) -> Tensor:
    """Solutions of linear equations with Cholesky's factor of the matrix.

    Examples
    --------
    >>> import accel
    >>> accel.cholesky_solve(accel.asarray([[4.0]]), accel.asarray([[2.0]])).tolist()
    [[1.0]]
    """
    factor = as_tensor(factor)
    _is_matrix("cholesky_solve", factor)
    factor = adjoint(factor) if upper else factor
    middle = record("solve_triangular", factor, b, upper=False)
    return record("solve_triangular", adjoint(factor), middle, upper=True)


@public
def cholesky_inverse(factor: Any, /, upper: bool = False) -> Tensor:
    """The inverse of the matrix of which Cholesky's factor is given."""
    factor = inexact(factor)
    _is_matrix("cholesky_inverse", factor)
    unit = record("eye", n=factor.shape[-1], dtype=factor.dtype)
    return cholesky_solve(unit, factor, upper)


@public
def lstsq(a: Any, b: Any, /, rcond: Any = None) -> LstsqResult:
    """Solutions of least squares, of least length where there are several.

    Parameters
    ----------
    a
        Matrices, shape [..., m, n].
    b
        A vector [m], or matrices [..., m, k].
    rcond
        Singular values up to this share of the largest are taken for 0; max(m, n) times the
        dtype's epsilon by default.

    Returns
    -------
    solution
        Shape [n] or [..., n, k]; differentiable, as pinv(a) @ b.
    residuals
        Sums of squared differences, [] or [..., k]; empty unless m > n.
    rank
        How many singular values were not taken for 0.
    singular_values
        Shape [..., min(m, n)].

    Examples
    --------
    >>> import accel
    >>> a = accel.asarray([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> accel.linalg.lstsq(a, accel.asarray([1.0, 3.0, 5.0])).rank.item()
    2
    """
    a, b = inexact(a), inexact(b)
    _is_matrix("lstsq", a)
    if not b.ndim or b.shape[max(b.ndim - 2, 0)] != a.shape[-2]:
        raise ShapeError(f"lstsq: shape {list(a.shape)} with {list(b.shape)}",
                         remedy="give as many rows as the matrix has")  # fmt: skip
    solution = record("matmul", pinv(a, rcond), b)
    residuals = as_tensor(np.empty(0, solution.dtype.real.numpy))
    if a.shape[-2] > a.shape[-1]:
        gap = record("abs", record("sub", record("matmul", a, solution), b))
        residuals = record("sum", record("square", gap), axis=-1 if b.ndim == 1 else -2)
    return LstsqResult(solution, residuals, matrix_rank(a, rcond), svdvals(a))


# -- of tensors -----------------------------------------------------------------------------
@public
def tensorinv(a: Any, /, ind: int = 2) -> Tensor:
    """The inverse of a tensor as a map from its last axes to its first `ind`.

    Raises
    ------
    ShapeError
        Where the extents of both have different products.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.tensorinv(accel.eye(6).reshape(2, 3, 6), ind=2).shape
    (6, 2, 3)
    """
    a = as_tensor(a)
    if not 0 < ind <= a.ndim:
        raise ArgumentError(f"tensorinv: ind={ind} of {a.ndim} axes",
                            remedy="give a number from 1 to that of axes")  # fmt: skip
    first, last = a.shape[:ind], a.shape[ind:]
    matrix = record("reshape", a, shape=(math.prod(first), math.prod(last)))
    return record("reshape", record("inv", matrix), shape=(*last, *first))


@public
def tensorsolve(a: Any, b: Any, /, axes: Any = None, *, dims: Any = None) -> Tensor:
    """x with tensordot(a, x, x.ndim) = b.

    Parameters
    ----------
    a
        Shape [*b.shape, *x.shape].
    b
        The right-hand side.
    axes, dims
        Axes of `a` that are moved to its end first.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.tensorsolve(accel.eye(6).reshape(6, 2, 3), accel.ones(6)).shape
    (2, 3)
    """
    a, b = as_tensor(a), as_tensor(b)
    moved = axes if dims is None else dims
    if moved is not None:
        ends = tuple(range(-len(moved), 0))
        a = record("moveaxis", a, source=tuple(moved), destination=ends)
    shape = a.shape[b.ndim :]
    matrix = record("reshape", a, shape=(b.size, math.prod(shape)))
    found = record("solve", matrix, record("reshape", b, shape=(b.size,)))
    return record("reshape", found, shape=shape)
