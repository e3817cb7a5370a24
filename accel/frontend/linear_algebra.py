"""Products of vectors and matrices, and norms over them."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ir.axes import one_axis
from .arguments import UNSET, public
from .joining import diagonal
from .recording import as_tensor, record
from .tensor import Tensor

__all__ = [
    "addmm", "baddbmm", "bmm", "cross", "dot", "einsum", "inner", "kron", "matmul", "mm", "mv",
    "outer", "tensordot", "trace", "vdot", "vecdot",
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
def baddbmm(c: Any, x: Any, y: Any, /, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * c + alpha * (x @ y)`` of batches of matrices."""
    return _accumulated(c, record("bmm", x, y), beta, alpha)


def _accumulated(c: Any, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    scaled = product if alpha == 1 else record("mul", product, alpha)
    return record("add", c if beta == 1 else record("mul", c, beta), scaled)


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


# -- einsum ----------------------------------------------------------------------------------
@public
def einsum(equation: str, /, *operands: Any) -> Tensor:
    """Sums of products over named axes.

    Operands are contracted from the left, each pair by one matrix product; axes that no later
    operand needs are summed as soon as they are met.

    Parameters
    ----------
    equation
        Such as ``"bij,bjk->bik"``. Repeated letters take diagonals, ``...`` stands for axes
        that broadcast; without ``->`` the letters that occur once remain, in order.
    operands
        One for each term.

    Raises
    ------
    ArgumentError
        For an equation that does not fit the operands.
    ShapeError
        For axes of one letter with different extents.

    Examples
    --------
    >>> import accel
    >>> accel.einsum("ij,kj->ik", accel.ones((2, 3)), accel.ones((4, 3))).shape
    (2, 4)
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    tensors = [as_tensor(x) for x in operands]
    terms, result = _terms(equation, tensors)
    sizes = _sizes(equation, terms, tensors)
    pairs = [_diagonal(x, term) for x, term in zip(tensors, terms, strict=True)]
    x, letters = pairs[0]
    for i, (y, other) in enumerate(pairs[1:], 2):
        needed = set(result).union(*(t for _, t in pairs[i:]))
        x, letters = _contract(x, letters, y, other, needed, sizes)
    x, letters = _summed(x, letters, set(result))
    missing = [c for c in result if c not in letters]
    if missing:
        raise ArgumentError(f"einsum {equation!r}: {missing[0]!r} is in no operand",
                            remedy="name axes of the operands only")  # fmt: skip
    return record("permute", x, axes=tuple(letters.index(c) for c in result))


def _terms(equation: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the result; those of ``...`` are capitals of Greek."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ArgumentError(f"einsum {equation!r} for {len(tensors)} operands",
                            remedy="separate one term for each operand by commas")  # fmt: skip
    most = 0
    for term, x in zip(terms, tensors, strict=True):
        named = term.replace("...", "", 1)
        fits = x.ndim == len(named) or ("..." in term and x.ndim > len(named))
        if not fits or not (named.isalpha() or not named):
            raise ArgumentError(f"einsum {equation!r}: {term!r} for shape {list(x.shape)}",
                                remedy="name each axis by one letter")  # fmt: skip
        if "..." in term:
            most = max(most, x.ndim - len(named))
    dots = [chr(0x391 + i) for i in range(most)]
    expanded = [
        t.replace("...", "".join(dots[most - (x.ndim - len(t) + 3) :]))
        for t, x in zip(terms, tensors, strict=True)
    ]
    if arrow:
        return expanded, right.replace("...", "".join(dots))
    once = sorted(c for c in set("".join(expanded)) - set(dots) if "".join(expanded).count(c) == 1)
    return expanded, "".join(dots + once)


def _sizes(equation: str, terms: list[str], tensors: list[Tensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            if sizes.get(letter, 1) != 1 and n not in (1, sizes[letter]):
                raise ShapeError(
                    f"einsum {equation!r}: extents {sizes[letter]} and {n} of {letter!r}",
                    remedy="axes of one letter have one extent",
                )
            sizes[letter] = max(sizes.get(letter, 1), n) if n else 0
    return sizes


def _diagonal(x: Tensor, term: str) -> tuple[Tensor, str]:
    """`x` with each letter once."""
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        x = diagonal(x, 0, first, second)
        term = "".join(c for i, c in enumerate(term) if i not in (first, second)) + letter
    return x, term


def _summed(x: Tensor, letters: str, needed: set[str]) -> tuple[Tensor, str]:
    axes = tuple(i for i, c in enumerate(letters) if c not in needed)
    if axes:
        x = record("sum", x, axis=axes, dtype=x.dtype)
    return x, "".join(c for c in letters if c in needed)


def _contract(
    x: Tensor, left: str, y: Tensor, right: str, needed: set[str], sizes: dict[str, int]
) -> tuple[Tensor, str]:
    """The product of two operands, summed over what nothing else needs."""
    x, left = _summed(x, left, needed | set(right))
    y, right = _summed(y, right, needed | set(left))
    folded = [c for c in left if c in right and c not in needed]
    shared = [c for c in left if c in right and c in needed]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    if not folded:  # nothing to sum: a broadcast product
        order = shared + rows + columns
        return record("mul", _arranged(x, left, order), _arranged(y, right, order)), "".join(order)
    x = _matrices(x, left, shared, rows, folded, sizes)
    y = _matrices(y, right, shared, folded, columns, sizes)
    product = record("matmul", x, y)
    order = shared + rows + columns
    return record("reshape", product, shape=tuple(sizes[c] for c in order)), "".join(order)


def _arranged(x: Tensor, letters: str, order: list[str]) -> Tensor:
    """`x` with its axes as in `order`, extent 1 where it has none."""
    x = record("permute", x, axes=tuple(letters.index(c) for c in order if c in letters))
    extents = iter(x.shape)
    return record("reshape", x, shape=tuple(next(extents) if c in letters else 1 for c in order))


def _matrices(
    x: Tensor, letters: str, batch: list[str], rows: list[str], columns: list[str],
    sizes: dict[str, int],
) -> Tensor:  # fmt: skip
    order = batch + rows + columns
    x = record("permute", x, axes=tuple(letters.index(c) for c in order))
    full = tuple(sizes[c] for c in order)
    if x.shape != full:
        x = record("broadcast_to", x, shape=full)
    height = width = 1
    for c in rows:
        height *= sizes[c]
    for c in columns:
        width *= sizes[c]
    return record("reshape", x, shape=(*[sizes[c] for c in batch], height, width))
