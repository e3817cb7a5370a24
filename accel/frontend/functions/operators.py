"""Python's operators on Tensors: binary, reflected, in place, unary, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...errors import DTypeError, ShapeError
from ...ir.dtypes import DType
from ...runtime.state import overriding
from ..tensors.recipes import transitions_of
from ..tensors.recording import NUMBERS, record, recorded
from ..tensors.tensor import Tensor
from ..tensors.values import user_location

__all__ = ["assign_inplace", "operators"]

#: Operator names of Python and the ops behind them.
ARITHMETIC = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
COMPARISONS = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
UNARY = {"neg": "neg", "abs": "abs", "invert": "bitwise_invert"}

_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_OPERANDS = (Tensor, np.ndarray, np.generic, bool, int, float, complex)
_BUILTIN = (str, bytes, list, tuple, dict, set, frozenset, type(None))


def _foreign(other: Any) -> bool:
    """Whether `other`'s own reflected operator should have its say."""
    return not isinstance(other, _OPERANDS + _BUILTIN)


#
# An application that was met before takes a short cut: the tables of `recipes` know its result.
# All else, and whatever is unusual about the operands or the moment, goes through `record`.


def _binary(op: str) -> Callable[[Any, Any], Any]:
    table = transitions_of(op)

    def forward(self: Tensor, other: Any) -> Any:
        state = overriding()
        if state is None or state.tracer is None:
            kind = type(other)
            try:
                if kind is Tensor:
                    x, y = self._value, other._value
                    found = table[x.recipe, y.recipe]
                    if found.usual:
                        return recorded(found, (x, y))
                elif kind in NUMBERS:
                    x = self._value
                    found = table[x.recipe, kind, other or repr(other)]
                    if found.usual:
                        return recorded(found, (x,))
            except KeyError:
                pass  # an application, or a Value, not met before
        return NotImplemented if _foreign(other) else record(op, self, other)

    return forward


def _reflected(op: str) -> Callable[[Any, Any], Any]:
    table = transitions_of(op)

    def backward(self: Tensor, other: Any) -> Any:
        state = overriding()
        kind = type(other)
        if kind in NUMBERS and (state is None or state.tracer is None):
            x = self._value
            try:
                found = table[kind, other or repr(other), x.recipe]
                if found.usual:
                    return recorded(found, (x,))
            except KeyError:
                pass
        return NotImplemented if _foreign(other) else record(op, other, self)

    return backward


def _inplace(op: str) -> Callable[[Any, Any], Any]:
    def change(self: Tensor, other: Any) -> Any:
        if _foreign(other):
            return NotImplemented
        return assign_inplace(self, record(op, self, other), op)

    return change


def _comparison(op: str) -> Callable[[Any, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        # Python then compares identities: x == None is False, as for other objects
        return record(op, self, other) if isinstance(other, _OPERANDS) else NotImplemented

    return compare


def _unary(op: str) -> Callable[[Any], Tensor]:
    table = transitions_of(op)

    def apply(self: Tensor) -> Tensor:
        state = overriding()
        if state is None or state.tracer is None:
            x = self._value
            try:
                found = table[x.recipe,]
                if found.usual:
                    return recorded(found, (x,))
            except KeyError:
                pass
        return record(op, self)

    return apply


def assign_inplace(target: Tensor, result: Tensor, op: str) -> Tensor:
    """Rebind `target` to the `result` of `op`, cast to its dtype where the kind allows.

    Raises
    ------
    ShapeError, DTypeError
        Where the result does not fit: broadcasting never changes the target, and a float
        does not go into an integer.
    """
    if result.shape != target.shape:
        raise ShapeError(
            f"{op}: a result of shape {list(result.shape)} does not fit the tensor of shape "
            f"{list(target.shape)} that is changed in place",
            loc=user_location(), remedy="make a new tensor: x = x + y",
        )  # fmt: skip
    if result.dtype is not target.dtype:
        check_inplace_dtype(target.dtype, result.dtype, op)
        result = record("cast", result, dtype=target.dtype)
    return target._assign(result)


def check_inplace_dtype(target: DType, result: DType, op: str) -> None:
    """Raise DTypeError where a result of one kind would be squeezed into a lower one."""
    if _RANK[result.kind] > _RANK[target.kind]:
        raise DTypeError(
            f"{op}: a result of {result} cannot be stored in a tensor of {target}",
            loc=user_location(), remedy=f"make a new tensor, or use .astype('{target}')",
        )  # fmt: skip


def copy_(self: Tensor, source: Any) -> Tensor:
    """Take over the values of `source`, broadcast and cast to this tensor's shape and dtype."""
    from ..tensors.recording import as_tensor

    value = as_tensor(source)
    if value.shape != self.shape:
        value = record("broadcast_to", value, shape=self.shape)
    if value.dtype is not self.dtype or value is source:
        value = record("cast", value, dtype=self.dtype) if value.dtype is not self.dtype else value
    return self._assign(value)


def _attach() -> None:
    for name, op in ARITHMETIC.items():
        for prefix, make in (("", _binary), ("r", _reflected), ("i", _inplace)):
            method = make(op)
            method.__name__ = f"__{prefix}{name}__"
            method.__qualname__ = f"Tensor.{method.__name__}"
            setattr(Tensor, method.__name__, method)
    for table, make_one in ((COMPARISONS, _comparison), (UNARY, _unary)):
        for name, op in table.items():
            single = make_one(op)
            single.__name__ = f"__{name}__"
            single.__qualname__ = f"Tensor.__{name}__"
            setattr(Tensor, single.__name__, single)
    Tensor.__pos__ = lambda self: self  # type: ignore[attr-defined, operator]
    Tensor.copy_ = copy_  # type: ignore[attr-defined]
    Tensor.T = property(lambda self: record("permute", self, axes=None),  # type: ignore[attr-defined]
                        doc="The axes reversed.")
    Tensor.mT = property(_matrix_transpose, doc="The last two axes swapped.")  # type: ignore[attr-defined]


#: Where CPython keeps operators whose slots are not named as the methods are.
_SLOTS = {
    "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "matmul": "matrix_multiply", "neg": "negative",
    "abs": "absolute",
}  # fmt: skip


def operators() -> Iterator[tuple[str, str, Callable[..., Any], Callable[..., Any]]]:
    """Slots of Tensor's operators, their ops, and the methods: forward, and reflected."""
    for name, op in ARITHMETIC.items():
        methods = getattr(Tensor, f"__{name}__"), getattr(Tensor, f"__r{name}__")
        yield _SLOTS.get(name, name), op, *methods
    for name, op in UNARY.items():
        method = getattr(Tensor, f"__{name}__")
        yield _SLOTS.get(name, name), op, method, method


def _matrix_transpose(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise ShapeError(
            f"mT of a tensor of shape {list(self.shape)}", loc=user_location(),
            remedy="it needs at least two dimensions",
        )  # fmt: skip
    axes = (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)
    return record("permute", self, axes=axes)


_attach()
