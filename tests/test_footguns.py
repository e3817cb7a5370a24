"""Known surprises of lazy recording and caching, each written down as a test."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import DTypeError, TracedValueError, TraceError
from accel.frontend.tensors.recording import record


def test_side_effects_of_python_happen_while_tracing_only():
    seen = []

    @accel.compile
    def f(x):
        seen.append(len(seen))
        return x + 1

    for _ in range(3):
        f(np.ones(2))
    assert seen == [0]


def test_a_change_of_an_array_after_recording_is_not_seen():
    # outside of a trace, arrays are copied when they are recorded
    array = np.ones(2)
    y = Tensor([1.0, 1.0]) + array
    array[:] = 100
    assert y.tolist() == [2, 2]


def test_a_compiled_function_sees_arrays_as_they_are_at_the_call():
    array = np.ones(2)
    f = accel.compile(lambda x: x + array)
    assert f(np.zeros(2)).tolist() == [1, 1]
    array[:] = 100
    assert f(np.zeros(2)).tolist() == [100, 100]


def test_results_do_not_follow_arguments_changed_later():
    f = accel.compile(lambda x: {"same": x, "twice": x * 2})
    array = np.ones(2)
    out = f(array)
    array[:] = 7
    assert out["same"].tolist() == [1, 1] and out["twice"].tolist() == [2, 2]


def test_slices_of_numpy_views_do_not_follow_the_tensor():
    x = Tensor([1.0, 2.0])
    view = x.numpy()
    x += 1
    assert view.tolist() == [1, 2]


def test_plus_equals_rebinds_the_object_seen_by_all_names():
    x = Tensor([1.0])
    y = x
    y += 1
    assert x.tolist() == [2]
    y = y + 1
    assert x.tolist() == [2]


def test_equality_is_elementwise_and_hash_is_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert (x == y).tolist() == [True]
    assert len({x: 0, y: 1}) == 2


def test_branching_on_a_traced_value_raises_instead_of_choosing():
    @accel.compile
    def f(x):
        if record("sum", x) > 0:
            return x
        return -x

    with pytest.raises(TracedValueError, match=r"where"):
        f(np.ones(2))


def test_branching_on_shapes_and_flags_is_fine():
    @accel.compile
    def f(x, double):
        if x.shape[0] > 2 and double:
            return x * 2
        return x * 1

    assert f(np.ones(3), True).tolist() == [2] * 3
    assert f(np.ones(3), False).tolist() == [1] * 3
    assert f(np.ones(2), True).tolist() == [1] * 2


def test_an_integer_argument_is_static_an_array_is_not():
    f = accel.compile(lambda x, n: x * n)
    for n in range(4):
        f(np.ones(2), n)
    assert f.cache_info().misses == 4
    g = accel.compile(lambda x, n: x * n)
    for n in range(4):
        assert g(np.ones(2), np.int64(n)).tolist() == [n, n]
    assert g.cache_info().misses == 1


def test_numpy_scalars_are_arrays_and_not_weak():
    x = Tensor([1.0])
    assert (x * 2.0).dtype is accel.float32
    assert (x * np.float64(2)).dtype is accel.float64


def test_a_loop_is_unrolled():
    @accel.compile
    def f(x):
        for _ in range(5):
            x = x * 2
        return x

    assert f(np.ones(1)).tolist() == [32] and f.graph(np.ones(1)).count("mul") == 5


def test_a_closure_over_a_loop_variable_is_guarded():
    functions = [accel.compile(lambda x: x + i) for i in range(3)]
    assert [f(np.zeros(1)).item() for f in functions] == [2, 2, 2]  # Python's late binding
    i = 10
    assert [f(np.zeros(1)).item() for f in functions] == [2, 2, 2]
    assert i == 10


def test_state_kept_in_a_plain_object_is_refused():
    model = types.SimpleNamespace(total=Tensor([0.0]))

    @accel.compile
    def f(x):
        model.total = model.total + x  # happens once, while tracing
        return x

    with pytest.raises(TraceError, match="total"):
        f(np.ones(1))

    better = Tensor(np.zeros(1))

    @accel.compile
    def g(x):
        nonlocal better
        better += x
        return x

    g(np.ones(1))
    g(np.ones(1))
    assert better.tolist() == [2]


def test_numpy_results_computed_while_tracing_are_refused():
    f = accel.compile(lambda x: np.ones(3))
    with pytest.raises(TraceError, match="NumPy array"):
        f(np.zeros(1))


def test_integers_do_not_take_floats_in_place():
    x = Tensor([1, 2])
    with pytest.raises(DTypeError):
        x /= 2
    assert (x / 2).tolist() == [0.5, 1.0]


def test_a_stateful_update_happens_once_per_call_not_once_per_trace():
    steps = Tensor(0)

    @accel.compile
    def f(x):
        nonlocal steps
        steps += 1
        return x * steps

    assert [f(np.ones(1)).item() for _ in range(3)] == [1, 2, 3]
    f.graph(np.ones(5))  # looking does not count
    assert steps.item() == 3


def test_the_value_written_back_is_a_leaf_without_history():
    w = Tensor([2.0], requires_grad=True)
    total = Tensor([0.0])

    @accel.compile
    def f(x):
        nonlocal total
        total += w * x
        return x

    f(np.ones(1, np.float32))
    assert total.tolist() == [2] and not total.requires_grad


def test_printing_a_lazy_tensor_computes_it():
    x = Tensor([1.0]) + 1
    assert x._value.data is None
    assert repr(x) == "Tensor([2.])"
    assert x._value.data is not None


def test_numbers_of_other_generators_are_frozen_with_a_warning():
    @accel.compile
    def noisy(x):
        return x + np.random.rand(3)

    with pytest.warns(RuntimeWarning, match="numpy.random.*accel.randn"):
        first = noisy(np.zeros(3))
    np.testing.assert_array_equal(noisy(np.zeros(3)), first)


def test_what_a_function_imports_is_guarded(monkeypatch):
    settings = types.ModuleType("settings_of_a_user")
    settings.gain = 2.0
    monkeypatch.setitem(sys.modules, "settings_of_a_user", settings)

    @accel.compile
    def one(x):
        from settings_of_a_user import gain

        return x * gain

    @accel.compile
    def other(x):
        import settings_of_a_user as s

        return sum(x * s.gain for _ in range(2))

    @accel.compile
    def third(x):
        return x * settings.gain

    x = np.ones(2)
    assert [f(x).tolist()[0] for f in (one, other, third)] == [2.0, 4.0, 2.0]
    settings.gain = 5.0
    assert [f(x).tolist()[0] for f in (one, other, third)] == [5.0, 10.0, 5.0]
