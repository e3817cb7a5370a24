"""Functions with gradients of their own."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.errors import GradientError


def clipping(limit=1.0):
    """x * y, with gradients of at most `limit`."""

    @accel.custom_vjp
    def product(x, y):
        """Documented."""
        return x * y

    def bwd(residuals, g):
        x, y = residuals
        return accel.clip(g * y, -limit, limit), accel.clip(g * x, -limit, limit)

    product.defvjp(lambda x, y: (x * y, (x, y)), bwd)
    return product


X, Y = np.array([0.5, -4.0, 3.0]), np.array([2.0, 0.25, -0.5])


def test_the_rule_is_the_gradient():
    product = clipping()
    assert product.__doc__ == "Documented." and product.__name__ == "product"
    by_x, by_y = accel.grad(lambda x, y: (product(x, y) * 2).sum(), argnums=(0, 1))(X, Y)
    np.testing.assert_array_equal(by_x.numpy(), [1, 0.5, -1])
    np.testing.assert_array_equal(by_y.numpy(), [1, -1, 1])
    np.testing.assert_array_equal(product(accel.asarray(X), Y).numpy(), X * Y)
    named = accel.grad(lambda x: product(y=Y, x=x).sum())(X)
    np.testing.assert_array_equal(named.numpy(), np.clip(Y, -1, 1))


def test_of_tensors_and_before_and_after_reading():
    product = clipping()
    for read in (False, True):
        x = accel.asarray(X).requires_grad_()
        y = accel.exp(product(accel.sin(x), accel.asarray(Y)))
        if read:
            y.numpy()
        y.sum().backward()
        z = np.sin(X) * Y
        wanted = np.clip(np.exp(z) * Y, -1, 1) * np.cos(X)
        np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-12)


def test_inside_compiled_functions_and_through_them():
    product = clipping()
    inside = accel.compile(accel.grad(lambda x: product(x, accel.asarray(Y)).sum()))
    np.testing.assert_array_equal(inside(X).numpy(), np.clip(Y, -1, 1))
    compiled = accel.compile(lambda x: product(x, accel.asarray(Y)) * 1)
    x = accel.asarray(X).requires_grad_()
    for _ in range(2):
        x.grad = None
        compiled(x).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.clip(Y, -1, 1))


def test_fuses_with_its_surroundings():
    product = clipping()
    slope = accel.compile(accel.grad(lambda x: (accel.exp(product(x, x)) * 2).sum()))
    assert slope.graph(X, stage="placed").count("region") == 1
    assert accel.parse(str(slope.graph(X, stage="recorded"))) == slope.graph(X, stage="recorded")


def test_second_order_and_forward_mode():
    @accel.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (g * x * x * 30,))  # ten times too steep
    x = accel.asarray(X)
    np.testing.assert_allclose(
        accel.grad(lambda x: accel.grad(lambda x: cube(x).sum())(x).sum())(x).numpy(), 60 * X
    )
    value, slope = accel.jvp(cube, [x], [accel.ones_like(x)])
    np.testing.assert_allclose(value.numpy(), X**3)
    np.testing.assert_allclose(slope.numpy(), 30 * X * X)
    found = accel.grad(lambda x: accel.checkpoint(cube, x).sum())(x)
    np.testing.assert_allclose(found.numpy(), 30 * X * X)


def test_trees_several_results_and_what_has_no_gradient():
    @accel.custom_vjp
    def f(pair, index, scale):
        return {"a": pair["x"][index] * scale, "b": pair["y"] + 1}

    def bwd(index, g):
        x = accel.zeros(3, dtype=accel.float64)
        x[index] = g["a"]
        return {"x": x, "y": g["b"] * 100}, None, None

    f.defvjp(lambda pair, index, scale: (f(pair, index, scale), index), bwd)
    pair = {"x": accel.asarray(X), "y": accel.asarray(Y)}
    index = accel.asarray(2)
    value, pullback = accel.vjp(lambda pair: f(pair, index, 7.0), pair)
    assert value["a"].item() == 21
    (found,) = pullback({"a": accel.asarray(2.0), "b": accel.asarray(Y)})
    np.testing.assert_array_equal(found["x"].numpy(), [0, 0, 2])
    np.testing.assert_array_equal(found["y"].numpy(), 100 * Y)
    with accel.no_grad():
        assert not f(pair, index, 7.0)["a"].requires_grad


def test_errors():
    x = accel.asarray(X).requires_grad_()

    def of(fwd, bwd):
        f = accel.custom_vjp(lambda x, y: x * y)
        f.defvjp(fwd, bwd)
        return f

    rule = lambda x, y: (x * y, None)  # noqa: E731
    with pytest.raises(GradientError, match="defvjp"):
        accel.custom_vjp(lambda x: x)(x)
    with pytest.raises(GradientError, match="pair"):
        of(lambda x, y: x * y, lambda r, g: (g, None))(x, Y)
    with pytest.raises(GradientError, match="1 gradients for 2"):
        of(rule, lambda r, g: g)(x, Y)
    with pytest.raises(GradientError, match=r"shape \[\]"):
        of(rule, lambda r, g: (g.sum(), None))(x, Y)
    with pytest.raises(GradientError, match="tree"):
        of(rule, lambda r, g: ((g, g), None))(x, Y)
    with pytest.raises(GradientError, match="as an argument"):
        of(lambda a, b: (a * x, None), lambda r, g: (g, None))(x * 1, Y)


def test_residuals_of_compiled_functions_reach_second_order():
    @accel.custom_vjp
    def f(x):
        return accel.sin(x)

    cosine = accel.compile(accel.cos)
    f.defvjp(lambda x: (f(x), cosine(x)), lambda cos, g: (g * cos,))
    x = accel.asarray(X)
    found = accel.grad(lambda x: accel.grad(lambda x: f(x).sum())(x).sum())(x)
    np.testing.assert_allclose(found.numpy(), -np.sin(X), rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["torch", "auto"])
def test_on_torch(mode):
    product = clipping()
    with accel.mode(mode):
        found = accel.compile(accel.grad(lambda x: product(x, accel.asarray(Y)).sum()))(X)
        np.testing.assert_array_equal(found.numpy(), np.clip(Y, -1, 1))
