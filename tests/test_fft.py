"""Fourier transforms: NumPy's results, torch's gradients, every spelling of the arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel import Tensor
from accel.errors import ArgumentError, AxisError, DTypeError, ShapeError

RNG = np.random.default_rng(7)
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")
OF_REALS = ("rfft", "ihfft", "rfftn", "rfft2")
NORMS = (None, "backward", "ortho", "forward")
NARROW = {"c": np.complex64, "f": np.float32}


def operand(name: str, shape: tuple[int, ...], wide: bool = False) -> np.ndarray:
    """Numbers that the function takes, in single or double precision."""
    x: Any = RNG.standard_normal(shape)
    if name not in OF_REALS:
        x = x + 1j * RNG.standard_normal(shape)
    dtype = np.result_type(x.dtype, np.float64) if wide else NARROW[x.dtype.kind]
    return np.asarray(x).astype(dtype)


def close(found: Any, wanted: np.ndarray, points: int) -> None:
    """Within the error of log2(points) stages of butterflies, in the 2-norm of the result."""
    found = np.asarray(found)
    assert found.shape == wanted.shape
    narrow = NARROW[wanted.dtype.kind]
    assert found.dtype in (narrow, np.result_type(narrow, np.float64))
    eps = np.finfo(found.dtype).eps
    bound = 4 * eps * (np.log2(max(points, 1)) + 3) * max(float(np.linalg.norm(wanted)), 1e-30)
    assert float(np.abs(found - wanted).max(initial=0.0)) <= bound


# -- against NumPy --------------------------------------------------------------------------
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ONE)
def test_along_one_axis(name: str, norm: Any) -> None:
    ours, theirs = getattr(accel.fft, name), getattr(np.fft, name)
    for shape, n, axis in (((8,), None, -1), ((5,), None, 0), ((4, 6), 3, 1), ((4, 6), 9, 0),
                           ((2, 3, 7), None, 1), ((2, 1), 1, 1), ((3, 2), 2, -1)):  # fmt: skip
        for wide in (False, True):
            x = operand(name, shape, wide)
            wanted = theirs(x, n, axis, norm)
            found = ours(Tensor(x), n=n, axis=axis, norm=norm)
            assert found.dtype.numpy == (wanted.dtype if wide else NARROW[wanted.dtype.kind])
            close(found.numpy(), wanted, max(found.shape))
            close(ours(x, n, axis, norm).numpy(), wanted, max(found.shape))
            close(ours(x, n, norm=norm, dim=axis).numpy(), wanted, max(found.shape))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MANY)
def test_along_several_axes(name: str, norm: Any) -> None:
    ours, theirs = getattr(accel.fft, name), getattr(np.fft, name)
    usual = {"axes": (-2, -1)} if name.endswith("2") else {}
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((4, 6), {}), ((3, 5), {}), ((2, 3, 4), {"axes": (0, 2)}), ((4, 3), {"axes": (1, 0)}),
        ((3, 4, 5), {"s": (6, 3), "axes": (0, 1)}), ((3, 4), {"s": (2, 7), "axes": (0, 1)}),
    ]  # fmt: skip
    for shape, given_ in cases:
        x = operand(name, shape)
        wanted = theirs(x, **{**usual, **given_}, norm=norm)
        found = ours(Tensor(x), **given_, norm=norm)
        assert found.dtype.numpy == ("c8" if np.iscomplexobj(wanted) else "f4")
        close(found.numpy(), wanted, wanted.size)


def test_points_alone_mean_the_last_axes() -> None:
    x = operand("fftn", (2, 3, 4))
    wanted = np.fft.fftn(x, (5, 2), (1, 2))
    close(accel.fft.fftn(x, (5, 2)).numpy(), wanted, 10)
    close(accel.fft.fftn(x, s=(-1, None), dim=(1, 2)).numpy(), np.fft.fftn(x, axes=(1, 2)), 12)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 2), st.booleans())
def test_inverses(shape: list[int], axis: int, ortho: bool) -> None:
    axis, norm = axis % len(shape), "ortho" if ortho else None
    z, x = operand("fft", tuple(shape), True), operand("rfft", tuple(shape), True)
    f = accel.fft
    close(f.ifftn(f.fftn(z, norm=norm), norm=norm).numpy(), z, z.size)
    n = shape[axis]
    close(f.irfft(f.rfft(x, axis=axis, norm=norm), n, axis, norm).numpy(), x, n)
    close(f.hfft(f.ihfft(x, axis=axis, norm=norm), n, axis, norm).numpy(), x, n)
    close(f.irfftn(f.rfftn(x, norm=norm), shape, norm=norm).numpy(), x, x.size)


@pytest.mark.parametrize("view", [
    lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x.T, lambda x: x[1:2].repeat(3, 0),
    lambda x: np.broadcast_to(x[:1], (4, 6)), lambda x: x[:0],
])  # fmt: skip
def test_any_layout(view: Callable[[np.ndarray], np.ndarray]) -> None:
    for name in ONE:
        x = view(operand(name, (4, 6)))
        found = getattr(accel.fft, name)(x).numpy()
        if x.size:
            close(found, getattr(np.fft, name)(x), 6)
        else:
            assert found.shape[0] == 0 and found.shape[1] in (4, 6, 10)


def test_other_dtypes_widen() -> None:
    for dtype in ("bool", "int8", "uint32", "int64", "float16", "bfloat16"):
        x = accel.asarray([1, 0, 1, 1]).astype(dtype)
        wanted = np.fft.fft(np.array([1.0, 0, 1, 1]))
        assert accel.fft.fft(x).dtype is accel.complex64
        assert accel.fft.irfft(x).dtype is accel.float32
        close(accel.fft.fft(x).numpy(), wanted, 4)
        close(accel.fft.rfft(x).numpy(), wanted[:3], 4)
    assert accel.fft.fft(accel.asarray([1.0, 2.0], dtype=accel.float64)).dtype is accel.complex128


def test_not_finite_numbers_stay_in_their_line() -> None:
    x = np.ones((2, 4), np.float32)
    x[0, 1] = np.nan
    found = accel.fft.rfft(x).numpy()
    assert np.isnan(found[0]).all() and found[1].tolist() == [4, 0, 0]


# -- frequencies and shifts -----------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 2, 5, 8, 101])
def test_frequencies(n: int) -> None:
    for d in (1.0, 0.3, 7):
        for name in ("fftfreq", "rfftfreq"):
            wanted = getattr(np.fft, name)(n, d)
            found = getattr(accel.fft, name)(n, d=d)
            assert found.dtype is accel.float32
            assert np.array_equal(found.numpy(), wanted.astype(np.float32))
            assert np.array_equal(getattr(accel.fft, name)(n, d, dtype="f64").numpy(), wanted)


def test_shifts() -> None:
    for shape in ((5,), (4,), (3, 4), (2, 3, 5), (0,)):
        x = np.arange(np.prod(shape)).reshape(shape)
        for axes in (None, 0, (0,), -1):
            for name in ("fftshift", "ifftshift"):
                found = getattr(accel.fft, name)(x, axes=axes)
                assert np.array_equal(found.numpy(), getattr(np.fft, name)(x, axes))


# -- NumPy's own functions, and every mode --------------------------------------------------
def test_numpy_functions_are_recorded() -> None:
    for name in (*ONE, *MANY):
        x = operand(name, (4, 6))
        found = getattr(np.fft, name)(Tensor(x))
        assert isinstance(found, Tensor)
        close(found.numpy(), getattr(np.fft, name)(x), 24)
    x = operand("fft", (4, 6))
    assert np.array_equal(np.fft.fftshift(Tensor(x), axes=1).numpy(), np.fft.fftshift(x, axes=1))
    close(np.fft.ifft(Tensor(x), n=3, axis=0, norm="ortho").numpy(),
          np.fft.ifft(x, n=3, axis=0, norm="ortho"), 3)  # fmt: skip


def low_passed(x: Any) -> Any:
    spectrum = np.fft.rfft(x, axis=-1)
    kept = np.abs(np.fft.rfftfreq(16)) < 0.2
    return np.fft.irfft(np.where(kept, spectrum, 0), n=16, axis=-1) * 2


MODES = ["pure", pytest.param("torch", marks=pytest.mark.torch),
         pytest.param("auto", marks=pytest.mark.torch)]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_compiled(mode: str) -> None:
    x = operand("rfft", (3, 16))
    compiled = accel.compile(low_passed, mode=mode)
    for _ in range(3):
        close(compiled(x).numpy(), low_passed(x), 16)
    with accel.mode(mode):
        for name in (*ONE, *MANY):
            z = operand(name, (4, 7))
            close(getattr(accel.fft, name)(Tensor(z)).numpy(), getattr(np.fft, name)(z), 28)


def test_explain_says_that_numpy_transforms() -> None:
    compiled = accel.compile(lambda x: accel.fft.fft(x * 2))
    assert "fft" in str(compiled.explain(operand("fft", (8,))))
    assert "reference" in str(compiled.explain(operand("fft", (8,))))


# -- gradients ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "irfftn"])
@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_gradients_are_adjoints(name: str, norm: str | None) -> None:
    """Of L = Re Σ conj(c)·y(x), linear in x, the gradient along e is L(e)."""
    function: Any = getattr(accel.fft, name)
    for shape in ((6,), (5,), (1, 2)):
        x = operand(name, shape, True)
        y = function(x, norm=norm).numpy()
        c = operand("fft" if np.iscomplexobj(y) else "rfft", y.shape, True)

        def loss(v: Any, c: Any = c) -> Any:
            return accel.sum(accel.real(accel.conj(Tensor(c)) * function(v, norm=norm)))

        slope = accel.grad(loss)(Tensor(x)).numpy()
        for place in np.ndindex(shape):
            for unit in (1, 1j) if np.iscomplexobj(x) else (1,):
                e = np.zeros_like(x)
                e[place] = unit
                along = (np.conj(unit) * slope[place]).real
                assert abs(loss(Tensor(e)).item() - along) < 1e-13 * np.linalg.norm(c)


@pytest.mark.torch
@pytest.mark.parametrize("name", (*ONE, *MANY))
def test_gradients_are_those_of_torch(name: str) -> None:
    import torch

    def loss(lib: Any, x: Any, options: dict[str, Any]) -> Any:
        y = getattr(lib.fft, name)(x, **options)
        return lib.sum(lib.abs(y) ** 3 + lib.real(y) ** 2)

    for shape in ((4, 6), (3, 5)):
        for options in ({}, {"norm": "ortho"}, {"dim": 0} if name in ONE else {"dim": (1, 0)}):
            x = operand(name, shape, True)
            theirs = torch.tensor(x, requires_grad=True)
            [first] = torch.autograd.grad(loss(torch, theirs, options), theirs, create_graph=True)
            [second] = torch.autograd.grad((first.abs() ** 2).sum(), theirs)
            ours = accel.grad(lambda v, o=options: loss(accel, v, o))
            twice = accel.grad(lambda v: accel.sum(accel.abs(ours(v)) ** 2))
            for found, wanted in ((ours(Tensor(x)), first), (twice(Tensor(x)), second)):
                wanted = wanted.detach().resolve_conj().numpy()
                assert np.abs(found.numpy() - wanted).max() < 1e-11 * np.abs(wanted).max()


@pytest.mark.torch
@pytest.mark.parametrize("name", (*ONE, *MANY))
def test_values_are_those_of_torch(name: str) -> None:
    import torch

    x = operand(name, (4, 6))
    wanted = getattr(torch.fft, name)(torch.tensor(x)).resolve_conj().numpy()
    found = getattr(accel.fft, name)(Tensor(x)).numpy()
    assert found.dtype == wanted.dtype
    close(found, wanted, 24)


# -- errors ---------------------------------------------------------------------------------
def test_errors() -> None:
    z, x = operand("fft", (2, 3)), operand("rfft", (2, 3))
    f = accel.fft
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: f.fft(z, n=0), ArgumentError, "fft of 0 points"),
        (lambda: f.irfft(z, n=-3), ArgumentError, "irfft of -3 points"),
        (lambda: f.fft(z, n=2.5), ArgumentError, "2.5 points"),
        (lambda: f.fft(z, axis=2), AxisError, "fft: axis 2"),
        (lambda: f.fftn(z, axes=(0, -2)), AxisError, "twice"),
        (lambda: f.fftn(z, s=(2,), axes=(0, 1)), ArgumentError, "1 numbers of points"),
        (lambda: f.fftn(z, axes=()), ArgumentError, "no axes"),
        (lambda: f.rfft(z), DTypeError, "rfft does not take"),
        (lambda: f.ihfft(z), DTypeError, "does not take"),
        (lambda: f.fft(z, norm="both"), ArgumentError, "norm 'both'"),
        (lambda: f.hfft(z, norm=3), ArgumentError, "norm 3"),
        (lambda: f.fft(z, axis=0, dim=1), ArgumentError, "both dim"),
        (lambda: f.fft(np.float32(1)), AxisError, "0-d"),
        (lambda: f.fft2(x[0]), AxisError, "axis -2"),
        (lambda: f.fft(x[:, :0]), ShapeError, "no elements"),
        (lambda: f.irfft(z[:, :1]), ArgumentError, "1 elements"),
        (lambda: f.fftfreq(0), ArgumentError, "fftfreq"),
        (lambda: f.rfftfreq(3, dtype=accel.int32), ArgumentError, "int32"),
        (lambda: f.fftshift(x, axes=2), AxisError, "axis 2"),
    ]  # fmt: skip
    for call, error, words in wrong:
        with pytest.raises(error, match=words) as caught:
            call()
        assert isinstance(caught.value, (ValueError, TypeError))
        assert "test_fft.py" in str(caught.value) and "remedy" in str(caught.value)
