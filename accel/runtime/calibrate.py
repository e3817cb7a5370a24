"""Calibration: thresholds measured on this machine, kept for later processes.

For each category a typical region is run on both targets at growing sizes, as a user would
run it: whole executables, host arrays in and out. The threshold is the smallest size from
which torch stays ahead.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..ir import dtypes
from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.types import TensorType
from ..log import logger
from . import state
from .transfer import to_host

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["calibrate", "calibrated_thresholds"]

#: Torch must be this much faster before work is sent there: a tie stays native.
MARGIN = 1.05

SIZES = (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22)


# -- what is measured ---------------------------------------------------------------------------
def _matmul(size: int) -> Graph:
    n = int(size**0.5)
    b = Builder()
    x, y = (b.input(name, TensorType(dtypes.float32, (n, n))) for name in "xy")
    return b.graph([x, y], [b.matmul(x, y)])


def _elementwise(size: int) -> Graph:
    b = Builder()
    x, y = (b.input(name, TensorType(dtypes.float32, (size,))) for name in "xy")
    return b.graph([x, y], [b.exp(b.add(b.mul(x, y), 1.0))])


def _activation(size: int) -> Graph:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float32, (size,)))
    return b.graph([x], [b.gelu(x)])


def _reduction(size: int) -> Graph:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float32, (size // 256, 256)))
    return b.graph([x], [b.softmax(x, axis=1)])


REGIONS: Mapping[str, Callable[[int], Graph]] = MappingProxyType({
    "matmul": _matmul, "elementwise": _elementwise, "activation": _activation,
    "reduction": _reduction,
})  # fmt: skip


# -- measuring ----------------------------------------------------------------------------------
def calibrate(
    device: str | None = None, sizes: Sequence[int] = SIZES, seconds: float = 0.05
) -> Mapping[str, int | None]:
    """Measure both targets, set the process's thresholds by the result, and keep it.

    Later processes take it up with ``use_preset("calibrated")``. Convolutions go by the
    products' threshold.

    Parameters
    ----------
    device
        Where torch runs; None is the CPU.
    sizes
        Elements to measure at, ascending.
    seconds
        Time to spend on each region, size and target.

    Returns
    -------
    Mapping
        Elements at and above which each category goes to torch; None: never.

    Raises
    ------
    TorchNotAvailable
        Where there is nothing to compare with.
    DeviceError
        Where there is no such device.
    """
    from ..targets import torch as torch_target

    torch_target.require()
    found: dict[str, int | None] = {}
    for category, build in REGIONS.items():
        times = [
            tuple(_seconds(build(size), mode, device, seconds) for mode in ("pure", "torch"))
            for size in sizes
        ]
        found[category] = crossover(sizes, times)
    found["conv"] = found["matmul"]
    thresholds = {kind: found[kind] for kind in state.DEFAULT_THRESHOLDS}
    _save(thresholds, device)
    state.set_default(thresholds=MappingProxyType(thresholds))
    return state.current().thresholds


def _seconds(graph: Graph, mode: str, device: str | None, budget: float) -> float:
    """The best time of one call, results read by the host."""
    # Late, because it brings in every target's machinery.
    from .compiler import compile_graph

    rng = np.random.default_rng(0)
    arrays = [rng.random(n.type.shape, np.float32) for n in graph.inputs]
    with state.override(mode=mode, device=device if mode == "torch" else None, fallback="error"):
        executable = compile_graph(graph, state.current())
    best = float("inf")
    end = time.perf_counter() + budget
    calls = 0
    while calls < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        for result in executable(arrays):
            to_host(result)
        best = min(best, time.perf_counter() - begin)
        calls += 1
    return best


def crossover(sizes: Sequence[int], times: Sequence[tuple[float, ...]]) -> int | None:
    """The smallest size from which the second time stays below the first; None: it never does.

    Examples
    --------
    >>> crossover([10, 100, 1000], [(1.0, 5.0), (9.0, 5.0), (90.0, 20.0)])
    100
    >>> crossover([10, 100, 1000], [(9.0, 5.0), (9.0, 5.0), (20.0, 90.0)]) is None
    True
    """
    limit: int | None = None
    for size, (pure, torch) in zip(reversed(sizes), reversed(times), strict=True):
        if torch * MARGIN > pure:
            break
        limit = size
    return limit


# -- keeping ------------------------------------------------------------------------------------
def _path() -> Path:
    from pathlib import Path

    import platformdirs

    return Path(platformdirs.user_config_dir("accel")) / "calibration.json"


def _save(thresholds: Mapping[str, int | None], device: str | None) -> None:
    """Write the file whole or not at all; a read-only place costs a warning, not the result."""
    path = _path()
    content = json.dumps({"thresholds": dict(thresholds), "device": device}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(content)
        os.replace(part, path)
    except OSError as error:
        logger().warning("[accel] calibration is not kept for later processes: %s", error)


def calibrated_thresholds() -> Mapping[str, int | None]:
    """What the last `calibrate` on this machine found.

    Raises
    ------
    ArgumentError
        When there is no such file, or it is none of accel's.
    """
    path = _path()
    try:
        found: Any = json.loads(path.read_text())["thresholds"]
        valid = set(found) == set(state.DEFAULT_THRESHOLDS) and all(
            v is None or (type(v) is int and v >= 0) for v in found.values()
        )
    except (OSError, ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ArgumentError(
            f"there is no calibration in {path}", remedy="call accel.calibrate() once"
        )
    return MappingProxyType(found)
