"""Rounding to integers, and the remainders, exact as in NumPy."""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .common import any_lane, mantissa_bits, pick, power_of_two

__all__ = ["ceil", "floor", "floor_divide", "fmod", "nextafter", "remainder", "round_", "trunc"]


def floor(lanes: Lanes, x: str) -> str:
    """The largest integer not above x."""
    return lanes.intrinsic("floor", x)


def ceil(lanes: Lanes, x: str) -> str:
    """The smallest integer not below x."""
    return lanes.intrinsic("ceil", x)


def trunc(lanes: Lanes, x: str) -> str:
    """The integer part."""
    return lanes.intrinsic("trunc", x)


def round_(lanes: Lanes, x: str) -> str:
    """To the nearest integer, halves to the even one."""
    return lanes.intrinsic("rint", x)


def fmod(lanes: Lanes, x: str, y: str) -> str:
    """x - trunc(x/y) y exactly, with the sign of x.

    Long division: while any lane has r >= |y|, it loses the largest multiple of
    |y| 2**k whose quotient is exact. One round serves quotients below 2**22 (2**51).
    """
    fn = lanes.fn
    a, b = lanes.abs(x), lanes.abs(y)
    valid = lanes.mask_op("and", lanes.cmp("olt", a, float("inf")), lanes.cmp("ogt", b, 0.0))
    start = lanes.select(valid, a, 0.0)
    head, body, done = fn.label("divide"), fn.label("subtract"), fn.label("remainder")
    before = fn.block_name
    fn.br(head)
    fn.block(head)
    at = len(fn.lines)
    r = fn.phi(lanes.type, (start, before))
    more = any_lane(lanes, lanes.cmp("oge", r, b))
    fn.cond_br(more, body, done)
    fn.block(body)
    rest = _divide_once(lanes, r, b)
    fn.lines[at] = f"  {r} = phi {lanes.type} [{start}, %{before}], [{rest}, %{fn.block_name}]"
    fn.br(head)
    fn.block(done)
    return lanes.copysign(lanes.select(valid, r, float("nan")), x)


def _divide_once(lanes: Lanes, r: str, b: str) -> str:
    """r less a multiple of b > 0 where r >= b, by at least 22 (51) bits of the quotient."""
    integers = lanes.integers
    step = mantissa_bits(lanes) - 1
    k = integers.sub(integers.sub(_exponent(lanes, r), _exponent(lanes, b)), step)
    k = integers.select(integers.cmp("sgt", k, 0), k, 0)
    half = integers.binary("lshr", k, 1)
    bias = pick(lanes, 127, 1023)
    first = power_of_two(lanes, integers.add(half, bias))
    second = power_of_two(lanes, integers.add(integers.sub(k, half), bias))
    divisor = lanes.mul(lanes.mul(b, first), second)
    quotient = lanes.intrinsic("trunc", lanes.div(r, divisor))
    rest = lanes.fma(lanes.neg(quotient), divisor, r)
    # The quotient was rounded, perhaps up to the next integer.
    rest = lanes.select(lanes.cmp("olt", rest, 0.0), lanes.add(rest, divisor), rest)
    return lanes.select(lanes.cmp("oge", r, b), rest, r)


def _exponent(lanes: Lanes, x: str) -> str:
    """The biased exponent of x >= 0; that of a subnormal as if its range went on below 1."""
    integers, bits = lanes.integers, mantissa_bits(lanes)
    subnormal = lanes.cmp("olt", x, pick(lanes, 2.0**-126, 2.0**-1022))
    normal = lanes.select(subnormal, lanes.mul(x, pick(lanes, 2.0**24, 2.0**54)), x)
    field = integers.binary("lshr", lanes.bits_of(normal), bits)
    return integers.select(subnormal, integers.sub(field, pick(lanes, 24, 54)), field)


def remainder(lanes: Lanes, x: str, y: str) -> str:
    """x - floor(x/y) y, with the sign of y (NumPy's remainder, Python's %)."""
    return _floored(lanes, fmod(lanes, x, y), y)


def _floored(lanes: Lanes, r: str, y: str) -> str:
    """The remainder of floored division from fmod's."""
    zero = lanes.cmp("oeq", r, 0.0)
    r = lanes.select(_opposite(lanes, r, y), lanes.add(r, y), r)
    return lanes.select(zero, lanes.copysign(0.0, y), r)


def _opposite(lanes: Lanes, r: str, y: str) -> str:
    """The mask where r is not zero and of another sign than y."""
    differ = lanes.mask_op("xor", lanes.cmp("olt", r, 0.0), lanes.cmp("olt", y, 0.0))
    return lanes.mask_op("and", differ, lanes.cmp("une", r, 0.0))


def floor_divide(lanes: Lanes, x: str, y: str) -> str:
    """floor(x/y) from the exact remainder; x/y where y is zero or x infinite."""
    r = fmod(lanes, x, y)
    plain = lanes.div(x, y)
    quotient = lanes.div(lanes.sub(x, r), y)
    quotient = lanes.select(_opposite(lanes, r, y), lanes.sub(quotient, 1.0), quotient)
    whole = lanes.intrinsic("floor", quotient)
    close = lanes.cmp("ogt", lanes.sub(quotient, whole), 0.5)
    whole = lanes.select(close, lanes.add(whole, 1.0), whole)
    zero = lanes.cmp("oeq", quotient, 0.0)
    whole = lanes.select(zero, lanes.copysign(0.0, plain), whole)
    infinite = lanes.cmp("oeq", lanes.abs(x), float("inf"))
    exact = lanes.mask_op("or", lanes.cmp("oeq", y, 0.0), infinite)
    return lanes.select(exact, plain, whole)


def nextafter(lanes: Lanes, x: str, y: str) -> str:
    """The number beside x on the way to y."""
    integers = lanes.integers
    bits = lanes.bits_of(x)
    # Away from zero the bits count up.
    outward = lanes.mask_op("xor", lanes.cmp("olt", x, y), lanes.cmp("olt", x, 0.0))
    step = integers.select(outward, 1, -1)
    moved = lanes.from_bits(integers.add(bits, step))
    smallest = lanes.copysign(pick(lanes, 2.0**-149, 5e-324), y)
    moved = lanes.select(lanes.cmp("oeq", x, 0.0), smallest, moved)
    moved = lanes.select(lanes.cmp("oeq", x, y), y, moved)
    return lanes.select(lanes.cmp("uno", x, y), float("nan"), moved)
