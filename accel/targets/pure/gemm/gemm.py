"""Matrix products of the pure target: C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n].

A product is one or more :class:`Step`: kernels with their argument block and number of items.
:func:`schedule` decides from extents and strides which tile library computes it (`gemm_forms`),
whether A or B is first copied (packed) for it, and folds and cuts the batch dimensions; the
code of the kernels does not depend on any of this, so that another shape needs new argument
blocks and at most another library, which all products of an element type share.

**What a caller does.** Describe the kernel by a :class:`MatmulSpec` and the operands by a
:class:`Problem`; compile through the kernel cache `emit_multiply` (one per epilogue, little more
than that) and the libraries that it :func:`needs` (one per element type in the process, by
:func:`emit_library`); take the arena space that it needs; then :func:`schedule`, and put a record
(address of the kernel of the step's kind, address of its arguments as int64, 0, items) for each
step into the program, in order. Items of one step may run concurrently in any division; the steps
must follow one another.

**Operands.** Strides are in bytes and arbitrary, also negative or 0. A and B may have any row
and column stride. Outputs and ``"unit"`` extras have consecutive columns. Elements need no
alignment beyond their own. i1 is stored in bytes. Outputs must not overlap inputs, except that
an output may be the very memory of an extra of the same shape, strides and element size.

**Epilogue.** ``epilogue(lanes, value, load)`` writes what happens to the finished sums: `lanes`
is the :class:`Lanes` of the element at the width in use (several widths, 1 included, occur in
one kernel, and masked-off lanes hold anything), `value` the sums, and ``load(i)`` yields the
lanes of ``spec.extras[i]`` at the same positions, in its own element type. It returns one
value per ``spec.outputs``, in lanes of that element (i1 as a mask). It may write blocks.

**Accuracy.** Sums are fused multiply-adds in the order of k, or over lanes along k: the error
of an element is at most about K * eps * (|A| @ |B|), halves being summed in float32. An empty
sum is 0. Results are the same however the items are divided.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ....ir.dataclass import dataclass
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, LINE
from .emit import emit_multiply
from .few import NEAR_STEPS, emit_dots, emit_lines, emit_near, emit_turned
from .forms import CACHE_BYTES, COPY, Form, form_of, rounded
from .pack import emit_pack
from .pairs import emit_pack_pairs, emit_pair_dots, emit_pairs
from .problem import Problem, cut, folded
from .spec import Constant, Epilogue, Extra, MatmulSpec, Matrix, argument_block, library_of, tile_of
from .tiles import emit_tiles
from .walk import emit_walk

__all__ = [
    "Constant", "Epilogue", "Extra", "MatmulSpec", "Matrix", "Needs", "Problem", "Step",
    "emit_library", "emit_multiply", "needs", "schedule",
]  # fmt: skip

# Steps of k, about, after which the other blocks of A and B have their turn; a block may be half
# as long again.
_BLOCK_K = {"tiles": 512, "near": NEAR_STEPS * 2 // 3, "pairs": 384}
_FAR_BYTES = 1 << 20  # of an operand of the epilogue, which then does not wait in a cache
_ITEMS = 16  # of a large product at least, for the sake of threads
_ITEM_WORK = 1 << 18  # multiply-adds for which an item more is worth while

_LIBRARIES: dict[str, Callable[[str, Machine], str]] = {
    "walk": emit_walk, "tiles": emit_tiles, "turned": emit_turned, "near": emit_near,
    **{
        library_of(name, half, row): functools.partial(emit, half=half, row=row)
        for name, emit in (("lines", emit_lines), ("dots", emit_dots))
        for half in ("", "half", "bfloat")
        for row in (False, True)
    },
    **{
        library_of("pack", half): functools.partial(emit_pack, half=half)
        for half in ("", "half", "bfloat")
    },
    "pairs": emit_pairs, "pair_dots": emit_pair_dots, "pack_pairs": emit_pack_pairs,
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One kernel call: which code, its argument block, its number of items, and its work in
    multiply-adds or their equivalent."""

    kind: str  # "multiply", or the library that packs
    arguments: tuple[int, ...]
    items: int
    work: int
    once: bool = False  # whether it need not be repeated while B stays the same


@dataclass(frozen=True)
class _Plan:
    """A problem with its batch folded: the form that computes it, the rows and columns of an
    item, where in the scratch space the copies and partial sums lie, and the bytes of a copy of B
    that is kept elsewhere."""

    problem: Problem
    form: Form
    rows: int
    columns: int
    width: int
    block_k: int
    at_b: int
    at_partials: int
    bytes: int
    kept: int


class Needs(NamedTuple):
    """What the steps of a problem need.

    Attributes
    ----------
    libraries
        The names of the libraries that they call.
    scratch_bytes
        Scratch space (aligned to 64 at best).
    kept_bytes
        The copies of B that outlive a call.
    """

    libraries: tuple[str, ...]
    scratch_bytes: int
    kept_bytes: int


def needs(spec: MatmulSpec, problem: Problem) -> Needs:
    """What the steps of `schedule` need."""
    plans = _plans(spec, problem)
    return Needs(
        tuple(dict.fromkeys([name for plan in plans for name in plan.form.libraries])),
        max([plan.bytes for plan in plans], default=0),
        sum([plan.kept for plan in plans]),
    )


def emit_library(name: str, element: str, machine: Machine) -> str:
    """The module of a library, whose exported function has its name."""
    return _LIBRARIES[name](element, machine)


def schedule(
    spec: MatmulSpec,
    problem: Problem,
    addresses: Mapping[str, int],
    scratch: tuple[int, int] = (0, 0),
    kept: tuple[int, int] = (0, 0),
) -> list[Step]:
    """The steps that compute `problem`.

    Parameters
    ----------
    spec
        What the kernel was emitted for.
    problem
        Extents and operands.
    addresses
        Of the functions of its `libraries`. Whoever keeps the steps keeps their `Kernel` too.
    scratch
        (base index, byte offset) of the scratch space that it `needs`.
    kept
        The same of its `kept_bytes` bytes, which keep their contents from call to call.

    Returns
    -------
    list of Step
        In order; those of kind ``"multiply"`` run the text of `emit_multiply`, the others the
        library of that name. Empty if the result has no elements.
    """
    steps: list[Step] = []
    base, offset = kept
    for plan in _plans(spec, problem):
        steps += _steps(spec, plan, addresses, *scratch, (base, offset))
        offset += plan.kept
    return steps


# -- plans ---------------------------------------------------------------------------------
def _plans(spec: MatmulSpec, problem: Problem) -> list[_Plan]:
    problem = folded(problem)
    if problem.n == 1:  # a single column has no stride of its own
        problem = replace(problem, b=problem.b._replace(column=spec.source_size))
        problem = _as_row(spec, problem)
    return [_plan(spec, part) for part in cut(problem)]


def _as_row(spec: MatmulSpec, problem: Problem) -> Problem:
    """Matrix times vector as vector times transposed matrix, if the output's layout allows."""
    if spec.extras or problem.m == 1 or any(o.row != spec.size for o in problem.outputs):
        return problem
    if any(ELEMENT_BYTES[element] != spec.size for element in spec.outputs):
        return problem
    a, b = problem.a, problem.b
    return replace(
        problem, m=1, n=problem.m, kept=False,
        a=b._replace(row=b.column, column=b.row), b=a._replace(row=a.column, column=a.row),
    )  # fmt: skip


def _plan(spec: MatmulSpec, problem: Problem) -> _Plan:
    form = form_of(spec, problem)
    rows, columns, width = _division(spec, problem, form)
    at_b = _packed_bytes(spec, problem, form, "a")
    packed_b = _packed_bytes(spec, problem, form, "b")
    kept = packed_b if problem.kept else 0
    at_partials = total = at_b + packed_b - kept
    block_k = _block_k(form, problem.k)
    if form.steps(problem.k) > block_k and not _sums_in_output(spec, problem):
        total += math.prod(problem.batch) * problem.m * problem.n * spec.size
    return _Plan(problem, form, rows, columns, width, block_k, at_b, at_partials, total, kept)


def _block_k(form: Form, k: int) -> int:
    """The steps of k in a block: equal blocks of about `_BLOCK_K`, where there are blocks."""
    wanted, steps = _BLOCK_K.get(form.like or form.library), form.steps(k)
    blocks = max(1, round(steps / wanted)) if wanted else 1
    return max(1, -(-steps // blocks))


def _division(spec: MatmulSpec, problem: Problem, form: Form) -> tuple[int, int, int]:
    """(rows of an item, columns of an item, columns of a tile): enough items for several
    threads, if there is enough work. They depend on the problem alone, so that results do not
    depend on threads."""
    m, n, k, batch = problem.m, problem.n, problem.k, math.prod(problem.batch)
    fitting = CACHE_BYTES // (_block_k(form, k) * spec.size)
    rows = max(4 * form.height, min(128, fitting)) // form.height * form.height
    wanted = min(_ITEMS, batch * m * n * k // _ITEM_WORK)
    blocks = -(-wanted // max(1, batch * -(-m // rows)))
    columns = rounded(-(-n // max(1, blocks)), form.unit)
    items = batch * -(-m // rows) * -(-n // max(1, columns))
    if 0 < items < wanted:
        fewer = -(-m * items // (wanted * -(-m // rows)))
        rows = min(rows, rounded(fewer, form.height))
    width = min(columns, form.width)
    return rows, rounded(columns, max(1, width)), max(1, width)


# -- packing -------------------------------------------------------------------------------
def _source(spec: MatmulSpec, problem: Problem, form: Form, which: str) -> tuple[Matrix, int, int]:
    """The operand as packing sees it (lines of consecutive elements and their number come
    from rows), its columns, and its rows; panels run along the rows."""
    if which == "a":
        turned = problem.a._replace(row=problem.a.column, column=problem.a.row)
        whole, extent = turned, problem.m
    else:
        whole, extent = problem.b, problem.n
    kind = form.pack_a if which == "a" else form.pack_b
    if kind == "lines":  # one panel, whose lines run along k
        return whole._replace(row=whole.column, column=whole.row), problem.k, extent
    return whole, extent, problem.k


def _panel_width(spec: MatmulSpec, kind: str, columns: int) -> int:
    tile = tile_of(spec.element, spec.machine)
    return rounded(max(columns, 1), tile.lanes) if kind == "lines" else tile.columns


def _panel_strides(
    spec: MatmulSpec, form: Form, kind: str, columns: int, rows: int
) -> tuple[int, int, int]:
    """Bytes from one step of k to the next, from one column, and from one panel."""
    width, steps = _panel_width(spec, kind, columns), form.steps(rows)
    if kind != "rows":
        return width * spec.size, spec.size, form.head + steps * width * spec.size
    row = rounded(steps * spec.size, LINE) | LINE  # such that rows fall on all sets of the caches
    return spec.size, row, form.head + min(columns, width) * row


def _packed_bytes(spec: MatmulSpec, problem: Problem, form: Form, which: str) -> int:
    kind = form.pack_a if which == "a" else form.pack_b
    if not kind:
        return 0
    source, columns, rows = _source(spec, problem, form, which)
    width = _panel_width(spec, kind, columns)
    panel = _panel_strides(spec, form, kind, columns, rows)[-1]
    return _copies(source, problem) * -(-columns // width) * panel


def _copies(operand: Matrix, problem: Problem) -> int:
    """How many different matrices of an operand the batch has."""
    count = 1
    for extent, stride in zip(problem.batch, operand.batch, strict=True):
        count *= extent if stride else 1
    return count


def _pack_step(
    spec: MatmulSpec, problem: Problem, form: Form, which: str, base: int, offset: int
) -> tuple[Step, Matrix]:
    """The step that packs A or B, and the packed operand."""
    kind = form.pack_a if which == "a" else form.pack_b
    source, columns, rows = _source(spec, problem, form, which)
    width = _panel_width(spec, kind, columns)
    panels = -(-columns // width)
    line, across, panel = _panel_strides(spec, form, kind, columns, rows)
    extents: list[int] = []
    strides: list[int] = []
    step = panels * panel
    for extent, stride in zip(reversed(problem.batch), reversed(source.batch), strict=True):
        extents.insert(0, extent if stride else 1)
        strides.insert(0, step if stride else 0)
        step *= extents[0]
    packed = Matrix(base, offset + form.head, line, across, tuple(strides), panel)
    header = {"n": columns, "k": rows, "column_blocks": panels, "width": width}
    block = argument_block(header, extents, [source, packed])
    items = _copies(source, problem) * panels
    if (kind == "lines") == (which == "b"):
        packed = packed._replace(row=across, column=line)
    return Step(form.packing, block, items, items * panel // spec.size * COPY), packed


def _sums_in_output(spec: MatmulSpec, problem: Problem) -> bool:
    """Whether partial sums can lie in the first output: not over what is still to be read."""
    output = problem.outputs[0]
    return spec.outputs[0] == spec.element and not any(
        isinstance(e, Matrix) and e[:2] == output[:2] for e in problem.extras
    )


# -- steps ---------------------------------------------------------------------------------
def _steps(
    spec: MatmulSpec, plan: _Plan, addresses: Mapping[str, int], base: int, offset: int,
    kept: tuple[int, int],
) -> list[Step]:  # fmt: skip
    problem, form = plan.problem, plan.form
    m, n, k = problem.m, problem.n, form.steps(problem.k)
    if m == 0 or n == 0 or 0 in problem.batch:
        return []
    steps = []
    a, b = problem.a, problem.b
    if form.pack_a:
        step, a = _pack_step(spec, problem, form, "a", base, offset)
        steps.append(step)
    if form.pack_b:
        place = kept if problem.kept else (base, offset + plan.at_b)
        step, b = _pack_step(spec, problem, form, "b", *place)
        steps.append(replace(step, once=problem.kept))
    if form.pack_a not in ("panels", "rows"):
        panel_rows = tile_of(spec.element, spec.machine).columns if spec.is_float else 1
        a = a._replace(panel=panel_rows * a.row)
    if form.pack_b != "panels":
        b = b._replace(panel=plan.width * b.column)
    ahead = _ahead(spec, plan, b)
    partials = _partials(spec, plan, base, offset)
    down, along = -(-m // plan.rows), -(-n // plan.columns)
    finished = [*problem.outputs, *_asked(spec, problem)]
    asks = any(isinstance(operand, Matrix) and operand.panel for operand in finished)
    header = {
        "m": m, "n": n, "k": k, "block_rows": plan.rows, "row_blocks": down,
        "block_columns": plan.columns, "column_blocks": along, "block_k": plan.block_k,
        "height": form.height, "width": plan.width, "ahead": ahead, "finished": len(finished),
        "asked": len(finished) if asks else 0,
        **{name: addresses.get(name, 0) for name in ("tiles", "walk")},
        "library": addresses.get(form.library, 0),
    }  # fmt: skip
    operands = [a, b, partials, *finished]
    block = argument_block(header, problem.batch, operands)
    items = math.prod(problem.batch) * down * along
    steps = [step for step in steps if step.items]
    return [*steps, Step("multiply", block, items, math.prod(problem.batch) * m * n * k)]


def _ahead(spec: MatmulSpec, plan: _Plan, b: Matrix) -> int:
    """Bytes of the next panel of B that a register tile asks for with each step of k.

    A B in panels, or whose columns lie in one piece, streams from afar: while one panel is in
    use, the next comes nearer, evenly over all tiles.
    """
    problem, form, tile = plan.problem, plan.form, tile_of(spec.element, spec.machine)
    rows = min(plan.rows, problem.m)
    if form.pack_b == "panels":
        tiles = -(-rows // tile.rows)
        return -(-b.row // tiles)
    if form.library == "turned" and 0 < b.column == problem.k * b.row:
        tiles = -(-rows // form.height) * -(-plan.width // tile.rows)
        return -(-b.panel // (tiles * problem.k))
    return 0


def _asked(spec: MatmulSpec, problem: Problem) -> Iterator[Matrix | Constant]:
    """The extras; those that no cache holds with the bytes of an element, for tiles to ask for
    them ahead."""
    for extra, operand in zip(spec.extras, problem.extras, strict=True):
        if isinstance(operand, Matrix) and extra.columns == "unit":
            far = problem.m * operand.row > _FAR_BYTES
            operand = operand._replace(panel=ELEMENT_BYTES[extra.element] if far else 0)
        yield operand


def _partials(spec: MatmulSpec, plan: _Plan, base: int, offset: int) -> Matrix:
    """Where partial sums lie: in the first output, or in scratch space."""
    problem = plan.problem
    if _sums_in_output(spec, problem):
        return problem.outputs[0]
    row = problem.n * spec.size
    strides: list[int] = []
    step = problem.m * row
    for extent in reversed(problem.batch):
        strides.insert(0, step)
        step *= extent
    return Matrix(base, offset + plan.at_partials, row, spec.size, tuple(strides))
