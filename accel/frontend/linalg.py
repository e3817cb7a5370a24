"""`accel.linalg`: products and norms under the names of the standard's extension."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from .arguments import public
from .joining import diagonal
from .linear_algebra import cross, matmul, outer, tensordot, trace, vecdot
from .norms import norm, vector_norm
from .recording import as_tensor, record
from .shapes import matrix_transpose
from .tensor import Tensor

__all__ = [
    "cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "matrix_transpose",
    "multi_dot", "norm", "outer", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip


@public
def matrix_norm(x: Any, /, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *,
                keepdims: bool = False) -> Tensor:  # fmt: skip
    """The norm of the matrices in the last two axes.

    Parameters
    ----------
    x
        Of floating or complex dtype, 2-d or more.
    ord
        "fro", 1, -1, inf or -inf.
    dim
        The axes of rows and columns.
    keepdim, keepdims
        Whether they stay, with extent 1.

    Raises
    ------
    ShapeError
        For fewer than two dimensions.
    ArgumentError
        For another norm.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_norm(accel.asarray([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_norm of shape {list(x.shape)}", remedy="give a matrix")
    return norm(x, ord=ord, axis=tuple(dim), keepdims=keepdim or keepdims)


@public
def matrix_power(x: Any, n: int, /) -> Tensor:
    """Square matrices to a power of 0 or more, by squaring.

    Raises
    ------
    ShapeError
        For matrices that are not square.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_power(accel.asarray([[1, 1], [0, 1]]), 5).tolist()
    [[1, 5], [0, 1]]
    """
    x = as_tensor(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or n < 0:
        raise ShapeError(f"matrix_power {n} of shape {list(x.shape)}",
                         remedy="give square matrices and a power of 0 or more")  # fmt: skip
    if n == 0:
        unit = record("eye", n=x.shape[-1], dtype=x.dtype)
        return record("broadcast_to", unit, shape=x.shape)
    result: Tensor | None = None
    while True:
        if n & 1:
            result = x if result is None else record("matmul", result, x)
        n >>= 1
        if not n:
            assert result is not None
            return result
        x = record("matmul", x, x)


@public
def multi_dot(arrays: Any, /) -> Tensor:
    """The product of several matrices, from the left; the ends may be vectors."""
    first, *rest = [as_tensor(x) for x in arrays]
    for x in rest:
        first = record("matmul", first, x)
    return first
