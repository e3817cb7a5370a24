"""Movement ops made of the primitive ones: stacking, rolling, tiling, axes by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import AccelError, ArgumentError, AxisError, ShapeError
from .. import dtypes
from ..axes import one_axis, ordered_axes, some_axes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .movement import as_shape
from .reduce import part_along

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, I32, BOOL = dtypes.float32, dtypes.int32, dtypes.bool_


def _arrangement(
    name: str,
    attrs: dict[str, Any],
    prepare: Callable[[TensorType, dict[str, Any]], dict[str, Any]],
    shape: Callable[..., Shape],
    reference: Callable[..., np.ndarray],
    expand: Callable[..., Node],
    cases: Sequence[tuple[Shape, dict[str, Any]]],
    errors: Sequence[tuple[Shape, dict[str, Any], type[AccelError]]],
    doc: str,
) -> None:
    """Register a movement of one operand that is made of others."""
    register(Op(
        name=name, form="composite", category="movement", arity=(1, 1), attrs=attrs,
        prepare=lambda types, given: prepare(types[0], given), exact=True, cost=0,
        infer=lambda x, **given: x.with_shape(shape(x.shape, **given)),
        reference=reference, expand=expand, doc=doc,
        samples=lambda: [
            *[Sample((TensorType(F32, s),), a) for s, a in cases],
            *[Sample((TensorType(d, cases[0][0]),), cases[0][1])
              for d in (I32, BOOL, dtypes.bfloat16, dtypes.complex64)],
        ],
        error_samples=lambda: [ErrorSample((TensorType(F32, s),), a, e) for s, a, e in errors],
    ))  # fmt: skip


def _axis(name: str) -> Callable[[TensorType, dict[str, Any]], dict[str, Any]]:
    return lambda x, attrs: {**attrs, "axis": one_axis(attrs["axis"], x.ndim, name)}


# -- extents of 1 ---------------------------------------------------------------------------
def _expand_dims_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    axis = attrs["axis"]
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    return {"axis": some_axes(axis, x.ndim + count, "expand_dims")}


def _expand_dims_shape(shape: Shape, axis: tuple[int, ...]) -> Shape:
    rest = iter(shape)
    return tuple([1 if i in axis else next(rest) for i in range(len(shape) + len(axis))])


def _squeeze_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["axis"] is None:
        return {"axis": tuple(i for i, n in enumerate(x.shape) if n == 1)}
    axis = some_axes(attrs["axis"], x.ndim, "squeeze")
    for i in axis:
        if x.shape[i] != 1:
            raise ShapeError(
                f"squeeze: axis {i} of {x} has extent {x.shape[i]}, not 1",
                remedy="name axes of extent 1 only",
            )
    return {"axis": axis}


def _squeeze_shape(shape: Shape, axis: tuple[int, ...]) -> Shape:
    return tuple([n for i, n in enumerate(shape) if i not in axis])


def _flatten_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    ndim = max(x.ndim, 1)
    start = one_axis(attrs["start"], ndim, "flatten")
    end = one_axis(attrs["end"], ndim, "flatten")
    if start > end:
        raise AxisError(f"flatten: start {start} lies behind end {end}", remedy="swap them")
    return {"start": start, "end": end}


def _flatten_shape(shape: Shape, start: int, end: int) -> Shape:
    return shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :]


_arrangement(
    "expand_dims", {"axis": REQUIRED}, _expand_dims_prepare, _expand_dims_shape,
    lambda x, *, axis: np.expand_dims(x, axis),
    lambda b, x, *, axis: b.reshape(x, shape=_expand_dims_shape(x.type.shape, axis)),
    [((2, 3), {"axis": 0}), ((2, 3), {"axis": -1}), ((), {"axis": 0}), ((2,), {"axis": (0, 2)}),
     ((0, 3), {"axis": 1})],
    [((2,), {"axis": 3}, AxisError), ((2,), {"axis": (0, 0)}, AxisError)],
    "The operand with axes of extent 1 at the places `axis` of the result.",
)  # fmt: skip

_arrangement(
    "squeeze", {"axis": None}, _squeeze_prepare, _squeeze_shape,
    lambda x, *, axis: x.squeeze(axis),
    lambda b, x, *, axis: b.reshape(x, shape=_squeeze_shape(x.type.shape, axis)),
    [((1, 3, 1), {"axis": 0}), ((1, 3, 1), {}), ((1, 0), {"axis": -2}), ((), {}), ((2,), {})],
    [((2, 1), {"axis": 0}, ShapeError), ((2, 1), {"axis": 2}, AxisError)],
    "The operand without axes of extent 1 (all of them by default).",
)  # fmt: skip

_arrangement(
    "flatten", {"start": 0, "end": -1}, _flatten_prepare, _flatten_shape,
    lambda x, *, start, end: x.reshape(_flatten_shape(x.shape, start, end)),
    lambda b, x, *, start, end: b.reshape(x, shape=_flatten_shape(x.type.shape, start, end)),
    [((2, 3, 4), {"start": 1}), ((2, 3), {}), ((), {}), ((0, 3), {}), ((5,), {})],
    [((2, 3), {"start": 2}, AxisError), ((2, 3), {"start": 1, "end": 0}, AxisError)],
    "The axes from `start` to `end` (both in) as one.",
)  # fmt: skip


# -- axes in another order --------------------------------------------------------------------
def _swap_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: one_axis(v, x.ndim, "swapaxes") for k, v in attrs.items()}


def _swap_order(ndim: int, axis0: int, axis1: int) -> tuple[int, ...]:
    order = list(range(ndim))
    order[axis0], order[axis1] = axis1, axis0
    return tuple(order)


def _move_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    found = {k: ordered_axes(v, x.ndim, "moveaxis") for k, v in attrs.items()}
    if len(found["source"]) != len(found["destination"]):
        raise ArgumentError(
            f"moveaxis: sources {found['source']} and destinations {found['destination']}",
            remedy="give as many of the one as of the other",
        )
    return found


def _move_order(ndim: int, source: Shape, destination: Shape) -> tuple[int, ...]:
    order = [i for i in range(ndim) if i not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return tuple(order)


_arrangement(
    "swapaxes", {"axis0": REQUIRED, "axis1": REQUIRED}, _swap_prepare,
    lambda shape, axis0, axis1: tuple(shape[i] for i in _swap_order(len(shape), axis0, axis1)),
    lambda x, *, axis0, axis1: x.swapaxes(axis0, axis1),
    lambda b, x, *, axis0, axis1: b.permute(x, axes=_swap_order(x.type.ndim, axis0, axis1)),
    [((2, 3, 4), {"axis0": 0, "axis1": -1}), ((2, 3), {"axis0": 1, "axis1": 1}),
     ((0, 3), {"axis0": 0, "axis1": 1})],
    [((2, 3), {"axis0": 0, "axis1": 2}, AxisError), ((), {"axis0": 0, "axis1": 0}, AxisError)],
    "Two axes exchanged.",
)  # fmt: skip

_arrangement(
    "moveaxis", {"source": REQUIRED, "destination": REQUIRED}, _move_prepare,
    lambda shape, source, destination: tuple(
        shape[i] for i in _move_order(len(shape), source, destination)
    ),
    lambda x, *, source, destination: np.moveaxis(x, source, destination),
    lambda b, x, *, source, destination: b.permute(
        x, axes=_move_order(x.type.ndim, source, destination)
    ),
    [((2, 3, 4), {"source": 0, "destination": -1}),
     ((2, 3, 4), {"source": (0, 1), "destination": (2, 0)}),
     ((0,), {"source": 0, "destination": 0})],
    [((2, 3), {"source": 0, "destination": 2}, AxisError),
     ((2, 3), {"source": (0, 1), "destination": 0}, ArgumentError)],
    "Axes moved to other places, the rest in order.",
)  # fmt: skip


# -- roll, tile, repeat -----------------------------------------------------------------------
def _roll_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    shift = as_shape(attrs["shift"], "roll")
    if attrs["axis"] is None:
        if len(shift) != 1:
            raise ArgumentError(f"roll: shifts {shift} without axes", remedy="name the axes")
        return {"shift": shift, "axis": None}
    listed = attrs["axis"] if isinstance(attrs["axis"], (tuple, list)) else (attrs["axis"],)
    axis = tuple([one_axis(a, x.ndim, "roll") for a in listed])  # one named twice rolls twice
    if len(shift) == 1:
        shift = shift * len(axis)
    if len(shift) != len(axis):
        raise ArgumentError(
            f"roll: shifts {shift} for axes {axis}", remedy="give one shift for each axis"
        )
    return {"shift": shift, "axis": axis}


def _roll_expand(b: Builder, x: Node, *, shift: Shape, axis: Shape | None) -> Node:
    if axis is None:
        flat = b.reshape(x, shape=(x.type.size,))
        return b.reshape(b.roll(flat, shift=shift, axis=0), shape=x.type.shape)
    for by, along in zip(shift, axis, strict=True):
        n = x.type.shape[along]
        cut = -by % n if n else 0
        if cut:
            x = b.cat(part_along(b, x, along, cut, n), part_along(b, x, along, 0, cut), axis=along)
    return x


_arrangement(
    "roll", {"shift": REQUIRED, "axis": None}, _roll_prepare, lambda shape, shift, axis: shape,
    lambda x, *, shift, axis: np.roll(x, shift if axis is not None else shift[0], axis),
    _roll_expand,
    [((3, 4), {"shift": 1, "axis": 0}), ((3, 4), {"shift": -6}), ((5,), {"shift": 12, "axis": 0}),
     ((3, 4), {"shift": (1, -2), "axis": (0, -1)}),
     ((3, 4), {"shift": (1, 2), "axis": (1, 1)}), ((0, 2), {"shift": 1, "axis": 0}),
     ((), {"shift": 3})],
    [((3,), {"shift": 1, "axis": 1}, AxisError), ((3,), {"shift": (1, 2)}, ArgumentError),
     ((3, 2), {"shift": (1, 2, 3), "axis": (0, 1)}, ArgumentError)],
    "The elements moved along axes (the flattened operand by default), around the ends.",
)  # fmt: skip


def _tile_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    reps = as_shape(attrs["reps"], "tile")
    if any(n < 0 for n in reps):
        raise ArgumentError(f"tile: {reps} copies", remedy="give counts of 0 or more")
    return {"reps": (1,) * (x.ndim - len(reps)) + reps}


def _tile_shape(shape: Shape, reps: Shape) -> Shape:
    shape = (1,) * (len(reps) - len(shape)) + shape
    return tuple([n * r for n, r in zip(shape, reps, strict=True)])


def _tile_expand(b: Builder, x: Node, *, reps: Shape) -> Node:
    shape = (1,) * (len(reps) - x.type.ndim) + x.type.shape
    apart = tuple(k for n in shape for k in (1, n))
    spread = tuple(k for n, r in zip(shape, reps, strict=True) for k in (r, n))
    x = b.broadcast_to(b.reshape(x, shape=apart), shape=spread)
    return b.reshape(x, shape=_tile_shape(shape, reps))


_arrangement(
    "tile", {"reps": REQUIRED}, _tile_prepare, _tile_shape,
    lambda x, *, reps: np.tile(x, reps), _tile_expand,
    [((2, 3), {"reps": (2, 1)}), ((3,), {"reps": 2}), ((3,), {"reps": (2, 2)}), ((), {"reps": 3}),
     ((2, 3), {"reps": 2}), ((2,), {"reps": 0})],
    [((3,), {"reps": -1}, ArgumentError), ((3,), {"reps": 1.5}, ArgumentError)],
    "Copies of the whole, `reps` along each axis, aligned from the last.",
)  # fmt: skip


def _repeat_prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    (repeats,) = as_shape(attrs["repeats"], "repeat_interleave")
    if repeats < 0:
        raise ArgumentError(f"repeat_interleave: {repeats} repeats", remedy="give 0 or more")
    return {"repeats": repeats, "axis": one_axis(attrs["axis"], x.ndim, "repeat_interleave")}


def _repeat_shape(shape: Shape, repeats: int, axis: int) -> Shape:
    return shape[:axis] + (shape[axis] * repeats,) + shape[axis + 1 :]


def _repeat_expand(b: Builder, x: Node, *, repeats: int, axis: int) -> Node:
    shape = x.type.shape
    head, tail = shape[: axis + 1], shape[axis + 1 :]
    x = b.broadcast_to(b.reshape(x, shape=(*head, 1, *tail)), shape=(*head, repeats, *tail))
    return b.reshape(x, shape=_repeat_shape(shape, repeats, axis))


_arrangement(
    "repeat_interleave", {"repeats": REQUIRED, "axis": 0}, _repeat_prepare, _repeat_shape,
    lambda x, *, repeats, axis: np.repeat(x, repeats, axis), _repeat_expand,
    [((2, 3), {"repeats": 2}), ((2, 3), {"repeats": 3, "axis": -1}), ((2,), {"repeats": 0}),
     ((0, 2), {"repeats": 2})],
    [((3,), {"repeats": -1}, ArgumentError), ((), {"repeats": 2}, AxisError)],
    "Each element `repeats` times in a row along an axis.",
)  # fmt: skip


# -- devices -----------------------------------------------------------------------------------
def _to_device_gradient(b: Builder, g: Node, node: Node) -> list[Node]:
    return [b.to_device(g, device=node.inputs[0].type.device)]


register(Op(
    name="to_device", form="composite", category="movement", arity=(1, 1), promote="none",
    attrs={"device": REQUIRED}, exact=True, cost=0, gradient=_to_device_gradient,
    infer=lambda x, *, device: TensorType(x.dtype, x.shape, device),
    reference=lambda x, *, device: x,
    # A graph runs on one device; what the type says is where results are left.
    expand=lambda b, x, *, device: b.reshape(x, shape=x.type.shape),
    samples=lambda: [Sample((TensorType(d, (2, 3)),), {"device": "cpu"})
                     for d in (F32, I32, BOOL, dtypes.bfloat16, dtypes.complex64)],
    error_samples=lambda: [ErrorSample((TensorType(F32, (2,)),), {}, ArgumentError, "device")],
    doc="The same elements on another device.",
))  # fmt: skip


# -- triangles --------------------------------------------------------------------------------
def _triangle_prepare(name: str) -> Callable[[TensorType, dict[str, Any]], dict[str, Any]]:
    def prepare(x: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
        if x.ndim < 2:
            raise ShapeError(f"{name} of {x}", remedy="give two dimensions or more")
        (diagonal,) = as_shape(attrs["diagonal"], name)
        return {"diagonal": diagonal}

    return prepare


def _triangle_expand(compare: str) -> Callable[..., Node]:
    def expand(b: Builder, x: Node, *, diagonal: int) -> Node:
        shape = x.type.shape[-2:]
        rows, columns = (b.iota(shape=shape, axis=a, dtype=dtypes.int64) for a in (0, 1))
        inside = b.apply(compare, columns, b.add(rows, diagonal))
        return b.where(inside, x, b.constant(0, x.type.dtype))

    return expand


_TRIANGLES: list[tuple[Shape, dict[str, Any]]] = [
    ((3, 4), {}), ((4, 3), {"diagonal": 1}), ((2, 3, 3), {"diagonal": -1}), ((0, 2), {}),
]  # fmt: skip

for _name, _fold, _compare, _word in (
    ("tril", np.tril, "le", "on and below"), ("triu", np.triu, "ge", "on and above"),
):  # fmt: skip
    _arrangement(
        _name, {"diagonal": 0}, _triangle_prepare(_name), lambda shape, diagonal: shape,
        lambda x, *, diagonal, _fold=_fold: _fold(x, diagonal), _triangle_expand(_compare),
        _TRIANGLES, [((3,), {}, ShapeError), ((3, 3), {"diagonal": 0.5}, ArgumentError)],
        f"The elements {_word} a diagonal of the last two axes, zeros elsewhere.",
    )  # fmt: skip


# -- stack ------------------------------------------------------------------------------------
def _stack_type(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    for t in types[1:]:
        if t.shape != first.shape:
            raise ShapeError(f"stack: {first} and {t} differ", remedy="make the shapes equal")
    return first.with_shape(first.shape[:axis] + (len(types),) + first.shape[axis:])


register(Op(
    name="stack", form="composite", category="movement", arity=(1, None), attrs={"axis": 0},
    prepare=lambda types, attrs: {"axis": one_axis(attrs["axis"], types[0].ndim + 1, "stack")},
    infer=_stack_type, reference=lambda *arrays, axis: np.stack(arrays, axis), exact=True,
    expand=lambda b, *operands, axis: b.cat(
        *[b.expand_dims(x, axis=axis) for x in operands], axis=axis
    ),
    samples=lambda: [
        Sample((TensorType(F32, (2, 3)),) * 2),
        Sample((TensorType(F32, (2, 3)),) * 3, {"axis": -1}),
        Sample((TensorType(F32, ()), TensorType(I32, ()))), Sample((TensorType(BOOL, (0,)),) * 2),
    ],
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (2,)), TensorType(F32, (3,))), {}, ShapeError, "differ"),
        ErrorSample((TensorType(F32, (2,)),), {"axis": 2}, AxisError),
    ],
    doc="The operands, of one shape, along a new axis.",
))  # fmt: skip
