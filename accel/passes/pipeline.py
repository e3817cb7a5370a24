"""The pipeline: THE ordered list of passes, and the manager that runs it.

recorded ── fold, simplify, fold, dead_code ──▶ optimized ── fuse ──▶ fused ── place ──▶ placed
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ArgumentError
from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.op import get_op
from ..ir.verify import verify
from .dead_code import dead_code
from .fold import fold
from .fuse import fuse
from .place import Policy, place
from .simplify import simplify

__all__ = ["PASSES", "OPTIONAL", "Pipeline", "Stages"]

#: Name, function, the stage that the result belongs to.
PASSES: tuple[tuple[str, Callable[..., Graph], str], ...] = (
    ("fold", fold, "optimized"),
    ("simplify", simplify, "optimized"),
    ("fold_again", fold, "optimized"),
    ("dead_code", dead_code, "optimized"),
    ("fuse", fuse, "fused"),
    ("place", place, "placed"),
)

#: What may be switched off: results must not depend on these. Without `fuse` each node is a
#: region of its own.
OPTIONAL = ("fold", "simplify", "fold_again", "dead_code", "fuse")


@dataclass
class Stages:
    """The graph at each stage and the seconds that each pass took."""

    recorded: Graph
    optimized: Graph
    fused: Graph
    placed: Graph
    seconds: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, stage: str) -> Graph:
        if stage not in ("recorded", "optimized", "fused", "placed"):
            raise ArgumentError(
                f"stage {stage!r} is unknown", remedy="use recorded, optimized, fused or placed"
            )
        return getattr(self, stage)


@dataclass(frozen=True)
class Pipeline:
    """Runs the passes; any of `OPTIONAL` can be named in `disabled`; `check` verifies each."""

    policy: Policy
    disabled: frozenset[str] = frozenset()
    check: bool = False
    observe: Callable[[str, Graph], None] | None = None

    def run(self, graph: Graph) -> Stages:
        """All stages of `graph`.

        Raises
        ------
        VerificationError
            With `check`, naming the pass that broke the graph.
        """
        unknown = self.disabled - set(OPTIONAL)
        if unknown:
            raise ArgumentError(
                f"cannot switch off {', '.join(sorted(unknown))}",
                remedy=f"passes that can be switched off: {', '.join(OPTIONAL)}",
            )
        results = {"recorded": graph}
        seconds: dict[str, float] = {}
        if self.check:
            verify(graph, "recorded")
        for name, function, stage in PASSES:
            begin = time.perf_counter()
            if name == "place":
                graph = place(graph, self.policy)
            elif name not in self.disabled:
                graph = function(graph)
            elif name == "fuse":
                graph = separate(graph)
            seconds[name] = time.perf_counter() - begin
            results[stage] = graph
            if self.check:
                verify(graph, stage)
            if self.observe is not None:
                self.observe(name, graph)
        return Stages(**results, seconds=seconds)


def separate(graph: Graph) -> Graph:
    """Every node a region of its own: the pipeline without fusion."""
    b = Builder()
    value = {n: b.input(n.attrs["name"], n.type, n.loc) for n in graph.inputs}
    for number, node in enumerate(graph.nodes[len(graph.inputs) :]):
        if node.op.name == "constant":
            value[node] = b.copy(node, value)
            continue
        body = Builder()
        operands = tuple(dict.fromkeys(node.inputs))
        local = {n: body.input(f"v{i}", n.type, n.loc) for i, n in enumerate(operands)}
        result = body.copy(node, local)
        inner = body.graph([local[n] for n in operands], [result])
        attrs = {"body": inner, "name": f"r{number}", "target": None, "reason": ""}
        region = b.node(get_op("region"), tuple(value[n] for n in operands), attrs, loc=node.loc)
        value[node] = b.node(get_op("output"), (region,), {"index": 0}, node.type, node.loc)
    return b.graph([value[n] for n in graph.inputs], [value[n] for n in graph.outputs])
