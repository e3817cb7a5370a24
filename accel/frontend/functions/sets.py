"""Sets: the distinct elements of tensors, and whether elements are among others.

How many distinct elements there are is known only when they are computed, so all but `isin`
compute their operands at once. NaN differs from NaN, both zeros are one element.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...errors import TracedValueError
from ...ir import dtypes
from ...ir.axes import one_axis
from ...ir.order import order_keys, places_in_order, sorted_along
from ..tensors.arguments import UNSET, axis_of, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = [
    "intersect1d", "isin", "setdiff1d", "setxor1d", "union1d", "unique", "unique_all",
    "unique_consecutive", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip

#: Up to this many elements are compared one by one instead of being searched.
_FEW = 16


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def elements(op: str, x: Any) -> np.ndarray:
    """The values of an operand on which the shape of the result of `op` depends.

    Raises
    ------
    TracedValueError
        Inside a compiled function.
    """
    try:
        return as_tensor(x)._array(op)
    except TracedValueError as error:
        raise TracedValueError(
            f"the shape of {op} depends on its operand's values, which a compiled function has "
            "only when it runs",
            loc=error.loc, remedy=f"call {op} outside of the compiled function",
        ) from None  # fmt: skip


# -- gradients -------------------------------------------------------------------------------
def _linked(values: np.ndarray, *operands: Any) -> Tensor:
    """`values`, distinct elements of `operands`: taken from where they first stand in them, if
    gradients are to flow back there."""
    tensors = [as_tensor(x) for x in operands]
    if not any(t.requires_grad for t in tensors):
        return Tensor(values)
    dtype = dtypes.to_dtype(values.dtype)
    flat = [record("cast", record("reshape", t, shape=(t.size,)), dtype=dtype) for t in tensors]
    source = record("cat", *flat, axis=0)
    array = source.detach().numpy()
    first = _distinct(array).first
    places = first[np.minimum(np.searchsorted(array[first], values), first.size - 1)]
    return record("take_unchecked", source, places, axis=0)


def _slices(x: Any, places: np.ndarray, axis: int) -> Tensor:
    """The slices of `x` in `places` of an axis."""
    x = as_tensor(x)
    if not x.requires_grad:
        return Tensor(np.take(elements("unique", x), places, axis))
    return record("take_unchecked", x, places, axis=axis)


# -- distinct elements -----------------------------------------------------------------------
class _Distinct:
    """The distinct rows of an array along its first axis: where each first stands, where it is
    found for each row, how often it occurs.

    `order` lists the rows so that equal ones stand together, the first of them in front;
    `starts` marks where in it another row begins.
    """

    def __init__(self, order: np.ndarray, starts: np.ndarray) -> None:
        self.first = order[starts]
        self.inverse: np.ndarray = np.empty(order.size, np.int64)
        self.inverse[order] = np.cumsum(starts) - 1
        heads = np.flatnonzero(starts)
        self.counts = np.diff(np.append(heads, order.size))


def _steps(rows: np.ndarray, equal_nan: bool = False) -> np.ndarray:
    """Which rows are no repetition of the one before."""
    steps = np.ones(len(rows), bool)
    same = rows[1:] == rows[:-1]
    if equal_nan:
        same |= (rows[1:] != rows[1:]) & (rows[:-1] != rows[:-1])
    steps[1:] = ~same.all(axis=tuple(range(1, same.ndim)))
    return steps


def _distinct(flat: np.ndarray, equal_nan: bool = False) -> _Distinct:
    order = places_in_order(flat, 0)
    return _Distinct(order, _steps(flat[order], equal_nan))


def _distinct_rows(rows: np.ndarray) -> _Distinct:
    """Rows in lexicographic order."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    columns = [flat.real, flat.imag] if flat.dtype.kind == "c" else [flat]
    keys = [order_keys(part[:, i]) for i in range(flat.shape[1]) for part in columns]
    order = np.lexsort(keys[::-1]) if keys else np.arange(len(rows))
    return _Distinct(order, _steps(flat[order]))


def _counted(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct elements and their counts, which sorted values tell by themselves."""
    ordered = sorted_along(flat, 0)
    heads = np.flatnonzero(_steps(ordered))
    return ordered[heads], np.diff(np.append(heads, ordered.size))


def _values(flat: np.ndarray, equal_nan: bool = False) -> np.ndarray:
    ordered = sorted_along(flat, 0)
    return ordered[_steps(ordered, equal_nan)]


@public
def unique_values(x: Any, /) -> Tensor:
    """The distinct elements in ascending order (the standard's unique_values).

    Raises
    ------
    TracedValueError
        Inside a compiled function: the shape depends on the values.

    Examples
    --------
    >>> import accel
    >>> accel.unique_values(accel.asarray([3, 1, 3])).tolist()
    [1, 3]
    """
    return _linked(_values(elements("unique_values", x).reshape(-1)), x)


@public
def unique_counts(x: Any, /) -> UniqueCounts:
    """The distinct elements in ascending order, and how often each occurs.

    Examples
    --------
    >>> import accel
    >>> accel.unique_counts(accel.asarray([3, 1, 3])).counts.tolist()
    [1, 2]
    """
    values, counts = _counted(elements("unique_counts", x).reshape(-1))
    return UniqueCounts(_linked(values, x), Tensor(counts))


@public
def unique_inverse(x: Any, /) -> UniqueInverse:
    """The distinct elements in ascending order, and for each element of x its place there.

    Examples
    --------
    >>> import accel
    >>> accel.unique_inverse(accel.asarray([3, 1, 3])).inverse_indices.tolist()
    [1, 0, 1]
    """
    array = elements("unique_inverse", x)
    flat = array.reshape(-1)
    found = _distinct(flat)
    return UniqueInverse(_linked(flat[found.first], x), Tensor(found.inverse.reshape(array.shape)))


@public
def unique_all(x: Any, /) -> UniqueAll:
    """The distinct elements in ascending order, where in the flattened x each first stands,
    for each element of x its place among them, and how often each occurs.

    Raises
    ------
    TracedValueError
        Inside a compiled function: the shapes depend on the values.

    Examples
    --------
    >>> import accel
    >>> accel.unique_all(accel.asarray([3, 1, 3])).indices.tolist()
    [1, 0]
    """
    array = elements("unique_all", x)
    flat = array.reshape(-1)
    found = _distinct(flat)
    return UniqueAll(
        _linked(flat[found.first], x), Tensor(found.first),
        Tensor(found.inverse.reshape(array.shape)), Tensor(found.counts),
    )  # fmt: skip


def _results(*results: Tensor | None) -> Any:
    """Those that were asked for: the one, or a tuple."""
    found = tuple(r for r in results if r is not None)
    return found[0] if len(found) == 1 else found


@public
def unique(
    x: Any, /, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
    dim: Any = UNSET, *, axis: Any = UNSET,
) -> Any:  # fmt: skip
    """torch's unique: the distinct elements, or slices along an axis, in ascending order.

    Parameters
    ----------
    x
        A Tensor or an array.
    sorted
        Accepted for torch's sake: they always come in order.
    return_inverse, return_counts
        Whether to give also where each element of x is found among them, and how often each
        occurs.
    dim, axis
        The axis whose slices are compared; by default elements are.

    Returns
    -------
    Tensor or tuple of Tensor
        The distinct elements, then what else was asked for.

    Raises
    ------
    TracedValueError
        Inside a compiled function: the shape depends on the values.

    Examples
    --------
    >>> import accel
    >>> values, counts = accel.unique(accel.asarray([3, 1, 3]), return_counts=True)
    >>> values.tolist(), counts.tolist()
    ([1, 3], [1, 2])
    """
    over = axis_of("unique", dim, axis)
    if over is None and not return_inverse:
        numbers, often = _counted(elements("unique", x).reshape(-1))
        return _results(_linked(numbers, x), Tensor(often) if return_counts else None)
    values, _, inverse, counts = distinct(x, over)
    return _results(values, inverse if return_inverse else None, counts if return_counts else None)


def distinct(x: Any, axis: Any, equal_nan: bool = False) -> tuple[Tensor, ...]:
    """The distinct elements, or slices along an axis; where each first stands; for each of x
    its place among them; how often each occurs."""
    array = elements("unique", x)
    if axis is None:
        flat = array.reshape(-1)
        found = _distinct(flat, equal_nan)
        found.inverse = found.inverse.reshape(array.shape)
        values = _linked(flat[found.first], x)
    else:
        axis = one_axis(axis, array.ndim, "unique")
        found = _distinct_rows(np.moveaxis(array, axis, 0))
        values = _slices(x, found.first, axis)
    return values, Tensor(found.first), Tensor(found.inverse), Tensor(found.counts)


@public
def unique_consecutive(
    x: Any, /, return_inverse: bool = False, return_counts: bool = False, dim: Any = UNSET, *,
    axis: Any = UNSET,
) -> Any:  # fmt: skip
    """torch's unique_consecutive: the elements (or slices along an axis) without those that
    repeat the one before.

    Examples
    --------
    >>> import accel
    >>> accel.unique_consecutive(accel.asarray([1, 1, 2, 1])).tolist()
    [1, 2, 1]
    """
    array, over = elements("unique_consecutive", x), axis_of("unique_consecutive", dim, axis)
    whole = over is None
    over = 0 if whole else one_axis(over, array.ndim, "unique_consecutive")
    rows = array.reshape(-1) if whole else np.moveaxis(array, over, 0)
    found = _Distinct(np.arange(len(rows)), _steps(rows))
    inverse = found.inverse.reshape(array.shape) if whole else found.inverse
    return _results(
        _slices(record("reshape", x, shape=(array.size,)) if whole else x, found.first, over),
        Tensor(inverse) if return_inverse else None,
        Tensor(found.counts) if return_counts else None,
    )


# -- membership and set operations -----------------------------------------------------------
@public
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:  # fmt: skip
    """For each element whether it is among the test elements.

    Parameters
    ----------
    elements, test_elements
        Tensors, arrays or numbers of any shape.
    assume_unique
        Accepted for torch's sake; it saves nothing here.
    invert
        Whether to ask for those that are not.

    Examples
    --------
    >>> import accel
    >>> accel.isin(accel.asarray([1, 2, 3]), accel.asarray([3, 1])).tolist()
    [True, False, True]
    """
    x = as_tensor(elements)
    test = record("reshape", as_tensor(test_elements), shape=-1)
    if test.size <= _FEW:
        column = record("reshape", x, shape=(*x.shape, 1))
        found = record("any", record("eq", column, test), axis=-1)
    else:
        both = dtypes.promote(x.dtype, test.dtype)
        x, test = record("cast", x, dtype=both), record("cast", test, dtype=both)
        ordered = record("sort", test, axis=0)
        places = record("searchsorted", ordered, x)
        places = record("minimum", places, test.size - 1)
        found = record("eq", record("take_unchecked", ordered, places, axis=0), x)
    return record("logical_not", found) if invert else found


def _two(op: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = as_tensor(x), as_tensor(y)
    common = dtypes.promote(a.dtype, b.dtype).numpy
    found = [_values(elements(op, t).reshape(-1).astype(common)) for t in (a, b)]
    return found[0], found[1]


@public
def union1d(x: Any, y: Any, /) -> Tensor:
    """The distinct elements of both operands in ascending order (NumPy's union1d)."""
    return _linked(_values(np.concatenate(_two("union1d", x, y))), x, y)


@public
def intersect1d(x: Any, y: Any, /) -> Tensor:
    """The distinct elements that both operands have, in ascending order (NumPy's intersect1d).

    Examples
    --------
    >>> import accel
    >>> accel.intersect1d(accel.asarray([3, 1, 3]), accel.asarray([2, 3])).tolist()
    [3]
    """
    ordered = sorted_along(np.concatenate(_two("intersect1d", x, y)), 0)
    return _linked(ordered[1:][~_steps(ordered)[1:]], x, y)


@public
def setdiff1d(x: Any, y: Any, /) -> Tensor:
    """The distinct elements of the first operand that the second lacks, in ascending order."""
    a, b = _two("setdiff1d", x, y)
    return _linked(a[~_found(a, b)], x, y)


@public
def setxor1d(x: Any, y: Any, /) -> Tensor:
    """The distinct elements that only one of the operands has, in ascending order."""
    a, b = _two("setxor1d", x, y)
    only = np.concatenate([a[~_found(a, b)], b[~_found(b, a)]])
    return _linked(sorted_along(only, 0), x, y)


def _found(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which of the distinct elements of `a` are among those of `b`."""
    both = np.concatenate([a, b])
    order = places_in_order(both, 0)
    twice = np.flatnonzero(~_steps(both[order])[1:])
    found = np.zeros(both.size, bool)
    found[order[twice]] = True
    return found[: a.size]
