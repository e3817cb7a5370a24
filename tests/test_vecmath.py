"""The vector math against NumPy and a table of double-double values.

Single precision is compared with NumPy's double precision at every 4999th bit pattern, double
precision with tests/data/vecmath.npz (made by tools/tabulate_functions.py).
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.ir.op import get_op
from accel.targets.pure import vecmath
from accel.targets.pure.machine import codegen, jit
from accel.targets.pure.machine.host import LEVELS
from accel.targets.pure.machine.llvm_text import Function, Lanes, module_text
from accel.targets.pure.vecmath import coefficients

HOST = jit.host_machine().instructions
NAMES = list(vecmath.FUNCTIONS)
BINARY = {"pow", "atan2", "hypot", "fmod", "remainder", "floor_divide", "nextafter"}
EXACT = ["floor", "ceil", "trunc", "round", "fmod", "remainder", "floor_divide", "nextafter"]
TABLE = np.load(Path(__file__).parent / "data" / "vecmath.npz")
ELEMENTS = {"float": (np.float32, np.uint32), "double": (np.float64, np.uint64)}
SPECIAL = [
    0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1.5, 2.0, -2.0, 2.5, 3.0, -3.0, 8.0,
    1000.0, -1000.0, 1e-45, -1e-45, 1e-40, -1e-40, 3e38, -3e38, 16777216.0, 16777215.0, -16777215.0,
    8388609.5, 88.8, -103.9, 0.1, -0.1, 1.0000001, 0.9999999, 1e5, 123456.0, -1e30,
]  # fmt: skip

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


REFERENCE: dict[str, Callable[..., np.ndarray]] = {
    **{n: getattr(np, n) for n in NAMES if hasattr(np, n) and n != "round"},
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "pow": np.power, "round": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x),
    **{n: get_op(n).reference for n in ("erfinv", "lgamma", "digamma")},
    "erf": _erf, "erfc": _erfc, "sigmoid": _sigmoid, "gelu_tanh": _gelu_tanh,
    "gelu": lambda x: x * _erfc(-x / math.sqrt(2)) / 2,
    "floor_divide": lambda x, y: np.where(np.isinf(x), x / y, np.floor_divide(x, y)),
}  # fmt: skip


# -- harness ------------------------------------------------------------------------------
def kernel_text(name: str, element: str, width: int, instructions: str = "") -> str:
    """A module whose @kernel(x0, [x1,] y, n) maps a function over n elements, tail included."""
    operands = 2 if name in BINARY else 1
    params = [("ptr", f"x{i}") for i in range(operands)]
    params = [*params, ("ptr", "y"), ("i64", "n")]
    fn = Function("kernel", params, instructions=instructions)

    def body(lanes: Lanes, index: str) -> None:
        xs = [lanes.load(fn.gep(f"%x{i}", index, element)) for i in range(operands)]
        lanes.store(vecmath.FUNCTIONS[name](lanes, *xs), fn.gep("%y", index, element))

    whole = fn.integer("mul", fn.integer("sdiv", "%n", width), width)
    with fn.loop(0, whole, width) as loop:
        body(Lanes(fn, element, width), loop.index)
    with fn.loop(whole, "%n") as loop:
        body(Lanes(fn, element, 1), loop.index)
    fn.do("ret void")
    return module_text([fn])


@functools.cache
def compiled(name: str, element: str, width: int) -> Callable[..., np.ndarray]:
    return load(kernel_text(name, element, width), element)


def load(text: str, element: str) -> Callable[..., np.ndarray]:
    code = jit.compile_module(text)
    dtype = ELEMENTS[element][0]

    def call(*arrays: np.ndarray) -> np.ndarray:
        operands = [np.ascontiguousarray(a, dtype) for a in arrays]
        out = np.empty(operands[0].size, dtype)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in [*operands, out]]
        signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64)
        signature(code.address("kernel"))(*pointers, out.size)
        return out

    return call


def patterns(element: str, name: str, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Random bit patterns, ordinary numbers, and every pair of special values."""
    dtype, bits = ELEMENTS[element]
    rng = np.random.default_rng(seed)
    special = np.array(SPECIAL, dtype)
    random = [rng.integers(0, np.iinfo(bits).max, count, bits).view(dtype) for _ in range(2)]
    plain = [rng.uniform(-40, 40, count).astype(dtype) for _ in range(2)]
    if name not in BINARY:
        return (np.concatenate([special, random[0], plain[0]]),)
    pairs = [grid.ravel() for grid in np.meshgrid(special, special)]
    small = [rng.integers(-9, 10, count).astype(dtype) for _ in range(2)]
    columns = zip(pairs, random, plain, small, strict=True)
    return tuple(np.concatenate(column) for column in columns)


def reference(name: str, *arrays: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return REFERENCE[name](*arrays)


def widened(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return x.astype(np.float64)


def errors(
    y: np.ndarray, expected: np.ndarray, low: np.ndarray | float = 0.0,
    unit: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Distances from expected + low in units in the last place of y's type, finite ones.

    The units are those of `unit` if that is given, else of the result.
    """
    with np.errstate(all="ignore"):
        rounded = expected.astype(y.dtype)
    finite = np.isfinite(y) & np.isfinite(rounded)
    size = np.abs((rounded if unit is None else unit)[finite])
    spacing = np.spacing(np.maximum(size, np.finfo(y.dtype).tiny))
    low = np.broadcast_to(low, y.shape)[finite]
    distance = (y[finite].astype(np.float64) - expected[finite]) - low
    return np.abs(distance) / spacing.astype(np.float64)


def assert_same_kind(y: np.ndarray, expected: np.ndarray, *arrays: np.ndarray) -> None:
    """NaN, infinities and signs, those of zeros included, are where NumPy has them."""
    for kind in (np.isnan, np.isinf, lambda v: np.signbit(v) & ~np.isnan(v)):
        wrong = np.flatnonzero(kind(y) != kind(expected))
        shown = [(*(a[i] for a in arrays), y[i], expected[i]) for i in wrong[:5]]
        assert not wrong.size, f"(arguments, got, expected): {shown}"


# -- accuracy -----------------------------------------------------------------------------
def test_every_function_has_a_bound() -> None:
    assert set(vecmath.ULP) == set(NAMES)
    assert all(single >= 0 and double >= 0 for single, double in vecmath.ULP.values())


def test_the_documented_bounds_are_these() -> None:
    page = (Path(__file__).parent.parent / "docs" / "accuracy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`(?: \[\^\d\])? \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    documented = {name: (float(single), float(double)) for name, single, double in rows}
    assert documented == {n: u for n, u in vecmath.ULP.items() if n not in EXACT}
    assert all(f"`{name}`" in page for name in EXACT)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BINARY and n not in EXACT])
def test_single_precision_over_all_bit_patterns(name: str) -> None:
    x = np.arange(0, 2**32, 4999, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.array(SPECIAL, np.float32)])
    y = compiled(name, "float", 16)(x)
    expected = reference(name, widened(x))
    unit = x if name == "gelu" else None
    assert errors(y, expected, unit=unit).max() <= vecmath.ULP[name][0]
    with np.errstate(all="ignore"):
        assert_same_kind(y, expected.astype(np.float32), x)


@pytest.mark.skipif(HOST != "avx512", reason="the processor has no AVX-512")
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "name", ["exp", "exp2", "sinh", "cosh", "erfc", "sigmoid", "pow", "log", "log2", "log10"]
)
def test_scaling_in_one_instruction_changes_no_bit(name: str, element: str) -> None:
    arrays = patterns(element, name, 100_000)
    one, *others = (
        load(kernel_text(name, element, width, instructions="avx512"), element)(*arrays)
        for width in (1, 4, 8, 16, 64)  # the first two are less than a register
    )
    if (name, element) not in (("exp", "float"), ("exp2", "float")):  # those are from a table
        others.append(compiled(name, element, 16)(*arrays))
    for result in others:
        np.testing.assert_array_equal(result, one)


@pytest.mark.skipif(HOST != "avx512", reason="the processor has no AVX-512")
@pytest.mark.parametrize("name", ["exp", "exp2", "tanh"])
def test_tables_in_registers_keep_single_precision(name: str) -> None:
    x = np.arange(0, 2**32, 1999, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.array(SPECIAL, np.float32)])
    near = np.arange(0x3B000000, 0x41800000, 97, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, near, -near])
    expected = reference(name, widened(x))
    for width in (1, 16):
        y = load(kernel_text(name, "float", width, instructions="avx512"), "float")(x)
        assert errors(y, expected).max() <= vecmath.ULP[name][0]
        with np.errstate(all="ignore"):
            assert_same_kind(y, expected.astype(np.float32), x)


@pytest.mark.skipif("avx" not in HOST, reason="the processor has no AVX2")
@pytest.mark.parametrize("name", ["pow", "erf", "gelu"])
def test_tables_in_registers_are_those_in_memory(name: str) -> None:
    arrays = patterns("float", name, 100_000)
    expected = compiled(name, "float", 1)(*arrays)
    for instructions in ("avx2", "avx512")[: 1 + (HOST == "avx512")]:
        for width in (8, 64):
            picked = load(kernel_text(name, "float", width, instructions), "float")
            np.testing.assert_array_equal(picked(*arrays), expected)


def test_erf_and_gelu_saturate_exactly() -> None:
    x = np.concatenate([np.linspace(3.9, 60, 20_000), [1e30]]).astype(np.float32)
    for sign in (1, -1):
        assert np.abs(compiled("erf", "float", 16)(sign * x)).max() <= 1.0
    far = x[x >= 5.8]
    np.testing.assert_array_equal(compiled("erf", "float", 16)(-far), -np.ones_like(far))
    np.testing.assert_array_equal(compiled("gelu", "float", 16)(far), far)
    np.testing.assert_array_equal(compiled("gelu", "float", 16)(-far), -np.zeros_like(far))


@pytest.mark.parametrize("name", ["pow", "atan2", "hypot"])
def test_single_precision_of_two_operands(name: str) -> None:
    x, y = patterns("float", name, 100_000)
    got = compiled(name, "float", 16)(x, y)
    expected = reference(name, widened(x), widened(y))
    assert errors(got, expected).max() <= vecmath.ULP[name][0]
    with np.errstate(all="ignore"):
        assert_same_kind(got, expected.astype(np.float32), x, y)


def large_powers(within: float) -> tuple[np.ndarray, ...]:
    """Numbers close to one, to exponents that spread the results over the whole range: an error
    of the logarithm is multiplied most."""
    rng = np.random.default_rng(3)
    x = rng.uniform(1 - within, 1 + within, 200_000).astype(np.float32)
    with np.errstate(divide="ignore"):
        y = rng.uniform(-1, 1, x.size) * 150 / np.abs(np.log2(widened(x)))
    return x, np.clip(y, -3e38, 3e38).astype(np.float32)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_beside_multiples_of_a_quarter_turn(name: str) -> None:
    """Where the reduction cancels most; all of them that a branch does not reduce exactly."""
    closest = (np.arange(1, 63662) * (np.pi / 2)).astype(np.float32).view(np.uint32)
    x = np.concatenate([closest + np.uint32(k) for k in range(3)]).view(np.float32)
    y = compiled(name, "float", 16)(x)
    assert errors(y, reference(name, widened(x))).max() <= vecmath.ULP[name][0]


def test_erf_over_a_whole_binade_of_small_numbers() -> None:
    x = np.arange(0x3B000000, 0x3B800000, 3, dtype=np.uint32).view(np.float32)
    assert errors(compiled("erf", "float", 16)(x), reference("erf", widened(x))).max() <= 1.5


@pytest.mark.parametrize("within", [1e-3, 0.01, 0.04, 0.5])
def test_powers_close_to_one_with_large_exponents(within: float) -> None:
    x, y = large_powers(within)
    got = compiled("pow", "float", 16)(x, y)
    expected = reference("pow", widened(x), widened(y))
    assert errors(got, expected).max() <= vecmath.ULP["pow"][0]
    with np.errstate(all="ignore"):
        assert_same_kind(got, expected.astype(np.float32), x, y)


def test_powers_of_whole_numbers_are_exact_as_far_as_squares_and_beyond() -> None:
    for exponent in range(2, 8):
        base = np.arange(1, int((2**24) ** (1 / exponent))).astype(np.float32)
        got = compiled("pow", "float", 16)(base, np.full_like(base, exponent))
        np.testing.assert_array_equal(got, widened(base) ** exponent)


@pytest.mark.parametrize("name", TABLE.files)
def test_double_precision_against_the_table(name: str) -> None:
    *arguments, high, low = TABLE[name]
    y = compiled(name, "double", 8)(*arguments)
    np.testing.assert_array_equal(np.isinf(y), np.isinf(high))
    unit = np.maximum(np.abs(high), 1) if name in ("lgamma", "digamma") else None
    assert errors(y, high, low, unit).max() <= vecmath.ULP[name][1]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in EXACT])
def test_double_precision_specials(name: str) -> None:
    arrays = patterns("double", name, 1000)
    assert_same_kind(compiled(name, "double", 8)(*arrays), reference(name, *arrays), *arrays)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", EXACT)
def test_rounding_and_remainders_are_numpys_to_the_bit(name: str, element: str) -> None:
    arrays = patterns(element, name, 20_000)
    got, expected = compiled(name, element, 16)(*arrays), reference(name, *arrays)
    np.testing.assert_array_equal(got, expected)
    assert_same_kind(got, expected, *arrays)


def test_remainder_of_extreme_quotients() -> None:
    for element, (dtype, _) in ELEMENTS.items():
        info = np.finfo(dtype)
        x = np.array([info.max, info.max, 1.0, info.tiny, 1e30, -info.max], dtype)
        y = np.array([info.smallest_subnormal, 3.0, info.smallest_subnormal * 3,
                      info.smallest_subnormal * 7, 7e-30, info.tiny * 1.25], dtype)  # fmt: skip
        np.testing.assert_array_equal(compiled("fmod", element, 16)(x, y), np.fmod(x, y))


# -- the special cases that a user would notice ---------------------------------------------
@pytest.mark.parametrize("element", ELEMENTS)
def test_exact_results(element: str) -> None:
    dtype = ELEMENTS[element][0]
    n = np.arange(-120, 121).astype(dtype)
    np.testing.assert_array_equal(compiled("exp2", element, 16)(n), np.exp2(n))
    np.testing.assert_array_equal(compiled("log2", element, 16)(np.exp2(n)), n)
    squares = compiled("pow", element, 16)(n, np.full_like(n, 2))
    np.testing.assert_array_equal(squares, n * n)
    for name, at, value in [("exp", 0, 1), ("log", 1, 0), ("cosh", 0, 1), ("cos", 0, 1),
                            ("acos", 1, 0), ("sigmoid", 0, 0.5), ("erfc", 0, 1)]:  # fmt: skip
        assert compiled(name, element, 16)(np.array([at], dtype))[0] == value


@pytest.mark.parametrize("name", ["exp", "exp2", "sinh", "cosh", "expm1"])
def test_overflow_comes_exactly_where_numpy_has_it(name: str) -> None:
    edge = {"exp": 88.72283, "exp2": 128.0, "expm1": 88.72283}.get(name, 89.41599)
    x = np.linspace(edge - 1e-3, edge + 1e-3, 1001).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = reference(name, x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(np.isinf(compiled(name, "float", 16)(x)), np.isinf(expected))


def test_subnormal_results_are_not_flushed() -> None:
    x = np.linspace(-103.2, -87.4, 4001).astype(np.float32)
    y = compiled("exp", "float", 16)(x)
    assert np.count_nonzero((y > 0) & (y < np.finfo(np.float32).tiny)) > 3000
    assert errors(y, np.exp(x.astype(np.float64))).max() <= vecmath.ULP["exp"][0]


def test_a_large_angle_disturbs_no_other_lane() -> None:
    for element in ELEMENTS:
        x = np.linspace(-3, 3, 64).astype(ELEMENTS[element][0])
        mixed = x.copy()
        mixed[[3, 17, 40, 63]] = [1e30, -7e8, np.inf, np.nan]
        small = np.isfinite(mixed) & (np.abs(mixed) < 4)
        for name in ("sin", "cos", "tan"):
            alone, beside = (compiled(name, element, 16)(v) for v in (x, mixed))
            np.testing.assert_array_equal(alone[small], beside[small])
            assert np.isnan(beside[[40, 63]]).all()
            expected = reference(name, mixed[[3, 17]].astype(np.float64))
            np.testing.assert_allclose(beside[[3, 17]], expected, rtol=3e-7)


# -- how it is compiled ---------------------------------------------------------------------
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_scalar_and_vector_have_the_same_bits(name: str, element: str) -> None:
    arrays = patterns(element, name, 300, seed=7)
    got = [compiled(name, element, width)(*arrays) for width in (1, 16, 64)]
    bits = ELEMENTS[element][1]
    for other in got[1:]:
        number = ~np.isnan(got[0])
        np.testing.assert_array_equal(np.isnan(other), ~number)
        np.testing.assert_array_equal(other[number].view(bits), got[0][number].view(bits))


def machines() -> list[jit.Machine]:
    """Code for any of them can be emitted, whatever this processor can run."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    levels = [LEVELS[level] for level in ("avx512", "avx2")]
    triple = "x86_64-unknown-linux-gnu"
    arm = jit.Machine("aarch64-unknown-linux-gnu", "neoverse-n1", "", 16, True)
    return [*(jit.Machine(triple, cpu, "", size, fma) for cpu, size, fma in levels), arm]


@pytest.mark.parametrize("name", NAMES)
def test_no_library_is_called(name: str) -> None:
    for machine in machines():
        for element, width in (("float", 16), ("double", 8)):
            text = kernel_text(name, element, width, machine.instructions)
            assert codegen._undefined_symbols(jit.emit_object(text, machine)) == set()


def test_a_libm_call_would_be_seen() -> None:
    fn = Function("kernel", [("ptr", "x")])
    lanes = Lanes(fn, "float", 4)
    lanes.store(lanes.intrinsic("exp", lanes.load("%x")), "%x")
    fn.do("ret void")
    with pytest.raises(Exception, match="expf"):
        jit.compile_module(module_text([fn]))


def test_a_wrong_coefficient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = list(coefficients.SINGLE["exp2"])
    wrong[2] *= 1 + 2e-4
    monkeypatch.setitem(coefficients.SINGLE, "exp2", tuple(wrong))
    x = np.linspace(-80, 80, 100_001).astype(np.float32)
    y = load(kernel_text("exp", "float", 16), "float")(x)
    assert errors(y, np.exp(x.astype(np.float64))).max() > vecmath.ULP["exp"][0]


@pytest.mark.parametrize("column", range(6))
def test_a_wrong_coefficient_of_an_interval_is_caught(
    column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [list(entries) for entries in coefficients.TABLES["erf"]]
    wrong[column][5] += 2e-7 * 8**column
    monkeypatch.setitem(coefficients.TABLES, "erf", tuple(map(tuple, wrong)))
    x = np.linspace(1, 2, 100_001, dtype=np.float32)
    got = load(kernel_text("erf", "float", 16), "float")(x)
    assert errors(got, reference("erf", widened(x))).max() > vecmath.ULP["erf"][0]


@pytest.mark.parametrize("column", range(3))
def test_a_wrong_entry_of_a_table_is_caught(column: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [list(entries) for entries in coefficients.TABLES["log2"]]
    wrong[column][2] += 1e-6
    monkeypatch.setitem(coefficients.TABLES, "log2", tuple(map(tuple, wrong)))
    x, y = large_powers(0.5)
    got = load(kernel_text("pow", "float", 16), "float")(x, y)
    assert errors(got, reference("pow", widened(x), widened(y))).max() > vecmath.ULP["pow"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sin", "tan", "exp", "tanh", "erf", "log1p", "pow", "atan2"])
def test_repeated_functions_are_written_once_and_give_the_same_bits(name: str, dtype: Any) -> None:
    function = getattr(accel, name)
    binary = name in ("pow", "atan2")

    def apply(x: accel.Tensor) -> accel.Tensor:
        return function(accel.abs(x), 1.25) if binary else function(x)

    @accel.compile
    def chain(x: accel.Tensor) -> accel.Tensor:
        for _ in range(6):
            x = apply(x) - 0.5
        return x

    x = np.linspace(-4, 4, 1003, dtype=dtype)
    x[[3, 40, 1001]] = np.nan, np.inf, 1e30
    expected = accel.asarray(x)
    for _ in range(6):
        expected = apply(expected)
        accel.eval(expected)
        expected = expected - 0.5
        accel.eval(expected)
    assert chain(x).numpy().tobytes() == expected.numpy().tobytes()
    text = chain.llvm_ir(x)
    symbols = re.findall(rf"define internal .* @math\.{name}\.(\w+)\(", text)
    assert symbols and len(symbols) == len(set(symbols)) <= 3
    assert all(text.count(f"@math.{name}.{s}(") >= 7 for s in symbols)


@pytest.mark.skipif(HOST != "avx512", reason="the processor has no AVX-512")
def test_products_and_convolutions_use_the_machines_own_instructions_behind_them() -> None:
    def product(x: accel.Tensor, y: accel.Tensor) -> accel.Tensor:
        return accel.erf(accel.exp(x @ y))

    def windows(x: accel.Tensor, y: accel.Tensor) -> accel.Tensor:
        return accel.erf(accel.exp(accel.nn.functional.conv2d(x, y)))

    a, b = np.ones((2, 64, 64), np.float32)
    image, weight = np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32)
    texts = accel.compile(product).llvm_ir(a, b), accel.compile(windows).llvm_ir(image, weight)
    for text in texts:
        assert "avx512.mask.scalef" in text and "avx512.permvar" in text
