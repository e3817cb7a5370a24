"""Recording: one application of an op becomes one Value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import AccelError, NotAnArrayError, NumberRangeError, ShapeError, debug_enabled
from ...ir import dtypes
from ...ir.dtypes import DType
from ...ir.node import attr_key
from ...ir.op import Op, get_op, resolve
from ...ir.types import TensorType
from ...runtime import state as runtime_state
from .entering import unheard
from .evaluation import note_recorded
from .leaf_values import array_value, part_value
from .recipes import (
    Recipe,
    number_varies,
    opaque_recipe,
    outdated,
    recipe_of,
    step_recipe,
    transitions_of,
)
from .tensor import Tensor, value_of
from .values import Cast, Step, Value, leaked, strong_type, user_location

__all__ = ["MAX_DIMENSIONS", "NUMBERS", "OVERTAKEN", "answer", "apply", "as_tensor", "as_value",
           "constant_value", "record", "recorded"]  # fmt: skip

_CONSTANT = get_op("constant")
_CAST = get_op("cast")
_PYTHON = (bool, int, float, complex)
_WEAK = {float: TensorType(dtypes.float64, weak=True), int: TensorType(dtypes.int64, weak=True)}
_new = object.__new__


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
            return _record_lazily(name, operands, attrs, state)
        return unheard(_record, name, operands, attrs, state)
    except AccelError as error:
        if debug_enabled():
            raise
        raise error.with_traceback(None) from None


def _record(
    name: str, operands: tuple[Any, ...], attrs: dict[str, Any], state: runtime_state.State
) -> Tensor:
    """`record` as it is defined, each application looked at anew."""
    op = get_op(name)
    values = [as_value(o, state.tracer) for o in operands]
    return Tensor._of(apply(op, _together(op, values, state.tracer), attrs, state))


def _together(op: Op, values: list[Value], tracer: Any) -> list[Value]:
    """Operands where all may be numbers: alone these take the default dtypes.

    In a trace they stay weak until they meet an array, but only element by element: a number
    given a shape is an array.
    """
    if values and all(v.type.weak for v in values) and op is not _CAST:
        if tracer is None or not op.pointwise:
            return [_strong(v, tracer) for v in values]
    return values


# -- outside of traces: applications that were met before --------------------------------------
#: Python numbers that stand in a recipe by their value.
NUMBERS = frozenset((bool, int, float))
#: Functions that emitted code takes over from (see `native_recording`): the op, the function of its
#: operands, and what is told the built-in function that takes its place.
OVERTAKEN: list[tuple[str, Callable[..., Tensor], Callable[[Any], None]]] = []


def _record_lazily(
    name: str, operands: tuple[Any, ...], attrs: dict[str, Any], state: runtime_state.State
) -> Tensor:
    if name == "slice":
        part = part_value(as_value(operands[0], None), **attrs)
        if part is not None:
            return Tensor._of(part)
    table = transitions_of(name)
    given: list[Any] = []  # numbers, and Values
    inputs: list[Value] = []
    recipes: list[Recipe] = []
    key: list[Any] = []
    changes = False  # whether there is a number that may be another one next time
    for operand in operands:
        kind = type(operand)
        if kind in NUMBERS:
            given.append(operand)
            key += (kind, operand or repr(operand))  # 0.0 is not -0.0
            changes = changes or kind is not bool
            continue
        value = as_value(operand, None)
        given.append(value)
        if value.op is _CONSTANT:
            if value.type.weak:
                return _record(name, operands, attrs, state)
            key += (value.type.dtype, attr_key(value.attrs["value"]))
            changes = True
            continue
        recipe = value.recipe or recipe_of(value)
        inputs.append(value)
        recipes.append(recipe)
        key.append(recipe)
    if attrs:
        key.append(tuple(attrs))
        key += [attr_key(v) for v in attrs.values()]
    try:
        found = table.get(tuple(key))
    except TypeError:  # lists and arrays as attributes
        return _record(name, operands, attrs, state)
    if found is None:
        if any(_refreshed(value) for value in inputs):
            return _record_lazily(name, operands, attrs, state)
        if changes and number_varies(name, key):
            arguments = [_as_argument(*pair) for pair in zip(operands, given, strict=True)]
            return _record_lazily(name, tuple(arguments), attrs, state)
        found = _learn(name, tuple(key), given, recipes, attrs)
    if found.usual:
        return recorded(found, tuple(inputs))
    return _record_unusual(found, tuple(inputs), state)


def _learn(
    name: str, key: tuple[Any, ...], given: list[Any], recipes: list[Recipe],
    attrs: dict[str, Any],
) -> Recipe:  # fmt: skip
    """The recipe of an application that was not met before."""
    table = transitions_of(name)
    on_leaves = tuple([k.leaf if type(k) is Recipe else k for k in key])
    known = table.get(on_leaves)
    if known is None:  # checked once for operands of these types
        op = get_op(name)
        values = [as_value(o, None) if type(o) in NUMBERS else o for o in given]
        step, _, flows = resolve_step(op, _together(op, values, None), attrs)
        known = step_recipe(step, flows, [r.leaf for r in recipes])
        known = table.setdefault(on_leaves, known)
    if on_leaves == key or known.step is None:
        return known
    return table.setdefault(key, step_recipe(known.step, known.requires_grad, recipes))


def _refreshed(value: Value) -> bool:
    """Whether the recipe of `value` was out of date and is left out of recipes from now on."""
    if not outdated(value):
        return False
    value.recipe = opaque_recipe(value.type, value.requires_grad)
    return True


def _as_argument(operand: Any, given: Any) -> Any:
    """A number as a Tensor of data, so that another number is no other program."""
    if type(given) in _WEAK:
        return Tensor._of(Value(_WEAK[type(given)], data=np.array(given)))
    if type(given) is Value and given.op is _CONSTANT:
        number = np.array(given.attrs["value"], given.type.dtype.numpy)
        return Tensor._of(Value(given.type, data=number))
    return operand


def recorded(recipe: Recipe, inputs: tuple[Value, ...]) -> Tensor:
    """A Tensor made as `recipe` says of `inputs`."""
    value = _new(Value)
    value.data = value.loc = value.owner = value.tracer = None
    value.inputs = inputs
    value.step = recipe.step
    value.type = recipe.type
    value.requires_grad = recipe.requires_grad
    value.recipe = recipe
    tensor = _new(Tensor)
    tensor._value = value
    tensor._grad = None
    return tensor


def _record_unusual(
    recipe: Recipe, inputs: tuple[Value, ...], state: runtime_state.State
) -> Tensor:
    if not state.grad_enabled:
        recipe = recipe.disconnected()
    tensor = recorded(recipe, inputs)
    if recipe.can_fail:
        tensor._value.loc = user_location()
    if recipe.opaque:
        note_recorded(tensor._value, recipe.steps, recipe.nbytes)
        tensor._value.recipe = opaque_recipe(recipe.type, recipe.requires_grad)
    return tensor


# -- one application, looked at ------------------------------------------------------------------
def apply(
    op: Op, values: Sequence[Value], attrs: dict[str, Any], state: runtime_state.State
) -> Value:
    """The Value of `op` on `values`: promoted, checked, typed."""
    step, inputs, flows = resolve_step(op, values, attrs)
    made = Value(step.type, None, inputs, loc=user_location(), tracer=state.tracer, step=step,
                 requires_grad=flows and state.grad_enabled)  # fmt: skip
    if state.tracer is None:
        note_recorded(made, 1, made.type.nbytes)
    return made


def resolve_step(
    op: Op, values: Sequence[Value], attrs: dict[str, Any]
) -> tuple[Step, tuple[Value, ...], bool]:
    """One application of `op`: the step, the Values that are its inputs (numbers are part of
    the step), and whether gradients flow through it."""
    if any(isinstance(a, Tensor) for a in attrs.values()):  # attributes are Python's
        attrs = {k: _number_of(a) for k, a in attrs.items()}
    resolved = resolve(op, [v.type for v in values], attrs)
    _check_size(op, resolved.type)
    weak = all(v.type.weak for v in values)  # scalars among themselves stay weak
    inputs: list[Value] = []
    takes: list[Any] = []
    flows = False
    for value, target in zip(values, resolved.operand_dtypes, strict=True):
        if value.op is _CONSTANT:
            takes.append(_number_attrs(value, target, weak))
            continue
        takes.append(len(inputs) if target is None else Cast(len(inputs), target, weak))
        inputs.append(value)
        flows = flows or (value.requires_grad and (target is None or target.is_inexact))
    flows = (
        flows and resolved.type.dtype.is_inexact
        and (op.gradient is not None or op.expand is not None) and op.name != "stop_gradient"
    )  # fmt: skip
    plain = takes == list(range(len(values)))
    step = Step(op, resolved.attrs, resolved.type, None if plain else tuple(takes))
    return step, tuple(inputs), flows


def _number_of(attr: Any) -> Any:
    """A 0-d Tensor given as an attribute as the number it is; one that is traced becomes static."""
    return attr.item() if isinstance(attr, Tensor) and not attr.ndim else attr


def _number_attrs(value: Value, target: DType | None, weak: bool) -> Mapping[str, Any]:
    """The attributes of a constant operand in the dtype that the op takes."""
    attrs = value.attrs
    if target is None:
        return attrs
    if target.is_integer:
        _check_fits(attrs["value"], target)
    return {"value": attrs["value"], "dtype": target, "weak": weak}


#: Dimensions that NumPy's arrays can have.
MAX_DIMENSIONS = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32


def _check_size(op: Op, type_: TensorType) -> None:
    """Refuse results that no array can hold."""
    if len(type_.shape) > MAX_DIMENSIONS:
        raise ShapeError(
            f"{op.name}: a result of {len(type_.shape)} dimensions",
            remedy=f"arrays have at most {MAX_DIMENSIONS}; merge some with reshape",
        )
    if type_.nbytes >= 2**63:
        raise ShapeError(
            f"{op.name}: a result of {type_} has more bytes than a machine can address",
            remedy="check the extents",
        )


def _check_fits(number: Any, dtype: DType) -> None:
    """Refuse a Python integer that its partner's dtype would wrap."""
    if type(number) is int and not (limits := np.iinfo(dtype.numpy)).min <= number <= limits.max:
        raise NumberRangeError(
            f"{number} does not fit {dtype}", remedy="convert the tensor to a wider dtype first"
        )


def constant_value(number: Any, dtype: DType, weak: bool, tracer: Any) -> Value:
    """A number known while recording, as a 0-d Value."""
    attrs: Mapping[str, Any] = {"value": number, "dtype": dtype, "weak": weak}
    return Value(TensorType(dtype, (), weak=weak), _CONSTANT, (), attrs, tracer=tracer)


def _strong(value: Value, tracer: Any) -> Value:
    """A weak scalar in its default dtype."""
    if not value.type.weak:
        return value
    dtype = strong_type(value.type).dtype
    if value.op is _CONSTANT:
        if dtype.is_integer:
            _check_fits(value.attrs["value"], dtype)
        return constant_value(value.attrs["value"], dtype, False, tracer)
    type_ = TensorType(dtype, value.type.shape, value.type.device)
    flows = value.requires_grad and dtype.is_inexact
    return Value(type_, _CAST, (value,), {"dtype": dtype, "weak": False}, None, None, flows, tracer)


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


def answer(found: Tensor) -> Any:
    """A yes or no as a bool, at once; while a function is traced, as the Tensor that it is."""
    return bool(found) if value_of(found).tracer is None else found
