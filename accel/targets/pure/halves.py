"""Half precision in loop nests: halves lie in memory only.

They are loaded and stored as bits; between is float32, rounded to a half wherever an op gives
one. The four operations and the square root so come out as if rounded once: 24 digits are twice
11 and two more. What kernels of other kinds compute, they compute in float32 altogether.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dtypes
from ...ir.builder import Builder
from ...ir.dtypes import DType
from ...ir.graph import Graph
from ...ir.node import Node
from ...passes.rewrite import rebuild
from .nests.nest import Const, Instruction, Pointwise
from .nests.site import HALVES

__all__ = ["CHOICES", "Code", "in_float32", "in_memory", "in_registers"]

F32 = dtypes.float32

#: Ops that give halves of halves with no rounding.
CHOICES = frozenset("""
    neg abs sign maximum minimum fmax fmin where relu clamp copysign floor ceil trunc round fmod
    real conj stop_gradient amax amin
""".split())  # fmt: skip

#: Kernels that know of no halves, and running or scattered sums, which are rounded once.
_WIDENED = frozenset("""
    convolution convolution_input_gradient convolution_weight_gradient cumsum cumprod
    cumargmax cumargmin index_add_unchecked scatter_add_unchecked
    scaled_dot_product_attention scaled_dot_product_attention_gradient
""".split())  # fmt: skip


def in_memory(dtype: DType) -> DType:
    """The dtype of the bits."""
    return dtypes.uint16 if dtype in HALVES else dtype


def in_registers(dtype: DType) -> DType:
    """The dtype of the values."""
    return F32 if dtype in HALVES else dtype


def in_float32(graph: Graph) -> Graph:
    """`graph` with what has no kernel for halves computed in float32, between casts."""

    def visit(b: Builder, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        found = {node.type.dtype, *(i.type.dtype for i in inputs)}
        if node.op.name not in _WIDENED or not found & HALVES.keys():
            return None
        attrs = dict(node.attrs)
        if attrs.get("dtype") in HALVES:
            inputs = tuple([b.cast(x, attrs["dtype"]) for x in inputs])
            attrs["dtype"] = F32
        wide = [b.cast(x, in_registers(x.type.dtype)) for x in inputs]
        return b.cast(b.apply(node.op, *wide, **attrs), node.type.dtype)

    return rebuild(graph, visit) if any(n.op.name in _WIDENED for n in graph.nodes) else graph


class Code:
    """The instructions of a nest, or of a product's epilogue, being written; equal loads, numbers
    and conversions once."""

    def __init__(self) -> None:
        self.code: list[Instruction] = []
        self.known: dict[object, int] = {}
        self._bits: dict[int, int] = {}  # of values that are halves, the place of the bits

    def add(self, instruction: Instruction) -> int:
        self.code.append(instruction)
        return len(self.code) - 1

    def once(self, key: object, instruction: Instruction) -> int:
        if key not in self.known:
            self.known[key] = self.add(instruction)
        return self.known[key]

    def number(self, value: bool | int | float | complex, dtype: DType, literal: bool) -> int:
        assert not isinstance(value, complex)
        key = ("number", dtype, type(value), str(value), literal)
        return self.once(key, Const(in_registers(dtype), value, literal))

    def applied(self, node: Node, operands: Sequence[int], number: int = 0) -> int:
        """The value of a pointwise node; `number` is what a failing check reports."""
        name, dtype = node.op.name, node.type.dtype
        if name == "cast":
            return self.converted(operands[0], node.inputs[0].type.dtype, dtype)
        attrs = dict(node.attrs)
        if name == "nextafter" and dtype in HALVES:  # not the neighbour in float32
            attrs["half"] = dtype
        made = Pointwise(in_registers(dtype), name, tuple(operands), attrs, number)
        value = self.add(made)
        return value if name in CHOICES else self.rounded(value, dtype)

    # -- halves -----------------------------------------------------------------------------
    def from_memory(self, bits: int, dtype: DType) -> int:
        """The value of what was read as `in_memory(dtype)`."""
        if dtype not in HALVES:
            return bits
        value = self.once(("value", bits), Pointwise(F32, "from_half", (bits,), {"dtype": dtype}))
        self._bits[value] = bits
        return value

    def to_memory(self, value: int, dtype: DType) -> int:
        """What is written of a value of `dtype`."""
        if dtype not in HALVES:
            return value
        return self._bits[value] if value in self._bits else self._narrowed(value, dtype)

    def _narrowed(self, value: int, dtype: DType) -> int:
        made = Pointwise(dtypes.uint16, "to_half", (value,), {"dtype": dtype})
        return self.once(("bits", value, dtype), made)

    def rounded(self, value: int, dtype: DType) -> int:
        """A float32 value as one of `dtype`."""
        return self.from_memory(self._narrowed(value, dtype), dtype) if dtype in HALVES else value

    def converted(self, value: int, source: DType, target: DType) -> int:
        """A value of `source` cast to `target`."""
        if source in HALVES or target in HALVES:
            if source is target or (source in HALVES and target is F32):
                return value
            if source is dtypes.float64 and target is dtypes.float16:
                odd = self.add(Pointwise(F32, "to_odd", (value,)))
                return self.rounded(odd, target)
        attrs = {"dtype": in_registers(target), "weak": False}
        if in_registers(source) is not in_registers(target) or source not in HALVES:
            value = self.add(Pointwise(in_registers(target), "cast", (value,), attrs))
        return self.rounded(value, target)
