"""Pullbacks: what differentiating recorded work comes to, kept for work of the same structure.

Differentiation is a pass over nodes, and costs more than running a small model. Its result is the
same for the same steps, so it is kept as a list of steps on numbered Values: those that were
recorded, then those that the pass has added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import Location
from ...ir.node import Node
from ...ir.op import Op
from .plans import BoundedCache
from .values import Lowering, Step, Value, topological

__all__ = ["PULLBACKS", "Pullback", "describe_pullback"]


class Pullback:
    """The Values of gradients, by those that they are made of.

    Parameters
    ----------
    wanted
        The gradients' nodes; None where there is none.
    lowering
        How the recorded Values became nodes.
    values
        The recorded Values, in the order in which later calls give theirs.
    """

    def __init__(
        self, wanted: Sequence[Node | None], lowering: Lowering, values: Sequence[Value]
    ) -> None:
        numbers = {v: i for i, v in enumerate(values)}
        lines: dict[Location | None, int] = {}
        for number, value in enumerate(values):
            lines.setdefault(value.loc, number)
        #: For each node that Values were lowered to, their numbers.
        known: dict[Node, list[int]] = {}
        for value, node in lowering.nodes.items():
            known.setdefault(node, []).append(numbers[value])
        places: dict[Node, int] = {}
        self._known: list[tuple[int, ...]] = []
        for node, found in known.items():
            places[node] = len(self._known)
            self._known.append(tuple(found))
        self._made: list[tuple[Step, tuple[int, ...], int | None]] = []
        for node in topological([n for n in wanted if n is not None], known.__contains__):
            if node in known:
                continue
            inputs = tuple([places[i] for i in node.inputs])
            places[node] = len(self._known) + len(self._made)
            step = Step(node.op, node.attrs, node.type)
            self._made.append((step, inputs, lines.get(node.loc)))
        self._wanted = [None if n is None else places[n] for n in wanted]

    def __call__(
        self, values: Sequence[Value], again: bool, tracer: Any = None
    ) -> list[Value | None]:
        """The gradients of the work that `values` are; `again`: differentiable ones."""
        found = [
            values[next((i for i in each if values[i].data is not None), each[0])]
            if len(each) > 1 else values[each[0]]
            for each in self._known
        ]  # fmt: skip
        for step, places, line in self._made:
            inputs = tuple([found[i] for i in places])
            flows = (
                again and any(i.requires_grad for i in inputs) and step.type.dtype.is_inexact
            )  # fmt: skip
            loc = None if line is None else values[line].loc
            found.append(Value(step.type, None, inputs, loc=loc, requires_grad=flows,
                               tracer=tracer, step=step))  # fmt: skip
        return [None if place is None else found[place] for place in self._wanted]


def describe_pullback(
    order: Sequence[Value], is_leaf: Callable[[Value], bool], roots: Sequence[Value],
    cotangents: Sequence[Value], wrt: Sequence[Value],
) -> tuple[Any, list[Value]]:  # fmt: skip
    """A key that is equal where gradients are, and the Values that `Pullback` numbers.

    `order` has what `roots` are made of, operands first.
    """
    inner = len(order)
    values = list(dict.fromkeys([*order, *cotangents, *wrt]))
    places: dict[Value, int] = {}
    key: list[Any] = []
    for number, value in enumerate(values):
        places[value] = number
        step = value.step
        if step is not None and isinstance(step.op, Op) and step.op.name == "constant":
            key.append(step.number)
        elif number >= inner or is_leaf(value) or step is None:
            type_ = value.type
            key += (type_.dtype, type_.shape, type_.device, type_.weak)
        else:
            key.append(step.number)
            key += [~places[i] for i in value.inputs]  # negative: steps end where the next begins
    for listed in (roots, cotangents, wrt):
        key.append(None)
        key += [places[v] for v in listed]
    return tuple(key), values


#: Those of this process, for lazy and compiled functions alike.
PULLBACKS: BoundedCache[Pullback] = BoundedCache(256)
