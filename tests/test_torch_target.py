"""The torch target: every op against the NumPy reference, memory, devices, failures."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import accel.ir.ops  # noqa: F401 - fills the registry
from accel.errors import AccelError, DeviceError, IndexOutOfRangeError, Location, TargetError, TorchNotAvailable
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.op import Op, Sample, all_ops
from accel.ir.types import TensorType
from accel.targets import torch as torch_target
from accel.targets.reference import run_graph
from accel.targets.torch import lookup
from accel.targets.torch.lowering import Context, find_kernel

pytestmark = pytest.mark.torch

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
    sums = op.name == "index_put" and node.attrs["accumulate"]
    if kind in "biu" or (op.exact and op.category != "random" and not sums) or (
        op.name in ROUNDED and {dtypes.to_dtype(a.dtype).kind for a in arrays} <= set("biuf")
    ):
        np.testing.assert_array_equal(found, expected)
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
