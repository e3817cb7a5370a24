"""Graphs that once went wrong, as the fuzzer printed them."""

from __future__ import annotations

import numpy as np
import pytest

from accel.ir import parse
from accel.testing import check_graph


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CASES = {
    # The check ran over the dimension that the index varies in, though the other was empty.
    "check_index of an empty ramp": (
        """graph() {
          %0 = iota(shape=(0, 3,), axis=1, dtype=i64) : i64[0,3]
          %1 = check_index(%0, size=0, wrap=true, what="index") : i64[0,3]
          return %1
        }""",
        [],
    ),
    # NumPy's dot scales by BLAS, for which 0 times infinity is 0.
    "dot of zero and infinity": (
        """graph(%a: f32[], %x: f32[2]) {
          %0 = dot(%a, %x) : f32[2]
          return %0
        }""",
        [np.float32(0.0), f32(-np.inf, 1.0)],
    ),
    # The slope is rounded to float32 before the product.
    "leaky_relu of a slope that float32 has not": (
        """graph(%x: f32[2]) {
          %0 = leaky_relu(%x, negative_slope=0.01) : f32[2]
          return %0
        }""",
        [f32(-3.4028235e38, -1.0)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pure(name: str) -> None:
    text, arrays = CASES[name]
    check_graph(parse(text), [np.asarray(a) for a in arrays], ["reference", "pure"])


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_torch(name: str) -> None:
    text, arrays = CASES[name]
    check_graph(parse(text), [np.asarray(a) for a in arrays], ["torch"])


@pytest.mark.torch
def test_single_elements_with_negative_strides_cross_to_torch() -> None:
    """NumPy calls such an array contiguous, torch refuses its stride."""
    graph = parse("graph(%x: f32[1,1]) { %0 = neg(%x) : f32[1,1] return %0 }")
    check_graph(graph, [np.ones((1, 1), np.float32)[::-1, ::-1]], ["torch"])
