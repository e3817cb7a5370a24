"""What runs an op: for each dtype that it takes, on each target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import AccelError
from ..ir import dtypes
from ..ir.builder import Builder
from ..ir.dtypes import DType
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import Op, Sample
from ..ir.types import TensorType

__all__ = ["Support", "support"]


@dataclass(frozen=True)
class Support:
    """What runs an op on operands of one dtype.

    Attributes
    ----------
    dtype
        Of the first operand; of the result, for ops that take no arrays.
    target
        ``"pure"`` or ``"torch"``.
    by
        ``"native"``: kernels of ours; ``"torch"``: torch's own call; ``"expansion"``: other ops
        that have these; ``"reference"``: NumPy.
    reason
        Why the reference.
    """

    dtype: DType
    target: str
    by: str
    reason: str = ""


def support(op: Op, target: str) -> list[Support]:
    """What runs `op` on `target`, for every dtype that it takes.

    Examples
    --------
    >>> from accel.ir import get_op
    >>> {s.dtype.name: s.by for s in support(get_op("sqrt"), "pure")}["float32"]
    'native'
    """
    found = []
    for dtype in dtypes.ALL:
        graph = _applied(op, dtype)
        if graph is not None:
            by, reason = _on_pure(graph) if target == "pure" else _on_torch(graph)
            found.append(Support(dtype, target, by, reason))
    return found


def _applied(op: Op, dtype: DType) -> Graph | None:
    """A graph of `op` on operands of `dtype`; None where it takes none."""
    for sample in op.samples() if op.samples else ():
        b = Builder()
        try:
            operands, attrs = _in_dtype(sample, dtype)
            node = b.apply(op, *_inputs(b, operands), **attrs)
        except AccelError:
            continue
        inputs = [n for n in b.nodes if n.op.name == "input"]
        if _leading(node) is dtype and node.op is op:
            return b.graph(inputs, [node])
    return None


def _leading(node: Node) -> DType:
    return node.inputs[0].type.dtype if node.inputs else node.type.dtype


def _in_dtype(sample: Sample, dtype: DType) -> tuple[list[Any], dict[str, Any]]:
    """A sample with `dtype` for the first operand's, wherever that stands."""
    operands, attrs = list(sample.operands), dict(sample.attrs)
    arrays = [o for o in operands if isinstance(o, (TensorType, np.ndarray, np.generic))]
    if not arrays:
        return operands, {**attrs, "dtype": dtype} if "dtype" in attrs else attrs
    replaced = dtypes.to_dtype(arrays[0].dtype)
    for place, operand in enumerate(operands):
        if any(operand is a for a in arrays) and dtypes.to_dtype(operand.dtype) is replaced:
            operands[place] = TensorType(dtype, operand.shape)
    return operands, attrs


def _inputs(b: Builder, operands: list[Any]) -> Iterator[Any]:
    for place, operand in enumerate(operands):
        if isinstance(operand, (np.ndarray, np.generic)):
            operand = TensorType(dtypes.to_dtype(operand.dtype), operand.shape)
        yield b.input(f"x{place}", operand) if isinstance(operand, TensorType) else operand


def _on_pure(graph: Graph) -> tuple[str, str]:
    from ..targets.pure.build import interpreted

    (node,) = graph.outputs
    reasons = interpreted(graph)
    if reasons:
        return "reference", next(iter(reasons.values()))
    return ("expansion" if node.op.form == "composite" else "native"), ""


def _on_torch(graph: Graph) -> tuple[str, str]:
    from ..targets.torch import interpreted

    (node,) = graph.outputs
    names = interpreted(graph)
    if names is None:
        return "torch", ""
    if not names:
        return "expansion", ""
    reason = f"torch has no {', '.join(names)} of {_leading(node)}"
    return "reference", node.op.why_unsupported or reason
