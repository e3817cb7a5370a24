"""numba: loops by hand, as its users write them, without fastmath."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit

from .. import programs
from ..workloads import Training, Workload
from .base import Absent, Peer

HALF, ROOT_HALF = np.float32(0.5), np.float32(math.sqrt(0.5))
ONE, TWO = np.float32(1), np.float32(2)


@njit
def _add(x: Any, a: Any) -> Any:
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = x[i] + a[i]
    return out


@njit
def _relu_chain(x: Any, a: Any, b: Any) -> Any:
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = max(x[i] * a[i] + b[i], np.float32(0))
    return out


@njit
def _gated_gelu(x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    out = np.empty_like(x)
    for i in range(x.size):
        y = x[i] * a[i] + b[i]
        gate = ONE / (ONE + math.exp(-c[i]))
        out[i] = HALF * y * (ONE + math.erf(y * ROOT_HALF)) * gate + d[i]
    return out


@njit
def _black_scholes(spot: Any, strike: Any, years: Any) -> Any:
    out = np.empty_like(spot)
    rate, volatility = np.float32(0.02), np.float32(0.3)
    for i in range(spot.size):
        spread = volatility * math.sqrt(years[i])
        drift = (rate + HALF * volatility * volatility) * years[i]
        d1 = (math.log(spot[i] / strike[i]) + drift) / spread
        d2 = d1 - spread
        below1 = HALF * (ONE + math.erf(d1 * ROOT_HALF))
        below2 = HALF * (ONE + math.erf(d2 * ROOT_HALF))
        out[i] = spot[i] * below1 - strike[i] * math.exp(-rate * years[i]) * below2
    return out


def _unary(function: Callable[[float], float]) -> Callable[..., Any]:
    @njit
    def run(x: Any) -> Any:
        out = np.empty_like(x)
        for i in range(x.size):
            out[i] = function(x[i])
        return out

    return run


@njit
def _power(x: Any, y: Any) -> Any:
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = x[i] ** y[i]
    return out


@njit
def _scale_shift(x: Any) -> Any:
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = x[i] * TWO + ONE
    return out


@njit
def _softmax(x: Any) -> Any:
    out = np.empty_like(x)
    rows, columns = x.shape
    for r in range(rows):
        top = x[r, 0]
        for c in range(columns):
            top = max(top, x[r, c])
        total = np.float32(0)
        for c in range(columns):
            out[r, c] = math.exp(x[r, c] - top)
            total += out[r, c]
        for c in range(columns):
            out[r, c] /= total
    return out


@njit
def _layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    out = np.empty_like(x)
    rows, columns = x.shape
    for r in range(rows):
        total = np.float32(0)
        for c in range(columns):
            total += x[r, c]
        mean = total / np.float32(columns)
        spread = np.float32(0)
        for c in range(columns):
            spread += (x[r, c] - mean) * (x[r, c] - mean)
        scale = ONE / math.sqrt(spread / np.float32(columns) + np.float32(1e-5))
        for c in range(columns):
            out[r, c] = (x[r, c] - mean) * scale * weight[c] + bias[c]
    return out


@njit
def _sum_first(x: Any) -> Any:
    out = np.zeros(x.shape[1], x.dtype)
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[c] += x[r, c]
    return out


@njit
def _mean_first(x: Any) -> Any:
    return _sum_first(x) / np.float32(x.shape[0])


@njit
def _sum_all(x: Any) -> Any:
    # Eight running sums, so that the additions need not wait for each other.
    flat = x.reshape(-1)
    totals = np.zeros(8, np.float64)
    for i in range(0, flat.size, 8):
        for j in range(8):
            totals[j] += flat[i + j]
    return np.float32(totals.sum())


@njit
def _cross_entropy_slope(x: Any, labels: Any) -> Any:
    out = _softmax(x)
    scale = ONE / np.float32(len(labels))
    for r in range(x.shape[0]):
        out[r, labels[r]] -= ONE
        for c in range(x.shape[1]):
            out[r, c] *= scale
    return out


@njit
def _logsumexp(x: Any) -> Any:
    rows, columns = x.shape
    out = np.empty(rows, x.dtype)
    for r in range(rows):
        top = x[r, 0]
        for c in range(columns):
            top = max(top, x[r, c])
        total = np.float32(0)
        for c in range(columns):
            total += math.exp(x[r, c] - top)
        out[r] = top + math.log(total)
    return out


@njit
def _matmul(a: Any, b: Any) -> Any:
    return np.dot(a, b)


@njit
def _perceptron(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    hidden = np.dot(x, w1.T)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            hidden[r, c] = max(hidden[r, c] + b1[c], np.float32(0))
    out = np.dot(hidden, w2.T)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[r, c] += b2[c]
    return out


KERNELS: dict[Any, Any] = {
    programs.add: _add,
    programs.relu_chain: _relu_chain,
    programs.gated_gelu: _gated_gelu,
    programs.black_scholes: _black_scholes,
    programs.exp: _unary(njit(lambda v: math.exp(v))),
    programs.log: _unary(njit(lambda v: math.log(v))),
    programs.tanh: _unary(njit(lambda v: math.tanh(v))),
    programs.sin: _unary(njit(lambda v: math.sin(v))),
    programs.cos: _unary(njit(lambda v: math.cos(v))),
    programs.erf: _unary(njit(lambda v: math.erf(v))),
    programs.power: _power,
    programs.scale_shift: _scale_shift,
    programs.softmax: _softmax,
    programs.layer_norm: _layer_norm,
    programs.sum_first: _sum_first,
    programs.mean_first: _mean_first,
    programs.sum_all: _sum_all,
    programs.logsumexp: _logsumexp,
    programs.logsumexp_slope: _softmax,
    programs.cross_entropy_slope: _cross_entropy_slope,
    programs.matmul: _matmul,
    programs.perceptron: _perceptron,
}


@njit
def _slopes(pixels: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """The loss, and its gradients by the parameters."""
    hidden = np.dot(pixels, w1.T)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            hidden[r, c] = max(hidden[r, c] + b1[c], np.float32(0))
    slope = np.dot(hidden, w2.T)
    rows, classes = slope.shape
    loss = np.float32(0)
    for r in range(rows):
        top = np.float32(-np.inf)
        for c in range(classes):
            slope[r, c] += b2[c]
            top = max(top, slope[r, c])
        right = slope[r, labels[r]]
        total = np.float32(0)
        for c in range(classes):
            slope[r, c] = math.exp(slope[r, c] - top)
            total += slope[r, c]
        loss += top + math.log(total) - right
        scale = ONE / (total * np.float32(rows))
        for c in range(classes):
            slope[r, c] *= scale
        slope[r, labels[r]] -= ONE / np.float32(rows)
    back = np.dot(slope, w2)
    for r in range(rows):
        for c in range(back.shape[1]):
            if hidden[r, c] <= 0:
                back[r, c] = np.float32(0)
    return (
        loss / np.float32(rows), np.dot(back.T, pixels), _sum_first(back),
        np.dot(slope.T, hidden), _sum_first(slope),
    )  # fmt: skip


@njit
def _sgd(value: Any, slope: Any, rate: Any) -> None:
    for i in range(value.size):
        value[i] -= rate * slope[i]


@njit
def _adam(value: Any, m: Any, v: Any, slope: Any, rate: Any, c1: Any, c2: Any) -> None:
    for i in range(value.size):
        m[i] += np.float32(0.1) * (slope[i] - m[i])
        v[i] += np.float32(0.001) * (slope[i] * slope[i] - v[i])
        value[i] -= rate / c1 * m[i] / (math.sqrt(v[i] / c2) + np.float32(1e-8))


@njit
def _sgd_step(pixels: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, rate: Any) -> Any:
    loss, g1, h1, g2, h2 = _slopes(pixels, labels, w1, b1, w2, b2)
    _sgd(w1.reshape(-1), g1.reshape(-1), rate)
    _sgd(b1, h1, rate)
    _sgd(w2.reshape(-1), g2.reshape(-1), rate)
    _sgd(b2, h2, rate)
    return loss


@njit
def _adam_step(
    pixels: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, m: Any, v: Any, rate: Any,
    c1: Any, c2: Any,
) -> Any:  # fmt: skip
    loss, g1, h1, g2, h2 = _slopes(pixels, labels, w1, b1, w2, b2)
    _adam(w1.reshape(-1), m[0], v[0], g1.reshape(-1), rate, c1, c2)
    _adam(b1, m[1], v[1], h1, rate, c1, c2)
    _adam(w2.reshape(-1), m[2], v[2], g2.reshape(-1), rate, c1, c2)
    _adam(b2, m[3], v[3], h2, rate, c1, c2)
    return loss


class Numba(Peer):
    """Loops compiled by numba; products are BLAS calls through SciPy."""

    def version(self) -> str:
        return f"numba {numba.__version__}"

    def program(self, workload: Workload) -> Callable[..., Any]:
        kernel = KERNELS.get(workload.function)
        if kernel is None or workload.sample()[0].ndim > 2:
            raise Absent("no loops written for it")
        weights = workload.parameters()
        if not weights:
            return kernel
        return lambda *arrays: kernel(*arrays, *weights)

    def training_step(self, task: Training) -> Callable[..., Any]:
        values = [value.copy() for value in task.parameters()]
        rate = np.float32(task.learning_rate)
        if task.optimizer == "sgd":
            return lambda pixels, labels: _sgd_step(pixels, labels, *values, rate)
        first = tuple([np.zeros(value.size, np.float32) for value in values])
        second = tuple([np.zeros(value.size, np.float32) for value in values])
        steps = 0

        def step(pixels: np.ndarray, labels: np.ndarray) -> Any:
            nonlocal steps
            steps += 1
            corrections = np.float32(1 - 0.9**steps), np.float32(1 - 0.999**steps)
            return _adam_step(pixels, labels, *values, first, second, rate, *corrections)

        return step
