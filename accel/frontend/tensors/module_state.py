"""What a compiled function must know of objects with state: Modules and optimizers.

`Stateful` is their base class. Outside of a trace it only counts writes (one epoch for the
process), so that a compiled function re-checks its guards only when something was written.
Inside a trace, reads of attributes become guards and writes of Tensors become outputs that are
written back after every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import TraceError
from ...runtime import state as runtime_state
from .tensor import Tensor
from .values import user_location

__all__ = ["Stateful", "epoch", "hyperparameter", "tensors_of"]

_epoch = [0]


def epoch() -> int:
    """How many attributes of Stateful objects have been written so far."""
    return _epoch[0]


def cell() -> list[int]:
    """The list whose one element is the epoch, for native calls."""
    return _epoch


class Stateful:
    """Base class of objects whose attributes a compiled function may read and write.

    A subclass may name attributes in `_unguarded`: those that it reads through
    `hyperparameter`, or that are bookkeeping a compiled function need not watch.
    """

    _unguarded: frozenset[str] = frozenset()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        tracer = runtime_state.current().tracer
        if tracer is not None:
            tracer.note_created(made)
        return made

    def __getattribute__(self, name: str) -> Any:
        tracer = runtime_state.current().tracer
        if tracer is None or (name[:2] == "__" and name != "__dict__"):
            return object.__getattribute__(self, name)
        return tracer.read_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        tracer = runtime_state.current().tracer
        if tracer is None:
            object.__setattr__(self, name, value)
            _epoch[0] += 1
        else:
            tracer.write_attribute(self, name, value)

    def __delattr__(self, name: str) -> None:
        tracer = runtime_state.current().tracer
        if tracer is not None and not tracer.is_created(self):
            raise TraceError(
                f"attribute {name!r} of {type(self).__name__} is deleted inside a compiled "
                "function", loc=user_location(), remedy="delete it outside",
            )  # fmt: skip
        object.__delattr__(self, name)
        _epoch[0] += 1


def hyperparameter(owner: Any, name: str) -> Any:
    """A setting that a compiled function reads anew on every call, such as a learning rate.

    Outside of a trace this is ``owner[name]`` (a mapping) or ``owner.name``. Inside, a float
    becomes a 0-d Tensor, weak like the Python float it stands for, whose value is fetched on
    each call; a tuple of floats becomes a tuple of such. Changing it compiles nothing. Other
    values (bool, None, str, int) are returned as they are and guarded.

    Examples
    --------
    >>> hyperparameter({"lr": 0.1}, "lr")
    0.1
    """
    tracer = runtime_state.current().tracer
    if tracer is None:
        return fetch(owner, name)
    return tracer.read_hyperparameter(owner, name)


def fetch(owner: Any, name: str) -> Any:
    """``owner[name]`` or ``owner.name``."""
    return owner[name] if isinstance(owner, Mapping) else getattr(owner, name)


def tensors_of(stateful: Stateful) -> dict[str, Tensor]:
    """All parameters by name (`named_parameters`), or all Tensor attributes."""
    named = getattr(stateful, "named_parameters", None)
    if named is not None:
        return dict(named())
    return {k: v for k, v in vars(stateful).items() if isinstance(v, Tensor)}
