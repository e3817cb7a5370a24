"""A run of regions as a flat list of torch calls over numbered slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ...errors import AccelError, TargetError
from ...ir.builder import Builder
from ...ir.evaluate import evaluate
from ...ir.graph import Graph
from ...ir.node import Node
from ...ir.types import CPU
from ...passes.expand import expand
from ...passes.place import inner_extent
from ..parts import Part, Watch
from ..reference import run_joint
from . import (
    bridge,
    composite,
    convolution,
    decomposition,
    fourier,
    movement,
    ordering,
    pointwise,
    pooling,
    reduce,
)
from .lookup import find_device, require
from .lowering import Context, Kernel, find_kernel

__all__ = ["Program", "compile_run", "flatten", "is_out_of_memory", "to_device", "to_host"]

#: Modules that enter lowerings when they are imported.
FAMILIES = (
    composite, convolution, decomposition, fourier, movement, ordering, pointwise, pooling, reduce,
)  # fmt: skip

#: Told of values that move between the host and a device: how many, and how many bytes.
Observer = Callable[[int, int], None]


class Instruction(NamedTuple):
    """One call: its function, the slots that it reads and writes, those that end with it."""

    kernel: Kernel
    reads: tuple[int, ...]
    write: int
    frees: tuple[int, ...]
    node: Node


def flatten(run: Graph) -> Graph:
    """`run` with the bodies of its regions in place of these."""
    b = Builder()
    value: dict[Node, Node] = {n: b.input(n.attrs["name"], n.type, n.loc) for n in run.inputs}
    results: dict[Node, list[Node]] = {}
    for node in run.nodes[len(run.inputs) :]:
        if node.op.name == "region":
            results[node] = b.inline(node.attrs["body"], [value[i] for i in node.inputs])
        elif node.op.name == "output":
            value[node] = results[node.inputs[0]][node.attrs["index"]]
        else:
            value[node] = b.copy(node, value)
    return b.graph([value[n] for n in run.inputs], [value[n] for n in run.outputs])


def compile_run(run: Graph, device: str | None = None, observe: Observer | None = None) -> Program:
    """`run` compiled to torch calls on `device` (None: the CPU).

    Raises
    ------
    TorchNotAvailable
        Where there is no torch.
    DeviceError
        Where there is no such device.
    """
    context = Context(require(), find_device(device))
    whole = flatten(run)
    graph = expand(whole, keep=lambda node: find_kernel(context, node) is not None)
    return Program(context, graph, observe, _come_home(whole))


def _come_home(graph: Graph) -> tuple[int, ...]:
    """The results that the graph says are on the CPU, where it says of others that they are not."""
    if all(n.type.device == CPU for n in graph.nodes):
        return ()
    return tuple([i for i, n in enumerate(graph.outputs) if n.type.device == CPU])


def interpreted(graph: Graph) -> list[str] | None:
    """The ops of `graph`'s expansion that have no torch call on the CPU; None where all of the
    graph's own ops have one."""
    context = Context(require(), find_device(None))

    def runs(node: Node) -> bool:
        return find_kernel(context, node) is not None

    computed = [n for n in graph.nodes if n.op.name not in ("input", "constant")]
    if all(map(runs, computed)):
        return None
    expanded = expand(graph, keep=runs)
    left = [n for n in expanded.nodes if n.op.name not in ("input", "constant") and not runs(n)]
    return list(dict.fromkeys(n.op.name for n in left))


class Program:
    """The compiled run: call it with buffers, NumPy arrays or tensors of its device.

    On the CPU the results are NumPy arrays, elsewhere tensors that stay on the device, unless the
    graph says otherwise. They never share memory with the arguments or with each other. A
    Program does not change, so any number of threads may call it at once.

    Attributes
    ----------
    reference_ops
        Names of the ops that run on the NumPy reference, having no torch call.
    """

    def __init__(
        self, context: Context, graph: Graph, observe: Observer | None, home: Sequence[int] = ()
    ) -> None:
        self._context = context
        self._home = range(len(graph.outputs)) if context.on_cpu else home
        self._observe = observe
        slots = {node: i for i, node in enumerate(graph.nodes)}
        readers = {i for node in graph.nodes for i in node.inputs} | set(graph.outputs)
        self._inputs = tuple((slots[n], i) for i, n in enumerate(graph.inputs) if n in readers)
        self._on_cpu = context.on_cpu
        self._outputs = tuple(slots[n] for n in graph.outputs)
        self._constants: dict[int, Any] = {}
        self._template: list[Any] = [None] * len(slots)
        reference_ops: list[str] = []
        self._code = tuple(self._instructions(graph, slots, reference_ops))
        self.reference_ops = tuple(reference_ops)
        self._constant_memory = {t.untyped_storage().data_ptr() for t in self._constants.values()}

    def _instructions(
        self, graph: Graph, slots: dict[Node, int], reference_ops: list[str]
    ) -> list[Instruction]:
        readers: dict[Node, Node] = {}  # the last, of those computed together the first
        for node in graph.nodes:
            reader = graph.joint(node)[0] if node.op.parts else node
            for i in node.inputs:
                readers[i] = max(readers.get(i, reader), reader, key=slots.__getitem__)
        kept = set(graph.outputs)
        code: list[Instruction] = []
        for node in graph.nodes[len(graph.inputs) :]:
            if node.op.name == "constant":
                self._constants[slots[node]] = self._template[slots[node]] = self._constant(node)
                continue
            together = graph.joint(node) if node.op.parts else (node,)
            if together[0] is not node:
                continue  # computed with the first
            kernel = self._kernel(node, together, reference_ops)
            reads = tuple(slots[i] for i in node.inputs)
            ended = {i for i in node.inputs if readers[i] is node and i not in kept}
            frees = tuple(slots[i] for i in ended)
            if not node.op.parts:
                code.append(Instruction(kernel, reads, slots[node], frees, node))
                continue
            results = len(self._template)  # a slot of its own for all of them
            self._template.append(None)
            code.append(Instruction(kernel, reads, results, frees, node))
            for place, part in enumerate(together):
                over = (results,) if part is together[-1] else ()
                code.append(Instruction(itemgetter(place), (results,), slots[part], over, part))
        return code

    def _kernel(
        self, node: Node, together: Sequence[Node], reference_ops: list[str]
    ) -> Kernel:
        """The function of `node`; of an op with `parts`, one that gives a list for `together`."""
        kernel = find_kernel(self._context, node)
        if kernel is None:
            reference_ops.append(node.op.name)
            every = partial(self._on_reference, together)
            return every if node.op.parts else lambda *tensors: every(*tensors)[0]
        if not node.op.parts:
            return kernel
        wanted = [node.op.parts.index(n.attrs[node.op.joint]) for n in together]
        whole = kernel

        def chosen(*tensors: Any) -> list[Any]:
            found = whole(*tensors)
            return [found[i] for i in wanted]

        return chosen

    def _constant(self, node: Node) -> Any:
        array = evaluate(node.op, (), node.attrs, node.type)
        return bridge.from_host(self._context.torch, array).to(self._context.device)

    def _on_reference(self, nodes: Sequence[Node], *tensors: Any) -> list[Any]:
        torch = self._context.torch
        arrays = [bridge.to_host(torch, t) for t in tensors]
        results = [
            bridge.from_host(torch, a).to(self._context.device) for a in run_joint(nodes, arrays)
        ]
        if not self._on_cpu:
            moved = sum(a.nbytes for a in (*arrays, *results))
            self._note(len(arrays) + len(results), moved)
        return results

    def _note(self, count: int, nbytes: int) -> None:
        if self._observe is not None:
            self._observe(count, nbytes)

    def _enter(self, buffer: Any) -> Any:
        """A tensor of `buffer` on the device."""
        tensor = buffer
        if isinstance(buffer, np.ndarray):
            tensor = bridge.from_host(self._context.torch, buffer)
            if self._on_cpu:
                return tensor
        if tensor.device == self._context.device:
            return tensor
        self._note(1, tensor.nbytes)
        return tensor.to(self._context.device)

    def watched(self, buffers: Sequence[Any], watch: Watch) -> list[Any]:
        """Run; `watch` is told of each call once the device has finished it."""
        synchronize = None if self._on_cpu else self._context.torch.cuda.synchronize

        def finished(node: Node) -> None:
            if synchronize is not None:
                synchronize(self._context.device)
            nbytes = sum(n.type.nbytes for n in {*node.inputs, node})
            watch(Part("", node.op.name, node.loc, nbytes, _flop(node)))

        return self(buffers, finished)

    def _leave(self, tensor: Any) -> np.ndarray:
        """A result as an array of the host."""
        if not self._on_cpu:
            self._note(1, tensor.nbytes)
        return bridge.to_host(self._context.torch, tensor)

    def __call__(
        self, buffers: Sequence[Any], finished: Callable[[Node], None] | None = None
    ) -> list[Any]:
        """Run; `finished` is told of each call.

        Raises
        ------
        AccelError
            What the ops find wrong with the values (an index out of range).
        TargetError
            Where torch fails: out of memory, unsupported, a CUDA error.
        """
        torch = self._context.torch
        values = list(self._template)
        taken = set(self._constant_memory)
        node: Node | None = None
        try:
            with torch.no_grad():
                for slot, place in self._inputs:
                    values[slot] = tensor = self._enter(buffers[place])
                    taken.add(tensor.untyped_storage().data_ptr())
                for instruction in self._code:
                    kernel, reads, write, frees, node = instruction
                    values[write] = kernel(*[values[i] for i in reads])
                    if finished is not None:
                        finished(node)
                    for slot in frees:
                        values[slot] = None
                results = [bridge.settle(torch, values[s], taken) for s in self._outputs]
                for place in self._home:
                    results[place] = self._leave(results[place])
                return results
        except AccelError as error:
            error.place(node.loc if node is not None else None)
            raise
        except Exception as error:
            raise self._failure(node, error) from error

    def _failure(self, node: Node | None, error: Exception) -> TargetError:
        what = f"{node.op.name} -> {node.type}" if node is not None else "taking the arguments"
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return TargetError(
            f"torch failed in {what} on {self._context.device}: {reason}",
            loc=node.loc if node is not None else None,
        )


def _flop(node: Node) -> int:
    """Floating-point operations of a product; 0 for others."""
    return 2 * node.type.size * inner_extent(node) if node.op.form == "contraction" else 0


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether torch failed for want of memory, which may be there again on the next call."""
    if isinstance(error, (MemoryError, require().cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def to_device(array: np.ndarray, name: str) -> Any:
    """An array's elements as a tensor of a device, which must be there."""
    torch = require()
    return bridge.from_host(torch, array).to(find_device(name))


def to_host(buffer: Any) -> np.ndarray:
    """A buffer that torch made as a NumPy array."""
    return bridge.to_host(require(), buffer)
