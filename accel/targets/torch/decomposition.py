"""Lowerings of linear algebra.

What is unique is torch's everywhere. Where signs and phases are the library's choice, the CPU
takes NumPy's LAPACK, so that the targets agree; on CUDA everything is torch's, with no transfer.
"""

from __future__ import annotations

from typing import Any

from ...errors import LinAlgError
from ...ir.node import Node
from .lowering import Context, Kernel, lowers

__all__: list[str] = []


def _raising(context: Context, node: Node, kernel: Kernel) -> Kernel:
    """`kernel`, whose complaints about the matrix become those of the reference."""
    failure = context.torch.linalg.LinAlgError
    of = node.inputs[0].type

    def run(*tensors: Any) -> Any:
        try:
            return kernel(*tensors)
        except failure as error:
            reason = str(error).split("\n")[0]
            raise LinAlgError(f"{node.op.name} of {of}: {reason}",
                              remedy="check the matrix") from None  # fmt: skip

    return run


# -- unique ---------------------------------------------------------------------------------
@lowers("inv", "det", "matrix_exp")
def _function(context: Context, node: Node) -> Kernel:
    return _raising(context, node, getattr(context.torch.linalg, node.op.name))


@lowers("cholesky")
def _cholesky(context: Context, node: Node) -> Kernel:
    return _raising(context, node, context.torch.linalg.cholesky)


@lowers("adjugate")
def _adjugate(context: Context, node: Node) -> Kernel | None:
    """As the reference, from singular values."""
    torch, n = context.torch, node.type.shape[-1]
    if n == 0:
        return lambda x: x.clone()
    unit = torch.eye(n, dtype=torch.bool, device=context.device)

    def run(x: Any) -> Any:
        u, s, vh = torch.linalg.svd(x)
        others = torch.where(unit, 1, s[..., None, :]).prod(-1)
        turned = torch.linalg.det(u) * torch.linalg.det(vh)
        return turned[..., None, None] * (vh.mH * others[..., None, :]) @ u.mH

    return _raising(context, node, run)


@lowers("slogdet")
def _slogdet(context: Context, node: Node) -> Kernel:
    torch = context.torch

    def run(x: Any) -> Any:
        sign, size = torch.linalg.slogdet(x)
        return torch.where(size.isnan(), size, sign), size

    return run


@lowers("solve")
def _solve(context: Context, node: Node) -> Kernel:
    """A 1-d right-hand side is a vector, any other a matrix, whatever the batch."""
    torch = context.torch
    if node.inputs[1].type.ndim > 1:
        shape = node.type.shape
        return _raising(context, node, lambda a, y: torch.linalg.solve(a, y.expand(shape)))
    return _raising(context, node, lambda a, y: torch.linalg.solve(a, y[:, None].expand(
        *a.shape[:-1], 1))[..., 0])  # fmt: skip


@lowers("solve_triangular")
def _solve_triangular(context: Context, node: Node) -> Kernel:
    torch, attrs = context.torch, dict(node.attrs)
    vector = node.inputs[1].type.ndim == 1

    def run(a: Any, y: Any) -> Any:
        if not attrs["unitriangular"] and bool((a.diagonal(dim1=-2, dim2=-1) == 0).any()):
            raise torch.linalg.LinAlgError("Singular matrix")
        found = torch.linalg.solve_triangular(a, y[:, None] if vector else y, **attrs)
        return found[..., 0] if vector else found

    return _raising(context, node, run)


# -- unique up to signs and phases ------------------------------------------------------------
@lowers("qr")
def _qr(context: Context, node: Node) -> Kernel | None:
    if context.on_cpu:
        return None
    mode = node.attrs["mode"]
    return lambda x: context.torch.linalg.qr(x, mode)


@lowers("svd")
def _svd(context: Context, node: Node) -> Kernel | None:
    if context.on_cpu:
        return None
    full = node.attrs["full_matrices"]
    return _raising(context, node, lambda x: context.torch.linalg.svd(x, full_matrices=full))


@lowers("svdvals", "eig", "eigvals")
def _spectrum(context: Context, node: Node) -> Kernel | None:
    if context.on_cpu:
        return None
    return _raising(context, node, getattr(context.torch.linalg, node.op.name))


@lowers("eigh", "eigvalsh")
def _hermitian(context: Context, node: Node) -> Kernel | None:
    if context.on_cpu:
        return None
    function = getattr(context.torch.linalg, node.op.name)
    triangle = "U" if node.attrs["upper"] else "L"
    return _raising(context, node, lambda x: function(x, UPLO=triangle))


@lowers("pinv")
def _pinv(context: Context, node: Node) -> Kernel | None:
    if context.on_cpu:
        return None
    hermitian = node.attrs["hermitian"]
    function = context.torch.linalg.pinv
    return _raising(context, node, lambda x, rtol: function(x, rtol=rtol, hermitian=hermitian))
