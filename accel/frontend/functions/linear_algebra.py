"""Products of vectors and matrices, and norms over them."""

from __future__ import annotations

import operator
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .joining import diagonal

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cross", "dot", "inner", "kron",
    "matmul", "matrix_power", "mm", "multi_dot", "mv", "outer", "tensordot", "trace", "vander",
    "vdot", "vecdot",
]  # fmt: skip


@public
def matmul(x: Any, y: Any, /) -> Tensor:
    """The matrix product of the last two axes, broadcast over the others.

    Parameters
    ----------
    x, y
        Of integer, floating or complex dtype, 1-d or more; a vector is a row on the left and
        a column on the right.

    Raises
    ------
    ShapeError
        When the inner extents differ.
    DTypeError
        For bool operands.

    Examples
    --------
    >>> import accel
    >>> accel.matmul(accel.ones((2, 3)), accel.ones((3, 4))).shape
    (2, 4)
    """
    return record("matmul", x, y)


def _ranked(op: str, x: Any, y: Any, rank_x: int, rank_y: int) -> tuple[Tensor, Tensor]:
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim != rank_x or y.ndim != rank_y:
        raise ShapeError(
            f"{op} of shapes {list(x.shape)} and {list(y.shape)}",
            remedy=f"give {rank_x}-d and {rank_y}-d operands, or use matmul",
        )
    return x, y


@public
def mm(x: Any, y: Any, /) -> Tensor:
    """The product of two matrices."""
    return record("matmul", *_ranked("mm", x, y, 2, 2))


@public
def mv(x: Any, y: Any, /) -> Tensor:
    """The product of a matrix and a vector."""
    return record("matmul", *_ranked("mv", x, y, 2, 1))


@public
def bmm(x: Any, y: Any, /) -> Tensor:
    """The products of two batches of matrices, [n, a, b] with [n, b, c]."""
    return record("bmm", x, y)


@public
def addmm(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * (x @ y)`` of matrices."""
    product = record("matmul", *_ranked("addmm", x, y, 2, 2))
    return _accumulated(c, product, beta, alpha)


@public
def addmv(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * (x @ y)`` of a matrix and a vector."""
    return _accumulated(c, record("matmul", *_ranked("addmv", x, y, 2, 1)), beta, alpha)


@public
def addr(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * outer(x, y)`` of vectors."""
    return _accumulated(c, record("outer", x, y), beta, alpha)


@public
def addbmm(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * sum(x @ y)`` over batches of matrices."""
    product = record("bmm", x, y)
    return _accumulated(c, record("sum", product, axis=0, dtype=product.dtype), beta, alpha)


@public
def baddbmm(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * (x @ y)`` of batches of matrices."""
    return _accumulated(c, record("bmm", x, y), beta, alpha)


def _accumulated(c: Any, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """With a beta of 0 nothing of `c`, NaN for one, is in the result, as in torch."""
    scaled = product if _is_number(alpha, 1) else record("mul", product, alpha)
    if _is_number(beta, 0):
        c = record("where", True, 0, c)
    return record("add", c if _is_number(beta, 1) else record("mul", c, beta), scaled)


def _is_number(value: Any, number: int) -> bool:
    """Whether a factor is this number, and no Tensor that might be."""
    return isinstance(value, (int, float, complex)) and value == number


@public
def dot(x: Any, y: Any, /) -> Tensor:
    """The sum of products over the last axis of x and the last but one (of vectors, the only
    one) of y.

    Examples
    --------
    >>> import accel
    >>> accel.dot(accel.asarray([1.0, 2.0]), accel.asarray([3.0, 4.0])).item()
    11.0
    """
    return record("dot", x, y)


@public
def vdot(x: Any, y: Any, /) -> Tensor:
    """The sum of the products of all elements, the first operand's conjugate."""
    x, y = (record("reshape", v, shape=(as_tensor(v).size,)) for v in (x, y))
    return record("vecdot", x, y)


@public
def inner(x: Any, y: Any, /) -> Tensor:
    """The sums of products over the last axes of both operands."""
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        return record("mul", x, y)
    return record("tensordot", x, y, axes=((-1,), (-1,)))


@public
def vecdot(x: Any, y: Any, /, *, axis: int = -1, dim: int | None = None) -> Tensor:
    """The sum along an axis of the products of conjugate(x) and y, which broadcast.

    Examples
    --------
    >>> import accel
    >>> accel.vecdot(accel.ones((5, 3)), accel.ones((3,))).shape
    (5,)
    """
    return record("vecdot", x, y, axis=axis if dim is None else dim)


@public
def outer(x: Any, y: Any, /) -> Tensor:
    """The products of every element of one vector with every element of the other."""
    return record("outer", x, y)


@public
def tensordot(x: Any, y: Any, /, axes: Any = 2, *, dims: Any = UNSET) -> Tensor:
    """The sum of products over pairs of axes.

    Parameters
    ----------
    x, y
        Of integer, floating or complex dtype.
    axes, dims
        How many last axes of x meet the first of y, or a pair of sequences that name them.

    Examples
    --------
    >>> import accel
    >>> accel.tensordot(accel.ones((2, 3, 4)), accel.ones((4, 3)), axes=((1, 2), (1, 0))).shape
    (2,)
    """
    axes = axes if dims is UNSET else dims
    if isinstance(axes, (tuple, list)):
        axes = tuple(tuple(a) if isinstance(a, (tuple, list)) else (a,) for a in axes)
    return record("tensordot", x, y, axes=axes)


@public
def kron(x: Any, y: Any, /) -> Tensor:
    """Kronecker's product: y scaled by each element of x, in blocks.

    Examples
    --------
    >>> import accel
    >>> accel.kron(accel.asarray([1, 10]), accel.asarray([1, 2])).tolist()
    [1, 2, 10, 20]
    """
    x, y = as_tensor(x), as_tensor(y)
    ndim = max(x.ndim, y.ndim)
    left = (1,) * (ndim - x.ndim) + x.shape
    right = (1,) * (ndim - y.ndim) + y.shape
    spread_x = tuple(n for size in left for n in (size, 1))
    spread_y = tuple(n for size in right for n in (1, size))
    product = record(
        "mul", record("reshape", x, shape=spread_x), record("reshape", y, shape=spread_y)
    )
    return record("reshape", product, shape=tuple(a * b for a, b in zip(left, right, strict=True)))


@public
def cross(x: Any, y: Any, /, *, axis: int = -1, dim: int | None = None) -> Tensor:
    """The vector product along an axis of extent 3.

    Raises
    ------
    ShapeError
        For another extent.

    Examples
    --------
    >>> import accel
    >>> accel.cross(accel.asarray([1, 0, 0]), accel.asarray([0, 1, 0])).tolist()
    [0, 0, 1]
    """
    x, y = as_tensor(x), as_tensor(y)
    along = axis if dim is None else dim
    for operand in (x, y):
        if operand.shape[one_axis(along, operand.ndim, "cross")] != 3:
            raise ShapeError(f"cross of shapes {list(x.shape)} and {list(y.shape)}",
                             remedy="the axis must have extent 3")  # fmt: skip
    if along >= 0:
        along -= x.ndim
    after, before = (
        [record("roll", v, shift=s, axis=along) for v in (x, y)] for s in (-1, -2)
    )  # fmt: skip
    return record("sub", record("mul", after[0], before[1]), record("mul", before[0], after[1]))


@public
def trace(x: Any, /, offset: int = 0, *, axis1: int | None = None, axis2: int | None = None,
          dtype: Any = None) -> Tensor:  # fmt: skip
    """The sum of a diagonal of the first two axes (of a matrix, its trace)."""
    line = diagonal(x, offset, 0 if axis1 is None else axis1, 1 if axis2 is None else axis2)
    return record("sum", line, axis=-1, dtype=dtype)


# -- products of several ---------------------------------------------------------------------
@public
def matrix_power(x: Any, n: int, /) -> Tensor:
    """Square matrices to a power, by squaring; negative powers are those of the inverse.

    Raises
    ------
    ShapeError
        For matrices that are not square.
    ArgumentError
        For a power that is no integer.
    LinAlgError
        For a negative power of a singular matrix.

    Examples
    --------
    >>> import accel
    >>> accel.linalg.matrix_power(accel.asarray([[1, 1], [0, 1]]), 5).tolist()
    [[1, 5], [0, 1]]
    """
    x = as_tensor(x)
    try:
        n = operator.index(n)
    except TypeError:
        raise ArgumentError(f"matrix_power: {n!r} is no integer", remedy="give an int") from None
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power {n} of shape {list(x.shape)}",
                         remedy="give square matrices")  # fmt: skip
    if n == 0:
        unit = record("eye", n=x.shape[-1], dtype=x.dtype)
        return record("broadcast_to", unit, shape=x.shape)
    if n < 0:
        x, n = record("inv", x), -n
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
    """The product of two or more matrices in the order that costs least; the ends may be vectors.

    Raises
    ------
    ShapeError
        For other operands than matrices, but vectors at the ends.

    Examples
    --------
    >>> import accel
    >>> row, matrix = accel.ones(3), accel.ones((3, 3))
    >>> accel.linalg.multi_dot([row, matrix, matrix, row]).item()
    27.0
    """
    chain = [as_tensor(x) for x in arrays]
    if len(chain) < 2:
        raise ArgumentError(f"multi_dot of {len(chain)} operands", remedy="give two or more")
    for place, x in enumerate(chain):
        if x.ndim != 2 and not (x.ndim == 1 and place in (0, len(chain) - 1)):
            raise ShapeError(f"multi_dot: operand {place} of shape {list(x.shape)}",
                             remedy="give matrices; the ends may be vectors")  # fmt: skip
    first, last = (x.ndim == 1 for x in (chain[0], chain[-1]))
    extents = [1 if first else chain[0].shape[0], *[x.shape[0] for x in chain[1:]],
               1 if last else chain[-1].shape[1]]  # fmt: skip
    return _chained(chain, _splits(extents), 0, len(chain) - 1)


def _splits(extents: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut each part of a chain of matrices into the two that are multiplied last (Cormen
    et al., Introduction to Algorithms, "Matrix-chain multiplication")."""
    count = len(extents) - 1
    cost = {(i, i): 0 for i in range(count)}
    best: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], best[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + extents[i] * extents[k + 1] * extents[j + 1], k)
                for k in range(i, j)
            )  # fmt: skip
    return best


def _chained(chain: list[Tensor], best: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    k = best[i, j]
    return record("matmul", _chained(chain, best, i, k), _chained(chain, best, k + 1, j))


@public
def vander(x: Any, /, N: int | None = None, increasing: bool = False) -> Tensor:
    """Vandermonde's matrix: powers of the elements along a new last axis.

    Parameters
    ----------
    x
        Of any shape.
    N
        How many powers; by default as many as the last axis has elements.
    increasing
        Whether the powers increase from left to right.

    Examples
    --------
    >>> import accel
    >>> accel.vander(accel.asarray([2, 3]), 3).tolist()
    [[4, 2, 1], [9, 3, 1]]
    """
    x = as_tensor(x)
    if not x.ndim or (N is not None and N < 0):
        raise ShapeError(f"vander of shape {list(x.shape)}, N={N}",
                         remedy="give a vector, and a number of 0 or more")  # fmt: skip
    count = x.shape[-1] if N is None else N
    shape = (*x.shape, count)
    if x.dtype.kind == "b":
        x = record("cast", x, dtype="int64")
    base = record("broadcast_to", record("reshape", x, shape=(*x.shape, 1)), shape=shape)
    first = record("eye", n=1, m=count, dtype="bool") if count else record("eq", base, base)
    factors = record("where", record("reshape", first, shape=(count,)) if count else first, 1, base)
    powers = record("cumprod", factors, axis=-1, dtype=factors.dtype)
    return powers if increasing else record("flip", powers, axis=(-1,))
