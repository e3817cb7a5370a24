"""Weights that stay: what a compiled function reads from outside and packs once for many calls.

Where the Tensors that a function captures have held the same values for some calls, it gets a
second plan, whose program has packed them beforehand. That plan holds for these very values: as
values are immutable, and the plan keeps them, nothing else has to be compared. Where a weight has
changed, calls go by the first plan, as before, and the second one is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...log import is_heard, logger
from ..tensors.values import Value
from .native_plans import FOREVER, Plan, Unsupported, plan_of
from .references import TensorReference, ValueReference
from .specialization import Specialization

__all__ = ["Weights"]

#: Calls after which weights that are still the same are packed; what keeps changing is looked at
#: ever less often.
_SOON, _RARELY = 16, 1 << 20

#: Bytes of a weight from which on packing it is worth a thought.
_LEAST = 1 << 14


class Weights:
    """The weights of one specialisation, and the plan for those that it has at present.

    Attributes
    ----------
    plan
        The plan whose program has packed them; None while there is none.
    patience
        How many calls the plan for any weights is to serve before `look` is called again: none
        where these are packed, so that packed ones are given up as soon as they are stale.
    """

    def __init__(self, entry: Specialization) -> None:
        written = {id(getattr(w.target, "__self__", None)) for w in entry._writes}
        self._entry = entry
        self._read = [
            (number, reference) for number, reference in enumerate(entry.references)
            if isinstance(reference, (TensorReference, ValueReference))
            and reference.type.nbytes >= _LEAST and id(reference) not in written
        ]  # fmt: skip
        self._seen = _identities(self._present())
        self.plan: Plan | None = None
        self.patience = _SOON if self._read else FOREVER

    def look(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Plan | None:
        """The plan for the weights as they are, once they have stayed what they were; None where
        they have not, or where there is nothing to pack."""
        present = self._present()
        before, self._seen = self._seen, _identities(present)
        if before != self._seen:
            self.patience = min(2 * self.patience, _RARELY) if self.plan is None else _SOON
            self.plan = None
        elif self.plan is None:
            self.plan = self._packed(present, args, kwargs)
            self.patience = 0 if self.plan else FOREVER
        return self.plan

    def _present(self) -> dict[int, Value]:
        """The values of the inputs, by number, that come from outside and lie in memory that
        nobody else writes."""
        found = {number: reference.value(()) for number, reference in self._read}
        return {n: v for n, v in found.items() if v is not None and _is_own(v.data)}

    def _packed(
        self, present: dict[int, Value], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Plan | None:
        buffers = {number: value.data for number, value in present.items()}
        try:
            executable = self._entry.executable.keeping(buffers)
            if executable is None:
                return None
            plan = plan_of(self._entry, args, kwargs, executable, present)
        except (Unsupported, MemoryError):
            return None
        if is_heard():
            names = ", ".join(self._entry.references[number].name for number in present)
            logger().info("[accel] unchanged for some calls, packed for the next ones: %s", names)
        return plan


def _identities(values: dict[int, Value]) -> dict[int, int]:
    """What tells values apart without keeping them."""
    return {number: id(value) for number, value in values.items()}


def _is_own(data: Any) -> bool:
    """Whether a value's data is an array that is not shared with what is not accel's: such are
    read-only views."""
    return type(data) is np.ndarray and data.flags.writeable and data.flags.c_contiguous
