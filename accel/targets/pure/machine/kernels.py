"""Compiled kernels by content: in memory, on disk one by one, and a program's in one piece."""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from .... import forking
from . import object_cache
from .codegen import emit_object
from .host import Machine, host_machine
from .image import Image, Linked, Unforeseen, link
from .jit import CodeModule, load_object, stored_object
from .limits import default_threads

__all__ = ["KERNELS", "Address", "Kernel", "KernelCache"]

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

    def _compiled(self, symbol: str, key: str, text: str, machine: Machine) -> tuple[bytes, bool]:
        """The object of a kernel, and whether it lay on disk."""
        if not self._on_disk:
            return emit_object(text, machine), False
        entry = object_cache.entry_key(_description(symbol, key), machine.fingerprint)
        return stored_object(entry, lambda: text, machine)

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
        is loaded in a fraction of the time, unless they are too few to gain by it, or lie there:
        programs of other shapes have the same kernels."""
        machine, disk = self._machine or host_machine(), object_cache.shared()
        if len(kernels) < _TOGETHER or disk.holds(_together_key(kernels, machine)):
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


@functools.lru_cache(128)  # programs of many shapes ask for the same kernels each time
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
