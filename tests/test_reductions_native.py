"""Reductions and strided operands on the pure target, against NumPy in float64."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest

import accel
from accel.targets.pure import program, steps
from accel.targets.pure.nests.schedule import Schedule

#: Extents around those of lanes, blocks, panels and chunks.
SHAPES = [
    (0,), (1,), (7,), (2047,), (2048,), (2049,), (16385,), (300_001,),
    (0, 3), (3, 0), (5, 1), (1, 9), (17, 63), (16, 1025), (33, 200), (2, 70_001), (70_001, 2),
    (3, 5, 66), (2, 40, 7, 3),
]  # fmt: skip

OPS = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "var": np.var, "max": np.max, "min": np.min,
    "any": np.any, "all": np.all, "count_nonzero": np.count_nonzero,
}  # fmt: skip


def numbers(shape, dtype=np.float32, name=""):
    rng = np.random.default_rng(zlib.crc32(f"{shape}{dtype}{name}".encode()))
    if dtype is bool:
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)


def axes_of(ndim):
    return [None, *range(ndim), *([(0, ndim - 1)] if ndim > 1 else [])]


def check(op, x, axis, keepdims=False):
    """One reduction against NumPy; sums within a bound that blocks of 2,048 keep."""
    fn = accel.compile(lambda a: getattr(accel, op)(a, axis=axis, keepdims=keepdims))
    found = np.asarray(fn(x))
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    with np.errstate(all="ignore"):
        wanted = np.asarray(OPS[op](wide, axis=axis, keepdims=keepdims))
    assert found.shape == wanted.shape
    if x.dtype.kind != "f" or op in ("max", "min", "any", "all", "count_nonzero"):
        np.testing.assert_array_equal(found, wanted)
        return
    size = np.abs(wide) if op != "var" else np.square(wide) + 1
    n = max(x.size // max(wanted.size, 1), 1)
    bound = np.asarray(np.sum(size, axis=axis, keepdims=keepdims)) / (1 if op == "sum" else n)
    if op == "prod":
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-37)
        return
    steps = min(n, 2048) / 16 + 24  # additions in float32 that a number takes part in, at most
    with np.errstate(invalid="ignore"):
        assert np.all((np.abs(found - wanted) <= 2.0**-24 * steps * bound) | (found == wanted)
                      | (np.isnan(found) & np.isnan(wanted)))  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:Degrees of freedom")
def test_every_extent_and_axis(op, shape):
    x = numbers(shape)
    for axis in axes_of(x.ndim):
        if op in ("max", "min") and x.size == 0:
            continue
        check(op, x, axis, keepdims=axis == 0)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64,
                                   np.float64], ids=lambda d: np.dtype(d).name)  # fmt: skip
@pytest.mark.parametrize("shape", [(5,), (70_001,), (33, 70), (4500, 65)], ids=str)
def test_integers_and_bools_add_up_in_64_bits(shape, dtype):
    x = numbers(shape, dtype)
    for axis in axes_of(x.ndim):
        for op in ("sum", "max", "min", "any", "all", "count_nonzero"):
            check(op, x, axis)
    extreme = np.full(shape, True if dtype is bool else np.iinfo(dtype).max if
                      np.dtype(dtype).kind in "iu" else 1e300, dtype)  # fmt: skip
    for axis in axes_of(x.ndim):
        check("sum", extreme, axis) if np.dtype(dtype).kind != "f" else None


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (3, 65), (40, 2049), (5000, 70)], ids=str)
def test_places_of_extrema(shape, axis):
    rng = np.random.default_rng(3)
    ties = rng.integers(-3, 4, shape).astype(np.float32)
    holes = np.where(rng.random(shape) < 0.01, np.float32(np.nan), ties)
    low = np.full(shape, -np.inf, np.float32)
    whole = rng.integers(0, 9, shape).astype(np.uint8)
    for x in (numbers(shape), ties, holes, low, -low, whole, np.full(shape, 255, np.uint8)):
        for name in ("argmax", "argmin"):
            fn = accel.compile(lambda a, name=name: getattr(accel, name)(a, axis=axis))
            np.testing.assert_array_equal(fn(x), getattr(np, name)(x, axis=axis))


@pytest.mark.parametrize("place", [0, 1, 1023, 2048, 4999])
def test_one_nan_or_infinity_is_found_everywhere(place):
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        for shape in ((5000,), (5000, 3), (3, 5000)):
            x = numbers(shape)
            x.reshape(-1)[place] = value
            for axis in range(len(shape)):
                with np.errstate(invalid="ignore"):
                    for name in ("max", "min", "sum", "argmax", "argmin"):
                        fn = accel.compile(lambda a, n=name, k=axis: getattr(accel, n)(a, axis=k))
                        found, wanted = np.asarray(fn(x)), getattr(np, name)(x, axis=axis)
                        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


# -- strides ------------------------------------------------------------------------------
BASE = numbers((96, 129, 12))

LAYOUTS = {
    "rows of a wider array": BASE[:, :120, :10].reshape(96, -1)[:, :999],
    "inner-contiguous": BASE.reshape(96, -1)[:, 3:1400],
    "transposed": BASE.reshape(96, -1).T,
    "permuted": BASE.transpose(1, 2, 0),
    "reversed": BASE.reshape(96, -1)[::-1, ::-1],
    "every second": BASE.reshape(96, -1)[::2, ::2],
    "every third": BASE.reshape(96, -1)[:, 1::3],
    "a column of few": BASE.reshape(-1, 3)[:, 1],
    "few transposed": BASE.reshape(-1, 3).T,
    "four transposed": BASE.reshape(-1, 4).T,
    "broadcast": np.broadcast_to(BASE[:, :1, :1], BASE.shape),
    "broadcast along the last": np.broadcast_to(BASE[:1, :, :1], BASE.shape),
    "overlapping": np.lib.stride_tricks.sliding_window_view(BASE.reshape(-1)[:9000], 7),
    "a middle axis": BASE[:, 5, :].repeat(40, 0)[:, 1:],
}


#: Without eight elements one behind the other: copied, as NumPy does it best.
GATHERED = ("reversed", "every second", "every third", "a column of few", "few transposed",
            "four transposed")  # fmt: skip


def programs(x, fn):
    """(result, whether the operand was read where it lies)."""
    compiled = accel.compile(fn)
    for _ in range(3):  # what is made once is made by then
        compiled(x)
    tracemalloc.start()
    try:
        found = np.asarray(compiled(x))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return found, peak < x.nbytes


@pytest.mark.parametrize("name", LAYOUTS)
def test_strided_operands_are_read_where_they_lie(name, monkeypatch):
    x = LAYOUTS[name]
    if x.nbytes < program._WORTH_PLANNING:
        monkeypatch.setattr(program, "_WORTH_PLANNING", 0)
    ordered = np.ascontiguousarray(x)
    for axis in axes_of(x.ndim):
        found, in_place = programs(x, lambda a, k=axis: accel.sum(a * 2, axis=k))
        wanted = np.asarray(ordered.astype(np.float64).sum(axis=axis) * 2)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
        if wanted.nbytes < x.nbytes // 4:
            assert in_place == (name not in GATHERED)
    np.testing.assert_array_equal(accel.compile(lambda a: a * 3)(x), ordered * np.float32(3))
    np.testing.assert_array_equal(accel.compile(lambda a: accel.argmax(a, axis=-1))(x),
                                  ordered.argmax(-1))  # fmt: skip
    soft = np.asarray(accel.compile(lambda a: accel.softmax(a, axis=-1))(x))
    power = np.exp(ordered.astype(np.float64) - ordered.max(-1, keepdims=True))
    np.testing.assert_allclose(soft, power / power.sum(-1, keepdims=True), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float64, bool], ids=str)
def test_strides_of_every_width(dtype):
    x = numbers((700, 130), dtype)
    for strided in (x.T, x[:, ::-1], x[::-1, ::2], x[:, 1:], x.reshape(-1, 2)[:, 1]):
        plain = np.ascontiguousarray(strided)
        np.testing.assert_array_equal(accel.compile(lambda a: accel.max(a, axis=-1))(strided),
                                      plain.max(-1))  # fmt: skip
        np.testing.assert_array_equal(accel.compile(lambda a: accel.where(a != 0, a, a))(strided),
                                      plain)  # fmt: skip


def test_several_layouts_in_one_call_and_misaligned_memory():
    a, b = numbers((300, 200)), numbers((200, 300), name="b")
    fn = accel.compile(lambda x, y: (x + y.T).sum(0))
    wanted = (a.astype(np.float64) + b.T).sum(0)
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    odd = raw.view(np.float32).reshape(a.shape)
    odd[...] = a
    shifted = np.empty((300, 201), np.float32)[:, 1:]  # aligned to its elements only
    shifted[...] = a
    for x in (a, odd, np.asfortranarray(a), a[::-1][::-1], shifted, a.astype(">f4")):
        for y in (b, np.asfortranarray(b), b[:, ::-1][:, ::-1]):
            np.testing.assert_allclose(fn(x, y), wanted, rtol=1e-5, atol=1e-3)


def test_programs_for_strides_are_few_and_products_take_them():
    fn = accel.compile(lambda x: x.sum(1))
    whole = numbers((1000, 100))
    for width in range(60, 80):
        wide = np.zeros((1000, width + 60), np.float32)
        wide[:, :60] = whole[:, :60]
        np.testing.assert_allclose(fn(wide[:, :60]), whole[:, :60].sum(1), rtol=1e-4, atol=1e-4)
    a, b = numbers((210, 190)), numbers((190, 230), name="b")
    product = accel.compile(lambda x, y: x @ y)
    wanted = a.astype(np.float64) @ b
    for x in (a, np.asfortranarray(a), a[::-1, ::-1][::-1, ::-1]):
        for y in (b, np.asfortranarray(b)):
            np.testing.assert_allclose(product(x, y), wanted, rtol=1e-4, atol=1e-3)
    flipped = product(a[::-1], b[:, ::-1])
    np.testing.assert_allclose(flipped, a[::-1].astype(np.float64) @ b[:, ::-1], rtol=1e-4,
                               atol=1e-3)  # fmt: skip


# -- chunks and threads -------------------------------------------------------------------
CHUNKED = {
    "all": lambda x: (x.sum(), x.max(), accel.argmax(x.reshape(-1), axis=0)),
    "two sweeps": lambda x: accel.var(x),
    "scores": lambda x: accel.logsumexp(x, axis=(0, 1)),
    "columns": lambda x: accel.mean(x, axis=0),
    "columns in two sweeps": lambda x: accel.std(x, axis=0),
    "places in columns": lambda x: accel.argmin(x, axis=0),
    "columns kept": lambda x: x - x.mean(0),
    "few rows": lambda x: accel.sum(x.reshape(3, -1), axis=1),
    "outer columns": lambda x: accel.sum(x.reshape(2, -1, 100), axis=1),
    "two swept": lambda x: accel.sum(x.reshape(-1, 5, 100), axis=(0, 2)),
    "elements and their sum": lambda x: (x * 2, accel.sum(x * 2)),
}


@pytest.mark.parametrize("name", CHUNKED)
def test_few_rows_are_cut_and_threads_change_no_bit(name):
    x = numbers((9000, 100))
    x[5, 7] = 40.0
    fn = accel.compile(CHUNKED[name])
    wanted = [np.asarray(v) for v in tuples(accel.compile(CHUNKED[name], mode="pure")(
        x.astype(np.float64)))]  # fmt: skip
    before = accel.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 8):
            accel.set_num_threads(count)
            results.append([np.asarray(v) for v in tuples(fn(x))])
    finally:
        accel.set_num_threads(before)
    for found in results[1:]:
        for a, b in zip(results[0], found, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(results[0], wanted, strict=True):
        terms = x.size / max(a.size, 1)  # of sums; means and the like are below 1 in error
        sums = name in ("all", "few rows", "outer columns", "two swept", "elements and their sum")
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2.0**-24 * (terms if sums else 24))


def tuples(value):
    return value if isinstance(value, tuple) else (value,)


def test_a_reduction_in_chunks_has_a_kernel_to_take_and_one_to_join_them():
    step = steps_of(lambda x: x.sum(), (3_000_000,))
    assert [s.joins for s in step.stages] == [False, True]
    assert step.chunks.count > 8
    assert steps_of(lambda x: x.sum(), (3_000,)).chunks is None
    assert steps_of(lambda x: x.sum(1), (3_000, 1000)).chunks is None
    assert steps_of(lambda x: x.sum(0), (3_000, 1000)).chunks is not None


def steps_of(fn, shape):
    """The step of the only kernel of `fn`."""
    found = []
    made = steps.LoopStep.__init__

    def noted(self, *args):
        made(self, *args)
        found.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.LoopStep, "__init__", noted)
        accel.compile(fn)(np.ones(shape, np.float32))
    (step,) = found
    return step


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_survives_chunks(value):
    x = numbers((2_000_000,))
    x[1_500_000] = value
    assert np.isnan(accel.compile(lambda a: a.sum() * 0)(x).item())
    assert int(accel.compile(lambda a: accel.argmax(a, axis=0))(x)) == 1_500_000
    assert not np.isfinite(accel.compile(lambda a: a.max())(x).item())
    assert int(accel.compile(accel.count_nonzero)(x)) == np.count_nonzero(x)


def test_sums_in_chunks_are_as_exact_as_blocks():
    x = np.random.default_rng(8).random(1 << 23, np.float32)
    error = abs(float(accel.compile(lambda a: a.sum())(x)) - x.sum(dtype=np.float64))
    assert error <= 2e-7 * x.sum(dtype=np.float64)


@pytest.mark.parametrize(
    "shape, axis, kind",
    [((300, 4), 1, "column"), ((300, 5), 1, "row"), ((30, 4), 1, "row"), ((300, 4), 0, "row"),
     ((300, 5), 0, "column"), ((30, 4), 0, "column"), ((9, 100, 3), 2, "column"),
     ((300, 40, 4), (1, 2), "row"), ((100, 70, 3), (0, 2), "column"), ((3, 300, 2), 1, "row")],
    ids=str,
)  # fmt: skip
def test_lanes_go_where_elements_fill_them(shape, axis, kind):
    step = steps_of(lambda a: accel.mean(a, axis=axis), shape)
    assert Schedule.of(step.nest).kind == kind
    for op in ("sum", "var", "max"):
        check(op, numbers(shape), axis)
        check(op, numbers(shape, np.float64)[::-1], axis)


# -- differences of all pairs -----------------------------------------------------------------
@pytest.mark.parametrize("width", [1, 3, 16, 70, 300])
def test_operands_read_often_are_turned_for_the_lanes(width: int) -> None:
    """Of cdist the second operand's rows; also where it is computed or smaller than a page."""
    rng = np.random.default_rng(2)
    for m, n in ((1, 1), (33, 70), (130, 100), (5, 600)):
        x, y = (rng.standard_normal((k, width)).astype(np.float32) for k in (m, n))
        wide = x.astype(np.float64)[:, None] - y.astype(np.float64)[None]
        for function, wanted in (
            (lambda a, b: accel.cdist(a, b), np.sqrt((wide**2).sum(-1))),
            (lambda a, b: accel.cdist(a, b, p=1.0), np.abs(wide).sum(-1)),
            (lambda a, b: accel.cdist(accel.cumulative_sum(a, axis=1), b + a[0]), None),
            (lambda a, b: accel.amax(a[:, None] - b[None], axis=-1), wide.max(-1)),
        ):  # fmt: skip
            if wanted is None:
                other = np.cumsum(x.astype(np.float64), 1)[:, None] - (y + x[0])[None]
                wanted = np.sqrt((other**2).sum(-1))
            found = accel.compile(function)(x, y).numpy()
            np.testing.assert_allclose(found, wanted, 2e-6 + 1e-7 * width, 1e-6)


def test_a_turned_operand_costs_one_kernel() -> None:
    x, y = np.ones((300, 16), np.float32), np.ones((200, 16), np.float32)
    assert accel.compile(lambda a, b: accel.cdist(a, b)).explain(x, y).kernel_count == 2


@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("shift", [0, 100])
def test_variances_of_single_precision_are_rounded_once(axis: int | None, shift: int) -> None:
    x = (np.random.default_rng(shift).standard_normal((300, 1024)) + shift).astype(np.float32)
    for name in ("var", "std"):
        exact = getattr(np, name)(x.astype(np.float64), axis=axis)
        found = accel.compile(lambda a, op=name: getattr(accel, op)(a, axis=axis))(x).numpy()
        error = np.abs(found - exact) / np.spacing(exact.astype(np.float32))
        assert error.max() <= 0.51
