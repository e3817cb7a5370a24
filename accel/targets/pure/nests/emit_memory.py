"""Elements in memory as lanes of registers: how a kernel loads, stores and asks ahead.

Lanes lie side by side or at byte offsets of their own, and a mask says which of them lie inside
the data; nothing outside is touched. Bools are bytes in memory and bits in registers.
"""

from __future__ import annotations

from collections.abc import Iterable

from ....ir import dtypes
from ....ir.dataclass import dataclass
from ....ir.dtypes import DType
from ..machine.llvm_text import LINE, Function, Lanes
from .site import ELEMENTS, Site, cast

__all__ = ["Elements", "memory_type", "prefetch"]


def memory_type(dtype: DType) -> str:
    """The LLVM type of an element in memory."""
    return "i8" if dtype.kind == "b" else ELEMENTS[dtype]


def prefetch(fn: Function, pointer: str, lines: Iterable[int], writes: bool) -> None:
    """Ask for the lines at some bytes from `pointer` on."""
    for line in lines:
        fn.prefetch(fn.gep(pointer, line), writes)


@dataclass(frozen=True)
class Elements:
    """`width` elements of one dtype.

    A pointer is that of the first lane. Offsets are those of the lanes in bytes, None where they
    follow each other; a mask is None where all lanes lie inside the data.
    """

    fn: Function
    dtype: DType
    width: int

    @property
    def lanes(self) -> Lanes:
        """Lanes of what lies in memory."""
        return Lanes(self.fn, memory_type(self.dtype), self.width)

    def read(self, pointer: str, offsets: str | None, mask: str | None) -> str:
        """The lanes' values."""
        lanes, width = self.lanes, self.width
        if offsets is not None:
            raw = lanes.gather(self._pointers(pointer, offsets, mask))
        elif width > 1 and mask is not None:
            raw = lanes.masked_load(pointer, mask)
        else:
            raw = lanes.load(pointer)
        return self._from_memory(raw)

    def read_backwards(self, pointer: str, mask: str | None) -> str:
        """The values of lanes each of which lies before the last one."""
        lanes, width = self.lanes, self.width
        first = self.fn.gep(pointer, (1 - width) * lanes.bytes)
        if mask is None:
            raw = lanes.load(first)
        else:
            raw = lanes.masked_load(first, lanes.like("i1").reversed(mask))
        return self._from_memory(lanes.reversed(raw))

    def write(self, value: str, pointer: str, offsets: str | None, mask: str | None) -> None:
        """Store the lanes' values."""
        lanes, width = self.lanes, self.width
        value = self._to_memory(value)
        if offsets is not None:
            if mask is not None:  # all lanes outside the data repeat the first one
                first = self.fn.op(f"extractelement {lanes.type} {value}, i64 0")
                value = lanes.select(mask, value, lanes.splat(first))
            lanes.scatter(value, self._pointers(pointer, offsets, mask))
        elif width > 1 and mask is not None:
            lanes.masked_store(value, pointer, mask)
        else:
            lanes.store(value, pointer)

    def stream(self, value: str, pointer: str) -> None:
        """Store whole vectors past the caches."""
        align = min(LINE, self.width * self.dtype.itemsize)
        self.fn.stream(self.lanes.type, self._to_memory(value), pointer, align)

    def of_bits(self, bits: str) -> str:
        """The values whose bits were read as integers."""
        lanes = self.lanes
        return self._from_memory(lanes.from_bits(bits) if lanes.is_float else bits)

    def _from_memory(self, value: str) -> str:
        return self.lanes.cmp("ne", value, 0) if self.dtype.kind == "b" else value

    def _to_memory(self, value: str) -> str:
        if self.dtype.kind != "b":
            return value
        return cast(Site(self.fn, self.width), value, self.dtype, dtypes.uint8)

    def _pointers(self, pointer: str, offsets: str, mask: str | None) -> str:
        """The lanes' pointers; lanes outside the data point to the first one, which is inside."""
        if mask is not None:
            offsets = Lanes(self.fn, "i64", self.width).select(mask, offsets, 0)
        return self.fn.op(f"getelementptr i8, ptr {pointer}, <{self.width} x i64> {offsets}")
