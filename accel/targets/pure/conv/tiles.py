"""The tile library of convolutions: products whose operands are found through tables.

``tiles(frame, lines, a, b, c, m, n)`` computes

    c[i, j] = sum over steps of a[lines[i] + step.a] * b[step.b + j]

for at most `ROWS` rows i and any number of columns j. Columns are consecutive within a vector;
vectors lie `b_vector` and `c_vector` bytes apart: side by side, or one below the other in an
image. A step is an entry (a, b) of byte offsets in a table of `inner` steps, which is walked
`outer` times, `a_step` and `b_step` bytes on each time. So one register tile serves every kernel
size, stride, dilation and layout: what a convolution means is in the tables.

Whole vectors are read and written. If n is no multiple of a vector the last one begins
earlier and repeats columns, so that nothing behind the operands is touched; n must not be
less than a vector, and a multiple of one if sums are added to what c holds or vectors do not
lie side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text

__all__ = ["FRAME", "ROWS", "TILES_PARAMS", "Walk", "accumulate", "emit_tiles"]

_APART = 2
"""Vectors of tiles whose vectors do not lie side by side."""

ROWS = 8
"""Rows of c that a call computes at most."""

FRAME = (
    "table", "inner", "outer", "a_step", "b_step", "c_row", "b_vector", "c_vector", "accumulate",
)  # fmt: skip
"""The slots of a frame, 64-bit integers."""

_POINTERS = [("ptr", name) for name in ("frame", "lines", "a", "b", "c")]
TILES_PARAMS = [*_POINTERS, ("i64", "m"), ("i64", "n")]


def _frame_slot(fn: Function, name: str) -> str:
    return fn.load("i64", fn.gep("%frame", 8 * FRAME.index(name)), 8)


def _vectors(rows: int, machine: Machine) -> tuple[int, ...]:
    """Numbers of vectors for which there is a tile of `rows` rows, most first.

    Each tile holds its sums, a row of b and an element of a in registers.
    """
    many = machine.vector_bytes == 64 or not machine.triple.startswith("x86")
    if many:
        return {8: (3, 2, 1), 4: (4, 2, 1), 2: (4, 2, 1), 1: (8, 4, 1)}[rows]
    return {4: (2, 1), 2: (4, 1), 1: (6, 2, 1)}[rows]


def _heights(machine: Machine) -> tuple[int, ...]:
    """Rows of the tiles, most first."""
    many = machine.vector_bytes == 64 or not machine.triple.startswith("x86")
    return (8, 4, 2, 1) if many else (4, 2, 1)


class Walk(NamedTuple):
    """The table of steps and how it is walked: names of values."""

    table: str
    inner: str
    outer: str
    a_step: str
    b_step: str
    fused: bool


def accumulate(
    lanes: Lanes, walk: Walk, lines: Sequence[str], b: str, across: Sequence[str],
    starts: Sequence[str] = (),
) -> list[str]:
    """Write the sums of a register tile: for each of `lines`, addresses in a, the vectors that lie
    `across` bytes behind b. They begin with `starts`, or with zero."""
    fn = lanes.fn
    starts = starts or [lanes.const(0)] * (len(lines) * len(across))
    sums = [(lanes.type, start) for start in starts]
    with fn.loop(0, walk.outer, 1, [("i64", "0"), ("ptr", b), *sums]) as turn:
        left, right, *held = turn.values
        carried = [("ptr", walk.table), *((lanes.type, value) for value in held)]
        with fn.loop(0, walk.inner, 1, carried) as step:
            entry, *values = step.values
            factors = fn.integer("add", left, fn.load("i64", entry, 8))
            vectors = fn.gep(right, fn.load("i64", fn.gep(entry, 8), 8))
            found = _step(lanes, walk.fused, values, [fn.gep(line, factors) for line in lines],
                          [fn.gep(vectors, shift) for shift in across])  # fmt: skip
            step.next = [fn.gep(entry, 16), *found]
        turn.next = [
            fn.integer("add", left, walk.a_step), fn.gep(right, walk.b_step), *step.values[1:]
        ]  # fmt: skip
    return turn.values[2:]


def _step(
    lanes: Lanes, fused: bool, sums: Sequence[str], factors: Sequence[str], vectors: Sequence[str]
) -> list[str]:
    """The sums after one step, whose operands are at these addresses."""
    columns = [lanes.load(vector) for vector in vectors]
    found = []
    for i, address in enumerate(factors):
        factor = lanes.splat(lanes.fn.load(lanes.element, address, lanes.bytes))
        for v, column in enumerate(columns):
            held = sums[i * len(columns) + v]
            found.append(
                lanes.fma(factor, column, held) if fused
                else lanes.add(held, lanes.mul(factor, column))
            )  # fmt: skip
    return found


class _Tile:
    """Writes a register tile that moves over `count` tiles of columns, whose vectors lie side by
    side or `apart`."""

    def __init__(
        self, element: str, machine: Machine, rows: int, vectors: int, apart: bool = False
    ) -> None:
        name = f"tile_{rows}x{vectors}{'_apart' if apart else ''}"
        parameters = [*_POINTERS, ("i64", "count")]
        self.fn = Function(name, parameters, "void", "noinline nounwind", "internal")
        self.lanes = Lanes(self.fn, element, machine.lanes(ELEMENT_BYTES[element]))
        self.rows, self.vectors, self.fused = rows, vectors, machine.has_fma
        self.apart = apart

    def write(self) -> Function:
        fn = self.fn
        table, inner, outer, a_step, b_step, c_row, b_vector, c_vector = (
            _frame_slot(fn, name) for name in FRAME[:-1]
        )
        table = fn.op(f"inttoptr i64 {table} to ptr")
        lines = [
            fn.gep("%a", fn.load("i64", fn.gep("%lines", 8 * i), 8)) for i in range(self.rows)
        ]
        rows = [fn.integer("mul", c_row, i) for i in range(self.rows)]
        self.walk = Walk(table, inner, outer, a_step, b_step, self.fused)
        if not self.apart:
            b_vector = c_vector = str(self.lanes.width * self.lanes.bytes)
        self.across = [self._times(b_vector, v) for v in range(self.vectors)]
        places = [self._times(c_vector, v) for v in range(self.vectors)]
        with fn.loop(0, "%count", 1, [("ptr", "%b"), ("ptr", "%c")]) as tile:
            b, c = tile.values
            self._tile(lines, b, [
                fn.gep(fn.gep(c, row), place) for row in rows for place in places
            ])  # fmt: skip
            tile.next = [fn.gep(at, self._times(step, self.vectors))
                         for at, step in ((b, b_vector), (c, c_vector))]  # fmt: skip
        fn.do("ret void")
        return fn

    def _times(self, step: str, count: int) -> str:
        return self.fn.integer("mul", step, count) if self.apart else str(int(step) * count)

    def _tile(self, lines: list[str], b: str, places: list[str]) -> None:
        """One tile, whose sums are to be at `places`."""
        lanes = self.lanes
        sums = accumulate(lanes, self.walk, lines, b, self.across, self._starts(places))
        for place, value in zip(places, sums, strict=True):
            lanes.store(value, place)

    def _starts(self, places: list[str]) -> list[str]:
        """What c holds if the frame says ``accumulate``, else zero."""
        fn, lanes = self.fn, self.lanes
        held, start, before = fn.label("held"), fn.label("start"), fn.block_name
        fn.cond_br(fn.icmp("ne", _frame_slot(fn, "accumulate"), 0), held, start)
        fn.block(held)
        values = [lanes.load(place) for place in places]
        fn.br(start)
        fn.block(start)
        return [fn.phi(lanes.type, (lanes.const(0), before), (v, held)) for v in values]


class _Library:
    """Writes the tiles and the choice among them."""

    def __init__(self, element: str, machine: Machine, whole: bool) -> None:
        self.element, self.machine, self.whole = element, machine, whole
        self.size = ELEMENT_BYTES[element]
        self.width = machine.lanes(self.size)
        self.fn = Function("tiles", TILES_PARAMS)
        self.functions: list[Function] = []

    def write(self) -> str:
        fn = self.fn
        first, *rest = _heights(self.machine)
        whole = fn.integer("and", "%m", -first)
        with fn.loop(0, whole, first) as row:
            self._lines(first, row.index)
        for rows in () if self.whole else rest:
            with fn.when(fn.icmp("ne", fn.integer("and", "%m", rows), 0)):
                self._lines(rows, fn.integer("and", "%m", -2 * rows))
        fn.do("ret void")
        return module_text([*self.functions, fn])

    def _lines(self, rows: int, row: str) -> None:
        """`rows` rows from `row` on, all columns."""
        fn = self.fn
        counts = _vectors(rows, self.machine)
        tiles = {}
        for vectors in counts:
            tile = _Tile(self.element, self.machine, rows, vectors).write()
            self.functions.append(tile)
            tiles[vectors] = "@" + tile.name
        pair = _Tile(self.element, self.machine, rows, _APART, apart=True).write()
        self.functions.append(pair)
        lines = fn.gep("%lines", fn.integer("mul", row, 8))
        c = fn.gep("%c", fn.integer("mul", row, _frame_slot(fn, "c_row")))
        left = fn.integer("udiv", "%n", self.width)
        steps = [_frame_slot(fn, name) for name in ("b_vector", "c_vector")]
        beside = [fn.icmp("eq", step, self.width * self.size) for step in steps]
        both = fn.op(f"and i1 {beside[0]}, {beside[1]}")
        tiled = fn.op(f"select i1 {both}, i64 0, i64 {fn.integer('udiv', left, _APART)}")
        self._call("@" + pair.name, lines, c, ["0", "0"], tiled)
        begin = fn.integer("mul", tiled, _APART)
        left = fn.integer("sub", left, begin)
        for count in counts:
            tiled = fn.integer("udiv", left, count)
            if counts[:2] == (3, 2) and count == 3:  # 2 + 2 keep more sums in flight than 3 + 1
                alone = fn.icmp("eq", fn.integer("urem", left, 3), 1)
                some = fn.op(f"and i1 {alone}, {fn.icmp('ne', tiled, 0)}")
                tiled = fn.integer("sub", tiled, fn.op(f"zext i1 {some} to i64"))
            self._call(tiles[count], lines, c, [fn.integer("mul", begin, s) for s in steps], tiled)
            taken = fn.integer("mul", tiled, count)
            left, begin = fn.integer("sub", left, taken), fn.integer("add", begin, taken)
        with fn.when(fn.icmp("ne", fn.integer("mul", begin, self.width), "%n")):
            # some columns are computed again
            shift = fn.integer("mul", fn.integer("sub", "%n", self.width), self.size)
            self._call(tiles[1], lines, c, [shift, shift], "1")

    def _call(self, name: str, lines: str, c: str, shifts: Sequence[str], count: str) -> None:
        fn = self.fn
        b, c = fn.gep("%b", shifts[0]), fn.gep(c, shifts[1])
        fn.do(f"call void {name}(ptr %frame, ptr {lines}, ptr %a, ptr {b}, ptr {c}, i64 {count})")


@functools.cache
def emit_tiles(element: str, machine: Machine, whole: bool = False) -> str:
    """The tile library of an element type; its exported function is ``tiles``. Without the
    tiles of few rows, half of the code, m must be a multiple of `ROWS`: `whole`."""
    return _Library(element, machine, whole).write()
