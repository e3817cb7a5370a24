"""The error function, its complement and its inverse, and gelu.

In single precision erf is a polynomial for each of 16 intervals. In double precision the tails
come from erfc(a) = exp(-a*a) P(a)/Q(a) for a >= 0, with positive coefficients in P and Q, and
with a*a in two parts because exp turns its error into a relative one.
"""

from __future__ import annotations

import math

from ..machine.llvm_text import Lanes
from .coefficients import ERF_STEP, ERFINV_FAR, ERFINV_MIDDLE, ERFINV_TAIL
from .common import (
    at_most,
    is_single,
    paired,
    pick,
    polynomial,
    round_scaled,
    scale,
    tabulated,
)
from .exponential import exp_parts, lowered, raised_exp
from .logarithm import log

__all__ = ["erf", "erfc", "erfinv", "gelu"]


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


def _erf_single(lanes: Lanes, x: str) -> str:
    """By the polynomial of one of 16 intervals of |x|, 1 beyond.

    The first one's is odd and has no constant; t times the slope is added last, so that its
    product is not rounded.
    """
    a = at_most(lanes, lanes.abs(x), ERF_STEP * 15.45)
    n, index = round_scaled(lanes, a, 1 / ERF_STEP, 0)
    constant, slope, *rest = tabulated(lanes, "erf", index)
    t = lanes.fma(n, -ERF_STEP, a)
    square = lanes.mul(t, t)
    low, high = (lanes.fma(rest[k + 1], t, rest[k]) for k in (0, 2))
    curved = lanes.fma(square, lanes.fma(high, square, low), constant)
    return lanes.copysign(lanes.fma(t, slope, curved), x)


def _gelu_single(lanes: Lanes, x: str) -> str:
    """x/2 (1 + erf(x/sqrt 2)): the sum cancels in the negative tail."""
    twice = lanes.add(_erf_single(lanes, lanes.mul(x, math.sqrt(0.5))), 1.0)
    return lanes.mul(lanes.mul(x, 0.5), twice)


def erf(lanes: Lanes, x: str) -> str:
    """The error function."""
    if is_single(lanes):
        return _erf_single(lanes, x)
    a = lanes.abs(x)
    big = lanes.copysign(lanes.sub(1.0, _complement(lanes, a)), x)
    small = lanes.fma(x, polynomial(lanes, "erf", lanes.mul(x, x)), x)
    return lanes.select(lanes.cmp("olt", a, 0.92), small, big)


def erfinv(lanes: Lanes, x: str) -> str:
    """The inverse of erf: x times a polynomial in w = -log(1 - x*x), or in its root where that is
    large (M. Giles: Approximating the erfinv function. GPU Computing Gems, 2010)."""
    w = lanes.neg(log(lanes, lanes.fma(lanes.neg(x), x, 1.0)))
    near = polynomial(lanes, "erfinv", lanes.sub(w, ERFINV_MIDDLE))
    root = lanes.sub(lanes.intrinsic("sqrt", w), pick(lanes, *ERFINV_FAR))
    tail = polynomial(lanes, "erfinv_tail", root)
    y = lanes.mul(x, lanes.select(lanes.cmp("olt", w, ERFINV_TAIL), near, tail))
    end = lanes.cmp("oeq", lanes.abs(x), 1.0)
    return lanes.select(end, lanes.copysign(float("inf"), x), y)


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
