"""One specialisation of a compiled function: an executable and what to do around it.

Built from a finished trace. Immutable, so that concurrent callers share it; nothing is written
back before the executable has succeeded.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import TraceError
from ...ir.graph import Graph
from ...ir.node import Node
from ...runtime.state import State
from ..tensors import trees
from ..tensors.evaluation import evaluate, executable_of
from ..tensors.module_state import epoch
from ..tensors.tensor import Tensor
from ..tensors.values import CALL, Lowering, Value, leaked, strong_type, topological, user_location
from .guards import Guard, same
from .references import Reference, TensorArgument, ValueReference, array_type
from .tracing import UNREAD, Tracer

__all__ = ["Specialization", "buffers_of", "build"]


class Result(NamedTuple):
    """One leaf of what the function returns."""

    kind: str  # "static", "same" (a Tensor from outside itself), "output", "input"
    payload: Any  # the object, its Reference, or the place among outputs or sources
    differentiable: bool = False


class Write(NamedTuple):
    """One thing written back after a call."""

    target: Callable[[Sequence[Any]], Tensor | None]
    kind: str  # "value", "grad", "attribute"
    place: int | None  # among outputs; None clears
    source: int | None  # among sources, where the value is an input
    leaf: bool  # whether the value collects gradients in its Tensor
    attribute: tuple[Any, str] | None = None


class Specialization:
    """See the module's documentation.

    Attributes
    ----------
    graph
        What was recorded.
    references
        Where each graph input comes from.
    epoch
        When the guards that an epoch vouches for were looked at.
    """

    def __init__(
        self, graph: Graph, references: Sequence[Reference], unused: Sequence[Reference],
        results: Sequence[Result], structure: Any, writes: Sequence[Write],
        guards: Sequence[Guard], static: Sequence[tuple[int, Any]],
    ) -> None:  # fmt: skip
        self.graph = graph
        self.references = tuple(references)
        self._unused = tuple(r for r in unused if not isinstance(r, TensorArgument))
        self._results = tuple(results)
        self._structure = structure
        self._writes = tuple(writes)
        self._types = tuple(strong_type(n.type) for n in graph.outputs)
        self._by_epoch = tuple([g for g in guards if g.by_epoch])
        self._always = tuple([g for g in guards if not g.by_epoch])
        self.epoch = epoch()
        self.static = tuple(static)
        self.executable: Any = None
        #: The plan of native calls; None until it is made, False where none can be.
        self.native: Any = None
        #: The weights that native calls find packed, where there is a plan.
        self.weights: Any = None
        self.links = any(r.differentiable for r in results)

    # -- validity ----------------------------------------------------------------------------
    def changed(self, leaves: Sequence[Any]) -> str | None:
        """What speaks against using this for a call; None if nothing."""
        for place, value in self.static:
            if not same(value, leaves[place]):
                return f"a float that the code branches on changed from {value} to {leaves[place]}"
        for guard in (*self._always, *self._by_epoch):
            if not guard.holds():
                return guard.describe()
        for reference in (*self.references, *self._unused):
            if reference.value(leaves) is None:
                return f"{reference.name}, read from outside, is no longer a {reference.type}"
        return None

    def inputs(self, leaves: Sequence[Any]) -> list[Any] | None:
        """The present Values and arrays for the graph's inputs; None if a guard fails."""
        for place, value in self.static:
            if not same(value, leaves[place]):
                return None
        for guard in self._always:
            if not guard.holds():
                return None
        now = epoch()
        if now != self.epoch:
            for guard in self._by_epoch:
                if not guard.holds():
                    return None
            self.epoch = now
        for reference in self._unused:
            if reference.value(leaves) is None:
                return None
        found = []
        for reference in self.references:
            value = reference.value(leaves)
            if value is None:
                return None
            found.append(value)
        return found

    # -- running -----------------------------------------------------------------------------
    def __call__(self, leaves: Sequence[Any], inputs: list[Any], linked: bool) -> Any:
        """Run on `inputs` (from `inputs(leaves)`), write back, and build the result."""
        buffers = buffers_of(inputs)
        outputs = self.executable(buffers) if self._types else []
        if self._writes:
            self._write(leaves, inputs, outputs)
        values = self._values(inputs, outputs) if linked and self.links else None
        found = []
        for kind, payload, differentiable in self._results:
            if kind == "output":
                if values is not None and differentiable:
                    found.append(Tensor._of(values[payload]))
                else:
                    found.append(Tensor._of(Value(self._types[payload], data=outputs[payload])))
            elif kind == "static":
                found.append(payload)
            elif kind == "same":
                found.append(payload.tensor(leaves))
            else:
                found.append(Tensor._of(_passed(inputs[payload])))
        if self._structure == trees.LEAF:
            return found[0]
        return trees.unflatten(self._structure, found)

    def _values(self, inputs: list[Any], outputs: list[Any]) -> list[Value]:
        """Outputs that gradients can flow through: applications of the graph."""
        operands = tuple(
            [v if type(v) is Value else Value(r.type, data=v)
             for v, r in zip(inputs, self.references, strict=True)]
        )  # fmt: skip
        flows = any(v.requires_grad for v in operands)
        return [
            Value(type_, CALL, operands, {"graph": self.graph, "index": i}, None, data,
                  flows and type_.dtype.is_inexact)
            for i, (type_, data) in enumerate(zip(self._types, outputs, strict=True))
        ]  # fmt: skip

    def _write(self, leaves: Sequence[Any], inputs: list[Any], outputs: list[Any]) -> None:
        pending = []
        for write in self._writes:  # find everything before anything changes
            target = write.target(leaves)
            value = None
            if write.place is not None:
                value = Value(self._types[write.place], data=outputs[write.place])
            elif write.source is not None:
                value = _passed(inputs[write.source])
            pending.append((write, target, value))
        for write, target, value in pending:
            if write.kind == "attribute" and write.attribute is not None:
                owner, name = write.attribute
                setattr(owner, name, None if value is None else Tensor._of(value))
            elif target is None:
                continue
            elif write.kind == "grad":
                target._grad = None if value is None else Tensor._of(value)
            elif value is not None:
                if write.leaf:
                    value.set_requires_grad(True)
                    value.owner = weakref.ref(target)
                target._value = value


def buffers_of(inputs: Sequence[Any]) -> list[Any]:
    """The buffers of `Specialization.inputs`."""
    buffers = [v.data if type(v) is Value else v for v in inputs]
    if any(b is None for b in buffers):  # recorded outside, not computed yet
        evaluate(v for v in inputs if type(v) is Value)
        buffers = [v.data if type(v) is Value else v for v in inputs]
    return buffers


def _passed(value: Any) -> Value:
    """An input that is returned as it came: arrays are copied, for their owner may write."""
    if isinstance(value, Value):
        return value.alias(False) if value.requires_grad else value
    return Value(array_type(value), data=np.array(value, order="C"))


# -- from a trace ---------------------------------------------------------------------------
class _Plan:
    """Collects outputs while results and writes are planned."""

    def __init__(self, tracer: Tracer, lowering: Lowering) -> None:
        self.tracer = tracer
        self.lowering = lowering
        self.outputs: dict[Node, int] = {}
        self.places = {node: i for i, node in enumerate(lowering.inputs)}

    def place(self, value: Value) -> tuple[int | None, int | None]:
        """Where a Value will be found: place among outputs, or among inputs."""
        node = self.lowering.strong(value)
        if node in self.places:
            return None, self.places[node]
        return self.outputs.setdefault(node, len(self.outputs)), None

    def write(self, kind: str, target: Any, value: Value | None, attribute: Any = None) -> Write:
        leaf = kind == "value" and value is not None and value.requires_grad and (
            value.owner is not None
        )  # fmt: skip
        place, source = (None, None) if value is None else self.place(value)
        return Write(target, kind, place, source, leaf, attribute)


def _changes(tracer: Tracer, handles: dict[int, Tensor], seen: dict[int, Any]) -> list[Any]:
    """What the trace rebound: (kind, target, Value or None, attribute)."""
    changes: list[Any] = []
    for reference, placeholder in tracer.sources:
        if isinstance(reference, TensorArgument):
            handle = handles[reference.index]
            before = seen.get(reference.index)
            if handle._value is not placeholder:
                changes.append(("value", reference.tensor, handle._value, None))
            changes += _grad_change(reference, before, handle._grad)
    for cell in tracer.cells.values():
        if cell.value is not None and cell.value is not cell.seen:
            changes.append(("value", cell.reference.tensor, cell.value, None))
        if cell.grad is not UNREAD:
            changes += _grad_change(cell.reference, cell.grad_seen, cell.grad)
    for owner, name, tensor in tracer.attributes.values():
        value = None if tensor is None else tracer.read(tensor)
        changes.append(("attribute", _nothing, value, (owner, name)))
    return changes


def _nothing(leaves: Sequence[Any]) -> None:
    """The target of an attribute, which is found by its owner."""


def _grad_change(reference: Reference, before: Any, grad: Tensor | None) -> list[Any]:
    after = None if grad is None else grad._value
    if after is before:
        return []
    return [("grad", reference.tensor, after, None)]


def build(
    tracer: Tracer, result: Any, handles: dict[int, Tensor], seen: dict[int, Any],
    guards: Sequence[Guard], static: Sequence[tuple[int, Any]], state: State,
) -> Specialization:  # fmt: skip
    """The specialisation that a finished trace describes, compiled under `state`."""
    found, structure = trees.flatten(result)
    attribute_guards = tracer.finish_attributes()
    changes = _changes(tracer, handles, seen)
    fetched = frozenset(tracer.fetched)
    for guard in [*attribute_guards, *guards]:
        guard.settle(fetched)
    outside: dict[int, Reference] = {
        id(handles[r.index]): r for r, _ in tracer.sources if isinstance(r, TensorArgument)
    }
    values: list[Any] = []
    for leaf in found:
        made = isinstance(leaf, Tensor) and leaf._value.tracer is tracer
        values.append(leaf._value if made and id(leaf) not in outside else None)
    lowering = _lower(tracer, [v for v in values if v is not None]
                      + [c[2] for c in changes if c[2] is not None])  # fmt: skip
    plan = _Plan(tracer, lowering)
    results = [_result(leaf, value, plan, outside, tracer)
               for leaf, value in zip(found, values, strict=True)]  # fmt: skip
    writes = [plan.write(*change) for change in changes]
    graph = lowering.builder.graph(lowering.inputs, list(plan.outputs))
    by_placeholder = {id(v): r for r, v in tracer.sources}
    references = [
        by_placeholder.get(id(v)) or ValueReference("constant", v) for v in lowering.sources
    ]
    used = set(map(id, references))
    unused = [r for r, _ in tracer.sources if id(r) not in used]
    specialization = Specialization(graph, references, unused, results, structure, writes,
                          [*tracer.guards, *attribute_guards, *guards], static)  # fmt: skip
    if plan.outputs:
        specialization.executable = executable_of(graph, state)
    return specialization


def _lower(tracer: Tracer, roots: Sequence[Value]) -> Lowering:
    """The recorded Values as nodes; inputs in the order in which they were first read."""

    def is_leaf(value: Value) -> bool:
        if value.op is None and value.data is None and value.tracer is not tracer:
            raise leaked(value)
        return value.op is None or value.data is not None

    order = topological(roots, is_leaf)
    needed = set(order)
    lowering = Lowering()
    for reference, placeholder in tracer.sources:
        if placeholder in needed:
            lowering.input(placeholder, reference.name)
    lowering.add(order, is_leaf)
    return lowering


def _result(
    leaf: Any, value: Value | None, plan: _Plan, outside: dict[int, Reference], tracer: Tracer
) -> Result:
    if not isinstance(leaf, Tensor):
        if isinstance(leaf, np.ndarray):
            raise TraceError(
                f"a compiled function returns a NumPy array of shape {list(leaf.shape)}, which "
                "was computed once, while it was recorded", loc=user_location(),
                remedy="return Tensors: start from accel functions or from the arguments",
            )  # fmt: skip
        return Result("static", leaf)
    if value is None:
        if id(leaf) in outside:
            return Result("same", outside[id(leaf)])
        return Result("static", leaf)
    place, source = plan.place(value)
    if place is None:
        return Result("input", source)
    return Result("output", place, value.requires_grad and value not in tracer.consumed)

