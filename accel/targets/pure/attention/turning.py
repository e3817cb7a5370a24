"""Rows of a matrix to lanes, and back: functions that attention kernels call.

Whole squares go through registers. What is left of a row's elements, and rows whose elements are
apart, are gathered and scattered element by element.
"""

from __future__ import annotations

from ..gemm.pack import transpose
from ..gemm.spec import smaller
from ..machine.llvm_text import Function, Lanes
from .spec import AttentionSpec

__all__ = ["from_lanes", "gathered", "pointers", "to_lanes"]

_TO_PARAMS = ("source", "target", "count", "width", "row", "column")
_FROM_PARAMS = ("source", "target", "count", "width", "row")


def to_lanes(spec: AttentionSpec) -> Function:
    """``to_lanes(source, target, count, width, row, column, factor)``: line e of `target` becomes
    element e of `count` rows of `source`, times `factor`; lanes behind the last row repeat it.

    `row` and `column` are strides in bytes.
    """
    fn = _function("to_lanes", _TO_PARAMS, ("factor", spec.element))
    lanes = Lanes(fn, spec.element, spec.tile.lanes)
    factor = lanes.splat("%factor")
    unit = fn.icmp("eq", "%column", lanes.bytes)
    whole = fn.integer("and", "%width", -lanes.width)
    whole = fn.op(f"select i1 {unit}, i64 {whole}, i64 0")
    with fn.loop(0, spec.tile.columns, lanes.width) as first:
        into = fn.gep("%target", first.index, lanes.element)
        lines = _lines(lanes, "%source", first.index)
        with fn.loop(0, whole, lanes.width) as e:
            found = [lanes.load(fn.gep(line, e.index, lanes.element)) for line in lines]
            for i, value in enumerate(transpose(lanes, found)):
                at = _line(spec, fn, into, fn.integer("add", e.index, i))
                lanes.store(lanes.mul(value, factor), at)
        there = pointers(lanes, "%source", "%row", "%count", first.index)
        with fn.loop(whole, "%width") as e:
            value = gathered(lanes, there, fn.integer("mul", e.index, "%column"))
            lanes.store(lanes.mul(value, factor), _line(spec, fn, into, e.index))
    fn.do("ret void")
    return fn


def from_lanes(spec: AttentionSpec) -> Function:
    """``from_lanes(source, target, count, width, row)``: what `to_lanes` does undone, into rows
    of consecutive elements."""
    fn = _function("from_lanes", _FROM_PARAMS)
    lanes = Lanes(fn, spec.element, spec.tile.lanes)
    whole = fn.integer("and", "%width", -lanes.width)
    with fn.loop(0, "%count", lanes.width) as first:
        source = fn.gep("%source", first.index, lanes.element)
        lines = _lines(lanes, "%target", first.index)
        with fn.loop(0, whole, lanes.width) as e:
            found = [
                lanes.load(_line(spec, fn, source, fn.integer("add", e.index, i)))
                for i in range(lanes.width)
            ]
            # Lanes that repeat the last row write there before it does.
            pairs = zip(lines, transpose(lanes, found), strict=True)
            for line, value in reversed(list(pairs)):
                lanes.store(value, fn.gep(line, e.index, lanes.element))
        there = pointers(lanes, "%target", "%row", "%count", first.index)
        rows = lanes.lane_mask(first.index, "%count")
        with fn.loop(whole, "%width") as e:
            value = lanes.load(_line(spec, fn, source, e.index))
            moved = _moved(lanes, there, fn.integer("mul", e.index, lanes.bytes))
            lanes.scatter(value, moved, rows)
    fn.do("ret void")
    return fn


def pointers(lanes: Lanes, start: str, stride: str, count: str, first: str | int) -> str:
    """Where the rows of the lanes begin, from number `first` of `count` on."""
    fn, longs = lanes.fn, lanes.like("i64")
    numbers = "<" + ", ".join(f"i64 {i}" for i in range(lanes.width)) + ">"
    number = longs.add(longs.splat(str(first)), numbers)
    last = longs.splat(fn.integer("sub", count, 1))
    offsets = longs.mul(longs.intrinsic("smin", last, number), longs.splat(stride))
    return fn.op(f"getelementptr i8, ptr {start}, {longs.type} {offsets}")


def gathered(lanes: Lanes, places: str, offset: str) -> str:
    """What lies `offset` bytes behind a vector of pointers."""
    return lanes.gather(_moved(lanes, places, offset))


def _function(name: str, longs: tuple[str, ...], *others: tuple[str, str]) -> Function:
    params = [("ptr" if p in ("source", "target") else "i64", p) for p in longs]
    return Function(name, [*params, *((t, p) for p, t in others)], linkage="internal")


def _lines(lanes: Lanes, start: str, first: str) -> list[str]:
    """The addresses of the rows of a vector, one by one."""
    fn = lanes.fn
    last = fn.integer("sub", "%count", 1)
    numbers = [smaller(fn, last, fn.integer("add", first, i)) for i in range(lanes.width)]
    return [fn.gep(start, fn.integer("mul", number, "%row")) for number in numbers]


def _line(spec: AttentionSpec, fn: Function, start: str, number: str) -> str:
    """A line of scratch memory."""
    return fn.gep(start, fn.integer("mul", number, spec.tile.columns * spec.size))


def _moved(lanes: Lanes, places: str, offset: str) -> str:
    return lanes.fn.op(f"getelementptr i8, <{lanes.width} x ptr> {places}, i64 {offset}")
