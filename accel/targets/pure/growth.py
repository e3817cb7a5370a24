"""How clusters grow: nodes that join them, clusters that merge.

Clusters stand in a linear order of execution with one invariant: a cluster reads only from
clusters before it. So a node may join the latest cluster that it reads; an earlier cluster
may merge into a later one if nobody between them reads it; one that nobody reads yet may
move to the end. No search for cycles is needed, and no recursion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...ir.node import Node
from .clusters import (
    HEAVY,
    Axes,
    Cluster,
    dims_of,
    leaves,
    match,
    only_in_loops,
    right_aligned,
    settled,
    varies,
)
from .stores import Stores

__all__ = ["Growth"]

#: A kernel stops growing here, in units of one simple instruction.
LARGEST_KERNEL = 300.0
#: Reductions that need nothing of each other and yet share a kernel: more streams and totals
#: than these crowd the first-level cache.
MOST_SHARED = 4


class Growth(Stores):
    """The rules by which nodes and clusters come together."""

    def placed(self, node: Node) -> Cluster:
        """Put a pointwise op or a gather into a cluster that it reads, or a new one."""
        candidates = self.candidates(node)
        for base in candidates:
            if base.into is not None:
                continue
            if base.kind == "loop":
                for other in candidates:
                    if other is not base and other.into is None:
                        self.merge(other, base, node)
            if self.join(node, base):
                return base
        return self.with_scalars(node) or self.alone(node)

    def with_scalars(self, node: Node) -> Cluster | None:
        """The region's cluster of scalar work, if `node` is such: one kernel serves all."""
        if node.type.size != 1 or any(n.type.size != 1 for n in node.inputs):
            return None
        if self.scalars is not None:
            cluster = self.scalars.final
            if not cluster.extents and self.join(node, cluster):
                return cluster
        self.scalars = self.alone(node)
        return self.scalars

    def alone(self, node: Node) -> Cluster:
        base = self.new("loop")
        joined = self.join(node, base)
        assert joined
        return base

    def candidates(self, node: Node) -> list[Cluster]:
        """The clusters that compute operands of `node`, latest first."""
        found = {s.final for n in node.inputs if isinstance(s := self.known[n], Cluster)}
        growing = [c for c in found if c.kind in ("loop", "matmul", "conv")]
        return sorted(growing, key=lambda c: -c.position)

    def join(self, node: Node, cluster: Cluster) -> bool:
        """Make `node` a member of `cluster`, if the rules allow it."""
        weight = 5.0 if node.op.cost >= HEAVY else 1.0
        if cluster.weight + weight > LARGEST_KERNEL:
            return False
        fitted = self.fit(node, cluster)
        if fitted is None:
            return False
        axes, extents = fitted
        total = set(range(len(extents)))
        dims = dims_of(axes)
        kept = total - cluster.reduced
        if dims != total and not (cluster.reduced and dims == kept):
            return False
        if cluster.kind in ("matmul", "conv"):
            if not self.follows_product(node, cluster, axes, extents):
                return False
        elif len(extents) > len(cluster.extents) and cluster.axes:
            members = self.members(cluster, node, (cluster,))
            if cluster.reduced or not settled(members, total, set(), axes, extents):
                return False
        if not self.after_operands(node, cluster):
            return False
        cluster.extents = extents
        cluster.axes[node] = axes
        cluster.weight += weight
        self.take_sources(node, cluster)
        return True

    def take_sources(self, node: Node, cluster: Cluster) -> None:
        for operand in node.inputs:
            if operand not in cluster.axes:
                source = self.source(operand)
                cluster.sources[operand] = source
                self.note_reads(cluster, [source])

    def follows_product(
        self, node: Node, cluster: Cluster, axes: Axes, extents: list[int]
    ) -> bool:
        """Whether `node` is pointwise work on a matmul or conv cluster's product, same shape."""
        product = cluster.node
        assert product is not None
        foreign = any(only_in_loops(self.known[n]) for n in node.inputs)
        return (
            node.op.pointwise and node.op.name not in ("check_index", "complex") and not foreign
            and node.type.shape == product.type.shape and axes == cluster.axes[product]
            and len(extents) == len(cluster.extents)
        )  # fmt: skip

    def members(
        self, cluster: Cluster, node: Node, inside: Sequence[Cluster],
        renamed: dict[int, int] | None = None,
    ) -> Iterable[tuple[Node, Axes, bool]]:  # fmt: skip
        """(member, map, whether somebody outside needs it) for `settled`."""
        for member, axes in cluster.axes.items():
            if renamed is not None:
                axes = tuple([None if d is None else renamed[d] for d in axes])
            needed = member in self.results or member in cluster.stores or any(
                u is not node and not any(u in c.axes for c in inside)
                for u in self.graph.users[member]
            )  # fmt: skip
            yield member, axes, needed

    def reads_of(self, node: Node) -> Iterable[tuple[Node, Sequence[int | None]]]:
        """(operand, where each of its axes stands among those of `node`)."""
        if node.op.name == "take_unchecked":
            x, index = node.inputs
            axis, rank = node.attrs["axis"], len(index.type.shape)
            places = [d if d < axis else d + rank - 1 for d in range(len(x.type.shape))]
            yield x, [None if d == axis else p for d, p in enumerate(places)]
            yield index, range(axis, axis + rank)
        elif node.op.name == "gather_unchecked":
            x, index = node.inputs
            axis = node.attrs["axis"]
            yield x, [None if d == axis else d for d in range(len(x.type.shape))]
            yield index, range(len(index.type.shape))
        else:
            for operand in node.inputs:
                yield operand, right_aligned(operand, node)

    def fit(self, node: Node, cluster: Cluster) -> tuple[Axes, list[int]] | None:
        """The map that `node` gets in `cluster`, and the extents with new dimensions."""
        shape = node.type.shape
        axes: list[int | None] = [None] * len(shape)
        free = [False] * len(shape)
        for operand, places in self.reads_of(node):
            own = cluster.axes.get(operand)
            extents = operand.type.shape
            for k, place in enumerate(places):
                if place is None or extents[k] == 1:
                    continue
                if own is None:
                    free[place] = free[place] or self.varies(operand, k)
                elif own[k] is not None:
                    if axes[place] is None:
                        axes[place] = own[k]
                    elif axes[place] != own[k]:
                        return None
        used = dims_of(axes)
        if len(used) != sum(d is not None for d in axes):
            return None  # a diagonal
        found = list(cluster.extents)
        prefer = [cluster.reduced, cluster.dims - cluster.reduced]
        for place, extent in enumerate(shape):
            if free[place] and axes[place] is None:
                d = match(extent, used, cluster, prefer)
                if d is None:
                    d = len(found)
                    found.append(extent)
                axes[place] = d
                used.add(d)
        return tuple(axes), found

    def varies(self, operand: Node, axis: int) -> bool:
        """Whether an operand read from outside differs along one of its axes."""
        source = self.known[operand]
        if isinstance(source, Cluster):
            return source.final.axes[operand][axis] is not None
        return varies(source, axis)

    def after_operands(self, node: Node, cluster: Cluster) -> bool:
        """Order `cluster` behind everything else that `node` reads, if it can be."""
        latest = 0
        for operand in node.inputs:
            if operand in cluster.axes:
                continue
            source = self.known[operand]
            writers: list[Cluster] = []
            if isinstance(source, Cluster):
                writers.append(source.final)
            else:
                for view in leaves(source):
                    writers += [w.final for w in view.buffer.writers]
            if cluster in writers:
                return False  # it would read a view of what it writes
            latest = max([latest, *[w.position for w in writers]])
        if latest < cluster.position:
            return True
        if any(True for _ in cluster.other_readers()):
            return False
        cluster.position = self.next_position()
        return True

    # -- merging ----------------------------------------------------------------------------
    def merge(self, other: Cluster, base: Cluster, node: Node) -> bool:
        """Merge the earlier loop cluster `other` into `base`, both read by `node`."""
        if other.kind != "loop" or other.position > base.position:
            return False
        if other.weight + base.weight > LARGEST_KERNEL:
            return False
        position = self.common_position(other, base)
        if position is None:
            return False
        for operand in node.inputs:
            for view in leaves(s) if not isinstance(s := self.known[operand], Cluster) else ():
                if any(w.final is other for w in view.buffer.writers):
                    return False
        renamed = self.renamed(other, base, node)
        if renamed is None:
            return False
        extents = list(base.extents)
        for d, target in sorted(renamed.items(), key=lambda item: item[1]):
            if target == len(extents):
                extents.append(other.extents[d])
        total = set(range(len(extents)))
        image = set(renamed.values())
        reduced = {renamed[d] for d in other.reduced}
        grown = len(extents) > len(base.extents)
        if base.reduced and (grown or (reduced and (reduced != base.reduced or image != total))):
            return False
        if reduced and not base.reduced and not base.dims <= image:
            return False
        reduced |= base.reduced
        inside = (other, base)
        order = self.partial(node, base, renamed, other) or ()
        members = [*self.members(other, node, inside, renamed), *self.members(base, node, inside)]
        if not settled(members, total, reduced, order, extents):
            return False
        self.absorb(other, base, renamed, extents, reduced)
        base.position = position
        return True

    def beside(self, other: Cluster, base: Cluster) -> bool:
        """Merge `other` into the later `base` of the same domain, if neither needs the other."""
        folds = sum(n.op.form == "reduce" for c in (other, base) for n in c.axes)
        if folds > MOST_SHARED or other.weight + base.weight > LARGEST_KERNEL:
            return False
        position = self.common_position(other, base)
        if position is None:
            return False
        unchanged = {d: d for d in other.dims}
        self.absorb(other, base, unchanged, base.extents, base.reduced)
        base.position = position
        return True

    def common_position(self, other: Cluster, base: Cluster) -> int | None:
        """Where `other` and the later `base` can run as one: in the later's place if nobody
        before it reads the earlier, in the earlier's if what the later reads is there."""
        readers = list(other.other_readers())
        if base in readers:
            return None
        if all(r.position > base.position for r in readers):
            return base.position
        for source in (*base.sources.values(), *base.tables.values()):
            for view in leaves(source):
                if any(w.final.position >= other.position for w in view.buffer.writers):
                    return None
        return other.position

    def absorb(
        self, other: Cluster, base: Cluster, renamed: dict[int, int], extents: list[int],
        reduced: set[int],
    ) -> None:  # fmt: skip
        def rename(axes: Axes) -> Axes:
            return tuple([None if d is None else renamed[d] for d in axes])

        base.extents, base.reduced = extents, reduced
        base.axes.update({n: rename(a) for n, a in other.axes.items()})
        base.inner.update({n: rename(a) for n, a in other.inner.items()})
        base.alias.update(other.alias)
        base.sources.update(other.sources)
        base.tables.update(other.tables)
        base.stores.update(other.stores)
        base.readers |= other.readers
        base.weight += other.weight
        other.into = base

    def partial(
        self, node: Node, cluster: Cluster, renamed: dict[int, int] | None = None,
        other: Cluster | None = None,
    ) -> list[int | None] | None:  # fmt: skip
        """The map of `node` by its operands in `cluster` alone, and in `other` with its
        dimensions renamed; None where they disagree."""
        axes: list[int | None] = [None] * len(node.type.shape)
        for operand, places in self.reads_of(node):
            own = cluster.axes.get(operand)
            if own is None and other is not None and renamed is not None:
                own = other.axes.get(operand)
                own = own and tuple([None if d is None else renamed[d] for d in own])
            if own is None:
                continue
            for k, place in enumerate(places):
                d = own[k]
                if place is None or d is None:
                    continue
                if axes[place] not in (None, d):
                    return None
                axes[place] = d
        return axes

    def renamed(self, other: Cluster, base: Cluster, node: Node) -> dict[int, int] | None:
        """Dimensions of `other` as those of `base`, new ones behind them."""
        ours, theirs = self.partial(node, base), self.partial(node, other)
        if ours is None or theirs is None:
            return None
        renamed: dict[int, int] = {}
        for target, d in zip(ours, theirs, strict=True):
            if d is not None and target is not None:
                if renamed.setdefault(d, target) != target:
                    return None
        if len(set(renamed.values())) != len(renamed):
            return None
        taken = set(renamed.values())
        kept = base.dims - base.reduced
        count = len(base.extents)
        for d, extent in enumerate(other.extents):
            if d in renamed:
                continue
            prefer = [kept, base.reduced]
            if d in other.reduced:
                prefer = [base.reduced or kept]
            elif other.reduced:
                prefer = [kept]
            target = match(extent, taken, base, prefer)
            if target is None:
                target, count = count, count + 1
            renamed[d] = target
            taken.add(target)
        return renamed

    # -- reductions -------------------------------------------------------------------------
    def fold_in(self, node: Node, cluster: Cluster, inner: Axes) -> bool:
        """Make the reduction `node` of a value with map `inner` a member of `cluster`."""
        (operand,) = node.inputs
        axis = node.attrs["axis"]
        folded = [inner[k] for k in axis if operand.type.shape[k] != 1]
        if None in folded or cluster.weight + 3 > LARGEST_KERNEL:
            return False
        reduced = dims_of(folded)
        total = cluster.dims
        if reduced and dims_of(inner) != total:
            return False
        if cluster.reduced and reduced != cluster.reduced:
            return False
        if reduced and not cluster.reduced:
            members = self.members(cluster, node, (cluster,))
            if not settled(members, total, reduced, inner, cluster.extents):
                return False
        if not self.after_operands(node, cluster):
            return False
        cluster.reduced = cluster.reduced or reduced
        outer: list[int | None] = []
        for k, d in enumerate(inner):
            if k not in axis:
                outer.append(d)
            elif node.attrs["keepdims"]:
                outer.append(None)
        cluster.axes[node], cluster.inner[node] = tuple(outer), inner
        cluster.weight += 3
        self.take_sources(node, cluster)
        return True
