"""Element-wise functions composed of others, and of functions of rare use."""

from __future__ import annotations

import math
from typing import Any

from ...errors import DTypeError
from ...ir import dtypes
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .elementwise import clip, function_of

__all__ = [
    "clamp_max", "clamp_min", "digamma", "erfinv", "float_power", "frac", "gcd", "isneginf",
    "isposinf", "lcm", "ldexp", "lgamma", "logaddexp2", "mvlgamma", "polygamma", "rsub",
]  # fmt: skip

erfinv = function_of("erfinv")
gcd = function_of("gcd")
lcm = function_of("lcm")
lgamma = function_of("lgamma")


@public
def clamp_min(x: Any, min: Any) -> Tensor:
    """The elements, not below `min`."""
    return clip(x, min=min)


@public
def clamp_max(x: Any, max: Any) -> Tensor:
    """The elements, not above `max`."""
    return clip(x, max=max)


@public
def frac(x: Any) -> Tensor:
    """What is behind the point, with the sign."""
    return record("sub", x, record("trunc", x))


@public
def float_power(x: Any, exponent: Any) -> Tensor:
    """The power, computed in float64 (complex128)."""
    wide = "complex128" if "c" in (as_tensor(x).dtype.kind, as_tensor(exponent).dtype.kind) else (
        "float64"
    )
    return record("pow", record("cast", x, dtype=wide), record("cast", exponent, dtype=wide))


@public
def rsub(x: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * x``."""
    return record("sub", other, x if alpha == 1 else record("mul", x, alpha))


@public
def ldexp(x: Any, other: Any) -> Tensor:
    """``x * 2**other``.

    Examples
    --------
    >>> import accel
    >>> accel.ldexp(accel.asarray([1.0]), accel.asarray([3])).tolist()
    [8.0]
    """
    x, other = as_tensor(x), as_tensor(other)
    if other.dtype.kind in "biu":
        other = record("cast", other, dtype=x.dtype if x.dtype.is_inexact else dtypes.float32)
    return record("mul", x, record("exp2", other))


@public
def logaddexp2(x: Any, y: Any) -> Tensor:
    """``log2(2**x + 2**y)`` without overflow."""
    dtype = record("logaddexp", x, y).dtype
    scaled = [record("mul", record("cast", v, dtype=dtype), math.log(2)) for v in (x, y)]
    return record("div", record("logaddexp", *scaled), math.log(2))


def _signed_infinity(name: str, sign: str, op: str) -> Any:
    def test(x: Any) -> Tensor:
        x = as_tensor(x)
        if x.dtype.kind == "c":
            raise DTypeError(f"{name} of {x.dtype}", remedy="complex numbers are not ordered")
        return record("logical_and", record("isinf", x), record(op, x, 0))

    test.__name__ = test.__qualname__ = name
    test.__doc__ = f"Whether an element is {sign} infinity."
    return public(test)


isposinf = _signed_infinity("isposinf", "positive", "gt")
isneginf = _signed_infinity("isneginf", "negative", "lt")


@public
def digamma(x: Any) -> Tensor:
    """The derivative of `lgamma`."""
    return record("polygamma", x, n=0)


@public
def polygamma(n: int, x: Any) -> Tensor:
    """The derivative of order `n` of `digamma`.

    Examples
    --------
    >>> import accel
    >>> round(accel.polygamma(1, accel.asarray([1.0])).item(), 4)  # π² / 6
    1.6449
    """
    return record("polygamma", x, n=n)


@public
def mvlgamma(x: Any, p: int) -> Tensor:
    """The logarithm of the gamma function of `p` variables."""
    x = as_tensor(x)
    parts = [record("lgamma", record("sub", x, i / 2)) for i in range(p)]
    total = parts[0]
    for part in parts[1:]:
        total = record("add", total, part)
    return record("add", total, p * (p - 1) / 4 * math.log(math.pi))
