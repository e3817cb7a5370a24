"""Matrix products of the pure target: C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n].

A product is one or more :class:`Step`: kernels with their argument block and number of items.
:func:`schedule` decides from extents and strides whether A or B is first copied into panels
(packed), and folds and cuts the batch dimensions; the code of the kernels does not depend on
either, so that another shape needs new argument blocks and no compile.

**What a caller does.** Describe the kernel by a :class:`MatmulSpec` and the operands by a
:class:`Problem`; compile through the kernel cache `emit_multiply` (one per epilogue) and, for
floating-point types, `emit_tiles` and `emit_pack` (one per element type in the process); take
`scratch_bytes` of arena space; then :func:`schedule`, and put a record (address of the kernel
of the step's kind, address of its arguments as int64, 0, items) for each step into the
program, in order. Items of one step may run concurrently in any division; the steps must
follow one another.

**Operands.** Strides are in bytes and arbitrary, also negative or 0. A and B may have any row
and column stride. Outputs and ``"unit"`` extras have consecutive columns. Elements need no
alignment beyond their own. i1 is stored in bytes. Outputs must not overlap inputs, except that
an output may be the very memory of an extra of the same shape, strides and element size.

**Epilogue.** ``epilogue(lanes, value, load)`` writes what happens to the finished sums: `lanes`
is the :class:`Lanes` of the element at the width in use (several widths, 1 included, occur in
one kernel, and masked-off lanes hold anything), `value` the sums, and ``load(i)`` yields the
lanes of ``spec.extras[i]`` at the same positions, in its own element type. It returns one
value per ``spec.outputs``, in lanes of that element (i1 as a mask). It may write blocks.

**Accuracy.** Sums are fused multiply-adds in the order of k (over lanes along k for at most
three rows and a B whose k is consecutive): the error of an element is at most about
K * eps * (|A| @ |B|). An empty sum is 0. Results are the same however the items are divided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .gemm_emit import KC, emit_multiply
from .gemm_pack import emit_pack
from .gemm_spec import (
    MAX_BATCH,
    Constant,
    Epilogue,
    Extra,
    MatmulSpec,
    Matrix,
    argument_block,
    few_rows_tile,
    tile_of,
)
from .gemm_tiles import emit_tiles
from .llvm_text import ELEMENT_BYTES

__all__ = [
    "Constant", "Epilogue", "Extra", "MatmulSpec", "Matrix", "Problem", "Step",
    "emit_multiply", "emit_pack", "emit_tiles", "schedule", "scratch_bytes",
]  # fmt: skip

_CACHE_BYTES = 512 << 10  # of A that one item covers: about half of a second-level cache
_UNPACKED_BYTES = 4 << 20  # B stays in place up to this size, if its rows spread over the caches
_FEW_ROWS = 3  # products of so few rows read B once, as it lies
_PAGE = 4096

_ITEMS = 8  # of a large product at least, for the sake of threads
_ITEM_WORK = 1 << 18  # multiply-adds for which an item more is worth while
_COPY = 8  # what packing an element weighs against a multiply-add


@dataclass(frozen=True)
class Problem:
    """One product at run time.

    Attributes
    ----------
    m, n, k
        Extents, each 0 or more.
    batch
        Extents of the batch dimensions.
    a, b
        The operands; each has a batch stride per batch dimension.
    outputs, extras
        As many as the spec names; extras that are constants are given by :class:`Constant`.
    """

    m: int
    n: int
    k: int
    batch: tuple[int, ...]
    a: Matrix
    b: Matrix
    outputs: tuple[Matrix, ...]
    extras: tuple[Matrix | Constant, ...] = ()

    @property
    def operands(self) -> tuple[Matrix | Constant, ...]:
        return self.a, self.b, *self.outputs, *self.extras

    def with_operands(self, operands: Sequence[Matrix | Constant]) -> Problem:
        """The problem with other operands, in the order of `operands`."""
        a, b, *rest = operands
        assert isinstance(a, Matrix) and isinstance(b, Matrix)
        outputs = tuple(o for o in rest[: len(self.outputs)] if isinstance(o, Matrix))
        return replace(self, a=a, b=b, outputs=outputs, extras=tuple(rest[len(outputs) :]))


@dataclass(frozen=True)
class Step:
    """One kernel call: which code, its argument block, its number of items, and its work in
    multiply-adds or their equivalent."""

    kind: str  # "pack" or "multiply"
    arguments: tuple[int, ...]
    items: int
    work: int


@dataclass(frozen=True)
class _Plan:
    """A problem with its batch folded, how it is divided into items of `rows` rows of one of
    `groups` equal groups of columns, and what is packed where in the scratch space."""

    problem: Problem
    few_rows: bool
    rows: int
    groups: int
    pack_a: bool
    pack_b: bool
    at_b: int
    at_partials: int
    bytes: int


# -- batch dimensions ----------------------------------------------------------------------
def _folded(problem: Problem) -> Problem:
    """The problem with batch dimensions of extent 1 gone and neighbours merged.

    A batch that only repeats B becomes rows: [T, D] @ [D, N] for each of b is one product of
    b * T rows.
    """
    axes = [i for i, extent in enumerate(problem.batch) if extent != 1]
    operands = [_with_batch(o, [_stride(o, i) for i in axes]) for o in problem.operands]
    batch = [problem.batch[i] for i in axes]
    axis = len(batch) - 1
    while axis > 0:
        if all(_stride(o, axis - 1) == _stride(o, axis) * batch[axis] for o in operands):
            kept = [*range(axis - 1), *range(axis, len(batch))]
            operands = [_with_batch(o, [_stride(o, i) for i in kept]) for o in operands]
            batch[axis - 1 : axis + 1] = [batch[axis - 1] * batch[axis]]
        axis -= 1
    problem = replace(problem.with_operands(operands), batch=tuple(batch))
    if batch and _stride(problem.b, -1) == 0:
        problem = _batch_as_rows(problem)
    return problem


def _batch_as_rows(problem: Problem) -> Problem:
    """The last batch dimension joined with the rows, if every operand but B allows it."""
    operands: list[Matrix | Constant] = []
    for operand in problem.operands:
        if isinstance(operand, Matrix):
            step = operand.batch[-1]
            if operand is not problem.b and problem.m != 1 and step != problem.m * operand.row:
                return problem
            row = step if problem.m == 1 else operand.row
            operand = operand._replace(row=row, batch=operand.batch[:-1])
        operands.append(operand)
    joined = problem.with_operands(operands)
    # B's own row stride runs along k and stays.
    b = joined.b._replace(row=problem.b.row)
    return replace(joined, b=b, m=problem.m * problem.batch[-1], batch=problem.batch[:-1])


def _stride(operand: Matrix | Constant, axis: int) -> int:
    return operand.batch[axis] if isinstance(operand, Matrix) else 0


def _with_batch(operand: Matrix | Constant, strides: list[int]) -> Matrix | Constant:
    return operand._replace(batch=tuple(strides)) if isinstance(operand, Matrix) else operand


def _cut(problem: Problem) -> list[Problem]:
    """The problem as several of at most `MAX_BATCH` batch dimensions."""
    if len(problem.batch) <= MAX_BATCH:
        return [problem]
    parts = []
    for index in range(problem.batch[0]):
        operands = [
            o._replace(offset=o.offset + index * o.batch[0], batch=o.batch[1:])
            if isinstance(o, Matrix)
            else o
            for o in problem.operands
        ]
        parts += _cut(replace(problem.with_operands(operands), batch=problem.batch[1:]))
    return parts


# -- packing -------------------------------------------------------------------------------
def _packed_bytes(spec: MatmulSpec, operand: Matrix, problem: Problem, columns: int) -> int:
    width = tile_of(spec.element, spec.machine).columns
    return _copies(operand, problem) * -(-columns // width) * width * problem.k * spec.size


def _copies(operand: Matrix, problem: Problem) -> int:
    """How many different matrices of an operand the batch has."""
    count = 1
    for extent, stride in zip(problem.batch, operand.batch, strict=True):
        count *= extent if stride else 1
    return count


def _hostile(stride: int, steps: int) -> bool:
    """Whether walking by `stride` bytes falls on few sets of the caches."""
    return stride % _PAGE == 0 and stride != 0 and steps >= 32


def _plan(spec: MatmulSpec, problem: Problem) -> _Plan:
    few = spec.is_float and _is_few_rows(spec, problem)
    pack_a = spec.is_float and not few and _must_pack_a(spec, problem)
    pack_b = spec.is_float and not few and _must_pack_b(spec, problem)
    at_b = _packed_bytes(spec, problem.a, problem, problem.m) if pack_a else 0
    at_partials = at_b + (_packed_bytes(spec, problem.b, problem, problem.n) if pack_b else 0)
    total = at_partials
    rows, groups = _division(spec, problem, few)
    if spec.is_float and problem.k > KC:
        lines = math.prod(problem.batch) * groups * problem.m
        total += lines * _columns(spec, few) * spec.size
    return _Plan(problem, few, rows, groups, pack_a, pack_b, at_b, at_partials, total)


def _is_few_rows(spec: MatmulSpec, problem: Problem) -> bool:
    """Whether B is read once as it lies: along its rows, or along k by dot products."""
    a, b = problem.a, problem.b
    along_k = b.row == spec.size and a.column == spec.size
    return problem.m <= _FEW_ROWS and (b.column == spec.size or along_k)


def _must_pack_b(spec: MatmulSpec, problem: Problem) -> bool:
    """Tiles need consecutive columns; a far-flung B is worth a copy for many rows."""
    b, rows = problem.b, tile_of(spec.element, spec.machine).rows
    far = problem.k * problem.n * spec.size > _UNPACKED_BYTES or _hostile(b.row, problem.k)
    return b.column != spec.size or (far and problem.m >= 6 * rows)


def _must_pack_a(spec: MatmulSpec, problem: Problem) -> bool:
    """Tiles read A by any strides; a copy pays where k is not consecutive and A far-flung."""
    a, m, k = problem.a, problem.m, problem.k
    tile = tile_of(spec.element, spec.machine)
    if k <= 1 or a.column == spec.size or m < tile.rows or problem.n <= 2 * tile.columns:
        return False
    return m * k * spec.size > _CACHE_BYTES or _hostile(a.column, k) or a.row != spec.size


def _turned(spec: MatmulSpec, problem: Problem) -> Problem:
    """Matrix times vector as vector times transposed matrix, if the output's layout allows."""
    if spec.extras or problem.m == 1 or any(o.row != spec.size for o in problem.outputs):
        return problem
    if any(ELEMENT_BYTES[element] != spec.size for element in spec.outputs):
        return problem
    a, b = problem.a, problem.b
    return replace(
        problem, m=1, n=problem.m,
        a=b._replace(row=b.column, column=b.row), b=a._replace(row=a.column, column=a.row),
    )  # fmt: skip


def _columns(spec: MatmulSpec, few_rows: bool) -> int:
    """The columns that a kernel takes at a time."""
    if not spec.is_float:
        return 1
    return (few_rows_tile if few_rows else tile_of)(spec.element, spec.machine).columns


def _plans(spec: MatmulSpec, problem: Problem) -> list[_Plan]:
    problem = _folded(problem)
    if problem.n == 1:  # a single column has no stride of its own
        problem = replace(problem, b=problem.b._replace(column=spec.size))
        problem = _turned(spec, problem)
    return [_plan(spec, part) for part in _cut(problem)]


def scratch_bytes(spec: MatmulSpec, problem: Problem) -> int:
    """Bytes of scratch space that the steps of `schedule` need (aligned to 64 at best)."""
    return max((plan.bytes for plan in _plans(spec, problem)), default=0)


def _pack_step(
    spec: MatmulSpec, problem: Problem, source: Matrix, columns: int, base: int, offset: int
) -> tuple[Step, Matrix]:
    """The step that packs `source` (row stride along k) and the packed operand."""
    width = tile_of(spec.element, spec.machine).columns
    panels = -(-columns // width)
    panel = problem.k * width * spec.size
    extents: list[int] = []
    strides: list[int] = []
    step = panels * panel
    for extent, stride in zip(reversed(problem.batch), reversed(source.batch), strict=True):
        extents.insert(0, extent if stride else 1)
        strides.insert(0, step if stride else 0)
        step *= extents[0]
    line = width * spec.size
    packed = Matrix(base, offset, line, spec.size, tuple(strides), panel)
    header = {"n": columns, "k": problem.k, "row_blocks": panels}
    block = argument_block(header, extents, [source, packed])
    items = _copies(source, problem) * panels
    return Step("pack", block, items, items * panel // spec.size * _COPY), packed


def _block_rows(spec: MatmulSpec, k: int) -> int:
    """Rows of an item: what keeps its part of A in the second-level cache."""
    if not spec.is_float:
        return 32
    rows = tile_of(spec.element, spec.machine).rows
    fitting = _CACHE_BYTES // max(1, k * spec.size)
    return max(4 * rows, min(256, fitting)) // rows * rows


def _division(spec: MatmulSpec, problem: Problem, few_rows: bool) -> tuple[int, int]:
    """(rows of an item, groups of columns): enough items for several threads, if there is
    enough work. They depend on the problem alone, so that results do not depend on threads."""
    m, n, batch = problem.m, problem.n, math.prod(problem.batch)
    rows = _block_rows(spec, problem.k)
    wanted = min(_ITEMS, batch * m * n * problem.k // _ITEM_WORK)
    items = batch * -(-m // rows)
    if items == 0 or items >= wanted:
        return rows, 1
    groups, missing = 1, -(-wanted // items)
    panels, rest = divmod(n, _columns(spec, few_rows))
    if spec.is_float and rest == 0 and len(problem.batch) < MAX_BATCH:
        possible = [g for g in range(1, 2 * missing + 1) if panels % g == 0]
        groups = min((g for g in possible if g >= missing), default=possible[-1])
    if items * groups < wanted:
        height = tile_of(spec.element, spec.machine).rows if spec.is_float else 1
        fewer = -(-m * batch * groups // wanted)
        rows = min(rows, max(4, -(-fewer // height)) * height)
    return rows, groups


def _grouped(spec: MatmulSpec, operands: Sequence[Matrix | Constant], groups: int,
             columns: int, panels: int) -> list[Matrix | Constant]:  # fmt: skip
    """The operands with the groups of `columns` columns as a batch dimension in front: A, B,
    partial sums, outputs, extras. B's groups are `panels` of its panels apart."""
    if groups == 1:
        return list(operands)
    found: list[Matrix | Constant] = []
    for place, operand in enumerate(operands):
        if isinstance(operand, Matrix):
            output, extra = place - 3, place - 3 - len(spec.outputs)
            step = 0  # of A, which all groups read, and of partial sums, placed by the item
            if place == 1:
                step = panels * operand.panel
            elif extra >= 0:
                kind = spec.extras[extra]
                unit = {"unit": ELEMENT_BYTES[kind.element], "strided": operand.column}
                step = columns * unit.get(kind.columns, 0)
            elif output >= 0:
                step = columns * ELEMENT_BYTES[spec.outputs[output]]
            operand = operand._replace(batch=(step, *operand.batch))
        found.append(operand)
    return found


def schedule(
    spec: MatmulSpec, problem: Problem, tiles: int, scratch: tuple[int, int] = (0, 0)
) -> list[Step]:
    """The steps that compute `problem`.

    Parameters
    ----------
    spec
        What the kernel was emitted for.
    problem
        Extents and operands.
    tiles
        Address of the tile library of the element type, 0 for integers. Whoever keeps the
        steps keeps its `Kernel` too.
    scratch
        (base index, byte offset) of `scratch_bytes` bytes of scratch space.

    Returns
    -------
    list of Step
        In order; those of kind ``"pack"`` run the text of `emit_pack`, the others that of
        `emit_multiply`. Empty if the result has no elements.
    """
    steps: list[Step] = []
    for plan in _plans(spec, problem):
        steps += _steps(spec, plan, tiles, *scratch)
    return steps


def _steps(spec: MatmulSpec, plan: _Plan, tiles: int, base: int, offset: int) -> list[Step]:
    problem = plan.problem
    m, n, k = problem.m, problem.n, problem.k
    if m == 0 or n == 0 or 0 in problem.batch:
        return []
    steps = []
    width = _columns(spec, plan.few_rows)
    a = problem.a._replace(panel=_columns(spec, False) * problem.a.row)
    b = problem.b._replace(panel=width * problem.b.column)
    if plan.pack_a:
        turned = problem.a._replace(row=problem.a.column, column=problem.a.row)
        step, packed = _pack_step(spec, problem, turned, m, base, offset)
        a = packed._replace(row=packed.column, column=packed.row)
        steps.append(step)
    if plan.pack_b:
        step, b = _pack_step(spec, problem, problem.b, n, base, offset + plan.at_b)
        steps.append(step)
    partials = Matrix(base, offset + plan.at_partials, 0, 0, (0,) * len(problem.batch))
    blocks = -(-m // plan.rows)
    groups, columns = plan.groups, n // plan.groups
    operands = _grouped(
        spec, [a, b, partials, *problem.outputs, *problem.extras], groups, columns,
        columns // width,
    )  # fmt: skip
    batch = problem.batch if groups == 1 else (groups, *problem.batch)
    items = blocks * math.prod(batch)
    header = {"m": m, "n": columns, "k": k, "block_rows": plan.rows, "row_blocks": blocks,
              "few_rows": int(plan.few_rows), "tiles": tiles}  # fmt: skip
    block = argument_block(header, batch, operands)
    return [*steps, Step("multiply", block, items, math.prod(problem.batch) * m * n * k)]
