"""Values of data from outside: arrays, numbers, nested lists of numbers, torch tensors.

Python numbers take the default dtypes and may not overflow what is asked for; arrays keep theirs.
Inside a trace an array becomes an input, which is read anew on every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, NotAnArrayError, NumberRangeError
from ...ir import dtypes
from ...ir.dtypes import DType
from ...ir.ops.movement import slice_extent
from ...ir.types import TensorType
from ...runtime import state as runtime_state
from ...runtime.memory import aligned_copy
from .values import Value, user_location

__all__ = ["array_value", "device_value", "leaf_value", "part_value", "view_value"]


def array_value(data: Any, dtype: Any = None, copy: bool | None = True) -> Value:
    """A leaf for an array, a number or nested lists of numbers.

    Python numbers take the default dtypes (float32, int64); arrays keep theirs. `copy` False
    forbids a copy, None makes one only where it must.

    Raises
    ------
    NotAnArrayError, UnsupportedDTypeError, ArgumentError
        For what is no array, has a dtype accel lacks, or cannot be had without a copy.
    """
    array = data if isinstance(data, (np.ndarray, np.generic)) else _array_of(data)
    wanted = dtypes.to_dtype(dtype) if dtype is not None else dtypes.to_dtype(array.dtype)
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)) and _is_python(data):
        wanted = dtypes.default_dtype(wanted.kind)
        if wanted.kind == "i" and array.dtype == np.uint64:
            wanted = dtypes.uint64
    usable = isinstance(array, np.ndarray) and array.dtype == wanted.numpy and array.flags.aligned
    if not usable and copy is False:
        raise ArgumentError(
            f"{array.dtype}{list(array.shape)} cannot become {wanted} without a copy",
            remedy="leave out copy=False",
        )
    if array.dtype.kind in "iu" and wanted.is_integer and _is_python(data) and array.size:
        _check_fits(np.asarray(array), wanted)
    if copy or not usable:
        array = aligned_copy(np.asarray(array), wanted.numpy)
    else:  # its owner may write there; whoever takes values for unchanging can tell by this
        array = array.view()
        array.flags.writeable = False
    return Value(TensorType(wanted, array.shape), data=array)


def part_value(value: Value, start: Any, stop: Any, step: Any) -> Value | None:
    """A leaf for a slice of computed data, which share their memory: other places are no other
    program.

    None for what is to be recorded: gradients flow through it, it is not computed or not on the
    CPU, others may write there, or the places lie outside.
    """
    data = _unchanging(value)
    if data is None or not len(start) == len(stop) == len(step) == data.ndim:
        return None
    places = []
    for extent, first, end, stride in zip(data.shape, start, stop, step, strict=True):
        if not type(first) is type(end) is type(stride) is int or not stride:
            return None
        count = slice_extent(first, end, stride)
        last = first + (count - 1) * stride
        if count and not (0 <= first < extent and 0 <= last < extent):
            return None
        end = last + (1 if stride > 0 else -1)
        places.append(slice(first, None if end < 0 else end, stride) if count else slice(0, 0))
    part = data[tuple(places)] if places else data
    return Value(TensorType(value.type.dtype, part.shape), data=part)


def view_value(value: Value, key: Any) -> Value | None:
    """The same for an index of ints and slices, which may leave out dimensions."""
    data = _unchanging(value)
    items = key if type(key) is tuple else (key,)
    if data is None or len(items) > data.ndim or not {int, slice}.issuperset(map(type, items)):
        return None
    try:
        part = data[items]
    except (IndexError, TypeError, ValueError):  # to be told in accel's words
        return None
    if type(part) is not np.ndarray:  # a number
        part = np.asarray(part)
    return Value(TensorType(value.type.dtype, part.shape), data=part)


def _unchanging(value: Value) -> np.ndarray | None:
    """The data of a computed value through which no gradient flows, where nobody may write."""
    data = value.data
    if type(data) is not np.ndarray or value.requires_grad or value.type.weak:
        return None
    return data if data.flags.writeable else None


def device_value(buffer: Any) -> Value:
    """A leaf for a torch tensor on a CUDA device.

    Raises
    ------
    UnsupportedDTypeError
        For a dtype accel lacks.
    """
    dtype = dtypes.to_dtype(str(buffer.dtype).rpartition(".")[2])
    return Value(TensorType(dtype, tuple(buffer.shape), str(buffer.device)), data=buffer)


def _check_fits(array: np.ndarray, dtype: DType) -> None:
    """Refuse Python integers that `dtype` would wrap."""
    limits = np.iinfo(dtype.numpy)
    for number in (int(array.min()), int(array.max())):
        if not limits.min <= number <= limits.max:
            raise NumberRangeError(f"{number} does not fit {dtype}", remedy="choose a wider dtype")


def _is_python(data: Any) -> bool:
    return isinstance(data, (bool, int, float, complex, list, tuple))


def _array_of(data: Any) -> np.ndarray:
    try:
        array = np.asarray(data)
        if array.dtype == np.float64 and _holds_large_integers(data, array):
            array = np.asarray(data, dtype=np.uint64)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotAnArrayError(
            f"{type(data).__name__} is no array: {error}", loc=user_location(),
            remedy="give numbers, nested lists of equal lengths, or an array",
        ) from None  # fmt: skip
    if array.dtype.kind in "OUSMmV" and not hasattr(data, "__array__") and array.dtype.kind == "O":
        raise NotAnArrayError(
            f"{type(data).__name__} is neither an array nor a number", loc=user_location(),
            remedy="give numbers, nested lists of equal lengths, or an array",
        )  # fmt: skip
    return array


def _holds_large_integers(data: Any, array: np.ndarray) -> bool:
    """Whether NumPy took Python integers that need uint64 for floats, as some are smaller."""
    if not _is_python(data) or not array.size or not np.max(array) >= 2.0**63:
        return False
    return all(type(number) is int for number in np.asarray(data, dtype=object).flat)


def leaf_value(data: Any, dtype: Any = None, copy: bool | None = True) -> Value:
    """`array_value`, for use inside a trace as well.

    There an array from outside is an input of the trace, read anew on every call.
    """
    tracer = runtime_state.current().tracer
    if tracer is None:
        return array_value(data, dtype, copy)
    if isinstance(data, np.ndarray):
        value = tracer.read_array(data)
        if dtype is None or dtypes.to_dtype(dtype) is value.type.dtype:
            return value
    value = array_value(data, dtype, copy)
    value.tracer = tracer
    return value
