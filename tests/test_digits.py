"""The main job: a perceptron learns real handwritten digits in one compiled step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import accel
from accel import nn, optim
from accel.targets.pure.program import KERNELS

DIGITS = Path(__file__).parent.parent / "examples" / "digits.npz"


def load():
    with np.load(DIGITS) as data:
        pixels = data["images"].astype(np.float32) / 16
        labels = data["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order], labels[order]


def build(rate: float = 2e-3, mode: str | None = None):
    accel.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optim.Adam(model.parameters(), lr=rate)

    @accel.compile(mode=mode)
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def train(step, pixels, labels, epochs: int, batch: int = 64) -> list[float]:
    losses = []
    for _ in range(epochs):
        for first in range(0, len(labels) - batch + 1, batch):
            losses.append(step(pixels[first : first + batch], labels[first : first + batch]))
    return [loss.item() for loss in losses]


def test_the_data_are_what_their_page_says() -> None:
    with np.load(DIGITS) as data:
        images, labels = data["images"], data["labels"]
    assert images.shape == (1797, 64) and images.dtype == np.uint8 and images.max() == 16
    assert labels.shape == (1797,) and set(labels) == set(range(10))


def test_training_learns_and_is_one_executable() -> None:
    pixels, labels = load()
    model, optimizer, step = build()
    losses = train(step, pixels[360:], labels[360:], epochs=15)
    assert losses[-1] < 0.2 * losses[0]
    predicted = model(accel.asarray(pixels[:360])).argmax(dim=1).numpy()
    assert np.mean(predicted == labels[:360]) > 0.95
    assert (step.cache_info().misses, step.cache_info().size) == (1, 1)
    optimizer.param_groups[0]["lr"] = 1e-4
    train(step, pixels[:64], labels[:64], epochs=1)
    assert step.cache_info().misses == 1


def test_another_batch_size_compiles_no_kernel_anew() -> None:
    pixels, labels = load()
    _, _, step = build()
    step(pixels[:64], labels[:64])
    before = KERNELS.compiles
    step(pixels[:48], labels[:48])
    assert step.cache_info().misses == 2
    assert KERNELS.compiles == before


def test_lazy_and_compiled_training_agree() -> None:
    pixels, labels = load()
    model, optimizer, step = build()
    compiled = train(step, pixels[:256], labels[:256], epochs=1)
    model, optimizer, _ = build()

    def lazy(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(accel.asarray(x)), accel.asarray(y))
        loss.backward()
        optimizer.step()
        return loss

    assert train(lazy, pixels[:256], labels[:256], epochs=1) == pytest.approx(compiled, rel=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["torch", "auto"])
def test_modes_train_alike(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    pixels, labels = load()
    found = {}
    for each in ("pure", mode):
        model, _, step = build(mode=each)
        with caplog.at_level(logging.ERROR, logger="accel"):
            train(step, pixels[:640], labels[:640], epochs=2)
        found[each] = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, expected in found["pure"].items():
        np.testing.assert_allclose(found[mode][name], expected, rtol=1e-3, atol=1e-4)
