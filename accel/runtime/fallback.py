"""Runs on torch that the pure target takes over when torch fails.

A failing step of an installed torch (out of memory, unsupported, a CUDA error) is no user's
error: its regions run natively on the same arguments, counted and logged. What the ops find
wrong with the values is raised as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import forking
from ..errors import AccelError, TargetError
from ..ir.graph import Graph
from ..log import logger
from ..targets import torch as torch_target
from ..targets.parts import Watch
from .executable import Run, count_ops
from .statistics import STATISTICS
from .transfer import note_transfer, to_host

__all__ = ["TorchRun"]


class TorchRun:
    """A run on torch, with the pure target behind it.

    Parameters
    ----------
    run
        The graph of the regions.
    device
        Where torch runs it; None is the CPU.
    compile_pure
        Compiles `run` for the pure target, once torch has failed.
    allowed
        Whether the pure target may take over; otherwise a failure raises TargetError.
    """

    def __init__(
        self, run: Graph, device: str | None, compile_pure: Callable[[Graph], Run], allowed: bool
    ) -> None:
        self._graph = run
        self._compile_pure = compile_pure
        self._allowed = allowed
        self._pure: Run | None = None
        self._program: torch_target.Program | None = None
        self._logged = False
        self._lock = forking.lock()
        found = [n for n in run.nodes if n.op.name == "region"]
        regions, ops = len(found), count_ops(found)
        # The executable counts these regions as torch's on every call; this sets it right.
        self._moved = {"fallback_count": regions, "torch_count": -regions, "torch_ops": -ops,
                       "pure_count": regions, "pure_ops": ops}  # fmt: skip
        try:
            self._program = torch_target.compile_run(run, device, note_transfer)
        except AccelError:
            raise
        except Exception as error:
            reason = f"torch cannot run {_names(run)}: {type(error).__name__}: {error}"
            self._fail(TargetError(reason))

    @property
    def reference_ops(self) -> tuple[str, ...]:
        """Ops that run on the NumPy reference inside the torch program."""
        return () if self._program is None else self._program.reference_ops

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        """Run on torch, or natively where torch fails."""
        program = self._program
        if program is not None:
            try:
                return program(buffers)
            except TargetError as error:
                self._fail(error)
                if not torch_target.is_out_of_memory(error.__cause__):
                    self._program = None  # it would fail again
        results = self._native()([to_host(b) for b in buffers])
        STATISTICS.add_all(self._moved)
        return results

    def watched(self, buffers: Sequence[Any], watch: Watch) -> list[Any]:
        """Run; `watch` is told of each part."""
        if self._program is not None:
            return self._program.watched(buffers, watch)
        pure: Any = self._native()
        return pure.watched([to_host(b) for b in buffers], watch)

    def _fail(self, error: TargetError) -> None:
        if not self._allowed:
            error.remedy = "allow the native fallback with fallback='auto', or use mode 'pure'"
            raise error
        with self._lock:
            logged, self._logged = self._logged, True
        if not logged:
            logger().warning("[accel] fallback to pure: %s", error.message)

    def _native(self) -> Run:
        with self._lock:
            if self._pure is None:
                self._pure = self._compile_pure(self._graph)
            return self._pure


def _names(run: Graph) -> str:
    """The ops of a run, for a message: ``matmul, add, …``."""
    bodies = [n.attrs["body"] for n in run.nodes if n.op.name == "region"]
    names = dict.fromkeys(
        n.op.name for b in bodies for n in b.nodes if n.op.form not in ("structure", "creation")
    )
    shown = list(names)[:4]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")
