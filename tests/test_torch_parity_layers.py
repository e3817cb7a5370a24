"""Layers' functions beside torch's over their options: convolutions, pools, norms, images,
embeddings, attention. Where options multiply, a seeded choice of their products."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from parity import Case, agree, by_name, check_all, draw

import accel
from accel import nn

F = accel.nn.functional
SPATIAL = {1: (9,), 2: (7, 8), 3: (5, 6, 4)}


def call(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(f"nn.functional.{name}", *args, **kwargs)


def some(seed: str, count: int, *options: Any) -> list[Any]:
    """Distinct choices of one value from each list, together every value of each."""
    draws, products = random.Random(seed), list(itertools.product(*options))
    draws.shuffle(products)
    found, missing = [], {(i, repr(v)) for i, values in enumerate(options) for v in values}
    for product in products:
        new = {(i, repr(v)) for i, v in enumerate(product)} & missing
        if new or len(found) < count:
            found.append(product)
            missing -= new
    return found


def image(d: int, larger: int = 1) -> np.ndarray:
    return draw((2, 3, *[larger * n for n in SPATIAL[d]]))


def _convolutions() -> list[Case]:
    cases = []
    for d in (1, 2, 3):
        mixed = (1, 2, 1)[:d]
        options = ([1, 2, mixed], [0, 1, mixed, "same", "valid"], [1, 2], [1, 2], [True, False])
        for stride, padding, dilation, groups, bias in some(f"conv{d}", 10, *options):
            stride = 1 if padding == "same" else stride
            small = dilation == 2 and d == 3
            x = draw((2, 4, *[n + 4 * small for n in SPATIAL[d]]))
            weight, b = draw((6, 4 // groups, *(3, 2, 3)[:d])), draw((6,)) if bias else None
            cases.append(call(f"conv{d}d", x, weight, b, stride, padding, dilation, groups, ulp=64))
            cases.append(call(f"conv{d}d", x[0], weight, bias=None, stride=stride, padding=padding,
                              dilation=dilation, groups=groups, ulp=64))  # fmt: skip
        options = ([1, 2, 3], [0, 1], [0, 1], [1, 2], [1, 2], [True, False])
        for stride, padding, output, groups, dilation, bias in some(f"t{d}", 10, *options):
            if output < max(stride, dilation):
                x = draw((2, 4, *[n - 2 for n in SPATIAL[d]]))
                weight, b = draw((4, 6 // groups, *(3,) * d)), draw((6,)) if bias else None
                cases.append(call(f"conv_transpose{d}d", x, weight, b, stride, padding, output,
                                  groups, dilation, ulp=64))  # fmt: skip
    return cases


def _pools() -> list[Case]:
    cases = []
    for d in (1, 2, 3):
        x, window, flags = image(d, 2), (3, 2, 2)[:d], [True, False]
        kernels: list[Any] = [2, 3] if d == 1 else [2, 3, window]
        strides = [None, 1, 2, 3]
        for args in some(f"max{d}", 10, kernels, strides, [0, 1], [1, 2], flags, flags):
            cases.append(call(f"max_pool{d}d", x, *args))
        for *args, divisor in some(f"avg{d}", 10, kernels, strides, [0, 1], flags, flags,
                                   [None, 5]):  # fmt: skip
            cases.append(call(f"avg_pool{d}d", x, *args, *[divisor] * (d > 1)))
        for args in some(f"lp{d}", 6, [1.0, 2.0, 3.0], kernels, strides, flags):
            cases.append(call(f"lp_pool{d}d", np.abs(x), *args))
        for size in (1, 3, (2, 3, 2)[:d], *([(None, 2, 3)[:d]] if d > 1 else [])):
            cases += [call(f"adaptive_avg_pool{d}d", image(d), size),
                      call(f"adaptive_max_pool{d}d", image(d), size),
                      call(f"adaptive_max_pool{d}d", image(d), size, True)]  # fmt: skip
        pooled = getattr(torch.nn.functional, f"max_pool{d}d")
        values, places = (
            t.numpy() for t in pooled(torch.tensor(draw((2, 3, *(8,) * d))), 2, return_indices=True)
        )
        full, unpool = (2, 3, *(9,) * d), f"max_unpool{d}d"
        cases += [call(unpool, values, places, 2), call(unpool, values, places, 2, 2, 0, full),
                  call(unpool, values[0], places[0], 2, output_size=full[2:])]  # fmt: skip
    return cases


def _interpolations() -> list[Case]:
    cases = []
    for d in (1, 2, 3):
        x, smooth = image(d), ("linear", "bilinear", "trilinear")[d - 1]
        sizes: list[dict[str, Any]] = [
            {"size": 4}, {"size": (7, 3, 5)[:d]}, {"scale_factor": 2},
            {"scale_factor": (1.5, 0.7, 2.3)[:d]},
            {"scale_factor": 1.7, "recompute_scale_factor": True},
        ]  # fmt: skip
        for mode in ("nearest", "nearest-exact", "area"):
            cases += [call("interpolate", x, mode=mode, **size) for size in sizes]
        for mode in (smooth, "bicubic") if d == 2 else (smooth,):
            for corners, size in itertools.product((None, True, False), sizes):
                options = {"mode": mode, "align_corners": corners, **size}
                cases.append(call("interpolate", x, **options))
                if d == 2:
                    cases.append(call("interpolate", x, antialias=True, ulp=64, **options))
    return cases


def _norms() -> list[Case]:
    x, weight, bias = draw((4, 6, 5)), draw((6,)), draw((6,), seed=1)
    mean, variance = draw((6,), seed=2), draw((6,), low=0.5, seed=3)
    cases = []
    for w, b in ((None, None), (weight, bias)):
        first = (0, 3, 4) if w is not None else (0,)
        for training in (True, False):
            for values in (x, draw((4, 6)), draw((4, 6, 3, 3)), draw((4, 6, 3, 3), "float64")):
                fit = [v if v is None else v.astype(values.dtype) for v in (mean, variance, w, b)]
                cases.append(call("batch_norm", values, *fit, training, 0.3, 1e-3, ulp=128,
                                  gradient=first))  # fmt: skip
            cases.append(call("instance_norm", x, mean, variance, w, b, training, 0.1, 1e-4,
                              ulp=128, gradient=first))  # fmt: skip
        cases += [call("batch_norm", x, None, None, w, b, True, ulp=128),
                  call("instance_norm", x, None, None, w, b, ulp=128)]  # fmt: skip
    for groups in (1, 2, 3, 6):
        cases.append(call("group_norm", x, groups, weight, bias, 1e-4, ulp=128))
    cases.append(call("group_norm", draw((4, 6)), 2, ulp=128))
    for shape in ((5,), (6, 5)):
        w, b = draw(shape), draw(shape, seed=2)
        cases += [call("layer_norm", x, shape, ulp=128), call("layer_norm", x, shape, w, ulp=128),
                  call("layer_norm", x, shape, w, b, 1e-3, ulp=128),
                  call("layer_norm", x, shape, None, b, ulp=128),
                  call("rms_norm", x, shape, w, ulp=128),
                  call("rms_norm", x, shape, eps=1e-3, ulp=128)]  # fmt: skip
    for size in (2, 3, 5):
        cases.append(call("local_response_norm", x, size))
        cases.append(call("local_response_norm", draw((4, 6, 3, 3)), size, 2e-2, 0.5, 2.0))
    cases.append(call("local_response_norm", draw((2, 6, 3, 3, 3)), 3))
    for p in (1.0, 2.0, 3.0, float("inf")):
        cases += [call("normalize", x, p), call("normalize", x, p=p, dim=-1, eps=1e-3)]
    return cases


SPECIAL = np.float32([[np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 0.5, -0.5, 2.5, 88, -104]] * 2)
ACTIVATIONS: dict[str, list[tuple[Any, ...]]] = {
    "relu": [()], "relu6": [()], "leaky_relu": [(), (0.2,)], "elu": [(), (0.5,)],
    "celu": [(), (2.0,)], "selu": [()], "gelu": [()], "silu": [()], "mish": [()],
    "softplus": [(), (2,), (2.0, 0.5)], "hardtanh": [(), (-0.5, 1.5)], "hardswish": [()],
    "hardsigmoid": [()], "logsigmoid": [()], "softsign": [()], "tanhshrink": [()],
    "softshrink": [(), (0.7,)], "hardshrink": [(), (0.7,)], "threshold": [(0.5, -3.0)],
    "glu": [(), (1,)], "softmax": [(0,), (-1,)], "log_softmax": [(0,), (-1,)],
    "softmin": [(0,), (-1,)], "tanh": [()], "sigmoid": [()],
}  # fmt: skip


def _activations() -> list[Case]:
    x = draw((4, 6, 5))
    cases = []
    for name, options in ACTIVATIONS.items():
        for args in options:
            # torch rounds the slope of hardsigmoid to single precision
            ulp = 1e10 if name == "hardsigmoid" else 16
            cases += [call(name, draw((6, 4), dtype), *args, ulp=16 if dtype != "float64" else ulp)
                      for dtype in ("float32", "float64", "float16")]  # fmt: skip
            if name != "gelu":  # torch's is NaN at -inf
                cases.append(call(name, SPECIAL, *args, gradient=False))
    return [
        *cases, call("gelu", x, approximate="tanh"), call("prelu", x, draw((1,))),
        call("prelu", x, draw((6,))), call("softmax", x, dim=1, dtype=accel.float64),
        call("log_softmax", draw((3, 4), "int32"), dim=1, dtype=accel.float32),
        call("rrelu", x, 0.1, 0.3),
    ]  # fmt: skip


def _embeddings() -> list[Case]:
    table, index = draw((7, 3)), draw((2, 4), "int64", 0, 7)
    cases = [
        call("embedding", index, table), call("embedding", index, table, 2),
        call("embedding", index, table, padding_idx=-1),
        call("embedding", index, table, scale_grad_by_freq=True),
        call("embedding", index, table, max_norm=1.0, gradient=False),
        call("embedding", index, table, None, 1.0, 1.0, gradient=False),
        call("one_hot", index), call("one_hot", index, 9),
        call("embedding_bag", index, table, mode="sum", per_sample_weights=draw((2, 4))),
        call("embedding_bag", index, table, None, 0.5, gradient=False),
        call("linear", draw((4, 6, 5)), draw((3, 5))),
        call("linear", draw((4, 6, 5)), draw((3, 5)), draw((3,))),
        call("bilinear", draw((4, 3)), draw((4, 5)), draw((2, 3, 5)), draw((2,))),
    ]  # fmt: skip
    starts, closed = np.array([0, 3, 3]), np.array([0, 3, 3, 8])
    for mode in ("sum", "mean", "max"):
        cases += [
            call("embedding_bag", index, table, mode=mode),
            call("embedding_bag", index.ravel(), table, starts, mode=mode),
            call("embedding_bag", index.ravel(), table, closed, mode=mode,
                 include_last_offset=True),
            call("embedding_bag", index, table, mode=mode, padding_idx=2),
        ]  # fmt: skip
    return cases


def _rearrangements() -> list[Case]:
    return [
        call("pixel_shuffle", draw((2, 8, 3, 3)), 2),
        call("channel_shuffle", draw((2, 6, 3, 3)), 2),
        call("pixel_unshuffle", draw((2, 2, 4, 6)), 2),
        call("unfold", draw((2, 3, 6, 7)), (2, 3), 2, 1, 2), call("unfold", draw((3, 6, 7)), 2),
        call("fold", draw((2, 12, 12)), (4, 5), 2), call("fold", draw((12, 12)), (4, 5), 2),
        call("fold", draw((2, 12, 6)), (4, 5), 2, 2, 1, (2, 2)),
    ]  # fmt: skip


def _attention() -> list[Case]:
    name, q, k = "scaled_dot_product_attention", draw((2, 4, 5, 8)), draw((2, 4, 6, 8))
    v, seen = draw((2, 4, 6, 3)), draw((5, 6), "bool") | np.eye(5, 6, dtype=bool)
    options: list[dict[str, Any]] = [
        {}, {"scale": 0.3}, {"attn_mask": seen}, {"attn_mask": draw((2, 1, 5, 6))},
        {"is_causal": True}, {"dropout_p": 0.0},
    ]  # fmt: skip
    grouped = call(name, q, k[:, :2], v[:, :2], enable_gqa=True)
    return [grouped, *[call(name, q, k, v, **o) for o in options]]


def _dropouts() -> list[Case]:
    names = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
             "feature_alpha_dropout")  # fmt: skip
    shapes = {"dropout2d": (4, 6, 5, 2), "dropout3d": (4, 6, 5, 2, 2)}
    return [call(n, draw(shapes.get(n, (4, 6, 5))), 0.3, False) for n in names]


TABLE = by_name([
    *_convolutions(), *_pools(), *_interpolations(), *_norms(), *_activations(), *_embeddings(),
    *_rearrangements(), *_attention(), *_dropouts(),
])  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_like_torch(name: str) -> None:
    check_all(TABLE[name])


# -- what functions change beside their results ------------------------------------------------
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics(name: str) -> None:
    x, mean, variance = draw((4, 6, 5)), draw((6,)), draw((6,), low=0.5)
    ours = [accel.asarray(v) for v in (mean, variance)]
    theirs = [torch.tensor(v) for v in (mean, variance)]
    getattr(F, name)(accel.asarray(x), *ours, None, None, True, 0.3)
    getattr(torch.nn.functional, name)(torch.tensor(x), *theirs, None, None, True, 0.3)
    agree(ours, theirs)


def test_rows_are_held_to_a_norm_in_the_table() -> None:
    index, table = draw((2, 3), "int64", 0, 5), draw((7, 3))
    ours, theirs = accel.asarray(table), torch.tensor(table)
    F.embedding(accel.asarray(index), ours, max_norm=1.0)
    torch.nn.functional.embedding(torch.tensor(index), theirs, max_norm=1.0)
    agree(ours, theirs)
    module = nn.Embedding(7, 3, max_norm=1.0)
    module.weight.data = accel.asarray(table)
    slope = accel.asarray(np.ones((2, 3, 3), np.float32))
    (module(accel.asarray(index)) * slope).sum().backward()
    agree(module.weight.detach(), theirs)
    assert module.weight.grad is not None and module.weight.grad.sum().item() == 18


@pytest.mark.parametrize("name", ["dropout", "dropout1d", "dropout2d", "alpha_dropout",
                                  "feature_alpha_dropout"])  # fmt: skip
def test_dropouts_by_their_statistics(name: str) -> None:
    accel.manual_seed(0)
    x = accel.randn(64, 64, 16) + 0.0
    found = getattr(F, name)(x.reshape(64, 64, 4, 4) if name == "dropout2d" else x, 0.25, True)
    values = found.numpy().reshape(64, 64, 16)
    keeps = not name.startswith("dropout")
    assert abs(values.mean()) < 0.05 and abs(values.var() - (1 if keeps else 1 / 0.75)) < 0.06
    dropped = np.isclose(values, _dropped_value(name), atol=1e-5)
    assert abs(dropped.mean() - 0.25) < 0.03
    whole = dropped.all(2) | ~dropped.any(2)
    assert bool(whole.all()) == (name not in ("dropout", "alpha_dropout"))


def _dropped_value(name: str) -> float:
    if not name.endswith("alpha_dropout"):
        return 0.0
    floor = -1.7580993408473766
    scale = (0.75 * (1 + 0.25 * floor**2)) ** -0.5
    return scale * floor * 0.75


MODULES: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("LPPool1d", (2, 3), (draw((2, 3, 9), low=0.1),)), ("LPPool2d", (3, 2, 1), (image(2) ** 2,)),
    ("LPPool3d", (2, 2), (image(3) ** 2,)), ("LocalResponseNorm", (3, 1e-2), (image(2),)),
    ("Softmin", (1,), (image(2),)), ("Softmax2d", (), (image(2),)), ("Softsign", (), (image(2),)),
    ("Tanhshrink", (), (image(2),)), ("Hardsigmoid", (), (image(2),)),
    ("Hardshrink", (0.3,), (image(2),)), ("Softshrink", (0.3,), (image(2),)),
    ("Threshold", (0.3, 7.0), (image(2),)),
]  # fmt: skip


@pytest.mark.parametrize("name, settings, args", MODULES, ids=[m[0] for m in MODULES])
def test_modules(name: str, settings: Any, args: Any) -> None:
    ours, theirs = getattr(nn, name)(*settings), getattr(torch.nn, name)(*settings)
    agree(ours(*map(accel.asarray, args)), theirs(*map(torch.tensor, args)))


@pytest.mark.parametrize("name, settings, shapes", [
    ("Bilinear", (3, 5, 2), [(4, 3), (4, 5)]), ("EmbeddingBag", (7, 3), None),
])  # fmt: skip
def test_modules_with_parameters(name: str, settings: Any, shapes: Any) -> None:
    ours, theirs = getattr(nn, name)(*settings), getattr(torch.nn, name)(*settings)
    state = {k: draw(tuple(v.shape)) for k, v in theirs.state_dict().items()}
    ours.load_state_dict({k: accel.asarray(v) for k, v in state.items()})
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    args = [draw(s) for s in shapes] if shapes else [draw((2, 4), "int64", 0, 7)]
    agree(ours(*map(accel.asarray, args)), theirs(*map(torch.tensor, args)))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_unpooling_modules(d: int) -> None:
    x = draw((2, 3, *(8,) * d))
    pools = [getattr(lib.nn, f"MaxPool{d}d")(2, return_indices=True) for lib in (accel, torch)]
    backs = [getattr(lib.nn, f"MaxUnpool{d}d")(2) for lib in (accel, torch)]
    agree(backs[0](*pools[0](accel.asarray(x))), backs[1](*pools[1](torch.tensor(x))))


@pytest.mark.parametrize("name, settings", [
    ("ReLU", ()), ("ReLU6", ()), ("SiLU", ()), ("Mish", ()), ("SELU", ()), ("Hardswish", ()),
    ("Hardsigmoid", ()), ("LeakyReLU", (0.2,)), ("ELU", (0.5,)), ("CELU", (0.5,)),
    ("Hardtanh", (-0.5, 0.25)), ("Threshold", (0.1, 3.0)), ("Dropout", (1.0,)),
])  # fmt: skip
def test_modules_that_overwrite_their_operand(name: str, settings: Any) -> None:
    """A residual read after an activation in place is the activated one, in torch as well."""
    found = []
    for lib, make in ((accel, accel.asarray), (torch, torch.tensor)):
        module, w = getattr(lib.nn, name)(*settings, inplace=True), make(image(1)[0])
        assert lib is torch or "inplace=True" in repr(module)
        w.requires_grad_()
        hidden = w * 2
        total = module(hidden) + hidden
        (total * total).sum().backward()
        found.append((total.detach(), w.grad))
    agree(*found)
    activate = accel.compile(getattr(nn, name)(*settings, inplace=True))
    given = accel.asarray(image(1)[0] * 2)
    agree((activate(given) + given,), (found[1][0],))
