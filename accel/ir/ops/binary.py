"""Arithmetic of two and three operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DTypeError
from .. import dtypes
from ..op import ErrorSample
from ..types import TensorType
from .pointwise import as_float, constant_value, declare, rounding

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

LN2 = math.log(2.0)


def _conj(b: Builder, x: Node) -> Node:
    return b.conj(x) if x.type.dtype.kind == "c" else x


# -- the four operations and powers --------------------------------------------------------
def _mul_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    return [b.mul(g, _conj(b, y)), b.mul(g, _conj(b, x))]


def _div_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    y = node.inputs[1]
    return [b.div(g, _conj(b, y)), b.neg(b.mul(g, _conj(b, b.div(node, y))))]


declare(
    "add", np.add, "The sum; integers wrap, of bools the logical or.", arity=2,
    gradient=lambda b, g, node: [g, g],
)  # fmt: skip
declare(
    "sub", np.subtract, "The difference; integers wrap.", arity=2, kinds="iufc",
    gradient=lambda b, g, node: [g, b.neg(g)],
)  # fmt: skip
declare(
    "mul", np.multiply, "The product; integers wrap, of bools the logical and.", arity=2,
    gradient=_mul_gradient,
)  # fmt: skip
declare(
    "div", np.divide, "The true quotient; integers become float32.", arity=2,
    promote="float", kinds="fc", cost=4, low=0.1, gradient=_div_gradient,
)  # fmt: skip


def _float_power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """IEEE's pow. NumPy takes square roots where all exponents are one and the same 0.5, and
    differs for -infinity and -0."""
    found, half = np.power(x, y), y == 0.5
    if not half.any():
        return found
    return np.where(half, np.where(np.isinf(x), np.inf, np.abs(found)), found)


def _pow_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return _float_power(x, y)
    if x.dtype.kind == "c":
        return np.power(x, y)
    whole = np.power(x, np.maximum(y, 0))
    sign = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0)) if x.dtype.kind == "i" else 0
    return np.where(y < 0, np.asarray(sign).astype(x.dtype), whole)


def _pow_base_gradient(b: Builder, g: Node, x: Node, y: Node) -> Node:
    """g · y · x^(y-1), which is 0 at y = 0 whatever x is."""
    exponent = constant_value(y)
    if exponent == 2:
        return b.mul(g, _conj(b, b.mul(x, 2)))
    if exponent:
        return b.mul(g, _conj(b, b.mul(y, b.pow(x, b.sub(y, 1)))))
    zero = b.eq(y, 0)
    slope = b.mul(y, b.pow(x, b.where(zero, 1, b.sub(y, 1))))
    return b.mul(g, _conj(b, b.where(zero, 0, slope)))


def _pow_gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    x, y = node.inputs
    if constant_value(y) is not None:
        return [_pow_base_gradient(b, g, x, y), None]
    at_zero = b.eq(x, 0)
    if y.type.dtype.kind == "f":
        at_zero = b.logical_and(at_zero, b.ge(y, 0))
    # The logarithm of a zero base is never taken, so that no NaN reaches second derivatives.
    slope = b.where(at_zero, 0, b.mul(node, b.log(b.where(at_zero, 1, x))))
    return [_pow_base_gradient(b, g, x, y), b.mul(g, _conj(b, slope))]


declare(
    "pow", _pow_reference,
    "The first operand to the power of the second. Integers stay integers and wrap; their "
    "negative powers are 0 but those of 1 and -1.",
    arity=2, kinds="iufc", ulp=4, cost=40, low=0.1, gradient=_pow_gradient,
)  # fmt: skip


# -- division with a whole quotient --------------------------------------------------------
def _remainder_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [g, b.neg(b.mul(g, b.floor_divide(*node.inputs)))]


def _fmod_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [g, b.neg(b.mul(g, b.trunc(b.div(*node.inputs))))]


def _floor_divide_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NumPy's, but for infinite dividends: their quotients are infinite, as the standard says."""
    whole = np.floor_divide(x, y)
    return np.where(np.isinf(x), x / y, whole) if x.dtype.kind == "f" else whole


declare(
    "floor_divide", _floor_divide_reference,
    "The quotient rounded down; of integers, 0 where the divisor is 0.",
    arity=2, kinds="iuf", ulp=2, cost=20, discontinuous=True,
)  # fmt: skip
declare(
    "remainder", np.remainder,
    "x - floor_divide(x, y) · y, with the divisor's sign; of integers, 0 where the divisor is 0.",
    arity=2, kinds="iuf", ulp=1, cost=20, discontinuous=True, gradient=_remainder_gradient,
)  # fmt: skip
declare(
    "fmod", np.fmod,
    "The remainder of the truncated quotient, with the dividend's sign; of integers, 0 where "
    "the divisor is 0.",
    arity=2, kinds="iuf", cost=20, discontinuous=True, gradient=_fmod_gradient,
)  # fmt: skip


# -- the greater and the lesser ------------------------------------------------------------
def _share(b: Builder, g: Node, loses: Node, ties: Node) -> Node:
    return b.where(loses, 0, b.where(ties, b.mul(g, 0.5), g))


def _maximum_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    ties = b.eq(x, y)
    return [_share(b, g, b.lt(x, y), ties), _share(b, g, b.gt(x, y), ties)]


def _minimum_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    ties = b.eq(x, y)
    return [_share(b, g, b.gt(x, y), ties), _share(b, g, b.lt(x, y), ties)]


def _fmax_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    first = b.logical_or(b.ge(x, y), b.isnan(y))
    return [b.where(first, g, 0), b.where(first, 0, g)]


def _fmin_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    first = b.logical_or(b.le(x, y), b.isnan(y))
    return [b.where(first, g, 0), b.where(first, 0, g)]


_EXTREMA: tuple[tuple[str, Any, Any, str], ...] = (
    ("maximum", np.maximum, _maximum_gradient,
     "The greater operand; NaN if either is. Of zeros with different signs either one."),
    ("minimum", np.minimum, _minimum_gradient,
     "The lesser operand; NaN if either is. Of zeros with different signs either one."),
    ("fmax", np.fmax, _fmax_gradient, "The greater operand; the other one where one is NaN."),
    ("fmin", np.fmin, _fmin_gradient, "The lesser operand; the other one where one is NaN."),
)  # fmt: skip
for _name, _function, _gradient, _doc in _EXTREMA:
    declare(_name, _function, _doc, arity=2, kinds="biuf", gradient=_gradient)


def _clamp_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, low, high = node.inputs
    inside = b.logical_and(b.ge(x, low), b.le(x, high))
    below = b.logical_and(b.lt(x, low), b.lt(low, high))
    above = b.logical_or(b.gt(x, high), b.gt(low, high))
    return [b.where(inside, g, 0), b.where(below, g, 0), b.where(above, g, 0)]


declare(
    "clamp", lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "The first operand, not below the second and not above the third (which wins where they "
    "cross); NaN if any is.",
    arity=3, kinds="biuf", cost=2, gradient=_clamp_gradient,
    expand=lambda b, x, low, high: b.minimum(b.maximum(x, low), high),
)  # fmt: skip


# -- complex numbers of two real ones ------------------------------------------------------
def _complex_reference(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    made = np.empty(np.broadcast_shapes(real.shape, imag.shape), np.result_type(real, np.complex64))
    made.real, made.imag = real, imag
    return made


declare(
    "complex", _complex_reference, "The complex number of its real and its imaginary part.",
    arity=2, promote="float", kinds="f", result=lambda dtype: dtype.complex, exact=True,
    gradient=lambda b, g, node: [b.real(g), b.imag(g)],
)  # fmt: skip


# -- functions of two real numbers ---------------------------------------------------------
def _copysign_gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    x, y = node.inputs
    return [b.mul(g, b.mul(b.sign(x), b.copysign(1.0, y))), None]


def _hypot_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.mul(g, b.div(x, node)) for x in node.inputs]


def _atan2_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    y, x = node.inputs
    radius = b.hypot(y, x)
    radius = b.where(b.eq(radius, 0), 1, radius)  # 0 at the origin, as torch has it
    scaled = b.div(g, radius)
    return [b.mul(scaled, b.div(x, radius)), b.neg(b.mul(scaled, b.div(y, radius)))]


declare(
    "atan2", np.arctan2, "The angle of the point (second, first operand), from -π to π.",
    arity=2, promote="float", kinds="f", ulp=4, cost=25, discontinuous=True,
    gradient=_atan2_gradient,
)  # fmt: skip
declare(
    "hypot", np.hypot, "sqrt(x² + y²) without overflow on the way.",
    arity=2, promote="float", kinds="f", ulp=2, cost=10, gradient=_hypot_gradient,
)  # fmt: skip
declare(
    "copysign", np.copysign, "The first operand with the sign of the second.",
    arity=2, promote="float", kinds="f", discontinuous=True, gradient=_copysign_gradient,
)  # fmt: skip


def _nextafter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of zeros of both signs the second, as in C; NumPy before 2.5 gives the first of halves."""
    return np.where(x == y, y, np.nextafter(x, y))


declare(
    "nextafter", _nextafter, "The next number of the dtype from the first operand towards "
    "the second, which is the result if they are equal.",
    arity=2, promote="float", kinds="f", exact=True, cost=6,
    gradient=lambda b, g, node: [g, None],
)  # fmt: skip


def _logaddexp_expand(b: Builder, x: Node, y: Node) -> Node:
    # Equal operands apart: the difference of equal infinities is NaN.
    apart = b.add(b.maximum(x, y), b.log1p(b.exp(b.neg(b.abs(b.sub(x, y))))))
    return b.where(b.eq(x, y), b.add(x, LN2), apart)


def _logaddexp_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y = node.inputs
    same_infinity = b.logical_and(b.eq(x, y), b.isinf(x))
    share = b.where(same_infinity, 0, b.sub(x, y))
    return [b.mul(g, b.sigmoid(share)), b.mul(g, b.sigmoid(b.neg(share)))]


def _logaddexp_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x, y = values
    with np.errstate(all="ignore"):
        scale = np.maximum(np.abs(x), np.abs(y)) + 1.0
    return np.maximum(*errors) + 8.0 * rounding(out) * scale


declare(
    "logaddexp", np.logaddexp, "log(exp(x) + exp(y)) without overflow.",
    arity=2, promote="float", kinds="f", ulp=8, cost=40,
    expand=_logaddexp_expand, gradient=_logaddexp_gradient, error=_logaddexp_error,
)  # fmt: skip


# -- three operands ------------------------------------------------------------------------
def _lerp_reference(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(
        np.abs(weight) < 0.5, x + weight * (y - x), y - (y - x) * (1.0 - weight)
    )


def _lerp_expand(b: Builder, x: Node, y: Node, weight: Node) -> Node:
    # From the nearer end, so that weights 0 and 1 give the ends exactly.
    step = b.sub(y, x)
    near = b.add(x, b.mul(weight, step))
    far = b.sub(y, b.mul(step, b.sub(1, weight)))
    return b.where(b.lt(b.abs(weight), 0.5), near, far)


def _lerp_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, y, weight = node.inputs
    if weight.type.dtype.kind == "c":
        x, y, weight = b.conj(x), b.conj(y), b.conj(weight)
    return [b.mul(g, b.sub(1, weight)), b.mul(g, weight), b.mul(g, b.sub(y, x))]


def _lerp_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x, y, weight = (np.abs(v) for v in values)
    ex, ey, ew = errors
    with np.errstate(all="ignore"):
        size = (x + y + ex + ey) * (1.0 + weight + ew)
        return (1.0 + weight + ew) * (ex + ey) + (x + y) * ew + 4.0 * rounding(out) * size


declare(
    "lerp", _lerp_reference, "x + weight · (y - x): x at weight 0, y at weight 1.",
    arity=3, promote="float", kinds="fc", ulp=4, cost=6, low=-2.0, high=2.0,
    expand=_lerp_expand, gradient=_lerp_gradient, error=_lerp_error,
)  # fmt: skip


def _value_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    """The factor as a number of the operands' kind."""
    value, dtype = attrs["value"], types[0].dtype
    if dtype.kind == "c" and isinstance(value, complex):
        return {"value": value}
    real = as_float("addcmul or addcdiv", "value", value)
    if dtype.is_inexact:
        return {"value": real}
    if not real.is_integer():
        raise DTypeError(
            f"addcmul of {dtype.name} takes a whole value, got {value}",
            remedy="convert the operands with .astype(accel.float32)",
        )
    return {"value": int(value)}


def _scaled(b: Builder, x: Node, value: Any) -> Node:
    return x if value == 1 else b.mul(x, value)


def _addc_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Of the sum of an operand and a term t: |t| is taken as |out - x|."""
    x = values[0]
    with np.errstate(all="ignore"):
        term = np.abs(out.astype(np.result_type(out, np.float64)) - x)
        a, c = (np.abs(v) for v in values[1:])
        ea, ec = errors[1:]
        if attrs.get("quotient"):
            moved = (ea + (a / c) * ec) / np.maximum(c - ec, 0)
        else:
            moved = ea * c + a * ec + ea * ec
        return errors[0] + abs(attrs["value"]) * moved + 4 * rounding(out) * (np.abs(x) + term)


declare(
    "addcmul", lambda x, a, c, *, value: x + np.asarray(value).astype(x.dtype) * (a * c),
    "x + value · a · c.", arity=3, kinds="iufc", ulp=2, cost=3, attrs={"value": 1},
    prepare=_value_prepare, variants=({}, {"value": -2.0}),
    expand=lambda b, x, a, c, *, value: b.add(x, _scaled(b, b.mul(a, c), value)),
    error=_addc_error,
    errors=[
        ErrorSample((TensorType(dtypes.int32, (2,)),) * 3, {"value": 0.5}, DTypeError, "whole")
    ],
)  # fmt: skip
declare(
    "addcdiv", lambda x, a, c, *, value: x + value * (a / c), "x + value · a / c.",
    arity=3, promote="float", kinds="fc", ulp=2, cost=6, low=0.2, attrs={"value": 1},
    prepare=_value_prepare, variants=({}, {"value": -2.0}),
    expand=lambda b, x, a, c, *, value: b.add(x, _scaled(b, b.div(a, c), value)),
    error=lambda values, errors, out, attrs: _addc_error(
        values, errors, out, {**attrs, "quotient": True}
    ),
)  # fmt: skip


def _heaviside_expand(b: Builder, x: Node, at_zero: Node) -> Node:
    step = b.where(b.gt(x, 0), 1, b.where(b.lt(x, 0), 0, x))  # NaN stays
    return b.where(b.eq(x, 0), at_zero, step)


declare(
    "heaviside", np.heaviside, "0 below zero, 1 above it, the second operand at it.",
    arity=2, promote="float", kinds="f", discontinuous=True, expand=_heaviside_expand,
)  # fmt: skip
