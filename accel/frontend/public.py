"""The public names of the frontend, the dtypes and the settings: what `accel` itself shows.

Models (`nn`, `optim`, `data`) are written in these alone, as a user would write them; the
package adds them to the same names.
"""

from . import operators as _operators
from . import native_recording as _native_recording  # takes over once code repeats itself
from .grad_modes import (
    enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled,
)  # fmt: skip
from .transforms import (
    grad, hessian, jacfwd, jacobian, jacrev, jvp, stop_gradient, value_and_grad, vjp,
)  # fmt: skip
from .checkpoint import checkpoint
from .custom_gradients import custom_vjp
from .compile import compile
from .evaluation import get_record_limit, set_record_limit
from .lazy import eval
from .tensor import Tensor
from .functions import *
from .composed import *
from .complex_numbers import *
from .reductions import *
from .norms import *
from .shapes import *
from .joining import *
from .diagonals import *
from .combining import *
from .linear_algebra import *
from .einsum import einsum
from .decompositions import cholesky, det, logdet, matrix_exp, slogdet
from .solving import cholesky_inverse, cholesky_solve, inverse, pinverse
from .gathering import *
from .scattering import *
from .ordering import *
from .quantiles import *
from .nan_reductions import *
from .sets import *
from .histograms import *
from .creation import *
from .random import *
from .dtype_functions import *
from .devices import Device as device
from .namespace import e, inf, nan, newaxis, pi
from . import autograd, fft, linalg, methods as _methods  # gives Tensor its methods
from ..ir import parse
from ..ir.dtypes import (
    bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64,
)  # fmt: skip
from ..ir.dtypes import bool_ as bool
from ..runtime.calibrate import calibrate
from ..runtime.info import (
    cuda_available, enable_logging, info, print_stats, reset_stats, stats, torch_available,
    torch_version,
)  # fmt: skip
from ..runtime.memory import (
    empty_cache, max_memory_allocated, memory_allocated, reset_peak_memory,
)  # fmt: skip
from ..runtime.settings import (
    get_mode, get_num_threads, get_threshold, mode, set_mode, set_num_threads, set_threshold,
    thresholds, use_preset,
)  # fmt: skip
