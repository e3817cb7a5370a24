"""Derivatives of recorded Values, by the passes.

The part of the record that a derivative needs is lowered into one Builder, differentiated by
`passes.differentiate` or `passes.push_forward`, and the new nodes come back as recorded Values. So
derivatives are as lazy as everything else, can be differentiated again, and join the graph of a
compiled function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import GradientError, ShapeError
from ...ir.node import Node
from ...ir.op import Op
from ...ir.types import Shape
from ...passes.differentiate import differentiate
from ...passes.push_forward import push_forward
from ...runtime import state as runtime_state
from ..tensors.entering import unheard
from ..tensors.pullbacks import PULLBACKS, Pullback, describe_pullback
from ..tensors.recording import as_tensor, constant_value, record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Lowering, Value, strong_type, topological, user_location

__all__ = ["cotangent_of", "full_like", "gradients", "tangents"]


def gradients(
    roots: Sequence[Value], cotangents: Sequence[Value], wrt: Sequence[Value], again: bool,
    through: bool = False,
) -> list[Value | None]:  # fmt: skip
    """Cotangents of `wrt`, recorded; None where no path leads. `again`: differentiable ones.

    The Values of `wrt` count as independent of each other, unless `through` is set.
    """
    targets = set() if through else set(wrt)

    def is_input(value: Value) -> bool:
        return value in targets or not value.requires_grad or value.owner is not None

    order = unheard(topological, [r for r in roots if r.requires_grad], is_input)
    pairs = [(r, c) for r, c in zip(roots, cotangents, strict=True) if r.requires_grad]
    reached, arriving = [r for r, _ in pairs], [c for _, c in pairs]

    def derive(lowering: Lowering) -> list[Node | None]:
        nodes = lowering.nodes
        return differentiate(
            lowering.builder, [nodes[r] for r in reached], [nodes[c] for c in arriving],
            [nodes[w] if w in nodes else lowering.input(w) for w in wrt],
        )  # fmt: skip

    return unheard(_derived, derive, "pull", order, is_input, reached, arriving, wrt, again)


def tangents(
    roots: Sequence[Value], wrt: Sequence[Value], directions: Sequence[Value]
) -> list[Value | None]:
    """What `roots` move by as those of `wrt` move in `directions`; None for those that do not."""
    targets = set(wrt)

    def is_input(value: Value) -> bool:
        return value in targets or not value.requires_grad or value.owner is not None

    order = unheard(topological, roots, is_input)

    def derive(lowering: Lowering) -> list[Node | None]:
        nodes = lowering.nodes
        return push_forward(
            lowering.builder, [nodes[r] for r in roots],
            [nodes[w] if w in nodes else lowering.input(w) for w in wrt],
            [nodes[d] for d in directions],
        )  # fmt: skip

    return unheard(_derived, derive, "push", order, is_input, roots, directions, wrt, True)


def _derived(
    derive: Callable[[Lowering], Sequence[Node | None]], way: str, order: Sequence[Value],
    is_input: Callable[[Value], bool], roots: Sequence[Value], given: Sequence[Value],
    wrt: Sequence[Value], again: bool,
) -> list[Value | None]:  # fmt: skip
    """What `derive` adds to the nodes of `order` and of the (co)tangents `given`, as Values."""
    key, values = describe_pullback(order, is_input, roots, given, wrt)
    key = (way, *key)
    pullback = PULLBACKS.get(key)
    if pullback is None:
        lowering = _lowered(order, is_input, given)
        pullback = Pullback(derive(lowering), lowering, values)
        PULLBACKS.put(key, pullback)
    tracer = runtime_state.current().tracer
    if tracer is not None:
        tracer.consumed.update(order)
    return pullback(values, again, tracer)


def _lowered(
    order: Sequence[Value], is_input: Callable[[Value], bool], given: Sequence[Value]
) -> Lowering:
    lowering = Lowering(again=True)
    _inline_constants(lowering, order)
    lowering.add(order, lambda v: is_input(v) or v.op is None)
    for value in given:
        if value not in lowering.nodes:
            lowering.add([value], lambda v: v.op is None or v.op.name != "constant")
    return lowering


def _inline_constants(lowering: Lowering, order: Sequence[Value]) -> None:
    """Constants stay constants, so that gradient rules see them."""
    constants = [v for v in order if isinstance(v.op, Op) and v.op.name == "constant"]
    lowering.add(constants, lambda v: False)


def cotangent_of(value: Value, gradient: Any, what: str = "cotangent") -> Value:
    """`gradient` as a cotangent of `value`; 1 where it is None and there is one element.

    Raises
    ------
    GradientError, ShapeError
        Where one is needed, or misfits.
    """
    shape = value.type.shape
    if gradient is None:
        if value.type.size != 1:
            raise GradientError(
                f"backward of a tensor of shape {list(shape)} needs a cotangent",
                loc=user_location(), remedy="reduce it to one element: loss.mean().backward()",
            )  # fmt: skip
        if value.type.dtype.kind == "c":
            raise GradientError(
                f"backward of a tensor of {value.type.dtype} needs a cotangent",
                loc=user_location(), remedy="take its real part or modulus: z.abs().backward()",
            )  # fmt: skip
        return value_of(full_like(value, 1))
    tensor = as_tensor(gradient)
    if tensor.shape != shape:
        raise ShapeError(
            f"a {what} of shape {list(tensor.shape)} for a tensor of shape {list(shape)}",
            loc=user_location(), remedy="give one of the tensor's shape",
        )  # fmt: skip
    if tensor.dtype is not value.type.dtype:
        tensor = record("cast", tensor, dtype=value.type.dtype)
    return value_of(tensor)


def full_like(value: Value, number: int, shape: Shape | None = None) -> Tensor:
    """The number in the dtype of `value`, and in its shape unless there is another."""
    tracer = runtime_state.current().tracer
    shape = value.type.shape if shape is None else shape
    scalar = Tensor._of(constant_value(number, strong_type(value.type).dtype, False, tracer))
    return record("broadcast_to", scalar, shape=shape) if shape else scalar
