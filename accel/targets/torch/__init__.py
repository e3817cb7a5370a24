"""The torch target: graph regions as torch calls, on the CPU or a CUDA device.

torch is looked up by name and imported on first use only; importing this package needs none.
"""

from __future__ import annotations

from .lookup import (
    available, cuda_available, cuda_devices, find_device, installed, require, require_cuda,
    version,
)  # fmt: skip
from .program import Program, compile_run, interpreted, is_out_of_memory, to_device, to_host

__all__ = [
    "Program", "available", "compile_run", "cuda_available", "cuda_devices", "find_device",
    "installed", "interpreted", "is_out_of_memory", "require", "require_cuda", "to_device",
    "to_host", "version",
]  # fmt: skip
