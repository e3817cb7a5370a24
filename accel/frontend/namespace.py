"""What makes the accel module a namespace of the Array API standard, beside its functions."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, DeviceError
from ..ir import dtypes
from ..ir.dtypes import DType
from .dtype_functions import isdtype

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
        dimensions: no limit."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> str:
        """Where Tensors are made."""
        return "cpu"

    def devices(self) -> list[str]:
        """Where Tensors can be made."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of Python numbers and of functions that are given none."""
        self._check(device)
        return {
            "real floating": dtypes.float32, "complex floating": dtypes.complex64,
            "integral": dtypes.int64, "indexing": dtypes.int64,
        }  # fmt: skip

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The dtypes by name, of a kind as in `isdtype` or all.

        Raises
        ------
        ArgumentError
            For a word that is no kind.
        """
        self._check(device)
        if kind is not None and not isinstance(kind, (str, tuple)):
            raise ArgumentError(f"dtypes: kind {kind!r}", remedy="give a kind's name, or several")
        return {d.name: d for d in dtypes.ALL if kind is None or isdtype(d, kind)}

    def _check(self, device: Any) -> None:
        if device not in (None, "cpu"):
            raise DeviceError(f"tensors are not made on {device}", remedy="use the cpu")


def array_namespace_info() -> NamespaceInfo:
    """What accel can do, in the standard's terms."""
    return NamespaceInfo()
