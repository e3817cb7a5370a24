"""Plans of evaluations: lazy code that repeats itself finds its executable again at once.

Lowering recorded Values to a graph costs more than running a small kernel. So an evaluation is
first described by what was recorded, before any node is built; an equal description has an
equal graph.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Location
from ..ir.node import attr_key
from ..ir.types import TensorType
from .values import Value

if TYPE_CHECKING:
    from ..runtime.executable import Executable

__all__ = ["Plan", "PlanCache", "describe"]


class Plan(NamedTuple):
    """An executable, and for each wanted Value its place among the outputs and its type.

    `lines` are those that recorded the graph, in the order of its description: another program
    of the same graph has its own.
    """

    executable: Executable
    results: tuple[tuple[int, TensorType], ...]
    lines: tuple[Location | None, ...]


def describe(order: Sequence[Value], wanted: Iterable[Value]) -> tuple[Any, list[Any]]:
    """A key that is equal for equal graphs, and the buffers of the inputs.

    `order` has operands first; equal keys say that the same ops with the same attributes are
    applied to inputs of the same types, shared alike, and that the same results are wanted.
    """
    place: dict[Value, int] = {}
    known: dict[tuple[int, bool], int] = {}
    buffers: list[Any] = []
    rows: list[Any] = []
    for value in order:
        place[value] = len(rows)
        data = value.data
        if data is None:
            attrs = tuple([attr_key(v) for v in value.attrs.values()]) if value.attrs else ()
            name: Any = value.op.name if value.op is not None else None
            rows.append((name, tuple([place[i] for i in value.inputs]), attrs))
            continue
        type_ = value.type
        number = known.get((id(data), type_.weak))
        if number is None:
            number = known[id(data), type_.weak] = len(buffers)
            buffers.append(data)
            rows.append((number, type_.dtype, type_.shape, type_.device, type_.weak))
        else:
            rows.append(number)
    return (tuple(rows), tuple([place[v] for v in wanted])), buffers


class PlanCache:
    """Plans by key; the oldest go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.Lock()
        self.get = self._plans.get

    def put(self, key: Any, plan: Plan) -> None:
        """Keep `plan` under `key`."""
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > self._capacity:
                self._plans.popitem(last=False)

    def clear(self) -> None:
        """Forget all plans; executables are freed with their last user."""
        with self._lock:
            self._plans.clear()
