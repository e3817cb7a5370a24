"""Checkpoints: the same gradients from less memory."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import accel
from accel import nn
from accel.errors import GradientError, NotAnArrayError


def block(h, w):
    for _ in range(3):
        h = accel.tanh(h @ w)
    return h


def weights(count, n=64):
    rng = np.random.default_rng(1)
    made = (rng.standard_normal((n, n)) / np.sqrt(n) for _ in range(count))
    return [accel.asarray(w.astype(np.float32)) for w in made]


def loss_of(x, ws, again):
    h = x
    for w in ws:
        h = accel.checkpoint(block, h, w) if again else block(h, w)
    return (h * h).mean()


def lazy(x, ws, again, read):
    leaves = [w.clone().detach().requires_grad_() for w in ws]
    loss = loss_of(x, leaves, again)
    if read:
        loss.item()
    loss.backward()
    accel.eval([w.grad for w in leaves])
    return [w.grad.numpy() for w in leaves]


def compiled(x, ws, again):
    found = accel.compile(lambda x, ws: accel.grad(lambda ws: loss_of(x, ws, again))(ws))(x, ws)
    return [g.numpy() for g in found]


def peak(run):
    gc.collect()
    accel.empty_cache()
    accel.reset_peak_memory()
    before = accel.memory_allocated()
    run()
    return accel.max_memory_allocated() - before


@pytest.mark.parametrize("read", [False, True])
def test_gradients_are_the_same(read):
    x, ws = accel.asarray(np.linspace(-1, 1, 640, dtype=np.float32).reshape(10, 64)), weights(3)
    wanted = lazy(x, ws, False, read)
    for found in (lazy(x, ws, True, read), compiled(x, ws, True)):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_gradients_take_less_memory():
    x, ws = accel.ones((8192, 64)), weights(8)
    size = x.nbytes
    plain, less = (peak(lambda again=again: compiled(x, ws, again)) for again in (False, True))
    assert plain > 24 * size  # an activation for each of 24 products
    assert less < 8 * size + 9 * size  # each block's input, and what lives inside of one
    for read in (False, True):
        assert peak(lambda read=read: lazy(x, ws, True, read)) < 17 * size


def test_the_forward_pass_keeps_inputs_alone():
    x, (w,) = accel.ones((4096, 64)), weights(1)
    w.requires_grad_()
    h = accel.checkpoint(block, x, w)
    gc.collect()
    before = accel.memory_allocated()
    accel.eval(h)
    assert accel.memory_allocated() - before == h.nbytes


def test_work_is_done_again_and_only_there():
    x, (w,) = accel.ones((8, 64)), weights(1)

    def slope(again):
        f = accel.compile(lambda x, w: accel.grad(lambda w: loss_of(x, [w], again))(w))
        return f.graph(x, w, stage="recorded")

    assert slope(False).count("tanh") == 3
    assert slope(True).count("tanh") == 6
    assert slope(True).count("barrier") == 2


def test_second_order():
    def f(x):
        return (accel.sin(x) * x).sum()

    def slope(g):
        return accel.grad(lambda x: accel.grad(g)(x).sum())

    x = accel.asarray([0.5, 1.5])
    again = slope(lambda x: accel.checkpoint(f, x))(x)
    np.testing.assert_allclose(again.numpy(), slope(f)(x).numpy(), rtol=1e-6)


def test_dropout_draws_the_same_numbers_both_times():
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5))
    x = accel.ones((4, 16)).requires_grad_()
    accel.manual_seed(3)
    model(x).sum().backward()
    wanted, x.grad = x.grad.numpy(), None
    accel.manual_seed(3)
    accel.checkpoint(model, x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), wanted)
    assert model[0].weight.grad is not None


def test_trees_decorators_and_what_needs_no_gradient():
    @accel.checkpoint
    def f(pair, *, scale):
        """Documented."""
        return {"sum": (pair[0] + pair[1]) * scale, "first": pair[0], "count": pair[2] + 1}

    a, b = accel.asarray([1.0, 2.0]).requires_grad_(), accel.asarray([3.0, 4.0])
    found = f((a, b, accel.asarray(1)), scale=2.0)
    assert f.__doc__ == "Documented."
    assert found["count"].item() == 2 and not found["count"].requires_grad
    (found["sum"].sum() + found["first"].sum()).backward()
    assert a.grad.tolist() == [3.0, 3.0]
    with accel.no_grad():
        assert not accel.checkpoint(block, a[None], accel.ones((2, 2))).requires_grad


def test_a_result_that_is_no_array():
    with pytest.raises(NotAnArrayError, match="returned str"):
        accel.checkpoint(lambda x: "text", accel.ones(2).requires_grad_())


@pytest.mark.torch
def test_on_torch():
    x, ws = accel.ones((4, 64)), weights(2)
    wanted = compiled(x, ws, False)
    with accel.mode("torch"):
        for a, b in zip(compiled(x, ws, True), wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_checkpoints_in_each_other():
    def inner(x):
        return accel.sin(x) * x

    def outer(x):
        return accel.checkpoint(inner, accel.exp(accel.checkpoint(inner, x)))

    x = accel.asarray([0.5, 1.5])
    plain = lambda x: inner(accel.exp(inner(x))).sum()  # noqa: E731
    nested = lambda x: accel.checkpoint(outer, x).sum()  # noqa: E731
    for derive in (accel.grad, accel.hessian, lambda f: accel.compile(accel.grad(f))):
        np.testing.assert_allclose(derive(nested)(x).numpy(), derive(plain)(x).numpy(), rtol=1e-6)


def test_forward_mode():
    w = weights(1)[0]
    x = accel.asarray(np.linspace(-1, 1, 640, dtype=np.float32).reshape(10, 64))
    wanted, slope = accel.jvp(lambda x: block(x, w), [x], [x])
    value, found = accel.jvp(lambda x: accel.checkpoint(block, x, w), [x], [x])
    np.testing.assert_array_equal(value.numpy(), wanted.numpy())
    np.testing.assert_array_equal(found.numpy(), slope.numpy())


def test_complex_numbers():
    def f(z):
        return accel.exp(z) * z.conj()

    z = accel.asarray(np.array([0.5 + 1j, -1 + 0.25j]))
    plain = accel.grad(lambda z: (f(z).abs() ** 2).sum())(z)
    again = accel.grad(lambda z: (accel.checkpoint(f, z).abs() ** 2).sum())(z)
    np.testing.assert_allclose(again.numpy(), plain.numpy(), rtol=1e-14)


def test_what_stops_inside():
    def f(x):
        return x * accel.stop_gradient(x), accel.stop_gradient(x)

    x = accel.asarray([3.0]).requires_grad_()
    product, stopped = accel.checkpoint(f, x)
    assert product.requires_grad and not stopped.requires_grad
    product.sum().backward()
    assert x.grad.tolist() == [3.0]
    with pytest.raises(GradientError, match="requires_grad"):
        accel.checkpoint(accel.stop_gradient, x).sum().backward()


@pytest.mark.torch
def test_in_auto_mode():
    x, ws = accel.ones((64, 64)), weights(2)
    wanted = compiled(x, ws, False)
    threshold = accel.get_threshold("matmul")
    try:
        accel.set_threshold("matmul", 1000)  # products go to torch, the rest stays here
        with accel.mode("auto"):
            for found in (compiled(x, ws, True), lazy(x, ws, True, False)):
                for a, b in zip(found, wanted, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    finally:
        accel.set_threshold("matmul", threshold)
