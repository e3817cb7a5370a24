"""Functions that join tensors and cut them apart."""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, NotAnArrayError, ShapeError
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, axis_of, extents, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .shapes import ravel

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "cat", "chunk", "column_stack", "concat",
    "concatenate", "diagonal", "dsplit", "dstack", "hsplit", "hstack", "narrow", "row_stack",
    "select", "slice", "split", "split_with_sizes", "stack", "tensor_split", "unbind", "unstack",
    "vsplit", "vstack",
]  # fmt: skip


# -- joins ---------------------------------------------------------------------------------
def _listed(op: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, (tuple, list)):
        raise NotAnArrayError(f"{op} takes a sequence of tensors, got {type(tensors).__name__}",
                              remedy=f"{op}([x, y])")  # fmt: skip
    if not tensors:
        raise ArgumentError(f"{op} of no tensors", remedy="give at least one")
    return [as_tensor(x) for x in tensors]


@public
def cat(tensors: Any, /, dim: Any = UNSET, *, axis: Any = UNSET) -> Tensor:
    """The operands joined along an axis, the first by default; ``axis=None`` flattens them.

    Raises
    ------
    ShapeError
        When other extents differ.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([[1, 2]])
    >>> accel.concat([x, x], axis=1).tolist()
    [[1, 2, 1, 2]]
    """
    along = axis_of("cat", dim, axis, 0)
    found = _listed("cat", tensors)
    if along is None:
        return record("cat", *[ravel(x) for x in found], axis=0)
    return record("cat", *found, axis=along)


@public
def stack(tensors: Any, /, dim: Any = UNSET, *, axis: Any = UNSET) -> Tensor:
    """The operands side by side along a new axis, the first by default.

    Examples
    --------
    >>> import accel
    >>> accel.stack([accel.asarray([1, 2]), accel.asarray([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    return record("stack", *_listed("stack", tensors), axis=axis_of("stack", dim, axis, 0))


def _each(function: Any) -> Any:
    """`function` of one tensor, or of each of several, given apart or as a sequence."""

    @functools.wraps(function)
    def apply(*tensors: Any) -> Any:
        if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
            return function(tensors[0])
        listed = tensors[0] if len(tensors) == 1 else tensors
        return tuple([function(x) for x in listed])

    return public(apply)


@_each
def atleast_1d(x: Any, /) -> Any:
    """`x` with one dimension or more; of several tensors a tuple."""
    x = as_tensor(x)
    return x if x.ndim else record("reshape", x, shape=(1,))


@_each
def atleast_2d(x: Any, /) -> Any:
    """`x` with two dimensions or more; a vector becomes a row."""
    x = atleast_1d(x)
    return x if x.ndim > 1 else record("expand_dims", x, axis=0)


@_each
def atleast_3d(x: Any, /) -> Any:
    """`x` with three dimensions or more; a matrix gets a last axis of extent 1."""
    x = atleast_2d(x)
    return x if x.ndim > 2 else record("expand_dims", x, axis=-1)


@public
def vstack(tensors: Any, /) -> Tensor:
    """The operands below one another; vectors are rows."""
    return record("cat", *[atleast_2d(x) for x in _listed("vstack", tensors)], axis=0)


@public
def hstack(tensors: Any, /) -> Tensor:
    """The operands beside one another: along axis 1, or 0 for vectors."""
    found = [atleast_1d(x) for x in _listed("hstack", tensors)]
    return record("cat", *found, axis=min(found[0].ndim - 1, 1))


@public
def dstack(tensors: Any, /) -> Tensor:
    """The operands behind one another, along axis 2."""
    found = [atleast_2d(x) for x in _listed("dstack", tensors)]
    deep = [x if x.ndim > 2 else record("expand_dims", x, axis=2) for x in found]
    return record("cat", *deep, axis=2)


@public
def column_stack(tensors: Any, /) -> Tensor:
    """The operands beside one another; vectors are columns."""
    found = [atleast_1d(x) for x in _listed("column_stack", tensors)]
    wide = [x if x.ndim > 1 else record("expand_dims", x, axis=1) for x in found]
    return record("cat", *wide, axis=1)


# -- cuts ----------------------------------------------------------------------------------
def cut(x: Tensor, places: Sequence[tuple[int, int, int]]) -> Tensor:
    """The part between a start and a stop in steps, along each axis."""
    start, stop, step = zip(*places, strict=True) if places else ((), (), ())
    return record("slice", x, start=start, stop=stop, step=step)


def cut_axis(x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """The part between a start and a stop in steps, along one axis."""
    places = [(0, n, 1) for n in x.shape]
    places[axis] = (start, stop, step)
    return cut(x, places)


@public
def slice(x: Any, /, dim: int = 0, start: int | None = None, end: int | None = None,
          step: int = 1) -> Tensor:  # fmt: skip
    """Every `step`-th place from `start` to `end` along one axis, as ``x[start:end:step]``.

    Examples
    --------
    >>> import accel
    >>> accel.slice(accel.asarray([1, 2, 3, 4, 5]), 0, 1, None, 2).tolist()
    [2, 4]
    """
    x = as_tensor(x)
    axis = one_axis(dim, x.ndim, "slice")
    if step == 0:
        raise ArgumentError("slice: the step is 0", remedy="use a positive or negative step")
    return cut_axis(x, axis, *builtins.slice(start, end, step).indices(x.shape[axis]))


@public
def narrow(x: Any, dim: int, start: int, length: int) -> Tensor:
    """`length` places from `start` along an axis.

    Raises
    ------
    ArgumentError
        When they lie outside of the extent.
    """
    x = as_tensor(x)
    axis = one_axis(dim, x.ndim, "narrow")
    first, size = operator.index(start), operator.index(length)
    first = first + x.shape[axis] if first < 0 else first
    if size < 0 or first < 0 or first + size > x.shape[axis]:
        raise ArgumentError(
            f"narrow: places {start} to {start + length} of axis {dim} of shape {list(x.shape)}",
            remedy=f"stay within the extent of {x.shape[axis]}",
        )
    return cut_axis(x, axis, first, first + size)


@public
def select(x: Any, dim: int, index: int) -> Tensor:
    """One place of an axis, without the axis: ``x[..., index, ...]``."""
    from .indexing import get_item

    x = as_tensor(x)
    axis = one_axis(dim, x.ndim, "select")
    return get_item(x, (builtins.slice(None),) * axis + (operator.index(index),))


@public
def split(x: Any, split_size: Any, dim: int = 0, *, axis: Any = UNSET) -> tuple[Tensor, ...]:
    """Pieces of `split_size` places along an axis, or of the sizes listed.

    Raises
    ------
    ArgumentError
        When listed sizes do not add up to the extent.

    Examples
    --------
    >>> import accel
    >>> [p.tolist() for p in accel.split(accel.asarray([1, 2, 3]), 2)]
    [[1, 2], [3]]
    """
    x = as_tensor(x)
    along = one_axis(dim if axis is UNSET else axis, x.ndim, "split")
    size = x.shape[along]
    if isinstance(split_size, int):
        if split_size <= 0:
            raise ArgumentError(f"split: pieces of {split_size}", remedy="give a positive size")
        sizes = [min(split_size, size - i) for i in range(0, size, split_size)] or [0]
    else:
        sizes = list(extents("split", (tuple(split_size),)))
        if sum(sizes) != size or any(n < 0 for n in sizes):
            raise ArgumentError(f"split: sizes {sizes} of an extent of {size}",
                                remedy="give sizes that add up to the extent")  # fmt: skip
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(cut_axis(x, along, e - n, e) for n, e in zip(sizes, ends, strict=True))


@public
def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size (the last may be smaller) along an axis."""
    x = as_tensor(x)
    if chunks <= 0:
        raise ArgumentError(f"chunk: {chunks} pieces", remedy="ask for one or more")
    size = x.shape[one_axis(dim, x.ndim, "chunk")]
    return split(x, max(-(-size // chunks), 1), dim)


@public
def split_with_sizes(x: Any, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of the sizes listed, as `split`."""
    return split(x, tuple(split_sizes), dim)


@public
def tensor_split(x: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """So many pieces of nearly equal size along an axis, or those between the places listed.

    Examples
    --------
    >>> import accel
    >>> [p.tolist() for p in accel.tensor_split(accel.asarray([1, 2, 3]), 2)]
    [[1, 2], [3]]
    """
    x = as_tensor(x)
    along = one_axis(dim, x.ndim, "tensor_split")
    size = x.shape[along]
    given = indices_or_sections
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, (tuple, list)):
        ends = [builtins.slice(None, operator.index(i)).indices(size)[1] for i in given]
        marks = [0, *ends, size]
    else:
        count = operator.index(given)
        if count <= 0:
            raise ArgumentError(f"tensor_split: {count} pieces", remedy="ask for one or more")
        part, longer = divmod(size, count)
        marks = [i * part + min(i, longer) for i in range(count + 1)]
    pairs = itertools.pairwise(marks)
    return tuple([cut_axis(x, along, first, max(first, last)) for first, last in pairs])


def _split_along(name: str, axis: int, least: int) -> Any:
    def split_axis(x: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
        x, parts = as_tensor(x), indices_or_sections
        if x.ndim < least:
            raise ShapeError(f"{name} of shape {list(x.shape)}",
                             remedy=f"give {least} dimensions or more")  # fmt: skip
        over = 0 if x.ndim == 1 else axis
        if isinstance(parts, int) and (parts <= 0 or x.shape[over] % parts):
            raise ArgumentError(f"{name}: {parts} pieces of an extent of {x.shape[over]}",
                                remedy="ask for a number that divides it")  # fmt: skip
        return tensor_split(x, parts, over)

    split_axis.__name__ = split_axis.__qualname__ = name
    split_axis.__doc__ = f"Equal pieces along axis {axis}, or those between the places listed."
    return public(split_axis)


hsplit = _split_along("hsplit", 1, 1)
vsplit = _split_along("vsplit", 0, 2)
dsplit = _split_along("dsplit", 2, 3)


@public
def unbind(x: Any, /, dim: int = 0, *, axis: Any = UNSET) -> tuple[Tensor, ...]:
    """Every place of an axis, without the axis.

    Examples
    --------
    >>> import accel
    >>> [row.tolist() for row in accel.unbind(accel.asarray([[1, 2], [3, 4]]))]
    [[1, 2], [3, 4]]
    """
    x = as_tensor(x)
    along = one_axis(dim if axis is UNSET else axis, x.ndim, "unbind")
    shape = x.shape[:along] + x.shape[along + 1 :]
    pieces = (cut_axis(x, along, i, i + 1) for i in range(x.shape[along]))
    return tuple(record("reshape", piece, shape=shape) for piece in pieces)


@public
def diagonal(
    x: Any, /, offset: int = 0, dim1: int = 0, dim2: int = 1, *, axis1: int | None = None,
    axis2: int | None = None,
) -> Tensor:  # fmt: skip
    """The diagonal of two axes, as a new last axis.

    Examples
    --------
    >>> import accel
    >>> accel.diagonal(accel.asarray([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    x = as_tensor(x)
    first = dim1 if axis1 is None else axis1
    second = dim2 if axis2 is None else axis2
    x = record("moveaxis", x, source=(first, second), destination=(-2, -1))
    *batch, rows, columns = x.shape
    start = offset if offset >= 0 else -offset * columns
    count = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    count = max(count, 0)
    flat = record("reshape", x, shape=(*batch, rows * columns))
    stop = start + (count - 1) * (columns + 1) + 1 if count else start
    return cut_axis(flat, len(batch), start, stop, columns + 1)


concat = concatenate = cat
unstack = unbind
row_stack = vstack
