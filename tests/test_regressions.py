"""Graphs that once went wrong, as the fuzzer printed them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import accel
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
    # The reader of the convolution, a product to a scalar, was taken for a pool of it.
    "product of a whole convolution": (
        """graph(%x: f32[1,4,9,8], %w: f32[6,2,3,2], %v: f32[144], %m: f32[1,1]) {
          %0 = convolution(%x, %w, stride=(2, 1,), padding=((0, 0,), (0, 0,),), dilation=(1, 2,),
            groups=2) : f32[1,6,4,6]
          %1 = fmax(%0, %m) : f32[1,6,4,6]
          %2 = flatten(%1, start=0, end=3) : f32[144]
          %3 = matmul(%2, %v) : f32[]
          return %3
        }""",
        [f32(*range(288)).reshape(1, 4, 9, 8), f32(*range(72)).reshape(6, 2, 3, 2),
         f32(*range(144)), f32(2e4).reshape(1, 1)],
    ),
    # torch multiplies the exponent with the angle in single precision: NaN, where that overflows.
    "complex power without a digit of its angle": (
        """graph(%x: c64[2], %y: c64[2]) {
          %0 = pow(%x, %y) : c64[2]
          return %0
        }""",
        [np.array([-1, 2], np.complex64), np.array([3e38, 3], np.complex64)],
    ),
    # torch subtracts in half precision on the CPU.
    "log_softmax of halves": (
        """graph(%x: f16[2,2]) {
          %0 = log_softmax(%x, axis=1) : f16[2,2]
          return %0
        }""",
        [np.array([[1.5, -2.0], [3.0, -0.48]], np.float16)],
    ),
    # torch gives NaN where there are no keys.
    "attention without keys": (
        """graph(%q: f32[3,4], %k: f32[0,4], %v: f32[0,2]) {
          %0 = scaled_dot_product_attention(%q, %k, %v, is_causal=false, scale=0.5) : f32[3,2]
          return %0
        }""",
        [np.ones((3, 4), np.float32), np.ones((0, 4), np.float32), np.ones((0, 2), np.float32)],
    ),
    # NumPy takes the square root where one exponent of 0.5 serves for all.
    "powers of minus infinity": (
        """graph(%x: f64[3], %y: f64[3]) {
          %0 = constant(value=0.5, dtype=f64, weak=false) : f64[]
          %1 = pow(%x, %0) : f64[3]
          %2 = pow(%x, %y) : f64[3]
          return %1, %2
        }""",
        [np.array([-np.inf, np.inf, 4.0]), np.array([0.5, 0.5, 0.5])],
    ),
    # Either zero is right for relu, so that the angle is 0 or pi, and the quotient what it may.
    "division by an angle that may be zero": (
        """graph(%x: f32[3], %y: f32[3]) {
          %0 = relu(%x) : f32[3]
          %1 = atan2(%x, %0) : f32[3]
          %2 = addcdiv(%y, %x, %1, value=1.0) : f32[3]
          return %2
        }""",
        [f32(-0.0, 2.0, -1.0), f32(1.0, 2.0, 3.0)],
    ),
    # torch's has large numbers at poles, and NaN at infinity.
    "polygamma at poles": (
        """graph(%x: f32[6]) {
          %0 = polygamma(%x, n=1) : f32[6]
          %1 = polygamma(%x, n=2) : f32[6]
          %2 = polygamma(%x, n=3) : f32[6]
          return %0, %1, %2
        }""",
        [f32(np.inf, -np.inf, 0.0, -0.0, -1.0, -2.5)],
    ),
    # NumPy's modulus differs with the operand's strides.
    "modulus of complex numbers": (
        """graph(%x: c128[3,2]) {
          %0 = abs(%x) : f64[3,2]
          return %0
        }""",
        [np.array([[-0.72678419 - 1.19284218j, 2.12550349 + 1.12613622j],
                   [2.02966358 - 0.44603734j, -1.10333405 + 2.35690014j],
                   [0.1371683 - 0.8327328j, 0.22062498 - 1.51622615j]])[::-1]],
    ),
    # What the body of a custom function rounds was held to be exact.
    "a custom function's sine": (
        """graph(%x: f64[3], %n: i32[3]) {
          %0 = custom(%x, %n, body=graph(%x: f64[3], %n: i32[3]) {
            %0 = sin(%x) : f64[3]
            %1 = cast(%n, dtype=f64, weak=false) : f64[3]
            %2 = mul(%x, %1) : f64[3]
            return %0, %2
          }, pullback=graph(%x: f64[3], %n: i32[3], %g: f64[3], %h: f64[3]) {
            %0 = cos(%x) : f64[3]
            %1 = mul(%g, %0) : f64[3]
            %2 = cast(%n, dtype=f64, weak=false) : f64[3]
            %3 = mul(%h, %2) : f64[3]
            %4 = add(%1, %3) : f64[3]
            return %4
          }, wrt=(0,), index=0) : f64[3]
          return %0
        }""",
        [np.array([-0.10973670679442549, -1.9485981526773057, 2.9690504456198434]),
         np.zeros(3, np.int32)],
    ),
    # Which side of the branch cut a zero of either sign lies on was held to be known.
    "arc tangent of a zero of either sign": (
        """graph(%x1: f32[3]) {
          %0 = relu6(%x1) : f32[3]
          %1 = atan2(%0, %x1) : f32[3]
          return %1
        }""",
        [f32(-0.0, 0.0, -1.0)],
    ),
    # torch took both operands to complex halves, which it has no logic for.
    "logic of a complex number and halves": (
        """graph(%x: f16[2], %y: c128[]) {
          %0 = logical_or(%y, %x) : bool[2]
          %1 = logical_and(%y, %x) : bool[2]
          %2 = logical_xor(%y, %x) : bool[2]
          return %0, %1, %2
        }""",
        [np.array([0, np.nan], np.float16), np.array(1j)],
    ),
    # torch adds the mask, so that what it hides is NaN.
    "attention to a NaN behind a mask": (
        """graph(%x: f32[1,2,2], %m: bool[2,2]) {
          %0 = scaled_dot_product_attention(%x, %x, %x, %m, is_causal=false, scale=0.5)
            : f32[1,2,2]
          return %0
        }""",
        [f32(1, 2, np.nan, 4).reshape(1, 2, 2), np.array([[True, False], [False, True]])],
    ),
    # NumPy's log1p of complex numbers, log(1 + x), loses the digits of small ones.
    "log1p of complex numbers": (
        """graph(%x: c128[4]) {
          %0 = log1p(%x) : c128[4]
          return %0
        }""",
        [np.array([0.011872964799464 + 0j, -0.97023 - 0j, 1e-9 + 1e-8j, -0.3 + 0.7j])],
    ),
    # torch rounds doubles to floats first, where these become ties.
    "doubles to halves": (
        """graph(%x: f64[4]) {
          %0 = cast(%x, dtype=f16, weak=false) : f16[4]
          %1 = cast(%x, dtype=bf16, weak=false) : bf16[4]
          return %0, %1
        }""",
        [np.array([-2.61035166, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 1e300])],
    ),
    # -2 times the factor overflows, which was only foreseen for smaller ones.
    "addcmul near the edge of overflow": (
        """graph(%x: f64[1], %a: f64[1], %c: f64[1]) {
          %0 = addcmul(%x, %a, %c, value=-2.0) : f64[1]
          return %0
        }""",
        [np.zeros(1), np.array([1.7e308]), np.zeros(1)],
    ),
    # The operand of the cast is off by its bound, and the cast rounds once more.
    "a rounded difference, rounded to halves": (
        """graph(%x: f32[1]) {
          %0 = tanhshrink(%x) : f32[1]
          %1 = cast(%0, dtype=f16, weak=false) : f16[1]
          return %1
        }""",
        [f32(0.01404572557657957)],
    ),
    # One unit in the last place from a pole.
    "gamma function beside a pole": (
        """graph(%x: f16[2]) {
          %0 = softsign(%x) : f16[2]
          %1 = lgamma(%0) : f16[2]
          return %1
        }""",
        [np.array([-2048.0, -1865.0], np.float16)],
    ),
    # torch takes a subnormal part for zero.
    "complex numbers with a subnormal part": (
        """graph(%x: c128[1]) {
          %0 = acos(%x) : c128[1]
          return %0
        }""",
        [np.array([1 - 1.5e-323j])],
    ),
    # NumPy's lgamma is further off than the kernel's: the bound was in units of the result.
    "zeros of the gamma function's logarithm": (
        """graph(%x: f64[3]) {
          %0 = lgamma(%x) : f64[3]
          %1 = digamma(%x) : f64[3]
          return %0, %1
        }""",
        [np.array([-2.5, -0.41017708, -1.5e-323])],
    ),
    # The reciprocal of the denominator overflows, as it does in NumPy's complex64.
    "quotients of complex zeros": (
        """graph(%x: c64[1], %y: c64[1]) {
          %0 = div(%x, %y) : c64[1]
          return %0
        }""",
        [np.zeros(1, np.complex64), np.full(1, 1e-40, np.complex64)],
    ),
    # Sums of parts were put together, though the result is real.
    "real sums of complex numbers": (
        """graph(%x: c128[4,3]) {
          %0 = sum(%x, axis=(0,), keepdims=false, dtype=f64) : f64[3]
          %1 = sum(%x, axis=(0,), keepdims=false, dtype=i64) : i64[3]
          %2 = cumsum(%x, axis=0, dtype=f32) : f32[4,3]
          return %0, %1, %2
        }""",
        [np.arange(12.0).reshape(4, 3) * (1 - 2j)],
    ),
    # Of bools added without a carry the parity was left; torch multiplies integers in int64.
    "sums and products to bool": (
        """graph(%x: f32[4,3], %z: c128[4,3]) {
          %0 = sum(%x, axis=(0,), keepdims=false, dtype=bool) : bool[3]
          %1 = sum(%z, axis=(0, 1,), keepdims=false, dtype=bool) : bool[]
          %2 = prod(%x, axis=(1,), keepdims=false, dtype=bool) : bool[4]
          %3 = prod(%x, axis=(0, 1,), keepdims=true, dtype=i8) : i8[1,1]
          return %0, %1, %2, %3
        }""",
        [np.ones((4, 3), np.float32), np.full((4, 3), 2j)],
    ),
    # The halves were stored side by side as they were, in half the room.
    "complex numbers of halves": (
        """graph(%x: bf16[5]) {
          %0 = constant(value=0.5, dtype=bf16, weak=false) : bf16[]
          %1 = complex(%x, %0) : c64[5]
          %2 = expand_dims(%1, axis=(1,)) : c64[5,1]
          %3 = real(%1) : f32[5]
          return %1, %2, %3
        }""",
        [np.arange(5.0).astype(ml_dtypes.bfloat16)],
    ),
}  # fmt: skip


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


@pytest.mark.torch
def test_operands_live_on_between_the_parts_of_a_factorisation() -> None:
    """On torch the operand was dropped after the eigenvectors, which the eigenvalues come with."""
    graph = parse(
        """graph(%x: c128[2,2], %y: c128[2,2]) {
          %0 = matmul(%x, %y) : c128[2,2]
          %1 = eig(%0, part="eigenvectors") : c128[2,2]
          %2 = fft(%0, axes=(0, 1,), forward=true, norm="backward") : c128[2,2]
          %3 = matmul(%1, %2) : c128[2,2]
          %4 = eig(%0, part="eigenvalues") : c128[2]
          %5 = mul(%3, %4) : c128[2,2]
          return %5
        }"""
    )
    check_graph(graph, [np.diag([2, 1j]), np.eye(2) + 0j], ["torch"], ["fuse"])


def test_a_compiled_function_may_name_the_empty_tuple() -> None:
    """The names that its code reads were looked for in constants too, at their last entry."""
    x = np.arange(1, dtype=np.float32)
    summed = accel.compile(lambda x: accel.reshape(x, ()) + accel.zeros(()))(x)
    assert summed.shape == () and float(summed) == 0.0
