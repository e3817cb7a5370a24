"""Emission of the multiply kernels as LLVM IR: items, panels, blocks of k, epilogues.

One kernel serves all extents and strides of a :class:`MatmulSpec`. For each item (a block of
rows of one matrix of the batch) it walks panels of columns, blocks of k, and tiles of rows,
which the tile library computes. A tile of the product goes straight to the output, or, with an
epilogue, through a small buffer that stays in the first-level cache, so that the epilogue's
code exists once.

Blocks of k start from the partial sums of the block before, so a sum does not depend on the
blocking, nor on how items are divided.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import InternalCompilerError
from .gemm_spec import (
    KERNEL_PARAMS,
    Arguments,
    Epilogue,
    MatmulSpec,
    few_rows_tile,
    smaller,
    tile_of,
)
from .gemm_tiles import FRAME, TILES_PARAMS
from .llvm_text import Function, Lanes, module_text

__all__ = ["KC", "Finish", "emit_multiply", "identity"]

KC = 512
"""Steps of k per block: a panel of B of this height stays in the second-level cache."""

_A, _B, _PARTIAL, _FIRST = 0, 1, 2, 3  # operand records of the multiply kernel


# -- what happens to finished sums ---------------------------------------------------------
class Finish:
    """Applies the epilogue to finished sums and stores the outputs.

    The records of the outputs, and behind them of the extras, begin with that numbered `first`.
    Columns of the outputs are consecutive unless they are `scattered`.
    """

    def __init__(
        self, fn: Function, spec: MatmulSpec, epilogue: Epilogue, arguments: Arguments, first: int,
        scattered: bool = False,
    ) -> None:  # fmt: skip
        self.fn, self.spec, self.epilogue = fn, spec, epilogue
        self.arguments, self.first, self.scattered = arguments, first, scattered
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
class _Multiply:
    """Writes the multiply kernel of a floating-point or integer type."""

    def __init__(self, spec: MatmulSpec, epilogue: Epilogue | None, name: str) -> None:
        self.spec = spec
        self.plain = epilogue is None
        self.fn = Function(name, KERNEL_PARAMS, "i64")
        self.arguments = Arguments(self.fn)
        self.finish = Finish(self.fn, spec, epilogue or identity, self.arguments, _FIRST)
        self.m, self.n, self.k = (self.arguments.header(axis) for axis in ("m", "n", "k"))

    def _items(self, body: Callable[[list[str], str, str, str], None]) -> None:
        """Loop over items: `body(batch indices, flat batch index, first row, rows)`."""
        fn = self.fn
        height = self.arguments.header("block_rows")
        blocks = self.arguments.header("row_blocks")
        with fn.loop("%begin", "%end") as item:
            flat = fn.integer("udiv", item.index, blocks)
            first = fn.integer("mul", fn.integer("urem", item.index, blocks), height)
            rows = smaller(fn, fn.integer("sub", self.m, first), height)
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
        self.tile = tile_of(spec.element, spec.machine)
        self.line_tile = few_rows_tile(spec.element, spec.machine)
        self.frame = fn.op(f"alloca [{len(FRAME)} x i64], align 8")
        if not self.plain:
            size = max(tile.rows * tile.columns for tile in (self.tile, self.line_tile))
            self.buffer = fn.op(f"alloca [{size * spec.size} x i8], align 64")
        self.library = fn.op(f"inttoptr i64 {self.arguments.header('tiles')} to ptr")
        self._items(self._block)
        return module_text([fn])

    def _set(self, slot: str, value: str) -> None:
        """Set a slot of the frame."""
        at = self.fn.gep(self.frame, 8 * FRAME.index(slot))
        self.fn.store("i64", value, at, 8)

    def _block(self, batch: list[str], flat: str, first: str, rows: str) -> None:
        """One item: panels of columns, blocks of k, tiles of rows."""
        fn, field = self.fn, self.arguments.field
        self.a_row, a_column, self.a_panel = (
            field(_A, name) for name in ("row", "column", "panel")
        )
        b_row, panel_bytes = field(_B, "row"), field(_B, "panel")
        a, b = self.arguments.pointer(_A, batch), self.arguments.pointer(_B, batch)
        self.first = first
        self.finish.at_matrix(batch)
        flag = self.arguments.header("few_rows")
        few = fn.icmp("ne", flag, 0)
        columns, height = (
            fn.op(f"select i1 {few}, i64 {of_lines}, i64 {of_tiles}")
            for of_lines, of_tiles in (
                (self.line_tile.columns, self.tile.columns), (self.line_tile.rows, self.tile.rows)
            )
        )  # fmt: skip
        self._sums_at(columns, flat)
        strides = {"a_row": self.a_row, "a_column": a_column, "b_row": b_row,
                   "b_column": field(_B, "column"), "c_row": self.sums_row}  # fmt: skip
        for slot, value in {**strides, "few_rows": flag}.items():
            self._set(slot, value)
        steps = fn.call("i64", "llvm.smax.i64", ("i64", self.k), ("i64", "1"))
        with fn.loop(0, self.n, columns, [("ptr", b)]) as panel:
            start = panel.values[0]
            n = smaller(fn, fn.integer("sub", self.n, panel.index), columns)
            with fn.loop(0, steps, KC) as block:
                right = fn.gep(start, fn.integer("mul", block.index, b_row))
                left = fn.gep(a, fn.integer("mul", block.index, a_column))
                self._set("accumulate", block.index)
                with fn.loop(0, rows, height) as row:
                    m = smaller(fn, fn.integer("sub", rows, row.index), height)
                    self._tile(left, right, block.index, row.index, m, panel.index, n)
            panel.next = [fn.gep(start, panel_bytes)]

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
        return fn.op(f"select i1 {self.in_one}, ptr {self.buffer}, ptr {stored}")

    def _tile(self, left: str, right: str, k: str, row: str, m: str, column: str, n: str) -> None:
        """The tile of `m` rows and `n` columns at `row` of the item and `column`, from `k` on."""
        fn = self.fn
        absolute = fn.integer("add", self.first, row)
        sums = self._sums_of(row, absolute, column)
        height = smaller(fn, fn.integer("sub", self.k, k), KC)
        panel = fn.integer("udiv", absolute, self.tile.columns)
        inside = fn.integer("urem", absolute, self.tile.columns)
        a = fn.gep(left, fn.integer("mul", panel, self.a_panel))
        a = fn.gep(a, fn.integer("mul", inside, self.a_row))
        values = (self.frame, height, a, right, sums, m, n)
        arguments = (f"{t} {v}" for (t, _), v in zip(TILES_PARAMS, values, strict=True))
        fn.do(f"call void {self.library}({', '.join(arguments)})")
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
    if epilogue is None and (spec.outputs != (spec.element,) or spec.extras):
        raise InternalCompilerError(
            f"a product of {spec.element} without epilogue cannot yield {spec.outputs} "
            f"from {len(spec.extras)} extra operands",
            remedy="give emit_multiply the epilogue that computes them",
        )
    writer = _Multiply(spec, epilogue, name)
    return writer.tiles() if spec.is_float else writer.integers()
