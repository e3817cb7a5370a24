"""Placement: a target for every region."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from .rewrite import rebuild

__all__ = ["Decision", "place"]

#: Given a fused graph: target and reason for each region by name.
Decision = Callable[[Graph], dict[str, tuple[str, str]]]


def place(graph: Graph, decide: Decision) -> Graph:
    """`graph` with `decide`'s target and reason written into each region."""
    chosen = decide(graph)

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.op.name != "region":
            return None
        target, reason = chosen[node.attrs["name"]]
        attrs = {**node.attrs, "target": target, "reason": reason}
        return b.node(node.op, inputs, attrs, node.type, node.loc)

    return rebuild(graph, visit)
