"""Rows of a result in strips of a few vectors, which are summed and finished in registers.

Where few products make an element, storing sums and reading them again takes as long as the
products, and results that are written in bursts wait for memory. Here a register tile, `ROWS`
output channels by a strip of one row, goes through the epilogue to the outputs at once, so that
stores and products overlap all the time. That needs many registers and cheap masks, rows whose
last vectors are nearly full, and an epilogue that may be written once for each register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..gemm.emit import Finish
from ..gemm.spec import MatmulSpec
from ..machine.llvm_text import Function, Lanes
from .geometry import ceil_div, phases_of
from .spec import Windows
from .tiles import ROWS, Walk, accumulate

__all__ = ["Strips", "are_better", "write_strips"]

VECTORS = (3, 2)
"""Vectors of strips, which fill rows of two vectors or more."""

_TERMS = 192  # at most: of more, storing takes little time, and the packed source has few rows
_STORING = 12  # steps of a tile in whose time its sums are stored, read and finished


class Strips(NamedTuple):
    """What the code of strips depends on: whether the outputs pass by the caches, in which case
    every row of theirs begins on a line and ends with a whole vector."""

    streamed: bool = False


def are_better(spec: MatmulSpec, windows: Windows) -> bool:
    """Whether strips compute `windows` sooner than sums of whole blocks do: they round rows up to
    vectors, blocks compute what lies between two rows and handle sums twice."""
    columns, lanes = windows.axes[2], spec.machine.lanes(spec.size)
    if not spec.machine.has_masks or windows.pooled or windows.terms > _TERMS:
        return False
    if not windows.rows or windows.rows % ROWS:
        return False
    vectors = ceil_div(columns.extent, lanes)
    between = phases_of(columns).span if windows.axes[1].extent > 1 else 0
    block = (columns.extent + between) * (windows.terms + _STORING)
    return vectors >= min(VECTORS) and vectors * lanes * windows.terms < block


def write_strips(
    lanes: Lanes, walk: Walk, finishes: Sequence[Finish], lines: Sequence[str],
    source: tuple[str, str], rows: tuple[str, str], columns: tuple[str, str], whole: bool,
) -> None:
    """Write the sums and the epilogue of `ROWS` output channels over a rectangle of places.

    Parameters
    ----------
    lanes, walk
        How steps are summed.
    finishes, lines
        Of each output channel what finishes it, and the address of its weight.
    source
        Address of the packed source, and elements from row to row of it.
    rows, columns
        First and number of the places.
    whole
        Whether rows end with whole vectors.
    """
    fn, width = lanes.fn, lanes.width
    (start, pitch), (row, height), (column, count) = source, rows, columns
    with fn.loop(0, height, 1, [("ptr", start)]) as below:
        (line,) = below.values
        for finish in finishes:
            finish.at_row(fn.integer("add", row, below.index))
        begin = "0"
        for vectors, end in zip(VECTORS, (_threes(fn, count, width), count), strict=True):
            with fn.loop(begin, end, vectors * width) as strip:
                at = fn.gep(line, strip.index, lanes.element)
                sums = accumulate(lanes, walk, lines, at, _side_by_side(lanes, vectors))
                for v in range(vectors):
                    place = fn.integer("add", strip.index, v * width)
                    mask = None if whole else lanes.lane_mask(place, count)
                    place = fn.integer("add", column, place)
                    for finish, value in zip(finishes, sums[v::vectors], strict=True):
                        finish.write(lanes, value, place, mask)
            begin = end
        below.next = [fn.gep(line, pitch, lanes.element)]


def _side_by_side(lanes: Lanes, vectors: int) -> list[str]:
    return [str(v * lanes.width * lanes.bytes) for v in range(vectors)]


def _threes(fn: Function, columns: str, width: int) -> str:
    """Columns of a row that strips of three vectors take: all but two or four vectors."""
    vectors = fn.integer("udiv", fn.integer("add", columns, width - 1), width)
    pairs = fn.integer("urem", fn.integer("mul", vectors, 2), 3)  # -n = 2 n, modulo 3
    left = fn.integer("sub", vectors, fn.integer("mul", pairs, 2))
    left = fn.call("i64", "llvm.smax.i64", ("i64", left), ("i64", "0"))  # of a single vector
    return fn.integer("mul", left, width)
