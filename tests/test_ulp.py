"""Every element-wise function of one floating operand, as users call it, on both targets: errors
over all of single precision within the tolerance that its declaration states.

`test_vecmath.py` holds the pure target's own functions to their documented bounds; here are also
the functions composed of them, and torch's.
"""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.frontend.tensors.recording import record
from accel.ir import Op, all_ops

OPS = [op for op in all_ops().values()
       if op.pointwise and op.arity == (1, 1) and "f" in op.kinds and op.result is None
       and not op.exact]  # fmt: skip
TARGETS = ["pure", pytest.param("torch", marks=pytest.mark.torch)]

#: These are differences that cancel: their error is one of the argument.
CANCELLING = ("gelu", "tanhshrink")
#: Below this their exponentials are subnormal, or torch's are 0.
TAILS = {"sigmoid": -87.0, "silu": -87.0, "mish": -87.0, "gelu": -12.0}
#: torch overflows an exponent early.
EARLY = {"sinh": 88.7, "cosh": 88.7, "gelu": 1e18}


def every(step: int) -> np.ndarray:
    """Every `step`-th bit pattern of single precision, and the special values."""
    patterns = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([patterns, np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan])])


def test_the_transcendental_functions_are_among_them() -> None:
    wanted = """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh
        asinh acosh atanh erf erfc erfinv lgamma digamma polygamma rsqrt sigmoid silu mish softplus
        logsigmoid gelu elu selu celu"""
    assert set(wanted.split()) <= {op.name for op in OPS}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_single_precision(op: Op, target: str) -> None:
    x = every(49_999 if op.unsupported else 9_973)
    x = x[~(x < TAILS.get(op.name, -np.inf))]
    if target == "torch":
        x = x[~(np.abs(x) > EARLY.get(op.name, np.inf))]
    with accel.mode(target):
        found = record(op.name, accel.asarray(x)).numpy()
    with np.errstate(all="ignore"):
        wanted = op.reference(x.astype(np.float64), **op.attrs)
        rounded = wanted.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded))
    known = np.isfinite(rounded)
    size = np.abs((x if op.name in CANCELLING else rounded)[known])
    unit = np.spacing(np.maximum(size, np.finfo(np.float32).tiny)).astype(np.float64)
    errors = np.abs(found[known].astype(np.float64) - wanted[known]) / unit
    assert errors.max() <= max(op.ulp, 0.5), (x[known][errors.argmax()], errors.max())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["logaddexp", "hypot", "atan2", "pow"])
def test_pairs(name: str, target: str) -> None:
    """Ordinary arguments: of pow and hypot that stay finite, of logaddexp without cancelling."""
    rng = np.random.default_rng(0)
    low = 0.01 if name in ("pow", "logaddexp") else -9.0
    x, y = rng.uniform(low, 9, (2, 200_000)).astype(np.float32)
    op = all_ops()[name]
    with accel.mode(target):
        found = record(name, accel.asarray(x), accel.asarray(y)).numpy().astype(np.float64)
    wanted = op.reference(x.astype(np.float64), y.astype(np.float64))
    unit = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
    assert (np.abs(found - wanted) / unit).max() <= op.ulp
