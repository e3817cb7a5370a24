"""Public functions and methods: both spellings, both meanings, NumPy's values, clear errors."""

from __future__ import annotations

import inspect
import math
import pickle
from typing import Any

import numpy as np
import pytest

import accel
from accel import errors

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4)).astype(np.float32)
Y = RNG.standard_normal((3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.5)
UNIT = np.tanh(X) * np.float32(0.9)
WHOLE = RNG.integers(-9, 9, (3, 4))
CUBE = RNG.standard_normal((2, 3, 4)).astype(np.float32)


def close(found, expected, rtol=2e-6, atol=2e-6) -> None:
    """Values, shape and (where NumPy has it) dtype kind."""
    expected = np.asarray(expected)
    array = found.numpy()
    assert array.shape == expected.shape
    np.testing.assert_allclose(array.astype(np.float64), expected.astype(np.float64), rtol, atol)


# Element-wise -------------------------------------------------------------------------------

UNARY = {
    "abs": (np.abs, X), "neg": (np.negative, X), "sign": (np.sign, X), "square": (np.square, X),
    "sqrt": (np.sqrt, POSITIVE), "rsqrt": (lambda x: 1 / np.sqrt(x), POSITIVE),
    "reciprocal": (np.reciprocal, POSITIVE), "exp": (np.exp, X), "exp2": (np.exp2, X),
    "expm1": (np.expm1, X), "log": (np.log, POSITIVE), "log1p": (np.log1p, POSITIVE),
    "log2": (np.log2, POSITIVE), "log10": (np.log10, POSITIVE), "sin": (np.sin, X),
    "cos": (np.cos, X), "tan": (np.tan, UNIT), "asin": (np.arcsin, UNIT),
    "acos": (np.arccos, UNIT), "atan": (np.arctan, X), "sinh": (np.sinh, X),
    "cosh": (np.cosh, X), "tanh": (np.tanh, X), "asinh": (np.arcsinh, X),
    "acosh": (np.arccosh, POSITIVE + 1), "atanh": (np.arctanh, UNIT), "floor": (np.floor, X),
    "ceil": (np.ceil, X), "trunc": (np.trunc, X), "round": (np.round, X), "isnan": (np.isnan, X),
    "isinf": (np.isinf, X), "isfinite": (np.isfinite, X), "signbit": (np.signbit, X),
    "erf": (np.vectorize(math.erf), X), "erfc": (np.vectorize(math.erfc), X),
    "logical_not": (np.logical_not, WHOLE), "bitwise_invert": (np.invert, WHOLE),
    "relu": (lambda x: np.maximum(x, 0), X), "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), X),
    "relu6": (lambda x: np.clip(x, 0, 6), X * 5), "deg2rad": (np.deg2rad, X),
    "rad2deg": (np.rad2deg, X), "sinc": (np.sinc, np.append(X.ravel(), np.float32(0))),
    "silu": (lambda x: x / (1 + np.exp(-x)), X), "softplus": (lambda x: np.log1p(np.exp(x)), X),
    "logsigmoid": (lambda x: -np.log1p(np.exp(-x)), X),
    "softsign": (lambda x: x / (1 + np.abs(x)), X), "tanhshrink": (lambda x: x - np.tanh(x), X),
    "hardtanh": (lambda x: np.clip(x, -1, 1), X * 2), "conj": (np.conj, X), "real": (np.real, X),
    "imag": (np.imag, X), "positive": (np.positive, X), "logit": (
        lambda p: np.log(p / (1 - p)), np.abs(UNIT) * 0.9 + np.float32(0.05)),
}  # fmt: skip

BINARY = {
    "add": (np.add, X, Y), "sub": (np.subtract, X, Y), "mul": (np.multiply, X, Y),
    "div": (np.divide, X, Y), "pow": (np.power, POSITIVE, Y), "maximum": (np.maximum, X, Y),
    "minimum": (np.minimum, X, Y), "fmax": (np.fmax, X, Y), "fmin": (np.fmin, X, Y),
    "floor_divide": (np.floor_divide, WHOLE, WHOLE + 20), "remainder": (np.remainder, X, Y),
    "fmod": (np.fmod, X, Y), "hypot": (np.hypot, X, Y), "atan2": (np.arctan2, X, Y),
    "copysign": (np.copysign, X, Y), "logaddexp": (np.logaddexp, X, Y), "eq": (np.equal, X, Y),
    "ne": (np.not_equal, X, Y), "lt": (np.less, X, Y), "le": (np.less_equal, X, Y),
    "gt": (np.greater, X, Y), "ge": (np.greater_equal, X, Y), "heaviside": (np.heaviside, X, Y),
    "logical_and": (np.logical_and, WHOLE, WHOLE), "logical_or": (np.logical_or, WHOLE, WHOLE),
    "logical_xor": (np.logical_xor, WHOLE, WHOLE), "bitwise_and": (np.bitwise_and, WHOLE, 5),
    "bitwise_or": (np.bitwise_or, WHOLE, 5), "bitwise_xor": (np.bitwise_xor, WHOLE, 5),
    "bitwise_left_shift": (np.left_shift, WHOLE, 2), "isclose": (np.isclose, X, X + 1e-7),
    "bitwise_right_shift": (np.right_shift, WHOLE, 2), "nextafter": (np.nextafter, X, Y),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary_function_and_method_match_numpy(name: str) -> None:
    reference, x = UNARY[name]
    close(getattr(accel, name)(accel.asarray(x)), reference(x))
    if name not in ("real", "imag") and hasattr(accel.Tensor, name):
        close(getattr(accel.asarray(x), name)(), reference(x))


@pytest.mark.parametrize("name", sorted(BINARY))
def test_binary_function_and_method_match_numpy(name: str) -> None:
    reference, x, y = BINARY[name]
    expected = reference(x, y)
    close(getattr(accel, name)(accel.asarray(x), y), expected)
    if hasattr(accel.Tensor, name):
        close(getattr(accel.asarray(x), name)(accel.asarray(y)), expected)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("subtract", "sub"), ("multiply", "mul"), ("divide", "div"), ("negative", "neg"),
     ("absolute", "abs"), ("clamp", "clip"), ("equal", "eq"), ("not_equal", "ne"),
     ("less", "lt"), ("less_equal", "le"), ("greater", "gt"), ("greater_equal", "ge"),
     ("arctan2", "atan2"), ("arccosh", "acosh"), ("bitwise_not", "bitwise_invert"),
     ("concat", "cat"), ("permute_dims", "permute"), ("movedim", "moveaxis"),
     ("unstack", "unbind"), ("cumulative_sum", "cumsum"), ("add_scalar", "add"),
     ("mul_scalar", "mul"), ("from_data", "tensor")],
)  # fmt: skip
def test_both_names_are_one_function(alias: str, name: str) -> None:
    assert getattr(accel, alias) is getattr(accel, name)


def test_functions_tell_what_they_are() -> None:
    assert accel.exp.__name__ == "exp"
    assert "References" in accel.gelu.__doc__
    assert str(inspect.signature(accel.leaky_relu)) == "(x, /, negative_slope=0.01)"
    for name in accel.frontend.functions.elementwise.__all__:
        assert getattr(accel, name).__doc__, name


def test_settings_by_position_and_name() -> None:
    x = accel.asarray([-1.0, 2.0])
    close(accel.leaky_relu(x, 0.5), [-0.5, 2.0])
    close(accel.leaky_relu(x, negative_slope=0.5), [-0.5, 2.0])
    with pytest.raises(TypeError):
        accel.leaky_relu(x, 0.5, 3)
    with pytest.raises(errors.ArgumentError, match="no argument slope"):
        accel.leaky_relu(x, slope=0.5)


def test_add_and_sub_with_alpha_and_rounded_quotients() -> None:
    x = accel.asarray([7.0, -7.0])
    assert x.add(1, alpha=2).tolist() == [9.0, -5.0]
    assert x.sub(x, alpha=0.5).tolist() == [3.5, -3.5]
    assert x.div(2, rounding_mode="floor").tolist() == [3.0, -4.0]
    assert x.div(2, rounding_mode="trunc").tolist() == [3.0, -3.0]
    assert accel.div(accel.asarray([7, -7]), 2, rounding_mode="trunc").tolist() == [3, -3]
    with pytest.raises(errors.ArgumentError, match="rounding_mode"):
        x.div(2, rounding_mode="up")


def test_clip_with_either_bound() -> None:
    x = accel.asarray(X)
    close(x.clamp(max=0.2), np.minimum(X, 0.2))
    close(x.clip(-0.1, 0.3), np.clip(X, -0.1, 0.3))
    low = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    close(accel.clip(x, min=accel.asarray(low)), np.maximum(X, low))


def test_round_to_decimals() -> None:
    close(accel.round(accel.asarray([1.234, -5.678]), 1), [1.2, -5.7])
    assert accel.round(accel.asarray([1234, 1251]), -2).tolist() == [1200, 1300]


def test_where_masked_fill_and_nan_to_num() -> None:
    x = accel.asarray(X)
    close(accel.where(x > 0, x, 0.0), np.where(X > 0, X, 0))
    close(x.where(x > 0, 0.0), np.where(X > 0, X, 0))
    close(x.masked_fill(x > 0, 5), np.where(X > 0, 5, X))
    assert x.masked_fill(x > 0, 5).dtype is accel.float32
    bad = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    close(accel.nan_to_num(bad, posinf=9, neginf=-9), [0, 9, -9, 1])
    with pytest.raises(errors.DTypeError, match="bool condition"):
        accel.where(x, x, x)
    with pytest.raises(errors.ArgumentError, match="one value of two"):
        accel.where(x > 0, x)


def test_glu_and_prelu() -> None:
    close(accel.glu(accel.asarray(X)), X[:, :2] / (1 + np.exp(-X[:, 2:])))
    slopes = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    close(accel.prelu(accel.asarray(X), slopes), np.where(X > 0, X, X * slopes))
    with pytest.raises(errors.ShapeError, match="odd extent 3"):
        accel.glu(accel.asarray(X), 0)
    with pytest.raises(errors.ShapeError, match="2 slopes for 4 channels"):
        accel.prelu(accel.asarray(X), accel.ones(2))


# Reductions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "amax", "amin", "any", "all"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reduction_matches_numpy(name: str, axis, keepdims: bool) -> None:
    x = accel.asarray(CUBE)
    expected = getattr(np, name)(CUBE, axis=axis, keepdims=keepdims)
    close(getattr(accel, name)(x, axis=axis, keepdims=keepdims), expected, 1e-5)
    if axis != ():
        close(getattr(x, name)(axis, keepdims), expected, 1e-5)
        close(getattr(x, name)(dim=axis, keepdim=keepdims), expected, 1e-5)


def test_empty_dim_means_all_and_empty_axis_none() -> None:
    x = accel.ones((2, 3))
    assert x.sum(dim=()).shape == ()
    assert x.sum(axis=()).shape == (2, 3)


def test_sum_dtype_and_integer_widths() -> None:
    x = accel.ones((4,), dtype=accel.int8)
    assert x.sum().dtype is accel.int64
    assert x.sum(dtype=accel.float32).dtype is accel.float32
    assert x.prod(dtype=accel.int32).dtype is accel.int32
    assert accel.mean(x, dtype=accel.float64).dtype is accel.float64


def test_max_and_min_in_every_meaning() -> None:
    x = accel.asarray(X)
    values, indices = accel.max(x, 1)
    close(values, X.max(1))
    close(indices, X.argmax(1))
    pair = x.min(dim=0, keepdim=True)
    assert pair.values.shape == pair.indices.shape == (1, 4)
    close(accel.max(x, axis=1), X.max(1))
    close(x.max(axis=(0, 1)), X.max())
    close(x.max(), X.max())
    close(accel.max(x, accel.asarray(Y)), np.maximum(X, Y))
    close(x.min(other=Y), np.minimum(X, Y))
    with pytest.raises(errors.ArgumentError, match="both dim=1 and axis=0"):
        accel.max(x, 1, axis=0)
    with pytest.raises(TypeError, match="unexpected keyword"):
        accel.max(x, dims=1)


def test_variance_follows_the_spelling() -> None:
    x = accel.asarray(X)
    close(x.var(), X.var(ddof=1))
    close(x.var(1), X.var(1, ddof=1))
    close(x.std(dim=1), X.std(1, ddof=1))
    close(x.var(axis=1), X.var(1))
    close(accel.std(x, axis=None), X.std())
    close(x.var(1, unbiased=False), X.var(1))
    close(x.var(False), X.var())
    close(x.var(axis=0, correction=1), X.var(0, ddof=1))
    close(x.std(axis=0, ddof=1), X.std(0, ddof=1))
    deviation, mean = accel.std_mean(x, 1)
    close(deviation, X.std(1, ddof=1))
    close(mean, X.mean(1))
    with pytest.raises(errors.ArgumentError, match="say the same"):
        x.var(correction=1, unbiased=True)


def test_arg_reductions_flatten_without_an_axis() -> None:
    x = accel.asarray(X)
    assert x.argmax().item() == X.argmax()
    assert x.argmin(keepdim=True).shape == (1, 1)
    close(x.argmin(axis=0, keepdims=True), X.argmin(0, keepdims=True))


def test_scans_and_differences() -> None:
    x = accel.asarray(X)
    close(x.cumsum(1), X.cumsum(1), 1e-5)
    close(accel.cumprod(x, axis=0), X.cumprod(0), 1e-5)
    assert accel.cumulative_sum(accel.arange(3), include_initial=True).tolist() == [0, 0, 1, 3]
    assert accel.cumulative_prod(accel.arange(1, 4), include_initial=True).tolist() == [1, 1, 2, 6]
    close(accel.diff(x, 2), np.diff(X, 2), 1e-5, 1e-5)
    close(accel.logcumsumexp(x, 1), np.logaddexp.accumulate(X, 1), 1e-5, 1e-5)
    with pytest.raises(errors.ArgumentError, match="without an axis"):
        x.cumsum()


def test_nan_reductions_and_norms() -> None:
    holes = np.array([[1, np.nan, 3], [np.nan, 5, 6]], np.float32)
    close(accel.nansum(accel.asarray(holes), axis=1), np.nansum(holes, 1))
    close(accel.nanmean(accel.asarray(holes), axis=0), np.nanmean(holes, 0))
    x = accel.asarray(X)
    for p in (2, 1, 0, 3, math.inf, -math.inf):
        close(accel.linalg.vector_norm(x, p, axis=1), np.linalg.norm(X, p, 1), 1e-5)
    close(x.norm(), np.linalg.norm(X))
    for kind in ("fro", 1, -1, math.inf, -math.inf):
        close(accel.linalg.matrix_norm(x, kind), np.linalg.norm(X, kind), 1e-5)


def test_softmax_axes_and_dtype() -> None:
    x = accel.asarray(X)
    shares = np.exp(X) / np.exp(X).sum(0)
    close(accel.softmax(x, 0), shares)
    close(accel.softmax(x, axis=0), shares)
    close(x.log_softmax(0), np.log(shares), 1e-5, 1e-5)
    assert accel.softmax(accel.arange(3), dtype=accel.float64).dtype is accel.float64


def test_empty_reduction_names_the_op_and_the_line() -> None:
    with pytest.raises(errors.EmptyReductionError, match="identity") as caught:
        accel.max(accel.zeros((3, 0)), axis=1)
    assert caught.value.loc.file == __file__
    assert caught.value.remedy


# Shapes -------------------------------------------------------------------------------------


def test_reshape_view_flatten_and_their_kin() -> None:
    x = accel.asarray(CUBE)
    for found in (x.reshape(6, 4), x.reshape((6, -1)), x.view(6, 4), accel.reshape(x, [6, 4])):
        close(found, CUBE.reshape(6, 4))
    close(x.flatten(1), CUBE.reshape(2, 12))
    close(x.flatten(0, 1), CUBE.reshape(6, 4))
    close(x.ravel(), CUBE.ravel())
    close(x.unflatten(2, (2, -1)), CUBE.reshape(2, 3, 2, 2))
    close(x.unsqueeze(1), CUBE[:, None])
    close(accel.expand_dims(x, axis=(0, -1)), CUBE[None, ..., None])
    assert accel.ravel(accel.zeros((0, 3))).shape == (0,)
    with pytest.raises(errors.ShapeError, match="24 elements"):
        x.reshape(5, 5)
    with pytest.raises(errors.ArgumentError, match="no tuple of integers"):
        x.reshape(2.0, 12)


def test_squeeze_is_strict_by_axis_and_lenient_by_dim() -> None:
    x = accel.zeros((1, 3, 1))
    assert x.squeeze().shape == (3,)
    assert x.squeeze(0).shape == (3, 1)
    assert x.squeeze(1).shape == (1, 3, 1)
    assert accel.squeeze(x, axis=2).shape == (1, 3)
    with pytest.raises(errors.ShapeError, match="extent 3"):
        accel.squeeze(x, axis=1)


def test_transpose_swaps_two_ints_and_permutes_tuples() -> None:
    x = accel.asarray(CUBE)
    close(accel.transpose(x, (2, 0, 1)), CUBE.transpose(2, 0, 1))
    close(x.transpose(0, 2), CUBE.swapaxes(0, 2))
    close(x.transpose(2, 0, 1), CUBE.transpose(2, 0, 1))
    close(accel.transpose(x), CUBE.T)
    close(x.permute(1, 2, 0), CUBE.transpose(1, 2, 0))
    close(x.movedim(0, 2), np.moveaxis(CUBE, 0, 2))
    close(accel.asarray(X).t(), X.T)
    close(x.mT, CUBE.swapaxes(1, 2))
    with pytest.raises(errors.AxisError):
        x.transpose(0, 3)
    with pytest.raises(errors.ShapeError, match="use permute"):
        x.t()


def test_copies_rolls_and_flips() -> None:
    x = accel.asarray(X)
    close(x.repeat(2, 1), np.tile(X, (2, 1)))
    close(x.repeat(2, axis=1), X.repeat(2, 1))
    close(accel.repeat(x, 3), X.repeat(3))
    close(x.repeat_interleave(2, 0), X.repeat(2, 0))
    close(accel.tile(x, (1, 2)), np.tile(X, (1, 2)))
    close(x.expand(2, -1, 4), np.broadcast_to(X, (2, 3, 4)))
    close(accel.broadcast_to(accel.asarray(X[:1]), (3, 4)), np.broadcast_to(X[:1], (3, 4)))
    close(x.flip(0), X[::-1])
    close(x.flip((0, 1)), X[::-1, ::-1])
    close(x.flip(0, 1), X[::-1, ::-1])
    close(x.roll(2), np.roll(X, 2))
    close(accel.roll(x, shift=(1, -1), axis=(0, 1)), np.roll(X, (1, -1), (0, 1)))
    for k in range(4):
        close(x.rot90(k), np.rot90(X, k))


def test_pad_in_both_forms() -> None:
    x = accel.asarray(X)
    close(accel.pad(x, (1, 2)), np.pad(X, ((0, 0), (1, 2))))
    close(accel.pad(x, (1, 2, 0, 3), value=7), np.pad(X, ((0, 3), (1, 2)), constant_values=7))
    close(accel.pad(x, ((1, 0), (0, 2))), np.pad(X, ((1, 0), (0, 2))))
    close(accel.pad(x, (-1, 1)), np.pad(X[:, 1:], ((0, 0), (0, 1))))
    with pytest.raises(errors.ArgumentError, match="pairs"):
        accel.pad(x, (1, 2, 3))
    with pytest.raises(errors.ArgumentError, match="mode"):
        accel.pad(x, (1, 1), mode="mirror")


@pytest.mark.parametrize("mode, theirs", [
    ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"), ("wrap", "wrap"),
])  # fmt: skip
def test_pad_by_the_elements_themselves(mode: str, theirs: Any) -> None:
    x = accel.asarray(X)
    widths = ((1, 0), (2, 1))
    close(accel.pad(x, widths, mode=mode), np.pad(X, widths, mode=theirs))
    close(accel.pad(x, (-1, 2), mode=mode), np.pad(X[:, 1:], ((0, 0), (0, 2)), mode=theirs))
    if mode != "replicate":
        with pytest.raises(errors.ShapeError, match="at most"):
            accel.pad(x, (X.shape[1] + 1, 0), mode=mode)


def test_joins() -> None:
    x, y = accel.asarray(X), accel.asarray(Y)
    close(accel.cat([x, y]), np.concatenate([X, Y]))
    close(accel.concat([x, y], axis=1), np.concatenate([X, Y], 1))
    close(accel.concat([x, y], axis=None), np.concatenate([X, Y], None))
    close(accel.stack((x, y), 2), np.stack([X, Y], 2))
    for name in ("vstack", "hstack", "dstack", "column_stack"):
        close(getattr(accel, name)([x, y]), getattr(np, name)([X, Y]))
        close(getattr(accel, name)([x[0], y[0]]), getattr(np, name)([X[0], Y[0]]))
    with pytest.raises(errors.ShapeError, match="axis 0"):
        accel.cat([x, y[:, :2]])
    with pytest.raises(errors.NotAnArrayError, match="sequence"):
        accel.cat(x)
    with pytest.raises(errors.ArgumentError, match="no tensors"):
        accel.stack([])


def test_cuts() -> None:
    x = accel.asarray(X)
    for found, expected in zip(x.split(3, 1), (X[:, :3], X[:, 3:]), strict=True):
        close(found, expected)
    for found, expected in zip(accel.split(x, (1, 2)), (X[:1], X[1:]), strict=True):
        close(found, expected)
    assert [p.shape for p in x.chunk(3, 1)] == [(3, 2), (3, 2)]
    for found, expected in zip(accel.unstack(x, axis=1), X.T, strict=True):
        close(found, expected)
    close(x.narrow(1, 1, 2), X[:, 1:3])
    close(x.select(0, -1), X[-1])
    close(accel.slice(x, 1, None, None, 2), X[:, ::2])
    with pytest.raises(errors.ArgumentError, match="add up"):
        x.split([1, 1])
    with pytest.raises(errors.ArgumentError, match="places 3 to 5"):
        x.narrow(1, 3, 2)


@pytest.mark.parametrize("offset", [-4, -2, -1, 0, 1, 3, 5])
def test_diagonal_and_trace(offset: int) -> None:
    close(accel.diagonal(accel.asarray(X), offset), np.diagonal(X, offset))
    close(accel.diagonal(accel.asarray(CUBE), offset, 0, 2), np.diagonal(CUBE, offset, 0, 2))
    close(accel.asarray(CUBE).trace(offset), CUBE.trace(offset), 1e-5)
    close(accel.tril(accel.asarray(X), offset), np.tril(X, offset))
    close(accel.asarray(X).triu(offset), np.triu(X, offset))


# Products -----------------------------------------------------------------------------------

PRODUCTS = [
    ("matmul", (2, 3, 4), (4, 5)), ("mm", (3, 4), (4, 2)), ("mv", (3, 4), (4,)),
    ("bmm", (2, 3, 4), (2, 4, 5)), ("dot", (4,), (4,)), ("vecdot", (3, 4), (4,)),
    ("inner", (2, 4), (3, 4)), ("outer", (3,), (4,)), ("kron", (2, 3), (3, 2)),
    ("kron", (2,), (2, 2)), ("cross", (2, 3), (2, 3)), ("vdot", (2, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "left", "right"), PRODUCTS)
def test_product_matches_numpy(name: str, left, right) -> None:
    x, y = (RNG.standard_normal(s).astype(np.float32) for s in (left, right))
    reference = {"mm": np.matmul, "mv": np.matmul, "bmm": np.matmul,
                 "vecdot": lambda a, b: (a * b).sum(-1)}.get(name) or getattr(np, name)  # fmt: skip
    close(getattr(accel, name)(accel.asarray(x), accel.asarray(y)), reference(x, y), 1e-5, 1e-5)


def test_tensordot_and_addmm() -> None:
    x, y = CUBE, np.ascontiguousarray(CUBE.transpose(1, 2, 0))
    axes = ((1, 2), (0, 1))
    close(accel.tensordot(accel.asarray(x), y, axes=axes), np.tensordot(x, y, axes), 1e-5, 1e-5)
    close(accel.tensordot(accel.asarray(x), y, dims=0), np.tensordot(x, y, 0), 1e-5, 1e-5)
    c = accel.ones((3, 3))
    close(accel.addmm(c, X, X.T, beta=2, alpha=0.5), 2 + 0.5 * X @ X.T, 1e-5, 1e-5)
    square = X[:, :3]
    power = accel.linalg.matrix_power(accel.asarray(square), 5)
    close(power, np.linalg.matrix_power(square, 5), 1e-4, 1e-4)
    close(accel.linalg.multi_dot([X, X.T, X]), X @ X.T @ X, 1e-5, 1e-5)


EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,kj->ik", (3, 4), (5, 4)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij->ji", (3, 4)), ("ij->", (3, 4)), ("ij->j", (3, 4)),
    ("ii->i", (4, 4)), ("ii", (4, 4)),
    ("i,j->ij", (3,), (4,)), ("ij,ij->ij", (3, 4), (3, 4)), ("ij,ij", (3, 4), (3, 4)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("ba", (3, 4)), ("i,i,i->", (4,), (4,), (4,)),
    ("...,...", (2, 3), (3,)), ("iij->ji", (3, 3, 2)), ("ij,jk->k", (3, 4), (4, 5)),
    ("i...->...", (3, 2, 2)), ("ij,kl->", (2, 3), (4, 5)),
]  # fmt: skip


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda c: c[0])
def test_einsum_matches_numpy(case) -> None:
    equation, *shapes = case
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in shapes]
    found = accel.einsum(equation, *[accel.asarray(a) for a in arrays])
    close(found, np.einsum(equation, *arrays), 1e-5, 1e-5)


def test_product_errors_name_shapes_and_remedies() -> None:
    x, y = accel.ones((3, 4)), accel.ones((3, 4))
    with pytest.raises(errors.ShapeError, match=r"inner extents 4 and 3") as caught:
        x @ y
    assert caught.value.loc.file == __file__ and "transpose" in caught.value.remedy
    with pytest.raises(errors.ShapeError, match="2-d and 1-d"):
        accel.mv(x, y)
    with pytest.raises(errors.ShapeError, match="extent 3"):
        accel.cross(x, y)
    with pytest.raises(errors.ArgumentError, match="for 1 operands"):
        accel.einsum("ij,jk", x)
    with pytest.raises(errors.ShapeError, match="extents 4 and 3"):
        accel.einsum("ij,jk->ik", x, y)
    with pytest.raises(errors.ArgumentError, match="'z' is in no operand"):
        accel.einsum("ij->z", x)


# Creation and dtypes ------------------------------------------------------------------------


def test_creation_by_shape() -> None:
    for name, value in (("zeros", 0), ("ones", 1), ("empty", 0)):
        make = getattr(accel, name)
        for x in (make(2, 3), make((2, 3)), make([2, 3]), make(2, 3, dtype=accel.float32)):
            assert x.dtype is accel.float32
            close(x, np.full((2, 3), value))
        assert make(3).shape == (3,) and make(()).shape == ()
        assert make((2,), dtype="int8").dtype is accel.int8
        like = getattr(accel, f"{name}_like")(accel.asarray(WHOLE))
        assert like.dtype is accel.int64 and like.shape == WHOLE.shape
    for dtype in ("bool", "uint8", "float16", "bfloat16", "float64", "complex64"):
        assert accel.ones((2,), dtype=dtype).dtype.name == dtype
    assert accel.full((2,), 3).dtype is accel.int64
    assert accel.full((2,), True).dtype is accel.bool
    assert accel.full((), 2.5).item() == 2.5
    assert accel.full_like(accel.ones(2), 7).tolist() == [7.0, 7.0]
    assert accel.zeros((2,), requires_grad=True).requires_grad
    with pytest.raises(errors.ArgumentError, match="negative"):
        accel.zeros((2, -1))
    with pytest.raises(errors.ArgumentError, match="300 does not fit int8"):
        accel.full((2,), 300, dtype=accel.int8)
    with pytest.raises(errors.DeviceError, match="cuda"):
        accel.ones((2,), device="cuda")


def test_sequences_and_grids() -> None:
    for args in ((5,), (2, 9), (2, 9, 3), (5, -2, -2), (0.5, 2, 0.25)):
        close(accel.arange(*args), np.arange(*args))
    assert accel.arange(3).dtype is accel.int64 and accel.arange(3.0).dtype is accel.float32
    close(accel.linspace(-1, 1, 7), np.linspace(-1, 1, 7))
    close(accel.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, endpoint=False))
    assert accel.linspace(0, 1).shape == (100,)
    close(accel.eye(2, 3, k=1), np.eye(2, 3, 1))
    for indexing in ("xy", "ij"):
        arrays = [np.arange(n) for n in (2, 3, 4)]
        found = accel.meshgrid(*[accel.asarray(a) for a in arrays], indexing=indexing)
        for x, y in zip(found, np.meshgrid(*arrays, indexing=indexing), strict=True):
            close(x, y)
    with pytest.raises(errors.ArgumentError, match="step is 0"):
        accel.arange(0, 3, 0)


def test_asarray_and_its_copies() -> None:
    source = np.arange(3.0)
    copied, shared = accel.asarray(source), accel.asarray(source, copy=False)
    source[0] = 9
    assert copied.tolist()[0] == 0 and shared.tolist()[0] == 9
    assert accel.asarray(copied) is copied
    assert accel.asarray(copied, copy=True) is not copied
    assert accel.asarray([1, 2.5]).dtype is accel.float32
    assert accel.asarray([accel.asarray(1.0), 2.0]).tolist() == [1.0, 2.0]
    assert accel.tensor([1, 2], dtype=accel.float32, requires_grad=True).is_leaf
    assert accel.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]
    assert accel.from_numpy(np.ones(2)).dtype is accel.float64
    for bad in (object(), [[1], [1, 2]], {1: 2}):
        with pytest.raises(errors.NotAnArrayError):
            accel.asarray(bad)
    with pytest.raises(errors.UnsupportedDTypeError):
        accel.asarray("text")
    with pytest.raises(errors.ArgumentError, match="without a copy"):
        accel.asarray(np.arange(3), accel.float32, copy=False)
    with pytest.raises(errors.NotAnArrayError, match="__dlpack__"):
        accel.from_dlpack([1])


def test_dtype_functions() -> None:
    assert accel.result_type(accel.int8, accel.uint8) is accel.int16
    assert accel.result_type(accel.ones(2), 1, 2.0) is accel.float32
    assert accel.result_type(1, 2.5) is accel.float32
    assert accel.result_type(np.float64(1), accel.ones(2)) is accel.float64
    assert accel.can_cast("uint8", "int16") and not accel.can_cast(accel.uint64, accel.int64)
    assert accel.isdtype(accel.uint8, ("bool", "unsigned integer"))
    assert accel.isdtype("float64", accel.float64)
    info = accel.finfo(accel.bfloat16)
    assert (info.bits, info.eps, info.tiny) == (16, 2.0**-7, 2.0**-126)
    assert accel.iinfo(accel.ones(2, dtype=accel.uint32)).max == 2**32 - 1
    assert accel.astype(accel.asarray(X), accel.float32, copy=False).dtype is accel.float32
    with pytest.raises(errors.DTypeError, match="use iinfo"):
        accel.finfo(accel.int8)
    with pytest.raises(errors.DTypeError, match="use finfo"):
        accel.iinfo(accel.float32)
    with pytest.raises(errors.ArgumentError, match="no kind"):
        accel.isdtype(accel.int8, "float")
    with pytest.raises(errors.DTypeError, match="no common"):
        accel.promote_types(accel.int64, accel.uint64)


def test_array_namespace() -> None:
    info = accel.__array_namespace_info__()
    assert info.dtypes(kind="real floating")["float32"] is accel.float32
    named = list(info.dtypes(kind=("bool", "complex floating")))
    assert named == ["bool", "complex64", "complex128"]
    assert info.default_device() in info.devices()
    assert info.default_dtypes()["integral"] is accel.int64
    assert accel.ones(2)[accel.newaxis].shape == (1, 2) and accel.pi == math.pi
    with pytest.raises(errors.DeviceError):
        info.dtypes(device="cuda")
    with pytest.raises(errors.ArgumentError):
        info.dtypes(kind=3)


# Methods ------------------------------------------------------------------------------------


def test_conversions_and_facts() -> None:
    x = accel.asarray(X)
    kinds = {"double": accel.float64, "half": accel.float16, "int": accel.int32,
             "long": accel.int64, "bool": accel.bool, "bfloat16": accel.bfloat16}  # fmt: skip
    for name, dtype in kinds.items():
        assert getattr(x, name)().dtype is dtype
    assert x.float() is x
    assert x.to(accel.float64).dtype is x.type_as(np.ones(1)).dtype is accel.float64
    assert x.to("cpu") is x and x.cpu() is x and not x.is_cuda
    assert (x.numel(), x.dim(), x.element_size()) == (12, 2, 4)
    assert x.new_zeros(2).dtype is accel.float32 and x.new_full((2,), 3).tolist() == [3.0, 3.0]
    assert x.real.shape == x.imag.shape == (3, 4)
    assert x.__array_namespace__() is accel
    quotient, rest = divmod(accel.asarray([7, -7]), 2)
    assert (quotient.tolist(), rest.tolist()) == ([3, -4], [1, 1])
    assert divmod(7, accel.asarray([2]))[1].tolist() == [1]
    close(round(accel.asarray([2.567]), 1), [2.6])
    with pytest.raises(errors.DeviceError, match="cuda:0"):
        x.to("cuda:0")
    with pytest.raises(errors.ArgumentError, match="version"):
        x.__array_namespace__(api_version="1999.01")


def test_in_place_methods_rebind_and_leave_earlier_results() -> None:
    x = accel.asarray(X)
    before = x * 1
    row = x[0]
    assert x.mul_(2) is x and x.add_(1).clamp_(max=1.5) is x
    close(x, np.minimum(X * 2 + 1, 1.5))
    close(before, X)
    close(row, X[0])
    assert x.fill_(3).tolist() == [[3.0] * 4] * 3
    assert x.zero_().sum().item() == 0
    assert accel.ones(2).gt_(0).dtype is accel.float32
    with pytest.raises(errors.ShapeError, match="in place"):
        accel.ones(2).add_(accel.ones((3, 2)))
    with pytest.raises(errors.DTypeError, match="cannot be stored"):
        accel.ones(2, dtype=accel.int32).add_(0.5)
    leaf = accel.ones(2, requires_grad=True)
    with pytest.raises(errors.GradientError, match="no_grad"):
        leaf.mul_(2)
    with accel.no_grad():
        leaf.mul_(2)
    assert leaf.tolist() == [2.0, 2.0] and leaf.requires_grad


def test_clone_is_another_handle_with_the_same_gradient() -> None:
    x = accel.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    (y * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    z = accel.asarray([1.0])
    other = z.clone()
    z += 1
    assert other.tolist() == [1.0]


# Compiled -----------------------------------------------------------------------------------


def program(x, y):
    mean = x.mean(axis=1, keepdims=True)
    z = accel.gelu((x - mean) / (x.std(axis=1, keepdims=True) + 1e-5)) @ y.T
    best, place = accel.max(z, 1)
    z = accel.where(z > best[:, None] - 0.5, z, accel.zeros_like(z))
    z = accel.cat([z, accel.stack([best, place.astype(z.dtype)], 1)], dim=1)
    return z[:, ::2].flatten(), accel.einsum("ij,kj->ik", x, y), accel.arange(4) + place.sum()


def test_functions_give_the_same_compiled_and_not() -> None:
    arguments = accel.asarray(X), accel.asarray(Y)
    compiled = accel.compile(program)
    for found, expected in zip(compiled(*arguments), program(*arguments), strict=True):
        close(found, expected.numpy(), 1e-5, 1e-5)


def test_creation_inside_a_compiled_function() -> None:
    @accel.compile
    def made(x):
        return x + accel.asarray([1.0, 2.0]) + accel.full((2,), 3) + accel.tensor([1.0, 1.0])

    assert made(accel.zeros(2)).tolist() == made(accel.zeros(2)).tolist() == [5.0, 6.0]


def test_errors_inside_a_compiled_function_name_the_line() -> None:
    @accel.compile
    def wrong(x):
        return accel.cat([x, x[0]])

    with pytest.raises(errors.ShapeError) as caught:
        wrong(accel.ones((2, 2)))
    assert caught.value.loc.file == __file__


def test_functions_are_pickled_by_name() -> None:
    """As a client that sends work to other processes does."""
    functions = [f for n in dir(accel) if callable(f := getattr(accel, n)) and n[0] != "_"]
    assert len(functions) > 300
    for function in functions:
        assert pickle.loads(pickle.dumps(function)) is function
