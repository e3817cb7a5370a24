"""Machine code on disk: found by later processes, refused on any doubt, bounded."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import ArgumentError
from accel.targets.pure import KERNELS
from accel.targets.pure.machine import host, jit, object_cache
from accel.targets.pure.machine.host import CODE_GENERATOR
from accel.targets.pure.machine.kernels import KernelCache
from accel.targets.pure.machine.llvm_text import Function, Lanes, module_text
from accel.targets.pure.machine.object_cache import ObjectCache, described_key, entry_key

#: What ACCEL_CPU_FEATURES may ask for here.
LEVELS = ["", "sse2"] if jit.host_machine().triple.startswith("x86_64") else [""]

#: Whether a process needs no LLVM to load machine code.
LOADS_ALONE = sys.platform.startswith("linux") and host._identity() != "" and (
    jit.host_machine().triple.startswith("x86_64")
)

#: A process that compiles one small training step, and says what that took.
STEP = """
import json, logging, sys
import numpy as np
import llvmlite.binding as llvm

parsed, parse = [], llvm.parse_assembly
def counting(text, *args):
    parsed.append(len(text))
    return parse(text, *args)
llvm.parse_assembly = counting

import accel
from accel.targets.pure import KERNELS
from accel.targets.pure.machine import object_cache

@accel.compile
def f(x, w):
    return accel.softmax(accel.tanh(x @ w) + accel.exp(x[:, :5]), axis=1)

x = np.linspace(-3, 3, 35, dtype=np.float32).reshape(7, 5)
y = f(x, x[:5]).numpy()
disk = object_cache.shared()
print(json.dumps({
    "result": y.tobytes().hex(), "compiles": KERNELS.compiles, "loads": KERNELS.loads,
    "parsed": sum(n > 0 for n in parsed), "hits": disk.hits, "misses": disk.misses,
    "files": disk.usage()[0], "written": disk.bytes_written, "read": disk.bytes_read,
    "lowered": "accel.targets.pure.build" in sys.modules,
    "directory": None if disk.directory is None else str(disk.directory),
}))
"""

#: A process whose index may be out of range, which shows what it runs.
CHECKED = """
import json, sys
import numpy as np
import accel

@accel.compile
def f(x, i):
    return x[i] * 2.0

x = np.arange(5, dtype=np.float32)
assert f(x, np.array([4, 1])).numpy().tolist() == [8, 2]
loaded = "accel.targets.pure.build" not in sys.modules
try:
    f(x, np.array([4, 5]))
except accel.errors.IndexOutOfRangeError as error:
    message = str(error)
print(json.dumps([loaded, message, str(f.explain(x, np.array([4, 1])))]))
"""

#: A process that stores and reads entries as fast as it can, beside others that do the same.
WRITER = """
import sys
from pathlib import Path
from accel.targets.pure.machine.object_cache import ObjectCache, entry_key

cache = ObjectCache(Path(sys.argv[1]), max_bytes=40_000)
keys = [entry_key(str(i), "m") for i in range(30)]
for turn in range(40):
    for i, key in enumerate(keys):
        found = cache.get(key)
        assert found is None or found == bytes([i]) * 2_000, "a torn entry"
        if found is None or turn % 10 == 0:
            cache.put(key, bytes([i]) * 2_000)
assert cache.directory is not None
print(cache.hits)
"""


def run(code: str, directory: Path, **environment: str) -> tuple[Any, str]:
    """What a process prints, as JSON, and what it says on standard error."""
    settings = {"ACCEL_CACHE_DIR": str(directory), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def run_step(directory: Path, **environment: str) -> dict[str, Any]:
    # One thread: with more, idle ones also make modules that are expected, needed or not.
    found, stderr = run(STEP, directory, ACCEL_NUM_THREADS="1", **environment)
    return {**found, "stderr": stderr}


def programs_in(directory: Path) -> list[Path]:
    """The files of programs."""
    return [path for path in directory.glob("*.object") if b'"segments":' in path.read_bytes()]


def code_in(directory: Path) -> list[Path]:
    """The files of machine code; others hold programs, or how LLVM sees the host."""
    return sorted(p for p in directory.glob("*.object") if b"\x7fELF" in p.read_bytes())


def pieces_in(directory: Path) -> list[Path]:
    """The files of code that is linked already."""
    return [p for p in directory.glob("*.object") if b"linked\0\0" in p.read_bytes()]


def key(number: int) -> str:
    return entry_key(f"kernel {number}", "a machine")


def entry(cache: ObjectCache, number: int) -> Path:
    assert cache.directory is not None
    return Path(cache.directory, key(number) + ".object")


# -- processes --------------------------------------------------------------------------------
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    first = run_step(tmp_path / "cache")
    assert first["compiles"] and not first["loads"] and not first["hits"]
    assert first["files"] == first["misses"] + 1 and first["written"]
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    second = run_step(tmp_path / "cache")
    assert second["result"] == first["result"]
    assert (second["compiles"], second["loads"]) == (0, first["compiles"])
    assert len(pieces_in(tmp_path / "cache")) == 1
    assert (second["hits"], second["misses"]) == (first["files"] - first["compiles"], 0)
    assert first["parsed"] == len(code_in(tmp_path / "cache"))
    assert second["parsed"] == 0 and (first["lowered"], second["lowered"]) == (True, False)
    assert 0 < second["read"] < first["written"] and second["written"] == 0


def test_kernels_are_loaded_one_by_one_where_they_are_not_in_one_piece(tmp_path: Path) -> None:
    first = run_step(tmp_path)
    (piece,) = pieces_in(tmp_path)
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])):
        shutil.copy(piece, tmp_path / "copy")
        damage(piece)
        second = run_step(tmp_path)
        assert second["result"] == first["result"] and second["parsed"] == 0
        assert second["loads"] == first["compiles"] and not second["lowered"]
        shutil.move(tmp_path / "copy", piece)


def test_one_missing_kernel_is_compiled_alone(tmp_path: Path) -> None:
    first = run_step(tmp_path)
    pieces_in(tmp_path)[0].unlink()
    kernels = [p for p in code_in(tmp_path) if b"accel_" not in p.read_bytes()]  # no entry points
    gone, damaged = kernels[:2]
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    second = run_step(tmp_path)
    assert second["result"] == first["result"] and second["parsed"] == 2
    assert run_step(tmp_path)["misses"] == 0


def test_programs_of_the_same_kernels_share_one_piece(tmp_path: Path) -> None:
    run_step(tmp_path)
    (piece,) = pieces_in(tmp_path)
    written = piece.stat().st_mtime_ns
    (shape, program), larger = (".reshape(7, 5)", "f(x, x[:5])"), ".reshape(5, 7)"
    code = STEP.replace(shape, larger).replace(program, "f(x[:, :5], x[:, :5])")
    assert run(code, tmp_path, ACCEL_NUM_THREADS="1")[0]["lowered"]
    assert len(programs_in(tmp_path)) == 2
    assert pieces_in(tmp_path) == [piece] and piece.stat().st_mtime_ns == written


def test_a_missing_program_is_lowered_from_kernels_that_are_there(tmp_path: Path) -> None:
    first = run_step(tmp_path)
    (program,) = programs_in(tmp_path)
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])):
        damage(program)
        second = run_step(tmp_path)
        assert second["result"] == first["result"] and second["parsed"] == 0
        assert second["lowered"] and second["misses"] == 1
        assert not run_step(tmp_path)["lowered"]


@pytest.mark.skipif(not LOADS_ALONE, reason="objects are loaded by LLVM")
def test_a_process_that_finds_everything_does_without_llvm(tmp_path: Path) -> None:
    stand_in = "import types; llvm = types.SimpleNamespace(parse_assembly=None)"
    code = STEP.replace("import llvmlite.binding as llvm", stand_in)
    code = code.replace('"lowered":', '"llvm": "llvmlite" in sys.modules, "lowered":')
    first, second = (run(code, tmp_path)[0] for _ in range(2))
    assert (first["llvm"], second["llvm"]) == (True, False)
    assert second["result"] == first["result"]


def test_the_host_is_asked_for_again_where_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache(tmp_path)
    monkeypatch.setattr(object_cache, "shared", lambda: cache)
    identities = ["one", "another", "one", ""]
    monkeypatch.setattr(host, "_identity", lambda: identities.pop(0))
    seen = [host._host() for _ in range(4)]
    assert seen == [jit.host_machine()] * 4 or os.environ.get("ACCEL_CPU_FEATURES")
    assert (cache.hits, cache.misses, cache.usage()[0]) == (1, 2, 2)


def test_what_the_compiler_makes_of_a_description_depends_on_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {described_key("graph", "m"), described_key("graph ", "m"), described_key("graph", "n")}
    sources = object_cache._sources.__wrapped__
    (tmp_path / "targets" / "pure" / "nests").mkdir(parents=True)
    found = {sources(tmp_path)}
    source = tmp_path / "targets" / "pure" / "nests" / "emit.py"
    for content in ("x = 1", "x = 12"):
        source.write_text(content)
        found.add(sources(tmp_path))
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    found.add(sources(tmp_path))
    assert len(found) == 4 and sources(tmp_path) in found
    roots: list[str] = []

    def others(root: str) -> str:
        roots.append(root)
        return "others"

    monkeypatch.setattr(object_cache, "_sources", others)
    keys.add(described_key("graph", "m"))
    assert len(keys) == 4
    assert roots == [os.path.dirname(os.path.abspath(accel.__file__))]


def test_a_program_from_disk_knows_its_errors_and_its_kernels(tmp_path: Path) -> None:
    (built, *first), _ = run(CHECKED, tmp_path)
    (loaded, *second), _ = run(CHECKED, tmp_path)
    assert (built, loaded) == (False, True) and second == first
    assert "out of range" in first[0]


OWN_OP = """
import json, numpy as np
from accel.frontend.functions.elementwise import function_of
from accel.ir import Op
from accel.ir.op import register
import accel
register(Op(
    name="own", form="pointwise", category="elementwise", arity=(1, 1), kinds="f",
    reference=lambda x: NUMPY, expand=lambda b, x: OURS, doc="An op that is accel's user's."))
own = accel.compile(lambda x: function_of("own")(x) + 1)
print(json.dumps(own(np.arange(3.0)).tolist()))
"""


def test_ops_that_are_not_ours_may_mean_something_else_next_time(tmp_path: Path) -> None:
    for numpy, ours, wanted in (("x * 2", "b.mul(x, 2)", [1, 3, 5]),
                                ("x * x", "b.mul(x, x)", [1, 2, 5])):  # fmt: skip
        found, _ = run(OWN_OP.replace("NUMPY", numpy).replace("OURS", ours), tmp_path)
        assert found == wanted


#: A process that compiles with the settings given, and says which work a call took.
SETTLED = """
import json, sys
import numpy as np
import accel
from accel.runtime.state import override

@accel.compile
def f(x):
    y = accel.exp(x) * SCALE
    return y, accel.sum(y + 0.0, axis=0)

x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
with override(**SETTINGS):
    found = [r.numpy().tobytes().hex() for r in f(x)]
    passes, lowered = ("accel." + m in sys.modules for m in ("passes.fuse", "targets.pure.build"))
    explained = str(f.explain(x))
    stages = [str(f.graph(x, stage=s)) for s in ("recorded", "optimized", "fused", "placed")]
print(json.dumps({
    "result": found, "passes": passes, "lowered": lowered, "explained": explained,
    "stages": stages}))
"""


def settled(directory: Path, settings: str = "", scale: float = 2.0) -> dict[str, Any]:
    code = SETTLED.replace("SETTINGS", f"dict({settings})").replace("SCALE", str(scale))
    found: dict[str, Any] = run(code, directory)[0]
    return found


def test_what_was_recorded_before_needs_no_passes(tmp_path: Path) -> None:
    first, second = settled(tmp_path), settled(tmp_path)
    assert first["passes"] and first["lowered"]
    assert not second["passes"] and not second["lowered"]
    for what in ("result", "explained", "stages"):  # who looks inside sees no difference
        assert second[what] == first[what]


@pytest.mark.parametrize(
    "settings", ["disabled_passes=frozenset(['fuse'])", "verify=True", "mode='reference'"]
)
def test_other_settings_find_no_executable_of_these(tmp_path: Path, settings: str) -> None:
    plain = settled(tmp_path)
    first, second = settled(tmp_path, settings), settled(tmp_path, settings)
    assert first["passes"] and first["explained"] == second["explained"]
    assert (first["explained"] == plain["explained"]) == ("verify" in settings)
    assert second["passes"] == ("disabled" not in settings)
    assert not settled(tmp_path)["passes"]


def test_another_graph_finds_no_executable_of_this(tmp_path: Path) -> None:
    assert settled(tmp_path)["result"] != settled(tmp_path, scale=3.0)["result"]
    assert settled(tmp_path, scale=-2.0)["passes"]


def test_a_damaged_executable_is_made_again(tmp_path: Path) -> None:
    first = settled(tmp_path)
    (call,) = (p for p in tmp_path.glob("*.object") if b'"pure_count":' in p.read_bytes())
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])):
        damage(call)
        second = settled(tmp_path)
        assert second["result"] == first["result"]
        assert second["passes"] and not second["lowered"]
        assert not settled(tmp_path)["passes"]
    for path in [*programs_in(tmp_path), *code_in(tmp_path)]:
        path.unlink()
    second = settled(tmp_path)
    assert second["result"] == first["result"] and second["lowered"]


def test_executables_from_disk_are_logged_and_dumped(tmp_path: Path) -> None:
    code = SETTLED.replace("SETTINGS", "{}").replace("SCALE", "2.0")
    code = code.replace("import accel\n", "import accel, logging\naccel.enable_logging()\n", 1)
    seen = []
    for number in (1, 2):
        dumps = tmp_path / f"dumps{number}"
        found, log = run(code, tmp_path / "cache", ACCEL_DUMP=str(dumps))
        names = sorted(p.relative_to(dumps) for p in dumps.rglob("*.*"))
        seen.append((found["explained"], log, names))
    assert seen[0] == seen[1]
    assert "-> pure (mode pure)" in seen[0][1] and len(seen[0][2]) > 5


def test_the_collector_is_as_it_was(tmp_path: Path) -> None:
    code = """
import gc, json
FIRST
import numpy as np, accel
found = [gc.isenabled(), gc.get_freeze_count() > 0]
f = accel.compile(lambda x: x * 2.0)
for n in (3, 4):
    f(np.ones(n, np.float32))
    found += [gc.isenabled(), gc.get_freeze_count() > 0]
print(json.dumps(found))
"""
    for first, wanted in (("", [True, False]), ("gc.disable()", [False, False]),
                          ("gc.freeze()", [True, True])):  # fmt: skip
        assert run(code.replace("FIRST", first), tmp_path)[0] == wanted * 3


def test_executables_of_settings_without_native_calls(tmp_path: Path) -> None:
    first = settled(tmp_path)
    code = SETTLED.replace("SETTINGS", "{}").replace("SCALE", "2.0")
    assert run(code, tmp_path, ACCEL_NATIVE_CALLS="0")[0]["result"] == first["result"]


def test_each_cpu_level_has_entries_of_its_own(tmp_path: Path) -> None:
    files = 0
    for level in LEVELS:
        found = run_step(tmp_path, ACCEL_CPU_FEATURES=level)
        assert found["hits"] == 0 and found["compiles"]
        assert found["files"] == files + found["misses"] + 1
        files = found["files"]
    for level in LEVELS:
        assert run_step(tmp_path, ACCEL_CPU_FEATURES=level)["misses"] == 0


def test_each_machine_has_entries_of_its_own() -> None:
    host = jit.host_machine()
    for machine in (host, jit.Machine(host.triple, "generic", "", 16, False)):
        made = []
        for _ in range(2):
            cache = KernelCache(machine=machine, on_disk=True)
            cache.get("k", table_kernel("k", [0.125, 0.25]))
            made.append((cache.compiles, cache.loads))
        assert made == [(1, 0), (0, 1)]


@pytest.mark.parametrize("off", [{"ACCEL_CACHE": "0"}, {"ACCEL_CACHE_SIZE": "0"}])
def test_off(tmp_path: Path, off: dict[str, str]) -> None:
    found = run_step(tmp_path / "cache", **off)
    assert found["compiles"] and found["directory"] is None and found["stderr"] == ""
    assert not (tmp_path / "cache").exists()


def test_a_home_that_cannot_be_written_costs_a_warning_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    found = run_step(tmp_path / "file" / "cache")
    assert found["compiles"] and found["directory"] is None
    assert str(found["stderr"]).count("not kept for later processes") == 1


def test_writers_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], ends
    assert sum(int(out) for out, _ in ends) > 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".object"}
    assert ObjectCache(tmp_path).usage()[1] <= 40_000 + 3 * 2_100


# -- entries ----------------------------------------------------------------------------------
def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(key(0), b"machine code")
    whole = entry(cache, 0).read_bytes()
    damaged = [bytes([*whole[:i], whole[i] ^ 4, *whole[i + 1 :]]) for i in range(len(whole))]
    damaged += [whole[:i] for i in range(len(whole))] + [whole + b"\0", b"\0" * len(whole)]
    for content in damaged:
        entry(cache, 0).write_bytes(content)
        assert cache.get(key(0)) is None
    cache.put(key(0), b"machine code")
    assert cache.get(key(0)) == b"machine code"
    assert (cache.hits, cache.misses) == (1, len(damaged))


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(key(0), b"a" * 50_000)
    with open(entry(cache, 0), "rb") as file:
        whole = entry(cache, 0).read_bytes()
        cache.put(key(0), b"b" * 60_000)
        assert os.fstat(file.fileno()).st_ino != entry(cache, 0).stat().st_ino
        assert file.read() == whole
    assert cache.get(key(0)) == b"b" * 60_000


def test_an_entry_answers_to_its_own_key_only(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(key(0), b"code")
    os.replace(entry(cache, 0), entry(cache, 1))
    assert cache.get(key(1)) is None


def test_keys_depend_on_text_machine_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {entry_key("text", "m"), entry_key("text ", "m"), entry_key("text", "n")}
    monkeypatch.setattr(accel, "__version__", "another")
    keys.add(entry_key("text", "m"))
    assert len(keys) == 4
    own = jit.host_machine()
    before = own.fingerprint
    monkeypatch.setitem(CODE_GENERATOR, "opt", 2)
    assert own.fingerprint != before


def test_files_that_others_could_have_written_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache(tmp_path / "cache")
    cache.put(key(0), b"code")
    path = entry(cache, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o620)
    assert cache.get(key(0)) is None
    path.chmod(0o600)
    assert cache.get(key(0)) == b"code"
    os.replace(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(key(0)) is None
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert cache.get(key(0)) is None
    cache.put(key(0), b"code")
    assert cache.get(key(0)) == b"code"
    owner, status = os.geteuid(), os.fstat
    another = [*os.stat(path)]
    another[stat.ST_UID] = owner + 1
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result(another))
    assert cache.get(key(0)) is None
    monkeypatch.setattr(os, "fstat", status)
    assert cache.get(key(0)) == b"code"


# -- directories ------------------------------------------------------------------------------
def refused(directory: Path, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """The directory is not used, with one warning, and code is compiled all the same."""
    cache = ObjectCache(directory)
    before = sorted(directory.parent.rglob("*"))
    with caplog.at_level(logging.WARNING, "accel"):
        for number in range(3):
            cache.put(key(number), b"code")
            assert cache.get(key(number)) is None
    assert cache.directory is None and cache.usage() == (0, 0)
    assert sorted(directory.parent.rglob("*")) == before
    (record,) = caplog.records
    assert reason in record.getMessage() and record.levelno == logging.WARNING


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_directory_open_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    refused(tmp_path / "cache", caplog, "others may write")


def test_directory_of_another_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ObjectCache(tmp_path / "cache").put(key(0), b"code")
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    refused(tmp_path / "cache", caplog, "another user")


def test_directory_that_is_a_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    refused(tmp_path / "cache", caplog, "symbolic link")


def test_read_only_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    refused(tmp_path / "cache", caplog, "not writable")


def test_full_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(os, "replace", full)
    refused(tmp_path / "cache", caplog, "No space left")  # and nothing is left behind


def test_a_directory_removed_under_a_running_process_is_made_again(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "a" / "b")
    cache.put(key(0), b"code")
    cache.clear()
    assert cache.directory is not None
    Path(cache.directory).rmdir()
    assert cache.get(key(0)) is None
    cache.put(key(0), b"code")
    assert cache.get(key(0)) == b"code"


# -- bounds -----------------------------------------------------------------------------------
def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    for number in range(8):
        cache.put(key(number), b"x" * 1_000)
        os.utime(entry(cache, number), ns=(10**18 + number, 10**18 + number))
    size = entry(cache, 0).stat().st_size
    assert cache.usage() == (8, 8 * size)
    assert cache.get(key(0)) is not None  # used now, hence the youngest
    cache.max_bytes = 6 * size
    cache.put(key(8), b"x" * 1_000)
    assert {n for n in range(9) if entry(cache, n).exists()} == {0, 8, 7, 6, 5}


def test_the_bound_holds_over_many_stores(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, max_bytes=100_000)
    for number in range(500):
        cache.put(key(number), b"x" * 700)
    assert 80_000 < cache.usage()[1] <= 110_000


def test_an_entry_beyond_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, max_bytes=500)
    cache.put(key(0), b"small")
    cache.put(key(1), b"x" * 1_000)
    assert cache.get(key(0)) == b"small" and cache.get(key(1)) is None


def test_clear_removes_what_is_ours(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    for number in range(3):
        cache.put(key(number), b"code")
    (tmp_path / "notes.txt").write_text("the user's")
    (tmp_path / "young.part").write_text("being written")
    (tmp_path / "old.part").write_text("its writer died")
    long_ago = time.time() - 7_200
    os.utime(tmp_path / "old.part", (long_ago, long_ago))
    cache.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "young.part"]


# -- settings ---------------------------------------------------------------------------------
def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "x" / ".." / "y"))
    monkeypatch.setenv("ACCEL_CACHE_SIZE", "3k")
    cache = object_cache._shared.__wrapped__()
    assert (cache.directory, cache.max_bytes) == (str(tmp_path / "y"), 3072)
    monkeypatch.delenv("ACCEL_CACHE_DIR")
    monkeypatch.delenv("ACCEL_CACHE_SIZE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, **_: str(tmp_path / name))
    cache = object_cache._shared.__wrapped__()
    assert (cache.directory, cache.max_bytes) == (str(tmp_path / "accel"), 256 << 20)
    for wrong in ("many", "-1", "1.5G", "M", "64MB"):
        monkeypatch.setenv("ACCEL_CACHE_SIZE", wrong)
        with pytest.raises(ArgumentError, match="ACCEL_CACHE_SIZE"):
            object_cache._shared.__wrapped__()


def test_the_suite_keeps_out_of_the_users_cache() -> None:
    directory = object_cache.shared().directory
    assert directory is not None and directory == os.environ["ACCEL_CACHE_DIR"]
    assert os.path.basename(directory).startswith("accel-tests-")


def test_info_shows_the_directory_and_its_size() -> None:
    accel.eval(accel.asarray(np.arange(3.0)) * 1.25)
    found = accel.info()
    assert found.disk_cache == str(object_cache.shared().directory)
    assert found.disk_cache_bytes > 0
    assert re.search(rf"disk_cache +{re.escape(found.disk_cache)}\n", str(found))


# -- code ---------------------------------------------------------------------------------------
PARAMS = [("ptr", "bases"), ("ptr", "args"), ("i64", "begin"), ("i64", "end")]


def table_kernel(name: str, values: list[float]) -> str:
    """x[0] = table[x[0]] + 0.1: a private table, a constant pool, a private function."""
    numbers = ", ".join(f"double {value!r}" for value in values)
    helper = Function("entry", [("i64", "i")], "double", linkage="internal")
    at = helper.gep("@table", "%i", "double")
    helper.do(f"ret double {helper.load('double', at, 8)}")
    fn = Function(name, PARAMS, "i64")
    data = fn.load("ptr", "%bases", 8)
    index = fn.op(f"fptosi double {fn.load('double', data, 8)} to i64")
    value = fn.op(f"call double @entry(i64 {index})")
    fn.store("double", Lanes(fn, "double", 1).add(value, 0.1 * values[0]), data, 8)
    fn.do("ret i64 0")
    table = f"@table = internal constant [{len(values)} x double] [{numbers}]\n"
    return table + module_text([helper, fn])


def test_private_names_of_kernels_loaded_together_stay_apart() -> None:
    sources = [(f"t{i}", table_kernel(f"t{i}", [i + 10.0, i + 20.0, i + 30.0])) for i in range(4)]
    for _ in range(2):  # compiled, then from disk
        cache = KernelCache(on_disk=True)
        kernels = cache.ensure(sources)
        x = np.array([2.0, 0.0, 1.0, 2.0])
        bases = x.ctypes.data + 8 * np.arange(4, dtype=np.int64)
        for i, kernel in enumerate(kernels):
            program = np.array([kernel.address, 0, 0, 1], np.int64)
            assert jit.run_program(bases[i:].ctypes.data, program.ctypes.data, 1) == 0
        expected = [30.0 + 0.1 * 10, 11.0 + 0.1 * 11, 22.0 + 0.1 * 12, 33.0 + 0.1 * 13]
        assert x.tolist() == expected
    assert (cache.compiles, cache.loads) == (0, 4)


def test_no_kernel_contains_an_address() -> None:
    x = accel.asarray(np.ones((9, 9), np.float32))
    accel.eval(accel.softmax(x @ x.T, axis=1) + accel.where(x > 0, accel.sin(x), x[0]))
    texts = [kernel.ir for kernel in KERNELS._recent.values()]
    assert len(texts) >= 3
    for text in texts:
        assert not re.search(r"inttoptr ?\(?i64 \d", text)
