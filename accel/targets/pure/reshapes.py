"""Generated values made in the shape in which they are read.

Random numbers are generated along one flat iota and then reshaped, and a general reshape of a
computed value separates kernels. Where all that leads to a reshape is pointwise work on iota
and numbers which nobody else reads, the work is done in one shape instead. What follows is done
flat as well if it is pointwise work with numbers only, up to the results: all draws of a kind
are then one kernel. Else all is done in the reshape's own shape, on the flat index written as a
sum over the axes; dropout is then one kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir.builder import Builder
from ...ir.graph import Graph
from ...ir.node import Literal, Node
from ...ir.types import Shape, contiguous_strides
from ...passes.rewrite import rebuild

__all__ = ["generate_in_shape"]

_LARGEST = 400


def generate_in_shape(graph: Graph) -> Graph:
    """`graph` with reshapes of generated values moved to the iota that they begin with."""
    chosen = {n for n in graph.nodes if n.op.name == "reshape" and _is_generated(graph, n)}
    if not chosen:
        return graph
    flat: dict[Node, Node | None] = {}
    for reshape in chosen:
        flat.update(dict.fromkeys(_made_with_numbers(graph, reshape)))

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node in flat:
            found = inputs[0] if node in chosen else _flat(b, node, inputs, flat)
            flat[node] = found
            return b.reshape(found, shape=node.type.shape)
        return _in_shape(b, inputs[0], node.type.shape) if node in chosen else None

    return rebuild(graph, visit)


def _made_with_numbers(graph: Graph, reshape: Node) -> set[Node]:
    """`reshape` and all that is made of it, if that is pointwise work with numbers; else empty."""
    made, pending = {reshape}, [reshape]
    while pending:
        for user in graph.users[pending.pop()]:
            if user in made:
                continue
            if not user.op.pointwise or user.type.shape != reshape.type.shape:
                return set()
            made.add(user)
            pending.append(user)
    others = {n for user in made - {reshape} for n in user.inputs} - made
    return made if all(_is_number(n) for n in others) else set()


def _flat(
    b: Builder, node: Node, inputs: Sequence[Node], flat: Mapping[Node, Node | None]
) -> Node:
    """The pointwise work of `node` on what is `flat` of its inputs; the others are numbers."""
    given = [
        flat.get(old) or _number(b, new) for old, new in zip(node.inputs, inputs, strict=True)
    ]
    return b.node(node.op, tuple(given), node.attrs)


def _is_number(node: Node) -> bool:
    """Whether a value is one number everywhere, whatever its shape."""
    return node.type.size == 1 or (
        node.op.name == "broadcast_to" and node.inputs[0].type.size == 1
    )


def _is_flat_iota(node: Node) -> bool:
    return node.op.name == "iota" and node.type.ndim == 1


def _is_generated(graph: Graph, reshape: Node) -> bool:
    """Whether only pointwise work on a flat iota and numbers leads to `reshape`."""
    (root,) = reshape.inputs
    if root.type.size <= 1 or root.type.ndim != 1 or not root.op.pointwise:
        return False
    if not any(u.op.pointwise or u.op.form == "reduce" for u in graph.users[reshape]):
        return False
    cone: set[Node] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if node in cone or _is_number(node) or _is_flat_iota(node):
            continue
        if not node.op.pointwise or node.type.shape != root.type.shape or len(cone) == _LARGEST:
            return False
        cone.add(node)
        pending.extend(node.inputs)
    results = set(graph.outputs)
    return all(
        node not in results and all(u is reshape or u in cone for u in graph.users[node])
        for node in cone
    )


def _in_shape(b: Builder, root: Node, shape: Shape) -> Node:
    """The work that leads to `root`, done in `shape`."""
    made: dict[Node, Node] = {}
    pending = [root]
    while pending:
        node = pending[-1]
        waiting = [] if _is_number(node) or _is_flat_iota(node) else [
            n for n in node.inputs if n not in made
        ]  # fmt: skip
        if waiting:
            pending.extend(waiting)
            continue
        pending.pop()
        if node in made:
            continue
        if _is_number(node):
            made[node] = _number(b, node)
        elif _is_flat_iota(node):
            made[node] = _flat_index(b, shape, node)
        else:
            made[node] = b.node(node.op, tuple([made[n] for n in node.inputs]), node.attrs)
    found = made[root]
    return found if found.type.shape == shape else b.broadcast_to(found, shape=shape)


def _number(b: Builder, node: Node) -> Node:
    """A number without axes."""
    if node.op.name == "broadcast_to":
        node = node.inputs[0]
    if node.op.name == "constant" and not isinstance(node.attrs["value"], Literal):
        return node
    return b.reshape(node, shape=()) if node.type.ndim else node


def _flat_index(b: Builder, shape: Shape, iota: Node) -> Node:
    """The place of every element of `shape` in C order, in the dtype of `iota`."""
    dtype = iota.type.dtype
    total: Node | None = None
    for axis, stride in enumerate(contiguous_strides(shape)):
        if shape[axis] != 1:
            place = b.mul(b.iota(shape=shape, axis=axis), stride)
            total = place if total is None else b.add(total, place)
    assert total is not None  # a shape of more than one element
    return b.cast(total, dtype)
