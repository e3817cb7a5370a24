"""accel in pure mode: torch is never imported in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import accel
import accel.nn.functional as functional
from accel import nn, optim

from ..workloads import Training
from .base import Peer


class AccelOperations:
    """The operations by accel's names."""

    exp, log, sqrt, erf = (staticmethod(f) for f in (accel.exp, accel.log, accel.sqrt, accel.erf))
    relu, sigmoid = staticmethod(accel.relu), staticmethod(accel.sigmoid)
    gelu, matmul = staticmethod(accel.gelu), staticmethod(accel.matmul)

    def softmax(self, x: Any) -> Any:
        return accel.softmax(x, dim=-1)

    def layer_norm(self, x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def sum_rows(self, x: Any) -> Any:
        return accel.sum(x, axis=-1)


class Accel(Peer):
    """accel, every function under `accel.compile`."""

    ops = AccelOperations()

    def version(self) -> str:
        return f"accel {accel.__version__}"

    def array(self, value: np.ndarray) -> Any:
        return accel.asarray(value)

    def numpy(self, value: Any) -> np.ndarray:
        return value.numpy()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return accel.compile(function)

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
