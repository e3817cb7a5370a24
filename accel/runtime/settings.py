"""Modes, thresholds and presets, as users set them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from ..errors import ArgumentError
from . import state

__all__ = ["PRESETS", "get_mode", "get_num_threads", "get_threshold", "mode", "set_mode",
           "set_num_threads", "set_threshold", "thresholds", "use_preset"]  # fmt: skip

_M = 1_000_000

#: Thresholds for kinds of machine, in elements; None: never.
PRESETS: Mapping[str, Mapping[str, int | None]] = MappingProxyType({
    "default": state.DEFAULT_THRESHOLDS,
    "low_end_cpu": {"matmul": _M // 2, "conv": _M // 2, "elementwise": 5 * _M,
                    "activation": None, "reduction": 5 * _M},
    "high_end_cpu": {"matmul": 2 * _M, "conv": 2 * _M, "elementwise": 20 * _M,
                     "activation": None, "reduction": 20 * _M},
    "gpu": {"matmul": _M // 10, "conv": _M // 10, "elementwise": _M,
            "activation": 10 * _M, "reduction": _M},
})  # fmt: skip


def set_mode(mode: str) -> None:
    """Set the process's mode: ``"pure"``, ``"torch"`` or ``"auto"``.

    Raises
    ------
    ArgumentError
        For any other mode.
    """
    state.set_default(mode=mode)


def get_mode() -> str:
    """The mode in force here.

    Examples
    --------
    >>> get_mode()
    'pure'
    """
    return state.current().mode


def mode(name: str) -> AbstractContextManager[state.State]:
    """A `with` block in another mode.

    Examples
    --------
    >>> with mode("auto"):
    ...     get_mode()
    'auto'
    """
    return state.override(mode=name)


def get_num_threads() -> int:
    """How many threads a large kernel may use, the caller's own included.

    Unless `set_num_threads` or the environment variable ``ACCEL_NUM_THREADS`` says otherwise,
    as many as there are processors that this process may use.

    Raises
    ------
    ArgumentError
        If ``ACCEL_NUM_THREADS`` is set and is no number of threads.
    """
    from ..targets.pure.machine import threads

    return threads.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let large kernels of this process use `n` threads, the caller's own included.

    Results are the same, bit for bit, at any number. It holds from the next kernel on, also in
    functions that are compiled already, and in forked children. Small kernels always stay on
    the calling thread, and no thread is started before it is needed.

    Parameters
    ----------
    n
        1 or more.

    Raises
    ------
    ArgumentError
        For anything else.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    from ..targets.pure.machine import threads

    threads.set_num_threads(n)


def thresholds() -> Mapping[str, int | None]:
    """All thresholds: elements at and above which `auto` prefers torch; None: never."""
    return MappingProxyType(dict(state.current().thresholds))


def get_threshold(kind: str) -> int | None:
    """The threshold of one kind of op.

    Examples
    --------
    >>> get_threshold("matmul")
    1000000
    """
    _check_kind(kind)
    return state.current().thresholds[kind]


def set_threshold(kind: str, elements: int | str | None) -> None:
    """Set the process's threshold for `kind`; None or ``"never"`` means no pull to torch.

    Raises
    ------
    ArgumentError
        For an unknown kind or a negative number.
    """
    _check_kind(kind)
    value: int | None
    if elements is None or elements == "never":
        value = None
    elif isinstance(elements, int) and not isinstance(elements, bool) and elements >= 0:
        value = elements
    else:
        raise ArgumentError(
            f"the threshold of {kind} cannot be {elements!r}",
            remedy="give a number of elements, or 'never'",
        )
    state.set_default(thresholds=MappingProxyType({**state.current().thresholds, kind: value}))


def use_preset(name: str) -> None:
    """Set all thresholds for a kind of machine: see `PRESETS`.

    ``"calibrated"`` takes what `accel.calibrate` measured on this one.

    Raises
    ------
    ArgumentError
        For an unknown preset, or where nothing was calibrated.
    """
    if name == "calibrated":
        from .calibrate import calibrated_thresholds

        state.set_default(thresholds=calibrated_thresholds())
        return
    if name not in PRESETS:
        raise ArgumentError(
            f"preset {name!r} is unknown",
            remedy="use one of " + ", ".join([*PRESETS, "calibrated"]),
        )
    state.set_default(thresholds=MappingProxyType(dict(PRESETS[name])))


def _check_kind(kind: str) -> None:
    if kind not in state.DEFAULT_THRESHOLDS:
        raise ArgumentError(
            f"there is no threshold for {kind!r}",
            remedy="kinds: " + ", ".join(state.DEFAULT_THRESHOLDS),
        )
