"""Python's garbage collector, put off while a graph is built.

Recording and the passes make many small objects and no garbage. The cyclic collector, woken
by the sheer number of objects, would walk them all again and again: it more than doubles
the time of a large compile and makes it grow faster than the graph. Importing is the same.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from .. import forking

__all__ = ["collection_paused"]


def _pause() -> bool:
    global _was_enabled
    _was_enabled = gc.isenabled()
    gc.disable()
    return True


def _resume() -> None:
    if _was_enabled:
        gc.enable()


_was_enabled = False
_paused = forking.Presence(_pause, _resume)


@contextmanager
def collection_paused(lasting: bool = False) -> Iterator[None]:
    """No cyclic collection inside the block, in any thread; blocks may nest and overlap.

    Parameters
    ----------
    lasting
        Whether nearly all that is made inside lives as long as the process, as modules do: it is
        put with the old objects, which are seldom walked.
    """
    _paused.enter()
    try:
        yield
    finally:
        if lasting and gc.get_freeze_count() == 0:  # else somebody has frozen objects
            gc.freeze()
            gc.unfreeze()
        _paused.leave()
