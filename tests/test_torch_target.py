"""The torch target: every op against the NumPy reference, memory, devices, failures."""

from __future__ import annotations

import gc
import os
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import accel.ir.ops  # noqa: F401 - fills the registry
from accel.errors import AccelError, DeviceError, IndexOutOfRangeError, Location, TargetError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.op import Op, Sample, all_ops
from accel.ir.types import TensorType
from accel.passes.expand import expand
from accel.targets import torch as torch_target
from accel.targets.reference import run_graph
from accel.targets.torch import lookup
from accel.targets.torch.bridge import from_host, to_host
from accel.targets.torch.lowering import Context, find_kernel
from accel.targets.torch.movement import ordered_scatter
from accel.targets.torch.program import Program, flatten

pytestmark = pytest.mark.torch

#: What torch has for some dtypes only: its sign of complex infinities is NaN, and near the roots of
#: these functions it loses digits in double precision.
PARTLY = {"sign", "lgamma", "digamma", "erfinv"}
OPS = [op for op in all_ops().values() if op.samples is not None]

#: Elementary operations that IEEE 754 rounds correctly: bit for bit on every target.
ROUNDED = {"add", "sub", "mul", "div", "sqrt", "neg", "abs", "floor", "ceil", "trunc", "round",
           "maximum", "minimum", "fmax", "fmin", "sign", "relu", "copysign", "nextafter", "fmod",
           "clamp", "square", "amax", "amin"}  # fmt: skip


def draw(type_: TensorType, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    low = -3.0 if sample.low is None else sample.low
    high = 3.0 if sample.high is None else sample.high
    kind = type_.dtype.kind
    if kind == "b":
        return np.asarray(rng.random(type_.shape) < 0.5)
    if kind in "iu":
        low = max(low, 0) if kind == "u" else low
        values: Any = rng.integers(int(np.ceil(low)), int(high), type_.shape, endpoint=True)
    else:
        values = rng.uniform(low, high, type_.shape)
        if kind == "c":
            values = values + 1j * rng.uniform(low, high, type_.shape)
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(type_.dtype.numpy)


def application(op: Op | str, operands: Any, attrs: Any) -> tuple[Graph, list[np.ndarray]]:
    """The graph of one application, and its arguments; Python scalars are weak constants."""
    b = Builder()
    b.loc = Location("user.py", 7)
    nodes, arrays = [], []
    for i, operand in enumerate(operands):
        if isinstance(operand, (np.ndarray, np.generic)):
            array = np.asarray(operand)
            nodes.append(b.input(f"x{i}", TensorType(dtypes.to_dtype(array.dtype), array.shape)))
            arrays.append(array)
        else:
            nodes.append(operand)
    out = b.apply(op, *nodes, **attrs)
    return b.graph([n for n in nodes if not isinstance(n, (int, float, complex))], [out]), arrays


def cases(op: Op) -> Iterator[tuple[Sample, Graph, list[np.ndarray]]]:
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    assert op.samples is not None
    for sample in op.samples():
        operands = [draw(o, sample, rng) if isinstance(o, TensorType) else o
                    for o in sample.operands]  # fmt: skip
        yield sample, *application(op, operands, sample.attrs)


def roundoff(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def assert_agrees(found: np.ndarray, expected: np.ndarray, node: Any, arrays: Any) -> None:
    op = node.op
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    assert found.shape == expected.shape
    assert found.flags.c_contiguous and found.flags.writeable
    kind = dtypes.to_dtype(expected.dtype).kind
    real = {dtypes.to_dtype(a.dtype).kind for a in arrays} <= set("biuf")
    sums = op.name == "index_put" and node.attrs["accumulate"]
    if kind in "biu" or (op.exact and not op.ulp and op.category != "random" and not sums) or (
        op.name in ROUNDED and (real or op.name == "abs")
    ):
        wide = np.complex128 if kind == "c" else np.float64 if kind == "f" else expected.dtype
        np.testing.assert_array_equal(found.astype(wide), expected.astype(wide))
        return
    eps = roundoff(expected.dtype)
    warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # of the error bounds
    wide = np.complex128 if kind == "c" else np.float64
    with np.errstate(all="ignore"):
        magnitude = np.abs(expected.astype(wide))
        bound = (op.ulp + 2) * eps * magnitude + 2.0**-120
        if op.error is not None:
            values = [a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
                      if dtypes.to_dtype(a.dtype).kind in "fc" else a for a in arrays]  # fmt: skip
            none = [np.zeros(a.shape) for a in arrays]
            bound = bound + 2 * np.asarray(op.error(values, none, expected, node.attrs))
        if op.form == "composite" or op.category == "matmul" or kind == "c":
            largest = np.max(magnitude[np.isfinite(magnitude)], initial=1.0)
            bound = bound + 16 * eps * largest
        f, e = found.astype(wide), expected.astype(wide)
        good = (f == e) | (np.isnan(f) & np.isnan(e)) | (np.abs(f - e) <= bound)
    assert good.all(), f"{f[~good]} for {e[~good]}, bound {np.broadcast_to(bound, f.shape)[~good]}"


def reversed_view(array: np.ndarray) -> np.ndarray:
    """The same values at negative strides."""
    backwards = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[backwards])[backwards] if array.ndim else array


def column_major(array: np.ndarray) -> np.ndarray:
    return np.asfortranarray(array) if array.ndim else array


def check(graph: Graph, arrays: list[np.ndarray], what: str) -> None:
    """The program of `graph` against the reference, its arguments left alone."""
    [expected] = run_graph(graph, arrays)
    before = [a.tobytes() for a in arrays]
    [found] = torch_target.compile_run(graph)(arrays)
    try:
        assert_agrees(found, expected, graph.outputs[0], arrays)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    assert [a.tobytes() for a in arrays] == before
    assert not any(np.shares_memory(found, a) for a in arrays)


# -- every op ------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.filterwarnings("error")
def test_op_agrees_with_the_reference(op: Op) -> None:
    for sample, graph, arrays in cases(op):
        for a in arrays:
            a.setflags(write=False)
        check(graph, arrays, f"{op.name} {sample}")
        check(graph, [reversed_view(a) for a in arrays], f"{op.name} {sample} reversed")
        check(graph, [column_major(a) for a in arrays], f"{op.name} {sample} column-major")


def retyped(op: Op) -> Iterator[tuple[str, Graph, list[np.ndarray]]]:
    """The samples of `op` in every other dtype that it takes."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    assert op.samples is not None
    for dtype in dtypes.ALL:
        for sample in op.samples():
            drawn = [o for o in sample.operands if isinstance(o, TensorType)]
            if not drawn or len({t.dtype for t in drawn}) > 1:
                continue
            try:
                operands = [draw(o.with_dtype(dtype), sample, rng) if isinstance(o, TensorType)
                            else o for o in sample.operands]  # fmt: skip
                graph, arrays = application(op, operands, sample.attrs)
                run_graph(graph, arrays)
            except (AccelError, ValueError):
                continue  # not a dtype for this op, or for its values
            yield f"{op.name} {dtype} {sample}", graph, arrays


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.filterwarnings("error")
def test_op_agrees_in_every_dtype(op: Op) -> None:
    for what, graph, arrays in retyped(op):
        check(graph, arrays, what)


SPECIAL = {
    "f": [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 7.0, 1e-40, 3e38, 88.0, -89.0],
    "i": [0, 1, -1, 2, 3, 7, -7, 31, 32, 63, 64, 100, -100, -128, 127],
    "u": [0, 1, 2, 3, 7, 31, 32, 63, 64, 200, 255],
    "b": [False, True],
}


def special_values(dtype: dtypes.DType) -> np.ndarray:
    ends = []
    if dtype.kind in "iu":
        ends = [np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max]
    with np.errstate(all="ignore"):
        return np.array([np.array(v).astype(dtype.numpy) for v in [*SPECIAL[dtype.kind], *ends]])


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d.kind != "c"], ids=str)
def test_pointwise_ops_on_all_tuples_of_special_values(dtype: dtypes.DType) -> None:
    for op in OPS:
        if op.form != "pointwise" or op.name in ("cast", "check_index"):
            continue
        values = special_values(dtype)
        arity = op.arity[0]
        operands = [values.reshape((-1,) + (1,) * (arity - 1 - i)) for i in range(arity)]
        if op.name == "where":
            operands[0] = np.array([True, False]).reshape(2, 1, 1)
        if op.name in ("gelu", "addcmul", "addcdiv"):
            # torch's gelu is NaN at infinity; the references of the others are computed in
            # float64, which does not overflow on the way
            sizes = np.abs(values.astype(np.float64))
            values = values[(sizes < 1e20) & ((sizes > 1e-20) | (sizes == 0))]
            operands = [values.reshape((-1,) + (1,) * (arity - 1 - i)) for i in range(arity)]
        try:
            graph, arrays = application(op, operands, {})
        except AccelError:
            continue  # not a dtype for this op
        [expected] = run_graph(graph, arrays)
        [found] = torch_target.compile_run(graph)(arrays)
        if dtypes.to_dtype(expected.dtype).kind in "biu":
            np.testing.assert_array_equal(found, expected, op.name)
            continue
        f, e = found.astype(np.float64), expected.astype(np.float64)
        with np.errstate(all="ignore"):
            bound = (op.ulp + 3) * roundoff(expected.dtype) * np.abs(e) + 2.0**-118
            if op.error is not None:
                wide = [a.astype(np.float64) for a in arrays]
                none = [np.zeros(a.shape) for a in arrays]
                more = op.error(wide, none, expected, graph.outputs[0].attrs)
                bound = bound + np.nan_to_num(more, posinf=0.0)
            good = (f == e) | (np.isnan(f) & np.isnan(e)) | (np.abs(f - e) <= bound)
        at = tuple(np.argwhere(~good)[0]) if not good.all() else ()
        assert good.all(), f"{op.name} at {at}: {f[at]} for {e[at]}"


def test_only_the_longest_unsigned_integers_need_the_reference() -> None:
    for op in OPS:
        for what, graph, _ in retyped(op):
            program = torch_target.compile_run(graph)
            named = all(all_ops()[n].why_unsupported for n in program.reference_ops)
            if "uint" not in what and not named and op.name not in PARTLY:
                raise AssertionError(f"{what}: {program.reference_ops} run on NumPy")


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
@pytest.mark.filterwarnings("error")
def test_casts_of_what_does_not_fit(dtype: dtypes.DType) -> None:
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 3e9, -3e9, 1e19, -1e19, 2.0**63, 255.9])
    for source in (special, special.astype(np.float32), np.array([-(2**63), 2**63 - 1, 300, -1])):
        graph, arrays = application("cast", [source], {"dtype": dtype})
        check(graph, arrays, f"{source.dtype} to {dtype}")


# -- memory --------------------------------------------------------------------------------------
def outputs_of(build: Any, *arrays: np.ndarray) -> list[np.ndarray]:
    """The results on torch of the graph that ``build(b, *inputs)`` makes."""
    b = Builder()
    inputs = [b.input(f"x{i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
              for i, a in enumerate(arrays)]  # fmt: skip
    return torch_target.compile_run(b.graph(inputs, build(b, *inputs)))(list(arrays))


def test_results_share_memory_with_nothing() -> None:
    x = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    found = outputs_of(
        lambda b, x: [
            x, x, b.reshape(x, shape=(12,)), b.permute(x, axes=(1, 0)),
            b.slice(x, start=(0, 0), stop=(1, 4), step=(1, 1)), b.broadcast_to(x, shape=(2, 3, 4)),
            b.constant(x0), b.reshape(b.constant(x0), shape=(2, 1)), y := b.exp(x),
            b.reshape(y, shape=(4, 3)),
        ],
        x,
    )  # fmt: skip
    everything = [x, *found]
    for i, a in enumerate(everything):
        for other in everything[:i]:
            assert not np.shares_memory(a, other)
    for array in found:
        array += 1  # none is anybody's memory, so all may be written
    assert x[0, 1] == 1.0 and found[6].tolist() == [2.0, 3.0]
    assert outputs_of(lambda b: [b.constant(x0)])[0].tolist() == [1.0, 2.0]


x0 = np.array([1.0, 2.0], np.float32)


def test_small_results_do_not_keep_large_memory() -> None:
    x = np.zeros((1000, 1000), np.float32)
    [corner] = outputs_of(
        lambda b, x: [b.slice(b.exp(x), start=(0, 0), stop=(1, 2), step=(1, 1))], x
    )
    assert corner.tolist() == [[1.0, 1.0]]
    owner = corner.base if corner.base is not None else corner
    assert owner.nbytes == corner.nbytes


def test_arguments_cross_without_a_copy() -> None:
    torch = torch_target.require()
    bfloat16 = ml_dtypes.bfloat16
    for dtype in (np.float32, np.bool_, np.uint16, np.complex64, bfloat16):
        for array in (np.ones((2, 3), dtype), np.ones((4, 6), dtype)[::2, ::3], np.ones((), dtype)):
            array.setflags(write=False)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tensor = from_host(torch, array)
            assert tensor.data_ptr() == array.ctypes.data
            assert np.shares_memory(to_host(torch, tensor), array)


def test_odd_layouts_are_copied() -> None:
    torch = torch_target.require()
    record = np.zeros(3, np.dtype([("a", np.int8), ("b", np.float32)]))
    record["b"] = [1, 2, 3]
    for array in (np.arange(5)[::-1], record["b"], np.arange(3, dtype=">f4")):
        np.testing.assert_array_equal(to_host(torch, from_host(torch, array)), array)


def test_ten_thousand_calls_leak_nothing() -> None:
    graph, arrays = application("gelu", [np.ones((64, 64), np.float32)], {})
    program = torch_target.compile_run(graph)

    def calls(count: int) -> tuple[int, int]:
        for _ in range(count):
            program(arrays)
        gc.collect()
        with open("/proc/self/statm") as file:
            return len(gc.get_objects()), int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    calls(200)
    objects, resident = calls(200)
    more_objects, more_resident = calls(10_000)
    assert more_objects - objects < 50
    assert more_resident - resident < 16 << 20  # a leak of each result would be 160 MB


@pytest.mark.slow
def test_tensors_of_two_gigabytes() -> None:
    n = 2**31 + 8  # more bytes, and more elements, than 31 bits count
    x = np.zeros(n, np.int8)
    x[-3:] = [1, 2, 3]
    [y, most] = outputs_of(
        lambda b, x: [b.slice(b.add(x, x), start=(n - 4,), stop=(n,), step=(1,)), b.amax(x)], x
    )
    assert y.tolist() == [0, 2, 4, 6] and most == 3


def test_many_threads_share_a_program() -> None:
    graph, _ = application("softmax", [np.zeros((8, 16), np.float32)], {})
    program = torch_target.compile_run(graph)
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=(8, 16)).astype(np.float32)
        [expected] = run_graph(graph, [x])
        for _ in range(100):
            if not np.allclose(program([x])[0], expected, atol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# -- errors --------------------------------------------------------------------------------------
def test_an_index_out_of_range_is_the_users_error() -> None:
    graph, arrays = application("take", [np.zeros((3, 2), np.float32), np.array([0, 3])], {})
    with pytest.raises(IndexOutOfRangeError, match="take: index 3 is out of range") as caught:
        torch_target.compile_run(graph)(arrays)
    assert caught.value.loc == Location("user.py", 7)


@pytest.mark.parametrize("op", ["cross_entropy", "nll_loss"])
def test_a_class_out_of_range_is_the_users_error(op: str) -> None:
    graph, arrays = application(op, [np.zeros((2, 3), np.float32), np.array([0, 3])], {})
    with pytest.raises(IndexOutOfRangeError, match="index 3"):
        torch_target.compile_run(graph)(arrays)


def test_integers_divide_by_zero_and_overflow_without_a_trap() -> None:
    x = np.array([7, -(2**31), -(2**31), 0], np.int32)
    y = np.array([0, -1, 0, 0], np.int32)
    for op in ("floor_divide", "remainder", "fmod"):
        for divisor in (y, 0, -1):
            graph, arrays = application(op, [x, divisor], {})
            check(graph, arrays, op)


def test_failures_name_the_op_and_the_reason() -> None:
    n = 2**60
    graph, _ = application("broadcast_to", [np.zeros(1, np.float32)], {"shape": (n,)})
    with pytest.raises(TargetError, match="torch failed in broadcast_to") as caught:
        torch_target.compile_run(graph)([np.zeros(1, np.float32)])
    assert torch_target.is_out_of_memory(caught.value.__cause__)
    assert caught.value.loc == Location("user.py", 7)


def test_unknown_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = application("exp", [np.zeros(1, np.float32)], {})
    monkeypatch.setattr(lookup, "cuda_available", lambda: False)
    for device in ("cuda", "cuda:1", "tpu", "mps"):
        with pytest.raises(DeviceError, match=device):
            torch_target.compile_run(graph, device)


def test_the_last_of_equal_indices_stays_without_any_order() -> None:
    torch = torch_target.require()
    rng = np.random.default_rng(0)
    for axis in (0, 1):
        x = torch.tensor(rng.normal(size=(4, 5)))
        index = torch.tensor(rng.integers(0, 4, (3, 4)))
        values = torch.tensor(rng.normal(size=(3, 4)))
        expected = x.clone()
        for i in range(3):
            for j in range(4):
                place = (index[i, j], j) if axis == 0 else (i, index[i, j])
                expected[place] = values[i, j]
        assert torch.equal(ordered_scatter(torch, x, axis, index, values), expected)


def test_every_op_is_lowered_or_expands() -> None:
    context = Context(torch_target.require(), lookup.find_device(None))
    for op in OPS:
        if op.expand is None and op.category != "host":  # LAPACK's, on the CPU
            found = [graph.outputs[0] for _, graph, _ in cases(op)]
            kernels = [find_kernel(context, node) is not None for node in found]
            partly = op.why_unsupported or op.name in PARTLY
            assert (any(kernels) or op.name == "gcd") if partly else all(kernels), op.name


def test_every_op_keeps_to_its_device() -> None:
    """On torch's "meta" device, which has types and no values: what makes a tensor elsewhere
    fails, and what differs from the CPU (integer products, scatters) takes its other way."""
    torch = torch_target.require()
    context = Context(torch, torch.device("meta"))
    needs_values = {"check_index", "cross_entropy", "nll_loss", "solve_triangular"}
    for op in OPS:
        for sample, graph, arrays in cases(op):
            whole = expand(flatten(graph), lambda node: find_kernel(context, node) is not None)
            names = {n.op.name for n in whole.nodes}
            moved: list[int] = []
            program = Program(context, whole, lambda _, nbytes, moved=moved: moved.append(nbytes))
            if names & needs_values or program.reference_ops:
                known = {o.name for o in OPS if o.why_unsupported} | {"matmul"} | PARTLY
                assert set(program.reference_ops) <= known, f"{op.name} {sample}"
                continue
            [result] = program(arrays)
            type_ = graph.outputs[0].type
            assert result.device.type == "meta"
            assert (tuple(result.shape), result.dtype) == (type_.shape, context.dtype(type_.dtype))
            used = [n.type.nbytes for n in whole.inputs if whole.users[n] or n in whole.outputs]
            assert moved == used
