"""Checkpoints: results whose intermediates are computed again for the gradient, not kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import NotAnArrayError, user_location
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import CALL, Lowering, Value, topological

__all__ = ["checkpoint"]


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``fn(*args, **kwargs)``, of which gradients keep the arguments and results alone.

    What lies between them is computed again when the gradient needs it: memory for time. Random
    numbers drawn inside are the same both times. Other tensors than arguments, such as a model's
    parameters, may be used as ever.

    Parameters
    ----------
    fn
        Takes and returns trees of arrays; a Module, for example.
    args, kwargs
        What it is called with. Without any, the checkpointed function is returned instead, so
        that this is a decorator as well.

    Returns
    -------
    Any
        What `fn` returns.

    Raises
    ------
    NotAnArrayError
        Where `fn` returns something else than arrays.

    References
    ----------
    Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016,
    https://arxiv.org/abs/1604.06174.

    Examples
    --------
    >>> import accel
    >>> x = accel.asarray([0.5, 1.0]).requires_grad_()
    >>> y = accel.checkpoint(lambda x: accel.tanh(x).exp(), x)
    >>> y.sum().backward()
    >>> bool(accel.allclose(x.grad, accel.tanh(x).exp() * (1 - accel.tanh(x) ** 2)))
    True
    """
    if not args and not kwargs:
        return functools.wraps(fn)(lambda *a, **k: _checkpointed(fn, a, k))
    return _checkpointed(fn, args, kwargs)


def _checkpointed(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    state = runtime_state.current()
    if not state.grad_enabled:
        return fn(*args, **kwargs)
    leaves, structure = trees.flatten((args, kwargs))
    aliases: dict[Value, Value] = {}  # what stands for an argument inside
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            value = value_of(leaf)
            alias = value.alias(True, tracer=state.tracer)
            aliases[alias] = value
            leaves[place] = Tensor._of(alias)
    args, kwargs = trees.unflatten(structure, leaves)
    outputs, structure = trees.flatten(fn(*args, **kwargs))
    results = [value_of(_array(output)) for output in outputs]
    linked = list(dict.fromkeys(r for r in results if r.requires_grad and r not in aliases))
    made = dict(zip(linked, _again(linked, aliases, state.tracer), strict=True))
    return trees.unflatten(structure, [
        Tensor._of(made.get(r, aliases.get(r, r))) for r in results
    ])  # fmt: skip


def _array(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise NotAnArrayError(
        f"a checkpointed function returned {type(output).__name__}", loc=user_location(),
        remedy="return tensors, in any tree of tuples, lists and dicts",
    )  # fmt: skip


def _again(
    results: Sequence[Value], aliases: dict[Value, Value], tracer: Any
) -> list[Value]:
    """`results` as Values that are computed again wherever a gradient goes through them."""
    if not results:
        return []

    def is_input(value: Value) -> bool:
        return value in aliases or value.step is None or value.owner is not None or (
            value.data is not None
        )  # fmt: skip

    lowering = Lowering()
    lowering.add(topological(results, is_input), is_input)
    graph = lowering.builder.graph(lowering.inputs, [lowering.nodes[r] for r in results])
    operands = tuple([aliases.get(v, v) for v in lowering.sources])
    return [
        Value(r.type, CALL, operands, {"graph": graph, "index": i, "again": True}, r.loc, None,
              True, tracer)
        for i, r in enumerate(results)
    ]  # fmt: skip
