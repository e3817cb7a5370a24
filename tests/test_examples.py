"""The examples run and show what they promise; so do the README's lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import accel

ROOT = Path(__file__).parent.parent


def run_example(name: str) -> str:
    """The output of an example in a process of its own."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    environment.pop("ACCEL_MODE", None)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_demo() -> None:
    shown = run_example("demo.py")
    accuracy = re.search(r"test accuracy: (\d+\.\d)%", shown)
    assert accuracy is not None and float(accuracy[1]) > 95
    assert "1 native call, 1 step" in shown and "graph(%x: f32[360,64]" in shown
    state = accel.load_safetensors(ROOT / "examples" / "out" / "digits.safetensors")
    assert list(state) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_black_scholes() -> None:
    shown = run_example("black_scholes.py")
    difference = re.search(r"difference from NumPy: (\S+)", shown)
    assert difference is not None and float(difference[1]) < 1e-3
    assert "1 region, 1 kernel, 1 native call, 1 step" in shown
    assert "misses=1" in shown  # a new rate and volatility are no new compile


def test_inspect_stages() -> None:
    shown = run_example("inspect_stages.py")
    for title in ("recorded", "optimized", "fused", "placed", "explain", "LLVM IR", "assembly"):
        assert f"--- {title}" in shown


@pytest.mark.torch
def test_auto_mode() -> None:
    shown = run_example("auto_mode.py")
    table = shown.split("1,437 images:")[1].split("largest difference")[0]
    assert "1,471,488 >= 1,000,000" in table and "< 5,000,000" in table
    assert len(set(re.findall(r"\b(pure|torch) +[\d,]+ ", table))) == 2


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 64), dtype=np.float32), rng.integers(0, 10, 32)
    scope: dict[str, object] = {"batches": [(x, y)] * 2, "x": x, "y": y}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    function, model, inspection, _modes = blocks
    for block in (function, model, inspection):
        exec(compile(block, "README.md", "exec"), scope)
    assert (tmp_path / "model.safetensors").exists()
    normal = scope["normal"](np.float64(0.0), 0.0, 1.0)  # type: ignore[operator]
    assert normal.item() == pytest.approx(0.3989422804)
