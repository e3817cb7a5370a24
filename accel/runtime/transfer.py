"""Buffers that live elsewhere: bringing them to the host, and counting what moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from .statistics import STATISTICS

__all__ = ["note_transfer", "to_host"]


def note_transfer(count: int, nbytes: int) -> None:
    """Count values that moved between the host and a device."""
    STATISTICS.add(transfers=count, transfer_bytes=nbytes)


def to_host(buffer: Any) -> np.ndarray:
    """A buffer as a NumPy array: itself where it is one, else brought from its device."""
    if isinstance(buffer, np.ndarray):
        return buffer
    from ..targets import torch as torch_target

    array = torch_target.to_host(buffer)
    if buffer.device.type != "cpu":
        note_transfer(1, array.nbytes)
    return array
