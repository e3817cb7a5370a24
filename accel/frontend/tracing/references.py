"""Where the inputs of a compiled function come from, call by call.

A reference finds the present value of something that the traced function read: an argument, a
Tensor or array from outside, an attribute, a gradient, a hyperparameter. `value` gives a Value
or a NumPy array, or None when what it finds no longer has the type that was traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir import dtypes
from ...ir.types import TensorType
from ..tensors.tensor import Tensor
from ..tensors.values import Value

__all__ = ["ArrayArgument", "ArrayReference", "AttributeReference", "FloatArgument",
           "GradientReference", "HyperparameterReference", "Reference", "TensorArgument",
           "TensorReference", "ValueReference", "array_type"]  # fmt: skip


def array_type(array: np.ndarray) -> TensorType:
    """The type of an array, as an input."""
    return TensorType(dtypes.to_dtype(array.dtype), array.shape)


def as_buffer(array: np.ndarray) -> np.ndarray:
    """`array` in native byte order and aligned; itself if it is so."""
    if array.dtype.isnative and array.flags.aligned:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="))


class Reference:
    """Base of references; see the module's documentation."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type_: TensorType) -> None:
        self.name = name
        self.type = type_

    def value(self, leaves: Sequence[Any]) -> Any:
        """The present Value or array for a call with these argument leaves; None if stale."""
        raise TypeError(f"{type(self).__name__} has no value")

    def tensor(self, leaves: Sequence[Any]) -> Tensor | None:
        """The Tensor that is written back to; None where there is none."""
        return None


class _Argument(Reference):
    __slots__ = ("index",)

    def __init__(self, name: str, type_: TensorType, index: int) -> None:
        super().__init__(name, type_)
        self.index = index


class ArrayArgument(_Argument):
    """An argument that is a NumPy array or scalar; never written back."""

    __slots__ = ()

    def value(self, leaves: Sequence[Any]) -> Any:
        leaf = leaves[self.index]
        return as_buffer(leaf if type(leaf) is np.ndarray else np.asarray(leaf))


class FloatArgument(_Argument):
    """An argument that is a Python float: a weak scalar."""

    __slots__ = ()

    def value(self, leaves: Sequence[Any]) -> Any:
        return np.array(leaves[self.index])


class TensorArgument(_Argument):
    """An argument that is a Tensor. The signature has checked its type."""

    __slots__ = ()

    def value(self, leaves: Sequence[Any]) -> Any:
        return leaves[self.index]._value

    def tensor(self, leaves: Sequence[Any]) -> Tensor | None:
        return leaves[self.index]


class TensorReference(Reference):
    """A Tensor from outside, by identity."""

    __slots__ = ("requires_grad", "target")

    def __init__(self, name: str, target: Tensor) -> None:
        super().__init__(name, target._value.type)
        self.target = target
        self.requires_grad = target._value.requires_grad

    def value(self, leaves: Sequence[Any]) -> Any:
        value = self.target._value
        same = value.type is self.type or value.type == self.type
        return value if same and value.requires_grad == self.requires_grad else None

    def tensor(self, leaves: Sequence[Any]) -> Tensor | None:
        return self.target


class AttributeReference(Reference):
    """A Tensor attribute that the function itself replaces on every call."""

    __slots__ = ("attribute", "owner", "requires_grad")

    def __init__(self, name: str, owner: Any, attribute: str, value: Value) -> None:
        super().__init__(name, value.type)
        self.owner = owner
        self.attribute = attribute
        self.requires_grad = value.requires_grad

    def value(self, leaves: Sequence[Any]) -> Any:
        found = self.tensor(leaves)
        if found is None or found._value.type != self.type:
            return None
        return found._value if found._value.requires_grad == self.requires_grad else None

    def tensor(self, leaves: Sequence[Any]) -> Tensor | None:
        found = vars(self.owner).get(self.attribute)
        return found if isinstance(found, Tensor) else None


class GradientReference(Reference):
    """The gradient attached to a Tensor."""

    __slots__ = ("of",)

    def __init__(self, name: str, type_: TensorType, of: Reference) -> None:
        super().__init__(name, type_)
        self.of = of

    def value(self, leaves: Sequence[Any]) -> Any:
        found = self.tensor(leaves)
        return None if found is None or found._value.type != self.type else found._value

    def tensor(self, leaves: Sequence[Any]) -> Tensor | None:
        owner = self.of.tensor(leaves)
        return None if owner is None else owner._grad


class ArrayReference(Reference):
    """A NumPy array from outside, by identity: its present contents are read."""

    __slots__ = ("array",)

    def __init__(self, name: str, array: np.ndarray) -> None:
        super().__init__(name, array_type(array))
        self.array = array

    def value(self, leaves: Sequence[Any]) -> Any:
        return as_buffer(self.array) if self.array.shape == self.type.shape else None


class ValueReference(Reference):
    """Data made inside the function while it was traced: a constant."""

    __slots__ = ("constant",)

    def __init__(self, name: str, constant: Value) -> None:
        super().__init__(name, constant.type)
        self.constant = Value(constant.type, data=constant.data)

    def value(self, leaves: Sequence[Any]) -> Any:
        return self.constant


class HyperparameterReference(Reference):
    """A float that is fetched from its owner on every call; `place` picks one of a tuple."""

    __slots__ = ("attribute", "owner", "place")

    def __init__(self, name: str, owner: Any, attribute: str, place: int | None) -> None:
        super().__init__(name, TensorType(dtypes.float64, weak=True))
        self.owner = owner
        self.attribute = attribute
        self.place = place

    def value(self, leaves: Sequence[Any]) -> Any:
        owner = self.owner
        found = owner[self.attribute] if isinstance(owner, dict) else getattr(owner, self.attribute)
        if self.place is not None:
            if not isinstance(found, (tuple, list)) or len(found) <= self.place:
                return None
            found = found[self.place]
        return np.array(found) if type(found) is float else None
