"""Weights that a compiled function reads from outside: packed once while they stay the same."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import in_fresh_process

import accel
import accel.nn.functional as functional
from accel.targets.pure.native.api import available

pytestmark = pytest.mark.skipif(not available(), reason="there are no native calls here")

#: Calls after which weights that have not changed are packed.
ENOUGH = 40


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return accel.asarray(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def expected(x: Any, w: Any) -> np.ndarray:
    return x.numpy().astype(np.float64) @ w.numpy().astype(np.float64).T


def layer(w: Any) -> Any:
    return accel.compile(lambda x: functional.linear(x, w), mode="pure")


def packed(function: Any) -> list[Any]:
    """The plans for packed weights of a function's specialisations."""
    entries = [e for found in function._entries.values() for e in found]
    return [e.weights.plan for e in entries if e.weights is not None and e.weights.plan]


def settle(function: Callable[..., Any], *arguments: Any) -> Any:
    result = None
    for _ in range(ENOUGH):
        result = function(*arguments)
    return result


def close(found: Any, wanted: np.ndarray, terms: int) -> bool:
    bound = terms * np.finfo(np.float32).eps * np.abs(wanted).max() * 4
    return bool(np.abs(found.numpy() - wanted).max() <= bound)


@pytest.mark.parametrize("shape", [
    (256, 784, 256), (128, 384, 1536), (300, 1000, 77), (130, 1, 40), (129, 700, 33),
    (1024, 384, 384), (40, 300, 50), (3, 64, 700), (1, 784, 256),
])  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_packed_weights_give_the_same_bits(shape: tuple[int, int, int], turned: bool) -> None:
    m, k, n = shape
    x, w = normal(m, k), normal(k, n, seed=1) if turned else normal(n, k, seed=1)
    function = accel.compile(lambda x: x @ w if turned else functional.linear(x, w), mode="pure")
    first = function(x).numpy()
    for _ in range(ENOUGH):
        assert np.array_equal(function(x).numpy(), first)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_every_dtype_keeps_its_bits(dtype: str) -> None:
    x, w = [normal(*s, seed=s[0]).to(dtype) for s in ((200, 300), (150, 300))]
    function = layer(w)
    first = function(x)
    for _ in range(ENOUGH):
        assert np.array_equal(function(x).numpy(), first.numpy())
    assert packed(function)


def test_weights_are_packed_after_some_calls_and_the_product_is_the_only_kernel_left() -> None:
    x, w = normal(256, 784), normal(256, 784, seed=1)
    function = layer(w)
    function(x)
    assert "pack" in str(function.profile(x))
    settle(function, x)
    (plan,) = packed(function)
    run = plan.block.kept[0].kept[0]
    assert run.job.count == 1


def test_what_changes_is_seen_at_once() -> None:
    x, w = normal(256, 300), normal(200, 300, seed=1)
    function = layer(w)
    for change in (
        lambda: w.__imul__(2.0), lambda: w.__setitem__((0, slice(None)), 5.0),
        lambda: w.copy_(normal(200, 300, seed=2)),
    ):  # fmt: skip
        settle(function, x)
        assert packed(function)
        change()
        for _ in range(ENOUGH):
            assert close(function(x), expected(x, w), 300)


def test_a_training_step_between_calls_is_seen() -> None:
    x, w = normal(256, 128), normal(128, 128, seed=1)
    function = layer(w)

    @accel.compile(mode="pure")
    def step() -> None:
        w.mul_(0.5)
        w.add_(1.0)

    for _ in range(12):
        settle(function, x)
        assert packed(function)
        step()
        step()
        assert close(function(x), expected(x, w), 128)


def test_weights_that_change_on_every_call_are_looked_at_ever_less_often() -> None:
    x, w = normal(256, 128), normal(128, 128, seed=1)
    function = layer(w)
    function(x)
    for _ in range(200):
        function(x)
        accel.eval(w.mul_(0.99))
    (entry,) = next(iter(function._entries.values()))
    assert entry.weights.patience >= 64
    assert not packed(function)
    assert close(function(x), expected(x, w), 128)


def test_memory_that_others_may_write_is_read_on_every_call() -> None:
    x, memory = normal(256, 300), np.ones((200, 300), np.float32)
    w = accel.asarray(memory, copy=False)
    function = layer(w)
    settle(function, x)
    assert not packed(function)
    memory[...] = 2.0
    assert close(function(x), expected(x, accel.asarray(memory)), 300)


def test_arguments_are_never_taken_for_weights() -> None:
    x, w = normal(256, 300), normal(200, 300, seed=1)
    function = accel.compile(lambda x, w: functional.linear(x, w), mode="pure")
    settle(function, x, w)
    assert not packed(function)


def test_a_module_is_packed_without_gradients_and_read_anew_after_loading() -> None:
    layers = accel.nn.Linear(300, 256), accel.nn.ReLU(), accel.nn.Linear(256, 20)
    model = accel.nn.Sequential(*layers)
    function = accel.compile(model, mode="pure")
    x = normal(256, 300)
    with accel.no_grad():
        before = settle(function, x).numpy()
        assert packed(function)
        state = {name: 2 * value for name, value in model.state_dict().items()}
        model.load_state_dict(state)
        after = function(x)
        assert not np.allclose(before, after.numpy())
        assert np.array_equal(after.numpy(), model(x).numpy())


def test_stale_weights_are_given_up() -> None:
    x, w = normal(256, 300), normal(200, 300, seed=1)
    function = layer(w)
    settle(function, x)
    old = weakref.ref(packed(function)[0].block)
    w.mul_(2.0)
    function(x)
    gc.collect()
    assert old() is None


def test_weights_that_are_not_packed_are_not_kept() -> None:
    x, w = normal(256, 300), normal(200, 300, seed=1)
    function = layer(w)
    function(x)
    function(x)
    old = weakref.ref(w._value.data)
    accel.eval(w.mul_(2.0))
    gc.collect()
    assert old() is None


def test_many_changes_leave_no_memory_behind() -> None:
    x, w = normal(256, 300), normal(256, 300, seed=1)
    function = layer(w)

    def rounds(count: int) -> int:
        for _ in range(count):
            settle(function, x)
            w.mul_(1.0001)
        gc.collect()
        return accel.memory_allocated()

    before = rounds(5)
    assert rounds(20) <= before


def test_threads_see_whole_weights() -> None:
    x, w = normal(200, 64), accel.asarray(np.ones((160, 64), np.float32))
    function = layer(w)
    sums = x.numpy().astype(np.float64).sum(1)
    wrong: list[Any] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            found = function(x).numpy()
            factors = found[:, 0] / sums
            mixed = np.abs(found - found[:, :1]).max() > 0
            if mixed or np.abs(factors - np.rint(factors)).max() > 0.01:
                wrong.append(found)

    workers = [threading.Thread(target=call) for _ in range(3)]
    for worker in workers:
        worker.start()
    for value in range(2, 40):
        for _ in range(30):
            function(x)
        w.fill_(float(value))
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_setting_limits_what_is_kept() -> None:
    code = """
import numpy as np, accel, accel.nn.functional as functional
x, w = [accel.asarray(np.ones((256, 300), np.float32)) for _ in range(2)]
function = accel.compile(lambda x: functional.linear(x, w), mode="pure")
for _ in range(60): function(x)
(entry,) = next(iter(function._entries.values()))
print(entry.weights.plan is not None)
"""
    assert in_fresh_process(code) == "True"
    assert in_fresh_process(code, ACCEL_PACKED_WEIGHTS="0") == "False"
    assert in_fresh_process(code, ACCEL_PACKED_WEIGHTS="100K") == "False"
