"""Instructions that LLVM has no portable word for: powers of two (AVX-512) and small tables (x86).

`Function.x86_bytes` says which there are. They work on whole registers, so lanes of several are
cut and joined again.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.llvm_text import Lanes, float_literal

__all__ = ["exponent", "has_scale", "looked_up", "scaled", "significand"]

#: AVX-512's suffix and mask type.
_SUFFIXES = {"float": ("ps", "i16"), "double": ("pd", "i8")}


# -- powers of two ------------------------------------------------------------------------
def has_scale(lanes: Lanes) -> bool:
    """Whether single instructions take these lanes apart into exponents and significands, and
    multiply them by powers of two."""
    whole = lanes.element in _SUFFIXES and lanes.width * lanes.bytes % 64 == 0
    return whole and lanes.fn.x86_bytes == 64


def scaled(lanes: Lanes, a: str, n: str) -> str:
    """a * 2**n for integral n, rounded once (`has_scale`)."""
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


# -- tables -------------------------------------------------------------------------------
def looked_up(lanes: Lanes, table: str, entries: Sequence[float], index: str) -> str:
    """The entries at `index`, integer lanes below their number; `table` names the constant.

    On x86 32 floats lie in registers, from which an instruction picks; else lanes are read from
    memory.
    """
    if lanes.element == "float" and len(entries) == 32:
        if lanes.fn.x86_bytes == 64 and lanes.width % 16 == 0:
            return _from_two_registers(lanes, entries, index)
        if lanes.fn.x86_bytes and lanes.width % 8 == 0:
            return _from_four_registers(lanes, entries, index)
    fn, element = lanes.fn, lanes.element
    literals = _literals(element, entries)
    fn.declarations.add(
        f"@{table} = private unnamed_addr constant [{len(entries)} x {element}] [{literals}]"
    )
    if lanes.width == 1:
        wide = fn.op(f"zext {lanes.integers.type} {index} to i64")
        return lanes.load(fn.gep(f"@{table}", wide, element))
    pointers = fn.op(f"getelementptr {element}, ptr @{table}, {lanes.integers.type} {index}")
    return fn.call(
        lanes.type, f"llvm.masked.gather.{lanes.suffix}.v{lanes.width}p0",
        (f"<{lanes.width} x ptr>", pointers), ("i32", str(lanes.bytes)),
        (lanes.mask_type, "splat (i1 true)"), (lanes.type, "zeroinitializer"),
    )  # fmt: skip


def _from_two_registers(lanes: Lanes, entries: Sequence[float], index: str) -> str:
    """32 floats looked up by AVX-512."""
    part = Lanes(lanes.fn, "float", 16)
    low, high = (f"<{_literals('float', entries[at : at + 16])}>" for at in (0, 16))
    done = []
    for places in _cut(lanes.integers, index, part.integers):
        operands = (part.type, low), (part.integers.type, places), (part.type, high)
        done.append(lanes.fn.call(part.type, "llvm.x86.avx512.vpermi2var.ps.512", *operands))
    return _joined(done, part)


def _from_four_registers(lanes: Lanes, entries: Sequence[float], index: str) -> str:
    """32 floats looked up by AVX2."""
    part = Lanes(lanes.fn, "float", 8)
    tables = [f"<{_literals('float', entries[at : at + 8])}>" for at in range(0, 32, 8)]
    done = []
    for places in _cut(lanes.integers, index, part.integers):
        last = (part.integers.type, places)
        found = [lanes.fn.call(part.type, "llvm.x86.avx2.permps", (part.type, t), last)
                 for t in tables]  # fmt: skip
        for bit in (8, 16):
            above = part.integers.cmp("ne", part.integers.binary("and", places, bit), 0)
            pairs = zip(found[::2], found[1::2], strict=True)
            found = [part.select(above, high, low) for low, high in pairs]
        done += found
    return _joined(done, part)


def _literals(element: str, values: Sequence[float]) -> str:
    return ", ".join(f"{element} {float_literal(value, element)}" for value in values)


# -- registers ----------------------------------------------------------------------------
def _cut(lanes: Lanes, a: str, part: Lanes) -> list[str]:
    """The registers that lanes lie in."""
    if part.width == lanes.width:
        return [a]
    found = []
    for start in range(0, lanes.width, part.width):
        places = ", ".join(f"i32 {start + i}" for i in range(part.width))
        found.append(lanes.fn.op(
            f"shufflevector {lanes.type} {a}, {lanes.type} poison, <{part.width} x i32> <{places}>"
        ))  # fmt: skip
    return found


def _joined(parts: list[str], part: Lanes) -> str:
    """The lanes of some registers."""
    while len(parts) > 1:
        places = ", ".join(f"i32 {i}" for i in range(2 * part.width))
        parts = [
            part.fn.op(f"shufflevector {part.type} {a}, {part.type} {b}, "
                       f"<{2 * part.width} x i32> <{places}>")
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]  # fmt: skip
        part = Lanes(part.fn, part.element, 2 * part.width)
    return parts[0]
