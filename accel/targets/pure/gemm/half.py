"""Half-precision numbers by integer arithmetic, which every processor has.

LLVM's own conversions become calls of a runtime library where the processor lacks them; where it
has instructions for whole registers of them, these are used (`instructions`). In memory and in
registers halves are lanes of 16 bits, ``half`` or ``bfloat`` by name.
"""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from ..vecmath.instructions import has_halves, to_half

__all__ = ["narrowed", "read", "widened"]


def read(lanes: Lanes, pointer: str, kind: str = "", mask: str | None = None) -> str:
    """Consecutive numbers, those in `mask` only, widened if `kind` says that they are halves."""
    memory = lanes.like("i16") if kind else lanes
    found = memory.load(pointer) if mask is None else memory.masked_load(pointer, mask)
    return widened(found, kind, lanes) if kind else found


def widened(bits: str, kind: str, lanes: Lanes) -> str:
    """16-bit lanes of `kind` as the lanes ``float`` of `lanes`; exact."""
    if kind == "half" and has_halves(lanes):
        halves = lanes.like("half")
        return lanes.convert("fpext", halves.from_bits(bits), halves)
    words = lanes.like("i32")
    word = words.convert("zext", bits, lanes.like("i16"))
    if kind == "bfloat":
        return lanes.from_bits(words.binary("shl", word, 16))
    sign = words.binary("shl", words.binary("and", word, 0x8000), 16)
    rest = words.binary("shl", words.binary("and", word, 0x7FFF), 13)
    # The exponent's bias differs by 112; multiplying serves subnormal numbers as well.
    scaled = lanes.bits_of(lanes.mul(lanes.from_bits(rest), 2.0**112))
    special = words.cmp("uge", rest, 0x7C00 << 13)
    scaled = words.select(special, words.binary("or", rest, 0x7F800000), scaled)
    return lanes.from_bits(words.binary("or", scaled, sign))


def narrowed(value: str, kind: str, lanes: Lanes) -> str:
    """Lanes ``float`` as 16-bit lanes of `kind`, rounded to nearest, ties to even."""
    if kind == "half" and has_halves(lanes):
        return to_half(lanes, value)
    words = lanes.like("i32")
    bits = lanes.bits_of(value)
    odd = words.binary("and", words.binary("lshr", bits, 16 if kind == "bfloat" else 13), 1)
    if kind == "bfloat":
        rounded = words.add(words.add(bits, 0x7FFF), odd)
        quiet = words.binary("or", bits, 0x400000)
        found = words.select(lanes.cmp("uno", value, value), quiet, rounded)
        return lanes.like("i16").convert("trunc", words.binary("lshr", found, 16), words)
    sign = words.binary("and", words.binary("lshr", bits, 16), 0x8000)
    size = words.binary("and", bits, 0x7FFFFFFF)
    normal = words.add(words.add(size, ((15 - 127) << 23) + 0xFFF), odd)
    normal = words.binary("lshr", normal, 13)
    # Below 2^-14 the last place is 2^-24, that of numbers from 0.5 to 1 in single precision.
    small = lanes.bits_of(lanes.add(lanes.from_bits(size), 0.5))
    small = words.sub(small, 0x3F000000)
    found = words.select(words.cmp("ult", size, 0x38800000), small, normal)
    found = words.select(words.cmp("uge", size, 0x47800000), 0x7C00, found)
    found = words.select(words.cmp("ugt", size, 0x7F800000), 0x7E00, found)
    return lanes.like("i16").convert("trunc", words.binary("or", found, sign), words)
