"""Activations as modules; each calls the function of the same name."""

from __future__ import annotations

from typing import Any

from ..frontend import public as accel
from . import functional, init
from .module import Module
from .parameter import Parameter

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh",
    "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU",
    "SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign",
    "Tanh", "Tanhshrink", "Threshold",
]  # fmt: skip


class _Activation(Module):
    """A function of one tensor with fixed settings, which are attributes of the module.

    Subclasses name the function and their settings; `settings` are also its keyword arguments.
    """

    function = ""
    settings: tuple[str, ...] = ()

    def forward(self, x: Any) -> Any:
        values = {name: getattr(self, name) for name in self.settings}
        return getattr(functional, self.function)(x, **values)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


class _Overwriting(_Activation):
    """An activation that with `inplace` gives its operand the result, and returns the operand."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Any) -> Any:
        result = super().forward(x)
        return x.copy_(result) if self.inplace else result

    def extra_repr(self) -> str:
        known = [super().extra_repr()] if self.settings else []
        return ", ".join(known + ["inplace=True"] * self.inplace)


class ReLU(_Overwriting):
    """max(x, 0)."""

    function = "relu"


class ReLU6(_Overwriting):
    """min(max(x, 0), 6)."""

    function = "relu6"


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent."""

    function = "tanh"


class SiLU(_Overwriting):
    """x * sigmoid(x)."""

    function = "silu"


class Mish(_Overwriting):
    """x * tanh(softplus(x))."""

    function = "mish"


class SELU(_Overwriting):
    """ELU scaled so that activations normalise themselves (Klambauer et al. 2017)."""

    function = "selu"


class Hardswish(_Overwriting):
    """x * relu6(x + 3) / 6."""

    function = "hardswish"


class Hardsigmoid(_Overwriting):
    """relu6(x + 3) / 6."""

    function = "hardsigmoid"


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = "softsign"


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = "tanhshrink"


class LogSigmoid(_Activation):
    """log(sigmoid(x)), exact for large negative x."""

    function = "logsigmoid"


class GELU(_Activation):
    """x times the normal distribution function of x; `approximate="tanh"` for its estimate."""

    function = "gelu"
    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class LeakyReLU(_Overwriting):
    """x where positive, `negative_slope` times x elsewhere."""

    function = "leaky_relu"
    settings = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope


class ELU(_Overwriting):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    function = "elu"
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha


class CELU(ELU):
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere."""

    function = "celu"


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta, and x itself where beta x exceeds the threshold."""

    function = "softplus"
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold


class Hardtanh(_Overwriting):
    """x clamped to [min_val, max_val]."""

    function = "hardtanh"
    settings = ("min_val", "max_val")

    def __init__(
        self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        self.min_val, self.max_val = min_val, max_val


class Softmax(_Activation):
    """exp(x) over its sum along `dim`."""

    function = "softmax"
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim


class LogSoftmax(Softmax):
    """The logarithm of softmax, computed without overflow."""

    function = "log_softmax"


class Softmin(Softmax):
    """Softmax of the negative."""

    function = "softmin"


class Softmax2d(Softmax):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def __init__(self) -> None:
        super().__init__(dim=-3)


class Hardshrink(_Activation):
    """x beyond `lambd` on either side, 0 between."""

    function = "hardshrink"
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd


class Softshrink(Hardshrink):
    """x moved towards 0 by `lambd`, 0 where it would cross."""

    function = "softshrink"


class Threshold(_Overwriting):
    """x above the threshold, `value` elsewhere."""

    function = "threshold"
    settings = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value


class RReLU(_Overwriting):
    """Leaky ReLU with slopes drawn from `lower` to `upper` in training, their mean elsewhere."""

    function = "rrelu"
    settings = ("lower", "upper", "training")

    def __init__(
        self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def extra_repr(self) -> str:
        return f"lower={self.lower!r}, upper={self.upper!r}" + ", inplace=True" * self.inplace


class GLU(_Activation):
    """The first half of `dim` times the sigmoid of the second."""

    function = "glu"
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim


class PReLU(Module):
    """Leaky ReLU with a slope that is learned, one for all channels or one each."""

    def __init__(self, num_parameters: int = 1, init_value: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(accel.zeros((num_parameters,)))
        init.constant_(self.weight, init_value)

    def forward(self, x: Any) -> Any:
        return functional.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
