"""Pooling: values by plain loops, gradients, indices, adaptive windows, native kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel import errors, nn
from accel.testing import assert_targets_agree

F = nn.functional
RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = START


def windows_of(
    extents: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[list[int], Callable[[Any], list[tuple[int, ...]]]]:
    """The number of windows along each dimension; the elements of one, without padding."""
    counts = []
    for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        counts.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)

    def elements(at: Any) -> list[tuple[int, ...]]:
        ranges = [
            [i * s - p + t * d for t in range(k) if 0 <= i * s - p + t * d < n]
            for i, n, k, s, p, d in zip(at, extents, kernel, stride, padding, dilation, strict=True)
        ]
        return list(itertools.product(*ranges))

    return counts, elements


@st.composite
def cases(draw: Callable[..., Any]) -> dict[str, Any]:
    count = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    kernel, dilation = each(1, 4 if count < 3 else 2), each(1, 2)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple([draw(st.integers(0, span // 2)) for span in spans])
    extra = draw(st.integers(0, 6 if count < 3 else 3))
    return {
        "extents": tuple([span + extra for span in spans]), "kernel": kernel,
        "stride": each(1, 3), "padding": padding, "dilation": dilation,
        "ceil_mode": draw(st.booleans()), "special": draw(st.booleans()),
    }  # fmt: skip


@given(cases())
@settings(max_examples=60)
def test_maxima_and_their_places(case: dict[str, Any]) -> None:
    special = case.pop("special")
    rng = np.random.default_rng(2)
    x = rng.integers(-3, 4, (2, 2, *case["extents"])).astype(np.float32)
    if special:
        x[rng.random(x.shape) < 0.1] = np.nan
        x[0] = -np.inf
    counts, elements = windows_of(**case)
    values = np.empty((2, 2, *counts), np.float32)
    places = np.empty(values.shape, np.int64)
    for n, c, *at in np.ndindex(*values.shape):
        best = None
        for element in elements(at):
            v = x[(n, c, *element)]
            if best is None or v > best or np.isnan(v):
                best = v
                places[(n, c, *at)] = np.ravel_multi_index(element, case["extents"])
        values[(n, c, *at)] = best
    function = getattr(F, f"max_pool{len(counts)}d")
    arguments = [case[k] for k in ("kernel", "stride", "padding", "dilation", "ceil_mode")]
    found, where = function(x, *arguments, return_indices=True)
    np.testing.assert_array_equal(found.numpy(), values)
    np.testing.assert_array_equal(where.numpy(), places)
    tensor = accel.Tensor(x, requires_grad=True)
    y = function(tensor, *arguments)
    g = rng.integers(1, 5, values.shape).astype(np.float32)
    y.backward(accel.Tensor(g))
    wanted = np.zeros((2, 2, x[0, 0].size), np.float32)
    for n, c, *at in np.ndindex(*values.shape):
        wanted[n, c, places[(n, c, *at)]] += g[(n, c, *at)]
    np.testing.assert_array_equal(tensor.grad.numpy().reshape(wanted.shape), wanted)


@given(cases(), st.booleans())
@settings(max_examples=40)
def test_means_and_their_gradients(case: dict[str, Any], include: bool) -> None:
    del case["special"]
    case["dilation"] = (1,) * len(case["kernel"])
    case["padding"] = tuple([min(p, k // 2) for p, k in zip(case["padding"], case["kernel"],
                                                            strict=True)])  # fmt: skip
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 2, *case["extents"]))
    counts, elements = windows_of(**case)
    g = rng.standard_normal((1, 2, *counts))
    wanted, slope = np.empty(g.shape), np.zeros(x.shape)
    for n, c, *at in np.ndindex(*g.shape):
        found = elements(at)
        size = len(found)
        if include:  # windows end with the padding
            size = 1
            for i, e, k, s, p in zip(at, case["extents"], case["kernel"], case["stride"],
                                     case["padding"], strict=True):  # fmt: skip
                size *= min(i * s - p + k, e + p) - (i * s - p)
        wanted[(n, c, *at)] = sum(x[(n, c, *element)] for element in found) / size
        for element in found:
            slope[(n, c, *element)] += g[(n, c, *at)] / size
    function = getattr(F, f"avg_pool{len(counts)}d")
    tensor = accel.Tensor(x, requires_grad=True)
    arguments = [case[k] for k in ("kernel", "stride", "padding", "ceil_mode")]
    y = function(tensor, *arguments, count_include_pad=include)
    np.testing.assert_allclose(y.numpy(), wanted, atol=1e-12)
    y.backward(accel.Tensor(g))
    np.testing.assert_allclose(tensor.grad.numpy(), slope, atol=1e-12)


@pytest.mark.parametrize("kernel, stride", [((9, 8), None), ((12, 1), (1, 1)), ((34, 3), (2, 2))])
def test_long_windows(kernel: Any, stride: Any) -> None:
    x = RNG.standard_normal((2, 3, 40, 16)).astype(np.float32)
    x[0, 0, 3, 4] = np.nan
    for function in (F.max_pool2d, F.avg_pool2d):
        assert_targets_agree(lambda x, f=function: f(x, kernel, stride), x)
        assert_targets_agree(accel.grad(lambda x, f=function: f(x, kernel, stride).sum()), x)


def test_second_derivatives() -> None:
    x = RNG.standard_normal((1, 1, 6, 5))

    def curvature(x: Any, pool: Any) -> Any:
        slope = accel.grad(lambda x: (pool(x, 3, 2, 1) ** 3).sum())(x)
        return (slope * slope).sum()

    step = 1e-6
    for pool in (F.max_pool2d, F.avg_pool2d):
        found = accel.grad(lambda x, pool=pool: curvature(x, pool))(accel.Tensor(x)).numpy()
        for place in ((0, 0, 2, 3), (0, 0, 5, 4)):
            up, down = x.copy(), x.copy()
            up[place] += step
            down[place] -= step
            ends = [curvature(accel.Tensor(v), pool).item() for v in (up, down)]
            np.testing.assert_allclose(found[place], (ends[0] - ends[1]) / (2 * step), rtol=1e-4,
                                       atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, (3, None), (5, 12)])
def test_adaptive_windows(size: Any) -> None:
    x = RNG.standard_normal((2, 3, 7, 9)).astype(np.float32)
    given = size if isinstance(size, tuple) else (size, size)
    m = [e if s is None else s for e, s in zip(x.shape[2:], given, strict=True)]
    mean, most, place = np.empty((3, 2, 3, *m))
    for i, j in np.ndindex(*m):
        rows = slice(i * 7 // m[0], -(-(i + 1) * 7 // m[0]))
        columns = slice(j * 9 // m[1], -(-(j + 1) * 9 // m[1]))
        window = x[:, :, rows, columns]
        mean[..., i, j], most[..., i, j] = window.mean((2, 3)), window.max((2, 3))
        flat = window.reshape(2, 3, -1).argmax(-1)
        row, column = np.divmod(flat, window.shape[3])
        place[..., i, j] = (row + rows.start) * 9 + column + columns.start
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, size).numpy(), mean, atol=1e-6)
    values, where = F.adaptive_max_pool2d(x, size, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), most.astype(np.float32))
    np.testing.assert_array_equal(where.numpy(), place)
    np.testing.assert_array_equal(F.adaptive_max_pool2d(x, size).numpy(), values.numpy())


def test_integers_and_half_precision() -> None:
    whole = RNG.integers(-9, 9, (1, 2, 6)).astype(np.int32)
    assert F.max_pool1d(whole, 2).numpy().tolist() == whole.reshape(1, 2, 3, 2).max(3).tolist()
    small = RNG.integers(0, 9, (1, 1, 3)).astype(np.uint8)
    assert F.max_pool1d(small, 3, 1, 1).dtype == accel.uint8
    half = np.full((1, 1, 4, 4), 60000, np.float16)
    assert F.avg_pool2d(half, 4).item() == 60000


def test_without_a_batch() -> None:
    x = RNG.standard_normal((2, 5, 6)).astype(np.float32)
    for function in (F.max_pool2d, F.avg_pool2d):
        np.testing.assert_array_equal(function(x, 2).numpy(), function(x[None], 2).numpy()[0])
    assert F.max_pool1d(x[0], 2, return_indices=True)[1].shape == (5, 3)
    assert F.adaptive_avg_pool2d(x, 1).shape == (2, 1, 1)


def kernels(fn: Any, *args: Any) -> list[str]:
    rows = accel.compile(fn).explain(*args).rows
    return [line for row in rows for line in row.kernels.split("\n") if line]


def test_pooling_is_native_and_fuses() -> None:
    x = RNG.standard_normal((2, 8, 16, 16)).astype(np.float32)
    assert len(kernels(lambda x: F.max_pool2d(x, 2), x)) == 1
    assert len(kernels(lambda x: F.avg_pool2d(x, 2) * 2.0 + 1.0, x)) == 1
    for pool in (F.max_pool2d, F.avg_pool2d):
        step = accel.grad(lambda x, pool=pool: (pool(x, 3, 2, 1) ** 2).sum())
        assert not [k for k in kernels(step, x) if "reference" in k.lower()]


@pytest.mark.parametrize("call, error, match", [
    (lambda x: F.max_pool2d(x, 6), errors.ShapeError, "spans 6"),
    (lambda x: F.avg_pool2d(x, 2, padding=2), errors.ArgumentError, "half"),
    (lambda x: F.max_pool2d(x, (2, 2, 2)), errors.ArgumentError, "kernel_size"),
    (lambda x: F.max_pool2d(x, 2, stride=0), errors.ArgumentError, "stride"),
    (lambda x: F.max_pool1d(x, 2), errors.ShapeError, "without a batch"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=0), errors.ArgumentError, "divisor"),
    (lambda x: F.adaptive_avg_pool2d(x, 0), errors.ArgumentError, "output_size"),
    (lambda x: F.avg_pool2d(x.astype(int), 2), errors.DTypeError, "avg_pool"),
])  # fmt: skip
@pytest.mark.parametrize("compiled", [False, True])
def test_bad_input_names_the_line(call: Any, error: Any, match: str, compiled: bool) -> None:
    x = np.ones((1, 3, 5, 5), np.float32)
    with pytest.raises(error, match=match) as caught:
        (accel.compile(call) if compiled else call)(x)
    assert caught.value.loc is not None and caught.value.loc.file == __file__


def test_modules_call_the_functions() -> None:
    x = RNG.standard_normal((2, 3, 9, 9)).astype(np.float32)
    assert repr(nn.AvgPool2d(3, padding=1)) == "AvgPool2d(kernel_size=3, stride=3, padding=1)"
    pairs = [
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), F.max_pool2d(x, 3, 2, 1, 1, True)),
        (nn.AvgPool2d(2, divisor_override=3), F.avg_pool2d(x, 2, divisor_override=3)),
        (nn.AdaptiveAvgPool2d((2, None)), F.adaptive_avg_pool2d(x, (2, None))),
        (nn.AdaptiveMaxPool2d(4), F.adaptive_max_pool2d(x, 4)),
    ]
    for module, wanted in pairs:
        np.testing.assert_array_equal(module(x).numpy(), wanted.numpy())


@pytest.mark.torch
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_grid_of_options_agrees_with_torch(count: int) -> None:
    import torch

    x = RNG.integers(-4, 4, (2, 3, *(9, 8, 7)[:count])).astype(np.float64)
    for k, stride, padding, dilation, ceil in itertools.product(
        (1, 2, 3), (None, 1, 2), (0, 1), (1, 2), (False, True)
    ):
        if padding > k // 2:
            continue
        theirs = getattr(torch.nn.functional, f"max_pool{count}d")
        ours = getattr(F, f"max_pool{count}d")
        options = (k, stride, padding, dilation, ceil)
        wanted = theirs(torch.tensor(x), *options, return_indices=True)
        for a, b in zip(ours(x, *options, return_indices=True), wanted, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        if dilation == 1:
            for include in (False, True):
                options = (k, stride, padding, ceil, include)
                wanted = getattr(torch.nn.functional, f"avg_pool{count}d")(
                    torch.tensor(x), *options
                )
                found = getattr(F, f"avg_pool{count}d")(x, *options)
                np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-12)
