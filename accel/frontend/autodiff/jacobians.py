"""Jacobians and Hessians: all derivatives of a function, row by row or column by column.

A row is a pullback from one element of a result, a column a derivative along one element of an
argument. Outside of a trace each is computed before the next is recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import GradientError
from ...runtime import state as runtime_state
from ..tensors import trees
from ..tensors.evaluation import evaluate
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Value, strong_type, user_location
from .arguments import Argument, lower_flags, parted, positions_of
from .derivatives import full_like, gradients, tangents

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]


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
        positions = positions_of(argnums, len(args))
        with runtime_state.override(grad_enabled=True):
            chosen = {p: Argument(args[p], p) for p in positions}
            arguments = list(chosen.values())
            replaced = [chosen[p].replacement if p in chosen else a for p, a in enumerate(args)]
            value, aux = parted(fn(*replaced, **kwargs), has_aux)
            outputs, structure = trees.flatten(value)
            roots = [value_of(as_tensor(t)) for t in outputs]
            wrt = [a for argument in arguments for a in argument.aliases]
            columns = _fewer_columns(roots, wrt) if forward is None else forward
            blocks = (_columns if columns else _rows)(roots, wrt)
        kept = [value_of(t) for row in blocks for t in row]
        kept += [value_of(t) for t in trees.leaves(aux) if isinstance(t, Tensor)]
        lower_flags(kept, arguments)
        rows = [_by_argument(row, arguments, argnums) for row in blocks]
        found = trees.unflatten(structure, rows)
        return (found, aux) if has_aux else found

    return transformed


def _by_argument(
    row: Sequence[Tensor], arguments: Sequence[Argument], argnums: int | Sequence[int]
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
        pushed = [_settled(tangents(roots, [w], [unit])) for unit in _units(w)]
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
