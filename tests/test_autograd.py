"""Gradients: backward, the transforms, nesting, inside compiled functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import ArgumentError, GradientError, NotAnArrayError, ShapeError
from accel.frontend.tensors.recording import record


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


# -- forward mode, Jacobians and Hessians --------------------------------------------------------
def test_a_derivative_along_a_direction_is_one_kernel():
    def chain(x):
        for op in ("sin", "exp", "tanh", "square", "sigmoid", "sqrt", "log1p", "cos", "atan"):
            x = record(op, x)
        return x * 2

    push = accel.compile(lambda x, t: accel.jvp(chain, [x], [t])[1])
    x, t = np.linspace(0.1, 1, 50), np.ones(50)
    placed = push.graph(x, t, stage="placed")
    assert placed.count("region") == 1
    assert placed.count("sin", "exp", "tanh", "sigmoid", "sqrt", "log1p") == 7  # cos's slope: sin
    slope = (chain(Tensor(x + 1e-6)).numpy() - chain(Tensor(x - 1e-6)).numpy()) / 2e-6
    np.testing.assert_allclose(push(x, t).numpy(), slope, rtol=1e-7)


def test_forward_mode_records_no_pullback():
    graph = accel.compile(lambda x, t: accel.jvp(lambda x: x @ x @ x, [x], [t])).graph(
        np.eye(3), np.eye(3), stage="optimized"
    )
    assert graph.count("matmul") == 6  # of value and derivative, which shares them
    assert graph.count("permute") == 0


def test_jvp_of_trees_with_aux_and_what_does_not_move():
    def f(pair, y):
        product = pair["a"] * pair["b"]
        return (product, y.sum(), accel.argmax(y)), {"aux": product + 1}

    a, b, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0]), Tensor([5.0, 6.0])
    value, slope, aux = accel.jvp(
        f, [{"a": a, "b": b}, y], [{"a": b, "b": a}, accel.zeros(2)], has_aux=True
    )
    assert value[0].tolist() == [3, 8] and slope[0].tolist() == [10, 20]
    assert slope[1].item() == 0 and slope[2].item() == 0 and slope[2].dtype == accel.int64
    assert aux["aux"].tolist() == [4, 9]
    assert not value[0].requires_grad and not slope[0].requires_grad
    value, pullback, aux = accel.vjp(lambda x: (x * x, "more"), a, has_aux=True)
    assert aux == "more" and pullback(a)[0].tolist() == [2, 8]


def test_jvp_errors():
    x = Tensor([1.0, 2.0])
    square = lambda x: x * x  # noqa: E731
    with pytest.raises(ShapeError, match="tangent of shape"):
        accel.jvp(square, [x], [Tensor([1.0])])
    with pytest.raises(GradientError, match="structure"):
        accel.jvp(square, [x], [(x, x)])
    with pytest.raises(GradientError, match="2 tangents for 1"):
        accel.jvp(square, [x], [x, x])
    with pytest.raises(GradientError, match="argument 0, a tensor of int64"):
        accel.jvp(square, [Tensor([1])], [x])
    with pytest.raises(ArgumentError, match="lists"):
        accel.jvp(square, x, x)
    with pytest.raises(GradientError, match="pair"):
        accel.jvp(square, [x], [x], has_aux=True)
    with pytest.raises(GradientError, match="structure"):
        accel.vjp(square, x)[1]((x, x))


def test_modes_nest_in_each_other():
    def f(x):
        return (accel.sin(x) * x).sum()

    x, v = Tensor(np.linspace(0.1, 1, 5)), Tensor(np.arange(5.0))
    wanted = accel.hessian(f)(x).numpy() @ v.numpy()
    forward_over_reverse = accel.jvp(accel.grad(f), [x], [v])[1]
    reverse_over_forward = accel.grad(lambda x: accel.jvp(f, [x], [v])[1])(x)
    twice = accel.jvp(lambda x: accel.jvp(f, [x], [v])[1], [x], [v])[1]
    for found in (forward_over_reverse, reverse_over_forward):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    np.testing.assert_allclose(twice.item(), v.numpy() @ wanted, rtol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "jacobian"])
def test_jacobians_of_trees(name, compiled):
    def f(a, b):
        return {"p": a[:, None] * b["c"], "s": b["d"] ** 2}

    a, c, d = Tensor([1.0, 2.0, 3.0]), Tensor([4.0, 5.0]), Tensor(6.0)
    transformed = getattr(accel, name)(f, argnums=(0, 1))
    found = (accel.compile(transformed) if compiled else transformed)(a, {"c": c, "d": d})
    by_a, by_b = found["p"]
    np.testing.assert_array_equal(by_a.numpy(), np.einsum("ik,j->ijk", np.eye(3), c.numpy()))
    np.testing.assert_array_equal(by_b["c"].numpy(), np.einsum("i,jk->ijk", a.numpy(), np.eye(2)))
    assert by_b["d"].shape == (3, 2) and not by_b["d"].numpy().any()
    assert found["s"][0].tolist() == [0, 0, 0] and found["s"][1]["d"].item() == 12
    assert not by_a.requires_grad


def test_jacobians_of_nothing_and_with_aux():
    slope, aux = accel.jacrev(lambda x: (x[:0], "more"), has_aux=True)(Tensor([1.0, 2.0]))
    assert slope.shape == (0, 2) and aux == "more"
    assert accel.jacfwd(lambda x: x.sum() + accel.ones(3))(accel.zeros(0)).shape == (3, 0)


def test_hessians():
    def f(x, y):
        return (x**3 * y).sum() + x[0] * y[1] ** 2

    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    np.testing.assert_allclose(accel.hessian(f)(x, y).numpy(), [[18, 0], [0, 48]])
    blocks = accel.hessian(f, argnums=(0, 1))(x, y)
    np.testing.assert_allclose(blocks[1][1].numpy(), [[0, 0], [0, 2]])
    np.testing.assert_allclose(blocks[0][1].numpy(), blocks[1][0].numpy().T)


def test_jacobians_of_complex_numbers():
    z = Tensor(np.array([1 + 2j, 3 - 1j]))
    slope = accel.jacobian(lambda z: z.abs() ** 2)(z)
    np.testing.assert_allclose(slope.numpy(), np.diag(2 * z.numpy()))
    with pytest.raises(GradientError, match="complex128"):
        accel.jacrev(lambda z: z * z)(z)
    with pytest.raises(GradientError, match="jvp"):
        accel.jacfwd(lambda z: z.abs())(z)


# -- the tensors' side ---------------------------------------------------------------------------
def test_autograd_grad():
    x = Tensor([1.0, 2.0], requires_grad=True)
    unused = Tensor([1.0], requires_grad=True)
    y = x * x
    z = (y * x).sum()
    by_x, by_y = accel.autograd.grad(z, [x, y])  # through y as well
    assert by_x.tolist() == [3, 12] and by_y.tolist() == [1, 2]
    assert x.grad is None and not by_x.requires_grad
    (first,) = accel.autograd.grad(z, x, create_graph=True)
    assert accel.autograd.grad(first, x, grad_outputs=Tensor([1.0, 1.0]))[0].tolist() == [6, 12]
    assert accel.autograd.grad([z, y], [x], [None, Tensor([1.0, 0.0])])[0].tolist() == [5, 12]
    assert accel.autograd.grad(z, [x, unused], allow_unused=True)[1] is None
    assert accel.autograd.grad(z, unused, materialize_grads=True)[0].tolist() == [0]
    with pytest.raises(GradientError, match="input 1"):
        accel.autograd.grad(z, [x, unused])
    with pytest.raises(GradientError, match="input 0"):
        accel.autograd.grad(z, Tensor([1.0]))
    with pytest.raises(GradientError, match="requires_grad_"):
        accel.autograd.grad(Tensor(1.0), x)
    with pytest.raises(GradientError, match="2 grad_outputs for 1"):
        accel.autograd.grad(z, x, [None, None])
    with pytest.raises(NotAnArrayError, match=r"accel\.grad"):
        accel.autograd.grad(lambda x: x, x)


def test_backward_into_some_leaves_and_with_a_graph():
    x, y = (Tensor([v], requires_grad=True) for v in (2.0, 3.0))
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [3] and y.grad is None
    with pytest.raises(GradientError, match=r"autograd\.grad"):
        x.sum().backward(inputs=x * 1)
    x.grad = None
    (x**3).sum().backward(create_graph=True)
    assert accel.autograd.grad(x.grad.sum(), x)[0].tolist() == [12]


def test_grad_modes_under_their_other_names():
    x = Tensor([1.0], requires_grad=True)
    with accel.inference_mode():
        assert not (x * 2).requires_grad and not accel.is_grad_enabled()
        with accel.inference_mode(False):
            assert not accel.is_grad_enabled()  # it changes nothing

    @accel.inference_mode
    def silent(x):
        return x * 2

    @accel.set_grad_enabled(False)
    def quiet(x):
        return x * 2

    assert not silent(x).requires_grad and not quiet(x).requires_grad
    with accel.set_grad_enabled(False):
        assert not (x * 2).requires_grad
        with accel.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    try:
        accel.set_grad_enabled(False)
        assert not (x * 2).requires_grad
    finally:
        accel.set_grad_enabled(True)
    assert accel.is_grad_enabled()


# -- functions whose results' shapes depend on the values -----------------------------------------
def test_gradients_flow_through_sets():
    x, y = Tensor([3.0, 1.0, 3.0, 2.0]), Tensor([2.0, 5.0])
    weights = np.float32([1, 10, 100, 1000])
    by_x = lambda f: accel.grad(lambda x: (f(x) * weights[: len(f(x))]).sum())(x).tolist()  # noqa: E731
    for function in (
        accel.unique_values, accel.unique, lambda x: accel.unique_counts(x).values,
        lambda x: accel.unique_inverse(x).values, lambda x: accel.unique_all(x).values,
        lambda x: accel.unique(x, dim=0), lambda x: accel.unique(x, return_inverse=True)[0],
    ):  # fmt: skip
        assert by_x(function) == [100, 1, 0, 10]
    assert by_x(accel.unique_consecutive) == [1, 10, 100, 1000]
    assert by_x(lambda x: accel.union1d(x, y)) == [100, 1, 0, 10]
    assert by_x(lambda x: accel.intersect1d(x, y)) == [0, 0, 0, 1]
    assert by_x(lambda x: accel.setdiff1d(x, y)) == [10, 1, 0, 0]
    assert by_x(lambda x: accel.setxor1d(x, y)) == [10, 1, 0, 0]
    assert by_x(lambda x: x[x > 1.5]) == [1, 0, 10, 100]
    assert accel.grad(lambda x: accel.unique(x).sum())(Tensor(np.zeros(0))).shape == (0,)
    rows = accel.grad(lambda x: (accel.unique(x, dim=1) * weights[:2]).sum())(
        Tensor([[2.0, 1.0, 2.0]])
    )
    assert rows.tolist() == [[10, 1, 0]]


def test_detach_in_place():
    x = Tensor([1.0], requires_grad=True)
    y = x * 2
    assert y.detach_() is y and not y.requires_grad and x.requires_grad


def test_forward_mode_through_compiled_functions():
    w = Tensor([2.0, 3.0], requires_grad=True)
    model = accel.compile(lambda x: record("exp", w * x))
    x, t = Tensor([0.5, 1.0]), Tensor([1.0, -1.0])
    for _ in range(2):
        value, slope = accel.jvp(model, [x], [t])
        wanted = np.exp(w.detach().numpy() * x.numpy())
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-6)
        np.testing.assert_allclose(
            slope.numpy(), wanted * w.detach().numpy() * t.numpy(), rtol=1e-6
        )
    assert slope.requires_grad  # through w
    np.testing.assert_allclose(
        accel.jacobian(model)(x).numpy(), np.diag(wanted * w.detach().numpy()), rtol=1e-6
    )


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["torch", "auto"])
def test_forward_mode_on_torch(mode):
    x, t = Tensor(np.linspace(0.1, 1, 12).reshape(3, 4)), Tensor(np.ones((3, 4)))
    f = lambda x: accel.softmax(x @ x.T, axis=0)  # noqa: E731
    wanted = accel.jvp(f, [x], [t])[1].numpy()
    with accel.mode(mode):
        found = accel.compile(lambda x, t: accel.jvp(f, [x], [t])[1])(x, t)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_branches_on_floats_and_constants_in_compiled_functions():
    slope = accel.compile(accel.grad(lambda x: x * x if x > 0 else -x))
    assert slope(3.0).item() == 6 and slope(-3.0).item() == -1
    constant = accel.compile(lambda x: x + 1 if accel.zeros(2).sum() + 1 > 0 else x)
    assert constant(np.ones(2)).tolist() == [2, 2]
