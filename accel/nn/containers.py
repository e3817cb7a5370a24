"""Modules that hold modules: `Sequential`, `ModuleList`, `ModuleDict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from ..errors import ArgumentError, IndexOutOfRangeError
from .module import Module

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Indexed(Module):
    """Children named "0", "1", … that are reached by number."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> _Indexed:
        """Add a child at the end."""
        self.add_module(str(len(self)), module)
        return self

    def _items(self) -> list[Module]:
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def _position(self, index: int) -> str:
        size = len(self)
        if not -size <= index < size:
            raise IndexOutOfRangeError(
                f"index {index} is outside a {type(self).__name__} of {size} modules"
            )
        return str(index % size)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> _Indexed: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return self._of(self._items()[index])
        return vars(self)[self._position(index)]

    @classmethod
    def _of(cls, modules: list[Module]) -> _Indexed:
        return cls(modules)

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._position(index), module)


class Sequential(_Indexed):
    """Modules applied one after another.

    Parameters
    ----------
    *modules
        The modules, or one mapping of names to modules.

    Examples
    --------
    >>> from accel import nn
    >>> nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
            return
        for index, child in enumerate(modules):
            if not isinstance(child, Module):
                raise ArgumentError(
                    f"item {index} of Sequential is {type(child).__name__}, not Module",
                    remedy="pass modules; wrap a function in a Module with a forward method",
                )
            self.append(child)

    @classmethod
    def _of(cls, modules: list[Module]) -> Sequential:
        return cls(*modules)

    def _position(self, index: int) -> str:
        super()._position(index)
        return [name for name, value in vars(self).items() if isinstance(value, Module)][index]

    def forward(self, x: Any) -> Any:
        for module in self._items():
            x = module(x)
        return x


class ModuleList(_Indexed):
    """A list of modules whose parameters belong to the owner; it has no forward method."""

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add children at the end."""
        for module in modules:
            self.append(module)
        return self


class ModuleDict(Module):
    """A dictionary of modules whose parameters belong to the owner."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return dict(self.items())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        if hasattr(type(self), name):
            raise ArgumentError(
                f"{name!r} is the name of a ModuleDict method", remedy="choose another name"
            )
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __len__(self) -> int:
        return len(self.items())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules in order."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]

    def keys(self) -> list[str]:
        """Names in order."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Module]:
        """Modules in order."""
        return [module for _, module in self.items()]
