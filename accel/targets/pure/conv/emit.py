"""Emission of the convolution kernel as LLVM IR: items, packing, tiles, epilogue.

For each item, a block of places and output channels, the kernel copies what the block sees of
the source into scratch space, where every tap is a constant distance away (or reads the source
as it lies, if it is so already), lets the tile library sum a few channels over the block's
places into a small buffer, and writes that with the epilogue to the outputs.

The rows of a block follow each other in the packed source at a pitch that includes what the
taps see beyond a row. Tiles run over all of it, so that short rows fill vectors too; what they
sum between two rows means nothing and is left in the buffer. Where rows are a few whole vectors,
tiles run down instead, over the first vectors of the rows, then the second ones. Where few
products are summed, there is neither library nor buffer: see `strips`.
"""

from __future__ import annotations

import functools

from ..gemm.emit import Finish, check_epilogue, identity
from ..gemm.spec import KERNEL_PARAMS, Arguments, Epilogue, MatmulSpec, smaller
from ..machine.llvm_text import Function, Lanes, module_text
from . import tiles as conv_tiles
from .slab import Slab, fill
from .spec import FLAG_BYTES, HEADER
from .store import finish_pools, finish_rows
from .strips import Strips, write_strips

__all__ = ["emit_windows"]

_WEIGHT, _SOURCE, _SCRATCH, _FIRST = 0, 1, 2, 3  # operand records


class _Windows:
    """Writes the convolution kernel."""

    def __init__(
        self, spec: MatmulSpec, epilogue: Epilogue | None, name: str, scattered: bool,
        pooled: bool, strips: Strips | None,
    ) -> None:  # fmt: skip
        self.spec, self.strips = spec, strips
        self.write_rows = finish_pools if pooled else finish_rows
        own = spec.machine.instructions
        self.fn = Function(name, KERNEL_PARAMS, "i64", instructions=own)
        self.arguments = Arguments(self.fn, HEADER)
        self.new_finish = functools.partial(
            Finish, self.fn, spec, epilogue or identity, self.arguments, _FIRST, scattered,
            strips is not None and strips.streamed,
        )  # fmt: skip
        self.finish = self.new_finish()
        self.lanes = Lanes(self.fn, spec.element, spec.machine.lanes(spec.size))

    def header(self, name: str) -> str:
        return self.arguments.header(name)

    def write(self) -> str:
        fn = self.fn
        self.slab = Slab(self.arguments, _SOURCE)
        known = fn.op("alloca i64, align 8")
        fn.store("i64", "-1", known, 8)
        space = self.arguments.pointer(_SCRATCH, [])
        self._return_unless_needed(space)
        part = fn.integer("udiv", "%begin", self.header("grain"))
        slot = fn.integer("mul", part, self.header("slot"))
        self.packed = fn.gep(fn.gep(space, FLAG_BYTES), slot)
        self.sums = fn.gep(self.packed, self.header("slab"))
        if self.strips is None:
            self._tile_frame()
        with fn.loop("%begin", "%end") as item:
            self._place(item.index)
            with fn.when(fn.icmp("ne", self.header("packed"), 0)):
                with fn.when(fn.icmp("ne", fn.load("i64", known, 8), self.block)):
                    self.slab.pack(
                        self.packed, self._source(), self.header("channels"),
                        (self.plane, self.row, self.column),
                    )  # fmt: skip
                    fn.store("i64", self.block, known, 8)
            if self.strips is None:
                self._sum()
            else:
                self._sum_strips(self.strips)
        if fn.streams:
            fn.do("fence seq_cst")
        fn.do("ret i64 0")
        return module_text([fn])

    def _return_unless_needed(self, flag: str) -> None:
        """Return from a guarded call whose flag is not set."""
        fn = self.fn
        guarded, skip, run = fn.label("guarded"), fn.label("skip"), fn.label("run")
        fn.cond_br(fn.icmp("ne", self.header("guarded"), 0), guarded, run)
        fn.block(guarded)
        fn.cond_br(fn.icmp("eq", fn.load("i64", flag, 8), 0), skip, run)
        fn.block(skip)
        fn.do("ret i64 0")
        fn.block(run)

    def _tile_frame(self) -> None:
        self.tile_frame = self.fn.op(f"alloca [{len(conv_tiles.FRAME)} x i64], align 8")
        self.lined = self.fn.icmp("ne", self.header("lined"), 0)
        table = self.fn.gep("%args", self.header("at_steps"))
        values = {
            "table": self.fn.op(f"ptrtoint ptr {table} to i64"),
            **{name: self.header(name) for name in ("inner", "outer", "a_step", "b_step")},
            "c_row": self.header("sums_row"), "accumulate": "0",
        }  # fmt: skip
        for name, pitch in (("b_vector", "pitch"), ("c_vector", "sums_pitch")):
            below = self.fn.integer("mul", self.header(pitch), self.spec.size)
            beside = self.lanes.width * self.spec.size
            values[name] = self.fn.op(f"select i1 {self.lined}, i64 {below}, i64 {beside}")
        fill(self.fn, self.tile_frame, conv_tiles.FRAME, values)

    # -- places -----------------------------------------------------------------------------
    def _place(self, item: str) -> None:
        """What the item is: set the attributes that say which block of what."""
        fn = self.fn
        m_blocks = self.header("m_blocks")
        self.block = rest = fn.integer("udiv", item, m_blocks)
        digits = [fn.integer("urem", item, m_blocks)]
        for name in ("column_blocks", "row_blocks", "planes", "groups"):
            count = self.header(name)
            digits.append(fn.integer("urem", rest, count))
            rest = fn.integer("udiv", rest, count)
        block, column, row, self.plane, self.group = digits
        self.image = rest
        self.first, self.count = self._block(block, "m", "block_m")
        self.column, self.columns = self._block(column, "columns", "block_columns")
        self.row, self.rows = self._block(row, "rows", "block_rows")

    def _block(self, index: str, whole: str, size: str) -> tuple[str, str]:
        """First place and number of places of a block."""
        fn, height = self.fn, self.header(size)
        first = fn.integer("mul", index, height)
        return first, smaller(fn, fn.integer("sub", self.header(whole), first), height)

    def _source(self) -> str:
        """Where the first channel of the image's group begins."""
        fn = self.fn
        channel = fn.integer("mul", self.group, self.header("channels"))
        return self.arguments.pointer(_SOURCE, [self.image, channel])

    # -- sums -------------------------------------------------------------------------------
    def _sum(self) -> None:
        """All output channels of the item, a few at a time."""
        fn, field = self.fn, self.arguments.field
        pitch = self.header("pitch")
        places = fn.integer("add", fn.integer("mul", fn.integer("sub", self.rows, 1), pitch),
                            self.columns)  # fmt: skip
        width = self.lanes.width
        rounded = fn.integer("and", fn.integer("add", places, width - 1), -width)
        packed = fn.icmp("ne", self.header("packed"), 0)
        places = fn.op(f"select i1 {packed}, i64 {rounded}, i64 {places}")
        below = fn.integer("mul", self.rows, width)
        places = fn.op(f"select i1 {self.lined}, i64 {below}, i64 {places}")
        vectors = fn.op(f"select i1 {self.lined}, i64 {self.header('lined')}, i64 1")
        shift = fn.integer("add", fn.integer("mul", self.row, field(_SOURCE, "row")),
                           fn.integer("mul", self.column, field(_SOURCE, "column")))  # fmt: skip
        plane = fn.integer("mul", self.plane, field(_SOURCE, "batch2"))
        direct = fn.gep(self._source(), fn.integer("add", shift, plane))
        b = fn.op(f"select i1 {packed}, ptr {self.packed}, ptr {direct}")
        weight = self.arguments.pointer(_WEIGHT, [self.group])
        lines = fn.gep("%args", self.header("at_lines"))
        tiles = fn.op(f"inttoptr i64 {self.header('tiles')} to ptr")
        base = fn.integer("mul", self.group, self.header("m"))
        end = fn.integer("add", self.first, self.count)
        with fn.loop(self.first, end, conv_tiles.ROWS) as some:
            m = smaller(fn, fn.integer("sub", end, some.index), conv_tiles.ROWS)
            a = fn.gep(weight, fn.integer("mul", some.index, field(_WEIGHT, "row")))
            with fn.loop(0, fn.integer("mul", vectors, width), width) as at:
                right, sums = [fn.gep(p, at.index, self.spec.element) for p in (b, self.sums)]
                values = (self.tile_frame, lines, a, right, sums, m, places)
                pairs = zip(conv_tiles.TILES_PARAMS, values, strict=True)
                fn.do(f"call void {tiles}({', '.join(f'{t} {v}' for (t, _), v in pairs)})")
            with fn.loop(0, m) as line:
                channel = fn.integer("add", fn.integer("add", base, some.index), line.index)
                self.finish.at_matrix([self.image, channel, self.plane])
                sums = fn.gep(
                    self.sums, fn.integer("mul", line.index, self.header("sums_row"))
                )  # fmt: skip
                self.write_rows(
                    self.finish, sums, self.header("sums_pitch"), (self.row, self.rows),
                    (self.column, self.columns),
                )  # fmt: skip


    def _sum_strips(self, strips: Strips) -> None:
        """All output channels of the item, a few at a time, strip by strip."""
        fn, line = self.fn, self.arguments.field(_WEIGHT, "row")
        weight = self.arguments.pointer(_WEIGHT, [self.group])
        base = fn.integer("mul", self.group, self.header("m"))
        table = fn.gep("%args", self.header("at_steps"))
        inner, outer, a_step, b_step = map(self.header, ("inner", "outer", "a_step", "b_step"))
        walk = conv_tiles.Walk(table, inner, outer, a_step, b_step, self.spec.machine.has_fma)
        end = fn.integer("add", self.first, self.count)
        with fn.loop(self.first, end, conv_tiles.ROWS) as some:
            finishes, lines = [], []
            for i in range(conv_tiles.ROWS):
                row = fn.integer("add", some.index, i)
                lines.append(fn.gep(weight, fn.integer("mul", row, line)))
                finishes.append(self.new_finish())
                finishes[-1].at_matrix([self.image, fn.integer("add", base, row), self.plane])
            write_strips(
                self.lanes, walk, finishes, lines, (self.packed, self.header("pitch")),
                (self.row, self.rows), (self.column, self.columns), strips.streamed,
            )  # fmt: skip


def emit_windows(
    spec: MatmulSpec, epilogue: Epilogue | None = None, name: str = "convolution",
    scattered: bool = False, pooled: bool = False, strips: Strips | None = None,
) -> str:  # fmt: skip
    """The convolution kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``.

    It writes columns of the outputs apart from each other if they are `scattered`, and the
    greatest of each 2 x 2 places if they are `pooled`; it sums in registers alone if there are
    `strips`.

    Raises
    ------
    InternalCompilerError
        If there is no epilogue but extras or outputs that only one could use.
    """
    check_epilogue(spec, epilogue, "a convolution", "emit_windows")
    return _Windows(spec, epilogue, name, scattered, pooled, strips).write()
