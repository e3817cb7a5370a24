"""Emission of the multiply kernels as LLVM IR: what happens to sums, and integer products.

One kernel serves all extents and strides of a :class:`MatmulSpec`. That of a floating-point type
hands the function that finishes a tile of sums, which is where the epilogue's code exists once, to
the `walk` over items. That of an integer type is one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....errors import InternalCompilerError
from ..machine.llvm_text import LINE, Function, Lanes, module_text
from .spec import FIRST_FINISHED, KERNEL_PARAMS, Arguments, Epilogue, MatmulSpec
from .tiles import call_of
from .walk import FINISH_PARAMS, TILE_BYTES, WALK_PARAMS, Item, items

__all__ = ["Finish", "check_epilogue", "emit_multiply", "identity"]

_A, _B = 0, 1  # operand records of the multiply kernel
_INTEGER_ROWS = 4  # of a tile of integers


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
        self._start(lambda record: self.arguments.pointer(record, batch))

    def at_starts(self, starts: str) -> None:
        """Set the addresses of the outputs and extras to those in a table."""
        fn = self.fn
        self._start(lambda record: fn.load("ptr", fn.gep(starts, 8 * (record - self.first)), 8))

    def _start(self, pointer: Callable[[int], str]) -> None:
        outputs = len(self.spec.outputs)
        self.starts, self.steps = [], []
        for record in range(self.first, self.first + outputs + len(self.spec.extras)):
            extra = record - self.first - outputs
            if extra >= 0 and self.spec.extras[extra].columns == "constant":
                self.starts.append(self.arguments.field(record, "offset"))
                self.steps.append("")
            else:
                self.starts.append(pointer(record))
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
        return memory.gather(self._apart(memory.width, first, stride), mask)

    def _scatter(
        self, memory: Lanes, value: str, line: str, stride: str, column: str, mask: str | None
    ) -> None:
        first = self.fn.gep(line, self.fn.integer("mul", column, stride))
        if memory.width == 1:
            memory.store(value, first)
            return
        memory.scatter(value, self._apart(memory.width, first, stride), mask)

    def _apart(self, width: int, first: str, stride: str) -> str:
        """The addresses of `width` lanes, `stride` bytes apart."""
        longs = Lanes(self.fn, "i64", width)
        steps = "<" + ", ".join(f"i64 {i}" for i in range(width)) + ">"
        offsets = longs.mul(longs.splat(stride), steps)
        return self.fn.op(f"getelementptr i8, ptr {first}, {longs.type} {offsets}")


def identity(lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
    return [value]


# -- the multiply kernels ------------------------------------------------------------------
class _Integers:
    """Writes the multiply kernel of an integer type: lanes along the columns, tiles of a few rows
    and two registers, whose sums stay in registers."""

    def __init__(self, spec: MatmulSpec, epilogue: Epilogue, name: str) -> None:
        self.spec = spec
        self.fn = Function(name, KERNEL_PARAMS, "i64", instructions=spec.machine.instructions)
        self.arguments = Arguments(self.fn)
        self.finish = Finish(self.fn, spec, epilogue, self.arguments, FIRST_FINISHED)
        self.k = self.arguments.header("k")

    def write(self) -> str:
        items(self.fn, self.arguments, self._item)
        return module_text([self.fn])

    def _item(self, item: Item) -> None:
        fn = self.fn
        a, b = self.arguments.pointer(_A, item.batch), self.arguments.pointer(_B, item.batch)
        self.finish.at_matrix(item.batch)
        end = fn.integer("add", item.row, item.rows)
        whole = fn.integer("add", item.row, fn.integer("and", item.rows, -_INTEGER_ROWS))
        for first, last, rows in ((item.row, whole, _INTEGER_ROWS), (whole, end, 1)):
            with fn.loop(first, last, rows) as row:
                line = fn.gep(a, fn.integer("mul", row.index, self.arguments.field(_A, "row")))
                for begin, stop, lanes in self._strips(item):
                    with fn.loop(begin, stop, lanes.width) as column:
                        sums = self._sums(lanes, line, b, column.index, rows)
                        for number, value in enumerate(sums):
                            self.finish.at_row(fn.integer("add", row.index, number))
                            self.finish.write(lanes, value, column.index, None)

    def _strips(self, item: Item) -> list[tuple[str, str, Lanes]]:
        """The columns in lanes of two registers, of one, and one by one, also where those of B do
        not follow each other."""
        fn, spec = self.fn, self.spec
        unit = fn.icmp("eq", self.arguments.field(_B, "column"), spec.size)
        native = spec.machine.lanes(spec.size)
        begin, strips = item.column, []
        for width in (2 * native, native):
            whole = fn.integer("and", item.columns, -width)
            stop = fn.integer("add", item.column, fn.op(f"select i1 {unit}, i64 {whole}, i64 0"))
            strips.append((begin, stop, Lanes(fn, spec.element, width)))
            begin = stop
        end = fn.integer("add", item.column, item.columns)
        return [*strips, (begin, end, Lanes(fn, spec.element, 1))]

    def _sums(self, lanes: Lanes, a: str, b: str, column: str, rows: int) -> list[str]:
        """The sums over k of some rows and the lanes from `column` on."""
        fn, field = self.fn, self.arguments.field
        start = fn.gep(b, fn.integer("mul", column, field(_B, "column")))
        steps = [fn.integer("mul", field(_A, "row"), number) for number in range(rows)]
        zeros = [(lanes.type, lanes.const(0))] * rows
        across, down = field(_A, "column"), field(_B, "row")
        with fn.loop(0, self.k, 1, [("ptr", a), ("ptr", start), *zeros]) as loop:
            left, right, *sums = loop.values
            values = lanes.load(right)
            for number, step in enumerate(steps):
                scalar = fn.load(lanes.element, fn.gep(left, step), lanes.bytes)
                sums[number] = lanes.add(sums[number], lanes.mul(lanes.splat(scalar), values))
            loop.next = [fn.gep(left, across), fn.gep(right, down), *sums]
        return loop.values[2:]


def _floats(spec: MatmulSpec, epilogue: Epilogue | None, name: str) -> str:
    """The multiply kernel of a floating-point type."""
    fn, functions = Function(name, KERNEL_PARAMS, "i64"), []
    how, finish, room = "tail call", "null", "null"
    if epilogue is not None:
        functions.append(_finish_function(spec, epilogue))
        addresses = len(spec.outputs) + len(spec.extras)
        how, finish = "call", "@" + functions[0].name
        room = fn.op(f"alloca [{TILE_BYTES + 8 * addresses} x i8], align {LINE}")
    walk = fn.op(f"inttoptr i64 {Arguments(fn).header('walk')} to ptr")
    call = call_of(walk, WALK_PARAMS, "%bases", "%args", "%begin", "%end", finish, room)
    fn.do(f"ret i64 {fn.op(f'{how} i64 {call}')}")
    return module_text([*functions, fn])


def _finish_function(spec: MatmulSpec, epilogue: Epilogue) -> Function:
    """The epilogue over the rows and columns of a tile of sums."""
    own, masks = spec.machine.instructions, spec.machine.has_masks
    fn = Function("finish_tile", FINISH_PARAMS, "void", linkage="internal", instructions=own)
    finish = Finish(fn, spec, epilogue, Arguments(fn), FIRST_FINISHED)
    finish.at_starts("%starts")
    # Two registers at a time where masks are cheap: long epilogues gain by interleaving.
    wide = Lanes(fn, spec.element, spec.machine.lanes(spec.size) * (2 if masks else 1))
    whole = "%n" if masks else fn.integer("and", "%n", -wide.width)
    with fn.loop(0, "%m", 1, [("ptr", "%sums")]) as line:
        (source,) = line.values
        finish.at_row(fn.integer("add", "%row", line.index))
        with fn.loop(0, whole, wide.width) as c:
            mask = wide.lane_mask(c.index, "%n") if masks else None
            value = wide.load(fn.gep(source, c.index, spec.element))
            finish.write(wide, value, fn.integer("add", "%column", c.index), mask)
        if not masks:
            one = Lanes(fn, spec.element, 1)
            with fn.loop(whole, "%n") as c:
                value = one.load(fn.gep(source, c.index, spec.element))
                finish.write(one, value, fn.integer("add", "%column", c.index), None)
        line.next = [fn.gep(source, "%sums_row")]
    fn.do("ret void")
    return fn


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
    if spec.is_float:
        return _floats(spec, epilogue, name)
    return _Integers(spec, epilogue or identity, name).write()
