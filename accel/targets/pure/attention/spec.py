"""What an attention kernel is made for, and the layout of its argument block.

Everything that changes machine code is in :class:`AttentionSpec`; extents, strides and places
are read at run time from the argument block, whose slots are named here and nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ....ir.dataclass import dataclass
from ..gemm import spec as gemm_spec
from ..gemm.spec import Matrix, Tile, tile_of
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, float_literal

__all__ = ["MAX_BATCH", "MAX_WIDTH", "Arguments", "AttentionSpec", "Mask", "argument_block"]

MAX_BATCH = 4
#: Greatest extent of a row of query, key or value: what a kernel keeps of them is on its stack.
MAX_WIDTH = 256

# The slots of an argument block, 64-bit integers: a header, then one record an operand.
#   rows, keys, width, values   L, S, E and Ev
#   blocks                      work items of a matrix of the batch
#   scale                       its bits
#   tiles                       address of the tile library
#   base, offset                which pointer of the call's table, and the bytes to add
#   batch0..3, row, column      strides in bytes
HEADER = ("rows", "keys", "width", "values", "blocks", "scale", "tiles",
          *(f"batch{i}" for i in range(MAX_BATCH)))  # fmt: skip
RECORD = ("base", "offset", *(f"batch{i}" for i in range(MAX_BATCH)), "row", "column")


@dataclass(frozen=True)
class Mask:
    """How a mask is read.

    Attributes
    ----------
    element
        ``i1`` (stored as bytes) for keys that count, else that of the scores, to be added.
    rows, columns
        How it runs along queries and along keys: ``"zero"`` (the same for all), ``"unit"``
        (consecutive elements) or ``"strided"``.
    """

    element: str
    rows: str
    columns: str


@dataclass(frozen=True)
class AttentionSpec:
    """All that the code of an attention kernel depends on.

    Attributes
    ----------
    element
        ``float`` or ``double``.
    machine
        What to generate code for.
    is_causal
        Whether query i sees the keys 0 to i only.
    mask
        The mask, if there is one.
    """

    element: str
    machine: Machine
    is_causal: bool
    mask: Mask | None

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return ELEMENT_BYTES[self.element]

    @property
    def tile(self) -> Tile:
        """The register tile of its products; an item covers as many queries as it has columns."""
        return tile_of(self.element, self.machine)


def argument_block(
    header: Mapping[str, int | float], batch: Sequence[int], operands: Sequence[Matrix]
) -> tuple[int, ...]:
    """The slots of an argument block.

    Parameters
    ----------
    header
        Values of the slots of `HEADER` but for the batch; ``scale`` is a float.
    batch
        Extents of at most `MAX_BATCH` batch dimensions.
    operands
        One a record, in the kernel's order, with a stride per batch dimension.
    """
    fill = MAX_BATCH - len(batch)
    extents = {f"batch{i}": extent for i, extent in enumerate((*[1] * fill, *batch))}
    (scale,) = struct.unpack("<q", struct.pack("<d", header["scale"]))
    given: dict[str, Any] = {**header, **extents, "scale": scale}
    block = [given[name] for name in HEADER]
    for operand in operands:
        strides = (*[0] * fill, *operand.batch)
        block += [operand.base, operand.offset, *strides, operand.row, operand.column]
    return tuple(block)


class Arguments(gemm_spec.Arguments):
    """Reads the slots of an argument block inside a kernel."""

    def __init__(self, fn: Function) -> None:
        super().__init__(fn, HEADER, RECORD)

    def scale(self, element: str, unit: float = 1.0) -> str:
        """The scale, times `unit`, as a scalar of `element`."""
        value = self.fn.op(f"bitcast i64 {self.header('scale')} to double")
        value = self.fn.op(f"fmul double {value}, {float_literal(unit, 'double')}")
        return self.fn.op(f"fptrunc double {value} to float") if element == "float" else value
