"""What the ops of linear algebra share: the types of matrices, calls of LAPACK, the pieces of
gradient rules and of error bounds.

Error bounds rest on backward stability: a computed result is the exact one for a matrix that lies
within `perturbation` of the given one, in Frobenius' norm (Higham, Accuracy and Stability of
Numerical Algorithms, 2002). How much that moves a result is each op's own condition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DTypeError, LinAlgError, ShapeError
from .. import dtypes
from ..dtypes import DType
from ..op import ErrorSample, Sample
from ..types import Shape, TensorType
from .reduce import unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["DTYPES", "adjoint", "check_matrix", "conditioned", "diagonal_matrix",
           "diagonal_of", "lapack", "matrices", "matrix_errors", "norm_of", "of_matrices",
           "perturbation", "positive", "times"]  # fmt: skip

#: What LAPACK computes in.
DTYPES = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)


# -- types ----------------------------------------------------------------------------------
def check_matrix(name: str, x: TensorType, square: bool = False) -> None:
    """Refuse what is no matrix, no square one where it must be, or of half precision."""
    if x.dtype not in DTYPES:
        raise DTypeError(f"{name} does not take {x}",
                         remedy="convert it with .astype(accel.float32)")  # fmt: skip
    if x.ndim < 2:
        raise ShapeError(f"{name} of {x}", remedy="give a matrix: two dimensions or more")
    if square and x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name} of {x}, whose matrices are not square",
                         remedy="make the last two extents equal")  # fmt: skip


# -- references -----------------------------------------------------------------------------
def lapack(name: str, remedy: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A reference that calls LAPACK, whose complaints become `LinAlgError`s of `name`."""

    def wrap(reference: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(reference)
        def called(*arrays: np.ndarray, **attrs: Any) -> Any:
            try:
                return reference(*arrays, **attrs)
            except np.linalg.LinAlgError as error:
                x = arrays[0]
                of = TensorType(dtypes.to_dtype(x.dtype), x.shape)
                raise LinAlgError(f"{name} of {of}: {error}", remedy=remedy) from None

        return called

    return wrap


# -- gradients ------------------------------------------------------------------------------
def adjoint(b: Builder, x: Node) -> Node:
    """The last two axes exchanged, conjugate."""
    ndim = x.type.ndim
    x = b.permute(x, axes=(*range(ndim - 2), ndim - 1, ndim - 2))
    return b.conj(x) if x.type.dtype.kind == "c" else x


def times(b: Builder, first: Node, *others: Node) -> Node:
    """The matrix product, from the left."""
    for x in others:
        first = b.matmul(first, x)
    return first


def diagonal_of(b: Builder, x: Node) -> Node:
    """The diagonal of square matrices."""
    unit = b.eye(n=x.type.shape[-1], dtype=dtypes.bool_)
    return b.sum(b.where(unit, x, b.constant(0, x.type.dtype)), axis=-1)


def diagonal_matrix(b: Builder, x: Node) -> Node:
    """Matrices with the elements along the last axis on their diagonals."""
    shape = x.type.shape
    unit = b.eye(n=shape[-1], dtype=dtypes.bool_)
    row = b.reshape(x, shape=(*shape[:-1], 1, shape[-1]))
    return b.where(unit, row, b.constant(0, x.type.dtype))


# -- error bounds ---------------------------------------------------------------------------
def norm_of(x: np.ndarray) -> np.ndarray:
    """Frobenius' norm of every matrix, with its axes kept."""
    return np.asarray(np.linalg.norm(np.abs(x), axis=(-2, -1), keepdims=True))


def perturbation(x: np.ndarray, error: np.ndarray, out: np.ndarray) -> np.ndarray:
    """How far the matrix for which a result is exact may lie from `x`, known within `error`."""
    real = out.real.dtype if out.dtype.kind in "fc" else np.dtype(np.float64)
    growth = 8 * max(*x.shape[-2:], 1) * unit_roundoff(real)
    return norm_of(np.broadcast_to(error, x.shape)) + growth * norm_of(x)


def conditioned(x: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The norm of the (pseudo) inverse, axes kept, and 2, for orders above the first; infinity
    where `moved` may make `x` singular."""
    shape = (*x.shape[:-2], 1, 1)
    if 0 in x.shape:
        return np.zeros(shape), np.full(shape, 2.0)
    with np.errstate(all="ignore"):
        smallest = np.linalg.svd(x, compute_uv=False)[..., -1].reshape(shape)
        inverse = np.sqrt(x.shape[-1]) / smallest
        return inverse, np.where(inverse * moved < 0.5, 2.0, np.inf)


# -- samples --------------------------------------------------------------------------------
def matrices(*shape: int, dtype: DType = dtypes.float32, seed: int = 0) -> np.ndarray:
    """Well conditioned matrices: orthonormal ones times singular values in 1 … 3."""
    rng = np.random.default_rng([seed, *shape])
    if 0 in shape:
        return np.zeros(shape, dtype.numpy)

    def unitary(n: int) -> Any:
        x = rng.standard_normal((*shape[:-2], n, n))
        if dtype.kind == "c":
            x = x + 1j * rng.standard_normal(x.shape)
        return np.linalg.qr(x)[0]

    rank = min(shape[-2:])
    values = np.linspace(1.0, 3.0, rank)
    left, right = unitary(shape[-2])[..., :rank], unitary(shape[-1])[..., :rank, :]
    return np.asarray((left * values) @ right).astype(dtype.numpy)


def positive(*shape: int, dtype: DType = dtypes.float32) -> np.ndarray:
    """Hermitian positive definite matrices with eigenvalues from 1 to 9."""
    x = matrices(*shape, dtype=dtype).astype(np.complex128 if dtype.kind == "c" else np.float64)
    product = x @ np.conj(np.swapaxes(x, -1, -2))
    return np.asarray((product + np.conj(np.swapaxes(product, -1, -2))) / 2).astype(dtype.numpy)


_SQUARE: tuple[Shape, ...] = ((3, 3), (1, 1), (2, 4, 4), (0, 0), (0, 2, 2), (9, 9))


def of_matrices(
    make: Callable[..., np.ndarray] = matrices, shapes: tuple[Shape, ...] = _SQUARE, **attrs: Any
) -> list[Sample]:
    """Samples over shapes and the dtypes of LAPACK."""
    found = [Sample((make(*s),), attrs) for s in shapes]
    return found + [Sample((make(*shapes[0], dtype=d),), attrs) for d in DTYPES[1:]]


def matrix_errors(square: bool = True, **attrs: Any) -> list[ErrorSample]:
    """What every op of one matrix refuses."""
    half, vector, wide = (
        TensorType(dtypes.float16, (2, 2)), TensorType(dtypes.float32, (3,)),
        TensorType(dtypes.float32, (2, 3)),
    )  # fmt: skip
    found = [ErrorSample((half,), attrs, DTypeError, "float32"),
             ErrorSample((vector,), attrs, ShapeError, "matrix")]  # fmt: skip
    return [*found, ErrorSample((wide,), attrs, ShapeError, "not square")] if square else found
