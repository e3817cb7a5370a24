"""pow, hypot and rsqrt."""

from __future__ import annotations

from ..machine.llvm_text import Lanes
from .common import (
    LN2,
    any_lane,
    at_least,
    at_most,
    is_single,
    polynomial,
    round_scaled,
    scale,
    tabulated,
)  # fmt: skip
from .instructions import exponent, has_scale, significand
from .logarithm import exponent_and_fraction, normalised

__all__ = ["hypot", "pow_", "rsqrt"]

_ROOT_HALF = 0x3FE6A09E667F3BCD
# 1/ln 2 in single precision, in two parts.
_LOG2_E = (1.4426950216293335, 1.925963033500011e-08)
# A single-precision power of two is zero or infinite with this exponent and beyond.
_BEYOND = 151.0
# 2/ln 2 and 2/(3 ln 2), each in two parts: the first terms of log2((1+s)/(1-s)).
_FIRST = (2.8853900817779268, 4.0710547481862066e-17)
_SECOND = (0.9617966939259756, 5.0577616648125907e-17)


def _product(lanes: Lanes, a: str, b: str | float) -> tuple[str, str]:
    """a * b exactly, as high and low part."""
    high = lanes.mul(a, b)
    return high, lanes.fma(a, b, lanes.neg(high))


def _fast_sum(lanes: Lanes, a: str, b: str) -> tuple[str, str]:
    """a + b exactly, for |a| >= |b| or a = 0."""
    high = lanes.add(a, b)
    return high, lanes.sub(b, lanes.sub(high, a))


def _ratio(lanes: Lanes, m: str) -> tuple[str, str]:
    """s = (m - 1)/(m + 1) for m in [sqrt(1/2), sqrt(2)), in two parts."""
    f = lanes.sub(m, 1.0)
    d = lanes.add(m, 1.0)
    d_low = lanes.sub(m, lanes.sub(d, 1.0))
    s = lanes.div(f, d)
    remainder = lanes.fma(lanes.neg(s), d, f)
    remainder = lanes.fma(lanes.neg(s), d_low, remainder)
    return s, lanes.div(remainder, d)


def _log2_pair(lanes: Lanes, x: str) -> tuple[str, str]:
    """log2(x) of a normal x > 0 to about 2**-65, in two parts."""
    e, m, _ = exponent_and_fraction(lanes, x, _ROOT_HALF)
    s, s_low = _ratio(lanes, m)
    t, t_low = _product(lanes, s, s)
    t_low = lanes.fma(lanes.add(s, s), s_low, t_low)
    # c0 + t (c1 + t q), smallest terms first
    q = lanes.mul(polynomial(lanes, "log2_tail", t), t)
    inner, inner_low = _fast_sum(lanes, lanes.const(_SECOND[0]), q)
    inner_low = lanes.add(inner_low, _SECOND[1])
    term, term_low = _product(lanes, inner, t)
    term_low = lanes.fma(inner, t_low, lanes.fma(inner_low, t, term_low))
    total, total_low = _fast_sum(lanes, lanes.const(_FIRST[0]), term)
    total_low = lanes.add(total_low, lanes.add(term_low, _FIRST[1]))
    y, y_low = _product(lanes, total, s)
    y_low = lanes.fma(total, s_low, lanes.fma(total_low, s, y_low))
    high, low = _fast_sum(lanes, e, y)
    return _fast_sum(lanes, high, lanes.add(low, y_low))


def _pow_double(lanes: Lanes, a: str, y: str) -> str:
    """a**y for a >= 0, whose edges are right but for NaN, y = 0 and a = 1."""
    subnormal = lanes.cmp("olt", a, 2.0**-1022)
    normal = lanes.select(subnormal, lanes.mul(a, 2.0**54), a)
    high, low = _log2_pair(lanes, normal)
    high, extra = _fast_sum(lanes, lanes.select(subnormal, -54.0, 0.0), high)
    high, low = _fast_sum(lanes, high, lanes.add(low, extra))
    y = at_least(lanes, at_most(lanes, y, 1e300), -1e300)
    z, z_low = _product(lanes, high, y)
    z_low = lanes.fma(low, y, z_low)
    z = _at_ends(lanes, a, y, z)
    outside = lanes.cmp("ogt", lanes.abs(z), 1100.0)
    z_low = lanes.select(outside, 0.0, z_low)
    z = at_least(lanes, at_most(lanes, z, 1100.0), -1100.0)
    n, bits = round_scaled(lanes, z, 1.0, 2046)
    return scale(lanes, _exp2_pair(lanes, lanes.sub(z, n), z_low), n, bits)


def _exp2_pair(lanes: Lanes, r: str, low: str) -> str:
    """2**(r + low) for |r| <= 1/2, nearly rounded correctly so that exact powers are exact."""
    r, low = _fast_sum(lanes, r, low)
    ln2, ln2_low = LN2[1]
    u, u_low = _product(lanes, r, ln2)
    u_low = lanes.fma(low, ln2, lanes.fma(r, ln2_low, u_low))
    high, rest = _fast_sum(lanes, lanes.const(1.0), u)
    rest = lanes.fma(u_low, high, rest)
    return lanes.add(high, lanes.fma(lanes.mul(u, u), polynomial(lanes, "exp", u), rest))


def _at_ends(lanes: Lanes, a: str, y: str, z: str) -> str:
    """z = log2(a) * y, given for 0 < a < infinity, also where a is 0 or infinite."""
    z = lanes.select(lanes.cmp("oeq", a, float("inf")), lanes.copysign(2000.0, y), z)
    return lanes.select(lanes.cmp("oeq", a, 0.0), lanes.copysign(2000.0, lanes.neg(y)), z)


def _significand(lanes: Lanes, x: str) -> tuple[str, str]:
    """e (a float) and m in [1, 2) of x = 2**e m > 0; an infinity may come out as 2**128."""
    if has_scale(lanes):
        return exponent(lanes, x), significand(lanes, x, 1.0)
    normal, offset = normalised(lanes, x)
    e, m, _ = exponent_and_fraction(lanes, normal, 127 << 23)
    return lanes.add(e, offset), m


def _log2_short(lanes: Lanes, x: str) -> tuple[str, str]:
    """log2(x) of x > 0 in single precision, in two parts with an error of about 2**-30.

    x = 2**e m and r = m c - 1, which is exact, with c = 1/m to five bits from a table:
    log2(x) = e - log2(c) + r (1 - r/2)/ln 2 + r**3 q(r), the third term in two parts as well.
    """
    integers = lanes.integers
    e, m = _significand(lanes, x)
    index = integers.binary("lshr", lanes.bits_of(m), 18)
    c, table, table_low = tabulated(lanes, "log2", index)
    r = lanes.fma(m, c, -1.0)
    e = lanes.add(e, table)  # exact: the table's numbers have 16 bits behind the point
    first, first_low = _LOG2_E
    slope = lanes.fma(r, -first / 2, first)
    slope_low = lanes.fma(r, -first / 2, lanes.sub(first, slope))
    high = lanes.fma(r, slope, e)
    low = lanes.add(lanes.fma(r, slope, lanes.sub(e, high)), table_low)
    rest = lanes.fma(lanes.mul(r, r), polynomial(lanes, "log2_rest", r), first_low)
    return high, lanes.fma(r, lanes.add(rest, slope_low), low)


def _pow_single(lanes: Lanes, x: str, y: str) -> str:
    """x**y = 2**n 2**r with n + r = y log2|x|: what only unusual lanes need is skipped where
    there are none."""
    usual = lanes.cmp("ogt", x, 0.0)
    if not has_scale(lanes):
        usual = lanes.mask_op("and", usual, lanes.cmp("olt", x, float("inf")))
    high, low = _log2_short(lanes, lanes.abs(x))
    n, bits = round_scaled(lanes, high, y, 2 * 127)
    usual = lanes.mask_op("and", usual, lanes.cmp("olt", lanes.abs(n), _BEYOND))
    r = lanes.fma(y, low, lanes.fma(y, high, lanes.neg(n)))
    p = lanes.fma(polynomial(lanes, "exp2", r), r, 1.0)
    result = scale(lanes, p, n, bits)
    unusual = any_lane(lanes, lanes.mask_op("xor", usual, lanes.like("i1").const(1)))
    with lanes.fn.when(unusual, [(lanes.type, result)]) as repair:
        repair.next = [_special_powers(lanes, x, y, _power_of_end(lanes, x, y, n, result))]
    return repair.values[0]


def _power_of_end(lanes: Lanes, x: str, y: str, n: str, result: str) -> str:
    """`result`, or |x|**y where it overflows or vanishes: n, its logarithm, is large or NaN."""
    a = lanes.abs(x)
    end = lanes.cmp("uge", lanes.abs(n), _BEYOND)
    end = lanes.mask_op("or", end, lanes.cmp("oeq", a, float("inf")))
    end = lanes.mask_op("or", end, lanes.cmp("oeq", a, 0.0))
    grows = lanes.mask_op("xor", lanes.cmp("ogt", a, 1.0), lanes.cmp("olt", y, 0.0))
    result = lanes.select(end, lanes.select(grows, float("inf"), 0.0), result)
    return lanes.select(lanes.cmp("oeq", a, 1.0), 1.0, result)


def _special_powers(lanes: Lanes, x: str, y: str, magnitude: str) -> str:
    """x**y from |x|**y: the signs and special cases of IEEE 754."""
    half = lanes.mul(y, 0.5)
    integral = lanes.cmp("oeq", lanes.intrinsic("trunc", y), y)
    odd = lanes.mask_op("and", integral, lanes.cmp("one", lanes.intrinsic("trunc", half), half))
    result = lanes.select(odd, lanes.copysign(magnitude, x), magnitude)
    finite = lanes.cmp("one", lanes.abs(x), float("inf"))
    invalid = lanes.mask_op("and", lanes.cmp("olt", x, 0.0), finite)
    fractional = lanes.mask_op("xor", integral, lanes.like("i1").const(1))
    invalid = lanes.mask_op("and", invalid, fractional)
    invalid = lanes.mask_op("or", invalid, lanes.cmp("uno", x, y))
    result = lanes.select(invalid, float("nan"), result)
    one = lanes.mask_op("or", lanes.cmp("oeq", y, 0.0), lanes.cmp("oeq", x, 1.0))
    return lanes.select(one, 1.0, result)


def pow_(lanes: Lanes, x: str, y: str) -> str:
    """x**y with the special cases of IEEE 754: x**0 = 1**y = 1 even for NaN."""
    if is_single(lanes):
        return _pow_single(lanes, x, y)
    return _special_powers(lanes, x, y, _pow_double(lanes, lanes.abs(x), y))


def hypot(lanes: Lanes, x: str, y: str) -> str:
    """sqrt(x*x + y*y) without overflow on the way; infinity even beside NaN."""
    a, b = lanes.abs(x), lanes.abs(y)
    if is_single(lanes):
        double = lanes.like("double")
        wide, other = double.convert("fpext", a, lanes), double.convert("fpext", b, lanes)
        squares = double.fma(wide, wide, double.mul(other, other))
        result = lanes.convert("fptrunc", double.intrinsic("sqrt", squares), double)
    else:
        largest = at_least(lanes, a, b)
        factor = lanes.select(lanes.cmp("olt", largest, 2.0**-400), 2.0**600, 1.0)
        factor = lanes.select(lanes.cmp("ogt", largest, 2.0**400), 2.0**-600, factor)
        a, b = lanes.mul(a, factor), lanes.mul(b, factor)
        root = lanes.intrinsic("sqrt", lanes.fma(a, a, lanes.mul(b, b)))
        result = lanes.div(root, factor)
    infinite = lanes.mask_op(
        "or",
        lanes.cmp("oeq", lanes.abs(x), float("inf")),
        lanes.cmp("oeq", lanes.abs(y), float("inf")),
    )
    return lanes.select(infinite, float("inf"), result)


def rsqrt(lanes: Lanes, x: str) -> str:
    """1/sqrt(x), infinite with the sign of a zero."""
    return lanes.div(1.0, lanes.intrinsic("sqrt", x))
