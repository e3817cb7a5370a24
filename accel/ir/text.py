"""The text form of graphs: writing, and reading back.

Grammar::

    graph    := "graph" "(" [param {"," param}] ")" "{" {line} "return" names "}"
    param    := NAME ":" type
    line     := NAME "=" op "(" [operand {"," operand}] ")" ":" type      [# file:line]
    operand  := NAME | key "=" value
    type     := ["weak"] dtype "[" [extents] "]" ["@" device]  |  "(" {type ","} ")"
    value    := integer | float | string | true | false | none | dtype | tuple
              | complex(re, im) | nan(0xBITS) | dense<type, "base64"> | graph | type(...)

Names begin with ``%``. Floats are written so that they read back to the same bits. The
reader rebuilds every node through the Builder and infers each type again.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from typing import Any

import numpy as np

from ..errors import AccelError, GraphParseError
from . import dtypes
from .builder import Builder
from .dtypes import DType
from .graph import Graph
from .node import Literal, Node
from .op import get_op
from .types import CPU, TensorType

__all__ = ["parse", "to_dot", "to_text"]


# -- writing ------------------------------------------------------------------------------
def to_text(graph: Graph, indent: str = "", lines: bool = True) -> str:
    """The text form; `lines` adds the user's lines as comments."""
    names = _names(graph)
    params = ", ".join(f"{names[n]}: {n.type}" for n in graph.inputs)
    out = [f"graph({params}) {{"]
    for node in graph.nodes[len(graph.inputs) :]:
        parts = [names[i] for i in node.inputs]
        parts += [f"{k}={_value(v, indent + '  ', lines)}" for k, v in node.attrs.items()]
        comment = f"  # {node.loc}" if lines and node.loc is not None else ""
        out.append(
            f"{indent}  {names[node]} = {node.op.name}({', '.join(parts)}) : "
            f"{_type(node.type)}{comment}"
        )
    results = ", ".join(names[n] for n in graph.outputs)
    out.append(f"{indent}  return {results}".rstrip())
    out.append(indent + "}")
    return "\n".join(out)


def _names(graph: Graph) -> dict[Node, str]:
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


def _type(type_: Any) -> str:
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
    if isinstance(value, Graph):
        return to_text(value, indent, lines)
    raise TypeError(f"attribute of type {type(value).__name__} has no text form")


# -- reading ------------------------------------------------------------------------------
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<name>%[A-Za-z0-9_.]+)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>-?(?:0x[0-9a-fA-F]+|inf\b|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[(){}\[\]<>:,=@])""",
    re.X,
)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error(f"unexpected character {text[at]!r}", at)
            if match.lastgroup != "space":
                self.tokens.append((match.lastgroup or "", match.group(), at))
            at = match.end()
        self.tokens.append(("end", "", len(text)))
        self.place = 0

    def fail(self, message: str, at: int | None = None) -> Any:
        raise self.error(message, at)

    def error(self, message: str, at: int | None = None) -> GraphParseError:
        at = self.tokens[self.place][2] if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return GraphParseError(
            f"graph text, line {line}, column {column}: {message}",
            remedy="give the text that str(graph) prints",
        )

    @property
    def word(self) -> str:
        return self.tokens[self.place][1]

    def take(self, kind: str = "") -> str:
        found, word, _ = self.tokens[self.place]
        if kind and found != kind:
            self.fail(f"expected a {kind}, found {word!r}")
        self.place += 1
        return word

    def accept(self, word: str) -> bool:
        if self.word == word:
            self.place += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.accept(word):
            self.fail(f"expected {word!r}, found {self.word!r}")

    # -- pieces ---------------------------------------------------------------------------
    def dtype(self) -> DType:
        at = self.tokens[self.place][2]
        word = self.take("word")
        try:
            return dtypes.to_dtype(word)
        except AccelError:
            return self.fail(f"{word!r} is no dtype", at)

    def type(self) -> Any:
        if self.accept("("):
            parts = []
            while not self.accept(")"):
                parts.append(self.type())
                self.accept(",")
            return tuple(parts)
        weak = self.accept("weak")
        dtype = self.dtype()
        self.expect("[")
        shape = []
        while not self.accept("]"):
            shape.append(int(self.take("number")))
            self.accept(",")
        device = CPU
        if self.accept("@"):
            device = self.take("word")
            if self.accept(":"):
                device += ":" + self.take("number")
        return TensorType(dtype, tuple(shape), device, weak)

    def value(self) -> Any:
        kind, word, _ = self.tokens[self.place]
        if kind == "string":
            return json.loads(self.take())
        if kind == "number":
            return self.number()
        if word == "graph":
            return self.graph()
        if self.accept("("):
            items = []
            while not self.accept(")"):
                items.append(self.value())
                self.accept(",")
            return tuple(items)
        named = {"true": True, "false": False, "none": None}
        if word in named:
            self.take()
            return named[word]
        if word in ("complex", "nan", "type", "dense"):
            return getattr(self, "_" + self.take())()
        return self.dtype()

    def number(self) -> int | float:
        word = self.take("number")
        if word.lstrip("-").startswith("0x"):
            return int(word, 16)
        return float(word) if any(c in word for c in ".einf") else int(word)

    def _complex(self) -> complex:
        self.expect("(")
        real = self.value()
        self.expect(",")
        imag = self.value()
        self.expect(")")
        return complex(real, imag)

    def _nan(self) -> float:
        self.expect("(")
        bits = int(self.take("number"), 16)
        self.expect(")")
        return struct.unpack("<d", struct.pack("<Q", bits))[0]

    def _type(self) -> TensorType:
        self.expect("(")
        type_ = self.type()
        self.expect(")")
        return type_

    def _dense(self) -> Literal:
        self.expect("<")
        type_ = self.type()
        self.expect(",")
        data = base64.b64decode(json.loads(self.take("string")))
        self.expect(">")
        if len(data) != type_.nbytes:
            self.fail(f"dense {type_} needs {type_.nbytes} bytes, found {len(data)}")
        return Literal(np.frombuffer(data, type_.dtype.numpy).reshape(type_.shape))

    # -- graphs ---------------------------------------------------------------------------
    def graph(self) -> Graph:
        b = Builder()
        names: dict[str, Node] = {}
        self.expect("graph")
        self.expect("(")
        inputs = []
        while not self.accept(")"):
            name = self.take("name")
            self.expect(":")
            node = b.input(name[1:], self.type())
            if name in names:
                self.fail(f"input {name} stands twice")
            names[name] = node
            inputs.append(node)
            self.accept(",")
        self.expect("{")
        while self.word != "return":
            self.line(b, names)
        self.expect("return")
        outputs = []
        while not self.accept("}"):
            outputs.append(self.operand(names))
            self.accept(",")
        return Graph(inputs, outputs, b.nodes)

    def operand(self, names: dict[str, Node]) -> Node:
        name = self.take("name")
        if name not in names:
            self.place -= 1
            self.fail(f"{name} is not defined above")
        return names[name]

    def line(self, b: Builder, names: dict[str, Node]) -> None:
        name = self.take("name")
        if name in names:
            self.fail(f"{name} is defined twice")
        self.expect("=")
        at = self.tokens[self.place][2]
        op_name = self.take("word")
        self.expect("(")
        inputs: list[Node] = []
        attrs: dict[str, Any] = {}
        while not self.accept(")"):
            if self.word.startswith("%"):
                inputs.append(self.operand(names))
            else:
                key = self.take("word")
                self.expect("=")
                attrs[key] = self.value()
            self.accept(",")
        self.expect(":")
        written = self.type()
        try:
            node = b.node(get_op(op_name), tuple(inputs), attrs)
        except (AccelError, TypeError, KeyError, IndexError) as error:
            self.fail(f"{op_name}: {error}", at)
        if node.type != written:
            self.fail(f"{name} is written as {_type(written)} and infers to {_type(node.type)}", at)
        names[name] = node


def parse(text: str) -> Graph:
    """The graph that `text`, the form printed by ``str(graph)``, describes.

    Raises
    ------
    GraphParseError
        Where the text is no graph, with line and column.

    Examples
    --------
    >>> g = parse("graph(%x: f32[3]) { %0 = exp(%x) : f32[3] return %0 }")
    >>> parse(str(g)) == g
    True
    """
    reader = _Reader(text)
    graph = reader.graph()
    if reader.tokens[reader.place][0] != "end":
        reader.fail("text behind the graph")
    return graph


# -- drawing ------------------------------------------------------------------------------
def to_dot(graph: Graph) -> str:
    """Graphviz text; a region is a cluster coloured by its target."""
    lines = ["digraph accel {", "  rankdir=TB; node [shape=box, fontname=monospace, fontsize=10];"]
    _dot(graph, "n", lines, "  ")
    return "\n".join([*lines, "}"])


def _dot(graph: Graph, prefix: str, lines: list[str], indent: str) -> None:
    names = _names(graph)
    colour = {"pure": "#dff0d8", "torch": "#fde0c8", None: "#eeeeee"}
    for i, node in enumerate(graph.nodes):
        label = f"{names[node]} {node.op.name}\\n{_type(node.type)}"
        if node.op.name == "region":
            target = node.attrs["target"]
            lines.append(f"{indent}subgraph cluster_{prefix}{i} {{")
            title = f"{node.attrs['name']} {target or ''}"
            lines.append(
                f'{indent}  label="{title}"; style=filled; fillcolor="{colour.get(target)}";'
            )
            _dot(node.attrs["body"], f"{prefix}{i}_", lines, indent + "  ")
            lines.append(f'{indent}  {prefix}{i} [label="{title}", style=dashed];')
            lines.append(f"{indent}}}")
        else:
            lines.append(f'{indent}{prefix}{i} [label="{label}"];')
        for operand in node.inputs:
            lines.append(f"{indent}{prefix}{graph.index[operand]} -> {prefix}{i};")
