"""Packing of convolutions: rows of an image copied beside each other, zeros around them.

``pack(frame, target, source)`` fills `rows` rows of `width` columns. Row r is the source's row
``first_row + r * row_step`` and its column j the source's column at ``column + j *
column_step`` bytes; zeros stand for rows outside of the source and for columns outside of
[begin, end), and a vector of zeros follows the last row, as the next row's would.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..gemm.spec import smaller
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text

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
        self.step = slot["column_step"]
        contiguous, apart, done = (fn.label(s) for s in ("contiguous", "apart", "packed"))
        fn.cond_br(fn.icmp("eq", self.step, size), contiguous, apart)
        fn.block(contiguous)
        if self.masks:
            self._vectors(slot)
        else:
            self._rows(slot, self._contiguous)
        fn.br(done)
        fn.block(apart)
        self._rows(slot, self._apart)
        fn.br(done)
        fn.block(done)
        elements = fn.integer("mul", slot["rows"], slot["width"])
        behind = fn.gep("%target", elements, self.lanes.element)
        self.lanes.store(self.lanes.const(0), behind)
        fn.do("ret void")
        return module_text([fn])

    def _rows(self, slot: dict[str, str], copy: Callable[[str, str, str, str], None]) -> None:
        """Row by row: zeros, what `copy` copies, zeros."""
        fn = self.fn
        with fn.loop(
            0, slot["rows"], 1, [("ptr", "%target"), ("i64", slot["first_row"])]
        ) as loop:
            target, row = loop.values
            inside = fn.icmp("ult", row, slot["source_rows"])
            begin = fn.op(f"select i1 {inside}, i64 {slot['begin']}, i64 {slot['width']}")
            end = fn.op(f"select i1 {inside}, i64 {slot['end']}, i64 {slot['width']}")
            source = fn.gep("%source", fn.integer("mul", row, slot["row_stride"]))
            self._zeros(target, "0", begin)
            copy(target, fn.gep(source, slot["column"]), begin, end)
            self._zeros(target, end, slot["width"])
            loop.next = [
                fn.gep(target, slot["width"], self.lanes.element),
                fn.integer("add", row, slot["row_step"]),
            ]

    def _vectors(self, slot: dict[str, str]) -> None:
        """Vector by vector of all rows, so that a row takes a load and a store for each. The
        last vectors, which reach into the rows behind theirs, come first, and rows in order."""
        fn, lanes = self.fn, self.lanes
        rows, first, step = slot["rows"], slot["first_row"], slot["row_step"]
        before = self._rows_before(fn.integer("sub", 0, first), step, rows)
        until = self._rows_before(fn.integer("sub", slot["source_rows"], first), step, rows)
        row = fn.integer("add", first, fn.integer("mul", before, step))
        source = fn.gep("%source", fn.integer("mul", row, slot["row_stride"]))
        source = fn.gep(source, slot["column"])
        wide = fn.integer("add", slot["width"], lanes.width - 1)
        last = fn.integer("sub", fn.integer("and", wide, -lanes.width), lanes.width)
        apart = fn.integer("mul", step, slot["row_stride"])
        with fn.loop(0, slot["width"], lanes.width) as turn:
            column = fn.integer("sub", last, turn.index)
            mask = self._between(column, slot["begin"], slot["end"])
            start = fn.gep("%target", column, lanes.element)
            target = self._blank(start, "0", before, slot["width"])
            with fn.loop(before, until, 1, [
                ("ptr", target), ("ptr", fn.gep(source, column, lanes.element)),
            ]) as loop:  # fmt: skip
                target, at = loop.values
                lanes.store(lanes.masked_load(at, mask), target)
                loop.next = [fn.gep(target, slot["width"], lanes.element), fn.gep(at, apart)]
            self._blank(loop.values[0], until, rows, slot["width"])

    def _rows_before(self, distance: str, step: str, most: str) -> str:
        """How many rows, `step` apart, are short of a distance."""
        fn = self.fn
        distance = fn.call("i64", "llvm.smax.i64", ("i64", distance), ("i64", "0"))
        up = fn.integer("add", distance, fn.integer("sub", step, 1))
        return smaller(fn, fn.integer("udiv", up, step), most)

    def _between(self, column: str, begin: str, end: str) -> str:
        """The lanes from `column` on that lie in [begin, end)."""
        lanes = self.lanes
        until, before = lanes.lane_mask(column, end), lanes.lane_mask(column, begin)
        return lanes.mask_op("xor", lanes.mask_op("and", before, until), until)

    def _blank(self, target: str, begin: str, end: str, pitch: str) -> str:
        """A vector of zeros in each of some rows; returns where the next row is."""
        fn, lanes = self.fn, self.lanes
        with fn.loop(begin, end, 1, [("ptr", target)]) as loop:
            lanes.store(lanes.const(0), loop.values[0])
            loop.next = [fn.gep(loop.values[0], pitch, lanes.element)]
        return loop.values[0]

    def _apart(self, target: str, source: str, begin: str, end: str) -> None:
        """Columns that do not follow each other."""
        fn = self.fn
        pairs, one_by_one, done = (fn.label(s) for s in ("pairs", "scalars", "copied"))
        fn.cond_br(fn.icmp("eq", self.step, 2 * self.lanes.bytes), pairs, one_by_one)
        fn.block(pairs)
        self._every_other(target, source, begin, end)
        fn.br(done)
        fn.block(one_by_one)
        self._scalars(target, source, begin, end)
        fn.br(done)
        fn.block(done)

    def _zeros(self, target: str, begin: str, end: str) -> None:
        with self.fn.loop(begin, end, self.lanes.width) as j:
            self.lanes.store(self.lanes.const(0), self._at(target, j.index))

    def _at(self, target: str, j: str) -> str:
        return self.fn.gep(target, j, self.lanes.element)

    def _contiguous(self, target: str, source: str, begin: str, end: str) -> None:
        fn, lanes = self.fn, self.lanes
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
