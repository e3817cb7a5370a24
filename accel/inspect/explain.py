"""The explain table: one row a region, with its ops, kernels, target, size and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any

from ..ir.graph import Graph
from ..passes.place import heaviest
from ..runtime.executable import Executable
from ..runtime.state import State

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
        table = [_COLUMNS, *(line for row in self.rows for line in _lines(row.cells()))]
        widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
        lines = [_aligned(line, widths) for line in table]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([*lines, self.summary])

    @property
    def summary(self) -> str:
        return (
            f"{_plural(len(self.rows), 'region')}, {_plural(self.kernel_count, 'kernel')}, "
            f"{_plural(self.native_calls, 'native call')}, {_plural(self.steps, 'step')}"
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(c)}</th>" for c in _COLUMNS)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{escape(c)}</td>".replace("\n", "<br>") for c in r.cells())
            + "</tr>"
            for r in self.rows
        )
        return f"<table><tr>{head}</tr>{body}</table><p>{escape(self.summary)}</p>"


def _lines(cells: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A row as lines: a region with several kernels takes one line for each."""
    split = [cell.split("\n") for cell in cells]
    return list(zip_longest(*split, fillvalue=""))


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    right = _COLUMNS.index("size")
    cells = [
        cell.rjust(width) if i == right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


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
