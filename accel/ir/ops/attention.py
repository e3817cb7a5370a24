"""Scaled dot-product attention: its weights, its result and its gradient.

The pure target has kernels that never hold a matrix of weights (see `targets/pure/attention`);
the expansions do hold it, and serve what these kernels do not take. Half precision is computed
in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType, broadcast_shapes
from .reduce import sum_to, widened

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__: list[str] = []

BOOL, F16, F32, F64, I32 = (
    dtypes.bool_, dtypes.float16, dtypes.float32, dtypes.float64, dtypes.int32,
)  # fmt: skip

_ATTRS = {"is_causal": False, "scale": None}
_OPERANDS = ("query", "key", "value")


# -- types --------------------------------------------------------------------------------
def _prepared(query: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    """The attributes with the scale as a number: 1/√E unless one is given."""
    scale = attrs["scale"]
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1] or 1) if query.ndim else 1.0
    return {**attrs, "is_causal": bool(attrs["is_causal"]), "scale": float(scale)}


def _prepared_gradient(query: TensorType, attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["of"] not in _OPERANDS:
        raise ArgumentError(f"scaled_dot_product_attention_gradient: of is {attrs['of']!r}",
                            remedy=f"name one of {', '.join(_OPERANDS)}")  # fmt: skip
    return _prepared(query, attrs)


def _check(name: str, query: TensorType, *others: TensorType) -> None:
    """Raise unless these are matrices of one floating-point dtype."""
    for t in (query, *others):
        if t.dtype.kind != "f" or t.dtype is not query.dtype:
            raise DTypeError(f"{name}: {', '.join(map(str, (query, *others)))}",
                             remedy="give all of them the same floating-point dtype")  # fmt: skip
        if t.ndim < 2:
            raise ShapeError(f"{name}: {t} has fewer than 2 dimensions",
                             remedy="each operand is [..., length, width]")  # fmt: skip


def _weights_type(
    name: str, query: TensorType, key: TensorType, mask: Sequence[TensorType], is_causal: bool
) -> TensorType:
    """The type of the weights: [..., L, S]."""
    _check(name, query, key)
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{name}: a query of {query} with a key of {key}",
                         remedy="give both the same last extent")  # fmt: skip
    batch = broadcast_shapes([query.shape[:-2], key.shape[:-2]], f"{name}: batch")
    shape = (*batch, query.shape[-2], key.shape[-2])
    for t in mask:
        if is_causal:
            raise ArgumentError(f"{name}: a mask beside is_causal",
                                remedy="put the causal restriction into the mask")  # fmt: skip
        if t.dtype is not BOOL and t.dtype is not query.dtype:
            raise DTypeError(f"{name}: a mask of {t} for a query of {query}",
                             remedy="give a mask of bool or of the query's dtype")  # fmt: skip
    return TensorType(query.dtype, shape, query.device)


def _spread_mask(name: str, shape: Shape, mask: Sequence[TensorType]) -> None:
    """Raise unless the mask broadcasts to the weights."""
    for t in mask:
        if broadcast_shapes([shape, t.shape], f"{name}: mask") != shape:
            raise ShapeError(f"{name}: a mask of {t} for weights of {list(shape)}",
                             remedy="give a mask that broadcasts to the weights")  # fmt: skip


def _infer_weights(
    query: TensorType, key: TensorType, *mask: TensorType, is_causal: bool, scale: float
) -> TensorType:
    name = "attention_weights"
    weights = _weights_type(name, query, key, mask, is_causal)
    _spread_mask(name, weights.shape, mask)
    return weights


def _infer(
    query: TensorType, key: TensorType, value: TensorType, *mask: TensorType,
    is_causal: bool, scale: float,
) -> TensorType:  # fmt: skip
    name = "scaled_dot_product_attention"
    weights = _weights_type(name, query, key, mask, is_causal)
    _check(name, query, value)
    if value.shape[-2] != key.shape[-2]:
        raise ShapeError(f"{name}: a key of {key} with a value of {value}",
                         remedy="give both the same length")  # fmt: skip
    batch = broadcast_shapes([weights.shape[:-2], value.shape[:-2]], f"{name}: batch")
    _spread_mask(name, (*batch, *weights.shape[-2:]), mask)
    return TensorType(query.dtype, (*batch, query.shape[-2], value.shape[-1]), query.device)


def _infer_gradient(
    g: TensorType, query: TensorType, key: TensorType, value: TensorType, out: TensorType,
    *mask: TensorType, is_causal: bool, scale: float, of: str,
) -> TensorType:  # fmt: skip
    wanted = _infer(query, key, value, *mask, is_causal=is_causal, scale=scale)
    for t in (g, out):
        if t.dtype is not wanted.dtype or t.shape != wanted.shape:
            raise ShapeError(f"scaled_dot_product_attention_gradient: {t} for a result of {wanted}",
                             remedy="give the result and a cotangent of its type")  # fmt: skip
    operand = dict(zip(_OPERANDS, (query, key, value), strict=True))[of]
    return wanted.with_shape((*wanted.shape[:-2], *operand.shape[-2:]))


# -- the definition -----------------------------------------------------------------------
def _swapped(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(-1, -2)


def _weights_reference(
    query: np.ndarray, key: np.ndarray, *mask: np.ndarray, is_causal: bool, scale: float
) -> np.ndarray:
    with np.errstate(all="ignore"):
        scores = np.matmul(query, _swapped(key)) * scale
        if is_causal:
            mask = (np.tri(*scores.shape[-2:], dtype=bool),)
        for m in mask:
            scores = np.where(m, scores, -np.inf) if m.dtype == bool else scores + m
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        power = np.exp(scores - np.where(top == -np.inf, 0.0, top))
        total = power.sum(axis=-1, keepdims=True)
        return power / np.where(total == 0, 1.0, total)


def _reference(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, *mask: np.ndarray,
    is_causal: bool, scale: float,
) -> np.ndarray:  # fmt: skip
    batch = np.broadcast_shapes(query.shape[:-2], value.shape[:-2])  # where only a mask reaches it
    query = np.broadcast_to(query, (*batch, *query.shape[-2:]))
    weights = _weights_reference(query, key, *mask, is_causal=is_causal, scale=scale)
    with np.errstate(all="ignore"):
        return np.matmul(weights, value)


def _gradient_reference(
    g: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray, out: np.ndarray,
    *mask: np.ndarray, is_causal: bool, scale: float, of: str,
) -> np.ndarray:  # fmt: skip
    query = np.broadcast_to(query, (*g.shape[:-2], *query.shape[-2:]))
    weights = _weights_reference(query, key, *mask, is_causal=is_causal, scale=scale)
    with np.errstate(all="ignore"):
        if of == "value":
            return np.matmul(_swapped(weights), g)
        slopes = np.matmul(g, _swapped(value)) - (g * out).sum(axis=-1, keepdims=True)
        slopes = weights * slopes * scale
        return np.matmul(slopes, key) if of == "query" else np.matmul(_swapped(slopes), query)


# -- expansions ---------------------------------------------------------------------------
def _turned(b: Builder, x: Node) -> Node:
    """The last two axes exchanged."""
    n = x.type.ndim
    return b.permute(x, axes=(*range(n - 2), n - 1, n - 2))


def _weights(
    b: Builder, query: Node, key: Node, mask: Sequence[Node], is_causal: bool, scale: float
) -> Node:
    """The weights in the dtype of computation; rows without any key are zero."""
    scores = b.mul(b.matmul(widened(b, query), _turned(b, widened(b, key))), scale)
    rows, columns = scores.type.shape[-2:]
    if is_causal:
        row, column = (b.iota(shape=(rows, columns), axis=axis) for axis in (0, 1))
        mask = (b.le(column, row),)
    for m in mask:
        if m.type.dtype is BOOL:
            scores = b.where(m, scores, -math.inf)
        else:
            scores = b.add(scores, widened(b, m))
    if scores.type.size == 0:
        return scores
    top = b.amax(scores, axis=-1, keepdims=True)
    power = b.exp(b.sub(scores, b.where(b.eq(top, -math.inf), 0.0, top)))
    total = b.sum(power, axis=-1, keepdims=True)
    return b.div(power, b.where(b.eq(total, 0.0), 1.0, total))


def _weights_expand(
    b: Builder, query: Node, key: Node, *mask: Node, is_causal: bool, scale: float
) -> Node:
    return b.cast(_weights(b, query, key, mask, is_causal, scale), query.type.dtype)


def _over_batch(b: Builder, query: Node, batch: Shape) -> Node:
    """`query` with all batch dimensions, which a mask may need."""
    shape = (*batch, *query.type.shape[-2:])
    return query if query.type.shape == shape else b.broadcast_to(query, shape=shape)


def _expand(
    b: Builder, query: Node, key: Node, value: Node, *mask: Node, is_causal: bool, scale: float
) -> Node:
    batch = broadcast_shapes([x.type.shape[:-2] for x in (query, key, value)])
    query = _over_batch(b, query, batch)
    weights = _weights(b, query, key, mask, is_causal, scale)
    return b.cast(b.matmul(weights, widened(b, value)), query.type.dtype)


def _slopes(
    b: Builder, g: Node, query: Node, key: Node, value: Node, out: Node, mask: Sequence[Node],
    is_causal: bool, scale: float,
) -> Node:  # fmt: skip
    """The cotangent of the scores after scaling and masking: weights * (g vᵀ - Σ g out)."""
    query = _over_batch(b, query, g.type.shape[:-2])
    weights = _weights(b, query, key, mask, is_causal, scale)
    g, out = widened(b, g), widened(b, out)
    inner = b.sum(b.mul(g, out), axis=-1, keepdims=True)
    return b.mul(weights, b.sub(b.matmul(g, _turned(b, widened(b, value))), inner))


def _gradient_expand(
    b: Builder, g: Node, query: Node, key: Node, value: Node, out: Node, *mask: Node,
    is_causal: bool, scale: float, of: str,
) -> Node:  # fmt: skip
    wide = widened(b, _over_batch(b, query, g.type.shape[:-2]))
    if of == "value":
        weights = _weights(b, wide, key, mask, is_causal, scale)
        return b.cast(b.matmul(_turned(b, weights), widened(b, g)), g.type.dtype)
    slopes = _slopes(b, g, query, key, value, out, mask, is_causal, scale)
    slopes = b.mul(slopes, scale)
    if of == "query":
        return b.cast(b.matmul(slopes, widened(b, key)), g.type.dtype)
    return b.cast(b.matmul(_turned(b, slopes), wide), g.type.dtype)


def _gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    operands, attrs = node.inputs, node.attrs
    query, key, value, *mask = operands
    found: list[Node | None] = []
    for of, operand in zip(_OPERANDS, operands, strict=False):
        slope = b.scaled_dot_product_attention_gradient(
            g, query, key, value, node, *mask, **attrs, of=of
        )
        found.append(sum_to(b, slope, operand.type.shape))
    for m in mask:
        if m.type.dtype is BOOL:
            found.append(None)
            continue
        slopes = _slopes(b, g, query, key, value, node, mask, **attrs)
        found.append(b.cast(sum_to(b, slopes, m.type.shape), m.type.dtype))
    return found


# -- samples ------------------------------------------------------------------------------
def _cases() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(query, key, value, mask ...) as types or arrays, and attributes."""

    def types(*shapes: Shape, dtype: dtypes.DType = F32) -> tuple[TensorType, ...]:
        return tuple(TensorType(dtype, s) for s in shapes)

    blind = np.array([[True, False, True], [False, False, False], [False, True, True]])
    added = np.array([[0.5, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]], np.float32)
    return [
        (types((3, 4), (5, 4), (5, 6)), {}),
        (types((2, 7, 4), (2, 3, 4), (2, 3, 4)), {"scale": 0.25}),
        (types((2, 3, 5, 4), (2, 1, 5, 4), (2, 1, 5, 4)), {"is_causal": True}),
        (types((13, 4), (3, 4), (3, 2)), {"is_causal": True}),
        (types((2, 13, 4), (3, 4), (3, 2), dtype=F64), {}),
        ((*types((2, 3, 4), (2, 3, 4), (2, 3, 4)), blind), {}),
        ((*types((2, 4), (3, 4), (3, 4)), added), {}),
        ((*types((2, 3, 13, 4), (2, 3, 5, 4), (2, 3, 5, 4)), TensorType(BOOL, (2, 1, 1, 5))), {}),
        ((*types((2, 13, 4), (2, 5, 4), (2, 5, 4)), TensorType(F32, (13, 1))), {}),
        (types((3, 4), (3, 4), (3, 4), dtype=F16), {"is_causal": True}),
        (types((0, 4), (3, 4), (3, 4)), {}),
        (types((3, 4), (0, 4), (0, 2)), {}),
        (types((3, 0), (2, 0), (2, 2)), {}),
        (types((0, 3, 4), (0, 2, 4), (0, 2, 0)), {}),
    ]


def _result_type(operands: Sequence[Any], attrs: dict[str, Any]) -> TensorType:
    given = [o if isinstance(o, TensorType) else TensorType(dtypes.to_dtype(o.dtype), o.shape)
             for o in operands]  # fmt: skip
    return _infer(*given, is_causal=attrs.get("is_causal", False), scale=1.0)


def _weights_samples() -> list[Sample]:
    return [Sample((*o[:2], *o[3:]), attrs) for o, attrs in _cases()]


def _gradient_samples() -> list[Sample]:
    found = []
    for number, (operands, attrs) in enumerate(_cases()):
        result = _result_type(operands, attrs)
        for of in (_OPERANDS if number < 8 else _OPERANDS[number % 3 :][:1]):
            given = (result, *operands[:3], result, *operands[3:])
            found.append(Sample(given, {**attrs, "of": of}))
    return found


def _error_samples() -> list[ErrorSample]:
    q, k, v = (TensorType(F32, s) for s in ((3, 4), (5, 4), (5, 6)))
    return [
        ErrorSample((q, TensorType(F32, (5, 3)), v), {}, ShapeError, "same last extent"),
        ErrorSample((q, k, TensorType(F32, (4, 6))), {}, ShapeError, "same length"),
        ErrorSample((q, k, TensorType(F32, (5,))), {}, ShapeError, "fewer than 2"),
        ErrorSample((q, k, TensorType(F64, (5, 6))), {}, DTypeError, "same floating"),
        ErrorSample((q, k, v, TensorType(I32, (3, 5))), {}, DTypeError, "bool"),
        ErrorSample((q, k, v, TensorType(BOOL, (2, 3, 5))), {}, ShapeError, "mask"),
        ErrorSample((q, k, v, TensorType(BOOL, (3, 5))), {"is_causal": True}, ArgumentError,
                    "is_causal"),
    ]  # fmt: skip


# -- the ops ------------------------------------------------------------------------------
_SOURCE = "A. Vaswani et al.: Attention is all you need. NeurIPS 2017"

register(Op(
    name="attention_weights", form="composite", category="matmul", arity=(2, 3), promote="none",
    attrs=_ATTRS, prepare=lambda types, attrs: _prepared(types[0], attrs), infer=_infer_weights,
    reference=_weights_reference, expand=_weights_expand, ulp=16, cost=2.0,
    samples=_weights_samples,
    error_samples=lambda: [
        ErrorSample((TensorType(F32, (3, 4)), TensorType(F32, (3, 5))), {}, ShapeError),
    ],
    doc="The softmax over the keys of scale * query @ keyᵀ; a mask is added or, if of bool, names "
    "the keys that count; zero where none counts.", source=_SOURCE,
))  # fmt: skip

register(Op(
    name="scaled_dot_product_attention", form="composite", category="matmul", arity=(3, 4),
    promote="none", attrs=_ATTRS, prepare=lambda types, attrs: _prepared(types[0], attrs),
    infer=_infer, reference=_reference, expand=_expand, gradient=_gradient, ulp=16, cost=4.0,
    samples=lambda: [Sample(o, attrs) for o, attrs in _cases()], error_samples=_error_samples,
    doc="The rows of the value weighted by `attention_weights` of query and key. What a NaN or an "
    "infinity in a row of the value does to queries that do not see it is not laid down.",
    source=_SOURCE,
))  # fmt: skip

register(Op(
    name="scaled_dot_product_attention_gradient", form="composite", category="matmul",
    arity=(5, 6), promote="none", attrs={**_ATTRS, "of": REQUIRED}, joint="of",
    prepare=lambda types, attrs: _prepared_gradient(types[1], attrs), infer=_infer_gradient,
    reference=_gradient_reference, expand=_gradient_expand, ulp=16, cost=6.0,
    samples=_gradient_samples,
    error_samples=lambda: [
        ErrorSample(
            tuple(TensorType(F32, s) for s in ((3, 5), (3, 4), (5, 4), (5, 6), (3, 6))),
            {"of": of}, error, match,
        )
        for of, error, match in (("key", ShapeError, "result"), ("mask", ArgumentError, "query"))
    ],
    doc="A cotangent of scaled_dot_product_attention (the first operand; the last but a mask is "
    "its result) carried to its query, key or value, as `of` says, over all batch dimensions.",
    source="T. Dao et al.: FlashAttention: fast and memory-efficient exact attention with "
    "IO-awareness. NeurIPS 2022",
))  # fmt: skip
