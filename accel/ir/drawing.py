"""Graphs as pictures: Graphviz text, and a page for the browser."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from .node import Node
from .printing import Graph, node_text, type_text, value_names

__all__ = ["to_dot", "to_html"]

#: Colours of regions by their targets.
_COLOURS = {"pure": "#dff0d8", "torch": "#fde0c8", "reference": "#e0e4f4", None: "#f2f2f2"}


# -- Graphviz -------------------------------------------------------------------------------
def to_dot(graph: Graph) -> str:
    """Graphviz text; a region is a cluster coloured by its target."""
    lines = ["digraph accel {", "  rankdir=TB; node [shape=box, fontname=monospace, fontsize=10];"]
    _dot(graph, "n", lines, "  ")
    return "\n".join([*lines, "}"])


def _dot(graph: Graph, prefix: str, lines: list[str], indent: str) -> None:
    names = value_names(graph)
    for i, node in enumerate(graph.nodes):
        label = f"{names[node]} {node.op.name}\\n{type_text(node.type)}"
        if node.op.name == "region":
            target = node.attrs["target"]
            lines.append(f"{indent}subgraph cluster_{prefix}{i} {{")
            title = f"{node.attrs['name']} {target or ''}"
            lines.append(
                f'{indent}  label="{title}"; style=filled; fillcolor="{_COLOURS.get(target)}";'
            )
            _dot(node.attrs["body"], f"{prefix}{i}_", lines, indent + "  ")
            lines.append(f'{indent}  {prefix}{i} [label="{title}", style=dashed];')
            lines.append(f"{indent}}}")
        else:
            lines.append(f'{indent}{prefix}{i} [label="{label}"];')
        for operand in node.inputs:
            lines.append(f"{indent}{prefix}{graph.index[operand]} -> {prefix}{i};")


# -- a page ---------------------------------------------------------------------------------
#: Sizes in pixels: a line of text, a letter, the room in a box and between boxes.
_LINE, _LETTER, _ROOM, _GAP = 15, 7, 8, 28
#: Lines of a region's body that its box shows; the rest is in the tooltip.
_SHOWN = 12

_STYLE = """
body { font: 13px sans-serif; margin: 1em; }
svg text { font: 12px monospace; }
svg rect { stroke: #888; rx: 4px; }
svg g:hover rect { stroke: #000; stroke-width: 2; }
svg path { fill: none; stroke: #999; }
.legend span { border: 1px solid #888; border-radius: 4px; padding: 2px 6px; margin-right: 6px; }
"""


class _Box(NamedTuple):
    """What a node is drawn as, and where."""

    lines: tuple[str, ...]
    colour: str
    x: int
    y: int
    width: int
    height: int


def to_html(graph: Graph) -> str:
    """A page of its own: nodes as boxes from top to bottom, regions in their targets' colours.

    A box's tooltip is its line of the graph's text, with the user's file and line; a region's
    holds all of its body.
    """
    names = value_names(graph)
    drawn = [n for n in graph.nodes if n.op.name != "output"]
    boxes = _placed(drawn, names)
    width = max((b.x + b.width for b in boxes.values()), default=0) + _GAP
    height = max((b.y + b.height for b in boxes.values()), default=0) + _GAP
    edges = [
        _edge(boxes[_producer(i)], boxes[n])
        for n in drawn for i in dict.fromkeys(map(_producer, n.inputs))
    ]  # fmt: skip
    shapes = [_shape(boxes[n], _tooltip(n, names)) for n in drawn]
    results = ", ".join(f"{names[n]} : {type_text(n.type)}" for n in graph.outputs)
    legend = "".join(
        f'<span style="background:{colour}">{target or "not placed"}</span>'
        for target, colour in _COLOURS.items()
    )
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8"><title>accel graph</title>',
        f"<style>{_STYLE}</style></head><body>", f'<p class="legend">{legend}</p>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        *edges, *shapes, "</svg>", f"<p>returns {escape(results)}</p>", "</body></html>", "",
    ])  # fmt: skip


def _producer(node: Node) -> Node:
    """The node that is drawn for a value: for the output of a region, the region."""
    return node.inputs[0] if node.op.name == "output" else node


def _placed(nodes: Sequence[Node], names: dict[Node, str]) -> dict[Node, _Box]:
    """Boxes in rows: a node stands below all that it reads, where those are in the middle."""
    row: dict[Node, int] = {}
    for node in nodes:
        row[node] = 1 + max((row[_producer(i)] for i in node.inputs), default=-1)
    rows: list[list[Node]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for node in nodes:
        rows[row[node]].append(node)
    boxes: dict[Node, _Box] = {}
    y = _GAP
    for members in rows:
        x, tallest = _GAP, 0
        for node in sorted(members, key=lambda n: _middle(n, boxes)):
            lines, colour = _content(node, names)
            width = max(map(len, lines)) * _LETTER + 2 * _ROOM
            height = len(lines) * _LINE + 2 * _ROOM
            x = max(x, int(_middle(node, boxes)) - width // 2)
            boxes[node] = _Box(lines, colour, x, y, width, height)
            x += width + _GAP
            tallest = max(tallest, height)
        y += tallest + _GAP
    return boxes


def _middle(node: Node, boxes: dict[Node, _Box]) -> float:
    """The middle of the boxes that a node reads."""
    read = [boxes[_producer(i)] for i in node.inputs]
    return sum(b.x + b.width / 2 for b in read) / len(read) if read else 0.0


def _content(node: Node, names: dict[Node, str]) -> tuple[tuple[str, ...], str]:
    """The text of a box and its colour."""
    if node.op.name != "region":
        return (f"{names[node]} {node.op.name}", type_text(node.type)), "#ffffff"
    target, body = node.attrs["target"], node.attrs["body"]
    ops = [
        f"  {n.op.name} : {type_text(n.type)}"
        for n in body.nodes if n.op.name not in ("input", "constant")
    ]  # fmt: skip
    shown = ops if len(ops) <= _SHOWN else [*ops[: _SHOWN - 1], f"  … {len(ops) - _SHOWN + 1} more"]
    head = f"{node.attrs['name']} on {target}" if target else str(node.attrs["name"])
    return (head, *shown), _COLOURS.get(target, "#ffffff")


def _tooltip(node: Node, names: dict[Node, str]) -> str:
    if node.op.name == "input":
        return f"{names[node]} : {type_text(node.type)}"
    return node_text(node, names)


def _shape(box: _Box, tooltip: str) -> str:
    text = "".join(
        f'<text x="{box.x + _ROOM}" y="{box.y + _ROOM + _LINE * (i + 1) - 4}" '
        f'xml:space="preserve">{escape(line)}</text>'
        for i, line in enumerate(box.lines)
    )
    return (
        f'<g><title>{escape(tooltip)}</title><rect x="{box.x}" y="{box.y}" width="{box.width}" '
        f'height="{box.height}" fill="{box.colour}"/>{text}</g>'
    )


def _edge(above: _Box, below: _Box) -> str:
    x0, y0 = above.x + above.width // 2, above.y + above.height
    x1, y1 = below.x + below.width // 2, below.y
    half = (y0 + y1) // 2
    return f'<path d="M{x0},{y0} C{x0},{half} {x1},{half} {x1},{y1}"/>'
