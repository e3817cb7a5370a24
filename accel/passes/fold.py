"""Constant folding: scalar work on constants is done once, by the ops' own references.

So is what is made of no elements at all: a sum of an array of shape (2**40, 0) walks no rows.
"""

from __future__ import annotations

import numpy as np

from ..errors import AccelError
from ..ir.builder import Builder
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.node import Literal, Node
from ..ir.op import get_op
from .rewrite import rebuild

__all__ = ["fold"]

#: Results with more elements stay computed: a big constant costs more memory than it saves.
LARGEST = 16


def fold(graph: Graph) -> Graph:
    """Replace pointwise, reduced and moved constants of few elements by their values."""
    constant = get_op("constant")

    def value_of(node: Node) -> np.ndarray:
        if node.op is constant:
            return evaluate(node.op, (), node.attrs, node.type)
        return np.empty(node.type.shape, node.type.dtype.numpy)

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if not inputs or node.op.form in ("structure", "random"):
            return None
        if any(i.op is not constant and i.type.size for i in inputs) or node.type.size > LARGEST:
            return None
        if node.type.size == 0 or node.type.weak:
            return None
        arrays = [value_of(i) for i in inputs]
        try:
            value = evaluate(node.op, arrays, node.attrs, node.type)
        except AccelError:
            return None  # a wrong index raises when the graph runs, with its line
        if value.size > 1 and (value == value.flat[0]).all() and value.dtype.kind != "f":
            return b.broadcast_to(b.constant(value.flat[0], node.type.dtype), shape=value.shape)
        if node.op.name == "broadcast_to" and not isinstance(inputs[0].attrs["value"], Literal):
            return None  # a spread scalar is already as cheap as can be
        return b.constant(value, node.type.dtype)

    return rebuild(graph, visit)
