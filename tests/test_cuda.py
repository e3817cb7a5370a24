"""The torch target on a CUDA device: every op, buffers that stay there, counted transfers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import IndexOutOfRangeError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.op import Op, Sample, all_ops
from accel.ir.types import TensorType
from accel.runtime import info, state
from accel.runtime.compiler import compile_graph
from accel.runtime.transfer import to_host
from accel.targets import torch as torch_target
from accel.targets.reference import run_graph

pytestmark = pytest.mark.cuda

OPS = [op for op in all_ops().values() if op.samples is not None]
F32 = dtypes.float32


def draw(type_: TensorType, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    low = -3.0 if sample.low is None else sample.low
    high = 3.0 if sample.high is None else sample.high
    kind = type_.dtype.kind
    if kind in "biu":
        low = max(low, 0) if kind in "bu" else low
        high = min(high, 1) if kind == "b" else high
        values: Any = rng.integers(int(np.ceil(low)), int(high), type_.shape, endpoint=True)
    else:
        values = rng.uniform(low, high, type_.shape)
        if kind == "c":
            values = values + 1j * rng.uniform(low, high, type_.shape)
    return np.asarray(values).astype(type_.dtype.numpy)


def cases(op: Op) -> Iterator[tuple[Sample, Graph, list[np.ndarray]]]:
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    assert op.samples is not None
    for sample in op.samples():
        b = Builder()
        nodes, arrays = [], []
        for i, o in enumerate(sample.operands):
            if isinstance(o, TensorType):
                o = draw(o, sample, rng)
            if isinstance(o, np.ndarray):
                nodes.append(b.input(f"x{i}", TensorType(dtypes.to_dtype(o.dtype), o.shape)))
                arrays.append(o)
            else:
                nodes.append(o)
        out = b.apply(op, *nodes, **sample.attrs)
        inputs = [n for n in nodes if not isinstance(n, (int, float, complex))]
        yield sample, b.graph(inputs, [out]), arrays


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op_agrees_with_the_reference(op: Op) -> None:
    for sample, graph, arrays in cases(op):
        [expected] = run_graph(graph, arrays)
        [found] = torch_target.compile_run(graph, "cuda")(arrays)
        assert found.device.type == "cuda" and found.is_contiguous()
        found = to_host(found)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), str(sample)
        kind = dtypes.to_dtype(expected.dtype).kind
        if kind in "biu":
            np.testing.assert_array_equal(found, expected, str(sample))
            continue
        wide = np.complex128 if kind == "c" else np.float64
        f, e = found.astype(wide), expected.astype(wide)
        eps = float(accel.ir.ops.reduce.unit_roundoff(expected.dtype))
        largest = np.max(np.abs(e[np.isfinite(e)]), initial=0.0)
        largest = min(largest, 100.0)  # the special values' own scale says nothing of the others
        np.testing.assert_allclose(f, e, rtol=(op.ulp + 16) * eps, atol=16 * eps * largest + 1e-36,
                                   err_msg=str(sample))  # fmt: skip


def chain() -> tuple[Graph, list[np.ndarray]]:
    b = Builder()
    x, w = b.input("x", TensorType(F32, (256, 256))), b.input("w", TensorType(F32, (256, 256)))
    h = b.relu(b.matmul(x, w))
    graph = b.graph([x, w], [b.softmax(h, axis=1), b.sub(w, b.mul(b.matmul(x, h), 1e-3))])
    rng = np.random.default_rng(0)
    return graph, [rng.normal(size=(256, 256)).astype(np.float32) for _ in range(2)]


def test_results_stay_on_the_device_until_they_are_read() -> None:
    graph, arrays = chain()
    expected = run_graph(graph, arrays)
    with state.override(mode="torch", device="cuda"):
        executable = compile_graph(graph, state.current())
    info.reset_stats()
    first = executable(arrays)
    size = arrays[0].nbytes
    assert (info.stats().transfers, info.stats().transfer_bytes) == (2, 2 * size)
    for _ in range(5):  # what came out goes in again without crossing
        executable(first)
    assert info.stats().transfers == 2
    for found, wanted in zip(first, expected, strict=True):
        np.testing.assert_allclose(to_host(found), wanted, rtol=1e-4, atol=1e-4)
    assert (info.stats().transfers, info.stats().transfer_bytes) == (4, 4 * size)


def test_pure_regions_read_what_a_device_holds() -> None:
    graph, arrays = chain()
    expected = run_graph(graph, arrays)
    limits = {**state.DEFAULT_THRESHOLDS, "matmul": 0, "reduction": None}
    with state.override(mode="auto", device="cuda", thresholds=limits):
        found = compile_graph(graph, state.current())(arrays)
    with state.override(mode="pure"):
        again = compile_graph(graph, state.current())(found)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(to_host(a), e, rtol=1e-4, atol=1e-4)
    assert all(isinstance(a, np.ndarray) for a in again)


def test_a_full_device_falls_back_and_recovers() -> None:
    torch = torch_target.require()
    b = Builder()
    n = torch.cuda.get_device_properties(0).total_memory  # in elements: four times too many
    x = b.input("x", TensorType(F32, (1,)))
    graph = b.graph([x], [b.exp(b.broadcast_to(x, shape=(n,)))])
    program = torch_target.compile_run(graph, "cuda")
    with pytest.raises(accel.errors.TargetError, match="torch failed in exp"):
        program([np.zeros(1, np.float32)])
    torch.cuda.empty_cache()
    small, arrays = chain()
    torch_target.compile_run(small, "cuda")(arrays)


def test_wrong_indices_leave_the_device_usable() -> None:
    b = Builder()
    x, t = b.input("x", TensorType(F32, (2, 3))), b.input("t", TensorType(dtypes.int64, (2,)))
    loss = torch_target.compile_run(b.graph([x, t], [b.cross_entropy(x, t)]), "cuda")
    scores = np.zeros((2, 3), np.float32)
    with pytest.raises(IndexOutOfRangeError):
        loss([scores, np.array([0, 3])])
    assert to_host(loss([scores, np.array([0, 2])])[0]) == pytest.approx(np.log(3), rel=1e-6)


def test_calls_keep_no_memory() -> None:
    torch = torch_target.require()
    graph, arrays = chain()
    program = torch_target.compile_run(graph, "cuda")
    for _ in range(20):
        program(arrays)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(1000):
        program(arrays)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before
