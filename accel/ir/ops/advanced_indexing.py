"""Indexing by several integer arrays at once, as NumPy's advanced indexing, and one_hot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes, contiguous_strides
from .indexing import check_integers, check_values, checked, checked_node

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, F64, I32, I64, BF16 = (
    dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.bfloat16,
)  # fmt: skip


# -- index_get, index_put: arrays of places for the leading dimensions ------------------------
def _leading(name: str, x: TensorType, indices: Sequence[TensorType]) -> Shape:
    """The common shape of `indices` and the rest of `x`."""
    for index in indices:
        check_integers(name, index)
    if len(indices) > x.ndim:
        raise ShapeError(f"{name}: {len(indices)} indices for {x}",
                         remedy="give at most one for each dimension")  # fmt: skip
    return broadcast_shapes([i.shape for i in indices], name) + x.shape[len(indices) :]


def _index_put_type(
    x: TensorType, v: TensorType, *indices: TensorType, accumulate: bool
) -> TensorType:
    check_values("index_put", x, v, _leading("index_put", x, indices))
    if accumulate and x.dtype is dtypes.bool_:
        raise DTypeError(f"index_put: sums of {x}", remedy="convert it with .astype(int)")
    return x.with_shape(x.shape)


def _all_checked(name: str, shape: Shape, indices: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    pairs = zip(indices, shape, strict=False)
    return tuple(checked(index, n, f"{name}, axis {i}") for i, (index, n) in enumerate(pairs))


def _index_put_reference(
    x: np.ndarray, v: np.ndarray, *indices: np.ndarray, accumulate: bool
) -> np.ndarray:
    places = _all_checked("index_put", x.shape, indices)
    result = x.copy()
    with np.errstate(all="ignore"):
        if accumulate:
            np.add.at(result, places, v)
        else:  # NumPy assigns in the order of memory, the op in row-major order
            result[places] = np.array(v, order="C")
    return result


def _flat_places(b: Builder, name: str, shape: Shape, indices: Sequence[Node]) -> Node:
    """The 1-d row number of each index tuple, in an operand whose leading axes are one."""
    head = shape[: len(indices)]
    common = broadcast_shapes([i.type.shape for i in indices], name)
    total: Node | None = None
    rows = zip(indices, head, contiguous_strides(head), strict=True)
    for i, (index, size, stride) in enumerate(rows):
        part = b.mul(checked_node(b, index, size, f"{name}, axis {i}"), stride)
        total = part if total is None else b.add(total, part)
    assert total is not None
    return b.reshape(b.broadcast_to(total, shape=common), shape=(math.prod(common),))


def _index_get_expand(b: Builder, x: Node, *indices: Node) -> Node:
    shape = x.type.shape
    places = _flat_places(b, "index_get", shape, indices)
    rows = (math.prod(shape[: len(indices)]), *shape[len(indices) :])
    found = b.take_unchecked(b.reshape(x, shape=rows), places, axis=0)
    return b.reshape(found, shape=_leading("index_get", x.type, [i.type for i in indices]))


def _index_put_expand(b: Builder, x: Node, v: Node, *indices: Node, accumulate: bool) -> Node:
    shape, tail = x.type.shape, x.type.shape[len(indices) :]
    places = _flat_places(b, "index_put", shape, indices)
    count, width = places.type.shape[0], math.prod(tail)
    rows = b.reshape(x, shape=(math.prod(shape[: len(indices)]), width))
    values = b.reshape(v, shape=(count, width))
    if accumulate:
        result = b.index_add_unchecked(rows, places, values, axis=0)
    else:
        wide = b.broadcast_to(b.reshape(places, shape=(count, 1)), shape=(count, width))
        result = b.scatter_unchecked(rows, wide, values, axis=0)
    return b.reshape(result, shape=shape)


_PAIR = (np.array([[0], [2]]), np.array([1, -1, 3]))

register(Op(
    name="index_get", form="composite", category="movement", arity=(2, None), promote="none",
    infer=lambda x, *indices: x.with_shape(_leading("index_get", x, indices)), exact=True,
    reference=lambda x, *indices: x[_all_checked("index_get", x.shape, indices)], cost=2.0,
    expand=_index_get_expand,
    samples=lambda: [
        Sample((TensorType(F32, (3, 4)), *_PAIR)), Sample((TensorType(F32, (3, 4, 2)), *_PAIR)),
        Sample((TensorType(I32, (3,)), np.array(1))),
        Sample((TensorType(BF16, (3, 2)), np.array([2, 2]))),
        Sample((TensorType(F64, (3,)), np.zeros(0, np.int64))),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (3,)), *_PAIR), {}, ShapeError, "2 indices"),
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (3,))), {}, DTypeError),
        ErrorSample((TensorType(F32, (3,)), np.array([5])), {}, IndexOutOfRangeError, "index 5"),
        ErrorSample((TensorType(F32, (3, 3)), TensorType(I64, (3,)), TensorType(I64, (2,))), {},
                    ShapeError),
    ],
    doc="The elements at integer places given for the leading dimensions, which broadcast.",
))  # fmt: skip

register(Op(
    name="index_put", form="composite", category="movement", arity=(3, None), promote="none",
    attrs={"accumulate": False}, infer=_index_put_type, reference=_index_put_reference,
    prepare=lambda types, attrs: {"accumulate": bool(attrs["accumulate"])}, cost=2.0,
    expand=_index_put_expand,
    samples=lambda: [
        Sample((TensorType(F32, (3, 4)), TensorType(F32, (2, 3)), *_PAIR)),
        Sample((TensorType(F32, (3, 4, 2)), TensorType(F32, (2, 3, 2)), *_PAIR),
               {"accumulate": True}),
        Sample((TensorType(I32, (3,)), TensorType(I32, (2,)), np.array([1, 1])),
               {"accumulate": True}),
        Sample((TensorType(BF16, (3, 2)), TensorType(BF16, (2, 2)), np.array([2, 0]))),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (3,)), TensorType(I64, (2,))), {},
                    ShapeError, "values"),
        ErrorSample((TensorType(F32, (3,)), TensorType(F64, (2,)), TensorType(I64, (2,))), {},
                    DTypeError, "values"),
        ErrorSample((TensorType(F32, (3,)), TensorType(F32, (1,)), np.array([-4])), {},
                    IndexOutOfRangeError, "index -4"),
    ],
    doc="The first operand with values put (or added) at integer places given for the leading "
    "dimensions; of equal places the last stays.",
))  # fmt: skip


# -- one_hot ------------------------------------------------------------------------------
def _one_hot_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    check_integers("one_hot", types[0])
    count = attrs["num_classes"]
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ArgumentError(f"one_hot: {count!r} classes", remedy="give a positive integer")
    return {"num_classes": int(count)}


def _one_hot_reference(index: np.ndarray, *, num_classes: int) -> np.ndarray:
    places = checked(index, num_classes, "one_hot", wrap=False)
    return (places[..., None] == np.arange(num_classes)).astype(np.int64)


def _one_hot_expand(b: Builder, index: Node, *, num_classes: int) -> Node:
    shape = index.type.shape
    places = checked_node(b, index, num_classes, "one_hot", wrap=False)
    classes = b.iota(shape=(num_classes,), axis=0, dtype=I64)
    return b.cast(b.eq(b.reshape(places, shape=(*shape, 1)), classes), I64)


register(Op(
    name="one_hot", form="composite", category="elementwise", arity=(1, 1), promote="none",
    attrs={"num_classes": REQUIRED}, prepare=_one_hot_prepare, reference=_one_hot_reference,
    infer=lambda i, *, num_classes: TensorType(I64, (*i.shape, num_classes), i.device),
    expand=_one_hot_expand, exact=True,
    samples=lambda: [
        Sample((np.array([1, 0, 3]),), {"num_classes": 4}),
        Sample((np.array(2),), {"num_classes": 3}),
        Sample((np.zeros((0, 2), np.int32),), {"num_classes": 2}),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2,)),), {"num_classes": 3}, DTypeError),
        ErrorSample((TensorType(I64, (2,)),), {"num_classes": 0}, ArgumentError),
        ErrorSample((np.array([3]),), {"num_classes": 3}, IndexOutOfRangeError, "index 3"),
    ],
    doc="1 at the place that each integer names in a new last axis, 0 elsewhere.",
))  # fmt: skip
