"""Values between NumPy and torch: without a copy on the CPU, counted moves to and from CUDA."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["from_host", "settle", "to_host"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class _Alias:
    """A read-only array's memory offered as writable.

    torch warns of read-only memory although it only reads it here; its tensors have no such
    flag. The array that NumPy makes of this keeps it, and so the memory, alive.
    """

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, array: np.ndarray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = array


def from_host(torch: Any, array: np.ndarray) -> Any:
    """A CPU tensor of an array's own memory; a copy where torch has no such layout."""
    dtype = array.dtype
    if dtype == BFLOAT16:  # NumPy's bfloat16 is unknown to torch: the bits cross as integers
        return from_host(torch, array.view(np.int16)).view(torch.bfloat16)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned and dtype.isnative) or array.size <= 1:
        size = dtype.itemsize
        odd = any(s < 0 or s % size for s in array.strides)
        if odd or not flags.aligned or not dtype.isnative:
            array = array.astype(dtype.newbyteorder("="), order="C")
    if not array.flags.writeable:
        array = np.asarray(_Alias(array))
    return torch.from_numpy(array)


def to_host(torch: Any, tensor: Any) -> np.ndarray:
    """The array of a tensor, of its own memory where that is the CPU's."""
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def settle(torch: Any, tensor: Any, taken: set[int]) -> Any:
    """`tensor` as a result: contiguous, in memory that is its own and all its own.

    `taken` holds the addresses of memory that belongs to others; the result's is added.
    """
    tensor = tensor.contiguous()
    storage = tensor.untyped_storage()
    if storage.data_ptr() in taken or storage.nbytes() != tensor.nbytes:
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        storage = tensor.untyped_storage()
    taken.add(storage.data_ptr())
    return tensor
