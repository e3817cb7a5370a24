"""Complex numbers end to end: every function that takes them, in every mode, and its gradient.

NumPy is the oracle of values, special values included, torch that of gradients: the gradient of
a real function is the conjugate Wirtinger derivative, twice ∂L/∂z̄.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import ArgumentError, DTypeError, GradientError, ShapeError

RNG = np.random.default_rng(11)


def complexes(*shape: int, dtype: str = "c8") -> np.ndarray:
    return (RNG.uniform(-2, 2, shape) + 1j * RNG.uniform(-2, 2, shape)).astype(dtype)


Z, W = complexes(3, 4), complexes(3, 4)
X = RNG.uniform(-2, 2, (3, 4)).astype("f4")
PARTS = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -2.5)
SPECIAL = np.array([complex(a, b) for a in PARTS for b in PARTS])

MODES = ["pure", pytest.param("torch", marks=pytest.mark.torch),
         pytest.param("auto", marks=pytest.mark.torch)]  # fmt: skip


def results(function: Callable[[], Any], mode: str) -> Iterator[np.ndarray]:
    """What a function gives recorded lazily and compiled."""
    with accel.mode(mode):
        for call in (function, accel.compile(function)):
            yield np.asarray(call())


def same(found: np.ndarray, wanted: Any, tolerance: float) -> None:
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape and found.dtype.kind == wanted.dtype.kind
    for part in ("real", "imag"):
        np.testing.assert_allclose(getattr(found, part), getattr(wanted, part), tolerance,
                                   tolerance, equal_nan=True)  # fmt: skip


# -- values against NumPy -------------------------------------------------------------------
ONE_OPERAND = """
    abs sqrt exp log sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh exp2 expm1 log1p
    log2 log10 square negative positive real imag conj sign isfinite isinf isnan logical_not
    isreal iscomplex angle nan_to_num
""".split()  # fmt: skip
TWO_OPERANDS = """
    add subtract multiply divide equal not_equal logical_and logical_or logical_xor
""".split()  # fmt: skip
NUMPY_NAMES = {f"a{n}": f"arc{n}" for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}


@pytest.mark.parametrize("mode", MODES)
def test_functions_of_one_operand(mode: str) -> None:
    for name in ONE_OPERAND:
        function, wanted = getattr(accel, name), getattr(np, NUMPY_NAMES.get(name, name))
        for found in results(lambda f=function: f(Tensor(Z)), mode):
            same(found, wanted(Z), 3e-6)
        with np.errstate(all="ignore"):
            special = wanted(SPECIAL)
        for found in results(lambda f=function: f(Tensor(SPECIAL)), mode):
            same(found, special, 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_functions_of_two_operands(mode: str) -> None:
    a, b = (v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL))
    for name in TWO_OPERANDS:
        function, wanted = getattr(accel, name), getattr(np, name)
        for other in (W, X, W[0], 2j, 2.5, 2):
            typed = np.complex64(other) if np.isscalar(other) else other
            for found in results(lambda f=function, y=other: f(Tensor(Z), y), mode):
                same(found, wanted(Z, typed), 3e-6)
        with np.errstate(all="ignore"):
            special = wanted(a, b)
        for found in results(lambda f=function: f(Tensor(a), Tensor(b)), mode):
            same(found, special, 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_powers(mode: str) -> None:
    for function, wanted in (
        (lambda z: z**2, Z**2), (lambda z: z**0.5, Z**0.5), (lambda z: 2.0**z, 2**Z),
        (lambda z: z**-1, 1 / Z), (lambda z: z ** Tensor(W), Z**W), (lambda z: z**0, Z**0),
        (lambda z: Tensor(abs(X)) ** z, abs(X) ** Z), (lambda z: accel.rsqrt(z), 1 / np.sqrt(Z)),
    ):  # fmt: skip
        for found in results(lambda f=function: f(Tensor(Z)), mode):
            same(found, wanted, 2e-5)


LINEAR: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "matmul": (lambda z, w: z @ w.T, Z @ W.T), "mixed": (lambda z, w: z @ Tensor(X.T), Z @ X.T),
    "vector": (lambda z, w: z @ w[0], Z @ W[0]), "H": (lambda z, w: z.H @ w, Z.conj().T @ W),
    "batch": (lambda z, w: accel.stack([z, w]) @ w.mT, np.stack([Z, W]) @ W.T),
    "vecdot": (lambda z, w: accel.vecdot(z, w), np.sum(Z.conj() * W, -1)),
    "vdot": (lambda z, w: accel.vdot(z[0], w[0]), np.vdot(Z[0], W[0])),
    "dot": (lambda z, w: accel.dot(z[0], w[0]), np.dot(Z[0], W[0])),
    "outer": (lambda z, w: accel.outer(z[0], w[0]), np.outer(Z[0], W[0])),
    "tensordot": (lambda z, w: accel.tensordot(z, w, axes=2), np.tensordot(Z, W, 2)),
    "einsum": (lambda z, w: accel.einsum("ij,kj->ik", z, w), Z @ W.T),
    "kron": (lambda z, w: accel.kron(z, w), np.kron(Z, W)),
    "trace": (lambda z, w: accel.trace(z), np.trace(Z)),
    "power": (lambda z, w: accel.linalg.matrix_power(z[:, :3], 3),
              np.linalg.matrix_power(Z[:, :3], 3)),
    "norm": (lambda z, w: accel.linalg.vector_norm(z), np.linalg.norm(Z)),
    "norm 3": (lambda z, w: accel.linalg.vector_norm(z, ord=3, axis=1),
               np.linalg.norm(Z, 3, axis=1)),
    "norm inf": (lambda z, w: accel.linalg.vector_norm(z, ord=np.inf), np.abs(Z).max()),
}  # fmt: skip
PLACES: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "slice": (lambda z, w: z[1:, ::-2], Z[1:, ::-2]), "rows": (lambda z, w: z[[0, 2]], Z[[0, 2]]),
    "flip": (lambda z, w: accel.flip(z, axis=1), Z[:, ::-1]), "T": (lambda z, w: z.T, Z.T),
    "cat": (lambda z, w: accel.concat([z, Tensor(X)]), np.concatenate([Z, X])),
    "stack": (lambda z, w: accel.stack([z, w], axis=-1), np.stack([Z, W], -1)),
    "where": (lambda z, w: accel.where(Tensor(X) > 0, z, w), np.where(X > 0, Z, W)),
    "where number": (lambda z, w: accel.where(Tensor(X) > 0, z, 1j), np.where(X > 0, Z, 1j)),
    "pad": (lambda z, w: accel.pad(z, (1, 2), value=1j),
            np.pad(Z, ((0, 0), (1, 2)), constant_values=1j)),
    "tril": (lambda z, w: accel.tril(z), np.tril(Z)), "roll": (lambda z, w: accel.roll(z, 2),
                                                              np.roll(Z, 2)),
    "take": (lambda z, w: accel.take(z, Tensor(np.array([1, 0])), axis=1), Z[:, [1, 0]]),
    "repeat": (lambda z, w: accel.repeat(z, 2, axis=0), np.repeat(Z, 2, 0)),
    "fill": (lambda z, w: accel.masked_fill(z, Tensor(X) > 0, 2j), np.where(X > 0, 2j, Z)),
    "diff": (lambda z, w: accel.diff(z), np.diff(Z)),
}  # fmt: skip
FOLDS: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "sum": (lambda z, w: accel.sum(z, axis=0), Z.sum(0)),
    "sum all": (lambda z, w: accel.sum(z), Z.sum()), "prod": (lambda z, w: accel.prod(z, axis=1),
                                                             Z.prod(1)),
    "mean": (lambda z, w: accel.mean(z, axis=1), Z.mean(1)),
    "var": (lambda z, w: accel.var(z, axis=0), Z.var(0)),
    "std": (lambda z, w: accel.std(z, axis=1, correction=1), Z.std(1, ddof=1)),
    "any": (lambda z, w: accel.any(z * 0), np.any(Z * 0)), "all": (lambda z, w: accel.all(z),
                                                                   np.all(Z)),
    "nonzero": (lambda z, w: accel.count_nonzero(accel.tril(z)), np.count_nonzero(np.tril(Z))),
    "cumsum": (lambda z, w: accel.cumulative_sum(z, axis=1), Z.cumsum(1)),
    "cumprod": (lambda z, w: accel.cumulative_prod(z, axis=0), Z.cumprod(0)),
    "isclose": (lambda z, w: accel.isclose(z, z + 1e-9), np.isclose(Z, Z)),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table", [LINEAR, PLACES, FOLDS], ids=["linear", "places", "folds"])
def test_products_places_and_reductions(table: Any, mode: str) -> None:
    for function, wanted in table.values():
        for found in results(lambda f=function: f(Tensor(Z), Tensor(W)), mode):
            same(found, wanted, 2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_creation(mode: str) -> None:
    for function, wanted in (
        (lambda: accel.zeros((2,), dtype="complex64"), np.zeros(2, "c8")),
        (lambda: accel.ones((2,), dtype=accel.complex128), np.ones(2, "c16")),
        (lambda: accel.full((2,), 1 + 2j), np.full(2, 1 + 2j, "c8")),
        (lambda: accel.eye(3, dtype=accel.complex64), np.eye(3, dtype="c8")),
        (lambda: accel.linspace(0, 1j, 5), np.linspace(0, 1j, 5).astype("c8")),
        (lambda: accel.linspace(1, 2, 3, dtype="c128"), np.linspace(1, 2, 3, dtype="c16")),
        (lambda: accel.full_like(Tensor(Z), 2j), np.full_like(Z, 2j)),
        (lambda: accel.complex(Tensor(X), -0.0), X + np.complex64(complex(0, -0.0))),
        (lambda: accel.polar(Tensor(X), Tensor(X[0])), X * np.exp(1j * X[0]).astype("c8")),
        (lambda: accel.view_as_real(Tensor(Z)), np.stack([Z.real, Z.imag], -1)),
        (lambda: accel.view_as_complex(Tensor(X[:, :2])), X[:, 0] + 1j * X[:, 1]),
    ):
        for found in results(function, mode):
            same(found, wanted, 1e-6)


# -- numbers and dtypes ---------------------------------------------------------------------
def test_promotion() -> None:
    for dtype, wanted in (("float16", "c64"), ("bfloat16", "c64"), ("float32", "c64"),
                          ("float64", "c128"), ("int64", "c64"), ("bool", "c64")):  # fmt: skip
        x = accel.ones(2, dtype=dtype)
        for made in (x + 1j, 1j * x, x - Tensor(Z[0, :2]), accel.where(x > 0, x, 1j)):
            assert made.dtype.short == wanted or "complex64" in str(made.dtype) == (wanted == "c64")
        assert (x * 1j).dtype.short == wanted
        assert accel.complex(x, 1.0).dtype.short == wanted
    assert accel.asarray(1j).dtype is accel.complex64
    assert accel.result_type(accel.float64, 1j) is accel.complex128
    assert Tensor(X).cfloat().dtype is accel.complex64
    assert Tensor(X).cdouble().dtype is accel.complex128


def test_parts_keep_zeros_infinities_and_signs() -> None:
    made = accel.complex(Tensor(SPECIAL.real.copy()), Tensor(SPECIAL.imag.copy())).numpy()
    assert made.tobytes() == SPECIAL.tobytes()
    assert accel.view_as_complex(accel.view_as_real(Tensor(SPECIAL))).numpy().tobytes() == (
        SPECIAL.tobytes()
    )


def test_reading() -> None:
    z = Tensor(np.array([1 + 2j, 3], "c8"))
    assert z.tolist() == [1 + 2j, 3 + 0j] and z[0].item() == complex(z[0]) == 1 + 2j
    assert "1.+2.j" in repr(z) and z.numpy().dtype == np.complex64
    assert np.asarray(z).dtype == np.complex64 and accel.asarray(z.numpy()).tolist() == z.tolist()
    assert z.is_complex() and accel.is_complex(1j) and not accel.is_complex(z.real)
    z[1] = 5j
    assert z.tolist() == [1 + 2j, 5j]
    with pytest.raises(TypeError):
        float(z[0])


def test_any_layout_and_numpys_own_functions() -> None:
    for view in (Z[::-1], Z.T, Z[:, ::2], np.broadcast_to(Z[:1], (3, 4)), Z[:0], Z[0, 0]):
        assert np.array_equal(np.asarray(np.conj(Tensor(view)) * 2), np.conj(view) * 2)
        assert np.array_equal(np.asarray(np.real(Tensor(view))), np.real(view))
        np.testing.assert_allclose(np.angle(Tensor(view)), np.angle(view), 1e-6)
    assert np.isreal(Tensor(Z)).tolist() == np.isreal(Z).tolist()


def test_explain_says_what_numpy_computes() -> None:
    text = str(accel.compile(lambda z: abs(accel.tan(z * 2)) + 1).explain(Z))
    assert "NumPy reference (tan)" in text and "(mul)" not in text and "(abs)" not in text


def test_errors() -> None:
    z, x = Tensor(Z), Tensor(X)
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: z < z, DTypeError, "lt does not take"),
        (lambda: accel.maximum(z, 1), DTypeError, "maximum"),
        (lambda: accel.floor(z), DTypeError, "floor"),
        (lambda: accel.max(z), DTypeError, "amax"),
        (lambda: accel.complex(z, 1.0), DTypeError, "complex does not take"),
        (lambda: accel.view_as_real(x), DTypeError, "view_as_real"),
        (lambda: accel.view_as_complex(x), ShapeError, "shape"),
        (lambda: accel.view_as_complex(z), DTypeError, "complex64"),
        (lambda: accel.pad(x, (1, 1), value=1j), ArgumentError, "real number"),
        (lambda: accel.grad(lambda v: accel.sum(v * v))(z), GradientError, "complex64"),
        (lambda: accel.sum(Tensor(Z, requires_grad=True)).backward(), GradientError, "complex64"),
    ]  # fmt: skip
    for call, error, words in wrong:
        with pytest.raises(error, match=words) as caught:
            call()
        assert "remedy" in str(caught.value)


# -- gradients against torch ----------------------------------------------------------------
A, B = ((RNG.uniform(0.2, 0.9, (3, 4)) + 1j * RNG.uniform(0.2, 0.9, (3, 4))) for _ in range(2))
DIFFERENTIABLE: dict[str, Callable[[Any, Any, Any], Any]] = {
    **{n: (lambda lib, a, b, n=n: getattr(lib, n)(a)) for n in """
        abs sqrt exp log sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh exp2 expm1
        log1p log2 log10 square reciprocal neg real imag conj rsqrt angle sgn view_as_real
    """.split()},
    **{n: (lambda lib, a, b, n=n: getattr(lib, n)(a, b)) for n in "add sub mul div pow".split()},
    "power": lambda lib, a, b: a**2.5 + 2.0**a, "number": lambda lib, a, b: a * (1 + 2j) / 3j,
    "mixed": lambda lib, a, b: abs(b) / a * b.real, "lerp": lambda lib, a, b: lib.lerp(a, b, 0.3),
    "sum": lambda lib, a, b: lib.sum(a * b, dim=1), "mean": lambda lib, a, b: lib.mean(a, dim=0),
    "prod": lambda lib, a, b: lib.prod(a, dim=1), "H": lambda lib, a, b: a.H @ b,
    "cumsum": lambda lib, a, b: lib.cumsum(a, dim=1), "trace": lambda lib, a, b: lib.trace(a @ b.T),
    "cumprod": lambda lib, a, b: lib.cumprod(a, dim=1),
    "spread": lambda lib, a, b: a[0] * b + a[:, :1],
    "matmul": lambda lib, a, b: lib.matmul(lib.conj(a), b.T),
    "vdot": lambda lib, a, b: lib.vdot(a[0], b[1]), "kron": lambda lib, a, b: lib.kron(a, b),
    "vecdot": lambda lib, a, b: lib.linalg.vecdot(a, b),
    "outer": lambda lib, a, b: lib.outer(a[0], b[0]),
    "norm": lambda lib, a, b: lib.linalg.vector_norm(a, ord=3, dim=1) + lib.linalg.vector_norm(b),
    "slice": lambda lib, a, b: a[1:, ::2] * b[:2, :2], "rows": lambda lib, a, b: a[[0, 2, 0]],
    "cat": lambda lib, a, b: lib.cat([a, b]),
    "where": lambda lib, a, b: lib.where(abs(a) > abs(b), a, b),
    "tril": lambda lib, a, b: lib.tril(a) + lib.flip(b, (0,)),
    "complex": lambda lib, a, b: lib.complex(a.real, b.imag),
    "polar": lambda lib, a, b: lib.polar(a.real, b.imag),
    "var": lambda lib, a, b: lib.var(a, dim=1) + lib.std(b, dim=1),
}  # fmt: skip


def loss(lib: Any, function: Any, a: Any, b: Any) -> Any:
    y = function(lib, a, b)
    return lib.sum(abs(y) ** 2 + lib.real(y)) if lib is accel or y.is_complex() else (
        lib.sum(abs(y) ** 2 + y))  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["pure", "torch"])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_torch(name: str, mode: str) -> None:
    """Of the first order and, through the squares of these, of the second."""
    import torch

    function = DIFFERENTIABLE[name]
    leaves = [torch.tensor(v, requires_grad=True) for v in (A, B)]
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    root = loss(torch, function, *leaves)
    first = torch.autograd.grad(root, leaves, create_graph=True, **options)
    second = torch.autograd.grad(sum((g.abs() ** 2).sum() for g in first), leaves, **options)
    slopes = accel.grad(lambda a, b: loss(accel, function, a, b), (0, 1))

    def squares(a: Any, b: Any) -> Any:
        return sum(accel.sum(abs(g) ** 2) for g in slopes(a, b))

    with accel.mode(mode):
        found = [*slopes(Tensor(A), Tensor(B)), *accel.grad(squares, (0, 1))(Tensor(A), Tensor(B))]
        for ours, theirs in zip(found, (*first, *second), strict=True):
            wanted = theirs.detach().resolve_conj().numpy()
            assert np.abs(ours.numpy() - wanted).max() <= 1e-10 * max(1, np.abs(wanted).max())


def test_descent_reaches_a_complex_solution() -> None:
    """A step against the gradient is a step down: the convention is the one for optimisers."""
    matrix, wanted = complexes(6, 3, dtype="c16"), complexes(3, dtype="c16")
    target = matrix @ wanted
    z = Tensor(np.zeros(3, "c16"))
    step = accel.compile(lambda z: z - 0.02 * accel.grad(
        lambda v: accel.sum(abs(Tensor(matrix) @ v - target) ** 2))(z))  # fmt: skip
    for _ in range(300):
        z = step(z)
    assert np.abs(z.numpy() - wanted).max() < 1e-3
