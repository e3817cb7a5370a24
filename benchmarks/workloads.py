"""What is timed, declared once for every peer.

A :class:`Workload` is a function of a namespace of operations (:class:`Operations`) and arrays;
each peer supplies the namespace in its own terms, and :class:`Reference` supplies it in float64
NumPy, which says what is right. A :class:`Training` is a model's training step, which every
library writes in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Arrays = tuple[np.ndarray, ...]


class Operations(Protocol):
    """The operations that workloads are written with; arithmetic is the arrays' own."""

    def exp(self, x: Any) -> Any: ...
    def log(self, x: Any) -> Any: ...
    def sqrt(self, x: Any) -> Any: ...
    def erf(self, x: Any) -> Any: ...
    def relu(self, x: Any) -> Any: ...
    def sigmoid(self, x: Any) -> Any: ...
    def gelu(self, x: Any) -> Any: ...
    def softmax(self, x: Any) -> Any: ...
    def layer_norm(self, x: Any, weight: Any, bias: Any) -> Any: ...
    def sum_rows(self, x: Any) -> Any: ...
    def matmul(self, a: Any, b: Any) -> Any: ...


@dataclass(frozen=True)
class Workload:
    """One function at one size; `tolerance` is relative to the largest reference value."""

    name: str
    function: Callable[..., Any]
    inputs: Callable[[np.random.Generator], Arrays]
    tolerance: float = 1e-5

    def sample(self) -> Arrays:
        """The inputs: the same in every process."""
        return self.inputs(np.random.default_rng(0))


@dataclass(frozen=True)
class Training:
    """A training step of a 64-128-10 perceptron with ReLU on a batch of 64 digits-like rows."""

    name: str
    optimizer: str
    learning_rate: float
    batch: int = 64
    checked_steps: int = 5
    tolerance: float = 1e-4

    def sample(self) -> Arrays:
        """The batch: pixels in [0, 1] and int64 labels."""
        rng = np.random.default_rng(1)
        pixels = rng.random((self.batch, 64), dtype=np.float32)
        return pixels, rng.integers(0, 10, self.batch)

    def parameters(self) -> Arrays:
        """Initial weights and biases, shaped as torch's Linear has them."""
        rng = np.random.default_rng(2)
        shapes = [(128, 64), (128,), (10, 128), (10,)]
        return tuple(rng.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes)


class Reference:
    """The operations in NumPy, as exact as their inputs' dtype allows."""

    exp, log, sqrt = staticmethod(np.exp), staticmethod(np.log), staticmethod(np.sqrt)
    matmul = staticmethod(np.matmul)

    def erf(self, x: np.ndarray) -> np.ndarray:
        return np.vectorize(math.erf, otypes=[np.float64])(x)

    def relu(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def gelu(self, x: np.ndarray) -> np.ndarray:
        return x * 0.5 * (1 + self.erf(x * math.sqrt(0.5)))

    def softmax(self, x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * weight + bias

    def sum_rows(self, x: np.ndarray) -> np.ndarray:
        return x.sum(axis=-1)


def relu_chain(ops: Operations, x: Any, a: Any, b: Any) -> Any:
    return ops.relu(x * a + b)


def gated_gelu(ops: Operations, x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return ops.gelu(x * a + b) * ops.sigmoid(c) + d


def black_scholes(ops: Operations, spot: Any, strike: Any, years: Any) -> Any:
    rate, volatility = 0.02, 0.3
    spread = volatility * ops.sqrt(years)
    d1 = (ops.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    below1 = 0.5 * (1 + ops.erf(d1 * math.sqrt(0.5)))
    below2 = 0.5 * (1 + ops.erf(d2 * math.sqrt(0.5)))
    return spot * below1 - strike * ops.exp(-rate * years) * below2


def softmax(ops: Operations, x: Any) -> Any:
    return ops.softmax(x)


def layer_norm(ops: Operations, x: Any, weight: Any, bias: Any) -> Any:
    return ops.layer_norm(x, weight, bias)


def sum_rows(ops: Operations, x: Any) -> Any:
    return ops.sum_rows(x)


def matmul(ops: Operations, a: Any, b: Any) -> Any:
    return ops.matmul(a, b)


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    def draw(rng: np.random.Generator) -> Arrays:
        return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)

    return draw


def _options(count: int) -> Callable[[np.random.Generator], Arrays]:
    def draw(rng: np.random.Generator) -> Arrays:
        ranges = [(20.0, 200.0), (20.0, 200.0), (0.1, 3.0)]
        return tuple(rng.uniform(low, high, count).astype(np.float32) for low, high in ranges)

    return draw


def _declare() -> list[Workload | Training]:
    found: list[Workload | Training] = [
        Workload("dispatch/16", relu_chain, _normal((16,), (16,), (16,)))
    ]
    for count in (1_000, 10_000, 100_000, 1_000_000):
        found.append(Workload(f"elementwise/{count}", gated_gelu, _normal(*[(count,)] * 5)))
    for count in (10_000, 1_000_000):
        found.append(Workload(f"black_scholes/{count}", black_scholes, _options(count)))
    for rows, columns in ((64, 64), (4096, 1024)):
        size, shape = f"{rows}x{columns}", (rows, columns)
        row = (columns,)
        found += [
            Workload(f"softmax/{size}", softmax, _normal(shape)),
            Workload(f"layer_norm/{size}", layer_norm, _normal(shape, row, row)),
            Workload(f"sum/{size}", sum_rows, _normal(shape)),
        ]
    for n in (64, 128, 256, 512, 1024):
        found.append(Workload(f"matmul/{n}", matmul, _normal((n, n), (n, n))))
    found += [Training("train/sgd", "sgd", 0.1), Training("train/adam", "adam", 1e-3)]
    return found


WORKLOADS = {workload.name: workload for workload in _declare()}
