"""``ACCEL_DUMP=<directory>``: every compile written down, numbered.

One folder per executable, ``0001``, ``0002`` …, with the four stages as graph texts, the
seconds of each pass, the kernels' LLVM IR and the explain table.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from ..log import logger
from ..runtime import compiler, state
from ..runtime.executable import Executable
from .explain import explain

__all__ = ["dump", "enable_dumps"]


def dump(executable: Executable, directory: Path) -> Path:
    """Write everything known of `executable` into a new numbered folder of `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = directory / f"{number:04d}"
        try:
            folder.mkdir()
            break
        except FileExistsError:  # an earlier compile, or another process
            continue
    for stage in ("recorded", "optimized", "fused", "placed"):
        (folder / f"{stage}.txt").write_text(f"{executable.stages[stage]}\n")
    seconds = executable.stages.seconds
    (folder / "passes.txt").write_text(
        "".join(f"{name:12s} {1e3 * s:9.3f} ms\n" for name, s in seconds.items())
    )
    (folder / "explain.txt").write_text(f"{explain(executable, state.current())}\n")
    for step in executable.steps:
        for kernel in getattr(step.run, "kernels", ()):
            if kernel.kind != "reference":
                (folder / f"{kernel.name}.ll").write_text(kernel.ir())
    return folder


def enable_dumps() -> None:
    """Enter the dumps into the compiler; the environment is read at each compile."""
    if _observe not in compiler.ON_COMPILE:
        compiler.ON_COMPILE.append(_observe)


def _observe(executable: Executable) -> None:
    directory = os.environ.get("ACCEL_DUMP")
    if not directory:
        return
    try:
        dump(executable, Path(directory))
    except OSError as error:
        logger().warning("[accel] cannot write dumps to %s: %s", directory, error)
