"""The logger ``accel``: what was decided, and what a user should know.

Python's module for logging is imported when there is something to say or somebody listens: that
takes a tenth as long as all of accel.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["enable_logging", "is_heard", "logger"]

_INFO = 20

_handlers: list[logging.Handler] = []


def logger() -> logging.Logger:
    """The standard logger ``accel``."""
    import logging

    return logging.getLogger("accel")


def is_heard() -> bool:
    """Whether anybody listens to decisions, which are of level ``logging.INFO``."""
    return "logging" in sys.modules and logger().isEnabledFor(_INFO)


def enable_logging(on: bool = True, level: int = _INFO) -> None:
    """Show accel's decisions on standard error, or stop showing them.

    They go to the standard logger ``accel``, once per compile, whoever listens there.

    Parameters
    ----------
    on
        Whether to show them.
    level
        The least level that is shown, one of module `logging`; ``logging.INFO`` unless given.

    Examples
    --------
    >>> enable_logging(True)
    >>> enable_logging(False)
    """
    import logging

    log = logger()
    for handler in _handlers:
        log.removeHandler(handler)
    _handlers.clear()
    if not on:
        log.setLevel(logging.NOTSET)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _handlers.append(handler)
    log.addHandler(handler)
    log.setLevel(level)
