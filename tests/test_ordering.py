"""Sorting, searching, quantiles, sets and histograms against NumPy: lazily, compiled, on torch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accel
from accel import errors
from accel.ir import dtypes
from accel.ir.order import order_keys, places_in_order, sorted_along

BF16 = dtypes.bfloat16.numpy
RNG = np.random.default_rng(5)
X = RNG.integers(-9, 9, (4, 7)).astype(np.float32)  # with ties
HOLES = np.where(RNG.random((4, 7)) < 0.3, np.nan, X).astype(np.float32)
HOLES[2] = np.nan
MODES = ["pure", pytest.param("torch", marks=pytest.mark.torch)]
NAMES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
         "float16", "float32", "float64", "complex64"]  # fmt: skip


def results(found: Any) -> list[np.ndarray]:
    many = isinstance(found, (list, tuple))
    return [np.asarray(f.numpy() if isinstance(f, accel.Tensor) else f)
            for f in (found if many else [found])]  # fmt: skip


def check(function: Any, expected: Any, *arrays: np.ndarray, rtol: float = 0, mode: str = "pure",
          compiled: bool = True) -> None:  # fmt: skip
    """`function` of Tensors gives `expected`, recorded lazily and compiled."""
    wanted = results(expected)
    with accel.mode(mode):
        for run in (function, accel.compile(function))[: 1 + compiled]:
            found = results(run(*[accel.asarray(a) for a in arrays]))
            for value, want in zip(found, wanted, strict=True):
                assert value.shape == want.shape
                np.testing.assert_allclose(value, want, rtol=rtol, equal_nan=True)


def drawn(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        wide = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return np.where(rng.random(shape) < 0.5, wide, wide % 3).astype(dtype)
    special = np.array([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, -np.nan, 2.0])
    common = rng.random(shape) < 0.5
    values = np.where(common, rng.standard_normal(shape), rng.choice(special, shape))
    if dtype.kind == "c":
        other = np.where(rng.random(shape) < 0.5, 1.0, rng.choice(special, shape))
        with np.errstate(invalid="ignore"):
            return (values + 1j * other).astype(dtype)
    return values.astype(dtype)


def same_bits(x: np.ndarray, y: np.ndarray) -> None:
    """Equal with signs of zeros, and NaN at the same places."""
    np.testing.assert_array_equal(x, y)
    for part in ("real", "imag"):
        a, b = getattr(x, part), getattr(y, part)
        zero = a == 0
        np.testing.assert_array_equal(np.signbit(np.where(zero, a, 0).astype(float)),
                                      np.signbit(np.where(zero, b, 0).astype(float)))  # fmt: skip


# The order ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (33,), (1000,), (5, 8), (3, 1, 17), (0, 4)])
def test_order_is_numpys_stable_one(name: str, shape: tuple[int, ...]) -> None:
    x = drawn(name, shape)
    for axis in range(len(shape)):
        places = np.argsort(x, axis=axis, kind="stable")
        np.testing.assert_array_equal(places_in_order(x, axis), places)
        same_bits(sorted_along(x, axis), np.take_along_axis(x, places, axis))
        turned = np.flip(x, axis)
        behind = shape[axis] - 1 - np.flip(np.argsort(turned, axis=axis, kind="stable"), axis)
        np.testing.assert_array_equal(places_in_order(x, axis, True), behind)
        same_bits(sorted_along(x, axis, True), np.take_along_axis(x, behind, axis))
        for count in {0, 1, shape[axis] // 2, shape[axis]} - {n for n in (1,) if not shape[axis]}:
            first = np.take(places, range(count), axis)
            np.testing.assert_array_equal(places_in_order(x, axis, count=count), first)


def test_order_of_bfloat16_and_of_other_layouts() -> None:
    x = drawn("float32", (300,)).astype(BF16)
    places = np.argsort(x.astype(np.float32), kind="stable")
    np.testing.assert_array_equal(places_in_order(x, 0), places)
    np.testing.assert_array_equal(sorted_along(x, 0).view(np.int16)[:100],
                                  x[places].view(np.int16)[:100])  # fmt: skip
    y = drawn("float64", (6, 8))[::-1, ::2]
    np.testing.assert_array_equal(sorted_along(y, 0), np.sort(y, axis=0))
    np.testing.assert_array_equal(places_in_order(y, 1), np.argsort(y, 1, kind="stable"))


def test_keys_are_in_the_order_of_the_numbers() -> None:
    for name in NAMES[:-1]:
        x = drawn(name, (200,), 3)
        np.testing.assert_array_equal(np.argsort(order_keys(x), kind="stable"),
                                      np.argsort(x, kind="stable"))  # fmt: skip


@given(hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.float16]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9),
), st.booleans(), st.data())  # fmt: skip
def test_sort_and_argsort_of_any_array(x: np.ndarray, descending: bool, data: Any) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    t = accel.asarray(x)
    values, places = t.sort(axis, descending)
    expected = np.sort(x, axis=axis)
    expected = np.flip(expected, axis) if descending else expected
    np.testing.assert_array_equal(values.numpy(), expected)
    same_bits(np.take_along_axis(x, places.numpy(), axis), values.numpy())
    np.testing.assert_array_equal(
        places.numpy(), accel.argsort(t, axis=axis, descending=descending).numpy()
    )


# Functions ------------------------------------------------------------------------------------
def lower_median(x: np.ndarray, axis: int) -> np.ndarray:
    return np.quantile(x, 0.5, axis=axis, method="lower")


FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "sort": (lambda x: accel.sort(x), np.sort(X)),
    "sort 0": (lambda x: accel.sort(x, axis=0, descending=True), np.sort(X, 0)[::-1]),
    "sort dim": (lambda x: accel.sort(x, 0), [np.sort(X, 0), np.argsort(X, 0, kind="stable")]),
    "method sort": (lambda x: x.sort(), [np.sort(X), np.argsort(X, kind="stable")]),
    "method sort axis": (lambda x: x.sort(axis=0), np.sort(X, 0)),
    "msort": (lambda x: x.msort(), np.sort(X, 0)),
    "argsort": (lambda x: accel.argsort(x, dim=0), np.argsort(X, 0, kind="stable")),
    "topk": (lambda x: x.topk(3), [np.flip(np.sort(X), 1)[:, :3],
             6 - np.flip(np.argsort(X[:, ::-1], kind="stable"), 1)[:, :3]]),
    "topk least": (lambda x: accel.topk(x, 2, dim=0, largest=False),
                   [np.sort(X, 0)[:2], np.argsort(X, 0, kind="stable")[:2]]),
    "kthvalue": (lambda x: x.kthvalue(3), [np.sort(X)[:, 2], (X == np.sort(X)[:, 2:3]).argmax(1)]),
    "kthvalue keep": (lambda x: accel.kthvalue(x, 1, 0, keepdim=True).values, X.min(0)[None]),
    "cummax": (lambda x: accel.cummax(x, axis=1), np.maximum.accumulate(X, 1)),
    "cummin": (lambda x: x.cummin(0).values, np.minimum.accumulate(X, 0)),
    "aminmax": (lambda x: x.aminmax(dim=0), [X.min(0), X.max(0)]),
    "searchsorted": (lambda x: accel.searchsorted(accel.sort(x[0]), x),
                     np.searchsorted(np.sort(X[0]), X)),
    "searchsorted rows": (lambda x: accel.searchsorted(accel.sort(x), x, right=True),
                          [[np.searchsorted(np.sort(r), r, "right") for r in X]]),
    "searchsorted sorter": (lambda x: accel.searchsorted(x[0], x, sorter=accel.argsort(x[0])),
                            np.searchsorted(X[0], X, sorter=np.argsort(X[0]))),
    "bucketize": (lambda x: accel.bucketize(x, accel.asarray([-1.0, 2.0])),
                  np.digitize(X, [-1, 2], right=True)),
    "digitize": (lambda x: accel.digitize(x, accel.asarray([5.0, 1.0, -3.0])),
                 np.digitize(X, [5, 1, -3])),
    "digitize right": (lambda x: accel.digitize(x, accel.asarray([5.0, 1.0]), right=True),
                       np.digitize(X, [5, 1], right=True)),
    "median": (lambda x: accel.median(x), np.quantile(X, 0.5, method="lower")),
    "median dim": (lambda x: x.median(0).values, lower_median(X, 0)),
    "median axis": (lambda x: accel.median(x, axis=0), np.median(X, 0)),
    "median all": (lambda x: accel.median(x, axis=None, keepdims=True), [[[np.median(X)]]]),
    "median axes": (lambda x: accel.median(x, axis=(0, 1)), np.median(X, (0, 1))),
    "quantile": (lambda x: x.quantile(0.3, dim=1), np.quantile(X, 0.3, axis=1)),
    "quantiles": (lambda x: accel.quantile(x, [0.0, 0.5, 1.0], axis=0, keepdims=True),
                  np.quantile(X, [0, 0.5, 1], axis=0, keepdims=True)),
    "percentile": (lambda x: accel.percentile(x, 30), np.percentile(X, 30)),
    "histc": (lambda x: x.histc(5, -4, 4), np.histogram(X, 5, (-4, 4))[0]),
    "histogram": (lambda x: accel.histogram(x, 6), np.histogram(X, 6)),
    "isin": (lambda x: accel.isin(x, accel.asarray([1.0, -2.0])), np.isin(X, [1, -2])),
    "isin many": (lambda x: accel.isin(x, accel.arange(-40, 40, 3), invert=True),
                  ~np.isin(X, np.arange(-40, 40, 3))),
    "lexsort": (lambda x: accel.lexsort((x[0], x[1] > 0)), np.lexsort((X[0], X[1] > 0))),
    "nanmax": (lambda x: accel.nanmax(x, axis=1), X.max(1)),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_function_matches_numpy(name: str, mode: str) -> None:
    function, expected = FUNCTIONS[name]
    expected = [expected] if not isinstance(expected, (list, tuple)) else expected
    check(lambda x: (lambda y: y if isinstance(y, tuple) else (y,))(function(x)),
          [np.asarray(e, np.float64) for e in expected], X, rtol=2e-6, mode=mode)  # fmt: skip


NUMPY = {
    "sort": lambda x: np.sort(x, 0), "sort flat": lambda x: np.sort(x, axis=None),
    "argsort": lambda x: np.argsort(x, kind="stable"),
    "partition": lambda x: np.partition(x, 0)[:, :1],
    "argpartition": lambda x: np.take_along_axis(x, np.argpartition(x, 2, axis=1)[:, 2:3], 1),
    "searchsorted": lambda x: np.searchsorted(np.sort(x[0]), [1.0, 2.0], "right"),
    "digitize": lambda x: np.digitize(x, np.sort(x[0])),
    "median": lambda x: np.median(x, axis=1), "median keep": lambda x: np.median(x, keepdims=True),
    "nanmedian": lambda x: np.nanmedian(x, 0),
    "quantile": lambda x: np.quantile(x, [0.2, 0.7], axis=1, method="hazen"),
    "nanquantile": lambda x: np.nanquantile(x, 0.2, 0),
    "percentile": lambda x: np.percentile(x, 45, axis=(0, 1), keepdims=True),
    "nanpercentile": lambda x: np.nanpercentile(x, [5, 95]),
    "nanmax": lambda x: np.nanmax(x), "nanmin": lambda x: np.nanmin(x, 0, keepdims=True),
    "nanargmax": lambda x: np.nanargmax(x, axis=1), "nanargmin": lambda x: np.nanargmin(x),
    "nanprod": lambda x: np.nanprod(x / 4, 1), "nancumsum": lambda x: np.nancumsum(x, 1),
    "nancumprod": lambda x: np.nancumprod(x / 4), "nanvar": lambda x: np.nanvar(x, 1, ddof=1),
    "nanstd": lambda x: np.nanstd(x), "isin": lambda x: np.isin(x, [1.0, 2.0], invert=True),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x, axis=1),
    "minimum.accumulate": lambda x: np.minimum.accumulate(x),
    "histogram": lambda x: np.histogram(x, 4),
    "density": lambda x: np.histogram(x, 4, density=True),
    "weights": lambda x: np.histogram(x, [-9.0, 0.0, 9.0], weights=x * x),
    "edges": lambda x: np.histogram_bin_edges(x, 3),
    "lexsort": lambda x: np.lexsort((x[0], x[1])),
}  # fmt: skip


@pytest.mark.parametrize("name", list(NUMPY))
def test_numpy_function_is_recorded(name: str) -> None:
    check(NUMPY[name], NUMPY[name](X), X, rtol=2e-5)


AT_ONCE = {
    "unique": lambda x: np.unique(x),
    "unique all": lambda x: np.unique(x, return_index=True, return_inverse=True,
                                      return_counts=True),
    "unique rows": lambda x: np.unique(x > 0, axis=0, return_counts=True),
    "unique columns": lambda x: np.unique(x, axis=1, return_inverse=True, return_index=True),
    "flatnonzero": lambda x: np.flatnonzero(x > 0), "extract": lambda x: np.extract(x > 0, x),
    "intersect1d": lambda x: np.intersect1d(x[0], x[1]),
    "union1d": lambda x: np.union1d(x[0], x[1]), "setdiff1d": lambda x: np.setdiff1d(x[0], x[1]),
    "setxor1d": lambda x: np.setxor1d(x[0], x[1]),
    "bincount": lambda x: np.bincount(np.ravel(abs(x)).astype(np.int64), minlength=20),
    "weights": lambda x: np.bincount(np.ravel(abs(x)).astype(np.int64), np.ravel(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(AT_ONCE))
def test_what_decides_its_own_shape(name: str) -> None:
    function = AT_ONCE[name]
    check(function, function(X), X, rtol=1e-6, compiled=False)
    if name != "flatnonzero" and name != "extract":
        with pytest.raises(errors.TracedValueError, match="depends on") as caught:
            accel.compile(function)(accel.asarray(X))
        assert caught.value.remedy and caught.value.loc.file == __file__


def test_unique_of_special_numbers_follows_the_standard() -> None:
    x = np.array([np.nan, -0.0, 2.0, 0.0, np.nan, 2.0], np.float32)
    t = accel.asarray(x)
    found = accel.unique_all(t)
    np.testing.assert_array_equal(found.values.numpy(), [0, 2, np.nan, np.nan])
    assert found.indices.tolist() == [1, 2, 0, 4] and found.counts.tolist() == [2, 2, 1, 1]
    assert found.inverse_indices.tolist() == [2, 0, 1, 0, 3, 1]
    assert accel.unique_values(t).shape == (4,) and np.unique(t).shape == (3,)
    assert accel.unique_counts(t).counts.tolist() == [2, 2, 1, 1]
    values, inverse = accel.unique_inverse(accel.asarray([[3, 1], [1, 3]]))
    assert values.tolist() == [1, 3] and inverse.tolist() == [[1, 0], [0, 1]]
    assert accel.unique(accel.zeros((0, 3))).shape == (0,)
    assert [r.tolist() for r in accel.unique_consecutive(
        accel.asarray([1, 1, 2, 2, 1]), return_inverse=True, return_counts=True)
    ] == [[1, 2, 1], [0, 0, 1, 1, 2], [2, 2, 1]]  # fmt: skip
    rows = accel.asarray([[1, 2], [1, 2], [0, 2]])
    assert accel.unique(rows, dim=0).tolist() == [[0, 2], [1, 2]]
    assert accel.unique_consecutive(rows, dim=0).tolist() == [[1, 2], [0, 2]]
    assert accel.unique(rows, dim=1).tolist() == [[1, 2], [1, 2], [0, 2]]


METHODS = ["linear", "hazen", "weibull", "median_unbiased", "normal_unbiased", "lower", "higher",
           "midpoint", "nearest", "inverted_cdf", "averaged_inverted_cdf", "closest_observation",
           "interpolated_inverted_cdf"]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_quantiles(method: str) -> None:
    levels = np.linspace(0, 1, 21)
    for n in (1, 2, 4, 5, 10):
        x = np.random.default_rng(n).standard_normal((n, 2))
        found = accel.quantile(accel.asarray(x), levels, axis=0, method=method)
        expected = np.quantile(x, levels, axis=0, method=method)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
        holed = np.concatenate([x, np.full((2, 2), np.nan)])
        found = accel.nanquantile(accel.asarray(holed), levels, axis=0, method=method)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_missing_numbers(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for axis in (0, 1, None):
            check(lambda x, a=axis: accel.nanmedian(x, axis=a), np.nanmedian(HOLES, axis), HOLES,
                  rtol=1e-6, mode=mode)  # fmt: skip
            check(lambda x, a=axis: accel.nanquantile(x, [0.1, 0.6], axis=a),
                  np.nanquantile(HOLES, [0.1, 0.6], axis), HOLES, rtol=1e-5, mode=mode)  # fmt: skip
            for name in ("nanmin", "median"):
                check(lambda x, a=axis, n=name: getattr(accel, n)(x, axis=a),
                      getattr(np, name)(HOLES, axis), HOLES, mode=mode)  # fmt: skip
            check(lambda x, a=axis: accel.nanvar(x, axis=a), np.nanvar(HOLES, axis), HOLES,
                  rtol=1e-5, mode=mode)  # fmt: skip
    check(lambda x: accel.nanargmax(x[:2], axis=1), np.nanargmax(HOLES[:2], 1), HOLES, mode=mode)
    with accel.mode(mode):
        t = accel.asarray(HOLES)
        lower, place = t.nanmedian(1)
        assert np.isnan(lower.numpy()[2])
        for row in (0, 1, 3):
            known = HOLES[row][~np.isnan(HOLES[row])]
            assert lower.numpy()[row] == np.quantile(known, 0.5, method="lower")
            assert HOLES[row, place.numpy()[row]] == lower.numpy()[row]
        median = t.median(1)
        missing = np.isnan(HOLES).any(1)
        np.testing.assert_array_equal(np.isnan(median.values.numpy()), missing)
        np.testing.assert_array_equal(median.indices.numpy()[missing],
                                      np.isnan(HOLES).argmax(1)[missing])  # fmt: skip
        with pytest.raises(IndexError, match="NaN alone"):
            accel.nanargmin(t, axis=1).numpy()


def test_infinities_and_empties() -> None:
    x = accel.asarray([1.0, np.inf, np.inf, -np.inf])
    assert accel.quantile(x, [0.0, 1 / 3, 1.0]).tolist() == [-np.inf, 1.0, np.inf]
    assert accel.median(x, axis=0).item() == np.inf
    assert accel.quantile(accel.asarray([np.inf] * 3), 0.4).item() == np.inf
    assert accel.sort(accel.zeros((0, 3)), axis=0).shape == (0, 3)
    assert accel.median(accel.zeros((3, 0)), axis=0).shape == (0,)
    assert accel.histc(accel.zeros((0,)), 3).tolist() == [0, 0, 0]
    assert accel.bincount(accel.zeros((0,), dtype=accel.int64), minlength=2).tolist() == [0, 0]
    assert accel.isin(accel.ones((2,)), accel.zeros((0,))).tolist() == [False, False]
    assert accel.topk(accel.ones((2, 3)), 0).values.shape == (2, 0)
    levels = accel.asarray([0.5, 1.5, np.nan])
    np.testing.assert_array_equal(accel.quantile(accel.ones((3,)), levels).numpy(),
                                  [1, np.nan, np.nan])  # fmt: skip
    np.testing.assert_array_equal(
        accel.histc(accel.asarray([np.nan, 1.0, -5.0, 2.0, 9.0]), 2, 0, 2).numpy(), [0, 2]
    )


@pytest.mark.parametrize("mode", MODES)
def test_running_extrema_and_modes(mode: str) -> None:
    x = np.array([[1.0, 3, 3, np.nan, 5, np.nan], [2, -0.0, 0.0, 1, 1, 2]], np.float32)
    with accel.mode(mode):
        values, places = accel.cummax(accel.asarray(x), 1)
        np.testing.assert_array_equal(values.numpy(), np.maximum.accumulate(x, 1))
        assert places.tolist() == [[0, 1, 2, 3, 3, 5], [0, 0, 0, 0, 0, 5]]
        assert accel.cummin(accel.asarray(x), 1).indices.tolist()[1] == [0, 1, 2, 2, 2, 2]
        found = accel.asarray([[4, 1, 1, 4, 2], [7, 7, 7, 1, 1]]).mode()
        assert found.values.tolist() == [1, 7] and found.indices.tolist() == [2, 2]
        kept = accel.asarray([[4, 1], [4, 2]]).mode(0, keepdim=True)
        assert kept.values.tolist() == [[4, 1]] and kept.indices.tolist() == [[1, 0]]


# Gradients ------------------------------------------------------------------------------------
DIFFERENTIABLE = {
    "sort": lambda x: accel.sort(x, axis=0, descending=True),
    "sort dim": lambda x: accel.sort(x, 1).values,
    "topk": lambda x: accel.topk(x, 3).values,
    "kthvalue": lambda x: accel.kthvalue(x, 2, 0).values,
    "median": lambda x: accel.median(x),
    "median dim": lambda x: accel.median(x, 1).values,
    "median axis": lambda x: accel.median(x, axis=0),
    "nanmedian": lambda x: accel.nanmedian(x, axis=1),
    "quantile": lambda x: accel.quantile(x, [0.2, 0.65], axis=1),
    "nanquantile": lambda x: accel.nanquantile(x, 0.4, axis=0),
    "cummax": lambda x: accel.cummax(x, axis=1),
    "cummin": lambda x: accel.cummin(x, 0).values,
    "mode": lambda x: x.mode(1).values,
    "nanmax": lambda x: accel.nanmax(x, axis=1),
    "weighted histogram": lambda x: accel.histogram(
        accel.asarray(X.astype(np.float64)), 4, weight=x * x).hist,
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_first_and_second_derivatives(name: str, mode: str) -> None:
    """Against finite differences of a sum of cubes, on distinct elements."""
    function = DIFFERENTIABLE[name]
    base = np.random.default_rng(2).permutation(28).reshape(4, 7) / 7.0 - 1.9
    way = np.random.default_rng(3).standard_normal((4, 7))

    def total(x: Any) -> Any:
        return (function(x) ** 3).sum()

    def slope(x: Any) -> Any:
        return (accel.grad(total)(x) * accel.asarray(way)).sum()

    step = 1e-5
    with accel.mode(mode):
        for f, g in ((total, accel.grad(total)), (slope, accel.grad(slope))):
            ahead, behind = (f(accel.asarray(base + s * step * way)).item() for s in (1, -1))
            found = float((g(accel.asarray(base)).numpy() * way).sum())
            np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_gradients_of_equal_elements_go_to_one_of_them() -> None:
    x = accel.tensor([2.0, 2.0, 1.0], requires_grad=True)
    x.sort().values[2].backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


# What goes wrong ------------------------------------------------------------------------------
WRONG = [
    (lambda x: accel.sort(x, axis=2), errors.AxisError, "axis 2"),
    (lambda x: accel.sort(1.0), errors.AxisError, "0-d"),
    (lambda x: accel.sort(x, 0, axis=0), errors.ArgumentError, "both"),
    (lambda x: accel.topk(x, 8), errors.ArgumentError, "k=8 of 7"),
    (lambda x: accel.kthvalue(x, 0), errors.ArgumentError, "k=0"),
    (lambda x: accel.searchsorted(x, x[:2]), errors.ShapeError, "row"),
    (lambda x: accel.searchsorted(x[0], x, side="top"), errors.ArgumentError, "side"),
    (lambda x: accel.searchsorted(x[0], x, side="left", right=True), errors.ArgumentError, "right"),
    (lambda x: accel.quantile(x, 1.5), errors.ArgumentError, "1.5"),
    (lambda x: accel.quantile(x, 0.5, method="cubic"), errors.ArgumentError, "cubic"),
    (lambda x: accel.quantile(x[:0], 0.5), errors.EmptyReductionError, "no elements"),
    (lambda x: accel.median(x[:0], 0), errors.EmptyReductionError, "no elements"),
    (lambda x: accel.histc(x, 0), errors.ArgumentError, "0 bins"),
    (lambda x: accel.histc(x, 3, 2, 1), errors.ArgumentError, "from 2 to 1"),
    (lambda x: accel.histogram(x, weight=x[0]), errors.ShapeError, "weights"),
    (lambda x: accel.bincount(accel.asarray([-1])), errors.ArgumentError, "-1"),
    (lambda x: accel.bincount(x), errors.DTypeError, "bincount"),
    (lambda x: accel.cummax(x + 0j, 0), errors.DTypeError, "c64"),
    (lambda x: accel.lexsort([]), errors.ArgumentError, "no keys"),
    (lambda x: np.partition(x, 9), errors.ArgumentError, "kth"),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=lambda c: c[2])
def test_wrong_arguments(case: Any) -> None:
    function, error, message = case
    with pytest.raises(error, match=message) as caught:
        function(accel.asarray(X))
    assert caught.value.remedy and caught.value.loc.file == __file__


def test_integers_above_53_bits_and_large_arrays() -> None:
    x = RNG.integers(-(2**62), 2**62, 5000)
    check(lambda t: t.sort(), [np.sort(x), np.argsort(x, kind="stable")], x)
    wide = np.repeat(RNG.standard_normal(40_000), 2)
    np.testing.assert_array_equal(accel.argsort(accel.asarray(wide)).numpy(),
                                  np.argsort(wide, kind="stable"))  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 5))
def test_histograms_count_as_numpys(n: int, bins: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-4, 5, n) / 2
    found, edges = np.histogram(accel.asarray(x), bins, (-2.0, 2.0))
    expected, bounds = np.histogram(x, bins, (-2.0, 2.0))
    np.testing.assert_allclose(edges.numpy(), bounds, rtol=1e-15, atol=1e-15)
    np.testing.assert_array_equal(found.numpy(), np.histogram(x, edges.numpy())[0])
    assert found.dtype is accel.int64 and expected.sum() == found.numpy().sum()
