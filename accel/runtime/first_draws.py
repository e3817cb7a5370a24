"""First draws: a graph that only draws numbers is left to NumPy when it is met for the first time.

Parameters are drawn once, and making code for that takes longer than NumPy takes for some hundred
thousand numbers. They are the same numbers, bit for bit: what counts here is exact, or rounded
correctly. A graph that comes again is compiled.
"""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.node import Node

__all__ = ["WHY", "only_draws"]

#: What the log and `explain` say of such a graph.
WHY = "drawn for the first time: done before code for it would be made"

#: Numbers at most: they take NumPy as long as making the code.
_MOST = 1 << 19
_ROUNDED = frozenset({"add", "sub", "mul", "div", "neg", "cast"})
_DTYPES = frozenset({"float32", "float64", "int64"})


def only_draws(graph: Graph) -> bool:
    """Whether `graph` makes of random states some uniform numbers, and nothing that targets may
    round in different ways."""
    draws = [n for n in graph.nodes if n.op.name == "random_uniform"]
    states = {i for n in draws for i in n.inputs}
    return (
        0 < sum(n.type.size for n in draws) <= _MOST
        and states.issuperset(graph.inputs)
        and all(n in states or _is_exact(n) for n in graph.nodes)
    )


def _is_exact(node: Node) -> bool:
    if node.type.dtype.name not in _DTYPES:
        return False
    return (
        node.op.form in ("creation", "movement", "structure")
        or node.op.name in _ROUNDED
        or node.op.name == "random_uniform"
    )
