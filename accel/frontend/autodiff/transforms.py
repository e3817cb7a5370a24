"""Transforms of functions: gradients, pullbacks, derivatives along a direction.

Each calls the function on aliases of its arguments, and derives the record by `derivatives`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import ArgumentError, GradientError
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.recording import as_tensor
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Value, user_location
from .arguments import Argument, lower_flags, parted, positions_of
from .derivatives import cotangent_of, full_like, gradients
from .derivatives import tangents as tangents_of

__all__ = ["grad", "jvp", "stop_gradient", "value_and_grad", "vjp"]


def stop_gradient(x: Any) -> Tensor:
    """The same values, through which no gradient flows; `Tensor.detach` as a function."""
    return as_tensor(x).detach()


# -- reverse mode ------------------------------------------------------------------------------
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
        positions = positions_of(argnums, len(args))
        with runtime_state.override(grad_enabled=True):
            arguments = {p: Argument(args[p], p) for p in positions}
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
            found = _pull([root], [cotangent_of(root, None)], list(arguments.values()))
        kept = [root, *(value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor))]
        kept += [value_of(g) for tree in found for g in trees.leaves(tree)]
        lower_flags(kept, list(arguments.values()))
        chosen = found[0] if isinstance(argnums, int) else tuple(found)
        return ((value, aux) if has_aux else value), chosen

    return transformed


def _split(result: Any, has_aux: bool) -> tuple[Tensor, Any]:
    value, aux = parted(result, has_aux)
    if not isinstance(value, Tensor) or not value.dtype.is_floating:
        shown = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise GradientError(
            f"the gradient of a result that is {shown}", loc=user_location(),
            remedy="return a real floating-point tensor of one element, of complex numbers their "
            "real part or modulus (has_aux=True if also more)",
        )  # fmt: skip
    return value, aux


def _pull(
    roots: Sequence[Value], cotangents: Sequence[Value], arguments: Sequence[Argument]
) -> list[Any]:
    """Gradients in the structure of each argument; zeros where no path leads."""
    wrt = [a for argument in arguments for a in argument.aliases]
    found = gradients(roots, cotangents, wrt, again=True)
    tensors = [Tensor._of(g) if g is not None else full_like(w, 0)
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


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of ``fn(*primals)`` and the function that pulls cotangents back.

    Parameters
    ----------
    fn
        Returns a tree of arrays; with `has_aux`, a pair of that and anything else.
    primals
        Trees of floating or complex arrays.

    Returns
    -------
    value, pullback
        `pullback` takes a cotangent of the value's structure and returns one gradient a primal.
        With `has_aux`, what else `fn` returned comes third.

    Examples
    --------
    >>> value, pullback = vjp(lambda x, y: x * y, Tensor([2.0, 3.0]), Tensor([5.0, 7.0]))
    >>> [g.tolist() for g in pullback(Tensor([1.0, 10.0]))]
    [[5.0, 70.0], [2.0, 30.0]]
    """
    with runtime_state.override(grad_enabled=True):
        arguments = [Argument(p, i) for i, p in enumerate(primals)]
        value, aux = parted(fn(*(a.replacement for a in arguments)), has_aux)
    outputs, structure = trees.flatten(value)
    roots = [value_of(as_tensor(t)) for t in outputs]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given, given_structure = trees.flatten(cotangent)
        if given_structure != structure:
            raise GradientError(
                "the cotangent's structure is not that of the value", loc=user_location(),
                remedy="give one tensor for each of the function's results, in the same tree",
            )  # fmt: skip
        with runtime_state.override(grad_enabled=True):
            cotangents = [cotangent_of(r, c) for r, c in zip(roots, given, strict=True)]
            return tuple(_pull(roots, cotangents, arguments))

    return (value, pullback, aux) if has_aux else (value, pullback)


# -- forward mode ------------------------------------------------------------------------------
def jvp(
    fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of ``fn(*primals)`` and its derivative in the direction of `tangents`.

    Both are computed together, with no intermediate kept for later: forward mode. With
    ``jvp(grad(f), [x], [v])`` a Hessian is multiplied by a vector.

    Parameters
    ----------
    fn
        Returns a tree of arrays; with `has_aux`, a pair of that and anything else.
    primals, tangents
        Trees of floating or complex arrays, and as many of the same structure and shapes.

    Returns
    -------
    value, derivative
        Of one structure. With `has_aux`, what else `fn` returned comes third.

    Raises
    ------
    GradientError, ShapeError
        Where tangents do not fit the primals, or one of these is no floating or complex array.

    Examples
    --------
    >>> value, slope = jvp(lambda x: x * x, [Tensor([3.0])], [Tensor([1.0])])
    >>> value.tolist(), slope.tolist()
    ([9.0], [6.0])
    """
    if not all(isinstance(given, (list, tuple)) for given in (primals, tangents)):
        raise ArgumentError("jvp takes lists of primals and of tangents", loc=user_location(),
                            remedy="write accel.jvp(fn, [x], [t])")  # fmt: skip
    if len(primals) != len(tangents):
        raise GradientError(f"{len(tangents)} tangents for {len(primals)} primals",
                            loc=user_location(), remedy="give one for each")  # fmt: skip
    with runtime_state.override(grad_enabled=True):
        arguments = [Argument(p, i) for i, p in enumerate(primals)]
        directions = [d for a, t in zip(arguments, tangents, strict=True) for d in a.along(t)]
        value, aux = parted(fn(*(a.replacement for a in arguments)), has_aux)
        outputs, structure = trees.flatten(value)
        roots = [value_of(as_tensor(t)) for t in outputs]
        pushed = _push(roots, arguments, directions)
    kept = [*roots, *map(value_of, pushed)]
    kept += [value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor)]
    lower_flags(kept, arguments)
    derivative = trees.unflatten(structure, pushed)
    return (value, derivative, aux) if has_aux else (value, derivative)


def _push(
    roots: Sequence[Value], arguments: Sequence[Argument], directions: Sequence[Value]
) -> list[Tensor]:
    """What `roots` move by; zeros where they do not."""
    wrt = [a for argument in arguments for a in argument.aliases]
    found = tangents_of(roots, wrt, directions)
    return [Tensor._of(t) if t is not None else full_like(r, 0)
            for t, r in zip(found, roots, strict=True)]  # fmt: skip
