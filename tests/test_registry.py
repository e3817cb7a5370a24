"""The registry is complete: every op is declared in full and runs on every target."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from accel.ir import Builder, Graph, Op, TensorType, all_ops, dtypes, verify
from accel.ir.op import CATEGORIES, FORMS, Sample
from accel.passes.differentiate import gradient_graph
from accel.targets.pure.nests.lowering import ELEMENTS, unsupported_reason
from accel.targets.reference import run_graph
from accel.testing import check_graph
from accel.testing.arrays import draw_operands

STRUCTURE = {"input", "constant", "region", "output"}
OPS = sorted((op for op in all_ops().values() if op.name not in STRUCTURE), key=lambda op: op.name)


def by_name(op: Op) -> str:
    return op.name


def graph_of_samples(op: Op) -> tuple[Graph, list[np.ndarray]]:
    """All samples of an op in one graph, a compile for all of them."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    samples = list(op.samples()) if op.samples else []
    return applied(op, [(draw_operands(s, rng), s.attrs) for s in samples])


def applied(op: Op, cases: list[tuple[list[Any], Any]]) -> tuple[Graph, list[np.ndarray]]:
    b = Builder()
    inputs, arrays, outputs = [], [], []
    for values, attrs in cases:
        operands: list[Any] = []
        for value in values:
            if isinstance(value, (np.ndarray, np.generic)):
                value = np.asarray(value)
                type_ = TensorType(dtypes.to_dtype(value.dtype), value.shape)
                arrays.append(value)
                value = b.input(f"x{len(inputs)}", type_)
                inputs.append(value)
            operands.append(value)
        outputs.append(b.apply(op, *operands, **attrs))
    return b.graph(inputs, outputs), arrays


def kernels_of(graph: Graph) -> Iterator[Any]:
    from accel.runtime import state
    from accel.runtime.compiler import compile_graph

    with state.override(mode="pure") as settings:
        yield from (step.run for step in compile_graph(graph, settings).steps)


# -- declarations -------------------------------------------------------------------------
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_declared_in_full(op: Op) -> None:
    assert op.form in FORMS and op.category in CATEGORIES
    assert op.doc.strip().endswith("."), "a sentence of documentation"
    assert op.samples is not None and list(op.samples())
    assert op.ulp >= 0 and op.cost >= 0 and op.arity[0] >= 0
    if op.form == "composite":
        assert op.expand is not None
    if op.form in ("reduce", "contraction", "opaque"):
        assert op.error is not None, "bounds cannot be propagated"


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_errors_are_raised_for_error_samples(op: Op) -> None:
    """While the graph is built or, where it is the values that are wrong, when it runs."""
    rng = np.random.default_rng(3)
    for sample in op.error_samples() if op.error_samples else ():
        values = draw_operands(Sample(sample.operands, sample.attrs), rng)
        with pytest.raises(sample.error, match=sample.match or None):
            run_graph(*applied(op, [(values, sample.attrs)]))


def test_the_table_is_large_enough() -> None:
    assert len(OPS) >= 120
    assert {op.category for op in OPS} >= {
        "matmul", "elementwise", "activation", "reduction", "movement", "creation", "random",
    }  # fmt: skip


# -- op x target --------------------------------------------------------------------------
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_sample_agrees_on_the_pure_target(op: Op) -> None:
    graph, arrays = graph_of_samples(op)
    check_graph(graph, arrays, ["reference", "pure"])


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_sample_agrees_on_the_torch_target(op: Op) -> None:
    graph, arrays = graph_of_samples(op)
    check_graph(graph, arrays, ["torch"])


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_native_kernels_or_a_reason(op: Op) -> None:
    """Of dtypes that have kernels, only what says why runs without one."""
    graph, _ = graph_of_samples(op)
    native = [
        n for n in graph.outputs
        if all(v.type.dtype in ELEMENTS for v in (n, *n.inputs))
    ]  # fmt: skip
    if not native:
        assert unsupported_reason(op.name, [graph.outputs[0].type.dtype])
        return
    runs = kernels_of(Graph.of(graph.inputs, native, graph.nodes))
    interpreted = {name for run in runs for name in run.reference_ops}
    assert all(all_ops()[name].why_unsupported for name in interpreted)


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_torch_calls_an_expansion_or_the_reference(op: Op) -> None:
    import torch

    from accel.targets.torch.lowering import Context, find_kernel

    context = Context(torch, torch.device("cpu"))
    graph, _ = graph_of_samples(op)
    found = [find_kernel(context, n) is not None for n in graph.outputs]
    assert any(found) or op.expand is not None or op.why_unsupported


# -- gradients ----------------------------------------------------------------------------
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_differentiable_unless_piecewise_constant(op: Op) -> None:
    if op.gradient is not None or op.expand is not None:
        return
    whole = all(n.type.dtype.kind in "biu" for n in graph_of_samples(op)[0].outputs)
    assert whole or op.discontinuous or not op.arity[0] or op.name == "stop_gradient"


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_gradients_can_be_built_and_verified(op: Op) -> None:
    graph, _ = graph_of_samples(op)
    roots = [i for i, n in enumerate(graph.outputs) if n.type.dtype.kind == "f"]
    for root in roots[:4]:
        wrt = [i for i, n in enumerate(graph.inputs) if n.type.dtype.kind == "f"]
        verify(gradient_graph(graph, wrt, root))
