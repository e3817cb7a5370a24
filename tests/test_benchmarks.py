"""The benchmark runner: it checks answers, survives failures, and prints what it saw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report, worker
from benchmarks.__main__ import chosen
from benchmarks.peak import peak_gflops
from benchmarks.peers.accel_peer import Accel
from benchmarks.peers.base import Absent
from benchmarks.peers.numpy_peer import NumPy, training_step
from benchmarks.runner import Outcome, PeerProcess, Runner
from benchmarks.workloads import WORKLOADS, Training

ROOT = Path(__file__).parent.parent
SMALL = [
    name for name, task in WORKLOADS.items()
    if sum(x.size for x in (*task.sample(), *task.parameters())) < 100_000
]  # fmt: skip


class Wrong(NumPy):
    """A peer whose answers are one per cent off."""

    def numpy(self, value):
        return np.asarray(value) * 1.01


@pytest.mark.parametrize("name", SMALL)
def test_numpy_is_right_and_a_wrong_peer_is_caught(name: str) -> None:
    right = worker.Session(NumPy(1)).prepare(name)
    assert right["error"] <= WORKLOADS[name].tolerance
    assert "error" in worker.Session(Wrong(1)).prepare(name)["wrong"]


@pytest.mark.parametrize("name", SMALL)
def test_accel_is_right(name: str) -> None:
    answer = worker.Session(Accel(1)).prepare(name)
    assert "absent" in answer or answer["error"] <= WORKLOADS[name].tolerance


def test_samples_are_the_same_every_time() -> None:
    for workload in (WORKLOADS["call/tensors"], WORKLOADS["train/sgd"]):
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
    session.prepare("call/tensors")
    turn = session.turn(0.02)
    assert turn["calls"] > 100
    assert 0.005 < turn["ns"] * turn["calls"] * 1e-9 < 1.0


def test_peers_answer_over_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with Runner(["numpy", "nonsense"], threads=1, rounds=2, seconds=0.001) as runner:
        assert list(runner.versions) == ["numpy"]
        assert "KeyError" in runner.missing["nonsense"]
        outcomes = dict(runner.run(["call/tensors", "train/adam"]))
    assert all(len(found["numpy"].turns) == 2 for found in outcomes.values())


def test_a_peer_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    peer = PeerProcess("numpy", 1)
    peer.process.kill()
    peer.process.wait()
    assert "ended" in peer.ask("about")["failure"]
    peer.close()


def test_a_row_takes_turns_with_what_it_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with Runner(["accel"], threads=1, rounds=2, seconds=0.001) as runner:
        found = runner.measure("call/numpy")
    assert {name: len(outcome.turns) for name, outcome in found.items()} == {
        "accel": 2, "numpy call/one_add": 2
    }  # fmt: skip
    assert report.verdict(WORKLOADS["call/numpy"], found).yardstick == "numpy call/one_add"


def test_what_is_compared_with_one_thread_is_left_out_beside_more() -> None:
    assert any(name.startswith("2_threads") for name in chosen([], 1))
    assert not any(name.startswith("2_threads") for name in chosen([], 2))


def _outcomes() -> dict[str, dict[str, Outcome]]:
    return {
        "call/tensors": {
            "numpy call/one_add": Outcome(turns=[300.0]),
            "accel": Outcome(turns=[50.0, 150.0, 100.0]),
            "numpy": Outcome(turns=[900.0]),
            "torch": Outcome(wrong="error 1"),
            "jax": Outcome(failure="no compiler"),
            "numba": Outcome(absent="no loops"),
        },
        "exp/100000": {"accel": Outcome(turns=[100.0]), "numpy": Outcome(turns=[110.0])},
    }


def test_rows_show_times_and_whether_the_goal_is_met() -> None:
    found = _outcomes()
    peers = ["accel", "numpy", "torch", "jax", "numba"]
    line = report.row("call/tensors", peers, found["call/tensors"], {})
    assert line.split() == [
        "call/tensors", "100", "ns", "900", "ns", "WRONG", "failed", "3.00", "3", "✓", "numpy",
        "call/one_add",
    ]  # fmt: skip
    assert report.remarks("call/tensors", found["call/tensors"]) == [
        "call/tensors, torch: error 1", "call/tensors, jax: no compiler"
    ]  # fmt: skip
    verdict = report.verdict(WORKLOADS["exp/100000"], found["exp/100000"])
    assert (verdict.yardstick, verdict.met) == ("numpy", False)
    assert report.summary(found).startswith("1 of 2 goals met\n  exp/100000: 1.10, not 1.2")


def test_shares_of_the_peak() -> None:
    found = {"accel": Outcome(turns=[1000.0])}
    line = report.row("matmul/32", ["accel"], found, {"float32": 131.072})
    assert line.endswith("50% of peak")
    assert peak_gflops("float32") > peak_gflops("float64") > 0.1


def test_what_a_library_lacks_is_no_failure() -> None:
    class Lacking(NumPy):
        def prepare(self, workload):
            raise Absent("no exp")

    assert worker.Session(Lacking(1)).prepare("call/one_add") == {"absent": "no exp"}


def test_every_yardstick_is_a_row_above() -> None:
    above: set[str] = set()
    for name, task in WORKLOADS.items():
        above.add(name)
        assert task.against is None or task.against[0] in above


def test_command_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "call", "--peers", "numpy"]
    command += ["--rounds", "1", "--seconds", "0.001"]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert "call/tensors" in done.stdout and "compared with NumPy in float64" in done.stdout
    listed = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True)
    assert listed.stdout.split() == ["call/one_add", "call/numpy", "call/tensors"]
