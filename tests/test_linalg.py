"""Linear algebra: NumPy's results on every target, gradients by differences and by torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel import Tensor, errors
from accel.ir import dtypes
from accel.ir.ops.matrices import matrices, positive
from accel.testing import assert_targets_agree

LA = accel.linalg
KINDS = (np.float32, np.float64, np.complex64, np.complex128)
RNG = np.random.default_rng(11)


def matrix(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return matrices(*shape, dtype=dtypes.to_dtype(np.dtype(dtype)))


def definite(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return positive(*shape, dtype=dtypes.to_dtype(np.dtype(dtype)))


def any_numbers(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng([5, *shape])
    x: Any = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x).astype(dtype)


def adjoint(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2))


def close(found: Any, wanted: Any, condition: float = 10.0) -> None:
    """Equal in dtype and shape, and but for rounding times the condition of the samples, whose
    singular values are between 1 and 3, and times their extents, at most 9."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    if wanted.dtype.kind in "biu":
        assert (found == wanted).all()
        return
    scale = np.abs(wanted).max(initial=1.0)
    eps = np.finfo(wanted.dtype).eps
    finite = np.isfinite(wanted)
    assert (np.isfinite(found) == finite).all()
    assert np.abs(found - wanted)[finite].max(initial=0.0) <= 9 * condition * eps * scale


# -- values ---------------------------------------------------------------------------------
SHAPES = ((3, 3), (4, 3), (3, 4), (2, 3, 2), (1, 1), (0, 3), (3, 0), (0, 2, 2), (9, 9))
SQUARE = tuple(s for s in SHAPES if s[-1] == s[-2]) + ((2, 2, 3, 3), (0, 0))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_factorisations_of_any_matrix(shape: tuple[int, ...], dtype: Any) -> None:
    x = matrix(*shape, dtype=dtype)
    for full in (False, True):
        wanted = np.linalg.svd(x, full)
        found = LA.svd(Tensor(x), full_matrices=full)
        assert found._fields == ("U", "S", "Vh") and found.S.dtype == accel.asarray(x).dtype.real
        for ours, theirs in zip(found, wanted, strict=True):
            close(ours, theirs)
    k = min(shape[-2:])
    u, s, vh = (np.asarray(p) for p in LA.svd(Tensor(x), full_matrices=False))
    close((u * s[..., None, :]) @ vh, x)
    close(LA.svdvals(x), np.linalg.svd(x, compute_uv=False))
    for mode in ("reduced", "complete"):
        q, r = LA.qr(Tensor(x), mode=mode)
        close(q @ r, x)
        assert q.shape[-1] == (shape[-2] if mode == "complete" else k)
        close(adjoint(q.numpy()) @ q.numpy(), np.broadcast_to(
            np.eye(q.shape[-1], dtype=dtype), (*shape[:-2], q.shape[-1], q.shape[-1])))  # fmt: skip
        close(r, np.triu(r.numpy()))
    empty, r = LA.qr(x, mode="r")
    assert empty.shape == (0,)
    close(r, np.linalg.qr(x).R)
    inverse = LA.pinv(x).numpy()
    assert inverse.shape == (*shape[:-2], shape[-1], shape[-2])
    close(x @ inverse @ x, x)
    assert (LA.matrix_rank(x).numpy() == k).all() and LA.matrix_rank(x).dtype == accel.int64


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", SQUARE)
def test_functions_of_square_matrices(shape: tuple[int, ...], dtype: Any) -> None:
    x, p = matrix(*shape, dtype=dtype), definite(*shape, dtype=dtype)
    close(LA.inv(x), np.linalg.inv(x))
    close(LA.det(x), np.linalg.det(x))
    for ours, theirs in zip(LA.slogdet(x), np.linalg.slogdet(x), strict=True):
        close(ours, np.asarray(theirs))
    lower = np.linalg.cholesky(p)
    close(LA.cholesky(p), lower)
    close(LA.cholesky(p, upper=True), adjoint(lower))
    for upper in (False, True):
        factor = LA.cholesky(p, upper=upper)
        close(accel.cholesky_solve(p, factor, upper), p @ np.linalg.inv(p), 300)
        close(accel.cholesky_inverse(factor, upper), np.linalg.inv(p), 100)
    for name in ("L", "U"):
        values, vectors = LA.eigh(p, name)
        close(values, np.linalg.eigvalsh(p, name), 100)
        close(LA.eigvalsh(p, UPLO=name), np.linalg.eigvalsh(p, name), 100)
        v = vectors.numpy()
        close((v * values.numpy()[..., None, :]) @ adjoint(v), p, 100)
    values, vectors = LA.eig(x)
    wide = np.result_type(dtype, np.complex64)
    close(values, np.linalg.eigvals(x).astype(wide), 100)
    close(LA.eigvals(x), np.linalg.eigvals(x).astype(wide), 100)
    v = vectors.numpy()
    close(x.astype(wide) @ v, v * values.numpy()[..., None, :], 100)


@pytest.mark.parametrize("dtype", KINDS)
def test_systems_of_equations(dtype: Any) -> None:
    for shape, right in (((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)),
                         ((2, 3, 3), (2, 3, 1)), ((1, 3, 3), (4, 3, 2)), ((0, 0), (0, 2)),
                         ((2, 2), (2, 0)), ((70, 70), (70, 2))):  # fmt: skip
        a, y = matrix(*shape, dtype=dtype), any_numbers(right, dtype)
        wanted = np.linalg.inv(a) @ y
        condition = 10.0 * max(1, shape[-1] // 9) ** 2
        close(LA.solve(a, y), wanted, condition)
        if y.ndim > 1:
            close(LA.solve(a, np.swapaxes(y, -1, -2), left=False),
                  np.swapaxes(y, -1, -2) @ np.linalg.inv(a), condition)  # fmt: skip
        for upper, unit in itertools.product((False, True), repeat=2):
            n = shape[-1]
            size = a / max(n, 1) + 2 * np.eye(n, dtype=dtype)
            t = np.triu(size) if upper else np.tril(size)
            if unit:
                t = t * (1 - np.eye(n, dtype=dtype)) + np.eye(n, dtype=dtype)
            found = LA.solve_triangular(size, y, upper=upper, unitriangular=unit)
            close(found, (np.linalg.inv(t) @ y).astype(dtype), condition)
            if y.ndim > 1:
                found = LA.solve_triangular(
                    size, np.swapaxes(y, -1, -2), upper=upper, left=False, unitriangular=unit)
                close(found, (np.swapaxes(y, -1, -2) @ np.linalg.inv(t)).astype(dtype), condition)


@pytest.mark.parametrize("dtype", KINDS)
def test_least_squares(dtype: Any) -> None:
    for shape, right in (((4, 2), (4,)), ((4, 2), (4, 3)), ((2, 4), (2, 3)), ((3, 3), (3,))):
        a, y = matrix(*shape, dtype=dtype), any_numbers(right, dtype)
        wanted = np.linalg.lstsq(a, y, rcond=None)
        found = LA.lstsq(a, y)
        close(found.solution, wanted[0], 30)
        if shape[0] > shape[1]:  # NumPy has one row of a vector's
            close(found.residuals, wanted[1].reshape(found.residuals.shape), 100)
        else:
            assert found.residuals.shape == (0,)
        assert found.rank.item() == wanted[2]
        close(found.singular_values, wanted[3])
    batch = LA.lstsq(matrix(2, 4, 2, dtype=dtype), any_numbers((2, 4, 3), dtype))
    assert batch.solution.shape == (2, 2, 3) and batch.residuals.shape == (2, 3)


@pytest.mark.parametrize("dtype", KINDS)
def test_norms_and_conditions(dtype: Any) -> None:
    x = matrix(3, 4, dtype=dtype)
    for kind in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        wanted = np.asarray(np.linalg.norm(x, kind))
        close(LA.matrix_norm(x, kind), wanted, 20)
        close(LA.norm(x, kind), wanted, 20)
        close(accel.norm(Tensor(x), ord=kind), wanted, 20)
        close(np.linalg.norm(Tensor(x), kind), wanted, 20)
        batch = any_numbers((4, 2, 3), dtype)
        for keep in (False, True):
            wanted = np.linalg.norm(batch, kind, (0, 2), keep)
            close(LA.matrix_norm(batch, kind, (0, 2), keep), wanted, 20)
            close(LA.norm(batch, kind, axis=(0, 2), keepdims=keep), wanted, 20)
    for kind in (0, 1, -1, 2, 3, 0.5, np.inf, -np.inf):
        close(LA.vector_norm(x, kind, axis=0), np.linalg.norm(x, kind, 0), 50)
        close(LA.vector_norm(x, kind), np.asarray(np.linalg.norm(x.ravel(), kind)), 50)
    close(LA.norm(x), np.asarray(np.linalg.norm(x)), 20)
    close(accel.norm(x, 1), np.asarray(np.abs(x).sum()), 20)  # torch's: all elements
    close(accel.norm(x, "nuc"), np.asarray(np.linalg.norm(x, "nuc")), 20)
    square = matrix(2, 3, 3, dtype=dtype)
    for kind in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        close(LA.cond(square, kind), np.linalg.cond(square, kind).real, 100)
    assert np.isinf(LA.cond(np.ones((2, 2), dtype), 1).numpy())
    assert np.isinf(LA.cond(np.zeros((2, 2), dtype)).numpy())
    close(LA.cond(x), np.asarray(np.linalg.cond(x)), 100)


def test_ranks_and_pseudo_inverses_of_singular_matrices() -> None:
    x = np.stack([np.diag([4.0, 2.0, 1e-3]), np.diag([4.0, 0.0, 0.0]), np.zeros((3, 3))])
    assert LA.matrix_rank(x).tolist() == [3, 1, 0]
    assert LA.matrix_rank(x, rtol=1e-2).tolist() == [2, 1, 0]
    assert LA.matrix_rank(x, rtol=Tensor([1e-9, 2.0, 0.0])).tolist() == [3, 0, 0]
    assert LA.matrix_rank(x, atol=3.0).tolist() == [1, 1, 0]
    assert LA.matrix_rank(x, tol=1.0, hermitian=True).tolist() == [2, 1, 0]
    for rtol in (1e-2, np.array([1e-2, 1e-9, 0.1])):
        wanted = np.linalg.pinv(x, rtol)
        close(LA.pinv(x, rtol), wanted)
        close(LA.pinv(x, rcond=rtol, hermitian=True), wanted)
    close(LA.pinv(x, atol=1.0), np.linalg.pinv(x, np.array([0.25, 0.25, 0])))
    close(accel.pinverse(Tensor(x), 1e-2), np.linalg.pinv(x, 1e-2))
    assert accel.logdet(x[:2]).tolist()[1] == -np.inf and np.isnan(accel.logdet(-x[0]).item())
    close(accel.exp(accel.logdet(matrix(3, 3, dtype=np.complex128))),
          np.linalg.det(matrix(3, 3, dtype=np.complex128)))  # fmt: skip


def test_exponentials() -> None:
    scipy = [  # values of e^A for a rotation, a nilpotent and a diagonal matrix, in closed form
        (np.array([[0.0, -2.5], [2.5, 0.0]]),
         np.array([[np.cos(2.5), -np.sin(2.5)], [np.sin(2.5), np.cos(2.5)]])),
        (np.array([[0.0, 1e3], [0.0, 0.0]]), np.array([[1.0, 1e3], [0.0, 1.0]])),
        (np.diag([-30.0, 1.0, 20.0]), np.diag(np.exp([-30.0, 1.0, 20.0]))),
    ]
    for x, wanted in scipy:
        close(LA.matrix_exp(x), wanted, 1000)
        close(accel.asarray(x.astype(np.float32)).matrix_exp(), wanted.astype(np.float32), 10)
    each = [x for x, _ in scipy[:2]]
    close(LA.matrix_exp(np.stack(each)), np.stack([LA.matrix_exp(x).numpy() for x in each]))
    assert LA.matrix_exp(np.zeros((2, 0, 0))).shape == (2, 0, 0)
    assert np.isnan(LA.matrix_exp(np.full((2, 2), np.nan)).numpy()).all()


def test_integers_are_computed_in_float32() -> None:
    x = np.array([[2, 1], [1, 3]])
    for name in ("inv", "det", "svdvals", "eigvalsh", "cholesky", "pinv", "matrix_exp"):
        found = getattr(LA, name)(x)
        assert found.dtype == accel.float32, name
        close(found, getattr(LA, name)(x.astype(np.float32)))
    assert LA.eig(x).eigenvectors.dtype == accel.complex64
    assert LA.solve(x, [1, 2] @ x).dtype == accel.float32
    assert LA.matrix_power(x, -1).dtype == accel.float32
    assert LA.matrix_power(x, 3).dtype == accel.int64
    assert LA.det(np.array([[True, False], [False, True]])).item() == 1.0


def test_strided_operands() -> None:
    x = matrix(6, 6)
    for view in (x[::2, ::2] + np.eye(3), x[::-1, ::-1], x.T, np.broadcast_to(x, (2, 6, 6))):
        close(LA.inv(view), np.linalg.inv(view), 100)
        close(LA.svdvals(view), np.linalg.svd(view, compute_uv=False))
        close(LA.det(Tensor(x)[::-1]), np.linalg.det(x[::-1]))


# -- one computation for all results ----------------------------------------------------------
@pytest.mark.parametrize("mode", ["pure", "torch", "reference"])
def test_results_of_one_factorisation_are_computed_once(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "torch":
        pytest.importorskip("torch", exc_type=ImportError)
    counted = []

    def counting(name: str) -> None:
        plain = getattr(np.linalg, name)
        monkeypatch.setattr(
            np.linalg, name, lambda *a, **k: (counted.append(name), plain(*a, **k))[1]
        )

    counting("eigh")

    def spectral(x: Any) -> Any:
        values, vectors = LA.eigh(x)
        return (vectors * accel.exp(values)) @ vectors.mT, values.sum()

    x = definite(4, 4)
    with accel.mode(mode):
        for f in (spectral, accel.compile(spectral)):
            found = f(Tensor(x))
            accel.eval(found)
            close(found[0], LA.matrix_exp(x).numpy(), 1000)
            assert counted == ["eigh"]
            counted.clear()
    steps = accel.compile(spectral).explain(Tensor(x))
    assert str(steps).count("NumPy reference (eigh)") == 1


# -- errors ---------------------------------------------------------------------------------
FAILING: list[tuple[str, Callable[[], Any], str]] = [
    ("inv", lambda: LA.inv(accel.ones((2, 2))), "inv of f32"),
    ("solve", lambda: LA.solve(accel.zeros((2, 2)), accel.ones(2)), "solve of f32"),
    ("triangular", lambda: LA.solve_triangular(accel.zeros((2, 2)), accel.ones(2), upper=True),
     "solve_triangular of"),
    ("cholesky", lambda: LA.cholesky(-accel.eye(2)), "cholesky of f32"),
    ("svd", lambda: LA.svd(accel.full((2, 2), accel.nan)).U, "svd of"),
    ("eig", lambda: LA.eig(accel.full((2, 2), accel.inf)).eigenvalues, "eig of"),
    ("power", lambda: LA.matrix_power(accel.zeros((2, 2)), -2), "inv of"),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["pure", "torch"])
@pytest.mark.parametrize("case", FAILING, ids=lambda c: c[0])
def test_what_cannot_be_computed(case: Any, mode: str) -> None:
    if mode == "torch":
        pytest.importorskip("torch", exc_type=ImportError)
    _, call, words = case
    with accel.mode(mode), pytest.raises(np.linalg.LinAlgError, match=words) as caught:
        call().numpy()
    assert isinstance(caught.value, errors.LinAlgError) and isinstance(caught.value, ValueError)
    assert caught.value.loc.file == __file__ and caught.value.remedy


REFUSED: list[tuple[Callable[[Any], Any], Any, type[Exception]]] = [
    (LA.inv, np.ones((2, 3)), errors.ShapeError), (LA.det, np.ones(3), errors.ShapeError),
    (LA.svd, np.ones((2, 2), np.float16), errors.DTypeError),
    (LA.pinv, np.ones((2, 2), np.float16), errors.DTypeError),
    (LA.svdvals, np.float64(1), errors.ShapeError),
    (lambda x: LA.solve(x, np.ones(3)), np.ones((2, 2)), errors.ShapeError),
    (lambda x: LA.lstsq(x, np.ones(3)), np.ones((2, 2)), errors.ShapeError),
    (lambda x: LA.qr(x, mode="raw"), np.ones((2, 2)), errors.ArgumentError),
    (lambda x: LA.eigh(x, "X"), np.ones((2, 2)), errors.ArgumentError),
    (lambda x: LA.matrix_norm(x, 3), np.ones((2, 2)), errors.ArgumentError),
    (lambda x: LA.matrix_norm(x, axis=(0, -2)), np.ones((2, 2)), errors.ShapeError),
    (lambda x: LA.vector_norm(x, "fro"), np.ones(2), errors.ArgumentError),
    (lambda x: LA.norm(x, 2), np.ones((2, 2, 2)), errors.ShapeError),
    (lambda x: LA.matrix_power(x, 0.5), np.ones((2, 2)), errors.ArgumentError),
    (lambda x: LA.matrix_power(x, 2), np.ones((2, 3)), errors.ShapeError),
    (LA.matrix_rank, np.ones(3), errors.ShapeError), (LA.cond, np.ones(3), errors.ShapeError),
    (LA.tensorinv, np.ones((2, 3, 4)), errors.ShapeError),
    (lambda x: LA.tensorinv(x, 0), np.ones((2, 3)), errors.ArgumentError),
    (lambda x: LA.multi_dot([x]), np.ones((2, 3)), errors.ArgumentError),
    (lambda x: LA.multi_dot([x, x, x]), np.ones((2, 2, 2)), errors.ShapeError),
    (lambda x: accel.vander(x), np.float32(1), errors.ShapeError),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_refused(case: int) -> None:
    function, x, error = REFUSED[case]
    with pytest.raises(error) as caught:
        function(x)
    assert isinstance(caught.value, (ValueError, TypeError))
    assert caught.value.loc.file == __file__ and caught.value.remedy


# -- gradients ------------------------------------------------------------------------------
def hermitian(x: Any) -> Any:
    return x + x.mT.conj()


def spectral(la: Any, x: Any) -> Any:
    values, vectors = la.eigh(hermitian(x))
    return (vectors * values[..., None, :] ** 3) @ vectors.mT.conj()


def polar(la: Any, x: Any) -> Any:
    u, _, vh = la.svd(x, full_matrices=False)
    return u @ vh


def magnitudes(x: Any) -> Any:
    return (x * x.conj()).real


ANY = ((4, 3), (3, 4), (3, 3), (2, 3, 3))
CUBES = ((3, 3), (2, 3, 3))
#: What is differentiated, in names that torch shares, and for matrices of which shapes.
SMOOTH: dict[str, tuple[Callable[[Any, Any], Any], tuple[tuple[int, ...], ...]]] = {
    "inv": (lambda la, x: la.inv(x), CUBES),
    "det": (lambda la, x: la.det(x), (*CUBES, (1, 1))),
    "logabsdet": (lambda la, x: la.slogdet(x).logabsdet, CUBES),
    "sign": (lambda la, x: la.slogdet(x).sign, CUBES),
    "solve": (lambda la, x: la.solve(x, hermitian(x)[..., :2]), CUBES),
    "solve vector": (lambda la, x: la.solve(x, x[..., 0] ** 2), CUBES[:1]),
    "solve from the right": (lambda la, x: la.solve(x, x[..., :2, :] ** 2, left=False), CUBES),
    "cholesky": (lambda la, x: la.cholesky(x @ x.mT.conj()), CUBES),
    "cholesky upper": (lambda la, x: la.cholesky(x @ x.mT.conj(), upper=True), CUBES),
    "lower": (lambda la, x: la.solve_triangular(x, x ** 2, upper=False), CUBES),
    "upper": (lambda la, x: la.solve_triangular(x, x ** 2, upper=True, left=False), CUBES),
    "unit": (lambda la, x: la.solve_triangular(x, x ** 2, upper=True, unitriangular=True), CUBES),
    "pinv": (lambda la, x: la.pinv(x), ANY),
    "lstsq": (lambda la, x: la.pinv(x) @ x[..., :1], ANY),
    "Q": (lambda la, x: la.qr(x)[0], ANY),
    "R": (lambda la, x: la.qr(x)[1], ANY),
    "svdvals": (lambda la, x: la.svdvals(x), ANY),
    "S": (lambda la, x: la.svd(x, full_matrices=False)[1], ANY),
    "U": (lambda la, x: magnitudes(la.svd(x, full_matrices=False)[0]), ANY),
    "Vh": (lambda la, x: magnitudes(la.svd(x, full_matrices=False)[2]), ANY),
    "full": (lambda la, x: magnitudes(la.svd(x)[0]), CUBES),
    "polar": (polar, ANY),
    "eigvalsh": (lambda la, x: la.eigvalsh(hermitian(x)), CUBES),
    "eigenvectors": (lambda la, x: magnitudes(la.eigh(hermitian(x))[1]), CUBES),
    "eigh": (spectral, CUBES),
    "eigvals": (lambda la, x: la.eigvals(x), CUBES),
    "eig": (lambda la, x: la.eig(x)[0] ** 2, CUBES),
    "eig vectors": (lambda la, x: magnitudes(la.eig(x)[1]), CUBES),
    "matrix_exp": (lambda la, x: la.matrix_exp(x), CUBES),
    "nuc": (lambda la, x: la.matrix_norm(x, "nuc"), ANY),
    "2": (lambda la, x: la.matrix_norm(x, 2), ANY),
    "-2": (lambda la, x: la.matrix_norm(x, -2), ANY),
    "fro": (lambda la, x: la.matrix_norm(x), ANY),
    "inf": (lambda la, x: la.matrix_norm(x, float("inf")), ANY),
    "norm 3": (lambda la, x: la.vector_norm(x, 3), ANY),
    "cond": (lambda la, x: la.cond(x), CUBES),
    "power": (lambda la, x: la.matrix_power(x, -3), CUBES),
}  # fmt: skip
CASES = [(n, s, k) for n, (_, shapes) in SMOOTH.items() for s in shapes for k in KINDS[1::2]]


def weighted(result: Any, convert: Callable[[np.ndarray], Any], salt: int = 0) -> Any:
    """The real part of a sum of products with fixed numbers."""
    rng = np.random.default_rng([salt, *result.shape])
    weights: Any = rng.standard_normal(tuple(result.shape))
    if (result * 1j).dtype == result.dtype:
        weights = weights + 1j * rng.standard_normal(weights.shape)
    return (result * convert(weights)).real.sum()


def slopes(name: str, x: np.ndarray) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A loss of x, and a loss of its gradient."""

    def loss(x: Any) -> Any:
        return weighted(SMOOTH[name][0](LA, x), Tensor)

    def of_gradient(x: Any) -> Any:
        return weighted(accel.grad(loss)(x), Tensor, 1)

    return loss, of_gradient


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_by_differences(case: Any) -> None:
    """Of first and second order. The error of central differences is step² and roundoff / step,
    times the growth of derivatives, which here is below 1e4."""
    name, shape, dtype = case
    x, step = any_numbers(shape, dtype), 1e-5
    direction = any_numbers((*shape, 1), dtype)[..., 0]
    for f in slopes(name, x):
        gradient = accel.grad(f)(Tensor(x)).numpy()
        ahead, behind = (f(Tensor(x + s * step * direction)).item() for s in (1, -1))
        along = float(np.sum(np.conj(gradient) * direction).real)
        size = max(1.0, abs(along), float(np.abs(gradient).max()))
        assert abs((ahead - behind) / (2 * step) - along) <= 1e-5 * size


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_by_torch(case: Any) -> None:
    import torch

    name, shape, dtype = case
    x = any_numbers(shape, dtype)
    first, second = (accel.grad(f)(Tensor(x)).numpy() for f in slopes(name, x))
    t = torch.tensor(x, requires_grad=True)
    loss = weighted(SMOOTH[name][0](torch.linalg, t), torch.tensor)
    (gradient,) = torch.autograd.grad(loss, t, create_graph=True, materialize_grads=True)
    (again,) = torch.autograd.grad(
        weighted(gradient + 0 * t, torch.tensor, 1), t, materialize_grads=True)
    for found, wanted in ((first, gradient), (second, again)):
        wanted = wanted.numpy(force=True)
        assert np.abs(found - wanted).max() <= 1e-9 * max(1.0, np.abs(wanted).max())


def test_the_determinant_of_a_singular_matrix_has_a_gradient() -> None:
    x = np.array([[1.0, 2.0], [2.0, 4.0]])
    close(accel.grad(LA.det)(Tensor(x)), np.array([[4.0, -2.0], [-2.0, 1.0]]))
    close(accel.grad(LA.det)(accel.zeros((3, 3))), np.zeros((3, 3), np.float32))


def test_norms_of_zero_have_a_slope_of_zero() -> None:
    for kind in (2, 3, 1):
        x = accel.zeros((2, 3))
        slope = accel.grad(lambda x, kind=kind: LA.vector_norm(x, kind, axis=1).sum())(x)
        assert slope.tolist() == [[0.0] * 3] * 2, kind
    one = accel.grad(lambda x: accel.norm(x, dim=1).sum())(accel.asarray([[3.0, 4.0], [0.0, 0.0]]))
    close(one, np.array([[0.6, 0.8], [0.0, 0.0]], np.float32))


def test_vectors_without_singular_values_have_no_gradient() -> None:
    x = Tensor(matrix(4, 3))
    for f in (lambda x: LA.svd(x).U.sum(), lambda x: LA.qr(x, mode="complete").Q.sum()):
        with pytest.raises(errors.GradientError, match="no gradient"):
            accel.grad(f)(x)
    assert accel.grad(lambda x: LA.svd(x).S.sum())(x).shape == (4, 3)


# -- targets --------------------------------------------------------------------------------
def test_targets_agree_on_what_is_made_of_factorisations() -> None:
    def whitened(x: Any) -> Any:
        centred = x - accel.mean(x, axis=0)
        values, _ = LA.eigh(centred.mT @ centred)
        return LA.slogdet(centred.mT @ centred), accel.log(values).sum()

    assert_targets_agree(whitened, RNG.standard_normal((8, 3)))
    assert_targets_agree(lambda a, b: LA.solve(a, accel.exp(b)) * 2 + 1,
                         matrix(2, 3, 3, dtype=np.float32), any_numbers((3, 2), np.float32))
    assert_targets_agree(lambda a: accel.relu(LA.inv(a)).sum(axis=0), matrix(4, 4))


# -- products -------------------------------------------------------------------------------
PRODUCT_KINDS = (np.int64, np.int16, np.uint8, *KINDS)


def numbers(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    if np.dtype(dtype).kind in "iu":
        return np.asarray(RNG.integers(0, 5, shape)).astype(dtype)
    return any_numbers(shape, dtype)


@pytest.mark.parametrize("dtype", PRODUCT_KINDS)
def test_products_of_every_dtype(dtype: Any) -> None:
    a, b, c = numbers(3, 4, dtype=dtype), numbers(4, 3, dtype=dtype), numbers(3, 3, dtype=dtype)
    u, v = numbers(3, dtype=dtype), numbers(4, dtype=dtype)
    batch, other = numbers(2, 3, 4, dtype=dtype), numbers(2, 4, 3, dtype=dtype)
    t = Tensor
    close(accel.kron(t(a), t(u)), np.kron(a, u))
    close(LA.kron(t(u), t(a)), np.kron(u, a))
    close(accel.tensordot(t(a), t(b), axes=((0, 1), (1, 0))), np.tensordot(a, b, ((0, 1), (1, 0))))
    close(accel.outer(t(u), t(v)), np.outer(u, v))
    close(accel.vdot(t(a), t(a)), np.asarray(np.vdot(a, a)))
    close(accel.inner(t(a), t(v)), np.inner(a, v))
    close(accel.dot(t(a), t(b)), np.dot(a, b))
    close(accel.mv(t(a), t(v)), a @ v)
    close(accel.bmm(t(batch), t(other)), batch @ other)
    close(accel.addmm(t(c), t(a), t(b), beta=2, alpha=3), 2 * c + 3 * (a @ b))
    close(accel.addmv(t(u), t(a), t(v), beta=2, alpha=3), 2 * u + 3 * (a @ v))
    close(accel.addr(t(a), t(u), t(v), beta=2, alpha=3), 2 * a + 3 * np.outer(u, v))
    close(accel.baddbmm(t(c), t(batch), t(other), alpha=2), c + 2 * (batch @ other))
    close(accel.addbmm(t(c), t(batch), t(other)), c + (batch @ other).sum(0).astype(dtype))
    for offset in (-5, -1, 0, 2, 9):
        wide = np.int64 if np.dtype(dtype).kind == "i" else None
        wanted = np.trace(a, offset) if wide is None else np.trace(a, offset, dtype=wide)
        found = accel.trace(t(a), offset)
        close(found.numpy().astype(wanted.dtype), np.asarray(wanted))
        close(LA.trace(t(batch), offset=offset).numpy(),
              np.stack([accel.trace(t(m), offset).numpy() for m in batch]))  # fmt: skip
        close(LA.diagonal(t(batch), offset=offset), np.diagonal(batch, offset, -2, -1))
    close(accel.vander(t(u)), np.vander(u).astype(dtype))
    close(accel.vander(t(u), 5, increasing=True), np.vander(u, 5, True).astype(dtype))
    close(LA.vander(t(batch), 2), np.stack([np.ones_like(batch), batch], -1))
    assert LA.vander(t(u), 0).shape == (3, 0)
    x, y = numbers(2, 3, dtype=dtype), numbers(2, 3, dtype=dtype)
    if np.dtype(dtype).kind != "u":
        close(LA.cross(t(x), t(y)), np.cross(x, y))
    close(LA.vecdot(t(x), t(y)), np.vecdot(x, y))


def test_a_factor_of_zero_leaves_nothing() -> None:
    c, x = accel.full((2, 2), accel.nan), accel.ones((2, 2))
    assert accel.addmm(c, x, x, beta=0).tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert c.addmm(x, x, beta=0.0, alpha=0.5).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_chains_are_multiplied_in_the_order_that_costs_least() -> None:
    shapes = ((30, 35), (35, 15), (15, 5), (5, 10), (10, 20), (20, 25))
    chain = [any_numbers(s) for s in shapes]
    close(LA.multi_dot([Tensor(x) for x in chain]), np.linalg.multi_dot(chain), 1000)
    graph = accel.compile(lambda *x: LA.multi_dot(x)).graph(*chain)
    products = [n for n in graph.nodes if n.op.name == "matmul"]
    work = sum(n.inputs[0].type.shape[0] * n.inputs[0].type.shape[1] * n.type.shape[1]
               for n in products)  # fmt: skip
    assert len(products) == 5 and work == 15125  # Cormen's example
    u, v = any_numbers((30,)), any_numbers((15,))
    close(LA.multi_dot([u, *chain[:2], v]), np.asarray(np.linalg.multi_dot([u, *chain[:2], v])), 99)
    with pytest.raises(errors.ShapeError, match="inner"):
        LA.multi_dot([chain[0], chain[2]])


def test_powers() -> None:
    x = matrix(2, 3, 3)
    for n in (-3, -1, 0, 1, 2, 7):
        close(LA.matrix_power(x, n), np.linalg.matrix_power(x, n), 100)
        close(np.linalg.matrix_power(Tensor(x), n), np.linalg.matrix_power(x, n), 100)


def test_inverses_and_solutions_of_tensors() -> None:
    a = matrix(6, 6).reshape(2, 3, 6)
    close(LA.tensorinv(a), np.linalg.tensorinv(a))
    close(LA.tensorinv(a.reshape(6, 3, 2), 1), np.linalg.tensorinv(a.reshape(6, 3, 2), 1))
    b = any_numbers((2, 3))
    close(LA.tensorsolve(a, b), np.linalg.tensorsolve(a, b))
    moved = matrix(6, 6).reshape(3, 2, 6)
    wanted = np.linalg.tensorsolve(moved, b[0, :2] @ np.ones((2, 6)), axes=(0, 1))
    close(LA.tensorsolve(moved, b[0, :2] @ np.ones((2, 6)), axes=(0, 1)), wanted)


# -- einsum ---------------------------------------------------------------------------------
@settings(deadline=None, max_examples=150)
@given(st.data())
def test_einsum_of_random_equations(data: Any) -> None:
    """Terms over few letters, so that diagonals, traces, broadcasting and sums all occur."""
    letters = "abcde"
    sizes = {c: data.draw(st.sampled_from([1, 2, 3, 0, 2, 3])) for c in letters}
    kinds = st.sampled_from([np.float64, np.complex128, np.int64, np.float32])
    dtype = data.draw(kinds)
    terms, arrays = [], []
    dots = data.draw(st.lists(st.sampled_from([1, 2]), max_size=2))
    for _ in range(data.draw(st.integers(1, 4))):
        named = "".join(data.draw(st.lists(st.sampled_from(letters), max_size=3)))
        used = dots[data.draw(st.integers(0, len(dots))) :] if data.draw(st.booleans()) else None
        place = data.draw(st.integers(0, len(named)))
        shape = [sizes[c] for c in named]
        if used is not None:
            shape[place:place] = [data.draw(st.sampled_from([1, n])) for n in used]
            named = named[:place] + "..." + named[place:]
        terms.append(named)
        arrays.append(numbers(*shape, dtype=dtype))
    equation = ",".join(terms)
    if data.draw(st.booleans()):
        kept = data.draw(st.permutations(sorted(set(equation) - {",", "."})))
        kept = kept[: data.draw(st.integers(0, len(kept)))]
        place = data.draw(st.integers(0, len(kept)))
        equation += "->" + "".join([*kept[:place], "...", *kept[place:]])
    wanted = np.asarray(np.einsum(equation, *arrays))
    spaced = equation.replace(",", " , ").replace("->", " -> ")
    found = accel.einsum(spaced, *[Tensor(a) for a in arrays])
    close(found, wanted, 10.0 * 3**5)


def test_einsum_takes_numbers_in_place_of_letters() -> None:
    x, y = any_numbers((2, 3, 4)), any_numbers((4, 5))
    for arguments in ((x, [0, 1, 2], y, [2, 3], [0, 1, 3]), (x, [..., 2], y, [2, 3], [..., 3]),
                      (x, [0, 1, 2], y, [2, 51]), (x, [5, 5 - 4, 2], [2, 5, 1])):  # fmt: skip
        ours = [Tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        close(accel.einsum(*ours), np.einsum(*arguments))
        close(np.einsum(*ours, optimize=True), np.einsum(*arguments))


def test_einsum_contracts_in_the_order_that_costs_least() -> None:
    """The Tucker product of one matrix at a time, from the smallest on, however it is written."""
    sizes = dict(zip("abcdef", (8, 9, 10, 2, 3, 4), strict=True))
    for terms in itertools.permutations(("abc", "ad", "be", "cf")):
        arrays = [any_numbers(tuple(sizes[c] for c in t)) for t in terms]
        equation = ",".join(terms) + "->def"
        graph = accel.compile(lambda *x, e=equation: accel.einsum(e, *x)).graph(*arrays)
        products = [n for n in graph.nodes if n.op.name == "matmul"]
        work = sum(n.type.size * n.inputs[0].type.shape[-1] for n in products)
        assert len(products) == 3 and work == 8 * 9 * 10 * 2 + 9 * 10 * 2 * 3 + 10 * 2 * 3 * 4
    many = [any_numbers((3, 3)) for _ in range(10)]
    letters = "abcdefghijk"
    chain = ",".join(a + b for a, b in itertools.pairwise(letters)) + "->ak"
    close(accel.einsum(chain, *many), np.linalg.multi_dot(many), 3.0**10)


EINSUM_ERRORS = [
    ("ij->ii", "twice"), ("i1", "letters"), ("i", "for shape"), ("i...j...", "letters"),
    ("ij,jk", "operands"), ("ij->z", "no operand"), ("äj", "letters"), ("", "for shape"),
]  # fmt: skip


@pytest.mark.parametrize("case", EINSUM_ERRORS, ids=str)
def test_equations_that_do_not_fit(case: Any) -> None:
    with pytest.raises(errors.ArgumentError, match=case[1]) as caught:
        accel.einsum(case[0], accel.ones((2, 2)))
    assert caught.value.loc.file == __file__
    with pytest.raises(errors.ArgumentError):
        accel.einsum(accel.ones((2, 2)), [0, 52])
    with pytest.raises(errors.ArgumentError):
        accel.einsum(accel.ones((2, 2)))


# -- NumPy's names --------------------------------------------------------------------------
A, B, P = matrix(4, 3), any_numbers((4, 2)), definite(3, 3)
NUMPY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "svd": lambda a, b, p: np.linalg.svd(a, full_matrices=False),
    "svd positional": lambda a, b, p: np.linalg.svd(p, False),
    "svd values": lambda a, b, p: np.linalg.svd(a, compute_uv=False),
    "qr": lambda a, b, p: np.linalg.qr(a), "qr r": lambda a, b, p: np.linalg.qr(a, "r"),
    "qr complete": lambda a, b, p: np.linalg.qr(a, mode="complete"),
    "eigh": lambda a, b, p: np.linalg.eigh(p, "U"),
    "eigvalsh": lambda a, b, p: np.linalg.eigvalsh(p),
    "inv": lambda a, b, p: np.linalg.inv(p), "det": lambda a, b, p: np.linalg.det(p),
    "slogdet": lambda a, b, p: np.linalg.slogdet(p),
    "cholesky": lambda a, b, p: np.linalg.cholesky(p),
    "solve": lambda a, b, p: np.linalg.solve(p, p), "pinv": lambda a, b, p: np.linalg.pinv(a),
    "pinv rcond": lambda a, b, p: np.linalg.pinv(p, 0.3, True),
    "lstsq": lambda a, b, p: np.linalg.lstsq(a, b, rcond=None)[:2],
    "rank": lambda a, b, p: np.linalg.matrix_rank(a), "rank of a vector":
    lambda a, b, p: np.linalg.matrix_rank(a[0]), "cond": lambda a, b, p: np.linalg.cond(p, 1),
    "multi_dot": lambda a, b, p: np.linalg.multi_dot([a, p, p]),
    "norm": lambda a, b, p: np.linalg.norm(a, "nuc"), "vander": lambda a, b, p: np.vander(a[0], 4),
    "norm 2": lambda a, b, p: np.linalg.norm(a, 2, keepdims=True),
    "tensorinv": lambda a, b, p: np.linalg.tensorinv(p, 1),
    "einsum": lambda a, b, p: np.einsum("ij,ik->jk", a, b),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_functions_are_recorded(name: str) -> None:
    wanted = NUMPY[name](A, B, P)
    for run in (NUMPY[name], accel.compile(NUMPY[name])):
        found = run(Tensor(A), Tensor(B), Tensor(P))
        ours, theirs = (r if isinstance(r, tuple) else (r,) for r in (found, wanted))
        for left, right in zip(ours, theirs, strict=True):
            assert isinstance(left, Tensor)
            close(left, np.asarray(right), 100)


def test_methods() -> None:
    x = Tensor(P)
    for name in ("det", "inverse", "logdet", "cholesky", "cholesky_inverse", "pinverse",
                 "matrix_exp"):  # fmt: skip
        found = getattr(x, name)()
        close(found, getattr(accel, name)(P).numpy())
    assert x.slogdet().sign.item() == 1 and x.matrix_power(2).shape == (3, 3)
    assert x.cholesky_solve(x.cholesky()).shape == (3, 3)
    y = Tensor(np.zeros(3))
    assert y.addmv_(x, y + 1) is y and y.shape == (3,)


def test_methods_as_torch_means_them() -> None:
    x = accel.asarray([[3.0, 1.0], [1.0, 2.0], [0.0, 1.0]])
    assert x.equal(x * 1) is True and x.equal(x + 1) is False and x.equal(x[0]) is False
    assert accel.compile(lambda x: x.equal(x + 1))(x).item() is False
    u, s, v = x.svd()
    np.testing.assert_allclose(((u * s) @ v.mT).numpy(), x.numpy(), atol=1e-6)
    assert [t.shape for t in x.svd(some=False)] == [(3, 3), (2,), (2, 2)]
    assert not any(t.numpy().any() for t in x.svd(compute_uv=False)[::2])
    assert x.qr()[0].shape == (3, 2) and x.qr(some=False)[0].shape == (3, 3)
