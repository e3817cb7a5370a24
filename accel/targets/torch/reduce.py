"""Lowerings of reductions and scans.

torch takes an empty tuple of axes for all of them, accel for none; a result without elements
needs no call at all.
"""

from __future__ import annotations

import math
from typing import Any

from ...ir import dtypes
from ...ir.builder import Builder
from ...ir.dtypes import DType
from ...ir.node import Node
from ...ir.types import TensorType
from .lowering import Context, Kernel, find_kernel, lowers

__all__: list[str] = []


def _is_half(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.itemsize == 2


def _to(context: Context, source: DType, target: DType) -> Kernel:
    """The cast between two dtypes as a function; results of uint64 are held in int64."""
    if target.name == "uint64" and source.kind in "biu":
        target = dtypes.int64
    if source is target:
        return lambda x: x
    b = Builder()
    cast = b.cast(b.input("x", TensorType(source)), target)
    kernel = find_kernel(context, cast)
    assert kernel is not None, f"{source} to {target}"
    return kernel


def _empty(context: Context, node: Node) -> Kernel:
    torch, shape, dtype = context.torch, node.type.shape, context.dtype(node.type.dtype)
    device = context.device
    return lambda *_: torch.empty(shape, dtype=dtype, device=device)


def _as_result(context: Context, node: Node, kernel: Kernel) -> Kernel:
    """int64 sums of unsigned numbers are uint64 by their bits."""
    if node.type.dtype.name != "uint64":
        return kernel
    torch = context.torch
    return lambda x: kernel(x).view(torch.uint64)


# -- sum, prod, mean ------------------------------------------------------------------------
@lowers("sum")
def _sum(context: Context, node: Node) -> Kernel | None:
    torch, target = context.torch, node.attrs["dtype"]
    axis, keepdims = node.attrs["axis"], node.attrs["keepdims"]
    if not _convertible(node, target):
        return None
    convert = _to(context, node.inputs[0].type.dtype, target)
    dtype = torch.int64 if target.name == "uint64" else context.dtype(target)
    if not axis:
        return _as_result(context, node, convert)

    def run(x: Any) -> Any:
        return torch.sum(convert(x), axis, keepdims, dtype=dtype)

    return _as_result(context, node, run)


def _convertible(node: Node, target: DType) -> bool:
    source = node.inputs[0].type.dtype
    if target.name == "uint64":
        return source.kind in "biu"
    return target.name not in ("uint16", "uint32")


@lowers("prod")
def _prod(context: Context, node: Node) -> Kernel | None:
    torch, target = context.torch, node.attrs["dtype"]
    axis, keepdims = node.attrs["axis"], node.attrs["keepdims"]
    if not _convertible(node, target):
        return None
    convert = _to(context, node.inputs[0].type.dtype, target)
    narrow = context.dtype(target) if _is_half(target) else None
    dtype = torch.int64 if target.name == "uint64" else context.dtype(target)
    wide = dtype if narrow is None else torch.float32

    def run(x: Any) -> Any:
        x = convert(x)
        for a in reversed(axis):  # torch multiplies along one axis at a time
            x = torch.prod(x, a, keepdims, dtype=wide)
        return x if narrow is None else x.to(narrow)

    return _as_result(context, node, run)


@lowers("mean")
def _mean(context: Context, node: Node) -> Kernel:
    torch, axis, keepdims = context.torch, node.attrs["axis"], node.attrs["keepdims"]
    if not axis:
        return lambda x: x
    if not _is_half(node.type.dtype):
        return lambda x: torch.mean(x, axis, keepdims)
    narrow = context.dtype(node.type.dtype)  # a half sum would overflow before the division
    return lambda x: torch.mean(x, axis, keepdims, dtype=torch.float32).to(narrow)


# -- extrema and truth ------------------------------------------------------------------------
@lowers("amax", "amin")
def _extremum(context: Context, node: Node) -> Kernel:
    function = getattr(context.torch, node.op.name)
    axis, keepdims = node.attrs["axis"], node.attrs["keepdims"]
    if node.type.size == 0:
        return _empty(context, node)
    return (lambda x: function(x, axis, keepdims)) if axis else (lambda x: x)


@lowers("any", "all")
def _truth(context: Context, node: Node) -> Kernel:
    function = getattr(context.torch, node.op.name)
    axis, keepdims = node.attrs["axis"], node.attrs["keepdims"]

    def run(x: Any) -> Any:
        found = x != 0
        for a in reversed(axis):
            found = function(found, a, keepdims)
        return found

    return run


@lowers("argmax", "argmin")
def _extreme_place(context: Context, node: Node) -> Kernel:
    torch, function = context.torch, getattr(context.torch, node.op.name)
    (axis,), keepdims = node.attrs["axis"], node.attrs["keepdims"]
    if node.type.size == 0:
        return _empty(context, node)
    if node.inputs[0].type.dtype.kind == "b":
        return lambda x: function(x.to(torch.uint8), axis, keepdims)
    return lambda x: function(x, axis, keepdims)


@lowers("count_nonzero")
def _count_nonzero(context: Context, node: Node) -> Kernel | None:
    torch, axis, shape = context.torch, node.attrs["axis"], node.type.shape
    if not axis:
        return None
    return lambda x: torch.count_nonzero(x, axis).reshape(shape)


# -- moments ----------------------------------------------------------------------------------
@lowers("var", "std")
def _moment(context: Context, node: Node) -> Kernel | None:
    """None where torch would warn: over no elements, or too few for the correction."""
    attrs, x = node.attrs, node.inputs[0].type
    count = math.prod(x.shape[a] for a in attrs["axis"])
    if not attrs["axis"] or count <= attrs["correction"] or _is_half(x.dtype):
        return None
    if node.type.size == 0:
        return _empty(context, node)
    function = getattr(context.torch, node.op.name)
    axis, keepdims, correction = attrs["axis"], attrs["keepdims"], attrs["correction"]
    return lambda x: function(x, axis, correction=correction, keepdim=keepdims)


@lowers("logsumexp")
def _logsumexp(context: Context, node: Node) -> Kernel | None:
    torch, axis, keepdims = context.torch, node.attrs["axis"], node.attrs["keepdims"]
    if not axis or _is_half(node.type.dtype) or node.inputs[0].type.size == 0:
        return None
    return lambda x: torch.logsumexp(x, axis, keepdims)


# -- scans ------------------------------------------------------------------------------------
@lowers("cumsum", "cumprod")
def _scan(context: Context, node: Node) -> Kernel | None:
    function = getattr(context.torch, node.op.name)
    axis, target = node.attrs["axis"], node.attrs["dtype"]
    if not _convertible(node, target):
        return None
    convert = _to(context, node.inputs[0].type.dtype, target)
    narrow = context.dtype(target) if _is_half(target) else None
    float32 = context.torch.float32
    dtype = context.torch.int64 if target.name == "uint64" else context.dtype(target)

    def run(x: Any) -> Any:
        if narrow is None:
            return function(convert(x), axis, dtype=dtype)
        return function(convert(x).to(float32), axis).to(narrow)

    return _as_result(context, node, run)
