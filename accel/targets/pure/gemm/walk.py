"""The walk of a floating-point product over its items: blocks of k, panels of columns, tiles.

It depends neither on how tiles of the product are computed nor on what happens to them afterwards,
so it is compiled once: a tile library does the one, a function that the multiply kernel hands over
the other. For each item (a block of rows and columns of one matrix of the
batch) it goes over blocks of k, panels of columns, and tiles of rows. A tile of the product goes
straight to the output, or, where it is to be finished, through a small buffer that stays in the
first-level cache.

Blocks of k start from the partial sums of the block before, so a sum does not depend on the
blocking, nor on how items are divided. Partial sums lie in the output where it has their type.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ....ir.dataclass import dataclass
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, LINE, Function, module_text
from .spec import FIRST_FINISHED, KERNEL_PARAMS, RECORD_BYTES, Arguments, smaller, tile_of
from .tiles import FRAME, TILES_PARAMS, call_of

__all__ = ["FINISH_PARAMS", "TILE_BYTES", "WALK_PARAMS", "Item", "emit_walk", "items"]

TILE_BYTES = 16 << 10
"""Bytes of the sums of a tile at most: to be finished they wait in a buffer of this size."""

WALK_PARAMS = [*KERNEL_PARAMS, ("ptr", "finish"), ("ptr", "room")]
"""Those of the kernel that calls the walk, what finishes tiles, and room for what it is handed:
`TILE_BYTES` bytes for sums, and for addresses. Both are null where nothing is done to the sums."""

FINISH_PARAMS = [
    ("ptr", "args"), ("ptr", "starts"), ("ptr", "sums"), ("i64", "sums_row"),
    ("i64", "row"), ("i64", "column"), ("i64", "m"), ("i64", "n"),
]  # fmt: skip
"""Of what finishes a tile: the argument block, where the matrices of outputs and extras begin,
the sums and the bytes of a row of them, and which rows and columns of the product they are."""

_A, _B, _PARTIAL = 0, 1, 2  # operand records


@dataclass(frozen=True)
class Item:
    """One work item: a block of rows and columns of one matrix of the batch."""

    batch: list[str]
    row: str
    rows: str
    column: str
    columns: str


def items(fn: Function, arguments: Arguments, body: Callable[[Item], None]) -> None:
    """Write the loop over items: blocks of columns in turn, then of rows, then matrices."""
    header = arguments.header
    m, n = header("m"), header("n")
    height, width = header("block_rows"), header("block_columns")
    down, along = header("row_blocks"), header("column_blocks")
    with fn.loop("%begin", "%end") as item:
        block = fn.integer("udiv", item.index, along)
        column = fn.integer("mul", fn.integer("urem", item.index, along), width)
        row = fn.integer("mul", fn.integer("urem", block, down), height)
        rows = smaller(fn, fn.integer("sub", m, row), height)
        columns = smaller(fn, fn.integer("sub", n, column), width)
        batch = arguments.batch_indices(fn.integer("udiv", block, down))
        body(Item(batch, row, rows, column, columns))
    fn.do("ret i64 0")


class _Walk:
    """Writes the walk over items."""

    def __init__(self, element: str, machine: Machine) -> None:
        self.size = ELEMENT_BYTES[element]
        self.panel_rows = tile_of(element, machine).columns
        self.fn = Function("walk", WALK_PARAMS, "i64", instructions=machine.instructions)
        self.arguments = Arguments(self.fn)

    def write(self) -> str:
        fn, header = self.fn, self.arguments.header
        self.frame = fn.op(f"alloca [{len(FRAME)} x i64], align 8")
        self.starts = fn.gep("%room", TILE_BYTES)
        self.n, self.k = header("n"), header("k")
        self.library = fn.op(f"inttoptr i64 {header('library')} to ptr")
        self.height, self.width, self.block_k, ahead = (
            header(name) for name in ("height", "width", "block_k", "ahead")
        )
        field = self.arguments.field
        self.a_row, self.a_column, self.a_panel = (
            field(_A, name) for name in ("row", "column", "panel")
        )
        self.b_row, self.b_panel = field(_B, "row"), field(_B, "panel")
        self.partial_row = field(_PARTIAL, "row")
        self.finishes = fn.op("icmp ne ptr %finish, null")
        self.asked = header("asked")
        self.finished = fn.op(f"select i1 {self.finishes}, i64 {header('finished')}, i64 0")
        # To memory of the whole product if k is divided or nothing is done to the sums.
        in_one = fn.icmp("sle", self.k, self.block_k)
        self.through = fn.op(f"and i1 {self.finishes}, {in_one}")
        row = fn.integer("mul", self.width, self.size)
        self.sums_row = fn.op(f"select i1 {self.through}, i64 {row}, i64 {self.partial_row}")
        slots = {"a_row": self.a_row, "a_column": self.a_column, "b_row": self.b_row,
                 "b_column": field(_B, "column"), "c_row": self.sums_row,
                 "tiles": header("tiles"), "ahead_step": ahead}  # fmt: skip
        for slot, value in slots.items():
            self._set(slot, value)
        items(fn, self.arguments, self._item)
        return module_text([fn])

    def _set(self, slot: str, value: str) -> None:
        """Set a slot of the frame."""
        at = self.fn.gep(self.frame, 8 * FRAME.index(slot))
        self.fn.store("i64", value, at, 8)

    def _item(self, item: Item) -> None:
        """One item: blocks of k, panels of columns, tiles of rows."""
        fn = self.fn
        a, b = self.arguments.pointer(_A, item.batch), self.arguments.pointer(_B, item.batch)
        self.partials = self.arguments.pointer(_PARTIAL, item.batch)
        with self._records(self.finished) as (number, record):
            start = record.pointer(0, item.batch)
            fn.store("ptr", start, fn.gep(self.starts, number, "ptr"), 8)
        skipped = fn.integer("udiv", item.column, self.width)
        first = fn.gep(b, fn.integer("mul", skipped, self.b_panel))
        steps = fn.call("i64", "llvm.smax.i64", ("i64", self.k), ("i64", "1"))
        end = fn.integer("add", item.column, item.columns)
        with fn.loop(0, steps, self.block_k) as block:
            self._set("accumulate", block.index)
            left = fn.gep(a, fn.integer("mul", block.index, self.a_column))
            down = fn.integer("mul", block.index, self.b_row)
            start, again = fn.gep(first, down), fn.gep(b, down)
            with fn.loop(item.column, end, self.width, [("ptr", start)]) as panel:
                n = smaller(fn, fn.integer("sub", end, panel.index), self.width)
                following = fn.gep(panel.values[0], self.b_panel)
                more = fn.icmp("slt", fn.integer("add", panel.index, self.width), self.n)
                ahead = fn.op(f"select i1 {more}, ptr {following}, ptr {again}")
                self._set("ahead", fn.op(f"ptrtoint ptr {ahead} to i64"))
                with fn.loop(0, item.rows, self.height) as row:
                    m = smaller(fn, fn.integer("sub", item.rows, row.index), self.height)
                    at = fn.integer("add", item.row, row.index)
                    self._tile(left, panel.values[0], block.index, at, m, panel.index, n)
                panel.next = [following]

    @contextmanager
    def _records(self, count: str) -> Iterator[tuple[str, Arguments]]:
        """Loop over `count` records of what finishing writes and reads: their numbers, and each
        as the only record of a block."""
        fn = self.fn
        first = fn.gep("%args", self.arguments.place_of(FIRST_FINISHED))
        with fn.loop(0, count, 1, [("ptr", first)]) as loop:
            (at,) = loop.values
            yield loop.index, Arguments(fn, (), block=at)
            loop.next = [fn.gep(at, RECORD_BYTES)]

    def _tile(self, left: str, right: str, k: str, row: str, m: str, column: str, n: str) -> None:
        """The tile of `m` rows and `n` columns at `row` and `column`, from `k` on."""
        fn = self.fn
        line = fn.gep(self.partials, fn.integer("mul", row, self.partial_row))
        place = fn.gep(line, fn.integer("mul", column, self.size))
        sums = fn.op(f"select i1 {self.through}, ptr %room, ptr {place}")
        steps = smaller(fn, fn.integer("sub", self.k, k), self.block_k)
        panel = fn.integer("udiv", row, self.panel_rows)
        inside = fn.integer("urem", row, self.panel_rows)
        a = fn.gep(left, fn.integer("mul", panel, self.a_panel))
        a = fn.gep(a, fn.integer("mul", inside, self.a_row))
        last = fn.icmp("sge", fn.integer("add", k, self.block_k), self.k)
        last = fn.op(f"and i1 {self.finishes}, {last}")
        self._ask(fn.op(f"select i1 {last}, i64 {self.asked}, i64 0"), row, m, column, n)
        call = call_of(self.library, TILES_PARAMS, self.frame, steps, a, right, sums, m, n)
        fn.do(f"call void {call}")
        with fn.when(last):
            values = ("%args", self.starts, sums, self.sums_row, row, column, m, n)
            fn.do(f"call void {call_of('%finish', FINISH_PARAMS, *values)}")

    def _ask(self, count: str, row: str, m: str, column: str, n: str) -> None:
        """Ask for what finishing the tile reads from afar, while its sums are computed."""
        fn = self.fn
        with self._records(count) as (number, record):
            size, step = record.field(0, "panel"), record.field(0, "row")
            start = fn.load("ptr", fn.gep(self.starts, number, "ptr"), 8)
            line = fn.gep(start, fn.integer("mul", row, step))
            line = fn.gep(line, fn.integer("mul", column, size))
            bytes_ = fn.integer("mul", n, size)  # none of what is near
            with fn.loop(0, m, carried=[("ptr", line)]) as lines:
                with fn.loop(0, bytes_, LINE) as place:
                    fn.prefetch(fn.gep(lines.values[0], place.index))
                lines.next = [fn.gep(lines.values[0], step)]


@functools.cache
def emit_walk(element: str, machine: Machine) -> str:
    """The walk of an element type, a function of `WALK_PARAMS` named ``walk``."""
    return _Walk(element, machine).write()
