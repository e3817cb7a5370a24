"""The verifier: types, order and legality of a graph at each stage of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AccelError, VerificationError
from .graph import Graph
from .node import Node
from .op import Op, get_op

__all__ = ["STAGES", "misuse", "verify"]

STAGES = ("recorded", "optimized", "fused", "placed")
TARGETS = ("pure", "torch", "reference")


def verify(graph: Graph, stage: str = "recorded") -> None:
    """Check `graph`, inferring every type again.

    Raises
    ------
    VerificationError
        Naming the node, ten lines of the graph around it, and the user's line.
    """
    seen: set[Node] = set()
    if list(graph.nodes[: len(graph.inputs)]) != list(graph.inputs):
        raise VerificationError("the graph's nodes do not begin with its inputs")
    for node in graph.nodes:
        problem = _problem(node, seen, stage)
        if problem:
            _fail(graph, node, problem, stage)
        seen.add(node)
    for node in graph.outputs:
        if node not in seen:
            raise VerificationError(f"the output {node!r} is no node of the graph")


def misuse(op: Op, inputs: Sequence[Node], attrs: Mapping[str, Any]) -> str | None:
    """What a type rule takes for granted: the number of operands, their common dtype, and
    all attributes."""
    least, most = op.arity
    if len(inputs) < least or (most is not None and len(inputs) > most):
        return f"{len(inputs)} operands"
    if attrs.keys() != op.attrs.keys():
        return f"attributes {', '.join(attrs) or 'none'}; it has {', '.join(op.attrs) or 'none'}"
    if op.promote != "none":
        found = {n.type.dtype.name for n in inputs[op.promote_from :]}
        if len(found) > 1:
            return f"operands of {' and '.join(sorted(found))}, which were not promoted"
    return None


def _problem(node: Node, seen: set[Node], stage: str) -> str | None:
    name = node.op.name
    if get_op(name) is not node.op:
        return f"op {name} is not the registered one"
    for operand in node.inputs:
        if operand not in seen:
            return f"operand {operand!r} stands behind its user"
        if isinstance(operand.type, tuple) and name != "output":
            return "a region is read without `output`"
    wrong = misuse(node.op, node.inputs, node.attrs)
    if wrong:
        return wrong
    try:
        inferred = node.op.infer_type([n.type for n in node.inputs], node.attrs)
    except AccelError as error:
        return f"its type rule fails: {error.message}"
    if inferred != node.type:
        return f"its type is {node.type}, the type rule says {inferred}"
    if name == "region":
        return _region_problem(node, stage)
    inside_regions = stage in ("fused", "placed")
    if inside_regions and name not in ("input", "constant", "output"):
        return f"a {name} outside of every region at stage {stage}"
    return None


def _region_problem(node: Node, stage: str) -> str | None:
    if stage not in ("fused", "placed"):
        return f"a region at stage {stage}"
    target = node.attrs["target"]
    if (stage == "placed") != (target in TARGETS):
        return f"target {target!r} at stage {stage}"
    body: Graph = node.attrs["body"]
    if len(body.inputs) != len(node.inputs):
        return f"{len(node.inputs)} operands for {len(body.inputs)} inputs of its body"
    for outer, inner in zip(node.inputs, body.inputs, strict=True):
        if outer.type != inner.type:
            return f"operand {outer.type} for the body's input {inner.type}"
    verify(body, "optimized")
    return None


def _fail(graph: Graph, node: Node, problem: str, stage: str) -> None:
    lines = str(graph).split("\n")
    place = graph.nodes.index(node) - len(graph.inputs) + 1
    around = "\n".join(
        ("> " if i == place else "  ") + lines[i]
        for i in range(max(0, place - 5), min(len(lines), place + 6))
    )
    raise VerificationError(f"stage {stage}, {node.op.name}: {problem}\n{around}", loc=node.loc)
