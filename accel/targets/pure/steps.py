"""The steps of a run: native kernels and reference steps behind one interface.

A step says which buffers it reads and writes and how much scratch memory it needs; when
places are planned and code is compiled it gives the records of the native program (`records`).
`step_of` finds the step for a cluster: those of convolutions are in `convolution_steps`, the
others here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ... import forking
from .clusters import Cluster, leaves
from .gemm import gemm
from .loops import LoopKernel, loop_kernel
from .machine import threads
from .machine.jit import Machine, host_machine
from .machine.kernels import Kernel
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
from .records import Code, KernelInfo, Record, code_of, summary, symbol
from .views import Buffer, Place, View, nowhere

if TYPE_CHECKING:
    from .attention.attention import Attention
    from .convolution_steps import ConvolutionStep, WeightGradientStep

__all__ = ["AttentionStep", "LoopStep", "ProductStep", "ReferenceStep", "ScanStep", "Step",
           "step_of"]  # fmt: skip

#: Scratch memory up to which a kernel is cut into as many parts as there could be; into a few
#: parts it is cut always.
_SCRATCH_KEPT = 8 << 20
_FEW_PARTS = 16

#: What an element of a scan weighs against a multiply-add in a product.
_SCAN_WORK = 16


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
        with forking.unforked():
            from .attention.attention import attention  # graphs without do without
        return AttentionStep(cluster, attention(operands, cluster.stores, machine))
    if cluster.kind in ("conv", "conv_weight"):
        with forking.unforked():
            from .convolution_steps import convolution_step
        return convolution_step(cluster, machine)
    if cluster.kind == "scan":
        node = cluster.node
        assert node is not None
        (x,) = leaves(cluster.sources[node.inputs[0]])
        return ScanStep(cluster, scan(node, x, cluster.stores[node], machine))
    return LoopStep(cluster, loop_kernel(cluster), machine)


class LoopStep:
    """A loop nest."""

    def __init__(self, cluster: Cluster, kernel: LoopKernel, machine: Machine) -> None:
        self.cluster = cluster
        self.kernel = kernel
        self.nest = kernel.nest
        self.ops = summary(cluster)
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
        name = symbol(self.ops)
        if stage is not None:
            name += f"_{'joint' if stage.joins else 'chunk'}{stage.sweep}"
        return code_of(
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
        stores: dict[Buffer, set[object]] = {}
        partial: set[Buffer] = set()
        for i in code:
            if isinstance(i, (Load, Store)):
                a = accesses[i.access]
                found = loads if isinstance(i, Load) else stores
                place = (a.strides, a.offset, a.dtype.itemsize)
                found.setdefault(self.kernel.buffers[a.operand], set()).add(place)
                if isinstance(i, Store) and not all(a.strides):
                    partial.add(self.kernel.buffers[a.operand])
        for target, written in stores.items():
            for buffer, read in loads.items() if target not in {*loads, *partial} else ():
                same = buffer.dtype.itemsize == target.dtype.itemsize
                if same and buffer.size == target.size and read <= written:
                    yield buffer, target

    def info(self, kernels: Sequence[Kernel]) -> list[KernelInfo]:
        name, source = (kernels[0].name, kernels[0].ir) if kernels else ("", "")
        c = self.cluster
        return [KernelInfo(c.region, c.kind, self.ops, self.nest, name, source)]


class ProductStep:
    """A matrix product with its epilogue."""

    def __init__(self, cluster: Cluster, made: Product) -> None:
        self.cluster = cluster
        self.ops = summary(cluster)
        self.kept_at = 0, 0
        self._use(made)
        views = [made.a, made.b, *[e for e in made.work.extras if isinstance(e, View)]]
        self.reads = {v.buffer for v in views}
        self.writes = {t.buffer for t in made.targets}

    def _use(self, made: Product) -> None:
        self.product = made
        needs = gemm.needs(made.spec, made.problem(nowhere))
        self.scratch, self.libraries = needs.scratch_bytes, needs.libraries
        self.kept_bytes = needs.kept_bytes

    def keep(self, inputs: Collection[int]) -> None:
        """Let what is packed of the inputs of these numbers outlive the call, `kept_bytes` bytes at
        `kept_at`."""
        buffer = self.product.b.buffer
        if buffer.kind == "input" and buffer.index in inputs:
            self._use(replace(self.product, kept=True))

    def sources(self) -> list[Code]:
        made = self.product
        found = [code_of(made.key, symbol(self.ops), made.multiply_text)]
        own = (made.spec.element, made.spec.machine)
        for library in self.libraries:
            emit = functools.partial(gemm.emit_library, element=own[0], machine=own[1])
            found.append(code_of((library, own), library, emit))
        return found

    def records(
        self, place: Place, kernels: Sequence[Kernel], scratch: tuple[int, int]
    ) -> list[Record]:
        made = self.product
        code = dict(zip(("multiply", *self.libraries), kernels, strict=True))
        addresses = {name: code[name].address for name in self.libraries}
        problem = made.problem(place)
        steps = gemm.schedule(made.spec, problem, addresses, scratch, self.kept_at)
        return [
            Record(code[s.kind], tuple(s.arguments), s.items, (),
                   threads.grain(s.items, s.work), s.work, s.once)
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
            code_of(made.key(part), part.kind, functools.partial(made.text, part))
            for part in made.parts
        ]
        tiles = code_of(("tiles", own), "tiles", lambda name: gemm.emit_tiles(*own))
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
        return [code_of(made.key, made.op, made.text)] if made.items else []

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


Step: TypeAlias = """
    LoopStep | ProductStep | ConvolutionStep | WeightGradientStep | AttentionStep | ScanStep
    | ReferenceStep
"""
