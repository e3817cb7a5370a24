"""The suite's own promises: torch is out of reach when it should be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

BLOCKED = os.environ.get("ACCEL_TEST_BLOCK_TORCH") == "1"


def test_torch_cannot_be_imported_while_blocked() -> None:
    if BLOCKED:
        with pytest.raises(ModuleNotFoundError):
            import torch  # noqa: F401
        with pytest.raises(ModuleNotFoundError):
            importlib.util.find_spec("torch")
    assert not (BLOCKED and "torch" in sys.modules)


@pytest.mark.parametrize("module", ["torch", "networkx", "llvmlite", "safetensors", "tqdm"])
def test_import_is_light(module: str) -> None:
    """`import accel` leaves out what only some calls need."""
    code = f"import accel, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_import_is_quick(tmp_path) -> None:
    """accel adds less than 120 ms to NumPy's import, once its bytecode is cached."""
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(tmp_path))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code = (
        "import numpy, time; start = time.perf_counter(); import accel; "
        "print(time.perf_counter() - start)"
    )

    def seconds() -> float:
        command = [sys.executable, "-c", code]
        return float(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        )

    seconds()  # writes the bytecode
    assert min(seconds() for _ in range(5)) < 0.120
