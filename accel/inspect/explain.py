"""The explain table: one row a region, with its ops, kernels, target, size and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.graph import Graph
from ..passes.place import heaviest
from ..runtime.executable import Executable
from ..runtime.state import State
from .tables import html_table, text_table

__all__ = ["Explanation", "Row", "explain"]

_COLUMNS = ("region", "ops", "kernels", "target", "size", "threshold", "reason")


@dataclass(frozen=True)
class Row:
    """One region: what it computes, what runs it, where, and why there."""

    region: str
    ops: str
    kernels: str
    target: str
    size: int
    threshold: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        return (self.region, self.ops, self.kernels, self.target, f"{self.size:,}",
                self.threshold, self.reason)  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """The rows, and totals; `str()` is a table, a notebook shows HTML."""

    rows: tuple[Row, ...]
    kernel_count: int
    native_calls: int
    steps: int

    def __str__(self) -> str:
        return text_table(_COLUMNS, self._cells(), ("size",), self.summary)

    @property
    def summary(self) -> str:
        return (
            f"{_plural(len(self.rows), 'region')}, {_plural(self.kernel_count, 'kernel')}, "
            f"{_plural(self.native_calls, 'native call')}, {_plural(self.steps, 'step')}"
        )

    def _cells(self) -> list[tuple[str, ...]]:
        return [row.cells() for row in self.rows]

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._cells(), self.summary)


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def op_summary(body: Graph, limit: int = 6) -> str:
    """The ops of a region, most telling first: ``matmul, add, relu``."""
    counts = Counter(n.op.name for n in body.nodes if n.op.form not in ("structure", "creation"))
    names = [f"{name} x{count}" if count > 1 else name for name, count in counts.items()]
    shown = ", ".join(names[:limit])
    return shown + (f", … {len(names) - limit} more" if len(names) > limit else "")


def explain(executable: Executable, state: State) -> Explanation:
    """The table of what `executable` runs."""
    rows = []
    native = 0
    total = 0
    for step in executable.steps:
        kernels: Sequence[Any] = getattr(step.run, "kernels", ())
        native += getattr(step.run, "native_calls", 0)
        for region in step.regions:
            name = region.attrs["name"]
            own = [k for k in kernels if k.region == name]
            total += len(own)
            weight = heaviest(region.attrs["body"])
            limit = state.thresholds.get(weight.category)
            decides = weight.category in state.thresholds
            rows.append(Row(
                name,
                op_summary(region.attrs["body"]),
                "\n".join(map(_kernel, own)) or _without_kernel(step.target),
                step.target,
                weight.size,
                ("never" if limit is None else f"{limit:,}") if decides else "-",
                region.attrs["reason"],
            ))  # fmt: skip
    return Explanation(tuple(rows), total, native, len(executable.steps))


def _without_kernel(target: str) -> str:
    """What runs a region that has no kernel of ours."""
    if target == "pure":
        return "in others"  # scalar work and views, where they are read, and folded pools
    return "torch calls" if target == "torch" else "NumPy reference"


def _kernel(kernel: Any) -> str:
    if kernel.kind == "reference":
        return f"NumPy reference ({kernel.ops}): {kernel.reason}"
    return f"{kernel.kind} {kernel.name}"
