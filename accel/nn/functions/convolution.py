"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor
from .spatial import batched, numbers

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
]  # fmt: skip


@public
def conv1d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide a kernel along a sequence; as `conv2d` with one spatial dimension.

    Examples
    --------
    >>> import accel
    >>> x, weight = accel.asarray([[[1.0, 2.0, 4.0]]]), accel.asarray([[[-1.0, 1.0]]])
    >>> accel.nn.functional.conv1d(x, weight).tolist()
    [[[1.0, 2.0]]]
    """
    return _convolution("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


@public
def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide a kernel over an image, adding up its products with what it covers.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    weight
        Shape (O, C / groups, kernel height, kernel width).
    bias
        Shape (O,), added to each channel of the result, or None.
    stride
        Places from one position of the kernel to the next; one int, or one a dimension.
    padding
        Zeros around the image; one int, or one a dimension. ``"valid"`` is 0; ``"same"`` keeps
        the extents, for a stride of 1.
    dilation
        Places from one element of the kernel to the next.
    groups
        Channels and outputs are divided into so many groups that do not see each other.

    Returns
    -------
    Tensor
        Shape (N, O, H', W') with
        H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    Raises
    ------
    ShapeError
        When the channels misfit, or the kernel is larger than the padded image.

    Examples
    --------
    >>> import accel
    >>> x, weight = accel.ones((1, 3, 8, 8)), accel.ones((4, 3, 3, 3))
    >>> accel.nn.functional.conv2d(x, weight, stride=2, padding=1).shape
    (1, 4, 4, 4)
    """
    return _convolution("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


@public
def conv3d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide a kernel through a volume; as `conv2d` with three spatial dimensions."""
    return _convolution("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


def _convolution(
    name: str, count: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    weight = _weight(name, count, weight)
    stride = numbers(name, "stride", stride, count)
    dilation = numbers(name, "dilation", dilation, count)
    if isinstance(padding, str):
        padding = _named_padding(name, padding, weight.shape[2:], stride, dilation)
    else:
        padding = numbers(name, "padding", padding, count)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def apply(image: Tensor) -> Tensor:
        return _biased(name, record("convolution", image, weight, **attrs), bias)

    return batched(name, count, x, apply)


def _weight(name: str, count: int, weight: Any) -> Tensor:
    weight = as_tensor(weight)
    if weight.ndim != count + 2:
        raise ShapeError(
            f"{name}: a weight of shape {list(weight.shape)}",
            remedy=f"a weight has {count + 2} dimensions: two of channels, then the kernel's",
        )
    return weight


def _named_padding(
    name: str, padding: str, kernel: tuple[int, ...], stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Any:  # fmt: skip
    if padding == "valid":
        return (0,) * len(kernel)
    if padding != "same":
        raise ArgumentError(f"{name}: padding {padding!r}",
                            remedy="use a width, 'same' or 'valid'")  # fmt: skip
    if any(s != 1 for s in stride):
        raise ArgumentError(f"{name}: padding 'same' with a stride of {stride}",
                            remedy="use a stride of 1, or give widths")  # fmt: skip
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple([(total // 2, total - total // 2) for total in totals])


def _biased(name: str, result: Tensor, bias: Any) -> Tensor:
    if bias is None:
        return result
    bias = as_tensor(bias)
    if tuple(bias.shape) != (result.shape[1],):
        raise ShapeError(
            f"{name}: a bias of shape {list(bias.shape)} for {result.shape[1]} outputs",
            remedy="the bias is [outputs]",
        )
    return result + bias.reshape(-1, *[1] * (result.ndim - 2))


@public
def conv_transpose1d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transposed convolution of a sequence; as `conv_transpose2d`."""
    return _transposed(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public
def conv_transpose2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The gradient of `conv2d` with respect to its image, as a layer: it enlarges an image.

    Parameters
    ----------
    x
        Shape (N, C, H, W), or (C, H, W) without a batch.
    weight
        Shape (C, O / groups, kernel height, kernel width).
    bias
        Shape (O,), or None.
    stride, padding, dilation, groups
        Those of the convolution that this is the transpose of.
    output_padding
        Rows and columns that the result has more at its end, less than the stride.

    Returns
    -------
    Tensor
        Shape (N, O, H', W') with
        H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.

    Raises
    ------
    ShapeError
        When the channels misfit.

    Examples
    --------
    >>> import accel
    >>> x, weight = accel.ones((1, 4, 4, 4)), accel.ones((4, 3, 2, 2))
    >>> accel.nn.functional.conv_transpose2d(x, weight, stride=2).shape
    (1, 3, 8, 8)
    """
    return _transposed(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public
def conv_transpose3d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transposed convolution of a volume; as `conv_transpose2d`."""
    return _transposed(
        "conv_transpose3d", 3, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _transposed(
    name: str, count: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    weight = _weight(name, count, weight)
    rows = list(zip(
        weight.shape[2:], numbers(name, "stride", stride, count),
        numbers(name, "padding", padding, count),
        numbers(name, "output_padding", output_padding, count),
        numbers(name, "dilation", dilation, count), strict=True,
    ))  # fmt: skip
    ends = []
    for _, s, p, extra, d in rows:
        if not 0 <= extra < max(s, d, 1):
            raise ArgumentError(f"{name}: output_padding {extra} with a stride of {s}",
                                remedy="give less than the stride or the dilation")  # fmt: skip
        ends.append(p if extra < s else max(p - extra, 0))  # no more places of the kernel
    _, stride, padding, _, dilation = zip(*rows, strict=True)
    pairs = tuple(zip(padding, ends, strict=True))
    attrs = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}

    def apply(image: Tensor) -> Tensor:
        if image.shape[1] != weight.shape[0]:
            raise ShapeError(
                f"{name}: {image.shape[1]} channels and a weight of shape {list(weight.shape)}",
                remedy="the weight is [channels, outputs / groups, *kernel]",
            )
        shape = tuple([
            (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
            for n, (k, s, p, extra, d) in zip(image.shape[2:], rows, strict=True)
        ])  # fmt: skip
        if any(n < 1 for n in shape):
            raise ShapeError(f"{name}: a result with extents {list(shape)}",
                             remedy="use less padding")  # fmt: skip
        beyond = [max(extra - p, 0) if extra >= s else 0 for _, s, p, extra, _ in rows]
        met = tuple([n - none for n, none in zip(shape, beyond, strict=True)])
        result = record("convolution_input_gradient", image, weight, shape=met, **attrs)
        if any(beyond):
            result = record("pad", result, low=(0,) * (count + 2), high=(0, 0, *beyond))
        return _biased(name, result, bias)

    return batched(name, count, x, apply)
