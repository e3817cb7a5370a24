"""Native calls of compiled functions.

A call that Python has served for the second time leaves a plan (`native_plans`): what must hold
for the specialisation to be used again, where its inputs lie, what becomes of its outputs. From
then on `accel_call` (`targets.pure.native.call_text`) serves calls that fit, and hands all others
to Python as before. What a plan cannot say (trees of arguments, results that gradients flow
through) stays with Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import forking
from ...runtime import state as runtime_state
from ..native.objects import NativeCallable, call_natively
from ..native.world import address, world
from .native_plans import Plan, Unsupported, plan_of
from .specialization import Specialization
from .weights import Weights

__all__ = ["NativeCalls"]

#: Plans kept for one function.
_CAPACITY = 64


class NativeCalls:
    """The plans of one compiled function."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []
        self._hits = np.zeros(1, np.int64)
        self._lock = forking.lock()

    @property
    def hits(self) -> int:
        """How many calls they have served."""
        return int(self._hits[0])

    def clear(self, function: NativeCallable) -> None:
        """Forget all plans and the count."""
        with self._lock:
            self._plans = []
            self._hits[0] = 0
            if function._native is not None:
                self._use(function)

    def learn(
        self, function: NativeCallable, entry: Specialization, args: Sequence[Any],
        kwargs: dict[str, Any], state: runtime_state.State,
    ) -> None:  # fmt: skip
        """Take over calls like this one, which `entry` has just served under `state`."""
        with self._lock:
            if entry.native is None:
                plan = _plan(entry, args, kwargs)
                if isinstance(plan, Plan):
                    entry.weights = Weights(entry)
                    plan.left = entry.weights.patience
                    self._add(function, plan)
                entry.native = plan
            if not entry.native:
                return
            if entry.native.left == 0:
                self._look(function, entry, args, kwargs)
            for plan in (entry.native, entry.weights.plan):
                if plan is not None:
                    plan.settle(state, entry.epoch)

    def _look(
        self, function: NativeCallable, entry: Specialization, args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        """See whether the weights of `entry` have stayed the same, or no longer have."""
        before = entry.weights.plan
        plan = entry.weights.look(args, kwargs)
        entry.native.left = entry.weights.patience
        if plan is None and before is not None:
            self._plans = [p for p in self._plans if p is not before]
            self._use(function)
        elif plan is not before:
            self._add(function, plan)

    def _add(self, function: NativeCallable, plan: Plan) -> None:
        """Try `plan` before the others; those that leave do not come back."""
        self._plans = [plan, *self._plans][:_CAPACITY]
        self._use(function)
        shared = world()
        assert shared is not None
        call_natively(function, shared.entry)

    def _use(self, function: NativeCallable) -> None:
        function._native = _dispatch(self._plans, self._hits)  # before anything reads it


def _plan(entry: Specialization, args: Sequence[Any], kwargs: dict[str, Any]) -> Plan | bool:
    """The plan for calls like this one; False where there can be none."""
    if getattr(entry.executable, "native_run", None) is None or world() is None:
        return False
    try:
        return plan_of(entry, args, kwargs)
    except Unsupported:
        return False


def _dispatch(plans: Sequence[Plan], hits: np.ndarray) -> Any:
    """The block of a compiled function with these plans."""
    from ...targets.pure.native.api import Block
    from ...targets.pure.native.layout import DISPATCH, PLAN
    from ...targets.pure.native.text import RUN

    shared = world()
    assert shared is not None
    table = np.array([*(address(p.block) for p in plans), 0], np.int64)
    most = {"bases": 1, "results": 1, "writes": 1}
    for plan in plans:
        run = plan.block.kept[0]
        size = sum(int(run[RUN.index(n)]) for n in ("inputs", "outputs", "constants")) + 1
        most["bases"] = max(most["bases"], size)
        for name in ("results", "writes"):
            most[name] = max(most[name], int(plan.block[PLAN.index(name)]))
    words = {"world": address(shared.block), "plans": address(table), "count": len(plans),
             "hits": address(hits), **most}  # fmt: skip
    return Block.of([words[n] for n in DISPATCH], [table, hits, [p.block for p in plans], shared])
