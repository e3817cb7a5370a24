"""The memory of results and intermediates: the process's pool, or NumPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ... import forking
from .machine.limits import available_memory, byte_setting
from .machine.memory import ALIGNMENT, POOLED, BufferPool

if TYPE_CHECKING:
    from .native.blocks import BlockPool

__all__ = ["aligned", "allocator", "announce", "most_packed", "pool"]

_BYTE = np.dtype(np.uint8)
_MOST_KEPT = 1 << 30
_MOST_PACKED = 256 << 20


def announce(nbytes: int) -> None:
    """Say that an array of so many bytes will be asked for: before kernels are compiled, so that
    idle processors may make the pool's code."""
    if nbytes >= POOLED:
        with forking.unforked():
            from .native import blocks  # noqa: F401


def allocator(shape: tuple[int, ...], dtype: np.dtype) -> Callable[[], np.ndarray]:
    """What makes uninitialised C-contiguous arrays; those of `POOLED` bytes or more lie in the
    pool, at a multiple of `ALIGNMENT`."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < POOLED:
        return functools.partial(np.empty, shape, dtype)
    return pool().allocator(shape, dtype, nbytes)


def aligned(nbytes: int) -> Callable[[], np.ndarray]:
    """What makes uninitialised bytes at a multiple of `ALIGNMENT`, small ones too."""
    if nbytes >= POOLED:
        return pool().allocator((nbytes,), _BYTE, nbytes)
    return functools.partial(_small, nbytes)


def _small(nbytes: int) -> np.ndarray:
    raw = np.empty(nbytes + ALIGNMENT, _BYTE)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + nbytes]


@functools.cache
def pool() -> BlockPool | BufferPool:
    """The pool of the process: it keeps ``ACCEL_BUFFER_POOL`` bytes at most, by default an
    eighth of the memory, but no more than 1 GiB."""
    limit = byte_setting("ACCEL_BUFFER_POOL")
    if limit is None:
        limit = min(_MOST_KEPT, available_memory() // 8)
    from .native.blocks import BlockPool  # few programs need it when they start

    return BlockPool(limit) if BlockPool.available() else BufferPool(limit)


@functools.cache
def most_packed() -> int:
    """Bytes of packed weights that a program keeps at most: ``ACCEL_PACKED_WEIGHTS``, by default
    a 64th of the memory, but no more than 256 MiB."""
    limit = byte_setting("ACCEL_PACKED_WEIGHTS")
    return min(_MOST_PACKED, available_memory() // 64) if limit is None else limit
