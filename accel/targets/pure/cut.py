"""Cutting: the primitives of regions partitioned into clusters, one kernel each.

Nodes are visited once, in topological order. What a node becomes:

- pointwise ops, reductions and gathers join a loop cluster (see `clusters` and `growth` for
  the rules);
- a matrix product or convolution is a cluster that takes pointwise work on its result;
- movement of a value inside a cluster is another map of its axes; movement of a stored value
  is a view; where neither is possible the value is copied by a kernel;
- constants, iota and cheap scalar work are repeated in each kernel that reads them;
- what has no native code is a reference step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.graph import Graph
from ...ir.node import Literal, Node
from .clusters import (
    HEAVY,
    Cluster,
    Number,
    Part,
    Ramp,
    Scalar,
    Source,
    moved_axes,
    moved_ramp,
)
from .growth import Growth
from .loops import loop_kernel
from .nests.lowering import supported
from .nests.nest import Access, Nest
from .nests.scan import Scan
from .nests.site import ELEMENTS, HALVES, IN_NESTS
from .pooled import fold_pools
from .views import View, moved

__all__ = ["Partition"]

#: Scalar work up to this many ops is repeated rather than stored.
_SCALAR_WORK = 32

#: Elements from which on an operand is worth straightening, and consecutive ones that are so
#: few that they come with their neighbours.
_WORTH_COPYING = 4096
#: Rows of a product of integers from which on its other operand is worth straightening.
_INTEGER_ROWS = 4
#: How often a kernel reads each element of what it is worth to straighten in any case.
_READ_OFTEN = 16
_FEW = 8

#: Movement whose result lies in memory of its own.
_MADE = ("cat", "pad", "slice_update")

_GATHERS = ("take_unchecked", "gather_unchecked")
_SCATTERS = ("index_add_unchecked", "scatter_add_unchecked", "scatter_unchecked")

#: The ops that become windows.
_WINDOWS = ("convolution", "convolution_input_gradient")

#: The operand whose order of axes in memory a result of attention takes.
_LIKE = {None: 0, "query": 1, "key": 2, "value": 3}


def _crosses(nest: Nest, access: Access) -> bool:
    """Whether an access walks consecutive elements along another dimension than the last."""
    along = [e for e, s in zip(nest.extents[:-1], access.strides, strict=False) if abs(s) == 1]
    return access.lane_class == "s" and max(along, default=0) > _FEW


def native_reduction(node: Node) -> bool:
    """Whether the reduction has native code for its dtypes."""
    return node.inputs[0].type.dtype in IN_NESTS and node.type.dtype in IN_NESTS


class Partition(Growth):
    """The clusters of a run of regions, in the order of execution."""

    # -- regions ----------------------------------------------------------------------------
    def region(self, name: str, body: Graph, operands: Sequence[Source]) -> list[Source]:
        """Cut one region of primitives; returns where its results can be read."""
        self.name, self.graph, self.results = name, body, set(body.outputs)
        self.views, self.scalars = {}, None
        self.known = dict(zip(body.inputs, operands, strict=True))
        for node in body.nodes[len(body.inputs) :]:
            handle = _HANDLERS.get(node.op.form, Partition._reference)
            self.known[node] = handle(self, node)
        return [self.source(node) for node in body.outputs]

    def top_level(self, node: Node) -> Source:
        """A constant that stands outside of every region."""
        source = self._creation(node)
        assert not isinstance(source, Cluster)
        return source

    def ordered(self) -> list[Cluster]:
        """The clusters that do something, in the order of execution."""
        alive = [c for c in self.clusters if c.into is None]
        alive = [c for c in alive if c.kind not in ("loop", "matmul", "conv") or c.stores]
        alive.sort(key=lambda c: c.position)
        self._share_columns(alive)
        ordered = sorted([c for c in alive if c.into is None], key=lambda c: c.position)
        straight: dict[tuple[View, int], View] = {}
        found = [c for cluster in ordered for c in (*self._straighten(cluster, straight), cluster)]
        return fold_pools(found)

    def _straighten(
        self, cluster: Cluster, known: dict[tuple[View, int], View]
    ) -> list[Cluster]:
        """Copies, for a cluster that reduces, of operands whose elements follow each other along
        another dimension than its lanes; `known` are those of inputs made before. Copies read
        through tiles, a reduction would gather, in every sweep."""
        if cluster.kind != "loop" or not cluster.reduced:
            return []
        kernel = loop_kernel(cluster)
        nest = kernel.nest
        crossed = {kernel.buffers[a.operand]: a.strides[-1] for a in nest.accesses
                   if _crosses(nest, a)}  # fmt: skip
        copies = []
        for node, view in cluster.sources.items():
            if not isinstance(view, View) or view.buffer not in crossed:
                continue
            large = view.buffer.kind == "input" and view.size >= _WORTH_COPYING
            if large or view.size * _READ_OFTEN <= nest.points:
                key = view, crossed[view.buffer]
                if key not in known or view.buffer.kind != "input":  # others may be written over
                    known[key] = self._turned(*key)
                    copies.append(known[key].buffer.writers[-1])
                cluster.sources[node] = known[key]
        return copies

    def _turned(self, view: View, step: int) -> View:
        """`view` copied so that elements follow each other that lie `step` apart."""
        axes = range(len(view.shape))
        order = sorted(axes, key=lambda d: view.shape[d] > 1 and view.strides[d] == step)
        turned = view.permute(tuple(order))
        copy = self.copied(turned, view.buffer.dtype, turned.shape)
        return copy.permute(tuple([order.index(d) for d in axes]))

    def _share_columns(self, clusters: Sequence[Cluster]) -> None:
        """Merge kernels that reduce over the first dimensions of one domain and do not need
        each other, such as the gradients of a norm's weight and bias."""
        groups: dict[object, list[Cluster]] = {}
        for c in clusters:
            if c.kind == "loop" and c.reduced and c.reduced != c.dims:
                domain = (tuple(c.extents), frozenset(c.reduced))
                groups.setdefault((c.region, id(c.graph), domain), []).append(c)
        for group in groups.values():
            if len(group) > 1:
                self._share(group)

    def _share(self, group: Sequence[Cluster]) -> None:
        kept: dict[object, list[Cluster]] = {}
        for base in group:
            nest = loop_kernel(base).nest
            if nest.reduced[-1]:
                continue
            same = kept.setdefault((nest.extents, nest.reduced), [])
            for other in same:
                if self.beside(other, base):
                    same.remove(other)
                    break
            same.append(base)

    # -- leaves and movement ----------------------------------------------------------------
    def _creation(self, node: Node) -> Source | Cluster:
        if node.op.name == "constant":
            value = node.attrs["value"]
            if isinstance(value, Literal):
                return self.constant(value.array, node.type.dtype)
            return Number(value, node.type.dtype)
        if node.op.name == "iota" and node.type.dtype in IN_NESTS:
            return Ramp(node.attrs["axis"], 0, 1, node.type.shape, node.type.dtype)
        return self._reference(node)

    def _movement(self, node: Node) -> Source | Cluster:
        if node.op.name in _MADE:
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
        if isinstance(source, Part):
            whole = moved(source.whole, node)
            if whole is not None:
                return Part(whole, source.imaginary)
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
                self.copy_into(self.source(operand), piece)
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
            self.copy_into(self.source(x), inside, whole.buffer.writers[-1])
        return whole

    def _written_over(self, node: Node) -> View:
        """Memory that holds the first operand of `node` and may be written: the operand's own
        where nobody else reads it, else a copy."""
        x = node.inputs[0]
        made = x.op.form != "movement" or x.op.name in _MADE
        alone = self.graph.users[x] == (node,) and node.inputs.count(x) == 1
        if made and alone and x not in self.results and x not in self.graph.inputs:
            source = self.source(x)
            if isinstance(source, View) and source.buffer.kind == "arena" and source.is_whole:
                return source
        return self.copied(self.source(x), node.type.dtype, node.type.shape)

    def _slice_update(self, node: Node) -> View:
        piece = node.inputs[1]
        whole = self._written_over(node)
        attrs = node.attrs
        target = whole.part(attrs["start"], attrs["step"], piece.type.shape)
        if target.size:
            self.copy_into(self.source(piece), target, whole.buffer.writers[-1])
        return whole

    # -- loops ------------------------------------------------------------------------------
    def _pointwise(self, node: Node) -> Source | Cluster:
        if node.op.name == "check_index" and not node.type.size:
            # a loop over fewer dimensions might not be empty
            return self.copied(self.source(node.inputs[0]), node.type.dtype, node.type.shape)
        types = [n.type.dtype for n in node.inputs]
        if node.op.name in ("real", "imag") and types[0].kind == "c":
            return Part(self.stored(node.inputs[0]), node.op.name == "imag")
        paired = node.op.name == "complex" and all(d in ELEMENTS for d in types)  # see `loops`
        if not paired and not supported(node.op.name, types, node.type.dtype, node.attrs):
            return self._reference(node)
        scalar = self._scalar(node)
        if scalar is not None:
            return scalar
        cluster = self.known[node] = self.placed(node)
        if node.op.name == "check_index" and not all(n.type.size for n in self.graph.nodes):
            return self.stored(node)  # the loops of what reads it might be empty
        return cluster

    def _scalar(self, node: Node) -> Scalar | None:
        """`node` as scalar work that every reader repeats, if it is little of it."""
        if node.op.cost >= HEAVY or node.op.name in ("check_index", "complex"):
            return None
        operands: list[Number | Scalar | View | Part] = []
        work = 1
        for operand in node.inputs:
            source = self.known[operand]
            if isinstance(source, Scalar):
                work += source.work
            elif isinstance(source, View):
                if source.size != 1:
                    return None
                source = View(source.buffer, (), (), source.offset)
            elif isinstance(source, Part):
                whole = source.whole
                if whole.size != 1:
                    return None
                source = Part(View(whole.buffer, (), (), whole.offset), source.imaginary)
            elif not isinstance(source, Number):
                return None
            operands.append(source)
        return Scalar(node, tuple(operands), work) if work <= _SCALAR_WORK else None

    # -- reductions -------------------------------------------------------------------------
    def _reduce(self, node: Node) -> Source | Cluster:
        if not native_reduction(node):
            return self._reference(node)
        (operand,) = node.inputs
        source = self.known[operand]
        if isinstance(source, Cluster) and source.final.kind == "loop":
            cluster = source.final
            if self.fold_in(node, cluster, cluster.axes[operand]):
                return cluster
        cluster = self.new("loop")
        axes: list[int | None] = []
        for k, extent in enumerate(operand.type.shape):
            needed = k in node.attrs["axis"] or self.varies(operand, k)
            if extent == 1 or not needed:
                axes.append(None)
                continue
            axes.append(len(cluster.extents))
            cluster.extents.append(extent)
        joined = self.fold_in(node, cluster, tuple(axes))
        assert joined
        return cluster

    # -- kernels that stand alone -----------------------------------------------------------
    def _contraction(self, node: Node) -> Source | Cluster:
        dtype = node.type.dtype
        if node.op.name == "convolution_weight_gradient" and dtype in ELEMENTS:
            return self._weight_gradient(node)
        kind = "conv" if node.op.name in _WINDOWS else node.op.name
        native = dtype in ELEMENTS or (kind == "matmul" and dtype in HALVES)
        if not native or dtype.kind == "b" or kind not in ("matmul", "conv"):
            return self._reference(node)
        cluster = self.new(kind, node)
        axes: list[int | None] = []
        for extent in node.type.shape:
            axes.append(None if extent == 1 else len(cluster.extents))
            if extent != 1:
                cluster.extents.append(extent)
        for place, operand in enumerate(node.inputs):
            view = self.stored(operand)
            if place and kind == "matmul" and self._reads_across(node, view):
                view = self.copied(view, view.buffer.dtype, view.shape)
            cluster.tables[operand] = view
            self.note_reads(cluster, [view])
        cluster.axes[node] = tuple(axes)
        cluster.position = self.next_position()
        return cluster

    @staticmethod
    def _reads_across(node: Node, b: View) -> bool:
        """Whether a product of integers, whose lanes run along the columns of `b`, reads these
        often and apart."""
        rows = node.inputs[0].type.shape[-2:-1]
        often = rows != () and rows[0] >= _INTEGER_ROWS
        apart = len(b.shape) > 1 and b.strides[-1] != 1 and all(b.strides)
        return node.type.dtype.kind in "iu" and often and apart

    def _attention(self, node: Node) -> Source | Cluster:
        """A composite that was not expanded because kernels compute it whole; those of the
        gradient compute it for all operands."""
        if node in self.views:
            return self.views[node]
        cluster = self.new("attention", node)
        for operand in node.inputs:
            cluster.tables[operand] = self.stored(operand)
        self.note_reads(cluster, cluster.tables.values())
        for wanted in self.graph.joint(node):
            like = cluster.tables[node.inputs[_LIKE[wanted.attrs.get("of")]]]
            target = self.target_like(like, wanted.type.dtype, wanted.type.shape, cluster)
            cluster.stores[wanted] = self.views[wanted] = target
        return self.views[node]

    def _weight_gradient(self, node: Node) -> View:
        x, g = [self.stored(n) for n in node.inputs]
        if g.shape[-1] > 1 and g.strides[-1] != 1:  # its columns are read as vectors
            g = self.copied(g, g.buffer.dtype, g.shape)
        cluster = self.new("conv_weight", node)
        cluster.tables.update(zip(node.inputs, (x, g), strict=True))
        self.note_reads(cluster, [x, g])
        target = self.target(node.type.dtype, node.type.shape, cluster)
        cluster.stores[node] = target
        return target

    def _indexed(self, node: Node) -> Source | Cluster:
        native = all(n.type.dtype in IN_NESTS for n in node.inputs)
        if not native or node.op.name not in (*_GATHERS, *_SCATTERS):
            return self._reference(node)
        if node.op.name in _GATHERS:
            x = node.inputs[0]
            computed = isinstance(self.known[x], Cluster)
            table = self.stored(x)
            if not computed:
                self.known[x] = table  # which clusters are ordered behind
            # It reads everywhere in `x`, which must be finished by then.
            cluster = self.alone(node) if computed else self.placed(node)
            cluster.tables[node] = table
            return cluster
        _, index, values = node.inputs
        whole = self._written_over(node)
        sources = {n: self.source(n) for n in (index, values)}
        cluster = self.new("scatter", node)
        cluster.sources.update(sources)
        cluster.copies.append((whole, whole))
        self.note_reads(cluster, [*sources.values(), whole])
        whole.buffer.writers.append(cluster)
        return whole

    def _scan(self, node: Node) -> Source | Cluster:
        if not Scan.native(node):
            return self._reference(node)
        (operand,) = node.inputs
        view = self.stored(operand)
        flat = view.reshape((view.size,))
        if view.size > 1 and (flat is None or flat.strides != (1,)):
            view = self.copied(view, view.buffer.dtype, view.shape)
        cluster = self.new("scan", node)
        cluster.sources[operand] = view
        self.note_reads(cluster, [view])
        target = self.target(node.type.dtype, node.type.shape, cluster)
        cluster.stores[node] = target
        return target

    def _reference(self, node: Node) -> View:
        """A step of the NumPy reference, for what has no native code, and all that is computed
        together with it."""
        if node in self.views:
            return self.views[node]
        sources = {n: self.stored(n) for n in node.inputs}
        cluster = self.new("reference", node)
        cluster.sources.update(sources)
        self.note_reads(cluster, sources.values())
        for part in self.graph.joint(node) if node.op.parts else (node,):
            target = self.target(part.type.dtype, part.type.shape, cluster)
            cluster.stores[part] = self.views[part] = target
        return self.views[node]


#: What becomes of a node, by the form of its op; of others a reference step.
_HANDLERS: dict[str, Callable[[Partition, Node], Source | Cluster]] = {
    "movement": Partition._movement, "pointwise": Partition._pointwise,
    "reduce": Partition._reduce, "contraction": Partition._contraction,
    "indexed": Partition._indexed, "creation": Partition._creation,
    "opaque": Partition._scan, "composite": Partition._attention,
}  # fmt: skip
