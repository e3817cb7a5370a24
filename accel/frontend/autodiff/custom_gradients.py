"""Functions with gradients of their own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import GradientError
from ...ir.node import Node
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Lowering, Value, topological, user_location
from .derivatives import full_like

__all__ = ["custom_vjp"]


class custom_vjp:
    """A function whose gradient is what `defvjp` says, not what differentiation finds.

    For functions that are differentiated better by hand, or should have another gradient than
    their own: clipped, straight through a rounding, of a fixed point.

    Parameters
    ----------
    fn
        Takes trees of arrays and anything else by position, returns a tree of arrays.

    References
    ----------
    As in JAX, https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html.

    Examples
    --------
    >>> import accel
    >>> @accel.custom_vjp
    ... def quantized(x):
    ...     return accel.round(x)
    >>> quantized.defvjp(lambda x: (accel.round(x), None), lambda residuals, g: (g,))
    >>> accel.grad(lambda x: (quantized(x) * 3).sum())(accel.asarray([0.2, 1.7])).tolist()
    [3.0, 3.0]
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._forward: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule.

        Parameters
        ----------
        fwd
            Takes what the function takes; returns its result and what `bwd` needs besides.
        bwd
            Takes the latter and a cotangent of the result's structure; returns a tuple of one
            gradient for each argument: of its structure and shapes, or None where there is none.
            To be differentiated forwards, it is linear in the cotangent.
        """
        self._forward, self._backward = fwd, bwd

    def __call__(self, *args: Any, **named: Any) -> Any:
        """``fn(*args, **named)``; the rule is given all arguments by position.

        Raises
        ------
        GradientError
            Without a rule; where what that returns misfits; where the function uses tensors that
            require gradients and are no arguments.
        """
        if self._forward is None or self._backward is None:
            raise GradientError(
                f"{self.__name__} has no gradient rule", loc=user_location(),  # type: ignore[attr-defined]
                remedy="give it one: f.defvjp(fwd, bwd)",
            )  # fmt: skip
        if named:
            bound = inspect.signature(self._fn).bind(*args, **named)
            bound.apply_defaults()
            if bound.kwargs:
                raise GradientError(
                    f"{self.__name__} has keyword-only arguments",  # type: ignore[attr-defined]
                    loc=user_location(), remedy="let its rule's arguments be given by position",
                )  # fmt: skip
            args = bound.args
        state = runtime_state.current()
        leaves, structure = trees.flatten(args)
        needed = state.grad_enabled and any(map(_requires_grad, leaves))
        if not needed or self in state.plain:
            return self._fn(*args)
        originals: dict[Value, Tensor] = {}  # by what stands for them inside
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                alias = value_of(leaf).alias(leaf.dtype.is_inexact, tracer=state.tracer)
                originals[alias] = leaf
                leaves[place] = Tensor._of(alias)
        args = trees.unflatten(structure, leaves)
        with runtime_state.override(plain=(*state.plain, self)):
            pair = self._forward(*args)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise GradientError("fwd of a custom gradient returns a pair", loc=user_location(),
                                remedy="return result, residuals")  # fmt: skip
        outputs, structure = trees.flatten(pair[0])
        results = [value_of(as_tensor(o)) for o in outputs]
        cotangents = [value_of(full_like(r, 0).detach()) for r in results]
        given = self._backward(
            pair[1], trees.unflatten(structure, [Tensor._of(c) for c in cotangents])
        )
        slopes = _by_operand(args, given)
        made = _record(originals, results, cotangents, slopes)
        return trees.unflatten(structure, made)


def _requires_grad(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad


def _by_operand(args: Sequence[Any], given: Any) -> dict[Value, Value]:
    """The gradients that a rule gave, by the Values of the arguments' tensors."""
    listed = given if isinstance(given, tuple) else (given,)
    if len(listed) != len(args):
        raise GradientError(
            f"bwd of a custom gradient returned {len(listed)} gradients for {len(args)} arguments",
            loc=user_location(), remedy="return a tuple with one for each, or None",
        )  # fmt: skip
    found: dict[Value, Value] = {}
    for place, (argument, gradient) in enumerate(zip(args, listed, strict=True)):
        if gradient is None:
            continue
        operands, structure = trees.flatten(argument)
        slopes, same = trees.flatten(gradient)
        if structure != same:
            raise GradientError(
                f"bwd of a custom gradient: gradient {place} is no tree like the argument",
                loc=user_location(), remedy="return one of the argument's structure, or None",
            )  # fmt: skip
        for operand, slope in zip(operands, slopes, strict=True):
            if not isinstance(operand, Tensor) or not operand.dtype.is_inexact:
                continue
            slope = as_tensor(slope)
            if slope.shape != operand.shape:
                raise GradientError(
                    f"bwd of a custom gradient: gradient {place} has shape {list(slope.shape)}, "
                    f"the argument {list(operand.shape)}", loc=user_location(),
                    remedy="undo broadcasting: sum over the axes that it made",
                )  # fmt: skip
            found[value_of(operand)] = value_of(record("cast", slope, dtype=operand.dtype))
    return found


def _record(
    originals: dict[Value, Tensor], results: Sequence[Value], cotangents: Sequence[Value],
    slopes: dict[Value, Value],
) -> list[Tensor]:  # fmt: skip
    """`results` as applications of the op `custom`, of which gradients are `slopes`."""
    ends = {*originals, *cotangents}

    def is_input(value: Value) -> bool:
        return value in ends or value.step is None or value.owner is not None

    lowering = Lowering()
    wanted = [*results, *slopes.values()]
    lowering.add(topological([*originals, *cotangents, *wanted], is_input), is_input)
    arriving = set(cotangents)
    inputs: list[Node] = []
    operands: list[Value] = []
    for node, value in zip(lowering.inputs, lowering.sources, strict=True):
        if value in arriving:
            continue
        if value.requires_grad and value not in originals:
            raise GradientError(
                f"a function with a gradient of its own uses a tensor ({value.type}) that requires "
                "one and is no argument", loc=user_location(), remedy="pass it as an argument",
            )  # fmt: skip
        inputs.append(node)
        operands.append(value)
    builder, nodes = lowering.builder, lowering.nodes
    attrs = {
        "body": builder.graph(inputs, [lowering.strong(r) for r in results]),
        "pullback": builder.graph(
            [*inputs, *[nodes[c] for c in cotangents]], [nodes[s] for s in slopes.values()]
        ),
        "wrt": tuple([operands.index(v) for v in slopes]),
    }
    tensors = [originals[v] if v in originals else Tensor._of(v) for v in operands]
    return [record("custom", *tensors, **attrs, index=i) for i in range(len(results))]
