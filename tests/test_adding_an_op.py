"""An op is declared once: one declaration and its lowerings, and everything knows it.

Ops of the tests' own come and go here, each with no more than that. And no rule of the compiler
stands twice, or for an op that does not exist.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import DTypeError
from accel.frontend.functions.elementwise import function_of
from accel.frontend.tensors.recording import record
from accel.inspect.support import support
from accel.ir import Builder, Op, TensorType, all_ops, dtypes, parse
from accel.ir import op as registry
from accel.ir.op import ErrorSample, Sample, register
from accel.targets.pure.nests import lowering as native
from accel.targets.torch import lowering as torch_lowering
from accel.testing import assert_targets_agree, check_graph
from accel.testing.arrays import draw_operands
from accel.testing.generate import draw_graph

COMPLEX = TensorType(dtypes.complex64, (3,))
X = np.linspace(-2, 2, 37, dtype=np.float32)


@contextmanager
def op_added(op: Op) -> Iterator[Op]:
    """`op` in the registry, and afterwards neither it nor what was registered for it."""
    register(op)
    try:
        yield op
    finally:
        for table in (registry._REGISTRY, native.LOWERINGS, torch_lowering._MAKERS):
            table.pop(op.name, None)  # type: ignore[attr-defined]


def samples() -> list[Sample]:
    return [Sample((TensorType(d, s),), {"scale": 0.5})
            for d in (dtypes.float32, dtypes.float64) for s in ((), (0, 3), (5, 7))]  # fmt: skip


def declared(name: str, **more: Any) -> Op:
    """``(scale * x)**3``."""
    with_defaults: dict[str, Any] = {
        "form": "pointwise", "category": "elementwise", "arity": (1, 1), "kinds": "f",
        "attrs": {"scale": 1.0}, "reference": lambda x, *, scale: (scale * x) ** 3, "ulp": 4.0,
        "samples": samples, "doc": "The cube of the scaled operand.",
        "error_samples": lambda: [ErrorSample((COMPLEX,), {}, DTypeError)],
    }  # fmt: skip
    return Op(name=name, **{**with_defaults, **more})


def cube_gradient(b: Builder, g: Any, node: Any) -> list[Any]:
    (x,), scale = node.inputs, node.attrs["scale"]
    return [b.mul(g, b.mul(3 * scale**3, b.mul(x, x)))]


@pytest.fixture
def cubed() -> Iterator[Op]:
    """A pointwise op with a lowering for each target."""
    with op_added(declared("cubed_with_lowerings", gradient=cube_gradient)) as op:

        @native.lowers(op.name)
        def write(site: native.Site, at: native.Application) -> str:
            lanes = site.lanes(at.dtype)
            x = lanes.mul(at.inputs[0], at.attrs["scale"])
            return lanes.mul(lanes.mul(x, x), x)

        @torch_lowering.lowers(op.name)
        def call(context: Any, node: Any) -> Any:
            scale = node.attrs["scale"]
            return lambda x: (scale * x) ** 3

        yield op


@pytest.fixture
def expanded() -> Iterator[Op]:
    """A composite: ops that there are already, and nothing else."""

    def expand(b: Builder, x: Any, *, scale: float) -> Any:
        y = b.mul(x, scale)
        return b.mul(b.mul(y, y), y)

    with op_added(declared("cubed_by_expansion", form="composite", expand=expand)) as op:
        yield op


@pytest.fixture
def referred() -> Iterator[Op]:
    """The declaration alone, which says why."""
    op = declared(
        "cubed_by_numpy", form="opaque", gradient=cube_gradient, infer=lambda x, **attrs: x,
        error=lambda v, e, out, a: np.zeros(out.shape), unsupported="nobody wrote a kernel",
    )  # fmt: skip
    with op_added(op):
        yield op


@pytest.fixture(params=["cubed", "expanded", "referred"])
def added(request: pytest.FixtureRequest) -> Op:
    op: Op = request.getfixturevalue(request.param)
    return op


# -- what follows from the declaration -------------------------------------------------------
def test_it_is_a_function_lazily_and_compiled(added: Op) -> None:
    function = function_of(added.name)
    wanted = (0.5 * X.astype(np.float64)) ** 3
    for call in (function, accel.compile(function)):
        found = call(accel.asarray(X), 0.5)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
    assert "cube of the scaled" in (function.__doc__ or "")
    assert "scale" in str(function.__signature__)  # type: ignore[attr-defined]
    with pytest.raises(DTypeError):
        function(accel.asarray([1j]))


def test_it_is_a_method(added: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel.Tensor, "cubed", function_of(added.name), raising=False)
    np.testing.assert_allclose(accel.asarray(X).cubed(scale=2.0).numpy(), (2 * X) ** 3, rtol=1e-6)


def test_it_is_differentiated_twice(added: Op) -> None:
    def total(x: Any) -> Any:
        return record(added.name, x, scale=0.5).sum()

    slope = accel.grad(total)
    np.testing.assert_allclose(slope(accel.asarray(X)).numpy(), 3 * X**2 / 8, rtol=1e-5)
    curve = accel.grad(lambda x: slope(x).sum())
    np.testing.assert_allclose(accel.compile(curve)(X).numpy(), 6 * X / 8, rtol=1e-5)


def test_its_text_reads_back(added: Op) -> None:
    b = Builder()
    x = b.input("x", TensorType(dtypes.float32, (3,)))
    graph = b.graph([x], [b.apply(added, x, scale=0.25)])
    assert f"{added.name}(%x, scale=0.25)" in str(graph) and parse(str(graph)) == graph


def on_its_samples(op: Op, target: str) -> None:
    rng = np.random.default_rng(0)
    for sample in op.samples() if op.samples else ():
        b = Builder()
        (array,) = draw_operands(sample, rng)
        x = b.input("x", sample.operands[0])
        check_graph(b.graph([x], [b.apply(op, x, **sample.attrs)]), [array], [target])


def test_targets_agree(added: Op) -> None:
    on_its_samples(added, "pure")
    assert_targets_agree(lambda x: record(added.name, x * 2) + 1, X, targets=["pure"])


@pytest.mark.torch
def test_targets_agree_on_torch(added: Op) -> None:
    on_its_samples(added, "torch")


def test_the_fuzzer_draws_it(added: Op) -> None:
    rng = np.random.default_rng(1)
    wanted = (added.name, "add")
    drawn = [draw_graph(lambda n: int(rng.integers(n)), only=lambda op: op.name in wanted,
                        dtype=dtypes.float32) for _ in range(20)]  # fmt: skip
    assert sum(graph.count(added.name) for graph in drawn) > 5


NATIVELY = {"cubed_with_lowerings": "native", "cubed_by_expansion": "expansion",
            "cubed_by_numpy": "reference"}  # fmt: skip


def test_the_table_of_support_shows_it(added: Op) -> None:
    found = {s.dtype.name: s for s in support(added, "pure")}
    assert found["float32"].by == NATIVELY[added.name] and "complex64" not in found
    assert found["float32"].reason == added.unsupported


@pytest.mark.torch
def test_the_table_of_support_shows_it_on_torch(added: Op) -> None:
    found = {s.dtype.name: s for s in support(added, "torch")}
    by = "torch" if added.name == "cubed_with_lowerings" else NATIVELY[added.name]
    assert found["float32"].by == by and found["float32"].reason == added.unsupported


def test_explain_and_statistics_know_it(added: Op) -> None:
    f = accel.compile(lambda x: accel.exp(record(added.name, x + 1)) * 2)
    text = str(f.explain(X))
    assert added.name in text
    assert ("NumPy reference" in text) == (added.name == "cubed_by_numpy")
    assert added.unsupported in text
    f(X)
    accel.reset_stats()
    f(X)
    assert accel.stats().reference_count == (added.name == "cubed_by_numpy")


def test_it_fuses(cubed: Op, expanded: Op) -> None:
    for op in (cubed, expanded):
        f = accel.compile(lambda x: accel.exp(record(op.name, x + 1, scale=0.5)) * 2)
        assert f.explain(X).kernel_count == 1


def test_it_can_go_again() -> None:
    before = set(all_ops())
    with op_added(declared("cubed_for_a_while")):
        assert set(all_ops()) - before == {"cubed_for_a_while"}
    assert set(all_ops()) == before


# -- no rule stands twice or for nothing ------------------------------------------------------
def test_a_name_can_be_taken_once(cubed: Op) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        register(declared(cubed.name))
    for lowers in (native.lowers, torch_lowering.lowers):
        with pytest.raises(ValueError, match=r"two .* lowerings"):
            lowers(cubed.name)(lambda *arguments: None)  # type: ignore[arg-type, return-value]


#: Written by the compiler itself; they stand in no graph.
INTERNAL = {"from_half", "to_half", "to_odd"}


def test_every_lowering_is_of_an_op() -> None:
    from accel.targets.torch import program  # what enters the makers

    assert program
    assert set(native.LOWERINGS) - INTERNAL <= set(all_ops())
    assert set(torch_lowering._MAKERS) <= set(all_ops())


def test_natively_lowered_ops_are_pointwise() -> None:
    ops = all_ops()
    assert all(ops[n].pointwise or ops[n].form == "composite" for n in native.LOWERINGS if n in ops)


#: Words of tables that are no ops: forms of one in vector math, and categories.
OTHER_WORDS = {"gelu_tanh", *INTERNAL}


def modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        yield importlib.import_module(found.name)


@pytest.mark.parametrize("package", ["accel.passes", "accel.targets", "accel.testing"])
def test_tables_of_ops_name_ops(package: str) -> None:
    """A table most of whose words are ops has no other words."""
    ops = set(all_ops())
    seen = 0
    for module in modules(package):
        if ".vecmath" in module.__name__:  # names of its own functions
            continue
        for name, table in vars(module).items():
            if name.startswith("__") or not isinstance(table, (frozenset, set, dict, tuple, list)):
                continue
            words = {w for w in table if isinstance(w, str)}
            if len(words) < len(table) or len(words & ops) * 2 <= len(words):
                continue
            seen += 1
            assert words <= ops | OTHER_WORDS, f"{module.__name__}.{name}: {words - ops}"
    assert seen
