"""The Builder: the one way to make nodes, interning equal ones.

Rules (gradients, expansions, rewrites) are written with its `apply`, for which every op is
also a method: ``b.mul(g, b.cos(x))``. Python numbers are operands too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import Location
from . import dtypes
from .dtypes import DType
from .graph import Graph
from .node import Literal, Node, attr_key
from .op import Op, get_op, resolve
from .types import Shape, TensorType

__all__ = ["Builder"]

Operand = Node | bool | int | float | complex


class Builder:
    """Builds one graph; equal nodes (op, inputs, attributes) exist once.

    `loc`, where set, is given to new nodes: a rule that makes nodes on behalf of another
    inherits its user's line.
    """

    def __init__(self) -> None:
        self._interned: dict[Any, Node] = {}
        self._input_names: set[str] = set()
        self.nodes: list[Node] = []
        self.loc: Location | None = None

    # -- nodes ----------------------------------------------------------------------------
    def node(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: Mapping[str, Any],
        type_: TensorType | None = None,
        loc: Location | None = None,
    ) -> Node:
        """The node of `op` on `inputs`, whose dtypes and attributes are already canonical.

        The type is inferred unless the caller, who copies a node, hands it on.
        """
        key: Any = (op.name, *map(id, inputs))
        if attrs:
            key = (key, tuple([attr_key(v) for v in attrs.values()]))
        found = self._interned.get(key)
        if found is not None:
            return found
        if type_ is None:
            type_ = op.infer_type([n.type for n in inputs], attrs)
        made = Node(op, inputs, attrs, type_, loc or self.loc)
        self._interned[key] = made
        self.nodes.append(made)
        return made

    def apply(self, op: str | Op, *operands: Operand, **attrs: Any) -> Node:
        """Apply an op by name: promotion (inserting casts), defaults, checks, then `node`."""
        if isinstance(op, str):
            op = get_op(op)
        types = [
            o.type if isinstance(o, Node) else TensorType(dtypes.of_scalar(o), (), weak=True)
            for o in operands
        ]
        resolved = resolve(op, types, attrs)
        inputs = []
        for operand, type_, target in zip(operands, types, resolved.operand_dtypes, strict=True):
            if not isinstance(operand, Node):
                stays = type_.weak and (target is None or _are_weak(types))
                operand = self.constant(operand, target or type_.dtype, weak=stays)
            elif target is not None:
                operand = self.cast(operand, target, weak=_are_weak(types))
            inputs.append(operand)
        return self.node(op, tuple(inputs), resolved.attrs, resolved.type)

    def __getattr__(self, name: str) -> Callable[..., Node]:
        if name.startswith("__"):
            raise AttributeError(name)
        get_op(name)  # raises for what is none

        def method(self: Builder, *operands: Operand, **attrs: Any) -> Node:
            return self.apply(name, *operands, **attrs)

        setattr(Builder, name, method)  # of the class: a Builder that knows itself dies late
        return functools.partial(method, self)

    # -- the few that rules need by name ----------------------------------------------------
    def input(self, name: str, type_: TensorType, loc: Location | None = None) -> Node:
        """A new graph input, never shared; a name that is taken gets a number."""
        stem, count = name, 1
        while name in self._input_names:
            count += 1
            name = f"{stem}.{count}"
        self._input_names.add(name)
        made = Node(get_op("input"), (), {"name": name, "type": type_}, type_, loc)
        self.nodes.append(made)
        return made

    def constant(self, value: Any, dtype: DType | None = None, *, weak: bool = False) -> Node:
        """A constant: a Python number (0-d) or a small NumPy array, in `dtype`."""
        if isinstance(value, np.ndarray) and value.ndim:
            literal: Any = Literal(value if dtype is None else value.astype(dtype.numpy))
            dtype = dtypes.to_dtype(literal.array.dtype)
        else:
            if isinstance(value, (np.ndarray, np.generic)):
                dtype = dtype or dtypes.to_dtype(value.dtype)
                value = value.astype(dtype.numpy).item() if dtype.kind != "f" else float(value)
            dtype = dtype or dtypes.default_dtype(dtypes.of_scalar(value).kind)
            literal = _canonical_scalar(value, dtype)
        return self.node(get_op("constant"), (), {"value": literal, "dtype": dtype, "weak": weak})

    def full(self, value: Operand, shape: Shape, dtype: DType | None = None) -> Node:
        """A constant, or a 0-d node, spread over `shape`."""
        if not isinstance(value, Node):
            value = self.constant(value, dtype)
        return self.broadcast_to(value, shape=tuple(shape)) if shape else value

    def cast(self, x: Node, dtype: DType, *, weak: bool = False) -> Node:
        """`x` in `dtype`; `x` itself where it has that dtype."""
        if x.type.dtype is dtype and x.type.weak == weak:
            return x
        if x.op.name == "constant" and not isinstance(x.attrs["value"], Literal):
            return self.constant(x.attrs["value"], dtype, weak=weak)
        return self.node(get_op("cast"), (x,), {"dtype": dtype, "weak": weak})

    # -- graphs -----------------------------------------------------------------------------
    def graph(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> Graph:
        """The frozen graph of what `outputs` need; `inputs` keep their order."""
        return Graph.of(inputs, outputs, self.nodes)

    def inline(self, graph: Graph, operands: Iterable[Node]) -> list[Node]:
        """Copy `graph` into this builder with `operands` in place of its inputs."""
        known = dict(zip(graph.inputs, operands, strict=True))
        for node in graph.nodes:
            if node not in known:
                known[node] = self.copy(node, known)
        return [known[n] for n in graph.outputs]

    def copy(self, node: Node, known: Mapping[Node, Node]) -> Node:
        """`node` of another builder, its inputs replaced as `known` says."""
        inputs = tuple([known[i] for i in node.inputs])
        return self.node(node.op, inputs, node.attrs, node.type, node.loc)


def _are_weak(types: Sequence[TensorType]) -> bool:
    """Whether these are scalars among themselves, which stay weak."""
    return all(t.weak for t in types)


def _canonical_scalar(value: Any, dtype: DType) -> bool | int | float | complex:
    """`value` as the Python number that `dtype` holds, so that equal constants are equal."""
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind in "iu":
        bits = int(value) & ((1 << dtype.bits) - 1)
        return bits - (1 << dtype.bits) if dtype.kind == "i" and bits >> (dtype.bits - 1) else bits
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return float(np.float64(value).astype(dtype.numpy))
        return complex(np.complex128(value).astype(dtype.numpy))
