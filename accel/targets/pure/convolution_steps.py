"""The steps of convolutions: with their epilogues, and of their weights' gradients.

What is computed is said in `convolutions`, how in `conv`. Here it becomes records: the main kernel
with the addresses of those that it calls, and of a gradient with respect to the image the edges,
computed once more where the weight holds what is not finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence

from .clusters import Cluster
from .conv import conv
from .conv import weight as conv_weight
from .conv.depthwise import depthwise_block
from .convolutions import Convolution, convolution, weight_gradient
from .machine import threads
from .machine.jit import Machine
from .machine.kernels import Kernel
from .records import Code, KernelInfo, Record, code_of, summary, symbol
from .views import Buffer, Place, View, nowhere

__all__ = ["ConvolutionStep", "WeightGradientStep", "convolution_step"]


def convolution_step(cluster: Cluster, machine: Machine) -> ConvolutionStep | WeightGradientStep:
    """The step that runs a cluster of kind ``conv`` or ``conv_weight``."""
    if cluster.kind == "conv":
        return ConvolutionStep(cluster, convolution(cluster, machine))
    return WeightGradientStep(cluster, machine)


class ConvolutionStep:
    """A convolution, or its gradient with respect to the image, with its epilogue."""

    def __init__(self, cluster: Cluster, made: Convolution) -> None:
        self.cluster = cluster
        self.made = made
        self.ops = summary(cluster)
        windows = [*made.windows(nowhere), *made.edges(nowhere)]
        self.scratch = max([conv.plan(made.spec, w).scratch for w in windows], default=0)
        views = [made.x, made.weight, *[e for e in made.work.extras if isinstance(e, View)]]
        self.reads = {v.buffer for v in views}
        self.writes = {t.buffer for t in made.targets}

    def sources(self) -> list[Code]:
        made, own = self.made, (self.made.spec.element, self.made.spec.machine)
        if made.depthwise is not None:
            return [code_of(made.code, symbol(self.ops), made.text)]
        return [
            code_of(made.code, symbol(self.ops), made.text),
            # these name their function themselves
            code_of(("window pack", own), "pack", lambda name: conv.emit_pack(*own)),
            *(
                [code_of(("window tiles", own, made.whole), "tiles",
                            lambda name: conv.emit_tiles(*own, made.whole))]
                if made.strips is None else []
            ),
            *(
                [code_of(("finite", own), "finite", lambda name: conv.emit_finite(*own))]
                if made.edges(nowhere) else []
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
        self.scratch = self._made(nowhere).scratch
        self.reads = {v.buffer for v in self.operands}
        self.writes = {self.target.buffer}

    def _made(self, place: Place) -> conv_weight.WeightGradient:
        return weight_gradient(self.node, self.operands, self.target, self.machine, place)

    def sources(self) -> list[Code]:
        own = (self._made(nowhere).element, self.machine)
        return [
            code_of((name, own), name.split()[-1], functools.partial(_library, emit, *own))
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
