"""The op families. Importing this package fills the registry."""

from . import (
    activation,
    arrangement,
    binary,
    contraction,
    creation,
    indexing,
    logic,
    loss,
    movement,
    normalization,
    random,
    reduce,
    structure,
    unary,
)

__all__ = [
    "activation", "arrangement", "binary", "contraction", "creation", "indexing", "logic", "loss",
    "movement", "normalization", "random", "reduce", "structure", "unary",
]  # fmt: skip
