"""From a recorded graph to an executable, cached by graph and settings."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from ..ir.graph import Graph
from ..passes.pipeline import Pipeline
from .executable import Executable, Run
from .state import State
from .statistics import STATISTICS

__all__ = ["clear_cache", "compile_graph"]

#: Executables kept; the least recently used go first.
CAPACITY = 512

_cache: OrderedDict[Any, Executable] = OrderedDict()
_lock = threading.Lock()
_building: dict[Any, threading.Lock] = {}


def compile_graph(graph: Graph, state: State) -> Executable:
    """The executable of `graph` under the settings of `state`.

    Concurrent callers with the same graph wait for one compilation.
    """
    key = (graph, state.compile_key)
    with _lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            STATISTICS.add(cache_hits=1)
            return found
        mine = _building.setdefault(key, threading.Lock())
    with mine:
        with _lock:
            found = _cache.get(key)
        if found is not None:
            return found
        try:
            made = _compile(graph, state)
        finally:
            with _lock:
                _building.pop(key, None)
        with _lock:
            _cache[key] = made
            while len(_cache) > CAPACITY:
                _cache.popitem(last=False)
    STATISTICS.add(compiles=1)
    return made


def clear_cache() -> None:
    """Forget every executable; their machine code is freed with the last user."""
    with _lock:
        _cache.clear()


def _compile(graph: Graph, state: State) -> Executable:
    target = "reference" if state.mode == "reference" else "pure"

    def decide(fused: Graph) -> dict[str, tuple[str, str]]:
        names = (n.attrs["name"] for n in fused.nodes if n.op.name == "region")
        return {name: (target, f"mode {state.mode}") for name in names}

    stages = Pipeline(decide, state.disabled_passes, state.verify).run(graph)
    return Executable(stages, compile_run)


def compile_run(target: str, run: Graph) -> Run:
    """A run of regions compiled by its target."""
    if target == "reference":
        from ..targets import reference

        return reference.compile_run(run)
    from ..targets import pure, reference

    return getattr(pure, "compile_run", reference.compile_run)(run)
