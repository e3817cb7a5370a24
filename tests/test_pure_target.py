"""The pure target against the reference: cutting, views, memory, programs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import accel.ir.ops  # noqa: F401  (registers the ops)
from accel.errors import AccelError, IndexOutOfRangeError, Location
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.node import Node
from accel.ir.op import get_op
from accel.ir.parsing import parse
from accel.ir.types import TensorType
from accel.passes.differentiate import differentiate
from accel.targets.pure import KERNELS, PureRun, compile_run, program
from accel.targets.pure.native import entry
from accel.targets.pure.views import Buffer, moved
from accel.targets.reference import run_graph

F32, F64, I64 = dtypes.float32, dtypes.float64, dtypes.int64
Body = Callable[..., "Node | tuple[Node, ...]"]


# -- helpers --------------------------------------------------------------------------------
def one_region(body: Graph) -> Graph:
    """`body` as the only region of a run."""
    b = Builder()
    inputs = tuple([b.input(n.attrs["name"], n.type) for n in body.inputs])
    attrs = {"body": body, "name": "r0", "target": "pure", "reason": ""}
    region = b.node(get_op("region"), inputs, attrs)
    outputs = [
        b.node(get_op("output"), (region,), {"index": i}) for i in range(len(body.outputs))
    ]
    return b.graph(inputs, outputs)


def graph_of(body: Body, *arrays: np.ndarray) -> Graph:
    """The graph of `body(builder, *inputs)` for arrays of these types."""
    b = Builder()
    types = [TensorType(dtypes.to_dtype(a.dtype), a.shape) for a in arrays]
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    made = body(b, *inputs)
    return b.graph(inputs, list(made) if type(made) is tuple else [made])  # a Node is a tuple


def agree(run: PureRun, body: Graph, arrays: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    """The run gives what the reference gives, in the same dtypes and shapes."""
    before = [np.array(a) for a in arrays]
    for got, want in zip(run(arrays), run_graph(body, arrays), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


def checked(body: Body, *arrays: np.ndarray, tolerance: float = 1e-5) -> PureRun:
    """Compile `body` as one region, compare it with the reference, return the run."""
    graph = graph_of(body, *arrays)
    run = compile_run(one_region(graph))
    agree(run, graph, arrays, tolerance)
    return run


def kinds(run: PureRun) -> list[str]:
    return [k.kind for k in run.kernels]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- one kernel -----------------------------------------------------------------------------
def test_a_chain_is_one_kernel() -> None:
    def body(b: Builder, x: Node, a: Node, c: Node, d: Node) -> Node:
        return b.add(b.mul(b.gelu(b.add(b.mul(x, a), c)), b.sigmoid(c)), d)

    run = checked(body, normal(33, 65), normal(65, seed=1), normal(33, 1, seed=2), normal(1))
    assert kinds(run) == ["loop"] and run.native_calls == 1 and run.arena_bytes == 0


@pytest.mark.parametrize("columns", [1, 7, 1000, 16385])
def test_softmax_and_layer_norm_are_one_kernel(columns: int) -> None:
    x, w, c = normal(3, columns), normal(columns, seed=1), normal(columns, seed=2)
    assert kinds(checked(lambda b, x: b.softmax(x, axis=-1), x)) == ["loop"]
    assert kinds(checked(lambda b, x: b.log_softmax(x, axis=-1), x)) == ["loop"]

    def norm(b: Builder, x: Node, w: Node, c: Node) -> Node:
        return b.layer_norm(x, w, c, normalized_ndim=1, eps=1e-5)

    assert kinds(checked(norm, x, w, c, tolerance=2e-5)) == ["loop"]


def test_softmax_over_the_first_axis_is_one_kernel() -> None:
    assert kinds(checked(lambda b, x: b.softmax(x, axis=0), normal(40, 70))) == ["loop"]


def test_softmax_gradient_is_one_kernel() -> None:
    def body(b: Builder, x: Node, g: Node) -> Node:
        (found,) = differentiate(b, [b.softmax(x, axis=1)], [g], [x])
        assert found is not None
        return found

    assert kinds(checked(body, normal(8, 100), normal(8, 100, seed=1))) == ["loop"]


def test_layer_norm_gradient_of_the_operand_is_one_kernel() -> None:
    def body(b: Builder, x: Node, w: Node, g: Node) -> Node:
        y = b.layer_norm(x, w, normalized_ndim=1, eps=1e-5)
        (found,) = differentiate(b, [y], [g], [x])
        assert found is not None
        return found

    run = checked(body, normal(8, 100), normal(100, seed=1), normal(8, 100, seed=2))
    assert kinds(run) == ["loop"]


def test_cross_entropy_of_rows_is_one_kernel_and_their_mean_another() -> None:
    x, y = normal(32, 10), np.random.default_rng(0).integers(0, 10, 32)
    assert len(checked(lambda b, x, y: b.cross_entropy(x, y, reduction="none"), x, y).kernels) == 1
    run = checked(lambda b, x, y: b.mean(b.cross_entropy(x, y, reduction="none")), x, y)
    assert len(run.kernels) == 2
    run = checked(lambda b, x, y: b.cross_entropy(x, y, reduction="mean"), x, y)
    assert len(run.kernels) == 2


def test_bias_activation_and_residual_join_the_product() -> None:
    def body(b: Builder, x: Node, w: Node, c: Node, r: Node) -> Node:
        return b.add(b.relu(b.add(b.matmul(x, w), c)), r)

    run = checked(body, normal(30, 40), normal(40, 50, seed=1), normal(50), normal(30, 50))
    assert kinds(run) == ["matmul"]
    assert run.kernels[0].ops == "matmul add relu add"


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "sigmoid", "tanh"])
@pytest.mark.parametrize("rows", [1, 3, 40, 200])
def test_a_linear_layer_is_one_kernel(activation: str, rows: int) -> None:
    """Whatever tile library its shape asks for."""
    def body(b: Builder, x: Node, w: Node, c: Node, r: Node) -> Node:
        product = b.matmul(x, b.permute(w, axes=(1, 0)))
        return b.add(b.mul(getattr(b, activation)(b.add(product, c)), 0.5), r)

    x, w = normal(rows, 50) / 7, normal(70, 50, seed=1)
    run = checked(body, x, w, normal(70, seed=2), normal(rows, 70, seed=3))
    assert kinds(run) == ["matmul"] and run.native_calls == 1


def test_a_product_keeps_what_others_read() -> None:
    def body(b: Builder, x: Node, w: Node) -> tuple[Node, ...]:
        z = b.matmul(x, w)
        h = b.tanh(b.mul(z, 0.25))
        return h, b.gt(z, 0.0), z

    run = checked(body, normal(9, 5), normal(5, 17))
    assert kinds(run) == ["matmul"]


def test_a_large_intermediate_is_not_computed_again_in_rows() -> None:
    """A heavy value of the columns alone has its own kernel, not one exp a row."""
    run = checked(lambda b, x, y: b.add(x, b.exp(y)), normal(64, 64), normal(64))
    assert [k.ops for k in run.kernels] == ["exp", "add"]


def test_scalar_work_is_repeated_in_each_kernel() -> None:
    def body(b: Builder, p: Node, q: Node, lr: Node) -> tuple[Node, ...]:
        step = b.mul(b.cast(lr, F32), 0.5)
        return b.sub(p, b.mul(step, q)), b.sub(q, b.mul(step, p)), b.sum(b.mul(p, step))

    run = checked(body, normal(50), normal(50), np.array(0.1))
    assert all(k.kind == "loop" for k in run.kernels)
    assert not any(k.text.startswith("nest []") for k in run.kernels)


def test_all_scalar_work_is_one_kernel() -> None:
    def body(b: Builder, s: Node, t: Node, x: Node) -> tuple[Node, ...]:
        decays = [b.sqrt(b.sub(1.0, b.pow(rate, b.exp(n)))) for rate in (0.9, 0.5) for n in (s, t)]
        return *decays, b.mul(b.add(x, decays[0]), decays[3])

    run = checked(body, np.array(1.5), np.array(2.5), normal(6, 7).astype(np.float64))
    assert len(run.kernels) == 2
    counters = checked(lambda b, s, t: (b.add(s, 1.0), b.add(t, 1.0)), np.array(1.5), np.array(2.5))
    assert [k.ops for k in counters.kernels] == ["add add"]


def test_dropout_is_one_kernel() -> None:
    def body(b: Builder, x: Node, state: Node) -> Node:
        kept = b.lt(b.random_uniform(state, shape=x.type.shape, dtype=F32), 0.9)
        return b.mul(x, b.div(b.cast(kept, F32), 0.9))

    assert kinds(checked(body, normal(8, 3, 5), np.array([7, 3]))) == ["loop"]


def test_draws_made_with_numbers_share_the_code_of_one_long_row() -> None:
    """Parameters of all shapes begin as such draws."""

    def body(b: Builder, state: Node, scale: Node) -> tuple[Node, ...]:
        drawn = [b.random_uniform(state, shape=shape, dtype=F32) for shape in ((64, 30), (70,))]
        return tuple([b.sub(b.mul(x, b.add(scale, scale)), scale) for x in drawn])

    run = checked(body, np.array([7, 3]), np.array(0.25, np.float32))
    draws = [k for k in run.kernels if "shift" in k.name]
    assert len(draws) == 2 and len({k.name for k in draws}) == 1

    def mixed(b: Builder, state: Node, x: Node) -> tuple[Node, ...]:
        drawn = b.random_uniform(state, shape=(8, 15), dtype=F32)
        twice = b.mul(drawn, 2.0)
        return b.add(twice, 1.0), b.add(b.random_uniform(state, shape=(8, 15), dtype=F32), x), (
            b.sum(b.exp(b.random_uniform(state, shape=(4, 6), dtype=F32)), axis=1)
        ), b.where(b.lt(drawn, 0.5), twice, b.broadcast_to(0.0, shape=(8, 15)))  # fmt: skip

    checked(mixed, np.array([7, 3]), normal(8, 15))


def test_generated_values_in_several_shapes() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        flat = b.mul(b.cast(b.iota(shape=(24,), axis=0), F32), b.sum(x))
        ones = b.exp(b.full(0.5, (24,), F32))
        shared = b.tanh(flat)
        return (
            b.add(b.reshape(flat, shape=(4, 6)), x), b.exp(b.reshape(ones, shape=(4, 6))), shared,
            b.sum(b.reshape(shared, shape=(2, 12)), axis=1),
            b.sum(b.reshape(b.sin(flat), shape=(2, 1, 12)), axis=2),
        )  # fmt: skip

    checked(body, normal(4, 6))


# -- views and movement -----------------------------------------------------------------------
MOVEMENTS: dict[str, Body] = {
    "permute": lambda b, x: b.permute(x, axes=(2, 0, 1)),
    "broadcast": lambda b, x: b.broadcast_to(x, shape=(2, 4, 6, 5)),
    "slice": lambda b, x: b.slice(x, start=(3, 1, 0), stop=(-1, 5, 5), step=(-2, 2, 1)),
    "flip": lambda b, x: b.flip(x, axis=(0, 2)),
    "split": lambda b, x: b.reshape(x, shape=(2, 2, 3, 2, 5)),
    "join": lambda b, x: b.reshape(b.permute(x, axes=(2, 0, 1)), shape=(5, 24)),
    "copy": lambda b, x: b.reshape(b.permute(x, axes=(2, 0, 1)), shape=(10, 12)),
    "ones": lambda b, x: b.reshape(x, shape=(4, 1, 6, 1, 5)),
}


@pytest.mark.parametrize("name", MOVEMENTS)
def test_movement_of_inputs_and_of_computed_values(name: str) -> None:
    move = MOVEMENTS[name]
    x = normal(4, 6, 5)

    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        e = b.tanh(x)
        return move(b, x), b.exp(move(b, x)), move(b, e), b.sigmoid(move(b, e)), b.sum(e)

    checked(body, x)


def test_views_follow_numpy() -> None:
    """Random movements of a view address the very elements that NumPy's do."""
    rng = random.Random(0)
    names = list(MOVEMENTS)
    views = 0
    for _ in range(60):
        data = np.arange(120)
        b = Builder()
        node = b.input("x", TensorType(I64, (4, 6, 5)))
        view, array = Buffer(I64, 120).whole((4, 6, 5)), data.reshape(4, 6, 5)
        for name in rng.sample(names, 3):
            try:
                node = MOVEMENTS[name](b, node)
            except AccelError:
                continue  # another rank
            array = run_graph(b.graph(b.nodes[:1], [node]), [data.reshape(4, 6, 5)])[0]
            if node.op.name == "reshape" and node.inputs[0].op.name == "permute":
                break  # two steps
            found = moved(view, node)
            if found is None:
                break
            view = found
            places = np.lib.stride_tricks.as_strided(
                data[view.offset :], view.shape, [8 * s for s in view.strides]
            )
            np.testing.assert_array_equal(places, array)
            views += 1
    assert views > 60


def test_fused_transposes_need_no_copy() -> None:
    run = checked(lambda b, x: b.exp(b.permute(b.tanh(x), axes=(1, 0))), normal(5, 7))
    assert [k.ops for k in run.kernels] == ["tanh exp"]
    run = checked(lambda b, x: b.exp(b.reshape(x, shape=(7, 5))), normal(5, 7))
    assert [k.ops for k in run.kernels] == ["exp"]


def test_a_value_and_its_own_transpose() -> None:
    def body(b: Builder, x: Node) -> Node:
        e = b.exp(x)
        return b.add(e, b.permute(e, axes=(1, 0)))

    assert [k.ops for k in checked(body, normal(6, 6)).kernels] == ["exp", "add"]


def test_pieces_are_computed_in_place_of_a_concatenation() -> None:
    def body(b: Builder, x: Node, y: Node) -> Node:
        return b.cat(b.exp(x), y, b.mul(y, 2.0), axis=1)

    run = checked(body, normal(4, 5), normal(4, 3))
    assert sorted(kinds(run)) == ["copy", "loop", "loop"] and run.arena_bytes == 0


def test_pad_and_slice_update() -> None:
    checked(lambda b, x: b.pad(b.exp(x), low=(1, 0), high=(2, 3), value=7.0), normal(4, 5))
    checked(
        lambda b, x, v: b.slice_update(x, b.exp(v), start=(0, 4), stop=(4, -1), step=(2, -2)),
        normal(4, 5), normal(2, 3),
    )  # fmt: skip
    checked(
        lambda b, v: b.slice_update(
            b.full(0.0, (5, 5), F32), v, start=(1, 1), stop=(4, 4), step=(1, 1)
        ),
        normal(3, 3),
    )


def test_memory_that_nobody_else_reads_is_written_over() -> None:
    """One copy of the operand, however many of its parts are set one after the other."""
    row = {"start": (2, 0), "stop": (3, 7), "step": (1, 1)}
    column = {"start": (0, 1), "stop": (5, 2), "step": (1, 1)}

    def set_twice(b: Builder, x: Node, r: Node, c: Node) -> Node:
        return b.slice_update(b.slice_update(x, r, **row), c, **column)

    given = normal(5, 7), normal(1, 7), normal(5, 1)
    assert kinds(checked(set_twice, *given)) == ["copy"] * 3
    run = checked(lambda b, x, r, c: set_twice(b, b.exp(x), r, c), *given)
    assert kinds(run) == ["loop", "copy", "copy"] and run.arena_bytes == 0
    run = checked(
        lambda b, x, r, c: b.slice_update(b.cat(x, b.exp(x), axis=0), b.exp(r), **row), *given
    )
    assert sorted(kinds(run)) == ["copy", "copy", "loop", "loop"]

    index = np.array([1, 1, 4])

    def scattered(b: Builder, x: Node, i: Node, r: Node) -> Node:
        set_once = b.slice_update(b.exp(x), r, **row)
        values = b.broadcast_to(r, shape=(3, 7))
        return b.index_add(b.index_add(set_once, i, values, axis=0), i, values, axis=0)

    run = checked(scattered, given[0], index, given[1])
    assert kinds(run).count("copy") == 1 and kinds(run)[-2:] == ["scatter", "scatter"]


def test_memory_that_others_read_is_copied() -> None:
    row = {"start": (2, 0), "stop": (3, 7), "step": (1, 1)}
    x, r = normal(5, 7), normal(1, 7)
    bodies: list[Body] = [
        lambda b, x, r: (e := b.exp(x), b.slice_update(e, r, **row)),
        lambda b, x, r: b.add(e := b.exp(x), b.slice_update(e, r, **row)),
        lambda b, x, r: b.slice_update(
            e := b.exp(x), b.add(b.slice(e, start=(1, 0), stop=(2, 7), step=(1, 1)), r), **row
        ),
        lambda b, x, r: (b.permute(e := b.exp(x), axes=(1, 0)), b.slice_update(e, r, **row)),
        lambda b, x, r: b.slice_update(b.broadcast_to(b.exp(r), shape=(5, 7)), r, **row),
        lambda b, x, r: b.slice_update(b.exp(b.broadcast_to(r, shape=(5, 7))), r, **row),
        lambda b, x, r: (s := b.slice_update(x, r, **row), b.slice_update(s, b.neg(r), **row)),
        lambda b, x, r: b.slice_update(
            e := b.permute(b.exp(x), axes=(1, 0)), b.slice(e, start=(0, 0), stop=(7, 1),
            step=(1, 1)), start=(0, 3), stop=(7, 4), step=(1, 1)),
        lambda b, x, r: b.slice_update(
            e := b.mul(x, 2.0), e, start=(0, 0), stop=(5, 7), step=(1, 1)),
    ]  # fmt: skip
    for body in bodies:
        checked(body, x, r)


def test_constants_and_ramps_as_results() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        ramp = b.iota(shape=(3, 4), axis=1)
        return (
            b.full(2.5, (3, 4), F32), ramp, b.permute(ramp, axes=(1, 0)),
            b.flip(b.cast(ramp, F32), axis=(1,)), x, x, b.constant(np.arange(4), I64),
            b.cast(b.slice(ramp, start=(0, 3), stop=(3, -1), step=(1, -2)), F64),
        )  # fmt: skip

    x = normal(3)
    run = checked(body, x)
    results = run([x])
    assert not any(np.shares_memory(r, x) for r in results)
    assert not np.shares_memory(results[4], results[5])


# -- shapes and layouts -----------------------------------------------------------------------
def test_no_elements() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        sums = b.sum(x, axis=1), b.sum(x, axis=0), b.sum(b.exp(x))
        return b.exp(x), *sums, b.matmul(x, b.permute(x, axes=(1, 0))), b.cat(x, x, axis=0)

    checked(body, normal(5, 0))
    checked(body, normal(0, 5))


def test_scalars() -> None:
    def body(b: Builder, x: Node, y: Node) -> tuple[Node, ...]:
        return b.exp(x), b.sum(x, axis=()), b.add(x, y)

    checked(body, np.array(2.0), np.array(3.0))


def test_reductions_over_extents_of_one() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        return (b.argmax(x, axis=1), b.mean(x, axis=1), b.any(x, axis=1), b.amax(x, axis=(1, 2)),
                b.sum(b.gt(x, 0.0), axis=1))  # fmt: skip

    checked(body, normal(4, 1, 5))


def test_inputs_of_any_layout() -> None:
    graph = graph_of(lambda b, x: b.sum(b.mul(x, 2.0), axis=0), normal(6, 10))
    run = compile_run(one_region(graph))
    base = normal(20, 12)
    raw = np.zeros(6 * 10 * 4 + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(6, 10)
    misaligned[...] = normal(6, 10)
    layouts = [
        base[:12:2, 1:11], base[5::-1, 11:1:-1], np.asfortranarray(normal(6, 10)),
        np.broadcast_to(normal(10), (6, 10)), misaligned, normal(6, 10).astype(">f4"),
    ]  # fmt: skip
    for array in layouts:
        agree(run, graph, [array])


def test_another_shape_compiles_nothing() -> None:
    def body(b: Builder, x: Node, w: Node) -> tuple[Node, ...]:
        return b.softmax(b.matmul(x, w), axis=1), b.tanh(x), b.mean(x, axis=0)

    checked(body, normal(32, 20), normal(20, 30))
    before = KERNELS.compiles
    checked(body, normal(48, 20), normal(20, 30))
    assert KERNELS.compiles == before


def test_another_number_compiles_nothing() -> None:
    checked(lambda b, x: b.sub(x, b.mul(x, 0.125)), normal(10))
    before = KERNELS.compiles
    checked(lambda b, x: b.sub(x, b.mul(x, 0.375)), normal(10))
    assert KERNELS.compiles == before


@pytest.mark.parametrize(
    ("a", "b"),
    [((7,), (7,)), ((7,), (7, 4)), ((5, 7), (7,)), ((3, 5, 7), (7,)), ((7,), (3, 7, 4)),
     ((3, 1, 5, 7), (2, 7, 4)), ((2, 5, 7), (2, 7, 1)), ((2, 1, 7), (7, 6)), ((4, 0), (0, 3))],
)  # fmt: skip
def test_products_of_every_rank(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    checked(lambda b_, x, y: b_.add(b_.matmul(x, y), 1.5), normal(*a), normal(*b, seed=1))


def test_products_of_transposes_and_integers() -> None:
    def body(b: Builder, x: Node, y: Node) -> Node:
        return b.matmul(b.permute(x, axes=(1, 0)), b.permute(y, axes=(1, 0)))

    checked(body, normal(40, 30), normal(50, 40))
    integers = np.random.default_rng(0).integers(-9, 9, (4, 4))
    assert kinds(checked(lambda b, x: b.matmul(x, x), integers)) == ["matmul"]


# -- memory -----------------------------------------------------------------------------------
def test_intermediates_share_the_arena() -> None:
    """A row of kernels that each read the one before needs two places, not twenty."""

    def body(b: Builder, x: Node) -> Node:
        for _ in range(20):
            x = b.reshape(b.tanh(b.permute(x, axes=(1, 0))), shape=(64, 64))
            x = b.softmax(x, axis=0)
        return x

    run = checked(body, normal(64, 64))
    assert len(run.kernels) >= 20
    assert run.arena_bytes < 4 * 64 * 64 * 4


def test_in_place_work_needs_one_place() -> None:
    """Kernels of one long chain write over what they read at the same place."""

    def body(b: Builder, x: Node, y: Node) -> Node:
        for _ in range(700):
            x = b.sub(b.mul(x, 0.5), y)
        return x

    run = checked(body, normal(1000), normal(1000, seed=1))
    assert len(run.kernels) > 4 and run.arena_bytes == 4032


def test_results_survive_later_calls() -> None:
    graph = graph_of(lambda b, x: (b.softmax(x, axis=0), b.cumsum(x, axis=0)), normal(20))
    run = compile_run(one_region(graph))
    first = run([normal(20)])
    kept = [r.copy() for r in first]
    run([normal(20, seed=1)])
    for result, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(result, copy)


# -- column sums side by side ---------------------------------------------------------------------
def test_the_gradients_of_a_norms_weight_and_bias_share_a_kernel() -> None:
    def body(b: Builder, x: Node, w: Node, c: Node, g: Node) -> tuple[Node, ...]:
        y = b.layer_norm(x, w, c, normalized_ndim=1, eps=1e-5)
        return tuple([n for n in differentiate(b, [y], [g], [x, w, c]) if n is not None])

    arrays = normal(40, 70), normal(70, seed=1), normal(70, seed=2), normal(40, 70, seed=3)
    run = checked(body, *arrays, tolerance=1e-4)
    assert [k.ops for k in run.kernels][1:] == ["sum sum"]


def test_column_sums_of_any_kind_share_a_kernel() -> None:
    def body(b: Builder, x: Node, y: Node) -> tuple[Node, ...]:
        return (b.sum(x, axis=0), b.amax(b.exp(y), axis=0), b.sum(b.cast(y, F64), axis=0),
                b.argmax(x, axis=0), b.sum(b.permute(y, axes=(1, 0)), axis=0), b.sum(y, axis=1))

    run = checked(body, normal(33, 33), normal(33, 33, seed=1))
    # Sums of rows, and of columns that lie in memory as rows do, keep kernels of their own.
    assert [k.ops for k in run.kernels] == ["sum exp amax cast sum argmax", "sum", "sum"]


def test_column_sums_that_need_each_other_stay_apart() -> None:
    def body(b: Builder, x: Node, y: Node, table: Node) -> tuple[Node, ...]:
        first = b.sum(x, axis=0)
        scale = b.sum(b.matmul(y, b.reshape(first, shape=(5, 1))))
        return b.sum(b.mul(y, scale), axis=0), first

    run = checked(body, normal(9, 5), normal(9, 5, seed=1), normal(5), tolerance=1e-4)
    assert len(run.kernels) == 4


def test_few_column_sums_share_a_kernel() -> None:
    """Many of them would crowd the cache, and the stack."""

    def body(b: Builder, *values: Node) -> tuple[Node, ...]:
        return tuple([b.sum(v, axis=0) for v in values])

    run = checked(body, *[normal(20, 30, seed=k) for k in range(10)])
    assert sorted(k.ops for k in run.kernels) == ["sum sum", "sum sum sum sum", "sum sum sum sum"]


def test_one_kernel_of_many_column_sums() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        powers = [x]
        for _ in range(11):
            powers.append(b.mul(powers[-1], 0.5))
        return tuple([b.sum(p, axis=0) for p in powers])

    run = checked(body, normal(70, 1100), tolerance=1e-4)
    assert max(k.ops.count("sum") for k in run.kernels) > 8


# -- what has no native code --------------------------------------------------------------------
def test_the_reference_stands_in() -> None:
    def body(b: Builder, x: Node) -> Node:
        z = b.cast(b.tanh(x), dtypes.complex64)
        return b.exp(b.real(b.sin(b.mul(z, z))))

    run = checked(body, normal(5, 3), tolerance=1e-2)
    assert kinds(run) == ["loop", "reference", "loop"]
    assert run.reference_ops == ("sin",) and run.native_calls == 2


def test_half_and_complex_numbers() -> None:
    def body(b: Builder, x: Node) -> tuple[Node, ...]:
        flipped = b.flip(x, axis=(1,))
        twos = b.full(2, (3,), x.type.dtype)
        return b.mul(x, x), b.permute(x, axes=(1, 0)), b.cat(x, flipped, axis=0), twos

    for dtype in ("float16", "complex64", "complex128"):
        run = checked(body, normal(4, 5).astype(dtype), tolerance=1e-2)
        assert run.reference_ops == ()


# -- errors -----------------------------------------------------------------------------------
def test_an_index_out_of_range_raises_and_changes_nothing() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (5, 3)))
    i = b.input("i", TensorType(I64, (4,)))
    b.loc = Location("user.py", 12)
    body = b.graph([x, i], [b.exp(b.take(x, i, axis=0)), b.exp(x)])
    run = compile_run(one_region(body))
    array = normal(5, 3)
    agree(run, body, [array, np.array([0, -5, 4, 2])])
    with pytest.raises(IndexOutOfRangeError, match="7") as caught:
        run([array, np.array([0, 1, 7, 2])])
    assert caught.value.loc == Location("user.py", 12)
    np.testing.assert_array_equal(array, normal(5, 3))
    agree(run, body, [array, np.array([1, 1, 1, 1])])


def test_a_failed_check_names_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the reference, in higher precision, finds the index in range."""
    monkeypatch.setattr(program, "run_graph", lambda graph, arrays: [])
    b = Builder()
    x = b.input("x", TensorType(F32, (5,)))
    i = b.input("i", TensorType(I64, (4,)))
    first = b.check_index(i, size=9, what="first")
    b.loc = Location("user.py", 7)
    second = b.check_index(b.mul(i, 2), size=4, what="second")
    total = b.add(b.sum(b.exp(x)), b.sum(b.add(b.cast(first, F32), b.cast(second, F32))))
    run = compile_run(one_region(b.graph([x, i], [total])))
    with pytest.raises(IndexOutOfRangeError, match=r"second: .*index.* out of range") as caught:
        run([normal(5), np.array([0, 1, 1, 3])])
    assert caught.value.loc == Location("user.py", 7)


def test_gathers_and_scatters() -> None:
    rng = np.random.default_rng(0)
    table, index = normal(10, 4), rng.integers(-10, 10, (2, 3))
    checked(lambda b, t, i: b.mul(b.take(t, i, axis=0), 2.0), table, index)
    checked(lambda b, t, i: b.take(b.exp(t), i, axis=1), normal(3, 10), index)
    places = rng.integers(0, 10, (7, 4))
    checked(lambda b, t, i: b.gather(b.exp(t), i, axis=0), table, places)
    checked(lambda b, t, i, v: b.scatter_add(t, i, b.exp(v), axis=0), table, places, normal(7, 4))
    rows = np.array([1, 1, 9, 0, 1])
    checked(lambda b, t, i, v: b.index_add(t, i, v, axis=0), table, rows, normal(5, 4))


# -- the program --------------------------------------------------------------------------------
def test_a_parsed_graph_of_regions() -> None:
    text = """graph(%x: f32[3,4], %w: f32[4,5]) {
      %0 = region(%x, %w, body=graph(%a: f32[3,4], %b: f32[4,5]) {
        %0 = matmul(%a, %b) : f32[3,5]
        return %0
      }, name="r0", target="pure", reason="") : (f32[3,5],)
      %1 = output(%0, index=0) : f32[3,5]
      %2 = region(%1, body=graph(%c: f32[3,5]) {
        %0 = softmax(%c, axis=1) : f32[3,5]
        %1 = tanh(%c) : f32[3,5]
        return %0, %1
      }, name="r1", target="pure", reason="") : (f32[3,5], f32[3,5],)
      %3 = output(%2, index=0) : f32[3,5]
      %4 = output(%2, index=1) : f32[3,5]
      return %3, %4, %1
    }"""
    graph = parse(text)
    run = compile_run(graph)
    agree(run, graph, [normal(3, 4), normal(4, 5)])
    assert run.native_calls == 1
    assert [k.region for k in run.kernels] == ["r0"] + ["r1"] * (len(run.kernels) - 1)


def test_what_kernels_show() -> None:
    run = checked(lambda b, x: b.softmax(b.matmul(x, x), axis=1), normal(4, 4))
    product, loop = run.kernels
    assert "[4, 4] @ [4, 4]" in product.text and loop.text.startswith("nest [")
    for kernel in run.kernels:
        assert f"define i64 @{kernel.name}" in kernel.ir()
    assert "ret" in loop.assembly()


def test_arrays_of_an_unknown_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NumPy's struct is not as expected, pointers come through its interface."""
    monkeypatch.setattr(entry, "_layout_holds", lambda: False)
    entry._entry.cache_clear()
    try:
        checked(lambda b, x: b.softmax(b.matmul(x, x), axis=0), normal(6, 6))
        assert entry._entry()[0] is None
    finally:
        entry._entry.cache_clear()


def test_concurrent_callers() -> None:
    def body(b: Builder, x: Node) -> Node:
        return b.sum(b.softmax(b.matmul(x, b.permute(x, axes=(1, 0))), axis=1), axis=0)

    graph = graph_of(body, normal(16, 16))
    run = compile_run(one_region(graph))
    failures: list[str] = []

    def work(seed: int) -> None:
        x = normal(16, 16, seed=seed)
        want = run_graph(graph, [x])[0]
        for _ in range(200):
            if not np.allclose(run([x])[0], want, rtol=1e-4, atol=1e-5):
                failures.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_very_long_chain() -> None:
    """50,000 ops become equal kernels, compiled once."""
    b = Builder()
    first = x = b.input("x", TensorType(F32, (8,)))
    y = b.input("y", TensorType(F32, (8,)))
    for _ in range(25_000):
        x = b.add(b.mul(x, 0.5), y)
    body = b.graph([first, y], [x])
    before = KERNELS.compiles
    run = compile_run(one_region(body))
    assert len(run.kernels) > 100 and KERNELS.compiles - before <= 4
    arrays = [normal(8), normal(8, seed=1)]
    np.testing.assert_allclose(run(arrays)[0], 2 * arrays[1], rtol=1e-5)
