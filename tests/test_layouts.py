"""Every op on arrays of every layout and of every small shape, through the frontend.

The samples of an op, recorded in one function, run on operands that lie in memory as users'
arrays do. What is right is the reference on contiguous copies, within the ops' own bounds.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import accel
from accel.errors import AccelError
from accel.frontend.tensors.recording import record
from accel.ir import Builder, Graph, Op, TensorType, all_ops, dtypes
from accel.ir.op import Sample
from accel.targets.pure import program
from accel.testing import Expected, check_graph, compare, expected
from accel.testing.arrays import LAYOUTS, draw_operands, laid_out

OPS = [op for op in all_ops().values() if op.form != "structure" and op.name != "constant"]
SAME_VALUES = [layout for layout in LAYOUTS if layout != "broadcast"]


def by_name(op: Op) -> str:
    return op.name


class Application(NamedTuple):
    """An op's attributes and operands, with None in place of the arrays, which stand apart."""

    operands: tuple[Any, ...]
    attrs: dict[str, Any]
    arrays: list[np.ndarray]


def applications(op: Op, samples: Sequence[Sample]) -> list[Application]:
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    found = []
    for sample in samples:
        drawn = draw_operands(sample, rng)
        arrays = [np.asarray(o) for o in drawn if isinstance(o, (np.ndarray, np.generic))]
        rest = [None if isinstance(o, (np.ndarray, np.generic)) else o for o in drawn]
        found.append(Application(tuple(rest), dict(sample.attrs), arrays))
    return found


def completed(work: Application, arrays: Iterator[Any]) -> list[Any]:
    return [next(arrays) if o is None else o for o in work.operands]


def recorded(op: Op, work: Sequence[Application]) -> Callable[..., list[accel.Tensor]]:
    """A function of all arrays that applies the op to those of each application."""

    def function(*arrays: Any) -> list[accel.Tensor]:
        left = iter(arrays)
        return [record(op.name, *completed(w, left), **w.attrs) for w in work]

    return function


def graph_of(op: Op, work: Sequence[Application]) -> Graph:
    b = Builder()
    inputs, outputs = [], []
    for w in work:
        own = [b.input(f"x{len(inputs) + i}", TensorType(dtypes.to_dtype(a.dtype), a.shape))
               for i, a in enumerate(w.arrays)]  # fmt: skip
        inputs += own
        outputs.append(b.apply(op, *completed(w, iter(own)), **w.attrs))
    return b.graph(inputs, outputs)


def arrays_of(work: Sequence[Application]) -> list[np.ndarray]:
    return [a for w in work for a in w.arrays]


def check(
    function: Callable[..., Any], arrays: Sequence[np.ndarray], wanted: Sequence[Expected],
    strict: bool, what: str, make: Callable[[np.ndarray], Any] = lambda a: a,
) -> None:  # fmt: skip
    """Call `function`: results as `wanted`, arguments unchanged and not shared."""
    before = [a.tobytes() for a in arrays]
    found = [np.asarray(r.numpy()) for r in function(*map(make, arrays))]
    for place, (result, expectation) in enumerate(zip(found, wanted, strict=True)):
        mismatch = compare(result, expectation, zero_signs=strict)
        assert mismatch is None, f"{what}, sample {place}: {mismatch}"
        for argument in arrays:
            assert not np.may_share_memory(result, argument), f"{what}, sample {place}: a view"
    assert [a.tobytes() for a in arrays] == before, f"{what}: an argument was changed"


def relaid(arrays: Sequence[np.ndarray], layout: str) -> list[np.ndarray]:
    found = [laid_out(a, layout) for a in arrays]
    for array in found:
        array.flags.writeable = False  # so a write is an error even where it changes nothing
    return found


def in_every_layout(op: Op, lenient: bool) -> None:
    """Layouts change between the calls of one function, as users' arrays do."""
    work = applications(op, list(op.samples()) if op.samples else [])
    function, arrays = recorded(op, work), arrays_of(work)
    wanted = expected(graph_of(op, work), arrays, lenient)
    compiled = accel.compile(function)
    for layout in (*SAME_VALUES, "contiguous"):
        own = relaid(arrays, layout)
        check(compiled, own, wanted, not lenient, f"compiled, {layout}")
        if layout == "contiguous":
            continue
        kept = [a if a.flags.aligned else np.array(a) for a in own]
        check(compiled, kept, wanted, not lenient, f"compiled, Tensors, {layout}", accel.asarray)
    for layout in ("contiguous", "reversed", "strided", "unaligned"):
        own = relaid(arrays, layout)
        check(function, own, wanted, not lenient, f"lazily, {layout}")
        check(function, own, wanted, not lenient, f"lazily, Tensors, {layout}", accel.asarray)
    swapped = [a.astype(a.dtype.newbyteorder(">")) for a in arrays]
    check(compiled, swapped, wanted, not lenient, "compiled, other byte order")
    check(function, swapped, wanted, not lenient, "lazily, other byte order")


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_layout(op: Op) -> None:
    in_every_layout(op, lenient=False)


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_layout_on_torch(op: Op) -> None:
    with accel.mode("torch"):
        in_every_layout(op, lenient=True)


# -- programs for strides --------------------------------------------------------------------
NATIVE = {np.dtype(name) for name in ("float32", "float64", "int32", "int64", "bool")}


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels read the smallest arrays where they lie too; otherwise these are copied first."""

    def strides(array: np.ndarray, dtype: np.dtype) -> tuple[int, ...] | None:
        if array.dtype != dtype or any(s % dtype.itemsize for s in array.strides):
            return None
        pairs = zip(array.shape, array.strides, strict=True)
        return tuple([0 if n == 1 else s // dtype.itemsize for n, s in pairs])

    monkeypatch.setattr(program, "_strides", strides)
    monkeypatch.setattr(program, "_WORTH_PLANNING", 0)
    monkeypatch.setattr(program, "_PLANNED_NODE", 0)


@pytest.mark.parametrize("op", [op for op in OPS if not op.why_unsupported], ids=by_name)
def test_arrays_are_read_where_they_lie(op: Op, planned: None) -> None:
    made = applications(op, list(op.samples()) if op.samples else [])
    work = [w for w in made if w.arrays and all(a.dtype in NATIVE for a in w.arrays)][:8]
    arrays = arrays_of(work)
    wanted = expected(graph_of(op, work), arrays)
    compiled = accel.compile(recorded(op, work))
    for layout in ("reversed", "strided", "transposed"):
        check(compiled, relaid(arrays, layout), wanted, True, f"planned, {layout}")


# -- one row over and over -------------------------------------------------------------------
def on_broadcast_arrays(op: Op, lenient: bool) -> None:
    """Other values than the samples', where these are not what the op needs (a permutation,
    a matrix with an inverse) the error must be the reference's."""
    for work in applications(op, list(op.samples()) if op.samples else []):
        arrays = [laid_out(a, "broadcast") for a in work.arrays]
        function = accel.compile(recorded(op, [work]))
        try:
            wanted = expected(graph_of(op, [work]), [np.array(a) for a in arrays], lenient)
        except AccelError as error:
            with pytest.raises(type(error)):
                [r.numpy() for r in function(*arrays)]
            continue
        check(function, arrays, wanted, not lenient, "broadcast")


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_broadcast_arrays(op: Op) -> None:
    on_broadcast_arrays(op, lenient=False)


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_broadcast_arrays_on_torch(op: Op) -> None:
    with accel.mode("torch"):
        on_broadcast_arrays(op, lenient=True)


# -- the smallest shapes ---------------------------------------------------------------------
def resized(sample: Sample) -> Iterator[Sample]:
    """The sample with operands of no dimensions, of one element, and of none."""
    shapes = [o.shape for o in sample.operands if isinstance(o, (TensorType, np.ndarray))]
    extents = sorted({n for shape in shapes for n in shape})

    def with_shapes(change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Sample:
        def resize(operand: Any) -> Any:
            if isinstance(operand, TensorType):
                return TensorType(operand.dtype, change(operand.shape))
            if not isinstance(operand, np.ndarray):
                return operand
            shape = change(operand.shape)
            return np.array(operand.ravel()[:1].reshape(()) if not shape and operand.size
                            else operand[tuple(map(slice, shape))])  # fmt: skip

        whole = any(isinstance(o, TensorType) and o.dtype.is_integer for o in sample.operands)
        bounds = {"low": 0.0, "high": 0.0} if whole else {}  # an index of the first element
        return replace(sample, operands=tuple(map(resize, sample.operands)), **bounds)

    yield with_shapes(lambda shape: ())
    yield with_shapes(lambda shape: (1,) * len(shape))
    for extent, n in itertools.product(extents, (0, 1)):
        yield with_shapes(lambda shape: tuple(n if e == extent else e for e in shape))


def small_applications(op: Op) -> list[Application]:
    """Those that the op's rules allow."""
    samples = [s for sample in (op.samples() if op.samples else ()) for s in resized(sample)]
    found, seen = [], set()
    for work in applications(op, samples):
        key = str((work.operands, work.attrs, [(a.dtype, a.shape) for a in work.arrays]))
        if key in seen:
            continue
        seen.add(key)
        try:
            graph_of(op, [work])
        except AccelError:
            continue
        found.append(work)
    return found


def on_the_smallest_shapes(op: Op, target: str) -> None:
    """What raises stands alone, the rest together."""
    defined = []
    for work in small_applications(op):
        graph = graph_of(op, [work])
        try:
            expected(graph, work.arrays)
        except AssertionError:  # an index that the frontend would have had checked
            continue
        except AccelError:
            check_graph(graph, work.arrays, [target])
        else:
            defined.append(work)
    for few in (defined[i : i + 20] for i in range(0, len(defined), 20)):
        check_graph(graph_of(op, few), arrays_of(few), [target])


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_the_smallest_shapes(op: Op) -> None:
    on_the_smallest_shapes(op, "pure")


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_the_smallest_shapes_on_torch(op: Op) -> None:
    on_the_smallest_shapes(op, "torch")


# -- operands read backwards across the lanes -------------------------------------------------
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (70, 33), (130, 257), (0, 4)])
def test_turned_round(shape: tuple[int, int]) -> None:
    """Transposes of what runs backwards, which go through tiles as others do."""
    rng = np.random.default_rng(6)
    for dtype in ("float32", "float64", "int16", "complex64", "bool"):
        x = rng.integers(0, 90, shape).astype(dtype)
        cube = np.stack([x, x[::-1]])
        turns = (
            (lambda v: accel.rot90(v), np.rot90(x)),
            (lambda v: accel.rot90(v, -1), np.rot90(x, -1)),
            (lambda v: accel.flip(v, axis=(0, 1)).T, x[::-1, ::-1].T),
            (lambda v: accel.where(v[:, ::-1].T == v[::-1].T, v.T, 0),
             np.where(x[:, ::-1].T == x[::-1].T, x.T, 0)),
        )  # fmt: skip
        for function, wanted in turns:
            np.testing.assert_array_equal(accel.compile(function)(x).numpy(), wanted)
        found = accel.compile(lambda v: accel.permute(v[..., ::-1], (2, 0, 1)))(cube).numpy()
        np.testing.assert_array_equal(found, np.transpose(cube[..., ::-1], (2, 0, 1)))
