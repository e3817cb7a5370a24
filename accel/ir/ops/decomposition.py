"""Factorisations: QR, singular values, eigenvalues.

What is unique only up to signs or phases is LAPACK's choice. Gradients are right for what does not
depend on that choice; repeated singular or eigenvalues make those of vectors infinite or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, GradientError, LinAlgError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .matrices import (
    adjoint,
    check_matrix,
    conditioned,
    diagonal_matrix,
    diagonal_of,
    lapack,
    matrices,
    matrix_errors,
    norm_of,
    of_matrices,
    perturbation,
    positive,
    times,
)

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32 = dtypes.float32
_FINITE = "the matrix must be finite"
_NAN = np.full((2, 2), np.nan, np.float32)
_SHAPES: tuple[Shape, ...] = ((4, 3), (3, 4), (3, 3), (2, 5, 2), (1, 1), (0, 3), (3, 0), (0, 2, 2))


def _of_parts(parts: Sequence[str], samples: Callable[..., list[Sample]]) -> list[Sample]:
    return [s for part in parts for s in samples(part=part)]


def _same_for(errors: np.ndarray, bound: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The bound of vectors, whose signs are settled only where the matrix is exactly known."""
    known = ~np.asarray(errors).any()
    return np.broadcast_to(bound if known else np.inf, out.shape)


# -- QR -------------------------------------------------------------------------------------
def _qr_prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["mode"] not in ("reduced", "complete"):
        raise ArgumentError(f"qr: mode {attrs['mode']!r}", remedy="use 'reduced' or 'complete'")
    return attrs


def _qr_type(x: TensorType, *, mode: str, part: str) -> TensorType:
    check_matrix("qr", x)
    *batch, m, n = x.shape
    inner = m if mode == "complete" else min(m, n)
    return x.with_shape((*batch, m, inner) if part == "Q" else (*batch, inner, n))


def _rotation(b: Builder, x: Node) -> Node:
    """The lower triangle of x - xᴴ, with half its diagonal: what turns Q, whose R has a real
    diagonal."""
    skew = b.sub(x, adjoint(b, x))
    lower = b.tril(skew, diagonal=-1)
    return b.add(lower, b.mul(b.sub(b.tril(skew), lower), 0.5))


def _qr_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    """Walter and Lehmann, "Algorithmic differentiation of linear algebra functions" (2018); of a
    wide matrix [X Y] = Q [U V] by V = Qᴴ Y, Roberts and Roberts, "QR and LQ decomposition matrix
    backpropagation algorithms for square, wide, and deep matrices" (2020)."""
    (x,) = node.inputs
    mode, part = node.attrs["mode"], node.attrs["part"]
    *batch, m, n = x.type.shape
    if mode == "complete" and m > n:
        raise GradientError("qr: mode='complete' of a matrix with more rows than columns has no "
                            "gradient", remedy="use mode='reduced'")  # fmt: skip
    q, r = (b.qr(x, mode=mode, part=p) for p in ("Q", "R"))
    if m >= n:
        return (_tall_qr(b, q, r, g, part == "Q"),)
    left, right = _columns(b, r, 0, m), _columns(b, x, m, n)
    if part == "Q":
        slope = _tall_qr(b, q, left, g, True)
        return (b.pad(slope, low=(0,) * (len(batch) + 2), high=(*[0] * len(batch), 0, n - m)),)
    first, last = _columns(b, g, 0, m), _columns(b, g, m, n)
    slope = _tall_qr(b, q, left, first, False)
    slope = b.add(slope, _tall_qr(b, q, left, b.matmul(right, adjoint(b, last)), True))
    return (b.cat(slope, b.matmul(q, last), axis=-1),)


def _columns(b: Builder, x: Node, start: int, stop: int) -> Node:
    *rest, _ = x.type.shape
    return b.slice(x, start=(*[0] * len(rest), start), stop=(*rest, stop), step=(1,) * x.type.ndim)


def _tall_qr(b: Builder, q: Node, r: Node, g: Node, of_q: bool) -> Node:
    """The cotangent of q r, of which `g` is that of one factor."""
    if of_q:
        inner = b.matmul(adjoint(b, q), g)
        slope = b.sub(g, b.matmul(q, b.sub(inner, _rotation(b, inner))))
    else:
        inner = b.matmul(g, adjoint(b, r))
        slope = b.matmul(q, b.sub(inner, _rotation(b, inner)))
    return adjoint(b, b.solve_triangular(r, adjoint(b, slope), upper=True))  # slope r⁻ᴴ


def _qr_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = perturbation(values[0], errors[0], out)
    size, factor = conditioned(values[0], moved)
    scale = 1.0 if attrs["part"] == "Q" else norm_of(values[0])
    return _same_for(errors[0], 4 * factor * size * moved * scale, out)


register(Op(
    name="qr", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"mode": "reduced", "part": REQUIRED}, joint="part", parts=("Q", "R"),
    prepare=_qr_prepare, infer=_qr_type, exact=True,
    reference=lambda x, *, mode: tuple(np.linalg.qr(x, mode)),
    gradient=_qr_gradient, error=_qr_error, ulp=4, cost=200.0,
    samples=lambda: _of_parts(("Q", "R"), lambda part: [
        *of_matrices(shapes=_SHAPES, part=part),
        Sample((matrices(2, 4),), {"mode": "complete", "part": part}),
        Sample((matrices(4, 2),), {"mode": "complete", "part": part}),
    ]),
    error_samples=lambda: [
        *matrix_errors(square=False, part="R"),
        ErrorSample((TensorType(F32, (3, 2)),), {"mode": "raw", "part": "R"}, ArgumentError, "raw"),
    ],
    doc="A matrix with orthonormal columns times an upper triangle; `part` is Q or R.",
))  # fmt: skip


# -- singular values ------------------------------------------------------------------------
def _svd_type(x: TensorType, *, full_matrices: bool, part: str) -> TensorType:
    check_matrix("svd", x)
    *batch, m, n = x.shape
    rank = min(m, n)
    if part == "S":
        return TensorType(x.dtype.real, (*batch, rank), x.device)
    if part == "U":
        return x.with_shape((*batch, m, m if full_matrices else rank))
    return x.with_shape((*batch, n if full_matrices else rank, n))


def _gaps(b: Builder, values: Node) -> Node:
    """values_j - values_i at [i, j], with ones on the diagonal."""
    *batch, n = values.type.shape
    row = b.reshape(values, shape=(*batch, 1, n))
    unit = b.eye(n=n, dtype=dtypes.bool_)
    gaps = b.sub(row, b.reshape(values, shape=(*batch, n, 1)))
    return b.where(unit, b.constant(1, values.type.dtype), gaps)


def _scaled_columns(b: Builder, x: Node, scale: Node) -> Node:
    *batch, n = scale.type.shape
    return b.mul(x, b.reshape(scale, shape=(*batch, 1, n)))


def _svd_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    """Townsend, "Differentiating the singular value decomposition" (2016); complex phases as in
    Wan and Zhang, "Automatic differentiation for complex valued SVD" (2019)."""
    (x,) = node.inputs
    *_, m, n = x.type.shape
    part = node.attrs["part"]
    if node.attrs["full_matrices"] and m != n and part != "S":
        raise GradientError("svd: full_matrices=True has no gradient of the vectors that belong to "
                            "no singular value", remedy="use full_matrices=False")  # fmt: skip
    u, s, vh = (b.svd(x, full_matrices=False, part=p) for p in ("U", "S", "Vh"))
    if part == "S":
        return (b.matmul(_scaled_columns(b, u, g), vh),)
    vectors, g = (u, g) if part == "U" else (adjoint(b, vh), adjoint(b, g))
    slope = _turned(b, vectors, s, g, part == "U")
    if part == "U":
        return (b.matmul(slope, vh),)
    return (b.matmul(u, adjoint(b, slope)),)


def _turned(b: Builder, vectors: Node, s: Node, g: Node, phases: bool) -> Node:
    """Of singular vectors on one side, the cotangent of the matrix but for the other side's.

    The phases of both sides move together, so that one takes account of them."""
    inner = b.matmul(adjoint(b, vectors), g)
    skew = b.sub(inner, adjoint(b, inner))
    turned = _scaled_columns(b, b.div(skew, _gaps(b, b.square(s))), s)
    if inner.type.dtype.kind == "c":
        phase = b.mul(diagonal_of(b, skew), 0.5 if phases else 0.0)
        off = b.sub(turned, diagonal_matrix(b, diagonal_of(b, turned)))
        turned = b.add(off, diagonal_matrix(b, b.div(phase, s)))
    slope = b.matmul(vectors, turned)
    if vectors.type.shape[-2] > vectors.type.shape[-1]:
        outside = b.sub(g, b.matmul(vectors, inner))
        slope = b.add(slope, _scaled_columns(b, outside, b.reciprocal(s)))
    return slope


def _gap(values: np.ndarray, rectangular: bool = False) -> np.ndarray:
    """The least distance of a value to another, or to zero, with the matrix's axes."""
    n = values.shape[-1]
    if n == 0:
        return np.ones((*values.shape[:-1], 1, 1))
    gaps = np.abs(values[..., None] - values[..., None, :])
    gaps = np.where(np.eye(n, dtype=bool), np.inf, gaps).min(axis=(-2, -1))
    if rectangular:
        gaps = np.minimum(gaps, np.abs(values).min(axis=-1))
    return np.asarray(np.minimum(gaps, np.abs(values).max(axis=-1)))[..., None, None]


def _svd_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Singular values move as far as the matrix (Weyl), vectors by that over their gap."""
    moved = perturbation(values[0], errors[0], out)
    if attrs.get("part", "S") == "S":
        return np.broadcast_to(2 * moved[..., 0], out.shape)
    gap = _gap(np.linalg.svd(values[0], compute_uv=False), rectangular=True)
    return _same_for(errors[0], 4 * moved / gap, out)


register(Op(
    name="svd", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"full_matrices": True, "part": REQUIRED}, joint="part", parts=("U", "S", "Vh"),
    prepare=lambda types, attrs: {**attrs, "full_matrices": bool(attrs["full_matrices"])},
    infer=_svd_type, exact=True,
    reference=lapack("svd", _FINITE)(lambda x, *, full_matrices: tuple(
        np.linalg.svd(x, full_matrices))),
    gradient=_svd_gradient, error=_svd_error, ulp=4, cost=500.0,
    samples=lambda: _of_parts(("S", "U", "Vh"), lambda part: [
        *of_matrices(shapes=_SHAPES, part=part, full_matrices=False),
        *[Sample((matrices(*s),), {"part": part}) for s in _SHAPES],
    ]),
    error_samples=lambda: [
        *matrix_errors(square=False, part="S"),
        ErrorSample((_NAN,), {"part": "S"}, LinAlgError, "svd of f32"),
    ],
    doc="Singular value decomposition U diag(S) Vh, values in descending order; `part` is U, S or "
    "Vh.",
))  # fmt: skip


def _svdvals_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    u, vh = (b.svd(node.inputs[0], full_matrices=False, part=p) for p in ("U", "Vh"))
    return (b.matmul(_scaled_columns(b, u, g), vh),)


register(Op(
    name="svdvals", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=lambda x: _svd_type(x, full_matrices=False, part="S"), exact=True,
    reference=lapack("svdvals", _FINITE)(lambda x: np.linalg.svd(x, compute_uv=False)),
    gradient=_svdvals_gradient, error=_svd_error, ulp=4, cost=200.0,
    samples=lambda: of_matrices(shapes=_SHAPES),
    error_samples=lambda: [*matrix_errors(square=False),
                           ErrorSample((_NAN,), {}, LinAlgError, "svdvals of f32")],
    doc="Singular values, in descending order.",
))  # fmt: skip


# -- eigenvalues of Hermitian matrices --------------------------------------------------------
def _eigen_type(name: str, x: TensorType, part: str) -> TensorType:
    check_matrix(name, x, square=True)
    if part == "eigenvalues":
        return TensorType(x.dtype, x.shape[:-1], x.device)
    return x.with_shape(x.shape)


def _eigh_type(x: TensorType, *, upper: bool, part: str = "eigenvalues") -> TensorType:
    found = _eigen_type("eigh", x, part)
    return found.with_dtype(x.dtype.real) if part == "eigenvalues" else found


def _upper(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
    return {**attrs, "upper": bool(attrs["upper"])}


def _spectral(b: Builder, vectors: Node, values: Node) -> Node:
    return b.matmul(_scaled_columns(b, vectors, values), adjoint(b, vectors))


def _eigh_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    x, upper = node.inputs[0], node.attrs["upper"]
    vectors = b.eigh(x, upper=upper, part="eigenvectors")
    if node.op.name == "eigvalsh" or node.attrs["part"] == "eigenvalues":
        return (_spectral(b, vectors, g),)
    values = b.eigh(x, upper=upper, part="eigenvalues")
    inner = b.div(b.matmul(adjoint(b, vectors), g), _gaps(b, values))
    inner = b.sub(inner, diagonal_matrix(b, diagonal_of(b, inner)))
    return (times(b, vectors, inner, adjoint(b, vectors)),)


def _eigh_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = perturbation(values[0], errors[0], out)
    if attrs.get("part", "eigenvalues") == "eigenvalues":
        return np.broadcast_to(2 * moved[..., 0], out.shape)
    gap = _gap(np.linalg.eigvalsh(values[0], "U" if attrs["upper"] else "L"))
    return _same_for(errors[0], 4 * moved / gap, out)


def _hermitian_samples(**attrs: Any) -> list[Sample]:
    skewed = np.triu(np.arange(9.0, dtype=np.float32).reshape(3, 3), 1) + positive(3, 3)
    return [*of_matrices(positive, **attrs), Sample((skewed,), attrs),
            Sample((skewed,), {**attrs, "upper": True})]  # fmt: skip


_EIGEN = ("eigenvalues", "eigenvectors")

register(Op(
    name="eigh", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"upper": False, "part": REQUIRED}, joint="part", parts=_EIGEN, prepare=_upper,
    infer=_eigh_type, exact=True,
    reference=lapack("eigh", _FINITE)(
        lambda x, *, upper: tuple(np.linalg.eigh(x, "U" if upper else "L"))),
    gradient=_eigh_gradient, error=_eigh_error, ulp=4, cost=500.0,
    samples=lambda: _of_parts(_EIGEN, _hermitian_samples),
    error_samples=lambda: matrix_errors(part="eigenvalues"),
    doc="Eigenvalues, in ascending order, and eigenvectors, the columns, of Hermitian matrices, of "
    "which one triangle is read; `part` says which.",
))  # fmt: skip

register(Op(
    name="eigvalsh", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"upper": False}, prepare=_upper, infer=_eigh_type, exact=True,
    reference=lapack("eigvalsh", _FINITE)(
        lambda x, *, upper: np.linalg.eigvalsh(x, "U" if upper else "L")),
    gradient=_eigh_gradient, error=_eigh_error, ulp=4, cost=200.0, samples=_hermitian_samples,
    error_samples=matrix_errors,
    doc="Eigenvalues of Hermitian matrices, in ascending order, of which one triangle is read.",
))  # fmt: skip


# -- eigenvalues ----------------------------------------------------------------------------
def _eig_type(x: TensorType, *, part: str = "eigenvalues") -> TensorType:
    return _eigen_type("eig", x, part).with_dtype(x.dtype.complex)


def _eig_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    """v⁻ᴴ (diag(g) + inner) vᴴ; vectors have length 1, whatever moves them."""
    (x,) = node.inputs
    vectors = b.eig(x, part="eigenvectors")
    back = adjoint(b, vectors)
    if node.op.name == "eigvals" or node.attrs["part"] == "eigenvalues":
        inner = diagonal_matrix(b, g)
    else:
        values = b.eig(x, part="eigenvalues")
        product = b.matmul(back, g)
        lengths = b.cast(b.real(diagonal_of(b, product)), g.type.dtype)
        inner = b.sub(product, _scaled_columns(b, b.matmul(back, vectors), lengths))
        inner = b.div(inner, b.conj(_gaps(b, values)))
        inner = b.sub(inner, diagonal_matrix(b, diagonal_of(b, inner)))
    slope = b.solve(back, b.matmul(inner, back))
    return (slope if x.type.dtype.kind == "c" else b.real(slope),)


def _eig_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    """Eigenvalues move by the matrix's motion times the vectors' condition (Bauer and Fike); they
    have no order, which is settled only where the matrix is exactly known."""
    moved = perturbation(values[0], errors[0], out)
    eigenvalues, vectors = np.linalg.eig(values[0])
    condition = norm_of(vectors) * conditioned(vectors, moved)[0]
    if attrs.get("part", "eigenvalues") == "eigenvalues":
        return _same_for(errors[0], (2 * condition * moved)[..., 0], out)
    return _same_for(errors[0], 4 * condition**2 * moved / _gap(eigenvalues), out)


def _rotated(**attrs: Any) -> list[Sample]:
    turn = np.array([[0.0, -2.0], [1.0, 0.5]], np.float32)
    return [*of_matrices(**attrs), Sample((turn,), attrs)]


register(Op(
    name="eig", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"part": REQUIRED}, joint="part", parts=_EIGEN, infer=_eig_type, exact=True,
    reference=lapack("eig", _FINITE)(lambda x: tuple(np.linalg.eig(x))),
    gradient=_eig_gradient, error=_eig_error, ulp=4, cost=1000.0,
    samples=lambda: _of_parts(_EIGEN, _rotated),
    error_samples=lambda: [
        *matrix_errors(part="eigenvalues"),
        ErrorSample((_NAN,), {"part": "eigenvalues"}, LinAlgError, "eig of f32"),
    ],
    doc="Eigenvalues and eigenvectors, the columns, of square matrices, in complex numbers; `part` "
    "says which.",
))  # fmt: skip

register(Op(
    name="eigvals", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_eig_type, reference=lapack("eigvals", _FINITE)(np.linalg.eigvals), exact=True,
    gradient=_eig_gradient, error=_eig_error, ulp=4, cost=500.0, samples=_rotated,
    error_samples=lambda: [*matrix_errors(),
                           ErrorSample((_NAN,), {}, LinAlgError, "eigvals of f32")],
    doc="Eigenvalues of square matrices, in complex numbers.",
))  # fmt: skip
