"""The passes, one by one: what they must do, and that they never change a result."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel.ir import Builder, Graph, Node, TensorType, dtypes, parse, verify
from accel.passes.differentiate import gradient_graph
from accel.passes.expand import expand
from accel.passes.fold import fold
from accel.passes.fuse import LARGEST_REGION, fuse
from accel.passes.pipeline import OPTIONAL, PASSES, Pipeline
from accel.passes.place import Policy
from accel.passes.simplify import simplify
from accel.targets.reference import run_graph

F32, F64 = dtypes.float32, dtypes.float64
POLICY = Policy("pure", "test")


def graph_of(text: str) -> Graph:
    return parse(text)


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name not in ("input", "constant")]


# -- random graphs ------------------------------------------------------------------------
@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Graphs that mix chains, branches, reductions, movement and products over 4x4 values."""
    b = Builder()
    inputs = [b.input(f"x{i}", TensorType(F32, (4, 4))) for i in range(draw(st.integers(1, 3)))]
    values: list[Node] = list(inputs)
    for _ in range(draw(st.integers(1, 25))):
        x = draw(st.sampled_from(values))
        y = draw(st.sampled_from(values))
        kind = draw(st.integers(0, 7))
        if kind <= 2:
            values.append(b.apply(["add", "mul", "sub"][kind], x, y))
        elif kind == 3:
            values.append(b.tanh(x))
        elif kind == 4 and x.type.ndim:
            axis = draw(st.integers(0, x.type.ndim - 1))
            values.append(b.sum(x, axis=axis, keepdims=draw(st.booleans())))
        elif kind == 5 and x.type.ndim == 2:
            values.append(b.permute(x, axes=(1, 0)))
        elif kind == 6 and x.type.shape == (4, 4) == y.type.shape:
            values.append(b.matmul(x, y))
        else:
            values.append(b.mul(x, draw(st.sampled_from([1.0, -1.0, 0.0, 2.0, -0.0]))))
    count = draw(st.integers(1, 3))
    return b.graph(inputs, [draw(st.sampled_from(values)) for _ in range(count)])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and bool(
            np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))
        )
    )


@given(random_graphs(), st.sets(st.sampled_from(OPTIONAL)), st.integers(0, 99))
def test_no_pass_changes_a_bit(graph: Graph, disabled: set[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((4, 4)).astype(np.float32) for _ in graph.inputs]
    expected = run_graph(graph, arrays)
    stages = Pipeline(POLICY, frozenset(disabled), check=True).run(graph)
    for stage in ("optimized", "fused", "placed"):
        found = run_graph(stages[stage], arrays)
        assert all(map(same_bits, found, expected)), str(stages[stage])
        assert parse(str(stages[stage])) == stages[stage]


@given(random_graphs())
def test_regions_are_convex(graph: Graph) -> None:
    """Oracle: contracted to its regions, the graph has no cycle; each node is in one region."""
    fused = fuse(graph)
    drawn = fused.to_networkx()
    assert networkx.is_directed_acyclic_graph(drawn)
    stored = [
        n for r in fused.nodes if r.op.name == "region"
        for n in r.attrs["body"].nodes if n.op.form in ("reduce", "contraction")
    ]  # fmt: skip
    heavy = [n for n in graph.nodes if n.op.form in ("reduce", "contraction")]
    assert len(stored) == len(heavy)  # what is costly is computed once


# -- fusion -------------------------------------------------------------------------------
def test_an_elementwise_chain_is_one_region() -> None:
    b = Builder()
    x, a, c, d = (b.input(n, TensorType(F32, (64, 100))) for n in "xacd")
    shift = b.input("b", TensorType(F32, (100,)))
    left = b.gelu(b.add(b.mul(x, a), shift))
    fused = fuse(b.graph([x, a, c, d, shift], [b.add(b.mul(left, b.sigmoid(c)), d)]))
    assert fused.count("region") == 1


def test_a_product_takes_its_bias_and_activation() -> None:
    b = Builder()
    x, w, bias = (b.input(n, TensorType(F32, s)) for n, s in (
        ("x", (8, 16)), ("w", (4, 16)), ("b", (4,))))  # fmt: skip
    hidden = b.relu(b.add(b.matmul(x, b.permute(w, axes=(1, 0))), bias))
    fused = fuse(b.graph([x, w, bias], [hidden]))
    assert fused.count("region") == 1 and fused.count("permute") == 1


def test_two_products_are_two_regions() -> None:
    b = Builder()
    x, w = (b.input(n, TensorType(F32, (8, 8))) for n in "xw")
    fused = fuse(b.graph([x, w], [b.matmul(b.relu(b.matmul(x, w)), w)]))
    assert fused.count("region") == 2


def test_shared_scalars_do_not_glue_unrelated_work_together() -> None:
    b = Builder()
    step = b.input("step", TensorType(F32, ()))
    weights = [b.input(f"w{i}", TensorType(F32, (i + 2, 3))) for i in range(4)]
    scale = b.sqrt(b.add(step, 1.0))
    fused = fuse(b.graph([step, *weights], [b.mul(w, scale) for w in weights]))
    assert fused.count("region") == 5


def test_long_chains_become_equal_regions() -> None:
    b = Builder()
    x = y = b.input("x", TensorType(F32, (4,)))
    for _ in range(3 * LARGEST_REGION):
        y = b.sin(y)
    fused = fuse(b.graph([x], [y]))
    bodies = {n.attrs["body"] for n in fused.nodes if n.op.name == "region"}
    assert fused.count("region") == 3 and len(bodies) == 1


def test_movement_costs_no_region_of_its_own() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (4, 6)))
    moved = b.reshape(b.permute(x, axes=(1, 0)), shape=(3, 8))
    fused = fuse(b.graph([x], [b.exp(moved), b.sum(moved, axis=0)]))
    assert all(
        "exp" in ops_of(n.attrs["body"]) or "sum" in ops_of(n.attrs["body"])
        for n in fused.nodes if n.op.name == "region"
    )  # fmt: skip


# -- simplification and folding -------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda b, x: b.mul(x, 1.0), []),
        (lambda b, x: b.sub(x, 0.0), []),
        (lambda b, x: b.add(x, -0.0), []),
        (lambda b, x: b.add(x, 0.0), ["add"]),  # -0.0 + 0.0 is 0.0
        (lambda b, x: b.sub(x, -0.0), ["sub"]),
        (lambda b, x: b.mul(x, 0.0), ["mul"]),  # NaN and infinity
        (lambda b, x: b.sub(x, x), ["sub"]),
        (lambda b, x: b.neg(b.neg(x)), []),
        (lambda b, x: b.div(x, 4.0), ["mul"]),
        (lambda b, x: b.div(x, 3.0), ["div"]),
        (lambda b, x: b.pow(x, 2.0), ["square"]),
        (lambda b, x: b.permute(b.permute(x, axes=(1, 0)), axes=(1, 0)), []),
        (lambda b, x: b.reshape(b.reshape(x, shape=(12,)), shape=(4, 3)), ["reshape"]),
        (lambda b, x: b.cast(b.cast(x, F64), F32), []),
        (lambda b, x: b.cast(b.cast(x, dtypes.int32), F32), ["cast", "cast"]),
        (lambda b, x: b.add(b.broadcast_to(b.sum(x, axis=0), shape=(3, 4)), x), ["sum", "add"]),
        (lambda b, x: b.stop_gradient(b.relu(b.relu(x))), ["relu"]),
        (lambda b, x: b.where(b.constant(True), x, b.exp(x)), []),
    ],
)
def test_exact_simplifications(build: object, left: list[str]) -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3, 4)))
    graph = b.graph([x], [build(b, x)])  # type: ignore[operator]
    simple = simplify(graph)
    verify(simple)
    assert ops_of(simple) == left
    lattice = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -3.5, 2.0, 1e38, -1, 7, 0.1])
    array = lattice.astype(np.float32).reshape(3, 4)
    assert same_bits(run_graph(simple, [array])[0], run_graph(graph, [array])[0])


def test_passes_that_find_nothing_to_do_give_the_graph_itself() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (4, 4)))
    graph = b.graph([x], [b.tanh(b.add(b.sum(x, axis=1, keepdims=True), x))])
    assert simplify(graph) is graph and fold(graph) is graph and expand(graph) is graph
    b = Builder()
    x = b.input("x", TensorType(F32, (4, 4)))
    again = simplify(b.graph([x], [b.tanh(b.sub(b.exp(b.tanh(x)), 0.0))]))  # the last but one
    assert ops_of(again) == ["tanh", "exp", "tanh"]
    assert again.nodes[2].inputs == (again.nodes[1],) and simplify(again) is again


def test_constants_fold_to_one() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3,)))
    two = b.constant(2.0, F32)
    graph = fold(b.graph([x], [b.mul(x, b.exp(b.add(two, 1.0)))]))
    assert ops_of(graph) == ["mul"]


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "any", "all", "count_nonzero"])
def test_what_is_made_of_no_elements_walks_none(name: str) -> None:
    """2**40 rows without an element would keep a loop busy for minutes."""
    function = accel.compile(getattr(accel, name), mode="pure")
    many = function(np.empty((2**40, 0), np.float32)).numpy()
    few = getattr(accel, name)(np.empty((2, 0), np.float32)).numpy()
    assert many.dtype == few.dtype
    np.testing.assert_array_equal(many, few)


def test_folding_leaves_errors_to_run_time() -> None:
    b = Builder()
    wrong = b.check_index(b.constant(9, dtypes.int64), size=3)
    assert ops_of(fold(b.graph([], [wrong]))) == ["check_index"]


def test_expansion_leaves_only_primitives() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3, 4)))
    graph = b.graph([x], [b.softmax(x, axis=1), b.layer_norm(x, normalized_ndim=1, eps=1e-5)])
    primitive = expand(graph)
    verify(primitive)
    assert all(n.op.expand is None for n in primitive.nodes)
    assert expand(graph, keep=lambda n: n.op.name == "softmax").count("softmax") == 1


# -- differentiation ----------------------------------------------------------------------
def test_gradients_of_shared_and_broadcast_values() -> None:
    b = Builder()
    x = b.input("x", TensorType(F64, (3, 4)))
    a = b.input("a", TensorType(F64, (4,)))
    y = b.mul(b.add(x, a), b.add(x, a))
    graph = gradient_graph(b.graph([x, a], [y]), (0, 1))
    rng = np.random.default_rng(0)
    xs, ks = rng.standard_normal((3, 4)), rng.standard_normal(4)
    gx, ga = run_graph(graph, [xs, ks])
    np.testing.assert_allclose(gx, 2 * (xs + ks))
    np.testing.assert_allclose(ga, (2 * (xs + ks)).sum(0))


def test_second_derivatives() -> None:
    b = Builder()
    x = b.input("x", TensorType(F64, (5,)))
    twice = gradient_graph(gradient_graph(b.graph([x], [b.sin(b.square(x))])))
    values = np.linspace(-1, 1, 5)
    expected = 2 * np.cos(values**2) - 4 * values**2 * np.sin(values**2)
    np.testing.assert_allclose(run_graph(twice, [values])[0], expected, rtol=1e-12)


def test_no_path_gives_zeros() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (2,)))
    y = b.input("y", TensorType(F32, (3,)))
    graph = gradient_graph(b.graph([x, y], [b.floor(x)]), (0, 1))
    found = run_graph(graph, [np.ones(2, np.float32), np.ones(3, np.float32)])
    assert [f.tolist() for f in found] == [[0, 0], [0, 0, 0]]


# -- the pipeline -------------------------------------------------------------------------
def test_the_pipeline_is_one_list() -> None:
    assert [name for name, _, _ in PASSES] == [
        "fold", "simplify", "fold_again", "dead_code", "fuse", "place"
    ]  # fmt: skip


def test_passes_are_timed_and_observed() -> None:
    seen: list[str] = []
    graph = graph_of("graph(%x: f32[3]) { %0 = exp(%x) : f32[3] return %0 }")
    stages = Pipeline(POLICY, observe=lambda name, g: seen.append(name)).run(graph)
    assert seen == [name for name, _, _ in PASSES] == list(stages.seconds)


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.errors import VerificationError
    from accel.passes import pipeline

    def broken(graph: Graph) -> Graph:
        last = graph.nodes[-1]
        wrong = last._replace(type=TensorType(F64, last.type.shape))
        return Graph(graph.inputs, [wrong], [*graph.nodes[:-1], wrong])

    passes = tuple((n, broken if n == "simplify" else f, s) for n, f, s in PASSES)
    monkeypatch.setattr(pipeline, "PASSES", passes)
    graph = graph_of("graph(%x: f32[3]) { %0 = exp(%x) : f32[3] return %0 }")
    with pytest.raises(VerificationError, match="optimized, exp"):
        Pipeline(POLICY, check=True).run(graph)
