"""The error function, its complement, and gelu.

The tails come from erfc(a) = exp(-a*a) w(q)/(1 + 2a), where w is smooth in
q = (a - k)/(a + k), with a*a in two parts because exp turns its error into a relative one.
"""

from __future__ import annotations

from ..llvm_text import Lanes
from .common import at_most, is_single, pick, polynomial, scale
from .exponential import exp_of_negative, exp_parts

__all__ = ["erf", "erfc", "gelu"]


def _scaled_complement(lanes: Lanes, a: str) -> tuple[str, str]:
    """erfc(a) exp(a*a) for a >= 0, as numerator and denominator."""
    k = pick(lanes, 2.0, 4.0)
    q = lanes.div(lanes.sub(a, k), lanes.add(a, k))
    return polynomial(lanes, "erfcx", q), lanes.fma(a, 2.0, 1.0)


def _complement(lanes: Lanes, a: str) -> str:
    """erfc(a) for a >= 0."""
    a = at_most(lanes, a, pick(lanes, 10.1, 27.3))
    square = lanes.mul(a, a)
    low = lanes.fma(lanes.neg(a), a, square)
    p, bits = exp_parts(lanes, lanes.neg(square), low)
    numerator, denominator = _scaled_complement(lanes, a)
    return scale(lanes, lanes.div(lanes.mul(p, numerator), denominator), bits)


def erfc(lanes: Lanes, x: str) -> str:
    tail = _complement(lanes, lanes.abs(x))
    return lanes.select(lanes.cmp("olt", x, 0.0), lanes.sub(2.0, tail), tail)


def _erf_tail_single(lanes: Lanes, a: str) -> str:
    """1 - erf(a) for a >= 0.9, whose error only counts absolutely."""
    return exp_of_negative(lanes, lanes.neg(polynomial(lanes, "minus_log_erfc", at_most(lanes, a, 4.0))))


def erf(lanes: Lanes, x: str) -> str:
    a = lanes.abs(x)
    tail = _erf_tail_single(lanes, a) if is_single(lanes) else _complement(lanes, a)
    big = lanes.copysign(lanes.sub(1.0, tail), x)
    small = lanes.fma(x, polynomial(lanes, "erf", lanes.mul(x, x)), x)
    return lanes.select(lanes.cmp("olt", a, 0.92), small, big)


def gelu(lanes: Lanes, x: str) -> str:
    """x times the normal distribution function, with full digits in the negative tail."""
    bound = pick(lanes, 14.7, 38.8)
    a = at_most(lanes, lanes.abs(x), bound)
    square = lanes.mul(a, a)
    low = lanes.mul(lanes.fma(lanes.neg(a), a, square), 0.5)
    p, bits = exp_parts(lanes, lanes.mul(square, -0.5), low)
    numerator, denominator = _scaled_complement(lanes, lanes.mul(a, 0.7071067811865476))
    numerator = lanes.mul(numerator, 0.5)
    negative = lanes.cmp("olt", x, 0.0)
    # The factor x joins before the scale, so that a subnormal result is rounded once.
    factor = lanes.select(negative, lanes.neg(a), 1.0)
    tail = lanes.mul(lanes.mul(p, factor), lanes.div(numerator, denominator))
    tail = scale(lanes, tail, bits)
    y = lanes.select(negative, tail, lanes.mul(x, lanes.sub(1.0, tail)))
    return lanes.select(lanes.cmp("oeq", x, float("-inf")), float("nan"), y)
