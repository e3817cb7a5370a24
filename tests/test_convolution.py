"""Convolutions: values by plain loops, gradients by differences, options, modules, a small CNN."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel import errors, nn, optim
from accel.testing import assert_targets_agree

F = nn.functional
RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = START


def by_loops(
    x: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    """The definition, one product after the other."""
    wide = np.pad(x, [(0, 0), (0, 0), *padding])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    places = [(n - r) // s + 1 for n, r, s in zip(wide.shape[2:], reach, stride, strict=True)]
    out = np.zeros((len(x), len(w), *places))
    members, outputs = w.shape[1], len(w) // groups
    for place in np.ndindex(*out.shape):
        n, o, *at = place
        for c, *tap in np.ndindex(*w.shape[1:]):
            corner = [p * s + t * d for p, s, t, d in zip(at, stride, tap, dilation, strict=True)]
            out[place] += w[(o, c, *tap)] * wide[(n, o // outputs * members + c, *corner)]
    return out


@st.composite
def cases(draw: Callable[..., Any]) -> tuple[Any, ...]:
    count = draw(st.integers(1, 3))
    most = (9, 6, 4)[count - 1]

    def each(low: int, high: int) -> Any:
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    padding = tuple(zip(each(0, 2), each(0, 2), strict=True))
    groups = draw(st.integers(1, 2))
    least = [max(d * (k - 1) + 1 - sum(p), 1)
             for d, k, p in zip(dilation, kernel, padding, strict=True)]  # fmt: skip
    extents = tuple([n + draw(st.integers(0, most)) for n in least])
    n, members, outputs = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x = (n, members * groups, *extents)
    return x, (outputs * groups, members, *kernel), stride, padding, dilation, groups


@given(cases())
@settings(max_examples=40)
def test_values_and_gradients_by_loops(case: tuple[Any, ...]) -> None:
    """The gradients, too, by the definition: the result is linear in image and weight."""
    x_shape, w_shape, stride, padding, dilation, groups = case
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    wanted = by_loops(x, w, **attrs)
    a, b = accel.Tensor(x, requires_grad=True), accel.Tensor(w, requires_grad=True)
    y = accel.frontend.tensors.recording.record("convolution", a, b, **attrs)
    np.testing.assert_allclose(y.numpy(), wanted, atol=1e-12)
    if not wanted.size:
        return
    g = rng.standard_normal(wanted.shape)
    y.backward(accel.Tensor(g))
    for tensor, values, at in ((a, x, 0), (b, w, 1)):
        slope = tensor.grad.numpy()
        for place in [tuple(rng.integers(n) for n in values.shape) for _ in range(3)]:
            unit = np.zeros_like(values)
            unit[place] = 1
            pair = (unit, w) if at == 0 else (x, unit)
            np.testing.assert_allclose(slope[place], (by_loops(*pair, **attrs) * g).sum(),
                                       atol=1e-10)  # fmt: skip


def test_second_derivatives() -> None:
    """Of sum(conv(x, w)^2), which is quadratic in each: differences of gradients are exact."""
    x, w = RNG.standard_normal((1, 2, 6)), RNG.standard_normal((4, 1, 3))

    def loss(x: Any, w: Any) -> Any:
        return (F.conv1d(x, w, stride=2, padding=1, groups=2) ** 2).sum()

    def curvature(x: Any, w: Any) -> Any:
        dx, dw = accel.grad(loss, (0, 1))(x, w)
        return (dx * dx).sum() + (dw**3).sum()

    found = accel.grad(curvature, (0, 1))(accel.Tensor(x), accel.Tensor(w))
    step = 1e-5
    for at, values in enumerate((x, w)):
        for place in ((0, 0, 1), (0, 0, 2)):
            ends = []
            for sign in (1, -1):
                moved = [x.copy(), w.copy()]
                moved[at][place] += sign * step
                ends.append(curvature(*map(accel.Tensor, moved)).item())
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(found[at].numpy()[place], slope, rtol=1e-6)
            assert values.shape == found[at].shape


@pytest.mark.parametrize("count", [1, 2, 3])
def test_transposed_is_the_adjoint(count: int) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>."""
    extents = (9, 8, 7)[:count]
    w = RNG.standard_normal((4, 3, *(3, 2, 3)[:count]))
    x = RNG.standard_normal((2, 3, *extents))
    forward, back = getattr(F, f"conv{count}d"), getattr(F, f"conv_transpose{count}d")
    y = forward(x, w, stride=2, padding=1).numpy()
    rows = zip(extents, w.shape[2:], strict=True)
    rest = tuple([(n + 2 - k) % 2 for n, k in rows])
    g = RNG.standard_normal(y.shape)
    carried = back(g, w, stride=2, padding=1, output_padding=rest).numpy()
    assert carried.shape == x.shape
    np.testing.assert_allclose((y * g).sum(), (x * carried).sum(), rtol=1e-10)


def test_images_without_a_batch_and_named_padding() -> None:
    x = RNG.standard_normal((3, 7, 6)).astype(np.float32)
    w = RNG.standard_normal((4, 3, 3, 4)).astype(np.float32)
    alone = F.conv2d(x, w, padding="same", dilation=(2, 1))
    assert alone.shape == (4, 7, 6)
    widths = ((2, 2), (1, 2))
    wide = np.pad(x, [(0, 0), *widths])[None]
    whole = F.conv2d(wide, w, padding="valid", dilation=(2, 1))
    np.testing.assert_array_equal(alone.numpy(), whole.numpy()[0])
    assert F.conv_transpose2d(x, w.transpose(1, 0, 2, 3)).shape == (4, 9, 9)


def test_half_precision_is_computed_wide() -> None:
    x = np.full((1, 64, 3), 100, np.float16)
    w = np.full((1, 64, 3), 1, np.float16)
    assert F.conv1d(x, w).item() == 19200.0
    assert_targets_agree(lambda x, w: F.conv1d(x, w, padding=1), x, w)


@pytest.mark.parametrize("call, error, match", [
    (lambda x, w: F.conv2d(x[0, 0], w), errors.ShapeError, "without a batch"),
    (lambda x, w: F.conv1d(x[0], w), errors.ShapeError, "3 dimensions"),
    (lambda x, w: F.conv2d(x[:, :2], w), errors.ShapeError, "2 channels"),
    (lambda x, w: F.conv2d(x, w, groups=2), errors.ShapeError, "groups"),
    (lambda x, w: F.conv2d(x, w, dilation=4), errors.ShapeError, "spans 9"),
    (lambda x, w: F.conv2d(x, w, padding=-1), errors.ArgumentError, "padding"),
    (lambda x, w: F.conv2d(x, w, padding="full"), errors.ArgumentError, "'same' or 'valid'"),
    (lambda x, w: F.conv2d(x, w, stride=2, padding="same"), errors.ArgumentError, "stride of 1"),
    (lambda x, w: F.conv2d(x, w, stride=(1, 1, 1)), errors.ArgumentError, "stride"),
    (lambda x, w: F.conv2d(x, w, np.ones(3)), errors.ShapeError, "bias"),
    (lambda x, w: F.conv_transpose2d(x, w), errors.ShapeError, "channels"),
    (lambda x, w: F.conv_transpose2d(x, w[:3], output_padding=1), errors.ArgumentError, "stride"),
    (lambda x, w: F.conv_transpose2d(x, w[:3], padding=9), errors.ShapeError, "less padding"),
    (lambda x, w: F.conv2d(x.astype(int), w.astype(int)), errors.DTypeError, "convolution"),
])  # fmt: skip
@pytest.mark.parametrize("compiled", [False, True])
def test_bad_input_names_the_line(call: Any, error: Any, match: str, compiled: bool) -> None:
    x, w = np.ones((1, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    with pytest.raises(error, match=match) as caught:
        (accel.compile(call) if compiled else call)(x, w)
    assert caught.value.loc is not None and caught.value.loc.file == __file__


# -- modules --------------------------------------------------------------------------------
def test_modules_show_their_settings_and_refuse_bad_ones() -> None:
    layer = nn.Conv2d(4, 8, (3, 1), stride=2, padding="valid", groups=2, bias=False)
    assert repr(layer) == (
        "Conv2d(4, 8, kernel_size=(3, 1), stride=(2, 2), padding='valid', groups=2, bias=False)"
    )
    assert layer.weight.shape == (8, 2, 3, 1) and layer.bias is None
    assert nn.ConvTranspose1d(4, 6, 3, groups=2).weight.shape == (4, 3, 3)
    bound = 1 / np.sqrt(2 * 3)
    assert float(np.abs(layer.weight.numpy()).max()) <= bound
    with pytest.raises(errors.ArgumentError, match="groups"):
        nn.Conv2d(4, 6, 3, groups=4)
    with pytest.raises(errors.ArgumentError, match="padding_mode"):
        nn.Conv1d(4, 6, 3, padding_mode="mirror")
    with pytest.raises(errors.ArgumentError, match="out_channels"):
        nn.Conv1d(4, 0, 3)


def test_transposed_module_takes_an_output_size() -> None:
    layer = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
    assert layer(accel.ones((1, 3, 4, 5)), output_size=(8, 9)).shape == (1, 2, 8, 9)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode: str) -> None:
    layer = nn.Conv1d(2, 3, 3, padding=2, padding_mode=mode)
    x = RNG.standard_normal((1, 2, 6)).astype(np.float32)
    kind: Any = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}.get(mode, mode)
    wide = np.pad(x, ((0, 0), (0, 0), (2, 2)), mode=kind)
    np.testing.assert_allclose(
        layer(x).numpy(), F.conv1d(wide, layer.weight, layer.bias).numpy(), rtol=1e-6
    )


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )  # fmt: skip


def test_a_small_network_learns() -> None:
    accel.manual_seed(0)
    model = small_cnn()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x = RNG.standard_normal((16, 3, 32, 32)).astype(np.float32)
    y = RNG.integers(0, 10, 16)

    @accel.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x, y).item() for _ in range(12)]
    assert losses[-1] < losses[0] / 3
    assert step.cache_info().misses == 1
    explanation = step.explain(x, y)
    assert explanation.native_calls == explanation.steps == 1  # no step on the reference
    norm = model[1]
    assert norm.num_batches_tracked.item() == 12
    assert np.abs(norm.running_mean.numpy()).max() > 1e-3
    before = norm.running_var.numpy().copy()
    model.eval()
    once, again = model(x).numpy(), model(x).numpy()
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(norm.running_var.numpy(), before)


def test_a_network_after_training_is_a_kernel_a_layer() -> None:
    """Bias, batch norm, relu and pooling are written with the convolution's results."""
    model = small_cnn().eval()
    rows = accel.compile(lambda x: model(x)).explain(np.zeros((2, 3, 32, 32), np.float32)).rows
    kernels = [line for row in rows for line in row.kernels.split("\n") if line.strip()]
    assert len(kernels) == 6  # one of them for the batch norm's factors
    assert sum("convolution" in k and "relu" in k for k in kernels) == 2


# -- against torch --------------------------------------------------------------------------
@pytest.mark.torch
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_grid_of_options_agrees_with_torch(count: int, transposed: bool) -> None:
    import torch

    name = f"conv{'_transpose' if transposed else ''}{count}d"
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    extents = (7, 6, 5)[:count]
    grid = itertools.product((1, 3), (1, 2), (0, 1), (1, 2), (1, 2))
    for k, stride, padding, dilation, groups in grid:
        x = RNG.standard_normal((2, 4, *extents))
        w = RNG.standard_normal((4 if transposed else 6, 4 // groups, *(k,) * count))
        bias = RNG.standard_normal(4 if transposed else 6)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if transposed:
            options["output_padding"] = max(stride, dilation) - 1
        operands = [torch.tensor(v, requires_grad=True) for v in (x, w, bias)]
        mine = [accel.Tensor(v, requires_grad=True) for v in (x, w, bias)]
        wanted, found = theirs(*operands, **options), ours(*mine, **options)
        np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), atol=1e-11)
        g = RNG.standard_normal(wanted.shape)
        wanted.backward(torch.tensor(g))
        found.backward(accel.Tensor(g))
        for a, b in zip(mine, operands, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-10)


@pytest.mark.torch
def test_states_fit_torch(tmp_path: Path) -> None:
    import torch

    model = small_cnn()
    other = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(32 * 8 * 8, 10),
    )  # fmt: skip
    assert list(model.state_dict()) == list(other.state_dict())
    accel.save_safetensors(model.state_dict(), tmp_path / "model.safetensors")
    state = accel.load_safetensors(tmp_path / "model.safetensors")
    other.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state.items()})
    x = RNG.standard_normal((4, 3, 32, 32)).astype(np.float32)
    for training in (True, False):
        model.train(training)
        other.train(training)
        wanted = other(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(model(x).numpy(), wanted, atol=2e-5)
    back = small_cnn()
    back.load_state_dict({k: v.numpy() for k, v in other.state_dict().items()})
    np.testing.assert_allclose(back.eval()(x).numpy(), wanted, atol=2e-5)
