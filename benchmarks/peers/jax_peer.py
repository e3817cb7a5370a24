"""jax.jit on the CPU; every call waits for its result."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import Training
from .base import Partial, Peer


class JaxOperations(Partial):
    """The operations by jax's names."""

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        self.jax, self.jnp = jax, jnp
        self.exp, self.log, self.sqrt, self.pow = jnp.exp, jnp.log, jnp.sqrt, jnp.power
        self.sin, self.cos, self.tanh = jnp.sin, jnp.cos, jnp.tanh
        self.sum, self.mean, self.var = jnp.sum, jnp.mean, jnp.var
        self.erf = jax.scipy.special.erf
        self.relu, self.sigmoid = jax.nn.relu, jax.nn.sigmoid
        self.matmul = jnp.matmul

    def gelu(self, x: Any) -> Any:
        return self.jax.nn.gelu(x, approximate=False)

    def softmax(self, x: Any) -> Any:
        return self.jax.nn.softmax(x, axis=-1)

    def layer_norm(self, x: Any, weight: Any, bias: Any) -> Any:
        mean = x.mean(axis=-1, keepdims=True)
        variance = x.var(axis=-1, keepdims=True)
        return (x - mean) * self.jax.lax.rsqrt(variance + 1e-5) * weight + bias

    def logsumexp(self, x: Any) -> Any:
        return self.jax.scipy.special.logsumexp(x, axis=-1)

    def logsumexp_slope(self, x: Any) -> Any:
        return self.jax.grad(lambda y: self.logsumexp(y).sum())(x)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        chosen = self.jnp.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
        return (self.logsumexp(x) - chosen).mean()

    def cross_entropy_slope(self, x: Any, labels: Any) -> Any:
        return self.jax.grad(self.cross_entropy)(x, labels)

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        return x @ weight.T + bias

    def conv2d(
        self, x: Any, weight: Any, bias: Any, stride: int, padding: int, groups: int
    ) -> Any:
        found = self.jax.lax.conv_general_dilated(
            x, weight, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups
        )
        return found + bias[:, None, None]

    def max_pool2d(self, x: Any) -> Any:
        window = (1, 1, 2, 2)
        return self.jax.lax.reduce_window(
            x, -self.jnp.inf, self.jax.lax.max, window, window, "VALID"
        )

    def flatten(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1)

    def attention(self, query: Any, key: Any, value: Any) -> Any:
        scores = query @ key.swapaxes(-1, -2) * (query.shape[-1] ** -0.5)
        return self.softmax(scores) @ value

    def heads(self, x: Any, count: int) -> Any:
        batch, length, width = x.shape
        return x.reshape(batch, length, count, width // count).transpose(0, 2, 1, 3)

    def merge_heads(self, x: Any) -> Any:
        batch, _, length, _ = x.shape
        return x.transpose(0, 2, 1, 3).reshape(batch, length, -1)

    def thirds(self, x: Any) -> Any:
        return self.jnp.split(x, 3, axis=-1)


class Jax(Peer):
    """jax with XLA's CPU compiler, held on as many cores as it may use threads."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            os.sched_setaffinity(0, cores)
        import jax

        jax.config.update("jax_enable_x64", True)  # for labels, and products in float64
        self.jax = jax
        self.ops = JaxOperations()

    def version(self) -> str:
        return f"jax {self.jax.__version__}"

    def array(self, value: np.ndarray) -> Any:
        return self.jax.numpy.asarray(value)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        jitted = self.jax.jit(function)
        return lambda *arrays: jitted(*arrays).block_until_ready()

    def training_step(self, task: Training) -> Callable[..., Any]:
        jnp, ops = self.jax.numpy, self.ops
        values = [self.array(value) for value in task.parameters()]
        moments = [[jnp.zeros_like(v) for v in values] for _ in range(2)]
        state = (values, moments, jnp.zeros((), jnp.float32))

        def loss(parameters: Any, pixels: Any, labels: Any) -> Any:
            weight1, bias1, weight2, bias2 = parameters
            hidden = ops.relu(ops.linear(pixels, weight1, bias1))
            return ops.cross_entropy(ops.linear(hidden, weight2, bias2), labels)

        def sgd(value: Any, m: Any, v: Any, slope: Any, count: Any) -> Any:
            return value - task.learning_rate * slope, m, v

        def adam(value: Any, m: Any, v: Any, slope: Any, count: Any) -> Any:
            m = m + 0.1 * (slope - m)
            v = v + 0.001 * (slope * slope - v)
            spread = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
            return value - task.learning_rate / (1 - 0.9**count) * m / spread, m, v

        update = sgd if task.optimizer == "sgd" else adam

        @self.jax.jit
        def advance(state: Any, pixels: Any, labels: Any) -> Any:
            parameters, (first, second), count = state
            found, slopes = self.jax.value_and_grad(loss)(parameters, pixels, labels)
            rows = zip(parameters, first, second, slopes, strict=True)
            moved = [update(*row, count + 1) for row in rows]
            columns = [list(column) for column in zip(*moved, strict=True)]
            return found, (columns[0], columns[1:], count + 1)

        def step(pixels: Any, labels: Any) -> Any:
            nonlocal state
            found, state = advance(state, pixels, labels)
            return found.block_until_ready()

        return step
