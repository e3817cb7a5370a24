"""Dead code: nodes that no output needs. Inputs stay, the caller passes them."""

from __future__ import annotations

from ..ir.graph import Graph

__all__ = ["dead_code"]


def dead_code(graph: Graph) -> Graph:
    """`graph` without nodes that no output needs."""
    return Graph.of(graph.inputs, graph.outputs, graph.nodes)
