"""The op families. Importing this package fills the registry."""

from ..op import all_ops
from . import (
    activation,
    advanced_indexing,
    arrangement,
    attention,
    binary,
    class_loss,
    contraction,
    convolution,
    creation,
    custom,
    decomposition,
    fourier,
    gather,
    indexing,
    logic,
    loss,
    moments,
    movement,
    normalization,
    ordering,
    pooling,
    random,
    reduce,
    scan,
    scatter_reduce,
    solving,
    special,
    structure,
    unary,
)

__all__ = [
    "BUILT_IN", "activation", "advanced_indexing", "arrangement", "attention", "binary",
    "class_loss", "contraction", "convolution", "creation", "custom", "decomposition",
    "fourier", "gather", "indexing", "logic", "loss", "moments", "movement", "normalization",
    "ordering", "pooling", "random", "reduce", "scan", "scatter_reduce", "solving", "special",
    "structure", "unary",
]  # fmt: skip

#: The names of accel's own ops; others may come and go, and mean something else next time.
BUILT_IN = frozenset(all_ops())
