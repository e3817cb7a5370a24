"""Creation ops: values made from attributes alone. Constants spread by `broadcast_to` make
zeros, ones and full, so there are no ops for these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError
from .. import dtypes
from ..axes import one_axis
from ..dtypes import DType
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .movement import as_shape
from .structure import float_to_integer

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["arange_length", "linspace_step"]

F16, F32, F64, I32, I64, U8 = (
    dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint8,
)  # fmt: skip


def _converted(values: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype.kind in "iu" and values.dtype.kind == "f":
        return float_to_integer(values, dtype)
    with np.errstate(all="ignore"):
        return values.astype(dtype.numpy)


def _extents(shape: Any, what: str) -> Shape:
    found = as_shape(shape, what)
    if any(n < 0 for n in found):
        raise ArgumentError(f"{what}: shape {list(found)} has a negative extent",
                            remedy="give extents of 0 or more")  # fmt: skip
    return found


# -- iota ---------------------------------------------------------------------------------
def _iota_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    shape = _extents(attrs["shape"], "iota")
    return {
        "shape": shape,
        "axis": one_axis(attrs["axis"], len(shape), "iota"),
        "dtype": dtypes.to_dtype(attrs["dtype"]),
    }


def _iota_reference(*, shape: Shape, axis: int, dtype: DType) -> np.ndarray:
    along = _converted(np.arange(shape[axis]), dtype)
    spread = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    return np.broadcast_to(along.reshape(spread), shape)


register(Op(
    name="iota", form="creation", category="creation", arity=(0, 0), promote="none",
    attrs={"shape": REQUIRED, "axis": 0, "dtype": dtypes.int64}, prepare=_iota_prepare,
    infer=lambda *, shape, axis, dtype: TensorType(dtype, shape), reference=_iota_reference,
    exact=True,
    samples=lambda: [
        Sample((), {"shape": (5,)}), Sample((), {"shape": (2, 3), "axis": -1, "dtype": F32}),
        Sample((), {"shape": (2, 3), "axis": 0, "dtype": I32}),
        Sample((), {"shape": (0, 3), "axis": 1}), Sample((), {"shape": (300,), "dtype": U8}),
        Sample((), {"shape": (4,), "dtype": F16}),
    ],
    error_samples=lambda: [
        ErrorSample((), {"shape": (-1,)}, ArgumentError, "negative"),
        ErrorSample((), {"shape": ()}, AxisError, "0-d"),
        ErrorSample((), {"shape": (2,), "axis": 1}, AxisError, "axis 1"),
    ],
    doc="Each element's place along one axis, counted from 0.",
))  # fmt: skip


# -- arange, linspace, eye ----------------------------------------------------------------
def _number(value: Any, what: str) -> int | float:
    """A Python number of `value`, kept exact where it is an integer."""
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what}: {value!r} is no real number",
                            remedy="give an int or a float") from None  # fmt: skip
    if not math.isfinite(number):
        raise ArgumentError(f"{what}: {number} is not finite", remedy="give finite bounds")
    return number


def arange_length(start: Any, stop: Any, step: Any) -> int:
    """How many numbers `arange` gives."""
    if all(isinstance(v, int) for v in (start, stop, step)):
        return max(0, -((start - stop) // step))
    return max(0, math.ceil((stop - start) / step))


def _arange_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    start, stop, step = (_number(attrs[k], "arange") for k in ("start", "stop", "step"))
    if step == 0:
        raise ArgumentError("arange: the step is 0", remedy="use a positive or negative step")
    dtype = attrs["dtype"]
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, stop, step))
        dtype = dtypes.default_dtype("i" if whole else "f")
    dtype = dtypes.to_dtype(dtype)
    if dtype.kind not in "iuf":
        raise DTypeError(f"arange makes no {dtype}", remedy="choose an integer or float dtype")
    return {"start": start, "stop": stop, "step": step, "dtype": dtype}


def _arange_reference(*, start: Any, stop: Any, step: Any, dtype: DType) -> np.ndarray:
    n = arange_length(start, stop, step)
    with np.errstate(all="ignore"):
        if isinstance(start, int) and isinstance(step, int):
            # Modulo 2**64, where unsigned 64-bit bounds lie beyond int64.
            places = np.arange(n, dtype=np.uint64)
            values = places * np.uint64(step % 2**64) + np.uint64(start % 2**64)
            if dtype.name != "uint64":
                values = values.astype(np.int64)
        else:
            values = np.arange(n) * float(step) + float(start)
    return _converted(values, dtype)


def _arange_expand(b: Builder, *, start: Any, stop: Any, step: Any, dtype: DType) -> Node:
    """Integers count in int64, floats in float64, rounded once."""
    shape = (arange_length(start, stop, step),)
    if isinstance(start, int) and isinstance(step, int):
        places = b.iota(shape=shape, axis=0, dtype=I64)
        scaled = b.mul(places, b.constant(step, I64))
        return b.cast(b.add(scaled, b.constant(start, I64)), dtype)
    places = b.iota(shape=shape, axis=0, dtype=F64)
    return b.cast(b.add(b.mul(places, float(step)), float(start)), dtype)


register(Op(
    name="arange", form="composite", category="creation", arity=(0, 0), promote="none",
    attrs={"start": 0, "stop": REQUIRED, "step": 1, "dtype": None}, prepare=_arange_prepare,
    infer=lambda *, start, stop, step, dtype: TensorType(
        dtype, (arange_length(start, stop, step),)
    ),
    reference=_arange_reference, expand=_arange_expand, exact=True,
    samples=lambda: [
        Sample((), {"stop": 5}), Sample((), {"start": 2, "stop": 11, "step": 3, "dtype": F32}),
        Sample((), {"start": 5, "stop": -2, "step": -2, "dtype": I32}),
        Sample((), {"start": 0.5, "stop": 2.0, "step": 0.25}),
        Sample((), {"start": 1.0, "stop": 0.0, "step": -0.1, "dtype": F64}),
        Sample((), {"start": 3, "stop": 3}), Sample((), {"stop": 300, "dtype": U8}),
        Sample((), {"start": 0.5, "stop": 4, "dtype": I32}),
    ],
    error_samples=lambda: [
        ErrorSample((), {"stop": 3, "step": 0}, ArgumentError, "step is 0"),
        ErrorSample((), {"stop": float("inf")}, ArgumentError, "finite"),
        ErrorSample((), {"stop": 3, "dtype": dtypes.bool_}, DTypeError),
        ErrorSample((), {"stop": "3a"}, ArgumentError, "real number"),
    ],
    doc="Numbers from `start` up to `stop` (left out) in steps of `step`. Integers are exact, "
    "floats are computed in float64 and rounded once.",
))  # fmt: skip


def _linspace_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    start, stop = (float(_number(attrs[k], "linspace")) for k in ("start", "stop"))
    (num,) = _extents(attrs["num"], "linspace")
    dtype = dtypes.to_dtype(attrs["dtype"])
    if dtype.kind != "f":
        raise DTypeError(f"linspace makes no {dtype}", remedy="choose a floating dtype")
    return {"start": start, "stop": stop, "num": num, "endpoint": bool(attrs["endpoint"]),
            "dtype": dtype}  # fmt: skip


def linspace_step(start: float, stop: float, num: int, endpoint: bool) -> float:
    """The distance between numbers of `linspace`."""
    parts = num - 1 if endpoint else num
    return (stop - start) / parts if parts > 0 else 0.0


def _linspace_reference(
    *, start: float, stop: float, num: int, endpoint: bool, dtype: DType
) -> np.ndarray:
    with np.errstate(all="ignore"):
        values = np.arange(num) * linspace_step(start, stop, num, endpoint) + start
    if endpoint and num > 1:
        values[-1] = stop
    return _converted(values, dtype)


def _linspace_expand(
    b: Builder, *, start: float, stop: float, num: int, endpoint: bool, dtype: DType
) -> Node:
    places = b.iota(shape=(num,), axis=0, dtype=F64)
    values = b.add(b.mul(places, linspace_step(start, stop, num, endpoint)), start)
    if endpoint and num > 1:
        values = b.where(b.eq(places, float(num - 1)), stop, values)
    return b.cast(values, dtype)


register(Op(
    name="linspace", form="composite", category="creation", arity=(0, 0), promote="none",
    attrs={"start": REQUIRED, "stop": REQUIRED, "num": 50, "endpoint": True, "dtype": F32},
    prepare=_linspace_prepare, reference=_linspace_reference, expand=_linspace_expand,
    infer=lambda *, start, stop, num, endpoint, dtype: TensorType(dtype, (num,)), exact=True,
    samples=lambda: [
        Sample((), {"start": 0, "stop": 1, "num": 7}),
        Sample((), {"start": -2.5, "stop": 2.5, "num": 6, "endpoint": False, "dtype": F64}),
        Sample((), {"start": 3, "stop": 3, "num": 1}),
        Sample((), {"start": 1, "stop": 0, "num": 0}),
        Sample((), {"start": 1, "stop": 0, "num": 3, "dtype": F16}),
    ],
    error_samples=lambda: [
        ErrorSample((), {"start": 0, "stop": 1, "num": -1}, ArgumentError, "negative"),
        ErrorSample((), {"start": 0, "stop": 1, "dtype": I32}, DTypeError),
        ErrorSample((), {"start": 0, "stop": float("nan")}, ArgumentError, "finite"),
    ],
    doc="`num` numbers evenly from `start` to `stop`, computed in float64 and rounded once.",
))  # fmt: skip


def _eye_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    (n,) = _extents(attrs["n"], "eye")
    (m,) = (n,) if attrs["m"] is None else _extents(attrs["m"], "eye")
    (k,) = as_shape(attrs["k"], "eye")
    return {"n": n, "m": m, "k": k, "dtype": dtypes.to_dtype(attrs["dtype"])}


def _eye_expand(b: Builder, *, n: int, m: int, k: int, dtype: DType) -> Node:
    rows, columns = (b.iota(shape=(n, m), axis=a, dtype=I64) for a in (0, 1))
    return b.cast(b.eq(columns, b.add(rows, k)), dtype)


register(Op(
    name="eye", form="composite", category="creation", arity=(0, 0), promote="none",
    attrs={"n": REQUIRED, "m": None, "k": 0, "dtype": F32}, prepare=_eye_prepare,
    infer=lambda *, n, m, k, dtype: TensorType(dtype, (n, m)), expand=_eye_expand, exact=True,
    reference=lambda *, n, m, k, dtype: np.eye(n, m, k).astype(dtype.numpy),
    samples=lambda: [
        Sample((), {"n": 3}), Sample((), {"n": 2, "m": 4, "k": 1, "dtype": F64}),
        Sample((), {"n": 3, "k": -2, "dtype": dtypes.bool_}), Sample((), {"n": 0, "m": 2}),
        Sample((), {"n": 2, "dtype": dtypes.complex64}),
    ],
    error_samples=lambda: [ErrorSample((), {"n": -2}, ArgumentError, "negative")],
    doc="Ones on the `k`-th diagonal, zeros elsewhere.",
))  # fmt: skip
