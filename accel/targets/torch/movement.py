"""Lowerings of movement, creation and indexed ops. Views stay views until a result needs memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.node import Node
from .lowering import WIDE, Context, Kernel, lowers

__all__: list[str] = []


# -- creation -------------------------------------------------------------------------------
@lowers("iota")
def _iota(context: Context, node: Node) -> Kernel:
    torch, device = context.torch, context.device
    shape, axis = node.type.shape, node.attrs["axis"]
    wanted = context.dtype(node.type.dtype)
    spread = [-1 if i == axis else 1 for i in range(len(shape))]
    if wanted is torch.bool:  # as NumPy: every place but the first is true
        return lambda: (torch.arange(shape[axis], device=device) != 0).view(spread).expand(shape)

    def run() -> Any:
        along = torch.arange(shape[axis], device=device)
        return along.to(wanted).view(spread).expand(shape)

    return run


# -- one operand ----------------------------------------------------------------------------
@lowers("barrier")
def _barrier(context: Context, node: Node) -> Kernel:
    return lambda x, after: x


@lowers("reshape", "expand_dims", "squeeze", "flatten")
def _reshape(context: Context, node: Node) -> Kernel:
    shape = node.type.shape
    return lambda x: x.reshape(shape)


@lowers("permute")
def _permute(context: Context, node: Node) -> Kernel:
    axes = node.attrs["axes"]
    return lambda x: x.permute(axes)


@lowers("swapaxes")
def _swapaxes(context: Context, node: Node) -> Kernel:
    first, second = node.attrs["axis0"], node.attrs["axis1"]
    return lambda x: x.swapaxes(first, second)


@lowers("moveaxis")
def _moveaxis(context: Context, node: Node) -> Kernel:
    source, destination = node.attrs["source"], node.attrs["destination"]
    return lambda x: x.moveaxis(source, destination)


@lowers("broadcast_to")
def _broadcast_to(context: Context, node: Node) -> Kernel:
    shape = node.type.shape
    return lambda x: x.expand(shape)


@lowers("flip")
def _flip(context: Context, node: Node) -> Kernel:
    axes = node.attrs["axis"]
    return lambda x: x.flip(axes)


@lowers("roll")
def _roll(context: Context, node: Node) -> Kernel:
    shift, axis = node.attrs["shift"], node.attrs["axis"]
    if axis is None:
        return lambda x: x.roll(shift[0])
    return lambda x: x.roll(shift, axis)


@lowers("tile")
def _tile(context: Context, node: Node) -> Kernel:
    reps = node.attrs["reps"]
    return lambda x: x.tile(reps)


@lowers("repeat_interleave")
def _repeat_interleave(context: Context, node: Node) -> Kernel:
    repeats, axis = node.attrs["repeats"], node.attrs["axis"]
    return lambda x: x.repeat_interleave(repeats, axis)


@lowers("tril", "triu")
def _triangle(context: Context, node: Node) -> Kernel:
    function, diagonal = getattr(context.torch, node.op.name), node.attrs["diagonal"]
    return lambda x: function(x, diagonal)


def _fill_value(value: float, dtype: DType) -> Any:
    """A padding value as the number that `dtype` holds; wide unsigned ones travel as signed."""
    with np.errstate(all="ignore"):
        held = np.asarray(value).astype(dtype.numpy)
    if dtype.name in WIDE:
        held = held.view(WIDE[dtype.name])
    return float(held) if dtype.kind == "f" else held.item()


@lowers("pad")
def _pad(context: Context, node: Node) -> Kernel:
    shape, low = node.type.shape, node.attrs["low"]
    fill = _fill_value(node.attrs["value"], node.type.dtype)
    inner = tuple(slice(a, a + n) for a, n in zip(low, node.inputs[0].type.shape, strict=True))

    def run(x: Any) -> Any:
        result = x.new_full(shape, fill)
        result[inner] = x
        return result

    return run


def _forward(start: Sequence[int], stop: Sequence[int], step: Sequence[int]) -> Any:
    """A slice as torch takes it: positive steps, then the axes to flip."""
    slices, flipped = [], []
    for axis, (a, z, s) in enumerate(zip(start, stop, step, strict=True)):
        if s > 0:
            slices.append(slice(a, z, s))
        else:
            count = -((a - z) // s)
            slices.append(slice(a + (count - 1) * s, a + 1, -s))
            flipped.append(axis)
    return tuple(slices), flipped


@lowers("slice")
def _slice(context: Context, node: Node) -> Kernel:
    slices, flipped = _forward(**node.attrs)
    if flipped:
        return lambda x: x[slices].flip(flipped)
    return lambda x: x[slices]


@lowers("slice_update")
def _slice_update(context: Context, node: Node) -> Kernel:
    slices, flipped = _forward(**node.attrs)

    def run(x: Any, values: Any) -> Any:
        result = x.clone()
        result[slices] = values.flip(flipped) if flipped else values
        return result

    return run


# -- several operands -------------------------------------------------------------------------
@lowers("cat", "stack")
def _join(context: Context, node: Node) -> Kernel:
    function, axis = getattr(context.torch, node.op.name), node.attrs["axis"]
    return lambda *tensors: function(tensors, axis)


# -- places that data decides -----------------------------------------------------------------
@lowers("take_unchecked")
def _take(context: Context, node: Node) -> Kernel:
    torch, shape, axis = context.torch, node.type.shape, node.attrs["axis"]

    def run(x: Any, index: Any) -> Any:
        flat = index.reshape(-1).to(torch.int64)
        return x.index_select(axis, flat).reshape(shape)

    return run


@lowers("gather_unchecked")
def _gather(context: Context, node: Node) -> Kernel:
    torch, axis = context.torch, node.attrs["axis"]
    return lambda x, index: torch.gather(x, axis, index.to(torch.int64))


@lowers("index_add_unchecked", "scatter_add_unchecked")
def _add_at(context: Context, node: Node) -> Kernel:
    torch, axis = context.torch, node.attrs["axis"]
    function = getattr(torch, node.op.name.removesuffix("_unchecked"))
    return lambda x, index, values: function(x, axis, index.to(torch.int64), values)


@lowers("scatter_reduce_unchecked")
def _scatter_reduce(context: Context, node: Node) -> Kernel:
    torch, axis, reduce = context.torch, node.attrs["axis"], node.attrs["reduce"]
    return lambda x, index, values: torch.scatter_reduce(
        x, axis, index.to(torch.int64), values, reduce
    )


@lowers("scatter_unchecked")
def _scatter(context: Context, node: Node) -> Kernel:
    torch, axis = context.torch, node.attrs["axis"]
    if context.on_cpu:  # walks along the axis in order, so the last of equal indices stays
        return lambda x, index, values: torch.scatter(x, axis, index.to(torch.int64), values)
    return lambda x, index, values: ordered_scatter(torch, x, axis, index, values)


def ordered_scatter(torch: Any, x: Any, axis: int, index: Any, values: Any) -> Any:
    """A scatter in which the last of equal indices wins, however many threads write.

    Each place takes the greatest position that writes to it, then that position's value.
    """
    if index.numel() == 0:
        return x.clone()
    index = index.to(torch.int64)
    corner = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(index.shape))
    region = x[corner]
    along = [-1 if i == axis else 1 for i in range(index.dim())]
    positions = torch.arange(index.shape[axis], device=x.device).view(along).expand(index.shape)
    nobody = torch.full(region.shape, -1, dtype=torch.int64, device=x.device)
    writer = nobody.scatter_reduce(axis, index, positions, "amax")
    found = torch.gather(values, axis, writer.clamp(min=0))
    result = x.clone()
    result[corner] = torch.where(writer >= 0, found, region)
    return result
