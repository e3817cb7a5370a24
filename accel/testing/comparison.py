"""Expected values with bounds, and arrays held to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["Expected", "Known", "Mismatch", "compare", "kind_of", "magnitude", "spacing",
           "widened"]  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """What one output must be.

    Attributes
    ----------
    value
        The reference's value.
    bound
        float64, of the value's shape: the greatest distance; infinity where excluded.
    """

    value: np.ndarray
    bound: np.ndarray

    @property
    def excluded(self) -> int:
        """How many elements nothing is known of."""
        return int(np.isinf(self.bound).sum())


@dataclass(frozen=True)
class Mismatch:
    """The worst element of an output that is out of bounds."""

    place: tuple[int, ...]
    found: Any
    wanted: Any
    bound: float
    count: int

    def __str__(self) -> str:
        where = f"element {list(self.place)}: " if self.place else ""
        return (
            f"{where}{self.found!r}, but the reference gives {self.wanted!r} ± {self.bound:.3g} "
            f"({self.count} element{'s' * (self.count != 1)} out of bounds)"
        )


@dataclass(frozen=True)
class Known:
    """A node's value and bound. `exact` says that the bound is 0 everywhere."""

    value: np.ndarray
    bound: np.ndarray
    exact: bool


# -- numbers ------------------------------------------------------------------------------
def spacing(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The unit in the last place of `dtype` at the magnitude of `x`, as float64.

    0 where `x` is not finite, and for integers.

    Examples
    --------
    >>> float(spacing(np.array(1.0), np.dtype(np.float32))) == 2.0**-23
    True
    """
    if dtype.kind in "biu":
        return np.zeros(np.shape(x))
    limits = ml_dtypes.finfo(dtype)
    size = magnitude(x)
    _, exponent = np.frexp(np.where(np.isfinite(size), size, 0.0))
    least = float(limits.smallest_subnormal)
    unit = np.ldexp(float(limits.eps), exponent - 1)
    return np.where(np.isfinite(size), np.maximum(unit, least), 0.0)


def magnitude(x: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.abs(np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64))


def widened(x: np.ndarray) -> np.ndarray:
    """`x` in double precision; integers stay."""
    if x.dtype.kind in "biu":
        return x
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def kind_of(x: np.ndarray) -> np.ndarray:
    """0 for finite elements, apart from it NaN, infinity and minus infinity."""
    if x.dtype.kind in "biu":
        return np.zeros(x.shape, np.int8)
    if x.dtype.kind == "c":
        return kind_of(x.real) + 4 * kind_of(x.imag)
    return np.where(np.isnan(x), 1, np.where(np.isinf(x), np.where(x > 0, 2, 3), 0)).astype(np.int8)


# -- comparison ---------------------------------------------------------------------------
def compare(found: np.ndarray, wanted: Expected, zero_signs: bool = True) -> Mismatch | None:
    """The worst element of `found` that is further from `wanted` than its bound; else None.

    NaN matches NaN and an infinity itself, and with a bound of 0 zeros must have equal signs
    (unless `zero_signs` is False).
    """
    value, bound = wanted.value, wanted.bound
    found = np.asarray(found)
    if found.shape != value.shape or found.dtype != value.dtype:
        got, want = (f"{a.dtype}{list(a.shape)}" for a in (found, value))
        return Mismatch((), got, want, 0.0, max(value.size, 1))
    with np.errstate(all="ignore"):
        if value.dtype.kind in "biu":
            wrong = (found != value) & ~(bound > 0)
            distance = wrong.astype(np.float64)
        else:
            wide, centre = widened(found), widened(value)
            same = (kind_of(wide) == kind_of(centre)) & (kind_of(centre) != 0)
            distance = np.where(same, 0.0, magnitude(wide - centre))
            distance = np.where(np.isnan(distance), np.inf, distance)
            wrong = (distance > bound) & ~np.isinf(bound)
            if zero_signs and value.dtype.kind == "f":
                signs = np.signbit(found) != np.signbit(value)
                wrong |= (bound == 0) & (value == 0) & signs
    if not wrong.any():
        return None
    excess = np.where(wrong, distance / np.maximum(bound, 1e-300), -1.0)
    place = np.unravel_index(int(np.argmax(excess)), value.shape)
    index = tuple(int(i) for i in place)
    return Mismatch(index, found[index], value[index], float(bound[index]), int(wrong.sum()))
