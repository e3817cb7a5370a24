"""The checks are checked: bugs put into the compiler on purpose must be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import accel
from accel.ir import Op, dtypes
from accel.ir.ops import binary, fourier
from accel.runtime.compiler import clear_cache
from accel.targets.pure import loops, records
from accel.targets.pure.nests import emit_reduce, emit_sweep
from accel.targets.pure.vecmath import coefficients
from accel.testing import Case, assert_targets_agree
from accel.testing.arrays import draw_array
from accel.testing.differences import gradient_error
from accel.testing.fuzz import failure_of
from accel.testing.generate import draw_graph
from accel.testing.shrink import shrink

Patch = Callable[[pytest.MonkeyPatch], None]
Only = Callable[[Op], bool]


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No kernel made before is used, and none made here is left."""
    monkeypatch.setattr(records, "_TEXTS", records._Texts())
    clear_cache()
    yield
    clear_cache()


def wrong_coefficient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coefficient of the square in exp, which is one of powers of two, off by a tenth of a
    percent; by a whole one beside a table, where the square is that of a 32nd at most."""
    for name, factor in (("exp2", 1.001), ("exp2_near", 1.01)):
        terms = list(coefficients.SINGLE[name])
        terms[1] *= factor
        monkeypatch.setitem(coefficients.SINGLE, name, tuple(terms))


def dropped_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements behind the last whole vector are not computed."""
    strip = emit_sweep.SweepWriter._strip

    def without_tail(self: Any, dim: int, low: str, high: str, width: int, *rest: Any,
                     **options: Any) -> Any:  # fmt: skip
        last = len(self.emitter.widths) > 1 and width == self.emitter.widths[-1]
        return strip(self, dim, low, low if last else high, width, *rest, **options)

    monkeypatch.setattr(emit_sweep.SweepWriter, "_strip", without_tail)


def wrong_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broadcast operand is read as if it were spread over one dimension more."""
    access = loops.Access

    def confused(operand: int, dtype: Any, strides: tuple[int, ...], offset: Any) -> Any:
        moving = [d for d, s in enumerate(strides) if s]
        if 0 < len(moving) < len(strides):
            strides = tuple(0 if d == moving[0] else s for d, s in enumerate(strides))
        return access(operand, dtype, strides, offset)

    monkeypatch.setattr(loops, "Access", confused)


def later_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the greatest elements the last one's place is found."""
    beats = emit_reduce._beats
    monkeypatch.setattr(emit_reduce, "_beats", lambda op: beats(op)[:-1] + "e")


def plain(op: Op) -> bool:
    return op.form in ("pointwise", "reduce") or op.name in ("broadcast_to", "softmax")


def of_places(op: Op) -> bool:
    return op.name in ("argmax", "argmin", "round", "neg", "sort", "take")


def fuzzed(number: int, only: Only = plain) -> Case:
    """A random float32 graph on ordinary values, all passes on."""
    rng = np.random.default_rng([11, number])
    graph = draw_graph(lambda n: int(rng.integers(n)), 8, only, dtypes.float32)
    arrays = [draw_array(rng, n.type.dtype, n.type.shape, False) for n in graph.inputs]
    return Case(graph, tuple(arrays))


def always_fails(case: Case) -> bool:
    """Not only by what happened to be in memory."""
    return all(failure_of(case, ["pure"]) is not None for _ in range(3))


def first_failure(graphs: int, only: Only = plain) -> Case | None:
    cases = (fuzzed(i, only) for i in range(graphs))
    return next((c for c in cases if always_fails(c)), None)


@pytest.mark.parametrize("only", [plain, of_places])
def test_without_a_bug_nothing_fails(only: Only) -> None:
    assert first_failure(60, only) is None


@pytest.mark.parametrize(
    ("bug", "only"),
    [(wrong_coefficient, plain), (dropped_tail, plain), (wrong_stride, plain),
     (later_tie, of_places)],
)  # fmt: skip
def test_random_graphs_find_the_bug(
    bug: Patch, only: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    case = first_failure(60, only)
    assert case is not None
    small = shrink(case, always_fails)
    assert always_fails(small)
    operations = [n for n in small.graph.nodes if n.op.name not in ("input", "constant")]
    assert len(operations) <= 2, small.graph


ROWS = np.linspace(-2, 2, 5 * 37, dtype=np.float32).reshape(5, 37)
BIAS = np.linspace(-1, 1, 5, dtype=np.float32).reshape(5, 1)


@pytest.mark.parametrize(
    ("bug", "function"),
    [
        (wrong_coefficient, lambda x, b: accel.exp(x)),
        (dropped_tail, lambda x, b: x * x),
        (wrong_stride, lambda x, b: x + b),
    ],
)
def test_one_line_finds_the_bug(
    bug: Patch, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert assert_targets_agree(function, ROWS, BIAS, targets=["pure"]).excluded == 0
    clear_cache()
    monkeypatch.setattr(records, "_TEXTS", records._Texts())
    bug(monkeypatch)
    with pytest.raises(AssertionError, match=r"pure.*out of bounds"):
        assert_targets_agree(function, ROWS, BIAS, targets=["pure"])


# -- gradients of complex numbers -----------------------------------------------------------
def dropped_conjugate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a product takes the other factor as it is."""
    monkeypatch.setattr(binary, "_conj", lambda b, x: x)


def wrong_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a transform divides where the transform did, not where it did not."""
    monkeypatch.setattr(fourier, "NORMS", {norm: norm for norm in fourier.NORMS})


def worst_gradient(names: frozenset[str]) -> float:
    """How far gradients of random complex graphs of a few ops lie from differences."""
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(40):
        graph = draw_graph(
            lambda n: int(rng.integers(n)), 4, lambda op: op.name in names, dtypes.complex128
        )
        arrays = [
            draw_array(rng, n.type.dtype, n.type.shape, False, "contiguous") for n in graph.inputs
        ]
        if graph.outputs[0].type.dtype.is_inexact:
            worst = max(worst, gradient_error(graph, arrays, rng) or 0.0)
    return worst


PRODUCTS = frozenset(("mul", "add", "square", "sin", "sum"))
TRANSFORMS = frozenset(("fft", "irfft", "mul", "add"))


@pytest.mark.parametrize(
    ("bug", "names"), [(dropped_conjugate, PRODUCTS), (wrong_norm, TRANSFORMS)]
)
def test_differences_find_the_bug(
    bug: Patch, names: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worst_gradient(names) < 1e-6
    bug(monkeypatch)
    assert worst_gradient(names) > 1e-2
