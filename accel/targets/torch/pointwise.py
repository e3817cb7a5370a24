"""Lowerings of the pointwise ops.

Most are torch's functions of the same name. The rest is where torch differs from NumPy:
integer division traps, `sign` drops NaN, casts of what does not fit are undefined.
"""

from __future__ import annotations

import math
from operator import methodcaller
from typing import Any

import numpy as np

from ...ir.node import Node
from ...ir.ops.pointwise import constant_value
from ..reference import run_node
from .bridge import from_host, to_host
from .lowering import Context, Kernel, lowers

__all__: list[str] = []

SAME_NAME = """
    mul exp expm1 log log2 log10 sin cos tan asin acos atan sinh cosh tanh
    asinh acosh atanh erf erfc copysign hypot atan2 logaddexp nextafter rsqrt reciprocal
    lerp maximum minimum fmax fmin eq ne lt le gt ge where
    logical_not bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift
    isfinite isinf isnan signbit neg square sigmoid relu
""".split()
OTHER_NAME = {"div": "true_divide", "bitwise_invert": "bitwise_not"}


@lowers(*SAME_NAME, *OTHER_NAME)
def _direct(context: Context, node: Node) -> Kernel | None:
    name = node.op.name
    return getattr(context.torch, OTHER_NAME.get(name, name))


@lowers("logical_and", "logical_or", "logical_xor")
def _logical(context: Context, node: Node) -> Kernel:
    """Of truth values: torch first takes operands to one dtype, be it one without logic."""
    torch = context.torch
    function = getattr(torch, node.op.name)
    return lambda x, y: function(x.to(torch.bool), y.to(torch.bool))


@lowers("add", "sub")
def _sum(context: Context, node: Node) -> Kernel:
    """Of complex numbers by parts: torch multiplies by a complex 1 first, and 0 · inf is NaN."""
    torch = context.torch
    function = getattr(torch, node.op.name)
    if node.type.dtype.kind != "c":
        return function
    real = torch.view_as_real
    return lambda x, y: torch.view_as_complex(function(real(x), real(y)))


@lowers("log1p")
def _log1p(context: Context, node: Node) -> Kernel:
    """Of complex infinities beside NaN torch loses the infinity, unlike its own `log`."""
    torch = context.torch
    if node.type.dtype.kind != "c":
        return torch.log1p
    return lambda x: torch.where(torch.isinf(x), torch.log(x), torch.log1p(x))


@lowers("complex")
def _complex(context: Context, node: Node) -> Kernel:
    torch, part = context.torch, context.dtype(node.type.dtype.real)
    return lambda x, y: torch.complex(x.to(part), y.to(part))


@lowers("exp2")
def _exp2(context: Context, node: Node) -> Kernel:
    """Torch takes complex powers of 2 by exp(x ln 2), which loses digits as x grows."""
    torch = context.torch
    if node.type.dtype.name != "complex64":
        return torch.exp2
    return lambda x: torch.exp2(x.to(torch.complex128)).to(torch.complex64)


@lowers("abs")
def _abs(context: Context, node: Node) -> Kernel:
    """The modulus is NumPy's on the CPU: torch's may be an ULP off."""
    torch, kind = context.torch, node.inputs[0].type.dtype.kind
    if kind in "bu":
        return lambda x: x
    if kind != "c" or not context.on_cpu:
        return torch.abs
    narrow = node.type.dtype.numpy

    def modulus(x: Any) -> Any:
        with np.errstate(over="ignore"):
            found = np.abs(to_host(torch, x).astype(np.complex128)).astype(narrow)
        return from_host(torch, np.asarray(found))

    return modulus


@lowers("real", "conj", "floor", "ceil", "trunc", "round", "stop_gradient")
def _identity_of_some(context: Context, node: Node) -> Kernel:
    """Functions that leave some kinds of numbers as they are."""
    name, kind = node.op.name, node.inputs[0].type.dtype.kind
    unchanged = {"real": "biuf", "conj": "biuf", "stop_gradient": "biufc"}
    if kind in unchanged.get(name, "biu"):
        return lambda x: x
    # The lazy conjugate of torch is a flag on the tensor, which NumPy could not read.
    return getattr(context.torch, {"conj": "conj_physical"}.get(name, name))


@lowers("sqrt")
def _sqrt(context: Context, node: Node) -> Kernel:
    """NumPy's on the CPU: torch's is MKL's there, whose last bit is wrong at times."""
    torch = context.torch
    if not context.on_cpu or node.type.dtype.name not in ("float32", "float64"):
        return torch.sqrt

    def run(x: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return from_host(torch, np.asarray(np.sqrt(to_host(torch, x))))

    return run


@lowers("imag")
def _imag(context: Context, node: Node) -> Kernel:
    torch = context.torch
    return torch.imag if node.inputs[0].type.dtype.kind == "c" else torch.zeros_like


@lowers("sign")
def _sign(context: Context, node: Node) -> Kernel | None:
    torch, kind = context.torch, node.type.dtype.kind
    if kind == "f":
        return lambda x: torch.where(torch.isnan(x), x, torch.sign(x))
    if kind != "c":
        return torch.sign
    return None  # what torch has is NaN at infinities


@lowers("clamp")
def _clamp(context: Context, node: Node) -> Kernel:
    torch = context.torch
    return lambda x, low, high: torch.minimum(torch.maximum(x, low), high)


@lowers("addcmul", "addcdiv")
def _add_scaled(context: Context, node: Node) -> Kernel:
    function, value = getattr(context.torch, node.op.name), node.attrs["value"]
    return lambda x, a, c: function(x, a, c, value=value)


@lowers("lgamma", "digamma", "polygamma", "erfinv")
def _special(context: Context, node: Node) -> Kernel | None:
    """In double precision, and NumPy's where that is asked for: torch loses digits near roots."""
    torch, name, narrow = context.torch, node.op.name, context.dtype(node.type.dtype)
    if narrow is torch.float64:
        return None
    if name in ("digamma", "polygamma"):
        n = node.attrs.get("n", 0)
        return lambda x: _polygamma(torch, n, x.to(torch.float64)).to(narrow)
    return lambda x: getattr(torch, name)(x.to(torch.float64)).to(narrow)


def _polygamma(torch: Any, n: int, x: Any) -> Any:
    """torch's, which at poles and infinities follows the formulas it computes by."""
    found = torch.polygamma(n, x)
    if n == 0:
        return found
    pole = (x <= 0) & (x == x.floor())
    at_pole = math.inf if n % 2 else torch.where(x == 0, -1 / x, math.nan)
    found = torch.where(pole, at_pole, found)
    return torch.where(x == math.inf, 0.0 if n % 2 else -0.0, found)


# -- powers and whole quotients -----------------------------------------------------------
@lowers("pow")
def _pow(context: Context, node: Node) -> Kernel:
    torch, dtype = context.torch, node.type.dtype
    exponent = constant_value(node.inputs[1])
    if exponent in (2, 3) and node.type.shape == node.inputs[0].type.shape:
        return lambda x, y: torch.pow(x, exponent)
    if dtype.kind in "fc" or dtype.kind == "u":
        return torch.pow

    def integers(x: Any, y: Any) -> Any:
        odd = 1 - 2 * (y & 1)
        inverse = torch.where(x == 1, 1, torch.where(x == -1, odd, 0)).to(x.dtype)
        return torch.where(y < 0, inverse, torch.pow(x, y.clamp(min=0)))

    return integers


def _safe_divisor(node: Node) -> bool:
    """Whether the divisor is a number that does not trap."""
    divisor = constant_value(node.inputs[1])
    return divisor is not None and divisor not in (0, -1)


@lowers("floor_divide")
def _floor_divide(context: Context, node: Node) -> Kernel:
    torch, kind = context.torch, node.type.dtype.kind
    if kind == "f":
        return lambda x, y: torch.where(torch.isinf(x), x / y, torch.floor_divide(x, y))
    if _safe_divisor(node):
        return torch.floor_divide
    if kind == "u":
        return lambda x, y: torch.where(y == 0, 0, torch.floor_divide(x, y + (y == 0)))

    def integers(x: Any, y: Any) -> Any:
        whole = torch.floor_divide(x, torch.where((y == 0) | (y == -1), 1, y))
        return torch.where(y == 0, 0, torch.where(y == -1, torch.neg(x), whole))

    return integers


@lowers("remainder", "fmod")
def _remainder(context: Context, node: Node) -> Kernel:
    torch, kind = context.torch, node.type.dtype.kind
    function = getattr(torch, node.op.name)
    if kind != "f":
        if _safe_divisor(node):
            return function
        # A divisor of 1 gives 0, which is right for 0 (by definition) and -1.
        traps = (lambda y: (y == 0) | (y == -1)) if kind == "i" else (lambda y: y == 0)
        return lambda x, y: function(x, torch.where(traps(y), 1, y))
    return _float_remainder(context, node, function)


def _float_remainder(context: Context, node: Node, function: Kernel) -> Kernel:
    """float32 goes through float64: torch's own gives NaN where the quotient overflows."""
    torch, narrow = context.torch, context.dtype(node.type.dtype)
    wide = torch.float64 if narrow is torch.float32 else narrow

    def fmod(x: Any, y: Any) -> Any:
        return function(x.to(wide), y.to(wide)).to(narrow)

    def remainder(x: Any, y: Any) -> Any:
        rest = fmod(x, y)
        return torch.where(rest == 0, torch.copysign(rest, y), rest)  # a zero has y's sign

    return fmod if node.op.name == "fmod" else remainder


# -- casts ----------------------------------------------------------------------------------
@lowers("cast")
def _cast(context: Context, node: Node) -> Kernel | None:
    source, target = node.inputs[0].type.dtype, node.type.dtype
    torch, wanted = context.torch, context.dtype(target)
    if target.name == "uint64" and source.kind in "fc":
        return None  # saturates where int64 does not
    if source.kind in "fc" and target.kind in "iu":
        convert = _float_to_integer(torch, wanted)
    else:
        convert = methodcaller("to", wanted)
    if source.name == "float64" and target.name == "float16":  # bfloat16 is by floats everywhere
        return lambda x: convert(_to_odd_float(torch, x))
    if source.kind == "c" and target.kind not in "cb":
        return lambda x: convert(torch.real(x))
    return convert


def _to_odd_float(torch: Any, x: Any) -> Any:
    """Doubles as floats that round on as the doubles do: torch's way to halves is by floats.

    Of the two floats beside a double that is none, the odd one is no tie between two halves.
    (S. Boldo and G. Melquiond: When double rounding is odd, 2005.)
    """
    near = x.to(torch.float32)
    back = near.to(torch.float64)
    beyond = torch.nextafter(near, torch.where(back < x, math.inf, -math.inf).to(torch.float32))
    odd = (near.view(torch.int32) & 1).to(torch.bool)
    return torch.where((back == x) | odd, near, beyond)


def _float_to_integer(torch: Any, wanted: Any) -> Kernel:
    """NaN is 0, what lies beyond int64 saturates, then the low bits are kept."""
    most, least, above = 2**63 - 1, -(2.0**63), 2.0**63
    below = float(np.nextafter(above, 0.0))  # the greatest double that int64 holds

    def run(x: Any) -> Any:
        wide = torch.nan_to_num(x.to(torch.float64), 0.0, torch.inf, -torch.inf)
        whole = wide.clamp(least, below).to(torch.int64)
        return torch.where(wide >= above, most, whole).to(wanted)

    return run


# -- indices ----------------------------------------------------------------------------------
@lowers("check_index")
def _check_index(context: Context, node: Node) -> Kernel | None:
    torch, size = context.torch, node.attrs["size"]
    least = -size if node.attrs["wrap"] else 0

    def run(index: Any) -> Any:
        wide = index.to(torch.int64)
        if bool(((wide >= size) | (wide < least)).any()):
            run_node(node, [to_host(torch, index)])  # raises, in the words of the op
        return torch.where(wide < 0, wide + size, wide) if least else wide

    return run


# -- activations -----------------------------------------------------------------------------
@lowers("silu", "mish", "selu", "hardsigmoid", "logsigmoid", "tanhshrink")
def _activation(context: Context, node: Node) -> Kernel | None:
    return getattr(context.torch.nn.functional, node.op.name)


@lowers("leaky_relu", "softplus", "elu", "celu", "gelu")
def _activation_with_attributes(context: Context, node: Node) -> Kernel:
    function, attrs = getattr(context.torch.nn.functional, node.op.name), dict(node.attrs)
    return lambda x: function(x, **attrs)


@lowers("hardtanh", "relu6")
def _limited(context: Context, node: Node) -> Kernel:
    low, high = node.attrs.get("min_val", 0.0), node.attrs.get("max_val", 6.0)
    return lambda x: x.clamp(low, high)
