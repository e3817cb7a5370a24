"""Products of bfloat16 by pairs: two steps of k of A and of B at a time, added to float32.

A word of 32 bits holds two steps of k of one row of A, or of one column of B: the first in its
lower half. A and B are packed into panels of words, zeros behind an odd k.

AVX-512 BF16 has the instruction (VDPBF16PS). It adds the product of the upper halves to the sum,
and then that of the lower halves, each rounded once, as a fused multiply-add does. But it takes
subnormal numbers, sums among them, for zeros. Therefore the head of every panel holds the least
exponent in it, and where e and f are those of a panel of A and one of B:

- If numbers are subnormal, a tile of the panels is computed by fused multiply-adds of the halves
  widened, in the same order.
- Otherwise, with 8 bits to a significand, every product is a multiple of 2**(e + f - 14). So are
  all sums, which rounding leaves multiples of a power of two. From 2**-126 on no multiple of it is
  subnormal: if e + f >= -112 the instruction gives the very bits of the multiply-adds, and
  if not, these give them.

The instruction: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from ..machine.host import Machine
from ..machine.llvm_text import LINE, Function, Lanes, module_text
from .few import DotWriter, dot_functions
from .half import read
from .pack import ROWS, Pack, transpose
from .spec import MatmulSpec, smaller, tile_of
from .tiles import TILES_PARAMS, TileWriter, frame_slot, tile_functions

__all__ = ["emit_pack_pairs", "emit_pair_dots", "emit_pairs"]

_BIAS = 127  # of exponents: in the heads of panels they are biased
_LEAST = 2 * _BIAS - 112  # the least sum of two for which the instruction is exact
_SUBNORMAL = -1024  # is in the head of a panel with subnormal numbers


# -- packing -------------------------------------------------------------------------------
class _Pack(Pack):
    """Writes the kernel that copies a K x N matrix into panels of words."""

    def __init__(self, spec: MatmulSpec, name: str) -> None:
        super().__init__(spec, name)
        self.words = self.lanes.integers
        self.halves = Lanes(self.fn, "i16", 2 * self.words.width)
        assert tile_of(spec.element, spec.machine).columns == self.halves.width

    def panel(self, source: str, target: str, columns: str) -> None:
        fn, self.steps = self.fn, self._steps()
        along_k = fn.icmp("eq", self.row, self.source_size)
        # The first that serves.
        left = "true"
        for way, copy in (
            (self._in_rows(), lambda: self._copy_rows(source, target, columns)),
            (along_k, lambda: self._turn(source, target, columns)),
            ("true", lambda: self._gather(source, target, columns)),
        ):
            with fn.when(fn.op(f"and i1 {left}, {way}")):
                copy()
            left = fn.op(f"select i1 {way}, i1 false, i1 {left}")

    def _steps(self) -> str:
        """The words along k."""
        return self.fn.integer("lshr", self.fn.integer("add", self.k, 1), 1)

    def _copy_rows(self, source: str, target: str, columns: str) -> None:
        """Each column to a row of its own: k is consecutive in both."""
        fn, halves, to_row = self.fn, self.halves, self.arguments.field(1, "column")
        carried = [("ptr", source), ("ptr", target), (halves.type, halves.const(-1))]
        with fn.loop(0, columns, 1, carried) as c:
            s, t, least = c.values

            def copy(bits: str, k: str, t: str = t) -> None:
                halves.store(bits, fn.gep(t, k, "i16"))

            least = _least_along(halves, s, self.k, least, copy)
            c.next = [fn.gep(s, self.column), fn.gep(t, to_row), least]
        self._write_head(target, halves, c.values[2])

    def _along_columns(self) -> str:
        unit = super()._along_columns()
        return self.fn.op(f"select i1 {self._in_rows()}, i1 false, i1 {unit}")

    def _in_rows(self) -> str:
        return self.fn.icmp("ne", self.arguments.field(1, "column"), self.size)

    def _copied(self, first: str, last: str) -> str:
        return last

    def _copy(self, source: str, target: str, first: str, last: str) -> None:
        """Pairs of rows; meanwhile the heads hold the least ranks lane by lane. The last pairs may
        be the same one."""
        fn, halves, steps = self.fn, self.halves, self._steps()
        final = fn.integer("sub", steps, 1)
        with fn.loop(first, last) as panel:
            halves.store(halves.const(-1), self._head(target, panel.index))
        pairs = ROWS // 2
        with fn.loop(0, steps, pairs) as step, fn.loop(first, last) as panel:
            s = self._at(source, self._begin(panel.index))
            t = fn.gep(target, fn.integer("mul", panel.index, self.step))
            mask = halves.lane_mask(0, self._columns(panel.index))
            head = self._head(target, panel.index)
            least = halves.load(head)
            for at in range(pairs):
                pair = smaller(fn, fn.integer("add", step.index, at), final)
                k = fn.integer("shl", pair, 1)
                line = fn.gep(s, fn.integer("mul", k, self.row))
                there = fn.icmp("slt", fn.integer("add", k, 1), self.k)
                kind = halves.mask_type
                second = fn.op(f"select i1 {there}, {kind} {mask}, {kind} zeroinitializer")
                rows = [halves.masked_load(line, mask),
                        halves.masked_load(fn.gep(line, self.row), second)]  # fmt: skip
                self._store_pairs(rows, fn.gep(t, fn.integer("mul", pair, self.line)))
                for row in rows:
                    least = halves.intrinsic("umin", least, _rank(halves, row))
            halves.store(least, head)
        with fn.loop(first, last) as panel:
            head = self._head(target, panel.index)
            fn.store("i32", _exponent(halves, halves.load(head)), head, 4)

    def _head(self, target: str, panel: str) -> str:
        return self.fn.gep(self.fn.gep(target, self.fn.integer("mul", panel, self.step)), -LINE)

    def _store_pairs(self, rows: list[str], target: str) -> None:
        """A line of words from two rows."""
        fn, halves, words = self.fn, self.halves, self.words
        for part in (0, 1):
            first = part * words.width
            order = [f"i32 {i + at}" for i in range(first, first + words.width)
                     for at in (0, halves.width)]  # fmt: skip
            pairs = fn.op(
                f"shufflevector {halves.type} {rows[0]}, {halves.type} {rows[1]}, "
                f"<{halves.width} x i32> <{', '.join(order)}>"
            )
            halves.store(pairs, fn.gep(target, part * words.width * words.bytes))

    def _turn(self, source: str, target: str, columns: str) -> None:
        """Square blocks of words: k is consecutive in the columns."""
        fn, halves, words = self.fn, self.halves, self.words
        carried = [(halves.type, halves.const(-1))]
        with fn.loop(0, columns, words.width, carried) as c:
            s = fn.gep(source, fn.integer("mul", c.index, self.column))
            t = fn.gep(target, fn.integer("mul", c.index, words.bytes))
            # Behind the last column it is read again, into lanes that nobody looks at.
            strides = [
                fn.op(f"select i1 {fn.icmp('slt', fn.integer('add', c.index, i + 1), columns)}, "
                      f"i64 {self.column}, i64 0")
                for i in range(words.width)
            ]  # fmt: skip
            with fn.loop(0, self.k, halves.width, [(halves.type, c.values[0])]) as k:
                k.next = [self._turn_block(s, t, k.index, strides, k.values[0])]
            c.next = k.values
        self._write_head(target, halves, c.values[0])

    def _turn_block(
        self, source: str, target: str, k: str, strides: list[str], least: str
    ) -> str:
        """The block of words from `k` on; the least rank of its numbers and `least`."""
        fn, halves, words = self.fn, self.halves, self.words
        mask = halves.lane_mask(k, self.k)
        at = fn.gep(source, fn.integer("mul", k, halves.bytes))
        rows = []
        for stride in strides:
            row = halves.masked_load(at, mask)
            least = halves.intrinsic("umin", least, _rank(halves, row))
            rows.append(fn.op(f"bitcast {halves.type} {row} to {words.type}"))
            at = fn.gep(at, stride)
        step = fn.integer("lshr", k, 1)
        left = fn.integer("sub", self.steps, step)
        lines, to = [], fn.gep(target, fn.integer("mul", step, self.line))
        for row in transpose(words, rows):
            lines.append((row, to))
            to = fn.gep(to, self.line)
        whole = fn.icmp("sge", left, words.width)
        with fn.when(whole):
            for row, to in lines:
                words.store(row, to)
        with fn.when(fn.op(f"xor i1 {whole}, true")):
            for i, (row, to) in enumerate(lines):
                with fn.when(fn.icmp("sgt", left, i)):
                    words.store(row, to)
        return least

    def _gather(self, source: str, target: str, columns: str) -> None:
        """Number by number, whatever the strides."""
        fn, one, word = self.fn, Lanes(self.fn, "i16", 1), Lanes(self.fn, "i32", 1)
        with fn.loop(0, self.steps, 1, [(one.type, one.const(-1))]) as step:
            first = fn.integer("shl", step.index, 1)
            second = fn.icmp("slt", fn.integer("add", first, 1), self.k)
            s = fn.gep(source, fn.integer("mul", first, self.row))
            t = fn.gep(target, fn.integer("mul", step.index, self.line))
            above = fn.op(f"select i1 {second}, i64 {self.row}, i64 0")
            with fn.loop(0, columns, 1, [(one.type, step.values[0])]) as c:
                at = fn.gep(s, fn.integer("mul", c.index, self.column))
                low, high = one.load(at), one.load(fn.gep(at, above))
                high = one.select(second, high, 0)
                bits = [word.convert("zext", x, one) for x in (low, high)]
                pair = word.binary("or", word.binary("shl", bits[1], 16), bits[0])
                word.store(pair, fn.gep(t, fn.integer("mul", c.index, word.bytes)))
                least = c.values[0]
                for x in (low, high):
                    least = one.intrinsic("umin", least, _rank(one, x))
                c.next = [least]
            step.next = c.values
        self._write_head(target, one, step.values[0])

    def _write_head(self, target: str, lanes: Lanes, least: str) -> None:
        """Write the least exponent of the panel at `target`."""
        self.fn.store("i32", _exponent(lanes, least), self.fn.gep(target, -LINE), 4)


def _rank(halves: Lanes, bits: str) -> str:
    """Integers in the order of magnitude of the numbers `bits`, zero behind all others."""
    return halves.sub(halves.binary("and", bits, 0x7FFF), 1)


def _least_along(
    halves: Lanes, line: str, k: str, least: str, each: Callable[[str, str], None] | None = None
) -> str:
    """The least ranks of the `k` numbers of a line and `least`; `each` has all vectors, and where
    they begin."""
    fn = halves.fn
    whole = fn.integer("and", k, -halves.width)
    for begin, end in (("0", whole), (whole, k)):
        with fn.loop(begin, end, halves.width, [(halves.type, least)]) as loop:
            mask = halves.lane_mask(loop.index, k) if end == k else None
            bits = read(halves, fn.gep(line, loop.index, "i16"), mask=mask)
            if each:
                each(bits, loop.index)
            loop.next = [halves.intrinsic("umin", loop.values[0], _rank(halves, bits))]
        (least,) = loop.values
    return least


def _exponent(halves: Lanes, least: str) -> str:
    """The biased exponent of the least rank in the lanes, an i32."""
    fn, word = halves.fn, Lanes(halves.fn, "i32", 1)
    if halves.width > 1:
        least = fn.call("i16", f"llvm.vector.reduce.umin.{halves.suffix}", (halves.type, least))
    bits = word.add(word.convert("zext", least, Lanes(fn, "i16", 1)), 1)
    exponent = word.binary("lshr", bits, 7)
    return word.select(word.cmp("eq", exponent, 0), _SUBNORMAL, exponent)


@functools.cache
def emit_pack_pairs(element: str, machine: Machine) -> str:
    """The kernel ``pack_pairs``, which packs bfloat16."""
    return _Pack(MatmulSpec(element, machine, (element,), half="bfloat"), "pack_pairs").write()


# -- sums ----------------------------------------------------------------------------------
def _dotted(lanes: Lanes, left: str, right: str, sums: str) -> str:
    """The sums and the products of words, by the instruction."""
    fn, pairs = lanes.fn, Lanes(lanes.fn, "bfloat", 2 * lanes.width)
    factors = [fn.op(f"bitcast {lanes.type} {x} to {pairs.type}") for x in (left, right)]
    return fn.call(
        lanes.type, "llvm.x86.avx512bf16.dpbf16ps.512",
        (lanes.type, sums), *((pairs.type, x) for x in factors),
    )  # fmt: skip


def _widened(lanes: Lanes, left: str, right: str, sums: str) -> str:
    """The same by fused multiply-adds, in the order of the instruction."""
    words, bits = lanes.integers, [lanes.bits_of(x) for x in (left, right)]
    for name, number in (("and", -1 << 16), ("shl", 16)):
        a, b = (lanes.from_bits(words.binary(name, x, number)) for x in bits)
        sums = lanes.fma(a, b, sums)
    return sums


# -- tiles ---------------------------------------------------------------------------------
class _DottedTile(TileWriter):
    stem = "dotted_tile"

    def multiply_add(self, left: str, right: str, sums: str) -> str:
        return _dotted(self.lanes, left, right, sums)


class _WidenedTile(TileWriter):
    stem = "widened_tile"

    def multiply_add(self, left: str, right: str, sums: str) -> str:
        return _widened(self.lanes, left, right, sums)


@functools.cache
def emit_pairs(element: str, machine: Machine) -> str:
    """The library ``pairs`` of register tiles, over rows of at most one panel of A."""
    spec, tile = MatmulSpec(element, machine, (element,)), tile_of(element, machine)
    fn = Function("pairs", TILES_PARAMS)
    exponents = []
    for panel, stride in (("%a", "a_column"), ("%b", "b_row")):
        before = fn.integer("mul", frame_slot(fn, "accumulate"), frame_slot(fn, stride))
        exponents.append(fn.load("i32", fn.gep(panel, fn.integer("sub", -LINE, before)), 4))
    dotted, widened = (
        Function(name, TILES_PARAMS, linkage="internal") for name in ("dotted", "widened")
    )
    _choose(fn, exponents, dotted, widened)
    # The rare way has fewer variants, and each of its steps two multiply-adds to hide another.
    lower = replace(tile, rows=tile.rows // 2)
    return module_text([
        *tile_functions(spec, tile, _DottedTile, dotted),
        *tile_functions(spec, lower, _WidenedTile, widened), fn,
    ])  # fmt: skip


# -- dots ----------------------------------------------------------------------------------
class _DottedDots(DotWriter):
    stem = "dotted"

    def __init__(self, spec: MatmulSpec, rows: int, columns: int) -> None:
        super().__init__(spec, rows, columns)
        self.taken = Lanes(self.fn, "i16", 2 * self.wide.width)

    def read(self, lanes: Lanes, pointer: str, mask: str | None) -> str:
        bits = read(self.taken, pointer, mask=mask)
        return self.fn.op(f"bitcast {self.taken.type} {bits} to {lanes.type}")

    def multiply_add(self, lanes: Lanes, left: str, right: str, sums: str) -> str:
        return _dotted(lanes, left, right, sums)


class _WidenedDots(_DottedDots):
    stem = "widened"

    def multiply_add(self, lanes: Lanes, left: str, right: str, sums: str) -> str:
        return _widened(lanes, left, right, sums)


@functools.cache
def emit_pair_dots(element: str, machine: Machine) -> str:
    """The library ``pair_dots``, which reads A and B where they lie, k being consecutive."""
    spec = MatmulSpec(element, machine, (element,), half="bfloat")
    fn = Function("pair_dots", TILES_PARAMS)
    exponents = [
        fn.op(f"call i32 @least(ptr {lines}, i64 {frame_slot(fn, stride)}, i64 {count}, i64 %k)")
        for lines, stride, count in (("%a", "a_row", "%m"), ("%b", "b_column", "%n"))
    ]
    dotted, widened = (
        Function(name, TILES_PARAMS, linkage="internal") for name in ("dotted", "widened")
    )
    _choose(fn, exponents, dotted, widened)
    return module_text([
        _least(spec), *dot_functions(spec, _DottedDots, dotted),
        *dot_functions(spec, _WidenedDots, widened), fn,
    ])  # fmt: skip


def _least(spec: MatmulSpec) -> Function:
    """``least(lines, stride, count, k)``: the least exponent of lines along k."""
    params = [("ptr", "lines"), ("i64", "stride"), ("i64", "count"), ("i64", "k")]
    fn = Function("least", params, "i32", "noinline nounwind", "internal")
    halves = Lanes(fn, "i16", spec.machine.lanes(2))
    with fn.loop(0, "%count", 1, [("ptr", "%lines"), (halves.type, halves.const(-1))]) as line:
        at, least = line.values
        line.next = [fn.gep(at, "%stride"), _least_along(halves, at, "%k", least)]
    fn.do(f"ret i32 {_exponent(halves, line.values[1])}")
    return fn


def _choose(fn: Function, exponents: list[str], dotted: Function, widened: Function) -> None:
    """Write the call of the one that is exact for the least exponents of A and B."""
    word = Lanes(fn, "i32", 1)
    exact = word.cmp("sge", word.add(*exponents), _LEAST)
    chosen = fn.op(f"select i1 {exact}, ptr @{dotted.name}, ptr @{widened.name}")
    fn.do(f"call void {chosen}({', '.join(f'{t} %{name}' for t, name in TILES_PARAMS)})")
    fn.do("ret void")
