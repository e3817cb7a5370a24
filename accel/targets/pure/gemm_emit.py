"""Emission of the product kernels as LLVM IR: register tiles, packing, epilogues.

One multiply kernel serves all extents and strides of a :class:`MatmulSpec`. For each item (a
block of rows of one matrix of the batch) it walks panels of columns, blocks of k, and tiles of
rows; the register tile is a function of its own in a few variants of rows and vectors. A tile
of the product goes straight to the output, or, with an epilogue, through a small buffer that
stays in the first-level cache, so that the epilogue's code exists once.

The sum over k is taken in order for every element, whatever the blocking: blocks of k start
from the partial sums of the block before. Results do not depend on how items are divided.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.targets.pure.gemm_spec import (
    Arguments,
    Epilogue,
    MatmulSpec,
    Tile,
    few_rows_tile,
    tile_of,
)
from accel.targets.pure.llvm_text import Function, Lanes, module_text

__all__ = ["KC", "emit_multiply", "emit_pack"]

KC = 512
"""Steps of k per block: a panel of B of this height stays in the second-level cache."""

_KERNEL_PARAMS = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]
_TILE_PARAMS = [
    ("i64", "k"), ("ptr", "a"), ("i64", "a_row"), ("i64", "a_column"), ("ptr", "b"),
    ("i64", "b_row"), ("i64", "b_column"), ("ptr", "c"), ("i64", "c_row"), ("i64", "n"),
    ("i1", "accumulate"),
]  # fmt: skip
_A, _B, _PARTIAL, _FIRST = 0, 1, 2, 3  # operand records of the multiply kernel


def _smaller(fn: Function, a: str, b: str | int) -> str:
    return fn.call("i64", "llvm.smin.i64", ("i64", a), ("i64", str(b)))


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
        for vector in self.masked:
            self.masks[vector] = self.lanes.lane_mask(vector * self.lanes.width, "%n")
        offsets = ["0"]
        for row in range(1, self.rows):
            offsets.append(fn.integer("mul", "%a_row", row))
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
            line = fn.gep("%c", fn.integer("mul", "%c_row", row)) if row else "%c"
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
        return [fn.gep(a, "%a_column"), fn.gep(b, "%b_row"), *result]

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
    """What C holds at `places` if ``%accumulate``, else zero."""
    held, start, before = fn.label("held"), fn.label("start"), fn.block_name
    fn.cond_br("%accumulate", held, start)
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
            fn.gep("%b", fn.integer("mul", fn.integer("add", first, i), "%b_column"))
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


class _Tiles:
    """The variants of the register tile, and the choice among them at run time."""

    def __init__(self, spec: MatmulSpec, tile: Tile) -> None:
        self.spec, self.tile = spec, tile
        self.heights = _halves(tile.rows)
        # Cheap masks serve full panels too; elsewhere full panels have their own variant.
        self.full = not spec.machine.has_masks
        self.functions: dict[tuple[int, int, bool], Function] = {}
        for rows in self.heights:
            for vectors in range(1, tile.vectors + 1):
                self._add(rows, vectors, range(vectors - 1, vectors))
            if self.full:
                self._add(rows, tile.vectors, range(0))

    def _add(self, rows: int, vectors: int, masked: range) -> None:
        writer = _TileWriter(self.spec, rows, vectors, self.tile.lanes, masked)
        self.functions[rows, vectors, bool(masked)] = writer.write()

    def choose(self, fn: Function, n: str) -> dict[int, str]:
        """For each height the function that serves a panel of `n` columns."""
        chosen = {}
        for rows in self.heights:
            name = "@" + self.functions[rows, self.tile.vectors, True].name
            if self.full:
                whole = "@" + self.functions[rows, self.tile.vectors, False].name
                name = _select(fn, fn.icmp("eq", n, self.tile.columns), whole, name)
            for vectors in range(self.tile.vectors - 1, 0, -1):
                narrow = "@" + self.functions[rows, vectors, True].name
                fits = fn.icmp("sle", n, vectors * self.tile.lanes)
                name = _select(fn, fits, narrow, name)
            chosen[rows] = name
        return chosen


class _FewRows:
    """Tiles for products of few rows: long lines of B, or dot products along k.

    One row of B at a time is all that such a product reads, so lines are as long as fits.
    """

    def __init__(self, spec: MatmulSpec) -> None:
        self.tile = few_rows_tile(spec.element, spec.machine)
        self.heights = _halves(self.tile.rows)
        self.dots = _DotWriter(spec).write()
        self.functions: dict[tuple[int, bool], Function] = {}
        for rows in self.heights:
            for masked in (False, True) if not spec.machine.has_masks else (True,):
                every = range(self.tile.vectors if masked else 0)
                writer = _TileWriter(spec, rows, self.tile.vectors, self.tile.lanes, every)
                self.functions[rows, masked] = writer.write()

    def choose(self, fn: Function, n: str, along_k: str) -> dict[int, str]:
        """For each height the function for `n` columns; dot products where `along_k`."""
        chosen = {}
        for rows in self.heights:
            name = "@" + self.functions[rows, True].name
            if (rows, False) in self.functions:
                whole = "@" + self.functions[rows, False].name
                name = _select(fn, fn.icmp("eq", n, self.tile.columns), whole, name)
            chosen[rows] = name
        # Dot products are made a row at a time: the taller tile is never asked for then.
        chosen[1] = _select(fn, along_k, "@" + self.dots.name, chosen[1])
        return chosen


def _halves(rows: int) -> list[int]:
    """rows, rows / 2, … 1 for a power of two."""
    return [rows >> i for i in range(rows.bit_length())]


def _select(fn: Function, condition: str, then: str, otherwise: str) -> str:
    return fn.op(f"select i1 {condition}, ptr {then}, ptr {otherwise}")


# -- what happens to finished sums ---------------------------------------------------------
class _Finish:
    """Applies the epilogue to finished sums and stores the outputs."""

    def __init__(self, fn: Function, spec: MatmulSpec, epilogue: Epilogue) -> None:
        self.fn, self.spec, self.epilogue = fn, spec, epilogue
        self.arguments = Arguments(fn)
        self.starts: list[str] = []
        self.steps: list[str] = []
        self.outputs: list[str] = []
        self.extras: list[str] = []

    def at_matrix(self, batch: list[str]) -> None:
        """Set the addresses of the outputs and extras at a matrix of the batch."""
        outputs = len(self.spec.outputs)
        self.starts, self.steps = [], []
        for record in range(_FIRST, _FIRST + outputs + len(self.spec.extras)):
            extra = record - _FIRST - outputs
            if extra >= 0 and self.spec.extras[extra].columns == "constant":
                self.starts.append(self.arguments.field(record, "offset"))
                self.steps.append("")
            else:
                self.starts.append(self.arguments.pointer(record, batch))
                self.steps.append(self.arguments.field(record, "row"))

    def at_row(self, row: str) -> None:
        """Set the addresses of the outputs and extras at a row of the product."""
        lines = [
            self.fn.gep(start, self.fn.integer("mul", row, step)) if step else start
            for start, step in zip(self.starts, self.steps, strict=True)
        ]
        self.outputs = lines[: len(self.spec.outputs)]
        self.extras = lines[len(self.spec.outputs) :]

    def write(self, lanes: Lanes, value: str, column: str, mask: str | None) -> None:
        """Finish the sums `value` of the columns from `column` on, those in `mask` only."""
        results = self.epilogue(lanes, value, lambda i: self._extra(lanes, i, column, mask))
        for element, line, result in zip(self.spec.outputs, self.outputs, results, strict=True):
            target = lanes.like(element)
            if element == "i1":
                result, target = lanes.like("i8").convert("zext", result, target), lanes.like("i8")
            at = self.fn.gep(line, self.fn.integer("mul", column, target.bytes))
            if mask is None:
                target.store(result, at)
            else:
                target.masked_store(result, at, mask)

    def _extra(self, lanes: Lanes, index: int, column: str, mask: str | None) -> str:
        """The lanes of an extra operand at the present row and columns."""
        element, columns = self.spec.extras[index]
        memory = lanes.like("i8" if element == "i1" else element)
        line = self.extras[index]
        if columns == "constant":
            value = memory.splat(self._from_bits(memory, line))
        elif columns == "zero":
            value = memory.splat(self.fn.load(memory.element, line, memory.bytes))
        elif columns == "strided":
            record = _FIRST + len(self.spec.outputs) + index
            value = self._gather(memory, line, self.arguments.field(record, "column"), column, mask)
        else:
            at = self.fn.gep(line, self.fn.integer("mul", column, memory.bytes))
            value = memory.load(at) if mask is None else memory.masked_load(at, mask)
        return memory.cmp("ne", value, 0) if element == "i1" else value

    def _from_bits(self, memory: Lanes, slot: str) -> str:
        """The scalar whose bits are the low ones of a slot."""
        bits = slot if memory.bits == 64 else self.fn.op(f"trunc i64 {slot} to i{memory.bits}")
        if not memory.is_float:
            return bits
        return self.fn.op(f"bitcast i{memory.bits} {bits} to {memory.element}")

    def _gather(self, memory: Lanes, line: str, stride: str, column: str, mask: str | None) -> str:
        first = self.fn.gep(line, self.fn.integer("mul", column, stride))
        if memory.width == 1:
            return memory.load(first)
        width = memory.width
        longs = Lanes(self.fn, "i64", width)
        steps = "<" + ", ".join(f"i64 {i}" for i in range(width)) + ">"
        offsets = longs.mul(longs.splat(stride), steps)
        pointers = self.fn.op(f"getelementptr i8, ptr {first}, {longs.type} {offsets}")
        return self.fn.call(
            memory.type, f"llvm.masked.gather.{memory.suffix}.v{width}p0",
            (f"<{width} x ptr>", pointers), ("i32", str(memory.bytes)),
            (memory.mask_type, mask or "splat (i1 true)"), (memory.type, memory.const(0)),
        )  # fmt: skip


def _identity(lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
    return [value]


# -- the multiply kernel -------------------------------------------------------------------
class _Multiply:
    """Writes the multiply kernel of a floating-point or integer type."""

    def __init__(self, spec: MatmulSpec, epilogue: Epilogue | None, name: str) -> None:
        self.spec = spec
        self.plain = epilogue is None
        self.fn = Function(name, _KERNEL_PARAMS, "i64")
        self.arguments = Arguments(self.fn)
        self.finish = _Finish(self.fn, spec, epilogue or _identity)
        self.m, self.n, self.k = (self.arguments.header(axis) for axis in ("m", "n", "k"))

    def _items(self, body: Callable[[list[str], str, str, str], None]) -> None:
        """Loop over items: `body(batch indices, flat batch index, first row, rows)`."""
        fn = self.fn
        height = self.arguments.header("block_rows")
        blocks = self.arguments.header("row_blocks")
        with fn.loop("%begin", "%end") as item:
            flat = fn.integer("udiv", item.index, blocks)
            first = fn.integer("mul", fn.integer("urem", item.index, blocks), height)
            rows = _smaller(fn, fn.integer("sub", self.m, first), height)
            body(self.arguments.batch_indices(flat), flat, first, rows)
        fn.do("ret i64 0")

    # -- integers: lanes along the columns
    def integers(self) -> str:
        self._items(self._integer_block)
        return module_text([self.fn])

    def _integer_block(self, batch: list[str], flat: str, first: str, rows: str) -> None:
        fn, spec = self.fn, self.spec
        wide = Lanes(fn, spec.element, spec.machine.lanes(spec.size))
        a, b = self.arguments.pointer(_A, batch), self.arguments.pointer(_B, batch)
        unit = fn.icmp("eq", self.arguments.field(_B, "column"), spec.size)
        whole = fn.integer("and", self.n, -wide.width)
        vectors = fn.op(f"select i1 {unit}, i64 {whole}, i64 0")
        self.finish.at_matrix(batch)
        with fn.loop(first, fn.integer("add", first, rows)) as row:
            self.finish.at_row(row.index)
            line = fn.gep(a, fn.integer("mul", row.index, self.arguments.field(_A, "row")))
            for begin, end, lanes in (
                ("0", vectors, wide), (vectors, self.n, Lanes(fn, spec.element, 1))
            ):  # fmt: skip
                with fn.loop(begin, end, lanes.width) as column:
                    value = self._integer_sum(lanes, line, b, column.index)
                    self.finish.write(lanes, value, column.index, None)

    def _integer_sum(self, lanes: Lanes, a: str, b: str, column: str) -> str:
        """The sums over k of one row and the lanes from `column` on."""
        fn, field = self.fn, self.arguments.field
        start = fn.gep(b, fn.integer("mul", column, field(_B, "column")))
        carried = [(lanes.type, lanes.const(0)), ("ptr", a), ("ptr", start)]
        with fn.loop(0, self.k, 1, carried) as loop:
            sums, left, right = loop.values
            scalar = fn.load(lanes.element, left, lanes.bytes)
            product = lanes.mul(lanes.splat(scalar), lanes.load(right))
            loop.next = [
                lanes.add(sums, product),
                fn.gep(left, field(_A, "column")),
                fn.gep(right, field(_B, "row")),
            ]
        return loop.values[0]

    # -- floating point: register tiles
    def tiles(self) -> str:
        spec, fn = self.spec, self.fn
        self.variants = _Tiles(spec, tile_of(spec.element, spec.machine))
        self.few_rows = _FewRows(spec)
        if not self.plain:
            size = max(t.rows * t.columns for t in (self.variants.tile, self.few_rows.tile))
            self.buffer = fn.op(f"alloca [{size * spec.size} x i8], align 64")
        self._items(self._block)
        functions = [*self.variants.functions.values(), *self.few_rows.functions.values()]
        return module_text([*functions, self.few_rows.dots, fn])

    def _block(self, batch: list[str], flat: str, first: str, rows: str) -> None:
        """One item: panels of columns, blocks of k, tiles of rows."""
        fn, field = self.fn, self.arguments.field
        self.a_row, self.a_column, self.a_panel = (
            field(_A, name) for name in ("row", "column", "panel")
        )
        self.b_row, self.b_column = field(_B, "row"), field(_B, "column")
        a, b = self.arguments.pointer(_A, batch), self.arguments.pointer(_B, batch)
        self.first = first
        self.finish.at_matrix(batch)
        few = fn.icmp("ne", self.arguments.header("few_rows"), 0)
        columns = fn.op(
            f"select i1 {few}, i64 {self.few_rows.tile.columns}, i64 {self.variants.tile.columns}"
        )
        self._sums_at(columns, flat)
        steps = fn.call("i64", "llvm.smax.i64", ("i64", self.k), ("i64", "1"))
        panel_bytes = field(_B, "panel")
        with fn.loop(0, self.n, columns, [("ptr", b)]) as panel:
            start = panel.values[0]
            n = _smaller(fn, fn.integer("sub", self.n, panel.index), columns)
            functions, height = self._choose(few, n)
            with fn.loop(0, steps, KC) as block:
                right = fn.gep(start, fn.integer("mul", block.index, self.b_row))
                left = fn.gep(a, fn.integer("mul", block.index, self.a_column))
                with fn.loop(0, rows, height) as row:
                    m = _smaller(fn, fn.integer("sub", rows, row.index), height)
                    self._tile(functions, left, right, block.index, row.index, m, panel.index, n)
            panel.next = [fn.gep(start, panel_bytes)]

    def _choose(self, few: str, n: str) -> tuple[dict[int, str], str]:
        """The tile function of each height for a panel of `n` columns, and the full height."""
        fn = self.fn
        along_k = fn.icmp("ne", self.b_column, self.spec.size)
        functions = self.variants.choose(fn, n)
        for rows, name in self.few_rows.choose(fn, n, along_k).items():
            functions[rows] = _select(fn, few, name, functions[rows])
        height = fn.op(f"select i1 {along_k}, i64 1, i64 {self.few_rows.tile.rows}")
        height = fn.op(f"select i1 {few}, i64 {height}, i64 {self.variants.tile.rows}")
        return functions, height

    def _sums_at(self, columns: str, flat: str) -> None:
        """Where sums go: the output, or the tile buffer and the place of partial sums."""
        fn = self.fn
        if self.plain:
            self.sums_row = self.finish.steps[0]
            return
        self.sums_row = fn.integer("mul", columns, self.spec.size)
        row = fn.integer("add", fn.integer("mul", flat, self.m), self.first)
        at = fn.integer("mul", row, self.sums_row)
        self.partials = fn.gep(self.arguments.pointer(_PARTIAL, []), at)
        self.in_one = fn.icmp("sle", self.k, KC)

    def _sums_of(self, row: str, absolute: str, column: str) -> str:
        """Where the sums of the tile at `row` of the item (`absolute` of the matrix) go."""
        fn = self.fn
        if self.plain:
            line = fn.gep(self.finish.starts[0], fn.integer("mul", absolute, self.sums_row))
            return fn.gep(line, fn.integer("mul", column, self.spec.size))
        stored = fn.gep(self.partials, fn.integer("mul", row, self.sums_row))
        return _select(fn, self.in_one, self.buffer, stored)

    def _tile(
        self,
        functions: dict[int, str],
        left: str,
        right: str,
        k: str,
        row: str,
        m: str,
        column: str,
        n: str,
    ) -> None:
        """A tile of m rows, made of the heights that are the binary digits of m."""  # fmt: skip
        fn = self.fn
        absolute = fn.integer("add", self.first, row)
        sums = self._sums_of(row, absolute, column)
        height = _smaller(fn, fn.integer("sub", self.k, k), KC)
        accumulate = fn.icmp("sgt", k, 0)
        for rows in functions:
            with fn.when(fn.icmp("ne", fn.integer("and", m, rows), 0)):
                skip = fn.integer("and", m, -2 * rows)
                place = fn.integer("add", absolute, skip)
                panel = fn.integer("udiv", place, self.variants.tile.columns)
                inside = fn.integer("urem", place, self.variants.tile.columns)
                a = fn.gep(left, fn.integer("mul", panel, self.a_panel))
                a = fn.gep(a, fn.integer("mul", inside, self.a_row))
                c = fn.gep(sums, fn.integer("mul", skip, self.sums_row))
                fn.do(
                    f"call void {functions[rows]}(i64 {height}, ptr {a}, i64 {self.a_row}, "
                    f"i64 {self.a_column}, ptr {right}, i64 {self.b_row}, i64 {self.b_column}, "
                    f"ptr {c}, i64 {self.sums_row}, i64 {n}, i1 {accumulate})"
                )
        if not self.plain:
            with fn.when(fn.icmp("sge", fn.integer("add", k, KC), self.k)):
                self._finish_tile(sums, absolute, m, column, n)

    def _finish_tile(self, sums: str, row: str, m: str, column: str, n: str) -> None:
        """The epilogue over `m` rows and `n` columns of finished sums."""
        fn, spec = self.fn, self.spec
        masks = spec.machine.has_masks
        # Two registers at a time where masks are cheap: long epilogues gain by interleaving.
        wide = Lanes(fn, spec.element, spec.machine.lanes(spec.size) * (2 if masks else 1))
        whole = n if masks else fn.integer("and", n, -wide.width)
        with fn.loop(0, m) as line:
            self.finish.at_row(fn.integer("add", row, line.index))
            source = fn.gep(sums, fn.integer("mul", line.index, self.sums_row))
            with fn.loop(0, whole, wide.width) as c:
                mask = wide.lane_mask(c.index, n) if masks else None
                value = wide.load(fn.gep(source, c.index, spec.element))
                self.finish.write(wide, value, fn.integer("add", column, c.index), mask)
            if not masks:
                one = Lanes(fn, spec.element, 1)
                with fn.loop(whole, n) as c:
                    value = one.load(fn.gep(source, c.index, spec.element))
                    self.finish.write(one, value, fn.integer("add", column, c.index), None)


def emit_multiply(spec: MatmulSpec, epilogue: Epilogue | None, name: str) -> str:
    """The multiply kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``."""
    writer = _Multiply(spec, epilogue, name)
    return writer.tiles() if spec.is_float else writer.integers()


# -- packing -------------------------------------------------------------------------------
class _Pack:
    """Writes the kernel that copies a K x N matrix into panels of a tile's columns.

    A panel holds its columns of one step of k side by side; item p is panel p % panels of
    matrix p / panels. A (transposed) and B are packed by the same kernel.
    """

    def __init__(self, spec: MatmulSpec, name: str) -> None:
        self.fn = Function(name, _KERNEL_PARAMS, "i64")
        self.arguments = Arguments(self.fn)
        self.tile = tile_of(spec.element, spec.machine)
        self.lanes = Lanes(self.fn, spec.element, self.tile.lanes)
        self.size = spec.size
        self.line = self.tile.columns * spec.size

    def write(self) -> str:
        fn, field = self.fn, self.arguments.field
        n, self.k = self.arguments.header("n"), self.arguments.header("k")
        panels = self.arguments.header("row_blocks")
        self.row, self.column = field(0, "row"), field(0, "column")
        with fn.loop("%begin", "%end") as item:
            batch = self.arguments.batch_indices(fn.integer("udiv", item.index, panels))
            panel = fn.integer("urem", item.index, panels)
            first = fn.integer("mul", panel, self.tile.columns)
            source = fn.gep(self.arguments.pointer(0, batch), fn.integer("mul", first, self.column))
            target = fn.gep(
                self.arguments.pointer(1, batch), fn.integer("mul", panel, field(1, "panel"))
            )
            columns = _smaller(fn, fn.integer("sub", n, first), self.tile.columns)
            self._panel(source, target, columns)
        fn.do("ret i64 0")
        return module_text([fn])

    def _panel(self, source: str, target: str, columns: str) -> None:
        """Full vectors by the way that the strides allow, the rest one by one."""
        fn, width = self.fn, self.lanes.width
        along_columns = fn.icmp("eq", self.column, self.size)
        along_k = fn.op(f"xor i1 {along_columns}, true")
        along_k = fn.op(f"and i1 {along_k}, {fn.icmp('eq', self.row, self.size)}")
        either = fn.op(f"or i1 {along_columns}, {along_k}")
        whole = fn.integer("and", columns, -width)
        vectors = fn.op(f"select i1 {either}, i64 {whole}, i64 0")
        with fn.when(along_columns):
            self._copy(source, target, vectors)
        with fn.when(along_k):
            self._transpose(source, target, vectors)
        self._one_by_one(source, target, "0", vectors, columns)

    def _copy(self, source: str, target: str, columns: str) -> None:
        fn = self.fn
        with fn.loop(0, self.k) as k:
            s = fn.gep(source, fn.integer("mul", k.index, self.row))
            t = fn.gep(target, fn.integer("mul", k.index, self.line))
            with fn.loop(0, columns, self.lanes.width) as c:
                at = fn.integer("mul", c.index, self.size)
                self.lanes.store(self.lanes.load(fn.gep(s, at)), fn.gep(t, at))

    def _transpose(self, source: str, target: str, columns: str) -> None:
        """Square blocks: vectors along k are loaded, vectors along the columns stored."""
        fn, width = self.fn, self.lanes.width
        whole = fn.integer("and", self.k, -width)
        with fn.loop(0, columns, width) as c:
            s = fn.gep(source, fn.integer("mul", c.index, self.column))
            t = fn.gep(target, fn.integer("mul", c.index, self.size))
            with fn.loop(0, whole, width) as k:
                at = fn.gep(s, fn.integer("mul", k.index, self.size))
                rows = []
                for _ in range(width):
                    rows.append(self.lanes.load(at))
                    at = fn.gep(at, self.column)
                to = fn.gep(t, fn.integer("mul", k.index, self.line))
                for i, row in enumerate(transpose(self.lanes, rows)):
                    self.lanes.store(row, fn.gep(to, i * self.line) if i else to)
        self._one_by_one(source, target, whole, "0", columns)

    def _one_by_one(self, source: str, target: str, k0: str, begin: str, end: str) -> None:
        fn, one = self.fn, Lanes(self.fn, self.lanes.element, 1)
        with fn.loop(k0, self.k) as k:
            s = fn.gep(source, fn.integer("mul", k.index, self.row))
            t = fn.gep(target, fn.integer("mul", k.index, self.line))
            with fn.loop(begin, end) as c:
                value = one.load(fn.gep(s, fn.integer("mul", c.index, self.column)))
                one.store(value, fn.gep(t, fn.integer("mul", c.index, self.size)))


def transpose(lanes: Lanes, rows: list[str]) -> list[str]:
    """The transpose of `lanes.width` vectors by log2(width) rounds of pairwise exchanges."""
    width = lanes.width
    rows = list(rows)
    distance = 1
    while distance < width:
        for i in range(width):
            if i & distance:
                continue
            pair = rows[i], rows[i | distance]
            low = [x if not x & distance else width + (x ^ distance) for x in range(width)]
            high = [x | distance if not x & distance else width + x for x in range(width)]
            for target, order in ((i, low), (i | distance, high)):
                mask = ", ".join(f"i32 {x}" for x in order)
                rows[target] = lanes.fn.op(
                    f"shufflevector {lanes.type} {pair[0]}, {lanes.type} {pair[1]}, "
                    f"<{width} x i32> <{mask}>"
                )
        distance *= 2
    return rows


def emit_pack(spec: MatmulSpec, name: str) -> str:
    """The packing kernel of an element type."""
    return _Pack(spec, name).write()
