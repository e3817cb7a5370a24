"""Lowerings of pooling to torch's own, where the padding is the same at both ends."""

from __future__ import annotations

from typing import Any

from ...ir.node import Node
from ...ir.types import Shape
from .lowering import Context, Kernel, in_float32, lowers

__all__: list[str] = []


def _even(node: Node) -> list[int] | None:
    """The padding as torch takes it; None where there is no such or nothing to do."""
    padding = node.attrs["padding"]
    if node.type.size == 0 or any(low != high for low, high in padding):
        return None
    return [low for low, _ in padding]


@lowers("max_pool", "max_pool_indices")
def _max_pool(context: Context, node: Node) -> Kernel | None:
    padding, attrs, x = _even(node), node.attrs, node.inputs[0].type
    if padding is None or x.dtype.kind != "f":
        return None
    function = getattr(context.torch.nn.functional, f"max_pool{x.ndim - 2}d")
    settings = (attrs["kernel"], attrs["stride"], padding, attrs["dilation"], attrs["ceil_mode"])
    if node.op.name == "max_pool":
        return lambda x: function(x, *settings)
    return lambda x: function(x, *settings, return_indices=True)[1]


def _larger(shape: Shape, kernel: Shape) -> bool:
    """Whether the image holds a window without padding, as torch's avg_pool3d demands."""
    return all(n >= k for n, k in zip(shape[2:], kernel, strict=True))


@lowers("avg_pool")
def _avg_pool(context: Context, node: Node) -> Kernel | None:
    padding, attrs, count = _even(node), node.attrs, node.type.ndim - 2
    if padding is None or (count == 1 and attrs["divisor_override"] is not None):
        return None
    if count == 3 and not _larger(node.inputs[0].type.shape, attrs["kernel"]):
        return None
    function = getattr(context.torch.nn.functional, f"avg_pool{count}d")
    more = () if count == 1 else (attrs["divisor_override"],)
    settings = (attrs["kernel"], attrs["stride"], padding, attrs["ceil_mode"],
                attrs["count_include_pad"], *more)  # fmt: skip
    return in_float32(context, node, lambda x: function(x, *settings))


@lowers("avg_pool_gradient")
def _avg_pool_gradient(context: Context, node: Node) -> Kernel | None:
    padding, attrs, count = _even(node), node.attrs, node.type.ndim - 2
    if padding is None or count == 1:
        return None
    if count == 3 and not _larger(node.type.shape, attrs["kernel"]):
        return None
    function = getattr(context.torch.ops.aten, f"avg_pool{count}d_backward")
    shape = node.type.shape
    settings = (attrs["kernel"], attrs["stride"], padding, attrs["ceil_mode"],
                attrs["count_include_pad"], attrs["divisor_override"])  # fmt: skip

    def run(g: Any) -> Any:
        return function(g, g.new_empty(1).expand(shape), *settings)

    return in_float32(context, node, run)
