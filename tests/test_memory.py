"""Memory: blocks are used again, never while somebody holds them; what is kept is bounded."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import os
import pickle
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from processes import in_fresh_process

import accel
from accel.errors import ArgumentError, DeviceError, FreedTensorError, OutOfMemoryError
from accel.runtime import compiler
from accel.targets.pure import buffers
from accel.targets.pure import memory as process_memory
from accel.targets.pure.machine import limits, memory
from accel.targets.pure.native.blocks import BlockPool
from accel.targets.pure.native.blocks_text import POOL
from accel.targets.pure.nests.nest import LINE
from accel.targets.pure.views import Buffer

BYTE = np.dtype(np.uint8)
FLOAT = np.dtype(np.float32)
MIB = 1 << 20


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


Pool = memory.BufferPool | BlockPool

emitted = pytest.mark.skipif(not BlockPool.available(), reason="no pool in emitted code here")


def taken(pool: Pool, nbytes: int) -> np.ndarray:
    return pool.allocator((nbytes,), BYTE, nbytes)()


@pytest.fixture(params=[memory.BufferPool, BlockPool])
def kind(request: pytest.FixtureRequest) -> type[Pool]:
    if request.param is BlockPool and not BlockPool.available():
        pytest.skip("no pool in emitted code here")
    return request.param


# -- the pool -----------------------------------------------------------------------------
def test_a_block_is_used_again_when_its_array_is_gone(kind: type[Pool]) -> None:
    pool = kind(64 * MIB)
    first = taken(pool, 3 * MIB)
    assert first.flags.c_contiguous and first.flags.writeable and address(first) % 64 == 0
    at = address(first)
    del first
    assert pool.used_bytes == 0 and pool.free_bytes >= 3 * MIB
    again = pool.allocator((3, MIB // 4), FLOAT, 3 * MIB)()
    assert address(again) == at and again.shape == (3, MIB // 4) and again.dtype == FLOAT
    assert pool.free_bytes == 0 and pool.used_bytes == 3 * MIB


@pytest.mark.parametrize("keep", [
    lambda a: a[10:20], lambda a: a.reshape(2, -1).T, memoryview, lambda a: a.view(np.int8),
    lambda a: np.frombuffer(a, np.uint8)[5:], np.from_dlpack,
    lambda a: a if a.base is None else np.asarray(a.base),
    lambda a: iter(a), lambda a: np.broadcast_to(a[:1], (4, 4)),
])  # fmt: skip
def test_a_block_stays_with_whatever_still_refers_to_it(keep: object, kind: type[Pool]) -> None:
    pool = kind(64 * MIB)
    array = taken(pool, 2 * MIB)
    at = address(array)
    held = keep(array)  # type: ignore[operator]
    del array
    gc.collect()
    assert pool.used_bytes == 2 * MIB
    other = taken(pool, 2 * MIB)
    assert abs(address(other) - at) >= 2 * MIB
    del held
    gc.collect()
    assert pool.used_bytes == 2 * MIB and pool.free_bytes >= 2 * MIB
    assert address(taken(pool, 2 * MIB)) == at


@emitted
@pytest.mark.parametrize("shape", [(), (1,), (20_000,), (1, 20_000), (20_000, 1), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "complex128", "bool"])
def test_arrays_of_emitted_code_are_as_numpy_makes_them(shape: tuple[int, ...], dtype: str) -> None:
    pool, usual = BlockPool(MIB), np.empty(shape, dtype)
    array = pool.allocator(shape, usual.dtype, usual.nbytes)()
    assert type(array) is np.ndarray and array.base is None and address(array) % 64 == 0
    assert array.flags.num == usual.flags.num and array.dtype is usual.dtype
    assert (array.shape, array.strides) == (usual.shape, usual.strides)
    array[...] = 1
    again = pickle.loads(pickle.dumps(array))
    assert (again == array).all() and (copy.deepcopy(array) == array).all()
    assert pool.used_bytes == usual.nbytes
    del array
    assert pool.used_bytes == 0


@emitted
def test_arrays_of_emitted_code_change_their_size_and_state() -> None:
    pool = BlockPool(8 * MIB)
    array = pool.allocator((40_000,), FLOAT, 160_000)()
    array[:] = range(40_000)
    for length in (90_000, 300_000, 50_000, 7):
        array.resize(length, refcheck=False)
        known = min(length, 40_000)
        assert (array[:known] == range(known)).all() and not array[40_000:].any()
        assert pool.used_bytes == 4 * length and address(array) % 64 == 0
    assert pool.free_bytes == memory.rounded(160_000)
    array.__setstate__(np.arange(5.0).__reduce__()[2])
    assert array.tolist() == [0, 1, 2, 3, 4] and pool.used_bytes == 0
    del array
    assert pool.used_bytes == 0


@emitted
def test_blocks_begin_at_different_places_within_a_page() -> None:
    pool = BlockPool(0)
    for nbytes in (memory.POOLED, 5 * MIB):
        held = [taken(pool, nbytes) for _ in range(16)]
        assert len({address(a) % 4096 for a in held}) == 16
        for number, array in enumerate(held):
            array[:] = number
        assert all((array == number).all() for number, array in enumerate(held))


def test_where_calls_are_not_native_arrays_lie_in_blocks_all_the_same() -> None:
    assert in_fresh_process("""
import accel, numpy as np
from accel.targets.pure import memory
kept = [accel.compile(lambda x: x + 1)(np.ones(30_000, np.float32)) for _ in range(2)]
address = kept[0].numpy().__array_interface__["data"][0]
print(type(memory.pool()).__name__, accel.memory_allocated(), address % 64)
""", ACCEL_NATIVE_CALLS="0") == "BufferPool 240000 0"  # fmt: skip


def test_results_of_any_size_come_without_new_pages() -> None:
    faults = in_fresh_process("""
import resource, accel, numpy as np
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
f, most = accel.compile(lambda x: x * 2 + 1), 0
for length in (20_000, 40_000, 70_000, 150_000, 250_000, 400_000):
    for heap in range(2):
        x = np.ones(length, np.float32)
        for _ in range(3): f(x)
        before = faults()
        for _ in range(50): f(x)
        most = max(most, faults() - before)
        spare = np.ones(3_000_000); del spare
print(most)
""", MALLOC_MMAP_THRESHOLD_="131072")  # fmt: skip
    assert int(faults) < 50


def test_what_lies_free_is_bounded_whatever_the_sizes() -> None:
    grown, free = map(int, in_fresh_process("""
import accel, numpy as np
from accel.targets.pure import memory
def resident():
    with open("/proc/self/statm") as file: return int(file.read().split()[1]) * 4096
before = resident()
for turn in range(2):
    for size in range(1 << 16, 5 << 20, 40_000):
        arrays = [memory.allocator((size,), np.dtype(np.uint8))() for _ in range(3)]
        for array in arrays: array[:] = 1
        arrays.clear()
        before = before if size > 1 << 18 or turn else resident()
print(resident() - before, memory.pool().free_bytes)
""", ACCEL_BUFFER_POOL="8M").split())  # fmt: skip
    assert free <= 8 * MIB and grown < 12 * MIB


def test_views_of_the_owner_of_a_block_keep_it_and_give_it_back_once() -> None:
    pool = memory.BufferPool(64 * MIB)
    array = taken(pool, MIB)
    views = [array.base[1:], array.base.reshape(2, -1), np.asarray(array.base)[3:]]
    views += [views[0][1:], array.base.copy()]
    del array
    while views:
        assert pool.used_bytes == MIB
        views.pop(0)
        gc.collect()
        if len(views) == 1:
            break
    assert pool.used_bytes == 0 and pool.free_bytes == MIB


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(kind: type[Pool]) -> None:
    pool = kind(10 * MIB)
    arrays = [taken(pool, size * MIB) for size in (4, 3, 2)]
    while arrays:
        arrays.pop(0)
        assert pool.free_bytes <= 10 * MIB
    assert pool.free_bytes == 9 * MIB
    held = taken(pool, 5 * MIB)
    del held
    assert pool.free_bytes == 10 * MIB
    arrays = [taken(pool, size * MIB) for size in (3, 2, 5)]
    assert pool.free_bytes == 0
    while arrays:
        arrays.pop(0)
    held = taken(pool, 40 * MIB)
    del held
    assert pool.free_bytes == 10 * MIB
    pool.clear()
    assert pool.free_bytes == 0


def test_a_pool_of_nothing_keeps_nothing(kind: type[Pool]) -> None:
    pool = kind(0)
    held = taken(pool, 2 * MIB)
    held[:] = 1
    del held
    assert pool.free_bytes == pool.used_bytes == 0 and pool.peak_bytes == 2 * MIB


def test_blocks_are_rounded_up_by_an_eighth_at_most() -> None:
    for nbytes in (1 << 16, 100_000, MIB, MIB + 1, 3 * MIB - 1, 5_000_001, 2**27 + 1, 10**9 + 7):
        room = memory.rounded(nbytes)
        assert nbytes <= room <= nbytes * 9 // 8 + 1 and memory.rounded(room) == room


def test_memory_runs_out_only_after_free_blocks_went_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = memory.BufferPool(64 * MIB)
    held = taken(pool, 8 * MIB)
    del held
    real = memory._Block
    free_when_tried = []

    def scarce(*args: object, **options: object) -> object:
        free_when_tried.append(pool.free_bytes)
        if pool.free_bytes:
            raise OSError(12, "Cannot allocate memory")
        return real(*args, **options)

    monkeypatch.setattr(memory, "_Block", scarce)
    held = taken(pool, 20 * MIB)
    del held
    assert free_when_tried[0] and free_when_tried[-1] == 0
    monkeypatch.setattr(memory, "_Block", lambda *args, **options: real(-1, 2**62))
    with pytest.raises(MemoryError, match="no memory for an array of"):
        taken(pool, 3 * MIB)
    assert pool.used_bytes == 0


def _scarce_system(pool: BlockPool, most: float) -> Callable[..., int]:
    """What stands for mmap where the system gives memory only while little lies free."""
    parameters = ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long
    real = ctypes.PYFUNCTYPE(ctypes.c_void_p, *parameters)(("mmap", ctypes.CDLL(None)))

    def scarce(place: int, length: int, *options: int) -> int:
        return -1 if pool.free_bytes > most else real(place, length, *options)

    function = type(real)(scarce)
    pool._words[POOL.index("mmap")] = ctypes.cast(function, ctypes.c_void_p).value
    return function


@emitted
def test_memory_of_emitted_code_runs_out_only_after_free_blocks_went_back() -> None:
    pool = BlockPool(64 * MIB)
    held = taken(pool, 8 * MIB)
    del held
    mapped = _scarce_system(pool, 0)
    held = taken(pool, 20 * MIB)
    assert pool.free_bytes == 0 and pool.used_bytes == 20 * MIB
    mapped = _scarce_system(pool, -1)
    with pytest.raises(MemoryError, match="no memory for an array of 3,145,728 bytes"):
        taken(pool, 3 * MIB)
    assert pool.used_bytes == 20 * MIB and mapped
    held[-1] = 7
    with pytest.raises(MemoryError):
        held.resize(21 * MIB, refcheck=False)
    assert held.nbytes == 20 * MIB and held[-1] == 7


def _work(pool: Pool, seed: int, errors: list[str]) -> None:
    """Random lifetimes; every array holds its own mark, which nobody else may write."""
    rng = random.Random(seed)
    alive: list[tuple[np.ndarray, int]] = []
    for turn in range(400):
        if alive and rng.random() < 0.5:
            held, mark = alive.pop(rng.randrange(len(alive)))
            if not (held == mark).all():
                errors.append(f"memory of thread {seed} was overwritten")
            if rng.random() < 0.3:  # a part of it lives on
                alive.append((held[:: rng.randint(1, 7)], mark))
            continue
        nbytes = rng.choice([MIB, MIB + 8, 3 * MIB // 2, 2 * MIB])
        mark = seed * 1000 + turn
        array = pool.allocator((nbytes // 8,), np.dtype(np.int64), nbytes)()
        array[:] = mark
        alive.append((array, mark))
        if len(alive) > 8:
            alive.pop(0)


def test_no_two_arrays_alive_overlap_under_many_threads(kind: type[Pool]) -> None:
    pool = kind(12 * MIB)
    errors: list[str] = []
    threads = [threading.Thread(target=_work, args=(pool, seed, errors)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors and not any(thread.is_alive() for thread in threads)
    gc.collect()
    assert pool.used_bytes == 0 and pool.free_bytes <= 12 * MIB
    if isinstance(pool, memory.BufferPool):
        assert pool.free_bytes == sum(size * len(blocks) for size, blocks in pool._free.items())
    pool.clear()
    assert pool.free_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_memory_of_its_own() -> None:
    out = in_fresh_process("""
import os, threading, accel, numpy as np
f = accel.compile(lambda x: x + 1)
x = np.zeros(500_000, np.float32)
held, ending = f(x), threading.Event()
spare = f(x); spare.free()
def beside():
    while not ending.is_set(): f(x)
other = threading.Thread(target=beside); other.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        fine = (held.numpy() == 1).all()
        for k in range(10): fine &= bool((f(held).numpy() == 2).all())
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (held.numpy() == 1).all()
ending.set(); other.join()
print("done")
""")
    assert out == "done"


def test_arrays_may_outlive_everything_else() -> None:
    out = in_fresh_process("""
import accel, sys, numpy as np
kept = accel.compile(lambda x: x + 1)(np.zeros(500_000, np.float32)).numpy()
sys.kept = [kept, kept[::2]]
sys.kept.append(sys.kept)
print("done")
""")
    assert out == "done"


# -- tensors ------------------------------------------------------------------------------
def test_results_of_compiled_functions_take_turns_in_the_same_memory() -> None:
    f = accel.compile(lambda x: x * 2 + 1)
    x = np.ones(1_000_000, np.float32)
    before = accel.memory_allocated()
    result = f(x)
    at = address(result.numpy())
    assert accel.memory_allocated() - before == 4_000_000
    del result
    assert accel.memory_allocated() == before
    assert {address(f(x).numpy()) for _ in range(5)} == {at}
    held = [f(x).numpy() for _ in range(3)]
    assert len({address(a) for a in held}) == 3 and all((a == 3).all() for a in held)


def test_the_peak_counts_what_was_alive_at_once() -> None:
    f = accel.compile(lambda x: accel.exp(x))
    x = np.ones((1000, 1000), np.float32)
    accel.reset_peak_memory()
    before = accel.memory_allocated()
    held = [f(x) for _ in range(3)]
    held.clear()
    assert accel.memory_allocated() == before
    assert accel.max_memory_allocated() == before + 12_000_000
    accel.reset_peak_memory()
    assert accel.max_memory_allocated() == before
    accel.empty_cache()
    assert process_memory.pool().free_bytes == 0


def test_large_intermediates_go_back_when_the_call_ends() -> None:
    f = accel.compile(lambda x: accel.sum(accel.softmax(x @ x, 0) @ x))
    x = np.ones((600, 600), np.float32)
    before = accel.memory_allocated()
    accel.reset_peak_memory()
    f(x)
    assert accel.memory_allocated() == before
    assert accel.max_memory_allocated() - before >= 600 * 600 * 4


def test_free_drops_the_value_and_says_so_when_it_is_read() -> None:
    before = accel.memory_allocated()
    x = accel.exp(accel.ones((1000, 1000), requires_grad=True)).block_until_ready()
    y = x * 2
    x.free()
    assert x.shape == (1000, 1000) and x.dtype == accel.float32
    assert float(y[0, 0]) == pytest.approx(2 * np.e)
    for use in (x.numpy, (x + 1).numpy, lambda: accel.compile(lambda a: a + 1)(x), lambda: repr(x)):
        with pytest.raises(FreedTensorError, match="after it was freed"):
            use()
    x.free()
    y.free()
    gc.collect()
    assert accel.memory_allocated() == before


def test_freeing_the_last_reference_keeps_views_alive() -> None:
    x = accel.exp(accel.zeros((1000, 1000))).block_until_ready()
    view = x.numpy()[::3]
    x.free()
    others = [accel.exp(accel.ones((1000, 1000)) + k).block_until_ready() for k in range(3)]
    assert (view == 1).all() and len(others) == 3


def test_freeing_inside_a_compiled_function_changes_nothing() -> None:
    @accel.compile
    def f(x: accel.Tensor) -> accel.Tensor:
        y = x + 1
        y.free()
        return y * 2

    assert f(np.ones(3)).tolist() == [4, 4, 4]


def test_memory_of_devices_that_are_not_there() -> None:
    assert accel.memory_allocated("cpu") == accel.memory_allocated()
    with pytest.raises((DeviceError, ImportError)):
        accel.memory_allocated("cuda:99")
    with pytest.raises((DeviceError, ImportError)):
        accel.empty_cache("moon")


def test_what_cannot_be_allocated_is_an_error_and_no_crash() -> None:
    with pytest.raises(OutOfMemoryError):
        (accel.zeros((1 << 20, 1)) + accel.zeros((1, 1 << 26))).block_until_ready()


# -- the plan -----------------------------------------------------------------------------
@dataclass
class FakeStep:
    """What the plan asks of a step."""

    reads: set[Buffer]
    writes: set[Buffer]
    scratch: int
    pairs: list[tuple[Buffer, Buffer]]

    def in_place(self) -> list[tuple[Buffer, Buffer]]:
        return self.pairs


def drawn_steps(rng: random.Random) -> list[FakeStep]:
    """Steps that write new buffers, sometimes over operands of theirs, and read old ones."""
    known: list[Buffer] = [Buffer(accel.float32, 100, "input")]
    steps = []
    for _ in range(rng.randint(1, 14)):
        reads = set(rng.sample(known, min(len(known), rng.randint(1, 3))))
        sizes = [rng.choice([0, 1, 5, 16, 64, 100, 300]) for _ in range(rng.randint(1, 3))]
        kinds = [rng.choice(["arena", "arena", "arena", "output"]) for _ in sizes]
        writes = [Buffer(accel.float32, n, k) for n, k in zip(sizes, kinds, strict=True)]
        pairs = [(r, w) for r in reads for w in writes if r.size == w.size and rng.random() < 0.7]
        late = [b for b in known if b.kind == "output" and rng.random() < 0.2]  # in pieces
        steps.append(FakeStep(reads, {*writes, *late}, rng.choice([0, 0, 40, 500]), pairs))
        known += writes
    return steps


@pytest.mark.parametrize("seed", range(300))
def test_nothing_alive_shares_its_memory(seed: int) -> None:
    steps = drawn_steps(random.Random(seed))
    plan = buffers.MemoryPlan(steps)  # type: ignore[arg-type]
    life: dict[Buffer, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for b in step.reads | step.writes:
            life[b] = life.get(b, (number, 0))[0], number
    for number, step in enumerate(steps):
        pieces: list[tuple[object, int, int, Buffer | None]] = []
        at = plan.scratch[number]
        pieces.append((None, at, at + step.scratch, None))
        assert at % 64 == 0 and at + step.scratch <= plan.bytes
        for b, (born, died) in life.items():
            if b.kind == "output" and b.size and born <= number:
                pieces.append((b, 0, b.nbytes, b))
            if b.kind != "arena" or not b.size or not born <= number <= died:
                continue
            host, offset = plan.places[b]
            assert offset % 64 == 0
            assert offset + b.nbytes <= (plan.bytes if host is None else host.nbytes)
            pieces.append((host, offset, offset + b.nbytes, b))
        for (where, begin, end, b), (other, first, last, c) in itertools.combinations(pieces, 2):
            if where is other and begin < last and first < end:
                pair = {b, c}
                assert any(pair == set(p) for p in step.pairs), (seed, number)
                operand = next(p[0] for p in step.pairs if pair == set(p))
                assert life[operand][1] == number, (seed, number)


def test_intermediates_lie_in_the_memory_of_results_that_come_later() -> None:
    f = accel.compile(lambda x: accel.softmax(accel.cumulative_sum(accel.cumsum(x, 1), axis=1), 1))
    x = np.random.default_rng(0).random((64, 64)) / 64
    (step,) = f._executable((x,), {}).steps
    expected = np.cumsum(np.cumsum(x, 1), 1)
    expected = np.exp(expected - expected.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-12)
    assert step.run.arena_bytes < 2 * 64 * 64 * 8  # of two intermediates


# -- results that pass by the caches ---------------------------------------------------------
STREAMED: dict[str, tuple[Callable[..., object], list[np.ndarray]]] = {
    "chain": (lambda x: accel.exp(x) * 2 + 1, [np.linspace(-3, 3, 700_001, dtype="float32")]),
    "rows": (lambda x: x - x[:, :1], [np.random.default_rng(0).random((700, 512), "float32")]),
    "odd rows": (lambda x: x - x[:, :1], [np.random.default_rng(0).random((701, 511))]),
    "softmax": (lambda x: accel.softmax(x, 1), [np.random.default_rng(0).random((300, 1024))]),
    "columns": (lambda x: accel.softmax(x, 0), [np.random.default_rng(0).random((300, 1024))]),
    "transposed": (lambda x: x.T * 2, [np.random.default_rng(0).random((768, 640), "float32")]),
    "several": (lambda x: (x + 1, x * 2, accel.sum(x * 2)), [np.ones(400_000)]),
    "read again": (lambda x: (x + 1, accel.cumulative_sum(x + 1)), [np.ones(400_000)]),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMED)
def test_large_results_are_the_same_whether_they_pass_by_the_caches(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, arrays = STREAMED[name]

    def run(threshold: int) -> tuple[list[bytes], list[bool]]:
        monkeypatch.setattr(buffers, "STREAMED", threshold)
        compiler.clear_cache()
        compiled = accel.compile(lambda *a: function(*a))
        found = []
        for count in (1, 2, 3):
            accel.set_num_threads(count)
            result = compiled(*arrays)
            parts = result if isinstance(result, tuple) else (result,)
            found.append([part.numpy().tobytes() for part in parts])
        assert found.count(found[0]) == len(found)
        return found[0], ["nontemporal" in text for text in compiled.llvm_ir(*arrays).split("; ")]

    before = accel.get_num_threads()
    try:
        plain, streamed = run(2**62), run(MIB)
    finally:
        accel.set_num_threads(before)
    assert plain[0] == streamed[0]
    assert not any(plain[1])
    assert any(streamed[1]) == (name not in ("odd rows", "columns", "read again"))


def test_for_rows_swept_several_times_all_that_is_touched_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.zeros((300, 1024), np.float32)  # 1.2 MB
    for factor, streamed in ((1, True), (2, True), (3, False)):
        monkeypatch.setattr(buffers, "STREAMED", factor * x.nbytes)
        compiler.clear_cache()
        rows = accel.compile(lambda a: accel.softmax(a, 1))
        assert ("nontemporal" in rows.llvm_ir(x)) == streamed
        plain = accel.compile(lambda a: a * 2)
        assert ("nontemporal" in plain.llvm_ir(x)) == (factor == 1)


def test_what_passes_by_the_caches_begins_on_a_line() -> None:
    assert buffers.STREAMED // 4 >= buffers._LARGE >= memory.POOLED
    assert memory.ALIGNMENT % LINE == 0


# -- settings -----------------------------------------------------------------------------
def test_the_environment_bounds_the_pool() -> None:
    code = """
import accel, numpy as np
try:
    accel.compile(lambda x: x + 1)(np.ones(1_000_000, np.float32))
    from accel.targets.pure import memory
    print(memory.pool().free_bytes)
except ValueError as error: print(error)
"""
    assert int(in_fresh_process(code, ACCEL_BUFFER_POOL="")) >= 4_000_000
    assert in_fresh_process(code, ACCEL_BUFFER_POOL="0") == "0"
    assert in_fresh_process(code, ACCEL_BUFFER_POOL="1M") == "0"
    assert "ACCEL_BUFFER_POOL='lots'" in in_fresh_process(code, ACCEL_BUFFER_POOL="lots")


def test_sizes_are_written_with_or_without_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in {"": None, "4096": 4096, "64M": 64 * MIB, "2g": 2 << 30}.items():
        monkeypatch.setenv("ACCEL_SOMETHING", text)
        assert limits.byte_setting("ACCEL_SOMETHING") == expected
    for text in ("M", "-1", "1.5G", "64MB"):
        monkeypatch.setenv("ACCEL_SOMETHING", text)
        with pytest.raises(ArgumentError, match="ACCEL_SOMETHING"):
            limits.byte_setting("ACCEL_SOMETHING")


def test_the_memory_of_the_control_group_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert limits.memory_limit(tmp_path, "0::/a/b\n") is None
    (tmp_path / "a" / "memory.max").write_text("536870912\n")
    assert limits.memory_limit(tmp_path, "0::/a/b\n") == 512 * MIB
    old = tmp_path / "memory" / "jobs"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("1048576\n")
    assert limits.memory_limit(tmp_path, "4:memory:/jobs\n0::/\n") == MIB
    assert 0 < limits.available_memory() <= 2**62


# -- code ---------------------------------------------------------------------------------
def test_functions_that_are_dropped_leave_no_code_and_calls_leave_nothing() -> None:
    out = in_fresh_process("""
import gc, itertools, accel, numpy as np
from accel.runtime import compiler
from accel.targets.pure import KERNELS, records
KERNELS.max_bytes, records._TEXTS_KEPT = 0, 1 << 16
accel.set_num_threads(1)
x = np.ones(64, np.float32)
OPS = accel.exp, accel.tanh, accel.abs, accel.sqrt
chains = itertools.product(OPS, repeat=6)

def resident():
    gc.collect()
    with open("/proc/self/statm") as file: return int(file.read().split()[1]) * 4096

def compile_and_drop(count):
    for chain in itertools.islice(chains, count):
        def f(x):
            for op in chain: x = op(x)
            return x
        accel.compile(f)(x)
        compiler.clear_cache()

compile_and_drop(400)  # until the allocator has what the largest needs
before, kernels = resident(), len(KERNELS)
compile_and_drop(160)
print((resident() - before) // 160, len(KERNELS) - kernels)
f, large = accel.compile(lambda x: accel.exp(x) * x), np.ones(300_000, np.float32)
for a in (x, large) * 50: f(a)
before = resident()
for _ in range(30_000): f(x)
for _ in range(200): f(large)
print(resident() - before)
""", ACCEL_CACHE="0")  # fmt: skip
    per_cycle, kernels, calls = map(int, out.split())
    assert per_cycle < 12_000 and kernels <= 0 and calls < 1 << 16


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "complex64", "bool"])
@pytest.mark.parametrize("length", [0, 1, 4000, 5000])
def test_copies_of_some_size_begin_on_a_line(dtype: str, length: int) -> None:
    numbers = np.arange(2 * length).reshape(2, length).astype(dtype)
    big_endian = numbers.astype(numbers.dtype.newbyteorder())
    small = numbers[0].real.astype("int16")
    for array in (numbers, numbers.T, numbers[:, ::-1], big_endian, small):
        wide = accel.complex128 if dtype == "complex64" else accel.float64
        for wanted, found in ((None, array.dtype.newbyteorder("=")), (wide, wide.numpy)):
            copied, expected = accel.asarray(array, dtype=wanted)._value.data, array.astype(found)
            np.testing.assert_array_equal(copied, expected)
            assert copied.dtype == expected.dtype and copied.flags.c_contiguous
            assert copied.flags.writeable and not np.shares_memory(copied, array)
            assert copied.nbytes < 4096 or address(copied) % 64 == 0
