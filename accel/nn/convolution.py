"""Convolutional layers."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from . import functional, init
from .functions.spatial import numbers
from .module import Module
from .parameter import Parameter

__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
]  # fmt: skip

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What convolutions and transposed ones share: settings, parameters and their first values."""

    dimensions = 0

    def _set(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str, dtype: Any, transposed: bool,
    ) -> None:  # fmt: skip
        name, count = type(self).__name__, self.dimensions
        for word, value in (("groups", groups), ("in_channels", in_channels),
                            ("out_channels", out_channels)):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name}: {word} is {value!r}",
                                    remedy=f"pass a positive int as {word}")  # fmt: skip
            if value % groups:
                raise ArgumentError(f"{name}: {value} {word} in {groups} groups",
                                    remedy="pass a divisor of both channels as groups")  # fmt: skip
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(f"{name}: padding_mode {padding_mode!r}",
                                remedy="use one of " + ", ".join(_PADDING_MODES))  # fmt: skip
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = numbers(name, "kernel_size", kernel_size, count)
        self.stride = numbers(name, "stride", stride, count)
        self.padding = (
            padding if isinstance(padding, str) else numbers(name, "padding", padding, count)
        )
        self.dilation = numbers(name, "dilation", dilation, count)
        self.groups, self.padding_mode = groups, padding_mode
        ends = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        shape = (ends[0], ends[1] // groups, *self.kernel_size)
        self.weight = Parameter(accel.empty(shape, dtype=dtype))
        self.bias = Parameter(accel.empty((out_channels,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: uniform within ±1/√fan_in."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(max(fan_in, 1))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        shown = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}",
                 f"stride={self.stride}"]  # fmt: skip
        for name, default in (("padding", 0), ("dilation", 1), ("output_padding", 0)):
            value = getattr(self, name, default)
            if value not in (default, (default,) * self.dimensions):
                shown.append(f"{name}={value!r}")
        if self.groups != 1:
            shown.append(f"groups={self.groups}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(shown)


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._set(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                  padding_mode, dtype, transposed=False)  # fmt: skip

    def forward(self, x: Any) -> Any:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = accel.pad(x, self._widths(), mode=self.padding_mode), 0
        function = getattr(functional, f"conv{self.dimensions}d")
        return function(x, self.weight, self.bias, self.stride, padding, self.dilation,
                        self.groups)  # fmt: skip

    def _widths(self) -> list[int]:
        """The padding as `accel.pad` takes it: pairs from the last dimension on."""
        widths: list[Any] = []
        for i in reversed(range(self.dimensions)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                widths += [total // 2, total - total // 2]
            else:
                widths += [0, 0] if self.padding == "valid" else [self.padding[i]] * 2
        return widths


class Conv1d(_Conv):
    """Slides kernels along a sequence [N, C, L]; arguments as for `Conv2d`."""

    dimensions = 1


class Conv2d(_Conv):
    """Slides kernels over an image [N, C, H, W].

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size
        Extents of the kernels; one int, or one a dimension.
    stride, padding, dilation, groups
        As for `functional.conv2d`.
    bias
        Whether there is a bias.
    padding_mode
        What is around the image: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    dtype
        dtype of the parameters, float32 by default.

    Attributes
    ----------
    weight
        Shape (out_channels, in_channels / groups, *kernel_size).
    bias
        Shape (out_channels,) or None.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> layer = nn.Conv2d(3, 8, 3, padding=1)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> layer(accel.ones((2, 3, 16, 16))).shape
    (2, 8, 16, 16)
    """

    dimensions = 2


class Conv3d(_Conv):
    """Slides kernels through a volume [N, C, D, H, W]; arguments as for `Conv2d`."""

    dimensions = 3


class _ConvTranspose(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ArgumentError(f"{name}: padding_mode {padding_mode!r}", remedy="use 'zeros'")
        self.output_padding = numbers(name, "output_padding", output_padding, self.dimensions)
        self._set(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                  padding_mode, dtype, transposed=True)  # fmt: skip

    def forward(self, x: Any, output_size: Any = None) -> Any:
        """The transposed convolution; `output_size` chooses among the extents that it may have."""
        function = getattr(functional, f"conv_transpose{self.dimensions}d")
        extra = self.output_padding if output_size is None else self._extra(x, output_size)
        return function(x, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
                        self.dilation)  # fmt: skip

    def _extra(self, x: Any, output_size: Any) -> tuple[int, ...]:
        count = self.dimensions
        wanted = tuple(output_size)[-count:]
        rows = zip(x.shape[-count:], self.stride, self.padding, self.dilation, self.kernel_size,
                   wanted, strict=True)  # fmt: skip
        return tuple([
            m - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, s, p, d, k, m in rows
        ])  # fmt: skip


class ConvTranspose1d(_ConvTranspose):
    """The transposed convolution of a sequence; arguments as for `ConvTranspose2d`."""

    dimensions = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d` as a layer: with a stride it enlarges an image.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, padding, output_padding, groups, dilation
        As for `functional.conv_transpose2d`.
    bias
        Whether there is a bias.

    Attributes
    ----------
    weight
        Shape (in_channels, out_channels / groups, *kernel_size).
    bias
        Shape (out_channels,) or None.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> nn.ConvTranspose2d(8, 3, 2, stride=2)(accel.ones((1, 8, 4, 4))).shape
    (1, 3, 8, 8)
    """

    dimensions = 2


class ConvTranspose3d(_ConvTranspose):
    """The transposed convolution of a volume; arguments as for `ConvTranspose2d`."""

    dimensions = 3
