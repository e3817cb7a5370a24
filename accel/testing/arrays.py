"""Random arrays as users' arrays are: of any dtype and layout, with the values that hurt."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from ..ir.dtypes import DType
from ..ir.op import Sample
from ..ir.types import Shape, TensorType

__all__ = ["LAYOUTS", "draw_array", "draw_operands", "laid_out", "special_values"]

#: How the elements lie in memory.
LAYOUTS = ("contiguous", "reversed", "strided", "transposed", "broadcast", "unaligned")


def special_values(dtype: DType) -> np.ndarray:
    """Where the numbers of `dtype` differ from the real ones, and ordinary ones beside them."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        whole = np.iinfo(dtype.numpy)
        ends = [int(whole.max), int(whole.min), int(whole.max) - 1]
        return np.array([0, 1, 2, 7, *ends], dtype.numpy)
    real = dtype.real.numpy
    limits: Any = ml_dtypes.finfo(real)
    tiny, least, most, eps = (
        float(v) for v in (limits.tiny, limits.smallest_subnormal, limits.max, limits.eps)
    )
    listed = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, 2.5, -2.5, tiny, -tiny, least,
              -3 * least, most, -most, eps, 1 + eps, 100.0]  # fmt: skip
    values = np.array(listed).astype(real)
    if dtype.kind == "f":
        return values
    both = np.empty(values.shape, dtype.numpy)
    both.real, both.imag = values, values[::-1]
    return both


def draw_operands(sample: Sample, rng: np.random.Generator) -> list[Any]:
    """The operands of an op's sample, with arrays within its bounds where it has types."""
    low = -3.0 if sample.low is None else sample.low
    high = 3.0 if sample.high is None else sample.high

    def array(t: TensorType) -> np.ndarray:
        if t.dtype.kind == "b":
            return np.asarray(rng.random(t.shape) < 0.5)
        if t.dtype.kind in "iu":
            least = max(int(np.ceil(low)), 0) if t.dtype.kind == "u" else int(np.ceil(low))
            return np.asarray(rng.integers(least, int(high) + 1, t.shape)).astype(t.dtype.numpy)
        values: Any = rng.uniform(low, high, t.shape)
        if t.dtype.kind == "c":
            values = values + 1j * rng.uniform(low, high, t.shape)
        return np.asarray(values).astype(t.dtype.numpy)

    return [array(o) if isinstance(o, TensorType) else o for o in sample.operands]


def draw_array(
    rng: np.random.Generator, dtype: DType, shape: Shape, special: bool = True,
    layout: str | None = None,
) -> np.ndarray:  # fmt: skip
    """A random array; with `special` it may hold NaN, infinities, subnormal and extreme values.

    Examples
    --------
    >>> from accel.ir import dtypes
    >>> draw_array(np.random.default_rng(0), dtypes.float32, (2, 3)).shape
    (2, 3)
    """
    if layout is None:
        layout = LAYOUTS[int(rng.integers(len(LAYOUTS)))] if rng.random() < 0.5 else LAYOUTS[0]
    style = rng.random()

    values = _ordinary(rng, dtype, shape, style)
    if special:
        chosen = rng.choice(special_values(dtype), shape)
        values = np.where(rng.random(shape) < (0.1 if style < 0.7 else 0.6), chosen, values)
    return laid_out(np.asarray(values, dtype.numpy), layout)


def _ordinary(
    rng: np.random.Generator, dtype: DType, shape: Shape, style: float
) -> np.ndarray:
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        low = 0 if dtype.kind == "u" else -5
        return np.asarray(rng.integers(low, 6, shape)).astype(dtype.numpy)
    values = np.asarray(rng.uniform(-3.0, 3.0, shape))
    if style < 0.3:  # whole and half numbers make exact results and ties
        values = np.round(2 * values) / 2
    elif style > 0.9:
        values = values * 10.0 ** rng.integers(-4, 4, shape)
    if dtype.kind == "c":
        values = values + 1j * rng.uniform(-3.0, 3.0, shape)
    return values.astype(dtype.numpy)


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """A copy of `array`, lying in memory as one of `LAYOUTS` says; broadcast, it is its first
    row over and over.

    Examples
    --------
    >>> laid_out(np.arange(6).reshape(2, 3), "transposed").strides
    (8, 16)
    """
    shape = array.shape
    if layout == "reversed":
        back: Any = (..., *(slice(None, None, -1) for _ in shape))
        return np.array(array[back], order="C")[back]
    if layout == "strided" and math.prod(2 * n + 1 for n in shape) <= 100_000:
        spaced = np.zeros(tuple(2 * n + 1 for n in shape), array.dtype)
        odd: Any = (..., *(slice(1, None, 2) for _ in shape))
        view = spaced[odd]
        view[...] = array
        return view
    if layout == "transposed":
        return np.array(array.T, order="C").T
    if layout == "broadcast" and shape:
        return np.broadcast_to(np.array(array[:1]), shape)
    if layout == "unaligned":
        memory = np.empty(array.nbytes + 1, np.uint8)
        view = memory[1:].view(array.dtype).reshape(shape)
        view[...] = array
        return view
    return np.array(array, order="C")
