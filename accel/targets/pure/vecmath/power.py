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
    scale_by_bits,
)  # fmt: skip
from .logarithm import exponent_and_fraction

__all__ = ["hypot", "pow_", "rsqrt"]

_ROOT_HALF = 0x3FE6A09E667F3BCD
# 2**(-1/8) in single precision: mantissas lie in [2**(-1/8), 2**(7/8)).
_SINGLE_PIVOT = 0x3F6AC0C7
# Upper bounds of mantissas, k/4, and 2**(-k/4): what is left lies within 2**(1/8) of 1.
_FOURTHS = tuple([(2.0 ** ((2 * k + 1) / 8), k / 4, 2.0 ** (-k / 4)) for k in range(4)])
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


def _fourths(lanes: Lanes, m: str) -> tuple[str, str]:
    """k/4 and, in double precision, 2**(-k/4) for the k that brings m closest to 1."""
    double = lanes.like("double")
    fourth, factor = lanes.const(_FOURTHS[-1][1]), double.const(_FOURTHS[-1][2])
    for bound, k, inverse in reversed(_FOURTHS[:-1]):
        below = lanes.cmp("olt", m, bound)
        fourth, factor = lanes.select(below, k, fourth), double.select(below, inverse, factor)
    return fourth, factor


def _pow_core(lanes: Lanes, a: str, offset: str, y: str) -> str:
    """(a * 2**offset)**y for a normal a > 0, in single precision.

    The logarithm needs eight more bits than the result has, and takes them from double precision.
    """
    double = lanes.like("double")
    e, m, _ = exponent_and_fraction(lanes, a, _SINGLE_PIVOT)
    fourth, factor = _fourths(lanes, m)
    e = lanes.add(lanes.add(e, offset), fourth)
    wide_e, wide_m, wide_y = (double.convert("fpext", v, lanes) for v in (e, m, y))
    r = double.fma(wide_m, factor, -1.0)
    log2 = double.fma(polynomial(double, "log2_short", r), r, wide_e)
    z = at_least(double, at_most(double, double.mul(log2, wide_y), 129.0), -151.0)
    n, bits = round_scaled(double, z, 1.0, 2 * 127)
    r = lanes.convert("fptrunc", double.sub(z, n), double)
    p = lanes.fma(polynomial(lanes, "exp2", r), r, 1.0)
    return scale_by_bits(lanes, p, lanes.integers.convert("trunc", bits, double.integers))


def _pow_single(lanes: Lanes, x: str, y: str) -> str:
    """x**y: what only unusual lanes need is skipped where there are none."""
    fn = lanes.fn
    usual = lanes.mask_op("and", lanes.cmp("oge", x, 2.0**-126), lanes.cmp("olt", x, float("inf")))
    usual = lanes.mask_op("and", usual, lanes.cmp("olt", lanes.abs(y), float("inf")))
    unusual = any_lane(lanes, lanes.mask_op("xor", usual, lanes.like("i1").const(1)))
    start, prepare, core = fn.block_name, fn.label("unusual"), fn.label("power")
    fn.cond_br(unusual, prepare, core)
    fn.block(prepare)
    a = lanes.abs(x)
    subnormal = lanes.cmp("olt", a, 2.0**-126)
    scaled = lanes.select(subnormal, lanes.mul(a, 2.0**24), a)
    offset = lanes.select(subnormal, -24.0, 0.0)
    prepared = fn.block_name
    fn.br(core)
    fn.block(core)
    a = fn.phi(lanes.type, (x, start), (scaled, prepared))
    offset = fn.phi(lanes.type, (lanes.const(0.0), start), (offset, prepared))
    result = _pow_core(lanes, a, offset, y)
    computed, repair, done = fn.block_name, fn.label("repair"), fn.label("powered")
    fn.cond_br(unusual, repair, done)
    fn.block(repair)
    repaired = _special_powers(lanes, x, y, _power_of_end(lanes, x, y, result))
    last = fn.block_name
    fn.br(done)
    fn.block(done)
    return fn.phi(lanes.type, (result, computed), (repaired, last))


def _power_of_end(lanes: Lanes, x: str, y: str, result: str) -> str:
    """`result`, or |x|**y where |x| is zero, one or infinite."""
    a = lanes.abs(x)
    infinite = lanes.cmp("oeq", a, float("inf"))
    end = lanes.mask_op("or", infinite, lanes.cmp("oeq", x, 0.0))
    grows = lanes.mask_op("xor", infinite, lanes.cmp("olt", y, 0.0))
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
