"""Attention and its gradient on the pure target: which nodes have kernels, on what they work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ....ir.dataclass import dataclass
from ....ir.node import Node
from ....ir.types import Shape
from ..gemm.spec import Matrix
from ..halves import in_registers
from ..machine.jit import Machine
from ..nests.site import ELEMENTS
from ..views import Buffer, View
from .emit import emit_attention
from .gradient import STATISTICS, emit_key_gradient, emit_query_gradient
from .spec import MAX_BATCH, MAX_WIDTH, AttentionSpec, Mask, argument_block

__all__ = ["Attention", "Part", "attention", "native_attention"]

_FORWARD, _GRADIENT = "scaled_dot_product_attention", "scaled_dot_product_attention_gradient"

#: Fewer queries than this do not fill the lanes; products and a softmax serve them better.
_FEW_QUERIES = 12

#: Multiply-adds that a score costs besides its products.
_SCORE_WORK = 8

_EMITTERS: dict[str, Callable[[AttentionSpec, str], str]] = {
    "attention": emit_attention,
    "query_gradient": emit_query_gradient,
    "key_gradient": emit_key_gradient,
}


def native_attention(node: Node) -> bool:
    """Whether attention kernels compute `node`, in float32 if it is of halves."""
    if node.op.name not in (_FORWARD, _GRADIENT):
        return False
    query, key, value = _matrices(node)
    batch = [extent for extent in node.type.shape[:-2] if extent != 1]
    return (
        in_registers(node.type.dtype) in ELEMENTS and len(batch) <= MAX_BATCH
        and max(query.type.shape[-1], value.type.shape[-1]) <= MAX_WIDTH
        and query.type.shape[-2] >= _FEW_QUERIES and key.type.size > 0 and value.type.size > 0
    )  # fmt: skip


def _matrices(node: Node) -> tuple[Node, ...]:
    """Query, key and value."""
    first = 0 if node.op.name == _FORWARD else 1
    return node.inputs[first : first + 3]


@dataclass(frozen=True)
class Part:
    """One kernel of an attention.

    Attributes
    ----------
    kind
        ``attention``, ``query_gradient`` or ``key_gradient``.
    views
        What it reads and writes, in the order of its records.
    rows
        What its items cover.
    work
        In multiply-adds.
    """

    kind: str
    views: tuple[View, ...]
    rows: int
    work: int


@dataclass(frozen=True)
class Attention:
    """An application of attention, or its gradient.

    Attributes
    ----------
    spec
        What the code depends on.
    scale
        Of the scores.
    query, value
        Views of these over all batch dimensions.
    parts
        The kernels, in order.
    reads, own
        The buffers that are read, and those that lie in scratch memory.
    """

    spec: AttentionSpec
    scale: float
    query: View
    value: View
    parts: tuple[Part, ...]
    reads: frozenset[Buffer]
    own: tuple[Buffer, ...] = ()

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory."""
        return sum(map(_aligned, self.own))

    def key(self, part: Part) -> object:
        """What the code of a part depends on."""
        return (part.kind, self.spec)

    def text(self, part: Part, name: str) -> str:
        """The LLVM module of a part."""
        return _EMITTERS[part.kind](self.spec, name)

    def items(self, part: Part) -> int:
        return math.prod(self.query.shape[:-2]) * self._blocks(part)

    def _blocks(self, part: Part) -> int:
        return -(-part.rows // self.spec.tile.columns)

    def arguments(
        self, part: Part, place: Callable[[Buffer], tuple[int, int]], scratch: tuple[int, int],
        tiles: int,
    ) -> tuple[int, ...]:  # fmt: skip
        """The argument block, where `place` gives base and offset of a buffer."""
        base, at = scratch
        places: dict[Buffer, tuple[int, int]] = {}
        for buffer in self.own:
            places[buffer] = (base, at)
            at += _aligned(buffer)
        rows, width = self.query.shape[-2:]
        keys, values = self.value.shape[-2:]
        header = {
            "rows": rows, "keys": keys, "width": width, "values": values, "scale": self.scale,
            "blocks": self._blocks(part), "tiles": tiles,
        }  # fmt: skip
        batch, strides = _folded(self.query.shape[:-2], [v.strides[:-2] for v in part.views])
        matrices = [
            _matrix(v, s, places.get(v.buffer) or place(v.buffer))
            for v, s in zip(part.views, strides, strict=True)
        ]
        return argument_block(header, batch, matrices)

    def __str__(self) -> str:
        *batch, rows, width = self.query.shape
        keys, values = self.value.shape[-2:]
        lead = "".join(f"{extent} x " for extent in batch)
        return f"attention {lead}[{rows}, {width}] to [{keys}, {values}]"


def _aligned(buffer: Buffer) -> int:
    return -(-buffer.nbytes // 64) * 64


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


def attention(
    operands: Sequence[View], targets: Mapping[Node, View], machine: Machine
) -> Attention:
    """Attention, or its gradient for several operands.

    Parameters
    ----------
    operands
        Where the operands of the nodes lie, which are the same for all.
    targets
        The nodes that are computed, and where they are written.
    machine
        What code is made for.
    """
    node = next(iter(targets))
    wanted = {n.attrs.get("of", "result"): target for n, target in targets.items()}
    batch = node.type.shape[:-2]
    first = 0 if node.op.name == _FORWARD else 1
    query, key, value = (
        x.broadcast_to((*batch, *x.shape[-2:])) for x in operands[first : first + 3]
    )
    masks = [m.broadcast_to((*batch, query.shape[-2], key.shape[-2]))
             for m in operands[first + 3 + first :]]  # fmt: skip
    mask = _mask(masks[0]) if masks else None
    spec = AttentionSpec(ELEMENTS[node.type.dtype], machine, node.attrs["is_causal"], mask)
    reads = frozenset([view.buffer for view in operands])
    scores = math.prod(batch) * query.shape[-2] * key.shape[-2]
    width, values = query.shape[-1], value.shape[-1]
    rows, keys = query.shape[-2], key.shape[-2]
    if node.op.name == _FORWARD:
        views = (query, key, value, wanted["result"], *masks)
        part = Part("attention", views, rows, scores * (width + values + _SCORE_WORK))
        return Attention(spec, node.attrs["scale"], query, value, (part,), reads)

    own: list[Buffer] = []

    def fresh(shape: Shape) -> View:
        own.append(Buffer(node.type.dtype, math.prod(shape)))
        return own[-1].whole(shape)

    kept = fresh((*batch, STATISTICS, rows))
    of_query, of_key, of_value = (
        wanted.get(name) or fresh(x.shape)
        for name, x in (("query", query), ("key", key), ("value", value))
    )
    cotangent, result = operands[0], operands[4]
    parts = [Part(
        "query_gradient", (query, key, value, cotangent, kept, result, of_query, *masks), rows,
        scores * (2 * width + values + _SCORE_WORK),
    )]  # fmt: skip
    if "key" in wanted or "value" in wanted:
        parts.append(Part(
            "key_gradient", (query, key, value, cotangent, kept, of_key, of_value, *masks), keys,
            scores * (2 * width + 2 * values + _SCORE_WORK),
        ))  # fmt: skip
    return Attention(spec, node.attrs["scale"], query, value, tuple(parts), reads, tuple(own))


def _mask(view: View) -> Mask:
    def along(stride: int) -> str:
        return {0: "zero", 1: "unit"}.get(stride, "strided")

    return Mask(ELEMENTS[view.buffer.dtype], along(view.strides[-2]), along(view.strides[-1]))
