"""Random numbers of Python and NumPy, which a recording would freeze without a word."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import user_location

__all__ = ["warn_of_draws"]


def _states() -> dict[str, object]:
    """The states of the global generators that somebody imported, comparable."""
    found: dict[str, object] = {}
    if "numpy.random" in sys.modules:
        numpy: Any = np.random.get_state(legacy=False)
        inner = [v.tobytes() if isinstance(v, np.ndarray) else v for v in numpy["state"].values()]
        found["numpy.random"] = inner, numpy.get("has_gauss")
    if "random" in sys.modules:
        found["random"] = sys.modules["random"].getstate()
    return found


@contextmanager
def warn_of_draws(function: str) -> Iterator[None]:
    """Warn when the block draws from a generator that accel does not record.

    Generators that the user made with ``np.random.default_rng`` go unseen. Another thread that
    draws meanwhile looks the same, which is why this is no error.
    """
    before = _states()
    yield
    after = _states()
    drawn = [name for name, state in after.items() if state != before.get(name, state)]
    if "numpy.random" in after and "numpy.random" not in before:
        drawn.append("numpy.random")  # NumPy imports it with its first use
    if drawn:
        line = user_location()
        warnings.warn_explicit(
            f"{function} drew numbers from {' and '.join(drawn)} while it was recorded: every "
            "call will see these same numbers. Remedy: draw with accel.randn and its like, or "
            "pass the numbers as an argument",
            RuntimeWarning, *(line or ("accel", 1)),
        )  # fmt: skip
