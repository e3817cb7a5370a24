"""Write docs/ops from the registry: a page for every family of ops.

    python tools/document_ops.py [folder]

Needs torch, for what runs there. tests/test_op_pages.py fails where a page is not what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from accel.inspect.support import Support, support
from accel.ir import Op, all_ops
from accel.ir.op import CATEGORIES

TITLES = {
    "matmul": "Products", "conv": "Convolutions", "elementwise": "Element-wise ops",
    "activation": "Activations", "reduction": "Reductions, norms, losses, orders, transforms",
    "movement": "Movement and indexing", "creation": "Creation", "random": "Random numbers",
    "host": "Linear algebra of LAPACK",
}  # fmt: skip

GROUPS = {
    "bool": ("bool",), "integers": ("int8", "int16", "int32", "int64"),
    "unsigned": ("uint8", "uint16", "uint32", "uint64"), "half": ("float16", "bfloat16"),
    "float": ("float32", "float64"), "complex": ("complex64", "complex128"),
}  # fmt: skip

HEAD = ("op", "what it gives", "pure", "torch", "gradient", "ULP", "source")


def pages() -> dict[str, str]:
    """File names and texts."""
    ops = [op for op in all_ops().values() if op.form != "structure" and op.name != "constant"]
    families = {c: sorted((o for o in ops if o.category == c), key=lambda op: op.name)
                for c in CATEGORIES}  # fmt: skip
    found = {f"{name}.md": page(TITLES[name], members) for name, members in families.items()}
    listed = "\n".join(f"- [{TITLES[c]}]({c}.md): {len(families[c])}" for c in CATEGORIES)
    found["index.md"] = f"""# The ops

What a graph is made of, {len(ops)} ops, tabled from their declarations. Functions of the
[public surface](../api.md) record them, many functions several. A page for each family:

{listed}

How to read the tables:

- **pure**, **torch**: what runs the op for which dtypes. *native* is a kernel of accel's own, fused
  with its neighbours where that pays; *torch* a call of torch's; *expansion* other ops that have
  these; *NumPy* the reference, inside the same executable, with the reason.
- **gradient**: *rule* where the op declares it, *expansion* where it follows from other ops; *none*
  where the result is piecewise constant or an integer. Gradients are made of ops, so they have
  gradients too.
- **ULP**: how far one application may be from the exact result, in units in the last place; 0 is
  exact. Sums and products add the error of their length.
"""
    return found


def page(title: str, ops: Sequence[Op]) -> str:
    rows = [HEAD, tuple("---" for _ in HEAD), *map(row, ops)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"# {title}\n\n[How to read this table](index.md)\n\n{table}\n"


def row(op: Op) -> tuple[str, ...]:
    return (
        f"`{op.name}`", plain(op.doc), runs(support(op, "pure")), runs(support(op, "torch")),
        gradient(op), f"{op.ulp:g}", plain(op.source),
    )  # fmt: skip


def plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def runs(found: Sequence[Support]) -> str:
    """``native: bool, integers, float; NumPy: complex (no native kernels)``."""
    by: dict[tuple[str, str], list[str]] = {}
    for entry in found:
        reason = entry.reason.replace(entry.dtype.name, "it", 1) if entry.reason else ""
        by.setdefault((entry.by, reason), []).append(entry.dtype.name)
    parts = []
    for (how, reason), names in by.items():
        why = f" ({plain(reason)})" if reason else ""
        parts.append(f"{'NumPy' if how == 'reference' else how}: {grouped(names)}{why}")
    return "; ".join(parts)


def grouped(names: Iterable[str]) -> str:
    """Dtypes by the names of their groups, where all of one are there."""
    left = list(names)
    found = []
    for group, members in GROUPS.items():
        if all(m in left for m in members):
            found.append(group)
            left = [n for n in left if n not in members]
    return ", ".join([*found, *left])


def gradient(op: Op) -> str:
    if op.gradient is not None:
        return "rule"
    return "expansion" if op.expand is not None else "none"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/ops")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
