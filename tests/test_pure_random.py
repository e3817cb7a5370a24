"""Random graphs of small shapes, many of them equal, on the pure target and the reference."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import accel.ir.ops  # noqa: F401  (registers the ops)
from accel.errors import AccelError
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.node import Node
from accel.ir.op import get_op
from accel.ir.types import TensorType
from accel.passes.fuse import fuse
from accel.passes.simplify import simplify
from accel.targets.pure import compile_run
from accel.targets.reference import run_graph

F32, I64 = dtypes.float32, dtypes.int64


def one_region(body: Graph) -> Graph:
    """`body` as the only region of a run."""
    b = Builder()
    inputs = tuple([b.input(n.attrs["name"], n.type) for n in body.inputs])
    attrs = {"body": body, "name": "r0", "target": "pure", "reason": ""}
    region = b.node(get_op("region"), inputs, attrs)
    output = get_op("output")
    outputs = [b.node(output, (region,), {"index": i}) for i in range(len(body.outputs))]
    return b.graph(inputs, outputs)


class RandomGraph:
    """A random graph of small shapes, many of them equal, in which wrong maps show."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        rng = np.random.default_rng(seed)
        self.extents = [2, 3] if self.random.random() < 0.6 else [0, 1, 2, 3]
        b = self.b = Builder()
        self.inputs: list[Node] = []
        self.arrays: list[np.ndarray] = []
        for i in range(self.random.randint(1, 3)):
            shape = self.shape(self.random.randint(0, 3))
            self.inputs.append(b.input(f"x{i}", TensorType(F32, shape)))
            self.arrays.append(np.asarray(rng.uniform(-1, 1, shape), np.float32))
        ramp = b.iota(shape=self.shape(2), axis=self.random.randint(0, 1))
        self.values = [*self.inputs, b.full(0.5, self.shape(2), F32), b.cast(ramp, F32)]
        for _ in range(self.random.randint(4, 25)):
            step = self.random.choice(
                [self.unary, self.binary, self.binary, self.reduce, self.move, self.spread,
                 self.part, self.join, self.update, self.product, self.pick, self.add_at]
            )  # fmt: skip
            try:
                value = step(self.random.choice(self.values[-6:]))
            except AccelError:
                continue  # shapes that do not fit
            if value is not None and value.type.size < 3000:
                self.values.append(value)
        count = min(len(self.values), self.random.randint(1, 4))
        outputs = [*self.random.sample(self.values, count), self.values[-1]]
        self.graph = b.graph(self.inputs, outputs)

    def shape(self, rank: int) -> tuple[int, ...]:
        return tuple([self.random.choice([*self.extents, 1, 2, 2]) for _ in range(rank)])

    def unary(self, x: Node) -> Node:
        return self.b.apply(self.random.choice(["tanh", "neg", "abs", "sigmoid", "relu"]), x)

    def binary(self, x: Node) -> Node:
        op = self.random.choice(["add", "sub", "mul", "maximum"])
        return self.b.apply(op, x, self.random.choice(self.values))

    def reduce(self, x: Node) -> Node:
        rank = x.type.ndim
        axis = tuple(self.random.sample(range(rank), self.random.randint(0, rank)))
        op = self.random.choice(["sum", "mean", "amax", "amin", "prod"])
        return self.b.apply(op, x, axis=axis, keepdims=self.random.random() < 0.6)

    def move(self, x: Node) -> Node:
        shape, rank, size = x.type.shape, x.type.ndim, x.type.size
        if self.random.random() < 0.4:
            return self.b.permute(x, axes=tuple(self.random.sample(range(rank), rank)))
        at = self.random.randint(0, rank)
        shapes = [(size,), (2, size // 2), (size // 3, 3), (1, size, 1)]
        shapes.append((*shape[:at], 1, *shape[at:]))
        fitting = [s for s in shapes if math.prod(s) == size]
        return self.b.reshape(x, shape=self.random.choice(fitting))

    def spread(self, x: Node) -> Node:
        wide = [self.random.choice(self.extents) if e == 1 else e for e in x.type.shape]
        return self.b.broadcast_to(x, shape=(*self.shape(self.random.randint(0, 1)), *wide))

    def part(self, x: Node) -> Node:
        if self.random.random() < 0.3:
            return self.b.flip(x, axis=tuple([d for d in range(x.type.ndim) if d != 1]))
        bounds = []
        for extent in x.type.shape:
            begin = self.random.randint(0, max(extent - 1, 0))
            backwards = extent > 0 and self.random.random() < 0.4
            stop = self.random.randint(*((-1, begin) if backwards else (begin, extent)))
            bounds.append((begin, stop, self.random.choice([-1, -2] if backwards else [1, 2])))
        start, stop_, step = (tuple(b[i] for b in bounds) for i in range(3))
        return self.b.slice(x, start=start, stop=stop_, step=step)

    def join(self, x: Node) -> Node:
        if self.random.random() < 0.5:
            low = tuple([self.random.randint(0, 1) for _ in x.type.shape])
            return self.b.pad(x, low=low, high=low[::-1], value=0.25)
        axis = self.random.randrange(max(x.type.ndim, 1))
        others = [y for y in self.values if y.type.ndim == x.type.ndim]
        return self.b.cat(x, *self.random.sample(others, min(2, len(others))), axis=axis)

    def update(self, x: Node) -> Node:
        start = tuple([self.random.randint(0, max(e - 1, 0)) for e in x.type.shape])
        pairs = zip(x.type.shape, start, strict=True)
        shape = tuple([self.random.randint(0, extent - first) for extent, first in pairs])
        piece = self.b.broadcast_to(self.random.choice(self.values), shape=shape)
        stop = tuple([a + e for a, e in zip(start, shape, strict=True)])
        return self.b.slice_update(x, piece, start=start, stop=stop, step=(1,) * len(shape))

    def product(self, x: Node) -> Node:
        return self.b.matmul(x, self.random.choice(self.values))

    def indices(self, x: Node, extent: int) -> Node:
        return self.b.cast(self.b.mul(self.b.abs(self.b.tanh(x)), extent - 0.001), I64)

    def pick(self, x: Node) -> Node | None:
        if x.type.size == 0 or x.type.ndim == 0:
            return None
        axis = self.random.randrange(x.type.ndim)
        index = self.indices(self.random.choice(self.values), x.type.shape[axis])
        if self.random.random() < 0.5:
            return self.b.take(x, index, axis=axis)
        return self.b.gather(self.b.tanh(x), self.indices(x, x.type.shape[axis]), axis=axis)

    def add_at(self, x: Node) -> Node | None:
        if x.type.size == 0 or x.type.ndim == 0:
            return None
        axis = self.random.randrange(x.type.ndim)
        extent = x.type.shape[axis]
        if self.random.random() < 0.5:
            return self.b.scatter_add(x, self.indices(x, extent), self.b.tanh(x), axis=axis)
        shape = (*x.type.shape[:axis], 3, *x.type.shape[axis + 1 :])
        index = self.b.minimum(self.b.iota(shape=(3,), axis=0), extent - 1)
        return self.b.index_add(x, index, self.b.full(0.5, shape, F32), axis=axis)


@pytest.mark.parametrize("block", range(4))
def test_random_graphs(block: int) -> None:
    """In one region and fused into several, C-ordered and not, called twice."""
    for seed in range(100 * block, 100 * block + 100):
        made = RandomGraph(seed)
        arrays = [np.asfortranarray(a) if seed % 3 == 0 and a.ndim else a for a in made.arrays]
        before = [a.copy() for a in arrays]
        wanted = run_graph(made.graph, arrays)
        for run in (compile_run(one_region(made.graph)), compile_run(fuse(simplify(made.graph)))):
            for _ in range(2):
                for got, want in zip(run(arrays), wanted, strict=True):
                    assert (got.dtype, got.shape) == (want.dtype, want.shape)
                    np.testing.assert_allclose(got, want, rtol=3e-4, atol=3e-4)
        for array, old in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, old)
