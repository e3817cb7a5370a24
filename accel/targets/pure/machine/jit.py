"""From LLVM IR text to callable machine code: modules, and the native driver of kernels.

Code is made in two steps, `emit_object` (text to object bytes, in `codegen.py`) and `load_object`
(object bytes to callable addresses), so that the cache of objects on disk fits between them:
what lies there is only loaded.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from .... import forking
from ....errors import InternalCompilerError
from . import object_cache
from .codegen import assembly, emit_object
from .host import Machine, binding, host_machine, machine_for_level, new_target_machine
from .image import Image, Unforeseen, link
from .limits import default_threads
from .llvm_text import Function, module_text

__all__ = [
    "CodeModule", "Machine", "assembly", "compile_described", "compile_module", "driver_address",
    "emit_object", "expect", "expected_beside", "host_machine", "load_object", "machine_for_level",
    "run_program", "stored_object",
]  # fmt: skip


# -- objects on disk ----------------------------------------------------------------------
def stored_object(
    key: str, emit: Callable[[], str], machine: Machine, soon: bool = False
) -> tuple[bytes, bool]:
    """An object file, and whether it lay on disk; if not, it does from now on.

    `emit` writes its text, and is not called for an object on disk.
    """
    disk = object_cache.shared()
    data = disk.get(key)
    found = data is not None
    if data is None:
        data = emit_object(emit(), machine, soon)
        disk.put(key, data)
    return data, found


class _Described:
    """The object of a module that is known by a description, made by who comes first."""

    def __init__(self, description: str, emit: Callable[[], str], soon: bool = False) -> None:
        self._description, self._emit, self._soon = description, emit, soon
        self._lock = forking.lock()
        self._made: bytes | None = None

    def make(self) -> bytes:
        """The object; who comes second waits for it."""
        with self._lock:
            if self._made is None:
                machine = host_machine()
                key = object_cache.described_key(self._description, machine.fingerprint)
                self._made, _ = stored_object(key, self._emit, machine, self._soon)
            return self._made


#: Modules that processes need soon, until they are asked for.
_EXPECTED: dict[str, _Described] = {}


def expect(description: str, emit: Callable[[], str], soon: bool = False) -> None:
    """Say that `compile_described` will be asked for a module: an idle processor may make it.

    Where it is wanted `soon`, its code is not optimised; it must be of scalars.
    """
    _EXPECTED[description] = _Described(description, emit, soon)


@contextmanager
def expected_beside() -> Iterator[None]:
    """Make modules that are expected beside what is done in the block, on a thread that ends with
    it; what it has not come to by then is left."""
    waiting = deque(_EXPECTED.values())
    if default_threads() == 1 or not waiting:
        yield
        return

    def work() -> None:
        with suppress(IndexError, InternalCompilerError):  # who asks for the module is told
            while True:
                waiting.popleft().make()

    binding()  # first, because imports take turns
    thread = threading.Thread(target=work, name="accel-expected", daemon=True)
    thread.start()
    try:
        yield
    finally:
        waiting.clear()
        thread.join()


# -- object to code ------------------------------------------------------------------------
class CodeModule:
    """Loaded machine code; dropping the last reference returns its memory.

    Parameters
    ----------
    engine
        What owns the code: an image, or an execution engine of LLVM's.
    size
        Bytes of the object files, the measure by which caches count.
    """

    __slots__ = ("__weakref__", "_engine", "size")

    def __init__(self, engine: Any, size: int) -> None:
        self._engine = engine
        self.size = size

    def address(self, name: str) -> int:
        """The address of the exported function `name`."""
        address = int(self._engine.get_function_address(name))
        if address == 0:
            raise InternalCompilerError(f"compiled code has no function {name!r}")
        return address


def load_object(objects: bytes | Sequence[bytes], machine: Machine | None = None) -> CodeModule:
    """Map object files made by `emit_object` into the process.

    What they export must differ in name; internal functions and data may share theirs.
    """
    objects = [objects] if isinstance(objects, bytes) else objects
    engine: Any
    try:
        engine = Image(link(objects))
    except Unforeseen:
        engine = _engine(objects, machine or host_machine())
    return CodeModule(engine, sum(map(len, objects)))


def _engine(objects: Sequence[bytes], machine: Machine) -> Any:
    """Objects loaded by LLVM."""
    llvm = binding()
    # One engine for all: making one takes longer than adding an object to it. Closing it is
    # the only way in which MCJIT gives memory back.
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), new_target_machine(machine))
    for data in objects:
        engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine


def compile_described(description: str, emit: Callable[[], str]) -> CodeModule:
    """Machine code of the module that `emit` writes, which is not called where it lies on disk.

    Parameters
    ----------
    description
        On what the text depends, but for accel's own sources.
    emit
        Writes the LLVM module.
    """
    module = _EXPECTED.pop(description, None) or _Described(description, emit)
    return load_object(module.make(), host_machine())


def compile_module(text: str, machine: Machine | None = None) -> CodeModule:
    """Machine code of an LLVM module, from disk where an earlier process left it there.

    Raises
    ------
    InternalCompilerError
        If LLVM does not accept `text`; the message shows the lines concerned.
    """
    machine = machine or host_machine()
    key = object_cache.entry_key(text, machine.fingerprint)
    return load_object(stored_object(key, lambda: text, machine)[0], machine)


# -- the driver ----------------------------------------------------------------------------
def _driver_text() -> str:
    """``i64 accel_run(ptr bases, ptr program, i64 count)``: calls the kernels of a program.

    A program is a table of `count` records of four 64-bit integers: kernel address, address
    of its argument block, begin and end of its work items. The result is 0, or
    ``(record index + 1) << 32 | status`` of the first kernel that does not return 0.
    """
    fn = Function("accel_run", [("ptr", "bases"), ("ptr", "program"), ("i64", "count")], "i64")
    with fn.loop(0, "%count") as loop:
        record = fn.gep("%program", fn.integer("mul", loop.index, 4), "i64")
        kernel = fn.load("ptr", record, 8)
        args = fn.load("ptr", fn.gep(record, 8), 8)
        begin = fn.load("i64", fn.gep(record, 16), 8)
        end = fn.load("i64", fn.gep(record, 24), 8)
        status = fn.op(f"call i64 {kernel}(ptr %bases, ptr {args}, i64 {begin}, i64 {end})")
        failed, following = fn.label("failed"), fn.label("following")
        fn.cond_br(fn.icmp("ne", status, 0), failed, following)
        fn.block(failed)
        place = fn.integer("shl", fn.integer("add", loop.index, 1), 32)
        fn.do(f"ret i64 {fn.integer('or', place, status)}")
        fn.block(following)
    fn.do("ret i64 0")
    return module_text([fn])


_DRIVER_LOCK = forking.lock()


def _driver() -> tuple[CodeModule, Callable[[int, int, int], int]]:
    """The driver, compiled once: of two racing copies one would be unmapped while it runs."""
    with _DRIVER_LOCK:
        return _compiled_driver()


@functools.cache
def _compiled_driver() -> tuple[CodeModule, Callable[[int, int, int], int]]:
    code = compile_described("driver", _driver_text)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return code, prototype(code.address("accel_run"))


def driver_address() -> int:
    """The address of ``accel_run``, which lives as long as the process."""
    return _driver()[0].address("accel_run")


def run_program(bases_address: int, program_address: int, count: int) -> int:
    """Run a program natively, without the GIL.

    Parameters
    ----------
    bases_address
        Address of this call's table of pointers: inputs, outputs, arena.
    program_address
        Address of `count` records (kernel address, argument block, begin, end).
    count
        Number of records.

    Returns
    -------
    int
        0, or ``(record index + 1) << 32 | status`` of the first kernel that failed.
    """
    return _driver()[1](bases_address, program_address, count)
