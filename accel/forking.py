"""What is left of other threads in a forked child: none of them runs on, and memory is as it was.

A lock that another thread held would stay held, and what that thread was about, undone. So locks
come from here, and are free in a child; what they guard is right between any two statements, or
is made anew by who finds it missing. Code that is not ours may be in any state: forks wait until
no thread is in LLVM, nor imports what accel imports when it is needed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

__all__ = ["Presence", "cached_property", "held_while_forking", "lock", "unforked"]

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:
        """`functools.cached_property` without the lock that it had before Python 3.12."""

        def __init__(self, function):
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            found = instance.__dict__[self._name] = self._function(instance)
            return found


_locks: WeakSet[Any] = WeakSet()
_presences: list[Presence] = []
_foreign: list[AbstractContextManager[Any]] = []


def lock() -> Any:
    """A lock that its holder may take again, and that is free in a child if another held it."""
    made = threading.RLock()
    _locks.add(made)
    return made


def held_while_forking(foreign: AbstractContextManager[Any]) -> None:
    """Let no other thread hold `foreign`, a lock of other code, when the process forks."""
    _foreign.append(foreign)


class Presence:
    """Something that is so while any thread is inside: the first to enter begins it, the last to
    leave ends it. In a forked child the others have left.

    Parameters
    ----------
    begin
        What the first does; False where it cannot be, and nobody has entered then.
    end
        What the last does.

    Examples
    --------
    >>> lamp = Presence(lambda: print("on") is None, lambda: print("off"))
    >>> lamp.enter() and lamp.enter()
    on
    True
    >>> lamp.leave(); lamp.leave()
    off
    """

    def __init__(self, begin: Callable[[], bool], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end
        self._lock = lock()
        self._inside: dict[int, int] = {}  # how often, by thread
        _presences.append(self)

    def enter(self) -> bool:
        """Go inside, as often as one likes."""
        me = threading.get_ident()
        with self._lock:
            if not self._inside and not self._begin():
                return False
            self._inside[me] = self._inside.get(me, 0) + 1
            return True

    def leave(self) -> None:
        """Leave once."""
        me = threading.get_ident()
        with self._lock:
            left = self._inside.pop(me) - 1
            if left:
                self._inside[me] = left
            elif not self._inside:
                self._end()

    def others_left(self) -> None:
        """Stay with what the forking thread has entered."""
        me = threading.get_ident()
        mine = self._inside.get(me)
        if self._inside and not mine:
            self._end()
        self._inside = {me: mine} if mine else {}


# -- forks that wait ----------------------------------------------------------------------
_changed = threading.Condition()
_inside: dict[int, int] = {}  # how many such blocks, by thread
_forking = False
_held: list[AbstractContextManager[Any]] = []

#: Seconds after which a process forks nevertheless; code for a module is made in less than one.
_PATIENCE = 30.0


@contextmanager
def unforked() -> Iterator[None]:
    """A block that forks of other threads wait for; nothing in it waits for another thread."""
    me = threading.get_ident()
    with _changed:
        _changed.wait_for(lambda: not _forking or me in _inside)
        _inside[me] = _inside.get(me, 0) + 1
    try:
        yield
    finally:
        with _changed:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            _changed.notify_all()


def _before() -> None:
    global _forking
    me = threading.get_ident()
    with _changed:
        _changed.wait_for(lambda: not _forking)
        _forking = True
        _changed.wait_for(lambda: not _inside.keys() - {me}, _PATIENCE)
    for foreign in _foreign:
        foreign.__enter__()
        _held.append(foreign)


def _release() -> None:
    global _forking
    while _held:
        _held.pop().__exit__(None, None, None)
    with _changed:
        _forking = False
        _changed.notify_all()


def _free_the_child() -> None:
    global _changed
    _changed = threading.Condition()
    _release()
    for held in _locks:
        if not held._is_owned():
            held._at_fork_reinit()  # as the standard library does with its own
    for presence in _presences:
        presence.others_left()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_free_the_child)
