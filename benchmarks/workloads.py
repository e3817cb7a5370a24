"""What is timed: programs at sizes, with the goal of each.

A :class:`Workload` is a program of `benchmarks.programs` with inputs; a :class:`Training` is a
model's training step, which every library writes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import programs

Arrays = tuple[np.ndarray, ...]
Draw = Callable[[np.random.Generator], Arrays]


@dataclass(frozen=True)
class Workload:
    """One program at one size.

    Attributes
    ----------
    tolerance
        Largest error, relative to the largest reference value.
    weights
        Arrays that the program reads from outside: parameters of a model, passed after `inputs`.
    goal
        How many times accel's time the yardstick takes; None makes no claim.
    against
        The yardstick: a workload and a peer. By default the fastest peer of the same workload.
    only
        The peers that take part; all by default.
    style
        How it is called: ``"compiled"`` on accel's Tensors, ``"numpy"`` (compiled, on NumPy
        arrays), ``"lazy"`` (undecorated, the result is read), or ``"copy"`` (NumPy into an array
        that exists).
    threads
        accel's threads; 0 for those of the run.
    flops
        Floating-point operations, for the share of the machine's peak.
    dtype
        Of the floating-point inputs.
    """

    name: str
    function: Callable[..., Any]
    inputs: Draw
    tolerance: float = 1e-5
    weights: Draw | None = None
    goal: float | None = None
    against: tuple[str, str] | None = None
    only: tuple[str, ...] = ()
    style: str = "compiled"
    threads: int = 0
    flops: float = 0.0
    dtype: str = "float32"

    def sample(self) -> Arrays:
        """The inputs: the same in every process."""
        return tuple([self._typed(x) for x in self.inputs(np.random.default_rng(0))])

    def parameters(self) -> Arrays:
        """The weights: the same in every process."""
        if self.weights is None:
            return ()
        return tuple([self._typed(x) for x in self.weights(np.random.default_rng(1))])

    def _typed(self, array: np.ndarray) -> np.ndarray:
        return array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array


@dataclass(frozen=True)
class Training:
    """A training step of a 64-128-10 perceptron with ReLU on a batch of 64 digits-like rows."""

    name: str
    optimizer: str
    learning_rate: float
    batch: int = 64
    checked_steps: int = 5
    tolerance: float = 1e-4
    goal: float | None = None
    against: tuple[str, str] | None = None
    only: tuple[str, ...] = ()
    flops: float = 0.0

    def sample(self) -> Arrays:
        """The batch: pixels in [0, 1] and int64 labels."""
        rng = np.random.default_rng(1)
        pixels = rng.random((self.batch, 64), dtype=np.float32)
        return pixels, rng.integers(0, 10, self.batch)

    def parameters(self) -> Arrays:
        """Initial weights and biases, shaped as torch's Linear has them."""
        rng = np.random.default_rng(2)
        shapes = [(128, 64), (128,), (10, 128), (10,)]
        return tuple(rng.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes)


# -- inputs ----------------------------------------------------------------------------------
def _normal(*shapes: tuple[int, ...], scale: float = 1.0) -> Draw:
    def draw(rng: np.random.Generator) -> Arrays:
        return tuple(
            [rng.standard_normal(shape, dtype=np.float32) * np.float32(scale) for shape in shapes]
        )

    return draw


def _uniform(low: float, high: float, *shapes: tuple[int, ...]) -> Draw:
    def draw(rng: np.random.Generator) -> Arrays:
        return tuple([rng.uniform(low, high, shape).astype(np.float32) for shape in shapes])

    return draw


def _options(count: int) -> Draw:
    def draw(rng: np.random.Generator) -> Arrays:
        ranges = [(20.0, 200.0), (20.0, 200.0), (0.1, 3.0)]
        return tuple([rng.uniform(low, high, count).astype(np.float32) for low, high in ranges])

    return draw


def _classes(rows: int, columns: int) -> Draw:
    def draw(rng: np.random.Generator) -> Arrays:
        logits = rng.standard_normal((rows, columns), dtype=np.float32)
        return logits, rng.integers(0, columns, rows)

    return draw


# -- the rows, in the order of the table ------------------------------------------------------
def _calls() -> list[Workload]:
    three = _normal((16,), (16,), (16,))
    chain = programs.relu_chain
    one = ("call/one_add", "numpy")
    return [
        Workload("call/one_add", programs.add, _normal((16,), (16,)), only=("accel", "numpy")),
        Workload("call/numpy", chain, three, goal=1.0, against=one, style="numpy"),
        Workload("call/tensors", chain, three, goal=3.0, against=one),
        Workload("lazy/16", chain, three, goal=2.0, against=("lazy/16", "torch"), style="lazy"),
        Workload("long_chain/1000", programs.long_chain, _normal((1000,)), 1e-4, goal=8.0),
    ]


def _elementwise() -> list[Workload]:
    found = []
    for count, goal in ((10**3, 5.0), (10**4, 4.0), (10**5, 2.5), (10**6, 2.0), (10**7, 2.5)):
        draw = _normal(*[(count,)] * 5)
        found.append(Workload(f"elementwise/{count}", programs.gated_gelu, draw, goal=goal))
    for count, goal in ((10**3, 3.0), (10**4, 2.0), (10**5, 2.0), (10**6, 2.0), (10**7, 3.0)):
        name = f"black_scholes/{count}"
        found.append(Workload(name, programs.black_scholes, _options(count), goal=goal))
    for count in (10**5, 10**6):
        for name in ("exp", "tanh", "sin", "cos", "erf"):
            draw = _normal((count,), scale=2.0)
            function = getattr(programs, name)
            found.append(Workload(f"{name}/{count}", function, draw, goal=1.2))
        positive = _uniform(0.1, 10.0, (count,))
        found.append(Workload(f"log/{count}", programs.log, positive, goal=1.2))
        bases = _uniform(0.1, 4.0, (count,), (count,))
        found.append(Workload(f"pow/{count}", programs.power, bases, goal=1.2))
    for count in (10**7, 3 * 10**7):
        draw = _normal((count,))
        copy = (f"copy/{count}", "numpy")
        found += [
            Workload(f"copy/{count}", programs.copy, draw, only=("numpy",), style="copy"),
            Workload(f"memory_exp/{count}", programs.exp, draw, goal=0.85, against=copy),
            Workload(f"memory_axpb/{count}", programs.scale_shift, draw, goal=0.85, against=copy),
        ]
    return found


def _rows() -> list[Workload]:
    found = []
    for (rows, columns), softmax, norm in (((64, 64), 1.5, 1.2), ((4096, 1024), 1.4, 1.5)):
        size, shape, row = f"{rows}x{columns}", (rows, columns), (columns,)
        affine = _normal(shape, row, row)
        found += [
            Workload(f"softmax/{size}", programs.softmax, _normal(shape), goal=softmax),
            Workload(f"layer_norm/{size}", programs.layer_norm, affine, goal=norm),
        ]
    large = _normal((4096, 1024))
    for kind in ("sum", "mean", "var"):
        for place in ("last", "first", "all"):
            name = f"{kind}_{place}"
            function = getattr(programs, name)
            found.append(Workload(f"{name}/4096x1024", function, large, 3e-5, goal=1.0))
    classes = _classes(4096, 1000)
    table = _normal((4096, 1000))
    found += [
        Workload("logsumexp/4096x1000", programs.logsumexp, table, goal=1.5),
        Workload("logsumexp_slope/4096x1000", programs.logsumexp_slope, table, goal=1.5),
        Workload("cross_entropy/4096x1000", programs.cross_entropy, classes, goal=1.5),
        Workload("cross_entropy_slope/4096x1000", programs.cross_entropy_slope, classes, goal=1.5),
    ]
    return found


def _products() -> list[Workload]:
    found = []
    goals = {32: 2.0, 64: 1.8, 128: 1.1, 256: 1.05, 512: 1.05, 1024: 1.05, 2048: 1.05}
    for n, goal in goals.items():
        draw = _normal((n, n), (n, n))
        found.append(Workload(f"matmul/{n}", programs.matmul, draw, goal=goal, flops=2.0 * n**3))
    for n in (512, 1024):
        draw = _normal((n, n), (n, n))
        name = f"matmul_f64/{n}"
        found.append(Workload(name, programs.matmul, draw, 1e-12, flops=2.0 * n**3,
                              dtype="float64"))  # fmt: skip
    batch = _normal((64, 64, 64), (64, 64, 64))
    found.append(Workload("matmul/64x64x64x64", programs.matmul, batch, goal=1.2,
                          flops=2.0 * 64**4))  # fmt: skip
    for m in (1, 4):
        draw = _normal((m, 1024), (1024, 1024))
        found.append(Workload(f"matmul/{m}x1024x1024", programs.matmul, draw, goal=1.1,
                              flops=2.0 * m * 1024**2))  # fmt: skip
    for batch_size, sizes, goal in (
        (1, (784, 256, 10), 1.3), (32, (784, 256, 10), 1.2), (256, (784, 256, 10), 1.05),
        (64, (1024, 4096, 1024), 1.05),
    ):  # fmt: skip
        first, hidden, last = sizes
        name = f"mlp/{'-'.join(map(str, sizes))}@{batch_size}"
        weights = _normal((hidden, first), (hidden,), (last, hidden), (last,), scale=0.05)
        flops = 2.0 * batch_size * hidden * (first + last)
        found.append(Workload(name, programs.perceptron, _normal((batch_size, first)),
                              weights=weights, goal=goal, flops=flops))  # fmt: skip
    return found


def _models() -> list[Workload]:
    wide, many = (1, 64, 56, 56), _normal((64, 64, 3, 3), (64,), scale=0.05)
    image = _normal((1, 3, 224, 224))
    found = [
        Workload("conv3x3/64x56x56", programs.conv3x3, _normal(wide), weights=many, goal=1.1,
                 flops=2.0 * 9 * 64 * 64 * 56 * 56),
        Workload("conv3x3/3x224x224", programs.conv3x3, image, goal=2.0,
                 weights=_normal((64, 3, 3, 3), (64,), scale=0.1),
                 flops=2.0 * 9 * 3 * 64 * 224 * 224),
        Workload("conv7x7/3x224x224", programs.conv7x7, image, goal=2.0,
                 weights=_normal((64, 3, 7, 7), (64,), scale=0.1),
                 flops=2.0 * 49 * 3 * 64 * 112 * 112),
        Workload("depthwise/64x56x56", programs.depthwise, _normal(wide), goal=1.5,
                 weights=_normal((64, 1, 3, 3), (64,), scale=0.2)),
    ]  # fmt: skip
    layers = _normal((16, 3, 3, 3), (16,), (32, 16, 3, 3), (32,), (10, 2048), (10,), scale=0.1)
    for batch, goal in ((1, 1.3), (32, 1.1)):
        draw = _normal((batch, 3, 32, 32))
        found.append(Workload(f"cnn/{batch}", programs.small_cnn, draw, weights=layers,
                              goal=goal))  # fmt: skip
    for length in (128, 1024):
        draw = _normal(*[(1, 12, length, 64)] * 3)
        found.append(Workload(f"attention/12x{length}x64", programs.attention, draw, goal=1.2,
                              flops=4.0 * 12 * 64 * length**2))  # fmt: skip
    for batch in (1, 8):
        found.append(Workload(f"transformer/{batch}x128x384", programs.transformer_block,
                              _normal((batch, 128, 384)), weights=_block, goal=1.15))  # fmt: skip
    return found


def _block(rng: np.random.Generator) -> Arrays:
    """Weights of `programs.transformer_block`: 384 wide, 1,536 inside."""
    width, hidden = 384, 1536
    matrices = [(3 * width, width), (width, width), (hidden, width), (width, hidden)]
    wi, wo, w1, w2 = (
        rng.standard_normal(s, dtype=np.float32) / np.float32(s[1]) ** 0.5 for s in matrices
    )
    zeros, ones = np.zeros(3 * hidden, np.float32), np.ones(width, np.float32)
    norm = (ones, zeros[:width])
    return (*norm, wi, zeros[: 3 * width], wo, zeros[:width], *norm, w1, zeros[:hidden], w2,
            zeros[:width])  # fmt: skip


def _threads() -> list[Workload]:
    return [
        Workload("2_threads/matmul/512", programs.matmul, _normal((512, 512), (512, 512)),
                 goal=1.7, against=("matmul/512", "accel"), only=("accel",), threads=2),
        Workload("2_threads/elementwise/1000000", programs.gated_gelu, _normal(*[(10**6,)] * 5),
                 goal=1.7, against=("elementwise/1000000", "accel"), only=("accel",), threads=2),
        Workload("2_threads/softmax/4096x1024", programs.softmax, _normal((4096, 1024)),
                 goal=1.7, against=("softmax/4096x1024", "accel"), only=("accel",), threads=2),
    ]  # fmt: skip


def _declare() -> list[Workload | Training]:
    training = [
        Training("train/sgd", "sgd", 0.1, goal=1.5),
        Training("train/adam", "adam", 1e-3, goal=1.5),
    ]
    return [
        *_calls(), *_elementwise(), *_rows(), *_products(), *_models(), *training, *_threads()
    ]  # fmt: skip


WORKLOADS = {workload.name: workload for workload in _declare()}
