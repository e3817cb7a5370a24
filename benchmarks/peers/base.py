"""What a library tells the runner about itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import Training, Workload


class Peer:
    """One library: its arrays, its operations and its way to compile a function."""

    ops: Any  # the Operations protocol, in the library's own types

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def version(self) -> str:
        """Name and version, for the table's foot."""
        return ""

    def array(self, value: np.ndarray) -> Any:
        """`value` as the library's own array."""
        return value

    def numpy(self, value: Any) -> np.ndarray:
        """A result as a NumPy array."""
        return np.asarray(value)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled where the library compiles."""
        return function

    def training_step(self, task: Training) -> Callable[..., Any]:
        """A function (pixels, labels) -> loss that also updates the model it keeps."""
        raise TypeError(f"{type(self).__name__} does not train")

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The function to time, and its arguments."""
        arguments = tuple(self.array(value) for value in workload.sample())
        if isinstance(workload, Training):
            return self.training_step(workload), arguments
        return self.compile(functools.partial(workload.function, self.ops)), arguments
