"""What attention kernels are made of: blocks with one lane a query (or key), and their products.

A kernel's work item is a block of as many rows of one operand as a register tile has columns.
Those rows are *turned* into scratch memory on the stack, so that a lane holds a row, and all
that is computed for them has a lane for each: a product with the other operand then reads that
operand where it lies, element by element, whatever its strides, and a softmax over the keys
needs nothing from other lanes. Lanes behind the last row repeat it; they are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..gemm.spec import KERNEL_PARAMS, smaller
from ..gemm.tiles import FRAME, TILES_PARAMS, new_frame
from ..machine.llvm_text import Function, Lanes, module_text
from ..vecmath.common import at_least
from ..vecmath.exponential import vanishing_exp2
from .spec import MAX_WIDTH, Arguments, AttentionSpec
from .turning import from_lanes, to_lanes

__all__ = ["LOG2_E", "Blocks", "Rows"]

LOG2_E = 1.4426950408889634


class Rows:
    """The rows of an operand that an item covers, one a lane.

    Attributes
    ----------
    first, count
        The first row, and how many there are.
    """

    def __init__(self, first: str, count: str) -> None:
        self.first = first
        self.count = count


class Blocks:
    """Writes the parts that attention kernels share.

    Parameters
    ----------
    spec
        What the kernel is made for.
    name
        The kernel's symbol.
    """

    #: Rows of the other operand taken at a time.
    steps = 128

    def __init__(self, spec: AttentionSpec, name: str) -> None:
        self.spec = spec
        self.fn = Function(name, KERNEL_PARAMS, "i64")
        self.arguments = Arguments(self.fn)
        self.lanes = Lanes(self.fn, spec.element, spec.tile.lanes)
        self.vectors = spec.tile.vectors
        self.line = spec.tile.columns * spec.size  # bytes of a row of scratch memory
        self.vector_bytes = self.lanes.width * spec.size
        self._functions: dict[Callable[[AttentionSpec], Function], Function] = {}

    def text(self) -> str:
        """The LLVM module."""
        self.prepare()
        with self._items() as (batch, rows):
            self.item(batch, rows)
        self.fn.do("ret i64 0")
        return module_text([self.fn, *self._functions.values()])

    def prepare(self) -> None:
        """Write what all items share; extended by the kernels."""
        header = self.arguments.header
        self.rows, self.keys = header("rows"), header("keys")
        self.width, self.values = header("width"), header("values")
        self.library = self.fn.op(f"inttoptr i64 {header('tiles')} to ptr")
        element = self.spec.element
        self.scale = self.lanes.splat(self.arguments.scale(element))
        self.binary_scale = self.arguments.scale(element, LOG2_E)

    def item(self, batch: list[str], rows: Rows) -> None:
        """Write one item."""
        raise NotImplementedError

    def extent(self) -> str:
        """The rows that items cover."""
        return self.rows

    @contextmanager
    def _items(self) -> Iterator[tuple[list[str], Rows]]:
        fn, height = self.fn, self.spec.tile.columns
        blocks = self.arguments.header("blocks")
        with fn.loop("%begin", "%end") as item:
            batch = self.arguments.batch_indices(fn.integer("udiv", item.index, blocks))
            first = fn.integer("mul", fn.integer("urem", item.index, blocks), height)
            count = smaller(fn, fn.integer("sub", self.extent(), first), height)
            whole = fn.integer("add", count, self.lanes.width - 1)
            self.columns = fn.integer("and", whole, -self.lanes.width)  # products skip idle vectors
            yield batch, Rows(first, count)

    def matrix(self, operand: int, batch: Sequence[str]) -> tuple[str, str, str]:
        """Where an operand's matrix begins, and its row and column stride."""
        field = self.arguments.field
        pointer = self.arguments.pointer(operand, batch)
        return pointer, field(operand, "row"), field(operand, "column")

    # -- scratch memory -----------------------------------------------------------------------
    def scratch(self, lines: int = MAX_WIDTH) -> str:
        """Memory for `lines` lines of an element for each lane."""
        return self.fn.op(f"alloca [{lines * self.line} x i8], align 64")

    def at(self, scratch: str, line: str | int, vector: int = 0) -> str:
        offset = self.fn.integer("mul", line, self.line)
        place = self.fn.gep(scratch, offset)
        return self.fn.gep(place, vector * self.vector_bytes) if vector else place

    def load_line(self, scratch: str, line: str | int) -> list[str]:
        """The vectors of a line."""
        return [self.lanes.load(self.at(scratch, line, v)) for v in range(self.vectors)]

    def store_line(self, values: Sequence[str], scratch: str, line: str | int) -> None:
        for v, value in enumerate(values):
            self.lanes.store(value, self.at(scratch, line, v))

    # -- turning ------------------------------------------------------------------------------
    def turn(self, rows: Rows, source: tuple[str, str, str], width: str, target: str,
             factor: str | None = None) -> None:  # fmt: skip
        """Rows, times `factor`, become lanes: line e of `target` is element e of every row.

        `source` are the matrix and its row and column stride.
        """
        pointer, row, column = source
        start = self.fn.gep(pointer, self.fn.integer("mul", rows.first, row))
        one = Lanes(self.fn, self.spec.element, 1).const(1.0)
        self._call(to_lanes, start, target, rows.count, width, row, column, factor or one)

    def turn_back(self, rows: Rows, target: tuple[str, str], width: str, source: str) -> None:
        """Lanes become rows: what `turn` did undone.

        `target` are the matrix, whose columns are consecutive, and its row stride.
        """
        pointer, row = target
        start = self.fn.gep(pointer, self.fn.integer("mul", rows.first, row))
        self._call(from_lanes, source, start, rows.count, width, row)

    def _call(self, make: Callable[[AttentionSpec], Function], *values: str) -> None:
        """Call a function that the module has once."""
        if make not in self._functions:
            self._functions[make] = make(self.spec)
        fn = self._functions[make]
        arguments = ", ".join(f"{t} {v}" for (t, _), v in zip(fn.params, values, strict=True))
        self.fn.do(f"call void @{fn.name}({arguments})")

    def change(self, scratch: str, lines: str, change: Callable[[str, int], str]) -> None:
        """Put `change(value, vector)` in the place of the values of some lines."""
        with self.fn.loop(0, lines) as line:
            values = self.load_line(scratch, line.index)
            self.store_line([change(x, v) for v, x in enumerate(values)], scratch, line.index)

    # -- products -----------------------------------------------------------------------------
    def frame(self, row: str, column: str) -> str:
        """A frame of the tile library for products of matrices with these strides."""
        return new_frame(self.fn, {
            "a_row": row, "a_column": column, "b_row": self.line, "b_column": self.spec.size,
            "c_row": self.line,
        })  # fmt: skip

    def accumulate(self, frame: str, flag: str) -> None:
        """Say whether products by `frame` add to what is there."""
        self.fn.store("i64", flag, self.fn.gep(frame, 8 * FRAME.index("accumulate")), 8)

    def product(self, frame: str, k: str, a: str, b: str, c: str, m: str) -> None:
        """c (+)= a @ b for m rows of a matrix where it lies."""
        given = (frame, k, a, b, c, m, self.columns)
        pairs = zip(TILES_PARAMS, given, strict=True)
        arguments = ", ".join(f"{t} {v}" for (t, _), v in pairs)
        self.fn.do(f"call void {self.library}({arguments})")

    # -- lanes --------------------------------------------------------------------------------
    def each(self, make: Callable[[int], str]) -> list[str]:
        """One value a vector."""
        return [make(v) for v in range(self.vectors)]

    def exp(self, value: str) -> str:
        """2**value: scores are in units of ln 2, whose powers cost least."""
        return vanishing_exp2(self.lanes, value)

    def larger(self, a: str, b: str) -> str:
        """The larger of two; `a` where `b` is NaN."""
        return at_least(self.lanes, a, b)

    def lane_numbers(self, vector: int) -> str:
        """0, 1, 2 ... counted on over the vectors, as integers of the lanes' bits."""
        lanes = self.lanes.integers
        first = vector * lanes.width
        return "<" + ", ".join(f"{lanes.element} {first + i}" for i in range(lanes.width)) + ">"

    def short(self, value: str) -> str:
        """An i64 in every lane, as integers of the lanes' bits."""
        lanes = self.lanes.integers
        narrow = value if lanes.bits == 64 else self.fn.op(f"trunc i64 {value} to {lanes.element}")
        return lanes.splat(narrow)
