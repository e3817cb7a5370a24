"""The op families. Importing this package fills the registry."""

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
    "activation", "advanced_indexing", "arrangement", "attention", "binary", "class_loss",
    "contraction", "convolution", "creation", "decomposition", "fourier", "gather", "indexing",
    "logic", "loss", "moments", "movement", "normalization", "ordering", "pooling", "random",
    "reduce", "scan", "scatter_reduce", "solving", "special", "structure", "unary",
]  # fmt: skip
