"""Determinants and adjugates of many small matrices, written out: one kernel for all of them.

For such matrices LAPACK spends its time on being called. The products are taken in double
precision, and so float32 is rounded once; of float64 errors go by the products of the rows'
lengths, as those of elimination with pivots do.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir import dtypes
from ...ir.builder import Builder
from ...ir.graph import Graph
from ...ir.node import Node
from ...passes.rewrite import rebuild

__all__ = ["written_out"]

#: Rows of the largest matrices that are written out.
_MOST = 3

Entries = list[list[Node]]


def written_out(graph: Graph) -> Graph:
    """`graph` with determinants and adjugates of small matrices in arithmetic."""

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if not _is_small(node):
            return None
        (x,) = inputs
        made = _WRITTEN[node.op.name](b, _entries(b, x), node)
        return b.cast(made, node.type.dtype)

    return rebuild(graph, visit) if any(map(_is_small, graph.nodes)) else graph


def _is_small(node: Node) -> bool:
    return node.op.name in _WRITTEN and 1 <= node.inputs[0].type.shape[-1] <= _MOST


def _entries(b: Builder, x: Node) -> Entries:
    """The elements of every matrix in double precision, by row and column."""
    shape = x.type.shape
    wide = dtypes.complex128 if x.type.dtype.kind == "c" else dtypes.float64
    batch, n = shape[:-2], shape[-1]

    def entry(i: int, j: int) -> Node:
        start, stop = (0,) * len(batch) + (i, j), (*batch, i + 1, j + 1)
        one = b.slice(x, start=start, stop=stop, step=(1,) * len(shape))
        return b.cast(b.reshape(one, shape=batch), wide)

    return [[entry(i, j) for j in range(n)] for i in range(n)]


def _determinant(b: Builder, a: Entries) -> Node:
    """By the first row."""
    if len(a) == 1:
        return a[0][0]
    total = b.mul(a[0][0], _determinant(b, _minor(a, 0, 0)))
    for j in range(1, len(a)):
        term = b.mul(a[0][j], _determinant(b, _minor(a, 0, j)))
        total = b.sub(total, term) if j % 2 else b.add(total, term)
    return total


def _minor(a: Entries, i: int, j: int) -> Entries:
    """`a` without row `i` and column `j`."""
    return [row[:j] + row[j + 1 :] for row in a[:i] + a[i + 1 :]]


def _det(b: Builder, a: Entries, node: Node) -> Node:
    return _determinant(b, a)


def _adjugate(b: Builder, a: Entries, node: Node) -> Node:
    """The transposed cofactors."""
    n, found = len(a), []
    if n == 1:
        return b.full(1.0, node.type.shape, a[0][0].type.dtype)
    for i in range(n):
        for j in range(n):
            minor = _determinant(b, _minor(a, j, i))
            cofactor = b.neg(minor) if (i + j) % 2 else minor
            found.append(b.reshape(b.cast(cofactor, node.type.dtype),
                                   shape=(*cofactor.type.shape, 1)))  # fmt: skip
    return b.reshape(b.cat(*found, axis=len(node.type.shape) - 2), shape=node.type.shape)


_WRITTEN: dict[str, Callable[[Builder, Entries, Node], Node]] = {
    "det": _det, "adjugate": _adjugate,
}  # fmt: skip
