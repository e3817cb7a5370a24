"""The pure target's table of pointwise ops: one function an op, which writes it on lanes.

A lowering gets a :class:`Site` (where to write, at which width) and one application of the
op (value names, dtypes, attributes) and returns the name of the result. It serves vectors and
scalars alike. Bools are masks (``i1``) in registers. Everything follows NumPy, for every bit
pattern in every lane: lanes beyond the data hold arbitrary numbers and must not trap either,
and no undefined behaviour of LLVM (an oversized shift, an overflowing conversion) is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....ir import dtypes
from ....ir.dtypes import DType
from .. import vecmath
from ..gemm import half
from ..machine.llvm_text import Lanes
from .site import ELEMENTS, HALVES, IN_NESTS, Application, Site, cast

__all__ = [
    "ELEMENTS", "LOWERINGS", "Application", "Site", "cast", "checked_index", "greater", "lesser",
    "lower", "lowers", "supported", "unsupported_reason",
]  # fmt: skip

Lowering = Callable[[Site, Application], str]
LOWERINGS: dict[str, Lowering] = {}


def lower(site: Site, op: str, application: Application) -> str:
    """Write `op` at `site`; returns the name of the result."""
    return LOWERINGS[op](site, application)


def supported(
    op: str, in_dtypes: Sequence[DType], out_dtype: DType, attrs: Mapping[str, Any]
) -> bool:
    """Whether the op has native code for these dtypes; else it runs on the reference."""
    del attrs  # no attribute of a pointwise op is beyond its lowering
    found = {*in_dtypes, out_dtype}
    return found <= IN_NESTS and (op in LOWERINGS or op == "check_index")


def unsupported_reason(op: str, in_dtypes: Sequence[DType] = ()) -> str:
    """Why `supported` said no, in words for `explain`."""
    foreign = [d.name for d in in_dtypes if d not in IN_NESTS]
    if foreign:
        return f"{foreign[0]} has no native kernels"
    return f"{op} has no native lowering"


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Enter a function in the table under `names`, each of which can be taken once."""

    def enter(function: Lowering) -> Lowering:
        for name in names:
            if name in LOWERINGS:
                raise ValueError(f"two native lowerings of {name}")
            LOWERINGS[name] = function
        return function

    return enter


# -- conversion ----------------------------------------------------------------------------
@lowers("cast")
def _cast(site: Site, at: Application) -> str:
    return cast(site, at.inputs[0], at.dtypes[0], at.dtype)


@lowers("from_half")
def _from_half(site: Site, at: Application) -> str:
    """The bits of halves as float32; these three are written by `loops`, no ops of graphs."""
    return half.widened(at.inputs[0], HALVES[at.attrs["dtype"]], site.lanes(at.dtype))


@lowers("to_half")
def _to_half(site: Site, at: Application) -> str:
    return half.narrowed(at.inputs[0], HALVES[at.attrs["dtype"]], site.lanes(at.dtypes[0]))


@lowers("to_odd")
def _to_odd(site: Site, at: Application) -> str:
    """float64 as float32, what is lost put into the last bit, so that rounding again to less
    than half the digits is rounding once."""
    wide, lanes = site.lanes(at.dtypes[0]), site.lanes(at.dtype)
    x = at.inputs[0]
    near = lanes.convert("fptrunc", x, wide)
    back = wide.convert("fpext", near, lanes)
    bits, words = lanes.bits_of(near), lanes.integers
    beyond = wide.cmp("ogt", wide.abs(back), wide.abs(x))
    bits = words.select(beyond, words.sub(bits, 1), bits)
    odd = words.select(wide.cmp("one", back, x), words.binary("or", bits, 1), bits)
    return lanes.from_bits(odd)


@lowers("stop_gradient", "real", "conj")
def _identity(site: Site, at: Application) -> str:
    return at.inputs[0]


@lowers("imag")
def _imag(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).const(0)


# -- arithmetic ----------------------------------------------------------------------------
@lowers("add")
def _add(site: Site, at: Application) -> str:
    lanes = site.lanes(at.dtype)
    if at.dtype.kind == "b":
        return lanes.mask_op("or", *at.inputs)
    return lanes.add(*at.inputs)


@lowers("sub")
def _sub(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).sub(*at.inputs)


@lowers("mul")
def _mul(site: Site, at: Application) -> str:
    lanes = site.lanes(at.dtype)
    if at.dtype.kind == "b":
        return lanes.mask_op("and", *at.inputs)
    return lanes.mul(*at.inputs)


@lowers("div")
def _div(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).div(*at.inputs)


@lowers("neg")
def _neg(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).neg(at.inputs[0])


@lowers("abs")
def _abs(site: Site, at: Application) -> str:
    x = at.inputs[0]
    return site.lanes(at.dtype).abs(x) if at.dtype.kind in "if" else x


@lowers("sign")
def _sign(site: Site, at: Application) -> str:
    lanes, x = site.lanes(at.dtype), at.inputs[0]
    if at.dtype.kind == "u":
        return lanes.select(lanes.cmp("eq", x, 0), 0, 1)
    if at.dtype.kind == "i":
        below = lanes.select(lanes.cmp("slt", x, 0), -1, 0)
        return lanes.select(lanes.cmp("sgt", x, 0), 1, below)
    other = lanes.select(lanes.cmp("oeq", x, 0), 0, x)  # zero, or NaN
    below = lanes.select(lanes.cmp("olt", x, 0), -1, other)
    return lanes.select(lanes.cmp("ogt", x, 0), 1, below)


@lowers("sqrt")
def _sqrt(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).intrinsic("sqrt", at.inputs[0])


@lowers("reciprocal")
def _reciprocal(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).div(1, at.inputs[0])


@lowers("copysign")
def _copysign(site: Site, at: Application) -> str:
    return site.lanes(at.dtype).copysign(*at.inputs)


def _vector_math(name: str) -> Lowering:
    def write(site: Site, at: Application) -> str:
        return vecmath.apply(name, site.lanes(at.dtype), *at.inputs)

    return write


for _name in (
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma",
    "digamma", "sigmoid", "atan2", "hypot", "rsqrt",
):  # fmt: skip
    lowers(_name)(_vector_math(_name))


@lowers("nextafter")
def _nextafter(site: Site, at: Application) -> str:
    """Of halves, which `half` names, the neighbour is that of their own bits."""
    lanes, (x, y) = site.lanes(at.dtype), at.inputs
    if "half" not in at.attrs:
        return vecmath.apply("nextafter", lanes, x, y)
    kind, words = HALVES[at.attrs["half"]], site.lanes(dtypes.uint16)
    outward = lanes.mask_op("xor", lanes.cmp("olt", x, y), lanes.cmp("olt", x, 0))
    step = words.select(outward, 1, -1)
    moved = half.widened(words.add(half.narrowed(x, kind, lanes), step), kind, lanes)
    smallest = lanes.copysign(half.widened(words.const(1), kind, lanes), y)
    moved = lanes.select(lanes.cmp("oeq", x, 0), smallest, moved)
    moved = lanes.select(lanes.cmp("oeq", x, y), y, moved)
    return lanes.select(lanes.cmp("uno", x, y), float("nan"), moved)


@lowers("gelu")
def _gelu(site: Site, at: Application) -> str:
    name = "gelu_tanh" if at.attrs["approximate"] == "tanh" else "gelu"
    return vecmath.apply(name, site.lanes(at.dtype), at.inputs[0])


def _float_rounding(name: str) -> Lowering:
    def write(site: Site, at: Application) -> str:
        if at.dtype.kind != "f":
            return at.inputs[0]
        return vecmath.apply(name, site.lanes(at.dtype), at.inputs[0])

    return write


for _name in ("floor", "ceil", "trunc", "round"):
    lowers(_name)(_float_rounding(_name))


# -- division with a whole quotient --------------------------------------------------------
def _safe_division(
    site: Site, dtype: DType, x: str, y: str, instruction: str
) -> tuple[str, str, str]:
    """(result, divisor, mask of zero divisors) of a division that cannot trap: where the
    divisor is 0, or -1 under the least number, it is 1 instead."""
    lanes = site.lanes(dtype)
    zero = lanes.cmp("eq", y, 0)
    unsafe = zero
    if dtype.kind == "i":
        least = lanes.cmp("eq", x, -(1 << (lanes.bits - 1)))
        wraps = lanes.mask_op("and", least, lanes.cmp("eq", y, -1))
        unsafe = lanes.mask_op("or", zero, wraps)
    divisor = lanes.select(unsafe, 1, y)
    signed = "s" if dtype.kind == "i" else "u"
    return lanes.binary(signed + instruction, x, divisor), divisor, zero


def _rounds_down(lanes: Lanes, rest: str, divisor: str) -> str:
    """Where the floored quotient is one below the truncated one."""
    differ = lanes.cmp("slt", lanes.binary("xor", rest, divisor), 0)
    return lanes.mask_op("and", differ, lanes.cmp("ne", rest, 0))


@lowers("floor_divide")
def _floor_divide(site: Site, at: Application) -> str:
    lanes, (x, y) = site.lanes(at.dtype), at.inputs
    if lanes.is_float:
        return vecmath.apply("floor_divide", lanes, x, y)
    quotient, divisor, zero = _safe_division(site, at.dtype, x, y, "div")
    if at.dtype.kind == "i":
        rest = lanes.sub(x, lanes.mul(quotient, divisor))
        below = lanes.sub(quotient, 1)
        quotient = lanes.select(_rounds_down(lanes, rest, divisor), below, quotient)
    return lanes.select(zero, 0, quotient)


@lowers("remainder")
def _remainder(site: Site, at: Application) -> str:
    lanes, (x, y) = site.lanes(at.dtype), at.inputs
    if lanes.is_float:
        return vecmath.apply("remainder", lanes, x, y)
    rest, divisor, zero = _safe_division(site, at.dtype, x, y, "rem")
    if at.dtype.kind == "i":
        moved = lanes.add(rest, divisor)
        rest = lanes.select(_rounds_down(lanes, rest, divisor), moved, rest)
    return lanes.select(zero, 0, rest)


@lowers("fmod")
def _fmod(site: Site, at: Application) -> str:
    lanes, (x, y) = site.lanes(at.dtype), at.inputs
    if lanes.is_float:
        return vecmath.apply("fmod", lanes, x, y)
    rest, _, zero = _safe_division(site, at.dtype, x, y, "rem")
    return lanes.select(zero, 0, rest)


# -- powers --------------------------------------------------------------------------------
@lowers("pow")
def _pow(site: Site, at: Application) -> str:
    lanes, (x, y) = site.lanes(at.dtype), at.inputs
    if lanes.is_float:
        return vecmath.apply("pow", lanes, x, y)
    whole = _integer_power(lanes, x, y)
    if at.dtype.kind == "u":
        return whole
    odd = lanes.cmp("ne", lanes.binary("and", y, 1), 0)
    minus = lanes.select(lanes.cmp("eq", x, -1), lanes.select(odd, -1, 1), 0)
    small = lanes.select(lanes.cmp("eq", x, 1), 1, minus)
    return lanes.select(lanes.cmp("slt", y, 0), small, whole)


def _integer_power(lanes: Lanes, x: str, y: str) -> str:
    """x**y by repeated squaring over the bits of an unsigned exponent; wraps."""
    carried = [(lanes.type, x), (lanes.type, y), (lanes.type, lanes.const(1))]
    with lanes.fn.loop(0, lanes.bits, carried=carried) as loop:
        base, exponent, result = loop.values
        odd = lanes.cmp("ne", lanes.binary("and", exponent, 1), 0)
        result = lanes.select(odd, lanes.mul(result, base), result)
        loop.next = [lanes.mul(base, base), lanes.binary("lshr", exponent, 1), result]
    return loop.values[2]


# -- the greater and the lesser ------------------------------------------------------------
def _predicate(dtype: DType, stem: str) -> str:
    """The compare predicate of `stem` (gt, ge, lt, le) for numbers of `dtype`."""
    return {"f": "o", "i": "s"}.get(dtype.kind, "u") + stem


def _extremum(site: Site, dtype: DType, x: str, y: str, stem: str, keeps_nan: bool) -> str:
    lanes = site.lanes(dtype)
    if dtype.kind == "b":
        return lanes.mask_op("or" if stem == "ge" else "and", x, y)
    first = lanes.cmp(_predicate(dtype, stem), x, y)
    if dtype.kind == "f":
        number = x if keeps_nan else y
        first = lanes.mask_op("or", first, lanes.cmp("uno", number, number))
    return lanes.select(first, x, y)


def greater(site: Site, dtype: DType, x: str, y: str) -> str:
    """The greater number; NaN if either is."""
    return _extremum(site, dtype, x, y, "ge", True)


def lesser(site: Site, dtype: DType, x: str, y: str) -> str:
    """The lesser number; NaN if either is."""
    return _extremum(site, dtype, x, y, "le", True)


def _extremum_of_two(stem: str, keeps_nan: bool) -> Lowering:
    def write(site: Site, at: Application) -> str:
        x, y = at.inputs
        return _extremum(site, at.dtype, x, y, stem, keeps_nan)

    return write


lowers("maximum")(_extremum_of_two("ge", True))
lowers("minimum")(_extremum_of_two("le", True))
lowers("fmax")(_extremum_of_two("ge", False))
lowers("fmin")(_extremum_of_two("le", False))


@lowers("relu")
def _relu(site: Site, at: Application) -> str:
    lanes, x = site.lanes(at.dtype), at.inputs[0]
    if at.dtype.kind in "bu":
        return x
    return lanes.select(lanes.cmp(_predicate(at.dtype, "le"), x, 0), 0, x)


# -- comparison and selection --------------------------------------------------------------
def _comparison(stem: str) -> Lowering:
    def write(site: Site, at: Application) -> str:
        lanes = site.lanes(at.dtypes[0])
        if stem in ("eq", "ne"):
            prefix = {"eq": "o", "ne": "u"}[stem] if lanes.is_float else ""
            return lanes.cmp(prefix + stem, *at.inputs)
        return lanes.cmp(_predicate(at.dtypes[0], stem), *at.inputs)

    return write


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    lowers(_name)(_comparison(_name))


@lowers("where")
def _where(site: Site, at: Application) -> str:
    lanes = site.lanes(at.dtype)
    return lanes.select(*at.inputs)


@lowers("isnan")
def _isnan(site: Site, at: Application) -> str:
    if at.dtypes[0].kind != "f":
        return site.masks.const(0)
    return site.lanes(at.dtypes[0]).cmp("uno", at.inputs[0], at.inputs[0])


@lowers("isinf")
def _isinf(site: Site, at: Application) -> str:
    if at.dtypes[0].kind != "f":
        return site.masks.const(0)
    lanes = site.lanes(at.dtypes[0])
    return lanes.cmp("oeq", lanes.abs(at.inputs[0]), float("inf"))


@lowers("isfinite")
def _isfinite(site: Site, at: Application) -> str:
    if at.dtypes[0].kind != "f":
        return site.masks.const(1)
    lanes = site.lanes(at.dtypes[0])
    return lanes.cmp("olt", lanes.abs(at.inputs[0]), float("inf"))


@lowers("signbit")
def _signbit(site: Site, at: Application) -> str:
    lanes, x = site.lanes(at.dtypes[0]), at.inputs[0]
    if at.dtypes[0].kind in "bu":
        return site.masks.const(0)
    return lanes.integers.cmp("slt", lanes.bits_of(x) if lanes.is_float else x, 0)


# -- logic and bits ------------------------------------------------------------------------
def _truth(site: Site, at: Application) -> list[str]:
    return [
        cast(site, x, d, dtypes.bool_) for x, d in zip(at.inputs, at.dtypes, strict=True)
    ]


def _logical(instruction: str) -> Lowering:
    return lambda site, at: site.masks.mask_op(instruction, *_truth(site, at))


def _bitwise(instruction: str) -> Lowering:
    return lambda site, at: site.lanes(at.dtype).binary(instruction, *at.inputs)


for _name in ("and", "or", "xor"):
    lowers("logical_" + _name)(_logical(_name))
    lowers("bitwise_" + _name)(_bitwise(_name))


@lowers("logical_not")
def _logical_not(site: Site, at: Application) -> str:
    return site.masks.binary("xor", _truth(site, at)[0], 1)


@lowers("bitwise_invert")
def _bitwise_invert(site: Site, at: Application) -> str:
    lanes = site.lanes(at.dtype)
    return lanes.binary("xor", at.inputs[0], 1 if at.dtype.kind == "b" else -1)


def _amount_inside(lanes: Lanes, amount: str) -> tuple[str, str]:
    """(mask of amounts below the width, amount or 0): a negative one counts as too large."""
    inside = lanes.cmp("ult", amount, lanes.bits)
    return inside, lanes.select(inside, amount, 0)


@lowers("bitwise_left_shift")
def _left_shift(site: Site, at: Application) -> str:
    lanes = site.lanes(at.dtype)
    inside, amount = _amount_inside(lanes, at.inputs[1])
    return lanes.select(inside, lanes.binary("shl", at.inputs[0], amount), 0)


@lowers("bitwise_right_shift")
def _right_shift(site: Site, at: Application) -> str:
    lanes, x = site.lanes(at.dtype), at.inputs[0]
    inside, amount = _amount_inside(lanes, at.inputs[1])
    if at.dtype.kind == "i":
        return lanes.binary("ashr", x, lanes.select(inside, amount, lanes.bits - 1))
    return lanes.select(inside, lanes.binary("lshr", x, amount), 0)


# -- indices -------------------------------------------------------------------------------
def checked_index(
    site: Site, index: str, dtype: DType, size: str, wrap: bool
) -> tuple[str, str]:
    """(int64 index, mask of bad ones) for an extent `size`, itself lanes of int64.

    Negative indices count from the end when `wrap`. A bad index is replaced by 0, so that
    no address is ever made of it.
    """
    lanes = site.lanes(dtypes.int64)
    whole = cast(site, index, dtype, dtypes.int64)
    if wrap and dtype.kind == "i":
        negative = lanes.cmp("slt", whole, 0)
        whole = lanes.select(negative, lanes.add(whole, size), whole)
    bad = lanes.cmp("uge", whole, size)
    return lanes.select(bad, 0, whole), bad
