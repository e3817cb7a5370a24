"""Trees of arguments, and the names that guards find in code."""

from __future__ import annotations

import collections
import dataclasses
import gc
import weakref

import numpy as np
import pytest

import accel
from accel.frontend.tensors import trees
from accel.frontend.tracing.guards import is_scalar, same, snapshot
from accel.frontend.tracing.watching import names_read

Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass
class Point:
    x: object
    y: object
    cache: object = dataclasses.field(default=None, init=False)


@pytest.mark.parametrize(
    "tree",
    [1, None, [], (), {}, [1, [2, (3,)]], {"b": 1, "a": [2, None]}, Pair(1, [2]),
     Point([1], Pair(2, None)), collections.OrderedDict(x=1, y=(2, 3))],
)  # fmt: skip
def test_trees_come_back_as_they_were(tree):
    leaves, structure = trees.flatten(tree)
    rebuilt = trees.unflatten(structure, leaves)
    assert rebuilt == tree and type(rebuilt) is type(tree)
    assert hash(structure) == hash(trees.flatten(rebuilt)[1])
    assert len(trees.paths(tree)) == len(leaves)


def test_structures_tell_kinds_keys_and_lengths_apart():
    different = [(1, 2), [1, 2], {"a": 1, "b": 2}, {"a": 1, "c": 2}, Pair(1, 2), Point(1, 2),
                 [1, 2, None], [[1, 2]], [1, 2, 3]]  # fmt: skip
    assert len({trees.flatten(t)[1] for t in different}) == len(different)


def test_paths_name_every_leaf():
    tree = {"w": [1, 2], "p": Pair(3, Point(4, 5))}
    assert trees.paths(tree, "params") == [
        "params.w.0", "params.w.1", "params.p.a", "params.p.b.x", "params.p.b.y",
    ]  # fmt: skip


def test_scalars_are_compared_by_type_and_bits():
    nan = float("nan")
    assert same(nan, float("nan")) and same((1, (nan,)), (1, (nan,)))
    for a, b in [(1, True), (1, 1.0), (0.0, -0.0), (np.float32(1), 1.0), (None, 0), ((1,), [1])]:
        assert not same(a, b)
    assert is_scalar((1, "a", None)) and not is_scalar((1, []))


def test_snapshots_see_inside_containers():
    inner = {"scale": 1.0}
    held = [inner, "a", {2, 3}]
    before = snapshot(held)
    assert snapshot([inner, "a", {3, 2}]) == before
    inner["scale"] = 2.0
    assert snapshot(held) != before
    assert snapshot(held, frozenset([id(inner)])) != snapshot(held)
    endless = []
    endless.append(endless)
    assert snapshot(endless) == snapshot(endless)
    assert snapshot(list(range(20_000))) != snapshot(list(range(20_000)))  # by identity


def test_names_are_found_with_their_attributes():
    outer = 1

    def function(argument):
        def nested(x):
            return x + outer + trees.LEAF

        return nested(argument.scale.value) + accel.errors

    names = names_read(function.__code__)
    assert ("trees", ("LEAF",)) in names.globals and ("accel", ("errors",)) in names.globals
    assert ("outer", ()) in names.cells
    assert ("argument", ("scale", "value")) in names.arguments


def test_a_compiled_function_is_freed_with_its_last_user():
    state = accel.Tensor([1.0])
    function = accel.compile(lambda x: x + state)
    function(np.ones(1))
    kept = weakref.ref(next(iter(function._entries.values()))[0])
    del function
    gc.collect()
    assert kept() is None


def test_calls_leave_nothing_behind():
    weight = accel.Tensor([1.0], requires_grad=True)

    @accel.compile
    def step(x):
        weight.grad = None
        loss = (weight * x).sum()
        loss.backward()
        return loss

    def tensors():
        gc.collect()
        return sum(isinstance(o, accel.Tensor) for o in gc.get_objects())

    step(np.ones(1, np.float32))
    before = tensors()
    for _ in range(20):
        step(np.ones(1, np.float32))
    assert tensors() == before
