"""Objects of this frontend as native calls see them: where slots lie, and callables without a
Python method in between."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

__all__ = ["NativeCallable", "call_natively", "ending_slot", "keep_for_ever", "number_slot",
           "slot_offset"]  # fmt: skip

_HEADER = object.__basicsize__

# Fields of a slot's descriptor, and of the definition that it points to.
_DEFINITION, _NAME, _OFFSET = _HEADER + 24, 0, 16

_T_PYSSIZET, _READONLY = 19, 1
_TP_MEMBERS = 72
_DEFAULT, _BASETYPE, _HAVE_VECTORCALL = 1 << 18, 1 << 10, 1 << 11


def _read(address: int, kind: Any = ctypes.c_ssize_t) -> Any:
    return kind.from_address(address).value


def slot_offset(kind: type, name: str) -> int | None:
    """The byte offset of a slot (or member) in the instances of a class; None if unknown."""
    descriptor = next((c.__dict__[name] for c in kind.__mro__ if name in c.__dict__), None)
    if type(descriptor).__name__ != "member_descriptor":
        return None
    definition = _read(id(descriptor) + _DEFINITION)
    if _read(definition + _NAME, ctypes.c_char_p) != name.encode():
        return None
    return int(_read(definition + _OFFSET))


# Of a type, its table of operators; of the table, their places, and CPython's numbers for them.
_AS_NUMBER = 96
_OPERATORS = {
    "add": (0, 7), "subtract": (1, 36), "multiply": (2, 29), "remainder": (3, 34),
    "power": (5, 33), "negative": (6, 30), "absolute": (8, 6), "invert": (10, 27),
    "lshift": (11, 28), "rshift": (12, 35), "and": (13, 8), "xor": (14, 38), "or": (15, 31),
    "floor_divide": (29, 12), "true_divide": (30, 37), "matrix_multiply": (34, 75),
}  # fmt: skip


# Of a type, what ends its instances.
_DEALLOC = (48, 52)


def number_slot(kind: type, name: str) -> int | None:
    """Where a class has the address of what Python calls for an operator; None if unknown."""
    place, number = _OPERATORS[name]
    return _verified(kind, _read(id(kind) + _AS_NUMBER) + 8 * place, number)


def ending_slot(kind: type) -> int | None:
    """Where a class has the address of what ends its instances; None if unknown."""
    place, number = _DEALLOC
    return _verified(kind, id(kind) + place, number)


def _verified(kind: type, at: int, number: int) -> int | None:
    """`at`, if what lies there is the slot that CPython knows by `number`."""
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)
    known = prototype(("PyType_GetSlot", ctypes.pythonapi))(kind, number)
    return at if known and _read(at) == known else None


def keep_for_ever(kept: Any) -> None:
    """Never free what code may still refer to that runs when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


class _Member(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(_Slot)),
    )  # fmt: skip


def _base() -> Any:
    """A class whose instances have room for the address of a native call."""
    if sys.implementation.name != "cpython" or "free-threading" in sys.version:
        return object
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _T_PYSSIZET, _HEADER, _READONLY))
    slots = (_Slot * 2)(_Slot(_TP_MEMBERS, ctypes.addressof(members)))
    spec = _Spec(b"accel.frontend.native_objects.Base", _HEADER + ctypes.sizeof(ctypes.c_void_p), 0,
                 _DEFAULT | _BASETYPE, slots)  # fmt: skip
    _kept.extend([members, slots, spec])
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_Spec))
    return prototype(("PyType_FromSpec", ctypes.pythonapi))(spec)


_kept: list[Any] = []
_Base: Any = _base()


class NativeCallable(_Base):  # type: ignore[misc]
    """Base of classes with a `__call__` in Python that instances may overtake natively.

    Attributes
    ----------
    _native
        What the native call reads.
    """

    __slots__ = ("_native",)


def call_natively(callable_: NativeCallable, address: int) -> bool:
    """Let calls of `callable_` go to the machine code at `address`; False if they cannot.

    Python asks an instance for such an address where its class says that there is one. A class
    made by a `class` statement does not say so by itself.
    """
    kind = type(callable_)
    flags = slot_offset(type, "__flags__")
    if _Base is object or flags is None:
        return False
    word = ctypes.c_ulong.from_address(id(kind) + flags)
    if word.value != kind.__flags__:
        return False
    word.value |= _HAVE_VECTORCALL
    ctypes.c_void_p.from_address(id(callable_) + _HEADER).value = address
    return True
