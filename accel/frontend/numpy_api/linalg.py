"""NumPy's linear algebra on Tensors, with NumPy's arguments and defaults.

`eig` and `eigvals` are complex whatever the values are, since a result's dtype does not depend on
them; whole numbers are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..functions import einsum, linalg, linear_algebra
from ..functions.dtype_functions import inexact
from ..tensors.arguments import unused
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = ["HANDLERS"]


def _svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    return linalg.svd(a, full_matrices=full_matrices) if compute_uv else linalg.svdvals(a)


def _qr(a: Any, mode: str = "reduced") -> Any:
    found = linalg.qr(a, mode)
    return found.R if mode == "r" else found


def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tensor:
    if isinstance(rtol, type(np._NoValue)):  # without it, the default of `rcond` is another
        rtol = 1e-15 if rcond is None else rcond
    return linalg.pinv(a, rcond if rtol is None else rtol, hermitian=hermitian)


def _matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tensor:
    """NumPy has a vector's rank, too."""
    x = as_tensor(A)
    if x.ndim < 2:
        found = record("any", record("ne", x, 0))
        return record("cast", found, dtype="int64")
    return linalg.matrix_rank(x, rtol, tol=tol, hermitian=hermitian)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    return linalg.norm(inexact(x), ord, axis=axis, keepdims=keepdims)


def _multi_dot(arrays: Any, *, out: Any = None) -> Tensor:
    unused("multi_dot", out=out)
    return linalg.multi_dot(arrays)


def _vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    return linalg.vector_norm(x, ord, axis=axis, keepdims=keepdims)


def _matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    return linalg.matrix_norm(x, ord, keepdims=keepdims)


def _einsum(*operands: Any, optimize: Any = False, out: Any = None, dtype: Any = None) -> Tensor:
    unused("einsum", out=out, dtype=dtype)
    return einsum.einsum(*operands)


def _vander(x: Any, N: Any = None, increasing: bool = False) -> Tensor:
    x = as_tensor(x)
    if x.ndim != 1:
        raise ArgumentError(f"vander of shape {list(x.shape)}", remedy="give a vector")
    return linear_algebra.vander(x, N, increasing)


#: What NumPy and accel call by one name with the same arguments.
_SAME = """
    cholesky cond cross det diagonal eig eigh eigvals eigvalsh inv lstsq matmul matrix_power outer
    slogdet solve svdvals tensordot tensorinv tensorsolve trace vecdot
"""

#: In NumPy's module of linear algebra; older ones lack some.
_OWN: dict[str, Callable[..., Any]] = {
    "svd": _svd, "qr": _qr, "pinv": _pinv, "matrix_rank": _matrix_rank, "norm": _norm,
    "multi_dot": _multi_dot, "vector_norm": _vector_norm, "matrix_norm": _matrix_norm,
}  # fmt: skip

HANDLERS: dict[Any, Callable[..., Any]] = {
    getattr(np.linalg, name): handler
    for name, handler in [*_OWN.items(), *[(name, getattr(linalg, name)) for name in _SAME.split()]]
    if hasattr(np.linalg, name)
}
HANDLERS[np.einsum], HANDLERS[np.vander] = _einsum, _vander
