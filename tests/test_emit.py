"""Loop nests against an interpreter of nests in NumPy, and every lowering against its op."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import mmap
import re

import numpy as np
import pytest

import accel.ir.ops
from accel.errors import ArgumentError
from accel.ir import Builder, dtypes
from accel.ir.evaluate import evaluate
from accel.ir.op import all_ops, get_op, resolve
from accel.ir.types import TensorType
from accel.targets.pure.halves import Code, in_memory
from accel.targets.pure.machine import jit
from accel.targets.pure.machine.kernels import KernelCache
from accel.targets.pure.nests.emit import (
    emit_nest,
    pack_arguments,
    scratch_bytes,
    splittable,
    work_items,
)
from accel.targets.pure.nests.lowering import LOWERINGS, supported, unsupported_reason
from accel.targets.pure.nests.nest import (
    LINE,
    Access,
    Const,
    Gather,
    Iota,
    Load,
    Nest,
    Pointwise,
    Reduce,
    ScatterAdd,
    Store,
    operands_of,
)
from accel.targets.pure.nests.site import ELEMENTS, HALVES

assert accel.ir.ops  # fills the registry
F32, F64, I32, I64, BOOL = (
    dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.bool_,
)  # fmt: skip


def levels() -> list[str]:
    """The host, and each lower x86 level that it can run."""
    found = [""]
    for level in ("avx2", "sse2"):
        try:
            jit.machine_for_level(level)
        except ArgumentError:
            continue
        found.append(level)
    return found


@pytest.fixture(scope="module", params=levels(), ids=lambda level: level or "host")
def machine(request: pytest.FixtureRequest) -> jit.Machine:
    return jit.machine_for_level(request.param)


X = np.zeros(8192, np.float32)
CACHES: dict[jit.Machine, KernelCache] = {}


# -- running a nest, and what it should do -------------------------------------------------
def execute(nest, arrays, machine=None, cuts=()):
    """Run the kernel of `nest` on `arrays` (its operands); returns the status."""
    machine = machine or jit.host_machine()
    cache = CACHES.setdefault(machine, KernelCache(machine=machine))
    kernel = cache.get("kernel", emit_nest(nest, "kernel", machine).text)
    scratch = np.empty(scratch_bytes(nest, machine) // 8 + 1)
    pointers = [a.__array_interface__["data"][0] for a in (*arrays, scratch)]
    bases = np.array(pointers, np.int64)
    places = [(k, 0) for k in range(len(arrays))]
    block = np.array(pack_arguments(nest, places, (len(arrays), 0)), np.int64)
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
    )
    call = prototype(kernel.address)
    points = [0, *cuts, work_items(nest, machine)]
    status = 0
    for begin, end in itertools.pairwise(points):
        status = status or call(bases.ctypes.data, block.ctypes.data, begin, end)
    return status


REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "amax": np.max, "amin": np.min,
    "any": np.any, "all": np.all,
}  # fmt: skip


def view(array, access, extents):
    """The elements of an access over the whole domain, as a view."""
    strides = [s * array.itemsize for s in access.strides]
    return np.lib.stride_tricks.as_strided(array.reshape(-1)[access.offset :], extents, strides)


def places_of(nest, access, indices, index_strides, values):
    """The flat element number that every point of the domain addresses."""
    grid = np.full(nest.extents, access.offset, np.int64)
    for d, s in enumerate(access.strides):
        grid = grid + s * np.arange(nest.extents[d]).reshape([-1] + [1] * (grid.ndim - d - 1))
    for place, s in zip(indices, index_strides, strict=True):
        grid = grid + values[place] * s
    return grid


def interpret(nest, arrays):
    """Do with NumPy, on whole arrays, what the kernel of `nest` does."""
    values = []
    axes = tuple(d for d, r in enumerate(nest.reduced) if r)
    for i in nest.instructions:
        value = None
        access = nest.accesses[i.access] if hasattr(i, "access") else None
        if isinstance(i, Load):
            value = view(arrays[access.operand], access, nest.extents).copy()
        elif isinstance(i, Const):
            value = np.full(nest.extents, i.value, i.dtype.numpy)
        elif isinstance(i, Iota):
            shape = [-1] + [1] * (len(nest.extents) - i.dim - 1)
            numbers = i.start + i.step * np.arange(nest.extents[i.dim]).reshape(shape)
            value = np.broadcast_to(numbers.astype(i.dtype.numpy), nest.extents)
        elif isinstance(i, Pointwise):
            operands = [values[o] for o in i.inputs]
            value = evaluate(get_op(i.op), operands, i.attrs, TensorType(i.dtype, nest.extents))
        elif isinstance(i, Reduce):
            value = np.broadcast_to(fold(i, values[i.input], axes), nest.extents)
        elif isinstance(i, Gather):
            where = places_of(nest, access, i.indices, i.index_strides, values)
            value = arrays[access.operand].reshape(-1)[where]
        elif isinstance(i, Store):
            view(arrays[access.operand], access, nest.extents)[...] = values[i.input]
        elif isinstance(i, ScatterAdd):
            where = places_of(nest, access, i.indices, i.index_strides, values)
            np.add.at(arrays[access.operand].reshape(-1), where, values[i.input])
        values.append(value)


def fold(i, x, axes):
    """A reduction with its axes kept as 1, floats computed in float64."""
    with np.errstate(all="ignore"):
        if i.op in ("argmax", "argmin"):
            kept = [d for d in range(x.ndim) if d not in axes]
            moved = x.transpose(*kept, *axes).reshape([x.shape[d] for d in kept] + [-1])
            found = getattr(np, i.op)(moved, axis=-1)
            return np.expand_dims(found, axes)
        if x.dtype.kind == "f" and i.op in ("sum", "mean", "prod"):
            x = x.astype(np.float64)
        elif i.op in ("sum", "prod"):
            x = x.astype(i.dtype.numpy)
        return np.asarray(REDUCTIONS[i.op](x, axis=axes, keepdims=True)).astype(i.dtype.numpy)


def check(nest, arrays, machine=None, cuts=(), rtol=0.0):
    """The kernel and the interpreter must write the same into equal arrays."""
    expected = [a.copy() for a in arrays]
    interpret(nest, expected)
    assert execute(nest, arrays, machine, cuts) == 0
    for got, wanted in zip(arrays, expected, strict=True):
        if rtol and got.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol, err_msg=str(nest))
        else:
            np.testing.assert_array_equal(got, wanted, err_msg=str(nest))


def access(operand, array, strides=None, offset=0):
    """An access of `array`, by its own strides unless others are given."""
    own = tuple(s // array.itemsize for s in array.strides)
    return Access(operand, dtypes.to_dtype(array.dtype), own if strides is None else strides,
                  offset)  # fmt: skip


def draw(dtype, shape, seed=0, low=-3, high=3):
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else low, high + 1, shape).astype(dtype.numpy)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype.numpy)


def kept(array):
    """Strides of a result whose reduced extents are 1."""
    return tuple(
        0 if n == 1 else s // array.itemsize
        for n, s in zip(array.shape, array.strides, strict=True)
    )


# -- pointwise nests -----------------------------------------------------------------------
@pytest.mark.parametrize("extent", [0, 1, 3, 15, 16, 17, 63, 64, 65, 130, 1001])
def test_a_chain_matches_for_every_tail(extent, machine):
    x, y, out = draw(F32, extent, 1), draw(F32, extent, 2), np.zeros(extent + 7, np.float32)
    nest = Nest(
        (extent,), (False,),
        (access(0, x, (1,)), access(1, y, (1,)), access(2, out, (1,), 3)),
        (Load(F32, 0), Load(F32, 1), Const(F32, 2.5), Pointwise(F32, "mul", (0, 1)),
         Pointwise(F32, "add", (3, 2)), Pointwise(F32, "sqrt", (4,)), Store(F32, 2, 5)),
    )  # fmt: skip
    check(nest, [x, y, out], machine)


def long_chain(x, out, dtype, ops):
    """`ops` operations on the elements of x, each on the last one's result."""
    code = [Load(dtype, 0), Const(dtype, 0.75 if dtype.kind == "f" else 3)]
    for k in range(ops):
        code.append(Pointwise(dtype, ("mul", "add")[k % 2], (len(code) - 1 if k else 0, 1)))
    accesses = (access(0, x), access(1, out, (1,)))
    return Nest(x.shape, (False,), accesses, (*code, Store(dtype, 1, len(code) - 1)))


@pytest.mark.parametrize("ops", [40, 150])
@pytest.mark.parametrize("dtype", [F32, F64, I64, dtypes.int8], ids=str)
def test_a_long_chain_matches_for_every_tail(dtype, ops, machine, guarded):
    for extent in (0, 1, 7, 64, 127, 128, 129, 300, 500):
        x = guarded[guarded.size - extent * dtype.itemsize :].view(dtype.numpy)
        x[...] = draw(dtype, extent)
        out = np.zeros(extent + 600, dtype.numpy)
        check(long_chain(x, out, dtype, ops), [x, out], machine, cuts=(extent // 3,))
    x, out = draw(dtype, 700), np.zeros(700, dtype.numpy)
    for strided in (x[::2], x[5::3], x[::-7]):
        nest = long_chain(strided, out[: strided.size], dtype, ops)
        first = (strided.__array_interface__["data"][0] - x.__array_interface__["data"][0])
        start = dataclasses.replace(nest.accesses[0], offset=first // dtype.itemsize)
        check(dataclasses.replace(nest, accesses=(start, nest.accesses[1])), [x, out], machine)


def test_a_chain_interleaves_as_many_registers_as_its_operations_wait():
    """In one loop; what keeps several values alive has registers for fewer."""
    machine = jit.machine_for_level("")
    if not machine.has_masks:
        pytest.skip("the processor has no masks")
    x, out = np.zeros(1000, np.float32), np.zeros(1000, np.float32)
    chain = long_chain(x, out, F32, 150)
    code = list(chain.instructions[:-1])
    for kept in (2, 3):
        code.append(Pointwise(F32, "mul", (kept, len(code) - 1)))
    keeping = dataclasses.replace(chain, instructions=(*code, Store(F32, 1, len(code) - 1)))
    nests = chain, keeping, long_chain(x, out, F32, 40), long_chain(x, out, F32, 10)
    texts = [emit_nest(nest, "kernel", machine).text for nest in nests]
    widths = [set(re.findall(r"fmul <(\d+) x float>", text)) for text in texts]
    assert widths == [{"128"}, {"64"}, {"64"}, {"64", "16"}]


def test_the_last_strip_goes_by_way_of_the_stack(machine):
    """Results of several dtypes, one of them in place, beside scalars and what is numbered."""
    def nest(extent, x, y, table, out, flags):
        single = Pointwise(F32, "cast", (1,), {"dtype": F32, "weak": False})
        code = [Load(F32, 0), Load(F64, 1), Load(F32, 2), Iota(F32, 0, 1, 2), single]
        for operand in (2, 3, 4, 4):
            code.append(Pointwise(F32, "mul", (len(code) - 1, operand)))
            code.append(Pointwise(F32, "tanh", (len(code) - 1,)))
        last = len(code) - 1
        code += [Pointwise(BOOL, "lt", (last, 0)), Pointwise(F32, "add", (last, 0)),
                 Store(F32, 0, last + 2), Store(F32, 3, last), Store(BOOL, 4, last + 1)]
        accesses = (access(0, x, (1,)), access(1, y, (1,)), access(2, table, (0,), 1),
                    access(3, out, (1,), 2), access(4, flags, (1,)))  # fmt: skip
        return Nest((extent,), (False,), accesses, tuple(code))

    for extent in (1, 15, 16, 63, 64, 100, 129):
        x, y, table = draw(F32, extent, 1), draw(F64, extent, 2), draw(F32, 3, 3)
        arrays = [x, y, table, np.full(extent + 70, 9, np.float32), np.zeros(extent + 70, bool)]
        made = nest(extent, *arrays)
        bodies = re.findall(r"fadd <(\d+) x float>", emit_nest(made, "kernel", machine).text)
        assert len(set(bodies)) == 1
        check(made, arrays, machine, cuts=(extent // 2,), rtol=1e-6)
        check(made.streaming([3]), arrays, machine, rtol=1e-6)


@pytest.mark.parametrize("extents", [(5, 37), (1, 1), (3, 64), (4, 0), (0, 4), (2, 3, 19)])
def test_every_lane_class_and_dtype_mix(extents, machine):
    rank = len(extents)
    full = draw(F32, extents, 1)
    row = draw(F64, extents[-1:], 2)
    column = draw(I32, extents[:1], 3)
    wide = draw(dtypes.int8, (*extents[:-1], 2 * extents[-1]), 4)[..., ::2]
    backwards = draw(BOOL, extents, 5)
    out = np.zeros(extents, np.float64)
    small = np.zeros((*extents[:-1], 3 * extents[-1]), np.int16)
    flags = np.zeros(extents, bool)
    strides = tuple(s // backwards.itemsize for s in backwards.strides)
    nest = Nest(
        extents, (False,) * rank,
        (access(0, full), access(1, row, (0,) * (rank - 1) + (1,)),
         access(2, column, (1,) + (0,) * (rank - 1)), access(3, wide),
         access(4, backwards, (*strides[:-1], -1), max(extents[-1] - 1, 0)),
         access(5, out), access(6, small[..., ::3]), access(7, flags)),
        (Load(F32, 0), Load(F64, 1), Load(I32, 2), Load(dtypes.int8, 3), Load(BOOL, 4),
         Pointwise(F64, "cast", (0,), {"dtype": F64, "weak": False}),
         Pointwise(F64, "mul", (5, 1)),
         Pointwise(F64, "cast", (2,), {"dtype": F64, "weak": False}),
         Pointwise(F64, "where", (4, 6, 7)), Store(F64, 5, 8),
         Pointwise(dtypes.int16, "cast", (3,), {"dtype": dtypes.int16, "weak": False}),
         Store(dtypes.int16, 6, 10), Pointwise(BOOL, "logical_not", (4,)), Store(BOOL, 7, 12)),
    )  # fmt: skip
    arrays = [full, row, column, wide.base, backwards, out, small, flags]
    check(nest, arrays, machine)


def test_numbers_iotas_and_scalars(machine):
    scalar = np.array(0.1)
    ints, floats, fill = (np.zeros((3, 70), d) for d in (np.int64, np.float32, np.float64))
    instructions = (
        Iota(I64, 0, 5, -2), Iota(I64, 1, -7, 3), Pointwise(I64, "mul", (0, 1)), Store(I64, 0, 2),
        Iota(F32, 1, 1, 2), Load(F64, 3),
        Pointwise(F32, "cast", (5,), {"dtype": F32, "weak": False}),
        Pointwise(F32, "mul", (4, 6)), Const(F32, -1.0, literal=True),
        Pointwise(F32, "add", (7, 8)), Store(F32, 1, 9), Const(F64, 1e300), Store(F64, 2, 11),
    )  # fmt: skip
    nest = Nest(
        (3, 70), (False, False),
        (access(0, ints), access(1, floats), access(2, fill), access(3, scalar, (0, 0))),
        instructions,
    )  # fmt: skip
    check(nest, [ints, floats, fill, scalar], machine)


def test_no_dimensions_at_all():
    x, out = np.array(2.0, np.float32), np.zeros((), np.float32)
    nest = Nest((), (), (access(0, x), access(1, out)),
                (Load(F32, 0), Pointwise(F32, "sqrt", (0,)), Store(F32, 1, 1)))  # fmt: skip
    check(nest, [x, out])
    assert out == np.sqrt(np.float32(2))


def test_in_place():
    x = draw(F32, (4, 100))
    nest = Nest((4, 100), (False, False), (access(0, x), access(0, x)),
                (Load(F32, 0), Pointwise(F32, "mul", (0, 0)), Store(F32, 1, 1)))  # fmt: skip
    check(nest, [x])


def test_loads_see_what_was_there_before_the_kernel():
    x, out = draw(F32, (4, 100)), np.zeros((4, 100), np.float32)
    code = (Load(F32, 0), Pointwise(F32, "mul", (0, 0)), Store(F32, 0, 1), Load(F32, 0),
            Store(F32, 1, 3))  # fmt: skip
    nest = Nest((4, 100), (False, False), (access(0, x), access(1, out)), code)
    before = x.copy()
    assert execute(nest, [x, out]) == 0
    np.testing.assert_array_equal(out, before)
    np.testing.assert_array_equal(x, before * before)


@pytest.fixture(scope="module")
def guarded():
    """A page of bytes between two that must not be touched."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for around in (address, address + 2 * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(around), page, 0) == 0
    return np.frombuffer(memory, np.uint8, page, page)


def test_nothing_outside_the_operands_is_touched(machine, guarded):
    """Operands end at the guarded page, results at canaries."""
    for dtype, extent in itertools.product((F32, F64, dtypes.int8, BOOL), (1, 5, 16, 67)):
        x = guarded[guarded.size - extent * dtype.itemsize :].view(dtype.numpy)
        x[...] = draw(dtype, extent)
        out = np.zeros(extent + 64, dtype.numpy)
        nest = Nest((extent,), (False,), (access(0, x, (1,)), access(1, out, (1,))),
                    (Load(dtype, 0), Store(dtype, 1, 0)))  # fmt: skip
        assert execute(nest, [x, out], machine) == 0
        np.testing.assert_array_equal(out[:extent], x)
        assert not out[extent:].any()


def test_splitting_the_work_changes_no_bit(machine):
    x, out = draw(F32, 1000), np.zeros(1000, np.float32)
    nest = Nest((1000,), (False,), (access(0, x), access(1, out)),
                (Load(F32, 0), Pointwise(F32, "tanh", (0,)), Store(F32, 1, 1)))  # fmt: skip
    assert execute(nest, [x, out], machine) == 0
    again = np.zeros_like(out)
    assert execute(nest, [x, again], machine, cuts=(1, 7, 64, 65, 999)) == 0
    np.testing.assert_array_equal(out, again)
    nest, arrays = softmax_nest((20, 130), 1)
    assert execute(nest, arrays, machine) == 0
    first = arrays[1].copy()
    arrays[1][...] = 0
    assert execute(nest, arrays, machine, cuts=(3, 4, 19)) == 0
    np.testing.assert_array_equal(first, arrays[1])


# -- stores that pass by the caches ----------------------------------------------------------
def lined(dtype, size):
    """Zeros that begin on a cache line, canaries behind them."""
    raw = np.zeros((size + 16) * dtype.itemsize + LINE, np.uint8)
    first = -raw.__array_interface__["data"][0] % LINE
    return raw[first:][: (size + 16) * dtype.itemsize].view(dtype.numpy)


@pytest.mark.parametrize("dtype", [F32, F64, dtypes.int8, BOOL], ids=str)
@pytest.mark.parametrize("shape", [(1, 5), (1, 64), (1, 1031), (3, 128), (2, 448), (7, 0)])
def test_streamed_stores_write_the_same(shape, dtype, machine):
    x, out = draw(dtype, shape), lined(dtype, shape[0] * shape[1])
    nest = Nest(shape, (False, False), (access(0, x), access(1, out, (shape[1], 1))),
                (Load(dtype, 0), Store(dtype, 1, 0)))  # fmt: skip
    streamed = nest.streaming([1])
    whole = shape[1] * dtype.itemsize % LINE == 0
    assert (streamed.key() != nest.key()) == whole
    assert nest.streaming([0]).key() == nest.key()
    check(streamed, [x, out], machine)
    one = Nest(x.shape[1:], (False,), (access(0, x[0]), access(1, out, (1,))),
               (Load(dtype, 0), Store(dtype, 1, 0)))  # fmt: skip
    out[...] = 0
    check(one.streaming([1]), [x[0].copy(), out], machine)


def test_streamed_stores_are_what_they_are_called(machine):
    nest = Nest((4096,), (False,), (access(0, X, (1,)), access(1, X, (1,))),
                (Load(F32, 0), Store(F32, 1, 0)))  # fmt: skip
    streaming = ("movnt", "stnp")
    plain, streamed = (
        jit.assembly(emit_nest(n, "kernel", machine).text, machine)
        for n in (nest, nest.streaming([1]))
    )
    assert any(word in streamed for word in streaming)
    assert not any(word in plain for word in streaming)


def test_rows_that_begin_within_a_line_are_not_streamed():
    for strides, offset in (((100, 1), 0), ((128, 1), 3), ((128, 2), 0), ((128, 0), 0)):
        nest = Nest((3, 64), (False, False),
                    (access(0, X, (64, 1)), access(1, X, strides, offset)),
                    (Load(F32, 0), Store(F32, 1, 0)))  # fmt: skip
        assert nest.streaming([1]).key() == nest.key()


# -- elements a few apart ------------------------------------------------------------------
def taps(dtype, shape, step, phases):
    """A nest that adds elements `step` apart, from each of `phases` on, and its operands."""
    rows, columns = shape
    reach = max(0, (columns - 1) * step + max(phases) + 1)
    x, out = draw(dtype, (rows, reach), step), np.zeros(shape, dtype.numpy)
    accesses = [access(0, x, (reach, step), phase) for phase in phases]
    code = [Load(dtype, k) for k in range(len(phases))]
    total, join = 0, "logical_xor" if dtype is BOOL else "add"
    for k in range(1, len(phases)):
        code.append(Pointwise(dtype, join, (total, k)))
        total = len(code) - 1
    code.append(Store(dtype, len(phases), total))
    return Nest(shape, (False, False), (*accesses, access(1, out)), tuple(code)), [x, out]


PHASES = [(0,), (1, 0), (2, 5), (0, 1, 2, 3, 4)]


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("dtype", [F32, F64, dtypes.int16, dtypes.uint8, BOOL])
def test_elements_a_few_apart_are_read_together(dtype, step, machine):
    for phases, columns in itertools.product(PHASES, (0, 1, 2, 15, 16, 33, 131)):
        nest, arrays = taps(dtype, (3, columns), step, phases)
        check(nest, arrays, machine)
    assert "gather" not in emit_nest(taps(dtype, (3, 40), step, (0, 1))[0], "k", machine).text


def test_neighbours_share_what_is_read():
    text = [emit_nest(taps(F32, (3, 40), 2, phases)[0], "k").text for phases in ((0,), (0, 1))]
    assert text[0].count(" = load <") == text[1].count(" = load <")
    assert taps(F32, (3, 40), 2, (0, 1))[0].key() != taps(F32, (3, 40), 2, (0, 2))[0].key()
    nest = taps(F32, (3, 40), 3, (1, 0, 2, 3))[0]
    assert [nest.interleaved()[k][:3] for k in range(4)] == [
        (1, 1, 3), (1, 0, 3), (1, 2, 3), (3, 0, 3),
    ]  # fmt: skip
    assert taps(F32, (3, 40), 5, (0, 1))[0].interleaved() == {}


@pytest.mark.parametrize("reduced", [(True, False), (False, True), (True, True)])
def test_reductions_of_elements_a_few_apart(reduced, machine):
    for step, columns in itertools.product((2, 3, 4), (1, 7, 64, 70, 300)):
        shape = (5, columns)
        x = draw(F64, (5, columns * step), step)[:, : (columns - 1) * step + 1]
        out = np.zeros(tuple(1 if r else n for n, r in zip(shape, reduced, strict=True)))
        nest = Nest(shape, reduced,
                    (access(0, x, (columns * step, step)), access(1, out, kept(out))),
                    (Load(F64, 0), Reduce(F64, "sum", 0), Store(F64, 1, 1)))  # fmt: skip
        check(nest, [x.base, out], machine, rtol=1e-12)


def test_nothing_behind_the_last_of_elements_apart_is_read(machine, guarded):
    for dtype, step, columns in itertools.product(
        (F32, F64, dtypes.uint8), (2, 3, 4), (1, 4, 16, 64, 85, 129)
    ):
        if ((columns - 1) * step + 1) * dtype.itemsize > guarded.size:
            continue
        x = guarded[guarded.size - ((columns - 1) * step + 1) * dtype.itemsize :]
        x = x.view(dtype.numpy)
        x[...] = draw(dtype, x.size)
        out = np.zeros((1, columns), dtype.numpy)
        nest = Nest((1, columns), (False, False),
                    (access(0, x, (0, step)), access(1, out)),
                    (Load(dtype, 0), Store(dtype, 1, 0)))  # fmt: skip
        assert execute(nest, [x, out], machine) == 0
        np.testing.assert_array_equal(out[0], x[::step])


# -- elements in the opposite order ----------------------------------------------------------
@pytest.mark.parametrize("dtype", [F32, F64, I64, dtypes.int16, dtypes.uint8, BOOL], ids=str)
def test_elements_in_the_opposite_order_are_read_by_registers(dtype, machine, guarded):
    """The first in memory, which are read last, lie at the guarded page."""
    nests = []
    for columns in (1, 2, 15, 16, 33, 67, 131, 300):
        x = guarded[: columns * dtype.itemsize].view(dtype.numpy)
        x[...] = draw(dtype, columns)
        out = np.zeros((3, columns), dtype.numpy)
        nests.append(Nest((3, columns), (False, False),
                          (access(0, x, (0, -1), columns - 1), access(1, out)),
                          (Load(dtype, 0), Store(dtype, 1, 0))))  # fmt: skip
        check(nests[-1], [x, out], machine)
        np.testing.assert_array_equal(out[2], x[::-1])
    assert "gather" not in emit_nest(nests[-1], "k", machine).text
    assert len({nest.key() for nest in nests}) == 1


@pytest.mark.parametrize("reduced", [(True, False), (False, True), (True, True)])
def test_reductions_and_stores_in_the_opposite_order(reduced, machine):
    for shape in ((5, 1), (5, 7), (3, 64), (40, 70), (2, 300)):
        x = draw(F64, shape)
        out = np.zeros(tuple(1 if r else n for n, r in zip(shape, reduced, strict=True)))
        there = access(0, x[:, ::-1], offset=shape[1] - 1)
        nest = Nest(shape, reduced, (there, access(1, out, kept(out))),
                    (Load(F64, 0), Reduce(F64, "sum", 0), Store(F64, 1, 1)))  # fmt: skip
        check(nest, [x, out], machine, rtol=1e-12)
        back = np.zeros(shape)
        nest = Nest(shape, (False, False), (access(0, x), dataclasses.replace(there, operand=1)),
                    (Load(F64, 0), Store(F64, 1, 0)))  # fmt: skip
        check(nest, [x, back], machine)
        np.testing.assert_array_equal(back, x[:, ::-1])


# -- transposed operands -------------------------------------------------------------------
TRANSPOSED = [(1, 1), (16, 64), (15, 63), (17, 65), (3, 200), (200, 3), (33, 130), (0, 5), (40, 0)]


def turned(operand, array, order):
    """An access of `array` with its dimensions permuted."""
    return access(operand, array.transpose(order), None)


@pytest.mark.parametrize("shape", TRANSPOSED)
def test_transposed_operands_go_through_tiles(shape, machine):
    rows, columns = shape
    for dtype in (F32, F64, dtypes.int16, dtypes.uint8, BOOL):
        x, y, bias = draw(dtype, (columns, rows)), draw(F64, shape), draw(F64, (rows, 1))
        nest = Nest(
            shape, (False, False),
            (turned(0, x, (1, 0)), access(1, y), access(2, bias, (1, 0)),
             access(3, np.empty(shape))),
            (Load(dtype, 0), Load(F64, 1),
             Pointwise(F64, "cast", (0,), {"dtype": F64, "weak": False}),
             Pointwise(F64, "add", (1, 2)), Load(F64, 2), Iota(F64, 0, 1, 2), Iota(F64, 1, -3, 1),
             Pointwise(F64, "mul", (3, 4)), Pointwise(F64, "add", (7, 5)),
             Pointwise(F64, "add", (8, 6)), Store(F64, 3, 9)),
        )  # fmt: skip
        check(nest, [x, y, bias, np.zeros(shape)], machine, cuts=(1,) if rows > 16 else ())


def test_tiles_of_several_operands_and_outer_dimensions(machine):
    x, z, small = draw(F32, (4, 70, 37)), draw(F32, (37, 4, 70)), draw(I32, (70, 37))
    out = np.zeros((4, 37, 70), np.float32)
    accesses = (turned(0, x, (0, 2, 1)), turned(1, z, (1, 0, 2)),
                access(2, small, (0, 1, 37)), access(3, out))  # fmt: skip
    code = (Load(F32, 0), Load(F32, 1), Load(I32, 2), Pointwise(F32, "sub", (0, 1)),
            Pointwise(F32, "cast", (2,), {"dtype": F32, "weak": False}),
            Pointwise(F32, "mul", (3, 4)),
            Store(F32, 3, 5))  # fmt: skip
    nest = Nest((4, 37, 70), (False,) * 3, accesses, code)
    assert nest.transposed() == (1, (0, 2)) and work_items(nest, machine) == 4 * 3
    check(nest, [x, z, small, out], machine, cuts=(5, 7))


def test_tiles_read_nothing_outside_the_operands(machine, guarded):
    for rows, columns in [(16, 20), (20, 17), (9, 70), (16, 16)]:
        size = rows * columns * 4
        if size > guarded.size:
            columns = guarded.size // rows // 4
        x = guarded[guarded.size - rows * columns * 4 :].view(np.float32).reshape(columns, rows)
        x[...] = draw(F32, (columns, rows))
        out = np.zeros((rows, columns), np.float32)
        nest = Nest(out.shape, (False, False), (turned(0, x, (1, 0)), access(1, out)),
                    (Load(F32, 0), Store(F32, 1, 0)))  # fmt: skip
        assert execute(nest, [x, out], machine) == 0
        np.testing.assert_array_equal(out, x.T)


# -- reductions ----------------------------------------------------------------------------
def softmax_nest(shape, axis):
    x, out = draw(F32, shape), np.zeros(shape, np.float32)
    nest = Nest(
        shape, tuple(d == axis for d in range(len(shape))), (access(0, x), access(1, out)),
        (Load(F32, 0), Reduce(F32, "amax", 0), Pointwise(F32, "sub", (0, 1)),
         Pointwise(F32, "exp", (2,)), Reduce(F32, "sum", 3), Pointwise(F32, "div", (3, 4)),
         Store(F32, 1, 5)),
    )  # fmt: skip
    return nest, [x, out]


@pytest.mark.parametrize("extent", [1, 7, 1000, 16385])
def test_softmax_is_one_kernel(extent, machine):
    nest, arrays = softmax_nest((3, extent), 1)
    assert scratch_bytes(nest, machine) == 4 * extent
    check(nest, arrays, machine, rtol=2e-6)


def test_reductions_ask_ahead_for_what_they_touch(machine):
    nest = softmax_nest((20, 128), 1)[0]

    def asked(n):
        lines = [s for s in emit_nest(n, "kernel", machine).text.split("\n") if "prefetch" in s]
        return [sum(f"i32 {writes}, i32 3" in s for s in lines) for writes in (0, 1)]

    reads, writes = asked(nest)
    assert reads == writes > 0  # every line once
    assert asked(nest.streaming([1])) == [reads, 0]

    def total(shape, axis):
        x = draw(F32, shape)
        return Nest(shape, tuple(d == axis for d in range(2)), (access(0, x),),
                    (Load(F32, 0), Reduce(F32, "sum", 0)))  # fmt: skip

    plain = Nest((4096,), (False,), (access(0, X, (1,)), access(1, X, (1,))),
                 (Load(F32, 0), Store(F32, 1, 0)))  # fmt: skip
    assert asked(total((20, 128), 1))[0] > 0 and asked(total((128, 20), 0))[0] > 0
    assert asked(plain) == [0, 0]  # processors foresee it


def test_softmax_over_the_first_axis(machine):
    nest, arrays = softmax_nest((50, 135), 0)
    check(nest, arrays, machine, rtol=2e-6)
    nest, arrays = softmax_nest((4, 9, 70), 1)
    check(nest, arrays, machine, rtol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (3, 1000), (2, 16385)])
def test_layer_norm_is_one_kernel(shape, machine):
    x, out = draw(F32, shape), np.zeros(shape, np.float32)
    scale, means = draw(F32, shape[1:], 7), np.zeros(shape[0], np.float32)
    nest = Nest(
        shape, (False, True),
        (access(0, x), access(1, scale, (0, 1)), access(2, out), access(3, means, (1, 0))),
        (Load(F32, 0), Reduce(F32, "mean", 0), Pointwise(F32, "sub", (0, 1)),
         Pointwise(F32, "mul", (2, 2)), Reduce(F32, "mean", 3), Const(F32, 1e-5),
         Pointwise(F32, "add", (4, 5)), Pointwise(F32, "sqrt", (6,)),
         Pointwise(F32, "div", (2, 7)), Load(F32, 1), Pointwise(F32, "mul", (8, 9)),
         Store(F32, 2, 10), Store(F32, 3, 1)),
    )  # fmt: skip
    assert scratch_bytes(nest) == 0
    check(nest, [x, scale, out, means], machine, rtol=1e-5)


AXES = [a for n in (1, 2, 3) for a in itertools.combinations(range(3), n)]


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_reductions_over_any_axes(axes, machine):
    shape = (3, 70, 33)
    for dtype, ops in (
        (F32, ("sum", "mean", "amax", "amin", "any", "argmax", "argmin")),
        (F64, ("sum", "prod", "amin")), (I32, ("sum", "prod", "amax", "all")),
        (dtypes.uint8, ("sum", "amin", "argmin")), (BOOL, ("any", "all", "argmax", "sum")),
    ):  # fmt: skip
        x = draw(dtype, shape, len(ops), high=40)
        accesses, instructions, arrays = [access(0, x)], [Load(dtype, 0)], [x]
        for op in ops:
            result = result_dtype(op, dtype)
            out = np.zeros([1 if d in axes else n for d, n in enumerate(shape)], result.numpy)
            arrays.append(out)
            accesses.append(access(len(accesses), out, kept(out)))
            instructions.append(Reduce(result, op, 0))
            instructions.append(Store(result, len(accesses) - 1, len(instructions) - 1))
        reduced = tuple(d in axes for d in range(3))
        nest = Nest(shape, reduced, tuple(accesses), tuple(instructions))
        check(nest, arrays, machine, rtol=1e-6)


def result_dtype(op, dtype):
    if op in ("any", "all"):
        return BOOL
    if op in ("argmax", "argmin") or (op in ("sum", "prod") and dtype.kind != "f"):
        return I64
    return dtype


@pytest.mark.parametrize("shape", [(1, 33), (17, 1024), (33, 1025), (50, 2100), (2051, 3)])
def test_panels_of_columns(shape, machine):
    """Sums, places and truths of columns, with work before and after, in several calls."""
    x, shift = draw(F32, shape), draw(F32, (1, shape[1]), 1)
    flags = draw(BOOL, shape, 2)
    outs = [np.zeros((1, shape[1]), d) for d in (np.float32, np.int64, np.bool_, np.float64)]
    row = tuple(access(3 + k, o, (0, 1)) for k, o in enumerate(outs))
    nest = Nest(
        shape, (True, False),
        (access(0, x), access(1, shift, (0, 1)), access(2, flags), *row),
        (Load(F32, 0), Load(F32, 1), Pointwise(F32, "sub", (0, 1)), Reduce(F32, "sum", 2),
         Pointwise(F32, "add", (3, 1)), Reduce(I64, "argmax", 0), Load(BOOL, 2),
         Reduce(BOOL, "any", 6), Pointwise(F64, "cast", (0,), {"dtype": F64, "weak": False}),
         Reduce(F64, "mean", 8), Store(F32, 3, 4), Store(I64, 4, 5), Store(BOOL, 5, 7),
         Store(F64, 6, 9)),
    )  # fmt: skip
    assert work_items(nest, machine) == -(-shape[1] // 1024)
    check(nest, [x, shift, flags, *outs], machine, rtol=1e-5,
          cuts=range(1, work_items(nest, machine)))  # fmt: skip


def test_a_panel_of_no_rows(machine):
    x, out = np.zeros((0, 40), np.float32), np.ones(40, np.float32)
    nest = Nest(x.shape, (True, False), (Access(0, F32, (40, 1)), access(1, out, (0, 1))),
                (Load(F32, 0), Reduce(F32, "sum", 0), Store(F32, 1, 1)))  # fmt: skip
    assert execute(nest, [x, out], machine) == 0
    np.testing.assert_array_equal(out, 0)


def test_panels_with_outer_dimensions(machine):
    x, out = draw(F32, (3, 20, 1100)), np.zeros((3, 1, 1100), np.float32)
    nest = Nest(x.shape, (False, True, False), (access(0, x), access(1, out, kept(out))),
                (Load(F32, 0), Reduce(F32, "amax", 0), Store(F32, 1, 1)))  # fmt: skip
    assert work_items(nest, machine) == 6
    check(nest, [x, out], machine, cuts=(1, 4))


@pytest.mark.parametrize("op", ["amax", "amin", "argmax", "argmin"])
def test_extrema_of_ties_and_nans(op):
    nan, inf = np.nan, np.inf
    rows = [
        [1, 3, 3, 1], [nan, 1, nan, 2], [2, nan, 5, nan], [-inf] * 4, [inf] * 4,
        [0.0, -0.0, 0.0, 1],
    ]  # fmt: skip
    x = np.array([np.resize(r, 4) for r in rows], np.float32)
    x = np.ascontiguousarray(np.repeat(x, 37, axis=1))
    dtype = I64 if op.startswith("arg") else F32
    for axis in (0, 1):
        data = x if axis == 1 else np.ascontiguousarray(x.T)
        out = np.zeros(len(rows), dtype.numpy)
        nest = Nest(
            data.shape, (axis == 0, axis == 1),
            (access(0, data), access(1, out, (0, 1) if axis == 0 else (1, 0))),
            (Load(F32, 0), Reduce(dtype, op, 0), Store(dtype, 1, 1)),
        )  # fmt: skip
        check(nest, [data, out])


def test_empty_reductions_give_the_identity():
    for op, wanted in (("sum", 0), ("prod", 1), ("amax", -np.inf), ("any", False), ("all", True)):
        dtype = BOOL if isinstance(wanted, bool) else F32
        for shape, reduced in (((3, 0), (False, True)), ((0, 3), (True, False))):
            x, out = np.zeros(shape, np.float32), np.ones(3, dtype.numpy)
            out[...] = not wanted
            strides = (1, 0) if reduced[1] else (0, 1)
            nest = Nest(shape, reduced, (access(0, x, (3, 1)), access(1, out, strides)),
                        (Load(F32, 0), Reduce(dtype, op, 0), Store(dtype, 1, 1)))  # fmt: skip
            assert execute(nest, [x, out]) == 0
            assert (out == wanted).all()


def test_long_float32_sums_keep_their_accuracy():
    x = (np.random.default_rng(0).random(1 << 23) + 0.5).astype(np.float32)
    out = np.zeros(1, np.float32)
    nest = Nest((x.size,), (True,), (access(0, x), access(1, out, (0,))),
                (Load(F32, 0), Reduce(F32, "sum", 0), Store(F32, 1, 1)))  # fmt: skip
    assert execute(nest, [x, out]) == 0
    np.testing.assert_allclose(out[0], x.sum(dtype=np.float64), rtol=7e-8)


# -- addresses decided by data -------------------------------------------------------------
def take_nest(table, index, out, lanes):
    """Rows of `table` (lanes along them), or single elements, by checked indices."""
    n = len(index)
    if lanes:
        extents, own = (n, table.shape[1]), (0, 1)
        places, strides = (1, 0), (table.shape[1], 1)
    else:
        extents, own = (table.shape[0], n), (table.shape[1], 0)
        places, strides = (0, 1), (n, 1)
    size = table.shape[0] if lanes else table.shape[1]
    return Nest(
        extents, (False, False),
        (access(0, table, own), access(1, index, places), access(2, out, strides)),
        (Load(dtypes.to_dtype(index.dtype), 1),
         Pointwise(I64, "check_index", (0,), {"size": size, "wrap": True, "what": "index"}, 6),
         Gather(dtypes.to_dtype(table.dtype), 0, (1,), (table.shape[1] if lanes else 1,)),
         Store(dtypes.to_dtype(table.dtype), 2, 2)),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [F32, dtypes.int8, BOOL, F64], ids=str)
@pytest.mark.parametrize("lanes", [True, False])
def test_gather(dtype, lanes, machine):
    table = draw(dtype, (9, 21))
    size = table.shape[0] if lanes else table.shape[1]
    index = np.random.default_rng(1).integers(-size, size, 37).astype(np.int32)
    out = np.zeros((37, 21) if lanes else (9, 37), dtype.numpy)
    check(take_nest(table, index, out, lanes), [table, index, out], machine)
    np.testing.assert_array_equal(out, np.take(table, index, axis=0 if lanes else 1))


@pytest.mark.parametrize("lanes", [True, False])
@pytest.mark.parametrize("bad", [9, -10, 2**40, -(2**63)])
def test_a_bad_index_is_reported_and_not_used(lanes, bad, machine):
    table = draw(F32, (9, 9))
    index = np.zeros(40, np.int64)
    index[33] = bad
    out = np.zeros((40, 9) if lanes else (9, 40), np.float32)
    assert execute(take_nest(table, index, out, lanes), [table, index, out], machine) == 7


def test_no_index_is_good_in_an_empty_extent(guarded):
    last = guarded[guarded.size - 4 :].view(np.float32)
    table = np.lib.stride_tricks.as_strided(last, (0, 9), (36, 4))
    index = np.zeros(3, np.int64)
    out = np.zeros((3, 9), np.float32)
    assert execute(take_nest(table, index, out, True), [table, index, out]) == 7
    index = index[:0]
    assert execute(take_nest(table, index, out, True), [table, index, out]) == 0


@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
def test_scatter_add_in_order(dtype, machine):
    """By rows in lanes, and by elements one after the other; duplicates accumulate."""
    index = np.random.default_rng(0).integers(0, 5, 50)
    x, base = draw(dtype, (50, 19)), draw(dtype, (5, 19), 4)
    rows = Nest(
        (50, 19), (False, False),
        (access(0, base, (0, 1)), access(1, index, (1, 0)), access(2, x)),
        (Load(I64, 1), Load(dtype, 2), ScatterAdd(dtype, 0, 1, (0,), (19,))),
    )  # fmt: skip
    assert not splittable(rows)
    check(rows, [base, index, x], machine)
    flat, values = draw(dtype, 5), draw(dtype, 50)
    elements = Nest(
        (50,), (False,), (access(0, flat, (0,)), access(1, index, (1,)), access(2, values, (1,))),
        (Load(I64, 1), Load(dtype, 2), ScatterAdd(dtype, 0, 1, (0,), (1,))),
    )  # fmt: skip
    check(elements, [flat, index, values], machine)


# -- random nests --------------------------------------------------------------------------
class RandomNest:
    """A random nest over small extents, with the arrays that it works on.

    Floats are small whole numbers, so that only vector math and division round.
    """

    DTYPES = (F32, F32, F64, I32, I64, BOOL, dtypes.uint8)

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        rank = int(self.rng.integers(1, 5))
        self.extents = tuple(int(n) for n in self.rng.choice([1, 2, 3, 5, 19, 67], rank))
        share = self.rng.choice([0, 0.5, 0.7])
        self.reduced = tuple(bool(r) for r in self.rng.random(rank) < share)
        self.arrays, self.accesses, self.code = [], [], []
        self.full = []  # whether a value varies along reduced dimensions
        self.rounded = []  # whether a value may differ from the interpreter's by rounding
        for _ in range(self.rng.integers(1, 5)):
            self.load()
        for _ in range(self.rng.integers(2, 14)):
            self.instruction()
        for place in range(len(self.code)):
            if place >= len(self.code) - 3 or self.rng.random() < 0.2:
                self.store(place)
        self.nest = Nest(self.extents, self.reduced, tuple(self.accesses), tuple(self.code))

    def pick(self, things):
        return things[int(self.rng.integers(len(things)))]

    def emit(self, instruction, full):
        self.code.append(instruction)
        self.full.append(full)
        rounds = getattr(instruction, "op", "") in ("tanh", "mean", "sum")
        self.rounded.append(rounds or any(self.rounded[o] for o in operands_of(instruction)))
        return len(self.code) - 1

    def operand(self, dtype, moves):
        """A new array and an access that moves along some dimensions, in any memory order."""
        order = self.rng.permutation(len(moves)) if self.rng.random() < 0.3 else range(len(moves))
        gap = self.pick([1, 1, 1, 2])
        strides, size = [0] * len(moves), gap
        for d in reversed(list(order)):
            if moves[d]:
                strides[d] = size
                size *= self.extents[d]
        offset = 0
        if self.rng.random() < 0.2 and moves[-1] and strides[-1]:  # backwards
            offset = strides[-1] * (self.extents[-1] - 1)
            strides[-1] = -strides[-1]
        array = draw(dtype, size + 3, int(self.rng.integers(100)))
        if dtype.kind == "f":
            array = np.rint(array)
        self.arrays.append(array)
        self.accesses.append(Access(len(self.arrays) - 1, dtype, tuple(strides), offset))
        return len(self.accesses) - 1

    def load(self):
        moves = [bool(m) for m in self.rng.random(len(self.extents)) < 0.7]
        dtype = self.pick(self.DTYPES)
        full = any(m and r for m, r in zip(moves, self.reduced, strict=True))
        self.emit(Load(dtype, self.operand(dtype, moves)), full)

    def value(self, dtype):
        """A value as `dtype`, cast where it has another; no rounded one as an integer."""
        fit = [p for p in range(len(self.code)) if not (dtype.kind == "i" and self.rounded[p])]
        place = self.pick(fit[-4:] if self.rng.random() < 0.6 else fit)
        if self.code[place].dtype is not dtype:
            attrs = {"dtype": dtype, "weak": False}
            return self.emit(Pointwise(dtype, "cast", (place,), attrs), self.full[place])
        return place

    def instruction(self):
        choice = self.rng.random()
        if choice < 0.3 and any(self.reduced):
            place = int(self.rng.integers(len(self.code)))
            dtype = self.code[place].dtype
            ops = ["amax", "amin", "any", "all"]
            ops += ["sum"] if dtype.kind != "b" else []
            ops += ["mean"] if dtype.kind == "f" else []
            ops += ["argmax", "argmin"] if not self.rounded[place] else []
            op = self.pick(ops)
            result = BOOL if op in ("any", "all") else I64 if op.startswith("arg") else dtype
            self.emit(Reduce(result, op, place), False)
        elif choice < 0.4:
            dim = int(self.rng.integers(len(self.extents)))
            self.emit(Iota(self.pick((I32, I64, F32)), dim, 1, 2), self.reduced[dim])
        elif choice < 0.5:
            place = self.value(F32)
            self.emit(Pointwise(F32, "tanh", (place,)), self.full[place])
        else:
            dtype = self.pick((F32, F64, I32, I64))
            a, b = self.value(dtype), self.value(dtype)
            op = self.pick(("add", "sub", "maximum", "minimum"))
            self.emit(Pointwise(dtype, op, (a, b)), self.full[a] or self.full[b])

    def store(self, place):
        everywhere = self.full[place] or self.rng.random() < 0.3
        moves = [everywhere or not r for r in self.reduced]
        dtype = self.code[place].dtype
        self.emit(Store(dtype, self.operand(dtype, moves), place), self.full[place])


@pytest.mark.parametrize("level", levels())
def test_random_nests(level):
    machine = jit.machine_for_level(level)
    cases = [RandomNest(seed) for seed in range(150 if level == "" else 40)]
    cache = CACHES.setdefault(machine, KernelCache(machine=machine))
    cache.ensure([("kernel", emit_nest(c.nest, "kernel", machine).text) for c in cases])
    for case in cases:
        check(case.nest, case.arrays, machine, rtol=1e-4)


# -- the lowerings -------------------------------------------------------------------------
def within(got, wanted, operands, op, attrs):
    """Where a result is as near to the reference as the op's declaration promises."""
    with np.errstate(all="ignore"):
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        bound = (op.ulp + 0.5) * np.spacing(np.abs(wanted)).astype(np.float64)
        if op.error is not None:
            values = [o.astype(np.float64) for o in operands]
            bound = op.error(values, [np.zeros_like(v) for v in values], wanted, attrs)
        return same | (np.abs(got.astype(np.float64) - wanted) <= bound)


def integer_pairs(dtype):
    """Every pair of numbers at which integers of `dtype` may go wrong."""
    info = np.iinfo(dtype.numpy)
    some = [info.min, info.min + 1, -7, -2, -1, 0, 1, 2, 3, 7, 8, 31, 63, info.max - 1, info.max]
    numbers = np.array([n for n in some if info.min <= n <= info.max], dtype.numpy)
    return [a.reshape(-1) for a in np.meshgrid(numbers, numbers)]


def applications():
    """(op, flat operands, attrs, type) of every sample, and of edges that samples leave out."""
    for name, op in all_ops().items():
        if op.form != "pointwise" or op.samples is None:
            continue
        for sample in op.samples():
            operands = [
                draw(o.dtype, o.shape, 3, -3 if sample.low is None else int(sample.low),
                     3 if sample.high is None else max(1, int(sample.high)))
                if isinstance(o, TensorType) else np.asarray(o)
                for o in sample.operands
            ]  # fmt: skip
            yield name, np.broadcast_arrays(*operands), dict(sample.attrs)
            if any(o.dtype == np.float32 for o in operands):
                attrs = dict(sample.attrs)
                for half in HALVES:
                    with np.errstate(over="ignore"):
                        narrow = [o.astype(half.numpy) if o.dtype == np.float32 else o
                                  for o in operands]  # fmt: skip
                    own = attrs | {"dtype": half} if attrs.get("dtype") is F32 else attrs
                    yield name, np.broadcast_arrays(*narrow), own
    whole = [d for d in ELEMENTS if d.kind in "iu"]
    names = ("floor_divide", "remainder", "fmod", "pow", "bitwise_left_shift", "add", "mul", "sub",
             "bitwise_right_shift", "maximum", "fmin", "lt", "ge")  # fmt: skip
    for dtype, name in itertools.product(whole, names):
        yield name, integer_pairs(dtype), {}
    edges = [np.nan, np.inf, -np.inf, -0.0, 0.5, -0.9, 1.5, -1.5, 254.7, 300.0, 3e9, -3e9, 1e19,
             -1e19, 2e19, 9.2e18, 5e-324]  # fmt: skip
    for source, target in itertools.product((F32, F64, *HALVES), (*ELEMENTS, *HALVES)):
        with np.errstate(all="ignore"):
            yield "cast", [np.array(edges).astype(source.numpy)], {"dtype": target}
    for source, target in itertools.product(whole, (*ELEMENTS, *HALVES)):
        yield "cast", [integer_pairs(source)[0]], {"dtype": target}


def lowering_cases():
    """(op, nest, arrays, wanted) of every application that has native code."""
    for name, operands, attrs in applications():
        op = get_op(name)
        resolved = resolve(op, [TensorType(dtypes.to_dtype(a.dtype), a.shape) for a in operands],
                           attrs)  # fmt: skip
        arrays = [np.ascontiguousarray(a if d is None else a.astype(d.numpy)).reshape(-1)
                  for a, d in zip(operands, resolved.operand_dtypes, strict=True)]  # fmt: skip
        sources = [dtypes.to_dtype(a.dtype) for a in arrays]
        target = resolved.type.dtype
        if not supported(name, sources, target, resolved.attrs):
            assert unsupported_reason(name, [*sources, target])
            continue
        type_ = TensorType(target, arrays[0].shape)
        wanted = evaluate(op, arrays, resolved.attrs, type_)
        arrays.append(np.zeros(type_.shape, target.numpy))
        b, code = Builder(), Code()
        node = b.node(op, tuple(b.input("x", TensorType(d, type_.shape)) for d in sources),
                      resolved.attrs, type_)  # fmt: skip
        bits = [code.add(Load(in_memory(d), k)) for k, d in enumerate(sources)]
        operands = [code.from_memory(v, d) for v, d in zip(bits, sources, strict=True)]
        value = code.to_memory(code.applied(node, operands), target)
        code.add(Store(in_memory(target), len(sources), value))
        accesses = tuple(Access(k, in_memory(d), (1,)) for k, d in enumerate((*sources, target)))
        yield name, Nest(type_.shape, (False,), accesses, tuple(code.code)), arrays, wanted


def test_every_lowering_matches_its_op(machine):
    cases = list(lowering_cases())
    cache = CACHES.setdefault(machine, KernelCache(machine=machine))
    cache.ensure([("kernel", emit_nest(nest, "kernel", machine).text) for _, nest, *_ in cases])
    seen = set()
    for name, nest, arrays, wanted in cases:
        applied = [i for i in nest.instructions if isinstance(i, Pointwise)]
        seen.update(i.op for i in applied)
        assert execute(nest, arrays, machine) == 0
        if dtypes.to_dtype(wanted.dtype).kind == "f":
            *operands, got = arrays
            attrs = next((i.attrs for i in applied if i.op == name), {})
            good = within(got, wanted, operands, get_op(name), attrs)
            assert good.all(), (str(nest), [a[~good] for a in (*arrays, wanted)])
        else:
            np.testing.assert_array_equal(arrays[-1], wanted, err_msg=str(nest))
    assert seen >= set(LOWERINGS)


def test_what_has_no_native_code_says_why():
    assert not supported("add", [dtypes.complex64] * 2, dtypes.complex64, {})
    assert unsupported_reason("add", [dtypes.complex64]) == "complex64 has no native kernels"
    assert not supported("no_such_op", [F32], F32, {})
    assert unsupported_reason("no_such_op", [F32]) == "no_such_op has no native lowering"


# -- the text ------------------------------------------------------------------------------
def test_equal_keys_give_equal_text():
    first, second = softmax_nest((3, 8), 1)[0], softmax_nest((70, 5000), 1)[0]
    assert first.key() == second.key()
    assert emit_nest(first, "k").text == emit_nest(second, "k").text
    assert first.key() != softmax_nest((3, 8), 0)[0].key()


def test_sizes_and_numbers_are_arguments():
    table, index, out = np.zeros((9, 4), np.float32), np.zeros(3, np.int64), np.zeros((3, 4))
    small = take_nest(table, index, out.astype(np.float32), True)
    large = take_nest(np.zeros((90, 4), np.float32), index, out.astype(np.float32), True)
    assert small.key() == large.key()
    numbers = [Nest((3,), (False,), (Access(0, F32, (1,)),), (Const(F32, v), Store(F32, 0, 0)))
               for v in (0.25, 0.75)]  # fmt: skip
    assert emit_nest(numbers[0], "k").text == emit_nest(numbers[1], "k").text
    assert pack_arguments(numbers[0], [(0, 0)]) != pack_arguments(numbers[1], [(0, 0)])


def test_work_items():
    assert work_items(softmax_nest((70, 5), 1)[0]) == 70
    x = np.zeros((6, 5), np.float32)
    code = (Load(F32, 0), Store(F32, 0, 0))
    assert work_items(Nest((30,), (False,), (Access(0, F32, (1,)),), code)) == 30
    assert work_items(Nest((6, 5), (False,) * 2, (access(0, x),), code)) == 6
    assert work_items(Nest((6, 0), (False,) * 2, (access(0, x),), code)) == 0
    with pytest.raises(ValueError, match="scratch"):
        pack_arguments(softmax_nest((3, 8), 1)[0], [(0, 0), (1, 0)])
