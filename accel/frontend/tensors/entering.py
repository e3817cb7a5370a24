"""Hearing of every Python function that a trace enters.

From Python 3.12 `sys.monitoring` reports function starts and can be told to skip a library's
code for good, so it costs next to nothing. Before, a profiling hook does it, which is put
aside while an operation is recorded, since the user's code is not reached from there.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from ... import forking
from ...runtime import state as runtime_state
from .values import HIDDEN_FOLDERS

__all__ = ["Listener", "is_library_code", "is_library_file", "listen", "unheard"]

T = TypeVar("T")


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    """Folders of code that is not the user's; those met most often first."""
    with forking.unforked():
        import site
        import sysconfig

        kinds = ("stdlib", "platstdlib", "purelib", "platlib")
        paths = [sysconfig.get_path(kind) for kind in kinds]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return HIDDEN_FOLDERS + tuple({os.path.join(p, "") for p in paths if p}) + ("<frozen",)


_known: dict[types.CodeType, bool] = {}


def is_library_file(path: str) -> bool:
    """Whether a file belongs to accel, NumPy, Python or an installed package."""
    return path.startswith(_library_folders())


def is_library_code(code: types.CodeType) -> bool:
    """Whether `code` is not the user's own."""
    found = _known.get(code)
    if found is None:
        if len(_known) > 10_000:  # code made at run time must not pile up
            _known.clear()
        found = _known[code] = code.co_filename.startswith(_library_folders())
    return found


#: Called with the frame of each user function that is entered.
Listener = Callable[[Any], None]


class _Session(Protocol):
    def __enter__(self) -> Any: ...

    def __exit__(self, *failure: Any) -> None: ...


def _restore(hook: Any) -> None:
    """Put a profiling hook back; C profilers (cProfile) can only be enabled again."""
    if hook is None or callable(hook):
        sys.setprofile(hook)
    else:
        sys.setprofile(None)
        hook.enable()


class _ProfileSession:
    """Listening through `sys.setprofile`; the hook that was there is put back."""

    def __init__(self, listener: Listener) -> None:
        known = _known

        def hook(frame: Any, event: str, argument: Any) -> None:
            if event == "call":
                code = frame.f_code
                if not (known[code] if code in known else is_library_code(code)):
                    listener(frame)

        self._hook = hook
        self._previous: Any = None

    def __enter__(self) -> None:
        self._previous = sys.getprofile()
        sys.setprofile(self._hook)

    def __exit__(self, *failure: Any) -> None:
        _restore(self._previous)


class _Monitor:
    """The process's share of `sys.monitoring`: one tool for all traces in all threads."""

    def __init__(self) -> None:
        self._tool: int | None = None
        self.sessions = forking.Presence(self._start, self._stop)

    def _start(self) -> bool:
        """Begin to listen; False where every tool number is taken."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        free = [n for n in (3, 4) if monitoring.get_tool(n) is None]
        if not free:
            return False
        self._tool = free[0]
        monitoring.use_tool_id(self._tool, "accel")
        start = monitoring.events.PY_START
        monitoring.register_callback(self._tool, start, self._entered)
        monitoring.set_events(self._tool, start)
        return True

    def _stop(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        monitoring.set_events(self._tool, 0)
        monitoring.register_callback(self._tool, monitoring.events.PY_START, None)
        monitoring.free_tool_id(self._tool)

    def _entered(self, code: types.CodeType, offset: int) -> Any:
        if is_library_code(code):
            return sys.monitoring.DISABLE  # type: ignore[attr-defined]
        tracer = runtime_state.current().tracer  # of the thread that entered the function
        if tracer is not None and tracer.listener is not None:
            tracer.listener(sys._getframe(1))
        return None


_monitor = _Monitor()
_HAS_MONITORING = hasattr(sys, "monitoring")


class _MonitorSession:
    """Listening through `sys.monitoring` for the tracer of this context."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._tracer: Any = None
        self._fallback: _ProfileSession | None = None

    def __enter__(self) -> None:
        self._tracer = runtime_state.current().tracer
        if _monitor.sessions.enter():
            self._tracer.listener = self._listener
        else:
            self._fallback = _ProfileSession(self._listener)
            self._fallback.__enter__()

    def __exit__(self, *failure: Any) -> None:
        if self._fallback is not None:
            self._fallback.__exit__()
        else:
            self._tracer.listener = None
            _monitor.sessions.leave()


def listen(listener: Listener) -> _Session:
    """A `with` block that calls `listener` for every user function that this trace enters."""
    return _MonitorSession(listener) if _HAS_MONITORING else _ProfileSession(listener)


def unheard(function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``, which enters no user code, with the profiling hook put aside."""
    if _HAS_MONITORING:
        return function(*args)
    hook = sys.getprofile()
    sys.setprofile(None)
    try:
        return function(*args)
    finally:
        _restore(hook)
