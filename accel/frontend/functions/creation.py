"""Tensors from numbers, shapes, arrays and other libraries' memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, NotAnArrayError, NumberRangeError
from ...ir import dtypes
from ...ir.dtypes import DType
from ...runtime import dlpack
from ...runtime import state as runtime_state
from ..tensors.arguments import extents, public
from ..tensors.devices import find_device
from ..tensors.leaf_values import array_value, device_value
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = [
    "asarray", "empty", "empty_like", "from_data", "from_dlpack", "from_numpy", "full",
    "full_like", "ones", "ones_like", "tensor", "zeros", "zeros_like",
]  # fmt: skip


def finished(
    made: Tensor, device: Any, requires_grad: bool = False, copy: bool | None = None
) -> Tensor:  # fmt: skip
    """What was made, on `device`, a leaf of differentiation if asked for.

    Raises
    ------
    DeviceError
        For a device that is not there.
    ArgumentError
        For ``copy=False`` where it must be moved.
    """
    if device is not None:
        if copy is False and find_device(device) != made.device:
            raise ArgumentError(f"a tensor on {made.device} to {device} without a copy",
                                remedy="leave out copy=False")  # fmt: skip
        made = move(made, device)
    return made.requires_grad_() if requires_grad else made


def move(x: Tensor, device: Any) -> Tensor:
    """`x` on a device; x itself where it is there already."""
    wanted = find_device(device)
    if wanted == x.device:
        return x
    if x.is_cuda and wanted.type == "cuda":  # a computation has one CUDA device
        x = record("to_device", x, device="cpu").block_until_ready()
    return record("to_device", x, device=str(wanted))


# -- from data ---------------------------------------------------------------------------
@public
def asarray(
    obj: Any, /, dtype: Any = None, *, copy: bool | None = None, device: Any = None
) -> Tensor:  # fmt: skip
    """A Tensor of an array, a number, nested sequences or a Tensor (returned as it is).

    Parameters
    ----------
    obj
        What to convert. Python floats become float32, ints int64; arrays keep their dtype.
    dtype
        Converts.
    copy
        NumPy memory is copied unless this is False; True also gives a Tensor a new handle.
    device
        Where to make it; by default the CPU.

    Raises
    ------
    NotAnArrayError, UnsupportedDTypeError
        For what is no array of numbers.
    ArgumentError
        For copy=False where a copy is needed.

    Examples
    --------
    >>> import accel
    >>> accel.asarray([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    return finished(_as_tensor_of(obj, dtype, copy), device, copy=copy)


def _as_tensor_of(obj: Any, dtype: Any, copy: bool | None) -> Tensor:
    if isinstance(obj, Tensor):
        return _converted(obj, dtype, copy)
    tracing = runtime_state.current().tracer is not None
    if tracing and isinstance(obj, (np.ndarray, np.generic)):
        return _converted(as_tensor(obj), dtype, None)
    if isinstance(obj, (list, tuple)) and _holds_tensor(obj):
        return _converted(_stacked(obj), dtype, None)
    if not isinstance(obj, (np.ndarray, np.generic)) and hasattr(obj, "__dlpack__"):
        return _converted(from_dlpack(obj, copy=copy is not False), dtype, copy and None)
    if tracing:
        return Tensor(obj, dtype)
    return Tensor._of(array_value(obj, dtype, copy is not False))


def _converted(x: Tensor, dtype: Any, copy: bool | None) -> Tensor:
    if dtype is not None and dtypes.to_dtype(dtype) is not x.dtype:
        if copy is False:
            raise ArgumentError(f"{x.dtype} cannot become {dtypes.to_dtype(dtype)} without a copy",
                                remedy="leave out copy=False")  # fmt: skip
        return record("cast", x, dtype=dtype)
    return record("reshape", x, shape=x.shape) if copy else x


def _holds_tensor(obj: Any) -> bool:
    return any(
        _holds_tensor(o) if isinstance(o, (list, tuple)) else isinstance(o, Tensor) for o in obj
    )


def _stacked(obj: Any) -> Tensor:
    """Nested sequences with Tensors among the leaves."""
    if isinstance(obj, (list, tuple)):
        return record("stack", *[_stacked(o) for o in obj], axis=0)
    return as_tensor(obj)


def tensor(
    data: Any, dtype: Any = None, *, device: Any = None, requires_grad: bool = False
) -> Tensor:  # fmt: skip
    """torch's way to make a Tensor: always a copy, a leaf of differentiation.

    Examples
    --------
    >>> import accel
    >>> accel.tensor([1.0, 2.0], requires_grad=True).requires_grad
    True
    """
    made = asarray(data, dtype)
    return finished(made.detach() if isinstance(data, Tensor) else made, device, requires_grad)


@public
def from_numpy(array: np.ndarray, /) -> Tensor:
    """A Tensor of a copy of a NumPy array; ``asarray(x, copy=False)`` shares the memory.

    Raises
    ------
    NotAnArrayError
        For anything else.
    """
    if isinstance(array, Tensor) and array._value.tracer is not None:
        return asarray(array)  # what a compiled function was given as a NumPy array
    if not isinstance(array, np.ndarray):
        raise NotAnArrayError(f"from_numpy of {type(array).__name__}", remedy="use asarray")
    return asarray(array)


@public
def from_dlpack(obj: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor on the memory of another library's array, through DLPack.

    The memory is shared unless `copy`: do not change it while the Tensor is in use.

    Raises
    ------
    NotAnArrayError
        For an object without ``__dlpack__``.
    DeviceError
        For memory that is neither on the CPU nor on a CUDA device.
    ArgumentError
        For ``copy=False`` to another device.

    Examples
    --------
    >>> import accel
    >>> import numpy as np
    >>> accel.from_dlpack(np.arange(3)).tolist()
    [0, 1, 2]
    """
    if isinstance(obj, Tensor):
        return finished(_converted(obj, None, copy), device, copy=copy)
    if not hasattr(obj, "__dlpack__"):
        raise NotAnArrayError(f"{type(obj).__name__} has no __dlpack__", remedy="use asarray")
    buffer = dlpack.take(obj)
    if not isinstance(buffer, np.ndarray):
        return finished(Tensor._of(device_value(buffer.clone() if copy else buffer)), device,
                        copy=copy)  # fmt: skip
    if runtime_state.current().tracer is not None:
        return finished(as_tensor(buffer), device)
    return finished(Tensor._of(array_value(buffer, None, bool(copy))), device, copy=copy)


# -- from a shape ------------------------------------------------------------------------
def number_of(value: Any, dtype: DType) -> Any:
    """A Python number as a 0-d array of the dtype, exactly where the dtype can.

    Raises
    ------
    ArgumentError
        For a number that the dtype cannot hold.
    """
    try:
        if dtype.is_integer:
            limits = np.iinfo(dtype.numpy)
            value = int(value)
            if not limits.min <= value <= limits.max:  # NumPy 1 would wrap
                raise OverflowError
        return dtype.numpy.type(value)
    except (OverflowError, ValueError, TypeError):
        raise NumberRangeError(f"{value!r} does not fit {dtype}",
                               remedy="choose another dtype") from None  # fmt: skip


def _python_dtype(value: Any) -> DType:
    python = isinstance(value, (bool, int, float, complex))
    return dtypes.default_dtype(dtypes.of_scalar(value).kind) if python else dtypes.float32


def _filled(
    op: str, shape: Any, value: Any, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:  # fmt: skip
    shape = extents(op, shape if isinstance(shape, tuple) else (shape,))
    if any(n < 0 for n in shape):
        raise ArgumentError(f"{op}: shape {list(shape)} has a negative extent",
                            remedy="give extents of 0 or more")  # fmt: skip
    if isinstance(value, Tensor) or isinstance(value, (np.ndarray, np.generic)):
        found = as_tensor(value)
        value = found if dtype is None else record("cast", found, dtype=dtype)
    else:
        value = number_of(value, _python_dtype(value) if dtype is None else dtypes.to_dtype(dtype))
    return finished(record("broadcast_to", value, shape=shape), device, requires_grad)


@public
def full(
    shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A Tensor of one number everywhere.

    Parameters
    ----------
    shape
        A tuple of extents, or one extent.
    fill_value
        A number or a 0-d Tensor.
    dtype
        By default that of the value: bool, int64, float32 or complex64 for Python numbers.
    device
        Where to make it; by default the CPU.
    requires_grad
        Whether `backward` collects gradients.

    Raises
    ------
    ArgumentError
        For negative extents, and values that the dtype cannot hold.

    Examples
    --------
    >>> import accel
    >>> accel.full((2, 2), 7).tolist()
    [[7, 7], [7, 7]]
    """
    return _filled("full", shape, fill_value, dtype, device, requires_grad)


def _constant(name: str, value: float, more: str = "") -> Any:
    def made(
        shape: Any, *more: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:  # fmt: skip
        if more and not isinstance(more[0], (int, np.integer)):
            dtype, more = more[0], ()  # NumPy's second argument
        given = (shape, *more) if more else shape
        given = tuple(given) if isinstance(given, list) else given
        kind = dtypes.float32 if dtype is None else dtype
        return _filled(name, given, value, kind, device, requires_grad)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"""A Tensor of {name if value else "zeros"}{more}.

Parameters
----------
shape
    Extents, apart or as one tuple.
dtype
    float32 by default.
device
    Where to make it; by default the CPU.
requires_grad
    Whether `backward` collects gradients.

Raises
------
ArgumentError
    For negative extents.

Examples
--------
>>> import accel
>>> accel.{name}((2, 1)).tolist()
{"[[1.0], [1.0]]" if value else "[[0.0], [0.0]]"}
"""
    return public(made)


zeros = _constant("zeros", 0.0)
ones = _constant("ones", 1.0)
empty = _constant("empty", 0.0, ": what is not said is 0, alike on every target")


def _like(name: str, value: float) -> Any:
    def made(
        x: Any, /, dtype: Any = None, *, device: Any = None, requires_grad: bool = False
    ) -> Tensor:  # fmt: skip
        x = as_tensor(x)
        return _filled(name, x.shape, value, dtype or x.dtype, device or x.device, requires_grad)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"""A Tensor of the shape and dtype of another, filled with {value:.0f}.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([5, 6])).tolist()
[{value:.0f}, {value:.0f}]
"""
    return public(made)


zeros_like = _like("zeros_like", 0.0)
ones_like = _like("ones_like", 1.0)
empty_like = _like("empty_like", 0.0)


@public
def full_like(
    x: Any, /, fill_value: Any, dtype: Any = None, *, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A Tensor of the shape and dtype of another, filled with one number.

    Examples
    --------
    >>> import accel
    >>> accel.full_like(accel.asarray([1.0, 2.0]), 3).tolist()
    [3.0, 3.0]
    """
    x = as_tensor(x)
    return _filled("full_like", x.shape, fill_value, dtype or x.dtype, device or x.device,
                   requires_grad)  # fmt: skip


from_data = tensor
