"""The ops that are not pointwise, driven by their own declarations: samples, errors, expansions,
gradients of first and second order, and error bounds."""

from __future__ import annotations

import re
import warnings
import zlib
from typing import Any

import numpy as np
import pytest

from accel.ir import Builder, Graph, Node, TensorType, all_ops, dtypes, parse, verify
from accel.ir.op import Op, Sample
from accel.passes.differentiate import differentiate
from accel.passes.expand import expand
from accel.targets.reference import run_graph

FAMILIES = {
    "reduce", "moments", "scan", "movement", "arrangement", "creation", "random", "indexing",
    "gather", "advanced_indexing", "contraction", "normalization", "loss", "class_loss",
}  # fmt: skip
# How far an expansion in this dtype may lie from the reference, relative and absolute.
TOLERANCE = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 2e-5, "float64": 1e-12,
             "complex64": 2e-5, "complex128": 1e-12}  # fmt: skip


def _family(op: Op) -> str:
    return op.samples.__module__.rpartition(".")[2] if op.samples else ""


OPS = [op for op in all_ops().values() if _family(op) in FAMILIES]


def _cases(*, expandable: bool = False) -> list[Any]:
    return [
        pytest.param(op, sample, id=f"{op.name}-{i}")
        for op in OPS
        if op.expand is not None or not expandable
        for i, sample in enumerate(op.samples())
    ]


def _rng(op: Op) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(op.name.encode()))


def draw(rng: np.random.Generator, operand: Any, low: float | None, high: float | None) -> Any:
    """An array of the type `operand`; a concrete value stays."""
    if not isinstance(operand, TensorType):
        return operand
    low, high = -3.0 if low is None else low, 3.0 if high is None else high
    kind = operand.dtype.kind
    if kind == "b":
        return rng.random(operand.shape) < 0.5
    if kind in "iu":
        values = rng.integers(0 if kind == "u" else int(low), int(high) + 1, operand.shape)
    else:
        values = np.asarray(rng.uniform(low, high, operand.shape))
        if kind == "c":
            values = values + 1j * rng.uniform(low, high, operand.shape)
    return np.asarray(values).astype(operand.dtype.numpy)


def build(op: Op, sample: Any) -> tuple[Graph, list[np.ndarray]]:
    """The graph of one application and arrays for its inputs."""
    rng = _rng(op)
    low, high = getattr(sample, "low", None), getattr(sample, "high", None)
    arrays = [np.asarray(draw(rng, o, low, high)) for o in sample.operands]
    b = Builder()
    inputs = [
        b.input(f"x{i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
        for i, a in enumerate(arrays)
    ]
    return b.graph(inputs, [b.apply(op, *inputs, **sample.attrs)]), arrays


def assert_close(found: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    tolerance = TOLERANCE.get(dtype, 0)
    found, wanted = (np.asarray(a).astype(np.complex128) for a in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_every_family_is_here() -> None:
    assert {_family(op) for op in OPS} == FAMILIES
    assert len(OPS) >= 70
    assert all(op.samples and op.error_samples and op.doc for op in OPS)


@pytest.mark.parametrize(("op", "sample"), _cases())
def test_reference_gives_the_inferred_type(op: Op, sample: Sample) -> None:
    graph, arrays = build(op, sample)
    verify(graph)
    assert parse(str(graph)) == graph
    before = [a.tobytes() for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = run_graph(graph, arrays)
    assert [a.tobytes() for a in arrays] == before, "a reference changed its operands"
    (node,) = graph.outputs
    assert result.shape == node.type.shape
    assert result.dtype == node.type.dtype.numpy
    assert list(node.attrs) == list(op.attrs), "the order of attributes is part of a node's key"


@pytest.mark.parametrize(("op", "sample"), _cases(expandable=True))
def test_expansion_agrees_with_the_reference(op: Op, sample: Sample) -> None:
    graph, arrays = build(op, sample)
    expanded = expand(graph)
    verify(expanded)
    assert parse(str(expanded)) == expanded
    assert expanded.outputs[0].type == graph.outputs[0].type
    assert all(n.op.expand is None for n in expanded.nodes)
    (wanted,), (found,) = run_graph(graph, arrays), run_graph(expanded, arrays)
    assert_close(found, wanted, wanted.dtype.name)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_errors_are_raised_with_a_remedy(op: Op) -> None:
    for sample in op.error_samples():
        with pytest.raises(sample.error) as caught:
            run_graph(*build(op, sample))
        assert re.search(sample.match, str(caught.value)), str(caught.value)
        assert caught.value.remedy


# -- gradients ------------------------------------------------------------------------------
DIFFERENTIABLE = [op for op in OPS if (op.gradient or op.expand) and op.category != "random"]


def _slopes(graph: Graph, arrays: list[np.ndarray], which: list[int]) -> list[np.ndarray]:
    """Central differences of the graph's only output, a number."""

    def value(at: list[np.ndarray]) -> float:
        return float(run_graph(graph, at)[0])

    found = []
    for i in which:
        slope = np.zeros_like(arrays[i])
        for place in np.ndindex(arrays[i].shape):
            step = 1e-5 * max(1.0, abs(arrays[i][place]))
            sides = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[i][place] += sign * step
                sides.append(value(moved))
            slope[place] = (sides[0] - sides[1]) / (2 * step)
        found.append(slope)
    return found


def _weighted_sum(b: Builder, nodes: list[Node], rng: np.random.Generator) -> Node:
    total: Node = b.constant(0.0, dtypes.float64)
    for node in nodes:
        weights = np.asarray(rng.uniform(0.5, 1.5, node.type.shape))
        total = b.add(total, b.sum(b.mul(b.cast(node, dtypes.float64), b.constant(weights))))
    return total


def _float64(sample: Sample) -> Sample | None:
    """The sample in float64 where it draws floats that can be moved, else None."""
    drawn = [o for o in sample.operands if isinstance(o, TensorType)]
    if any(t.dtype.kind != "f" for t in drawn) or not 0 < sum(t.size for t in drawn) <= 40:
        return None
    operands = [
        o.with_dtype(dtypes.float64) if isinstance(o, TensorType) else o for o in sample.operands
    ]
    attrs = dict(sample.attrs)
    if attrs.get("dtype") is not None:
        attrs["dtype"] = dtypes.float64
    bound = (sample.low, sample.high) if (sample.high or 0) < 100 else (-4.0, 4.0)
    return Sample(tuple(operands), attrs, *bound)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_gradients_of_both_orders(op: Op) -> None:
    seen = set()
    for sample in op.samples():
        wide = _float64(sample)
        key = repr(wide)
        if wide is None or key in seen:
            continue
        seen.add(key)
        graph, arrays = build(op, wide)
        if not graph.outputs[0].type.dtype.is_floating:
            continue
        which = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
        rng = _rng(op)
        b = Builder()
        inputs = [b.input(n.attrs["name"], n.type) for n in graph.inputs]
        wrt = [inputs[i] for i in which]
        value = _weighted_sum(b, b.inline(graph, inputs), rng)
        for order in (1, 2):
            slopes = differentiate(b, [value], [b.constant(1.0, dtypes.float64)], wrt)
            known = [(i, s) for i, s in zip(range(len(wrt)), slopes, strict=True) if s is not None]
            numeric = _slopes(b.graph(inputs, [value]), arrays, which)
            found = run_graph(b.graph(inputs, [s for _, s in known]), arrays)
            exact = [np.zeros_like(a) for a in numeric]
            for (i, _), array in zip(known, found, strict=True):
                exact[i] = array
            for a, n in zip(exact, numeric, strict=True):
                np.testing.assert_allclose(a, n, rtol=1e-5, atol=1e-6, err_msg=f"order {order}")
            if order == 1:
                assert known, "no gradient at all"
                value = _weighted_sum(b, [s for _, s in known], rng)


@pytest.mark.parametrize("name", ["prod", "cumprod"])
@pytest.mark.parametrize("zeros", [(), (1,), (0, 3)])
def test_products_of_zeros_have_gradients(name: str, zeros: tuple[int, ...]) -> None:
    x = np.array([1.5, -2.0, 0.5, 3.0, 1.25])
    x[list(zeros)] = 0.0
    b = Builder()
    node = b.input("x", TensorType(dtypes.float64, x.shape))
    value = _weighted_sum(b, [b.apply(name, node)], np.random.default_rng(1))
    for _ in range(3):
        (slope,) = differentiate(b, [value], [b.constant(1.0, dtypes.float64)], [node])
        (numeric,) = _slopes(b.graph([node], [value]), [x], [0])
        (exact,) = run_graph(b.graph([node], [slope]), [x])
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-6)
        value = _weighted_sum(b, [slope], np.random.default_rng(2))


def test_equal_extrema_share_the_gradient() -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    b = Builder()
    node = b.input("x", TensorType(dtypes.float64, x.shape))
    top = b.amax(node, axis=1)
    (slope,) = differentiate(b, [top], [b.full(1.0, (2,), dtypes.float64)], [node])
    (found,) = run_graph(b.graph([node], [slope]), [x])
    np.testing.assert_array_equal(found, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def test_an_operand_that_is_made_of_another_is_counted_once() -> None:
    """A composite's expansion is differentiated to its operands, not through them."""
    x = np.array([0.3, -1.2, 0.8])
    b = Builder()
    node = b.input("x", TensorType(dtypes.float64, x.shape))
    value = b.l1_loss(node, b.sin(node))
    (slope,) = differentiate(b, [value], [b.constant(1.0, dtypes.float64)], [node])
    (numeric,) = _slopes(b.graph([node], [value]), [x], [0])
    (found,) = run_graph(b.graph([node], [slope]), [x])
    np.testing.assert_allclose(found, numeric, rtol=1e-6)


# -- values at the edges ----------------------------------------------------------------------
def apply(name: str, *arrays: Any, **attrs: Any) -> np.ndarray:
    b = Builder()
    operands = [np.asarray(a) for a in arrays]
    inputs = [
        b.input(f"x{i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
        for i, a in enumerate(operands)
    ]
    return run_graph(b.graph(inputs, [b.apply(name, *inputs, **attrs)]), operands)[0]


def test_reductions_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    assert apply("logsumexp", np.array([-inf, -inf])) == -inf
    assert apply("logsumexp", np.array([1.0, inf])) == inf
    assert apply("logsumexp", np.zeros(0)) == -inf
    assert np.isnan(apply("amax", np.array([1.0, nan, 2.0])))
    assert apply("argmin", np.array([1.0, nan, 0.0, nan]), axis=0) == 1
    assert apply("argmax", np.array([2, 5, 5]), axis=0) == 1
    assert np.isnan(apply("mean", np.zeros(0)))
    assert apply("sum", np.array([200, 100], np.uint8)) == 300
    assert apply("sum", np.array([1e300, 1e300, -1e300])) == 1e300
    assert apply("sum", np.array([60000, 60000], np.float16)) == inf
    assert apply("any", np.array([nan])) and not apply("any", np.array([-0.0]))
    assert np.isnan(apply("var", np.array([1.0]), correction=1))


def test_sum_converts_before_it_adds() -> None:
    x = np.array([1.75, 2.75], np.float32)
    assert apply("sum", x, dtype=dtypes.int32) == 3
    assert apply("sum", np.array([2**24, 1, 1]), dtype=dtypes.float32) == 2**24 + 2
    assert apply("sum", np.array([0.5, -0.0]), dtype=dtypes.bool_).tolist() is True


@pytest.mark.parametrize(("start", "stop", "step"), [
    (0, 9, 1), (1, 8, 3), (8, 1, -3), (8, None, -2), (5, 5, 1), (3, 4, 9), (8, 7, -9),
])  # fmt: skip
def test_slice_is_numpys_and_canonical(start: int, stop: int | None, step: int) -> None:
    x = np.arange(9.0)
    end = -1 if stop is None else stop
    np.testing.assert_array_equal(
        apply("slice", x, start=start, stop=end, step=step), x[start:stop:step]
    )
    b = Builder()
    node = b.input("x", TensorType(dtypes.float64, (9,)))
    made = b.slice(node, start=start, stop=end, step=step)
    n = made.type.shape[0]
    looser = start + n * step  # another stop behind the same last element
    if n > 1 and -1 <= looser <= 9:
        assert b.slice(node, start=start, stop=looser, step=step) is made


def test_matmul_matches_numpy_in_every_rank() -> None:
    rng = np.random.default_rng(3)
    for s, t in [((4,), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (5, 4, 2)), ((5, 3, 4), (4,))]:
        x, y = rng.normal(size=s), rng.normal(size=t)
        np.testing.assert_array_equal(apply("matmul", x, y), np.matmul(x, y))


def test_integer_products_wrap() -> None:
    x = np.array([[200, 100]], np.uint8)
    assert apply("matmul", x, x.T).dtype == np.uint8
    assert int(apply("matmul", x, x.T)[0, 0]) == (200 * 200 + 100 * 100) % 256


def test_scatter_keeps_the_last_and_scatter_add_adds() -> None:
    x, index, v = np.zeros(3), np.array([1, 1, 0]), np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(apply("scatter", x, index, v, axis=0), [4, 2, 0])
    np.testing.assert_array_equal(apply("scatter_add", x, index, v, axis=0), [4, 3, 0])
    np.testing.assert_array_equal(apply("index_add", x, index, v, axis=0), [4, 3, 0])


def test_cross_entropy_ignores_rows_whole() -> None:
    scores = np.array([[1.0, 2.0], [np.nan, np.inf], [0.0, 0.0]])
    target = np.array([1, -100, 0])
    wanted = np.mean([np.log1p(np.exp(-1.0)), np.log(2.0)])
    np.testing.assert_allclose(apply("cross_entropy", scores, target), wanted)
    b = Builder()
    x = b.input("x", TensorType(dtypes.float64, (3, 2)))
    y = b.input("y", TensorType(dtypes.int64, (3,)))
    loss = b.cross_entropy(x, y)
    (slope,) = differentiate(b, [loss], [b.constant(1.0, dtypes.float64)], [x])
    (found,) = run_graph(b.graph([x, y], [slope]), [scores, target])
    assert (found[1] == 0).all() and np.isfinite(found).all()


def test_cross_entropy_of_sure_scores_keeps_its_digits() -> None:
    scores = np.array([[1e4, 1e4 - 20.0]], np.float32)
    loss = float(apply("cross_entropy", scores, np.array([0])))
    b = Builder()
    x = b.input("x", TensorType(dtypes.float32, (1, 2)))
    y = b.input("y", TensorType(dtypes.int64, (1,)))
    graph = expand(b.graph([x, y], [b.cross_entropy(x, y)]))
    (expanded,) = run_graph(graph, [scores, np.array([0])])
    assert loss == pytest.approx(2.0611537e-9, rel=1e-6)
    assert abs(float(expanded)) < 1e-7


# -- error bounds -----------------------------------------------------------------------------
@pytest.mark.parametrize("op", [op for op in OPS if op.error], ids=lambda op: op.name)
def test_error_bounds_hold(op: Op) -> None:
    """Operands moved within their bounds move the result within its bound."""
    rng = _rng(op)
    for sample in op.samples():
        graph, arrays = build(op, sample)
        (out,) = run_graph(graph, arrays)
        errors = [
            np.full(a.shape, 1e-2) if a.dtype.name in ("float32", "float64") else np.zeros(a.shape)
            for a in arrays
        ]
        (node,) = graph.outputs
        bound = np.asarray(op.error(arrays, errors, out, node.attrs))
        assert bound.shape == out.shape and not (bound < 0).any() and not np.isnan(bound).any()
        for _ in range(5):
            moved = [
                (a + e * rng.uniform(-1, 1, a.shape)).astype(a.dtype) if e.any() else a
                for a, e in zip(arrays, errors, strict=True)
            ]
            (other,) = run_graph(graph, moved)
            with np.errstate(all="ignore"):
                distance = np.abs(other.astype(np.complex128) - out.astype(np.complex128))
            assert (np.isnan(distance) | (distance <= bound + 1e-12)).all(), sample


# -- random numbers ---------------------------------------------------------------------------
def test_philox_gives_the_published_words() -> None:
    from accel.ir.ops.random import philox

    full = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    for (counter, key), words in [
        (((0,) * 4, (0,) * 2), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (((full,) * 4, (full,) * 2), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]:
        assert " ".join(f"{int(w):08x}" for w in philox(counter, key)) == words


def test_uniform_and_bits_are_exact_in_every_form() -> None:
    state = np.array([-1234567890123, 2**33 + 1])
    for name, attrs in [("random_bits", {}), ("random_uniform", {"dtype": dtypes.float32}),
                        ("random_uniform", {"dtype": dtypes.float64}),
                        ("random_uniform", {"dtype": dtypes.float16}),
                        ("random_integers", {"low": -7, "high": 2**62})]:  # fmt: skip
        b = Builder()
        node = b.input("state", TensorType(dtypes.int64, (2,)))
        graph = b.graph([node], [b.apply(name, node, shape=(7, 11), **attrs)])
        (wanted,), (found,) = run_graph(graph, [state]), run_graph(expand(graph), [state])
        np.testing.assert_array_equal(found, wanted)


def test_draws_have_their_distributions() -> None:
    state, n = np.array([7, 0]), 20_000
    u = apply("random_uniform", state, shape=(n,))
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(u.var() - 1 / 12) < 0.002
    z = apply("random_normal", state, shape=(n,))
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03 and abs((z**3).mean()) < 0.1
    assert np.isfinite(z).all() and z.dtype == np.float32
    counts = np.bincount(apply("random_integers", state, shape=(n,), high=10))
    assert len(counts) == 10 and np.abs(counts - n / 10).max() < 200


def test_state_decides_and_offsets_are_separate_streams() -> None:
    state = np.array([3, 0])
    first = apply("random_bits", state, shape=(50,))
    np.testing.assert_array_equal(first, apply("random_bits", state, shape=(5, 10)).ravel())
    later = apply("random_bits", apply("random_advance", state), shape=(50,))
    other = apply("random_bits", np.array([4, 0]), shape=(50,))
    assert len({*first, *later, *other}) == 150


def test_random_numbers_have_no_gradient() -> None:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float64, (3,)))
    state = b.constant(np.array([1, 0]))
    y = b.mul(x, b.random_uniform(state, shape=(3,), dtype=dtypes.float64))
    (slope,) = differentiate(b, [y], [b.full(1.0, (3,), dtypes.float64)], [x])
    (found,) = run_graph(b.graph([x], [slope]), [np.ones(3)])
    np.testing.assert_array_equal(
        found, apply("random_uniform", np.array([1, 0]), shape=(3,), dtype=dtypes.float64)
    )


# -- against torch ----------------------------------------------------------------------------
TORCH_CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any]]] = [
    ("softmax", ((3, 4),), {"axis": 1}, "nn.functional.softmax", {"dim": 1}),
    ("log_softmax", ((3, 4),), {"axis": 0}, "nn.functional.log_softmax", {"dim": 0}),
    ("logsumexp", ((3, 4),), {"axis": 1}, "logsumexp", {"dim": 1}),
    ("var", ((3, 4),), {"axis": 1, "correction": 1}, "var", {"dim": 1}),
    ("std", ((3, 4),), {"axis": 1, "correction": 1}, "std", {"dim": 1}),
    ("prod", ((3, 4),), {"axis": 1}, "prod", {"dim": 1}),
    ("cumprod", ((3, 4),), {"axis": 1}, "cumprod", {"dim": 1}),
    ("cumsum", ((3, 4),), {"axis": 0}, "cumsum", {"dim": 0}),
    ("amin", ((3, 4),), {"axis": 1}, "amin", {"dim": 1}),
    ("tril", ((3, 4),), {"diagonal": 1}, "tril", {"diagonal": 1}),
    ("roll", ((3, 4),), {"shift": (1, 2), "axis": (0, 1)}, "roll",
     {"shifts": (1, 2), "dims": (0, 1)}),
    ("mse_loss", ((3, 4), (3, 4)), {}, "nn.functional.mse_loss", {}),
    ("l1_loss", ((3, 4), (3, 4)), {}, "nn.functional.l1_loss", {}),
    ("smooth_l1_loss", ((3, 4), (3, 4)), {"beta": 0.5}, "nn.functional.smooth_l1_loss",
     {"beta": 0.5}),
    ("huber_loss", ((3, 4), (3, 4)), {"delta": 0.7}, "nn.functional.huber_loss", {"delta": 0.7}),
    ("binary_cross_entropy_with_logits", ((3, 4), (3, 4)), {},
     "nn.functional.binary_cross_entropy_with_logits", {}),
    ("kl_div", ((3, 4), (3, 4)), {"reduction": "batchmean", "log_target": True},
     "nn.functional.kl_div", {"reduction": "batchmean", "log_target": True}),
    ("cross_entropy", ((3, 4), np.array([1, -100, 3])), {"label_smoothing": 0.1},
     "nn.functional.cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", ((2, 3, 2), np.array([[1, 0], [2, 2]])), {"reduction": "sum"},
     "nn.functional.cross_entropy", {"reduction": "sum"}),
    ("nll_loss", ((3, 4), np.array([1, 0, 3])), {}, "nn.functional.nll_loss", {}),
    ("linear", ((2, 3, 4), (5, 4), (5,)), {}, "nn.functional.linear", {}),
    ("matmul", ((2, 1, 3, 4), (5, 4, 2)), {}, "matmul", {}),
    ("gather", ((3, 4), np.array([[0, 3], [1, 1]])), {"axis": 1}, "gather", {"dim": 1}),
    ("layer_norm", ((2, 3, 4), (3, 4), (3, 4)), {"normalized_ndim": 2},
     "nn.functional.layer_norm", {"shape": (3, 4)}),
    ("rms_norm", ((2, 3, 4), (4,)), {"normalized_ndim": 1}, "nn.functional.rms_norm",
     {"shape": (4,)}),
    ("embedding", ((5, 3), np.array([[4, 0], [0, 1]])), {}, "nn.functional.embedding", {}),
]  # fmt: skip


#: Where torch does not take the operands first and the rest by name.
TORCH_ORDER: dict[str, Any] = {
    "gather": lambda fn, x, index, dim: fn(x, dim, index),
    "layer_norm": lambda fn, x, w, c, shape: fn(x, shape, w, c, 1e-5),
    "rms_norm": lambda fn, x, w, shape: fn(x, shape, w, 1e-5),
    "embedding": lambda fn, weight, index: fn(index, weight),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", TORCH_CASES, ids=lambda c: f"{c[0]}")
def test_values_and_gradients_are_torchs(case: Any) -> None:
    import torch

    name, operands, attrs, path, torch_attrs = case
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=o) if isinstance(o, tuple) else o for o in operands]
    fn: Any = torch
    for part in path.split("."):
        fn = getattr(fn, part)
    leaves = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    call = TORCH_ORDER.get(name, lambda fn, *operands, **rest: fn(*operands, **rest))
    wanted = call(fn, *leaves, **torch_attrs)
    np.testing.assert_allclose(apply(name, *arrays, **attrs), wanted.detach().numpy(), rtol=1e-10)
    seed = rng.normal(size=tuple(wanted.shape))
    wanted.backward(torch.tensor(seed))
    b = Builder()
    inputs = [
        b.input(f"x{i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
        for i, a in enumerate(arrays)
    ]
    wrt = [n for n in inputs if n.type.dtype.is_floating]
    slopes = differentiate(b, [b.apply(name, *inputs, **attrs)], [b.constant(seed)], wrt)
    found = run_graph(b.graph(inputs, slopes), arrays)
    for a, leaf in zip(found, [t for t in leaves if t.requires_grad], strict=True):
        np.testing.assert_allclose(a, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)
