"""Gradients: backward, the transforms, nesting, inside compiled functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import ArgumentError, GradientError, NotAnArrayError, ShapeError
from accel.frontend.recording import record


def total(x):
    return record("sum", x)


def test_backward_accumulates_into_leaves():
    x = Tensor([1.0, 2.0], requires_grad=True)
    total(x * x).backward()
    assert x.grad.tolist() == [2, 4]
    total(x * 3).backward()
    assert x.grad.tolist() == [5, 7]
    assert not x.grad.requires_grad
    x.grad = None
    assert x.grad is None


def test_backward_is_lazy_and_shares_the_forward_pass():
    x = Tensor([1.0, 2.0], requires_grad=True)
    loss = total(record("exp", x))
    loss.backward()
    assert x.grad._value.data is None
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1, 2]), rtol=1e-6)


def test_backward_can_be_called_again_and_after_reading():
    x = Tensor([2.0], requires_grad=True)
    loss = total(x**3)
    assert loss.item() == 8
    loss.backward()
    loss.backward()
    assert x.grad.tolist() == [24]


def test_backward_with_a_cotangent():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).backward(Tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]
    with pytest.raises(ShapeError):
        (x * x).backward(Tensor([1.0]))
    with pytest.raises(GradientError, match="cotangent"):
        (x * x).backward()


def test_backward_without_a_leaf_says_so():
    with pytest.raises(GradientError, match="requires_grad"):
        total(Tensor([1.0])).backward()


def test_only_floating_tensors_require_gradients():
    with pytest.raises(GradientError, match="int64"):
        Tensor([1], requires_grad=True)
    with pytest.raises(GradientError):
        Tensor([1]).requires_grad_()


def test_leaves_and_detach():
    x = Tensor([1.0], requires_grad=True)
    y = x * 2
    assert x.is_leaf and not y.is_leaf and y.requires_grad
    assert y.detach().is_leaf and not y.detach().requires_grad
    with pytest.raises(GradientError, match="detach"):
        y.requires_grad_(False)
    assert not x.requires_grad_(False).requires_grad
    assert not accel.stop_gradient(y).requires_grad


def test_detach_cuts_the_path():
    x = Tensor([3.0], requires_grad=True)
    (total(x * x.detach())).backward()
    assert x.grad.tolist() == [3]


def test_one_buffer_two_roles():
    x = Tensor([3.0])
    assert accel.grad(lambda a: total(a * x))(x).tolist() == [3]


def test_no_grad_and_enable_grad_as_blocks_and_decorators():
    x = Tensor([1.0], requires_grad=True)
    with accel.no_grad():
        assert not (x * 2).requires_grad
        with accel.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @accel.no_grad()
    def quiet(x):
        return x * 2

    @accel.no_grad
    def silent(x):
        return x * 2

    assert not quiet(x).requires_grad and not silent(x).requires_grad
    assert quiet.__name__ == "quiet" and silent.__name__ == "silent"


def test_a_leaf_is_changed_under_no_grad_only():
    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(GradientError, match="no_grad"):
        x += 1
    old = total(x * x)
    with accel.no_grad():
        x += 1
    assert x.is_leaf and x.requires_grad and x.tolist() == [2]
    total(x * x).backward()
    assert x.grad.tolist() == [4]
    old.backward()  # of the value that x had then
    assert x.grad.tolist() == [6]


def test_data_rebinds_without_gradients():
    x = Tensor([1.0], requires_grad=True)
    x.data = Tensor([5.0])
    assert x.requires_grad and x.is_leaf and x.tolist() == [5]
    assert not x.data.requires_grad


def test_in_place_on_computed_tensors_carries_gradients():
    x = Tensor([2.0], requires_grad=True)
    y = x * 3
    y *= x
    total(y).backward()
    assert x.grad.tolist() == [12]


def test_grad_of_trees():
    @dataclasses.dataclass
    class Params:
        w: object
        b: object

    def loss(params, x):
        return total(params.w * x) + total(params.b)

    found = accel.grad(loss)(Params(Tensor([1.0, 2.0]), Tensor([3.0])), np.float32([5, 6]))
    assert isinstance(found, Params) and found.w.tolist() == [5, 6] and found.b.tolist() == [1]
    nested = accel.grad(lambda p: total(p["a"][0] * p["a"][1]))(
        {"a": [Tensor([2.0]), Tensor([7.0])]}
    )
    assert nested["a"][0].tolist() == [7] and nested["a"][1].tolist() == [2]


def test_argnums_aux_and_zeros_for_independent_arguments():
    def fn(x, y, z):
        return total(x * y), {"double": x * 2}

    (value, aux), (gy, gz) = accel.value_and_grad(fn, argnums=(1, -1), has_aux=True)(
        Tensor([2.0]), Tensor([3.0]), Tensor([1.0, 1.0])
    )
    assert value.item() == 6 and aux["double"].tolist() == [4]
    assert gy.tolist() == [2] and gz.tolist() == [0, 0]
    assert not value.requires_grad and not aux["double"].requires_grad and not gy.requires_grad
    with pytest.raises(ArgumentError, match="argnums"):
        accel.grad(fn, argnums=5)(1.0, 2.0, 3.0)


def test_gradient_errors_name_the_argument():
    with pytest.raises(GradientError, match="argument 0"):
        accel.grad(total)(Tensor([1]))
    with pytest.raises(NotAnArrayError, match="argument 0"):
        accel.grad(total)("text")
    with pytest.raises(GradientError, match="shape"):
        accel.grad(lambda x: x)(Tensor([1.0, 2.0]))
    with pytest.raises(GradientError):
        accel.grad(lambda x: 3)(Tensor([1.0]))


def test_higher_orders():
    cube = lambda x: x**3  # noqa: E731
    assert accel.grad(cube)(2.0).item() == 12
    assert accel.grad(accel.grad(cube))(2.0).item() == 12
    assert accel.grad(accel.grad(accel.grad(cube)))(2.0).item() == 6


def test_a_gradient_penalty_reaches_leaves():
    w = Tensor([3.0], requires_grad=True)
    slope = accel.grad(lambda x: total(w * x * x))(Tensor([2.0]))
    assert slope.requires_grad  # through w
    total(slope * slope).backward()
    assert w.grad.tolist() == [96]  # d/dw (4w)^2


def test_vjp_and_jvp():
    x, y = Tensor([2.0, 3.0]), Tensor([5.0, 7.0])
    value, pullback = accel.vjp(lambda a, b: {"p": a * b, "s": a + b}, x, y)
    assert value["p"].tolist() == [10, 21]
    ga, gb = pullback({"p": Tensor([1.0, 1.0]), "s": Tensor([1.0, 0.0])})
    assert ga.tolist() == [6, 7] and gb.tolist() == [3, 3]
    value, slope = accel.jvp(lambda a: record("sin", a), [x], [Tensor([1.0, 2.0])])
    np.testing.assert_allclose(slope.numpy(), np.cos([2, 3]) * [1, 2], rtol=1e-6)


def test_finite_differences_of_a_small_network():
    rng = np.random.default_rng(0)
    x, w1, w2 = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(5, 2))

    def loss(w1, w2):
        return record("mean", record("square", record("tanh", Tensor(x) @ w1) @ w2))

    found = accel.grad(loss, argnums=(0, 1))(w1, w2)
    for array, gradient in zip((w1, w2), found, strict=True):
        for _ in range(4):
            place = tuple(rng.integers(n) for n in array.shape)
            old = array[place]
            array[place] = old + 1e-6
            high = loss(Tensor(w1), Tensor(w2)).item()
            array[place] = old - 1e-6
            low = loss(Tensor(w1), Tensor(w2)).item()
            array[place] = old
            np.testing.assert_allclose(gradient.numpy()[place], (high - low) / 2e-6, rtol=1e-5)


def test_gradients_inside_a_compiled_function():
    w = Tensor([1.0, 2.0], requires_grad=True)

    @accel.compile
    def step(x):
        w.grad = None
        loss = total(w * w * x)
        loss.backward()
        with accel.no_grad():
            w.copy_(w - 0.5 * w.grad)
        return loss

    assert step(Tensor([1.0, 1.0])).item() == 5
    assert w.tolist() == [0, 0] and w.grad.tolist() == [2, 4] and w.is_leaf and w.requires_grad
    assert step(Tensor([1.0, 1.0])).item() == 0
    assert step.cache_info().misses == 1


def test_a_compiled_function_can_be_differentiated_from_outside():
    w = Tensor([2.0, 3.0], requires_grad=True)

    @accel.compile
    def model(x):
        return record("exp", w * x)

    x = Tensor([0.5, 1.0], requires_grad=True)
    total(model(x) * 2).backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * x.numpy() * np.exp([1, 3]), rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), 2 * w.numpy() * np.exp([1, 3]), rtol=1e-6)
    direct = accel.grad(lambda v: total(model(v)))(x)
    np.testing.assert_allclose(direct.numpy(), w.numpy() * np.exp([1, 3]), rtol=1e-6)
    with accel.no_grad():
        assert not model(x).requires_grad


def test_compiled_and_plain_gradients_agree_to_second_order():
    def second(x):
        slope = accel.grad(lambda u: total(record("sin", u * u)))
        return accel.grad(lambda v: total(slope(v) ** 2))(x)

    x = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(accel.compile(second)(x).numpy(), second(x).numpy(), rtol=1e-12)


def test_grad_of_a_compiled_loss_with_accumulated_gradients():
    w = Tensor([1.0], requires_grad=True)

    @accel.compile
    def accumulate(x):
        total(w * x).backward()

    accumulate(Tensor([2.0]))
    assert w.grad.tolist() == [2]
    accumulate(Tensor([3.0]))  # a gradient is attached now: traced again, once
    accumulate(Tensor([4.0]))
    assert w.grad.tolist() == [9]
    assert accumulate.cache_info().misses == 2
