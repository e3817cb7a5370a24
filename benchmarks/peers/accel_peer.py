"""accel in pure mode: torch is never imported in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import accel
import accel.nn.functional as functional
from accel import nn, optim

from ..workloads import Training, Workload
from .base import Peer


class AccelOperations:
    """The operations by accel's names."""

    exp, log, sqrt, erf = (staticmethod(f) for f in (accel.exp, accel.log, accel.sqrt, accel.erf))
    sin, cos, tanh, pow = (staticmethod(f) for f in (accel.sin, accel.cos, accel.tanh, accel.pow))
    relu, sigmoid = staticmethod(accel.relu), staticmethod(accel.sigmoid)
    gelu, matmul = staticmethod(accel.gelu), staticmethod(accel.matmul)
    linear = staticmethod(functional.linear)
    cross_entropy = staticmethod(functional.cross_entropy)

    def softmax(self, x: Any) -> Any:
        return accel.softmax(x, dim=-1)

    def layer_norm(self, x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def sum(self, x: Any, axis: int | None) -> Any:
        return accel.sum(x, axis=axis)

    def mean(self, x: Any, axis: int | None) -> Any:
        return accel.mean(x, axis=axis)

    def var(self, x: Any, axis: int | None) -> Any:
        return accel.var(x, axis=axis, correction=0)

    def logsumexp(self, x: Any) -> Any:
        return accel.logsumexp(x, dim=-1)

    def logsumexp_slope(self, x: Any) -> Any:
        return accel.grad(lambda y: accel.sum(accel.logsumexp(y, dim=-1)))(x)

    def cross_entropy_slope(self, x: Any, labels: Any) -> Any:
        return accel.grad(lambda y: functional.cross_entropy(y, labels))(x)

    def conv2d(
        self, x: Any, weight: Any, bias: Any, stride: int, padding: int, groups: int
    ) -> Any:
        return functional.conv2d(x, weight, bias, stride, padding, groups=groups)

    def max_pool2d(self, x: Any) -> Any:
        return functional.max_pool2d(x, 2)

    def flatten(self, x: Any) -> Any:
        return accel.flatten(x, 1)

    def attention(self, query: Any, key: Any, value: Any) -> Any:
        return functional.scaled_dot_product_attention(query, key, value)

    def heads(self, x: Any, count: int) -> Any:
        batch, length, width = x.shape
        return accel.permute(
            accel.reshape(x, (batch, length, count, width // count)), (0, 2, 1, 3)
        )

    def merge_heads(self, x: Any) -> Any:
        batch, count, length, width = x.shape
        return accel.reshape(accel.permute(x, (0, 2, 1, 3)), (batch, length, count * width))

    def thirds(self, x: Any) -> Any:
        return accel.chunk(x, 3, dim=-1)


class Accel(Peer):
    """accel, every function under `accel.compile` unless the workload says otherwise."""

    ops = AccelOperations()

    def version(self) -> str:
        return f"accel {accel.__version__}"

    def array(self, value: np.ndarray) -> Any:
        return accel.asarray(value)

    def numpy(self, value: Any) -> np.ndarray:
        return value if isinstance(value, np.ndarray) else value.numpy()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return accel.compile(function)

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        accel.set_num_threads(getattr(workload, "threads", 0) or self.threads)
        style = getattr(workload, "style", "compiled")
        if isinstance(workload, Workload) and style == "lazy":
            program = self.program(workload)
            return lambda *arrays: program(*arrays).numpy(), super().prepare(workload)[1]
        function, arguments = super().prepare(workload)
        return function, workload.sample() if style == "numpy" else arguments

    def training_step(self, task: Training) -> Callable[..., Any]:
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        model.load_state_dict(dict(zip(model.state_dict(), task.parameters(), strict=True)))
        optimizers = {"sgd": optim.SGD, "adam": optim.Adam}
        optimizer = optimizers[task.optimizer](model.parameters(), lr=task.learning_rate)

        @accel.compile
        def step(pixels: Any, labels: Any) -> Any:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(pixels), labels)
            loss.backward()
            optimizer.step()
            return loss

        return step
