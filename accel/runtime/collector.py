"""Python's garbage collector, put off while a graph is built.

Recording and the passes make many small objects and no garbage. The cyclic collector, woken
by the sheer number of objects, would walk them all again and again: it more than doubles
the time of a large compile and makes it grow faster than the graph.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collection_paused"]

_lock = threading.Lock()
_state = {"users": 0, "was_enabled": False}


@contextmanager
def collection_paused() -> Iterator[None]:
    """No cyclic collection inside the block, in any thread; blocks may nest and overlap."""
    with _lock:
        if _state["users"] == 0:
            _state["was_enabled"] = gc.isenabled()
            gc.disable()
        _state["users"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["users"] -= 1
            if _state["users"] == 0 and _state["was_enabled"]:
                gc.enable()
