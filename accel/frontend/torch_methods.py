"""Methods that torch's tensors have and that are no functions of accel: facts about the memory
that is promised, other names, in-place changes of shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, GradientError, ShapeError
from ..ir.axes import one_axis
from ..ir.types import contiguous_strides
from .functions import creation, shapes
from .tensors.arguments import public
from .tensors.recording import as_tensor, record
from .tensors.tensor import Tensor

__all__ = ["METHODS"]


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Elements between neighbours along each axis, or one: accel's values are row-major."""
    strides = contiguous_strides(self.shape)
    return strides if dim is None else strides[dim]


def is_contiguous(self: Tensor) -> bool:
    """True: how memory is laid out is accel's affair."""
    return True


def get_device(self: Tensor) -> int:
    """The number of the CUDA device; -1 on the CPU."""
    return -1 if self.device.type == "cpu" else self.device.index or 0


def is_signed(self: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return self.dtype.kind in "ifc"


def is_same_size(self: Tensor, other: Any) -> bool:
    """Whether another tensor has this one's shape."""
    return self.shape == as_tensor(other).shape


@public
def is_nonzero(self: Tensor) -> bool:
    """Whether the only element is not zero; computes it."""
    return bool(self)


@public
def contains(self: Tensor, value: Any) -> bool:
    """``value in tensor``: whether any element is equal to it; computes them."""
    found = self == value
    return bool(record("any", found)) if isinstance(found, Tensor) else False


@public
def reshape_as(self: Tensor, other: Any) -> Tensor:
    """The elements in the shape of another tensor."""
    return shapes.reshape(self, as_tensor(other).shape)


@public
def expand_as(self: Tensor, other: Any) -> Tensor:
    """Broadcast to the shape of another tensor."""
    return shapes.broadcast_to(self, as_tensor(other).shape)


@public
def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over the axes along which `size` would be broadcast to this shape.

    Raises
    ------
    ShapeError
        For a size that does not broadcast to the tensor's.
    """
    wanted = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    new = self.ndim - len(wanted)
    aligned = (1,) * new + wanted
    if new < 0 or any(w not in (1, n) for w, n in zip(aligned, self.shape, strict=True)):
        raise ShapeError(f"sum_to_size: {list(self.shape)} to {list(wanted)}",
                         remedy="give extents that are the tensor's or 1")  # fmt: skip
    axes = tuple([i for i, (w, n) in enumerate(zip(aligned, self.shape, strict=True)) if w != n])
    folded = record("sum", self, axis=axes, keepdims=True) if axes else self
    return record("reshape", folded, shape=wanted)


@public
def new_empty(self: Tensor, *size: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A Tensor of `size`, by default of this one's dtype and on its device."""
    return creation.empty(*size, dtype=dtype or self.dtype, device=device or self.device)


@public
def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A Tensor of `data`, by default of this one's dtype and on its device."""
    return creation.tensor(data, dtype or self.dtype, device=device or self.device)


@public
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` places along a dimension, `step` apart, as a new last axis.

    Raises
    ------
    ArgumentError
        For a window that is longer than the extent, or a step below 1.
    """
    axis = one_axis(dimension, self.ndim, "unfold")
    extent = self.shape[axis]
    if not 0 <= size <= extent or step < 1:
        raise ArgumentError(f"unfold: windows of {size}, {step} apart, of an extent of {extent}",
                            remedy="give windows within the extent, 1 or more apart")  # fmt: skip
    starts = np.arange(0, extent - size + 1, step)
    places = Tensor(starts[:, None] + np.arange(size))
    windows = record("take", self, places, axis=axis)
    return record("moveaxis", windows, source=axis + 1, destination=-1)


def type_(self: Tensor, dtype: Any = None) -> Any:
    """The tensor in another dtype; without one, the dtype's name as torch writes it."""
    return f"accel.{self.dtype.name}" if dtype is None else self.to(dtype)


def _rebinding(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """A form of `function` in place, which may change the shape: the handle is rebound."""

    def change(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.requires_grad and self.is_leaf:
            raise GradientError(f"{name} of a leaf that requires a gradient",
                                remedy="make a new tensor")  # fmt: skip
        self._set(function(self, *args, **kwargs)._value)
        return self

    change.__name__, change.__qualname__ = name, f"Tensor.{name}"
    change.__doc__ = f"Rebind the tensor to ``{name[:-1]}`` of it; returns the tensor."
    return public(change)


#: Attributes of Tensor by name.
METHODS: dict[str, Any] = {
    "stride": stride, "is_contiguous": is_contiguous, "get_device": get_device,
    "is_signed": is_signed, "is_same_size": is_same_size, "is_nonzero": is_nonzero,
    "__contains__": contains, "reshape_as": reshape_as, "expand_as": expand_as,
    "sum_to_size": sum_to_size, "new_empty": new_empty,
    "new_tensor": new_tensor, "unfold": unfold, "type": type_,
    "ndimension": lambda self: self.ndim, "nelement": lambda self: self.size,
    "unsqueeze_": _rebinding(shapes.unsqueeze, "unsqueeze_"),
    "squeeze_": _rebinding(lambda self, dim=None: self.squeeze(dim), "squeeze_"),
    "transpose_": _rebinding(shapes.transpose, "transpose_"),
    "t_": _rebinding(shapes.t, "t_"), "swapaxes_": _rebinding(shapes.swapaxes, "swapaxes_"),
}  # fmt: skip
