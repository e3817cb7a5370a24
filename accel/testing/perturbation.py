"""How far a pointwise op's result moves when its operands move by their bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..ir.node import Node
from .comparison import Known, kind_of, magnitude, spacing, widened

__all__ = ["moved_by"]


def moved_by(node: Node, operands: list[Known], value: np.ndarray) -> np.ndarray:
    """How far the result moves when every operand moves by its bound."""
    rule = _SPECIAL.get(node.op.name)
    if rule is not None:
        special = rule(node, operands)
        if node.op.name == "where":
            return special
    else:
        special = np.zeros(node.type.shape, bool)
    unknown = special | _any(np.isinf(o.bound) for o in operands)
    arrays = [widened(o.value) for o in operands]
    steps = [np.where(np.isinf(o.bound), 0.0, o.bound) for o in operands]
    centre = _reference(node, arrays)
    result = np.zeros(node.type.shape)
    for corner in _corners(arrays, steps, node.type.dtype.kind == "c"):
        there = _reference(node, corner)
        if there.dtype.kind in "biu":
            unknown = unknown | (there != centre)
            continue
        both = kind_of(there) == kind_of(centre)
        unknown = unknown | ~both | ((kind_of(there) != 0) & _overflows(node, there, value))
        finite = np.isfinite(there) & np.isfinite(centre)
        result = np.maximum(result, np.where(finite, magnitude(there - centre), 0.0))
        if node.type.dtype.kind == "f":  # the edge of overflow of the narrower dtype
            narrow = np.asarray(there).astype(value.dtype)
            unknown = unknown | (kind_of(narrow) != kind_of(value))
    if node.type.dtype.kind == "c":  # a pole or a branch point lies within reach
        unknown = unknown | (result > 0.5 * (1.0 + magnitude(value)))
    return np.where(unknown, np.inf, 1.25 * result)


def _overflows(node: Node, there: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.isfinite(value) & ~np.isfinite(there)


def _reference(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The reference in double precision, not rounded."""
    attrs = node.attrs
    if node.op.name == "cast" and node.type.dtype.kind in "fc":
        x = np.asarray(arrays[0])
        return x if node.type.dtype.kind == "c" else x.real
    return np.asarray(node.op.reference(*arrays, **attrs))


def _corners(
    arrays: list[np.ndarray], steps: list[np.ndarray], complex_: bool
) -> Iterator[list[np.ndarray]]:
    """The operands moved: up and down together in all ways, complex ones one at a time."""
    moving = [i for i, s in enumerate(steps) if s.any() and arrays[i].dtype.kind in "fc"]
    if complex_ or any(arrays[i].dtype.kind == "c" for i in moving):
        for i in moving:
            for direction in (1, -1, 1j, -1j):
                if direction in (1, -1) or arrays[i].dtype.kind == "c":
                    scaled = len(moving) * direction * steps[i]
                    yield [a + scaled if i == j else a for j, a in enumerate(arrays)]
        return
    for signs in itertools.product((1.0, -1.0), repeat=len(moving)):
        corner = list(arrays)
        for i, sign in zip(moving, signs, strict=True):
            corner[i] = arrays[i] + sign * steps[i]
        yield corner


def _any(masks: Iterable[np.ndarray]) -> np.ndarray:
    result: Any = False
    for mask in masks:
        result = result | mask
    return np.asarray(result)


def _holds_zero(operand: Known) -> np.ndarray:
    """Where the operand may be zero without being known to be."""
    return (operand.bound > 0) & (magnitude(operand.value) <= operand.bound)


def _apart(x: Known, y: Known) -> np.ndarray:
    """The distance of two operands' values."""
    a, b = (np.asarray(widened(o.value), np.complex128) for o in (x, y))
    return magnitude(a - b)


def _equal(node: Node, operands: list[Known]) -> np.ndarray:
    x, y = operands
    slack = x.bound + y.bound
    return (slack > 0) & ~(_apart(x, y) > slack)


def _close(node: Node, operands: list[Known]) -> np.ndarray:
    x, y = operands
    slack = (x.bound + y.bound) * (1 + node.attrs["rtol"])
    slack = slack + 4 * (spacing(x.value, x.value.dtype) + spacing(y.value, y.value.dtype))
    allowed = node.attrs["atol"] + node.attrs["rtol"] * magnitude(y.value)
    return (slack > 0) & (np.abs(_apart(x, y) - allowed) <= slack)


def _quotient(node: Node, operands: list[Known]) -> np.ndarray:
    """Where the whole part of a quotient is not certain."""
    (x, ex), (y, ey) = ((widened(o.value), o.bound) for o in operands)
    q = x / y
    slack = (ex + np.abs(q) * ey) / np.maximum(magnitude(y) - ey, 0.0)
    slack = slack + 4 * spacing(q, np.dtype(np.float64))
    return ~(np.floor(q - slack) == np.floor(q + slack)) & ((ex > 0) | (ey > 0))


def _pole(node: Node, operands: list[Known]) -> np.ndarray:
    """Where a pole of the gamma function, an integer that is not positive, may be met."""
    x, reach = widened(operands[0].value), 1.01 * operands[0].bound
    return (reach > 0) & (np.floor(x + reach) >= np.ceil(x - reach)) & (np.ceil(x - reach) <= 0)


def _branch(node: Node, operands: list[Known]) -> np.ndarray:
    """Where `y` may lie on either side of the branch cut of atan2(y, x), the negative half of x."""
    y, x = operands
    left = np.signbit(widened(x.value)) | (magnitude(x.value) <= x.bound)
    return _holds_zero(y) & left


def _where(node: Node, operands: list[Known]) -> np.ndarray:
    chosen, x, y = operands
    known = np.where(chosen.value.astype(bool), x.bound, y.bound)
    apart = _apart(x, y) + np.maximum(x.bound, y.bound)
    same = (x.value == y.value) & (np.maximum(x.bound, y.bound) == 0)
    either = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    return np.where(_any([chosen.bound > 0, _holds_zero(chosen)]), either, known)


#: Where corners cannot tell how far a result moves: a mask of what to exclude (for `where`,
#: the bound itself).
_SPECIAL: dict[str, Callable[[Node, list[Known]], np.ndarray]] = {
    "where": _where,
    "eq": _equal,
    "ne": _equal,
    "isclose": _close,
    "remainder": _quotient,
    "fmod": _quotient,
    "floor_divide": _quotient,
    "div": lambda node, o: _holds_zero(o[1]),
    "reciprocal": lambda node, o: _holds_zero(o[0]),
    "pow": lambda node, o: _holds_zero(o[0]),
    "heaviside": lambda node, o: _holds_zero(o[0]),
    "atan2": _branch,
    "lgamma": _pole,
    "digamma": _pole,
    "polygamma": _pole,
    "sin": lambda node, o: o[0].bound > 0.1,
    "cos": lambda node, o: o[0].bound > 0.1,
    "tan": lambda node, o: (o[0].bound > 0) & (
        o[0].bound * (1 + np.tan(widened(o[0].value)) ** 2) > 0.1),
    "nextafter": lambda node, o: _any(x.bound > 0 for x in o),
    "cast": lambda node, o: _holds_zero(o[0]) & (node.type.dtype.kind == "b"),
    **dict.fromkeys(
        ("logical_and", "logical_or", "logical_xor", "logical_not"),
        lambda node, o: _any(map(_holds_zero, o)),
    ),
    **dict.fromkeys(  # periodic in the complex plane, with cuts
        ("exp", "exp2", "expm1", "sinh", "cosh", "tanh", "sigmoid"),
        lambda node, o: (o[0].bound > 0.1) & (o[0].value.dtype.kind == "c"),
    ),
}  # fmt: skip


