"""From a loop nest to the LLVM IR of one kernel.

A kernel is ``i64 name(ptr bases, ptr args, i64 begin, i64 end)``: `bases` is the call's table
of pointers, `args` the block that `pack_arguments` makes, ``[begin, end)`` the part of the
work items (`work_items`) to do: elements where the domain is one dimension without
reductions, else rows, or blocks of rows where operands are transposed, or blocks of lanes of
rows where the last dimension is kept beside a reduction. Results do not depend on how the
items are split. The status is 0, or one more than the node number of a `check_index` that
failed; the kernel has then used index 0 instead.

`schedule.py` decides what is computed where. This module writes the prologue (arguments,
values computed once) and the work items; `emit_strips` writes consecutive elements, `emit_sweep`
rows and sweeps, `emit_panel` panels of columns, `emit_chunks` the kernels of a nest that is cut
into chunks.
"""

from __future__ import annotations

from ....ir.dataclass import dataclass
from ..machine.jit import Machine, host_machine
from ..machine.llvm_text import module_text
from .arguments import SCRATCH_ALIGNMENT, Slots, pack_arguments
from .emit_chunks import Chunks, Stage, chunks_of, write_chunk, write_joint
from .emit_panel import PanelWriter
from .emit_strips import Strips
from .emit_sweep import Writer
from .nest import Nest, Pointwise, ScatterAdd
from .schedule import TILE_ROWS, Schedule

__all__ = [
    "KernelCode", "chunks", "emit_nest", "item_multiple", "pack_arguments", "scratch_bytes",
    "splittable", "work_items", "work_of",
]  # fmt: skip

# What one op on one element, and one access, weigh against a multiply-add in a product.
_OP, _ACCESS = 4, 4


@dataclass(frozen=True)
class KernelCode:
    """The code of a nest.

    Attributes
    ----------
    name
        The exported function.
    text
        A complete LLVM module; equal for equal keys but for the name.
    slots
        The layout of the argument block.
    """

    name: str
    text: str
    slots: Slots


def emit_nest(
    nest: Nest, name: str, machine: Machine | None = None, stage: Stage | None = None
) -> KernelCode:
    """Write the kernel of a nest.

    Parameters
    ----------
    nest
        What to compute; every op must be `supported` by the lowerings.
    name
        The function's symbol.
    machine
        What to write for; the host unless given.
    stage
        Which of its kernels, of a nest in chunks.
    """
    schedule = Schedule.of(nest)
    emitter = _Emitter(schedule, name, machine or host_machine(), stage)
    emitter.write()
    return KernelCode(name, module_text([emitter.fn]), emitter.slots)


def work_items(nest: Nest, machine: Machine | None = None) -> int:
    """How many work items a kernel of the nest has; 0 when there is nothing to store."""
    schedule = Schedule.of(nest)
    extents = schedule.nest.extents
    kept = [extents[d] for d in schedule.outer]
    last = extents[schedule.last]
    if schedule.by_elements:
        return last
    if schedule.kind == "column":
        kept.append(-(-last // schedule.column_lanes(machine or host_machine())))
    elif schedule.kind == "map" and last == 0:
        return 0
    if schedule.tiled is not None:
        kept.append(-(-extents[schedule.tiled] // TILE_ROWS))
    items = 1
    for extent in kept:
        items *= extent
    return items


def item_multiple(nest: Nest) -> int:
    """Of what number the items of a part should be a multiple, so that lanes are filled."""
    return 1024 if Schedule.of(nest).by_elements else 1


def splittable(nest: Nest) -> bool:
    """Whether calls may share the work items among them; a scatter needs one call."""
    return not any(isinstance(i, ScatterAdd) for i in nest.instructions)


def scratch_bytes(nest: Nest, machine: Machine | None = None, parts: int = 1) -> int:
    """Bytes of scratch memory, aligned to 8, that calls for `parts` parts of the items need;
    often 0. Each part has cache lines of its own."""
    schedule = Schedule.of(nest)
    swept = 1
    for d in schedule.swept:
        swept *= schedule.nest.extents[d]
    width = schedule.widths(machine or host_machine())[0] if schedule.kind == "column" else 1
    sizes = [schedule.nest.instructions[p].dtype.itemsize for p in schedule.stash]
    area = swept * width * sum(sizes)
    return area if parts == 1 else parts * (-(-area // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT)


def work_of(nest: Nest) -> int:
    """About how long the nest takes, in multiply-adds that take as long."""
    schedule = Schedule.of(nest)
    points = schedule.nest.points
    return points * (_OP * schedule.work + _ACCESS * len(schedule.nest.accesses))


def chunks(nest: Nest, machine: Machine | None = None) -> Chunks | None:
    """How the nest is cut into chunks; None where its work items are enough, or cannot be cut."""
    return chunks_of(Schedule.of(nest), work_items(nest, machine))


class _Emitter(Writer):
    """Writes one kernel; see the module's documentation."""

    def __init__(
        self, schedule: Schedule, name: str, machine: Machine, stage: Stage | None
    ) -> None:
        super().__init__(schedule, name, machine, stage is not None)
        self.stage = stage
        self.panel: PanelWriter | None = None
        self.elements: Strips | None = None

    def write(self) -> None:
        fn = self.fn
        status = fn.op("alloca i64, align 8")
        fn.store("i64", "0", status, 8)
        self.values.status = status
        self.values.place_tiles(self.width)
        if self.schedule.panelled and self.stage is None:
            self.panel = PanelWriter.on_stack(self)
        if self.schedule.by_strips:
            self.elements = Strips(self)
        with fn.when(fn.icmp("slt", "%begin", "%end")):
            self.values.prologue(self.widths)
            self._refuse_empty_sizes()
            self.at_depth(0, 0)
            self._items()
        if fn.streams:
            fn.do("fence seq_cst")
        fn.do(f"ret i64 {fn.load('i64', status, 8)}")

    def _refuse_empty_sizes(self) -> None:
        """Return where an index is checked against an extent of 0: not even 0 may be used."""
        fn, values = self.fn, self.values
        for place, i in enumerate(self.nest.instructions):
            if not (isinstance(i, Pointwise) and i.op == "check_index"):
                continue
            refuse, go_on = fn.label("refuse"), fn.label("accept")
            empty = fn.icmp("eq", values.argument(self.slots.extra[place]), 0)
            for dim in self.schedule.swept if self.schedule.depth[place] > 1 else ():
                reached = fn.icmp("ne", values.extent[dim], 0)
                empty = fn.op(f"and i1 {empty}, {reached}")
            fn.cond_br(empty, refuse, go_on)
            fn.block(refuse)
            fn.do(f"ret i64 {values.argument(self.slots.extra[place] + 1)}")
            fn.block(go_on)

    # -- rows -----------------------------------------------------------------------------
    def _items(self) -> None:
        """All work items of the call."""
        if self.elements is not None:
            self.at_depth(1, 0)
            self.elements.write("%begin", "%end")
            return
        if self.schedule.by_elements:
            self.row()
            return
        with self.fn.loop("%begin", "%end") as loop, self.values.scope():
            if self.stage is not None:
                write = write_joint if self.stage.joins else write_chunk
                write(self, self.stage.sweep, loop.index)
            elif self.panel is not None:
                self.panel.write(*self.enter_columns(loop.index))
            elif self.schedule.kind == "column":
                self.strips(*self.enter_columns(loop.index), lambda at: self.row())
            elif self.schedule.tiled is not None:
                self._tiled_item(loop.index, self.schedule.tiled)
            else:
                self.decode(loop.index)
                self.row()

    # -- tiles ----------------------------------------------------------------------------
    def _tiled_item(self, item: str, dim: int) -> None:
        """A few rows along `dim`, in strips of lanes of the last dimension."""
        fn, values, last = self.fn, self.values, self.schedule.last
        extent = values.extent[dim]
        blocks = fn.integer("udiv", fn.integer("add", extent, TILE_ROWS - 1), TILE_ROWS)
        if self.schedule.outer:
            self.decode(fn.integer("udiv", item, blocks))
            item = fn.integer("urem", item, blocks)
        first = fn.integer("mul", item, TILE_ROWS)
        end = fn.integer("add", first, TILE_ROWS)
        rows = first, fn.call("i64", "llvm.smin.i64", ("i64", end), ("i64", extent))
        low, high = "0", values.extent[last]
        *strips, tail = self.widths
        for width in strips:
            whole = self.whole(low, high, width)
            self._tiles(dim, rows, (low, whole), width, masked=False)
            low = whole
        self._tiles(dim, rows, (low, high), tail, masked=tail > 1)

    def _tiles(
        self, dim: int, rows: tuple[str, str], columns: tuple[str, str], width: int, masked: bool
    ) -> None:
        """The rows from `rows[0]` to `rows[1]` of `dim`, for each strip of the columns."""
        fn, values = self.fn, self.values
        body = self.schedule.sweeps[0].body
        with fn.loop(*columns, width) as strip, values.scope():
            values.lanes(width, (strip.index, columns[1]) if masked else None)
            values.spread(body)
            values.enter(self.schedule.last, strip.index)
            room = fn.integer("sub", columns[1], strip.index)
            values.fill_tiles(rows, room)
            with fn.loop(*rows) as row, values.scope():
                values.enter(dim, row.index)
                values.number = fn.integer("sub", row.index, rows[0])
                self.at_depth(1, 0)
                self.write_all(body)
