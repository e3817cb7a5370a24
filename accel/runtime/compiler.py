"""From a recorded graph to an executable, cached by graph and settings."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import forking
from ..errors import DeviceError
from ..ir.graph import Graph
from ..ir.types import CPU
from ..log import is_heard
from .collector import collection_paused
from .executable import Executable, OneRun, Run
from .first_draws import WHY, FirstDraws
from .state import State
from .statistics import STATISTICS

if TYPE_CHECKING:
    from .outline import Outline

__all__ = ["clear_cache", "compile_graph"]

#: Called with each new executable (the dumps of `accel.inspect` enter themselves here).
ON_COMPILE: list[Callable[[Executable], None]] = []

#: Called when every executable is to be forgotten, by those who keep some.
ON_CLEAR: list[Callable[[], None]] = []

#: Executables kept; the least recently used go first.
CAPACITY = 512

#: Executables, the last ones compiled, that keep all that was found out about them. A loop over
#: many shapes would gather objects for Python's collector to walk.
_WHOLE = 32

_cache: OrderedDict[Any, Executable] = OrderedDict()
_whole: deque[Executable] = deque()
_first_draws = FirstDraws(CAPACITY)
_lock = forking.lock()
_building: dict[Any, Any] = {}
_compiles = itertools.count()


def compile_graph(graph: Graph, state: State, passing: bool = False) -> Executable:
    """The executable of `graph` under the settings of `state`.

    Concurrent callers with the same graph wait for one compilation.

    Parameters
    ----------
    graph, state
        What to compile, and how.
    passing
        Whether it is asked for to be called once: it may be one that is good for no more
        (`Executable.passing`), which another time will not be.
    """
    state = _where_it_says(graph, state)
    key = (graph, state.compile_key)
    if passing and state.mode == "pure" and _first_draws.take(graph, key):
        return _announced(_drawing(graph, state))
    with _lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            STATISTICS.add(cache_hits=1)
            return found
        mine = _building.setdefault(key, forking.lock())
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
            _whole.append(made)
            if len(_whole) > _WHOLE:
                _whole.popleft().forget()
            while len(_cache) > CAPACITY:
                _cache.popitem(last=False)
    STATISTICS.add(compiles=1)
    return made


def _where_it_says(graph: Graph, state: State) -> State:
    """`state`, or on torch where the graph holds values of a CUDA device.

    Raises
    ------
    DeviceError
        For values of two such devices.
    """
    devices = {n.type.device for n in graph.nodes} - {CPU}
    if not devices:
        return state
    if len(devices) > 1:
        raise DeviceError(f"one computation on {' and '.join(sorted(devices))}",
                          remedy="evaluate what one device does first: accel.eval(x)")  # fmt: skip
    return replace(state, mode="torch", device=devices.pop())


def clear_cache() -> None:
    """Forget every executable; their machine code is freed with the last user."""
    with _lock:
        _cache.clear()
        _whole.clear()
    _first_draws.clear()
    for forget in ON_CLEAR:
        forget()


def _compile(graph: Graph, state: State) -> Executable:
    with collection_paused(lasting=next(_compiles) == 0):  # the first imports what makes code
        executable = _executable(graph, state)
    return _announced(executable)


def _announced(executable: Executable) -> Executable:
    """`executable`, told to all who listen."""
    if is_heard():
        from .stages import log_decisions

        log_decisions(executable.stages.placed)
    for observer in ON_COMPILE:
        observer(executable)
    return executable


def _drawing(graph: Graph, state: State) -> Executable:
    """What lets NumPy do all of `graph`, as it was recorded."""
    with forking.unforked():
        from ..targets import reference

    settings = replace(state, mode="reference", tracer=None, plain=())
    outline = functools.cache(partial(_outline, graph, settings, WHY))
    ops = sum(n.op.form not in ("structure", "creation") for n in graph.nodes)
    counts = {"pure_count": 1, "pure_ops": ops, "reference_count": ops}
    one = OneRun(tuple(range(len(graph.inputs))), tuple(range(len(graph.outputs))), counts)
    return Executable(len(graph.inputs), outline, [reference.compile_run(graph)], one, True)


def _executable(graph: Graph, state: State) -> Executable:
    """What runs `graph`: from disk where an earlier process left it there, or compiled."""
    outline = functools.cache(partial(_outline, graph, replace(state, tracer=None, plain=())))
    key = None
    if state.mode == "pure" and not state.verify:  # nothing decides, and nobody wants to look on
        with forking.unforked():
            from . import kept  # brings the pure target

        key = kept.key_of(graph, state)
        found = None if key is None else kept.find(key)
        if found is not None:
            return kept.executable(graph, found, outline)
    runs = [compile_run(s.target, s.graph, state) for s in outline().stretches]
    made = Executable(len(graph.inputs), outline, runs)
    if key is not None:
        kept.keep(key, made)
    return made


def _outline(graph: Graph, state: State, why: str = "") -> Outline:
    with forking.unforked():
        from .outline import Outline
        from .stages import stages_of  # what is found on disk does without the passes

    return Outline(stages_of(graph, state, why))


def compile_run(target: str, run: Graph, state: State) -> Run:
    """A run of regions compiled by its target."""
    if target == "torch":
        from .fallback import TorchRun

        pure = partial(compile_run, "pure", state=state)
        return TorchRun(run, state.device, pure, state.fallback == "auto")
    if target == "reference":
        from ..targets import reference

        return reference.compile_run(run)
    from ..targets import pure as pure_target

    return pure_target.compile_run(run)
