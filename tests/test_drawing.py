"""Pictures of graphs: every node, every edge, tooltips with the user's line."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

import accel
from accel import nn
from accel.ir import parse

X = np.ones((4, 8), np.float32)


def drawing(graph):
    """The SVG of a page, parsed: this fails for text that is not escaped."""
    page = graph.to_html()
    svg = re.search(r"<svg.*</svg>", page, re.S)
    assert svg is not None and page.startswith("<!DOCTYPE html>")
    return ElementTree.fromstring(svg.group())


def parts(root, name):
    return [e for e in root.iter() if e.tag.endswith(name)]


def placed():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    f = accel.compile(lambda x: accel.softmax(model(x), -1).sum(0))
    return f.graph(X, stage="placed")


def test_regions_are_boxes_with_targets_bodies_and_lines():
    graph = placed()
    root = drawing(graph)
    titles = [t.text for t in parts(root, "title")]
    drawn = [n for n in graph.nodes if n.op.name != "output"]
    assert len(titles) == len(drawn) == len(parts(root, "rect"))
    texts = [t.text for t in parts(root, "text")]
    assert "r0 on pure" in texts and any("linear" in t for t in texts)
    assert any("test_drawing.py:" in t for t in titles)


def test_edges_join_producers_and_readers():
    graph = parse("""graph(%x: f32[3], %y: f32[3]) {
        %0 = add(%x, %y) : f32[3]
        %1 = mul(%0, %0) : f32[3]
        return %1
    }""")
    assert len(parts(drawing(graph), "path")) == 3  # an operand that stands twice is one edge


def test_boxes_stand_below_what_they_read_and_apart():
    boxes = [
        tuple(int(r.get(k)) for k in ("x", "y", "width", "height"))
        for r in parts(drawing(placed()), "rect")
    ]
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, s, t in boxes[:i]:
            assert x + w <= u or u + s <= x or y + h <= v or v + t <= y


def test_files_called_lambda_are_escaped_and_empty_graphs_drawn():
    scope = {"accel": accel, "X": X}
    exec(compile("g = accel.compile(lambda x: x + 1).graph(X)", "<a & b>", "exec"), scope)
    titles = [t.text for t in parts(drawing(scope["g"]), "title")]
    assert any("<a & b>:1" in t for t in titles)
    drawing(parse("graph() { return }"))


def test_dot_has_every_node_and_a_cluster_for_each_region():
    text = placed().to_dot()
    regions = placed().count("region")
    assert text.startswith("digraph") and text.count("subgraph cluster") == regions
    assert text.count("{") == text.count("}")
