"""Matrix products of the pure target against NumPy in float64, on every x86 level.

The tests named test_core_* also run in one subprocess per instruction-set level.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import random
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import pytest

import accel
from accel.errors import InternalCompilerError
from accel.targets.pure.gemm import gemm
from accel.targets.pure.gemm.forms import candidates, form_of
from accel.targets.pure.gemm.gemm import Constant, Extra, MatmulSpec, Matrix, Problem
from accel.targets.pure.gemm.spec import HEADER, tile_of
from accel.targets.pure.gemm.tiles import FRAME
from accel.targets.pure.machine import jit
from accel.targets.pure.machine.kernels import KernelCache
from accel.targets.pure.machine.llvm_text import Lanes

EXTENTS = (0, 1, 2, 3, 5, 8, 17, 31, 33, 64, 100, 129)
ELEMENTS = {
    "f4": "float", "f8": "double", "i1": "i8", "i2": "i16", "i4": "i32", "i8": "i64", "b1": "i1",
}  # fmt: skip
CACHE = KernelCache()
CANARY = 0x5A


def element(x: np.ndarray) -> str:
    return ELEMENTS[x.dtype.str[1:]]


def matrix(index: int, x: np.ndarray, batch: tuple[int, ...]) -> Matrix:
    """The place of the array x, broadcast to the batch, whose address is bases[index]."""
    x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    return Matrix(index, 0, x.strides[-2], x.strides[-1], x.strides[:-2])


class Product:
    """A compiled product with everything that it points to."""

    def __init__(
        self,
        a: np.ndarray,
        b: np.ndarray,
        outputs: Sequence[np.ndarray],
        extras: Sequence[tuple[np.ndarray | int, Extra]] = (),
        epilogue: gemm.Epilogue | None = None,
        machine: jit.Machine | None = None,
    ) -> None:
        half = "bfloat" if a.dtype == ml_dtypes.bfloat16 else ""
        self.spec = MatmulSpec(
            "float" if half else element(a), machine or jit.host_machine(),
            tuple(element(c) for c in outputs), tuple(extra for _, extra in extras), half,
        )  # fmt: skip
        batch = outputs[0].shape[:-2]
        self.arrays: list[np.ndarray] = []

        def place(x: np.ndarray | int) -> Matrix | Constant:
            if isinstance(x, int):
                return Constant(x)
            if not any(x is known for known in self.arrays):
                self.arrays.append(x)
            return matrix([x is known for known in self.arrays].index(True), x, batch)

        places = [place(x) for x in (a, b, *outputs, *(x for x, _ in extras))]
        problem = Problem(a.shape[-2], b.shape[-1], a.shape[-1], batch, *places[:2], (), ())
        count = len(outputs)
        self.problem = Problem(
            problem.m, problem.n, problem.k, batch, problem.a, problem.b,
            tuple(places[2 : 2 + count]), tuple(places[2 + count :]),
        )  # fmt: skip
        size = gemm.needs(self.spec, self.problem).scratch_bytes
        self.scratch = np.full(size + 64, CANARY, np.uint8)
        own = (self.spec.element, self.spec.machine)
        sources = [("multiply", gemm.emit_multiply(self.spec, epilogue))]
        for name in gemm.needs(self.spec, self.problem).libraries:
            sources.append((name, gemm.emit_library(name, *own)))
        names = [name for name, _ in sources]
        kernels = dict(zip(names, CACHE.ensure(sources), strict=True))
        addresses = {name: kernel.address for name, kernel in kernels.items()}
        self.steps = gemm.schedule(self.spec, self.problem, addresses, (len(self.arrays), 0))
        self.kernels = [kernels[step.kind] for step in self.steps]
        self.keep = kernels
        self.blocks = [np.array(step.arguments, np.int64) for step in self.steps]
        self.bases = np.array([x.ctypes.data for x in (*self.arrays, self.scratch)], np.int64)

    def run(self, cut: Callable[[int], list[tuple[int, int]]] | None = None) -> None:
        """Run all steps, the items of each in the ranges that `cut` gives."""
        program = [
            (kernel.address, block.ctypes.data, begin, end)
            for kernel, block, step in zip(self.kernels, self.blocks, self.steps, strict=True)
            for begin, end in (cut(step.items) if cut else [(0, step.items)])
        ]
        table = np.array(program, np.int64).reshape(-1, 4)
        assert jit.run_program(self.bases.ctypes.data, table.ctypes.data, len(program)) == 0
        assert (self.scratch[-64:] == CANARY).all(), "written behind the scratch space"


def make(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray:
    """Random numbers of a shape in a memory layout."""
    *batch, rows, columns = shape
    if layout == "transposed":
        return make(rng, (*batch, columns, rows), dtype, "dense").swapaxes(-1, -2)
    if layout == "strided":
        return make(rng, (*batch, 2 * rows, 3 * columns), dtype, "dense")[..., ::2, ::3]
    if layout == "negative":
        return make(rng, shape, dtype, "dense")[..., ::-1, ::-1]
    if layout == "padded":
        return make(rng, (*batch, rows, columns + 3), dtype, "dense")[..., 1 : columns + 1]
    if layout == "broadcast":
        return np.broadcast_to(make(rng, (*batch, rows, 1), dtype, "dense"), shape)
    if dtype.startswith("f"):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(-100, 100, shape).astype(dtype)


def output(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, Callable[[], bool]]:
    """An output with unit columns inside a larger array, and a check of what lies around it."""
    *batch, rows, columns = shape
    whole = np.full((*batch, rows + 2, columns + 5), 77, dtype)
    inner = whole[..., 1 : rows + 1, 2 : columns + 2]

    def untouched() -> bool:
        around = np.ones(whole.shape, bool)
        around[..., 1 : rows + 1, 2 : columns + 2] = False
        return bool((whole[around] == np.array(77).astype(dtype)).all())

    return inner, untouched


def assert_close(c: np.ndarray, a: np.ndarray, b: np.ndarray, context: object) -> None:
    """Within (K + 2) eps |A| |B| of the product in float64 (float128 for float64)."""
    wide = np.float64 if c.dtype == np.float32 else np.longdouble
    exact = a.astype(wide) @ b.astype(wide)
    bound = (a.shape[-1] + 2) * np.finfo(c.dtype).eps * (abs(a.astype(wide)) @ abs(b.astype(wide)))
    assert (abs(c - exact) <= bound).all(), context


def shapes(count: int) -> list[tuple[int, int, int]]:
    """A fixed sample of all triples, every pair of neighbours of 0 and 1 included."""
    chosen = random.Random(1).sample(list(itertools.product(EXTENTS, repeat=3)), count)
    return [*itertools.product((0, 1, 2, 33), repeat=3), *chosen]


LAYOUTS = ("dense", "transposed", "strided", "negative", "padded", "broadcast")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_core_shapes_and_layouts(dtype: str) -> None:
    rng, pick = np.random.default_rng(0), random.Random(2)
    for m, n, k in shapes(120):
        layouts = pick.choice(LAYOUTS), pick.choice(LAYOUTS)
        a = make(rng, (m, k), dtype, layouts[0])
        b = make(rng, (k, n), dtype, layouts[1])
        c, untouched = output((m, n), dtype)
        Product(a, b, [c]).run()
        assert untouched(), (m, n, k, layouts)
        assert_close(c, a, b, (m, n, k, layouts))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_core_every_pair_of_layouts(dtype: str) -> None:
    rng = np.random.default_rng(3)
    for (left, right), (m, n, k) in itertools.product(
        itertools.product(LAYOUTS, repeat=2), [(1, 70, 40), (3, 9, 17), (41, 70, 19), (64, 1, 33)]
    ):
        a, b = make(rng, (m, k), dtype, left), make(rng, (k, n), dtype, right)
        c, untouched = output((m, n), dtype)
        Product(a, b, [c]).run()
        assert untouched()
        assert_close(c, a, b, (m, n, k, left, right))


def test_core_many_blocks_of_k_and_large_leading_dimensions() -> None:
    rng = np.random.default_rng(4)
    for m, n, k in [(5, 40, 1300), (1, 150, 1100), (2, 9, 513), (300, 50, 1025), (40, 1024, 96)]:
        for left, right in itertools.product(("dense", "transposed"), repeat=2):
            a, b = make(rng, (m, k), "f4", left), make(rng, (k, n), "f4", right)
            c, untouched = output((m, n), "f4")
            Product(a, b, [c]).run()
            assert untouched()
            assert_close(c, a, b, (m, n, k, left, right))
            fused, _ = output((m, n), "f4")
            Product(a, b, [fused], epilogue=lambda lanes, value, load: [value]).run()
            assert fused.tobytes() == c.tobytes()  # the way through partial sums adds nothing


def test_core_rows_left_over_by_register_tiles() -> None:
    rng = np.random.default_rng(23)
    for m, n, k in itertools.product(range(1, 19), (3, 16, 20, 33), (1, 6, 600)):
        a, b = (rng.integers(-8, 9, shape).astype("f4") for shape in ((m, k), (k, n)))
        for left, right in ((a, b), (a.T.copy().T, b)):
            c, untouched = output((m, n), "f4")
            Product(left, right, [c]).run()
            assert untouched() and (c == a @ b).all(), (m, n, k)


def bias_relu(lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
    biased = lanes.add(value, load(0))
    return [lanes.select(lanes.cmp("olt", biased, 0.0), 0.0, biased)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_core_bias_and_relu(dtype: str) -> None:
    rng = np.random.default_rng(5)
    for m, n, k in shapes(40):
        a, b = make(rng, (m, k), dtype, "dense"), make(rng, (k, n), dtype, "transposed")
        bias = np.broadcast_to(make(rng, (1, n), dtype, "dense"), (m, n))
        c, untouched = output((m, n), dtype)
        plain, _ = output((m, n), dtype)
        Product(a, b, [plain]).run()
        Product(a, b, [c], [(bias, Extra(element(bias), "unit"))], bias_relu).run()
        assert untouched(), (m, n, k)
        if n != 1:  # a plain matrix-vector product may sum in another order
            np.testing.assert_array_equal(c, np.maximum(plain + bias, 0), strict=True)
        exact = np.maximum(a.astype(float) @ b.astype(float) + bias, 0)
        np.testing.assert_allclose(c, exact, rtol=0, atol=40 * np.finfo(dtype).eps * (k + 1))


def mixture(lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
    """(value * constant + residual) * column where allowed, else 0; and whether positive."""
    scaled = lanes.add(lanes.mul(value, load(0)), load(1))
    kept = lanes.select(load(3), lanes.mul(scaled, load(2)), 0.0)
    return [kept, lanes.cmp("ogt", kept, 0.0)]


def test_core_extras_of_every_kind_and_two_outputs() -> None:
    rng = np.random.default_rng(6)
    for m, n, k in [(1, 1, 1), (7, 50, 20), (33, 31, 8), (20, 100, 600), (2, 129, 3)]:
        a, b = make(rng, (2, m, k), "f4", "dense"), make(rng, (k, n), "f4", "dense")
        residual = make(rng, (2, m, n), "f4", "transposed")
        column = make(rng, (m, 1), "f4", "dense")
        allowed = rng.random((2, m, n)) > 0.3
        c, untouched = output((2, m, n), "f4")
        positive, unspoiled = output((2, m, n), "b1")
        factor = int(np.float32(0.5).view(np.int32))
        extras = [
            (factor, Extra("float", "constant")), (residual, Extra("float", "strided")),
            (np.broadcast_to(column, (2, m, n)), Extra("float", "zero")),
            (allowed, Extra("i1", "unit")),
        ]  # fmt: skip
        Product(a, b, [c, positive], extras, mixture).run()
        product, _ = output((2, m, n), "f4")
        Product(a, b, [product], epilogue=lambda lanes, value, load: [value]).run()
        expected = np.where(allowed, (product * np.float32(0.5) + residual) * column, 0)
        np.testing.assert_array_equal(c, expected.astype("f4"))
        np.testing.assert_array_equal(positive, expected > 0)
        assert untouched() and (unspoiled() or n == 0)


def test_core_output_may_be_the_residual() -> None:
    rng = np.random.default_rng(7)
    a, b = make(rng, (45, 700), "f8", "dense"), make(rng, (700, 61), "f8", "dense")
    c = make(rng, (45, 61), "f8", "dense")
    expected = c + a @ b
    add = [(c, Extra("double", "unit"))]
    Product(a, b, [c], add, lambda lanes, value, load: [lanes.add(value, load(0))]).run()
    np.testing.assert_allclose(c, expected, atol=1e-10)


@pytest.mark.parametrize(
    "left, right",
    [
        ((3, 4), (3, 4)), ((3, 4), ()), ((), (5,)), ((4, 1), (1, 3)), ((2, 1, 3), (1, 2, 1)),
        ((2, 1, 2, 1, 2), (1, 3, 1, 2, 1)), ((0,), (0,)), ((1,), (6,)), ((2, 3), (1, 3)),
    ],
)  # fmt: skip
def test_core_batches_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(8)
    for (m, n, k), layout in itertools.product(
        [(3, 5, 4), (1, 7, 3), (17, 33, 9)], ("dense", "transposed", "strided")
    ):
        a, b = make(rng, (*left, m, k), "f4", layout), make(rng, (*right, k, n), "f4", layout)
        batch = np.broadcast_shapes(left, right)
        bias = make(rng, (*left, 1, n), "f4", "dense")
        c, untouched = output((*batch, m, n), "f4")
        Product(a, b, [c]).run()
        assert untouched()
        assert_close(c, a, b, (left, right, layout))
        extras = [(np.broadcast_to(bias, (*batch, m, n)), Extra("float", "unit"))]
        fused = np.empty((*batch, m, n), "f4")
        Product(a, b, [fused], extras, bias_relu).run()
        np.testing.assert_allclose(fused, np.maximum(c + bias, 0), atol=1e-5)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_core_integers_wrap(dtype: str) -> None:
    rng, pick = np.random.default_rng(9), random.Random(3)
    for m, n, k in shapes(15):
        a = make(rng, (m, k), dtype, pick.choice(LAYOUTS))
        b = make(rng, (2, k, n), dtype, pick.choice(LAYOUTS))
        c, untouched = output((2, m, n), dtype)
        Product(a, b, [c]).run()
        expected = (a.astype("i8") @ b.astype("i8")).astype(dtype)
        np.testing.assert_array_equal(c, expected)
        assert untouched()


def test_core_integer_epilogue() -> None:
    rng = np.random.default_rng(13)
    for m, n, k in [(4, 37, 5), (3, 3, 3), (33, 70, 2)]:
        a, b = make(rng, (m, k), "i4", "dense"), make(rng, (k, n), "i4", "padded")
        extra = make(rng, (1, n), "i4", "dense")
        c, untouched = output((m, n), "i4")
        bias = np.broadcast_to(extra, (m, n))
        extras = [(bias, Extra("i32", "unit")), (7, Extra("i32", "constant"))]
        Product(
            a, b, [c], extras,
            lambda lanes, v, load: [lanes.mul(lanes.add(v, load(0)), load(1))],
        ).run()  # fmt: skip
        np.testing.assert_array_equal(c, (a @ b + extra) * 7)
        assert untouched()


HALVES = {"float16": (np.float16, 2.0**-11), "bfloat16": (ml_dtypes.bfloat16, 2.0**-8)}


@pytest.mark.parametrize("name", HALVES)
def test_core_halves_are_summed_in_single_precision(name: str) -> None:
    dtype, roundoff = HALVES[name]
    rng = np.random.default_rng(16)
    multiply = accel.compile(lambda a, b: a @ b)
    turned = accel.compile(lambda a, b: a @ b.T)
    for m, n, k in [(1, 1, 1), (3, 5, 4), (2, 3, 0), (0, 2, 3), (1, 70, 300), (33, 65, 700),
                    (64, 10, 17), (40, 1, 19)]:  # fmt: skip
        a = rng.standard_normal((2, m, k)).astype(dtype)
        b = rng.standard_normal((k, n)).astype(dtype)
        wide, other = a.astype(np.float64), b.astype(np.float64)
        exact = wide @ other
        bound = (k + 2) * 2.0**-24 * (abs(wide) @ abs(other))
        bound += roundoff * (abs(exact) + bound) + 2.0**-24
        for result in (multiply(a, b), turned(a, np.ascontiguousarray(b.T))):
            found = np.asarray(result)
            assert found.dtype == dtype
            assert (abs(found.astype(np.float64) - exact) <= bound).all(), (m, n, k)
    executed = multiply.explain(a, b)
    assert "reference" not in str(executed)


@pytest.mark.parametrize("name", HALVES)
def test_core_every_half_is_widened_and_rounded_as_numpy_does(name: str) -> None:
    dtype, _ = HALVES[name]
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(-1, 1)
    multiply = accel.compile(lambda a, b: a @ b)
    for factor in (1.0, 1.0009765625, 0.33, 2.0**-14, 3e-5, 1.75):
        other = np.array([[factor]], dtype)
        with np.errstate(all="ignore"):  # a product of two halves is exact in single precision
            expected = (every.astype(np.float32) * other.astype(np.float32)).astype(dtype)
        for found in (multiply(every, other), multiply(other, every.T)[0, :, None]):
            found = np.asarray(found).astype(np.float32)
            np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_core_special_values_and_empty_sums() -> None:
    a = np.array([[np.inf, 1.0], [np.nan, 2.0], [-0.0, 1e38]], "f4")
    b = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 1e2]], "f4")
    c = np.empty((3, 3), "f4")
    Product(a, b, [c]).run()
    assert np.isnan(c[0, 0]) and c[0, 1] == np.inf and np.isnan(c[1]).all() and c[2, 2] == np.inf
    bias = np.arange(3, dtype="f4").reshape(1, 3)
    empty = np.full((4, 3), np.nan, "f4")
    Product(np.empty((4, 0), "f4"), np.empty((0, 3), "f4"), [empty]).run()
    assert (empty == 0).all()
    extras = [(np.broadcast_to(bias, (4, 3)), Extra("float", "unit"))]
    Product(np.empty((4, 0), "f4"), np.empty((0, 3), "f4"), [empty], extras, bias_relu).run()
    assert (empty == bias).all()


def test_core_items_may_be_divided_in_any_way() -> None:
    rng = np.random.default_rng(10)
    for epilogue in (None, lambda lanes, value, load: [value]):
        a, b = (
            make(rng, (3, 600, 530), "f4", "transposed"),
            make(rng, (530, 70), "f4", "transposed"),
        )
        whole, parts = np.empty((3, 600, 70), "f4"), np.empty((3, 600, 70), "f4")
        Product(a, b, [whole], epilogue=epilogue).run()
        product = Product(a, b, [parts], epilogue=epilogue)
        assert product.steps[-1].items > 3
        product.run(lambda items: [(i, i + 1) for i in reversed(range(items))])
        assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize(
    "m, n, k, right, library",
    [(3, 2100, 500, "dense", "lines"), (3, 2100, 500, "transposed", "dots"),
     (1, 2100, 500, "dense", "row_lines"), (1, 2100, 500, "transposed", "row_dots"),
     (48, 700, 300, "transposed", "turned"), (300, 500, 900, "dense", "tiles"),
     (70, 1024, 900, "dense", "near")],
)  # fmt: skip
def test_core_items_of_every_library(m: int, n: int, k: int, right: str, library: str) -> None:
    rng = np.random.default_rng(17)
    a, b = make(rng, (m, k), "f4", "dense"), make(rng, (k, n), "f4", right)
    whole, parts = np.empty((m, n), "f4"), np.empty((m, n), "f4")
    Product(a, b, [whole]).run()
    product = Product(a, b, [parts])
    assert library in gemm.needs(product.spec, product.problem).libraries
    assert product.steps[-1].items > 1
    product.run(lambda items: [(i, i + 1) for i in reversed(range(items))])
    assert whole.tobytes() == parts.tobytes()


class Guarded:
    """Memory that ends (or begins) at a page which may not be touched."""

    def __init__(self) -> None:
        self.page = mmap.PAGESIZE
        self.protect = ctypes.CDLL(None).mprotect if os.name == "posix" else None
        self.maps: list[mmap.mmap] = []

    def array(self, shape: tuple[int, ...], dtype: str, at_end: bool) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        inner = -(-max(size, 1) // self.page) * self.page
        memory = mmap.mmap(-1, inner + 2 * self.page)
        self.maps.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (address, address + self.page + inner) if self.protect else ():
            assert self.protect(ctypes.c_void_p(guard), self.page, 0) == 0
        offset = self.page + (inner - size if at_end else 0)
        return np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize, offset).reshape(shape)


def test_core_nothing_is_touched_outside_the_operands() -> None:
    guarded, rng = Guarded(), np.random.default_rng(11)
    for (m, n, k), layout, at_end, dtype in itertools.product(
        [(1, 5, 7), (3, 33, 9), (9, 17, 3), (31, 1, 33), (20, 70, 40), (9, 1024, 33)],
        ("dense", "transposed"), (True, False), ("f4", "f8", "i1"),
    ):  # fmt: skip
        turned = layout == "transposed"
        a = guarded.array((k, m) if turned else (m, k), dtype, at_end)
        b = guarded.array((n, k) if turned else (k, n), dtype, at_end)
        a[...], b[...] = make(rng, a.shape, dtype, "dense"), make(rng, b.shape, dtype, "dense")
        bias, c = guarded.array((1, n), dtype, at_end), guarded.array((m, n), dtype, at_end)
        a, b = (a.T, b.T) if turned else (a, b)
        extra = Extra(element(bias), "unit")
        add = [(np.broadcast_to(bias, (m, n)), extra)]
        expected = a.astype(float) @ b.astype(float)
        for extras, epilogue in (([], None), (add, lambda lanes, v, load: [lanes.add(v, load(0))])):
            Product(a, b, [c], extras, epilogue).run()
            if dtype != "i1":
                np.testing.assert_allclose(c, expected, atol=1e-4)


def test_forms_are_chosen_by_shape_and_layout() -> None:
    machine = jit.Machine("x86_64-unknown-linux-gnu", "x86-64-v4", "", 64, True)
    spec = MatmulSpec("float", machine, ("float",))

    def form(m: int, n: int, k: int, left: str, right: str) -> tuple[str, str, str]:
        rng = np.random.default_rng(12)
        a, b = make(rng, (m, k), "f4", left), make(rng, (k, n), "f4", right)
        c = matrix(2, np.empty((m, n), "f4"), ())
        found = form_of(spec, Problem(m, n, k, (), matrix(0, a, ()), matrix(1, b, ()), (c,)))
        return found.library, found.pack_a, found.pack_b

    assert form(64, 64, 64, "dense", "dense") == ("tiles", "", "")
    assert form(64, 64, 64, "transposed", "dense") == ("tiles", "", "")
    assert form(128, 1024, 64, "dense", "dense") == ("near", "", "")
    assert form(1024, 1024, 64, "dense", "dense") == ("tiles", "", "panels")
    assert form(32, 256, 784, "dense", "transposed") == ("turned", "panels", "")
    assert form(512, 64, 64, "dense", "transposed") == ("tiles", "", "panels")
    assert form(1, 256, 784, "dense", "dense") == ("row_lines", "", "")
    assert form(1, 256, 784, "dense", "transposed") == ("row_dots", "", "")
    assert form(2, 256, 784, "dense", "dense") == ("lines", "", "")
    assert form(4, 256, 784, "dense", "transposed") == ("dots", "", "")
    assert form(32, 10, 256, "dense", "transposed") == ("dots", "", "")
    assert form(1000, 4, 1000, "dense", "dense") == ("dots", "", "lines")
    assert form(64, 128, 2048, "dense", "transposed") == ("turned", "panels", "")
    assert form(8, 128, 2048, "dense", "transposed") == ("dots", "", "")
    assert form(960, 960, 960, "dense", "dense") == ("tiles", "", "panels")
    assert form(64, 900, 900, "dense", "dense") == ("tiles", "", "")


def test_tiles_ask_for_the_whole_next_panel() -> None:
    """What the tiles of a panel ask for covers the panel behind it, and little more."""
    rng = np.random.default_rng(21)
    tile = tile_of("float", jit.host_machine())
    for m, n, k, right in ((512, 64, 64, "transposed"), (32, 256, 784, "transposed")):
        a, b = make(rng, (m, k), "f4", "dense"), make(rng, (k, n), "f4", right)
        product = Product(a, b, [np.empty((m, n), "f4")])
        slots = dict(zip(HEADER, product.steps[-1].arguments, strict=False))
        rows, width = min(slots["block_rows"], m), slots["width"]
        panel = width * k * 4
        # A tile has its rows along the rows of the result, or along the panel if it is turned.
        turned = form_of(product.spec, product.problem).library == "turned"
        down, along = (-(-rows // slots["height"]), -(-width // tile.rows)) if turned else (
            -(-rows // tile.rows), 1)  # fmt: skip
        asked = down * along * k * slots["ahead"]
        assert panel <= asked < panel + down * along * k, (m, n, k, right)


@pytest.mark.parametrize("rows, asks", [(64, False), (4096, True)])
def test_tiles_ask_for_extras_that_no_cache_holds(rows: int, asks: bool) -> None:
    a, b, residual = (np.ones(shape, "f4") for shape in ((rows, 8), (8, 256), (rows, 256)))
    bias = np.broadcast_to(np.ones(256, "f4"), residual.shape)
    extras = [(bias, Extra("float", "unit")), (residual, Extra("float", "unit"))]
    add = lambda lanes, value, load: [lanes.add(lanes.add(value, load(0)), load(1))]  # noqa: E731
    product = Product(a, b, [np.empty_like(residual)], extras, add)
    block = product.steps[-1].arguments
    slots = dict(zip(HEADER, block, strict=False))
    assert slots["finished"] == 3 and slots["asked"] == 3 * asks
    sizes = [block[i] for i in range(len(HEADER) + 3 * 8 + 7, len(block), 8)]
    assert sizes == [0, 0, 4 * asks]
    product.run()
    assert (product.arrays[2] == 10).all()


def test_register_tiles_move_on_what_they_ask_for() -> None:
    machine = jit.host_machine()
    tile = tile_of("float", machine)
    code = jit.compile_module(gemm.emit_library("tiles", "float", machine))
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    f = ctypes.CFUNCTYPE(None, pointer, word, pointer, pointer, pointer, word, word)(
        code.address("tiles")
    )
    k, m, n = 7, 3 * tile.rows, tile.columns
    a, b, c = np.ones((m, k), "f4"), np.ones((k, n), "f4"), np.empty((m, n), "f4")
    values = {"a_row": 4 * k, "a_column": 4, "b_row": 4 * n, "b_column": 4, "c_row": 4 * n,
              "ahead": b.ctypes.data, "ahead_step": 5}  # fmt: skip
    frame = np.array([values.get(slot, 0) for slot in FRAME], np.int64)
    f(frame.ctypes.data, k, *(x.ctypes.data for x in (a, b, c)), m, n)
    assert frame[FRAME.index("ahead")] == b.ctypes.data + 3 * k * 5
    assert (c == k).all()


def test_core_each_form_takes_every_layout_that_it_is_chosen_for(monkeypatch) -> None:
    """Forms that the estimate of time would not choose are right as well."""
    rng = np.random.default_rng(15)
    for number in range(5):
        monkeypatch.setattr(
            gemm, "form_of",
            lambda spec, problem: (forms := [f for _, f in candidates(spec, problem)])[
                min(number, len(forms) - 1)
            ],
        )  # fmt: skip
        for (m, n, k), left, right in itertools.product(
            [(1, 1, 1), (3, 70, 19), (4, 33, 130), (37, 50, 41), (65, 18, 0), (2, 2100, 7),
             (9, 1024, 50)],
            ("dense", "transposed", "strided"), ("dense", "transposed", "negative"),
        ):  # fmt: skip
            a, b = make(rng, (2, m, k), "f4", left), make(rng, (k, n), "f4", right)
            c, untouched = output((2, m, n), "f4")
            Product(a, b, [c]).run()
            assert untouched(), (number, m, n, k, left, right)
            assert_close(c, a, b, (number, m, n, k, left, right))


def test_a_broadcast_operand_is_packed_once() -> None:
    rng = np.random.default_rng(14)
    a, b = make(rng, (3, 2, 16, 40), "f4", "dense"), make(rng, (3, 1, 40, 50), "f4", "strided")
    product = Product(a, b, [np.empty((3, 2, 16, 50), "f4")])
    product.run()
    each = Product(a, np.repeat(b, 2, 1)[..., ::-1], [np.empty((3, 2, 16, 50), "f4")])
    assert product.steps[0].kind == each.steps[0].kind == "pack"
    assert 2 * product.steps[0].items == each.steps[0].items


def test_an_epilogue_is_needed_for_other_outputs() -> None:
    spec = MatmulSpec("float", jit.host_machine(), ("i1",))
    with pytest.raises(InternalCompilerError, match="epilogue"):
        gemm.emit_multiply(spec)


def test_one_kernel_serves_all_shapes() -> None:
    cache = KernelCache()
    spec = MatmulSpec("float", jit.host_machine(), ("float",))
    kernels = {cache.get(name, gemm.emit_multiply(spec, None, name)) for name in ("a", "b", "c")}
    assert len(kernels) == 1 and cache.compiles == 1


@pytest.mark.parametrize(
    "name", ["tiles", "turned", "near", "lines", "dots", "pack", "row_lines", "row_dots",
             "lines_half", "dots_half", "pack_half", "lines_bfloat", "dots_bfloat", "pack_bfloat"]
)
def test_libraries_compile_for_neon(name: str) -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = jit.Machine("aarch64-unknown-linux-gnu", "cortex-a72", "+neon", 16, True)
    halves = name.endswith(("half", "bfloat"))
    for element in ("float",) if halves else ("float", "double"):
        text = jit.assembly(gemm.emit_library(name, element, machine), machine)
        if name.startswith(("tiles", "lines", "dots", "row")):
            assert "fmla" in text


def test_forced_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64"])
def test_integers_of_any_layout(dtype: str) -> None:
    """Tiles of rows and registers and what is left of both; wrapping; an operand used twice."""
    rng = np.random.default_rng(4)
    for m, k, n in ((1, 1, 1), (3, 7, 5), (4, 0, 3), (9, 30, 67), (33, 5, 129), (70, 64, 40)):
        x = rng.integers(0, 200, (m, k)).astype(dtype)
        y = rng.integers(0, 200, (n, k)).astype(dtype)
        for a, b in ((x, y.T), (x, np.ascontiguousarray(y.T)), (x[::-1], y.T[:, ::-1])):
            found = accel.compile(lambda p, q: p @ q + 1)(a, b).numpy()
            np.testing.assert_array_equal(found, a @ b + np.array(1, dtype))
        square = x @ x.T
        found = accel.compile(lambda p: (p @ p.T).T @ (p @ p.T))(x).numpy()
        np.testing.assert_array_equal(found, square.T @ square)
    batch = rng.integers(0, 9, (3, 6, 5)).astype(dtype)
    found = accel.compile(lambda p: p @ p.mT)(batch).numpy()
    np.testing.assert_array_equal(found, batch @ batch.swapaxes(1, 2))
