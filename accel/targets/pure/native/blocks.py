"""The pool of blocks in emitted code, which makes ordinary NumPy arrays.

An array on a block owns its data as any array does. NumPy gives memory back by the functions
that the array names, its memory handler (NEP 49), and here these are the pool's: there is no
base object, and what holds the array, a view or an export of it holds the block.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from ..machine.jit import CodeModule, compile_described, expect
from ..machine.memory import POOLED, rounded
from ..machine.threads import keep_for_ever
from .api import Block, builtin, handled, interface
from .blocks_text import HANDLER, KIND, POOL, ROW, ROWS, blocks_text
from .entry import pointer

__all__ = ["BlockPool"]

_NAME = b"mem_handler"  # what NumPy asks that the capsule of a handler is called

expect("blocks", blocks_text, soon=True)  # it is run for arrays of 64 KiB or more


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in HANDLER),
    )  # fmt: skip


class BlockPool:
    """Blocks of memory for arrays: `machine.memory.BufferPool` in emitted code.

    It lives as long as the process, as its arrays may.

    Parameters
    ----------
    limit
        Bytes of free blocks to keep at most.
    """

    def __init__(self, limit: int) -> None:
        self._words = np.zeros(len(POOL) + len(ROW) * ROWS, np.int64)
        for name, value in {**_system(), "limit": limit}.items():
            self._words[POOL.index(name)] = value
        self._handler = _capsule(self._words)
        keep_for_ever(self._words)
        self._clear = self._builtin("accel_clear", exhausted=id(None))

    @staticmethod
    def available() -> bool:
        """Whether there can be such pools in this process."""
        return handled() and all(_system()[name] for name in ("mmap", "munmap"))

    @property
    def used_bytes(self) -> int:
        """Bytes of the arrays alive."""
        return self._word("used")

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once since `reset_peak`."""
        return self._word("peak")

    @property
    def free_bytes(self) -> int:
        """Bytes of the blocks kept for later arrays."""
        return self._word("free")

    def reset_peak(self) -> None:
        """Let the peak begin anew at what is alive."""
        self._words[POOL.index("peak")] = self.used_bytes

    def clear(self) -> None:
        """Return all free blocks to the system."""
        self._clear()

    def allocator(
        self, shape: tuple[int, ...], dtype: np.dtype, nbytes: int
    ) -> Callable[[], np.ndarray]:
        """What makes uninitialised C-contiguous arrays of `nbytes` bytes, aligned to
        `ALIGNMENT`. It raises MemoryError when the system has no memory left."""
        room = rounded(nbytes)
        dims = np.array([*shape, 0], np.int64)
        exhausted = functools.partial(_exhausted, nbytes)
        return self._builtin(
            "accel_new_array", (dtype, dims, exhausted), row=self._row(room), room=room,
            bytes=nbytes, dtype=id(dtype), ndim=len(shape), dims=pointer(dims),
            exhausted=id(exhausted),
        )  # fmt: skip

    def _word(self, name: str) -> int:
        return int(self._words[POOL.index(name)])

    def _row(self, room: int) -> int:
        """The address of the row of a size."""
        octave = room.bit_length() - POOLED.bit_length()
        eighth = (room >> (room.bit_length() - 4)) - 8
        return pointer(self._words[len(POOL) + len(ROW) * (8 * octave + eighth) :])

    def _builtin(self, name: str, kept: tuple[Any, ...] = (), **words: int) -> Any:
        words |= {"interface": pointer(interface()), "pool": pointer(self._words),
                  "handler": id(self._handler)}  # fmt: skip
        block = Block.of([words.get(word, 0) for word in KIND], [interface(), *kept])
        return builtin(_code().address(name), block)


def _exhausted(nbytes: int) -> None:
    raise MemoryError(f"no memory for an array of {nbytes:,} bytes") from None


@functools.cache
def _system() -> dict[str, int]:
    """The C library's functions and what they are given; 0 for what there is not."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return dict.fromkeys(("mmap", "munmap"), 0)
    libc = ctypes.CDLL(None)
    found = {name: getattr(libc, name, None) for name in ("mmap", "munmap", "madvise")}
    words = {
        name: 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0
        for name, function in found.items()
    }
    words["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    words["advice"] = getattr(mmap, "MADV_HUGEPAGE", 0) if words["madvise"] else 0
    return words


@functools.cache
def _code() -> CodeModule:
    code = compile_described("blocks", blocks_text)
    keep_for_ever(code)
    return code


def _capsule(words: np.ndarray) -> Any:
    """A memory handler of the pool whose words these are."""
    functions = [_code().address(name) for name in HANDLER]
    handler = _Handler(b"accel", 1, pointer(words), *functions)
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, *[ctypes.c_void_p] * 3)
    make = prototype(("PyCapsule_New", ctypes.pythonapi))
    name = ctypes.create_string_buffer(_NAME)
    capsule = make(ctypes.addressof(handler), ctypes.addressof(name), None)
    for kept in (handler, name, capsule):
        keep_for_ever(kept)
    return capsule
