"""The pure target: native CPU kernels made with llvmlite, without torch or a C compiler.

`compile_run` takes a maximal run of regions to one native call. The rooms, in order: `cut`
(primitives to clusters), `loops` and `products` (clusters to loop nests and matrix products),
`emit` (nests to LLVM IR), `jit` (LLVM IR to machine code), `build` (all of it, to a program),
`program` (the call).
"""

from __future__ import annotations

from ...ir.graph import Graph
from .program import KERNELS, PureRun

__all__ = ["KERNELS", "PureRun", "compile_run"]


def compile_run(run: Graph) -> PureRun:
    """Compile a graph of inputs, constants, regions and their outputs.

    Equal kernels, in this run or in any earlier one, are compiled once.
    """
    return PureRun([n.type for n in run.inputs], [n.type for n in run.outputs], lambda: run)
