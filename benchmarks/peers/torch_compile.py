"""torch.compile with its defaults; a training step compiles the model and the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .torch_eager import TorchEager


class TorchCompile(TorchEager):
    """torch with Inductor, which needs a C++ compiler on the machine."""

    def version(self) -> str:
        return f"torch.compile {torch.__version__}"

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        torch.compiler.reset()
        return torch.compile(function, dynamic=False)
