"""Clusters: groups of primitive nodes that become one kernel, and the rules of their shape.

A loop cluster has a domain: dimensions with extents, some of them reduced. Each member maps
its axes to dimensions of the domain (None where it does not vary along an axis: extent 1, or
a broadcast not yet stored). So transposes, broadcasts and insertions of 1-extents inside a
cluster are only other maps of the same value.

Members that vary along all dimensions are *full*, those that vary along exactly the kept ones
are *rows*: they are computed, and stored, once. Others are computed again wherever the other
dimensions move. That is allowed where they leave the inner loop, or where nobody outside
needs them and they are cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...ir.dataclass import dataclass
from ...ir.dtypes import DType
from ...ir.graph import Graph
from ...ir.node import Node
from ...ir.types import Shape
from .views import View

__all__ = ["Axes", "Cluster", "Number", "Part", "Ramp", "Scalar", "Source", "dims_of", "leaves",
           "moved_axes", "moved_ramp", "match", "only_in_loops", "right_aligned", "settled",
           "varies"]  # fmt: skip

#: For each axis of a value the dimension of the domain that it runs along.
Axes = tuple["int | None", ...]

#: Ops from this cost on are not computed again at every point.
HEAVY = 8.0
#: Leaving the inner loop pays from this extent on.
_LONG = 8


# -- what a kernel reads without computing it ----------------------------------------------
@dataclass(frozen=True, eq=False)
class Number:
    """A constant, the same everywhere."""

    value: bool | int | float | complex
    dtype: DType


@dataclass(frozen=True, eq=False)
class Scalar:
    """Cheap work on scalars (the cast of a learning rate), repeated in every kernel that
    reads it instead of being stored."""

    node: Node
    operands: tuple[Number | Scalar | View | Part, ...]
    work: int

    @property
    def dtype(self) -> DType:
        return self.node.type.dtype


@dataclass(frozen=True)
class Part:
    """The real parts of complex numbers in memory, or the imaginary ones."""

    whole: View
    imaginary: bool

    @property
    def dtype(self) -> DType:
        return self.whole.buffer.dtype.real

    @property
    def words(self) -> View:
        """The whole in words of `dtype`."""
        view = self.whole
        strides, offset = tuple([2 * s for s in view.strides]), 2 * view.offset
        return View(view.buffer, view.shape, strides, offset + self.imaginary)


@dataclass(frozen=True, eq=False)
class Ramp:
    """``start + step * index`` along one axis (iota and its movements)."""

    axis: int
    start: int
    step: int
    shape: Shape
    dtype: DType


class Cluster:
    """One kernel to be.

    Attributes
    ----------
    kind
        ``loop``, ``matmul``, ``conv``, ``conv_weight``, ``attention``, ``copy``, ``scatter``,
        ``scan`` or ``reference``. Only the first three grow.
    position
        Its place in the order of execution; a cluster reads from earlier ones only.
    region, graph
        The region it belongs to, and that region's body.
    node
        What a cluster of one node computes (matmul, conv, conv_weight, attention,
        scatter, scan, reference).
    extents, reduced
        The domain.
    axes
        The map of every member.
    inner
        For a reduction the map of its operand.
    alias
        Members that are movements of another member.
    sources
        Operands that are read and not computed here.
    tables
        Stored values read elsewhere than at the member's own place: by gathers (under the
        gather), by products and by attention (under their operands).
    stores
        Members that are written, and to where.
    pooled
        Whether a convolution stores the maxima of windows of its members.
    copies
        (source, target) pairs of a copy cluster; several only of scalars.
    readers
        Clusters that read what this one stores.
    """

    __slots__ = ("alias", "axes", "copies", "extents", "graph", "inner", "into", "kind",
                 "node", "pooled", "position", "readers", "reduced", "region", "sources", "stores",
                 "tables", "weight")  # fmt: skip

    def __init__(
        self, kind: str, position: int, region: str, graph: Graph, node: Node | None = None
    ) -> None:
        self.kind = kind
        self.position = position
        self.region = region
        self.graph = graph
        self.node = node
        self.extents: list[int] = []
        self.reduced: set[int] = set()
        self.axes: dict[Node, Axes] = {}
        self.inner: dict[Node, Axes] = {}
        self.alias: dict[Node, Node] = {}
        self.sources: dict[Node, Source] = {}
        self.tables: dict[Node, View] = {}
        self.stores: dict[Node, View] = {}
        self.copies: list[tuple[Source, View]] = []
        self.pooled = False
        self.readers: set[Cluster] = set()
        self.into: Cluster | None = None
        self.weight = 0.0

    @property
    def final(self) -> Cluster:
        """The cluster that this one has been merged into, itself if none."""
        cluster = self
        while cluster.into is not None:
            cluster = cluster.into
        return cluster

    @property
    def dims(self) -> set[int]:
        return set(range(len(self.extents)))

    def other_readers(self) -> Iterator[Cluster]:
        for reader in self.readers:
            if reader.final is not self:
                yield reader.final

    def __repr__(self) -> str:
        names = [n.op.name for n in self.axes] or [self.node.op.name if self.node else "copy"]
        return f"<{self.kind} {self.position}: {', '.join(names)}>"


Source = Number | Scalar | Ramp | Part | View


def leaves(source: Source | Cluster) -> Iterator[View]:
    """The views that reading `source` reads."""
    if isinstance(source, View):
        yield source
    elif isinstance(source, Part):
        yield source.whole
    elif isinstance(source, Scalar):
        for operand in source.operands:
            yield from leaves(operand)


def only_in_loops(source: Source | Cluster) -> bool:
    """Whether a source has parts that are not read as a whole array is."""
    if isinstance(source, Scalar):
        return any(map(only_in_loops, source.operands))
    return isinstance(source, (Ramp, Part))


def varies(source: Source, axis: int) -> bool:
    """Whether a source differs along one of its axes."""
    if isinstance(source, Part):
        source = source.whole
    if isinstance(source, View):
        return source.shape[axis] != 1 and source.strides[axis] != 0
    return isinstance(source, Ramp) and source.axis == axis and source.shape[axis] != 1


def dims_of(axes: Iterable[int | None]) -> set[int]:
    return {d for d in axes if d is not None}


# -- movement of maps ----------------------------------------------------------------------
def moved_axes(node: Node, axes: Axes) -> Axes | None:
    """The map of a movement `node` of a value with map `axes`; None if it is none."""
    name, shape = node.op.name, node.type.shape
    old = node.inputs[0].type.shape
    if name == "barrier":
        return axes
    if name == "permute":
        return tuple([axes[a] for a in node.attrs["axes"]])
    if name == "broadcast_to":
        fill = len(shape) - len(old)
        kept = [d if e == w else None for d, e, w in zip(axes, old, shape[fill:], strict=True)]
        return (None,) * fill + tuple(kept)
    if name == "reshape" and [e for e in old if e != 1] == [e for e in shape if e != 1]:
        rest = iter([d for d, e in zip(axes, old, strict=True) if e != 1])
        return tuple([None if e == 1 else next(rest) for e in shape])
    return None


def moved_ramp(node: Node, ramp: Ramp) -> Ramp | None:
    """A movement of a ramp, where it is a ramp again."""
    name, attrs, shape = node.op.name, node.attrs, node.type.shape
    axis, start, step = ramp.axis, ramp.start, ramp.step
    if name == "permute":
        axis = attrs["axes"].index(axis)
    elif name == "broadcast_to":
        axis += len(shape) - len(ramp.shape)
        if shape[axis] != ramp.shape[ramp.axis]:
            step = 0
    elif name == "slice":
        start, step = start + step * attrs["start"][axis], step * attrs["step"][axis]
    elif name == "flip":
        if axis in attrs["axis"]:
            start, step = start + step * (shape[axis] - 1), -step
    else:
        places: Axes = tuple([d if d == axis else None for d in range(len(ramp.shape))])
        found = moved_axes(node, places)
        if found is None or axis not in found:
            return None
        axis = found.index(axis)
    return Ramp(axis, start, step, shape, ramp.dtype)


def right_aligned(operand: Node, node: Node) -> range:
    """Where the axes of a broadcast operand stand among those of `node`."""
    return range(len(node.type.shape) - len(operand.type.shape), len(node.type.shape))


# -- rules ---------------------------------------------------------------------------------
def match(
    extent: int, used: set[int], cluster: Cluster, prefer: Sequence[set[int]]
) -> int | None:
    """An unused dimension of `extent`, from the first of the preferred sets that has one."""
    for dims in prefer:
        for d in sorted(dims - used):
            if cluster.extents[d] == extent:
                return d
    return None


def settled(
    members: Iterable[tuple[Node, Axes, bool]], total: set[int], reduced: set[int],
    order: Sequence[int | None], extents: Sequence[int],
) -> bool:  # fmt: skip
    """Whether members keep their place in a domain of `total` dimensions.

    Parameters
    ----------
    members
        (node, map, whether it is needed outside).
    order
        The new member's map: its last dimensions will be the inner loop.
    """
    kept = total - reduced
    for node, axes, needed in members:
        dims = dims_of(axes)
        if dims == total or (reduced and dims == kept):
            continue
        hoisted = bool(dims) and _hoisted(dims, total, reduced, order, extents)
        if (needed or (dims and node.op.cost >= HEAVY)) and not hoisted:
            return False
    return True


def _hoisted(
    dims: set[int], total: set[int], reduced: set[int], order: Sequence[int | None],
    extents: Sequence[int],
) -> bool:  # fmt: skip
    """Whether a value that varies along `dims` only leaves a long inner loop."""
    if reduced or not total <= dims_of(order):
        return False
    missing = total - dims
    length = 1
    for d in missing:
        length *= extents[d]
    places = {d: i for i, d in enumerate(order) if d is not None}
    return max(places[d] for d in dims) < min(places[d] for d in missing) and length >= _LONG
