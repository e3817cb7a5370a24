"""The suite's switches.

``ACCEL_TEST_BLOCK_TORCH=1``
    Any import of torch raises, so the pure suite proves that accel does not need it.
``ACCEL_TEST_CUDA=1``
    Runs the tests marked ``cuda``.
``ACCEL_TEST_LARGE=1``
    Runs what touches arrays beyond 2**31 bytes and elements, where 12 GB of memory are free.
``ACCEL_HYPOTHESIS_PROFILE=fuzz``
    Random, long property tests in place of the short, repeatable ones.
``SCIPY_ARRAY_API=1``
    Set here for all: SciPy reads it once, when it is first imported.

Tests that need torch are marked ``torch``; files named ``test_torch_*.py`` carry the mark
by their name and may import torch at the top.

Machine code goes to a directory of the run's own: a user's cache is neither read nor filled.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

BLOCK_TORCH = os.environ.get("ACCEL_TEST_BLOCK_TORCH") == "1"
CUDA = os.environ.get("ACCEL_TEST_CUDA") == "1"

os.environ["SCIPY_ARRAY_API"] = "1"

# Processes that the run starts, its own workers included, share the directory of the first.
FIRST_PROCESS = "PYTEST_XDIST_WORKER" not in os.environ
if FIRST_PROCESS:
    os.environ["ACCEL_CACHE_DIR"] = tempfile.mkdtemp(prefix="accel-tests-")
    for setting in ("ACCEL_CACHE", "ACCEL_CACHE_SIZE"):
        os.environ.pop(setting, None)


def pytest_unconfigure() -> None:
    if FIRST_PROCESS:
        shutil.rmtree(os.environ["ACCEL_CACHE_DIR"], ignore_errors=True)


SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", max_examples=50, derandomize=True, deadline=None, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "fuzz", max_examples=10_000, deadline=None, suppress_health_check=SLOW_MACHINES
)
settings.load_profile(os.environ.get("ACCEL_HYPOTHESIS_PROFILE", "ci"))


class TorchBlocker(importlib.abc.MetaPathFinder):
    """A finder that makes torch look as if it were not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torch" or fullname.startswith("torch."):
            raise ModuleNotFoundError(f"No module named {fullname!r} (blocked)", name=fullname)


if BLOCK_TORCH:
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before its import could be blocked")
    sys.meta_path.insert(0, TorchBlocker())
    collect_ignore_glob = ["test_torch_*.py", "parity.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by file name, and leave out what this run cannot do."""
    kept, left_out = [], []
    for item in items:
        if item.path.name.startswith("test_torch_"):
            item.add_marker(pytest.mark.torch)
        needs_torch = item.get_closest_marker("torch") or item.get_closest_marker("cuda")
        blocked = (BLOCK_TORCH and needs_torch) or (not CUDA and item.get_closest_marker("cuda"))
        (left_out if blocked else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


#: Larger graphs take seconds to print and to read; one test of its own does that.
LARGEST_GRAPH = 5_000


def _text_reads_back(executable: Any) -> None:
    """Every graph that any test compiles is read back from its text, at every stage."""
    from accel.ir import parse

    for stage in ("recorded", "optimized", "fused", "placed"):
        graph = executable.stages[stage]
        if len(graph) <= LARGEST_GRAPH:
            assert parse(str(graph)) == graph, f"the text form of stage {stage}:\n{graph}"


@pytest.fixture(scope="session", autouse=True)
def _every_graph_reads_back() -> Iterator[None]:
    from accel.runtime import compiler

    compiler.ON_COMPILE.append(_text_reads_back)
    yield
    compiler.ON_COMPILE.remove(_text_reads_back)


def _program_reads_back(key: str, program: Any) -> bool:
    """In place of keeping a program: what is written down of it says all that is in it."""
    from accel.targets.pure import KERNELS, programs

    content = programs.encoded(program)
    if content is None:
        return False
    kernels = KERNELS.find(program.kernels)
    assert kernels is not None
    read = programs.decoded(json.loads(json.dumps(content)), kernels)
    assert (read.arena_bytes, read.kernels) == (program.arena_bytes, program.kernels)
    assert read.segments == program.segments
    known = {int(kernel.address) for kernel in kernels}
    for entry in (e for segment in program.segments for e in segment):
        for word in entry.arguments:
            assert isinstance(word, programs.Address) == (int(word) in known)
    for ours, theirs in zip(program.constants, read.constants, strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (
            theirs.dtype, theirs.shape, theirs.tobytes())  # fmt: skip
    return True


def _call_reads_back(key: str, made: Any) -> None:
    """In place of keeping an executable: a call of one run says what the run takes and gives."""
    from accel.runtime import kept

    if made.native_run is not None:
        run = made.steps[0].graph
        types = [n.type for n in run.inputs], [n.type for n in run.outputs]
        assert kept.types_of(made.stages.recorded, made.one) == types


@pytest.fixture(scope="session", autouse=True)
def _every_run_is_built() -> Iterator[None]:
    """Tests that change the compiler must not be served what it made before."""
    from accel.runtime import kept
    from accel.targets.pure import programs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "find", lambda key: None)
        patch.setattr(kept, "keep", _call_reads_back)
        patch.setattr(programs, "find", lambda key: None)
        patch.setattr(programs, "keep", _program_reads_back)
        yield


@pytest.fixture
def run_at_every_level(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Runs the ``test_core`` tests of the test's file at each x86 level that the CPU has."""
    from accel.targets.pure.machine import jit

    def run() -> None:
        for level in ("avx2", "sse2"):
            try:
                jit.machine_for_level(level)
            except Exception:  # a processor without it, or of another kind
                continue
            result = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                 "-k", "test_core", str(request.path)],
                env={**os.environ, "ACCEL_CPU_FEATURES": level}, capture_output=True, text=True,
            )  # fmt: skip
            assert result.returncode == 0, level + result.stdout[-3000:] + result.stderr[-2000:]
            assert " passed" in result.stdout

    return run


def _leaves(result: Any) -> list[Any]:
    """The arrays and numbers in what a library's function returned."""
    if isinstance(result, dict):
        return [leaf for key in sorted(result) for leaf in _leaves(result[key])]
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in _leaves(part)]
    return [] if result is None or isinstance(result, str) else [result]


@pytest.fixture
def agrees_with_numpy() -> Callable[..., None]:
    """Whether a library's function makes Tensors of Tensors, of the values that it makes of arrays.

    Where an array comes of arrays, a Tensor must come of Tensors; where a NumPy scalar comes, a
    Tensor without dimensions or a number. A tolerance above 1e-8 says that the library makes
    arrays of the default dtype, which is float32 here, so that dtypes are not compared either.
    """
    import accel

    def check(function: Callable[..., Any], *arrays: Any, tolerance: float = 1e-10) -> None:
        wanted = _leaves(function(*(np.array(a) for a in arrays)))
        found = _leaves(function(*(accel.asarray(a) for a in arrays)))
        assert len(wanted) == len(found) > 0
        for want, got in zip(wanted, found, strict=True):
            assert isinstance(got, accel.Tensor) or not isinstance(want, np.ndarray), type(got)
            got, want = np.asarray(got), np.asarray(want)
            assert got.dtype.kind == want.dtype.kind
            assert tolerance > 1e-8 or got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)

    return check
