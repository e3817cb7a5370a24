"""Tensor: recording, reading, operators, rebinding."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import threading
import weakref

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    NotAnArrayError,
    ShapeError,
    UnsupportedDTypeError,
)  # fmt: skip
from accel.frontend.tensors import evaluation
from accel.frontend.tensors.recording import record
from accel.runtime.statistics import STATISTICS


def test_construction_takes_default_dtypes_for_python_numbers_only():
    assert Tensor([1.0, 2.0]).dtype is accel.float32
    assert Tensor([1, 2]).dtype is accel.int64
    assert Tensor([True]).dtype is accel.bool
    assert Tensor(1 + 2j).dtype is accel.complex64
    assert Tensor(np.array([1.0])).dtype is accel.float64
    assert Tensor(np.float64(1)).dtype is accel.float64
    assert Tensor([1, 2], dtype="int8").dtype is accel.int8


@pytest.mark.parametrize("bad", [object(), {"a": 1}, [[1], [1, 2]]])
def test_what_is_no_array_is_named(bad):
    with pytest.raises(NotAnArrayError, match=r"test_tensor\.py:\d+"):
        Tensor(bad)


@pytest.mark.parametrize(
    "bad", [np.array(["a"]), np.zeros(2, "datetime64[s]"), np.zeros(1, object)]
)
def test_unsupported_dtypes(bad):
    with pytest.raises(UnsupportedDTypeError):
        Tensor(bad)


def test_a_tensor_copies_and_numpy_is_read_only():
    source = np.arange(3.0)
    x = Tensor(source)
    source[0] = 9
    assert x.tolist() == [0, 1, 2]
    view = x.numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    writable = np.asarray(x)
    writable[0] = 5
    assert x.tolist() == [0, 1, 2]
    assert np.shares_memory(np.array(x, copy=False), x.numpy())


def test_facts_need_no_computation():
    x = Tensor(np.zeros((2, 3), np.int16)) + 1
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes, len(x), x.device) == (
        (2, 3), 2, 6, 2, 12, 2, "cpu",
    )  # fmt: skip
    assert x._value.data is None


@pytest.mark.parametrize("op", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_arithmetic_matches_numpy_forward_reflected_in_place(op):
    function = getattr(operator, op)
    a, b = np.array([1.5, -2.0, 4.0]), np.array([2.0, 3.0, -1.5])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(function(Tensor(a), Tensor(b)).numpy(), function(a, b))
        np.testing.assert_allclose(function(Tensor(a), 2).numpy(), function(a, 2))
        np.testing.assert_allclose(function(2, Tensor(b)).numpy(), function(2, b))
        x = Tensor(a)
        same = x
        x = getattr(operator, "i" + op)(x, Tensor(b))
        assert x is same
        np.testing.assert_allclose(x.numpy(), function(a, b))


@pytest.mark.parametrize("op", ["and_", "or_", "xor", "lshift", "rshift"])
def test_bit_operators(op):
    function = getattr(operator, op)
    a, b = np.array([12, 5, 7]), np.array([2, 1, 3])
    np.testing.assert_array_equal(function(Tensor(a), Tensor(b)).numpy(), function(a, b))
    np.testing.assert_array_equal(function(6, Tensor(b)).numpy(), function(6, b))


def test_comparisons_unary_and_matmul():
    a = np.array([[1.0, -2.0], [3.0, 0.5]])
    x = Tensor(a)
    for op in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        np.testing.assert_array_equal(op(x, 0.5).numpy(), op(a, 0.5))
    np.testing.assert_array_equal((-x).numpy(), -a)
    np.testing.assert_array_equal(abs(x).numpy(), abs(a))
    np.testing.assert_array_equal((~(x > 0)).numpy(), ~(a > 0))
    np.testing.assert_allclose((x @ x).numpy(), a @ a)
    np.testing.assert_array_equal(x.T.numpy(), a.T)
    np.testing.assert_array_equal(x.mT.numpy(), a.T)
    assert +x is x


def test_comparison_with_a_foreign_object_falls_back_to_identity():
    x = Tensor([1.0])
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    assert len({x, x}) == 1


def test_foreign_operands_get_their_say():
    class Foreign:
        def __radd__(self, other):
            return "mine"

    assert Tensor([1.0]) + Foreign() == "mine"
    with pytest.raises(NotAnArrayError, match="list"):
        Tensor([1.0]) + [1.0]


def test_weak_scalars_and_promotion():
    x = Tensor([1, 2], dtype="int8")
    assert (x + 1).dtype is accel.int8
    assert (x + 1.0).dtype is accel.float32
    assert (x + np.int64(1)).dtype is accel.int64
    assert (Tensor([1.0], dtype="float16") * 2.5).dtype is accel.float16
    assert record("add", 1, 2.5).dtype is accel.float32


def test_errors_name_op_shapes_line_and_remedy():
    with pytest.raises(ShapeError) as caught:
        Tensor(np.zeros((2, 3))) + Tensor(np.zeros((4, 5)))
    text = str(caught.value)
    assert "add" in text and "[2, 3]" in text and "[4, 5]" in text
    assert "test_tensor.py:" in text and "remedy:" in text
    frames = [e.path.name for e in caught.traceback]
    assert len(frames) <= 3  # this line, the operator, the recorder


def test_debugging_shows_internal_frames(monkeypatch):
    monkeypatch.setenv("ACCEL_DEBUG", "1")
    with pytest.raises(ShapeError) as caught:
        Tensor(np.zeros((2, 3))) + Tensor(np.zeros((4, 5)))
    assert any(e.path.name == "types.py" for e in caught.traceback)


def test_reading_python_numbers():
    assert Tensor(3).item() == 3 and isinstance(Tensor(3).item(), int)
    assert float(Tensor([2.5])) == 2.5 and int(Tensor(2.9)) == 2
    assert complex(Tensor(1.0)) == 1 and [10, 20][Tensor(1)] == 20
    assert bool(Tensor([1])) and not bool(Tensor(0.0))
    assert f"{Tensor(1.5):.2f}" == "1.50"
    with pytest.raises(ArgumentError, match="ambiguous"):
        bool(Tensor([1, 2]))
    with pytest.raises(ArgumentError):
        Tensor([]).item()
    with pytest.raises(TypeError):
        [1, 2][Tensor(1.0)]
    with pytest.raises(TypeError):
        len(Tensor(1.0))
    with pytest.raises(TypeError):
        iter(Tensor(1.0))


def test_repr():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5])"
    assert repr(Tensor(np.float64(2))) == "Tensor(2., dtype=float64)"
    assert "requires_grad=True" in repr(Tensor([1.0], requires_grad=True))
    assert repr(Tensor(np.zeros((0, 3)))) == "Tensor([], dtype=float64, shape=(0, 3))"


def test_in_place_forms_keep_the_object_and_leave_earlier_results():
    x = Tensor([1.0, 2.0])
    before = x * 10
    same = x
    x += 1
    assert x is same and x.tolist() == [2, 3] and before.tolist() == [10, 20]
    view = x.numpy()
    x *= 5
    assert view.tolist() == [2, 3] and x.tolist() == [10, 15]


def test_in_place_forms_refuse_what_does_not_fit():
    x = Tensor([1, 2])
    with pytest.raises(ShapeError):
        x += Tensor([[1, 2], [3, 4]])
    with pytest.raises(DTypeError, match="float32"):
        x += 1.5
    assert x.tolist() == [1, 2]
    y = Tensor([1.0, 2.0])
    y += Tensor(np.array([0.5, 0.5]))  # float64 goes into float32, as in torch
    assert y.dtype is accel.float32 and y.tolist() == [1.5, 2.5]


def test_copy_takes_values_over():
    x = Tensor(np.zeros((2, 2), np.float32))
    assert x.copy_(3).tolist() == [[3, 3], [3, 3]]
    x.copy_(np.array([1, 2]))
    assert x.tolist() == [[1, 2], [1, 2]] and x.dtype is accel.float32


def test_a_value_is_computed_once():
    STATISTICS.reset()
    x = Tensor([1.0, 2.0])
    y = record("exp", x)
    z = y + 1
    z.numpy()
    regions = STATISTICS.snapshot()
    assert y._value.data is not None  # y is still held, so it was kept on the way
    y.numpy()
    z.numpy()
    assert STATISTICS.snapshot() == regions


def test_temporaries_are_not_kept():
    x = Tensor([1.0, 2.0])
    inner = record("exp", x)
    seen = weakref.ref(inner._value)
    y = inner + 1
    del inner
    y.numpy()
    gc.collect()
    assert seen() is None


def test_a_loop_of_updates_does_not_recompute_its_history():
    x = Tensor(np.ones(3, np.float32))
    for _ in range(5):
        x = x * 2
        x.numpy()
    assert x._value.inputs == ()


def test_eval_computes_trees_together():
    x = Tensor([1.0])
    y, z = x + 1, {"z": [x * 2, None, 3]}
    accel.eval(y, z)
    assert y._value.data is not None and z["z"][0]._value.data is not None
    assert (x - 1).block_until_ready().tolist() == [0]


def test_recorded_work_is_capped_and_counted():
    limits = accel.get_record_limit()
    try:
        accel.set_record_limit(nodes=50)
        STATISTICS.reset()
        x = Tensor([0.0])
        for _ in range(120):
            x = x + 1
        assert STATISTICS.snapshot().automatic_evaluations == 2
        assert x.item() == 120
        with pytest.raises(ArgumentError):
            accel.set_record_limit(nodes=0)
    finally:
        accel.set_record_limit(*limits)


def test_a_long_chain_neither_overflows_nor_recurses():
    limits = accel.get_record_limit()
    try:
        accel.set_record_limit(nodes=10**6)
        x = Tensor([0.0])
        for _ in range(20_000):
            x = x + 1
        order = evaluation.walk([x._value])
        assert len(order) > 20_000
        del order, x  # freeing a deep chain must not overflow the C stack either
    finally:
        accel.set_record_limit(*limits)


def test_copies_and_pickles():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = copy.deepcopy(x)
    assert y is not x and y.requires_grad and y.is_leaf and y.tolist() == [1, 2]
    z = pickle.loads(pickle.dumps(x))
    assert z.requires_grad and z.tolist() == [1, 2]
    with pytest.raises(GradientError):
        copy.deepcopy(x * 2)


def test_dlpack_goes_out_and_back():
    x = Tensor([1.0, 2.0])
    assert x.__dlpack_device__() == (1, 0)
    np.testing.assert_array_equal(np.from_dlpack(x), [1, 2])


def test_big_integers_are_refused():
    with pytest.raises(NotAnArrayError, match="64 bits"):
        Tensor([1]) + 2**70


def test_threads_read_one_lazy_tensor():
    for _ in range(20):
        x = Tensor(np.arange(8.0))
        middle = record("exp", x)
        y = record("sum", middle * 2)
        expected = float(np.sum(np.exp(np.arange(8.0)) * 2))
        found = []
        threads = [
            threading.Thread(target=lambda t=t: found.append(np.sum(t.numpy())))
            for t in (y, middle * 2, y)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_allclose(found, [expected] * 3, rtol=1e-12)


def test_repeated_lazy_work_finds_its_executable():
    def work(n):
        x = Tensor(np.arange(4.0) + n)
        return (x * 2 + 1).numpy()

    work(0)
    STATISTICS.reset()
    for n in range(5):
        np.testing.assert_array_equal(work(n), (np.arange(4.0) + n) * 2 + 1)
    counts = STATISTICS.snapshot()
    assert counts.compiles == 0 and counts.cache_hits == 5


def test_equal_structure_with_other_constants_or_sharing_is_told_apart():
    x, y = Tensor([1.0]), Tensor([3.0])
    assert [(x * k).item() for k in (2, 2.0, 3, -0.0)] == [2, 2, 3, 0]
    assert np.signbit((x * -0.0).item()) and not np.signbit((x * 0.0).item())
    assert [(a - b).item() for a, b in ((x, x), (x, y), (y, x))] == [0, -2, 2]
    a = record("exp", x)
    assert (a + a).tolist() == (a * 2).tolist()
