"""Einstein's summation: products of several operands over named axes.

An equation is read into terms, letters that occur twice in one become diagonals, and pairs of
operands are contracted, each by one matrix product, in the order that costs least.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

from ...errors import AccelError, ArgumentError, ShapeError
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .joining import diagonal

__all__ = ["einsum"]

#: Up to how many operands every order of contraction is looked at; the greedy one beyond.
_EXHAUSTIVE = 8
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@public
def einsum(equation: Any, /, *operands: Any, optimize: Any = True) -> Tensor:
    """Sums of products over named axes.

    Parameters
    ----------
    equation
        Such as ``"bij,bjk->bik"``. Repeated letters take diagonals, ``...`` stands for axes
        that broadcast; without ``->`` the letters that occur once remain, in alphabetical order.
    operands
        One for each term. Equation and operands may also stand as ``x, [0, 1], y, [1, 2], [0, 2]``,
        numbers from 0 to 51 and ``...`` in place of letters.
    optimize
        Accepted for NumPy's sake: the order of contraction always is the one that costs least.

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
    >>> accel.einsum(accel.ones((2, 3)), [0, 1], [1, 0]).shape
    (3, 2)
    """
    if not isinstance(equation, str):
        equation, operands = _spelt((equation, *operands))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    tensors = [as_tensor(x) for x in operands]
    terms, result = _terms(equation, tensors)
    sizes = _sizes(equation, terms, tensors)
    pairs = [_diagonal(x, term) for x, term in zip(tensors, terms, strict=True)]
    for first, second in _order([t for _, t in pairs], result, sizes):
        y, right = pairs.pop(second)
        x, left = pairs.pop(first)
        needed = set(result).union(*(t for _, t in pairs))
        pairs.append(_contract(x, left, y, right, needed, sizes))
    x, letters = _summed(*pairs[0], set(result))
    return record("permute", x, axes=tuple(letters.index(c) for c in result))


# -- the equation ---------------------------------------------------------------------------
def _spelt(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation and the operands of ``x, [0, 1], y, [1, 2], [0, 2]``."""
    count = len(arguments) // 2
    if not count:
        raise ArgumentError("einsum of no operands", remedy="give an equation and operands")
    terms = ",".join(_word(places) for places in arguments[1 : 2 * count : 2])
    if len(arguments) % 2:
        terms += "->" + _word(arguments[-1])
    return terms, arguments[0 : 2 * count : 2]


def _word(places: Any) -> str:
    """The letters of a list of numbers."""
    try:
        numbers = [p if p is Ellipsis else operator.index(p) for p in places]
        if all(p is Ellipsis or 0 <= p < len(_LETTERS) for p in numbers):
            return "".join("..." if p is Ellipsis else _LETTERS[p] for p in numbers)
    except AccelError:
        raise
    except TypeError:
        pass
    raise ArgumentError(f"einsum: axes {places!r}",
                        remedy="give a list of numbers from 0 to 51, or ...")  # fmt: skip


def _named(equation: str, term: str) -> str:
    """The letters of a term, without ``...``."""
    named = term.replace("...", "", 1)
    if named and not (named.isalpha() and named.isascii()):
        raise ArgumentError(f"einsum {equation!r}: {term!r} is no row of letters",
                            remedy="name each axis by one letter")  # fmt: skip
    return named


def _terms(equation: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the result; those of ``...`` are capitals of Greek."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors) or not tensors:
        raise ArgumentError(f"einsum {equation!r} for {len(tensors)} operands",
                            remedy="separate one term for each operand by commas")  # fmt: skip
    most = 0
    for term, x in zip(terms, tensors, strict=True):
        named = _named(equation, term)
        if x.ndim != len(named) and not ("..." in term and x.ndim > len(named)):
            raise ArgumentError(f"einsum {equation!r}: {term!r} for shape {list(x.shape)}",
                                remedy="name each axis by one letter")  # fmt: skip
        if "..." in term:
            most = max(most, x.ndim - len(named))
    dots = [chr(0x391 + i) for i in range(most)]
    expanded = [
        t.replace("...", "".join(dots[most - (x.ndim - len(t) + 3) :]))
        for t, x in zip(terms, tensors, strict=True)
    ]
    letters = "".join(expanded)
    if not arrow:
        once = sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1)
        return expanded, "".join(dots + once)
    named = _named(equation, right)
    for c in named:
        if c not in letters:
            raise ArgumentError(f"einsum {equation!r}: {c!r} is in no operand",
                                remedy="name axes of the operands only")  # fmt: skip
        if named.count(c) > 1:
            raise ArgumentError(f"einsum {equation!r}: {c!r} stands twice in the result",
                                remedy="name each axis of the result once")  # fmt: skip
    return expanded, right.replace("...", "".join(dots))


def _sizes(equation: str, terms: list[str], tensors: list[Tensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            known = sizes.get(letter, 1)
            if known != 1 and n not in (1, known):
                raise ShapeError(f"einsum {equation!r}: extents {known} and {n} of {letter!r}",
                                 remedy="axes of one letter have one extent")  # fmt: skip
            sizes[letter] = n if known == 1 else known
    return sizes


# -- the order ------------------------------------------------------------------------------
def _order(terms: Sequence[str], result: str, sizes: dict[str, int]) -> list[tuple[int, int]]:
    """Which two operands to contract in each step; the product is appended to what is left."""
    count = len(terms)
    if count < 3:
        return [(0, 1)] if count == 2 else []
    sets = [frozenset(t) for t in terms]
    tree = (_best if count <= _EXHAUSTIVE else _greedy)(sets, frozenset(result), sizes)
    steps: list[tuple[int, int]] = []
    _flattened(tree, list(range(count)), itertools.count(count), steps)
    return steps


def _volume(letters: frozenset[str], sizes: dict[str, int]) -> int:
    return math.prod(sizes[c] for c in letters)


def _best(sets: list[frozenset[str]], result: frozenset[str], sizes: dict[str, int]) -> Any:
    """The tree of contractions with the fewest multiplications: the best of all ways to split each
    subset of the operands in two."""
    everything = (1 << len(sets)) - 1

    @cache
    def members(subset: int) -> frozenset[str]:
        return frozenset().union(*(s for i, s in enumerate(sets) if subset >> i & 1))

    @cache
    def left_over(subset: int) -> frozenset[str]:
        return members(subset) & (result | members(everything & ~subset))

    @cache
    def cheapest(subset: int) -> tuple[int, Any]:
        if not subset & (subset - 1):
            return 0, subset.bit_length() - 1
        lowest = subset & -subset
        rest = subset ^ lowest
        found: tuple[int, Any] = (-1, None)
        part = rest
        while part:  # all splits, the lowest operand on the left
            part = (part - 1) & rest
            one, other = part | lowest, subset ^ part ^ lowest
            (a, first), (b, second) = cheapest(one), cheapest(other)
            cost = a + b + _volume(left_over(one) | left_over(other), sizes)
            if found[0] < 0 or cost < found[0]:
                found = cost, (first, second)
        return found

    return cheapest(everything)[1]


def _greedy(sets: list[frozenset[str]], result: frozenset[str], sizes: dict[str, int]) -> Any:
    """The tree that always takes the pair whose product saves most elements."""
    left: list[tuple[frozenset[str], Any]] = [(s, i) for i, s in enumerate(sets)]
    while len(left) > 1:
        best: tuple[int, int, int] | None = None
        for i, j in itertools.combinations(range(len(left)), 2):
            kept = _kept(left, i, j, result)
            saved = sum(_volume(left[k][0], sizes) for k in (i, j)) - _volume(kept, sizes)
            if best is None or saved > best[0]:
                best = saved, i, j
        assert best is not None
        _, i, j = best
        joined = (_kept(left, i, j, result), (left[i][1], left[j][1]))
        left = [pair for k, pair in enumerate(left) if k not in (i, j)] + [joined]
    return left[0][1]


def _kept(left: list[tuple[frozenset[str], Any]], i: int, j: int, result: frozenset[str]) -> Any:
    """The letters of a product that somebody needs."""
    others = result.union(*(s for k, (s, _) in enumerate(left) if k not in (i, j)))
    return (left[i][0] | left[j][0]) & others


def _flattened(tree: Any, names: list[int], fresh: Any, steps: list[tuple[int, int]]) -> int:
    """Append the steps of a tree, as places among the operands left; the name of its product."""
    if isinstance(tree, int):
        return tree
    made = [_flattened(branch, names, fresh, steps) for branch in tree]
    first, second = sorted(names.index(m) for m in made)
    steps.append((first, second))
    del names[second], names[first]
    names.append(next(fresh))
    return names[-1]


# -- contraction ----------------------------------------------------------------------------
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
