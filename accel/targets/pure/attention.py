"""Attention on the pure target: which nodes have kernels, and what their kernels work on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir.node import Node
from ...ir.types import Shape
from .attention_emit import emit_attention
from .attention_spec import MAX_BATCH, MAX_WIDTH, AttentionSpec, Mask, argument_block
from .gemm_spec import Matrix
from .jit import Machine
from .site import ELEMENTS
from .views import Buffer, View

__all__ = ["Attention", "attention", "native_attention"]

_NAMES = ("scaled_dot_product_attention",)

#: Fewer queries than this do not fill the lanes; products and a softmax serve them better.
_FEW_QUERIES = 4


def native_attention(node: Node) -> bool:
    """Whether attention kernels compute `node`."""
    if node.op.name not in _NAMES:
        return False
    query, key, value = node.inputs[:3]
    batch = [extent for extent in node.type.shape[:-2] if extent != 1]
    return (
        node.type.dtype in ELEMENTS and len(batch) <= MAX_BATCH
        and max(query.type.shape[-1], value.type.shape[-1]) <= MAX_WIDTH
        and query.type.shape[-2] >= _FEW_QUERIES and key.type.size > 0 and value.type.size > 0
    )  # fmt: skip


@dataclass(frozen=True)
class Attention:
    """An application of attention.

    Attributes
    ----------
    spec
        What the code depends on.
    scale
        Of the scores.
    operands
        Views of query, key, value and mask over all batch dimensions.
    target
        What is written.
    """

    spec: AttentionSpec
    scale: float
    operands: tuple[View, ...]
    target: View

    @property
    def key(self) -> object:
        return ("attention", self.spec)

    @property
    def items(self) -> int:
        *batch, rows, _ = self.target.shape
        return math.prod(batch) * -(-rows // self.spec.tile.columns)

    @property
    def work(self) -> int:
        """Multiply-adds."""
        keys, width = self.operands[1].shape[-2:]
        return self.target.size // max(1, self.target.shape[-1]) * keys * (
            width + self.target.shape[-1]
        )

    def arguments(self, place: Callable[[Buffer], tuple[int, int]], tiles: int) -> tuple[int, ...]:
        """The argument block, where `place` gives base and offset of a buffer."""
        query, key, value, *mask = self.operands
        views = [query, key, value, self.target, *mask]
        rows, width = query.shape[-2:]
        header = {
            "rows": rows, "keys": key.shape[-2], "width": width, "values": value.shape[-1],
            "blocks": -(-rows // self.spec.tile.columns), "scale": self.scale, "tiles": tiles,
        }  # fmt: skip
        batch, strides = _folded(query.shape[:-2], [v.strides[:-2] for v in views])
        matrices = [_matrix(v, s, place(v.buffer)) for v, s in zip(views, strides, strict=True)]
        return argument_block(header, batch, matrices)

    def text(self, name: str) -> str:
        """The LLVM module of its kernel."""
        return emit_attention(self.spec, name)

    def __str__(self) -> str:
        *batch, rows, width = self.operands[0].shape
        keys, values = self.operands[2].shape[-2:]
        lead = "".join(f"{extent} x " for extent in batch)
        return f"attention {lead}[{rows}, {width}] to [{keys}, {values}]"


def _matrix(view: View, batch: Sequence[int], place: tuple[int, int]) -> Matrix:
    size = view.buffer.dtype.itemsize
    row, column = view.strides[-2:]
    strides = tuple([s * size for s in batch])
    return Matrix(place[0], place[1] + view.offset * size, row * size, column * size, strides)


def _folded(
    extents: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Batch dimensions of extent 1 left out, and neighbours merged where all strides allow."""
    batch: list[int] = []
    found: list[list[int]] = [[] for _ in strides]
    for axis, extent in enumerate(extents):
        if extent == 1:
            continue
        steps = [s[axis] for s in strides]
        if batch and all(f[-1] == s * extent for f, s in zip(found, steps, strict=True)):
            batch[-1] *= extent
            for f, s in zip(found, steps, strict=True):
                f[-1] = s
        else:
            batch.append(extent)
            for f, s in zip(found, steps, strict=True):
                f.append(s)
    return batch, found


def attention(node: Node, operands: Sequence[View], target: View, machine: Machine) -> Attention:
    """The attention that `node` does on what it reads, writing `target`."""
    query, key, value, *masks = operands
    batch = node.type.shape[:-2]
    weights = (query.shape[-2], key.shape[-2])
    spread = [_over(x, batch, x.shape[-2:]) for x in (query, key, value)]
    spread += [_over(mask, batch, weights) for mask in masks]
    mask = _mask(spread[3]) if masks else None
    spec = AttentionSpec(ELEMENTS[node.type.dtype], machine, node.attrs["is_causal"], mask)
    return Attention(spec, node.attrs["scale"], tuple(spread), target)


def _over(view: View, batch: Shape, matrix: Shape) -> View:
    return view.broadcast_to((*batch, *matrix))


def _mask(view: View) -> Mask:
    def along(stride: int) -> str:
        return {0: "zero", 1: "unit"}.get(stride, "strided")

    return Mask(ELEMENTS[view.buffer.dtype], along(view.strides[-2]), along(view.strides[-1]))
