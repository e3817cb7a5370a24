"""The native entry as LLVM IR: calls of compiled code with no Python in between.

The code is generic: it is compiled once and kept on disk, and what differs between calls lies in
blocks of 64-bit words, whose fields are named here.

``ptr accel_run_arrays(ptr self, ptr arguments, i64 count)`` is a built-in function. Its `self` is
the block (`RUN`) of a run: arrays of the expected dtypes and shapes in, a list of fresh arrays
out. With anything else it calls the block's fallback, which is Python.

``i64 accel_execute(ptr run, ptr bases, ptr results)`` is what it shares with `accel_call`
(`call_text`).
"""

from __future__ import annotations

import sys

from ..machine.llvm_text import Function, module_text
from .api import ARRAY, FUNCTIONS, OBJECTS

__all__ = ["DONE", "FAILED", "INLINE", "RAISED", "RUN", "SPEC", "Native", "native_functions",
           "native_text"]  # fmt: skip

#: Words of the block of a run; the names in plural are addresses of tables.
RUN = (
    "interface", "fallback", "arguments", "inputs", "outputs", "constants", "driver", "program",
    "records", "unlock", "arena", "busy", "new_arena", "counters", "input_specs", "output_specs",
    "constant_data", "order", "counts", "statistics",
)  # fmt: skip

#: Words of what is said of an array. `place` is the argument's; `allocator` is for outputs.
SPEC = ("place", "dtype", "ndim", "dims", "allocator")

#: What `accel_execute` returns: done; a check failed and nothing is kept; an exception is set.
DONE, FAILED, RAISED = 0, 1, 2

# C-contiguous and aligned.
_PLAIN = 0x0001 | 0x0100


#: Of an internal function that is on the way of every call: its code stands where it is called.
INLINE = "alwaysinline nounwind"


class Native(Function):
    """A function that knows blocks of words and the table of interfaces."""

    def word(self, block: str, fields: tuple[str, ...], name: str, type_: str = "i64") -> str:
        """A word of a block."""
        return self.load(type_, self.gep(block, 8 * fields.index(name)), 8)

    def item(self, table: str, index: str | int, type_: str = "i64") -> str:
        """A word of a table."""
        return self.load(type_, self.gep(table, index, "i64"), 8)

    def field(self, object_: str, offset: int, type_: str = "ptr") -> str:
        """A field of an object."""
        return self.load(type_, self.gep(object_, offset), 4 if type_ == "i32" else 8)

    def object_named(self, interface: str, name: str) -> str:
        """An object of the interface."""
        return self.item(interface, OBJECTS.index(name), "ptr")

    def api(self, interface: str, name: str, *arguments: str | int) -> str:
        """Call a function of the interface."""
        result, *types = FUNCTIONS[name]
        address = self.item(interface, len(OBJECTS) + list(FUNCTIONS).index(name), "ptr")
        given = ", ".join(f"{t} {a}" for t, a in zip(types, arguments, strict=True))
        if result == "void":
            self.do(f"call void {address}({given})")
            return ""
        return self.op(f"call {result} {address}({given})")

    def incref(self, object_: str, count: int = 1) -> None:
        """Take `count` references. From Python 3.12 on the count has 32 bits, and objects in whose
        count all are set live for ever."""
        if sys.version_info < (3, 12):
            self.store("i64", self.integer("add", self.load("i64", object_, 8), count), object_, 8)
            return
        before = self.load("i32", object_, 8)
        after = self.op(f"add i32 {before}, {count}")
        immortal = self.op(f"icmp ult i32 {after}, {before}")
        after = self.op(f"select i1 {immortal}, i32 {before}, i32 {after}")
        self.store("i32", after, object_, 8)

    def decref(self, interface: str, object_: str) -> None:
        """Give up a reference, if there is one; the last one, and those of objects that live for
        ever, by Python's own function."""
        given, last, done = (self.label(name) for name in ("given", "last", "done"))
        self.cond_br(self.same(object_, "null"), done, given)
        self.block(given)
        count = "i64" if sys.version_info < (3, 12) else "i32"
        before = self.load(count, object_, 8)
        more = self.label("more")
        self.cond_br(self.op(f"icmp slt {count} {before}, 2"), last, more)
        self.block(more)
        self.store(count, self.op(f"sub {count} {before}, 1"), object_, 8)
        self.br(done)
        self.block(last)
        self.api(interface, "Py_DecRef", object_)
        self.br(done)
        self.block(done)

    def clear(self, table: str, count: str) -> None:
        """Fill a table with nulls, so that it can be released at any time."""
        with self.loop(0, count) as loop:
            self.store("ptr", "null", self.gep(table, loop.index, "i64"), 8)

    def same(self, a: str, b: str) -> str:
        """Whether two pointers are equal."""
        return self.op(f"icmp eq ptr {a}, {b}")

    def go_unless(self, condition: str, label: str) -> None:
        """Go to `label` unless `condition` holds."""
        on = self.label("on")
        self.cond_br(condition, on, label)
        self.block(on)

    def go_if(self, condition: str, label: str) -> None:
        """Go to `label` if `condition` holds."""
        on = self.label("on")
        self.cond_br(condition, label, on)
        self.block(on)


def native_text() -> str:
    """The module of `accel_run_arrays`."""
    return module_text([*native_functions(), _run_arrays()])


def native_functions() -> list[Native]:
    """`accel_execute`, and what it and its callers need."""
    return [_array_data(), _release(), _new_array(), _bases(), _execute()]


def _array_data() -> Native:
    """Where an array's data lie; null unless it is a plain array as the spec says."""
    fn = Native("array_data", [("ptr", "interface"), ("ptr", "object"), ("ptr", "spec")], "ptr",
                attrs=INLINE, linkage="internal")  # fmt: skip
    other = "other"
    kind = fn.field("%object", 8)
    fn.go_unless(fn.same(kind, fn.object_named("%interface", "ndarray")), other)
    dtype = fn.field("%object", ARRAY["dtype"])
    fn.go_unless(fn.same(dtype, fn.word("%spec", SPEC, "dtype", "ptr")), other)
    flags = fn.op(f"and i32 {fn.field('%object', ARRAY['flags'], 'i32')}, {_PLAIN}")
    fn.go_unless(fn.op(f"icmp eq i32 {flags}, {_PLAIN}"), other)
    ndim = fn.op(f"sext i32 {fn.field('%object', ARRAY['ndim'], 'i32')} to i64")
    fn.go_unless(fn.icmp("eq", ndim, fn.word("%spec", SPEC, "ndim")), other)
    dims, wanted = fn.field("%object", ARRAY["dims"]), fn.word("%spec", SPEC, "dims", "ptr")
    with fn.loop(0, ndim) as loop:
        fn.go_unless(fn.icmp("eq", fn.item(dims, loop.index), fn.item(wanted, loop.index)), other)
    fn.do(f"ret ptr {fn.field('%object', ARRAY['data'])}")
    fn.block(other)
    fn.do("ret ptr null")
    return fn


def _release() -> Native:
    """Give up the references of a table."""
    fn = Native("release", [("ptr", "interface"), ("ptr", "objects"), ("i64", "count")],
                attrs=INLINE, linkage="internal")  # fmt: skip
    with fn.loop(0, "%count") as loop:
        fn.decref("%interface", fn.item("%objects", loop.index, "ptr"))
    fn.do("ret void")
    return fn


def _new_array() -> Native:
    """A fresh array as the spec says; null with an exception set."""
    fn = Native("new_array", [("ptr", "interface"), ("ptr", "spec")], "ptr", linkage="internal")
    allocator = fn.word("%spec", SPEC, "allocator", "ptr")
    fn.go_if(fn.op(f"icmp ne ptr {allocator}, null"), "allocate")
    dtype = fn.word("%spec", SPEC, "dtype", "ptr")
    fn.incref(dtype)  # the array takes it over
    ndim = fn.op(f"trunc i64 {fn.word('%spec', SPEC, 'ndim')} to i32")
    made = fn.api(
        "%interface", "PyArray_NewFromDescr", fn.object_named("%interface", "ndarray"), dtype,
        ndim, fn.word("%spec", SPEC, "dims", "ptr"), "null", "null", 0, "null",
    )  # fmt: skip
    fn.do(f"ret ptr {made}")
    fn.block("allocate")
    made = fn.api("%interface", "PyObject_VectorcallDict", allocator, "null", 0, "null")
    fn.do(f"ret ptr {made}")
    return fn


def _bases() -> Native:
    """How many words the table of bases has."""
    fn = Native("table_size", [("ptr", "run")], "i64", attrs=INLINE, linkage="internal")
    counts = [fn.word("%run", RUN, name) for name in ("inputs", "outputs", "constants")]
    total = fn.integer("add", fn.integer("add", counts[0], counts[1]), counts[2])
    fn.do(f"ret i64 {fn.integer('add', total, 1)}")
    return fn


def _execute() -> Native:
    """Run on the inputs in `bases`: outputs that are not in `results` are made and left there."""
    fn = Native("accel_execute", [("ptr", "run"), ("ptr", "bases"), ("ptr", "results")], "i64",
                attrs=INLINE, linkage="internal")  # fmt: skip
    interface = fn.word("%run", RUN, "interface", "ptr")
    inputs, outputs = fn.word("%run", RUN, "inputs"), fn.word("%run", RUN, "outputs")
    specs = fn.word("%run", RUN, "output_specs", "ptr")
    behind = fn.gep("%bases", inputs, "i64")
    with fn.loop(0, outputs) as loop:
        place = fn.gep("%results", loop.index, "i64")
        given = fn.load("ptr", place, 8)
        before, make, ready = fn.block_name, fn.label("make"), fn.label("ready")
        fn.cond_br(fn.same(given, "null"), make, ready)
        fn.block(make)
        spec = fn.gep(specs, fn.integer("mul", loop.index, len(SPEC)), "i64")
        made = fn.op(f"call ptr @new_array(ptr {interface}, ptr {spec})")
        fn.store("ptr", made, place, 8)
        fn.go_if(fn.same(made, "null"), "raised")
        last = fn.block_name
        fn.br(ready)
        fn.block(ready)
        array = fn.phi("ptr", (given, before), (made, last))
        fn.store("ptr", fn.field(array, ARRAY["data"]), fn.gep(behind, loop.index, "i64"), 8)
    behind = fn.gep(behind, outputs, "i64")
    lent, memory = _take_arena(fn, interface)
    fn.store("ptr", memory, behind, 8)
    constants = fn.word("%run", RUN, "constant_data", "ptr")
    with fn.loop(0, fn.word("%run", RUN, "constants")) as loop:
        place = fn.gep(behind, fn.integer("add", loop.index, 1), "i64")
        fn.store("ptr", fn.item(constants, loop.index, "ptr"), place, 8)
    status = _run_program(fn, interface)
    _give_arena_back(fn, interface, lent)
    fn.go_unless(fn.icmp("eq", status, 0), "failed")
    counts, statistics = (fn.word("%run", RUN, n, "ptr") for n in ("counts", "statistics"))
    with fn.loop(0, fn.word("%run", RUN, "counters")) as loop:
        total = fn.integer("add", fn.item(statistics, loop.index), fn.item(counts, loop.index))
        fn.store("i64", total, fn.gep(statistics, loop.index, "i64"), 8)
    fn.do(f"ret i64 {DONE}")
    for label, result in (("failed", FAILED), ("raised", RAISED)):
        fn.block(label)
        fn.do(f"call void @release(ptr {interface}, ptr %results, i64 {outputs})")
        fn.do(f"ret i64 {result}")
    return fn


def _take_arena(fn: Native, interface: str) -> tuple[str, str]:
    """Memory for intermediates, and the array that lends it: null for the run's own.

    A run's own arena serves one call at a time. Meanwhile, and where the arena is so large that
    no run keeps it, a call takes a fresh one.
    """
    own, fresh, ready = fn.label("own"), fn.label("fresh"), fn.label("ready")
    busy = fn.word("%run", RUN, "busy", "ptr")
    fn.cond_br(fn.icmp("eq", fn.load("i64", busy, 8), 0), own, fresh)
    fn.block(own)
    fn.store("i64", "1", busy, 8)
    arena = fn.word("%run", RUN, "arena", "ptr")
    fn.br(ready)
    fn.block(fresh)
    allocator = fn.word("%run", RUN, "new_arena", "ptr")
    lender = fn.api(interface, "PyObject_VectorcallDict", allocator, "null", 0, "null")
    fn.go_if(fn.same(lender, "null"), "raised")
    borrowed, last = fn.field(lender, ARRAY["data"]), fn.block_name
    fn.br(ready)
    fn.block(ready)
    lent = fn.phi("ptr", ("null", own), (lender, last))
    return lent, fn.phi("ptr", (arena, own), (borrowed, last))


def _give_arena_back(fn: Native, interface: str, lent: str) -> None:
    own, fresh, done = fn.label("own"), fn.label("fresh"), fn.label("done")
    fn.cond_br(fn.same(lent, "null"), own, fresh)
    fn.block(own)
    fn.store("i64", "0", fn.word("%run", RUN, "busy", "ptr"), 8)
    fn.br(done)
    fn.block(fresh)
    fn.decref(interface, lent)
    fn.br(done)
    fn.block(done)


def _run_program(fn: Native, interface: str) -> str:
    """Run the kernels, without the interpreter's lock where they take long; their status."""
    driver, program = (fn.word("%run", RUN, name, "ptr") for name in ("driver", "program"))
    call = f"call i64 {driver}(ptr %bases, ptr {program}, i64 {fn.word('%run', RUN, 'records')})"
    locked, unlocked, ran = fn.label("locked"), fn.label("unlocked"), fn.label("ran")
    fn.cond_br(fn.icmp("eq", fn.word("%run", RUN, "unlock"), 0), locked, unlocked)
    fn.block(locked)
    short = fn.op(call)
    fn.br(ran)
    fn.block(unlocked)
    thread = fn.api(interface, "PyEval_SaveThread")
    long = fn.op(call)
    fn.api(interface, "PyEval_RestoreThread", thread)
    fn.br(ran)
    fn.block(ran)
    return fn.phi("i64", (short, locked), (long, unlocked))


def _run_arrays() -> Native:
    fn = Native("accel_run_arrays", [("ptr", "self"), ("ptr", "arguments"), ("i64", "count")],
                "ptr")  # fmt: skip
    run = fn.field("%self", ARRAY["data"])
    interface = fn.word(run, RUN, "interface", "ptr")
    fn.go_unless(fn.icmp("eq", "%count", fn.word(run, RUN, "arguments")), "other")
    size = fn.op(f"call i64 @table_size(ptr {run})")
    bases = fn.op(f"alloca i64, i64 {size}, align 8")
    outputs = fn.word(run, RUN, "outputs")
    results = fn.op(f"alloca ptr, i64 {outputs}, align 8")
    fn.clear(results, outputs)
    specs = fn.word(run, RUN, "input_specs", "ptr")
    with fn.loop(0, fn.word(run, RUN, "inputs")) as loop:
        spec = fn.gep(specs, fn.integer("mul", loop.index, len(SPEC)), "i64")
        given = fn.item("%arguments", fn.word(spec, SPEC, "place"), "ptr")
        data = fn.op(f"call ptr @array_data(ptr {interface}, ptr {given}, ptr {spec})")
        fn.go_if(fn.same(data, "null"), "other")
        fn.store("ptr", data, fn.gep(bases, loop.index, "i64"), 8)
    status = fn.op(f"call i64 @accel_execute(ptr {run}, ptr {bases}, ptr {results})")
    fn.do(f"switch i64 {status}, label %raised [i64 {DONE}, label %ran i64 {FAILED}, label %other]")
    fn.block("ran")
    found = fn.api(interface, "PyList_New", outputs)
    fn.go_if(fn.same(found, "null"), "lost")
    order = fn.word(run, RUN, "order", "ptr")
    with fn.loop(0, outputs) as loop:
        result = fn.item(results, fn.item(order, loop.index), "ptr")
        fn.api(interface, "PyList_SetItem", found, loop.index, result)
    fn.do(f"ret ptr {found}")
    fn.block("other")
    fallback = fn.word(run, RUN, "fallback", "ptr")
    result = fn.api(interface, "PyObject_VectorcallDict", fallback, "%arguments", "%count", "null")
    fn.do(f"ret ptr {result}")
    fn.block("lost")
    fn.do(f"call void @release(ptr {interface}, ptr {results}, i64 {outputs})")
    fn.br("raised")
    fn.block("raised")
    fn.do("ret ptr null")
    return fn
