"""Reading and rebinding by index: slices, integers, arrays of places, masks.

A key is first brought into one form: an entry for every dimension (a `slice`, an int, or a
Tensor of places) and the places of new axes. Slices and ints become one `slice` op; arrays of
places become `take` or `index_get`. A mask selects as many elements as it has true ones, so
its value is needed at once; where it only chooses between two values, `where` needs none.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...errors import (
    ArgumentError,
    DTypeError,
    IndexOutOfRangeError,
    ShapeError,
    TracedValueError,
)  # fmt: skip
from ...ir import dtypes
from ...ir.dtypes import DType
from ...ir.types import broadcast_shapes
from ...runtime import state as runtime_state
from ..tensors.arguments import public
from ..tensors.leaf_values import view_value
from ..tensors.recipes import place_varies
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from .creation import number_of
from .operators import check_inplace_dtype

__all__ = ["get_item", "set_item", "spread", "stored", "true_places"]

Places = tuple[int, int, int]
_WHOLE = slice(None)

#: Elements up to which places are compared with numbers: it takes twice as long as copying them,
#: which for larger arrays is more than another program takes.
_COMPARED = 1 << 24


@dataclass
class _Key:
    """A key in one form.

    Attributes
    ----------
    operand
        What is indexed: the tensor, with an axis of extent 1 for each single truth value.
    entries
        For each dimension of the operand a slice, an int or a Tensor of places.
    layout
        The key from left to right: an axis, or None for a new one.
    together
        Whether ints and arrays of places follow each other, with nothing in between.
    """

    operand: Tensor
    entries: list[Any]
    layout: list[int | None]
    together: bool

    @property
    def arrays(self) -> list[int]:
        """The axes that a Tensor of places indexes."""
        return [i for i, entry in enumerate(self.entries) if isinstance(entry, Tensor)]


# -- keys ----------------------------------------------------------------------------------
def _parse(x: Tensor, key: Any) -> _Key:
    items = _items(key)
    chosen = [i for i, item in enumerate(items) if not _is_basic(item)]
    alone = len(chosen) == 1
    parsed = _Key(x, [], [], not chosen or chosen[-1] - chosen[0] + 1 == len(chosen))
    for item in _whole(x, items):
        axis = len(parsed.entries)
        if item is None:
            parsed.layout.append(None)
            continue
        if isinstance(item, bool):
            parsed.operand = record("expand_dims", parsed.operand, axis=axis)
            # beside ints and arrays a truth value is an array of places, as many as it is true
            item = slice(0, int(item)) if alone else Tensor(np.zeros(int(item), np.int64))
        found: Sequence[Any] = (item,)
        if _is_mask(item):
            _check_mask(item, x.shape, parsed.operand.shape[axis : axis + item.ndim])
            found = true_places(item)
        for entry in found:
            parsed.layout.append(len(parsed.entries))
            parsed.entries.append(_entry(entry, parsed.operand, len(parsed.entries)))
    return parsed


def _items(key: Any) -> list[Any]:
    return [_normal(item) for item in (key if isinstance(key, tuple) else (key,))]


def _whole(x: Tensor, items: list[Any]) -> list[Any]:
    """`items` with full slices in place of the ellipsis, an index for every dimension."""
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("an index with two ellipses", remedy="use ... once")
    named = sum(_takes(item) for item in items)
    if named > x.ndim:
        raise IndexOutOfRangeError(f"{named} indices for a tensor of shape {list(x.shape)}",
                                   remedy=f"give at most {x.ndim}")  # fmt: skip
    at = dots[0] if dots else len(items)
    return items[:at] + [_WHOLE] * (x.ndim - named) + items[at + 1 :]


def _takes(item: Any) -> int:
    """How many dimensions of the operand an item of a key stands for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if _is_mask(item) else 1


def _is_basic(item: Any) -> bool:
    """Whether an item of a key neither is nor stands for places: NumPy's basic ones but ints."""
    return item is None or item is Ellipsis or isinstance(item, slice)


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype is dtypes.bool_


def _normal(item: Any) -> Any:
    """One item of a key as None, Ellipsis, a slice, a bool, an int, places or a mask."""
    if item is None or item is Ellipsis or isinstance(item, (slice, bool)):
        return item
    if isinstance(item, (np.bool_, np.integer)):
        return item.item()
    if isinstance(item, int):
        return int(item)
    if isinstance(item, (list, range, tuple)):
        listed = list(item)  # known while tracing, other than an array
        item = Tensor(listed, None if listed else np.int64)
    if isinstance(item, np.ndarray):
        item = as_tensor(item)
    if isinstance(item, Tensor):
        if _is_mask(item) and not item.ndim:
            return bool(item)
        if _is_mask(item) or item.dtype.is_integer:
            return item
        raise DTypeError(
            f"an index of {item.dtype}{list(item.shape)}",
            remedy="convert it with .astype(accel.int64), or compare it to make a mask",
        )
    try:
        return operator.index(item)
    except TypeError:
        raise DTypeError(
            f"{type(item).__name__} is no index",
            remedy="use ints, slices, ..., None, integer tensors or masks",
        ) from None


def _check_mask(mask: Tensor, shape: tuple[int, ...], extents: tuple[int, ...]) -> None:
    if mask.shape != extents:
        raise ShapeError(
            f"a mask of shape {list(mask.shape)} for a tensor of shape {list(shape)}",
            remedy="give a mask of the extents that it selects from",
        )


def true_places(mask: Tensor) -> tuple[Tensor, ...]:
    """Where a mask is true, one Tensor of places for each of its dimensions."""
    try:
        found = np.nonzero(mask._array("indexing by a mask"))
    except TracedValueError as error:
        raise TracedValueError(
            "the shape of x[mask] depends on the mask's values, which a compiled function has "
            "only when it runs",
            loc=error.loc, remedy="use accel.where(mask, x, other), or x[mask] = value",
        ) from None  # fmt: skip
    return tuple(Tensor(places.astype(np.int64)) for places in found)


def _entry(item: Any, x: Tensor, axis: int) -> Any:
    """`item` checked against the extent of its axis; ints are not negative then."""
    size = x.shape[axis]
    if isinstance(item, int):
        if not -size <= item < size:
            raise IndexOutOfRangeError(
                f"index {item} is out of range for axis {axis} with size {size} of a tensor of "
                f"shape {list(x.shape)}",
                remedy=f"use an index from {-size} to {size - 1}" if size else "index only what "
                "has elements",
            )
        return item % size
    return item


def _places(entry: Any, size: int) -> Places:
    """Start, stop and step of a slice or an int; the whole extent for an array of places."""
    if isinstance(entry, int):
        return entry, entry + 1, 1
    if not isinstance(entry, slice):
        return 0, size, 1
    try:
        return entry.indices(size)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{entry}: {error}", remedy="slices take ints, and no step of 0"
                            ) from None  # fmt: skip


def _region(key: _Key) -> dict[str, tuple[int, ...]]:
    """The attributes of the slice that a key cuts."""
    rows = [_places(e, n) for e, n in zip(key.entries, key.operand.shape, strict=True)]
    start, stop, step = zip(*rows, strict=True) if rows else ((), (), ())
    return {"start": start, "stop": stop, "step": step}


def _sliced(x: Tensor, region: dict[str, tuple[int, ...]]) -> Tensor:
    rows = zip(*region.values(), x.shape, strict=True)
    whole = all((start, stop, step) == (0, n, 1) for start, stop, step, n in rows)
    return x if whole else record("slice", x, **region)


# -- reading -------------------------------------------------------------------------------
@public
def get_item(x: Tensor, key: Any) -> Tensor:
    """``x[key]``, with NumPy's meaning.

    Raises
    ------
    IndexOutOfRangeError
        For an int, or while computing a Tensor of places, outside of its extent; and for more
        indices than dimensions.
    DTypeError
        For an index that is neither integer nor bool.
    TracedValueError
        For a mask inside a compiled function.
    """
    if runtime_state.current().tracer is None:
        part = view_value(value_of(x), key)
        if part is not None:
            return Tensor._of(part)
    parsed = _parse(x, key)
    cut = _sliced(parsed.operand, _region(parsed))
    if not parsed.arrays:
        shape = _result_shape(parsed, cut.shape)
        if cut.shape != shape:
            return record("reshape", cut, shape=shape)
        # a new handle even of the whole: rebinding the one must not change the other
        return cut if cut is not x else record("reshape", x, shape=shape)
    return _gathered(cut, parsed)


def _result_shape(key: _Key, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape after dropping ints and adding new axes, of a key without arrays."""
    return tuple(
        1 if axis is None else shape[axis]
        for axis in key.layout
        if axis is None or not isinstance(key.entries[axis], int)
    )  # fmt: skip


def _gathered(x: Tensor, key: _Key) -> Tensor:
    """The elements at arrays of places; `x` is already cut at slices and ints."""
    arrays = key.arrays
    indices = [key.entries[i] for i in arrays]
    ints = [i for i, e in enumerate(key.entries) if isinstance(e, int)]
    kept = [i for i in range(x.ndim) if i not in arrays and i not in ints]
    common = broadcast_shapes([i.shape for i in indices], "index")
    if len(arrays) == 1:
        found = record("take", x, indices[0], axis=arrays[0])
        places = list(range(arrays[0], arrays[0] + len(common)))
        front = [i if i < arrays[0] else i + len(common) - 1 for i in range(x.ndim) if i in kept]
        drop = [i if i < arrays[0] else i + len(common) - 1 for i in ints]
        found = record("permute", found, axes=(*places, *drop, *front)) if _moved(
            [*places, *drop, *front]
        ) else found  # fmt: skip
    else:
        found = record("permute", x, axes=(*arrays, *ints, *kept))
        found = record("index_get", found, *indices)
    rest = [x.shape[i] for i in kept]
    if ints:
        found = record("reshape", found, shape=(*common, *rest))
    return _placed(found, key, len(common), [*arrays, *ints])


def _moved(order: Sequence[int]) -> bool:
    return list(order) != sorted(order)


def _placed(found: Tensor, key: _Key, count: int, chosen: list[int]) -> Tensor:
    """Move the `count` leading dimensions that the arrays made to where NumPy puts them: in
    place of the arrays when those stand together, else in front; and add new axes."""
    positions = [i for i, axis in enumerate(key.layout) if axis in chosen and axis is not None]
    before = [a for a in key.layout[: positions[0]] if a is None or a not in chosen]
    ahead = sum(a is not None for a in before) if key.together else 0
    if ahead:
        order = (*range(count, count + ahead), *range(count), *range(count + ahead, found.ndim))
        found = record("permute", found, axes=order)
    if None not in key.layout:
        return found
    extents = iter(found.shape[:ahead] + found.shape[ahead + count :])
    tail = [a for a in key.layout if a is None or a not in chosen]
    shape = [1 if a is None else next(extents) for a in tail]
    split = len(before) if key.together else 0
    middle = found.shape[ahead : ahead + count]
    return record("reshape", found, shape=(*shape[:split], *middle, *shape[split:]))


# -- rebinding -----------------------------------------------------------------------------
@public
def set_item(x: Tensor, key: Any, value: Any) -> None:
    """``x[key] = value``: the handle gets a new value; what was computed before stays.

    Raises
    ------
    ShapeError
        When the value does not broadcast to the places.
    DTypeError
        For a value of a higher kind than x has (a float into integers).
    IndexOutOfRangeError
        As in reading.
    """
    x._assign(_updated(x, key, stored(value, x.dtype, "x[index] = value")))


def stored(value: Any, dtype: DType, op: str) -> Tensor:
    """`value` in the dtype of the tensor that takes it in.

    Raises
    ------
    DTypeError
        For a value of a higher kind.
    """
    if type(value) in (bool, int, float, complex):
        check_inplace_dtype(dtype, dtypes.of_scalar(value), op)
        return as_tensor(number_of(value, dtype))
    value = as_tensor(value)
    if value.dtype is dtype and not value_of(value).type.weak:
        return value
    check_inplace_dtype(dtype, value.dtype, op)
    return record("cast", value, dtype=dtype)


def _updated(x: Tensor, key: Any, value: Tensor) -> Tensor:
    key = tuple(_items(key))
    put = _masked(x, key, value)
    if put is not None:
        return put
    parsed = _parse(x, key)
    wide, region = parsed.operand, _region(parsed)
    if not parsed.arrays:
        shape = tuple(len(range(*row)) for row in zip(*region.values(), strict=True))
        values = record("reshape", spread(value, _result_shape(parsed, shape)), shape=shape)
        one = record("reshape", value, shape=()) if value.size == 1 else values
        put = _chosen(wide, region, one)
        if put is None:
            put = record("slice_update", wide, values, **region)
    else:
        cut = _sliced(wide, region)
        put = _scattered(cut, parsed, value)
        put = put if cut is wide else record("slice_update", wide, put, **region)
    return put if put.shape == x.shape else record("reshape", put, shape=x.shape)


def _chosen(x: Tensor, region: dict[str, Any], value: Tensor) -> Tensor | None:
    """Computed `x` with `value` in a region that is another one each time: the places are compared
    with numbers, which become arguments, where a program would be made for each region.

    None for a region that stays, and for values that differ along an axis on which it lies.
    """
    traced = runtime_state.current().tracer is not None
    if traced or value_of(x).data is None or x.size > _COMPARED:
        return None
    rows = [range(*row) for row in zip(*region.values(), strict=True)]
    cut = {axis: row for axis, row in enumerate(rows) if len(row) != x.shape[axis]}
    spans = tuple([(axis, len(row)) for axis, row in cut.items()])
    if not all(map(len, rows)) or any(row.step != 1 < len(row) for row in rows):
        return None
    if value.ndim and any(len(row) > 1 for row in cut.values()):
        return None
    first = tuple([row[0] for row in cut.values()])
    if not place_varies((x.shape, x.dtype, spans), first):
        return None
    inside = [_is_in(x.shape, axis, row) for axis, row in cut.items()]
    return record("where", functools.reduce(partial(record, "logical_and"), inside), value, x)


def _is_in(shape: tuple[int, ...], axis: int, row: range) -> Tensor:
    """Whether places along an axis are in a row of step 1."""
    along = [n if i == axis else 1 for i, n in enumerate(shape)]
    places = record("iota", shape=along, axis=axis, dtype=dtypes.int32)
    if len(row) == 1:
        return record("eq", places, row[0])
    return record("logical_and", record("ge", places, row[0]), record("lt", places, row[-1] + 1))


def _masked(x: Tensor, key: tuple[Any, ...], value: Tensor) -> Tensor | None:
    """`x` with the value where the one mask of a key is true; None where that needs its places,
    since the key has other arrays or the value a part of its own for each place."""
    items = _whole(x, list(key))
    masks = [i for i, item in enumerate(items) if _is_mask(item)]
    if len(masks) != 1 or not all(_is_basic(i) or type(i) is int for i in items if not _is_mask(i)):
        return None
    at, mask = masks[0], items[masks[0]]
    axis = sum(map(_takes, items[:at]))
    _check_mask(mask, x.shape, x.shape[axis : axis + mask.ndim])
    if value.size == 1:
        value = record("reshape", value, shape=())
    elif any(type(i) is int for i in items):  # which may move the places to the front
        return None
    rest = sum(type(item) is not int for item in items[at + 1 :])
    if value.ndim > rest:
        if value.shape[-1 - rest] != 1:
            return None
        lead, tail = value.shape[: -1 - rest], value.shape[value.ndim - rest :]
        value = record("reshape", value, shape=(*lead, *(1,) * mask.ndim, *tail))
    basic = (*items[:at], *[_WHOLE] * mask.ndim, *items[at + 1 :])
    whole = all(item == _WHOLE for item in basic)
    before = x if whole else get_item(x, basic)
    chosen = record("reshape", mask, shape=mask.shape + (1,) * rest) if rest else mask
    put = record("where", chosen, spread(value, before.shape), before)
    return put if whole else _updated(x, basic, put)


def spread(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`value` broadcast to the places it goes to; extents of 1 in front may be left over."""
    extra = value.ndim - len(shape)
    if extra > 0 and all(n == 1 for n in value.shape[:extra]):
        value = record("reshape", value, shape=value.shape[extra:])
    try:
        return value if value.shape == shape else record("broadcast_to", value, shape=shape)
    except ShapeError:
        raise ShapeError(
            f"x[index] = value: a value of shape {list(value.shape)} for places of shape "
            f"{list(shape)}",
            remedy="give a number, or a value that broadcasts to the places",
        ) from None


def _scattered(x: Tensor, key: _Key, value: Tensor) -> Tensor:
    """`x` (cut at slices and ints) with the value at arrays of places."""
    arrays = key.arrays
    indices = [key.entries[i] for i in arrays]
    common = broadcast_shapes([i.shape for i in indices], "index")
    others = [i for i in range(x.ndim) if i not in arrays]
    ints = [i for i in others if isinstance(key.entries[i], int)]
    kept = [i for i in others if i not in ints]
    value = _to_front(value, x, key, common, kept, [*arrays, *ints])
    value = record("reshape", value, shape=(*common, *[x.shape[i] for i in (*ints, *kept)]))
    order = (*arrays, *ints, *kept)
    put = record("index_put", record("permute", x, axes=order), value, *indices)
    return record("permute", put, axes=tuple(np.argsort(order).tolist()))


def _to_front(
    value: Tensor, x: Tensor, key: _Key, common: tuple[int, ...], kept: list[int],
    chosen: list[int],
) -> Tensor:  # fmt: skip
    """The value broadcast to the result of reading, with the arrays' dimensions in front."""
    positions = [i for i, axis in enumerate(key.layout) if axis in chosen and axis is not None]
    before = [a for a in key.layout[: positions[0]] if a is None or a not in chosen]
    split = len(before) if key.together else 0
    tail = [a for a in key.layout if a is None or a not in chosen]
    shape = [1 if a is None else x.shape[a] for a in tail]
    full = (*shape[:split], *common, *shape[split:])
    value = spread(value, full)
    places = range(split, split + len(common))
    rest = [i for i in range(len(full)) if i not in places]
    return record("permute", value, axes=(*places, *rest)) if split else value
