"""The benchmark runner: it checks answers, survives failures, and prints what it saw."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report, worker
from benchmarks.peers.numpy_peer import NumPy, training_step
from benchmarks.runner import Outcome, PeerProcess, Runner
from benchmarks.workloads import WORKLOADS, Training

ROOT = Path(__file__).parent.parent
SMALL = [name for name in WORKLOADS if not name.endswith(("0000", "1024", "512"))]


class Wrong(NumPy):
    """A peer whose answers are one per cent off."""

    def numpy(self, value):
        return np.asarray(value) * 1.01


@pytest.mark.parametrize("name", SMALL)
def test_numpy_is_right_and_a_wrong_peer_is_caught(name: str) -> None:
    right = worker.Session(NumPy(1)).prepare(name)
    assert right["error"] <= WORKLOADS[name].tolerance
    assert "error" in worker.Session(Wrong(1)).prepare(name)["wrong"]


def test_samples_are_the_same_every_time() -> None:
    for workload in (WORKLOADS["dispatch/16"], WORKLOADS["train/sgd"]):
        for first, second in zip(workload.sample(), workload.sample(), strict=True):
            np.testing.assert_array_equal(first, second)


def test_a_small_step_lowers_the_loss() -> None:
    task = WORKLOADS["train/sgd"]
    assert isinstance(task, Training)
    pixels, labels = task.sample()
    still = Training("probe", "sgd", 0.0)
    loss = float(training_step(still, np.float64)(pixels.astype(np.float64), labels))
    moved = Training("probe", "sgd", 1e-4)
    step = training_step(moved, np.float64)
    step(pixels.astype(np.float64), labels)
    after = float(step(pixels.astype(np.float64), labels))
    assert after < loss


def test_a_turn_takes_about_as_long_as_asked() -> None:
    session = worker.Session(NumPy(1))
    session.prepare("dispatch/16")
    turn = session.turn(0.02)
    assert turn["calls"] > 100
    assert 0.005 < turn["ns"] * turn["calls"] * 1e-9 < 1.0


def test_peers_answer_over_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with Runner(["numpy", "nonsense"], threads=1, rounds=2, seconds=0.001) as runner:
        assert list(runner.versions) == ["numpy"]
        assert "KeyError" in runner.missing["nonsense"]
        outcomes = dict(runner.run(["dispatch/16", "train/adam"]))
    assert all(len(found["numpy"].turns) == 2 for found in outcomes.values())


def test_a_peer_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    peer = PeerProcess("numpy", 1)
    peer.process.kill()
    peer.process.wait()
    assert "ended" in peer.ask("about")["failure"]
    assert peer.process.stdout is not None
    peer.process.stdout.close()


def test_table() -> None:
    outcomes = {
        "a": Outcome(turns=[1e3, 3e3, 2e3]),
        "b": Outcome(turns=[4e3]),
        "c": Outcome(wrong="error 1"),
        "d": Outcome(failure="no compiler"),
    }
    line = report.row("sum/4", list(outcomes), outcomes)
    assert line.split() == ["sum/4", "2", "µs", "4", "µs", "WRONG", "failed", "2.00x", "-", "-"]
    assert report.remarks("sum/4", outcomes) == ["sum/4, c: error 1", "sum/4, d: no compiler"]
    assert math.isnan(outcomes["c"].ns)
    assert "b/a" in report.header(list(outcomes))


def test_command_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "dispatch", "--peers", "numpy"]
    command += ["--rounds", "1", "--seconds", "0.001"]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert "dispatch/16" in done.stdout and "compared with NumPy in float64" in done.stdout
    listed = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True)
    assert listed.stdout.split() == ["dispatch/16"]
