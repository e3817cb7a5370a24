"""Rows of tables: one for each index, or folded by bags."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor

__all__ = ["embedding", "embedding_bag"]


@public
def embedding(
    index: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of `weight` at integer places: shape (*index.shape, width).

    Parameters
    ----------
    index
        Integers of any shape.
    weight
        Shape (rows, width).
    padding_idx
        A row (which may count from the end) that gets no gradient.
    max_norm, norm_type
        The greatest norm of a row, and its kind: rows that are asked for and exceed it are
        scaled down, in the table itself.
    scale_grad_by_freq
        Whether the gradient of a row is divided by how often it is asked for.
    sparse
        Taken for torch's sake: gradients are dense.

    Raises
    ------
    IndexOutOfRangeError
        For an index below 0 or beyond the last row, when the result is computed.

    Examples
    --------
    >>> import accel
    >>> table = accel.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> accel.nn.functional.embedding(accel.asarray([1, 1]), table).tolist()
    [[3.0, 4.0], [3.0, 4.0]]
    """
    index = as_tensor(index)
    if max_norm is not None:
        weight = _limited("embedding", index, weight, max_norm, norm_type)
    rows = record("embedding", weight, index)
    if scale_grad_by_freq:
        often = record("embedding", _frequencies(index, as_tensor(weight).shape[0]), index)
        kept = accel.stop_gradient(rows)
        rows = kept + (rows - kept) / often.astype(rows.dtype)
    if padding_idx is None:
        return rows
    padding = index == _padding("embedding", padding_idx, weight)
    return accel.where(accel.unsqueeze(padding, -1), accel.stop_gradient(rows), rows)


def _padding(name: str, padding_idx: int, weight: Any) -> int:
    """The number of the padding row, from the start."""
    count = as_tensor(weight).shape[0]
    if isinstance(padding_idx, bool) or not -count <= padding_idx < count:
        raise ArgumentError(f"{name}: padding_idx {padding_idx} of {count} rows",
                            remedy="name one of the rows, or None")  # fmt: skip
    return padding_idx % count


def _frequencies(index: Tensor, rows: int) -> Tensor:
    """How often each row is asked for, as a column."""
    flat = index.reshape(-1)
    counts = accel.scatter_add(accel.zeros((rows,), dtype=accel.int64), 0, flat,
                               accel.ones((flat.size,), dtype=accel.int64))  # fmt: skip
    return counts.reshape(rows, 1)


def _limited(name: str, index: Tensor, weight: Any, max_norm: float, norm_type: float) -> Any:
    """The table with the rows that are asked for held to a norm; written back to a Tensor."""
    if max_norm <= 0:
        raise ArgumentError(f"{name}: max_norm is {max_norm}", remedy="give a positive number")
    with accel.no_grad():
        table = accel.stop_gradient(as_tensor(weight))
        asked = _frequencies(index, table.shape[0]) > 0
        scaled = accel.where(asked, accel.renorm(table, norm_type, 0, max_norm), table)
        if not isinstance(weight, Tensor):
            return scaled
        weight.data = scaled
    return weight


@public
def embedding_bag(
    index: Any, weight: Any, offsets: Any = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean",
    sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """Rows of `weight` folded by bags of indices; of an empty bag 0.

    Parameters
    ----------
    index
        Shape (bags, length); or a vector of all bags one after the other.
    weight
        Shape (rows, width).
    offsets
        Where each bag of a vector starts; with `include_last_offset` also the end of the last.
    mode
        "sum", "mean" or "max".
    per_sample_weights
        A factor for each index, in mode "sum"; or None.
    padding_idx
        A row that does not count in its bags.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for `embedding`.

    Returns
    -------
    Tensor
        Shape (bags, width).

    Examples
    --------
    >>> import accel
    >>> table = accel.asarray([[1.0], [2.0], [4.0]])
    >>> places, starts = accel.asarray([0, 2, 1]), accel.asarray([0, 2])
    >>> accel.nn.functional.embedding_bag(places, table, starts, mode="sum").tolist()
    [[5.0], [2.0]]
    """
    index, bag, bags = _bags(as_tensor(index), offsets, include_last_offset)
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(f"embedding_bag: mode {mode!r}", remedy="use 'sum', 'mean' or 'max'")
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(f"embedding_bag: per_sample_weights in mode {mode!r}",
                            remedy="use mode='sum'")  # fmt: skip
    rows = embedding(index, weight, None, max_norm, norm_type, scale_grad_by_freq)
    width = rows.shape[1]
    counted = accel.ones((index.size, 1), dtype=accel.bool)
    if padding_idx is not None:
        counted = (index != _padding("embedding_bag", padding_idx, weight)).reshape(-1, 1)
    if per_sample_weights is not None:
        rows = rows * as_tensor(per_sample_weights).reshape(-1, 1)
    empty = accel.zeros((bags, width), dtype=rows.dtype)
    number = accel.zeros((bags, 1), dtype=accel.int64)
    number = accel.index_add(number, 0, bag, counted.astype(accel.int64))
    if mode == "max":
        least = accel.where(counted, rows, -float("inf"))
        places = accel.broadcast_to(bag.reshape(-1, 1), rows.shape)
        most = accel.scatter_reduce(empty - float("inf"), 0, places, least, "amax")
        return accel.where(number > 0, most, 0.0)
    total = accel.index_add(empty, 0, bag, accel.where(counted, rows, 0.0))
    if mode == "sum":
        return total
    return total / accel.maximum(number, 1).astype(total.dtype)


def _bags(index: Tensor, offsets: Any, closed: bool) -> tuple[Tensor, Tensor, int]:
    """Indices one after the other, the bag of each, and the number of bags."""
    if index.ndim == 2:
        if offsets is not None:
            raise ArgumentError("embedding_bag: offsets of bags in rows", remedy="leave them out")
        bag = record("iota", shape=index.shape, axis=0, dtype=accel.int64)
        return index.reshape(-1), bag.reshape(-1), index.shape[0]
    if index.ndim != 1 or offsets is None:
        raise ShapeError(f"embedding_bag: indices of shape {list(index.shape)}",
                         remedy="give rows of indices, or a vector and offsets")  # fmt: skip
    starts = as_tensor(offsets)
    starts = starts[:-1] if closed else starts
    place = record("iota", shape=index.shape, axis=0, dtype=accel.int64)
    return index, accel.searchsorted(starts, place, right=True) - 1, starts.shape[0]
