"""NumPy's functions of elements, places and shapes in terms of accel's, with NumPy's arguments.

`HANDLERS` maps a NumPy function to what answers for it on Tensors. The first table holds those
whose arguments need no translation; the rest are small adapters: a keyword that a handler
lacks is an option that accel does not have, and NumPy's signature decides what may be given.
`reductions`, `ordering` and `numerics` add theirs, each to what the one before it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...ir import dtypes
from ..functions import (
    arranging,
    complex_numbers,
    composed,
    creation,
    diagonals,
    dtype_functions,
    elementwise,
    fft,
    gathering,
    joining,
    linear_algebra,
    ranges,
    reductions,
    shapes,
)
from ..tensors.arguments import unused
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from . import linalg as numpy_linalg

__all__ = ["HANDLERS", "Handler", "flag", "handles", "option"]

Handler = Callable[..., Any]

HANDLERS: dict[Any, Handler] = {
    np.shape: lambda a: as_tensor(a).shape, np.ndim: lambda a: as_tensor(a).ndim,
    np.reshape: shapes.reshape, np.ravel: lambda a, order="C": shapes.reshape(a, -1, order=order),
    np.swapaxes: shapes.swapaxes, np.moveaxis: shapes.moveaxis, np.squeeze: lambda a, axis=None:
    shapes.squeeze(a, axis=axis), np.expand_dims: shapes.expand_dims,
    np.broadcast_arrays: lambda *args, subok=False: shapes.broadcast_tensors(*_listed(args)),
    np.fliplr: arranging.fliplr,
    np.flipud: arranging.flipud, np.atleast_1d: lambda *a: _each(joining.atleast_1d, a),
    np.atleast_2d: lambda *a: _each(joining.atleast_2d, a),
    np.atleast_3d: lambda *a: _each(joining.atleast_3d, a), np.dstack: joining.dstack,
    np.column_stack: joining.column_stack, np.real: elementwise.real, np.imag: elementwise.imag,
    np.tensordot: linear_algebra.tensordot, np.inner: linear_algebra.inner,
    np.vdot: linear_algebra.vdot, np.kron: linear_algebra.kron,
    np.outer: lambda a, b: linear_algebra.outer(shapes.ravel(a), shapes.ravel(b)),
    np.isclose: elementwise.isclose, np.allclose: composed.allclose,
    np.argwhere: gathering.argwhere, np.nonzero: gathering.nonzero,
    np.flatnonzero: gathering.flatnonzero,
    np.take_along_axis: gathering.take_along_axis, np.sinc: composed.sinc,
    np.fix: lambda x: elementwise.trunc(x),
    np.angle: lambda z, deg=False: complex_numbers.angle(z, deg),
    np.isreal: complex_numbers.isreal, np.iscomplex: complex_numbers.iscomplex,
    np.result_type: dtype_functions.result_type,
    np.iscomplexobj: dtype_functions.is_complex,
    np.isrealobj: lambda x: not dtype_functions.is_complex(x),
    np.tril: diagonals.tril, np.triu: diagonals.triu,
    np.diff: lambda a, n=1, axis=-1: reductions.diff(a, n, axis=axis),
    **numpy_linalg.HANDLERS,
    **{getattr(np.fft, name): getattr(fft, name) for name in fft.OF_TENSORS},
}  # fmt: skip


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Enter a handler under NumPy names; those that this NumPy lacks are left out."""

    def enter(handler: Handler) -> Handler:
        for name in names:
            found: Any = np
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is not None:
                HANDLERS[found] = handler
        return handler

    return enter


def flag(keepdims: Any) -> bool:
    """NumPy's keepdims, which may be left out."""
    return bool(keepdims) if not isinstance(keepdims, type(np._NoValue)) else False


def option(given: Any) -> Any:
    """An option that may be left out, as None then."""
    return None if isinstance(given, type(np._NoValue)) else given


def _each(function: Callable[[Any], Tensor], arrays: Sequence[Any]) -> Any:
    found = [function(a) for a in arrays]
    return found[0] if len(found) == 1 else found


def _listed(arrays: Any) -> list[Any]:
    """Operands of a join; a Tensor stands for its rows."""
    if isinstance(arrays, Tensor):
        return list(joining.unbind(arrays))
    return [np.asarray(a) if isinstance(a, (list, tuple)) else a for a in arrays]


# -- element-wise --------------------------------------------------------------------------
@handles("where")
def _where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if isinstance(condition, (list, tuple)):
        condition = np.asarray(condition)
    if as_tensor(condition).dtype is not dtypes.bool_:
        condition = elementwise.ne(condition, 0)
    return elementwise.where(condition, x, y)


@handles("clip")
def _clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None,
    max: Any = None,
) -> Tensor:  # fmt: skip
    unused("clip", out=out)
    low, high = option(a_min), option(a_max)
    return elementwise.clip(a, option(min) if low is None else low,
                          option(max) if high is None else high)  # fmt: skip


@handles("round", "around", "round_")
def _round(a: Any, decimals: int = 0, out: Any = None) -> Tensor:
    unused("round", out=out)
    return elementwise.round(a, decimals)


@handles("nan_to_num")
def _nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Tensor:  # fmt: skip
    return composed.nan_to_num(x, nan, posinf, neginf)


@handles("array_equal")
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    x, y = as_tensor(a1), as_tensor(a2)
    if x.shape != y.shape:
        return False
    same = elementwise.eq(x, y)
    if equal_nan:
        same = elementwise.logical_or(
            same, elementwise.logical_and(elementwise.isnan(x), elementwise.isnan(y))
        )
    return bool(reductions.all(same))


@handles("isposinf")
def _isposinf(x: Any, out: Any = None) -> Tensor:
    unused("isposinf", out=out)
    return elementwise.eq(x, float("inf"))


@handles("isneginf")
def _isneginf(x: Any, out: Any = None) -> Tensor:
    unused("isneginf", out=out)
    return elementwise.eq(x, -float("inf"))


@handles("select")
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Tensor:
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = elementwise.where(condition, choice, result)
    return as_tensor(result)


# -- places --------------------------------------------------------------------------------
@handles("transpose", "permute_dims")
def _transpose(a: Any, axes: Any = None) -> Tensor:
    return shapes.permute(a, axes=axes)


@handles("matrix_transpose", "linalg.matrix_transpose")
def _matrix_transpose(x: Any, /) -> Tensor:
    return shapes.matrix_transpose(x)


@handles("broadcast_to")
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tensor:
    return shapes.broadcast_to(array, shape)


@handles("copy")
def _copy(a: Any, order: str = "K", subok: bool = False) -> Tensor:
    return shapes.clone(a)


@handles("concatenate", "concat")
def _concatenate(
    arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Tensor:  # fmt: skip
    unused("concatenate", out=out)
    result = joining.cat(_listed(arrays), axis=axis)
    return result if dtype is None else dtype_functions.astype(result, dtype)


@handles("stack")
def _stack(
    arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Tensor:  # fmt: skip
    unused("stack", out=out)
    result = joining.stack(_listed(arrays), axis=axis)
    return result if dtype is None else dtype_functions.astype(result, dtype)


@handles("vstack", "row_stack")
def _vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Tensor:
    return joining.vstack(_listed(tup))


@handles("hstack")
def _hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Tensor:
    return joining.hstack(_listed(tup))


@handles("unstack")
def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    return joining.unbind(x, axis=axis)


@handles("split")
def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    x = as_tensor(ary)
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        raise ArgumentError(
            f"split: {indices_or_sections} equal parts of an extent of {x.shape[axis]}",
            remedy="use numpy.array_split",
        )
    return _array_split(ary, indices_or_sections, axis)


@handles("array_split")
def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    x = as_tensor(ary)
    size = x.shape[axis]
    if isinstance(indices_or_sections, int):
        each, extra = divmod(size, indices_or_sections)
        sizes = [each + (i < extra) for i in range(indices_or_sections)]
    else:
        cuts = [0, *(min(max(int(i), 0), size) for i in indices_or_sections), size]
        sizes = [max(b - a, 0) for a, b in itertools.pairwise(cuts)]
    return list(joining.split(x, sizes, axis))


for _name in ("hsplit", "vsplit", "dsplit"):
    handles(_name)(getattr(joining, _name))


@handles("append")
def _append(arr: Any, values: Any, axis: Any = None) -> Tensor:
    return _concatenate([arr, values], axis)


@handles("flip")
def _flip(m: Any, axis: Any = None) -> Tensor:
    return arranging.flip(m, axis=axis)


@handles("rot90")
def _rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    return arranging.rot90(m, k, axes)


@handles("roll")
def _roll(a: Any, shift: Any, axis: Any = None) -> Tensor:
    return arranging.roll(a, shift=shift, axis=axis)


@handles("tile")
def _tile(A: Any, reps: Any) -> Tensor:
    return arranging.tile(A, reps)


@handles("repeat")
def _repeat(a: Any, repeats: Any, axis: Any = None) -> Tensor:
    return arranging.repeat_interleave(a, repeats, axis=axis)


@handles("pad")
def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    x = as_tensor(array)
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if any(n < 0 for pair in widths for n in pair):
        raise ArgumentError(f"pad: widths {pad_width!r}", remedy="give widths of 0 or more")
    if np.ndim(constant_values) == 0:
        return arranging.pad(x, [tuple(w) for w in widths], mode, constant_values)
    for axis, values in enumerate(np.broadcast_to(constant_values, (x.ndim, 2)).tolist()):
        for side, value in enumerate(values):  # the later ones fill the corners, as in NumPy
            one = [(0, 0)] * x.ndim
            one[axis] = (0, widths[axis][1]) if side else (widths[axis][0], 0)
            x = arranging.pad(x, one, mode, value)
    return x


@handles("diagonal")
def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return joining.diagonal(a, offset, axis1, axis2)


@handles("trace")
def _trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Tensor:  # fmt: skip
    unused("trace", out=out)
    return linear_algebra.trace(a, offset, axis1=axis1, axis2=axis2, dtype=dtype)


@handles("diag")
def _diag(v: Any, k: int = 0) -> Tensor:
    x = as_tensor(v)
    if x.ndim == 2:
        return joining.diagonal(x, k)
    n = x.size + abs(k)
    chosen = record("eye", n=n, k=k, dtype=dtypes.bool_)
    low, high = (max(-k, 0), max(k, 0))
    rows = record("pad", x, low=(low,), high=(high,))
    return elementwise.where(chosen, shapes.reshape(rows, (n, 1)), as_tensor(0).astype(x.dtype))


@handles("diagflat")
def _diagflat(v: Any, k: int = 0) -> Tensor:
    return diagonals.diagflat(v, k)


@handles("take")
def _take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Tensor:
    unused("take", out=out)
    if mode != "raise":
        raise ArgumentError(f"take: mode {mode!r}", remedy="use mode='raise'")
    return gathering.take(a, indices, axis=axis)


@handles("dot")
def _dot(a: Any, b: Any, out: Any = None) -> Tensor:
    unused("dot", out=out)
    return linear_algebra.dot(a, b)


@handles("cross")
def _cross(a: Any, b: Any, axis: int = -1) -> Tensor:
    return linear_algebra.cross(a, b, axis=axis)


@handles("meshgrid")
def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    if sparse:
        raise ArgumentError("meshgrid: sparse=True", remedy="reshape the operands to broadcast")
    return ranges.meshgrid(*xi, indexing=indexing)


@handles("size")
def _size(a: Any, axis: Any = None) -> int:
    x = as_tensor(a)
    return x.size if axis is None else x.shape[axis]


# -- creation ------------------------------------------------------------------------------
def _like(function: Handler) -> Handler:
    def handler(
        a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
        device: Any = None,
    ) -> Tensor:  # fmt: skip
        x = as_tensor(a)
        if shape is None:
            return function(x, dtype)
        unit = 1 if function is creation.ones_like else 0
        return creation.full(shape, unit, dtype=dtype or x.dtype)

    return handler


for _name, _function in (
    ("zeros_like", creation.zeros_like), ("ones_like", creation.ones_like),
    ("empty_like", creation.empty_like),
):  # fmt: skip
    handles(_name)(_like(_function))


@handles("full_like")
def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True,
    shape: Any = None, *, device: Any = None,
) -> Tensor:  # fmt: skip
    x = as_tensor(a)
    return creation.full(x.shape if shape is None else shape, fill_value, dtype=dtype or x.dtype)
