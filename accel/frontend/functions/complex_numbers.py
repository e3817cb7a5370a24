"""Complex numbers from their parts, and what only they have; torch's names and NumPy's."""

from __future__ import annotations

import math
from typing import Any

from ...errors import DTypeError, ShapeError
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .elementwise import conj
from .shapes import matrix_transpose

__all__ = ["adjoint", "angle", "complex", "iscomplex", "isreal", "polar", "sgn",
           "view_as_complex", "view_as_real"]  # fmt: skip


@public
def complex(real: Any, imag: Any, /) -> Tensor:
    """Complex numbers of their real and imaginary parts, which broadcast.

    Parameters
    ----------
    real, imag
        Real; those of 64-bit floats make complex128, all others complex64.

    Raises
    ------
    DTypeError
        For complex operands.

    Examples
    --------
    >>> import accel
    >>> accel.complex(accel.asarray([1.0, 2.0]), -1.0).tolist()
    [(1-1j), (2-1j)]
    """
    return record("complex", real, imag)


@public
def polar(abs: Any, angle: Any, /) -> Tensor:
    """Complex numbers of a modulus and an angle in radians.

    Raises
    ------
    DTypeError
        For complex operands.

    Examples
    --------
    >>> import accel
    >>> accel.polar(accel.asarray([2.0]), 0.0).tolist()
    [(2+0j)]
    """
    return complex(record("mul", abs, record("cos", angle)),
                   record("mul", abs, record("sin", angle)))  # fmt: skip


@public
def angle(x: Any, /, deg: bool = False) -> Tensor:
    """The angle of complex numbers in (-π, π]; of real ones 0, and π where they are negative.

    Parameters
    ----------
    x
        Of any dtype; NaN has no angle.
    deg
        Whether in degrees.

    Examples
    --------
    >>> import accel
    >>> accel.angle(accel.asarray([1j, 1.0]), deg=True).tolist()
    [90.0, 0.0]
    """
    x = as_tensor(x)
    found = record("atan2", record("imag", x), record("real", x))
    return record("mul", found, 180 / math.pi) if deg else found


@public
def sgn(x: Any, /) -> Tensor:
    """torch's name for `sign` where numbers may be complex."""
    return record("sign", x)


@public
def isreal(x: Any, /) -> Tensor:
    """Whether the imaginary part is 0.

    Examples
    --------
    >>> import accel
    >>> accel.isreal(accel.asarray([1 + 0j, 1j])).tolist()
    [True, False]
    """
    return record("eq", record("imag", x), 0)


@public
def iscomplex(x: Any, /) -> Tensor:
    """Whether the imaginary part is not 0."""
    return record("ne", record("imag", x), 0)


@public
def view_as_real(x: Any, /) -> Tensor:
    """Real and imaginary parts along a new last axis.

    Values are immutable, so nothing is shared visibly.

    Raises
    ------
    DTypeError
        For real operands.

    Examples
    --------
    >>> import accel
    >>> accel.view_as_real(accel.asarray([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    x = as_tensor(x)
    if x.dtype.kind != "c":
        raise DTypeError(f"view_as_real of {x.dtype}", remedy="give a complex tensor")
    return record("stack", record("real", x), record("imag", x), axis=-1)


@public
def view_as_complex(x: Any, /) -> Tensor:
    """Complex numbers of the pairs along the last axis.

    Raises
    ------
    DTypeError
        For operands that are not floating.
    ShapeError
        Where the last extent is not 2.

    Examples
    --------
    >>> import accel
    >>> accel.view_as_complex(accel.asarray([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise DTypeError(f"view_as_complex of {x.dtype}", remedy="give a floating tensor")
    if not x.ndim or x.shape[-1] != 2:
        raise ShapeError(f"view_as_complex of shape {list(x.shape)}",
                         remedy="give pairs: a last axis of extent 2")  # fmt: skip
    return complex(x[..., 0], x[..., 1])


@public
def adjoint(x: Any, /) -> Tensor:
    """The last two axes swapped, conjugate.

    Raises
    ------
    ShapeError
        For fewer than two dimensions.
    """
    x = matrix_transpose(x)
    return conj(x) if x.dtype.kind == "c" else x
