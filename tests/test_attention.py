"""Scaled dot-product attention: native kernels against the definition in float64.

The tests named test_core_* also run in one subprocess per instruction-set level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import ArgumentError, ShapeError
from accel.ir.op import get_op
from accel.nn import functional

EXTENTS = (1, 2, 5, 8, 11, 12, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129, 200, 260)
WIDTHS = (0, 1, 3, 8, 15, 16, 17, 32, 40, 64, 256, 257)
MASKS = (None, "causal", "bool", "keys", "added", "column", "transposed", "blind", "one")
LAYOUTS = ("dense", "heads inside", "transposed", "strided", "reversed")


def made(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray:
    """Normal numbers of a shape in a memory layout."""
    *batch, rows, columns = shape
    if layout == "heads inside":  # (..., rows, heads, columns), as models have it
        return made(rng, (rows, *batch, columns), dtype, "dense").transpose(
            *range(1, len(shape) - 1), 0, len(shape) - 1
        )
    if layout == "transposed":
        return made(rng, (*batch, columns, rows), dtype, "dense").swapaxes(-1, -2)
    if layout == "strided":
        return made(rng, (*batch, 2 * rows, columns + 3), dtype, "dense")[..., ::2, 1 : columns + 1]
    if layout == "reversed":
        return made(rng, shape, dtype, "dense")[..., ::-1, ::-1]
    return rng.standard_normal(shape).astype(dtype)


def mask_of(rng: np.random.Generator, kind: str | None, shape: tuple[int, ...],
            dtype: str) -> np.ndarray | None:  # fmt: skip
    """A mask for weights of a shape."""
    *batch, rows, keys = shape
    if kind in (None, "causal"):
        return None
    if kind == "bool":
        return np.asarray(rng.random(shape) < 0.7)
    if kind == "keys":
        return np.asarray(rng.random((*batch[:1], *[1] * len(batch[1:]), 1, keys)) < 0.7)
    if kind == "blind":
        return np.asarray(rng.random((rows, 1)) < 0.5)
    if kind == "one":
        return np.zeros((rows, keys), bool) | (np.arange(keys) == keys - 1)
    if kind == "column":
        return rng.standard_normal((rows, 1)).astype(dtype)
    if kind == "transposed":
        return rng.standard_normal((keys, rows)).astype(dtype).T
    added = rng.standard_normal((rows, keys)).astype(dtype)
    return np.where(rng.random(added.shape) < 0.2, -np.inf, added).astype(dtype)


def weights_and_slack(
    q: np.ndarray, k: np.ndarray, mask: np.ndarray | None, attrs: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The weights in float64, and a bound on the relative error that kernels may make in them.

    A score is off by (E + 4) eps of its products of magnitudes and of the mask's element; a
    weight by that of its own score and of the others', and by eps for each term of their sum.
    """
    eps = float(np.finfo(q.dtype).eps)
    wide = [x.astype(np.float64) for x in (q, k)]
    masks = () if mask is None else (mask if mask.dtype == bool else mask.astype(np.float64),)
    attrs = {"is_causal": False, "scale": 1 / max(1, q.shape[-1]) ** 0.5, **attrs}
    weights = get_op("attention_weights").reference(*wide, *masks, **attrs)
    reach = np.abs(wide[0]) @ np.abs(wide[1]).swapaxes(-1, -2) * abs(attrs["scale"])
    if masks and mask is not None and mask.dtype != bool:
        reach = reach + np.abs(np.where(np.isfinite(masks[0]), masks[0], 0.0))
    worst = reach.max(axis=-1, keepdims=True, initial=0.0)
    return weights, (2 * (q.shape[-1] + 4) * worst + k.shape[-2] + 16) * eps


def check(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None,
          **attrs: Any) -> np.ndarray:  # fmt: skip
    """The compiled result, compared with the definition."""
    given_ = [x for x in (q, k, v, mask) if x is not None]

    @accel.compile
    def attend(*operands: Any) -> Any:
        return functional.scaled_dot_product_attention(*operands, **attrs)

    found = attend(*given_).numpy()
    weights, slack = weights_and_slack(q, k, mask, attrs)
    want = weights @ v.astype(np.float64)
    bound = (weights * slack) @ np.abs(v.astype(np.float64)) + np.finfo(q.dtype).tiny
    assert found.shape == want.shape and found.dtype == q.dtype
    assert (np.abs(found - want) <= bound).all(), np.abs(found - want).max()
    return found


def kernels(function: Any, *arrays: Any) -> list[str]:
    """The kinds of the kernels of a compiled function."""
    text = str(accel.compile(function).explain(*arrays))
    return [w for line in text.split("\n") for w in line.split() if w in KINDS]


KINDS = ("attention", "product", "loop", "copy", "reference")


# -- results ------------------------------------------------------------------------------
@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.sampled_from(EXTENTS), st.sampled_from(EXTENTS), st.sampled_from(WIDTHS),
    st.sampled_from(WIDTHS[1:]), st.sampled_from(MASKS), st.sampled_from(LAYOUTS),
    st.sampled_from([(), (3,), (2, 3), (2, 1, 3)]), st.sampled_from(["f4", "f4", "f8"]),
    st.integers(0, 2**32),
)  # fmt: skip
def test_core_agrees_with_the_definition(
    rows: int, keys: int, width: int, values: int, mask: str | None, layout: str,
    batch: tuple[int, ...], dtype: str, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    q = made(rng, (*batch, rows, width), dtype, layout)
    k = made(rng, (*batch[1:], keys, width), dtype, layout)
    v = made(rng, (*batch, keys, values), dtype, layout)
    attrs = {"is_causal": True} if mask == "causal" else {}
    check(q, k, v, mask_of(rng, mask, (*batch, rows, keys), dtype), **attrs)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.sampled_from(EXTENTS[2:]), st.sampled_from(EXTENTS), st.sampled_from(WIDTHS[1:]),
    st.sampled_from(WIDTHS[1:]), st.sampled_from(MASKS), st.sampled_from(LAYOUTS),
    st.sampled_from([(), (2, 3)]), st.sampled_from(["f4", "f4", "f8"]),
    st.sampled_from(["query", "key", "value", "all"]), st.integers(0, 2**32),
)  # fmt: skip
def test_core_gradients_agree_with_the_definition(
    rows: int, keys: int, width: int, values: int, mask: str | None, layout: str,
    batch: tuple[int, ...], dtype: str, of: str, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    operands = [made(rng, (*batch, *s), dtype, layout)
                for s in ((rows, width), (keys, width), (keys, values))]  # fmt: skip
    g = rng.standard_normal((*batch, rows, values)).astype(dtype)
    attrs = {"is_causal": True} if mask == "causal" else {}
    check_gradient(g, operands, mask_of(rng, mask, (*batch, rows, keys), dtype), attrs, of)


def check_gradient(
    g: np.ndarray, operands: list[np.ndarray], mask: np.ndarray | None, attrs: dict[str, Any],
    of: str,
) -> None:  # fmt: skip
    names = [n for n in ("query", "key", "value") if of in (n, "all")]
    masks = [] if mask is None else [mask]

    @accel.compile
    def slopes(g: Any, q: Any, k: Any, v: Any, *masks: Any) -> Any:
        given_ = {"query": q, "key": k, "value": v}

        def attend(*some: Any) -> Any:
            full = {**given_, **dict(zip(names, some, strict=True))}
            return functional.scaled_dot_product_attention(*full.values(), *masks, **attrs)

        return accel.vjp(attend, *[given_[n] for n in names])[1](g)

    got = slopes(g, *operands, *masks)
    got = dict(zip(names, got if isinstance(got, tuple) else (got,), strict=True))
    q, k, v = (x.astype(np.float64) for x in operands)
    weights, slack = weights_and_slack(*operands[:2], mask, attrs)
    wide = g.astype(np.float64)
    out = weights @ v
    scale = 1 / max(1, q.shape[-1]) ** 0.5
    turned = [x.swapaxes(-1, -2) for x in (v, weights)]
    inner = (wide * out).sum(-1, keepdims=True)
    ds = weights * (wide @ turned[0] - inner) * scale
    # The result that D is made of has the weights' error itself.
    eps = float(np.finfo(g.dtype).eps) * (v.shape[-1] + q.shape[-2] + 8)
    reach = weights * (np.abs(wide) @ np.abs(turned[0]) + np.abs(wide * out).sum(-1, keepdims=True)
                       + (np.abs(wide) * (weights @ np.abs(v))).sum(-1, keepdims=True))  # fmt: skip
    reach = reach * scale * (3 * slack + eps)
    want = {
        "query": (ds @ k, reach @ np.abs(k)),
        "key": (ds.swapaxes(-1, -2) @ q, reach.swapaxes(-1, -2) @ np.abs(q)),
        "value": (turned[1] @ wide, (weights * (slack + eps)).swapaxes(-1, -2) @ np.abs(wide)),
    }
    for name, found in got.items():
        value, bound = want[name]
        error = np.abs(found.numpy() - value)
        assert (error <= bound + np.finfo(g.dtype).tiny).all(), (name, error.max())


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (5, 0, 4, 4), (5, 3, 0, 4), (5, 3, 4, 0)])
def test_core_empty_operands(shape: tuple[int, int, int, int]) -> None:
    rows, keys, width, values = shape
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, *s)).astype("f4")
               for s in ((rows, width), (keys, width), (keys, values)))  # fmt: skip
    for causal in (False, True):
        check(q, k, v, is_causal=causal)


def test_core_large_scores_do_not_overflow() -> None:
    rng = np.random.default_rng(1)
    q, k = (100 * rng.standard_normal((2, 40, 64)).astype("f4") for _ in range(2))
    v = rng.standard_normal((2, 40, 8)).astype("f4")
    out = accel.compile(functional.scaled_dot_product_attention)(q, k, v, scale=1.0).numpy()
    best = (q.astype("f8") @ k.astype("f8").swapaxes(-1, -2)).argmax(-1)
    np.testing.assert_allclose(out, np.take_along_axis(v, best[..., None], 1), atol=1e-3)


def test_core_infinities_and_nan_stay_in_their_rows() -> None:
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal((40, 8)).astype("f4") for _ in range(3))
    added = np.zeros((40, 40), np.float32)
    added[3, 5], added[7, 9], added[11], added[13, :39] = np.nan, np.inf, -np.inf, -np.inf
    out = accel.compile(functional.scaled_dot_product_attention)(q, k, v, added).numpy()
    assert np.isnan(out[[3, 7]]).all() and (out[11] == 0).all()
    np.testing.assert_allclose(out[13], v[39], rtol=1e-6)
    others = np.setdiff1d(np.arange(40), [3, 7])
    assert np.isfinite(out[others]).all()
    q[20, 2] = np.nan
    out = accel.compile(functional.scaled_dot_product_attention)(q, k, v).numpy()
    assert np.isnan(out[20]).all() and np.isfinite(np.delete(out, 20, 0)).all()


def test_core_equal_bits_at_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((2, 3, 200, 40)).astype("f4") for _ in range(3))
    before = accel.get_num_threads()
    found = set()
    try:
        for count in (1, 2, 3, 5):
            accel.set_num_threads(count)
            out = accel.compile(functional.scaled_dot_product_attention)(q, k, v, is_causal=True)
            slopes = accel.compile(attend_and_back)(q, k, v)
            found.add(b"".join(x.numpy().tobytes() for x in (out, *slopes)))
    finally:
        accel.set_num_threads(before)
    assert len(found) == 1


def test_groups_of_heads_share_key_and_value() -> None:
    rng = np.random.default_rng(4)
    q = rng.standard_normal((2, 6, 9, 8)).astype("f4")
    k, v = (rng.standard_normal((2, 3, 7, 8)).astype("f4") for _ in range(2))
    for mask in (None, rng.random((9, 7)) < 0.8, rng.random((2, 6, 9, 7)) < 0.8):
        found = functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True).numpy()
        whole = [np.repeat(x, 2, axis=1) for x in (k, v)]
        want = functional.scaled_dot_product_attention(q, *whole, mask).numpy()
        np.testing.assert_array_equal(found, want)
    with pytest.raises(ShapeError, match="heads"):
        functional.scaled_dot_product_attention(q[:, :5], k, v, enable_gqa=True)


def test_dropout_keeps_the_mean_and_needs_a_probability() -> None:
    accel.manual_seed(0)
    x = np.random.default_rng(5).standard_normal((64, 32, 16)).astype("f4")
    plain = functional.scaled_dot_product_attention(x, x, x).numpy()
    dropped = functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5).numpy()
    assert not np.allclose(plain, dropped) and abs((plain - dropped).mean()) < 0.02
    with pytest.raises(ArgumentError, match="2"):
        functional.scaled_dot_product_attention(x, x, x, dropout_p=2.0)


# -- kernels and memory -------------------------------------------------------------------
def test_one_kernel_reads_heads_where_they_lie() -> None:
    """A projection split into heads, attention, and heads joined again: no copy."""
    x = np.zeros((2, 40, 96), np.float32)

    def attend(x: Any) -> Any:
        heads = accel.permute(accel.reshape(x, (2, 40, 3, 4, 8)), (2, 0, 3, 1, 4))
        out = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return accel.reshape(accel.permute(out, (0, 2, 1, 3)), (2, 40, 32))

    assert kernels(attend, x) == ["attention"]


def attend_and_back(q: Any, k: Any, v: Any) -> Any:
    out, back = accel.vjp(functional.scaled_dot_product_attention, q, k, v)
    return back(out)


def test_the_gradient_is_two_kernels() -> None:
    x = np.zeros((2, 40, 16), np.float32)
    assert kernels(attend_and_back, x, x, x) == ["attention"] * 3


@pytest.mark.parametrize("function", [functional.scaled_dot_product_attention, attend_and_back])
def test_no_matrix_of_weights_is_in_memory(function: Any) -> None:
    from accel.runtime import state
    from accel.runtime.compiler import compile_graph

    length, heads, width = 512, 4, 8
    x = np.zeros((heads, length, width), np.float32)
    traced = accel.compile(function).graph(x, x, x)
    with state.override(mode="pure") as settings_:
        runs = [step.run for step in compile_graph(traced, settings_).steps]
    # The result and its statistics at most.
    assert sum(run.arena_bytes for run in runs) <= heads * length * (width + 4) * 4


def test_second_derivatives_go_through_the_expansion() -> None:
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((5, 3)) for _ in range(3))

    def slope(t: Any) -> Any:
        first = accel.grad(
            lambda x: accel.sum(functional.scaled_dot_product_attention(x, k, v) ** 2)
        )
        return accel.sum(first(q + t * k) * v)

    step = 1e-5
    found = accel.grad(slope)(accel.asarray(0.0, dtype=accel.float64)).item()
    want = (slope(accel.asarray(step)).item() - slope(accel.asarray(-step)).item()) / (2 * step)
    assert found == pytest.approx(want, rel=1e-6)


def test_an_added_mask_has_a_gradient() -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal((5, 3)) for _ in range(3))
    added = rng.standard_normal((5, 1))[:, [0] * 5] + rng.standard_normal((1, 5))

    def loss(m: Any) -> Any:
        return accel.sum(functional.scaled_dot_product_attention(q, k, v, m) ** 2)

    found, step = accel.grad(loss)(added).numpy(), 1e-5
    for i, j in ((0, 0), (3, 2)):
        there, back = added.copy(), added.copy()
        there[i, j] += step
        back[i, j] -= step
        want = (loss(there).item() - loss(back).item()) / (2 * step)
        assert found[i, j] == pytest.approx(want, rel=1e-5, abs=1e-9)


# -- other instruction sets ---------------------------------------------------------------
def test_forced_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()
