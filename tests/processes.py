"""Programs of tests that need a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["in_fresh_process"]

#: NumPy's own threads would be counted among accel's.
_ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def in_fresh_process(code: str, **environment: str) -> str:
    """What the program `code` prints; it must end well within two minutes, and warn of nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", code],  # of forks
        env={**os.environ, **_ALONE, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()
