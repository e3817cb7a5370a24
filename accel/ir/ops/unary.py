"""Functions of one operand: arithmetic, exponentials, trigonometry, rounding, parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from .pointwise import Rule, declare, from_math, holomorphic

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

LN2 = math.log(2.0)
LN10 = math.log(10.0)
TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


def _real(dtype: DType) -> DType:
    return dtype.real


# -- arithmetic ---------------------------------------------------------------------------
def _abs_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.mul(g, b.sign(node.inputs[0]))]


def _sign_reference(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind != "c":
        return np.sign(x)
    size = np.abs(x)
    unit = x / np.where(size == 0, 1, size)
    if np.isinf(size).any():  # along an axis the sign of an infinity is that of the axis
        real, imag = (np.where(np.isinf(p), np.copysign(1, p), 0) for p in (x.real, x.imag))
        unit = np.where(np.isinf(size), real + 1j * imag, unit)
        unit = np.where(np.isinf(x.real) & np.isinf(x.imag), complex(np.nan, np.nan), unit)
    unit = np.where(np.isnan(size), complex(np.nan, np.nan), unit)
    return np.where(size == 0, 0, unit).astype(x.dtype)


def _sign_gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    """Of complex numbers what is orthogonal to them, over the modulus; 0 at 0."""
    x = node.inputs[0]
    if x.type.dtype.kind != "c":
        return [None]
    size = b.abs(x)
    size = b.where(b.eq(size, 0), math.inf, size)
    along = b.real(b.mul(g, b.conj(node)))
    return [b.div(b.sub(g, b.mul(node, along)), size)]


declare(
    "neg", np.negative, "The negative; unsigned integers wrap.",
    kinds="iufc", gradient=holomorphic(lambda b, g, x, y: b.neg(g)),
)  # fmt: skip
declare(
    "abs", np.abs, "The absolute value; the modulus of complex numbers. Integers wrap.",
    result=_real, gradient=_abs_gradient,
)  # fmt: skip
declare(
    "sign", _sign_reference,
    "-1, 0 or 1 as the operand is negative, zero or positive; NaN stays; x/|x| for complex.",
    kinds="iufc", discontinuous=True, gradient=_sign_gradient,
)  # fmt: skip
declare(
    "square", np.square, "The operand times itself.",
    kinds="iufc", expand=lambda b, x: b.mul(x, x),
    gradient=holomorphic(lambda b, g, x, y: b.mul(g, b.mul(x, 2))),
)  # fmt: skip


# -- functions that make floats of integers ------------------------------------------------
def _log1p_reference(x: np.ndarray) -> np.ndarray:
    """Of complex numbers NumPy takes log(1 + x), which loses the digits of small ones."""
    plain = np.log1p(x)
    if np.asarray(x).dtype.kind != "c":
        return plain
    near = np.empty_like(plain)
    near.real = 0.5 * np.log1p(x.real * (2 + x.real) + x.imag * x.imag)
    near.imag = np.arctan2(x.imag, 1 + x.real)
    return np.where(np.abs(x) < 0.5, near, plain)


def _float(
    name: str, reference: Any, rule: Rule, doc: str, *, kinds: str = "fc", ulp: float = 4,
    cost: float = 15, **more: Any,
) -> None:  # fmt: skip
    declare(name, reference, doc, promote="float", kinds=kinds, ulp=ulp, cost=cost,
            gradient=holomorphic(rule), **more)  # fmt: skip


_float("sqrt", np.sqrt, lambda b, g, x, y: b.div(b.mul(g, 0.5), y),
       "The square root; NaN below zero.", ulp=0, cost=4, low=0.0, high=9.0)  # fmt: skip
_float("rsqrt", lambda x: 1.0 / np.sqrt(x),
       lambda b, g, x, y: b.mul(b.mul(g, -0.5), b.div(y, x)),
       "One over the square root.", ulp=2, cost=5, low=0.01, high=9.0)  # fmt: skip
_float("reciprocal", lambda x: 1.0 / x, lambda b, g, x, y: b.neg(b.mul(g, b.mul(y, y))),
       "One over the operand.", ulp=0, cost=4, low=0.1)  # fmt: skip
_float("exp", np.exp, lambda b, g, x, y: b.mul(g, y), "e to the power of the operand.")
_float("exp2", np.exp2, lambda b, g, x, y: b.mul(g, b.mul(y, LN2)),
       "2 to the power of the operand.")  # fmt: skip
_float("expm1", np.expm1, lambda b, g, x, y: b.mul(g, b.add(y, 1)),
       "exp(x) - 1, accurate near 0.")  # fmt: skip
_float("log", np.log, lambda b, g, x, y: b.div(g, x),
       "The natural logarithm; NaN below zero.", low=0.01)  # fmt: skip
_float("log1p", _log1p_reference, lambda b, g, x, y: b.div(g, b.add(x, 1)),
       "log(1 + x), accurate near 0.", low=-0.9)  # fmt: skip
_float("log2", np.log2, lambda b, g, x, y: b.div(g, b.mul(x, LN2)),
       "The logarithm to base 2.", low=0.01)  # fmt: skip
_float("log10", np.log10, lambda b, g, x, y: b.div(g, b.mul(x, LN10)),
       "The logarithm to base 10.", low=0.01)  # fmt: skip

_float("sin", np.sin, lambda b, g, x, y: b.mul(g, b.cos(x)), "The sine.")
_float("cos", np.cos, lambda b, g, x, y: b.neg(b.mul(g, b.sin(x))), "The cosine.")
_float("tan", np.tan, lambda b, g, x, y: b.mul(g, b.add(b.mul(y, y), 1)), "The tangent.",
       low=-1.5, high=1.5)  # fmt: skip


def _one_minus_square_root(b: Builder, x: Node) -> Node:
    """sqrt(1 - x²), free of cancellation near ±1 and NaN outside."""
    return b.mul(b.sqrt(b.sub(1, x)), b.sqrt(b.add(1, x)))


_float("asin", np.arcsin, lambda b, g, x, y: b.div(g, _one_minus_square_root(b, x)),
       "The inverse sine; NaN outside [-1, 1].", low=-0.99, high=0.99)  # fmt: skip
_float("acos", np.arccos, lambda b, g, x, y: b.neg(b.div(g, _one_minus_square_root(b, x))),
       "The inverse cosine; NaN outside [-1, 1].", low=-0.99, high=0.99)  # fmt: skip
_float("atan", np.arctan, lambda b, g, x, y: b.div(g, b.add(b.mul(x, x), 1)),
       "The inverse tangent.")  # fmt: skip
_float("sinh", np.sinh, lambda b, g, x, y: b.mul(g, b.cosh(x)), "The hyperbolic sine.", cost=25)
_float("cosh", np.cosh, lambda b, g, x, y: b.mul(g, b.sinh(x)), "The hyperbolic cosine.", cost=25)
_float("tanh", np.tanh, lambda b, g, x, y: b.mul(g, b.sub(1, b.mul(y, y))),
       "The hyperbolic tangent.", cost=20, category="activation")  # fmt: skip
_float("asinh", np.arcsinh, lambda b, g, x, y: b.div(g, b.sqrt(b.add(b.mul(x, x), 1))),
       "The inverse hyperbolic sine.", cost=25)  # fmt: skip
_float("acosh", np.arccosh,
       lambda b, g, x, y: b.div(g, b.mul(b.sqrt(b.sub(x, 1)), b.sqrt(b.add(x, 1)))),
       "The inverse hyperbolic cosine; NaN below 1.", low=1.1, cost=25)  # fmt: skip
_float("atanh", np.arctanh, lambda b, g, x, y: b.div(g, b.mul(b.sub(1, x), b.add(1, x))),
       "The inverse hyperbolic tangent; NaN outside [-1, 1].", low=-0.9, high=0.9,
       cost=25)  # fmt: skip


def _bell(b: Builder, g: Node, x: Node) -> Node:
    return b.mul(b.mul(g, TWO_OVER_SQRT_PI), b.exp(b.neg(b.mul(x, x))))


_float("erf", from_math(math.erf), lambda b, g, x, y: _bell(b, g, x),
       "The error function: the integral of the bell curve, from -1 to 1.", kinds="f")  # fmt: skip
_float("erfc", from_math(math.erfc), lambda b, g, x, y: b.neg(_bell(b, g, x)),
       "1 - erf(x), accurate where it is small.", kinds="f", ulp=16, cost=30)  # fmt: skip


# -- rounding and classes of numbers -------------------------------------------------------
def _rounding(name: str, function: Any, doc: str) -> None:
    declare(
        name, lambda x: x if x.dtype.kind in "biu" else function(x), doc + " Integers stay.",
        kinds="biuf", discontinuous=True,
    )  # fmt: skip


_rounding("floor", np.floor, "The greatest whole number that is not above the operand.")
_rounding("ceil", np.ceil, "The least whole number that is not below the operand.")
_rounding("trunc", np.trunc, "The operand without its fraction.")
_rounding("round", np.rint, "The nearest whole number, halves to the even one.")

_CLASSES: tuple[tuple[str, Any, str], ...] = (
    ("isfinite", np.isfinite, "Whether the operand is neither infinite nor NaN."),
    ("isinf", np.isinf, "Whether the operand is infinite."),
    ("isnan", np.isnan, "Whether the operand is NaN."),
)
for _name, _function, _doc in _CLASSES:
    declare(_name, _function, _doc, result=dtypes.bool_, discontinuous=True)
declare(
    "signbit", lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
    "Whether the sign bit is set: true of -0.0 too.",
    kinds="iuf", result=dtypes.bool_, discontinuous=True,
)  # fmt: skip


# -- parts of complex numbers, and the identity --------------------------------------------
def _real_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.cast(g, node.inputs[0].type.dtype)]


def _imag_gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    return [b.mul(g, 1j) if node.inputs[0].type.dtype.kind == "c" else None]


declare("real", lambda x: x.real.copy(), "The real part.", result=_real, exact=True,
        gradient=_real_gradient)  # fmt: skip
declare("imag", lambda x: x.imag.copy(), "The imaginary part; zero of real numbers.",
        result=_real, exact=True, gradient=_imag_gradient)  # fmt: skip
declare("conj", np.conj, "The complex conjugate.", exact=True,
        gradient=lambda b, g, node: [b.conj(g)])  # fmt: skip
declare("stop_gradient", lambda x: x, "The operand itself, through which no gradient flows.",
        exact=True, cost=0)  # fmt: skip
