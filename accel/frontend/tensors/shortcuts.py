"""Shortcuts: how a tree of recorded Values is evaluated that is like one evaluated before.

Its recipe says what it computes. What the recipe leaves open is looked at here: which leaves are
the same, and which inner Values somebody still holds, so that they must be kept. Trees that
agree in that as well are evaluated by the same plan, with nothing described anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...ir.dtypes import float32
from ...ir.types import TensorType
from .plans import Plan
from .recipes import Recipe
from .values import ALIAS, Step, Value

__all__ = ["ALONE", "Shortcut", "are_different", "find", "learn", "walk_tree"]

#: Shortcuts of one recipe, before all are forgotten.
_CAPACITY = 64


class Shortcut(NamedTuple):
    """A plan for one tree.

    Attributes
    ----------
    plan
        What to run.
    pick
        From the buffers of all leaves to those that the plan takes; None if it takes all.
    results
        For each result of the plan: its place among the outputs, that of its Value among the
        tree's, and the recipe that it has once it is computed.
    """

    plan: Plan
    pick: tuple[int, ...] | None
    results: tuple[tuple[int, int, Recipe], ...]


def walk_tree(
    value: Value, recipe: Recipe, alone: int
) -> tuple[list[Value], list[Any], list[int]]:
    """The recorded Values of the tree of `recipe`, `value` first, the buffers of its leaves, and
    the places of the Values that are held.

    No Values if it is not that any more (a part was computed since), or no tree: a Value that is
    used twice is held each time.
    """
    values = [value]
    leaves: list[Any] = []
    held: list[int] = []
    paths = recipe.paths
    try:
        for user, place, leaf in paths if paths is not None else recipe.find_paths():
            inner = values[user].inputs[place]
            data = inner.data
            if leaf:
                leaves.append(data)
                continue
            if data is not None:
                return [], leaves, held
            if sys.getrefcount(inner) > alone:
                held.append(len(values))
            values.append(inner)
    except IndexError:
        return [], leaves, held  # another thread has just computed a part
    if held and len({id(values[i]) for i in held}) != len(held):
        return [], leaves, held
    return values, leaves, held


def are_different(leaves: Sequence[Any]) -> bool:
    """Whether no buffer stands twice in `leaves`."""
    if len(leaves) == 3:
        x, y, z = leaves
        return x is not y and y is not z and x is not z
    if len(leaves) == 2:
        return leaves[0] is not leaves[1]
    return len(leaves) < 2 or len(set(map(id, leaves))) == len(leaves)


def _variant(held: Sequence[int], leaves: Sequence[Any]) -> tuple[Any, ...]:
    """What a recipe leaves open: the inner Values to keep, and which leaves are the same."""
    ids = list(map(id, leaves))
    return (*held, None, *map(ids.index, ids))


def find(recipe: Recipe, held: Sequence[int], leaves: Sequence[Any]) -> Shortcut | None:
    """The shortcut for a tree whose leaves are not all different, or of which parts are held."""
    variants = recipe.variants
    return None if variants is None else variants.get(_variant(held, leaves))


def learn(
    recipe: Recipe, places: Mapping[int, int], held: Sequence[int], leaves: Sequence[Any],
    plan: Plan, wanted: Sequence[Value], kept: Sequence[Recipe], buffers: Sequence[Any],
) -> None:  # fmt: skip
    """Keep `plan`, which computed `wanted` from `buffers`, for trees like this one.

    `places` has those of the tree's Values by `id`, `held` is as `walk_tree` gives it, `kept`
    are the recipes that the results have now.
    """
    ids = list(map(id, leaves))
    if any(id(v) not in places for v in wanted) or any(id(b) not in ids for b in buffers):
        return
    pick = tuple([ids.index(id(b)) for b in buffers])
    results = tuple(
        [(out, places[id(v)], leaf)
         for (out, _), v, leaf in zip(plan.results, wanted, kept, strict=True)]
    )  # fmt: skip
    everything = pick == tuple(range(len(leaves)))
    shortcut = Shortcut(plan, None if everything else pick, results)
    if not held and are_different(leaves):
        recipe.native, recipe.shortcut = None, shortcut
        return
    if recipe.variants is None or len(recipe.variants) >= _CAPACITY:
        recipe.variants = {}
    recipe.variants[_variant(held, leaves)] = shortcut


def _measure_alone(reach: Callable[..., Any]) -> int:
    """What `sys.getrefcount` says in `walk_tree` of a Value to which its user alone refers."""
    type_ = TensorType(float32)
    step = Step(ALIAS, {}, type_)
    recipe = Recipe(type_, False, step, [Recipe(type_, False, step, [Recipe(type_, False)])])
    value = Value(type_, ALIAS, (Value(type_, ALIAS, (Value(type_),)),))
    return next(n for n in range(1, 20) if not reach(value, recipe, n)[2])


#: A Value to which more refer than its one user is held by somebody else.
ALONE = _measure_alone(walk_tree)
