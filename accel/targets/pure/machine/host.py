"""The machine that code is made for, and LLVM's names and settings for it.

llvmlite is imported on first use, which processes that find all code on disk never come to: how
LLVM sees the host is kept there too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import os
import platform
from typing import Any, NamedTuple

from .... import forking
from ....errors import ArgumentError
from . import object_cache

__all__ = [
    "CODE_GENERATOR", "LEVELS", "Machine", "binding", "host_machine", "machine_for_level",
    "new_target_machine",
]  # fmt: skip

#: What LLVM's code generator is asked for. Its higher levels schedule instructions once more when
#: registers have been given out and copy small blocks: a tenth more time, and kernels whose text
#: has explicit vectors run no faster.
CODE_GENERATOR = {"opt": 1, "codemodel": "jitdefault", "jit": True}

#: On x86 LLVM puts two branches around each division of 64 bits, for operands of 32: more code
#: to make, and nothing gained on processors of these days.
_TUNING = {"x86_64": "-idivq-to-divl"}

#: What `/proc/cpuinfo` says of a processor that is so whenever one looks.
_NAMING = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features", "isa")


class Machine(NamedTuple):
    """What machine code is made for.

    Attributes
    ----------
    triple, cpu, features
        As LLVM names them; `features` is the comma-separated list behind ``-mattr``.
    vector_bytes
        Bytes of the widest vector register: 64 (AVX-512), 32 (AVX2) or 16 (SSE2, NEON).
    has_fma
        Whether a fused multiply-add is one instruction; without, `llvm.fma` is a slow call.
    llvm
        The version that generates code; the one at hand unless given.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    has_fma: bool
    llvm: str = ""

    @property
    def has_masks(self) -> bool:
        """Whether masked vector loads and stores cost no more than plain ones."""
        return self.vector_bytes == 64

    @property
    def has_pairs(self) -> bool:
        """Whether an instruction multiplies pairs of bfloat16 and adds them to float32."""
        return self.has_masks and "+avx512bf16" in self.features.split(",")

    @property
    def instructions(self) -> str:
        """The set that holds vector instructions which LLVM has no portable word for: ``avx512``,
        ``avx2``, ``neon``, or none."""
        if "x86_64" in self.triple:
            return {64: "avx512", 32: "avx2"}.get(self.vector_bytes, "")
        return "neon" if self.triple.startswith("aarch64") else ""

    @property
    def fingerprint(self) -> str:
        """A short hash of everything on which generated code depends."""
        version = self.llvm or str(binding().llvm_version_info)
        parts = (self.triple, self.cpu, self.features, version, str(CODE_GENERATOR), str(_TUNING))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def lanes(self, element_bytes: int) -> int:
        """Elements of `element_bytes` bytes in one vector register."""
        return max(1, self.vector_bytes // element_bytes)


# x86 levels that ACCEL_CPU_FEATURES may ask for: LLVM's CPU name, vector bytes, fma.
LEVELS = {
    "avx512": ("x86-64-v4", 64, True),
    "avx2": ("x86-64-v3", 32, True),
    "sse2": ("x86-64", 16, False),
    "baseline": ("x86-64", 16, False),
}


@functools.cache
def binding() -> Any:
    """llvmlite's binding with the native target initialised."""
    with forking.unforked():
        import llvmlite.binding as llvm
        from llvmlite.binding import ffi

    lock = getattr(ffi.lib, "_lock", None)  # not part of llvmlite's interface
    if lock is not None:
        forking.held_while_forking(lock)
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
    if not level:
        return _host()
    llvm = binding()
    triple = llvm.get_process_triple()
    features: dict[str, bool] = dict(llvm.get_host_cpu_features())
    if level not in LEVELS:
        raise ArgumentError(
            f"ACCEL_CPU_FEATURES={level!r} is not a known level",
            remedy=f"use one of {', '.join(LEVELS)}, or leave it unset",
        )
    cpu, vector_bytes, fma = LEVELS[level]
    if not triple.startswith("x86_64") or vector_bytes > _capabilities(triple, features)[0]:
        raise ArgumentError(
            f"ACCEL_CPU_FEATURES={level!r} asks for instructions that this CPU "
            f"({llvm.get_host_cpu_name()}) lacks",
            remedy="choose a lower level or leave it unset",
        )
    return Machine(triple, cpu, "", vector_bytes, fma)


def _host() -> Machine:
    """The host as LLVM sees it, from disk where an earlier process asked LLVM."""
    identity, disk = _identity(), object_cache.shared()
    key = object_cache.entry_key(f"host {identity}", "")
    data = disk.get(key) if identity else None
    if data is not None:
        return Machine(*json.loads(data))
    llvm = binding()
    triple, features = llvm.get_process_triple(), dict(llvm.get_host_cpu_features())
    flat = ",".join(("+" if on else "-") + f for f, on in sorted(features.items()))
    machine = Machine(
        triple, llvm.get_host_cpu_name(), flat, *_capabilities(triple, features),
        str(llvm.llvm_version_info),
    )  # fmt: skip
    if identity:
        disk.put(key, json.dumps(machine).encode())
    return machine


def _identity() -> str:
    """What tells this processor and this LLVM from others; empty where nothing does."""
    found = importlib.util.find_spec("llvmlite")
    if found is None or not found.submodule_search_locations:
        return ""
    library = os.path.join(found.submodule_search_locations[0], "binding", "libllvmlite.so")
    try:
        status = os.stat(library)
        with open("/proc/cpuinfo", encoding="utf-8") as processors:
            lines = list(itertools.takewhile(str.strip, processors))
    except OSError:
        return ""
    named = [line for line in lines if line.startswith(_NAMING)]
    return "".join([platform.machine(), *named, f"{status.st_size} {status.st_mtime_ns}"])


def _capabilities(triple: str, features: dict[str, bool]) -> tuple[int, bool]:
    """(bytes of a vector register, fused multiply-add) of a host."""
    if not triple.startswith("x86_64"):
        return 16, True
    fma = features.get("fma", False)
    if fma and all(features.get(f"avx512{part}", False) for part in ("f", "bw", "dq", "vl")):
        return 64, True
    wide = fma and features.get("avx2", False) and features.get("f16c", False)
    return (32, True) if wide else (16, fma)


def new_target_machine(machine: Machine, soon: bool = False) -> Any:
    """LLVM's code generator for a machine, for one thread at a time; engines consume theirs.

    Where code is wanted `soon`, it takes a quarter of the time, and the code several times as
    long. It must have no vectors: of those LLVM cannot make any code so.
    """
    llvm = binding()
    asked = {**CODE_GENERATOR, "opt": 0} if soon else CODE_GENERATOR
    tuning = _TUNING.get(machine.triple.partition("-")[0], "")
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=",".join(filter(None, [machine.features, tuning])), **asked
    )
