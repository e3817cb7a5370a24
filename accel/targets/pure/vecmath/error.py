"""The error function, its complement, and gelu.

The tails come from erfc(a) = exp(-a*a) P(a)/Q(a) for a >= 0, with positive coefficients in P
and Q, and with a*a in two parts because exp turns its error into a relative one.
"""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .common import at_most, is_single, paired, pick, polynomial, scale
from .exponential import exp_parts, lowered, raised_exp

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
    p, n, bits = exp_parts(lanes, lanes.neg(square), low)
    return scale(lanes, lanes.mul(p, _scaled_complement(lanes, a)), n, bits)


def erfc(lanes: Lanes, x: str) -> str:
    """1 - erf(x) with its digits also where erf(x) is nearly 1."""
    tail = _complement(lanes, lanes.abs(x))
    return lanes.select(lanes.cmp("olt", x, 0.0), lanes.sub(2.0, tail), tail)


def _far(lanes: Lanes, a: str, name: str, centre: float, end: float) -> str:
    """1 - q(a), where the fitted q is a function that vanishes: exactly 1 from `end` on."""
    q = polynomial(lanes, name, lanes.sub(at_most(lanes, a, end), centre))
    return lanes.sub(1.0, q)


def _erf_single(lanes: Lanes, x: str) -> str:
    """x + x p(x*x), or 1 - erfc(|x|), whose error only counts absolutely."""
    a = lanes.abs(x)
    far = lanes.copysign(_far(lanes, a, "erf_far", 2.675, 4.05), x)
    near = lanes.fma(x, polynomial(lanes, "erf_near", lanes.mul(x, x)), x)
    return lanes.select(lanes.cmp("olt", a, 1.4), near, far)


def _gelu_single(lanes: Lanes, x: str) -> str:
    """x/2 (1 + erf(x/sqrt 2)): the sum cancels in the negative tail."""
    a = lanes.abs(x)
    far = lanes.copysign(_far(lanes, a, "normal_far", 3.85, 5.75), x)
    near = lanes.mul(x, polynomial(lanes, "normal_near", lanes.mul(x, x)))
    twice = lanes.add(lanes.select(lanes.cmp("olt", a, 2.1), near, far), 1.0)
    return lanes.mul(lanes.mul(x, 0.5), twice)


def erf(lanes: Lanes, x: str) -> str:
    """The error function."""
    if is_single(lanes):
        return _erf_single(lanes, x)
    a = lanes.abs(x)
    big = lanes.copysign(lanes.sub(1.0, _complement(lanes, a)), x)
    small = lanes.fma(x, polynomial(lanes, "erf", lanes.mul(x, x)), x)
    return lanes.select(lanes.cmp("olt", a, 0.92), small, big)


def gelu(lanes: Lanes, x: str) -> str:
    """x times the normal distribution function.

    In single precision the error goes by |x|: 1 + erf(x/sqrt 2) cancels in the negative tail,
    as it does in every library's float32 gelu. In double precision the tail keeps its digits.
    """
    if is_single(lanes):
        return _gelu_single(lanes, x)
    a = at_most(lanes, lanes.abs(x), 38.818835)  # -a*a/2 = LOWEST
    square = lanes.mul(a, a)
    excess = lanes.fma(lanes.neg(a), a, square)
    raised = raised_exp(lanes, lanes.mul(square, -0.5), excess, 0.5)
    numerator = paired(lanes, "gelu_numerator", a, square)
    denominator = paired(lanes, "gelu_denominator", a, square)
    tail = lanes.mul(raised, lanes.div(numerator, denominator))
    negative = lanes.cmp("olt", x, 0.0)
    rest = lanes.fma(tail, -(2.0**-64), 1.0)
    return lowered(lanes, lanes.mul(x, lanes.select(negative, tail, rest)), negative)
