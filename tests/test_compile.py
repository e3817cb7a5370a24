"""compile: signatures, captures, write-back, guards, floats, concurrency, inspection."""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import math
import sys
import threading
import types

import numpy as np
import pytest

import accel
from accel import Tensor
from accel.errors import (
    ArgumentError,
    ShapeError,
    TracedValueError,
    TraceError,
    UnsupportedDTypeError,
)  # fmt: skip
from accel.frontend.tensors.module_state import Stateful, hyperparameter
from accel.frontend.tensors.recording import record

SCALE = 2.0
WEIGHTS = np.ones(3)
CONFIG = types.SimpleNamespace(scale=2.0)
TABLE = {"scale": 2.0}


def misses(function):
    return function.cache_info().misses


# -- signatures -------------------------------------------------------------------------------
def test_it_is_traced_once_per_signature():
    calls = []

    @accel.compile
    def f(x, y=1):
        calls.append(1)
        return x * 2 + y

    x = np.arange(3.0)
    assert f(x).tolist() == [1, 3, 5]
    assert f(x + 1).tolist() == [3, 5, 7] and len(calls) == 1
    assert f(np.arange(4.0)).shape == (4,) and len(calls) == 2
    assert f(np.arange(3, dtype=np.float32)).dtype is accel.float32 and len(calls) == 3
    assert f(x, 5).tolist() == [5, 7, 9] and len(calls) == 4
    assert f(x, y=5).tolist() == [5, 7, 9] and len(calls) == 5
    assert f(x, True).dtype is accel.float64 and len(calls) == 6
    assert f.cache_info() == (1, 6, 6)
    f.clear_cache()
    assert f.cache_info() == (0, 0, 0)


def test_layouts_are_classes_not_strides():
    @accel.compile
    def f(x):
        return x + 1

    base = np.arange(200.0).reshape(10, 20)
    for view in (base[:, :5], base[:, :5], np.arange(120.0).reshape(10, 12)[:, :5]):
        np.testing.assert_array_equal(f(view).numpy(), view + 1)
    assert misses(f) == 1
    for view in (base[:, ::4], base[:, ::-4], np.ascontiguousarray(base[:, :5])):
        np.testing.assert_array_equal(f(view).numpy(), view + 1)
    assert misses(f) == 3


def test_arguments_of_every_kind():
    @dataclasses.dataclass
    class Batch:
        x: object
        scale: float

    Pair = collections.namedtuple("Pair", "a b")

    @accel.compile
    def f(batch, pair, *rest, mode, extra=None):
        total = batch.x * batch.scale + pair.a - pair.b
        for each in rest:
            total = total + each
        if mode == "double":
            total = total * 2
        return {"total": total, "pair": Pair(total + 1, None), "mode": mode, "extra": extra}

    x = np.ones(2, np.float32)
    out = f(Batch(x, 3.0), Pair(x, np.float32(2)), x, 1, mode="double", extra=(slice(0, 2), None))
    assert out["total"].tolist() == [8, 8] and out["pair"].a.tolist() == [9, 9]
    assert out["mode"] == "double" and out["extra"] == (slice(0, 2), None)
    assert f(Batch(x, 4.0), Pair(x, np.float32(2)), x, 1, mode="double", extra=(slice(0, 2), None))[
        "total"
    ].tolist() == [10, 10]
    assert misses(f) == 1


def test_an_unhashable_argument_is_named():
    @accel.compile
    def f(x, options):
        return x

    with pytest.raises(TraceError, match=r"argument options.* set"):
        f(np.ones(2), {1, 2})


def test_numpy_arguments_of_any_byte_order_and_alignment():
    @accel.compile
    def f(x):
        return x * 2

    big = np.arange(3, dtype=">f8")
    raw = np.zeros(25, np.uint8)[1:].view(np.float64)
    assert f(big).tolist() == [0, 2, 4] and f(raw).tolist() == [0, 0, 0]


def test_results_are_fresh_and_arguments_untouched():
    @accel.compile
    def f(x):
        return x, x + 0

    x = np.arange(3.0)
    same, added = f(x)
    x[0] = 99
    assert same.tolist() == [0, 1, 2] and added.tolist() == [0, 1, 2]


def test_decorator_forms_methods_and_modules():
    @accel.compile(mode="pure")
    def f(x):
        """Doc."""
        return x + 1

    assert f.__name__ == "f" and f.__doc__ == "Doc." and f(1.0).item() == 2

    class Model:
        def __init__(self, scale):
            self.scale = scale

        @accel.compile
        def double(self, x):
            return x * 2 * self.scale

    one, three = Model(1.0), Model(3.0)
    x = np.ones(2)
    assert one.double(x).tolist() == [2, 2] and three.double(x).tolist() == [6, 6]
    one.scale = 10.0
    assert one.double(x).tolist() == [20, 20]
    assert one.double.graph(x).count("mul") == 2
    with pytest.raises(ArgumentError):
        accel.compile(mode="fast")
    with pytest.raises(TraceError, match="callable"):
        accel.compile(3)


def test_nested_compiled_functions_become_one_graph():
    inner = accel.compile(lambda x: x * 2)
    outer = accel.compile(lambda x: inner(x) + 1)
    assert outer(np.ones(2)).tolist() == [3, 3] and inner.cache_info().size == 0


# -- floats -------------------------------------------------------------------------------------
def test_floats_are_inputs():
    @accel.compile
    def f(x, s):
        return x * s + s * 0.5

    x = np.ones(2, np.float32)
    for s in (1.0, 2.0, float("inf")):
        out = f(x, s)
        assert out.dtype is accel.float32 and out.tolist() == [s * 1.5] * 2
    assert misses(f) == 1


def test_a_float_that_decides_becomes_static():
    @accel.compile
    def f(x, s, t):
        if s > 1:
            return x * math.sqrt(s) * t
        return x * t

    x = np.ones(1)
    assert f(x, 4.0, 1.0).tolist() == [2]
    assert f(x, 4.0, 3.0).tolist() == [6] and misses(f) == 1
    assert f(x, 0.5, 1.0).tolist() == [1] and misses(f) == 2
    assert f(x, 4.0, 1.0).tolist() == [2] and misses(f) == 2
    assert f(x, float("nan"), 1.0).tolist() == [1]
    assert f(x, float("nan"), 1.0).tolist() == [1] and misses(f) == 3


def test_a_float_that_is_spelt_out_becomes_static():
    f = accel.compile(lambda x, s: {f"x{s}": x, f"{s:.1f}": x})
    assert list(f(np.ones(1), 2.0)) == ["x2.0", "2.0"]
    assert list(f(np.ones(1), 3.0)) == ["x3.0", "3.0"]


def test_an_argument_without_a_dtype_of_accel_is_located():
    with pytest.raises(UnsupportedDTypeError, match=r"test_compile\.py:\d+"):
        accel.compile(lambda x: x)(np.zeros(2, "M8[s]"))


def test_a_float_result_stands_alone_as_float32():
    @accel.compile
    def f(s):
        return s * 2

    assert f(1.5).dtype is accel.float32 and f(1.5).item() == 3


# -- values of traced tensors ---------------------------------------------------------------------
@pytest.mark.parametrize(
    "demand", [bool, float, int, lambda x: x.item(), lambda x: x.numpy(), lambda x: x.tolist(),
               lambda x: np.asarray(x), lambda x: range(3)[x.sum() if hasattr(x, "sum") else x]],
)  # fmt: skip
def test_traced_values_have_no_python_value(demand):
    @accel.compile
    def f(x):
        demand(record("sum", x))
        return x

    with pytest.raises(TracedValueError) as caught:
        f(np.ones(3, np.int64))
    assert "test_compile.py:" in str(caught.value) and "remedy" in str(caught.value)


def test_traced_tensors_show_their_type():
    seen = []

    @accel.compile
    def f(x):
        seen.append(repr(x))
        return x + 1

    f(np.ones((3, 4), np.float32))
    assert seen == ["Tensor(traced f32[3,4])"]


def test_a_leaked_tensor_is_refused_with_a_remedy():
    kept = []

    @accel.compile
    def f(x):
        kept.append(x * 2)
        return x

    f(np.ones(2))
    with pytest.raises(TraceError, match="used after"):
        kept[0] + 1
    with pytest.raises(TraceError, match="used after"):
        kept[0].numpy()


def test_errors_inside_leave_nothing_behind():
    state = Tensor([1.0, 2.0])

    @accel.compile
    def f(x):
        nonlocal state
        state += 1
        return state + x

    with pytest.raises(ShapeError, match="add"):
        f(np.ones(5))
    assert state.tolist() == [1, 2]
    assert f(np.ones(2)).tolist() == [3, 4] and state.tolist() == [2, 3]


# -- what the function reads from outside -------------------------------------------------------
def test_tensors_and_arrays_from_outside_are_read_anew():
    weight, array = Tensor([1.0, 2.0]), np.array([10.0, 20.0], np.float32)

    @accel.compile
    def f(x):
        return x * weight + array

    x = np.ones(2, np.float32)
    assert f(x).tolist() == [11, 22]
    weight += 1
    array[0] = 0
    assert f(x).tolist() == [2, 23] and misses(f) == 1
    weight.data = Tensor([[1.0, 2.0]])  # another shape
    assert f(x).shape == (1, 2) and misses(f) == 2


def test_scalars_from_outside_are_guarded():
    global SCALE
    offset = 1.0

    @accel.compile
    def f(x, power=2):
        return SCALE * x**power + offset

    x = np.ones(1)
    assert f(x).tolist() == [3]
    SCALE = 3.0
    assert f(x).tolist() == [4]
    offset = 5.0
    assert f(x).tolist() == [8] and misses(f) == 3
    f.__wrapped__.__defaults__ = (3,)
    f(x)
    assert misses(f) == 4
    reasons = f.explain_recompiles()
    assert "SCALE changed from 2.0 to 3.0" in reasons[0] and "offset" in reasons[1]
    SCALE = 2.0


def test_attributes_and_containers_from_outside_are_guarded():
    @accel.compile
    def f(x):
        return x * CONFIG.scale + TABLE["scale"]

    x = np.ones(1)
    assert f(x).tolist() == [4]
    CONFIG.scale = 5.0
    TABLE["scale"] = 1.0
    assert f(x).tolist() == [6]
    CONFIG.scale = TABLE["scale"] = 2.0
    assert f(x).tolist() == [4]


def helper(x):
    return x * SCALE


def make(scale):
    def inner(x):
        return x * scale

    def setter(value):
        nonlocal scale
        scale = value

    return inner, setter


def test_functions_called_are_guarded_too():
    global SCALE
    inner, setter = make(10.0)

    @accel.compile
    def f(x):
        return helper(x) + inner(x)

    x = np.ones(1)
    assert f(x).tolist() == [12]
    SCALE = 3.0
    assert f(x).tolist() == [13]
    setter(20.0)
    assert f(x).tolist() == [23]
    SCALE = 2.0


def test_an_array_folded_by_numpy_is_guarded_by_its_contents():
    @accel.compile
    def f(x):
        return x + float(WEIGHTS.sum())

    x = np.zeros(1)
    assert f(x).tolist() == [3]
    WEIGHTS[0] = 2
    assert f(x).tolist() == [4]
    WEIGHTS[0] = 1
    assert f(x).tolist() == [3]


def test_what_changes_while_traced_is_guarded_by_its_first_value():
    count = 0

    @accel.compile
    def f(x):
        nonlocal count
        count += 1
        return x + count

    with pytest.raises(TraceError, match="count"):
        f(np.ones(1))


def test_the_profiler_in_force_is_restored():
    calls = []
    previous = sys.getprofile()
    sys.setprofile(lambda *a: calls.append(a))
    try:
        ours = sys.getprofile()
        accel.compile(lambda x: x + 1)(np.ones(1))
        assert sys.getprofile() is ours
    finally:
        sys.setprofile(previous)


# -- write-back ---------------------------------------------------------------------------------
def test_tensor_arguments_are_written_back_numpy_ones_never():
    @accel.compile
    def f(x):
        x += 1
        x *= 2
        return x

    tensor, array = Tensor([1.0]), np.array([1.0])
    for expected in (4, 10):
        assert f(tensor) is tensor
        assert tensor.tolist() == [expected]
    assert f(array).tolist() == [4] and array.tolist() == [1]


def test_one_tensor_given_twice_stays_one():
    @accel.compile
    def f(a, b):
        a += 1
        return a + b

    x = Tensor([1.0])
    assert f(x, x).tolist() == [4] and x.tolist() == [2]
    assert f(Tensor([1.0]), Tensor([10.0])).tolist() == [12]


def test_captured_tensors_are_written_back():
    counter, last = Tensor(0), Tensor(np.zeros(2))
    early = counter + 100

    @accel.compile
    def f(x):
        nonlocal counter
        counter += 1
        last.copy_(x)
        return counter * 10

    assert [f(np.ones(2) * i).item() for i in range(3)] == [10, 20, 30]
    assert counter.item() == 3 and last.tolist() == [2, 2] and misses(f) == 1
    assert early.item() == 100


def test_containers_passed_in_must_not_change():
    @accel.compile
    def f(params):
        params["w"] = params["w"] * 2
        return params["w"]

    with pytest.raises(TraceError, match=r"params\.w"):
        f({"w": np.ones(2)})


def test_inspection_runs_and_writes_nothing():
    state = Tensor([1.0])

    @accel.compile
    def f(x):
        nonlocal state
        state += x
        return state * 2

    x = np.ones(1, np.float32)
    graph = f.graph(x)
    assert [n.attrs["name"] for n in graph.inputs] == ["x", "state"] and len(graph.outputs) == 2
    assert accel.parse(str(graph)) == graph
    for stage, each in f.stages(x).items():
        assert f.graph(x, stage=stage) == each and accel.parse(str(each)) == each
    assert state.tolist() == [1]
    with pytest.raises(TraceError, match="stage"):
        f.graph(x, stage="final")
    assert "mul" in str(f.explain(x))
    with accel.mode("pure"):
        assert "1 native call" in str(f.explain(x))
        assert "define" in f.llvm_ir(x) and "ret" in f.assembly(x)
    traced = misses(f)
    assert f(x).tolist() == [4] and state.tolist() == [2] and misses(f) == traced


# -- objects with state -------------------------------------------------------------------------
class Running(Stateful):
    def __init__(self):
        self.mean = Tensor([0.0])
        self.momentum = 0.5
        self.training = True
        self.last = None

    def __call__(self, x):
        if self.training:
            self.mean = self.mean * self.momentum + x * (1 - self.momentum)
        return x - self.mean


def test_attributes_of_stateful_objects_are_read_guarded_and_written():
    model = Running()
    f = accel.compile(lambda x: model(x))
    x = np.float32([4.0])
    assert [f(x).tolist() for _ in range(3)] == [[2.0], [1.0], [0.5]]
    assert model.mean.tolist() == [3.5] and misses(f) == 1
    model.training = False
    assert f(x).tolist() == [0.5] and misses(f) == 2
    assert model.mean.tolist() == [3.5]
    model.momentum = 0.9  # not read while not training
    assert f(x).tolist() == [0.5] and misses(f) == 2
    model.training = True
    f(x)
    assert misses(f) == 3  # the momentum is another one


def test_a_scalar_attribute_cannot_be_written_while_traced():
    model = Running()

    @accel.compile
    def f(x):
        model.momentum = 0.9
        return x

    with pytest.raises(TraceError, match=r"'momentum' of Running"):
        f(np.ones(1))
    assert model.momentum == 0.5


def test_objects_made_inside_are_free():
    @accel.compile
    def f(x):
        model = Running()
        model.momentum = 0.25
        return model(x)

    assert f(np.float32([4.0])).tolist() == [1.0]


def test_a_new_tensor_attribute_is_fetched():
    model = Running()
    model.training = False
    f = accel.compile(model)
    assert f(np.float32([4.0])).tolist() == [4.0]
    model.mean = Tensor([1.0])
    assert f(np.float32([4.0])).tolist() == [3.0]


def test_hyperparameters_are_fetched_on_every_call():
    group = {"lr": 0.5, "betas": (0.5, 0.25), "nesterov": False}

    @accel.compile
    def f(x):
        first, second = hyperparameter(group, "betas")
        step = x * hyperparameter(group, "lr") + first * second
        return step * 2 if hyperparameter(group, "nesterov") else step

    x = np.ones(1, np.float32)
    assert f(x).tolist() == [0.625] and f(x).dtype is accel.float32
    group["lr"] = 1.0
    group["betas"] = (0.5, 0.5)
    assert f(x).tolist() == [1.25] and misses(f) == 1
    group["nesterov"] = True
    assert f(x).tolist() == [2.5] and misses(f) == 2
    assert hyperparameter(group, "lr") == 1.0


def test_a_hyperparameter_that_decides_becomes_static():
    group = {"lr": 0.5}

    @accel.compile
    def f(x):
        return x if hyperparameter(group, "lr") > 0 else x * 0

    assert f(np.ones(1)).tolist() == [1]
    group["lr"] = -1.0
    assert f(np.ones(1)).tolist() == [0]


# -- explanations, threads, settings ---------------------------------------------------------------
def test_recompiles_are_explained_once(caplog):
    @accel.compile
    def f(batch):
        return batch + 1

    with caplog.at_level(logging.WARNING, logger="accel"):
        for n in range(1, 14):
            f(np.ones(n))
    warnings = [r.getMessage() for r in caplog.records if "explain_recompiles" in r.getMessage()]
    assert len(warnings) == 1 and "argument batch changed from float64[8]" in warnings[0]
    assert len(f.explain_recompiles()) == 12


def test_modes_have_their_own_entries():
    f = accel.compile(lambda x: x + 1)
    f(np.ones(1))
    with accel.mode("reference"):
        f(np.ones(1))
    assert misses(f) == 2 and "mode" in f.explain_recompiles()[0]


def test_many_threads_share_one_trace():
    traces = []

    @accel.compile
    def f(x, s):
        traces.append(1)
        return x * s + 1

    x = np.arange(8, dtype=np.float32)
    wrong = []

    def work(i):
        for _ in range(100):
            if f(x, float(i)).tolist() != (x * i + 1).tolist():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and len(traces) == 1
    assert f.cache_info().hits + misses(f) == 800


def test_tracing_beside_lazy_code_in_another_thread():
    shared = Tensor([1.0])
    inside, go = threading.Event(), threading.Event()

    @accel.compile
    def f(x):
        nonlocal shared
        shared += x
        inside.set()
        assert go.wait(10)
        return shared

    thread = threading.Thread(target=f, args=(np.ones(1, np.float32),))
    thread.start()
    assert inside.wait(10)
    assert shared.tolist() == [1]  # the trace in the other thread has changed nothing
    go.set()
    thread.join()
    assert shared.tolist() == [2]


# -- more of the world ------------------------------------------------------------------------
def test_a_method_of_a_plain_object_sees_its_attributes():
    class Scaler:
        factor = 2.0

        def __init__(self):
            self.offset = 1.0

        def __call__(self, x):
            return self.shift(x * self.factor)

        def shift(self, x):
            return x + self.offset

    scaler = Scaler()
    f = accel.compile(scaler)
    x = np.ones(1)
    assert f(x).tolist() == [3]
    scaler.offset = 5.0
    assert f(x).tolist() == [7]
    Scaler.factor = 3.0
    assert f(x).tolist() == [8]
    assert f.factor == 3.0  # attributes of what is compiled stay within reach


def test_partials_ufuncs_and_accel_functions_compile():
    partial = functools.partial(lambda a, x: x * a, np.float32(3))
    x = np.float32([0.5, 2.0])
    assert accel.compile(partial)(x).tolist() == [1.5, 6.0]
    np.testing.assert_allclose(accel.compile(np.exp)(x).numpy(), np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(accel.compile(accel.exp)(x).numpy(), np.exp(x), rtol=1e-6)


def test_tracebacks_of_a_traced_function_show_the_users_frames():
    @accel.compile
    def outer(x):
        return inner(x)

    def inner(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        outer(np.ones(1))
    names = [e.name for e in caught.traceback]
    assert names[-2:] == ["outer", "inner"] and len(names) == 4  # this test, the call, and they


def test_reading_gradients_of_a_float_argument():
    f = accel.compile(accel.grad(lambda x: x**3))
    assert f(2.0).item() == 12 and f(3.0).item() == 27 and misses(f) == 1
    assert f(2.0).dtype is accel.float32


def test_evaluation_while_recorded_waits_for_the_run():
    @accel.compile
    def f(x):
        y = x * 2
        accel.eval(y)
        return y.block_until_ready() + 1

    assert f(np.ones(1)).tolist() == [3]


def test_tensors_recorded_outside_are_computed_on_the_way_in():
    lazy = Tensor([1.0, 2.0]) * 3
    assert accel.compile(lambda x: x + lazy)(Tensor([1.0, 1.0]) + 1).tolist() == [5, 8]


def test_a_tensor_made_inside_is_a_constant_that_can_change_inside():
    @accel.compile
    def f(x):
        y = Tensor([1.0, 2.0])
        y += x
        y += x
        return y

    for _ in range(2):
        assert f(np.float32([1, 1])).tolist() == [3, 4]


def test_gradients_are_read_cleared_and_scaled_in_place():
    w = Tensor([1.0], requires_grad=True)
    w.grad = Tensor([8.0])

    @accel.compile
    def halve():
        grad = w.grad
        grad *= 0.5
        return grad

    assert halve().tolist() == [4] and w.grad.tolist() == [4]
    assert halve().tolist() == [2] and halve.cache_info().misses == 1

    @accel.compile
    def clear():
        w.grad = None
        return w * 1

    clear()
    assert w.grad is None


def test_the_oldest_signatures_are_dropped():
    f = accel.compile(lambda x, n: x + n)
    for n in range(300):
        f(1.0, n)
    assert f.cache_info().size == 256
    assert f(1.0, 0).item() == 1 and f.cache_info().misses == 301


def test_results_share_nothing_with_inputs_that_numpy_owns():
    x = np.ones(2)
    out = accel.compile(lambda a: [a, a])(x)
    x[:] = 5
    assert [t.tolist() for t in out] == [[1, 1], [1, 1]]


def test_a_module_trains_in_one_graph():
    accel.manual_seed(0)
    model = accel.nn.Sequential(accel.nn.Linear(3, 8), accel.nn.ReLU(), accel.nn.Linear(8, 2))
    optimizer = accel.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)).astype(np.float32), rng.integers(0, 2, 16)

    def step(x, y):
        optimizer.zero_grad()
        loss = accel.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    start = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    plain = [step(x, y).item() for _ in range(4)]
    model.load_state_dict(start)
    optimizer = accel.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    compiled = accel.compile(step)
    np.testing.assert_allclose([compiled(x, y).item() for _ in range(4)], plain, rtol=1e-5)
    optimizer.param_groups[0]["lr"] = 0.01
    compiled(x, y)
    assert misses(compiled) == 1
    model.eval()
    compiled(x, y)
    assert misses(compiled) == 2 and "training" in compiled.explain_recompiles()[0]


def test_a_profiler_that_is_running_goes_on():
    """cProfile's hook is no Python callable: it cannot simply be set again."""
    import cProfile

    profiler = cProfile.Profile()
    profiler.enable()
    try:
        f = accel.compile(lambda x: x + 1)
        f(np.ones(3))
        f(np.ones(3))
    finally:
        profiler.disable()
    assert any("__call__" in str(entry.code) for entry in profiler.getstats())
