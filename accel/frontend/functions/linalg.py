"""`accel.linalg`: linear algebra under the names of the standard's extension and of torch.

Matrices lie in the last two axes, any number of them in the axes before.
"""

from __future__ import annotations

from typing import Any

from ..tensors.arguments import UNSET, public
from ..tensors.recording import record
from ..tensors.tensor import Tensor
from . import joining, linear_algebra, norms
from .decompositions import (
    cholesky,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    matrix_exp,
    qr,
    slogdet,
    svd,
    svdvals,
)  # fmt: skip
from .linear_algebra import (
    cross,
    kron,
    matmul,
    matrix_power,
    multi_dot,
    outer,
    tensordot,
    vecdot,
)
from .norms import matrix_norm, vector_norm
from .shapes import matrix_transpose
from .solving import (
    cond,
    inv,
    inverse,
    lstsq,
    matrix_rank,
    pinv,
    solve,
    solve_triangular,
    tensorinv,
    tensorsolve,
)  # fmt: skip

__all__ = [
    "cholesky", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv",
    "inverse", "kron", "lstsq", "matmul", "matrix_exp", "matrix_norm", "matrix_power",
    "matrix_rank", "matrix_transpose", "multi_dot", "norm", "outer", "pinv", "qr", "slogdet",
    "solve", "solve_triangular", "svd", "svdvals", "tensordot", "tensorinv", "tensorsolve",
    "trace", "vander", "vecdot", "vector_norm",
]  # fmt: skip


@public
def diagonal(x: Any, /, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Diagonals of matrices, as a new last axis.

    Parameters
    ----------
    x
        Shape [..., m, n].
    offset
        How far above the main diagonal.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.diagonal(accel.ones((4, 2, 3))).shape
    (4, 2)
    """
    return joining.diagonal(x, offset, dim1, dim2)


@public
def norm(
    x: Any, /, ord: Any = None, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
    keepdims: bool = False, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of vectors over one axis, of matrices over two.

    Parameters
    ----------
    x
        Of floating or complex dtype.
    ord
        As in `vector_norm` or `matrix_norm`; by default the root of the sum of squares, over any
        number of axes.
    axis, dim, keepdims, keepdim, dtype
        As in `sum`.

    Raises
    ------
    ShapeError
        Where `ord` is given for more than two axes.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.norm(accel.asarray([[3.0, 0.0], [0.0, 4.0]]), 2).item()
    4.0
    """
    return norms.norm(x, None, dim, keepdim, axis=axis, keepdims=keepdims, dtype=dtype, ord=ord)


@public
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """Sums of diagonals of matrices.

    Parameters
    ----------
    x
        Shape [..., m, n].
    offset
        How far above the main diagonal.
    dtype
        That of the result; integers are summed in 64 bits.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.trace(accel.ones((4, 2, 2))).tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    return record("sum", diagonal(x, offset=offset), axis=-1, dtype=dtype)


@public
def vander(x: Any, /, N: int | None = None) -> Tensor:
    """Vandermonde's matrix with powers that increase from left to right, as in torch.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.vander(accel.asarray([2, 3]), 3).tolist()
    [[1, 2, 4], [1, 3, 9]]
    """
    return linear_algebra.vander(x, N, increasing=True)
