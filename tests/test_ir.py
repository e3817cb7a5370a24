"""The IR: dtypes and promotion, interning, graphs, the text form, the verifier."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import networkx
import numpy as np
import pytest

from accel.errors import (
    ArgumentError,
    DTypeError,
    GraphParseError,
    ShapeError,
    UnsupportedDTypeError,
    VerificationError,
)  # fmt: skip
from accel.ir import Builder, Graph, Literal, Node, TensorType, dtypes, get_op, parse, verify
from accel.ir.types import broadcast_shapes, contiguous_strides

F32 = dtypes.float32


def small_graph() -> Graph:
    b = Builder()
    x = b.input("x", TensorType(F32, (3, 4)))
    a = b.input("a", TensorType(F32, (4,)))
    return b.graph([x, a], [b.sum(b.exp(b.mul(x, a)), axis=(1,)), a])


def test_dataclasses_are_as_the_standard_librarys() -> None:
    from accel.ir.dataclass import dataclass as ours

    def made(dataclass: Any) -> Any:
        @dataclass(frozen=True)
        class Pair:
            first: int
            second: tuple[int, ...] = ()
            kept: dict[str, int] = dataclasses.field(
                default_factory=dict, compare=False, repr=False
            )

        return Pair

    for kind in (made(dataclasses.dataclass), made(ours)):
        pair = kind(1, (2,))
        assert pair == kind(1, second=(2,)) != kind(2, (2,)) and hash(pair) == hash((1, (2,)))
        assert pair != (1, (2,)) and pair != made(ours)(1, (2,))
        pair.kept["seen"] = 1
        assert {pair: 1}[kind(1, (2,))] == 1 and kind(1).kept == {}
        assert repr(pair).endswith("Pair(first=1, second=(2,))")
        assert dataclasses.replace(pair, first=3) == kind(3, (2,))
        assert [f.name for f in dataclasses.fields(pair)] == ["first", "second", "kept"]
    plain = ours(eq=False)(type("Plain", (), {"__annotations__": {"x": int}}))
    assert plain(1) != plain(1) and len({plain(1), plain(1)}) == 2


def test_nodes_are_compared_by_identity() -> None:
    graph = small_graph()
    twin = Node(*graph.nodes[-1])
    assert twin != graph.nodes[-1] and len({twin, *graph.nodes}) == len(graph.nodes) + 1
    assert hash(twin) != hash(graph.nodes[-1]) and twin not in graph.nodes
    with pytest.raises(TypeError):
        sorted([twin, graph.nodes[-1]])


# -- dtypes -------------------------------------------------------------------------------
STANDARD = {  # the Array API standard's table, mixed kinds as torch has them
    ("int8", "uint8"): "int16", ("int8", "uint16"): "int32", ("int8", "uint32"): "int64",
    ("int64", "uint32"): "int64", ("float32", "float64"): "float64",
    ("float16", "bfloat16"): "float32", ("int64", "float16"): "float16",
    ("bool", "uint8"): "uint8", ("complex64", "float64"): "complex128",
    ("complex64", "float32"): "complex64", ("uint8", "uint64"): "uint64",
}  # fmt: skip


@pytest.mark.parametrize(("pair", "expected"), STANDARD.items())
def test_promotion_follows_the_table(pair: tuple[str, str], expected: str) -> None:
    a, b = map(dtypes.to_dtype, pair)
    assert dtypes.promote(a, b).name == expected
    assert dtypes.promote(b, a).name == expected


def test_promotion_is_symmetric_and_idempotent() -> None:
    for a, b in itertools.product(dtypes.ALL, repeat=2):
        try:
            found = dtypes.promote(a, b)
        except DTypeError:
            assert {a.kind, b.kind} == {"i", "u"} and dtypes.uint64 in (a, b)
            continue
        assert found is dtypes.promote(b, a)
        assert dtypes.promote(found, a) is found and dtypes.promote(found, b) is found


def test_weak_scalars_keep_the_arrays_dtype() -> None:
    assert dtypes.promote_weak(dtypes.float16, "f") is dtypes.float16
    assert dtypes.promote_weak(dtypes.int8, "i") is dtypes.int8
    assert dtypes.promote_weak(dtypes.int64, "f") is F32
    assert dtypes.promote_weak(dtypes.float64, "c") is dtypes.complex128


@pytest.mark.parametrize("bad", ["object", "datetime64[ns]", "U3", None, "float80"])
def test_unknown_dtypes_raise(bad: object) -> None:
    with pytest.raises(UnsupportedDTypeError, match="use one of"):
        dtypes.to_dtype(bad)


def test_byte_order_is_no_part_of_a_dtype() -> None:
    assert dtypes.to_dtype(np.dtype(">f4")) is F32


# -- shapes -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "shapes", [[(3, 1), (4,)], [(), (2, 0)], [(1,), (0,)], [(2, 1, 3), (5, 1)]]
)
def test_broadcasting_is_numpys(shapes: list[tuple[int, ...]]) -> None:
    assert broadcast_shapes(shapes) == np.broadcast_shapes(*shapes)


def test_shapes_that_do_not_broadcast_raise() -> None:
    with pytest.raises(ShapeError, match=r"\[3\] and \[4\] do not broadcast"):
        broadcast_shapes([(3,), (4,)])


def test_contiguous_strides_are_numpys() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    assert contiguous_strides(array.shape) == tuple(s // 4 for s in array.strides)


# -- nodes --------------------------------------------------------------------------------
def test_equal_nodes_are_one_object() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3,)))
    assert b.add(x, 1.0) is b.add(x, 1.0)
    assert b.sum(x, axis=0) is b.sum(x, axis=(-1,))


def test_inputs_of_one_name_and_type_stay_apart() -> None:
    b = Builder()
    x, y = (b.input("bias", TensorType(F32, (3,))) for _ in range(2))
    graph = b.graph([x, y], [b.sub(x, y)])
    assert x is not y and len(graph.nodes) == 3
    assert parse(str(graph)) == graph and "%bias.2" in str(graph)


def test_constants_intern_by_bits_and_dtype() -> None:
    b = Builder()
    different = [b.constant(v, d) for v, d in (
        (0.0, F32), (-0.0, F32), (0.0, dtypes.float64), (1, dtypes.int64), (True, dtypes.bool_),
        (1.0, F32), (float("nan"), F32),
    )]  # fmt: skip
    assert len(set(different)) == len(different)
    assert b.constant(float("nan"), F32) is different[-1]
    assert b.constant(0.1, F32) is b.constant(float(np.float32(0.1)), F32)
    assert b.constant(-1, dtypes.uint8) is b.constant(255, dtypes.uint8)


def test_literals_are_copies() -> None:
    array = np.arange(3)
    literal = Literal(array)
    array[0] = 7
    assert literal.array[0] == 0 and not literal.array.flags.writeable


def test_nodes_cannot_be_changed() -> None:
    node = small_graph().nodes[-1]
    with pytest.raises(AttributeError):
        node.type = TensorType(F32)  # type: ignore[misc]


def test_wrong_arguments_name_the_right_ones() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3,)))
    with pytest.raises(ArgumentError, match="sum has no argument axes"):
        b.sum(x, axes=0)
    with pytest.raises(ArgumentError, match="did you mean 'relu'"):
        b.apply("relru", x)
    with pytest.raises(ArgumentError, match="add takes 2 operands, got 1"):
        b.add(x)


# -- graphs -------------------------------------------------------------------------------
def test_graphs_compare_by_structure_not_by_names_or_lines() -> None:
    b = Builder()
    y = b.input("other", TensorType(F32, (3, 4)))
    a = b.input("names", TensorType(F32, (4,)))
    same = b.graph([y, a], [b.sum(b.exp(b.mul(y, a)), axis=(1,)), a])
    assert same == small_graph() and hash(same) == hash(small_graph())
    assert same != b.graph([y, a], [a, b.sum(b.exp(b.mul(y, a)), axis=(1,))])


def test_users_and_ancestors() -> None:
    graph = small_graph()
    x, a = graph.inputs
    mul = graph.users[x][0]
    assert graph.users[a] == (mul,)
    last = graph.ancestors[graph.index[graph.outputs[0]]]
    assert all(last >> graph.index[n] & 1 for n in (x, a, mul))


def test_networkx_sees_the_same_graph() -> None:
    graph = small_graph()
    drawn = graph.to_networkx()
    assert networkx.is_directed_acyclic_graph(drawn)
    assert [drawn.nodes[i]["op"] for i in sorted(drawn)] == [n.op.name for n in graph.nodes]
    for i, bits in enumerate(graph.ancestors):
        assert networkx.ancestors(drawn, i) == {j for j in range(i) if bits >> j & 1}


def test_a_very_long_chain_is_no_problem() -> None:
    b = Builder()
    x = y = b.input("x", TensorType(F32, (2,)))
    for _ in range(100_000):
        y = b.sin(y)
    graph = b.graph([x], [y])
    assert len(graph) == 100_001 and hash(graph) == hash(b.graph([x], [y]))
    verify(graph)


# -- text ---------------------------------------------------------------------------------
def test_text_reads_back() -> None:
    b = Builder()
    x = b.input("strange name!", TensorType(F32, (3,)))
    nodes = [
        b.constant(v, d) for v, d in (
            (float("nan"), F32), (float("-inf"), F32), (-0.0, F32), (1e-45, F32),
            (True, dtypes.bool_), (-5, dtypes.int8), (1 + 2j, dtypes.complex64),
            (0.1, dtypes.float64),
        )
    ]  # fmt: skip
    nodes.append(b.constant(np.array([[1.5, np.nan], [np.inf, -0.0]], np.float32)))
    nodes.append(b.cast(b.input("w", TensorType(dtypes.float64, (), weak=True)), F32))
    graph = b.graph([x, nodes[-1].inputs[0]], nodes)
    assert parse(str(graph)) == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'graph'"),
        ("graph(%x: f32[2]) { return %y }", "%y is not defined above"),
        ("graph(%x: f99[2]) { return %x }", "'f99' is no dtype"),
        ("graph(%x: f32[2]) { %0 = exp(%x) : f64[2] return %0 }", "infers to f32"),
        ("graph(%x: f32[2]) { %0 = exq(%x) : f32[2] return %0 }", "no op named 'exq'"),
        ("graph(%x: f32[2]) { return %x } more", "behind the graph"),
        ("graph(%x: f32[2]) { ? }", "unexpected character"),
        ("graph(%x: f32[2]) { %0 = add(%x) : f32[2] return", "line 1"),
    ],
)
def test_wrong_text_says_where(text: str, message: str) -> None:
    with pytest.raises(GraphParseError, match=message):
        parse(text)


# -- verifier -----------------------------------------------------------------------------
def test_verifier_accepts_what_the_builder_makes() -> None:
    verify(small_graph())


def test_verifier_finds_a_wrong_type() -> None:
    graph = small_graph()
    node = graph.nodes[-1]
    wrong = Node(node.op, node.inputs, node.attrs, TensorType(dtypes.float64, (3,)))
    broken = Graph(graph.inputs, [wrong], [*graph.nodes[:-1], wrong])
    with pytest.raises(VerificationError, match="the type rule says f32"):
        verify(broken)


def test_verifier_finds_a_wrong_order() -> None:
    graph = small_graph()
    nodes = [*graph.inputs, *reversed(graph.nodes[2:])]
    with pytest.raises(VerificationError, match="behind its user"):
        verify(Graph(graph.inputs, graph.outputs, nodes))


def test_verifier_finds_a_node_outside_regions_when_fused() -> None:
    with pytest.raises(VerificationError, match="outside of every region"):
        verify(small_graph(), "fused")


def test_registry_refuses_a_second_declaration() -> None:
    from accel.ir import register

    with pytest.raises(ValueError, match="declared twice"):
        register(get_op("add"))
