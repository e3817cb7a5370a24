"""Activation functions of neural networks.

Those with a kink take torch's subgradient there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from .. import dtypes
from ..op import ErrorSample
from ..types import TensorType
from .pointwise import FINITE_LATTICE, as_float, declare, from_math, rounding

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805

_F32 = TensorType(dtypes.float32, (3,))
_erfc = from_math(math.erfc)


def _activation(name: str, reference: Any, doc: str, **fields: Any) -> None:
    fields = {"promote": "float", "kinds": "f", "category": "activation", **fields}
    declare(name, reference, doc, **fields)


def _floats(
    op: str, check: Callable[[dict[str, Any]], str | None] | None = None
) -> Callable[[Sequence[TensorType], dict[str, Any]], dict[str, Any]]:
    """A `prepare` that makes attributes Python floats and raises what `check` finds wrong."""

    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = {name: as_float(op, name, value) for name, value in attrs.items()}
        wrong = check(attrs) if check else None
        if wrong:
            raise ArgumentError(f"{op}: {wrong}")
        return attrs

    return prepare


# -- rectifiers ----------------------------------------------------------------------------
def _relu_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.where(b.le(node, 0), 0, g)]


def _leaky_relu_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.where(b.gt(node.inputs[0], 0), g, b.mul(g, node.attrs["negative_slope"]))]


def _prelu_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x, weight = node.inputs
    positive = b.gt(x, 0)
    return [b.where(positive, g, b.mul(g, weight)), b.where(positive, 0, b.mul(g, x))]


_activation(
    "relu", lambda x: np.where(x <= 0, np.zeros((), x.dtype), x),
    "The operand where it is positive, else 0; NaN stays.",
    promote="common", kinds="iuf", gradient=_relu_gradient,
)  # fmt: skip
_activation(
    "leaky_relu", lambda x, *, negative_slope: np.where(x > 0, x, x * negative_slope),
    "The operand where it is positive, else `negative_slope` times it.",
    attrs={"negative_slope": 0.01}, prepare=_floats("leaky_relu"), cost=2, ulp=1,
    variants=({}, {"negative_slope": 0.3}), gradient=_leaky_relu_gradient,
    expand=lambda b, x, *, negative_slope: b.where(b.gt(x, 0), x, b.mul(x, negative_slope)),
)  # fmt: skip
_activation(
    "prelu", lambda x, weight: np.where(x > 0, x, weight * x),
    "The operand where it is positive, else the second operand times it.",
    arity=2, cost=2, gradient=_prelu_gradient,
    expand=lambda b, x, weight: b.where(b.gt(x, 0), x, b.mul(weight, x)),
)  # fmt: skip


# -- sigmoid, and what is made of it -------------------------------------------------------
def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _softplus_nodes(b: Builder, x: Node) -> Node:
    return b.add(b.maximum(x, 0), b.log1p(b.exp(b.neg(b.abs(x)))))


def _silu_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x = node.inputs[0]
    s = b.sigmoid(x)
    return [b.mul(g, b.add(s, b.mul(node, b.sub(1, s))))]


def _softplus_reference(x: np.ndarray, *, beta: float, threshold: float) -> np.ndarray:
    return np.where(x * beta > threshold, x, _softplus(x * beta) / beta)


def _softplus_expand(b: Builder, x: Node, *, beta: float, threshold: float) -> Node:
    scaled = x if beta == 1 else b.mul(x, beta)
    soft = _softplus_nodes(b, scaled)
    return b.where(b.gt(scaled, threshold), x, soft if beta == 1 else b.div(soft, beta))


def _softplus_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    scaled = b.mul(node.inputs[0], node.attrs["beta"])
    linear = b.gt(scaled, node.attrs["threshold"])
    return [b.where(linear, g, b.mul(g, b.sigmoid(scaled)))]


def _mish_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x = node.inputs[0]
    t = b.tanh(b.softplus(x))
    slope = b.mul(b.mul(x, b.sigmoid(x)), b.sub(1, b.mul(t, t)))
    return [b.mul(g, b.add(t, slope))]


_activation(
    "sigmoid", _sigmoid, "1 / (1 + exp(-x)).", ulp=4, cost=20,
    gradient=lambda b, g, node: [b.mul(g, b.mul(node, b.sub(1, node)))],
)  # fmt: skip
_activation(
    "silu", lambda x: x * _sigmoid(x), "x · sigmoid(x).", ulp=5, cost=21,
    gradient=_silu_gradient, expand=lambda b, x: b.mul(x, b.sigmoid(x)),
    source="Elfwing et al., 2017, https://arxiv.org/abs/1702.03118",
)  # fmt: skip
_activation(
    "softplus", _softplus_reference,
    "log(1 + exp(beta·x)) / beta, and x itself where beta·x is above `threshold`.",
    attrs={"beta": 1.0, "threshold": 20.0}, variants=({}, {"beta": 2.0, "threshold": 5.0}),
    prepare=_floats(
        "softplus", lambda a: None if a["beta"] > 0 else f"beta must be positive, got {a['beta']}"
    ),
    ulp=8, cost=40, gradient=_softplus_gradient, expand=_softplus_expand,
    errors=[ErrorSample((_F32,), {"beta": 0.0}, ArgumentError, "beta")],
)  # fmt: skip
_activation(
    "logsigmoid", lambda x: -_softplus(-x), "log(sigmoid(x)), accurate where it is small.",
    ulp=8, cost=40, expand=lambda b, x: b.neg(_softplus_nodes(b, b.neg(x))),
    gradient=lambda b, g, node: [b.mul(g, b.sigmoid(b.neg(node.inputs[0])))],
)  # fmt: skip
_activation(
    "mish", lambda x: x * np.tanh(_softplus(x)), "x · tanh(softplus(x)).", ulp=16, cost=60,
    gradient=_mish_gradient, expand=lambda b, x: b.mul(x, b.tanh(_softplus_nodes(b, x))),
    source="Misra, 2019, https://arxiv.org/abs/1908.08681",
)  # fmt: skip


# -- gelu ----------------------------------------------------------------------------------
def _gelu_reference(x: np.ndarray, *, approximate: str) -> np.ndarray:
    if approximate == "none":
        return 0.5 * x * _erfc(-x * SQRT_HALF)
    return 0.5 * x * (1.0 + np.tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)))


def _gelu_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["approximate"] not in ("none", "tanh"):
        raise ArgumentError(
            f"gelu: there is no approximation {attrs['approximate']!r}",
            remedy="use approximate='none' or 'tanh'",
        )
    return attrs


def _gelu_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x = node.inputs[0]
    if node.attrs["approximate"] == "none":
        below = b.mul(b.add(b.erf(b.mul(x, SQRT_HALF)), 1), 0.5)
        density = b.mul(b.exp(b.mul(b.mul(x, x), -0.5)), INV_SQRT_2PI)
        return [b.mul(g, b.add(below, b.mul(x, density)))]
    squared = b.mul(x, x)
    inner = b.mul(b.mul(x, b.add(b.mul(squared, GELU_CUBIC), 1)), SQRT_2_OVER_PI)
    t = b.tanh(inner)
    inner_slope = b.mul(b.add(b.mul(squared, 3 * GELU_CUBIC), 1), SQRT_2_OVER_PI)
    bend = b.mul(b.mul(x, b.sub(1, b.mul(t, t))), inner_slope)
    return [b.mul(g, b.mul(b.add(b.add(t, 1), bend), 0.5))]


def _gelu_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """The slope stays below 1.13; 1 + erf(x) cancels below zero, so the error goes by |x|."""
    return 1.13 * errors[0] + 8.0 * rounding(out) * np.abs(values[0])


_activation(
    "gelu", _gelu_reference,
    "x times the probability that a normal number is below x; approximate='tanh' is the "
    "usual approximation by tanh.",
    attrs={"approximate": "none"}, prepare=_gelu_prepare, ulp=8, cost=25,
    variants=({}, {"approximate": "tanh"}), lattice=FINITE_LATTICE, gradient=_gelu_gradient,
    error=_gelu_error,
    errors=[ErrorSample((_F32,), {"approximate": "sigmoid"}, ArgumentError, "approximation")],
    source="Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415",
)  # fmt: skip


# -- exponential below zero ----------------------------------------------------------------
def _elu_reference(x: np.ndarray, scale: float, alpha: float, rate: float) -> np.ndarray:
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) * rate))


def _elu_nodes(b: Builder, x: Node, scale: float, alpha: float, rate: float) -> Node:
    low = b.mul(b.expm1(x if rate == 1 else b.mul(x, rate)), scale * alpha)
    return b.where(b.gt(x, 0), x if scale == 1 else b.mul(x, scale), low)


def _elu_slope(
    b: Builder, g: Node, x: Node, scale: float, alpha: float, rate: float
) -> list[Node]:
    # The exponent never exceeds 0, so that the branch not taken holds no infinity.
    positive = b.gt(x, 0)
    low = b.mul(b.exp(b.mul(b.where(positive, 0, x), rate)), scale * alpha * rate)
    return [b.where(positive, b.mul(g, scale), b.mul(g, low))]


_activation(
    "elu", lambda x, *, alpha: _elu_reference(x, 1.0, alpha, 1.0),
    "x where it is positive, else alpha · (exp(x) - 1).",
    attrs={"alpha": 1.0}, prepare=_floats("elu"), variants=({}, {"alpha": 0.5}), ulp=5, cost=18,
    expand=lambda b, x, *, alpha: _elu_nodes(b, x, 1.0, alpha, 1.0),
    gradient=lambda b, g, node: _elu_slope(b, g, node.inputs[0], 1.0, node.attrs["alpha"], 1.0),
    source="Clevert et al., 2015, https://arxiv.org/abs/1511.07289",
)  # fmt: skip
_activation(
    "selu", lambda x: _elu_reference(x, SELU_SCALE, SELU_ALPHA, 1.0),
    "elu with the scale and alpha that keep mean 0 and variance 1.", ulp=6, cost=18,
    expand=lambda b, x: _elu_nodes(b, x, SELU_SCALE, SELU_ALPHA, 1.0),
    gradient=lambda b, g, node: _elu_slope(b, g, node.inputs[0], SELU_SCALE, SELU_ALPHA, 1.0),
    source="Klambauer et al., 2017, https://arxiv.org/abs/1706.02515",
)  # fmt: skip
_activation(
    "celu", lambda x, *, alpha: _elu_reference(x, 1.0, alpha, 1.0 / alpha),
    "x where it is positive, else alpha · (exp(x / alpha) - 1).",
    attrs={"alpha": 1.0}, variants=({}, {"alpha": 0.5}), ulp=6, cost=18,
    prepare=_floats("celu", lambda a: None if a["alpha"] else "alpha must not be 0"),
    expand=lambda b, x, *, alpha: _elu_nodes(b, x, 1.0, alpha, 1.0 / alpha),
    gradient=lambda b, g, node: _elu_slope(
        b, g, node.inputs[0], 1.0, node.attrs["alpha"], 1.0 / node.attrs["alpha"]
    ),
    errors=[ErrorSample((_F32,), {"alpha": 0.0}, ArgumentError, "alpha")],
    source="Barron, 2017, https://arxiv.org/abs/1704.07483",
)  # fmt: skip


# -- piecewise linear ----------------------------------------------------------------------
def _between(b: Builder, x: Node, low: float, high: float) -> Node:
    """Whether x lies strictly inside, or is NaN."""
    return b.logical_not(b.logical_or(b.le(x, low), b.ge(x, high)))


def _hardswish_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    x = node.inputs[0]
    bend = b.mul(g, b.add(b.div(x, 3), 0.5))
    return [b.where(b.le(x, -3), 0, b.where(b.ge(x, 3), g, bend))]


_activation(
    "hardtanh", lambda x, *, min_val, max_val: np.minimum(np.maximum(x, min_val), max_val),
    "The operand, not below `min_val` and not above `max_val`.",
    attrs={"min_val": -1.0, "max_val": 1.0}, variants=({}, {"min_val": -0.5, "max_val": 2.0}),
    prepare=_floats(
        "hardtanh",
        lambda a: None if a["min_val"] <= a["max_val"]
        else f"min_val {a['min_val']} is above max_val {a['max_val']}",
    ),
    cost=2, expand=lambda b, x, *, min_val, max_val: b.minimum(b.maximum(x, min_val), max_val),
    gradient=lambda b, g, node: [
        b.where(_between(b, node.inputs[0], node.attrs["min_val"], node.attrs["max_val"]), g, 0)
    ],
    errors=[ErrorSample((_F32,), {"min_val": 2.0}, ArgumentError, "min_val")],
)  # fmt: skip
_activation(
    "relu6", lambda x: np.minimum(np.maximum(x, 0.0), 6.0),
    "The operand, not below 0 and not above 6.", cost=2, low=-3, high=9,
    expand=lambda b, x: b.minimum(b.maximum(x, 0), 6),
    gradient=lambda b, g, node: [b.where(_between(b, node.inputs[0], 0, 6), g, 0)],
)  # fmt: skip
_activation(
    "hardsigmoid", lambda x: np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0,
    "relu6(x + 3) / 6.", ulp=2, cost=7, low=-5, high=5,
    expand=lambda b, x: b.div(b.minimum(b.maximum(b.add(x, 3), 0), 6), 6),
    gradient=lambda b, g, node: [b.where(_between(b, node.inputs[0], -3, 3), b.div(g, 6), 0)],
)  # fmt: skip
_activation(
    "hardswish", lambda x: x * (np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0),
    "x · relu6(x + 3) / 6.", ulp=3, cost=8, low=-5, high=5, lattice=FINITE_LATTICE,
    expand=lambda b, x: b.mul(x, b.hardsigmoid(x)), gradient=_hardswish_gradient,
    source="Howard et al., 2019, https://arxiv.org/abs/1905.02244",
)  # fmt: skip


# -- the rest ------------------------------------------------------------------------------
def _softsign_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    base = b.add(b.abs(node.inputs[0]), 1)
    return [b.div(g, b.mul(base, base))]


def _tanhshrink_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    t = b.tanh(node.inputs[0])
    return [b.mul(g, b.mul(t, t))]


def _tanhshrink_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    return errors[0] + 8.0 * rounding(out) * np.abs(values[0])


_activation(
    "softsign", lambda x: x / (1.0 + np.abs(x)), "x / (1 + |x|).", ulp=2, cost=6,
    gradient=_softsign_gradient, expand=lambda b, x: b.div(x, b.add(b.abs(x), 1)),
)  # fmt: skip
_activation(
    "tanhshrink", lambda x: x - np.tanh(x), "x - tanh(x).", ulp=8, cost=21,
    gradient=_tanhshrink_gradient, expand=lambda b, x: b.sub(x, b.tanh(x)),
    error=_tanhshrink_error,
)  # fmt: skip
