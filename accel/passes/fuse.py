"""Fusion: grouping nodes into regions, the units of placement.

Nodes are visited once, in topological order, and put into *clusters* that stand in a linear
order. The invariant that makes every step sound without searching for cycles: a cluster
reads only from clusters before it. So a node may always join the latest cluster that it
reads; an earlier one may be merged into a later one if nobody in between reads it, and one
that nobody reads yet may be moved to the end.

What may join is a property of the ops (their form): pointwise ops, reductions, composites of
these and movement share a region over one iteration space; a contraction takes the
pointwise work on its result; opaque ops stay alone. Movement of values (transposes,
reshapes, slices, broadcasts) and constants cost nothing as views, so they are copied to
where they are read instead of being computed and stored. So are conversions of single numbers
that a call is given, which would else tie together all that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import get_op
from ..ir.types import Shape

__all__ = ["fuse"]

#: A region stops growing here: very long chains become many equal regions, compiled once.
LARGEST_REGION = 1024

#: Movement that is only another view of its operand.
_VIEWS = frozenset({"barrier", "permute", "reshape", "broadcast_to", "slice", "flip", "expand_dims",
                    "squeeze", "flatten", "swapaxes", "moveaxis"})  # fmt: skip

_CONTRACTIONS = ("matmul", "conv")


class _Cluster:
    """Nodes that become one region. `order` is its place among the clusters."""

    __slots__ = ("contraction", "domain", "into", "nodes", "open", "order", "reduces", "size",
                 "users")  # fmt: skip

    def __init__(self, node: Node, order: int) -> None:
        self.nodes = [node]
        self.size = node.type.size
        self.order = order
        self.users: set[_Cluster] = set()
        self.into: _Cluster | None = None
        self.contraction = node.op.category in _CONTRACTIONS
        self.open = node.op.form not in ("opaque",)
        self.domain = _iteration(node)
        self.reduces = _reduces(node)


def _find(cluster: _Cluster) -> _Cluster:
    while cluster.into is not None:
        cluster = cluster.into
    return cluster


def _iteration(node: Node) -> Shape:
    """The index space that computing `node` walks: the larger of operand and result."""
    shapes = [i.type.shape for i in node.inputs] if _reduces(node) else []
    return max([node.type.shape, *shapes], key=_size)


def _size(shape: Shape) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def _reduces(node: Node) -> bool:
    return node.op.form == "reduce" or (
        node.op.form == "composite" and node.op.category == "reduction"
    )


def _spreads(small: Shape, large: Shape) -> bool:
    """Whether `small` broadcasts to `large`."""
    return len(small) <= len(large) and all(
        a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False)
    )


def is_free(node: Node) -> bool:
    """Whether a copy of `node` in each reader is as good as its stored value."""
    if node.op.form == "structure":
        return False
    if node.op.name == "cast" and not node.type.shape and node.inputs[0].op.name == "input":
        return True  # a number that a call is given, such as a learning rate
    return node.op.name in _VIEWS or (node.op.category == "creation" and not node.inputs)


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.cluster: dict[Node, _Cluster] = {}
        self.sources: dict[Node, tuple[Node, ...]] = {}  # of free nodes: what they view
        self.count = 0
        self.outputs = set(graph.outputs)

    def run(self) -> list[_Cluster]:
        for node in self.graph.nodes:
            if node.op.name == "input":
                continue
            if is_free(node) and node not in self.outputs:
                self.sources[node] = tuple(dict.fromkeys(self.read_by(node)))
            elif node.op.name != "constant":
                self.place(node)
        found = {_find(c) for c in self.cluster.values()}
        return sorted(found, key=lambda c: c.order)

    def read_by(self, node: Node) -> Iterable[Node]:
        """The stored or computed values that `node` reads, through free nodes."""
        for operand in node.inputs:
            if operand in self.sources:
                yield from self.sources[operand]
            else:
                yield operand

    def place(self, node: Node) -> None:
        """Put `node` into a cluster."""
        first = self.graph.joint(node)[0]
        if first is not node:  # it reads what `first` reads, so it may stand beside it
            self.cluster[node] = _find(self.cluster[first])
            self.cluster[node].nodes.append(node)
            return
        reads = {_find(self.cluster[s]) for s in self.read_by(node) if s in self.cluster}
        candidates = sorted(reads, key=lambda c: -c.order)
        base: _Cluster | None = None
        for c in candidates:
            if base is None:
                if self.joins(node, c) and (c is candidates[0] or not c.users):
                    base = c
            elif self.merges(c, base, node):
                # A base that moves to the end must stay before everybody who reads `c`.
                if base is candidates[0] or all(_find(u) is base for u in c.users):
                    self.merge(c, base)
        if base is None:
            base = _Cluster(node, self.next_order())
        else:
            if base is not candidates[0]:  # nobody reads it yet: it moves to the end
                base.order = self.next_order()
            base.nodes.append(node)
            base.reduces = base.reduces or _reduces(node)
            base.domain = max(base.domain, _iteration(node), key=_size)
        self.cluster[node] = base
        for c in reads:
            c = _find(c)
            if c is not base:
                c.users.add(base)

    def next_order(self) -> int:
        self.count += 1
        return self.count

    def joins(self, node: Node, c: _Cluster) -> bool:
        """Whether `node` may be computed together with `c`, of which it reads something."""
        if not c.open or len(c.nodes) >= LARGEST_REGION:
            return False
        if node.op.category in _CONTRACTIONS or node.op.form in ("opaque", "structure"):
            return False
        if c.contraction:
            light = node.op.category in ("elementwise", "activation")
            return light and node.type.shape == c.nodes[0].type.shape
        space = _iteration(node)
        size, own = _size(space), _size(c.domain)
        if size == own:
            return True
        if size < own:  # the small result of a reduction, worked on and spread again
            return c.reduces
        return self.grows(node, c, space)

    def grows(self, node: Node, c: _Cluster, space: Shape) -> bool:
        """Whether all of `c`, small pointwise work that only `node` reads, may be computed at
        every point of `node`'s larger space."""
        if c.reduces or not _spreads(c.domain, space):
            return False
        members = set(c.nodes)
        return all(self.only_reader(member, members, node) for member in c.nodes)

    def only_reader(self, member: Node, members: set[Node], node: Node) -> bool:
        pending = [member]
        while pending:
            value = pending.pop()
            if value in self.outputs:
                return False
            for user in self.graph.users[value]:
                if is_free(user):
                    pending.append(user)
                elif user not in members and user is not node:
                    return False
        return True

    def merges(self, c: _Cluster, base: _Cluster, node: Node) -> bool:
        """Whether the earlier `c` may move into `base`, which `node` joins."""
        if not c.open or c.contraction or base.contraction:
            return False
        if len(c.nodes) + len(base.nodes) >= LARGEST_REGION:
            return False
        if any(_find(u) is not base and _find(u).order <= base.order for u in c.users):
            return False
        size, own = _size(c.domain), _size(max(base.domain, _iteration(node), key=_size))
        if size == own:
            return True
        return size < own and self.grows(node, c, max(base.domain, _iteration(node), key=_size))

    def merge(self, c: _Cluster, base: _Cluster) -> None:
        base.nodes = c.nodes + base.nodes
        base.reduces = base.reduces or c.reduces
        base.domain = max(base.domain, c.domain, key=_size)
        base.users |= {_find(u) for u in c.users}
        base.users.discard(base)
        c.into = base


def fuse(graph: Graph) -> Graph:
    """Group the nodes of `graph` into regions.

    The result's nodes are inputs, constants that are outputs, regions ``r0, r1, …`` and the
    `output` nodes that read them. Each region's body is a graph of its own.
    """
    fuser = _Fuser(graph)
    clusters = fuser.run()
    b = Builder()
    value: dict[Node, Node] = {n: b.input(n.attrs["name"], n.type, n.loc) for n in graph.inputs}
    place = graph.index
    for number, cluster in enumerate(clusters):
        members = sorted(cluster.nodes, key=place.__getitem__)
        _emit(b, graph, fuser, members, f"r{number}", value)
    for node in graph.outputs:
        if node not in value:  # a constant
            value[node] = b.copy(node, value)
    return b.graph([value[n] for n in graph.inputs], [value[n] for n in graph.outputs])


def _emit(
    b: Builder, graph: Graph, fuser: _Fuser, members: list[Node], name: str,
    value: dict[Node, Node],
) -> None:  # fmt: skip
    """Build the region of `members` and the nodes that read its results."""
    inside = set(members)
    needed = _with_views(graph, members, inside, fuser)
    operands = [
        n for n in dict.fromkeys(i for m in needed for i in m.inputs)
        if n not in inside and n in value
    ]  # fmt: skip
    body = Builder()
    local: dict[Node, Node] = {}
    for i, node in enumerate(operands):
        label = f"x{i}_{node.attrs['name']}" if node.op.name == "input" else f"v{i}"
        local[node] = body.input(label, node.type, node.loc)
    for node in needed:
        if node not in local:
            local[node] = body.copy(node, local)
    results = [n for n in members if _escapes(graph, n, inside, fuser)]
    inner = body.graph([local[n] for n in operands], [local[n] for n in results])
    attrs = {"body": inner, "name": name, "target": None, "reason": ""}
    loc = members[-1].loc
    region = b.node(get_op("region"), tuple(value[n] for n in operands), attrs, None, loc)
    for i, node in enumerate(results):
        value[node] = b.node(get_op("output"), (region,), {"index": i}, node.type, node.loc)


def _with_views(
    graph: Graph, members: list[Node], inside: set[Node], fuser: _Fuser
) -> list[Node]:
    """`members` and the free nodes that they read, operands first."""
    found = set(inside)
    pending = [i for m in members for i in m.inputs]
    while pending:
        node = pending.pop()
        if node not in found and (node in fuser.sources or node.op.name == "constant"):
            found.add(node)
            pending.extend(node.inputs)
    # an output that is itself free has its own region, and is copied here like any view
    return sorted(found, key=graph.index.__getitem__)


def _escapes(graph: Graph, node: Node, inside: set[Node], fuser: _Fuser) -> bool:
    """Whether `node` is read outside of its region, directly or through free nodes."""
    pending = [node]
    seen = set()
    while pending:
        value = pending.pop()
        if value in fuser.outputs and value is node:
            return True
        for user in graph.users[value]:
            if user in inside or user in seen:
                continue
            seen.add(user)
            if not is_free(user):
                return True
            if user in fuser.outputs:
                return True
            pending.append(user)
    return False
