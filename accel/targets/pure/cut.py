"""Cutting: the primitives of regions partitioned into clusters, one kernel each.

Nodes are visited once, in topological order. Clusters stand in a linear order of execution
with one invariant: a cluster reads only from clusters before it. So a node may join the
latest cluster that it reads; an earlier cluster may merge into a later one if nobody between
them reads it; one that nobody reads yet may move to the end. No search for cycles is needed,
and no recursion.

What a node becomes:

- pointwise ops, reductions and gathers join a loop cluster (see `clusters` for the rules);
- a matrix product is a cluster that takes pointwise work on its result;
- movement of a value inside a cluster is another map of its axes; movement of a stored value
  is a view; where neither is possible the value is copied by a kernel;
- constants, iota and cheap scalar work are repeated in each kernel that reads them;
- what has no native code is a reference step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph
from ...ir.node import Literal, Node
from .clusters import (
    HEAVY,
    Axes,
    Cluster,
    Number,
    Ramp,
    Scalar,
    Source,
    dims_of,
    leaves,
    match,
    moved_axes,
    moved_ramp,
    right_aligned,
    settled,
    varies,
)
from .lowering import ELEMENTS, supported
from .views import Buffer, View, moved

__all__ = ["Partition"]

#: A kernel stops growing here, in units of one simple instruction.
LARGEST_KERNEL = 300.0
#: Scalar work up to this many ops is repeated rather than stored.
_SCALAR_WORK = 32

_GATHERS = ("take_unchecked", "gather_unchecked")
_SCATTERS = ("index_add_unchecked", "scatter_add_unchecked")


def native_reduction(node: Node) -> bool:
    """Whether the reduction has native code for its dtypes."""
    return node.inputs[0].type.dtype in ELEMENTS and node.type.dtype in ELEMENTS


class Partition:
    """The clusters of a run of regions, in the order of execution.

    Attributes
    ----------
    clusters
        All of them, those merged away included.
    buffers
        Every buffer that they read and write.
    """

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []
        self.buffers: list[Buffer] = []
        self.views: dict[Node, View] = {}
        self.known: dict[Node, Source | Cluster] = {}
        self.graph = Graph((), (), ())
        self.results: set[Node] = set()
        self.name = ""
        self.count = 0
        self._handlers: dict[str, Callable[[Node], Source | Cluster]] = {
            "movement": self._movement, "pointwise": self._pointwise, "reduce": self._reduce,
            "contraction": self._contraction, "indexed": self._indexed,
            "creation": self._creation,
        }  # fmt: skip

    # -- regions ----------------------------------------------------------------------------
    def region(self, name: str, body: Graph, operands: Sequence[Source]) -> list[Source]:
        """Cut one region of primitives; returns where its results can be read."""
        self.name, self.graph, self.results = name, body, set(body.outputs)
        self.views = {}
        self.known = dict(zip(body.inputs, operands, strict=True))
        for node in body.nodes[len(body.inputs) :]:
            self.known[node] = self._handlers.get(node.op.form, self._reference)(node)
        return [self._source(node) for node in body.outputs]

    def top_level(self, node: Node) -> Source:
        """A constant that stands outside of every region."""
        source = self._creation(node)
        assert not isinstance(source, Cluster)
        return source

    def ordered(self) -> list[Cluster]:
        """The clusters that do something, in the order of execution."""
        alive = [c for c in self.clusters if c.into is None]
        alive = [c for c in alive if c.kind not in ("loop", "matmul") or c.stores]
        return sorted(alive, key=lambda c: c.position)

    def _new(self, kind: str, node: Node | None = None) -> Cluster:
        cluster = Cluster(kind, self._next(), self.name, self.graph, node)
        self.clusters.append(cluster)
        return cluster

    def _next(self) -> int:
        self.count += 1
        return self.count

    def buffer(self, dtype: DType, size: int) -> Buffer:
        made = Buffer(dtype, size)
        self.buffers.append(made)
        return made

    def constant(self, array: np.ndarray, dtype: DType) -> View:
        """A buffer that holds `array`."""
        made = self.buffer(dtype, array.size)
        made.kind, made.array = "constant", np.ascontiguousarray(array)
        return made.whole(array.shape)

    # -- where values lie -------------------------------------------------------------------
    def stored(self, node: Node) -> View:
        """The view that holds `node`, which is stored from now on if it was not."""
        view = self.views.get(node)
        if view is None:
            source = self.known[node]
            view = self._store(node, source.final) if isinstance(source, Cluster) else (
                self.as_view(source, node.type.shape)
            )  # fmt: skip
            self.views[node] = view
        return view

    def _store(self, node: Node, cluster: Cluster) -> View:
        moves = []
        while node in cluster.alias:
            moves.append(node)
            node = cluster.alias[node]
        view = self.views.get(node)
        if view is None:
            pairs = zip(node.type.shape, cluster.axes[node], strict=True)
            compact = tuple([1 if d is None else e for e, d in pairs])
            target = self._target(node.type.dtype, compact, cluster)
            cluster.stores[node] = target
            view = self.views[node] = target.broadcast_to(node.type.shape)
        for move in reversed(moves):
            found = moved(view, move)
            assert found is not None  # maps and views move alike
            view = found
        return view

    def _target(self, dtype: DType, shape: tuple[int, ...], writer: Cluster) -> View:
        """A fresh buffer of `shape` that `writer` fills."""
        size = 1
        for extent in shape:
            size *= extent
        made = self.buffer(dtype, size)
        made.writers.append(writer)
        return made.whole(shape)

    def as_view(self, source: Source, shape: tuple[int, ...]) -> View:
        """A source in memory, as `shape`."""
        if isinstance(source, View):
            return source
        if isinstance(source, Number):
            return self.constant(
                np.asarray(source.value, source.dtype.numpy), source.dtype
            ).broadcast_to(shape)
        compact = tuple([e if varies(source, k) else 1 for k, e in enumerate(shape)])
        if isinstance(source, Scalar):
            compact = ()
        return self.copied(source, source.dtype, compact).broadcast_to(shape)

    def copied(self, source: Source, dtype: DType, shape: tuple[int, ...]) -> View:
        """`source` copied into a fresh buffer."""
        cluster = self._new("copy")
        target = self._target(dtype, shape, cluster)
        self._copy(cluster, source, target)
        return target

    def _copy(self, cluster: Cluster, source: Source, target: View) -> None:
        if isinstance(source, Number) and source.dtype not in ELEMENTS:
            source = self.as_view(source, target.shape)
        cluster.copies.append((source, target))
        self._reads(cluster, [source])

    def copy_into(self, source: Source, target: View, after: Cluster | None = None) -> Cluster:
        """A kernel that copies `source` over `target`, a part of a buffer."""
        cluster = self._new("copy")
        target.buffer.writers.append(cluster)
        self._copy(cluster, source, target)
        if after is not None:
            after.readers.add(cluster)
        return cluster

    def _reads(self, cluster: Cluster, sources: Iterable[Source]) -> None:
        """Note that `cluster` reads `sources`."""
        for source in sources:
            for view in leaves(source):
                for writer in view.buffer.writers:
                    if writer.final is not cluster:
                        writer.final.readers.add(cluster)

    def _source(self, node: Node) -> Source:
        """How a cluster that does not compute `node` reads it."""
        source = self.known[node]
        return self.stored(node) if isinstance(source, Cluster) else source

    # -- leaves and movement ----------------------------------------------------------------
    def _creation(self, node: Node) -> Source | Cluster:
        if node.op.name == "constant":
            value = node.attrs["value"]
            if isinstance(value, Literal):
                return self.constant(value.array, node.type.dtype)
            return Number(value, node.type.dtype)
        if node.op.name == "iota" and node.type.dtype in ELEMENTS:
            return Ramp(node.attrs["axis"], 0, 1, node.type.shape, node.type.dtype)
        return self._reference(node)

    def _movement(self, node: Node) -> Source | Cluster:
        if node.op.name in ("cat", "pad", "slice_update"):
            return getattr(self, "_" + node.op.name)(node)
        operand = node.inputs[0]
        source = self.known[operand]
        if isinstance(source, (Number, Scalar)):
            return source
        if isinstance(source, Ramp):
            ramp = moved_ramp(node, source)
            if ramp is not None:
                return ramp
        if isinstance(source, Cluster):
            cluster = source.final
            axes = moved_axes(node, cluster.axes[operand])
            if axes is not None and cluster.kind == "loop":
                cluster.alias[node] = operand
                cluster.axes[node] = axes
                return cluster
        view = self.stored(operand)
        found = moved(view, node)
        if found is None:
            found = moved(self.copied(view, view.buffer.dtype, view.shape), node)
            assert found is not None  # a contiguous view takes every shape
        return found

    def _cat(self, node: Node) -> View:
        """Pieces in one buffer; a piece that nobody else reads is computed in place."""
        axis = node.attrs["axis"]
        dtype, shape = node.type.dtype, node.type.shape
        whole = self.buffer(dtype, node.type.size).whole(shape)
        at = 0
        for operand in node.inputs:
            start = tuple([at if d == axis else 0 for d in range(len(shape))])
            piece = whole.part(start, (1,) * len(shape), operand.type.shape)
            at += operand.type.shape[axis]
            if not self._computed_into(operand, node, piece) and piece.size:
                self.copy_into(self._source(operand), piece)
        return whole

    def _computed_into(self, operand: Node, user: Node, target: View) -> bool:
        source = self.known[operand]
        if not isinstance(source, Cluster) or operand in self.views or operand in self.results:
            return False
        cluster = source.final
        axes = cluster.axes[operand]
        plain = operand not in cluster.alias and cluster.kind == "loop" and all(
            d is not None or e == 1 for d, e in zip(axes, operand.type.shape, strict=True)
        )  # fmt: skip
        if not plain or self.graph.users[operand] != (user,) or user.inputs.count(operand) > 1:
            return False
        cluster.stores[operand] = target
        target.buffer.writers.append(cluster)
        self.views[operand] = target
        return True

    def _pad(self, node: Node) -> View:
        x, low = node.inputs[0], node.attrs["low"]
        dtype = node.type.dtype
        fill = np.asarray(node.attrs["value"]).astype(dtype.numpy).item()
        whole = self.copied(Number(fill, dtype), dtype, node.type.shape)
        inside = whole.part(low, (1,) * len(low), x.type.shape)
        if inside.size:
            self.copy_into(self._source(x), inside, whole.buffer.writers[-1])
        return whole

    def _slice_update(self, node: Node) -> View:
        x, piece = node.inputs
        whole = self.copied(self._source(x), node.type.dtype, node.type.shape)
        attrs = node.attrs
        target = whole.part(attrs["start"], attrs["step"], piece.type.shape)
        if target.size:
            self.copy_into(self._source(piece), target, whole.buffer.writers[-1])
        return whole

    # -- loops ------------------------------------------------------------------------------
    def _pointwise(self, node: Node) -> Source | Cluster:
        types = [n.type.dtype for n in node.inputs]
        if not supported(node.op.name, types, node.type.dtype, node.attrs):
            return self._reference(node)
        scalar = self._scalar(node)
        return scalar if scalar is not None else self._placed(node)

    def _scalar(self, node: Node) -> Scalar | None:
        """`node` as scalar work that every reader repeats, if it is little of it."""
        if node.op.cost >= HEAVY or node.op.name == "check_index":
            return None
        operands: list[Number | Scalar | View] = []
        work = 1
        for operand in node.inputs:
            source = self.known[operand]
            if isinstance(source, Scalar):
                work += source.work
            elif isinstance(source, View):
                if source.size != 1:
                    return None
                source = View(source.buffer, (), (), source.offset)
            elif not isinstance(source, Number):
                return None
            operands.append(source)
        return Scalar(node, tuple(operands), work) if work <= _SCALAR_WORK else None

    def _placed(self, node: Node) -> Cluster:
        """Put a pointwise op or a gather into a cluster that it reads, or a new one."""
        candidates = self._candidates(node)
        for base in candidates:
            if base.into is not None:
                continue
            if base.kind == "loop":
                for other in candidates:
                    if other is not base and other.into is None:
                        self._merge(other, base, node)
            if self._join(node, base):
                return base
        return self._alone(node)

    def _alone(self, node: Node) -> Cluster:
        base = self._new("loop")
        joined = self._join(node, base)
        assert joined
        return base

    def _candidates(self, node: Node) -> list[Cluster]:
        """The clusters that compute operands of `node`, latest first."""
        found = {s.final for n in node.inputs if isinstance(s := self.known[n], Cluster)}
        growing = [c for c in found if c.kind in ("loop", "matmul")]
        return sorted(growing, key=lambda c: -c.position)

    def _join(self, node: Node, cluster: Cluster) -> bool:
        """Make `node` a member of `cluster`, if the rules allow it."""
        weight = 5.0 if node.op.cost >= HEAVY else 1.0
        if cluster.weight + weight > LARGEST_KERNEL:
            return False
        fitted = self._fit(node, cluster)
        if fitted is None:
            return False
        axes, extents = fitted
        total = set(range(len(extents)))
        dims = dims_of(axes)
        kept = total - cluster.reduced
        if dims != total and not (cluster.reduced and dims == kept):
            return False
        if cluster.kind == "matmul":
            if not self._follows_product(node, cluster, axes, extents):
                return False
        elif len(extents) > len(cluster.extents) and cluster.axes:
            members = self._members(cluster, node, (cluster,))
            if cluster.reduced or not settled(members, total, set(), axes, extents):
                return False
        if not self._after_operands(node, cluster):
            return False
        cluster.extents = extents
        cluster.axes[node] = axes
        cluster.weight += weight
        self._take_sources(node, cluster)
        return True

    def _take_sources(self, node: Node, cluster: Cluster) -> None:
        for operand in node.inputs:
            if operand not in cluster.axes:
                source = self._source(operand)
                cluster.sources[operand] = source
                self._reads(cluster, [source])

    def _follows_product(
        self, node: Node, cluster: Cluster, axes: Axes, extents: list[int]
    ) -> bool:
        """Whether `node` is pointwise work on the product of a matmul cluster, same shape."""
        product = cluster.node
        assert product is not None
        ramps = any(isinstance(self.known[n], Ramp) for n in node.inputs)
        return (
            node.op.pointwise and node.op.name != "check_index" and not ramps
            and node.type.shape == product.type.shape and axes == cluster.axes[product]
            and len(extents) == len(cluster.extents)
        )  # fmt: skip

    def _members(
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

    def _reads_of(self, node: Node) -> Iterable[tuple[Node, Sequence[int | None]]]:
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

    def _fit(self, node: Node, cluster: Cluster) -> tuple[Axes, list[int]] | None:
        """The map that `node` gets in `cluster`, and the extents with new dimensions."""
        shape = node.type.shape
        axes: list[int | None] = [None] * len(shape)
        free = [False] * len(shape)
        for operand, places in self._reads_of(node):
            own = cluster.axes.get(operand)
            extents = operand.type.shape
            for k, place in enumerate(places):
                if place is None or extents[k] == 1:
                    continue
                if own is None:
                    free[place] = free[place] or self._varies(operand, k)
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

    def _varies(self, operand: Node, axis: int) -> bool:
        """Whether an operand read from outside differs along one of its axes."""
        source = self.known[operand]
        if isinstance(source, Cluster):
            return source.final.axes[operand][axis] is not None
        return varies(source, axis)

    def _after_operands(self, node: Node, cluster: Cluster) -> bool:
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
        cluster.position = self._next()
        return True

    # -- merging ----------------------------------------------------------------------------
    def _merge(self, other: Cluster, base: Cluster, node: Node) -> bool:
        """Merge the earlier loop cluster `other` into `base`, both read by `node`."""
        if other.kind != "loop" or other.position > base.position:
            return False
        if other.weight + base.weight > LARGEST_KERNEL:
            return False
        if any(r is base or r.position <= base.position for r in other.other_readers()):
            return False
        for operand in node.inputs:
            for view in leaves(s) if not isinstance(s := self.known[operand], Cluster) else ():
                if any(w.final is other for w in view.buffer.writers):
                    return False
        renamed = self._renamed(other, base, node)
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
        order = self._partial(node, base, {}) or ()
        members = [*self._members(other, node, inside, renamed), *self._members(base, node, inside)]
        if not settled(members, total, reduced, order, extents):
            return False
        self._absorb(other, base, renamed, extents, reduced)
        return True

    def _absorb(
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

    def _partial(
        self, node: Node, cluster: Cluster, into: dict[int, int]
    ) -> list[int | None] | None:
        """The map of `node` by its operands in `cluster` alone; None where they disagree."""
        axes: list[int | None] = [None] * len(node.type.shape)
        for operand, places in self._reads_of(node):
            own = cluster.axes.get(operand)
            if own is None:
                continue
            for k, place in enumerate(places):
                d = own[k]
                if place is None or d is None:
                    continue
                d = into.get(d, d)
                if axes[place] not in (None, d):
                    return None
                axes[place] = d
        return axes

    def _renamed(self, other: Cluster, base: Cluster, node: Node) -> dict[int, int] | None:
        """Dimensions of `other` as those of `base`, new ones behind them."""
        ours, theirs = self._partial(node, base, {}), self._partial(node, other, {})
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
    def _reduce(self, node: Node) -> Source | Cluster:
        if not native_reduction(node):
            return self._reference(node)
        (operand,) = node.inputs
        source = self.known[operand]
        if isinstance(source, Cluster) and source.final.kind == "loop":
            cluster = source.final
            if self._fold_in(node, cluster, cluster.axes[operand]):
                return cluster
        cluster = self._new("loop")
        axes: list[int | None] = []
        for k, extent in enumerate(operand.type.shape):
            needed = k in node.attrs["axis"] or self._varies(operand, k)
            if extent == 1 or not needed:
                axes.append(None)
                continue
            axes.append(len(cluster.extents))
            cluster.extents.append(extent)
        joined = self._fold_in(node, cluster, tuple(axes))
        assert joined
        return cluster

    def _fold_in(self, node: Node, cluster: Cluster, inner: Axes) -> bool:
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
            members = self._members(cluster, node, (cluster,))
            if not settled(members, total, reduced, inner, cluster.extents):
                return False
        if not self._after_operands(node, cluster):
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
        self._take_sources(node, cluster)
        return True

    # -- kernels that stand alone -----------------------------------------------------------
    def _contraction(self, node: Node) -> Source | Cluster:
        dtype = node.type.dtype
        if dtype not in ELEMENTS or dtype.kind == "b" or node.op.name != "matmul":
            return self._reference(node)
        cluster = self._new("matmul", node)
        axes: list[int | None] = []
        for extent in node.type.shape:
            axes.append(None if extent == 1 else len(cluster.extents))
            if extent != 1:
                cluster.extents.append(extent)
        for operand in node.inputs:
            view = self.stored(operand)
            cluster.tables[operand] = view
            self._reads(cluster, [view])
        cluster.axes[node] = tuple(axes)
        cluster.position = self._next()
        return cluster

    def _indexed(self, node: Node) -> Source | Cluster:
        native = all(n.type.dtype in ELEMENTS for n in node.inputs)
        if not native or node.op.name not in (*_GATHERS, *_SCATTERS):
            return self._reference(node)
        if node.op.name in _GATHERS:
            x = node.inputs[0]
            computed = isinstance(self.known[x], Cluster)
            table = self.stored(x)
            if not computed:
                self.known[x] = table  # which clusters are ordered behind
            # It reads everywhere in `x`, which must be finished by then.
            cluster = self._alone(node) if computed else self._placed(node)
            cluster.tables[node] = table
            return cluster
        x, index, values = node.inputs
        whole = self.copied(self._source(x), node.type.dtype, node.type.shape)
        sources = {n: self._source(n) for n in (index, values)}
        cluster = self._new("scatter", node)
        cluster.sources.update(sources)
        cluster.copies.append((whole, whole))
        self._reads(cluster, [*sources.values(), whole])
        whole.buffer.writers.append(cluster)
        return whole

    def _reference(self, node: Node) -> View:
        """A step of the NumPy reference, for what has no native code."""
        sources = {n: self.stored(n) for n in node.inputs}
        cluster = self._new("reference", node)
        cluster.sources.update(sources)
        self._reads(cluster, sources.values())
        target = self._target(node.type.dtype, node.type.shape, cluster)
        cluster.stores[node] = target
        return target
