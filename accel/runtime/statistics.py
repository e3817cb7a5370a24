"""Counters of what ran where. One lock, one place."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields

__all__ = ["STATISTICS", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
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
    """The process's counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys((f.name for f in fields(Snapshot)), 0)

    def add(self, **counts: int) -> None:
        """Add to the named counters."""
        self.add_all(counts)

    def add_all(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(**self._counts)

    def reset(self) -> None:
        with self._lock:
            self._counts = dict.fromkeys(self._counts, 0)


STATISTICS = Statistics()
