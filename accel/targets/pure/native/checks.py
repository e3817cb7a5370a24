"""The checks of native calls as LLVM IR: whether a plan fits a call, and where its inputs lie."""

from __future__ import annotations

from .api import CELL, FLOAT, LIST, TUPLE
from .layout import CHECK_WORDS, CHECKS, FLAGS, PLAN, WORLD, Layout
from .text import INLINE, Native

__all__ = ["check_functions", "first"]

_PY_EQ = 2


def check_functions(layout: Layout) -> list[Native]:
    """``i1 begin`` (settings, epoch, number and names of the arguments) and ``i1 holds``."""
    return [_begin(), _holds(layout)]


def first(fn: Native, list_: str) -> str:
    """The first element of a list."""
    return fn.field(fn.field(list_, LIST["items"]), 0)


class _Checks:
    """Writes the code of every kind of check."""

    def __init__(self, fn: Native, layout: Layout, row: str, scratch: str) -> None:
        self.fn = fn
        self.layout = layout
        self.row = row
        self.scratch = scratch  # three words
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
        value, wanted = self.value_of(self.word("a")), self.word("c")
        same, any_ = self.fn.same(value, wanted), self.fn.same(wanted, "null")
        self.require(self.fn.op(f"or i1 {same}, {any_}"))
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
        self.fn.decref(self.world("interface"), found)
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

    def elements(self) -> None:
        fn, container, wanted = self.fn, self.word("a"), self.word("b")
        count = self.word("c", "i64")
        self.require(fn.icmp("eq", fn.field(container, TUPLE["size"], "i64"), count))
        is_list, own = fn.label("is_list"), fn.gep(container, TUPLE["items"])
        before, ready = fn.block_name, fn.label("ready")
        fn.cond_br(fn.icmp("ne", self.word("d", "i64"), 0), is_list, ready)
        fn.block(is_list)
        apart = fn.field(container, LIST["items"])
        fn.br(ready)
        fn.block(ready)
        items = fn.phi("ptr", (own, before), (apart, is_list))
        with fn.loop(0, count) as loop:
            self.require_equal(*(fn.item(table, loop.index, "ptr") for table in (items, wanted)))
        self.done()

    def pairs(self) -> None:
        fn, wanted, count = self.fn, self.word("b"), self.word("c", "i64")
        at, key, value = (fn.gep(self.scratch, place, "i64") for place in range(3))
        fn.store("i64", "0", at, 8)
        with fn.loop(0, count) as loop:
            found = self.call("PyDict_Next", self.word("a"), at, key, value)
            self.require(fn.op(f"icmp ne i32 {found}, 0"))
            pair = fn.gep(wanted, fn.integer("mul", loop.index, 2), "i64")
            for place, part in enumerate((key, value)):
                self.require_equal(fn.load("ptr", part, 8), fn.item(pair, place, "ptr"))
        found = self.call("PyDict_Next", self.word("a"), at, key, value)
        self.require(fn.op(f"icmp eq i32 {found}, 0"))
        self.done()

    def holds(self) -> None:
        found = self.call("PyObject_VectorcallDict", self.word("a"), "null", 0, "null")
        self.fn.decref(self.world("interface"), found)
        self.require_equal(found, self.world("true"))
        self.done()


def _holds(layout: Layout) -> Native:
    """Whether a plan fits a call; fills in the bases of its inputs and the objects there.

    Where it does not, an exception may be set.
    """
    fn = Native(
        "holds", [("ptr", "world"), ("ptr", "plan"), ("ptr", "arguments"), ("ptr", "bases"),
                  ("ptr", "held")], "i1", attrs=INLINE, linkage="internal",
    )  # fmt: skip
    rows, scratch = fn.word("%plan", PLAN, "check_rows", "ptr"), fn.op("alloca [3 x i64], align 8")
    with fn.loop(0, fn.word("%plan", PLAN, "checks")) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(CHECK_WORDS)), "i64")
        checks = _Checks(fn, layout, row, scratch)
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
    """Whether a plan's settings, epoch, and number and names of arguments are those of a call, and
    Python need not look at this one."""
    fn = Native(
        "begin", [("ptr", "world"), ("ptr", "plan"), ("ptr", "state"), ("i64", "positional"),
                  ("i64", "keywords"), ("ptr", "names")], "i1", attrs=INLINE,
        linkage="internal",
    )  # fmt: skip
    fn.go_unless(fn.same("%state", fn.word("%plan", PLAN, "state", "ptr")), "no")
    fn.go_if(fn.icmp("eq", fn.word("%plan", PLAN, "left"), 0), "no")
    for name in ("positional", "keywords"):
        fn.go_unless(fn.icmp("eq", f"%{name}", fn.word("%plan", PLAN, name)), "no")
    epoch = first(fn, fn.word("%world", WORLD, "epoch", "ptr"))
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
