"""Every error that a user can cause, as classes that say cause, place and remedy.

Each class also derives from the built-in error that users of NumPy and torch expect, so
``except ValueError`` keeps working. Internal frames are hidden unless ``ACCEL_DEBUG=1``.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = [
    "AccelError", "ArgumentError", "AxisError", "DTypeError", "DeviceError", "EmptyReductionError",
    "GradientError", "GraphParseError", "IndexOutOfRangeError", "InternalCompilerError",
    "Location", "NotAnArrayError", "ShapeError", "TargetError", "TorchNotAvailable",
    "TraceError", "TracedValueError", "UnsupportedDTypeError", "UnsupportedFunctionError",
    "VerificationError",
    "debug_enabled",
]  # fmt: skip


def debug_enabled() -> bool:
    """Whether ``ACCEL_DEBUG=1`` asks for the internal frames of errors."""
    return os.environ.get("ACCEL_DEBUG", "") not in ("", "0")


class Location(NamedTuple):
    """A line of the user's code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class AccelError(Exception):
    """Base of all errors of accel.

    Parameters
    ----------
    message
        What was wrong, naming the op, the shapes and the dtypes.
    loc
        The user's line; the frontend adds it where it is known.
    remedy
        One way to fix it.
    """

    def __init__(
        self, message: str, *, loc: Location | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.loc = loc
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message
        if self.loc is not None:
            text += f"\n  at {self.loc}"
        if self.remedy:
            text += f"\n  remedy: {self.remedy}"
        return text


class ShapeError(AccelError, ValueError):
    """Shapes that do not fit the op: operands that do not broadcast or multiply."""


class DTypeError(AccelError, TypeError):
    """A dtype that the op does not take, or dtypes without a common one."""


class UnsupportedDTypeError(DTypeError):
    """A dtype that accel does not have (object, string, datetime, longdouble …)."""


class NotAnArrayError(AccelError, TypeError):
    """A value that is neither an array nor a number where an array is needed."""


class UnsupportedFunctionError(AccelError, TypeError):
    """A function of another library that accel does not record on Tensors."""


class ArgumentError(AccelError, ValueError):
    """An argument with an impossible value: a negative size, an unknown mode."""


class AxisError(AccelError, ValueError, IndexError):
    """An axis outside the array's dimensions, or named twice."""


class IndexOutOfRangeError(AccelError, IndexError):
    """An index outside the array's extent."""


class EmptyReductionError(AccelError, ValueError):
    """A reduction without identity (max, argmin …) over no elements."""


class GradientError(AccelError, RuntimeError):
    """A gradient that does not exist: no path, an integer tensor, a non-scalar root."""


class TraceError(AccelError, RuntimeError):
    """A function under `accel.compile` did what a recorded graph cannot hold."""


class TracedValueError(TraceError, TypeError):
    """The Python value of a recorded tensor was demanded while tracing (`if x:`, `float(x)`)."""


class DeviceError(AccelError, RuntimeError):
    """A device that is not there."""


class TorchNotAvailable(AccelError, RuntimeError, ImportError):
    """The torch target was asked for by name, and torch cannot be imported."""


class TargetError(AccelError, RuntimeError):
    """A step failed on its target and `fallback="error"` forbids another."""


class GraphParseError(AccelError, ValueError):
    """Text that is no graph."""


class VerificationError(AccelError, RuntimeError):
    """A graph that breaks the rules of the IR: a pass is wrong."""


class InternalCompilerError(AccelError, RuntimeError):
    """accel wrote LLVM IR that does not verify: a bug of accel, never of the user."""
