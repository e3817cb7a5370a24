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
