"""Batch, group and instance norm, and the layers that resample and rearrange images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel import errors, nn
from accel.testing import assert_targets_agree

F = nn.functional
RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = START


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def normalized(x: np.ndarray, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps)


def on_channels(p: np.ndarray, ndim: int) -> np.ndarray:
    return p.reshape(-1, *[1] * (ndim - 2))


SHAPES = [(6, 4), (3, 4, 5), (2, 4, 5, 3), (2, 4, 3, 2, 3), (1, 4, 130)]


# -- batch norm -----------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("compiled", [False, True])
def test_batch_norm_in_training_and_after(shape: tuple[int, ...], compiled: bool) -> None:
    x, w, b = draw(*shape) * 3 + 1, draw(4), draw(4)
    axes = (0, *range(2, len(shape)))
    mean, var = accel.asarray(draw(4)), accel.asarray(np.abs(draw(4)))
    before = mean.numpy().copy(), var.numpy().copy()

    def train(x: Any) -> Any:
        return F.batch_norm(x, mean, var, w, b, training=True, momentum=0.25)

    y = (accel.compile(train) if compiled else train)(x)
    scale, shift = on_channels(w, len(shape)), on_channels(b, len(shape))
    np.testing.assert_allclose(y.numpy(), normalized(x, axes) * scale + shift, atol=1e-5)
    n = x.size // 4
    found = x.mean(axes), x.var(axes) * n / (n - 1)
    for running, old, new in zip((mean, var), before, found, strict=True):
        np.testing.assert_allclose(running.numpy(), 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-6)
    after = F.batch_norm(x, mean, var, w, b)
    m, v = (on_channels(r.numpy().astype(np.float64), len(shape)) for r in (mean, var))
    np.testing.assert_allclose(after.numpy(), (x - m) / np.sqrt(v + 1e-5) * scale + shift,
                               atol=1e-4)  # fmt: skip


def test_batch_norm_gradients_by_differences() -> None:
    x, w, b = draw(3, 2, 4, dtype=float), draw(2, dtype=float), draw(2, dtype=float)

    def loss(x: Any, w: Any, b: Any) -> Any:
        return (F.batch_norm(x, None, None, w, b, training=True) ** 3).sum()

    found = accel.grad(loss, (0, 1, 2))(*map(accel.Tensor, (x, w, b)))
    step = 1e-6
    for at, place in ((0, (1, 0, 2)), (0, (2, 1, 3)), (1, (1,)), (2, (0,))):
        ends = []
        for sign in (1, -1):
            moved = [x.copy(), w.copy(), b.copy()]
            moved[at][place] += sign * step
            ends.append(loss(*map(accel.Tensor, moved)).item())
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(found[at].numpy()[place], slope, rtol=1e-5, atol=1e-8)


def test_batch_norm_after_training_is_one_fused_affine() -> None:
    norm = nn.BatchNorm2d(8).eval()
    step = accel.compile(lambda x: accel.relu(norm(x)))
    rows = step.explain(draw(2, 8, 6, 6)).rows
    large = [k for row in rows for k in row.kernels.split("\n") if "relu" in k]
    assert len(large) == 1 and "mul" in large[0]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_module_tracks_batches(momentum: float | None) -> None:
    norm = nn.BatchNorm1d(3, momentum=momentum)
    batches = [draw(8, 3) + i for i in range(3)]
    step = accel.compile(lambda x: norm(x))
    for x in batches:
        step(x)
    assert norm.num_batches_tracked.item() == 3
    wanted = np.zeros(3)
    for i, x in enumerate(batches, 1):
        share = 1 / i if momentum is None else momentum
        wanted = (1 - share) * wanted + share * x.mean(0)
    np.testing.assert_allclose(norm.running_mean.numpy(), wanted, rtol=1e-5)
    assert list(norm.state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip
    bare = nn.BatchNorm2d(3, affine=False, track_running_stats=False).eval()
    assert not bare.state_dict()
    x = draw(2, 3, 4, 4)
    np.testing.assert_allclose(bare(x).numpy(), normalized(x, (0, 2, 3)), atol=1e-5)


def test_half_precision_keeps_its_dtype() -> None:
    x = (draw(4, 3, 5) * 100).astype(np.float16)
    mean, var = accel.zeros(3), accel.ones(3)
    y = F.batch_norm(x, mean, var, training=True)
    assert y.dtype == accel.float16 and mean.dtype == accel.float32
    np.testing.assert_allclose(mean.numpy(), 0.1 * x.astype(float).mean((0, 2)), rtol=1e-3)
    assert F.group_norm(x, 1, draw(3), draw(3)).dtype == accel.float16


# -- group and instance norm ----------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(shape: tuple[int, ...], groups: int) -> None:
    if len(shape) == 2 and groups == 4:
        return
    x, w, b = draw(*shape), draw(4), draw(4)
    split = x.reshape(shape[0], groups, -1)
    wanted = normalized(split, (2,)).reshape(shape) * on_channels(w, x.ndim)
    y = F.group_norm(x, groups, w, b)
    np.testing.assert_allclose(y.numpy(), wanted + on_channels(b, x.ndim), atol=1e-5)
    assert_targets_agree(lambda x, w, b: F.group_norm(x, groups, w, b), x, w, b)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_instance_norm(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    axes = tuple(range(2, len(shape)))
    np.testing.assert_allclose(F.instance_norm(x).numpy(), normalized(x, axes), atol=1e-5)
    kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[len(shape) - 3]
    norm = kind(4, affine=True, track_running_stats=True)
    norm(x)
    np.testing.assert_allclose(
        norm.running_mean.numpy(), 0.1 * x.mean(axes).mean(0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        norm.running_var.numpy(), 0.9 + 0.1 * x.var(axes, ddof=1).mean(0), rtol=1e-4
    )
    norm.eval()
    assert norm(x[0]).shape == x[0].shape


@pytest.mark.parametrize("call, match", [
    (lambda: nn.BatchNorm2d(3)(accel.ones((2, 3))), "N, C, H, W"),
    (lambda: nn.BatchNorm1d(3)(accel.ones((2, 4))), "for 4 channels"),
    (lambda: nn.BatchNorm1d(3)(accel.ones((1, 3))), "one value"),
    (lambda: F.group_norm(accel.ones((1, 3, 2)), 2), "2 groups"),
    (lambda: F.instance_norm(accel.ones((2, 3, 1))), "one value"),
    (lambda: F.batch_norm(accel.ones(3), None, None), r"N, C"),
])  # fmt: skip
def test_bad_shapes(call: Any, match: str) -> None:
    with pytest.raises(errors.ShapeError, match=match) as caught:
        call()
    assert caught.value.loc is not None and caught.value.loc.file == __file__


def test_bad_settings() -> None:
    with pytest.raises(errors.ArgumentError, match="groups"):
        nn.GroupNorm(3, 4)
    with pytest.raises(errors.ArgumentError, match="num_features"):
        nn.BatchNorm1d(-1)
    with pytest.raises(errors.ArgumentError, match="num_groups"):
        F.group_norm(accel.ones((1, 4, 2)), 0)


# -- resampling and rearranging -------------------------------------------------------------
def test_nearest_repeats_and_linear_interpolates() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    twice = F.interpolate(x, scale_factor=2).numpy()
    np.testing.assert_array_equal(twice, x.repeat(2, 2).repeat(2, 3))
    line = np.array([[[0.0, 1.0, 4.0]]], np.float32)
    ends = F.interpolate(line, size=5, mode="linear", align_corners=True).numpy()
    np.testing.assert_allclose(ends[0, 0], [0, 0.5, 1, 2.5, 4])
    assert nn.Upsample(size=(4, 4), mode="bicubic")(x).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_interpolation_is_linear_and_its_gradient_the_adjoint(mode: str) -> None:
    x = draw(1, 2, 4, 5, dtype=float)
    tensor = accel.Tensor(x, requires_grad=True)
    y = F.interpolate(tensor, size=(7, 3), mode=mode)
    g = draw(*y.shape, dtype=float)
    y.backward(accel.Tensor(g))
    np.testing.assert_allclose((y.numpy() * g).sum(), (x * tensor.grad.numpy()).sum(), rtol=1e-10)


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": (3, 2), "stride": 2},
                                     {"kernel_size": 3, "padding": 1, "dilation": 2}])  # fmt: skip
def test_unfold_is_what_convolution_multiplies(options: dict[str, Any]) -> None:
    x = draw(2, 3, 7, 8, dtype=float)
    kernel = options["kernel_size"]
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    w = draw(4, 3, *kernel, dtype=float)
    columns = F.unfold(x, **options)
    rest = {k: v for k, v in options.items() if k != "kernel_size"}
    wanted = F.conv2d(x, w, **rest).numpy()
    np.testing.assert_allclose(
        (w.reshape(4, -1) @ columns.numpy()).reshape(wanted.shape), wanted, atol=1e-12
    )
    g = draw(*columns.shape, dtype=float)
    back = F.fold(g, (7, 8), **options).numpy()
    np.testing.assert_allclose((columns.numpy() * g).sum(), (x * back).sum(), rtol=1e-10)


def test_pixels_move_to_channels_and_back() -> None:
    x = draw(2, 8, 3, 4)
    large = F.pixel_shuffle(x, 2)
    assert large.shape == (2, 2, 6, 8)
    assert large.numpy()[1, 0, 3, 5] == x[1, 3, 1, 2]
    np.testing.assert_array_equal(nn.PixelUnshuffle(2)(large).numpy(), x)
    assert F.channel_shuffle(x, 2).numpy()[0, :, 0, 0].tolist() == [
        x[0, i, 0, 0] for i in (0, 4, 1, 5, 2, 6, 3, 7)
    ]


def test_channels_are_dropped_whole() -> None:
    accel.manual_seed(1)
    y = nn.Dropout2d(0.5)(accel.ones((8, 16, 3, 3))).numpy()
    assert ((y == 0).all((2, 3)) | (y == 2).all((2, 3))).all()
    assert 0.2 < (y == 0).mean() < 0.8
    np.testing.assert_array_equal(nn.Dropout2d(0.5).eval()(y), y)
    assert not F.dropout1d(accel.ones((2, 3, 4)), 1.0).numpy().any()


def test_pads_as_modules() -> None:
    x = draw(1, 2, 3, 4)
    wide = nn.ZeroPad2d((1, 2, 0, 3))(x).numpy()
    np.testing.assert_array_equal(wide, np.pad(x, ((0, 0), (0, 0), (0, 3), (1, 2))))
    wide = nn.ConstantPad2d(1, 3.5)(x).numpy()
    np.testing.assert_array_equal(
        wide, np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=3.5)
    )
    wide = nn.ReflectionPad2d(2)(x).numpy()
    np.testing.assert_array_equal(
        wide, np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    )


@pytest.mark.parametrize("call, error, match", [
    (lambda x: F.interpolate(x), errors.ArgumentError, "exactly one"),
    (lambda x: F.interpolate(x, 4, mode="linear"), errors.ArgumentError, "bilinear"),
    (lambda x: F.interpolate(x, 4, align_corners=True), errors.ArgumentError, "align_corners"),
    (lambda x: F.interpolate(x, 0), errors.ArgumentError, "extents"),
    (lambda x: F.interpolate(x, 4, mode="nearest", antialias=True), errors.ArgumentError,
     "antialias"),
    (lambda x: F.interpolate(x[0], (4, 4)), errors.ArgumentError, "size"),
    (lambda x: F.unfold(x, 6), errors.ShapeError, "spans 6"),
    (lambda x: F.fold(x[0], 5, 2), errors.ShapeError, "columns"),
    (lambda x: F.pixel_shuffle(x, 2), errors.ShapeError, "square"),
    (lambda x: F.channel_shuffle(x, 2), errors.ShapeError, "groups"),
])  # fmt: skip
def test_bad_input_names_the_line(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        call(accel.ones((1, 3, 5, 5)))
    assert caught.value.loc is not None and caught.value.loc.file == __file__


# -- against torch --------------------------------------------------------------------------
@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_agree_with_torch(shape: tuple[int, ...]) -> None:
    import torch

    theirs = torch.nn.functional
    x, w, b = draw(*shape, dtype=float), draw(4, dtype=float), draw(4, dtype=float)
    calls: list[tuple[Any, Any]] = [
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
         lambda x, w, b: theirs.batch_norm(x, None, None, w, b, True)),
        (lambda x, w, b: F.group_norm(x, 2, w, b), lambda x, w, b: theirs.group_norm(x, 2, w, b)),
    ]  # fmt: skip
    if len(shape) > 2:
        calls.append((lambda x, w, b: F.instance_norm(x, None, None, w, b),
                      lambda x, w, b: theirs.instance_norm(x, None, None, w, b)))  # fmt: skip
    for ours, torchs in calls:
        mine = [accel.Tensor(v, requires_grad=True) for v in (x, w, b)]
        other = [torch.tensor(v, requires_grad=True) for v in (x, w, b)]
        y, wanted = ours(*mine), torchs(*other)
        np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), atol=1e-10)
        g = draw(*shape, dtype=float)
        y.backward(accel.Tensor(g))
        wanted.backward(torch.tensor(g))
        for u, v in zip(mine, other, strict=True):
            np.testing.assert_allclose(u.grad.numpy(), v.grad.numpy(), atol=1e-9)


@pytest.mark.torch
def test_running_statistics_agree_with_torch() -> None:
    import torch

    for ours, theirs, shape in (
        (nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3), (4, 3, 5, 5)),
        (nn.BatchNorm1d(3, momentum=None), torch.nn.BatchNorm1d(3, momentum=None), (4, 3)),
        (nn.InstanceNorm1d(3, track_running_stats=True),
         torch.nn.InstanceNorm1d(3, track_running_stats=True), (4, 3, 6)),
    ):  # fmt: skip
        for _ in range(3):
            x = draw(*shape)
            wanted = theirs(torch.tensor(x)).detach().numpy()
            np.testing.assert_allclose(ours(x).numpy(), wanted, atol=1e-5)
        for name, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("mode, corners", [
    ("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True),
    ("bicubic", False), ("bicubic", True), ("area", None),
])  # fmt: skip
def test_interpolation_agrees_with_torch(mode: str, corners: bool | None) -> None:
    import torch

    x = draw(2, 3, 5, 6)
    for options in (
        {"size": (7, 9)}, {"size": (3, 2)}, {"size": (1, 5)}, {"scale_factor": 2},
        {"scale_factor": (1.7, 0.6)}, {"scale_factor": 1.7, "recompute_scale_factor": True},
    ):  # fmt: skip
        settings: dict[str, Any] = {**options, "mode": mode, "align_corners": corners}
        wanted = torch.nn.functional.interpolate(torch.tensor(x), **settings).numpy()
        np.testing.assert_allclose(F.interpolate(x, **settings).numpy(), wanted, atol=1e-5)
