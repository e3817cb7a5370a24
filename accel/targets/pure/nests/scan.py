"""Running sums, products and places of extrema: one kernel a scan.

Operand and result lie in C order, as boxes of (outer, length, inner) elements. Two forms of
code follow:

- ``along`` (inner is 1): a work item is a row. The elements of a register become running
  totals by log2(lanes) shifted additions; the last of them is carried to the next register.
- ``across``: a work item is a block of lanes of the inner extent; each lane runs on its own.

float32 is accumulated in float64. Running totals of float64 itself are taken one by one, so
they are NumPy's bit for bit; integers wrap and have no order. The places of running extrema
are found beside the extrema, one by one along a row. No result depends on how the
work items are split.
"""

from __future__ import annotations

import math

import numpy as np

from ....ir import dtypes
from ....ir.dataclass import dataclass
from ....ir.dtypes import DType
from ....ir.node import Node
from ..machine.jit import Machine
from ..machine.llvm_text import Function, Lanes, Loop, module_text
from ..views import View
from .lowering import ELEMENTS, Site, cast

__all__ = ["SCANS", "Scan", "scan"]

#: The op that combines two totals; of running extrema the comparison that takes a new one.
SCANS = {"cumsum": "add", "cumprod": "mul", "cumargmax": "ge", "cumargmin": "le"}
PLACES = ("cumargmax", "cumargmin")


@dataclass(frozen=True)
class Scan:
    """A scan of a C-ordered operand.

    Attributes
    ----------
    op
        A name of `SCANS`.
    x, target
        What is read and written; both consecutive elements in C order.
    extents
        (outer, length, inner): running along the middle one.
    machine
        What its code is written for.
    """

    op: str
    x: View
    target: View
    extents: tuple[int, int, int]
    machine: Machine

    @staticmethod
    def native(node: Node) -> bool:
        """Whether the scan has native code for its dtypes."""
        types = (node.inputs[0].type.dtype, node.type.dtype)
        return node.op.name in SCANS and all(d in ELEMENTS for d in types) and types[1].kind != "b"

    @property
    def along(self) -> bool:
        return self.extents[2] == 1

    @property
    def accumulator(self) -> DType:
        """The dtype of the totals in registers."""
        dtype = self.target.buffer.dtype
        return dtypes.float64 if dtype is dtypes.float32 else dtype

    @property
    def key(self) -> object:
        """What the code depends on."""
        sides = (self.x.buffer.dtype, self.target.buffer.dtype)
        return ("scan", self.op, sides, self.along, self.machine)

    @property
    def lanes(self) -> int:
        """Lanes of the main loop."""
        own = self.machine.lanes(self.accumulator.itemsize)
        if self.along and self.op in PLACES:
            return 1
        if not self.along:
            return min(64, 4 * own)  # four registers, to hide the latency of an addition
        return 1 if self.target.buffer.dtype is dtypes.float64 else own

    @property
    def items(self) -> int:
        outer, length, inner = self.extents
        if not length or not inner:
            return 0
        return outer if self.along else outer * -(-inner // self.lanes)

    def arguments(self, x: tuple[int, int], target: tuple[int, int]) -> tuple[int, ...]:
        """The argument block; base and byte offset of the buffers are given."""
        _, length, inner = self.extents
        at = x[1] + self.x.offset * self.x.buffer.dtype.itemsize
        return (x[0], at, *target, length, inner)

    def text(self, name: str) -> str:
        """The LLVM module of its kernel."""
        writer = _PlacesWriter if self.op in PLACES else _Writer
        return writer(self, name).text()

    def __str__(self) -> str:
        outer, length, inner = self.extents
        return f"{self.op} of [{outer}, {length}*, {inner}]  (* running)"


def scan(node: Node, x: View, target: View, machine: Machine) -> Scan:
    """The scan that `node` does, reading `x` and writing `target`, both in C order."""
    shape, axis = node.type.shape, node.attrs["axis"]
    outer = inner = 1
    for extent in shape[:axis]:
        outer *= extent
    for extent in shape[axis + 1 :]:
        inner *= extent
    return Scan(node.op.name, x, target, (outer, shape[axis], inner), machine)


class _Writer:
    """Writes the kernel of a scan; see the module's documentation."""

    def __init__(self, made: Scan, name: str) -> None:
        self.scan = made
        self.source, self.dtype = made.x.buffer.dtype, made.target.buffer.dtype
        self.total = made.accumulator
        bits = made.machine.vector_bytes * 8
        attrs = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        parameters = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]
        self.fn = Function(name, parameters, "i64", attrs)

    def text(self) -> str:
        fn = self.fn
        slots = [fn.load("i64", fn.gep("%args", k, "i64"), 8) for k in range(6)]
        self.x, self.out = (
            fn.gep(fn.load("ptr", fn.gep("%bases", base, "ptr"), 8), at)
            for base, at in (slots[:2], slots[2:4])
        )
        self.length, self.inner = slots[4:]
        with fn.loop("%begin", "%end") as loop:
            self._along(loop.index) if self.scan.along else self._across(loop.index)
        fn.do("ret i64 0")
        return module_text([fn])

    # -- the two forms ------------------------------------------------------------------------
    def _along(self, item: str) -> None:
        """One row, in registers and then one by one."""
        fn, width = self.fn, self.scan.lanes
        first = fn.integer("mul", item, self.length)
        whole = fn.integer("and", self.length, -width)
        lanes = self._lanes(width)
        carried = [(lanes.type, self._identity(lanes))]
        with fn.loop(0, whole, width, carried=carried) as loop:
            at = fn.integer("add", first, loop.index)
            running = self._running(lanes, self._read(at, width, None))
            self._write(at, width, self._combine(lanes, running, loop.values[0]), None)
            last = self._shuffle(lanes, running, [width - 1] * width)
            loop.next = [self._combine(lanes, last, loop.values[0])]
        total = loop.values[0]
        if width > 1:
            total = fn.op(f"extractelement {lanes.type} {total}, i64 0")
            one = self._lanes(1)
            with fn.loop(whole, self.length, carried=[(one.type, total)]) as loop:
                self._step(fn.integer("add", first, loop.index), loop, 1, None)

    def _across(self, item: str) -> None:
        """A block of lanes, from the first to the last place of the running extent."""
        fn, width = self.fn, self.scan.lanes
        more = fn.integer("add", self.inner, width - 1)
        blocks = fn.integer("udiv", more, width)
        box = fn.integer("mul", self.length, self.inner)
        first = fn.integer("mul", fn.integer("udiv", item, blocks), box)
        begin = fn.integer("mul", fn.integer("urem", item, blocks), width)
        if self.scan.machine.has_masks:
            mask = self._lanes(width).lane_mask(begin, self.inner)
            self._column(fn.integer("add", first, begin), width, mask)
            return
        end = fn.integer("add", begin, width)
        end = fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", self.inner))
        whole = fn.integer("add", begin, fn.integer("and", fn.integer("sub", end, begin), -width))
        with fn.loop(begin, whole, width) as loop:
            self._column(fn.integer("add", first, loop.index), width, None)
        with fn.loop(whole, end) as loop:
            self._column(fn.integer("add", first, loop.index), 1, None)

    def _column(self, first: str, width: int, mask: str | None) -> None:
        lanes = self._lanes(width)
        carried = [(lanes.type, self._identity(lanes))]
        with self.fn.loop(0, self.length, carried=carried) as loop:
            moved = self.fn.integer("mul", loop.index, self.inner)
            self._step(self.fn.integer("add", first, moved), loop, width, mask)

    def _step(self, at: str, loop: Loop, width: int, mask: str | None) -> None:
        """Take the elements at `at` into the totals that the loop carries, and write those."""
        (held,) = loop.values
        total = self._combine(self._lanes(width), held, self._read(at, width, mask))
        self._write(at, width, total, mask)
        loop.next = [total]

    # -- lanes --------------------------------------------------------------------------------
    def _lanes(self, width: int) -> Lanes:
        return Lanes(self.fn, ELEMENTS[self.total], width)

    def _identity(self, lanes: Lanes) -> str:
        """What changes no number: -0.0 keeps the sign of a first zero."""
        if self.scan.op == "cumprod":
            return lanes.const(1)
        return lanes.const(-0.0 if lanes.is_float else 0)

    def _combine(self, lanes: Lanes, earlier: str, later: str) -> str:
        pick = lanes.add if SCANS[self.scan.op] == "add" else lanes.mul
        return pick(earlier, later)

    def _running(self, lanes: Lanes, value: str) -> str:
        """The totals of each lane and all before it."""
        shift = 1
        while shift < lanes.width:
            order = [k - shift if k >= shift else lanes.width for k in range(lanes.width)]
            value = self._combine(lanes, self._shuffle(lanes, value, order), value)
            shift *= 2
        return value

    def _shuffle(self, lanes: Lanes, value: str, order: list[int]) -> str:
        """Lanes picked by number; the number behind the last picks the identity."""
        if lanes.width == 1:
            return value
        picked = ", ".join(f"i32 {k}" for k in order)
        return self.fn.op(
            f"shufflevector {lanes.type} {value}, {lanes.type} {self._identity(lanes)}, "
            f"<{lanes.width} x i32> <{picked}>"
        )

    # -- memory -------------------------------------------------------------------------------
    def _read(self, at: str, width: int, mask: str | None) -> str:
        element = "i8" if self.source.kind == "b" else ELEMENTS[self.source]
        memory, site = Lanes(self.fn, element, width), Site(self.fn, width)
        pointer = self.fn.gep(self.x, at, element)
        value = memory.load(pointer) if mask is None else memory.masked_load(pointer, mask)
        if self.source.kind == "b":
            value = memory.cmp("ne", value, 0)
        value = cast(site, value, self.source, self.dtype)
        return cast(site, value, self.dtype, self.total)

    def _write(self, at: str, width: int, value: str, mask: str | None) -> None:
        value = cast(Site(self.fn, width), value, self.total, self.dtype)
        memory = Lanes(self.fn, ELEMENTS[self.dtype], width)
        pointer = self.fn.gep(self.out, at, memory.element)
        if mask is None:
            memory.store(value, pointer)
        else:
            memory.masked_store(value, pointer, mask)


class _PlacesWriter(_Writer):
    """Writes the places of running extrema: the extreme elements so far, and where they lie, are
    carried side by side."""

    def __init__(self, made: Scan, name: str) -> None:
        super().__init__(made, name)
        self.element = "i8" if self.source.kind == "b" else ELEMENTS[self.source]

    def _along(self, item: str) -> None:
        first = self.fn.integer("mul", item, self.length)
        with self.fn.loop(0, self.length, carried=self._start(1)) as loop:
            self._step(self.fn.integer("add", first, loop.index), loop, 1, None)

    def _column(self, first: str, width: int, mask: str | None) -> None:
        with self.fn.loop(0, self.length, carried=self._start(width)) as loop:
            moved = self.fn.integer("mul", loop.index, self.inner)
            self._step(self.fn.integer("add", first, moved), loop, width, mask)

    def _start(self, width: int) -> list[tuple[str, str]]:
        """What any element takes the place of, at the first place."""
        values, places = Lanes(self.fn, self.element, width), Lanes(self.fn, "i64", width)
        greatest = self.scan.op == "cumargmax"
        worst: float
        if self.source.kind == "f":
            worst = -math.inf if greatest else math.inf
        elif self.source.kind == "b":
            worst = 0 if greatest else 1
        else:
            limits = np.iinfo(self.source.numpy)
            worst = int(limits.min if greatest else limits.max)
        return [(values.type, values.const(worst)), (places.type, places.const(0))]

    def _step(self, at: str, loop: Loop, width: int, mask: str | None) -> None:
        """Take the elements at `at` that are as extreme as those so far, or NaN."""
        values, places = Lanes(self.fn, self.element, width), Lanes(self.fn, "i64", width)
        held, place = loop.values
        pointer = self.fn.gep(self.x, at, self.element)
        value = values.load(pointer) if mask is None else values.masked_load(pointer, mask)
        order = {"f": "o", "i": "s"}.get(self.source.kind, "u") + SCANS[self.scan.op]
        taken = values.cmp(order, value, held)
        if values.is_float:
            taken = values.mask_op("or", taken, values.cmp("uno", value, value))
        place = places.select(taken, places.splat(loop.index), place)
        pointer = self.fn.gep(self.out, at, "i64")
        if mask is None:
            places.store(place, pointer)
        else:
            places.masked_store(place, pointer, mask)
        loop.next = [values.select(taken, value, held), place]
