"""The public names of the frontend, the dtypes and the settings: what `accel` itself shows.

Models (`nn`, `optim`, `data`) are written in these alone, as a user would write them; the
package adds them to the same names.
"""

from .functions import operators as _operators
from .native import recording as _native_recording  # takes over once code repeats itself
from .autodiff.grad_modes import (
    enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled,
)  # fmt: skip
from .autodiff.transforms import grad, jvp, stop_gradient, value_and_grad, vjp
from .autodiff.jacobians import hessian, jacfwd, jacobian, jacrev
from .autodiff.checkpoint import checkpoint
from .autodiff.custom_gradients import custom_vjp
from .tracing.compile import compile
from .tensors.evaluation import get_record_limit, set_record_limit
from .tensors.lazy import eval
from .tensors.tensor import Tensor
from .functions.elementwise import *
from .functions.composed import *
from .functions.complex_numbers import *
from .functions.reductions import *
from .functions.norms import *
from .functions.shapes import *
from .functions.joining import *
from .functions.arranging import *
from .functions.diagonals import *
from .functions.combining import *
from .functions.linear_algebra import *
from .functions.einsum import einsum
from .functions.decompositions import cholesky, det, logdet, matrix_exp, slogdet
from .functions.solving import cholesky_inverse, cholesky_solve, inverse, pinverse
from .functions.gathering import *
from .functions.scattering import *
from .functions.ordering import *
from .functions.quantiles import *
from .functions.nan_reductions import *
from .functions.sets import *
from .functions.histograms import *
from .functions.creation import *
from .functions.ranges import *
from .functions.random import *
from .functions.dtype_functions import *
from .tensors.devices import Device as device
from .namespace import e, inf, nan, newaxis, pi
from .autodiff import autograd  # gives Tensor its methods
from .functions import fft, linalg  # gives Tensor its methods
from . import methods as _methods  # gives Tensor its methods
from ..ir import parse
from ..ir.dtypes import (
    bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64,
)  # fmt: skip
from ..ir.dtypes import bool_ as bool
from ..log import enable_logging
from ..runtime.calibrate import calibrate
from ..runtime.info import (
    cuda_available, info, print_stats, reset_stats, stats, torch_available, torch_version,
)  # fmt: skip
from ..runtime.memory import (
    empty_cache, max_memory_allocated, memory_allocated, reset_peak_memory,
)  # fmt: skip
from ..runtime.settings import (
    get_mode, get_num_threads, get_threshold, mode, set_mode, set_num_threads, set_threshold,
    thresholds, use_preset,
)  # fmt: skip
