"""Turning: lines of consecutive elements written as columns.

``turn(frame, target, source)`` writes, for each of `lines` lines i and `columns` columns j, the
element at ``source + i * line_stride``, place j, to ``target + j * target_stride``, place i.
Nothing else is read or written.
"""

from __future__ import annotations

import functools

from ..gemm.pack import transpose
from ..gemm.spec import smaller
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text

__all__ = ["FRAME", "emit_turn"]

FRAME = ("lines", "columns", "line_stride", "target_stride")
"""The slots of a frame, 64-bit integers; strides in bytes."""


class _Turn:
    """Writes the turning function: square blocks in registers, their edges by masks or one
    by one."""

    def __init__(self, element: str, machine: Machine) -> None:
        self.fn = Function("turn", [("ptr", "frame"), ("ptr", "target"), ("ptr", "source")])
        self.lanes = Lanes(self.fn, element, machine.lanes(ELEMENT_BYTES[element]))
        self.one = Lanes(self.fn, element, 1)
        self.masks = machine.has_masks

    def write(self) -> str:
        fn, width = self.fn, self.lanes.width
        self.lines, self.columns, self.line_stride, self.target_stride = [
            fn.load("i64", fn.gep("%frame", 8 * i), 8) for i in range(len(FRAME))
        ]
        if self.masks:
            with fn.loop(0, self.lines, width) as i, fn.loop(0, self.columns, width) as j:
                self._square(i.index, j.index)
        else:
            lines = fn.integer("and", self.lines, -width)
            columns = fn.integer("and", self.columns, -width)
            with fn.loop(0, lines, width) as i, fn.loop(0, columns, width) as j:
                self._square(i.index, j.index)
            self._one_by_one("0", lines, columns)
            self._one_by_one(lines, self.lines, "0")
        fn.do("ret void")
        return module_text([fn])

    def _places(self, i: str, j: str) -> tuple[str, str]:
        """Addresses in source and target of line i and column j."""
        fn, size = self.fn, self.lanes.bytes
        source = fn.gep("%source", fn.integer("mul", i, self.line_stride))
        target = fn.gep("%target", fn.integer("mul", j, self.target_stride))
        return (fn.gep(source, fn.integer("mul", j, size)),
                fn.gep(target, fn.integer("mul", i, size)))  # fmt: skip

    def _square(self, i: str, j: str) -> None:
        fn, lanes = self.fn, self.lanes
        source, target = self._places(i, j)
        if not self.masks:
            rows = []
            for _ in range(lanes.width):
                rows.append(lanes.load(source))
                source = fn.gep(source, self.line_stride)
            for row in transpose(lanes, rows):
                lanes.store(row, target)
                target = fn.gep(target, self.target_stride)
            return
        last = fn.integer("sub", fn.integer("sub", self.lines, i), 1)
        beside = lanes.lane_mask(j, self.columns)
        rows = []
        for place in range(lanes.width):  # a line that does not exist is the last one again
            line = fn.integer("mul", smaller(fn, last, place), self.line_stride)
            rows.append(lanes.masked_load(fn.gep(source, line), beside))
        below = lanes.lane_mask(i, self.lines)
        for place, row in enumerate(transpose(lanes, rows)):
            exists = fn.icmp("slt", fn.integer("add", j, place), self.columns)
            mask = fn.op(
                f"select i1 {exists}, {lanes.mask_type} {below}, {lanes.mask_type} zeroinitializer"
            )
            lanes.masked_store(row, target, mask)
            target = fn.gep(target, self.target_stride)

    def _one_by_one(self, begin: str, end: str, column: str) -> None:
        """The lines in [begin, end) from `column` on."""
        with self.fn.loop(begin, end) as i, self.fn.loop(column, self.columns) as j:
            source, target = self._places(i.index, j.index)
            self.one.store(self.one.load(source), target)


@functools.cache
def emit_turn(element: str, machine: Machine) -> str:
    """The turning function of an element type, named ``turn``."""
    return _Turn(element, machine).write()
