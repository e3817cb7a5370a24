"""Programs: what a run executes, but for addresses, and their form on disk.

Lowering a run and writing its kernels takes longer than loading them. So the program is kept
beside the machine code, under a key that covers everything on which it depends: the graph's text,
the inputs' layouts, the machine, and the sources of the compiler itself. It names its kernels;
where all of them are found as well, nothing is lowered.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...ir.dtypes import to_dtype
from ...ir.graph import Graph
from ...ir.ops import BUILT_IN
from .machine import object_cache
from .machine.jit import host_machine
from .machine.kernels import KERNELS, Address, Kernel

__all__ = ["Entry", "Interlude", "Layouts", "Program", "decoded", "encoded", "find", "keep",
           "key_of"]  # fmt: skip

#: For every input its strides in elements, or None where it is C-contiguous.
Layouts = tuple["tuple[int, ...] | None", ...]

#: Bytes of constants up to which a program is kept.
_CONSTANTS_KEPT = 1 << 20


class Entry(NamedTuple):
    """One record of a native program.

    Attributes
    ----------
    kernel
        Where its kernel begins.
    arguments
        The kernel's argument block, in which other kernels' addresses may occur.
    items
        How many work items it has.
    grain
        Work items of a part; 0 where one call does all of them.
    work
        How long it takes, in multiply-adds.
    """

    kernel: Address
    arguments: tuple[int, ...]
    items: int
    grain: int
    work: int


class Interlude(NamedTuple):
    """An op that runs on the NumPy reference, between native kernels."""

    op: str
    run: Callable[[Sequence[np.ndarray]], None]


class Program(NamedTuple):
    """What a call executes.

    Attributes
    ----------
    arena_bytes
        Memory for intermediates.
    constants
        Arrays that kernels read.
    kernels
        Symbol and key of every kernel.
    segments
        Stretches of native kernels, and what runs on the reference between them.
    prepared
        Native kernels that run once, before the first call: they fill constants from the inputs
        that are always the same.
    """

    arena_bytes: int
    constants: tuple[np.ndarray, ...]
    kernels: tuple[tuple[str, str], ...]
    segments: tuple[tuple[Entry, ...] | Interlude, ...]
    prepared: tuple[Entry, ...] = ()


# -- on disk ------------------------------------------------------------------------------
def key_of(run: Graph, what: object) -> str | None:
    """The key of what is made of `run` and `what`; None where nothing is kept, or `run` does not
    say all on which that depends."""
    if object_cache.shared().directory is None or not _can_be_kept(run):
        return None
    described = f"{what}\n{run.text(lines=False)}"
    return object_cache.described_key(described, host_machine().fingerprint)


def find(key: str) -> tuple[Program, list[Kernel]] | None:
    """A program and its kernels; None unless all of them are kept."""
    data = object_cache.shared().get(key)
    if data is None:
        return None
    content = json.loads(data)
    kernels = KERNELS.find([(name, key) for name, key in content["kernels"]])
    return None if kernels is None else (decoded(content, kernels), kernels)


def keep(key: str, program: Program) -> bool:
    """Leave a program for later processes; whether it can be."""
    content = encoded(program)
    if content is None:
        return False
    object_cache.shared().put(key, json.dumps(content, separators=(",", ":")).encode())
    KERNELS.keep_together(program.kernels)
    return True


def _can_be_kept(run: Graph) -> bool:
    """Whether `run` says all that its program depends on, and briefly: its ops are accel's own,
    and its constants few enough to be written down."""
    nodes = list(run.nodes)
    for node in nodes:  # grows as it goes
        nodes += [n for v in node.attrs.values() if isinstance(v, Graph) for n in v.nodes]
    if any(n.op.name not in BUILT_IN for n in nodes):
        return False
    return sum([n.type.nbytes for n in nodes if n.op.name == "constant"]) <= _CONSTANTS_KEPT


def encoded(program: Program) -> dict[str, Any] | None:
    """A program in JSON's terms; None for one that depends on more than is kept.

    Addresses become numbers of kernels, listed with their places in the argument block.
    """
    if program.prepared:  # it holds copies of arrays of this process
        return None
    number = {name: k for k, (name, _) in enumerate(program.kernels)}
    segments = []
    for segment in program.segments:
        if isinstance(segment, Interlude):
            return None
        rows = []
        for e in segment:
            links = [(k, a) for k, a in enumerate(e.arguments) if isinstance(a, Address)]
            block = list(map(int, e.arguments))
            for k, _ in links:
                block[k] = 0
            named = [(k, number[a.symbol]) for k, a in links]
            rows.append([number[e.kernel.symbol], block, named, e.items, e.grain, e.work])
        segments.append(rows)
    constants = [
        [to_dtype(a.dtype).name, a.shape, base64.b64encode(a.tobytes()).decode()]
        for a in program.constants
    ]
    return {"arena": program.arena_bytes, "constants": constants, "kernels": program.kernels,
            "segments": segments}  # fmt: skip


def decoded(content: dict[str, Any], kernels: Sequence[Kernel]) -> Program:
    """The program that `encoded` wrote, for its kernels where they lie now."""
    segments = []
    for rows in content["segments"]:
        entries = []
        for kernel, block, links, items, grain, work in rows:
            for place, linked in links:
                block[place] = kernels[linked].address
            entries.append(Entry(kernels[kernel].address, tuple(block), items, grain, work))
        segments.append(tuple(entries))
    constants = []
    for name, shape, data in content["constants"]:
        array = np.frombuffer(bytearray(base64.b64decode(data)), to_dtype(name).numpy)
        constants.append(array.reshape(shape))
    names = tuple([(k.name, k.key) for k in kernels])
    return Program(content["arena"], tuple(constants), names, tuple(segments))
