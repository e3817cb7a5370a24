"""Buffers exchanged through DLPack, without a copy where both sides allow it.

NumPy makes and reads the capsules of what lies in host memory, torch those of a CUDA device.
bfloat16, which NumPy's dtypes do not have, crosses as 16-bit integers whose tensor is then
said to be of bfloat16.
"""

from __future__ import annotations

import ctypes
import enum
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import DeviceError, DTypeError, ExchangeError

__all__ = ["DLDeviceType", "device_of", "export", "take"]

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_VERSIONED = np.lib.NumpyVersion(np.__version__) >= "2.1.0"  # knows max_version, copy, dl_device

#: DLPack's codes of element types, and where a tensor's lies behind a capsule's pointer: behind
#: data, device and ndim; in versioned capsules these follow version, context, deleter and flags.
_UINT, _BFLOAT = 1, 4
_DTYPE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}


class DLDeviceType(enum.IntEnum):
    """DLPack's numbers for kinds of devices."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    CUDA_MANAGED = 13


def device_of(buffer: Any) -> tuple[DLDeviceType, int]:
    """DLPack's kind and number of the device on which a buffer lies."""
    if isinstance(buffer, np.ndarray) or buffer.device.type == "cpu":
        return DLDeviceType.CPU, 0
    return DLDeviceType.CUDA, int(buffer.device.index or 0)


# -- giving ----------------------------------------------------------------------------------
def export(
    buffer: Any, *, stream: Any = None, max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None, copy: bool | None = None,
) -> Any:  # fmt: skip
    """A capsule of `buffer`'s memory, as the standard's ``__dlpack__`` gives it.

    Raises
    ------
    ExchangeError
        For a device on which it does not lie, a stream on the CPU, and for ``copy=False``
        where the memory's layout is none of DLPack's.
    """
    if dl_device is not None and tuple(dl_device) != device_of(buffer):
        if copy is False or int(dl_device[0]) != DLDeviceType.CPU:
            raise ExchangeError(
                f"__dlpack__: the tensor is on device {tuple(map(int, device_of(buffer)))}, not "
                f"on {tuple(map(int, dl_device))}",
                remedy="move it there first: tensor.to(device)",
            )
        from .transfer import to_host

        buffer, copy, stream = to_host(buffer), None, None
    if not isinstance(buffer, np.ndarray):
        if copy:
            buffer = buffer.clone()
        return buffer.__dlpack__(stream=stream)
    if stream is not None:
        raise ExchangeError("__dlpack__: the CPU has no streams", remedy="leave out stream=")
    array = _exportable(buffer, copy)
    return _capsule(array, max_version, copied=array is not buffer)


def _exportable(array: np.ndarray, copy: bool | None) -> np.ndarray:
    """`array`, or a copy where one is asked for or its layout needs one."""
    size = array.itemsize
    odd = any(s < 0 or s % size for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    if odd and copy is False:
        raise ExchangeError(
            f"__dlpack__: strides {array.strides} cannot be exchanged without a copy",
            remedy="leave out copy=False",
        )
    return np.array(array, order="C") if copy or odd else array


def _capsule(array: np.ndarray, max_version: tuple[int, int] | None, copied: bool) -> Any:
    """A capsule, which says that what is shared is read-only if its version can."""
    bfloat16 = array.dtype == _BFLOAT16
    array = array.view(np.uint16) if bfloat16 else array.view()
    if _VERSIONED and max_version is not None and max_version[0] >= 1:
        array.flags.writeable = copied
        capsule = array.__dlpack__(max_version=max_version)
    else:
        if not array.flags.writeable:  # what has no version cannot say that it is read-only
            array = array.copy()
        capsule = array.__dlpack__()
    if bfloat16:
        _change_dtype(capsule, _UINT, _BFLOAT)
    return capsule


def _change_dtype(capsule: Any, old: int, new: int) -> bool:
    """Say of a capsule's 16-bit elements that they are of another type; False if they are not
    of the `old` one."""
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
        ("PyCapsule_GetName", ctypes.pythonapi))(capsule)  # fmt: skip
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, name)  # fmt: skip
    code, bits = (ctypes.c_uint8 * 2).from_address(pointer + _DTYPE_AT[name])
    if (code, bits) != (old, 16):
        return False
    ctypes.c_uint8.from_address(pointer + _DTYPE_AT[name]).value = new
    return True


# -- taking ----------------------------------------------------------------------------------
class _Capsule:
    """What NumPy asks for a capsule that is there already."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self._capsule, self._device = capsule, device

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def take(obj: Any) -> Any:
    """The memory of another library's array: a NumPy array, or a torch tensor on CUDA.

    It is kept alive as long as what is returned.

    Raises
    ------
    DeviceError
        For memory on any other device.
    DTypeError
        For elements that accel has no dtype for.
    """
    if getattr(obj, "requires_grad", False) and hasattr(obj, "detach"):
        obj = obj.detach()
    kind, number = (int(n) for n in obj.__dlpack_device__())
    if kind in (DLDeviceType.CUDA, DLDeviceType.CUDA_MANAGED):
        from ..targets import torch as torch_target

        torch_target.require_cuda(f"cuda:{number}")
        return torch_target.require().from_dlpack(obj)
    if kind not in (DLDeviceType.CPU, DLDeviceType.CUDA_HOST):
        raise DeviceError(f"{type(obj).__module__} memory on DLPack's device type {kind}",
                          remedy="copy it to the cpu first")  # fmt: skip
    try:
        return np.from_dlpack(obj)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        array = _take_bfloat16(obj, (kind, number))
        if array is None:
            raise DTypeError(f"{type(obj).__name__} through DLPack: {error}",
                             remedy="convert it to a dtype that accel has") from None  # fmt: skip
        return array


def _take_bfloat16(obj: Any, device: tuple[int, int]) -> np.ndarray | None:
    try:
        capsule = obj.__dlpack__()
        if not _change_dtype(capsule, _BFLOAT, _UINT):
            return None
        return np.from_dlpack(_Capsule(capsule, device)).view(_BFLOAT16)
    except (BufferError, RuntimeError, TypeError, ValueError):
        return None
