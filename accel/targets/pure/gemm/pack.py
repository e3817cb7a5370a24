"""Packing: a matrix copied into panels in which a product reads it from start to end."""

from __future__ import annotations

import functools

from ..machine.jit import Machine
from ..machine.llvm_text import Function, Lanes, module_text
from .half import read
from .spec import KERNEL_PARAMS, Arguments, MatmulSpec, larger, library_of, smaller

#: Rows that are copied at a time, an even number.
ROWS = 4

__all__ = ["ROWS", "Pack", "emit_pack", "transpose"]


class Pack:
    """Writes the kernel that copies a K x N matrix into panels of a run-time number of columns.

    A panel holds its columns of one step of k side by side; item p is panel p % panels of
    matrix p / panels. A (transposed) and B are packed by the same kernel.
    """

    def __init__(self, spec: MatmulSpec, name: str) -> None:
        own = spec.machine.instructions
        self.fn = Function(name, KERNEL_PARAMS, "i64", instructions=own)
        self.arguments = Arguments(self.fn)
        self.lanes = Lanes(self.fn, spec.element, spec.machine.lanes(spec.size))
        self.half = spec.half
        self.size, self.source_size = spec.size, spec.source_size

    def write(self) -> str:
        fn, field = self.fn, self.arguments.field
        self.n, self.k = self.arguments.header("n"), self.arguments.header("k")
        panels, width = (self.arguments.header(name) for name in ("column_blocks", "width"))
        self.line = fn.integer("mul", width, self.size)
        self.row, self.column = field(0, "row"), field(0, "column")
        self.width, self.step = width, field(1, "panel")
        last_batch = fn.integer("sdiv", fn.integer("sub", "%end", 1), panels)
        batches = fn.integer("sdiv", "%begin", panels), fn.integer("add", last_batch, 1)
        with fn.loop(*batches) as outer:
            batch = self.arguments.batch_indices(outer.index)
            source, target = (self.arguments.pointer(operand, batch) for operand in (0, 1))
            before = fn.integer("mul", outer.index, panels)
            first = larger(fn, fn.integer("sub", "%begin", before), 0)
            last = smaller(fn, fn.integer("sub", "%end", before), panels)
            along = self._along_columns()
            with fn.when(along):
                self._copy(source, target, first, last)
            left = fn.op(f"select i1 {along}, i64 {self._copied(first, last)}, i64 {first}")
            with fn.loop(left, last) as panel:
                self.panel(
                    fn.gep(source, fn.integer("mul", self._begin(panel.index), self.column)),
                    fn.gep(target, fn.integer("mul", panel.index, self.step)),
                    self._columns(panel.index),
                )
        fn.do("ret i64 0")
        return module_text([fn])

    def _begin(self, panel: str) -> str:
        """The first column of a panel."""
        return self.fn.integer("mul", panel, self.width)

    def _columns(self, panel: str) -> str:
        """How many columns a panel has."""
        left = self.fn.integer("sub", self.n, self._begin(panel))
        return smaller(self.fn, left, self.width)

    def panel(self, source: str, target: str, columns: str) -> None:
        """A panel: full vectors by the way that the strides allow, the rest one by one."""
        fn, width = self.fn, self.lanes.width
        along_columns = self._along_columns()
        along_k = fn.op(f"xor i1 {along_columns}, true")
        along_k = fn.op(f"and i1 {along_k}, {fn.icmp('eq', self.row, self.source_size)}")
        either = fn.op(f"or i1 {along_columns}, {along_k}")
        whole = fn.integer("and", columns, -width)
        vectors = fn.op(f"select i1 {either}, i64 {whole}, i64 0")
        blocks = fn.op(f"select i1 {along_k}, i64 {fn.integer('and', self.k, -width)}, i64 0")
        self._transpose(source, target, vectors, blocks)
        rows = fn.op(f"select i1 {along_columns}, i64 {self.k}, i64 {blocks}")
        self._one_by_one(source, target, rows, vectors, columns)

    def _at(self, source: str, index: str) -> str:
        """The place of the element `index` behind `source`."""
        return self.fn.gep(source, self.fn.integer("mul", index, self.source_size))

    def _read(self, lanes: Lanes, pointer: str) -> str:
        return read(lanes, pointer, self.half)

    def _along_columns(self) -> str:
        return self.fn.icmp("eq", self.column, self.source_size)

    def _copied(self, first: str, last: str) -> str:
        """Up to which panel `_copy` leaves nothing to `panel`."""
        fn = self.fn
        return larger(fn, smaller(fn, fn.integer("sdiv", self.n, self.width), last), first)

    def _copy(self, source: str, target: str, first: str, last: str) -> None:
        """Full vectors of some panels, whose columns lie side by side: a few rows of all of them at
        a time, as memory gives what lies far apart slowly. The last rows may be the same one."""
        fn, lanes = self.fn, self.lanes
        with fn.loop(0, self.k, ROWS) as k, fn.loop(first, last) as panel:
            s = self._at(source, self._begin(panel.index))
            t = fn.gep(target, fn.integer("mul", panel.index, self.step))
            lines = []
            for at in range(ROWS):
                row = smaller(fn, fn.integer("add", k.index, at), fn.integer("sub", self.k, 1))
                lines.append((fn.gep(s, fn.integer("mul", row, self.row)),
                              fn.gep(t, fn.integer("mul", row, self.line))))  # fmt: skip
            whole = fn.integer("and", self._columns(panel.index), -lanes.width)
            with fn.loop(0, whole, lanes.width) as c:
                for line, to in lines:
                    value = self._read(lanes, self._at(line, c.index))
                    lanes.store(value, fn.gep(to, c.index, lanes.element))

    def _transpose(self, source: str, target: str, columns: str, rows: str) -> None:
        """Square blocks: vectors along k are loaded, vectors along the columns stored."""
        fn, width = self.fn, self.lanes.width
        with fn.loop(0, columns, width) as c:
            s = fn.gep(source, fn.integer("mul", c.index, self.column))
            t = fn.gep(target, fn.integer("mul", c.index, self.size))
            with fn.loop(0, rows, width) as k:
                at = self._at(s, k.index)
                vectors = []
                for _ in range(width):
                    vectors.append(self._read(self.lanes, at))
                    at = fn.gep(at, self.column)
                to = fn.gep(t, fn.integer("mul", k.index, self.line))
                for row in transpose(self.lanes, vectors):
                    self.lanes.store(row, to)
                    to = fn.gep(to, self.line)

    def _one_by_one(self, source: str, target: str, rows: str, begin: str, end: str) -> None:
        """The columns up to `end`: in the first `rows` rows those from `begin` on."""
        fn, one = self.fn, Lanes(self.fn, self.lanes.element, 1)
        none = fn.icmp("sge", begin, end)
        with fn.loop(fn.op(f"select i1 {none}, i64 {rows}, i64 0"), self.k) as k:
            s = fn.gep(source, fn.integer("mul", k.index, self.row))
            t = fn.gep(target, fn.integer("mul", k.index, self.line))
            below = fn.icmp("slt", k.index, rows)
            with fn.loop(fn.op(f"select i1 {below}, i64 {begin}, i64 0"), end) as c:
                value = self._read(one, fn.gep(s, fn.integer("mul", c.index, self.column)))
                one.store(value, fn.gep(t, fn.integer("mul", c.index, self.size)))


def transpose(lanes: Lanes, rows: list[str]) -> list[str]:
    """The transpose of `lanes.width` vectors, by log2(width) rounds in which pairs of vectors
    exchange halves.

    Elements of 4 and 8 bytes change places inside 128 bits first, and then groups of 128 bits
    do: x86 and ARM have one cheap instruction for each such exchange of two vectors.
    """
    width, group = lanes.width, 16 // lanes.bytes
    if lanes.bytes not in (4, 8) or group > width:
        return _transpose_in_place(lanes, rows)
    rows, distance = list(rows), 1
    while distance < group:  # interleave pieces of `distance` elements of each group
        halves = [
            [x + half * group // 2 + piece + e
             for x in range(0, width, group) for piece in range(0, group // 2, distance)
             for source in (0, width) for e in range(source, source + distance)]
            for half in (0, 1)
        ]  # fmt: skip
        _exchange(lanes, rows, distance, halves)
        distance *= 2
    if group < width:
        rows = [_fenced(lanes, row) for row in rows]
    while distance < width:  # the even groups of both, and the odd ones
        halves = [
            [source + x + e for source in (0, width)
             for x in range(half * group, width, 2 * group) for e in range(group)]
            for half in (0, 1)
        ]  # fmt: skip
        _exchange(lanes, rows, distance, halves)
        distance *= 2
    if group == 4:  # interleaving has left the second and third of four in each other's place
        return [rows[i & ~3 | (0, 2, 1, 3)[i & 3]] for i in range(width)]
    return rows


def _fenced(lanes: Lanes, row: str) -> str:
    """`row`, whose making LLVM does not look into.

    It would search for one exchange that does the work of several rounds. There is none, and the
    search took a third of the time of making the code.
    """
    floats = Lanes(lanes.fn, "float", lanes.width * lanes.bytes // 4)
    if not lanes.is_float:
        row = lanes.fn.op(f"bitcast {lanes.type} {row} to {floats.type}")
        row = floats.intrinsic("arithmetic.fence", row)
        return lanes.fn.op(f"bitcast {floats.type} {row} to {lanes.type}")
    return lanes.intrinsic("arithmetic.fence", row)


def _transpose_in_place(lanes: Lanes, rows: list[str]) -> list[str]:
    """The transpose by exchanges that leave every other element where it is."""
    width, distance, rows = lanes.width, 1, list(rows)
    while distance < width:
        low = [x if not x & distance else width + (x ^ distance) for x in range(width)]
        high = [x | distance if not x & distance else width + x for x in range(width)]
        _exchange(lanes, rows, distance, [low, high])
        distance *= 2
    return rows


def _exchange(lanes: Lanes, rows: list[str], distance: int, orders: list[list[int]]) -> None:
    """Replace every pair of rows `distance` apart by the two that `orders` pick from it."""
    for i in range(lanes.width):
        if i & distance:
            continue
        pair = rows[i], rows[i | distance]
        for target, order in zip((i, i | distance), orders, strict=True):
            mask = ", ".join(f"i32 {x}" for x in order)
            rows[target] = lanes.fn.op(
                f"shufflevector {lanes.type} {pair[0]}, {lanes.type} {pair[1]}, "
                f"<{lanes.width} x i32> <{mask}>"
            )


@functools.cache
def emit_pack(element: str, machine: Machine, half: str = "") -> str:
    """The packing kernel of an element type, from halves if they are named; its exported
    function is ``pack``, ``pack_half`` or ``pack_bfloat``."""
    spec = MatmulSpec(element, machine, (element,), half=half)
    return Pack(spec, library_of("pack", half)).write()
