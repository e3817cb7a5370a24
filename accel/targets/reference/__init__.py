"""The reference target: a NumPy interpreter. It defines what every other target must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...errors import AccelError
from ...ir.evaluate import evaluate, evaluate_joint
from ...ir.graph import Graph
from ...ir.node import Node

__all__ = ["compile_run", "run_graph", "run_joint", "run_node"]


def run_node(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The value of one node; errors carry the user's line."""
    try:
        return evaluate(node.op, arrays, node.attrs, node.type)
    except AccelError as error:
        error.place(node.loc)
        raise


def run_joint(nodes: Sequence[Node], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The values of nodes that are computed together; errors carry the user's line."""
    try:
        return evaluate_joint(nodes, arrays)
    except AccelError as error:
        error.place(nodes[0].loc)
        raise


def run_graph(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph`, at any stage, for `arrays` as its inputs.

    Values are dropped after their last use. Results may share memory with the arguments.
    """
    values: dict[Node, object] = dict(zip(graph.inputs, arrays, strict=True))
    last: dict[Node, int] = {}
    for place, node in enumerate(graph.nodes):
        for operand in node.inputs:
            last[operand] = place
    kept = set(graph.outputs)
    for place, node in enumerate(graph.nodes[len(graph.inputs) :], len(graph.inputs)):
        operands = [values[i] for i in node.inputs]
        if node.op.parts:
            if node not in values:
                together = graph.joint(node)
                values.update(zip(together, run_joint(together, operands), strict=True))  # type: ignore[arg-type]
        elif node.op.name == "region":
            values[node] = run_graph(node.attrs["body"], operands)  # type: ignore[arg-type]
        elif node.op.name == "output":
            values[node] = operands[0][node.attrs["index"]]  # type: ignore[index]
        else:
            values[node] = run_node(node, operands)  # type: ignore[arg-type]
        for operand in node.inputs:
            if last[operand] == place and operand not in kept:
                values.pop(operand, None)
    return [values[n] for n in graph.outputs]  # type: ignore[misc]


def compile_run(run: Graph) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """The interpreter behind the interface of the other targets; results are fresh arrays."""

    def call(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.array(a, order="C") for a in run_graph(run, arrays)]

    return call
