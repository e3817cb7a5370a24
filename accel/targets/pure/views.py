"""Buffers and views: movement of a stored value is arithmetic on strides, never a copy.

A :class:`Buffer` is a stretch of memory of one dtype that kernels write and read; a
:class:`View` reads it under a shape, strides and an offset, all in elements. Transposes,
broadcasts, slices, flips and most reshapes of a view are views again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

import numpy as np

from ...ir.dataclass import dataclass
from ...ir.dtypes import DType
from ...ir.node import Node
from ...ir.types import Shape, contiguous_strides

__all__ = ["Buffer", "Place", "View", "moved", "nowhere"]


@dataclass(eq=False)
class Buffer:
    """Memory of one dtype.

    Attributes
    ----------
    dtype, size
        Element type, and number of elements.
    kind
        ``input``, ``constant``, ``output`` (an array of its own) or ``arena``.
    index
        Which input, constant or output it is.
    array
        The data of a constant.
    writers
        The clusters that write it, in order.
    """

    dtype: DType
    size: int
    kind: str = "arena"
    index: int = 0
    array: np.ndarray | None = None
    writers: list[Any] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def whole(self, shape: Shape) -> View:
        """The buffer read in C order as `shape`."""
        return View(self, shape, contiguous_strides(shape), 0)


#: Base index and byte offset of a buffer in the call's table of pointers.
Place = Callable[[Buffer], tuple[int, int]]


def nowhere(buffer: Buffer) -> tuple[int, int]:
    """For what does not depend on where buffers are."""
    return 0, 0


@dataclass(frozen=True)
class View:
    """Element ``index`` lies at ``offset + sum(index * strides)`` of the buffer."""

    buffer: Buffer
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the buffer in C order."""
        if self.offset or self.size != self.buffer.size:
            return False
        wanted = contiguous_strides(self.shape)
        return all(
            e == 1 or s == w for e, s, w in zip(self.shape, self.strides, wanted, strict=True)
        )

    def permute(self, axes: tuple[int, ...]) -> View:
        shape = tuple([self.shape[a] for a in axes])
        return View(self.buffer, shape, tuple([self.strides[a] for a in axes]), self.offset)

    def broadcast_to(self, shape: Shape) -> View:
        fill = len(shape) - len(self.shape)
        strides = [0] * fill
        for extent, wanted, stride in zip(self.shape, shape[fill:], self.strides, strict=True):
            strides.append(stride if extent == wanted else 0)
        return View(self.buffer, shape, tuple(strides), self.offset)

    def part(self, start: tuple[int, ...], step: tuple[int, ...], shape: Shape) -> View:
        """The elements at ``start + index * step`` for indices below `shape`."""
        offset = self.offset
        if all(shape):  # an empty part begins nowhere
            offset += sum(b * s for b, s in zip(start, self.strides, strict=True))
        strides = tuple([a * s for a, s in zip(step, self.strides, strict=True)])
        return View(self.buffer, shape, strides, offset)

    def flip(self, axes: tuple[int, ...]) -> View:
        start = tuple([e - 1 if d in axes else 0 for d, e in enumerate(self.shape)])
        step = tuple([-1 if d in axes else 1 for d in range(len(self.shape))])
        return self.part(start, step, self.shape)

    def reshape(self, shape: Shape) -> View | None:
        """The same elements in order as `shape`, or None where strides cannot say it."""
        if self.size == 0:
            return View(self.buffer, shape, contiguous_strides(shape), self.offset)
        runs = _runs(self.shape, self.strides)
        strides: list[int] = []
        place, left = 0, runs[0][0] if runs else 1
        for extent in shape:
            if extent == 1:
                strides.append(0)
                continue
            while left == 1 and place + 1 < len(runs):
                place += 1
                left = runs[place][0]
            if left % extent:
                return None
            left //= extent
            strides.append(runs[place][1] * left)
        return View(self.buffer, shape, tuple(strides), self.offset)


def _runs(shape: Shape, strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """(extent, stride) with neighbours merged that walk memory evenly; extents of 1 gone."""
    runs: list[tuple[int, int]] = []
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = (runs[-1][0] * extent, stride)
        else:
            runs.append((extent, stride))
    return runs


def moved(view: View, node: Node) -> View | None:
    """What `node`, a movement op with one operand, makes of `view`; None if it must copy."""
    name, attrs, shape = node.op.name, node.attrs, node.type.shape
    if name == "barrier":
        return view
    if name == "permute":
        return view.permute(attrs["axes"])
    if name == "broadcast_to":
        return view.broadcast_to(shape)
    if name == "reshape":
        return view.reshape(shape)
    if name == "slice":
        return view.part(attrs["start"], attrs["step"], shape)
    if name == "flip":
        return view.flip(attrs["axis"])
    raise ValueError(f"{name} is no movement of one operand")
