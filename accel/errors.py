"""Every error that a user can cause, as classes that say cause, place and remedy.

Each class also derives from the built-in error that users of NumPy and torch expect, so
``except ValueError`` keeps working. Internal frames are hidden unless ``ACCEL_DEBUG=1``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from types import FrameType
from typing import NamedTuple

import numpy as np

__all__ = [
    "AccelError", "ArgumentError", "AxisError", "CudaNotAvailable", "DTypeError", "DeviceError",
    "EmptyReductionError", "ExchangeError", "FreedTensorError",
    "GradientError", "GraphParseError", "HIDDEN_FOLDERS", "IndexOutOfRangeError",
    "InternalCompilerError", "LinAlgError", "Location", "NotANumberError", "NotAnArrayError",
    "NumberRangeError", "OutOfMemoryError", "OWN_FOLDER", "ShapeError", "TargetError",
    "TorchNotAvailable",
    "TraceError", "TracedValueError", "UnsupportedDTypeError", "UnsupportedFunctionError",
    "VerificationError",
    "debug_enabled", "user_location",
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


#: accel's own files, whose frames tracebacks leave out.
OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Where code lives that is never the user's line.
HIDDEN_FOLDERS = (OWN_FOLDER, os.path.dirname(os.path.abspath(np.__file__)) + os.sep)
#: Written by or run through these, code of accel's calls itself.
_HIDDEN = (*HIDDEN_FOLDERS, contextlib.__file__, dataclasses.__file__)


def user_location() -> Location | None:
    """The innermost line that belongs to neither accel nor NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_hidden(frame):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno) if frame is not None else None


def _is_hidden(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file == "<string>":  # what dataclasses write for a class of accel's
        return str(frame.f_globals.get("__name__")).startswith("accel.")
    return file.startswith(_HIDDEN)


class AccelError(Exception):
    """Base of all errors of accel.

    Parameters
    ----------
    message
        What was wrong, naming the op, the shapes and the dtypes.
    loc
        The user's line to blame; by default the one that was running.
    remedy
        One way to fix it.
    """

    def __init__(
        self, message: str, *, loc: Location | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.loc = loc or user_location()
        self.remedy = remedy
        self._placed = loc is not None

    def place(self, loc: Location | None) -> None:
        """Blame `loc`, the line that recorded the op at fault, unless a line was named."""
        if loc is not None and not self._placed:
            self.loc, self._placed = loc, True

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


class NumberRangeError(ArgumentError, OverflowError):
    """A Python number that the dtype cannot hold."""


class NotANumberError(ArgumentError, TypeError):
    """A Python number is demanded of a tensor that has not exactly one element."""


class AxisError(AccelError, ValueError, IndexError):
    """An axis outside the array's dimensions, or named twice."""


class IndexOutOfRangeError(AccelError, IndexError):
    """An index outside the array's extent."""


class LinAlgError(AccelError, np.linalg.LinAlgError):
    """A matrix for which a factorisation, inverse or solution does not exist, or was not found:
    singular, not positive definite, iterations that did not converge."""


class EmptyReductionError(AccelError, ValueError):
    """A reduction without identity (max, argmin …) over no elements."""


class OutOfMemoryError(AccelError, MemoryError):
    """More memory than the machine has: an array too large to allocate."""


class GradientError(AccelError, RuntimeError):
    """A gradient that does not exist: no path, an integer tensor, a non-scalar root."""


class TraceError(AccelError, RuntimeError):
    """A function under `accel.compile` did what a recorded graph cannot hold."""


class TracedValueError(TraceError, TypeError):
    """The Python value of a recorded tensor was demanded while tracing (`if x:`, `float(x)`)."""


class DeviceError(AccelError, RuntimeError):
    """A device that is not there."""


class CudaNotAvailable(DeviceError):
    """A CUDA device was asked for, and torch is missing or sees none."""


class ExchangeError(AccelError, BufferError):
    """Memory that cannot be exchanged with another library as it was asked for."""


class FreedTensorError(AccelError, RuntimeError):
    """A tensor is used after `Tensor.free` has dropped its value."""


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
