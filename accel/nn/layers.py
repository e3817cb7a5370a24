"""Layers with parameters, and layers that only reshape or drop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from . import functional, init
from .module import Module
from .parameter import Parameter

__all__ = ["AlphaDropout", "Bilinear", "Dropout", "Embedding", "EmbeddingBag",
           "FeatureAlphaDropout", "Flatten", "Identity", "LayerNorm", "Linear",
           "RMSNorm"]  # fmt: skip


def _positive(op: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ArgumentError(
                f"{op}: {name} is {size!r}", remedy=f"pass a non-negative int as {name}"
            )


class Identity(Module):
    """Returns its input; any arguments at construction are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Joins the axes from `start_dim` to `end_dim` into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return accel.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(Module):
    """``x @ weight.T + bias`` over the last axis.

    Parameters
    ----------
    in_features, out_features
        Extents of the last axis of input and output.
    bias
        Whether there is a bias.
    dtype
        dtype of the parameters, float32 by default.

    Attributes
    ----------
    weight
        Shape (out_features, in_features), uniform within ±1/√in_features at first.
    bias
        Shape (out_features,) or None, likewise.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> nn.Linear(3, 2)(accel.ones((5, 3))).shape
    (5, 2)
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None
    ) -> None:
        super().__init__()
        _positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(accel.empty((out_features, in_features), dtype=dtype))
        self.bias = Parameter(accel.empty((out_features,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(self.in_features, 1))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """Rows of a table by integer index.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table and their length.
    padding_idx
        A row that is 0 at first and gets no gradient, or None.
    max_norm, norm_type, scale_grad_by_freq
        As for `functional.embedding`.

    Attributes
    ----------
    weight
        Shape (num_embeddings, embedding_dim), standard normal at first.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(f"Embedding: padding_idx {padding_idx} of {num_embeddings} rows",
                                remedy="name one of the rows, or None")  # fmt: skip
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight = Parameter(accel.empty((num_embeddings, embedding_dim), dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with accel.no_grad():
                row = accel.arange(self.num_embeddings).reshape(-1, 1)
                self.weight.data = accel.where(row == self.padding_idx, 0.0, self.weight)

    def forward(self, index: Any) -> Any:
        return functional.embedding(index, self.weight, self.padding_idx, self.max_norm,
                                    self.norm_type, self.scale_grad_by_freq)  # fmt: skip

    def extra_repr(self) -> str:
        shown = f"{self.num_embeddings}, {self.embedding_dim}"
        return shown if self.padding_idx is None else f"{shown}, padding_idx={self.padding_idx}"


class _Norm(Module):
    """What LayerNorm and RMSNorm share: the shape of the last axes, eps and the weight."""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float, dtype: Any) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(shape)
        self.eps = eps
        self.dtype = dtype

    def _ones(self, wanted: bool) -> Parameter | None:
        return Parameter(accel.ones(self.normalized_shape, dtype=self.dtype)) if wanted else None

    def _zeros(self, wanted: bool) -> Parameter | None:
        return Parameter(accel.zeros(self.normalized_shape, dtype=self.dtype)) if wanted else None


class LayerNorm(_Norm):
    """Normalises the last axes to mean 0 and variance 1, then scales and shifts.

    Parameters
    ----------
    normalized_shape
        Extents of the last axes.
    eps
        Added to the variance.
    elementwise_affine, bias
        Whether there is a `weight`, and beside it a `bias`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(normalized_shape, eps, dtype)
        self.weight = self._ones(elementwise_affine)
        self.bias = self._zeros(elementwise_affine and bias)

    def forward(self, x: Any) -> Any:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


class RMSNorm(_Norm):
    """Divides the last axes by their root mean square, then scales.

    Parameters
    ----------
    normalized_shape
        Extents of the last axes.
    eps
        Added to the mean square; None is the dtype's machine epsilon.
    elementwise_affine
        Whether there is a `weight`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(normalized_shape, eps, dtype)  # type: ignore[arg-type]
        self.weight = self._ones(elementwise_affine)

    def forward(self, x: Any) -> Any:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


class EmbeddingBag(Embedding):
    """Rows of a table folded by bags of indices.

    Parameters
    ----------
    mode
        "sum", "mean" or "max".
    include_last_offset
        Whether offsets also hold the end of the last bag.
    num_embeddings, embedding_dim, max_norm, norm_type, scale_grad_by_freq, padding_idx
        As for `Embedding`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type,
                         scale_grad_by_freq, dtype)  # fmt: skip
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, index: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        return functional.embedding_bag(
            index, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq,
            self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )  # fmt: skip


class Bilinear(Module):
    """``x1 @ weight[k] @ x2 + bias[k]`` over the last axes, for each output k.

    Attributes
    ----------
    weight
        Shape (out_features, in1_features, in2_features).
    bias
        Shape (out_features,), or None.
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = {"in1_features": in1_features, "in2_features": in2_features,
                 "out_features": out_features}  # fmt: skip
        _positive("Bilinear", **sizes)
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(accel.empty(shape, dtype=dtype))
        self.bias = Parameter(accel.empty((out_features,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(max(self.in1_features, 1))
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound)

    def forward(self, x1: Any, x2: Any) -> Any:
        return functional.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
                f"out_features={self.out_features}, bias={self.bias is not None}")  # fmt: skip


class Dropout(Module):
    """In training, zeroes each element with probability `p` and scales the others by 1/(1-p).

    With `inplace` the operand gets the result.

    Examples
    --------
    >>> from accel import nn
    >>> nn.Dropout(0.1).eval()
    Dropout(p=0.1)
    """

    function = "dropout"

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        functional.check_probability("Dropout", p)
        self.p, self.inplace = p, inplace

    def forward(self, x: Any) -> Any:
        result = getattr(functional, self.function)(x, self.p, self.training)
        return x.copy_(result) if self.inplace and self.training else result

    def extra_repr(self) -> str:
        return f"p={self.p}" + ", inplace=True" * self.inplace


class AlphaDropout(Dropout):
    """In training, `functional.alpha_dropout`, which keeps mean and variance beside SELU."""

    function = "alpha_dropout"


class FeatureAlphaDropout(Dropout):
    """`AlphaDropout` of whole channels."""

    function = "feature_alpha_dropout"
