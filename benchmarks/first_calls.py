"""First calls of accel and its peers: `python first_calls.py PEER PROGRAM FOLDER`.

It prints a JSON line with the milliseconds of the program's first call and of a later one. The
process is warm: it has compiled and run another program before, but for the program `fresh`, where
the interpreter's start and every import count (the caller takes that time, up to the answer). It
runs by its path, in an environment that may hold no other library than the peer.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

#: Makes what is called; calling that compiles and runs the program, and waits for the result.
Maker = Callable[[], Callable[[], Any]]

OPS = 1_000


def ten(xp: Any, x: Any, a: Any, b: Any) -> Any:
    """Ten elementwise ops."""
    y = xp.tanh(x * a + b) * x
    y = xp.exp(-y) + a
    return xp.maximum(y - b, x) * y


def many(xp: Any, x: Any) -> Any:
    """A chain of `OPS` elementwise ops."""
    for i in range(OPS // 2):
        x = xp.sin(x) + float(i % 7)
    return x


def numbers(*shape: int) -> np.ndarray:
    """Of [-1, 1]. They are not drawn: importing NumPy's generator would count among the rest."""
    return np.sin(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)


def labels() -> np.ndarray:
    return np.arange(64) * 7 % 10


# -- peers --------------------------------------------------------------------------------
def accel(folder: Path) -> dict[str, Maker]:
    import accel
    from accel import nn, optim

    def compiled(function: Any, *arguments: np.ndarray) -> Callable[[], Any]:
        made = accel.compile(function)
        return lambda: accel.eval(made(*arguments))

    def warm() -> Callable[[], Any]:  # large enough to start the threads
        return compiled(lambda x: accel.cos(x) * x, numbers(1 << 20))

    def step() -> Callable[[], Any]:
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        accel.eval(*model.parameters())
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def train(x: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
            return loss

        return compiled(train, numbers(64, 64), labels())

    def fresh() -> Callable[[], Any]:
        model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        return compiled(model, numbers(1, 784))

    return {
        "warm": warm, "step": step, "fresh": fresh,
        "chain": lambda: compiled(lambda x, a, b: ten(accel, x, a, b), *numbers(3, 1000)),
        "softmax": lambda: compiled(lambda x: accel.softmax(x, axis=-1), numbers(64, 1000)),
        "ops": lambda: compiled(lambda x: many(accel, x), numbers(1000)),
    }  # fmt: skip


def jax(folder: Path) -> dict[str, Maker]:
    import jax
    import jax.numpy as jnp

    def compiled(function: Any, *arguments: Any) -> Callable[[], Any]:
        made = jax.jit(function)
        return lambda: jax.block_until_ready(made(*arguments))

    def layers(*sizes: int) -> Any:
        return [(numbers(i, o), numbers(o)) for i, o in pairwise(sizes)]

    def mlp(weights: Any, x: Any) -> Any:
        (w1, b1), (w2, b2) = weights
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    def loss(weights: Any, x: Any, t: Any) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(mlp(weights, x)), t[:, None], 1)
        return -chosen.mean()

    def train(weights: Any, x: Any, t: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, t)
        return value, jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients)

    return {
        "warm": lambda: compiled(lambda x: jnp.cos(x) * x, numbers(1 << 20)),
        "step": lambda: compiled(train, layers(64, 128, 10), numbers(64, 64), labels()),
        "fresh": lambda: compiled(mlp, layers(784, 256, 10), numbers(1, 784)),
        "chain": lambda: compiled(lambda x, a, b: ten(jnp, x, a, b), *numbers(3, 1000)),
        "softmax": lambda: compiled(lambda x: jax.nn.softmax(x), numbers(64, 1000)),
        "ops": lambda: compiled(lambda x: many(jnp, x), numbers(1000)),
    }  # fmt: skip


def torch_compile(folder: Path) -> dict[str, Maker]:
    import torch

    def compiled(function: Any, *arguments: np.ndarray) -> Callable[[], Any]:
        made, given = torch.compile(function), [torch.from_numpy(a) for a in arguments]
        return lambda: made(*given)

    def step() -> Callable[[], Any]:
        layers = torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
        model = torch.nn.Sequential(*layers)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def train(x: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
            return loss

        return compiled(train, numbers(64, 64), labels())

    def fresh() -> Callable[[], Any]:
        layers = torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
        return compiled(torch.nn.Sequential(*layers), numbers(1, 784))

    return {
        "warm": lambda: compiled(lambda x: torch.cos(x) * x, numbers(1 << 20)),
        "step": step, "fresh": fresh,
        "chain": lambda: compiled(lambda x, a, b: ten(torch, x, a, b), *numbers(3, 1000)),
        "softmax": lambda: compiled(lambda x: torch.softmax(x, -1), numbers(64, 1000)),
    }  # fmt: skip


def onnxruntime(folder: Path) -> dict[str, Maker]:
    """Models are files, which `write_models` has left in the folder."""
    import onnxruntime

    def session(name: str, **inputs: np.ndarray) -> Callable[[], Any]:
        made: list[Any] = []

        def run() -> Any:
            if not made:
                path, providers = folder / f"{name}.onnx", ["CPUExecutionProvider"]
                made.append(onnxruntime.InferenceSession(path, providers=providers))
            return made[0].run(None, inputs)

        return run

    x, a, b = numbers(3, 1000)
    return {
        "warm": lambda: session("softmax", x=numbers(64, 1000)),
        "fresh": lambda: session("fresh", x=numbers(1, 784)),
        "chain": lambda: session("chain", x=x, a=a, b=b),
        "ops": lambda: session("ops", x=x),
    }


def write_models(folder: Path) -> None:
    """onnxruntime's programs as files."""
    import onnx
    from onnx import helper, numpy_helper

    def save(name: str, text: str, inputs: dict[str, list[int]], **constants: Any) -> None:
        """`text`: a line per node, such as ``y = Add x a``."""
        nodes = []
        for line in text.split("\n"):
            result, _, right = line.partition(" = ")
            kind, *operands = right.split()
            nodes.append(helper.make_node(kind, operands, [result]))
        values = [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()
        ]
        last = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
        kept = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
        graph = helper.make_graph(nodes, name, values, [last], kept)
        opset = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")

    vector = [1000]
    save("chain", "p = Mul x a\nq = Add p b\nr = Tanh q\ns = Mul r x\nt = Neg s\nu = Exp t\n"
         "v = Add u a\nw = Sub v b\nz = Max w x\ny = Mul z v", dict.fromkeys("xab", vector))
    lines = ["y0 = Identity x"]
    for i in range(OPS // 2):
        lines += [f"s{i} = Sin y{i}", f"y{i + 1} = Add s{i} c{i % 7}"]
    constants = {f"c{i}": np.float32(i) for i in range(7)}
    save("ops", "\n".join(lines), {"x": vector}, **constants)
    save("softmax", "y = Softmax x", {"x": [64, 1000]})
    save("fresh", "p = MatMul x w1\nq = Add p b1\nr = Relu q\ns = MatMul r w2\ny = Add s b2",
         {"x": [1, 784]}, w1=numbers(784, 256), b1=numbers(256), w2=numbers(256, 10),
         b2=numbers(10))  # fmt: skip


PEERS = {"accel": accel, "jax": jax, "onnxruntime": onnxruntime, "torch.compile": torch_compile}


def main() -> None:
    peer, program, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if program == "models":
        write_models(folder)
        return
    programs = PEERS[peer](folder)
    if program not in programs:
        print(json.dumps({"absent": True}))
        return
    if program != "fresh":
        run = programs["warm"]()
        for _ in range(4):
            run()
    run = programs[program]()
    spent = []
    for _ in range(12):
        start = time.perf_counter()
        run()
        spent.append((time.perf_counter() - start) * 1e3)
        if program == "fresh":
            break
    print(json.dumps({"first": spent[0], "later": min(spent[1:], default=0.0)}), flush=True)


if __name__ == "__main__":
    main()
