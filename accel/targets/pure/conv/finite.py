"""Whether memory holds only finite numbers.

Zeros around a source change no sum of finite products, but times infinity they are NaN. Where
the sum is over the elements of the source alone, as in the gradient with respect to an image,
this decides whether its edges must be computed without them.
"""

from __future__ import annotations

import functools

from ..gemm.spec import KERNEL_PARAMS, Arguments, Matrix
from ..machine.jit import Machine
from ..machine.llvm_text import ELEMENT_BYTES, Function, Lanes, module_text
from .spec import block_of

__all__ = ["emit_finite", "finite_block"]

_HEADER = ("count",)


def finite_block(count: int, memory: tuple[int, int], flag: tuple[int, int]) -> tuple[int, ...]:
    """The argument block for `count` elements from `memory` on (base index and byte offset);
    the i64 at `flag` becomes 1 if one of them is not finite, else 0."""
    places = [Matrix(*memory, 0, 0), Matrix(*flag, 0, 0)]
    return block_of(_HEADER, {"count": count}, places, {})


@functools.cache
def emit_finite(element: str, machine: Machine) -> str:
    """The kernel ``i64 finite(ptr bases, ptr args, i64 begin, i64 end)``."""
    fn = Function("finite", KERNEL_PARAMS, "i64")
    arguments = Arguments(fn, _HEADER)
    width = 4 * machine.lanes(ELEMENT_BYTES[element])
    wide, one = Lanes(fn, element, width), Lanes(fn, element, 1)
    memory, count = arguments.pointer(0, []), arguments.header("count")
    whole = fn.integer("and", count, -width)
    totals = []
    for lanes, begin, end in ((wide, "0", whole), (one, whole, count)):
        with fn.loop(begin, end, lanes.width, [(lanes.type, lanes.const(0))]) as loop:
            value = lanes.load(fn.gep(memory, loop.index, element))
            loop.next = [lanes.add(loop.values[0], lanes.mul(value, 0.0))]  # NaN if not finite
        totals.append(lanes.cmp("uno", loop.values[0], loop.values[0]))
    bits = fn.op(f"bitcast {wide.mask_type} {totals[0]} to i{width}")
    found = fn.op(f"or i1 {fn.op(f'icmp ne i{width} {bits}, 0')}, {totals[1]}")
    fn.store("i64", fn.op(f"zext i1 {found} to i64"), arguments.pointer(1, []), 8)
    fn.do("ret i64 0")
    return module_text([fn])
