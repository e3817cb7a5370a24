"""Running sums and products, and values put at indexed places: native, at every vector width."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

import accel.ir.ops  # noqa: F401  (registers the ops)
from accel.errors import ArgumentError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.node import Node
from accel.ir.op import get_op
from accel.ir.types import TensorType
from accel.passes.differentiate import differentiate
from accel.targets.pure import PureRun, compile_run
from accel.targets.pure.machine import jit
from accel.targets.pure.machine.kernels import KernelCache
from accel.targets.pure.nests.scan import Scan, scan
from accel.targets.pure.views import Buffer
from accel.targets.reference import run_graph

EXTENTS = [0, 1, 2, 7, 8, 9, 31, 33, 64, 100, 1000]


def machines() -> list[jit.Machine]:
    found = [jit.host_machine()]
    for level in ("avx2", "sse2"):
        try:
            found.append(jit.machine_for_level(level))
        except ArgumentError:
            continue
    return found


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def checked(body, *arrays: np.ndarray, tolerance: float = 1e-5) -> PureRun:
    """`body(builder, *inputs)` as one region, run and compared with the reference."""
    b = Builder()
    types = [TensorType(dtypes.to_dtype(a.dtype), a.shape) for a in arrays]
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    results = body(b, *inputs)
    graph = b.graph(inputs, list(results) if type(results) is tuple else [results])
    outer = Builder()
    inputs = [outer.input(n.attrs["name"], n.type) for n in graph.inputs]
    attrs = {"body": graph, "name": "r0", "target": "pure", "reason": ""}
    region = outer.node(get_op("region"), tuple(inputs), attrs)
    outputs = [outer.node(get_op("output"), (region,), {"index": i})
               for i in range(len(graph.outputs))]  # fmt: skip
    run = compile_run(outer.graph(inputs, outputs))
    for got, want in zip(run(arrays), run_graph(graph, arrays), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return run


def made(
    op: str, x: np.ndarray, axis: int, machine: jit.Machine, dtype: str | None = None
) -> Scan:
    b = Builder()
    node = b.input("x", TensorType(dtypes.to_dtype(x.dtype), x.shape))
    converted = {} if dtype is None else {"dtype": dtypes.to_dtype(dtype)}
    node = b.apply(op, node, axis=axis, **converted)
    sides = [Buffer(n.type.dtype, x.size).whole(x.shape) for n in (node.inputs[0], node)]
    return scan(node, *sides, machine)


def executed(plan: Scan, x: np.ndarray, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """What the kernel of `plan` writes, its work items done in several calls."""
    out = np.empty(x.shape, plan.target.buffer.dtype.numpy)
    kernel = KernelCache(machine=plan.machine).get("scan", plan.text("scan"))
    bases = np.array([a.__array_interface__["data"][0] for a in (x, out)], np.int64)
    block = np.array(plan.arguments((0, 0), (1, 0)), np.int64)
    call = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
    )(kernel.address)
    points = sorted({0, plan.items, *[c for c in cuts if c < plan.items]})
    for begin, end in itertools.pairwise(points):
        assert call(bases.ctypes.data, block.ctypes.data, begin, end) == 0
    return out


def draw(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 5, shape).astype(dtype)
    return rng.uniform(-1.5, 1.5, shape).astype(dtype)


@pytest.mark.parametrize("machine", machines(), ids=lambda m: f"{m.vector_bytes}bytes")
@pytest.mark.parametrize("op", ["cumsum", "cumprod"])
def test_every_dtype_form_and_tail(op: str, machine: jit.Machine) -> None:
    names = ["bool", "int8", "uint16", "int32", "uint64", "float32", "float64"]
    fold = np.cumsum if op == "cumsum" else np.cumprod
    for dtype, (shape, axis) in itertools.product(
        names, [((37,), 0), ((5, 19), 1), ((6, 70), 0), ((3, 9, 5), 1), ((2, 1), 1)]
    ):
        x = draw(dtype, shape)
        plan = made(op, x, axis, machine, None)
        got = executed(plan, x)
        wide = np.float64 if x.dtype.kind == "f" else got.dtype
        want = fold(x, axis=axis, dtype=wide).astype(got.dtype)
        if dtype == "float32":
            np.testing.assert_array_max_ulp(got, want, 1)
        else:  # float64 in NumPy's order, bit for bit
            np.testing.assert_array_equal(got, want, err_msg=f"{dtype} {shape} {axis}")
        np.testing.assert_array_equal(got, executed(plan, x, (1, 2, 5)))


@pytest.mark.parametrize("machine", machines(), ids=lambda m: f"{m.vector_bytes}bytes")
@pytest.mark.parametrize("op", ["cumargmax", "cumargmin"])
def test_places_of_running_extrema(op: str, machine: jit.Machine) -> None:
    """Ties go to the last, NaN stays for good, at every width and tail."""
    names = ["bool", "int8", "uint16", "int64", "uint64", "float32", "float64"]
    shapes = [((37,), 0), ((5, 19), 1), ((6, 70), 0), ((3, 9, 5), 1), ((2, 1), 1), ((3, 0), 0)]
    for dtype, (shape, axis) in itertools.product(names, shapes):
        x = draw(dtype, shape)
        if x.dtype.kind == "f":
            special = [0.0, -0.0, np.inf, -np.inf, 1.5, -1.5]
            x = np.random.default_rng(1).choice(special, shape).astype(dtype)
            x[np.random.default_rng(2).random(shape) < 0.05] = np.nan
        elif x.dtype.kind in "iu":  # both ends of the range
            limits = np.iinfo(x.dtype)
            x[x == 0], x[x == 1] = limits.min, limits.max
        plan = made(op, x, axis, machine)
        got = executed(plan, x)
        want = get_op(op).reference(x, axis=axis)
        np.testing.assert_array_equal(got, want, err_msg=f"{dtype} {shape} {axis}")
        np.testing.assert_array_equal(got, executed(plan, x, (1, 2, 5)))


@pytest.mark.parametrize("extent", EXTENTS)
def test_every_length_and_width(extent: int) -> None:
    for shape, axis in [((2, extent), 1), ((3, extent), 0), ((extent,), 0)]:
        checked(lambda b, x, axis=axis: b.cumsum(x, axis=axis), normal(*shape), tolerance=1e-6)


def test_dtypes_that_are_asked_for() -> None:
    x = draw("float32", (4, 33)) * 9
    for dtype in ("int32", "float64", "int8"):
        got = executed(made("cumsum", x, 1, jit.host_machine(), dtype), x)
        np.testing.assert_array_equal(got, np.cumsum(x.astype(dtype), 1, dtype=dtype))


def test_special_numbers_reach_only_what_follows_them() -> None:
    x = np.ones(40, np.float32)
    x[[5, 21, 30]] = np.inf, -np.inf, np.nan
    got = executed(made("cumsum", x, 0, jit.host_machine(), None), x)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(got, np.cumsum(x))
    zeros = executed(made("cumsum", -np.zeros(20, np.float32), 0, jit.host_machine(), None),
                -np.zeros(20, np.float32))  # fmt: skip
    assert np.signbit(zeros).all()


def test_a_long_sum_is_nearer_than_numpys() -> None:
    x = np.random.default_rng(0).random(1 << 18, np.float32)
    exact = np.cumsum(x, dtype=np.float64)
    got = executed(made("cumsum", x, 0, jit.host_machine(), None), x)
    assert abs(got - exact).max() < 0.01 * abs(np.cumsum(x) - exact).max()


def test_operands_in_any_layout() -> None:
    x = normal(6, 7, 8)
    checked(lambda b, x: b.cumsum(b.permute(x, axes=(2, 0, 1)), axis=1), x)
    checked(lambda b, x: b.cumsum(b.flip(x, axis=(1,)), axis=1), x)
    checked(lambda b, x: b.cumsum(b.broadcast_to(x, shape=(2, 6, 7, 8)), axis=0), x)
    checked(lambda b, x: b.cumprod(b.slice(x, start=(2, 0, 0), step=(1, 1, 1), stop=(5, 7, 8)),
                                   axis=2), x)  # fmt: skip
    plan = checked(lambda b, x: b.tanh(b.cumsum(b.exp(x), axis=0)), x)
    assert [k.kind for k in plan.kernels] == ["loop", "scan", "loop"]
    assert plan.native_calls == 1


def test_what_is_put_last_stays() -> None:
    x, v = normal(5, 6), normal(9, 6, seed=1)
    index = np.random.default_rng(0).integers(0, 5, (9, 6))

    def body(b: Builder, x: Node, index: Node, v: Node) -> Node:
        return b.scatter(x, index, v, axis=0)

    plan = checked(body, x, index, v, tolerance=0)
    assert plan.reference_ops == ()
    for shape, axis in [((5, 20), 1), ((4, 3, 17), 2), ((30,), 0), ((7, 40), 0)]:
        wide = normal(*shape)
        index = np.random.default_rng(1).integers(0, shape[axis], shape)
        for values in (normal(*shape, seed=2), np.arange(wide.size).reshape(shape) % 2 == 0):
            target = wide.astype(values.dtype)
            checked(lambda b, x, i, v, axis=axis: b.scatter(x, i, v, axis=axis),
                    target, index, values, tolerance=0)  # fmt: skip


def test_the_gradient_of_what_is_put_stays_native() -> None:
    index = np.array([3, 3, 0, 7, 7, 7, 1, 2])

    def body(b: Builder, x: Node, i: Node, v: Node, g: Node) -> tuple[Node, ...]:
        y = b.scatter(x, i, v, axis=0)
        return tuple(differentiate(b, [y], [g], [x, v]))

    run = checked(body, normal(8), index, normal(8, seed=1), normal(8, seed=2), tolerance=0)
    assert run.reference_ops == ()
