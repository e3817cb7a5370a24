"""Axes in canonical form: non-negative, checked, sorted where their order means nothing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, AxisError

__all__ = ["kept_shape", "one_axis", "ordered_axes", "reduced_shape", "some_axes"]


def one_axis(axis: Any, ndim: int, what: str) -> int:
    """`axis` as an int in ``[0, ndim)``; negative ones count from the end.

    Raises
    ------
    ArgumentError
        When it is no integer.
    AxisError
        When the array has no such axis.

    Examples
    --------
    >>> one_axis(-1, 3, "softmax")
    2
    """
    try:
        wanted = operator.index(axis)
    except TypeError:
        raise ArgumentError(
            f"{what}: axis {axis!r} is no integer", remedy="give the axis as an int"
        ) from None
    if not -ndim <= wanted < ndim:
        legal = f"axes {-ndim} to {ndim - 1}" if ndim else "no axes (it is 0-d)"
        raise AxisError(
            f"{what}: axis {wanted} does not exist, the operand has {legal}",
            remedy="choose one of its axes" if ndim else "reshape it to one or more dimensions",
        )
    return wanted % ndim


def ordered_axes(axes: Any, ndim: int, what: str) -> tuple[int, ...]:
    """A tuple of distinct axes in the order given; an int is a tuple of one.

    Raises
    ------
    AxisError
        When one does not exist or stands twice.
    """
    listed = axes if isinstance(axes, (tuple, list)) else (axes,)
    found = tuple([one_axis(a, ndim, what) for a in listed])
    if len(set(found)) != len(found):
        raise AxisError(
            f"{what}: an axis stands twice in {tuple(listed)}", remedy="name each axis once"
        )
    return found


def some_axes(axes: Any, ndim: int, what: str) -> tuple[int, ...]:
    """A sorted tuple of distinct axes; None means all of them.

    Examples
    --------
    >>> some_axes((-1, 0), 3, "sum"), some_axes(None, 2, "sum")
    ((0, 2), (0, 1))
    """
    if axes is None:
        return tuple(range(ndim))
    return tuple(sorted(ordered_axes(axes, ndim, what)))


def kept_shape(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` with 1 at `axes`."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape after folding `axes`."""
    if keepdims:
        return kept_shape(shape, axes)
    return tuple([n for i, n in enumerate(shape) if i not in axes])
