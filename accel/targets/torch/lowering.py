"""The table of lowerings: for each op, how to make the torch call of a node.

A maker looks at the node once, while compiling, and gives the function that runs on every
call. It gives None where torch has nothing that means the same (a dtype, a special case);
such a node is expanded, and what cannot be expanded runs on the NumPy reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...ir.dtypes import DType
from ...ir.node import Node

__all__ = ["Context", "Kernel", "Maker", "find_kernel", "in_float32", "lowers"]

Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Context:
    """What a maker needs beside the node: the torch module and the device of the run."""

    torch: Any
    device: Any

    def dtype(self, dtype: DType) -> Any:
        """torch's dtype: the names are the same."""
        return getattr(self.torch, dtype.name)

    @property
    def on_cpu(self) -> bool:
        return bool(self.device.type == "cpu")


Maker = Callable[[Context, Node], "Kernel | None"]

_MAKERS: dict[str, Maker] = {}

#: dtypes that torch stores but hardly computes in, and the signed ones of their width.
WIDE = {"uint16": "int16", "uint32": "int32", "uint64": "int64"}

#: Modulo 2**64 these are the same for signed and unsigned numbers.
RING = frozenset({
    "add", "sub", "mul", "neg", "square", "matmul", "bitwise_and", "bitwise_or", "bitwise_xor",
    "bitwise_invert", "bitwise_left_shift", "eq", "ne", "logical_and", "logical_or",
    "logical_xor", "logical_not", "sum", "prod", "cumsum", "cumprod", "index_add_unchecked",
    "scatter_add_unchecked", "any", "all", "count_nonzero",
})  # fmt: skip

#: These convert by themselves.
CONVERTING = frozenset({"cast", "iota"})


def in_float32(context: Context, node: Node, kernel: Kernel) -> Kernel:
    """`kernel`, which on the CPU computes half precision in float32."""
    if not context.on_cpu or node.type.dtype.itemsize != 2:
        return kernel
    wide, narrow = context.torch.float32, context.dtype(node.type.dtype)
    return lambda *tensors: kernel(*[t.to(wide) for t in tensors]).to(narrow)


def lowers(*names: str) -> Callable[[Maker], Maker]:
    """Enter a maker for the named ops."""

    def enter(maker: Maker) -> Maker:
        for name in names:
            if name in _MAKERS:
                raise ValueError(f"two torch lowerings of {name}")
            _MAKERS[name] = maker
        return maker

    return enter


def find_kernel(context: Context, node: Node) -> Kernel | None:
    """The torch function of `node`; None where it must be expanded or left to NumPy."""
    maker = _MAKERS.get(node.op.name)
    if maker is None:
        return None
    kernel = maker(context, node)
    if kernel is None or node.op.name in CONVERTING:
        return kernel
    names = {t.dtype.name for t in (node.type, *(i.type for i in node.inputs))}
    if not names & WIDE.keys():
        return kernel
    return _of_unsigned(context, node, kernel, "uint64" in names)


def _of_unsigned(context: Context, node: Node, kernel: Kernel, longest: bool) -> Kernel | None:
    """`kernel` for the wide unsigned dtypes: on the bits, or in int64."""
    op = node.op
    if op.category == "movement" or op.name == "where":
        return _on_bits(context, node, kernel)
    if op.form == "composite" and op.name not in RING:
        return None
    if longest and op.name not in RING:
        return None
    return _in_int64(context, node, kernel)


def _on_bits(context: Context, node: Node, kernel: Kernel) -> Kernel:
    """Elements that only move, carried by signed integers of the same width."""
    torch = context.torch
    views = [getattr(torch, WIDE[i.type.dtype.name]) if i.type.dtype.name in WIDE else None
             for i in node.inputs]  # fmt: skip
    back = context.dtype(node.type.dtype)

    def run(*tensors: Any) -> Any:
        signed = [t if v is None else t.view(v) for t, v in zip(tensors, views, strict=True)]
        return kernel(*signed).view(back)

    return run


def _in_int64(context: Context, node: Node, kernel: Kernel) -> Kernel:
    torch = context.torch
    result = node.type.dtype

    def widened(tensor: Any) -> Any:
        if tensor.dtype is torch.uint64:
            return tensor.view(torch.int64)
        return tensor.to(torch.int64) if tensor.dtype in (torch.uint16, torch.uint32) else tensor

    def run(*tensors: Any) -> Any:
        out = kernel(*map(widened, tensors))
        if result.name == "uint64":
            return out if out.dtype is torch.uint64 else out.view(torch.uint64)
        return out.to(context.dtype(result)) if result.name in WIDE else out

    return run
