"""From a run of regions to native code: :class:`PureRun`.

Building: expand the regions to primitives, cut them into clusters, turn clusters into steps,
plan the arena, compile all missing kernels in one module, write the program. Calling: fill
the table of pointers (inputs, constants, outputs, arena), one native call, done. A run with
reference steps alternates native calls and NumPy.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import InternalCompilerError
from ...ir.graph import Graph
from ...ir.node import Node
from ...passes.expand import expand
from ...passes.simplify import simplify
from ..reference import run_graph, run_node
from .buffers import ALIGNMENT, plan_arena
from .clusters import Source
from .cut import Partition
from .jit import KernelCache, run_program
from .steps import KernelInfo, Record, ReferenceStep, Step, step_of
from .views import Buffer, View

__all__ = ["KERNELS", "PureRun"]

#: Every kernel of the process, by content.
KERNELS = KernelCache()

#: Arenas that a run keeps for its next calls.
_ARENAS_KEPT = 4


class PureRun:
    """A maximal run of pure regions, compiled.

    Calling it with the run's input arrays returns fresh output arrays. Immutable and safe
    under concurrent callers; inputs are never changed, and results never share their memory.

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

    def __init__(self, run: Graph) -> None:
        self._graph = run
        self._arenas: deque[np.ndarray] = deque()
        partition, inputs, outputs = _partition(run)
        self._steps = [step_of(c) for c in partition.ordered()]
        plan = plan_arena(self._steps)
        self.arena_bytes = plan.bytes
        constants = _numbered(partition.buffers, "constant")
        self._inputs = [n.type.dtype.numpy for n in run.inputs]
        self._outputs = [(n.type.shape, n.type.dtype.numpy) for n in run.outputs]
        self._constants = tuple([b.array for b in constants])
        self._first_constant = len(inputs)
        self._first_output = self._first_constant + len(constants)
        self._arena = self._first_output + len(outputs)
        self._offsets = plan.offsets
        self._table = ctypes.c_int64 * (self._arena + 1)
        self._constant_pointers = [_pointer(a) for a in self._constants if a is not None]
        self._compile(plan.scratch)

    # -- building -------------------------------------------------------------------------
    def _place(self, buffer: Buffer) -> tuple[int, int]:
        """Base index and byte offset of a buffer."""
        if buffer.kind == "arena":
            return self._arena, self._offsets.get(buffer, 0)  # one of no elements has no writer
        first = {"input": 0, "constant": self._first_constant, "output": self._first_output}
        return first[buffer.kind] + buffer.index, 0

    def _compile(self, scratch: Sequence[int]) -> None:
        """Compile the kernels, and write the program as segments."""
        sources = [s.sources() for s in self._steps]
        compiled = iter(KERNELS.ensure([source for own in sources for source in own]))
        kernels = [[next(compiled) for _ in own] for own in sources]
        self._kept: list[Any] = kernels  # their code stays mapped as long as this run lives
        self._segments: list[_Native | ReferenceStep] = []
        pending: list[tuple[Record, Step]] = []
        for step, own, at in zip(self._steps, kernels, scratch, strict=True):
            if isinstance(step, ReferenceStep):
                self._flush(pending)
                self._segments.append(step)
                continue
            for record in step.records(self._place, own, (self._arena, at)):
                pending.append((record, step))
        self._flush(pending)
        pairs = zip(self._steps, kernels, strict=True)
        self.kernels: tuple[KernelInfo, ...] = tuple([i for s, own in pairs for i in s.info(own)])
        self.native_calls = sum(isinstance(s, _Native) for s in self._segments)
        self.reference_ops = tuple(
            [s.node.op.name for s in self._steps if isinstance(s, ReferenceStep)]
        )

    def _flush(self, pending: list[tuple[Record, Step]]) -> None:
        if pending:
            self._segments.append(_Native(pending))
            pending.clear()

    # -- calling --------------------------------------------------------------------------
    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run; `arrays` have the shapes and dtypes of the run's inputs.

        Raises
        ------
        IndexOutOfRangeError
            When an index is out of range; nothing has been changed.
        """
        inputs = [_ready(a, d) for a, d in zip(arrays, self._inputs, strict=True)]
        outputs = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = np.empty(self.arena_bytes + ALIGNMENT, np.uint8)
        base = -(-_pointer(arena) // ALIGNMENT) * ALIGNMENT
        table = self._table(
            *map(_pointer, inputs), *self._constant_pointers, *map(_pointer, outputs), base
        )
        address = ctypes.addressof(table)
        for segment in self._segments:
            if isinstance(segment, _Native):
                if run_program(address, segment.address, segment.count):
                    self._fail(arrays)
            else:
                self._reference(segment, inputs, outputs, arena, base)
        if len(self._arenas) < _ARENAS_KEPT:
            self._arenas.append(arena)
        return outputs

    def _fail(self, arrays: Sequence[np.ndarray]) -> None:
        """Raise the error of a check that failed, as the reference words it."""
        run_graph(self._graph, arrays)
        raise InternalCompilerError(
            "a kernel reported a failed check that the reference does not confirm",
            remedy="this is a bug of accel: please report it with the graph",
        )

    def _reference(
        self, step: ReferenceStep, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray],
        arena: np.ndarray, base: int,
    ) -> None:  # fmt: skip
        def array(view: View) -> np.ndarray:
            buffer = view.buffer
            at = 0
            if buffer.kind == "arena":
                memory, at = arena, base - _pointer(arena) + self._place(buffer)[1]
            elif buffer.kind == "constant":
                memory = self._constants[buffer.index]  # type: ignore[assignment]
            else:
                memory = (inputs if buffer.kind == "input" else outputs)[buffer.index]
            return _array(view, memory, at)

        array(step.target)[...] = run_node(step.node, [array(v) for v in step.operands])


class _Native:
    """A stretch of the program: a table of records for `run_program`."""

    def __init__(self, pending: Sequence[tuple[Record, Step]]) -> None:
        self.count = len(pending)
        self.blocks = [np.array(r.arguments, np.int64) for r, _ in pending]
        rows = [
            (r.kernel.address, _pointer(block), 0, r.items)
            for (r, _), block in zip(pending, self.blocks, strict=True)
        ]
        self.table = np.array(rows, np.int64)
        self.address = _pointer(self.table)


def _partition(run: Graph) -> tuple[Partition, list[Buffer], list[Buffer]]:
    """The run cut into clusters, with its input and output buffers."""
    partition = Partition()
    known: dict[Node, Source] = {}
    results: dict[Node, list[Source]] = {}
    inputs = []
    for place, node in enumerate(run.inputs):
        buffer = Buffer(node.type.dtype, node.type.size, "input", place)
        inputs.append(buffer)
        known[node] = buffer.whole(node.type.shape)
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
    outputs = []
    for place, node in enumerate(run.outputs):
        outputs.append(_output(partition, known[node], node, place))
    return partition, inputs, outputs


def primitives(body: Graph) -> Graph:
    """A region's body in primitive ops."""
    return simplify(expand(body))


def _output(partition: Partition, source: Source, node: Node, place: int) -> Buffer:
    """The buffer of one result: the one that holds it already, or a copy."""
    if isinstance(source, View) and source.is_whole and source.buffer.kind == "arena":
        buffer = source.buffer
    else:
        buffer = partition.copied(source, node.type.dtype, node.type.shape).buffer
    buffer.kind, buffer.index = "output", place
    return buffer


def _numbered(buffers: Sequence[Buffer], kind: str) -> list[Buffer]:
    found = [b for b in buffers if b.kind == kind]
    for index, buffer in enumerate(found):
        buffer.index = index
    return found


# -- arrays ---------------------------------------------------------------------------------
def _ready(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` as kernels need it: C-contiguous, aligned, in native byte order."""
    if not isinstance(array, np.ndarray):  # a NumPy scalar
        array = np.asarray(array)
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype == dtype and array.dtype.isnative:
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


def _pointer_by_interface(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _pointer_by_layout(array: np.ndarray) -> int:
    """The data pointer as the first field of NumPy's array struct: 5 times faster."""
    return int(ctypes.c_ssize_t.from_address(id(array) + object.__basicsize__).value)


def _layout_holds() -> bool:
    """Whether NumPy arrays lie in memory as `_pointer_by_layout` expects."""
    samples: list[np.ndarray] = [np.arange(5), np.zeros((3, 4), np.float32)[1:, ::2], np.array(2.5)]
    return all(_pointer_by_layout(a) == _pointer_by_interface(a) for a in samples)


_pointer: Callable[[np.ndarray], int] = (
    _pointer_by_layout if _layout_holds() else _pointer_by_interface
)
