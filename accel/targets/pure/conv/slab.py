"""Writing the packing of a block of a source: what all its taps see, zeros around it.

The packed block (slab) holds for each channel, each displacement of a plane and each remainder
of rows and columns by their strides (phase) a rectangle, in which neighbouring places lie
beside each other and every tap is a constant distance away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..gemm.spec import Arguments, smaller
from ..machine.llvm_text import Function
from . import pack as conv_pack

__all__ = ["Slab", "fill"]


def fill(fn: Function, frame: str, names: Sequence[str], values: Mapping[str, str]) -> None:
    """Set slots of a frame."""
    for name, value in values.items():
        fn.store("i64", value, fn.gep(frame, 8 * names.index(name)), 8)


class Slab:
    """Writes the packing of blocks of the source whose record is numbered `source`."""

    def __init__(self, arguments: Arguments, source: int) -> None:
        self.arguments, self.source, self.fn = arguments, source, arguments.fn
        self.frame = self.fn.op(f"alloca [{len(conv_pack.FRAME)} x i64], align 8")
        address = self.header("pack")
        self.function = self.fn.op(f"inttoptr i64 {address} to ptr")

    def header(self, name: str) -> str:
        return self.arguments.header(name)

    def _field(self, name: str) -> str:
        return self.arguments.field(self.source, name)

    def _table(self, name: str, index: str) -> str:
        """An entry of a table of the argument block."""
        at = self.fn.gep("%args", self.header(f"at_{name}"))
        return self.fn.load("i64", self.fn.gep(at, index, "i64"), 8)

    def _fill(self, **values: str) -> None:
        fill(self.fn, self.frame, conv_pack.FRAME, values)

    def pack(
        self, target: str, source: str, channels: str, place: tuple[str, str, str]
    ) -> None:
        """Pack `channels` channels, the first of which begins at `source`, for a block of
        places that begins at `place`: plane, row, column."""
        fn = self.fn
        plane, row, column = [
            fn.integer("mul", at, self.header(f"stride{axis}")) for axis, at in enumerate(place)
        ]
        step, stride = self.header("stride2"), self._field("column")
        self._fill(
            rows=self.header("height"), width=self.header("pitch"),
            row_step=self.header("stride1"), row_stride=self._field("row"),
            column_step=fn.integer("mul", stride, step),
        )  # fmt: skip
        phases, size = self.header("phases2"), self.header("phase")
        with fn.loop(0, phases) as phase:
            first = fn.integer("add", column, self._table("phases2", phase.index))
            begin, end = self._inside(first, step)
            self._fill(begin=begin, end=end, column=fn.integer("mul", first, stride))
            start = fn.gep(target, fn.integer("mul", phase.index, size))
            next_row = fn.integer("mul", phases, size)
            with fn.loop(0, channels, 1, [("ptr", start), ("ptr", source)]) as channel:
                self._channel(channel.values[0], channel.values[1], plane, row, next_row)
                channel.next = [
                    fn.gep(channel.values[0], self.header("channel")),
                    fn.gep(channel.values[1], self._field("batch1")),
                ]

    def _channel(self, target: str, source: str, plane: str, row: str, step: str) -> None:
        """Every displacement of the plane and every phase of rows of one channel, `step` bytes
        apart; a plane outside of the source has no rows."""
        fn = self.fn
        with fn.loop(0, self.header("taps0"), 1, [("ptr", target)]) as tap:
            at = fn.integer("add", plane, self._table("taps0", tap.index))
            exists = fn.icmp("ult", at, self.header("source0"))
            self._fill(
                source_rows=fn.op(f"select i1 {exists}, i64 {self.header('source1')}, i64 0")
            )
            rows = fn.gep(source, fn.integer("mul", at, self._field("batch2")))
            with fn.loop(0, self.header("phases1"), 1, [("ptr", tap.values[0])]) as phase:
                first = fn.integer("add", row, self._table("phases1", phase.index))
                self._fill(first_row=first)
                (place,) = phase.values
                fn.do(f"call void {self.function}(ptr {self.frame}, ptr {place}, ptr {rows})")
                phase.next = [fn.gep(place, step)]
            tap.next = [phase.values[0]]

    def _inside(self, first: str, step: str) -> tuple[str, str]:
        """The columns of a phase that lie in the source, for a first column of `first`."""
        fn, width = self.fn, self.header("pitch")

        def places(distance: str) -> str:
            """How many steps from `first` on are short of a distance."""
            up = fn.integer("add", distance, fn.integer("sub", step, 1))
            steps = fn.integer("sdiv", up, step)
            steps = fn.call("i64", "llvm.smax.i64", ("i64", steps), ("i64", "0"))
            return smaller(fn, steps, width)

        begin = places(fn.integer("sub", 0, first))
        end = places(fn.integer("sub", self.header("source2"), first))
        return begin, fn.call("i64", "llvm.smax.i64", ("i64", begin), ("i64", end))
