"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..frontend import public as accel
from ..frontend.tensors.module_state import hyperparameter
from .optimizer import Group, Optimizer, check_range, uses

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps scaled by running moments of the gradient.

    Parameters
    ----------
    params
        Tensors that require gradients, or parameter groups.
    lr
        Learning rate.
    betas
        Decay of the running mean and of the running mean square, each in [0, 1).
    eps
        Added to the root of the mean square.
    weight_decay
        Added to the gradient, times the parameter.

    Notes
    -----
    Of half-precision parameters the moments are float32: as halves, squares of small gradients
    and `eps` would be 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        check_range(group, "eps", 0.0)
        first, second = group["betas"]
        check_range({"betas[0]": first}, "betas[0]", 0.0, 1.0)
        check_range({"betas[1]": second}, "betas[1]", 0.0, 1.0)

    def _new_state(self, parameter: Any, group: Group) -> dict[str, Any]:
        half = parameter.dtype in (accel.float16, accel.bfloat16)
        moment = accel.float32 if half else parameter.dtype
        return {
            "step": accel.zeros((), dtype=accel.float64),
            "exp_avg": accel.zeros_like(parameter, moment),
            "exp_avg_sq": accel.zeros_like(parameter, moment),
        }

    def _decay(self, parameter: Any, gradient: Any, group: Group) -> Any:
        """Apply weight decay; returns the gradient to go on with."""
        return gradient + hyperparameter(group, "weight_decay") * parameter

    def _update(self, parameter: Any, gradient: Any, state: dict[str, Any], group: Group) -> None:
        if uses(group, "weight_decay"):
            gradient = self._decay(parameter, gradient, group)
        beta1, beta2 = hyperparameter(group, "betas")
        step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        step += 1
        gradient = gradient.to(mean.dtype)
        mean += (1 - beta1) * (gradient - mean)
        square *= beta2
        square += (1 - beta2) * (gradient * gradient)
        # The corrections are scalars in float64: 1 - beta2**1 is 0.001, of which float32 would
        # know four digits.
        size = (hyperparameter(group, "lr") / (1 - beta1**step)).astype(mean.dtype)
        spread = accel.sqrt(1 - beta2**step).astype(mean.dtype)
        change = size * mean / (accel.sqrt(square) / spread + hyperparameter(group, "eps"))
        parameter -= change.to(parameter.dtype)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters directly (Loshchilov and Hutter 2019).

    Parameters
    ----------
    params, lr, betas, eps
        As for `Adam`.
    weight_decay
        Share of the parameter, times the learning rate, that a step takes away.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _decay(self, parameter: Any, gradient: Any, group: Group) -> Any:
        parameter *= 1 - hyperparameter(group, "lr") * hyperparameter(group, "weight_decay")
        return gradient
