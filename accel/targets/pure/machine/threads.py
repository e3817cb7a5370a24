"""The threads of native programs: how many there are, what is divided among them, and how.

No thread exists before the first kernel whose work is worth dividing runs. The number of
threads is the process's own: `set_num_threads`, else ``ACCEL_NUM_THREADS``, else the processors
that the affinity mask and the control group's quota leave to it. Results do not depend on it.

Linux has the pool in emitted code (`pool.py`). Elsewhere a pool of Python threads takes its
place behind the same kernel: it costs more to enter, so only large kernels gain.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .... import forking
from ....errors import ArgumentError
from .jit import compile_described, expect, host_machine
from .limits import MAX_THREADS, default_threads
from .pool import CONTROL, SPLIT, pool_text

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["MAX_THREADS", "divided", "get_num_threads", "grain", "set_num_threads"]

#: Below this much work, in multiply-adds or their equivalent, a kernel stays on one thread.
GATE = 131_072
#: Work that a part holds at least.
_PART = GATE // 2
#: Parts of a kernel at most: enough to keep many threads busy, and to even out slow ones.
_PARTS = 128

#: The futex system call by machine.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_WAKE = 129
#: What the pool needs to choose its threads' processors; not every C library has it.
_PLACING = ("pthread_setaffinity_np", "sched_getaffinity", "sched_getcpu")
_MADV_WIPEONFORK = 18
_PAGE = 4096

_KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)


def grain(items: int, work: int, multiple: int = 1, parts: int = _PARTS) -> int:
    """How many work items of a kernel are one part; 0 where it is not worth dividing.

    Parameters
    ----------
    items
        The kernel's work items.
    work
        Its work, in multiply-adds or their equivalent.
    multiple
        Of which the items of a part are to be a multiple.
    parts
        Parts at most.

    Examples
    --------
    >>> grain(100, 1000), grain(100, 10**6)
    (0, 7)
    """
    if work < GATE or items < 2:
        return 0
    parts = min(items, work // _PART, parts, _PARTS)
    size = -(-items // parts)
    size = -(-size // multiple) * multiple
    return size if size < items else 0


def divided(kernel: int, args: int, size: int) -> tuple[int, np.ndarray]:
    """A kernel that runs another one on several threads, and its argument block.

    Parameters
    ----------
    kernel, args
        Addresses of a kernel and its argument block.
    size
        Items of a part, as `grain` gives them.
    """
    with _LOCK:
        pool = _pool()
    block = dict(zip(SPLIT, (_control().ctypes.data, kernel, args, size), strict=True))
    return pool.address, np.array([block[name] for name in SPLIT], np.int64)


# -- the number of threads ----------------------------------------------------------------
_LOCK = forking.lock()


def get_num_threads() -> int:
    """See `accel.get_num_threads`."""
    with _LOCK:
        return int(_control()[0])


def set_num_threads(n: int) -> None:
    """See `accel.set_num_threads`."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= MAX_THREADS:
        raise ArgumentError(
            f"the number of threads cannot be {n!r}",
            remedy=f"give a number from 1 to {MAX_THREADS}",
        )
    with _LOCK:
        control = _control()
        control[0] = n
        if _futex_number():  # workers that were not needed sleep on this number
            libc = ctypes.CDLL(None)
            word = ctypes.c_void_p(control.ctypes.data)
            libc.syscall(ctypes.c_long(_futex_number()), word, _WAKE, MAX_THREADS, None)


# -- the pool in emitted code -------------------------------------------------------------
def _futex_number() -> int:
    """The futex system call's number; 0 where the pool in emitted code cannot run."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return 0
    return _FUTEX.get(platform.machine(), 0)


@functools.cache
def _control() -> np.ndarray:
    """The control block, which lives as long as the process."""
    block = np.zeros(len(CONTROL), np.int64)
    block[0] = default_threads()
    keep_for_ever(block)
    return block


def keep_for_ever(thing: object) -> None:
    """Never free `thing`: threads of the pool use it until the process has ended."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _pool_text() -> str:
    return pool_text(host_machine().triple.partition("-")[0])


if _futex_number():
    expect("pool", _pool_text, soon=True)  # it is run for kernels of many microseconds


class _NativePool:
    """The pool of `pool.py`, bound to this process."""

    def __init__(self) -> None:
        code = compile_described("pool", _pool_text)
        keep_for_ever(code)
        self.address = code.address("accel_parallel")
        libc = ctypes.CDLL(None)
        values: dict[str, int] = {"page": _wiped_page(), "futex": _futex_number()}
        control = _control()
        for slot, name in enumerate(CONTROL[1:], 1):
            control[slot] = values[name] if name in values else _function(libc, name)
        if not control[[CONTROL.index(name) for name in _PLACING]].all():
            control[CONTROL.index("sched_getcpu")] = 0  # the pool then places nothing


def _function(libc: ctypes.CDLL, name: str) -> int:
    """The address of a C library function; 0 where it has none of that name."""
    found = getattr(libc, name, None)
    return ctypes.cast(found, ctypes.c_void_p).value or 0 if found is not None else 0


def _wiped_page() -> int:
    """A page of zeros that is zeros again in every forked child."""
    memory = mmap.mmap(-1, _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    keep_for_ever(memory)
    view = (ctypes.c_char * _PAGE).from_buffer(memory)
    keep_for_ever(view)
    try:
        memory.madvise(_MADV_WIPEONFORK)
    except OSError:  # kernels before 4.14: children of os.fork at least are served
        os.register_at_fork(after_in_child=lambda: ctypes.memset(view, 0, _PAGE))
    return ctypes.addressof(view)


# -- Python threads -----------------------------------------------------------------------
class _PythonPool:
    """Python threads behind the interface of `accel_parallel`.

    Kernels run without the interpreter's lock, so that they do run at the same time.
    """

    def __init__(self) -> None:
        self._section = forking.lock()
        self._executor: ThreadPoolExecutor | None = None
        self._owner: tuple[int, int] | None = None
        self._entry = _KERNEL(self._run)
        keep_for_ever(self._entry)
        self.address = int(ctypes.cast(self._entry, ctypes.c_void_p).value or 0)

    def _run(self, bases: int, split: int, begin: int, end: int) -> int:
        _, address, args, size = (ctypes.c_int64 * len(SPLIT)).from_address(split)
        kernel = _KERNEL(address)
        threads = get_num_threads()
        if threads < 2 or not self._section.acquire(blocking=False):
            return kernel(bases, args, begin, end)
        try:
            return self._shared(
                threads, range(0, end, size),
                lambda at: kernel(bases, args, at, min(end, at + size)),
            )  # fmt: skip
        finally:
            self._section.release()

    def _shared(self, threads: int, starts: range, part: Callable[[int], int]) -> int:
        """Run all parts; the status of the first that fails, or 0."""
        owner = os.getpid(), threads
        if self._executor is None or self._owner != owner:
            if self._executor is not None and self._owner and self._owner[0] == owner[0]:
                self._executor.shutdown(wait=False)
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(threads, thread_name_prefix="accel")
            self._owner = owner
        waiting: list[Callable[[], int]] = []
        for at in starts:
            try:
                waiting.append(self._executor.submit(part, at).result)
            except RuntimeError:  # the interpreter is ending and starts no more threads
                waiting.append(functools.partial(part, at))
        statuses = [result() for result in waiting]
        return next((status for status in statuses if status), 0)


@functools.cache
def _pool() -> _NativePool | _PythonPool:
    return _NativePool() if _futex_number() else _PythonPool()
