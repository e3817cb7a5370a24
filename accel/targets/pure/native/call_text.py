"""Calls of compiled functions as LLVM IR.

``ptr accel_call(ptr callable, ptr arguments, i64 count, ptr names)`` is what Python calls for a
compiled function. It tries the function's plans in turn (see `native_layout`). Where none fits, and
on every error, the function's Python method is called with the same arguments: it decides,
traces, raises.

Nothing is written back before all that is needed has been computed and all objects exist.
References to the inputs are held where other threads may run while the kernels do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..machine.llvm_text import module_text
from .api import ARRAY, TUPLE
from .checks import check_functions, first
from .layout import DISPATCH, PLAN, RESULT_WORDS, RESULTS, WORLD, WRITE_WORDS, Layout
from .results import result_functions
from .spares import SPARE_TABLE, spare_functions
from .text import DONE, INLINE, RUN, SPEC, Native, native_functions

__all__ = ["call_text"]


def call_text(layout: Layout) -> str:
    """The module, for objects that lie so."""
    return SPARE_TABLE + module_text([
        *native_functions(), *check_functions(layout), *spare_functions(layout),
        *result_functions(layout), _state(), _attempt(layout), _call(layout),
    ])  # fmt: skip


def _state() -> Native:
    """The settings in force, a borrowed reference; null with an exception set."""
    fn = Native("state", [("ptr", "world")], "ptr", attrs=INLINE, linkage="internal")
    interface = fn.word("%world", WORLD, "interface", "ptr")
    found = fn.op("alloca ptr, align 8")
    variable = fn.word("%world", WORLD, "variable", "ptr")
    failed = fn.api(interface, "PyContextVar_Get", variable, "null", found)
    fn.go_unless(fn.op(f"icmp eq i32 {failed}, 0"), "missing")
    own = fn.load("ptr", found, 8)
    fn.go_if(fn.same(own, "null"), "missing")
    fn.decref(interface, own)  # the context keeps it
    fn.go_if(fn.same(own, fn.word("%world", WORLD, "none", "ptr")), "default")
    fn.do(f"ret ptr {own}")
    fn.block("default")
    fn.do(f"ret ptr {first(fn, fn.word('%world', WORLD, 'settings', 'ptr'))}")
    fn.block("missing")
    fn.do("ret ptr null")
    return fn


def _attempt(layout: Layout) -> Native:
    """A call by one plan; null where the plan does not fit or something fails, with no exception
    set and nothing written."""
    tables = ("arguments", "bases", "held", "outputs", "leaves", "news")
    fn = Native("attempt", [("ptr", name) for name in ("world", "plan", *tables)], "ptr",
                attrs=INLINE, linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    self_ = fn.word("%plan", PLAN, "self", "ptr")
    fn.incref(self_)  # what is called below may replace it
    fits = "call i1 @holds(ptr %world, ptr %plan, ptr %arguments, ptr %bases, ptr %held)"
    fn.go_unless(fn.op(fits), "other")
    run = fn.word("%plan", PLAN, "run", "ptr")
    inputs, outputs = fn.word("%plan", PLAN, "held"), fn.word(run, RUN, "outputs")
    with fn.loop(0, inputs) as loop:
        fn.incref(fn.item("%held", loop.index, "ptr"))
    fn.clear("%outputs", outputs)
    _spares(fn, layout, run)
    status = fn.op(f"call i64 @accel_execute(ptr {run}, ptr %bases, ptr %outputs)")
    fn.go_unless(fn.icmp("eq", status, DONE), "no_outputs")
    found = _results(fn)
    fn.go_if(fn.same(found, "null"), "no_results")
    _writes(fn, interface)
    for table, count in (("outputs", outputs), ("held", inputs)):
        fn.do(f"call void @release(ptr {interface}, ptr %{table}, i64 {count})")
    fn.decref(interface, self_)
    fn.do(f"ret ptr {found}")
    fn.block("no_writes")
    count = fn.word("%plan", PLAN, "writes")
    fn.do(f"call void @release(ptr {interface}, ptr %news, i64 {count})")
    fn.decref(interface, found)
    fn.br("no_results")
    fn.block("no_leaves")
    _release_leaves(fn, interface)
    fn.br("no_results")
    fn.block("no_outputs")
    _release_leaves(fn, interface)
    fn.br("failed")
    fn.block("no_results")
    fn.do(f"call void @release(ptr {interface}, ptr %outputs, i64 {outputs})")
    fn.br("failed")
    fn.block("failed")
    fn.do(f"call void @release(ptr {interface}, ptr %held, i64 {inputs})")
    fn.br("other")
    fn.block("other")
    fn.api(interface, "PyErr_Clear")
    fn.decref(interface, self_)
    fn.do("ret ptr null")
    return fn


def _release_leaves(fn: Native, interface: str) -> None:
    count = fn.word("%plan", PLAN, "results")
    fn.do(f"call void @release(ptr {interface}, ptr %leaves, i64 {count})")


@contextmanager
def _each_result(fn: Native) -> Iterator[tuple[str, str]]:
    """Write a loop over the results: a result's row, and the place of what is returned for it."""
    count, rows = fn.word("%plan", PLAN, "results"), fn.word("%plan", PLAN, "result_rows", "ptr")
    with fn.loop(0, count) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(RESULT_WORDS)), "i64")
        yield row, fn.gep("%leaves", loop.index, "i64")


def _spares(fn: Native, layout: Layout, run: str) -> None:
    """Have spare Tensors where outputs become new ones, whose arrays are then the outputs."""
    specs = fn.word(run, RUN, "output_specs", "ptr")
    with _each_result(fn) as (row, leaf):
        fn.store("ptr", "null", leaf, 8)
        other = fn.label("other")
        kind = fn.word(row, RESULT_WORDS, "kind")
        fn.go_unless(fn.icmp("eq", kind, RESULTS.index("output")), other)
        place = fn.word(row, RESULT_WORDS, "a")
        output = fn.gep("%outputs", place, "i64")
        fn.go_unless(fn.same(fn.load("ptr", output, 8), "null"), other)
        type_ = fn.word(row, RESULT_WORDS, "b", "ptr")
        spec = fn.gep(specs, fn.integer("mul", place, len(SPEC)), "i64")
        take = f"call ptr @take_spare(ptr %world, ptr {type_}, ptr {spec})"
        tensor = fn.op(take)
        fn.go_if(fn.same(tensor, "null"), other)
        fn.store("ptr", tensor, leaf, 8)
        value = fn.field(tensor, layout.tensor["_value"])
        array = fn.field(value, layout.value["data"])
        fn.incref(array)
        fn.store("ptr", array, output, 8)
        fn.br(other)
        fn.block(other)


def _results(fn: Native) -> str:
    """What the call returns."""
    with _each_result(fn) as (row, leaf):
        ready = fn.label("ready")
        fn.go_unless(fn.same(fn.load("ptr", leaf, 8), "null"), ready)
        result = f"call ptr @result(ptr %world, ptr {row}, ptr %arguments, ptr %outputs)"
        made = fn.op(result)
        fn.go_if(fn.same(made, "null"), "no_leaves")
        fn.store("ptr", made, leaf, 8)
        fn.br(ready)
        fn.block(ready)
    return fn.op("call ptr @collect(ptr %world, ptr %plan, ptr %leaves)")


def _writes(fn: Native, interface: str) -> None:
    """Write everything back: first all new objects are made, with no collection of garbage in
    between, so that no other code can run before the last write."""
    count, rows = fn.word("%plan", PLAN, "writes"), fn.word("%plan", PLAN, "write_rows", "ptr")
    written = fn.label("written")
    fn.go_if(fn.icmp("eq", count, 0), written)
    collecting = fn.api(interface, "PyGC_Disable")
    collecting = fn.op(f"icmp ne i32 {collecting}, 0")
    fn.clear("%news", count)
    with fn.loop(0, count) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(WRITE_WORDS)), "i64")
        made = fn.op(f"call ptr @prepare(ptr %world, ptr {row}, ptr %arguments, ptr %outputs)")
        fn.store("ptr", made, fn.gep("%news", loop.index, "i64"), 8)
        fn.go_if(fn.same(made, "null"), "unwritten")
    with fn.loop(0, count) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(WRITE_WORDS)), "i64")
        place = fn.gep("%news", loop.index, "i64")
        new = fn.load("ptr", place, 8)
        old = fn.op(f"call ptr @write(ptr %world, ptr {row}, ptr %arguments, ptr {new})")
        fn.store("ptr", old, place, 8)
    _collect_again(fn, interface, collecting)
    fn.do(f"call void @release(ptr {interface}, ptr %news, i64 {count})")
    fn.br(written)
    fn.block("unwritten")
    _collect_again(fn, interface, collecting)
    fn.br("no_writes")
    fn.block(written)


def _collect_again(fn: Native, interface: str, collecting: str) -> None:
    with fn.when(collecting):
        fn.api(interface, "PyGC_Enable")


def _call(layout: Layout) -> Native:
    fn = Native("accel_call", [("ptr", "callable"), ("ptr", "arguments"), ("i64", "count"),
                               ("ptr", "names")], "ptr")  # fmt: skip
    block = fn.field("%callable", layout.dispatch)
    dispatch = fn.field(block, ARRAY["data"])
    world = fn.word(dispatch, DISPATCH, "world", "ptr")
    interface = fn.word(world, WORLD, "interface", "ptr")
    fn.incref(block)
    sizes = {n: fn.word(dispatch, DISPATCH, n) for n in ("bases", "results", "writes")}
    tables = {
        name: fn.op(f"alloca ptr, i64 {sizes[size]}, align 8")
        for name, size in (("bases", "bases"), ("held", "bases"), ("outputs", "bases"),
                           ("leaves", "results"), ("news", "writes"))
    }  # fmt: skip
    positional = fn.integer("and", "%count", (1 << 63) - 1)
    named, ready = fn.label("named"), fn.label("ready")
    fn.cond_br(fn.same("%names", "null"), ready, named)
    fn.block(named)
    number = fn.field("%names", TUPLE["size"], "i64")
    fn.br(ready)
    fn.block(ready)
    keywords = fn.phi("i64", ("0", "entry"), (number, named))
    state = fn.op(f"call ptr @state(ptr {world})")
    fn.go_if(fn.same(state, "null"), "other")
    plans = fn.word(dispatch, DISPATCH, "plans", "ptr")
    with fn.loop(0, fn.word(dispatch, DISPATCH, "count")) as loop:
        here = fn.gep(plans, loop.index, "i64")
        plan = fn.load("ptr", here, 8)
        fits = fn.op(f"call i1 @begin(ptr {world}, ptr {plan}, ptr {state}, i64 {positional}, "
                     f"i64 {keywords}, ptr %names)")  # fmt: skip
        fn.go_unless(fits, "following")
        given = ", ".join(f"ptr {table}" for table in tables.values())
        found = fn.op(f"call ptr @attempt(ptr {world}, ptr {plan}, ptr %arguments, {given})")
        fn.go_if(fn.same(found, "null"), "following")
        _to_front(fn, plans, here, plan)
        left = fn.gep(plan, 8 * PLAN.index("left"))
        fn.store("i64", fn.integer("sub", fn.load("i64", left, 8), 1), left, 8)
        hits = fn.word(dispatch, DISPATCH, "hits", "ptr")
        fn.store("i64", fn.integer("add", fn.load("i64", hits, 8), 1), hits, 8)
        fn.decref(interface, block)
        fn.do(f"ret ptr {found}")
        fn.block("following")
    fn.br("other")
    fn.block("other")
    fn.decref(interface, block)
    total = fn.integer("add", positional, keywords)
    given = fn.op(f"alloca ptr, i64 {fn.integer('add', total, 1)}, align 8")
    fn.store("ptr", "%callable", given, 8)
    behind = fn.gep(given, 8)
    with fn.loop(0, total) as loop:
        argument = fn.item("%arguments", loop.index, "ptr")
        fn.store("ptr", argument, fn.gep(behind, loop.index, "i64"), 8)
    method = fn.word(world, WORLD, "method", "ptr")
    several = fn.integer("add", positional, 1)
    result = fn.api(interface, "PyObject_VectorcallMethod", method, given, several, "%names")
    fn.do(f"ret ptr {result}")
    return fn


def _to_front(fn: Native, plans: str, here: str, plan: str) -> None:
    """Let the plan that fitted be tried first the next time."""
    fn.store("ptr", fn.load("ptr", plans, 8), here, 8)
    fn.store("ptr", plan, plans, 8)
