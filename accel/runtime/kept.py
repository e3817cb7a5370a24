"""Executables on disk: what a recorded graph became, where a call of it is one native run.

The passes and the lowering take longer than tracing. So what they found out of a call is kept,
under a hash of the recorded graph and of all else on which they depend: the passes switched off,
the machine, the sources of the compiler. A later process that records the same graph does neither.
Who looks inside then (stages, `explain`, a profile, the line of an error) has it done.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..ir.graph import Graph
from ..ir.types import TensorType
from ..targets.pure import PureRun, programs
from ..targets.pure.machine import object_cache
from .executable import Executable, Findings, OneRun
from .state import State

__all__ = ["Kept", "executable", "find", "keep", "key_of", "types_of"]


class Kept(NamedTuple):
    """What is kept: the key of the run's program, and how a call uses the run."""

    program: str
    one: OneRun


def key_of(graph: Graph, state: State) -> str | None:
    """The key of what `graph` becomes in mode pure; None where it is not kept."""
    return programs.key_of(graph, f"executable {sorted(state.disabled_passes)}")


def find(key: str) -> Kept | None:
    """What is kept under `key`."""
    data = object_cache.shared().get(key)
    if data is None:
        return None
    program, reads, order, counts = json.loads(data)
    return Kept(program, OneRun(tuple(reads), tuple(order), counts))


def keep(key: str, made: Executable) -> None:
    """Leave an executable for later processes, where a call of it is one native run."""
    if made.native_run is not None and made.one is not None and made.runs[0].key is not None:
        content = [made.runs[0].key, *made.one]
        object_cache.shared().put(key, json.dumps(content, separators=(",", ":")).encode())


def executable(graph: Graph, found: Kept, outline: Findings) -> Executable:
    """The executable of `graph`, of which all that a call needs is on disk."""
    inputs, outputs = types_of(graph, found.one)
    run = PureRun(inputs, outputs, lambda: outline().stretches[0].graph, key=found.program)
    return Executable(len(graph.inputs), outline, [run], found.one)


def types_of(graph: Graph, one: OneRun) -> tuple[list[TensorType], list[TensorType]]:
    """The types of the inputs and outputs of the run that is a call of `graph`."""
    outputs = dict(zip(one.order, [n.type for n in graph.outputs], strict=True))
    inputs = [graph.inputs[place].type for place in one.reads]
    return inputs, [outputs[place] for place in range(len(outputs))]
