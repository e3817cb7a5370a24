"""Native recording: operators, functions and evaluations of undecorated code, where it was met.

Once undecorated code repeats itself, emitted code (`targets.pure.native_recording_text`) takes
over: Tensor's operators in the slots where Python looks for them, the functions that `recording`
lists, and the evaluation of trees whose recipes carry words. What it does not know goes to the
Python code that it took over from, which stays the definition. A class that derives from Tensor
has slots of its own, and a method that somebody replaces puts Python's code back.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import forking
from ...runtime import state as runtime_state
from ...runtime.statistics import STATISTICS, Snapshot
from ..functions.operators import operators
from ..tensors.evaluation import TAKE_OVER
from ..tensors.plans import Plan
from ..tensors.recipes import Recipe, transitions_of
from ..tensors.recording import OVERTAKEN
from ..tensors.shortcuts import Shortcut
from ..tensors.tensor import Tensor
from ..tensors.values import Value
from .objects import keep_for_ever, number_slot, slot_offset
from .world import address

__all__ = ["evaluator", "tree_words"]

#: Inner Values and leaves of the largest tree that is evaluated natively.
_LARGEST = 256

Evaluator = Callable[[Value, Any], bool]


def tree_words(recipe: Recipe, shortcut: Shortcut) -> Any:
    """The words by which trees of `recipe` are evaluated, False where Python must do it."""
    from ...targets.pure.native.api import Block
    from ...targets.pure.native.recording_text import TREE

    plan, pick, results = shortcut
    paths = recipe.paths or ()
    if recipe.requires_grad or len(results) != 1 or results[0][:2] != (0, 0):
        return False
    if len(paths) > _LARGEST:
        return False
    leaf = results[0][2]
    picks = np.array(pick if pick is not None else range(recipe.leaves), np.int64)
    rows = np.array([*paths, (0, 0, 0)], np.int64)
    words = {
        "plan": id(plan), "paths": len(paths), "rows": address(rows),
        "inner": 1 + sum(not leaf for _, _, leaf in paths), "leaves": recipe.leaves,
        "inputs": len(picks), "picks": address(picks), "leaf": id(leaf),
    }  # fmt: skip
    return Block.of([words[name] for name in TREE], [plan, rows, picks, leaf])


_LOCK = forking.lock()


def evaluator() -> Evaluator | None:
    """What evaluates Values whose recipes carry words; None where nothing is known of this process.

    With the first call emitted code takes over.
    """
    with _LOCK:
        return _take_over()


@functools.cache
def _take_over() -> Evaluator | None:
    from ...targets.pure.native.api import available

    slots = _slots() if available() else None
    if slots is None:
        return None
    from ...targets.pure.machine.jit import compile_module
    from ...targets.pure.native import api as native_api
    from ...targets.pure.native.recording_text import OPERATION, SLOTS, recording_text

    code = compile_module(recording_text(slots))
    recorder = _recorder()
    keep_for_ever(code)

    def operation(name: str, forward: Any, backward: Any) -> Any:
        table = transitions_of(name)
        words = {"recorder": address(recorder), "table": id(table), "forward": id(forward),
                 "backward": id(backward)}  # fmt: skip
        kept = [recorder, table, forward, backward]
        block = native_api.Block.of([words[n] for n in OPERATION], kept)
        keep_for_ever(block)
        return block

    find = ctypes.PYFUNCTYPE(ctypes.c_void_p)(code.address("accel_slots"))
    blocks = (ctypes.c_void_p * len(SLOTS)).from_address(find() or 0)
    for slot, name, forward, backward in operators():
        at = number_slot(Tensor, slot)
        if at is None:
            continue
        blocks[list(SLOTS).index(slot)] = address(operation(name, forward, backward))
        ctypes.c_void_p.from_address(at).value = code.address(f"slot_{slot}")
    for name, function, take_over in OVERTAKEN:
        block = operation(name, function, function)
        take_over(native_api.builtin(code.address("accel_apply"), block))
    return native_api.builtin(code.address("accel_evaluate"), recorder)  # type: ignore[no-any-return]


def _recorder() -> Any:
    """The words that all emitted code of this module shares."""
    from ...targets.pure.native.api import Block, interface
    from ...targets.pure.native.recording_text import RECORDER

    variable, _ = runtime_state.cells()
    hits = Snapshot._fields.index("cache_hits")
    objects = {
        "variable": variable, "none": None, "true": True, "false": False,
        "refused": NotImplemented, "nothing": (), "tensor": Tensor, "value": Value,
        "recipe": Recipe, "float": float, "int": int, "bool": bool, "block": Block,
    }  # fmt: skip
    words = {name: id(value) for name, value in objects.items()}
    words |= {"interface": address(interface()), "hits": address(STATISTICS.native) + 8 * hits}
    block = Block.of([words[name] for name in RECORDER], [objects, interface(), STATISTICS])
    keep_for_ever(block)
    return block


def _slots() -> Any:
    """Where the slots of this frontend's objects lie; None if that is unknown."""
    from ...targets.pure.native.recording_text import Slots

    found: list[dict[str, int]] = []
    for kind in (Tensor, Value, Recipe, Plan):
        names = [s for s in kind.__slots__ if s != "__weakref__"]
        offsets = {name: slot_offset(kind, name) for name in names}
        known = {name: offset for name, offset in offsets.items() if offset is not None}
        if known.keys() != offsets.keys():
            return None
        found.append(known)
    return Slots(*found)


def _take_over_tree(recipe: Recipe, shortcut: Shortcut) -> tuple[Evaluator | None, Any]:
    """See `TAKE_OVER`."""
    native = evaluator()
    return native, native is not None and tree_words(recipe, shortcut)


TAKE_OVER.append(_take_over_tree)
