"""Element-wise functions beside torch's: dtypes, promotion, special values, gradients."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from parity import Case, both, by_name, check_all, draw

import accel

DTYPES = ("float32", "float64", "int32", "int64", "bool", "complex64", "float16", "uint8",
          "bfloat16", "int8")  # fmt: skip
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 0.5, -2.5, 7, 3e38])

#: Functions of one operand, and the letters of the dtypes that torch does not take, or for
#: which accel follows NumPy: f floating, h half, i integers, u unsigned, b bool, c complex.
UNARY = {
    "abs": "b", "neg": "b", "sign": "bc", "sqrt": "", "exp": "", "exp2": "", "expm1": "",
    "log": "", "log2": "", "log10": "", "log1p": "", "sin": "", "cos": "", "tan": "", "asin": "",
    "acos": "", "atan": "", "sinh": "", "cosh": "", "tanh": "", "asinh": "", "acosh": "",
    "atanh": "", "erf": "c", "erfc": "c", "rsqrt": "", "reciprocal": "", "square": "b",
    "floor": "bc", "ceil": "bc", "round": "bc", "trunc": "bc", "sigmoid": "c", "relu": "bc",
    "logit": "c", "sinc": "", "deg2rad": "c", "rad2deg": "c", "positive": "b", "isfinite": "",
    "isinf": "", "isnan": "", "signbit": "bc", "isreal": "", "logical_not": "", "angle": "",
    "sgn": "b", "real": "", "conj": "", "isposinf": "c", "isneginf": "c", "frac": "ibuc",
    "lgamma": "c", "digamma": "c", "erfinv": "c",
}  # fmt: skip
#: Where these are NaN or have no slope, torch's gradient may be a number.
DOMAIN = {"acosh": (1.1, 4.0), "logit": (0.1, 0.9), "erfinv": (-0.9, 0.9), "lgamma": (0.3, 5.0),
          "digamma": (0.3, 5.0), "log": (0.1, 4.0), "log2": (0.1, 4.0), "log10": (0.1, 4.0),
          "sqrt": (0.1, 4.0), "rsqrt": (0.1, 4.0), "atanh": (-0.9, 0.9), "asin": (-0.9, 0.9),
          "acos": (-0.9, 0.9), "log1p": (-0.9, 3.0)}  # fmt: skip
#: Special values at which accel is NumPy's: sign and sgn of NaN, the angle of -0.0, lgamma of
#: what overflows, and all of the digamma function's poles.
AS_NUMPY = ("sign", "sgn", "angle", "digamma", "lgamma")


def _kind(dtype: str) -> str:
    return "h" if dtype in ("float16", "bfloat16") else dtype[0]


def _numbers(dtype: str, shape: tuple[int, ...], low: float, high: float, seed: int) -> np.ndarray:
    if _kind(dtype) in "iub":
        low, high = (0, 4) if dtype == "uint8" else (-3, 4)
    return draw(shape, dtype, low, high, seed)


def _unary() -> list[Case]:
    cases = []
    for name, left_out in UNARY.items():
        low, high = DOMAIN.get(name, (-2.0, 2.0))
        ulp = 1e7 if name == "digamma" else 8  # torch's trigamma of doubles has ten digits
        slope = name != "sgn"  # torch's is a zero without memory
        for dtype in DTYPES:
            if _kind(dtype) not in left_out:
                x = _numbers(dtype, (3, 4), low, high, 0)
                cases.append(Case(name, x, ulp=ulp if dtype == "float64" else 8, gradient=slope))
        x = draw((3, 4), low=low, high=high)
        cases += [Case(name, draw(()), gradient=False, ulp=8), Case(name, draw((0, 3)))]
        if name not in ("real", "isreal"):
            cases.append(Case("." + name, x, ulp=8, gradient=slope))
        if name not in AS_NUMPY:
            cases.append(Case(name, SPECIAL, gradient=False, ulp=8))
    return cases


ARITHMETIC = """add sub mul div pow atan2 hypot maximum minimum fmax fmin floor_divide remainder
    fmod eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor
    copysign nextafter logaddexp xlogy gcd lcm ldexp logaddexp2""".split()
#: Kinds of dtypes that torch does not take (m: two different dtypes), or accel does not.
LEFT_OUT = {
    "sub": "b", "pow": "b", "atan2": "c", "hypot": "iubc", "maximum": "c", "minimum": "c",
    "fmax": "c",
    "fmin": "c", "floor_divide": "bc", "remainder": "bc", "fmod": "bc", "lt": "c", "le": "c",
    "gt": "c", "ge": "c", "bitwise_and": "fhc", "bitwise_or": "fhc", "bitwise_xor": "fhc",
    "copysign": "c", "nextafter": "iubchm", "logaddexp": "iubc", "xlogy": "c", "gcd": "fhbc",
    "lcm": "fhbc", "ldexp": "cm", "logaddexp2": "iubc",
}  # fmt: skip
#: NumPy's at special values, of which torch's NaN or zero is another.
AS_NUMPY_OF_TWO = ("floor_divide", "fmod", "remainder", "ldexp", "gcd", "lcm", "logaddexp2",
                   "bitwise_and", "bitwise_or", "bitwise_xor")  # fmt: skip


def _whole_power(name: str, a: str, b: str) -> bool:
    """Integers to negative powers and divisors of zero, which torch refuses."""
    return name in ("pow", "floor_divide", "remainder", "fmod") and _kind(a) + _kind(b) in (
        "ii", "uu", "iu", "ui", "ib", "bi", "ub", "bu")  # fmt: skip


def _binary() -> list[Case]:
    cases = []
    for name in ARITHMETIC:
        left_out = LEFT_OUT.get(name, "")
        taken = [d for d in DTYPES if _kind(d) not in left_out]
        pairs = [(d, d) for d in taken]
        if "m" not in left_out:
            mixed = list(itertools.permutations(taken, 2))
            pairs += random.Random(name).sample(mixed, min(12, len(mixed)))
        for a, b in pairs:
            low, high = (0.5, 3.0) if name in ("pow", "xlogy") and a == b else (-3.0, 3.0)
            x, y = _numbers(a, (3, 4), low, high, 0), _numbers(b, (4,), low, high, 1)
            if _whole_power(name, a, b):
                y = np.where(y <= 0, np.ones_like(y), y)
            slope = a == b and name != "floor_divide"  # of which torch knows none
            cases.append(Case(name, x, y, ulp=32 if name == "pow" else 8, gradient=slope))
        if "f" not in left_out:
            low = 0.2 if name in ("pow", "xlogy") else -2.0
            x, y = draw((3, 1), low=low), draw((4,), low=low, seed=1)
            slope = name != "floor_divide"
            cases += [Case("." + name, x, y, ulp=16, gradient=slope),
                      Case(name, draw(()), draw((0, 3)), gradient=slope)]  # fmt: skip
            if name not in AS_NUMPY_OF_TWO:
                cases.append(Case(name, SPECIAL.reshape(-1, 1), SPECIAL, gradient=False, ulp=8))
    return cases


def _with_numbers() -> list[Case]:
    """A Python number takes the dtype of the tensor if that has its kind."""
    cases = []
    for name in ("add", "sub", "mul", "div", "pow", "remainder", "fmod", "eq", "lt", "ge",
                 "floor_divide", "xlogy", "bitwise_and", "logical_and"):  # fmt: skip
        for dtype in DTYPES:
            numbers: tuple[Any, ...] = (2, 2.5) if name != "bitwise_and" else (2, True)
            for number in numbers:
                x = _numbers(dtype, (3, 4), 0.5, 3.0, 0)
                if name == "logical_and" or _refused(name, dtype, number):
                    continue
                cases.append(Case("." + name, x, number, ulp=8, gradient=False))
    return cases


def _refused(name: str, dtype: str, number: Any) -> bool:
    kind = _kind(dtype)
    return (
        (kind == "c" and name in ("remainder", "fmod", "lt", "ge", "floor_divide", "xlogy"))
        or (kind in "fhc" and name == "bitwise_and")
        or (kind == "b" and name in ("sub", "remainder", "fmod", "floor_divide"))
    )


def _options() -> list[Case]:
    x, y = draw((3, 4, 5)), draw((3, 4, 5), seed=1) + 3
    whole = draw((3, 4, 5), "int32", -9, 9)
    wild = np.float32([np.nan, np.inf, -np.inf, 1])
    lines: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("clamp", x, -1, 1), {}), (("clamp", x), {"min": 0.0}), (("clamp", x, draw((5,)), y), {}),
        (("clamp", x), {"max": draw((5,))}), (("clip", whole, -2, 2), {}),
        (("clamp", whole, -2.5, 2.5), {}), (("clamp_min", x, 0), {}), (("clamp_max", x, 0), {}),
        (("lerp", x, y, 0.3), {}), (("lerp", x, y, draw((5,), low=0.0, high=1.0)), {}),
        (("addcmul", x, x, y), {"value": 2}), (("addcdiv", x, x, y), {"value": 0.5}),
        (("addcmul", whole, whole, whole), {}), (("add", x, y), {"alpha": 2}),
        (("sub", x, whole), {"alpha": 3}), (("add", whole, whole), {"alpha": 2}),
        (("round", x), {"decimals": 1}), (("round", 100 * x), {"decimals": -1}),
        (("nan_to_num", wild), {"nan": 1.0, "posinf": 9.0, "neginf": -9.0}),
        (("nan_to_num", wild), {}), (("logit", draw((9,), low=0.2, high=0.8), 1e-1), {}),
        (("isclose", x, x + 1e-5), {"rtol": 1e-4, "atol": 1e-3}),
        (("isclose", wild, wild), {"equal_nan": True}), (("allclose", x, x), {}),
        (("float_power", y, 2), {}), (("mvlgamma", draw((5,), low=3, high=6), 2), {}),
    ]  # fmt: skip
    for mode in (None, "floor", "trunc"):
        rounding = {"rounding_mode": mode}
        lines += [(("div", x, y), rounding), (("div", whole, whole * 2 + 1), rounding),
                  (("div", x, 2), rounding)]  # fmt: skip
    cases = [Case(prefix + args[0], *args[1:], **kwargs)
             for args, kwargs in lines for prefix in ("", ".")]  # fmt: skip
    for shift in ("bitwise_left_shift", "bitwise_right_shift"):
        cases += [Case(shift, draw((3, 4), d, 0, 9), draw((4,), d, 0, 5, seed=1))
                  for d in ("int32", "int64", "uint8", "int8")]  # fmt: skip
    positive = draw((5,), low=0.5, high=3.0)
    return cases + [Case("rsub", x, 2.0), Case("rsub", x, y, alpha=2), Case("bitwise_not", whole),
                    *[Case("polygamma", n, positive) for n in (0, 1, 2, 3)]]  # fmt: skip


TABLE = by_name([*_unary(), *_binary(), *_with_numbers(), *_options()])


@pytest.mark.parametrize("name", TABLE)
def test_like_torch(name: str) -> None:
    check_all(TABLE[name])


def test_where_accel_is_numpys() -> None:
    nan = accel.asarray(np.float32([np.nan]))
    assert np.isnan(accel.sign(nan).numpy()).all()  # torch: 0
    assert accel.angle(accel.asarray(np.float32([-0.0]))).item() == pytest.approx(np.pi)  # 0
    assert accel.heaviside(accel.asarray([2]), accel.asarray([1])).dtype is accel.float32  # int64
    with pytest.raises(accel.errors.NumberRangeError):
        accel.asarray(np.uint8([1])) * -1  # torch wraps


CHANGES = """add mul sub div pow remainder fmod atan2 copysign hypot abs_ neg_ exp_ log_
    sqrt_ sin_ tanh_ sigmoid_ relu_ floor_ round_ clamp_ reciprocal_ rsqrt_ square_ trunc_ frac_
    xlogy logit_ lgamma_ digamma_ erfinv_ nan_to_num_""".split()


@pytest.mark.parametrize("name", CHANGES)
def test_in_place(name: str) -> None:
    x = draw((3, 4), low=0.2, high=0.8)
    more = [] if name.endswith("_") and name != "clamp_" else [0.5] if name == "clamp_" else [
        draw((4,), low=0.5, high=2.0)]  # fmt: skip
    method = name.rstrip("_") + "_"

    def change(library: Any) -> Any:
        def run(x: Any, *rest: Any) -> Any:
            y = x * 1
            assert getattr(y, method)(*rest) is y
            return y

        return run

    both(change(accel), change(torch), [x, *more])
