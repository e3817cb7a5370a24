"""The argument block of a loop kernel: what its 64-bit slots hold, and how it is filled.

The code of a kernel depends on `Nest.key()`; all else is here. In order:

- for every access: the place of its pointer in the call's table of bases, and the byte offset
  of its first element;
- the extents of the domain;
- for every access its strides in bytes, one a dimension;
- for every instruction what it needs: the bits of a number, start and step of an `Iota`,
  the index strides in bytes of a `Gather` or `ScatterAdd`, the size of a `check_index` and
  the status that it reports;
- place and byte offset of the scratch memory, if the kernel stashes values, and how many work
  items are done with one area of it; where the nest is cut into chunks, instead how many
  indices a chunk has, and how many chunks there are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ....ir.dtypes import DType
from .nest import Const, Gather, Instruction, Iota, Nest, Pointwise, ScatterAdd
from .schedule import Schedule

__all__ = ["SCRATCH_ALIGNMENT", "Slots", "pack_arguments"]

#: Bytes of which a part's area of scratch memory is a multiple: a cache line.
SCRATCH_ALIGNMENT = 64

#: More work items than any kernel has.
_ALL = 2**62


class Slots:
    """The numbers of a kernel's slots.

    Attributes
    ----------
    pointer
        First of the two slots of every access.
    extent
        Slot of every extent.
    stride
        ``stride[access][dim]``.
    extra
        First slot of an instruction's own.
    scratch
        First of the three slots of the scratch memory, or None.
    chunks
        First of the four slots of a nest in chunks, or None.
    count
        Number of slots.
    """

    def __init__(self, schedule: Schedule, chunked: bool = False) -> None:
        nest = schedule.nest
        dims = len(nest.extents)
        self.pointer = [2 * a for a in range(len(nest.accesses))]
        at = 2 * len(nest.accesses)
        self.extent = list(range(at, at + dims))
        at += dims
        self.stride: list[list[int]] = []
        for _ in nest.accesses:
            self.stride.append(list(range(at, at + dims)))
            at += dims
        self.extra: dict[int, int] = {}
        for place, i in enumerate(nest.instructions):
            self.extra[place] = at
            at += _extra_slots(i)
        self.scratch = at if schedule.stash else None
        self.chunks = at if chunked else None
        self.count = at + (4 if chunked else 3 if schedule.stash else 0)


def _extra_slots(i: Instruction) -> int:
    if isinstance(i, Const):
        return 0 if i.literal else 1
    if isinstance(i, Iota):
        return 2
    if isinstance(i, (Gather, ScatterAdd)):
        return len(i.indices)
    return 2 if isinstance(i, Pointwise) and i.op == "check_index" else 0


def pack_arguments(
    nest: Nest,
    places: Sequence[tuple[int, int]],
    scratch: tuple[int, int] | None = None,
    grain: int = 0,
    chunks: tuple[int, int] | None = None,
) -> list[int]:
    """The argument block of a nest, as signed 64-bit integers.

    Parameters
    ----------
    nest
        The nest whose code (or code of an equal key) the block is for.
    places
        For every operand of the nest: place of its pointer in the call's table of bases, and
        a byte offset to add to it.
    scratch
        The same for the scratch memory, where `scratch_bytes` is not 0.
    grain
        Work items of a part, where calls share the items among them: calls for different parts
        use different areas of the scratch memory, one behind the other. 0: one call does all.
    chunks
        Of a nest that is cut: how many indices a chunk has, and how many chunks there are.
    """
    schedule = Schedule.of(nest)
    nest = schedule.nest
    block: list[int] = []
    for access in nest.accesses:
        base, offset = places[access.operand]
        block += [base, offset + access.offset * access.dtype.itemsize]
    block += nest.extents
    for access in nest.accesses:
        block += [s * access.dtype.itemsize for s in access.strides]
    for i in nest.instructions:
        block += _extra_values(nest, i)
    if schedule.stash or chunks is not None:
        if scratch is None:
            raise ValueError("the nest stashes values and needs scratch memory")
        block += [*scratch, *(chunks or (grain or _ALL,))]
    return block


def _extra_values(nest: Nest, i: Instruction) -> list[int]:
    """What `_extra_slots` reserves room for."""
    if isinstance(i, Const):
        return [] if i.literal else [_bits(i.value, i.dtype)]
    if isinstance(i, Iota):
        return [i.start, i.step]
    if isinstance(i, (Gather, ScatterAdd)):
        size = nest.accesses[i.access].dtype.itemsize
        return [s * size for s in i.index_strides]
    if isinstance(i, Pointwise) and i.op == "check_index":
        return [i.attrs["size"], i.node + 1]
    return []


def _bits(value: bool | int | float, dtype: DType) -> int:
    """The bits of a number of `dtype`, in a signed 64-bit integer."""
    if dtype.kind == "f":
        raw = dtype.numpy.type(value).tobytes().ljust(8, b"\0")
        return int(struct.unpack("<q", raw)[0])
    if dtype.kind == "b":
        return int(bool(value))
    number = int(value) & (2**64 - 1)
    return number - 2**64 if number >> 63 else number
