"""CUDA devices: which there are, their streams, events and memory.

All of it is torch's; nothing here is imported or initialised before it is used. Where there is
no CUDA, what needs a device raises `accel.errors.CudaNotAvailable`.
"""

from __future__ import annotations

from typing import Any

from .errors import ArgumentError
from .frontend.tensors.devices import Device, find_device
from .runtime import memory

__all__ = [
    "Event", "Stream", "current_device", "device_count", "empty_cache", "get_device_name",
    "is_available", "max_memory_allocated", "memory_allocated", "reset_peak_memory",
    "synchronize",
]  # fmt: skip


def is_available() -> bool:
    """Whether torch is there and sees a CUDA device."""
    from .targets import torch as torch_target

    return torch_target.cuda_available()


def device_count() -> int:
    """How many CUDA devices there are; 0 without CUDA."""
    from .targets import torch as torch_target

    return len(torch_target.cuda_devices())


def current_device() -> int:
    """The number of the CUDA device that ``"cuda"`` means.

    Raises
    ------
    CudaNotAvailable
        Without CUDA.
    """
    return _number("cuda")


def get_device_name(device: Any = "cuda") -> str:
    """What the maker calls a device.

    Raises
    ------
    CudaNotAvailable
        Without CUDA.
    """
    number = _number(device)
    return str(_cuda().get_device_name(number))


def synchronize(device: Any = "cuda") -> None:
    """Wait until a device has done all that it was given.

    Raises
    ------
    CudaNotAvailable
        Without CUDA.
    """
    number = _number(device)
    _cuda().synchronize(number)


def memory_allocated(device: Any = "cuda") -> int:
    """Bytes of the arrays alive on a device; see `accel.memory_allocated`."""
    return memory.memory_allocated(_name(device))


def max_memory_allocated(device: Any = "cuda") -> int:
    """The most that `memory_allocated` was, since the start or the last `reset_peak_memory`."""
    return memory.max_memory_allocated(_name(device))


def reset_peak_memory(device: Any = "cuda") -> None:
    """Let `max_memory_allocated` begin anew at what is alive."""
    memory.reset_peak_memory(_name(device))


def empty_cache() -> None:
    """Return to the driver the memory that is kept for later arrays."""
    memory.empty_cache(_name("cuda"))


class Stream:
    """A queue of work on a CUDA device, freed with the object.

    In a ``with stream:`` block, what is computed is put on the stream. Recorded work is computed
    when it is read: compute it in the block with `accel.eval` or `Tensor.block_until_ready`.

    Parameters
    ----------
    device
        Where; by default the current CUDA device.
    priority
        Lower numbers go first.

    Raises
    ------
    CudaNotAvailable
        Without CUDA.
    """

    __slots__ = ("_entered", "_stream", "device")

    def __init__(self, device: Any = "cuda", *, priority: int = 0) -> None:
        self.device: Device = _cuda_device(device)
        self._stream = _cuda().Stream(self.device.index, priority=priority)
        self._entered: list[Any] = []

    def synchronize(self) -> None:
        """Wait until all that was put on the stream is done."""
        self._stream.synchronize()

    def query(self) -> bool:
        """Whether all that was put on the stream is done."""
        return bool(self._stream.query())

    def wait_stream(self, stream: Stream) -> None:
        """Let what comes next here wait for all that is on another stream now."""
        self._stream.wait_stream(stream._stream)

    def wait_event(self, event: Event) -> None:
        """Let what comes next here wait for an event."""
        self._stream.wait_event(event._event)

    def record_event(self, event: Event | None = None) -> Event:
        """Put an event, a new one by default, behind all that is on the stream now."""
        event = Event() if event is None else event
        event._event.record(self._stream)
        return event

    def compute(self, tensor: Any) -> Any:
        """Compute a Tensor on the stream, behind what the device's current stream has under way;
        returns the Tensor, whose memory stays its own until this stream has finished with it."""
        self._stream.wait_stream(_cuda().current_stream(self.device.index))
        with self:
            tensor.block_until_ready()
        if hasattr(tensor._value.data, "record_stream"):
            tensor._value.data.record_stream(self._stream)
        return tensor

    def __enter__(self) -> Stream:
        context = _cuda().stream(self._stream)
        context.__enter__()
        self._entered.append(context)
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)

    def __repr__(self) -> str:
        return f"Stream(device={str(self.device)!r})"


class Event:
    """A mark in the work of a stream, to wait for and to measure time between.

    Parameters
    ----------
    enable_timing
        Whether `elapsed_time` can be asked for.

    Raises
    ------
    CudaNotAvailable
        Without CUDA.
    """

    __slots__ = ("_event",)

    def __init__(self, *, enable_timing: bool = False) -> None:
        _cuda_device("cuda")
        self._event = _cuda().Event(enable_timing=enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Put the event behind all that is on a stream now, by default the current one."""
        if stream is None:
            self._event.record()
        else:
            self._event.record(stream._stream)

    def query(self) -> bool:
        """Whether the work before the event is done."""
        return bool(self._event.query())

    def synchronize(self) -> None:
        """Wait until the work before the event is done."""
        self._event.synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to another; both need ``enable_timing=True``."""
        return float(self._event.elapsed_time(end._event))


def _cuda() -> Any:
    """torch's own module for CUDA."""
    from .targets import torch as torch_target

    return torch_target.require().cuda


def _cuda_device(device: Any) -> Device:
    """A CUDA device that is there; a number stands for the device of that number."""
    found = find_device(Device("cuda", device) if isinstance(device, int) else device)
    if found.type != "cuda":
        raise ArgumentError(f"{device} is no CUDA device", remedy="use 'cuda' or 'cuda:N'")
    return found


def _name(device: Any) -> str:
    return str(_cuda_device(device))


def _number(device: Any) -> int:
    return _cuda_device(device).index or 0
