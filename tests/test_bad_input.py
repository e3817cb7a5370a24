"""Wrong input: each mistake has its class, and the message names op, line and remedy.

Every mistake is made eagerly, and inside a compiled function, on each target.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel import errors, nn, optim

F = nn.functional
ACCEL = os.path.dirname(os.path.abspath(accel.__file__)) + os.sep


def ints(*values: int) -> accel.Tensor:
    return accel.asarray(np.array(values))


def ones(*shape: int) -> accel.Tensor:
    return accel.ones(shape)


#: name: what is wrong for an x of shape [2, 3], the class, what the message must say.
Case = tuple[Callable[[Any], Any], type[errors.AccelError], str]

MISTAKES: dict[str, Case] = {
    # shapes
    "operator": (lambda x: x + ones(4), errors.ShapeError, r"add: .*\[2, 3\] and \[4\]"),
    "function": (lambda x: accel.mul(x, ones(4)), errors.ShapeError, r"mul: .*\[2, 3\]"),
    "numpy function": (lambda x: np.subtract(x, ones(4)), errors.ShapeError, r"sub: .*\[4\]"),
    "where": (lambda x: accel.where(x > 0, x, ones(7)), errors.ShapeError, r"where: .*\[7\]"),
    "matmul": (lambda x: x @ ones(5, 2), errors.ShapeError, r"matmul: f32\[2,3\].*f32\[5,2\]"),
    "matmul of numbers": (lambda x: x @ accel.asarray(1.0), errors.ShapeError, "matmul"),
    "einsum": (lambda x: accel.einsum("ij,jk", x, ones(4, 4)), errors.ShapeError, "einsum.*'j'"),
    "linear": (lambda x: F.linear(x, ones(4, 5)), errors.ShapeError, r"linear: f32\[2,3\]"),
    "layer": (lambda x: nn.Linear(9, 2)(x), errors.ShapeError, r"linear: .*f32\[2,9\]"),
    "layer norm": (lambda x: nn.LayerNorm(5)(x), errors.ShapeError, r"layer_norm.*\(5,\)"),
    "reshape": (lambda x: x.reshape(7, 7), errors.ShapeError, r"reshape: .*\[7, 7\]"),
    "two unknown extents": (lambda x: x.reshape(-1, -1), errors.ShapeError, "reshape"),
    "broadcast_to": (lambda x: accel.broadcast_to(x, (5, 3)), errors.ShapeError, r"\[5, 3\]"),
    "cat": (lambda x: accel.cat([x, ones(4, 4)]), errors.ShapeError, r"cat: .*f32\[4,4\]"),
    "stack": (lambda x: accel.stack([x, ones(3)]), errors.ShapeError, r"stack: .*f32\[3\]"),
    "in place": (lambda x: x.__iadd__(ones(5, 2, 3)), errors.ShapeError, r"add: .*\[5, 2, 3\]"),
    "assignment": (lambda x: x.__setitem__(..., ones(7)), errors.ShapeError, r"\[7\].*\[2, 3\]"),
    "mse": (lambda x: F.mse_loss(x, ones(5)), errors.ShapeError, r"mse_loss: .*\[5\]"),
    "targets": (lambda x: F.cross_entropy(x, ints(0, 1, 1)), errors.ShapeError, r"i64\[3\]"),
    "mask": (lambda x: x[np.array([True, False, True])], errors.ShapeError, r"mask .*\[3\]"),
    "dimensions": (lambda x: accel.zeros((1,) * 70), errors.ShapeError, "70 dimensions"),
    "beyond memory": (lambda x: accel.zeros((10**19,)), errors.ShapeError, "bytes"),
    # axes
    "axis": (lambda x: x.sum(axis=5), errors.AxisError, "sum: axis 5 .* -2 to 1"),
    "axis of NumPy's": (lambda x: np.mean(x, axis=7), errors.AxisError, "mean: axis 7"),
    "axis twice": (lambda x: x.sum(axis=(0, 0)), errors.AxisError, "sum: .*twice"),
    "softmax axis": (lambda x: F.softmax(x, dim=9), errors.AxisError, "softmax: axis 9"),
    "permutation": (lambda x: x.permute(0, 0), errors.AxisError, "permute.*twice"),
    "cumsum axis": (lambda x: accel.cumsum(x, axis=-3), errors.AxisError, "cumsum: axis -3"),
    "cat axis": (lambda x: accel.cat([x, x], dim=5), errors.AxisError, "cat: axis 5"),
    "take axis": (lambda x: accel.take(x, ints(0), axis=8), errors.AxisError, "take: axis 8"),
    "axis that is a str": (lambda x: x.sum(axis="a"), errors.ArgumentError, "sum: axis 'a'"),
    "axis and dim": (lambda x: x.sum(dim=0, axis=0), errors.ArgumentError, "sum: both"),
    # indices
    "index": (lambda x: x[10], errors.IndexOutOfRangeError, r"index 10 .*\[2, 3\]"),
    "too many indices": (lambda x: x[0, 0, 0], errors.IndexOutOfRangeError, "3 indices"),
    "index to assign": (lambda x: x.__setitem__(9, 1.0), errors.IndexOutOfRangeError, "index 9"),
    "integer array": (lambda x: x[np.array([0, 9])], errors.IndexOutOfRangeError, "index 9"),
    "list index": (lambda x: x[[0, 99]], errors.IndexOutOfRangeError, "index 99"),
    "take": (lambda x: accel.take(x, ints(50), axis=0), errors.IndexOutOfRangeError, "take.* 50"),
    "gather": (lambda x: accel.gather(x, 0, ints(9)[None]), errors.IndexOutOfRangeError,
               "gather.* 9"),
    "embedding": (lambda x: F.embedding(ints(1, 77), x), errors.IndexOutOfRangeError,
                  "embedding.* 77"),
    "class": (lambda x: F.cross_entropy(x, ints(0, 9)), errors.IndexOutOfRangeError,
              "cross_entropy.* 9"),
    "negative class": (lambda x: F.cross_entropy(x, ints(0, -1)), errors.IndexOutOfRangeError,
                       "cross_entropy.* -1"),
    "one_hot": (lambda x: F.one_hot(ints(1, 5), 3), errors.IndexOutOfRangeError, "one_hot.* 5"),
    "index that is a float": (lambda x: x[1.5], errors.DTypeError, "float"),
    "index that is a str": (lambda x: x["a"], errors.DTypeError, "str"),
    "floating index": (lambda x: accel.take(x, ones(1), axis=0), errors.DTypeError, "take"),
    "two ellipses": (lambda x: x[..., ...], errors.ArgumentError, "ellipses"),
    "step of 0": (lambda x: x[::0], errors.ArgumentError, "step"),
    # empty reductions
    "max of nothing": (lambda x: accel.max(x[:0]), errors.EmptyReductionError, r"f32\[0,3\]"),
    "amin over nothing": (lambda x: np.min(x[:0], axis=0), errors.EmptyReductionError, "amin"),
    "argmin of nothing": (lambda x: accel.argmin(x[:0]), errors.EmptyReductionError, "argmin"),
    # what is no array
    "str": (lambda x: x + "a", errors.NotAnArrayError, "str"),
    "None": (lambda x: x * None, errors.NotAnArrayError, "None"),
    "dict": (lambda x: accel.exp({}), errors.NotAnArrayError, "dict"),
    "list": (lambda x: x + [1, 2, 3], errors.NotAnArrayError, "list"),
    "set": (lambda x: accel.asarray({1, 2}), errors.NotAnArrayError, "set"),
    "ragged": (lambda x: accel.asarray([[1, 2], [3]]), errors.NotAnArrayError, "list"),
    "huge integer": (lambda x: x + 2**70, errors.NotAnArrayError, "64 bits"),
    # dtypes
    "objects": (lambda x: accel.asarray(np.array([object()])), errors.UnsupportedDTypeError, "O"),
    "strings": (lambda x: x + np.array(["a", "b", "c"]), errors.UnsupportedDTypeError, "U1"),
    "dates": (lambda x: accel.asarray(np.array(["2020-01-01"], "M8[D]")),
              errors.UnsupportedDTypeError, "M8"),
    "records": (lambda x: accel.asarray(np.zeros(3, [("a", int)])),
                errors.UnsupportedDTypeError, "'a'"),
    "unknown dtype": (lambda x: x.astype("foo"), errors.UnsupportedDTypeError, "foo"),
    "bits of floats": (lambda x: x & x, errors.DTypeError, r"bitwise_and .*f32\[2,3\]"),
    "condition": (lambda x: accel.where(x, x, x), errors.DTypeError, "where .*bool"),
    "float into integers": (lambda x: ints(1, 2).__iadd__(1.5), errors.DTypeError, "add.*int64"),
    "number too large": (lambda x: accel.asarray(np.uint8([1])) + 300, errors.ArgumentError,
                         "300 does not fit uint8"),
    "compared too large": (lambda x: accel.asarray(np.uint8([1])) < 300, errors.ArgumentError,
                           "300 does not fit uint8"),
    "list too large": (lambda x: accel.asarray([1, 300], dtype="uint8"), errors.ArgumentError,
                       "300 does not fit uint8"),
    # settings of functions
    "negative extent": (lambda x: accel.zeros((2, -3)), errors.ArgumentError, r"zeros.*\[2, -3\]"),
    "extent that is a str": (lambda x: accel.zeros("a"), errors.ArgumentError, "zeros.*'a'"),
    "extent that is a float": (lambda x: accel.ones(2.5), errors.ArgumentError, "ones.*2.5"),
    "random extent": (lambda x: accel.rand(-1), errors.ArgumentError, r"\[-1\]"),
    "seed": (lambda x: accel.manual_seed("a"), errors.ArgumentError, "seed of 'a'"),
    "reduction": (lambda x: F.cross_entropy(x, ints(0, 1), reduction="avg"),
                  errors.ArgumentError, "cross_entropy: reduction 'avg'"),
    "reduction of mse": (lambda x: F.mse_loss(x, x, reduction="foo"), errors.ArgumentError,
                         "mse_loss: reduction 'foo'"),
    "pieces": (lambda x: accel.split(x, -1), errors.ArgumentError, "split.*-1"),
    "repeats": (lambda x: accel.tile(x, (-1,)), errors.ArgumentError, "tile.*-1"),
    "padding": (lambda x: np.pad(x, -1), errors.ArgumentError, "pad.*-1"),
    "step of arange": (lambda x: accel.arange(0, 10, 0), errors.ArgumentError, "arange.*0"),
    "no tensors": (lambda x: accel.cat([]), errors.ArgumentError, "cat"),
    "probability": (lambda x: F.dropout(x, 1.5), errors.ArgumentError, "dropout.*1.5"),
    "width of a layer": (lambda x: nn.Linear(-1, 2), errors.ArgumentError, "Linear.*-1"),
    # gradients
    "gradient of an array": (lambda x: accel.grad(lambda a: a)(x), errors.GradientError,
                             r"\[2, 3\]"),
    "gradient of integers": (lambda x: accel.grad(lambda a: a.sum())(ints(1, 2)),
                             errors.GradientError, "int64"),
    "nothing requires one": (lambda x: x.sum().backward(), errors.GradientError, "requires_grad"),
}  # fmt: skip

TARGETS = ["pure", pytest.param("torch", marks=pytest.mark.torch)]


def expect(call: Callable[[], Any], kind: type[errors.AccelError], pattern: str) -> None:
    """`call` fails as a user should see it: class, words, line, remedy, short traceback."""
    with pytest.raises(kind) as caught:
        result = call()
        if isinstance(result, accel.Tensor):
            result.numpy()
    error = caught.value
    assert re.search(pattern, error.message), error.message
    assert error.loc is not None and error.loc.file == __file__, error.loc
    assert error.remedy
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(ACCEL)]
    assert len(frames) <= 6, frames
    text = str(error)
    assert f"at {error.loc}" in text and "remedy:" in text
    assert ACCEL not in text


@pytest.mark.parametrize("mode", TARGETS)
@pytest.mark.parametrize("name", MISTAKES)
def test_eagerly(name, mode):
    mistake, kind, pattern = MISTAKES[name]
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = accel.asarray(given)
    with accel.mode(mode):
        expect(lambda: mistake(x), kind, pattern)
    np.testing.assert_array_equal(x.numpy(), given)  # nothing changed


@pytest.mark.parametrize("mode", TARGETS)
@pytest.mark.parametrize("name", MISTAKES)
def test_in_a_compiled_function(name, mode):
    mistake, kind, pattern = MISTAKES[name]
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    x, calls = accel.asarray(given), accel.asarray(0)

    @accel.compile(mode=mode)
    def program(x: accel.Tensor) -> Any:
        calls.add_(1)
        result = mistake(x)
        return result if isinstance(result, accel.Tensor) else x

    expect(lambda: program(x), kind, pattern)
    np.testing.assert_array_equal(x.numpy(), given)
    assert calls.item() == 0  # a call that failed writes nothing back


# -- what only a trace, or only a setting, can have wrong -----------------------------------
def _branch(x: accel.Tensor) -> Any:
    return x if x.sum() > 0 else -x


TRACED: dict[str, Callable[[Any], Any]] = {
    "if": _branch,
    "float": lambda x: x * float(x.sum()),
    "int": lambda x: x[: int(x.sum())],
    "item": lambda x: x * x.max().item(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: np.linalg.svd(x.numpy()),
    "np.asarray": lambda x: accel.asarray(np.asarray(x)),
    "index": lambda x: [1, 2, 3][x.argmax()],
    "while": lambda x: [x for _ in iter(lambda: bool((x > 0).all()), True)],
}


@pytest.mark.parametrize("name", TRACED)
def test_the_value_of_a_traced_tensor(name):
    program = accel.compile(lambda x: TRACED[name](x))
    expect(lambda: program(ones(2, 3)), errors.TracedValueError, r"traced|compiled|record|trac")


SETTINGS: dict[str, Case] = {
    "mode": (lambda _: accel.set_mode("gpu"), errors.ArgumentError, "mode 'gpu'"),
    "mode block": (lambda _: accel.mode("gpu").__enter__(), errors.ArgumentError, "mode 'gpu'"),
    "mode of compile": (lambda _: accel.compile(abs, mode="x"), errors.ArgumentError, "mode 'x'"),
    "fallback": (lambda _: accel.compile(abs, fallback="x"), errors.ArgumentError, "'x'"),
    "device": (lambda _: accel.compile(abs, device="gpu"), errors.DeviceError, "'gpu'"),
    "no function": (lambda _: accel.compile(3), errors.TraceError, "int"),
    "preset": (lambda _: accel.use_preset("foo"), errors.ArgumentError, "preset 'foo'"),
    "threshold": (lambda _: accel.set_threshold("foo", 3), errors.ArgumentError, "'foo'"),
    "elements": (lambda _: accel.set_threshold("matmul", -3), errors.ArgumentError, "-3"),
    "stage": (lambda x: accel.compile(lambda a: a + 1).graph(x, stage="foo"), errors.TraceError,
              "'foo'"),
    "graph text": (lambda _: accel.parse("hello"), errors.GraphParseError, "hello"),
    "no graph text": (lambda _: accel.parse(3), errors.GraphParseError, "int"),
    "no parameters": (lambda _: optim.SGD([], lr=0.1), errors.ArgumentError, "SGD"),
    "learning rate": (lambda _: optim.SGD(nn.Linear(2, 2).parameters(), lr=-1),
                      errors.ArgumentError, "lr is -1"),
    "numbers to optimise": (lambda _: optim.SGD([1, 2], lr=0.1), errors.NotAnArrayError, "int"),
    "state": (lambda _: nn.Linear(2, 2).load_state_dict({}), errors.ArgumentError, "weight"),
    "state's shape": (lambda _: nn.Linear(2, 2).load_state_dict(
        {"weight": ones(3, 3), "bias": ones(2)}), errors.AccelError, r"weight.*3"),
    "item of many": (lambda x: x.item(), errors.ArgumentError, r"item\(\).*\[2, 3\]"),
    "bool of many": (lambda x: bool(x), errors.ArgumentError, r"bool\(\).*\[2, 3\]"),
    "len of a number": (lambda x: len(x.sum()), errors.NotAnArrayError, "0-d"),
    "iteration over a number": (lambda x: list(x.sum()), errors.NotAnArrayError, "0-d"),
    "device of a tensor": (lambda x: x.to("cuda:99"), errors.DeviceError, "cuda:99"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    mistake, kind, pattern = SETTINGS[name]
    before = accel.get_mode(), dict(accel.thresholds())
    expect(lambda: mistake(ones(2, 3)), kind, pattern)
    assert (accel.get_mode(), dict(accel.thresholds())) == before


def test_too_much_memory_is_an_error_and_not_the_end():
    def far_too_much() -> accel.Tensor:
        return accel.zeros((10**6, 10**6, 10**5)) + 1

    expect(far_too_much, errors.OutOfMemoryError, "no memory|allocate")
    expect(accel.compile(far_too_much), errors.OutOfMemoryError, "no memory|allocate")
    assert issubclass(errors.OutOfMemoryError, MemoryError)
    assert (ones(2) + 1).tolist() == [2.0, 2.0]


def test_lazy_code_names_the_line_that_recorded_the_mistake():
    x = ones(2, 3)
    places = []
    for _ in range(2):  # the second time from the cache
        first = accel.take(x, ints(50), axis=0) + 1
        with pytest.raises(errors.IndexOutOfRangeError) as caught:
            first.numpy()
        places.append(caught.value.loc.line)
    second = accel.take(x, ints(50), axis=0) + 1  # the same graph from another line
    with pytest.raises(errors.IndexOutOfRangeError) as caught:
        second.numpy()
    assert places[0] == places[1] < caught.value.loc.line
    assert (x + 1).sum().item() == 12  # what failed spoils nothing else


def test_python_s_own_errors_for_wrong_signatures():
    for call in (lambda: accel.exp(), lambda: accel.add(ones(1)), lambda: accel.exp(ones(1), foo=1),
                 lambda: ones(1).sum(foo=1), lambda: ones(1) + object()):  # fmt: skip
        with pytest.raises(TypeError):
            call()


def test_internal_frames_show_when_asked_for(monkeypatch):
    def frames() -> int:
        with pytest.raises(errors.ShapeError) as caught:
            accel.compile(lambda x: x + ones(4))(ones(2, 3))
        return sum(f.filename.startswith(ACCEL) for f in traceback.extract_tb(caught.tb))

    hidden = frames()
    monkeypatch.setenv("ACCEL_DEBUG", "1")
    assert hidden <= 2 < frames()


def test_a_user_s_own_error_passes_through():
    @accel.compile
    def program(x: accel.Tensor) -> accel.Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        program(ones(2))
    names = [f.name for f in traceback.extract_tb(caught.tb)]
    assert names[-1] == "program"


def test_torch_mode_without_torch():
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import accel
x = accel.ones(3)
for call in (lambda: accel.compile(lambda x: x + 1, mode="torch")(x),
             lambda: accel.set_mode("torch") or (x + 2).numpy()):
    try:
        call()
    except accel.errors.TorchNotAvailable as error:
        assert isinstance(error, ImportError) and error.remedy and error.loc, error
        print("refused")
accel.set_mode("auto")
print((x + 3).tolist(), accel.torch_available())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split("\n")[:3] == ["refused", "refused", "[4.0, 4.0, 4.0] False"], done
