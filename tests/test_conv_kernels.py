"""The native convolutions against the reference, on every x86 level.

The tests named test_core_* also run in one subprocess per instruction-set level.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.node import Node
from accel.ir.op import get_op
from accel.ir.types import TensorType
from accel.targets.pure import PureRun, compile_run
from accel.targets.pure.conv import conv
from accel.targets.pure.conv import weight as conv_weight
from accel.targets.pure.gemm.spec import MatmulSpec
from accel.targets.pure.machine import jit

Array = np.ndarray
FORWARD, INPUT, WEIGHT = (
    "convolution", "convolution_input_gradient", "convolution_weight_gradient",
)  # fmt: skip


# -- helpers --------------------------------------------------------------------------------
def run_of(body: Callable[..., Node], *arrays: Array) -> PureRun:
    """`body(builder, *inputs)` compiled as the only region of a run."""
    b = Builder()
    types = [TensorType(dtypes.to_dtype(a.dtype), a.shape) for a in arrays]
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    graph = b.graph(inputs, [body(b, *inputs)])
    b = Builder()
    outer = tuple([b.input(n.attrs["name"], n.type) for n in graph.inputs])
    attrs = {"body": graph, "name": "r0", "target": "pure", "reason": ""}
    region = b.node(get_op("region"), outer, attrs)
    whole: Graph = b.graph(outer, [b.node(get_op("output"), (region,), {"index": 0})])
    return compile_run(whole)


def rounded(want: Array, name: str, arrays: Sequence[Array], attrs: dict[str, Any]) -> Array:
    """The op's declared bound of the error of the result."""
    zeros = [np.zeros(a.shape) for a in arrays]
    bound = get_op(name).error(arrays, zeros, want.astype(arrays[0].dtype), attrs)
    return np.asarray(bound)


def check(name: str, arrays: Sequence[Array], attrs: dict[str, Any]) -> PureRun:
    """The native result agrees with the reference in float64 within the op's bound."""
    run = run_of(lambda b, x, y: getattr(b, name)(x, y, **attrs), *arrays)
    assert not run.reference_ops
    (got,) = run(arrays)
    node_attrs = run_attrs(name, arrays, attrs)
    want = get_op(name).reference(*[a.astype(np.float64) for a in arrays], **node_attrs)
    assert got.dtype == arrays[0].dtype and got.shape == want.shape
    bound = rounded(want, name, arrays, node_attrs)
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
    agree = (error <= bound) | (got == want) | (np.isnan(got) & np.isnan(want))
    assert agree.all(), (error / bound)[~agree]
    return run


def run_attrs(name: str, arrays: Sequence[Array], attrs: dict[str, Any]) -> dict[str, Any]:
    """The attributes in canonical form."""
    b = Builder()
    inputs = [
        b.input(f"x{i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
        for i, a in enumerate(arrays)
    ]
    return dict(getattr(b, name)(*inputs, **attrs).attrs)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def operands(
    name: str, x: Array, weight: Array, attrs: dict[str, Any]
) -> tuple[list[Array], dict[str, Any]]:
    """The operands and attributes of one of the three ops for an image and a weight."""
    if name == FORWARD:
        return [x, weight], attrs
    shape = get_op(FORWARD).reference(
        x.astype(np.float64), weight.astype(np.float64), **run_attrs(FORWARD, [x, weight], attrs)
    ).shape
    g = normal(*shape, seed=2, dtype=x.dtype)
    if name == INPUT:
        return [g, weight], {**attrs, "shape": x.shape[2:]}
    return [x, g], {**attrs, "kernel": weight.shape[2:]}


OPS = (FORWARD, INPUT, WEIGHT)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """An image, a weight and attributes that fit."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs = draw(st.sampled_from([0, 1, 2, 3, 5, 16]))
    outputs = draw(st.sampled_from([0, 1, 2, 3, 7, 8, 9, 17]))
    batch = draw(st.sampled_from([0, 1, 1, 2, 3]))
    kernel, stride, dilation, padding, extents = [], [], [], [], []
    for _ in range(rank):
        kernel.append(draw(st.sampled_from([1, 2, 3, 5])))
        stride.append(draw(st.sampled_from([1, 1, 2, 3])))
        dilation.append(draw(st.sampled_from([1, 1, 2])))
        padding.append((draw(st.integers(0, 2)), draw(st.integers(0, 3))))
        least = max(1, dilation[-1] * (kernel[-1] - 1) + 1 - sum(padding[-1]))
        sizes = [1, 4, 7, 9, 16, 33] if rank > 1 else [20, 100, 700]
        extents.append(max(least, draw(st.sampled_from(sizes))))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    seed = draw(st.integers(0, 9))
    x = normal(batch, groups * inputs, *extents, seed=seed, dtype=dtype)
    weight = normal(groups * outputs, inputs, *kernel, seed=seed + 1, dtype=dtype)
    attrs = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation),
             "groups": groups}  # fmt: skip
    return x, weight, attrs


# -- the result -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPS)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_core_every_attribute(name: str, case: tuple[Array, Array, dict[str, Any]]) -> None:
    arrays, attrs = operands(name, *case)
    check(name, arrays, attrs)


# Few products an element, rows of many vectors: summed in registers where there are enough.
STRIPS: list[Any] = [
    ((2, 3, 21, 224), (16, 3, 3, 3), {"padding": 1}),
    ((1, 3, 61, 220), (8, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 9, 81), (8, 3, 3, 3), {"padding": 1}),
    ((2, 4, 7, 1100), (32, 2, 3, 3), {"padding": 1, "groups": 2}),
    ((1, 2, 15885), (8, 2, 3), {"padding": 1}),
    ((1, 2, 4, 6, 75), (16, 2, 3, 1, 3), {"padding": (1, 0, 1), "dilation": (1, 1, 2)}),
    ((1, 8, 9, 64), (8, 8, 1, 1), {}),
]  # fmt: skip

LARGE = [
    ((1, 64, 20, 20), (70, 64, 3, 3), {"padding": 1}),
    ((1, 3, 70, 66), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 24, 31, 29), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    ((2, 24, 31, 29), (24, 1, 3, 3), {"padding": 1, "groups": 24, "stride": 2}),
    ((2, 6, 31, 70), (18, 1, 3, 2), {"padding": (1, 2), "groups": 6, "stride": (2, 1)}),
    ((1, 5, 20, 17), (5, 1, 5, 5), {"padding": 4, "groups": 5, "dilation": 2}),
    ((2, 7, 150), (7, 1, 4), {"padding": ((3, 0),), "groups": 7}),
    ((2, 40, 9, 9), (48, 40, 1, 1), {}),
    ((1, 40, 9, 9), (48, 40, 1, 1), {"stride": 2}),
    ((1, 300, 7, 7), (30, 300, 3, 3), {"padding": 1}),
    ((1, 3, 5000), (9, 3, 9), {"padding": 4}),
    ((1, 200, 3000), (9, 200, 3), {"padding": 1, "dilation": 4}),
    ((1, 5, 6, 33, 35), (9, 5, 3, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
    ((1, 33, 32, 32), (16, 33, 1, 1), {}),
    ((1, 3, 40, 131), (6, 1, 5, 5), {"padding": 2, "groups": 3, "stride": 2}),
    ((2, 4, 9, 70), (4, 1, 3, 4), {"padding": 1, "groups": 4, "stride": (1, 2)}),
    ((1, 4, 9, 33), (4, 1, 3, 3), {"groups": 4, "stride": 2, "dilation": 2}),
    ((2, 5, 13, 64), (11, 5, 3, 3), {"padding": 1}),
    ((1, 64, 51, 32), (9, 64, 3, 3), {"padding": 1}),
    ((3, 4, 7, 32), (8, 4, 3, 3), {"padding": 1, "stride": (1, 2)}),
    ((1, 6, 5, 9, 16), (10, 3, 2, 3, 3), {"padding": 1, "groups": 2}),
    ((1, 2, 1, 1500), (3, 2, 1, 5), {"padding": ((0, 0), (2, 2))}),
    *STRIPS,
]  # fmt: skip


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape, kernel, attrs", LARGE, ids=lambda v: str(v)[:40])
def test_core_large(name: str, shape: Any, kernel: Any, attrs: dict[str, Any]) -> None:
    check(name, *operands(name, normal(*shape), normal(*kernel, seed=1), attrs))


@pytest.mark.parametrize("name", OPS)
def test_core_nan_and_infinity(name: str) -> None:
    """They reach exactly the elements that they reach in the reference."""
    x, weight = normal(2, 3, 18, 17), normal(9, 3, 3, 3, seed=1)
    arrays, attrs = operands(name, x, weight, {"padding": 1, "stride": (1, 2)})
    for value in (np.nan, np.inf, -np.inf):
        for which in (0, 1):
            spoiled = [a.copy() for a in arrays]
            spoiled[which].reshape(-1)[[0, 40, -1]] = value
            check(name, spoiled, attrs)


@pytest.mark.parametrize("name", OPS)
def test_operands_of_any_strides(name: str) -> None:
    """Transposed, sliced, flipped and broadcast operands."""
    x, weight = normal(2, 6, 20, 19), normal(5, 6, 3, 3, seed=1)
    arrays, attrs = operands(name, x, weight, {"padding": 1, "stride": (2, 1)})
    plain = run_of(lambda b, x, y: getattr(b, name)(x, y, **attrs), *arrays)(arrays)[0]

    def body(b: Builder, x: Node, y: Node) -> Node:
        x = b.permute(x, axes=(0, 3, 1, 2))
        y = b.flip(b.permute(y, axes=(3, 2, 1, 0)), axis=(0,))
        return getattr(b, name)(x, y, **attrs)

    moved = [
        np.ascontiguousarray(arrays[0].transpose(0, 2, 3, 1)),
        np.ascontiguousarray(arrays[1][::-1].transpose(3, 2, 1, 0)),
    ]
    run = run_of(body, *moved)
    # only the gradient of a result is read as vectors, and so must have consecutive columns
    assert len(run.kernels) == 1 + (name == WEIGHT)
    np.testing.assert_array_equal(run(moved)[0], plain)


# -- what is written with it ----------------------------------------------------------------
@pytest.mark.parametrize("attrs", [{"padding": 1}, {"padding": 1, "stride": 2}], ids=str)
@pytest.mark.parametrize("name", (FORWARD, INPUT))
def test_core_epilogue_is_one_kernel(name: str, attrs: dict[str, Any]) -> None:
    """Bias, a norm's scale and shift, a residual and relu are written in the store."""
    x, weight = normal(2, 6, 21, 18), normal(6, 6, 3, 3, seed=1)
    arrays, attrs = operands(name, x, weight, attrs)
    want = run_of(lambda b, x, y: getattr(b, name)(x, y, **attrs), *arrays)(arrays)[0]
    scale, shift = normal(6, 1, 1, seed=3), normal(6, 1, 1, seed=4)
    residual = normal(*want.shape, seed=5)

    def body(b: Builder, x: Node, y: Node, scale: Node, shift: Node, residual: Node) -> Node:
        z = b.add(b.mul(getattr(b, name)(x, y, **attrs), scale), shift)
        return b.mul(b.relu(b.add(z, residual)), 0.5)

    everything = [*arrays, scale, shift, residual]
    run = run_of(body, *everything)
    assert [k.kind for k in run.kernels] == ["conv"]
    expected = np.maximum(want * scale + shift + residual, np.float32(0)) * np.float32(0.5)
    np.testing.assert_array_equal(run(everything)[0], expected)


def test_core_depthwise_epilogue() -> None:
    x, weight = normal(2, 5, 19, 37), normal(10, 1, 3, 3, seed=1)
    shift, attrs = normal(10, 1, 1, seed=2), {"padding": 1, "groups": 5}
    plain = check(FORWARD, [x, weight], attrs)([x, weight])[0]
    run = run_of(
        lambda b, x, y, z: b.relu(b.add(b.convolution(x, y, **attrs), z)), x, weight, shift
    )
    assert [k.kind for k in run.kernels] == ["conv"]
    np.testing.assert_array_equal(run([x, weight, shift])[0], np.maximum(plain + shift, 0))


@pytest.mark.parametrize("shape, kernel, attrs", STRIPS, ids=lambda v: str(v)[:40])
def test_core_strips_with_an_epilogue(shape: Any, kernel: Any, attrs: dict[str, Any]) -> None:
    """A residual among the operands, a result of another dtype."""
    for dtype in (np.float32, np.float64):
        x, weight = normal(*shape, dtype=dtype), normal(*kernel, seed=1, dtype=dtype)
        plain = check(FORWARD, [x, weight], attrs)([x, weight])[0]
        residual = normal(*plain.shape, seed=2, dtype=dtype)

        def body(b: Builder, x: Node, y: Node, residual: Node) -> Node:
            return b.gt(b.add(b.convolution(x, y, **attrs), residual), 0.5)

        arrays = [x, weight, residual]
        run = run_of(body, *arrays)
        assert [k.kind for k in run.kernels] == ["conv"]
        assert ("llvm.fma" in run.kernels[0].ir()) == jit.host_machine().has_masks
        np.testing.assert_array_equal(run(arrays)[0], plain + residual > 0.5)


@pytest.mark.parametrize("columns", [512, 504])
def test_core_large_results_pass_by_the_caches(columns: int) -> None:
    """Where all rows are whole lines."""
    x, weight = normal(1, 2, 260, columns), normal(16, 2, 3, 3, seed=1)
    run = check(FORWARD, [x, weight], {"padding": 1})
    streamed = jit.host_machine().has_masks and columns % 16 == 0
    assert ("!nontemporal" in run.kernels[0].ir()) == streamed
    assert ("fence" in run.kernels[0].ir()) == streamed


def pooled(image: Array) -> Array:
    """The greatest of each 2 x 2 places."""
    h, w = (n // 2 * 2 for n in image.shape[2:])
    taps = [image[:, :, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(np.maximum, taps)


@pytest.mark.parametrize(
    "shape, kernel, attrs", [
        ((2, 3, 32, 32), (16, 3, 3, 3), {"padding": 1}),
        ((1, 16, 16, 16), (32, 16, 3, 3), {"padding": 1}),
        ((3, 5, 9, 11), (7, 5, 3, 3), {}),
        ((1, 4, 41, 301), (9, 4, 1, 1), {}),
        ((1, 8, 33, 70), (8, 4, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
        ((2, 6, 31, 131), (12, 1, 3, 3), {"padding": 1, "groups": 6}),
        ((2, 3, 6, 6), (2, 3, 3, 2), {}),
        ((1, 64, 56, 56), (16, 64, 3, 3), {"padding": 1}),
    ], ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_core_pool_is_part_of_the_convolution(
    shape: Any, kernel: Any, attrs: dict[str, Any], dtype: Any
) -> None:
    """Bit for bit what pooling the stored result gives, NaN and infinities included."""
    x, weight = normal(*shape, dtype=dtype), normal(*kernel, seed=1, dtype=dtype)
    x[0, 0, 1, 1], x[-1, -1, -1, 0] = np.nan, np.inf
    plain = run_of(lambda b, x, y: b.convolution(x, y, **attrs), x, weight)([x, weight])[0]
    residual = normal(*plain.shape, seed=2, dtype=dtype)
    shift = normal(kernel[0], 1, 1, seed=3, dtype=dtype)

    def body(b: Builder, x: Node, y: Node, *more: Node) -> Node:
        z = functools.reduce(b.add, more, b.convolution(x, y, **attrs))
        return b.max_pool(z, kernel=2)

    for more in ((), (shift,), (shift, residual)):
        arrays = [x, weight, *more]
        run = run_of(body, *arrays)
        assert [k.kind for k in run.kernels] == ["conv"]
        np.testing.assert_array_equal(run(arrays)[0], pooled(sum(more, start=plain)))


def test_what_else_is_read_is_stored() -> None:
    """A result that somebody else needs, and other windows, are pooled by a kernel."""
    x, weight = normal(1, 3, 12, 12), normal(4, 3, 3, 3, seed=1)

    def twice(b: Builder, x: Node, y: Node) -> Node:
        z = b.convolution(x, y)
        return b.add(b.max_pool(z, kernel=2), b.slice(z, start=(0, 0, 0, 0), stop=(1, 4, 5, 5),
                                                      step=(1, 1, 1, 1)))  # fmt: skip

    plain = run_of(lambda b, x, y: b.convolution(x, y), x, weight)([x, weight])[0]
    run = run_of(twice, x, weight)
    assert [k.kind for k in run.kernels] == ["conv", "loop"]
    np.testing.assert_array_equal(run([x, weight])[0], pooled(plain) + plain[:, :, :5, :5])
    for attrs in ({"kernel": 2, "stride": 1}, {"kernel": 3, "stride": 2}, {"kernel": (1, 4)}):
        run = run_of(lambda b, x, y, a=attrs: b.max_pool(b.convolution(x, y), **a), x, weight)
        assert "loop" in [k.kind for k in run.kernels]
        run_attributes = run_attrs("max_pool", [plain], attrs)
        np.testing.assert_array_equal(
            run([x, weight])[0], get_op("max_pool").reference(plain, **run_attributes)
        )


def test_a_result_of_another_dtype() -> None:
    x, weight = normal(1, 3, 9, 20), normal(4, 3, 3, 3, seed=1)
    run = run_of(lambda b, x, y: b.gt(b.convolution(x, y), 0.0), x, weight)
    plain = run_of(lambda b, x, y: b.convolution(x, y), x, weight)([x, weight])[0]
    assert [k.kind for k in run.kernels] == ["conv"]
    np.testing.assert_array_equal(run([x, weight])[0], plain > 0)


# -- threads and memory ---------------------------------------------------------------------
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape, kernel, attrs", [*LARGE[:9], *STRIPS], ids=lambda v: str(v)[:40])
def test_the_same_bits_at_every_thread_count(
    name: str, shape: Any, kernel: Any, attrs: dict[str, Any]
) -> None:
    arrays, attrs = operands(name, normal(*shape), normal(*kernel, seed=1), attrs)
    run = run_of(lambda b, x, y: getattr(b, name)(x, y, **attrs), *arrays)
    before = accel.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            accel.set_num_threads(count)
            results.append(run(arrays)[0])
    finally:
        accel.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_nothing_is_read_outside() -> None:
    """Operands at the very end of memory that may be touched."""
    page = mmap.PAGESIZE
    x, weight = normal(1, 4, 11, 13), normal(5, 4, 3, 3, seed=1)
    cases: list[dict[str, Any]] = [{}, {"padding": 1}, {"stride": 2, "padding": 1}]
    for groups, held in (
        (1, [normal(1, 3, 11, 61), normal(8, 3, 3, 3, seed=1)]),
        (4, [normal(1, 4, 11, 41), normal(4, 1, 3, 3, seed=1)]),
    ):
        run = run_of(lambda b, x, y, n=groups: b.convolution(x, y, padding=1, groups=n), *held)
        ends = [Guarded(page, a).array for a in held]
        np.testing.assert_array_equal(run(ends)[0], run(held)[0])
    for attrs in cases:
        own = {**attrs, "groups": 4}
        run = run_of(lambda b, x, y, a=own: b.convolution(x, y, **a), x, weight[:4, :1])
        held = [x, np.ascontiguousarray(weight[:4, :1])]
        ends = [Guarded(page, a).array for a in held]
        np.testing.assert_array_equal(run(ends)[0], run(held)[0])
        run = run_of(lambda b, x, y, attrs=attrs: b.convolution(x, y, **attrs), x, weight)
        want = run([x, weight])[0]
        ends = [Guarded(page, a).array for a in (x, weight)]
        np.testing.assert_array_equal(run(ends)[0], want)
        for name in (INPUT, WEIGHT):
            arrays, full = operands(name, x, weight, attrs)
            run = run_of(lambda b, x, y, n=name, a=full: getattr(b, n)(x, y, **a), *arrays)
            ends = [Guarded(page, a).array for a in arrays]
            np.testing.assert_array_equal(run(ends)[0], run(arrays)[0])


class Guarded:
    """A copy of an array that ends where the process may read no further."""

    def __init__(self, page: int, x: Array) -> None:
        pages = -(-x.nbytes // page) + 1
        self.memory = mmap.mmap(-1, pages * page)
        whole = np.frombuffer(self.memory, np.uint8)
        end = whole.ctypes.data + (pages - 1) * page
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(end, page, 0) == 0
        start = (pages - 1) * page - x.nbytes
        self.array = whole[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        self.array[...] = x


# -- compiling ------------------------------------------------------------------------------
def test_another_shape_needs_no_other_code() -> None:
    """Kernel size, stride, padding and groups are in the tables."""
    weight = normal(8, 4, 3, 3)
    first = run_of(lambda b, x, y: b.convolution(x, y), normal(1, 4, 9, 9), weight)
    others: list[Any] = [
        ((2, 4, 30, 17), (5, 4, 5, 2), {"stride": 2}), ((1, 4, 9, 9), (4, 2, 1, 1), {"groups": 2}),
    ]  # fmt: skip
    for shape, kernel, attrs in others:
        run = run_of(
            lambda b, x, y, attrs=attrs: b.convolution(x, y, **attrs), normal(*shape),
            normal(*kernel),
        )  # fmt: skip
        assert run.kernels[0].name == first.kernels[0].name


@pytest.mark.parametrize("element", ["float", "double"])
def test_libraries_compile_for_neon(element: str) -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = jit.Machine("aarch64-unknown-linux-gnu", "cortex-a72", "+neon", 16, True)
    assert "fmla" in jit.assembly(conv.emit_tiles(element, machine), machine)
    spec = MatmulSpec(element, machine, (element,))
    for text in (
        conv.emit_pack(element, machine), conv.emit_finite(element, machine),
        conv.emit_windows(spec), conv_weight.emit_products(element, machine),
        conv_weight.emit_gather(element, machine), conv_weight.emit_turn(element, machine),
    ):  # fmt: skip
        assert jit.assembly(text, machine)


def test_forced_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()
