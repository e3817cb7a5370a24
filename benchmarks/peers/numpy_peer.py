"""NumPy, written as its users write it: one array operation at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import programs
from ..reference import Reference
from ..workloads import Training, Workload
from .base import Peer


class NumPyOperations(Reference):
    """The reference's operations in float32, with an erf made of array operations."""

    def erf(self, x: np.ndarray) -> np.ndarray:
        """Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7 and rounding."""
        size = np.abs(x)
        t = 1 / (1 + 0.3275911 * size)
        poly = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t
        return np.copysign(1 - (poly + 0.254829592) * t * np.exp(-size * size), x)


class NumPy(Peer):
    """Plain NumPy."""

    ops = NumPyOperations()

    def version(self) -> str:
        return f"NumPy {np.__version__}"

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        function, arguments = super().prepare(workload)
        if getattr(workload, "function", None) is programs.add:
            return np.add, arguments
        if getattr(workload, "style", "") == "copy":
            target = np.empty_like(arguments[0])

            def copy(source: np.ndarray) -> np.ndarray:
                np.copyto(target, source)
                return target

            return copy, arguments
        return function, arguments

    def training_step(self, task: Training) -> Callable[..., Any]:
        return training_step(task, np.float32)


def training_step(task: Training, dtype: type[np.floating]) -> Callable[..., Any]:
    """The perceptron's step with its gradients by hand; in float64 it is the reference."""
    parameters = [value.astype(dtype) for value in task.parameters()]
    update = {"sgd": _sgd, "adam": _adam}[task.optimizer](parameters, task.learning_rate)

    def step(pixels: np.ndarray, labels: np.ndarray) -> Any:
        weight1, bias1, weight2, bias2 = parameters
        rows = np.arange(len(labels))
        hidden = np.maximum(pixels @ weight1.T + bias1, 0)
        logits = hidden @ weight2.T + bias2
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        totals = powers.sum(axis=1, keepdims=True)
        loss = -(logits - np.log(totals))[rows, labels].mean()
        slope = powers / totals
        slope[rows, labels] -= 1
        slope /= len(labels)
        back = (slope @ weight2) * (hidden > 0)
        update([back.T @ pixels, back.sum(axis=0), slope.T @ hidden, slope.sum(axis=0)])
        return loss

    return step


def _sgd(parameters: list[np.ndarray], rate: float) -> Callable[[list[np.ndarray]], None]:
    def update(gradients: list[np.ndarray]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient

    return update


def _adam(parameters: list[np.ndarray], rate: float) -> Callable[[list[np.ndarray]], None]:
    first = [np.zeros_like(value) for value in parameters]
    second = [np.zeros_like(value) for value in parameters]
    steps = 0

    def update(gradients: list[np.ndarray]) -> None:
        nonlocal steps
        steps += 1
        for value, m, v, gradient in zip(parameters, first, second, gradients, strict=True):
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient * gradient - v)
            spread = np.sqrt(v / (1 - 0.999**steps)) + 1e-8
            value -= rate / (1 - 0.9**steps) * m / spread

    return update
