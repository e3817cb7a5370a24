"""Lowerings of products, softmax, normalisations and losses to torch's own functions.

Half precision goes through torch where torch computes it in float32 inside; the losses are
computed in float32 here.
"""

from __future__ import annotations

from typing import Any

from ...ir.node import Node
from ..reference import run_node
from .bridge import to_host
from .lowering import Context, Kernel, in_float32, lowers

__all__: list[str] = []


def _kind(node: Node) -> str:
    return node.type.dtype.kind


def _half(node: Node) -> bool:
    return _kind(node) == "f" and node.type.dtype.itemsize == 2


# -- products ---------------------------------------------------------------------------------
def _multiplies(context: Context, node: Node) -> bool:
    """CUDA has no products of integers."""
    return context.on_cpu or _kind(node) in "fc"


@lowers("matmul", "bmm")
def _matmul(context: Context, node: Node) -> Kernel | None:
    return context.torch.matmul if _multiplies(context, node) else None


@lowers("dot")
def _dot(context: Context, node: Node) -> Kernel | None:
    x, y = (i.type.ndim for i in node.inputs)
    if x == 0 or y == 0:
        return context.torch.mul
    return context.torch.matmul if y <= 2 and _multiplies(context, node) else None


@lowers("vecdot")
def _vecdot(context: Context, node: Node) -> Kernel | None:
    torch = context.torch
    if _kind(node) not in "fc":
        return None
    axis = node.attrs["axis"] - max(i.type.ndim for i in node.inputs)
    return lambda x, y: torch.linalg.vecdot(x, y, dim=axis)


@lowers("outer")
def _outer(context: Context, node: Node) -> Kernel:
    return context.torch.outer


@lowers("tensordot")
def _tensordot(context: Context, node: Node) -> Kernel | None:
    torch = context.torch
    if not _multiplies(context, node):
        return None
    axes = [list(a) for a in node.attrs["axes"]]
    return lambda x, y: torch.tensordot(x, y, axes)


@lowers("linear")
def _linear(context: Context, node: Node) -> Kernel | None:
    return context.torch.nn.functional.linear if _kind(node) in "fc" else None


# -- softmax, normalisations ------------------------------------------------------------------
@lowers("softmax", "log_softmax")
def _softmax(context: Context, node: Node) -> Kernel:
    function, axis = getattr(context.torch, node.op.name), node.attrs["axis"]
    return in_float32(context, node, lambda x: function(x, axis))


@lowers("layer_norm", "rms_norm")
def _norm(context: Context, node: Node) -> Kernel | None:
    function = getattr(context.torch.nn.functional, node.op.name, None)
    n, eps, shape = node.attrs["normalized_ndim"], node.attrs["eps"], node.type.shape
    if function is None or node.type.size == 0 or (node.op.name == "rms_norm" and _half(node)):
        return None
    rows = shape[len(shape) - n :]
    return lambda x, *parameters: function(x, rows, *parameters, eps=eps)


@lowers("scaled_dot_product_attention")
def _attention(context: Context, node: Node) -> Kernel | None:
    """None for half precision, and where torch gives NaN: without keys, and before version 2.5
    without keys to see."""
    torch, attrs = context.torch, dict(node.attrs)
    version = tuple([int(part) for part in torch.__version__.split(".")[:2]])
    empty = not all(t.type.size for t in (node, *node.inputs[:3]))
    if _half(node) or empty or (len(node.inputs) > 3 and version < (2, 5)):
        return None
    function = torch.nn.functional.scaled_dot_product_attention

    def run(query: Any, key: Any, value: Any, mask: Any = None) -> Any:
        return function(query, key, value, mask, **attrs)

    return run


# -- losses of two arrays -----------------------------------------------------------------------
@lowers("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
def _pair_loss(context: Context, node: Node) -> Kernel | None:
    """None where torch would warn (unequal shapes) or refuse (a delta of 0)."""
    x, y = (i.type for i in node.inputs)
    if x.shape != y.shape or _half(node) or node.attrs.get("delta") == 0:
        return None
    function, attrs = getattr(context.torch.nn.functional, node.op.name), dict(node.attrs)
    return lambda x, y: function(x, y, **attrs)


# -- losses of class targets --------------------------------------------------------------------
@lowers("cross_entropy", "nll_loss")
def _class_loss(context: Context, node: Node) -> Kernel | None:
    """Targets are checked first: on CUDA a wrong one would end the process's use of it."""
    torch, scores = context.torch, node.inputs[0].type
    classes = scores.shape[0 if scores.ndim == 1 else 1]
    if classes == 0 or scores.size == 0:
        return None
    function, attrs = getattr(torch.nn.functional, node.op.name), dict(node.attrs)
    ignored = attrs["ignore_index"]
    narrow = context.dtype(node.type.dtype) if _half(node) else None

    def run(x: Any, target: Any) -> Any:
        wide = target.to(torch.int64)
        if bool(((wide != ignored) & ((wide < 0) | (wide >= classes))).any()):
            run_node(node, [to_host(torch, v.contiguous()) for v in (x, target)])  # raises
        if narrow is None:
            return function(x, wide, **attrs)
        return function(x.to(torch.float32), wide, **attrs).to(narrow)

    return run
