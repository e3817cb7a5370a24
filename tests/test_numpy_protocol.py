"""NumPy's own functions on Tensors: recorded, with NumPy's meaning, compiled as they are."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel import errors
from accel.frontend.numpy_api.numerics import HANDLERS
from accel.frontend.numpy_api.protocol import UFUNCS

RNG = np.random.default_rng(2)
X = RNG.standard_normal((3, 4)).astype(np.float32)
Y = RNG.standard_normal((3, 4)).astype(np.float32)
B = X > 0
N = RNG.integers(1, 9, (3, 4))


def check(function, *arrays, rtol: float = 1e-5) -> None:
    """`function` of Tensors, lazy and compiled, gives recorded Tensors of NumPy's values."""
    with np.errstate(all="ignore"):
        expected = function(*arrays)
    many = isinstance(expected, (list, tuple))
    for run in (function, accel.compile(function)):
        found = run(*[accel.asarray(a) for a in arrays])
        assert isinstance(found, (list, tuple)) == many
        pairs = zip(found, expected, strict=True) if many else [(found, expected)]
        for value, wanted in pairs:
            assert isinstance(value, accel.Tensor)
            assert value.shape == np.shape(wanted)
            np.testing.assert_allclose(value.numpy(), wanted, rtol=rtol, atol=1e-5)


DOMAIN = {"arccosh": np.abs(X) + 1, "arcsin": np.tanh(X), "arccos": np.tanh(X),
          "arctanh": np.tanh(X) * 0.9, "log": np.abs(X), "log2": np.abs(X), "log10": np.abs(X),
          "sqrt": np.abs(X),
          "log1p": np.abs(X), "ldexp": X, "float_power": np.abs(X), "power": np.abs(X)}  # fmt: skip
INTEGERS = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert", "bitwise_invert", "left_shift",
            "bitwise_left_shift", "right_shift", "bitwise_right_shift", "bitwise_not", "gcd",
            "lcm")  # fmt: skip


@pytest.mark.parametrize("ufunc", list(UFUNCS), ids=lambda u: u.__name__)
def test_every_ufunc_of_the_table(ufunc: np.ufunc) -> None:
    name = ufunc.__name__
    first = N if name in INTEGERS else DOMAIN.get(name, X)
    if ufunc.nin == 1:
        check(lambda x: ufunc(x), first)
    elif name == "matmul":
        check(lambda x, y: ufunc(x, y.T), X, Y)
    elif name in INTEGERS or name == "ldexp":
        check(lambda x, y: ufunc(x, y), first, N % 5)
    else:
        check(lambda x, y: ufunc(x, y), first, Y, rtol=1e-4)
        check(lambda y: ufunc(first, y), Y, rtol=1e-4)


def test_ufunc_methods() -> None:
    check(lambda x: np.add.reduce(x), X)
    check(lambda x: np.add.reduce(x, axis=1, keepdims=True), X)
    check(lambda x: np.multiply.reduce(x, axis=(0, 1)), X)
    check(lambda x: np.maximum.reduce(x, axis=None), X)
    check(lambda x: np.logical_or.reduce(x), B)
    check(lambda x: np.logaddexp.reduce(x, axis=1), X)
    check(lambda x: np.add.accumulate(x, axis=1), X)
    check(lambda x: np.multiply.accumulate(x), X)
    check(lambda x, y: np.subtract.outer(x, y), X[0], Y)
    check(lambda x: np.add(x, 1, dtype=np.float64), X)


TRAPEZOID = getattr(np, "trapezoid", None) or np.trapz

FUNCTIONS = {
    "sum": lambda x, y: np.sum(x, axis=0, keepdims=True),
    "sum dtype": lambda x, y: np.sum(x, dtype=np.float64),
    "sum where": lambda x, y: np.sum(x, axis=1, where=y > 0, initial=2.0),
    "prod": lambda x, y: np.prod(x, 1),
    "mean": lambda x, y: np.mean(x, axis=(0, 1)),
    "max": lambda x, y: np.max(x, axis=1),
    "amin": lambda x, y: np.amin(x, 0, keepdims=True),
    "max initial": lambda x, y: np.max(x, axis=1, initial=0.5, where=y > 0),
    "var": lambda x, y: np.var(x, 1),
    "std": lambda x, y: np.std(x, ddof=1),
    "any": lambda x, y: np.any(x > 1, axis=1),
    "all": lambda x, y: np.all(x > -1, 0),
    "argmax": lambda x, y: np.argmax(x),
    "argmin": lambda x, y: np.argmin(x, 1),
    "cumsum": lambda x, y: np.cumsum(x),
    "cumprod": lambda x, y: np.cumprod(x, axis=1),
    "count_nonzero": lambda x, y: np.count_nonzero(x > 0, axis=0),
    "ptp": lambda x, y: np.ptp(x, 1),
    "average": lambda x, y: np.average(x, axis=1),
    "weighted": lambda x, y: np.average(x, 1, abs(y)),
    "weights 1-d": lambda x, y: np.average(x, 0, abs(y[:, 0])),
    "nansum": lambda x, y: np.nansum(x, 1),
    "nanmean": lambda x, y: np.nanmean(x),
    "diff": lambda x, y: np.diff(x, axis=0),
    "interp": lambda x, y: np.interp(x, [-0.5, 0.1, 0.7], [3.0, -1.0, 2.0]),
    "interp of Tensors": lambda x, y: np.interp(x, np.sort(y[0]), x[1]),
    "interp beyond": lambda x, y: np.interp(x, np.sort(y[0]), x[1], left=-7.0, right=9.0),
    "interp at points": lambda x, y: np.interp(np.sort(y[0]), np.sort(y[0]), x[1], -7.0, 9.0),
    "interp one": lambda x, y: np.interp(x, y[0, :1], x[0, :1], left=-7.0, right=9.0),
    "interp infinite": lambda x, y: np.interp(x / (x - x), [0.0, 1.0], [2.0, 3.0]),
    "trapezoid": lambda x, y: TRAPEZOID(x, axis=0),
    "trapezoid at": lambda x, y: TRAPEZOID(x, y[0], axis=1),
    "trapezoid at each": lambda x, y: TRAPEZOID(x, y, axis=0),
    "trapezoid of one": lambda x, y: TRAPEZOID(x[:1], dx=0.5, axis=0),
    "apply_along_axis": lambda x, y: np.apply_along_axis(np.sum, 0, x),
    "apply lines": lambda x, y: np.apply_along_axis(np.cumsum, 0, np.stack([x, y, x + y])),
    "apply matrices": lambda x, y: np.apply_along_axis(
        lambda line: np.outer(line, line), 1, np.stack([x, y])),
    "norm": lambda x, y: np.linalg.norm(x),
    "norm axis": lambda x, y: np.linalg.norm(x, axis=1),
    "norm 1": lambda x, y: np.linalg.norm(x, 1),
    "norm fro": lambda x, y: np.linalg.norm(x, "fro"),
    "norm inf": lambda x, y: np.linalg.norm(x[0], np.inf),
    "where": lambda x, y: np.where(x > y, x, 0.0),
    "where number": lambda x, y: np.where(x - x, x, y),
    "clip": lambda x, y: np.clip(x, -0.5, 0.5),
    "clip one": lambda x, y: np.clip(x, None, 0.5),
    "round": lambda x, y: np.round(x, 2),
    "around": lambda x, y: np.around(x),
    "nan_to_num": lambda x, y: np.nan_to_num(x / (x - x)),
    "isposinf": lambda x, y: np.isposinf(x / (x - x)),
    "isneginf": lambda x, y: np.isneginf(x / (x - x)),
    "isclose": lambda x, y: np.isclose(x, x + 1e-7),
    "select": lambda x, y: np.select([x > 1, x > 0], [x, y], 0.0),
    "reshape": lambda x, y: np.reshape(x, (2, 6)),
    "ravel": lambda x, y: np.ravel(x),
    "transpose": lambda x, y: np.transpose(x),
    "transpose axes": lambda x, y: np.transpose(x, (1, 0)),
    "swapaxes": lambda x, y: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x, y: np.moveaxis(x, 0, 1),
    "expand_dims": lambda x, y: np.expand_dims(x, 1),
    "squeeze": lambda x, y: np.squeeze(x[:, :1], axis=1),
    "broadcast_to": lambda x, y: np.broadcast_to(x, (2, 3, 4)),
    "broadcast_arrays": lambda x, y: list(np.broadcast_arrays(x, y[0])),
    "concatenate": lambda x, y: np.concatenate([x, y], axis=1),
    "stack": lambda x, y: np.stack([x, y], 1),
    "concatenate flat": lambda x, y: np.concatenate((x, y), axis=None),
    "vstack": lambda x, y: np.vstack([x, y]),
    "hstack": lambda x, y: np.hstack((x, y)),
    "dstack": lambda x, y: np.dstack([x, y]),
    "column_stack": lambda x, y: np.column_stack([x[:, 0], y]),
    "split": lambda x, y: np.split(x, 2, axis=1),
    "split at": lambda x, y: np.split(x, [1, 3], 1),
    "array_split": lambda x, y: np.array_split(x, 3, axis=1),
    "hsplit": lambda x, y: list(np.hsplit(x, 2)),
    "vsplit": lambda x, y: list(np.vsplit(x, [1, 2])),
    "dsplit": lambda x, y: list(np.dsplit(x[None], 2)),
    "atleast_3d": lambda x, y: np.atleast_3d(x),
    "append": lambda x, y: np.append(x, y[:1], axis=0),
    "append flat": lambda x, y: np.append(x, [1.0, 2.0]),
    "cov": lambda x, y: np.cov(x),
    "cov of two": lambda x, y: np.cov(x[0], y[0], bias=True),
    "cov of columns": lambda x, y: np.cov(x, y, rowvar=False, ddof=0),
    "cov of one": lambda x, y: np.cov(x[0]),
    "corrcoef": lambda x, y: np.corrcoef(x, y),
    "corrcoef of one": lambda x, y: np.corrcoef(x[0]),
    "flip": lambda x, y: np.flip(x, 1),
    "fliplr": lambda x, y: np.fliplr(x),
    "flipud": lambda x, y: np.flipud(x),
    "rot90": lambda x, y: np.rot90(x),
    "roll": lambda x, y: np.roll(x, 1, axis=1),
    "tile": lambda x, y: np.tile(x, (2, 1)),
    "repeat": lambda x, y: np.repeat(x, 2, axis=0),
    "pad": lambda x, y: np.pad(x, ((1, 0), (0, 2)), constant_values=3),
    "pad 1": lambda x, y: np.pad(x, 1),
    "pad sides": lambda x, y: np.pad(x, ((1, 2), (0, 1)), constant_values=((1, 2), (3, 4))),
    "pad pair": lambda x, y: np.pad(x, 1, constant_values=(1, 2)),
    "diagonal": lambda x, y: np.diagonal(x, 1),
    "trace": lambda x, y: np.trace(x),
    "diag": lambda x, y: np.diag(x[0], -1),
    "diag of": lambda x, y: np.diag(x),
    "diagflat": lambda x, y: np.diagflat(x[:2], 1),
    "tril": lambda x, y: np.tril(x),
    "triu": lambda x, y: np.triu(x, k=1),
    "copy": lambda x, y: np.copy(x),
    "take": lambda x, y: np.take(x, [2, 0], axis=1),
    "dot": lambda x, y: np.dot(x, y.T),
    "take_along_axis": lambda x, y: np.take_along_axis(x, np.argmax(x, 1)[:, None], axis=1),
    "tensordot": lambda x, y: np.tensordot(x, y, axes=([0], [0])),
    "inner": lambda x, y: np.inner(x, y),
    "outer": lambda x, y: np.outer(x, y),
    "vdot": lambda x, y: np.vdot(x, y),
    "kron": lambda x, y: np.kron(x, y),
    "cross": lambda x, y: np.cross(x[:, :3], y[:, :3]),
    "einsum": lambda x, y: np.einsum("ij,kj->ik", x, y),
    "meshgrid": lambda x, y: list(np.meshgrid(x[0], y[:, 0])),
    "zeros_like": lambda x, y: np.zeros_like(x),
    "ones_like": lambda x, y: np.ones_like(x, dtype=np.int32),
    "full_like": lambda x, y: np.full_like(x, 3),
    "ones_like shape": lambda x, y: np.ones_like(x, shape=(2,)),
    "sinc": lambda x, y: np.sinc(x),
    "real": lambda x, y: np.real(x),
    "imag": lambda x, y: np.imag(x),
    "fix": lambda x, y: np.fix(x),
    "atleast": lambda x, y: np.atleast_2d(x[0]),
    "method max": lambda x, y: x.max(axis=1),
    "method std": lambda x, y: x.std(axis=0),
    "method mean": lambda x, y: x.mean(1, keepdims=True),
    "method astype": lambda x, y: x.astype(np.int32),
    "method dot": lambda x, y: x.dot(y.T),
    "method reshape": lambda x, y: x.reshape(-1).cumsum(axis=0),
    "method T": lambda x, y: x.T @ y,
}  # fmt: skip


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_function_matches_numpy_lazy_and_compiled(name: str) -> None:
    check(FUNCTIONS[name], X, Y)


def test_functions_with_values_at_once() -> None:
    x = accel.asarray(X)
    assert np.allclose(x, X) and np.array_equal(x, X) and not np.array_equal(x, X[:2])
    assert np.array_equal(accel.asarray([np.nan]), accel.asarray([np.nan]), equal_nan=True)
    assert np.shape(x) == (3, 4) and np.ndim(x) == 2 and np.size(x) == 12 and np.size(x, 1) == 4
    assert np.isrealobj(x) and not np.iscomplexobj(x)
    np.testing.assert_array_equal(np.argwhere(x > 0).numpy(), np.argwhere(B))
    np.testing.assert_array_equal(np.flatnonzero(x > 0).numpy(), np.flatnonzero(B))
    np.testing.assert_array_equal(np.where(x > 0)[1].numpy(), np.where(B)[1])
    assert np.result_type(x, np.float64) is accel.float64


def test_arrays_and_tensors_mix_on_either_side() -> None:
    x = accel.asarray(X)
    for found in (X + x, x + X, np.float32(1) * x, X.T.T - x, np.concatenate([X, x])):
        assert isinstance(found, accel.Tensor)
    np.testing.assert_allclose((X * x).numpy(), X * X)


def black_scholes(spot, strike, years, rate, volatility):
    """As a NumPy user writes it."""
    root = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / root
    d2 = d1 - root

    def normal(x):
        t = 1 / (1 + 0.2316419 * np.abs(x))
        series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (
            -1.821255978 + t * 1.330274429))))  # fmt: skip
        tail = np.exp(-0.5 * x * x) * 0.3989422804014327 * series
        return np.where(x > 0, 1 - tail, tail)

    call = spot * normal(d1) - strike * np.exp(-rate * years) * normal(d2)
    return np.clip(call, 0, None), np.mean(call), np.std(call, axis=0)


def test_numpy_program_compiles_unchanged_and_has_a_gradient() -> None:
    spot, strike = RNG.uniform(50, 150, 100), RNG.uniform(50, 150, 100)
    arguments = spot, strike, np.full(100, 0.5), 0.02, 0.3
    expected = black_scholes(*arguments)
    for found, wanted in zip(accel.compile(black_scholes)(*arguments), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-10)
    slope = accel.grad(lambda s: black_scholes(s, *arguments[1:])[0].sum())(accel.asarray(spot))
    step = 1e-5
    finite = (black_scholes(spot + step, *arguments[1:])[0]
              - black_scholes(spot - step, *arguments[1:])[0]) / (2 * step)  # fmt: skip
    np.testing.assert_allclose(slope.numpy(), finite, rtol=1e-3, atol=1e-4)


def layer(x, w, b):
    h = np.maximum(np.matmul(x, w) + b, 0)
    h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
    e = np.exp(h - np.max(h, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def test_numpy_layer_compiles_unchanged() -> None:
    check(layer, X, Y.T.copy(), X[:, 0].copy())


# What goes wrong ----------------------------------------------------------------------------

UNSUPPORTED = [
    (lambda x: np.cbrt(x), "numpy.cbrt"), (lambda x: np.packbits(x), "numpy.packbits"),
    (lambda x: np.poly(x), "numpy.poly"), (lambda x: np.unwrap(x), "unwrap"),
    (lambda x: np.subtract.reduce(x), "numpy.subtract.reduce"),
    (lambda x: np.add.at(x, [0], 1), "numpy.add.at"),
    (lambda x: np.gradient(x), "numpy.gradient"),
    (lambda x: np.hypot.accumulate(x), "numpy.hypot.accumulate"),
]  # fmt: skip


@pytest.mark.parametrize("case", UNSUPPORTED, ids=lambda c: c[1])
def test_unsupported_function_is_named_inside_and_outside_of_a_trace(case) -> None:
    function, name = case
    for run in (function, accel.compile(function)):
        with pytest.raises(TypeError, match=name) as caught:
            run(accel.asarray(X))
        assert isinstance(caught.value, errors.UnsupportedFunctionError)
        assert caught.value.loc.file == __file__ and "np.asarray" in caught.value.remedy


def test_out_and_other_options_are_refused() -> None:
    x, target = accel.asarray(X), X.copy()
    with pytest.raises(errors.ArgumentError, match="out="):
        np.add(x, 1, out=target)
    with pytest.raises(errors.ArgumentError, match="out="):
        np.sum(x, out=target)
    with pytest.raises(errors.ArgumentError, match="out="):
        target += x
    with pytest.raises(errors.ArgumentError, match="where="):
        np.exp(x, where=B)
    with pytest.raises(errors.ArgumentError, match="order"):
        np.ravel(x, order="F")
    with pytest.raises(errors.UnsupportedFunctionError, match=r"numpy\.pad.*stat_length"):
        np.pad(x, 1, mode="mean", stat_length=2)
    np.testing.assert_array_equal(target, X)


def test_classes_with_their_own_protocol_have_their_say() -> None:
    class Foreign:
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            return "foreign"

        def __array_function__(self, function, types, args, kwargs):
            return "foreign"

    assert np.add(accel.ones(2), Foreign()) == "foreign"
    assert np.concatenate([accel.ones(2), Foreign()]) == "foreign"


def test_values_of_a_traced_tensor_are_refused_in_plain_numpy() -> None:
    with pytest.raises(errors.TracedValueError):
        accel.compile(lambda x: np.asarray(x) + 1)(accel.asarray(X))


def test_tables_hold_numpys_functions() -> None:
    assert len(UFUNCS) > 60 and len(HANDLERS) > 80
    assert all(callable(f) and callable(h) for f, h in HANDLERS.items())


def rows_of_zeros(x):
    out = np.zeros(x.shape, x.dtype)
    out[0] = x[1]
    return out


def items_of_zeros(x):
    out = np.zeros(3)
    for i in range(3):
        out[i] = 2 * x[i, 0]
    return out


def listed(x):
    return np.array([x[0, 0], x[1, 1]])


@pytest.mark.parametrize("function", [rows_of_zeros, items_of_zeros, listed])
def test_arrays_of_numpy_in_a_compiled_function_say_what_to_write(function) -> None:
    with pytest.raises(errors.TracedValueError, match="NumPy") as caught:
        accel.compile(function)(X)
    assert "np.zeros_like(x)" in caught.value.remedy and "accel.zeros" in caught.value.remedy
    assert caught.value.loc.file == __file__
