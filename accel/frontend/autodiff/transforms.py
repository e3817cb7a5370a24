"""Transforms of functions: gradients, pullbacks, derivatives along a direction, Jacobians.

Each calls the function on aliases of its arguments, which tell them apart from the same values used
elsewhere, and derives the record by `derivatives`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, GradientError, NotAnArrayError
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.evaluation import evaluate
from ..tensors.module_state import Stateful, tensors_of
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Value, strong_type, topological, user_location
from .derivatives import cotangent_of, full_like, gradients
from .derivatives import tangents as tangents_of

__all__ = ["grad", "hessian", "jacfwd", "jacobian", "jacrev", "jvp", "stop_gradient",
           "value_and_grad", "vjp"]  # fmt: skip


def stop_gradient(x: Any) -> Tensor:
    """The same values, through which no gradient flows; `Tensor.detach` as a function."""
    return as_tensor(x).detach()


# -- arguments and results ---------------------------------------------------------------------
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
            found = _pull([root], [cotangent_of(root, None)], list(arguments.values()))
        kept = [root, *(value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor))]
        kept += [value_of(g) for tree in found for g in trees.leaves(tree)]
        _lower_flags(kept, list(arguments.values()))
        chosen = found[0] if isinstance(argnums, int) else tuple(found)
        return ((value, aux) if has_aux else value), chosen

    return transformed


def _split(result: Any, has_aux: bool) -> tuple[Tensor, Any]:
    value, aux = _parted(result, has_aux)
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
        arguments = [_Argument(p, i) for i, p in enumerate(primals)]
        value, aux = _parted(fn(*(a.replacement for a in arguments)), has_aux)
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
        arguments = [_Argument(p, i) for i, p in enumerate(primals)]
        directions = [d for a, t in zip(arguments, tangents, strict=True) for d in a.along(t)]
        value, aux = _parted(fn(*(a.replacement for a in arguments)), has_aux)
        outputs, structure = trees.flatten(value)
        roots = [value_of(as_tensor(t)) for t in outputs]
        pushed = _push(roots, arguments, directions)
    kept = [*roots, *map(value_of, pushed)]
    kept += [value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor)]
    _lower_flags(kept, arguments)
    derivative = trees.unflatten(structure, pushed)
    return (value, derivative, aux) if has_aux else (value, derivative)


def _push(
    roots: Sequence[Value], arguments: Sequence[_Argument], directions: Sequence[Value]
) -> list[Tensor]:
    """What `roots` move by; zeros where they do not."""
    wrt = [a for argument in arguments for a in argument.aliases]
    found = tangents_of(roots, wrt, directions)
    return [Tensor._of(t) if t is not None else full_like(r, 0)
            for t, r in zip(found, roots, strict=True)]  # fmt: skip


def _parted(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """A function's result, and what else it returns with `has_aux`."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(
            "with has_aux the function returns a pair: the value and anything else",
            loc=user_location(), remedy="return value, aux",
        )  # fmt: skip
    return result[0], result[1]


# -- Jacobians and Hessians -----------------------------------------------------------------------
def jacrev(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns the Jacobian of `fn`, row by row: a pullback for each result.

    See `jacobian`.

    Examples
    --------
    >>> jacrev(lambda x: x[:2] * x[1])(Tensor([2.0, 3.0, 4.0])).tolist()
    [[3.0, 2.0, 0.0], [0.0, 6.0, 0.0]]
    """
    return _jacobian(fn, argnums, has_aux, forward=False)


def jacfwd(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns the Jacobian of `fn`, column by column: a derivative for each
    element of the arguments.

    See `jacobian`.

    Examples
    --------
    >>> jacfwd(lambda x: x * x)(Tensor([2.0, 3.0])).tolist()
    [[4.0, 0.0], [0.0, 6.0]]
    """
    return _jacobian(fn, argnums, has_aux, forward=True)


def jacobian(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns the Jacobian of `fn`: every result's derivative by every operand.

    It is taken in the mode that has fewer steps: forward (`jacfwd`) where there are more results
    than elements of arguments, otherwise reverse (`jacrev`).

    Parameters
    ----------
    fn
        Returns a tree of arrays; with `has_aux`, a pair of that and anything else.
    argnums
        Positions of the arguments to differentiate by, which are trees of arrays.

    Returns
    -------
    callable
        Returns, for each array of the result's tree, a tree of the argument's structure (a tuple
        of those if `argnums` is one), whose arrays have the result's shape, then the argument's;
        with `has_aux`, a pair of that and what else `fn` returned.

    Raises
    ------
    GradientError
        Forward by complex arguments, and in reverse of complex results: their derivatives are no
        single matrix.

    Examples
    --------
    >>> jacobian(lambda x, y: x * y, argnums=(0, 1))(Tensor([2.0, 3.0]), Tensor(5.0))[1].tolist()
    [2.0, 3.0]
    """
    return _jacobian(fn, argnums, has_aux, forward=None)


def hessian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that returns the second derivatives of `fn`: `jacfwd` of `jacrev`.

    Examples
    --------
    >>> hessian(lambda x: x[0] ** 2 * x[1])(Tensor([2.0, 3.0])).tolist()
    [[6.0, 4.0], [4.0, 0.0]]
    """
    return jacfwd(jacrev(fn, argnums), argnums)


def _jacobian(
    fn: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, forward: bool | None
) -> Callable[..., Any]:
    @functools.wraps(fn)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        positions = _positions(argnums, len(args))
        with runtime_state.override(grad_enabled=True):
            chosen = {p: _Argument(args[p], p) for p in positions}
            arguments = list(chosen.values())
            replaced = [chosen[p].replacement if p in chosen else a for p, a in enumerate(args)]
            value, aux = _parted(fn(*replaced, **kwargs), has_aux)
            outputs, structure = trees.flatten(value)
            roots = [value_of(as_tensor(t)) for t in outputs]
            wrt = [a for argument in arguments for a in argument.aliases]
            columns = _fewer_columns(roots, wrt) if forward is None else forward
            blocks = (_columns if columns else _rows)(roots, wrt)
        kept = [value_of(t) for row in blocks for t in row]
        kept += [value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor)]
        _lower_flags(kept, arguments)
        rows = [_by_argument(row, arguments, argnums) for row in blocks]
        found = trees.unflatten(structure, rows)
        return (found, aux) if has_aux else found

    return transformed


def _by_argument(
    row: Sequence[Tensor], arguments: Sequence[_Argument], argnums: int | Sequence[int]
) -> Any:
    """The blocks of one result in the structures of the arguments."""
    given = iter(row)
    found = [trees.unflatten(a.structure, [next(given) for _ in a.aliases]) for a in arguments]
    return found[0] if isinstance(argnums, int) else tuple(found)


def _fewer_columns(roots: Sequence[Value], wrt: Sequence[Value]) -> bool:
    """Whether there are more results than operands (of complex ones there are no columns)."""
    results, operands = (sum(v.type.size for v in each) for each in (roots, wrt))
    return operands < results and all(w.type.dtype.kind == "f" for w in wrt)


def _units(value: Value) -> list[Value]:
    """For each element of `value`, the array of its type that is 1 there and else 0."""
    dtype = strong_type(value.type).dtype
    if dtype.kind != "f":
        raise GradientError(
            f"a Jacobian along each element of a tensor of {dtype}", loc=user_location(),
            remedy="take it of real and imaginary parts, or use accel.jvp and accel.vjp",
        )  # fmt: skip
    shape, size = value.type.shape, value.type.size
    return [value_of(as_tensor(u.reshape(shape))) for u in np.eye(size, dtype=dtype.numpy)]


def _rows(roots: Sequence[Value], wrt: Sequence[Value]) -> list[list[Tensor]]:
    """The blocks of a Jacobian, for each root by each of `wrt`, from pullbacks."""
    blocks = []
    for root in roots:
        pulled = [_settled(gradients([root], [unit], wrt, again=True)) for unit in _units(root)]
        blocks.append([_stacked([p[i] for p in pulled], root, w, 0) for i, w in enumerate(wrt)])
    return blocks


def _columns(roots: Sequence[Value], wrt: Sequence[Value]) -> list[list[Tensor]]:
    """The same from derivatives along each element."""
    columns = []
    for w in wrt:
        pushed = [_settled(tangents_of(roots, [w], [unit])) for unit in _units(w)]
        columns.append([_stacked([p[i] for p in pushed], r, w, -1) for i, r in enumerate(roots)])
    return [list(row) for row in zip(*columns, strict=True)]


def _settled(parts: list[Value | None]) -> list[Value | None]:
    """`parts`, computed unless a function is being traced: each step of a Jacobian is then one
    more run of what the first became, not a part of one large graph."""
    state = runtime_state.current()
    if state.tracer is None:
        evaluate([p for p in parts if p is not None], state)
    return parts


def _stacked(parts: Sequence[Value | None], root: Value, w: Value, axis: int) -> Tensor:
    """Derivatives by or of single elements, together, in the shape of a block."""
    shape = (*root.type.shape, *w.type.shape)
    of = w if axis == 0 else root
    listed = [Tensor._of(p) if p is not None else full_like(of, 0) for p in parts]
    if not listed:
        return full_like(of, 0, shape)
    return record("reshape", record("stack", *listed, axis=axis), shape=shape)
