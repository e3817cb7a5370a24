"""Instructions that LLVM has no portable word for: powers of two (AVX-512), small tables, and
halves.

`Function.instructions` says which there are. They work on whole registers, so lanes of several
are cut and joined again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..machine.llvm_text import Lanes, float_literal

__all__ = [
    "exponent", "has_halves", "has_scale", "has_tables", "looked_up", "scaled", "significand",
    "to_half",
]  # fmt: skip

#: AVX-512's suffix and mask type.
_SUFFIXES = {"float": ("ps", "i16"), "double": ("pd", "i8")}


# -- powers of two ------------------------------------------------------------------------
def has_scale(lanes: Lanes) -> bool:
    """Whether single instructions take these lanes apart into exponents and significands, and
    multiply them by powers of two."""
    whole = lanes.element in _SUFFIXES and lanes.width * lanes.bytes % 64 == 0
    return whole and lanes.fn.instructions == "avx512"


def scaled(lanes: Lanes, a: str, n: str) -> str:
    """a * 2**floor(n), rounded once (`has_scale`)."""
    return _by_register(lanes, "scalef", a, n)


def exponent(lanes: Lanes, a: str) -> str:
    """floor(log2|a|) as a float, infinite for zeros and infinities (`has_scale`)."""
    return _by_register(lanes, "getexp", a)


def significand(lanes: Lanes, a: str, low: float = 0.75) -> str:
    """a * 2**-n in [low, 2 low), low being 3/4 or 1; NaN for a < 0 and 1 for infinity
    (`has_scale`)."""
    interval = {0.75: 3, 1.0: 0}[low]
    return _by_register(lanes, "getmant", a, more=(("i32", str(8 + interval)),))


def _by_register(
    lanes: Lanes, name: str, *operands: str, more: Sequence[tuple[str, str]] = ()
) -> str:
    """An AVX-512 instruction on each whole register of the lanes."""
    suffix, mask = _SUFFIXES[lanes.element]
    part = Lanes(lanes.fn, lanes.element, 64 // lanes.bytes)
    rest = [*more, (part.type, "zeroinitializer"), (mask, "-1"), ("i32", "4")]
    done = []
    for cut in zip(*(_cut(lanes, a, part) for a in operands), strict=True):
        full = f"llvm.x86.avx512.mask.{name}.{suffix}.512"
        done.append(lanes.fn.call(part.type, full, *((part.type, a) for a in cut), *rest))
    return _joined(done, part)


# -- halves -------------------------------------------------------------------------------
def has_halves(lanes: Lanes) -> bool:
    """Whether these lanes ``float`` are converted to float16, and back, by instructions."""
    fewest = {"avx512": 8, "avx2": 8, "neon": 4}.get(lanes.fn.instructions)
    return fewest is not None and lanes.width % fewest == 0


def to_half(lanes: Lanes, a: str) -> str:
    """Lanes ``float`` as 16-bit lanes, to nearest (`has_halves`). LLVM's own `fptrunc` would be
    taken together with one from ``double`` before it, for which there is no instruction."""
    known, rest = lanes.fn.instructions, []
    if known == "neon":
        name, width = "aarch64.neon.vcvtfp2hf", 4
    elif known == "avx512" and lanes.width % 16 == 0:
        name, width = "x86.avx512.mask.vcvtps2ph.512", 16
        rest = [("i32", "0"), ("<16 x i16>", "zeroinitializer"), ("i16", "-1")]
    else:
        name, width, rest = "x86.vcvtps2ph.256", 8, [("i32", "0")]
    part = Lanes(lanes.fn, "float", width)
    bits = part.like("i16")
    cuts = _cut(lanes, a, part)
    done = [lanes.fn.call(bits.type, "llvm." + name, (part.type, cut), *rest) for cut in cuts]
    return _joined(done, bits)


# -- tables -------------------------------------------------------------------------------
def has_tables(lanes: Lanes) -> bool:
    """Whether 16 floats lie in one register, from which an instruction picks: then looking them
    up takes no longer than a multiply-add. It does not depend on the width."""
    return lanes.element == "float" and lanes.fn.instructions == "avx512"


def looked_up(lanes: Lanes, table: str, entries: tuple[float, ...], index: str) -> str:
    """The entries, 16 or 32 floats, at the low bits of integer lanes; `table` names the constant.

    They lie in registers, from which instructions pick, or else lanes are read from memory.
    """
    known = lanes.fn.instructions
    if known == "avx512" and lanes.width % 16 == 0:
        pick, width = _picked_by_avx512, 16
    elif known in ("avx512", "avx2") and lanes.width % 8 == 0:
        pick, width = _picked_by_avx2, 8
    elif known == "neon" and lanes.width % 4 == 0:
        pick, width = _picked_by_neon, 4
    else:
        return _from_memory(lanes, table, entries, index)
    part, tables = Lanes(lanes.fn, lanes.element, width), []
    for at in range(0, len(entries), width):  # named, as their text is long
        literal = _vector(part.element, entries[at : at + width])
        tables.append(lanes.fn.op(f"freeze {part.type} {literal}"))
    cut = _cut(lanes.integers, index, part.integers)
    return _joined([pick(part, tables, places) for places in cut], part)


def _from_memory(lanes: Lanes, table: str, entries: tuple[float, ...], index: str) -> str:
    fn, element = lanes.fn, lanes.element
    array, literals = f"[{len(entries)} x {element}]", _vector(element, entries)[1:-1]
    fn.declarations.add(f"@{table} = private unnamed_addr constant {array} [{literals}]")
    index = lanes.integers.binary("and", index, len(entries) - 1)
    if lanes.width == 1:
        wide = fn.op(f"zext {lanes.integers.type} {index} to i64")
        return lanes.load(fn.gep(f"@{table}", wide, element))
    pointers = fn.op(f"getelementptr {element}, ptr @{table}, {lanes.integers.type} {index}")
    return lanes.gather(pointers)


def _picked_by_avx512(part: Lanes, tables: list[str], places: str) -> str:
    index, named = (part.integers.type, places), [(part.type, t) for t in tables]
    if len(tables) == 1:
        return part.fn.call(part.type, "llvm.x86.avx512.permvar.sf.512", *named, index)
    low, high = named
    return part.fn.call(part.type, "llvm.x86.avx512.vpermi2var.ps.512", low, index, high)


def _picked_by_avx2(part: Lanes, tables: list[str], places: str) -> str:
    integers, bit = part.integers, 8
    index = (integers.type, places)
    found = [part.fn.call(part.type, "llvm.x86.avx2.permps", (part.type, t), index) for t in tables]
    while len(found) > 1:
        above = integers.cmp("ne", integers.binary("and", places, bit), 0)
        pairs = zip(found[::2], found[1::2], strict=True)
        found, bit = [part.select(above, high, low) for low, high in pairs], 2 * bit
    return found[0]


def _picked_by_neon(part: Lanes, tables: list[str], places: str) -> str:
    """By bytes: an instruction gives those of 64, and 0 for numbers beyond."""
    fn, integers, octets = part.fn, part.integers, Lanes(part.fn, "i8", 16)
    places = integers.binary("and", places, 4 * len(tables) - 1)
    places = integers.add(integers.mul(places, 0x04040404), 0x03020100)
    places = fn.op(f"bitcast {integers.type} {places} to {octets.type}")
    found = ""
    for at in range(0, len(tables), 4):
        registers = [
            fn.op(f"bitcast {part.type} {table} to {octets.type}") for table in tables[at : at + 4]
        ]
        index = octets.sub(places, 16 * at) if at else places
        operands = [(octets.type, r) for r in (*registers, index)]
        picked = fn.call(octets.type, "llvm.aarch64.neon.tbl4.v16i8", *operands)
        found = octets.binary("or", found, picked) if found else picked
    return fn.op(f"bitcast {octets.type} {found} to {part.type}")


@functools.cache
def _vector(element: str, values: tuple[float, ...]) -> str:
    return f"<{', '.join(f'{element} {float_literal(value, element)}' for value in values)}>"


# -- registers ----------------------------------------------------------------------------
def _cut(lanes: Lanes, a: str, part: Lanes) -> list[str]:
    """The registers that lanes lie in."""
    if part.width == lanes.width:
        return [a]
    found = []
    for start in range(0, lanes.width, part.width):
        places = _places(start, part.width)
        found.append(
            lanes.fn.op(f"shufflevector {lanes.type} {a}, {lanes.type} poison, {places}")
        )
    return found


def _joined(parts: list[str], part: Lanes) -> str:
    """The lanes of some registers."""
    while len(parts) > 1:
        places = _places(0, 2 * part.width)
        parts = [
            part.fn.op(f"shufflevector {part.type} {a}, {part.type} {b}, {places}")
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        part = Lanes(part.fn, part.element, 2 * part.width)
    return parts[0]


@functools.cache
def _places(start: int, count: int) -> str:
    """The numbers of `count` lanes from `start` on, as a shuffle's mask."""
    return f"<{count} x i32> <{', '.join(f'i32 {start + i}' for i in range(count))}>"
