"""The table of a run: a time for each peer, the yardstick of each row, and whether it was met."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .runner import Outcome
from .workloads import WORKLOADS, Training, Workload

NAME_WIDTH, WIDTH = 28, 13

Results = Mapping[str, Mapping[str, Outcome]]


def duration(ns: float) -> str:
    """Three digits and a unit.

    >>> duration(1234.5), duration(56.7e6)
    ('1.23 µs', '56.7 ms')
    """
    if math.isnan(ns):
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


class Verdict(NamedTuple):
    """How a row came out: against whom, and how many times accel's time that one takes."""

    yardstick: str
    ratio: float
    goal: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none, or nothing to compare with."""
        return None if self.goal is None or math.isnan(self.ratio) else self.ratio >= self.goal


def verdict(workload: Workload | Training, outcomes: Mapping[str, Outcome]) -> Verdict:
    """accel beside the workload's yardstick: the fastest other peer, or what it names."""
    own = outcomes["accel"].ns if "accel" in outcomes else math.nan
    if workload.against is not None:
        row, peer = workload.against
        name = peer if row == workload.name else f"{peer} {row}"
        found = outcomes.get(name)
        return Verdict(name, found.ns / own if found else math.nan, workload.goal)
    others = {p: o.ns for p, o in outcomes.items() if p != "accel" and not math.isnan(o.ns)}
    if not others:
        return Verdict("-", math.nan, workload.goal)
    best = min(others, key=others.__getitem__)
    return Verdict(best, others[best] / own, workload.goal)


def header(peers: Sequence[str]) -> str:
    """The column titles and a rule."""
    cells = "".join(f"{title:>{WIDTH}}" for title in [*peers, "ratio", "goal"])
    line = f"{'workload':<{NAME_WIDTH}}{cells}  against"
    return f"{line}\n{'-' * len(line)}"


def row(
    workload: str, peers: Sequence[str], outcomes: Mapping[str, Outcome], peak: Mapping[str, float]
) -> str:
    """One workload: times, then the ratio of the yardstick's time to accel's."""
    task = WORKLOADS[workload]
    found = verdict(task, outcomes)
    mark = {None: " ", True: "✓", False: "✗"}[found.met]
    cells = [_cell(outcomes[peer]) if peer in outcomes else "" for peer in peers]
    cells.append("-" if math.isnan(found.ratio) else f"{found.ratio:.2f}")
    cells.append(f"{'' if found.goal is None else format(found.goal, 'g')} {mark}")
    line = f"{workload:<{NAME_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)
    return f"{line}  {found.yardstick}{_share(task, outcomes, peak)}".rstrip()


def _share(
    task: Workload | Training, outcomes: Mapping[str, Outcome], peak: Mapping[str, float]
) -> str:
    """The share of the multiply-add peak, where the work is counted."""
    ceiling = peak.get(getattr(task, "dtype", "float32"))
    own = outcomes.get("accel")
    if not task.flops or ceiling is None or own is None or math.isnan(own.ns):
        return ""
    return f"; {task.flops / own.ns / ceiling:.0%} of peak"


def _cell(outcome: Outcome) -> str:
    if outcome.absent is not None:
        return ""
    if outcome.wrong is not None:
        return "WRONG"
    return "failed" if outcome.failure is not None else duration(outcome.ns)


def remarks(workload: str, outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each peer that was wrong or failed."""
    found = []
    for peer, outcome in outcomes.items():
        reason = outcome.wrong or outcome.failure
        if reason is not None:
            found.append(f"{workload}, {peer}: {reason}")
    return found


def summary(results: Results) -> str:
    """How many goals were met, and which were not."""
    found = {name: verdict(WORKLOADS[name], outcomes) for name, outcomes in results.items()}
    judged = {name: v for name, v in found.items() if v.met is not None}
    missed = [f"  {n}: {v.ratio:.2f}, not {v.goal:g}" for n, v in judged.items() if not v.met]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} goals met", *missed])
