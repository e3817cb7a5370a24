"""Packing of convolutions: rows of an image copied beside each other, zeros around them.

``pack(frame, target, source)`` fills `rows` rows of `width` columns. Row r is the source's row
``first_row + r * row_step`` and its column j the source's column at ``column + j *
column_step`` bytes; zeros stand for rows outside of the source and for columns outside of
[begin, end). Whole vectors are written, so that a vector's room must follow the last row.
"""

from __future__ import annotations

import functools

from .jit import Machine
from .llvm_text import ELEMENT_BYTES, Function, Lanes, module_text

__all__ = ["FRAME", "emit_pack"]

FRAME = (
    "rows", "width", "first_row", "row_step", "source_rows", "row_stride",
    "begin", "end", "column", "column_step",
)  # fmt: skip
"""The slots of a frame, 64-bit integers; strides and `column` in bytes."""


class _Pack:
    """Writes the packing function."""

    def __init__(self, element: str, machine: Machine) -> None:
        self.fn = Function("pack", [("ptr", "frame"), ("ptr", "target"), ("ptr", "source")])
        self.lanes = Lanes(self.fn, element, machine.lanes(ELEMENT_BYTES[element]))
        self.one = Lanes(self.fn, element, 1)
        self.masks = machine.has_masks

    def write(self) -> str:
        fn, size = self.fn, self.lanes.bytes
        slot = {
            name: fn.load("i64", fn.gep("%frame", 8 * i), 8) for i, name in enumerate(FRAME)
        }  # fmt: skip
        unit = fn.icmp("eq", slot["column_step"], size)
        pairs = fn.icmp("eq", slot["column_step"], 2 * size)
        self.step = slot["column_step"]
        target, row = "%target", slot["first_row"]
        carried = [("ptr", target), ("i64", row)]
        with fn.loop(0, slot["rows"], 1, carried) as loop:
            target, row = loop.values
            inside = fn.icmp("ult", row, slot["source_rows"])
            begin = fn.op(f"select i1 {inside}, i64 {slot['begin']}, i64 {slot['width']}")
            end = fn.op(f"select i1 {inside}, i64 {slot['end']}, i64 {slot['width']}")
            source = fn.gep("%source", fn.integer("mul", row, slot["row_stride"]))
            source = fn.gep(source, slot["column"])
            self._zeros(target, "0", begin)
            one_by_one, apart, done = (fn.label(s) for s in ("scalars", "apart", "copied"))
            contiguous = fn.label("contiguous")
            fn.cond_br(unit, contiguous, apart)
            fn.block(contiguous)
            self._contiguous(target, source, begin, end)
            fn.br(done)
            fn.block(apart)
            every_other = fn.label("pairs")
            fn.cond_br(pairs, every_other, one_by_one)
            fn.block(every_other)
            self._every_other(target, source, begin, end)
            fn.br(done)
            fn.block(one_by_one)
            self._scalars(target, source, begin, end)
            fn.br(done)
            fn.block(done)
            self._zeros(target, end, slot["width"])
            loop.next = [
                fn.gep(target, slot["width"], self.lanes.element),
                fn.integer("add", row, slot["row_step"]),
            ]
        fn.do("ret void")
        return module_text([fn])

    def _zeros(self, target: str, begin: str, end: str) -> None:
        with self.fn.loop(begin, end, self.lanes.width) as j:
            self.lanes.store(self.lanes.const(0), self._at(target, j.index))

    def _at(self, target: str, j: str) -> str:
        return self.fn.gep(target, j, self.lanes.element)

    def _contiguous(self, target: str, source: str, begin: str, end: str) -> None:
        fn, lanes = self.fn, self.lanes
        if self.masks:
            with fn.loop(begin, end, lanes.width) as j:
                value = lanes.masked_load(self._at(source, j.index), lanes.lane_mask(j.index, end))
                lanes.store(value, self._at(target, j.index))
            return
        whole = self._whole(begin, end)
        with fn.loop(begin, whole, lanes.width) as j:
            lanes.store(lanes.load(self._at(source, j.index)), self._at(target, j.index))
        self._scalars(target, source, whole, end)

    def _whole(self, begin: str, end: str) -> str:
        """Where whole vectors from `begin` on end."""
        fn = self.fn
        count = fn.integer("sub", end, begin)
        return fn.integer("add", begin, fn.integer("and", count, -self.lanes.width))

    def _every_other(self, target: str, source: str, begin: str, end: str) -> None:
        """The even elements of two vectors at a time; nothing behind the last is read."""
        fn, lanes = self.fn, self.lanes
        width = lanes.width
        stop = end if self.masks else self._whole(begin, fn.integer("sub", end, 1))
        stop = stop if self.masks else fn.call(
            "i64", "llvm.smax.i64", ("i64", stop), ("i64", begin)
        )  # fmt: skip
        last = fn.integer("sub", fn.integer("mul", end, 2), 1)
        with fn.loop(begin, stop, width) as j:
            first = fn.integer("mul", j.index, 2)
            halves = []
            for place in (first, fn.integer("add", first, width)):
                at = self._at(source, place)
                halves.append(
                    lanes.masked_load(at, lanes.lane_mask(place, last)) if self.masks
                    else lanes.load(at)
                )  # fmt: skip
            order = ", ".join(f"i32 {2 * i}" for i in range(width))
            value = fn.op(
                f"shufflevector {lanes.type} {halves[0]}, {lanes.type} {halves[1]}, "
                f"<{width} x i32> <{order}>"
            )
            lanes.store(value, self._at(target, j.index))
        if not self.masks:
            self._scalars(target, source, stop, end)

    def _scalars(self, target: str, source: str, begin: str, end: str) -> None:
        fn, one = self.fn, self.one
        with fn.loop(begin, end) as j:
            at = fn.gep(source, fn.integer("mul", j.index, self.step))
            one.store(one.load(at), self._at(target, j.index))


@functools.cache
def emit_pack(element: str, machine: Machine) -> str:
    """The packing function of an element type, named ``pack``."""
    return _Pack(element, machine).write()
