"""Windows over an image: where they lie, and the folding of each to one element.

`Windows` is their geometry, made from the attributes that pooling ops share. A window's elements
are read as strided views of the padded image, one a tap, so that folding is pointwise work;
windows of many taps are folded one dimension at a time, long ones as a reduction.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..types import Shape, TensorType
from .convolution import Pairs, as_counts, as_pairs, reach
from .movement import as_shape
from .reduce import Prepare

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["TAPS_ALONG", "Windows", "folded", "pad", "padded_taps", "pieces", "places_of",
           "prepare_windows", "windows_of"]  # fmt: skip

#: Windows of more taps are folded one dimension at a time.
_TAPS_AT_ONCE = 9
#: Along one dimension, windows of more taps are folded by a reduction.
TAPS_ALONG = 32


# -- geometry -------------------------------------------------------------------------------
class Windows(NamedTuple):
    """Windows over an image of some spatial extents."""

    extents: Shape
    kernel: Shape
    stride: Shape
    padding: Pairs
    dilation: Shape
    ceil_mode: bool

    @property
    def spans(self) -> Shape:
        """How many places a window reaches over, along each dimension."""
        return tuple([reach(k, d) for k, d in zip(self.kernel, self.dilation, strict=True)])

    @property
    def places(self) -> Shape:
        """How many windows there are along each dimension: with `ceil_mode` also those that
        begin in the image (or the padding before it) and end behind it."""
        found = []
        rows = zip(self.extents, self.spans, self.stride, self.padding, strict=True)
        for n, span, step, (low, high) in rows:
            room = n + low + high - span
            count = (-(-room // step) if self.ceil_mode else room // step) + 1
            if self.ceil_mode and (count - 1) * step >= n + low:
                count -= 1
            found.append(count)
        return tuple(found)

    @property
    def padded(self) -> bool:
        """Whether a window reaches beyond the image."""
        return any(low or high for low, high in self.margins)

    @property
    def tile(self) -> bool:
        """Whether the windows lie side by side, without gaps."""
        rows = zip(self.kernel, self.stride, self.dilation, self.places, strict=True)
        return all(d == 1 and (k == s or n == 1) for k, s, d, n in rows)

    @property
    def margins(self) -> Pairs:
        """How far windows reach beyond the image, before and behind."""
        rows = zip(self.extents, self.places, self.spans, self.stride, self.padding, strict=True)
        return tuple([
            (low, max(low + high, (count - 1) * step + span - n) - low)
            for n, count, span, step, (low, high) in rows
        ])  # fmt: skip

    def firsts(self, axis: int) -> np.ndarray:
        """Where the windows begin along a dimension; negative in the padding."""
        return np.arange(self.places[axis]) * self.stride[axis] - self.padding[axis][0]

    def along(self, axis: int) -> np.ndarray:
        """The places of each window's elements along a dimension: [places, kernel]."""
        return self.firsts(axis)[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]

    def tap(self, tap: Shape) -> tuple[Shape, Shape, Shape]:
        """Start, stop and step of the slice of a padded image that holds one tap of every
        window."""
        start = tuple([t * d for t, d in zip(tap, self.dilation, strict=True)])
        stop = tuple([
            a + s * (n - 1) + 1 for a, s, n in zip(start, self.stride, self.places, strict=True)
        ])  # fmt: skip
        return start, stop, self.stride

    def met(self, tap: Shape) -> Any:
        """`tap` as an index of a padded array."""
        return (..., *map(slice, *self.tap(tap)))


def windows_of(shape: Shape, attrs: Any) -> Windows:
    """The windows over an image [N, C, *spatial] of some shape."""
    dilation = attrs.get("dilation", (1,) * len(attrs["kernel"]))
    return Windows(shape[2:], attrs["kernel"], attrs["stride"], attrs["padding"], dilation,
                   attrs["ceil_mode"])  # fmt: skip


def prepare_windows(name: str) -> Prepare:
    """The rule that checks the attributes of the op `name` and gives them for each dimension."""

    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        x = types[0]
        count = x.ndim - 2
        if not 1 <= count <= 3:
            raise ShapeError(f"{name}: {x}", remedy="give [N, C, *spatial] with 1 to 3 spatial "
                             "dimensions")  # fmt: skip
        full = dict(attrs)
        full["kernel"] = as_counts(attrs["kernel"], count, name, "kernel")
        stride = attrs["stride"]
        full["stride"] = (
            full["kernel"] if stride is None else as_counts(stride, count, name, "stride")
        )
        full["padding"] = as_pairs(attrs["padding"], count, name)
        if "dilation" in attrs:
            full["dilation"] = as_counts(attrs["dilation"], count, name, "dilation")
        for flag in ("ceil_mode", "count_include_pad"):
            if flag in attrs:
                full[flag] = bool(attrs[flag])
        if attrs.get("divisor_override") == 0:
            raise ArgumentError(f"{name}: a divisor of 0", remedy="give another, or None")
        if "shape" in attrs:
            full["shape"] = as_shape(attrs["shape"], name)
            if len(full["shape"]) != count:
                raise ArgumentError(f"{name}: shape {attrs['shape']} for {count} spatial "
                                    "dimensions", remedy="give an extent for each")  # fmt: skip
        dilation = full.get("dilation", (1,) * count)
        for k, d, pair in zip(full["kernel"], dilation, full["padding"], strict=True):
            if max(pair) > reach(k, d) // 2:
                raise ArgumentError(
                    f"{name}: padding {max(pair)} for a window that spans {reach(k, d)}",
                    remedy="pad at most half of the window, or pad the image itself",
                )
        return full

    return prepare


def places_of(name: str, x: TensorType, attrs: Any) -> Shape:
    """How many windows there are along each dimension; at least one, or the op raises."""
    windows = windows_of(x.shape, attrs)
    places = windows.places
    for n, count, span, pair in zip(
        windows.extents, places, windows.spans, windows.padding, strict=True
    ):
        if count < 1 or n < 1:
            raise ShapeError(
                f"{name}: a window that spans {span} is larger than an extent of {n} padded to "
                f"{n + sum(pair)}",
                remedy="use a smaller window or dilation, or more padding",
            )
    return places


# -- taps on the reference -----------------------------------------------------------------
def padded_taps(x: np.ndarray, windows: Windows, value: Any) -> Iterator[tuple[Shape, Any]]:
    """One tap of every window after the other, of an image padded with `value`."""
    wide = np.pad(x, [(0, 0), (0, 0), *windows.margins], constant_values=value)
    for tap in np.ndindex(*windows.kernel):
        yield tap, wide[windows.met(tap)]


# -- padding, taps and folding in a graph --------------------------------------------------
def pad(b: Builder, x: Node, windows: Windows, value: float) -> Node:
    """The image with `value` wherever windows reach beyond it."""
    if not windows.padded:
        return x
    low, high = zip(*windows.margins, strict=True)
    return b.pad(x, low=(0, 0, *low), high=(0, 0, *high), value=value)


def pieces(b: Builder, x: Node, windows: Windows) -> Iterator[tuple[Shape, Node]]:
    """One tap of every window after the other, of an image that is padded already."""
    lead = x.type.shape[:2]
    for tap in itertools.product(*map(range, windows.kernel)):
        start, stop, step = windows.tap(tap)
        yield tap, b.slice(x, start=(0, 0, *start), stop=(*lead, *stop), step=(1, 1, *step))


def folded(b: Builder, x: Node, windows: Windows, join: str, reduce: str) -> Node:
    """Each window of a padded image folded by the op `join`, or `reduce` over an axis."""
    if math.prod(windows.kernel) <= _TAPS_AT_ONCE:
        parts = [piece for _, piece in pieces(b, x, windows)]
        return functools.reduce(lambda u, v: b.apply(join, u, v), parts)
    if windows.tile:
        return _folded_tiles(b, x, windows, reduce)
    for axis in range(len(windows.kernel)):
        x = _folded_along(b, x, windows, axis, join, reduce)
    return x


def _folded_tiles(b: Builder, x: Node, windows: Windows, reduce: str) -> Node:
    """Windows that lie side by side are axes of their own, such as those of a global pool."""
    lead, pairs = x.type.shape[:2], list(zip(windows.places, windows.kernel, strict=True))
    stop = (*lead, *[n * k for n, k in pairs])
    if stop != x.type.shape:
        x = b.slice(x, start=(0,) * len(stop), stop=stop, step=(1,) * len(stop))
    split = b.reshape(x, shape=(*lead, *itertools.chain.from_iterable(pairs)))
    return b.apply(reduce, split, axis=tuple(range(3, 3 + 2 * len(pairs), 2)))


def _folded_along(b: Builder, x: Node, windows: Windows, axis: int, join: str, reduce: str) -> Node:
    k, s, d = windows.kernel[axis], windows.stride[axis], windows.dilation[axis]
    count, shape, at = windows.places[axis], x.type.shape, axis + 2
    if k == 1 and s == 1:
        return x
    if k <= TAPS_ALONG:
        parts = []
        for t in range(k):
            start, stop, step = [0] * len(shape), list(shape), [1] * len(shape)
            start[at], stop[at], step[at] = t * d, t * d + s * (count - 1) + 1, s
            parts.append(b.slice(x, start=tuple(start), stop=tuple(stop), step=tuple(step)))
        return functools.reduce(lambda u, v: b.apply(join, u, v), parts)
    index = np.arange(count)[:, None] * s + np.arange(k) * d
    return b.apply(reduce, b.take_unchecked(x, b.constant(index), axis=at), axis=at + 1)
