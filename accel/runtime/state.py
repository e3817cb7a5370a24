"""The settings of the moment: one immutable State in one ContextVar.

`override` changes them for a `with` block of this context (thread or task); `set_default`
changes them for the process. Nothing else in accel is global to a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from ..errors import ArgumentError, DeviceError
from ..ir.dataclass import dataclass

__all__ = ["DEFAULT_THRESHOLDS", "MODES", "State", "cells", "change", "current", "override",
           "overriding", "set_default"]  # fmt: skip

MODES = ("pure", "torch", "auto")

#: Compile keys by themselves: equal ones are the same object.
_KEYS: dict[Any, Any] = {}

#: Elements of the largest operand or result at and above which `auto` prefers torch.
#: None: never.
DEFAULT_THRESHOLDS: Mapping[str, int | None] = MappingProxyType({
    "matmul": 1_000_000, "conv": 1_000_000, "elementwise": 10_000_000,
    "activation": None, "reduction": 5_000_000,
})  # fmt: skip


@dataclass(frozen=True)
class State:
    """Mode, device, fallback, thresholds, gradient recording, tracer and debugging switches.

    `plain` are functions whose own gradient rules run here: they are called as they are.
    """

    mode: str = "pure"
    device: str | None = None
    fallback: str = "auto"  # or "error"
    thresholds: Mapping[str, int | None] = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    grad_enabled: bool = True
    plain: tuple[Any, ...] = ()
    tracer: Any = None
    disabled_passes: frozenset[str] = frozenset()
    verify: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (*MODES, "reference"):
            raise ArgumentError(f"mode {self.mode!r} is unknown", remedy=f"use one of {MODES}")
        if self.fallback not in ("auto", "error"):
            raise ArgumentError(
                f"fallback {self.fallback!r} is unknown", remedy="use 'auto' or 'error'"
            )
        if self.device is not None and not _is_device(self.device):
            raise DeviceError(
                f"there is no device {self.device!r}", remedy="use 'cpu', 'cuda' or 'cuda:N'"
            )
        key = (self.mode, self.device, self.fallback, tuple(sorted(self.thresholds.items())),
               self.disabled_passes, self.verify)  # fmt: skip
        object.__setattr__(self, "compile_key", _KEYS.setdefault(key, key))

    compile_key: tuple[Any, ...] = field(init=False, repr=False, compare=False, default=())


def _is_device(name: object) -> bool:
    """Whether `name` is spelt as a device is; it need not be there."""
    if not isinstance(name, str):
        return False
    kind, _, number = name.partition(":")
    return name in ("cpu", "cuda") or (kind in ("cpu", "cuda") and number.isdecimal())


def _from_environment() -> State:
    disabled = os.environ.get("ACCEL_DISABLE_PASSES", "")
    return State(
        mode=os.environ.get("ACCEL_MODE", "pure"),
        disabled_passes=frozenset(filter(None, disabled.split(","))),
        verify=os.environ.get("ACCEL_VERIFY", "") not in ("", "0"),
    )


_process: list[State] = [_from_environment()]
_override: ContextVar[State | None] = ContextVar("accel_state", default=None)


#: The State of a `with` block of this context; None outside of any.
overriding = _override.get


def current() -> State:
    """The State in force here."""
    return _override.get() or _process[0]


def cells() -> tuple[ContextVar[State | None], list[State]]:
    """Where `current` looks: the context's variable, then the list of the process's own State."""
    return _override, _process


@contextmanager
def override(**changes: Any) -> Iterator[State]:
    """Change settings within a `with` block of this context."""
    state = replace(current(), **changes)
    token = _override.set(state)
    try:
        yield state
    finally:
        _override.reset(token)


def change(**changes: Any) -> None:
    """Change settings until the `with` block that this is in ends; outside, the process's."""
    inner = _override.get()
    if inner is None:
        _process[0] = replace(_process[0], **changes)
    else:
        _override.set(replace(inner, **changes))


def set_default(**changes: Any) -> None:
    """Change the process's settings."""
    _process[0] = replace(_process[0], **changes)
    inner = _override.get()
    if inner is not None:  # inside a `with` block the change holds at once as well
        _override.set(replace(inner, **changes))
