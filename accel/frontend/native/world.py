"""What all native calls share: where this frontend's objects lie, and the code that knows it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import forking
from ...ir.dtypes import float32
from ...ir.types import TensorType
from ...runtime import state as runtime_state
from ..tensors import module_state
from ..tensors.tensor import Tensor
from ..tensors.values import Value
from .objects import NativeCallable, ending_slot, keep_for_ever, slot_offset

__all__ = ["World", "address", "world"]


def address(array: np.ndarray) -> int:
    """The address of an array's data."""
    return int(array.__array_interface__["data"][0])


class World:
    """Objects that emitted code knows, and its address."""

    def __init__(
        self, usual: Sequence[tuple[Any, tuple[str, ...]]], offsets: dict[str, dict[str, int]]
    ) -> None:
        with forking.unforked():
            from ...targets.pure.machine.jit import compile_described
            from ...targets.pure.native.api import Block, interface
            from ...targets.pure.native.call_text import call_text
            from ...targets.pure.native.layout import WORLD, Layout

        table = np.array([*(id(value) for value, _ in usual), 0], np.int64)
        dispatch = slot_offset(NativeCallable, "_native")
        assert dispatch is not None
        groups = tuple(names for _, names in usual)
        layout = Layout(offsets["tensor"], offsets["value"], groups, dispatch)
        variable, settings = runtime_state.cells()
        objects = {
            "variable": variable, "settings": settings, "epoch": module_state.cell(),
            "none": None, "true": True, "false": False, "float": float, "tuple": tuple,
            "tensor": Tensor, "value": Value, "method": "__call__",
        }  # fmt: skip
        words = {name: id(value) for name, value in objects.items()}
        words |= {"interface": address(interface()), "usual": address(table)}
        kept = [objects, usual, table, interface()]
        self.block = Block.of([words[name] for name in WORLD], kept)
        self._code = compile_described(f"native call {layout}", partial(call_text, layout))
        self.entry = self._code.address("accel_call")
        self._end_tensors()

    def _end_tensors(self) -> None:
        """Let Tensors be ended by emitted code, which lays some by for results to come."""
        at = ending_slot(Tensor)
        if at is None:
            return
        for kept in (self._code, self.block):
            keep_for_ever(kept)
        find = ctypes.PYFUNCTYPE(ctypes.c_void_p)(self._code.address("accel_world"))
        ctypes.c_void_p.from_address(find() or 0).value = address(self.block)
        ctypes.c_void_p.from_address(at).value = self._code.address("accel_end_tensor")


_LOCK = forking.lock()


def world() -> World | None:
    """What emitted code must know of this process; None where it cannot be known."""
    with _LOCK:  # of two racing copies one would be unmapped while it runs
        return _known_world()


@functools.cache
def _known_world() -> World | None:
    from ...targets.pure.native.api import available

    if not available():
        return None
    sample, other = (
        Tensor._of(Value(TensorType(float32, (1,)), data=np.zeros(1, np.float32)))
        for _ in range(2)
    )
    tensor = {name: slot_offset(Tensor, name) for name in ("_value", "_grad")}
    names = [s for s in Value.__slots__ if s != "__weakref__"]
    value = {name: slot_offset(Value, name) for name in names}
    usual = {n: getattr(sample._value, n) for n in names
             if n not in ("data", "type", "requires_grad", "owner")}  # fmt: skip
    known = set(Tensor.__slots__) == {"__weakref__", *tensor}
    known = known and all(not v and v is getattr(other._value, n) for n, v in usual.items())
    offsets = {"tensor": tensor, "value": value}
    for kind, fields, objects in ((Tensor, tensor, sample), (Value, value, sample._value)):
        known = known and all(_lies(objects, offset, name) for name, offset in fields.items())
        fields["__weakref__"] = kind.__weakrefoffset__
    objects_ = {id(v): v for v in usual.values()}
    groups = [(v, tuple(n for n in usual if usual[n] is v)) for v in objects_.values()]
    return World(groups, offsets) if known else None  # type: ignore[arg-type]


def _lies(owner: Any, offset: int | None, name: str) -> bool:
    """Whether the slot `name` of an object lies at `offset`."""
    if offset is None:
        return False
    return ctypes.c_ssize_t.from_address(id(owner) + offset).value == id(getattr(owner, name))
