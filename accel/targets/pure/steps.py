"""The steps of a run: native kernels and reference steps behind one interface.

A step says which buffers it reads and writes and how much scratch memory it needs; when
places are planned and code is compiled it gives the records of the native program.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from ...ir.node import Node
from .attention.attention import Attention, attention
from .clusters import Cluster, Scalar, leaves
from .conv import conv
from .conv import weight as conv_weight
from .conv.depthwise import depthwise_block
from .convolutions import Convolution, convolution, weight_gradient
from .gemm import gemm
from .loops import LoopKernel, loop_kernel
from .machine import threads
from .machine.jit import Kernel, Machine, assembly, host_machine
from .nests.emit import (
    chunks,
    emit_nest,
    item_multiple,
    pack_arguments,
    scratch_bytes,
    splittable,
    work_items,
    work_of,
)
from .nests.emit_chunks import Stage, stages
from .nests.lowering import unsupported_reason
from .nests.nest import Gather, Load, ScatterAdd, Store
from .nests.scan import Scan, scan
from .nests.schedule import Schedule
from .products import Product, product
from .views import Buffer, View

__all__ = ["AttentionStep", "ConvolutionStep", "KernelInfo", "LoopStep", "ProductStep", "Record",
           "ReferenceStep", "ScanStep", "Step", "WeightGradientStep", "step_of"]  # fmt: skip

#: Base index and byte offset of a buffer in the call's table of pointers.
Place = Callable[[Buffer], tuple[int, int]]

#: Characters of emitted code to keep, so that equal nests are written once.
_TEXTS_KEPT = 16 << 20

#: Scratch memory up to which a kernel is cut into as many parts as there could be; into a few
#: parts it is cut always.
_SCRATCH_KEPT = 8 << 20
_FEW_PARTS = 16

#: What an element of a scan weighs against a multiply-add in a product.
_SCAN_WORK = 16


@dataclass(frozen=True)
class Record:
    """One entry of the native program: the work items ``[0, items)`` of a kernel.

    `checks` are the nodes that its status numbers name; `grain` is the number of work items of
    a part, 0 where one call does all of them; `work` says how long it takes, in multiply-adds.
    """

    kernel: Kernel
    arguments: tuple[int, ...]
    items: int
    checks: tuple[Node, ...] = ()
    grain: int = 0
    work: int = 0


@dataclass(frozen=True)
class KernelInfo:
    """What `explain` shows of a kernel.

    Attributes
    ----------
    region
        The region it belongs to.
    kind
        ``loop``, ``matmul``, ``conv``, ``conv_weight``, ``attention``, ``copy``, ``scatter``,
        ``scan`` or ``reference``.
    ops
        The ops it computes, in order.
    body
        Its loop nest or product; `text` is its printed form.
    name
        Its symbol; empty for reference steps.
    source
        Its LLVM IR.
    reason
        Why a reference step has no kernel.
    """

    region: str
    kind: str
    ops: str
    body: object
    name: str = ""
    source: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        """What it computes, as a person reads it."""
        return str(self.body)

    def ir(self) -> str:
        """Its LLVM IR."""
        return self.source

    def assembly(self) -> str:
        """The machine code as assembly text."""
        return assembly(self.source) if self.source else ""


#: A kernel as it is compiled: its symbol, and the LLVM module that defines it.
Code = tuple[str, str]


class _Texts:
    """Emitted kernels by key, so that equal nests are written once in a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[object, Code] = OrderedDict()
        self._length = 0

    def get(self, key: object, name: str, emit: Callable[[str], str]) -> Code:
        """The code of `key`; the name is that under which it was first emitted."""
        with self._lock:
            code = self._texts.get(key)
            if code is not None:
                self._texts.move_to_end(key)
                return code
        code = name, emit(name)
        with self._lock:
            _, replaced = self._texts.pop(key, ("", ""))  # another thread was quicker
            self._texts[key] = code
            self._length += len(code[1]) - len(replaced)
            while self._length > _TEXTS_KEPT:
                _, (_, oldest) = self._texts.popitem(last=False)
                self._length -= len(oldest)
        return code


_TEXTS = _Texts()


def step_of(cluster: Cluster, machine: Machine | None = None) -> Step:
    """The step that runs a cluster."""
    machine = machine or host_machine()
    if cluster.kind == "reference":
        return ReferenceStep(cluster)
    if cluster.kind == "matmul":
        return ProductStep(cluster, product(cluster, machine))
    if cluster.kind == "attention":
        node = cluster.node
        assert node is not None
        operands = [cluster.tables[n] for n in node.inputs]
        return AttentionStep(cluster, attention(operands, cluster.stores, machine))
    if cluster.kind == "conv":
        return ConvolutionStep(cluster, convolution(cluster, machine))
    if cluster.kind == "conv_weight":
        return WeightGradientStep(cluster, machine)
    if cluster.kind == "scan":
        node = cluster.node
        assert node is not None
        (x,) = leaves(cluster.sources[node.inputs[0]])
        return ScanStep(cluster, scan(node, x, cluster.stores[node], machine))
    return LoopStep(cluster, loop_kernel(cluster), machine)


def _summary(cluster: Cluster) -> str:
    """The ops of a cluster in order, those that are only movement left out."""
    if cluster.kind == "copy":
        work = [s.node.op.name for s, _ in cluster.copies if isinstance(s, Scalar)]
        return " ".join(work or ["copy"])
    order = cluster.graph.index
    members = sorted(cluster.axes, key=order.__getitem__)
    names = [n.op.name for n in members if n not in cluster.alias]
    names += ["max_pool"] if cluster.pooled else []
    return " ".join(names or [cluster.node.op.name if cluster.node else cluster.kind])


def _symbol(ops: str) -> str:
    """A name for a kernel from its ops."""
    name = "_".join(op.removesuffix("_unchecked") for op in ops.split())
    return name if len(name) <= 48 else name[:44].rstrip("_") + "_etc"


class LoopStep:
    """A loop nest."""

    def __init__(self, cluster: Cluster, kernel: LoopKernel, machine: Machine) -> None:
        self.cluster = cluster
        self.kernel = kernel
        self.nest = kernel.nest
        self.ops = _summary(cluster)
        self.items = work_items(self.nest, machine)
        self.chunks = chunks(self.nest, machine)
        if self.chunks is None:
            self.grain = self._grain(scratch_bytes(self.nest, machine))
            parts = -(-self.items // self.grain) if self.grain else 1
            self.scratch = scratch_bytes(self.nest, machine, parts)
            self.stages: list[Stage | None] = [None]
        else:
            self.grain, self.scratch = 0, self.chunks.bytes
            self.stages = list(stages(Schedule.of(self.nest)))
        self.machine = machine
        access = self.nest.accesses
        code = self.nest.instructions
        self.writes = {
            kernel.buffers[access[i.access].operand]
            for i in code if isinstance(i, (Store, ScatterAdd))
        }  # fmt: skip
        self.reads = {
            kernel.buffers[access[i.access].operand]
            for i in code if isinstance(i, (Load, Gather, ScatterAdd))
        }  # fmt: skip

    def _code(self, stage: Stage | None) -> Code:
        name = _symbol(self.ops)
        if stage is not None:
            name += f"_{'joint' if stage.joins else 'chunk'}{stage.sweep}"
        return _TEXTS.get(
            (self.nest.key(), self.machine, stage), name,
            lambda name: emit_nest(self.nest, name, self.machine, stage).text,
        )  # fmt: skip

    def _grain(self, scratch: int) -> int:
        """Work items of a part; parts have scratch memory of their own."""
        if not splittable(self.nest):
            return 0
        parts = max(_FEW_PARTS, _SCRATCH_KEPT // scratch) if scratch else self.items
        return threads.grain(self.items, work_of(self.nest), item_multiple(self.nest), parts)

    def sources(self) -> list[Code]:
        """The kernels to compile."""
        return [self._code(stage) for stage in self.stages] if self.items else []

    @property
    def sweeps(self) -> int:
        """How often the kernel sweeps over a row."""
        return len(Schedule.of(self.nest).sweeps)

    def stream(self, buffers: Collection[Buffer]) -> None:
        """Let what is written to `buffers` pass by the caches."""
        operands = [k for k, buffer in enumerate(self.kernel.buffers) if buffer in buffers]
        if operands:
            self.nest = self.nest.streaming(operands)

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        if not self.items:
            return []
        places = [place(b) for b in self.kernel.buffers]
        at, work, checks = scratch if self.scratch else None, work_of(self.nest), self.kernel.checks
        if self.chunks is None:
            block = tuple(pack_arguments(self.nest, places, at, self.grain))
            return [Record(kernels[0], block, self.items, checks, self.grain, work)]
        count, size = self.chunks.count, self.chunks.size
        block = tuple(pack_arguments(self.nest, places, at, chunks=(size, count)))
        items, work = self.items * count, 2 * work // len(self.stages)
        grain = threads.grain(items, work)
        return [
            Record(kernel, block, self.items, checks) if stage is not None and stage.joins
            else Record(kernel, block, items, checks, grain, work)
            for stage, kernel in zip(self.stages, kernels, strict=True)
        ]  # fmt: skip

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        """(operand, result) pairs that may share memory: each element of the operand is read
        only before the result's element at the same place is written."""
        code, accesses = self.nest.instructions, self.nest.accesses
        if any(self.nest.reduced) or any(isinstance(i, (Gather, ScatterAdd)) for i in code):
            return
        loads: dict[Buffer, set[object]] = {}
        for i in code:
            if isinstance(i, Load):
                a = accesses[i.access]
                loads.setdefault(self.kernel.buffers[a.operand], set()).add((a.strides, a.offset))
        for i in code:
            if isinstance(i, Store):
                a = accesses[i.access]
                target = self.kernel.buffers[a.operand]
                if not all(a.strides) or target in loads:
                    continue
                for buffer, found in loads.items():
                    same = buffer.dtype.itemsize == target.dtype.itemsize
                    if same and buffer.size == target.size and found == {(a.strides, a.offset)}:
                        yield buffer, target

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        name, source = (kernels[0].name, kernels[0].ir) if kernels else ("", "")
        c = self.cluster
        return [KernelInfo(c.region, c.kind, self.ops, self.nest, name, source)]


class ProductStep:
    """A matrix product with its epilogue."""

    def __init__(self, cluster: Cluster, made: Product) -> None:
        self.cluster = cluster
        self.product = made
        self.ops = _summary(cluster)
        problem = made.problem(lambda buffer: (0, 0))
        self.scratch = gemm.scratch_bytes(made.spec, problem)
        self.libraries = gemm.libraries(made.spec, problem)
        views = [made.a, made.b, *[e for e in made.work.extras if isinstance(e, View)]]
        self.reads = {v.buffer for v in views}
        self.writes = {t.buffer for t in made.targets}

    def sources(self) -> list[Code]:
        made = self.product
        found = [_TEXTS.get(made.key, _symbol(self.ops), made.multiply_text)]
        own = (made.spec.element, made.spec.machine)
        for library in self.libraries:
            emit = functools.partial(gemm.emit_library, element=own[0], machine=own[1])
            found.append(_TEXTS.get((library, own), library, emit))
        return found

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        made = self.product
        code = dict(zip(("multiply", *self.libraries), kernels, strict=True))
        addresses = {name: code[name].address for name in self.libraries}
        steps = gemm.schedule(made.spec, made.problem(place), addresses, scratch)
        return [
            Record(code[s.kind], tuple(s.arguments), s.items, (),
                   threads.grain(s.items, s.work), s.work)
            for s in steps
        ]  # fmt: skip

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        made, layout = self.product, self.product.layout
        m, n = layout.extent(layout.row), layout.extent(layout.column)
        batch = "".join(f"{layout.extent(axis)} x " for axis in layout.batch)
        text = f"product {batch}[{m}, {made.k}] @ [{made.k}, {n}]: {self.ops}"
        c = self.cluster
        return [KernelInfo(c.region, c.kind, self.ops, text, kernels[0].name, kernels[0].ir)]


def _nowhere(buffer: Buffer) -> tuple[int, int]:
    """For what does not depend on where buffers are."""
    return 0, 0


class ConvolutionStep:
    """A convolution, or its gradient with respect to the image, with its epilogue."""

    def __init__(self, cluster: Cluster, made: Convolution) -> None:
        self.cluster = cluster
        self.made = made
        self.ops = _summary(cluster)
        windows = [*made.windows(_nowhere), *made.edges(_nowhere)]
        self.scratch = max([conv.plan(made.spec, w).scratch for w in windows], default=0)
        views = [made.x, made.weight, *[e for e in made.work.extras if isinstance(e, View)]]
        self.reads = {v.buffer for v in views}
        self.writes = {t.buffer for t in made.targets}

    def sources(self) -> list[Code]:
        made, own = self.made, (self.made.spec.element, self.made.spec.machine)
        if made.depthwise is not None:
            return [_TEXTS.get(made.code, _symbol(self.ops), made.text)]
        return [
            _TEXTS.get(made.code, _symbol(self.ops), made.text),
            # these name their function themselves
            _TEXTS.get(("window pack", own), "pack", lambda name: conv.emit_pack(*own)),
            *(
                [_TEXTS.get(("window tiles", own, made.whole), "tiles",
                            lambda name: conv.emit_tiles(*own, made.whole))]
                if made.strips is None else []
            ),
            *(
                [_TEXTS.get(("finite", own), "finite", lambda name: conv.emit_finite(*own))]
                if made.edges(_nowhere) else []
            ),
        ]  # fmt: skip

    def stream(self, buffers: Collection[Buffer]) -> None:
        """Let what is written to `buffers` pass by the caches."""
        if self.writes <= set(buffers):
            self.made = self.made.streaming()

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        if self.made.depthwise is not None:
            return [
                Record(kernels[0], depthwise_block(w), items, grain=threads.grain(items, work))
                for w in self.made.windows(place) if (items := w.batch * w.groups * w.rows)
                if (work := w.size * w.terms)
            ]  # fmt: skip
        main, pack, *others = kernels
        tiles, finite = others[:1], others[1:]  # neither, if strips are summed in registers
        made = self.made
        called = (tiles[0].address if tiles else 0, pack.address, scratch)
        steps = [s for w in made.windows(place) for s in conv.schedule(made.spec, w, *called)]
        records = [Record(main, s.arguments, s.items, grain=s.grain) for s in steps]
        for kernel in finite:
            weight = made.weight.buffer
            block = conv.finite_block(weight.size, place(weight), scratch)
            records.append(Record(kernel, block, 1))
            for windows in made.edges(place):
                steps = conv.schedule(made.spec, windows, *called, guarded=True)
                records += [Record(main, s.arguments, s.items) for s in steps]
        return records

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        node = self.made.node
        text = f"{self.ops}: {node.inputs[0].type} with {node.inputs[1].type} -> {node.type}"
        c = self.cluster
        return [KernelInfo(c.region, c.kind, self.ops, text, kernels[0].name, kernels[0].ir)]


def _library(emit: Callable[[str, Machine], str], element: str, machine: Machine, name: str) -> str:
    """A module that names its function itself."""
    return emit(element, machine)


class WeightGradientStep:
    """The weight gradient of a convolution."""

    def __init__(self, cluster: Cluster, machine: Machine) -> None:
        assert cluster.node is not None
        self.cluster, self.node, self.machine = cluster, cluster.node, machine
        # of a square's gradient both operands may be one node
        self.operands = [cluster.tables[n] for n in self.node.inputs]
        (self.target,) = cluster.stores.values()
        self.scratch = self._made(_nowhere).scratch
        self.reads = {v.buffer for v in self.operands}
        self.writes = {self.target.buffer}

    def _made(self, place: Place) -> conv_weight.WeightGradient:
        return weight_gradient(self.node, self.operands, self.target, self.machine, place)

    def sources(self) -> list[Code]:
        own = (self._made(_nowhere).element, self.machine)
        return [
            _TEXTS.get((name, own), name.split()[-1], functools.partial(_library, emit, *own))
            for name, emit in (
                ("weight gradient products", conv_weight.emit_products),
                ("weight gradient gather", conv_weight.emit_gather),
                ("window tiles", conv.emit_tiles), ("window pack", conv.emit_pack),
                ("window turn", conv_weight.emit_turn),
            )
        ]  # fmt: skip

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        *own, tiles, pack, turn = kernels
        addresses = conv_weight.Addresses(tiles.address, pack.address, turn.address)
        steps = self._made(place).schedule(addresses, scratch)
        return [
            Record(kernel, block, items, grain=grain)
            for kernel, (block, items, grain) in zip(own, steps, strict=False)
        ]

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        node, c = self.node, self.cluster
        text = f"{node.op.name}: {node.inputs[0].type} with {node.inputs[1].type} -> {node.type}"
        return [
            KernelInfo(c.region, "conv", node.op.name, text, k.name, k.ir) for k in kernels[:1]
        ]  # fmt: skip


class AttentionStep:
    """Scaled dot-product attention, or its gradient."""

    def __init__(self, cluster: Cluster, made: Attention) -> None:
        self.cluster = cluster
        self.attention = made
        self.scratch = made.scratch
        self.reads = set(made.reads)
        self.writes = {view.buffer for view in cluster.stores.values()}

    def sources(self) -> list[Code]:
        made = self.attention
        own = (made.spec.element, made.spec.machine)
        found = [
            _TEXTS.get(made.key(part), part.kind, functools.partial(made.text, part))
            for part in made.parts
        ]
        tiles = _TEXTS.get(("tiles", own), "tiles", lambda name: gemm.emit_tiles(*own))
        return [*found, tiles]

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        made, tiles = self.attention, kernels[-1].address
        found = []
        for part, kernel in zip(made.parts, kernels, strict=False):
            block, items = made.arguments(part, place, scratch, tiles), made.items(part)
            found.append(Record(kernel, block, items, grain=threads.grain(items, part.work)))
        return found

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        region, made = self.cluster.region, self.attention
        pairs = zip(made.parts, kernels, strict=False)
        return [KernelInfo(region, "attention", p.kind, made, k.name, k.ir) for p, k in pairs]


class ScanStep:
    """A running sum or product."""

    scratch = 0

    def __init__(self, cluster: Cluster, made: Scan) -> None:
        self.cluster = cluster
        self.scan = made
        self.reads = {made.x.buffer}
        self.writes = {made.target.buffer}

    def sources(self) -> list[Code]:
        made = self.scan
        return [_TEXTS.get(made.key, made.op, made.text)] if made.items else []

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        made = self.scan
        if not made.items:
            return []
        block = made.arguments(place(made.x.buffer), place(made.target.buffer))
        work = _SCAN_WORK * math.prod(made.extents)
        grain = threads.grain(made.items, work)
        return [Record(kernels[0], block, made.items, (), grain, work)]

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        name, source = (kernels[0].name, kernels[0].ir) if kernels else ("", "")
        return [KernelInfo(self.cluster.region, "scan", self.scan.op, self.scan, name, source)]


class ReferenceStep:
    """A node, or several that are computed together, on the NumPy reference."""

    scratch = 0

    def __init__(self, cluster: Cluster) -> None:
        assert cluster.node is not None
        self.cluster = cluster
        self.node = cluster.node
        self.nodes, self.targets = tuple(cluster.stores), tuple(cluster.stores.values())
        self.operands = [v for n in self.node.inputs for v in leaves(cluster.sources[n])]
        self.reads = {v.buffer for v in self.operands}
        self.writes = {v.buffer for v in self.targets}

    def sources(self) -> list[Code]:
        return []

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        return []

    def in_place(self) -> Iterable[tuple[Buffer, Buffer]]:
        return ()

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        op = self.node.op
        dtypes = [n.type.dtype for n in (*self.node.inputs, self.node)]
        reason = op.why_unsupported or unsupported_reason(op.name, dtypes)
        text = f"{op.name} on the NumPy reference: {reason}"
        return [KernelInfo(self.cluster.region, "reference", op.name, text, reason=reason)]


Step = (
    LoopStep | ProductStep | ConvolutionStep | WeightGradientStep | AttentionStep | ScanStep
    | ReferenceStep
)  # fmt: skip
