"""Executables: a compiled graph as a short list of steps over numbered slots.

A step is a maximal run of regions of one target. Executables never change, so concurrent
callers share them; every call has its own slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..forking import cached_property
from ..ir.graph import Graph
from ..ir.node import Node
from .statistics import STATISTICS
from .transfer import to_host

if TYPE_CHECKING:
    from ..passes.pipeline import Stages
    from .outline import Outline, Stretch

__all__ = ["Executable", "Findings", "OneRun", "Step", "count_ops"]

#: A compiled run: arrays in, arrays out.
Run = Callable[[Sequence[Any]], list[Any]]


class Step(NamedTuple):
    """One run: where its operands are, where its results go, what may be dropped after it."""

    target: str
    regions: tuple[Node, ...]
    graph: Graph
    run: Run
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    frees: tuple[int, ...]


class OneRun(NamedTuple):
    """What a call is where it is a single native run.

    Attributes
    ----------
    reads
        For every input of the run, which of the call's arguments it is.
    order
        For every result of the call, which output of the run it is.
    counts
        What a call adds to the statistics.
    """

    reads: tuple[int, ...]
    order: tuple[int, ...]
    counts: Mapping[str, int]


class Findings(Protocol):
    """What a call does, found out when it is first asked for (`functools.cache`)."""

    def __call__(self) -> Outline: ...

    def cache_clear(self) -> None:
        """Forget it: who asks next has it found out again."""


class Executable:
    """A compiled graph: call it with one buffer per graph input.

    Parameters
    ----------
    inputs
        How many inputs the graph has.
    outline
        What a call does.
    runs
        The compiled stretches of the outline.
    one
        The call as a single run, where it is known before the outline is.
    passing
        Whether another call is to have another executable; then there is one run, on the CPU.

    Attributes
    ----------
    one
        The call as a single run; None where there are more.
    """

    def __init__(
        self, inputs: int, outline: Findings, runs: Sequence[Any],
        one: OneRun | None = None, passing: bool = False,
    ) -> None:  # fmt: skip
        self._inputs = inputs
        self.passing = passing
        self._outline = outline
        self.runs = tuple(runs)
        self._counts = _counts(outline().stretches, runs) if one is None else one.counts
        self.one = one or self._as_one_run()
        self._alone = self.one is not None and hasattr(runs[0], "native")
        self._called = False

    def _as_one_run(self) -> OneRun | None:
        outline = self._outline()
        if len(outline.stretches) != 1 or outline.copied:
            return None
        (only,) = outline.stretches
        order = tuple([only.writes.index(slot) for slot in outline.outputs])
        return OneRun(only.reads, order, self._counts)

    @property
    def stages(self) -> Stages:
        """The graph at every stage of the pipeline."""
        return self._outline().stages

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What a call runs."""
        stretches = self._outline().stretches
        last = {slot: number for number, s in enumerate(stretches) for slot in s.reads}
        kept = set(self._outline().outputs)
        return tuple([
            Step(s.target, s.regions, s.graph, run, s.reads, s.writes,
                 tuple([slot for slot in s.reads if last[slot] == number and slot not in kept]))
            for number, (s, run) in enumerate(zip(stretches, self.runs, strict=True))
        ])  # fmt: skip

    @property
    def regions(self) -> tuple[Node, ...]:
        """The regions in the order in which they run."""
        return tuple([r for step in self.steps for r in step.regions])

    def keeping(self, buffers: Mapping[int, np.ndarray]) -> Executable | None:
        """The executable for calls whose arguments of these numbers are always these arrays,
        unchanged; None where it would do nothing else."""
        keeping = getattr(self.runs[0], "keeping", None)
        if self.one is None or keeping is None:
            return None
        places = enumerate(self.one.reads)
        run = keeping({place: buffers[slot] for place, slot in places if slot in buffers})
        return None if run is None else Executable(self._inputs, self._outline, [run], self.one)

    def forget(self) -> None:
        """Let go of what calls do without, which is many times as large: graphs at all stages,
        loop nests. It is made again where somebody looks inside."""
        outline = self._outline
        if self._alone:
            outline.cache_clear()
            self.runs[0].forget(lambda: outline().stretches[0].graph)

    # -- calling ----------------------------------------------------------------------------
    @cached_property
    def native_run(self) -> Any:
        """What native calls need of the one run; None where there are more."""
        return self.runs[0].native() if self._alone else None

    @cached_property
    def native(self) -> Callable[..., list[Any]] | None:
        """A built-in function that does the same, from one array per graph input as a positional
        argument to a list of fresh arrays; None where a call is more than one native run."""
        run = self.native_run
        return None if run is None else run.function(self.native_block())

    def native_block(self, **counts: int) -> Any:
        """The words of a native call that counts `counts` as well."""
        assert self.one is not None
        added = STATISTICS.row({**self._counts, **counts})
        fallback = partial(_run_once, self.runs[0], self.one)
        return self.native_run.block(
            self._inputs, self.one.reads, self.one.order, added, STATISTICS.native, fallback
        )

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        """Run: fresh buffers for the outputs, nothing written into the arguments.

        The first call does without what only later ones gain by.
        """
        if self._alone or self.passing:
            if self._called and self.native is not None:
                return self.native(*buffers)
            self._called = True
            assert self.one is not None
            return _run_once(self.runs[0], self.one, *buffers)
        values = self.slots(buffers)
        for step in self.steps:
            results = step.run(self.operands(step, values))
            for slot, result in zip(step.writes, results, strict=True):
                values[slot] = result
            for slot in step.frees:
                values[slot] = None
        STATISTICS.add_all(self._counts)
        outline = self._outline()
        outputs = [values[s] for s in outline.outputs]
        for place in outline.copied:
            outputs[place] = _copy(outputs[place])
        return outputs

    def slots(self, buffers: Sequence[Any]) -> list[Any]:
        """The slots of a new call: the inputs, the constants, room for the rest."""
        outline = self._outline()
        values: list[Any] = list(buffers) + [None] * (outline.size - self._inputs)
        for slot, array in outline.constants:
            values[slot] = array
        return values

    def operands(self, step: Step, values: list[Any]) -> list[Any]:
        """What `step` reads; what torch keeps on a device is brought home where need be."""
        if step.target != "torch":
            for slot in step.reads:
                if not isinstance(values[slot], np.ndarray):
                    values[slot] = to_host(values[slot])
        return [values[slot] for slot in step.reads]


def _run_once(run: Run, one: OneRun, *buffers: Any) -> list[Any]:
    """A call of one run, where its arrays are not as a native call expects them."""
    results = run([to_host(buffers[slot]) for slot in one.reads])
    STATISTICS.add_all(one.counts)
    return [results[place] for place in one.order]


def _copy(buffer: Any) -> Any:
    """A buffer of its own: NumPy's arrays have `copy`, torch's `clone`."""
    return buffer.copy() if isinstance(buffer, np.ndarray) else buffer.clone()


def count_ops(regions: Sequence[Node]) -> int:
    """How many ops `regions` hold: neither inputs nor constants."""
    return sum(
        n.op.form not in ("structure", "creation")
        for r in regions for n in r.attrs["body"].nodes
    )  # fmt: skip


def _counts(stretches: Sequence[Stretch], runs: Sequence[Run]) -> dict[str, int]:
    """What one call adds to the statistics."""
    counts = {"pure_count": 0, "torch_count": 0, "pure_ops": 0, "torch_ops": 0,
              "reference_count": 0}  # fmt: skip
    for stretch, run in zip(stretches, runs, strict=True):
        kind = "torch" if stretch.target == "torch" else "pure"
        counts[f"{kind}_count"] += len(stretch.regions)
        counts[f"{kind}_ops"] += count_ops(stretch.regions)
        counts["reference_count"] += len(getattr(run, "reference_ops", ()))
    return counts
