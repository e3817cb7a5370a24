"""What the compiler makes of a function, stage by stage: graph, regions, LLVM IR, assembly.

Run it: python examples/inspect_stages.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import accel


@accel.compile
def normalise(x: Any, scale: Any) -> Any:
    """A row's deviations from its mean, through a gate.

    The optimised graph has lost ``* 1.0``; it keeps ``+ 0.0``, which makes 0.0 of -0.0.
    """
    centred = x - accel.mean(x, dim=-1, keepdim=True)
    return accel.gelu(centred * scale) * 1.0 + 0.0


def first_lines(text: str, count: int) -> str:
    """The beginning of a long text."""
    lines = text.splitlines()
    more = [f"... {len(lines) - count} more lines"] if len(lines) > count else []
    return "\n".join(lines[:count] + more)


def main() -> None:
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((64, 100), dtype=np.float32), np.float32(0.5)
    for stage in ("recorded", "optimized", "fused", "placed"):
        graph = normalise.graph(x, scale, stage=stage)
        print(f"--- {stage}: {len(graph.nodes)} nodes\n{graph}\n")
        assert accel.parse(str(graph)) == graph  # the text says everything
    print("--- explain\n", normalise.explain(x, scale), sep="", end="\n\n")
    print("--- LLVM IR\n", first_lines(normalise.llvm_ir(x, scale), 25), sep="", end="\n\n")
    print("--- assembly\n", first_lines(normalise.assembly(x, scale), 25), sep="")
    print("\nACCEL_DUMP=<dir> writes all of this for every compile of a program.")


if __name__ == "__main__":
    main()
