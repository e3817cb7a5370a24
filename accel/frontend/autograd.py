"""Gradients: of recorded Values by the differentiation pass, and the public transforms.

The part of the record that a gradient needs is lowered into one Builder, differentiated by
`passes.differentiate`, and the new nodes come back as recorded Values. So gradients are as lazy
as everything else, can be differentiated again, and join the graph of a compiled function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..errors import ArgumentError, GradientError, NotAnArrayError, ShapeError
from ..ir.node import Node
from ..ir.op import Op
from ..passes.differentiate import differentiate
from ..runtime import state as runtime_state
from . import trees
from .entering import unheard
from .module_state import Stateful, tensors_of
from .pullbacks import PULLBACKS, Pullback, describe_pullback
from .recording import as_tensor, constant_value, record
from .tensor import Tensor, value_of
from .values import Lowering, Value, strong_type, topological, user_location

__all__ = ["backward", "enable_grad", "grad", "jvp", "no_grad", "stop_gradient", "value_and_grad",
           "vjp"]  # fmt: skip


# -- on Values ------------------------------------------------------------------------------
def gradients(
    roots: Sequence[Value], cotangents: Sequence[Value], wrt: Sequence[Value], again: bool
) -> list[Value | None]:
    """Cotangents of `wrt`, recorded; None where no path leads. `again`: differentiable ones."""
    targets = set(wrt)
    needed = [r for r in roots if r.requires_grad]

    def is_input(value: Value) -> bool:
        return value in targets or not value.requires_grad or value.owner is not None

    order = topological(needed, is_input)
    pairs = [(r, c) for r, c in zip(roots, cotangents, strict=True) if r.requires_grad]
    reached, arriving = [r for r, _ in pairs], [c for _, c in pairs]
    key, values = describe_pullback(order, is_input, reached, arriving, wrt)
    tracer = runtime_state.current().tracer
    pullback = PULLBACKS.get(key)
    if pullback is None:
        made = unheard(_differentiate, order, is_input, reached, arriving, wrt)
        pullback = Pullback(*made, values)
        PULLBACKS.put(key, pullback)
    if tracer is not None:
        tracer.consumed.update(order)
    return unheard(pullback, values, again, tracer)


def _differentiate(
    order: Sequence[Value], is_input: Callable[[Value], bool], roots: Sequence[Value],
    cotangents: Sequence[Value], wrt: Sequence[Value],
) -> tuple[Sequence[Node | None], Lowering]:  # fmt: skip
    """The nodes of the cotangents of `wrt`, and the Builder that holds them."""
    lowering = Lowering(again=True)
    _inline_constants(lowering, order)
    lowering.add(order, lambda v: is_input(v) or v.op is None)
    for value in cotangents:
        if value not in lowering.nodes:
            lowering.add([value], lambda v: v.op is None or v.op.name != "constant")
    nodes = lowering.nodes
    found = differentiate(
        lowering.builder, [nodes[r] for r in roots], [nodes[c] for c in cotangents],
        [nodes[w] if w in nodes else lowering.input(w) for w in wrt],
    )  # fmt: skip
    return found, lowering


def _inline_constants(lowering: Lowering, order: Sequence[Value]) -> None:
    """Constants stay constants, so that gradient rules see them."""
    constants = [v for v in order if isinstance(v.op, Op) and v.op.name == "constant"]
    lowering.add(constants, lambda v: False)


def backward(root: Tensor, gradient: Any = None, retain_graph: bool = False) -> None:
    """Add the gradients of this tensor to `grad` of the leaves it was computed from.

    Parameters
    ----------
    gradient
        The cotangent, of this tensor's shape; 1 for a tensor of one element.
    retain_graph
        Accepted for torch's sake: a graph can always be differentiated again.

    Raises
    ------
    GradientError
        Where no leaf requires a gradient, or the cotangent is missing or misfits.
    """
    value = value_of(root)
    if not value.requires_grad:
        raise GradientError(
            f"backward of a tensor ({value.type}) that no leaf with requires_grad led to",
            loc=user_location(), remedy="set requires_grad_() on the inputs before computing",
        )  # fmt: skip
    cotangent = _cotangent(value, gradient)
    order = topological([value], lambda v: not v.requires_grad)
    owners = [v for v in order if v.owner is not None and v.requires_grad]
    found = gradients([value], [cotangent], owners, again=False)
    for leaf, part in zip(owners, found, strict=True):
        tensor = leaf.owner() if leaf.owner is not None else None
        if tensor is None or part is None:
            continue
        with no_grad():
            new = Tensor._of(part)
            tensor.grad = new if tensor.grad is None else record("add", tensor.grad, new)


def _cotangent(value: Value, gradient: Any) -> Value:
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
        return value_of(_full_like(value, 1))
    tensor = as_tensor(gradient)
    if tensor.shape != shape:
        raise ShapeError(
            f"a cotangent of shape {list(tensor.shape)} for a tensor of shape {list(shape)}",
            loc=user_location(), remedy="give one of the tensor's shape",
        )  # fmt: skip
    if tensor.dtype is not value.type.dtype:
        tensor = record("cast", tensor, dtype=value.type.dtype)
    return value_of(tensor)


def _full_like(value: Value, number: int) -> Tensor:
    tracer = runtime_state.current().tracer
    scalar = Tensor._of(constant_value(number, strong_type(value.type).dtype, False, tracer))
    return record("broadcast_to", scalar, shape=value.type.shape) if value.type.shape else scalar


# -- whether operations are recorded for differentiation --------------------------------------
class _GradMode:
    """A context manager, and a decorator, under which gradients are recorded or not."""

    _enabled: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        made._open = []
        return made if function is None else made(function)

    _open: list[AbstractContextManager[Any]]

    def __enter__(self) -> None:
        block = runtime_state.override(grad_enabled=self._enabled)
        block.__enter__()
        self._open.append(block)

    def __exit__(self, *failure: Any) -> None:
        self._open.pop().__exit__(*failure)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with runtime_state.override(grad_enabled=self._enabled):
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Nothing computed in this block, or in the decorated function, carries gradients.

    Examples
    --------
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    _enabled = False


class enable_grad(_GradMode):
    """Gradients are recorded again inside a `no_grad` block."""

    _enabled = True


def stop_gradient(x: Any) -> Tensor:
    """The same values, through which no gradient flows; `Tensor.detach` as a function."""
    return as_tensor(x).detach()


# -- transforms -------------------------------------------------------------------------------
class _Argument:
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


def _positions(argnums: int | Sequence[int], count: int) -> list[int]:
    listed = [argnums] if isinstance(argnums, int) else list(argnums)
    for position in listed:
        if not -count <= position < count:
            raise ArgumentError(
                f"argnums names argument {position} of {count}", loc=user_location(),
                remedy="differentiated arguments are passed by position",
            )  # fmt: skip
    return [p % count for p in listed]


def _lower_flags(roots: Sequence[Value], arguments: Sequence[_Argument]) -> None:
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


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns ``fn(...)`` and its gradients.

    Parameters
    ----------
    fn
        Returns a tensor of one element; with `has_aux`, that and anything else.
    argnums
        Positions of the arguments to differentiate by. An argument may be a tree of arrays;
        of a Module, its parameters that require gradients are meant, by name.
    has_aux
        Whether `fn` returns a pair.

    Returns
    -------
    callable
        Returns ``(value, gradients)`` or ``((value, aux), gradients)``; gradients have the
        argument's structure, in a tuple if `argnums` is one. Independent arguments give zeros.

    Examples
    --------
    >>> value, slope = value_and_grad(lambda x: x * x)(3.0)
    >>> value.item(), slope.item()
    (9.0, 6.0)
    """

    @functools.wraps(fn)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        positions = _positions(argnums, len(args))
        with runtime_state.override(grad_enabled=True):
            arguments = {p: _Argument(args[p], p) for p in positions}
            replaced = [arguments[p].replacement if p in arguments else a
                        for p, a in enumerate(args)]  # fmt: skip
            result = fn(*replaced, **kwargs)
            value, aux = _split(result, has_aux)
            if value.size != 1:
                raise GradientError(
                    f"the gradient of a result of shape {list(value.shape)}",
                    loc=user_location(), remedy="reduce it to one element, or use accel.vjp",
                )  # fmt: skip
            root = value_of(value)
            found = _pull([root], [_cotangent(root, None)], list(arguments.values()))
        kept = [root, *(value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor))]
        kept += [value_of(g) for tree in found for g in trees.leaves(tree)]
        _lower_flags(kept, list(arguments.values()))
        chosen = found[0] if isinstance(argnums, int) else tuple(found)
        return ((value, aux) if has_aux else value), chosen

    return transformed


def _split(result: Any, has_aux: bool) -> tuple[Tensor, Any]:
    if has_aux:
        if not isinstance(result, tuple) or len(result) != 2:
            raise GradientError(
                "with has_aux the function returns a pair: the value and anything else",
                loc=user_location(),
            )
        value, aux = result
    else:
        value, aux = result, None
    if not isinstance(value, Tensor) or not value.dtype.is_floating:
        shown = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise GradientError(
            f"the gradient of a result that is {shown}", loc=user_location(),
            remedy="return a real floating-point tensor of one element, of complex numbers their "
            "real part or modulus (has_aux=True if also more)",
        )  # fmt: skip
    return value, aux


def _pull(
    roots: Sequence[Value], cotangents: Sequence[Value], arguments: Sequence[_Argument]
) -> list[Any]:
    """Gradients in the structure of each argument; zeros where no path leads."""
    wrt = [a for argument in arguments for a in argument.aliases]
    found = gradients(roots, cotangents, wrt, again=True)
    tensors = [Tensor._of(g) if g is not None else _full_like(w, 0)
               for g, w in zip(found, wrt, strict=True)]  # fmt: skip
    result, start = [], 0
    for argument in arguments:
        stop = start + len(argument.aliases)
        result.append(trees.unflatten(argument.structure, tensors[start:stop]))
        start = stop
    return result


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns the gradients of ``fn``; see `value_and_grad`.

    Examples
    --------
    >>> grad(lambda x: (x ** 3).sum())(Tensor([1.0, 2.0])).tolist()
    [3.0, 12.0]
    >>> grad(grad(lambda x: x ** 3))(2.0).item()
    12.0
    """
    both = value_and_grad(fn, argnums, has_aux)

    @functools.wraps(fn)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return transformed


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of ``fn(*primals)`` and the function that pulls cotangents back.

    Returns
    -------
    value, pullback
        `pullback` takes a cotangent of the value's structure and returns one gradient a primal.

    Examples
    --------
    >>> value, pullback = vjp(lambda x, y: x * y, Tensor([2.0, 3.0]), Tensor([5.0, 7.0]))
    >>> [g.tolist() for g in pullback(Tensor([1.0, 10.0]))]
    [[5.0, 70.0], [2.0, 30.0]]
    """
    with runtime_state.override(grad_enabled=True):
        arguments = [_Argument(p, i) for i, p in enumerate(primals)]
        result = fn(*(a.replacement for a in arguments))
    outputs, structure = trees.flatten(result)
    roots = [value_of(as_tensor(t)) for t in outputs]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given, given_structure = trees.flatten(cotangent)
        if given_structure != structure:
            raise GradientError("the cotangent's structure is not that of the value",
                                loc=user_location())  # fmt: skip
        with runtime_state.override(grad_enabled=True):
            cotangents = [_cotangent(r, c) for r, c in zip(roots, given, strict=True)]
            return tuple(_pull(roots, cotangents, arguments))

    return result, pullback


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of ``fn(*primals)`` and its derivative in the direction of `tangents`.

    The derivative is that of the pullback, which is linear in its cotangent.

    Examples
    --------
    >>> value, slope = jvp(lambda x: x * x, [Tensor([3.0])], [Tensor([1.0])])
    >>> value.tolist(), slope.tolist()
    ([9.0], [6.0])
    """
    value, pullback = vjp(fn, *primals)
    outputs, structure = trees.flatten(value)
    zeros = [_full_like(value_of(as_tensor(t)), 0) for t in outputs]

    def pulled(*cotangents: Any) -> Any:
        return pullback(trees.unflatten(structure, list(cotangents)))

    _, forward = vjp(pulled, *zeros)
    pushed = forward(tuple(tangents))
    return value, trees.unflatten(structure, list(pushed))


Tensor.backward = backward  # type: ignore[attr-defined]
