"""onnxruntime on the CPU: a program is recorded as an ONNX model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..workloads import Training, Workload
from .base import Absent, Partial, Peer

OPSET = 20


class Model:
    """The nodes and constants recorded so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names = (f"v{i}" for i in itertools.count())

    def node(self, kind: str, *operands: Symbol, outputs: int = 1, **attributes: Any) -> Any:
        names = [next(self.names) for _ in range(outputs)]
        inputs = [operand.name for operand in operands]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        found = [Symbol(self, name) for name in names]
        return found[0] if outputs == 1 else found

    def constant(self, value: Any, dtype: Any = np.float32) -> Symbol:
        name = next(self.names)
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return Symbol(self, name)


class Symbol:
    """A value of a model, with Python's operators."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name

    def _symbol(self, other: Any) -> Symbol:
        return other if isinstance(other, Symbol) else self.model.constant(other)

    def __add__(self, other: Any) -> Symbol:
        return self.model.node("Add", self, self._symbol(other))

    def __radd__(self, other: Any) -> Symbol:
        return self.model.node("Add", self._symbol(other), self)

    def __sub__(self, other: Any) -> Symbol:
        return self.model.node("Sub", self, self._symbol(other))

    def __mul__(self, other: Any) -> Symbol:
        return self.model.node("Mul", self, self._symbol(other))

    def __rmul__(self, other: Any) -> Symbol:
        return self.model.node("Mul", self._symbol(other), self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.model.node("Div", self, self._symbol(other))


def _one(kind: str, **attributes: Any) -> Any:
    def apply(*operands: Symbol) -> Symbol:
        return operands[0].model.node(kind, *operands, **attributes)

    return staticmethod(apply)


class OnnxOperations(Partial):
    """The operations as ONNX nodes."""

    exp, log, sqrt, erf, pow = _one("Exp"), _one("Log"), _one("Sqrt"), _one("Erf"), _one("Pow")
    sin, cos, tanh, relu = _one("Sin"), _one("Cos"), _one("Tanh"), _one("Relu")
    sigmoid, gelu, matmul = _one("Sigmoid"), _one("Gelu"), _one("MatMul")
    softmax, layer_norm = _one("Softmax", axis=-1), _one("LayerNormalization", axis=-1)
    linear = _one("Gemm", transB=1)
    max_pool2d = _one("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    flatten = _one("Flatten", axis=1)

    def _reduce(self, kind: str, x: Symbol, axis: int | None) -> Symbol:
        axes = [] if axis is None else [x.model.constant([axis], np.int64)]
        return x.model.node(kind, x, *axes, keepdims=0)

    def sum(self, x: Symbol, axis: int | None) -> Symbol:
        return self._reduce("ReduceSum", x, axis)

    def mean(self, x: Symbol, axis: int | None) -> Symbol:
        return self._reduce("ReduceMean", x, axis)

    def logsumexp(self, x: Symbol) -> Symbol:
        return self._reduce("ReduceLogSumExp", x, -1)

    def logsumexp_slope(self, x: Symbol) -> Symbol:
        raise Absent("no gradients")

    def cross_entropy(self, x: Symbol, labels: Symbol) -> Symbol:
        return x.model.node("SoftmaxCrossEntropyLoss", x, labels)

    def conv2d(
        self, x: Symbol, weight: Symbol, bias: Symbol, stride: int, padding: int, groups: int
    ) -> Symbol:
        return x.model.node(
            "Conv", x, weight, bias, strides=[stride] * 2, pads=[padding] * 4, group=groups
        )

    def attention(self, query: Symbol, key: Symbol, value: Symbol) -> Symbol:
        node = query.model.node
        scores = node("MatMul", query, node("Transpose", key, perm=[0, 1, 3, 2]))
        scores = scores * (1 / math.sqrt(self.width))
        return node("MatMul", node("Softmax", scores, axis=-1), value)

    #: Columns of a head, known from the inputs.
    width = 64

    def heads(self, x: Symbol, count: int) -> Symbol:
        shape = x.model.constant([0, 0, count, -1], np.int64)
        return x.model.node("Transpose", x.model.node("Reshape", x, shape), perm=[0, 2, 1, 3])

    def merge_heads(self, x: Symbol) -> Symbol:
        shape = x.model.constant([0, 0, -1], np.int64)
        moved = x.model.node("Transpose", x, perm=[0, 2, 1, 3])
        return x.model.node("Reshape", moved, shape)

    def thirds(self, x: Symbol) -> Any:
        return x.model.node("Split", x, outputs=3, axis=-1, num_outputs=3)


class BlockOperations(OnnxOperations):
    """For inputs of three dimensions, which Gemm does not take."""

    width = 32

    def linear(self, x: Symbol, weight: Symbol, bias: Symbol) -> Symbol:  # type: ignore[override]
        transposed = x.model.node("Transpose", weight, perm=[1, 0])
        return x.model.node("MatMul", x, transposed) + bias


class OnnxRuntime(Peer):
    """onnxruntime's CPU provider with all its graph optimisations."""

    def version(self) -> str:
        return f"onnxruntime {onnxruntime.__version__}"

    def prepare(self, workload: Workload | Training) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if isinstance(workload, Training):
            raise Absent("does not train")
        samples = workload.sample()
        session = self._session(self._model(workload, samples))
        names = [entry.name for entry in session.get_inputs()]

        def run(*arrays: np.ndarray) -> Any:
            return session.run(None, dict(zip(names, arrays, strict=True)))[0]

        return run, samples

    def _model(self, workload: Workload, samples: tuple[np.ndarray, ...]) -> Any:
        model = Model()
        symbols = [Symbol(model, f"x{i}") for i in range(len(samples))]
        weights = [model.constant(value) for value in workload.parameters()]
        ops = BlockOperations() if samples[0].ndim == 3 else OnnxOperations()
        result = workload.function(ops, *symbols, *weights)
        inputs = [
            helper.make_tensor_value_info(
                symbol.name, helper.np_dtype_to_tensor_dtype(sample.dtype), sample.shape
            )
            for symbol, sample in zip(symbols, samples, strict=True)
        ]
        kind = helper.np_dtype_to_tensor_dtype(samples[0].dtype)
        output = helper.make_tensor_value_info(result.name, kind or TensorProto.FLOAT, None)
        graph = helper.make_graph(
            model.nodes, workload.name, inputs, [output], initializer=model.constants
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                 ir_version=10)  # fmt: skip

    def _session(self, model: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
