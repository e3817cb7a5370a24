"""What a target runs for a step, part by part: what a profile shows times of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..errors import Location

__all__ = ["Part", "Watch"]


class Part(NamedTuple):
    """One kernel, or one call of a library.

    Attributes
    ----------
    region
        The region that it belongs to; empty where a target flattens regions.
    what
        What runs: a kernel's name, an op.
    loc
        The user's line.
    nbytes
        The bytes of all that it reads and writes, each once.
    flop
        Floating-point operations of products, 0 where they are not what takes the time.
    """

    region: str
    what: str
    loc: Location | None
    nbytes: int
    flop: int = 0


#: Told of every part once it has run; of None where what was done until then is none of them.
Watch = Callable[["Part | None"], None]
