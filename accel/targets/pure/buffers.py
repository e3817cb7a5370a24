"""Planning memory: every intermediate gets a place in one arena, shared over time.

A buffer lives from the step that first writes it to the last that reads it. Places are given
first-fit in the order of the steps, on 64-byte boundaries. Where a kernel reads an operand
for the last time at the very places that it then writes, the result takes the operand's place.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from .memory import ALIGNMENT
from .steps import LoopStep, Step
from .views import Buffer

__all__ = ["STREAMED", "ArenaPlan", "plan_arena", "stream_results"]

#: Bytes from which on a result passes by the caches, as a last-level cache would not hold it
#: until it is read. Arrays of that size begin on a line: see `memory`.
STREAMED = 32 << 20


class ArenaPlan:
    """Where everything lies in the arena.

    Attributes
    ----------
    offsets
        Byte offset of every arena buffer.
    scratch
        Byte offset of every step's scratch memory.
    bytes
        Size of the arena.
    """

    def __init__(self) -> None:
        self.offsets: dict[Buffer, int] = {}
        self.scratch: list[int] = []
        self.bytes = 0
        self._taken: list[tuple[int, int]] = []  # (offset, end), ordered

    def _take(self, size: int) -> int:
        """The first gap of at least `size` bytes."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        at = 0
        for begin, end in self._taken:
            if begin - at >= size:
                break
            at = max(at, end)
        bisect.insort(self._taken, (at, at + size))
        self.bytes = max(self.bytes, at + size)
        return at

    def _free(self, offset: int) -> None:
        place = bisect.bisect_left(self._taken, (offset, -1))
        del self._taken[place]


def plan_arena(steps: Sequence[Step]) -> ArenaPlan:
    """Give every arena buffer of `steps`, and every step's scratch, a place."""
    plan = ArenaPlan()
    last: dict[Buffer, int] = {}
    for number, step in enumerate(steps):
        for buffer in (*step.reads, *step.writes):
            last[buffer] = number
    owners: dict[int, Buffer] = {}  # offset -> the buffer that ends the use of it
    for number, step in enumerate(steps):
        dying = {b for b in step.reads if last[b] == number and b in plan.offsets and b.size}
        for operand, result in step.in_place():
            if operand in dying and _fresh(result, plan):
                offset = plan.offsets[result] = plan.offsets[operand]
                owners[offset] = result
                dying.discard(operand)
        for buffer in sorted(step.writes, key=lambda b: -b.nbytes):
            if _fresh(buffer, plan):
                plan.offsets[buffer] = plan._take(buffer.nbytes) if buffer.size else 0
                if buffer.size:
                    owners[plan.offsets[buffer]] = buffer
                if last[buffer] == number and buffer.size:
                    dying.add(buffer)
        scratch = plan._take(step.scratch) if step.scratch else 0
        plan.scratch.append(scratch)
        if step.scratch:
            plan._free(scratch)
        for buffer in dying:
            if owners.get(plan.offsets[buffer]) is buffer:
                plan._free(plan.offsets[buffer])
    return plan


def _fresh(buffer: Buffer, plan: ArenaPlan) -> bool:
    return buffer.kind == "arena" and buffer not in plan.offsets


def stream_results(steps: Sequence[Step]) -> None:
    """Let large results pass by the caches where nothing in the run reads them again."""
    read = {buffer for step in steps for buffer in step.reads}
    large = {
        buffer for step in steps for buffer in step.writes
        if buffer.kind == "output" and buffer.nbytes >= STREAMED and buffer not in read
    }  # fmt: skip
    for step in steps:
        if large and isinstance(step, LoopStep):
            step.stream(large)
