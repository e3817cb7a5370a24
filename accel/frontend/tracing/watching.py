"""Watching which user functions a trace enters, and guarding the names that they read.

The user's functions (not those of accel, NumPy, the standard library or installed packages) are
read for the globals, enclosing variables and attributes that they name; each becomes a guard
on the value it had on entry.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..tensors.entering import is_library_file, listen
from ..tensors.module_state import Stateful
from ..tensors.tensor import Tensor
from .guards import CellGuard, ContentGuard, DefaultsGuard, Guard, NameGuard, is_scalar

__all__ = ["Watcher"]


class Names(NamedTuple):
    """What a code object reads: (root name, attribute names behind it)."""

    globals: tuple[tuple[str, tuple[str, ...]], ...]
    cells: tuple[tuple[str, tuple[str, ...]], ...]
    arguments: tuple[tuple[str, tuple[str, ...]], ...]
    modules: tuple[tuple[str, tuple[str, ...]], ...]


@lru_cache(maxsize=4096)
def names_read(code: types.CodeType) -> Names:
    """The names that `code` and the functions nested in it read, with attribute paths."""
    found: dict[str, set[tuple[str, tuple[str, ...]]]] = {k: set() for k in "gcam"}
    arguments = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    nested = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    for kind, name, path in _paths(code):
        if kind != "a" or (name in arguments and path):
            found[kind].add((name, path))
    for inner in nested:
        found["g"] |= set(names_read(inner).globals)
        found["m"] |= set(names_read(inner).modules)
        found["c"] |= {c for c in names_read(inner).cells if c[0] in code.co_freevars}
    return Names(*(tuple(sorted(found[k])) for k in "gcam"))


def _paths(code: types.CodeType) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    import dis

    root: tuple[str, str] | None = None
    path: list[str] = []
    last = ""
    module = ""  # what an import statement has just brought
    local: dict[str, str] = {}  # the variables that hold modules
    for step in dis.get_instructions(code):
        name = step.opname
        if name in ("LOAD_ATTR", "LOAD_METHOD") and root is not None:
            path.append(step.argval)
            continue
        if root is not None and name not in ("CACHE", "NOP", "EXTENDED_ARG"):
            yield (*root, tuple(path))
            root, path = None, []
        if name == "IMPORT_NAME":
            module = step.argval
        elif name == "IMPORT_FROM":
            yield "m", module, (step.argval,)
        elif name.startswith("STORE_FAST") and last == "IMPORT_NAME":
            local[step.argval[0] if isinstance(step.argval, tuple) else step.argval] = module
        last = name
        argument = step.argval
        if "_FAST" in name and isinstance(argument, tuple):  # two variables at once
            argument = argument[-1]
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            root = ("g", argument)
        elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            root = ("c", argument)
        elif "LOAD_FAST" in name and isinstance(argument, str):
            root = ("m", local[argument]) if argument in local else ("a", argument)
    if root is not None:
        yield (*root, tuple(path))


class Watcher:
    """Collects guards while it is active; `with Watcher(fn) as w: ...; w.guards`."""

    def __init__(self, function: Any) -> None:
        self._functions: dict[types.CodeType, list[types.FunctionType]] = {}
        self._entered: set[types.CodeType] = set()
        self._guards: dict[Any, Guard] = {}
        self._imports: dict[tuple[str, tuple[str, ...]], None] = {}
        self._arrays: dict[int, tuple[np.ndarray, str]] = {}
        #: Names under which Tensors and arrays were found, by identity.
        self.labels: dict[int, str] = {}
        self._session = listen(self._entering)
        self._meet(function)

    def __enter__(self) -> Watcher:
        self._session.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._session.__exit__(*failure)

    def guards(self, read: Sequence[np.ndarray]) -> list[Guard]:
        """All guards; `read` are the arrays that became inputs by reference.

        A named array that did not may have been folded into others by NumPy itself, so its
        contents are guarded.
        """
        for name, path in self._imports:  # only now is it sure that they are imported
            if name in sys.modules:
                self._follow(sys.modules[name], path, name)
        known = {id(a) for a in read}
        contents = [ContentGuard(a, label) for a, label in self._arrays.values()
                    if id(a) not in known]  # fmt: skip
        return [*self._guards.values(), *contents]

    def _entering(self, frame: Any) -> None:
        code = frame.f_code
        names = names_read(code)
        if code not in self._entered:
            self._entered.add(code)
            self._enter(frame, code, names)
        for name, path in names.arguments:
            if name in frame.f_locals:
                self._follow(frame.f_locals[name], path, name)

    def _enter(self, frame: Any, code: types.CodeType, names: Names) -> None:
        space = frame.f_globals
        for name, path in names.globals:
            if name in space:
                self._note_name(space, name, f"the global {name}")
                self._follow(space[name], path, name)
        self._imports.update(dict.fromkeys(names.modules))
        self._meet_method(frame, code)
        for function in self._functions.get(code, ()):
            if function.__defaults__ or function.__kwdefaults__:
                self._guards.setdefault(("defaults", id(function)), DefaultsGuard(function))
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
                self._note_cell(cell, name)
        for name, path in names.cells:
            if name in frame.f_locals:
                self._follow(frame.f_locals[name], path, name)

    def _meet_method(self, frame: Any, code: types.CodeType) -> None:
        """A method's function is found through the class of its first argument."""
        if code.co_argcount and code not in self._functions:
            owner = frame.f_locals.get(code.co_varnames[0])
            self._meet(getattr(type(owner), code.co_name, None))

    def _meet(self, value: Any) -> None:
        """Remember functions by their code, so that their cells are found on entry."""
        value = getattr(value, "__func__", value)
        while not isinstance(value, types.FunctionType) and hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        while isinstance(value, types.FunctionType):
            known = self._functions.setdefault(value.__code__, [])
            if value not in known:
                known.append(value)
            value = getattr(value, "__wrapped__", None)

    def _note_name(self, space: Any, name: str, label: str) -> None:
        key = (id(space), name)
        if key not in self._guards:
            value = space[name]
            self._guards[key] = NameGuard(space, name, label, value)
            self._note_value(value, name)

    def _note_cell(self, cell: Any, name: str) -> None:
        if id(cell) in self._guards:
            return
        try:
            value = cell.cell_contents
        except ValueError:
            return
        self._guards[id(cell)] = CellGuard(cell, name, value)
        self._note_value(value, name)

    def _note_value(self, value: Any, label: str) -> None:
        self._meet(value)
        if isinstance(value, (Tensor, np.ndarray)):
            self.labels.setdefault(id(value), label)
        if isinstance(value, np.ndarray):
            self._arrays.setdefault(id(value), (value, label))
        elif isinstance(value, (list, tuple)):
            for each in value[:64]:
                self._note_value(each, label) if not isinstance(each, (list, tuple)) else None

    def _follow(self, owner: Any, path: tuple[str, ...], label: str) -> None:
        """Guard the attributes along `path`, as far as plain objects carry them."""
        for name in path:
            if isinstance(owner, (Tensor, np.ndarray, Stateful)) or is_scalar(owner):
                return
            space = getattr(owner, "__dict__", None)
            if isinstance(owner, types.ModuleType) and _is_library(owner):
                return
            label = f"{label}.{name}"
            if space is None or name not in space:
                self._meet(getattr(type(owner), name, None))
                space = _class_space(owner, name)
                if space is None:
                    return
            self._note_name(space, name, label)
            owner = space[name]


def _is_library(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:  # built in, or made by a program at run time
        return module.__name__.partition(".")[0] in sys.stdlib_module_names
    return is_library_file(file)


def _class_space(owner: Any, name: str) -> Any:
    """The class `__dict__` that holds an attribute, where it is a plain value."""
    for kind in type(owner).__mro__:
        if name in kind.__dict__:
            value = kind.__dict__[name]
            return None if hasattr(value, "__get__") else kind.__dict__
    return None
