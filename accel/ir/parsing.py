"""Reading graphs from the text that `printing` writes (the grammar stands there).

The reader rebuilds every node through the Builder and infers each type again.
"""

from __future__ import annotations

import base64
import json
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
from .printing import type_text
from .types import CPU, TensorType
from .verify import misuse

__all__ = ["parse"]


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
            op = get_op(op_name)
            wrong = misuse(op, inputs, attrs)
            if not wrong:
                node = b.node(op, tuple(inputs), attrs)
        except (AccelError, TypeError, KeyError, IndexError) as error:
            self.fail(f"{op_name}: {error}", at)
        if wrong:
            self.fail(f"{op_name}: {wrong}", at)
        if node.type != written:
            self.fail(
                f"{name} is written as {type_text(written)} and infers to {type_text(node.type)}",
                at,
            )
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
    if not isinstance(text, str):
        raise GraphParseError(f"{type(text).__name__} is no text", remedy="give a str")
    reader = _Reader(text)
    graph = reader.graph()
    if reader.tokens[reader.place][0] != "end":
        reader.fail("text behind the graph")
    return graph
