"""The ops that give a graph its structure: inputs, constants, casts, regions, their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..node import Literal
from ..op import REQUIRED, Op, Sample, register
from ..types import TensorType


def _constant_type(*, value: Any, dtype: DType, weak: bool) -> TensorType:
    return TensorType(dtype, value.array.shape if isinstance(value, Literal) else (), weak=weak)


def _constant_reference(*, value: Any, dtype: DType, weak: bool) -> np.ndarray:
    if isinstance(value, Literal):
        return value.array
    return np.asarray(value, dtype=dtype.numpy)


def _input_reference(**attrs: Any) -> np.ndarray:
    raise TypeError("an input has no value of its own")


register(Op(
    name="input", form="structure", category="creation", arity=(0, 0), promote="none",
    attrs={"name": REQUIRED, "type": REQUIRED}, infer=lambda *, name, type: type,
    reference=_input_reference, doc="An argument of the graph.",
))  # fmt: skip

register(Op(
    name="constant", form="creation", category="creation", arity=(0, 0), promote="none",
    attrs={"value": REQUIRED, "dtype": REQUIRED, "weak": False}, infer=_constant_type,
    reference=_constant_reference, exact=True, cost=0,
    doc="A number, or a small array, known while compiling.",
))  # fmt: skip


def _cast_type(x: TensorType, *, dtype: DType, weak: bool) -> TensorType:
    return TensorType(dtype, x.shape, x.device, weak)


def _cast_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": dtypes.to_dtype(attrs["dtype"]), "weak": attrs["weak"]}


def _cast_reference(x: np.ndarray, *, dtype: DType, weak: bool) -> np.ndarray:
    with np.errstate(all="ignore"):
        if x.dtype.kind == "c" and dtype.kind != "c":
            x = x.real if dtype.kind != "b" else x != 0
        if dtype.kind in "iu" and x.dtype.kind not in "biu":
            return float_to_integer(x.astype(np.float64), dtype)
        return x.astype(dtype.numpy)


def float_to_integer(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Truncate towards zero, on every target alike where C and NumPy leave it undefined:
    NaN becomes 0, values beyond int64 saturate, then the low bits are kept."""
    low, high = (0, 2**64 - 1) if dtype.name == "uint64" else (-(2**63), 2**63 - 1)
    whole = np.trunc(np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf))
    wide = np.dtype(np.uint64 if low == 0 else np.int64)
    inside = (whole >= float(low)) & (whole < float(high))
    result = np.where(inside, whole, 0.0).astype(wide)
    result = np.where(whole >= float(high), np.array(high, wide), result)
    result = np.where(whole < float(low), np.array(low, wide), result)
    return result.astype(dtype.numpy)


def _cast_gradient(b: Any, g: Any, node: Any) -> tuple[Any]:
    source = node.inputs[0].type.dtype
    if not source.is_inexact or not node.type.dtype.is_inexact:
        return (None,)
    if source.kind == "f" and g.type.dtype.kind == "c":
        g = b.real(g)
    return (b.cast(g, source),)


register(Op(
    name="cast", form="pointwise", category="elementwise", arity=(1, 1), promote="none",
    attrs={"dtype": REQUIRED, "weak": False}, prepare=_cast_prepare, infer=_cast_type,
    reference=_cast_reference, gradient=_cast_gradient, exact=True, discontinuous=True,
    samples=lambda: [
        Sample((TensorType(a, (5, 3)),), {"dtype": d}, low=-100, high=100)
        for a in (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.bool_, dtypes.uint8)
        for d in (dtypes.float32, dtypes.float64, dtypes.int64, dtypes.int8, dtypes.bool_)
    ],
    doc="The same values in another dtype, as NumPy's astype; out-of-range floats saturate at "
    "64 bits and keep the low bits, NaN becomes 0.",
))  # fmt: skip

register(Op(
    name="region", form="structure", category="creation", arity=(0, None), promote="none",
    attrs={"body": REQUIRED, "name": REQUIRED, "target": None, "reason": ""},
    infer=lambda *types, body, name, target, reason: tuple(n.type for n in body.outputs),  # type: ignore[arg-type,return-value]
    reference=_input_reference, doc="A nested graph: the unit of placement.",
))  # fmt: skip

register(Op(
    name="output", form="structure", category="movement", arity=(1, 1), promote="none",
    attrs={"index": REQUIRED}, infer=lambda region, *, index: region[index],  # type: ignore[index]
    reference=_input_reference, doc="One result of a region.",
))  # fmt: skip
