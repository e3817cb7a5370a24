"""Functions that repeat elements, turn them around and put others beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...ir.axes import one_axis
from ...runtime import state as runtime_state
from ..tensors.arguments import UNSET, axis_of, extents, public
from ..tensors.recipes import place_varies
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .joining import cut, cut_axis
from .shapes import ravel

__all__ = [
    "flip", "fliplr", "flipud", "pad", "repeat", "repeat_interleave", "roll", "rot90", "tile",
]  # fmt: skip

#: Elements up to which reading them by places costs less than another program to copy them.
_ROLLED = 1 << 17


# -- repeating -----------------------------------------------------------------------------
@public
def tile(x: Any, repetitions: Any, /, *more: int) -> Tensor:
    """Copies of the whole along each axis, aligned from the last.

    Examples
    --------
    >>> import accel
    >>> accel.tile(accel.asarray([1, 2]), (2,)).tolist()
    [1, 2, 1, 2]
    """
    return record("tile", x, reps=extents("tile", (repetitions, *more)))


@public
def repeat_interleave(x: Any, repeats: Any, /, dim: Any = UNSET, *, axis: Any = UNSET) -> Tensor:
    """Each element `repeats` times in a row, along an axis or of the flattened operand.

    Parameters
    ----------
    x
        A Tensor or an array.
    repeats
        A count for all, or an array of one for each place along the axis, which is read: the
        extent of the result depends on it.
    dim, axis
        Along which axis; by default the operand is flattened.

    Raises
    ------
    ShapeError
        For another number of counts than the axis has places.
    ArgumentError
        For negative counts.
    DTypeError
        For counts that are no integers.

    Examples
    --------
    >>> import accel
    >>> accel.repeat_interleave(accel.asarray([1, 2]), 2).tolist()
    [1, 1, 2, 2]
    """
    along = axis_of("repeat_interleave", dim, axis)
    x, along = (ravel(x), 0) if along is None else (as_tensor(x), along)
    if isinstance(repeats, (Tensor, np.ndarray, list, tuple)):
        counts = _counts(repeats, x.shape[one_axis(along, x.ndim, "repeat_interleave")])
        if counts.size != 1:
            places = np.repeat(np.arange(counts.size), counts)
            return record("take", x, places, axis=along)
        repeats = counts.item()
    return record("repeat_interleave", x, repeats=repeats, axis=along)


def _counts(repeats: Any, extent: int) -> np.ndarray:
    """How often each place of an axis stands in the result; one number may count for all."""
    counts = np.ravel(np.asarray(repeats))
    if counts.dtype.kind not in "iu" and counts.size:
        raise DTypeError(f"repeat_interleave: counts of {counts.dtype}",
                         remedy="give integers")  # fmt: skip
    if counts.size not in (1, extent):
        raise ShapeError(f"repeat_interleave: {counts.size} counts for {extent} places",
                         remedy="give one count, or one for each place")  # fmt: skip
    if counts.size and counts.min() < 0:
        raise ArgumentError(f"repeat_interleave: {counts.min()} repeats",
                            remedy="give 0 or more")  # fmt: skip
    return counts.astype(np.int64)


@public
def repeat(x: Any, /, repeats: Any, *more: Any, axis: Any = None) -> Tensor:
    """The standard's `repeat`: each element `repeats` times in a row.

    The method `Tensor.repeat` is torch's, which copies the whole: see `tile`.

    Examples
    --------
    >>> import accel
    >>> accel.repeat(accel.asarray([1, 2]), 2).tolist()
    [1, 1, 2, 2]
    """
    if more:
        raise ArgumentError("repeat: several counts", remedy="use tile to copy the whole")
    return repeat_interleave(x, repeats, axis=axis)


# -- turning -------------------------------------------------------------------------------
@public
def flip(x: Any, /, dims: Any = UNSET, *more: int, axis: Any = UNSET) -> Tensor:
    """The elements in reverse order along axes, all of them by default.

    Examples
    --------
    >>> import accel
    >>> accel.flip(accel.asarray([1, 2, 3]), axis=0).tolist()
    [3, 2, 1]
    """
    return record("flip", x, axis=axis_of("flip", (dims, *more) if more else dims, axis))


@public
def fliplr(x: Any, /) -> Tensor:
    """The second axis reversed."""
    return record("flip", x, axis=1)


@public
def flipud(x: Any, /) -> Tensor:
    """The first axis reversed."""
    return record("flip", x, axis=0)


@public
def rot90(x: Any, /, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A plane turned by `k` quarters, from the first axis of `dims` to the second."""
    first, second = dims
    for _ in range(k % 4):
        x = record("swapaxes", record("flip", x, axis=second), axis0=first, axis1=second)
    return as_tensor(x)


@public
def roll(x: Any, /, shift: Any = UNSET, dims: Any = UNSET, *, axis: Any = UNSET,
         shifts: Any = UNSET) -> Tensor:  # fmt: skip
    """The elements moved along axes (of the flattened operand by default), around the ends.

    Examples
    --------
    >>> import accel
    >>> accel.roll(accel.asarray([1, 2, 3]), 1).tolist()
    [3, 1, 2]
    """
    shift, axis = axis_of("roll", shifts, shift), axis_of("roll", dims, axis)
    moved = _rolled(as_tensor(x), shift, axis)
    return record("roll", x, shift=shift, axis=axis) if moved is None else moved


def _rolled(x: Tensor, shift: Any, axis: Any) -> Tensor | None:
    """`roll` by places that are computed from the shift, a number that becomes an argument, where
    a program would be made for each shift. None where it stays, or copying is worth a program."""
    traced = runtime_state.current().tracer is not None
    if traced or x.requires_grad or not 0 < x.size <= _ROLLED or type(shift) is not int:
        return None
    if axis is None:
        moved = _rolled(ravel(x), shift, 0)
        return None if moved is None else record("reshape", moved, shape=x.shape)
    if type(axis) is not int or not -x.ndim <= axis < x.ndim:
        return None
    extent = x.shape[axis]
    if not place_varies(("roll", x.shape, x.dtype, axis), shift):
        return None
    places = record("add", record("iota", shape=(extent,), axis=0), -shift % extent)
    around = record("sub", places, extent)
    places = record("where", record("ge", around, 0), around, places)
    return record("take", x, places, axis=axis)


# -- padding -------------------------------------------------------------------------------
@public
def pad(
    x: Any, /, pad: Any = None, mode: str = "constant", value: float = 0.0, *,
    pad_width: Any = None, constant_values: float | None = None,
) -> Tensor:  # fmt: skip
    """The elements with `value` around them.

    Parameters
    ----------
    x
        A Tensor or an array.
    pad
        torch's flat widths, pairs (before, behind) from the last axis on; negative ones crop.
        Or NumPy's pairs, one for each axis, also named `pad_width`.
    mode
        What is put around: "constant"; "reflect", the elements mirrored at the end, which is
        not repeated; "replicate" (NumPy's "edge"), the last element; "circular" (NumPy's
        "wrap"), the elements from the other end.
    value, constant_values
        What is put around in mode "constant".

    Examples
    --------
    >>> import accel
    >>> accel.pad(accel.asarray([1, 2]), (1, 2)).tolist()
    [0, 1, 2, 0, 0]
    >>> accel.pad(accel.asarray([1, 2, 3]), (2, 1), mode="reflect").tolist()
    [3, 2, 1, 2, 3, 2]
    """
    if mode != "constant" and mode not in _EDGES:
        remedy = "use 'constant', 'reflect', 'replicate' or 'circular'"
        raise ArgumentError(f"pad: mode {mode!r}", remedy=remedy)
    x = as_tensor(x)
    pairs = _pairs(x.ndim, pad if pad_width is None else pad_width)
    value = value if constant_values is None else constant_values
    if any(n < 0 for pair in pairs for n in pair):
        x = cut(x, [(max(-low, 0), n - max(-high, 0), 1)
                     for (low, high), n in zip(pairs, x.shape, strict=True)])  # fmt: skip
    if mode != "constant":
        for axis, (before, behind) in enumerate(pairs):
            if before > 0 or behind > 0:
                x = _continued(x, axis, max(before, 0), max(behind, 0), _EDGES[mode])
        return x
    low, high = ([max(p[i], 0) for p in pairs] for i in (0, 1))
    return record("pad", x, low=low, high=high, value=value)


#: Modes of padding by the elements themselves, in NumPy's and torch's names.
_EDGES = {"reflect": "reflect", "replicate": "replicate", "edge": "replicate",
          "circular": "circular", "wrap": "circular"}  # fmt: skip


def _continued(x: Tensor, axis: int, before: int, behind: int, mode: str) -> Tensor:
    """`x` with its own elements before and behind it along an axis."""
    n = x.shape[axis]
    most = {"reflect": n - 1, "replicate": before + behind if n else 0, "circular": n}[mode]
    if max(before, behind) > most:
        raise ShapeError(f"pad: widths {before} and {behind} of an extent of {n} in mode {mode!r}",
                         remedy=f"use widths of at most {most}")  # fmt: skip
    if mode == "replicate":
        parts = [cut_axis(x, axis, 0, 1)] * before + [x] + [cut_axis(x, axis, n - 1, n)] * behind
    elif mode == "circular":
        parts = [cut_axis(x, axis, n - before, n), x, cut_axis(x, axis, 0, behind)]
    else:
        first = record("flip", cut_axis(x, axis, 1, before + 1), axis=axis)
        last = record("flip", cut_axis(x, axis, n - 1 - behind, n - 1), axis=axis)
        parts = [first, x, last]
    return record("cat", *[part for part in parts if part.shape[axis]], axis=axis)


def _pairs(ndim: int, widths: Any) -> list[tuple[int, int]]:
    """Widths for each axis, from torch's or NumPy's form."""
    if isinstance(widths, int):
        return [(widths, widths)] * ndim
    listed = list(widths)
    if all(isinstance(w, int) for w in listed):
        if len(listed) % 2 or len(listed) > 2 * ndim:
            raise ArgumentError(
                f"pad: widths {listed} for {ndim} dimensions",
                remedy="give pairs (before, behind) from the last axis on",
            )
        pairs = list(zip(listed[::2], listed[1::2], strict=True))[::-1]
        return [(0, 0)] * (ndim - len(pairs)) + pairs
    found = [extents("pad", (tuple(w),)) for w in listed]
    if len(found) == 1:
        found = found * ndim
    if len(found) != ndim or any(len(w) != 2 for w in found):
        raise ArgumentError(f"pad: widths {listed} for {ndim} dimensions",
                            remedy="give one pair for each axis")  # fmt: skip
    return [(w[0], w[1]) for w in found]
