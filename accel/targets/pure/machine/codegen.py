"""From LLVM IR text to object code.

The text is written by our own emitters with explicit vectors and needs no optimiser passes: only
LLVM's code generator runs, after calls of functions so marked have been replaced by their code.
LLVM ends the process on what it cannot compile, so every module is verified before, and every
object is searched for undefined symbols after.

llvmlite lets one thread at a time into LLVM. LLVM itself asks for less, a context and a target
machine for every thread, so that code generation, which is nearly all of the time, runs without
that lock on as many threads as call here.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .... import forking
from ....errors import InternalCompilerError
from .host import Machine, binding, host_machine, new_target_machine

__all__ = ["assembly", "emit_object"]

# Calls that LLVM may make of intrinsics and that every C library has; MCJIT finds them in the
# process. Anything else undefined, such as a half-precision conversion, is refused.
_ALLOWED_CALLS = frozenset(
    stem + suffix
    for stem in ("fma", "floor", "ceil", "trunc", "rint", "nearbyint", "fmod", "ldexp",
                 "roundeven", "round", "fmin", "fmax", "frexp")
    for suffix in ("", "f")
) | {"memcpy", "memset", "memmove"}  # fmt: skip


def emit_object(text: str, machine: Machine | None = None, soon: bool = False) -> bytes:
    """The object file of the LLVM module `text`. Threads that call this run side by side.

    Parameters
    ----------
    text
        LLVM IR.
    machine
        What to generate code for; the host unless given.
    soon
        Whether the code is wanted soon rather than fast; see `new_target_machine`.

    Raises
    ------
    InternalCompilerError
        If the text does not parse or verify, or the code would call an unknown function.
    """
    machine = machine or host_machine()
    with (
        forking.unforked(), _parsed(text, machine) as module,
        _target_machine(machine, soon) as target,
    ):  # fmt: skip
        if "alwaysinline" in text:
            _inline(target, module)
        data = _generated(target, module)
    unknown = sorted(_undefined_symbols(data) - _ALLOWED_CALLS)
    if unknown:
        raise _bad_ir(text, f"the code calls undefined functions: {', '.join(unknown)}")
    return data


def assembly(text: str, machine: Machine | None = None) -> str:
    """The assembly that `text` compiles to."""
    machine = machine or host_machine()
    with _parsed(text, machine) as module, _target_machine(machine) as target:
        result: str = target.emit_assembly(module)
    return result


@contextmanager
def _parsed(text: str, machine: Machine) -> Iterator[Any]:
    """The verified LLVM module of `text`, in a context of its own."""
    llvm = binding()
    with llvm.create_context() as context, ExitStack() as modules:
        try:
            module = modules.enter_context(llvm.parse_assembly(text, context))
            module.triple = machine.triple
            module.verify()
        except RuntimeError as error:
            raise _bad_ir(text, str(error)) from None
        yield module


@contextmanager
def _target_machine(machine: Machine, soon: bool = False) -> Iterator[Any]:
    """A code generator that no other thread uses meanwhile."""
    idle = _idle(machine, soon)
    try:
        target = idle.pop()
    except IndexError:
        target = new_target_machine(machine, soon)
    yield target
    idle.append(target)


@functools.cache
def _idle(machine: Machine, soon: bool) -> deque[Any]:
    return deque()


def _inline(target: Any, module: Any) -> None:
    """Put the code of functions that are always to be in line where they are called."""
    llvm = binding()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, builder)


def _generated(target: Any, module: Any) -> bytes:
    """The object file of a verified module, made without llvmlite's lock."""
    from llvmlite.binding import ffi

    with ffi.OutputString() as message:
        buffer = _unlocked()(target, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


@functools.cache
def _unlocked() -> Any:
    """LLVM's code generator as llvmlite's library exports it."""
    from llvmlite.binding import ffi

    locked = ffi.lib.LLVMPY_TargetMachineEmitToMemory
    library = ctypes.CDLL(ffi.lib._name, handle=ffi.lib._handle)
    function = library.LLVMPY_TargetMachineEmitToMemory
    function.argtypes, function.restype = locked.argtypes, locked.restype
    return function


def _bad_ir(text: str, message: str) -> InternalCompilerError:
    """The error for IR that LLVM rejects, with the lines around the place it names."""
    lines = text.splitlines()
    at = 0
    for word in message.replace(",", ":").split(":"):
        if word.strip().isdigit():
            at = int(word)
            break
    shown = range(max(0, at - 6), min(len(lines), at + 5)) if at else range(min(len(lines), 12))
    excerpt = "\n".join(f"{i + 1:5d} {lines[i]}" for i in shown)
    return InternalCompilerError(
        f"LLVM rejects generated code: {message.strip()}\n{excerpt}",
        remedy="this is a bug of accel: please report it with this text",
    )


def _undefined_symbols(data: bytes) -> set[str]:
    """The undefined symbols of a 64-bit little-endian ELF object; none for other formats."""
    if data[:6] != b"\x7fELF\x02\x01":
        return set()
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    found = set()
    for header in headers:
        if header[1] != 2:  # SHT_SYMTAB
            continue
        begin, length, names = header[4], header[5], headers[header[6]][4]
        for at in range(begin, begin + length, 24):
            name, _, _, section = struct.unpack_from("<IBBH", data, at)
            if name and section == 0:
                found.add(data[names + name : data.index(b"\0", names + name)].decode())
    return found - {"_GLOBAL_OFFSET_TABLE_"}
