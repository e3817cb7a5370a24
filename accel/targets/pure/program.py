"""From a run of regions to native code: :class:`PureRun`.

Building: expand the regions to primitives, cut them into clusters, turn clusters into steps,
plan the arena, compile all missing kernels in one module, write the program. Calling: list
the arrays (inputs, outputs, arena, constants), one native call, done. A run with reference
steps alternates native calls and NumPy.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import IndexOutOfRangeError
from ...ir.graph import Graph
from ...ir.node import Node
from ...passes.expand import expand
from ...passes.simplify import simplify
from ..reference import run_graph, run_node
from .attention import native_attention
from .buffers import MemoryPlan, stream_results
from .clusters import Scalar, Source
from .cut import Partition
from .entry import Job, call, pointer
from .jit import KernelCache
from .memory import POOLED, aligned, allocator
from .native_api import available
from .native_run import NativeRun
from .reshapes import generate_in_shape
from .steps import KernelInfo, Record, ReferenceStep, Step, step_of
from .threads import GATE, divided
from .views import Buffer, View

__all__ = ["KERNELS", "PureRun"]

#: Every kernel of the process, by content.
KERNELS = KernelCache(on_disk=True)

#: Arenas that a run keeps for its next calls; large ones go back to the pool of them all.
_ARENAS_KEPT = 4

#: Work, in multiply-adds, from which on a call lets other Python threads run: some microseconds.
_UNLOCKED = 4 * GATE

#: NumPy's flags of an array that is C-contiguous and aligned.
_ALIGNED = 0x0100
_PLAIN = 0x0001 | _ALIGNED

#: Bytes from which on an array is worth a program for its strides, in all and for every node
#: that has to be planned again; and how many such programs a run keeps.
_WORTH_PLANNING = 1 << 15
_PLANNED_NODE = 1 << 10
_LAYOUTS_KEPT = 8
#: Elements along an axis, one behind the other or one and the same, that make a register.
_STRETCH = 8

#: For every input its strides in elements, or None where it is C-contiguous.
Layouts = tuple["tuple[int, ...] | None", ...]


class PureRun:
    """A maximal run of pure regions, compiled.

    Calling it with the run's input arrays returns fresh output arrays. Safe under concurrent
    callers; inputs are never changed, and results never share their memory.

    A program reads its inputs under the strides for which it was planned. Large arrays of other
    strides get a program of their own instead of a copy: planning is repeated, but kernels take
    strides at run time, so that there is seldom anything to compile.

    Parameters
    ----------
    run
        The graph.
    strides
        For every input its strides in elements, or None where it is C-contiguous.

    Attributes
    ----------
    kernels
        What was made of the regions, in the order of execution.
    native_calls
        Native calls of one run: 1 when nothing runs on the reference.
    reference_ops
        Names of the ops that run on the NumPy reference.
    arena_bytes
        Memory for intermediates.
    """

    def __init__(self, run: Graph, strides: Layouts | None = None) -> None:
        self._graph = run
        self._arenas: deque[np.ndarray] = deque()
        self._layouts = strides or (None,) * len(run.inputs)
        self._others: dict[Layouts, PureRun] = {}
        partition, inputs, outputs = _partition(run, self._layouts)
        steps = [step_of(c) for c in partition.ordered()]
        stream_results(steps)
        plan = MemoryPlan(steps)
        self.arena_bytes = plan.bytes
        constants = _numbered(partition.buffers, "constant")
        self._inputs = [n.type.dtype.numpy for n in run.inputs]
        self._outputs = [allocator(n.type.shape, n.type.dtype.numpy) for n in run.outputs]
        self._constants = [b.array for b in constants if b.array is not None]
        # The order of a call's arrays: inputs, outputs, the arena, constants.
        self._arena = len(inputs) + len(outputs)
        self._places = plan.places
        self._compile(steps, plan.scratch)

    # -- building -------------------------------------------------------------------------
    def _place(self, buffer: Buffer) -> tuple[int, int]:
        """Which of the call's arrays holds a buffer, and at which byte."""
        if buffer.kind == "arena":
            host, offset = self._places.get(buffer, (None, 0))  # one of no elements has none
            return (self._arena if host is None else self._place(host)[0]), offset
        first = {"input": 0, "output": len(self._inputs), "constant": self._arena + 1}
        return first[buffer.kind] + buffer.index, 0

    def _compile(self, steps: Sequence[Step], scratch: Sequence[int]) -> None:
        """Compile the kernels, and write the program as segments."""
        sources = [s.sources() for s in steps]
        compiled = iter(KERNELS.ensure([source for own in sources for source in own]))
        kernels = [[next(compiled) for _ in own] for own in sources]
        self._kept: list[Any] = list(kernels)  # their code stays mapped as long as this run lives
        self._segments: list[Job | ReferenceStep] = []
        self._checks: dict[Job, list[tuple[Node, ...]]] = {}
        self._work = 0
        pending: list[Record] = []
        for step, own, at in zip(steps, kernels, scratch, strict=True):
            if isinstance(step, ReferenceStep):
                self._flush(pending)
                self._segments.append(step)
                continue
            pending += step.records(self._place, own, (self._arena, at))
        self._flush(pending)
        pairs = zip(steps, kernels, strict=True)
        self.kernels: tuple[KernelInfo, ...] = tuple([i for s, own in pairs for i in s.info(own)])
        self.native_calls = sum(isinstance(s, Job) for s in self._segments)
        self.reference_ops = tuple(
            [s.node.op.name for s in steps if isinstance(s, ReferenceStep)]
        )

    def _flush(self, pending: list[Record]) -> None:
        """End a stretch of native kernels."""
        if not pending:
            return
        blocks = [np.array(record.arguments, np.int64) for record in pending]
        self._kept.append(blocks)
        rows = [
            (*self._entry(record, block), 0, record.items)
            for record, block in zip(pending, blocks, strict=True)
        ]
        bases = self._arena + 1 + len(self._constants)
        job = Job(bases, np.array(rows, np.int64))
        self._segments.append(job)
        self._checks[job] = [record.checks for record in pending]
        self._work += sum(record.work for record in pending)
        pending.clear()

    def _entry(self, record: Record, block: np.ndarray) -> tuple[int, int]:
        """Addresses of a record's kernel and argument block."""
        kernel, arguments = record.kernel.address, pointer(block)
        if record.grain:
            kernel, split = divided(kernel, arguments, record.grain)
            self._kept.append(split)
            arguments = pointer(split)
        return kernel, arguments

    # -- calling --------------------------------------------------------------------------
    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run; `arrays` have the shapes and dtypes of the run's inputs.

        Raises
        ------
        IndexOutOfRangeError
            When an index is out of range; nothing has been changed.
        """
        program = self._program(arrays)
        if program is not self:
            return program(arrays)
        table = [
            _ready(a, d, strides)
            for a, d, strides in zip(arrays, self._inputs, self._layouts, strict=True)
        ]
        outputs = [new() for new in self._outputs]
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned(self.arena_bytes)
        table += outputs
        table.append(arena)
        table += self._constants
        for segment in self._segments:
            if isinstance(segment, Job):
                status = call(segment, table)
                if status:
                    self._fail(arrays, segment, status)
            else:
                self._reference(segment, table)
        if len(self._arenas) < _ARENAS_KEPT and arena.nbytes < POOLED:
            self._arenas.append(arena)
        return outputs

    def _program(self, arrays: Sequence[np.ndarray]) -> PureRun:
        """The program that reads `arrays` where they lie, as far as that pays."""
        if not any(_is_strided(a) for a in arrays) or self._layouts.count(None) < len(arrays):
            return self
        if self.reference_ops:  # they take whole buffers
            return self
        least = max(_WORTH_PLANNING, len(self._graph.nodes) * _PLANNED_NODE)
        layouts = tuple([
            _strides(a, d) if _is_strided(a) and a.nbytes >= least else None
            for a, d in zip(arrays, self._inputs, strict=True)
        ])  # fmt: skip
        if not any(layouts):
            return self
        found = self._others.get(layouts)
        if found is None:
            if len(self._others) >= _LAYOUTS_KEPT:
                return self
            found = self._others.setdefault(layouts, PureRun(self._graph, layouts))
        return found

    def native(self) -> NativeRun | None:
        """What native calls need; None where a call is more than one stretch of kernels."""
        if len(self._segments) != 1 or not isinstance(self._segments[0], Job) or not available():
            return None
        new_arena = functools.partial(aligned, self.arena_bytes)
        types = [n.type for n in self._graph.outputs]
        pooled = self.arena_bytes >= POOLED
        return NativeRun(
            self._segments[0],
            [(n.type.shape, n.type.dtype.numpy) for n in self._graph.inputs],
            [(t.shape, t.dtype.numpy, new if t.nbytes >= POOLED else None)
             for t, new in zip(types, self._outputs, strict=True)],
            self._constants, None if pooled else new_arena(), new_arena,
            self._work >= _UNLOCKED, self._kept, np.array([pooled], np.int64),
        )  # fmt: skip

    def _fail(self, arrays: Sequence[np.ndarray], job: Job, status: int) -> None:
        """Raise the error of a check that failed, as the reference words it."""
        run_graph(self._graph, arrays)
        # An index computed from floats may differ by a rounding, so that only ours is wrong.
        record, number = (status >> 32) - 1, (status & 0xFFFFFFFF) - 1
        node = self._checks[job][record][number]
        raise IndexOutOfRangeError(
            f"{node.attrs['what']}: an index is out of range for extent {node.attrs['size']}",
            loc=node.loc,
            remedy="round indices before they are cast to integers",
        )

    def _reference(self, step: ReferenceStep, table: Sequence[np.ndarray]) -> None:
        def array(view: View) -> np.ndarray:
            place, at = self._place(view.buffer)
            return _array(view, table[place], at)

        array(step.target)[...] = run_node(step.node, [array(v) for v in step.operands])


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


def primitives(body: Graph) -> Graph:
    """A region's body in primitive ops, and composites that have kernels of their own."""
    return simplify(generate_in_shape(simplify(expand(body, keep=native_attention))))


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


# -- arrays ---------------------------------------------------------------------------------
def _is_strided(array: np.ndarray) -> bool:
    """Whether an array's elements lie elsewhere than one behind the other, aligned."""
    return isinstance(array, np.ndarray) and array.flags.num & _PLAIN == _ALIGNED


def _strides(array: np.ndarray, dtype: np.dtype) -> tuple[int, ...] | None:
    """The strides of `array` in elements, those of single elements 0; None where it has others,
    or another dtype, or must be gathered: NumPy's copy takes less time than that."""
    size = dtype.itemsize
    pairs = list(zip(array.shape, array.strides, strict=True))
    straight = any(extent >= _STRETCH and stride in (0, size) for extent, stride in pairs)
    if not straight or array.dtype != dtype or any(s % size for s in array.strides):
        return None
    return tuple([0 if extent == 1 else stride // size for extent, stride in pairs])


def _ready(array: np.ndarray, dtype: np.dtype, strides: tuple[int, ...] | None) -> np.ndarray:
    """`array` as kernels need it: under `strides` or C-contiguous, aligned, native."""
    if isinstance(array, np.ndarray):
        if (array.flags.num & _PLAIN == _PLAIN and array.dtype is dtype) or strides:
            return array
    return np.array(array, dtype, order="C")


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
