"""Writing the sums of a rectangle of places to the outputs: with the epilogue, pooled or not."""

from __future__ import annotations

import functools

from ....ir import dtypes
from ..gemm.emit import Finish
from ..machine.llvm_text import Lanes
from ..nests.lowering import greater
from ..nests.site import Site
from .spec import POOL

__all__ = ["finish_pools", "finish_rows"]

#: First and last column, lanes, and those that count, or None for all.
_Strip = tuple[str, str, int, "str | None"]

_DTYPES = {"float": dtypes.float32, "double": dtypes.float64}


def finish_rows(
    finish: Finish, sums: str, pitch: str, rows: tuple[str, str], columns: tuple[str, str]
) -> None:
    """Write the epilogue over a rectangle of one output channel.

    Parameters
    ----------
    finish
        At the output channel.
    sums, pitch
        Address of the sums, and elements from a row of them to the next.
    rows, columns
        First and number of the places.
    """
    fn, spec = finish.fn, finish.spec
    vector = spec.machine.lanes(spec.size)
    (row, height), (column, width) = rows, columns
    pairs, whole = (fn.integer("and", width, -n) for n in (2 * vector, vector))
    strips: list[_Strip] = [("0", pairs, 2 * vector, None), (pairs, whole, vector, None),
                            _rest(finish, whole, width)]  # fmt: skip
    with fn.loop(0, height, 1, [("ptr", sums)]) as line:
        (start,) = line.values
        finish.at_row(fn.integer("add", row, line.index))
        for begin, end, count, mask in strips:
            few = Lanes(fn, spec.element, count)
            with fn.loop(begin, end, count) as j:
                value = few.load(fn.gep(start, j.index, spec.element))
                finish.write(few, value, fn.integer("add", column, j.index), mask)
        line.next = [fn.gep(start, pitch, spec.element)]


def _rest(finish: Finish, whole: str, width: str) -> _Strip:
    """The columns behind the last whole vector: one under a mask, or elements one by one."""
    machine = finish.spec.machine
    if not machine.has_masks:
        return whole, width, 1, None
    lanes = Lanes(finish.fn, finish.spec.element, machine.lanes(finish.spec.size))
    return whole, width, lanes.width, lanes.lane_mask(whole, width)


def finish_pools(
    finish: Finish, sums: str, pitch: str, rows: tuple[str, str], columns: tuple[str, str]
) -> None:
    """Write the epilogue over a rectangle of one output channel, the greatest of each 2 x 2
    places; what an odd last row or column holds is left out.

    The parameters are those of `finish_rows`; the first row and column are even. Of every row
    two vectors are read from each vector's place on, also beyond the last column.
    """
    fn, spec = finish.fn, finish.spec
    dtype, vector = _DTYPES[spec.outputs[0]], spec.machine.lanes(spec.size)
    (row, height), (column, width) = rows, columns
    row, height, column, width = [fn.integer("lshr", n, 1) for n in (row, height, column, width)]
    whole = fn.integer("and", width, -vector)
    strips: list[_Strip] = [("0", whole, vector, None), _rest(finish, whole, width)]
    active = None
    if spec.machine.has_masks:
        seen = fn.integer("mul", whole, POOL), fn.integer("mul", width, POOL)
        active = Lanes(fn, spec.element, POOL * vector).lane_mask(*seen)
    apart = fn.integer("mul", pitch, POOL)
    with fn.loop(0, height, 1, [("ptr", sums)]) as line:
        (start,) = line.values
        place = fn.integer("add", row, line.index)
        first = fn.integer("mul", place, POOL)
        pair = []
        for k in range(POOL):
            finish.at_row(fn.integer("add", first, k), place)
            below = fn.gep(start, fn.integer("mul", pitch, k), spec.element)
            pair.append((below, finish.extras))
        for begin, end, count, mask in strips:
            lanes, site = Lanes(fn, spec.element, count), Site(fn, count)
            with fn.loop(begin, end, count) as j:
                taps, window = [], fn.integer("add", column, j.index)
                for below, finish.extras in pair:
                    at = fn.gep(below, fn.integer("mul", j.index, POOL), spec.element)
                    taps += _taps(finish, lanes, at, window, active if mask else None)
                best = functools.reduce(functools.partial(greater, site, dtype), taps)
                finish.store(lanes, [best], window, mask)
        line.next = [fn.gep(start, apart, spec.element)]


def _taps(finish: Finish, lanes: Lanes, sums: str, place: str, active: str | None) -> list[str]:
    """The results of the even and of the odd columns, from those at the window `place` on."""
    fn = finish.fn
    column = fn.integer("mul", place, POOL)
    found: list[str] = []
    if lanes.width == 1:
        for k in range(POOL):
            at = fn.integer("add", column, k)
            value = lanes.load(fn.gep(sums, k, lanes.element))
            found += finish.results(lanes, value, at, None)
        return found
    wide = Lanes(fn, lanes.element, POOL * lanes.width)
    (result,) = finish.results(wide, wide.load(sums), column, active)
    kind = wide.like(finish.spec.outputs[0]).type
    for k in range(POOL):
        order = ", ".join(f"i32 {POOL * i + k}" for i in range(lanes.width))
        found.append(fn.op(
            f"shufflevector {kind} {result}, {kind} poison, <{lanes.width} x i32> <{order}>"
        ))  # fmt: skip
    return found
