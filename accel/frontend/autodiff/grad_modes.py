"""Whether operations are recorded for differentiation, here and now."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...runtime import state as runtime_state

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class _GradMode:
    """A context manager, and a decorator, under which gradients are recorded or not."""

    _enabled: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        made._open = []
        return made if function is None else made(function)

    _open: list[AbstractContextManager[Any]]

    def __enter__(self) -> None:
        block = runtime_state.override(grad_enabled=self._enabled)
        block.__enter__()
        self._open.append(block)

    def __exit__(self, *failure: Any) -> None:
        self._open.pop().__exit__(*failure)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with runtime_state.override(grad_enabled=self._enabled):
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Nothing computed in this block, or in the decorated function, carries gradients.

    Examples
    --------
    >>> import accel
    >>> x = accel.tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    _enabled = False


class enable_grad(_GradMode):
    """Gradients are recorded again inside a `no_grad` block."""

    _enabled = True


class inference_mode(no_grad):
    """`no_grad` under torch's other name: tensors made here are like all others afterwards.

    ``inference_mode(False)`` changes nothing.
    """

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        if callable(mode):
            return super().__new__(cls, mode)
        made = super().__new__(cls)
        made._enabled = runtime_state.current().grad_enabled and not mode
        return made


class set_grad_enabled(_GradMode):
    """Record gradients from now on, or not; as a `with` block or a decorator, only there.

    Examples
    --------
    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    >>> is_grad_enabled()
    True
    """

    def __new__(cls, mode: bool) -> Any:
        made = super().__new__(cls)
        made._enabled, made._before = bool(mode), runtime_state.current().grad_enabled
        runtime_state.change(grad_enabled=made._enabled)
        return made

    _before: bool

    def __enter__(self) -> None:
        runtime_state.change(grad_enabled=self._before)
        super().__enter__()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        runtime_state.change(grad_enabled=self._before)
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether what is computed here carries gradients."""
    return runtime_state.current().grad_enabled
