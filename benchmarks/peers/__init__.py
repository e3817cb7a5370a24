"""The libraries that are timed: one module each, holding one class.

To add a peer, write a module with a subclass of :class:`~benchmarks.peers.base.Peer` and name it
in :data:`PEERS`. The module is imported only in the peer's own process.
"""

from __future__ import annotations

import importlib

from .base import Peer

PEERS = {
    "accel": "accel_peer:Accel",
    "numpy": "numpy_peer:NumPy",
    "torch": "torch_eager:TorchEager",
    "torch.compile": "torch_compile:TorchCompile",
    "jax": "jax_peer:Jax",
    "numexpr": "numexpr_peer:Numexpr",
    "numba": "numba_peer:Numba",
    "onnxruntime": "onnxruntime_peer:OnnxRuntime",
}


def load_peer(name: str, threads: int) -> Peer:
    """Import the library behind `name`; raises ImportError where it is missing."""
    module, cls = PEERS[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), cls)(threads)
