"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from ..frontend.tensors.module_state import hyperparameter
from .optimizer import Group, Optimizer, check_range, uses

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay where they are not zero.

    Parameters
    ----------
    params
        Tensors that require gradients, or parameter groups.
    lr
        Learning rate.
    momentum
        Share of the last step that goes into the next one, in [0, 1).
    weight_decay
        Added to the gradient, times the parameter.
    nesterov
        Look ahead along the momentum (Sutskever et al. 2013).

    Examples
    --------
    >>> import accel
    >>> from accel import nn, optim
    >>> weight = nn.Parameter(accel.asarray([1.0, 2.0]))
    >>> optimizer = optim.SGD([weight], lr=0.25)
    >>> (weight * weight).sum().backward()
    >>> optimizer.step()
    >>> weight.tolist()
    [0.5, 1.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov},
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        check_range(group, "momentum", 0.0, 1.0)
        if group["nesterov"] and not group["momentum"]:
            raise ArgumentError(
                "Nesterov's step needs momentum, which is 0", remedy="pass momentum=0.9"
            )

    def _new_state(self, parameter: Any, group: Group) -> dict[str, Any]:
        return {"momentum_buffer": accel.zeros_like(parameter)} if group["momentum"] else {}

    def _update(self, parameter: Any, gradient: Any, state: dict[str, Any], group: Group) -> None:
        if uses(group, "weight_decay"):
            gradient = gradient + hyperparameter(group, "weight_decay") * parameter
        if uses(group, "momentum"):
            gradient = self._velocity(gradient, state, group)
        parameter -= hyperparameter(group, "lr") * gradient

    def _velocity(self, gradient: Any, state: dict[str, Any], group: Group) -> Any:
        """Update the running sum of gradients; returns the direction of the step."""
        if not state:
            raise ArgumentError(
                "momentum was 0 when this SGD was made, so that it keeps no velocity",
                remedy="make a new optimizer with momentum",
            )
        momentum, velocity = hyperparameter(group, "momentum"), state["momentum_buffer"]
        velocity *= momentum
        velocity += gradient
        return gradient + momentum * velocity if uses(group, "nesterov") else velocity
