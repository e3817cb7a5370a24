"""Plans: specialisations as rows of words, by which emitted code serves calls.

`targets.pure.native_layout` says what the words mean.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ir.types import TensorType
from ...runtime import state as runtime_state
from ..native.world import address
from ..tensors import module_state, trees
from ..tensors.tensor import Tensor
from ..tensors.values import Value
from . import guards as g
from . import references as r
from .specialization import Result, Specialization, Write
from .tracing import GradientGuard

__all__ = ["FOREVER", "Plan", "Unsupported", "plan_of"]

#: More calls than a process makes.
FOREVER = 1 << 62

#: Elements of containers that one guard looks into.
_ELEMENTS = 256

#: Elements that are compared by value; equal ones are mostly one object.
_CONSTANTS = (int, bool, str, bytes, type(None))

#: Tensor arguments that are compared with each other on every call, where the function writes.
_COMPARED = 8


class Unsupported(Exception):
    """A specialisation has something that plans cannot say."""


class Plan:
    """The native form of a specialisation under one state of the settings.

    It serves so many calls as `left` says; then Python serves one, and may look at what has
    become of it.
    """

    def __init__(self, words: dict[str, int], kept: list[Any]) -> None:
        from ...targets.pure.native.api import Block
        from ...targets.pure.native.layout import PLAN

        self._fields = PLAN
        self.block = Block.of([words.get(name, 0) for name in PLAN], kept)
        self.block[PLAN.index("self")] = id(self.block)
        self._alive: tuple[Any, ...] = ()

    @property
    def left(self) -> int:
        return int(self.block[self._fields.index("left")])

    @left.setter
    def left(self, calls: int) -> None:
        self.block[self._fields.index("left")] = calls

    def settle(self, state: runtime_state.State, epoch: int) -> None:
        """Make it a plan for `state`, and for what Modules held at `epoch`, which is the very
        object that was the epoch when the guards were looked at."""
        if self._alive and self._alive[0] is state and self._alive[1] is epoch:
            return
        before, self._alive = self._alive, (state, epoch)
        self.block[self._fields.index("state")] = id(state)
        self.block[self._fields.index("epoch")] = id(epoch)
        del before  # only now may what it refers to go


def plan_of(
    entry: Specialization, args: Sequence[Any], kwargs: dict[str, Any],
    executable: Any = None, same: Mapping[int, Value] | None = None,
) -> Plan:  # fmt: skip
    """The plan by which `entry` serves calls with arguments like these; by another executable
    where the inputs numbered so in `same` have these very values.

    Raises
    ------
    Unsupported
        Where plans cannot say what it does.
    """
    return _Writer(entry, args, kwargs, executable or entry.executable, same or {}).plan()


class _Writer:
    """Writes the plan of a specialisation for calls with arguments like those of one call."""

    def __init__(
        self, entry: Specialization, args: Sequence[Any], kwargs: dict[str, Any],
        executable: Any, same: Mapping[int, Value],
    ) -> None:  # fmt: skip
        from ...targets.pure.native import layout as native_layout

        self._layout = native_layout
        self._kinds = list(native_layout.CHECKS)
        self.entry = entry
        self.arguments = [*args, *kwargs.values()]
        self.names = list(kwargs)
        self.positional = len(args)
        self.run = executable.native_run
        self.block = executable.native_block(cache_hits=1)
        self.same = {id(entry.references[i]): value for i, value in same.items()}
        # the block first, by which the size of tables is found
        self.kept: list[Any] = [self.block, entry, self.arguments, self.names]
        reads = entry.executable.one.reads
        self._bases = {id(entry.references[i]): base for base, i in enumerate(reads)}
        self._checks: list[tuple[int, ...]] = []
        self._leaves: dict[int, int] = {}  # places of the arguments by number of their leaves

    # words
    def _object(self, value: Any) -> int:
        self.kept.append(value)
        return id(value)

    def _table(self, words: Sequence[int]) -> int:
        array = np.array([*words, 0], np.int64)
        self.kept.append(array)
        return address(array)

    def _rows(self, rows: Sequence[Sequence[int]]) -> int:
        return self._table([word for row in rows for word in row])

    def _check(
        self, kind: str, a: int = 0, b: int = 0, c: int = 0, d: int = 0, base: int = 0
    ) -> None:
        self._checks.append((self._kinds.index(kind), a, b, c, d, base))

    def _spec(self, type_: TensorType) -> int:
        """What is said of an array of a type."""
        dims = self._table(type_.shape)
        return self._table([0, self._object(type_.dtype.numpy), len(type_.shape), dims, 0])

    def _base(self, reference: r.Reference | None) -> int:
        """The place of an input among the bases; one that nobody reads goes where no input is."""
        return self._bases.get(id(reference), len(self.run.inputs))

    # the plan
    def plan(self) -> Plan:
        """The plan."""
        for guard in self.entry._always:
            self._guard(guard)
        python = [row for row in self._checks if row[0] in self._calling()]
        others = [row for row in self._checks if row[0] not in self._calling()]
        self._checks = []
        self._note_arguments()
        self._note_references()
        # what may run Python code comes before anything that later must still be so
        checks = [*python, *self._checks, *others] if not python else [
            *python, *others, *self._checks]
        results, structure, finish = self._results()
        writes = [self._write(w) for w in self.entry._writes]
        words = {
            "run": address(self.block), "positional": self.positional,
            "keywords": len(self.names), "names": self._table([id(n) for n in self.names]),
            "held": len(self.run.inputs) if self.run.runs_others else 0,
            "checks": len(checks), "check_rows": self._rows(checks),
            "results": len(results), "result_rows": self._rows(results),
            "structure": self._layout.STRUCTURES.index(structure), "finish": finish,
            "writes": len(writes), "write_rows": self._rows(writes), "left": FOREVER,
        }  # fmt: skip
        return Plan(words, self.kept)

    def _calling(self) -> list[int]:
        return [self._kinds.index(kind) for kind in ("holds", "item")]

    # arguments
    def _note_arguments(self) -> None:
        by_leaf = {
            x.index: x for x in self.entry.references
            if isinstance(x, (r.ArrayArgument, r.FloatArgument, r.TensorArgument))
        }  # fmt: skip
        static = {place for place, _ in self.entry.static}
        tensors: list[int] = []
        leaf = 0
        for place, argument in enumerate(self.arguments):
            if argument is None:
                self._check("same", place, id(None))
                continue
            self._leaves[leaf] = place
            if isinstance(argument, Tensor):
                tensors.append(place)
            self._argument(place, argument, by_leaf.get(leaf), leaf in static)
            leaf += 1
        self._compare(tensors)

    def _argument(
        self, place: int, argument: Any, reference: r.Reference | None, static: bool
    ) -> None:
        kind, base = type(argument), self._base(reference)
        if isinstance(argument, Tensor):
            value = argument._value
            conditions = (value.requires_grad, value.owner is not None,
                          argument._grad is not None)  # fmt: skip
            flags = sum(on << bit for bit, on in enumerate(conditions))
            self._array(value.data)
            self._check("tensor", place, self._spec(value.type), self._object(kind), flags, base)
        elif kind is np.ndarray:
            self._array(argument)
            self._check("array", place, self._spec(r.array_type(argument)), base=base)
        elif kind is float and not static:
            self._check("float", place, base=base)
        elif kind in (int, bool, str, bytes):
            self._check("equal", place, self._object(argument), self._object(kind))
        elif kind is float or isinstance(argument, module_state.Stateful) or _by_identity(argument):
            self._check("same", place, self._object(argument))
        else:
            raise Unsupported

    def _array(self, array: Any) -> None:
        """Refuse what is no array as kernels need it."""
        if type(array) is not np.ndarray or not array.flags.c_contiguous:
            raise Unsupported
        if not array.dtype.isnative:
            raise Unsupported

    def _compare(self, tensors: list[int]) -> None:
        """Which Tensors are one and the same decides what is written where."""
        found = self.arguments
        for i, place in enumerate(tensors):
            for other in tensors[:i]:
                if found[place] is found[other]:
                    self._check("alias", place, other)
                elif len(tensors) > _COMPARED and self.entry._writes:
                    raise Unsupported
                elif self.entry._writes:
                    self._check("distinct", place, other)

    # what is read from outside
    def _note_references(self) -> None:
        for reference in (*self.entry.references, *self.entry._unused):
            if not isinstance(reference, (r.ArrayArgument, r.FloatArgument, r.TensorArgument)):
                self._reference(reference)

    def _reference(self, x: r.Reference) -> None:
        base = self._base(x)
        if isinstance(x, r.TensorReference):
            spec = self._spec(x.type)
            value = self.same.get(id(x))
            word = 0 if value is None else self._object(value)
            self._check("captured", id(x.target), spec, word, int(x.requires_grad), base)
        elif isinstance(x, r.GradientReference) and isinstance(x.of, r.TensorReference):
            self._check("gradient", id(x.of.target), self._spec(x.type), base=base)
        elif isinstance(x, r.GradientReference) and isinstance(x.of, r.TensorArgument):
            place = self._leaves[x.of.index]
            self._check("argument_gradient", place, self._spec(x.type), base=base)
        elif isinstance(x, (r.ArrayReference, r.ValueReference)):
            array = x.array if isinstance(x, r.ArrayReference) else x.constant.data
            self._array(array)
            self._check("constant", self._object(array), self._spec(x.type), base=base)
        elif isinstance(x, r.HyperparameterReference):
            found = _entry(x.owner, x.attribute)
            if x.place is not None and type(found) is not tuple:
                raise Unsupported
            place = -1 if x.place is None else x.place
            self._check("setting", id(x.owner), self._object(x.attribute), place, base=base)
        else:
            raise Unsupported

    # guards
    def _guard(self, guard: g.Guard) -> None:
        if isinstance(guard, g._ValueGuard):
            looked_into = guard.picture is not None
            if self._container(guard) if looked_into else self._value(guard):
                return
        if isinstance(guard, g.DefaultsGuard) and guard.function.__kwdefaults__ is None:
            if isinstance(guard.function, types.FunctionType):
                defaults = guard.positional
                word = 0 if defaults is None else self._object(defaults)
                self._check("defaults", id(guard.function), word)
                return
        if isinstance(guard, GradientGuard):
            self._check("has_gradient", id(guard.tensor), int(guard.present))
            return
        self._check("holds", self._object(guard.holds))

    def _container(self, guard: g._ValueGuard) -> bool:
        """Check that a place holds the very container that it holds now, and that the very same
        elements; False if unknown how."""
        rows = self._contents(guard.present(), guard.opaque)
        if rows is None or not self._value(guard):  # which looks at all of it once more
            return False
        for row in rows:
            self._check(*row)
        return True

    def _contents(self, container: Any, opaque: frozenset[int]) -> list[Any] | None:
        """Checks of a container's elements, and of those of containers in it."""
        rows: list[Any] = []
        stack, elements = [] if id(container) in opaque else [(container, 4)], 0
        while stack:
            found, depth = stack.pop()
            kind = type(found)
            if kind is dict:
                listed = [part for pair in list(found.items()) for part in pair]
                values, name, size = listed[1::2], "pairs", len(listed) // 2
            elif kind in (list, tuple):
                values = listed = list(found)
                name, size = "elements", len(listed)
            else:
                return None
            elements += len(listed)
            if elements > _ELEMENTS or any(
                g.is_scalar(x) and type(x) not in _CONSTANTS for x in listed
            ):
                return None
            table = self._table([id(x) for x in listed])
            self.kept.append(listed)
            rows.append((name, self._object(found), table, size, int(kind is list)))
            stack += [(x, depth - 1) for x in values if isinstance(x, g._CONTAINERS)
                      and depth > 1 and id(x) not in opaque]  # fmt: skip
        return rows

    def _value(self, guard: g._ValueGuard) -> bool:
        """Check that a place holds the very object that it holds now; False if unknown how."""
        if isinstance(guard, g.CellGuard):
            content = guard.present()
            if not guard.holds() or guard.present() is not content:
                raise Unsupported  # another thread has changed it meanwhile
            self._check("cell", id(guard.cell), self._object(content))
            return content is not g.MISSING
        if isinstance(guard, g.NameGuard):
            space, name = guard.space, guard.name
        elif isinstance(guard, g.AttributeGuard):
            space, name = object.__getattribute__(guard.owner, "__dict__"), guard.name
        elif isinstance(guard, g.HyperparameterGuard):
            # what a mapping says of another's entry holds as long as that stays the same object
            space, name = getattr(guard.owner, "source", guard.owner), guard.name
        else:
            return False
        plain = isinstance(space, dict) and type(space).get is dict.get
        if not (plain or isinstance(space, types.MappingProxyType)) or name not in space:
            return False
        found = space[name]
        if not guard.holds() or space.get(name) is not found:
            raise Unsupported
        words = self._object(space), self._object(name), self._object(found)
        self._check("entry" if plain else "item", *words)
        return True

    # results and writes
    def _results(self) -> tuple[list[tuple[int, int, int]], str, int]:
        rows = [self._result(x) for x in self.entry._results]
        structure = self.entry._structure
        if structure == trees.LEAF:
            return rows, "leaf", 0
        kind, _, children = structure
        if kind in (tuple, list) and all(child == trees.LEAF for child in children):
            return rows, kind.__name__, 0
        return rows, "tree", self._object(functools.partial(trees.unflatten, structure))

    def _result(self, x: Result) -> tuple[int, int, int]:
        kinds = self._layout.RESULTS
        if x.kind == "output":
            return kinds.index("output"), self._output(x.payload), id(self.entry._types[x.payload])
        if x.kind == "static":
            return kinds.index("object"), self._object(x.payload), 0
        if x.kind == "same" and isinstance(x.payload, r.TensorArgument):
            return kinds.index("argument"), self._leaves[x.payload.index], 0
        if x.kind == "same" and isinstance(x.payload, r.TensorReference):
            return kinds.index("object"), id(x.payload.target), 0
        raise Unsupported

    def _output(self, place: int) -> int:
        return int(self.entry.executable.one.order[place])

    def _write(self, x: Write) -> tuple[int, int, int, int, int, int]:
        if x.attribute is not None or x.source is not None or x.kind not in ("value", "grad"):
            raise Unsupported
        if x.kind == "value" and x.place is None:
            raise Unsupported
        reference = getattr(x.target, "__self__", None)
        if isinstance(reference, r.TensorArgument):
            target, argument = 0, self._leaves[reference.index]
        elif isinstance(reference, r.TensorReference):
            target, argument = id(reference.target), 0
        else:
            raise Unsupported
        kind = "none" if x.place is None else {"value": "value", "grad": "gradient"}[x.kind]
        output, type_ = 0, 0
        if x.place is not None:
            output, type_ = self._output(x.place), id(self.entry._types[x.place])
        return self._layout.WRITES.index(kind), target, argument, output, type_, int(x.leaf)


def _by_identity(value: Any) -> bool:
    """Whether an argument is compared by identity, and is no tree."""
    kind = type(value)
    return (kind.__eq__ is object.__eq__ and kind.__hash__ is object.__hash__
            and trees.flatten(value)[1] == trees.LEAF)  # fmt: skip


def _entry(owner: Any, name: str) -> Any:
    """The entry of a dict, which emitted code reads itself."""
    if not isinstance(owner, dict) or type(owner).__getitem__ is not dict.__getitem__:
        raise Unsupported
    return owner.get(name)
