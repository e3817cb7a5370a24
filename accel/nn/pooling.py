"""Pooling as modules; each calls the function of the same name."""

from __future__ import annotations

from typing import Any

from . import functional
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d",
    "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d",
    "MaxUnpool3d",
]  # fmt: skip


class _Pool(Module):
    """A function of one image with settings, which are attributes of the module."""

    function = ""
    settings: tuple[str, ...] = ()

    def forward(self, x: Any) -> Any:
        values = {name: getattr(self, name) for name in self.settings}
        return getattr(functional, self.function)(x, **values)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


class _MaxPool(_Pool):
    settings = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The greatest element of each window of a sequence."""

    function = "max_pool1d"


class MaxPool2d(_MaxPool):
    """The greatest element of each window of an image.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode
        As for `functional.max_pool2d`.

    Examples
    --------
    >>> from accel import nn
    >>> nn.MaxPool2d(2)
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    """

    function = "max_pool2d"


class MaxPool3d(_MaxPool):
    """The greatest element of each window of a volume."""

    function = "max_pool3d"


class _MaxUnpool(Module):
    function = ""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Any:
        window = self.kernel_size, self.stride, self.padding
        return getattr(functional, self.function)(x, indices, *window, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The elements of a pooled sequence at their old places, given by their indices."""

    function = "max_unpool1d"


class MaxUnpool2d(_MaxUnpool):
    """The elements of a pooled image at their old places, given by their indices."""

    function = "max_unpool2d"


class MaxUnpool3d(_MaxUnpool):
    """The elements of a pooled volume at their old places, given by their indices."""

    function = "max_unpool3d"


class LPPool1d(_Pool):
    """The p-norm of each window of a sequence."""

    function = "lp_pool1d"
    settings: tuple[str, ...] = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode


class LPPool2d(LPPool1d):
    """The p-norm of each window of an image."""

    function = "lp_pool2d"


class LPPool3d(LPPool1d):
    """The p-norm of each window of a volume."""

    function = "lp_pool3d"


class AvgPool1d(_Pool):
    """The mean of each window of a sequence."""

    function = "avg_pool1d"
    settings: tuple[str, ...] = (
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
    )  # fmt: skip

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad = count_include_pad

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(AvgPool1d):
    """The mean of each window of an image; arguments as for `functional.avg_pool2d`."""

    function = "avg_pool2d"
    settings = (*AvgPool1d.settings, "divisor_override")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: float | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override


class AvgPool3d(AvgPool2d):
    """The mean of each window of a volume."""

    function = "avg_pool3d"


class _AdaptiveAvgPool(_Pool):
    settings = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of a sequence at a given number of places."""

    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows that divide an image into a given number of places.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> nn.AdaptiveAvgPool2d(1)(accel.ones((2, 8, 5, 5))).shape
    (2, 8, 1, 1)
    """

    function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of a volume at a given number of places."""

    function = "adaptive_avg_pool3d"


class _AdaptiveMaxPool(_Pool):
    settings = ("output_size", "return_indices")

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima of a sequence at a given number of places."""

    function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima of windows that divide an image into a given number of places."""

    function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima of a volume at a given number of places."""

    function = "adaptive_max_pool3d"
