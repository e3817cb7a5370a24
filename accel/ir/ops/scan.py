"""Scans: running sums and products along one axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import AxisError
from .. import dtypes
from ..axes import one_axis
from ..dtypes import DType
from ..op import ErrorSample, Op, Sample, register
from ..types import TensorType
from .reduce import (
    Prepare,
    accumulator,
    bounded,
    converted,
    exclusive_product,
    magnitude,
    part_along,
    unit_roundoff,
    wide_dtype,
)

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, F64, F16, I32, U8, BOOL = (
    dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int32, dtypes.uint8, dtypes.bool_,
)  # fmt: skip


def _prepare_scan(name: str) -> Prepare:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        axis = one_axis(attrs["axis"], types[0].ndim, name)
        return {"axis": axis, "dtype": accumulator(types[0].dtype, attrs["dtype"])}

    return prepare


def _infer_scan(x: TensorType, *, axis: int, dtype: DType) -> TensorType:
    return TensorType(dtype, x.shape, x.device)


def _scan_reference(fold: Any) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, *, axis: int, dtype: DType) -> np.ndarray:
        with np.errstate(all="ignore"):
            return fold.accumulate(converted(x, dtype), axis=axis, dtype=wide_dtype(dtype))

    return reference


def _cumsum_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    x, axis = node.inputs[0], node.attrs["axis"]
    if not x.type.dtype.is_inexact:
        return (None,)
    back = b.flip(b.cumsum(b.flip(g, axis=(axis,)), axis=axis), axis=(axis,))
    return (b.cast(back, x.type.dtype),)


def _cumprod_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    """dx_i = (product before i) * r_i with r_i = g_i + x_(i+1) r_(i+1).

    The recurrence is solved by doubling its reach log2(n) times, in additions and products
    alone, so zeros need no special case and every derivative is right.
    """
    x, axis = node.inputs[0], node.attrs["axis"]
    if not x.type.dtype.is_inexact:
        return (None,)
    n = x.type.shape[axis]
    wide = b.cast(x, node.type.dtype)
    before = exclusive_product(b, wide, axis)
    if wide.type.dtype.kind == "c":
        wide, before = b.conj(wide), b.conj(before)
    reach, r = 1, g
    factor = part_along(b, wide, axis, 1, n) if n > 1 else wide
    while reach < n:
        near, far = part_along(b, r, axis, 0, n - reach), part_along(b, r, axis, reach, n)
        r = b.cat(b.add(near, b.mul(factor, far)), part_along(b, r, axis, n - reach, n), axis=axis)
        if 2 * reach < n:
            first = part_along(b, factor, axis, 0, n - 2 * reach)
            factor = b.mul(first, part_along(b, factor, axis, reach, n - reach))
        reach *= 2
    return (b.cast(b.mul(before, r), x.type.dtype),)


def _cumsum_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    axis = attrs["axis"]
    carried = np.cumsum(errors[0], axis=axis)
    size = np.cumsum(magnitude(values[0]), axis=axis)
    n = np.shape(values[0])[axis]
    return bounded(carried + n * unit_roundoff(out.dtype) * (size + carried))


def _cumprod_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    axis = attrs["axis"]
    size = magnitude(values[0])
    with np.errstate(all="ignore"):
        most = np.cumprod(size + errors[0], axis=axis)
        n = np.shape(values[0])[axis]
        return bounded(
            most - np.cumprod(size, axis=axis) + n * unit_roundoff(out.dtype) * most
        )


def _scan_samples() -> list[Sample]:
    cases = [((5,), 0), ((3, 4), 0), ((3, 4), -1), ((0, 2), 0), ((1,), 0)]
    found = [Sample((TensorType(F32, s),), {"axis": a}) for s, a in cases]
    found += [Sample((TensorType(d, (4, 3)),), {"axis": 1}) for d in (F64, F16, I32, U8, BOOL)]
    return [*found, Sample((TensorType(I32, (4,)),), {"axis": 0, "dtype": F32})]


def _scan_error_samples() -> list[ErrorSample]:
    return [
        ErrorSample((TensorType(F32, (2, 3)),), {"axis": -3}, AxisError, "axis -3"),
        ErrorSample((TensorType(F32, ()),), {"axis": 0}, AxisError, "0-d"),
    ]


def _register_scan(name: str, fold: Any, gradient: Any, error: Any, word: str) -> None:
    register(Op(
        name=name, form="opaque", category="reduction", arity=(1, 1),
        attrs={"axis": 0, "dtype": None}, prepare=_prepare_scan(name), infer=_infer_scan,
        reference=_scan_reference(fold), gradient=gradient, error=error,
        samples=_scan_samples, error_samples=_scan_error_samples,
        doc=f"The running {word} along an axis; bool and integers run in 64 bits.",
    ))  # fmt: skip


_register_scan("cumsum", np.add, _cumsum_gradient, _cumsum_error, "sum")
_register_scan("cumprod", np.multiply, _cumprod_gradient, _cumprod_error, "product")
