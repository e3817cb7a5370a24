"""Initial values of parameters, by torch's names and formulas.

Every function ending in ``_`` gives its tensor a new value and returns it. The numbers come
from accel's generator: `accel.manual_seed` repeats them on every target.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel

__all__ = [
    "calculate_gain", "constant_", "fan_in_and_fan_out", "kaiming_normal_", "kaiming_uniform_",
    "normal_", "ones_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip


def _assign(tensor: Any, value: Any) -> Any:
    with accel.no_grad():
        tensor.data = value.astype(tensor.dtype)
    return tensor


def constant_(tensor: Any, value: float) -> Any:
    """Every element `value`."""
    return _assign(tensor, accel.full(tensor.shape, value, dtype=tensor.dtype))


def zeros_(tensor: Any) -> Any:
    """Every element 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Any) -> Any:
    """Every element 1."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0) -> Any:
    """Uniform in [a, b)."""
    return _assign(tensor, accel.rand(*tensor.shape, dtype=tensor.dtype) * (b - a) + a)


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    """Normal with the given mean and standard deviation."""
    return _assign(tensor, accel.randn(*tensor.shape, dtype=tensor.dtype) * std + mean)


def fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """Inputs and outputs of a unit: weight [out, in, *kernel].

    >>> fan_in_and_fan_out(accel.zeros((16, 3, 5, 5)))
    (75, 400)
    """
    if tensor.ndim < 2:
        raise ShapeError(
            f"fan in and out need 2 dimensions or more, got shape {tuple(tensor.shape)}",
            remedy="initialise vectors with uniform_, normal_ or zeros_",
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much a nonlinearity shrinks its input's spread.

    >>> calculate_gain("relu") == 2**0.5
    True
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope * slope))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity not in gains:
        raise ArgumentError(
            f"no gain is known for {nonlinearity!r}",
            remedy=f"use one of {', '.join([*gains, 'leaky_relu'])}",
        )
    return gains[nonlinearity]


def xavier_uniform_(tensor: Any, gain: float = 1.0) -> Any:
    """Uniform with variance 2 gain² / (fan in + fan out) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Any, gain: float = 1.0) -> Any:
    """Normal with variance 2 gain² / (fan in + fan out) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fan_in_and_fan_out(tensor))))


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode {mode!r} is neither 'fan_in' nor 'fan_out'")
    fan = fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Any:
    """Uniform with variance gain² / fan (He et al. 2015)."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Any:
    """Normal with variance gain² / fan (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))
