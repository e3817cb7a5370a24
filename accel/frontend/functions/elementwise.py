"""Element-wise functions: one line each, made from the registry's declarations.

`function_of(name)` gives the public function of an op: its operands first, its attributes by
position or name. Where an argument means more than that, a definition stands below. Names of
the standard and of torch are both there; the aliases are at the end.
"""

from __future__ import annotations

import inspect
import math
from builtins import abs as builtin_abs
from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError
from ...ir import dtypes
from ...ir.op import REQUIRED, Op, get_op, resolve
from ...ir.types import TensorType
from ...runtime.state import overriding
from ..tensors.arguments import public
from ..tensors.recipes import transitions_of
from ..tensors.recording import OVERTAKEN, as_tensor, record, recorded
from ..tensors.tensor import Tensor, value_of

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "add_scalar", "addcdiv", "addcmul", "arccos",
    "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan",
    "atan2", "atanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "celu", "clamp", "clip", "conj",
    "copysign", "cos", "cosh", "deg2rad", "div", "divide", "elu", "eq", "equal", "erf", "erfc",
    "exp", "exp2", "expm1", "fix", "floor", "floor_divide", "fmax", "fmin", "fmod", "ge", "gelu",
    "greater", "greater_equal", "gt", "hardsigmoid", "hardswish", "hardtanh", "heaviside", "hypot",
    "imag", "isclose", "isfinite", "isinf", "isnan", "le", "leaky_relu", "lerp", "less",
    "less_equal", "log", "log10", "log1p", "log2", "log_sigmoid", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logsigmoid", "lt", "masked_fill", "maximum",
    "minimum", "mish", "mul", "mul_scalar", "multiply", "ne", "neg", "negative", "nextafter",
    "not_equal", "positive", "pow", "rad2deg", "real", "reciprocal", "relu", "relu6", "remainder",
    "round", "rsqrt", "selu", "sigmoid", "sign", "signbit", "silu", "sin", "sinh", "softplus",
    "softsign", "sqrt", "square", "sub", "subtract", "tan", "tanh", "tanhshrink", "true_divide",
    "trunc", "where",
]  # fmt: skip

Function = Callable[..., Tensor]

_OPERANDS = ("x", "y", "z")
_KINDS = {"b": "bool", "i": "integer", "f": "floating", "c": "complex"}


# -- from declaration to function ----------------------------------------------------------
def function_of(name: str, module: str = __name__) -> Function:
    """The public function of the op `name`, to be found by its name in `module`."""
    op = get_op(name)
    arity, attrs = op.arity[0], tuple(op.attrs)
    table = transitions_of(name)

    def apply_one(x: Any, /) -> Tensor:
        state = overriding()
        if type(x) is Tensor and (state is None or state.tracer is None):
            value = x._value
            try:
                found = table[value.recipe,]
                if found.usual:
                    return recorded(found, (value,))
            except KeyError:
                pass  # an application, or a Value, not met before
        return record(name, x)

    def apply_two(x: Any, y: Any, /) -> Tensor:
        return record(name, x, y)

    apply: Any = apply_one if arity == 1 else apply_two

    def overtake(native: Any) -> None:
        nonlocal apply
        apply = native

    def unary(x: Any, /) -> Tensor:
        return apply(x)

    def binary(x: Any, y: Any, /) -> Tensor:
        return apply(x, y)

    def general(*args: Any, **settings: Any) -> Tensor:
        extra = args[arity:]
        if len(extra) > len(attrs):
            raise TypeError(f"{name}() takes {arity + len(attrs)} arguments, got {len(args)}")
        return record(name, *args[:arity], **dict(zip(attrs, extra, strict=False)), **settings)

    plain = {1: unary, 2: binary}.get(arity, general)
    function: Any = general if attrs else plain
    if function in (unary, binary):
        OVERTAKEN.append((name, apply, overtake))
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    function.__signature__ = _signature(op)
    function.__doc__ = _document(op)
    return function


def _signature(op: Op) -> inspect.Signature:
    kind = inspect.Parameter
    parameters = [kind(n, kind.POSITIONAL_ONLY) for n in _OPERANDS[: op.arity[0]]]
    for name, default in op.attrs.items():
        given = kind.empty if default is REQUIRED else default
        parameters.append(kind(name, kind.POSITIONAL_OR_KEYWORD, default=given))
    return inspect.Signature(parameters)


def _document(op: Op) -> str:
    """The function's documentation, from the declaration."""
    arity = op.arity[0]
    names = ", ".join(_OPERANDS[:arity])
    kinds = [word for letter, word in _KINDS.items() if letter in op.kinds]
    if op.promote == "float":
        kinds = ["bool", "integer (both become float32)", *[k for k in kinds if k[0] in "fc"]]
    together = " Operands broadcast and take their common dtype." if arity > 1 else ""
    dtype = dtypes.float32 if "f" in op.kinds else dtypes.int64
    result = resolve(op, [TensorType(dtype, (3,))] * arity, {}).type.dtype
    call = ", ".join(["x"] * arity)
    values = "[0.25, 0.5, 0.75]" if "f" in op.kinds else "[1, 2, 3]"
    lines = [
        op.doc, "", "Parameters", "----------", names,
        f"    Tensors, arrays or numbers of {', '.join(kinds)} dtypes.{together}",
        *[f"{n}\n    Default {d!r}." for n, d in op.attrs.items()], "",
        "Returns", "-------", "Tensor",
        f"    Of the operand{'s' * (arity > 1)}' broadcast shape." if arity > 1
        else "    Of the operand's shape.", "",
        "Examples", "--------", ">>> import accel", f">>> x = accel.asarray({values})",
        f">>> y = accel.{op.name}({call})", ">>> y.shape, y.dtype", f"((3,), accel.{result})",
    ]  # fmt: skip
    if op.source:
        lines += ["", "References", "----------", op.source]
    return "\n".join(lines)


# -- arithmetic ----------------------------------------------------------------------------
mul = function_of("mul")
neg = function_of("neg")
abs = function_of("abs")
sign = function_of("sign")
pow = function_of("pow")
square = function_of("square")
sqrt = function_of("sqrt")
rsqrt = function_of("rsqrt")
reciprocal = function_of("reciprocal")
floor_divide = function_of("floor_divide")
remainder = function_of("remainder")
fmod = function_of("fmod")
maximum = function_of("maximum")
minimum = function_of("minimum")
fmax = function_of("fmax")
fmin = function_of("fmin")
hypot = function_of("hypot")
copysign = function_of("copysign")
nextafter = function_of("nextafter")
heaviside = function_of("heaviside")
lerp = function_of("lerp")
floor = function_of("floor")
ceil = function_of("ceil")
trunc = function_of("trunc")
real = function_of("real")
imag = function_of("imag")
conj = function_of("conj")

# -- exponentials, logarithms, trigonometry ------------------------------------------------
exp = function_of("exp")
exp2 = function_of("exp2")
expm1 = function_of("expm1")
log = function_of("log")
log1p = function_of("log1p")
log2 = function_of("log2")
log10 = function_of("log10")
logaddexp = function_of("logaddexp")
sin = function_of("sin")
cos = function_of("cos")
tan = function_of("tan")
asin = function_of("asin")
acos = function_of("acos")
atan = function_of("atan")
atan2 = function_of("atan2")
sinh = function_of("sinh")
cosh = function_of("cosh")
tanh = function_of("tanh")
asinh = function_of("asinh")
acosh = function_of("acosh")
atanh = function_of("atanh")
erf = function_of("erf")
erfc = function_of("erfc")

# -- comparison, logic, bits ---------------------------------------------------------------
eq = function_of("eq")
ne = function_of("ne")
lt = function_of("lt")
le = function_of("le")
gt = function_of("gt")
ge = function_of("ge")
isclose = function_of("isclose")
isfinite = function_of("isfinite")
isinf = function_of("isinf")
isnan = function_of("isnan")
signbit = function_of("signbit")
logical_and = function_of("logical_and")
logical_or = function_of("logical_or")
logical_not = function_of("logical_not")
logical_xor = function_of("logical_xor")
bitwise_and = function_of("bitwise_and")
bitwise_or = function_of("bitwise_or")
bitwise_xor = function_of("bitwise_xor")
bitwise_invert = function_of("bitwise_invert")
bitwise_left_shift = function_of("bitwise_left_shift")
bitwise_right_shift = function_of("bitwise_right_shift")

# -- activations ---------------------------------------------------------------------------
relu = function_of("relu")
relu6 = function_of("relu6")
leaky_relu = function_of("leaky_relu")
sigmoid = function_of("sigmoid")
gelu = function_of("gelu")
elu = function_of("elu")
selu = function_of("selu")
celu = function_of("celu")
silu = function_of("silu")
mish = function_of("mish")
softplus = function_of("softplus")
softsign = function_of("softsign")
hardtanh = function_of("hardtanh")
hardswish = function_of("hardswish")
hardsigmoid = function_of("hardsigmoid")
logsigmoid = function_of("logsigmoid")
tanhshrink = function_of("tanhshrink")


# -- functions whose arguments need meaning ------------------------------------------------
def _scaled(y: Any, alpha: Any) -> Any:
    return y if isinstance(alpha, (int, float)) and alpha == 1 else record("mul", y, alpha)


def _with_factor(name: str, product: str) -> Function:
    """The public function of an op with a factor, which is an operand where it may change."""
    plain = function_of(name)

    def function(x: Any, y: Any, z: Any, /, value: Any = 1) -> Tensor:
        alike = {o.dtype if isinstance(o, Tensor) else None for o in (x, y, z)}
        traced = isinstance(value, Tensor) and value_of(value).type.weak
        if not (traced or type(value) is float) or not _steps_apart(alike):
            return plain(x, y, z, value=value)
        return record("add", x, record("mul", record(product, y, z), value))

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = plain.__module__, plain.__doc__
    function.__signature__ = plain.__signature__  # type: ignore[attr-defined]
    return function


def _steps_apart(dtypes_of: set[dtypes.DType | None]) -> bool:
    """Whether the op's steps one by one give what it gives: of operands of one dtype, no halves,
    which it rounds once."""
    dtype = dtypes_of.pop()
    return not dtypes_of and dtype is not None and dtype.is_inexact and dtype.itemsize >= 4


addcmul = _with_factor("addcmul", "mul")
addcdiv = _with_factor("addcdiv", "div")


@public
def add(x: Any, y: Any, /, *, alpha: Any = 1) -> Tensor:
    """``x + alpha * y``; integers wrap, of bools the logical or.

    Examples
    --------
    >>> import accel
    >>> accel.add(accel.asarray([1.0, 2.0]), 1, alpha=10).tolist()
    [11.0, 12.0]
    """
    return record("add", x, _scaled(y, alpha))


@public
def sub(x: Any, y: Any, /, *, alpha: Any = 1) -> Tensor:
    """``x - alpha * y``; integers wrap.

    Examples
    --------
    >>> import accel
    >>> accel.sub(5, accel.asarray([1, 2])).tolist()
    [4, 3]
    """
    return record("sub", x, _scaled(y, alpha))


@public
def div(x: Any, y: Any, /, *, rounding_mode: str | None = None) -> Tensor:
    """``x / y``; integers become float32.

    Parameters
    ----------
    x, y
        Tensors, arrays or numbers; they broadcast.
    rounding_mode
        None for the true quotient, "floor" or "trunc" for a rounded one, which keeps
        integer dtypes.

    Raises
    ------
    ArgumentError
        For another rounding mode.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([7, -7])
    >>> accel.div(x, 2).tolist(), accel.div(x, 2, rounding_mode="trunc").tolist()
    ([3.5, -3.5], [3, -3])
    """
    if rounding_mode is None:
        return record("div", x, y)
    if rounding_mode == "floor":
        return record("floor_divide", x, y)
    if rounding_mode != "trunc":
        raise ArgumentError(f"div: rounding_mode {rounding_mode!r}",
                            remedy="use None, 'floor' or 'trunc'")  # fmt: skip
    x, y = as_tensor(x), as_tensor(y)
    if dtypes.promote(x.dtype, y.dtype).is_integer:
        return record("floor_divide", record("sub", x, record("fmod", x, y)), y)
    return record("trunc", record("div", x, y))


@public
def round(x: Any, /, decimals: int = 0) -> Tensor:
    """The nearest whole number, halves to the even one; integers stay.

    Parameters
    ----------
    x
        Of bool, integer or floating dtype.
    decimals
        Digits behind the point to keep; negative ones round tens, hundreds …

    Examples
    --------
    >>> import accel
    >>> accel.round(accel.asarray([0.5, 1.5, -2.7])).tolist()
    [0.0, 2.0, -3.0]
    """
    if decimals == 0:
        return record("round", x)
    scale = 10.0 ** builtin_abs(decimals)
    if decimals > 0:
        return record("div", record("round", record("mul", x, scale)), scale)
    scaled = record("mul", record("round", record("div", x, scale)), scale)
    kept = as_tensor(x).dtype
    return scaled if kept.is_floating else record("cast", scaled, dtype=kept)


@public
def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """The elements, not below `min` and not above `max` (which wins where they cross).

    Parameters
    ----------
    x
        Of bool, integer or floating dtype.
    min, max
        Numbers, arrays or Tensors that broadcast; None for no bound.

    Examples
    --------
    >>> import accel
    >>> accel.clip(accel.asarray([-2.0, 0.5, 3.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    if min is None:
        return as_tensor(x) if max is None else record("minimum", x, max)
    return record("maximum", x, min) if max is None else record("clamp", x, min, max)


@public
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """`x` where the condition is true, `y` elsewhere.

    Parameters
    ----------
    condition
        Of dtype bool.
    x, y
        Tensors, arrays or numbers; all three broadcast. Without them the result is
        ``nonzero(condition)``.

    Raises
    ------
    DTypeError
        For a condition that is not bool.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([-1.0, 2.0])
    >>> accel.where(x > 0, x, 0).tolist()
    [0.0, 2.0]
    """
    if x is None and y is None:
        from .gathering import nonzero

        return nonzero(condition)
    if x is None or y is None:
        raise ArgumentError("where: one value of two", remedy="give both values or none")
    return record("where", condition, x, y)


@public
def masked_fill(x: Any, mask: Any, value: Any, /) -> Tensor:
    """`x` with `value` wherever the mask is true; of x's dtype.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([1.0, -2.0])
    >>> accel.masked_fill(x, x < 0, 0).tolist()
    [1.0, 0.0]
    """
    x = as_tensor(x)
    if hasattr(value, "dtype"):
        value = record("cast", value, dtype=x.dtype)
    return record("where", mask, value, x)


@public
def deg2rad(x: Any, /) -> Tensor:
    """Degrees as radians."""
    return record("mul", x, math.pi / 180)


@public
def rad2deg(x: Any, /) -> Tensor:
    """Radians as degrees."""
    return record("mul", x, 180 / math.pi)


def positive(x: Any, /) -> Tensor:
    """The numbers as they are."""
    return as_tensor(x)


# -- other names for the same ---------------------------------------------------------------
subtract, multiply, divide, true_divide, negative = sub, mul, div, div, neg
add_scalar, mul_scalar = add, mul
absolute, clamp, fix = abs, clip, trunc
equal, not_equal, less, less_equal, greater, greater_equal = eq, ne, lt, le, gt, ge
arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
bitwise_not, log_sigmoid = bitwise_invert, logsigmoid
