"""Where code is written, and conversions between dtypes there.

A :class:`Site` is a function and a number of lanes. Bools are masks (``i1``) in registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....ir import dtypes
from ....ir.dataclass import dataclass
from ....ir.dtypes import DType
from ..machine.llvm_text import Function, Lanes

__all__ = ["ELEMENTS", "HALVES", "IN_NESTS", "Application", "Site", "cast"]

#: The LLVM type in registers of every dtype that has native kernels.
ELEMENTS: dict[DType, str] = {
    dtypes.bool_: "i1",
    dtypes.int8: "i8", dtypes.int16: "i16", dtypes.int32: "i32", dtypes.int64: "i64",
    dtypes.uint8: "i8", dtypes.uint16: "i16", dtypes.uint32: "i32", dtypes.uint64: "i64",
    dtypes.float32: "float", dtypes.float64: "double",
}  # fmt: skip

#: Dtypes that lie in memory only and are computed in float32, by the names of their bits.
HALVES = {dtypes.float16: "half", dtypes.bfloat16: "bfloat"}

#: What loop nests can be made of.
IN_NESTS = frozenset((*ELEMENTS, *HALVES))


@dataclass(frozen=True)
class Site:
    """Where code is written: the function, and how many lanes."""

    fn: Function
    width: int

    def lanes(self, dtype: DType) -> Lanes:
        """Arithmetic on values of `dtype`."""
        return Lanes(self.fn, ELEMENTS[dtype], self.width)

    @property
    def masks(self) -> Lanes:
        return Lanes(self.fn, "i1", self.width)


@dataclass(frozen=True)
class Application:
    """One application of an op: names and dtypes of its operands, result dtype, attributes."""

    inputs: Sequence[str]
    dtypes: Sequence[DType]
    dtype: DType
    attrs: Mapping[str, Any]


def cast(site: Site, x: str, source: DType, target: DType) -> str:
    """`x` converted as NumPy's astype does; floats become integers by way of 64 bits,
    saturating there, and NaN becomes 0."""
    if source is target:
        return x
    a, b = site.lanes(source), site.lanes(target)
    if target.kind == "b":
        return a.cmp("une" if a.is_float else "ne", x, 0)
    if a.is_float and b.is_float:
        return b.convert("fpext" if b.bytes > a.bytes else "fptrunc", x, a)
    if a.is_float:
        return _float_to_integer(site, x, a, target)
    if b.is_float:
        return b.convert("sitofp" if source.kind == "i" else "uitofp", x, a)
    if a.bits == b.bits:
        return x
    if b.bits < a.bits:
        return b.convert("trunc", x, a)
    return b.convert("sext" if source.kind == "i" else "zext", x, a)


def _float_to_integer(site: Site, x: str, a: Lanes, target: DType) -> str:
    """Numbers that fit take the processor's instruction; if a lane's does not, all take the
    saturating one, whose low bits are kept."""
    narrow = site.lanes(target)
    if target is dtypes.uint64:
        return _saturated(a, x, "fptoui")
    direct = a.like("i32" if narrow.bits <= 32 else "i64")
    fits = a.cmp("olt", a.abs(x), 2.0 ** (direct.bits - 1))
    quick, slow, done = (site.fn.label(stem) for stem in ("fits", "saturate", "whole"))
    site.fn.cond_br(_every(site, fits), quick, slow)
    site.fn.block(quick)
    plain = _low_bits(direct.convert("fptosi", x, a), direct, narrow)
    site.fn.br(done)
    site.fn.block(slow)
    wrapped = _low_bits(_saturated(a, x, "fptosi"), a.like("i64"), narrow)
    site.fn.br(done)
    site.fn.block(done)
    return site.fn.phi(narrow.type, (plain, quick), (wrapped, slow))


def _saturated(a: Lanes, x: str, kind: str) -> str:
    wide = a.like("i64")
    return a.fn.call(wide.type, f"llvm.{kind}.sat.{wide.suffix}.{a.suffix}", (a.type, x))


def _low_bits(x: str, source: Lanes, target: Lanes) -> str:
    return x if source.bits == target.bits else target.convert("trunc", x, source)


def _every(site: Site, mask: str) -> str:
    """Whether all lanes of a mask hold."""
    if site.width == 1:
        return mask
    bits = site.fn.op(f"bitcast {site.masks.type} {mask} to i{site.width}")
    return site.fn.op(f"icmp eq i{site.width} {bits}, -1")
