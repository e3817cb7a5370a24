"""Losses as modules; each calls the function of the same name."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from . import functional
from .module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss",
    "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip


class _Loss(Module):
    """A function of prediction and target; `reduction` is "mean", "sum" or "none"."""

    function = ""
    reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, *, reduction: str = "mean", **settings: Any) -> None:
        super().__init__()
        if reduction not in self.reductions:
            raise ArgumentError(
                f"{type(self).__name__}: reduction {reduction!r}",
                remedy=f"use one of {', '.join(self.reductions)}",
            )
        self.reduction = reduction
        self.settings = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, prediction: Any, target: Any) -> Any:
        settings = {name: getattr(self, name) for name in self.settings}
        function = getattr(functional, self.function)
        return function(prediction, target, reduction=self.reduction, **settings)

    def extra_repr(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.settings]
        return ", ".join([*shown, f"reduction={self.reduction!r}"])


class CrossEntropyLoss(_Loss):
    """Of logits [N, C, …] and class numbers [N, …]: minus the log-probability of the class."""

    function = "cross_entropy"

    def __init__(
        self, *, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__(
            reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing
        )


class NLLLoss(_Loss):
    """Of log-probabilities [N, C, …] and class numbers [N, …]."""

    function = "nll_loss"

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)


class MSELoss(_Loss):
    """The squared difference."""

    function = "mse_loss"


class L1Loss(_Loss):
    """The absolute difference."""

    function = "l1_loss"


class SmoothL1Loss(_Loss):
    """Squared within `beta` of the target, absolute beyond."""

    function = "smooth_l1_loss"

    def __init__(self, *, beta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """Squared within `delta` of the target, `delta` times the absolute difference beyond."""

    function = "huber_loss"

    def __init__(self, *, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, delta=delta)


class BCELoss(_Loss):
    """Binary cross entropy of probabilities."""

    function = "binary_cross_entropy"


class BCEWithLogitsLoss(_Loss):
    """Binary cross entropy of logits, computed without overflow."""

    function = "binary_cross_entropy_with_logits"


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities from the target distribution."""

    function = "kl_div"
    reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, *, log_target: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, log_target=log_target)
