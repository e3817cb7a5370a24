"""`explain` names every op that runs on the reference and says why; the statistics count it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel.frontend.tensors.recording import record
from accel.inspect.support import support
from accel.ir import Op, all_ops
from accel.runtime import state as runtime_state
from accel.testing.arrays import draw_operands

OPS = [op for op in all_ops().values() if op.form != "structure" and op.name != "constant"]
#: Ops that no kernel computes, whatever the dtype; composites are what they expand to.
ON_REFERENCE = [op for op in OPS if op.why_unsupported and op.form != "composite"]


def applied(op: Op) -> tuple[Any, list[np.ndarray]]:
    """A compiled function of the first sample, between ops with kernels, and its arrays."""
    sample = next(s for s in (op.samples() if op.samples else ()) if s.operands)
    operands = draw_operands(sample, np.random.default_rng(0))
    arrays = [np.asarray(o) for o in operands if isinstance(o, (np.ndarray, np.generic))]
    rest = [None if isinstance(o, (np.ndarray, np.generic)) else o for o in operands]

    def function(*given: Any) -> Any:
        left = iter(given)
        made = record(op.name, *[next(left) if o is None else o for o in rest], **sample.attrs)
        return accel.where(accel.isnan(made), 0, made)

    return accel.compile(function), arrays


@pytest.mark.parametrize("op", ON_REFERENCE, ids=lambda op: op.name)
def test_what_runs_on_the_reference_is_named(op: Op) -> None:
    if not all(s.by == "reference" for s in support(op, "pure")):
        pytest.skip("has kernels for some dtypes")
    function, arrays = applied(op)
    text = str(function.explain(*arrays))
    assert f"NumPy reference ({op.name}): {op.why_unsupported}" in text
    function(*arrays)
    accel.reset_stats()
    function(*arrays)
    assert accel.stats().reference_count == text.count("NumPy reference")


def test_there_are_such_ops() -> None:
    assert len(ON_REFERENCE) >= 5


def test_what_has_kernels_is_not_counted() -> None:
    function = accel.compile(lambda x: accel.softmax(x @ x, axis=-1).sum())
    x = np.ones((5, 5), np.float32)
    assert "NumPy reference" not in str(function.explain(x))
    accel.reset_stats()
    function(x)
    assert accel.stats().reference_count == 0 and accel.stats().pure_count > 0


# -- three targets in one graph ----------------------------------------------------------------
FAR = 10**9


@pytest.fixture
def products_on_torch() -> Iterator[None]:
    """auto mode in which only large products go to torch."""
    limits = {"matmul": 10_000, "conv": FAR, "elementwise": FAR, "activation": FAR,
              "reduction": FAR}  # fmt: skip
    with runtime_state.override(mode="auto", thresholds=limits):
        yield


@pytest.mark.torch
def test_native_reference_and_torch_steps_in_one_graph(products_on_torch: None) -> None:
    def work(x: Any, a: Any) -> Any:
        large = x @ x  # torch: 40,000 elements
        roots = accel.linalg.eigvalsh(a)  # the reference: LAPACK's
        return accel.tanh(large).sum(axis=0)[:4] + accel.exp(roots)

    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(200, 200)), np.diag([1.0, 2.0, 3.0, 4.0])
    function = accel.compile(work)
    explained = function.explain(x, a)
    assert {row.target for row in explained.rows} == {"pure", "torch"}
    by_ops = {name: row for row in explained.rows for name in row.ops.split(", ")}
    assert by_ops["matmul"].target == "torch" and by_ops["matmul"].kernels == "torch calls"
    assert by_ops["matmul"].threshold == "10,000" and by_ops["matmul"].size == 40_000
    assert by_ops["eigvalsh"].kernels.startswith("NumPy reference (eigvalsh): LAPACK")
    assert explained.kernel_count > 1  # of ours as well
    function(x, a)
    accel.reset_stats()
    found = function(x, a).numpy()
    counted = accel.stats()
    torch_regions = sum(row.target == "torch" for row in explained.rows)
    assert counted.torch_count == torch_regions
    assert counted.pure_count == len(explained.rows) - torch_regions
    assert counted.reference_count == 1 and counted.fallback_count == 0
    wanted = np.tanh(x @ x).sum(axis=0)[:4] + np.exp([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
