"""Determinants and adjugates of small matrices in kernels, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel

RNG = np.random.default_rng(8)
DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrices(*shape: int, dtype: str) -> np.ndarray:
    made = RNG.standard_normal(shape)
    return (made + 1j * RNG.standard_normal(shape) if "c" in dtype else made).astype(dtype)


def volume(x: np.ndarray) -> np.ndarray:
    """The product of the rows' lengths, which bounds the determinant."""
    return np.prod(np.linalg.norm(x, axis=-1), axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_determinants(n: int, dtype: str) -> None:
    """Each of the products rounds thrice at most, six of them add up; complex ones are sums."""
    det = accel.compile(lambda v: accel.linalg.det(v))
    for batch in ((), (0,), (1,), (67,), (5, 30)):
        x = matrices(*batch, n, n, dtype=dtype)
        for array in (x, np.swapaxes(x, -1, -2), x[..., ::-1, :]):
            wide = array.astype(np.complex128 if "c" in dtype else np.float64)
            found, wanted = det(array).numpy(), np.linalg.det(wide)
            assert found.dtype == dtype and found.shape == batch
            assert (np.abs(found - wanted) <= 12 * np.finfo(dtype).eps * volume(wide)).all()
    singular = np.ones((9, n, n), dtype)
    np.testing.assert_array_equal(det(singular).numpy(), np.full(9, float(n == 1), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_are_cofactors(n: int, dtype: str) -> None:
    """Of singular matrices too; and those of these."""
    x = matrices(40, n, n, dtype=dtype)
    x[:10] = np.ones((n, n))
    wide = x.astype(np.complex128 if "c" in dtype else np.float64)
    columns = [np.delete(wide, i, axis=-2) for i in range(n)]
    minors = [[np.linalg.det(np.delete(m, j, axis=-1)) for j in range(n)] for m in columns]
    signs = (-1.0) ** np.add.outer(np.arange(n), np.arange(n))
    wanted = np.moveaxis(np.array(minors), -1, 0) * signs

    def total(v: Any) -> Any:
        return accel.sum(accel.real(accel.linalg.det(v)))

    found = accel.compile(accel.grad(total))(x).numpy()
    np.testing.assert_allclose(found, wanted.conj(), 1e-5, 1e-5 if dtype[-2:] in "3264" else 1e-12)


def test_one_kernel_and_infinities() -> None:
    x = matrices(100, 3, 3, dtype="float32")
    function = accel.compile(lambda v: accel.linalg.det(v))
    assert function.explain(x).kernel_count == 1
    x[0, 0, 0], x[1, 0, 0] = np.nan, np.inf
    assert not np.isfinite(function(x).numpy()[:2]).any()
    assert np.isfinite(function(x).numpy()[2:]).all()
    large = accel.compile(lambda v: accel.linalg.det(v))(np.eye(4, dtype=np.float32)[None] * 3)
    assert large.numpy()[0] == pytest.approx(81)
