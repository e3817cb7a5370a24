"""Tools that check accel, for its own suite and for users' functions.

`assert_targets_agree(fn, *args)` runs a function on every target, lazily and compiled, and
compares the results within error bounds that follow from the ops' declarations. `arrays`,
`graphs` and `cases` are Hypothesis strategies. ``python -m accel.testing.fuzz`` runs random
graphs by the thousand.
"""

from __future__ import annotations

from .agreement import (
    Agreement,
    Disagreement,
    assert_targets_agree,
    available_targets,
    check_graph,
)
from .comparison import Expected, compare
from .generate import Case
from .strategies import arrays, cases, graphs
from .tolerance import expected

__all__ = [
    "Agreement", "Case", "Disagreement", "Expected", "arrays", "assert_targets_agree",
    "available_targets", "cases", "check_graph", "compare", "expected", "graphs",
]  # fmt: skip
