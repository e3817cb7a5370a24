"""Random graphs on every target: ``python -m accel.testing.fuzz --graphs 10000 --seed 0``.

Each graph also draws a pass to switch off, a number of threads, and whether it is recorded op by
op as well; some are gradients of what was drawn, and some batches run with a lower level of the
processor's instructions. Batches run in worker processes, so that a crash of the code generator is
caught and blamed on its graph. Graph `i` of a seed is always the same, and the first failure is
shrunk to a few nodes, printed, and saved to be replayed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np

from ..errors import ArgumentError
from ..ir.op import all_ops
from ..ir.parsing import parse
from ..targets.pure.machine.host import machine_for_level
from ..targets.pure.machine.limits import available_processors
from .agreement import Agreement, Disagreement, available_targets, check_graph
from .generate import Case, draw_case
from .shrink import shrink

__all__ = ["Totals", "fuzz", "load_case", "main", "save_case"]

#: Graphs a worker process runs before it is replaced, which bounds its memory.
BATCH = 500
#: The x86 levels of one batch after another; the machine's own where it is "".
LEVELS = ("", "", "", "avx2", "", "", "sse2", "")
#: The greatest part of all elements that may be excluded.
MOST_EXCLUDED = 0.25


@dataclass
class Totals:
    """What a run covered."""

    graphs: int = 0
    nodes: int = 0
    elements: int = 0
    excluded: int = 0
    ops: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)  # graph, reason

    @property
    def share(self) -> float:
        """The part of all elements that nothing could be said about."""
        return self.excluded / max(self.elements, 1)

    def add(self, row: dict[str, object]) -> None:
        """Count one line of a worker."""
        self.graphs += 1
        self.elements += row["elements"]  # type: ignore[operator]
        self.excluded += row["excluded"]  # type: ignore[operator]
        ops: Counter[str] = Counter(row["ops"])  # type: ignore[call-overload]
        self.nodes += ops.total()
        self.ops += ops
        if row["failure"]:
            self.failures.append((row["graph"], row["failure"]))  # type: ignore[arg-type]


# -- one graph ----------------------------------------------------------------------------
def case_of(seed: int, number: int, max_nodes: int) -> Case:
    """Graph `number` of `seed`."""
    return draw_case(np.random.default_rng([seed, number]), max_nodes)


def _check(case: Case, targets: Sequence[str]) -> Agreement:
    return check_graph(
        case.graph, case.arrays, targets, case.disabled, case.threads, case.lazily
    )


def failure_of(case: Case, targets: Sequence[str]) -> str | None:
    """What is wrong with `case`; None where the targets agree."""
    try:
        _check(case, targets)
    except Disagreement as error:
        return f"{error.target}: {error.reason}"
    except Exception as error:  # whatever the compiler raises is a finding
        return f"{type(error).__name__}: {error}"
    return None


def _row(options: argparse.Namespace, number: int, targets: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {"graph": number, "elements": 0, "excluded": 0, "failure": None,
                              "ops": {}}  # fmt: skip
    try:
        case = case_of(options.seed, number, options.max_nodes)
    except Exception as error:  # a type rule or a gradient rule is wrong
        row["failure"] = f"cannot be drawn: {type(error).__name__}: {error}"
        return row
    row["ops"] = Counter(n.op.name for n in case.graph.nodes if n.op.form != "structure")
    try:
        agreement = _check(case, targets)
        row["elements"], row["excluded"] = agreement.elements, agreement.excluded
    except Exception:
        row["failure"] = failure_of(case, targets) or "fails at the first run, not at the second"
    return row


# -- files --------------------------------------------------------------------------------
def save_case(case: Case, path: Path) -> None:
    """Write a case to one file, to be replayed."""
    arrays = {f"a{i}": np.ascontiguousarray(a).view(np.uint8) if a.ndim else
              np.frombuffer(a.tobytes(), np.uint8) for i, a in enumerate(case.arrays)}  # fmt: skip
    how = [*case.disabled, str(case.threads), "lazily" if case.lazily else ""]
    np.savez(path, graph=str(case.graph), how=",".join(how), **arrays)  # type: ignore[arg-type]


def load_case(path: Path) -> Case:
    """Read what `save_case` wrote."""
    with np.load(path) as data:
        graph = parse(str(data["graph"]))
        *disabled, threads, lazily = str(data["how"]).split(",")
        arrays = tuple(
            np.frombuffer(data[f"a{i}"].tobytes(), n.type.dtype.numpy).reshape(n.type.shape)
            for i, n in enumerate(graph.inputs)
        )
    return Case(graph, arrays, frozenset(disabled), int(threads), lazily == "lazily")


# -- workers ------------------------------------------------------------------------------
def _work(options: argparse.Namespace) -> int:
    """A worker: one JSON line before each graph and one after it."""
    targets = options.targets.split(",")
    for number in range(options.first, options.first + options.graphs):
        print(json.dumps({"begin": number}), flush=True)
        print(json.dumps(_row(options, number, targets)), flush=True)
    return 0


def level_of(number: int) -> str:
    """The x86 level that graph `number` runs with."""
    level = LEVELS[number // BATCH % len(LEVELS)]
    try:
        machine_for_level(level)
    except ArgumentError:  # which this processor does not have
        return ""
    return level


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "accel.testing.fuzz", *map(str, arguments)]


def _batch(
    first: int, count: int, seed: int, targets: Sequence[str], max_nodes: int
) -> Iterator[dict]:
    """The rows of one batch, in order; a crash gives a row too, and work goes on behind it."""
    number, end = first, first + count
    level = os.environ.get("ACCEL_CPU_FEATURES") or level_of(first)
    while number < end:
        worker = subprocess.Popen(
            _command("--worker", "--seed", seed, "--first", number, "--graphs", end - number,
                     "--targets", ",".join(targets), "--max-nodes", max_nodes),
            stdout=subprocess.PIPE, text=True, env={**os.environ, "ACCEL_CPU_FEATURES": level},
        )  # fmt: skip
        try:
            if worker.stdout is None:
                raise RuntimeError("the worker has no output")
            begun = number
            for line in worker.stdout:
                row = json.loads(line)
                if "begin" in row:
                    begun = row["begin"]
                else:
                    number = row["graph"] + 1
                    yield row
            code = worker.wait()
        finally:
            worker.kill()
            worker.wait()
        if code:
            yield {"graph": begun, "elements": 0, "excluded": 0, "ops": {},
                   "failure": f"the process died with status {code}"}  # fmt: skip
            number = begun + 1


def _rows(
    graphs: int, seed: int, targets: Sequence[str], max_nodes: int, jobs: int
) -> Iterator[dict]:
    """The rows of all graphs, of `jobs` batches at a time as they come."""
    rows: SimpleQueue[dict | Future[None]] = SimpleQueue()
    stop = Event()

    def run(first: int) -> None:
        for row in _batch(first, min(BATCH, graphs - first), seed, targets, max_nodes):
            rows.put(row)
            if stop.is_set():
                return

    with ThreadPoolExecutor(jobs) as crew:
        running = {crew.submit(run, first) for first in range(0, graphs, BATCH)}
        for batch in running:
            batch.add_done_callback(rows.put)
        try:
            while running:
                row = rows.get()
                if isinstance(row, Future):
                    running.remove(row)
                    row.result()  # what it raised is raised here
                else:
                    yield row
        finally:
            stop.set()
            crew.shutdown(wait=False, cancel_futures=True)


def default_targets() -> tuple[str, ...]:
    """All targets of this installation that differ from the reference."""
    return ("pure", "torch", "auto") if "torch" in available_targets() else ("pure",)


def fuzz(
    graphs: int = 10_000,
    seed: int = 0,
    targets: Sequence[str] | None = None,
    max_nodes: int = 12,
    most_failures: int = 1,
    progress: bool = True,
    jobs: int = 1,
) -> Totals:
    """Run random graphs on every target.

    Parameters
    ----------
    graphs, seed
        How many; graph `i` of a seed is always the same.
    targets
        By default ``pure`` and, where torch is installed, ``torch`` and ``auto``.
    max_nodes
        About how many operations a graph has at most.
    most_failures
        Stop after this many.
    progress
        Whether a bar is drawn on standard error.
    jobs
        Worker processes at a time; what is found does not depend on it.

    Returns
    -------
    Totals
        With the failures' numbers and reasons.
    """
    from tqdm import tqdm

    chosen = tuple(targets or default_targets())
    totals = Totals()
    with tqdm(total=graphs, unit=" graphs", disable=not progress, file=sys.stderr) as bar:
        for row in _rows(graphs, seed, chosen, max_nodes, jobs):
            totals.add(row)
            bar.update()
            if len(totals.failures) >= most_failures:
                break
    totals.failures.sort()
    return totals


# -- the command --------------------------------------------------------------------------
def _survives(case: Case, targets: Sequence[str]) -> bool:
    """Whether a process of its own lives through `case`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        save_case(case, path)
        command = _command("--replay", path, "--targets", ",".join(targets))
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    return done.returncode in (0, 1)


def _report_failure(options: argparse.Namespace, number: int, reason: str) -> None:
    print(f"\ngraph {number} of seed {options.seed} fails: {reason}")
    level = level_of(number)
    if level:
        print(f"it ran with ACCEL_CPU_FEATURES={level}")
    if reason.startswith("cannot be drawn"):
        return
    case = case_of(options.seed, number, options.max_nodes)
    chosen = options.targets.split(",")
    targets = [t for t in chosen if reason.startswith(t)] or chosen
    crashed = reason.startswith("the process died")

    def fails(candidate: Case) -> bool:
        if crashed:
            return not _survives(candidate, targets)
        return failure_of(candidate, targets) is not None

    small = shrink(case, fails)
    path = Path(f"fuzz-{options.seed}-{number}.npz")
    save_case(small, path)
    without = f", {', '.join(small.disabled)} switched off" if small.disabled else ""
    print(f"shrunk from {len(case.graph)} to {len(small.graph)} nodes{without}")
    if not crashed:
        print(failure_of(small, targets))
    print(f"\n{small.graph}\n")
    for node, array in zip(small.graph.inputs, small.arrays, strict=True):
        print(f"%{node.attrs['name']} = {np.array2string(array, threshold=40)}")
    print(f"\nreplay it with: python -m accel.testing.fuzz --replay {path}")


def _report(totals: Totals, seconds: float, targets: str) -> None:
    print(f"{totals.graphs:,} graphs of {totals.nodes:,} nodes on {targets} in {seconds:.0f} s "
          f"({totals.graphs / max(seconds, 1e-9):.1f} a second)")  # fmt: skip
    print(f"{totals.elements:,} elements compared, {100 * totals.share:.1f}% of them excluded")
    print("ops: " + ", ".join(f"{name} {count}" for name, count in totals.ops.most_common()))
    missing = [n for n, op in all_ops().items() if op.samples and not totals.ops[n]]
    if missing:
        print("never drawn: " + ", ".join(missing))
    if totals.share > MOST_EXCLUDED:
        print(f"too much is excluded: more than {100 * MOST_EXCLUDED:.0f}%")
    count = len(totals.failures)
    print(f"{count} failure{'s' * (count != 1)}" if count else "all targets agree")


def _replay(options: argparse.Namespace) -> int:
    case = load_case(Path(options.replay))
    reason = failure_of(case, options.targets.split(","))
    print(reason or "all targets agree")
    return 1 if reason else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 on disagreement."""
    parser = argparse.ArgumentParser("accel.testing.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", help="such as pure,torch; by default what is installed")
    parser.add_argument("--max-nodes", type=int, default=12)
    parser.add_argument("--most-failures", type=int, default=1, help="stop after so many")
    parser.add_argument("--jobs", type=int, default=available_processors(),
                        help="processes at a time; by default one a processor")  # fmt: skip
    parser.add_argument("--replay", help="run one saved case")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.targets is None:
        options.targets = ",".join(default_targets())
    warnings.simplefilter("ignore")
    if options.worker:
        return _work(options)
    if options.replay:
        return _replay(options)
    begin = time.perf_counter()
    totals = fuzz(options.graphs, options.seed, options.targets.split(","), options.max_nodes,
                  options.most_failures, jobs=options.jobs)  # fmt: skip
    _report(totals, time.perf_counter() - begin, options.targets)
    for number, reason in totals.failures:
        _report_failure(options, number, reason)
    return 1 if totals.failures or totals.share > MOST_EXCLUDED else 0


if __name__ == "__main__":
    sys.exit(main())
