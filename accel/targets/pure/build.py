"""From a run of regions to its program: what is executed, but for addresses.

Expand the regions to primitives, cut them into clusters, turn clusters into steps, plan the
arena, compile the kernels that are missing, write the records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from ... import forking
from ...ir.graph import Graph
from ...ir.node import Node
from ...passes.expand import expand
from ...passes.fuse import fuse
from ...passes.simplify import simplify
from ..parts import Part
from ..reference import run_joint
from .buffers import MemoryPlan, stream_results
from .clusters import Scalar, Source
from .complexes import in_parts
from .cut import Partition
from .halves import in_float32
from .machine.kernels import KERNELS
from .memory import aligned
from .programs import Entry, Interlude, Layouts, Program
from .records import Code, Record
from .reshapes import generate_in_shape
from .small_matrices import written_out
from .steps import LoopStep, ProductStep, ReferenceStep, Step, step_of
from .views import Buffer, View

__all__ = ["Build", "interpreted", "kept_bytes", "primitives"]


class Build:
    """A run of regions, lowered and compiled.

    Parameters
    ----------
    run
        The graph.
    layouts
        For every input its strides in elements, or None where it is C-contiguous.
    kept
        Numbers of inputs that are the same arrays on every call.

    Attributes
    ----------
    program
        What is executed.
    kernels
        The compiled kernels that it names.
    info
        What was made of the regions, in the order of execution.
    checks
        For every stretch of native kernels and every entry of it, the nodes that its status
        numbers name.
    parts
        For every segment what its entries, or its one reference step, are to a person.
    """

    def __init__(self, run: Graph, layouts: Layouts, kept: Collection[int] = ()) -> None:
        partition, inputs, outputs = _partition(run, layouts)
        steps = _steps(partition, kept)
        stream_results(steps)
        plan = MemoryPlan(steps)
        constants = _numbered(partition.buffers, "constant")
        # The order of a call's arrays: inputs, outputs, the arena, constants.
        self._inputs, self._arena = len(inputs), len(inputs) + len(outputs)
        self._places = plan.places
        copies = self._kept_copies(steps, self._arena + 1 + len(constants))
        sources: list[list[Code]] = []
        self.kernels = KERNELS.ensure(_written(steps, sources))
        compiled = iter(self.kernels)
        kernels = [[next(compiled) for _ in own] for own in sources]
        self.info = tuple([
            info for step, own in zip(steps, kernels, strict=True) for info in step.info(own)
        ])  # fmt: skip
        segments: list[list[Entry] | Interlude] = []
        self.checks: list[list[tuple[Node, ...]]] = []
        self.parts: list[list[Part]] = []
        prepared: list[Entry] = []
        for step, own, at in zip(steps, kernels, plan.scratch, strict=True):
            if isinstance(step, ReferenceStep):
                segments.append(Interlude(step.node.op.name, self._reference(step)))
                self.parts.append([_part(step, f"{step.node.op.name} (NumPy reference)", 0)])
                continue
            every = step.records(self._place, own, (self._arena, at))
            prepared += [_entry(r) for r in every if r.once]
            records = [r for r in every if not r.once]
            if not records:
                continue
            if not segments or isinstance(segments[-1], Interlude):
                segments.append([])
                self.checks.append([])
                self.parts.append([])
            stretch = segments[-1]
            assert isinstance(stretch, list)
            stretch += map(_entry, records)
            self.checks[-1] += [r.checks for r in records]
            *packs, last = records
            self.parts[-1] += [_part(step, r.kernel.name, 0) for r in packs]
            self.parts[-1].append(_part(step, last.kernel.name, last.work))
        self.program = Program(
            plan.bytes, (*[b.array for b in constants if b.array is not None], *copies),
            tuple(dict.fromkeys((k.name, k.key) for k in self.kernels)),
            tuple([s if isinstance(s, Interlude) else tuple(s) for s in segments]),
            tuple(prepared),
        )  # fmt: skip
        self._places = {}
        _untie(partition, steps)

    @staticmethod
    def _kept_copies(steps: Sequence[Step], first: int) -> list[np.ndarray]:
        """Memory for what steps keep of inputs, as the call's arrays from number `first` on."""
        copies: list[np.ndarray] = []
        for step in steps:
            if isinstance(step, ProductStep) and step.kept_bytes:
                step.kept_at = first + len(copies), 0
                copies.append(aligned(step.kept_bytes)())
        return copies

    def _place(self, buffer: Buffer) -> tuple[int, int]:
        """Which of the call's arrays holds a buffer, and at which byte."""
        if buffer.kind == "arena":
            host, offset = self._places.get(buffer, (None, 0))  # one of no elements has none
            return (self._arena if host is None else self._place(host)[0]), offset
        first = {"input": 0, "output": self._inputs, "constant": self._arena + 1}
        return first[buffer.kind] + buffer.index, 0

    def _reference(self, step: ReferenceStep) -> Callable[[Sequence[np.ndarray]], None]:
        reads = [self._reader(v) for v in step.operands]
        writes = [self._reader(v) for v in step.targets]

        def run(table: Sequence[np.ndarray]) -> None:
            values = run_joint(step.nodes, [read(table) for read in reads])
            for write, value in zip(writes, values, strict=True):
                write(table)[...] = value

        return run

    def _reader(self, view: View) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
        """What finds a view in the arrays of a call."""
        place, at = self._place(view.buffer)
        if view.is_whole and view.buffer.kind in ("input", "output"):  # an array of its own
            return lambda table: table[place].reshape(view.shape)
        return lambda table: _array(view, table[place], at)


def _untie(partition: Partition, steps: Sequence[Step]) -> None:
    """Part what refers to itself, so that it dies with its last user and not at Python's next
    collection, which walks all objects of the process."""
    for buffer in partition.buffers:
        buffer.writers.clear()
    for step in steps:
        if isinstance(step, LoopStep):
            step.nest.derived.clear()


#: Kinds of clusters whose work is multiply-adds.
_PRODUCTS = ("matmul", "conv", "conv_weight", "attention")


def _entry(r: Record) -> Entry:
    return Entry(r.kernel.address, r.arguments, r.items, r.grain, r.work)


def _steps(partition: Partition, kept: Collection[int]) -> list[Step]:
    steps = [step_of(c) for c in partition.ordered()]
    for step in steps:
        if isinstance(step, ProductStep):
            step.keep(kept)
    return steps


def kept_bytes(run: Graph, layouts: Layouts, kept: Collection[int]) -> int:
    """Bytes that a program of `run` holds of inputs that are always the same. Nothing is
    compiled."""
    steps = _steps(_partition(run, layouts)[0], kept)
    return sum(step.kept_bytes for step in steps if isinstance(step, ProductStep))


def _part(step: Step, what: str, work: int) -> Part:
    """What one record of a step is to a person."""
    cluster = step.cluster
    nodes = [cluster.node] if cluster.node is not None else list(cluster.axes)
    lines = [n.loc for n in nodes if n is not None and n.loc is not None]
    nbytes = sum(buffer.nbytes for buffer in {*step.reads, *step.writes})
    flop = 2 * work if cluster.kind in _PRODUCTS else 0
    return Part(cluster.region, what, lines[-1] if lines else None, nbytes, flop)


def _written(steps: Sequence[Step], sources: list[list[Code]]) -> Iterator[Code]:
    """Write the kernels of steps, and list in `sources` those of each."""
    for step in steps:
        sources.append(step.sources())
        yield from sources[-1]


def _partition(run: Graph, layouts: Layouts) -> tuple[Partition, list[Buffer], list[Buffer]]:
    """The run cut into clusters, with its input and output buffers."""
    partition = Partition()
    known: dict[Node, Source] = {}
    results: dict[Node, list[Source]] = {}
    inputs = []
    for place, (node, strides) in enumerate(zip(run.inputs, layouts, strict=True)):
        buffer = Buffer(node.type.dtype, node.type.size, "input", place)
        inputs.append(buffer)
        known[node] = buffer.whole(node.type.shape)
        if strides is not None:
            known[node] = View(buffer, node.type.shape, strides)
    bodies: dict[Graph, Graph] = {}
    for node in run.nodes[len(run.inputs) :]:
        if node.op.name == "region":
            body = node.attrs["body"]
            if body not in bodies:
                bodies[body] = primitives(body)
            operands = [known[n] for n in node.inputs]
            results[node] = partition.region(node.attrs["name"], bodies[body], operands)
        elif node.op.name == "output":
            known[node] = results[node.inputs[0]][node.attrs["index"]]
        else:
            known[node] = partition.top_level(node)
    return partition, inputs, _outputs(partition, run, known)


def interpreted(graph: Graph) -> dict[str, str]:
    """The ops of `graph` that run on the NumPy reference, and why. Nothing is compiled."""
    partition, _, _ = _partition(fuse(graph), (None,) * len(graph.inputs))
    steps = [ReferenceStep(c) for c in partition.ordered() if c.kind == "reference"]
    return {info.ops: info.reason for step in steps for info in step.info(())}


def _attends(node: Node) -> bool:
    """Whether kernels of attention compute `node`."""
    if not node.op.name.startswith("scaled_dot_product_attention"):
        return False
    with forking.unforked():
        from .attention.attention import native_attention  # graphs without do without
    return native_attention(node)


def primitives(body: Graph) -> Graph:
    """A region's body in primitive ops, and composites that have kernels of their own."""
    expanded = in_float32(in_parts(written_out(expand(body, keep=_attends))))
    shaped = generate_in_shape(simplify(expanded))
    return shaped if shaped is expanded else simplify(shaped)


def _outputs(partition: Partition, run: Graph, known: dict[Node, Source]) -> list[Buffer]:
    """The buffers of the results: those that hold them already, else copies."""
    scalars = [s for n in run.outputs if isinstance(s := known[n], Scalar) and not n.type.shape]
    computed = iter(partition.computed_scalars(scalars))
    outputs = []
    for place, node in enumerate(run.outputs):
        source = known[node]
        if isinstance(source, Scalar) and not node.type.shape:
            buffer = next(computed)
        elif isinstance(source, View) and source.is_whole and source.buffer.kind == "arena":
            buffer = source.buffer
        else:
            buffer = partition.copied(source, node.type.dtype, node.type.shape).buffer
        buffer.kind, buffer.index = "output", place
        outputs.append(buffer)
    return outputs


def _numbered(buffers: Sequence[Buffer], kind: str) -> list[Buffer]:
    found = [b for b in buffers if b.kind == kind]
    for index, buffer in enumerate(found):
        buffer.index = index
    return found


def _array(view: View, memory: np.ndarray, at: int) -> np.ndarray:
    """A view of `memory`, which holds its buffer from byte `at` on."""
    dtype = view.buffer.dtype.numpy
    if view.size == 0:
        return np.empty(view.shape, dtype)
    size = dtype.itemsize
    raw = memory.reshape(-1).view(np.uint8)
    words = np.ndarray(
        (*view.shape, size), np.uint8, raw, at + view.offset * size,
        (*[s * size for s in view.strides], 1),
    )  # fmt: skip
    return words.view(dtype).reshape(view.shape)
