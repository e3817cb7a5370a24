"""Data types and their promotion.

One :class:`DType` object per type; different objects are different types. Promotion is torch's
lattice without its rule about ranks: a 0-d array counts like any other, only Python scalars are
*weak*.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..errors import DTypeError, UnsupportedDTypeError

__all__ = [
    "ALL", "DType", "bfloat16", "bool_", "complex64", "complex128", "default_dtype", "float16",
    "float32", "float64", "int8", "int16", "int32", "int64", "of_scalar", "promote",
    "promote_weak", "to_dtype", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip

# The order of kinds in promotion: a bool gives way to an integer, that to a float, and so on.
_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


class DType:
    """A data type.

    Attributes
    ----------
    name
        NumPy's name, such as ``"float32"``.
    short
        The name in graph texts, such as ``"f32"``.
    kind
        ``b`` bool, ``i`` signed, ``u`` unsigned, ``f`` floating point, ``c`` complex.
    itemsize
        Bytes an element.
    numpy
        The NumPy dtype (bfloat16's is that of ml_dtypes).
    """

    __slots__ = ("itemsize", "kind", "name", "numpy", "short")

    name: str
    short: str
    kind: str
    itemsize: int
    numpy: np.dtype

    def __init__(self, name: str, short: str, kind: str, numpy: Any) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.numpy = np.dtype(numpy)
        self.itemsize = self.numpy.itemsize

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype; NumPy reads this where it expects a dtype."""
        return self.numpy

    @property
    def bits(self) -> int:
        return self.itemsize * 8

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_inexact(self) -> bool:
        """Floating point or complex: the types that have gradients."""
        return self.kind in "fc"

    @property
    def real(self) -> DType:
        """The type of the real part."""
        return {complex64: float32, complex128: float64}.get(self, self)

    @property
    def complex(self) -> DType:
        """The complex type for numbers of this type: complex64 for all but 64-bit floats."""
        return complex128 if self.real is float64 else complex64

    def __eq__(self, other: object) -> bool:
        """Also to NumPy's dtypes, their scalar types and names, so that code written for NumPy
        compares as it is."""
        if isinstance(other, DType):
            return self is other
        if isinstance(other, str):
            return self.name == other
        if isinstance(other, type) and issubclass(other, np.generic):
            other = np.dtype(other)
        return bool(self.numpy == other) if isinstance(other, np.dtype) else NotImplemented

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"accel.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return to_dtype, (self.name,)


bool_ = DType("bool", "bool", "b", np.bool_)
int8 = DType("int8", "i8", "i", np.int8)
int16 = DType("int16", "i16", "i", np.int16)
int32 = DType("int32", "i32", "i", np.int32)
int64 = DType("int64", "i64", "i", np.int64)
uint8 = DType("uint8", "u8", "u", np.uint8)
uint16 = DType("uint16", "u16", "u", np.uint16)
uint32 = DType("uint32", "u32", "u", np.uint32)
uint64 = DType("uint64", "u64", "u", np.uint64)
float16 = DType("float16", "f16", "f", np.float16)
bfloat16 = DType("bfloat16", "bf16", "f", ml_dtypes.bfloat16)
float32 = DType("float32", "f32", "f", np.float32)
float64 = DType("float64", "f64", "f", np.float64)
complex64 = DType("complex64", "c64", "c", np.complex64)
complex128 = DType("complex128", "c128", "c", np.complex128)

ALL = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
_BY_NAME = {d.name: d for d in ALL} | {d.short: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}
_BY_PYTHON: dict[Any, DType] = {bool: bool_, int: int64, float: float32, complex: complex64}


def to_dtype(value: Any) -> DType:
    """The DType that `value` names: a DType, a name, a NumPy or Python type.

    Examples
    --------
    >>> to_dtype("float32"), to_dtype(np.int8), to_dtype(bool)
    (accel.float32, accel.int8, accel.bool)
    """
    if isinstance(value, DType):
        return value
    found = _BY_PYTHON.get(value) if isinstance(value, type) else None
    if found is None and isinstance(value, str):
        found = _BY_NAME.get(value)
    if found is None and value is not None:
        name = str(value)
        if name.startswith("torch."):
            found = _BY_NAME.get(name[6:])
        else:
            try:
                found = _BY_NUMPY.get(np.dtype(value).newbyteorder("="))
            except TypeError:
                found = None
    if found is None:
        raise UnsupportedDTypeError(
            f"{value!r} is not a data type of accel",
            remedy="use one of " + ", ".join(d.name for d in ALL),
        )
    return found


def default_dtype(kind: str) -> DType:
    """What a Python scalar of this kind becomes alone: bool, int64, float32, complex64."""
    return {"b": bool_, "i": int64, "u": int64, "f": float32, "c": complex64}[kind]


def of_scalar(value: bool | int | float | complex) -> DType:
    """The dtype in which a weak Python scalar is held exactly, until it meets an array."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64 if -(2**63) <= value < 2**63 else uint64
    return float64 if isinstance(value, float) else complex128


def _promote_integers(a: DType, b: DType) -> DType:
    if a.kind == b.kind:
        return a if a.itemsize >= b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    if unsigned.itemsize == 8:
        raise DTypeError(
            f"{a.name} and {b.name} have no common data type",
            remedy="convert one operand with .astype(accel.int64) or .astype(accel.float64)",
        )
    return {1: int16, 2: int32, 4: int64}[unsigned.itemsize]


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two arrays' dtypes (torch's lattice, exact for the standard's pairs).

    Examples
    --------
    >>> promote(int8, uint8), promote(int64, float16), promote(float16, bfloat16)
    (accel.int16, accel.float16, accel.float32)
    """
    if a is b:
        return a
    rank_a, rank_b = _RANK[a.kind], _RANK[b.kind]
    if rank_a < rank_b:
        a, b, rank_a, rank_b = b, a, rank_b, rank_a
    if rank_a == 3 and rank_b == 2:
        return complex128 if b is float64 else a
    if rank_a != rank_b:
        return a
    if rank_a == 1:
        return _promote_integers(a, b)
    if a.itemsize == b.itemsize:  # float16 with bfloat16
        return float32
    return a if a.itemsize > b.itemsize else b


def promote_weak(dtype: DType, kind: str) -> DType:
    """The dtype of an array of `dtype` met by a Python scalar of `kind`."""
    if _RANK[kind] <= _RANK[dtype.kind]:
        return dtype
    if kind == "c" and dtype is float64:
        return complex128
    return default_dtype(kind)
