"""Starts the peers' processes and gives them turns."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .worker import expected
from .workloads import WORKLOADS

THREAD_VARIABLES = (
    "ACCEL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


#: Peers that live in an environment of their own, where one is given.
FOREIGN = ("jax", "numexpr", "numba", "onnxruntime")


@dataclass
class Outcome:
    """What one peer did with one workload: turns in nanoseconds a call, or why there are none.

    `absent` says what a library lacks; that is no failure.
    """

    turns: list[float] = field(default_factory=list)
    error: float = 0.0
    first_seconds: float = 0.0
    wrong: str | None = None
    failure: str | None = None
    absent: str | None = None

    @property
    def right(self) -> bool:
        """Whether it gave the right answer, and so is timed."""
        return self.wrong is None and self.failure is None and self.absent is None

    @property
    def ns(self) -> float:
        """The median turn, NaN where there was none."""
        return statistics.median(self.turns) if self.turns else float("nan")


class PeerProcess:
    """A peer behind a pipe."""

    def __init__(self, name: str, threads: int, python: str = sys.executable) -> None:
        self.name = name
        environment = dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)))
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request and its answer; a process that has died answers with a failure."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        return {"failure": f"the process ended with status {self.process.wait()}"}

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # of what a dead process was still to be sent
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


Results = dict[str, dict[str, Outcome]]

#: Seconds until the threads of a peer that has had its turn no longer look for work: while they
#: do, they keep a processor from the next one.
_SETTLING = 0.1


class Runner:
    """Times workloads on every peer that answers."""

    def __init__(
        self, peers: Sequence[str], *, threads: int, rounds: int, seconds: float,
        python: str | None = None,
    ) -> None:  # fmt: skip
        self.rounds, self.seconds = rounds, seconds
        self.pause = _SETTLING if threads > 1 else 0.0
        self._folder = tempfile.TemporaryDirectory()
        self.threads, self._python = threads, python
        self.peers: list[PeerProcess] = []
        self._others: dict[str, PeerProcess] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        for name in peers:
            process = self._start(name)
            answer = process.ask("about")
            if "failure" in answer:
                self.missing[name] = answer["failure"]
                process.close()
            else:
                self.versions[name] = answer["version"]
                self.peers.append(process)

    def run(self, workloads: Iterable[str]) -> Iterable[tuple[str, dict[str, Outcome]]]:
        """Yield each workload with its outcomes as soon as it is done."""
        for workload in workloads:
            yield workload, self.measure(workload)

    def measure(self, workload: str) -> dict[str, Outcome]:
        """Check every peer's answer, then let those that are right take turns."""
        if workload not in WORKLOADS:
            raise KeyError(f"no workload {workload!r}; --list shows them")
        task = WORKLOADS[workload]
        racing = {
            peer.name: peer for peer in self.peers if not task.only or peer.name in task.only
        }
        outcomes = self._prepare(workload, racing)
        if task.against is not None and task.against[0] != workload:
            row, name = task.against
            beside = {f"{name} {row}": self._beside(name)}
            outcomes |= self._prepare(row, beside)
            racing |= beside
        running = [(outcomes[name], peer) for name, peer in racing.items() if outcomes[name].right]
        for _, peer in running:  # finds the number of calls and warms caches; not counted
            peer.ask("turn", seconds=self.seconds)
        for number in range(self.rounds):
            first = number % max(len(running), 1)
            for outcome, peer in running[first:] + running[:first]:
                time.sleep(self.pause)
                answer = peer.ask("turn", seconds=self.seconds)
                if "failure" in answer:
                    outcome.failure = answer["failure"]
                else:
                    outcome.turns.append(answer["ns"])
        for peer in racing.values():
            peer.ask("release")
        return outcomes

    def _prepare(self, workload: str, racing: Mapping[str, PeerProcess]) -> dict[str, Outcome]:
        """Let peers prepare a workload, and check their answers."""
        answer = str(Path(self._folder.name, "answer.npy"))
        np.save(answer, expected(WORKLOADS[workload]))
        return {
            name: Outcome(**peer.ask("prepare", workload=workload, answer=answer))
            for name, peer in racing.items()
        }

    def _beside(self, name: str) -> PeerProcess:
        """Another process of a peer, for what a row of it is compared with."""
        if name not in self._others:
            self._others[name] = self._start(name)
        return self._others[name]

    def _start(self, name: str) -> PeerProcess:
        foreign = name in FOREIGN and self._python is not None
        return PeerProcess(name, self.threads, self._python if foreign else sys.executable)

    def peak(self) -> dict[str, float]:
        """The multiply-add peak of a core by dtype, measured in accel's process."""
        for peer in self.peers:
            if peer.name == "accel":
                answer = peer.ask("peak")
                return {} if "failure" in answer else answer
        return {}

    def close(self) -> None:
        for peer in [*self.peers, *self._others.values()]:
            peer.close()
        self._folder.cleanup()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
