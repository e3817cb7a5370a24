"""Memory exchanged through DLPack with NumPy and torch: dtypes, layouts, copies, lifetimes."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import accel
from accel import errors
from accel.runtime import dlpack

NAMES = ("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
         "complex64 complex128").split()  # fmt: skip


class Exporter:
    """A library's array that knows of no versions, or of nothing newer than `__dlpack__()`."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class Consumer:
    """Hands NumPy the capsule that a Tensor gives for some arguments."""

    def __init__(self, tensor: accel.Tensor, **options: Any) -> None:
        self.capsule, self.device = tensor.__dlpack__(**options), tensor.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def memory(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_both_ways_with_numpy(name: str, shape: tuple[int, ...]) -> None:
    x = accel.ones(shape, dtype=getattr(accel, name))
    array = np.from_dlpack(x)
    assert array.dtype == name and array.shape == shape
    assert memory(array) == memory(x.numpy()) or not array.size
    assert not array.flags.writeable  # a Tensor's value does not change
    back = accel.from_dlpack(array)
    assert back.dtype is x.dtype and back.shape == shape and back.tolist() == x.tolist()
    assert memory(back.numpy()) == memory(array) or not array.size


def test_bfloat16_crosses_by_its_bits() -> None:
    x = accel.asarray([1.5, -2.0, float("nan")]).astype(accel.bfloat16)
    for options in ({}, {"max_version": (1, 0)}, {"copy": True}):
        consumer = Consumer(x, **options)
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(consumer)  # type: ignore[arg-type]
        again = accel.from_dlpack(Consumer(x, **options))
        assert again.dtype is accel.bfloat16
        np.testing.assert_array_equal(again.numpy().view(np.uint16), x.numpy().view(np.uint16))


def test_versions_devices_and_copies_as_the_standard_has_them() -> None:
    x = accel.arange(6.0)
    assert tuple(x.__dlpack_device__()) == (1, 0)
    assert x.__dlpack_device__()[0] is dlpack.DLDeviceType.CPU
    place = memory(x.numpy())
    for version in (None, (0, 5), (1, 0), (2, 0)):
        for copy in (None, False, True):
            array = np.from_dlpack(
                Consumer(x, max_version=version, copy=copy, dl_device=(1, 0))  # type: ignore
            )
            assert (memory(array) != place) is bool(copy)
            np.testing.assert_array_equal(array, x.numpy())
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    assert "versioned" not in repr(x.__dlpack__())
    for options in ({"stream": 1}, {"dl_device": (2, 0)}, {"dl_device": (4, 0)}):
        with pytest.raises(BufferError):
            x.__dlpack__(**options)
    with pytest.raises(errors.ExchangeError, match="streams") as caught:
        x.__dlpack__(stream=3)
    assert caught.value.remedy == "leave out stream="


def test_layouts() -> None:
    base = np.arange(24.0).reshape(4, 6)
    for array in (base.T, base[::2, 1::2], base[1:1]):
        np.testing.assert_array_equal(accel.from_dlpack(array).numpy(), array)
        t = accel.asarray(array, copy=False)
        assert memory(np.from_dlpack(t)) == memory(array)
    backwards = accel.asarray(base[::-1], copy=False)
    np.testing.assert_array_equal(np.from_dlpack(Consumer(backwards)), base[::-1])  # type: ignore
    with pytest.raises(errors.ExchangeError, match="strides"):
        backwards.__dlpack__(copy=False)
    odd = np.zeros(4, np.dtype([("a", np.int8), ("b", np.int16)]))["b"]
    assert accel.from_dlpack(Consumer(accel.asarray(odd))).shape == (4,)


def test_read_only_memory_goes_both_ways() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    x = accel.asarray(array, copy=False)
    assert memory(accel.from_dlpack(array).numpy()) == memory(array)
    assert memory(np.from_dlpack(x)) == memory(array)
    old = np.from_dlpack(Consumer(x))  # type: ignore[arg-type]
    assert memory(old) != memory(array)  # without a version nothing says that it is read-only


def test_asarray_copies_and_from_dlpack_shares() -> None:
    array = np.arange(3.0)
    for make, shares in (
        (lambda: accel.from_dlpack(Exporter(array)), True),
        (lambda: accel.from_dlpack(Exporter(array), copy=False), True),
        (lambda: accel.from_dlpack(Exporter(array), copy=True), False),
        (lambda: accel.asarray(Exporter(array), copy=False), True),
        (lambda: accel.asarray(Exporter(array)), False),
        (lambda: accel.asarray(Exporter(array), dtype=accel.float32), False),
    ):
        assert (memory(make().numpy()) == memory(array)) is shares
    with pytest.raises(errors.ArgumentError, match="copy"):
        accel.asarray(Exporter(array), dtype=accel.int8, copy=False)
    x = accel.ones(2)
    assert accel.from_dlpack(x) is x and accel.from_dlpack(x, copy=True) is not x
    assert accel.from_dlpack(x, device=x.device) is x


def test_inside_compiled_functions() -> None:
    array = np.arange(3.0)

    @accel.compile
    def f(x: Any) -> Any:
        return x + accel.from_dlpack(array)

    assert f(np.ones(3)).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(errors.TracedValueError, match="__dlpack__"):
        accel.compile(lambda x: np.from_dlpack(x))(np.ones(3))


def test_what_cannot_be_taken() -> None:
    with pytest.raises(errors.NotAnArrayError, match="__dlpack__"):
        accel.from_dlpack(3)
    with pytest.raises(errors.DeviceError, match="device type 4"):
        accel.from_dlpack(Exporter(np.ones(2), (4, 0)))
    with pytest.raises(errors.CudaNotAvailable, match="cuda:1"):
        accel.from_dlpack(Exporter(np.ones(2), (2, 1)))
    with pytest.raises(errors.CudaNotAvailable):
        accel.from_dlpack(np.ones(2), device="cuda")


def test_exporters_live_as_long_as_their_memory_is_used() -> None:
    array = np.zeros(1000)
    gone = weakref.ref(array)
    x = accel.from_dlpack(Exporter(array))
    y = x + 1
    del array, x
    gc.collect()
    assert gone() is not None  # y is not computed yet
    assert y.tolist()[0] == 1.0
    del y
    accel.compile(lambda x: x)(np.zeros(1))
    gc.collect()
    t = accel.ones(1000).block_until_ready()
    view = np.from_dlpack(t)
    del t
    gc.collect()
    assert view.sum() == 1000


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_many_exchanges_leave_nothing(name: str) -> None:
    x = accel.ones(100, dtype=getattr(accel, name)).block_until_ready()
    buffer = x._value.data

    def exchange() -> None:
        x.__dlpack__()  # never consumed
        x.__dlpack__(max_version=(1, 0))
        x.__dlpack__(copy=True)
        accel.from_dlpack(Consumer(x))
        accel.from_dlpack(Consumer(x, max_version=(1, 0)))

    exchange()
    gc.collect()
    before = sys.getrefcount(buffer)
    for _ in range(500):
        exchange()
    gc.collect()
    assert sys.getrefcount(buffer) == before


@pytest.mark.torch
@pytest.mark.parametrize("name", [*NAMES, "bfloat16"])
def test_both_ways_with_torch(name: str) -> None:
    import torch

    x = accel.ones((2, 3), dtype=getattr(accel, name))
    tensor = torch.from_dlpack(x)
    assert tensor.dtype is getattr(torch, name) and tensor.data_ptr() == memory(x.numpy())
    back = accel.from_dlpack(tensor)
    assert back.dtype is x.dtype and memory(back.numpy()) == memory(x.numpy())
    turned = accel.from_dlpack(tensor.T)
    assert turned.shape == (3, 2) and turned.tolist() == back.T.tolist()


@pytest.mark.torch
def test_torch_tensors_of_other_kinds() -> None:
    import torch

    assert accel.from_dlpack(torch.arange(3.0, requires_grad=True)).tolist() == [0, 1, 2]
    with pytest.raises(errors.DTypeError, match="DLPack"):
        accel.from_dlpack(torch.zeros(2, dtype=torch.float8_e4m3fn))
    backwards = accel.asarray(np.arange(3.0)[::-1], copy=False)
    assert torch.from_dlpack(backwards).tolist() == [2, 1, 0]
