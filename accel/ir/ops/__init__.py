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
    solving,
    structure,
    unary,
)

__all__ = [
    "activation", "advanced_indexing", "arrangement", "attention", "binary", "class_loss",
    "contraction", "convolution", "creation", "decomposition", "fourier", "gather", "indexing",
    "logic", "loss", "moments", "movement", "normalization", "ordering", "pooling", "random",
    "reduce", "scan", "solving", "structure", "unary",
]  # fmt: skip
