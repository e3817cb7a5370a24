"""Object files in memory: ELF for x86-64, as LLVM makes it for code that lies anywhere.

A linker for what our modules hold, which is code, constants and addresses: loading needs no LLVM
then, whose import takes longer than all else before a first result. What is not foreseen here
is left to LLVM's own linker.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import sys
from collections.abc import Callable, Sequence

__all__ = ["Image", "Unforeseen"]

_HEADER = b"\x7fELF\x02\x01"
_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8
_WRITE, _ALLOCATED, _CODE, _THREADS = 1, 2, 4, 0x400
#: Relocations: an address, and distances of 32 and 64 bits.
_ADDRESS, _NEAR, _CALL, _FAR = 1, 2, 4, 24
_LOCAL = 0

_Section = tuple[int, int, int, int, int, int, int, int, int, int]


class Unforeseen(Exception):
    """An object file that only LLVM's own linker can load."""


class Image:
    """Loaded object files. Dropping the last reference returns their memory.

    Parameters
    ----------
    objects
        The files. What they export must differ in name.

    Raises
    ------
    Unforeseen
        If they hold what is not foreseen; then nothing has been loaded.
    """

    __slots__ = ("_exports", "_memory")

    def __init__(self, objects: Sequence[bytes]) -> None:
        if not sys.platform.startswith("linux"):
            raise Unforeseen(sys.platform)
        files = [_File(data) for data in objects]
        code = _laid_out(files, 0, _CODE)
        constants = _laid_out(files, code, 0)
        size = _laid_out(files, constants, _WRITE)
        self._memory = mmap.mmap(
            -1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )  # fmt: skip
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._exports: dict[str, int] = {}
        for file in files:
            file.write(self._memory, base)
            self._exports.update(file.exports(base))
        _protect(base, code, mmap.PROT_READ | mmap.PROT_EXEC)
        _protect(base + code, constants - code, mmap.PROT_READ)

    def get_function_address(self, name: str) -> int:
        """The address of an exported function; 0 if there is none of this name."""
        return self._exports.get(name, 0)


class _File:
    """One object file: its sections, and where they are to lie."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if data[:6] != _HEADER or struct.unpack_from("<HH", data, 16) != (_RELOCATABLE, _X86_64):
            raise Unforeseen("another format")
        (table,) = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        self.sections: list[_Section] = [
            struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)
        ]
        #: Where allocated sections begin in the image, by number.
        self.places: dict[int, int] = {}
        self._tables: dict[int, list[tuple[int, ...]]] = {}

    def write(self, memory: mmap.mmap, base: int) -> None:
        """Copy the sections to their places and put addresses in."""
        for number, place in self.places.items():
            _, kind, _, _, offset, size, *_ = self.sections[number]
            if kind != _NO_BITS:
                memory[place : place + size] = self.data[offset : offset + size]
        for _, kind, _, _, offset, size, table, target, _, _ in self.sections:
            if kind != _RELOCATIONS or target not in self.places:
                continue
            origin, symbols = self.places[target], self._symbols(table)
            values: dict[int, int] = {}
            for where, what, addend in struct.iter_unpack("<QQq", self._bytes(offset, size)):
                number = what >> 32
                if number not in values:
                    values[number] = self._value(table, symbols[number], base)
                _put(memory, base, origin + where, what & 0xFFFFFFFF, values[number] + addend)

    def exports(self, base: int) -> dict[str, int]:
        """The addresses of what other modules may name."""
        found = {}
        for table, (_, kind, _, _, _, _, names, *_) in enumerate(self.sections):
            if kind != _SYMBOLS:
                continue
            for name, info, _, section, value, _ in self._symbols(table):
                if info >> 4 != _LOCAL and section in self.places:
                    found[self._name(names, name)] = base + self.places[section] + value
        return found

    def _bytes(self, offset: int, size: int) -> memoryview:
        return memoryview(self.data)[offset : offset + size]

    def _symbols(self, table: int) -> list[tuple[int, ...]]:
        """The symbols of a table: name, kind, visibility, section, value and size of each."""
        if table not in self._tables:
            _, _, _, _, offset, size, *_ = self.sections[table]
            found = struct.iter_unpack("<IBBHQQ", self._bytes(offset, size))
            self._tables[table] = list(found)
        return self._tables[table]

    def _value(self, table: int, symbol: tuple[int, ...], base: int) -> int:
        name, _, _, section, value, _ = symbol
        if section in self.places:
            return base + self.places[section] + value
        if section:
            raise Unforeseen("a symbol of no section")
        return _outside(self._name(self.sections[table][6], name))

    def _name(self, table: int, at: int) -> str:
        start = self.sections[table][4] + at
        return self.data[start : self.data.index(b"\0", start)].decode()


def _laid_out(files: Sequence[_File], at: int, protection: int) -> int:
    """Give pages from `at` on to the sections of one protection: code, constants or variables."""
    for file in files:
        for number, (_, _, flags, _, _, size, _, _, align, _) in enumerate(file.sections):
            if flags & _ALLOCATED and size and flags & (_WRITE | _CODE) == protection:
                if align > mmap.PAGESIZE or flags & _THREADS:
                    raise Unforeseen("variables of threads")
                at = -(-at // max(align, 1)) * max(align, 1)
                file.places[number] = at
                at += size
    return -(-at // mmap.PAGESIZE) * mmap.PAGESIZE


def _put(memory: mmap.mmap, base: int, at: int, kind: int, value: int) -> None:
    """Write one address or distance."""
    if kind == _ADDRESS:
        struct.pack_into("<Q", memory, at, value & (1 << 64) - 1)
    elif kind == _FAR:
        struct.pack_into("<q", memory, at, value - base - at)
    elif kind in (_NEAR, _CALL):
        try:
            struct.pack_into("<i", memory, at, value - base - at)
        except struct.error:
            raise Unforeseen("too far away") from None
    else:
        raise Unforeseen(f"relocation {kind}")


@functools.cache
def _outside(name: str) -> int:
    """The address of a function of the process's libraries."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        raise Unforeseen(f"no {name}") from None
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _protect(address: int, size: int, protection: int) -> None:
    if size > 0 and _mprotect()(address, size, protection):
        raise Unforeseen("memory that may not be run")


@functools.cache
def _mprotect() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    found: Callable[[int, int, int], int] = function
    return found
