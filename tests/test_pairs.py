"""Products of bfloat16 against sums in float64: by pairs, where the processor multiplies them.

The tests named test_core_* also run in one subprocess per instruction-set level.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gemm import Guarded, Product, make, output

import accel
from accel.targets.pure.gemm import gemm
from accel.targets.pure.machine import jit

BFLOAT = ml_dtypes.bfloat16
LAYOUTS = ("dense", "transposed", "strided", "negative", "padded", "broadcast")
SPECIAL = np.array([0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 1, 0x807F, 0x80, 0x7F7F, 0x3F80, 0xC1C8],
                   np.uint16).view(BFLOAT)  # fmt: skip


def numbers(
    rng: np.random.Generator, shape: tuple[int, ...], layout: str, low: int, high: int
) -> np.ndarray:
    """bfloat16 numbers, a few of them zeros, with exponents from `low` to below `high`."""
    scaled = rng.uniform(1, 2, shape) * np.exp2(rng.integers(low, high, shape)) * (
        rng.choice([-1.0, 1.0, 1.0, 0.0], shape)
    )  # fmt: skip
    if layout == "broadcast":
        return np.broadcast_to(scaled[..., :1].astype(BFLOAT), shape)
    laid = make(rng, shape, "i2", layout).view(BFLOAT)
    laid[...] = scaled
    return laid


def sums(a: np.ndarray, b: np.ndarray, machine: jit.Machine | None = None) -> np.ndarray:
    """A @ B in float32."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c, untouched = output((*batch, a.shape[-2], b.shape[-1]), "f4")
    Product(a, b, [c], machine=machine).run()
    assert untouched()
    return np.array(c)


def check(a: np.ndarray, b: np.ndarray, found: np.ndarray) -> None:
    """Two roundings at most for each step of k, and half the least number where they underflow."""
    x, y, k = a.astype(np.float64), b.astype(np.float64), a.shape[-1]
    bound = (2 * k + 2) * 2.0**-24 * (abs(x) @ abs(y)) + 2 * k * 2.0**-150
    assert (abs(found - x @ y) <= bound).all(), (a.shape, b.shape)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(0, 70)] * 3), st.sampled_from([(), (2,), (2, 3)]), st.booleans(),
    st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.integers(-133, 20),
    st.integers(-133, 20), st.integers(1, 40), st.integers(0, 1 << 30),
)  # fmt: skip
def test_core_sums_of_any_shape_layout_and_size(
    extents: tuple[int, int, int], batch: tuple[int, ...], shared: bool, left: str, right: str,
    low: int, other: int, spread: int, seed: int,
) -> None:  # fmt: skip
    m, n, k = extents
    rng = np.random.default_rng(seed)
    a = numbers(rng, (*batch, m, k), left, low, low + spread)
    b = numbers(rng, ((k, n) if shared else (*batch, k, n)), right, other, other + spread)
    check(a, b, sums(a, b))


@pytest.mark.parametrize("right", ["dense", "transposed"])
@pytest.mark.parametrize("m, n, k", [(1, 300, 2501), (70, 33, 1999), (260, 170, 801)])
def test_core_long_sums_and_many_items(m: int, n: int, k: int, right: str) -> None:
    rng = np.random.default_rng(k)
    a, b = numbers(rng, (2, m, k), "dense", -9, 2), numbers(rng, (k, n), right, -9, 2)
    whole, parts = np.empty((2, m, n), "f4"), np.empty((2, m, n), "f4")
    Product(a, b, [whole]).run()
    check(a, b, whole)
    Product(a, b, [parts]).run(lambda items: [(i, i + 1) for i in reversed(range(items))])
    assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("layout", ["dense", "transposed"])
def test_core_subnormal_numbers_count_beside_large_ones(layout: str) -> None:
    rng = np.random.default_rng(4)
    for left, right in ((-133, 30), (30, -133)):
        for k in (1, 2, 9, 1300):
            a = numbers(rng, (9, k), "dense", left, left + 7)
            b = numbers(rng, (k, 170), layout, right, right + 7)
            check(a, b, sums(a, b))


@pytest.mark.parametrize("layout", ["dense", "transposed"])
def test_core_one_subnormal_number_anywhere(layout: str) -> None:
    m, n, k = 8, 70, 999
    for row, column in ((0, 0), (7, 511), (3, 998)):
        a, b = np.zeros((m, k), BFLOAT), np.full((k, n), 2.0**60).astype(BFLOAT)
        a[row, column] = 2.0**-130
        found = sums(a, b if layout == "dense" else b.T.copy().T)
        assert (found[row] == 2.0**-70).all() and np.count_nonzero(found) == n
    for row, column in ((0, 0), (511, 35), (998, 69)):
        a, b = np.full((m, k), 2.0**60).astype(BFLOAT), np.zeros((k, n), BFLOAT)
        b[row, column] = 2.0**-130
        found = sums(a, b if layout == "dense" else b.T.copy().T)
        assert (found[:, column] == 2.0**-70).all() and np.count_nonzero(found) == m


def test_core_nothing_is_touched_outside_the_operands() -> None:
    guarded = Guarded()
    for m, n, k in [(1, 40, 5), (4, 70, 333), (4, 9, 31), (33, 17, 63), (40, 65, 64)]:
        for turned, at_end in ((False, True), (True, True), (False, False), (True, False)):
            a = guarded.array((m, k), BFLOAT, at_end)
            b = guarded.array((n, k) if turned else (k, n), BFLOAT, at_end)
            a[...], b[...] = 1, 2
            right = b.T if turned else b
            assert (sums(a, right) == 2 * k).all()
            assert (sums(a.T.copy().T, right) == 2 * k).all()


@pytest.mark.parametrize("total", range(-140, -98))
def test_core_sums_that_cancel_are_not_flushed(total: int) -> None:
    """(1 + u) (1 + u) - (1 + 2 u) = u * u, of products of about 2 ** total."""
    u = 2.0**-7
    for low in (total // 2, total + 20, -20, -126):
        for one in (1.0, -1.0):
            a = np.array([[1 + u, 1.0, 0.0]]) * 2.0**low
            b = np.array([[1 + u], [-(1 + 2 * u)], [0.0]]) * 2.0 ** (total - low) * one
            a, b = a.astype(BFLOAT), b.astype(BFLOAT)
            assert a[0, 1] == 2.0**low and b[1, 0] != 0
            for x, y in ((a, b), (a[:, ::-1], b[::-1])):
                wanted = np.float32(u * u * one * 2.0**total)
                for right in (y, np.repeat(y, 20, 1), np.repeat(y.T, 20, 0).T):
                    assert (sums(np.repeat(x, 9, 0), right) == wanted).all(), (low, one)


@pytest.mark.parametrize("layout", ["dense", "transposed"])
def test_core_how_they_are_computed_cannot_be_seen(layout: str) -> None:
    """Subnormal numbers in a row or a column change no bit of the other sums."""
    rng = np.random.default_rng(3)
    for m, n, k, low in [(9, 31, 64, -8), (31, 20, 131, -30), (17, 16, 1500, -55), (5, 5, 33, -90)]:
        a, b = numbers(rng, (m, k), "dense", low, low + 9), numbers(rng, (k, n), layout, -8, 4)
        plain = sums(a, b)
        check(a, b, plain)
        other, right = a.copy("K"), b.copy("K")
        other[-1], right[:, 0] = BFLOAT(2.0**-130), BFLOAT(2.0**-130)
        for x, y, same in ((other, b, np.s_[:-1, :]), (a, right, np.s_[:, 1:])):
            found = sums(x, y)
            check(x, y, found)
            np.testing.assert_array_equal(found[same], plain[same])


def test_core_special_values() -> None:
    """Each product of two, alone and between other terms."""
    left, right = SPECIAL.reshape(-1, 1), SPECIAL.reshape(1, -1)
    with np.errstate(all="ignore"):
        wanted = left.astype(np.float32) * right.astype(np.float32)
        np.testing.assert_array_equal(sums(left, right), wanted)
        for k in (2, 3, 4, 33):
            for place in (0, 1, k - 1):
                a, b = np.zeros((len(SPECIAL), k), BFLOAT), np.zeros((k, len(SPECIAL)), BFLOAT)
                a[:, place], b[place] = SPECIAL, SPECIAL
                np.testing.assert_array_equal(sums(a, b), wanted)
                np.testing.assert_array_equal(sums(a, b.T.copy().T), wanted)
        assert not np.signbit(sums(left[1:2], right[:, 9:10])).any()  # 0 + -0


def test_numbers_beside_the_operands_do_not_matter() -> None:
    whole = np.full((40, 40), np.nan, np.float32).astype(BFLOAT)
    for m, n, k in [(3, 5, 7), (17, 31, 9), (8, 16, 1)]:
        whole[1 : 1 + m, 1 : 1 + k] = 1
        a = whole[1 : 1 + m, 1 : 1 + k]
        other = whole.copy()
        other[1 : 1 + k, 2 : 2 + n] = 2
        assert (sums(a, other[1 : 1 + k, 2 : 2 + n]) == 2 * k).all()
        turned = whole.copy()
        turned[1 : 1 + n, 2 : 2 + k] = 3
        assert (sums(a, turned[1 : 1 + n, 2 : 2 + k].T) == 3 * k).all()
        whole[...] = np.nan


def test_pairs_are_used_where_the_processor_multiplies_them() -> None:
    a, b = np.ones((64, 64), BFLOAT), np.ones((64, 64), BFLOAT)
    host = jit.host_machine()
    machines = [host, host._replace(features="+avx512bf16", vector_bytes=64),
                host._replace(features="-avx512bf16", vector_bytes=64)]  # fmt: skip
    for machine, pairs in zip(machines, (host.has_pairs, True, False), strict=True):
        spec = gemm.MatmulSpec("float", machine, ("float",), half="bfloat")
        problem = Product(a, b, [np.empty((64, 64), "f4")]).problem
        assert (gemm.needs(spec, problem).libraries == ("pairs", "pack_pairs", "walk")) == pairs
        few, turned = np.ones((8, 999), BFLOAT), np.ones((64, 999), BFLOAT).T
        problem = Product(few, turned, [np.empty((8, 64), "f4")]).problem
        assert (gemm.needs(spec, problem).libraries == ("pair_dots", "walk")) == pairs


@pytest.mark.parametrize("right, library", [("dense", "row_lines_"), ("transposed", "row_dots_")])
@pytest.mark.parametrize("half", ["half", "bfloat"])
def test_one_row_reads_halves_where_they_lie(right: str, library: str, half: str) -> None:
    a, b = np.ones((1, 300), BFLOAT), make(np.random.default_rng(1), (300, 500), "i2", right)
    problem = Product(a, b.view(BFLOAT), [np.empty((1, 500), "f4")]).problem
    spec = gemm.MatmulSpec("float", jit.host_machine(), ("float",), half=half)
    assert gemm.needs(spec, problem).libraries == (library + half, "walk")
    assert gemm.needs(spec, problem).scratch_bytes == 0


def test_the_instruction_is_emitted() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = jit.Machine("x86_64-unknown-linux-gnu", "cooperlake", "+avx512bf16", 64, True)
    def counts(library: str) -> tuple[int, int]:
        text = jit.assembly(gemm.emit_library(library, "float", machine), machine)
        return text.count("vdpbf16ps"), text.count("vfmadd")

    # Variants of 8 and 4 rows and of 2 and 1 vectors; of 4 and 2, with two additions a pair; and
    # one more of the most rows, without a mask.
    assert counts("pairs") == (12 * 3 + 8 * 2, 2 * (6 * 3 + 4 * 2))
    # 4 lines by 4, 4 by 1, and 1: two loops, or three of which one has two steps.
    sums = 2 * 16 + 4 * (4 + 1)
    assert counts("pair_dots") == (sums, 2 * sums)
    assert counts("pack_pairs") == (0, 0)


def test_core_compiled_products_with_an_epilogue() -> None:
    rng = np.random.default_rng(8)
    layer = accel.compile(lambda x, w, bias: accel.relu(x @ w.T + bias))
    for m, n, k in [(33, 70, 101), (64, 64, 64), (1, 40, 300), (7, 3, 0)]:
        x, w = (rng.integers(-9, 9, s).astype(BFLOAT) for s in ((m, k), (n, k)))
        bias = rng.integers(-9, 9, n).astype(BFLOAT)
        exact = (x.astype(np.float64) @ w.astype(np.float64).T).astype(BFLOAT)
        wanted = np.maximum(exact + bias, BFLOAT(0))
        np.testing.assert_array_equal(np.asarray(layer(x, w, bias)), wanted)


def test_forced_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()
