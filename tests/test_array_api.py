"""The Array API standard, 2024.12: names, signatures, dtypes, special values, examples drawn."""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import accel
from accel import errors

#: The standard's functions, as it writes them.
FUNCTIONS = """
abs(x, /) acos(x, /) acosh(x, /) add(x1, x2, /) asin(x, /) asinh(x, /) atan(x, /)
atan2(x1, x2, /) atanh(x, /) bitwise_and(x1, x2, /) bitwise_invert(x, /)
bitwise_left_shift(x1, x2, /) bitwise_or(x1, x2, /) bitwise_right_shift(x1, x2, /)
bitwise_xor(x1, x2, /) ceil(x, /) clip(x, /, min=None, max=None) conj(x, /) copysign(x1, x2, /)
cos(x, /) cosh(x, /) divide(x1, x2, /) equal(x1, x2, /) exp(x, /) expm1(x, /) floor(x, /)
floor_divide(x1, x2, /) greater(x1, x2, /) greater_equal(x1, x2, /) hypot(x1, x2, /) imag(x, /)
isfinite(x, /) isinf(x, /) isnan(x, /) less(x1, x2, /) less_equal(x1, x2, /) log(x, /)
log1p(x, /) log2(x, /) log10(x, /) logaddexp(x1, x2, /) logical_and(x1, x2, /)
logical_not(x, /) logical_or(x1, x2, /) logical_xor(x1, x2, /) maximum(x1, x2, /)
minimum(x1, x2, /) multiply(x1, x2, /) negative(x, /) nextafter(x1, x2, /)
not_equal(x1, x2, /) positive(x, /) pow(x1, x2, /) real(x, /) reciprocal(x, /)
remainder(x1, x2, /) round(x, /) sign(x, /) signbit(x, /) sin(x, /) sinh(x, /) square(x, /)
sqrt(x, /) subtract(x1, x2, /) tan(x, /) tanh(x, /) trunc(x, /)

arange(start, /, stop=None, step=1, *, dtype=None, device=None)
asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None) empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
meshgrid(*arrays, indexing='xy') ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None) tril(x, /, *, k=0) triu(x, /, *, k=0)
zeros(shape, *, dtype=None, device=None) zeros_like(x, /, *, dtype=None, device=None)

astype(x, dtype, /, *, copy=True, device=None) can_cast(from_, to, /) finfo(type, /)
iinfo(type, /) isdtype(dtype, kind) result_type(*arrays_and_dtypes)

broadcast_arrays(*arrays) broadcast_to(x, /, shape) concat(arrays, /, *, axis=0)
expand_dims(x, /, *, axis=0) flip(x, /, *, axis=None) moveaxis(x, source, destination, /)
permute_dims(x, /, axes) repeat(x, repeats, /, *, axis=None) reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None) squeeze(x, /, axis) stack(arrays, /, *, axis=0)
tile(x, repetitions, /) unstack(x, /, *, axis=0)

argmax(x, /, *, axis=None, keepdims=False) argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False) nonzero(x, /)
searchsorted(x1, x2, /, *, side='left', sorter=None) where(condition, x1, x2, /)
take(x, indices, /, *, axis=None) take_along_axis(x, indices, /, *, axis=-1)
argsort(x, /, *, axis=-1, descending=False, stable=True)
sort(x, /, *, axis=-1, descending=False, stable=True)
unique_all(x, /) unique_counts(x, /) unique_inverse(x, /) unique_values(x, /)

cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
max(x, /, *, axis=None, keepdims=False) mean(x, /, *, axis=None, keepdims=False)
min(x, /, *, axis=None, keepdims=False) prod(x, /, *, axis=None, dtype=None, keepdims=False)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
all(x, /, *, axis=None, keepdims=False) any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)

matmul(x1, x2, /) matrix_transpose(x, /) tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)

linalg.cholesky(x, /, *, upper=False) linalg.cross(x1, x2, /, *, axis=-1) linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0) linalg.eigh(x, /) linalg.eigvalsh(x, /) linalg.inv(x, /)
linalg.matmul(x1, x2, /) linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
linalg.matrix_power(x, n, /) linalg.matrix_rank(x, /, *, rtol=None) linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /) linalg.pinv(x, /, *, rtol=None) linalg.qr(x, /, *, mode='reduced')
linalg.slogdet(x, /) linalg.solve(x1, x2, /) linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /) linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None) linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)

fft.fft(x, /, *, n=None, axis=-1, norm='backward') fft.ifft(x, /, *, n=None, axis=-1, norm='backward')
fft.fftn(x, /, *, s=None, axes=None, norm='backward')
fft.ifftn(x, /, *, s=None, axes=None, norm='backward')
fft.rfft(x, /, *, n=None, axis=-1, norm='backward')
fft.irfft(x, /, *, n=None, axis=-1, norm='backward')
fft.rfftn(x, /, *, s=None, axes=None, norm='backward')
fft.irfftn(x, /, *, s=None, axes=None, norm='backward')
fft.hfft(x, /, *, n=None, axis=-1, norm='backward')
fft.ihfft(x, /, *, n=None, axis=-1, norm='backward')
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None) fft.ifftshift(x, /, *, axes=None)
"""  # noqa: E501

#: Its methods.
METHODS = """
__abs__() __add__(other, /) __and__(other, /) __array_namespace__(*, api_version=None)
__bool__() __complex__() __dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None)
__dlpack_device__() __eq__(other, /) __float__() __floordiv__(other, /) __ge__(other, /)
__getitem__(key, /) __gt__(other, /) __index__() __int__() __invert__() __le__(other, /)
__lshift__(other, /) __lt__(other, /) __matmul__(other, /) __mod__(other, /) __mul__(other, /)
__ne__(other, /) __neg__() __or__(other, /) __pos__() __pow__(other, /) __rshift__(other, /)
__setitem__(key, value, /) __sub__(other, /) __truediv__(other, /) __xor__(other, /)
__iadd__(other, /) __isub__(other, /) __imul__(other, /) __itruediv__(other, /)
__ifloordiv__(other, /) __ipow__(other, /) __imod__(other, /) __imatmul__(other, /)
__iand__(other, /) __ior__(other, /) __ixor__(other, /) __ilshift__(other, /)
__irshift__(other, /) __radd__(other, /) __rsub__(other, /) __rmul__(other, /)
__rtruediv__(other, /) __rfloordiv__(other, /) __rpow__(other, /) __rmod__(other, /)
__rmatmul__(other, /) __rand__(other, /) __ror__(other, /) __rxor__(other, /)
__rlshift__(other, /) __rrshift__(other, /) to_device(device, /, *, stream=None)
"""

KINDS = inspect.Parameter
DTYPES = {name: getattr(accel, name) for name in (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
).split()}  # fmt: skip


def declared(text: str) -> list[tuple[str, str]]:
    """Names and parameter lists."""
    found = []
    for part in text.replace(")\n", ")\0").replace(") ", ")\0").split("\0"):
        name, _, rest = part.strip().partition("(")
        if name:
            found.append((name, rest.removesuffix(")")))
    return found


def parsed(parameters: str) -> list[inspect.Parameter]:
    scope: dict[str, Any] = {}
    exec(f"def function({parameters}): ...", scope)
    return list(inspect.signature(scope["function"]).parameters.values())


def check_signature(function: Any, parameters: str) -> None:
    """Whatever the standard lets a caller write may be written; more may be there."""
    given = list(inspect.signature(function).parameters.values())
    by_name = {p.name: p for p in given}
    for i, wanted in enumerate(parsed(parameters)):
        if wanted.kind is KINDS.KEYWORD_ONLY:
            assert by_name[wanted.name].kind in (wanted.kind, KINDS.POSITIONAL_OR_KEYWORD)
            assert by_name[wanted.name].default is not KINDS.empty
            continue
        assert given[i].kind in (wanted.kind, KINDS.POSITIONAL_OR_KEYWORD)
        if wanted.kind is KINDS.POSITIONAL_OR_KEYWORD:
            assert given[i].name == wanted.name
        if wanted.default is not KINDS.empty:
            assert given[i].default is not KINDS.empty
    for extra in given:
        optional = extra.default is not KINDS.empty or "VAR" in extra.kind.name
        assert optional or any(extra is g for g in given[: len(parsed(parameters))])


@pytest.mark.parametrize(("name", "parameters"), declared(FUNCTIONS))
def test_functions_have_their_signatures(name: str, parameters: str) -> None:
    check_signature(operator.attrgetter(name)(accel), parameters)


@pytest.mark.parametrize(("name", "parameters"), declared(METHODS))
def test_methods_have_their_signatures(name: str, parameters: str) -> None:
    method = getattr(accel.ones((1, 1)), name)
    check_signature(method, parameters)


def test_attributes_and_constants() -> None:
    x = accel.ones((2, 3))
    assert (x.ndim, x.shape, x.size) == (2, (2, 3), 6)
    assert x.T.shape == x.mT.shape == (3, 2)
    assert x.dtype == accel.float32 and x.device == "cpu"
    assert (accel.e, accel.pi, accel.inf) == (math.e, math.pi, math.inf)
    assert math.isnan(accel.nan) and accel.newaxis is None
    assert accel.__array_api_version__ == "2024.12"
    assert x.__array_namespace__(api_version="2024.12") is accel


def test_inspection() -> None:
    info = accel.__array_namespace_info__()
    assert info.capabilities()["max dimensions"] >= 32
    assert info.default_device() in info.devices()
    for device in [None, *info.devices()]:
        assert dict(info.dtypes(device=device)) == DTYPES
        for name, dtype in info.default_dtypes(device=device).items():
            kind = "integral" if name == "indexing" else name
            assert accel.isdtype(dtype, kind)
    assert set(info.dtypes(kind="integral")) == {n for n in DTYPES if "int" in n}
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", "float32", "float64"}


# -- element by element: all dtypes against NumPy ----------------------------------------------
NUMERIC, REAL, FLOATING, BITS, INTEGER = "iufc", "iuf", "fc", "biu", "iu"
UNARY = {
    NUMERIC: "abs conj imag isfinite isinf isnan negative positive real sign square",
    REAL: "ceil floor round trunc",
    FLOATING: "acos acosh asin asinh atan atanh cos cosh exp expm1 log log1p log2 log10 "
    "reciprocal sin sinh sqrt tan tanh",
    BITS: "bitwise_invert", "b": "logical_not", "f": "signbit",
}  # fmt: skip
BINARY = {
    NUMERIC: "add multiply pow subtract", "biufc": "equal not_equal",
    REAL: "floor_divide greater greater_equal less less_equal maximum minimum remainder",
    FLOATING: "divide", BITS: "bitwise_and bitwise_or bitwise_xor",
    INTEGER: "bitwise_left_shift bitwise_right_shift", "b": "logical_and logical_or logical_xor",
    "f": "atan2 copysign hypot logaddexp nextafter",
}  # fmt: skip
NAMES_IN_NUMPY = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
    "atanh": "arctanh", "atan2": "arctan2", "bitwise_invert": "invert", "pow": "power",
    "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
}  # fmt: skip
OPERATORS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "pow": "pow",
    "floor_divide": "floordiv", "remainder": "mod", "bitwise_and": "and", "bitwise_or": "or",
    "bitwise_xor": "xor", "bitwise_left_shift": "lshift", "bitwise_right_shift": "rshift",
    "equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt",
    "greater_equal": "ge",
}  # fmt: skip


def named(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, kinds) for kinds, names in table.items() for name in names.split()]


def in_numpy(name: str) -> Any:
    return getattr(np, NAMES_IN_NUMPY.get(name, name))


def values(dtype: Any, turn: int = 0) -> np.ndarray:
    """Of every kind of number that a dtype has, also the extreme ones."""
    if dtype.kind == "b":
        found: Any = [True, False, True, True, False]
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        found = [0, 1, 2, 3, 7, limits.max, limits.min]
    else:
        found = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, -7.0]
        found += [math.inf, -math.inf, math.nan] if dtype.kind == "f" else []
    array = np.roll(np.array(found, dtype.numpy), turn)
    return (array + 1j * np.roll(array, 3)).astype(dtype.numpy) if dtype.kind == "c" else array


def agree(found: Any, wanted: Any, dtype: np.dtype | None = None) -> None:
    """`found` is `wanted`, within some units in the last place where it was rounded."""
    result, wanted = found.numpy(), np.asarray(wanted)
    assert result.dtype == (wanted.dtype if dtype is None else dtype)
    assert result.shape == wanted.shape
    if result.dtype.kind in "fc":
        close = 64 * np.finfo(result.dtype).eps
        np.testing.assert_allclose(result, wanted, rtol=close, atol=close)
    else:
        np.testing.assert_array_equal(result, wanted)
    if result.dtype.kind == "f":
        known = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(result)[known], np.signbit(wanted)[known])


@pytest.mark.parametrize(("name", "kinds"), named(UNARY))
def test_functions_of_one_array(name: str, kinds: str) -> None:
    for dtype in DTYPES.values():
        if dtype.kind not in kinds:
            continue
        x = values(dtype)
        for array in (x, x[3:4].reshape(()), x[:0].reshape(0, 2)):
            whole = name in ("ceil", "floor", "round", "trunc") and dtype.kind in "iu"
            with np.errstate(all="ignore"):
                wanted = array if whole else in_numpy(name)(array)
            agree(getattr(accel, name)(accel.asarray(array)), wanted)


def meet(first: Any, second: Any) -> bool:
    """Whether the standard gives two dtypes a common one."""
    if "uint64" in (first.name, second.name):
        return first.kind == second.kind
    kinds = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 2}
    return kinds[first.kind] == kinds[second.kind]


@pytest.mark.parametrize(("name", "kinds"), named(BINARY))
def test_functions_of_two_arrays(name: str, kinds: str) -> None:
    """Also as operators, reflected and in place, of all dtypes that meet."""
    able = [d for d in DTYPES.values() if d.kind in kinds]
    for first, second in itertools.product(able, able):
        if not meet(first, second):
            continue
        x, y = values(first), values(second, 2)
        size = min(len(x), len(y))
        x, y = x[:size], y[:size]
        if "shift" in name or (name == "pow" and first.kind in "iu"):
            y = (np.arange(size) % 4).astype(y.dtype)
        if name == "pow" and first.kind == "c":
            y = np.full(size, 2, y.dtype)
        with np.errstate(all="ignore"):
            wanted = in_numpy(name)(x, y)
            if name == "floor_divide" and wanted.dtype.kind == "f":
                wanted = np.where(np.isinf(x), x / y, wanted)
        agree(getattr(accel, name)(accel.asarray(x), accel.asarray(y)), wanted)
        spread = getattr(accel, name)(accel.asarray(x[:, None]), accel.asarray(y))
        assert spread.shape == (size, size) and spread.dtype.numpy == wanted.dtype
        if name not in OPERATORS or first.itemsize + second.itemsize > 2 * first.itemsize:
            continue
        method = OPERATORS[name]
        agree(getattr(accel.asarray(x), f"__{method}__")(accel.asarray(y)), wanted)
        if wanted.dtype == x.dtype and hasattr(operator, f"i{method}"):
            agree(getattr(operator, f"i{method}")(accel.asarray(x), accel.asarray(y)), wanted)


@pytest.mark.parametrize(("name", "kinds"), named(BINARY))
def test_python_numbers_take_the_dtype_of_the_array(name: str, kinds: str) -> None:
    for dtype in DTYPES.values():
        if dtype.kind not in kinds:
            continue
        x = values(dtype)[1:4]
        number: Any = {"b": True, "i": 2, "u": 2, "f": 1.5, "c": 1.5}[dtype.kind]
        with np.errstate(all="ignore"):
            wanted = in_numpy(name)(x, dtype.numpy.type(number))
            reflected = in_numpy(name)(dtype.numpy.type(number), abs(x) if dtype.kind == "i" else x)
        agree(getattr(accel, name)(accel.asarray(x), number), wanted)
        if not ("shift" in name and dtype.kind == "i"):
            operand = accel.asarray(abs(x) if dtype.kind == "i" else x)
            agree(getattr(accel, name)(number, operand), reflected)


def test_where_and_clip_take_numbers() -> None:
    x = np.asarray([1.0, -2.0, 3.0], np.float32)
    t = accel.asarray(x)
    agree(accel.where(t > 0, t, 0), np.where(x > 0, x, np.float32(0)))
    agree(accel.where(t > 0, 0.5, t), np.where(x > 0, np.float32(0.5), x))
    for low, high in ((0, 2), (None, 2), (0, None), (None, None)):
        wanted = x if (low, high) == (None, None) else np.clip(x, low, high)
        agree(accel.clip(t, low, high), wanted)
        bounds = [None if b is None else accel.asarray([float(b)]) for b in (low, high)]
        agree(accel.clip(t, *bounds), wanted)
    assert accel.clip(accel.asarray([1, 5], dtype=accel.int8), 2).dtype == accel.int8


@pytest.mark.parametrize("expression", [
    "accel.asarray([True]) - accel.asarray([True])", "-accel.asarray([True])",
    "~accel.asarray([1.0])", "accel.asarray([1.0]) & accel.asarray([1.0])",
    "accel.asarray([1j]) < accel.asarray([1j])", "accel.asarray([1j]) // 1",
    "accel.floor(accel.asarray([1j]))", "accel.asarray([1]) + 'a'",
    "accel.add(accel.ones(1), None)",
    "accel.asarray([1], dtype=accel.uint64) + accel.asarray([1])", "float(accel.asarray(1j))",
    "operator.index(accel.asarray(1.0))", "accel.bitwise_left_shift(accel.asarray([1.0]), 1)",
])  # fmt: skip
def test_what_has_no_meaning_is_a_type_error(expression: str) -> None:
    with pytest.raises(TypeError):
        eval(expression)


# -- special values, in examples ----------------------------------------------------------------
INF, NAN = math.inf, math.nan
SPECIAL: dict[str, list[tuple[Any, ...]]] = {
    # a quotient of an infinity is infinite, with the sign of the operands
    "floor_divide": [
        (INF, 2, INF), (INF, -2, -INF), (-INF, 2, -INF), (-INF, -0.5, INF), (INF, INF, NAN),
        (INF, -INF, NAN), (0.0, 0.0, NAN), (-0.0, 0.0, NAN), (NAN, 1, NAN), (1, NAN, NAN),
        (3, 0.0, INF), (3, -0.0, -INF), (-3, 0.0, -INF), (0.0, 2, 0.0), (-0.0, 2, -0.0),
        (0.0, -2, -0.0), (-0.0, -2, 0.0), (5, INF, 0.0), (5, -INF, -1), (-5, INF, -1),
        (-5, -INF, 0.0), (7, 2, 3), (-7, 2, -4),
    ],
    # the sign is the divisor's
    "remainder": [
        (INF, 2, NAN), (-INF, -2, NAN), (3, 0.0, NAN), (0.0, 0.0, NAN), (0.0, -2, -0.0),
        (-0.0, 2, 0.0), (5, INF, 5), (5, -INF, -INF), (-5, INF, INF), (-5, -INF, -5), (7, -2, -1),
    ],
    "divide": [
        (INF, INF, NAN), (0.0, 0.0, NAN), (1, 0.0, INF), (1, -0.0, -INF), (-1, 0.0, -INF),
        (0.0, -3, -0.0), (INF, -3, -INF), (3, -INF, -0.0), (NAN, 1, NAN),
    ],
    "pow": [
        (3, 0.0, 1), (NAN, 0.0, 1), (NAN, -0.0, 1), (NAN, 1, NAN), (1, NAN, 1), (-1, INF, 1),
        (1, -INF, 1), (2, INF, INF), (2, -INF, 0.0), (0.5, INF, 0.0), (0.5, -INF, INF),
        (INF, 2, INF), (INF, -2, 0.0), (-INF, 3, -INF), (-INF, 2, INF), (-INF, -3, -0.0),
        (-INF, -2, 0.0), (0.0, 3, 0.0), (-0.0, 3, -0.0), (-0.0, 2, 0.0), (0.0, -3, INF),
        (-0.0, -3, -INF), (-0.0, -2, INF), (-8, 0.5, NAN),
    ],
    "atan2": [
        (0.0, 1, 0.0), (-0.0, 1, -0.0), (0.0, -1, math.pi), (-0.0, -1, -math.pi),
        (0.0, 0.0, 0.0), (0.0, -0.0, math.pi), (1, 0.0, math.pi / 2), (-1, -0.0, -math.pi / 2),
        (1, INF, 0.0), (-1, INF, -0.0), (1, -INF, math.pi), (INF, 1, math.pi / 2),
        (INF, INF, math.pi / 4), (INF, -INF, 3 * math.pi / 4), (NAN, 1, NAN),
    ],
    "hypot": [(INF, NAN, INF), (NAN, -INF, INF), (NAN, 1, NAN), (-3, 0.0, 3), (3, 4, 5)],
    "logaddexp": [(NAN, INF, NAN), (INF, 1, INF), (-INF, -INF, -INF), (-INF, 2, 2)],
    "maximum": [(NAN, 1, NAN), (1, NAN, NAN), (-INF, INF, INF)],
    "minimum": [(NAN, 1, NAN), (1, NAN, NAN), (-INF, INF, -INF)],
    "nextafter": [(0.0, 1, 2.0**-149), (1, 1, 1), (NAN, 1, NAN), (INF, 0, 3.4028234663852886e38)],
    "copysign": [(0.0, -1, -0.0), (INF, -0.0, -INF), (-2, 1, 2)],
    "add": [(INF, -INF, NAN), (-0.0, -0.0, -0.0), (-0.0, 0.0, 0.0), (INF, 1, INF)],
    "multiply": [(INF, 0.0, NAN), (-INF, -1, INF), (-0.0, 1, -0.0)],
    "sign": [(-0.0, 0.0), (NAN, NAN), (-INF, -1), (INF, 1)],
    "round": [(0.5, 0.0), (1.5, 2), (2.5, 2), (-0.5, -0.0), (-INF, -INF), (NAN, NAN)],
    "ceil": [(-0.5, -0.0), (-0.0, -0.0), (INF, INF)], "floor": [(-0.0, -0.0), (-INF, -INF)],
    "trunc": [(-0.5, -0.0), (INF, INF)], "abs": [(-0.0, 0.0), (-INF, INF), (NAN, NAN)],
    "acos": [(1, 0.0), (2, NAN), (-2, NAN)], "acosh": [(1, 0.0), (0.5, NAN), (INF, INF)],
    "asin": [(-0.0, -0.0), (2, NAN)], "asinh": [(-0.0, -0.0), (-INF, -INF)],
    "atan": [(-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2)],
    "atanh": [(1, INF), (-1, -INF), (2, NAN), (-0.0, -0.0)], "cos": [(INF, NAN), (-0.0, 1)],
    "cosh": [(-INF, INF), (0.0, 1)], "exp": [(-INF, 0.0), (INF, INF), (-0.0, 1)],
    "expm1": [(-INF, -1), (-0.0, -0.0), (INF, INF)],
    "log": [(0.0, -INF), (-0.0, -INF), (-1, NAN), (1, 0.0), (INF, INF)],
    "log1p": [(-1, -INF), (-2, NAN), (-0.0, -0.0), (INF, INF)],
    "log2": [(0.0, -INF), (-1, NAN), (1, 0.0)], "log10": [(0.0, -INF), (-1, NAN), (1, 0.0)],
    "reciprocal": [(-0.0, -INF), (0.0, INF), (-INF, -0.0)],
    "signbit": [(-0.0, True), (0.0, False), (-INF, True)],
    "sin": [(-0.0, -0.0), (INF, NAN)], "sinh": [(-0.0, -0.0), (-INF, -INF)],
    "sqrt": [(-1, NAN), (-0.0, -0.0), (INF, INF)], "tan": [(-0.0, -0.0), (INF, NAN)],
    "tanh": [(-0.0, -0.0), (INF, 1), (-INF, -1)],
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str) -> None:
    *operands, wanted = (np.asarray(c) for c in zip(*SPECIAL[name], strict=True))
    for dtype in (np.float32, np.float64) if name != "nextafter" else (np.float32,):
        result = wanted if wanted.dtype == np.bool_ else wanted.astype(dtype)
        arrays = [accel.asarray(o.astype(dtype)) for o in operands]
        agree(getattr(accel, name)(*arrays), result)
        many = [accel.asarray(np.tile(o.astype(dtype), 40)) for o in operands]
        agree(getattr(accel, name)(*many), np.tile(result, 40))


# -- reductions ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "any", "all",
                                  "count_nonzero", "argmax", "argmin"])  # fmt: skip
def test_reductions_of_all_dtypes_over_all_axes(name: str) -> None:
    kinds = {"sum": NUMERIC, "prod": NUMERIC, "mean": FLOATING, "var": "f", "std": "f",
             "any": "biufc", "all": "biufc", "count_nonzero": "biufc"}.get(name, REAL)  # fmt: skip
    widest = {"i": np.int64, "u": np.uint64}
    for dtype in DTYPES.values():
        if dtype.kind not in kinds:
            continue
        x = (np.arange(24) % 5).reshape(2, 3, 4).astype(dtype.numpy)
        everything = itertools.product((None, 0, -1, (0, 2), ()), (False, True))
        for axis, keepdims in everything if dtype.itemsize == 4 else [(None, False), (-1, True)]:
            if name.startswith("arg") and isinstance(axis, tuple):
                continue
            wanted = np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims))
            kept = name in ("sum", "prod", "mean", "var", "std")
            result = widest.get(dtype.kind, dtype.numpy) if kept else wanted.dtype
            found = getattr(accel, name)(accel.asarray(x), axis=axis, keepdims=keepdims)
            agree(found, wanted.astype(result))


@pytest.mark.parametrize("correction", [0, 1, 0.5, 2.0])
def test_corrections(correction: float) -> None:
    x = np.random.default_rng(0).normal(size=(3, 5))
    for name in ("var", "std"):
        found = getattr(accel, name)(accel.asarray(x), axis=1, correction=correction)
        agree(found, getattr(np, name)(x, axis=1, ddof=correction))


def test_reductions_of_nothing() -> None:
    empty = accel.zeros((0,))
    assert accel.sum(empty).item() == 0 and accel.prod(empty).item() == 1
    assert accel.all(empty).item() is True and accel.any(empty).item() is False
    assert all(math.isnan(getattr(accel, n)(empty, axis=0).item()) for n in ("mean", "var", "std"))
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError):
            getattr(accel, name)(empty)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_scans(name: str) -> None:
    scan, unit = (np.cumsum, 0) if name.endswith("sum") else (np.cumprod, 1)
    widest = {"i": np.int64, "u": np.uint64}
    for dtype in DTYPES.values():
        if dtype.kind == "b":
            continue
        x = (np.arange(12) % 4).reshape(3, 4).astype(dtype.numpy)
        for axis in (0, 1, -1):
            wanted = scan(x, axis=axis, dtype=widest.get(dtype.kind, dtype.numpy))
            agree(getattr(accel, name)(accel.asarray(x), axis=axis), wanted)
            edge = np.full_like(wanted.take([0], axis=axis), unit)
            found = getattr(accel, name)(accel.asarray(x), axis=axis, include_initial=True)
            agree(found, np.concatenate([edge, wanted], axis=axis))
    with pytest.raises(ValueError):
        getattr(accel, name)(accel.zeros((2, 2)))


def test_differences() -> None:
    x = np.asarray([[1, 4, 9, 16], [2, 3, 5, 7]])
    edge, end = x[:, :1], x[:, 1:] * 3
    for n in (0, 1, 2, 5):
        agree(accel.diff(accel.asarray(x), n=n), np.diff(x, n=n) if n else x)
        agree(accel.diff(accel.asarray(x), axis=0, n=n), np.diff(x, axis=0, n=n) if n else x)
    joined = accel.diff(accel.asarray(x), prepend=accel.asarray(edge), append=accel.asarray(end))
    agree(joined, np.diff(x, prepend=edge, append=end))


# -- places of elements ------------------------------------------------------------------------
def test_repeats() -> None:
    x = np.arange(12).reshape(3, 4)
    t = accel.asarray(x)
    agree(accel.repeat(t, 2), np.repeat(x, 2))
    agree(accel.repeat(t, accel.asarray(2), axis=1), np.repeat(x, 2, axis=1))
    agree(accel.repeat(t, accel.asarray([3]), axis=-1), np.repeat(x, 3, axis=-1))
    agree(accel.repeat(t, accel.asarray([1, 0, 2]), axis=0), np.repeat(x, [1, 0, 2], axis=0))
    agree(accel.repeat(accel.asarray([]), accel.asarray([], dtype=accel.int64)),
          np.zeros(0, np.float32))  # fmt: skip
    for counts, error in (([1, 2], ValueError), ([-1, 1, 1], ValueError), ([0.5] * 3, TypeError)):
        with pytest.raises(error):
            accel.repeat(t, accel.asarray(counts), axis=0)


def test_axes_as_the_standard_names_them() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    t = accel.asarray(x)
    agree(accel.squeeze(t[:1], 0), x[0])
    with pytest.raises(ValueError):
        accel.squeeze(t, 0)
    assert t.squeeze(0).shape == (2, 3, 4)  # torch's method leaves other extents
    agree(accel.permute_dims(t, (2, 0, 1)), x.transpose(2, 0, 1))
    agree(accel.permute_dims(t, axes=(2, 0, 1)), x.transpose(2, 0, 1))
    agree(accel.reshape(t, shape=(4, -1), copy=True), x.reshape(4, -1))
    agree(accel.roll(t, (1, -2), axis=(0, 0)), np.roll(x, (1, -2), axis=(0, 0)))
    agree(accel.roll(t, shift=5), np.roll(x, 5))
    agree(accel.tile(t, (2, 1, 1, 2)), np.tile(x, (2, 1, 1, 2)))
    agree(accel.concat([t, t], axis=None), np.concatenate([x, x], axis=None))
    assert isinstance(accel.unstack(t, axis=1), tuple) and len(accel.unstack(t, axis=1)) == 3
    assert accel.broadcast_shapes((3, 1), (4,)) == (3, 4) and accel.broadcast_shapes() == ()
    for wrong in (lambda: accel.expand_dims(t, axis=5), lambda: accel.sum(t, axis=3)):
        with pytest.raises(IndexError):
            wrong()


def test_creation_by_keywords_and_devices() -> None:
    for name in ("zeros", "ones", "empty"):
        make = getattr(accel, name)
        for shape in (3, (2, 3), (), (0, 2)):
            made = make(shape=shape, dtype=accel.int8, device="cpu")
            assert made.shape == ((shape,) if isinstance(shape, int) else shape)
            assert made.dtype == accel.int8 and make(shape).dtype == accel.float32
    for number, dtype in ((True, "bool"), (1, "int64"), (1.0, "float32"), (1j, "complex64")):
        assert accel.full((2,), number).dtype == getattr(accel, dtype)
        assert accel.asarray(number).dtype == getattr(accel, dtype)
    large = 2**63 + 1
    assert accel.asarray([large, 1], dtype=accel.uint64).tolist() == [large, 1]
    assert accel.asarray([1.0, 2.0**70]).tolist() == [1.0, 2.0**70]


def test_limits_have_python_numbers() -> None:
    for name in ("float32", "float64", "complex64", "complex128"):
        limits = accel.finfo(DTYPES[name])
        assert type(limits.bits) is int and limits.dtype.kind == "f"
        for attribute in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(limits, attribute)) is float
            assert getattr(limits, attribute) == getattr(np.finfo(DTYPES[name].numpy), attribute)
    for dtype in DTYPES.values():
        if dtype.is_integer:
            limits, wanted = accel.iinfo(accel.zeros(1, dtype=dtype)), np.iinfo(dtype.numpy)
            assert (limits.bits, limits.max, limits.min) == (wanted.bits, wanted.max, wanted.min)


def test_promotion_as_in_the_standards_tables() -> None:
    for first, second in itertools.product(DTYPES.values(), repeat=2):
        if meet(first, second):
            wanted = np.result_type(first.numpy, second.numpy)
            assert accel.result_type(first, second).numpy == wanted
            assert accel.result_type(accel.zeros(2, dtype=first), second).numpy == wanted
            assert accel.can_cast(first, second) is bool(np.can_cast(first.numpy, second.numpy))
    for dtype in DTYPES.values():
        number: Any = {"b": True, "i": 1, "u": 1, "f": 1.5, "c": 1j}[dtype.kind]
        assert accel.result_type(dtype, number) is dtype
        assert accel.isdtype(dtype, kind=dtype) is True


# -- arrays and keys drawn by Hypothesis' own strategies ----------------------------------------
XPS = make_strategies_namespace(accel, api_version="2024.12")
ARRAYS = XPS.arrays(XPS.scalar_dtypes(), XPS.array_shapes(min_dims=0, max_dims=3, max_side=3))
DRAWN = settings(max_examples=25, deadline=None, derandomize=True,
                 suppress_health_check=[HealthCheck.too_slow])  # fmt: skip


@DRAWN
@given(x=ARRAYS, data=st.data())
def test_reading_and_writing_drawn_keys(x: accel.Tensor, data: Any) -> None:
    key = data.draw(XPS.indices(x.shape, allow_newaxis=True))
    np.testing.assert_array_equal(x[key].numpy(), x.numpy()[key])
    place = data.draw(XPS.indices(x.shape, max_dims=0))
    value = data.draw(XPS.from_dtype(x.dtype))
    wanted, changed = np.array(x), accel.asarray(x, copy=True)
    changed[place] = value
    wanted[place] = value
    np.testing.assert_array_equal(changed.numpy(), wanted)
    mask = data.draw(XPS.arrays(accel.bool, x.shape))
    np.testing.assert_array_equal(x[mask].numpy(), x.numpy()[mask.numpy()])


@DRAWN
@given(x=ARRAYS, copy=st.sampled_from([True, False, None]))
def test_copies_of_drawn_arrays(x: accel.Tensor, copy: bool | None) -> None:
    before = x.numpy()
    y = accel.asarray(x, copy=copy, device=x.device)
    x[...] = accel.ones(x.shape, dtype=x.dtype)
    if copy:
        np.testing.assert_array_equal(y.numpy(), before)
    else:
        assert y is x


def test_numbers_that_do_not_fit() -> None:
    """The errors of Python and of NumPy: of a number, OverflowError, and ValueError too."""
    small = accel.asarray([1, 2], dtype=accel.int8)
    for wrong in (lambda: small + 300, lambda: small * -200, lambda: accel.full(2, 300, dtype="i1"),
                  lambda: accel.asarray([1, 300], dtype=accel.int8)):  # fmt: skip
        for kind in (OverflowError, ValueError):
            with pytest.raises(kind, match="does not fit int8"):
                wrong()
    for convert in (int, float, complex, bool):
        for kind in (TypeError, ValueError):
            with pytest.raises(kind, match="ambiguous"):
                convert(small)


def test_a_missing_version_is_refused() -> None:
    with pytest.raises(errors.ArgumentError, match=r"2030\.12"):
        accel.ones(1).__array_namespace__(api_version="2030.12")
