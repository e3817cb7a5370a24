"""Layers that move elements: padding, resampling, patches, channels dropped whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from . import functional
from .functions.spatial import numbers
from .layers import Dropout
from .module import Module

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "Dropout1d", "Dropout2d", "Dropout3d", "Fold", "PixelShuffle",
    "PixelUnshuffle", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d",
    "ReplicationPad2d", "ReplicationPad3d", "Unflatten", "Unfold", "Upsample", "ZeroPad1d",
    "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    """Pads the last `dimensions` axes: one width, or pairs from the last axis on."""

    dimensions = 0
    mode = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = numbers(type(self).__name__, "padding", padding, 2 * self.dimensions)

    def forward(self, x: Any) -> Any:
        return accel.pad(x, self.padding, mode=self.mode, value=self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A value around sequences."""

    dimensions = 1


class ConstantPad2d(_ConstantPad):
    """A value around images."""

    dimensions = 2


class ConstantPad3d(_ConstantPad):
    """A value around volumes."""

    dimensions = 3


class ZeroPad1d(_Pad):
    """Zeros around sequences."""

    dimensions = 1


class ZeroPad2d(_Pad):
    """Zeros around images: one width, or (left, right, top, bottom)."""

    dimensions = 2


class ZeroPad3d(_Pad):
    """Zeros around volumes."""

    dimensions = 3


class ReflectionPad1d(_Pad):
    """Sequences mirrored at their ends, which are not repeated."""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Images mirrored at their edges, which are not repeated."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Volumes mirrored at their faces, which are not repeated."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The ends of sequences repeated."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edges of images repeated."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The faces of volumes repeated."""

    dimensions, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Sequences continued from their other end."""

    dimensions, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Images continued from their other edge."""

    dimensions, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Volumes continued from their other face."""

    dimensions, mode = 3, "circular"


class Upsample(Module):
    """`functional.interpolate` with fixed settings.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> nn.Upsample(scale_factor=2)(accel.ones((1, 3, 4, 4))).shape
    (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Any) -> Any:
        return functional.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners,
            self.recompute_scale_factor,
        )  # fmt: skip

    def extra_repr(self) -> str:
        which = "size" if self.size is not None else "scale_factor"
        return f"{which}={getattr(self, which)}, mode={self.mode!r}"


class PixelShuffle(Module):
    """Channels moved into space: (N, C r², H, W) to (N, C, H r, W r)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Any:
        return functional.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Space moved into channels: the inverse of `PixelShuffle`."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, x: Any) -> Any:
        return functional.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class Unfold(Module):
    """The patches of an image as columns; see `functional.unfold`."""

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, x: Any) -> Any:
        return functional.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


class Fold(Unfold):
    """Columns of patches added up to an image; see `functional.fold`."""

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return functional.fold(
            x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"


class Unflatten(Module):
    """Splits axis `dim` into several."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise ArgumentError(f"Unflatten: dim {dim!r}", remedy="name the axis by its number")
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Any) -> Any:
        return accel.unflatten(x, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Dropout1d(Dropout):
    """Drops whole channels of [N, C, L]."""

    function = "dropout1d"


class Dropout2d(Dropout):
    """Drops whole channels of [N, C, H, W]."""

    function = "dropout2d"


class Dropout3d(Dropout):
    """Drops whole channels of [N, C, D, H, W]."""

    function = "dropout3d"
