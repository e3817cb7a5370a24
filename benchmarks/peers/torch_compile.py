"""torch.compile with its defaults; a training step compiles the model and the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .torch_eager import TorchEager, TorchOperations


class CompiledOperations(TorchOperations):
    """Gradients by torch.func, which its compiler follows."""

    def logsumexp_slope(self, x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda y: torch.logsumexp(y, dim=-1).sum())(x)

    def cross_entropy_slope(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda y: self.cross_entropy(y, labels))(x)


class TorchCompile(TorchEager):
    """torch with Inductor, which needs a C++ compiler on the machine."""

    ops = CompiledOperations()

    def version(self) -> str:
        return f"torch.compile {torch.__version__}"

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        torch.compiler.reset()
        return torch.compile(function, dynamic=False)
