"""Object files in memory: ELF for x86-64, as LLVM makes it for code that lies anywhere.

A linker for what our modules hold, which is code, constants and addresses: loading needs no LLVM
then, whose import takes longer than all else before a first result. What has been linked can be
kept, and is then loaded by copying. What is not foreseen here is left to LLVM's own linker.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Image", "Linked", "Unforeseen", "link"]

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


class Linked(NamedTuple):
    """Object files in one piece, lacking only what depends on where it comes to lie.

    Attributes
    ----------
    content
        Code, constants and variables; each of the three begins on a page of its own.
    code, constants
        Where these two end.
    addresses
        Places in it that are to hold an address in it, and the offset of that.
    outside
        Place, kind of relocation, name and addend of what refers to the process's libraries.
    exports
        The offsets of what other modules may name.
    """

    content: bytes
    code: int
    constants: int
    addresses: Sequence[tuple[int, int]]
    outside: Sequence[tuple[int, int, str, int]]
    exports: dict[str, int]

    def packed(self) -> bytes:
        """All of it, as `unpacked` reads it."""
        header = json.dumps(self[1:], separators=(",", ":")).encode()
        return _HEAD.pack(_MARK, len(header)) + header + self.content

    @classmethod
    def unpacked(cls, data: bytes) -> Linked:
        """What `packed` wrote."""
        begin, (_, length) = _HEAD.size, _HEAD.unpack_from(data)
        return cls(data[begin + length :], *json.loads(data[begin : begin + length]))


_MARK = b"linked"
_HEAD = struct.Struct("<8sQ")  # the mark, and the length of what JSON says


def link(objects: Sequence[bytes]) -> Linked:
    """Object files in one piece; what they export must differ in name.

    Raises
    ------
    Unforeseen
        If they hold what is not foreseen.
    """
    files = [_File(data) for data in objects]
    code = _laid_out(files, 0, _CODE)
    constants = _laid_out(files, code, 0)
    content = bytearray(_laid_out(files, constants, _WRITE))
    addresses: list[tuple[int, int]] = []
    outside: list[tuple[int, int, str, int]] = []
    exports: dict[str, int] = {}
    for file in files:
        file.copy(content)
        for place, kind, target, addend in file.relocations():
            if isinstance(target, str):
                outside.append((place, kind, target, addend))
            elif kind == _ADDRESS:
                addresses.append((place, target + addend))
            else:
                _put(content, 0, place, kind, target + addend)
        exports.update(file.exports())
    return Linked(bytes(content), code, constants, addresses, outside, exports)


class Image:
    """Loaded code. Dropping the last reference returns its memory.

    Raises
    ------
    Unforeseen
        If only LLVM can load code here; then nothing has been loaded.
    """

    __slots__ = ("_base", "_exports", "_memory")

    def __init__(self, linked: Linked) -> None:
        if not sys.platform.startswith("linux"):
            raise Unforeseen(sys.platform)
        self._memory = mmap.mmap(
            -1, max(len(linked.content), 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )  # fmt: skip
        self._base = base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._exports = linked.exports
        self._memory[: len(linked.content)] = linked.content
        for place, offset in linked.addresses:
            _put(self._memory, base, place, _ADDRESS, base + offset)
        for place, kind, name, addend in linked.outside:
            _put(self._memory, base, place, kind, _outside(name) + addend)
        _protect(base, linked.code, mmap.PROT_READ | mmap.PROT_EXEC)
        _protect(base + linked.code, linked.constants - linked.code, mmap.PROT_READ)

    def get_function_address(self, name: str) -> int:
        """The address of an exported function; 0 if there is none of this name."""
        offset = self._exports.get(name)
        return 0 if offset is None else self._base + offset


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
        #: Where allocated sections begin, by number.
        self.places: dict[int, int] = {}
        self._tables: dict[int, list[tuple[int, ...]]] = {}

    def copy(self, content: bytearray) -> None:
        """Copy the sections to their places."""
        for number, place in self.places.items():
            _, kind, _, _, offset, size, *_ = self.sections[number]
            if kind != _NO_BITS:
                content[place : place + size] = self.data[offset : offset + size]

    def relocations(self) -> Iterator[tuple[int, int, int | str, int]]:
        """Where something is to be put in, its kind, what it refers to (a place, or a name from
        outside), and what is added to that."""
        for _, kind, _, _, offset, size, table, section, _, _ in self.sections:
            if kind != _RELOCATIONS or section not in self.places:
                continue
            origin, symbols = self.places[section], self._symbols(table)
            targets: dict[int, int | str] = {}
            for where, what, addend in struct.iter_unpack("<QQq", self._bytes(offset, size)):
                number = what >> 32
                if number not in targets:
                    targets[number] = self._target(table, symbols[number])
                yield origin + where, what & 0xFFFFFFFF, targets[number], addend

    def exports(self) -> dict[str, int]:
        """The places of what other modules may name."""
        found = {}
        for table, (_, kind, _, _, _, _, names, *_) in enumerate(self.sections):
            if kind != _SYMBOLS:
                continue
            for name, info, _, section, value, _ in self._symbols(table):
                if info >> 4 != _LOCAL and section in self.places:
                    found[self._name(names, name)] = self.places[section] + value
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

    def _target(self, table: int, symbol: tuple[int, ...]) -> int | str:
        name, _, _, section, value, _ = symbol
        if section in self.places:
            return self.places[section] + value
        if section:
            raise Unforeseen("a symbol of no section")
        return self._name(self.sections[table][6], name)

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


def _put(memory: mmap.mmap | bytearray, base: int, at: int, kind: int, value: int) -> None:
    """Write one address or distance, into memory that lies at `base`."""
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
