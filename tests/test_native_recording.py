"""Undecorated code served natively: it does what Python does, keeps nothing, and can be off."""

from __future__ import annotations

import gc
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import DTypeError, IndexOutOfRangeError
from accel.frontend.functions import elementwise as functions
from accel.frontend.functions import operators
from accel.frontend.native.recording import evaluator
from accel.frontend.tensors import evaluation, recipes
from accel.runtime.compiler import clear_cache
from accel.runtime.statistics import STATISTICS
from accel.targets.pure.native import api as native_api

pytestmark = pytest.mark.skipif(
    not native_api.available(), reason="native calls are off in this process"
)

F32 = np.float32


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emitted code takes over at once."""
    monkeypatch.setattr(evaluation, "_PATIENCE", 0)
    assert evaluator() is not None


def tensors(count: int = 3, size: int = 16) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [Tensor(rng.standard_normal(size).astype(F32)) for _ in range(count)]


def scaled(x: Tensor) -> Any:
    """A small program; in an `assert`, pytest would hold its intermediates."""
    return (x * 4 - 1).tolist()


def without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on Python's way of recording and evaluating fails."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("Python was asked")

    for module in (operators, functions):
        monkeypatch.setattr(module, "record", fail)
        monkeypatch.setattr(module, "recorded", fail)
    monkeypatch.setattr(evaluation, "_evaluate", fail)
    monkeypatch.setattr(evaluation, "walk_tree", fail)


PROGRAMS: dict[str, Callable[..., Any]] = {
    "chain": lambda x, a, b: accel.relu(x * a + b),
    "numbers": lambda x, a, b: 1.5 - (2 * x + True) / 3.0 - (0.5 / a),
    "unary": lambda x, a, b: abs(-x),
    "power": lambda x, a, b: x**2.0 + a**2,
    "matmul": lambda x, a, b: x @ a,
    "functions": lambda x, a, b: accel.maximum(accel.exp(x), accel.minimum(a, b)),
    "comparison of arrays": lambda x, a, b: accel.mul(x, accel.lt(a, b)),
    "modulo": lambda x, a, b: x % 2.5 // 0.5,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_repeats_asks_python_no_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAMS[name]
    x, a, b = tensors()
    expected, *_ = [program(x, a, b).numpy() for _ in range(3)]
    without_python(monkeypatch)
    STATISTICS.reset()
    for _ in range(3):
        np.testing.assert_array_equal(program(x, a, b).numpy(), expected)
    assert STATISTICS.snapshot().cache_hits == 3 and STATISTICS.snapshot().compiles == 0


def test_other_buffers_are_read_anew() -> None:
    for k in range(6):
        x, a, b = (Tensor(np.full(5, k + j, F32)) for j in range(3))
        found = (x * a - b).tolist()
        assert found == [k * (k + 1) - (k + 2)] * 5
        x += 1
        found = (x * a - b).tolist()
        assert found == [(k + 1) * (k + 1) - (k + 2)] * 5


# -- operands of every kind ------------------------------------------------------------------
class Foreign:
    """An operand of another library."""

    def __add__(self, other: Any) -> str:
        return "Foreign.__add__" if not isinstance(other, Tensor) else NotImplemented

    def __radd__(self, other: Any) -> str:
        return "Foreign.__radd__"


class Stubborn:
    """One that leaves everything to its partner."""


class Sub(Tensor):
    """A Tensor with an operator of its own."""

    def __radd__(self, other: Any) -> Any:
        return "Sub.__radd__"

    def __mul__(self, other: Any) -> Any:
        return NotImplemented


def result(function: Callable[..., Any], *operands: Any) -> Any:
    try:
        found = function(*operands)
    except Exception as error:
        return type(error), str(error)
    if isinstance(found, Tensor):
        return type(found), found.dtype, found.shape, found.numpy().tobytes()
    return found


NUMBERS = [0, 0.0, -0.0, 1, 1.0, True, False, -3, 2.5, float("nan"), float("inf"), 10**30, 1j]


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "lshift"]
)
def test_operators_do_what_the_methods_do(name: str) -> None:
    function = getattr(operator, name)
    method = f"__{name.rstrip('_')}__"
    reflected = f"__r{method[2:]}"
    for dtype in (F32, np.int64, np.bool_):
        x, y = Tensor(np.array([0, 1, 3], dtype)), Tensor(np.array([1, 1, 2], dtype))
        for other in (y, x, *NUMBERS, np.array([1, 2, 3], dtype), np.float64(2), Tensor([1])):
            expected = result(getattr(x, method), other)
            for _ in range(3):
                assert result(function, x, other) == expected
            if type(other) in (int, float, bool):
                expected = result(getattr(x, reflected), other)
                for _ in range(3):
                    assert result(function, other, x) == expected


def test_other_classes_have_their_say() -> None:
    x = Tensor([1.0, 2.0])
    sub = Sub([3.0, 4.0])
    for _ in range(3):
        assert (x + 1).tolist() == [2, 3]
        assert x + Foreign() == "Foreign.__radd__"
        with pytest.raises(TypeError, match="unsupported operand"):
            Foreign() + x
        assert x + sub == "Sub.__radd__" and 1 + sub == "Sub.__radd__"
        assert (sub + x).tolist() == [4, 6] and (sub + 1).tolist() == [4, 5]
        assert (sub * x).tolist() == [3, 8] and (x * sub).tolist() == [3, 8]
        assert (-sub).tolist() == [-3, -4] and abs(sub).tolist() == [3, 4]
        with pytest.raises(TypeError, match="unsupported operand"):
            sub * 2
        for other in (Stubborn(), "1", None, [1]):
            with pytest.raises(TypeError):
                x + other
            with pytest.raises(TypeError):
                other + x
        with pytest.raises(TypeError):
            pow(x, 2, 3)
        with pytest.raises(TypeError):
            pow(2, 3, x)


def test_a_replaced_method_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Tensor([1.0, 2.0])
    for _ in range(3):
        (x - 1).numpy()
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__sub__", lambda self, other: "replaced")
        assert x - 1 == "replaced" and x - x == "replaced"
    for _ in range(3):
        assert (x - 1).tolist() == [0, 1]


def test_half_made_tensors_are_refused() -> None:
    x, empty = Tensor([1.0]), object.__new__(Tensor)
    for function in (operator.add, operator.pow, operator.matmul, accel.maximum):
        for operands in ((x, empty), (empty, x), (empty, 1.0), (2, empty)):
            with pytest.raises(AttributeError):
                function(*operands)
    for function in (operator.neg, abs, accel.exp):
        with pytest.raises(AttributeError):
            function(empty)


def test_functions_keep_their_signatures_and_errors() -> None:
    x = Tensor([1.0])
    for _ in range(3):
        assert accel.exp(x).item() == pytest.approx(np.e)
        for arguments in ((), (x, x), (x, x, x)):
            with pytest.raises(TypeError):
                accel.exp(*arguments)
        with pytest.raises(DTypeError):
            accel.bitwise_and(x, x)


# -- the moment --------------------------------------------------------------------------------
def test_gradients_modes_and_traces_go_on_as_before() -> None:
    x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    for _ in range(4):
        assert (x * 2 + 1).tolist() == [3, 5]
        w.grad = None
        product = x * w
        assert product.requires_grad and not (x * 2).requires_grad
        (product * product).sum().backward()
        assert w.grad.tolist() == [6, 32]
        with accel.no_grad():
            assert not (x * w).requires_grad and (x * w).tolist() == [3, 8]
        with accel.mode("reference"):
            assert (x * 2 + 1).tolist() == [3, 5]
        assert accel.compile(lambda x: -(x * 2 + 1))(x).tolist() == [-3, -5]
    assert accel.grad(lambda y: (y * x + 1).sum())(x).tolist() == [1, 2]


def test_a_mode_that_is_set_has_plans_of_its_own() -> None:
    x = Tensor([1.0, 2.0])
    clear_cache()
    try:
        for mode, compiles in (("pure", 1), ("reference", 1), ("pure", 0)):
            accel.set_mode(mode)
            STATISTICS.reset()
            for _ in range(4):
                assert scaled(x) == [3, 7]
            assert STATISTICS.snapshot().compiles == compiles
    finally:
        accel.set_mode("pure")


def test_tensors_from_outside_are_read_by_traces() -> None:
    x = Tensor([1.0, 2.0])
    for _ in range(4):
        assert scaled(x) == [3, 7]
    compiled = accel.compile(lambda y: y + (x * 4 - 1))
    for k in range(4):
        x.data = Tensor([k, k + 1.0])
        assert scaled(x) == [4 * k - 1, 4 * k + 3]
        assert compiled(Tensor([10.0, 20.0])).tolist() == [9 + 4 * k, 23 + 4 * k]
    assert compiled.cache_info().misses == 1


def test_leaves_that_are_the_same_are_computed_once() -> None:
    x, a, _ = tensors()
    for _ in range(4):
        (accel.exp(x) * accel.exp(a)).numpy()
    STATISTICS.reset()
    (accel.exp(x) * accel.exp(x)).numpy()
    assert STATISTICS.snapshot().pure_ops == 2


def test_what_is_held_or_shared_is_left_to_python_and_right() -> None:
    x, a, b = tensors()
    chain = np.maximum(x.numpy() * a.numpy() + b.numpy(), 0)
    for _ in range(4):
        np.testing.assert_array_equal(accel.relu(x * a + b).numpy(), chain)
        product = x * a
        np.testing.assert_array_equal(accel.relu(product + b).numpy(), chain)
        assert product._value.data is not None  # held, so computed along with it
        np.testing.assert_array_equal(
            accel.relu(x * x + x).numpy(), np.maximum(x.numpy() * x.numpy() + x.numpy(), 0)
        )
        inner = x * a
        inner.numpy()
        np.testing.assert_array_equal(accel.relu(inner + b).numpy(), chain)
        outer = accel.relu(x * a + b)
        del inner, product
        np.testing.assert_array_equal((outer * 2).numpy(), chain * 2)
        assert outer._value.data is not None


def test_errors_of_the_run_are_raised_by_python() -> None:
    table = Tensor(np.arange(5, dtype=F32))
    scale = Tensor([2.0, 3.0])
    for _ in range(4):
        assert (accel.take(table, Tensor([1, 4])) * scale).tolist() == [2, 12]
        with pytest.raises(IndexOutOfRangeError) as failure:
            (accel.take(table, Tensor([1, 9])) * scale).numpy()
        assert failure.value.loc is not None and failure.value.loc.file == __file__


def test_dropped_plans_are_made_again() -> None:
    x, a, b = tensors()
    expected = (x * a - b).numpy()
    for _ in range(3):
        for _ in range(3):
            pending = x * a - b
            np.testing.assert_array_equal((x * a - b).numpy(), expected)
        clear_cache()
        np.testing.assert_array_equal(pending.numpy(), expected)


# -- memory --------------------------------------------------------------------------------------
def test_references_and_memory_stay_level() -> None:
    x, a, b = tensors()

    def step() -> None:
        accel.relu(x * a + b).numpy()
        (2.0 - (-x)).numpy()
        (x + 0.0).numpy()
        held = x + a
        (held * 3).numpy()
        for other in ("a", None):
            with pytest.raises(TypeError):
                x + other

    for _ in range(300):
        step()
    inner = x * a
    watched = [None, True, False, (), x, a, x._value, a._value, x._value.data, inner._value.recipe,
               inner._value.step, inner._value.type, x._value.recipe, Tensor, type(x._value), float,
               recipes.transitions_of("add")]  # fmt: skip
    gc.collect()
    before = [sys.getrefcount(each) for each in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(20_000):
        step()
    gc.collect()
    after = [sys.getrefcount(each) for each in watched]
    assert max(abs(p - q) for p, q in zip(before, after, strict=True)) < 20
    assert sys.getallocatedblocks() - blocks < 200


def test_temporaries_go_at_once() -> None:
    x, a, b = tensors()
    for _ in range(4):
        counts = [sys.getrefcount(x._value)]
        result = x * a + b
        counts.append(sys.getrefcount(x._value))
        result.numpy()
        counts.append(sys.getrefcount(x._value))
        assert counts == [counts[0], counts[0] + 1, counts[0]]
        assert result._value.inputs == () and result._value.step is None


def test_collections_of_garbage_may_run_anything_in_between() -> None:
    x, a, b = tensors()
    y = x * 1
    before = gc.get_threshold()
    runs = 0

    def disturb(phase: str, info: Any) -> None:
        nonlocal runs
        runs += 1
        y.data = Tensor(np.full(16, runs, F32))  # y is being recorded
        if runs % 3 == 0:
            recipes.forget_recipes()

    expected = x.numpy() * a.numpy()
    gc.callbacks.append(disturb)
    gc.set_threshold(1, 10_000, 10_000)
    try:
        for _ in range(300):
            z = -(y * b) + y
            np.testing.assert_array_equal((x * a).numpy(), expected)
            found = z.numpy()
            assert found.shape == (16,) and np.isfinite(found).all()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(disturb)
    assert runs > 100


# -- processes -------------------------------------------------------------------------------------
PROGRAM = """
import numpy as np, accel
from accel.frontend.tensors.tensor import Tensor
x, a, b = (Tensor(np.linspace(k, k + 3, 7, dtype=np.float32)) for k in range(3))
for turn in range(100):
    for t in (accel.relu(x * a + b), 2.0 - x, -x, x ** 2, accel.exp(x / a), x @ a):
        bits = t.numpy().tobytes().hex()
        if turn in (0, 1, 20, 50, 99):
            print(bits, t.dtype)
print(accel.stats().cache_hits, accel.stats().compiles, accel.stats().pure_ops)

class Late:
    def __del__(self):
        self.x * self.a + 1
        accel.relu(self.x)
late = Late()
late.x, late.a, late.me = x, a, late
"""


def test_python_alone_does_the_same_and_the_end_is_quiet() -> None:
    outputs = []
    for switch in ("1", "0"):
        ran = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", PROGRAM], capture_output=True, text=True,
            timeout=120, env={**os.environ, "ACCEL_NATIVE_CALLS": switch}, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        outputs.append(ran.stdout)
    assert outputs[0] == outputs[1]
