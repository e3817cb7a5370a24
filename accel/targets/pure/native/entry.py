"""The native entry: from NumPy arrays to the running program without Python in between.

``i64 accel_call(ptr objects, ptr job)`` takes a table of NumPy array objects, reads each
one's data pointer from the array's struct into a table of bases on its stack, and runs the
job's program. Where NumPy's struct does not lie as expected, the pointers are read through
NumPy's array interface instead.

Many programs run once. Their kernels are called one by one from here: the entry, which takes some
milliseconds to make where it is not on disk, is for programs that run again.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .... import forking
from ....forking import cached_property
from ..machine.jit import CodeModule, compile_described, driver_address, run_program
from ..machine.llvm_text import Function, module_text

__all__ = ["Job", "call", "pointer"]

#: Where an array object holds the address of its data: the first field behind the header.
_DATA = object.__basicsize__

#: A kernel ``(bases, arguments, begin, end)``.
_KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)

_LOCK = forking.lock()


class Job:
    """A program and its number of records, as the entry reads them.

    Parameters
    ----------
    bases
        How many arrays a call passes.
    program
        The records (kernel address, argument block, begin, end), int64.

    Attributes
    ----------
    run
        What `call` calls.
    """

    def __init__(self, bases: int, program: np.ndarray) -> None:
        self.program = program
        self.count = len(program)
        self.table: Any = ctypes.py_object * bases
        self.run: Callable[[Job, Sequence[np.ndarray]], int] = _one_by_one

    @cached_property
    def address(self) -> int:
        """The address of the words that the entry reads."""
        bases = self.table._length_
        self._words = np.array(
            [bases, pointer(self.program), self.count, driver_address()], np.int64
        )
        return pointer(self._words)

    def enter(self) -> None:
        """Run by the entry from now on."""
        with _LOCK:  # of two racing copies one would be unmapped while it runs
            self.run = _entry()[1]


def pointer(array: np.ndarray) -> int:
    """The address of an array's data."""
    return int(array.__array_interface__["data"][0])


def call(job: Job, arrays: Sequence[np.ndarray]) -> int:
    """Run `job` with the data of `arrays` as its bases, without the GIL; returns its status."""
    return job.run(job, arrays)


def _one_by_one(job: Job, arrays: Sequence[np.ndarray]) -> int:
    """Run a job for the first time."""
    job.run = _entering
    bases = np.array([pointer(a) for a in arrays], np.int64)
    table = pointer(bases)
    for number, (kernel, *arguments) in enumerate(job.program.tolist()):
        status = _KERNEL(kernel)(table, *arguments)
        if status:
            return number + 1 << 32 | status
    return 0


def _entering(job: Job, arrays: Sequence[np.ndarray]) -> int:
    """Run a job for the second time."""
    job.enter()
    return job.run(job, arrays)


def _entry_text() -> str:
    fn = Function("accel_call", [("ptr", "objects"), ("ptr", "job")], "i64")
    count = fn.load("i64", "%job", 8)
    bases = fn.op(f"alloca i64, i64 {count}, align 8")
    with fn.loop(0, count) as loop:
        array = fn.load("ptr", fn.gep("%objects", loop.index, "ptr"), 8)
        data = fn.load("i64", fn.gep(array, _DATA), 8)
        fn.store("i64", data, fn.gep(bases, loop.index, "i64"), 8)
    program, records, driver = (
        fn.load(t, fn.gep("%job", 8 * slot), 8) for slot, t in ((1, "ptr"), (2, "i64"), (3, "ptr"))
    )
    status = fn.op(f"call i64 {driver}(ptr {bases}, ptr {program}, i64 {records})")
    fn.do(f"ret i64 {status}")
    return module_text([fn])


@functools.cache
def _entry() -> tuple[CodeModule | None, Callable[[Job, Sequence[np.ndarray]], int]]:
    if not _layout_holds():
        return None, _by_interface
    code = compile_described("entry", _entry_text)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    native = prototype(code.address("accel_call"))

    def by_layout(job: Job, arrays: Sequence[np.ndarray], code: CodeModule = code) -> int:
        table = job.table(*arrays)  # holds the arrays until the call has returned
        return native(ctypes.addressof(table), job.address)

    return code, by_layout


def _by_interface(job: Job, arrays: Sequence[np.ndarray]) -> int:
    bases = np.array([pointer(a) for a in arrays], np.int64)
    return run_program(pointer(bases), pointer(job.program), job.count)


def _layout_holds() -> bool:
    """Whether array objects hold the address of their data where `_entry_text` reads it."""
    samples: list[np.ndarray] = [np.arange(5), np.zeros((3, 4), np.float32)[1:, ::2], np.array(2.5)]
    return all(
        ctypes.c_ssize_t.from_address(id(a) + _DATA).value == pointer(a) for a in samples
    )
