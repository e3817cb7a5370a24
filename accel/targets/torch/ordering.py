"""Lowerings of sorting and searching.

torch sorts integers several times sooner than floats, and its selection of the greatest
elements is not stable. Keys of up to 32 bits are therefore sorted as integers, each with its
place below it; longer ones by torch's stable sort.
"""

from __future__ import annotations

from typing import Any

from ...ir.dtypes import DType
from ...ir.node import Node
from .lowering import Context, Kernel, lowers

__all__: list[str] = []

#: The extents for which a key and a place share 64 bits.
_PACKED = 1 << 32


def _keys(torch: Any, x: Any) -> Any:
    """Signed integers in the order of a tensor: both zeros equal, NaN greatest."""
    if not x.is_floating_point():
        return x.to(torch.uint8) if x.dtype is torch.bool else x
    if x.element_size() == 2:
        x = x.to(torch.float32)
    word = torch.int32 if x.element_size() == 4 else torch.int64
    most = torch.iinfo(word).max
    bits = x.contiguous().view(word)
    keys = torch.where(x == 0, 0, bits ^ ((bits >> (8 * x.element_size() - 1)) & most))
    return torch.where(x.isnan(), most, keys)


def _places(torch: Any, x: Any, axis: int, descending: bool, count: int) -> Any:
    """Where the first `count` elements lie in stable order."""
    keys, n = _keys(torch, x), x.shape[axis]
    if keys.element_size() == 8 or n >= _PACKED:
        order = torch.sort(keys, dim=axis, descending=descending, stable=True).indices
        return order.narrow(axis, 0, count)
    keys = keys.to(torch.int64)
    along = [-1 if i == axis else 1 for i in range(x.dim())]
    packed = (~keys if descending else keys) << 32
    packed = packed | torch.arange(n, device=x.device).view(along)
    if count < n:
        packed = torch.topk(packed, count, axis, largest=False, sorted=True).values
    else:
        packed = torch.sort(packed, dim=axis).values
    return packed & (_PACKED - 1)


def _is_sortable(dtype: DType) -> bool:
    return dtype.kind != "c"


@lowers("sort")
def _sort(context: Context, node: Node) -> Kernel | None:
    torch, axis, descending = context.torch, node.attrs["axis"], node.attrs["descending"]
    dtype = node.type.dtype
    if not _is_sortable(dtype):
        return None
    if dtype.kind != "f":  # equal ones cannot be told apart
        wanted = context.dtype(dtype)

        def run(x: Any) -> Any:
            values = torch.sort(_keys(torch, x), dim=axis, descending=descending).values
            return values.to(wanted) if wanted is torch.bool else values

        return run
    count = node.type.shape[axis]
    return lambda x: x.gather(axis, _places(torch, x, axis, descending, count))


@lowers("argsort")
def _argsort(context: Context, node: Node) -> Kernel | None:
    torch, axis, descending = context.torch, node.attrs["axis"], node.attrs["descending"]
    count = node.type.shape[axis]
    if not _is_sortable(node.inputs[0].type.dtype):
        return None
    return lambda x: _places(torch, x, axis, descending, count)


@lowers("topk_indices")
def _topk(context: Context, node: Node) -> Kernel | None:
    torch, k, axis = context.torch, node.attrs["k"], node.attrs["axis"]
    if not _is_sortable(node.inputs[0].type.dtype):
        return None
    return lambda x: _places(torch, x, axis, node.attrs["largest"], k)


@lowers("cumargmax", "cumargmin")
def _running_extremum(context: Context, node: Node) -> Kernel:
    function = getattr(context.torch, node.op.name.replace("arg", ""))
    torch, axis = context.torch, node.attrs["axis"]

    def run(x: Any) -> Any:
        return function(x.to(torch.uint8) if x.dtype is torch.bool else x, axis).indices

    return run


@lowers("searchsorted", "binary_search")
def _searchsorted(context: Context, node: Node) -> Kernel | None:
    torch, side = context.torch, node.attrs["side"]
    if not _is_sortable(node.inputs[0].type.dtype):
        return None

    def run(x: Any, values: Any) -> Any:
        keys, wanted = _keys(torch, x).contiguous(), _keys(torch, values).contiguous()
        return torch.searchsorted(keys, wanted, side=side)

    return run
