"""Threads: the same bits at any number, callers beside each other, forks, errors, no waste."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import in_fresh_process

import accel
from accel.errors import ArgumentError, IndexOutOfRangeError
from accel.targets.pure.gemm import gemm
from accel.targets.pure.machine import jit, limits, threads
from accel.targets.pure.machine.host import binding
from accel.targets.pure.machine.kernels import Kernel, KernelCache
from accel.targets.pure.machine.llvm_text import Function, module_text
from accel.targets.pure.machine.pool import pool_text


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = accel.get_num_threads()
    yield
    accel.set_num_threads(before)


def numbers(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -- results ------------------------------------------------------------------------------
def _take(x: accel.Tensor, i: accel.Tensor) -> accel.Tensor:
    return accel.take(x, i, axis=0)


BIG = numbers(300, 1001)
WORK: dict[str, tuple[Callable[..., object], list[np.ndarray]]] = {
    "elementwise": (lambda a: accel.exp(a) * a + 1, [numbers(200_003)]),
    "float64": (lambda a: accel.sin(a) / 3, [numbers(100_001, dtype="float64")]),
    "integers": (lambda a: a * 3 // 7, [np.arange(-90_000, 90_001)]),
    "broadcast": (lambda a, b: a * b + a, [BIG, numbers(1001)]),
    "transposed": (lambda a, b: a.T + b, [BIG, numbers(1001, 300)]),
    "softmax": (lambda a: accel.softmax(a, 1), [BIG]),
    "softmax over rows": (lambda a: accel.softmax(a, 0), [BIG]),
    "log-sum-exp": (lambda a: accel.logsumexp(a, axis=1), [BIG]),
    "variance": (lambda a: accel.var(a, axis=1), [BIG]),
    "sum of columns": (lambda a: accel.sum(a, axis=0), [BIG]),
    "sum of all": (lambda a: accel.sum(a), [BIG]),
    "running sums": (lambda a: accel.cumulative_sum(a, axis=1), [BIG]),
    "running products": (lambda a: accel.cumprod(a, 0), [BIG]),
    "argmax": (lambda a: accel.argmax(a, axis=1), [BIG]),
    "take": (_take, [BIG, np.arange(599) % 300]),
    "product": (lambda a, b: a @ b, [numbers(257, 300), numbers(300, 512)]),
    "many columns": (lambda a, b: a @ b + 1, [numbers(16, 700), numbers(700, 1024)]),
    "many rows": (lambda a, b: accel.tanh(a @ b), [numbers(1031, 600), numbers(600, 10)]),
    "transposed product": (lambda a, b: a.T @ b.T, [numbers(300, 200), numbers(256, 300)]),
    "vector": (lambda a, b: a @ b, [numbers(1, 1024), numbers(1024, 2048)]),
    "batched": (lambda a, b: a @ b, [numbers(9, 64, 80), numbers(9, 80, 64)]),
    "integer product": (lambda a, b: a @ b, [np.arange(90_000).reshape(300, 300)] * 2),
    "gradient": (
        accel.grad(lambda w, x: accel.sum(accel.softmax(x @ w, 1) ** 2)),
        [numbers(300, 128), numbers(256, 300)],
    ),
    "scatter": (accel.grad(lambda x, i: accel.sum(_take(x, i) ** 2)), [BIG, np.arange(900) % 7]),
    "random": (lambda a: a + accel.exp(accel.abs(a)), [numbers(77, 3001)]),
}  # fmt: skip


def _bits(result: accel.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(result.numpy()).tobytes()).hexdigest()


@pytest.mark.parametrize("name", WORK)
def test_results_have_the_same_bits_at_any_number_of_threads(name: str) -> None:
    function, arrays = WORK[name]
    compiled = accel.compile(function)
    found = {}
    for count in (1, 2, 3, 8):
        accel.set_num_threads(count)
        found[count] = {_bits(compiled(*arrays)) for _ in range(3)}
    assert set.union(*found.values()) == found[1] and len(found[1]) == 1, found


@pytest.mark.parametrize("m, k, n", [
    (256, 256, 256), (32, 1024, 4096), (1, 2048, 4096), (1000, 1200, 10), (2000, 30, 30),
    (64, 1500, 96), (3, 4096, 2048),
])  # fmt: skip
def test_large_products_have_items_for_several_threads(m: int, k: int, n: int) -> None:
    spec = gemm.MatmulSpec("float", jit.host_machine(), ("float",))

    def at(place: int, columns: int) -> gemm.Matrix:
        return gemm.Matrix(place, 0, 4 * columns, 4)

    problem = gemm.Problem(m, n, k, (), at(0, k), at(1, n), (at(2, n),))
    *_, step = gemm.schedule(spec, problem, {}, (3, 0))
    assert step.items >= 2, step.items
    assert threads.grain(step.items, step.work) > 0

    accel.set_num_threads(2)
    a, b = numbers(m, k), numbers(k, n)
    exact = a.astype("float64") @ b.astype("float64")
    bound = 2 * k * 2.0**-24 * (abs(a).astype("float64") @ abs(b))
    assert (abs(accel.compile(lambda a, b: a @ b)(a, b).numpy() - exact) <= bound).all()


def test_products_with_groups_of_columns_apply_their_epilogue_to_the_right_ones() -> None:
    a, b, bias, scale = numbers(24, 700), numbers(700, 512), numbers(512), numbers(24, 1)
    wide = numbers(24, 1024)
    f = accel.compile(lambda a, b, bias, scale, r: (a @ b + bias) * scale + r[:, ::2] > 0)
    exact = (a.astype("float64") @ b + bias) * scale + wide[:, ::2]
    clear = abs(exact) > 1e-3
    accel.set_num_threads(3)
    assert (f(a, b, bias, scale, wide).numpy() == (exact > 0))[clear].all() and clear.mean() > 0.99


# -- the pool -----------------------------------------------------------------------------
def _kernel(body: Callable[[Function, str], str]) -> tuple[Kernel, KernelCache]:
    """A kernel whose items run `body(function, index)`; what it yields is the status."""
    fn = Function(
        "counting", [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")], "i64"
    )
    with fn.loop("%begin", "%end", carried=[("i64", "0")]) as loop:
        status = body(fn, loop.index)
        earlier = fn.icmp("ne", loop.values[0], 0)
        loop.next = [fn.op(f"select i1 {earlier}, i64 {loop.values[0]}, i64 {status}")]
    fn.do(f"ret i64 {loop.values[0]}")
    cache = KernelCache()
    return cache.get("counting", module_text([fn])), cache


def _count(fn: Function, index: str) -> str:
    """Add 1 to the element of the index."""
    at = fn.gep(fn.load("ptr", "%bases", 8), index, "i64")
    fn.store("i64", fn.integer("add", fn.load("i64", at, 8), 1), at, 8)
    return "0"


def _section(kernel: Kernel, items: int, size: int) -> Callable[[np.ndarray], int]:
    """A call of `kernel` for items divided into parts of `size`."""
    address, block = threads.divided(kernel.address, 0, size)
    program = np.array([[address, block.ctypes.data, 0, items]], np.int64)

    def run(counts: np.ndarray, keep: tuple[object, ...] = (block, program, kernel)) -> int:
        bases = np.array([counts.ctypes.data], np.int64)
        return jit.run_program(bases.ctypes.data, program.ctypes.data, 1)

    return run


@pytest.mark.parametrize("count", [2, 3, 8])
def test_every_item_of_many_small_sections_runs_once(count: int) -> None:
    kernel, _ = _kernel(_count)
    counts = np.zeros(37, np.int64)
    run = _section(kernel, 37, 5)
    accel.set_num_threads(count)
    for _ in range(20_000):
        assert run(counts) == 0
    assert (counts == 20_000).all()


def test_the_status_is_that_of_the_first_part_that_fails() -> None:
    def fail_above(fn: Function, index: str) -> str:
        above = fn.icmp("sgt", index, 20)
        return fn.op(f"select i1 {above}, i64 {fn.integer('add', index, 100)}, i64 0")

    kernel, _ = _kernel(fail_above)
    run = _section(kernel, 64, 3)
    for count in (1, 2, 8):
        accel.set_num_threads(count)
        assert {run(np.zeros(1, np.int64)) for _ in range(200)} == {1 << 32 | 121}


def test_python_threads_take_the_place_of_the_pool_where_there_is_no_futex() -> None:
    pool = threads._PythonPool()
    kernel, _ = _kernel(_count)
    _, block = threads.divided(kernel.address, 0, 3)
    call = threads._KERNEL(pool.address)
    counts = np.zeros(100, np.int64)
    bases = np.array([counts.ctypes.data], np.int64)
    for count in (1, 2, 3, 3):
        accel.set_num_threads(count)
        assert call(bases.ctypes.data, block.ctypes.data, 0, 100) == 0
    assert (counts == 4).all()
    failing, _ = _kernel(lambda fn, index: fn.integer("add", index, 7))
    _, block = threads.divided(failing.address, 0, 10)
    assert call(bases.ctypes.data, block.ctypes.data, 0, 100) == 7


def test_callers_beside_each_other_get_their_own_results() -> None:
    accel.set_num_threads(3)
    f = accel.compile(lambda a: accel.softmax(a * 2, 1) @ a.T)
    inputs = [numbers(120, 500, seed=seed) for seed in range(8)]
    expected = [_bits(f(a)) for a in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            if _bits(f(inputs[number])) != expected[number]:
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers) and not wrong


def test_an_index_out_of_range_raises_from_any_part_and_the_pool_goes_on() -> None:
    x, good = numbers(64, 400), np.arange(2000) % 64
    bad = good.copy()
    bad[1990] = 64
    f = accel.compile(_take)
    for count in (1, 2, 8):
        accel.set_num_threads(count)
        for _ in range(20):
            with pytest.raises(IndexOutOfRangeError):
                f(x, bad)
            assert (f(x, good).numpy() == x[good]).all()


# -- processes ----------------------------------------------------------------------------
def test_no_thread_before_the_first_large_kernel() -> None:
    out = in_fresh_process("""
import os, time, accel, numpy as np
def tasks():
    time.sleep(0.1)  # a thread that has been joined takes a moment to go
    return len(os.listdir("/proc/self/task"))
f = accel.compile(lambda a, b: accel.exp(a) @ b)
found = [tasks()]
accel.set_num_threads(3)
f(np.ones((8, 8)), np.ones((8, 8))); found.append(tasks())
f(np.ones((300, 300)), np.ones((300, 300))); found.append(tasks())
f(np.ones((300, 300)), np.ones((300, 300))); found.append(tasks())
accel.set_num_threads(1)
f(np.ones((300, 300)), np.ones((300, 300))); found.append(tasks())
print(*found)
""")
    assert out == "1 1 3 3 3"


def test_one_thread_never_starts_another() -> None:
    out = in_fresh_process("""
import os, accel, numpy as np
print(accel.get_num_threads(), accel.info().threads)
accel.compile(lambda a: accel.exp(a) @ a)(np.ones((300, 300)))
print(len(os.listdir("/proc/self/task")))
""", ACCEL_NUM_THREADS="1")  # fmt: skip
    assert out.split() == ["1", "1", "1"]


def test_a_forked_child_computes_and_so_does_its_parent() -> None:
    out = in_fresh_process("""
import os, threading, accel, numpy as np
accel.set_num_threads(3)
f = accel.compile(lambda a: accel.softmax(a, 1) @ a)
a = np.random.default_rng(0).standard_normal((300, 300))
expected = f(a).numpy()
ending = threading.Event()
def beside():
    while not ending.is_set(): f(a)
other = threading.Thread(target=beside)
other.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = all((f(a).numpy() == expected).all() for _ in range(20))
        count = len(os.listdir("/proc/self/task"))
        os._exit(0 if same and count == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (f(a).numpy() == expected).all()
ending.set()
other.join()
print("done")
""")
    assert out == "done"


def test_the_process_ends_while_workers_wait() -> None:
    for pause in ("", "time.sleep(0.3)"):
        out = in_fresh_process(f"""
import time, accel, numpy as np
accel.set_num_threads(4)
accel.compile(lambda a: accel.exp(a))(np.ones(1_000_000))
{pause}
print("done")
""")
        assert out == "done"


# -- settings -----------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", True, None, 10**6])
def test_bad_numbers_of_threads_are_refused(bad: object) -> None:
    before = accel.get_num_threads()
    with pytest.raises(ArgumentError, match="number of threads"):
        accel.set_num_threads(bad)  # type: ignore[arg-type]
    assert accel.get_num_threads() == before


def test_the_environment_sets_the_number_of_threads() -> None:
    code = """
import accel
try: print(accel.get_num_threads())
except ValueError as error: print(error)
"""
    assert in_fresh_process(code, ACCEL_NUM_THREADS="5") == "5"
    assert "ACCEL_NUM_THREADS" in in_fresh_process(code, ACCEL_NUM_THREADS="many")


def test_the_default_honours_the_affinity_of_the_process() -> None:
    assert accel.info().threads == accel.get_num_threads()
    out = in_fresh_process("""
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import accel
print(accel.get_num_threads())
""", ACCEL_NUM_THREADS="")  # fmt: skip
    assert out == "1"


def test_the_default_honours_the_quota_of_the_control_group(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert limits.quota(tmp_path, "0::/a/b\n") is None
    (tmp_path / "a" / "cpu.max").write_text("350000 100000\n")
    assert limits.quota(tmp_path, "0::/a/b\n") == 3.5
    old = tmp_path / "cpu,cpuacct" / "jobs"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert limits.quota(tmp_path, "4:memory:/x\n3:cpu,cpuacct:/jobs\n") is None
    (old / "cpu.cfs_quota_us").write_text("200000\n")
    assert limits.quota(tmp_path, "3:cpu,cpuacct:/jobs\n0::/a\n") == 2.0
    assert limits.quota(tmp_path / "none", "nonsense\n0::/") is None


def test_workers_keep_off_the_processor_of_the_caller() -> None:
    out = in_fresh_process("""
import os, accel, numpy as np
accel.set_num_threads(2)
before = set(os.listdir("/proc/self/task"))
own = os.sched_getaffinity(0)
f = accel.compile(lambda a: accel.exp(a))
f(np.ones(1_000_000))
(worker,) = set(os.listdir("/proc/self/task")) - before
left = own - os.sched_getaffinity(int(worker))
print(len(left) == 1 or len(own) == 1, os.sched_getaffinity(0) == own)
""")
    assert out == "True True"


def test_small_work_is_not_divided() -> None:
    assert threads.grain(1, 10**9) == 0 and threads.grain(10**6, threads.GATE - 1) == 0
    for items in (2, 3, 100, 10**6):
        size = threads.grain(items, 10**8)
        assert 0 < size < items and -(-items // size) <= 128
    assert threads.grain(5000, 10**8, 1024) == 1024 and threads.grain(1000, 10**8, 1024) == 0


def test_the_pool_assembles_for_other_machines() -> None:
    llvm = binding()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for architecture, features, claim in (
        ("x86_64", "", "cmpxchg"), ("aarch64", "+lse", "casal"), ("riscv64", "+a", "lr.d"),
    ):  # fmt: skip
        module = llvm.parse_assembly(pool_text(architecture))
        module.verify()
        target = llvm.Target.from_triple(f"{architecture}-unknown-linux-gnu")
        text = target.create_target_machine(features=features).emit_assembly(module)
        assert "accel_parallel" in text and claim in text
