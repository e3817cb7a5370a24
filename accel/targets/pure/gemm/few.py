"""The tile libraries for few rows or columns, and for B with consecutive k or far-flung rows.

Each is one function with the parameters and the frame of `tiles`:

- ``lines`` reads B along its rows, several steps of k at a time, and keeps sums in C: a few
  rows of A against a B that is read once and in order;
- ``dots`` has lanes along k, for A and B whose k is consecutive;
- ``turned`` has lanes along the rows of C, which are consecutive in A's panels, and reads B by
  single elements: few rows against a B whose k is consecutive then pack A instead of B;
- ``near`` copies the columns of B that it needs into one place before it calls the library of
  register tiles for all rows: a B far flung is read once.

``lines`` and ``dots`` read halves as well where they lie, and have an edition for a single row,
``row_lines`` and ``row_dots``, which takes LLVM a fraction of the time. Only ``near`` starts from
sums in C: for the others k is never divided.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ..machine.jit import Machine
from ..machine.llvm_text import LINE, Function, Lanes, module_text
from .half import read
from .pack import transpose
from .spec import MatmulSpec, library_of, smaller, tile_of
from .tiles import FRAME, TILES_PARAMS, call_of, frame_slot, multiply_add, new_frame

__all__ = [
    "DOTS_TILE", "DotWriter", "LINES_ROWS", "NEAR_STEPS", "dot_functions", "emit_dots",
    "emit_lines", "emit_near", "emit_turned", "turned_columns",
]  # fmt: skip

LINES_ROWS = 4
"""Rows that ``lines`` takes at most."""

NEAR_STEPS = 384
"""Steps of k that ``near`` takes at most: its copy of B lies on the stack."""

DOTS_TILE = 4
"""Rows and columns of the square tile of ``dots``."""

_LINES_PARAMS = [("i64", "step"), ("i64", "apart")]


def _internal(name: str, params: Sequence[tuple[str, str]], spec: MatmulSpec) -> Function:
    own = spec.machine.instructions
    return Function(name, params, "void", "noinline nounwind", "internal", own)


# -- lines ---------------------------------------------------------------------------------
class _LineWriter:
    """Writes ``line(frame, k, a, b, c, n)`` for some rows.

    The elements of A of several steps of k stay in registers while as many rows of B go by,
    so that each vector of C is loaded and stored once for all of them. More than two rows of A
    leave registers for fewer steps: few streams of B are asked for ahead of the processor.
    """

    def __init__(self, spec: MatmulSpec, rows: int) -> None:
        params = [p for p in TILES_PARAMS if p[1] != "m"]
        fn = self.fn = _internal(f"line_{rows}", params, spec)
        self.spec = spec
        self.steps = 8 if spec.machine.has_masks and rows <= 2 else 4  # as many streams of B
        self.asks = rows > 2
        self.wide = Lanes(fn, spec.element, spec.machine.lanes(spec.size))
        self.one = Lanes(fn, spec.element, 1)
        self.a_column, self.b_row = frame_slot(fn, "a_column"), frame_slot(fn, "b_row")
        a_row, c_row = frame_slot(fn, "a_row"), frame_slot(fn, "c_row")
        self.a_rows = [fn.integer("mul", a_row, row) for row in range(rows)]
        self.c_rows = [fn.gep("%c", fn.integer("mul", c_row, row)) for row in range(rows)]

    def write(self) -> Function:
        fn = self.fn
        self._along(lambda lanes, column, mask: [lanes.const(0)] * len(self.c_rows))
        whole = fn.integer("and", "%k", -self.steps)
        a, b = "%a", "%b"
        for begin, end, steps in (("0", whole, self.steps), (whole, "%k", 1)):
            with fn.loop(begin, end, steps, [("ptr", a), ("ptr", b)]) as loop:
                loop.next = self._steps(loop.values, steps)
            a, b = loop.values
        fn.do("ret void")
        return fn

    def _steps(self, pointers: Sequence[str], steps: int) -> list[str]:
        """Add some steps of k to C; `pointers` into A and B are moved on."""
        fn, (a, b) = self.fn, pointers
        left, lines = [], []
        for _ in range(steps):
            left.append([read(self.one, fn.gep(a, at), self.spec.half) for at in self.a_rows])
            lines.append(b)
            a, b = fn.gep(a, self.a_column), fn.gep(b, self.b_row)
        splats = {value: self.wide.splat(value) for values in left for value in values}
        following = fn.integer("mul", self.b_row, steps)

        def sums(lanes: Lanes, column: str, mask: str | None) -> list[str]:
            at = fn.integer("mul", column, lanes.bytes)
            found = [read(lanes, fn.gep(row, at), mask=mask) for row in self.c_rows]
            at = fn.integer("mul", column, self.spec.source_size)
            for values, line in zip(left, lines, strict=True):
                if self.asks and steps > 1 and mask is None:
                    fn.prefetch(fn.gep(fn.gep(line, following), at))
                right = read(lanes, fn.gep(line, at), self.spec.half, mask)
                for row, value in enumerate(values):
                    factor = value if lanes.width == 1 else splats[value]
                    found[row] = multiply_add(lanes, factor, right, found[row], self.spec)
            return found

        self._along(sums)
        return [a, b]

    def _along(self, sums: Callable[[Lanes, str, str | None], list[str]]) -> None:
        """Store `sums(lanes, column, mask)`, one value a row, for all columns."""
        fn, wide = self.fn, self.wide
        whole = fn.integer("and", "%n", -wide.width)
        with fn.loop(0, whole, wide.width) as loop:
            values = sums(wide, loop.index, None)
            at = fn.integer("mul", loop.index, wide.bytes)
            for value, row in zip(values, self.c_rows, strict=True):
                wide.store(value, fn.gep(row, at))
        rest = wide if self.spec.machine.has_masks else self.one
        with fn.loop(whole, "%n", rest.width) as loop:
            mask = rest.lane_mask(loop.index, "%n") if rest is wide else None
            values = sums(rest, loop.index, mask)
            at = fn.integer("mul", loop.index, rest.bytes)
            for value, row in zip(values, self.c_rows, strict=True):
                if mask is None:
                    rest.store(value, fn.gep(row, at))
                else:
                    rest.masked_store(value, fn.gep(row, at), mask)


@functools.cache
def emit_lines(element: str, machine: Machine, half: str = "", row: bool = False) -> str:
    """The library ``lines`` of an element type, or of halves (``lines_half``, ``lines_bfloat``):
    at most `LINES_ROWS` rows, or a single `row`, and any columns."""
    spec = MatmulSpec(element, machine, (element,), half=half)
    fn = Function(library_of("lines", half, row), TILES_PARAMS)
    functions = []
    for rows in (1,) if row else range(1, LINES_ROWS + 1):
        functions.append(_LineWriter(spec, rows).write())
        with fn.when(fn.icmp("eq", "%m", rows)):
            fn.do(f"call void @line_{rows}(ptr %frame, i64 %k, ptr %a, ptr %b, ptr %c, i64 %n)")
    fn.do("ret void")
    return module_text([*functions, fn])


# -- dots ----------------------------------------------------------------------------------
class DotWriter:
    """Writes the dot products of some lines along k, A's, with others, B's.

    Of several lines with one, either may be of A: they lie `step` bytes apart, and their results
    `apart`. Thin tiles take two vectors of k at a time, for enough independent sums. `wide` are
    the lanes of sums, `taken` those of what a vector takes of k.
    """

    stem = "dots"

    def __init__(self, spec: MatmulSpec, rows: int, columns: int) -> None:
        params = [p for p in TILES_PARAMS if p[1] not in ("m", "n")]
        params += _LINES_PARAMS if columns < rows else []
        fn = self.fn = _internal(f"{self.stem}_{rows}x{columns}", params, spec)
        self.spec, self.rows, self.columns = spec, rows, columns
        self.chains = 2 if rows * columns <= DOTS_TILE else 1
        self.wide = self.taken = Lanes(fn, spec.element, spec.machine.lanes(spec.size))
        self.one = Lanes(fn, spec.element, 1)

    def write(self) -> Function:
        fn, spec, wide, width = self.fn, self.spec, self.wide, self.taken.width
        step, self.apart = "%step", "%apart"
        if self.columns == self.rows:
            step, self.apart = frame_slot(fn, "a_row"), frame_slot(fn, "c_row")
        self.a_rows = [fn.gep("%a", fn.integer("mul", step, i)) for i in range(self.rows)]
        step = frame_slot(fn, "b_column")
        self.b_columns = [fn.gep("%b", fn.integer("mul", step, i)) for i in range(self.columns)]
        tiles = self.rows * self.columns
        many = fn.integer("and", "%k", -width * self.chains)
        whole = fn.integer("and", "%k", -width)
        carried = [(wide.type, wide.const(0))] * tiles
        with fn.loop(0, many, width * self.chains, carried * self.chains) as loop:
            loop.next = []
            for chain in range(self.chains):
                at = fn.integer("add", loop.index, chain * width)
                sums = loop.values[chain * tiles : (chain + 1) * tiles]
                loop.next += self._products(wide, at, sums, None)
        sums = loop.values[:tiles]
        if self.chains > 1:
            sums = [wide.add(x, y) for x, y in zip(sums, loop.values[tiles:], strict=True)]
            with fn.loop(many, whole, width, [(wide.type, s) for s in sums]) as loop:
                loop.next = self._products(wide, loop.index, loop.values, None)
            sums = loop.values
        if spec.machine.has_masks:
            with fn.loop(whole, "%k", width, [(wide.type, s) for s in sums]) as loop:
                mask = self.taken.lane_mask(loop.index, "%k")
                loop.next = self._products(wide, loop.index, loop.values, mask)
            sums = loop.values
        totals = self._totals(sums)
        if not spec.machine.has_masks:
            with fn.loop(whole, "%k", 1, [(self.one.type, t) for t in totals]) as loop:
                loop.next = self._products(self.one, loop.index, loop.values, None)
            totals = loop.values
        self._store(totals)
        fn.do("ret void")
        return fn

    def _products(self, lanes: Lanes, k: str, sums: Sequence[str], mask: str | None) -> list[str]:
        """`sums`, row by row, and the products of the lanes from `k` on."""
        fn = self.fn
        at = fn.integer("mul", k, self.spec.source_size)
        right = [self.read(lanes, fn.gep(b, at), mask) for b in self.b_columns]
        found = []
        held = iter(sums)
        for a in self.a_rows:
            left = self.read(lanes, fn.gep(a, at), mask)
            found += [self.multiply_add(lanes, left, b, next(held)) for b in right]
        return found

    def read(self, lanes: Lanes, pointer: str, mask: str | None) -> str:
        """What lies at `pointer` along k."""
        return read(lanes, pointer, self.spec.half, mask)

    def multiply_add(self, lanes: Lanes, left: str, right: str, sums: str) -> str:
        """What is made of the sums."""
        return multiply_add(lanes, left, right, sums, self.spec)

    def _totals(self, sums: Sequence[str]) -> list[str]:
        """The sums over the lanes, as many at a time as there are lanes (4 at most)."""
        fn, found = self.fn, []
        size = min(4, self.wide.width)
        for begin in range(0, len(sums), size):
            group = list(sums[begin : begin + size])
            count = 1 << (len(group) - 1).bit_length()
            group += [self.wide.const(0)] * (count - len(group))
            vector, lanes = _lanewise_sums(self.wide, group)
            for i in range(min(size, len(sums) - begin)):
                found.append(fn.op(f"extractelement {lanes.type} {vector}, i64 {i}")
                             if lanes.width > 1 else vector)  # fmt: skip
        return found

    def _store(self, totals: Sequence[str]) -> None:
        places = iter(totals)
        for row in range(self.rows):
            line = self.fn.gep("%c", self.fn.integer("mul", self.apart, row))
            for column in range(self.columns):
                self.one.store(next(places), self.fn.gep(line, column * self.one.bytes))


def _lanewise_sums(lanes: Lanes, group: list[str]) -> tuple[str, Lanes]:
    """A vector whose lane i is the sum of the lanes of the i-th of a power of two of vectors.

    Neighbours are added crosswise until one vector is left, whose lanes repeat; then its halves
    are added.
    """
    width, distance = lanes.width, 1
    while len(group) > 1:
        group = [
            lanes.add(
                _picked(lanes, x, y, [i if not i & distance else width + i - distance
                                      for i in range(width)]),
                _picked(lanes, x, y, [i + distance if not i & distance else width + i
                                      for i in range(width)]),
            )
            for x, y in zip(group[::2], group[1::2], strict=True)
        ]  # fmt: skip
        distance *= 2
    (vector,) = group
    while width > distance:
        half = Lanes(lanes.fn, lanes.element, width // 2)
        if half.width == 1:
            low, high = (lanes.fn.op(f"extractelement {lanes.type} {vector}, i64 {i}")
                         for i in (0, 1))  # fmt: skip
        else:
            low = _picked(lanes, vector, "poison", list(range(half.width)))
            high = _picked(lanes, vector, "poison", list(range(half.width, width)))
        vector, lanes, width = half.add(low, high), half, half.width
    return vector, lanes


def _picked(lanes: Lanes, x: str, y: str, order: list[int]) -> str:
    places = ", ".join(f"i32 {i}" for i in order)
    return lanes.fn.op(
        f"shufflevector {lanes.type} {x}, {lanes.type} {y}, <{len(order)} x i32> <{places}>"
    )


@functools.cache
def emit_dots(element: str, machine: Machine, half: str = "", row: bool = False) -> str:
    """The library ``dots`` of an element type, or of halves (``dots_half``, ``dots_bfloat``):
    any rows, or a single `row`, and any columns."""
    spec = MatmulSpec(element, machine, (element,), half=half)
    fn = Function(library_of("dots", half, row), TILES_PARAMS)
    return module_text(dot_functions(spec, DotWriter, fn, row))


def dot_functions(
    spec: MatmulSpec, writer: type[DotWriter], fn: Function, row: bool = False
) -> list[Function]:
    """`fn`, of `TILES_PARAMS`, written as a library of dot products, behind what it calls."""
    a_row, b_column, c_row = (frame_slot(fn, name) for name in ("a_row", "b_column", "c_row"))
    tiles = [(DOTS_TILE, 1), (1, 1)] if row else [(DOTS_TILE, 1), (1, 1), (DOTS_TILE, DOTS_TILE)]
    lines, single, *square = functions = [writer(spec, *tile).write() for tile in tiles]

    def left(line: str) -> str:
        return fn.gep("%a", fn.integer("mul", line, a_row))

    def right(column: str) -> str:
        return fn.gep("%b", fn.integer("mul", column, b_column))

    def result(line: str, column: str) -> str:
        at = fn.gep("%c", fn.integer("mul", column, spec.size))
        return fn.gep(at, fn.integer("mul", line, c_row))

    def call(function: Function, a: str, b: str, c: str, *steps: str) -> None:
        values = ("%frame", "%k", a, b, c, *steps)
        fn.do(f"call void {call_of('@' + function.name, function.params, *values)}")

    rows = "0" if row else fn.integer("and", "%m", -DOTS_TILE)
    columns = fn.integer("and", "%n", -DOTS_TILE)
    with fn.loop(0, columns, DOTS_TILE) as column:
        b = right(column.index)
        for function in square:
            with fn.loop(0, rows, DOTS_TILE) as line:
                call(function, left(line.index), b, result(line.index, column.index))
        with fn.loop(rows, "%m") as line:
            c = result(line.index, column.index)
            call(lines, b, left(line.index), c, b_column, str(spec.size))
    with fn.loop(columns, "%n") as column:
        b = right(column.index)
        if not row:
            with fn.loop(0, rows, DOTS_TILE) as line:
                c = result(line.index, column.index)
                call(lines, left(line.index), b, c, a_row, c_row)
        with fn.loop(rows, "%m") as line:
            call(single, left(line.index), b, result(line.index, column.index))
    fn.do("ret void")
    return [*functions, fn]


# -- turned --------------------------------------------------------------------------------
def turned_columns(element: str, machine: Machine) -> int:
    """The columns that ``turned`` takes at a time: two vectors, for the sake of epilogues; its
    rows are a register tile's columns."""
    tile = tile_of(element, machine)
    return 2 * max(tile.rows, tile.lanes)


@functools.cache
def emit_turned(element: str, machine: Machine) -> str:
    """The library ``turned`` of an element type, which calls the library of register tiles.

    The tile is computed as B' @ A' into a buffer, and turned in registers into another, from
    which what exists is copied to C.
    """
    spec = MatmulSpec(element, machine, (element,))
    height, width = tile_of(element, machine).columns, turned_columns(element, machine)
    fn = Function("turned", TILES_PARAMS)
    lanes = Lanes(fn, element, machine.lanes(spec.size))
    sums, result = (fn.op(f"alloca [{height * width * spec.size} x i8], align 64") for _ in "ab")
    strides = {
        "a_row": frame_slot(fn, "b_column"), "a_column": frame_slot(fn, "b_row"),
        "b_row": frame_slot(fn, "a_column"), "b_column": frame_slot(fn, "a_row"),
        "c_row": str(height * spec.size), "ahead": frame_slot(fn, "ahead"),
        "ahead_step": frame_slot(fn, "ahead_step"),
    }  # fmt: skip
    inner = new_frame(fn, strides)
    tiles = fn.op(f"inttoptr i64 {frame_slot(fn, 'tiles')} to ptr")
    fn.do(f"call void {tiles}(ptr {inner}, i64 %k, ptr %b, ptr %a, ptr {sums}, i64 %n, i64 %m)")
    slot = 8 * FRAME.index("ahead")
    fn.store("i64", fn.load("i64", fn.gep(inner, slot), 8), fn.gep("%frame", slot), 8)
    c_row = frame_slot(fn, "c_row")
    with fn.loop(0, "%m", lanes.width) as first:
        with fn.loop(0, "%n", lanes.width) as column:
            at = fn.gep(sums, fn.integer("mul", column.index, height * spec.size))
            at = fn.gep(at, first.index, element)
            rows = [lanes.load(fn.gep(at, i * height * spec.size)) for i in range(lanes.width)]
            at = fn.gep(result, fn.integer("mul", column.index, spec.size))
            for i, line in enumerate(transpose(lanes, rows)):
                lanes.store(line, fn.gep(at, i * width * spec.size))
        count = smaller(fn, fn.integer("sub", "%m", first.index), lanes.width)
        with fn.loop(0, count) as row:
            at = fn.integer("add", first.index, row.index)
            source = fn.gep(result, fn.integer("mul", row.index, width * spec.size))
            target = fn.gep("%c", fn.integer("mul", at, c_row))
            _copy_line(fn, spec, source, target)
    fn.do("ret void")
    return module_text([fn])


# -- near ----------------------------------------------------------------------------------
@functools.cache
def emit_near(element: str, machine: Machine) -> str:
    """The library ``near`` of an element type, which calls the library of register tiles."""
    spec, tile = MatmulSpec(element, machine, (element,)), tile_of(element, machine)
    line = tile.columns * spec.size
    fn = Function("near", TILES_PARAMS)
    panel = fn.op(f"alloca [{NEAR_STEPS * line} x i8], align 64")
    strides = {name: frame_slot(fn, name) for name in ("a_row", "a_column", "c_row", "accumulate")}
    inner = new_frame(fn, {**strides, "b_row": line, "b_column": spec.size})
    b_row = frame_slot(fn, "b_row")
    with fn.loop(0, "%k", 1, [("ptr", "%b"), ("ptr", panel)]) as step:
        source, target = step.values
        _copy_line(fn, spec, source, target)
        step.next = [fn.gep(source, b_row), fn.gep(target, line)]
    tiles = fn.op(f"inttoptr i64 {frame_slot(fn, 'tiles')} to ptr")
    # Between the tiles the columns of B that come next are asked for, a share at a time.
    groups = fn.integer("udiv", fn.integer("add", "%m", tile.rows - 1), tile.rows)
    share = fn.integer("udiv", fn.integer("sub", fn.integer("add", "%k", groups), 1), groups)
    with fn.loop(0, "%m", tile.rows, [("ptr", fn.gep("%b", line)), ("i64", "0")]) as row:
        rows = smaller(fn, fn.integer("sub", "%m", row.index), tile.rows)
        a = fn.gep("%a", fn.integer("mul", row.index, strides["a_row"]))
        c = fn.gep("%c", fn.integer("mul", row.index, strides["c_row"]))
        fn.do(f"call void {tiles}(ptr {inner}, i64 %k, ptr {a}, ptr {panel}, ptr {c}, "
              f"i64 {rows}, i64 %n)")  # fmt: skip
        following, done = row.values
        end = smaller(fn, fn.integer("add", done, share), "%k")
        with fn.loop(done, end, 1, [("ptr", following)]) as step:
            for at in range(0, line, LINE):
                fn.prefetch(fn.gep(step.values[0], at), locality=2)
            step.next = [fn.gep(step.values[0], b_row)]
        row.next = [step.values[0], end]
    fn.do("ret void")
    return module_text([fn])


# -- for those that call the library of register tiles --------------------------------------
def _copy_line(fn: Function, spec: MatmulSpec, source: str, target: str) -> None:
    """Copy `n` elements."""
    lanes = Lanes(fn, spec.element, spec.machine.lanes(spec.size))
    masks = spec.machine.has_masks
    whole = "%n" if masks else fn.integer("and", "%n", -lanes.width)
    with fn.loop(0, whole, lanes.width) as c:
        at = fn.integer("mul", c.index, spec.size)
        value = lanes.load(fn.gep(source, at))
        if masks:
            lanes.masked_store(value, fn.gep(target, at), lanes.lane_mask(c.index, "%n"))
        else:
            lanes.store(value, fn.gep(target, at))
    if not masks:
        one = Lanes(fn, spec.element, 1)
        with fn.loop(whole, "%n") as c:
            at = fn.integer("mul", c.index, spec.size)
            one.store(one.load(fn.gep(source, at)), fn.gep(target, at))
