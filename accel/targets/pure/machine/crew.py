"""Threads for a batch of tasks in which other code than Python's does the work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Crew"]

T = TypeVar("T")


class Crew(Generic[T]):
    """Runs tasks as they are handed in, on a few threads that end with the batch.

    In a ``with`` statement tasks are handed in; at its end the caller takes a hand, until all are
    done. Where there is one task, or one thread is allowed, no thread is started.

    Parameters
    ----------
    threads
        How many threads may work, the caller among them.

    Examples
    --------
    >>> with Crew(2) as crew:
    ...     for name in ("a", "b"):
    ...         crew.add(name.upper)
    >>> crew.results()
    ['A', 'B']
    """

    def __init__(self, threads: int) -> None:
        self._most = threads - 1
        self._tasks: SimpleQueue[tuple[int, Callable[[], T]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._done: dict[int, T] = {}
        self._failed: dict[int, BaseException] = {}
        self._count = 0

    def add(self, task: Callable[[], T]) -> None:
        """Hand in a task."""
        self._tasks.put((self._count, task))
        self._count += 1
        if self._count > 1 and len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, name="accel-crew", daemon=True)
            self._threads.append(thread)
            thread.start()

    def results(self) -> list[T]:
        """What the tasks returned, in the order in which they were handed in.

        Raises
        ------
        BaseException
            What the first task raised that failed.
        """
        for number in sorted(self._failed):
            raise self._failed[number]
        return [self._done[number] for number in range(self._count)]

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            number, run = task
            try:
                self._done[number] = run()
            except BaseException as error:  # the caller is told
                self._failed[number] = error

    def __enter__(self) -> Crew[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for _ in range(len(self._threads) + 1):
            self._tasks.put(None)
        if error is None:
            self._work()
        for thread in self._threads:
            thread.join()
