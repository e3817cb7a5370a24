"""Scatters as functions: values put, added, multiplied or compared at indexed places."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from . import creation
from .gathering import integers, values_like

__all__ = ["index_reduce", "put", "scatter", "scatter_add", "scatter_reduce"]


def _prefix(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The leading part of `value` that an index of `shape` reads, as in torch."""
    if value.ndim != len(shape) or value.shape == shape:
        return value
    zeros, ones = (0,) * len(shape), (1,) * len(shape)
    if any(n > m for n, m in zip(shape, value.shape, strict=True)):
        return value  # the op's own message says what misfits
    return record("slice", value, start=zeros, stop=shape, step=ones)


@public
def scatter(
    x: Any, dim: int, index: Any, src: Any = UNSET, *, value: Any = UNSET,
    reduce: str | None = None,
) -> Tensor:  # fmt: skip
    """`x` with the elements of `src` put at the index's places along `dim`.

    Parameters
    ----------
    x
        A Tensor or an array.
    dim
        The axis.
    index
        Integers, of as many dimensions as x.
    src, value
        A number, or values of the index's shape or greater.
    reduce
        None to put, "add" to add, "multiply" to multiply.

    Examples
    --------
    >>> import accel
    >>> x = accel.zeros((3,))
    >>> accel.scatter(x, 0, accel.asarray([2]), 5.0).tolist()
    [0.0, 0.0, 5.0]
    """
    if reduce not in (None, "add", "sum", "multiply"):
        raise ArgumentError(f"scatter: reduce={reduce!r}",
                            remedy="use None, 'add' or 'multiply'")  # fmt: skip
    if (src is UNSET) == (value is UNSET):
        raise ArgumentError("scatter: src and value", remedy="give one of them")
    x, index = as_tensor(x), integers(index)
    src = values_like(x, value if src is UNSET else src, index.shape)
    src = _prefix(src, index.shape)
    if reduce == "multiply":
        return record("scatter_reduce", x, index, src, axis=dim, reduce="prod")
    return record("scatter" if reduce is None else "scatter_add", x, index, src, axis=dim)


@public
def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Tensor:
    """`x` with the elements of `src` added at the index's places along `dim`, in order."""
    return scatter(x, dim, index, src, reduce="add")


@public
def scatter_reduce(
    x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`x` folded with the elements of `src` at the index's places along `dim`.

    Parameters
    ----------
    x
        A Tensor or an array.
    dim
        The axis.
    index
        Integers, of as many dimensions as x.
    src
        Values of the index's shape or greater.
    reduce
        "sum", "prod", "mean" (of integers rounded down), "amax" or "amin".
    include_self
        Whether the element of `x` takes part where values fall on it. Where none does it stays.

    Raises
    ------
    ArgumentError
        For another `reduce`.
    IndexOutOfRangeError
        For a place outside of the extent, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> x, places = accel.asarray([1, 2, 3]), accel.asarray([0, 0, 2])
    >>> accel.scatter_reduce(x, 0, places, accel.asarray([5, 4, 1]), "amax").tolist()
    [5, 2, 3]
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ArgumentError(f"scatter_reduce: reduce={reduce!r}",
                            remedy="use 'sum', 'prod', 'mean', 'amax' or 'amin'")  # fmt: skip
    x, index = as_tensor(x), integers(index)
    src = _prefix(values_like(x, src, index.shape), index.shape)
    counts = _counts(x, index, dim) if reduce == "mean" or not include_self else None
    if counts is not None and not include_self:
        neutral = record("cast", _neutral(reduce, x.dtype), dtype=x.dtype)
        x = record("where", record("gt", counts, 0), neutral, x)
    if reduce not in ("sum", "mean"):
        return record("scatter_reduce", x, index, src, axis=dim, reduce=reduce)
    total = record("scatter_add", x, index, src, axis=dim)
    if counts is None or reduce == "sum":
        return total
    terms = record("add", counts, 1) if include_self else record("maximum", counts, 1)
    whole = x.dtype.kind in "biu"
    terms = record("cast", terms, dtype=x.dtype)
    return record("floor_divide" if whole else "div", total, terms)


def _counts(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """How many values fall on each element."""
    nothing = creation.zeros(x.shape, dtype=dtypes.int64)
    ones = creation.ones(index.shape, dtype=dtypes.int64)
    return record("scatter_add", nothing, index, ones, axis=dim)


def _neutral(reduce: str, dtype: dtypes.DType) -> Any:
    """What a fold with any number leaves as it is."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.kind == "f":
        return -float("inf") if reduce == "amax" else float("inf")
    if dtype.kind == "b":
        return reduce == "amin"
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if reduce == "amax" else limits.max)


@public
def index_reduce(
    x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`x` folded with slices of `source` at the places of a 1-d index; as `scatter_reduce`."""
    x, index, source = as_tensor(x), integers(index), as_tensor(source)
    axis = one_axis(dim, x.ndim, "index_reduce")
    if index.ndim != 1:
        raise ShapeError(f"index_reduce: an index of shape {list(index.shape)}",
                         remedy="give a vector of places")  # fmt: skip
    shape = x.shape[:axis] + index.shape + x.shape[axis + 1 :]
    along = record("reshape", index, shape=[-1 if i == axis else 1 for i in range(x.ndim)])
    wide = record("broadcast_to", along, shape=shape)
    return scatter_reduce(x, axis, wide, source, reduce, include_self=include_self)


@public
def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Tensor:
    """`x` with the elements of `source` put (or added) at places of the flattened x.

    Examples
    --------
    >>> import accel
    >>> accel.put(accel.zeros((2, 2)), accel.asarray([0, -1]), accel.asarray([1.0, 2.0])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    x, index = as_tensor(x), record("reshape", integers(index), shape=-1)
    place = record("check_index", index, size=x.size, wrap=True, what="put")
    values = record("reshape", values_like(x, source, index.shape), shape=-1)
    op = "scatter_add" if accumulate else "scatter"
    return record("reshape", record(op, record("reshape", x, shape=-1), place, values, axis=0),
                  shape=x.shape)  # fmt: skip
