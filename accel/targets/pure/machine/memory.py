"""The memory of large arrays: results and intermediates in blocks that are used again.

Memory that comes fresh from the system costs more than most kernels: every page is zeroed and
mapped at its first touch. So the blocks of large arrays go back to a pool when the last array,
view or export of them is gone, and the next array of about that size takes them over. Blocks
are in huge pages where the system has them, begin at addresses that do not compete for the
same places of a cache, and are rounded up by an eighth at most.

What the pool keeps is bounded; what was not used for longest goes back to the system first.

This is the pool where emitted code has none: see `native/blocks.py`.
"""

from __future__ import annotations

import functools
import mmap
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import forking

__all__ = ["ALIGNMENT", "HUGE", "PLACE", "PLACES", "POOLED", "BufferPool", "rounded"]

#: Bytes from which on an array takes its memory from a pool. Less comes cheaper from NumPy.
POOLED = 1 << 16
#: Bytes of which the address of a pooled array is a multiple: a cache line.
ALIGNMENT = 64

#: Bytes of a huge page.
HUGE = 2 << 20
#: Blocks begin at so many different places within a huge page, one after the other, because
#: caches (and the look-up of earlier stores) go by the low bits of an address.
PLACES, PLACE = 16, 4096 + 4 * ALIGNMENT
_BYTE = np.dtype(np.uint8)
_PRIVATE: dict[str, int] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
)


class _Block(mmap.mmap):
    """Memory from the system; it goes back with the last reference.

    Attributes
    ----------
    room
        Usable bytes from `start` on.
    """

    pool: BufferPool
    room: int
    start: int


class _Lease(np.ndarray):
    """A block in use: the base of the array that lies in it."""

    __slots__ = ()

    def __del__(self) -> None:
        block: Any = self.base
        if hasattr(block, "pool"):  # views of this object have itself as base
            block.pool._give_back(block, self.nbytes)


class BufferPool:
    """Blocks of memory for arrays. Any thread may take one, and any may drop its array.

    Parameters
    ----------
    limit
        Bytes of free blocks to keep at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Finalisers run anywhere, also in a thread that holds the lock.
        self._lock = forking.lock()
        self._free: OrderedDict[int, list[_Block]] = OrderedDict()  # by size, last used last
        self._free_bytes = 0
        self._used_bytes = 0
        self._peak_bytes = 0
        self._blocks = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the arrays alive."""
        return self._used_bytes

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once since `reset_peak`."""
        return self._peak_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes of the blocks kept for later arrays."""
        return self._free_bytes

    def reset_peak(self) -> None:
        """Let the peak begin anew at what is alive."""
        with self._lock:
            self._peak_bytes = self._used_bytes

    def clear(self) -> None:
        """Return all free blocks to the system."""
        with self._lock:
            dropped, self._free = self._free, OrderedDict()
            self._free_bytes = 0
        del dropped  # not under the lock: the system takes its time

    def allocator(
        self, shape: tuple[int, ...], dtype: np.dtype, nbytes: int
    ) -> Callable[[], np.ndarray]:
        """What makes arrays as `empty` does."""
        return functools.partial(self.empty, shape, dtype, nbytes)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype, nbytes: int) -> np.ndarray:
        """An uninitialised C-contiguous array of `nbytes` bytes, aligned to `ALIGNMENT`.

        Raises
        ------
        MemoryError
            When the system has no memory left, even after all free blocks went back to it.
        """
        size = rounded(nbytes)
        with self._lock:
            blocks = self._free.get(size)
            block = blocks.pop() if blocks else None
            if block is not None:
                self._free_bytes -= size
            self._used_bytes += nbytes
            if self._used_bytes > self._peak_bytes:
                self._peak_bytes = self._used_bytes
        if block is None:
            try:
                block = self._new_block(size)
            except BaseException:
                with self._lock:
                    self._used_bytes -= nbytes
                raise
        lease = _Lease((nbytes,), _BYTE, block, block.start)
        return np.ndarray(shape, dtype, lease)

    def _new_block(self, size: int) -> _Block:
        place = self._blocks % PLACES
        self._blocks += 1
        length = size + HUGE + PLACES * PLACE
        try:
            block = _Block(-1, length, **_PRIVATE)
        except (OSError, OverflowError):
            self.clear()
            try:
                block = _Block(-1, length, **_PRIVATE)
            except (OSError, OverflowError):
                raise MemoryError(f"no memory for an array of {size:,} bytes") from None
        address = np.frombuffer(block, _BYTE, 1).__array_interface__["data"][0]
        first = -address % HUGE
        block.pool, block.room, block.start = self, size, first + place * PLACE
        if hasattr(mmap, "MADV_HUGEPAGE") and size >= HUGE:
            try:
                block.madvise(mmap.MADV_HUGEPAGE, first, size + place * PLACE)
            except OSError:  # this kernel has no huge pages
                pass
        return block

    def _give_back(self, block: _Block, nbytes: int) -> None:
        """Take a block whose array is gone."""
        dropped = []
        size = block.room
        with self._lock:
            self._used_bytes -= nbytes
            if size <= self._limit:
                self._free.setdefault(size, []).append(block)
                self._free.move_to_end(size)
                self._free_bytes += size
                while self._free_bytes > self._limit:
                    oldest, blocks = next(iter(self._free.items()))
                    if blocks:
                        dropped.append(blocks.pop(0))
                        self._free_bytes -= oldest
                    if not blocks:
                        del self._free[oldest]
        del dropped


def rounded(nbytes: int) -> int:
    """The size of the block for an array: eight sizes to an octave, `POOLED` at least."""
    step = 1 << max(13, nbytes.bit_length() - 4)
    return max(-(-nbytes // step) * step, POOLED)
