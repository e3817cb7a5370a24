"""Lowerings of the Fourier transforms to torch's."""

from __future__ import annotations

from typing import Any

from ...ir.node import Node
from .lowering import Context, Kernel, lowers

__all__: list[str] = []


@lowers("fft")
def _fft(context: Context, node: Node) -> Kernel | None:
    """torch's library refuses empty batches, which have nothing to transform."""
    axes, norm = node.attrs["axes"], node.attrs["norm"]
    if not axes or not node.type.size:
        return None
    function = context.torch.fft.fftn if node.attrs["forward"] else context.torch.fft.ifftn
    return lambda x: function(x, dim=axes, norm=norm)


@lowers("rfft")
def _rfft(context: Context, node: Node) -> Kernel | None:
    """Of halves as of float32: torch's library has none on the CPU, and complex ones on CUDA."""
    function, attrs, part = context.torch.fft.rfft, node.attrs, context.dtype(node.type.dtype.real)
    if not node.type.size:
        return None
    return lambda x: function(x.to(part), dim=attrs["axis"], norm=attrs["norm"])


@lowers("irfft")
def _irfft(context: Context, node: Node) -> Kernel | None:
    function, attrs = context.torch.fft.irfft, node.attrs
    if not node.type.size:
        return None

    def run(x: Any) -> Any:
        return function(x, n=attrs["n"], dim=attrs["axis"], norm=attrs["norm"])

    return run
