"""Which tile library computes a product, and what is packed for it, by an estimate of time.

Times are estimated in multiply-adds at full speed. What counts is lanes that stay empty, what
copies cost, and what a library spends on each result apart from its multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....ir.dataclass import dataclass
from ..machine.llvm_text import LINE
from .few import DOTS_TILE, LINES_ROWS, turned_columns
from .problem import Problem
from .spec import MatmulSpec, library_of, tile_of
from .walk import TILE_BYTES

__all__ = ["CACHE_BYTES", "COPY", "Form", "candidates", "form_of", "rounded"]

CACHE_BYTES = 512 << 10
"""Of A that one item covers: about half of a second-level cache."""

COPY = 8
"""What packing an element weighs against a multiply-add."""

_ACROSS = 14  # the same where lines of the copy are columns of the operand
_TURNED = 16  # what turning a result weighs, where all of them lie beyond the caches
_NEAR = 3  # what a copy on the stack does, for as many rows as it is made for at a time
_TOTAL = 80  # what adding up the lanes of a dot product weighs
_DOTS_BYTES = 32 << 10  # of the rows and columns of a tile of dot products: beyond that many
_DOTS_FAR = 1.5  # its multiply-adds weigh as much, as they come from the second-level cache
_MASKED = 1.3  # what multiply-adds under masks weigh, which the processor does not read ahead for
_FEW = 4  # rows below which a register tile has too few independent sums
_DOTS_ROWS = 32
_KEPT_ROWS = 2  # tiles of rows from which on a copy of B that is there is faster
_KEPT_BYTES = 256 << 10  # of a panel of it: a longer one has left the caches when it is read again

_WIDENED = 1  # widening a half with each reading
_DOTTED = 0.75  # a product in a pair, where operands are read where they lie
_SCANNED = 2  # looking for the least exponent beforehand

_UNPACKED_BYTES = 4 << 20  # B stays in place up to this size, if its rows spread over the caches
_AMORTIZED_BYTES = 3 << 20  # and up to this size for as many tiles of rows, which pay for a copy:
_AMORTIZING_ROWS = 32  # its rows lie on more pages than the nearest table of addresses has
_TURNED_BYTES = 1 << 20  # of a panel of A, which turned tiles read again and again
_PAGE = 4096


@dataclass(frozen=True)
class Form:
    """How a product is computed.

    Attributes
    ----------
    library
        The tile library; empty for integers, whose kernel has no tiles.
    height, width
        Rows and columns of its tile at most.
    unit
        What the columns of an item are a multiple of.
    pack_a, pack_b
        ``"panels"``: copied into panels of a register tile's columns; ``"rows"``: so, but one
        row after the other in each panel; ``"lines"``: copied so that k is consecutive; empty:
        read in place.
    packing
        The library that packs.
    per_step
        Elements of k that the library takes in a step.
    head
        Bytes before a panel that say something of it.
    like
        The library as whose k is divided into blocks, which decides how sums are rounded.
    """

    library: str
    height: int
    width: int
    unit: int
    pack_a: str = ""
    pack_b: str = ""
    packing: str = "pack"
    per_step: int = 1
    head: int = 0
    like: str = ""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The names of all libraries that it needs."""
        if not self.library:
            return ()
        inner = ("tiles",) if self.library in ("turned", "near") else ()
        packing = (self.packing,) if self.pack_a or self.pack_b else ()
        return (self.library, *inner, *packing, "walk")

    def steps(self, k: int) -> int:
        """The steps along `k` elements."""
        return -(-k // self.per_step)


def rounded(extent: int, multiple: int) -> int:
    """`extent` rounded up to a multiple."""
    return -(-extent // multiple) * multiple


def form_of(spec: MatmulSpec, problem: Problem) -> Form:
    """The form of the least estimated time, of equal ones the first."""
    if not spec.is_float:
        lanes = spec.machine.lanes(spec.size)
        return Form("", 8, 1 << 30, lanes)
    time, form = min(candidates(spec, problem), key=lambda pair: pair[0])
    return _with_kept_b(spec, problem, time, form) if problem.kept else form


def _with_kept_b(spec: MatmulSpec, problem: Problem, time: float, form: Form) -> Form:
    """The form where copying B costs nothing: of those whose sums are rounded as `form`'s."""
    if form.library not in ("turned", "near") or _must_pack_a(spec, problem):
        return form
    tile = tile_of(spec.element, spec.machine)
    kept = problem.m * rounded(problem.n, tile.lanes) * problem.k
    panel = tile.columns * problem.k * spec.size
    if kept >= time or problem.m < _KEPT_ROWS * tile.rows or panel > _KEPT_BYTES:
        return form
    return Form("tiles", tile.rows, tile.columns, tile.columns, pack_b="panels", like=form.library)


def candidates(spec: MatmulSpec, problem: Problem) -> Iterator[tuple[float, Form]]:
    """The forms that can compute a floating-point product, with their estimated times."""
    m, n, k = problem.m, problem.n, problem.k
    tile = tile_of(spec.element, spec.machine)
    if spec.half:
        yield from _half_candidates(spec, problem)
        return
    a_along_k = problem.a.column == spec.size or k <= 1
    b_along_k = problem.b.row == spec.size or k <= 1
    b_along_n = problem.b.column == spec.size

    if m <= LINES_ROWS and b_along_n:
        yield m * rounded(n, tile.lanes) * k, _lines(spec, m)

    if b_along_k and tile.columns * k * spec.size <= _TURNED_BYTES:
        width = turned_columns(spec.element, spec.machine)
        pack_a = "" if problem.a.row == spec.size else "panels"
        whole, rest = m // tile.lanes, bool(m % tile.lanes)
        time = (whole + _MASKED * rest) * tile.lanes * n * k + _ACROSS * k * m * bool(pack_a)
        if m * n * spec.size > 2 * CACHE_BYTES:
            time += _TURNED * m * n
        yield time, Form("turned", tile.columns, width, width, pack_a)

    pack_a = "panels" if _must_pack_a(spec, problem) else ""
    far = _is_far(spec, problem)
    pays = m >= _AMORTIZING_ROWS * tile.rows and n * k * spec.size > _AMORTIZED_BYTES
    copies_b = pays or not b_along_n or (far and (m >= 6 * tile.rows or not pack_a))
    pack_b = "panels" if copies_b else ""
    copied = COPY * m * bool(pack_a) + (COPY if b_along_n else _ACROSS) * n * bool(pack_b)
    time = max(m, _FEW) * rounded(n, tile.lanes) * k + copied * k
    yield time, Form("tiles", tile.rows, tile.columns, tile.columns, pack_a, pack_b)

    if far and b_along_n and not pack_a:
        height = TILE_BYTES // tile.columns // spec.size
        time = max(m, _FEW) * rounded(n, tile.lanes) * k + _NEAR * k * n * -(-m // height)
        yield time, Form("near", height, tile.columns, tile.columns)

    pack_a = "" if a_along_k else "lines"
    pack_b = "" if b_along_k else "lines"
    copied = k * (m * bool(pack_a) + n * bool(pack_b))
    outside = 2 * DOTS_TILE * k * spec.size >= _DOTS_BYTES and m > DOTS_TILE
    work = rounded(k, tile.lanes) * (_DOTS_FAR if outside else 1) + _TOTAL
    library = library_of("dots", "", m == 1)
    yield m * n * work + COPY * copied, _dots(spec, m, library, pack_a, pack_b)


def _half_candidates(spec: MatmulSpec, problem: Problem) -> Iterator[tuple[float, Form]]:
    """Both operands are packed, widened or in pairs, or both are read where they lie."""
    m, n, k, size = problem.m, problem.n, problem.k, spec.source_size
    tile, packing = tile_of(spec.element, spec.machine), library_of("pack", spec.half)
    time, read = max(m, _FEW) * rounded(n, tile.lanes) * k, (m + n) * k
    if spec.in_pairs:
        yield time / 2 + COPY * read, Form(
            "pairs", tile.columns, tile.columns, tile.columns,
            "rows" if problem.a.column == size else "panels", "panels", "pack_pairs", 2, LINE,
        )  # fmt: skip
    yield time + COPY * read, Form(
        "tiles", tile.rows, tile.columns, tile.columns, "lines", "panels", packing
    )
    if m <= LINES_ROWS and problem.b.column == size:
        time = m * rounded(n, tile.lanes) * k + _WIDENED * n * k
        yield time, _lines(spec, m)
    time = m * n * (rounded(k, tile.lanes) + _TOTAL)
    if k <= 1 or problem.a.column == size == problem.b.row:
        if spec.in_pairs:
            paired = m * n * (_DOTTED * rounded(k, 2 * tile.lanes) + _TOTAL)
            yield paired + _SCANNED * read, _dots(spec, m, "pair_dots")
        times = -(-m // DOTS_TILE) * n + -(-n // DOTS_TILE) * m
        yield time + _WIDENED * times * k, _dots(spec, m, library_of("dots", spec.half, m == 1))
    else:
        library = library_of("dots", "", m == 1)
        yield time + COPY * read, _dots(spec, m, library, "lines", "lines", packing)


def _lines(spec: MatmulSpec, m: int) -> Form:
    width = TILE_BYTES // spec.size // LINES_ROWS
    unit = min(width, 32 * spec.machine.lanes(spec.size))  # memory is read in such stretches
    return Form(library_of("lines", spec.half, m == 1), LINES_ROWS, width, unit)


def _dots(
    spec: MatmulSpec, m: int, library: str, pack_a: str = "", pack_b: str = "",
    packing: str = "pack",
) -> Form:  # fmt: skip
    height = min(rounded(max(m, 1), 4), _DOTS_ROWS)
    return Form(library, height, TILE_BYTES // spec.size // height, 4, pack_a, pack_b, packing)


def _is_far(spec: MatmulSpec, problem: Problem) -> bool:
    """Whether register tiles would wait for the rows of B where they lie."""
    b = problem.b
    return problem.k * problem.n * spec.size > _UNPACKED_BYTES or _hostile(b.row, problem.k)


def _must_pack_a(spec: MatmulSpec, problem: Problem) -> bool:
    """Register tiles read A by any strides; a copy pays where k is not consecutive and A
    far-flung."""
    a, m, k = problem.a, problem.m, problem.k
    tile = tile_of(spec.element, spec.machine)
    if k <= 1 or a.column == spec.size or m < tile.rows or problem.n <= 2 * tile.columns:
        return False
    return m * k * spec.size > CACHE_BYTES or _hostile(a.column, k) or a.row != spec.size


def _hostile(stride: int, steps: int) -> bool:
    """Whether walking by `stride` bytes falls on few sets of the caches."""
    return stride % _PAGE == 0 and stride != 0 and steps >= 32
