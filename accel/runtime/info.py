"""What accel runs on and what it has done: versions, the machine, counters."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

from . import state
from .statistics import STATISTICS, Snapshot

__all__ = [
    "Info", "cuda_available", "info", "print_stats", "reset_stats", "stats", "torch_available",
    "torch_version",
]  # fmt: skip


# -- torch ------------------------------------------------------------------------------------
def torch_available() -> bool:
    """Whether torch works here. The first call imports it; ``ACCEL_TORCH=0`` hides it."""
    from ..targets import torch as torch_target

    return torch_target.available()


def torch_version() -> str | None:
    """The version of torch; None where it is not available."""
    from ..targets import torch as torch_target

    return torch_target.version()


def cuda_available() -> bool:
    """Whether torch is available and sees a CUDA device."""
    from ..targets import torch as torch_target

    return torch_target.cuda_available()


# -- the library and the machine ----------------------------------------------------------------
class Info(NamedTuple):
    """Versions, machine, settings and caches, as `info` finds them; `str()` is a table.

    Attributes
    ----------
    accel, python, numpy, llvmlite, llvm
        Versions.
    platform, cpu, features
        The machine as Python and LLVM name it, and the vector features that kernels use.
    cores
        Processors that this process may use.
    threads
        Threads that a large kernel may use: see `accel.set_num_threads`.
    mode
        The mode in force.
    kernels, kernel_bytes
        Kernels alive in the process, and the bytes of object code that the cache keeps.
    disk_cache, disk_cache_bytes
        Directory in which machine code is kept for later processes (None: it is not), and the
        bytes of its files.
    torch, cuda
        Version of torch (None: not available) and the names of its CUDA devices.
    """

    accel: str
    python: str
    numpy: str
    llvmlite: str
    llvm: str
    platform: str
    cpu: str
    features: str
    cores: int
    threads: int
    mode: str
    kernels: int
    kernel_bytes: int
    disk_cache: str | None
    disk_cache_bytes: int
    torch: str | None
    cuda: tuple[str, ...]

    def __str__(self) -> str:
        return _table([(name, _shown(value)) for name, value in self._asdict().items()])


def info() -> Info:
    """What accel runs on. Looking for torch imports it where it is installed.

    Examples
    --------
    >>> info().mode
    'pure'
    """
    import llvmlite.binding
    import numpy

    from ..targets import torch as torch_target
    from ..targets.pure import KERNELS
    from ..targets.pure.machine import jit, limits, object_cache, threads

    on_disk = object_cache.shared()
    machine = jit.host_machine()
    return Info(
        accel=sys.modules[__name__.partition(".")[0]].__version__,  # type: ignore[attr-defined]
        python=platform.python_version(),
        numpy=numpy.__version__,
        llvmlite=llvmlite.__version__,
        llvm=".".join(map(str, llvmlite.binding.llvm_version_info)),
        platform=platform.platform(terse=True),
        cpu=machine.cpu,
        features=_features(machine),
        cores=limits.available_processors(),
        threads=threads.get_num_threads(),
        mode=state.current().mode,
        kernels=len(KERNELS),
        kernel_bytes=KERNELS.held_bytes,
        disk_cache=None if on_disk.directory is None else str(on_disk.directory),
        disk_cache_bytes=on_disk.usage()[1],
        torch=torch_target.version(),
        cuda=torch_target.cuda_devices(),
    )


def _features(machine: Any) -> str:
    fused = ", fused multiply-add" if machine.has_fma else ""
    return f"{machine.vector_bytes * 8}-bit vectors{fused}"


# -- counters -----------------------------------------------------------------------------------
def stats() -> Snapshot:
    """What ran where since the start or the last `reset_stats`.

    Examples
    --------
    >>> reset_stats()
    >>> stats().torch_count
    0
    """
    return STATISTICS.snapshot()


def reset_stats() -> None:
    """Set every counter to 0."""
    STATISTICS.reset()


_MEANINGS: Mapping[str, str] = {
    "pure_count": "regions run natively",
    "pure_ops": "ops in them",
    "torch_count": "regions run on torch",
    "torch_ops": "ops in them",
    "reference_count": "ops run on the NumPy reference",
    "fallback_count": "regions taken over from torch",
    "transfers": "values moved between host and device",
    "transfer_bytes": "bytes of them",
    "compiles": "graphs compiled",
    "cache_hits": "graphs found compiled",
    "automatic_evaluations": "evaluations forced by the record limit",
}


def print_stats(file: TextIO | None = None) -> None:
    """Print the counters as a table, to `file` or standard output."""
    counts = stats()._asdict()
    rows = [
        (name, f"{count:>15,}  {_MEANINGS.get(name, '')}".rstrip())
        for name, count in counts.items()
    ]
    print(_table(rows), file=file)


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _shown(value: Any) -> str:
    if value is None:
        return "not available"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
