"""accel: a lazy graph compiler for tensor code."""

from .frontend import operators as _operators  # noqa: F401  (gives Tensor its operators)
from .frontend.autograd import (
    enable_grad, grad, jvp, no_grad, stop_gradient, value_and_grad, vjp,
)  # fmt: skip
from .frontend.compile import compile
from .frontend.evaluation import get_record_limit, set_record_limit
from .frontend.lazy import eval
from .frontend.tensor import Tensor
from .ir import parse
from . import nn, optim  # isort: skip
from .interop.safetensors import load_safetensors, save_safetensors  # isort: skip

__version__ = "0.1.0"
