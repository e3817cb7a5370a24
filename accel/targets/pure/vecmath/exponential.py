"""exp and its relatives: exp2, expm1, sinh, cosh, tanh, sigmoid, gelu by tanh.

x = n ln 2 + r with |r| <= ln 2 / 2, and exp(x) = 2**n (1 + r + r*r*q(r)). Where registers hold
tables, n is a multiple of 1/16: half as many terms do, and a table has the powers of two between
the whole ones (P. T. P. Tang: Table-driven implementation of the exponential function in IEEE
floating-point arithmetic. ACM TOMS 15, 1989).
"""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .coefficients import TANH_OFFSET
from .common import (
    LN2,
    LOG2E,
    at_least,
    at_most,
    chain,
    horner,
    is_single,
    mantissa_bits,
    pick,
    polynomial,
    power_of_two,
    round_scaled,
    scale,
    tabulated,
)
from .instructions import has_tables

__all__ = [
    "cosh", "exp", "exp2", "exp_parts", "expm1", "gelu_tanh", "lowered",
    "raised_exp", "sigmoid", "sinh", "tanh", "vanishing_exp2",
]  # fmt: skip

# Binary orders by which small exponentials are kept above the subnormals, their inverse, and
# -(RAISE + exponent bias) ln 2, where the raised power of two has the bits of zero.
RAISE = (32, 64)
_LOWER = (2.0**-32, 2.0**-64)
LOWEST = (-110.2104, -753.450985)


def _bias(lanes: Lanes) -> int:
    """The exponent bias."""
    return pick(lanes, 127, 1023)


def _reduced(lanes: Lanes, x: str, n: str) -> str:
    """x - n ln 2."""
    high, low = pick(lanes, *LN2)
    return lanes.fma(n, -low, lanes.fma(n, -high, x))


def _minus_one(lanes: Lanes, r: str) -> str:
    """exp(r) - 1 for a reduced r."""
    return lanes.fma(lanes.mul(r, r), polynomial(lanes, "exp", r), r)


def _power(lanes: Lanes, r: str, entry: str | None = None) -> str:
    """2**r for |r| <= 1/2, or times an entry of a table for |r| <= 1/32."""
    if entry is not None:
        return lanes.fma(lanes.mul(entry, r), horner(lanes, "exp2_near", r), entry)
    evaluate = horner if is_single(lanes) else polynomial
    return lanes.fma(evaluate(lanes, "exp2", r), r, 1.0)


def _rounded(lanes: Lanes, x: str, factor: float, bias: int) -> tuple[str, str, str | None]:
    """(n, the bits of floor(n) + bias, the table's entry for n - floor(n)) of x * factor rounded
    to n: to a multiple of 1/16, or to an integer where there are no tables."""
    if not has_tables(lanes):
        return *round_scaled(lanes, x, factor, bias), None
    n, bits = round_scaled(lanes, x, factor, bias, 16)
    (entry,) = tabulated(lanes, "exp2", bits)
    return n, lanes.integers.binary("lshr", bits, 4), entry


def _rest(lanes: Lanes, x: str, n: str, entry: str | None = None) -> str:
    """exp(x - n ln 2), times the entry: in single precision 2**(x log2 e - n), by a shorter
    polynomial."""
    if is_single(lanes):
        high, low = LOG2E[0]
        r = lanes.fma(x, low, lanes.fma(x, high, lanes.neg(n)))
        return _power(lanes, r, entry)
    return lanes.add(_minus_one(lanes, _reduced(lanes, x, n)), 1.0)


def exp_parts(
    lanes: Lanes, x: str, low: str | None = None, shift: int = 0
) -> tuple[str, str, str]:
    """exp(x + low) * 2**shift as (p, n, bits) for :func:`common.scale`; x must be clamped."""
    n, bits = round_scaled(lanes, x, LOG2E[1][0], 2 * _bias(lanes) + shift)
    if low is None:
        p = _rest(lanes, x, n)
    else:
        p = lanes.add(_minus_one(lanes, lanes.add(_reduced(lanes, x, n), low)), 1.0)
    return p, lanes.add(n, shift) if shift else n, bits


def exp(lanes: Lanes, x: str) -> str:
    """e**x."""
    x = at_most(lanes, x, pick(lanes, 89.0, 710.0))
    x = at_least(lanes, x, pick(lanes, -104.0, -746.0))
    n, bits, entry = _rounded(lanes, x, LOG2E[1][0], 2 * _bias(lanes))
    return scale(lanes, _rest(lanes, x, n, entry), n, bits)


def exp2(lanes: Lanes, x: str) -> str:
    """2**x, exact for integers."""
    x = at_most(lanes, x, pick(lanes, 129.0, 1025.0))
    x = at_least(lanes, x, pick(lanes, -151.0, -1076.0))
    n, bits, entry = _rounded(lanes, x, 1.0, 2 * _bias(lanes))
    return scale(lanes, _power(lanes, lanes.sub(x, n), entry), n, bits)


def expm1(lanes: Lanes, x: str) -> str:
    """exp(x) - 1 with all its digits near zero."""
    clamped = at_least(
        lanes, at_most(lanes, x, pick(lanes, 88.8, 709.9)), pick(lanes, -18.0, -38.0)
    )
    n, bits = round_scaled(lanes, clamped, LOG2E[1][0], _bias(lanes) - 1)
    em1 = _minus_one(lanes, _reduced(lanes, clamped, n))
    half = power_of_two(lanes, bits)  # 2**(n - 1): 2**n itself may overflow
    scaled = lanes.fma(half, em1, lanes.sub(half, 0.5))
    result = lanes.select(lanes.cmp("oeq", n, 0.0), em1, lanes.add(scaled, scaled))
    return lanes.copysign(result, x)


def _half_exp(lanes: Lanes, magnitude: str) -> str:
    """exp(magnitude) / 2, which reaches the largest number where sinh and cosh do."""
    return scale(
        lanes, *exp_parts(lanes, at_most(lanes, magnitude, pick(lanes, 90.0, 711.0)), shift=-1)
    )


def sinh(lanes: Lanes, x: str) -> str:
    """(exp(x) - exp(-x))/2, by an odd polynomial below 1."""
    magnitude = lanes.abs(x)
    half = _half_exp(lanes, magnitude)
    big = lanes.sub(half, lanes.div(0.25, half))
    square = lanes.mul(x, x)
    small = lanes.fma(lanes.mul(x, square), polynomial(lanes, "sinh", square), x)
    return lanes.select(lanes.cmp("olt", magnitude, 1.0), small, lanes.copysign(big, x))


def cosh(lanes: Lanes, x: str) -> str:
    """(exp(x) + exp(-x))/2."""
    half = _half_exp(lanes, lanes.abs(x))
    return lanes.add(half, lanes.div(0.25, half))


def tanh(lanes: Lanes, x: str) -> str:
    """(e - 1)/(e + 1) with e = exp(2|x|), from e - 1 so that small x keep their digits."""
    if has_tables(lanes):
        return _tanh_tabulated(lanes, x)
    magnitude = at_most(lanes, lanes.abs(x), pick(lanes, 9.5, 20.0))
    twice = lanes.add(magnitude, magnitude)
    n, bits = round_scaled(lanes, twice, LOG2E[1][0], _bias(lanes))
    power = power_of_two(lanes, bits)
    em1 = lanes.fma(power, _minus_one(lanes, _reduced(lanes, twice, n)), lanes.sub(power, 1.0))
    return lanes.copysign(lanes.div(em1, lanes.add(em1, 2.0)), x)


def _tanh_tabulated(lanes: Lanes, x: str) -> str:
    """By the polynomial of one of 16 intervals of |x|, 1 beyond.

    The first bits of |x| + TANH_OFFSET tell which, so that intervals are the longer the farther
    they are from 0. The first one's polynomial is odd.
    """
    magnitude = at_most(lanes, lanes.abs(x), 9.02)
    bits = lanes.bits_of(lanes.add(magnitude, TANH_OFFSET))
    index = lanes.integers.binary("lshr", bits, mantissa_bits(lanes) - 2)
    middle, constant, *rest = tabulated(lanes, "tanh", index)
    slope = lanes.fma(lanes.neg(constant), constant, 1.0)
    y = chain(lanes, [constant, slope, *rest], lanes.sub(magnitude, middle))
    return lanes.copysign(y, x)


def vanishing_exp2(lanes: Lanes, x: str) -> str:
    """2**x for x <= 0; zero where that would be less than a normal number."""
    bias = _bias(lanes)
    x = at_least(lanes, x, float(-bias))
    n, bits, entry = _rounded(lanes, x, 1.0, bias)
    return lanes.mul(_power(lanes, lanes.sub(x, n), entry), power_of_two(lanes, bits))


def raised_exp(lanes: Lanes, x: str, low: str, factor: float = 1.0) -> str:
    """exp(x + factor * low) * 2**RAISE for LOWEST <= x <= 0: normal, or zero at LOWEST.

    What follows may so multiply and divide without rounding in the subnormals before
    :func:`lowered` brings the result down; at LOWEST that is zero in any case.
    """
    n, bits = round_scaled(lanes, x, LOG2E[1][0], _bias(lanes) + pick(lanes, *RAISE))
    r = _reduced(lanes, x, n)
    r = lanes.add(r, low) if factor == 1.0 else lanes.fma(low, factor, r)
    return lanes.mul(lanes.add(_minus_one(lanes, r), 1.0), power_of_two(lanes, bits))


def lowered(lanes: Lanes, y: str, where: str) -> str:
    """y, times 2**-RAISE in the lanes of the mask."""
    return lanes.mul(y, lanes.select(where, pick(lanes, *_LOWER), 1.0))


def _logistic(lanes: Lanes, x: str, raised: str, factor: str) -> str:
    """e/(1 + e) where x < 0, else 1/(1 + e), times `factor`, from e raised by 2**RAISE."""
    negative = lanes.cmp("olt", x, 0.0)
    denominator = lanes.fma(raised, pick(lanes, *_LOWER), 1.0)
    quotient = lanes.div(lanes.select(negative, raised, 1.0), denominator)
    return lowered(lanes, lanes.mul(factor, quotient), negative)


def sigmoid(lanes: Lanes, x: str) -> str:
    """1/(1 + exp(-x)) as 2**n/(2**n + exp(n ln 2 - x)), whose tail only the quotient rounds.

    Both are raised, so that 2**n is a normal number. The sum and the quotient round besides: an
    entry of a table, rounded as well, would be too much.
    """
    x = at_least(lanes, at_most(lanes, x, pick(lanes, 20.0, 40.0)), pick(lanes, -104.9, -746.9))
    raised = pick(lanes, *RAISE)
    n, bits = round_scaled(lanes, x, LOG2E[1][0], _bias(lanes) + raised)
    power = power_of_two(lanes, bits)
    rest = _rest(lanes, lanes.neg(x), lanes.neg(n))
    return lanes.div(power, lanes.fma(rest, 2.0**raised, power))


def gelu_tanh(lanes: Lanes, x: str) -> str:
    """x/2 (1 + tanh(u)) = x sigmoid(2u), 2u = x (c0 + c1 x*x).

    2u reaches a hundred where the result is still a number, so it is carried in two parts.
    """
    a = at_most(lanes, lanes.abs(x), pick(lanes, 10.915148, 21.598918))  # 2u = LOWEST
    c0, c0_low = pick(
        lanes,
        (-1.5957691669464111, 4.534068054340423e-08),
        (-1.5957691216057308, 9.96930880911092e-17),
    )
    c1, c1_low = pick(
        lanes,
        (-0.07135481387376785, -2.3988324659995897e-09),
        (-0.07135481627260025, 6.175149918155315e-19),
    )
    square = lanes.mul(a, a)
    square_low = lanes.fma(a, a, lanes.neg(square))
    term = lanes.mul(square, c1)
    term_low = lanes.fma(square, c1, lanes.neg(term))
    total = lanes.add(term, c0)
    back = lanes.sub(total, c0)  # two-sum: either term may be the larger
    total_low = lanes.add(lanes.sub(term, back), lanes.sub(c0, lanes.sub(total, back)))
    total_low = lanes.add(total_low, lanes.add(term_low, c0_low))
    total_low = lanes.fma(square, c1_low, lanes.fma(square_low, c1, total_low))
    u = lanes.mul(a, total)
    u_low = lanes.fma(a, total_low, lanes.fma(a, total, lanes.neg(u)))
    return _logistic(lanes, x, raised_exp(lanes, u, u_low), x)
