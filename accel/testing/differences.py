"""Gradients held to finite differences, which share no mistake with a gradient rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import Graph
from ..passes.differentiate import gradient_graph
from ..targets.reference import run_graph

__all__ = ["gradient_error"]


def gradient_error(
    graph: Graph, arrays: Sequence[np.ndarray], rng: np.random.Generator
) -> float | None:
    """How far the gradient of a graph's first output lies from differences, relative to them.

    Both are taken along one random direction, of all inputs in double precision; of complex
    results the real part counts.

    Returns
    -------
    float or None
        None where differences do not settle (a kink, a domain's end), and where something on
        the way has no value.

    Examples
    --------
    >>> from accel.ir import parse
    >>> g = parse("graph(%x: f64[3]) { %0 = sin(%x) : f64[3] return %0 }")
    >>> gradient_error(g, [np.array([0.0, 0.5, 1.0])], np.random.default_rng(0)) < 1e-9
    True
    """
    every = Graph.of(graph.inputs, graph.nodes, graph.nodes)
    if any(np.isnan(v).any() for v in run_graph(every, arrays) if v.dtype.kind in "fc"):
        return None
    moving = [i for i, a in enumerate(arrays) if a.dtype in (np.float64, np.complex128)]
    along = {i: _direction(arrays[i], rng) for i in moving}
    coarse, fine = (_difference(graph, arrays, along, h) for h in (2e-5, 1e-5))
    if not np.isfinite(fine) or abs(coarse - fine) > 1e-6 * (1 + abs(fine)):
        return None
    slopes = run_graph(gradient_graph(graph, tuple(along)), arrays)
    found = sum(
        float((s.conj() * v).sum().real) for s, v in zip(slopes, along.values(), strict=True)
    )
    return abs(found - fine) / (1 + abs(fine))


def _direction(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    real = rng.uniform(-1, 1, array.shape)
    return real + 1j * rng.uniform(-1, 1, array.shape) if array.dtype.kind == "c" else real


def _difference(
    graph: Graph, arrays: Sequence[np.ndarray], along: dict[int, np.ndarray], h: float
) -> float:
    def total(sign: float) -> float:
        moved = [a + sign * h * along[i] if i in along else a for i, a in enumerate(arrays)]
        return float(run_graph(graph, moved)[0].sum().real)

    return (total(1) - total(-1)) / (2 * h)
