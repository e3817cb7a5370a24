"""How a graph is executed: stretches of regions of one target, over numbered slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..ir.builder import Builder
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.node import Node

if TYPE_CHECKING:
    from ..passes.pipeline import Stages

__all__ = ["Outline", "Stretch", "split_runs"]


class Stretch(NamedTuple):
    """A maximal run of regions of one target: its graph, and the slots of its arrays."""

    target: str
    regions: tuple[Node, ...]
    graph: Graph
    reads: tuple[int, ...]
    writes: tuple[int, ...]


class Outline:
    """What a call does with its arrays.

    Parameters
    ----------
    stages
        The graph at every stage of the pipeline.

    Attributes
    ----------
    stretches
        What runs, in this order.
    constants
        Arrays that are in slots from the beginning.
    outputs
        The slots of the results.
    copied
        Which results must not share their memory: arguments, constants, what is given twice.
    size
        How many slots there are; the arguments have the first ones.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        placed = stages.placed
        slots: dict[Node, int] = {n: i for i, n in enumerate(placed.inputs)}
        self.constants: list[tuple[int, np.ndarray]] = []
        for node in placed.nodes:
            if node.op.name == "constant":
                slots[node] = len(slots)
                value = evaluate(node.op, (), node.attrs, node.type)
                self.constants.append((slots[node], value))
        computed = len(slots)
        self.stretches: list[Stretch] = []
        for target, members in split_runs(placed):
            graph, reads, gives = run_graph_of(members, placed)
            for node in gives:
                slots[node] = len(slots)
            places = [tuple([slots[n] for n in nodes]) for nodes in (reads, gives)]
            self.stretches.append(Stretch(target, tuple(members), graph, *places))
        self.size = len(slots)
        self.outputs = tuple([slots[n] for n in placed.outputs])
        given = set(range(computed))
        self.copied: list[int] = []
        for place, slot in enumerate(self.outputs):
            if slot in given:
                self.copied.append(place)
            given.add(slot)


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
