"""sin, cos, tan and their inverses.

x = n pi/2 + r with |r| <= pi/4. Where |x| is moderate, n pi/2 is subtracted in three parts,
each by a fused multiply-add, the first exactly. Where any lane is large, a branch reduces the
lanes one by one by the Payne-Hanek method: only the bits of 2/pi that matter are multiplied.
"""

from __future__ import annotations

from ..machine.llvm_text import Function, Lanes
from .common import HALF_PI, any_lane, fitted, pick, polynomial, round_scaled

__all__ = ["acos", "asin", "atan", "atan2", "cos", "sin", "tan"]

# The bits of 2/pi behind the binary point, after one word of zeros.
_TWO_OVER_PI = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041,
    0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
)  # fmt: skip


def _reduce(lanes: Lanes, x: str) -> tuple[str, str]:
    """r, and integers whose two low bits are the quadrant n mod 4."""
    n, bits = round_scaled(lanes, x, 0.6366197723675814, 0)
    r = x
    third = pick(lanes, -1.7151245100058819e-15, -1.4973849048591698e-33)
    for part in (*pick(lanes, *HALF_PI), third):
        r = lanes.fma(n, -part, r)
    fn = lanes.fn
    big = lanes.cmp("oge", lanes.abs(x), pick(lanes, 1e5, 1e8))
    before, slow, join = fn.block_name, fn.label("huge"), fn.label("reduced")
    fn.cond_br(any_lane(lanes, big), slow, join)
    fn.block(slow)
    huge_r, huge_bits = _reduce_huge(lanes, x, big, r, bits)
    after = fn.block_name
    fn.br(join)
    fn.block(join)
    return (
        fn.phi(lanes.type, (r, before), (huge_r, after)),
        fn.phi(lanes.integers.type, (bits, before), (huge_bits, after)),
    )


def _reduce_huge(lanes: Lanes, x: str, big: str, r: str, bits: str) -> tuple[str, str]:
    """r and bits with the `big` lanes reduced exactly, one after the other."""
    fn, integers = lanes.fn, lanes.integers
    finite = lanes.cmp("olt", lanes.abs(x), float("inf"))
    big = lanes.mask_op("and", big, finite)  # infinity and NaN have their NaN already
    safe = lanes.select(big, x, pick(lanes, 1e5, 1e8))
    if lanes.width == 1:
        one_r, one_bits = _payne_hanek(lanes, safe)
        return lanes.select(big, one_r, r), integers.select(big, one_bits, bits)
    one = Lanes(fn, lanes.element, 1)
    with fn.loop(0, lanes.width, carried=[(lanes.type, r), (integers.type, bits)]) as loop:
        lane = fn.op(f"extractelement {lanes.type} {safe}, i64 {loop.index}")
        one_r, one_bits = _payne_hanek(one, lane)
        loop.next = [
            fn.op(
                f"insertelement {lanes.type} {loop.values[0]}, {one.type} {one_r}, i64 {loop.index}"
            ),
            fn.op(
                f"insertelement {integers.type} {loop.values[1]}, "
                f"{one.integers.type} {one_bits}, i64 {loop.index}"
            ),
        ]
    return lanes.select(big, loop.values[0], r), integers.select(big, loop.values[1], bits)


def _payne_hanek(one: Lanes, x: str) -> tuple[str, str]:
    """r and n of one finite |x| >= 2**16, by a call: the code is long, and seldom run."""
    pair = f"{{ {one.type}, {one.integers.type} }}"

    def body(fn: Function) -> str:
        r, n = _exactly_reduced(Lanes(fn, one.element, 1), "%x")
        first = fn.op(f"insertvalue {pair} poison, {one.type} {r}, 0")
        return fn.op(f"insertvalue {pair} {first}, {one.integers.type} {n}, 1")

    both = one.fn.helper(f"payne_hanek.{one.suffix}", [(one.type, "x")], pair, body, x)
    r, n = (one.fn.op(f"extractvalue {pair} {both}, {place}") for place in (0, 1))
    return r, n


def _exactly_reduced(one: Lanes, x: str) -> tuple[str, str]:
    """r and n of one finite |x| >= 2**16.

    x = m 2**e with a 53-bit m. A 192-bit window of 2/pi that starts at the bit of weight
    2**(1 - e) makes m * window / 2**192 the fraction of x/(2 pi), to 2**-127.
    """
    fn = one.fn
    double, i64 = Lanes(fn, "double", 1), Lanes(fn, "i64", 1)
    wide = x if one.element == "double" else double.convert("fpext", x, one)
    raw = double.bits_of(wide)
    m = i64.binary("or", i64.binary("and", raw, (1 << 52) - 1), 1 << 52)
    exponent = i64.binary("and", i64.binary("lshr", raw, 52), 0x7FF)
    position = i64.sub(exponent, 1013)
    word, shift = i64.binary("lshr", position, 6), i64.binary("and", position, 63)
    table = ", ".join(f"i64 {i64.const(value)}" for value in _TWO_OVER_PI)
    words = [
        fn.op(f"extractelement <{len(_TWO_OVER_PI)} x i64> <{table}>, i64 {i64.add(word, k)}")
        for k in range(4)
    ]
    window = [i64.intrinsic("fshl", words[k], words[k + 1], shift) for k in range(3)]
    wide_m = fn.op(f"zext i64 {m} to i128")
    parts = [fn.op(f"mul i128 {wide_m}, {fn.op(f'zext i64 {part} to i128')}") for part in window]
    fraction = fn.op(f"add i128 {parts[1]}, {fn.op(f'lshr i128 {parts[2]}, 64')}")
    fraction = fn.op(f"add i128 {fraction}, {fn.op(f'shl i128 {parts[0]}, 64')}")
    rounded = fn.op(f"add i128 {fraction}, {1 << 125}")
    n = fn.op(f"lshr i128 {rounded}, 126")
    rest = fn.op(f"sub i128 {fraction}, {fn.op(f'shl i128 {n}, 126')}")
    r = _quarter_turns(double, rest)
    quadrant = fn.op(f"trunc i128 {n} to i64")
    negative = double.cmp("olt", wide, 0.0)
    r = double.select(negative, double.neg(r), r)
    quadrant = i64.select(negative, i64.neg(quadrant), quadrant)
    if one.element == "double":
        return r, quadrant
    return one.convert("fptrunc", r, double), one.integers.convert("trunc", quadrant, i64)


def _quarter_turns(double: Lanes, rest: str) -> str:
    """rest * 2**-126 * pi/2 as a double, for a signed i128 |rest| <= 2**125."""
    fn = double.fn
    i64 = Lanes(fn, "i64", 1)
    high = fn.op(f"trunc i128 {fn.op(f'ashr i128 {rest}, 64')} to i64")
    low = double.convert("uitofp", fn.op(f"trunc i128 {rest} to i64"), i64)
    a = double.convert("sitofp", high, i64)
    lost = i64.sub(high, fn.op(f"fptosi double {a} to i64"))
    tail = double.fma(low, 2.0**-64, double.convert("sitofp", lost, i64))
    total = double.add(a, tail)
    tail = double.sub(tail, double.sub(total, a))
    half_pi, half_pi_low = HALF_PI[1]
    r = double.mul(total, half_pi)
    r_low = double.fma(total, half_pi, double.neg(r))
    r_low = double.fma(total, half_pi_low, double.fma(tail, half_pi, r_low))
    return double.mul(double.add(r, r_low), 2.0**-62)


def _odd(lanes: Lanes, bits: str) -> str:
    integers = lanes.integers
    return integers.cmp("ne", integers.binary("and", bits, 1), 0)


def _either(lanes: Lanes, odd: str, square: str) -> str:
    """(cos(r) - 1)/r**2 in the lanes of the mask, else (sin(r)/r - 1)/r**2: one polynomial whose
    coefficients each lane picks."""
    sine, cosine = fitted(lanes, "sin"), (-0.5, *fitted(lanes, "cos"))
    *rest, result = [lanes.select(odd, c, s) for s, c in zip(sine, cosine, strict=True)]
    for coefficient in reversed(rest):
        result = lanes.fma(result, square, coefficient)
    return result


def _turned(lanes: Lanes, x: str, offset: int) -> str:
    """sin(x + offset pi/2)."""
    integers = lanes.integers
    r, bits = _reduce(lanes, x)
    if offset:
        bits = integers.add(bits, offset)
    odd, square = _odd(lanes, bits), lanes.mul(r, r)
    start = lanes.select(odd, 1.0, r)
    y = lanes.fma(lanes.mul(start, square), _either(lanes, odd, square), start)
    sign = integers.binary("shl", integers.binary("and", bits, 2), integers.bits - 2)
    return lanes.from_bits(integers.binary("xor", lanes.bits_of(y), sign))


def sin(lanes: Lanes, x: str) -> str:
    """The sine, reduced exactly for angles of any size."""
    return _keep_zero(lanes, x, _turned(lanes, x, 0))


def cos(lanes: Lanes, x: str) -> str:
    """The cosine, reduced exactly for angles of any size."""
    return _turned(lanes, x, 1)


def tan(lanes: Lanes, x: str) -> str:
    """tan(r), or -1/tan(r) in the odd quadrants; one division serves both."""
    r, bits = _reduce(lanes, x)
    square = lanes.mul(r, r)
    t = lanes.fma(lanes.mul(r, square), polynomial(lanes, "tan", square), r)
    odd = _odd(lanes, bits)
    y = lanes.div(lanes.select(odd, -1.0, t), lanes.select(odd, t, 1.0))
    return _keep_zero(lanes, x, y)


def _keep_zero(lanes: Lanes, x: str, y: str) -> str:
    """y, but x where that is zero: the reduction loses the sign of zero."""
    return lanes.select(lanes.cmp("oeq", x, 0.0), x, y)


def _arcsine(lanes: Lanes, x: str) -> tuple[str, str, str]:
    """|x|, a mask |x| > 1/2, and asin of |x| or, there, of sqrt((1 - |x|)/2)."""
    a = lanes.abs(x)
    big = lanes.cmp("ogt", a, 0.5)
    square = lanes.select(big, lanes.fma(a, -0.5, 0.5), lanes.mul(a, a))
    s = lanes.select(big, lanes.intrinsic("sqrt", square), a)
    p = lanes.fma(lanes.mul(s, square), polynomial(lanes, "asin", square), s)
    return a, big, p


def _from(lanes: Lanes, multiple: int, p: str) -> str:
    """multiple * pi/2 - p."""
    high, low = pick(lanes, *HALF_PI)
    return lanes.sub(multiple * high, lanes.sub(p, multiple * low))


def asin(lanes: Lanes, x: str) -> str:
    """The arc sine; NaN beyond 1."""
    _, big, p = _arcsine(lanes, x)
    return lanes.copysign(lanes.select(big, _from(lanes, 1, lanes.add(p, p)), p), x)


def acos(lanes: Lanes, x: str) -> str:
    """The arc cosine; NaN beyond 1."""
    _, big, p = _arcsine(lanes, x)
    negative = lanes.cmp("olt", x, 0.0)
    twice = lanes.add(p, p)
    outer = lanes.select(negative, _from(lanes, 2, twice), twice)
    return lanes.select(big, outer, _from(lanes, 1, lanes.copysign(p, x)))


def _arctangent(lanes: Lanes, t: str) -> str:
    """atan(t) for 0 <= t <= 1."""
    square = lanes.mul(t, t)
    return lanes.fma(lanes.mul(t, square), polynomial(lanes, "atan", square), t)


def atan(lanes: Lanes, x: str) -> str:
    """The arc tangent."""
    a = lanes.abs(x)
    big = lanes.cmp("ogt", a, 1.0)
    p = _arctangent(lanes, lanes.select(big, lanes.div(1.0, a), a))
    return lanes.copysign(lanes.select(big, _from(lanes, 1, p), p), x)


def atan2(lanes: Lanes, y: str, x: str) -> str:
    """The angle of the point (x, y), with IEEE 754's signs of zero and infinities."""
    a, b = lanes.abs(y), lanes.abs(x)
    steep = lanes.cmp("ogt", a, b)
    small, big = lanes.select(steep, b, a), lanes.select(steep, a, b)
    t = lanes.div(small, big)
    t = lanes.select(lanes.cmp("oeq", big, 0.0), 0.0, t)
    t = lanes.select(lanes.cmp("oeq", small, float("inf")), 1.0, t)
    p = _arctangent(lanes, t)
    p = lanes.select(steep, _from(lanes, 1, p), p)
    integers = lanes.integers
    left = integers.cmp("slt", lanes.bits_of(x), 0)
    p = lanes.copysign(lanes.select(left, _from(lanes, 2, p), p), y)
    return lanes.select(lanes.cmp("uno", x, y), float("nan"), p)
