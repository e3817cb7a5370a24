"""Calling a run of regions: one native call, with all that it needs prepared.

Calling: list the arrays (inputs, outputs, arena, constants), one native call, done. A run with
reference steps alternates native calls and NumPy. What is executed lies on disk from an earlier
process, or is built (`build.py`), which only then is imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import forking
from ...errors import IndexOutOfRangeError
from ...ir.graph import Graph
from ...ir.types import TensorType
from ..parts import Watch
from ..reference import run_graph
from . import programs
from .machine.jit import expected_beside
from .machine.kernels import KERNELS
from .machine.memory import POOLED
from .machine.threads import GATE, divided
from .memory import aligned, allocator, announce, most_packed
from .native.api import available
from .native.entry import Job, call, pointer
from .native.run import NativeRun
from .programs import Entry, Interlude, Layouts

if TYPE_CHECKING:
    from .build import Build
    from .records import KernelInfo

__all__ = ["KERNELS", "PureRun"]

Types = Sequence[TensorType]

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


class PureRun:
    """A maximal run of pure regions, compiled.

    Calling it with the run's input arrays returns fresh output arrays. Safe under concurrent
    callers; inputs are never changed, and results never share their memory.

    A program reads its inputs under the strides for which it was planned. Large arrays of other
    strides get a program of their own instead of a copy: planning is repeated, but kernels take
    strides at run time, so that there is seldom anything to compile.

    Parameters
    ----------
    inputs, outputs
        Types of what a call takes and gives.
    graph
        Gives the run's graph; asked where that is not found on disk, or looked into.
    strides
        For every input its strides in elements, or None where it is C-contiguous.
    key
        Under which the program is to be found on disk, where that is known without the graph.
    kept
        Arrays by the numbers of inputs that are these very arrays, unchanged, on every call.

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
    key
        Under which the program lies on disk; None where it is not kept.
    """

    def __init__(
        self, inputs: Types, outputs: Types, graph: Callable[[], Graph],
        strides: Layouts | None = None, key: str | None = None,
        kept: Mapping[int, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self._graph = graph
        self._types = inputs, outputs
        self._arenas: deque[np.ndarray] = deque()
        self._layouts = strides or (None,) * len(inputs)
        self._others: dict[Layouts, PureRun] = {}
        self._inputs = [t.dtype.numpy for t in inputs]
        announce(max([t.nbytes for t in outputs], default=0))
        self._built: Build | None = None
        self._same = kept or {}
        if not kept:
            key = key or programs.key_of(graph(), f"program {self._layouts}")
        self.key = key
        found = None if self.key is None else programs.find(self.key)
        if found is not None:
            program, kernels = found
        else:
            with expected_beside():
                self._built = built = self._build()
            program, kernels = built.program, built.kernels
            if self.key is not None and not programs.keep(self.key, program):
                self.key = None
        self._kept: list[Any] = [kernels]  # their code stays mapped as long as this run lives
        self.arena_bytes = program.arena_bytes
        self._new_arena = aligned(program.arena_bytes)
        self._outputs = [allocator(t.shape, t.dtype.numpy) for t in outputs]
        self._constants = program.constants
        if program.prepared:
            self._prepare(program.prepared)
        self._segments = [
            s if isinstance(s, Interlude) else self._job(s) for s in program.segments
        ]  # fmt: skip
        native = [s for s in program.segments if not isinstance(s, Interlude)]
        self._work = sum(entry.work for stretch in native for entry in stretch)
        self.native_calls = len(native)
        self.reference_ops = tuple([s.op for s in self._segments if isinstance(s, Interlude)])

    # -- building -------------------------------------------------------------------------
    def _build(self) -> Build:
        with forking.unforked():
            from .build import Build  # lowering takes a while to import

        return Build(self._graph(), self._layouts, self._same)

    def keeping(self, arrays: Mapping[int, np.ndarray]) -> PureRun | None:
        """The run for calls whose inputs of these numbers are always these arrays, unchanged: what
        products copy of them, it copies now. None where that is nothing, or too much."""
        from .build import kept_bytes

        if not 0 < kept_bytes(self._graph(), self._layouts, arrays) <= most_packed():
            return None
        return PureRun(*self._types, self._graph, self._layouts, kept=arrays)

    def _prepare(self, entries: Sequence[Entry]) -> None:
        """Fill the constants that are copies of inputs."""
        nothing = np.empty(0, np.uint8)
        inputs = [self._same.get(number, nothing) for number in range(len(self._inputs))]
        others = [nothing] * (len(self._outputs) + 1)
        call(self._job(entries), [*inputs, *others, *self._constants])

    def _description(self) -> Build:
        """What the run was built from; built for that where the program lay on disk."""
        built = self._built
        if built is None:
            built = self._built = self._build()
        return built

    def forget(self, graph: Callable[[], Graph]) -> None:
        """Let go of what it was built from, which `graph` gives again."""
        self._graph, self._built = graph, None
        for other in self._others.values():
            other.forget(graph)

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        return self._description().info

    def _job(self, entries: Sequence[Entry]) -> Job:
        """A stretch of native kernels, ready to be called."""
        blocks = [np.array(entry.arguments, np.int64) for entry in entries]
        self._kept.append(blocks)
        rows = [
            (*self._record(entry, block), 0, entry.items)
            for entry, block in zip(entries, blocks, strict=True)
        ]
        bases = len(self._inputs) + len(self._outputs) + 1 + len(self._constants)
        return Job(bases, np.array(rows, np.int64))

    def _record(self, entry: Entry, block: np.ndarray) -> tuple[int, int]:
        """Addresses of an entry's kernel and argument block."""
        kernel, arguments = int(entry.kernel), pointer(block)
        if entry.grain:
            kernel, split = divided(kernel, arguments, entry.grain)
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
        table, outputs, arena = self._table(arrays)
        number = 0
        for segment in self._segments:
            if isinstance(segment, Job):
                status = call(segment, table)
                if status:
                    self._fail(arrays, number, status)
                number += 1
            else:
                segment.run(table)
        if len(self._arenas) < _ARENAS_KEPT and arena.nbytes < POOLED:
            self._arenas.append(arena)
        return outputs

    def _table(
        self, arrays: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """The arrays of a call; of these the outputs, and the arena."""
        table = [
            _ready(a, d, strides)
            for a, d, strides in zip(arrays, self._inputs, self._layouts, strict=True)
        ]
        outputs = [new() for new in self._outputs]
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = self._new_arena()
        table += outputs
        table.append(arena)
        table += self._constants
        return table, outputs, arena

    def watched(self, arrays: Sequence[np.ndarray], watch: Watch) -> list[np.ndarray]:
        """Run kernel by kernel; `watch` is told of each. For profiles: errors are not checked."""
        program = self._program(arrays)
        if program is not self:
            return program.watched(arrays, watch)
        table, outputs, _ = self._table(arrays)
        for segment, parts in zip(self._segments, self._description().parts, strict=True):
            if isinstance(segment, Interlude):
                segment.run(table)
                watch(parts[0])
                continue
            for number, part in enumerate(parts):
                single = Job(len(table), segment.program[number : number + 1])
                single.enter()
                watch(None)
                call(single, table)
                watch(part)
        return outputs

    def _program(self, arrays: Sequence[np.ndarray]) -> PureRun:
        """The program that reads `arrays` where they lie, as far as that pays."""
        if not any(_is_strided(a) for a in arrays) or self._layouts.count(None) < len(arrays):
            return self
        if self.reference_ops:  # they take whole buffers
            return self
        least = max(_WORTH_PLANNING, len(self._graph().nodes) * _PLANNED_NODE)
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
            found = self._others.setdefault(layouts, PureRun(*self._types, self._graph, layouts))
        return found

    def native(self) -> NativeRun | None:
        """What native calls need; None where a call is more than one stretch of kernels."""
        if len(self._segments) != 1 or not isinstance(self._segments[0], Job) or not available():
            return None
        inputs, outputs = self._types
        pooled = self.arena_bytes >= POOLED
        return NativeRun(
            self._segments[0],
            [(t.shape, t.dtype.numpy) for t in inputs],
            [(t.shape, t.dtype.numpy, new if t.nbytes >= POOLED else None)
             for t, new in zip(outputs, self._outputs, strict=True)],
            self._constants, None if pooled else self._new_arena(), self._new_arena,
            self._work >= _UNLOCKED, self._kept, np.array([pooled], np.int64),
        )  # fmt: skip

    def _fail(self, arrays: Sequence[np.ndarray], stretch: int, status: int) -> None:
        """Raise the error of a check that failed, as the reference words it."""
        run_graph(self._graph(), arrays)
        # An index computed from floats may differ by a rounding, so that only ours is wrong.
        record, number = (status >> 32) - 1, (status & 0xFFFFFFFF) - 1
        node = self._description().checks[stretch][record][number]
        raise IndexOutOfRangeError(
            f"{node.attrs['what']}: an index is out of range for extent {node.attrs['size']}",
            loc=node.loc,
            remedy="round indices before they are cast to integers",
        )


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
