"""The tracer: what one run of a function with placeholders reads, writes and records.

Tracing changes nothing that the user can see. Tensors made inside are plain handles; for those
from outside the tracer keeps an overlay: the value that the traced function sees, and whether
it was rebound. The same holds for gradients and for attributes of Stateful objects.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import TracedValueError, TraceError
from ..tensors.module_state import Stateful, fetch
from ..tensors.tensor import Tensor
from ..tensors.values import Lowering, Value, topological, user_location
from .guards import MISSING, AttributeGuard, Guard, HyperparameterGuard, NamesGuard, is_scalar, same
from .references import (
    ArrayReference,
    AttributeReference,
    FloatArgument,
    GradientReference,
    HyperparameterReference,
    Reference,
    TensorReference,
)  # fmt: skip

__all__ = ["Restart", "Tracer"]

#: What to do instead of asking for a value while a function is recorded.
_TO_PYTHON = ("choose with accel.where, keep the number as a tensor, or compute it outside of the "
              "compiled function and pass it in")  # fmt: skip
_TO_NUMPY = ("use accel's function; stack tensors by np.stack, and assign into np.zeros_like(x) or "
             "accel.zeros(shape)")  # fmt: skip

UNREAD: Any = type("Unread", (), {})()


class Restart(BaseException):
    """A float's Python value was demanded: trace again with it static."""

    def __init__(self, references: list[Reference]) -> None:
        super().__init__("traced again")
        self.references = references


class Cell:
    """What the trace sees of one Tensor from outside."""

    __slots__ = ("attribute", "grad", "grad_seen", "reference", "seen", "tensor", "value")

    def __init__(self, tensor: Tensor, reference: Reference) -> None:
        self.tensor = tensor
        self.reference = reference
        self.seen: Value | None = None  # the placeholder, once read
        self.value: Value | None = None
        self.grad_seen: Any = UNREAD  # placeholder or None, once read
        self.grad: Any = UNREAD


class Tracer:
    """One trace.

    Attributes
    ----------
    sources
        References and the placeholders that stand for them, in the order of first reads.
    cells
        Overlay of Tensors from outside, by identity.
    attributes
        Overlay of attributes: (owner, name, new value), by (id, name).
    guards
        What must still hold for the trace to be valid, beside the sources' types.
    consumed
        Values through which a gradient was taken: their results are not linked to outside.
    """

    def __init__(self, static: set[Any] | None = None) -> None:
        self.sources: list[tuple[Reference, Value]] = []
        self.cells: dict[int, Cell] = {}
        self.attributes: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.guards: list[Guard] = []
        self.consumed: set[Value] = set()
        self.static = static or set()
        self.listener: Any = None  # hears of functions entered (see `entering`)
        self.arrays: dict[int, tuple[np.ndarray, Value]] = {}
        self.labels: dict[int, str] = {}
        #: Mappings whose entries are fetched on every call.
        self.fetched: set[int] = set()
        self._created: dict[int, Any] = {}
        self._guarded: dict[tuple[int, str], Guard] = {}
        self._settings: dict[Any, Any] = {}

    # -- values ----------------------------------------------------------------------------
    def placeholder(
        self, reference: Reference, requires_grad: bool = False, owner: Tensor | None = None
    ) -> Value:
        """A new input for `reference`; `owner` is the leaf that collects its gradient."""
        value = Value(
            reference.type, requires_grad=requires_grad, tracer=self,
            owner=None if owner is None else weakref.ref(owner),
        )  # fmt: skip
        self.sources.append((reference, value))
        return value

    def read(self, tensor: Tensor) -> Value:
        """The Value that `tensor` stands for in this trace."""
        value = tensor._value
        if value.tracer is self:
            return value
        cell = self._cell(tensor)
        if cell.value is None:
            leaf = tensor if value.owner is not None else None
            cell.seen = cell.value = self.placeholder(cell.reference, value.requires_grad, leaf)
        return cell.value

    def _cell(self, tensor: Tensor) -> Cell:
        cell = self.cells.get(id(tensor))
        if cell is None:
            reference = TensorReference(f"captured{len(self.cells)}", tensor)
            cell = self.cells[id(tensor)] = Cell(tensor, reference)
        return cell

    def write(self, tensor: Tensor, value: Value) -> None:
        """Rebind `tensor`: at once if it was made in the trace, else after every call."""
        if value.tracer is not self:
            value = self.read(Tensor._of(value))
        if tensor._value.tracer is self:
            tensor._value = value
        else:
            self._cell(tensor).value = value

    def read_array(self, array: np.ndarray) -> Value:
        """A NumPy array from outside, read by reference."""
        found = self.arrays.get(id(array))
        if found is None:
            reference = ArrayReference(f"array{len(self.arrays)}", array)
            found = self.arrays[id(array)] = (array, self.placeholder(reference))
        return found[1]

    def value_demanded(self, value: Value, demand: str) -> np.ndarray:
        """A Python value was asked for, which is known if it is made of constants: trace again
        if floats alone decide it, else raise."""
        order = topological([value], lambda v: v.data is not None)
        leaves = [v for v in order if v.op is None]
        if not leaves:
            from ...targets.reference import run_graph

            lowering = Lowering()
            lowering.add(order, lambda v: False)
            return run_graph(lowering.builder.graph([], [lowering.nodes[value]]), [])[0]
        places = {id(v): r for r, v in self.sources}
        references = [places[id(v)] for v in leaves if id(v) in places]
        known = (FloatArgument, HyperparameterReference)
        if len(references) == len(leaves) and all(isinstance(r, known) for r in references):
            raise Restart(references)
        raise TracedValueError(
            f"{demand} of a recorded tensor ({value.type}): a compiled function has no values "
            "while it is recorded",
            loc=user_location(),
            remedy=_TO_NUMPY if "NumPy" in demand else _TO_PYTHON,
        )

    # -- gradients -------------------------------------------------------------------------
    def read_grad(self, tensor: Tensor) -> Tensor | None:
        """`tensor.grad` as the trace sees it."""
        if tensor._value.tracer is self:
            return tensor._grad
        cell = self._cell(tensor)
        if cell.grad is UNREAD:
            present = tensor._grad
            self.guards.append(GradientGuard(tensor, present is not None))
            if present is None:
                cell.grad = cell.grad_seen = None
            else:
                reference = GradientReference(
                    f"{cell.reference.name}.grad", present._value.type, cell.reference
                )
                cell.grad_seen = self.placeholder(reference)
                cell.grad = Tensor._of(cell.grad_seen)
        return cell.grad

    def write_grad(self, tensor: Tensor, gradient: Tensor | None) -> None:
        """Set `tensor.grad` in the trace."""
        if tensor._value.tracer is self:
            tensor._grad = gradient
        else:
            self._cell(tensor).grad = gradient

    # -- attributes of Stateful objects ------------------------------------------------------
    def note_created(self, owner: Any) -> None:
        """`owner` was made inside the trace: its attributes are nobody else's."""
        self._created[id(owner)] = owner

    def is_created(self, owner: Any) -> bool:
        """Whether `owner` was made inside the trace."""
        return id(owner) in self._created

    def read_attribute(self, owner: Any, name: str) -> Any:
        """`owner.name`, guarded."""
        key = (id(owner), name)
        if key in self.attributes:
            return self.attributes[key][2]
        own = object.__getattribute__(owner, "__dict__")
        try:
            value = object.__getattribute__(owner, name)
        except AttributeError:
            if key not in self._guarded and not self.is_created(owner):
                self._guarded[key] = AttributeGuard(owner, name, MISSING)
            raise
        if key in self._guarded or self.is_created(owner):
            return value
        if name == "__dict__":
            self._guarded[key] = NamesGuard(owner)
            for each in list(value):
                self.read_attribute(owner, each)
        elif name not in type(owner)._unguarded and (name in own or is_scalar(value)):
            if not isinstance(getattr(type(owner), name, None), property):
                self._guarded[key] = AttributeGuard(owner, name, value)
                if isinstance(value, Tensor):
                    self.labels.setdefault(id(value), name)
        return value

    def name_captures(self, labels: Mapping[int, str]) -> None:
        """Give what was captured the names under which it is known."""
        for identity, cell in self.cells.items():
            cell.reference.name = labels.get(identity, cell.reference.name)
        for reference, _ in self.sources:
            if isinstance(reference, ArrayReference):
                reference.name = labels.get(id(reference.array), reference.name)

    def write_attribute(self, owner: Any, name: str, value: Any) -> None:
        """`owner.name = value`: at once on what the trace made, else after every call."""
        if self.is_created(owner):
            object.__setattr__(owner, name, value)
            return
        key = (id(owner), name)
        old = self.attributes[key][2] if key in self.attributes else vars_of(owner).get(name)
        if old is value and isinstance(value, Tensor):
            return  # ``owner.count += 1``: the Tensor is written, the attribute stays
        if isinstance(value, Tensor) or (value is None and isinstance(old, Tensor)):
            self.attributes[key] = (owner, name, value)
        elif old is not value and not (is_scalar(value) and same(old, value)):
            raise TraceError(
                f"attribute {name!r} of {type(owner).__name__} is set to "
                f"{type(value).__name__} inside a compiled function, which would happen once only",
                loc=user_location(),
                remedy="keep changing state in a Tensor attribute, or set it outside",
            )

    def finish_attributes(self) -> list[Guard]:
        """The guards on attributes; those that are written are fetched on every call instead."""
        for owner, name, _ in self.attributes.values():
            guard = self._guarded.pop((id(owner), name), None)
            if not isinstance(guard, AttributeGuard) or not isinstance(guard.expected, Tensor):
                continue
            cell = self.cells.get(id(guard.expected))
            if cell is None or cell.seen is None:
                continue
            reference = AttributeReference(name, owner, name, guard.expected._value)
            self.sources = [
                (reference if value is cell.seen else old, value) for old, value in self.sources
            ]
            cell.reference = reference
        written = {(id(o), n) for o, n, _ in self.attributes.values()}
        for guard in self._guarded.values():
            if isinstance(guard, NamesGuard):
                guard.ignore({n for i, n in written if i == id(guard.owner)})
        return list(self._guarded.values())

    # -- hyperparameters -----------------------------------------------------------------------
    def read_hyperparameter(self, owner: Any, name: str) -> Any:
        """`hyperparameter` inside a trace."""
        self.fetched.add(id(owner))
        value = object.__getattribute__(owner, name) if isinstance(owner, Stateful) else (
            fetch(owner, name)
        )  # fmt: skip
        if type(value) is float:
            return self._setting(owner, name, None, value)
        if type(value) in (tuple, list) and value and all(type(v) is float for v in value):
            return type(value)(self._setting(owner, name, i, v) for i, v in enumerate(value))
        if not any(isinstance(g, HyperparameterGuard) and g.matches(owner, name)
                   for g in self.guards):  # fmt: skip
            self.guards.append(HyperparameterGuard(owner, name, value))
        return value

    def _setting(self, owner: Any, name: str, place: int | None, value: float) -> Any:
        key = (id(owner), name, place)
        if key in self.static:
            self.guards.append(HyperparameterGuard(owner, name, fetch(owner, name)))
            return value
        if key not in self._settings:
            label = name if place is None else f"{name}.{place}"
            reference = HyperparameterReference(label, owner, name, place)
            self._settings[key] = self.placeholder(reference)
        return Tensor._of(self._settings[key])


def vars_of(owner: Any) -> dict[str, Any]:
    """The attributes of an object, past any tracing."""
    return object.__getattribute__(owner, "__dict__")


class GradientGuard(Guard):
    """Whether a gradient is attached to a Tensor."""

    __slots__ = ("present", "tensor")

    def __init__(self, tensor: Tensor, present: bool) -> None:
        self.tensor = tensor
        self.present = present

    def holds(self) -> bool:
        return (self.tensor._grad is not None) == self.present

    def describe(self) -> str:
        return "a gradient was attached or cleared between calls"
