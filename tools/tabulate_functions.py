"""Tabulate the elementary functions in double-double precision for tests/test_vecmath.py.

    python tools/tabulate_functions.py [points] [file]

Needs mpmath. For each function the file holds its arguments (one or two rows) and the value
as a high and a low double, so that a test measures double-precision errors without mpmath.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np

# The arguments of sin, cos and tan that are hardest to reduce, and other large ones.
HARD_ANGLES = [
    6381956970095103.0 * 2.0**797, 5.319372648326541e255, 1.7976931348623157e308, 1e22, 1e16,
    2.0**27, 99999999.0, 100000001.0, 3.141592653589793, 1.5707963267948966, 355.0, 103993.0,
    11.0, 710.0, 52174.0, 2.0**1000, 1e8 - 0.5, 47.1238898038469, 0.7853981633974484,
]  # fmt: skip

Sampler = Callable[[np.random.Generator, int], np.ndarray]


def uniform(low: float, high: float) -> Sampler:
    return lambda rng, n: rng.uniform(low, high, n)


def signed_powers(low: float, high: float, signed: bool = True) -> Sampler:
    """Magnitudes uniform in the exponent of two from `low` to `high`."""

    def sample(rng: np.random.Generator, n: int) -> np.ndarray:
        values = np.exp2(rng.uniform(low, high, n))
        return values * rng.choice([-1.0, 1.0], n) if signed else values

    return sample


def mixed(*samplers: Sampler) -> Sampler:
    def sample(rng: np.random.Generator, n: int) -> np.ndarray:
        parts = [sampler(rng, n // len(samplers) + 1) for sampler in samplers]
        return np.concatenate(parts)[:n]

    return sample


def angles(rng: np.random.Generator, n: int) -> np.ndarray:
    parts = [rng.uniform(-10, 10, n // 3), signed_powers(-20, 1023)(rng, n // 3)]
    near = np.rint(rng.uniform(1, 1e6, n)) * (np.pi / 2)
    return np.concatenate([HARD_ANGLES, *parts, near])[:n]


def sigmoid(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-x))


def gelu_tanh(x: mp.mpf) -> mp.mpf:
    return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))


TINY = signed_powers(-1074, -1)
ONES = mixed(signed_powers(-60, 0), uniform(-1, 1))
POSITIVE = mixed(
    signed_powers(-1074, 1023, False), uniform(0.5, 2), lambda r, n: 1 + ONES(r, n) * 2.0**-9
)

GAMMA = mixed(POSITIVE, uniform(0, 10), uniform(-30, 0))

FUNCTIONS: dict[str, tuple[Callable[..., mp.mpf], tuple[Sampler, ...]]] = {
    "exp": (mp.exp, (mixed(uniform(-745, 709.7), uniform(-2, 2), TINY),)),
    "exp2": (lambda x: mp.power(2, x), (mixed(uniform(-1074, 1023.9), uniform(-2, 2)),)),
    "expm1": (mp.expm1, (mixed(uniform(-40, 709.7), uniform(-2, 2), TINY),)),
    "log": (mp.log, (POSITIVE,)),
    "log1p": (mp.log1p, (mixed(uniform(-0.99999, 3), signed_powers(-60, 1023, False), ONES),)),
    "log2": (lambda x: mp.log(x, 2), (POSITIVE,)),
    "log10": (mp.log10, (POSITIVE,)),
    "sin": (mp.sin, (angles,)),
    "cos": (mp.cos, (angles,)),
    "tan": (mp.tan, (angles,)),
    "asin": (mp.asin, (mixed(ONES, TINY),)),
    "acos": (mp.acos, (ONES,)),
    "atan": (mp.atan, (mixed(ONES, signed_powers(-2, 1023), uniform(-3, 3)),)),
    "sinh": (mp.sinh, (mixed(uniform(-710.4, 710.4), uniform(-3, 3), TINY),)),
    "cosh": (mp.cosh, (mixed(uniform(-710.4, 710.4), uniform(-3, 3)),)),
    "tanh": (mp.tanh, (mixed(uniform(-20, 20), uniform(-1, 1), TINY),)),
    "asinh": (mp.asinh, (mixed(uniform(-3, 3), signed_powers(-60, 1023)),)),
    "acosh": (mp.acosh, (mixed(uniform(1, 3), lambda r, n: 1 + 2.0 ** r.uniform(-52, 1023, n)),)),
    "atanh": (mp.atanh, (mixed(uniform(-1, 1), TINY),)),
    "erf": (mp.erf, (mixed(uniform(-6, 6), TINY),)),
    "erfc": (mp.erfc, (mixed(uniform(-6, 6), uniform(0, 27)),)),
    "erfinv": (mp.erfinv, (mixed(ONES, lambda r, n: 1 - 2.0 ** -r.uniform(1, 53, n)),)),
    "lgamma": (lambda x: mp.loggamma(x).real, (GAMMA,)),
    "digamma": (mp.digamma, (GAMMA,)),
    "sigmoid": (sigmoid, (mixed(uniform(-745, 40), uniform(-5, 5)),)),
    "gelu": (lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2, (mixed(uniform(-37, 8), uniform(-2, 2)),)),
    "gelu_tanh": (gelu_tanh, (mixed(uniform(-20.5, 8), uniform(-2, 2)),)),
    "rsqrt": (lambda x: 1 / mp.sqrt(x), (POSITIVE,)),
    "pow": (mp.power, (
        mixed(signed_powers(-1074, 1023, False), uniform(0.5, 2), uniform(0, 10)),
        mixed(uniform(-1, 1), uniform(-700, 700), uniform(-300, 300)),
    )),
    "atan2": (mp.atan2, (mixed(uniform(-1, 1), signed_powers(-500, 500)), uniform(-1, 1))),
    "hypot": (mp.hypot, (mixed(uniform(-1, 1), signed_powers(-1074, 1022)), POSITIVE)),
}  # fmt: skip


def table(name: str, points: int) -> np.ndarray:
    """Rows: the arguments, the high and the low part of the value."""
    function, samplers = FUNCTIONS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arguments = np.array([sampler(rng, points) for sampler in samplers])
    values = [function(*map(mp.mpf, map(float, column))) for column in arguments.T]
    high = np.array([float(value) for value in values])
    low = [
        float(v - mp.mpf(h)) if np.isfinite(h) else 0.0 for v, h in zip(values, high, strict=True)
    ]
    return np.vstack([arguments, high, low])


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    default = Path(__file__).parents[1] / "tests" / "data" / "vecmath.npz"
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    mp.mp.prec = 1400  # enough for the largest angles
    np.savez_compressed(path, **{name: table(name, points) for name in FUNCTIONS})


if __name__ == "__main__":
    main()
