"""What a process may use: processors, memory, and the bytes that settings allow.

Control groups bind a process beside what the machine has: a group's limit holds for all groups
below it, and both versions of the interface are read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from ....errors import ArgumentError

__all__ = [
    "MAX_THREADS", "available_memory", "available_processors", "byte_setting", "default_threads",
    "memory_limit", "quota",
]  # fmt: skip

MAX_THREADS = 512

_ROOT = "/sys/fs/cgroup"

Folder = str | os.PathLike[str]


def available_processors() -> int:
    """Processors that this process may use: its affinity mask, and its group's quota."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    share = quota(_ROOT, _read("/proc/self/cgroup"))
    return processors if share is None else max(1, min(processors, int(share)))


@functools.cache
def default_threads() -> int:
    """The number of threads where nobody has set one."""
    asked = os.environ.get("ACCEL_NUM_THREADS", "").strip()
    if not asked:
        return min(MAX_THREADS, available_processors())
    if not asked.isdecimal() or not 1 <= int(asked) <= MAX_THREADS:
        raise ArgumentError(
            f"ACCEL_NUM_THREADS={asked!r} is no number of threads",
            remedy=f"set it to a number from 1 to {MAX_THREADS}, or leave it unset",
        )
    return int(asked)


def available_memory() -> int:
    """Bytes of memory that this process may use: the machine's, and its group's limit."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        physical = 4 << 30
    limit = memory_limit(_ROOT, _read("/proc/self/cgroup"))
    return physical if limit is None else min(physical, limit)


def quota(root: Folder, groups: str) -> float | None:
    """Processors that control groups leave to this process; None where they set no limit.

    `groups` is the text of ``/proc/self/cgroup``.
    """
    found = []
    for folder, unified in _folders(root, groups, "cpu"):
        if unified:
            limit, period = [*_read(os.path.join(folder, "cpu.max")).split(), "", ""][:2]
        else:
            limit = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
            period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
        if limit.isdecimal() and period.isdecimal() and int(period) > 0:
            found.append(int(limit) / int(period))
    return min(found, default=None)


def memory_limit(root: Folder, groups: str) -> int | None:
    """Bytes that control groups leave to this process; None where they set no limit."""
    found = []
    for folder, unified in _folders(root, groups, "memory"):
        name = "memory.max" if unified else "memory.limit_in_bytes"
        limit = _read(os.path.join(folder, name)).strip()
        if limit.isdecimal():
            found.append(int(limit))
    return min(found, default=None)


def _folders(root: Folder, groups: str, controller: str) -> Iterator[tuple[str, bool]]:
    """The folders of a process's groups and of those above; whether of the unified interface."""
    for line in groups.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield from ((folder, True) for folder in _upwards(root, path))
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((controllers, controller)):
                yield from ((folder, False) for folder in _upwards(os.path.join(root, mount), path))


def _upwards(mount: Folder, path: str) -> list[str]:
    """The folders of a group and of those above it."""
    parts = [p for p in path.split("/") if p and p != ".."]
    return [os.path.join(mount, *parts[:depth]) for depth in range(len(parts) + 1)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def byte_setting(variable: str) -> int | None:
    """The bytes that an environment variable allows, such as 64M; None where it is not set.

    Raises
    ------
    ArgumentError
        If its value is no whole number with K, M, G or nothing behind it.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1].upper(), 0)
    digits = text[:-1] if shift else text
    if not (digits.isascii() and digits.isdigit()):
        raise ArgumentError(
            f"{variable}={text!r} is no number of bytes",
            remedy="write a whole number, with K, M or G behind it if you like, such as 64M",
        )
    return int(digits) << shift
