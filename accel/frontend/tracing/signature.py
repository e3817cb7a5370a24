"""Signatures: the key under which a call's specialisation is found, and its argument leaves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from ...errors import TraceError
from ..tensors.module_state import Stateful
from ..tensors.tensor import Tensor
from ..tensors.trees import LEAF, flatten_into, paths
from ..tensors.values import user_location

__all__ = ["argument_names", "describe_change", "signature"]


def _array_key(array: np.ndarray) -> Any:
    """dtype, shape, and the class of the layout: 0 C-contiguous, 1 inner-contiguous, 2 general."""
    if array.flags.c_contiguous:
        layout = 0
    else:
        layout = 1 if array.strides[-1] == array.itemsize else 2
    return array.dtype, array.shape, layout


def _tensor_key(tensor: Tensor) -> Any:
    value = tensor._value
    type_ = value.type
    data = value.data
    layout = 0
    if type(data) is np.ndarray and not data.flags.c_contiguous:
        layout = 1 if data.strides[-1] == data.itemsize else 2
    flags = (value.requires_grad, value.owner is not None, tensor._grad is not None)
    return Tensor, type_.dtype, type_.shape, type_.device, layout, flags


def _leaf_key(leaf: Any) -> Any:
    kind = type(leaf)
    if kind is np.ndarray:
        return _array_key(leaf)
    if kind is Tensor or isinstance(leaf, Tensor):
        return _tensor_key(leaf)
    if kind is float:
        return float
    if isinstance(leaf, np.generic):
        return leaf.dtype, ()
    if isinstance(leaf, np.ndarray):
        return _array_key(np.asarray(leaf))
    if isinstance(leaf, Stateful):
        return Stateful, id(leaf)
    if kind is slice:
        return slice, leaf.start, leaf.stop, leaf.step
    hash(leaf)
    return kind, leaf


def signature(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, list[Any]]:
    """The key of a call and its leaves.

    Raises
    ------
    TraceError
        For an argument that is neither a tree of arrays nor hashable, naming it.
    """
    leaves: list[Any] = []
    structure: list[Any] = []
    for argument in args:
        kind = type(argument)
        if kind is np.ndarray or kind is Tensor or kind is float:
            leaves.append(argument)
            structure.append(LEAF)
        else:
            structure.append(flatten_into(argument, leaves))
    for name in kwargs:
        structure.append((name, flatten_into(kwargs[name], leaves)))
    try:
        keys = [_leaf_key(leaf) for leaf in leaves]
    except TypeError:
        raise _unhashable(function, args, kwargs, leaves) from None
    return (tuple(structure), tuple(keys), _aliases(leaves)), leaves


def _aliases(leaves: Sequence[Any]) -> Any:
    """Which leaves are one Tensor; None in the usual case that all differ."""
    tensors = [id(leaf) for leaf in leaves if isinstance(leaf, Tensor)]
    if len(tensors) == len(set(tensors)):
        return None
    return tuple(tensors.index(t) for t in tensors)


def _unhashable(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any],
    leaves: list[Any],
) -> TraceError:
    for name, leaf in zip(argument_names(function, args, kwargs), leaves, strict=True):
        try:
            _leaf_key(leaf)
        except TypeError:
            return TraceError(
                f"argument {name} of {getattr(function, '__name__', 'the function')} is a "
                f"{type(leaf).__name__}, which is neither an array nor hashable",
                loc=user_location(),
                remedy="pass arrays, numbers, or trees of them (dict, list, tuple, dataclass)",
            )
    return TraceError("an argument cannot be compared", loc=user_location())


def argument_names(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[str]:
    """A name for every leaf: ``x``, ``params.w``, ``batch.0``."""
    positional = _positional_names(function, len(args))
    positional += [f"arg{i}" for i in range(len(positional), len(args))]
    names: list[str] = []
    for name, argument in [*zip(positional, args, strict=False), *kwargs.items()]:
        names += paths(argument, name)
    return names


def _positional_names(function: Callable[..., Any], given: int) -> list[str]:
    """The names of `given` positional arguments, as far as they have some."""
    if isinstance(function, FunctionType) and not function.__dict__:  # that might say otherwise
        code = function.__code__
        if not code.co_flags & inspect.CO_VARARGS:
            return list(code.co_varnames[: code.co_argcount])
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [f"{parameter.name}.{i}" for i in range(given - len(positional))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(parameter.name)
    return positional


def describe_change(old: Any, new: Any, names: Sequence[str]) -> str:
    """The first difference between two keys of calls, naming the argument."""
    if old[-1] != new[-1]:
        return "the mode or another setting changed"
    (old_tree, old_keys, old_alias), (new_tree, new_keys, new_alias) = old[0], new[0]
    if old_tree != new_tree:
        return "the number or the structure of the arguments changed"
    for name, a, b in zip(names, old_keys, new_keys, strict=False):
        if a != b:
            return f"argument {name} changed from {_show(a)} to {_show(b)}"
    if old_alias != new_alias:
        return "arguments became, or ceased to be, one and the same Tensor"
    return "nothing in the arguments changed"


def _show(key: Any) -> str:
    if key is float:
        return "a float"
    if isinstance(key[0], np.dtype):
        layout = ("", ", inner-contiguous", ", strided")[key[2]] if len(key) > 2 else ""
        return f"{key[0]}{list(key[1])}{layout}"
    if key[0] is Tensor:
        _, dtype, shape, device, _, flags = key
        extra = "".join(f", {text}" for on, text in zip(
            flags, ("requires_grad", "leaf", "with grad"), strict=True) if on)  # fmt: skip
        return f"{dtype}{list(shape)}{'' if device == 'cpu' else ' on ' + device}{extra}"
    if key[0] is Stateful:
        return "one Module"
    return repr(key[-1])
