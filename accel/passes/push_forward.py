"""Forward-mode differentiation as a pass.

Tangents are carried from `wrt` to the roots in topological order. A rule for each op is not
needed: what an op's gradient rule carries to its operands is linear in the cotangent, and its
transpose, which reverse mode writes, carries tangents the other way. No cotangent is left in what
comes of it. Only an op whose gradient rule is no linear formula declares a `tangent` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import get_op
from ..ir.types import TensorType
from .differentiate import between, differentiate

__all__ = ["push_forward", "tangent_graph"]


def push_forward(
    b: Builder,
    roots: Sequence[Node],
    wrt: Sequence[Node],
    tangents: Sequence[Node],
    beyond: Callable[[Node], bool] | None = None,
) -> list[Node | None]:
    """Add to `b` the nodes that carry `tangents` of `wrt` to `roots`.

    The nodes of `wrt` count as independent, even where one is made of another; those that
    `beyond` tells do not move, but for them.

    Returns
    -------
    list of Node or None
        One per root, of its type; None where no differentiable path leads there.
    """
    moving = dict(zip(wrt, tangents, strict=True))
    outer = b.loc
    for node in between(roots, wrt, beyond):
        if node in moving or (beyond is not None and beyond(node)):
            continue
        b.loc = node.loc
        tangent = _tangent(b, node, moving)
        if tangent is not None:
            moving[node] = b.cast(tangent, node.type.dtype)
    b.loc = outer
    return [moving.get(root) for root in roots]


def _tangent(b: Builder, node: Node, moving: Mapping[Node, Node]) -> Node | None:
    if not isinstance(node.type, TensorType) or not node.type.dtype.is_inexact:
        return None
    if node.op.tangent is not None:
        return node.op.tangent(b, node, [moving.get(i) for i in node.inputs])
    if node.op.gradient is not None:
        return _transposed(b, node, moving)
    if node.op.name == "output":
        source = node.inputs[0]
        whole = b.inline(source.attrs["body"], source.inputs)[node.attrs["index"]]
    elif node.op.expand is not None:
        source = node
        whole = node.op.expand(b, *node.inputs, **node.attrs)
    else:
        return None
    wrt = [i for i in dict.fromkeys(source.inputs) if i in moving]
    tangents = [moving[i] for i in wrt]
    return push_forward(b, [whole], wrt, tangents, frozenset(source.inputs).__contains__)[0]


def _transposed(b: Builder, node: Node, moving: Mapping[Node, Node]) -> Node | None:
    """The tangent of `node`: its gradient rule, differentiated by its cotangent."""
    # One that the Builder does not have: what is made of it is new, and found by that.
    cotangent = Node(get_op("input"), (), {"name": "g", "type": node.type}, node.type)
    count = len(b.nodes)
    assert node.op.gradient is not None
    parts, arriving = [], []
    for operand, part in zip(node.inputs, node.op.gradient(b, cotangent, node), strict=True):
        tangent = moving.get(operand)
        if part is None or tangent is None:
            continue
        if tangent.type.shape != part.type.shape:  # of a pointwise op, whose operands broadcast
            tangent = b.broadcast_to(tangent, shape=part.type.shape)
        parts.append(part)
        arriving.append(tangent)
    new = {cotangent, *b.nodes[count:]}
    found = differentiate(b, parts, arriving, [cotangent], lambda n: n not in new)[0]
    return found


def tangent_graph(graph: Graph, wrt: Sequence[int] = (0,), root: int = 0) -> Graph:
    """The graph that maps `graph`'s inputs, then tangents of those of `wrt`, to that of one output.

    An output that does not depend on them gets zeros.

    Examples
    --------
    >>> from accel.ir import parse
    >>> g = parse("graph(%x: f32[3]) { %0 = sin(%x) : f32[3] return %0 }")
    >>> tangent_graph(g).count("cos")
    1
    """
    b = Builder()
    inputs = [b.input(n.attrs["name"], n.type, n.loc) for n in graph.inputs]
    output = b.inline(graph, inputs)[root]
    tangents = [b.input(f"d{inputs[i].attrs['name']}", inputs[i].type) for i in wrt]
    found = push_forward(b, [output], [inputs[i] for i in wrt], tangents)[0]
    if found is None:
        found = b.full(0, output.type.shape, output.type.dtype)
    return b.graph([*inputs, *tangents], [found])
