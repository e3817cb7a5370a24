"""What makes the accel module a namespace of the Array API standard, beside its functions."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError
from ..ir import dtypes
from ..ir.dtypes import DType
from .functions.dtype_functions import isdtype
from .tensors.devices import CPU, Device, find_device
from .tensors.recording import MAX_DIMENSIONS

__all__ = ["NamespaceInfo", "array_namespace_info", "e", "inf", "nan", "newaxis", "pi"]

e, inf, nan, pi = math.e, math.inf, math.nan, math.pi
newaxis = None


class NamespaceInfo:
    """What accel can do, in the standard's terms.

    Examples
    --------
    >>> import accel
    >>> info = accel.__array_namespace_info__()
    >>> info.default_dtypes()["real floating"], info.capabilities()["boolean indexing"]
    (accel.float32, True)
    """

    def capabilities(self) -> dict[str, Any]:
        """Whether shapes may depend on data (outside of compiled functions), and the most
        dimensions."""
        return {
            "boolean indexing": True, "data-dependent shapes": True,
            "max dimensions": MAX_DIMENSIONS,
        }  # fmt: skip

    def default_device(self) -> Device:
        """Where Tensors are made."""
        return CPU

    def devices(self) -> list[Device]:
        """Where Tensors can be made."""
        from ..targets import torch as torch_target

        return [CPU, *[Device("cuda", i) for i in range(len(torch_target.cuda_devices()))]]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of Python numbers and of functions that are given none."""
        self._check(device)
        return {
            "real floating": dtypes.float32, "complex floating": dtypes.complex64,
            "integral": dtypes.int64, "indexing": dtypes.int64,
        }  # fmt: skip

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes by name, of a kind as in `isdtype` or all; accel has float16 and
        bfloat16 beside them.

        Raises
        ------
        ArgumentError
            For a word that is no kind.
        """
        self._check(device)
        if kind is not None and not isinstance(kind, (str, tuple)):
            raise ArgumentError(f"dtypes: kind {kind!r}", remedy="give a kind's name, or several")
        found = [d for d in dtypes.ALL if kind is None or isdtype(d, kind)]
        return {d.name: d for d in found if d not in (dtypes.float16, dtypes.bfloat16)}

    def _check(self, device: Any) -> None:
        if device is not None:
            find_device(device)


def array_namespace_info() -> NamespaceInfo:
    """What accel can do, in the standard's terms."""
    return NamespaceInfo()
