"""Placement: a target for every region, by minimum cut.

In `auto` mode the regions form a flow network between two terminals. A region at or above
its threshold is tied to torch; a smaller one is drawn to pure by the time that it saves
there; values that would cross between targets draw their producer and readers together by
the time of the transfer. The cheapest cut between the terminals is the placement. A compile
for a single target needs none of this and does not import networkx.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..ir.builder import Builder
from ..ir.dataclass import dataclass
from ..ir.graph import Graph
from ..ir.node import Node
from .rewrite import rebuild

__all__ = ["Decision", "Policy", "Weight", "heaviest", "inner_extent", "place"]

#: The categories that decide; movement, creation and random numbers never do.
DECIDING = ("matmul", "conv", "elementwise", "activation", "reduction")


class Weight(NamedTuple):
    """What decides about a region: its heaviest op, the category, and its size."""

    op: str
    category: str
    size: int
    shape: tuple[int, ...]
    ops: int


class Decision(NamedTuple):
    """Where a region goes and why, as `explain` and the decision log tell it."""

    target: str
    reason: str


@dataclass(frozen=True)
class Policy:
    """What placement must know of the settings and the targets.

    Parameters
    ----------
    target
        The one target of all regions, or None for placement by size.
    why
        The reason to give when there is one target.
    thresholds
        Elements at and above which a category belongs on torch; None: no pull of its own.
    overhead_ns
        What one op costs more on torch than in a fused native kernel.
    transfer_ns
        Fixed cost of one value that crosses.
    byte_ns
        Cost of each byte that crosses: 0 on the CPU, where torch reads our buffers.
    """

    target: str | None = "pure"
    why: str = "mode pure"
    thresholds: Mapping[str, int | None] = None  # type: ignore[assignment]
    overhead_ns: int = 3_000
    transfer_ns: int = 2_000
    byte_ns: float = 0.0


def heaviest(body: Graph) -> Weight:
    """The op of a region that decides about it: the one with the most work."""
    best = Weight("movement", "movement", 0, (), 0)
    most = -1.0
    ops = 0
    for node in body.nodes:
        if node.op.form in ("structure", "creation"):
            continue
        ops += 1
        if node.op.category not in DECIDING:
            continue
        types = [node.type, *(i.type for i in node.inputs)]
        largest = max(types, key=lambda t: t.size)
        work = node.op.cost * largest.size * inner_extent(node)
        if work > most:
            most = work
            best = Weight(node.op.name, node.op.category, largest.size, largest.shape, 0)
    return Weight(best.op, best.category, best.size, best.shape, ops)


def inner_extent(node: Node) -> int:
    """Multiply-adds per result element of a product."""
    if node.op.category == "conv":
        weight = node if node.op.name == "convolution_weight_gradient" else node.inputs[1]
        return max(math.prod(weight.type.shape[1:]), 1)
    if node.op.category != "matmul":
        return 1
    shape = node.inputs[0].type.shape
    return max(shape[-1], 1) if shape else 1


def place(graph: Graph, policy: Policy) -> Graph:
    """`graph` with a target and a reason written into each region."""
    regions = [n for n in graph.nodes if n.op.name == "region"]
    if policy.target is not None:
        chosen = {r: Decision(policy.target, policy.why) for r in regions}
    else:
        chosen = _by_size(graph, regions, policy)
    named = {r.attrs["name"]: d for r, d in chosen.items()}

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.op.name != "region":
            return None
        decision = named[node.attrs["name"]]
        attrs = {**node.attrs, "target": decision.target, "reason": decision.reason}
        return b.node(node.op, inputs, attrs, node.type, node.loc)

    return rebuild(graph, visit)


def _by_size(graph: Graph, regions: list[Node], policy: Policy) -> dict[Node, Decision]:
    weights = {r: heaviest(r.attrs["body"]) for r in regions}
    firm = {r for r in regions if _is_firm(weights[r], policy)}
    if not firm:  # nothing pulls to torch
        return {r: Decision("pure", _below(weights[r], policy)) for r in regions}
    on_torch = _cut(graph, regions, weights, firm, policy)
    result = {}
    for region in regions:
        weight = weights[region]
        limit = policy.thresholds.get(weight.category)
        if region in firm:
            reason = f"{weight.size:,} >= {limit:,}"
        elif region in on_torch:
            reason = f"{_below(weight, policy)}, but its neighbours are on torch"
        else:
            reason = _below(weight, policy)
        result[region] = Decision("torch" if region in on_torch else "pure", reason)
    return result


def _is_firm(weight: Weight, policy: Policy) -> bool:
    limit = policy.thresholds.get(weight.category)
    return limit is not None and weight.size >= limit


def _below(weight: Weight, policy: Policy) -> str:
    if weight.category not in DECIDING:
        return "movement only"
    limit = policy.thresholds.get(weight.category)
    return f"{weight.category} never" if limit is None else f"{weight.size:,} < {limit:,}"


def _cut(
    graph: Graph, regions: list[Node], weights: dict[Node, Weight], firm: set[Node], policy: Policy
) -> set[Node]:
    """The regions on torch's side of the minimum cut."""
    import networkx

    flow: Any = networkx.DiGraph()
    flow.add_node("pure")
    flow.add_node("torch")
    for region in regions:
        if region in firm:
            flow.add_edge(region, "torch")  # no capacity: never cut
        else:
            # `never` means no pull of its own, but a tie goes to pure
            weight = weights[region]
            pull = 1
            if policy.thresholds.get(weight.category) is not None:
                pull += weight.ops * policy.overhead_ns
            flow.add_edge("pure", region, capacity=pull)
    for node in graph.nodes:
        if node.op.name not in ("output", "input"):
            continue
        cost = policy.transfer_ns + int(policy.byte_ns * node.type.nbytes)
        producer = "pure" if node.op.name == "input" else node.inputs[0]
        readers = [u for u in graph.users[node] if u.op.name == "region"]
        if producer == "pure" and not policy.byte_ns:
            continue  # arguments cross without a copy
        if readers:
            there, back = ("to torch", node), ("to pure", node)
            flow.add_edge(producer, there, capacity=cost)
            flow.add_edge(back, producer, capacity=cost)
            for reader in readers:
                flow.add_edge(there, reader)
                flow.add_edge(reader, back)
    _, (_, sink) = networkx.minimum_cut(flow, "pure", "torch")
    return {r for r in regions if r in sink}
