"""Random numbers: repeatable, alike in every mode, distributed as they say."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel import errors


@pytest.fixture(autouse=True)
def seeded():
    accel.manual_seed(0)


DRAWS = {
    "rand": lambda: accel.rand(3, 5), "randn": lambda: accel.randn((3, 5)),
    "rand64": lambda: accel.rand(4, dtype=accel.float64),
    "half": lambda: accel.randn(4, dtype=accel.float16),
    "randint": lambda: accel.randint(-3, 9, (4, 4)), "randperm": lambda: accel.randperm(9),
    "uniform": lambda: accel.uniform(-2, 5, (6,)), "normal": lambda: accel.normal(3.0, 2.0, (6,)),
    "bernoulli": lambda: accel.bernoulli(0.3, (20,)),
    "multinomial": lambda: accel.multinomial(accel.ones(5), 3),
    "with replacement": lambda: accel.multinomial(accel.ones((2, 5)), 8, True),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DRAWS))
def test_seed_repeats_the_stream_and_draws_differ(name: str) -> None:
    draw = DRAWS[name]
    first, second = draw().numpy(), draw().numpy()
    assert not np.array_equal(first, second)
    accel.manual_seed(0)
    np.testing.assert_array_equal(draw().numpy(), first)
    np.testing.assert_array_equal(draw().numpy(), second)


@pytest.mark.parametrize("name", list(DRAWS))
def test_compiled_functions_draw_the_same_stream(name: str) -> None:
    draw = DRAWS[name]
    expected = [draw().numpy() for _ in range(3)]
    accel.manual_seed(0)
    compiled = accel.compile(lambda: draw())
    for values in expected:
        np.testing.assert_allclose(compiled().numpy(), values, rtol=1e-5)
    assert compiled.cache_info().misses == 1


def test_lazy_and_compiled_draws_share_one_stream() -> None:
    expected = [accel.rand(2).tolist() for _ in range(4)]
    accel.manual_seed(0)
    compiled = accel.compile(lambda: accel.rand(2))
    assert [accel.rand(2).tolist(), compiled().tolist(), accel.rand(2).tolist(),
            compiled().tolist()] == expected  # fmt: skip


def test_order_of_computing_does_not_matter() -> None:
    a, b = accel.rand(3), accel.rand(3)
    later = b.tolist(), a.tolist()
    accel.manual_seed(0)
    assert (accel.rand(3).tolist(), accel.rand(3).tolist()) == later[::-1]


def test_generators_are_apart() -> None:
    one, two = accel.Generator(5), accel.Generator(5)
    x = accel.rand(3, generator=one)
    accel.rand(3)
    np.testing.assert_array_equal(accel.rand(3, generator=two).numpy(), x.numpy())
    assert one.initial_seed() == 5 and "5" in repr(one)
    assert accel.Generator(-1).initial_seed() == -1
    assert accel.Generator(2**64 - 1).initial_seed() == -1


def test_failed_draw_uses_up_nothing() -> None:
    expected = accel.rand(2).tolist()
    accel.manual_seed(0)
    with pytest.raises(errors.DTypeError, match="floating"):
        accel.rand(2, dtype=accel.int32)
    assert accel.rand(2).tolist() == expected


def test_moments() -> None:
    uniform = accel.rand(20_000).numpy()
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.005
    normal = accel.normal(2.0, 3.0, (20_000,)).numpy()
    assert abs(normal.mean() - 2) < 0.1 and abs(normal.std() - 3) < 0.1
    assert abs(accel.bernoulli(0.25, (20_000,)).numpy().mean() - 0.25) < 0.02
    spread = accel.uniform(-1, 3, (20_000,)).numpy()
    assert spread.min() >= -1 and spread.max() <= 3 and abs(spread.mean() - 1) < 0.05
    dice = accel.randint(1, 7, (12_000,)).numpy()
    np.testing.assert_allclose(np.bincount(dice, minlength=7)[1:] / 12_000, 1 / 6, atol=0.02)


def test_multinomial_follows_the_weights() -> None:
    weights = accel.asarray([0.0, 1.0, 3.0, 0.0])
    again = np.bincount(accel.multinomial(weights, 8000, True).numpy(), minlength=4)
    np.testing.assert_allclose(again / 8000, [0, 0.25, 0.75, 0], atol=0.02)
    once = np.array([accel.multinomial(weights, 2).tolist() for _ in range(50)])
    assert {tuple(sorted(row)) for row in once.tolist()} == {(1, 2)}
    rows = accel.multinomial(accel.asarray([[1.0, 0.0], [0.0, 1.0]]), 1)
    assert rows.tolist() == [[0], [1]]


def test_shapes_dtypes_and_bounds() -> None:
    assert sorted(accel.randperm(10).tolist()) == list(range(10))
    assert accel.randperm(3, dtype=accel.int32).dtype is accel.int32
    assert accel.randint(5).shape == () and accel.randint(5, (2,)).shape == (2,)
    assert accel.randint(0, 200, (3,), dtype=accel.uint8).dtype is accel.uint8
    x = accel.ones((2, 3), dtype=accel.float64)
    assert accel.rand_like(x).dtype is accel.randn_like(x).dtype is accel.float64
    assert accel.uniform(accel.zeros(3), accel.ones((2, 1))).shape == (2, 3)
    assert accel.bernoulli(accel.asarray([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert accel.rand(2, requires_grad=True).is_leaf
    assert accel.zeros(1000).uniform_().mean().item() == pytest.approx(0.5, abs=0.05)
    assert accel.zeros(1000).normal_(5.0).mean().item() == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: accel.rand(-1), errors.ArgumentError, "negative"),
        (lambda: accel.rand(2.5), errors.ArgumentError, "no tuple of integers"),
        (lambda: accel.randint(3, 3, (2,)), errors.ArgumentError, "low 3 and high 3"),
        (lambda: accel.bernoulli(1.5), errors.ArgumentError, "probability 1.5"),
        (lambda: accel.multinomial(accel.ones(2), 3), errors.ArgumentError, "3 draws of 2"),
        (lambda: accel.multinomial(accel.ones((2, 2, 2)), 1), errors.ShapeError, "weights"),
        (lambda: accel.rand(2, device="cuda"), errors.DeviceError, "cuda"),
    ],
)
def test_wrong_arguments(draw, error, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        draw()
    assert caught.value.loc.file == __file__ and caught.value.remedy
