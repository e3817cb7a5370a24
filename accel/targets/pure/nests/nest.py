"""The loop nest: what one fused kernel computes, before any machine is known.

A nest has a domain (a box of index points), accesses (affine maps from the domain to
buffers) and a straight line of instructions in SSA form. Some dimensions are *reduced*: a
value that varies along them is at `full` level, one that does not is at `row` level; a
`Reduce` takes the former to the latter. Several reductions that need each other (softmax)
become phases: sweeps over the reduced dimensions within one row. The emitter decides lanes,
tiles and what later phases recompute; nothing here depends on the CPU, so that another
emitter can read the same nest.

Extents, strides, offsets, constants and the sizes that indices are checked against are values
for the kernel's run-time arguments: :meth:`Nest.key` leaves them out, keeping only what
changes the code (the number of dimensions, which are reduced, dtypes, ops, along which
dimensions each access moves, and its stride along the last one: 0, 1, -1, a few or other).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from typing import Any, NamedTuple

from ....ir.dataclass import dataclass
from ....ir.dtypes import DType
from ....ir.node import attr_key
from ..machine.llvm_text import LINE

__all__ = ["Access", "Const", "Gather", "Instruction", "Iota", "Load", "Nest", "Phase",
           "Pointwise", "Reduce", "ScatterAdd", "Store", "operands_of"]  # fmt: skip

#: Transposed operands that a kernel reads through tiles, at most.
_TILES = 8

#: Elements up to so far apart along the last dimension come with those between them.
_APART = 4


@dataclass(frozen=True)
class Access:
    """An affine map from domain indices to the elements of one kernel operand.

    Element offset = ``offset + sum(index[d] * strides[d])``.
    """

    operand: int  # place among the kernel's operands (pointers)
    dtype: DType
    strides: tuple[int, ...]  # in elements, one per domain dimension; 0 broadcasts
    offset: int = 0

    @property
    def lane_class(self) -> str:
        """How the access moves along the last dimension: "0", "1", "-1" or "s" (any stride)."""
        last = self.strides[-1] if self.strides else 0
        return str(last) if last in (-1, 0, 1) else "s"


class Phase(NamedTuple):
    """How an access reads elements a few apart: as every `step`-th, from number `phase` on, of
    the consecutive ones at the access `leader`; `span` is the greatest phase read there."""

    leader: int
    phase: int
    step: int
    span: int


@dataclass(frozen=True)
class Instruction:
    """One value of the nest; operands name earlier instructions by place."""

    dtype: DType


@dataclass(frozen=True)
class Load(Instruction):
    """The element at an access (an index into `Nest.accesses`), as it was before the kernel
    stored anything there for the same point of the domain."""

    access: int


@dataclass(frozen=True)
class Const(Instruction):
    """A number. `literal` ones (0, 1, -1 …) stand in the code; others are arguments."""

    value: bool | int | float
    literal: bool = False


@dataclass(frozen=True)
class Iota(Instruction):
    """``start + step * index[dim]``; start and step are run-time integers."""

    dim: int
    start: int = 0
    step: int = 1


@dataclass(frozen=True)
class Pointwise(Instruction):
    """A pointwise op of the registry by name, with its attributes.

    `node` is the number that a failing check reports (an index of the executable's table
    of nodes): it is a run-time argument, no part of the key.
    """

    op: str
    inputs: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    node: int = 0


@dataclass(frozen=True)
class Reduce(Instruction):
    """Fold a full-level value over all reduced dimensions: sum, mean, prod, amax, amin, any,
    all, argmax, argmin. `dtype` is that of the accumulated result."""

    op: str
    input: int


@dataclass(frozen=True)
class Gather(Instruction):
    """The element at ``access + sum(indices[k] * index_strides[k])``; indices are int64 values
    of the nest, known to be in range. Index strides are run-time arguments, in elements."""

    access: int
    indices: tuple[int, ...]
    index_strides: tuple[int, ...]


@dataclass(frozen=True)
class Store(Instruction):
    """Write a value through an access; row-level values are written once a row.

    `streamed` ones pass by the caches where whole lines are written: every row begins at a
    multiple of `LINE` bytes.
    """

    access: int
    input: int
    streamed: bool = False


@dataclass(frozen=True)
class ScatterAdd(Instruction):
    """Add a value to the element at ``access + sum(indices[k] * index_strides[k])``, in the
    order of the domain (so duplicates accumulate deterministically). With `puts` the value
    takes the element's place instead: of duplicates the last one stays."""

    access: int
    input: int
    indices: tuple[int, ...]
    index_strides: tuple[int, ...]
    puts: bool = False


@dataclass(frozen=True)
class Nest:
    """One kernel: domain, accesses, instructions. See the module's documentation."""

    extents: tuple[int, ...]
    reduced: tuple[bool, ...]
    accesses: tuple[Access, ...]
    instructions: tuple[Instruction, ...]
    #: What others have worked out about this nest, such as its schedule.
    derived: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def points(self) -> int:
        return math.prod(self.extents)

    @property
    def operands(self) -> int:
        """The number of pointers."""
        return 1 + max((a.operand for a in self.accesses), default=-1)

    def streaming(self, operands: Collection[int]) -> Nest:
        """The nest with the stores to `operands` streamed, where these are written in whole
        lines: in rows of consecutive elements, all of which begin on a line."""
        if any(self.reduced) and not self.reduced[-1]:
            return self
        code = list(self.instructions)
        for place, i in enumerate(code):
            if isinstance(i, Store) and self.accesses[i.access].operand in operands:
                access = self.accesses[i.access]
                steps = (access.offset, *access.strides[:-1])
                lined = all(s * access.dtype.itemsize % LINE == 0 for s in steps)
                if lined and access.lane_class == "1":
                    code[place] = replace(i, streamed=True)
        return replace(self, instructions=tuple(code))

    def transposed(self) -> tuple[int | None, tuple[int, ...]]:
        """(an earlier dimension, the accesses that read consecutive elements along it and not
        along the last); None where there are none. Only nests that are plain maps have such."""
        if any(self.reduced) or any(isinstance(i, ScatterAdd) for i in self.instructions):
            return None, ()
        loads = [i.access for i in self.instructions if isinstance(i, Load)]
        strided = [a for a in loads if self.accesses[a].lane_class == "s"]
        for dim in range(len(self.extents) - 2, -1, -1):
            found = [a for a in strided if self.accesses[a].strides[dim] == 1]
            if found:
                return dim, tuple(found[:_TILES])
        return None, ()

    @property
    def repeated(self) -> frozenset[str]:
        """The ops that several instructions apply."""
        counts = Counter(i.op for i in self.instructions if isinstance(i, Pointwise))
        return frozenset(op for op, count in counts.items() if count > 1)

    def interleaved(self) -> dict[int, Phase]:
        """The accesses by which loads read every second, third or fourth element along the last
        dimension, those together whose elements lie between each other's."""
        tiles = self.transposed()[1]
        groups: dict[object, list[int]] = {}
        loads = [i.access for i in self.instructions if isinstance(i, Load)]
        for access in loads:
            a = self.accesses[access]
            if a.strides and 1 < a.strides[-1] <= _APART and access not in tiles:
                groups.setdefault((a.operand, a.dtype, a.strides), []).append(access)
        found: dict[int, Phase] = {}
        for group in groups.values():
            step = self.accesses[group[0]].strides[-1]
            rest = sorted(group, key=lambda access: self.accesses[access].offset)
            while rest:
                first = self.accesses[rest[0]].offset
                phases = {a: p for a in rest if (p := self.accesses[a].offset - first) < step}
                span = max(phases.values())
                found.update({a: Phase(rest[0], p, step, span) for a, p in phases.items()})
                rest = [a for a in rest if a not in phases]
        return found

    def paired(self) -> dict[int, int]:
        """The stores of every second element along the last dimension behind others that store
        those between, by place; each goes with the earlier one."""
        found: dict[int, int] = {}
        firsts: dict[object, int] = {}
        for place, i in enumerate(self.instructions):
            if not isinstance(i, Store) or self.accesses[i.access].strides[-1:] != (2,):
                continue
            a = self.accesses[i.access]
            before = firsts.pop((a.operand, a.dtype, a.strides, a.offset - 1), None)
            if before is None:
                firsts[a.operand, a.dtype, a.strides, a.offset] = place
            else:
                found[place] = before
        return found

    def varies(self) -> tuple[frozenset[int], ...]:
        """For each instruction the domain dimensions along which its value varies."""
        known: tuple[frozenset[int], ...] | None = self.derived.get("varies")
        if known is None:
            known = self.derived["varies"] = self._varying()
        return known

    def _varying(self) -> tuple[frozenset[int], ...]:
        found: list[frozenset[int]] = []
        reduced = frozenset(d for d, r in enumerate(self.reduced) if r)
        for i in self.instructions:
            dims: frozenset[int] = frozenset()
            if isinstance(i, (Load, Gather)):
                strides = self.accesses[i.access].strides
                dims = frozenset(d for d, s in enumerate(strides) if s != 0)
            if isinstance(i, Iota):
                dims = frozenset([i.dim])
            for operand in operands_of(i):
                dims |= found[operand]
            if isinstance(i, Reduce):
                dims -= reduced
            found.append(dims)
        return tuple(found)

    def key(self) -> tuple[Any, ...]:
        """The shape-abstracted content: equal keys mean the same machine code serves both."""
        rows: list[Any] = []
        for i, dims in zip(self.instructions, self.varies(), strict=True):
            row: tuple[Any, ...] = (type(i).__name__, i.dtype.name, tuple(sorted(dims)))
            if isinstance(i, Const):
                row += (attr_key(i.value),) if i.literal else ()
            elif isinstance(i, Iota):
                row += (i.dim,)
            elif isinstance(i, Pointwise):
                row += (i.op, i.inputs, _code_attrs(i))
            elif isinstance(i, Reduce):
                row += (i.op, i.input)
            elif isinstance(i, (Load, Gather)):
                row += (i.access, operands_of(i))
            elif isinstance(i, (Store, ScatterAdd)):
                row += (i.access, operands_of(i))
                row += (i.puts if isinstance(i, ScatterAdd) else i.streamed,)
            rows.append(row)
        accesses = tuple(
            (a.operand, a.dtype.name, a.lane_class, tuple(s != 0 for s in a.strides))
            for a in self.accesses
        )
        phases = tuple(sorted(self.interleaved().items()))
        pairs = tuple(self.paired().items())
        return (self.reduced, accesses, tuple(rows), self.transposed(), phases, pairs)

    def __str__(self) -> str:
        """The nest as a person reads it."""
        dims = ", ".join(
            f"i{d}{'*' if r else ''}<{e}"
            for d, (e, r) in enumerate(zip(self.extents, self.reduced, strict=True))
        )
        lines = [f"nest [{dims}]  (* reduced)"]
        for place, i in enumerate(self.instructions):
            body = _describe(self, i)
            lines.append(f"  v{place}: {i.dtype.short} = {body}")
        return "\n".join(lines)


def operands_of(i: Instruction) -> tuple[int, ...]:
    """The places of the instructions whose values `i` uses."""
    if isinstance(i, Pointwise):
        return i.inputs
    if isinstance(i, Reduce):
        return (i.input,)
    if isinstance(i, Gather):
        return i.indices
    if isinstance(i, Store):
        return (i.input,)
    if isinstance(i, ScatterAdd):
        return (i.input, *i.indices)
    return ()


def _code_attrs(i: Pointwise) -> tuple[Any, ...]:
    """The attributes that change the code; the size of an index check is an argument."""
    data = ("size", "what") if i.op == "check_index" else ()
    return tuple((k, attr_key(v)) for k, v in i.attrs.items() if k not in data)


def _affine(access: Access) -> str:
    terms = [f"{s}*i{d}" for d, s in enumerate(access.strides) if s]
    if access.offset or not terms:
        terms.append(str(access.offset))
    return f"p{access.operand}[{' + '.join(terms)}]"


def _describe(nest: Nest, i: Instruction) -> str:
    values = ", ".join(f"v{o}" for o in operands_of(i))
    if isinstance(i, Load):
        return f"load {_affine(nest.accesses[i.access])}"
    if isinstance(i, Const):
        return f"{i.value!r}"
    if isinstance(i, Iota):
        return f"{i.start} + {i.step}*i{i.dim}"
    if isinstance(i, Pointwise):
        attrs = "".join(f", {k}={v}" for k, v in i.attrs.items())
        return f"{i.op}({values}{attrs})"
    if isinstance(i, Reduce):
        return f"reduce {i.op}({values})"
    if isinstance(i, Gather):
        return f"gather {_affine(nest.accesses[i.access])} at {values} * {i.index_strides}"
    if isinstance(i, Store):
        return f"store {values} to {_affine(nest.accesses[i.access])}"
    if isinstance(i, ScatterAdd):
        verb = "put" if i.puts else "add"
        target = _affine(nest.accesses[i.access])
        return f"scatter-{verb} ({values}) into {target} * {i.index_strides}"
    raise TypeError(type(i).__name__)
