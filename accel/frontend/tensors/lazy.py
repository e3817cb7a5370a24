"""`eval`: computing lazy Tensors on demand."""

from __future__ import annotations

import builtins
from typing import Any

from ...runtime import state as runtime_state
from . import trees
from .evaluation import evaluate, evaluate_one
from .module_state import Stateful, tensors_of
from .tensor import Tensor

__all__ = ["eval"]


def eval(*values: Any) -> None:
    """Compute every Tensor in `values`, which may be trees and Modules, in one executable.

    Anything else in them is left alone. A Tensor that has been computed stays as it is. While a
    compiled function is recorded, nothing happens.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0])
    >>> y, z = x + 1, x * 2
    >>> eval(y, {"z": z})
    """
    state = runtime_state.current()
    if state.tracer is not None:
        return  # a compiled function computes its results when it runs
    if len(values) == 1 and type(values[0]) is Tensor:
        value = values[0]._value
        if value.data is None:
            evaluate_one(value, state)
        return
    found: list[Tensor] = []
    for leaf in trees.leaves(builtins.list(values)):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Stateful):
            found.extend(tensors_of(leaf).values())
    evaluate([t._value for t in found], state)
