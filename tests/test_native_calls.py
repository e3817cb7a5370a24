"""Native calls: what they compute, count, refuse, keep and release; and that they can be off."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.targets.pure.native import api as native_api

pytestmark = pytest.mark.skipif(
    not native_api.available(), reason="native calls are off in this process"
)


def executable(function, *arguments):
    """The executable of a compiled function for these arguments."""
    return accel.compile(function)._executable(arguments, {})


def chain(x, a, b):
    return accel.relu(x * a + b)


def arrays(*shape, dtype=np.float32, count=3):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.standard_normal(shape) * 4).astype(dtype) for _ in range(count)]


# -- the native form of an executable ---------------------------------------------------------
def test_a_native_call_equals_numpy() -> None:
    x, a, b = arrays(5, 7)
    native = executable(chain, x, a, b).native
    assert type(native).__name__ == "builtin_function_or_method"
    (result,) = native(x, a, b)
    np.testing.assert_array_equal(result, np.maximum(x * a + b, 0))
    assert type(result) is np.ndarray and result.base is None and result.flags.c_contiguous


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 17]), max_size=4),
    dtype=st.sampled_from(["float32", "float64", "int8", "int64"]),
)
def test_any_shape_and_dtype(shape, dtype) -> None:
    x, y = arrays(*shape, dtype=dtype, count=2)
    run = executable(lambda x, y: (x + y, x - y, x), x, y)
    assert [r.dtype for r in run([x, y])] == [x.dtype] * len(run([x, y]))
    total, difference = run([x, y])[:2]
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(difference, x - y)


def test_arrays_of_another_form_go_the_python_way() -> None:
    x, a, b = arrays(6, 6)
    native = executable(chain, x, a, b).native
    expected = np.maximum(x * a + b, 0)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 6)
    subclass = x.view(type("Sub", (np.ndarray,), {}))
    for form in (np.asfortranarray(x), x.astype(">f4"), unaligned, subclass):
        np.testing.assert_array_equal(native(form, a, b)[0], expected)


def test_outputs_come_in_the_order_of_the_results() -> None:
    (x,) = arrays(8, count=1)
    native = executable(lambda x: (x.sum(), x * 2, accel.exp(x)), x).native
    total, double, power = native(x)
    assert total.shape == () and total == pytest.approx(x.sum(), rel=1e-6)
    np.testing.assert_array_equal(double, x * 2)
    np.testing.assert_allclose(power, np.exp(x), rtol=1e-6)


def test_intermediates_of_calls_at_once_are_apart() -> None:
    x, w = arrays(64, 64, count=2)
    native = executable(lambda x, w: accel.softmax(x @ w, dim=-1) @ w, x, w).native
    inputs = [x * factor for factor in (0.1, 1.0, 2.0, -1.0)]
    expected = [native(each, w)[0] for each in inputs]
    failures = []

    def work(each, right):
        for _ in range(300):
            if not np.array_equal(native(each, w)[0], right):
                failures.append(each)

    pairs = zip(inputs, expected, strict=True)
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_an_index_out_of_range_raises_and_gives_everything_back() -> None:
    (x,) = arrays(9, count=1)
    native = executable(lambda x, i: accel.take(x, i, axis=0) * 2, x, np.array([1, 2])).native
    bad = np.array([1, 9])
    references = sys.getrefcount(x), sys.getrefcount(bad)
    for _ in range(50):
        with pytest.raises(IndexError, match="9"):
            native(x, bad)
    assert (sys.getrefcount(x), sys.getrefcount(bad)) == references
    np.testing.assert_array_equal(native(x, np.array([8, 0]))[0], x[[8, 0]] * 2)


def test_native_calls_are_counted_as_python_calls_are() -> None:
    x, a, b = arrays(4)
    run = executable(chain, x, a, b)
    accel.reset_stats()
    run.native(x, a, b)
    native = accel.stats()
    accel.reset_stats()
    run.native(np.asfortranarray(x)[::1], a.astype(">f4"), b)
    assert accel.stats() == native and native.pure_count == 1 and native.pure_ops == 3


def test_references_and_memory_stay_level() -> None:
    x, a, b = arrays(32, 32)
    native = executable(chain, x, a, b).native
    native(x, a, b)
    dtype = np.dtype(np.float32)
    before = [sys.getrefcount(each) for each in (x, a, b, dtype, native)]
    blocks = sys.getallocatedblocks()
    for _ in range(100_000):
        native(x, a, b)
    assert [sys.getrefcount(each) for each in (x, a, b, dtype, native)] == before
    assert sys.getallocatedblocks() - blocks < 100


def test_an_executable_is_freed() -> None:
    import weakref

    from accel.runtime import compiler

    x, a, b = arrays(3, 5)
    function = accel.compile(lambda x, a, b: chain(x, a, b) + 0.625)
    function(x, a, b)
    reference = weakref.ref(function._executable((x, a, b), {}))
    native = function._executable((x, a, b), {}).native
    del function
    compiler.clear_cache()
    gc.collect()
    assert reference() is None
    np.testing.assert_array_equal(native(x, a, b)[0], np.maximum(x * a + b, 0) + np.float32(0.625))


def test_they_can_be_switched_off() -> None:
    program = (
        "import numpy as np, accel\n"
        "from accel.targets.pure.native import api as native_api\n"
        "f = accel.compile(lambda x: x * 2 + 1)\n"
        "print(native_api.available(), f._executable((np.ones(3),), {}).native, f(np.ones(3)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
        env={**os.environ, "ACCEL_NATIVE_CALLS": "0"}, check=False,
    )  # fmt: skip
    assert ran.stdout.split()[:2] == ["False", "None"] and "3." in ran.stdout, ran.stderr


def test_large_results_come_from_the_pool_of_buffers() -> None:
    x, a, b = arrays(1 << 19)
    native = executable(chain, x, a, b).native
    places = set()
    for _ in range(6):
        (result,) = native(x, a, b)
        places.add(result.ctypes.data)
        np.testing.assert_array_equal(result, np.maximum(x * a + b, 0))
        del result
    assert len(places) == 1
