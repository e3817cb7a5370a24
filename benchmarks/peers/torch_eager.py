"""torch, each operation run at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..workloads import Training
from .base import Peer


class TorchOperations:
    """The operations by their torch names."""

    exp, log, sqrt, erf = torch.exp, torch.log, torch.sqrt, torch.erf
    relu, sigmoid, matmul = torch.relu, torch.sigmoid, torch.matmul
    gelu = staticmethod(functional.gelu)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=-1)

    def layer_norm(self, x: torch.Tensor, weight: Any, bias: Any) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def sum_rows(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=-1)


class TorchEager(Peer):
    """torch on the CPU."""

    ops = TorchOperations()

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def array(self, value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(value)

    def numpy(self, value: torch.Tensor) -> np.ndarray:
        return value.detach().numpy()

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
