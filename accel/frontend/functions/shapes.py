"""Functions that give elements other places: shapes, orders of axes, copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...ir.axes import one_axis
from ...ir.types import Shape
from ...ir.types import broadcast_shapes as common_shape
from ..tensors.arguments import UNSET, axis_of, extents, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_tensors", "broadcast_to", "clone",
    "contiguous", "expand", "expand_dims", "flatten", "flip", "fliplr", "flipud",
    "matrix_transpose", "moveaxis", "movedim", "pad", "permute", "permute_dims", "ravel", "repeat",
    "repeat_interleave", "reshape", "roll", "rot90", "squeeze", "swapaxes", "swapdims", "t",
    "tile", "transpose", "tril", "triu", "unflatten", "unsqueeze", "view", "view_as",
]  # fmt: skip


# -- shape ---------------------------------------------------------------------------------
@public
def reshape(
    x: Any, /, shape: Any, *more: int, copy: bool | None = None, order: str = "C"
) -> Tensor:  # fmt: skip
    """The elements in row-major order in another shape; one extent may be -1.

    Parameters
    ----------
    x
        A Tensor or an array.
    shape
        Extents apart or as one tuple.
    copy
        Accepted for the standard's sake: whether memory is shared is never visible.

    Raises
    ------
    ShapeError
        When the extents do not hold the elements.

    Examples
    --------
    >>> import accel
    >>> accel.reshape(accel.asarray([1, 2, 3, 4]), (2, -1)).tolist()
    [[1, 2], [3, 4]]
    """
    if order not in ("C", "A"):
        raise ArgumentError(f"reshape: order {order!r}", remedy="use row-major order, 'C'")
    return record("reshape", x, shape=extents("reshape", (shape, *more)))


@public
def view(x: Any, /, *shape: Any) -> Tensor:
    """torch's name for `reshape`; given a dtype of the same kind and width, x itself."""
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)):
        x = as_tensor(x)
        if str(shape[0]).rpartition(".")[2] == x.dtype.name:
            return x
        raise ArgumentError("view does not reinterpret bytes", remedy="use astype to convert")
    return record("reshape", x, shape=extents("view", shape))


@public
def view_as(x: Any, other: Any, /) -> Tensor:
    """`x` in the shape of `other`."""
    return record("reshape", x, shape=as_tensor(other).shape)


@public
def flatten(x: Any, /, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from `start_dim` to `end_dim` (both in) as one.

    Examples
    --------
    >>> import accel
    >>> accel.flatten(accel.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if isinstance(start_dim, str):  # NumPy's order
        return reshape(x, -1, order=start_dim)
    return record("flatten", x, start=start_dim, end=end_dim)


@public
def ravel(x: Any, /) -> Tensor:
    """All elements in one dimension, row by row."""
    return record("reshape", x, shape=(-1,) if as_tensor(x).size else (0,))


@public
def unflatten(x: Any, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis as several, of extents `sizes`, one of which may be -1.

    Examples
    --------
    >>> import accel
    >>> accel.unflatten(accel.zeros((2, 12)), 1, (3, -1)).shape
    (2, 3, 4)
    """
    x = as_tensor(x)
    axis = one_axis(dim, x.ndim, "unflatten")
    sizes = extents("unflatten", (tuple(sizes),))
    known = -math.prod(sizes)
    if sizes.count(-1) == 1 and known > 0 and x.shape[axis] % known == 0:
        sizes = tuple(x.shape[axis] // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != x.shape[axis]:
        raise ShapeError(f"unflatten: extent {x.shape[axis]} as {list(sizes)}",
                         remedy="give extents whose product it is")  # fmt: skip
    return record("reshape", x, shape=x.shape[:axis] + sizes + x.shape[axis + 1 :])


@public
def expand_dims(x: Any, /, axis: Any = 0) -> Tensor:
    """`x` with axes of extent 1 at the places `axis` of the result.

    Examples
    --------
    >>> import accel
    >>> accel.expand_dims(accel.zeros((2, 3)), axis=1).shape
    (2, 1, 3)
    """
    return record("expand_dims", x, axis=axis)


@public
def unsqueeze(x: Any, dim: int) -> Tensor:
    """torch's name for `expand_dims`."""
    return record("expand_dims", x, axis=dim)


@public
def squeeze(x: Any, /, axis: Any = UNSET, *, dim: Any = UNSET) -> Tensor:
    """`x` without axes of extent 1: all of them, or those named.

    Parameters
    ----------
    x
        A Tensor or an array.
    axis
        The standard's: axes of other extents among them raise.
    dim
        torch's, and that of the method: axes of other extents among them stay.

    Raises
    ------
    ShapeError
        For an `axis` whose extent is not 1.

    Examples
    --------
    >>> import accel
    >>> accel.squeeze(accel.zeros((1, 3, 1)), 0).shape
    (3, 1)
    """
    if dim is UNSET or dim is None or axis is not UNSET:
        return record("squeeze", x, axis=axis_of("squeeze", dim, axis))
    return squeeze_ones(x, dim)


def squeeze_ones(x: Any, dim: Any) -> Tensor:
    """`x` without those axes among `dim` that have extent 1."""
    x = as_tensor(x)
    named = dim if isinstance(dim, (tuple, list)) else (dim,)
    found = (one_axis(d, x.ndim, "squeeze") for d in named) if x.ndim else ()
    return record("squeeze", x, axis=tuple(d for d in found if x.shape[d] == 1))


# -- order of axes --------------------------------------------------------------------------
@public
def permute(x: Any, /, axes: Any = None, *more: int, dims: Any = None) -> Tensor:
    """The axes in another order.

    Examples
    --------
    >>> import accel
    >>> accel.permute(accel.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    order = (axes, *more) if more else axes if dims is None else dims
    return record("permute", x, axes=order)


@public
def transpose(x: Any, /, *axes: Any, dim0: Any = None, dim1: Any = None) -> Tensor:
    """The axes in another order: two ints swap (torch), a tuple permutes (NumPy).

    Parameters
    ----------
    x
        A Tensor or an array.
    axes
        Nothing or None reverses the axes; a tuple, or three and more ints, is the new order;
        two ints are exchanged.

    Examples
    --------
    >>> import accel
    >>> x = accel.zeros((2, 3, 4))
    >>> accel.transpose(x).shape, accel.transpose(x, 0, 1).shape
    ((4, 3, 2), (3, 2, 4))
    >>> accel.transpose(x, (1, 2, 0)).shape
    (3, 4, 2)
    """
    if dim0 is not None or dim1 is not None:
        axes = (*axes, *[d for d in (dim0, dim1) if d is not None])
    if not axes or axes == (None,):
        return record("permute", x, axes=None)
    if len(axes) == 2:
        return record("swapaxes", x, axis0=axes[0], axis1=axes[1])
    return record("permute", x, axes=extents("transpose", axes))


@public
def t(x: Any, /) -> Tensor:
    """A matrix transposed; vectors and numbers stay.

    Raises
    ------
    ShapeError
        For more than two dimensions.
    """
    x = as_tensor(x)
    if x.ndim > 2:
        raise ShapeError(f"t of shape {list(x.shape)}", remedy="use permute, or .mT for batches")
    return record("permute", x, axes=None)


@public
def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged."""
    return record("swapaxes", x, axis0=-1, axis1=-2)


@public
def swapaxes(x: Any, axis0: int, axis1: int, /) -> Tensor:
    """The array with two of its axes exchanged."""
    return record("swapaxes", x, axis0=axis0, axis1=axis1)


@public
def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places, the rest in order.

    Examples
    --------
    >>> import accel
    >>> accel.moveaxis(accel.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    return record("moveaxis", x, source=source, destination=destination)


# -- broadcasting and copies ----------------------------------------------------------------
@public
def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """The elements repeated along axes of extent 1 and new leading axes.

    Examples
    --------
    >>> import accel
    >>> accel.broadcast_to(accel.asarray([1, 2]), (2, 2)).tolist()
    [[1, 2], [1, 2]]
    """
    return record("broadcast_to", x, shape=shape)


@public
def expand(x: Any, /, *sizes: Any) -> Tensor:
    """torch's `broadcast_to`, in which -1 keeps an extent."""
    x, shape = as_tensor(x), extents("expand", sizes)
    new = len(shape) - x.ndim
    kept = tuple(
        x.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(shape)
    )  # fmt: skip
    return record("broadcast_to", x, shape=kept)


@public
def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape of several under broadcasting.

    Raises
    ------
    ShapeError
        Where two extents differ and neither is 1.

    Examples
    --------
    >>> import accel
    >>> accel.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    return common_shape([tuple(s) for s in shapes], "broadcast_shapes") if shapes else ()


@public
def broadcast_tensors(*tensors: Any) -> list[Tensor]:
    """All operands in their common shape."""
    found = [as_tensor(x) for x in tensors]
    if not found:
        return []
    shape = common_shape([x.shape for x in found], "broadcast_tensors")
    return [record("broadcast_to", x, shape=shape) for x in found]


def contiguous(x: Any, /) -> Tensor:
    """`x` itself: how memory is laid out is accel's affair."""
    return as_tensor(x)


@public
def clone(x: Any, /) -> Tensor:
    """A new Tensor of the same value, through which gradients flow; rebinding one leaves the
    other."""
    x = as_tensor(x)
    return record("reshape", x, shape=x.shape)


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
    return record("roll", x, shift=axis_of("roll", shifts, shift), axis=axis_of("roll", dims, axis))


def cut(x: Tensor, places: Sequence[tuple[int, int, int]]) -> Tensor:
    start, stop, step = zip(*places, strict=True) if places else ((), (), ())
    return record("slice", x, start=start, stop=stop, step=step)


def cut_axis(x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    places = [(0, n, 1) for n in x.shape]
    places[axis] = (start, stop, step)
    return cut(x, places)


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


@public
def tril(x: Any, /, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The elements on and below a diagonal of the last two axes, zeros elsewhere."""
    return record("tril", x, diagonal=diagonal if k is None else k)


@public
def triu(x: Any, /, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The elements on and above a diagonal of the last two axes, zeros elsewhere."""
    return record("triu", x, diagonal=diagonal if k is None else k)


permute_dims = permute
movedim, swapdims = moveaxis, swapaxes
broadcast_arrays = broadcast_tensors
