"""`accel.fft`: discrete Fourier transforms, the standard's extension.

Each is one of three ops (complex to complex, real to half of a spectrum, and back) on operands
that are cropped or padded with zeros to the points asked for. Results are complex64 or float32,
those of 64-bit operands complex128 or float64.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ...errors import AccelError, ArgumentError
from ...ir import dtypes
from ...ir.axes import ordered_axes, some_axes
from ...ir.dtypes import DType
from ...ir.ops.fourier import NORMS
from ...ir.types import Shape
from ..tensors.arguments import UNSET, axis_of, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .arranging import roll
from .creation import finished

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift",
    "ihfft", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

#: The functions that take a tensor, under the names that NumPy has for them too.
OF_TENSORS = tuple(name for name in __all__ if "freq" not in name)

#: ``transform(op, x, points, axes, norm)``; in `points` None stands for what there is.
Transform = Callable[[str, Tensor, list[Any], Shape, Any], Tensor]


# -- operands -------------------------------------------------------------------------------
def _converted(x: Tensor, to_complex: bool) -> Tensor:
    """Whole numbers and halves become float32; what the op then does not take, it refuses."""
    dtype = x.dtype
    if to_complex:
        dtype = dtype.complex
    elif dtype.kind in "biu" or dtype.itemsize == 2:
        dtype = dtypes.float32
    return x if dtype is x.dtype else record("cast", x, dtype=dtype)


def _points(op: str, n: Any, present: int) -> int:
    """How many points: `n`, or what there is where that is None or -1."""
    if n is None:
        return present
    try:
        wanted = operator.index(n)
    except AccelError:  # a traced value explains itself
        raise
    except TypeError:
        wanted = 0
    if wanted == -1:
        return present
    if wanted < 1:
        raise ArgumentError(f"{op} of {n!r} points", remedy="give 1 or more")
    return wanted


def _resized(x: Tensor, axes: Shape, extents: list[int]) -> Tensor:
    """`x` cropped, or padded with zeros, behind its elements along `axes`."""
    wanted = list(x.shape)
    for axis, extent in zip(axes, extents, strict=True):
        wanted[axis] = extent
    kept = tuple(map(min, x.shape, wanted))
    if kept != x.shape:
        x = record("slice", x, start=(0,) * x.ndim, stop=kept, step=(1,) * x.ndim)
    if kept != tuple(wanted):
        high = tuple(map(operator.sub, wanted, kept))
        x = record("pad", x, low=(0,) * x.ndim, high=high)
    return x


# -- the transforms -------------------------------------------------------------------------
def _complex(forward: bool) -> Transform:
    def transform(op: str, x: Tensor, points: list[Any], axes: Shape, norm: Any) -> Tensor:
        sizes = [_points(op, n, x.shape[a]) for n, a in zip(points, axes, strict=True)]
        x = _resized(_converted(x, True), axes, sizes)
        return record("fft", x, axes=axes, forward=forward, norm=norm)

    return transform


def _to_half(op: str, x: Tensor, points: list[Any], axes: Shape, norm: Any) -> Tensor:
    sizes = [_points(op, n, x.shape[a]) for n, a in zip(points, axes, strict=True)]
    x = _resized(_converted(x, False), axes, sizes)
    *others, last = axes
    half = record("rfft", x, axis=last, norm=norm)
    return record("fft", half, axes=tuple(others), norm=norm) if others else half


def _from_half(op: str, x: Tensor, points: list[Any], axes: Shape, norm: Any) -> Tensor:
    *others, last = axes
    n = _points(op, points[-1], 2 * (x.shape[last] - 1))
    if n < 1:
        raise ArgumentError(f"{op} of {x.shape[last]} elements along axis {last}",
                            remedy="give n, the number of points of the result")  # fmt: skip
    sizes = [_points(op, m, x.shape[a]) for m, a in zip(points, others, strict=False)]
    x = _resized(_converted(x, True), axes, [*sizes, n // 2 + 1])
    if others:
        x = record("fft", x, axes=tuple(others), forward=False, norm=norm)
    return record("irfft", x, axis=last, n=n, norm=norm)


def _turned(norm: Any) -> Any:
    """What the transform in the opposite direction calls a norm; what is none stays."""
    return NORMS.get("backward" if norm is None else str(norm), norm)


def _from_hermitian(op: str, x: Tensor, points: list[Any], axes: Shape, norm: Any) -> Tensor:
    return _from_half(op, record("conj", x), points, axes, _turned(norm))


def _to_hermitian(op: str, x: Tensor, points: list[Any], axes: Shape, norm: Any) -> Tensor:
    return record("conj", _to_half(op, x, points, axes, _turned(norm)))


# -- their functions ------------------------------------------------------------------------
_PARAMETERS = """
Parameters
----------
x
    {operand}
{points}
norm
    What divides by the number of points: "backward" (the default), the transform to
    frequencies' inverse; "forward", that itself; "ortho", both, by the root.

Returns
-------
Tensor
    {result}

Raises
------
AxisError
    For an axis that is not there, or twice.
ArgumentError
    For fewer than one point, and for another norm.
{refused}
Examples
--------
>>> import accel
>>> {example}

Notes
-----
Source: the Array API standard 2024.12, extension fft."""

_ONE = """n
    The number of points{of}, by default {default}: fewer crop the operand, more pad it
    with zeros.
axis, dim
    The axis; the last by default."""

_MANY = """s
    The numbers of points{of}, one for each axis, by default {default}: fewer crop the
    operand, more pad it with zeros. With `s` alone the last axes are meant.
axes, dim
    The axes; {axes} by default."""

_REAL = "DTypeError\n    For complex operands.\n"
_COMPLEX_IN = ("Of any dtype.", " ", "the operand's extent", "Complex, of the points' shape.", "")
_REAL_IN = ("Real.", "", "the operand's extent",
            "Complex; along the last axis n // 2 + 1 elements.", _REAL)  # fmt: skip
_HALF_IN = ("Half of a spectrum.", " of the result", "2 * (its extent - 1) along the last axis",
            "Real.", "")  # fmt: skip


def _document(function: Any, op: str, first: str, example: str, about: Any, words: str) -> Any:
    operand, of, default, result, refused = about
    points = words.format(of=of.rstrip(), default=default, axes="the last two" if "2" in op
                          else "all")  # fmt: skip
    function.__name__ = function.__qualname__ = op
    function.__doc__ = f"{first}\n" + _PARAMETERS.format(
        operand=operand, points=points, result=result, refused=refused, example=example
    )
    return public(function)


def _along_one(op: str, transform: Transform, about: Any, first: str, example: str) -> Any:
    def function(x: Any, /, n: Any = None, axis: Any = UNSET, norm: Any = None, *,
                 dim: Any = UNSET) -> Tensor:  # fmt: skip
        x = as_tensor(x)
        axes = ordered_axes(axis_of(op, dim, axis, -1), x.ndim, op)[:1]
        return transform(op, x, [n], axes, norm)

    return _document(function, op, first, example, about, _ONE)


def _along_many(op: str, transform: Transform, about: Any, first: str, example: str) -> Any:
    usual = (-2, -1) if "2" in op else None

    def function(x: Any, /, s: Any = None, axes: Any = UNSET, norm: Any = None, *,
                 dim: Any = UNSET) -> Tensor:  # fmt: skip
        x = as_tensor(x)
        wanted = axis_of(op, dim, axes, usual)
        points = None if s is None else list(s)
        if wanted is None and points is not None:
            wanted = range(-len(points), 0)
        places = (
            some_axes(None, x.ndim, op) if wanted is None
            else ordered_axes(tuple(wanted) if isinstance(wanted, range) else wanted, x.ndim, op)
        )  # fmt: skip
        if points is None:
            points = [None] * len(places)
        if len(points) != len(places):
            raise ArgumentError(f"{op}: {len(points)} numbers of points for {len(places)} axes",
                                remedy="give as many as axes")  # fmt: skip
        if not places:
            raise ArgumentError(f"{op} over no axes", remedy="name one or more")
        return transform(op, x, points, places, norm)

    return _document(function, op, first, example, about, _MANY)


fft = _along_one(
    "fft", _complex(True), _COMPLEX_IN, "The discrete Fourier transform along one axis.",
    "accel.fft.fft(accel.asarray([1.0, 0.0, 0.0])).tolist()\n[(1+0j), (1+0j), (1+0j)]",
)  # fmt: skip
ifft = _along_one(
    "ifft", _complex(False), _COMPLEX_IN, "The inverse of `fft`.",
    "accel.fft.ifft(accel.asarray([2.0, 0.0])).tolist()\n[(1+0j), (1+0j)]",
)  # fmt: skip
rfft = _along_one(
    "rfft", _to_half, _REAL_IN, "Half of the spectrum of real numbers; the other half mirrors it.",
    "accel.fft.rfft(accel.asarray([1.0, 2.0, 3.0, 4.0])).tolist()\n"
    "[(10+0j), (-2+2j), (-2+0j)]",
)  # fmt: skip
irfft = _along_one(
    "irfft", _from_half, _HALF_IN, "The inverse of `rfft`.",
    "accel.fft.irfft(accel.asarray([10.0, -2 + 2j, -2])).tolist()\n[1.0, 2.0, 3.0, 4.0]",
)  # fmt: skip
hfft = _along_one(
    "hfft", _from_hermitian, _HALF_IN,
    "The real spectrum of a signal with Hermitian symmetry, given its half.",
    "accel.fft.hfft(accel.asarray([1.0, 0.0, 0.0])).tolist()\n[1.0, 1.0, 1.0, 1.0]",
)  # fmt: skip
ihfft = _along_one(
    "ihfft", _to_hermitian, _REAL_IN, "The inverse of `hfft`.",
    "accel.fft.ihfft(accel.asarray([4.0, 0.0])).tolist()\n[(2-0j), (2-0j)]",
)  # fmt: skip
fftn = _along_many(
    "fftn", _complex(True), _COMPLEX_IN, "The discrete Fourier transform along several axes.",
    "accel.fft.fftn(accel.ones((2, 2))).tolist()\n[[(4+0j), 0j], [0j, 0j]]",
)  # fmt: skip
ifftn = _along_many(
    "ifftn", _complex(False), _COMPLEX_IN, "The inverse of `fftn`.",
    "accel.fft.ifftn(accel.ones((2, 2))).tolist()\n[[(1+0j), 0j], [0j, 0j]]",
)  # fmt: skip
rfftn = _along_many(
    "rfftn", _to_half, _REAL_IN, "`rfft` along the last of the axes, `fft` along the others.",
    "accel.fft.rfftn(accel.ones((3, 4))).shape\n(3, 3)",
)  # fmt: skip
irfftn = _along_many(
    "irfftn", _from_half, _HALF_IN, "The inverse of `rfftn`.",
    "accel.fft.irfftn(accel.ones((3, 3))).shape\n(3, 4)",
)  # fmt: skip
fft2 = _along_many(
    "fft2", _complex(True), _COMPLEX_IN, "`fftn` along two axes.",
    "accel.fft.fft2(accel.ones((5, 2, 2))).shape\n(5, 2, 2)",
)  # fmt: skip
ifft2 = _along_many(
    "ifft2", _complex(False), _COMPLEX_IN, "`ifftn` along two axes.",
    "accel.fft.ifft2(accel.ones((5, 2, 2))).shape\n(5, 2, 2)",
)  # fmt: skip
rfft2 = _along_many(
    "rfft2", _to_half, _REAL_IN, "`rfftn` along two axes.",
    "accel.fft.rfft2(accel.ones((5, 2, 2))).shape\n(5, 2, 2)",
)  # fmt: skip
irfft2 = _along_many(
    "irfft2", _from_half, _HALF_IN, "`irfftn` along two axes.",
    "accel.fft.irfft2(accel.ones((5, 2, 2))).shape\n(5, 2, 2)",
)  # fmt: skip


# -- frequencies ----------------------------------------------------------------------------
def _frequencies(op: str, n: Any, d: Any, dtype: Any, device: Any, half: bool) -> Tensor:
    """Computed in float64, as NumPy does, and rounded once."""
    n = _points(op, n, 0)
    wanted: DType = dtypes.float32 if dtype is None else dtypes.to_dtype(dtype)
    if wanted.kind != "f" or n < 1:
        raise ArgumentError(f"{op} of {n} points in {wanted}",
                            remedy="give 1 or more, and a real floating dtype")  # fmt: skip
    if half:
        place = record("iota", shape=(n // 2 + 1,))
    else:
        place = record("iota", shape=(n,))
        place = record("where", record("lt", place, (n + 1) // 2), place, record("sub", place, n))
    step = n * float(d)
    unit = 1 / step if step else math.copysign(math.inf, step)
    found = record("mul", record("cast", place, dtype=dtypes.float64), unit)
    return finished(record("cast", found, dtype=wanted), device)


@public
def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies that the elements of `fft` stand for, in cycles per unit of `d`.

    Parameters
    ----------
    n
        The number of points.
    d
        The distance between them.
    dtype
        Real floating; float32 by default.
    device
        None, or where Tensors are made.

    Raises
    ------
    ArgumentError
        For fewer than one point, and for another dtype.

    Examples
    --------
    >>> import accel
    >>> accel.fft.fftfreq(4, d=0.5).tolist()
    [0.0, 0.5, -1.0, -0.5]
    """
    return _frequencies("fftfreq", n, d, dtype, device, half=False)


@public
def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies that the elements of `rfft` stand for; see `fftfreq`.

    Raises
    ------
    ArgumentError
        For fewer than one point, and for another dtype.

    Examples
    --------
    >>> import accel
    >>> accel.fft.rfftfreq(4, d=0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    return _frequencies("rfftfreq", n, d, dtype, device, half=True)


def _shift(op: str, sign: int, first: str, example: str) -> Any:
    def function(x: Any, /, axes: Any = UNSET, *, dim: Any = UNSET) -> Tensor:
        x = as_tensor(x)
        wanted = axis_of(op, dim, axes)
        places = some_axes(wanted, x.ndim, op)
        shift = tuple(sign * (x.shape[a] // 2) for a in places)
        return roll(x, shift=shift, axis=places)

    function.__name__ = function.__qualname__ = op
    function.__doc__ = f"""{first}

Parameters
----------
x
    A Tensor or an array.
axes, dim
    The axes along which to move; all by default.

Raises
------
AxisError
    For an axis that is not there.

Examples
--------
>>> import accel
>>> {example}
"""
    return public(function)


fftshift = _shift(
    "fftshift", 1, "The elements moved so that the frequency 0 stands in the middle.",
    "accel.fft.fftshift(accel.asarray([0, 1, 2, -2, -1])).tolist()\n[-2, -1, 0, 1, 2]",
)  # fmt: skip
ifftshift = _shift(
    "ifftshift", -1, "The inverse of `fftshift`.",
    "accel.fft.ifftshift(accel.asarray([-2, -1, 0, 1, 2])).tolist()\n[0, 1, 2, -2, -1]",
)  # fmt: skip
