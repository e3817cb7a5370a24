"""The fuzzer: what it counts, how its workers share and survive graphs, and what it does with a
failure: blamed on its graph, shrunk to what matters, saved and replayed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from accel.errors import ArgumentError
from accel.ir import parse
from accel.testing import Case
from accel.testing import fuzz as fuzzing
from accel.testing.fuzz import failure_of, fuzz, load_case, save_case
from accel.testing.shrink import shrink


def test_the_fuzzer_counts_and_reports() -> None:
    totals = fuzz(40, seed=3, targets=["pure"], progress=False)
    assert totals.graphs == 40 and not totals.failures
    assert totals.elements > 100 and totals.share < 0.5 and totals.nodes == totals.ops.total()


def test_jobs_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "BATCH", 5)
    one, three = (fuzz(20, seed=3, targets=["pure"], progress=False, jobs=n) for n in (1, 3))
    assert one == three and one.graphs == 20


def test_cases_can_be_saved_and_replayed(tmp_path: Any) -> None:
    for number in range(8):
        case = fuzzing.case_of(20, number, 12)
        save_case(case, tmp_path / "case.npz")
        again = load_case(tmp_path / "case.npz")
        assert again.graph == case.graph and again.disabled == case.disabled
        assert (again.threads, again.lazily) == (case.threads, case.lazily)
        for a, b in zip(again.arrays, case.arrays, strict=True):
            assert a.dtype == b.dtype and a.tobytes() == np.ascontiguousarray(b).tobytes()
    command = [sys.executable, "-m", "accel.testing.fuzz", "--replay", str(tmp_path / "case.npz"),
               "--targets", "pure"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "all targets agree" in done.stdout


def test_a_crash_is_blamed_on_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies in graph 1 gives a failure, and the next worker goes on behind it."""
    script = """
import json, os, sys
first = int(sys.argv[1])
for number in range(first, 3):
    print(json.dumps({"begin": number}), flush=True)
    if number == 1:
        os.kill(os.getpid(), 9)
    row = {"graph": number, "elements": 1, "excluded": 0, "ops": {}, "failure": None}
    print(json.dumps(row), flush=True)
"""

    def command(*arguments: object) -> list[str]:
        first = arguments[arguments.index("--first") + 1]
        return [sys.executable, "-c", script, str(first)]

    monkeypatch.setattr(fuzzing, "_command", command)
    totals = fuzz(3, targets=["pure"], most_failures=9, progress=False)
    assert totals.graphs == 3 and totals.elements == 2
    assert totals.failures == [(1, "the process died with status -9")]


def test_a_failure_is_shrunk_printed_and_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    number = next(i for i in range(200) if fuzzing.case_of(0, i, 12).graph.count("tanh"))

    def failure(case: Case, targets: Any) -> str | None:
        return "pure: wrong" if case.graph.count("tanh") else None

    monkeypatch.setattr(fuzzing, "failure_of", failure)
    monkeypatch.setattr(
        fuzzing, "_rows",
        lambda *how: [{"graph": number, "elements": 0, "excluded": 0, "ops": {},
                                      "failure": "pure: wrong"}],
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert fuzzing.main(["--graphs", "1", "--targets", "pure"]) == 1
    printed = capsys.readouterr().out
    assert "to 2 nodes" in printed and "= tanh(%" in printed and "1 failure" in printed
    assert load_case(tmp_path / f"fuzz-0-{number}.npz").graph.count("tanh") == 1


def test_failures_shrink_to_what_matters() -> None:
    cases = (fuzzing.case_of(20, number, 12) for number in range(200))
    case = next(c for c in cases if c.graph.count("tanh") and len(c.graph) > 8)
    small = shrink(case, lambda c: c.graph.count("tanh") > 0)
    assert small.graph.count("tanh") == 1 and len(small.graph) == 2


def test_broken_graphs_are_findings() -> None:
    graph = parse("graph(%x: f32[3]) { %0 = exp(%x) : f32[3] return %0 }")
    assert failure_of(Case(graph, (np.array([0, 1, 2], np.float32),)), ["pure"]) is None
    assert failure_of(Case(graph, (np.array([0, 1], np.float32),)), ["pure"]) is not None


def test_some_batches_run_on_lower_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(level: str) -> None:
        if level == "avx2":
            raise ArgumentError("not here")

    monkeypatch.setattr(fuzzing, "machine_for_level", refuse)
    levels = [fuzzing.level_of(i * fuzzing.BATCH + 7) for i in range(len(fuzzing.LEVELS))]
    assert levels == ["" if level == "avx2" else level for level in fuzzing.LEVELS]
    assert "sse2" in levels
