"""The table of a run: absolute times, and how many times accel's time each peer takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .runner import Outcome

WIDTH = 21


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


def header(peers: Sequence[str]) -> str:
    """The column titles and a rule."""
    others = [f"{peer}/{peers[0]}" for peer in peers[1:]]
    line = f"{'workload':<22}" + "".join(f"{title:>{WIDTH}}" for title in [*peers, *others])
    return f"{line}\n{'-' * len(line)}"


def row(workload: str, peers: Sequence[str], outcomes: dict[str, Outcome]) -> str:
    """One workload: times, then ratios to the first peer's time."""
    cells = [_cell(outcomes[peer]) for peer in peers]
    base = outcomes[peers[0]].ns
    ratios = [outcomes[peer].ns / base for peer in peers[1:]]
    cells += ["-" if math.isnan(ratio) else f"{ratio:.2f}x" for ratio in ratios]
    return f"{workload:<22}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


def _cell(outcome: Outcome) -> str:
    if outcome.wrong is not None:
        return "WRONG"
    return "failed" if outcome.failure is not None else duration(outcome.ns)


def remarks(workload: str, outcomes: dict[str, Outcome]) -> list[str]:
    """A line for each peer that was wrong or failed."""
    found = []
    for peer, outcome in outcomes.items():
        reason = outcome.wrong or outcome.failure
        if reason is not None:
            found.append(f"{workload}, {peer}: {reason}")
    return found
