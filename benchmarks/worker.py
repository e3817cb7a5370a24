"""A peer's own process: reads one JSON request a line, answers with one JSON line.

``{"do": "about"}``, ``{"do": "prepare", "workload": w}``, ``{"do": "turn", "seconds": s}``,
``{"do": "release"}`` and ``{"do": "peak"}``. A failure answers with ``{"failure": text}`` and the
process lives on.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from .peers import Peer, load_peer
from .peers.base import Absent
from .peers.numpy_peer import training_step
from .reference import Reference
from .workloads import WORKLOADS, Training, Workload


def expected(workload: Workload | Training) -> np.ndarray:
    """The right answer, computed by NumPy in float64."""

    def wide(arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        return [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]

    arrays = wide(workload.sample())
    if isinstance(workload, Training):
        step = training_step(workload, np.float64)
        return np.array([step(*arrays) for _ in range(workload.checked_steps)])
    return workload.function(Reference(), *arrays, *wide(workload.parameters()))


class Session:
    """The peer, and the workload that it has prepared."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.timer: timeit.Timer | None = None
        self.calls = 1

    def about(self) -> dict[str, Any]:
        return {"version": self.peer.version()}

    def prepare(self, workload: str, answer: str | None = None) -> dict[str, Any]:
        """Compile, compare with the reference (in the file `answer`), and get ready to be timed."""
        task = WORKLOADS[workload]
        steps = task.checked_steps if isinstance(task, Training) else 1
        start = time.perf_counter()
        try:
            function, arguments = self.peer.prepare(task)
            results = [self.peer.numpy(function(*arguments)) for _ in range(steps)]
        except Absent as reason:
            return {"absent": str(reason)}
        seconds = time.perf_counter() - start
        found = np.asarray(results if isinstance(task, Training) else results[0])
        right = expected(task) if answer is None else np.load(answer)
        same = found.shape == right.shape
        error = float(np.max(np.abs(found - right)) / np.max(np.abs(right))) if same else math.inf
        if not error <= task.tolerance:
            return {"wrong": f"error {error:.2g} over {task.tolerance:g}, shape {found.shape}"}
        self._ready(function, arguments)
        return {"error": error, "first_seconds": seconds}

    def _ready(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        names = [f"x{i}" for i in range(len(arguments))]
        scope = {"function": function, **dict(zip(names, arguments, strict=True))}
        self.timer = timeit.Timer(f"function({', '.join(names)})", globals=scope)
        self.calls = 1

    def turn(self, seconds: float) -> dict[str, Any]:
        """Call for about `seconds`; the mean time of a call in nanoseconds."""
        assert self.timer is not None, "prepare a workload first"
        while True:
            spent = self.timer.timeit(self.calls)
            if spent >= seconds / 2 or self.calls > 10_000_000:
                break
            self.calls = max(self.calls + 1, int(self.calls * min(10, seconds / max(spent, 1e-9))))
        return {"ns": spent / self.calls * 1e9, "calls": self.calls}

    def peak(self) -> dict[str, Any]:
        from .peak import peak_gflops

        return {dtype: peak_gflops(dtype) for dtype in ("float32", "float64")}

    def release(self) -> dict[str, Any]:
        self.timer = None
        return {}


def serve(name: str, threads: int) -> None:
    """Answer requests until the input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    session: Session | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if session is None:
                session = Session(load_peer(name, threads))
            answer = getattr(session, do)(**request)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            answer = {"failure": f"{type(error).__name__}: {lines[0][:160]}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
