"""Calls of compiled functions as LLVM IR: checks, execution, results, writes.

``ptr accel_call(ptr callable, ptr arguments, i64 count, ptr names)`` is what Python calls for a
compiled function. It tries the function's plans in turn. A plan says, in rows of words, what
must hold for its specialisation to be used and where the inputs lie (`CHECKS`), what becomes of
the outputs (`RESULTS`), and what is written back (`WRITES`). Where no plan fits, and on every
error, the function's Python method is called with the same arguments: it decides, traces, raises.

Nothing is written back before all that is needed has been computed and all objects exist.
References to the inputs are held where other threads may run while the kernels do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .llvm_text import module_text
from .native_api import ARRAY, CELL, FLOAT, LIST, TUPLE
from .native_text import DONE, RUN, Native, native_functions

__all__ = ["CHECKS", "CHECK_WORDS", "DISPATCH", "FLAGS", "PLAN", "RESULTS", "RESULT_WORDS",
           "STRUCTURES", "WORLD", "WRITES", "WRITE_WORDS", "Layout", "call_text"]  # fmt: skip

#: What all calls share: addresses of objects, and of the table of a Value's usual fields.
WORLD = (
    "interface", "variable", "settings", "epoch", "none", "true", "false", "float", "tuple",
    "tensor", "value", "method", "usual",
)  # fmt: skip

#: Words of a compiled function's block; `plans` is a table of blocks, `bases` the most bases, and
#: so on, that one of them needs, `hits` the address of a counter.
DISPATCH = ("world", "plans", "count", "bases", "results", "writes", "hits")

#: Words of a plan; `self` is its block as an object, `held` the number of inputs, or 0 where no
#: other code can run while the kernels do.
PLAN = (
    "self", "run", "state", "epoch", "positional", "keywords", "names", "checks", "check_rows",
    "held", "results", "result_rows", "structure", "finish", "writes", "write_rows",
)  # fmt: skip

#: Kinds of checks and the words `a` to `d` of their rows; `base` is the place of an input.
CHECKS = {
    "same": "argument a is b",
    "equal": "argument a has the type c and equals b",
    "distinct": "arguments a and b are not the same",
    "alias": "arguments a and b are the same",
    "float": "argument a is a float, which is an input",
    "array": "argument a is an array like the spec b, which is an input",
    "tensor": "argument a has the type c, the flags d and an array like b, which is an input",
    "captured": "the Tensor a requires a gradient as d says and has an array like b, an input",
    "gradient": "the gradient of the Tensor a has an array like b, which is an input",
    "argument_gradient": "the gradient of argument a has an array like b, which is an input",
    "constant": "the array a is like b and an input",
    "setting": "the entry b of the dict a, or element c of it, is a float, which is an input",
    "entry": "the entry b of the dict a is c",
    "item": "the item b of the mapping a is c",
    "cell": "the cell a holds b",
    "defaults": "the function a has the defaults b and the keyword defaults c",
    "has_gradient": "the Tensor a has a gradient if b, else none",
    "holds": "the callable a returns True",
}
CHECK_WORDS = ("kind", "a", "b", "c", "d", "base")

#: Kinds of results: output a as a new Tensor of type b; the object a; argument a.
RESULTS = ("output", "object", "argument")
RESULT_WORDS = ("kind", "a", "b")

#: How results make up what is returned: the only one, a tuple, a list, or what `finish` makes
#: of a list.
STRUCTURES = ("leaf", "tuple", "list", "tree")

#: Kinds of writes, to `target` or, where that is 0, to `argument`: the output becomes its value
#: (one that collects gradients if `leaf`) or its gradient, which `none` clears.
WRITES = ("value", "gradient", "none")
WRITE_WORDS = ("kind", "target", "argument", "output", "type", "leaf")

#: Bits of a Tensor argument's flags.
FLAGS = ("requires_grad", "owner", "gradient")


@dataclass(frozen=True)
class Layout:
    """Where the fields of the frontend's objects lie.

    Attributes
    ----------
    tensor, value
        Byte offsets of slots by name.
    usual
        The slots of a Value other than `data`, `type`, `requires_grad` and `owner`: in every
        computed one they hold the same objects, and those of a group one object.
    dispatch
        Offset of the slot of a compiled function that holds its block.
    """

    tensor: Mapping[str, int]
    value: Mapping[str, int]
    usual: tuple[tuple[str, ...], ...]
    dispatch: int


def call_text(layout: Layout) -> str:
    """The module, for objects that lie so."""
    made = [
        *native_functions(), _state(), _holds(layout), _begin(), _new_value(layout),
        _new_tensor(layout), _result(), _collect(), _renewed(layout), _prepare(), _write(layout),
        _attempt(), _call(layout),
    ]  # fmt: skip
    return module_text(made)


def _state() -> Native:
    """The settings in force, a borrowed reference; null with an exception set."""
    fn = Native("state", [("ptr", "world")], "ptr", linkage="internal")
    interface = fn.word("%world", WORLD, "interface", "ptr")
    found = fn.op("alloca ptr, align 8")
    variable = fn.word("%world", WORLD, "variable", "ptr")
    failed = fn.api(interface, "PyContextVar_Get", variable, "null", found)
    fn.go_unless(fn.op(f"icmp eq i32 {failed}, 0"), "missing")
    own = fn.load("ptr", found, 8)
    fn.go_if(fn.same(own, "null"), "missing")
    fn.api(interface, "Py_DecRef", own)  # the context keeps it
    fn.go_if(fn.same(own, fn.word("%world", WORLD, "none", "ptr")), "default")
    fn.do(f"ret ptr {own}")
    fn.block("default")
    fn.do(f"ret ptr {_first(fn, fn.word('%world', WORLD, 'settings', 'ptr'))}")
    fn.block("missing")
    fn.do("ret ptr null")
    return fn


def _first(fn: Native, list_: str) -> str:
    """The first element of a list."""
    return fn.field(fn.field(list_, LIST["items"]), 0)


# -- checks -----------------------------------------------------------------------------------
class _Checks:
    """Writes the code of every kind of check."""

    def __init__(self, fn: Native, layout: Layout, row: str) -> None:
        self.fn = fn
        self.layout = layout
        self.row = row
        self.arrays: list[tuple[str, str]] = []  # (object, block) of objects that must be arrays
        self.floats: list[tuple[str, str]] = []

    def word(self, name: str, type_: str = "ptr") -> str:
        return self.fn.word(self.row, CHECK_WORDS, name, type_)

    def world(self, name: str) -> str:
        return self.fn.word("%world", WORLD, name, "ptr")

    def argument(self, name: str = "a") -> str:
        return self.fn.item("%arguments", self.word(name, "i64"), "ptr")

    def require(self, condition: str) -> None:
        self.fn.go_unless(condition, "no")

    def require_equal(self, a: str, b: str) -> None:
        self.require(self.fn.same(a, b))

    def require_flag(self, bit: int, condition: str) -> None:
        """`condition` is what the bit of the flags in `d` says."""
        wanted = self.fn.integer("and", self.word("d", "i64"), 1 << bit)
        wanted = self.fn.icmp("ne", wanted, 0)
        self.require(self.fn.op(f"icmp eq i1 {wanted}, {condition}"))

    def is_array(self, object_: str) -> None:
        self.arrays.append((object_, self.fn.block_name))
        self.fn.br("array")

    def is_float(self, object_: str) -> None:
        self.require_equal(self.fn.field(object_, 8), self.world("float"))
        self.floats.append((object_, self.fn.block_name))
        self.fn.br("number")

    def done(self) -> None:
        self.fn.br("next")

    def value_of(self, tensor: str) -> str:
        return self.fn.field(tensor, self.layout.tensor["_value"])

    def data_of(self, value: str) -> str:
        return self.fn.field(value, self.layout.value["data"])

    def is_none(self, object_: str) -> str:
        return self.fn.same(object_, self.world("none"))

    def not_none(self, object_: str) -> str:
        return self.fn.op(f"xor i1 {self.is_none(object_)}, true")

    def requires(self, value: str) -> str:
        flag = self.fn.field(value, self.layout.value["requires_grad"])
        return self.fn.same(flag, self.world("true"))

    def call(self, name: str, *arguments: str | int) -> str:
        return self.fn.api(self.world("interface"), name, *arguments)

    # the kinds
    def same(self) -> None:
        self.require_equal(self.argument(), self.word("b"))
        self.done()

    def equal(self) -> None:
        argument = self.argument()
        self.require_equal(self.fn.field(argument, 8), self.word("c"))
        equal = self.call("PyObject_RichCompareBool", argument, self.word("b"), _PY_EQ)
        self.require(self.fn.op(f"icmp eq i32 {equal}, 1"))
        self.done()

    def distinct(self) -> None:
        self.require(self.fn.op(f"icmp ne ptr {self.argument('a')}, {self.argument('b')}"))
        self.done()

    def alias(self) -> None:
        self.require_equal(self.argument("a"), self.argument("b"))
        self.done()

    def float(self) -> None:
        self.is_float(self.argument())

    def array(self) -> None:
        self.is_array(self.argument())

    def tensor(self) -> None:
        tensor = self.argument()
        self.require_equal(self.fn.field(tensor, 8), self.word("c"))
        value = self.value_of(tensor)
        self.require_flag(FLAGS.index("requires_grad"), self.requires(value))
        owner = self.fn.field(value, self.layout.value["owner"])
        self.require_flag(FLAGS.index("owner"), self.not_none(owner))
        gradient = self.fn.field(tensor, self.layout.tensor["_grad"])
        self.require_flag(FLAGS.index("gradient"), self.not_none(gradient))
        self.is_array(self.data_of(value))

    def captured(self) -> None:
        value = self.value_of(self.word("a"))
        self.require_flag(FLAGS.index("requires_grad"), self.requires(value))
        self.is_array(self.data_of(value))

    def gradient(self) -> None:
        self._gradient_of(self.word("a"))

    def argument_gradient(self) -> None:
        self._gradient_of(self.argument())

    def _gradient_of(self, tensor: str) -> None:
        gradient = self.fn.field(tensor, self.layout.tensor["_grad"])
        self.require(self.not_none(gradient))
        self.is_array(self.data_of(self.value_of(gradient)))

    def constant(self) -> None:
        self.is_array(self.word("a"))

    def setting(self) -> None:
        fn = self.fn
        found = self.call("PyDict_GetItemWithError", self.word("a"), self.word("b"))
        self.require(fn.op(f"icmp ne ptr {found}, null"))
        element, plain = fn.label("element"), fn.label("plain")
        place = self.word("c", "i64")
        fn.cond_br(fn.icmp("slt", place, 0), plain, element)
        fn.block(element)
        tuples = fn.same(fn.field(found, 8), self.world("tuple"))
        self.require(tuples)
        self.require(fn.icmp("slt", place, fn.field(found, TUPLE["size"], "i64")))
        self.is_float(fn.field(fn.gep(found, place, "i64"), TUPLE["items"]))
        fn.block(plain)
        self.is_float(found)

    def entry(self) -> None:
        found = self.call("PyDict_GetItemWithError", self.word("a"), self.word("b"))
        self.require_equal(found, self.word("c"))
        self.done()

    def item(self) -> None:
        found = self.call("PyObject_GetItem", self.word("a"), self.word("b"))
        self.call("Py_DecRef", found)
        self.require_equal(found, self.word("c"))
        self.done()

    def cell(self) -> None:
        self.require_equal(self.fn.field(self.word("a"), CELL["content"]), self.word("b"))
        self.done()

    def defaults(self) -> None:
        for name, field in (("PyFunction_GetDefaults", "b"), ("PyFunction_GetKwDefaults", "c")):
            self.require_equal(self.call(name, self.word("a")), self.word(field))
        self.done()

    def has_gradient(self) -> None:
        gradient = self.fn.field(self.word("a"), self.layout.tensor["_grad"])
        wanted = self.fn.icmp("ne", self.word("b", "i64"), 0)
        self.require(self.fn.op(f"icmp eq i1 {wanted}, {self.not_none(gradient)}"))
        self.done()

    def holds(self) -> None:
        found = self.call("PyObject_VectorcallDict", self.word("a"), "null", 0, "null")
        self.call("Py_DecRef", found)
        self.require_equal(found, self.world("true"))
        self.done()


_PY_EQ = 2


def _holds(layout: Layout) -> Native:
    """Whether a plan fits a call; fills in the bases of its inputs and the objects there.

    Where it does not, an exception may be set.
    """
    fn = Native(
        "holds", [("ptr", "world"), ("ptr", "plan"), ("ptr", "arguments"), ("ptr", "bases"),
                  ("ptr", "held")], "i1", linkage="internal",
    )  # fmt: skip
    rows = fn.word("%plan", PLAN, "check_rows", "ptr")
    with fn.loop(0, fn.word("%plan", PLAN, "checks")) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(CHECK_WORDS)), "i64")
        checks = _Checks(fn, layout, row)
        cases = " ".join(f"i64 {i}, label %kind.{kind}" for i, kind in enumerate(CHECKS))
        fn.do(f"switch i64 {checks.word('kind', 'i64')}, label %no [{cases}]")
        for kind in CHECKS:
            fn.block(f"kind.{kind}")
            getattr(checks, kind)()
        fn.block("array")
        array = fn.phi("ptr", *checks.arrays)
        interface = checks.world("interface")
        data = fn.op(f"call ptr @array_data(ptr {interface}, ptr {array}, ptr {checks.word('b')})")
        fn.go_if(fn.same(data, "null"), "no")
        arrays = fn.block_name
        fn.br("fill")
        fn.block("number")
        number = fn.phi("ptr", *checks.floats)
        bits = fn.gep(number, FLOAT["value"])
        fn.br("fill")
        fn.block("fill")
        object_ = fn.phi("ptr", (array, arrays), (number, "number"))
        address = fn.phi("ptr", (data, arrays), (bits, "number"))
        base = checks.word("base", "i64")
        fn.store("ptr", address, fn.gep("%bases", base, "i64"), 8)
        fn.store("ptr", object_, fn.gep("%held", base, "i64"), 8)
        fn.br("next")
        fn.block("next")
    fn.do("ret i1 true")
    fn.block("no")
    fn.do("ret i1 false")
    return fn


def _begin() -> Native:
    """Whether a plan's settings, epoch, and number and names of arguments are those of a call."""
    fn = Native(
        "begin", [("ptr", "world"), ("ptr", "plan"), ("ptr", "state"), ("i64", "positional"),
                  ("i64", "keywords"), ("ptr", "names")], "i1", linkage="internal",
    )  # fmt: skip
    fn.go_unless(fn.same("%state", fn.word("%plan", PLAN, "state", "ptr")), "no")
    for name in ("positional", "keywords"):
        fn.go_unless(fn.icmp("eq", f"%{name}", fn.word("%plan", PLAN, name)), "no")
    epoch = _first(fn, fn.word("%world", WORLD, "epoch", "ptr"))
    fn.go_unless(fn.same(epoch, fn.word("%plan", PLAN, "epoch", "ptr")), "no")
    wanted = fn.word("%plan", PLAN, "names", "ptr")
    items = fn.op(f"getelementptr i8, ptr %names, i64 {TUPLE['items']}")
    with fn.loop(0, "%keywords") as loop:
        names = [fn.item(table, loop.index, "ptr") for table in (items, wanted)]
        fn.go_unless(fn.same(*names), "no")
    fn.do("ret i1 true")
    fn.block("no")
    fn.do("ret i1 false")
    return fn


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
    fn.api(interface, "Py_DecRef", made)
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
    fn.api(interface, "Py_DecRef", value)
    fn.br("failed")
    fn.block("failed")
    fn.do("ret ptr null")
    return fn


# -- results and writes -----------------------------------------------------------------------
def _result() -> Native:
    """One leaf of what is returned."""
    fn = Native("result", [("ptr", "world"), ("ptr", "row"), ("ptr", "arguments"),
                           ("ptr", "outputs")], "ptr", linkage="internal")  # fmt: skip
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
    fn.api(interface, "Py_DecRef", made["tree"])
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


# -- the call ---------------------------------------------------------------------------------
def _attempt() -> Native:
    """A call by one plan; null where the plan does not fit or something fails, with no exception
    set and nothing written."""
    tables = ("arguments", "bases", "held", "outputs", "leaves", "news")
    fn = Native("attempt", [("ptr", name) for name in ("world", "plan", *tables)], "ptr",
                linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    self_ = fn.word("%plan", PLAN, "self", "ptr")
    fn.incref(self_)  # what is called below may replace it
    fits = "call i1 @holds(ptr %world, ptr %plan, ptr %arguments, ptr %bases, ptr %held)"
    fn.go_unless(fn.op(fits), "other")
    run = fn.word("%plan", PLAN, "run", "ptr")
    inputs, outputs = fn.word("%plan", PLAN, "held"), fn.word(run, RUN, "outputs")
    with fn.loop(0, inputs) as loop:
        fn.incref(fn.item("%held", loop.index, "ptr"))
    status = fn.op(f"call i64 @accel_execute(ptr {run}, ptr %bases, ptr %outputs)")
    fn.go_unless(fn.icmp("eq", status, DONE), "failed")
    found = _results(fn)
    fn.go_if(fn.same(found, "null"), "no_results")
    _writes(fn, interface)
    for table, count in (("outputs", outputs), ("held", inputs)):
        fn.do(f"call void @release(ptr {interface}, ptr %{table}, i64 {count})")
    fn.api(interface, "Py_DecRef", self_)
    fn.do(f"ret ptr {found}")
    fn.block("no_writes")
    count = fn.word("%plan", PLAN, "writes")
    fn.do(f"call void @release(ptr {interface}, ptr %news, i64 {count})")
    fn.api(interface, "Py_DecRef", found)
    fn.br("no_results")
    fn.block("no_leaves")
    count = fn.word("%plan", PLAN, "results")
    fn.do(f"call void @release(ptr {interface}, ptr %leaves, i64 {count})")
    fn.br("no_results")
    fn.block("no_results")
    fn.do(f"call void @release(ptr {interface}, ptr %outputs, i64 {outputs})")
    fn.br("failed")
    fn.block("failed")
    fn.do(f"call void @release(ptr {interface}, ptr %held, i64 {inputs})")
    fn.br("other")
    fn.block("other")
    fn.api(interface, "PyErr_Clear")
    fn.api(interface, "Py_DecRef", self_)
    fn.do("ret ptr null")
    return fn


def _clear(fn: Native, table: str, count: str) -> None:
    """Fill a table with nulls, so that it can be released at any time."""
    with fn.loop(0, count) as loop:
        fn.store("ptr", "null", fn.gep(table, loop.index, "i64"), 8)


def _results(fn: Native) -> str:
    """What the call returns."""
    count, rows = fn.word("%plan", PLAN, "results"), fn.word("%plan", PLAN, "result_rows", "ptr")
    _clear(fn, "%leaves", count)
    with fn.loop(0, count) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(RESULT_WORDS)), "i64")
        leaf = f"call ptr @result(ptr %world, ptr {row}, ptr %arguments, ptr %outputs)"
        made = fn.op(leaf)
        fn.go_if(fn.same(made, "null"), "no_leaves")
        fn.store("ptr", made, fn.gep("%leaves", loop.index, "i64"), 8)
    return fn.op("call ptr @collect(ptr %world, ptr %plan, ptr %leaves)")


def _writes(fn: Native, interface: str) -> None:
    """Write everything back: first all new objects are made, with no collection of garbage in
    between, so that no other code can run before the last write."""
    count, rows = fn.word("%plan", PLAN, "writes"), fn.word("%plan", PLAN, "write_rows", "ptr")
    written = fn.label("written")
    fn.go_if(fn.icmp("eq", count, 0), written)
    collecting = fn.api(interface, "PyGC_Disable")
    collecting = fn.op(f"icmp ne i32 {collecting}, 0")
    _clear(fn, "%news", count)
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
        hits = fn.word(dispatch, DISPATCH, "hits", "ptr")
        fn.store("i64", fn.integer("add", fn.load("i64", hits, 8), 1), hits, 8)
        fn.api(interface, "Py_DecRef", block)
        fn.do(f"ret ptr {found}")
        fn.block("following")
    fn.br("other")
    fn.block("other")
    fn.api(interface, "Py_DecRef", block)
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
