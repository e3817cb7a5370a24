"""Optimizers: their formulas, their state, and what they do under compile."""

from __future__ import annotations

import re

import numpy as np
import pytest

import accel
from accel import errors, nn, optim
from accel.nn import functional

RNG = np.random.default_rng(0)
START = RNG.normal(size=(3, 2))
GRADIENTS = RNG.normal(size=(6, 3, 2))


def sgd(momentum=0.0, weight_decay=0.0, nesterov=False, lr=0.1):
    value, velocity = START.copy(), np.zeros_like(START)
    for gradient in GRADIENTS:
        gradient = gradient + weight_decay * value
        velocity = momentum * velocity + gradient
        value = value - lr * (gradient + momentum * velocity if nesterov else velocity)
    return value


def adam(weight_decay=0.0, decoupled=False, lr=0.1, betas=(0.9, 0.999), eps=1e-8):
    value, mean, square = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for step, gradient in enumerate(GRADIENTS, 1):
        if decoupled:
            value = value * (1 - lr * weight_decay)
        else:
            gradient = gradient + weight_decay * value
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        corrected = np.sqrt(square / (1 - betas[1] ** step)) + eps
        value = value - lr * mean / (1 - betas[0] ** step) / corrected
    return value


CASES = {
    "sgd": (optim.SGD, {}, sgd()),
    "momentum": (optim.SGD, {"momentum": 0.9}, sgd(0.9)),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}, sgd(0.9, nesterov=True)),
    "decay": (optim.SGD, {"weight_decay": 0.1, "momentum": 0.5}, sgd(0.5, 0.1)),
    "adam": (optim.Adam, {}, adam()),
    "adam betas": (optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3},
                   adam(betas=(0.5, 0.9), eps=1e-3)),
    "adam decay": (optim.Adam, {"weight_decay": 0.1}, adam(0.1)),
    "adamw": (optim.AdamW, {"weight_decay": 0.1}, adam(0.1, decoupled=True)),
}  # fmt: skip


def run(cls, settings, *, compiled: bool, dtype=np.float64):
    """Six steps along GRADIENTS: the loss is their product with the parameter."""
    weight = nn.Parameter(accel.asarray(START.astype(dtype)))
    optimizer = cls([weight], lr=0.1, **settings)

    def step(gradient):
        optimizer.zero_grad()
        (weight * gradient).sum().backward()
        optimizer.step()

    step = accel.compile(step) if compiled else step
    for gradient in GRADIENTS.astype(dtype):
        step(accel.asarray(gradient))
    return weight.numpy()


@pytest.mark.parametrize("compiled", [False, True], ids=["lazy", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_formulas(case: str, compiled: bool) -> None:
    cls, settings, expected = CASES[case]
    np.testing.assert_allclose(run(cls, settings, compiled=compiled), expected, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_single_precision(case: str) -> None:
    cls, settings, expected = CASES[case]
    found = run(cls, settings, compiled=True, dtype=np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def linear_step(optimizer, layer, compiled=True):
    def step(x, y):
        optimizer.zero_grad()
        loss = functional.mse_loss(layer(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return accel.compile(step) if compiled else step


def test_new_hyperparameters_take_effect_and_compile_nothing() -> None:
    weight = nn.Parameter(accel.zeros((2,)))
    optimizer = optim.SGD([weight], lr=1.0)

    @accel.compile
    def step(gradient):
        optimizer.zero_grad()
        (weight * gradient).sum().backward()
        optimizer.step()

    one = accel.ones((2,))
    step(one)
    before = step.cache_info()
    optimizer.param_groups[0]["lr"] = 0.25
    step(one)
    assert weight.tolist() == [-1.25, -1.25]
    after = step.cache_info()
    assert (after.misses, after.size) == (before.misses, before.size)


def test_switching_weight_decay_on_is_seen() -> None:
    weight = nn.Parameter(accel.ones((1,)))
    optimizer = optim.SGD([weight], lr=0.5)

    @accel.compile
    def step(gradient):
        optimizer.zero_grad()
        (weight * gradient).sum().backward()
        optimizer.step()

    zero = accel.zeros((1,))
    step(zero)
    assert weight.tolist() == [1.0]
    optimizer.param_groups[0]["weight_decay"] = 1.0
    step(zero)
    assert weight.tolist() == [0.5]


def test_parameter_without_gradient_is_left_alone() -> None:
    used, unused = nn.Parameter(accel.ones((1,))), nn.Parameter(accel.ones((1,)))
    optimizer = optim.AdamW([used, unused], lr=0.1)
    (used * 2).sum().backward()
    optimizer.step()
    assert unused.tolist() == [1.0] and used.tolist() != [1.0]
    assert optimizer.state[1]["step"].item() == 0.0


def test_groups_differ() -> None:
    slow, fast = nn.Parameter(accel.ones((1,))), nn.Parameter(accel.ones((1,)))
    optimizer = optim.SGD([{"params": [slow]}, {"params": [fast], "lr": 0.5}], lr=0.1)
    (slow + fast).sum().backward()
    optimizer.step()
    np.testing.assert_allclose([slow.item(), fast.item()], [0.9, 0.5], rtol=1e-6)
    assert "lr=0.5" in repr(optimizer)


def test_state_dict_resumes_exactly() -> None:
    def build():
        accel.manual_seed(0)
        layer = nn.Linear(3, 1)
        return layer, optim.Adam(layer.parameters(), lr=0.05)

    x = accel.asarray(RNG.normal(size=(8, 3)).astype(np.float32))
    y = accel.asarray(RNG.normal(size=(8, 1)).astype(np.float32))
    layer, optimizer = build()
    step = linear_step(optimizer, layer)
    for _ in range(3):
        step(x, y)
    saved_layer, saved = layer.state_dict(), optimizer.state_dict()
    for _ in range(3):
        step(x, y)

    other, resumed = build()
    other.load_state_dict(saved_layer)
    resumed.load_state_dict(saved)
    again = linear_step(resumed, other)
    for _ in range(3):
        again(x, y)
    np.testing.assert_array_equal(other.weight.numpy(), layer.weight.numpy())


def test_state_dict_of_another_optimizer_is_refused() -> None:
    weight = nn.Parameter(accel.ones((2,)))
    adam_ = optim.Adam([weight])
    with pytest.raises(errors.ArgumentError, match="state"):
        adam_.load_state_dict(optim.SGD([weight]).state_dict())
    with pytest.raises(errors.ArgumentError, match="parameters"):
        adam_.load_state_dict(optim.Adam([weight, nn.Parameter(accel.ones(()))]).state_dict())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: optim.SGD([], lr=0.1), "no parameters"),
        (lambda p: optim.SGD([p], lr=-1.0), "lr"),
        (lambda p: optim.SGD([p], momentum=1.5), "momentum"),
        (lambda p: optim.SGD([p], nesterov=True), "Nesterov"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), "betas"),
        (lambda p: optim.Adam([p], eps=-1e-8), "eps"),
        (lambda p: optim.Adam([p, p]), "twice"),
        (lambda p: optim.AdamW([p], lr=float("nan")), "lr"),
    ],
)
def test_bad_arguments(make, match: str) -> None:
    with pytest.raises(errors.ArgumentError, match=match):
        make(nn.Parameter(accel.ones((2,))))


def test_bad_parameters() -> None:
    weight = nn.Parameter(accel.ones((2,)))
    with pytest.raises(errors.NotAnArrayError, match="iterable"):
        optim.SGD(weight, lr=0.1)  # type: ignore[arg-type]
    with pytest.raises(errors.NotAnArrayError, match="int"):
        optim.SGD([weight, 3], lr=0.1)


def test_a_regression_is_learned() -> None:
    accel.manual_seed(0)
    x = RNG.normal(size=(128, 4)).astype(np.float32)
    true = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)
    layer = nn.Linear(4, 1)
    step = linear_step(optim.Adam(layer.parameters(), lr=0.1), layer)
    for _ in range(300):
        loss = step(x, x @ true.T + 0.7)
    assert loss.item() < 1e-5
    np.testing.assert_allclose(layer.weight.numpy(), true, atol=1e-2)
    assert step.cache_info().misses == 1


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_deep_models_have_the_code_of_shallow_ones(name: str) -> None:
    x, y = np.ones((8, 4), np.float32), np.zeros((8, 4), np.float32)

    def code(depth: int) -> set[str]:
        layers = nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)])
        step = linear_step(getattr(optim, name)(layers.parameters(), lr=0.1), layers)
        with accel.mode("pure"):
            return set(re.findall(r"(?:loop|copy) (\w+)", str(step.explain(x, y))))

    assert code(5) == code(13)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_training_matches_torch(name: str) -> None:
    import torch

    settings = {"lr": 0.05, "weight_decay": 0.01} | ({"momentum": 0.9} if name == "SGD" else {})
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    ours = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    their_optimizer = getattr(torch.optim, name)(theirs.parameters(), **settings)
    our_step = linear_step(getattr(optim, name)(ours.parameters(), **settings), ours)
    x, y = RNG.normal(size=(16, 4)).astype(np.float32), RNG.normal(size=(16, 1)).astype(np.float32)
    for _ in range(20):
        their_optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        their_optimizer.step()
        our_loss = our_step(x, y)
    assert our_loss.item() == pytest.approx(loss.item(), rel=1e-3)
    expected = theirs[0].weight.detach().numpy()
    np.testing.assert_allclose(ours[0].weight.numpy(), expected, rtol=1e-3, atol=1e-4)


SCALE = 2.0


class Scaled(optim.SGD):
    """An optimizer of the user's, whose step reads a global."""

    def _update(self, parameter, gradient, state, group):
        super()._update(parameter, gradient * SCALE, state, group)


def test_what_a_users_own_update_reads_is_guarded(monkeypatch) -> None:
    """Compiled steps are not watched inside the library's own optimizers, but in others."""
    weight = accel.asarray(START.copy()).requires_grad_()
    optimizer = Scaled([weight], lr=0.5)

    @accel.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    step(np.ones_like(START))
    np.testing.assert_allclose(weight.detach().numpy(), START - 1.0)
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    step(np.ones_like(START))
    np.testing.assert_allclose(weight.detach().numpy(), START - 3.0)
