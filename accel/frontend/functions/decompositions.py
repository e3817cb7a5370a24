"""Factorisations, eigenvalues, determinants: what `accel.linalg` takes matrices apart with.

All take matrices in the last two axes, any number of them in the axes before, in float32, float64
or complex; integers are computed in float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .complex_numbers import adjoint

__all__ = [
    "EigResult", "EighResult", "QRResult", "SVDResult", "SlogdetResult", "cholesky", "det",
    "eig", "eigh", "eigvals", "eigvalsh", "logdet", "matrix_exp", "qr", "slogdet", "svd",
    "svdvals",
]  # fmt: skip


class EigResult(NamedTuple):
    """What `eig` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


def _is_upper(name: str, triangle: str) -> bool:
    if triangle not in ("L", "U"):
        raise ArgumentError(f"{name}: UPLO={triangle!r}", remedy="use 'L' or 'U'")
    return triangle == "U"


# -- factorisations -------------------------------------------------------------------------
@public
def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """Cholesky's factor of Hermitian positive definite matrices.

    Parameters
    ----------
    x
        Shape [..., n, n]; one triangle is read, the lower unless `upper`.
    upper
        Whether to give U of Uᴴ U in place of L of L Lᴴ.

    Raises
    ------
    LinAlgError
        For a matrix that is not positive definite.
    ShapeError
        For matrices that are not square.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.cholesky(accel.asarray([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    x = as_tensor(x)
    if not upper or x.ndim < 2:
        return record("cholesky", x)
    return adjoint(record("cholesky", adjoint(x)))


@public
def qr(x: Any, /, mode: str = "reduced") -> QRResult:
    """Matrices as Q R: orthonormal columns times an upper triangle.

    Parameters
    ----------
    x
        Shape [..., m, n].
    mode
        "reduced" (Q is [..., m, min(m, n)]), "complete" ([..., m, m]), or "r", which leaves Q
        empty.

    Examples
    --------
    >>> import accel
    >>> q, r = accel.linalg.qr(accel.asarray([[3.0, 1.0], [4.0, 2.0]]))
    >>> accel.allclose(q @ r, accel.asarray([[3.0, 1.0], [4.0, 2.0]]), atol=1e-6)
    True
    """
    x = as_tensor(x)
    if mode == "r":
        r = record("qr", x, mode="reduced", part="R")
        return QRResult(as_tensor(np.empty(0, r.dtype.numpy)), r)
    return QRResult(*[record("qr", x, mode=mode, part=part) for part in ("Q", "R")])


@public
def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """Singular value decomposition: U diag(S) Vh, values in descending order.

    Parameters
    ----------
    x
        Shape [..., m, n].
    full_matrices
        Whether U is [..., m, m] and Vh [..., n, n]; else min(m, n) columns and rows. Only the
        latter has gradients where m and n differ.

    Raises
    ------
    LinAlgError
        Where the iteration does not converge, which only NaN and infinities bring about.

    Notes
    -----
    Columns of U and rows of Vh are unique up to a common sign, or phase, which is LAPACK's choice:
    gradients are right for what does not depend on it.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.svd(accel.asarray([[3.0, 0.0], [0.0, 4.0]])).S.tolist()
    [4.0, 3.0]
    """
    x = as_tensor(x)
    parts = [record("svd", x, full_matrices=full_matrices, part=p) for p in ("U", "S", "Vh")]
    return SVDResult(*parts)


@public
def svdvals(x: Any, /) -> Tensor:
    """Singular values, in descending order.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.svdvals(accel.asarray([[3.0, 0.0], [0.0, 4.0]])).tolist()
    [4.0, 3.0]
    """
    return record("svdvals", x)


@public
def eigh(x: Any, /, UPLO: str = "L") -> EighResult:
    """Eigenvalues, in ascending order, and orthonormal eigenvectors of Hermitian matrices.

    Parameters
    ----------
    x
        Shape [..., n, n].
    UPLO
        The triangle that is read: "L" or "U".

    Examples
    --------
    >>> import accel
    >>> accel.linalg.eigh(accel.asarray([[3.0, 0.0], [0.0, 2.0]])).eigenvalues.tolist()
    [2.0, 3.0]
    """
    x, upper = as_tensor(x), _is_upper("eigh", UPLO)
    return EighResult(*[record("eigh", x, upper=upper, part=p) for p in EighResult._fields])


@public
def eigvalsh(x: Any, /, UPLO: str = "L") -> Tensor:
    """Eigenvalues of Hermitian matrices, in ascending order; see `eigh`."""
    return record("eigvalsh", x, upper=_is_upper("eigvalsh", UPLO))


@public
def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors of length 1, the columns, in complex numbers.

    Raises
    ------
    LinAlgError
        For matrices with NaN or infinities.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.eig(accel.asarray([[0.0, 1.0], [-1.0, 0.0]])).eigenvalues.tolist()
    [1j, -1j]
    """
    x = as_tensor(x)
    return EigResult(*[record("eig", x, part=p) for p in EigResult._fields])


@public
def eigvals(x: Any, /) -> Tensor:
    """Eigenvalues of square matrices, in complex numbers and no order."""
    return record("eigvals", x)


# -- determinants, the exponential ----------------------------------------------------------
@public
def det(x: Any, /) -> Tensor:
    """Determinants of square matrices; 1 of empty ones.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.det(accel.asarray([[2.0, 0.0], [0.0, 4.0]])).item()
    8.0
    """
    return record("det", x)


@public
def slogdet(x: Any, /) -> SlogdetResult:
    """Determinants as sign and logarithm of the magnitude, which cannot overflow.

    The sign is 0 and the logarithm -inf where a matrix is singular.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.slogdet(accel.asarray([[-1.0, 0.0], [0.0, 1.0]])).sign.item()
    -1.0
    """
    x = as_tensor(x)
    return SlogdetResult(*[record("slogdet", x, part=p) for p in SlogdetResult._fields])


@public
def logdet(x: Any, /) -> Tensor:
    """The logarithm of determinants: NaN where they are negative, -inf where they are 0."""
    sign, size = slogdet(x)
    if sign.dtype.kind != "c":
        return record("where", record("lt", sign, 0), math.nan, size)
    phase = record("atan2", record("imag", sign), record("real", sign))
    return record("add", size, record("mul", phase, 1j))


@public
def matrix_exp(x: Any, /) -> Tensor:
    """The exponential of square matrices.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_exp(accel.zeros((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return record("matrix_exp", x)
