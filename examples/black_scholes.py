"""A NumPy function, compiled as it is.

`price` knows nothing of accel: its NumPy calls on tensors are recorded, fused into one kernel
and compiled. Run it: python examples/black_scholes.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import accel


def normal_cdf(x: Any) -> Any:
    """The normal distribution function by Abramowitz and Stegun 26.2.17 (error below 7.5e-8)."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    poly = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = 0.3989422804014327 * np.exp(-0.5 * x * x) * poly
    return np.where(x > 0, 1.0 - tail, tail)


def price(spot: Any, strike: Any, years: Any, rate: float, volatility: float) -> Any:
    """European call options by Black and Scholes (1973)."""
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    discounted = strike * np.exp(-rate * years)
    return spot * normal_cdf(d1) - discounted * normal_cdf(d1 - spread)


def best_ms(function: Callable[[], Any], repeat: int = 5) -> float:
    """The shortest of a few runs, in milliseconds."""
    spent = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        spent.append(time.perf_counter() - start)
    return min(spent) * 1e3


def main() -> None:
    rng = np.random.default_rng(0)
    count = 1_000_000
    spot, strike = rng.uniform(20, 200, (2, count)).astype(np.float32)
    years = rng.uniform(0.1, 3, count).astype(np.float32)

    compiled = accel.compile(price)
    found = compiled(spot, strike, years, 0.02, 0.3)
    expected = price(spot, strike, years, 0.02, 0.3)
    print(f"{count:,} options, first prices {np.asarray(found)[:3].round(4).tolist()}")
    print(f"largest difference from NumPy: {np.max(np.abs(np.asarray(found) - expected)):.1e}")

    numpy_ms = best_ms(lambda: price(spot, strike, years, 0.02, 0.3))
    accel_ms = best_ms(lambda: compiled(spot, strike, years, 0.02, 0.3))
    print(f"NumPy {numpy_ms:.1f} ms, accel {accel_ms:.1f} ms: {numpy_ms / accel_ms:.1f} times")
    print(compiled.explain(spot, strike, years, 0.02, 0.3))
    # A new rate or volatility is a new number for the same machine code.
    compiled(spot, strike, years, 0.03, 0.25)
    print(compiled.cache_info())


if __name__ == "__main__":
    main()
