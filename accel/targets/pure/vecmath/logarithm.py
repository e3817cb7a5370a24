"""log, log1p, log2, log10 and the inverse hyperbolic functions.

x = 2**e (1 + f) with 3/4 <= 1 + f < 3/2, and log(1 + f) = f - f*f/2 + f**3 q(f).
"""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .common import LN2, LOG2E, is_single, mantissa_bits, pick, polynomial
from .instructions import exponent, has_scale, significand

__all__ = [
    "acosh", "asinh", "atanh", "exponent_and_fraction", "log", "log10", "log1p", "log2",
    "normalised",
]  # fmt: skip

_THREE_FOURTHS = (0x3F400000, 0x3FE8000000000000)


def exponent_and_fraction(lanes: Lanes, x: str, pivot: int) -> tuple[str, str, str]:
    """x = 2**e m for a normal x > 0: e as a float, m, and e shifted to the exponent's bits.

    m lies in [p, 2p) for the float p whose bits are `pivot`.
    """
    integers, bits = lanes.integers, mantissa_bits(lanes)
    raw = lanes.bits_of(x)
    distance = integers.sub(raw, pivot)
    shifted = integers.binary("and", distance, -1 << bits)
    m = lanes.from_bits(integers.sub(raw, shifted))
    if is_single(lanes):
        return (
            lanes.convert("sitofp", integers.binary("ashr", distance, bits), integers),
            m,
            shifted,
        )
    # Not every processor converts 64-bit integers: put e + 1024 in the low bits of 2**52.
    field = integers.binary("lshr", integers.add(distance, 1 << 62), bits)
    e = lanes.from_bits(integers.binary("or", field, 0x433 << 52))
    return lanes.sub(e, float(2**52 + 1024)), m, shifted


def normalised(lanes: Lanes, x: str) -> tuple[str, str]:
    """x with subnormals brought into the normal range, and what to add to their exponent."""
    subnormal = lanes.cmp("olt", x, pick(lanes, 2.0**-126, 2.0**-1022))
    power = pick(lanes, 24.0, 54.0)
    scaled = lanes.select(subnormal, lanes.mul(x, 2.0**power), x)
    return scaled, lanes.select(subnormal, -power, 0.0)


def _parts(lanes: Lanes, x: str) -> tuple[str, str]:
    """e (a float) and f of x > 0."""
    if has_scale(lanes):
        m = significand(lanes, x)
        return lanes.sub(exponent(lanes, x), exponent(lanes, m)), lanes.sub(m, 1.0)
    normal, offset = normalised(lanes, x)
    e, m, _ = exponent_and_fraction(lanes, normal, pick(lanes, *_THREE_FOURTHS))
    return lanes.add(e, offset), lanes.sub(m, 1.0)


def _tail(lanes: Lanes, f: str, start: str | None = None) -> str:
    """log(1 + f) - f (+ start)."""
    square = lanes.mul(f, f)
    cube, q = lanes.mul(square, f), polynomial(lanes, "log", f)
    rest = lanes.mul(cube, q) if start is None else lanes.fma(cube, q, start)
    return lanes.fma(square, -0.5, rest)


def _natural(lanes: Lanes, e: str, f: str, start: str | None = None) -> str:
    """e ln 2 + log(1 + f) (+ start, a small correction)."""
    high, low = pick(lanes, *LN2)
    small = lanes.mul(e, low) if start is None else lanes.fma(e, low, start)
    y = lanes.add(f, _tail(lanes, f, small))
    return lanes.fma(e, high, y)


def _edges(lanes: Lanes, x: str, y: str) -> str:
    """y, or what a logarithm is at and beyond the ends of its domain."""
    y = lanes.select(lanes.cmp("oeq", x, float("inf")), x, y)
    y = lanes.select(lanes.cmp("ult", x, 0.0), float("nan"), y)
    return lanes.select(lanes.cmp("oeq", x, 0.0), float("-inf"), y)


def _ends(lanes: Lanes, x: str, e: str, y: str) -> str:
    """`_edges`, where e may be what an instruction gives: infinite or NaN just where y is NaN."""
    if has_scale(lanes):
        return lanes.select(lanes.cmp("uno", y, y), e, y)
    return _edges(lanes, x, y)


def log(lanes: Lanes, x: str) -> str:
    """The natural logarithm."""
    e, f = _parts(lanes, x)
    return _ends(lanes, x, e, _natural(lanes, e, f))


def _other_base(
    lanes: Lanes, x: str, base: tuple[float, float], exponent: tuple[float, float]
) -> str:
    """e * exponent + log(1 + f) * base, each constant and the logarithm in two parts."""
    e, f = _parts(lanes, x)
    tail = _tail(lanes, f)
    high = lanes.add(f, tail)
    low = lanes.sub(tail, lanes.sub(high, f))
    rest = lanes.fma(low, base[0], lanes.mul(high, base[1]))
    if exponent[1]:
        rest = lanes.fma(e, exponent[1], rest)
    y = lanes.fma(high, base[0], rest)
    return _ends(lanes, x, e, lanes.fma(e, exponent[0], y))


def log2(lanes: Lanes, x: str) -> str:
    """The binary logarithm, exact for powers of two."""
    return _other_base(lanes, x, pick(lanes, *LOG2E), (1.0, 0.0))


def log10(lanes: Lanes, x: str) -> str:
    """The decimal logarithm."""
    base = pick(
        lanes,
        (0.4342944920063019, -1.0103049952192578e-08),
        (0.4342944819032518, 1.098319650216765e-17),
    )
    exponent = pick(
        lanes,
        (0.3010300099849701, -1.432098883924482e-08),
        (0.3010299956639812, -2.8037281277851704e-18),
    )
    return _other_base(lanes, x, base, exponent)


def log1p(lanes: Lanes, x: str) -> str:
    """log of 1 + x = 2**e (1 + f) with f = x 2**-e + (2**-e - 1), rounded once."""
    integers = lanes.integers
    u = lanes.add(x, 1.0)
    e, m, shifted = exponent_and_fraction(lanes, u, pick(lanes, *_THREE_FOURTHS))
    inverse = lanes.from_bits(integers.sub(pick(lanes, 127 << 23, 1023 << 52), shifted))
    f = lanes.fma(x, inverse, lanes.sub(inverse, 1.0))
    # 2**-e is no normal number for the largest x, where the 1 no longer counts.
    f = lanes.select(lanes.cmp("ogt", x, pick(lanes, 2.0**30, 2.0**60)), lanes.sub(m, 1.0), f)
    return lanes.copysign(_edges(lanes, u, _natural(lanes, e, f)), x)


def asinh(lanes: Lanes, x: str) -> str:
    """log1p(a + a*a/(1 + sqrt(a*a + 1))), or log(a) + ln 2 where a*a overflows."""
    a = lanes.abs(x)
    square = lanes.mul(a, a)
    root = lanes.intrinsic("sqrt", lanes.fma(a, a, 1.0))
    argument = lanes.add(a, lanes.div(square, lanes.add(root, 1.0)))
    return lanes.copysign(_log1p_or_log_twice(lanes, argument, a), x)


def acosh(lanes: Lanes, x: str) -> str:
    """log1p(t + sqrt(2t + t*t)) with t = x - 1; NaN below 1 by the square root."""
    t = lanes.sub(x, 1.0)
    root = lanes.intrinsic("sqrt", lanes.fma(t, t, lanes.add(t, t)))
    y = _log1p_or_log_twice(lanes, lanes.add(t, root), x)
    return lanes.select(lanes.cmp("ult", x, 1.0), float("nan"), y)


def _log1p_or_log_twice(lanes: Lanes, argument: str, x: str) -> str:
    """log1p(argument) for moderate x, log(2x) for big ones; one logarithm serves both."""
    big = lanes.cmp("ogt", x, pick(lanes, 2.0**30, 2.0**60))
    y = log1p(lanes, lanes.select(big, x, argument))
    high, low = pick(lanes, *LN2)
    return lanes.select(big, lanes.add(lanes.add(y, low), high), y)


def atanh(lanes: Lanes, x: str) -> str:
    """log1p(2a/(1 - a)) / 2."""
    a = lanes.abs(x)
    y = log1p(lanes, lanes.div(lanes.add(a, a), lanes.sub(1.0, a)))
    return lanes.copysign(lanes.mul(y, 0.5), x)
