"""Complex numbers as pairs of real ones.

Kernels know real numbers only: work on complex numbers is written here as work on their parts.
The parts of numbers in memory are read as every second word (`clusters.Part`); where a number
is needed whole, the op ``complex`` puts its parts side by side, which costs nothing where they are
stored. Infinities, NaN and zeros are treated as NumPy does: products have no special cases,
quotients are R. L. Smith's (Algorithm 116: Complex division, 1962), exponentials those of ISO C
(annex G.6.3.1). What has no rule is computed on whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...ir import dtypes
from ...ir.builder import Builder
from ...ir.dtypes import DType
from ...ir.graph import Graph
from ...ir.node import Node
from ...ir.op import get_op
from ...passes.rewrite import rebuild
from ...passes.simplify import scalar_of

__all__ = ["in_parts"]

_COMPLEX = get_op("complex")

Pair = tuple[Node, Node]
#: Given the builder, the attributes, the dtype of the result's parts, and the operands, those
#: that are complex as pairs: the result, a pair if it is complex; None if it has none.
Rule = Callable[..., "Pair | Node | None"]

#: Of a complex number; NumPy's errs less than products beyond some.
_LARGEST_POWER = 16

#: Movement of the first operand.
_MOVES = frozenset(["permute", "reshape", "broadcast_to", "slice", "flip", "barrier"])


def in_parts(graph: Graph) -> Graph:
    """`graph` with work on complex numbers done on their parts, where there is a rule for it."""
    if all(n.type.dtype.kind != "c" for n in graph.nodes):
        return graph
    pairs: dict[Node, Pair] = {}

    def parts(b: Builder, x: Node) -> Pair | Node:
        if x.type.dtype.kind == "c" and x not in pairs:
            pairs[x] = b.real(x), b.imag(x)
        return pairs.get(x, x)

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        dtype, name = node.type.dtype, node.op.name
        if dtype.kind != "c" and all(x.type.dtype.kind != "c" for x in inputs):
            return None
        if name == "constant" and isinstance(node.attrs["value"], complex):
            whole = b.node(node.op, inputs, node.attrs, node.type, node.loc)
            value = node.attrs["value"]
            pairs[whole] = b.constant(value.real, dtype.real), b.constant(value.imag, dtype.real)
            return whole
        if name in _MOVES:
            whole = b.node(node.op, inputs, node.attrs, node.type, node.loc)
            if inputs[0] in pairs:
                others = inputs[1:]  # of a barrier
                re, im = (b.apply(node.op, x, *others, **node.attrs) for x in pairs[inputs[0]])
                pairs[whole] = re, im
            return whole
        rule = _RULES.get(name)
        made = rule and rule(b, node.attrs, dtype.real, *[parts(b, x) for x in inputs])
        if made is None or isinstance(made, Node):
            return made
        re, im = (b.broadcast_to(x, shape=node.type.shape) for x in made)
        whole = b.node(_COMPLEX, (re, im), {}, node.type, node.loc)
        pairs[whole] = re, im
        return whole

    return rebuild(graph, visit)


# -- arithmetic ----------------------------------------------------------------------------
def _each(name: str) -> Rule:
    """The op on real and on imaginary parts, each for itself."""

    def rule(b: Builder, attrs: Mapping[str, Any], dtype: DType, *operands: Pair) -> Pair:
        re, im = (b.apply(name, *own, **attrs) for own in zip(*operands, strict=True))
        return re, im

    return rule


def _folded(name: str) -> Rule:
    """`_each` of what names the dtype of its result."""

    def rule(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Pair | Node | None:
        if isinstance(z, Node):
            return None
        if "dtype" in attrs and attrs["dtype"].kind != "c":
            return b.apply(name, _real(b, attrs["dtype"], z), **attrs)
        attrs = {**attrs, "dtype": dtype} if "dtype" in attrs else attrs
        return b.apply(name, z[0], **attrs), b.apply(name, z[1], **attrs)

    return rule


def _product(name: str) -> Rule:
    def rule(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair, w: Pair) -> Pair:
        return _multiplied(b, name, z, w)

    return rule


def _multiplied(b: Builder, name: str, z: Pair, w: Pair) -> Pair:
    (p, q), (r, s) = z, w
    re = b.sub(b.apply(name, p, r), b.apply(name, q, s))
    return re, b.add(b.apply(name, p, s), b.apply(name, q, r))


def _div(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair, w: Pair) -> Pair:
    """(p + qi)/(r + si) with numerator and denominator divided by the greater of r and s."""
    (p, q), (r, s) = z, w
    first = b.ge(b.abs(r), b.abs(s))
    great, small = b.where(first, r, s), b.where(first, s, r)
    x, y = b.where(first, p, q), b.where(first, q, p)
    ratio = b.div(small, great)
    scale = b.div(b.constant(1.0, dtype), b.add(great, b.mul(small, ratio)))
    turned = b.mul(x, ratio)
    re = b.mul(b.add(x, b.mul(y, ratio)), scale)
    im = b.mul(b.sub(b.where(first, y, turned), b.where(first, turned, y)), scale)
    zero = b.logical_and(b.eq(r, 0), b.eq(s, 0))  # infinity or NaN, part by part
    return b.where(zero, b.mul(p, math.inf), re), b.where(zero, b.mul(q, math.inf), im)


def _reciprocal(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Pair:
    one, none = b.constant(1.0, dtype), b.constant(0.0, dtype)
    return _div(b, attrs, dtype, (one, none), z)


def _pow(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair, w: Pair) -> Pair | None:
    """To a whole power by products, as NumPy does; others are computed whole."""
    power, imaginary = scalar_of(w[0]), scalar_of(w[1])
    if imaginary != 0 or not isinstance(power, float) or not 1 <= abs(power) <= _LARGEST_POWER:
        return None
    if power != int(power):
        return None
    found, square, left = z, z, abs(int(power)) - 1
    while left:
        if left & 1:
            found = _multiplied(b, "mul", square, found)
        square, left = _multiplied(b, "mul", square, square), left >> 1
    return found if power > 0 else _reciprocal(b, attrs, dtype, found)


def _conj(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Pair:
    return z[0], b.neg(z[1])


def _abs(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Node:
    return b.hypot(*z)


def _sign(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Pair:
    """z/|z|; of infinities that of the axis along which they lie."""
    size = b.hypot(*z)
    far = [b.isinf(x) for x in z]
    along = [b.where(f, b.copysign(1.0, x), 0.0) for f, x in zip(far, z, strict=True)]
    lost = b.logical_or(b.logical_and(*far), b.isnan(size))

    def unit(x: Node, axis: Node) -> Node:
        found = b.where(b.isinf(size), axis, b.div(x, b.where(b.eq(size, 0), 1.0, size)))
        return b.where(lost, math.nan, found)

    re, im = map(unit, z, along)
    return b.where(b.eq(size, 0), 0.0, re), b.where(b.eq(size, 0), 0.0, im)


# -- functions -----------------------------------------------------------------------------
def _exp(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Pair:
    """exp(x) (cos y + i sin y), with half of x at a time: the product may fit where exp(x)
    does not."""
    x, y = z
    half = b.exp(b.mul(x, 0.5))
    turn = b.logical_not(b.isfinite(y))
    gone, far = b.eq(x, -math.inf), b.eq(x, math.inf)
    cos, sin = b.cos(y), b.sin(y)
    cos = b.where(b.logical_and(turn, gone), 0.0, b.where(b.logical_and(turn, far), 1.0, cos))
    sin = b.where(b.logical_and(turn, gone), b.copysign(0.0, y), sin)
    re = b.mul(b.mul(half, cos), half)
    im = b.where(b.eq(y, 0), y, b.mul(b.mul(half, sin), half))
    return re, im


# -- comparison and selection --------------------------------------------------------------
def _equal(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair, w: Pair) -> Node:
    return b.logical_and(b.eq(z[0], w[0]), b.eq(z[1], w[1]))


def _unequal(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair, w: Pair) -> Node:
    return b.logical_or(b.ne(z[0], w[0]), b.ne(z[1], w[1]))


def _where(b: Builder, attrs: Mapping[str, Any], dtype: DType, c: Node, z: Pair, w: Pair) -> Pair:
    return b.where(c, z[0], w[0]), b.where(c, z[1], w[1])


def _class(name: str, joined: str) -> Rule:
    def rule(b: Builder, attrs: Mapping[str, Any], dtype: DType, z: Pair) -> Node:
        return b.apply(joined, b.apply(name, z[0]), b.apply(name, z[1]))

    return rule


def _logical(name: str) -> Rule:
    def rule(b: Builder, attrs: Mapping[str, Any], dtype: DType, *operands: Pair | Node) -> Node:
        return b.apply(name, *[_truth(b, x) for x in operands])

    return rule


def _truth(b: Builder, x: Pair | Node) -> Node:
    return x if isinstance(x, Node) else b.logical_or(b.ne(x[0], 0), b.ne(x[1], 0))


# -- conversion ----------------------------------------------------------------------------
def _cast(b: Builder, attrs: Mapping[str, Any], dtype: DType, x: Pair | Node) -> Pair | Node:
    wanted = attrs["dtype"]
    if isinstance(x, Node):
        return b.cast(x, dtype), b.constant(0.0, dtype)
    if wanted.kind == "c":
        return b.cast(x[0], dtype), b.cast(x[1], dtype)
    return _real(b, wanted, x)


def _real(b: Builder, dtype: DType, z: Pair) -> Node:
    """z as a real number: its real part, or whether it is not zero."""
    return b.cast(z[0] if dtype is not dtypes.bool_ else _truth(b, z), dtype)


def _pair(b: Builder, attrs: Mapping[str, Any], dtype: DType, x: Node, y: Node) -> Pair:
    return b.cast(x, dtype), b.cast(y, dtype)


def _part(place: int) -> Rule:
    return lambda b, attrs, dtype, z: z[place]


_RULES: dict[str, Rule] = {
    "add": _each("add"), "sub": _each("sub"), "neg": _each("neg"), "mul": _product("mul"),
    "div": _div, "reciprocal": _reciprocal, "pow": _pow, "conj": _conj, "abs": _abs, "sign": _sign,
    "exp": _exp, "eq": _equal, "ne": _unequal, "where": _where,
    "isnan": _class("isnan", "logical_or"), "isinf": _class("isinf", "logical_or"),
    "isfinite": _class("isfinite", "logical_and"),
    **{name: _logical(name) for name in
       ("logical_and", "logical_or", "logical_xor", "logical_not")},
    "cast": _cast, "complex": _pair, "stop_gradient": _each("stop_gradient"),
    "real": _part(0), "imag": _part(1), "matmul": _product("matmul"),
    "sum": _folded("sum"), "mean": _folded("mean"), "cumsum": _folded("cumsum"),
}  # fmt: skip
