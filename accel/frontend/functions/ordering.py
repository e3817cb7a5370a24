"""Sorting and searching.

As everywhere, ``axis=`` has the standard's meaning (values alone), a positional or named
``dim`` torch's (values and indices). NaN counts as the greatest of all numbers and both zeros
as equal; sorts are stable, and of equal elements the first is chosen.
"""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, axis_of, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .indexing import get_item
from .reductions import ValuesAndIndices

__all__ = [
    "argsort", "bucketize", "cummax", "cummin", "digitize", "kthvalue", "lexsort", "msort",
    "searchsorted", "sort", "topk",
]  # fmt: skip


def at_places(x: Tensor, places: Tensor, axis: int) -> Tensor:
    """The elements at places along an axis that an op of this module found."""
    return record("gather_unchecked", x, places, axis=axis)


def along(op: str, x: Any, dim: Any, axis: Any) -> tuple[Tensor, int]:
    """`x` as a Tensor, and the one axis that was named in either spelling, or the last."""
    x = as_tensor(x)
    return x, one_axis(axis_of(op, dim, axis, -1), x.ndim, op)


def dropped(x: Tensor, axis: int, keep: bool) -> Tensor:
    """`x` without an axis of extent 1, unless it is to be kept."""
    return x if keep else record("squeeze", x, axis=axis)


def found_along(x: Tensor, wanted: Tensor, axis: int, keep: bool) -> ValuesAndIndices:
    """The elements of `x` that equal one wanted of each lane, NaN among them, and their first
    places; gradients go to the elements found."""
    same = record("eq", x, wanted)
    if x.dtype.is_inexact:
        missing = record("logical_and", record("isnan", x), record("isnan", wanted))
        same = record("logical_or", same, missing)
    places = record("argmax", same, axis=axis, keepdims=True)
    values = at_places(x, places, axis)
    return ValuesAndIndices(dropped(values, axis, keep), dropped(places, axis, keep))


# -- in order ------------------------------------------------------------------------------
@public
def sort(
    x: Any, /, dim: Any = UNSET, descending: bool = False, stable: bool = True, *,
    axis: Any = UNSET,
) -> Any:  # fmt: skip
    """The elements along an axis in order.

    Parameters
    ----------
    x
        A Tensor or an array of one or more dimensions. Complex numbers are ordered by their
        real, then their imaginary parts.
    axis
        The standard's: the values along it; by default along the last axis.
    dim
        torch's: values and indices along it.
    descending
        Whether the greatest come first, and NaN before them.
    stable
        Accepted for the standard's sake: the order of equal elements is always kept.

    Returns
    -------
    Tensor or ValuesAndIndices
        Of the shape of x; with ``dim`` the named pair (values, indices).

    Raises
    ------
    AxisError
        For an axis that does not exist.

    Notes
    -----
    The Array API standard's and torch's `sort`. The gradient goes back to where each element
    came from.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([3, 1, 2])
    >>> accel.sort(x).tolist(), accel.sort(x, 0).indices.tolist()
    ([1, 2, 3], [1, 2, 0])
    """
    x, over = along("sort", x, dim, axis)
    values = record("sort", x, axis=over, descending=descending)
    if dim is UNSET:
        return values
    return ValuesAndIndices(values, record("argsort", x, axis=over, descending=descending))


@public
def argsort(
    x: Any, /, dim: Any = UNSET, descending: bool = False, stable: bool = True, *,
    axis: Any = UNSET,
) -> Tensor:  # fmt: skip
    """Where the elements lie that `sort` puts in order, as int64.

    Examples
    --------
    >>> import accel
    >>> accel.argsort(accel.asarray([3.0, float("nan"), 1.0])).tolist()
    [2, 0, 1]
    """
    x, over = along("argsort", x, dim, axis)
    return record("argsort", x, axis=over, descending=descending)


def msort(x: Any, /) -> Tensor:
    """The elements sorted along the first axis (torch's msort)."""
    return sort(x, axis=0)


@public
def lexsort(keys: Any, axis: int = -1) -> Tensor:
    """The places that sort several keys of one shape, the last key first of all.

    Examples
    --------
    >>> import accel
    >>> accel.lexsort(([2, 1, 0], [5, 3, 5])).tolist()
    [1, 2, 0]
    """
    rows = [as_tensor(k) if isinstance(k, Tensor) else Tensor(k) for k in keys]
    if not rows:
        raise ArgumentError("lexsort of no keys", remedy="give one or more keys")
    over = one_axis(axis, rows[0].ndim, "lexsort")
    places = record("argsort", rows[0], axis=over)
    for key in rows[1:]:  # sorts are stable
        refined = record("argsort", at_places(key, places, over), axis=over)
        places = at_places(places, refined, over)
    return places


@public
def topk(
    x: Any, k: int, dim: Any = UNSET, largest: bool = True, sorted: bool = True, *,
    axis: Any = UNSET,
) -> ValuesAndIndices:  # fmt: skip
    """The k greatest (or least) elements along an axis and where they lie.

    Parameters
    ----------
    x
        A Tensor or an array.
    k
        How many: from 0 to the extent of the axis.
    dim, axis
        The axis; the last by default.
    largest
        False gives the least elements.
    sorted
        Accepted for torch's sake: they always come in order.

    Raises
    ------
    ArgumentError
        For a k beyond the extent.

    Examples
    --------
    >>> import accel
    >>> accel.topk(accel.asarray([1.0, 4.0, 2.0, 4.0]), 2).indices.tolist()
    [1, 3]
    """
    x, over = along("topk", x, dim, axis)
    places = record("topk_indices", x, k=k, axis=over, largest=largest)
    return ValuesAndIndices(at_places(x, places, over), places)


@public
def kthvalue(
    x: Any, k: int, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
    keepdims: bool = False,
) -> ValuesAndIndices:  # fmt: skip
    """The k-th least element along an axis, counted from 1, and where it first stands.

    Raises
    ------
    ArgumentError
        For a k that is not from 1 to the extent of the axis.

    Examples
    --------
    >>> import accel
    >>> accel.kthvalue(accel.asarray([7, 5, 9]), 2).values.item()
    7
    """
    x, over = along("kthvalue", x, dim, axis)
    if not isinstance(k, int) or not 1 <= k <= x.shape[over]:
        raise ArgumentError(f"kthvalue: k={k!r} of {x.shape[over]} elements",
                            remedy="count from 1")  # fmt: skip
    ordered = record("sort", x, axis=over)
    wanted = get_item(ordered, (*[slice(None)] * over, slice(k - 1, k)))
    return found_along(x, wanted, over, keepdim or keepdims)


@public
def mode(
    x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET, keepdims: bool = False
) -> ValuesAndIndices:
    """The most frequent element along an axis, the least of several, and its last place:
    a method alone, for `accel.mode` chooses where work runs.

    Examples
    --------
    >>> import accel
    >>> accel.asarray([3, 1, 3, 1, 2]).mode().values.item()
    1
    """
    x, over = along("mode", x, dim, axis)
    order = record("argsort", x, axis=over)
    ordered = at_places(x, order, over)
    number = record("iota", shape=x.shape, axis=over, dtype=dtypes.int64)
    before = record("roll", ordered, shift=1, axis=over)
    starts = record("logical_or", record("ne", ordered, before), record("eq", number, 0))
    heads = record("where", starts, number, 0)
    # numbers of heads do not fall, so that the greatest so far is that of the own run
    head = at_places(heads, record("cumargmax", heads, axis=over), over)
    longest = record("argmax", record("sub", number, head), axis=over, keepdims=True)
    keep = keepdim or keepdims
    values, places = at_places(ordered, longest, over), at_places(order, longest, over)
    return ValuesAndIndices(dropped(values, over, keep), dropped(places, over, keep))


# -- so far --------------------------------------------------------------------------------
def _running(name: str, word: str, example: str) -> Any:
    def running(x: Any, dim: Any = UNSET, *, axis: Any = UNSET) -> Any:
        x, over = along(name, x, dim, axis)
        places = record(f"cumarg{name[3:]}", x, axis=over)
        values = at_places(x, places, over)
        return values if dim is UNSET else ValuesAndIndices(values, places)

    running.__name__ = running.__qualname__ = name
    running.__doc__ = f"""The {word} element so far, for each place along an axis.

Parameters
----------
x
    Of bool, integer or floating dtype.
dim
    torch's: values and indices along it; of equal elements the last, NaN before all.
axis
    The standard's: values alone; by default along the last axis.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([2, 1, 3]), 0).values.tolist()
{example}
"""
    return public(running)


cummax = _running("cummax", "greatest", "[2, 2, 3]")
cummin = _running("cummin", "least", "[2, 1, 1]")


# -- places among sorted elements ------------------------------------------------------------
@public
def searchsorted(
    x1: Any, x2: Any, /, *, side: str | None = None, sorter: Any = None, right: bool = False,
    out_int32: bool = False,
) -> Tensor:  # fmt: skip
    """Where in sorted elements each value would be put.

    Parameters
    ----------
    x1
        Elements in ascending order, in one dimension; or rows of them, one for each row of x2.
    x2
        Values of any shape, or a number.
    side, right
        "left" (the default) in front of equal elements; "right", or ``right=True``, behind.
    sorter
        Places that bring x1 in order.
    out_int32
        Whether to give int32 instead of int64.

    Raises
    ------
    ShapeError
        For shapes that do not fit.
    ArgumentError
        For another side, or where side and right disagree.

    Examples
    --------
    >>> import accel
    >>> row = accel.asarray([1, 3, 3, 5])
    >>> accel.searchsorted(row, accel.asarray([3, 6])).tolist()
    [1, 4]
    """
    if right and side == "left":
        raise ArgumentError("searchsorted: side='left' with right=True", remedy="give one of them")
    x1 = as_tensor(x1)
    if sorter is not None:
        x1 = record("take_along_axis", x1, as_tensor(sorter), axis=-1)
    side = ("right" if right else "left") if side is None else side
    found = record("searchsorted", x1, x2, side=side)
    return record("cast", found, dtype=dtypes.int32) if out_int32 else found


@public
def bucketize(
    x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the bucket between ascending boundaries in which each element falls: those
    on a boundary in the bucket below it, with `right` in the one above (torch's bucketize).

    Examples
    --------
    >>> import accel
    >>> accel.bucketize(accel.asarray([1, 2, 9]), accel.asarray([2, 4])).tolist()
    [0, 0, 2]
    """
    return searchsorted(boundaries, x, right=right, out_int32=out_int32)


@public
def digitize(x: Any, bins: Any, right: bool = False) -> Tensor:
    """The number of the bin in which each element falls, among ascending or descending bins
    (NumPy's digitize).

    Parameters
    ----------
    x
        A Tensor, an array or a number.
    bins
        Bounds in one dimension, in ascending or descending order.
    right
        Whether bins include their greater bound instead of the lesser.

    Examples
    --------
    >>> import accel
    >>> accel.digitize(accel.asarray([0.5, 2.0]), accel.asarray([1.0, 2.0])).tolist()
    [0, 2]
    """
    bins, side = as_tensor(bins), "left" if right else "right"
    rising = record("searchsorted", bins, x, side=side)
    if bins.ndim != 1 or bins.size < 2:
        return rising
    turned = record("flip", bins, axis=(0,))
    falling = record("sub", bins.size, record("searchsorted", turned, x, side=side))
    return record("where", record("gt", get_item(bins, 0), get_item(bins, -1)), falling, rising)
