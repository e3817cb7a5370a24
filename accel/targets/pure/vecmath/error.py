"""The error function, its complement, and gelu.

The tails come from erfc(a) = exp(-a*a) P(a)/Q(a) for a >= 0, with positive coefficients in P
and Q, and with a*a in two parts because exp turns its error into a relative one.
"""

from __future__ import annotations

from ..llvm_text import Lanes
from .common import at_most, is_single, paired, pick, polynomial, scale
from .exponential import bounded_exp, exp_parts, lowered, raised_exp

__all__ = ["erf", "erfc", "gelu"]


def _scaled_complement(lanes: Lanes, a: str) -> str:
    """erfc(a) exp(a*a) for a >= 0; for single precision a short ratio in double."""
    double, name, wide = lanes, "erfcx", a
    if is_single(lanes):
        double, name = lanes.like("double"), "erfcx_short"
        wide = double.convert("fpext", a, lanes)
    ratio = double.div(
        polynomial(double, f"{name}_numerator", wide),
        polynomial(double, f"{name}_denominator", wide),
    )
    return lanes.convert("fptrunc", ratio, double) if is_single(lanes) else ratio


def _complement(lanes: Lanes, a: str) -> str:
    """erfc(a) for a >= 0."""
    a = at_most(lanes, a, pick(lanes, 10.1, 27.3))
    square = lanes.mul(a, a)
    low = lanes.fma(lanes.neg(a), a, square)
    p, bits = exp_parts(lanes, lanes.neg(square), low)
    return scale(lanes, lanes.mul(p, _scaled_complement(lanes, a)), bits)


def erfc(lanes: Lanes, x: str) -> str:
    """1 - erf(x) with its digits also where erf(x) is nearly 1."""
    tail = _complement(lanes, lanes.abs(x))
    return lanes.select(lanes.cmp("olt", x, 0.0), lanes.sub(2.0, tail), tail)


def _erf_tail_single(lanes: Lanes, a: str) -> str:
    """1 - erf(a) for a >= 0.9, whose error only counts absolutely."""
    g = polynomial(lanes, "minus_log_erfc", at_most(lanes, a, 4.0))
    return bounded_exp(lanes, lanes.neg(g))


def erf(lanes: Lanes, x: str) -> str:
    """The error function."""
    a = lanes.abs(x)
    tail = _erf_tail_single(lanes, a) if is_single(lanes) else _complement(lanes, a)
    big = lanes.copysign(lanes.sub(1.0, tail), x)
    small = lanes.fma(x, polynomial(lanes, "erf", lanes.mul(x, x)), x)
    return lanes.select(lanes.cmp("olt", a, 0.92), small, big)


def gelu(lanes: Lanes, x: str) -> str:
    """x times the normal distribution function, with its digits also in the negative tail."""
    a = at_most(lanes, lanes.abs(x), pick(lanes, 14.846575, 38.818835))  # -a*a/2 = LOWEST
    square = lanes.mul(a, a)
    excess = lanes.fma(lanes.neg(a), a, square)
    raised = raised_exp(lanes, lanes.mul(square, -0.5), excess, 0.5)
    numerator = paired(lanes, "gelu_numerator", a, square)
    denominator = paired(lanes, "gelu_denominator", a, square)
    tail = lanes.mul(raised, lanes.div(numerator, denominator))
    negative = lanes.cmp("olt", x, 0.0)
    rest = lanes.fma(tail, pick(lanes, -(2.0**-32), -(2.0**-64)), 1.0)
    return lowered(lanes, lanes.mul(x, lanes.select(negative, tail, rest)), negative)
