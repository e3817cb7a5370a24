"""The library of register tiles: C (+)= A @ B for a few rows and columns, in registers.

A library is one function, ``f(frame, k, a, b, c, m, n)``, over several variants of a tile. It
does not depend on what happens to the sums afterwards, so it is compiled once, and the
multiply kernels, one an epilogue, call it by the address in their arguments. The frame holds
what stays the same from tile to tile. This library has lanes along consecutive columns of B
and of C; `few` has those for other layouts and for few rows or columns.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from ..machine.jit import Machine
from ..machine.llvm_text import Function, Lanes, module_text
from .spec import MatmulSpec, Tile, smaller, tile_of

__all__ = [
    "FRAME", "TILES_PARAMS", "TileWriter", "call_of", "emit_tiles", "frame_slot", "multiply_add",
    "new_frame", "tile_functions",
]  # fmt: skip

FRAME = (
    "a_row", "a_column", "b_row", "b_column", "c_row", "accumulate", "tiles", "ahead", "ahead_step",
)  # fmt: skip
"""The slots of a frame, 64-bit integers: byte strides, whether C holds sums to start from, the
address of the library of register tiles for those that call it, and what register tiles ask for
of what comes next: an address, which they move on by so many bytes with each step of k."""

TILES_PARAMS = [
    ("ptr", "frame"), ("i64", "k"), ("ptr", "a"), ("ptr", "b"), ("ptr", "c"), ("i64", "m"),
    ("i64", "n"),
]  # fmt: skip


def call_of(function: str, params: Sequence[tuple[str, str]], *values: str) -> str:
    """The text of a call with a value a parameter."""
    arguments = ", ".join(f"{t} {v}" for (t, _), v in zip(params, values, strict=True))
    return f"{function}({arguments})"


def frame_slot(fn: Function, name: str) -> str:
    """A slot of the frame of the call."""
    return fn.load("i64", fn.gep("%frame", 8 * FRAME.index(name)), 8)


def new_frame(fn: Function, slots: Mapping[str, str | int]) -> str:
    """A frame on the stack, to be made in the entry block. Slots that are not given are 0, but
    that with nothing ahead to ask for tiles ask for the frame."""
    frame = fn.op(f"alloca [{len(FRAME)} x i64], align 8")
    filled = {"ahead": fn.op(f"ptrtoint ptr {frame} to i64"), **slots}
    for place, slot in enumerate(FRAME):
        fn.store("i64", str(filled.get(slot, 0)), fn.gep(frame, 8 * place), 8)
    return frame


def multiply_add(lanes: Lanes, a: str, b: str, sums: str, spec: MatmulSpec) -> str:
    """sums + a * b; two roundings where the machine has no fused multiply-add."""
    fused = spec.machine.has_fma
    return lanes.fma(a, b, sums) if fused else lanes.add(sums, lanes.mul(a, b))


# -- the register tile ---------------------------------------------------------------------
class TileWriter:
    """Writes ``tile(k, A, B, C)``: C (+)= A @ B for `rows` rows and `vectors` vectors.

    The vectors whose numbers are in `masked` are loaded and stored under the mask of the `n`
    columns that exist. Where only the first `m` rows exist (`short`), the last of them stands for
    those behind it: it is computed and stored as often, and the code serves any `m`. One step of k
    is one turn of the loop: with run-time strides unrolling only lengthens the address arithmetic,
    and 16 FMAs hide the loop.
    """

    stem = "tile"

    def __init__(
        self, spec: MatmulSpec, rows: int, vectors: int, lanes: int, masked: range, short: bool
    ) -> None:
        name = f"{self.stem}_{rows}x{vectors}" + (f"_masked{len(masked)}" if masked else "")
        self.fn = Function(name, TILES_PARAMS, "void", "noinline nounwind", "internal")
        self.short = short
        self.lanes = Lanes(self.fn, spec.element, lanes)
        self.spec, self.rows, self.vectors, self.masked = spec, rows, vectors, masked
        self.stride = lanes * spec.size
        self.masks: dict[int, str] = {}

    def write(self) -> Function:
        fn = self.fn
        a_row, self.a_column, self.b_row, self.c_row = (
            frame_slot(fn, name) for name in ("a_row", "a_column", "b_row", "c_row")
        )
        for vector in self.masked:
            self.masks[vector] = self.lanes.lane_mask(vector * self.lanes.width, "%n")
        numbers: list[str | int] = [*range(self.rows)]
        if self.short:
            last = fn.integer("sub", "%m", 1)
            numbers = [0, *(smaller(fn, last, row) for row in range(1, self.rows))]
        offsets = [fn.integer("mul", a_row, row) if row else "0" for row in numbers]
        places = self._places(numbers)
        self._prefetch(places)
        zeros = [(self.lanes.type, self.lanes.const(0))] * len(places)
        slot = fn.gep("%frame", 8 * FRAME.index("ahead"))
        self.ahead_step = frame_slot(fn, "ahead_step")
        ahead = fn.load("ptr", slot, 8)
        with fn.loop(0, "%k", 1, [("ptr", "%a"), ("ptr", "%b"), ("ptr", ahead), *zeros]) as loop:
            loop.next = self._step(loop.values, offsets)
        fn.store("ptr", loop.values[2], slot, 8)
        sums = self._with_earlier(places, loop.values[3:])
        for (vector, pointer), value in zip(places, sums, strict=True):
            self._store(value, pointer, vector)
        fn.do("ret void")
        return fn

    def _prefetch(self, places: list[tuple[int, str]]) -> None:
        """Ask for the lines of C, which are needed when the sums are ready."""
        for _, pointer in places:
            self.fn.prefetch(pointer, writes=True)

    def _with_earlier(self, places: list[tuple[int, str]], sums: list[str]) -> list[str]:
        """The sums, and what C holds of earlier blocks of k if the frame says ``accumulate``."""
        fn, lanes = self.fn, self.lanes
        held, done, before = fn.label("held"), fn.label("done"), fn.block_name
        fn.cond_br(fn.icmp("ne", frame_slot(fn, "accumulate"), 0), held, done)
        fn.block(held)
        totals = [
            lanes.add(self._load(pointer, vector), value)
            for (vector, pointer), value in zip(places, sums, strict=True)
        ]
        fn.br(done)
        fn.block(done)
        return [
            fn.phi(lanes.type, (value, before), (total, held))
            for value, total in zip(sums, totals, strict=True)
        ]

    def _places(self, rows: Sequence[str | int]) -> list[tuple[int, str]]:
        """(vector, address) of the tile of C, row by row."""
        fn = self.fn
        places = []
        for row in rows:
            line = fn.gep("%c", fn.integer("mul", self.c_row, row)) if row else "%c"
            for vector in range(self.vectors):
                at = fn.gep(line, vector * self.stride) if vector else line
                places.append((vector, at))
        return places

    def _step(self, values: list[str], offsets: list[str]) -> list[str]:
        """One step of k: `values` are the pointers into A, B and what comes next, and the sums."""
        fn, lanes = self.fn, self.lanes
        a, b, ahead, *sums = values
        fn.prefetch(ahead, locality=2)
        columns = [
            self._load(fn.gep(b, vector * self.stride) if vector else b, vector)
            for vector in range(self.vectors)
        ]
        result = []
        for row in range(self.rows):
            at = fn.gep(a, offsets[row]) if row else a
            left = lanes.splat(fn.load(lanes.element, at, lanes.bytes))
            for vector, right in enumerate(columns):
                held = sums[row * self.vectors + vector]
                result.append(self.multiply_add(left, right, held))
        following = [(a, self.a_column), (b, self.b_row), (ahead, self.ahead_step)]
        return [*(fn.gep(pointer, step) for pointer, step in following), *result]

    def multiply_add(self, left: str, right: str, sums: str) -> str:
        """What a step of k makes of the sums."""
        return multiply_add(self.lanes, left, right, sums, self.spec)

    def _load(self, pointer: str, vector: int) -> str:
        if vector in self.masks:
            return self.lanes.masked_load(pointer, self.masks[vector])
        return self.lanes.load(pointer)

    def _store(self, value: str, pointer: str, vector: int) -> None:
        if vector in self.masks:
            self.lanes.masked_store(value, pointer, self.masks[vector])
        else:
            self.lanes.store(value, pointer)


# -- the library ---------------------------------------------------------------------------
class _Library:
    """Writes the variants of a register tile and, into `fn`, the choice among them."""

    def __init__(
        self, spec: MatmulSpec, tile: Tile, writer: type[TileWriter], fn: Function
    ) -> None:
        self.spec, self.tile, self.writer, self.fn = spec, tile, writer, fn
        self.functions: list[Function] = []

    def write(self) -> list[Function]:
        """Tiles of full height, then at most two of half the height for the rows that are left:
        fewer rows would have too few independent sums to take less time."""
        fn, height = self.fn, self.tile.rows
        half = height // 2
        full, short = self._of_height(height), self._of_height(half)
        with fn.loop(0, "%m", height) as row:
            left = fn.integer("sub", "%m", row.index)
            whole = fn.icmp("sge", left, height)
            self._call(self._select(whole, full, short), row.index, left)
            more = fn.icmp("sgt", left, half)
            with fn.when(fn.op(f"select i1 {whole}, i1 false, i1 {more}")):
                self._call(short, fn.integer("add", row.index, half), fn.integer("sub", left, half))
        fn.do("ret void")
        return [*self.functions, fn]

    def _of_height(self, rows: int) -> str:
        """The variant of a height for the columns that there are."""
        fn, tile = self.fn, self.tile
        name = self._variant(rows, tile.vectors, range(tile.vectors - 1, tile.vectors))
        # Cheap masks serve full panels too. But the processor reads ahead of plain loads only, so
        # that full tiles have a variant of their own, as all have where masks are not cheap.
        if rows == tile.rows or not self.spec.machine.has_masks:
            whole = self._variant(rows, tile.vectors, range(0))
            name = self._select(fn.icmp("eq", "%n", tile.columns), whole, name)
        for vectors in range(tile.vectors - 1, 0, -1):
            fewer = self._variant(rows, vectors, range(vectors - 1, vectors))
            name = self._select(fn.icmp("sle", "%n", vectors * tile.lanes), fewer, name)
        return name

    def _variant(self, rows: int, vectors: int, masked: range) -> str:
        short = rows < self.tile.rows
        writer = self.writer(self.spec, rows, vectors, self.tile.lanes, masked, short)
        self.functions.append(writer.write())
        return "@" + self.functions[-1].name

    def _select(self, condition: str, then: str, otherwise: str) -> str:
        return self.fn.op(f"select i1 {condition}, ptr {then}, ptr {otherwise}")

    def _call(self, name: str, row: str, rows: str) -> None:
        """Call a variant for the `rows` rows from `row` on."""
        fn = self.fn
        a = fn.gep("%a", fn.integer("mul", row, frame_slot(fn, "a_row")))
        c = fn.gep("%c", fn.integer("mul", row, frame_slot(fn, "c_row")))
        call = call_of(name, TILES_PARAMS, "%frame", "%k", a, "%b", c, rows, "%n")
        fn.do(f"call void {call}")


def tile_functions(
    spec: MatmulSpec, tile: Tile, writer: type[TileWriter], fn: Function
) -> list[Function]:
    """`fn`, of `TILES_PARAMS`, written as a library of tiles, behind the variants that it calls."""
    return _Library(spec, tile, writer, fn).write()


@functools.cache
def emit_tiles(element: str, machine: Machine) -> str:
    """The library of register tiles of an element type; its exported function is ``tiles``."""
    spec, fn = MatmulSpec(element, machine, (element,)), Function("tiles", TILES_PARAMS)
    return module_text(tile_functions(spec, tile_of(element, machine), TileWriter, fn))
