"""Placement: the minimum cut against every assignment, thresholds, and what is told of it."""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest

import accel.ir.ops  # noqa: F401 - fills the registry
from accel.errors import ArgumentError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.node import Node
from accel.ir.types import TensorType
from accel.passes.pipeline import Pipeline
from accel.passes.place import Policy, heaviest
from accel.runtime import settings, state
from accel.runtime.compiler import compile_graph

F32 = dtypes.float32
LIMITS = {"matmul": 1000, "conv": 1000, "elementwise": 2000, "activation": None,
          "reduction": 1500}  # fmt: skip


def regions_of(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op.name == "region"]


def placed(graph: Graph, policy: Policy, fuse: bool = False) -> Graph:
    return Pipeline(policy, frozenset() if fuse else frozenset({"fuse"})).run(graph).placed


def targets(graph: Graph) -> list[str]:
    return [r.attrs["target"] for r in regions_of(graph)]


# -- the cut ---------------------------------------------------------------------------------------
def random_graph(rng: np.random.Generator) -> Graph:
    """A few ops of mixed sizes and categories, sharing operands; nothing is ever run."""
    b = Builder()
    sizes = [(int(n),) for n in rng.choice([10, 900, 1500, 2000, 5000], 2)]
    inputs = [b.input(f"x{i}", TensorType(F32, s)) for i, s in enumerate(sizes)]
    values = list(inputs)
    for _ in range(int(rng.integers(3, 8))):
        x = values[int(rng.integers(len(values)))]
        kind = rng.choice(["exp", "tanh", "sum", "add", "outer"])
        if kind == "add":
            same = [v for v in values if v.type.shape == x.type.shape]
            values.append(b.add(x, same[int(rng.integers(len(same)))]))
        elif kind == "sum":
            values.append(b.broadcast_to(b.sum(x), shape=(10,)) if x.type.ndim else b.neg(x))
        elif kind == "outer":
            values.append(b.matmul(b.reshape(x, shape=(x.type.size, 1)),
                                   b.reshape(x, shape=(1, x.type.size)))
                          if x.type.size <= 10 else b.sigmoid(x))  # fmt: skip
        else:
            values.append(b.apply(str(kind), x))
    used = {i for v in values for i in v.inputs}
    return b.graph(inputs, [v for v in values if v not in used and v not in inputs] or [values[-1]])


def price(graph: Graph, on_torch: frozenset[Node], policy: Policy) -> float:
    """What an assignment costs: a small region's time lost on torch, and each crossing once."""
    total = 0.0
    for region in regions_of(graph):
        weight = heaviest(region.attrs["body"])
        limit = policy.thresholds.get(weight.category)
        if limit is not None and weight.size >= limit:
            if region not in on_torch:
                return math.inf
        elif region in on_torch:
            total += 1 + (0 if limit is None else weight.ops * policy.overhead_ns)
    for node in graph.nodes:
        if node.op.name not in ("input", "output"):
            continue
        if node.op.name == "input" and not policy.byte_ns:
            continue  # the CPU's torch reads arguments where they are
        home = node.op.name == "output" and node.inputs[0] in on_torch
        readers = [u for u in graph.users[node] if u.op.name == "region"]
        if any((r in on_torch) != home for r in readers):
            total += policy.transfer_ns + int(policy.byte_ns * node.type.nbytes)
    return total


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_is_the_cheapest_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy = Policy(None, "", LIMITS, overhead_ns=int(rng.choice([300, 3000])),
                    transfer_ns=int(rng.choice([500, 2000, 20_000])),
                    byte_ns=float(rng.choice([0.0, 0.1])))  # fmt: skip
    graph = placed(random_graph(rng), policy)
    regions = regions_of(graph)
    assert len(regions) <= 14
    chosen = frozenset(r for r in regions if r.attrs["target"] == "torch")
    best = min(
        price(graph, frozenset(itertools.compress(regions, picks)), policy)
        for picks in itertools.product((0, 1), repeat=len(regions))
    )
    assert price(graph, chosen, policy) == best < math.inf


def chain(*sizes: int) -> Graph:
    """tanh and exp over vectors that grow and shrink by slicing and tiling."""
    b = Builder()
    x = value = b.input("x", TensorType(F32, (sizes[0],)))
    for size in sizes:
        n = value.type.shape[0]
        if size < n:
            value = b.slice(value, start=(0,), stop=(size,), step=(1,))
        elif size > n:
            value = b.pad(value, low=(0,), high=(size - n,))
        value = b.exp(value)
    return b.graph([x], [value])


def test_a_small_op_between_two_large_ones_stays_beside_them() -> None:
    big, small = 5000, 1000
    b = Builder()
    x = b.input("x", TensorType(F32, (big,)))
    between = b.exp(b.slice(b.exp(x), start=(0,), stop=(small,), step=(1,)))
    y = b.exp(b.pad(between, low=(0,), high=(big - small,)))
    graph = b.graph([x], [y])
    near = Policy(None, "", LIMITS, overhead_ns=100, transfer_ns=50_000)
    far = Policy(None, "", LIMITS, overhead_ns=50_000, transfer_ns=100)
    by_size = {r.attrs["body"].outputs[0].type.size: r for r in regions_of(placed(graph, near))}
    assert by_size[small].attrs["target"] == "torch"
    assert "neighbours are on torch" in by_size[small].attrs["reason"]
    assert "pure" in targets(placed(graph, far)) and "torch" in targets(placed(graph, far))


def test_a_single_target_imports_no_networkx(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "networkx", None)
    assert set(targets(placed(chain(10, 20), Policy("pure")))) == {"pure"}
    assert set(targets(placed(chain(10, 20), Policy(None, "", LIMITS)))) == {"pure"}


# -- thresholds ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "target", "reason"), [
    (1999, "pure", "1,999 < 2,000"), (2000, "torch", "2,000 >= 2,000"),
    (2001, "torch", "2,001 >= 2,000"),
])  # fmt: skip
def test_a_threshold_holds_at_its_own_value(size: int, target: str, reason: str) -> None:
    [region] = regions_of(placed(chain(size), Policy(None, "", LIMITS)))
    assert (region.attrs["target"], region.attrs["reason"]) == (target, reason)


def test_never_means_no_pull_of_its_own() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (10**7,)))
    [region] = regions_of(placed(b.graph([x], [b.tanh(x)]), Policy(None, "", LIMITS)))
    assert region.attrs["target"] == "pure" and region.attrs["reason"] == "activation never"
    # ... so it goes along with a neighbour that is on torch for any price
    both = placed(b.graph([x], [b.exp(b.tanh(x))]), Policy(None, "", LIMITS))
    assert targets(both) == ["torch", "torch"]


def test_a_region_goes_by_its_heaviest_op() -> None:
    b = Builder()
    x, y = (b.input(n, TensorType(F32, (40, 40))) for n in "xy")
    weight = heaviest(b.graph([x, y], [b.relu(b.matmul(x, y))]))
    assert (weight.op, weight.category, weight.size, weight.ops) == ("matmul", "matmul", 1600, 2)
    moved = b.graph([x], [b.permute(x, axes=(1, 0))])
    [region] = regions_of(placed(moved, Policy(None, "", {**LIMITS, "elementwise": 0})))
    assert region.attrs["reason"] == "movement only"


def test_the_largest_operand_counts() -> None:
    b = Builder()
    x, y = b.input("x", TensorType(F32, (2, 3000))), b.input("y", TensorType(F32, (3000, 2)))
    assert heaviest(b.graph([x, y], [b.matmul(x, y)])).size == 6000
    assert heaviest(b.graph([x], [b.sum(x)])).size == 6000


def test_settings_of_thresholds() -> None:
    with state.override():  # whatever is set in here ends with it
        before = dict(settings.thresholds())
        process = state._process[0]
        try:
            assert before == dict(state.DEFAULT_THRESHOLDS)
            settings.set_threshold("matmul", 7)
            settings.set_threshold("conv", "never")
            assert settings.get_threshold("matmul") == 7
            assert settings.get_threshold("conv") is None
            settings.use_preset("gpu")
            assert settings.get_threshold("activation") == 10_000_000
            settings.use_preset("default")
            assert dict(settings.thresholds()) == before
            for kind, value in (("gemm", 3), ("matmul", -1), ("matmul", "often"), ("matmul", True)):
                with pytest.raises(ArgumentError):
                    settings.set_threshold(kind, value)
            with pytest.raises(ArgumentError, match="low_end_cpu"):
                settings.use_preset("huge")
        finally:
            state._process[0] = process


# -- the decision log ------------------------------------------------------------------------------
def test_decisions_are_logged_once_for_each_compile(caplog: pytest.LogCaptureFixture) -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (30, 20)))
    y = b.input("y", TensorType(F32, (20, 10)))
    graph = b.graph([x, y], [b.matmul(x, y)])
    arrays = [np.ones((30, 20), np.float32), np.ones((20, 10), np.float32)]
    with caplog.at_level(logging.INFO, "accel"), state.override(mode="pure", verify=True):
        executable = compile_graph(graph, state.current())
        for _ in range(3):
            executable(arrays)
            assert compile_graph(graph, state.current()) is executable
    assert [r.getMessage() for r in caplog.records] == ["[accel] matmul 30x20 -> pure (mode pure)"]


@pytest.mark.torch
def test_auto_mode_splits_a_graph_and_agrees_with_pure(caplog: pytest.LogCaptureFixture) -> None:
    b = Builder()
    x, w = b.input("x", TensorType(F32, (64, 64))), b.input("w", TensorType(F32, (64, 64)))
    h = b.softmax(b.relu(b.matmul(x, w)), axis=1)
    y = b.sum(b.mul(b.matmul(h, w), h), axis=0)
    graph = b.graph([x, w], [y, h])
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(64, 64)).astype(np.float32) for _ in range(2)]
    limits = {**state.DEFAULT_THRESHOLDS, "matmul": 4096}
    results = {}
    with caplog.at_level(logging.INFO, "accel"):
        for mode in ("reference", "pure", "torch", "auto"):
            with state.override(mode=mode, thresholds=limits):
                executable = compile_graph(graph, state.current())
                results[mode] = executable(arrays)
    assert {r.attrs["target"] for r in executable.regions} == {"pure", "torch"}
    assert "[accel] matmul 64x64 -> torch (4,096 >= 4,096)" in caplog.text
    for mode in ("pure", "torch", "auto"):
        for found, expected in zip(results[mode], results["reference"], strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
