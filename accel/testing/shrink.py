"""Making a failing graph small: fewer outputs, cut above and below, fewer inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..errors import AccelError
from ..ir.builder import Builder
from ..ir.graph import Graph
from ..ir.node import Node
from ..targets.reference import run_graph
from .generate import Case

__all__ = ["shrink"]

#: Candidates tried before the smallest so far is taken.
PATIENCE = 400


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest variant of `case` found that still fails.

    Parameters
    ----------
    case
        A failing case.
    fails
        Whether a candidate fails as well.
    """
    tries = 0
    progress = True
    while progress and tries < PATIENCE:
        progress = False
        for candidate in _candidates(case):
            tries += 1
            if tries > PATIENCE:
                break
            if fails(candidate):
                case, progress = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    """Smaller variants, the boldest first."""
    graph = case.graph
    if case.disabled:
        yield replace(case, disabled=frozenset())
    if case.lazily or case.threads > 1:
        yield replace(case, lazily=False, threads=1)
    if len(graph.outputs) > 1:
        for node in graph.outputs:
            yield _trimmed(case, [node])
    computed = [n for n in graph.nodes if n.op.name not in ("input", "constant")]
    outputs = set(graph.outputs)
    for node in computed:  # from the top: the earliest node that fails alone
        if node not in outputs or len(outputs) > 1:
            yield _trimmed(case, [node])
    for node in reversed(computed):  # from the bottom: values instead of what made them
        if node not in outputs and not node.type.weak:
            cut = _cut(case, node)
            if cut is not None:
                yield cut
    if len(outputs) > 2:
        for node in graph.outputs:
            yield _trimmed(case, [n for n in graph.outputs if n is not node])
    for place, array in enumerate(case.arrays):
        if array.size and np.asarray(array != 0).any():
            yield _with_array(case, place, np.zeros(array.shape, array.dtype))


def _trimmed(case: Case, outputs: Sequence[Node]) -> Case:
    """Only `outputs`, and only the inputs that they need."""
    full = Graph.of(case.graph.inputs, outputs, case.graph.nodes)
    read = {i for n in full.nodes for i in n.inputs} | set(outputs)
    keep = [i for i, n in enumerate(full.inputs) if n in read]
    inputs = [full.inputs[i] for i in keep]
    graph = Graph.of(inputs, outputs, full.nodes)
    return replace(case, graph=graph, arrays=tuple(case.arrays[i] for i in keep))


def _cut(case: Case, node: Node) -> Case | None:
    """`node` replaced by an input that holds the reference's value."""
    graph = case.graph
    try:
        [value] = run_graph(Graph.of(graph.inputs, [node], graph.nodes), case.arrays)
    except AccelError:
        return None
    b = Builder()
    known = {n: b.input(f"x{i}", n.type) for i, n in enumerate(graph.inputs)}
    known[node] = extra = b.input(f"x{len(graph.inputs)}", node.type)
    for other in graph.nodes:
        if other not in known:
            known[other] = b.copy(other, known)
    inputs = [*(known[n] for n in graph.inputs), extra]
    cut = b.graph(inputs, [known[n] for n in graph.outputs])
    arrays = (*case.arrays, np.array(value, order="C"))
    small = _trimmed(Case(cut, arrays, case.disabled), cut.outputs)
    return small if len(small.graph) < len(graph) else None


def _with_array(case: Case, place: int, array: np.ndarray) -> Case:
    arrays = list(case.arrays)
    arrays[place] = array
    return replace(case, arrays=tuple(arrays))
