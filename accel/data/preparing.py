"""Scaling and splitting of arrays."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from ..frontend.tensors.arguments import public
from ..frontend.tensors.tensor import Tensor
from .loading import common_length, rows_of

__all__ = ["normalize", "standardize", "train_test_split"]


@public
def normalize(x: Any, axis: int | tuple[int, ...] | None = 0) -> Tensor:
    """`x` scaled so that every column reaches from 0 to 1; a constant column becomes 0.

    Parameters
    ----------
    x
        An array of numbers.
    axis
        The axes over which least and greatest are taken; None for all.

    Examples
    --------
    >>> import accel
    >>> accel.data.normalize(accel.asarray([1.0, 3.0, 2.0])).tolist()
    [0.0, 1.0, 0.5]
    """
    low, high = (f(x, axis=axis, keepdims=True) for f in (accel.amin, accel.amax))
    span = high - low
    return (x - low) / accel.where(span == 0, 1, span)


@public
def standardize(x: Any, axis: int | tuple[int, ...] | None = 0) -> Tensor:
    """`x` scaled so that every column has mean 0 and variance 1; a constant column becomes 0.

    Parameters
    ----------
    x
        An array of numbers.
    axis
        The axes over which mean and variance are taken; None for all.

    Examples
    --------
    >>> import accel
    >>> accel.data.standardize(accel.asarray([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    centred = x - accel.mean(x, axis=axis, keepdims=True)
    deviation = accel.std(x, axis=axis, keepdims=True)
    return centred / accel.where(deviation == 0, 1, deviation)


@public
def train_test_split(
    *arrays: Any, test_size: float | int = 0.25, shuffle: bool = True, seed: int | None = None
) -> list[Any]:
    """Split arrays into training and test rows, the same rows of each.

    Parameters
    ----------
    *arrays
        NumPy arrays or Tensors with one row for each example.
    test_size
        Share of the rows (a float between 0 and 1, rounded up) or their number (an int).
    shuffle
        Whether rows are drawn at random; else the last ones are the test rows.
    seed
        Of the draw; None takes it from `accel.manual_seed`'s generator.

    Returns
    -------
    list
        Training and test part of the first array, then of the second, and so on.

    Raises
    ------
    ArgumentError
        When a part would be empty.

    Examples
    --------
    >>> import numpy as np
    >>> from accel.data import train_test_split
    >>> x_train, x_test = train_test_split(np.arange(8), test_size=2, shuffle=False)
    >>> x_test
    array([6, 7])
    """
    converted = tuple(a if isinstance(a, Tensor) else accel.asarray(a).numpy() for a in arrays)
    count = common_length(converted, "train_test_split")
    wanted = test_size if isinstance(test_size, int) else -int(-count * test_size // 1)
    if not 0 < wanted < count:
        raise ArgumentError(
            f"train_test_split: test_size {test_size!r} of {count} rows leaves a part empty",
            remedy="pass a share between 0 and 1, or fewer rows than there are",
        )
    if not shuffle:
        places: list[Any] = [slice(0, count - wanted), slice(count - wanted, count)]
    else:
        generator = None if seed is None else accel.Generator(seed)
        order = accel.randperm(count, generator=generator).numpy()
        places = [order[wanted:], order[:wanted]]
    return [rows_of(array, place) for array in converted for place in places]
