"""Derivatives of every op: of first and second order, in reverse and forward mode.

The NumPy reference in float64 is the function, and its central differences along random
directions are what its derivatives must give. A gradient g with respect to complex numbers z means
dL = Re <g, dz>, as torch has it: numbers are differentiated as pairs of real ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import GradientError, LinAlgError
from accel.ir import Builder, Graph, Node, Op, TensorType, all_ops, dtypes, verify
from accel.ir.ops.matrices import adjoint
from accel.passes.differentiate import differentiate
from accel.passes.push_forward import push_forward
from accel.targets.reference import run_graph
from accel.testing import check_graph
from accel.testing.arrays import draw_operands

EVERY_OP = pytest.mark.parametrize("op", all_ops().values(), ids=lambda op: op.name)

#: A step's truncation costs h² times a third derivative, rounding 2⁻⁵³/h times the value: about
#: 1e-10 of numbers around 1, and functions here grow both by less than 1e5.
STEP, TOLERANCE = 1e-6, 1e-5

#: Functions of Hermitian matrices, which look at one triangle: their gradients are Hermitian too.
OF_HERMITIAN = {"cholesky", "eigh", "eigvalsh"}


@dataclass(frozen=True)
class Case:
    """A sample of an op: its operands, and its attributes."""

    op: Op
    values: tuple[Any, ...]
    attrs: dict[str, Any]

    @property
    def arrays(self) -> list[np.ndarray]:
        """The operands that are no numbers."""
        return [np.asarray(v) for v in self.values if isinstance(v, (np.ndarray, np.generic))]

    def record(self, b: Builder) -> tuple[Node, list[Node]]:
        """The op in `b`, on an input for each array."""
        inputs = [
            b.input("x", TensorType(dtypes.to_dtype(a.dtype), a.shape)) for a in self.arrays
        ]
        given = iter(inputs)
        operands = [
            next(given) if isinstance(v, (np.ndarray, np.generic)) else v for v in self.values
        ]
        return b.apply(self.op, *operands, **self.attrs), inputs

    def record_smooth(self, b: Builder) -> tuple[Node, list[Node]]:
        """The same as a function of any numbers that has one value."""
        node, inputs = self.record(b)
        if self.op.name in OF_HERMITIAN or self.attrs.get("hermitian"):
            x = b.mul(b.add(inputs[0], adjoint(b, inputs[0])), 0.5)
            node = b.apply(self.op, x, *node.inputs[1:], **self.attrs)
        if self.attrs.get("part") in ("eigenvectors", "U", "Vh") and node.type.dtype.kind == "c":
            node = b.abs(node)  # whatever their phases are
        return node, inputs


def cases_of(op: Op) -> list[Case]:
    """The samples of ordinary finite numbers that have floating or complex results."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    found = []
    for sample in op.samples() if op.samples else ():
        case = Case(op, tuple(draw_operands(sample, rng)), dict(sample.attrs))
        node, inputs = case.record(Builder())
        numbers = [np.abs(a) for a in case.arrays if a.dtype.kind not in "biu"]
        ordinary = all(n.astype(float).max(initial=0) < 1e3 for n in numbers)
        if ordinary and node.type.dtype.is_inexact and moving(inputs):
            found.append(case)
    return found


def wide_cases_of(op: Op) -> list[Case]:
    """The same in float64 and complex128, each once, and off the places where samples tie."""
    rng = np.random.default_rng(5)
    found: dict[Any, Case] = {}
    for case in cases_of(op):
        values = []
        for value in case.values:
            if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "biu":
                wide = np.complex128 if value.dtype.kind == "c" else np.float64
                value = np.asarray(value).astype(wide)
                value = value * (1 + 0.01 * rng.random(value.shape))
                value = np.asarray(value + 0.003 * rng.random(value.shape))
            values.append(value)
        made = Case(op, tuple(values), case.attrs)
        node, _ = made.record(Builder())
        if node.type.dtype.name not in ("float64", "complex128"):  # rounded, a staircase
            continue
        shapes = [(np.shape(v), np.asarray(v).dtype.kind) for v in values]
        found.setdefault(str((shapes, case.attrs)), made)
    return list(found.values())


def moving(inputs: Sequence[Node]) -> list[int]:
    """Which inputs have gradients."""
    return [i for i, n in enumerate(inputs) if n.type.dtype.is_inexact]


def like(type_: TensorType, rng: np.random.Generator) -> np.ndarray:
    """Random numbers of that type, around 1."""
    numbers: Any = rng.standard_normal(type_.shape)
    if type_.dtype.kind == "c":
        numbers = numbers + 1j * rng.standard_normal(type_.shape)
    return np.asarray(numbers).astype(type_.dtype.numpy)


def inner(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
    return float(sum(np.sum((np.conj(a) * b).real) for a, b in zip(x, y, strict=True)))


def difference(
    function: Graph, arrays: Sequence[np.ndarray], places: Sequence[int],
    along: Sequence[np.ndarray],
) -> list[np.ndarray]:  # fmt: skip
    """The derivatives of the outputs as the arrays in `places` move `along`."""
    ends = []
    for step in (STEP, -STEP):
        moved = list(arrays)
        for place, direction in zip(places, along, strict=True):
            moved[place] = np.asarray(arrays[place] + step * direction)
        ends.append(run_graph(function, moved))
    return [(after - before) / (2 * STEP) for after, before in zip(*ends, strict=True)]


def or_zeros(b: Builder, found: Sequence[Node | None], like: Sequence[Node]) -> list[Node]:
    return [
        g if g is not None else b.full(0, n.type.shape, n.type.dtype)
        for g, n in zip(found, like, strict=True)
    ]


@dataclass
class Derivatives:
    """The graphs of an op's derivatives, as functions of one list of arrays.

    These are the operands, a cotangent `w` of the result, and tangents `t` and `u` of the
    operands in `places`.
    """

    function: Graph
    pulled: Graph  # Jᴴ w
    pushed: Graph  # J t
    pulled_again: Graph  # the gradient of <u, Jᴴ w>
    pushed_pulled: Graph  # the gradient of <w, J t>
    places: list[int]

    @classmethod
    def of(cls, case: Case) -> Derivatives:
        b = Builder()
        node, inputs = case.record_smooth(b)
        places = moving(inputs)
        wrt = [inputs[i] for i in places]
        w = b.input("w", node.type)
        t, u = ([b.input(name, n.type) for n in wrt] for name in "tu")
        pulled = or_zeros(b, differentiate(b, [node], [w], wrt), wrt)
        pushed = or_zeros(b, push_forward(b, [node], wrt, t), [node])
        pulled_again = or_zeros(b, differentiate(b, pulled, u, wrt), wrt)
        pushed_pulled = or_zeros(b, differentiate(b, pushed, [w], wrt), wrt)
        for slope, operand in zip((*pulled, *pushed), (*wrt, node), strict=True):
            assert slope.type == operand.type
        graphs = [
            b.graph([*inputs, w, *t, *u], outputs)
            for outputs in ([node], pulled, pushed, pulled_again, pushed_pulled)
        ]
        return cls(*graphs, places)


def assert_close(found: Any, wanted: Any, what: str) -> None:
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * scale, err_msg=what)


def has_no_gradient(case: Case) -> bool:
    """Whether the op says so: of its attributes, or of a singular matrix."""
    b = Builder()
    node, inputs = case.record(b)
    wrt = [inputs[i] for i in moving(inputs)]
    try:
        found = differentiate(b, [node], [b.full(1, node.type.shape, node.type.dtype)], wrt)
        if case.op.category == "host":
            run_graph(b.graph(inputs, or_zeros(b, found, wrt)), case.arrays)
    except (GradientError, LinAlgError) as error:
        return "has no gradient" in str(error) or "Singular" in str(error)
    return False


@EVERY_OP
def test_derivatives_are_those_of_the_reference(op: Op) -> None:
    """Piecewise constant functions too: theirs are zero."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    for case in wide_cases_of(op):
        if has_no_gradient(case):
            continue
        all_ = Derivatives.of(case)
        directions = all_.function.inputs[len(case.arrays) :]
        arrays = [*case.arrays, *(like(n.type, rng) for n in directions)]
        (value,) = run_graph(all_.function, arrays)
        if not np.isfinite(value).all():  # a mean of nothing
            continue
        first, count = len(case.arrays), len(all_.places)
        w, t, u = arrays[first], arrays[first + 1 :][:count], arrays[first + 1 + count :]
        what = f"{op.name} of {case.values} {case.attrs}"

        wanted = difference(all_.function, arrays, all_.places, t)
        if op.name == "stop_gradient":
            wanted = [np.zeros_like(wanted[0])]
        assert_close(run_graph(all_.pushed, arrays), wanted, what)
        assert_close(inner(run_graph(all_.pulled, arrays), t), inner([w], wanted), what)

        wanted = difference(all_.pulled, arrays, all_.places, t)
        assert_close(inner(run_graph(all_.pulled_again, arrays), t), inner(u, wanted), what)
        wanted = difference(all_.pushed, arrays, all_.places, u)
        assert_close(inner(run_graph(all_.pushed_pulled, arrays), u), inner([w], wanted), what)


# -- on the targets, in the samples' own dtypes ----------------------------------------------
def derivatives_of_samples(op: Op) -> tuple[Graph, list[np.ndarray]]:
    """All gradients and tangents of an op's samples, in one graph."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    b = Builder()
    inputs: list[Node] = []
    arrays: list[np.ndarray] = []
    outputs: list[Node] = []
    for case in cases_of(op):
        if has_no_gradient(case):
            continue
        node, operands = case.record(b)
        wrt = [operands[i] for i in moving(operands)]
        w, *t = (b.input("d", n.type) for n in (node, *wrt))
        pulled = or_zeros(b, differentiate(b, [node], [w], wrt), wrt)
        pushed = or_zeros(b, push_forward(b, [node], wrt, t), [node])
        for slope, operand in zip((*pulled, *pushed), (*wrt, node), strict=True):
            assert slope.type == operand.type
        inputs += [*operands, w, *t]
        arrays += [*case.arrays, *(like(n.type, rng) for n in (w, *t))]
        outputs += [*pulled, *pushed]
    graph = b.graph(inputs, outputs)
    verify(graph)
    return graph, arrays


@EVERY_OP
def test_derivatives_agree_on_the_pure_target(op: Op) -> None:
    graph, arrays = derivatives_of_samples(op)
    found = check_graph(graph, arrays, ["pure"])
    assert found.outputs == len(graph.outputs)


@pytest.mark.torch
@EVERY_OP
def test_derivatives_agree_on_the_torch_target(op: Op) -> None:
    graph, arrays = derivatives_of_samples(op)
    found = check_graph(graph, arrays, ["torch"])
    assert found.outputs == len(graph.outputs)


# -- where slopes jump or are infinite: torch's choices, and no NaN where there is a number ------
NAN, INF = np.nan, np.inf
KINKS: dict[str, tuple[Callable[[Any], Any], list[float], list[float]]] = {
    "sqrt": (accel.sqrt, [0, 1], [INF, 0.5]),
    "sqrt inside where": (
        lambda x: accel.where(x > 0, accel.sqrt(accel.where(x > 0, x, 1)), 0), [0, 4, -1],
        [0, 0.25, 0]),
    "abs": (accel.abs, [0, 2, -2], [0, 1, -1]),
    "the norm of zeros": (accel.linalg.vector_norm, [0, 0], [0, 0]),
    "the norms of rows": (
        lambda x: accel.linalg.vector_norm(x.reshape(2, 2), axis=1), [0, 0, 3, 4],
        [0, 0, 0.6, 0.8]),
    "the 3-norm of zeros": (lambda x: accel.linalg.vector_norm(x, 3), [0, 0], [0, 0]),
    "the inf-norm": (lambda x: accel.linalg.vector_norm(x, INF), [1, -1, 0], [0.5, -0.5, 0]),
    "var of equal numbers": (accel.var, [1, 1, 1], [0, 0, 0]),
    "prod with a zero": (accel.prod, [0, 2, 3], [6, 0, 0]),
    "prod with two zeros": (accel.prod, [0, 0, 3], [0, 0, 0]),
    "cumprod with zeros": (lambda x: accel.cumprod(x, 0), [2, 0, 3, 0, 5], [1, 8, 0, 0, 0]),
    "max of equal numbers": (lambda x: accel.amax(x, axis=0), [2, 2, 1], [0.5, 0.5, 0]),
    "min of equal numbers": (lambda x: accel.amin(x, axis=0), [2, 1, 1], [0, 0.5, 0.5]),
    "maximum of equal numbers": (lambda x: accel.maximum(x, 1.0), [2, 1, 0], [1, 0.5, 0]),
    "clamp at its bounds": (lambda x: accel.clamp(x, 0, 1), [-1, 0, 0.5, 1, 2], [0, 1, 1, 1, 0]),
    "relu at 0": (accel.relu, [-1, 0, 1], [0, 0, 1]),
    "x**0": (lambda x: x**0, [0, 1], [0, 0]),
    "x**1 and 0": (lambda x: x**1, [0, 1], [1, 1]),
    "0 to the power": (lambda x: 0.0**x, [0, 1], [0, 0]),
    "logsumexp with -inf": (lambda x: accel.logsumexp(x, 0), [-INF, 1, 1], [0, 0.5, 0.5]),
    "softmax with -inf": (lambda x: accel.softmax(x, 0)[1], [-INF, 1, 1], [0, 0.25, -0.25]),
    "sinc at 0": (accel.sinc, [0, 1], [0, -1]),
    "sums without NaN": (accel.nansum, [2, NAN, 1], [1, 0, 1]),
    "softplus far out": (accel.nn.functional.softplus, [100, -1000], [1, 0]),
    "silu far out": (accel.nn.functional.silu, [100, -1000], [1, 0]),
    "sort of equal numbers": (lambda x: accel.sort(x) * np.arange(1.0, 4.0), [2, 2, 1], [2, 3, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name: str) -> None:
    function, numbers, wanted = KINKS[name]
    x = accel.asarray(np.array(numbers, np.float64))
    for both in (accel.grad, lambda f: accel.compile(accel.grad(f))):
        np.testing.assert_allclose(both(lambda x: function(x).sum())(x).numpy(), wanted, rtol=1e-12)
    again = accel.grad(lambda x: accel.grad(lambda x: function(x).sum())(x).sum())(x).numpy()
    assert not np.isnan(again).any() or INF in wanted
    moved = accel.jvp(lambda x: function(x).sum(), [x], [accel.ones_like(x)])[1]
    np.testing.assert_allclose(moved.item(), sum(wanted), rtol=1e-12)
