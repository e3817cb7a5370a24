"""Fit the polynomials of the pure target's vector math and write them as a Python module.

    python tools/fit_polynomials.py > accel/targets/pure/vecmath/coefficients.py

Needs mpmath. Each fit interpolates in Chebyshev nodes at 160 bits (400 where the function has
a removable singularity), which is within a fraction of a bit of the minimax polynomial, and
takes the smallest degree whose error, weighed by the polynomial's share of the final result,
is below 2**-27 (single) or 2**-56 (double): an eighth of a unit in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mpmath as mp

mp.mp.prec = 160

# The 16th interval of this length ends where erf has rounded to 1; its multiples are exact.
ERF_STEP = 17 / 64

# So that the 16 intervals, of lengths from 1/8 to 2, cover where tanh is below 1.
TANH_OFFSET = 0.75


@dataclass(frozen=True)
class Fit:
    """One polynomial: a function of mpmath numbers on an interval.

    `weight` bounds polynomial term / result, `bits` replaces the default precision where the
    polynomial is a term of an extended-precision sum.
    """

    name: str
    formula: str
    function: Callable[[mp.mpf], mp.mpf]
    low: float
    high: float
    weight: float
    bits: tuple[float | None, float | None] = (27, 56)


def near_zero(function: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """`function` evaluated stably through its removable singularity at zero."""

    def stable(t: mp.mpf) -> mp.mpf:
        with mp.workprec(600):
            t = mp.mpf(t)
            if abs(t) < mp.mpf(10) ** -35:
                t = mp.mpf(10) ** -35
            return function(t)

    return stable


def log2_tail(t: mp.mpf) -> mp.mpf:
    """What follows the first two terms of log2((1+s)/(1-s)) / s in t = s*s."""
    s = mp.sqrt(t)
    return (2 * mp.atanh(s) / s - 2 - 2 * t / 3) / (t * t) / mp.log(2)


def stirling_rest(t: mp.mpf) -> mp.mpf:
    """x times what Stirling's formula lacks of lgamma(x), t = 1/x**2."""
    x = 1 / mp.sqrt(t)
    return x * (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


def digamma_rest(t: mp.mpf) -> mp.mpf:
    """x**2 times what log(x) - 1/(2x) exceeds digamma(x) by, t = 1/x**2."""
    x = 1 / mp.sqrt(t)
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / t


def erfinv_ratio(w: mp.mpf) -> mp.mpf:
    """erfinv(x)/x in w = -log(1 - x**2): M. Giles, Approximating the erfinv function (2010)."""
    x = mp.sqrt(-mp.expm1(-w))
    return mp.erfinv(x) / x


#: Where the tail of erfinv begins, in w, and the middles of the intervals.
ERFINV_TAIL, ERFINV_MIDDLE, ERFINV_FAR = 6.25, 3.125, (3.25, 4.25)

FITS = [
    Fit("exp", "(expm1(r) - r)/r**2", near_zero(lambda r: (mp.expm1(r) - r) / r**2),
        -0.3467, 0.3467, 0.42),
    Fit("exp2", "(2**r - 1)/r", near_zero(lambda r: mp.expm1(r * mp.log(2)) / r),
        -0.5001, 0.5001, 0.71),
    Fit("exp2_near", "(2**r - 1)/r", near_zero(lambda r: mp.expm1(r * mp.log(2)) / r),
        -0.03126, 0.03126, 0.022, (27, None)),
    Fit("log", "(log1p(f) - f + f**2/2)/f**3",
        near_zero(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3), -0.25001, 0.50001, 0.25),
    Fit("sin", "(sin(r)/r - 1)/t, t = r*r",
        near_zero(lambda t: (mp.sin(mp.sqrt(t)) / mp.sqrt(t) - 1) / t), 0, 0.63, 0.62),
    Fit("cos", "(cos(r) - 1 + t/2)/t**2, t = r*r",
        near_zero(lambda t: (mp.cos(mp.sqrt(t)) - 1 + t / 2) / t**2), 0, 0.63, 0.54),
    Fit("tan", "(tan(r)/r - 1)/t, t = r*r",
        near_zero(lambda t: (mp.tan(mp.sqrt(t)) / mp.sqrt(t) - 1) / t), 0, 0.63, 0.5),
    Fit("asin", "(asin(s)/s - 1)/t, t = s*s",
        near_zero(lambda t: (mp.asin(mp.sqrt(t)) / mp.sqrt(t) - 1) / t), 0, 0.25, 0.25),
    Fit("atan", "(atan(s)/s - 1)/t, t = s*s",
        near_zero(lambda t: (mp.atan(mp.sqrt(t)) / mp.sqrt(t) - 1) / t), 0, 1, 1.27),
    Fit("sinh", "(sinh(x)/x - 1)/t, t = x*x",
        near_zero(lambda t: (mp.sinh(mp.sqrt(t)) / mp.sqrt(t) - 1) / t), 0, 1, 0.85),
    Fit("log2_rest", "(log2(1+r) - (r - r**2/2)/ln 2)/r**3",
        near_zero(lambda r: (mp.log1p(r) - r + r**2 / 2) / r**3 / mp.log(2)),
        -0.0235, 0.03126, 0.0007, (33, None)),
    Fit("log2_tail", "log2((1+s)/(1-s))/s less two terms, over t**2, t = s*s",
        near_zero(log2_tail), 0, 0.02945, 3.1e-4, (None, 66)),
    Fit("erf", "erf(x)/x - 1, t = x*x",
        near_zero(lambda t: mp.erf(mp.sqrt(t)) / mp.sqrt(t) - 1), 0, 0.88, 1.0, (None, 56)),
    Fit("lgamma", "lgamma(2 + t)/t", near_zero(lambda t: mp.loggamma(2 + t).real / t),
        -0.5001, 0.5001, 1.0, (None, 56)),
    Fit("stirling", "(lgamma(x) - Stirling's formula) x, t = 1/x**2", near_zero(stirling_rest),
        0, 0.015626, 0.002, (None, 56)),
    Fit("digamma", "(log(x) - 1/(2x) - digamma(x)) x**2, t = 1/x**2", near_zero(digamma_rest),
        0, 0.015626, 0.008, (None, 56)),
    Fit("sinpi", "sin(pi r)/(pi r), t = r*r",
        near_zero(lambda t: mp.sin(mp.pi * mp.sqrt(t)) / mp.sqrt(t) / mp.pi), 0, 0.25, 1.6,
        (None, 56)),
    Fit("cotpi", "pi r cot(pi r), t = r*r",
        near_zero(lambda t: mp.pi * mp.sqrt(t) * mp.cot(mp.pi * mp.sqrt(t))), 0, 0.25, 2.0,
        (None, 56)),
    Fit("erfinv", "erfinv(x)/x, t = -log(1 - x**2) less its middle",
        near_zero(lambda t: erfinv_ratio(t + ERFINV_MIDDLE)), -3.125, 3.125, 1.2),
    Fit("erfinv_tail", "erfinv(x)/x, t = sqrt(-log(1 - x**2)) less the middle",
        lambda t: erfinv_ratio((t + ERFINV_FAR[0]) ** 2), -0.75, 0.76, 0.4, (27, None)),
    Fit("erfinv_tail", "erfinv(x)/x, t = sqrt(-log(1 - x**2)) less the middle",
        lambda t: erfinv_ratio((t + ERFINV_FAR[1]) ** 2), -1.75, 1.77, 0.4, (None, 56)),
]  # fmt: skip


def erfcx(a: mp.mpf) -> mp.mpf:
    return mp.exp(a * a) * mp.erfc(a)


def fit_erfcx(degree: int, spread: int, high: float) -> tuple[list[mp.mpf], list[mp.mpf], float]:
    """erfcx on [0, high] as numerator / denominator of degrees `degree` and `degree + 1`.

    Interpolates in the Chebyshev nodes of u, a = spread (1 + u)/(1 - u); all coefficients
    come out positive, so neither polynomial cancels. The error is relative.
    """

    def argument(u: mp.mpf) -> mp.mpf:
        return spread * (1 + u) / (1 - u)

    size = 2 * degree + 2
    reach = (mp.mpf(high) - spread) / (mp.mpf(high) + spread) + 1
    with mp.workprec(300):
        matrix, ones = mp.matrix(size, size), mp.ones(size, 1)
        for i in range(size):
            node = argument(reach / 2 * (1 + mp.cos(mp.pi * (2 * i + 1) / (2 * size))) - 1)
            for j in range(degree + 1):
                matrix[i, j] = node**j / erfcx(node)
                matrix[i, degree + 1 + j] = -(node ** (j + 1))
        solution = list(mp.lu_solve(matrix, ones))
    numerator, denominator = solution[: degree + 1], [mp.mpf(1), *solution[degree + 1 :]]
    errors = []
    for step in range(400):
        a = argument(reach * step / 399 - 1)
        ratio = mp.polyval(numerator[::-1], a) / mp.polyval(denominator[::-1], a)
        errors.append(abs(ratio / erfcx(a) - 1))
    return numerator, denominator, float(max(errors))


def fit(item: Fit, bits: float) -> tuple[list[mp.mpf], float]:
    """Coefficients, constant term first, and the largest error on the interval."""
    goal = mp.mpf(2) ** -bits / item.weight
    for terms in range(2, 40):
        coefficients, error = mp.chebyfit(item.function, [item.low, item.high], terms, error=True)
        if error < goal:
            return coefficients[::-1], float(error)
    raise ArithmeticError(f"{item.name}: no polynomial of 40 terms reaches 2**-{bits}")


def single(value: mp.mpf) -> float:
    """`value` rounded once to single precision, as a Python float."""
    with mp.workprec(24):
        return float(+value)


def well_rounded(
    numerator: list[mp.mpf], denominator: list[mp.mpf], high: float
) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Both times the factor for which rounding to single precision disturbs the ratio least."""

    def value(coefficients: list[float], a: float) -> float:
        result = 0.0
        for c in reversed(coefficients):
            result = result * a + c
        return result

    exact = [[float(c) for c in part] for part in (numerator, denominator)]
    points = [high * (i / 40) ** 2 for i in range(41)]
    ratios = [value(exact[0], a) / value(exact[1], a) for a in points]

    def disturbance(factor: float) -> float:
        top, bottom = ([single(mp.mpf(c * factor)) for c in part] for part in exact)
        pairs = zip(points, ratios, strict=True)
        return max(abs(value(top, a) / value(bottom, a) / r - 1) for a, r in pairs)

    best = min((0.5 + i / 2048 for i in range(1024)), key=disturbance)
    return [c * best for c in numerator], [c * best for c in denominator]


def erfcx_entries(name: str, precision: int, degree: int, spread: int, high: float) -> str:
    """erfcx, or for the name gelu erfcx(a / sqrt(2)) / 2: the coefficients absorb both factors."""
    numerator, denominator, error = fit_erfcx(degree, spread, high)
    formula = "exp(a*a) erfc(a)"
    if name == "gelu":
        formula, high = "exp(a*a/2) erfc(a/sqrt(2)) / 2", round(high * 2**0.5, 1)
        root = mp.sqrt(2)
        numerator = [c / root**i / 2 for i, c in enumerate(numerator)]
        denominator = [c / root**i for i, c in enumerate(denominator)]
    if precision == 0:
        numerator, denominator = well_rounded(numerator, denominator, high)
    literal = single if precision == 0 else float
    lines = [f"    # {formula} on [0, {high}]: relative error {error:.1e}"]
    for part, coefficients in (("numerator", numerator), ("denominator", denominator)):
        lines.append(f'    "{name}_{part}": (')
        lines += [f"        {literal(c)!r}," for c in coefficients]
        lines.append("    ),")
    return "\n".join(lines)


def entry(item: Fit, precision: int) -> str:
    bits = item.bits[precision]
    assert bits is not None
    coefficients, error = fit(item, bits)
    literal = single if precision == 0 else float
    lines = [f"    # {item.formula} on [{item.low}, {item.high}]: error {error:.1e}"]
    lines.append(f'    "{item.name}": (')
    lines += [f"        {literal(c)!r}," for c in coefficients]
    return "\n".join([*lines, "    ),"])


def logarithms() -> list[list[float]]:
    """Of 32 intervals [1 + i/32, 1 + (i+1)/32): numbers c close to the inverse of their middle,
    and -log2(c) in two parts, the high one a multiple of 2**-16.

    c is a multiple of 1/64, so that m*c - 1 is exact in single precision, and 1 and 1/2 at the
    ends, so that the logarithm of a number close to 1 is that of the remainder alone.
    """
    inverses = [round(64 / (1 + (i + 0.5) / 32)) / 64 for i in range(32)]
    inverses[0], inverses[-1] = 1.0, 0.5
    exact = [-mp.log(c, 2) for c in inverses]
    high = [float(mp.nint(value * 2**16) / 2**16) for value in exact]
    return [inverses, high, [single(value - h) for value, h in zip(exact, high, strict=True)]]


def erf_piece(number: int) -> list[float]:
    """erf(number * ERF_STEP + t) for |t| <= ERF_STEP/2, of six terms."""
    return fit_piece(mp.erf, number * ERF_STEP, ERF_STEP / 2)


def tanh_pieces() -> list[list[float]]:
    """The middles c of 16 intervals, and the coefficients of tanh(c + t) but for the second one,
    1 - tanh(c)**2.

    The intervals lie between the numbers of two bits behind the first, from TANH_OFFSET on, less
    that; the low bits of its lower end number one.
    """
    first = math.floor(math.log2(TANH_OFFSET))
    ends = [mp.mpf(2) ** (first + i // 4) * (4 + i % 4) / 4 - TANH_OFFSET for i in range(2, 19)]
    pieces: list[list[float]] = [[]] * 16
    for i, (low, high) in enumerate(pairwise(ends)):
        middle = (low + high) / 2 if i else mp.mpf(0)
        constant = single(mp.tanh(middle))
        known = [constant, 1 - mp.mpf(constant) ** 2]
        found = fit_piece(mp.tanh, middle, high - middle, known)
        pieces[(i + 2 + 4 * (first + 127)) % 16] = [float(middle), constant, *found[2:]]
    return pieces


def fit_piece(
    function: Callable[[mp.mpf], mp.mpf], middle: float, reach: float, known: Sequence[float] = ()
) -> list[float]:
    """function(middle + t) for |t| <= reach, in units of the result's last place.

    Least squares in Chebyshev nodes; each coefficient but those known is rounded before those
    behind it are found, which so make up for its error. About 0, the function being odd, its
    powers are.
    """
    count = 40
    nodes = [mp.cos(mp.pi * (2 * i + 1) / (2 * count)) * reach for i in range(count)]
    powers = [1, 3, 5] if middle == 0 else list(range(6))
    wanted = [function(middle + t) for t in nodes]
    weights = [2 ** -mp.floor(mp.log(abs(value), 2)) for value in wanted]
    found = [*known, *[0.0] * (6 - len(known))]
    powers = [power for power in powers if power >= len(known)]
    for place, power in enumerate(powers):
        rest = powers[place:]
        matrix = mp.matrix([[w * t**p for p in rest] for t, w in zip(nodes, weights, strict=True)])
        so_far = [sum(c * t**p for p, c in enumerate(found)) for t in nodes]
        pairs = zip(weights, wanted, so_far, strict=True)
        right = mp.matrix([w * (value - k) for w, value, k in pairs])
        found[power] = single(mp.lu_solve(matrix, right)[0])
    return found


def table(name: str, comment: str, columns: list[list[float]]) -> str:
    lines = [f"    # {comment}", f'    "{name}": (']
    for column in columns:
        literals = [repr(value) for value in column]
        rows = [literals[at : at + 3] for at in range(0, len(literals), 3)]
        lines += ["        (", *(f"            {', '.join(row)}," for row in rows), "        ),"]
    return "\n".join([*lines, "    ),"])


def main() -> None:
    print('"""Polynomial coefficients of the vector math, constant term first.')
    print("\nGenerated by tools/fit_polynomials.py (near-minimax Chebyshev fits); the error beside")
    print('each is the largest absolute one of the exact polynomial on its interval.\n"""')
    print("\nfrom __future__ import annotations\n")
    names = '"DOUBLE", "ERFINV_FAR", "ERFINV_MIDDLE", "ERFINV_TAIL", "ERF_STEP", "SINGLE",'
    print(f'__all__ = [{names}')
    print('           "TABLES", "TANH_OFFSET"]  # fmt: skip')
    for name, precision in (("SINGLE", 0), ("DOUBLE", 1)):
        print(f"\n{name}: dict[str, tuple[float, ...]] = {{")
        for item in FITS:
            if item.bits[precision] is not None:
                print(entry(item, precision))
        if precision == 1:
            print(erfcx_entries("gelu", 1, 10, 3, 27.6))
            print(erfcx_entries("erfcx", 1, 10, 3, 27.6))
            print(erfcx_entries("erfcx_short", 1, 4, 2, 10.45))
        print("}")
    print("\n#: The columns of tables in single precision.")
    print("TABLES: dict[str, tuple[tuple[float, ...], ...]] = {")
    print(table("log2", "c, -log2(c) in two parts, for 32 intervals of [1, 2)", logarithms()))
    powers = [single(mp.mpf(2) ** (mp.mpf(i) / 16)) for i in range(16)]
    print(table("exp2", "2**(i/16)", [powers]))
    columns = [list(column) for column in zip(*map(erf_piece, range(16)), strict=True)]
    print(table("erf", "erf(i ERF_STEP + t), |t| <= ERF_STEP/2: coefficients of t", columns))
    columns = [list(column) for column in zip(*tanh_pieces(), strict=True)]
    print(table("tanh", "c, and the coefficients of tanh(c + t) but for the second", columns))
    print("}  # fmt: skip")
    print(f"\n#: The intervals of the table of erf.\nERF_STEP = {ERF_STEP!r}")
    print("\n#: What added to the ends of tanh's intervals makes them numbers of few bits.")
    print(f"TANH_OFFSET = {TANH_OFFSET!r}")
    print("\n#: Where the tail of erfinv begins, and the middles of its two parts.")
    print(f"ERFINV_TAIL, ERFINV_MIDDLE = {ERFINV_TAIL!r}, {ERFINV_MIDDLE!r}")
    print(f"ERFINV_FAR = {ERFINV_FAR!r}")


if __name__ == "__main__":
    main()
