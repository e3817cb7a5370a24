"""Emission of the multiply kernels as LLVM IR: items, panels, blocks of k, epilogues.

One kernel serves all extents and strides of a :class:`MatmulSpec`. For each item (a block of
rows and columns of one matrix of the batch) it walks blocks of k, panels of columns, and tiles
of rows, which a tile library computes; which one, and how large its tiles are, the arguments
say. A tile of the product goes straight to the output, or, with an epilogue, through a small
buffer that stays in the first-level cache, so that the epilogue's code exists once.

Blocks of k start from the partial sums of the block before, so a sum does not depend on the
blocking, nor on how items are divided. Partial sums lie in the output where it has their type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....errors import InternalCompilerError
from ....ir.dataclass import dataclass
from ..machine.llvm_text import ELEMENT_BYTES, LINE, Function, Lanes, module_text
from .spec import (
    KERNEL_PARAMS,
    Arguments,
    Epilogue,
    MatmulSpec,
    smaller,
    tile_of,
)
from .tiles import FRAME, TILES_PARAMS

__all__ = ["TILE_BYTES", "Finish", "emit_multiply", "identity"]

TILE_BYTES = 16 << 10
"""Bytes of the sums of a tile at most: with an epilogue they wait in a buffer of this size."""

_FAR_BYTES = 1 << 20  # of an operand of the epilogue, which then does not wait in a cache
_A, _B, _PARTIAL, _FIRST = 0, 1, 2, 3  # operand records of the multiply kernel


# -- what happens to finished sums ---------------------------------------------------------
class Finish:
    """Applies the epilogue to finished sums and stores the outputs.

    The records of the outputs, and behind them of the extras, begin with that numbered `first`.
    Columns of the outputs are consecutive unless they are `scattered`; whole vectors of them pass
    by the caches if they are `streamed`, and then lie on boundaries of as many bytes.
    """

    def __init__(
        self, fn: Function, spec: MatmulSpec, epilogue: Epilogue, arguments: Arguments, first: int,
        scattered: bool = False, streamed: bool = False,
    ) -> None:  # fmt: skip
        self.fn, self.spec, self.epilogue = fn, spec, epilogue
        self.arguments, self.first = arguments, first
        self.scattered, self.streamed = scattered, streamed
        self.starts: list[str] = []
        self.steps: list[str] = []
        self.outputs: list[str] = []
        self.extras: list[str] = []

    def at_matrix(self, batch: list[str]) -> None:
        """Set the addresses of the outputs and extras at a matrix of the batch."""
        outputs = len(self.spec.outputs)
        self.starts, self.steps = [], []
        for record in range(self.first, self.first + outputs + len(self.spec.extras)):
            extra = record - self.first - outputs
            if extra >= 0 and self.spec.extras[extra].columns == "constant":
                self.starts.append(self.arguments.field(record, "offset"))
                self.steps.append("")
            else:
                self.starts.append(self.arguments.pointer(record, batch))
                self.steps.append(self.arguments.field(record, "row"))

    def at_row(self, row: str, output: str | None = None) -> None:
        """Set the addresses of the extras at a row of the product, and of the outputs there or
        at a row of their own."""
        outputs = len(self.spec.outputs)
        rows = [output or row] * outputs + [row] * len(self.spec.extras)
        lines = [
            self.fn.gep(start, self.fn.integer("mul", row, step)) if step else start
            for row, start, step in zip(rows, self.starts, self.steps, strict=True)
        ]
        self.outputs, self.extras = lines[:outputs], lines[outputs:]

    def write(self, lanes: Lanes, value: str, column: str, mask: str | None) -> None:
        """Finish the sums `value` of the columns from `column` on, those in `mask` only."""
        self.store(lanes, self.results(lanes, value, column, mask), column, mask)

    def results(
        self, lanes: Lanes, value: str, column: str, mask: str | None
    ) -> Sequence[str]:
        """The epilogue on the sums `value`, one result an output."""
        return self.epilogue(lanes, value, lambda i: self._extra(lanes, i, column, mask))

    def store(
        self, lanes: Lanes, results: Sequence[str], column: str, mask: str | None
    ) -> None:
        """Write results to the outputs' columns from `column` on, those in `mask` only."""
        for place, (element, line, result) in enumerate(
            zip(self.spec.outputs, self.outputs, results, strict=True)
        ):
            target = lanes.like(element)
            if element == "i1":
                result, target = lanes.like("i8").convert("zext", result, target), lanes.like("i8")
            if self.scattered:
                stride = self.arguments.field(self.first + place, "column")
                self._scatter(target, result, line, stride, column, mask)
                continue
            at = self.fn.gep(line, self.fn.integer("mul", column, target.bytes))
            if mask is None and self.streamed:
                align = min(LINE, target.width * target.bytes)
                self.fn.stream(target.type, result, at, align)
            elif mask is None:
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
            record = self.first + len(self.spec.outputs) + index
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
        return self.fn.call(
            memory.type, f"llvm.masked.gather.{memory.suffix}.v{memory.width}p0",
            self._apart(memory.width, first, stride), ("i32", str(memory.bytes)),
            (memory.mask_type, mask or "splat (i1 true)"), (memory.type, memory.const(0)),
        )  # fmt: skip

    def _scatter(
        self, memory: Lanes, value: str, line: str, stride: str, column: str, mask: str | None
    ) -> None:
        first = self.fn.gep(line, self.fn.integer("mul", column, stride))
        if memory.width == 1:
            memory.store(value, first)
            return
        self.fn.call(
            "void", f"llvm.masked.scatter.{memory.suffix}.v{memory.width}p0",
            (memory.type, value), self._apart(memory.width, first, stride),
            ("i32", str(memory.bytes)), (memory.mask_type, mask or "splat (i1 true)"),
        )  # fmt: skip

    def _apart(self, width: int, first: str, stride: str) -> tuple[str, str]:
        """The addresses of `width` lanes, `stride` bytes apart."""
        longs = Lanes(self.fn, "i64", width)
        steps = "<" + ", ".join(f"i64 {i}" for i in range(width)) + ">"
        offsets = longs.mul(longs.splat(stride), steps)
        pointers = self.fn.op(f"getelementptr i8, ptr {first}, {longs.type} {offsets}")
        return f"<{width} x ptr>", pointers


def identity(lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
    return [value]


# -- the multiply kernel -------------------------------------------------------------------
@dataclass(frozen=True)
class _Item:
    """One work item: a block of rows and columns of one matrix of the batch."""

    batch: list[str]
    row: str
    rows: str
    column: str
    columns: str


class _Multiply:
    """Writes the multiply kernel of a floating-point or integer type."""

    def __init__(self, spec: MatmulSpec, epilogue: Epilogue | None, name: str) -> None:
        self.spec = spec
        self.plain = epilogue is None
        own = spec.machine.instructions
        self.fn = Function(name, KERNEL_PARAMS, "i64", instructions=own)
        self.arguments = Arguments(self.fn)
        self.finish = Finish(self.fn, spec, epilogue or identity, self.arguments, _FIRST)
        self.m, self.n, self.k = (self.arguments.header(axis) for axis in ("m", "n", "k"))

    def _items(self, body: Callable[[_Item], None]) -> None:
        """Loop over items: blocks of columns in turn, then of rows, then matrices."""
        fn, header = self.fn, self.arguments.header
        height, width = header("block_rows"), header("block_columns")
        down, along = header("row_blocks"), header("column_blocks")
        with fn.loop("%begin", "%end") as item:
            block = fn.integer("udiv", item.index, along)
            column = fn.integer("mul", fn.integer("urem", item.index, along), width)
            row = fn.integer("mul", fn.integer("urem", block, down), height)
            rows = smaller(fn, fn.integer("sub", self.m, row), height)
            columns = smaller(fn, fn.integer("sub", self.n, column), width)
            batch = self.arguments.batch_indices(fn.integer("udiv", block, down))
            body(_Item(batch, row, rows, column, columns))
        fn.do("ret i64 0")

    # -- integers: lanes along the columns
    def integers(self) -> str:
        self._items(self._integer_block)
        return module_text([self.fn])

    def _integer_block(self, item: _Item) -> None:
        fn, spec = self.fn, self.spec
        wide = Lanes(fn, spec.element, spec.machine.lanes(spec.size))
        a, b = self.arguments.pointer(_A, item.batch), self.arguments.pointer(_B, item.batch)
        unit = fn.icmp("eq", self.arguments.field(_B, "column"), spec.size)
        whole = fn.integer("and", item.columns, -wide.width)
        vectors = fn.op(f"select i1 {unit}, i64 {whole}, i64 0")
        vectors = fn.integer("add", item.column, vectors)
        end = fn.integer("add", item.column, item.columns)
        self.finish.at_matrix(item.batch)
        with fn.loop(item.row, fn.integer("add", item.row, item.rows)) as row:
            self.finish.at_row(row.index)
            line = fn.gep(a, fn.integer("mul", row.index, self.arguments.field(_A, "row")))
            for first, last, lanes in (
                (item.column, vectors, wide), (vectors, end, Lanes(fn, spec.element, 1))
            ):  # fmt: skip
                with fn.loop(first, last, lanes.width) as column:
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

    # -- floating point: tiles of a library
    def tiles(self) -> str:
        fn, header = self.fn, self.arguments.header
        self.frame = fn.op(f"alloca [{len(FRAME)} x i64], align 8")
        if not self.plain:
            self.buffer = fn.op(f"alloca [{TILE_BYTES} x i8], align 64")
        self.library = fn.op(f"inttoptr i64 {header('library')} to ptr")
        self.height, self.width, self.block_k, self.ahead = (
            header(name) for name in ("height", "width", "block_k", "ahead")
        )
        self.in_one = fn.icmp("sle", self.k, self.block_k)
        self._items(self._block)
        return module_text([fn])

    def _set(self, slot: str, value: str) -> None:
        """Set a slot of the frame."""
        at = self.fn.gep(self.frame, 8 * FRAME.index(slot))
        self.fn.store("i64", value, at, 8)

    def _block(self, item: _Item) -> None:
        """One item: blocks of k, panels of columns, tiles of rows."""
        fn, field = self.fn, self.arguments.field
        self.a_row, a_column, self.a_panel = (
            field(_A, name) for name in ("row", "column", "panel")
        )
        b_row, panel_bytes = field(_B, "row"), field(_B, "panel")
        a, b = self.arguments.pointer(_A, item.batch), self.arguments.pointer(_B, item.batch)
        self.finish.at_matrix(item.batch)
        self._sums_at(item)
        strides = {"a_row": self.a_row, "a_column": a_column, "b_row": b_row,
                   "b_column": field(_B, "column"), "c_row": self.sums_row,
                   "tiles": self.arguments.header("tiles"), "ahead_step": self.ahead}  # fmt: skip
        for slot, value in strides.items():
            self._set(slot, value)
        skipped = fn.integer("udiv", item.column, self.width)
        first = fn.gep(b, fn.integer("mul", skipped, panel_bytes))
        steps = fn.call("i64", "llvm.smax.i64", ("i64", self.k), ("i64", "1"))
        end = fn.integer("add", item.column, item.columns)
        with fn.loop(0, steps, self.block_k) as block:
            self._set("accumulate", block.index)
            left = fn.gep(a, fn.integer("mul", block.index, a_column))
            down = fn.integer("mul", block.index, b_row)
            start, again = fn.gep(first, down), fn.gep(b, down)
            with fn.loop(item.column, end, self.width, [("ptr", start)]) as panel:
                n = smaller(fn, fn.integer("sub", end, panel.index), self.width)
                following = fn.gep(panel.values[0], panel_bytes)
                more = fn.icmp("slt", fn.integer("add", panel.index, self.width), self.n)
                ahead = fn.op(f"select i1 {more}, ptr {following}, ptr {again}")
                self._set("ahead", fn.op(f"ptrtoint ptr {ahead} to i64"))
                with fn.loop(0, item.rows, self.height) as row:
                    m = smaller(fn, fn.integer("sub", item.rows, row.index), self.height)
                    at = fn.integer("add", item.row, row.index)
                    self._tile(left, panel.values[0], block.index, at, m, panel.index, n)
                panel.next = [following]

    def _sums_at(self, item: _Item) -> None:
        """Where sums go: to memory of the whole product if k is divided or nothing is done to
        them, else to the tile buffer."""
        fn = self.fn
        self.partials = self.arguments.pointer(_PARTIAL, item.batch)
        self.partial_row = self.sums_row = self.arguments.field(_PARTIAL, "row")
        if not self.plain:
            row = fn.integer("mul", self.width, self.spec.size)
            self.sums_row = fn.op(f"select i1 {self.in_one}, i64 {row}, i64 {self.partial_row}")

    def _sums_of(self, row: str, column: str) -> str:
        """Where the sums of the tile at `row` and `column` go."""
        fn = self.fn
        line = fn.gep(self.partials, fn.integer("mul", row, self.partial_row))
        place = fn.gep(line, fn.integer("mul", column, self.spec.size))
        if self.plain:
            return place
        return fn.op(f"select i1 {self.in_one}, ptr {self.buffer}, ptr {place}")

    def _tile(self, left: str, right: str, k: str, row: str, m: str, column: str, n: str) -> None:
        """The tile of `m` rows and `n` columns at `row` and `column`, from `k` on."""
        fn, panel_rows = self.fn, tile_of(self.spec.element, self.spec.machine).columns
        sums = self._sums_of(row, column)
        steps = smaller(fn, fn.integer("sub", self.k, k), self.block_k)
        panel = fn.integer("udiv", row, panel_rows)
        inside = fn.integer("urem", row, panel_rows)
        a = fn.gep(left, fn.integer("mul", panel, self.a_panel))
        a = fn.gep(a, fn.integer("mul", inside, self.a_row))
        last = fn.icmp("sge", fn.integer("add", k, self.block_k), self.k)
        if not self.plain:
            with fn.when(last):
                self._ask_extras(row, m, column, n)
        values = (self.frame, steps, a, right, sums, m, n)
        arguments = (f"{t} {v}" for (t, _), v in zip(TILES_PARAMS, values, strict=True))
        fn.do(f"call void {self.library}({', '.join(arguments)})")
        if not self.plain:
            with fn.when(last):
                self._finish_tile(sums, row, m, column, n)

    def _ask_extras(self, row: str, m: str, column: str, n: str) -> None:
        """Ask for what the epilogue of a tile reads from afar, while its sums are computed."""
        fn, outputs = self.fn, len(self.spec.outputs)
        for number, extra in enumerate(self.spec.extras):
            if extra.columns != "unit":
                continue
            start, step = (of[outputs + number] for of in (self.finish.starts, self.finish.steps))
            with fn.when(fn.icmp("sgt", fn.integer("mul", self.m, step), _FAR_BYTES)):
                size = ELEMENT_BYTES[extra.element]
                line = fn.gep(start, fn.integer("mul", row, step))
                line = fn.gep(line, fn.integer("mul", column, size))
                with fn.loop(0, m, carried=[("ptr", line)]) as lines:
                    with fn.loop(0, fn.integer("mul", n, size), LINE) as place:
                        fn.prefetch(fn.gep(lines.values[0], place.index))
                    lines.next = [fn.gep(lines.values[0], step)]

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


def check_epilogue(spec: MatmulSpec, epilogue: Epilogue | None, work: str, writer: str) -> None:
    """Refuse outputs and extras that only an epilogue could use where there is none."""
    if epilogue is None and (spec.outputs != (spec.element,) or spec.extras):
        raise InternalCompilerError(
            f"{work} of {spec.element} without epilogue cannot yield {spec.outputs} "
            f"from {len(spec.extras)} extra operands",
            remedy=f"give {writer} the epilogue that computes them",
        )


def emit_multiply(
    spec: MatmulSpec, epilogue: Epilogue | None = None, name: str = "multiply"
) -> str:
    """The multiply kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``.

    Its text depends on `spec` and on what `epilogue` writes, on nothing else.

    Raises
    ------
    InternalCompilerError
        If there is no epilogue but extras or outputs that only one could use.
    """
    check_epilogue(spec, epilogue, "a product", "emit_multiply")
    writer = _Multiply(spec, epilogue, name)
    return writer.tiles() if spec.is_float else writer.integers()
