"""Special functions: the gamma function's logarithm and its derivatives, the inverse of erf,
greatest common divisors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from .. import dtypes
from ..op import ErrorSample
from ..types import TensorType
from .pointwise import declare, from_math
from .unary import TWO_OVER_SQRT_PI

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

_RARE = "no polynomial is fitted to it"


# -- the gamma function -------------------------------------------------------------------
#: B_2k / (2k)!, the terms of the Euler-Maclaurin formula.
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000,
)  # fmt: skip
_GREATEST = np.finfo(np.float64).max
_SHIFT = 16  # from there on eight terms are exact to the last bits of a double


def _hurwitz_zeta(s: int, x: np.ndarray) -> np.ndarray:
    """The sum of (x + k)^-s over k from 0 on, for s above 1 and positive x."""
    total = np.zeros_like(x)
    for k in range(_SHIFT):
        total += (x + k) ** -s
    y = x + _SHIFT
    total += y ** (1 - s) / (s - 1) + 0.5 * y**-s
    rising = float(s)
    for k, term in enumerate(_BERNOULLI):
        total += term * rising * y ** -(s + 2 * k + 1)
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
    return total


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # at the poles, and beyond the greatest number
        return math.inf


_plain_lgamma = from_math(_lgamma)


def _lgamma_reference(x: np.ndarray) -> np.ndarray:
    """Python's, which beside the zeros at 1 and 2 is exact to a bit of 1 only: there by the
    series at 2 (NIST Handbook of Mathematical Functions, 5.7.3)."""
    first, second = np.abs(x - 1) <= 0.5, np.abs(x - 2) < 0.5
    t = np.where(first, x - 1, np.where(second, x - 2, 0.0))
    orders = np.arange(2, 30)
    terms = [_hurwitz_zeta(int(k), np.array(2.0)) / k * (-1) ** int(k) for k in orders]
    series = np.polynomial.polynomial.polyval(t, [0.0, 1 - np.euler_gamma, *terms])
    near = np.where(first, series - np.log1p(t), series)
    return np.where(first | second, near, _plain_lgamma(x))


declare(
    "lgamma", _lgamma_reference, "The logarithm of the gamma function's magnitude.",
    promote="float", kinds="f", low=0.2, high=9.0, ulp=8, cost=40.0,
    gradient=lambda b, g, node: [b.mul(g, b.digamma(node.inputs[0]))],
)  # fmt: skip


def _digamma_positive(x: np.ndarray) -> np.ndarray:
    total = np.zeros_like(x)
    for k in range(_SHIFT):
        total -= 1 / (x + k)
    y = x + _SHIFT
    total += np.log(y) - 0.5 / y
    for k, term in enumerate(_BERNOULLI):
        total -= term * math.factorial(2 * k + 1) * y ** -(2 * k + 2)
    return total


def _cotangent_derivative(n: int, x: np.ndarray) -> np.ndarray:
    """The n-th derivative of π cot(πx): a polynomial in the cotangent, times π^(n + 1)."""
    cotangent = 1 / np.tan(np.pi * (x - np.round(x)))
    cotangent = np.clip(cotangent, -_GREATEST, _GREATEST)  # 0 times infinity is no number
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([-1.0, 0.0, -1.0])
    return np.pi ** (n + 1) * polynomial(cotangent)


def _polygamma_reference(x: np.ndarray, *, n: int) -> np.ndarray:
    """By recurrence and the Euler-Maclaurin formula; below 0 by reflection."""
    left = x < 0
    place = np.where(left, 1 - x, x)
    sign = -1.0 if n % 2 == 0 else 1.0
    if n == 0:
        found = _digamma_positive(place)
        at_infinity = np.inf
    else:
        found = sign * math.factorial(n) * _hurwitz_zeta(n + 1, place)
        at_infinity = sign * 0.0
    found = np.where(place == np.inf, at_infinity, found)
    mirrored = -sign * found - _cotangent_derivative(n, x)
    found = np.where(left, mirrored, found)
    if n % 2:  # at the poles both sides go the same way
        return np.where((x <= 0) & (x == np.floor(x)), np.inf, found)
    found = np.where(x == 0, np.copysign(np.inf, -x), found)
    return np.where(left & (x == np.floor(x)), np.nan, found)


def _prepare_polygamma(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    n = attrs["n"]
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError(f"polygamma: n is {n!r}", remedy="give an int of 0 or more")
    return {"n": n}


def _polygamma_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.mul(g, b.polygamma(node.inputs[0], n=node.attrs["n"] + 1))]


declare(
    "digamma", lambda x: _polygamma_reference(x, n=0),
    "The derivative of the logarithm of the gamma function.",
    promote="float", kinds="f", low=0.2, high=9.0, lattice=None, ulp=8, cost=40.0,
    gradient=lambda b, g, node: [b.mul(g, b.polygamma(node.inputs[0], n=1))],
)  # fmt: skip
declare(
    "polygamma", _polygamma_reference,
    "The derivative of order n + 1 of the logarithm of the gamma function; digamma for n = 0.",
    attrs={"n": 0}, prepare=_prepare_polygamma, promote="float", kinds="f", low=0.2, high=9.0,
    variants=({"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}), lattice=None, ulp=8, cost=60.0,
    unsupported=_RARE, gradient=_polygamma_gradient,
    errors=[ErrorSample((TensorType(dtypes.float32, (3,)),), {"n": -1}, ArgumentError, "0 or")],
)  # fmt: skip


# -- the inverse of erf -------------------------------------------------------------------
def _erfinv_start(x: np.ndarray) -> np.ndarray:
    """S. Winitzki: A handy approximation for the error function and its inverse. 2008."""
    a = 0.147
    half = np.log1p(-x * x) / 2
    middle = 2 / (np.pi * a) + half
    return np.copysign(np.sqrt(np.sqrt(middle * middle - 2 * half / a) - middle), x)


_erf, _erfc = from_math(math.erf), from_math(math.erfc)


def _erfinv_reference(x: np.ndarray) -> np.ndarray:
    """Halley's steps from an estimate, by whichever of erf and erfc keeps its digits."""
    inner = np.where(np.abs(x) < 1, x, 0.0)
    size = np.abs(inner)
    y = np.abs(_erfinv_start(inner))
    rest = 1 - size  # exact from a half on
    for _ in range(3):
        off = np.where(size < 0.5, _erf(y) - size, rest - _erfc(y))
        step = off / (TWO_OVER_SQRT_PI * np.exp(-y * y))
        y = y - step / (1 + y * step)
    found = np.copysign(y, x)
    found = np.where(np.abs(x) == 1, np.copysign(np.inf, x), found)
    return np.where((np.abs(x) > 1) | np.isnan(x), np.nan, found)


declare(
    "erfinv", _erfinv_reference, "The inverse of erf; NaN outside [-1, 1].",
    promote="float", kinds="f", low=-0.95, high=0.95, ulp=8, cost=20.0,
    gradient=lambda b, g, node: [b.div(b.mul(g, b.exp(b.mul(node, node))), TWO_OVER_SQRT_PI)],
)  # fmt: skip


# -- integers -------------------------------------------------------------------------------
_EUCLID: dict[str, Any] = {
    "arity": 2, "kinds": "iu", "cost": 40.0,
    "unsupported": "the steps of Euclid's algorithm are as many as data decides",
}  # fmt: skip


def _lcm_expand(b: Builder, x: Node, y: Node) -> Node:
    divisor = b.gcd(x, y)
    return b.abs(b.mul(b.floor_divide(x, b.where(b.eq(divisor, 0), 1, divisor)), y))


def _lcm_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    divisor = np.gcd(x, y)
    return np.abs(x // np.where(divisor == 0, 1, divisor) * y)  # what does not fit wraps


declare("gcd", np.gcd, "The greatest common divisor, not negative; of two zeros 0.", **_EUCLID)
declare("lcm", _lcm_reference, "The least common multiple, not negative; 0 beside a zero.",
        expand=_lcm_expand, **{**_EUCLID, "unsupported": ""})  # fmt: skip
