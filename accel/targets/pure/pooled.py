"""Max-pooling that joins the convolution before it.

Windows of 2 x 2 places that lie side by side are folded where the convolution's sums are
stored: a quarter of the result is written, and nothing of it read again. In clusters such a pool
is three maxima of four views of what a convolution stores, and nobody else reads that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ...ir import dtypes
from .clusters import Cluster
from .conv.spec import POOL
from .views import View

__all__ = ["fold_pools"]


def fold_pools(clusters: Sequence[Cluster]) -> list[Cluster]:
    """`clusters` without those that are pools of a convolution's result, which now pools."""
    for cluster in clusters:
        if cluster.kind == "conv":
            _fold(cluster)
    return [c for c in clusters if c.into is None]


def _fold(conv: Cluster) -> None:
    readers = set(conv.other_readers())
    if len(readers) != 1 or len(conv.stores) != 1 or conv.node is None:
        return
    (pool,), ((stored, whole),) = readers, conv.stores.items()
    floats = whole.buffer.dtype in (dtypes.float32, dtypes.float64)
    alone = floats and whole.buffer.kind == "arena" and whole.buffer.writers == [conv]
    if not alone or conv.node.op.name != "convolution" or len(whole.shape) != 4:
        return
    taps, target = _taps(pool), next(iter(pool.stores.values()), None)
    if target is None or taps != list(_pieces(whole)) or target.strides[-1] != 1:
        return
    conv.stores = {stored: target}
    conv.pooled, conv.readers, pool.into = True, pool.readers, conv


def _pieces(whole: View) -> Iterable[View]:
    """The first, second … place of every window."""
    *lead, height, width = whole.shape
    shape = (*lead, height // POOL, width // POOL)
    for tap in itertools.product(range(POOL), repeat=2):
        yield whole.part((0, 0, *tap), (1, 1, POOL, POOL), shape)


def _taps(cluster: Cluster) -> list[object]:
    """What a cluster takes the maxima of, in order; nothing if it does anything else."""
    order = cluster.graph.index
    members = sorted(cluster.axes, key=order.__getitem__)
    plain = cluster.kind == "loop" and not cluster.reduced and not cluster.alias
    if not plain or len(cluster.stores) != 1 or not members:
        return []
    taps: list[object] = []
    held = None
    for node in members:
        if node.op.name != "maximum" or (held is not None and node.inputs[0] is not held):
            return []
        taps += [cluster.sources.get(n) for n in node.inputs[held is not None :]]
        held = node
    return taps if held in cluster.stores else []
