"""Nodes of the graph: immutable, typed, each with the user's line."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import Location
from .op import Op
from .types import TensorType

__all__ = ["Literal", "Node", "attr_key"]


class Literal:
    """A small array held by a `constant` node; compared by dtype, shape and bits."""

    __slots__ = ("array", "key")

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array, order="C")  # a copy: nobody else can change it
        self.array.flags.writeable = False
        self.key = (self.array.dtype.str, self.array.shape, self.array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Node(NamedTuple):
    """One operation of a graph.

    A named tuple for its immutability and speed, but compared by identity: within one
    Builder equal nodes are the same object.

    Attributes
    ----------
    op
        The schema.
    inputs
        Operand nodes.
    attrs
        Static attributes in canonical form; never changed.
    type
        Type of the value; a region, which has several, has a tuple of types.
    loc
        The user's line; no part of a node's identity.
    """

    op: Op
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    type: TensorType
    loc: Location | None = None

    def __repr__(self) -> str:
        return f"<{self.op.name} : {self.type}>"


# Passes look nodes up all the time: all of these, so that Python finds the comparison in C.
for _name in ("__hash__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Node, _name, getattr(object, _name))


def attr_key(value: Any) -> Any:
    """A hashable key that keeps 0.0 and -0.0, 1 and True and 1.0, and NaNs by bits apart."""
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if kind is bool:
        return ("bool", value)
    if kind is float:
        return ("float", struct.pack("<d", value))
    if kind is complex:
        return ("complex", struct.pack("<dd", value.real, value.imag))
    if kind is tuple:
        return tuple([attr_key(v) for v in value])
    return value
