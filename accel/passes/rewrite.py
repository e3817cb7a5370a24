"""Rewriting: every pass that changes nodes rebuilds the graph forward through a Builder."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node

__all__ = ["Visit", "rebuild"]

#: Given the builder, the old node and its new operands: the new node, or None to copy.
Visit = Callable[[Builder, Node, tuple[Node, ...]], "Node | None"]


def rebuild(graph: Graph, visit: Visit) -> Graph:
    """The graph with each node replaced as `visit` says; equal nodes shared, dead ones gone.

    `graph` itself where nothing is replaced, as with most passes over most graphs.
    """
    if not _changes(graph, visit):
        return graph
    b = Builder()
    known: dict[Node, Node] = {}
    for node in graph.inputs:
        known[node] = b.input(node.attrs["name"], node.type, node.loc)
    for node in graph.nodes[len(graph.inputs) :]:
        inputs = tuple([known[i] for i in node.inputs])
        b.loc = node.loc
        new = visit(b, node, inputs)
        if new is None:
            new = b.node(node.op, inputs, node.attrs, node.type, node.loc)
        known[node] = new
    return b.graph([known[n] for n in graph.inputs], [known[n] for n in graph.outputs])


def _changes(graph: Graph, visit: Visit) -> bool:
    """Whether `visit` replaces any node; what it makes on the way is thrown away."""
    b = Builder()
    for node in graph.nodes[len(graph.inputs) :]:
        b.loc = node.loc
        new = visit(b, node, node.inputs)
        if new is not None and new is not node:
            return True
    return False
