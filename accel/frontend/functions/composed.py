"""Element-wise functions composed of others, and of functions of rare use."""

from __future__ import annotations

import math
from typing import Any

from ...errors import DTypeError, ShapeError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..tensors.arguments import public
from ..tensors.recording import answer, as_tensor, record
from ..tensors.tensor import Tensor
from .dtype_functions import finfo
from .elementwise import clip, function_of
from .joining import chunk

__all__ = [
    "allclose", "clamp_max", "clamp_min", "digamma", "erfinv", "float_power", "frac", "gcd", "glu",
    "isneginf", "isposinf", "lcm", "ldexp", "lgamma", "logaddexp2", "logit", "mvlgamma",
    "nan_to_num", "polygamma", "prelu", "rsub", "sinc", "xlogy",
]  # fmt: skip

erfinv = function_of("erfinv", __name__)
gcd = function_of("gcd", __name__)
lcm = function_of("lcm", __name__)
lgamma = function_of("lgamma", __name__)


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
    return record("digamma", x)


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


@public
def allclose(
    x: Any, y: Any, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether all elements are close, as `isclose` says.

    Returns
    -------
    bool
        At once; inside a compiled function a Tensor of it.

    Examples
    --------
    >>> import accel
    >>> accel.allclose(accel.asarray([1.0]), accel.asarray([1.000001]))
    True
    """
    return answer(record("all", record("isclose", x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)))


@public
def glu(x: Any, dim: int = -1) -> Tensor:
    """The first half of an axis times the sigmoid of its second half.

    Raises
    ------
    ShapeError
        When the axis has an odd extent.
    """
    x = as_tensor(x)
    size = x.shape[one_axis(dim, x.ndim, "glu")]
    if size % 2:
        raise ShapeError(f"glu: axis {dim} of shape {list(x.shape)} has the odd extent {size}",
                         remedy="make it even")  # fmt: skip
    first, second = chunk(x, 2, dim)
    return record("mul", first, record("sigmoid", second))


@public
def prelu(x: Any, weight: Any, /) -> Tensor:
    """`x` where it is positive, else `weight` times x.

    Parameters
    ----------
    x
        Of floating dtype.
    weight
        One slope, or one for each channel (axis 1; axis 0 of a 1-d x).

    Raises
    ------
    ShapeError
        For another number of slopes.
    """
    x, weight = as_tensor(x), as_tensor(weight)
    if weight.size != 1 and x.ndim > 1 and weight.ndim == 1:
        if weight.size != x.shape[1]:
            raise ShapeError(
                f"prelu: {weight.size} slopes for {x.shape[1]} channels",
                remedy="give one slope, or as many as axis 1 has places",
            )
        weight = record("reshape", weight, shape=(-1,) + (1,) * (x.ndim - 2))
    return record("prelu", x, weight)


@public
def nan_to_num(
    x: Any, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """`x` with numbers in place of NaN and infinities (the dtype's largest by default).

    Examples
    --------
    >>> import accel
    >>> accel.nan_to_num(accel.asarray([float("nan"), 1.0])).tolist()
    [0.0, 1.0]
    """
    x = as_tensor(x)
    if x.dtype.kind == "c":
        parts = (nan_to_num(record(p, x), nan, posinf, neginf) for p in ("real", "imag"))
        return record("complex", *parts)
    if not x.dtype.is_floating:
        return x
    limit = finfo(x.dtype)
    infinite = record("isinf", x)
    high, low = (limit.max if posinf is None else posinf), (limit.min if neginf is None else neginf)
    bounded = record("where", record("gt", x, 0), high, low)
    return record("where", record("isnan", x), nan, record("where", infinite, bounded, x))


@public
def logit(x: Any, eps: float | None = None) -> Tensor:
    """``log(x / (1 - x))``, with x held within [eps, 1 - eps] where eps is given."""
    x = as_tensor(x)
    if x.dtype.kind in "biu":
        x = record("cast", x, dtype=dtypes.float32)
    if eps is not None:
        x = clip(x, eps, 1 - eps)
    return record("log", record("div", x, record("sub", 1, x)))


@public
def xlogy(x: Any, y: Any, /) -> Tensor:
    """``x * log(y)``, and 0 where x is 0 (unless y is NaN)."""
    known = _tensor_beside(y, x)
    product = record("mul", x, record("log", known))
    zero = record("logical_and", record("eq", x, 0), record("logical_not", record("isnan", known)))
    return record("where", zero, 0, product)


def _tensor_beside(y: Any, x: Any) -> Tensor:
    """`y` in the common dtype of both, before a function is taken of it alone."""
    dtype = record("add", x, y).dtype
    return record("cast", y, dtype=dtypes.float32 if dtype.kind in "biu" else dtype)


@public
def sinc(x: Any, /) -> Tensor:
    """``sin(πx) / (πx)``, and 1 at 0."""
    scaled = record("mul", x, math.pi)
    zero = record("eq", x, 0)
    safe = record("where", zero, 1, scaled)
    series = record("sub", 1, record("div", record("square", scaled), 6))  # its slopes at 0
    return record("where", zero, series, record("div", record("sin", safe), safe))
