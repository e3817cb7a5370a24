"""The order of array elements: ascending, both zeros equal, NaN behind all.

Complex numbers are ordered by their real, then their imaginary parts, those with NaN behind
the others, as in NumPy. Equal elements keep their order, in descending order as well.

Elements map to integers of the same order (`order_keys`). With an element's place in the low
bits such a key is unique, so that NumPy's fastest sort, which is not stable, gives the stable
order, and several times sooner than its stable one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["order_keys", "places_in_order", "sorted_along"]


def order_keys(x: np.ndarray) -> np.ndarray:
    """Signed integers in the order of the real numbers `x`.

    Examples
    --------
    >>> keys = order_keys(np.array([np.nan, -0.0, 0.0, -1.0], np.float32))
    >>> np.argsort(keys, kind="stable").tolist()
    [3, 1, 2, 0]
    """
    bits = 8 * x.dtype.itemsize
    if x.dtype.kind == "b":
        return x.view(np.int8)
    if x.dtype.kind == "i":
        return x
    if x.dtype.kind == "u":
        return (x ^ x.dtype.type(1 << (bits - 1))).view(f"i{x.dtype.itemsize}")
    keys = np.ascontiguousarray(x).view(f"i{x.dtype.itemsize}").reshape(x.shape)
    limits = np.iinfo(keys.dtype)
    keys = np.where(x == 0, 0, keys ^ ((keys >> (bits - 1)) & limits.max))
    return np.where(x != x, limits.max, keys).astype(keys.dtype, copy=False)


def sorted_along(x: np.ndarray, axis: int, descending: bool = False) -> np.ndarray:
    """`x` sorted along an axis."""
    lanes = _lanes(x, axis)
    if x.dtype.kind in "biu" or (x.dtype.itemsize > 2 and not _zeros_differ(lanes)):
        lanes.sort(axis=-1)
        lanes = lanes[..., ::-1] if descending else lanes
    else:
        lanes = np.take_along_axis(lanes, places_in_order(lanes, -1, descending), -1)
    return np.moveaxis(lanes, -1, axis)


def _lanes(x: np.ndarray, axis: int) -> np.ndarray:
    """A copy of `x` in which the elements along `axis` follow each other."""
    return np.array(np.moveaxis(x, axis, -1), order="C")


def _zeros_differ(x: np.ndarray) -> bool:
    """Whether equal elements may differ: there are negative zeros, or complex numbers."""
    if x.dtype.kind == "c":
        return True
    bits = np.dtype(f"i{x.dtype.itemsize}")
    return bool(x.size) and bool(x.view(bits).min() == np.iinfo(bits).min)


def places_in_order(
    x: np.ndarray, axis: int, descending: bool = False, count: int | None = None
) -> np.ndarray:
    """Where along an axis the elements of `x` lie in order; of the first `count` alone."""
    lanes = _lanes(x, axis)
    if x.dtype.kind == "c":
        places = _complex_places(lanes, descending)
    else:
        keys = order_keys(lanes)
        keys = ~keys if descending else keys
        few = count is not None and 0 < count < keys.shape[-1] and keys.size
        places = _least_places(keys, count) if few else _places(keys)
    return np.moveaxis(places[..., :count], -1, axis)


def _complex_places(lanes: np.ndarray, descending: bool) -> np.ndarray:
    real, imag = lanes.real, lanes.imag
    missing = 2 * np.isnan(real).astype(np.int64) + np.isnan(imag)
    keys = (order_keys(imag), order_keys(real), missing)
    return np.lexsort([~k for k in keys] if descending else keys, axis=-1)


def _least_places(keys: np.ndarray, count: Any) -> np.ndarray:
    """Where the `count` least keys of each lane lie in order: those up to the last of them are
    picked out, then sorted."""
    last = np.partition(keys, count - 1, axis=-1)[..., count - 1 : count]
    chosen = keys <= last
    if np.count_nonzero(chosen) > last.size * count:  # of those equal to the last the first stay
        equal = keys == last
        spare = count - np.count_nonzero(chosen & ~equal, axis=-1, keepdims=True)
        chosen &= ~equal | (np.cumsum(equal, axis=-1) <= spare)
    places = np.nonzero(chosen)[-1].reshape(*keys.shape[:-1], count)
    order = _places(np.take_along_axis(keys, places, -1))
    return np.take_along_axis(places, order, -1)


def _places(keys: np.ndarray) -> np.ndarray:
    n = keys.shape[-1]
    bits = max(n - 1, 0).bit_length()
    packed = _packed(keys, bits)
    if packed is None:
        return _long_places(keys, bits)
    packed.sort(axis=-1)
    packed &= (1 << bits) - 1
    return packed


def _long_places(keys: np.ndarray, bits: int) -> np.ndarray:
    """The order of keys too long to be packed: of equal ones the places are sorted after."""
    places = np.argsort(keys, axis=-1)
    found = np.take_along_axis(keys, places, -1)
    steps = found[..., 1:] != found[..., :-1]
    if steps.all():
        return places
    places[..., 1:] |= np.cumsum(steps, axis=-1) << bits
    places.sort(axis=-1)
    return places & ((1 << bits) - 1)


def _packed(keys: np.ndarray, bits: int) -> np.ndarray | None:
    """Keys with their places in the lowest `bits`; None where 64 bits do not hold both."""
    if not keys.size:
        return np.zeros(keys.shape, np.int64)
    if 8 * keys.dtype.itemsize + bits > 64:
        least, most = int(keys.min()), int(keys.max())
        if most - least >= 1 << (63 - bits):
            return None
        keys = keys - least
    packed = keys.astype(np.int64) << bits
    packed |= np.arange(keys.shape[-1])
    return packed
