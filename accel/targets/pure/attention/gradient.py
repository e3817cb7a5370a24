"""Emission of attention's gradient: two kernels that compute the weights anew, block by block.

With weights P, cotangent G, result O and D = Σ G O along a row, the scores' cotangent is
P (G Vᵀ - D). The first kernel has a lane a query, like attention itself; it sums the query's
gradient and leaves of every query what the weights are made of. The second has a lane a key and
takes the queries in blocks, so that no sum is shared between items. (T. Dao et al.:
FlashAttention, NeurIPS 2022, in two kernels for the sake of a fixed order.)
"""

from __future__ import annotations

from ..gemm.spec import smaller
from .blocks import Rows
from .scores import Scores
from .spec import AttentionSpec

__all__ = ["STATISTICS", "emit_key_gradient", "emit_query_gradient"]

QUERY, KEY, VALUE, COTANGENT, KEPT = range(5)
#: Rows of what is kept of the queries: the score taken for 0, the inverse of the exponentials'
#: sum, and D.
STATISTICS = 3


class _QueryGradient(Scores):
    OUT, TARGET, MASK = 5, 6, 7

    def prepare(self) -> None:
        super().prepare()
        field = self.arguments.field
        self.query, self.cotangent, self.sums = (self.scratch() for _ in range(3))
        self.scores, self.slopes = self.scratch(self.steps), self.scratch(self.steps)
        self.by_key = self.frame(field(KEY, "row"), field(KEY, "column"))
        self.by_value = self.frame(field(VALUE, "row"), field(VALUE, "column"))
        self.into = self.frame(field(KEY, "column"), field(KEY, "row"))

    def item(self, batch: list[str], rows: Rows) -> None:
        fn, lanes = self.fn, self.lanes
        self.see(batch, rows, self.MASK)
        self.turn(rows, self.matrix(QUERY, batch), self.width, self.query, self.binary_scale)
        self.turn(rows, self.matrix(COTANGENT, batch), self.values, self.cotangent)
        inner = self._inner(batch, rows)
        key, key_row, _ = self.matrix(KEY, batch)
        value, value_row, _ = self.matrix(VALUE, batch)
        end = self.keys
        if self.spec.is_causal:
            end = smaller(fn, end, fn.integer("add", rows.first, rows.count))
        with fn.loop(0, end, self.steps, self.nothing_seen()) as block:
            lines = smaller(fn, fn.integer("sub", end, block.index), self.steps)
            keys = fn.gep(key, fn.integer("mul", block.index, key_row))
            values = fn.gep(value, fn.integer("mul", block.index, value_row))
            self.product(self.by_key, self.width, keys, self.query, self.scores, lines)
            self.product(
                self.by_value, self.values, values, self.cotangent, self.slopes, lines
            )
            top, total = block.values[: self.vectors], block.values[self.vectors :]
            top, total, factor = self.soften(self.scores, block.index, lines, top, total)
            with fn.when(fn.icmp("ne", block.index, 0)):
                self.rescale(self.sums, self.width, factor)
            with fn.loop(0, lines) as line:
                powers = self.load_line(self.scores, line.index)
                slopes = self.load_line(self.slopes, line.index)
                slopes = [lanes.sub(s, d) for s, d in zip(slopes, inner, strict=True)]
                slopes = [lanes.mul(p, s) for p, s in zip(powers, slopes, strict=True)]
                self.store_line(slopes, self.scores, line.index)
            self.accumulate(self.into, block.index)
            self.product(self.into, lines, keys, self.scores, self.sums, self.width)
            block.next = [*top, *total]
        top, total = block.values[: self.vectors], block.values[self.vectors :]
        inverse = [
            lanes.select(lanes.cmp("oeq", t, 0.0), 0.0, lanes.div(1.0, t)) for t in total
        ]
        self._keep(batch, rows, [[self.origin(t) for t in top], inverse, inner])
        factor = [lanes.mul(i, self.scale) for i in inverse]
        target, target_row, _ = self.matrix(self.TARGET, batch)
        self.rescale(self.sums, self.width, factor)
        self.turn_back(rows, (target, target_row), self.width, self.sums)

    def _inner(self, batch: list[str], rows: Rows) -> list[str]:
        """D of every query."""
        lanes = self.lanes
        self.turn(rows, self.matrix(self.OUT, batch), self.values, self.sums)
        start = [(lanes.type, lanes.const(0.0))] * self.vectors
        with self.fn.loop(0, self.values, 1, start) as e:
            out, cotangent = (
                self.load_line(place, e.index) for place in (self.sums, self.cotangent)
            )
            triples = zip(out, cotangent, e.values, strict=True)
            e.next = [lanes.fma(o, g, total) for o, g, total in triples]
        return e.values

    def _keep(self, batch: list[str], rows: Rows, statistics: list[list[str]]) -> None:
        fn, lanes = self.fn, self.lanes
        kept, row, _ = self.matrix(KEPT, batch)
        start = fn.gep(kept, rows.first, lanes.element)
        for number, values in enumerate(statistics):
            line = fn.gep(start, fn.integer("mul", row, number))
            for v, value in enumerate(values):
                there = lanes.lane_mask(v * lanes.width, rows.count)
                lanes.masked_store(value, fn.gep(line, v * self.vector_bytes), there)


class _KeyGradient(Scores):
    of_keys = True
    OF_KEY, OF_VALUE, MASK = 5, 6, 7

    def prepare(self) -> None:
        super().prepare()
        field = self.arguments.field
        self.key, self.value, self.of_key, self.of_value = (self.scratch() for _ in range(4))
        self.scores, self.slopes = self.scratch(self.steps), self.scratch(self.steps)
        self.by_query = self.frame(field(QUERY, "row"), field(QUERY, "column"))
        self.by_cotangent = self.frame(field(COTANGENT, "row"), field(COTANGENT, "column"))
        self.into_key = self.frame(field(QUERY, "column"), field(QUERY, "row"))
        self.into_value = self.frame(field(COTANGENT, "column"), field(COTANGENT, "row"))
        for frame in (self.into_key, self.into_value):
            self.accumulate(frame, "1")

    def extent(self) -> str:
        return self.keys

    def item(self, batch: list[str], rows: Rows) -> None:
        fn, lanes = self.fn, self.lanes
        self.see(batch, rows, self.MASK)
        self.turn(rows, self.matrix(KEY, batch), self.width, self.key, self.binary_scale)
        self.turn(rows, self.matrix(VALUE, batch), self.values, self.value)
        for sums, lines in ((self.of_key, self.width), (self.of_value, self.values)):
            with fn.loop(0, lines) as line:  # of keys that no query sees, too
                self.store_line([lanes.const(0.0)] * self.vectors, sums, line.index)
        query, query_row, _ = self.matrix(QUERY, batch)
        cotangent, cotangent_row, _ = self.matrix(COTANGENT, batch)
        begin = rows.first if self.spec.is_causal else "0"
        with fn.loop(begin, self.rows, self.steps) as block:
            lines = smaller(fn, fn.integer("sub", self.rows, block.index), self.steps)
            queries = fn.gep(query, fn.integer("mul", block.index, query_row))
            slopes = fn.gep(cotangent, fn.integer("mul", block.index, cotangent_row))
            self.product(
                self.by_query, self.width, queries, self.key, self.scores, lines
            )
            self.product(
                self.by_cotangent, self.values, slopes, self.value, self.slopes,
                lines,
            )  # fmt: skip
            self._weigh(batch, block.index, lines)
            self.product(
                self.into_value, lines, slopes, self.scores, self.of_value,
                self.values,
            )  # fmt: skip
            self.product(
                self.into_key, lines, queries, self.slopes, self.of_key, self.width
            )
        target, row, _ = self.matrix(self.OF_KEY, batch)
        self.rescale(self.of_key, self.width, [self.scale] * self.vectors)
        self.turn_back(rows, (target, row), self.width, self.of_key)
        target, row, _ = self.matrix(self.OF_VALUE, batch)
        self.turn_back(rows, (target, row), self.values, self.of_value)

    def _weigh(self, batch: list[str], first: str, lines: str) -> None:
        """Scores become weights, and products of cotangents and values the scores' cotangents."""
        fn, lanes = self.fn, self.lanes
        kept, step, _ = self.matrix(KEPT, batch)
        with fn.loop(0, lines) as line:
            query = fn.integer("add", first, line.index)
            origin, inverse, inner = (
                lanes.splat(fn.load(lanes.element, fn.gep(
                    fn.gep(kept, fn.integer("mul", step, number)), query, lanes.element
                ), lanes.bytes))
                for number in range(STATISTICS)
            )  # fmt: skip
            scores = self.masked(self.load_line(self.scores, line.index), query)
            weights = [lanes.mul(self.exp(lanes.sub(s, origin)), inverse) for s in scores]
            slopes = self.load_line(self.slopes, line.index)
            slopes = [
                lanes.mul(w, lanes.sub(s, inner)) for w, s in zip(weights, slopes, strict=True)
            ]
            self.store_line(weights, self.scores, line.index)
            self.store_line(slopes, self.slopes, line.index)


def emit_query_gradient(spec: AttentionSpec, name: str = "query_gradient") -> str:
    """The kernel ``i64 name(ptr bases, ptr args, i64 begin, i64 end)`` over blocks of queries."""
    return _QueryGradient(spec, name).text()


def emit_key_gradient(spec: AttentionSpec, name: str = "key_gradient") -> str:
    """The same over blocks of keys; it reads what the kernel over queries kept."""
    return _KeyGradient(spec, name).text()
