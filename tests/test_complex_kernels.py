"""Complex numbers in native kernels: arrays of any length and layout, fused work, special values.

The tests named test_core_* also run in one subprocess per instruction-set level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.ir.op import get_op

RNG = np.random.default_rng()
PARTS = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -2.5, 800.0, -800.0)
SPECIAL = np.array([complex(a, b) for a in PARTS for b in PARTS])

#: Of a complex result, errors are measured in units of its modulus: each product, sum and quotient
#: of parts rounds once, so half a dozen roundings of half a unit, times the root of 2 for both.
OPERATION = 6 * 0.5 * 2**0.5
#: exp, sine and cosine of `vecmath.ULP`, twice half the argument, two products.
EXPONENTIAL = 2 * 1.25 + 1.75 + 1.0

#: A public function, NumPy's, the number of operands, and units in the last place.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], int, float]] = {
    "add": (accel.add, np.add, 2, 0.5), "subtract": (accel.subtract, np.subtract, 2, 0.5),
    "multiply": (accel.multiply, np.multiply, 2, OPERATION),
    "divide": (accel.divide, np.divide, 2, 2 * OPERATION),
    "reciprocal": (accel.reciprocal, lambda z: 1 / z, 1, 2 * OPERATION),
    "negative": (accel.negative, np.negative, 1, 0), "conj": (accel.conj, np.conj, 1, 0),
    "real": (accel.real, np.real, 1, 0), "imag": (accel.imag, np.imag, 1, 0),
    "abs": (accel.abs, np.abs, 1, 1.25), "exp": (accel.exp, np.exp, 1, 2**0.5 * EXPONENTIAL),
    "sign": (accel.sign, get_op("sign").reference, 1, OPERATION),
    "equal": (accel.equal, np.equal, 2, 0), "not_equal": (accel.not_equal, np.not_equal, 2, 0),
    "isnan": (accel.isnan, np.isnan, 1, 0), "isinf": (accel.isinf, np.isinf, 1, 0),
    "isfinite": (accel.isfinite, np.isfinite, 1, 0),
    "logical_and": (accel.logical_and, np.logical_and, 2, 0),
    "logical_not": (accel.logical_not, np.logical_not, 1, 0),
}  # fmt: skip


@pytest.fixture(autouse=True)
def seeded() -> None:
    RNG.bit_generator.state = np.random.default_rng(5).bit_generator.state


def complexes(*shape: int, dtype: Any = np.complex64) -> np.ndarray:
    return (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(dtype)


def kernels(function: Any, *operands: Any) -> int:
    found = accel.compile(function).explain(*operands)
    assert "NumPy" not in str(found)
    return int(found.kernel_count)


def close(found: np.ndarray, wanted: np.ndarray, ulp: float) -> None:
    """Within units of the last place of the modulus."""
    assert found.shape == wanted.shape
    if found.dtype.kind == "b":
        np.testing.assert_array_equal(found, wanted)
        return
    unit = np.finfo(found.dtype).eps
    if ulp and found.dtype == wanted.dtype:
        ulp *= 2  # NumPy errs as well
    assert (np.abs(found.astype(wanted.dtype) - wanted) <= ulp * unit * np.abs(wanted)).all()


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_core_any_length(name: str, dtype: Any) -> None:
    ours, theirs, operands, ulp = FUNCTIONS[name]
    compiled = accel.compile(ours)
    for n in (0, 1, 2, 7, 63, 64, 65, 200, 1003):
        given = [complexes(n, dtype=dtype) for _ in range(operands)]
        wide = [x.astype(np.complex128) for x in given]
        close(compiled(*given).numpy(), np.asarray(theirs(*wide)), ulp)
        close(ours(*map(Tensor, given)).numpy(), np.asarray(theirs(*wide)), ulp)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_core_special_values(name: str) -> None:
    """Infinities, NaN and the signs of zeros, part by part; the sign of a NaN means nothing."""
    ours, theirs, operands, _ = FUNCTIONS[name]
    given = [v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL)] if operands == 2 else [SPECIAL]
    found = accel.compile(ours)(*given).numpy()
    with np.errstate(all="ignore"):
        wanted = theirs(*given)
    for part in ("real", "imag"):
        a, b = getattr(found, part), getattr(wanted, part)
        np.testing.assert_allclose(a, b, 1e-13, 1e-322)
        if a.dtype.kind == "f" and name != "sign":  # whose reference adds zeros
            number = ~np.isnan(b)
            np.testing.assert_array_equal(np.signbit(a[number]), np.signbit(b[number]))


def test_an_exponential_that_fits_does_not_overflow() -> None:
    for most, dtype in ((88.72, np.complex64), (709.78, np.complex128)):
        z = np.array([most + 0.2 + 0.7j, most - 1 + 3j], dtype)
        wanted = np.exp(z.astype(np.clongdouble)).astype(np.complex128)
        close(accel.compile(accel.exp)(z).numpy(), wanted, 2**0.5 * EXPONENTIAL)


def test_core_whole_powers() -> None:
    """n - 1 products, at most as many roundings of the modulus as in those."""
    z = complexes(300)
    wide = z.astype(np.complex128)
    for n in (1, 2, 3, 4, 5, 7, 16, -1, -2, -3):
        power = accel.compile(lambda v, n=n: v**n)
        assert "NumPy" not in str(power.explain(z))
        close(power(z).numpy(), wide**n, 3 * abs(n) + 6)
    finite = SPECIAL[np.isfinite(SPECIAL) & (abs(SPECIAL) < 10)]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(accel.compile(lambda v: v**2)(finite).numpy(), finite**2)
    general = accel.compile(lambda v: (v**0.5, v**0, v**2.5, 2.0**v, v ** (1 + 1j)))(z)
    for found, wanted in zip(
        general, (wide**0.5, wide**0, wide**2.5, 2.0**wide, wide ** (1 + 1j)), strict=True
    ):
        close(found.numpy(), wanted, 20)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda z: z.T, "every other": lambda z: z[:, ::2],
    "back": lambda z: z[::-1, ::-1], "column": lambda z: z[:, 3], "rows": lambda z: z[1::2],
    "spread": lambda z: np.broadcast_to(z[:1], z.shape), "scalar": lambda z: z[2, 3],
    "none": lambda z: z[:0],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_core_any_layout(layout: str) -> None:
    z = complexes(37, 70)
    view = LAYOUTS[layout](z)
    wide = view.astype(np.complex128)
    close(accel.compile(lambda v: v * v * 1j)(view).numpy(), wide * wide * 1j, 12)
    close(accel.compile(lambda v: abs(v))(view).numpy(), np.abs(wide), 1.25)
    if layout == "spread":
        return
    change: Any = LAYOUTS[layout]
    found = accel.compile(lambda v: accel.conj(change(v * 2)) / 3)(z).numpy()
    close(found, np.conj(wide * 2) / 3, 12)


def test_core_broadcast_and_mixed_with_real_numbers() -> None:
    z, x, n = complexes(5, 1, 33), RNG.standard_normal((4, 33)).astype("f4"), np.arange(33)
    wide = z.astype(np.complex128)
    close(accel.compile(lambda a, b: a * b * 2)(z, x).numpy(), wide * x * 2, 8)
    close(accel.compile(lambda a, b: a / (b + 1))(z, n).numpy(), wide / (n + 1), 12)
    picked = accel.compile(lambda a, b: accel.where(b > 0, a, 1j))(z, x).numpy()
    np.testing.assert_array_equal(picked, np.where(x > 0, z, np.complex64(1j)))


def test_core_reductions() -> None:
    for shape, axis in (((5000,), 0), ((70, 300), 0), ((70, 300), 1), ((3, 40, 50), (0, 2))):
        z = complexes(*shape)
        size = np.abs(z).sum(axis)
        parts = ((accel.sum, np.sum, 1.0), (accel.mean, np.mean, size.size / z.size))
        for ours, theirs, share in parts:
            found = accel.compile(lambda v, f=ours, k=axis: f(v, axis=k))(z).numpy()
            wanted = theirs(z.astype(np.complex128), axis)
            assert (np.abs(found - wanted) <= 1e-6 * size * share).all()


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_core_products(dtype: Any) -> None:
    for a, b in (((40, 50), (50, 60)), ((50,), (50, 60)), ((3, 8, 50), (50,)), ((0, 5), (5, 3))):
        x, y = complexes(*a, dtype=dtype), complexes(*b, dtype=dtype)
        wide = np.complex128 if dtype is np.complex64 else dtype
        bound = np.abs(x) @ np.abs(y) * np.finfo(dtype).eps * 60
        found = accel.compile(lambda p, q: p @ q)(x, y).numpy()
        assert found.dtype == dtype
        assert (np.abs(found - x.astype(wide) @ y.astype(wide)) <= bound).all()


def test_core_running_sums_and_casts() -> None:
    z = complexes(4, 300)
    close(accel.compile(lambda v: accel.cumulative_sum(v, axis=1))(z).numpy(),
          np.cumsum(z.astype(np.complex128), 1), 300)  # fmt: skip
    for dtype in (accel.complex128, accel.bool, accel.complex64):
        found = accel.compile(lambda v, d=dtype: v.astype(d))(z).numpy()
        np.testing.assert_array_equal(found, z.astype(dtype.numpy))
    made = accel.compile(lambda x: x.astype(accel.complex64))(z.real.copy()).numpy()
    np.testing.assert_array_equal(made, z.real.astype(np.complex64))


def test_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()


# -- kernels --------------------------------------------------------------------------------
def test_a_chain_is_one_kernel() -> None:
    z, w = complexes(1000), complexes(1000)
    assert kernels(lambda a, b: accel.exp(a * b + 1j) / (b.conj() - 2), z, w) == 1
    assert kernels(lambda a, b: abs(a - b) ** 2, z, w) == 1
    assert kernels(lambda a: accel.sum(a * a.conj()), z) == 1
    assert kernels(lambda a: ((a * 2).T, accel.real(a * 2) + 1), z) == 1
    assert kernels(lambda a: a.reshape(10, 100).T * 2, z) == 1


def test_what_has_no_rule_is_computed_whole_beside_kernels() -> None:
    z = complexes(100)
    function = accel.compile(lambda a: accel.sin(a * 2) * 2)
    text = str(function.explain(z))
    assert "NumPy reference (sin)" in text and "NumPy reference (mul" not in text
    close(function(z).numpy(), np.sin(z.astype(np.complex128) * 2) * 2, 20)


def test_work_behind_products_and_in_place() -> None:
    """What a product leaves is written over by what is made of it."""
    z, w = complexes(50, 60), complexes(60, 60)
    wide, other = z.astype(np.complex128), w.astype(np.complex128)
    wanted = np.abs((wide @ other * 2 + 1j) @ other) + wide.real
    found = accel.compile(lambda a, b: abs(((a @ b) * 2 + 1j) @ b) + accel.real(a))(z, w).numpy()
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_products_epilogue_reads_parts_of_a_scalar() -> None:
    """Parts of numbers in memory are read by loops only; a product beside them is stored."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 5))
    z = np.array(2 + 3j)
    for part, factor in ((accel.real, 4.0), (accel.imag, 6.0)):
        function = accel.compile(lambda a, b, z, part=part: (a @ b) * (part(z) * 2.0))
        np.testing.assert_allclose(function(a, b, z).numpy(), (a @ b) * factor, rtol=1e-13)
