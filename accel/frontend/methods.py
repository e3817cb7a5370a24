"""Methods of Tensor: the functions under torch's names, conversions, in-place forms.

A public function takes its tensor first, so it is a method as it stands; `METHODS` lists those
that are. `INPLACE` names functions that also exist with an underscore: they rebind the tensor
to the result. What only a method means is defined here.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ArgumentError
from ..ir import dtypes
from . import torch_methods
from .functions import (
    arranging,
    combining,
    complex_numbers,
    composed,
    creation,
    decompositions,
    diagonals,
    dtype_functions,
    elementwise,
    gathering,
    histograms,
    indexing,
    joining,
    linear_algebra,
    norms,
    ordering,
    quantiles,
    random,
    reductions,
    scattering,
    sets,
    shapes,
    solving,
)
from .functions.operators import assign_inplace, check_inplace_dtype
from .numpy_api import protocol as numpy_protocol
from .tensors.arguments import UNSET, public
from .tensors.devices import Device
from .tensors.recording import answer, as_tensor, record
from .tensors.tensor import Tensor

__all__: list[str] = []

#: Function names that are methods, by the module that has them.
METHODS: dict[ModuleType, str] = {
    elementwise: """
        abs absolute acos acosh add addcdiv addcmul arccos arccosh arcsin arcsinh arctan arctan2
        arctanh asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not
        bitwise_or bitwise_right_shift bitwise_xor ceil clamp clip conj copysign cos cosh
        deg2rad div divide eq erf erfc exp exp2 expm1 fix floor floor_divide fmax fmin fmod ge
        greater greater_equal gt heaviside hypot isclose isfinite isinf isnan le lerp less
        less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
        lt masked_fill maximum minimum mul multiply ne neg negative nextafter not_equal positive
        pow rad2deg reciprocal relu remainder round rsqrt sigmoid sign signbit sin sinh sqrt
        square sub subtract tan tanh true_divide trunc""",
    reductions: """
        all amax amin aminmax any argmax argmin count_nonzero cumprod cumsum diff
        logcumsumexp logsumexp max mean min nanmean nansum prod std sum var""",
    norms: "log_softmax norm softmax",
    shapes: """
        broadcast_to clone contiguous expand flatten moveaxis movedim permute ravel reshape
        swapaxes swapdims t transpose unflatten unsqueeze view view_as""",
    arranging: "flip fliplr flipud repeat_interleave roll rot90 tile",
    joining: """
        chunk diagonal dsplit hsplit narrow select split split_with_sizes tensor_split unbind
        vsplit""",
    composed: """
        allclose clamp_max clamp_min digamma erfinv float_power frac gcd isneginf isposinf lcm
        ldexp lgamma logaddexp2 logit mvlgamma nan_to_num prelu sinc xlogy""",
    combining: "corrcoef cov dist renorm",
    diagonals: "diag diag_embed diagflat diagonal_scatter tril triu",
    scattering: "index_reduce put scatter scatter_add scatter_reduce",
    linear_algebra: """
        addbmm addmm addmv addr baddbmm bmm cross dot inner kron matmul matrix_power mm mv outer
        tensordot trace vdot vecdot""",
    decompositions: "cholesky det logdet matrix_exp slogdet",
    solving: "cholesky_inverse cholesky_solve inverse pinverse",
    ordering: "argsort cummax cummin kthvalue mode msort topk",
    quantiles: "median nanmedian nanquantile quantile",
    sets: "isin unique unique_consecutive",
    histograms: "bincount histc histogram",
    gathering: """
        argwhere gather index_add index_copy index_fill index_put index_select masked_scatter
        masked_select nonzero select_scatter slice_scatter take
        take_along_dim""",
    complex_numbers: "adjoint angle isreal sgn",
    dtype_functions: "astype is_complex is_floating_point",
    random: "bernoulli multinomial",
}  # fmt: skip

#: Functions with an in-place form, named with an underscore behind.
INPLACE = """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not
    bitwise_or bitwise_xor ceil clamp clip copysign cos cosh div divide eq erf erfc exp exp2 expm1
    floor floor_divide fmod ge gt hypot index_add
    index_copy index_fill index_put masked_scatter le lerp log log10 log1p log2
    logical_and logical_not logical_or logical_xor lt masked_fill mul multiply ne neg negative pow
    reciprocal relu remainder round rsqrt scatter scatter_add scatter_reduce sigmoid sign
    sin sinh sqrt square sub subtract tan tanh tril triu trunc nan_to_num cumsum cumprod
    baddbmm addmm addbmm addmv addr
    absolute arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_left_shift
    bitwise_right_shift clamp_max clamp_min deg2rad digamma erfinv fix float_power frac gcd greater
    greater_equal heaviside index_reduce lcm ldexp less less_equal lgamma logit mvlgamma nextafter
    not_equal put rad2deg renorm sgn sinc true_divide xlogy
"""

#: torch's conversions and what they convert to.
CONVERSIONS = {
    "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16,
    "bfloat16": dtypes.bfloat16, "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16,
    "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool_,
    "cfloat": dtypes.complex64, "cdouble": dtypes.complex128,
}  # fmt: skip


# -- what only methods mean -----------------------------------------------------------------
@public
def repeat(self: Tensor, *sizes: Any, axis: Any = UNSET) -> Tensor:
    """torch's repeat: copies of the whole along each axis; with ``axis=`` the standard's, each
    element several times in a row."""
    if axis is not UNSET:
        return arranging.repeat(self, *sizes, axis=axis)
    return arranging.tile(self, *sizes)


@public
def sort(
    self: Tensor, dim: Any = UNSET, descending: bool = False, stable: bool = True, *,
    axis: Any = UNSET,
) -> Any:  # fmt: skip
    """torch's sort: values and indices along a dim, the last by default; with ``axis=`` the
    standard's, values alone."""
    dim = -1 if dim is UNSET and axis is UNSET else dim
    return ordering.sort(self, dim, descending, stable, axis=axis)


@public
def squeeze(self: Tensor, dim: Any = None, *, axis: Any = UNSET) -> Tensor:
    """torch's squeeze: without all axes of extent 1, or without those among `dim`; with
    ``axis=`` the standard's, for which other extents are an error."""
    return shapes.squeeze(self, dim=UNSET if dim is None else dim, axis=axis)


def numel(self: Tensor) -> int:
    """The number of elements."""
    return self.size


def dim(self: Tensor) -> int:
    """The number of dimensions."""
    return self.ndim


def element_size(self: Tensor) -> int:
    """Bytes an element."""
    return self.dtype.itemsize


@public
def equal(self: Tensor, other: Any) -> Any:
    """Whether shape and all elements are those of `other`, as torch's method; the function
    `accel.equal` compares element by element.

    Returns
    -------
    bool
        At once; inside a compiled function a Tensor of it.
    """
    other = as_tensor(other)
    if self.shape != other.shape:
        return False
    return answer(record("all", record("eq", self, other)))


def qr(self: Tensor, some: bool = True) -> Any:
    """Q and R: `accel.linalg.qr`, complete unless `some`."""
    return decompositions.qr(self, mode="reduced" if some else "complete")


def svd(self: Tensor, some: bool = True, compute_uv: bool = True) -> tuple[Tensor, ...]:
    """U, S and V, the last of these not transposed as in torch; without `compute_uv` zeros for U
    and V. See `accel.linalg.svd`."""
    u, s, vh = decompositions.svd(self, full_matrices=not some)
    v = elementwise.conj(shapes.matrix_transpose(vh))
    if not compute_uv:
        u, v = creation.zeros_like(u), creation.zeros_like(v)
    return u, s, v


def type_as(self: Tensor, other: Any) -> Tensor:
    """The elements in the dtype of another tensor."""
    return dtype_functions.astype(self, as_tensor(other).dtype, copy=False)


@public
def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False,
       non_blocking: bool = False) -> Tensor:  # fmt: skip
    """The tensor in another dtype, on another device, or on the device and in the dtype of
    another tensor.

    Raises
    ------
    DeviceError
        For a device that is not there.
    """
    for given in args:
        if isinstance(given, Tensor):
            dtype, device = given.dtype, given.device
        elif str(given).partition(":")[0] in ("cpu", "cuda"):
            device = given
        else:
            dtype = given
    moved = self if dtype is None else dtype_functions.astype(self, dtype, copy=False)
    moved = moved if device is None else creation.move(moved, device)
    return shapes.clone(self) if copy and moved is self else moved


@public
def cpu(self: Tensor) -> Tensor:
    """The tensor in the CPU's memory; itself where it lies there."""
    return creation.move(self, "cpu")


@public
def cuda(self: Tensor, device: Any = "cuda") -> Tensor:
    """The tensor on a CUDA device; itself where it lies there.

    Raises
    ------
    CudaNotAvailable
        Without torch or without a CUDA device.
    """
    return creation.move(self, Device("cuda", device) if isinstance(device, int) else device)


@public
def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The standard's name for `to` with a device.

    Parameters
    ----------
    device
        A device or its name.
    stream
        None, or the `accel.cuda.Stream` on which the copy is made, at once.

    Raises
    ------
    DeviceError
        For a device that is not there.
    ArgumentError
        For a stream where no CUDA device takes part.
    """
    moved = creation.move(self, device)
    return moved if stream is None else to_stream(moved, stream)


@public
def to_stream(self: Tensor, stream: Any) -> Tensor:
    """The tensor itself, computed at once on a stream of its device.

    Raises
    ------
    ArgumentError
        For a tensor on the CPU, which has no streams.
    """
    if not self.is_cuda:
        raise ArgumentError("a tensor on the cpu has no streams", remedy="leave out the stream")
    return stream.compute(self)


def _conversion(name: str, dtype: dtypes.DType) -> Any:
    def convert(self: Tensor) -> Tensor:
        return dtype_functions.astype(self, dtype, copy=False)

    convert.__doc__ = f"The elements as {dtype.name}."
    return _named(convert, name)


def _named(method: Any, name: str) -> Any:
    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    return method


# -- in place -------------------------------------------------------------------------------
def _inplace(name: str, function: Any) -> Any:
    def change(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = function(self, *args, **kwargs)
        if result.dtype is dtypes.bool_ and self.dtype is not dtypes.bool_:
            result = record("cast", result, dtype=self.dtype)
        return assign_inplace(self, result, f"{name}_")

    change.__doc__ = f"Rebind the tensor to ``{name}`` of it; returns the tensor."
    return _named(public(change), f"{name}_")


@public
def fill_(self: Tensor, value: Any) -> Tensor:
    """Rebind the tensor to one number everywhere; returns the tensor."""
    if isinstance(value, (float, complex)):
        check_inplace_dtype(self.dtype, dtypes.of_scalar(value), "fill_")
    return self._assign(creation.full_like(self, value))


@public
def zero_(self: Tensor) -> Tensor:
    """Rebind the tensor to zeros; returns the tensor."""
    return self._assign(creation.zeros_like(self))


@public
def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *,
             generator: random.Generator | None = None) -> Tensor:  # fmt: skip
    """Rebind the tensor to uniform numbers from `low` to `high`; returns the tensor."""
    made = random.uniform(low, high, self.shape, dtype=self.dtype, generator=generator)
    return self._assign(made)


@public
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *,
            generator: random.Generator | None = None) -> Tensor:  # fmt: skip
    """Rebind the tensor to normal numbers; returns the tensor."""
    made = random.normal(mean, std, self.shape, dtype=self.dtype, generator=generator)
    return self._assign(made)


@public
def bernoulli_(
    self: Tensor, p: Any = 0.5, *, generator: random.Generator | None = None
) -> Tensor:  # fmt: skip
    """Rebind the tensor to 1 with probability `p`, else 0; returns the tensor."""
    made = random.bernoulli(p, self.shape, dtype=self.dtype, generator=generator)
    return self._assign(made)


@public
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
    """A Tensor of `size` of one number, by default of this tensor's dtype."""
    return creation.full(size, fill_value, dtype=dtype or self.dtype)


@public
def new_zeros(self: Tensor, *size: Any, dtype: Any = None) -> Tensor:
    """A Tensor of zeros, by default of this tensor's dtype."""
    return creation.zeros(*size, dtype=dtype or self.dtype)


@public
def new_ones(self: Tensor, *size: Any, dtype: Any = None) -> Tensor:
    """A Tensor of ones, by default of this tensor's dtype."""
    return creation.ones(*size, dtype=dtype or self.dtype)


@public
def where(self: Tensor, condition: Any, other: Any) -> Tensor:
    """This tensor where the condition is true, `other` elsewhere."""
    return elementwise.where(condition, self, other)


@public
def copy(self: Tensor) -> Tensor:
    """NumPy's name for `clone`."""
    return shapes.clone(self)


@public
def array_namespace(self: Tensor, /, *, api_version: str | None = None) -> Any:
    """The accel module, for code written to the Array API standard.

    Raises
    ------
    ArgumentError
        For a version of the standard that accel does not follow.
    """
    import accel

    if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        raise ArgumentError(f"version {api_version} of the standard",
                            remedy="ask for 2024.12")  # fmt: skip
    return accel


def _flag(test: Any, doc: str) -> Any:
    return property(test, doc=doc)


#: Attributes beside the functions.
OWN: dict[str, Any] = {
    "equal": equal, "qr": qr, "svd": svd, "repeat": repeat, "sort": sort,
    "squeeze": squeeze, "numel": numel, "dim": dim,
    "element_size": element_size, "type_as": type_as, "to": to, "cpu": cpu, "cuda": cuda,
    "to_device": to_device, "to_stream": to_stream, "copy": copy, "fill_": fill_, "zero_": zero_,
    "uniform_": uniform_, "normal_": normal_, "bernoulli_": bernoulli_, "new_full": new_full,
    "new_zeros": new_zeros, "new_ones": new_ones, "where": where,
    "conjugate": elementwise.conj,
    "real": _flag(elementwise.real, "The real part."),
    "imag": _flag(elementwise.imag, "The imaginary part; zero of real numbers."),
    "H": _flag(lambda self: elementwise.conj(shapes.matrix_transpose(self)),
               "The last two axes swapped, conjugate."),
    "is_cuda": _flag(lambda self: self.device.type == "cuda", "Whether a GPU holds it."),
    "__array_namespace__": array_namespace,
    "__array_ufunc__": numpy_protocol.array_ufunc,
    "__array_function__": numpy_protocol.array_function,
    "__getitem__": indexing.get_item, "__setitem__": indexing.set_item,
    "__divmod__": lambda self, other: (record("floor_divide", self, other),
                                       record("remainder", self, other)),
    "__rdivmod__": lambda self, other: (record("floor_divide", other, self),
                                        record("remainder", other, self)),
    "__round__": lambda self, digits=0: elementwise.round(self, digits or 0),
    "__floor__": elementwise.floor, "__ceil__": elementwise.ceil, "__trunc__": elementwise.trunc,
}  # fmt: skip


def _attach() -> None:
    for module, names in METHODS.items():
        for name in names.split():
            setattr(Tensor, name, getattr(module, name))
            if name in INPLACE.split():
                setattr(Tensor, f"{name}_", _inplace(name, getattr(module, name)))
    for name, dtype in CONVERSIONS.items():
        setattr(Tensor, name, _conversion(name, dtype))
    for name, member in [*OWN.items(), *torch_methods.METHODS.items()]:
        setattr(Tensor, name, member)


_attach()
