"""Lowerings of convolutions and their gradients to torch's own.

torch pads both ends alike; what has other widths is padded here. Half precision is
computed in float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ir.node import Node
from .lowering import Context, Kernel, in_float32, lowers

__all__: list[str] = []


def _settings(node: Node) -> tuple[list[Any], Sequence[tuple[int, int]]]:
    """torch's (stride, padding, dilation, transposed, output_padding, groups) for images that
    are padded by hand where needed, and what is padded by hand."""
    attrs = node.attrs
    padding = attrs["padding"]
    even = all(low == high for low, high in padding)
    own = [low for low, _ in padding] if even else [0] * len(padding)
    settings = [attrs["stride"], own, attrs["dilation"], False, [0] * len(own), attrs["groups"]]
    return settings, [(0, 0)] * len(own) if even else padding


def _has_work(node: Node) -> bool:
    """torch does not take arrays without elements for all operands."""
    return all(t.type.size for t in (node, *node.inputs))


def _zeros(node: Node) -> Kernel:
    """The sums of nothing."""
    shape = node.type.shape
    return lambda *tensors: tensors[0].new_zeros(shape)


@lowers("convolution")
def _convolution(context: Context, node: Node) -> Kernel | None:
    torch = context.torch
    if not _has_work(node):
        return _zeros(node)
    settings, extra = _settings(node)
    widths = [w for pair in reversed(extra) for w in pair]

    def run(x: Any, weight: Any) -> Any:
        if any(widths):
            x = torch.nn.functional.pad(x, widths)
        return torch.convolution(x, weight, None, *settings)

    return in_float32(context, node, run)


@lowers("convolution_input_gradient")
def _input_gradient(context: Context, node: Node) -> Kernel | None:
    torch = context.torch
    if not _has_work(node):
        return _zeros(node)
    settings, extra = _settings(node)
    n, channels, *extents = node.type.shape
    pairs = list(zip(extents, extra, strict=True))
    shape = (n, channels, *[e + low + high for e, (low, high) in pairs])
    inner = (..., *[slice(low, low + e) for e, (low, _) in pairs])

    def run(g: Any, weight: Any) -> Any:
        image = g.new_empty(1).expand(shape)
        found, _, _ = torch.ops.aten.convolution_backward(
            g, image, weight, None, *settings, (True, False, False)
        )
        return found[inner]

    return in_float32(context, node, run)


@lowers("convolution_weight_gradient")
def _weight_gradient(context: Context, node: Node) -> Kernel | None:
    torch, shape = context.torch, node.type.shape
    if not _has_work(node):
        return _zeros(node)
    settings, extra = _settings(node)
    widths = [w for pair in reversed(extra) for w in pair]

    def run(x: Any, g: Any) -> Any:
        if any(widths):
            x = torch.nn.functional.pad(x, widths)
        weight = g.new_empty(1).expand(shape)
        _, found, _ = torch.ops.aten.convolution_backward(
            g, x, weight, None, *settings, (False, True, False)
        )
        return found

    return in_float32(context, node, run)
