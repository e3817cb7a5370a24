"""Emission of depthwise convolution as LLVM IR: each output channel sees one source channel.

There is no sum over channels that could keep a product busy, so what counts are loads. A strip
of `ROWS` rows of a vector of the result is summed in registers: a vector of the source is loaded
once for all rows that see it; of every other column two vectors are, and sorted out. Strips run
down the image, so that the masks of its edges are worked out once for all of them; nothing is
packed. This needs cheap masks and taps evenly spaced from row to row, and it is made
for one kernel size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..gemm.emit import Finish, identity
from ..gemm.spec import KERNEL_PARAMS, Arguments, Epilogue, MatmulSpec, smaller
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text
from .spec import HEADER, POOL, Windows, block_of
from .store import finish_pools

__all__ = ["Depthwise", "depthwise_block", "emit_depthwise"]

ROWS = 8
_AHEAD = 2 * ROWS  # rows of the result from those in work to those whose memory comes nearer
_TAPS = 25  # at most
_WEIGHT, _SOURCE, _FIRST = 0, 1, 2  # operand records


class Depthwise(NamedTuple):
    """What the code is made for: taps of rows and columns, rows of the source from place to
    place, and from tap to tap, columns of it from place to place, and whether every row has a
    vector's columns, so that only whole ones are stored, the last beginning earlier."""

    down: int
    across: int
    stride: int
    spacing: int
    step: int
    whole: bool

    @classmethod
    def of(cls, spec: MatmulSpec, windows: Windows) -> Depthwise | None:
        """How `windows` can be computed so, or None."""
        planes, rows, columns = windows.axes
        if windows.channels != 1 or not spec.machine.has_masks or columns.stride > 2:
            return None
        beside = {b - a for (a, _), (b, _) in itertools.pairwise(columns.taps)}
        if columns.stride == 2 and not beside <= {1}:
            return None
        if (planes.extent, planes.source, len(planes.taps)) != (1, 1, 1) or planes.taps[0][0]:
            return None
        if windows.source.column != spec.size or len(rows.taps) * len(columns.taps) > _TAPS:
            return None
        taps = [tap for tap, _ in rows.taps]
        steps = {b - a for a, b in itertools.pairwise(taps)} or {1}
        if len(steps) != 1 or min(steps) < 1:
            return None
        whole = not windows.pooled and columns.extent >= spec.machine.lanes(spec.size)
        return cls(len(taps), len(columns.taps), rows.stride, min(steps), columns.stride, whole)


def depthwise_block(windows: Windows) -> tuple[int, ...]:
    """The argument block; an item is an output channel of an image."""
    _, rows, columns = windows.axes
    header = {
        "groups": windows.groups, "m": windows.rows, "rows": rows.extent,
        "columns": columns.extent, "source1": rows.source, "source2": columns.source,
    }  # fmt: skip
    tables = {
        "at_steps": [a + b for _, a in rows.taps for _, b in columns.taps],
        "at_phases1": [rows.taps[0][0]], "at_phases2": [tap for tap, _ in columns.taps],
    }  # fmt: skip
    operands = [windows.weight, windows.source, *windows.outputs, *windows.extras]
    return block_of(HEADER, header, operands, tables)


class _Writer:
    """Writes the depthwise kernel."""

    def __init__(
        self, spec: MatmulSpec, made: Depthwise, epilogue: Epilogue | None, name: str, pooled: bool
    ) -> None:
        self.spec, self.made, self.pooled = spec, made, pooled
        own = spec.machine.instructions
        self.fn = Function(name, KERNEL_PARAMS, "i64", instructions=own)
        self.arguments = Arguments(self.fn, HEADER)
        self.finish = Finish(self.fn, spec, epilogue or identity, self.arguments, _FIRST)
        self.lanes = Lanes(self.fn, spec.element, spec.machine.lanes(spec.size))

    def _table(self, name: str, index: int) -> str:
        at = self.fn.gep("%args", self.arguments.header(f"at_{name}"))
        return self.fn.load("i64", self.fn.gep(at, 8 * index), 8)

    def write(self) -> str:
        fn, header, width = self.fn, self.arguments.header, self.lanes.width
        self.pitch = width * (POOL if self.pooled else 1)
        if self.pooled:
            self.sums = fn.op(f"alloca [{ROWS * self.pitch * self.spec.size} x i8], align 64")
        columns, m = header("columns"), header("m")
        channels = fn.integer("mul", header("groups"), m)
        with fn.loop("%begin", "%end") as item:
            image = fn.integer("udiv", item.index, channels)
            channel = fn.integer("urem", item.index, channels)
            group = fn.integer("udiv", channel, m)
            source = self.arguments.pointer(_SOURCE, [image, group])
            weight = self.arguments.pointer(_WEIGHT, [group])
            line = fn.integer("mul", fn.integer("urem", channel, m),
                              self.arguments.field(_WEIGHT, "row"))  # fmt: skip
            weights = self._weights(fn.gep(weight, line))
            self.finish.at_matrix([image, channel, "0"])
            last = fn.integer("sub", columns, self.pitch)
            with fn.loop(0, columns, self.pitch) as strip:
                column = smaller(fn, strip.index, last) if self.made.whole else strip.index
                self._strips(source, weights, column, columns)
        fn.do("ret i64 0")
        return module_text([fn])

    def _strips(self, source: str, weights: Sequence[str], column: str, columns: str) -> None:
        """All rows of a vector of columns, or of two that are pooled."""
        fn, rows = self.fn, self.arguments.header("rows")
        seen = [
            self._places(fn.integer("add", column, at))
            for at in range(0, self.pitch, self.lanes.width)
        ]
        beside = smaller(fn, fn.integer("sub", columns, column), self.pitch)
        mask = None if self.made.whole else self.lanes.lane_mask(column, columns)
        with fn.loop(0, rows, ROWS) as block:
            sums = [self._sums(source, weights, block.index, places) for places in seen]
            if self.pooled:
                below = smaller(fn, fn.integer("sub", rows, block.index), ROWS)
                self._pool(sums, (block.index, below), (column, beside))
            else:
                for r, value in enumerate(sums[0]):
                    row = fn.integer("add", block.index, r)
                    with fn.when(fn.icmp("slt", row, rows)):
                        self.finish.at_row(row)
                        self.finish.write(self.lanes, value, column, mask)
                        self._ask_for_results(column)

    def _pool(
        self, sums: Sequence[Sequence[str]], rows: tuple[str, str], columns: tuple[str, str]
    ) -> None:
        """The epilogue on vectors side by side, pooled."""
        vector = self.lanes.width * self.spec.size
        for v, column in enumerate(sums):
            for r, value in enumerate(column):
                place = r * self.pitch * self.spec.size + v * vector
                self.lanes.store(value, self.fn.gep(self.sums, place))
        finish_pools(self.finish, self.sums, str(self.pitch), rows, columns)

    def _weights(self, weight: str) -> list[str]:
        """Each tap's weight in all lanes."""
        lanes = self.lanes
        return [
            lanes.splat(lanes.fn.load(
                lanes.element, self.fn.gep(weight, self._table("steps", i)), lanes.bytes
            ))
            for i in range(self.made.down * self.made.across)
        ]  # fmt: skip

    def _places(self, column: str) -> list[tuple[str, str]]:
        """The columns of the source from which vectors are read for the vector of columns that
        begins at `column`, and which of their lanes lie in it."""
        fn, made = self.fn, self.made
        column = fn.integer("mul", column, made.step)
        columns = [
            fn.integer("add", column, self._table("phases2", j))
            for j in range(0, made.across, made.step)
        ]
        if made.step == 2:
            columns = [fn.integer("add", c, v * self.lanes.width) for c in columns for v in (0, 1)]
        return [(place, self._inside(place)) for place in columns]

    def _sums(
        self, source: str, weights: Sequence[str], row: str, places: Sequence[tuple[str, str]]
    ) -> list[str]:
        """The sums of `ROWS` rows and a vector of columns."""
        fn, made = self.fn, self.made
        first = fn.integer("add", fn.integer("mul", row, made.stride), self._table("phases1", 0))
        last = fn.integer("add", first, self._seen()[-1])
        rows = self.arguments.header("source1")
        every = fn.op(
            f"and i1 {fn.icmp('sge', first, 0)}, {fn.icmp('slt', last, rows)}"
        )  # fmt: skip
        inside, edge, done = fn.label("inside"), fn.label("edge"), fn.label("summed")
        fn.cond_br(every, inside, edge)
        ways = []
        for block, limit in ((inside, None), (edge, rows)):
            fn.block(block)
            values = self._rows(source, weights, first, places, limit)
            ways.append([(value, fn.block_name) for value in values])
            fn.br(done)
        fn.block(done)
        return [fn.phi(self.lanes.type, *pair) for pair in zip(*ways, strict=True)]

    def _seen(self) -> list[int]:
        """The rows of the source that a strip sees, counted from its first."""
        made = self.made
        return sorted({
            r * made.stride + k * made.spacing for r in range(ROWS) for k in range(made.down)
        })  # fmt: skip

    def _rows(
        self, source: str, weights: Sequence[str], first: str, places: Sequence[tuple[str, str]],
        limit: str | None,
    ) -> list[str]:  # fmt: skip
        """The sums of a strip's rows; with a limit rows outside of [0, limit) are zeros."""
        fn, lanes, made = self.fn, self.lanes, self.made
        sums = [lanes.const(0)] * ROWS
        stride = self.arguments.field(_SOURCE, "row")
        start = fn.gep(source, fn.integer("mul", first, stride))
        for u in self._seen():
            line = fn.gep(start, fn.integer("mul", stride, u))
            if limit is None:
                read = self._read(line, places)
            else:
                inside = fn.icmp("ult", fn.integer("add", first, u), limit)
                with fn.when(inside, [(lanes.type, lanes.const(0))] * len(places)) as row:
                    row.next = self._read(line, places)
                read = row.values
            for j, value in enumerate(self._seen_by_taps(read)):
                for k in range(made.down):
                    r, rest = divmod(u - k * made.spacing, made.stride)
                    if rest == 0 and 0 <= r < ROWS:
                        sums[r] = lanes.fma(weights[k * made.across + j], value, sums[r])
        return sums

    def _read(self, line: str, places: Sequence[tuple[str, str]]) -> list[str]:
        """The vectors of a row of the source."""
        lanes, row = self.lanes, self.arguments.field(_SOURCE, "row")
        ahead = self.fn.integer("mul", row, _AHEAD * self.made.stride)
        middle = self.fn.gep(line, places[len(places) // 2][0], lanes.element)
        self.fn.prefetch(self.fn.gep(middle, ahead))
        return [
            lanes.masked_load(self.fn.gep(line, place, lanes.element), mask)
            for place, mask in places
        ]

    def _ask_for_results(self, column: str) -> None:
        """Let the places come nearer that `_AHEAD` rows further down are written."""
        fn, finish = self.fn, self.finish
        for i, element in enumerate(self.spec.outputs):
            size = 1 if element == "i1" else ELEMENT_BYTES[element]
            at = fn.gep(finish.outputs[i], fn.integer("mul", column, size))
            fn.prefetch(fn.gep(at, fn.integer("mul", finish.steps[i], _AHEAD)), writes=True)

    def _seen_by_taps(self, read: Sequence[str]) -> list[str]:
        """What each tap of a row sees: the vectors themselves, or of each two of them the even
        elements and the odd ones."""
        lanes, step = self.lanes, self.made.step
        if step == 1:
            return list(read)
        found = []
        for j in range(self.made.across):
            a, b = read[j // 2 * 2 : j // 2 * 2 + 2]
            order = ", ".join(f"i32 {2 * i + j % 2}" for i in range(lanes.width))
            found.append(self.fn.op(
                f"shufflevector {lanes.type} {a}, {lanes.type} {b}, <{lanes.width} x i32> <{order}>"
            ))  # fmt: skip
        return found

    def _inside(self, place: str) -> str:
        """The lanes whose columns from `place` on lie in the source."""
        lanes = self.lanes
        before = lanes.lane_mask(place, 0)
        until = lanes.lane_mask(place, self.arguments.header("source2"))
        return lanes.mask_op("xor", lanes.mask_op("and", before, until), until)


def emit_depthwise(
    spec: MatmulSpec, made: Depthwise, epilogue: Epilogue | None = None, name: str = "depthwise",
    pooled: bool = False,
) -> str:  # fmt: skip
    """The depthwise kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``."""
    return _Writer(spec, made, epilogue, name, pooled).write()
