"""The values of a kernel being written: names, memory accesses, instructions.

`Values` knows the state at the point of writing (pointers moved to the current indices, lanes,
mask) and what has a name there. A scope restores that state at the end of a loop's body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ....ir import dtypes
from ....ir.dtypes import DType
from ..gemm.pack import transpose
from ..machine.llvm_text import LINE, Function, Lanes
from .arguments import SCRATCH_ALIGNMENT, Slots
from .emit_memory import Elements, memory_type, prefetch
from .emit_phases import Between, write_pairs
from .lowering import checked_index, lower
from .nest import (
    Const,
    Gather,
    Instruction,
    Iota,
    Load,
    Pointwise,
    ScatterAdd,
    Store,
    operands_of,
)
from .schedule import TILE_ROWS, Schedule
from .site import ELEMENTS, Application, Site, cast

__all__ = ["Values"]

#: Bytes from one row to the next up to which the next one is asked for ahead: with the current
#: one it must fit a second-level cache.
_NEAR = 1 << 17


class Values:
    """Names of values, and the accesses and instructions that make them.

    Attributes
    ----------
    width
        Lanes of what varies along the last dimension, at the point of writing.
    mask
        The lanes that lie inside the data, or None for all of them.
    number
        The linear number of the point among those swept (of its first lane); with tiles the
        number of the row in its tile.
    extent
        The extents of the domain.
    status
        Pointer to the kernel's status word.
    """

    def __init__(self, fn: Function, schedule: Schedule, slots: Slots, register_bytes: int) -> None:
        self.fn = fn
        self.schedule = schedule
        self.nest = schedule.nest
        self.slots = slots
        self.width = 1
        self.mask: str | None = None
        self._active = ""  # how many lanes the mask has
        self.number = "0"
        self.status = ""
        self.extent: list[str] = []
        self._arguments: dict[int, str] = {}
        self._pointers: list[str] = []
        self._index: dict[int, str] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._lane_offsets: dict[tuple[int, int], str] = {}
        self._phases = self.nest.interleaved()
        self._between: dict[int, Between] = {}
        self._pairs = self._written_in_pairs()
        self._scratch: dict[int, str] = {}
        self._tiles: dict[int, str] = {}
        self._tile_width = 1
        self._register_bytes = register_bytes

    # -- the prologue -----------------------------------------------------------------------
    def prologue(self, widths: Sequence[int]) -> None:
        """Read the argument block; `widths` are those that will be used."""
        fn, slots = self.fn, self.slots
        for slot in range(slots.count):
            self._arguments[slot] = fn.load("i64", fn.gep("%args", slot, "i64"), 8)
        self.extent = [self._arguments[s] for s in slots.extent]
        self._pointers = [self.pointer(first) for first in slots.pointer]
        last = self.schedule.last
        for access, a in enumerate(self.nest.accesses):
            for width in {w for w in widths if w > 1}:
                if a.lane_class in ("-1", "s"):
                    stride = self._arguments[slots.stride[access][last]]
                    self._lane_offsets[access, width] = self._multiples(stride, width)
        if slots.scratch is not None:
            self._place_scratch(slots.scratch, max(widths))

    def argument(self, slot: int) -> str:
        """The value of a slot of the argument block."""
        return self._arguments[slot]

    def pointer(self, first: int) -> str:
        """The pointer of which two slots tell: a place among the bases, and an offset."""
        base = self.fn.gep("%bases", self._arguments[first], "ptr")
        return self.fn.gep(self.fn.load("ptr", base, 8), self._arguments[first + 1])

    def _place_scratch(self, first: int, width: int) -> None:
        """One array of this part's area of the scratch memory for every stashed value."""
        fn = self.fn
        elements = "1" if self.schedule.kind != "column" else str(width)
        for dim in self.schedule.swept:
            elements = fn.integer("mul", elements, self.extent[dim])
        sizes = {p: self.nest.instructions[p].dtype.itemsize for p in self.schedule.stash}
        area = fn.integer("mul", elements, sum(sizes.values()))
        area = fn.integer("and", fn.integer("add", area, SCRATCH_ALIGNMENT - 1), -SCRATCH_ALIGNMENT)
        part = fn.integer("udiv", "%begin", self._arguments[first + 2])
        pointer = fn.gep(self.pointer(first), fn.integer("mul", part, area))
        for place, size in sizes.items():
            self._scratch[place] = pointer
            pointer = fn.gep(pointer, fn.integer("mul", elements, size))

    # -- the point of writing ---------------------------------------------------------------
    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Forget at the end whatever was named or moved inside."""
        state = (self.width, self.mask, self._active, self.number, list(self._pointers),
                 dict(self._index), dict(self._names))  # fmt: skip
        yield
        (self.width, self.mask, self._active, self.number, self._pointers, self._index,
         self._names) = state  # fmt: skip
        self._between = {}

    def lanes(self, width: int, active: tuple[str, str] | None) -> None:
        """Write at `width` lanes, of which those below active's end (from its begin) count."""
        self.width = width
        self.mask = None
        self._between = {}
        if active is not None:
            self.mask = self._first_lanes(self.fn.integer("sub", active[1], active[0]))

    def _first_lanes(self, count: str) -> str:
        """The mask of the first `count` lanes, at least one, made in a mask register."""
        fn, width = self.fn, self.width
        count = fn.call("i64", "llvm.smin.i64", ("i64", count), ("i64", str(width)))
        self._active = count
        spare = fn.op(f"sub i64 {width}, {count}")
        if width != 64:
            spare = fn.op(f"{'trunc' if width < 64 else 'zext'} i64 {spare} to i{width}")
        bits = fn.op(f"lshr i{width} -1, {spare}")
        return fn.op(f"bitcast i{width} {bits} to <{width} x i1>")

    def enter(self, dim: int, index: str) -> None:
        """Move along a dimension from index 0 to `index`."""
        self._index[dim] = index
        self._between = {}
        for access, a in enumerate(self.nest.accesses):
            if a.strides[dim] == 0:
                continue
            pointer = self._pointers[access]
            if dim == self.schedule.last and a.lane_class == "1":
                self._pointers[access] = self.fn.gep(pointer, index, memory_type(a.dtype))
            else:
                stride = self._arguments[self.slots.stride[access][dim]]
                offset = self.fn.integer("mul", index, stride)
                self._pointers[access] = self.fn.gep(pointer, offset)

    def place(self, access: int) -> str:
        """The pointer of an access at the point of writing."""
        return self._pointers[access]

    def move(self, places: Mapping[int, str]) -> None:
        """Let accesses go on elsewhere, up to the end of the scope."""
        for access, pointer in places.items():
            self._pointers[access] = pointer

    # -- names ------------------------------------------------------------------------------
    def define(self, place: int, width: int, name: str) -> None:
        """Give an instruction's value its name at a width."""
        self._names[place, width] = name

    def get(self, place: int, width: int) -> str:
        """The value of an instruction in `width` lanes."""
        i = self.nest.instructions[place]
        if isinstance(i, Const) and i.literal:
            return Site(self.fn, width).lanes(i.dtype).const(i.value)
        name = self._names.get((place, width))
        if name is None:
            name = Site(self.fn, width).lanes(i.dtype).splat(self._names[place, 1])
            self._names[place, width] = name
        return name

    def spread(self, places: Sequence[int]) -> None:
        """Spread over lanes, ahead of a loop, the scalars that instructions in it use."""
        if self.width == 1:
            return
        for place in places:
            for operand in operands_of(self.nest.instructions[place]):
                if self.schedule.is_vector(place) and (operand, 1) in self._names:
                    self.get(operand, self.width)

    def lane_numbers(self, first: str, width: int, along: bool) -> str:
        """`first` (an i64 below 2**31) as int32 lanes, counting up from lane to lane if `along`."""
        lanes = Lanes(self.fn, "i32", width)
        number = lanes.splat(self.fn.op(f"trunc i64 {first} to i32"))
        return lanes.add(number, _iota(width, "i32")) if along and width > 1 else number

    def _multiples(self, step: str, width: int) -> str:
        """0, step, 2 step … of an i64."""
        lanes = Lanes(self.fn, "i64", width)
        return lanes.mul(lanes.splat(step), _iota(width))

    # -- memory -----------------------------------------------------------------------------
    def _address(
        self, access: int, width: int, indices: Sequence[int], first_slot: int
    ) -> tuple[str, str | None]:
        """(pointer of the first lane, byte offsets of the lanes where they do not follow each
        other) of an access moved by index values."""
        fn, pointer = self.fn, self._pointers[access]
        lanes = Lanes(fn, "i64", width)
        offsets: str | None = None
        for k, place in enumerate(indices):
            stride = self._arguments[first_slot + k]
            if width > 1 and self.schedule.is_vector(place):
                part = lanes.mul(self.get(place, width), lanes.splat(stride))
                offsets = part if offsets is None else lanes.add(offsets, part)
            else:
                pointer = fn.gep(pointer, fn.integer("mul", self.get(place, 1), stride))
        a = self.nest.accesses[access]
        own: str | None = None
        if width > 1 and a.lane_class in ("-1", "s"):
            own = self._lane_offsets[access, width]
        elif width > 1 and a.lane_class == "1" and offsets is not None:
            own = lanes.mul(_iota(width), a.dtype.itemsize)
        if own is not None:
            offsets = own if offsets is None else lanes.add(offsets, own)
        return pointer, offsets

    def prefetch_lanes(self, places: Sequence[int], strips: int) -> None:
        """Ask for the elements that the loads among `places` read some strips of lanes ahead."""
        for place in places:
            i = self.nest.instructions[place]
            if isinstance(i, Load) and self.nest.accesses[i.access].lane_class == "1":
                size = self.width * i.dtype.itemsize
                lines = range(strips * size, (strips + 1) * size, LINE)
                prefetch(self.fn, self._pointers[i.access], lines, False)

    def prefetch_rows(self, places: Iterable[int], following: bool) -> None:
        """Ask for what the loads and stores among `places` touch at these lanes, of the
        `following` row or of this one."""
        touched = [self.nest.instructions[place] for place in places]
        accesses = {(i.access, isinstance(i, Store)) for i in touched
                    if isinstance(i, (Load, Store))}  # fmt: skip
        dim = self.schedule.outer[-1]
        for access, writes in sorted(accesses):
            a = self.nest.accesses[access]
            if a.lane_class != "1" or a.strides[dim] == 0:
                continue
            pointer = self._pointers[access]
            if following:
                stride = self._arguments[self.slots.stride[access][dim]]
                near = self.fn.icmp("slt", stride, _NEAR)
                pointer = self.fn.gep(pointer, self.fn.op(f"select i1 {near}, i64 {stride}, i64 0"))
            lines = range(0, self.width * a.dtype.itemsize, LINE)
            prefetch(self.fn, pointer, lines, writes)

    def _elements(self, dtype: DType, width: int) -> Elements:
        return Elements(self.fn, dtype, width)

    def _read(self, dtype: DType, width: int, pointer: str, offsets: str | None) -> str:
        return self._elements(dtype, width).read(pointer, offsets, self.mask)

    def _write(
        self, dtype: DType, width: int, value: str, pointer: str, offsets: str | None
    ) -> None:
        self._elements(dtype, width).write(value, pointer, offsets, self.mask)

    def _every(self, access: int, dtype: DType) -> str:
        """The lanes of an access that reads elements a few apart."""
        phase, fn = self._phases[access], self.fn
        between = self._between.get(phase.leader)
        if between is None:
            size = dtype.itemsize
            native = min(self.width, max(1, self._register_bytes // size))
            between = self._between[phase.leader] = Between.read(
                Lanes(fn, f"i{8 * size}", native), self.width, self._pointers[phase.leader],
                phase, self._active if self.mask is not None else None,
            )  # fmt: skip
        return self._elements(dtype, self.width).of_bits(between.pick(phase))

    def _written_in_pairs(self) -> dict[int, int]:
        """`Nest.paired` of what is written at one point."""
        when = list(zip(self.schedule.depth, self.schedule.phase, strict=True))
        return {b: a for b, a in self.nest.paired().items() if when[a] == when[b]}

    def _write_pair(self, first: int, second: int) -> None:
        a, b = (self.nest.instructions[place] for place in (first, second))
        assert isinstance(a, Store) and isinstance(b, Store)
        dtype = self.nest.accesses[a.access].dtype
        native = min(self.width, max(2, self._register_bytes // dtype.itemsize))
        write_pairs(
            self._elements(dtype, native).lanes, self.width, self._pointers[a.access],
            (self.get(a.input, self.width), self.get(b.input, self.width)),
            self._active if self.mask is not None else None,
        )  # fmt: skip

    def save(self, place: int, pointer: str) -> None:
        """Store a value, to be used elsewhere than here."""
        dtype, width = self._held(place)
        self._write(dtype, width, self.get(place, width), pointer, None)

    def reload(self, place: int, pointer: str) -> None:
        """Read a value that has been saved."""
        dtype, width = self._held(place)
        self.define(place, width, self._read(dtype, width, pointer, None))

    def _held(self, place: int) -> tuple[DType, int]:
        width = self.width if self.schedule.is_vector(place) else 1
        return self.nest.instructions[place].dtype, width

    def stash(self, place: int) -> str:
        """Where the scratch memory holds a value at this point of the sweep."""
        number = self.number
        if self.schedule.kind == "column":
            number = self.fn.integer("mul", number, self.width)
        element = memory_type(self.nest.instructions[place].dtype)
        return self.fn.gep(self._scratch[place], number, element)

    # -- tiles ------------------------------------------------------------------------------
    def place_tiles(self, width: int) -> None:
        """Room on the stack for the tiles of transposed operands, `width` lanes a row."""
        self._tile_width = width
        for access in self.schedule.tiles:
            size = self.nest.accesses[access].dtype.itemsize
            room = TILE_ROWS * width * size
            self._tiles[access] = self.fn.op(f"alloca [{room} x i8], align 64")

    def fill_tiles(self, rows: tuple[str, str], room: str) -> None:
        """Read rows `rows[0]` to `rows[1]` of the transposed operands at the current lanes;
        `room` is how many lanes there are up to the end of the data."""
        if self.width == 1:
            return  # elements one by one are read in place
        fn = self.fn
        full = fn.icmp("eq", fn.integer("sub", rows[1], rows[0]), TILE_ROWS)
        full = fn.op(f"and i1 {full}, {fn.icmp('sge', room, self.width)}")
        squares, lines, done = (fn.label(stem) for stem in ("squares", "lines", "filled"))
        fn.cond_br(full, squares, lines)
        fn.block(squares)
        for access in self._tiles:
            self._fill_squares(access, rows[0])
        fn.br(done)
        fn.block(lines)
        for access in self._tiles:
            self._fill_lines(access, rows)
        fn.br(done)
        fn.block(done)

    def _fill_squares(self, access: int, first: str) -> None:
        """A whole tile: vectors along the rows' dimension, transposed in registers."""
        fn, dtype = self.fn, self.nest.accesses[access].dtype
        size = dtype.itemsize
        width = min(TILE_ROWS, self.width, self._register_bytes // size)
        lanes = self._elements(dtype, width).lanes
        stride = self._arguments[self.slots.stride[access][self.schedule.last]]
        start = fn.gep(self._pointers[access], fn.integer("mul", first, size))
        with fn.loop(0, TILE_ROWS, lanes.width) as row:
            line = fn.gep(start, fn.integer("mul", row.index, size))
            with fn.loop(0, self.width, lanes.width) as column:
                at = fn.gep(line, fn.integer("mul", column.index, stride))
                read = []
                for _ in range(lanes.width):
                    read.append(lanes.load(at))
                    at = fn.gep(at, stride)
                target = fn.gep(self._tile_row(access, row.index), column.index, lanes.element)
                for k, vector in enumerate(transpose(lanes, read)):
                    lanes.store(vector, fn.gep(target, k * self._tile_width * size))

    def _fill_lines(self, access: int, rows: tuple[str, str]) -> None:
        """A part of a tile, row by row."""
        fn, dtype = self.fn, self.nest.accesses[access].dtype
        with fn.loop(*rows) as row, self.scope():
            moved = fn.integer("mul", row.index, dtype.itemsize)
            self._pointers[access] = fn.gep(self._pointers[access], moved)
            value = self._read(dtype, self.width, *self._address(access, self.width, (), 0))
            target = self._tile_row(access, fn.integer("sub", row.index, rows[0]))
            self._write(dtype, self.width, value, target, None)

    def _tile_row(self, access: int, row: str) -> str:
        line = self._tile_width * self.nest.accesses[access].dtype.itemsize
        return self.fn.gep(self._tiles[access], self.fn.integer("mul", row, line))

    # -- instructions -----------------------------------------------------------------------
    def write(self, place: int) -> None:
        """Write an instruction at the point of writing; its operands have names."""
        i = self.nest.instructions[place]
        width = self.width if self.schedule.is_vector(place) else 1
        if isinstance(i, Const) and i.literal:
            return
        if isinstance(i, Store) and width > 1 and place in (*self._pairs, *self._pairs.values()):
            if place in self._pairs:
                self._write_pair(self._pairs[place], place)
        elif isinstance(i, Store):
            pointer, offsets = self._address(i.access, width, (), 0)
            elements = self._elements(self.nest.accesses[i.access].dtype, width)
            value = self.get(i.input, width)
            if i.streamed and self.mask is None and width > 1:
                elements.stream(value, pointer)
            else:
                elements.write(value, pointer, offsets, self.mask)
        elif isinstance(i, ScatterAdd):
            self._scatter_add(place, i, width)
        else:
            self.define(place, width, self._value(place, i, width))

    def _value(self, place: int, i: Instruction, width: int) -> str:
        slot = self.slots.extra[place]
        if isinstance(i, Load):
            dtype = self.nest.accesses[i.access].dtype
            if width > 1 and i.access in self._tiles:
                return self._read(dtype, width, self._tile_row(i.access, self.number), None)
            if width > 1 and i.access in self._phases:
                return self._every(i.access, dtype)
            if width > 1 and self.nest.accesses[i.access].lane_class == "-1":
                elements = self._elements(dtype, width)
                return elements.read_backwards(self._pointers[i.access], self.mask)
            return self._read(dtype, width, *self._address(i.access, width, (), 0))
        if isinstance(i, Gather):
            dtype = self.nest.accesses[i.access].dtype
            address = self._address(i.access, width, i.indices, slot)
            return self._read(dtype, width, *address)
        if isinstance(i, Const):
            return self._number(self._arguments[slot], i.dtype)
        if isinstance(i, Iota):
            return self._iota(i, slot, width)
        if isinstance(i, Pointwise):
            return self._pointwise(i, slot, width)
        raise TypeError(type(i).__name__)

    def _number(self, bits: str, dtype: DType) -> str:
        """The scalar whose bits an argument holds."""
        fn, element = self.fn, ELEMENTS[dtype]
        if dtype.itemsize < 8:
            whole = f"i{8 * dtype.itemsize}" if dtype.kind != "b" else "i1"
            bits = fn.op(f"trunc i64 {bits} to {whole}")
        return fn.op(f"bitcast i{8 * dtype.itemsize} {bits} to {element}") if (
            dtype.kind == "f"
        ) else bits

    def _iota(self, i: Iota, slot: int, width: int) -> str:
        start, step = self._arguments[slot], self._arguments[slot + 1]
        moved = self.fn.integer("mul", self._index[i.dim], step)
        value = self.fn.integer("add", start, moved)
        if width > 1:
            lanes = Lanes(self.fn, "i64", width)
            value = lanes.add(lanes.splat(value), self._multiples(step, width))
        return cast(Site(self.fn, width), value, dtypes.int64, i.dtype)

    def _pointwise(self, i: Pointwise, slot: int, width: int) -> str:
        site = Site(self.fn, width)
        inputs = [self.get(o, width) for o in i.inputs]
        sources = [self.nest.instructions[o].dtype for o in i.inputs]
        if i.op != "check_index":
            return lower(site, i.op, Application(inputs, sources, i.dtype, i.attrs))
        size = site.lanes(dtypes.int64).splat(self._arguments[slot])
        index, bad = checked_index(site, inputs[0], sources[0], size, i.attrs["wrap"])
        self._report(bad, self._arguments[slot + 1], width)
        return index

    def _report(self, bad: str, status: str, width: int) -> None:
        """Set the status where a lane is bad, unless an earlier check has set it."""
        fn = self.fn
        if width > 1:
            masks = Lanes(fn, "i1", width)
            bad = masks.mask_op("and", bad, self.mask) if self.mask is not None else bad
            joined = fn.op(f"bitcast {masks.type} {bad} to i{width}")
            bad = fn.op(f"icmp ne i{width} {joined}, 0")
        with fn.when(bad):
            held = fn.load("i64", self.status, 8)
            unset = fn.icmp("eq", held, 0)
            fn.store("i64", fn.op(f"select i1 {unset}, i64 {status}, i64 {held}"), self.status, 8)

    def _scatter_add(self, place: int, i: ScatterAdd, width: int) -> None:
        dtype = self.nest.accesses[i.access].dtype
        pointer, _ = self._address(i.access, width, i.indices, self.slots.extra[place])
        if i.puts:
            self._write(dtype, width, self.get(i.input, width), pointer, None)
            return
        held = self._read(dtype, width, pointer, None)
        both = Application([held, self.get(i.input, width)], [dtype, dtype], dtype, {})
        total = lower(Site(self.fn, width), "add", both)
        self._write(dtype, width, total, pointer, None)


def _iota(width: int, element: str = "i64") -> str:
    """The vector 0, 1, 2 …"""
    return "<" + ", ".join(f"{element} {k}" for k in range(width)) + ">"
