"""The programs that are timed, written once over a small namespace of operations.

Each peer supplies the namespace (:class:`Operations`) in its own terms; arithmetic is the arrays'
own. A peer that lacks an operation leaves the programs out that need it.
"""

from __future__ import annotations

import math
from typing import Any, Protocol


class Operations(Protocol):
    """What programs are written with. `axis` None reduces over everything."""

    def exp(self, x: Any) -> Any: ...
    def log(self, x: Any) -> Any: ...
    def sqrt(self, x: Any) -> Any: ...
    def sin(self, x: Any) -> Any: ...
    def cos(self, x: Any) -> Any: ...
    def tanh(self, x: Any) -> Any: ...
    def erf(self, x: Any) -> Any: ...
    def pow(self, x: Any, y: Any) -> Any: ...
    def relu(self, x: Any) -> Any: ...
    def sigmoid(self, x: Any) -> Any: ...
    def gelu(self, x: Any) -> Any: ...
    def softmax(self, x: Any) -> Any: ...
    def layer_norm(self, x: Any, weight: Any, bias: Any) -> Any: ...
    def sum(self, x: Any, axis: int | None) -> Any: ...
    def mean(self, x: Any, axis: int | None) -> Any: ...
    def var(self, x: Any, axis: int | None) -> Any: ...
    def logsumexp(self, x: Any) -> Any: ...
    def logsumexp_slope(self, x: Any) -> Any: ...
    def cross_entropy(self, x: Any, labels: Any) -> Any: ...
    def cross_entropy_slope(self, x: Any, labels: Any) -> Any: ...
    def matmul(self, a: Any, b: Any) -> Any: ...
    def linear(self, x: Any, weight: Any, bias: Any) -> Any: ...
    def conv2d(self, x: Any, weight: Any, bias: Any, stride: int, padding: int,
               groups: int) -> Any: ...  # fmt: skip
    def max_pool2d(self, x: Any) -> Any: ...
    def flatten(self, x: Any) -> Any: ...
    def attention(self, query: Any, key: Any, value: Any) -> Any: ...
    def heads(self, x: Any, count: int) -> Any: ...
    def merge_heads(self, x: Any) -> Any: ...
    def thirds(self, x: Any) -> Any: ...


def add(ops: Operations, x: Any, a: Any) -> Any:
    return x + a


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


def long_chain(ops: Operations, x: Any) -> Any:
    """A thousand multiplications and additions, each on the last result."""
    for i in range(500):
        x = x * 0.999 + (0.001 * (i % 7) + 0.001)
    return x


def exp(ops: Operations, x: Any) -> Any:
    return ops.exp(x)


def log(ops: Operations, x: Any) -> Any:
    return ops.log(x)


def tanh(ops: Operations, x: Any) -> Any:
    return ops.tanh(x)


def sin(ops: Operations, x: Any) -> Any:
    return ops.sin(x)


def cos(ops: Operations, x: Any) -> Any:
    return ops.cos(x)


def erf(ops: Operations, x: Any) -> Any:
    return ops.erf(x)


def power(ops: Operations, x: Any, y: Any) -> Any:
    return ops.pow(x, y)


def copy(ops: Operations, x: Any) -> Any:
    return x


def scale_shift(ops: Operations, x: Any) -> Any:
    return x * 2.0 + 1.0


def softmax(ops: Operations, x: Any) -> Any:
    return ops.softmax(x)


def layer_norm(ops: Operations, x: Any, weight: Any, bias: Any) -> Any:
    return ops.layer_norm(x, weight, bias)


def sum_last(ops: Operations, x: Any) -> Any:
    return ops.sum(x, -1)


def sum_first(ops: Operations, x: Any) -> Any:
    return ops.sum(x, 0)


def sum_all(ops: Operations, x: Any) -> Any:
    return ops.sum(x, None)


def mean_last(ops: Operations, x: Any) -> Any:
    return ops.mean(x, -1)


def mean_first(ops: Operations, x: Any) -> Any:
    return ops.mean(x, 0)


def mean_all(ops: Operations, x: Any) -> Any:
    return ops.mean(x, None)


def var_last(ops: Operations, x: Any) -> Any:
    return ops.var(x, -1)


def var_first(ops: Operations, x: Any) -> Any:
    return ops.var(x, 0)


def var_all(ops: Operations, x: Any) -> Any:
    return ops.var(x, None)


def logsumexp(ops: Operations, x: Any) -> Any:
    return ops.logsumexp(x)


def logsumexp_slope(ops: Operations, x: Any) -> Any:
    """The gradient of the sum of the rows' log-sum-exp."""
    return ops.logsumexp_slope(x)


def cross_entropy(ops: Operations, x: Any, labels: Any) -> Any:
    return ops.cross_entropy(x, labels)


def cross_entropy_slope(ops: Operations, x: Any, labels: Any) -> Any:
    """The gradient of the mean cross-entropy by the logits."""
    return ops.cross_entropy_slope(x, labels)


def matmul(ops: Operations, a: Any, b: Any) -> Any:
    return ops.matmul(a, b)


def perceptron(ops: Operations, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return ops.linear(ops.relu(ops.linear(x, w1, b1)), w2, b2)


def conv3x3(ops: Operations, x: Any, weight: Any, bias: Any) -> Any:
    return ops.conv2d(x, weight, bias, 1, 1, 1)


def conv7x7(ops: Operations, x: Any, weight: Any, bias: Any) -> Any:
    return ops.conv2d(x, weight, bias, 2, 3, 1)


def depthwise(ops: Operations, x: Any, weight: Any, bias: Any) -> Any:
    return ops.conv2d(x, weight, bias, 1, 1, 64)


def small_cnn(
    ops: Operations, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any
) -> Any:
    x = ops.max_pool2d(ops.relu(ops.conv2d(x, w1, b1, 1, 1, 1)))
    x = ops.max_pool2d(ops.relu(ops.conv2d(x, w2, b2, 1, 1, 1)))
    return ops.linear(ops.flatten(x), w3, b3)


def attention(ops: Operations, query: Any, key: Any, value: Any) -> Any:
    return ops.attention(query, key, value)


def transformer_block(ops: Operations, x: Any, *weights: Any) -> Any:
    """A pre-norm encoder block with 12 heads."""
    g1, s1, wi, bi, wo, bo, g2, s2, w1, b1, w2, b2 = weights
    q, k, v = (
        ops.heads(part, 12) for part in ops.thirds(ops.linear(ops.layer_norm(x, g1, s1), wi, bi))
    )
    x = x + ops.linear(ops.merge_heads(ops.attention(q, k, v)), wo, bo)
    hidden = ops.gelu(ops.linear(ops.layer_norm(x, g2, s2), w1, b1))
    return x + ops.linear(hidden, w2, b2)
