"""From LLVM IR text to callable machine code: modules, the kernel cache, the native driver.

Code is made in two steps, `emit_object` (text to object bytes, in `codegen.py`) and `load_object`
(object bytes to callable addresses), so that the cache of objects on disk fits between them:
what lies there is only loaded.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from .... import forking
from ....errors import InternalCompilerError
from . import object_cache
from .codegen import assembly, emit_object
from .host import Machine, binding, host_machine, machine_for_level, new_target_machine
from .image import Image, Linked, Unforeseen, link
from .limits import default_threads
from .llvm_text import Function, module_text

__all__ = [
    "KERNELS", "Address", "CodeModule", "Kernel", "KernelCache", "Machine", "assembly",
    "compile_described", "compile_module", "driver_address", "emit_object", "expect",
    "expected_beside", "host_machine", "load_object", "machine_for_level", "run_program",
]  # fmt: skip


# -- objects on disk ----------------------------------------------------------------------
def _object(
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
                self._made, _ = _object(key, self._emit, machine, self._soon)
            return self._made


#: Modules that processes need soon after their first kernels, until they are asked for.
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
    return load_object(_object(key, lambda: text, machine)[0], machine)


# -- kernels -------------------------------------------------------------------------------
#: How many kernels of a program are kept in one piece.
_TOGETHER = 4


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
        self._lock = forking.lock()
        self._recent: OrderedDict[str, Kernel] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[str, Kernel] = weakref.WeakValueDictionary()

    def get(self, name: str, text: str) -> Kernel:
        """The kernel whose module `text` defines the function `name`."""
        return self.ensure([(name, text)])[0]

    def ensure(self, sources: Iterable[tuple[str, str]]) -> list[Kernel]:
        """The kernels of `sources`; those that are missing are made and loaded together.

        Parameters
        ----------
        sources
            (name, text) pairs: `text` is a module that defines the exported function `name`.
            Machine code is made of the first ones while the next are written.

        Raises
        ------
        InternalCompilerError
            If LLVM rejects a text.
        """
        with forking.unforked():
            from .crew import Crew  # what lies on disk does without

        keys = []
        found: dict[str, Kernel] = {}
        missing: dict[str, tuple[str, str]] = {}
        machine = self._machine or host_machine()
        threads = default_threads()
        with self._lock:
            with Crew[tuple[bytes, bool]](threads) as crew:
                for name, text in sources:
                    key = _kernel_key(name, text)
                    keys.append(key)
                    kernel = self._alive.get(key)
                    if kernel is not None:
                        kernel.ir = kernel.ir or text.replace(f"@{name}(", f"@{kernel.name}(")
                        found[key] = kernel
                        self.hits += 1
                    elif key in missing:
                        self.hits += 1
                    else:
                        symbol = f"{name}_{key[:12]}"
                        text = text.replace(f"@{name}(", f"@{symbol}(")
                        missing[key] = symbol, text
                        crew.add(functools.partial(self._compiled, symbol, key, text, machine))
            if missing:
                found.update(self._loaded(missing, crew.results(), machine))
            self._touch(found, keys)
            return [found[key] for key in keys]

    def _compiled(
        self, symbol: str, key: str, text: str, machine: Machine
    ) -> tuple[bytes, bool]:
        """The object of a kernel, and whether it lay on disk."""
        if not self._on_disk:
            return emit_object(text, machine), False
        entry = object_cache.entry_key(_description(symbol, key), machine.fingerprint)
        return _object(entry, lambda: text, machine)

    def _loaded(
        self, missing: Mapping[str, tuple[str, str]], made: Sequence[tuple[bytes, bool]],
        machine: Machine,
    ) -> dict[str, Kernel]:  # fmt: skip
        """The kernels of objects that have just been made or found."""
        loads = sum(found for _, found in made)
        self.loads += loads
        self.compiles += len(made) - loads
        code = load_object([data for data, _ in made], machine)
        kernels = {key: Kernel(symbol, key, text, code) for key, (symbol, text) in missing.items()}
        self._alive.update(kernels)
        return kernels

    def find(self, wanted: Sequence[tuple[str, str]]) -> list[Kernel] | None:
        """The kernels of (symbol, key) pairs, as far as no text is needed: from memory or disk.

        None unless all are found; then none is loaded.
        """
        with self._lock:
            alive = [(key, self._alive.get(key)) for _, key in wanted]
            found = {key: kernel for key, kernel in alive if kernel is not None}
            missing = {key: symbol for symbol, key in wanted if key not in found}
            if missing:
                code = self._from_disk([(s, key) for key, s in missing.items()], not found)
                if code is None:
                    return None
                for key, symbol in missing.items():
                    found[key] = self._alive[key] = Kernel(symbol, key, "", code)
            self.loads += len(missing)
            self.hits += len(wanted) - len(missing)
            self._touch(found, [key for _, key in wanted])
            return [found[key] for _, key in wanted]

    def _from_disk(self, wanted: Sequence[tuple[str, str]], all_: bool) -> CodeModule | None:
        """The code of kernels, which are `all_` of a program: in one piece where it was kept so,
        else from their objects."""
        machine, disk = self._machine or host_machine(), object_cache.shared()
        linked = None
        if all_ and len(wanted) >= _TOGETHER:
            linked = disk.get(_together_key(wanted, machine))
        if linked is not None:
            with suppress(Unforeseen):
                return CodeModule(Image(Linked.unpacked(linked)), len(linked))
        objects = disk.get_all(_entry_keys(wanted, machine))
        return None if objects is None else load_object(objects, machine)

    def keep_together(self, kernels: Sequence[tuple[str, str]]) -> None:
        """Leave the code of (symbol, key) pairs that are on disk there in one piece as well, which
        is loaded in a fraction of the time, unless they are too few to gain by it."""
        machine, disk = self._machine or host_machine(), object_cache.shared()
        if len(kernels) < _TOGETHER:
            return
        objects = disk.get_all(_entry_keys(kernels, machine), counted=False)
        if objects is not None:
            with suppress(Unforeseen):
                disk.put(_together_key(kernels, machine), link(objects).packed())

    def _touch(self, found: Mapping[str, Kernel], keys: Sequence[str]) -> None:
        """Remember that the kernels of `keys` were used."""
        held = len(self._recent)
        for key in keys:
            self._recent[key] = found[key]
            self._recent.move_to_end(key)
        if len(self._recent) > held:
            self._trim(self.max_bytes)

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


def _entry_keys(kernels: Sequence[tuple[str, str]], machine: Machine) -> list[str]:
    """The keys on disk of (symbol, key) pairs."""
    described = [_description(symbol, key) for symbol, key in kernels]
    return [object_cache.entry_key(d, machine.fingerprint) for d in described]


def _together_key(kernels: Sequence[tuple[str, str]], machine: Machine) -> str:
    """The key on disk of kernels in one piece."""
    described = "".join([f"{symbol} {key}\n" for symbol, key in kernels])
    return object_cache.described_key(f"linked {described}", machine.fingerprint)


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


expect("driver", _driver_text)
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
