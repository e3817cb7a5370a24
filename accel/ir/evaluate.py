"""One op on NumPy arrays: its reference, with the precision rules that all references share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .node import Node
from .op import Op
from .types import TensorType

__all__ = ["evaluate", "evaluate_joint"]

# float32 and half are computed in float64 and rounded once: the definition has no error of
# its own beyond half an ULP.
_WIDER = {"float32": np.dtype(np.float64), "float16": np.dtype(np.float64),
          "bfloat16": np.dtype(np.float64), "complex64": np.dtype(np.complex128)}  # fmt: skip


def evaluate(
    op: Op, arrays: Sequence[np.ndarray], attrs: Mapping[str, Any], type_: TensorType
) -> np.ndarray:
    """The value of `op` on `arrays`, in the dtype and shape of `type_`.

    Raises
    ------
    AccelError
        What the reference finds wrong with the values (an index out of range).
    """
    result = _referred(op, arrays, attrs)
    return _typed(op, result[op.parts.index(attrs[op.joint])] if op.parts else result, type_)


def evaluate_joint(nodes: Sequence[Node], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The values of `nodes`, applications of one op to the same operands that are results of one
    computation (see `Op.parts`), computed once.

    Raises
    ------
    AccelError
        What the reference finds wrong with the values.
    """
    op, attrs = nodes[0].op, nodes[0].attrs
    if not op.parts:
        return [evaluate(op, arrays, n.attrs, n.type) for n in nodes]
    found = _referred(op, arrays, attrs)
    return [_typed(op, found[op.parts.index(n.attrs[op.joint])], n.type) for n in nodes]


def _referred(op: Op, arrays: Sequence[np.ndarray], attrs: Mapping[str, Any]) -> Any:
    """What the reference gives: an array, of an op with `parts` one for each of them."""
    if not op.exact:
        arrays = [a.astype(_WIDER[a.dtype.name]) if a.dtype.name in _WIDER else a for a in arrays]
    if op.parts:
        attrs = {name: value for name, value in attrs.items() if name != op.joint}
    with np.errstate(all="ignore"):
        return op.reference(*arrays, **attrs)


def _typed(op: Op, result: Any, type_: TensorType) -> np.ndarray:
    """`result` in the dtype of `type_`, whose shape it has."""
    with np.errstate(all="ignore"):
        result = np.asarray(result)
        if result.dtype != type_.dtype.numpy:
            result = result.astype(type_.dtype.numpy)
    if result.shape != type_.shape:
        raise ValueError(
            f"the reference of {op.name} gave shape {result.shape}, its type rule {type_.shape}"
        )
    return result
