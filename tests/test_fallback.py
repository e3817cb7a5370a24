"""Modes without torch, failing torch steps, counters, and what the library tells of itself."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
import accel.ir.ops
from accel.errors import (
    ArgumentError,
    DeviceError,
    IndexOutOfRangeError,
    TargetError,
    TorchNotAvailable,
)
from accel.ir import dtypes
from accel.ir.builder import Builder
from accel.ir.graph import Graph
from accel.ir.types import TensorType
from accel.runtime import calibrate, info, settings, state
from accel.runtime.compiler import clear_cache, compile_graph
from accel.runtime.executable import Executable
from accel.targets.torch import lookup, lowering

F32 = dtypes.float32
ROOT = Path(__file__).resolve().parent.parent


def graph_of(scale: float = 0.5) -> Graph:
    """exp(x) * scale summed over rows, and the tanh of the running sum: three regions."""
    b = Builder()
    x = b.input("x", TensorType(F32, (8, 5)))
    total = b.sum(b.mul(b.exp(x), scale), axis=1)
    return b.graph([x], [b.tanh(b.cumsum(total, axis=0)), total])


def compiled(mode: str, graph: Graph | None = None, **settings: Any) -> Executable:
    with state.override(mode=mode, **settings):
        return compile_graph(graph or graph_of(), state.current())


X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    clear_cache()
    info.reset_stats()
    yield
    clear_cache()


# -- without torch ---------------------------------------------------------------------------------
def python(code: str, *paths: Path, **environment: str) -> str:
    """What `code` prints in a process of its own, in which modules from `paths` come first."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))), **environment}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, text=True,
                          capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT_TORCH = """
    import sys
    import numpy as np
    import accel
    from accel.ir.builder import Builder
    from accel.ir.types import TensorType
    from accel.runtime import calibrate, info, settings, state
    from accel.runtime.compiler import compile_graph
    from accel.targets.torch import lookup

    b = Builder()
    x = b.input("x", TensorType(accel.float32, (4,)))
    graph = b.graph([x], [b.exp(x)])
    arrays = [np.zeros(4, np.float32)]
    elementwise = {**state.DEFAULT_THRESHOLDS, "elementwise": 0}
    with state.override(mode="auto", thresholds=elementwise):
        executable = compile_graph(graph, state.current())
    print(executable(arrays)[0].tolist())
    print([(r.attrs["target"], r.attrs["reason"]) for r in executable.regions])
    print(info.torch_available(), info.torch_version(), info.cuda_available())
    try:
        with state.override(mode="torch"):
            compile_graph(graph, state.current())
    except accel.errors.TorchNotAvailable as error:
        assert isinstance(error, ImportError)
        print(error)
    print("torch" in sys.modules)
"""


def test_a_hidden_torch_is_not_there() -> None:
    lines = python(WITHOUT_TORCH, ACCEL_TORCH="0").splitlines()
    assert lines[:3] == ["[1.0, 1.0, 1.0, 1.0]",
                         "[('pure', 'mode auto, torch is not installed')]",
                         "False None False"]  # fmt: skip
    assert "hidden by ACCEL_TORCH=0" in lines[3] and "remedy: unset" in lines[5]
    assert lines[-1] == "False"


@pytest.mark.parametrize("error", ["OSError('libtorch.so: undefined symbol')", "SystemError()"])
def test_a_broken_torch_is_not_there(tmp_path: Path, error: str) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {error}\n")
    lines = python(WITHOUT_TORCH, tmp_path, ACCEL_TORCH="").splitlines()
    assert lines[:3] == ["[1.0, 1.0, 1.0, 1.0]",
                         "[('pure', 'mode auto, torch cannot be imported')]",
                         "False None False"]  # fmt: skip
    assert "cannot be imported" in lines[3] and "remedy: pip install torch" in lines[5]


def test_a_finder_that_raises_hides_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(lookup, "_imported", [])
    monkeypatch.setattr("importlib.util.find_spec", refuse)
    assert not lookup.installed() and not lookup.available() and lookup.version() is None
    with pytest.raises(TorchNotAvailable):
        lookup.require()


def test_small_work_in_auto_mode_imports_no_torch() -> None:
    code = """
        import sys
        import accel
        from accel.ir.builder import Builder
        from accel.ir.types import TensorType
        from accel.runtime import state
        from accel.runtime.compiler import compile_graph
        b = Builder()
        x = b.input("x", TensorType(accel.float32, (4,)))
        with state.override(mode="auto"):
            compile_graph(b.graph([x], [b.exp(x)]), state.current())
        print("torch" in sys.modules)
    """
    assert python(code) == "False\n"


# -- counters --------------------------------------------------------------------------------------
def test_counters_count_executed_regions() -> None:
    executable = compiled("pure")
    for _ in range(3):
        executable([X])
    counts = info.stats()
    assert counts.pure_count == 3 * len(executable.regions) > 0
    assert counts.pure_ops == 3 * 5 and counts.torch_count == counts.fallback_count == 0
    assert (counts.compiles, counts.cache_hits) == (1, 0)
    assert compiled("pure") is executable and info.stats().cache_hits == 1
    info.reset_stats()
    assert set(info.stats()._asdict().values()) == {0}


@pytest.mark.torch
def test_torch_regions_are_counted_apart_and_nothing_crosses_on_the_cpu() -> None:
    executable = compiled("torch")
    executable([X])
    counts = info.stats()
    assert counts.torch_count == len(executable.regions) and counts.torch_ops == 5
    assert counts.pure_count == counts.transfers == counts.transfer_bytes == 0


def test_the_table_of_counters() -> None:
    info.reset_stats()
    file = io.StringIO()
    info.print_stats(file)
    lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == list(info.stats()._fields)
    assert all(len(line.split()) > 2 for line in lines), "every counter is explained"


def test_info_names_versions_and_the_machine() -> None:
    found = info.info()
    assert found.accel == accel.__version__ and found.numpy == np.__version__
    assert found.cores >= 1 and "-bit vectors" in found.features
    assert found.torch == info.torch_version()
    assert "cuda" in str(found)


def test_logging_is_switched_on_and_off(capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("accel")
    handlers = list(log.handlers)
    try:
        accel.enable_logging(True)
        accel.enable_logging(True)
        executable = compiled("pure")
        accel.enable_logging(False)
        compiled("pure", graph_of(2.0))([X])
    finally:
        accel.enable_logging(False)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(executable.regions), "one line a region, by one handler"
    assert lines[0] == "[accel] exp 8x5 -> pure (mode pure)"
    assert log.handlers == handlers


# -- failing torch steps ---------------------------------------------------------------------------
@pytest.fixture
def break_exp(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Replaces the torch lowering of exp by a maker."""

    def replace(maker: Any) -> None:
        monkeypatch.setitem(lowering._MAKERS, "exp", maker)

    return replace


class Failing:
    """A kernel that raises `error` on its first `times` calls, then computes."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.times = times
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return x.exp()


@pytest.mark.torch
def test_a_failing_step_runs_natively(
    break_exp: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = compiled("reference")([X])
    info.reset_stats()
    kernel = Failing(RuntimeError("CUDA error: an illegal address\nmore lines"), 1)
    break_exp(lambda context, node: kernel)
    executable = compiled("torch")
    before = X.copy()
    with caplog.at_level(logging.WARNING, "accel"):
        for _ in range(3):
            for found, wanted in zip(executable([X]), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert kernel.calls == 1, "what failed for good is not tried again"
    np.testing.assert_array_equal(X, before)
    counts = info.stats()
    regions = len(executable.regions)
    assert counts.fallback_count == counts.pure_count == 3 * regions
    assert counts.torch_count == counts.torch_ops == 0 and counts.pure_ops == 15
    [record] = caplog.records
    assert "torch failed in exp -> f32[8,5]" in record.getMessage()
    assert "illegal address" in record.getMessage() and "more lines" not in record.getMessage()


@pytest.mark.torch
@pytest.mark.parametrize("error", [MemoryError("no memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_lack_of_memory_is_tried_again(
    error: Exception, break_exp: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Failing(error, 2)
    break_exp(lambda context, node: kernel)
    executable = compiled("torch")
    with caplog.at_level(logging.WARNING, "accel"):
        for _ in range(4):
            executable([X])
    regions = len(executable.regions)
    assert kernel.calls == 4 and len(caplog.records) == 1
    assert info.stats().fallback_count == 2 * regions == info.stats().torch_count


@pytest.mark.torch
def test_what_cannot_be_compiled_runs_natively(
    break_exp: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    def maker(context: Any, node: Any) -> Any:
        raise AttributeError("module 'torch' has no attribute 'exp'")

    break_exp(maker)
    with caplog.at_level(logging.WARNING, "accel"):
        executable = compiled("torch")
        np.testing.assert_allclose(executable([X])[1], (np.exp(X) * 0.5).sum(1), rtol=1e-6)
    assert "torch cannot run exp, " in caplog.text and "no attribute" in caplog.text
    assert info.stats().fallback_count == len(executable.regions)
    with pytest.raises(TargetError, match="no attribute"):
        compiled("torch", fallback="error")


@pytest.mark.torch
def test_the_fallback_can_be_forbidden(break_exp: Callable[[Any], None]) -> None:
    break_exp(lambda context, node: Failing(RuntimeError("CUDA error: busy"), 9))
    executable = compiled("torch", fallback="error")
    with pytest.raises(TargetError, match=r"torch failed in exp.*CUDA error: busy") as caught:
        executable([X])
    assert "fallback='auto'" in str(caught.value)
    assert info.stats().fallback_count == 0 == info.stats().pure_count


@pytest.mark.torch
def test_users_errors_do_not_fall_back() -> None:
    b = Builder()
    x = b.input("x", TensorType(F32, (3,)))
    i = b.input("i", TensorType(dtypes.int64, (2,)))
    executable = compiled("torch", b.graph([x, i], [b.take(x, i, axis=0)]))
    with pytest.raises(IndexOutOfRangeError):
        executable([np.zeros(3, np.float32), np.array([0, 5])])
    assert info.stats().fallback_count == 0


@pytest.mark.torch
def test_a_missing_device_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "cuda_available", lambda: False)
    with pytest.raises(DeviceError, match="cuda"):
        compiled("torch", device="cuda")


# -- buffers of a device ---------------------------------------------------------------------------
class OnDevice:
    """What stands for a tensor on a GPU: it must be brought home before NumPy can read it."""

    class device:
        type = "cuda"

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def test_native_steps_bring_device_buffers_home(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.targets import torch as torch_target

    monkeypatch.setattr(torch_target, "to_host", lambda buffer: buffer.array)
    executable = compiled("pure")
    expected = executable([X])
    info.reset_stats()
    for found, wanted in zip(executable([OnDevice(X)]), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (info.stats().transfers, info.stats().transfer_bytes) == (1, X.nbytes)


@pytest.mark.torch
def test_tensors_of_torch_on_the_cpu_are_buffers_too() -> None:
    import torch

    for mode in ("pure", "torch"):
        found = compiled(mode)([torch.from_numpy(X)])
        np.testing.assert_allclose(found[1], compiled("reference")([X])[1], rtol=1e-6)
    assert info.stats().transfers == 0


# -- calibration -----------------------------------------------------------------------------------
@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    process = state._process[0]
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    yield tmp_path / "accel" / "calibration.json"
    state._process[0] = process


@pytest.mark.torch
def test_calibration_is_set_kept_and_read_again(config: Path) -> None:
    found = calibrate.calibrate(sizes=(256, 1024), seconds=0.0)
    assert set(found) == set(state.DEFAULT_THRESHOLDS) and found["conv"] == found["matmul"]
    assert all(v in (None, 256, 1024) for v in found.values())
    assert settings.thresholds() == found
    settings.use_preset("default")
    assert settings.thresholds() != found
    settings.use_preset("calibrated")
    assert settings.thresholds() == found
    assert [p.name for p in config.parent.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"thresholds": {"matmul": 3}}',
                                     '{"thresholds": {"matmul": -1, "conv": 1, "elementwise": 1, '
                                     '"activation": null, "reduction": 1}}'])
def test_what_was_not_calibrated_is_refused(config: Path, content: str | None) -> None:
    if content is not None:
        config.parent.mkdir()
        config.write_text(content)
    before = settings.thresholds()
    with pytest.raises(ArgumentError, match="calibration"):
        settings.use_preset("calibrated")
    assert settings.thresholds() == before
