"""From LLVM IR text to machine code: the machine, modules, the kernel cache, the native driver.

Code is made in two steps, `emit_object` (text to object bytes) and `load_object` (object bytes
to callable addresses), so that the cache of objects on disk fits between them: what lies
there is only loaded. The text is written by our own emitters with explicit vectors and needs no
optimiser passes: only LLVM's code generator runs. llvmlite is imported on first use.

LLVM ends the process on what it cannot compile, so every module is verified before code
generation and every object is searched for undefined symbols before it is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import struct
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....errors import ArgumentError, InternalCompilerError
from . import object_cache
from .llvm_text import Function, module_text

__all__ = [
    "KERNELS", "Address", "CodeModule", "Kernel", "KernelCache", "Machine", "assembly",
    "compile_described", "compile_module", "driver_address", "emit_object", "host_machine",
    "load_object", "machine_for_level", "run_program",
]  # fmt: skip


# -- the machine --------------------------------------------------------------------------
@dataclass(frozen=True)
class Machine:
    """What machine code is made for.

    Attributes
    ----------
    triple, cpu, features
        As LLVM names them; `features` is the comma-separated list behind ``-mattr``.
    vector_bytes
        Bytes of the widest vector register: 64 (AVX-512), 32 (AVX2) or 16 (SSE2, NEON).
    has_fma
        Whether a fused multiply-add is one instruction; without, `llvm.fma` is a slow call.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    has_fma: bool

    @property
    def has_masks(self) -> bool:
        """Whether masked vector loads and stores cost no more than plain ones."""
        return self.vector_bytes == 64

    @property
    def x86_bytes(self) -> int:
        """Of which size are the vectors that x86 instructions work on which LLVM has no portable
        word for: 64 with AVX-512 (powers of two, tables), 32 with AVX2 (tables), else 0."""
        return self.vector_bytes if self.vector_bytes > 16 and "x86_64" in self.triple else 0

    @property
    def fingerprint(self) -> str:
        """A short hash of everything on which generated code depends."""
        llvm = _llvm()
        version = str(llvm.llvm_version_info)
        parts = (self.triple, self.cpu, self.features, version, str(_CODE_GENERATOR))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def lanes(self, element_bytes: int) -> int:
        """Elements of `element_bytes` bytes in one vector register."""
        return max(1, self.vector_bytes // element_bytes)


# x86 levels that ACCEL_CPU_FEATURES may ask for: LLVM's CPU name, vector bytes, fma.
_LEVELS = {
    "avx512": ("x86-64-v4", 64, True),
    "avx2": ("x86-64-v3", 32, True),
    "sse2": ("x86-64", 16, False),
    "baseline": ("x86-64", 16, False),
}


@functools.cache
def _llvm() -> Any:
    """llvmlite's binding with the native target initialised."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def host_machine() -> Machine:
    """The machine of this process.

    The environment variable ``ACCEL_CPU_FEATURES`` restricts it to an x86 level: ``avx512``,
    ``avx2``, ``sse2`` or ``baseline``. A level that the CPU does not have is refused.
    """
    return machine_for_level(os.environ.get("ACCEL_CPU_FEATURES", "").strip().lower())


@functools.cache
def machine_for_level(level: str) -> Machine:
    """The machine restricted to an x86 `level`; ``""`` is the host as it is."""
    llvm = _llvm()
    triple = llvm.get_process_triple()
    features: dict[str, bool] = dict(llvm.get_host_cpu_features())
    if not level:
        vector_bytes, fma = _capabilities(triple, features)
        flat = ",".join(("+" if on else "-") + f for f, on in sorted(features.items()))
        return Machine(triple, llvm.get_host_cpu_name(), flat, vector_bytes, fma)
    if level not in _LEVELS:
        raise ArgumentError(
            f"ACCEL_CPU_FEATURES={level!r} is not a known level",
            remedy=f"use one of {', '.join(_LEVELS)}, or leave it unset",
        )
    cpu, vector_bytes, fma = _LEVELS[level]
    if not triple.startswith("x86_64") or vector_bytes > _capabilities(triple, features)[0]:
        raise ArgumentError(
            f"ACCEL_CPU_FEATURES={level!r} asks for instructions that this CPU "
            f"({llvm.get_host_cpu_name()}) lacks",
            remedy="choose a lower level or leave it unset",
        )
    return Machine(triple, cpu, "", vector_bytes, fma)


def _capabilities(triple: str, features: dict[str, bool]) -> tuple[int, bool]:
    """(bytes of a vector register, fused multiply-add) of a host."""
    if not triple.startswith("x86_64"):
        return 16, True
    fma = features.get("fma", False)
    if fma and all(features.get(f"avx512{part}", False) for part in ("f", "bw", "dq", "vl")):
        return 64, True
    return (32, True) if fma and features.get("avx2", False) else (16, fma)


# -- text to object ------------------------------------------------------------------------
_CODE_GENERATOR = {"opt": 3, "codemodel": "jitdefault", "jit": True}

# Calls that LLVM may make of intrinsics and that every C library has; MCJIT finds them in the
# process. Anything else undefined, such as a half-precision conversion, is refused.
_ALLOWED_CALLS = frozenset(
    stem + suffix
    for stem in ("fma", "floor", "ceil", "trunc", "rint", "nearbyint", "fmod", "ldexp",
                 "roundeven", "round", "fmin", "fmax", "frexp")
    for suffix in ("", "f")
) | {"memcpy", "memset", "memmove"}  # fmt: skip


@functools.cache
def _target_machine(machine: Machine) -> Any:
    """A target machine for emitting objects; engines need their own, which they consume."""
    return _new_target_machine(machine)


def _new_target_machine(machine: Machine) -> Any:
    llvm = _llvm()
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, **_CODE_GENERATOR
    )


def _parse(text: str, machine: Machine) -> Any:
    """The verified LLVM module of `text`."""
    try:
        module = _llvm().parse_assembly(text)
        module.triple = machine.triple
        module.verify()
    except RuntimeError as error:
        raise _bad_ir(text, str(error)) from None
    return module


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


def emit_object(text: str, machine: Machine | None = None) -> bytes:
    """The object file of the LLVM module `text`.

    Parameters
    ----------
    text
        LLVM IR.
    machine
        What to generate code for; the host unless given.

    Raises
    ------
    InternalCompilerError
        If the text does not parse or verify, or the code would call an unknown function.
    """
    machine = machine or host_machine()
    data: bytes = _target_machine(machine).emit_object(_parse(text, machine))
    unknown = sorted(_undefined_symbols(data) - _ALLOWED_CALLS)
    if unknown:
        raise _bad_ir(text, f"the code calls undefined functions: {', '.join(unknown)}")
    return data


def _kept_object(
    text: str, machine: Machine, described: str = ""
) -> tuple[bytes, bool]:
    """The object file of `text`, and whether it lay on disk; if not, it does from now on.

    `described` stands for the text in the key, and differs wherever the text does.
    """
    disk = object_cache.shared()
    key = object_cache.entry_key(described or text, machine.fingerprint)
    data = disk.get(key)
    found = data is not None
    if data is None:
        data = emit_object(text, machine)
        disk.put(key, data)
    return data, found


def assembly(text: str, machine: Machine | None = None) -> str:
    """The assembly that `text` compiles to."""
    machine = machine or host_machine()
    result: str = _target_machine(machine).emit_assembly(_parse(text, machine))
    return result


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


# -- object to code ------------------------------------------------------------------------
class CodeModule:
    """Loaded machine code; dropping the last reference returns its memory.

    Parameters
    ----------
    engine
        The execution engine that owns the code.
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
    llvm = _llvm()
    objects = [objects] if isinstance(objects, bytes) else objects
    # One engine for all: making one takes longer than adding an object to it. Closing it is
    # the only way in which MCJIT gives memory back.
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), _new_target_machine(machine or host_machine())
    )
    for data in objects:
        engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return CodeModule(engine, sum(map(len, objects)))


def compile_described(description: str, emit: Callable[[], str]) -> CodeModule:
    """Machine code of the module that `emit` writes, which is not called where it lies on disk.

    Parameters
    ----------
    description
        On what the text depends, but for accel's own sources.
    emit
        Writes the LLVM module.
    """
    machine, disk = host_machine(), object_cache.shared()
    key = object_cache.described_key(description, machine.fingerprint)
    data = disk.get(key)
    if data is None:
        data = emit_object(emit(), machine)
        disk.put(key, data)
    return load_object(data, machine)


def compile_module(text: str, machine: Machine | None = None) -> CodeModule:
    """Machine code of an LLVM module, from disk where an earlier process left it there.

    Raises
    ------
    InternalCompilerError
        If LLVM does not accept `text`; the message shows the lines concerned.
    """
    machine = machine or host_machine()
    return load_object(_kept_object(text, machine)[0], machine)


# -- kernels -------------------------------------------------------------------------------
class Address(int):
    """Where a kernel begins: a number that knows the kernel's symbol, so that programs can be
    written down without it."""

    symbol: str

    @classmethod
    def of(cls, symbol: str, code: CodeModule) -> Address:
        """The address of `symbol` in `code`."""
        address = cls(code.address(symbol))
        address.symbol = symbol
        return address


class Kernel:
    """A compiled kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``.

    Attributes
    ----------
    name
        The kernel's symbol: the given name and a hash of its text.
    key
        A hash of its text.
    address
        Where its code begins; valid while this object lives.
    ir
        Its LLVM IR; empty where the kernel was found on disk and nobody had the text since.
    """

    __slots__ = ("__weakref__", "_code", "address", "ir", "key", "name")

    def __init__(self, name: str, key: str, ir: str, code: CodeModule) -> None:
        self.name = name
        self.key = key
        self.ir = ir
        self.address = Address.of(name, code)
        self._code = code  # keeps the machine code mapped

    @property
    def size(self) -> int:
        """Bytes of the object that holds the kernel (and those compiled with it)."""
        return self._code.size

    def __repr__(self) -> str:
        return f"Kernel({self.name}, {self.address:#x})"


class KernelCache:
    """Compiled kernels by content: equal text but for the symbol is compiled once.


    The cache holds the most recently used kernels up to a bound in bytes of object code.
    Kernels pushed out live on while an executable refers to them, are still found then, and
    are unmapped with the last reference. Safe under concurrent callers.

    Parameters
    ----------
    max_bytes
        Bound of the object code that the cache itself keeps alive.
    machine
        What to compile for; the host unless given.
    on_disk
        Whether kernels are also found on disk, and left there, each for itself.

    Attributes
    ----------
    compiles, loads, hits
        How many kernels were compiled, found on disk, and found in memory.
    """

    def __init__(
        self, max_bytes: int = 64 << 20, machine: Machine | None = None, on_disk: bool = False
    ) -> None:
        self.max_bytes = max_bytes
        self.compiles = self.loads = self.hits = 0
        self._machine = machine
        self._on_disk = on_disk
        self._lock = threading.RLock()
        self._recent: OrderedDict[str, Kernel] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[str, Kernel] = weakref.WeakValueDictionary()

    def get(self, name: str, text: str) -> Kernel:
        """The kernel whose module `text` defines the function `name`."""
        return self.ensure([(name, text)])[0]

    def ensure(self, sources: Sequence[tuple[str, str]]) -> list[Kernel]:
        """The kernels of `sources`; those that are missing are made and loaded together.

        Parameters
        ----------
        sources
            (name, text) pairs: `text` is a module that defines the exported function `name`.

        Raises
        ------
        InternalCompilerError
            If LLVM rejects a text.
        """
        keys = [_kernel_key(name, text) for name, text in sources]
        with self._lock:
            found: dict[str, Kernel] = {}
            missing: dict[str, tuple[str, str]] = {}
            for key, (name, text) in zip(keys, sources, strict=True):
                kernel = self._alive.get(key)
                if kernel is not None:
                    kernel.ir = kernel.ir or text.replace(f"@{name}(", f"@{kernel.name}(")
                    found[key] = kernel
                    self.hits += 1
                elif key in missing:
                    self.hits += 1
                else:
                    symbol = f"{name}_{key[:12]}"
                    missing[key] = symbol, text.replace(f"@{name}(", f"@{symbol}(")
            if missing:
                found.update(self._make(missing))
            self._touch(found, keys)
            return [found[key] for key in keys]

    def find(self, wanted: Sequence[tuple[str, str]]) -> list[Kernel] | None:
        """The kernels of (symbol, key) pairs, as far as no text is needed: from memory or disk.

        None unless all are found; then none is loaded.
        """
        machine, disk = self._machine or host_machine(), object_cache.shared()
        with self._lock:
            found: dict[str, Kernel] = {}
            objects: dict[str, bytes] = {}
            for symbol, key in wanted:
                kernel = self._alive.get(key)
                if kernel is not None:
                    found[key] = kernel
                    continue
                described = _description(symbol, key)
                data = disk.get(object_cache.entry_key(described, machine.fingerprint))
                if data is None:
                    return None
                objects[key] = data
            if objects:
                code = load_object(list(objects.values()), machine)
                for symbol, key in wanted:
                    if key in objects:
                        found[key] = self._alive[key] = Kernel(symbol, key, "", code)
            self.loads += len(objects)
            self.hits += len(wanted) - len(objects)
            self._touch(found, [key for _, key in wanted])
            return [found[key] for _, key in wanted]

    def _touch(self, found: Mapping[str, Kernel], keys: Sequence[str]) -> None:
        """Remember that the kernels of `keys` were used."""
        held = len(self._recent)
        for key in keys:
            self._recent[key] = found[key]
            self._recent.move_to_end(key)
        if len(self._recent) > held:
            self._trim(self.max_bytes)

    def _make(self, missing: dict[str, tuple[str, str]]) -> dict[str, Kernel]:
        machine = self._machine or host_machine()
        objects = []
        for key, (symbol, text) in missing.items():
            if self._on_disk:
                data, found = _kept_object(text, machine, _description(symbol, key))
            else:
                data, found = emit_object(text, machine), False
            objects.append(data)
            self.loads += found
            self.compiles += not found
        code = load_object(objects, machine)
        kernels = {key: Kernel(symbol, key, text, code) for key, (symbol, text) in missing.items()}
        self._alive.update(kernels)
        return kernels

    def _trim(self, max_bytes: int) -> None:
        """Let go of the least recently used kernels until `max_bytes` are kept."""
        users: dict[CodeModule, int] = {}
        for kernel in self._recent.values():
            users[kernel._code] = users.get(kernel._code, 0) + 1
        total = sum(code.size for code in users)
        while total > max_bytes and self._recent:
            _, kernel = self._recent.popitem(last=False)
            users[kernel._code] -= 1
            if users[kernel._code] == 0:
                total -= kernel._code.size

    @property
    def held_bytes(self) -> int:
        """Bytes of object code that the cache keeps alive."""
        with self._lock:
            return sum(code.size for code in {k._code for k in self._recent.values()})

    def clear(self) -> None:
        """Forget every kernel that no executable uses."""
        with self._lock:
            self._recent.clear()

    def __len__(self) -> int:
        return len(self._alive)


def _kernel_key(name: str, text: str) -> str:
    return hashlib.sha256(text.replace(f"@{name}(", "@(").encode()).hexdigest()


def _description(symbol: str, key: str) -> str:
    """What stands for a kernel's text in its key on disk."""
    return f"kernel {symbol} {key}"


#: Every kernel of the process, by content.
KERNELS = KernelCache(on_disk=True)


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


_DRIVER_LOCK = threading.Lock()


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
