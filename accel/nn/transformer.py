"""Layers of a transformer, encoder and decoder, under torch's names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..frontend.tensors.tensor import Tensor
from . import functional
from .attention import MultiheadAttention
from .containers import ModuleList
from .layers import Dropout, LayerNorm, Linear
from .module import Module

__all__ = ["TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
           "TransformerEncoderLayer"]  # fmt: skip

Activation = Callable[[Any], Tensor]
_ACTIVATIONS: dict[str, Activation] = {"relu": functional.relu, "gelu": functional.gelu}


def _activation(op: str, given: str | Activation) -> Activation:
    if callable(given):
        return given
    if given not in _ACTIVATIONS:
        raise ArgumentError(
            f"{op}: activation is {given!r}",
            remedy=f"name one of {', '.join(_ACTIVATIONS)}, or give a function",
        )
    return _ACTIVATIONS[given]


class _Layer(Module):
    """What both layers have: self-attention, a feed-forward part, two norms."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias=bias, batch_first=batch_first, dtype=dtype
        )
        self._add_attention(d_model, nhead, dropout, bias, batch_first, dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, dtype=dtype)
        for number in range(1, self._parts() + 1):
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
            self.add_module(f"norm{number}", norm)
        for number in range(1, self._parts() + 1):
            self.add_module(f"dropout{number}", Dropout(dropout))
        self.norm_first = norm_first
        self.activation = _activation(name, activation)

    def _add_attention(self, *arguments: Any) -> None:
        """Add what stands between self-attention and the feed-forward part."""

    def _parts(self) -> int:
        return 2

    def _through(self, x: Any, parts: list[Callable[[Any], Any]]) -> Tensor:
        """`x` with each part added in turn, normalised before (`norm_first`) or after."""
        for number, part in enumerate(parts, 1):
            norm = self.get_submodule(f"norm{number}")
            dropout = self.get_submodule(f"dropout{number}")
            if self.norm_first:
                x = x + dropout(part(norm(x)))
            else:
                x = norm(x + dropout(part(x)))
        return x

    def _attend_to_itself(self, x: Any, mask: Any, padding: Any, is_causal: bool) -> Tensor:
        return self.self_attn(
            x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False,
            is_causal=is_causal,
        )[0]  # fmt: skip

    def _feed_forward(self, x: Any) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward part, each with a residual connection and a norm.

    Parameters
    ----------
    d_model, nhead
        Width, and heads that share it.
    dim_feedforward
        Width between `linear1` and `linear2`.
    dropout
        Probability of every dropout.
    activation
        ``"relu"``, ``"gelu"`` or a function.
    layer_norm_eps
        Added to the norms' variance.
    batch_first
        Whether operands are (N, L, d_model) and not (L, N, d_model).
    norm_first
        Whether the norms stand before the parts and not behind the sums.
    bias
        Whether projections and norms have biases.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    >>> layer(accel.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """The layer's result; masks as in `MultiheadAttention`."""
        return self._through(src, [
            lambda x: self._attend_to_itself(x, src_mask, src_key_padding_mask, is_causal),
            self._feed_forward,
        ])  # fmt: skip


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to an encoder's result, and a feed-forward part.

    Parameters
    ----------
    d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first
        As in `TransformerEncoderLayer`.
    bias
        Whether projections and norms have biases.
    """

    def _add_attention(self, *arguments: Any) -> None:
        d_model, nhead, dropout, bias, batch_first, dtype = arguments
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias=bias, batch_first=batch_first, dtype=dtype
        )

    def _parts(self) -> int:
        return 3

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """The layer's result for a target and the encoder's `memory`."""
        return self._through(tgt, [
            lambda x: self._attend_to_itself(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal),
            lambda x: self.multihead_attn(
                x, memory, memory, attn_mask=memory_mask, need_weights=False,
                key_padding_mask=memory_key_padding_mask, is_causal=memory_is_causal,
            )[0],
            self._feed_forward,
        ])  # fmt: skip


class _Stack(Module):
    """Copies of a layer, one after another, and a last norm."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _through(self, x: Any, *operands: Any, **options: Any) -> Any:
        for layer in self.layers:
            x = layer(x, *operands, **options)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """`num_layers` copies of an encoder layer, then `norm`.

    Parameters
    ----------
    encoder_layer
        The layer that is copied, values included.
    num_layers
        How many copies.
    norm
        A module applied to the result, or None.
    """

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """The last layer's result; masks as in `MultiheadAttention`."""
        return self._through(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask,
                             is_causal=is_causal)  # fmt: skip


class TransformerDecoder(_Stack):
    """`num_layers` copies of a decoder layer, then `norm`; as `TransformerEncoder`."""

    def __init__(
        self, decoder_layer: Module, num_layers: int, norm: Module | None = None
    ) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """The last layer's result for a target and the encoder's `memory`."""
        return self._through(
            tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal,
        )  # fmt: skip
