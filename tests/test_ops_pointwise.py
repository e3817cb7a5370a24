"""The pointwise ops: every declaration held to its type rule, its expansion, its gradient."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from accel.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.op import Op, Sample, all_ops
from accel.ir.ops.pointwise import rounding
from accel.ir.types import TensorType
from accel.passes.differentiate import gradient_graph
from accel.targets.pure.vecmath import ULP
from accel.targets.reference import run_graph

OPS = [op for op in all_ops().values() if op.form == "pointwise" and op.name != "cast"]
SMOOTH = [
    op for op in OPS
    if op.gradient is not None or (op.expand and not op.discontinuous and "f" in op.kinds)
]  # fmt: skip
NAMES = """
    add sub mul div pow neg abs sqrt rsqrt reciprocal square exp exp2 expm1 log log1p log2 log10
    logaddexp sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc hypot
    copysign sign signbit floor ceil round trunc floor_divide remainder fmod maximum minimum fmax
    fmin clamp lerp addcmul addcdiv isfinite isinf isnan nextafter real imag conj eq ne lt le gt
    ge where logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor
    bitwise_invert bitwise_left_shift bitwise_right_shift isclose relu leaky_relu sigmoid gelu elu
    selu celu silu mish softplus hardtanh hardswish hardsigmoid relu6 prelu logsigmoid softsign
    tanhshrink heaviside stop_gradient check_index
""".split()


def by_name(op: Op) -> str:
    return op.name


def draw(sample: Sample, rng: np.random.Generator) -> list[np.ndarray | float]:
    """Arrays of a sample's types within its bounds; fixed operands as they are."""
    low = -3.0 if sample.low is None else sample.low
    high = 3.0 if sample.high is None else sample.high

    def array(t: TensorType) -> np.ndarray:
        if t.dtype.kind == "b":
            return rng.random(t.shape) < 0.5
        if t.dtype.kind in "iu":
            low_int, high_int = int(np.ceil(low)), int(np.floor(high))
            return rng.integers(low_int, high_int, t.shape, endpoint=True).astype(t.dtype.numpy)
        values = rng.uniform(low, high, t.shape)
        if t.dtype.kind == "c":
            values = values + 1j * rng.uniform(low, high, t.shape)
        return np.asarray(values).astype(t.dtype.numpy)

    return [array(o) if isinstance(o, TensorType) else o for o in sample.operands]


def drawn(op: Op) -> list[tuple[Sample, list[np.ndarray | float]]]:
    assert op.samples is not None
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    return [(s, draw(s, rng)) for s in op.samples()]


def type_of(array: np.ndarray) -> TensorType:
    return TensorType(dtypes.to_dtype(array.dtype), array.shape)


def graph_of(op: Op | str, operands: list, attrs: dict, expand: bool = False) -> Graph:
    """The graph of one application; Python scalars are weak constants."""
    b = Builder()
    nodes = [
        b.input(f"x{i}", type_of(np.asarray(v))) if isinstance(v, (np.ndarray, np.generic)) else v
        for i, v in enumerate(operands)
    ]
    out = b.apply(op, *nodes, **attrs)
    if expand:
        out = out.op.expand(b, *out.inputs, **out.attrs)  # type: ignore[misc]
    return b.graph([n for n in nodes if not isinstance(n, (int, float, complex))], [out])


def arrays_of(operands: list) -> list[np.ndarray]:
    return [np.asarray(v) for v in operands if isinstance(v, (np.ndarray, np.generic))]


def apply(op: str, *operands: object, **attrs: object) -> np.ndarray:
    graph = graph_of(op, list(operands), attrs)
    return run_graph(graph, arrays_of(list(operands)))[0]


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


# -- every declaration ---------------------------------------------------------------------
def test_every_name_is_declared_and_documented() -> None:
    assert not [n for n in NAMES if n not in all_ops()]
    assert not [op.name for op in OPS if not op.doc.endswith(".")]


@pytest.mark.parametrize("op", OPS, ids=by_name)
@pytest.mark.filterwarnings("error")
def test_reference_has_the_inferred_type_and_changes_no_operand(op: Op) -> None:
    samples = drawn(op)
    assert len(samples) >= 3
    for sample, operands in samples:
        graph = graph_of(op, operands, dict(sample.attrs))
        before = [a.copy() for a in arrays_of(operands)]
        arrays = arrays_of(operands)
        for a in arrays:
            a.setflags(write=False)
        [out] = run_graph(graph, arrays)
        type_ = graph.outputs[0].type
        assert (out.dtype, out.shape) == (type_.dtype.numpy, type_.shape)
        for old, new in zip(before, arrays, strict=True):
            assert old.tobytes() == new.tobytes()


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_error_samples_raise_with_the_ops_name(op: Op) -> None:
    assert op.error_samples is not None
    errors = list(op.error_samples())
    takes_all = op.kinds == "biufc" or (op.kinds == "fc" and op.promote == "float")
    assert errors or (takes_all and op.arity == (1, 1))
    for sample in errors:
        b = Builder()
        operands = [
            b.input(f"x{i}", o) if isinstance(o, TensorType) else o
            for i, o in enumerate(sample.operands)
        ]
        with pytest.raises(sample.error, match=sample.match) as caught:
            b.apply(op, *operands, **sample.attrs)
        assert op.name in str(caught.value)


@pytest.mark.parametrize("op", [op for op in OPS if op.expand], ids=by_name)
def test_expansion_agrees_with_the_reference(op: Op) -> None:
    for sample, operands in drawn(op):
        [whole] = run_graph(graph_of(op, operands, dict(sample.attrs)), arrays_of(operands))
        expanded = graph_of(op, operands, dict(sample.attrs), expand=True)
        [parts] = run_graph(expanded, arrays_of(operands))
        assert parts.dtype == whole.dtype
        if whole.dtype.kind in "biu":
            np.testing.assert_array_equal(parts, whole)
            continue
        eps = rounding(whole)
        wide = np.complex128 if whole.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(
            parts.astype(wide), whole.astype(wide), rtol=16 * eps, atol=8 * eps
        )


# -- gradients -----------------------------------------------------------------------------
def finite_differences(graph: Graph, arrays: list[np.ndarray], at: int) -> np.ndarray:
    """Central differences of the sum of the output by the elements of one operand."""
    step = 1e-6
    result = np.zeros(arrays[at].shape)
    for place in np.ndindex(arrays[at].shape):
        sums = []
        for h in (step, -step):
            moved = [a.copy() for a in arrays]
            moved[at][place] += h
            sums.append(run_graph(graph, moved)[0].sum())
        result[place] = (sums[0] - sums[1]) / (2 * step)
    return result


def float64_cases(op: Op) -> list[tuple[Graph, list[np.ndarray], list[int]]]:
    """Graphs of the float64 samples, and one with broadcast operands, with the differentiable
    operands' places."""
    cases = []
    for sample, operands in drawn(op):
        arrays = arrays_of(operands)
        if len(arrays) == len(operands) and any(a.dtype == np.float64 for a in arrays):
            graph = graph_of(op, operands, dict(sample.attrs))
            wrt = [i for i, a in enumerate(arrays) if a.dtype == np.float64]
            cases.append((graph, arrays, wrt))
    if op.arity[0] > 1:
        sample = drawn(op)[0][0]
        types = [o.with_dtype(dtypes.float64) if o.dtype.kind == "f" else o
                 for o in sample.operands]  # fmt: skip
        wide = Sample(tuple(types), sample.attrs, sample.low, sample.high)
        operands = draw(wide, np.random.default_rng(5))
        wrt = [i for i, t in enumerate(types) if t.dtype is dtypes.float64]
        cases.append((graph_of(op, operands, dict(sample.attrs)), arrays_of(operands), wrt))
    assert cases
    return cases


@pytest.mark.parametrize("op", SMOOTH, ids=by_name)
def test_gradient_is_that_of_finite_differences(op: Op) -> None:
    for graph, arrays, wrt in float64_cases(op):
        found = run_graph(gradient_graph(graph, wrt), arrays)
        for i, gradient in zip(wrt, found, strict=True):
            expected = finite_differences(graph, arrays, i)
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", SMOOTH, ids=by_name)
def test_second_gradient_is_that_of_finite_differences(op: Op) -> None:
    graph, arrays, wrt = float64_cases(op)[0]
    first = gradient_graph(graph, wrt[:1])
    second = run_graph(gradient_graph(first, wrt), arrays)
    for i, gradient in zip(wrt, second, strict=True):
        expected = finite_differences(first, arrays, i)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_ops_without_gradient_stop_it() -> None:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float64, (3,)))
    graph = b.graph([x], [b.add(b.mul(b.stop_gradient(x), x), b.floor(x))])
    value = np.array([1.5, -2.0, 4.0])
    np.testing.assert_array_equal(run_graph(gradient_graph(graph), [value])[0], value)


def slope(op: str, *values: float, **attrs: object) -> list[float]:
    """Gradients of one op by each of its scalar operands."""
    operands = [np.float64(v) for v in values]
    graph = gradient_graph(graph_of(op, operands, attrs), range(len(values)))
    return [float(a) for a in run_graph(graph, arrays_of(operands))]


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("relu", (0.0,), [0.0]),
        ("abs", (0.0,), [0.0]),
        ("maximum", (1.0, 1.0), [0.5, 0.5]),
        ("minimum", (1.0, 1.0), [0.5, 0.5]),
        ("fmax", (np.nan, 1.0), [0.0, 1.0]),
        ("fmin", (2.0, np.nan), [1.0, 0.0]),
        ("clamp", (0.0, 0.0, 1.0), [1.0, 0.0, 0.0]),
        ("clamp", (5.0, 0.0, 1.0), [0.0, 0.0, 1.0]),
        ("clamp", (0.5, 3.0, 1.0), [0.0, 0.0, 1.0]),
        ("hardtanh", (1.0,), [0.0]),
        ("relu6", (6.0,), [0.0]),
        ("elu", (1000.0,), [1.0]),
        ("selu", (-np.inf,), [0.0]),
        ("softplus", (1000.0,), [1.0]),
        ("logsigmoid", (-1000.0,), [1.0]),
        ("pow", (0.0, 0.0), [0.0, 0.0]),
        ("pow", (0.0, 2.0), [0.0, 0.0]),
        ("logaddexp", (-np.inf, -np.inf), [0.5, 0.5]),
        ("logaddexp", (np.inf, 0.0), [1.0, 0.0]),
        ("copysign", (-2.0, 1.0), [-1.0, 0.0]),
    ],
)  # fmt: skip
def test_gradient_at_kinks_and_limits(op: str, values: tuple, expected: list[float]) -> None:
    assert slope(op, *values) == expected


def test_second_gradients_hold_no_nan_where_a_branch_is_not_taken() -> None:
    for op, values in (("pow", (0.0, 2.0)), ("elu", (1000.0,)), ("softplus", (1000.0,)),
                       ("logaddexp", (np.inf, np.inf))):  # fmt: skip
        operands = [np.float64(v) for v in values]
        first = gradient_graph(graph_of(op, operands, {}), [0])
        second = run_graph(gradient_graph(first, range(len(values))), arrays_of(operands))
        assert not np.isnan(second).any(), op


# -- IEEE values, integers, dtypes ---------------------------------------------------------
NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("op", "operands", "expected"),
    [
        ("maximum", (f32(NAN, 1), f32(2, NAN)), f32(NAN, NAN)),
        ("fmax", (f32(NAN, 1), f32(2, NAN)), f32(2, 1)),
        ("sign", (f32(-0.0, NAN, -INF),), f32(0, NAN, -1)),
        ("round", (f32(0.5, 1.5, -0.5, 2.5),), f32(0, 2, -0.0, 2)),
        ("floor_divide", (f32(7, -7, 1, 0), f32(2, 2, 0, 0)), f32(3, -4, INF, NAN)),
        ("remainder", (f32(7, -7, -1), f32(3, 3, INF)), f32(1, 2, INF)),
        ("fmod", (f32(7, -7, -1), f32(3, 3, INF)), f32(1, -1, -1)),
        ("relu", (f32(NAN, -INF, INF, -0.0),), f32(NAN, 0, INF, 0)),
        ("logaddexp", (f32(-INF, INF, 0), f32(-INF, -INF, 0)), f32(-INF, INF, np.log(2.0))),
        ("logsigmoid", (f32(-1000, 1000, -INF),), f32(-1000, -0.0, -INF)),
        ("softplus", (f32(-1000, 1000, INF, NAN),), f32(0, 1000, INF, NAN)),
        ("sigmoid", (f32(-INF, INF, 0, NAN),), f32(0, 1, 0.5, NAN)),
        ("lerp", (f32(1, 1), f32(3, 3), f32(0, 1)), f32(1, 3)),
        ("clamp", (f32(NAN, -5, 5), f32(-1), f32(1)), f32(NAN, -1, 1)),
        ("hypot", (f32(3e38, INF), f32(0, NAN)), f32(3e38, INF)),
        ("atan2", (f32(0.0, -0.0), f32(-1, -1)), f32(np.pi, -np.pi)),
        ("heaviside", (f32(-1, 0, 2, NAN), f32(0.5)), f32(0, 0.5, 1, NAN)),
        ("nextafter", (f32(1, 0), f32(2, -1)), f32(1 + 2.0**-23, -(2.0**-149))),
        ("signbit", (f32(-0.0, 0.0, -1),), np.array([True, False, True])),
        ("isclose", (f32(INF, INF, 1), f32(INF, -INF, INF)), np.array([True, False, False])),
        ("isclose", (f32(NAN, 1), f32(NAN, 1.000001)), np.array([False, True])),
        ("floor_divide", (i32(7, -7, 5, -(2**31)), i32(2, 2, 0, -1)), i32(3, -4, 0, -(2**31))),
        ("remainder", (i32(7, -7, 5, -(2**31)), i32(3, 3, 0, -1)), i32(1, 2, 0, 0)),
        ("fmod", (i32(7, -7, 5), i32(3, 3, 0)), i32(1, -1, 0)),
        ("abs", (i32(-(2**31), -3),), i32(-(2**31), 3)),
        ("pow", (i32(2, -1, 1, 3, 0), i32(10, -3, -2, -1, -1)), i32(1024, -1, 1, 0, 0)),
        ("bitwise_left_shift", (i32(1, 1, 1), i32(3, 32, -1)), i32(8, 0, 0)),
        ("bitwise_right_shift", (i32(8, -8, -8), i32(2, 2, 40)), i32(2, -2, -1)),
        ("add", (np.array([True, False]), np.array([True, True])), np.array([True, True])),
        ("mul", (np.array([True, False]), np.array([True, True])), np.array([True, False])),
        ("bitwise_invert", (np.array([True, False]),), np.array([False, True])),
        ("logical_and", (f32(NAN, 0.0), i32(1, 1)), np.array([True, False])),
    ],
)  # fmt: skip
def test_special_values(op: str, operands: tuple, expected: np.ndarray) -> None:
    out = apply(op, *operands)
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out, expected)
    if expected.dtype.kind == "f" and op not in ("maximum", "fmax"):
        np.testing.assert_array_equal(np.signbit(out)[out == 0], np.signbit(expected)[out == 0])


@pytest.mark.parametrize(
    ("op", "operands", "dtype"),
    [
        ("div", (i32(1), i32(2)), np.float32),
        ("sin", (i32(1),), np.float32),
        ("sin", (np.array([True]),), np.float32),
        ("floor", (i32(1),), np.int32),
        ("abs", (np.array([3 + 4j], np.complex64),), np.float32),
        ("imag", (np.array([3 + 4j]),), np.float64),
        ("add", (np.array([1], np.uint8), np.array([1], np.int8)), np.int16),
        ("mul", (np.array([1], np.float16), 2.5), np.float16),
        ("mul", (i32(1), 2.5), np.float32),
        ("where", (np.array([True]), i32(1), f32(2)), np.float32),
        ("eq", (np.array([1j]), f32(2)), np.bool_),
        ("check_index", (np.array([1], np.uint8),), np.int64),
    ],
)  # fmt: skip
def test_result_dtypes(op: str, operands: tuple, dtype: type) -> None:
    attrs = {"size": 4} if op == "check_index" else {}
    assert apply(op, *operands, **attrs).dtype == dtype


@pytest.mark.parametrize(
    ("op", "operands", "error"),
    [
        ("sub", (np.array([True]), np.array([True])), DTypeError),
        ("lt", (np.array([1j]), np.array([1j])), DTypeError),
        ("bitwise_and", (f32(1), f32(1)), DTypeError),
        ("erf", (np.array([1j]),), DTypeError),
        ("where", (f32(1), f32(1), f32(1)), DTypeError),
        ("add", (f32(1, 2), f32(1, 2, 3)), ShapeError),
        ("add", (np.array([1], np.uint64), np.array([1])), DTypeError),
        ("add", (f32(1),), ArgumentError),
    ],
)  # fmt: skip
def test_what_an_op_does_not_take_raises(op: str, operands: tuple, error: type) -> None:
    with pytest.raises(error):
        apply(op, *operands)


@pytest.mark.parametrize(
    ("op", "count", "attrs"),
    [
        ("elu", 1, {"alpha": "one"}),
        ("softplus", 1, {"beta": float("nan")}),
        ("hardtanh", 1, {"min_val": None}),
        ("isclose", 2, {"rtol": float("nan")}),
        ("addcmul", 3, {"value": 1j}),
        ("gelu", 1, {"approximate": None}),
        ("relu", 1, {"alpha": 1.0}),
    ],
)
def test_impossible_attributes_raise(op: str, count: int, attrs: dict) -> None:
    with pytest.raises(ArgumentError, match=op):
        apply(op, *[f32(1)] * count, **attrs)


def test_check_index_wraps_and_names_what_is_out_of_range() -> None:
    index = np.array([[0, -1], [4, -5]], np.int32)
    np.testing.assert_array_equal(apply("check_index", index, size=5), [[0, 4], [4, 0]])
    with pytest.raises(IndexOutOfRangeError, match="row: index 5 is out of range"):
        apply("check_index", i32(0, 5), size=5, what="row")
    with pytest.raises(IndexOutOfRangeError, match="index -1 "):
        apply("check_index", i32(-1), size=5, wrap=False)
    with pytest.raises(IndexOutOfRangeError, match="index 0 is out of range"):
        apply("check_index", i32(0), size=0)
    with pytest.raises(IndexOutOfRangeError):
        apply("check_index", np.array([2**64 - 1], np.uint64), size=5)


@pytest.mark.parametrize("op", [op for op in OPS if op.error], ids=by_name)
def test_error_bound_covers_moved_operands(op: Op) -> None:
    """Operands moved by as much as their error move the result by no more than the bound."""
    assert op.error is not None
    rng = np.random.default_rng(3)
    for graph, arrays, wrt in float64_cases(op):
        if len(wrt) < len(arrays):
            continue
        attrs = graph.outputs[0].attrs
        errors = [np.full(a.shape, 1e-3) for a in arrays]
        [out] = run_graph(graph, arrays)
        bound = op.error(arrays, errors, out, attrs)
        assert (bound < 1.0).any()
        for dtype in dtypes.float32, dtypes.float16, dtypes.bfloat16:  # coarser results, more error
            rounded = op.error(arrays, errors, out.astype(dtype.numpy), attrs)
            assert (rounded > bound).all()
        for _ in range(20):
            moved = [a + rng.choice([-1e-3, 1e-3], a.shape) for a in arrays]
            assert (np.abs(run_graph(graph, moved)[0] - out) <= bound).all()


def test_declared_ulp_covers_the_vector_maths() -> None:
    declared = {op.name: op.ulp for op in OPS}
    shared = ULP.keys() & declared.keys()
    assert len(shared) > 30
    assert not {n: (declared[n], ULP[n]) for n in shared if declared[n] < max(ULP[n])}


# -- torch as a second opinion -------------------------------------------------------------
IN_TORCH = {"bitwise_invert": "bitwise_not"}
NOT_AS_IN_TORCH = {
    "sign": "torch's sign of NaN is 0, the standard's NaN",
    "heaviside": "torch's of NaN is 0, NumPy's NaN",
    "prelu": "torch's weight does not broadcast",
    "imag": "torch has no imaginary part of real tensors",
    "stop_gradient": "a method there",
    "floor_divide": "torch's of an infinity is NaN, the standard's an infinity",
    "polygamma": "torch's takes the order first, as an int",
    "nextafter": "torch's has no gradient where the operands are equal",
    "gcd": "of integers: compared in test_torch_parity_pointwise.py",
    "lcm": "as gcd",
    "complex": "compared in test_complex.py: its gradient begins with a complex cotangent",
    "check_index": "no function there",
}
KINKS = np.array([-3.0, -1.0, -0.5, 0.0, 1.0, 2.5, 3.0, 6.0])
WITH_TORCH = [op for op in OPS if op.name not in NOT_AS_IN_TORCH]


def torchs(op: Op) -> object:
    import torch

    name = IN_TORCH.get(op.name, op.name)
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


@pytest.mark.torch
@pytest.mark.parametrize("op", WITH_TORCH, ids=by_name)
def test_values_are_torchs(op: Op) -> None:
    import torch

    compared = 0
    for sample, operands in drawn(op):
        found = {a.dtype.name for a in arrays_of(operands)}
        allowed = {"bool", "int32"} if op.name.startswith("bitwise") else {"float32", "float64"}
        if op.name == "where":
            allowed.add("bool")
        if not found <= allowed or (op.name.endswith("shift") and (operands[1] < 0).any()):
            continue
        tensors = [torch.from_numpy(a.copy()) for a in arrays_of(operands)]
        expected = torchs(op)(*tensors, **sample.attrs).numpy()  # type: ignore[operator]
        [out] = run_graph(graph_of(op, operands, dict(sample.attrs)), arrays_of(operands))
        assert out.dtype == expected.dtype
        np.testing.assert_allclose(out, expected, rtol=3e-6, atol=1e-6)
        compared += 1
    assert compared


@pytest.mark.torch
@pytest.mark.parametrize(
    "op", [op for op in WITH_TORCH if op in SMOOTH and op.arity[0] <= 2], ids=by_name
)
def test_gradients_at_kinks_are_torchs(op: Op) -> None:
    import torch

    values = KINKS[KINKS >= 1] if op.name == "acosh" else KINKS
    if op.name == "digamma":  # torch's slope at the poles is not infinite, by a rounding of pi
        values = KINKS[KINKS >= 0]
    operands = [values.reshape(-1, 1).copy(), values][-op.arity[0] :]
    for sample in {str(s.attrs): s for s, _ in drawn(op)}.values():
        graph = graph_of(op, operands, dict(sample.attrs))
        found = run_graph(gradient_graph(graph, range(len(operands))), operands)
        tensors = [torch.tensor(a, requires_grad=True) for a in operands]
        torchs(op)(*tensors, **sample.attrs).sum().backward()  # type: ignore[operator]
        for tensor, gradient in zip(tensors, found, strict=True):
            expected = np.zeros(gradient.shape) if tensor.grad is None else tensor.grad.numpy()
            np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-12)
