"""Reverse-mode differentiation as a pass.

Cotangents are carried from the roots to `wrt` in reverse topological order by the ops' own
gradient rules; an op that has none but an expansion is differentiated through that. The new
nodes join the same Builder, so forward values are shared, never recomputed, and a gradient
can be differentiated again. A region is the exception: what it holds is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import GradientError
from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.types import Shape

__all__ = ["between", "differentiate", "gradient_graph", "sum_to_shape"]


def sum_to_shape(b: Builder, g: Node, shape: Shape) -> Node:
    """Undo broadcasting: sum `g` over the dimensions in which `shape` was spread."""
    if g.type.shape == shape:
        return g
    lead = g.type.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        i for i, extent in enumerate(shape, lead) if extent == 1 and g.type.shape[i] != 1
    )
    if axes:
        g = b.sum(g, axis=axes, keepdims=True)
    return b.reshape(g, shape=shape) if g.type.shape != shape else g


def between(
    roots: Sequence[Node], wrt: Sequence[Node], beyond: Callable[[Node], bool] | None = None
) -> list[Node]:
    """The nodes on paths from `wrt` to `roots`, operands first; those `beyond` end all paths."""
    targets = set(wrt)
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if beyond is None or not beyond(node):
                stack.extend((i, False) for i in node.inputs if i not in seen)
    active: set[Node] = set()
    for node in order:
        if node in targets or any(i in active for i in node.inputs):
            active.add(node)
    return [n for n in order if n in active]


def _contributions(b: Builder, g: Node, node: Node, active: set[Node]) -> Sequence[Node | None]:
    """The cotangents of `node`'s operands."""
    if node.op.gradient is not None:
        return node.op.gradient(b, g, node)
    if node.op.expand is None:
        return (None,) * len(node.inputs)
    whole = node.op.expand(b, *node.inputs, **node.attrs)
    wanted = [i for i in dict.fromkeys(node.inputs) if i in active]
    slopes = differentiate(b, [whole], [g], wanted, frozenset(node.inputs).__contains__)
    found = dict(zip(wanted, slopes, strict=True))
    first: set[Node] = set()
    result: list[Node | None] = []
    for operand in node.inputs:  # an operand that stands twice gets its cotangent once
        result.append(None if operand in first else found.get(operand))
        first.add(operand)
    return result


def _recomputed(
    b: Builder, arriving: dict[int, Node], region: Node, active: set[Node]
) -> list[Node | None]:
    """The cotangents of a region's operands, by those that arrived at its outputs.

    The body is computed again behind barriers, which keep it apart from the first time: what
    lives between the two are the operands alone.
    """
    first = next(iter(arriving.values()))
    operands = [b.barrier(x, first) for x in region.inputs]
    results = b.inline(region.attrs["body"], operands)
    roots, cotangents = [results[i] for i in arriving], list(arriving.values())
    found = differentiate(b, roots, cotangents, operands, frozenset(operands).__contains__)
    return [g if x in active else None for x, g in zip(region.inputs, found, strict=True)]


def differentiate(
    b: Builder,
    roots: Sequence[Node],
    cotangents: Sequence[Node],
    wrt: Sequence[Node],
    beyond: Callable[[Node], bool] | None = None,
) -> list[Node | None]:
    """Add to `b` the nodes that carry `cotangents` of `roots` to `wrt`.

    Nothing is carried through the nodes that `beyond` tells, nor are they looked behind: so
    nodes of `wrt` can count as independent even where one is made of another.

    Returns
    -------
    list of Node or None
        One per element of `wrt`, of its type; None where no differentiable path leads there.
    """
    order = between(roots, wrt, beyond)
    active = set(order)
    sums: dict[Node, Node] = {}
    arriving: dict[Node, dict[int, Node]] = {}  # at a region's outputs

    def accumulate(node: Node, g: Node) -> None:
        if node.type.dtype.kind != g.type.dtype.kind or node.type.dtype is not g.type.dtype:
            g = b.cast(g, node.type.dtype)
        sums[node] = b.add(sums[node], g) if node in sums else g

    for root, g in zip(roots, cotangents, strict=True):
        if root in active:
            accumulate(root, g)
    outer = b.loc
    for node in reversed(order):
        reached = node in sums or node in arriving
        if not reached or not any(i in active for i in node.inputs):
            continue
        if beyond is not None and beyond(node):
            continue
        b.loc = node.loc
        if node.op.name == "output":
            arriving.setdefault(node.inputs[0], {})[node.attrs["index"]] = sums[node]
            continue
        if node.op.name == "region":
            parts: Sequence[Node | None] = _recomputed(b, arriving[node], node, active)
        else:
            parts = _contributions(b, sums[node], node, active)
        for operand, part in zip(node.inputs, parts, strict=True):
            if part is None or operand not in active or not operand.type.dtype.is_inexact:
                continue
            if node.op.pointwise:
                part = sum_to_shape(b, part, operand.type.shape)
            if part.type.shape != operand.type.shape:
                raise GradientError(
                    f"the gradient rule of {node.op.name} gave {part.type} for {operand.type}",
                    loc=node.loc,
                )
            accumulate(operand, part)
    b.loc = outer
    return [sums.get(node) for node in wrt]


def gradient_graph(graph: Graph, wrt: Sequence[int] = (0,), root: int = 0) -> Graph:
    """The graph that maps `graph`'s inputs to the gradients of the sum of one output.

    Inputs that the output does not depend on get zeros.

    Examples
    --------
    >>> from accel.ir import parse
    >>> g = parse("graph(%x: f32[3]) { %0 = sin(%x) : f32[3] return %0 }")
    >>> gradient_graph(g).count("cos")
    1
    """
    b = Builder()
    inputs = [b.input(n.attrs["name"], n.type, n.loc) for n in graph.inputs]
    output = b.inline(graph, inputs)[root]
    one = b.full(1, output.type.shape, output.type.dtype)
    chosen = [inputs[i] for i in wrt]
    found = differentiate(b, [output], [one], chosen)
    results = [
        g if g is not None else b.full(0, n.type.shape, n.type.dtype)
        for g, n in zip(found, chosen, strict=True)
    ]
    return b.graph(inputs, results)
