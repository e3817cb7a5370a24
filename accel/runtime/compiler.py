"""From a recorded graph to an executable, cached by graph and settings."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import DeviceError
from ..ir.graph import Graph
from ..ir.types import CPU
from ..passes.pipeline import Pipeline, Stages
from ..passes.place import Policy, heaviest
from .collector import collection_paused
from .executable import Executable, Run
from .state import State
from .statistics import STATISTICS

__all__ = ["clear_cache", "compile_graph"]

LOG = logging.getLogger("accel")

#: Called with each new executable (the dumps of `accel.inspect` enter themselves here).
ON_COMPILE: list[Callable[[Executable], None]] = []

#: Called when every executable is to be forgotten, by those who keep some.
ON_CLEAR: list[Callable[[], None]] = []

#: Executables kept; the least recently used go first.
CAPACITY = 512

_cache: OrderedDict[Any, Executable] = OrderedDict()
_lock = threading.Lock()
_building: dict[Any, threading.Lock] = {}


def compile_graph(graph: Graph, state: State) -> Executable:
    """The executable of `graph` under the settings of `state`.

    Concurrent callers with the same graph wait for one compilation.
    """
    state = _where_it_says(graph, state)
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
    for forget in ON_CLEAR:
        forget()


def _compile(graph: Graph, state: State) -> Executable:
    with collection_paused():
        stages = _stages(graph, state)
        executable = Executable(stages, partial(compile_run, state=state))
    _log_decisions(stages.placed)
    for observer in ON_COMPILE:
        observer(executable)
    return executable


def _stages(graph: Graph, state: State) -> Stages:
    """All stages. Torch is imported only once a region is placed on it, and may prove broken."""
    policy = _policy(state)
    stages = Pipeline(policy, state.disabled_passes, state.verify).run(graph)
    if policy.target is None and _uses_torch(stages.placed) and not _torch_works():
        policy = Policy("pure", "mode auto, torch cannot be imported")
        stages = Pipeline(policy, state.disabled_passes, state.verify).run(graph)
    return stages


def _uses_torch(placed: Graph) -> bool:
    return any(n.attrs["target"] == "torch" for n in placed.nodes if n.op.name == "region")


def _torch_works() -> bool:
    from ..targets import torch as torch_target

    return torch_target.available()


def _policy(state: State) -> Policy:
    """What placement must know, from the settings and what is installed."""
    if state.mode in ("pure", "reference"):
        return Policy(state.mode, f"mode {state.mode}")
    from ..targets import torch as torch_target

    if state.mode == "torch":
        torch_target.require()
        return Policy("torch", "mode torch")
    if not torch_target.installed():
        return Policy("pure", "mode auto, torch is not installed")
    on_gpu = state.device is not None and state.device.startswith("cuda")
    return Policy(
        None, "", state.thresholds,
        transfer_ns=20_000 if on_gpu else 2_000, byte_ns=0.1 if on_gpu else 0.0,
    )  # fmt: skip


def _log_decisions(placed: Graph) -> None:
    if not LOG.isEnabledFor(logging.INFO):
        return
    for node in placed.nodes:
        if node.op.name == "region":
            weight = heaviest(node.attrs["body"])
            shape = "x".join(map(str, weight.shape)) or "scalar"
            LOG.info("[accel] %s %s -> %s (%s)", weight.op, shape, node.attrs["target"],
                     node.attrs["reason"])  # fmt: skip


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
