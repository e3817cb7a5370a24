"""accel: a lazy graph compiler for tensor code."""

from .frontend import operators as _operators
from .frontend.autograd import (
    enable_grad, grad, jvp, no_grad, stop_gradient, value_and_grad, vjp,
)  # fmt: skip
from .frontend.compile import compile
from .frontend.evaluation import get_record_limit, set_record_limit
from .frontend.lazy import eval
from .frontend.tensor import Tensor
from .frontend.functions import *
from .frontend.reductions import *
from .frontend.norms import *
from .frontend.shapes import *
from .frontend.joining import *
from .frontend.linear_algebra import *
from .frontend.gathering import *
from .frontend.creation import *
from .frontend.random import *
from .frontend.dtype_functions import *
from .frontend.namespace import array_namespace_info as __array_namespace_info__
from .frontend.namespace import e, inf, nan, newaxis, pi
from .frontend import linalg, methods as _methods  # gives Tensor its methods
from .ir import parse
from .ir.dtypes import (
    bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64,
)  # fmt: skip
from .ir.dtypes import bool_ as bool
from .runtime.calibrate import calibrate
from .runtime.info import (
    cuda_available, enable_logging, info, print_stats, reset_stats, stats, torch_available,
    torch_version,
)  # fmt: skip
from .runtime.settings import (
    get_mode, get_num_threads, get_threshold, mode, set_mode, set_num_threads, set_threshold,
    thresholds, use_preset,
)  # fmt: skip
from . import data, nn, optim
from .interop.safetensors import load_safetensors, save_safetensors  # isort: skip

__version__ = "0.1.0"
__array_api_version__ = "2024.12"


def __getattr__(name: str) -> object:
    """Import on first use what most programs do without."""
    if name == "testing":
        import importlib

        return importlib.import_module(".testing", __name__)
    raise AttributeError(f"module 'accel' has no attribute {name!r}")
