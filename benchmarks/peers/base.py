"""What a library tells the runner about itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import Training, Workload


class Absent(Exception):
    """A library has no such operation, or no way to run such a workload."""


class Partial:
    """Operations of a library that does not have them all."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Absent(f"no {name}")


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

    def program(self, workload: Workload) -> Callable[..., Any]:
        """The workload's program over its inputs; weights are read from outside."""
        weights = [self.array(value) for value in workload.parameters()]
        if not weights:
            return functools.partial(workload.function, self.ops)
        return lambda *arrays: workload.function(self.ops, *arrays, *weights)

    def training_step(self, task: Training) -> Callable[..., Any]:
        """A function (pixels, labels) -> loss that also updates the model it keeps."""
        raise Absent("does not train")

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The function to time, and its arguments.

        Raises
        ------
        Absent
            Where the library cannot run the workload.
        """
        arguments = tuple([self.array(value) for value in workload.sample()])
        if isinstance(workload, Training):
            return self.training_step(workload), arguments
        return self.compile(self.program(workload)), arguments
