"""The logarithm of the gamma function, and its derivative.

Both are computed in double precision, whatever the operand: beside the zeros nothing else leaves
digits. From 8 on Stirling's series is summed (NIST Handbook of Mathematical Functions, 5.11);
smaller numbers are moved by the recurrence, negative ones reflected (5.5).
"""

from __future__ import annotations

import math

from ..machine.llvm_text import Lanes
from .common import any_lane, is_single, polynomial
from .logarithm import log
from .rounding import floor, round_

__all__ = ["digamma", "lgamma"]

#: From here on the series is summed.
_LARGE = 8
#: What Stirling's formula adds to (x - 1/2)(log(x) - 1).
_STIRLING = (math.log(2 * math.pi) - 1) / 2


def lgamma(lanes: Lanes, x: str) -> str:
    """The logarithm of the gamma function's magnitude; infinite at its poles.

    Below -1/2 it is -log(a sin(pi a)/pi) - lgamma(a) with a = -x.
    """
    double, x = _widened(lanes, x)
    a = double.abs(x)
    beyond = double.cmp("olt", x, -0.5)
    found = _lgamma(double, double.select(beyond, a, x))
    with lanes.fn.when(any_lane(double, beyond), [(double.type, found)]) as some:
        r, whole = _fraction(double, x)
        sine = double.mul(double.abs(r), polynomial(double, "sinpi", double.mul(r, r)))
        mirrored = double.sub(double.neg(log(double, double.mul(a, sine))), found)
        mirrored = double.select(whole, float("inf"), mirrored)
        some.next = [double.select(beyond, mirrored, found)]
    return _narrowed(lanes, some.values[0])


def digamma(lanes: Lanes, x: str) -> str:
    """The derivative of `lgamma`; NaN at the poles but for zeros, where it is infinite.

    Below 0 it is digamma(1 - x) - pi cot(pi x).
    """
    double, x = _widened(lanes, x)
    beyond = double.cmp("olt", x, 0.0)
    found = _digamma(double, double.select(beyond, double.sub(1.0, x), x))
    with lanes.fn.when(any_lane(double, beyond), [(double.type, found)]) as some:
        r, whole = _fraction(double, x)
        cotangent = double.div(polynomial(double, "cotpi", double.mul(r, r)), r)
        mirrored = double.select(whole, float("nan"), double.sub(found, cotangent))
        some.next = [double.select(beyond, mirrored, found)]
    return _narrowed(lanes, some.values[0])


def _widened(lanes: Lanes, x: str) -> tuple[Lanes, str]:
    double = lanes.like("double")
    return double, double.convert("fpext", x, lanes) if is_single(lanes) else x


def _narrowed(lanes: Lanes, y: str) -> str:
    return lanes.convert("fptrunc", y, lanes.like("double")) if is_single(lanes) else y


def _fraction(lanes: Lanes, x: str) -> tuple[str, str]:
    """x less the nearest whole number, and where x is whole or infinite."""
    r = lanes.sub(x, round_(lanes, x))
    return r, lanes.cmp("ueq", r, 0.0)


def _lgamma(lanes: Lanes, x: str) -> str:
    """For x from -1/2 on; one logarithm serves all numbers.

    With m the whole number nearest to x, t = x - m: lgamma(2 + t) is a polynomial, and the rest
    the logarithm of (x - 1)(x - 2)…(2 + t), or of x or x (x + 1) with the other sign.
    """
    large = lanes.cmp("oge", x, float(_LARGE))
    m = floor(lanes, lanes.add(x, 0.5))
    t = lanes.sub(x, m)
    upwards = lanes.const(1)
    for step in range(1, _LARGE - 1):
        more = lanes.mul(upwards, lanes.sub(x, float(step)))
        upwards = lanes.select(lanes.cmp("ogt", m, step + 1.5), more, upwards)
    single = lanes.cmp("ogt", m, 0.5)
    below = lanes.mul(lanes.abs(x), lanes.select(single, 1.0, lanes.add(x, 1.0)))
    short = lanes.cmp("olt", m, 1.5)
    logarithm = log(lanes, lanes.select(large, x, lanes.select(short, below, upwards)))
    moved = lanes.select(short, lanes.neg(logarithm), logarithm)
    near = lanes.fma(t, polynomial(lanes, "lgamma", t), moved)
    inverse = lanes.div(1.0, x)
    series = polynomial(lanes, "stirling", lanes.mul(inverse, inverse))
    rest = lanes.fma(inverse, series, _STIRLING)
    far = lanes.fma(lanes.sub(x, 0.5), lanes.sub(logarithm, 1.0), rest)
    return lanes.select(large, far, near)


def _digamma(lanes: Lanes, x: str) -> str:
    """For x from 0 on: digamma(x + 8) less 1/x + 1/(x + 1) + … + 1/(x + 7), where x is not
    large; all but the first of these as one quotient."""
    large = lanes.cmp("oge", x, float(_LARGE))
    above, below = lanes.const(1), lanes.add(x, 1.0)
    for step in range(2, _LARGE):
        factor = lanes.add(x, float(step))
        above = lanes.fma(above, factor, below)
        below = lanes.mul(below, factor)
    moved = lanes.select(large, 0.0, lanes.div(above, below))
    first = lanes.select(large, 0.0, lanes.div(1.0, x))
    z = lanes.select(large, x, lanes.add(x, float(_LARGE)))
    inverse = lanes.div(1.0, z)
    square = lanes.mul(inverse, inverse)
    rest = lanes.mul(square, polynomial(lanes, "digamma", square))
    small = lanes.add(lanes.fma(inverse, 0.5, rest), moved)
    return lanes.sub(lanes.sub(log(lanes, z), small), first)
