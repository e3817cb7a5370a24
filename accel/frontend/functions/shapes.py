"""Functions that give an array another shape: extents, orders of axes, broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...ir.axes import one_axis
from ...ir.types import Shape
from ...ir.types import broadcast_shapes as common_shape
from ..tensors.arguments import UNSET, axis_of, extents, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_tensors", "broadcast_to", "clone",
    "contiguous", "expand", "expand_dims", "flatten", "matrix_transpose", "moveaxis", "movedim",
    "permute", "permute_dims", "ravel", "reshape", "squeeze", "swapaxes", "swapdims", "t",
    "transpose", "unflatten", "unsqueeze", "view", "view_as",
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


permute_dims = permute
movedim, swapdims = moveaxis, swapaxes
broadcast_arrays = broadcast_tensors
