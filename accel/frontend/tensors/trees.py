"""Trees of arguments and results: nested dict, list, tuple, namedtuple, dataclass, None."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

__all__ = ["LEAF", "flatten", "flatten_into", "leaves", "map_leaves", "paths", "unflatten"]

#: The structure of a leaf.
LEAF = "*"

#: A tree's structure: LEAF, or (type, keys or field names, structures of the children).
Structure = Hashable


def _children(tree: Any) -> tuple[Any, list[Any]] | None:
    """Keys and children of a container; None for a leaf."""
    kind = type(tree)
    if kind is dict or kind is OrderedDict:
        return tuple(tree), list(tree.values())
    if kind is list or kind is tuple:
        return len(tree), list(tree)
    if tree is None:
        return 0, []
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return kind._fields, list(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = tuple(f.name for f in dataclasses.fields(tree) if f.init)
        return names, [getattr(tree, name) for name in names]
    return None


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of `tree`, left to right, and its structure, which is hashable.

    Examples
    --------
    >>> leaves, structure = flatten({"a": [1, 2], "b": None})
    >>> leaves
    [1, 2]
    >>> unflatten(structure, leaves)
    {'a': [1, 2], 'b': None}
    """
    found: list[Any] = []
    return found, flatten_into(tree, found)


def flatten_into(tree: Any, found: list[Any]) -> Structure:
    """Append the leaves of `tree` to `found`; returns its structure."""
    parts = _children(tree)
    if parts is None:
        found.append(tree)
        return LEAF
    keys, children = parts
    return (type(tree), keys, tuple([flatten_into(child, found) for child in children]))


def unflatten(structure: Structure, values: list[Any]) -> Any:
    """The tree of `structure` with `values` as its leaves."""
    return _unflatten(structure, iter(values))


def _unflatten(structure: Any, values: Iterator[Any]) -> Any:
    if structure == LEAF:
        return next(values)
    kind, keys, structures = structure
    if kind is type(None):
        return None
    children = [_unflatten(child, values) for child in structures]
    if kind is dict or kind is OrderedDict:
        return kind(zip(keys, children, strict=True))
    if kind is list:
        return children
    if kind is tuple:
        return tuple(children)
    if hasattr(kind, "_fields"):
        return kind(*children)
    return kind(**dict(zip(keys, children, strict=True)))


def leaves(tree: Any) -> list[Any]:
    """The leaves of `tree`, left to right."""
    return flatten(tree)[0]


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `function` applied to every leaf.

    Examples
    --------
    >>> map_leaves(lambda x: x * 2, [1, (2, 3)])
    [2, (4, 6)]
    """
    found, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in found])


def paths(tree: Any, prefix: str = "") -> list[str]:
    """A name for every leaf: ``params.w`` or ``batch.0``."""
    parts = _children(tree)
    if parts is None:
        return [prefix]
    keys, children = parts
    names = range(len(children)) if isinstance(keys, int) else keys
    result: list[str] = []
    for name, child in zip(names, children, strict=True):
        result += paths(child, f"{prefix}.{name}" if prefix else str(name))
    return result
