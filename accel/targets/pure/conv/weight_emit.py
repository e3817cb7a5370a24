"""Emission of the weight gradient of convolutions as LLVM IR.

The gradient is a product: for each channel and tap (a line), and each output channel (lanes),
the sum over images and places of the source times the gradient of the result. The first
kernel packs a block of the source as a convolution does, turns the block of the result's
gradient so that output channels are beside each other, and lets the tile library add the
block's products to sums in scratch space: one set of sums for each of a fixed number of
chunks of blocks. The second adds up the chunks in order and turns the sums into the result.
"""

from __future__ import annotations

import functools

from ..gemm.spec import KERNEL_PARAMS, Arguments, smaller
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text
from . import tiles as conv_tiles
from . import turn as conv_turn
from .slab import Slab, fill
from .spec import WEIGHT_HEADER

__all__ = ["emit_gather", "emit_products"]

_GRADIENT, _SOURCE, _SCRATCH, _RESULT = 0, 1, 2, 3  # operand records


class _Kernel:
    """What both kernels share: arguments, and where sums lie."""

    def __init__(self, element: str, machine: Machine, name: str) -> None:
        self.fn = Function(name, KERNEL_PARAMS, "i64")
        self.arguments = Arguments(self.fn, WEIGHT_HEADER)
        self.size = ELEMENT_BYTES[element]
        self.lanes = Lanes(self.fn, element, machine.lanes(self.size))
        self.turn_frame = self.fn.op(f"alloca [{len(conv_turn.FRAME)} x i64], align 8")

    def header(self, name: str) -> str:
        return self.arguments.header(name)

    def function(self, name: str) -> str:
        return self.fn.op(f"inttoptr i64 {self.header(name)} to ptr")

    def turn(self, target: str, source: str, **frame: str) -> None:
        fill(self.fn, self.turn_frame, conv_turn.FRAME, frame)
        name = self.function("turn")
        self.fn.do(f"call void {name}(ptr {self.turn_frame}, ptr {target}, ptr {source})")

    def sums(self, chunk: str, group: str, line: str) -> str:
        """Where a line of a group's sums of a chunk begins."""
        fn = self.fn
        place = fn.integer("add", fn.integer("mul", chunk, self.header("groups")), group)
        line = fn.integer("add", fn.integer("mul", place, self.header("lines")), line)
        start = fn.gep(self.arguments.pointer(_SCRATCH, []), self.header("at_sums"))
        return fn.gep(start, fn.integer("mul", line, self.header("sums_row")))


class _Products(_Kernel):
    """Writes the kernel of the products. An item is a chunk of a block of channels of a group."""

    def write(self) -> str:
        fn = self.fn
        self.tile_frame = fn.op(f"alloca [{len(conv_tiles.FRAME)} x i64], align 8")
        self.slab = Slab(self.arguments, _SOURCE)
        part = fn.integer("udiv", "%begin", self.header("grain"))
        slot = fn.integer("mul", part, self.header("slot"))
        self.packed = fn.gep(self.arguments.pointer(_SCRATCH, []), slot)
        self.turned = fn.gep(self.packed, self.header("slab"))
        self._fill_tile_frame()
        with fn.loop("%begin", "%end") as item:
            self._item(item.index)
        fn.do("ret i64 0")
        return module_text([fn])

    def _tile(self, **values: str) -> None:
        fill(self.fn, self.tile_frame, conv_tiles.FRAME, values)

    def _fill_tile_frame(self) -> None:
        table = self.fn.gep("%args", self.header("at_steps"))
        pitch = self.fn.integer("mul", self.header("pitch"), self.size)
        vector = str(self.lanes.width * self.lanes.bytes)
        self._tile(
            table=self.fn.op(f"ptrtoint ptr {table} to i64"),
            a_step=pitch, c_row=self.header("sums_row"), b_vector=vector, c_vector=vector,
        )  # fmt: skip

    def _item(self, item: str) -> None:
        fn = self.fn
        blocks, chunks, groups = (self.header(n) for n in ("channel_blocks", "chunks", "groups"))
        block, rest = fn.integer("urem", item, blocks), fn.integer("udiv", item, blocks)
        self.group = fn.integer("urem", rest, groups)
        chunk = fn.integer("udiv", rest, groups)
        self.channel = fn.integer("mul", block, self.header("block_channels"))
        left = fn.integer("sub", self.header("channels"), self.channel)
        self.channels = smaller(fn, left, self.header("block_channels"))
        line = fn.integer("mul", self.channel, self.header("taps"))
        self.target = self.sums(chunk, self.group, line)
        every = self.header("blocks")
        begin = fn.integer("udiv", fn.integer("mul", chunk, every), chunks)
        after = fn.integer("mul", fn.integer("add", chunk, 1), every)
        self._tile(accumulate="0", inner="0", outer="0", b_step="0")
        self._add()
        self._tile(accumulate="1")
        with fn.loop(begin, fn.integer("udiv", after, chunks)) as place:
            self._block(place.index)
            self._add()

    def _block(self, block: str) -> None:
        """Add the products of one block of places."""
        fn, field = self.fn, self.arguments.field
        rest, digits = block, []
        for name in ("column_blocks", "row_blocks", "planes"):
            count = self.header(name)
            digits.append(fn.integer("urem", rest, count))
            rest = fn.integer("udiv", rest, count)
        (column, columns), (row, rows) = [
            self._extent(index, whole, size) for index, whole, size in (
                (digits[0], "columns", "block_columns"), (digits[1], "rows", "block_rows")
            )
        ]  # fmt: skip
        channel = fn.integer("mul", self.group, self.header("channels"))
        channel = fn.integer("add", channel, self.channel)
        source = self.arguments.pointer(_SOURCE, [rest, channel])
        self.slab.pack(self.packed, source, self.channels, (digits[2], row, column))
        output = fn.integer("mul", self.group, self.header("m"))
        gradient = self.arguments.pointer(_GRADIENT, [rest, output, digits[2]])
        gradient = fn.gep(gradient, fn.integer("mul", row, field(_GRADIENT, "row")))
        gradient = fn.gep(gradient, fn.integer("mul", column, field(_GRADIENT, "column")))
        line = fn.integer("mul", columns, self.header("sums_row"))
        carried = [("ptr", gradient), ("ptr", self.turned)]
        with fn.loop(0, rows, 1, carried) as loop:
            self.turn(
                loop.values[1], loop.values[0], lines=self.header("m"), columns=columns,
                line_stride=field(_GRADIENT, "batch1"), target_stride=self.header("sums_row"),
            )  # fmt: skip
            loop.next = [fn.gep(loop.values[0], field(_GRADIENT, "row")),
                         fn.gep(loop.values[1], line)]  # fmt: skip
        self._tile(inner=columns, outer=rows, b_step=line)

    def _add(self) -> None:
        """Add products to the sums of the item's channels."""
        fn = self.fn
        table = fn.gep("%args", self.header("at_lines"))
        m = fn.integer("mul", self.channels, self.header("taps"))
        n = fn.integer("udiv", self.header("sums_row"), self.size)
        values = (self.tile_frame, table, self.packed, self.turned, self.target, m, n)
        pairs = zip(conv_tiles.TILES_PARAMS, values, strict=True)
        tiles = self.function("tiles")
        fn.do(f"call void {tiles}({', '.join(f'{t} {v}' for (t, _), v in pairs)})")

    def _extent(self, index: str, whole: str, size: str) -> tuple[str, str]:
        fn, extent = self.fn, self.header(size)
        first = fn.integer("mul", index, extent)
        return first, smaller(fn, fn.integer("sub", self.header(whole), first), extent)


class _Gather(_Kernel):
    """Writes the kernel that adds up chunks and turns sums into the result. An item is a block
    of lines of a group."""

    def write(self) -> str:
        fn, lanes = self.fn, self.lanes
        blocks, row = self.header("line_blocks"), self.header("sums_row")
        count = self.header("block_lines")
        with fn.loop("%begin", "%end") as item:
            group = fn.integer("udiv", item.index, blocks)
            line = fn.integer("mul", fn.integer("urem", item.index, blocks), count)
            lines = smaller(fn, fn.integer("sub", self.header("lines"), line), count)
            first = self.sums("0", group, line)
            length = fn.integer("mul", lines, row)
            with fn.loop(1, self.header("chunks")) as chunk:
                other = self.sums(chunk.index, group, line)
                with fn.loop(0, length, lanes.width * lanes.bytes) as at:
                    place = fn.gep(first, at.index)
                    added = lanes.load(fn.gep(other, at.index))
                    lanes.store(lanes.add(lanes.load(place), added), place)
            output = fn.integer("mul", group, self.header("m"))
            target = self.arguments.pointer(_RESULT, [output])
            self.turn(
                fn.gep(target, line, lanes.element), first, lines=lines,
                columns=self.header("m"), line_stride=row,
                target_stride=self.arguments.field(_RESULT, "batch0"),
            )  # fmt: skip
        fn.do("ret i64 0")
        return module_text([fn])


@functools.cache
def emit_products(element: str, machine: Machine) -> str:
    """The kernel ``i64 products(ptr bases, ptr args, i64 begin, i64 end)``."""
    return _Products(element, machine, "products").write()


@functools.cache
def emit_gather(element: str, machine: Machine) -> str:
    """The kernel ``i64 gather(ptr bases, ptr args, i64 begin, i64 end)``."""
    return _Gather(element, machine, "gather").write()
