"""torch, each operation run at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..workloads import Training, Workload
from .base import Peer


class TorchOperations:
    """The operations by their torch names."""

    exp, log, sqrt, erf = torch.exp, torch.log, torch.sqrt, torch.erf
    sin, cos, tanh, pow = torch.sin, torch.cos, torch.tanh, torch.pow
    relu, sigmoid, matmul = torch.relu, torch.sigmoid, torch.matmul
    gelu, linear = staticmethod(functional.gelu), staticmethod(functional.linear)
    cross_entropy = staticmethod(functional.cross_entropy)
    attention = staticmethod(functional.scaled_dot_product_attention)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=-1)

    def layer_norm(self, x: torch.Tensor, weight: Any, bias: Any) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def sum(self, x: torch.Tensor, axis: int | None) -> torch.Tensor:
        return torch.sum(x) if axis is None else torch.sum(x, dim=axis)

    def mean(self, x: torch.Tensor, axis: int | None) -> torch.Tensor:
        return torch.mean(x) if axis is None else torch.mean(x, dim=axis)

    def var(self, x: torch.Tensor, axis: int | None) -> torch.Tensor:
        return torch.var(x, dim=axis, correction=0)

    def logsumexp(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(x, dim=-1)

    def logsumexp_slope(self, x: torch.Tensor) -> torch.Tensor:
        return _slope(x, lambda y: torch.logsumexp(y, dim=-1).sum())

    def cross_entropy_slope(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return _slope(x, lambda y: functional.cross_entropy(y, labels))

    def conv2d(
        self, x: Any, weight: Any, bias: Any, stride: int, padding: int, groups: int
    ) -> torch.Tensor:
        return functional.conv2d(x, weight, bias, stride, padding, groups=groups)

    def max_pool2d(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x, 2)

    def flatten(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x, 1)

    def heads(self, x: torch.Tensor, count: int) -> torch.Tensor:
        return x.unflatten(-1, (count, -1)).transpose(1, 2)

    def merge_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).flatten(-2)

    def thirds(self, x: torch.Tensor) -> Any:
        return x.chunk(3, dim=-1)


def _slope(x: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    leaf = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    return slope


class TorchEager(Peer):
    """torch on the CPU; images in the memory layout that is faster."""

    ops: Any = TorchOperations()

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        self.layout = torch.contiguous_format

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def array(self, value: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(value)
        return tensor.contiguous(memory_format=self.layout) if tensor.ndim == 4 else tensor

    def numpy(self, value: torch.Tensor) -> np.ndarray:
        return value.detach().numpy()

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        torch.set_grad_enabled(True)
        images = workload.name.startswith(("conv", "depthwise", "cnn"))
        found = []
        for layout in (torch.contiguous_format, torch.channels_last) if images else (None,):
            self.layout = layout or torch.contiguous_format
            function, arguments = super().prepare(workload)
            found.append((_seconds(function, arguments) if images else 0.0, function, arguments))
        _, function, arguments = min(found, key=lambda entry: entry[0])
        if not isinstance(workload, Training) and "slope" not in workload.name:
            torch.set_grad_enabled(False)  # once: entering a mode on every call costs a microsecond
        return function, arguments

    def training_step(self, task: Training) -> Callable[..., Any]:
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
        )
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), task.parameters(), strict=True):
                parameter.copy_(torch.from_numpy(value))
        optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        optimizer = optimizers[task.optimizer](model.parameters(), lr=task.learning_rate)
        forward, update = self.compile(model), self.compile(optimizer.step)

        def step(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(forward(pixels), labels)
            loss.backward()
            update()
            return loss

        return step


def _seconds(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The least time of a few calls, after one that compiles."""
    function(*arguments)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        function(*arguments)
        spent.append(time.perf_counter() - start)
    return min(spent)
