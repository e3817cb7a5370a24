"""Pooling: the greatest element or the mean of each window of an image.

Images are [N, C, *spatial] with one to three spatial dimensions. How windows lie and are folded
is said in `windows`; here are the ops, the places of maxima, and how a mean's gradient is spread
over its window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .indexing import zeros_like
from .reduce import widened
from .windows import (
    TAPS_ALONG,
    Windows,
    folded,
    pad,
    padded_taps,
    pieces,
    places_of,
    prepare_windows,
    windows_of,
)

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F16, F32, F64, I32, I64, C64 = (
    dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.complex64,
)  # fmt: skip

#: The places of maxima in windows of more taps are found by a reduction.
_TAPS_COMPARED = 64


# -- max_pool -------------------------------------------------------------------------------
_MAX_ATTRS = {"kernel": REQUIRED, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}


def _lowest(dtype: dtypes.DType) -> float:
    """What padding holds: no element is less."""
    return -math.inf if dtype.kind == "f" else float(np.iinfo(dtype.numpy).min)


def _max_reference(x: np.ndarray, **attrs: Any) -> np.ndarray:
    windows = windows_of(x.shape, attrs)
    lowest = _lowest(dtypes.to_dtype(x.dtype))
    parts = [part for _, part in padded_taps(x, windows, lowest)]
    return functools.reduce(np.maximum, parts)


def _max_expand(b: Builder, x: Node, **attrs: Any) -> Node:
    windows = windows_of(x.type.shape, attrs)
    wide = pad(b, x, windows, _lowest(x.type.dtype))
    return folded(b, wide, windows, "maximum", "amax")


def _max_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    (x,) = node.inputs
    if x.type.dtype.kind != "f":
        return (None,)
    lead, extents = x.type.shape[:2], x.type.shape[2:]
    flat = (*lead, math.prod(node.type.shape[2:]))
    index = b.reshape(b.max_pool_indices(x, **node.attrs), shape=flat)
    image = zeros_like(b, b.reshape(x, shape=(*lead, math.prod(extents))))
    spread = b.scatter_add_unchecked(image, index, b.reshape(g, shape=flat), axis=2)
    return (b.reshape(spread, shape=x.type.shape),)


def _exceeds(value: np.ndarray, best: np.ndarray) -> np.ndarray:
    return (value > best) | (value != value)


def _indices_reference(x: np.ndarray, **attrs: Any) -> np.ndarray:
    windows = windows_of(x.shape, attrs)
    numbers = np.arange(math.prod(windows.extents)).reshape(1, 1, *windows.extents)
    shape = (*x.shape[:2], *windows.places)
    best, found = np.zeros(shape, x.dtype), np.full(shape, -1)
    taps = zip(padded_taps(x, windows, 0), padded_taps(numbers, windows, -1), strict=True)
    for (_, value), (_, number) in taps:
        better = (number >= 0) & ((found < 0) | _exceeds(value, best))
        best, found = np.where(better, value, best), np.where(better, number, found)
    return found


def _strides(extents: Shape) -> Shape:
    return tuple([math.prod(extents[i + 1 :]) for i in range(len(extents))])


def _grid(b: Builder, rows: Sequence[np.ndarray], dtype: dtypes.DType) -> Node:
    """The sums of one number for each spatial dimension, as [*spatial]."""
    count = len(rows)
    total: Any = None
    for axis, row in enumerate(rows):
        step = int(row[1] - row[0]) if len(row) > 1 else 0
        if (row == row[0] + step * np.arange(len(row))).all():
            node = b.iota(shape=(len(row),), axis=0, dtype=dtype)
            node = b.add(b.mul(node, step), int(row[0]))
        else:
            node = b.constant(row.astype(dtype.numpy))
        node = b.reshape(node, shape=tuple([-1 if i == axis else 1 for i in range(count)]))
        total = node if total is None else b.add(total, node)
    return total


def _indices_expand(b: Builder, x: Node, **attrs: Any) -> Node:
    """Tap by tap, how far from its window's first element the greatest so far is. A window that
    begins in the padding starts with its first element in the image: all may be -inf."""
    windows = windows_of(x.type.shape, attrs)
    if math.prod(windows.kernel) > _TAPS_COMPARED:
        return _indices_by_reduction(b, x, windows)
    size, strides = math.prod(windows.extents), _strides(windows.extents)
    counter = I32 if size < 2**31 else I64
    axes = range(len(strides))
    begins = [windows.firsts(i) * strides[i] for i in axes]
    wide = pad(b, x, windows, _lowest(x.type.dtype))
    best: Any = None
    found: Any = b.constant(0, counter)
    if windows.padded:
        legal = [np.where(windows.along(i) >= 0, windows.along(i), size).min(axis=1) for i in axes]
        found = _grid(b, [row * strides[i] - begins[i] for i, row in enumerate(legal)], counter)
    for tap, piece in pieces(b, wide, windows):
        if best is None:
            best = piece
            continue
        steps = zip(tap, windows.dilation, strides, strict=True)
        offset = b.constant(sum(t * d * stride for t, d, stride in steps), counter)
        better = b.gt(piece, best)
        if x.type.dtype.kind == "f":
            better = b.logical_or(better, b.isnan(piece))
        best, found = b.where(better, piece, best), b.where(better, offset, found)
    found = b.add(found, _grid(b, begins, counter))
    return b.cast(b.broadcast_to(found, shape=(*x.type.shape[:2], *windows.places)), I64)


def _indices_by_reduction(b: Builder, x: Node, windows: Windows) -> Node:
    """Windows gathered as rows, their places in the image first, and argmax along them."""
    size = math.prod(windows.extents)
    numbers = np.pad(np.arange(size).reshape(windows.extents), windows.margins,
                     constant_values=size)  # fmt: skip
    taps = [numbers[windows.met(t)] for t in np.ndindex(*windows.kernel)]
    table = np.sort(np.stack([t.ravel() for t in taps], axis=1), axis=1)
    table = np.where(table == size, table[:, :1], table)  # repeats change no maximum
    rows, taps_count = table.shape
    flat = b.reshape(x, shape=(*x.type.shape[:2], size))
    values = b.take_unchecked(flat, b.constant(table), axis=2)
    chosen = b.argmax(values, axis=3)
    if x.type.dtype.kind == "f":
        nans = b.cast(b.isnan(values), I32)
        last = b.sub(taps_count - 1, b.argmax(b.flip(nans, axis=(3,)), axis=3))
        chosen = b.where(b.eq(b.amax(nans, axis=3), 1), last, chosen)
    place = b.add(chosen, b.mul(b.iota(shape=(rows,), axis=0, dtype=I64), taps_count))
    found = b.take_unchecked(b.constant(table.ravel()), place, axis=0)
    return b.reshape(found, shape=(*x.type.shape[:2], *windows.places))


def _max_samples() -> list[Sample]:
    cases: list[tuple[Shape, dict[str, Any]]] = [
        ((2, 3, 8, 8), {"kernel": 2}),
        ((1, 2, 7, 9), {"kernel": 3, "stride": 2, "padding": 1}),
        ((1, 2, 9, 8), {"kernel": (3, 2), "stride": 1, "dilation": (2, 3), "padding": (1, 0)}),
        ((2, 2, 7), {"kernel": 3, "stride": 3, "padding": ((1, 0),), "ceil_mode": True}),
        ((1, 1, 5, 4, 6), {"kernel": 2, "ceil_mode": True}),
        ((1, 2, 6, 6), {"kernel": 5, "stride": 1, "padding": 2}),
        ((2, 1, 40), {"kernel": 34, "stride": 3}),
        ((1, 2, 9, 9), {"kernel": 9}),
        ((0, 2, 4, 4), {"kernel": 2}),
    ]
    found = [Sample((TensorType(F32, s),), a) for s, a in cases]
    found += [Sample((TensorType(d, s),), a) for d, (s, a) in zip((F64, F16, I32), cases,
                                                                  strict=False)]  # fmt: skip
    special = np.full((1, 1, 4, 6), -np.inf, np.float32)
    special[0, 0, 0, 1], special[0, 0, 1, 3], special[0, 0, 3, 3] = np.nan, np.inf, np.nan
    ties = np.zeros((1, 1, 5, 5), np.float32)
    ties[0, 0, ::2] = -0.0
    for x in (special, ties):
        found.append(Sample((x,), {"kernel": 2}))
        found.append(Sample((x,), {"kernel": 3, "stride": 1, "padding": 1}))
    return found


def _pool_errors(name: str) -> list[ErrorSample]:
    x = TensorType(F32, (1, 2, 5, 5))
    return [
        ErrorSample((TensorType(F32, (5, 5)),), {"kernel": 2}, ShapeError, "spatial"),
        ErrorSample((x,), {"kernel": 6}, ShapeError, "spans 6"),
        ErrorSample((x,), {"kernel": (2, 2, 2)}, ArgumentError, "kernel"),
        ErrorSample((x,), {"kernel": 0}, ArgumentError, "kernel"),
        ErrorSample((x,), {"kernel": 2, "stride": 0}, ArgumentError, "stride"),
        ErrorSample((x,), {"kernel": 2, "padding": -1}, ArgumentError, "padding"),
        ErrorSample((x,), {"kernel": 2, "padding": 2}, ArgumentError, "half"),
        ErrorSample((TensorType(F32, (1, 2, 0)),), {"kernel": 1}, ShapeError, "extent of 0"),
        ErrorSample((TensorType(C64, (1, 2, 5)),), {"kernel": 1}, DTypeError),
    ]


def _register_max(name: str, reference: Any, expand: Any, gradient: Any, doc: str) -> None:
    def infer(x: TensorType, **attrs: Any) -> TensorType:
        dtype = x.dtype if name == "max_pool" else I64
        return TensorType(dtype, (*x.shape[:2], *places_of(name, x, attrs)), x.device)

    register(Op(
        name=name, form="composite", category="reduction", arity=(1, 1), kinds="iuf",
        attrs=_MAX_ATTRS, prepare=prepare_windows(name), infer=infer, reference=reference,
        expand=expand, gradient=gradient, discontinuous=name != "max_pool", cost=4.0,
        samples=_max_samples, error_samples=lambda: _pool_errors(name), doc=doc,
    ))  # fmt: skip


_register_max(
    "max_pool", _max_reference, _max_expand, _max_gradient,
    "The greatest element of each window of an image [N, C, *spatial]; padding holds -inf, and "
    "NaN counts as the greatest.",
)  # fmt: skip
_register_max(
    "max_pool_indices", _indices_reference, _indices_expand, None,
    "The place of the element that `max_pool` chooses, counted over the flattened spatial "
    "dimensions: of equal ones the first, of NaN the last.",
)  # fmt: skip


# -- avg_pool -------------------------------------------------------------------------------
_AVG_ATTRS = {"kernel": REQUIRED, "stride": None, "padding": 0, "ceil_mode": False,
              "count_include_pad": True, "divisor_override": None}  # fmt: skip


def _divisor(windows: Windows, attrs: Any) -> float | np.ndarray:
    """What each window's sum is divided by: one number, or an array over the places."""
    if attrs["divisor_override"] is not None:
        return float(attrs["divisor_override"])
    result: Any = np.ones(())
    for axis, (n, (low, high)) in enumerate(zip(windows.extents, windows.padding, strict=True)):
        before, behind = (low, high) if attrs["count_include_pad"] else (0, 0)
        at = windows.along(axis)
        counted = ((at >= -before) & (at < n + behind)).sum(axis=1)
        result = np.multiply.outer(result, counted)
    return float(result.flat[0]) if (result == result.flat[0]).all() else result.astype(float)


def _divided(b: Builder, x: Node, divisor: float | np.ndarray) -> Node:
    if isinstance(divisor, float):
        return b.div(x, divisor)
    return b.div(x, b.constant(divisor, x.type.dtype))


def _avg_reference(x: np.ndarray, **attrs: Any) -> np.ndarray:
    windows = windows_of(x.shape, attrs)
    total = sum(part for _, part in padded_taps(x, windows, 0))
    return np.true_divide(total, _divisor(windows, attrs))


def _avg_expand(b: Builder, x: Node, **attrs: Any) -> Node:
    windows = windows_of(x.type.shape, attrs)
    wide = pad(b, widened(b, x), windows, 0.0)
    total = folded(b, wide, windows, "add", "sum")
    return b.cast(_divided(b, total, _divisor(windows, attrs)), x.type.dtype)


def _avg_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    return (b.avg_pool_gradient(g, shape=node.inputs[0].type.shape[2:], **node.attrs),)


def _back_reference(g: np.ndarray, *, shape: Shape, **attrs: Any) -> np.ndarray:
    windows = windows_of((*g.shape[:2], *shape), attrs)
    share = np.true_divide(g, _divisor(windows, attrs))
    sizes = [low + n + high for n, (low, high) in zip(shape, windows.margins, strict=True)]
    wide = np.zeros((*g.shape[:2], *sizes), share.dtype)
    for tap in np.ndindex(*windows.kernel):
        wide[windows.met(tap)] += share
    rows = zip(shape, windows.margins, strict=True)
    inner: Any = (..., *[slice(low, low + n) for n, (low, _) in rows])
    return wide[inner]


def _back_expand(b: Builder, g: Node, *, shape: Shape, **attrs: Any) -> Node:
    windows = windows_of((*g.type.shape[:2], *shape), attrs)
    share = _divided(b, widened(b, g), _divisor(windows, attrs))
    for axis in range(len(shape)):
        share = _spread_along(b, share, windows, axis)
    return b.cast(share, g.type.dtype)


def _spread_along(b: Builder, g: Node, windows: Windows, axis: int) -> Node:
    """Along one dimension, each element of the image gets the sum of its windows' values."""
    n, k, s = windows.extents[axis], windows.kernel[axis], windows.stride[axis]
    at, low, count = axis + 2, windows.padding[axis][0], g.type.shape[axis + 2]
    if k <= s:  # a window each, and nothing between windows
        spaced = _spaced(b, g, at, k, s)
        return _fitted(b, spaced, at, -low, n)
    points = _fitted(b, _spaced(b, g, at, 1, s), at, 0, (count - 1) * s + 1)
    points = _fitted(b, points, at, k - 1 - low, n + k - 1)
    sliding = Windows((n + k - 1,), (k,), (1,), ((0, 0),), (1,), False)
    if k <= TAPS_ALONG:
        parts = [_fitted(b, points, at, -t, n) for t in range(k)]
        return functools.reduce(b.add, parts)
    index = b.constant(sliding.along(0))
    return b.sum(b.take_unchecked(points, index, axis=at), axis=at + 1)


def _spaced(b: Builder, g: Node, at: int, repeats: int, step: int) -> Node:
    """Each element `repeats` times along an axis, then zeros up to `step`."""
    if step == 1:
        return g
    shape = g.type.shape
    head, tail = shape[: at + 1], shape[at + 1 :]
    rows = b.reshape(g, shape=(*head, 1, *tail))
    if repeats > 1:
        rows = b.broadcast_to(rows, shape=(*head, repeats, *tail))
    if step > repeats:
        none = (0,) * len(rows.type.shape)
        high = (*none[: at + 1], step - repeats, *none[at + 2 :])
        rows = b.pad(rows, low=none, high=high)
    return b.reshape(rows, shape=(*shape[:at], shape[at] * step, *tail))


def _fitted(b: Builder, x: Node, at: int, shift: int, extent: int) -> Node:
    """`x` moved by `shift` along an axis and cut or padded with zeros to `extent`."""
    shape = x.type.shape
    start, stop = max(-shift, 0), min(shape[at], extent - shift)
    if (start, stop) != (0, shape[at]):
        lows, highs = [0] * len(shape), list(shape)
        lows[at], highs[at] = start, stop
        x = b.slice(x, start=tuple(lows), stop=tuple(highs), step=(1,) * len(shape))
    before = max(shift, 0)
    behind = extent - before - (stop - start)
    if before or behind:
        none = (0,) * len(shape)
        x = b.pad(x, low=(*none[:at], before, *none[at + 1 :]),
                  high=(*none[:at], behind, *none[at + 1 :]))  # fmt: skip
    return x


def _back_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    return (b.avg_pool(g, **{k: v for k, v in node.attrs.items() if k != "shape"}),)


def _avg_samples() -> list[Sample]:
    cases: list[tuple[Shape, dict[str, Any]]] = [
        ((2, 3, 8, 8), {"kernel": 2}),
        ((1, 2, 7, 9), {"kernel": 3, "stride": 2, "padding": 1}),
        ((1, 2, 7, 9), {"kernel": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
        ((2, 2, 7), {"kernel": 3, "stride": 4, "padding": ((1, 0),), "ceil_mode": True}),
        ((1, 2, 8, 5), {"kernel": (2, 3), "stride": (3, 1), "divisor_override": 5}),
        ((1, 1, 5, 4, 6), {"kernel": 2, "stride": 2, "ceil_mode": True}),
        ((1, 2, 6, 6), {"kernel": 5, "stride": 1, "padding": 2}),
        ((2, 1, 40), {"kernel": 34, "stride": 3}),
        ((0, 2, 4, 4), {"kernel": 2}),
    ]
    found = [Sample((TensorType(F32, s),), a) for s, a in cases]
    return found + [Sample((TensorType(d, s),), a)
                    for d, (s, a) in zip((F64, F16), cases, strict=False)]  # fmt: skip


def _back_samples() -> list[Sample]:
    found = []
    for sample in _avg_samples():
        (x,) = sample.operands
        attrs = prepare_windows("avg_pool")((x,), {**_AVG_ATTRS, **sample.attrs})
        g = x.with_shape((*x.shape[:2], *places_of("avg_pool", x, attrs)))
        found.append(Sample((g,), {**sample.attrs, "shape": x.shape[2:]}))
    return found


def _back_type(g: TensorType, *, shape: Shape, **attrs: Any) -> TensorType:
    x = g.with_shape((*g.shape[:2], *shape))
    if places_of("avg_pool_gradient", x, attrs) != g.shape[2:]:
        raise ShapeError(f"avg_pool_gradient: {g} for an image of extents {list(shape)}",
                         remedy="give the shape of the pooled image")  # fmt: skip
    return x


def _register_avg(
    name: str, attrs: Any, infer: Callable[..., TensorType], reference: Any, expand: Any,
    gradient: Any, samples: Any, error_samples: Any, doc: str,
) -> None:  # fmt: skip
    register(Op(
        name=name, form="composite", category="reduction", arity=(1, 1), kinds="f", attrs=attrs,
        prepare=prepare_windows(name), infer=infer, reference=reference, expand=expand,
        gradient=gradient, ulp=4, cost=4.0, samples=samples, error_samples=error_samples, doc=doc,
    ))  # fmt: skip


_register_avg(
    "avg_pool", _AVG_ATTRS,
    lambda x, **attrs: x.with_shape((*x.shape[:2], *places_of("avg_pool", x, attrs))),
    _avg_reference, _avg_expand, _avg_gradient, _avg_samples,
    lambda: [
        *_pool_errors("avg_pool"),
        ErrorSample((TensorType(F32, (1, 1, 3)),), {"kernel": 2, "divisor_override": 0},
                    ArgumentError, "divisor"),
    ],
    "The mean of each window of an image [N, C, *spatial]. Padding holds zeros, which count with "
    "`count_include_pad`; `divisor_override` replaces the number of elements.",
)  # fmt: skip
_register_avg(
    "avg_pool_gradient", {**_AVG_ATTRS, "shape": REQUIRED}, _back_type, _back_reference,
    _back_expand, _back_gradient, _back_samples,
    lambda: [
        ErrorSample((TensorType(F32, (1, 1, 3)),), {"kernel": 2, "shape": (9,)}, ShapeError,
                    "pooled"),
        ErrorSample((TensorType(F32, (1, 1, 3)),), {"kernel": 2, "shape": (6, 6)}, ArgumentError,
                    "spatial"),
    ],
    "The gradient of `avg_pool` with respect to its image, whose spatial extents are `shape`.",
)  # fmt: skip
