"""The primitive movement ops: the same elements at other places.

A `slice` is canonical: every dimension has a start, stop and step, the stop lies one past the
last element in the step's direction (-1: before the first), one element has step 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError, ShapeError
from .. import dtypes
from ..axes import one_axis, ordered_axes, some_axes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .pointwise import as_float
from .reduce import sum_to

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["as_shape", "slice_extent"]

F32, F64, I32, BOOL, BF16, C64 = (
    dtypes.float32, dtypes.float64, dtypes.int32, dtypes.bool_, dtypes.bfloat16, dtypes.complex64,
)  # fmt: skip


def as_shape(shape: Any, what: str) -> Shape:
    """`shape` as a tuple of ints; an int is a tuple of one.

    Raises
    ------
    ArgumentError
        When an extent is no integer.
    """
    listed = shape if isinstance(shape, (tuple, list)) else (shape,)
    try:
        return tuple([operator.index(n) for n in listed])
    except TypeError:
        raise ArgumentError(
            f"{what}: {shape!r} is no tuple of integers", remedy="give ints, such as (2, 3)"
        ) from None


def _samples(op_attrs: Sequence[tuple[Shape, dict[str, Any]]]) -> list[Sample]:
    """One f32 sample for each case, and the first case in every other kind of dtype."""
    found = [Sample((TensorType(F32, shape),), attrs) for shape, attrs in op_attrs]
    shape, attrs = op_attrs[0]
    return found + [Sample((TensorType(d, shape),), attrs) for d in (F64, I32, BOOL, BF16, C64)]


# -- reshape, permute, broadcast_to, flip ---------------------------------------------------
def _reshape_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    x, shape = types[0], as_shape(attrs["shape"], "reshape")
    if shape.count(-1) == 1:
        known = -math.prod(shape)
        if known and x.size % known == 0:
            shape = tuple(x.size // known if n == -1 else n for n in shape)
    return {"shape": shape}


def _reshape_type(x: TensorType, *, shape: Shape) -> TensorType:
    if any(n < 0 for n in shape) or math.prod(shape) != x.size:
        raise ShapeError(
            f"reshape: {x} has {x.size} elements, which do not fill shape {list(shape)}",
            remedy="give extents whose product is the number of elements; one may be -1",
        )
    return x.with_shape(shape)


register(Op(
    name="reshape", form="movement", category="movement", arity=(1, 1),
    attrs={"shape": REQUIRED}, prepare=_reshape_prepare, infer=_reshape_type, exact=True,
    reference=lambda x, *, shape: x.reshape(shape), cost=0,
    gradient=lambda b, g, node: (b.reshape(g, shape=node.inputs[0].type.shape),),
    samples=lambda: _samples([
        ((3, 4), {"shape": (2, 6)}), ((3, 4), {"shape": -1}), ((2, 3), {"shape": (3, -1, 1)}),
        ((), {"shape": (1, 1)}), ((0, 3), {"shape": (3, 0)}), ((1,), {"shape": ()}),
    ]),
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (4, 2)}, ShapeError, "6 elements"),
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (-1, -1)}, ShapeError),
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (4, -1)}, ShapeError),
        ErrorSample((TensorType(F32, (0, 3)),), {"shape": (0, -1)}, ShapeError),
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (2.5,)}, ArgumentError),
    ],
    doc="The elements in row-major order in another shape; one extent may be -1.",
))  # fmt: skip


def _permute_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    ndim = types[0].ndim
    if attrs["axes"] is None:
        return {"axes": tuple(reversed(range(ndim)))}
    axes = ordered_axes(attrs["axes"], ndim, "permute")
    if len(axes) != ndim:
        raise AxisError(
            f"permute: axes {axes} for {types[0]}, which has {ndim} dimensions",
            remedy="name every axis once",
        )
    return {"axes": axes}


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


register(Op(
    name="permute", form="movement", category="movement", arity=(1, 1), attrs={"axes": None},
    prepare=_permute_prepare, exact=True, cost=0,
    infer=lambda x, *, axes: x.with_shape(tuple(x.shape[a] for a in axes)),
    reference=lambda x, *, axes: x.transpose(axes),
    gradient=lambda b, g, node: (b.permute(g, axes=_inverse(node.attrs["axes"])),),
    samples=lambda: _samples([
        ((2, 3, 4), {"axes": (2, 0, 1)}), ((3, 4), {}), ((3, 4), {"axes": (-1, 0)}), ((), {}),
        ((0, 2), {"axes": (1, 0)}),
    ]),
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2, 3)),), {"axes": (0, 0)}, AxisError, "twice"),
        ErrorSample((TensorType(F32, (2, 3)),), {"axes": (0,)}, AxisError, "every axis"),
        ErrorSample((TensorType(F32, (2, 3)),), {"axes": (0, 2)}, AxisError, "axis 2"),
    ],
    doc="The axes in another order; reversed without `axes`.",
))  # fmt: skip


def _broadcast_type(x: TensorType, *, shape: Shape) -> TensorType:
    extra = len(shape) - x.ndim
    fits = extra >= 0 and all(
        n in (1, m) for n, m in zip(x.shape, shape[max(extra, 0) :], strict=False)
    )
    if not fits or any(n < 0 for n in shape):
        raise ShapeError(
            f"broadcast_to: {x} does not broadcast to {list(shape)}",
            remedy="extents must be equal or 1, aligned from the last dimension",
        )
    return x.with_shape(shape)


register(Op(
    name="broadcast_to", form="movement", category="movement", arity=(1, 1),
    attrs={"shape": REQUIRED}, infer=_broadcast_type, exact=True, cost=0,
    prepare=lambda types, attrs: {"shape": as_shape(attrs["shape"], "broadcast_to")},
    reference=lambda x, *, shape: np.broadcast_to(x, shape),
    gradient=lambda b, g, node: (sum_to(b, g, node.inputs[0].type.shape),),
    samples=lambda: _samples([
        ((3, 1), {"shape": (3, 4)}), ((), {"shape": (2, 3)}), ((4,), {"shape": (2, 1, 4)}),
        ((1,), {"shape": (0,)}), ((2, 3), {"shape": (2, 3)}),
    ]),
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (3, 3)}, ShapeError, "broadcast"),
        ErrorSample((TensorType(F32, (2, 3)),), {"shape": (3,)}, ShapeError),
        ErrorSample((TensorType(F32, (1,)),), {"shape": (-1,)}, ShapeError),
    ],
    doc="The elements repeated along axes of extent 1 and new leading axes.",
))  # fmt: skip

register(Op(
    name="barrier", form="movement", category="movement", arity=(2, 2), promote="none",
    infer=lambda x, after: x, reference=lambda x, after: x, exact=True,
    gradient=lambda b, g, node: (g, None),
    samples=lambda: [
        Sample((TensorType(d, shape), TensorType(F32, (2, 2))))
        for d, shape in ((F32, (3, 4)), (I32, ()), (BF16, (0, 2)), (C64, (5,)), (BOOL, (2, 3)))
    ],
    error_samples=lambda: [ErrorSample((TensorType(F32, (2,)),), {}, ArgumentError, "barrier")],
    doc="The first operand, once the second is there: work on it is done late, and not shared with "
    "the same work done before.",
))  # fmt: skip

register(Op(
    name="flip", form="movement", category="movement", arity=(1, 1), attrs={"axis": None},
    prepare=lambda types, attrs: {"axis": some_axes(attrs["axis"], types[0].ndim, "flip")},
    infer=lambda x, *, axis: x.with_shape(x.shape), exact=True,
    reference=lambda x, *, axis: np.flip(x, axis),
    gradient=lambda b, g, node: (b.flip(g, axis=node.attrs["axis"]),),
    samples=lambda: _samples([
        ((3, 4), {"axis": 0}), ((3, 4), {}), ((2, 3, 4), {"axis": (-1, 0)}), ((), {}),
        ((0, 2), {"axis": 0}),
    ]),
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2, 3)),), {"axis": 2}, AxisError, "axis 2"),
    ],
    doc="The elements in reverse order along axes (all by default).",
))  # fmt: skip


# -- slice, pad, slice_update, cat -----------------------------------------------------------
def slice_extent(start: int, stop: int, step: int) -> int:
    """How many places ``start, start + step, …`` lie before `stop`.

    Examples
    --------
    >>> slice_extent(0, 5, 2), slice_extent(4, -1, -2), slice_extent(3, 3, 1)
    (3, 3, 0)
    """
    return max(0, -((start - stop) // step))


def _slice_prepare(name: str) -> Any:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        x = types[0]
        starts, stops, steps = (as_shape(attrs[k], name) for k in ("start", "stop", "step"))
        if not len(starts) == len(stops) == len(steps) == x.ndim:
            raise ArgumentError(
                f"{name}: {x} needs {x.ndim} starts, stops and steps, got {len(starts)}, "
                f"{len(stops)} and {len(steps)}",
                remedy="give one for each dimension",
            )
        rows = [
            _canonical_slice(name, n, *place)
            for n, *place in zip(x.shape, starts, stops, steps, strict=True)
        ]
        start, stop, step = zip(*rows, strict=True) if rows else ((), (), ())
        return {"start": start, "stop": stop, "step": step}

    return prepare


def _canonical_slice(name: str, n: int, start: int, stop: int, step: int) -> tuple[int, int, int]:
    if step == 0:
        raise ArgumentError(f"{name}: a step is 0", remedy="use a positive or negative step")
    count = slice_extent(start, stop, step)
    if count == 0:
        return 0, 0, 1
    last = start + (count - 1) * step
    if not (0 <= start < n and 0 <= last < n):
        raise ArgumentError(
            f"{name}: places {start} to {last} of an extent of {n}",
            remedy="keep starts and stops within the extent",
        )
    if count == 1:
        step = 1
    return start, last + (1 if step > 0 else -1), step


def _slice_shape(start: Shape, stop: Shape, step: Shape) -> Shape:
    return tuple([slice_extent(*row) for row in zip(start, stop, step, strict=True)])


def _slice_type(x: TensorType, *, start: Shape, stop: Shape, step: Shape) -> TensorType:
    return x.with_shape(_slice_shape(start, stop, step))


def _python_slices(start: Shape, stop: Shape, step: Shape) -> tuple[slice, ...]:
    return tuple(
        slice(a, None if z < 0 else z, s) for a, z, s in zip(start, stop, step, strict=True)
    )


def _slice_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    shape, start, stop = node.inputs[0].type.shape, node.attrs["start"], node.attrs["stop"]
    if all(s == 1 for s in node.attrs["step"]):
        high = tuple(n - z for n, z in zip(shape, stop, strict=True))
        return (b.pad(g, low=start, high=high),)
    return (b.slice_update(b.full(0.0, shape, g.type.dtype), g, **node.attrs),)


_SLICE_ATTRS = {"start": REQUIRED, "stop": REQUIRED, "step": REQUIRED}
_SLICES: list[tuple[Shape, dict[str, Any]]] = [
    ((5, 4), {"start": (1, 0), "stop": (4, 4), "step": (1, 2)}),
    ((5, 4), {"start": (4, 3), "stop": (-1, 0), "step": (-2, -1)}),
    ((5,), {"start": (2,), "stop": (3,), "step": (7,)}),
    ((5,), {"start": (3,), "stop": (3,), "step": (1,)}),
    ((0, 2), {"start": (0, 0), "stop": (0, 1), "step": (1, 1)}),
    ((), {"start": (), "stop": (), "step": ()}),
    ((5, 3), {"start": (0, 1), "stop": (5, 3), "step": (1, 1)}),
]

register(Op(
    name="slice", form="movement", category="movement", arity=(1, 1), attrs=_SLICE_ATTRS,
    prepare=_slice_prepare("slice"), infer=_slice_type, exact=True, cost=0,
    reference=lambda x, *, start, stop, step: x[_python_slices(start, stop, step)],
    gradient=_slice_gradient, samples=lambda: _samples(_SLICES),
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (4,)),), {"start": (0,), "stop": (4,), "step": (0,)},
                    ArgumentError, "step is 0"),
        ErrorSample((TensorType(F32, (4,)),), {"start": (0,), "stop": (5,), "step": (1,)},
                    ArgumentError, "extent of 4"),
        ErrorSample((TensorType(F32, (4,)),), {"start": (), "stop": (), "step": ()},
                    ArgumentError, "each dimension"),
    ],
    doc="Every `step`-th element from `start` up to `stop`, along each dimension.",
))  # fmt: skip


def _pad_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    x, low, high = types[0], as_shape(attrs["low"], "pad"), as_shape(attrs["high"], "pad")
    if len(low) != x.ndim or len(high) != x.ndim or any(n < 0 for n in low + high):
        raise ArgumentError(
            f"pad: low {low} and high {high} for {x}",
            remedy="give a width of 0 or more for each dimension; a slice crops",
        )
    value = attrs["value"]
    if x.dtype.kind == "c" and isinstance(value, complex) and value.imag:
        return {"low": low, "high": high, "value": value}
    return {"low": low, "high": high, "value": as_float("pad", "value", value)}


def _pad_type(x: TensorType, *, low: Shape, high: Shape, value: complex) -> TensorType:
    return x.with_shape(tuple(l + n + h for l, n, h in zip(low, x.shape, high, strict=True)))


def _pad_reference(x: np.ndarray, *, low: Shape, high: Shape, value: complex) -> np.ndarray:
    shape = tuple(l + n + h for l, n, h in zip(low, x.shape, high, strict=True))
    with np.errstate(all="ignore"):
        result = np.full(shape, np.asarray(value).astype(x.dtype), x.dtype)
    result[tuple(slice(l, l + n) for l, n in zip(low, x.shape, strict=True))] = x
    return result


def _pad_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    low, shape = node.attrs["low"], node.inputs[0].type.shape
    stop = tuple(l + n for l, n in zip(low, shape, strict=True))
    return (b.slice(g, start=low, stop=stop, step=(1,) * len(shape)),)


register(Op(
    name="pad", form="movement", category="movement", arity=(1, 1),
    attrs={"low": REQUIRED, "high": REQUIRED, "value": 0.0}, prepare=_pad_prepare,
    infer=_pad_type, reference=_pad_reference, gradient=_pad_gradient, exact=True,
    samples=lambda: _samples([
        ((2, 3), {"low": (1, 0), "high": (0, 2)}),
        ((2, 3), {"low": (0, 1), "high": (0, 0), "value": -1.5}),
        ((0, 2), {"low": (2, 0), "high": (1, 0), "value": 1}),
        ((), {"low": (), "high": ()}), ((3,), {"low": (0,), "high": (0,)}),
    ]) + [Sample((TensorType(C64, (2,)),), {"low": (1,), "high": (0,), "value": 2 - 1j})],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2,)),), {"low": (-1,), "high": (0,)}, ArgumentError),
        ErrorSample((TensorType(F32, (2,)),), {"low": (1, 1), "high": (0, 0)}, ArgumentError),
        ErrorSample((TensorType(F32, (2,)),), {"low": (1,), "high": (0,), "value": 1j},
                    ArgumentError, "real number"),
    ],
    doc="The elements with `low` and `high` places of `value` around them.",
))  # fmt: skip


def _same_dtype(name: str, x: TensorType, v: TensorType) -> None:
    if x.dtype is not v.dtype:
        raise DTypeError(
            f"{name}: values of {v} for {x}", remedy=f"convert them with .astype({x.dtype!r})"
        )


def _update_type(
    x: TensorType, v: TensorType, *, start: Shape, stop: Shape, step: Shape
) -> TensorType:
    _same_dtype("slice_update", x, v)
    wanted = _slice_shape(start, stop, step)
    if v.shape != wanted:
        raise ShapeError(
            f"slice_update: values of {v} for a slice of shape {list(wanted)} of {x}",
            remedy="broadcast the values to the slice's shape",
        )
    return x.with_shape(x.shape)


def _update_reference(
    x: np.ndarray, v: np.ndarray, *, start: Shape, stop: Shape, step: Shape
) -> np.ndarray:
    result = x.copy()
    result[_python_slices(start, stop, step)] = v
    return result


def _update_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node]:
    v = node.inputs[1].type
    hole = b.slice_update(g, b.full(0.0, v.shape, v.dtype), **node.attrs)
    return hole, b.slice(g, **node.attrs)


register(Op(
    name="slice_update", form="movement", category="movement", arity=(2, 2), promote="none",
    attrs=_SLICE_ATTRS, prepare=_slice_prepare("slice_update"), infer=_update_type, exact=True,
    reference=_update_reference, gradient=_update_gradient,
    samples=lambda: [
        Sample((TensorType(d, s), TensorType(d, _slice_shape(**a))), a)
        for d, (s, a) in zip((F32, F64, I32, BOOL, BF16, C64, F32), _SLICES, strict=True)
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (4,)), TensorType(F32, (3,))),
                    {"start": (0,), "stop": (2,), "step": (1,)}, ShapeError, "slice of shape"),
        ErrorSample((TensorType(F32, (4,)), TensorType(F64, (2,))),
                    {"start": (0,), "stop": (2,), "step": (1,)}, DTypeError),
    ],
    doc="The first operand with the places of a slice taken from the second.",
))  # fmt: skip


def _cat_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    return {"axis": one_axis(attrs["axis"], types[0].ndim, "cat")}


def _cat_type(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    for t in types[1:]:
        if t.ndim != first.ndim or any(
            i != axis and n != m for i, (n, m) in enumerate(zip(first.shape, t.shape, strict=True))
        ):
            raise ShapeError(
                f"cat: {first} and {t} differ in more than axis {axis}",
                remedy="make all other extents equal",
            )
    total = sum(t.shape[axis] for t in types)
    return first.with_shape(first.shape[:axis] + (total,) + first.shape[axis + 1 :])


def _cat_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    axis, shape = node.attrs["axis"], node.type.shape
    found, at = [], 0
    for operand in node.inputs:
        end = at + operand.type.shape[axis]
        start = tuple(at if i == axis else 0 for i in range(len(shape)))
        stop = tuple(end if i == axis else n for i, n in enumerate(shape))
        found.append(b.slice(g, start=start, stop=stop, step=(1,) * len(shape)))
        at = end
    return found


register(Op(
    name="cat", form="movement", category="movement", arity=(1, None), attrs={"axis": 0},
    prepare=_cat_prepare, infer=_cat_type, gradient=_cat_gradient, exact=True,
    reference=lambda *arrays, axis: np.concatenate(arrays, axis),
    samples=lambda: [
        Sample((TensorType(F32, (2, 3)), TensorType(F32, (4, 3)))),
        Sample((TensorType(F32, (2, 3)), TensorType(I32, (2, 1)), TensorType(F64, (2, 2))),
               {"axis": -1}),
        Sample((TensorType(F32, (0,)), TensorType(F32, (3,)))),
        Sample((TensorType(BOOL, (2,)),)),
        Sample((TensorType(BF16, (2, 2)), TensorType(BF16, (2, 2))), {"axis": 1}),
        Sample((TensorType(C64, (2, 2)), TensorType(F32, (1, 2)))),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2, 3)), TensorType(F32, (2, 2))), {}, ShapeError, "axis 0"),
        ErrorSample((TensorType(F32, (2, 3)), TensorType(F32, (2,))), {}, ShapeError),
        ErrorSample((TensorType(F32, ()), TensorType(F32, ())), {}, AxisError, "0-d"),
    ],
    doc="The operands joined along one axis.",
))  # fmt: skip
