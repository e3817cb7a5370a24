"""The profile of a call: which kernel takes how long, for which of the user's lines."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.executable import Executable, Step
from ..targets.parts import Part
from .tables import html_table, text_table

__all__ = ["Profile", "ProfileRow", "profile"]

_COLUMNS = ("time", "share", "what", "region", "target", "line", "GB/s", "GFLOP/s")
_RIGHT = frozenset({"time", "share", "GB/s", "GFLOP/s"})
#: Seconds of measuring, and the runs between which the median is taken.
_SECONDS, _LEAST, _MOST = 0.2, 5, 1000


@dataclass(frozen=True)
class ProfileRow:
    """One kernel, or one call of torch.

    Attributes
    ----------
    seconds
        Median time.
    part
        What ran; see `accel.targets.parts.Part`.
    target
        Where it ran.
    """

    seconds: float
    part: Part
    target: str

    @property
    def gigabytes_per_second(self) -> float:
        """What it reads and writes, each once, by its time."""
        return self.part.nbytes / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gigaflops(self) -> float:
        """Floating-point operations of products by its time, in 1e9 a second; 0 for others."""
        return self.part.flop / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """The rows in the order of execution, and the time of a whole call.

    Attributes
    ----------
    rows
        What ran, in order.
    seconds
        Median time of a whole run, measured apart from the rows: without what it costs to time
        each.
    runs
        How often it was run.
    """

    rows: tuple[ProfileRow, ...]
    seconds: float
    runs: int

    def __str__(self) -> str:
        return text_table(_COLUMNS, self._cells(), _RIGHT, self.summary)

    @property
    def summary(self) -> str:
        """The sum of the rows, and the time of a whole run."""
        total = sum(row.seconds for row in self.rows)
        return f"{_time(total)} in parts, {_time(self.seconds)} as a whole; medians of {self.runs}"

    def _cells(self) -> list[tuple[str, ...]]:
        total = sum(row.seconds for row in self.rows) or 1.0
        return [
            (
                _time(row.seconds), f"{100 * row.seconds / total:.1f}%", row.part.what,
                row.part.region, row.target, _line(row.part), f"{row.gigabytes_per_second:.1f}",
                f"{row.gigaflops:.1f}" if row.part.flop else "",
            )
            for row in self.rows
        ]  # fmt: skip

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._cells(), self.summary)


def profile(executable: Executable, buffers: Sequence[Any]) -> Profile:
    """Run `executable` on `buffers` some times, whole and part by part.

    Nothing is written back. The parts of a step run one after the other as in a call, but each
    is waited for.
    """
    executable(buffers)  # first touches of memory, torch's own preparations
    whole: list[float] = []
    parts: list[list[tuple[float, Part, str]]] = []
    begin = time.perf_counter()
    while len(whole) < _LEAST or (
        len(whole) < _MOST and time.perf_counter() - begin < _SECONDS
    ):  # fmt: skip
        start = time.perf_counter()
        executable(buffers)
        whole.append(time.perf_counter() - start)
        parts.append(_watched(executable, buffers))
    rows = [
        ProfileRow(statistics.median(seconds for seconds, _, _ in same), same[0][1], same[0][2])
        for same in zip(*parts, strict=True)
    ]
    return Profile(tuple(rows), statistics.median(whole), len(whole))


def _watched(executable: Executable, buffers: Sequence[Any]) -> list[tuple[float, Part, str]]:
    """One run: seconds, part and target of everything in it."""
    found: list[tuple[float, Part, str]] = []
    last = 0.0

    def watch(part: Part | None) -> None:
        nonlocal last
        now = time.perf_counter()
        if part is not None:
            found.append((now - last, part, target))
        last = time.perf_counter()

    values = executable.slots(buffers)
    for step in executable.steps:
        target = step.target
        operands = executable.operands(step, values)
        watched = getattr(step.run, "watched", None)
        last = time.perf_counter()
        if watched is None:
            results = step.run(operands)
            watch(_step(step))
        else:
            results = watched(operands, watch)
        for slot, result in zip(step.writes, results, strict=True):
            values[slot] = result
    return found


def _step(step: Step) -> Part:
    """A step that cannot be looked into."""
    types = [n.type for n in (*step.graph.inputs, *step.graph.outputs)]
    names = ", ".join(r.attrs["name"] for r in step.regions)
    return Part(names, "NumPy reference", None, sum(t.nbytes for t in types))


def _time(seconds: float) -> str:
    for limit, unit, scale in ((1e-3, "µs", 1e6), (1.0, "ms", 1e3)):
        if seconds < limit:
            return f"{seconds * scale:.3g} {unit}" if seconds * scale < 100 else (
                f"{seconds * scale:.0f} {unit}"
            )  # fmt: skip
    return f"{seconds:.3g} s"


def _line(part: Part) -> str:
    return f"{os.path.basename(part.loc.file)}:{part.loc.line}" if part.loc else ""
