"""NumPy's own functions on Tensors: recorded, so that a NumPy function compiles as it is.

`UFUNCS` says which op stands for a ufunc, `SPECIAL` for one of SciPy; `array_function` finds the
function for any other in `numerics.HANDLERS`. A function that neither names raises: silently
computing the value in NumPy would drop it from gradients and compiled graphs. ``np.asarray(t)``
asks for the value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError, UnsupportedFunctionError
from ..functions import composed, elementwise, linear_algebra, ordering, reductions
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = ["UFUNCS", "array_function", "array_ufunc"]

_SAME = """
    add subtract multiply divide true_divide floor_divide remainder fmod negative positive absolute
    sign exp exp2 expm1 log log2 log10 log1p sqrt square reciprocal sin cos tan arcsin arccos
    arctan arctan2 hypot sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg bitwise_and
    bitwise_or bitwise_xor greater greater_equal less less_equal equal not_equal logical_and
    logical_or logical_xor logical_not maximum minimum fmax fmin isfinite isinf isnan signbit
    copysign nextafter floor ceil trunc logaddexp heaviside
"""


def _power(x: Any, y: Any) -> Tensor:
    """NumPy's power takes floats to a float: the op does so by its promotion."""
    return record("pow", x, y)


def _float_power(x: Any, y: Any) -> Tensor:
    return record("pow", _converted(x, np.float64), _converted(y, np.float64))


def _converted(x: Any, dtype: Any) -> Any:
    """`x` in another dtype; Python numbers, which are exact, stay as they are."""
    return x if type(x) in (bool, int, float, complex) else record("cast", x, dtype=dtype)


def _logaddexp2(x: Any, y: Any) -> Tensor:
    top, low = record("maximum", x, y), record("minimum", x, y)
    gap = record("sub", low, top)
    equal = record("eq", low, top)  # inf - inf is NaN where the result is inf + 1
    gap = record("where", equal, 0.0, gap)
    tail = record("log1p", record("exp2", gap))
    return record("add", top, record("mul", tail, 1.4426950408889634))


def _divmod(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    return record("floor_divide", x, y), record("remainder", x, y)


def _modf(x: Any) -> tuple[Tensor, Tensor]:
    """Fraction and whole part, both with the operand's sign; infinities have no fraction."""
    whole = record("trunc", x)
    fraction = record("where", record("isinf", x), 0.0, record("sub", x, whole))
    return record("copysign", fraction, x), whole


def _ldexp(x: Any, exponent: Any) -> Tensor:
    x = as_tensor(x)
    return record("mul", x, record("exp2", record("cast", exponent, dtype=x.dtype)))


#: What stands for each ufunc.
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    **{getattr(np, name): getattr(elementwise, name) for name in _SAME.split()},
    np.mod: elementwise.remainder, np.power: _power, np.float_power: _float_power,
    np.fabs: elementwise.abs, np.rint: elementwise.round, np.conjugate: elementwise.conj,
    np.degrees: elementwise.rad2deg, np.radians: elementwise.deg2rad,
    np.invert: elementwise.bitwise_invert, np.left_shift: elementwise.bitwise_left_shift,
    np.right_shift: elementwise.bitwise_right_shift, np.matmul: linear_algebra.matmul,
    np.gcd: composed.gcd, np.lcm: composed.lcm, np.logaddexp2: _logaddexp2,
    np.divmod: _divmod, np.modf: _modf, np.ldexp: _ldexp,
}  # fmt: skip
if hasattr(np, "vecdot"):
    UFUNCS[np.vecdot] = linear_algebra.vecdot

#: Ufuncs of `scipy.special` that are accel's by another name or the same.
SPECIAL: dict[str, Callable[..., Any]] = {
    **{name: getattr(elementwise, name) for name in "erf erfc log1p expm1 exp2".split()},
    "logit": composed.logit, "xlogy": composed.xlogy, "expit": elementwise.sigmoid,
}  # fmt: skip


def _special(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """What stands for a ufunc of SciPy, whose modules are there if it is one of theirs."""
    function = SPECIAL.get(ufunc.__name__)
    theirs = getattr(sys.modules.get("scipy.special._ufuncs"), ufunc.__name__, None)
    return function if theirs is ufunc else None


#: What ``ufunc.reduce`` and ``ufunc.accumulate`` are.
REDUCTIONS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: reductions.sum, np.multiply: reductions.prod, np.maximum: reductions.amax,
    np.minimum: reductions.amin, np.logical_and: reductions.all, np.logical_or: reductions.any,
    np.logaddexp: reductions.logsumexp,
}  # fmt: skip
ACCUMULATIONS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: reductions.cumsum, np.multiply: reductions.cumprod,
    np.maximum: ordering.cummax, np.minimum: ordering.cummin,
}  # fmt: skip


def _unsupported(name: str) -> UnsupportedFunctionError:
    return UnsupportedFunctionError(
        f"{name} is not recorded on accel Tensors",
        remedy="use accel functions, or np.asarray(t) outside of compiled functions to leave "
        "accel with the values",
    )


def check_options(name: str, options: dict[str, Any]) -> None:
    """Refuse NumPy's options that accel does not have, unless they say nothing.

    Raises
    ------
    ArgumentError
        Naming the option.
    """
    harmless = {"casting": "same_kind", "order": "K", "subok": True, "where": True}
    for option, value in options.items():
        if value is None or (option in harmless and value is harmless[option]):
            continue
        if option in harmless and isinstance(value, str) and value == harmless[option]:
            continue
        if isinstance(value, type(np._NoValue)):
            continue
        remedy = f"leave out {option}="
        if option == "out":
            remedy = "assign the result, x = f(y): accel does not write into arrays"
        raise ArgumentError(f"{name} on Tensors does not take {option}=", remedy=remedy)


@public
def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """``__array_ufunc__``: NumPy's element-wise functions, their reductions and products.

    Raises
    ------
    UnsupportedFunctionError
        A TypeError that names the ufunc, or its method, that accel does not record.
    ArgumentError
        For ``out=`` and other options that accel does not have.
    """
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if any(_foreign(x) for x in inputs):
        return NotImplemented
    if options.get("out") is not None and not any(o is not None for o in options["out"]):
        options.pop("out")
    if method == "__call__":
        function = UFUNCS.get(ufunc) or _special(ufunc)
        if function is None:
            raise _unsupported(name)
        dtype = options.pop("dtype", None)
        extra = {k: options.pop(k) for k in ("axis",) if k in options and ufunc is _VECDOT}
        check_options(name, options)
        operands = [_operand(x) for x in inputs]
        if dtype is not None:
            operands = [_converted(x, dtype) for x in operands]
        return function(*operands, **extra)
    if method in ("reduce", "accumulate"):
        return _folded(name, ufunc, method, inputs, options)
    if method == "outer":
        return _outer(name, ufunc, inputs, options)
    raise _unsupported(name)


_VECDOT = getattr(np, "vecdot", None)


def _foreign(x: Any) -> bool:
    """Whether `x` is of a class with its own idea of NumPy's functions."""
    theirs = getattr(type(x), "__array_ufunc__", None)
    return theirs is not None and not isinstance(x, (Tensor, np.ndarray, np.generic))


def _operand(x: Any) -> Any:
    """Lists are arrays to NumPy."""
    return np.asarray(x) if isinstance(x, (list, tuple)) else x


def _folded(
    name: str, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]
) -> Tensor:
    function = (REDUCTIONS if method == "reduce" else ACCUMULATIONS).get(ufunc)
    if function is None:
        raise _unsupported(name)
    names = ("axis", "dtype", "out", "keepdims", "initial", "where")
    options = {**dict(zip(names, inputs[1:], strict=False)), **options}
    accepted: dict[str, Any] = {"axis": options.pop("axis", 0)}
    if method == "reduce":
        accepted["keepdims"] = bool(options.pop("keepdims", False))
    dtype = options.pop("dtype", None)
    check_options(name, options)
    x = as_tensor(inputs[0])
    return function(x if dtype is None else record("cast", x, dtype=dtype), **accepted)


def _outer(
    name: str, ufunc: np.ufunc, inputs: tuple[Any, ...], options: dict[str, Any]
) -> Tensor:
    function = UFUNCS.get(ufunc)
    if function is None:
        raise _unsupported(name)
    check_options(name, options)
    x, y = (as_tensor(_operand(v)) for v in inputs)
    return function(record("reshape", x, shape=x.shape + (1,) * y.ndim), y)


@public
def array_function(
    self: Tensor, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
) -> Any:
    """``__array_function__``: NumPy's other functions.

    Raises
    ------
    UnsupportedFunctionError
        A TypeError that names the function that accel does not record.
    """
    from .numerics import HANDLERS  # with those of the modules before it

    if not all(issubclass(t, (Tensor, np.ndarray)) for t in types):
        return NotImplemented
    handler = HANDLERS.get(function)
    if handler is None:
        raise _unsupported(f"{function.__module__}.{function.__qualname__}")
    try:
        return handler(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, UnsupportedFunctionError) or "argument" not in str(error):
            raise
        raise UnsupportedFunctionError(
            f"numpy.{function.__name__} on Tensors: {str(error).partition('() ')[2] or error}",
            remedy="leave that argument out",
        ) from None
