"""What a product kernel is made for, and the layout of its argument block.

Everything that changes machine code is in :class:`MatmulSpec`; everything else (extents,
strides, places of the operands) is read at run time from the argument block, whose slots are
named here and nowhere else. Emission reads them through :class:`Arguments`, the program
builder writes them through :func:`argument_block`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ....ir.dataclass import dataclass
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes

__all__ = [
    "Arguments", "Constant", "Epilogue", "Extra", "MatmulSpec", "Matrix", "Tile",
    "argument_block", "library_of", "tile_of",
]  # fmt: skip

MAX_BATCH = 3
KERNEL_PARAMS = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]

# The slots of an argument block, 64-bit integers: a header, then one record an operand.
# Multiply: A, B, partial sums, outputs, extras. Pack: source, destination.
#   block_rows, row_blocks         rows of an item, and items along them
#   block_columns, column_blocks   the same along the columns (pack: panels of a matrix)
#   block_k                        steps of k before the next rows and columns have their turn
#   height, width                  rows and columns that the tile library takes at a time
#                                  (pack: width is the columns of a panel)
#   ahead                          bytes of B's next panel that register tiles ask for with each
#                                  step of k
#   library, tiles, walk           addresses: the tile library, the one that it may call, and the
#                                  walk over items that calls it
#   finished, asked                records of outputs and extras, and as many if tiles ask for
#                                  some of them ahead, else 0
#   base, offset             which pointer of the call's table, and the bytes to add; an extra
#                            of kind "constant" has its bits in offset
#   batch0..2, row, column   strides in bytes
#   panel                    bytes from one panel to the next: of B, `width` columns; of A, as
#                            many rows as a register tile has columns; of an extra, the bytes
#                            of an element if tiles ask for it ahead, else 0
# A step of k is an element, or a word of two where bfloat16 is packed in pairs (k of packing
# counts elements).
HEADER = (
    "m", "n", "k", "block_rows", "row_blocks", "block_columns", "column_blocks", "block_k",
    "height", "width", "ahead", "library", "tiles", "walk", "finished", "asked",
    "batch0", "batch1", "batch2",
)  # fmt: skip
RECORD = ("base", "offset", "batch0", "batch1", "batch2", "row", "column", "panel")
RECORD_BYTES = 8 * len(RECORD)
FIRST_FINISHED = 3
"""The record of the first output, behind A, B and partial sums."""

# epilogue(lanes, value, load) -> one value per output, in lanes of the output's element.
Epilogue = Callable[[Lanes, str, Callable[[int], str]], Sequence[str]]


class Extra(NamedTuple):
    """An operand that the epilogue reads.

    Attributes
    ----------
    element
        Its LLVM element type; ``i1`` is stored as a byte.
    columns
        How it runs along a row: ``"unit"`` (consecutive elements), ``"zero"`` (one element
        for the whole row), ``"strided"`` (a run-time stride) or ``"constant"`` (one value,
        passed in the argument block as bits, not in memory).
    """

    element: str
    columns: str


@dataclass(frozen=True)
class MatmulSpec:
    """All that the code of a product kernel depends on.

    Attributes
    ----------
    element
        ``float``, ``double`` or ``i8`` … ``i64``: the type of A, B and the sums.
    machine
        What to generate code for.
    outputs
        Element types of the results; the product itself unless there is an epilogue.
    extras
        The operands that the epilogue loads.
    half
        ``half`` or ``bfloat`` where A and B hold such numbers, which are widened to `element`
        where they are read if they are not multiplied `in_pairs`; else empty.
    """

    element: str
    machine: Machine
    outputs: tuple[str, ...]
    extras: tuple[Extra, ...] = ()
    half: str = ""

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return ELEMENT_BYTES[self.element]

    @property
    def source_size(self) -> int:
        """Bytes of an element of A and B in memory."""
        return 2 if self.half else self.size

    @property
    def is_float(self) -> bool:
        return self.element in ("float", "double")

    @property
    def in_pairs(self) -> bool:
        """Whether A and B are packed as they are, two steps of k in a word (`pairs`)."""
        return self.half == "bfloat" and self.machine.has_pairs


@dataclass(frozen=True)
class Tile:
    """The register tile: `rows` rows of `vectors` vectors of `lanes` lanes."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of a tile, and of a packed panel."""
        return self.vectors * self.lanes


def library_of(name: str, half: str, row: bool = False) -> str:
    """The name of a library: of its edition for a single row, and of that which reads halves, if
    they are named."""
    return "_".join(["row"] * row + [name] + [half] * bool(half))


def tile_of(element: str, machine: Machine) -> Tile:
    """The register tile for a floating-point element.

    16 accumulators hide the latency of two FMA units where there are 32 registers; where
    there are 16, 12 accumulators, 3 vectors of B and one of A just fill them.
    """
    lanes = machine.lanes(ELEMENT_BYTES[element])
    if machine.vector_bytes == 32:
        return Tile(4, 3, lanes)
    if machine.triple.startswith("x86") and machine.vector_bytes == 16:
        return Tile(4, 2, lanes)
    return Tile(8, 2, lanes)


class Matrix(NamedTuple):
    """Where an operand lies: a pointer of the call's table, a byte offset, byte strides.

    `batch` has a stride per batch dimension, 0 where the operand is broadcast.
    """

    base: int
    offset: int
    row: int
    column: int
    batch: tuple[int, ...] = ()
    panel: int = 0


class Constant(NamedTuple):
    """An extra operand whose value is given by the bits of its element."""

    bits: int


def argument_block(
    header: Mapping[str, int], batch: Sequence[int], operands: Sequence[Matrix | Constant]
) -> tuple[int, ...]:
    """The slots of an argument block.

    Parameters
    ----------
    header
        Values of the slots of `HEADER`; those not given are 0.
    batch
        Extents of at most `MAX_BATCH` batch dimensions.
    operands
        One a record, in the kernel's order; matrices have a stride per batch dimension.
    """
    fill = MAX_BATCH - len(batch)
    extents = {f"batch{i}": extent for i, extent in enumerate((*[1] * fill, *batch))}
    block = [{**header, **extents}.get(name, 0) for name in HEADER]
    for operand in operands:
        if isinstance(operand, Constant):
            block += [0, operand.bits, 0, 0, 0, 0, 0, 0]
        else:
            base, offset, row, column, strides, panel = operand
            block += [base, offset, *[0] * fill, *strides, row, column, panel]
    return tuple(block)


def smaller(fn: Function, a: str, b: str | int) -> str:
    """The smaller of two i64 values."""
    return fn.call("i64", "llvm.smin.i64", ("i64", a), ("i64", str(b)))


def larger(fn: Function, a: str, b: str | int) -> str:
    """The larger of two i64 values."""
    return fn.call("i64", "llvm.smax.i64", ("i64", a), ("i64", str(b)))


class Arguments:
    """Reads the slots of an argument block inside a kernel.

    `names` are those of its header, `record` those of what describes an operand; `block` is where
    it lies.
    """

    def __init__(
        self, fn: Function, names: Sequence[str] = HEADER, record: Sequence[str] = RECORD,
        block: str = "%args",
    ) -> None:  # fmt: skip
        self.fn, self.names, self.record, self.block = fn, names, record, block

    def _slot(self, index: int) -> str:
        return self.fn.load("i64", self.fn.gep(self.block, 8 * index), 8)

    def header(self, name: str) -> str:
        return self._slot(self.names.index(name))

    def field(self, operand: int, name: str) -> str:
        return self._slot(self.place_of(operand) // 8 + self.record.index(name))

    def place_of(self, operand: int) -> int:
        """Bytes before the record of an operand."""
        return 8 * (len(self.names) + operand * len(self.record))

    def pointer(self, operand: int, batch: Sequence[str]) -> str:
        """Where the operand's matrix begins at the batch indices `batch`."""
        fn = self.fn
        table = fn.gep("%bases", self.field(operand, "base"), "ptr")
        pointer = fn.gep(fn.load("ptr", table, 8), self.field(operand, "offset"))
        for axis, index in enumerate(batch):
            stride = self.field(operand, f"batch{axis}")
            pointer = fn.gep(pointer, fn.integer("mul", index, stride))
        return pointer

    def batch_indices(self, flat: str) -> list[str]:
        """The indices along the batch dimensions of a flat batch index."""
        fn = self.fn
        indices: list[str] = []
        for axis in reversed(range(sum(name.startswith("batch") for name in self.record))):
            extent = self.header(f"batch{axis}")
            indices.insert(0, fn.integer("urem", flat, extent))
            flat = fn.integer("udiv", flat, extent)
        return indices
