"""Attention with several heads, as torch's module of this name has it."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel
from ..frontend.tensors.recording import as_tensor, record
from ..frontend.tensors.tensor import Tensor
from . import functional, init
from .layers import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Query, key and value projected into heads, attention in each, the heads joined again.

    Parameters
    ----------
    embed_dim
        Width of query and result; the heads share it.
    num_heads
        A divisor of `embed_dim`.
    dropout
        Probability with which an attention weight is zeroed in training.
    bias
        Whether the projections have biases.
    kdim, vdim
        Widths of key and value; None is `embed_dim`.
    batch_first
        Whether operands are (N, L, width) and not (L, N, width). They may also come without N.

    Attributes
    ----------
    in_proj_weight
        The projections of query, key and value below each other, (3 embed_dim, embed_dim); None
        where key or value has a width of its own, and q_proj_weight, k_proj_weight and
        v_proj_weight stand apart.
    in_proj_bias
        (3 embed_dim,) or None.
    out_proj
        The Linear behind the heads.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> x = accel.ones((2, 5, 8))
    >>> out, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> out.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: {num_heads} heads of a width of {embed_dim}",
                remedy="let num_heads divide embed_dim",
            )
        functional.check_probability("MultiheadAttention", dropout)
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first

        def weight(*shape: int) -> Parameter:
            return Parameter(accel.empty(shape, dtype=dtype))

        joined = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = weight(3 * embed_dim, embed_dim) if joined else None
        self.q_proj_weight = None if joined else weight(embed_dim, embed_dim)
        self.k_proj_weight = None if joined else weight(embed_dim, self.kdim)
        self.v_proj_weight = None if joined else weight(embed_dim, self.vdim)
        self.in_proj_bias = weight(3 * embed_dim) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for projection in (
            self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        ):  # fmt: skip
            if projection is not None:
                init.xavier_uniform_(projection)
        self.out_proj.reset_parameters()
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result, and the weights or None.

        Parameters
        ----------
        query, key, value
            Shapes (L, N, embed_dim), (S, N, kdim) and (S, N, vdim), N first if `batch_first`,
            or without it.
        key_padding_mask
            Shape (N, S): True for keys to leave out, or numbers added to their scores.
        need_weights
            Whether the weights are returned; without them no L x S matrix is made.
        attn_mask
            Shape (L, S) or (N * num_heads, L, S): True for pairs to leave out, or numbers added
            to their scores.
        average_attn_weights
            Whether the weights returned are the mean over the heads, (N, L, S).
        is_causal
            Whether query i sees the keys 0 to i only; an `attn_mask` beside it is taken to say
            the same.
        """
        single = query is key and key is value
        query = as_tensor(query)
        key = query if single else as_tensor(key)
        value = key if single or value is key else as_tensor(value)
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ShapeError(
                f"MultiheadAttention: query, key and value of {query.ndim}, {key.ndim} and "
                f"{value.ndim} dimensions", remedy="give all with a batch dimension, or none",
            )  # fmt: skip
        batch = 1 if query.ndim == 2 else query.shape[0 if self.batch_first else 1]
        q, k, v = self._heads(query, key, value)
        mask, causal = self._mask(attn_mask, key_padding_mask, is_causal, batch, q, k)
        masks = [] if mask is None else [mask]
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = record("attention_weights", q, k, *masks, is_causal=causal)
            weights = functional.dropout(weights, dropout)
            out = weights @ v
        else:
            out = functional.scaled_dot_product_attention(
                q, k, v, mask, dropout_p=dropout, is_causal=causal
            )
        out = self.out_proj(self._joined(out, query.ndim))
        if weights is not None:
            weights = accel.mean(weights, axis=1) if average_attn_weights else weights
            weights = weights if query.ndim == 3 else accel.squeeze(weights, 0)
        return out, weights

    # -- projections --------------------------------------------------------------------------
    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Query, key and value as (N, heads, length, head_dim)."""
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        if weight is not None and query is key and key is value:
            return self._split(functional.linear(query, weight, bias), 3)
        weights: list[Any]
        if weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = [weight[i * width : (i + 1) * width] for i in range(3)]
        biases = [None] * 3 if bias is None else [
            bias[i * width : (i + 1) * width] for i in range(3)
        ]  # fmt: skip
        found = []
        for x, w, b in zip((query, key, value), weights, biases, strict=True):
            found += self._split(functional.linear(x, w, b), 1)
        return found

    def _split(self, x: Tensor, count: int) -> list[Tensor]:
        """`count` projections beside each other as (N, heads, length, head_dim) each."""
        x = accel.unflatten(x, -1, (count, self.num_heads, self.head_dim))
        if x.ndim == 4:
            x = accel.unsqueeze(x, 0 if self.batch_first else 1)
        order = (2, 0, 3, 1, 4) if self.batch_first else (2, 1, 3, 0, 4)
        x = accel.permute(x, order)
        return [x[i] for i in range(count)]

    def _joined(self, heads: Tensor, ndim: int) -> Tensor:
        """(N, heads, length, head_dim) as the operands were laid out."""
        x = accel.permute(heads, (0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        x = accel.flatten(x, -2, -1)
        return x if ndim == 3 else accel.squeeze(x, 0 if self.batch_first else 1)

    # -- masks --------------------------------------------------------------------------------
    def _mask(
        self, pairs: Any, padding: Any, is_causal: bool, batch: int, query: Tensor, key: Tensor
    ) -> tuple[Tensor | None, bool]:
        """One mask in the sense of `scaled_dot_product_attention`, and whether that is causal."""
        if is_causal and padding is None:
            return None, True
        found = []
        if pairs is not None:
            mask = as_tensor(pairs)
            if mask.ndim == 3:
                mask = accel.unflatten(mask, 0, (batch, self.num_heads))
            found.append(mask)
        elif is_causal:
            rows, keys = query.shape[-2], key.shape[-2]
            found.append(~accel.tril(accel.ones((rows, keys), dtype=accel.bool)))
        if padding is not None:
            mask = as_tensor(padding)
            found.append(accel.reshape(mask, (batch, 1, 1, mask.shape[-1])))
        if not found:
            return None, False
        if all(mask.dtype.kind == "b" for mask in found):
            visible = ~found[0]
            return (visible if len(found) == 1 else visible & ~found[1]), False
        added = [
            accel.where(mask, float("-inf"), 0.0).astype(query.dtype)
            if mask.dtype.kind == "b" else mask.astype(query.dtype)
            for mask in found
        ]  # fmt: skip
        return (added[0] if len(added) == 1 else added[0] + added[1]), False

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
            f"batch_first={self.batch_first}"
        )
