"""One op on NumPy arrays: its reference, with the precision rules that all references share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .op import Op
from .types import TensorType

__all__ = ["evaluate"]

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
    if not op.exact:
        arrays = [a.astype(_WIDER[a.dtype.name]) if a.dtype.name in _WIDER else a for a in arrays]
    with np.errstate(all="ignore"):
        result = np.asarray(op.reference(*arrays, **attrs))
        if result.dtype != type_.dtype.numpy:
            result = result.astype(type_.dtype.numpy)
    if result.shape != type_.shape:
        raise ValueError(
            f"the reference of {op.name} gave shape {result.shape}, its type rule {type_.shape}"
        )
    return result
