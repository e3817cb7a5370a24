"""CPython's and NumPy's C interfaces as emitted code uses them: addresses and layouts.

Emitted code has no undefined symbols and no addresses of its own, so that it can be kept on
disk. It finds functions and objects in one table, `interface()`, whose address every block of
words begins with. Objects are read where their structs lie in the interpreters and NumPys that we
know; everything read is verified on samples first, and on any doubt there are no native calls.
``ACCEL_NATIVE_CALLS=0`` says the same.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import forking
from .entry import pointer

__all__ = ["ARRAY", "CELL", "FLOAT", "FUNCTIONS", "HEADER", "LIST", "OBJECTS", "TUPLE", "Block",
           "available", "builtin", "handled", "interface"]  # fmt: skip

#: Bytes of an object's header: reference count and type.
HEADER = 16

#: Byte offsets of the fields of an array object.
ARRAY = {"data": HEADER, "ndim": HEADER + 8, "dims": HEADER + 16, "strides": HEADER + 24,
         "dtype": HEADER + 40, "flags": HEADER + 48, "weakrefs": HEADER + 56,
         "handler": HEADER + 72}  # fmt: skip

#: Fields of other objects.
CELL = {"content": HEADER}
FLOAT = {"value": HEADER}
LIST = {"items": HEADER + 8}
TUPLE = {"size": HEADER, "items": HEADER + 8}

#: Objects in the table, in front of the functions.
OBJECTS = ("ndarray",)

#: Functions in the table: return type and parameter types, as LLVM spells them.
FUNCTIONS = {
    "PyArray_NewFromDescr": ("ptr", "ptr", "ptr", "i32", "ptr", "ptr", "ptr", "i32", "ptr"),
    "PyContextVar_Get": ("i32", "ptr", "ptr", "ptr"),
    "PyDict_GetItemWithError": ("ptr", "ptr", "ptr"),
    "PyDict_Next": ("i32", "ptr", "ptr", "ptr", "ptr"),
    "PyErr_Clear": ("void",),
    "PyEval_RestoreThread": ("void", "ptr"),
    "PyEval_SaveThread": ("ptr",),
    "PyFunction_GetDefaults": ("ptr", "ptr"),
    "PyFunction_GetKwDefaults": ("ptr", "ptr"),
    "PyGC_Disable": ("i32",),
    "PyGC_Enable": ("i32",),
    "PyList_New": ("ptr", "i64"),
    "PyList_SetItem": ("i32", "ptr", "i64", "ptr"),
    "PyObject_ClearWeakRefs": ("void", "ptr"),
    "PyObject_GC_Del": ("void", "ptr"),
    "PyObject_GC_Track": ("void", "ptr"),
    "PyObject_GC_UnTrack": ("void", "ptr"),
    "PyObject_GetItem": ("ptr", "ptr", "ptr"),
    "PyObject_RichCompareBool": ("i32", "ptr", "ptr", "i32"),
    "PyObject_VectorcallDict": ("ptr", "ptr", "ptr", "i64", "ptr"),
    "PyObject_VectorcallMethod": ("ptr", "ptr", "ptr", "i64", "ptr"),
    "PyTuple_New": ("ptr", "i64"),
    "PyTuple_SetItem": ("i32", "ptr", "i64", "ptr"),
    "PyType_GenericAlloc": ("ptr", "ptr", "i64"),
    "PyWeakref_NewRef": ("ptr", "ptr", "ptr"),
    "Py_DecRef": ("void", "ptr"),
    "Py_IncRef": ("void", "ptr"),
}  # fmt: skip

#: Places of PyArray_NewFromDescr and PyDataMem_GetHandler in NumPy's table of functions, which is
#: part of its ABI.
_NEW_FROM_DESCR, _GET_HANDLER = 94, 305
_METH_FASTCALL = 0x0080


class Block(np.ndarray):
    """Words that emitted code reads. What their addresses point to lives as long as they do."""

    kept: list[Any]

    @classmethod
    def of(cls, words: list[int], kept: list[Any]) -> Block:
        """A block of `words`, which keeps `kept` alive."""
        block = np.array(words, np.int64).view(cls)
        block.kept = kept
        return block


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


@functools.cache
def available() -> bool:
    """Whether this process makes native calls."""
    if os.environ.get("ACCEL_NATIVE_CALLS", "").strip() == "0":
        return False
    if sys.implementation.name != "cpython" or not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return False
    if "free-threading" in sys.version or hasattr(sys, "gettotalrefcount"):
        return False  # headers of another form
    if ctypes.sizeof(ctypes.c_void_p) != 8 or object.__basicsize__ != HEADER:
        return False
    return _arrays_lie_as_known() and _others_lie_as_known() and interface().size > 0


@functools.cache
def handled() -> bool:
    """Whether arrays say where we know it which memory handler (NEP 49) gives back their data."""
    if not available() or np.ndarray.__basicsize__ < ARRAY["handler"] + 8:
        return False
    current = ctypes.PYFUNCTYPE(ctypes.py_object)(_numpy_table()[_GET_HANDLER])()
    found = (_read(ctypes.c_ssize_t, id(a) + ARRAY["handler"]) for a in (np.empty(5), np.empty(0)))
    return all(word == id(current) for word in found)


def _read(kind: Any, address: int) -> Any:
    return kind.from_address(address).value


def _arrays_lie_as_known() -> bool:
    samples: list[np.ndarray] = [
        np.arange(5), np.zeros((3, 4), np.float32)[1:, ::2], np.array(2.5), np.zeros((0, 3), bool)
    ]  # fmt: skip
    for array in samples:
        at = id(array)
        extents, strides = (
            tuple(_read(ctypes.c_ssize_t, table + 8 * i) for i in range(array.ndim))
            for table in (_read(ctypes.c_ssize_t, at + ARRAY[n]) for n in ("dims", "strides"))
        )
        fields = (
            _read(ctypes.c_ssize_t, at + 8), _read(ctypes.c_ssize_t, at + ARRAY["data"]),
            _read(ctypes.c_int, at + ARRAY["ndim"]), extents, strides,
            _read(ctypes.c_ssize_t, at + ARRAY["dtype"]), _read(ctypes.c_int, at + ARRAY["flags"]),
            _read(ctypes.c_ssize_t, at + ARRAY["weakrefs"]),
        )  # fmt: skip
        known = (id(np.ndarray), pointer(array), array.ndim, array.shape, array.strides,
                 id(array.dtype), array.flags.num, 0)  # fmt: skip
        if fields != known:
            return False
    reference = weakref.ref(samples[0])
    return bool(_read(ctypes.c_ssize_t, id(samples[0]) + ARRAY["weakrefs"]) == id(reference))


def _others_lie_as_known() -> bool:
    elements = [object(), object()]
    cell = (lambda: elements).__closure__[0]  # type: ignore[index]
    items = _read(ctypes.c_ssize_t, id(elements) + LIST["items"])
    pair, number = tuple(elements), 2.5
    return (
        [_read(ctypes.c_ssize_t, items + 8 * i) for i in (0, 1)] == [id(e) for e in elements]
        and _read(ctypes.c_ssize_t, id(pair) + TUPLE["size"]) == 2
        and _read(ctypes.c_ssize_t, id(pair) + TUPLE["items"] + 8) == id(elements[1])
        and _read(ctypes.c_ssize_t, id(cell) + CELL["content"]) == id(elements)
        and _read(ctypes.c_double, id(number) + FLOAT["value"]) == number
    )


@functools.cache
def interface() -> np.ndarray:
    """The table: addresses of `OBJECTS`, then of `FUNCTIONS`; empty where one is missing."""
    numpy_table = _numpy_table()
    if numpy_table is None:
        return np.empty(0, np.int64)
    functions = {"PyArray_NewFromDescr": numpy_table[_NEW_FROM_DESCR]}
    for name in FUNCTIONS:
        if name not in functions:
            found = getattr(ctypes.pythonapi, name, None)
            functions[name] = ctypes.cast(found, ctypes.c_void_p).value if found else None
    objects = {"ndarray": id(np.ndarray)}
    addresses = [*(objects[n] for n in OBJECTS), *(functions[n] for n in FUNCTIONS)]
    return np.array(addresses if all(addresses) else [], np.int64)


def _numpy_table() -> Any:
    """NumPy's C functions by their place in its ABI."""
    core: Any
    try:
        core = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:  # NumPy 1
        core = importlib.import_module("numpy.core._multiarray_umath")
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    address = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))(core._ARRAY_API, None)
    table = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))
    return table if table[2] == id(np.ndarray) else None


_LOCK = forking.lock()
_methods: dict[int, _MethodDef] = {}


def builtin(address: int, block: Block) -> Any:
    """A built-in function of positional arguments: the code at `address` with `block` as self."""
    with _LOCK:  # method definitions live as long as the code: for ever
        if address not in _methods:
            _methods[address] = _MethodDef(b"native", address, _METH_FASTCALL, None)
        method = _methods[address]
    return _new_builtin()(ctypes.addressof(method), block, None)


@functools.cache
def _new_builtin() -> Callable[..., Any]:
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
    )
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))
