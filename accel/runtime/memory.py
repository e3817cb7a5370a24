"""How much memory arrays take on a device, and giving back what lies unused."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import state

__all__ = ["aligned_copy", "empty_cache", "max_memory_allocated", "memory_allocated",
           "reset_peak_memory"]  # fmt: skip

#: Bytes of a cache line, and those from which on a copy begins on one.
_LINE, _ALIGNED = 64, 4096


def memory_allocated(device: str | None = None) -> int:
    """Bytes of the arrays alive on `device`.

    On the CPU those that lie in the pool of large arrays are counted: results and
    intermediates of 64 KiB or more, as long as a Tensor, an array or a view of them is held.
    On a CUDA device the number is torch's.

    Parameters
    ----------
    device
        ``"cpu"`` or ``"cuda:0"``; by default the device in force.

    Raises
    ------
    DeviceError
        If there is no such device.

    Examples
    --------
    >>> import accel
    >>> before = memory_allocated()
    >>> x = accel.exp(accel.ones((1024, 1024))).block_until_ready()
    >>> memory_allocated() - before
    4194304
    >>> x.free()
    >>> memory_allocated() - before
    0
    """
    cuda, place = _cuda(device)
    return _pool().used_bytes if cuda is None else int(cuda.memory_allocated(place))


def max_memory_allocated(device: str | None = None) -> int:
    """The most that `memory_allocated` was, since the start or the last `reset_peak_memory`."""
    cuda, place = _cuda(device)
    return _pool().peak_bytes if cuda is None else int(cuda.max_memory_allocated(place))


def reset_peak_memory(device: str | None = None) -> None:
    """Let `max_memory_allocated` begin anew at what is alive."""
    cuda, place = _cuda(device)
    if cuda is None:
        _pool().reset_peak()
    else:
        cuda.reset_peak_memory_stats(place)


def empty_cache(device: str | None = None) -> None:
    """Return to the system the memory that is kept for later arrays."""
    cuda, _ = _cuda(device)
    if cuda is None:
        _pool().clear()
    else:
        cuda.empty_cache()


def aligned_copy(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A C-contiguous copy as `dtype`; one of 4 KiB or more begins on a cache line.

    Large memory from NumPy never does: every vector then lies across two lines, and kernels that
    read it from a cache take a sixth longer.
    """
    nbytes = array.size * dtype.itemsize
    if nbytes < _ALIGNED:
        return np.array(array, dtype=dtype, order="C", copy=True)
    raw = np.empty(nbytes + _LINE, np.uint8)
    copy = np.ndarray(array.shape, dtype, raw, -raw.__array_interface__["data"][0] % _LINE)
    np.copyto(copy, array, casting="unsafe")
    return copy


def _pool() -> Any:
    from ..targets.pure import memory

    return memory.pool()


def _cuda(device: str | None) -> tuple[Any, Any]:
    """torch's CUDA functions and the device, where it is a CUDA device; else two None."""
    name = str(device or state.current().device or "cpu")
    if name == "cpu":
        return None, None
    from ..targets import torch as torch_target

    if name.startswith("cuda"):
        torch_target.require_cuda(name)
    found = torch_target.find_device(name)
    return (torch_target.require().cuda, found) if found.type == "cuda" else (None, None)
