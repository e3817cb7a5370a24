"""Where Tensors live: names of devices as objects, and finding out whether one is there."""

from __future__ import annotations

from typing import Any

from ...errors import DeviceError

__all__ = ["CPU", "Device", "find_device"]


class Device:
    """A device: the CPU, or one of CUDA's.

    Devices are equal to devices, and to names, of the same type and index.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` (the current CUDA device), ``"cuda:1"``, another Device, or a
        ``torch.device``.
    index
        The number of a CUDA device, where the name has none.

    Attributes
    ----------
    type
        ``"cpu"`` or ``"cuda"``.
    index
        Which one; None for the CPU and for the current CUDA device.

    Raises
    ------
    DeviceError
        For any other name. Whether the device is there is asked when it is used.

    Examples
    --------
    >>> Device("cuda", 1)
    device(type='cuda', index=1)
    >>> Device("cuda:1").index, Device("cpu") == "cpu"
    (1, True)
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, device: Any = "cpu", index: int | None = None) -> None:
        kind, colon, number = str(device).partition(":")
        if colon and number.isdecimal() and index is None:
            index = int(number)
        elif colon or (index is not None and not _is_index(index)):
            raise _unknown(device, index)
        if kind not in ("cpu", "cuda") or (kind == "cpu" and index):
            raise _unknown(device, index)
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "index", None if kind == "cpu" else index)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a device's {name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, (str, Device)) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (str(self),)


def _is_index(index: object) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and index >= 0


def _unknown(device: Any, index: Any) -> DeviceError:
    more = "" if index is None else f" with index {index!r}"
    return DeviceError(f"there is no device {str(device)!r}{more}",
                       remedy="use 'cpu', 'cuda' or 'cuda:N'")  # fmt: skip


CPU = Device("cpu")


def find_device(device: Any) -> Device:
    """The device of that name, with its index, if it is there.

    Raises
    ------
    DeviceError
        For a name that is no device's, and for a CUDA device of a higher number than there are.
    CudaNotAvailable
        For a CUDA device where torch is missing or sees none.
    """
    wanted = device if isinstance(device, Device) else Device(device)
    if wanted.type == "cpu":
        return CPU
    from ...targets import torch as torch_target

    torch_target.require_cuda(str(wanted))
    return Device(torch_target.find_device(str(wanted)))
