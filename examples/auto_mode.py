"""The digits model in auto mode: small regions run natively, large ones on torch.

Needs torch; without it, auto mode is pure mode. Run it: python examples/auto_mode.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from demo import load_digits

import accel
from accel import nn


def main() -> None:
    x_train, _, x_test, _ = load_digits()
    accel.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 1024), nn.GELU(), nn.Linear(1024, 10))

    @accel.compile(mode="auto")
    def probabilities(x: Any) -> Any:
        return accel.softmax(model(x), dim=1)

    print(f"torch: {accel.torch_version() if accel.torch_available() else 'not installed'}")
    print("thresholds:", accel.thresholds(), end="\n\n")
    for name, x in (("360 images", x_test), ("1,437 images", x_train)):
        print(f"{name}:")
        print(probabilities.explain(x), end="\n\n")

    with accel.mode("pure"):
        expected = accel.compile(lambda x: accel.softmax(model(x), dim=1))(x_train).numpy()
    found = probabilities(x_train).numpy()
    print(f"largest difference from pure mode: {np.abs(found - expected).max():.1e}")
    accel.print_stats()

    # A lower threshold sends smaller products to torch, too.
    accel.set_threshold("matmul", 100_000)
    print("\n360 images, with the matmul threshold at 100,000:")
    print(probabilities.explain(x_test))


if __name__ == "__main__":
    main()
