"""`python -m benchmarks.compile_time`: what importing and compiling cost.

The import is that of accel after NumPy, in a new process whose bytecode is cached.
Tracing and passes are timed on a graph of 1,000 mixed nodes and on chains of up to 50,000, whose
time a node must not grow with the length. First calls add kernels and machine code: each in a new
process, with nothing on disk and with what an earlier process left there, beside the peers'.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import accel

from .__main__ import peers_python
from .report import NAME_WIDTH, WIDTH, duration


def mixed(x: Any, y: Any) -> Any:
    """About 1,000 nodes: arithmetic, functions, broadcasting, reductions and shapes."""
    for i in range(125):
        x = x * y + float(i)
        y = accel.tanh(x) - accel.sum(x, axis=-1, keepdims=True)
        x = accel.where(x > y, x, accel.reshape(y, x.shape))
    return x


def chain(length: int) -> Callable[[Any], Any]:
    """A function that records `length` nodes, each on the last."""

    def run(x: Any) -> Any:
        for i in range(length // 2):
            x = accel.sin(x) + float(i % 7)
        return x

    return run


def trace_ms(make: Callable[[], Callable[..., Any]], arguments: tuple[Any, ...], n: int) -> float:
    """Median milliseconds to record and to run every pass, on a new function each time."""
    spent = []
    for _ in range(n):
        function = accel.compile(make())
        start = time.perf_counter()
        function.graph(*arguments, stage="placed")
        spent.append((time.perf_counter() - start) * 1e3)
    return statistics.median(spent)


def import_ms(n: int) -> float:
    """Least milliseconds that `import accel` adds to NumPy's import."""
    code = (
        "import numpy, time; start = time.perf_counter(); import accel; "
        "print((time.perf_counter() - start) * 1e3)"
    )
    with tempfile.TemporaryDirectory() as folder:
        command, env = [sys.executable, "-c", code], environment(Path(folder))
        spent = [
            float(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
            for _ in range(n + 1)  # the first one writes the bytecode
        ]
    return min(spent)


def environment(folder: Path) -> dict[str, str]:
    """That of a new process whose bytecode is cached below `folder`."""
    found = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


# -- first calls --------------------------------------------------------------------------
class Row(NamedTuple):
    """A program of `first_calls`, and its goals in milliseconds: cold, and from disk."""

    title: str
    cold: float
    disk: float


ROWS = {
    "chain": Row("10-op chain, first call", 15, 5),
    "softmax": Row("softmax, first call", 20, 5),
    "step": Row("MLP training step, first call", 150, 5),
    "ops": Row("1,000-op chain, first call", 150, math.nan),
    "fresh": Row("fresh process to MLP's result", 250, 180),
}


class Column(NamedTuple):
    """Who runs a program, in how many processes that count, with what is kept on disk or not."""

    peer: str
    repeat: int
    kept: bool = False


class Processes:
    """Runs `first_calls` in new processes."""

    def __init__(self, folder: Path, peers_python: str | None) -> None:
        self.folder = folder
        self.python = {"accel": sys.executable, "torch.compile": sys.executable}
        self.peers_python = peers_python or sys.executable
        self.environment = environment(folder)

    def run(self, peer: str, program: str, cache: Path | None) -> dict[str, float]:
        """Milliseconds of one process; empty where the peer is missing or has no such program."""
        script = Path(__file__).with_name("first_calls.py")
        kept = {"ACCEL_CACHE": "0"} if cache is None else {"ACCEL_CACHE_DIR": str(cache)}
        root = str(script.parents[1])
        python = self.python.get(peer, self.peers_python)
        start = time.perf_counter()
        with subprocess.Popen(
            [python, str(script), peer, program, str(self.folder)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**self.environment, **kept, "PYTHONPATH": root},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            answer, spent = "", 0.0
            for line in process.stdout:  # the answer is there as soon as it is written
                answer, spent = line, (time.perf_counter() - start) * 1e3
        if process.returncode or not answer:
            return {}
        found = json.loads(answer)
        return {} if "absent" in found else {**found, "process": spent}

    def least(self, columns: Sequence[Column], program: str) -> list[dict[str, float]]:
        """For each column the least of its processes, which take turns with the other columns'.

        Each has a process before them that is not counted, which leaves bytecode and, for what is
        kept, machine code on disk.
        """
        runs: list[list[dict[str, float]]] = [[] for _ in columns]
        for turn in range(1 + max(column.repeat for column in columns)):
            for column, found in zip(columns, runs, strict=True):
                cache = self.folder / f"{column.peer}-{program}" if column.kept else None
                if turn <= column.repeat and (turn == 0 or found[0]):
                    found.append(self.run(column.peer, program, cache))
        return [_least(found[1:]) for found in runs]


def _least(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    if not runs:
        return {}
    return {k: min(run[k] for run in runs) for k in runs[0] if all(k in run for run in runs)}


def first_calls(peers: Sequence[str], peers_python: str | None, repeat: int) -> None:
    """The table of first calls: least milliseconds of new processes."""
    titles = ["accel cold", "goal", "from disk", "goal", "later call", *peers]
    line = f"{'':<{NAME_WIDTH + 4}}" + "".join(f"{title:>{WIDTH}}" for title in titles)
    print(f"\n{line}\n{'-' * len(line)}")
    columns = [Column("accel", repeat), Column("accel", repeat, kept=True)]
    columns += [Column(peer, 1 if peer == "torch.compile" else repeat) for peer in peers]
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(Path(name), peers_python)
        processes.run("onnxruntime", "models", None)
        for program, row in ROWS.items():
            which = "process" if program == "fresh" else "first"
            cold, disk, *others = processes.least(columns, program)
            cells = []
            for found, goal in ((cold, row.cold), (disk, row.disk)):
                ms = found.get(which, math.nan)
                mark = "✓" if ms <= goal else "✗"
                cells += [_shown(ms), "" if math.isnan(goal) else f"{goal:g} ms {mark}"]
            cells.append(_shown(disk.get("later", math.nan) or math.nan))
            cells += [_shown(found.get(which, math.nan)) for found in others]
            text = f"{row.title:<{NAME_WIDTH + 4}}" + "".join(f"{c:>{WIDTH}}" for c in cells)
            print(text, flush=True)


def _shown(ms: float) -> str:
    return duration(ms * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", default="jax,onnxruntime",
                        help="beside accel; torch.compile takes minutes")  # fmt: skip
    parser.add_argument("--peers-python", metavar="PYTHON", default=peers_python(),
                        help="interpreter of jax and onnxruntime")  # fmt: skip
    options = parser.parse_args()
    repeat = options.repeat
    print(f"import accel after NumPy:                       {import_ms(repeat):8.1f} ms")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 8, 32), dtype=np.float32)
    nodes = len(accel.compile(mixed).graph(x, y, stage="recorded").nodes)
    milliseconds = trace_ms(lambda: mixed, (x, y), repeat)
    print(f"mixed graph, {nodes:>6} nodes: tracing and passes {milliseconds:8.1f} ms")
    for length in (1_000, 10_000, 50_000):
        milliseconds = trace_ms(lambda n=length: chain(n), (x,), min(repeat, 3))
        print(
            f"chain,       {length:>6} nodes: tracing and passes {milliseconds:8.1f} ms"
            f"   {milliseconds * 1e3 / length:6.1f} µs a node"
        )
    first_calls([p for p in options.peers.split(",") if p], options.peers_python, repeat)


if __name__ == "__main__":
    main()
