"""Emission of the attention kernel: softmax(scale * Q Kᵀ + mask) V without its L x S weights.

An item is a block of queries. It takes the keys in blocks: the scores of a block, in scratch
memory on the stack, become exponentials less the largest score so far, and are summed into
the result, which is rescaled when a larger one turns up. (M. Milakov, N. Gimelshein: Online
normalizer calculation for softmax, 2018; T. Dao et al.: FlashAttention, NeurIPS 2022.)
"""

from __future__ import annotations

from ..gemm.spec import smaller
from .blocks import Rows
from .scores import Scores
from .spec import AttentionSpec

__all__ = ["emit_attention"]

QUERY, KEY, VALUE, OUT, MASK = range(5)


class _Attention(Scores):
    def prepare(self) -> None:
        super().prepare()
        field = self.arguments.field
        self.query, self.scores = self.scratch(), self.scratch(self.steps)
        self.result = self.scratch()
        self.by_key = self.frame(field(KEY, "row"), field(KEY, "column"))
        self.by_value = self.frame(field(VALUE, "column"), field(VALUE, "row"))

    def item(self, batch: list[str], rows: Rows) -> None:
        fn, lanes = self.fn, self.lanes
        self.see(batch, rows, MASK)
        self.turn(rows, self.matrix(QUERY, batch), self.width, self.query, self.binary_scale)
        key, key_row, _ = self.matrix(KEY, batch)
        value, value_row, _ = self.matrix(VALUE, batch)
        end = self.keys
        if self.spec.is_causal:
            end = smaller(fn, end, fn.integer("add", rows.first, rows.count))
        with fn.loop(0, end, self.steps, self.nothing_seen()) as block:
            lines = smaller(fn, fn.integer("sub", end, block.index), self.steps)
            there = fn.gep(key, fn.integer("mul", block.index, key_row))
            self.product(self.by_key, self.width, there, self.query, self.scores, lines)
            top, total = block.values[: self.vectors], block.values[self.vectors :]
            top, total, factor = self.soften(self.scores, block.index, lines, top, total)
            with fn.when(fn.icmp("ne", block.index, 0)):
                self.rescale(self.result, self.values, factor)
            self.accumulate(self.by_value, block.index)
            there = fn.gep(value, fn.integer("mul", block.index, value_row))
            self.product(self.by_value, lines, there, self.scores, self.result, self.values)
            block.next = [*top, *total]
        total = block.values[self.vectors :]
        blind = [lanes.cmp("oeq", t, 0.0) for t in total]
        factor = [lanes.div(1.0, t) for t in total]

        def finish(value: str, vector: int) -> str:
            return lanes.select(blind[vector], 0.0, lanes.mul(value, factor[vector]))

        out, out_row, _ = self.matrix(OUT, batch)
        self.change(self.result, self.values, finish)
        self.turn_back(rows, (out, out_row), self.values, self.result)


def emit_attention(spec: AttentionSpec, name: str = "attention") -> str:
    """The attention kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``."""
    return _Attention(spec, name).text()
