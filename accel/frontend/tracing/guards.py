"""Guards: what a traced function took for granted about the world around it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["MISSING", "AttributeGuard", "ContentGuard", "Guard", "HyperparameterGuard",
           "NameGuard", "NamesGuard", "is_scalar", "same", "snapshot"]  # fmt: skip

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_CONTAINERS = (list, tuple, dict, set, frozenset)


#: Larger containers are told apart by identity and length alone: looking at every element on
#: every call would cost more than the call.
_LARGEST = 10_000


def is_scalar(value: Any) -> bool:
    """Whether `value` is compared by value: a number, a string, None, a tuple of such."""
    if type(value) is tuple:
        return len(value) <= _LARGEST and all(map(is_scalar, value))
    return isinstance(value, _SCALARS)


def _scalar_key(value: Any) -> Any:
    """Equal for equal types and values only; NaN equals itself, 0.0 is not -0.0."""
    if type(value) is float:
        return float, struct.pack("<d", value)
    if type(value) is tuple:
        return tuple([_scalar_key(v) for v in value])
    if isinstance(value, np.generic):
        return value.dtype.str, value.tobytes()
    return type(value), repr(value) if type(value) is complex else value


def same(a: Any, b: Any) -> bool:
    """Whether `b` may stand for `a`: scalars by type and value, anything else by identity."""
    return a is b or (is_scalar(a) and is_scalar(b) and _scalar_key(a) == _scalar_key(b))


def snapshot(value: Any, opaque: frozenset[int] = frozenset(), depth: int = 4) -> Any:
    """A comparable picture of a container: scalars by value, objects by identity.

    Containers whose `id` is in `opaque` count as objects.
    """
    if is_scalar(value):
        return _scalar_key(value)
    if isinstance(value, _CONTAINERS) and depth and id(value) not in opaque:
        if len(value) > _LARGEST:
            return id(value), len(value)
        if isinstance(value, dict):
            items = [(_scalar_key(k) if is_scalar(k) else id(k), snapshot(v, opaque, depth - 1))
                     for k, v in value.items()]  # fmt: skip
            return "dict", tuple(items)
        if isinstance(value, (set, frozenset)):
            return "set", frozenset(snapshot(v, opaque, depth - 1) for v in value)
        return type(value), tuple([snapshot(v, opaque, depth - 1) for v in value])
    return id(value)


def describe_value(value: Any) -> str:
    """A short form for explanations."""
    if is_scalar(value) or value is MISSING:
        return repr(value)
    name = getattr(value, "__name__", None)
    return f"{type(value).__name__} {name}" if name else f"a {type(value).__name__}"


class Guard:
    """One assumption. `holds` is called on every hit unless an epoch vouches for it."""

    __slots__ = ()

    def holds(self) -> bool:
        """Whether the assumption is still true."""
        raise TypeError(f"{type(self).__name__} checks nothing")

    @property
    def by_epoch(self) -> bool:
        """Whether it can fail only after an attribute of a Stateful object was written."""
        return False

    def settle(self, opaque: frozenset[int]) -> None:
        """Called once the trace is over; see `_ValueGuard.settle`."""

    def describe(self) -> str:
        """What changed, for `explain_recompiles`."""
        raise TypeError(f"{type(self).__name__} describes nothing")


class _ValueGuard(Guard):
    """A place that must still hold an expected object."""

    __slots__ = ("expected", "opaque", "picture")

    def __init__(self, expected: Any) -> None:
        self.expected = expected
        self.opaque: frozenset[int] = frozenset()
        looked_into = isinstance(expected, _CONTAINERS) and not is_scalar(expected)
        self.picture = snapshot(expected) if looked_into else None

    def present(self) -> Any:
        """What the place holds now."""
        raise TypeError(f"{type(self).__name__} has no place")

    def holds(self) -> bool:
        found = self.present()
        if found is not self.expected and self.picture is None:
            return same(self.expected, found)
        return self.picture is None or snapshot(found, self.opaque) == self.picture

    def settle(self, opaque: frozenset[int]) -> None:
        """After the trace: guard a container less closely where the contents are not ours.

        Those of `opaque` ones are fetched on every call, and a container that the function
        changes itself (a list it appends to) changes only while it is traced.
        """
        if self.picture is None or self.present() is not self.expected:
            return
        if snapshot(self.expected) != self.picture:
            opaque |= {id(self.expected)}
        self.opaque = opaque
        self.picture = snapshot(self.expected, opaque)

    def _change(self) -> str:
        return f"from {describe_value(self.expected)} to {describe_value(self.present())}"


class NameGuard(_ValueGuard):
    """A global, a module's attribute, or an attribute in an object's `__dict__`."""

    __slots__ = ("label", "name", "space")

    def __init__(self, space: Mapping[str, Any], name: str, label: str, expected: Any) -> None:
        super().__init__(expected)
        self.space = space
        self.name = name
        self.label = label

    def present(self) -> Any:
        return self.space.get(self.name, MISSING)

    def holds(self) -> bool:  # the usual case without further calls
        found = self.space.get(self.name, MISSING)
        if self.picture is None:
            return found is self.expected or same(self.expected, found)
        return snapshot(found, self.opaque) == self.picture

    def describe(self) -> str:
        return f"{self.label} changed {self._change()}"


class CellGuard(_ValueGuard):
    """A variable of an enclosing function."""

    __slots__ = ("cell", "label")

    def __init__(self, cell: Any, label: str, expected: Any) -> None:
        super().__init__(expected)
        self.cell = cell
        self.label = label

    def present(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:  # an empty cell
            return MISSING

    def describe(self) -> str:
        return f"the closed-over {self.label} changed {self._change()}"


class DefaultsGuard(Guard):
    """The default arguments of a function."""

    __slots__ = ("function", "keyword", "positional")

    def __init__(self, function: Any) -> None:
        self.function = function
        self.positional = function.__defaults__
        self.keyword = snapshot(function.__kwdefaults__)

    def holds(self) -> bool:
        function = self.function
        return function.__defaults__ is self.positional and (
            function.__kwdefaults__ is None or snapshot(function.__kwdefaults__) == self.keyword
        )

    def describe(self) -> str:
        return f"a default argument of {self.function.__name__} changed"


class AttributeGuard(_ValueGuard):
    """An attribute of a Stateful object. Writing one moves the epoch."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Any, name: str, expected: Any) -> None:
        super().__init__(expected)
        self.owner = owner
        self.name = name

    def present(self) -> Any:
        found = object.__getattribute__(self.owner, "__dict__").get(self.name, MISSING)
        return found if found is not MISSING else getattr(type(self.owner), self.name, MISSING)

    @property
    def by_epoch(self) -> bool:
        return self.picture is None  # a list changes without being assigned

    def describe(self) -> str:
        return f"{type(self.owner).__name__}.{self.name} changed {self._change()}"


class NamesGuard(Guard):
    """Which attributes an object has."""

    __slots__ = ("_ignored", "names", "owner")

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self._ignored: set[str] = set()
        self.names = self._now()

    def _now(self) -> set[str]:
        return set(object.__getattribute__(self.owner, "__dict__")) - self._ignored

    @property
    def by_epoch(self) -> bool:
        return True

    def ignore(self, names: set[str]) -> None:
        """Leave out attributes that the traced function itself writes."""
        self._ignored |= names
        self.names -= names

    def holds(self) -> bool:
        return self._now() == self.names

    def describe(self) -> str:
        changed = self._now() ^ self.names
        return f"attributes of {type(self.owner).__name__} came or went: {sorted(changed)}"


class HyperparameterGuard(_ValueGuard):
    """A setting that decides what is recorded: None, a bool, an int, a string."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Any, name: str, expected: Any) -> None:
        super().__init__(expected)
        self.owner = owner
        self.name = name

    def matches(self, owner: Any, name: str) -> bool:
        return self.owner is owner and self.name == name

    def present(self) -> Any:
        if isinstance(self.owner, Mapping):
            return self.owner.get(self.name, MISSING)
        return getattr(self.owner, self.name, MISSING)

    def describe(self) -> str:
        return f"hyperparameter {self.name!r} changed {self._change()}"


class ContentGuard(Guard):
    """The contents of a NumPy array that NumPy itself may have worked on while tracing."""

    __slots__ = ("array", "digest", "label")

    def __init__(self, array: np.ndarray, label: str) -> None:
        self.array = array
        self.label = label
        self.digest = self._now()

    def _now(self) -> tuple[Any, ...]:
        import hashlib

        array = self.array
        if array.dtype.hasobject:
            return array.shape, id(array)
        data = hashlib.blake2b(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        return array.shape, array.dtype.str, data.digest()

    def holds(self) -> bool:
        return self._now() == self.digest

    def describe(self) -> str:
        return f"the contents of the NumPy array {self.label} changed"
