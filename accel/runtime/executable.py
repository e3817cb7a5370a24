"""Executables: a compiled graph as a short list of steps over numbered slots.

A step is a maximal run of regions of one target. Executables never change, so concurrent
callers share them; every call has its own slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..ir.builder import Builder
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.node import Node
from .statistics import STATISTICS
from .transfer import to_host

__all__ = ["Executable", "Step", "count_ops", "split_runs"]

#: A compiled run: arrays in, arrays out.
Run = Callable[[Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Step:
    """One run: where its operands are, where its results go, what may be dropped after it."""

    target: str
    regions: tuple[Node, ...]
    graph: Graph
    run: Run
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    frees: tuple[int, ...]


def split_runs(placed: Graph) -> list[tuple[str, list[Node]]]:
    """The regions in an order that changes target as rarely as greedy scheduling finds."""
    waiting = [n for n in placed.nodes if n.op.name == "region"]
    runs: list[tuple[str, list[Node]]] = []
    done: set[Node] = set()
    while waiting:
        ready = next(r for r in waiting if _ready(r, done))
        target = ready.attrs["target"]
        members: list[Node] = []
        later: list[Node] = []
        for region in waiting:  # topological order: one sweep takes all that becomes ready
            if region.attrs["target"] == target and _ready(region, done):
                members.append(region)
                done.add(region)
            else:
                later.append(region)
        waiting = later
        runs.append((target, members))
    return runs


def _ready(region: Node, done: set[Node]) -> bool:
    return all(i.op.name != "output" or i.inputs[0] in done for i in region.inputs)


def run_graph_of(members: list[Node], placed: Graph) -> tuple[Graph, list[Node], list[Node]]:
    """The graph of one run, the outer nodes that it reads and those that it gives."""
    inside = set(members)
    reads = [
        n for n in dict.fromkeys(i for r in members for i in r.inputs)
        if n.op.name != "output" or n.inputs[0] not in inside
    ]  # fmt: skip
    outputs = set(placed.outputs)
    gives = [
        n for n in placed.nodes
        if n.op.name == "output" and n.inputs[0] in inside
        and (n in outputs or any(u not in inside for u in placed.users[n]))
    ]  # fmt: skip
    b = Builder()
    value: dict[Node, Node] = {}
    for i, node in enumerate(reads):
        constant = node.op.name == "constant"
        value[node] = b.copy(node, value) if constant else b.input(f"v{i}", node.type, node.loc)
    order = placed.index
    projections = {n for r in members for n in placed.users[r]}
    for node in sorted([*members, *projections], key=order.__getitem__):
        value[node] = b.copy(node, value)
    outer = [n for n in reads if n.op.name != "constant"]
    graph = b.graph([value[n] for n in outer], [value[n] for n in gives])
    return graph, outer, gives


class Executable:
    """A compiled graph: call it with one buffer per graph input.

    Attributes
    ----------
    stages
        The graph at every stage of the pipeline.
    steps
        What a call runs.
    native
        A built-in function that does the same, from one array per graph input as a positional
        argument to a list of fresh arrays; None where a call is more than one native run.
    """

    def __init__(self, stages: Any, compile_run: Callable[[str, Graph], Run]) -> None:
        self.stages = stages
        placed: Graph = stages.placed
        slots: dict[Node, int] = {n: i for i, n in enumerate(placed.inputs)}
        self._constants: list[tuple[int, np.ndarray]] = []
        for node in placed.nodes:
            if node.op.name == "constant":
                slots[node] = len(slots)
                value = evaluate(node.op, (), node.attrs, node.type)
                self._constants.append((slots[node], value))
        parts = []
        for target, members in split_runs(placed):
            graph, reads, gives = run_graph_of(members, placed)
            for node in gives:
                slots[node] = len(slots)
            parts.append((target, members, graph, reads, gives))
        self.steps = self._steps(parts, slots, compile_run)
        self._size = len(slots)
        self._inputs = len(placed.inputs)
        self._outputs = tuple(slots[n] for n in placed.outputs)
        # an output that is an argument, or given twice, must not share its memory
        seen: set[int] = set()
        self._copied = []
        for place, slot in enumerate(self._outputs):
            if slot < self._inputs or slot in seen or self._is_constant(slot):
                self._copied.append(place)
            seen.add(slot)
        self.regions = tuple(r for s in self.steps for r in s.regions)
        self._counts = _counts(self.steps)
        #: What native calls need of the one run, its inputs' places among those of the graph, and
        #: the outputs' places among its own; None where there are more runs.
        self.native_run: Any = self._describe()
        self.native_reads = self.steps[0].reads if self.native_run else ()
        self.native_order = [self.steps[0].writes.index(s) for s in self._outputs
                             ] if self.native_run else []  # fmt: skip
        self.native: Callable[..., list[Any]] | None = None
        if self.native_run:
            self.native = self.native_run.function(self.native_block())

    def _is_constant(self, slot: int) -> bool:
        return any(s == slot for s, _ in self._constants)

    def _steps(
        self, parts: list[Any], slots: dict[Node, int], compile_run: Any
    ) -> tuple[Step, ...]:
        last: dict[int, int] = {}
        for number, (_, _, _, reads, _) in enumerate(parts):
            for node in reads:
                last[slots[node]] = number
        kept = {slots[n] for n in self.stages.placed.outputs}
        steps = []
        for number, (target, members, graph, reads, gives) in enumerate(parts):
            read = tuple(slots[n] for n in reads)
            frees = tuple(s for s in read if last[s] == number and s not in kept)
            write = tuple(slots[n] for n in gives)
            run = compile_run(target, graph)
            steps.append(Step(target, tuple(members), graph, run, read, write, frees))
        return tuple(steps)

    def _describe(self) -> Any:
        """What native calls need: only the pure target has it, and of one run alone."""
        if len(self.steps) != 1 or self._copied:
            return None
        describe = getattr(self.steps[0].run, "native", None)
        return describe() if describe is not None else None

    def native_block(self, **counts: int) -> Any:
        """The words of a native call that counts `counts` as well."""
        (step,) = self.steps
        added = STATISTICS.row({**self._counts, **counts})
        fallback = partial(_run_once, step, self.native_order, self._counts)
        return self.native_run.block(
            self._inputs, step.reads, self.native_order, added, STATISTICS.native, fallback
        )

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        """Run: fresh buffers for the outputs, nothing written into the arguments."""
        if self.native is not None:
            return self.native(*buffers)
        values = self.slots(buffers)
        for step in self.steps:
            results = step.run(self.operands(step, values))
            for slot, result in zip(step.writes, results, strict=True):
                values[slot] = result
            for slot in step.frees:
                values[slot] = None
        STATISTICS.add_all(self._counts)
        outputs = [values[s] for s in self._outputs]
        for place in self._copied:
            outputs[place] = _copy(outputs[place])
        return outputs


    def slots(self, buffers: Sequence[Any]) -> list[Any]:
        """The slots of a new call: the inputs, the constants, room for the rest."""
        values: list[Any] = list(buffers) + [None] * (self._size - self._inputs)
        for slot, array in self._constants:
            values[slot] = array
        return values

    def operands(self, step: Step, values: list[Any]) -> list[Any]:
        """What `step` reads; what torch keeps on a device is brought home where need be."""
        if step.target != "torch":
            for slot in step.reads:
                if not isinstance(values[slot], np.ndarray):
                    values[slot] = to_host(values[slot])
        return [values[slot] for slot in step.reads]


def _run_once(
    step: Step, order: Sequence[int], counts: Mapping[str, int], *buffers: Any
) -> list[Any]:
    """An executable of one step, where its arrays are not as a native call expects them."""
    results = step.run([to_host(buffers[slot]) for slot in step.reads])
    STATISTICS.add_all(counts)
    return [results[place] for place in order]


def _copy(buffer: Any) -> Any:
    """A buffer of its own: NumPy's arrays have `copy`, torch's `clone`."""
    return buffer.copy() if isinstance(buffer, np.ndarray) else buffer.clone()


def count_ops(regions: Sequence[Node]) -> int:
    """How many ops `regions` hold: neither inputs nor constants."""
    return sum(
        n.op.form not in ("structure", "creation")
        for r in regions for n in r.attrs["body"].nodes
    )  # fmt: skip


def _counts(steps: Sequence[Step]) -> dict[str, int]:
    """What one call adds to the statistics."""
    counts = {"pure_count": 0, "torch_count": 0, "pure_ops": 0, "torch_ops": 0,
              "reference_count": 0}  # fmt: skip
    for step in steps:
        ops = count_ops(step.regions)
        kind = "torch" if step.target == "torch" else "pure"
        counts[f"{kind}_count"] += len(step.regions)
        counts[f"{kind}_ops"] += ops
        counts["reference_count"] += len(getattr(step.run, "reference_ops", ()))
    return counts
