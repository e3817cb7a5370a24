"""Gathers and scatters as functions: elements at places that tensors of integers name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ...ir import dtypes
from ...ir.axes import one_axis
from ...ir.types import broadcast_shapes
from ..tensors.arguments import UNSET, axis_of, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .indexing import get_item, set_item, spread, stored, true_places

__all__ = [
    "argwhere", "flatnonzero", "gather", "index_add", "index_copy", "index_fill", "index_put",
    "index_select", "masked_scatter", "masked_select", "nonzero", "select_scatter",
    "slice_scatter", "take", "take_along_axis", "take_along_dim",
]  # fmt: skip


@public
def take(x: Any, indices: Any, /, dim: Any = UNSET, *, axis: Any = UNSET) -> Tensor:
    """Slices of `x` at integer places along an axis, or elements of the flattened x.

    Parameters
    ----------
    x
        A Tensor or an array.
    indices
        Integers of any shape; negative ones count from the end.
    axis, dim
        The axis; without it x is flattened.

    Raises
    ------
    IndexOutOfRangeError
        For a place outside of the extent, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> accel.take(accel.asarray([10, 20, 30]), accel.asarray([2, 0])).tolist()
    [30, 10]
    """
    along = axis_of("take", dim, axis)
    x, indices = as_tensor(x), integers(indices)
    if along is None:
        x, along = record("reshape", x, shape=(x.size,)), 0
    return record("take", x, indices, axis=along)


def integers(indices: Any) -> Tensor:
    """An index as a tensor; lists too, empty ones as int64."""
    if isinstance(indices, (list, tuple)):
        return Tensor(np.asarray(indices, None if len(indices) else np.int64))
    return as_tensor(indices)


@public
def take_along_axis(x: Any, indices: Any, /, axis: Any = -1) -> Tensor:
    """For each index the element at that place along the axis; other dimensions broadcast.

    Raises
    ------
    IndexOutOfRangeError
        For a place outside of the extent, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[10, 20], [30, 40]])
    >>> accel.take_along_axis(x, accel.asarray([[1], [0]]), axis=1).tolist()
    [[20], [30]]
    """
    x, indices = as_tensor(x), integers(indices)
    if axis is None:
        x, axis = record("reshape", x, shape=(x.size,)), 0
    return record("take_along_axis", x, indices, axis=axis)


@public
def gather(x: Any, dim: int, index: Any) -> Tensor:
    """torch's gather: for each index the element at that place along `dim`, at the index's own
    place in the other dimensions.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[10, 20], [30, 40]])
    >>> accel.gather(x, 1, accel.asarray([[1], [0]])).tolist()
    [[20], [30]]
    """
    return record("gather", x, integers(index), axis=dim)


@public
def index_select(x: Any, dim: int, index: Any) -> Tensor:
    """Slices of `x` at the places of a 1-d index along `dim`."""
    index = integers(index)
    if index.ndim > 1:
        raise ShapeError(f"index_select: an index of shape {list(index.shape)}",
                         remedy="flatten it, or use take")  # fmt: skip
    return record("take", x, record("reshape", index, shape=(index.size,)), axis=dim)


def values_like(x: Tensor, value: Any, shape: tuple[int, ...]) -> Tensor:
    """`value` in the dtype of `x`; a number spread over a shape."""
    value = stored(value, x.dtype, "scatter")
    return value if value.ndim else record("broadcast_to", value, shape=shape)


@public
def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Tensor:
    """`x` with slices of `source`, times `alpha`, added at the places of a 1-d index.

    Examples
    --------
    >>> import accel
    >>> accel.index_add(accel.zeros((3,)), 0, accel.asarray([0, 0]), accel.ones((2,))).tolist()
    [2.0, 0.0, 0.0]
    """
    x = as_tensor(x)
    source = record("mul", source, alpha) if alpha != 1 else source
    index = integers(index)
    axis = one_axis(dim, x.ndim, "index_add")
    shape = x.shape[:axis] + index.shape + x.shape[axis + 1 :]
    return record("index_add", x, index, values_like(x, source, shape), axis=axis)


@public
def index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    """`x` with values at places given for its leading dimensions, put or added up.

    Examples
    --------
    >>> import accel
    >>> places = (accel.asarray([0, 0]),)
    >>> accel.index_put(accel.zeros((2,)), places, 1.0, accumulate=True).tolist()
    [2.0, 0.0]
    """
    x = as_tensor(x)
    places = [integers(i) for i in indices]
    if len(places) == 1 and places[0].dtype is dtypes.bool_:
        places = list(true_places(places[0]))
    common = broadcast_shapes([i.shape for i in places], "index_put")
    shape = common + x.shape[len(places) :]
    value = spread(values_like(x, values, shape), shape)
    return record("index_put", x, value, *places, accumulate=accumulate)


def _replaced(x: Any, key: Any, value: Any) -> Tensor:
    """`x` with a value at an index; `x` itself stays."""
    changed = record("reshape", x, shape=as_tensor(x).shape)
    set_item(changed, key, value)
    return changed


def _along(x: Any, dim: int, item: Any, op: str) -> tuple[Any, ...]:
    """The key that has an item for one axis and takes the others whole."""
    return (*[slice(None)] * one_axis(dim, as_tensor(x).ndim, op), item)


@public
def index_copy(x: Any, dim: int, index: Any, source: Any) -> Tensor:
    """`x` with slices of `source` put at the places of a 1-d index along `dim`.

    Examples
    --------
    >>> import accel
    >>> accel.index_copy(accel.zeros((3,)), 0, accel.asarray([2]), accel.ones((1,))).tolist()
    [0.0, 0.0, 1.0]
    """
    return _replaced(x, _along(x, dim, integers(index), "index_copy"), source)


@public
def index_fill(x: Any, dim: int, index: Any, value: Any) -> Tensor:
    """`x` with one value at the places of an index along `dim`.

    Examples
    --------
    >>> import accel
    >>> accel.index_fill(accel.zeros((3,)), 0, accel.asarray([0, 2]), 7.0).tolist()
    [7.0, 0.0, 7.0]
    """
    return _replaced(x, _along(x, dim, integers(index), "index_fill"), value)


@public
def select_scatter(x: Any, src: Any, dim: int, index: int) -> Tensor:
    """`x` with `src` at one place along `dim`.

    Examples
    --------
    >>> import accel
    >>> accel.select_scatter(accel.zeros((2, 2)), accel.ones((2,)), 0, 1).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    return _replaced(x, _along(x, dim, index, "select_scatter"), src)


@public
def slice_scatter(
    x: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    """`x` with `src` in a slice along `dim`.

    Examples
    --------
    >>> import accel
    >>> accel.slice_scatter(accel.zeros((4,)), accel.ones((2,)), start=1, end=3).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    return _replaced(x, _along(x, dim, slice(start, end, step), "slice_scatter"), src)


@public
def masked_scatter(x: Any, mask: Any, source: Any) -> Tensor:
    """`x` with the elements of `source`, one after the other, where the mask is true.

    Parameters
    ----------
    x
        A Tensor or an array.
    mask
        Truth values that broadcast to x.
    source
        At least as many elements as the mask has true ones.

    Raises
    ------
    IndexOutOfRangeError
        For a source with too few elements, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([1, 2, 3])
    >>> accel.masked_scatter(x, x != 2, accel.asarray([7, 8])).tolist()
    [7, 2, 8]
    """
    x, mask = as_tensor(x), as_tensor(mask)
    wide = record("reshape", record("broadcast_to", mask, shape=x.shape), shape=-1)
    source = record("reshape", stored(source, x.dtype, "masked_scatter"), shape=-1)
    if not source.size:
        source = record("broadcast_to", record("cast", 0, dtype=x.dtype), shape=(1,))
        place = record("cast", wide, dtype=dtypes.int64)  # a true one has no element
    else:
        number = record("sub", record("cumsum", wide, axis=0), 1)
        place = record("where", wide, number, 0)
    found = record("reshape", record("take", source, place, axis=0), shape=x.shape)
    return record("where", record("reshape", wide, shape=x.shape), found, x)


@public
def nonzero(x: Any, /, as_tuple: bool = True) -> Any:
    """Where `x` is not zero: a Tensor of places for each dimension; computes x at once.

    Parameters
    ----------
    x
        A Tensor or an array.
    as_tuple
        False gives one Tensor [count, dimensions], as torch does by default.

    Raises
    ------
    TracedValueError
        Inside a compiled function.

    Examples
    --------
    >>> import accel
    >>> accel.nonzero(accel.asarray([0, 3, 0, 4]))[0].tolist()
    [1, 3]
    """
    x = as_tensor(x)
    if not x.ndim:
        raise ShapeError("nonzero of a 0-d tensor", remedy="reshape it to one dimension")
    places = true_places(record("ne", x, 0))
    return places if as_tuple else record("stack", *places, axis=1)


def argwhere(x: Any, /) -> Tensor:
    """Where `x` is not zero, one row for each element; computes x at once."""
    return nonzero(x, as_tuple=False)


def flatnonzero(x: Any, /) -> Tensor:
    """Where the flattened `x` is not zero; computes x at once (NumPy's flatnonzero)."""
    return nonzero(record("reshape", x, shape=-1))[0]


@public
def masked_select(x: Any, mask: Any, /) -> Tensor:
    """The elements where the mask is true, in one dimension; computes the mask at once.

    Raises
    ------
    TracedValueError
        Inside a compiled function.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([1, 2, 3])
    >>> accel.masked_select(x, x > 1).tolist()
    [2, 3]
    """
    x, mask = as_tensor(x), as_tensor(mask)
    shape = broadcast_shapes([x.shape, mask.shape], "masked_select")
    wide = [record("broadcast_to", v, shape=shape) for v in (x, mask)]
    if not shape:
        wide = [record("reshape", v, shape=(1,)) for v in wide]
    return get_item(wide[0], wide[1])


@public
def take_along_dim(x: Any, indices: Any, dim: int | None = None) -> Tensor:
    """`take_along_axis` in torch's words: without a dim both are flattened."""
    if dim is not None:
        return take_along_axis(x, indices, axis=dim)
    flat = record("reshape", integers(indices), shape=-1)
    return take_along_axis(record("reshape", x, shape=-1), flat, axis=0)
