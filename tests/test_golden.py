"""Golden texts: what the pipeline makes of a few programs, to the kernel.

A lost fusion, a changed placement or a rewrite that no longer applies fails here. Where a
change is meant, look at the difference and write the files anew::

    ACCEL_UPDATE_GOLDEN=1 python -m pytest tests/test_golden.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel import nn, optim
from accel.ir.printing import to_text

GOLDEN = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """Compare `text` with the golden file, or write it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("ACCEL_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def table(explanation: Any) -> str:
    """The explain table without the kernels' content hashes, which depend on the CPU."""
    text = re.sub(r"_[0-9a-f]{12}\b", "", str(explanation))
    lines = [re.sub(r"\s{2,}", "  ", line).rstrip(" -") for line in text.split("\n")]
    return "\n".join(lines) + "\n"


def training_step(optimizer_class: Callable[..., Any]) -> tuple[Any, tuple[Any, ...]]:
    """The digits demo's step and a batch."""
    accel.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optimizer_class(model.parameters(), lr=2e-3)

    @accel.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    batch = rng.random((64, 64), np.float32), rng.integers(0, 10, 64)
    return step, batch


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_the_training_step_is_one_executable_of_known_kernels(name: str) -> None:
    step, batch = training_step(getattr(optim, name))
    explanation = step.explain(*batch)
    assert explanation.native_calls == explanation.steps == 1
    check(f"digits_{name.lower()}_explain", table(explanation))
    placed = step.graph(*batch, stage="placed")
    check(f"digits_{name.lower()}_placed", to_text(placed, lines=False) + "\n")


def test_stages_of_a_small_model() -> None:
    layer = nn.Linear(4, 3)
    norm = nn.LayerNorm(3)

    @accel.compile
    def forward(x: Any) -> Any:
        return nn.functional.softmax(norm(nn.functional.gelu(layer(x))), dim=-1) * 1.0

    x = np.ones((2, 4), np.float32)
    for stage in ("recorded", "optimized", "fused", "placed"):
        check(f"small_{stage}", to_text(forward.graph(x, stage=stage), lines=False) + "\n")


def kernels(fn: Callable[..., Any], *args: Any) -> list[str]:
    """Kind and ops of each kernel."""
    executable = accel.compile(fn).explain(*args)
    text = "\n".join(row.kernels for row in executable.rows)
    return [re.sub(r"_[0-9a-f]{12}$", "", line) for line in text.split("\n") if line]


@pytest.mark.parametrize("n", [1, 7, 1000, 16385])
def test_one_kernel_each(n: int) -> None:
    rng = np.random.default_rng(n)
    x, a, b, c, d = (rng.standard_normal((3, n)).astype(np.float32) for _ in range(5))

    def chain(x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return nn.functional.gelu(x * a + b) * accel.sigmoid(c) + d

    def softmax(x: Any) -> Any:
        return accel.softmax(x, -1)

    def layer_norm(x: Any, w: Any, v: Any) -> Any:
        return nn.functional.layer_norm(x, (n,), w, v)

    for fn, args in ((chain, (x, a, b, c, d)), (softmax, (x,)), (layer_norm, (x, a[0], b[0]))):
        assert len(kernels(fn, *args)) == 1
        accel.testing.assert_targets_agree(fn, *args)


def test_a_new_learning_rate_records_nothing_and_a_new_batch_compiles_nothing() -> None:
    step, (x, y) = training_step(optim.Adam)
    step(x, y)
    owner = step.__wrapped__.__closure__
    optimizer = next(c.cell_contents for c in owner if isinstance(c.cell_contents, optim.Adam))
    optimizer.param_groups[0]["lr"] = 1e-4
    step(x, y)
    assert step.cache_info().misses == 1
    from accel.targets.pure.program import KERNELS

    before = KERNELS.compiles
    step(x[:48], y[:48])
    assert step.cache_info().misses == 2
    assert KERNELS.compiles == before
