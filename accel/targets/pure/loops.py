"""From loop, copy and scatter clusters to loop nests.

Here the domain gets its order (the last dimension is the one along which most accesses are
consecutive), neighbouring dimensions that every access walks evenly become one, and movement
disappears into the strides of accesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...ir import dtypes
from ...ir.dataclass import dataclass
from ...ir.dtypes import DType
from ...ir.node import Node
from .clusters import Axes, Cluster, Number, Part, Ramp, Source, right_aligned
from .halves import CHOICES, Code, in_memory, in_registers
from .nests.nest import (
    Access,
    Gather,
    Iota,
    Load,
    Nest,
    Pointwise,
    Reduce,
    ScatterAdd,
    Store,
)
from .views import Buffer, View

__all__ = ["LoopKernel", "loop_kernel"]

#: Numbers that stand in the code; others are run-time arguments, so that a new learning rate
#: or a new extent compiles nothing.
_LITERALS = (0.0, 1.0, -1.0, 0.5, 2.0, float("inf"), float("-inf"))
#: Members from which on a kernel takes those too as arguments: the parts into which a long chain is
#: cut are then one kernel more often, and making one takes longer than such numbers save.
_LONG = 48
#: Elements that fill few of the lanes, and that fill them all.
_FEW, _MANY = 4, 64
_SHIFTS = ("bitwise_left_shift", "bitwise_right_shift")

#: Copies move bits: of elements without native arithmetic too.
_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


@dataclass(frozen=True)
class LoopKernel:
    """A nest and what its pointers and status numbers mean.

    Attributes
    ----------
    nest
        The loops.
    buffers
        The buffer behind every operand of the nest.
    checks
        The nodes whose checks can fail, by their number in the nest.
    """

    nest: Nest
    buffers: tuple[Buffer, ...]
    checks: tuple[Node, ...] = ()


def loop_kernel(cluster: Cluster) -> LoopKernel:
    """The nest of a cluster of kind ``loop``, ``copy`` or ``scatter``."""
    writer = _Writer(cluster)
    if cluster.kind == "copy":
        for source, target in cluster.copies:
            writer.copy(source, target)
    elif cluster.kind == "scatter":
        writer.scatter()
    else:
        writer.members()
    return writer.finish()


def is_literal(value: bool | int | float | complex) -> bool:
    """Whether a number stands in the code rather than among the run-time arguments."""
    if isinstance(value, float):
        return value in _LITERALS or value != value
    return isinstance(value, bool) or value in (-1, 0, 1, 2)


class _Writer(Code):
    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.extents = list(cluster.extents)
        self.accesses: list[Access] = []
        self.buffers: dict[Buffer, int] = {}
        self.value: dict[Node, int] = {}
        self.pairs: dict[Node, tuple[int, int]] = {}  # complex members, by their parts
        self.checks: list[Node] = []

    # -- instructions -------------------------------------------------------------------
    def access(self, view: View, axes: Sequence[int | None], dtype: DType | None = None) -> int:
        """The access of a view whose axes run along the dimensions `axes`."""
        strides = [0] * len(self.extents)
        for d, stride, extent in zip(axes, view.strides, view.shape, strict=True):
            if d is not None and extent != 1:
                strides[d] += stride
        operand = self.buffers.setdefault(view.buffer, len(self.buffers))
        dtype = dtype or in_memory(view.buffer.dtype)
        made = Access(operand, dtype, tuple(strides), view.offset)
        self.accesses.append(made)
        return len(self.accesses) - 1

    def load(self, view: View, axes: Sequence[int | None], dtype: DType) -> int:
        place = self.access(view, axes, in_memory(dtype))
        made = self.accesses[place]
        if made in self.known:
            self.accesses.pop()
        bits = self.once(made, Load(made.dtype, place))
        return self.from_memory(bits, dtype)

    def read(self, source: Source, axes: Sequence[int | None], shift: bool = False) -> int:
        """The value of something that this cluster does not compute."""
        if isinstance(source, View):
            return self.load(source, axes, source.buffer.dtype)
        if isinstance(source, Part):
            return self.load(source.words, axes, source.dtype)
        if isinstance(source, Number):
            literal = is_literal(source.value) and len(self.cluster.axes) < _LONG
            return self.number(source.value, source.dtype, shift or literal)
        if isinstance(source, Ramp):
            return self.ramp(source, axes)
        key = id(source)
        if key not in self.known:
            operands = [self.read(o, ()) for o in source.operands]
            self.known[key] = self.apply(source.node, operands)
        return self.known[key]

    def ramp(self, source: Ramp, axes: Sequence[int | None]) -> int:
        dim = axes[source.axis]
        int64 = dtypes.int64
        if dim is None:
            place = self.number(source.start, int64, False)
        else:
            key = ("iota", dim, source.start, source.step)
            place = self.once(key, Iota(int64, dim, source.start, source.step))
        if source.dtype is int64:
            return place
        if (place, source.dtype) not in self.known:
            self.known[place, source.dtype] = self.converted(place, int64, source.dtype)
        return self.known[place, source.dtype]

    def apply(self, node: Node, operands: Sequence[int]) -> int:
        number = 0
        if node.op.name == "check_index":
            number = len(self.checks)
            self.checks.append(node)
        return self.applied(node, operands, number)

    def store(self, view: View, axes: Sequence[int | None], value: int) -> None:
        dtype = view.buffer.dtype
        self.add(Store(in_memory(dtype), self.access(view, axes), self.to_memory(value, dtype)))

    # -- members of a loop cluster --------------------------------------------------------
    def members(self) -> None:
        cluster = self.cluster
        order = cluster.graph.index
        for node in sorted(cluster.axes, key=order.__getitem__):
            if node.type.dtype.kind == "c":
                self.pairs[node] = self.pair(node)
            elif node in cluster.alias:
                self.value[node] = self.value[cluster.alias[node]]
            elif node.op.form == "reduce":
                self.value[node] = self.reduction(node)
            elif node.op.form == "indexed":
                self.value[node] = self.gather(node)
            else:
                self.value[node] = self.pointwise(node)
        for node, target in cluster.stores.items():
            axes = cluster.axes[node]
            if node in self.pairs:
                for imaginary, value in enumerate(self.pairs[node]):
                    part = Part(target, bool(imaginary))
                    self.add(Store(part.dtype, self.access(part.words, axes, part.dtype), value))
            else:
                self.store(target, axes, self.value[node])

    def operand(self, operand: Node, axes: Sequence[int | None], shift: bool = False) -> int:
        if operand in self.cluster.axes:
            return self.value[operand]
        return self.read(self.cluster.sources[operand], axes, shift)

    def pointwise(self, node: Node) -> int:
        axes = self.cluster.axes[node]
        operands = []
        for place, operand in enumerate(node.inputs):
            own = [axes[k] for k in right_aligned(operand, node)]
            operands.append(self.operand(operand, own, place == 1 and node.op.name in _SHIFTS))
        return self.apply(node, operands)

    def pair(self, node: Node) -> tuple[int, int]:
        """The parts of a complex member."""
        if node in self.cluster.alias:
            return self.pairs[self.cluster.alias[node]]
        axes = self.cluster.axes[node]
        re, im = (self.operand(x, [axes[k] for k in right_aligned(x, node)]) for x in node.inputs)
        return re, im

    def reduction(self, node: Node) -> int:
        (operand,) = node.inputs
        inner = self.cluster.inner[node]
        value = self.operand(operand, inner)
        name, source, dtype = node.op.name, operand.type.dtype, node.type.dtype
        if any(inner[k] is not None for k in node.attrs["axis"]):
            if in_registers(dtype) is not dtype:
                value = self.converted(value, source, dtype)
            total = self.add(Reduce(in_registers(dtype), name, value))
            return total if name in CHOICES else self.rounded(total, dtype)
        if name in ("argmax", "argmin"):  # along extents of 1
            return self.number(0, dtype, True)
        return value if source is dtype else self.converted(value, source, dtype)

    def gather(self, node: Node) -> int:
        index = node.inputs[1]
        axes = self.cluster.axes[node]
        axis = node.attrs["axis"]
        rank = len(index.type.shape)
        view = self.cluster.tables[node]
        if node.op.name == "take_unchecked":
            own: Axes = (*axes[:axis], None, *axes[axis + rank :])
            at = self.operand(index, axes[axis : axis + rank])
        else:
            own = (*axes[:axis], None, *axes[axis + 1 :])
            at = self.operand(index, axes)
        place = self.access(view, own)
        dtype = node.type.dtype
        found = Gather(in_memory(dtype), place, (self.wide(at),), (view.strides[axis],))
        return self.from_memory(self.add(found), dtype)

    def wide(self, value: int) -> int:
        """An index as int64."""
        if self.code[value].dtype is dtypes.int64:
            return value
        attrs = {"dtype": dtypes.int64, "weak": False}
        return self.add(Pointwise(dtypes.int64, "cast", (value,), attrs))

    # -- kernels of one node --------------------------------------------------------------
    def along(self, shape: Sequence[int]) -> list[int | None]:
        """A domain of `shape`; returns the dimension of every axis."""
        axes: list[int | None] = []
        for extent in shape:
            axes.append(None if extent == 1 else len(self.extents))
            if extent != 1:
                self.extents.append(extent)
        return axes

    def copy(self, source: Source, target: View) -> None:
        axes = self.along(target.shape)
        if not isinstance(source, View):
            along = axes if isinstance(source, (Ramp, Part)) else ()
            self.store(target, axes, self.read(source, along))
            return
        if target.buffer.dtype.itemsize == 16:  # two words an element
            source, target = _halves(source), _halves(target)
            axes.append(len(self.extents))
            self.extents.append(2)
        bits = _BITS[min(target.buffer.dtype.itemsize, 8)]
        value = self.add(Load(bits, self.access(source, axes, bits)))
        self.add(Store(bits, self.access(target, axes, bits), value))

    def scatter(self) -> None:
        node = self.cluster.node
        assert node is not None
        _, index, values = node.inputs
        axis = node.attrs["axis"]
        whole = self.cluster.copies[0][1]
        axes = self.along(values.type.shape)
        along = [axes[axis]] if node.op.name == "index_add_unchecked" else axes
        at = self.read(self.cluster.sources[index], along)
        value = self.read(self.cluster.sources[values], axes)
        # Indices say where along `axis`; the target does not move with that axis itself.
        own = [None if k == axis else d for k, d in enumerate(axes)]
        place = self.access(whole, own)
        step, dtype = whole.strides[axis], node.type.dtype
        puts = node.op.name == "scatter_unchecked"
        value = self.to_memory(value, dtype)
        self.add(ScatterAdd(in_memory(dtype), place, value, (self.wide(at),), (step,), puts))

    # -- the nest -------------------------------------------------------------------------
    def finish(self) -> LoopKernel:
        reduced = self.cluster.reduced
        last = self._last()
        self._walk_forwards(last)
        dims = [d for d in range(len(self.extents)) if d not in reduced]
        kept = self._coalesced(self._sorted(dims, last))
        folded = self._coalesced(self._sorted(sorted(reduced), last))
        if last is None or any(last in run for run in folded):
            order = kept + folded
        else:
            order = kept[:-1] + folded + kept[-1:]
        nest = self._nest(order)
        return LoopKernel(nest, tuple(self.buffers), tuple(self.checks))

    def _last(self) -> int | None:
        """The dimension that becomes the last: most elements are consecutive along it, of those
        stored if nothing is reduced (transposed operands are read through tiles)."""
        if not self.extents:
            return None
        stores = [] if self.cluster.reduced else [
            self.accesses[i.access] for i in self.code if isinstance(i, Store)
        ]  # fmt: skip
        votes = [0] * len(self.extents)
        buffers = list(self.buffers)
        for access in stores or self.accesses:
            points = math.prod(
                e for e, s in zip(self.extents, access.strides, strict=True) if s
            )
            held = buffers[access.operand].dtype
            near = 2 if held.kind == "c" and access.dtype is held.real else 1
            for d, stride in enumerate(access.strides):
                if abs(stride) == near:
                    votes[d] += points
        return self._wider(max(range(len(votes)), key=lambda d: (votes[d], d)))

    def _walk_forwards(self, last: int | None) -> None:
        """Walk the other way along dimensions along which operands are read backwards element by
        element: transposed forwards, they are read through tiles."""
        if self.cluster.reduced or self.cluster.kind == "scatter":
            return
        fixed = {i.dim for i in self.code if isinstance(i, Iota)}
        loads = {i.access for i in self.code if isinstance(i, Load)}
        for d, extent in enumerate(self.extents):
            steps = {self.accesses[a].strides[d] for a in loads}
            if d == last or d in fixed or extent < 2 or -1 not in steps or 1 in steps:
                continue
            for k, a in enumerate(self.accesses):
                strides = (*a.strides[:d], -a.strides[d], *a.strides[d + 1 :])
                offset = a.offset + a.strides[d] * (extent - 1)
                self.accesses[k] = replace(a, strides=strides, offset=offset)

    def _wider(self, last: int) -> int:
        """Where a reduction leaves most lanes of `last` empty, a dimension that fills them: a
        kept one in place of one reduced, or the other way round, whose elements lie near."""
        reduced = self.cluster.reduced
        kept = [d for d in range(len(self.extents)) if d not in reduced]
        own, others = (reduced, kept) if last in reduced else (kept, reduced)
        if not reduced or not others:
            return last
        few = self._coalesced(self._sorted(sorted(own), last))[-1]
        many = self._coalesced(self._sorted(sorted(others), None))[-1]
        step = max(abs(a.strides[many[-1]]) for a in self.accesses)
        if self._points(few) > _FEW or self._points(many) < _MANY or step > _MANY:
            return last
        return many[-1]

    def _points(self, dims: list[int]) -> int:
        return math.prod(self.extents[d] for d in dims)

    def _sorted(self, dims: list[int], last: int | None) -> list[int]:
        """`dims` from the widest strides to the narrowest, `last` at the end."""
        widest = {
            d: max((abs(a.strides[d]) for a in self.accesses), default=0) for d in dims
        }
        return sorted(dims, key=lambda d: (d == last, -widest[d], d))

    def _coalesced(self, dims: list[int]) -> list[list[int]]:
        """Neighbours that every access walks evenly, as one run each."""
        fixed = {i.dim for i in self.code if isinstance(i, Iota)}
        runs: list[list[int]] = []
        for d in dims:
            if runs and d not in fixed and runs[-1][-1] not in fixed and all(
                a.strides[runs[-1][-1]] == a.strides[d] * self.extents[d] for a in self.accesses
            ):
                runs[-1].append(d)
            else:
                runs.append([d])
        return runs

    def _nest(self, runs: list[list[int]]) -> Nest:
        extents, reduced = [], []
        place: dict[int, int] = {}
        for number, run in enumerate(runs):
            extent = 1
            for d in run:
                extent *= self.extents[d]
                place[d] = number
            extents.append(extent)
            reduced.append(run[0] in self.cluster.reduced)
        accesses = tuple(
            replace(a, strides=tuple([a.strides[run[-1]] for run in runs])) for a in self.accesses
        )
        code = tuple(
            replace(i, dim=place[i.dim]) if isinstance(i, Iota) else i for i in self.code
        )
        return Nest(tuple(extents), tuple(reduced), accesses, code)


def _halves(view: View) -> View:
    """A view of 16-byte elements as one of 8-byte words, with a last axis of 2."""
    strides = tuple([2 * s for s in view.strides])
    return View(view.buffer, (*view.shape, 2), (*strides, 1), 2 * view.offset)


