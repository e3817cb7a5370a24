"""Reading and rebinding by index against NumPy, gathers and scatters, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accel
from accel import errors

RNG = np.random.default_rng(1)
A = RNG.standard_normal((4, 5, 6)).astype(np.float32)
I, J = np.array([0, 3, 1]), np.array([[1], [-1]])
MASK2, MASK1 = RNG.random((4, 5)) > 0.5, RNG.random(5) > 0.5

KEYS = {
    "int": 0, "negative": -1, "slice": slice(1, 3), "reversed": slice(None, None, -1),
    "steps": slice(4, 0, -2), "ints": (0, 1, 2), "ellipsis": (Ellipsis, 1), "none": (None, 0),
    "mixed": (slice(1, 3), None, 2, slice(None, None, 2)), "empty": slice(2, 2),
    "beyond": (slice(None), slice(10, 20)), "whole": (), "dots": Ellipsis,
    "array": I, "array at 1": (slice(None), I), "array between": (slice(1, 3), I, slice(0, 5, 2)),
    "apart": (I, slice(None), I), "together": (I, I), "two inner": (slice(None), I, I),
    "int, apart": (0, slice(None), I), "int, together": (slice(None), 0, I), "int first": (0, I),
    "int last": (I, 0, slice(None)), "with none": (I, None, J),
    "none between": (slice(None), J, None, 1),
    "dots between": (I, Ellipsis, 0), "none first": (None, I, slice(1, 2), I), "list": [0, 2],
    "list at 1": (slice(None), [1, 1, 2]), "0-d array": np.array(2), "no places": np.zeros(0, int),
    "mask": MASK2, "mask and int": (MASK2, 0), "mask at 1": (slice(None), MASK1),
    "mask and slice": (MASK2, slice(None, 2)), "full mask": A > 0,
    "mask and array": (MASK2, np.array(3)),
    "true": True, "false": False, "int and true": (0, True), "numpy int": np.int32(3),
    "last mask": (Ellipsis, np.arange(6) % 2 == 0),
}  # fmt: skip


def as_tensors(key):
    """The key with its arrays as Tensors."""
    if isinstance(key, tuple):
        return tuple(as_tensors(k) for k in key)
    return accel.asarray(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("name", list(KEYS))
def test_reading_matches_numpy(name: str) -> None:
    key = KEYS[name]
    for used in (key, as_tensors(key)):
        found = accel.asarray(A)[used].numpy()
        assert found.shape == A[key].shape
        np.testing.assert_array_equal(found, A[key])


@pytest.mark.parametrize("name", list(KEYS))
def test_rebinding_matches_numpy_and_changes_nothing_else(name: str) -> None:
    key = KEYS[name]
    shape = A[key].shape
    values = [1.5, RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(shape[-1:])]
    for value in values:
        expected = A.copy()
        expected[key] = value
        x = accel.asarray(A)
        earlier, view = x * 1, x[1:]
        x[as_tensors(key)] = np.asarray(value, np.float32)
        np.testing.assert_array_equal(x.numpy(), expected)
        np.testing.assert_array_equal(earlier.numpy(), A)
        np.testing.assert_array_equal(view.numpy(), A[1:])


@given(st.data())
def test_random_basic_keys_match_numpy(data) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    array = np.arange(np.prod(shape)).reshape(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    np.testing.assert_array_equal(accel.asarray(array)[key].numpy(), array[key])
    expected, x = array.copy(), accel.asarray(array)
    expected[key] = -1
    x[key] = -1
    np.testing.assert_array_equal(x.numpy(), expected)


@st.composite
def operands(draw) -> np.ndarray:
    """A small array of any layout, each element another number where the dtype allows."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8]))
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    array = array[tuple(slice(None, None, draw(st.sampled_from([1, 1, -1]))) for _ in shape)]
    return np.asarray(array).transpose(draw(st.permutations(range(len(shape)))))


def one_item(draw, extents: list[int], common: tuple[int, ...], masks: bool) -> tuple[object, int]:
    """An item of a key for the first of the extents, and how many it takes."""
    n = extents[0]
    kind = draw(st.sampled_from(["int", "slice", "slice", "array", "mask" if masks else "array"]))
    if kind == "int" and n:
        return draw(st.integers(-n, n - 1)), 1
    if kind == "mask":
        count = draw(st.integers(1, min(2, len(extents))))
        return draw(hnp.arrays(bool, tuple(extents[:count]))), count
    if kind == "array" and n:
        cut = draw(st.integers(0, len(common)))
        shape = tuple(draw(st.sampled_from([m, m, 1])) for m in common[cut:])
        dtype = draw(st.sampled_from([np.int64, np.int32, np.int8]))
        return draw(hnp.arrays(dtype, shape, elements=st.integers(-n, n - 1))), 1
    return draw(st.slices(n)), 1


@st.composite
def keys(draw, shape: tuple[int, ...], masks: bool = True) -> tuple[object, ...]:
    """What NumPy takes as an index: ints, slices, None, truth values, arrays, masks, ellipsis.

    Arrays broadcast; masks may not, and then the key is refused by all alike.
    """
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    used = draw(st.integers(0, len(shape)))
    left = draw(st.integers(0, used))
    key: list[object] = []
    for side, axes in enumerate((list(shape[:left]), list(shape[len(shape) - used + left :]))):
        while axes:
            key += draw(st.lists(st.sampled_from([None, None, True, False]), max_size=1))
            item, count = one_item(draw, axes, common, masks)
            key.append(item)
            del axes[:count]
        if side == 0 and (used < len(shape) or draw(st.booleans())):
            key.append(Ellipsis)
    return tuple(key)


def attempt(function):
    """What it gives, or the error that it raises."""
    try:
        return function()
    except (IndexError, ValueError, TypeError) as error:
        return error


def assigned(array: np.ndarray, key, value) -> np.ndarray:
    changed = array.copy()
    changed[key] = value
    return changed


def agree(found, expected) -> None:
    if isinstance(expected, Exception):
        assert isinstance(found, Exception), f"NumPy raises {expected!r}"
        return
    assert not isinstance(found, Exception), repr(found)
    assert (found.shape, found.dtype) == (np.shape(expected), expected.dtype)
    np.testing.assert_array_equal(found, expected)


def value_for(draw, array: np.ndarray, key) -> np.ndarray:
    """Something that broadcasts to the places of a key, of some dtype that may be stored."""
    shape = np.shape(attempt(lambda: array[key]))
    cut = draw(st.integers(0, len(shape)))
    kept = tuple(draw(st.sampled_from([n, n, 1])) for n in shape[cut:])
    value = np.arange(100, 100 + np.prod(kept, dtype=int)).reshape(kept)
    return value.astype(draw(st.sampled_from([array.dtype, np.uint8])))


def rebound(array: np.ndarray, key, value) -> np.ndarray:
    x = accel.asarray(array)
    x[key] = value
    return x.numpy()


@pytest.mark.parametrize("mode", ["pure", pytest.param("torch", marks=pytest.mark.torch)])
@given(data=st.data())
@settings(max_examples=300)
def test_random_keys_match_numpy(mode: str, data) -> None:
    array = data.draw(operands())
    key = data.draw(keys(array.shape))
    used = as_tensors(key) if data.draw(st.booleans()) else key
    value = value_for(data.draw, array, key)
    with accel.mode(mode):
        agree(attempt(lambda: accel.asarray(array)[used].numpy()), attempt(lambda: array[key]))
        agree(attempt(lambda: rebound(array, used, value)),
              attempt(lambda: assigned(array, key, value)))  # fmt: skip


@pytest.mark.parametrize("mode", ["pure", pytest.param("torch", marks=pytest.mark.torch)])
@given(data=st.data())
@settings(max_examples=60)
def test_random_keys_match_numpy_compiled(mode: str, data) -> None:
    """Arrays of the key are arguments, and one of its places is out of range now and then."""
    array = data.draw(operands())
    key = data.draw(keys(array.shape, masks=False))
    value = value_for(data.draw, array, key)
    places = [i for i, item in enumerate(key) if isinstance(item, np.ndarray)]

    def both(x, value, *arrays):
        whole = list(key)
        for i, item in zip(places, arrays, strict=True):
            whole[i] = item
        y = x * 1
        y[tuple(whole)] = value
        return x[tuple(whole)], y

    arrays = [key[i] for i in places]
    if arrays and arrays[0].size and data.draw(st.integers(0, 3)) == 0:
        arrays[0].flat[-1] = 100
    expected = attempt(lambda: (array[key], assigned(array, key, value)))
    with accel.mode(mode):
        compiled = accel.compile(both)
        found = attempt(lambda: [t.numpy() for t in compiled(array, value, *arrays)])
    if isinstance(expected, Exception):
        assert isinstance(found, type(expected)), repr(found)
    else:
        for a, b in zip(found, expected, strict=True):
            agree(a, b)


def test_truth_values_and_ellipses_decide_where_arrays_go() -> None:
    x = accel.asarray(A)
    whole = slice(None)
    for key in [(whole, I, Ellipsis, I), (whole, True, Ellipsis, I), (0, whole, True),
                (True, True), (False, I), (whole, 0, True, I)]:  # fmt: skip
        agree(attempt(lambda key=key: x[key].numpy()), attempt(lambda key=key: A[key]))


def test_masks_beside_slices_choose_inside_of_traces() -> None:
    def change(x, scale):
        x[:, x[0] > 0] = scale
        x[..., x[0, 0] < 0] = x[:, :, :1] * 2
        x[1, x[1] > 0] = -1.0
        x[[True, False, True, False]] += 1.0
        return x

    expected = change(A.copy(), np.float32(3))
    for run in (change, accel.compile(change)):
        np.testing.assert_array_equal(run(accel.asarray(A), 3.0).numpy(), expected)


def test_the_whole_is_a_new_handle() -> None:
    x = accel.asarray([1.0, 2.0])
    for y in (x[:], x[...], x[()]):
        assert y is not x
        y += 1
    assert x.tolist() == [1.0, 2.0]


def test_iteration_and_numpy_arrays_stay_as_they_are() -> None:
    source = np.arange(6.0).reshape(2, 3)
    x = accel.asarray(source)
    assert [row.tolist() for row in x] == source.tolist()
    x[0, 0] = 100
    first = x.numpy()
    x[0, 0] = 200
    assert source[0, 0] == 0 and first[0, 0] == 100
    with pytest.raises(ValueError):
        first[0, 0] = 1


def test_in_place_arithmetic_through_an_index() -> None:
    x = accel.asarray(A)
    x[1:3] += 10
    x[:, [0, 2]] *= 2
    expected = A.copy()
    expected[1:3] += 10
    expected[:, [0, 2]] *= 2
    np.testing.assert_array_equal(x.numpy(), expected)


def test_gradients_flow_through_reading_and_rebinding() -> None:
    x = accel.tensor(A[:, :, 0], requires_grad=True)
    (x[1:3] * 2).sum().backward()
    x[accel.asarray([0, 0])].sum().backward()
    expected = np.zeros((4, 5))
    expected[1:3] += 2
    expected[0] += 2
    np.testing.assert_array_equal(x.grad.numpy(), expected)

    def total(x, value):
        y = x * 1
        y[1] = value
        y[:, accel.asarray([4])] = 0.0
        return (y * y).sum()

    base, row = A[:, :, 1], A[0, :, 2]
    changed = base.copy()
    changed[1] = row
    changed[:, 4] = 0
    by_x, by_value = accel.grad(total, (0, 1))(accel.asarray(base), accel.asarray(row))
    kept = 2 * changed
    kept[1] = 0
    np.testing.assert_allclose(by_x.numpy(), kept, rtol=1e-6)
    np.testing.assert_allclose(by_value.numpy(), 2 * changed[1], rtol=1e-6)


def test_dtypes_of_rebinding() -> None:
    x = accel.ones((3,), dtype=accel.float16)
    x[0] = accel.asarray(np.float64(0.5))
    assert x.dtype is accel.float16 and x.tolist() == [0.5, 1.0, 1.0]
    whole = accel.ones((3,), dtype=accel.int32)
    with pytest.raises(errors.DTypeError, match="cannot be stored"):
        whole[0] = 0.5
    assert whole.tolist() == [1, 1, 1]


def test_numbers_keep_their_precision() -> None:
    def store(x, scale):
        x[0] = 0.1
        x[1] = scale
        return x.scatter(0, accel.asarray([2]), 0.1)

    for run in (store, accel.compile(store)):
        found = run(accel.zeros((3,), dtype=accel.float64), 0.1)
        assert found.tolist() == [0.1] * 3
    assert accel.astype(0.1, accel.float64).item() == 0.1


def test_a_number_given_a_shape_has_the_default_dtype_compiled_or_not() -> None:
    def spread(x, scale):
        return x * accel.broadcast_to(scale, (2,)), x[:1] * scale

    for run in (spread, accel.compile(spread)):
        assert [y.dtype for y in run(accel.ones(2), 0.5)] == [accel.float32] * 2


# What goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (4, errors.IndexOutOfRangeError, "index 4 is out of range for axis 0 with size 4"),
        ((0, -6), errors.IndexOutOfRangeError, "axis 1 with size 5"),
        ((0, 0, 0, 0), errors.IndexOutOfRangeError, "4 indices"),
        ((..., ...), errors.ArgumentError, "two ellipses"),
        (slice(None, None, 0), errors.ArgumentError, "step"),
        (np.ones(3), errors.DTypeError, "index of float64"),
        ("name", errors.DTypeError, "str is no index"),
        (1.5, errors.DTypeError, "float is no index"),
        (np.ones((4, 4), bool), errors.ShapeError, "a mask of shape"),
        ((I, np.array([0, 1])), errors.ShapeError, "broadcast"),
    ],
)
def test_wrong_keys(key, error, message: str) -> None:
    x = accel.asarray(A)
    with pytest.raises(error, match=message) as caught:
        x[key]
    assert caught.value.loc.file == __file__ and caught.value.remedy
    with pytest.raises(error, match=message):
        x[key] = 0
    np.testing.assert_array_equal(x.numpy(), A)


def test_out_of_range_places_are_found_when_computed() -> None:
    with pytest.raises(errors.IndexOutOfRangeError, match="7"):
        accel.asarray(A)[accel.asarray([0, 7])].numpy()


def test_values_that_do_not_fit() -> None:
    x = accel.asarray(A)
    with pytest.raises(errors.ShapeError, match=r"of shape \[7\] for places of shape \[5, 6\]"):
        x[0] = accel.ones(7)
    with pytest.raises(errors.ShapeError):
        x[I] = accel.ones((2, 5, 6))


def test_masks_in_compiled_functions() -> None:
    @accel.compile
    def cleared(x):
        y = x * 1
        y[y > 0] = 0.0
        y[accel.asarray([0])] = 5.0
        return y

    expected = np.minimum(A, 0)
    expected[0] = 5
    np.testing.assert_array_equal(cleared(accel.asarray(A)).numpy(), expected)

    @accel.compile
    def selected(x):
        return x[x > 0]

    with pytest.raises(errors.TracedValueError, match="depends on the mask") as caught:
        selected(accel.asarray(A))
    assert "accel.where" in caught.value.remedy and caught.value.loc.file == __file__


def test_compiled_function_rebinds_its_argument() -> None:
    @accel.compile
    def update(x, i):
        x[i] = x[i] + 1

    x = accel.zeros((3,))
    update(x, accel.asarray([0, 2]))
    update(x, accel.asarray([2, 1]))
    assert x.tolist() == [1.0, 1.0, 2.0]


# Functions ----------------------------------------------------------------------------------


def test_takes_and_gathers() -> None:
    x = accel.asarray(A[:, :, 0])
    base = A[:, :, 0]
    index = np.array([[4, 0], [1, 1], [2, 3], [0, 0]])
    np.testing.assert_array_equal(accel.take(x, [3, -1], axis=1).numpy(), base.take([3, -1], 1))
    np.testing.assert_array_equal(x.take(accel.asarray(index)).numpy(), base.take(index))
    np.testing.assert_array_equal(
        accel.take_along_axis(x, index, axis=1).numpy(), np.take_along_axis(base, index, 1)
    )
    np.testing.assert_array_equal(
        x.gather(1, accel.asarray(index)).numpy(), np.take_along_axis(base, index, 1)
    )
    np.testing.assert_array_equal(x.index_select(0, accel.asarray([2, 2])).numpy(), base[[2, 2]])
    np.testing.assert_array_equal(x.masked_select(x > 0).numpy(), base[base > 0])
    for found, expected in zip(accel.nonzero(x > 0), np.nonzero(base > 0), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_array_equal(accel.argwhere(x > 0).numpy(), np.argwhere(base > 0))
    with pytest.raises(errors.ShapeError, match="flatten"):
        x.index_select(0, accel.asarray(index))
    with pytest.raises(errors.ShapeError, match="0-d"):
        accel.nonzero(1.0)


def test_scatters_and_index_add() -> None:
    x = accel.zeros((2, 4))
    index = accel.asarray([[0, 2], [1, 1]])
    source = accel.asarray([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]])
    assert x.scatter(1, index, source).tolist() == [[1, 0, 2, 0], [0, 4, 0, 0]]
    assert x.scatter_add(1, index, source).tolist() == [[1, 0, 2, 0], [0, 7, 0, 0]]
    assert x.scatter(1, index, 5.0).tolist() == [[5, 0, 5, 0], [0, 5, 0, 0]]
    assert x.scatter(1, index, 5.0, reduce="add").tolist() == [[5, 0, 5, 0], [0, 10, 0, 0]]
    rows = accel.asarray([1, 1])
    added = accel.index_add(x, 0, rows, accel.ones((2, 4)), alpha=2)
    assert added.tolist() == [[0] * 4, [4] * 4]
    places, values = (rows, accel.asarray([0, 0])), accel.asarray([1.0, 2.0])
    put = accel.index_put(x, places, values, accumulate=True)
    assert put.tolist() == [[0] * 4, [3, 0, 0, 0]]
    with pytest.raises(errors.ArgumentError, match="reduce"):
        x.scatter(1, index, source, reduce="max")
    with pytest.raises(errors.DTypeError, match="cannot be stored"):
        accel.zeros((4,), dtype=accel.int64).scatter(0, accel.asarray([0]), 0.5)


@pytest.mark.parametrize("mode", ["pure", pytest.param("torch", marks=pytest.mark.torch)])
def test_parts_are_replaced_and_the_rest_stays(mode: str) -> None:
    base, row = A[:, :, 0], A[0, 0, :4]
    index, mask = np.array([3, -4]), A[:, :, 1] > 0
    source = A[:, :, 2]

    def every(x, source, row, mask):
        return (
            x.index_copy(0, index, source[:2]), accel.index_fill(x, 1, [0, -1], 2.0),
            x.select_scatter(row, 1, -2), accel.slice_scatter(x, source[:, 1:3], 1, 0, 4, 2),
            accel.masked_scatter(x, mask, source), x,
        )  # fmt: skip

    copied, filled, selected, sliced, masked = (base.copy() for _ in range(5))
    copied[index], filled[:, [0, -1]], selected[:, -2] = source[:2], 2.0, row
    sliced[:, 0:4:2], masked[mask] = source[:, 1:3], source.ravel()[: mask.sum()]
    with accel.mode(mode):
        for run in (every, accel.compile(every)):
            found = run(accel.asarray(base), source, row, mask)
            for a, b in zip(found, (copied, filled, selected, sliced, masked, base), strict=True):
                np.testing.assert_array_equal(np.asarray(a), b)
    x = accel.ones((3,))
    assert x.index_fill_(0, [1], 0.0) is x and x.tolist() == [1.0, 0.0, 1.0]
    for few in (np.ones(1, np.float32), np.ones(0, np.float32)):
        with pytest.raises(errors.IndexOutOfRangeError):
            accel.masked_scatter(x, x > 0, few).numpy()
