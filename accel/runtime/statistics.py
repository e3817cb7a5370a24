"""Counters of what ran where, in one place."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .. import forking

__all__ = ["STATISTICS", "Snapshot"]


class Snapshot(NamedTuple):
    """Counts since the start or the last reset.

    `pure_count`, `torch_count` and `reference_count` count executed regions (reference:
    ops without a native kernel), `pure_ops` and `torch_ops` the ops in them.
    """

    pure_count: int = 0
    torch_count: int = 0
    reference_count: int = 0
    pure_ops: int = 0
    torch_ops: int = 0
    fallback_count: int = 0
    transfers: int = 0
    transfer_bytes: int = 0
    compiles: int = 0
    cache_hits: int = 0
    automatic_evaluations: int = 0


class Statistics:
    """The process's counters.

    Attributes
    ----------
    native
        Counts of native calls, in the order of `Snapshot`'s fields. They add to it while they
        hold the interpreter's lock, so Python code may only set it as a whole.
    """

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._counts = dict.fromkeys(Snapshot._fields, 0)
        self.native = np.zeros(len(self._counts), np.int64)
        self._start_hits()

    def _start_hits(self) -> None:
        self._hits = itertools.count()
        #: Counts one evaluation that found its executable, in no more time than that takes.
        self.hit = self._hits.__next__

    def add(self, **counts: int) -> None:
        """Add to the named counters."""
        self.add_all(counts)

    def add_all(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def row(self, counts: Mapping[str, int]) -> np.ndarray:
        """What a native call that counts `counts` adds to `native`."""
        return np.array([counts.get(name, 0) for name in self._counts], np.int64)

    def snapshot(self) -> Snapshot:
        with self._lock:
            native = dict(zip(self._counts, self.native.tolist(), strict=True))
            native["cache_hits"] += int(str(self._hits)[len("count(") : -1])
            return Snapshot(**{name: n + native[name] for name, n in self._counts.items()})

    def reset(self) -> None:
        with self._lock:
            self._counts = dict.fromkeys(self._counts, 0)
            self.native[:] = 0
            self._start_hits()


STATISTICS = Statistics()
