"""`Parameter`: a tensor that belongs to a module and is trained."""

from __future__ import annotations

from typing import Any

from ..frontend.tensors.tensor import Tensor

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A tensor that a Module lists among its parameters when it is one of its attributes.

    Parameters
    ----------
    data
        An array, a number, nested lists of numbers or a Tensor, floating point or complex.
    requires_grad
        Whether `backward` collects its gradient.

    Examples
    --------
    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data)
        if requires_grad:
            self.requires_grad_()
