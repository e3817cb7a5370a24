"""Kernels of consecutive elements: strips of whole vectors, the last one by way of the stack.

Elements that are left over, being fewer than a strip has lanes, are copied to the stack, computed
there by the code of all other strips, and what it stores is copied back. A loop of their own, by
masked vectors or one by one, would do all work in code of its own: a fifth to two thirds of the
time to compile, and longer to run than a strip that counts only in part.
"""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .emit_memory import memory_type
from .emit_sweep import Writer
from .nest import Load, Nest, Store

__all__ = ["Strips"]


class Strips:
    """The strips of a kernel; made in its first block, where its room on the stack is.

    Parameters
    ----------
    writer
        The kernel, of a schedule that is `by_strips`.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._fn, self._values = writer.fn, writer.values
        nest = writer.nest
        self._read = _consecutive(nest, Load)
        self._written = _consecutive(nest, Store)
        self._room = {
            access: self._fn.op(
                f"alloca <{writer.width} x {memory_type(nest.accesses[access].dtype)}>, align 64"
            )
            for access in sorted({*self._read, *self._written})
        }

    def write(self, begin: str, end: str) -> None:
        """Write the strips of the elements from `begin` to `end`."""
        fn, values, width = self._fn, self._values, self._writer.width
        body = self._writer.schedule.sweeps[0].body
        values.width = width
        values.spread(body)
        with fn.loop(begin, end, width) as strip, values.scope():
            values.lanes(width, None)
            values.enter(self._writer.schedule.last, strip.index)
            count = fn.integer("sub", end, strip.index)
            part = fn.icmp("slt", count, width)
            place = {access: values.place(access) for access in self._room}
            outside = [("ptr", pointer) for pointer in place.values()]
            with fn.when(part, outside) as here, values.scope():
                self._bring(count)
                here.next = list(self._room.values())
            values.move(dict(zip(place, here.values, strict=True)))
            self._writer.write_all(body)
            values.move(place)
            with fn.when(part), values.scope():
                self._return(count)

    def _bring(self, count: str) -> None:
        """Copy what is read of the last `count` elements to the stack, with zeros behind it."""
        values, mask = self._values, self._mask(count)
        for access in self._read:
            lanes, room = self._lanes(access, self._writer.width), self._room[access]
            if mask is None:
                lanes.store("zeroinitializer", room)
                self._copy(access, values.place(access), room, count)
            else:
                lanes.store(lanes.masked_load(values.place(access), mask), room)

    def _return(self, count: str) -> None:
        """Copy what was written on the stack to where the last `count` elements are."""
        values, mask = self._values, self._mask(count)
        for access in self._written:
            lanes, room = self._lanes(access, self._writer.width), self._room[access]
            if mask is None:
                self._copy(access, room, values.place(access), count)
            else:
                lanes.masked_store(lanes.load(room), values.place(access), mask)

    def _mask(self, count: str) -> str | None:
        """The lanes of the last `count` elements, or None where masks are dear."""
        if not self._writer.machine.has_masks:
            return None
        self._values.lanes(self._writer.width, ("0", count))
        return self._values.mask

    def _copy(self, access: int, source: str, target: str, count: str) -> None:
        element = self._lanes(access, 1)
        with self._fn.loop(0, count) as loop:
            value = element.load(self._fn.gep(source, loop.index, element.element))
            element.store(value, self._fn.gep(target, loop.index, element.element))

    def _lanes(self, access: int, width: int) -> Lanes:
        return Lanes(self._fn, memory_type(self._writer.nest.accesses[access].dtype), width)


def _consecutive(nest: Nest, kind: type[Load] | type[Store]) -> list[int]:
    """The accesses by which instructions of a kind go from one element to the next."""
    found = {i.access for i in nest.instructions if isinstance(i, kind)}
    return sorted(a for a in found if nest.accesses[a].lane_class == "1")
