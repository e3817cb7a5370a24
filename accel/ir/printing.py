"""Graphs as text. `parsing` reads it back.

Grammar::

    graph    := "graph" "(" [param {"," param}] ")" "{" {line} "return" names "}"
    param    := NAME ":" type
    line     := NAME "=" op "(" [operand {"," operand}] ")" ":" type      [# file:line]
    operand  := NAME | key "=" value
    type     := ["weak"] dtype "[" [extents] "]" ["@" device]  |  "(" {type ","} ")"
    value    := integer | float | string | true | false | none | dtype | tuple
              | complex(re, im) | nan(0xBITS) | dense<type, "base64"> | graph | type(...)

Names begin with ``%``. Floats are written so that they read back to the same bits."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Protocol

from . import dtypes
from .dtypes import DType
from .node import Literal, Node
from .types import TensorType

__all__ = ["node_text", "to_text", "type_text", "value_names"]


class Graph(Protocol):
    """What printing needs of a graph; the class itself stands above this module."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    nodes: tuple[Node, ...]

    @property
    def index(self) -> dict[Node, int]: ...


# -- writing ------------------------------------------------------------------------------
def to_text(graph: Graph, indent: str = "", lines: bool = True) -> str:
    """The text form; `lines` adds the user's lines as comments."""
    names = value_names(graph)
    params = ", ".join(f"{names[n]}: {n.type}" for n in graph.inputs)
    out = [f"graph({params}) {{"]
    for node in graph.nodes[len(graph.inputs) :]:
        out.append(f"{indent}  {node_text(node, names, indent, lines)}")
    results = ", ".join(names[n] for n in graph.outputs)
    out.append(f"{indent}  return {results}".rstrip())
    out.append(indent + "}")
    return "\n".join(out)


def node_text(node: Node, names: Mapping[Node, str], indent: str = "", lines: bool = True) -> str:
    """The line of one node."""
    parts = [names[i] for i in node.inputs]
    parts += [f"{k}={_value(v, indent + '  ', lines)}" for k, v in node.attrs.items()]
    comment = f"  # {node.loc}" if lines and node.loc is not None else ""
    call = f"{node.op.name}({', '.join(parts)})"
    return f"{names[node]} = {call} : {type_text(node.type)}{comment}"


def value_names(graph: Graph) -> dict[Node, str]:
    """What the text form calls each node."""
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for node in graph.inputs:
        stem = re.sub(r"[^A-Za-z0-9_.]", "_", node.attrs["name"]) or "x"
        if stem[0].isdigit():
            stem = "_" + stem
        name = stem
        count = 1
        while name in taken:
            count += 1
            name = f"{stem}.{count}"
        taken.add(name)
        names[node] = "%" + name
    for i, node in enumerate(graph.nodes[len(graph.inputs) :]):
        names[node] = f"%{i}"
    return names


def type_text(type_: Any) -> str:
    """A type, or the types of a region."""
    if isinstance(type_, tuple):
        return "(" + "".join(f"{t}, " for t in type_).rstrip() + ")"
    return str(type_)


def _value(value: Any, indent: str, lines: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, float):
        if math.isnan(value):
            return f"nan(0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016x})"
        return repr(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, complex):
        return f"complex({_value(value.real, '', lines)}, {_value(value.imag, '', lines)})"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.short
    if isinstance(value, TensorType):
        return f"type({value})"
    if isinstance(value, tuple):
        return "(" + "".join(_value(v, indent, lines) + ", " for v in value).rstrip() + ")"
    if isinstance(value, Literal):
        array = value.array
        type_ = TensorType(dtypes.to_dtype(array.dtype), array.shape)
        return f'dense<{type_}, "{base64.b64encode(array.tobytes()).decode()}">'
    if hasattr(value, "outputs"):  # a graph: this module stands below its class
        return to_text(value, indent, lines)
    raise TypeError(f"attribute of type {type(value).__name__} has no text form")
