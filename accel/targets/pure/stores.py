"""Where values lie while regions are cut: in a cluster, in a buffer, or nowhere yet.

A value is stored only when somebody reads it who does not compute it: `Stores.stored` then
gives the view that holds it, and makes its cluster write it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph
from ...ir.node import Node
from ...ir.types import Shape
from .clusters import Cluster, Number, Scalar, Source, leaves, varies
from .nests.site import IN_NESTS
from .views import Buffer, View, moved

__all__ = ["Stores"]

#: So many results of the same scalar work one kernel stores at most.
_TOGETHER = 4


class Stores:
    """The clusters and buffers of a run, and what is known of every value of a region.

    Attributes
    ----------
    clusters
        All of them, those merged away included.
    buffers
        Every buffer that they write.
    known
        For each value of the region what it is: a source, or the cluster that computes it.
    views
        Values that are stored.
    scalars
        The latest cluster of work on scalars in this region.
    """

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []
        self.buffers: list[Buffer] = []
        self.views: dict[Node, View] = {}
        self.known: dict[Node, Source | Cluster] = {}
        self.graph = Graph((), (), ())
        self.results: set[Node] = set()
        self.name = ""
        self.scalars: Cluster | None = None
        self.count = 0

    def new(self, kind: str, node: Node | None = None) -> Cluster:
        cluster = Cluster(kind, self.next_position(), self.name, self.graph, node)
        self.clusters.append(cluster)
        return cluster

    def next_position(self) -> int:
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
            view = self.store_in(node, source.final) if isinstance(source, Cluster) else (
                self.as_view(source, node.type.shape)
            )  # fmt: skip
            self.views[node] = view
        return view

    def store_in(self, node: Node, cluster: Cluster) -> View:
        moves = []
        while node in cluster.alias:
            moves.append(node)
            node = cluster.alias[node]
        view = self.views.get(node)
        if view is None:
            pairs = zip(node.type.shape, cluster.axes[node], strict=True)
            compact = tuple([1 if d is None else e for e, d in pairs])
            target = self.target(node.type.dtype, compact, cluster)
            cluster.stores[node] = target
            view = self.views[node] = target.broadcast_to(node.type.shape)
        for move in reversed(moves):
            found = moved(view, move)
            assert found is not None  # maps and views move alike
            view = found
        return view

    def target(self, dtype: DType, shape: tuple[int, ...], writer: Cluster) -> View:
        """A fresh buffer of `shape` that `writer` fills."""
        size = 1
        for extent in shape:
            size *= extent
        made = self.buffer(dtype, size)
        made.writers.append(writer)
        return made.whole(shape)

    def target_like(self, like: View, dtype: DType, shape: Shape, writer: Cluster) -> View:
        """A fresh buffer of `shape`, its axes but the last in memory in the order of `like`'s."""
        outer = range(len(shape) - 1)
        fill = len(shape) - len(like.shape)
        steps = [0] * fill + list(like.strides)
        order = (*sorted(outer, key=lambda d: -abs(steps[d]) or -math.inf), len(shape) - 1)
        made = self.target(dtype, tuple([shape[d] for d in order]), writer)
        return made.permute(tuple([order.index(d) for d in range(len(shape))]))

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
        cluster = self.new("copy")
        target = self.target(dtype, shape, cluster)
        self.copy_to(cluster, source, target)
        return target

    def computed_scalars(self, sources: Sequence[Scalar]) -> list[Buffer]:
        """Scalar work stored, by one kernel, but for what is the same over and over, such as the
        count of the steps of every parameter: that has a kernel each, of one code."""
        forms = [(source.node.op.name, source.dtype, source.work) for source in sources]
        often = {form for form, count in Counter(forms).items() if count > _TOGETHER}
        clusters: list[Cluster] = []
        before: Counter[object] = Counter()
        buffers = []
        for source, form in zip(sources, forms, strict=True):
            number = before[form]
            before[form] += form in often
            if number == len(clusters):
                clusters.append(self.new("copy"))
            target = self.target(source.dtype, (), clusters[number])
            self.copy_to(clusters[number], source, target)
            buffers.append(target.buffer)
        return buffers

    def copy_to(self, cluster: Cluster, source: Source, target: View) -> None:
        if isinstance(source, Number) and source.dtype not in IN_NESTS:
            source = self.as_view(source, target.shape)
        cluster.copies.append((source, target))
        self.note_reads(cluster, [source])

    def copy_into(self, source: Source, target: View, after: Cluster | None = None) -> Cluster:
        """A kernel that copies `source` over `target`, a part of a buffer."""
        cluster = self.new("copy")
        target.buffer.writers.append(cluster)
        self.copy_to(cluster, source, target)
        if after is not None:
            after.final.readers.add(cluster)
        return cluster

    def note_reads(self, cluster: Cluster, sources: Iterable[Source]) -> None:
        """Note that `cluster` reads `sources`."""
        for source in sources:
            for view in leaves(source):
                for writer in view.buffer.writers:
                    if writer.final is not cluster:
                        writer.final.readers.add(cluster)

    def source(self, node: Node) -> Source:
        """How a cluster that does not compute `node` reads it."""
        source = self.known[node]
        return self.stored(node) if isinstance(source, Cluster) else source
