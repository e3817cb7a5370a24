"""Gradients of tensors, as torch has them: `backward`, and `accel.autograd.grad`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import GradientError, NotAnArrayError
from ..tensors.entering import unheard
from ..tensors.recording import record
from ..tensors.tensor import Tensor, value_of
from ..tensors.values import Value, topological, user_location
from .derivatives import cotangent_of, full_like, gradients
from .grad_modes import enable_grad, no_grad

__all__ = ["grad"]


def backward(
    root: Tensor, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:  # fmt: skip
    """Add the gradients of this tensor to `grad` of the leaves it was computed from.

    Parameters
    ----------
    gradient
        The cotangent, of this tensor's shape; 1 for a tensor of one element.
    retain_graph
        Accepted for torch's sake: a graph can always be differentiated again.
    create_graph
        Whether the gradients can be differentiated.
    inputs
        The leaves to collect gradients in; all by default.

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
    unheard(_collect, value, gradient, create_graph, inputs)


def _collect(
    value: Value, gradient: Any, create_graph: bool, inputs: Tensor | Sequence[Tensor] | None
) -> None:
    """Add the gradients of a value to `grad` of the leaves it was computed from."""
    cotangent = cotangent_of(value, gradient)
    order = topological([value], lambda v: not v.requires_grad)
    owners = [v for v in order if v.owner is not None and v.requires_grad]
    if inputs is not None:
        owners = _leaves(inputs, owners)
    found = gradients([value], [cotangent], owners, again=create_graph)
    for leaf, part in zip(owners, found, strict=True):
        tensor = leaf.owner() if leaf.owner is not None else None
        if tensor is None or part is None:
            continue
        new = Tensor._of(part)
        with enable_grad() if create_graph else no_grad():
            tensor.grad = new if tensor.grad is None else record("add", tensor.grad, new)


def _leaves(inputs: Tensor | Sequence[Tensor], owners: Sequence[Value]) -> list[Value]:
    """Those of `owners` that belong to `inputs`, which are leaves."""
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not all(isinstance(t, Tensor) and t.requires_grad and t.is_leaf for t in listed):
        raise GradientError(
            "backward(inputs=...) names what is no leaf that requires a gradient",
            loc=user_location(), remedy="use accel.autograd.grad(outputs, inputs)",
        )  # fmt: skip
    wanted = set(map(id, listed))
    return [v for v in owners if v.owner is not None and id(v.owner()) in wanted]


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    allow_unused: bool | None = None, materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of the sum of `outputs` with respect to `inputs`, collected nowhere.

    Parameters
    ----------
    outputs
        Tensors that were computed from `inputs`.
    inputs
        Leaves that require gradients, and tensors computed from such.
    grad_outputs
        The cotangents, one for each output; None for an output of one element.
    retain_graph
        Accepted for torch's sake: a graph can always be differentiated again.
    create_graph
        Whether the gradients can be differentiated.
    allow_unused
        Whether None is returned for inputs that the outputs do not depend on.
    materialize_grads
        Zeros in place of None.

    Returns
    -------
    tuple of Tensor or None
        One for each input.

    Raises
    ------
    GradientError
        Where an input, or every output, has no gradient; where cotangents misfit; for unused
        inputs, unless these are allowed.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (slope,) = grad((x**3).sum(), x, create_graph=True)
    >>> slope.tolist(), grad(slope.sum(), x)[0].tolist()
    ([3.0, 12.0], [6.0, 12.0])
    """
    roots, wrt = _values(outputs), _values(inputs)
    for place, value in enumerate(wrt):
        if not value.requires_grad:
            raise GradientError(
                f"input {place} ({value.type}) requires no gradient", loc=user_location(),
                remedy="set requires_grad_() before computing the outputs",
            )  # fmt: skip
    if not any(r.requires_grad for r in roots):
        raise GradientError(
            "no leaf with requires_grad led to the outputs", loc=user_location(),
            remedy="set requires_grad_() on the inputs before computing",
        )  # fmt: skip
    cotangents = _cotangents(roots, grad_outputs)
    found = gradients(roots, cotangents, wrt, again=create_graph, through=True)
    if None in found and not (allow_unused or materialize_grads):
        raise GradientError(
            f"the outputs do not depend on input {found.index(None)}", loc=user_location(),
            remedy="leave it out, or pass allow_unused=True to get None for it",
        )  # fmt: skip
    return tuple(
        Tensor._of(g) if g is not None else full_like(w, 0) if materialize_grads else None
        for g, w in zip(found, wrt, strict=True)
    )


def _values(tensors: Any) -> list[Value]:
    listed = list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
    for tensor in listed:
        if not isinstance(tensor, Tensor):
            raise NotAnArrayError(
                f"autograd.grad of {type(tensor).__name__}", loc=user_location(),
                remedy="pass tensors; accel.grad(fn) transforms functions",
            )  # fmt: skip
    return [value_of(t) for t in listed]


def _cotangents(roots: Sequence[Value], given: Any) -> list[Value]:
    """One for each root that requires a gradient; ones for those without."""
    listed = [given] * len(roots) if given is None else given
    if isinstance(listed, Tensor) or not isinstance(listed, (list, tuple)):
        listed = [listed]
    if len(listed) != len(roots):
        raise GradientError(
            f"{len(listed)} grad_outputs for {len(roots)} outputs", loc=user_location(),
            remedy="give one for each, or None",
        )  # fmt: skip
    return [
        cotangent_of(r, g) if r.requires_grad else value_of(full_like(r, 0))
        for r, g in zip(roots, listed, strict=True)
    ]


Tensor.backward = backward  # type: ignore[attr-defined]
