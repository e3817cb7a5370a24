"""Results and writes of native calls as LLVM IR: new Tensors, and what is put into old ones."""

from __future__ import annotations

from .layout import (
    PLAN,
    RESULT_WORDS,
    RESULTS,
    STRUCTURES,
    WORLD,
    WRITE_WORDS,
    WRITES,
    Layout,
)
from .text import INLINE, Native

__all__ = ["result_functions"]


def result_functions(layout: Layout) -> list[Native]:
    """``ptr result``, ``ptr collect``, ``ptr prepare``, ``ptr write`` and what they need."""
    return [
        _new_value(layout), _new_tensor(layout), _result(), _collect(), _renewed(layout),
        _prepare(), _write(layout),
    ]  # fmt: skip


# -- new objects ------------------------------------------------------------------------------
def _set(fn: Native, object_: str, field: str, *offsets: int) -> None:
    """Let an object's empty fields refer to another object."""
    fn.incref(field, len(offsets))
    for offset in offsets:
        fn.store("ptr", field, fn.gep(object_, offset), 8)


def _new_value(layout: Layout) -> Native:
    """A computed Value; with a target that is not null, a leaf that collects gradients there."""
    fn = Native("new_value", [("ptr", "world"), ("ptr", "type"), ("ptr", "data"), ("ptr", "leaf")],
                "ptr", linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    kind = fn.word("%world", WORLD, "value", "ptr")
    made = fn.api(interface, "PyType_GenericAlloc", kind, 0)
    fn.go_if(fn.same(made, "null"), "failed")
    usual = fn.word("%world", WORLD, "usual", "ptr")
    for place, names in enumerate(layout.usual):
        _set(fn, made, fn.item(usual, place, "ptr"), *[layout.value[name] for name in names])
    _set(fn, made, "%type", layout.value["type"])
    _set(fn, made, "%data", layout.value["data"])
    plain, leaf = fn.label("plain"), fn.label("leaf")
    fn.cond_br(fn.same("%leaf", "null"), plain, leaf)
    fn.block(leaf)
    owner = fn.api(interface, "PyWeakref_NewRef", "%leaf", "null")
    fn.go_if(fn.same(owner, "null"), "lost")
    fn.store("ptr", owner, fn.gep(made, layout.value["owner"]), 8)
    true = fn.word("%world", WORLD, "true", "ptr")
    _set(fn, made, true, layout.value["requires_grad"])
    fn.do(f"ret ptr {made}")
    fn.block(plain)
    _set(fn, made, fn.word("%world", WORLD, "none", "ptr"), layout.value["owner"])
    _set(fn, made, fn.word("%world", WORLD, "false", "ptr"), layout.value["requires_grad"])
    fn.do(f"ret ptr {made}")
    fn.block("lost")
    fn.decref(interface, made)
    fn.br("failed")
    fn.block("failed")
    fn.do("ret ptr null")
    return fn


def _new_tensor(layout: Layout) -> Native:
    """A new Tensor on a new Value."""
    fn = Native("new_tensor", [("ptr", "world"), ("ptr", "type"), ("ptr", "data")], "ptr",
                linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    value = fn.op("call ptr @new_value(ptr %world, ptr %type, ptr %data, ptr null)")
    fn.go_if(fn.same(value, "null"), "failed")
    kind = fn.word("%world", WORLD, "tensor", "ptr")
    made = fn.api(interface, "PyType_GenericAlloc", kind, 0)
    fn.go_if(fn.same(made, "null"), "lost")
    fn.store("ptr", value, fn.gep(made, layout.tensor["_value"]), 8)
    _set(fn, made, fn.word("%world", WORLD, "none", "ptr"), layout.tensor["_grad"])
    fn.do(f"ret ptr {made}")
    fn.block("lost")
    fn.decref(interface, value)
    fn.br("failed")
    fn.block("failed")
    fn.do("ret ptr null")
    return fn


# -- results and writes -----------------------------------------------------------------------
def _result() -> Native:
    """One leaf of what is returned."""
    fn = Native("result", [("ptr", "world"), ("ptr", "row"), ("ptr", "arguments"),
                           ("ptr", "outputs")], "ptr", attrs=INLINE,
                linkage="internal")  # fmt: skip
    kind = fn.word("%row", RESULT_WORDS, "kind")
    place, object_ = (fn.word("%row", RESULT_WORDS, "a", t) for t in ("i64", "ptr"))
    cases = " ".join(f"i64 {i}, label %{name}" for i, name in enumerate(RESULTS) if i)
    fn.do(f"switch i64 {kind}, label %output [{cases}]")
    fn.block("output")
    data = fn.item("%outputs", place, "ptr")
    type_ = fn.word("%row", RESULT_WORDS, "b", "ptr")
    fn.do(f"ret ptr {fn.op(f'call ptr @new_tensor(ptr %world, ptr {type_}, ptr {data})')}")
    fn.block("argument")
    argument = fn.item("%arguments", place, "ptr")
    fn.incref(argument)
    fn.do(f"ret ptr {argument}")
    fn.block("object")
    fn.incref(object_)
    fn.do(f"ret ptr {object_}")
    return fn


def _collect() -> Native:
    """What is returned, from its leaves, which it takes over; null with an exception set."""
    fn = Native("collect", [("ptr", "world"), ("ptr", "plan"), ("ptr", "leaves")], "ptr",
                linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    count = fn.word("%plan", PLAN, "results")
    cases = " ".join(f"i64 {i}, label %{name}" for i, name in enumerate(STRUCTURES) if i)
    fn.do(f"switch i64 {fn.word('%plan', PLAN, 'structure')}, label %leaf [{cases}]")
    fn.block("leaf")
    fn.do(f"ret ptr {fn.item('%leaves', 0, 'ptr')}")
    made = {}
    for label, kind in (("tuple", "Tuple"), ("list", "List"), ("tree", "List")):
        fn.block(label)
        made[label] = fn.api(interface, f"Py{kind}_New", count)
        fn.go_if(fn.same(made[label], "null"), "failed")
        with fn.loop(0, count) as loop:
            leaf = fn.item("%leaves", loop.index, "ptr")
            fn.api(interface, f"Py{kind}_SetItem", made[label], loop.index, leaf)
        if label != "tree":
            fn.do(f"ret ptr {made[label]}")
    given = fn.op("alloca ptr, align 8")
    fn.store("ptr", made["tree"], given, 8)
    finish = fn.word("%plan", PLAN, "finish", "ptr")
    tree = fn.api(interface, "PyObject_VectorcallDict", finish, given, 1, "null")
    fn.decref(interface, made["tree"])
    fn.do(f"ret ptr {tree}")
    fn.block("failed")
    fn.do(f"call void @release(ptr {interface}, ptr %leaves, i64 {count})")
    fn.do("ret ptr null")
    return fn


def _target(fn: Native) -> str:
    """The Tensor that a row writes to."""
    named, given, found = fn.label("named"), fn.label("given"), fn.label("found")
    target = fn.word("%row", WRITE_WORDS, "target", "ptr")
    fn.cond_br(fn.same(target, "null"), given, named)
    fn.block(given)
    argument = fn.item("%arguments", fn.word("%row", WRITE_WORDS, "argument"), "ptr")
    fn.br(found)
    fn.block(named)
    fn.br(found)
    fn.block(found)
    return fn.phi("ptr", (argument, given), (target, named))


def _renewed(layout: Layout) -> Native:
    """Whether a Tensor's Value can take new data in place: nobody else refers to it, and it
    differs from a new one in its data only."""
    fn = Native("renewed", [("ptr", "world"), ("ptr", "tensor"), ("ptr", "type"), ("i64", "leaf")],
                "i1", linkage="internal")  # fmt: skip
    value = fn.field("%tensor", layout.tensor["_value"])
    fn.go_unless(fn.icmp("eq", fn.field(value, 0, "i64"), 1), "no")
    fn.go_unless(fn.same(fn.field(value, layout.value["__weakref__"]), "null"), "no")
    fn.go_unless(fn.same(fn.field(value, layout.value["type"]), "%type"), "no")
    usual = fn.word("%world", WORLD, "usual", "ptr")
    for place, names in enumerate(layout.usual):
        object_ = fn.item(usual, place, "ptr")
        for name in names:
            fn.go_unless(fn.same(fn.field(value, layout.value[name]), object_), "no")
    flag = fn.field(value, layout.value["requires_grad"])
    owner = fn.field(value, layout.value["owner"])
    requires = fn.same(flag, fn.word("%world", WORLD, "true", "ptr"))
    owned = fn.op(f"icmp ne ptr {owner}, {fn.word('%world', WORLD, 'none', 'ptr')}")
    leaf = fn.icmp("ne", "%leaf", 0)
    for found in (requires, owned):
        fn.go_unless(fn.op(f"icmp eq i1 {found}, {leaf}"), "no")
    fn.do("ret i1 true")
    fn.block("no")
    fn.do("ret i1 false")
    return fn


def _prepare() -> Native:
    """What a row writes: a new object, or the data that a Value takes in place. Null with an
    exception set."""
    fn = Native("prepare", [("ptr", "world"), ("ptr", "row"), ("ptr", "arguments"),
                            ("ptr", "outputs")], "ptr", linkage="internal")  # fmt: skip
    kind, leaf = fn.word("%row", WRITE_WORDS, "kind"), fn.word("%row", WRITE_WORDS, "leaf")
    type_ = fn.word("%row", WRITE_WORDS, "type", "ptr")
    none = fn.word("%world", WORLD, "none", "ptr")
    fn.go_if(fn.icmp("eq", kind, WRITES.index("none")), "clear")
    data = fn.item("%outputs", fn.word("%row", WRITE_WORDS, "output"), "ptr")
    fn.go_if(fn.icmp("eq", kind, WRITES.index("gradient")), "gradient")
    target = _target(fn)
    renewed = f"call i1 @renewed(ptr %world, ptr {target}, ptr {type_}, i64 {leaf})"
    fn.go_if(fn.op(renewed), "renew")
    owner = fn.op(f"select i1 {fn.icmp('ne', leaf, 0)}, ptr {target}, ptr null")
    value = fn.op(f"call ptr @new_value(ptr %world, ptr {type_}, ptr {data}, ptr {owner})")
    fn.do(f"ret ptr {value}")
    fn.block("gradient")
    tensor = fn.op(f"call ptr @new_tensor(ptr %world, ptr {type_}, ptr {data})")
    fn.do(f"ret ptr {tensor}")
    fn.block("renew")
    fn.incref(data)
    fn.do(f"ret ptr {data}")
    fn.block("clear")
    fn.incref(none)
    fn.do(f"ret ptr {none}")
    return fn


def _write(layout: Layout) -> Native:
    """Put what `prepare` made where it belongs; returns what was there, for release."""
    fn = Native("write", [("ptr", "world"), ("ptr", "row"), ("ptr", "arguments"), ("ptr", "new")],
                "ptr", linkage="internal")  # fmt: skip
    target = _target(fn)
    value = fn.gep(target, layout.tensor["_value"])
    gradient = fn.gep(target, layout.tensor["_grad"])
    data = fn.gep(fn.load("ptr", value, 8), layout.value["data"])
    kind = fn.icmp("eq", fn.word("%row", WRITE_WORDS, "kind"), WRITES.index("value"))
    array = fn.word("%world", WORLD, "interface", "ptr")
    renews = fn.same(fn.field("%new", 8), fn.object_named(array, "ndarray"))
    place = fn.op(f"select i1 {renews}, ptr {data}, ptr {value}")
    place = fn.op(f"select i1 {kind}, ptr {place}, ptr {gradient}")
    old = fn.load("ptr", place, 8)
    fn.store("ptr", "%new", place, 8)
    fn.do(f"ret ptr {old}")
    return fn
