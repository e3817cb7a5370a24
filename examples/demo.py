"""Train a 64-128-10 perceptron on 1,797 real handwritten digits; torch is not needed.

The whole training step (forward, backward and the optimizer) is one compiled graph.
Run it: python examples/demo.py, or `make demo`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import accel
from accel import nn, optim
from accel.data import DataLoader, train_test_split

HERE = Path(__file__).parent
EPOCHS, BATCH, TEST = 30, 64, 360


def load_digits() -> tuple[Any, Any, Any, Any]:
    """Pixels in [0, 1] and labels, shuffled and split: training x, y and test x, y."""
    with np.load(HERE / "digits.npz") as data:
        pixels = data["images"].astype(np.float32) / 16
        labels = data["labels"].astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(pixels, labels, test_size=TEST, seed=0)
    return x_train, y_train, x_test, y_test


def main() -> None:
    x_train, y_train, x_test, y_test = load_digits()
    accel.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    print(model.summary(), end="\n\n")

    @accel.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    @accel.compile
    def predict(x: Any) -> Any:
        return model(x).argmax(dim=1)

    batches = DataLoader((x_train, y_train), BATCH, shuffle=True, drop_last=True)
    start = time.perf_counter()
    with tqdm(range(EPOCHS), desc="training", unit="epoch") as epochs:
        for _ in epochs:
            losses = [step(x, y) for x, y in batches]
            epochs.set_postfix(loss=f"{np.mean([loss.item() for loss in losses]):.4f}")
    seconds = time.perf_counter() - start

    accuracy = np.mean(predict(x_test).numpy() == y_test)
    print(f"\ntest accuracy: {accuracy * 100:.1f}%")
    print(f"{EPOCHS} epochs of {len(batches)} steps in {seconds:.2f} s\n")

    batch = x_train[:BATCH], y_train[:BATCH]
    print("What the training step became (explain):")
    print(step.explain(*batch), end="\n\n")
    accel.print_stats()
    print("\nThe placed graph of the forward pass:")
    print(predict.graph(x_test, stage="placed"))

    out = HERE / "out"
    out.mkdir(exist_ok=True)
    accel.save_safetensors(model.state_dict(), out / "digits.safetensors")
    print(f"\nweights saved to {out / 'digits.safetensors'}")


if __name__ == "__main__":
    main()
