"""Multi-head attention and transformer layers against torch's, state exchanged by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel import nn
from accel.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def paired(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """Our module and torch's with the same parameters, in evaluation mode."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*arguments, **options).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.uniform_(-0.5, 0.5)
    ours = getattr(nn, name)(*arguments, **options).eval()
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    return ours, theirs


def to_torch(values: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}


def agree(ours: Any, theirs: Any, *operands: np.ndarray, **options: Any) -> None:
    """Both give the same, recorded and compiled."""
    import torch

    with torch.no_grad():
        want = theirs(*[torch.from_numpy(x) for x in operands], **to_torch(options))
    want = want if isinstance(want, tuple) else (want,)
    for found in (ours(*operands, **options), accel.compile(ours)(*operands, **options)):
        found = found if isinstance(found, tuple) else (found,)
        for x, y in zip(found, want, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=2e-5, atol=2e-5)


CAUSAL = np.triu(np.ones((5, 5), bool), 1)
PADDING = np.array([[False, False, True, False, True], [False, False, False, True, True]])


@pytest.mark.torch
@pytest.mark.parametrize("options", [
    {}, {"need_weights": False}, {"average_attn_weights": False}, {"attn_mask": CAUSAL},
    {"key_padding_mask": PADDING}, {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
    {"attn_mask": normal(5, 5), "need_weights": False},
    {"attn_mask": np.repeat(CAUSAL[None], 6, 0), "need_weights": False},
    {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
    {"attn_mask": CAUSAL, "is_causal": True, "key_padding_mask": PADDING, "need_weights": False},
])  # fmt: skip
@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention_is_torchs(options: dict[str, Any], batch_first: bool) -> None:
    ours, theirs = paired("MultiheadAttention", 12, 3, batch_first=batch_first)
    shape = (2, 5, 12) if batch_first else (5, 2, 12)
    x = normal(*shape)
    agree(ours, theirs, x, x, x, **options)
    agree(ours, theirs, normal(*shape), normal(*shape), normal(*shape), **options)


@pytest.mark.torch
def test_widths_of_key_and_value_bias_and_no_batch() -> None:
    ours, theirs = paired("MultiheadAttention", 12, 2, bias=False, kdim=5, vdim=7)
    agree(ours, theirs, normal(4, 2, 12), normal(6, 2, 5), normal(6, 2, 7))
    ours, theirs = paired("MultiheadAttention", 12, 2)
    x = normal(4, 12)
    agree(ours, theirs, x, x, x)
    agree(ours, theirs, x, x, x, key_padding_mask=np.array([False, True, False, False]))


@pytest.mark.torch
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_is_torchs(norm_first: bool, activation: str) -> None:
    ours, theirs = paired(
        "TransformerEncoderLayer", 12, 3, 20, activation=activation, norm_first=norm_first,
        batch_first=True,
    )  # fmt: skip
    agree(ours, theirs, normal(2, 5, 12))
    agree(ours, theirs, normal(2, 5, 12), src_mask=CAUSAL, src_key_padding_mask=PADDING)


@pytest.mark.torch
@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layer_is_torchs(norm_first: bool) -> None:
    ours, theirs = paired("TransformerDecoderLayer", 12, 3, 20, norm_first=norm_first)
    agree(ours, theirs, normal(5, 2, 12), normal(7, 2, 12), tgt_mask=CAUSAL)


@pytest.mark.torch
def test_stacks_are_torchs() -> None:
    import torch

    for name in ("Encoder", "Decoder"):
        layers = [getattr(m, f"Transformer{name}Layer")(12, 3, 20, batch_first=True)
                  for m in (nn, torch.nn)]  # fmt: skip
        ours = getattr(nn, f"Transformer{name}")(layers[0], 2, nn.LayerNorm(12)).eval()
        theirs = getattr(torch.nn, f"Transformer{name}")(layers[1], 2, torch.nn.LayerNorm(12))
        theirs = theirs.eval()
        state = {k: v.numpy() for k, v in theirs.state_dict().items()}
        assert list(ours.state_dict()) == list(state)
        ours.load_state_dict(state)
        memory = [normal(2, 7, 12)] if name == "Decoder" else []
        agree(ours, theirs, normal(2, 5, 12), *memory)


@pytest.mark.torch
def test_gradients_of_an_encoder_layer_are_torchs() -> None:
    import torch

    ours, theirs = paired("TransformerEncoderLayer", 12, 3, 20, batch_first=True)
    ours.train()
    theirs.train()
    for module in (*ours.modules(), *theirs.modules()):
        if hasattr(module, "p"):
            module.p = 0.0
        if hasattr(module, "head_dim"):
            module.dropout = 0.0
    x = normal(2, 5, 12)
    theirs(torch.from_numpy(x)).square().sum().backward()

    @accel.compile
    def step(x: Any) -> None:
        ours.zero_grad()
        accel.sum(ours(x) ** 2).backward()

    step(x)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-4,
                                   err_msg=name)  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_encoder_layer_is_seven_kernels(batch_first: bool) -> None:
    """Two norms, four products with all pointwise work, attention: nothing is copied."""
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, activation="gelu", norm_first=True, batch_first=batch_first
    ).eval()
    text = str(accel.compile(layer).explain(normal(12, 12, 16)))
    assert "7 kernels, 1 native call" in text, text
    assert "copy" not in text and "reference" not in text


def test_dropout_only_in_training() -> None:
    accel.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    x = normal(2, 5, 8)
    assert not np.array_equal(layer(x).numpy(), layer(x).numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="num_heads"):
        nn.MultiheadAttention(10, 3)
    with pytest.raises(ArgumentError, match="activation"):
        nn.TransformerEncoderLayer(8, 2, activation="swish")
    with pytest.raises(ShapeError, match="dimensions"):
        nn.MultiheadAttention(8, 2)(normal(2, 3, 8), normal(3, 8), normal(3, 8))


def test_a_fully_masked_query_gets_no_nan() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = normal(2, 5, 8)
    out, weights = attention(x, x, x, key_padding_mask=np.ones((2, 5), bool))
    assert weights is not None and (weights.numpy() == 0).all()
    assert np.isfinite(out.numpy()).all()
