"""What an attention kernel makes of products of queries and keys: masks, running softmax."""

from __future__ import annotations

import math

from ..machine.llvm_text import Lanes
from .blocks import LOG2_E, Blocks, Rows
from .spec import Mask
from .turning import gathered, pointers

__all__ = ["Scores"]


class Scores(Blocks):
    """Blocks of scores, a lane a query (or, if `of_keys`, a key), a line what it is scored with.

    Scores are in units of ln 2: scaled by log2(e).
    """

    of_keys = False

    def see(self, batch: list[str], rows: Rows, operand: int) -> None:
        """Take the mask, operand number `operand`, at an item."""
        self.seen = rows
        fn, mask = self.fn, self.spec.mask
        if mask is None:
            return
        pointer, row, column = self.matrix(operand, batch)
        along, self.mask_step = (column, row) if self.of_keys else (row, column)
        kind = self._along(mask)
        start = fn.gep(pointer, fn.integer("mul", rows.first, along))
        if kind == "strided":
            self.mask_at = self.each(
                lambda v: pointers(self.lanes, start, along, rows.count, v * self.lanes.width)
            )
        else:
            size = self._memory(mask).bytes
            self.mask_at = self.each(lambda v: fn.gep(start, v * self.lanes.width * size))
        if kind == "unit":
            self.there = self.each(
                lambda v: self.lanes.lane_mask(v * self.lanes.width, rows.count)
            )

    def _along(self, mask: Mask) -> str:
        """The class of the mask along the lanes."""
        return mask.columns if self.of_keys else mask.rows

    def _memory(self, mask: Mask) -> Lanes:
        return self.lanes.like("i8" if mask.element == "i1" else mask.element)

    @property
    def is_masked(self) -> bool:
        return self.spec.is_causal or self.spec.mask is not None

    def masked(self, scores: list[str], line: str) -> list[str]:
        """The scores of a line (a key's number; of a query, if `of_keys`) under the masks."""
        if self.spec.is_causal:
            distance = self.short(self.fn.integer("sub", line, self.seen.first))
            lanes = self.lanes.integers
            predicate = "sle" if self.of_keys else "sge"
            return [
                self.lanes.select(
                    lanes.cmp(predicate, self.lane_numbers(v), distance), score, -math.inf
                )
                for v, score in enumerate(scores)
            ]
        mask = self.spec.mask
        if mask is None:
            return scores
        found = []
        for v, score in enumerate(scores):
            value = self._mask(mask, line, v)
            if mask.element == "i1":
                visible = self._memory(mask).cmp("ne", value, 0)
                found.append(self.lanes.select(visible, score, -math.inf))
            else:
                found.append(self.lanes.fma(value, LOG2_E, score))
        return found

    def _mask(self, mask: Mask, line: str, vector: int) -> str:
        """A vector of the mask at a line."""
        fn, memory, kind = self.fn, self._memory(mask), self._along(mask)
        offset = fn.integer("mul", line, self.mask_step)
        if kind == "strided":
            return gathered(memory, self.mask_at[vector], offset)
        place = fn.gep(self.mask_at[0 if kind == "zero" else vector], offset)
        if kind == "zero":
            return memory.splat(fn.load(memory.element, place, memory.bytes))
        return memory.masked_load(place, self.there[vector])

    # -- the running softmax ------------------------------------------------------------------
    def nothing_seen(self) -> list[tuple[str, str]]:
        """The largest score and the sum of exponentials before the first block, as loops carry
        them."""
        lanes = self.lanes
        largest = [(lanes.type, lanes.const(-math.inf))] * self.vectors
        return largest + [(lanes.type, lanes.const(0.0))] * self.vectors

    def origin(self, largest: str) -> str:
        """The score whose exponential is 1: not -inf, for -inf less -inf would be NaN."""
        lanes = self.lanes
        return lanes.select(lanes.cmp("oeq", largest, -math.inf), 0.0, largest)

    def soften(
        self, scores: str, first: str, lines: str, top: list[str], total: list[str]
    ) -> tuple[list[str], list[str], list[str]]:
        """Scores become exponentials less the largest so far.

        `first` is the number of the first of the `lines`; `top` and `total` are the largest
        score before and the sum of exponentials less that. Returns both anew, and by what
        everything summed before is to be multiplied.
        """
        fn, lanes = self.fn, self.lanes
        with fn.loop(0, lines, 1, [(lanes.type, t) for t in top]) as line:
            values = self.load_line(scores, line.index)
            if self.is_masked:
                values = self.masked(values, fn.integer("add", first, line.index))
                self.store_line(values, scores, line.index)
            line.next = [self.larger(t, v) for t, v in zip(line.values, values, strict=True)]
        largest = line.values
        origin = [self.origin(t) for t in largest]
        factor = [self.exp(lanes.sub(t, o)) for t, o in zip(top, origin, strict=True)]
        sums = [(lanes.type, lanes.const(0.0))] * self.vectors
        with fn.loop(0, lines, 1, sums) as line:
            values = self.load_line(scores, line.index)
            values = [self.exp(lanes.sub(v, o)) for v, o in zip(values, origin, strict=True)]
            self.store_line(values, scores, line.index)
            line.next = [lanes.add(s, v) for s, v in zip(line.values, values, strict=True)]
        totals = [lanes.fma(t, f, s) for t, f, s in zip(total, factor, line.values, strict=True)]
        return largest, totals, factor

    def rescale(self, sums: str, lines: str, factor: list[str]) -> None:
        """Multiply what was summed."""
        self.change(sums, lines, lambda x, v: self.lanes.mul(x, factor[v]))
