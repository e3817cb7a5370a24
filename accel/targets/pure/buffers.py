"""Planning memory: every intermediate gets a place in memory that is shared over time.

A buffer lives from the step that first writes it to the last that reads it. One that is dead
before a result is first written lies in the result's memory, if there is room; the others lie
in one arena. Places are given first-fit in the order of the steps, on 64-byte boundaries. Where
a kernel reads an operand for the last time at the very places that it then writes, the result
takes the operand's place.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from .machine.memory import ALIGNMENT
from .steps import LoopStep, Step
from .views import Buffer

if TYPE_CHECKING:
    from .convolution_steps import ConvolutionStep

__all__ = ["STREAMED", "MemoryPlan", "stream_results"]

#: Bytes that a last-level cache does not hold: large results of a kernel that touches half as much
#: again pass by the caches. They begin on a line: see `memory`.
STREAMED = 32 << 20
#: Bytes of a large result.
_LARGE = 1 << 20


class _Room:
    """Memory in which buffers lie: a result's until step `end`, or the arena.

    Attributes
    ----------
    host
        The result; None for the arena.
    used
        Bytes up to the end of the last place given.
    """

    def __init__(self, host: Buffer | None = None, end: float = math.inf) -> None:
        self.host = host
        self.end = end
        self.used = 0
        self._size = math.inf if host is None else host.nbytes
        self._taken: list[tuple[int, int]] = []  # (offset, end), ordered

    def take(self, size: int) -> int | None:
        """The first gap of at least `size` bytes; None where there is none."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        at = 0
        for begin, end in self._taken:
            if begin - at >= size:
                break
            at = max(at, end)
        if at + size > self._size:
            return None
        bisect.insort(self._taken, (at, at + size))
        self.used = max(self.used, at + size)
        return at

    def free(self, offset: int) -> None:
        """Give back the place that begins at `offset`."""
        del self._taken[bisect.bisect_left(self._taken, (offset, -1))]


class MemoryPlan:
    """Where everything lies.

    Attributes
    ----------
    places
        For every intermediate that has elements the result in whose memory it lies, or None
        for the arena, and its byte offset there.
    scratch
        Byte offset in the arena of every step's scratch memory.
    bytes
        Size of the arena.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.places: dict[Buffer, tuple[Buffer | None, int]] = {}
        self.scratch: list[int] = []
        self._last = {b: n for n, step in enumerate(steps) for b in (*step.reads, *step.writes)}
        self._arena = _Room()
        self._rooms = [*_results(steps), self._arena]
        self._owned: dict[Buffer, tuple[_Room, int]] = {}  # by the buffer that ends the use
        for number, step in enumerate(steps):
            dying = {b for b in step.reads if self._last[b] == number and b in self._owned}
            for operand, result in step.in_place():
                if operand in dying and self._inherits(operand, result):
                    dying.discard(operand)
            for buffer in sorted(step.writes, key=lambda b: -b.nbytes):
                if self._is_new(buffer):
                    self._place(buffer)
                if self._last[buffer] == number and buffer in self._owned:
                    dying.add(buffer)
            self.scratch.append(self._scratch(step.scratch))
            for buffer in dying:
                room, offset = self._owned.pop(buffer)
                room.free(offset)

    @property
    def bytes(self) -> int:
        return self._arena.used

    def _is_new(self, buffer: Buffer) -> bool:
        return buffer.kind == "arena" and buffer.size > 0 and buffer not in self.places

    def _inherits(self, operand: Buffer, result: Buffer) -> bool:
        """Give `result` the place of `operand`, if it may have it."""
        room, _ = self._owned[operand]
        if not self._is_new(result) or room.end <= self._last[result]:
            return False
        self.places[result] = self.places[operand]
        self._owned[result] = self._owned.pop(operand)
        return True

    def _place(self, buffer: Buffer) -> None:
        """Give `buffer` a place in the first room that has one for as long as it lives."""
        for room in self._rooms:
            offset = room.take(buffer.nbytes) if self._last[buffer] < room.end else None
            if offset is not None:
                self.places[buffer] = room.host, offset
                self._owned[buffer] = room, offset
                return

    def _scratch(self, size: int) -> int:
        """Memory of the arena for the current step alone."""
        offset = self._arena.take(size) if size else 0
        assert offset is not None
        if size:
            self._arena.free(offset)
        return offset


def _results(steps: Sequence[Step]) -> list[_Room]:
    """The memory of results until they are first written, the smallest first."""
    first: dict[Buffer, int] = {}
    for number, step in enumerate(steps):
        for buffer in (*step.reads, *step.writes):
            if buffer.kind == "output" and buffer.size:
                first.setdefault(buffer, number)
    return [_Room(b, n) for b, n in sorted(first.items(), key=lambda item: item[0].nbytes) if n]


def stream_results(steps: Sequence[Step]) -> None:
    """Let large results pass by the caches where nothing in the run reads them again.

    Kernels that sweep over rows several times write in bursts, each of which would wait for its
    lines to be fetched: they gain earlier. Convolutions write several channels at once, as many
    streams, and gain earliest.
    """
    read = {buffer for step in steps for buffer in step.reads}
    for step in steps:
        fresh = {b for b in step.writes if b.kind == "output" and b not in read}
        if step.cluster.kind == "conv":
            streamed = {b for b in fresh if b.nbytes >= STREAMED // 4}
            cast("ConvolutionStep", step).stream(streamed)
        if not isinstance(step, LoopStep):
            continue
        touched = sum(b.nbytes for b in {*step.reads, *step.writes})
        if touched >= (STREAMED if step.sweeps > 1 else STREAMED * 3 // 2):
            step.stream({b for b in fresh if b.nbytes >= _LARGE})
