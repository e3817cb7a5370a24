"""Solutions, inverses and determinants: what a matrix has one of.

Gradients after Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), with conjugates for complex matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import LinAlgError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import TensorType, broadcast_shapes
from .matrices import (
    DTYPES,
    adjoint,
    check_matrix,
    conditioned,
    lapack,
    matrices,
    matrix_errors,
    norm_of,
    of_matrices,
    perturbation,
    positive,
    times,
)
from .reduce import sum_to, unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

F32, C64 = dtypes.float32, dtypes.complex64
_SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]], np.float32)
_REGULAR = "the matrix must be invertible; linalg.pinv and linalg.lstsq take singular ones"


# -- inverse --------------------------------------------------------------------------------
def _square_type(name: str) -> Any:
    def infer(x: TensorType, **attrs: Any) -> TensorType:
        check_matrix(name, x, square=True)
        return x.with_shape(x.shape)

    return infer


def _inv_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    y = adjoint(b, node)
    return (b.neg(times(b, y, g, y)),)


def _inv_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = perturbation(values[0], errors[0], out)
    size, factor = conditioned(values[0], moved)
    return np.broadcast_to(factor * size**2 * moved, out.shape)


register(Op(
    name="inv", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_square_type("inv"), reference=lapack("inv", _REGULAR)(np.linalg.inv), exact=True,
    gradient=_inv_gradient, error=_inv_error, ulp=4, cost=100.0, samples=lambda: of_matrices(),
    error_samples=lambda: [*matrix_errors(), ErrorSample((_SINGULAR,), {}, LinAlgError, "inv of")],
    doc="The inverse of square matrices.",
))  # fmt: skip


# -- determinants ---------------------------------------------------------------------------
def _adjugate_reference(x: np.ndarray) -> np.ndarray:
    """From singular values: no division, so that singular matrices are as good as others."""
    n = x.shape[-1]
    if n == 0:
        return x
    u, s, vh = np.linalg.svd(x)
    others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(axis=-1)
    turned = (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
    adjoints = [np.conj(np.swapaxes(m, -1, -2)) for m in (u, vh)]
    return np.asarray(turned * (adjoints[1] * others[..., None, :]) @ adjoints[0])


def _adjugate_gradient(b: Builder, g: Node, node: Node) -> Sequence[Node | None]:
    """That of det(x) · inv(x), with adj' = adj tr(inv dx) - inv dx adj: regular matrices only."""
    (x,) = node.inputs
    inverse, whole = adjoint(b, b.inv(x)), adjoint(b, node)
    inner = b.sum(b.mul(g, b.conj(node) if x.type.dtype.kind == "c" else node),
                  axis=(-2, -1), keepdims=True)  # fmt: skip
    return (b.sub(b.mul(inner, inverse), times(b, inverse, g, whole)),)


def _adjugate_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x = values[0]
    n, moved = x.shape[-1], perturbation(x, errors[0], out)
    largest = norm_of(x) + moved
    return np.broadcast_to(4 * n * n * largest ** max(n - 2, 0) * moved, out.shape)


register(Op(
    name="adjugate", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_square_type("adjugate"), reference=lapack("adjugate", "the matrix must be finite")(
        _adjugate_reference),
    exact=True, gradient=_adjugate_gradient, error=_adjugate_error, ulp=4, cost=300.0,
    samples=lambda: [*of_matrices(), Sample((_SINGULAR,))], error_samples=matrix_errors,
    doc="The adjugate of square matrices, which times the matrix is the determinant times the "
    "identity: the gradient of `det`.",
))  # fmt: skip


def _det_type(x: TensorType) -> TensorType:
    check_matrix("det", x, square=True)
    return x.with_shape(x.shape[:-2])


def _over_matrices(b: Builder, x: Node) -> Node:
    """A number for each matrix, with the matrices' axes."""
    return b.reshape(x, shape=(*x.type.shape, 1, 1))


def _det_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    return (b.mul(_over_matrices(b, g), adjoint(b, b.adjugate(node.inputs[0]))),)


def _det_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x = values[0]
    n, moved = x.shape[-1], perturbation(x, errors[0], out)
    largest = norm_of(x) + moved
    return np.asarray((2 * n * largest ** max(n - 1, 0) * moved)[..., 0, 0])


register(Op(
    name="det", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_det_type, reference=np.linalg.det, exact=True, gradient=_det_gradient,
    error=_det_error, ulp=4, cost=50.0, samples=lambda: [*of_matrices(), Sample((_SINGULAR,))],
    error_samples=matrix_errors, doc="The determinant of square matrices; 1 of empty ones.",
))  # fmt: skip


def _slogdet_type(x: TensorType, *, part: str) -> TensorType:
    check_matrix("slogdet", x, square=True)
    dtype = x.dtype if part == "sign" else x.dtype.real
    return TensorType(dtype, x.shape[:-2], x.device)


def _slogdet_reference(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign, size = np.linalg.slogdet(x)
    return np.where(np.isnan(size), size, sign), size


def _slogdet_gradient(b: Builder, g: Node, node: Node) -> tuple[Node | None]:
    """d log det = tr(inv dx): its real part moves the logarithm, its imaginary one the sign."""
    (x,) = node.inputs
    if node.attrs["part"] == "logabsdet":
        return (b.mul(_over_matrices(b, g), adjoint(b, b.inv(x))),)
    if x.type.dtype.kind != "c":
        return (None,)
    turn = b.mul(b.imag(b.mul(g, b.conj(node))), b.constant(1j, x.type.dtype))
    return (b.mul(_over_matrices(b, turn), adjoint(b, b.inv(x))),)


def _slogdet_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    x = values[0]
    moved = perturbation(x, errors[0], out)
    size, factor = conditioned(x, moved)
    bound = (factor * math.sqrt(max(x.shape[-1], 1)) * size * moved)[..., 0, 0]
    if attrs["part"] == "sign" and x.dtype.kind != "c":
        return np.where(np.isfinite(bound), 0.0, np.inf)
    real = out.real.dtype
    return np.asarray(bound + 8 * x.shape[-1] * unit_roundoff(real) * (1 + np.abs(out)))


register(Op(
    name="slogdet", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    attrs={"part": REQUIRED}, joint="part", parts=("sign", "logabsdet"), infer=_slogdet_type,
    reference=_slogdet_reference, exact=True, gradient=_slogdet_gradient, error=_slogdet_error,
    ulp=4, cost=50.0,
    samples=lambda: [s for p in ("logabsdet", "sign") for s in of_matrices(part=p)],
    error_samples=lambda: matrix_errors(part="sign"),
    doc="The determinant of square matrices as its sign (of complex ones, a number of modulus 1) "
    "and the logarithm of its magnitude.",
))  # fmt: skip


# -- systems of equations -------------------------------------------------------------------
def _solve_type(name: str) -> Any:
    """As the standard has it: a right-hand side of one dimension is a vector."""

    def infer(a: TensorType, y: TensorType, **attrs: Any) -> TensorType:
        check_matrix(name, a, square=True)
        if y.ndim == 0 or y.shape[max(y.ndim - 2, 0)] != a.shape[-1]:
            raise ShapeError(f"{name}: {a} with a right-hand side of {y}",
                             remedy="give as many rows as the matrix has")  # fmt: skip
        if y.ndim == 1:
            return TensorType(a.dtype, a.shape[:-1], a.device)
        batch = broadcast_shapes([a.shape[:-2], y.shape[:-2]], f"{name}: {a} with {y}: batch")
        return TensorType(a.dtype, batch + y.shape[-2:], a.device)

    return infer


def _solve_reference(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.ndim == 1:
        return np.asarray(np.linalg.solve(a, y[:, None])[..., 0])
    return np.asarray(np.linalg.solve(a, y))


def _column(b: Builder, x: Node) -> Node:
    return b.reshape(x, shape=(*x.type.shape, 1))


def _solve_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node]:
    a, y = node.inputs
    attrs = dict(node.attrs)
    if attrs:
        attrs["upper"] = not attrs["upper"]
    vector = y.type.ndim == 1
    x, g = (_column(b, node), _column(b, g)) if vector else (node, g)
    back = b.apply(node.op, adjoint(b, a), g, **attrs)
    slope = b.neg(b.matmul(back, adjoint(b, x)))
    if attrs:
        least = int(attrs["unitriangular"])
        slope = (b.tril(slope, diagonal=-least) if attrs["upper"]
                 else b.triu(slope, diagonal=least))  # fmt: skip
    if vector:
        back = b.reshape(back, shape=back.type.shape[:-1])
    return sum_to(b, slope, a.type.shape), sum_to(b, back, y.type.shape)


def _solve_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    a, y = values
    vector = y.ndim == 1
    if attrs:
        a = _triangle(a, **attrs)
    moved = perturbation(a, errors[0], out)
    size, factor = conditioned(a, moved)
    x = out[..., None] if vector else out
    shift = np.broadcast_to(errors[1], y.shape)
    bound = factor * size * (moved * norm_of(x) + norm_of(shift[:, None] if vector else shift))
    return np.broadcast_to(bound[..., 0] if vector else bound, out.shape)


def _systems(**attrs: Any) -> list[Sample]:
    shapes = [((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)),
              ((1, 3, 3), (2, 3, 1)), ((3, 3), (2, 3, 1)), ((0, 0), (0, 2)), ((1, 1), (1, 3)),
              ((40, 40), (40, 3))]  # fmt: skip
    found = [Sample((matrices(*s), TensorType(F32, t)), attrs) for s, t in shapes]
    found += [Sample((matrices(3, 3, dtype=d), TensorType(d, (3, 2))), attrs) for d in DTYPES[1:]]
    return [*found, Sample((matrices(3, 3), TensorType(C64, (3,))), attrs),
            Sample((matrices(3, 3), TensorType(dtypes.int32, (3,))), attrs)]  # fmt: skip


def _system_errors(**attrs: Any) -> list[ErrorSample]:
    def types(*shapes: tuple[int, ...], dtype: dtypes.DType = F32) -> tuple[TensorType, ...]:
        return tuple(TensorType(dtype, s) for s in shapes)

    return [
        ErrorSample(types((3, 3), (2, 1)), attrs, ShapeError, "right-hand side"),
        ErrorSample(types((3, 3), ()), attrs, ShapeError, "rows"),
        ErrorSample(types((2, 3), (2, 1)), attrs, ShapeError, "not square"),
        ErrorSample(types((3, 2, 2), (2, 2, 1)), attrs, ShapeError, "batch"),
        *[ErrorSample((e.operands[0], e.operands[0]), attrs, e.error) for e in matrix_errors()],
        ErrorSample((np.zeros((2, 2), np.float32), *types((2, 1))), attrs, LinAlgError, "of f32"),
    ]


register(Op(
    name="solve", form="opaque", category="host", arity=(2, 2), promote="float", kinds="fc",
    infer=_solve_type("solve"), reference=lapack("solve", _REGULAR)(_solve_reference), exact=True,
    gradient=_solve_gradient, error=_solve_error, ulp=4, cost=100.0, samples=_systems,
    error_samples=_system_errors,
    doc="The solution of linear equations: a matrix and a right-hand side, which is a vector if "
    "it is 1-d, else a matrix.",
))  # fmt: skip

#: Rows from which on substitution goes by blocks, products in between.
_BLOCK = 32


def _triangle(a: np.ndarray, *, upper: bool, unitriangular: bool) -> np.ndarray:
    a = np.triu(a) if upper else np.tril(a)
    return np.where(np.eye(a.shape[-1], dtype=bool), 1, a).astype(a.dtype) if unitriangular else a


def _substituted(a: np.ndarray, y: np.ndarray, upper: bool) -> np.ndarray:
    """Substitution by blocks. NumPy has LAPACK's general solver alone, which factorises an upper
    triangle into itself: so a lower one is turned round."""
    n = a.shape[-1]
    if n > _BLOCK:
        first, last = slice(0, n // 2), slice(n // 2, n)
        begin, end = (last, first) if upper else (first, last)
        known = _substituted(a[..., begin, begin], y[..., begin, :], upper)
        rest = y[..., end, :] - a[..., end, begin] @ known
        found = _substituted(a[..., end, end], rest, upper)
        return np.concatenate((found, known) if upper else (known, found), axis=-2)
    if upper:
        return np.asarray(np.linalg.solve(a, y))
    return np.asarray(np.linalg.solve(a[..., ::-1, ::-1], y[..., ::-1, :]))[..., ::-1, :]


def _triangular_reference(a: np.ndarray, y: np.ndarray, **attrs: bool) -> np.ndarray:
    a = _triangle(a, **attrs)
    if y.ndim == 1:
        return _substituted(a, y[:, None], attrs["upper"])[..., 0]
    return _substituted(a, y, attrs["upper"])


register(Op(
    name="solve_triangular", form="opaque", category="host", arity=(2, 2), promote="float",
    kinds="fc", attrs={"upper": REQUIRED, "unitriangular": False},
    prepare=lambda types, attrs: {name: bool(value) for name, value in attrs.items()},
    infer=_solve_type("solve_triangular"), exact=True,
    reference=lapack("solve_triangular", "no element of the diagonal may be 0")(
        _triangular_reference),
    gradient=_solve_gradient, error=_solve_error, ulp=4, cost=50.0,
    samples=lambda: [s for upper in (False, True) for s in (
        *_systems(upper=upper),
        Sample((matrices(3, 3), TensorType(F32, (3, 2))), {"upper": upper, "unitriangular": True}),
    )],
    error_samples=lambda: _system_errors(upper=True),
    doc="The solution of linear equations by substitution, of which only one triangle is read; "
    "its diagonal is taken for 1 where it is `unitriangular`.",
))  # fmt: skip


# -- Cholesky's factor ----------------------------------------------------------------------
def _cholesky_reference(x: np.ndarray) -> np.ndarray:
    factor = np.linalg.cholesky(x)
    if np.isnan(factor).any():
        raise np.linalg.LinAlgError("Matrix contains NaN")
    return factor


def _cholesky_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    """Murray, "Differentiation of the Cholesky decomposition" (2016), made Hermitian."""
    middle = b.tril(b.matmul(adjoint(b, node), b.tril(g)))
    lower = b.tril(middle, diagonal=-1)
    half = b.mul(b.add(middle, adjoint(b, lower)), 0.5)  # the diagonal's half: it is real
    system = adjoint(b, node)
    left = b.solve_triangular(system, half, upper=True)
    slope = adjoint(b, b.solve_triangular(system, adjoint(b, left), upper=True))
    return (b.mul(b.add(slope, adjoint(b, slope)), 0.5),)


def _cholesky_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = perturbation(values[0], errors[0], out)
    size, factor = conditioned(values[0], moved)
    return np.broadcast_to(factor * size * moved * norm_of(out), out.shape)


register(Op(
    name="cholesky", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_square_type("cholesky"), exact=True,
    reference=lapack("cholesky", "the matrix must be Hermitian and positive definite; add a "
                     "multiple of the identity")(_cholesky_reference),
    gradient=_cholesky_gradient, error=_cholesky_error, ulp=4, cost=50.0,
    samples=lambda: of_matrices(positive),
    error_samples=lambda: [
        *matrix_errors(),
        ErrorSample((-np.eye(2, dtype=np.float32),), {}, LinAlgError, "cholesky of f32"),
        ErrorSample((np.full((2, 2), np.nan, np.float32),), {}, LinAlgError, "positive"),
    ],
    doc="The lower triangular factor L of Hermitian positive definite matrices L Lᴴ, of which "
    "the lower triangle is read.",
))  # fmt: skip


# -- pseudo-inverse -------------------------------------------------------------------------
def _pinv_type(x: TensorType, rtol: TensorType, *, hermitian: bool) -> TensorType:
    check_matrix("pinv", x, square=hermitian)
    if rtol.dtype.kind not in "fiu" or broadcast_shapes(
        [rtol.shape, x.shape[:-2]], f"pinv of {x}: rtol"
    ) != x.shape[:-2]:
        raise ShapeError(f"pinv of {x}: rtol of {rtol}",
                         remedy="give one tolerance, or one for each matrix")  # fmt: skip
    return x.with_shape((*x.shape[:-2], x.shape[-1], x.shape[-2]))


def _pinv_reference(x: np.ndarray, rtol: np.ndarray, *, hermitian: bool) -> np.ndarray:
    if 0 in x.shape:
        return np.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
    u, s, vh = np.linalg.svd(x, full_matrices=False, hermitian=hermitian)
    kept = s > rtol[..., None] * s.max(axis=-1, keepdims=True)
    inverse = np.where(kept, 1 / np.where(kept, s, 1), 0).astype(s.dtype)
    adjoints = [np.conj(np.swapaxes(m, -1, -2)) for m in (u, vh)]
    return np.asarray((adjoints[1] * inverse[..., None, :]) @ adjoints[0])


def _pinv_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, None]:
    """Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate" (1973), for matrices whose rank stays."""
    x, p, h = node.inputs[0], node, adjoint(b, node)
    back = adjoint(b, g)
    slope = b.neg(times(b, h, g, h))
    inner = times(b, back, p, h)  # (I - x p) gᴴ p pᴴ
    slope = b.add(slope, b.sub(inner, times(b, x, p, inner)))
    outer = times(b, h, p, back)  # pᴴ p gᴴ (I - p x)
    return b.add(slope, b.sub(outer, times(b, outer, p, x))), None


def _pinv_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    moved = perturbation(values[0], errors[0], out)
    size, factor = conditioned(values[0], moved)
    return np.broadcast_to(2 * factor * size**2 * moved, out.shape)


_RECTANGULAR = ((4, 3), (3, 4), (3, 3), (2, 3, 2), (0, 3), (3, 0), (0, 2, 3))

register(Op(
    name="pinv", form="opaque", category="host", arity=(2, 2), promote="none",
    attrs={"hermitian": False}, infer=_pinv_type, exact=True,
    reference=lapack("pinv", "the matrix must be finite")(_pinv_reference),
    gradient=_pinv_gradient, error=_pinv_error, ulp=4, cost=300.0,
    samples=lambda: [
        *[Sample((*s.operands, np.float32(1e-6)), s.attrs)
          for s in of_matrices(shapes=_RECTANGULAR, hermitian=False)],
        Sample((matrices(2, 3, 3), np.array([0.0, 0.1], np.float32))),
        Sample((positive(4, 4), np.float32(1e-6)), {"hermitian": True}),
    ],
    error_samples=lambda: [
        *[ErrorSample((*e.operands, np.float32(0)), {"hermitian": True}, e.error, e.match)
          for e in matrix_errors()],
        ErrorSample((TensorType(F32, (3, 2)), TensorType(F32, (2,))), {}, ShapeError, "rtol"),
        ErrorSample((np.full((2, 2), np.nan, np.float32), np.float32(0)), {}, LinAlgError, "pinv"),
    ],
    doc="The Moore-Penrose inverse; singular values up to `rtol` (the second operand) times the "
    "largest are taken for 0.",
))  # fmt: skip


# -- exponential ----------------------------------------------------------------------------
#: The coefficients of the diagonal Padé approximant of order 13, and the norm up to which its
#: error is below the double's roundoff.
_PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000,
    10559470521600, 670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip
_REACH = 5.371920351148152


def _exponential(x: np.ndarray) -> np.ndarray:
    """Scaling and squaring: Higham, "The scaling and squaring method for the matrix exponential
    revisited" (2005)."""
    n = x.shape[-1]
    if x.size == 0:
        return x
    norm = np.abs(x).sum(axis=-2).max(axis=-1)
    steps = np.ceil(np.log2(np.maximum(np.where(np.isfinite(norm), norm, 0) / _REACH, 1)))
    x = x / np.exp2(steps)[..., None, None]
    unit, square = np.eye(n), x @ x
    odd, even, power = 0 * unit, 0 * unit, unit
    for i in range(0, len(_PADE), 2):
        even, odd = even + _PADE[i] * power, odd + _PADE[i + 1] * power
        power = power @ square
    odd = x @ odd
    result = np.linalg.solve(even - odd, even + odd)
    for step in range(int(steps.max())):
        result = np.where((step < steps)[..., None, None], result @ result, result)
    return np.asarray(result)


def _derivative(b: Builder, x: Node, along: Node) -> Node:
    """That of the exponential at `x`, a block of the exponential of [[x, along], [0, x]]: Mathias,
    "A chain rule for matrix functions and applications" (1996)."""
    *batch, n, _ = x.type.shape
    low, high = [0] * len(batch), [0] * len(batch)
    upper = b.cat(x, along, axis=-1)
    lower = b.pad(x, low=(*low, 0, n), high=(*high, 0, 0))
    whole = b.matrix_exp(b.cat(upper, lower, axis=-2))
    return b.slice(whole, start=(*low, 0, n), stop=(*batch, n, 2 * n), step=(1,) * x.type.ndim)


def _exponential_gradient(b: Builder, g: Node, node: Node) -> tuple[Node]:
    return (_derivative(b, adjoint(b, node.inputs[0]), g),)


def _exponential_tangent(b: Builder, node: Node, tangents: Sequence[Node]) -> Node:
    return _derivative(b, node.inputs[0], tangents[0])


def _exponential_error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
    size, moved = norm_of(values[0]), perturbation(values[0], errors[0], out)
    rounding = 8 * unit_roundoff(out.real.dtype)
    return np.broadcast_to(2 * np.exp(size) * (moved + rounding), out.shape)


register(Op(
    name="matrix_exp", form="opaque", category="host", arity=(1, 1), promote="float", kinds="fc",
    infer=_square_type("matrix_exp"), reference=_exponential, gradient=_exponential_gradient,
    tangent=_exponential_tangent, error=_exponential_error, ulp=4, cost=300.0,
    error_samples=matrix_errors,
    samples=lambda: [*of_matrices(), Sample((3 * matrices(4, 4),))],
    doc="The exponential of square matrices, the limit of (1 + x / n) ** n.",
))  # fmt: skip
