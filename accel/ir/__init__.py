"""The intermediate representation: types, nodes, graphs, ops, text form, verifier."""

from . import ops
from .builder import Builder
from .dtypes import DType, to_dtype
from .graph import Graph
from .node import Literal, Node
from .op import ErrorSample, Op, Sample, all_ops, get_op, register, resolve
from .parsing import parse
from .types import TensorType
from .verify import verify

__all__ = [
    "Builder", "DType", "ErrorSample", "Graph", "Literal", "Node", "Op", "Sample", "TensorType",
    "all_ops", "get_op", "ops", "parse", "register", "resolve", "to_dtype", "verify",
]  # fmt: skip
