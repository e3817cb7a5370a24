"""Vector math: elementary functions written as LLVM IR, a documented error bound for each.

Every function takes `Lanes` (`machine.llvm_text`) of ``float`` or ``double`` at
any width and the names of its operands, and returns the name of its result. NaN, infinities,
signed zeros and subnormal numbers behave as in NumPy; no library is called, and a scalar
emission computes the bits of the vector one. ``sin``, ``cos``, ``tan`` and the remainders
write branches (taken where a lane needs more work), so the current block may have another
name afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from ..machine.llvm_text import Function, Lanes
from . import error, exponential, gamma, logarithm, power, rounding, trigonometric

__all__ = ["FUNCTIONS", "SHORT", "ULP", "apply"]

FUNCTIONS: dict[str, Callable[..., str]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "tanh": exponential.tanh,
    "sigmoid": exponential.sigmoid,
    "gelu_tanh": exponential.gelu_tanh,
    "log": logarithm.log,
    "log1p": logarithm.log1p,
    "log2": logarithm.log2,
    "log10": logarithm.log10,
    "asinh": logarithm.asinh,
    "acosh": logarithm.acosh,
    "atanh": logarithm.atanh,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "asin": trigonometric.asin,
    "acos": trigonometric.acos,
    "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "erf": error.erf,
    "erfc": error.erfc,
    "erfinv": error.erfinv,
    "lgamma": gamma.lgamma,
    "digamma": gamma.digamma,
    "gelu": error.gelu,
    "pow": power.pow_,
    "hypot": power.hypot,
    "rsqrt": power.rsqrt,
    "floor": rounding.floor,
    "ceil": rounding.ceil,
    "trunc": rounding.trunc,
    "round": rounding.round_,
    "fmod": rounding.fmod,
    "remainder": rounding.remainder,
    "floor_divide": rounding.floor_divide,
    "nextafter": rounding.nextafter,
}
# Units in the last place of the rounded result, (single, double), over the whole range: the
# largest error measured (every 211th float, thousands of doubles), rounded up. gelu in single
# precision is measured in units of its operand, since 1 + erf(x) cancels in the negative tail;
# lgamma and digamma in double precision, beside their zeros, in those of 1.
ULP: dict[str, tuple[float, float]] = {
    "exp": (1.25, 1.0),
    "exp2": (1.0, 1.25),
    "expm1": (1.75, 2.0),
    "sinh": (1.75, 1.75),
    "cosh": (1.5, 1.5),
    "tanh": (2.5, 2.25),
    "sigmoid": (2.5, 2.0),
    "gelu_tanh": (3.25, 2.75),
    "log": (1.0, 1.0),
    "log1p": (1.75, 1.25),
    "log2": (1.5, 1.25),
    "log10": (1.5, 1.0),
    "asinh": (2.0, 1.75),
    "acosh": (2.0, 2.0),
    "atanh": (2.25, 2.0),
    "sin": (1.75, 1.5),
    "cos": (1.75, 1.5),
    "tan": (3.0, 2.25),
    "asin": (2.5, 2.25),
    "acos": (1.25, 1.25),
    "atan": (1.25, 2.0),
    "atan2": (2.25, 1.75),
    "erf": (2.25, 1.25),
    "erfc": (2.5, 5.5),
    "erfinv": (3.0, 2.75),
    "lgamma": (0.75, 4.5),
    "digamma": (0.75, 5.0),
    "gelu": (1.75, 5.5),
    "pow": (1.5, 0.75),
    "hypot": (0.75, 1.25),
    "rsqrt": (1.75, 1.75),
    "floor": (0.0, 0.0),
    "ceil": (0.0, 0.0),
    "trunc": (0.0, 0.0),
    "round": (0.0, 0.0),
    "fmod": (0.0, 0.0),
    "remainder": (0.0, 0.0),
    "floor_divide": (0.0, 0.0),
    "nextafter": (0.0, 0.0),
}


#: Functions of a few instructions, which are always in line.
SHORT = frozenset({"floor", "ceil", "trunc", "round", "rsqrt", "nextafter"})

#: How often a function is in line at each width where the kernel's nest has it once: sweeps and
#: tails repeat it.
_IN_LINE = 4


def apply(name: str, lanes: Lanes, *operands: str) -> str:
    """`FUNCTIONS[name]` in line or, where a kernel uses it several times, by a call.

    Compiling takes as long as there is code, and a call among so much other work does not show.
    """
    write, fn, symbol = FUNCTIONS[name], lanes.fn, f"math.{name}.{lanes.suffix}"
    if name in SHORT or (name not in fn.repeated and fn.in_line[symbol] < _IN_LINE):
        fn.in_line[symbol] += 1
        return write(lanes, *operands)
    names = [f"x{i}" for i in range(len(operands))]

    def body(fn: Function) -> str:
        return write(Lanes(fn, lanes.element, lanes.width), *(f"%{n}" for n in names))

    return fn.helper(symbol, [(lanes.type, n) for n in names], lanes.type, body, *operands)
