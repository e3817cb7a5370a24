"""The tile library of an element type: C (+)= A @ B for a few rows and columns, in registers.

The library is one function, ``tiles(frame, k, a, b, c, m, n)``, over several variants of the
register tile. It does not depend on what happens to the sums afterwards, so it is compiled
once, and the multiply kernels, one an epilogue, call it by the address in their arguments.
The frame holds what stays the same from tile to tile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from .gemm_spec import MatmulSpec, Tile, few_rows_tile, tile_of
from .jit import Machine
from .llvm_text import Function, Lanes, module_text

__all__ = ["FRAME", "TILES_PARAMS", "emit_tiles"]

FRAME = ("a_row", "a_column", "b_row", "b_column", "c_row", "accumulate", "few_rows")
"""The slots of a frame, 64-bit integers: byte strides and two flags."""

_TILE_PARAMS = [
    ("ptr", "frame"), ("i64", "k"), ("ptr", "a"), ("ptr", "b"), ("ptr", "c"), ("i64", "n"),
]  # fmt: skip
TILES_PARAMS = [*_TILE_PARAMS[:-1], ("i64", "m"), ("i64", "n")]


def _frame_slot(fn: Function, name: str) -> str:
    return fn.load("i64", fn.gep("%frame", 8 * FRAME.index(name)), 8)


def _product(lanes: Lanes, a: str, b: str, sums: str, fma: bool) -> str:
    """sums + a * b; two roundings where the machine has no fused multiply-add."""
    return lanes.fma(a, b, sums) if fma else lanes.add(sums, lanes.mul(a, b))


# -- the register tile ---------------------------------------------------------------------
class _TileWriter:
    """Writes ``tile(k, A, B, C)``: C (+)= A @ B for `rows` rows and `vectors` vectors.

    The vectors whose numbers are in `masked` are loaded and stored under the mask of the `n`
    columns that exist. One step of k is one turn of the loop: with run-time strides unrolling
    only lengthens the address arithmetic, and 16 FMAs hide the loop.
    """

    def __init__(
        self, spec: MatmulSpec, rows: int, vectors: int, lanes: int, masked: range
    ) -> None:
        name = f"tile_{rows}x{vectors}" + (f"_masked{len(masked)}" if masked else "")
        self.fn = Function(name, _TILE_PARAMS, "void", "noinline nounwind", "internal")
        self.lanes = Lanes(self.fn, spec.element, lanes)
        self.spec, self.rows, self.vectors, self.masked = spec, rows, vectors, masked
        self.stride = lanes * spec.size
        self.masks: dict[int, str] = {}

    def write(self) -> Function:
        fn = self.fn
        a_row, self.a_column, self.b_row, self.c_row = (
            _frame_slot(fn, name) for name in ("a_row", "a_column", "b_row", "c_row")
        )
        for vector in self.masked:
            self.masks[vector] = self.lanes.lane_mask(vector * self.lanes.width, "%n")
        offsets = ["0"]
        for row in range(1, self.rows):
            offsets.append(fn.integer("mul", a_row, row))
        sums = _sums_to_start_from(fn, self.lanes, self._places(), self._load)
        carried = [("ptr", "%a"), ("ptr", "%b"), *((self.lanes.type, s) for s in sums)]
        with fn.loop(0, "%k", 1, carried) as loop:
            loop.next = self._step(loop.values, offsets)
        for (vector, pointer), value in zip(self._places(), loop.values[2:], strict=True):
            self._store(value, pointer, vector)
        fn.do("ret void")
        return fn

    def _places(self) -> list[tuple[int, str]]:
        """(vector, address) of the tile of C, row by row."""
        fn = self.fn
        places = []
        for row in range(self.rows):
            line = fn.gep("%c", fn.integer("mul", self.c_row, row)) if row else "%c"
            for vector in range(self.vectors):
                at = fn.gep(line, vector * self.stride) if vector else line
                places.append((vector, at))
        return places

    def _step(self, values: list[str], offsets: list[str]) -> list[str]:
        """One step of k: `values` are the pointers into A and B and the sums."""
        fn, lanes = self.fn, self.lanes
        a, b, *sums = values
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
                result.append(_product(lanes, left, right, held, self.spec.machine.has_fma))
        return [fn.gep(a, self.a_column), fn.gep(b, self.b_row), *result]

    def _load(self, pointer: str, vector: int) -> str:
        if vector in self.masks:
            return self.lanes.masked_load(pointer, self.masks[vector])
        return self.lanes.load(pointer)

    def _store(self, value: str, pointer: str, vector: int) -> None:
        if vector in self.masks:
            self.lanes.masked_store(value, pointer, self.masks[vector])
        else:
            self.lanes.store(value, pointer)


def _sums_to_start_from(
    fn: Function, lanes: Lanes, places: list[tuple[int, str]], load: Callable[[str, int], str]
) -> list[str]:
    """What C holds at `places` if the frame says ``accumulate``, else zero."""
    held, start, before = fn.label("held"), fn.label("start"), fn.block_name
    fn.cond_br(fn.icmp("ne", _frame_slot(fn, "accumulate"), 0), held, start)
    fn.block(held)
    values = [load(pointer, vector) for vector, pointer in places]
    fn.br(start)
    fn.block(start)
    return [fn.phi(lanes.type, (lanes.const(0), before), (value, held)) for value in values]


class _DotWriter:
    """Writes a one-row tile whose lanes run along k, for B with consecutive k.

    Few rows do not repay turning B around; this reads it as it lies, four columns at a time.
    """

    COLUMNS = 4

    def __init__(self, spec: MatmulSpec) -> None:
        self.fn = Function("dots", _TILE_PARAMS, "void", "noinline nounwind", "internal")
        self.spec = spec
        self.wide = Lanes(self.fn, spec.element, spec.machine.lanes(spec.size))
        self.one = Lanes(self.fn, spec.element, 1)

    def write(self) -> Function:
        fn = self.fn
        self.b_column = _frame_slot(fn, "b_column")
        whole = fn.integer("and", "%n", -self.COLUMNS)
        for begin, end, columns in (("0", whole, self.COLUMNS), (whole, "%n", 1)):
            with fn.loop(begin, end, columns) as loop:
                self._dots(loop.index, columns)
        fn.do("ret void")
        return fn

    def _dots(self, first: str, columns: int) -> None:
        """The sums of `columns` columns from `first` on."""
        fn, size = self.fn, self.spec.size
        starts = [
            fn.gep("%b", fn.integer("mul", fn.integer("add", first, i), self.b_column))
            for i in range(columns)
        ]
        whole = fn.integer("and", "%k", -self.wide.width)
        carried = [(self.wide.type, self.wide.const(0))] * columns
        with fn.loop(0, whole, self.wide.width, carried) as loop:
            at = fn.integer("mul", loop.index, size)
            loop.next = self._products(self.wide, "%a", at, starts, at, loop.values)
        place = fn.gep("%c", fn.integer("mul", first, size))
        places = [(i, fn.gep(place, i * size)) for i in range(columns)]
        held = _sums_to_start_from(fn, self.one, places, lambda p, _: self.one.load(p))
        sums = [
            self.one.add(start, _sum_of_lanes(self.wide, value))
            for start, value in zip(held, loop.values, strict=True)
        ]
        with fn.loop(whole, "%k", 1, [(self.one.type, value) for value in sums]) as loop:
            at = fn.integer("mul", loop.index, size)
            loop.next = self._products(self.one, "%a", at, starts, at, loop.values)
        for (_, pointer), value in zip(places, loop.values, strict=True):
            self.one.store(value, pointer)

    def _products(
        self, lanes: Lanes, a: str, at: str, starts: list[str], b_at: str, sums: list[str]
    ) -> list[str]:
        left = lanes.load(self.fn.gep(a, at))
        return [
            _product(lanes, left, lanes.load(self.fn.gep(start, b_at)), held,
                     self.spec.machine.has_fma)
            for start, held in zip(starts, sums, strict=True)
        ]  # fmt: skip


def _sum_of_lanes(lanes: Lanes, value: str) -> str:
    """The sum of all lanes, halves first."""
    distance = lanes.width // 2
    while distance:
        order = ", ".join(f"i32 {(i + distance) % lanes.width}" for i in range(lanes.width))
        other = lanes.fn.op(
            f"shufflevector {lanes.type} {value}, {lanes.type} poison, "
            f"<{lanes.width} x i32> <{order}>"
        )
        value = lanes.add(value, other)
        distance //= 2
    return lanes.fn.op(f"extractelement {lanes.type} {value}, i64 0")


# -- the library ---------------------------------------------------------------------------
class _Library:
    """Writes the variants of the register tile and the choice among them."""

    def __init__(self, spec: MatmulSpec) -> None:
        self.spec = spec
        # Cheap masks serve full panels too; elsewhere full panels have their own variant.
        self.unmasked = not spec.machine.has_masks
        self.fn = Function("tiles", TILES_PARAMS)
        self.functions: list[Function] = []

    def write(self) -> str:
        fn = self.fn
        spec = self.spec
        few, along_k = fn.label("few"), fn.label("along_k")
        lines, many = fn.label("lines"), fn.label("many")
        fn.cond_br(fn.icmp("ne", _frame_slot(fn, "few_rows"), 0), few, many)
        fn.block(few)
        turned = fn.icmp("ne", _frame_slot(fn, "b_column"), spec.size)
        fn.cond_br(turned, along_k, lines)
        fn.block(along_k)
        self._dot_products()
        fn.do("ret void")
        fn.block(lines)
        tile = few_rows_tile(spec.element, spec.machine)
        self._digits(tile, {tile.vectors: range(tile.vectors)})
        fn.do("ret void")
        fn.block(many)
        tile = tile_of(spec.element, spec.machine)
        self._digits(tile, {v: range(v - 1, v) for v in range(1, tile.vectors + 1)})
        fn.do("ret void")
        return module_text([*self.functions, fn])

    def _dot_products(self) -> None:
        """The rows one by one."""
        dots = _DotWriter(self.spec).write()
        self.functions.append(dots)
        with self.fn.loop(0, "%m") as row:
            self._call("@" + dots.name, row.index)

    def _digits(self, tile: Tile, masked: dict[int, range]) -> None:
        """A tile of m rows, made of the heights that are the binary digits of m.

        `masked` says which vectors are masked in the variant of each number of vectors.
        """
        fn = self.fn
        rows = tile.rows
        while rows:
            variants = {
                vectors: self._variant(rows, vectors, tile.lanes, these)
                for vectors, these in masked.items()
            }
            name = variants.pop(tile.vectors)
            if self.unmasked:
                whole = self._variant(rows, tile.vectors, tile.lanes, range(0))
                name = self._select(fn.icmp("eq", "%n", tile.columns), whole, name)
            for vectors in sorted(variants, reverse=True):
                fits = fn.icmp("sle", "%n", vectors * tile.lanes)
                name = self._select(fits, variants[vectors], name)
            with fn.when(fn.icmp("ne", fn.integer("and", "%m", rows), 0)):
                self._call(name, fn.integer("and", "%m", -2 * rows))
            rows //= 2

    def _variant(self, rows: int, vectors: int, lanes: int, masked: range) -> str:
        function = _TileWriter(self.spec, rows, vectors, lanes, masked).write()
        self.functions.append(function)
        return "@" + function.name

    def _select(self, condition: str, then: str, otherwise: str) -> str:
        return self.fn.op(f"select i1 {condition}, ptr {then}, ptr {otherwise}")

    def _call(self, name: str, row: str) -> None:
        """Call a variant for the rows from `row` on."""
        fn = self.fn
        a = fn.gep("%a", fn.integer("mul", row, _frame_slot(fn, "a_row")))
        c = fn.gep("%c", fn.integer("mul", row, _frame_slot(fn, "c_row")))
        fn.do(f"call void {name}(ptr %frame, i64 %k, ptr {a}, ptr %b, ptr {c}, i64 %n)")


@functools.cache
def emit_tiles(element: str, machine: Machine) -> str:
    """The tile library of an element type; its exported function is ``tiles``."""
    return _Library(MatmulSpec(element, machine, (element,))).write()
