"""The pieces that every function of the vector math is made of.

A function is written once and serves both element types and every width: it asks
:func:`pick` for its constants and :func:`polynomial` for its coefficients. All of it is
lane-wise, so a scalar tail has the bits of the vector body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..machine.llvm_text import Lanes
from .coefficients import DOUBLE, SINGLE, TABLES
from .instructions import has_scale, looked_up, scaled

__all__ = [
    "HALF_PI", "LN2", "LOG2E", "any_lane", "at_least", "at_most", "chain", "fitted", "horner",
    "is_single", "mantissa_bits", "paired", "pick", "polynomial", "power_of_two", "round_scaled",
    "scale", "scale_by_bits", "tabulated",
]  # fmt: skip

T = TypeVar("T")

# (high, low) part of a constant in single and in double precision.
LN2 = (
    (0.6931471824645996, -1.9046542121259336e-09),
    (0.6931471805599453, 2.3190468138462996e-17),
)
LOG2E = (
    (1.4426950216293335, 1.925963033500011e-08),
    (1.4426950408889634, 2.0355273740931033e-17),
)
HALF_PI = (
    (1.5707963705062866, -4.371138828673793e-08),
    (1.5707963267948966, 6.123233995736766e-17),
)

# Horner's rule has the fewest operations: below this many terms it is as fast.
_PAIRED_TERMS = 5


def is_single(lanes: Lanes) -> bool:
    return lanes.element == "float"


def pick(lanes: Lanes, single: T, double: T) -> T:
    """The constant for these lanes' precision."""
    return single if lanes.element == "float" else double


def mantissa_bits(lanes: Lanes) -> int:
    """Stored bits of the significand."""
    return pick(lanes, 23, 52)


def polynomial(lanes: Lanes, name: str, x: str) -> str:
    """The fitted polynomial `name` at `x`, a fused multiply-add per term.

    Of many terms, those behind the constant are taken in pairs: half as many operations wait for
    each other as by Horner's rule. The constant comes last, and the result is rounded as well.
    """
    coefficients = fitted(lanes, name)
    if len(coefficients) < _PAIRED_TERMS:
        return _horner(lanes, coefficients, x)
    first, *rest = coefficients
    square = lanes.mul(x, x)
    result, *pairs = [_horner(lanes, rest[i : i + 2], x) for i in range(0, len(rest), 2)][::-1]
    for pair in pairs:
        result = lanes.fma(result, square, pair)
    return lanes.fma(result, x, first)


def horner(lanes: Lanes, name: str, x: str) -> str:
    """:func:`polynomial` in one chain: no x*x, where much other work is under way."""
    return _horner(lanes, fitted(lanes, name), x)


def paired(lanes: Lanes, name: str, x: str, square: str) -> str:
    """:func:`polynomial` in two chains over a given x*x.

    Half the chain is half the rounding errors, and in a quotient of two such polynomials
    the error of `square` cancels.
    """
    coefficients = fitted(lanes, name)
    even = _horner(lanes, coefficients[0::2], square)
    return lanes.fma(_horner(lanes, coefficients[1::2], square), x, even)


def tabulated(lanes: Lanes, name: str, index: str) -> list[str]:
    """The columns of a table of single precision at the low bits of integer lanes."""
    return [
        looked_up(lanes, f"math.{name}.{k}", column, index)
        for k, column in enumerate(TABLES[name])
    ]


def fitted(lanes: Lanes, name: str) -> tuple[float, ...]:
    return (SINGLE if is_single(lanes) else DOUBLE)[name]


def _horner(lanes: Lanes, coefficients: Sequence[float], x: str) -> str:
    return chain(lanes, [lanes.const(coefficient) for coefficient in coefficients], x)


def chain(lanes: Lanes, coefficients: Sequence[str], x: str) -> str:
    """The polynomial at `x` of coefficients that are lanes, by Horner's rule."""
    *others, result = coefficients
    for coefficient in reversed(others):
        result = lanes.fma(result, x, coefficient)
    return result


def at_most(lanes: Lanes, x: str, bound: str | float) -> str:
    """min(bound, x); NaN stays NaN. One instruction on x86."""
    return lanes.select(lanes.cmp("olt", bound, x), bound, x)


def at_least(lanes: Lanes, x: str, bound: str | float) -> str:
    """max(bound, x); NaN stays NaN."""
    return lanes.select(lanes.cmp("ogt", bound, x), bound, x)


def any_lane(lanes: Lanes, mask: str) -> str:
    """An i1: does `mask` hold in any lane?"""
    if lanes.width == 1:
        return mask
    return lanes.fn.call("i1", f"llvm.vector.reduce.or.v{lanes.width}i1", (lanes.mask_type, mask))


def round_scaled(
    lanes: Lanes, x: str, factor: str | float, bias: int, parts: int = 1
) -> tuple[str, str]:
    """Round x * factor to the nearest integer n; returns n and the bits of n + bias.

    With `parts`, a power of two, n is a multiple of 1/parts, and the bits are those of parts
    times the sum. Adding 1.5 * 2**(mantissa bits) leaves the integer in the low bits of the sum.
    NaN gives NaN and some bits, where a conversion to an integer would be poison.
    """
    magic = pick(lanes, 12582912.0, 6755399441055744.0) / parts + bias
    shifted = lanes.fma(x, factor, magic)
    return lanes.sub(shifted, magic), lanes.bits_of(shifted)


def power_of_two(lanes: Lanes, biased: str) -> str:
    """2**n from the integer bits of n + exponent bias, for results that are normal numbers."""
    return lanes.from_bits(lanes.integers.binary("shl", biased, mantissa_bits(lanes)))


def scale(lanes: Lanes, x: str, n: str, biased: str) -> str:
    """x * 2**floor(n), rounded once, from n, a float, and the bits of floor(n) + twice the
    exponent bias."""
    return scaled(lanes, x, n) if has_scale(lanes) else scale_by_bits(lanes, x, biased)


def scale_by_bits(lanes: Lanes, x: str, biased: str) -> str:
    """x * 2**n from the bits of n + twice the exponent bias.

    Two factors, each normal, so that results may overflow to infinity or be rounded once
    into the subnormals.
    """
    integers = lanes.integers
    half = integers.binary("lshr", biased, 1)
    rest = integers.sub(biased, half)
    return lanes.mul(lanes.mul(x, power_of_two(lanes, half)), power_of_two(lanes, rest))
