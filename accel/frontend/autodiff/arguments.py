"""Arguments and results of transformed functions.

A function is called on aliases of the arguments that it is differentiated by, which tell them apart
from the same values used elsewhere; afterwards results carry gradients only as far as the arguments
themselves do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, GradientError, NotAnArrayError
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.module_state import Stateful, tensors_of
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Value, topological, user_location
from .derivatives import cotangent_of

__all__ = ["Argument", "lower_flags", "parted", "positions_of"]


class Argument:
    """One differentiated argument: a tree of arrays, or a Module for its parameters."""

    def __init__(self, argument: Any, position: int) -> None:
        self.originals: list[Value] = []
        self.aliases: list[Value] = []
        if isinstance(argument, Stateful):
            self.replacement = argument
            named = {k: t for k, t in tensors_of(argument).items() if t.requires_grad}
            self.structure: Any = (dict, tuple(named), (trees.LEAF,) * len(named))
            self.aliases = [value_of(t) for t in named.values()]
            return
        tracer = runtime_state.current().tracer
        leaves, self.structure = trees.flatten(argument)
        replaced = []
        for leaf in leaves:
            tensor = _differentiable(leaf, position)
            original = value_of(tensor)
            alias = original.alias(True, tracer=tracer)
            self.originals.append(original)
            self.aliases.append(alias)
            replaced.append(Tensor._of(alias))
        self.replacement = trees.unflatten(self.structure, replaced)

    def along(self, tangent: Any) -> list[Value]:
        """A tangent of the argument, as Values of the aliases' types."""
        given, structure = trees.flatten(tangent)
        if isinstance(self.replacement, Stateful):
            structure = self.structure if len(given) == len(self.aliases) else None
        if structure != self.structure:
            raise GradientError("the tangent's structure is not that of the primal",
                                loc=user_location(), remedy="give the same tree")  # fmt: skip
        pairs = zip(self.aliases, given, strict=True)
        return [cotangent_of(alias, t, "tangent") for alias, t in pairs]


def _differentiable(leaf: Any, position: int) -> Tensor:
    try:
        tensor = as_tensor(leaf)
    except NotAnArrayError as error:
        raise NotAnArrayError(
            f"gradient with respect to argument {position}, which is {type(leaf).__name__}",
            loc=user_location(), remedy="name array arguments in argnums",
        ) from error  # fmt: skip
    if value_of(tensor).type.weak:  # a float argument of a compiled function
        tensor = record("cast", tensor, dtype=tensor.dtype)
    if not tensor.dtype.is_inexact:
        raise GradientError(
            f"gradient with respect to argument {position}, a tensor of {tensor.dtype}",
            loc=user_location(), remedy="convert it to a floating-point dtype first",
        )  # fmt: skip
    return tensor


def positions_of(argnums: int | Sequence[int], count: int) -> list[int]:
    """The arguments that `argnums` names, of `count` passed by position."""
    listed = [argnums] if isinstance(argnums, int) else list(argnums)
    for position in listed:
        if not -count <= position < count:
            raise ArgumentError(
                f"argnums names argument {position} of {count}", loc=user_location(),
                remedy="differentiated arguments are passed by position",
            )  # fmt: skip
    return [p % count for p in listed]


def lower_flags(roots: Sequence[Value], arguments: Sequence[Argument]) -> None:
    """Results carry gradients only if the arguments themselves do, not for our aliases' sake.

    Whatever depends on an alias was recorded by this very call, so its flags are ours to set.
    """
    ours: set[Value] = set()
    for argument in arguments:
        for alias, original in zip(argument.aliases, argument.originals, strict=False):
            if not original.requires_grad:
                alias.set_requires_grad(False)
                ours.add(alias)
    if not ours:
        return
    for value in topological(roots, lambda v: v in ours or not v.requires_grad):
        if value.inputs and value.owner is None and value.requires_grad:
            value.set_requires_grad(any(i.requires_grad for i in value.inputs))


def parted(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """A function's result, and what else it returns with `has_aux`."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(
            "with has_aux the function returns a pair: the value and anything else",
            loc=user_location(), remedy="return value, aux",
        )  # fmt: skip
    return result[0], result[1]
