"""Reading every second, third or fourth element: whole vectors, sorted out in registers.

A gather asks the cache once for every lane. Vectors of all that lies between the first and the
last lane ask for it once, also for the accesses whose elements lie between those of others: the
taps of a pooling window, the channels of pixels. A permutation of two registers then takes the
lanes of one register out of them, for larger steps one more for each register. Pairs of elements
side by side, such as complex numbers, are written in the same way.
"""

from __future__ import annotations

from ....ir.dataclass import dataclass
from ..machine.llvm_text import Lanes
from .nest import Phase

__all__ = ["Between", "write_pairs"]


@dataclass(frozen=True)
class Between:
    """The consecutive elements from the first lane to the last, in registers.

    Attributes
    ----------
    lanes
        Integer lanes that fill a register.
    rows
        The registers, `step` of them for each register of lanes.
    starts
        The element with which each register of a row begins.
    """

    lanes: Lanes
    rows: tuple[tuple[str, ...], ...]
    starts: tuple[int, ...]

    @classmethod
    def read(
        cls, lanes: Lanes, width: int, pointer: str, phase: Phase, active: str | None
    ) -> Between:
        """Read them for `width` lanes from `pointer` on, of which the first `active` count.

        Nothing behind the last lane's element is read: the last registers of a row begin
        earlier, or what lies behind is masked.
        """
        starts = [k * lanes.width for k in range(phase.step)]
        if active is None:
            latest = (lanes.width - 1) * phase.step + phase.span + 1 - lanes.width
            starts = [min(start, latest) for start in starts]
        rows = []
        for first in range(0, width, lanes.width):
            masks = None if active is None else _masks(lanes, width, phase, active, first)
            row = []
            for k, start in enumerate(starts):
                place = lanes.fn.gep(pointer, (first * phase.step + start) * lanes.bytes)
                row.append(lanes.masked_load(place, masks[k]) if masks else lanes.load(place))
            rows.append(tuple(row))
        return cls(lanes, tuple(rows), tuple(starts))

    def pick(self, phase: Phase) -> str:
        """The lanes of the access with that phase, as integers."""
        parts = [self._of_row(row, phase) for row in self.rows]
        lanes = self.lanes
        while len(parts) > 1:
            order = range(2 * lanes.width)
            parts = [
                _shuffled(lanes, a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            lanes = Lanes(lanes.fn, lanes.element, 2 * lanes.width)
        return parts[0]

    def _of_row(self, row: tuple[str, ...], phase: Phase) -> str:
        width = self.lanes.width
        elements = [i * phase.step + phase.phase for i in range(width)]
        value = row[0]
        for number, register in enumerate(row[1:], 1):
            order = []
            for lane, e in enumerate(elements):
                before = min(e, width - 1) if number == 1 else lane
                order.append(width + e - self.starts[number] if e // width == number else before)
            value = _shuffled(self.lanes, value, register, order)
        return value


def write_pairs(
    lanes: Lanes, width: int, pointer: str, values: tuple[str, str], active: str | None
) -> None:
    """Write `width` elements of two values in turns from `pointer` on, those of the first
    `active` lanes where that is given; `lanes` fill a register."""
    fn, native = lanes.fn, lanes.width
    whole = Lanes(fn, lanes.element, width)
    for first in range(0, width, native):
        masks = None
        if active is not None:
            masks = _masks(lanes, width, Phase(0, 0, 2, 1), active, first)
        for k in range(2):
            start = first + k * native // 2
            order = [n for i in range(start, start + native // 2) for n in (i, width + i)]
            part = _shuffled(whole, *values, order)
            place = fn.gep(pointer, (first * 2 + k * native) * lanes.bytes)
            if masks is None:
                lanes.store(part, place)
            else:
                lanes.masked_store(part, place, masks[k])


def _shuffled(lanes: Lanes, a: str, b: str, order: range | list[int]) -> str:
    numbers = ", ".join(f"i32 {n}" for n in order)
    return lanes.fn.op(
        f"shufflevector {lanes.type} {a}, {lanes.type} {b}, <{len(order)} x i32> <{numbers}>"
    )


def _masks(lanes: Lanes, width: int, phase: Phase, active: str, first: int) -> list[str]:
    """What to read of the registers of the row that begins with lane `first`."""
    fn, bits = lanes.fn, lanes.width * phase.step
    count = fn.integer("sub", active, first) if first else active
    elements = fn.integer("mul", count, phase.step)
    elements = fn.integer("sub", elements, phase.step - 1 - phase.span)
    spare = fn.integer("sub", bits, elements)
    if width > lanes.width:  # this row may have no lane, or lanes behind it
        spare = fn.call("i64", "llvm.smax.i64", ("i64", spare), ("i64", "0"))
    wide = f"i{bits}"
    if bits != 64:
        spare = fn.op(f"{'zext' if bits > 64 else 'trunc'} i64 {spare} to {wide}")
    mask = fn.op(f"lshr {wide} -1, {spare}")
    if width > lanes.width:
        some = fn.icmp("sgt", count, 0)
        mask = fn.op(f"select i1 {some}, {wide} {mask}, {wide} 0")
    parts = []
    for k in range(phase.step):
        part = fn.op(f"lshr {wide} {mask}, {k * lanes.width}") if k else mask
        part = fn.op(f"trunc {wide} {part} to i{lanes.width}")
        parts.append(fn.op(f"bitcast i{lanes.width} {part} to {lanes.mask_type}"))
    return parts
