"""Types of graph values: dtype, shape and device, and the shape arithmetic of type rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ShapeError
from .dtypes import DType

__all__ = ["CPU", "Shape", "TensorType", "broadcast_shapes", "contiguous_strides"]

Shape = tuple[int, ...]
CPU = "cpu"


class TensorType:
    """The type of one value: dtype, shape, device; immutable, compared by value.

    A `weak` type is that of a Python scalar: it holds the scalar exactly (float64 for a
    float) and takes the dtype of the arrays it meets.
    """

    __slots__ = ("device", "dtype", "shape", "weak")

    def __init__(
        self, dtype: DType, shape: Shape = (), device: str = CPU, weak: bool = False
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.device = device
        self.weak = weak

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape, self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape, self.device)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TensorType)
            and self.dtype is other.dtype
            and self.shape == other.shape
            and self.device == other.device
            and self.weak == other.weak
        )

    def __hash__(self) -> int:
        return hash((self.dtype.name, self.shape, self.device, self.weak))

    def __str__(self) -> str:
        """The form in graph texts, such as ``f32[64,128]`` or ``f64[]@cuda:0``."""
        text = f"{self.dtype.short}[{','.join(map(str, self.shape))}]"
        if self.weak:
            text = "weak " + text
        return text if self.device == CPU else f"{text}@{self.device}"

    __repr__ = __str__


def broadcast_shapes(shapes: Sequence[Shape], what: str = "operands") -> Shape:
    """The common shape of `shapes` under NumPy's broadcasting.

    Raises
    ------
    ShapeError
        Where two extents differ and neither is 1.

    Examples
    --------
    >>> broadcast_shapes([(3, 1), (4,)])
    (3, 4)
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    result: list[int] = [1] * max(map(len, shapes))
    for shape in shapes:
        offset = len(result) - len(shape)
        for i, extent in enumerate(shape, offset):
            if result[i] == 1:
                result[i] = extent
            elif extent not in (1, result[i]):
                listed = " and ".join(str(list(s)) for s in shapes)
                raise ShapeError(
                    f"{what}: shapes {listed} do not broadcast",
                    remedy="make the extents equal or 1, aligned from the last dimension "
                    "(reshape, or index with None)",
                )
    return tuple(result)


def contiguous_strides(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))
