"""Vector math: elementary functions written as LLVM IR, a documented error bound for each.

Every function takes :class:`~accel.targets.pure.llvm_text.Lanes` of ``float`` or ``double`` at
any width and the names of its operands, and returns the name of its result. NaN, infinities,
signed zeros and subnormal numbers behave as in NumPy; no library is called, and a scalar
emission computes the bits of the vector one. ``sin``, ``cos``, ``tan`` and the remainders
write branches (taken where a lane needs more work), so the current block may have another
name afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from . import error, exponential, logarithm, power, rounding, trigonometric

__all__ = ["FUNCTIONS", "ULP"]

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
ULP: dict[str, tuple[float, float]] = {}
