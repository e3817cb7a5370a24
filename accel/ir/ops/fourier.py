"""Discrete Fourier transforms: complex to complex, real to half of a spectrum, and back.

All others are these three, cropped, padded or conjugated: see `accel.fft`. The references are
NumPy's (pocketfft).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ...errors import ArgumentError, AxisError, DTypeError, ShapeError
from .. import dtypes
from ..axes import one_axis, some_axes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .reduce import bounded, magnitude

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["NORMS"]

F32, F64, C64, C128 = dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128

_POCKETFFT = "NumPy's pocketfft is machine code already"

#: Which direction divides by the number of points ("ortho": both, by its root), and what the
#: transform in the opposite direction calls the same factor.
NORMS = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _norm(op: str, value: Any) -> str:
    norm = "backward" if value is None else value
    if not isinstance(norm, str) or norm not in NORMS:
        raise ArgumentError(
            f"{op}: norm {value!r}", remedy="use one of " + ", ".join(map(repr, NORMS))
        )
    return norm


def _points(op: str, x: TensorType, axes: Sequence[int]) -> None:
    """Refuse to transform nothing."""
    for axis in axes:
        if x.shape[axis] == 0:
            raise ShapeError(f"{op} of {x} over axis {axis}, which has no elements",
                             remedy="give n, the number of points, to pad with zeros")  # fmt: skip


# -- precision ------------------------------------------------------------------------------
def _error(values: Any, errors: Any, out: np.ndarray, n: int, gain: float) -> np.ndarray:
    """The bound of a transform of `n` points in all, each element of modulus times `gain`.

    A butterfly errs by at most 1 + 4√2 roundoffs of its operands' 2-norm (Higham, Accuracy and
    Stability of Numerical Algorithms, 24.1), and there are log2(n) stages. Prime lengths take
    three transforms of up to 4n points and three products (Bluestein). No element is farther
    off than the 2-norm of all.
    """
    steps = 3 * (math.log2(n) + 3)
    size, carried = (math.sqrt(float(np.sum(np.square(np.abs(v))))) for v in (values, errors))
    eps = float(ml_dtypes.finfo(out.dtype).eps) / 2
    total = (1 + 4 * math.sqrt(2)) * eps * steps * (size + carried) + carried
    return bounded(np.full(out.shape, gain * math.sqrt(n) * total))


def _gain(norm: str, forward: bool, n: int) -> float:
    """The factor that the norm puts before the sum."""
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1 / n if (norm == "forward") == forward else 1.0


# -- complex to complex ---------------------------------------------------------------------
def _fft_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    axes = some_axes(attrs["axes"], types[0].ndim, "fft")
    _points("fft", types[0], axes)
    return {"axes": axes, "forward": bool(attrs["forward"]), "norm": _norm("fft", attrs["norm"])}


def _fft_reference(x: np.ndarray, *, axes: Shape, forward: bool, norm: str) -> np.ndarray:
    if not x.size or not axes:
        return x
    transform = np.fft.fftn if forward else np.fft.ifftn
    return transform(x, axes=axes, norm=norm)  # type: ignore[arg-type]


def _fft_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    axes, forward, norm = (node.attrs[k] for k in ("axes", "forward", "norm"))
    return (b.fft(g, axes=axes, forward=not forward, norm=NORMS[norm]),)


def _fft_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    n = math.prod(out.shape[a] for a in attrs["axes"])
    return _error(magnitude(values[0]), errors[0], out, max(n, 1),
                  _gain(attrs["norm"], attrs["forward"], max(n, 1)))  # fmt: skip


def _fft_samples() -> list[Sample]:
    cases: list[tuple[Shape, dict[str, Any]]] = [
        ((8,), {}), ((1,), {}), ((7,), {"forward": False}), ((3, 4), {"norm": "ortho"}),
        ((3, 4), {"axes": -1, "norm": "forward"}), ((6, 2, 5), {"axes": (2, 0)}),
        ((5, 4), {"forward": False, "axes": (0,), "norm": "forward"}), ((0, 4), {"axes": 1}),
        ((53,), {"forward": False, "norm": "ortho"}), ((2, 2), {"axes": ()}),
    ]  # fmt: skip
    found = [Sample((TensorType(d, s),), a) for d in (C64, C128) for s, a in cases]
    return [*found, Sample((np.array([1, np.nan, 2, 3], np.complex64),))]


def _fft_error_samples() -> list[ErrorSample]:
    z = TensorType(C64, (2, 3))
    return [
        ErrorSample((TensorType(F32, (4,)),), {}, DTypeError, "complex"),
        ErrorSample((z,), {"axes": 2}, AxisError, "axis 2"),
        ErrorSample((z,), {"axes": (0, -2)}, AxisError, "twice"),
        ErrorSample((z,), {"norm": "both"}, ArgumentError, "'both'"),
        ErrorSample((TensorType(C64, (0,)),), {}, ShapeError, "no elements"),
    ]


register(Op(
    name="fft", form="opaque", category="reduction", arity=(1, 1), kinds="c", cost=50,
    unsupported=_POCKETFFT,
    attrs={"axes": None, "forward": True, "norm": "backward"}, prepare=_fft_prepare,
    infer=lambda x, **attrs: TensorType(x.dtype, x.shape, x.device), reference=_fft_reference,
    gradient=_fft_gradient, error=_fft_error, ulp=1, samples=_fft_samples,
    error_samples=_fft_error_samples,
    doc="The discrete Fourier transform over axes, or (not `forward`) the inverse one.",
))  # fmt: skip


# -- real to half of the spectrum, and back -------------------------------------------------
def _prepare_half(name: str) -> Any:
    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        axis = one_axis(attrs["axis"], types[0].ndim, name)
        _points(name, types[0], (axis,))
        return {**attrs, "axis": axis, "norm": _norm(name, attrs["norm"])}

    return prepare


def _with_extent(x: TensorType, axis: int, extent: int) -> Shape:
    return (*x.shape[:axis], extent, *x.shape[axis + 1 :])


def _rfft_type(x: TensorType, *, axis: int, norm: str) -> TensorType:
    return TensorType(x.dtype.complex, _with_extent(x, axis, x.shape[axis] // 2 + 1), x.device)


def _irfft_type(x: TensorType, *, axis: int, n: int, norm: str) -> TensorType:
    if type(n) is not int or n < 1:
        raise ArgumentError(f"irfft: n {n!r}", remedy="give a number of points of 1 or more")
    if x.shape[axis] != n // 2 + 1:
        raise ShapeError(
            f"irfft: axis {axis} of {x} for {n} points",
            remedy=f"{n} points have a half spectrum of {n // 2 + 1}: crop or pad to that",
        )
    return TensorType(x.dtype.real, _with_extent(x, axis, n), x.device)


def _twice_inside(b: Builder, g: Node, axis: int, n: int, inside: float) -> Node:
    """`g`, a half spectrum, its elements that stand for two of the whole times `inside`."""
    shape = g.type.shape
    place = b.iota(shape=tuple(m if i == axis else 1 for i, m in enumerate(shape)), axis=axis)
    once = b.eq(place, 0)
    if n % 2 == 0:
        once = b.logical_or(once, b.eq(place, n // 2))
    return b.mul(g, b.cast(b.where(once, 1.0, inside), g.type.dtype.real))


def _rfft_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    axis, norm = node.attrs["axis"], node.attrs["norm"]
    n = node.inputs[0].type.shape[axis]
    half = _twice_inside(b, g, axis, n, 0.5)
    return (b.irfft(half, axis=axis, n=n, norm=NORMS[norm]),)


def _irfft_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    axis, n, norm = node.attrs["axis"], node.attrs["n"], node.attrs["norm"]
    return (_twice_inside(b, b.rfft(g, axis=axis, norm=NORMS[norm]), axis, n, 2.0),)


def _rfft_reference(x: np.ndarray, *, axis: int, norm: str) -> np.ndarray:
    if not x.size:
        return np.empty((*x.shape[:axis], x.shape[axis] // 2 + 1, *x.shape[axis + 1 :]), complex)
    return np.fft.rfft(x, axis=axis, norm=norm)  # type: ignore[arg-type]


def _irfft_reference(x: np.ndarray, *, axis: int, n: int, norm: str) -> np.ndarray:
    if not x.size:
        return np.empty((*x.shape[:axis], n, *x.shape[axis + 1 :]))
    return np.fft.irfft(x, n, axis, norm)  # type: ignore[arg-type]


def _half_error(forward: bool) -> Any:
    def error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
        n = attrs["n"] if "n" in attrs else np.shape(values[0])[attrs["axis"]]
        # Of a half spectrum most elements count twice.
        gain = _gain(attrs["norm"], forward, n) * (1 if forward else math.sqrt(2))
        return _error(magnitude(values[0]), errors[0], out, n, gain)

    return error


def _rfft_samples() -> list[Sample]:
    cases: list[tuple[Shape, dict[str, Any]]] = [
        ((8,), {}), ((1,), {}), ((7,), {"norm": "ortho"}), ((3, 4), {"axis": 0}),
        ((2, 5, 3), {"axis": 1, "norm": "forward"}), ((0, 4), {}), ((53,), {}),
    ]  # fmt: skip
    return [Sample((TensorType(d, s),), a) for d in (F32, F64) for s, a in cases]


def _irfft_samples() -> list[Sample]:
    cases: list[tuple[Shape, dict[str, Any]]] = [
        ((5,), {"n": 8}), ((1,), {"n": 1}), ((4,), {"n": 7, "norm": "ortho"}),
        ((3, 4), {"axis": 0, "n": 4}), ((2, 5, 3), {"axis": 1, "n": 9, "norm": "forward"}),
        ((0, 4), {"n": 6}), ((27,), {"n": 53}), ((2,), {"n": 2}),
    ]  # fmt: skip
    return [Sample((TensorType(d, s),), a) for d in (C64, C128) for s, a in cases]


register(Op(
    name="rfft", form="opaque", category="reduction", arity=(1, 1), kinds="f", cost=25,
    unsupported=_POCKETFFT,
    attrs={"axis": -1, "norm": "backward"}, prepare=_prepare_half("rfft"), infer=_rfft_type,
    reference=_rfft_reference, gradient=_rfft_gradient, error=_half_error(True), ulp=1,
    samples=_rfft_samples,
    error_samples=lambda: [
        ErrorSample((TensorType(C64, (4,)),), {}, DTypeError, "floating"),
        ErrorSample((TensorType(F32, (2, 3)),), {"axis": 2}, AxisError, "axis 2"),
        ErrorSample((TensorType(F32, (4,)),), {"norm": 1}, ArgumentError, "norm 1"),
        ErrorSample((TensorType(F32, (0,)),), {}, ShapeError, "no elements"),
    ],
    doc="The half of the spectrum of real numbers, along one axis, that the other half mirrors.",
))  # fmt: skip

register(Op(
    name="irfft", form="opaque", category="reduction", arity=(1, 1), kinds="c", cost=25,
    unsupported=_POCKETFFT,
    attrs={"axis": -1, "n": REQUIRED, "norm": "backward"}, prepare=_prepare_half("irfft"),
    infer=_irfft_type, reference=_irfft_reference, gradient=_irfft_gradient,
    error=_half_error(False), ulp=1, samples=_irfft_samples,
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (4,)),), {"n": 6}, DTypeError, "complex"),
        ErrorSample((TensorType(C64, (2, 3)),), {"axis": 2, "n": 2}, AxisError, "axis 2"),
        ErrorSample((TensorType(C64, (4,)),), {"n": 5}, ShapeError, "half spectrum of 3"),
        ErrorSample((TensorType(C64, (1,)),), {"n": 0}, ArgumentError, "n 0"),
        ErrorSample((TensorType(C64, (1,)),), {"n": 1, "norm": "x"}, ArgumentError, "'x'"),
    ],
    doc="The `n` real numbers, along one axis, of half a spectrum. What would make them complex, "
    "the imaginary parts of the ends, is not looked at.",
))  # fmt: skip
