"""The targets agree: on random graphs, with passes switched off, on users' functions; and the
gradients of random graphs are those of finite differences and of torch."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import accel
from accel.errors import ArgumentError
from accel.ir import Builder, DType, Graph, Op, TensorType, dtypes, parse
from accel.ir.evaluate import evaluate
from accel.passes.differentiate import gradient_graph
from accel.passes.pipeline import OPTIONAL
from accel.targets.reference import run_graph
from accel.testing import (
    Case,
    Disagreement,
    Expected,
    arrays,
    assert_targets_agree,
    cases,
    check_graph,
    compare,
    expected,
    generate,
    graphs,
)  # fmt: skip
from accel.testing.differences import gradient_error
from accel.testing.generate import draw_case, draw_graph

F32, F64 = dtypes.float32, dtypes.float64
PURE = ("reference", "pure")


def graph_of(text: str) -> Graph:
    return parse(text)


def case_of(number: int, seed: int = 20) -> Case:
    return draw_case(np.random.default_rng([seed, number]))


# -- random graphs ------------------------------------------------------------------------
@settings(max_examples=40)
@given(cases())
def test_targets_agree_on_random_graphs(case: Case) -> None:
    check_graph(case.graph, case.arrays, PURE, case.disabled, case.threads, case.lazily)


@pytest.mark.torch
@settings(max_examples=40)
@given(cases())
def test_torch_agrees_on_random_graphs(case: Case) -> None:
    check_graph(case.graph, case.arrays, ["torch", "auto"], case.disabled, lazily=case.lazily)


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("disabled", OPTIONAL)
def test_no_pass_is_needed_for_right_results(disabled: str, number: int) -> None:
    case = case_of(number)
    check_graph(case.graph, case.arrays, ["pure"], [disabled])


def test_all_passes_off_at_once() -> None:
    for number in range(12, 24):
        case = case_of(number)
        check_graph(case.graph, case.arrays, ["pure"], OPTIONAL)


def test_few_elements_are_excluded() -> None:
    found = [e for i in range(300) for c in [case_of(i)] for e in expected(c.graph, c.arrays)]
    elements = sum(e.value.size for e in found)
    assert elements > 50_000
    assert sum(e.excluded for e in found) < 0.2 * elements


#: What cannot be drawn, and why.
NOT_DRAWN = {"region": "made by fusion alone", "output": "made by fusion alone"}


def test_every_op_is_drawn() -> None:
    drawn = Counter(n.op.name for i in range(2000) for n in case_of(i).graph.nodes)
    missing = [name for name in accel.ir.all_ops() if not drawn[name]]
    assert sorted(missing) == sorted(NOT_DRAWN)


def test_every_dtype_and_kind_of_shape_is_drawn() -> None:
    found = [case_of(i) for i in range(400)]
    nodes = [n for case in found for n in case.graph.nodes]
    assert {n.type.dtype for n in nodes} == set(dtypes.ALL)
    shapes = {n.type.shape for n in nodes}
    assert () in shapes and (0,) in shapes and (1,) in shapes
    assert max(n.type.size for n in nodes) > 50_000 and max(map(len, shapes)) >= 4
    flags = [a.flags for case in found for a in case.arrays]
    assert any(not f.c_contiguous for f in flags) and any(not f.aligned for f in flags)
    assert {case.threads for case in found} == {1, 2, 3}
    assert {case.lazily for case in found} == {True, False}


def test_gradients_of_both_orders_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """And most are of what depends on the inputs: other gradients are zeros."""
    orders, computed = Counter(), 0
    plain = generate._gradient

    def counted(graph: Graph, choose: Any) -> Graph:
        nonlocal computed
        found = plain(graph, choose)
        computed += any(n.op.name not in ("constant", "broadcast_to") for n in found.outputs)
        return found

    monkeypatch.setattr(generate, "_gradient", counted)
    for number in range(400):
        before = computed
        case_of(number)
        orders[computed - before] += 1
    assert orders[1] > 30 and orders[2] > 5


@given(graphs(4), arrays("int8", shape=(3, 1)), arrays(special=False))
def test_strategies_give_what_they_say(graph: Graph, narrow: np.ndarray, any_: np.ndarray) -> None:
    assert graph.outputs and len(graph.inputs) > 0
    assert narrow.dtype == np.int8 and narrow.shape == (3, 1)
    assert any_.ndim <= 3
    if any_.dtype.kind == "f":
        assert np.isfinite(any_.astype(np.float64)).all()


# -- bounds -------------------------------------------------------------------------------
def bounds_of(text: str, *values: Any) -> Expected:
    [found] = expected(graph_of(text), [np.asarray(v) for v in values])
    return found


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_correctly_rounded_ops_have_no_slack() -> None:
    text = """graph(%x: f32[2]) {
      %0 = mul(%x, %x) : f32[2]
      %1 = sqrt(%0) : f32[2]
      %2 = floor(%1) : f32[2]
      return %2 }"""
    assert not bounds_of(text, f32(1.5, -7.3)).bound.any()


def test_errors_grow_with_the_slope() -> None:
    text = """graph(%x: f32[2]) {
      %0 = exp(%x) : f32[2]
      %1 = mul(%0, %0) : f32[2]
      return %0, %1 }"""
    first, second = expected(graph_of(text), [f32(0.0, 3.0)])
    assert (first.bound > 0).all() and first.bound[1] > first.bound[0]
    np.testing.assert_array_less(2 * first.value * first.bound, second.bound)
    np.testing.assert_array_less(second.bound, 4 * first.value * first.bound)


def test_what_lies_at_a_discontinuity_is_excluded() -> None:
    text = """graph(%x: f64[3]) {
      %0 = exp(%x) : f64[3]
      %1 = log(%0) : f64[3]
      %2 = gt(%1, %x) : bool[3]
      %3 = cast(%2, dtype=f64, weak=false) : f64[3]
      %4 = floor(%0) : f64[3]
      return %2, %3, %4 }"""
    compared, carried, floored = expected(graph_of(text), [np.array([0.5, 1.25, 0.0])])
    assert compared.excluded == carried.excluded == 3
    assert floored.bound.tolist() == [0.0, 0.0, 1.0] or floored.bound[2] >= 1.0


def test_infinities_and_nan_are_held_to() -> None:
    text = """graph(%x: f32[4]) {
      %0 = sum(%x, axis=(0,), keepdims=false, dtype=f32) : f32[]
      return %0 }"""
    wanted = bounds_of(text, f32(1.0, np.inf, 2.0, 3.0))
    assert wanted.excluded == 0
    assert compare(np.array(np.inf, np.float32), wanted) is None
    assert compare(np.array(np.nan, np.float32), wanted) is not None
    assert compare(np.array(1e38, np.float32), wanted) is not None


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(f32(1.0), f32(1.0000001)), (f32(0.0), f32(-0.0)), (f32(np.nan), f32(1.0)),
     (f32(np.inf), f32(-np.inf)), (np.array([1.0]), f32(1.0)), (f32(1.0, 1.0), f32(1.0))],
)  # fmt: skip
def test_differences_are_seen(found: np.ndarray, wanted: np.ndarray) -> None:
    assert compare(found, Expected(wanted, np.zeros(wanted.shape))) is not None


def test_the_worst_element_is_named() -> None:
    wanted = Expected(f32(1, 2, 3), np.array([0.1, 0.1, np.inf]))
    mismatch = compare(f32(1.05, 7, 99), wanted)
    assert mismatch is not None and mismatch.place == (1,) and mismatch.count == 1
    assert "element [1]" in str(mismatch) and "7.0" in str(mismatch)


# -- users' functions ---------------------------------------------------------------------
def softmax_by_numpy(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return np.where(x > 100, x, e / np.sum(e, axis=-1, keepdims=True))


def in_place(batch: dict[str, Any], scale: float) -> tuple[Any, Any]:
    x = batch["x"]
    x += scale
    return x * 2, (x.sum(), {"mean": x.mean()})


X = np.linspace(-3, 3, 35, dtype=np.float32).reshape(5, 7)
FUNCTIONS = [
    partial(assert_targets_agree, softmax_by_numpy, X),
    partial(assert_targets_agree, in_place, {"x": X}, 0.5),
    partial(assert_targets_agree, lambda a, b: accel.gelu(a @ b.T), X[:, ::-1], X[::2]),
    partial(assert_targets_agree, accel.compile(lambda x: accel.tanh(x) + 1), X.T),
]


@pytest.mark.parametrize("check", FUNCTIONS)
def test_functions_agree_in_one_line(check: Any) -> None:
    before = X.copy()
    report = check(targets=PURE)
    assert report.targets == PURE and report.elements >= 15 and report.excluded == 0
    assert "agree on" in str(report)
    np.testing.assert_array_equal(X, before)


@pytest.mark.torch
@pytest.mark.parametrize("check", FUNCTIONS)
def test_functions_agree_on_torch(check: Any) -> None:
    assert "torch" in check().targets


def test_functions_that_differ_are_reported() -> None:
    calls = []

    def unstable(x: Any) -> Any:
        calls.append(None)
        return x * float(len(calls))

    with pytest.raises(AssertionError, match=r"out of bounds[\s\S]*mul"):
        assert_targets_agree(unstable, X, targets=["pure"])


def test_misuse_is_explained() -> None:
    with pytest.raises(ArgumentError, match="no target 'cuda'"):
        assert_targets_agree(softmax_by_numpy, X, targets=["cuda"])
    with pytest.raises(ArgumentError, match="returns no Tensor"):
        assert_targets_agree(lambda x: 3, X)


# -- errors -------------------------------------------------------------------------------
def test_errors_must_agree_too() -> None:
    graph = graph_of(
        "graph(%x: f32[3], %i: i64[2]) { %0 = take(%x, %i, axis=0) : f32[2] return %0 }"
    )
    report = check_graph(graph, [f32(1, 2, 3), np.array([0, 7])], PURE)
    assert report.elements == 0


# -- other ways to run ---------------------------------------------------------------------
def test_changed_arguments_and_wrong_counts_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.testing import agreement

    graph = graph_of("graph(%x: f32[2]) { %0 = exp(%x) : f32[2] return %0 }")

    def spoiling(graph: Graph, state: Any) -> Any:
        def call(buffers: list[np.ndarray]) -> list[np.ndarray]:
            out = np.exp(buffers[0])
            buffers[0][...] = 0
            return [out]

        return call

    monkeypatch.setattr(agreement, "compile_graph", spoiling)
    with pytest.raises(Disagreement, match="argument 0 was changed"):
        check_graph(graph, [f32(1, 2)], ["pure"])
    monkeypatch.setattr(agreement, "compile_graph", lambda graph, state: lambda buffers: [])
    with pytest.raises(Disagreement, match="0 results for 1 outputs"):
        check_graph(graph, [f32(1, 2)], ["pure"])


def test_other_ways_to_run_a_graph_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """On more threads bit for bit, recorded op by op within the bounds."""
    from accel.testing import agreement

    graph = graph_of("graph(%x: f32[2]) { %0 = exp(%x) : f32[2] return %0 }")
    assert check_graph(graph, [f32(1, 2)], ["pure"], threads=3, lazily=True).elements == 2
    last_bits = iter((0, 1))

    def compiled(graph: Graph, arrays: Any, settings: Any) -> list[np.ndarray]:
        return [(np.exp(arrays[0]).view(np.int32) + next(last_bits)).view(np.float32)]

    monkeypatch.setattr(agreement, "_compiled", compiled)
    with pytest.raises(Disagreement, match="other bits on 2 threads"):
        check_graph(graph, [f32(1, 2)], ["pure"], threads=2)
    monkeypatch.undo()
    monkeypatch.setattr(agreement, "_recorded_again", lambda *rest: [f32(1, 2)])
    with pytest.raises(Disagreement, match=r"pure \(lazily\): output 0"):
        check_graph(graph, [f32(1, 2)], ["pure"], lazily=True)


# -- gradients ----------------------------------------------------------------------------
def is_smooth(op: Op) -> bool:
    """Differentiable ops whose values stay of a size that differences can resolve."""
    wild = ("prod", "cumprod", "pow", "exp2", "exp", "expm1", "sinh", "cosh", "tan", "div",
            "reciprocal", "clamp")  # fmt: skip
    has = op.gradient is not None or (op.expand is not None and op.form == "pointwise")
    return has and not op.discontinuous and op.name not in wild


def smooth_case(
    number: int, only: Any = is_smooth, dtype: DType = F64
) -> tuple[Graph, list[np.ndarray]]:
    rng = np.random.default_rng([7, number])
    graph = draw_graph(lambda n: int(rng.integers(n)), 6, only, dtype)
    out = [n for n in graph.outputs if n.type.dtype in (F64, dtype)]
    if not out:
        return smooth_case(number + 1000, only, dtype)
    graph = Graph.of(graph.inputs, out[:1], graph.nodes)

    def drawn(t: TensorType) -> np.ndarray:
        if not t.dtype.is_inexact:
            return rng.integers(0, 2, t.shape).astype(t.dtype.numpy)
        values = rng.uniform(0.2, 1.5, t.shape)
        if t.dtype.kind == "c":
            values = values + 1j * rng.uniform(-1.0, 1.0, t.shape)
        return np.asarray(values).astype(t.dtype.numpy)

    return graph, [drawn(n.type) for n in graph.inputs]


def test_gradients_of_random_graphs_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for number in range(150):
        graph, data = smooth_case(number)
        error = gradient_error(graph, data, rng)
        if error is not None:
            assert error < 1e-5, graph
            errors.append(error)
    assert len(errors) > 90


def test_gradients_of_complex_graphs_are_those_of_differences() -> None:
    """Conjugates and norms: what real numbers cannot tell apart."""
    rng = np.random.default_rng(0)
    errors, ops = [], set()
    for number in range(250):
        graph, data = smooth_case(number, is_smooth, dtypes.complex128)
        error = gradient_error(graph, data, rng)
        if error is not None:
            assert error < 1e-5, graph
            errors.append(error)
            ops |= {n.op.name for n in graph.nodes}
    assert len(errors) > 125
    assert ops >= {"mul", "matmul", "conj", "real", "abs"}


def test_native_gradients_are_those_of_the_reference() -> None:
    for number in range(25):
        graph, data = smooth_case(number)
        places = [i for i, d in enumerate(data) if d.dtype == np.float64]
        check_graph(gradient_graph(graph, places), data, ["pure"])


TORCH_NAMES = frozenset(
    "add sub mul sin cos tanh sigmoid erf log1p atan asinh square logaddexp hypot atan2 where "
    "maximum minimum sum mean matmul permute reshape".split()
)


def by_torch(graph: Graph, tensors: list[Any]) -> Any:
    """The first output, computed with torch's functions of the same names."""
    import torch

    value = dict(zip(graph.inputs, tensors, strict=True))
    for node in graph.nodes[len(graph.inputs) :]:
        args = [value[i] for i in node.inputs]
        name, attrs = node.op.name, node.attrs
        if name == "constant":
            value[node] = torch.tensor(evaluate(node.op, (), attrs, node.type))
        elif name == "cast":
            value[node] = args[0].to(getattr(torch, attrs["dtype"].name))
        elif name == "permute":
            value[node] = args[0].permute(attrs["axes"])
        elif name == "reshape":
            value[node] = args[0].reshape(attrs["shape"])
        elif name in ("sum", "mean"):
            total = args[0]
            for axis in reversed(attrs["axis"]):
                total = getattr(total, name)(axis, keepdim=attrs["keepdims"])
            value[node] = total
        else:
            value[node] = getattr(torch, name)(*args)
    return value[graph.outputs[0]]


@pytest.mark.torch
def test_gradients_of_random_graphs_are_those_of_torch() -> None:
    import torch

    compared = 0
    for number in range(120):
        graph, data = smooth_case(number, lambda op: op.name in TORCH_NAMES)
        places = [i for i, d in enumerate(data) if d.dtype == np.float64]
        tensors = [torch.tensor(d, requires_grad=i in places) for i, d in enumerate(data)]
        out = by_torch(graph, tensors)
        if not out.requires_grad:
            continue
        out.sum().backward()
        found = run_graph(gradient_graph(graph, places), data)
        for i, slope in zip(places, found, strict=True):
            wanted = tensors[i].grad
            wanted = np.zeros_like(data[i]) if wanted is None else wanted.numpy()
            np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-9, err_msg=str(graph))
            compared += slope.size
    assert compared > 1000


def test_bounds_hold_for_narrow_results_of_wide_sums() -> None:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float16, (300,)))
    graph = b.graph([x], [b.sum(x), b.mean(b.exp(x)), b.cumsum(x, axis=0)])
    values = np.random.default_rng(1).uniform(-1, 1, 300).astype(np.float16)
    assert check_graph(graph, [values], PURE).excluded == 0
