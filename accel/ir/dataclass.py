"""Frozen dataclasses in a fifth of the time: modules that make code define dozens of them.

The standard library compiles six methods for each class, which takes longer than all else in
importing such a module. Here `__init__` alone is compiled. `fields`, `replace` and the checker of
types see what they see of the standard library's; at run time nothing stops an assignment.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen=False, eq=True):
        """A decorator as the standard library's, of classes that nobody changes or compares."""
        assert frozen or not eq
        return _comparable if eq else _plain


_plain = dataclasses.dataclass(repr=False, eq=False)


def _comparable(cls: type) -> type:
    """`cls` with `__init__`, and the methods that dataclasses have when they are frozen."""
    made: Any = _plain(cls)
    names = [f.name for f in dataclasses.fields(made) if f.compare]
    key: Any = attrgetter(*names) if names else type

    def equal(self: Any, other: Any) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    made.__eq__ = equal
    made.__hash__ = lambda self: hash(key(self))
    if made.__repr__ is object.__repr__:
        made.__repr__ = _shown
    return made  # type: ignore[no-any-return]


def _shown(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"
