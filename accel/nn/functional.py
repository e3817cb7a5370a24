"""Neural functions: activations, layers and losses without state.

Arguments follow torch. Every function takes tensors and arrays, and has a gradient with respect
to its floating-point arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel
from ..frontend.functions.arranging import pad
from ..frontend.functions.composed import glu, prelu
from ..frontend.functions.elementwise import (
    celu,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from ..frontend.functions.norms import log_softmax, softmax
from ..frontend.tensors.arguments import public
from ..frontend.tensors.recording import as_tensor, record
from ..frontend.tensors.tensor import Tensor
from .functions import alignment as _alignment
from .functions import class_losses as _class_losses
from .functions import convolution as _convolution
from .functions import embeddings as _embeddings
from .functions import images as _images
from .functions import interpolation as _interpolation
from .functions import losses as _losses
from .functions import margins as _margins
from .functions import normalization as _normalization
from .functions import pooling as _pooling
from .functions import shrinking as _shrinking
from .functions import unpooling as _unpooling
from .functions.alignment import *
from .functions.class_losses import *
from .functions.convolution import *
from .functions.embeddings import *
from .functions.images import *
from .functions.interpolation import *
from .functions.losses import *
from .functions.margins import *
from .functions.normalization import *
from .functions.pooling import *
from .functions.shrinking import *
from .functions.unpooling import *

__all__ = [
    "bilinear", "celu", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "gelu", "glu",
    "hardsigmoid", "hardswish", "hardtanh", "layer_norm", "leaky_relu", "linear", "log_softmax",
    "logsigmoid", "mish", "one_hot", "pad", "prelu", "relu", "relu6", "rms_norm",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
    "tanh", "tanhshrink",
]  # fmt: skip
__all__ += [
    *_alignment.__all__, *_class_losses.__all__, *_convolution.__all__, *_embeddings.__all__,
    *_images.__all__, *_interpolation.__all__, *_losses.__all__, *_margins.__all__,
    *_normalization.__all__, *_pooling.__all__, *_shrinking.__all__, *_unpooling.__all__,
]


# Layers -------------------------------------------------------------------------------------


@public
def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., in).
    weight
        Shape (out, in).
    bias
        Shape (out,), or None.

    Raises
    ------
    ShapeError
        When the extents misfit.
    """
    return record("linear", x, weight) if bias is None else record("linear", x, weight, bias)


@public
def bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x1 @ weight[k] @ x2 + bias[k]`` over the last axes, for each k.

    Parameters
    ----------
    x1, x2
        Shapes (..., in1) and (..., in2).
    weight
        Shape (out, in1, in2).
    bias
        Shape (out,), or None.

    Returns
    -------
    Tensor
        Shape (..., out).
    """
    result = accel.einsum("...i,oij,...j->...o", x1, weight, x2)
    return result if bias is None else result + bias


@public
def one_hot(index: Any, num_classes: int = -1) -> Tensor:
    """A 1 at each index and 0 elsewhere, along a new last axis; int64.

    Without a number of classes it is the greatest index plus 1, which is computed at once.
    """
    if num_classes == -1:
        index = as_tensor(index)
        num_classes = int(accel.amax(index).item()) + 1 if index.size else 0
    return record("one_hot", index, num_classes=num_classes)


@public
def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """The last axes brought to mean 0 and variance 1, times `weight`, plus `bias`.

    Parameters
    ----------
    normalized_shape
        Extents of the axes that are normalised together.
    weight, bias
        Of that shape, or None.
    eps
        Added to the variance.

    Raises
    ------
    ShapeError
        When the last axes have other extents.
    """
    x, count = _normalized(x, normalized_shape, "layer_norm")
    if bias is not None and weight is None:
        weight = accel.ones(x.shape[-count:], dtype=x.dtype)
    given = [operand for operand in (weight, bias) if operand is not None]
    return record("layer_norm", x, *given, normalized_ndim=count, eps=eps)


@public
def rms_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    """The last axes divided by the root of their mean square, times `weight`.

    Parameters
    ----------
    normalized_shape
        Extents of the axes that are normalised together.
    weight
        Of that shape, or None.
    eps
        Added to the mean square; None is the dtype's machine epsilon.

    Raises
    ------
    ShapeError
        When the last axes have other extents.
    """
    x, count = _normalized(x, normalized_shape, "rms_norm")
    if eps is None:
        eps = float(accel.finfo(x.dtype).eps)
    given = [] if weight is None else [weight]
    return record("rms_norm", x, *given, normalized_ndim=count, eps=eps)


def _normalized(x: Any, normalized_shape: int | Sequence[int], op: str) -> tuple[Tensor, int]:
    """`x` as a tensor, and how many of its last axes `normalized_shape` names."""
    x = as_tensor(x)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"{op}: normalized_shape {shape} is not the end of shape {tuple(x.shape)}",
            remedy="name the extents of the last axes",
        )
    return x, len(shape)


@public
def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p
        Probability in [0, 1].
    training
        When false, `x` is returned as it is.
    """
    check_probability("dropout", p)
    x = as_tensor(x)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = accel.rand(*x.shape) >= p
    return record("where", kept, x * (1.0 / (1.0 - p)), 0.0)


@public
def dropout1d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero whole channels of (N, C, L) with probability `p` and scale the others."""
    return _channel_dropout("dropout1d", x, p, training)


@public
def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero whole channels of (N, C, H, W) with probability `p` and scale the others.

    Notes
    -----
    J. Tompson et al.: Efficient object localization using convolutional networks. CVPR 2015.
    """
    return _channel_dropout("dropout2d", x, p, training)


@public
def dropout3d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero whole channels of (N, C, D, H, W) with probability `p` and scale the others."""
    return _channel_dropout("dropout3d", x, p, training)


def _channel_dropout(name: str, x: Any, p: float, training: bool) -> Tensor:
    check_probability(name, p)
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"{name}: an input of shape {tuple(x.shape)}", remedy="give [N, C, ...]")
    if not training or p == 0:
        return x
    ones = accel.ones((*x.shape[:2], *[1] * (x.ndim - 2)), dtype=x.dtype)
    return record("where", dropout(ones, p) > 0, x * (1.0 / (1.0 - p)) if p < 1 else x, 0.0)


def check_probability(op: str, p: float) -> None:
    """Raise ArgumentError unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"{op}: p is {p!r}", remedy="pass a probability from 0 to 1")


# Attention ----------------------------------------------------------------------------------


@public
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(scale * query @ key.T + mask) @ value``, without a matrix of weights in memory.

    Parameters
    ----------
    query, key, value
        Shapes (..., L, E), (..., S, E) and (..., S, Ev), of one floating-point dtype.
    attn_mask
        Broadcasts to (..., L, S). Of bool: which keys a query sees; else it is added to the
        scores. A query that sees no key gets zeros.
    dropout_p
        Probability with which a weight is zeroed (the others grow by 1 / (1 - p)).
    is_causal
        Query i sees the keys 0 to i only; not beside a mask.
    scale
        Of the scores; None is 1/√E.
    enable_gqa
        Whether `key` and `value` may have fewer heads (axis -3) than `query`, each serving a
        group of neighbours.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        When the operands misfit.

    Examples
    --------
    >>> import accel
    >>> x = accel.eye(2)
    >>> accel.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0].tolist()
    [1.0, 0.0]
    """
    check_probability("scaled_dot_product_attention", dropout_p)
    operands = [as_tensor(query), as_tensor(key), as_tensor(value)]
    if attn_mask is not None:
        mask = as_tensor(attn_mask)
        floating = mask.dtype.kind == "f"  # an additive mask takes part in the dtype of the rest
        operands.append(accel.astype(mask, operands[0].dtype) if floating else mask)
    groups = _head_groups(operands[:3]) if enable_gqa else 1
    if groups > 1:
        operands = _grouped_heads(operands, groups)
    attrs = {"is_causal": is_causal, "scale": scale}
    if dropout_p:
        query, key, value, *masks = operands
        weights = dropout(record("attention_weights", query, key, *masks, **attrs), dropout_p)
        result = weights @ value
    else:
        result = record("scaled_dot_product_attention", *operands, **attrs)
    return accel.flatten(result, -4, -3) if groups > 1 else result


def _head_groups(operands: Sequence[Tensor]) -> int:
    """How many heads of the query share one of key and value."""
    if min(x.ndim for x in operands) < 3:
        raise ShapeError(
            "scaled_dot_product_attention: enable_gqa without an axis of heads",
            remedy="give query, key and value as (..., heads, length, width)",
        )
    query, key, value = (x.shape[-3] for x in operands)
    if key != value or not key or query % key:
        raise ShapeError(
            f"scaled_dot_product_attention: {query} heads of the query in groups over {key} of "
            f"the key and {value} of the value",
            remedy="the query's heads are a multiple of the others'",
        )
    return query // key


def _grouped_heads(operands: Sequence[Tensor], groups: int) -> list[Tensor]:
    """The operands with the heads as two axes: of key and value, and within a group."""
    query, key, value, *masks = operands
    found = [accel.unflatten(query, -3, (query.shape[-3] // groups, groups))]
    found += [accel.unsqueeze(x, -3) for x in (key, value)]
    for mask in masks:
        spread = mask.ndim > 2 and mask.shape[-3] != 1
        shape = (mask.shape[-3] // groups, groups) if spread else (1, 1)
        found.append(accel.unflatten(mask, -3, shape) if mask.ndim > 2 else mask)
    return found
