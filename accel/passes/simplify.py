"""Algebraic simplification, only where the result is the same to the last bit under IEEE.

``x + 0.0`` stays (it turns -0.0 into 0.0), ``x - 0.0`` and ``x * 1`` go; ``x - x`` and
``x * 0`` stay (NaN, infinity). One function per op, found by name in `RULES`; each looks at
one node and its new operands and returns a replacement or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Literal, Node
from ..ir.types import broadcast_shapes
from .rewrite import rebuild

__all__ = ["RULES", "simplify"]

Rule = Callable[[Builder, Node, tuple[Node, ...]], "Node | None"]


def simplify(graph: Graph) -> Graph:
    """Apply `RULES` to every node, and drop broadcasts that pointwise ops do by themselves."""

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        operands = inputs
        if node.op.pointwise and len(inputs) > 1:
            operands = _without_broadcasts(node, inputs)
        rule = RULES.get(node.op.name)
        found = rule(b, node, operands) if rule is not None else None
        if found is not None and found.type == node.type:
            return found
        if operands is inputs:
            return None
        return b.node(node.op, operands, node.attrs, node.type, node.loc)

    return rebuild(graph, visit)


def _without_broadcasts(node: Node, inputs: tuple[Node, ...]) -> tuple[Node, ...]:
    """Operands read under their `broadcast_to` where the result keeps its shape."""
    if not any(i.op.name == "broadcast_to" for i in inputs):
        return inputs
    current = list(inputs)
    for place, operand in enumerate(current):
        if operand.op.name == "broadcast_to":
            shapes = [n.type.shape for n in current]
            shapes[place] = operand.inputs[0].type.shape
            if broadcast_shapes(shapes) == node.type.shape:
                current[place] = operand.inputs[0]
    return tuple(current)


def scalar_of(node: Node) -> bool | int | float | complex | None:
    """The number that `node` is everywhere, if it is a (spread) constant."""
    while node.op.name in ("broadcast_to", "reshape") and node.inputs:
        node = node.inputs[0]
    if node.op.name != "constant":
        return None
    value = node.attrs["value"]
    return None if isinstance(value, Literal) else value


def _is(node: Node, number: float) -> bool:
    """Whether `node` is the constant `number`; -0.0 is not 0.0, True is not 1."""
    value = scalar_of(node)
    if value is None or isinstance(value, (bool, complex)) or value != number:
        return False
    return number != 0 or math.copysign(1.0, value) == math.copysign(1.0, number)


def _like(b: Builder, x: Node, node: Node) -> Node | None:
    """`x` as the result of `node`: spread to its shape."""
    if x.type.dtype is not node.type.dtype or x.type.weak != node.type.weak:
        return None
    return x if x.type.shape == node.type.shape else b.broadcast_to(x, shape=node.type.shape)


def _add(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    for x, y in (inputs, inputs[::-1]):
        zero = 0 if node.type.dtype.is_integer else -0.0
        if _is(y, zero):
            return _like(b, x, node)
    return None


def _sub(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    return _like(b, inputs[0], node) if _is(inputs[1], 0) else None


def _mul(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    for x, y in (inputs, inputs[::-1]):
        if _is(y, 1):
            return _like(b, x, node)
        if _is(y, -1) and x.type.shape == node.type.shape and node.type.dtype.kind in "if":
            return b.neg(x)
    return None


def _div(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    x, y = inputs
    if _is(y, 1):
        return _like(b, x, node)
    value = scalar_of(y)
    if isinstance(value, float) and node.type.dtype.name in ("float32", "float64"):
        mantissa, exponent = math.frexp(value)
        if abs(mantissa) == 0.5 and abs(exponent) < 100:  # 1 / 2**k is exact
            return b.mul(x, b.constant(1.0 / value, node.type.dtype))
    return None


def _pow(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    x, y = inputs
    if _is(y, 1):
        return _like(b, x, node)
    if _is(y, 2) and x.type.shape == node.type.shape and node.type.dtype.kind in "iuf":
        return b.square(x)
    return None


def _inverse_of_itself(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    return inputs[0].inputs[0] if inputs[0].op is node.op else None


def _idempotent(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    return inputs[0] if inputs[0].op is node.op else None


def _where(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    chosen = scalar_of(inputs[0])
    if isinstance(chosen, bool):
        return _like(b, inputs[1] if chosen else inputs[2], node)
    return _like(b, inputs[1], node) if inputs[1] is inputs[2] else None


#: Casts that keep every value, so that casting back gives the operand again.
_LOSSLESS = {
    ("float32", "float64"), ("float16", "float32"), ("float16", "float64"),
    ("bfloat16", "float32"), ("bfloat16", "float64"), ("int32", "int64"), ("int16", "int64"),
    ("int8", "int64"), ("uint8", "int64"), ("int16", "int32"), ("int8", "int32"),
    ("int32", "float64"), ("bool", "float32"), ("bool", "float64"), ("bool", "int64"),
}  # fmt: skip


def _cast(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    (x,) = inputs
    if x.type == node.type:
        return x
    if x.op.name == "cast":
        source = x.inputs[0]
        lossless = (source.type.dtype.name, x.type.dtype.name) in _LOSSLESS
        if lossless and source.type == node.type:
            return source
    if x.op.name == "broadcast_to" and scalar_of(x) is not None:
        return b.broadcast_to(b.cast(x.inputs[0], node.type.dtype), shape=node.type.shape)
    return None


def _permute(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    (x,) = inputs
    axes = node.attrs["axes"]
    if x.op.name == "permute":
        axes = tuple(x.attrs["axes"][i] for i in axes)
        x = x.inputs[0]
    if axes == tuple(range(len(axes))):
        return x
    return b.permute(x, axes=axes) if x is not inputs[0] else None


def _reshape(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    (x,) = inputs
    if x.type.shape == node.type.shape:
        return x
    if x.op.name == "reshape":
        return b.reshape(x.inputs[0], shape=node.type.shape)
    if x.op.name == "broadcast_to" and x.inputs[0].type.size == 1:
        scalar = x.inputs[0]
        if scalar.type.ndim:
            scalar = b.reshape(scalar, shape=())
        return b.broadcast_to(scalar, shape=node.type.shape)
    return None


def _broadcast(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    (x,) = inputs
    if x.type.shape == node.type.shape:
        return x
    if x.op.name == "broadcast_to":
        return b.broadcast_to(x.inputs[0], shape=node.type.shape)
    return None


def _slice(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    (x,) = inputs
    whole = zip(node.attrs["start"], node.attrs["step"], strict=True)
    if x.type.shape == node.type.shape and all(begin == 0 and step == 1 for begin, step in whole):
        return x
    return None


def _reduce(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """A maximum or a sum over extents of 1 is a reshape."""
    (x,) = inputs
    if any(x.type.shape[a] != 1 for a in node.attrs["axis"]):
        return None
    if x.type.dtype is not node.type.dtype:
        return None
    return b.reshape(x, shape=node.type.shape) if x.type.shape != node.type.shape else x


def _drop(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    return inputs[0]


def _check_index(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """A check of what a check with the same bound has passed is done."""
    (x,) = inputs
    if x.op.name == "check_index" and x.attrs["size"] <= node.attrs["size"]:
        return x
    return None


RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": _inverse_of_itself,
    "logical_not": _inverse_of_itself,
    "bitwise_invert": _inverse_of_itself,
    "abs": _idempotent,
    "floor": _idempotent,
    "ceil": _idempotent,
    "trunc": _idempotent,
    "round": _idempotent,
    "relu": _idempotent,
    "where": _where,
    "cast": _cast,
    "permute": _permute,
    "reshape": _reshape,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "sum": _reduce,
    "amax": _reduce,
    "amin": _reduce,
    "stop_gradient": _drop,
    "check_index": _check_index,
}
