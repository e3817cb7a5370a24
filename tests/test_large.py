"""Arrays beyond 2**31 bytes and 2**31 elements: nothing counts in 32 bits.

Memory from the system costs nothing until it is touched, so much of this can be tried with
arrays of which only a few pages exist. What touches all of it runs with ``ACCEL_TEST_LARGE=1``,
where the memory is there.
"""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import IndexOutOfRangeError

GIB = 1 << 30
#: A little more elements than 31 bits can count, in no multiple of any vector.
BEYOND = 2**31 + 4099


def available() -> int:
    """Bytes of memory that can be had without pushing others out."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(s.split()[1]) * 1024 for s in lines if s.startswith("MemAvailable")), 0)


@pytest.fixture
def whole_memory() -> Iterator[None]:
    """One test at a time, among all workers, and only where there is room for it."""
    if os.environ.get("ACCEL_TEST_LARGE") != "1":
        pytest.skip("takes gigabytes: set ACCEL_TEST_LARGE=1")
    with open(Path(tempfile.gettempdir()) / "accel-test-large.lock", "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        if available() < 12 * GIB:
            pytest.skip("too little memory")
        yield
        accel.empty_cache()
        gc.collect()


def large(function: Callable[..., None]) -> Any:
    return pytest.mark.slow(pytest.mark.usefixtures("whole_memory")(function))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of NumPy arrays, which it reads without a copy, with NumPy results."""
    traced = accel.compile(function)
    return lambda *arrays: traced(*arrays).numpy()


# -- few pages of a large array ----------------------------------------------------------------
@pytest.fixture(scope="module")
def sparse() -> np.ndarray:
    """int8[2**33], zero but for a few places."""
    x = np.zeros(2**33, np.int8)
    x[[0, 2**31 - 1, 2**31, 2**32 + 5, -1]] = [1, 2, 3, 4, 5]
    return x


PLACES = np.array([0, 2**31 - 1, 2**31, 2**32 + 5, 2**33 - 1, -1, 5])
VALUES = [1, 2, 3, 4, 5, 5, 0]


def test_taken_places(sparse: np.ndarray) -> None:
    assert compiled(lambda x, i: accel.take(x, i))(sparse, PLACES).tolist() == VALUES
    assert compiled(lambda x, i: x[i])(sparse, PLACES).tolist() == VALUES
    assert compiled(lambda x, i: x[i] * 2 + 1)(sparse, PLACES).tolist() == [
        2 * v + 1 for v in VALUES
    ]


def test_gathered_places(sparse: np.ndarray) -> None:
    found = compiled(lambda x, i: accel.gather(x, 0, i))(sparse, PLACES[:5])
    assert found.tolist() == VALUES[:5]


def test_unsigned_indices(sparse: np.ndarray) -> None:
    places = PLACES[:5].astype(np.uint64)
    assert compiled(lambda x, i: x[i])(sparse, places).tolist() == VALUES[:5]


@pytest.mark.parametrize("place", [2**33, 2**33 + 1, -(2**33) - 1, 2**63 - 1, -(2**63)])
def test_places_beyond(sparse: np.ndarray, place: int) -> None:
    with pytest.raises(IndexOutOfRangeError):
        compiled(lambda x, i: x[i])(sparse, np.array([0, place]))


def test_slices(sparse: np.ndarray) -> None:
    assert compiled(lambda x: x[2**32 + 3 : 2**32 + 8] + 1)(sparse).tolist() == [1, 1, 5, 1, 1]
    assert compiled(lambda x: x[-1 : -(2**32) - 10 : -(2**32)])(sparse).tolist() == [5, 0]
    assert compiled(lambda x: x[2**31 - 1 : 2**31 + 1])(sparse).tolist() == [2, 3]
    assert compiled(lambda x: x[2**32 + 5])(sparse).item() == 4


@pytest.mark.parametrize("step", [2**31 - 1, 2**31, 2**32 + 5])
def test_strides(sparse: np.ndarray, step: int) -> None:
    view = sparse[::step]
    assert compiled(lambda x: x * 2)(view).tolist() == (view * 2).tolist()
    assert compiled(lambda x: x.sum())(view).item() == view.sum()
    back = sparse[::-step]
    assert compiled(lambda x: x * 2)(back).tolist() == (back * 2).tolist()


def test_rows_far_apart(sparse: np.ndarray) -> None:
    rows = sparse.reshape(4, 2**31)[:, :5]
    assert compiled(lambda x: x + 1)(rows).tolist() == (rows + 1).tolist()
    assert compiled(lambda x: x.T.sum(axis=0))(rows).tolist() == rows.sum(axis=1).tolist()
    assert compiled(lambda x: x @ x.T)(rows).tolist() == (rows @ rows.T).tolist()


def test_floats_far_apart(sparse: np.ndarray) -> None:
    rows = sparse.view(np.float32).reshape(4, 2**29)[:, :64]
    rows[...] = np.arange(256).reshape(4, 64)
    try:
        product = compiled(lambda x, y: x @ y)
        assert product(rows, rows.T).tolist() == (rows @ rows.T).tolist()
        assert product(rows.T, rows).tolist() == (rows.T @ rows).tolist()
        assert compiled(lambda x: accel.softmax(x, axis=-1))(rows).shape == (4, 64)
    finally:
        rows[...] = 0
        sparse[[0, 2**31]] = 1, 3


def test_counted_numbers() -> None:
    first = 2**40
    found = compiled(lambda: accel.arange(first, first + 5))()
    assert found.tolist() == list(range(first, first + 5))
    window = compiled(lambda: accel.arange(0, 2**34)[2**33 : 2**33 + 3])()
    assert window.tolist() == [2**33, 2**33 + 1, 2**33 + 2]


def test_results_without_elements() -> None:
    x = np.zeros((2**40, 0), np.float32)
    assert compiled(lambda x: x + 1)(x).shape == (2**40, 0)


# -- all of it ---------------------------------------------------------------------------------
def ramp(dtype: Any, size: int) -> np.ndarray:
    """0 to 100 over and over."""
    return np.resize(np.arange(101, dtype=dtype), size)


def same(found: np.ndarray, wanted: Callable[[slice], np.ndarray]) -> None:
    """Compare piece by piece, so that nothing large is made."""
    for start in range(0, len(found), 1 << 26):
        piece = slice(start, start + (1 << 26))
        assert np.array_equal(found[piece], wanted(piece)), start


@large
def test_elementwise_work_on_many_elements() -> None:
    x = ramp(np.int8, BEYOND)
    found = compiled(lambda x: accel.where(x > 50, x - 1, x + 1))(x)
    same(found, lambda s: np.where(x[s] > 50, x[s] - 1, x[s] + 1))


@large
def test_elementwise_work_on_many_bytes() -> None:
    x = ramp(np.float32, 2**29 + 1001)
    found = compiled(lambda x: x * 2 + 1)(x)
    same(found, lambda s: x[s] * 2 + 1)


@large
def test_strided_elements() -> None:
    x = ramp(np.int8, BEYOND)
    found = compiled(lambda x: x + 1)(x[::-2])
    same(found, lambda s: x[::-2][s] + 1)


@large
def test_reductions() -> None:
    x = ramp(np.int8, BEYOND)
    x[2**31 + 17] = 127
    x[2**31 + 19] = -1
    total = compiled(lambda x: x.sum())(x)
    assert total == sum(int(x[i : i + (1 << 26)].sum()) for i in range(0, BEYOND, 1 << 26))
    assert compiled(lambda x: accel.argmax(x))(x) == 2**31 + 17
    assert compiled(lambda x: accel.argmin(x))(x) == 2**31 + 19
    assert compiled(lambda x: x.max())(x) == 127
    assert compiled(lambda x: x.min())(x) == -1
    zeros = sum(int((x[i : i + (1 << 26)] == 0).sum()) for i in range(0, BEYOND, 1 << 26))
    assert compiled(lambda x: accel.count_nonzero(x))(x) == BEYOND - zeros


@large
def test_truths() -> None:
    x = np.ones(BEYOND, bool)
    assert compiled(lambda x: x.sum())(x) == BEYOND
    assert compiled(lambda x: accel.all(x))(x)
    x[-1] = False
    assert not compiled(lambda x: accel.all(x))(x)
    assert compiled(lambda x: accel.any(accel.logical_not(x)))(x)
    assert accel.nonzero(accel.asarray(np.logical_not(x), copy=False))[0].tolist() == [BEYOND - 1]


@large
def test_mean_of_many_numbers() -> None:
    x = np.ones(2**29 + 1001, np.float32)
    x[-1] = 3
    assert compiled(lambda x: x.mean())(x) == np.float32(1 + 2 / len(x))
    assert compiled(lambda x: x.var())(x) == pytest.approx(4 / len(x), rel=1e-3)


@large
def test_running_sums() -> None:
    x = np.zeros(2**29 + 1001, np.float32)
    x[[0, 2**29, -1]] = 1, 2, 4
    found = compiled(lambda x: accel.cumsum(x, 0))(x)
    assert found[[0, 2**29 - 1, 2**29, -2, -1]].tolist() == [1, 1, 3, 3, 7]


@large
def test_joined_pieces() -> None:
    x, y = ramp(np.int8, 2**30 + 77), ramp(np.int8, 2**30 + 2**20)
    found = compiled(lambda x, y: accel.concatenate([x, y + 1]))(x, y)
    same(found[: len(x)], lambda s: x[s])
    same(found[len(x) :], lambda s: y[s] + 1)


@large
def test_columns_of_rows() -> None:
    x = ramp(np.int8, (2**16 + 3) * (2**15 + 1)).reshape(2**16 + 3, 2**15 + 1)
    found = compiled(lambda x: x.T)(x)
    for row in (0, 1, 2**15):
        assert np.array_equal(found[row], x[:, row])
    assert compiled(lambda x: x.sum(axis=1))(x)[-3:].tolist() == x[-3:].sum(axis=1).tolist()
    ends = compiled(lambda x: x.sum(axis=0))(x)[-3:]
    assert ends.tolist() == x[:, -3:].sum(axis=0).tolist()


@large
def test_products_along_a_long_axis() -> None:
    x = np.zeros((2, 2**28 + 33), np.float32)
    x[:, [0, 2**28 + 32]] = [[1, 2], [3, 4]]
    product = compiled(lambda x, y: x @ y)
    assert product(x, x.T).tolist() == [[5, 11], [11, 25]]
    assert product(x.reshape(-1), x.reshape(-1)) == 30


@large
def test_rows_of_a_softmax() -> None:
    x = np.zeros((2**19 + 3, 1024), np.float32)
    x[-1, 7] = 3
    found = compiled(lambda x: accel.softmax(x, axis=-1))(x)
    assert (found[: 2**19] == np.float32(1 / 1024)).all()
    assert np.allclose(found[-1, 7], np.exp(3) / (1023 + np.exp(3)), rtol=1e-6)


@large
def test_written_places() -> None:
    x = np.zeros(BEYOND, np.int8)

    def write(x: Any, i: Any) -> Any:
        x = accel.asarray(x, copy=True)
        x[i] = 9
        x[2**31 + 5 : 2**31 + 8] = 4
        return x

    places = np.array([1, 2**31 + 1, BEYOND - 1])
    found = compiled(write)(x, places)
    assert found[places].tolist() == [9, 9, 9]
    assert found[2**31 + 4 : 2**31 + 9].tolist() == [0, 4, 4, 4, 0]
    assert int(np.count_nonzero(found)) == 6


@large
def test_sorted_rows() -> None:
    x = ramp(np.float32, 2**29 + 1024).reshape(-1, 16)
    found = compiled(lambda x: accel.sort(x, axis=-1))(x[:, ::-1])
    for rows in (slice(0, 1000), slice(-1000, None)):
        assert np.array_equal(found[rows], np.sort(x[rows], axis=-1))


@large
def test_turned_around() -> None:
    x = ramp(np.int8, BEYOND)
    found = compiled(lambda x: accel.flip(accel.roll(x, 3)))(x)
    assert found[:5].tolist() == np.roll(x, 3)[::-1][:5].tolist()
    assert found[-5:].tolist() == [*x[-3:].tolist(), *x[:2].tolist()][::-1]
