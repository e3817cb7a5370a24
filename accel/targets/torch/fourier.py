"""Lowerings of the Fourier transforms to torch's."""

from __future__ import annotations

from typing import Any

from ...ir.node import Node
from .lowering import Context, Kernel, lowers

__all__: list[str] = []


def _empty(context: Context, node: Node) -> Kernel:
    """torch's library refuses empty batches, which have nothing to transform."""
    return lambda x: x.new_empty(node.type.shape, dtype=context.dtype(node.type.dtype))


@lowers("fft")
def _fft(context: Context, node: Node) -> Kernel | None:
    axes, norm = node.attrs["axes"], node.attrs["norm"]
    if not node.type.size:
        return _empty(context, node)
    if not axes:
        return lambda x: x.clone()
    function = context.torch.fft.fftn if node.attrs["forward"] else context.torch.fft.ifftn
    return lambda x: function(x, dim=axes, norm=norm)


@lowers("rfft")
def _rfft(context: Context, node: Node) -> Kernel | None:
    """Of halves as of float32: torch's library has none on the CPU, and complex ones on CUDA."""
    function, attrs, part = context.torch.fft.rfft, node.attrs, context.dtype(node.type.dtype.real)
    if not node.type.size:
        return _empty(context, node)
    return lambda x: function(x.to(part), dim=attrs["axis"], norm=attrs["norm"])


@lowers("irfft")
def _irfft(context: Context, node: Node) -> Kernel | None:
    function, attrs = context.torch.fft.irfft, node.attrs
    if not node.type.size:
        return _empty(context, node)

    def run(x: Any) -> Any:
        return function(x, n=attrs["n"], dim=attrs["axis"], norm=attrs["norm"])

    return run
