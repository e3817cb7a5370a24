"""Short programs as users write them, each compared with plain NumPy (some with torch).

The NumPy programs run twice from one source: as they are, and under `accel.compile`.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import accel
from accel import nn, optim

F = nn.functional
Array = Any


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- programs of NumPy's users ----------------------------------------------------------------
def black_scholes(spot: Array, strike: Array, years: Array, rate: float, sigma: float) -> Array:
    d1 = (np.log(spot / strike) + (rate + 0.5 * sigma**2) * years) / (sigma * np.sqrt(years))
    d2 = d1 - sigma * np.sqrt(years)

    def cdf(z: Array) -> Array:  # the logistic approximation
        return 1 / (1 + np.exp(-1.5976 * z - 0.07056 * z**3))

    return spot * cdf(d1) - strike * np.exp(-rate * years) * cdf(d2)


def mandelbrot(re: Array, im: Array) -> Array:
    x, y, count = np.zeros_like(re), np.zeros_like(im), np.zeros_like(re)
    for _ in range(12):
        inside = x * x + y * y <= 4
        x, y = np.where(inside, x * x - y * y + re, x), np.where(inside, 2 * x * y + im, y)
        count = count + inside
    return count


def k_means_step(points: Array, centres: Array) -> Array:
    distance = ((points[:, None, :] - centres[None]) ** 2).sum(axis=-1)
    member = (np.argmin(distance, axis=1)[:, None] == np.arange(5)[None]).astype(np.float32)
    return (member.T @ points) / np.maximum(member.sum(axis=0), 1)[:, None]


def n_body_step(place: Array, speed: Array, mass: Array) -> Array:
    between = place[None, :, :] - place[:, None, :]
    cubed = (np.sum(between**2, axis=-1) + 0.01) ** 1.5
    pull = np.sum(mass[None, :, None] * between / cubed[..., None], axis=1)
    speed = speed + 0.01 * pull
    return np.concatenate([place + 0.01 * speed, speed], axis=1)


def softmax_regression(x: Array, y: Array, w: Array) -> Array:
    for _ in range(3):
        scores = x @ w
        scores = scores - scores.max(axis=1, keepdims=True)
        p = np.exp(scores)
        p = p / p.sum(axis=1, keepdims=True)
        w = w - 0.1 * (x.T @ (p - y)) / x.shape[0]
    return w


def moving_average(x: Array) -> Array:
    total = np.cumsum(x)
    return (total[5:] - total[:-5]) / 5


def game_of_life(board: Array) -> Array:
    around = sum(
        np.roll(board, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j
    )
    return ((around == 3) | ((board == 1) & (around == 2))).astype(np.int64)


def standardised(x: Array) -> Array:
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)


def pairwise_distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def blurred(image: Array) -> Array:
    padded = np.pad(image, 1)
    rows, columns = image.shape
    return sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9


def heat(x: Array) -> Array:
    x = x.copy()
    for _ in range(4):
        x[1:-1] += 0.25 * (x[2:] - 2 * x[1:-1] + x[:-2])
    x[x < 0] = 0
    return x


def edges(image: Array) -> Array:
    dx = image[1:-1, 2:] - image[1:-1, :-2]
    dy = image[2:, 1:-1] - image[:-2, 1:-1]
    return np.clip(np.hypot(dx, dy), 0.0, 1.5)


def power_iteration(a: Array) -> Array:
    v = np.ones(a.shape[0], dtype=a.dtype)
    for _ in range(20):
        v = a @ v
        v = v / np.linalg.norm(v)
    return v


def polynomial(x: Array, *, coefficients: tuple[float, ...] = (1.0, -2.0, 0.5)) -> Array:
    result = np.zeros_like(x)
    for c in coefficients:
        result = result * x + c
    return result


def statistics(x: Array) -> Array:
    return np.stack([x.min(axis=1), x.max(axis=1), np.mean(x, axis=1), x.var(axis=1),
                     np.prod(x, axis=1), np.linalg.norm(x, axis=1)])  # fmt: skip


SQUARE = normal(6, 6)
PROGRAMS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (black_scholes, (np.linspace(80, 120, 33), np.full(33, 100.0), np.linspace(0.1, 2, 33),
                     0.02, 0.3)),
    (mandelbrot, tuple(np.meshgrid(np.linspace(-2, 1, 20), np.linspace(-1, 1, 15)))),
    (k_means_step, (normal(50, 3), normal(5, 3, seed=1))),
    (n_body_step, (normal(7, 3), normal(7, 3, seed=1), np.abs(normal(7, seed=2)))),
    (softmax_regression, (normal(20, 4), np.eye(3, dtype=np.float32)[np.arange(20) % 3],
                          normal(4, 3, seed=1))),
    (moving_average, (normal(40),)),
    (game_of_life, (np.random.default_rng(0).integers(0, 2, (12, 9)),)),
    (standardised, (normal(30, 4),)),
    (pairwise_distances, (normal(8, 3), normal(6, 3, seed=1))),
    (blurred, (normal(9, 7),)),
    (heat, (normal(20),)),
    (edges, (normal(9, 7),)),
    (power_iteration, (SQUARE @ SQUARE.T,)),
    (polynomial, (normal(11),)),
    (statistics, (normal(5, 9),)),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["pure", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("program,arguments", PROGRAMS, ids=[p.__name__ for p, _ in PROGRAMS])
def test_a_numpy_function_as_it_is(program, arguments, mode):
    expected = program(*arguments)
    before = [np.copy(a) for a in arguments]
    compiled = accel.compile(program, mode=mode)
    for _ in range(2):
        result = compiled(*arguments)
        np.testing.assert_allclose(result.numpy(), expected, rtol=2e-4, atol=2e-5)
    assert compiled.cache_info().misses == 1
    with accel.mode(mode):  # lazily, on Tensors
        tensors = [accel.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        np.testing.assert_allclose(program(*tensors).numpy(), expected, rtol=2e-4, atol=2e-5)
    for a, b in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(a, b)


# -- what Python programs are made of ----------------------------------------------------------
@dataclass
class Lens:
    focus: Any
    shift: float
    name: str = "lens"


Ray = namedtuple("Ray", ["place", "slope"])


def test_dataclasses_namedtuples_dicts_and_none():
    @accel.compile
    def trace(ray, lens, options=None, *, scale=1.0):
        bent = ray.slope - ray.place / lens.focus + lens.shift
        if options is not None and options["flip"]:
            bent = -bent
        return {"ray": Ray(ray.place * scale, bent), "lens": lens.name}

    place, slope = normal(5), normal(5, seed=1)
    lens = Lens(np.float32(2) + np.abs(place), 0.5)
    plain = trace(Ray(place, slope), lens)
    assert isinstance(plain["ray"], Ray) and plain["lens"] == "lens"
    np.testing.assert_allclose(plain["ray"].slope, slope - place / lens.focus + 0.5, rtol=1e-6)
    flipped = trace(Ray(place, slope), lens, {"flip": True}, scale=2.0)["ray"]
    np.testing.assert_allclose(flipped.slope, -plain["ray"].slope.numpy(), rtol=1e-6)
    np.testing.assert_allclose(flipped.place, 2 * place)


GAIN = 2.0
TABLE = np.arange(4, dtype=np.float32)


@accel.compile
def amplified(x):
    return x * GAIN + TABLE


def test_globals_that_change_are_seen():
    global GAIN, TABLE
    x = normal(4)
    try:
        np.testing.assert_allclose(amplified(x), x * 2 + np.arange(4), rtol=1e-6)
        GAIN = 3.0
        np.testing.assert_allclose(amplified(x), x * 3 + np.arange(4), rtol=1e-6)
        TABLE[:] = 7  # in place
        np.testing.assert_allclose(amplified(x), x * 3 + 7, rtol=1e-6)
        TABLE = np.full(4, -1, np.float32)  # another array
        np.testing.assert_allclose(amplified(x), x * 3 - 1, rtol=1e-6)
    finally:
        GAIN, TABLE = 2.0, np.arange(4, dtype=np.float32)


def test_closures_over_numbers_arrays_and_containers_that_change():
    scale, weights, settings = 2.0, np.ones(3, np.float32), {"power": 2}

    @accel.compile
    def f(x):
        return (x ** settings["power"]) * scale + weights

    x = normal(3)
    np.testing.assert_allclose(f(x), x**2 * 2 + 1, rtol=1e-5)
    scale = 5.0
    np.testing.assert_allclose(f(x), x**2 * 5 + 1, rtol=1e-5)
    weights = np.zeros(3, np.float32)
    np.testing.assert_allclose(f(x), x**2 * 5, rtol=1e-5)
    settings["power"] = 3
    np.testing.assert_allclose(f(x), x**3 * 5, rtol=1e-5)


class Filter:
    """A class with state of its own kinds: an array, a float, a flag, a list."""

    def __init__(self):
        self.kernel = np.array([0.25, 0.5, 0.25], np.float32)
        self.gain = 1.0
        self.taps = [0, 1, 2]
        self.absolute = False

    @accel.compile
    def apply(self, x):
        n = x.shape[0] - 2
        y = sum(self.kernel[t] * x[t : t + n] for t in self.taps) * self.gain
        return np.abs(y) if self.absolute else y


def test_methods_see_their_object_as_it_is():
    filter_, other, x = Filter(), Filter(), normal(12)
    other.gain = 10.0

    def expected(f):
        y = sum(f.kernel[t] * x[t : t + 10] for t in f.taps) * f.gain
        return np.abs(y) if f.absolute else y

    def check():
        for f in (filter_, other):
            np.testing.assert_allclose(f.apply(x), expected(f), rtol=1e-5, atol=1e-6)

    check()
    filter_.gain = 3.0
    check()
    filter_.absolute = True
    check()
    filter_.kernel = np.array([1, 0, -1], np.float32)
    check()
    filter_.kernel[1] = 5
    check()
    filter_.taps.pop()
    check()


def test_helpers_recursion_and_loops():
    def fold(xs):
        return xs[0] if len(xs) == 1 else fold(xs[: len(xs) // 2]) + fold(xs[len(xs) // 2 :])

    def horner(x, n):
        return 1 if n == 0 else 1 + x / n * horner(x, n - 1) if n > 1 else 1 + x

    @accel.compile
    def program(xs, y):
        total = fold([x * (i + 1) for i, x in enumerate(xs)])
        while total.ndim < 3:
            total = total[None]
        return total + horner(y, 3)

    xs, y = [normal(4, seed=i) for i in range(5)], normal(4, seed=9)
    expected = sum(x * (i + 1) for i, x in enumerate(xs))[None, None] + horner(y, 3)
    np.testing.assert_allclose(program(xs, y), expected, rtol=1e-5)


def test_random_numbers_with_seeds():
    @accel.compile
    def noisy(x, generator):
        return x + accel.randn(4, generator=generator)

    x = normal(4)
    first, second = accel.Generator(3), accel.Generator(3)
    a = [noisy(x, first).numpy() for _ in range(3)]
    b = [(accel.asarray(x) + accel.randn(4, generator=second)).numpy() for _ in range(3)]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])


def test_new_numbers_do_not_recompile_and_new_shapes_do():
    @accel.compile
    def f(x, slope):
        return x * slope

    for slope in (1.0, 2.0, math.pi):
        np.testing.assert_allclose(f(normal(3), slope), normal(3) * slope, rtol=1e-6)
    assert f.cache_info().misses == 1
    f(normal(4), 1.0)
    assert f.cache_info().misses == 2
    (reason,) = f.explain_recompiles()
    assert reason == "argument x changed from float32[3] to float32[4]"


def test_an_accumulator_is_written_back():
    total, count = accel.zeros(3), accel.asarray(0)

    @accel.compile
    def observe(x):
        total.add_(x)
        count.add_(1)
        return total / count

    xs = [normal(3, seed=i) for i in range(4)]
    means = [observe(x).numpy() for x in xs]
    np.testing.assert_allclose(means[-1], np.mean(xs, axis=0), rtol=1e-5)
    assert count.item() == 4


# -- models ------------------------------------------------------------------------------------
def problem(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    x = normal(n, 4)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def classifier() -> nn.Module:
    accel.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2))


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.2, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.02),
    "adamw": lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.01),
}


def train(model: Any, optimizer: Any, compiled: bool, steps: int = 25) -> list[float]:
    x, y = problem()

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = accel.compile(step) if compiled else step
    return [step(accel.asarray(x), accel.asarray(y)).item() for _ in range(steps)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_compiled_is_training_by_hand(name):
    runs = []
    for compiled in (False, True):
        model = classifier()
        losses = train(model, OPTIMIZERS[name](model.parameters()), compiled)
        runs.append(losses + [p.sum().item() for p in model.parameters()])
    np.testing.assert_allclose(runs[0], runs[1], rtol=2e-3, atol=2e-3)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_torch_s(name):
    import torch

    model = classifier()
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.LayerNorm(16), torch.nn.GELU(),
                                 torch.nn.Linear(16, 2))  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    settings = {"sgd": (torch.optim.SGD, {"lr": 0.2, "momentum": 0.9}),
                "adam": (torch.optim.Adam, {"lr": 0.02}),
                "adamw": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.01})}  # fmt: skip
    kind, options = settings[name]
    optimizer = kind(theirs.parameters(), **options)
    x, y = map(torch.tensor, problem())
    expected = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(x), y)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    losses = train(model, OPTIMIZERS[name](model.parameters()), True, 10)
    np.testing.assert_allclose(losses, expected, rtol=2e-3)


def test_dropout_follows_train_and_eval():
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5))
    f, x = accel.compile(lambda x: model(x)), accel.asarray(normal(8, 4))
    one, two = f(x).numpy(), f(x).numpy()
    assert not np.array_equal(one, two) and 0.3 < (one == 0).mean() < 0.7
    model.eval()
    np.testing.assert_array_equal(f(x).numpy(), f(x).numpy())
    assert (f(x).numpy() != 0).all()
    model.train()
    assert (f(x).numpy() == 0).any()


def test_gradients_accumulate_over_small_batches():
    x, y = map(accel.asarray, problem(40))
    whole, parts = classifier(), classifier()
    F.cross_entropy(whole(x), y).backward()

    @accel.compile
    def accumulate(x, y):
        (F.cross_entropy(parts(x), y) / 4).backward()

    for i in range(0, 40, 10):
        accumulate(x[i : i + 10], y[i : i + 10])
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_frozen_parameters_stay_and_two_optimizers_move_their_own():
    model = classifier()
    for p in model[0].parameters():
        p.requires_grad = False
    first = optim.SGD(model[1].parameters(), lr=0.0)
    second = optim.Adam(model[3].parameters(), lr=0.05)
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    x, y = map(accel.asarray, problem())

    @accel.compile
    def step():
        first.zero_grad()
        second.zero_grad()
        F.cross_entropy(model(x), y).backward()
        first.step()
        second.step()

    for _ in range(3):
        step()
    moved = {k for k, v in model.state_dict().items() if not np.array_equal(v.numpy(), before[k])}
    assert moved == {"3.weight", "3.bias"}
    first.param_groups[0]["lr"] = 0.5
    step()
    assert not np.array_equal(model.state_dict()["1.weight"].numpy(), before["1.weight"])


class Tied(nn.Module):
    """One weight used twice, and a running mean in a buffer."""

    def __init__(self):
        self.inner = nn.Linear(4, 4)
        self.register_buffer("mean", accel.zeros(4))

    def forward(self, x):
        if self.training:
            with accel.no_grad():
                self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        return self.inner(self.inner(x - self.mean))


@pytest.mark.parametrize("compiled", [False, True])
def test_shared_weights_and_a_running_mean(compiled):
    accel.manual_seed(1)
    model = Tied()
    x = normal(20, 4) + 3
    f = accel.compile(lambda x: model(x)) if compiled else model
    w, b = model.inner.weight.numpy().copy(), model.inner.bias.numpy().copy()
    mean = np.zeros(4, np.float32)
    for _ in range(3):
        mean = 0.9 * mean + 0.1 * x.mean(axis=0)
        expected = ((x - mean) @ w.T + b) @ w.T + b
        np.testing.assert_allclose(f(accel.asarray(x)).numpy(), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.mean.numpy(), mean, rtol=1e-5)
    model.eval()
    f(accel.asarray(x)).numpy()
    np.testing.assert_allclose(model.mean.numpy(), mean, rtol=1e-5)


def test_an_embedding_classifier_learns():
    accel.manual_seed(0)
    words = np.random.default_rng(0).integers(0, 20, (64, 5))
    labels = (words.min(axis=1) < 3).astype(np.int64)
    embedding, head = nn.Embedding(20, 8), nn.Linear(8, 2)
    optimizer = optim.Adam([*embedding.parameters(), *head.parameters()], lr=0.05)

    @accel.compile
    def step(words, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(head(embedding(words).mean(dim=1)), labels)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(words, labels).item() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_gradient_clipping_by_hand():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    x, y = map(accel.asarray, problem())
    before = [p.numpy().copy() for p in model.parameters()]

    @accel.compile
    def step():
        optimizer.zero_grad()
        (100 * F.cross_entropy(model(x), y)).backward()
        norm = accel.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
        scale = accel.clamp(0.5 / norm, max=1.0)
        for p in model.parameters():
            p.grad = p.grad * scale
        optimizer.step()
        return norm

    assert step().item() > 0.5
    moved = [p.numpy() - b for p, b in zip(model.parameters(), before, strict=True)]
    assert math.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.5, rel=1e-3)


def test_second_derivatives():
    x = normal(6)
    f = accel.grad(lambda x: (accel.sin(x) * x**2).sum())
    g = accel.compile(accel.grad(lambda x: f(x).sum()))
    expected = 2 * np.sin(x) + 4 * x * np.cos(x) - x**2 * np.sin(x)
    np.testing.assert_allclose(g(accel.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_saved_and_restored_training_goes_on_as_if_nothing_happened(tmp_path):
    model = classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    train(model, optimizer, True, 3)
    path = str(tmp_path / "model.safetensors")
    accel.save_safetensors(model.state_dict(), path)
    kept = optimizer.state_dict()
    fresh = classifier()
    fresh.load_state_dict(accel.load_safetensors(path))
    other = optim.Adam(fresh.parameters(), lr=0.5)
    other.load_state_dict(kept)
    np.testing.assert_allclose(
        train(fresh, other, True, 3), train(model, optimizer, True, 3), rtol=1e-4
    )
