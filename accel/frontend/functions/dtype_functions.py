"""What dtypes are: conversion, promotion, limits."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ...errors import ArgumentError, DTypeError
from ...ir import dtypes
from ...ir.dtypes import DType
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = ["astype", "can_cast", "finfo", "iinfo", "is_complex", "is_floating_point", "isdtype",
           "promote_types", "result_type"]  # fmt: skip

_WORDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu",
    "real floating": "f", "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def inexact(x: Any) -> Tensor:
    """`x` as a tensor of floating or complex numbers: those of other dtypes become float32."""
    x = as_tensor(x)
    return x if x.dtype.is_inexact else record("cast", x, dtype=dtypes.float32)


@public
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """The elements in another dtype.

    Floats become integers by truncation; those beyond the range keep the low 64 bits, NaN
    becomes 0, on every target alike.

    Parameters
    ----------
    x
        A Tensor, an array or a number.
    dtype
        An accel or NumPy dtype or its name; ``float`` means float32, ``int`` int64.
    copy
        Accepted for the standard's sake: values are never shared visibly.
    device
        Where to put the result; by default where x is.

    Raises
    ------
    UnsupportedDTypeError
        For a dtype that accel lacks.

    Examples
    --------
    >>> import accel
    >>> accel.astype(accel.asarray([1.7, -1.7]), accel.int32).tolist()
    [1, -1]
    """
    if device is not None:
        from .creation import move

        x = move(as_tensor(x), device)
    wanted = dtypes.to_dtype(dtype)
    if type(x) in (bool, int, float, complex):
        return Tensor(x, wanted)  # at once: through the default dtype it would be rounded
    x = as_tensor(x)
    return x if x.dtype is wanted and not copy else record("cast", x, dtype=wanted)


def _dtype_of(value: Any) -> DType | None:
    """The dtype of an array or of a dtype's name; None for a Python scalar."""
    if type(value) in (bool, int, float, complex):
        return None
    found = getattr(value, "dtype", None)
    if isinstance(found, (DType, np.dtype)) and not isinstance(value, (DType, type)):
        return dtypes.to_dtype(found)
    return dtypes.to_dtype(value)


@public
def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype in which operands meet.

    Parameters
    ----------
    arrays_and_dtypes
        Tensors, arrays, dtypes, and Python numbers, which are weak.

    Raises
    ------
    ArgumentError
        Without operands.
    DTypeError
        When two have no common dtype (uint64 with int64).

    Examples
    --------
    >>> import accel
    >>> accel.result_type(accel.int32, accel.float32), accel.result_type(accel.float16, 1.0)
    (accel.float32, accel.float16)
    """
    if not arrays_and_dtypes:
        raise ArgumentError("result_type of nothing", remedy="give arrays or dtypes")
    found = [_dtype_of(v) for v in arrays_and_dtypes]
    strong = [d for d in found if d is not None]
    weak = [dtypes.of_scalar(v) for v, d in zip(arrays_and_dtypes, found, strict=True) if d is None]
    if not strong:
        common = weak[0]
        for d in weak[1:]:
            common = dtypes.promote(common, d)
        return dtypes.default_dtype(common.kind)
    common = strong[0]
    for d in strong[1:]:
        common = dtypes.promote(common, d)
    for d in weak:
        common = dtypes.promote_weak(common, d.kind)
    return common


def promote_types(first: Any, second: Any, /) -> DType:
    """The common dtype of two dtypes; see `result_type`."""
    return result_type(dtypes.to_dtype(first), dtypes.to_dtype(second))


@public
def can_cast(source: Any, target: Any, /) -> bool:
    """Whether every promotion of `source` (an array or a dtype) may lead to `target`.

    Examples
    --------
    >>> import accel
    >>> accel.can_cast(accel.int8, accel.int32), accel.can_cast(accel.float32, accel.int64)
    (True, False)
    """
    start, end = _dtype_of(source), dtypes.to_dtype(target)
    if start is None:
        start = dtypes.of_scalar(source)
    try:
        return dtypes.promote(start, end) is end
    except DTypeError:
        return False


@public
def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind.

    Parameters
    ----------
    dtype
        A dtype or its name.
    kind
        A dtype; "bool", "signed integer", "unsigned integer", "integral", "real floating",
        "complex floating" or "numeric"; or a tuple of these.

    Raises
    ------
    ArgumentError
        For a word that is no kind.

    Examples
    --------
    >>> import accel
    >>> accel.isdtype(accel.float32, "real floating"), accel.isdtype(accel.bool, "numeric")
    (True, False)
    """
    found = dtypes.to_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(found, k) for k in kind)
    if isinstance(kind, str) and kind in _WORDS:
        return found.kind in _WORDS[kind]
    if isinstance(kind, str):
        raise ArgumentError(f"isdtype: {kind!r} is no kind",
                            remedy="use one of " + ", ".join(map(repr, _WORDS)))  # fmt: skip
    return found is dtypes.to_dtype(kind)


def is_floating_point(x: Any, /) -> bool:
    """Whether a Tensor, array or dtype is of real floating dtype."""
    found = _dtype_of(x)
    return isinstance(x, float) if found is None else found.kind == "f"


def is_complex(x: Any, /) -> bool:
    """Whether a Tensor, array or dtype is of complex dtype."""
    found = _dtype_of(x)
    return isinstance(x, complex) if found is None else found.kind == "c"


class FloatLimits(NamedTuple):
    """The limits of a floating dtype, as Python numbers.

    Attributes
    ----------
    bits
        Width.
    eps
        The distance from 1 to the next number.
    max, min
        The greatest and the least finite number.
    smallest_normal, tiny
        The least positive normal number.
    smallest_subnormal
        The least positive number.
    resolution
        Ten to the power of minus the decimal digits that are exact.
    """

    dtype: DType
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    smallest_subnormal: float
    resolution: float

    @property
    def tiny(self) -> float:
        return self.smallest_normal


class IntegerLimits(NamedTuple):
    """The limits of an integer dtype: `bits`, `max` and `min`."""

    dtype: DType
    bits: int
    max: int
    min: int


@public
def finfo(dtype: Any, /) -> FloatLimits:
    """The limits of a floating dtype, or of a complex one's parts.

    Raises
    ------
    DTypeError
        For an integer dtype.

    Examples
    --------
    >>> import accel
    >>> accel.finfo(accel.float16).max, accel.finfo("float32").bits
    (65504.0, 32)
    """
    found = _dtype_of(dtype)
    if found is None or not found.is_inexact:
        raise DTypeError(f"finfo of {dtype!r}", remedy="give a floating dtype, or use iinfo")
    real = found.real
    info = ml_dtypes.finfo(real.numpy)
    return FloatLimits(
        real, real.bits, float(info.eps), float(info.max), float(info.min),
        float(info.smallest_normal), float(info.smallest_subnormal), float(info.resolution),
    )  # fmt: skip


@public
def iinfo(dtype: Any, /) -> IntegerLimits:
    """The limits of an integer dtype.

    Raises
    ------
    DTypeError
        For another dtype.

    Examples
    --------
    >>> import accel
    >>> accel.iinfo(accel.int8).min, accel.iinfo(accel.uint8).max
    (-128, 255)
    """
    found = _dtype_of(dtype)
    if found is None or not found.is_integer:
        raise DTypeError(f"iinfo of {dtype!r}", remedy="give an integer dtype, or use finfo")
    info = np.iinfo(found.numpy)
    return IntegerLimits(found, found.bits, int(info.max), int(info.min))
