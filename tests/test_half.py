"""Half precision end to end: float16 and bfloat16 in memory, float32 in registers.

Arithmetic is compared bit for bit with NumPy's float64 rounded to halves, over all halves or
many pairs of them; every op of the registry within its own bounds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import accel
import accel.nn.functional as F
from accel import Tensor, nn, optim
from accel.errors import DTypeError
from accel.ir import Builder, Graph, Op, TensorType, all_ops, dtypes
from accel.ir.op import Sample
from accel.runtime import state
from accel.runtime.compiler import compile_graph
from accel.targets.pure.halves import Code
from accel.targets.pure.machine import codegen, jit
from accel.targets.pure.nests.emit import emit_nest
from accel.targets.pure.nests.nest import Access, Load, Nest, Pointwise, Store
from accel.testing import check_graph

HALVES = (dtypes.float16, dtypes.bfloat16)
BOTH = pytest.mark.parametrize("half", HALVES, ids=str)
MODES = pytest.mark.parametrize(
    "mode", ["pure", pytest.param("torch", marks=pytest.mark.torch),
             pytest.param("auto", marks=pytest.mark.torch)]
)  # fmt: skip
RNG = np.random.default_rng(5)


def every(half: dtypes.DType) -> np.ndarray:
    """All 65,536 halves."""
    return np.arange(1 << 16, dtype=np.uint16).view(half.numpy)


def same_bits(found: Any, wanted: np.ndarray) -> None:
    """Every bit; of NaN only that it is one."""
    found = np.asarray(found)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    with np.errstate(invalid="ignore"):
        both_nan = np.isnan(found.astype(np.float64)) & np.isnan(wanted.astype(np.float64))
    word = np.dtype(f"u{wanted.dtype.itemsize}")
    differ = (found.view(word) != wanted.view(word)) & ~both_nan
    assert not differ.any(), (differ.sum(), found[differ][:3], wanted[differ][:3])


# -- rounding, bit for bit --------------------------------------------------------------------
@BOTH
def test_core_conversions(half: dtypes.DType) -> None:
    """To nearest, ties to even, once: float64 just beside a tie does not become the tie."""
    numbers = every(half)
    with np.errstate(invalid="ignore"):
        same_bits(Tensor(numbers).astype("float32"), numbers.astype(np.float32))
        same_bits(Tensor(numbers).astype("float64"), numbers.astype(np.float64))
    words = numbers.astype(np.float32).view(np.uint32)
    ties = np.concatenate([words | 0x1000, words | 0x8000, words | 0xFFF, words | 0x8001])
    single = np.concatenate([ties, RNG.integers(0, 2**32, 100_000).astype(np.uint32)])
    with np.errstate(all="ignore"):
        narrow = single.view(np.float32)
        same_bits(Tensor(narrow).astype(half), narrow.astype(half.numpy))
        between = numbers.astype(np.float64) * (1 + 2.0**-11)
        wide = np.concatenate([
            between, np.nextafter(between, 0), np.nextafter(between, np.inf),
            RNG.integers(0, 2**63, 100_000).view(np.float64), 2.0 ** RNG.uniform(-30, 17, 100_000),
        ])  # fmt: skip
        same_bits(Tensor(wide).astype(half), wide.astype(half.numpy))
    whole = RNG.integers(-(2**62), 2**62, 50_000) >> RNG.integers(0, 62, 50_000)
    with np.errstate(all="ignore"):
        same_bits(Tensor(whole).astype(half), whole.astype(half.numpy))
        small = numbers[np.abs(numbers.astype(np.float64)) < 2**31]
    assert np.array_equal(Tensor(small).astype("int32").numpy(), small.astype("f4").astype("i4"))


@BOTH
def test_core_arithmetic(half: dtypes.DType) -> None:
    numbers = every(half)
    x, y = RNG.choice(numbers, 200_003), RNG.choice(numbers, 200_003)
    with np.errstate(all="ignore"):
        wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
            wanted = getattr(np, name)(wide_x, wide_y).astype(half.numpy)
            found = getattr(accel, name)(Tensor(x), Tensor(y))
            if name in ("maximum", "minimum"):  # of zeros with different signs either
                found, wanted = found + 0.0, wanted + half.numpy.type(0)
            same_bits(found, wanted)
        for name in ("sqrt", "negative", "abs", "floor", "ceil", "trunc", "reciprocal", "square"):
            wanted = getattr(np, name)(numbers.astype(np.float64)).astype(half.numpy)
            same_bits(getattr(accel, name)(Tensor(numbers)), wanted)
        same_bits(accel.nextafter(Tensor(x), Tensor(y)), np.nextafter(x, y))
        zeros = np.array([0.0, -0.0, 0.0, -0.0, 1.0], half.numpy)
        for one in (zeros, zeros[::-1], -zeros, numbers[:5]):
            wanted = np.where(zeros == one, one, np.nextafter(zeros, one))
            same_bits(accel.nextafter(Tensor(zeros), Tensor(one)), wanted)


@BOTH
def test_core_each_op_rounds(half: dtypes.DType) -> None:
    """A fused chain gives what its ops give one by one."""
    x = RNG.standard_normal(1003).astype(half.numpy)

    def chain(x: Any) -> Any:
        y = x * 3 + 0.1
        return accel.where(y > 0, y * y - x, accel.relu(-y) / 7).astype("float32") * 1.5

    steps = x * half.numpy.type(3) + half.numpy.type(0.1)
    zero = half.numpy.type(0)
    rest = np.maximum(-steps, zero) / half.numpy.type(7)
    wanted = np.where(steps > 0, (steps * steps - x).astype(half.numpy), rest.astype(half.numpy))
    same_bits(accel.compile(chain)(x), wanted.astype("f4") * np.float32(1.5))
    same_bits(chain(Tensor(x)), wanted.astype("f4") * np.float32(1.5))


@BOTH
@pytest.mark.parametrize("view", [
    lambda x: x[::-1], lambda x: x.T, lambda x: x[:, ::2], lambda x: x[:, ::3], lambda x: x[:0],
    lambda x: np.broadcast_to(x[:1], x.shape), lambda x: x[0, 0], lambda x: x[:, :1],
])  # fmt: skip
def test_core_any_layout(half: dtypes.DType, view: Callable[[np.ndarray], np.ndarray]) -> None:
    x = view(RNG.standard_normal((67, 130)).astype(half.numpy))
    for found in (accel.compile(lambda x: x * 2 + x)(x), Tensor(x) * 2 + Tensor(x)):
        same_bits(found, (x * half.numpy.type(2) + x).astype(half.numpy))
    total = accel.sum(Tensor(x)).numpy()
    scale = np.abs(x.astype(np.float64)).sum()
    error = abs(float(total) - x.astype(np.float64).sum())
    assert error <= float(ml_dtypes.finfo(half.numpy).eps) * scale


@BOTH
def test_core_totals_are_rounded_once_they_are_complete(half: dtypes.DType) -> None:
    """Sums end in float64, of which no processor makes a half by one instruction."""
    x = RNG.uniform(0.5, 1.5, (17, 1)).astype(half.numpy)
    total = accel.compile(lambda x: (accel.exp2(accel.sum(x, 0) / 9), accel.prod(x, 0) * 2))(x)
    wide = x.astype(np.float64)
    summed = wide.sum(0).astype(half.numpy) / half.numpy.type(9)
    same_bits(total[1], (wide.prod(0).astype(half.numpy) * half.numpy.type(2)))
    assert abs(float(total[0]) - 2 ** float(summed[0])) <= 2e-2


@BOTH
def test_core_products_round_before_the_work_on_them(half: dtypes.DType) -> None:
    """Sums of whole numbers are exact, so that all rounding is that of the halves."""
    numpy = half.numpy.type

    def work(x: Any, w: Any, row: Any, column: Any) -> tuple[Any, ...]:
        y = x @ w
        scaled = accel.relu(y * 0.1 + row) - column
        return y, scaled, scaled.astype("float32") * 1.5, y > row

    def narrowing(x: Any, w: Any, row: Any) -> Any:
        return (x.astype("float64") @ w.astype("float64") / 3).astype(half) + row

    fused, narrowed = accel.compile(work), accel.compile(narrowing)
    for m, n, k in ((1, 1, 1), (5, 3, 4), (33, 65, 70), (64, 16, 3)):
        x, w = (RNG.integers(-99, 99, shape).astype(half.numpy) for shape in ((m, k), (k, n)))
        row, columns = (RNG.standard_normal(s).astype(half.numpy) for s in ((n,), (m, 3)))
        column = columns[:, 1:2]
        exact = x.astype("f8") @ w.astype("f8")
        with np.errstate(over="ignore"):
            y = exact.astype(half.numpy)
        scaled = np.maximum(y * numpy(0.1) + row, numpy(0)) - column
        wanted = (y, scaled, scaled.astype("f4") * np.float32(1.5), y > row)
        for one, other in zip(fused(x, w, row, column), wanted, strict=True):
            same_bits(one, other)
        same_bits(narrowed(x, w, row), (exact / 3).astype(half.numpy) + row)
    assert fused.explain(x, w, row, column).kernel_count == 1


@BOTH
def test_results_do_not_depend_on_the_number_of_threads(half: dtypes.DType) -> None:
    x = RNG.standard_normal((600, 1500)).astype(half.numpy)

    def work(x: Any) -> tuple[Any, ...]:
        return accel.gelu(x) * 3 + x, accel.softmax(x, -1), accel.sum(x, 0), accel.mean(x), x.T + 1

    compiled = accel.compile(work)
    before = accel.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            accel.set_num_threads(count)
            found.append([np.asarray(y).tobytes() for y in compiled(x)])
    finally:
        accel.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@BOTH
def test_conversions_on_neon(half: dtypes.DType) -> None:
    """By instructions where there are any, and never by a library."""
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = jit.Machine("aarch64-unknown-linux-gnu", "cortex-a72", "+neon", 16, True)
    code = Code()
    value = code.from_memory(code.add(Load(dtypes.uint16, 0)), half)
    wide = code.converted(value, half, dtypes.float64)
    wide = code.converted(code.add(Pointwise(dtypes.float64, "sqrt", (wide,))),
                          dtypes.float64, half)  # fmt: skip
    code.add(Store(dtypes.uint16, 1, code.to_memory(wide, half)))
    accesses = tuple(Access(k, dtypes.uint16, (1,)) for k in range(2))
    text = emit_nest(Nest((100,), (False,), accesses, tuple(code.code)), "k", machine).text
    assert not codegen._undefined_symbols(jit.emit_object(text, machine))
    if half is dtypes.float16:
        assembly = jit.assembly(text, machine)
        assert "fcvtl\tv" in assembly and "fcvtn\tv" in assembly


def test_levels(run_at_every_level: Callable[[], None]) -> None:
    run_at_every_level()


# -- every op of the registry -----------------------------------------------------------------
def halved(sample: Sample, half: dtypes.DType) -> Sample | None:
    """A float32 sample in halves; None for those of other dtypes."""
    operands, found = [], False
    for o in sample.operands:
        if isinstance(o, TensorType) and o.dtype is dtypes.float32:
            o, found = TensorType(half, o.shape), True
        elif isinstance(o, np.ndarray) and o.dtype == np.float32:
            with np.errstate(all="ignore"):
                o, found = o.astype(half.numpy), True
        elif isinstance(o, TensorType) and o.dtype.is_inexact:
            return None
        operands.append(o)
    attrs = {k: half if v is dtypes.float32 else v for k, v in sample.attrs.items()}
    return Sample(tuple(operands), attrs, sample.low, sample.high) if found else None


def drawn(sample: Sample, rng: np.random.Generator) -> list[Any]:
    low = -3.0 if sample.low is None else sample.low
    high = 3.0 if sample.high is None else sample.high

    def array(o: Any) -> Any:
        if not isinstance(o, TensorType):
            return o
        if o.dtype.kind == "b":
            return np.asarray(rng.random(o.shape) < 0.5)
        if o.dtype.kind in "iu":
            least = max(int(np.ceil(low)), 0) if o.dtype.kind == "u" else int(np.ceil(low))
            return np.asarray(rng.integers(least, int(high) + 1, o.shape)).astype(o.dtype.numpy)
        with np.errstate(over="ignore"):
            return np.asarray(rng.uniform(low, high, o.shape)).astype(o.dtype.numpy)

    return [array(o) for o in sample.operands]


def graph_in_halves(op: Op) -> tuple[Graph, list[np.ndarray]]:
    """All samples of an op in both halves, in one graph."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    b = Builder()
    arrays: list[np.ndarray] = []
    inputs, outputs = [], []
    samples = [halved(s, half) for half in HALVES for s in (op.samples or tuple)()]
    for wanted in filter(None, samples):
        operands: list[Any] = []
        for value in drawn(wanted, rng):
            if isinstance(value, (np.ndarray, np.generic)):
                array = np.asarray(value)
                arrays.append(array)
                value = b.input(f"x{len(inputs)}",
                                TensorType(dtypes.to_dtype(array.dtype), array.shape))  # fmt: skip
                inputs.append(value)
            operands.append(value)
        outputs.append(b.apply(op, *operands, **wanted.attrs))
    return b.graph(inputs, outputs), arrays


OPS = [
    op for op in sorted(all_ops().values(), key=lambda op: op.name)
    if op.category != "host" and any(halved(s, HALVES[0]) for s in (op.samples or tuple)())
]  # fmt: skip
#: What LAPACK computes, which has no halves: they are refused, as by NumPy and torch.
REFUSING = [op for op in all_ops().values() if op.category == "host" and op.samples]
#: What NumPy computes of halves, and why; beside ops without kernels, which say so themselves.
ON_THE_REFERENCE = {
    "complex": "complex numbers have no kernels", "cast": "to complex numbers",
}  # fmt: skip


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_on_the_pure_target(op: Op) -> None:
    graph, arrays = graph_in_halves(op)
    check_graph(graph, arrays, ["pure"])
    with state.override(mode="pure") as settings:
        runs = [step.run for step in compile_graph(graph, settings).steps]
    interpreted = {name for run in runs for name in run.reference_ops}
    assert all(all_ops()[name].why_unsupported or name in ON_THE_REFERENCE for name in interpreted)


@BOTH
@pytest.mark.parametrize("op", REFUSING, ids=lambda op: op.name)
def test_linear_algebra_refuses_halves(op: Op, half: dtypes.DType) -> None:
    b = Builder()
    for sample in op.samples() if op.samples else ():
        wanted = halved(sample, half)
        if wanted is not None:
            types = [o if isinstance(o, TensorType)
                     else TensorType(dtypes.to_dtype(o.dtype), o.shape) for o in wanted.operands]
            operands = [b.input("x", t) for t in types]
            with pytest.raises(DTypeError, match="does not take"):
                b.apply(op, *operands, **wanted.attrs)


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_on_the_torch_target(op: Op) -> None:
    check_graph(*graph_in_halves(op), ["torch"])


# -- fusion -----------------------------------------------------------------------------------
@BOTH
def test_halves_fuse_as_float32_does(half: dtypes.DType) -> None:
    x = RNG.standard_normal((8, 64)).astype(half.numpy)
    weight = RNG.standard_normal(64).astype(half.numpy)
    for function, kernels in (
        (lambda x, w: accel.gelu(x * w + 1) * accel.sigmoid(x), 1),
        (lambda x, w: accel.softmax(x * w, -1), 1), (lambda x, w: F.layer_norm(x, (64,), w), 1),
        (lambda x, w: accel.sum(x.astype("float32") * 2, 0), 1),
        (lambda x, w: (x @ accel.outer(w, w)) + 1, 2), (lambda x, w: accel.cumsum(x, 1) * w, 4),
    ):
        explained = accel.compile(function).explain(x, weight)
        assert explained.kernel_count == kernels, str(explained)
        assert "reference" not in str(explained)


# -- models -----------------------------------------------------------------------------------
def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(72, 16), nn.LayerNorm(16), nn.Linear(16, 4),
    )  # fmt: skip


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU(),
                         nn.Linear(16, 4))  # fmt: skip


def block() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)


def sequence() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 16), nn.Dropout(0.1), nn.Linear(16, 4))


@BOTH
@pytest.mark.parametrize("make, x, kernels", [
    (perceptron, (8, 12), 3), (network, (4, 3, 16, 16), 17), (block, (20, 2, 16), 12),
    (sequence, None, 4),
])  # fmt: skip
def test_models_need_no_reference(
    half: dtypes.DType, make: Callable[[], nn.Module], x: tuple[int, ...] | None, kernels: int
) -> None:
    model = make().to(half)
    data = accel.asarray([[1, 2], [3, 8]]) if x is None else accel.randn(*x).astype(half)
    optimizer = optim.AdamW(model.parameters(), 1e-3)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = accel.mean(model(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    forward = accel.compile(lambda x: model(x)).explain(data)
    assert forward.kernel_count == kernels, str(forward)
    for explained in (forward, accel.compile(step).explain(data)):
        assert "reference" not in str(explained) and explained.native_calls == 1


@BOTH
@pytest.mark.parametrize("queries, causal", [(3, False), (40, False), (40, True)])
def test_attention_and_its_gradient(half: dtypes.DType, queries: int, causal: bool) -> None:
    """Halves are widened, the rest is that of float32, and rounded at the end."""
    shapes = ((2, queries, 8), (2, 40, 8), (2, 40, 8))
    halves = [RNG.standard_normal(s).astype(half.numpy) for s in shapes]

    def results(*arrays: np.ndarray) -> list[Any]:
        q, k, v = (Tensor(a, requires_grad=True) for a in arrays)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out.sum().backward()
        return [out.detach(), q.grad, k.grad, v.grad]

    eps = float(ml_dtypes.finfo(half.numpy).eps)
    for one, other in zip(results(*halves), results(*(a.astype("f4") for a in halves)),
                          strict=True):  # fmt: skip
        assert one.dtype is half
        wanted = other.numpy()
        error = np.abs(one.numpy().astype("f4") - wanted)
        # Half a unit of the result, and the result's own rounding inside its gradient.
        assert (error <= 2 * eps * (np.abs(wanted) + np.abs(wanted).max())).all()


@MODES
@BOTH
def test_models_train(half: dtypes.DType, mode: str) -> None:
    with accel.mode(mode):
        for make in (lambda p: optim.SGD(p, lr=0.05, momentum=0.9), lambda p: optim.Adam(p, 1e-3),
                     lambda p: optim.AdamW(p, 1e-3)):  # fmt: skip
            accel.manual_seed(0)
            model = network().half() if half is dtypes.float16 else network().to(half)
            assert {p.dtype for p in model.parameters()} == {half}
            x, y = accel.randn(4, 3, 16, 16).astype(half), accel.asarray([0, 1, 2, 3])
            optimizer = make(model.parameters())

            def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                return loss

            compiled = accel.compile(step)
            losses = [step(x, y).item(), *(compiled(x, y).item() for _ in range(8))]
            assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
            assert {p.dtype for p in model.parameters()} == {half}
            assert all(p.grad.dtype is half for p in model.parameters())


@MODES
@BOTH
def test_attention_trains(half: dtypes.DType, mode: str) -> None:
    with accel.mode(mode):
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0).to(half)
        loss = accel.mean(layer(accel.randn(2, 5, 16).astype(half)) ** 2)
        loss.backward()
        assert loss.dtype is half
        assert all(np.isfinite(p.grad.astype("float32").numpy()).all() for p in layer.parameters())


def test_modules_convert_there_and_back() -> None:
    model = network()
    for convert, dtype in (
        (model.half, accel.float16), (model.bfloat16, accel.bfloat16),
        (model.double, accel.float64), (model.float, accel.float32),
    ):  # fmt: skip
        assert convert() is model
        assert {p.dtype for p in model.parameters()} == {dtype}
    assert model[1].num_batches_tracked.dtype is accel.int64


# -- making and reading -----------------------------------------------------------------------
@MODES
@BOTH
def test_making(half: dtypes.DType, mode: str) -> None:
    with accel.mode(mode):
        for make in (
            lambda: accel.zeros(3, dtype=half), lambda: accel.full((2,), 0.1, dtype=half),
            lambda: accel.arange(5, dtype=half), lambda: accel.linspace(0, 1, 7, dtype=half),
            lambda: accel.eye(3, dtype=half), lambda: accel.asarray([1.5, 2], dtype=half),
            lambda: accel.ones_like(accel.asarray([1], dtype=half)),
        ):  # fmt: skip
            for made in (make(), accel.compile(make)()):
                assert made.dtype is half and np.asarray(made).dtype == half.numpy
            np.testing.assert_array_equal(make().numpy(), accel.compile(make)().numpy())
        for draw in (lambda: accel.rand(1000, dtype=half), lambda: accel.randn(1000, dtype=half),
                     lambda: accel.uniform(0, 1, (1000,), dtype=half),
                     lambda: accel.bernoulli(0.5, (1000,), dtype=half)):  # fmt: skip
            accel.manual_seed(3)
            drawn_lazily = draw().numpy()
            accel.manual_seed(3)
            same_bits(accel.compile(draw)(), drawn_lazily)
            assert drawn_lazily.dtype == half.numpy and np.isfinite(drawn_lazily.astype("f4")).all()


@BOTH
def test_reading(half: dtypes.DType) -> None:
    values = np.array([1.5, -2.25, 0.0], half.numpy)
    x = accel.asarray(values)
    assert x.dtype is half and x.numpy().dtype == half.numpy
    assert x.tolist() == [1.5, -2.25, 0.0] and x[0].item() == 1.5 and float(x[1]) == -2.25
    assert f"dtype={half.name}" in repr(x) and "1.5" in repr(x)
    assert np.asarray(x).dtype == half.numpy and (x + values).dtype is half
    assert (x + 1).dtype is half and (x + accel.ones(3)).dtype is accel.float32
    assert (x * accel.asarray(values.astype(np.float16)) if half is accel.bfloat16 else x * 1.0
            ).dtype is (accel.float32 if half is accel.bfloat16 else half)  # fmt: skip
    assert accel.sort(x).tolist() == [-2.25, 0.0, 1.5] and accel.max(x).item() == 1.5
    assert x[accel.asarray([2, 0])].tolist() == [0.0, 1.5]
    x[0] = 0.1
    assert x[0].item() == float(half.numpy.type(0.1))
