"""`Optimizer`: parameter groups, state tensors and the step that updates them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError, NotAnArrayError
from ..frontend import public as accel
from ..frontend.tensors.entering import is_library_code, unheard
from ..frontend.tensors.module_state import Stateful, hyperparameter
from ..frontend.tensors.tensor import Tensor

__all__ = ["Group", "Optimizer", "check_range", "uses"]


class Group(dict[str, Any]):
    """Parameters (``"params"``) and the hyperparameters that their steps read.

    A compiled step reads the values on every call; `uses` says which are not zero, which a
    compiled step guards, since another kind of step must be recorded when that changes.
    """

    def __init__(self, items: Mapping[str, Any]) -> None:
        super().__init__(items)
        self.uses = _Uses(self)

    def __reduce__(self) -> Any:
        return Group, (dict(self),)


class _Uses(Mapping[str, bool]):
    """Which entries of a group (`source`) are not zero."""

    def __init__(self, group: Group) -> None:
        self.source = group

    def __getitem__(self, name: str) -> bool:
        return bool(self.source[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.source)

    def __len__(self) -> int:
        return len(self.source)


def uses(group: Group, name: str) -> bool:
    """Whether a hyperparameter is not zero."""
    return hyperparameter(group.uses, name)


class Optimizer(Stateful):
    """Base of optimizers.

    A subclass gives `defaults` (its hyperparameters), `_new_state` (the state tensors of one
    parameter) and `_update` (one parameter's step, which reads the settings of its group through
    `hyperparameter` and `uses`).

    Hyperparameters are floats in ``param_groups[i]``; a step under `accel.compile` reads them on
    every call, so that a new learning rate compiles nothing. State, step counters included, is
    tensors, which a compiled step writes back.

    Parameters
    ----------
    params
        Tensors that require gradients, or dicts with ``"params"`` and the hyperparameters in
        which the group differs.
    defaults
        Hyperparameters by name.

    Raises
    ------
    ArgumentError
        Without parameters, with one given twice, or with an impossible hyperparameter.
    """

    # A compiled step reads the settings anew and captures state tensors one by one.
    _unguarded = frozenset({"defaults", "param_groups", "state"})

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise NotAnArrayError(
                f"{type(self).__name__} takes an iterable of tensors, got one Tensor",
                remedy="pass [tensor] or model.parameters()",
            )
        self.defaults = defaults
        self._count = 0  # of parameters; guarded, where the containers below are not
        self.param_groups: list[Group] = []
        self.state: dict[int, dict[str, Any]] = {}  # by the parameter's place among all
        entries = list(params)
        if not entries:
            raise ArgumentError(
                f"{type(self).__name__} has no parameters to optimise",
                remedy="build the model's layers before the optimizer",
            )
        groups = entries if isinstance(entries[0], dict) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    # What subclasses say ---------------------------------------------------------------------

    def _new_state(self, parameter: Any, group: Group) -> dict[str, Any]:
        return {}

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise ArgumentError where a hyperparameter is impossible."""
        check_range(group, "lr", 0.0)
        check_range(group, "weight_decay", 0.0)

    def _update(self, parameter: Any, gradient: Any, state: dict[str, Any], group: Group) -> None:
        raise TypeError(f"{type(self).__name__} does not define _update")

    # What users call -------------------------------------------------------------------------

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Optimise more tensors, with their own hyperparameters where `group` names them."""
        given = group["params"]
        tensors = [given] if isinstance(given, Tensor) else list(given)
        known = {id(tensor) for tensor, _ in self._members()}
        for tensor in tensors:
            self._check_parameter(tensor, known)
            known.add(id(tensor))
        new = Group({**self.defaults, **group, "params": tensors})
        self._check(new)
        for place, tensor in enumerate(tensors, self._count):
            self.state[place] = self._new_state(tensor, new)
        self.param_groups.append(new)
        self._count += len(tensors)

    def _check_parameter(self, tensor: Any, known: set[int]) -> None:
        name = type(self).__name__
        if not isinstance(tensor, Tensor):
            raise NotAnArrayError(
                f"{name} optimises tensors, got {type(tensor).__name__}",
                remedy="pass model.parameters()",
            )
        if id(tensor) in known:
            raise ArgumentError(
                f"{name}: one parameter of shape {tuple(tensor.shape)} is given twice",
                remedy="list each parameter once",
            )

    def _members(self) -> list[tuple[Any, Group]]:
        """Parameters with their groups; the number of each is its place in `state`."""
        members = [(tensor, group) for group in self.param_groups for tensor in group["params"]]
        return members[: self._count]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        for tensor, _ in self._members():
            if set_to_none:
                tensor.grad = None
            elif tensor.grad is not None:
                tensor.grad = accel.zeros_like(tensor.grad)

    def step(self) -> None:
        """Update every parameter that has a gradient; the others keep value and state."""
        code = getattr(type(self)._update, "__code__", None)
        if code is not None and is_library_code(code):
            unheard(self._update_all)
        else:
            self._update_all()

    def _update_all(self) -> None:
        with accel.no_grad():
            for place, (tensor, group) in enumerate(self._members()):
                if tensor.grad is not None:
                    self._update(tensor, tensor.grad, self.state[place], group)

    # Saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State tensors by parameter number, and the groups with numbers for parameters."""
        state = {
            place: {name: value.detach() for name, value in tensors.items()}
            for place, tensors in self.state.items()
        }
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(first, first + count))})
            first += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over the state and the hyperparameters of an optimizer of the same kind.

        Raises
        ------
        ArgumentError
            When the groups or the state do not fit. Nothing has been changed then.
        """
        sizes = [len(group["params"]) for group in self.param_groups]
        given = [len(group["params"]) for group in saved["param_groups"]]
        if sizes != given:
            raise ArgumentError(
                f"the saved groups have {given} parameters, this optimizer's have {sizes}",
                remedy="build the optimizer over the model that was saved",
            )
        state = {int(place): tensors for place, tensors in saved["state"].items()}
        for place, own in self.state.items():
            theirs = state.get(place, {})
            if {k: tuple(v.shape) for k, v in own.items()} != {
                k: tuple(accel.asarray(v).shape) for k, v in theirs.items()
            }:
                raise ArgumentError(
                    f"parameter {place} has state {sorted(own)}, the saved one {sorted(theirs)}, "
                    "or their shapes differ",
                    remedy="load into the same kind of optimizer with the same settings",
                )
        for place, own in self.state.items():
            for name, tensor in own.items():
                tensor.data = accel.asarray(state[place][name]).astype(tensor.dtype)
        for own_group, group in zip(self.param_groups, saved["param_groups"], strict=True):
            own_group.update({name: v for name, v in group.items() if name != "params"})

    def __repr__(self) -> str:
        lines = []
        for number, group in enumerate(self.param_groups):
            settings = {name: value for name, value in group.items() if name != "params"}
            shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
            lines.append(f"  group {number}: {len(group['params'])} parameters, {shown}")
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def check_range(group: Mapping[str, Any], name: str, low: float, high: float = math.inf) -> None:
    """Raise ArgumentError unless ``low <= group[name] < high``."""
    value = group[name]
    if not (isinstance(value, (int, float)) and low <= value < high):
        bound = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g})"
        raise ArgumentError(f"{name} is {value!r}", remedy=f"pass a number {bound}")
