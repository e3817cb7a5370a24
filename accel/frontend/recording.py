"""Recording: one application of an op becomes one Value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import AccelError, ArgumentError, NotAnArrayError, ShapeError, debug_enabled
from ..ir import dtypes
from ..ir.dtypes import DType
from ..ir.op import Op, get_op, resolve
from ..ir.types import TensorType
from ..runtime import state as runtime_state
from .entering import unheard
from .evaluation import note_recorded
from .tensor import Tensor, array_value
from .values import Value, leaked, strong_type, user_location

__all__ = ["apply", "as_tensor", "as_value", "constant_value", "record"]

_CONSTANT = get_op("constant")
_CAST = get_op("cast")
_PYTHON = (bool, int, float, complex)


def record(name: str, /, *operands: Any, **attrs: Any) -> Tensor:
    """Apply an op to Tensors, arrays and numbers; the result is recorded, not computed.

    Parameters
    ----------
    name
        A name of the registry.
    operands
        Tensors, NumPy arrays and scalars (0-d arrays), Python numbers (weak).
    attrs
        The op's attributes.

    Raises
    ------
    AccelError
        What the op's rules find wrong, with the user's line.

    Examples
    --------
    >>> record("add", Tensor([1.0, 2.0]), 1).tolist()
    [2.0, 3.0]
    """
    state = runtime_state.current()
    try:
        if state.tracer is None:
            return _record(name, operands, attrs, state)
        return unheard(_record, name, operands, attrs, state)
    except AccelError as error:
        if debug_enabled():
            raise
        raise error.with_traceback(None) from None


def _record(
    name: str, operands: tuple[Any, ...], attrs: dict[str, Any], state: runtime_state.State
) -> Tensor:
    op = get_op(name)
    values = [as_value(o, state.tracer) for o in operands]
    if values and all(v.type.weak for v in values) and op is not _CAST:
        # Numbers alone take the default dtypes; in a trace they stay weak until they meet an
        # array, but only element by element: a number given a shape is an array.
        if state.tracer is None or not op.pointwise:
            values = [_strong(v, state.tracer) for v in values]
    return Tensor._of(apply(op, values, attrs, state))


def apply(
    op: Op, values: Sequence[Value], attrs: dict[str, Any], state: runtime_state.State
) -> Value:
    """The Value of `op` on `values`: promoted, checked, typed."""
    resolved = resolve(op, [v.type for v in values], attrs)
    loc = user_location()
    _check_size(op, resolved.type)
    inputs = []
    requires_grad = False
    for value, target in zip(values, resolved.operand_dtypes, strict=True):
        if target is not None:
            weak = all(v.type.weak for v in values)  # scalars among themselves stay weak
            value = _cast(value, target, weak, loc, state.tracer)
        requires_grad = requires_grad or value.requires_grad
        inputs.append(value)
    requires_grad = (
        requires_grad and state.grad_enabled and resolved.type.dtype.is_inexact
        and (op.gradient is not None or op.expand is not None) and op.name != "stop_gradient"
    )  # fmt: skip
    made = Value(resolved.type, op, tuple(inputs), resolved.attrs, loc, None, requires_grad,
                 state.tracer)  # fmt: skip
    if state.tracer is None:
        note_recorded(made)
    return made


#: Dimensions that NumPy's arrays can have.
_MAX_DIMS = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32


def _check_size(op: Op, type_: TensorType) -> None:
    """Refuse results that no array can hold."""
    if len(type_.shape) > _MAX_DIMS:
        raise ShapeError(
            f"{op.name}: a result of {len(type_.shape)} dimensions",
            remedy=f"arrays have at most {_MAX_DIMS}; merge some with reshape",
        )
    if type_.nbytes >= 2**63:
        raise ShapeError(
            f"{op.name}: a result of {type_} has more bytes than a machine can address",
            remedy="check the extents",
        )


def _check_fits(number: Any, dtype: DType) -> None:
    """Refuse a Python integer that its partner's dtype would wrap."""
    if type(number) is int and not (limits := np.iinfo(dtype.numpy)).min <= number <= limits.max:
        raise ArgumentError(
            f"{number} does not fit {dtype}", remedy="convert the tensor to a wider dtype first"
        )


def _cast(value: Value, dtype: DType, weak: bool, loc: Any, tracer: Any) -> Value:
    if value.op is _CONSTANT:
        if dtype.is_integer:
            _check_fits(value.attrs["value"], dtype)
        return constant_value(value.attrs["value"], dtype, weak, tracer)
    type_ = TensorType(dtype, value.type.shape, value.type.device, weak)
    flows = value.requires_grad and dtype.is_inexact
    attrs = {"dtype": dtype, "weak": weak}
    return Value(type_, _CAST, (value,), attrs, loc, None, flows, tracer)


def constant_value(number: Any, dtype: DType, weak: bool, tracer: Any) -> Value:
    """A number known while recording, as a 0-d Value."""
    attrs: Mapping[str, Any] = {"value": number, "dtype": dtype, "weak": weak}
    return Value(TensorType(dtype, (), weak=weak), _CONSTANT, (), attrs, tracer=tracer)


def _strong(value: Value, tracer: Any) -> Value:
    """A weak scalar in its default dtype."""
    if not value.type.weak:
        return value
    return _cast(value, strong_type(value.type).dtype, False, None, tracer)


def as_value(operand: Any, tracer: Any) -> Value:
    """The Value of an operand; arrays become inputs of a trace, copies outside of one.

    Raises
    ------
    NotAnArrayError
        For what is neither an array nor a number.
    """
    if isinstance(operand, Tensor):
        if tracer is not None:
            return tracer.read(operand)
        value = operand._value
        if value.tracer is not None and value.data is None:
            raise leaked(value)
        return value
    kind = type(operand)
    if kind in _PYTHON:
        if kind is int and not -(2**63) <= operand < 2**64:
            raise NotAnArrayError(
                f"{operand} needs more than 64 bits", remedy="use a float, or smaller integers"
            )
        return constant_value(operand, dtypes.of_scalar(operand), True, tracer)
    if isinstance(operand, np.generic):
        dtype = dtypes.to_dtype(operand.dtype)
        number = float(operand) if dtype.kind == "f" else operand.item()
        return constant_value(number, dtype, False, tracer)
    if isinstance(operand, np.ndarray):
        return array_value(operand) if tracer is None else tracer.read_array(operand)
    if isinstance(operand, _PYTHON):  # a subclass: an enum, for one
        plain: Any = next(k for k in _PYTHON if isinstance(operand, k))
        return as_value(plain(operand), tracer)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise NotAnArrayError(
        f"{module}{kind.__qualname__} is neither an array nor a number",
        remedy="convert it with accel.asarray (accel.from_dlpack for other libraries' tensors)",
    )


def as_tensor(operand: Any) -> Tensor:
    """`operand` itself if it is a Tensor, else a Tensor of the array or number it is."""
    if isinstance(operand, Tensor):
        return operand
    tracer = runtime_state.current().tracer
    value = as_value(operand, tracer)
    return Tensor._of(value if tracer is not None else _strong(value, tracer))
