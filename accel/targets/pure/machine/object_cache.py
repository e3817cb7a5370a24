"""Machine code on disk: object files by content, found again by later processes.

One file an entry, named by its key: a hash of the kernel's LLVM IR and of everything else on
which its code depends. Programs, which say how kernels are called, lie beside it. A file is
written aside and renamed, so readers see all of it or nothing. It begins with the key, the length
and a checksum of the content, and what does not fit them is passed over and written anew.

Whoever can write here decides what this process executes. So the directory must belong to the
user, be no link and be closed to other writers, and the same holds for every file; on any
doubt code stays in memory, with one warning on the logger ``accel``. Settings, read once:

``ACCEL_CACHE=0``
    No disk cache.
``ACCEL_CACHE_DIR``
    The directory, in place of the user's cache directory.
``ACCEL_CACHE_SIZE``
    Bytes to keep, such as ``500000`` or ``64M``; 256 MiB unless set.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import struct
import sys
import time
from typing import TYPE_CHECKING

from .... import forking
from ....log import logger
from .limits import byte_setting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path  # takes longer to import than most files take to read

__all__ = ["DEFAULT_BYTES", "ObjectCache", "described_key", "entry_key", "shared"]

DEFAULT_BYTES = 256 << 20

#: What an entry begins with: magic, key, length of the code, SHA-256 of the code.
_HEADER = struct.Struct("<8s32sQ32s")
_MAGIC = b"accelo\x00\x01"

_SUFFIX, _UNFINISHED = ".object", ".part"

#: Accel's own folder.
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))

#: Seconds after which an unfinished file is taken for the remains of a process that died.
_ABANDONED = 3600.0

#: Seconds for which an entry's time of last use stays as it is.
_SETTLED = 600.0

#: Flags that not every system has: follow no link, do not wait for a pipe, no text mode.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def entry_key(text: str, fingerprint: str) -> str:
    """The key of the code of an LLVM module.

    Parameters
    ----------
    text
        The module's IR, as it is compiled.
    fingerprint
        A hash of the machine and the LLVM that code is generated for and with.
    """
    version = sys.modules[__name__.partition(".")[0]].__version__  # type: ignore[attr-defined]
    parts = (_MAGIC.hex(), version, fingerprint, text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def described_key(description: str, fingerprint: str) -> str:
    """The key of what accel makes of a description: it changes with accel's own sources too.

    Parameters
    ----------
    description
        All else on which the content depends.
    fingerprint
        As for `entry_key`.
    """
    return entry_key(f"{_sources(_ROOT)}\0{description}", fingerprint)


@functools.cache
def _sources(root: str | Path) -> str:
    """A hash of the sources below `root` that make code, as files, and of what they run on."""
    import numpy

    found: list[object] = [sys.version, numpy.__version__]
    for place in ("ir", "passes", "runtime", "targets/pure"):
        for folder, _, names in os.walk(os.path.join(root, place)):
            below = os.path.relpath(folder, root)
            for name in names:
                if name.endswith(".py"):
                    with contextlib.suppress(OSError):
                        status = os.stat(os.path.join(folder, name))
                        found.append((below, name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(found, key=repr)).encode()).hexdigest()


class ObjectCache:
    """Object files in a directory, the least recently used removed beyond a bound.

    Safe under concurrent threads and processes. Nothing here raises for the state of the disk:
    what cannot be read is not there, and what cannot be written is not kept.

    Parameters
    ----------
    directory
        Where the files lie; made on first use. None: nothing is kept.
    max_bytes
        About how many bytes of files to keep.

    Attributes
    ----------
    directory
        As given; None from the moment at which it proves to be unfit.
    hits, misses
        Entries found, and entries looked for in vain.
    bytes_read, bytes_written
        Bytes of the files of entries found and stored.

    Examples
    --------
    >>> import tempfile
    >>> cache = ObjectCache(os.path.join(tempfile.mkdtemp(), "objects"))
    >>> key = entry_key("define void @f() { ret void }", "a machine")
    >>> cache.get(key) is None
    True
    >>> cache.put(key, b"code")
    >>> cache.get(key)
    b'code'
    >>> cache.clear()
    """

    def __init__(self, directory: str | Path | None, max_bytes: int = DEFAULT_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self.bytes_read = self.bytes_written = 0
        self._lock = forking.lock()

    def get(self, key: str) -> bytes | None:
        """The code stored under `key`; None if there is none or its file is damaged."""
        found = self.get_all([key])
        return found[0] if found else None

    def get_all(self, keys: Iterable[str], counted: bool = True) -> list[bytes] | None:
        """The code stored under each of `keys`; None unless all of it is there.

        What is not `counted` adds neither to hits and misses nor to the bytes read.
        """
        directory = self._usable()
        if directory is None:
            return None
        found: list[bytes] = []
        for key in keys:
            path = os.path.join(directory, key + _SUFFIX)
            content, used = _read(path)
            code = _unpacked(key, content)
            if code is None:
                with self._lock:
                    self.misses += counted
                return None
            if used < time.time() - _SETTLED:  # by their times entries are removed
                with contextlib.suppress(OSError):
                    os.utime(path)
            with self._lock:
                self.hits += counted
                self.bytes_read += len(content) * counted
            found.append(code)
        return found

    def holds(self, key: str) -> bool:
        """Whether there is an entry under `key`; its file may be damaged."""
        directory = self._usable()
        return directory is not None and os.path.exists(os.path.join(directory, key + _SUFFIX))

    def put(self, key: str, code: bytes) -> None:
        """Store `code` under `key`, in place of what is there."""
        directory = self._usable()
        content = _packed(key, code)
        if directory is None or len(content) > self.max_bytes:
            return
        try:
            _write(os.path.join(directory, key), content)
        except OSError as error:
            self._give_up(f"cannot be written: {error.strerror}")
            return
        with self._lock:
            self.bytes_written += len(content)
        # Looking through the directory is linear in its entries. Keys are random numbers: they
        # choose one store in so many, on average one look per `slack` bytes of all processes.
        slack = self.max_bytes // 64
        if int(key[:8], 16) * slack <= len(content) << 32:
            self._trim(self.max_bytes)

    def usage(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        sizes = [size for _, size, _ in self._entries()]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Remove every entry; processes that have loaded its code keep running it."""
        self._trim(0)

    # -- the directory ----------------------------------------------------------------------
    def _usable(self) -> str | Path | None:
        """The directory, made and checked anew: it may change while the process lives."""
        if self.directory is not None:
            reason = _unfit(self.directory)
            if reason:
                self._give_up(reason)
        return self.directory

    def _give_up(self, reason: str) -> None:
        """Keep nothing from now on, and say so once."""
        with self._lock:
            directory, self.directory = self.directory, None
        if directory is not None:
            logger().warning(
                "[accel] machine code is not kept for later processes: %s %s "
                "(ACCEL_CACHE_DIR names another directory, ACCEL_CACHE=0 stops this warning)",
                directory, reason,
            )  # fmt: skip

    def _entries(self) -> list[tuple[int, int, str]]:
        """(time of last use, bytes, path) of every entry; abandoned files are removed."""
        found: list[tuple[int, int, str]] = []
        if self.directory is None:
            return found
        old = time.time() - _ABANDONED
        with contextlib.suppress(OSError), os.scandir(self.directory) as files:
            for file in files:
                with contextlib.suppress(OSError):  # another process may have removed it
                    status = file.stat(follow_symlinks=False)
                    if file.name.endswith(_SUFFIX):
                        found.append((status.st_mtime_ns, status.st_size, file.path))
                    elif file.name.endswith(_UNFINISHED) and status.st_mtime < old:
                        os.unlink(file.path)
        return found

    def _trim(self, max_bytes: int) -> None:
        """Remove the least recently used entries where there are more than `max_bytes`."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        if total <= max_bytes:
            return
        # Somewhat more than needed, so that the next entries find room.
        for _, size, path in entries:
            if total <= max_bytes - max_bytes // 16:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


# -- files ------------------------------------------------------------------------------------
def _unfit(directory: str | Path) -> str:
    """Why code must not be kept in `directory`, which is made if need be; empty if it may."""
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        status = os.lstat(directory)
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if not _own(status):
        return "belongs to another user, or others may write to it"
    if not (status.st_mode & stat.S_IWUSR and os.access(directory, os.W_OK | os.X_OK)):
        return "is not writable"
    return ""


def _own(status: os.stat_result) -> bool:
    """Whether a file or directory is this user's, and nobody else may write to it."""
    if not hasattr(os, "geteuid"):  # Windows: the user's directories are closed by default
        return True
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others


def _read(path: str) -> tuple[bytes, float]:
    """The content of a file of this user, empty if there is none, and its time."""
    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return b"", 0
    try:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) and _own(status)):
            return b"", 0
        content = os.read(descriptor, status.st_size)
        return (content if len(content) == status.st_size else b""), status.st_mtime
    except OSError:
        return b"", 0
    finally:
        os.close(descriptor)


def _write(stem: str, content: bytes) -> None:
    """Make or replace an entry's file, whole or not at all."""
    part = f"{stem}.{os.urandom(8).hex()}{_UNFINISHED}"
    try:
        with open(os.open(part, _CREATE, 0o600), "wb") as file:
            file.write(content)
        os.replace(part, stem + _SUFFIX)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _packed(key: str, code: bytes) -> bytes:
    digest = hashlib.sha256(code).digest()
    return _HEADER.pack(_MAGIC, bytes.fromhex(key), len(code), digest) + code


def _unpacked(key: str, content: bytes) -> bytes | None:
    """The code of an entry; None unless it is whole and was stored under `key`."""
    if len(content) < _HEADER.size:
        return None
    code = content[_HEADER.size :]
    return code if _packed(key, code) == content else None


# -- the process's cache ------------------------------------------------------------------------
_LOCK = forking.lock()


def shared() -> ObjectCache:
    """The cache that the environment asks for.

    Raises
    ------
    ArgumentError
        If ``ACCEL_CACHE_SIZE`` is no number of bytes.
    """
    with _LOCK:  # two would count, and warn, apart
        return _shared()


@functools.cache
def _shared() -> ObjectCache:
    size = byte_setting("ACCEL_CACHE_SIZE")
    if os.environ.get("ACCEL_CACHE", "") == "0" or size == 0:
        return ObjectCache(None)
    return ObjectCache(_directory(), DEFAULT_BYTES if size is None else size)


def _directory() -> str:
    chosen = os.environ.get("ACCEL_CACHE_DIR", "")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    with forking.unforked():
        import platformdirs

    return platformdirs.user_cache_dir("accel", appauthor=False)
