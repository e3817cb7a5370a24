"""Expansion: composite ops replaced by what they are made of.

Targets that have a call of their own for a composite (torch) never run this; the pure target
runs it on the regions placed there, and differentiation uses it for ops without a gradient
rule.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from .rewrite import rebuild

__all__ = ["expand"]


def expand(graph: Graph, keep: Callable[[Node], bool] = lambda node: False) -> Graph:
    """`graph` without composites, except those that `keep` asks to leave whole."""

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.op.expand is None or keep(node):
            return None
        new = node.op.expand(b, *inputs, **node.attrs)
        return b.cast(new, node.type.dtype)

    def composite(node: Node) -> bool:
        return node.op.expand is not None and not keep(node)

    while any(map(composite, graph.nodes)):  # an expansion may use other composites
        graph = rebuild(graph, visit)
    return graph
