"""Arguments in their two spellings: the standard's (axis, keepdims) and torch's (dim, keepdim)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar

from ...errors import AccelError, ArgumentError, debug_enabled

__all__ = ["UNSET", "axis_of", "extents", "public", "unused"]

F = TypeVar("F", bound=Callable[..., Any])


class _Unset:
    """The default of arguments that may be None; shown as such in signatures."""

    def __repr__(self) -> str:
        return "unset"


UNSET: Any = _Unset()


def public(function: F) -> F:
    """`function`, whose errors name the user's line and hide accel's own frames."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AccelError as error:
            if debug_enabled():
                raise
            raise error.with_traceback(None) from None

    return checked  # type: ignore[return-value]


def axis_of(op: str, dim: Any, axis: Any, default: Any = None) -> Any:
    """The axis that was named in either spelling.

    Raises
    ------
    ArgumentError
        When both were given.
    """
    if axis is UNSET:
        return default if dim is UNSET else dim
    if dim is not UNSET:
        raise ArgumentError(f"{op}: both dim={dim!r} and axis={axis!r}", remedy="give one of them")
    return axis


def extents(op: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape from ``(2, 3)`` or ``((2, 3),)``: extents apart or as one sequence.

    Raises
    ------
    ArgumentError
        When an extent is no integer.
    """
    listed = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return tuple([operator.index(n) for n in listed])
    except TypeError:
        raise ArgumentError(
            f"{op}: {listed!r} is no tuple of integers", remedy="give ints, such as (2, 3)"
        ) from None


def unused(op: str, **arguments: Any) -> None:
    """Refuse arguments that NumPy or torch have and accel does not, unless left at None.

    Raises
    ------
    ArgumentError
        Naming the argument.
    """
    for name, value in arguments.items():
        if value is not None:
            remedy = "assign the result: x = ..." if name == "out" else f"leave out {name}"
            raise ArgumentError(f"{op} does not take {name}=", remedy=remedy)
