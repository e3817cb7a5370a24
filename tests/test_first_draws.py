"""Graphs that only draw numbers: NumPy's the first time, native from then on, the same bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel import nn
from accel.runtime.compiler import clear_cache
from accel.runtime.first_draws import WHY
from accel.targets.pure import KERNELS


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    with accel.mode("pure"):
        clear_cache()
        yield
        clear_cache()


def state(words: tuple[int, int] = (7, 3)) -> None:
    accel.manual_seed(words[0])
    for _ in range(words[1]):
        accel.rand(1)


def native_ops(function: Callable[[], Any]) -> int:
    """How many ops a call ran that NumPy did not."""
    accel.reset_stats()
    function()
    found = accel.stats()
    return found.pure_ops - found.reference_count


DRAWS: dict[str, Callable[[], Any]] = {
    "plain": lambda: accel.rand(300, 200),
    "float64": lambda: accel.rand(77, dtype=accel.float64),
    "one": lambda: accel.rand(1),
    "no axes": lambda: accel.uniform(2.0, 3.0, ()),
    "scaled": lambda: accel.uniform(-0.3, 1.7, (123, 45)),
    "blocks": lambda: accel.rand(3 * (1 << 12) + 5),
    "chain": lambda: -(accel.rand(64, 3) * 0.1 - 0.05) / 3.0 + 1e-3,
    "turned": lambda: accel.reshape(accel.rand(6, 50).T, (20, 15))[3:17, ::2],
    "two": lambda: accel.rand(40, 5) * accel.rand(5) + accel.rand(40, 1),
    "widened": lambda: accel.rand(1000).to(accel.float64) * 3.0,
}


@pytest.mark.parametrize("name", list(DRAWS))
def test_the_first_time_is_numpys_and_gives_the_same_bits(name: str) -> None:
    draw = DRAWS[name]
    found = []

    def run() -> None:
        state()
        found.append(draw().numpy())

    first = [native_ops(run), native_ops(run), native_ops(run)]
    assert first[0] == 0 < first[1] == first[2]
    state()
    found.append(accel.compile(draw)().numpy())
    for other in found[1:]:
        assert other.dtype == found[0].dtype and other.tobytes() == found[0].tobytes()


OTHERS: dict[str, Callable[[], Any]] = {
    "normal": lambda: accel.randn(50),
    "half": lambda: accel.rand(50, dtype=accel.float16),
    "integers": lambda: accel.randint(0, 9, (50,)),
    "function": lambda: accel.exp(accel.rand(50)),
    "sum": lambda: accel.sum(accel.rand(50)),
    "many": lambda: accel.rand((1 << 19) + 1),
    "with data": lambda: accel.rand(3) + accel.asarray(np.ones(3, np.float32)),
    "no draw": lambda: accel.asarray(np.ones(3, np.float32)) + 1,
    "compiled": accel.compile(lambda: accel.rand(50)),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_all_else_is_compiled_at_once(name: str) -> None:
    assert native_ops(lambda: accel.eval(OTHERS[name]())) > 0


def test_numpy_is_left_with_less_once_there_is_code() -> None:
    def draw(count: int) -> Callable[[], Any]:
        return lambda: accel.rand(count).numpy()

    assert native_ops(draw(1 << 17)) == 0 < native_ops(draw(1 << 17))
    assert native_ops(draw((1 << 17) + 1)) > 0
    assert native_ops(draw(1 << 15)) == 0 < native_ops(draw(1 << 15))


def test_parameters_are_drawn_without_making_code() -> None:
    models = []

    def draw() -> None:
        accel.manual_seed(1)
        models.append(nn.Sequential(nn.Linear(84, 26), nn.ReLU(), nn.Linear(26, 10)))
        accel.eval(*models[-1].parameters())

    code = KERNELS.compiles, KERNELS.loads, KERNELS.hits
    assert native_ops(draw) == 0 and code == (KERNELS.compiles, KERNELS.loads, KERNELS.hits)
    assert native_ops(draw) > 0 and code != (KERNELS.compiles, KERNELS.loads, KERNELS.hits)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="accel"):
        accel.rand(31, 17).numpy()
        accel.rand(31, 17).numpy()
    lines = [r.getMessage() for r in caplog.records if "->" in r.getMessage()]
    assert WHY in lines[0] and "reference" in lines[0]
    assert "-> pure" in lines[1]
