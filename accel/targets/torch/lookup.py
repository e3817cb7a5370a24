"""Finding torch. Any error on the way means that it is not there."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from ... import forking
from ...errors import CudaNotAvailable, DeviceError, TorchNotAvailable

__all__ = ["available", "cuda_available", "cuda_devices", "find_device", "installed", "require",
           "require_cuda", "version"]  # fmt: skip

_lock = forking.lock()
_imported: list[Any] = []  # the module, or None where its import failed; empty before


def _hidden() -> bool:
    return os.environ.get("ACCEL_TORCH", "") == "0"


def installed() -> bool:
    """Whether torch can be found; it is not imported, so it may yet prove broken."""
    if _hidden():
        return False
    if _imported:
        return _imported[0] is not None
    try:
        return importlib.util.find_spec("torch") is not None
    except Exception:  # a blocked or half-removed package raises whatever it likes
        return False


def _import() -> Any:
    try:
        torch = importlib.import_module("torch")
        torch.empty(0)  # a broken installation may only show when it is used
    except Exception:
        return None
    return torch


def _module() -> Any:
    if not installed():
        return None
    with _lock:
        if not _imported:
            _imported.append(_import())
        return _imported[0]


def available() -> bool:
    """Whether torch works here. The first call imports it; ``ACCEL_TORCH=0`` hides it."""
    return _module() is not None


def require() -> Any:
    """The torch module.

    Raises
    ------
    TorchNotAvailable
        When it is hidden, not installed or broken.
    """
    torch = _module()
    if torch is None:
        why = "is hidden by ACCEL_TORCH=0" if _hidden() else "cannot be imported"
        remedy = "unset ACCEL_TORCH" if _hidden() else "pip install torch"
        raise TorchNotAvailable(
            f"the torch target was asked for, but torch {why}",
            remedy=f"{remedy}, or use mode 'pure' or 'auto'",
        )
    return torch


def version() -> str | None:
    """torch's version; None where there is no torch."""
    torch = _module()
    return None if torch is None else str(torch.__version__)


def cuda_available() -> bool:
    """Whether torch is there and sees a CUDA device."""
    torch = _module()
    try:
        return torch is not None and bool(torch.cuda.is_available())
    except Exception:
        return False


def cuda_devices() -> tuple[str, ...]:
    """The names of the CUDA devices that torch sees."""
    if not cuda_available():
        return ()
    cuda = require().cuda
    return tuple(cuda.get_device_name(i) for i in range(cuda.device_count()))


def require_cuda(name: str) -> None:
    """Check that CUDA is there, for the sake of the device `name`.

    Raises
    ------
    CudaNotAvailable
        Where torch is missing, or sees no CUDA device.
    """
    if cuda_available():
        return
    if available():
        why, remedy = "torch sees no CUDA device", "install a torch built for CUDA"
    else:
        why, remedy = "CUDA is reached through torch, which is not there", "pip install torch"
    raise CudaNotAvailable(
        f"device {name!r} was asked for: {why}", remedy=f"use the 'cpu', or {remedy}"
    )


def find_device(name: str | None) -> Any:
    """The torch device of `name`; None is the CPU.

    Raises
    ------
    DeviceError
        When this machine has no such device.
    """
    torch = require()
    try:
        device = torch.device(name or "cpu")
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"there is no device {name!r}", remedy="use 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda":
        require_cuda(str(name))
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device {name!r} was asked for, and this machine has {count} CUDA devices",
                remedy=f"use 'cuda:0' to 'cuda:{count - 1}'" if count else "use device='cpu'",
            )
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None
                              else device.index)  # fmt: skip
    return device
