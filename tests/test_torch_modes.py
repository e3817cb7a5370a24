"""The same program in every mode: the same random numbers, losses and trained weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel import nn, optim
from accel.runtime import state

MODES = ("pure", "torch", "auto")


@pytest.fixture(autouse=True)
def small_products_go_to_torch() -> Iterator[None]:
    with state.override(thresholds={**state.DEFAULT_THRESHOLDS, "matmul": 2000}):
        yield


def train(mode: str) -> tuple[list[float], dict[str, np.ndarray], Any]:
    """Ten Adam steps of a small model with dropout."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 64)).astype(np.float32)
    y = rng.integers(0, 10, 32)
    with accel.mode(mode):
        accel.manual_seed(3)
        model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.2), nn.LayerNorm(64),
                              nn.Linear(64, 10))  # fmt: skip
        criterion = nn.CrossEntropyLoss()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        @accel.compile
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        accel.reset_stats()
        losses = [step(x, y).item() for _ in range(10)]
        weights = {k: np.array(v.numpy()) for k, v in model.state_dict().items()}
        return losses, weights, accel.stats()


def test_training_gives_the_same_weights_in_every_mode() -> None:
    results = {mode: train(mode) for mode in MODES}
    losses, weights, counts = results["pure"]
    assert losses[-1] < losses[0] / 2 and counts.torch_count == 0 < counts.pure_count
    assert results["torch"][2].pure_count == 0 < results["torch"][2].torch_count
    assert results["auto"][2].pure_count > 0 < results["auto"][2].torch_count
    for mode in ("torch", "auto"):
        np.testing.assert_allclose(results[mode][0], losses, rtol=1e-4)
        assert results[mode][2].fallback_count == 0
        for name, weight in weights.items():
            np.testing.assert_allclose(results[mode][1][name], weight, atol=2e-4, err_msg=name)


def test_random_numbers_are_the_same_in_every_mode() -> None:
    drawn = {}
    for mode in MODES:
        with accel.mode(mode):
            accel.manual_seed(11)
            drawn[mode] = [accel.rand(100).numpy(), accel.randint(0, 1000, (50,)).numpy(),
                           accel.randn(100).numpy(), accel.randperm(30).numpy()]  # fmt: skip
    for mode in ("torch", "auto"):
        for i, (found, expected) in enumerate(zip(drawn[mode], drawn["pure"], strict=True)):
            if i == 2:  # logarithm and cosine have their own last bits
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["torch", "auto"])
def test_many_threads_call_one_function(mode: str) -> None:
    @accel.compile(mode=mode)
    def f(x: Any, w: Any) -> Any:
        return accel.softmax(x @ w, dim=1)

    w = np.random.default_rng(9).normal(size=(50, 50)).astype(np.float32)
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=(50, 50)).astype(np.float32)
        z = np.exp((x @ w).astype(np.float64))
        for _ in range(50):
            if not np.allclose(f(x, w).numpy(), z / z.sum(1, keepdims=True), rtol=1e-3, atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
