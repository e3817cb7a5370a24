"""accel: a lazy graph compiler for tensor code."""

from .runtime.collector import collection_paused as _collection_paused

with _collection_paused(lasting=True):
    from .frontend.public import *
    from .frontend.namespace import array_namespace_info as __array_namespace_info__
    from . import data, nn, optim
    from .interop.safetensors import load_safetensors, save_safetensors

__version__ = "0.1.0"
__array_api_version__ = "2024.12"


def __getattr__(name: str) -> object:
    """Import on first use what most programs do without."""
    if name in ("cuda", "testing"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'accel' has no attribute {name!r}")
