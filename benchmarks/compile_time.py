"""`python -m benchmarks.compile_time`: what importing and compiling cost.

The import is that of accel after NumPy, in a new process whose bytecode is cached.
Tracing and passes are timed on a graph of 1,000 mixed nodes and on chains of up to 50,000, whose
time a node must not grow with the length. The first call adds kernels and machine code.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import accel


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


def first_call_ms(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Milliseconds of the first call: tracing, passes, kernels and machine code."""
    compiled = accel.compile(function)
    start = time.perf_counter()
    compiled(*arguments)
    return (time.perf_counter() - start) * 1e3


def import_ms(n: int) -> float:
    """Least milliseconds that `import accel` adds to NumPy's import."""
    code = (
        "import numpy, time; start = time.perf_counter(); import accel; "
        "print((time.perf_counter() - start) * 1e3)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        command = [sys.executable, "-c", code]
        spent = [
            float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
            for _ in range(n + 1)  # the first one writes the bytecode
        ]
    return min(spent)


def main() -> None:
    os.environ["ACCEL_CACHE"] = "0"  # first calls compile: nothing comes from disk
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
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
    for length in (10, 200):
        milliseconds = first_call_ms(chain(length), (x,))
        print(f"chain,       {length:>6} nodes: cold first call    {milliseconds:8.1f} ms")


if __name__ == "__main__":
    main()
