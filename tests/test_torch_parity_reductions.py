"""Reductions, scans, orders and linear algebra beside torch's: axes, dtypes, NaN, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity import Case, by_name, check_all, draw

import accel

X = draw((3, 4, 5))
WHOLE = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(np.int32) - 30
BYTES, FLAGS, HALVES = draw((3, 4), "uint8", 0, 200), draw((3, 4, 5), "bool"), X.astype("float16")
COMPLEX = draw((3, 4, 5), "complex64")
WILD = X.copy()
WILD[0, 1, 2], WILD[1, 2, 3] = np.nan, np.inf
AXES: list[dict[str, Any]] = [{}, {"dim": 0}, {"dim": (-1, 0)}, {"dim": -1, "keepdim": True},
                              {"dim": (1, 2), "keepdim": True}]  # fmt: skip


def function_and_method(name: str, *args: Any, **kwargs: Any) -> list[Case]:
    return [Case(name, *args, **kwargs), Case("." + name, *args, **kwargs)]


def _folds() -> list[Case]:
    cases = []
    for name in ("sum", "mean", "prod", "amax", "amin", "all", "any", "count_nonzero", "nansum",
                 "nanmean", "logsumexp", "std", "var"):  # fmt: skip
        axes = [o for o in AXES if name != "prod" or not isinstance(o.get("dim"), tuple)]
        axes = [o for o in axes if name != "count_nonzero" or "keepdim" not in o]
        axes = [o for o in axes if name != "logsumexp" or o]
        floats = name in ("mean", "std", "var", "nanmean")
        ordered = name not in ("amax", "amin", "logsumexp", "nansum", "nanmean")
        inputs = [X, X.astype("float64"), HALVES, *[COMPLEX] * ordered]
        inputs += [] if floats else [WHOLE, WHOLE.astype("int64"), FLAGS]
        for x in inputs:
            small = x is HALVES and name == "prod"  # of sixty halves nothing is left
            cases += [Case(name, x, **o) for o in axes if o or not small]
        cases.append(Case(name, WILD, **axes[-1], gradient=False))
        if name != "count_nonzero":
            cases += [Case("." + name, X, 1), Case("." + name, X, 1, True)]
        if name not in ("amax", "amin"):
            cases += [Case(name, draw((0, 3)), dim=0), Case(name, draw((0, 3)), dim=1)]
    for name in ("sum", "mean", "prod", "nansum", "nanmean"):
        cases.append(Case(name, X, dtype=accel.float64))
        cases.append(Case("." + name, HALVES, 1, dtype=accel.float32))
        if name != "nanmean":
            cases.append(Case(name, WHOLE, dim=0, dtype=accel.float64))
    for name in ("std", "var", "std_mean", "var_mean"):
        options: list[dict[str, Any]] = [
            {"correction": 0}, {"correction": 2}, {"dim": 0, "correction": 0}, {"unbiased": True},
            {"dim": (0, 1), "unbiased": False, "keepdim": True}, {"unbiased": False},
        ]  # fmt: skip
        if "mean" in name:
            options = [o for o in options if "dim" in o or "correction" in o]
        cases += [Case(name, X, **o) for o in options] + [Case(name, X, 1, False)]
    return cases


def _scans_and_orders() -> list[Case]:
    cases = [Case("cumsum", WHOLE, 0, dtype=accel.float32), Case("cumprod", FLAGS, 0),
             Case("max", X, draw((4, 1))), Case("min", X, draw((5,)))]  # fmt: skip
    for x in (X, WHOLE, WILD, HALVES):
        smooth = x is not WILD  # the gradient beside NaN is nobody's
        for dim in (0, -1):
            for name in ("cummax", "cummin", "cumsum", "cumprod", "logcumsumexp", "softmax",
                         "log_softmax"):  # fmt: skip
                if x is not WHOLE or name in ("cummax", "cummin", "cumsum", "cumprod"):
                    cases += function_and_method(name, x, dim, gradient=smooth)
        for name in ("max", "min", "median", "nanmedian", "argmax", "argmin"):
            cases += [Case(name, x, gradient=smooth), Case(name, x, 0, gradient=smooth),
                      Case(name, x, dim=-1, gradient=smooth),
                      Case(name, x, 1, True, gradient=False),
                      Case("." + name, x, dim=1, keepdim=True, gradient=False)]  # fmt: skip
        for line, options in [
            (("sort",), {"dim": -1}), (("sort",), {"dim": 0, "descending": True}),
            (("argsort",), {"dim": -1}), (("argsort",), {"dim": 1, "stable": True}),
            (("topk", 2), {}), (("topk", 2), {"dim": 0, "largest": False}),
            (("kthvalue", 2), {}), (("kthvalue", 2), {"dim": 0, "keepdim": True}),
        ]:  # fmt: skip
            if line[0] != "topk" or x is not WILD:
                cases.append(Case("." + line[0], x, *line[1:], gradient=smooth, **options))
        cases += [Case("msort", x, gradient=smooth), Case("aminmax", x, dim=0, gradient=smooth),
                  Case("aminmax", x, gradient=smooth)]  # fmt: skip
    cases += [Case(".mode", X, 1, gradient=False), Case(".mode", WHOLE, -1, keepdim=True)]
    for options in ({}, {"return_inverse": True}, {"return_counts": True}, {"dim": 0},
                    {"return_inverse": True, "return_counts": True}):  # fmt: skip
        cases.append(Case("unique", WHOLE % 7, **options))
    for interpolation in ("linear", "lower", "higher", "nearest", "midpoint"):
        for q in (0.3, np.float32([0.1, 0.5, 0.9])):
            for name in ("quantile", "nanquantile"):
                cases.append(Case(name, X, q, dim=1, interpolation=interpolation, gradient=False))
                cases.append(Case(name, WILD, q, keepdim=True, interpolation=interpolation,
                                  gradient=False))  # fmt: skip
    weights = draw((3, 1, 5))
    return cases + [
        Case("diff", X), Case("diff", X, n=2, dim=0), Case("diff", X, 1, 1, weights, weights),
        Case("histc", X, 5, -1, 1, gradient=False), Case("trapezoid", X[0]),
        Case("trapezoid", X, dx=0.5, dim=0), Case("trapezoid", X[0], draw((5,)), dim=-1),
        Case("cumulative_trapezoid", X), Case("cumulative_trapezoid", X[0], draw((5,))),
        Case("cov", X[0]), Case("cov", X[0], correction=0), Case("cov", COMPLEX[0]),
        Case("cov", X[0], fweights=np.array([1, 2, 1, 3, 1]), gradient=(0,)),
        Case("cov", X[0], aweights=draw((5,), low=0.2), gradient=(0,)),
        Case("cov", X[0, 0]), Case("corrcoef", X[0]),
    ]  # fmt: skip


def _linear_algebra() -> list[Case]:
    a, b, v = draw((4, 5)), draw((5, 3)), draw((5,))
    batch, square = draw((2, 4, 5)), draw((2, 4, 4)) + 4 * np.eye(4, dtype=np.float32)
    positive = square @ square.swapaxes(1, 2)
    cases = [
        Case("matmul", a, b), Case("matmul", v, v), Case("matmul", a, v), Case("matmul", batch, b),
        Case("matmul", v, draw((2, 5, 3))), Case("matmul", batch[:, None], draw((3, 5, 2))),
        Case("dot", v, v), Case("mm", a, b), Case("mv", a, v), Case("outer", v, a[0]),
        Case("bmm", batch, draw((2, 5, 3))), Case("kron", a, b), Case("inner", a, v),
        Case("cross", draw((4, 3)), draw((4, 3), seed=1), dim=-1), Case("trace", square[0]),
        Case("tensordot", batch, draw((5, 4, 2)), dims=([1, 2], [1, 0])),
        Case("addmm", draw((4, 3)), a, b, beta=0.5, alpha=2), Case("vdot", v, v + 1),
        Case("addmv", draw((4,)), a, v), Case("addr", draw((5, 4)), v, a[:, 0]),
        Case("baddbmm", draw((2, 4, 3)), batch, draw((2, 5, 3)), beta=2, alpha=0.5),
        Case("addbmm", draw((4, 3)), batch, draw((2, 5, 3))),
        Case("einsum", "bij,jk->bik", batch, b), Case("einsum", "ii->i", square[0]),
        Case("einsum", "bij,bij->b", batch, batch + 1), Case("einsum", "...j,j", batch, v),
        Case("matrix_power", square[0], 3), Case("linalg.matrix_norm", a),
        Case("matrix_exp", square[0] / 4, ulp=128),
    ]  # fmt: skip
    for order in (None, 1, 2, 3.5, float("inf"), -float("inf"), 0):
        slope = order != 0
        options = {} if order is None else {"ord": order}
        cases.append(Case("linalg.vector_norm", X, **options, dim=1, keepdim=True, gradient=slope))
    for order in ("fro", "nuc", 1, -1, float("inf"), 2):
        cases.append(Case("linalg.matrix_norm", a, order, ulp=128))
    for name in ("det", "slogdet", "inv", "pinv", "svdvals", "eigvalsh", "cholesky"):
        x = positive if name in ("eigvalsh", "cholesky") else square
        cases.append(Case(f"linalg.{name}", x, ulp=512))
    cases += [
        Case("linalg.solve", square, draw((2, 4, 3)), ulp=512), Case("linalg.matrix_rank", square),
        Case("norm", X), Case("norm", X, p=1), Case("norm", X, p=2, dim=(0, 1), keepdim=True),
        Case("norm", X, p=0, dim=0), Case(".norm", X, 3.5, -1),
        Case("norm", X, p=float("inf"), dim=1),
    ]  # fmt: skip
    return cases


def _fourier() -> list[Case]:
    z, x = draw((3, 8), "complex64"), draw((3, 8))
    cases = []
    for norm in (None, "ortho", "forward"):
        for name in ("fft", "ifft", "fftn", "ifftn"):
            cases.append(Case(f"fft.{name}", z, norm=norm, ulp=64))
        for name, values in (("rfft", x), ("irfft", z), ("hfft", z), ("ihfft", x)):
            cases.append(Case(f"fft.{name}", values, norm=norm, ulp=64))
    return cases + [
        Case("fft.fft", x, 5, ulp=64), Case("fft.fft", z, 11, 0, ulp=64),
        Case("fft.rfftn", draw((3, 4, 6)), ulp=64), Case("fft.fftshift", x),
        Case("fft.ifftshift", x, 1),
    ]  # fmt: skip


TABLE = by_name([*_folds(), *_scans_and_orders(), *_linear_algebra(), *_fourier()])


@pytest.mark.parametrize("name", TABLE)
def test_like_torch(name: str) -> None:
    check_all(TABLE[name])


def test_where_the_standard_differs() -> None:
    """Sums of unsigned integers stay unsigned, `all` of bytes is bool, and what has no axes has
    no axis 0; torch says int64, uint8 and nothing."""
    assert accel.sum(accel.asarray(BYTES)).dtype is accel.uint64
    assert accel.all(accel.asarray(BYTES)).dtype is accel.bool
    with pytest.raises(accel.errors.AxisError):
        accel.sum(accel.asarray(1.0), dim=0)
