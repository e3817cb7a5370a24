"""The JIT: machines, verification, kernel cache, freeing of code, the native driver."""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
import struct
import subprocess
import sys
import threading
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from accel.errors import ArgumentError, InternalCompilerError
from accel.targets.pure.machine import image, jit, object_cache
from accel.targets.pure.machine.crew import Crew
from accel.targets.pure.machine.image import Image, Unforeseen, link
from accel.targets.pure.machine.kernels import Kernel, KernelCache
from accel.targets.pure.machine.llvm_text import Function, Lanes, module_text

PARAMS = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]

USE_BEFORE_DEFINITION = """
define i64 @f() {
entry:
  %x = add i64 %y, 1
  %y = add i64 1, 1
  ret i64 %x
}
"""
UNKNOWN_CALL = """
declare void @no_such_function()
define void @f() {
  call void @no_such_function()
  ret void
}
"""


def scale_kernel(name: str, factor: float, status: int = 0) -> str:
    """x[i] *= factor over the items [begin, end) of the float64 array at bases[0]."""
    fn = Function(name, PARAMS, "i64")
    lanes = Lanes(fn, "double", 1)
    data = fn.load("ptr", "%bases", 8)
    with fn.loop("%begin", "%end") as loop:
        at = fn.gep(data, loop.index, "double")
        lanes.store(lanes.mul(lanes.load(at), factor), at)
    fn.do(f"ret i64 {status}")
    return module_text([fn])


def run(kernels: list[Kernel], x: np.ndarray) -> int:
    bases = np.array([x.ctypes.data], np.int64)
    program = np.array([[k.address, 0, 0, x.size] for k in kernels], np.int64)
    return jit.run_program(bases.ctypes.data, program.ctypes.data, len(kernels))


def test_import_does_not_load_llvm() -> None:
    code = "import sys, accel.targets.pure.machine.jit; print('llvmlite.binding' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr


def test_program_runs_its_kernels_in_order() -> None:
    cache = KernelCache()
    kernels = cache.ensure([("a", scale_kernel("a", 2)), ("b", scale_kernel("b", 3))])
    x = np.arange(5.0)
    assert run(kernels, x) == 0
    assert x.tolist() == [0, 6, 12, 18, 24]
    assert jit.run_program(0, 0, 0) == 0


def test_status_names_the_record_and_stops() -> None:
    cache = KernelCache()
    good = cache.get("good", scale_kernel("good", 2))
    bad = cache.get("bad", scale_kernel("bad", 3, status=7))
    x = np.ones(2)
    assert run([good, bad, good], x) == (2 << 32) | 7
    assert x.tolist() == [6, 6]


def test_equal_text_is_compiled_once_whatever_its_name() -> None:
    cache = KernelCache()
    first = cache.get("a", scale_kernel("a", 2))
    second, third = cache.ensure([("b", scale_kernel("b", 2)), ("b", scale_kernel("b", 4))])
    assert second is first and third is not first
    assert (cache.compiles, cache.hits, len(cache)) == (2, 1, 2)
    assert f"@{first.name}(" in first.ir and first.name.startswith("a_")


def test_duplicates_within_one_request_are_compiled_once() -> None:
    cache = KernelCache()
    a, b = cache.ensure([("p", scale_kernel("p", 2)), ("q", scale_kernel("q", 2))])
    assert a is b and cache.compiles == 1


def test_internal_functions_of_two_kernels_may_share_a_name() -> None:
    texts = []
    for name, factor in (("k1", 2.0), ("k2", 5.0)):
        helper = Function("helper", [("double", "x")], "double", linkage="internal")
        helper.do(f"ret double {Lanes(helper, 'double', 1).mul('%x', factor)}")
        fn = Function(name, PARAMS, "i64")
        data = fn.load("ptr", "%bases", 8)
        value = fn.op(f"call double @helper(double {fn.load('double', data, 8)})")
        fn.store("double", value, data, 8)
        fn.do("ret i64 0")
        texts.append((name, module_text([helper, fn])))
    x = np.ones(1)
    assert run(KernelCache().ensure(texts), x) == 0
    assert x[0] == 10


def test_evicted_kernels_live_while_used_and_are_freed_after() -> None:
    cache = KernelCache(max_bytes=0)
    kernel = cache.get("k", scale_kernel("k", 2))
    assert cache.held_bytes == 0
    assert cache.get("other", scale_kernel("other", 2)) is kernel  # found while alive
    x = np.ones(3)
    assert run([kernel], x) == 0 and x[0] == 2
    code = weakref.ref(kernel._code)
    del kernel
    gc.collect()
    assert code() is None and len(cache) == 0


def test_cache_keeps_recent_kernels_within_its_bound() -> None:
    cache = KernelCache()
    cache.get("k0", scale_kernel("k0", 1.5))
    cache.max_bytes = 3 * cache.held_bytes
    for i in range(6):
        cache.get("k", scale_kernel("k", i + 2.0))
    gc.collect()
    assert len(cache) == 3 and cache.held_bytes <= cache.max_bytes
    before = cache.compiles
    cache.get("k", scale_kernel("k", 7.0))
    assert cache.compiles == before
    cache.clear()
    gc.collect()
    assert len(cache) == 0


def test_memory_is_returned() -> None:
    def mapped() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0])

    if not sys.platform.startswith("linux"):
        return
    cache = KernelCache(max_bytes=0)
    for i in range(30):
        cache.get("k", scale_kernel("k", 100.0 + i))
    start = mapped()
    for i in range(120):
        cache.get("k", scale_kernel("k", 200.0 + i))
    assert cache.compiles == 150
    # Each kernel maps at least two pages: 120 leaked ones could not hide.
    assert mapped() - start < 120


def test_bad_ir_is_refused_with_its_lines() -> None:
    text = scale_kernel("k", 2).replace("fmul double", "fmul float")
    with pytest.raises(InternalCompilerError, match="fmul float"):
        jit.compile_module(text)
    with pytest.raises(InternalCompilerError):
        jit.compile_module(USE_BEFORE_DEFINITION)


def test_machine_code_is_the_same_from_every_thread() -> None:
    texts = [scale_kernel("k", float(i)) for i in range(24)]
    alone = [jit.emit_object(text) for text in texts]
    with Crew[bytes](4) as crew:
        for text in texts:
            crew.add(partial(jit.emit_object, text))
    assert crew.results() == alone


def test_a_crew_works_while_tasks_are_handed_in() -> None:
    seen = threading.Event()
    with Crew[bool](2) as crew:
        crew.add(lambda: not seen.set())
        crew.add(lambda: True)
        assert seen.wait(10)
    assert crew.results() == [True, True]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_crew_tells_of_the_first_failure(threads: int) -> None:
    ran: list[int] = []
    with Crew[int](threads) as crew:
        for i in range(6):
            crew.add(partial(ran.append, i) if i % 2 else partial(int, f"no {i}"))
    assert sorted(ran) == [1, 3, 5]
    with pytest.raises(ValueError, match="no 0"):
        crew.results()


def test_a_crew_ends_with_the_code_that_hands_in_tasks() -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), Crew[int](3) as crew:
        for _ in range(5):
            crew.add(int)
        raise KeyError
    assert threading.active_count() == before


def test_modules_that_are_expected_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "default_threads", lambda: 2)  # whatever the machine has
    monkeypatch.setattr(jit, "_EXPECTED", {})
    begun, made = threading.Event(), []

    def emit() -> str:
        begun.set()
        made.append(threading.current_thread())
        return scale_kernel("expected", 3.0)

    jit.expect("a test's module", emit, soon=True)
    jit.expect("one that nobody comes to", lambda: begun.wait(10) and "no code")
    before = threading.active_count()
    with jit.expected_beside():
        assert begun.wait(10)  # though nobody has asked
        code = jit.compile_described("a test's module", emit)
    assert threading.active_count() == before
    assert code.address("expected") and len(made) == 1
    assert made[0] is not threading.current_thread()
    jit.compile_described("a test's module", emit)
    assert len(made) == 2 or object_cache.shared().directory is not None


def test_who_asks_for_a_module_is_told_that_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "default_threads", lambda: 2)  # whatever the machine has
    monkeypatch.setattr(jit, "_EXPECTED", {})
    begun = threading.Event()
    jit.expect("no module", lambda: "no code" if begun.set() is None else "")
    with jit.expected_beside():
        assert begun.wait(10)
    with pytest.raises(InternalCompilerError):
        jit.compile_described("no module", lambda: "no code")


@pytest.mark.parametrize("part", ["pool", "blocks", "driver", "entry"])
def test_modules_made_soon_have_no_vectors(part: str) -> None:
    from accel.targets.pure.machine import threads
    from accel.targets.pure.native import blocks, entry

    texts = {"pool": threads._pool_text, "blocks": blocks.blocks_text,
             "driver": jit._driver_text, "entry": entry._entry_text}  # fmt: skip
    text = texts[part]()
    assert not re.search(r"<\d+ x ", text)  # LLVM would end the process
    assert jit.emit_object(text, soon=True) != jit.emit_object(text)


#: Code with a constant, a variable, an internal function and one of the C library.
LINKED = """
@table = internal constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
@calls = internal global i64 0
@odd = internal constant [3 x i8] c"odd"
@wide = constant [16 x float] zeroinitializer, align 64
@seven = constant i64 7
declare double @fmod(double, double)
define i64 @places() {
  %a = ptrtoint ptr @odd to i64
  %b = ptrtoint ptr @wide to i64
  %c = and i64 %b, 63
  %d = load i64, ptr @seven
  %e = add i64 %c, %d
  ret i64 %e
}
define internal i64 @none() noinline {
  ret i64 0
}
define internal i64 @count() noinline {
  %o = call i64 @none()
  %n = load i64, ptr @calls
  %p = add i64 %n, %o
  %m = add i64 %p, 1
  store i64 %m, ptr @calls
  ret i64 %m
}
define i64 @f(i64 %i) {
  %n = call i64 @count()
  %at = getelementptr double, ptr @table, i64 %i
  %x = load double, ptr %at
  %y = call double @fmod(double %x, double 3.0)
  %z = fptosi double %y to i64
  %t = mul i64 %n, 10
  %s = add i64 %t, %z
  ret i64 %s
}
"""


@pytest.mark.parametrize("loaded_by", ["image", "llvm"])
def test_objects_are_linked(loaded_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loaded_by == "llvm":
        def refuse(objects: object) -> None:
            raise Unforeseen

        monkeypatch.setattr(jit, "link", refuse)
    other = LINKED.replace("double 8.0", "double 7.0").replace("@wide", "@wider")
    other = other.replace("@seven", "@heptad")
    texts = [LINKED, other.replace("@f(", "@g(").replace("@places", "@places_too")]
    code = jit.load_object([jit.emit_object(text) for text in texts])
    called = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    f, g = called(code.address("f")), called(code.address("g"))
    # Internal names are each module's own: the count of calls and the table.
    assert [f(i) for i in range(4)] == [11, 22, 31, 42]
    assert [g(i) for i in range(4)] == [11, 22, 31, 41]
    assert called(code.address("places"))(0) == called(code.address("places_too"))(0) == 7
    if loaded_by == "image":
        with pytest.raises(InternalCompilerError, match="no function"):
            code.address("count")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_images_are_not_writable_where_they_run() -> None:
    code = jit.load_object(jit.emit_object(LINKED))
    rights = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(n, 16) for n in line.split()[0].split("-"))
        rights.update({"code": line.split()[1]} if begin <= code.address("f") < end else {})
    assert rights["code"] == "r-xp"


def test_what_an_image_does_not_foresee_is_left_to_llvm() -> None:
    if not jit.host_machine().triple.startswith("x86_64"):
        pytest.skip("LLVM loads all objects here")
    data = bytearray(jit.emit_object(scale_kernel("k", 2.0)))
    Image(link([bytes(data)]))
    for at, byte in ((0, 0), (16, 2), (18, 183)):  # no ELF, no relocatable file, AArch64
        changed = data.copy()
        changed[at] = byte
        with pytest.raises(Unforeseen):
            link([bytes(changed)])
    threads = LINKED.replace("internal global", "internal thread_local global")
    with pytest.raises(Unforeseen):
        link([jit.emit_object(threads)])


def test_addresses_and_distances_are_put_where_they_belong() -> None:
    with mmap.mmap(-1, 64) as memory:
        for kind, code, want in ((1, "<Q", 0x7FFF_0000_1234), (2, "<i", 0x234), (4, "<i", 0x234),
                                 (24, "<q", 0x234)):  # fmt: skip
            image._put(memory, 0x7FFF_0000_0FF8, 8, kind, 0x7FFF_0000_1234)
            assert struct.unpack_from(code, memory, 8) == (want,)
        for kind, far in ((2, 1 << 40), (4, 1 << 40), (10, 8), (42, 8)):
            with pytest.raises(Unforeseen):
                image._put(memory, 0, 8, kind, far)


def test_undefined_symbols_are_refused_before_loading() -> None:
    with pytest.raises(InternalCompilerError, match="no_such_function"):
        jit.compile_module(UNKNOWN_CALL)


def test_half_precision_conversions_without_hardware_are_refused() -> None:
    text = """
    define void @f(ptr %p, float %x) {
      %h = fptrunc float %x to half
      store half %h, ptr %p
      ret void
    }"""
    level = "sse2" if jit.host_machine().triple.startswith("x86_64") else ""
    if level:
        with pytest.raises(InternalCompilerError, match="__truncsfhf2"):
            jit.compile_module(text, jit.machine_for_level(level))
    else:
        assert jit.compile_module(text).address("f") != 0


def test_intrinsics_that_become_library_calls_are_linked() -> None:
    lowest = "sse2" if jit.host_machine().triple.startswith("x86_64") else ""
    fn = Function("k", PARAMS, "i64")
    lanes = Lanes(fn, "double", 2)
    data = fn.load("ptr", "%bases", 8)
    value = lanes.load(data)
    lanes.store(lanes.fma(lanes.intrinsic("floor", value), 2.0, 0.5), data)
    fn.do("ret i64 0")
    cache = KernelCache(machine=jit.machine_for_level(lowest))
    x = np.array([1.7, -1.2])
    assert run([cache.get("k", module_text([fn]))], x) == 0
    assert x.tolist() == [2.5, -3.5]


def test_failed_compile_leaves_the_cache_usable() -> None:
    cache = KernelCache()
    with pytest.raises(InternalCompilerError):
        cache.ensure([("a", scale_kernel("a", 2)), ("b", "define nonsense")])
    assert len(cache) == 0
    x = np.ones(1)
    assert run([cache.get("a", scale_kernel("a", 2))], x) == 0 and x[0] == 2


def test_concurrent_callers_share_compiles() -> None:
    cache = KernelCache()
    results: list[list[Kernel]] = []

    def work() -> None:
        results.append(cache.ensure([("k", scale_kernel("k", 2.0 + i)) for i in range(4)]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.compiles == 4
    assert all(result == results[0] for result in results) and len(results) == 6


def test_machine_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    host = jit.host_machine()
    assert host.vector_bytes in (16, 32, 64) and host.lanes(4) == host.vector_bytes // 4
    assert host.fingerprint == jit.host_machine().fingerprint
    monkeypatch.setenv("ACCEL_CPU_FEATURES", "pentium")
    with pytest.raises(ArgumentError, match="baseline"):
        jit.host_machine()
    monkeypatch.setenv("ACCEL_CPU_FEATURES", "sse2")
    if host.triple.startswith("x86_64"):
        level = jit.host_machine()
        assert level.vector_bytes == 16 and not level.has_fma
        assert level.fingerprint != host.fingerprint
        assert "zmm" not in jit.assembly(scale_kernel("k", 2), level)
    else:
        with pytest.raises(ArgumentError, match="lacks"):
            jit.host_machine()
