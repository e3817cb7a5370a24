"""Devices, streams and memory: without CUDA, and with one made up where torch is called."""

from __future__ import annotations

import copy
import pickle
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import accel
from accel import errors
from accel.frontend.tensors.devices import Device
from accel.ir import Builder, TensorType, dtypes, parse
from accel.runtime import compiler, state
from accel.targets.torch import lookup


# -- names ----------------------------------------------------------------------------------
def test_devices_are_equal_to_their_names() -> None:
    cuda = accel.device("cuda:1")
    assert (cuda.type, cuda.index, str(cuda)) == ("cuda", 1, "cuda:1")
    assert repr(cuda) == "device(type='cuda', index=1)" and repr(Device()) == "device(type='cpu')"
    assert cuda == "cuda:1" == cuda and cuda != "cuda" and cuda != accel.device("cuda", 0)
    assert cuda == Device(cuda) == Device("cuda", 1) and cuda != 1
    assert {cuda: 1}["cuda:1"] == 1 and len({cuda, Device("cuda", 1), Device("cpu")}) == 2
    assert Device("cuda").index is None and Device("cpu:0") == "cpu"
    assert pickle.loads(pickle.dumps(cuda)) == copy.deepcopy(cuda) == cuda
    with pytest.raises(AttributeError):
        cuda.index = 2
    for wrong in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", 3, None):
        with pytest.raises(errors.DeviceError, match="there is no device"):
            Device(wrong)
    for index in (-1, 1.5, True):
        with pytest.raises(errors.DeviceError):
            Device("cuda", index)  # type: ignore[arg-type]


def test_tensors_say_where_they_are() -> None:
    x = accel.ones((2, 2))
    assert x.device == "cpu" and isinstance(x.device, accel.device) and x.device.index is None
    assert not x.is_cuda and x.cpu() is x and x.to("cpu") is x.to(Device("cpu")) is x
    assert x.to_device("cpu") is x.to_device(x.device, stream=None) is x
    assert x.to(accel.zeros(1, dtype=accel.float64)).dtype is accel.float64
    assert x.to("cpu", accel.int8).dtype is accel.int8 and x.to("cpu", copy=True) is not x
    assert accel.astype(x, accel.int8, device="cpu").dtype is accel.int8
    for made in (accel.zeros(2, device="cpu"), accel.full_like(x, 2, device=x.device),
                 accel.rand(2, device=accel.device("cpu")), accel.fft.fftfreq(4, device="cpu"),
                 accel.arange(3, device="cpu"), accel.tensor([1.0], device="cpu")):  # fmt: skip
        assert made.device == "cpu"
    with pytest.raises(errors.ArgumentError, match="no streams"):
        x.to_device("cpu", stream=object())
    with pytest.raises(errors.ArgumentError, match="no streams"):
        x.to_stream(object())


# -- without CUDA ---------------------------------------------------------------------------
@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "cuda_available", lambda: False)


@pytest.mark.parametrize("call", [
    lambda: accel.ones(2).cuda(), lambda: accel.ones(2).cuda(1), lambda: accel.ones(2).to("cuda"),
    lambda: accel.ones(2).to_device("cuda:1"), lambda: accel.zeros(2, device="cuda"),
    lambda: accel.asarray([1.0], device="cuda:0"), lambda: accel.linspace(0, 1, 3, device="cuda"),
    lambda: accel.randn(2, device="cuda"), lambda: accel.eye(2, device=accel.device("cuda")),
    lambda: accel.cuda.Stream(), lambda: accel.cuda.Event(), lambda: accel.cuda.synchronize(),
    lambda: accel.cuda.current_device(), lambda: accel.cuda.memory_allocated(),
    lambda: accel.cuda.empty_cache(), lambda: accel.cuda.get_device_name(),
    lambda: accel.cuda.reset_peak_memory(0), lambda: accel.memory_allocated("cuda"),
    lambda: accel.max_memory_allocated(accel.device("cuda", 1)),
    lambda: accel.nn.Linear(2, 2).to("cuda"), lambda: accel.nn.Linear(2, 2).cuda(1),
    lambda: accel.randint(3, (2,), device="cuda"), lambda: accel.randperm(3, device="cuda"),
    lambda: accel.rand_like(accel.ones(2), device="cuda"),
    lambda: accel.__array_namespace_info__().dtypes(device="cuda"),
    lambda: accel.compile(lambda x: x.cuda() + 1)(np.ones(2)),
])  # fmt: skip
def test_without_cuda_there_is_one_clear_error(no_cuda: None, call: Any) -> None:
    with pytest.raises(errors.CudaNotAvailable, match="'cuda") as caught:
        call()
    assert isinstance(caught.value, errors.DeviceError) and "cpu" in caught.value.remedy
    assert caught.value.loc.file == __file__


def test_asking_is_no_error(no_cuda: None) -> None:
    assert accel.cuda.is_available() is False and accel.cuda.device_count() == 0
    assert accel.__array_namespace_info__().devices() == ["cpu"]


# -- a device where the graph says so ----------------------------------------------------------
ON_CUDA = TensorType(dtypes.float32, (3,), "cuda:0")


def test_results_are_where_an_operand_is() -> None:
    b = Builder()
    x, y = b.input("x", TensorType(dtypes.float32, (3,))), b.input("y", ON_CUDA)
    moved = b.to_device(y, device="cpu")
    graph = b.graph([x, y], [b.add(x, y), b.sum(y, axis=(0,)), b.mul(y, 2), b.add(moved, x)])
    assert [n.type.device for n in graph.outputs] == ["cuda:0", "cuda:0", "cuda:0", "cpu"]
    assert parse(str(graph)) == graph
    with pytest.raises(errors.DeviceError, match="cuda:0 and cuda:1"):
        b.add(y, b.input("z", TensorType(dtypes.float32, (3,), "cuda:1")))


def test_such_graphs_run_on_torch_there() -> None:
    b = Builder()
    x = b.input("x", ON_CUDA)
    found = compiler._where_it_says(b.graph([x], [b.exp(x)]), state.current())
    assert (found.mode, found.device) == ("torch", "cuda:0")
    y = b.input("y", TensorType(dtypes.float32, (3,)))
    plain = b.graph([y], [b.exp(y)])
    assert compiler._where_it_says(plain, state.current()) is state.current()
    both = b.graph([x, y], [b.exp(x), b.to_device(y, device="cuda:1")])
    with pytest.raises(errors.DeviceError, match="cuda:0 and cuda:1"):
        compiler._where_it_says(both, state.current())


def test_results_come_home_where_the_graph_says_so() -> None:
    from accel.targets.torch.program import _come_home

    b = Builder()
    x, y = b.input("x", ON_CUDA), b.input("y", TensorType(dtypes.float32, (3,)))
    moved = b.to_device(b.exp(x), device="cpu")
    assert _come_home(b.graph([x], [b.exp(x), moved])) == (1,)
    assert _come_home(b.graph([x], [b.exp(x)])) == ()
    assert _come_home(b.graph([y], [b.exp(y)])) == ()  # it says nothing


@pytest.mark.torch
def test_moving_is_recorded_and_computed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's "meta" device, whose tensors have no elements, stands for the GPU."""
    import torch

    from accel.targets.torch import program

    monkeypatch.setattr(lookup, "cuda_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(program, "find_device", lambda name: torch.device("meta"))
    x = accel.tensor([1.0, 2.0], requires_grad=True)
    y = x.cuda()
    assert y.device == "cuda:1" and y.is_cuda and x.device == "cpu" and y.cuda() is y
    z = (y * 2 + x).sum()
    assert z.device == "cuda:1" and z.requires_grad
    assert z.cpu().device == "cpu" and accel.zeros_like(z).device == "cuda:1"
    accel.reset_stats()
    z.block_until_ready()
    assert z._value.data.device.type == "meta" and z._value.data.shape == ()
    assert accel.stats().transfers == 1 and accel.stats().torch_count > 0
    with pytest.raises(errors.DeviceError, match=r"cuda:5.* 2 CUDA devices"):
        x.to("cuda:5")
    model = accel.nn.Linear(2, 3).to(accel.device("cuda", 0))
    assert all(p.device == "cuda:0" and p.requires_grad and p.is_leaf for p in model.parameters())
    assert model(accel.ones((4, 2))).device == "cuda:0"
    compiled = accel.compile(lambda x: model(x).sum())(np.ones((4, 2), np.float32))
    assert compiled._value.data.device.type == "meta" and compiled.shape == ()


# -- streams, events, memory, at a made-up torch --------------------------------------------------
class FakeStream:
    def __init__(self, calls: list[Any], device: int, priority: int) -> None:
        self.calls, self.device = calls, device
        calls.append(("stream", device, priority))

    def synchronize(self) -> None:
        self.calls.append("synchronize stream")

    def query(self) -> bool:
        return True

    def wait_stream(self, other: Any) -> None:
        self.calls.append(("wait", other))

    def wait_event(self, event: Any) -> None:
        self.calls.append(("wait", event))


class FakeEvent:
    def __init__(self, calls: list[Any], enable_timing: bool) -> None:
        self.calls = calls
        calls.append(("event", enable_timing))

    def record(self, stream: Any = None) -> None:
        self.calls.append(("record", stream))

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self.calls.append("synchronize event")

    def elapsed_time(self, end: Any) -> float:
        return 1.5


class Entered:
    def __init__(self, calls: list[Any], stream: Any) -> None:
        self.calls, self.stream = calls, stream

    def __enter__(self) -> None:
        self.calls.append(("enter", self.stream))

    def __exit__(self, *error: Any) -> None:
        self.calls.append(("exit", self.stream))


class FakeCuda:
    """What of `torch.cuda` accel calls; every call is noted."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return 1

    def get_device_name(self, index: int) -> str:
        return f"GPU {index}"

    def Stream(self, device: int, priority: int) -> FakeStream:
        return FakeStream(self.calls, device, priority)

    def Event(self, enable_timing: bool) -> FakeEvent:
        return FakeEvent(self.calls, enable_timing)

    def stream(self, stream: Any) -> Entered:
        return Entered(self.calls, stream)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> int:
            self.calls.append((name, *[str(a) for a in args]))
            return 4096

        return call


class FakeTorchDevice:
    def __init__(self, name: str, index: int | None = None) -> None:
        self.type, _, number = name.partition(":")
        self.index = int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    torch = SimpleNamespace(cuda=fake, device=FakeTorchDevice, __version__="0")
    monkeypatch.setattr(lookup, "_imported", [torch])
    monkeypatch.delenv("ACCEL_TORCH", raising=False)
    return fake


def test_what_there_is(cuda: FakeCuda) -> None:
    assert accel.cuda.is_available() and accel.cuda.device_count() == 2
    assert accel.cuda.current_device() == 1 and accel.cuda.get_device_name() == "GPU 1"
    assert accel.cuda.get_device_name(0) == accel.cuda.get_device_name("cuda:0") == "GPU 0"
    assert accel.__array_namespace_info__().devices() == ["cpu", "cuda:0", "cuda:1"]
    with pytest.raises(errors.DeviceError, match="2 CUDA devices"):
        accel.cuda.synchronize(2)
    with pytest.raises(errors.ArgumentError, match="no CUDA device"):
        accel.cuda.Stream("cpu")
    accel.cuda.synchronize()
    assert cuda.calls == [("synchronize", "1")]


def test_streams_and_events(cuda: FakeCuda) -> None:
    stream, other = accel.cuda.Stream(), accel.cuda.Stream("cuda:0", priority=-1)
    assert cuda.calls == [("stream", 1, 0), ("stream", 0, -1)]
    assert stream.device == "cuda:1" and "cuda:1" in repr(stream)
    cuda.calls.clear()
    with stream as inner:
        assert inner is stream and stream.query() is True
        with other, stream:
            pass
    ours, theirs = stream._stream, other._stream
    assert cuda.calls == [("enter", ours), ("enter", theirs), ("enter", ours), ("exit", ours),
                          ("exit", theirs), ("exit", ours)]  # fmt: skip
    cuda.calls.clear()
    event = stream.record_event(accel.cuda.Event(enable_timing=True))
    other.wait_event(event)
    other.wait_stream(stream)
    event.record()
    event.synchronize()
    stream.synchronize()
    assert cuda.calls == [
        ("event", True), ("record", ours), ("wait", event._event), ("wait", ours),
        ("record", None), "synchronize event", "synchronize stream",
    ]  # fmt: skip
    assert event.query() is False and event.elapsed_time(stream.record_event()) == 1.5


def test_a_stream_is_left_when_the_block_fails_and_freed_with_its_object(cuda: FakeCuda) -> None:
    stream = accel.cuda.Stream()
    with pytest.raises(ZeroDivisionError), stream:
        1 / 0
    assert cuda.calls[-1] == ("exit", stream._stream)
    handle = weakref.ref(stream._stream)
    cuda.calls.clear()
    del stream
    assert handle() is None


def test_tensors_are_computed_on_streams(cuda: FakeCuda) -> None:
    stream = accel.cuda.Stream()
    handle = stream._stream
    cuda.calls.clear()
    buffer = SimpleNamespace(record_stream=lambda s: cuda.calls.append(("held by", s)))
    tensor = SimpleNamespace(
        is_cuda=True, _value=SimpleNamespace(data=buffer),
        block_until_ready=lambda: cuda.calls.append("computed"),
    )  # fmt: skip
    assert accel.Tensor.to_stream(tensor, stream) is tensor
    assert cuda.calls == [("current_stream", "1"), ("wait", 4096), ("enter", handle), "computed",
                          ("exit", handle), ("held by", handle)]  # fmt: skip


def test_memory_of_both_targets(cuda: FakeCuda) -> None:
    for device, name in (("cuda", "cuda:1"), ("cuda:0", "cuda:0"), (Device("cuda", 0), "cuda:0")):
        cuda.calls.clear()
        assert accel.memory_allocated(device) == accel.cuda.memory_allocated(device) == 4096
        assert accel.max_memory_allocated(device) == 4096
        accel.reset_peak_memory(device)
        accel.cuda.reset_peak_memory(device)
        accel.empty_cache(device)
        assert cuda.calls == [
            ("memory_allocated", name), ("memory_allocated", name),
            ("max_memory_allocated", name), ("reset_peak_memory_stats", name),
            ("reset_peak_memory_stats", name), ("empty_cache",),
        ]  # fmt: skip
    before = accel.memory_allocated("cpu")
    x = accel.exp(accel.ones((512, 1024))).block_until_ready()
    assert accel.memory_allocated(accel.device("cpu")) - before == x.nbytes
    assert accel.max_memory_allocated("cpu") >= before + x.nbytes
