"""Functions whose gradients their author has written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from ..evaluate import evaluate
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import TensorType

if TYPE_CHECKING:
    from ..builder import Builder
    from ..graph import Graph
    from ..node import Node

__all__: list[str] = []


def _type(
    *operands: TensorType, body: Graph, pullback: Graph, wrt: tuple[int, ...], index: int
) -> TensorType:
    wanted = [n.type for n in body.inputs]
    if [(t.dtype, t.shape) for t in operands] != [(t.dtype, t.shape) for t in wanted]:
        raise ArgumentError(
            f"custom: operands {', '.join(map(str, operands))} for {', '.join(map(str, wanted))}",
            remedy="give those of the body's inputs",
        )
    if not 0 <= index < len(body.outputs):
        raise ArgumentError(f"custom: result {index} of {len(body.outputs)}")
    if len(pullback.inputs) != len(wanted) + len(body.outputs) or len(pullback.outputs) != len(wrt):
        raise ArgumentError("custom: the pullback takes operands and cotangents, and returns the "
                            "gradients of some operands")  # fmt: skip
    return body.outputs[index].type


def _reference(*arrays: np.ndarray, body: Graph, index: int, **attrs: Any) -> np.ndarray:
    values = dict(zip(body.inputs, arrays, strict=True))
    for node in body.nodes[len(body.inputs) :]:
        values[node] = evaluate(node.op, [values[i] for i in node.inputs], node.attrs, node.type)
    return values[body.outputs[index]]


def _gradient(b: Builder, g: Node, node: Node) -> Sequence[Node | None]:
    attrs = node.attrs
    cotangents = [
        g if i == attrs["index"] else b.full(0, n.type.shape, n.type.dtype)
        for i, n in enumerate(attrs["body"].outputs)
    ]
    found = b.inline(attrs["pullback"], [*node.inputs, *cotangents])
    by_place = dict(zip(attrs["wrt"], found, strict=True))
    return [by_place.get(place) for place in range(len(node.inputs))]


def _samples() -> list[Sample]:
    from ..parsing import parse

    body = parse("""graph(%x: f64[3], %n: i32[3]) {
      %0 = sin(%x) : f64[3]
      %1 = cast(%n, dtype=f64, weak=false) : f64[3]
      %2 = mul(%x, %1) : f64[3]
      return %0, %2
    }""")
    pullback = parse("""graph(%x: f64[3], %n: i32[3], %g: f64[3], %h: f64[3]) {
      %0 = cos(%x) : f64[3]
      %1 = mul(%g, %0) : f64[3]
      %2 = cast(%n, dtype=f64, weak=false) : f64[3]
      %3 = mul(%h, %2) : f64[3]
      %4 = add(%1, %3) : f64[3]
      return %4
    }""")
    operands = tuple(n.type for n in body.inputs)
    attrs = {"body": body, "pullback": pullback, "wrt": (0,)}
    return [Sample(operands, {**attrs, "index": i}) for i in range(2)]


def _error_samples() -> list[ErrorSample]:
    whole, half = (sample.attrs for sample in _samples())
    x, n = _samples()[0].operands
    return [
        ErrorSample((x, x), whole, ArgumentError, "operands"),
        ErrorSample((x, n), {**half, "index": 2}, ArgumentError, "result 2 of 2"),
        ErrorSample((x, n), {**whole, "wrt": (0, 1)}, ArgumentError, "pullback"),
    ]


register(Op(
    name="custom", form="composite", category="elementwise", arity=(0, None), promote="none",
    attrs={"body": REQUIRED, "pullback": REQUIRED, "wrt": REQUIRED, "index": REQUIRED},
    infer=_type, reference=_reference, exact=True, gradient=_gradient,
    expand=lambda b, *operands, body, index, **attrs: b.inline(body, operands)[index],
    samples=_samples, error_samples=_error_samples,
    doc="One result of a graph of its own, whose gradients another graph makes of operands and "
    "cotangents.",
))  # fmt: skip
