"""First draws: a graph that only draws numbers is left to NumPy when it is met for the first time.

Parameters are drawn once, and making code for that takes longer than NumPy takes for some hundred
thousand numbers. They are the same numbers, bit for bit: what counts here is exact, or rounded
correctly. A graph that comes again is compiled, and as its code serves all shapes, NumPy is left
with less from then on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from .. import forking
from ..ir.graph import Graph
from ..ir.node import Node

__all__ = ["WHY", "FirstDraws"]

#: What the log and `explain` say of such a graph.
WHY = "drawn for the first time: done before code for it would be made"

#: Numbers at most: they take NumPy as long as making the code, or finding it and calling it.
_BEFORE_CODE, _BESIDE_CODE = 1 << 19, 1 << 15
_ROUNDED = frozenset({"add", "sub", "mul", "div", "neg", "cast"})
_DTYPES = frozenset({"float32", "float64", "int64"})


class FirstDraws:
    """The graphs that NumPy has drawn.

    Parameters
    ----------
    capacity
        How many are remembered; the oldest go first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = forking.lock()
        self._met: OrderedDict[Any, None] = OrderedDict()
        self._has_code = False

    def take(self, graph: Graph, key: Any) -> bool:
        """Whether `graph`, known by `key`, is to be left to NumPy; of each it is so once."""
        numbers = _numbers_drawn(graph)
        with self._lock:
            if not 0 < numbers <= (_BESIDE_CODE if self._has_code else _BEFORE_CODE):
                return False
            if key in self._met:
                self._has_code = True
                return False
            self._met[key] = None
            while len(self._met) > self._capacity:
                self._met.popitem(last=False)
            return True

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._met.clear()
            self._has_code = False


def _numbers_drawn(graph: Graph) -> int:
    """How many uniform numbers `graph` draws; 0 if it does anything with more than random states
    and numbers, or what targets may round in different ways."""
    draws = [n for n in graph.nodes if n.op.name == "random_uniform"]
    states = {i for n in draws for i in n.inputs}
    known = states.issuperset(graph.inputs) and all(
        n in states or _is_exact(n) for n in graph.nodes
    )
    return sum(n.type.size for n in draws) if known else 0


def _is_exact(node: Node) -> bool:
    if node.type.dtype.name not in _DTYPES:
        return False
    return (
        node.op.form in ("creation", "movement", "structure")
        or node.op.name in _ROUNDED
        or node.op.name == "random_uniform"
    )
