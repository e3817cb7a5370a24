"""Recipes: the structure of recorded work, known without looking at it again.

A recipe says how a Value is made of computed ones: which step, on the results of which
recipes. Recipes are interned, and applying an op to recipes that met it before is one look-up:
it gives the result's type, attributes and promotions, and its recipe. So code that repeats
itself is recorded without checking anything twice, and what evaluates it hangs on the recipe.

A recipe is the tree of its steps; which of its leaves and of its inner Values are the same is
not part of it, and is looked at when it is evaluated. Trees are bounded: beyond that a recipe is
`opaque`, and describes its last step only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.op import Op
from ...ir.types import TensorType
from .values import Step, Value

__all__ = ["Recipe", "Transitions", "forget_recipes", "leaf_recipe", "limit_trees",
           "number_varies", "opaque_recipe", "outdated", "place_varies",
           "recipe_of", "step_recipe", "transitions_of"]  # fmt: skip

#: Leaves and steps of the largest tree.
_MAX_LEAVES = 16
_MAX_STEPS = 2_000
#: Recipes kept before all are forgotten: some 10 MB.
_CAPACITY = 20_000

#: Numbers at one operand of one application that each have a recipe.
_FEW_NUMBERS = 8
#: What an argument made of a Python integer holds.
_INT64 = np.iinfo(np.int64)
#: Exponents of powers that are computed otherwise, with other bits.
_SIMPLE_POWERS = (1.0, 2.0)

#: Forms of ops whose execution cannot fail, so that nobody asks for the line that recorded them.
_SAFE = ("pointwise", "reduce", "movement", "contraction", "creation")


class Recipe:
    """How a Value is made.

    Attributes
    ----------
    step
        The last step; None for a leaf, which is computed.
    type, requires_grad
        Of the result; the latter as far as gradients are recorded at all.
    inputs
        What the step is applied to.
    opaque
        Whether the inputs' recipes are no part of it.
    leaves, steps, nbytes
        How many leaves and steps the tree has, opaque inputs left out, and the bytes of all
        its results.
    usual
        Whether recording it needs no more than the recipe: no gradient, no line, not opaque.
    leaf
        The recipe of the result, once computed.
    paths
        How to reach the tree's Values from the root, each as an input of an inner one before it:
        the user's number among the inner ones, the root's being 0, the place among its inputs,
        and whether it is a leaf.
    shortcut, variants
        How it is evaluated: where all leaves differ and no inner Value is held, and else; see
        `shortcuts`.
    native
        The words by which emitted code follows `shortcut`, False where there are none; see
        `native_recording`.
    """

    __slots__ = ("_disconnected", "inputs", "leaf", "leaves", "native", "nbytes", "opaque",
                 "paths", "requires_grad", "shortcut", "step", "steps", "type", "usual",
                 "variants")  # fmt: skip

    def __init__(
        self, type_: TensorType, requires_grad: bool, step: Step | None = None,
        inputs: Sequence[Recipe] = (),
    ) -> None:  # fmt: skip
        self.type = type_
        self.requires_grad = requires_grad
        self.step = step
        self.inputs = tuple(inputs)
        self.shortcut: Any = None
        self.variants: Any = None
        self.native: Any = None
        self.paths: tuple[tuple[int, int, bool], ...] | None = None
        self._disconnected: Recipe | None = None
        if step is None:
            self.leaf, self.leaves, self.steps, self.nbytes = self, 1, 0, 0
        else:
            known = [r for r in inputs if not r.opaque]
            self.leaf = leaf_recipe(type_, requires_grad)
            self.leaves = sum(r.leaves for r in known)
            self.steps = 1 + sum(r.steps for r in known)
            self.nbytes = type_.nbytes + sum(r.nbytes for r in known)
        self.opaque: bool = (
            any(r.opaque for r in inputs) or self.leaves > _MAX_LEAVES
            or self.steps >= _limits[0] or self.nbytes >= _limits[1]
        )  # fmt: skip
        self.usual = step is not None and not (requires_grad or self.opaque or self.can_fail)

    def find_paths(self) -> tuple[tuple[int, int, bool], ...]:
        """`paths`, found when they are first needed: they are as long as the tree is large."""
        reached, paths = [self], []
        for number, recipe in enumerate(reached):
            for place, inner in enumerate(recipe.inputs):
                paths.append((number, place, inner.step is None))
                if inner.step is not None:
                    reached.append(inner)
        self.paths = tuple(paths)
        return self.paths

    @property
    def can_fail(self) -> bool:
        """Whether the last step may raise when it runs."""
        op = None if self.step is None else self.step.op
        return isinstance(op, Op) and op.form not in _SAFE

    def disconnected(self) -> Recipe:
        """The same where gradients are not recorded."""
        if not self.requires_grad:
            return self
        if self._disconnected is None:
            self._disconnected = Recipe(self.type, False, self.step, self.inputs)
        return self._disconnected


#: Steps and bytes of a tree that can wait for its evaluation.
_limits = [_MAX_STEPS, 1 << 33]


def limit_trees(steps: int, nbytes: int) -> None:
    """Bound trees by the limits of recorded work."""
    _limits[:] = min(steps, _MAX_STEPS), nbytes
    forget_recipes()


# -- the tables -----------------------------------------------------------------------------
#: What applying one op gives: recipes by those of its operands. A Python number stands there
#: as its type and its value, a constant as its dtype and its value; attributes follow the operands.
Transitions = dict[tuple[Any, ...], Recipe]

_tables: dict[str, Transitions] = {}
_leaves: dict[tuple[TensorType, bool], Recipe] = {}
_opaque: dict[tuple[TensorType, bool], Recipe] = {}
_made = itertools.count()
_numbers: dict[Any, int] = {}
_places: dict[Any, set[Any]] = {}


def transitions_of(op: str) -> Transitions:
    """The table of one op, which stays the same object."""
    return _tables.setdefault(op, {})


def forget_recipes() -> None:
    """Empty all tables; recipes that Values still have go on to work."""
    global _made
    for table in list(_tables.values()):
        table.clear()
    _leaves.clear()
    _opaque.clear()
    _numbers.clear()
    _places.clear()
    _made = itertools.count()


def number_varies(op: str, key: Sequence[Any]) -> bool:
    """Whether a number among the operands of an application, not met before, is one of many.

    It then becomes an argument: it would make a program of its own otherwise. What others are
    simplified by stays as it is, and so do Python's integers that do not fit an integer partner.
    """
    if op == "pow" and (key[-2] is not float or key[-1] in _SIMPLE_POWERS):
        return False
    if int in key and not _integers_fit(key):
        return False
    numeric = (k is float or k is int or type(k) is DType for k in key)
    after_type = itertools.chain((False,), numeric)
    site = (op, *[None if number else k for k, number in zip(key, after_type, strict=False)])
    if len(_numbers) > _CAPACITY:
        _numbers.clear()
    count = _numbers[site] = _numbers.get(site, 0) + 1
    return count > _FEW_NUMBERS


def place_varies(site: Any, place: Any) -> bool:
    """The same of a place that is an attribute: whether it is one of many at `site`."""
    if len(_places) > _CAPACITY:
        _places.clear()
    met = _places.setdefault(site, set())
    if len(met) < _FEW_NUMBERS:
        met.add(place)
    return place not in met


def leaf_recipe(type_: TensorType, requires_grad: bool) -> Recipe:
    """The recipe of computed Values of `type_`."""
    found = _leaves.get((type_, requires_grad))
    if found is None:
        found = _leaves.setdefault((type_, requires_grad), Recipe(type_, requires_grad))
    return found


def _integers_fit(key: Sequence[Any]) -> bool:
    """Whether the integers among the operands of an application are numbers of every integer
    dtype among them, and so of the dtype that they take."""
    integers = [int(k) for last, k in itertools.pairwise(key) if last is int]
    partners = [k.type.dtype if type(k) is Recipe else k for k in key]
    limits = [np.iinfo(d.numpy) for d in partners if type(d) is DType and d.is_integer]
    return any(type(k) is Recipe for k in key) and all(
        bounds.min <= number <= bounds.max for number in integers for bounds in [_INT64, *limits]
    )


def outdated(value: Value) -> bool:
    """Whether what `value` is made of was computed since: its recipe describes work done before.

    A counter that every round of a loop adds to before the round is computed would have a
    recipe of its own in every round.
    """
    recipe = value.recipe
    return value.data is None and recipe is not None and any(
        made.data is not None and known.step is not None
        for made, known in zip(value.inputs, recipe.inputs, strict=False)
    )  # fmt: skip


def opaque_recipe(type_: TensorType, requires_grad: bool) -> Recipe:
    """The recipe of Values of `type_` that wait to be computed, nobody says how."""
    found = _opaque.get((type_, requires_grad))
    if found is None:
        found = Recipe(type_, requires_grad)
        found.leaf, found.opaque = leaf_recipe(type_, requires_grad), True
        found = _opaque.setdefault((type_, requires_grad), found)
    return found


def step_recipe(step: Step, requires_grad: bool, inputs: Sequence[Recipe]) -> Recipe:
    """A new recipe: `step` on results of `inputs`."""
    if next(_made) >= _CAPACITY:
        forget_recipes()
    return Recipe(step.type, requires_grad, step, inputs)


def recipe_of(value: Value) -> Recipe:
    """The recipe of `value`, made where there is none yet."""
    recipe: Recipe | None = value.recipe
    if recipe is None:
        if value.data is not None or value.step is None:
            recipe = leaf_recipe(value.type, value.requires_grad)
        else:
            recipe = opaque_recipe(value.type, value.requires_grad)
        value.recipe = recipe
    return recipe
