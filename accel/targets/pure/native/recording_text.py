"""Recording and evaluating undecorated code as LLVM IR, where it was met before.

``ptr slot_NAME(ptr, ptr)`` and the like are what Python's operators call for Tensors;
``ptr accel_apply(ptr self, ptr arguments, i64 count)`` is a built-in function that applies an op.
Both look an application up in the op's table of recipes, and make a Tensor of what they find.
``ptr accel_evaluate(ptr self, ptr arguments, i64 count)`` computes a Value as the words say that
its recipe carries. Whatever is not as expected goes to Python: to a callable of the operation, or
by an answer of False.

The numbers' slots have no `self`: ``ptr accel_slots()`` is the address of the table where the
process puts the blocks of `SLOTS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ....ir.dataclass import dataclass
from ..machine.llvm_text import module_text
from .api import ARRAY, TUPLE
from .checks import first
from .text import Native

__all__ = ["NUMBERS", "OPERATION", "PATH", "RECORDER", "SLOTS", "TREE", "Slots", "recording_text"]

#: What all share: addresses of objects, and of the counter of evaluations.
RECORDER = (
    "interface", "variable", "none", "true", "false", "refused", "nothing", "tensor", "value",
    "recipe", "float", "int", "bool", "block", "hits",
)  # fmt: skip

#: Words of an op: `table` is its dict of recipes, `forward` a callable of the operands, `backward`
#: that of a Tensor and the operand in front of it.
OPERATION = ("recorder", "table", "forward", "backward")

#: Words of a recipe's shortcut: `rows` has `PATH`s, `picks` the places among the leaves of what the
#: plan takes, `leaf` is the recipe of what is computed.
TREE = ("plan", "paths", "rows", "inner", "leaves", "inputs", "picks", "leaf")
PATH = ("user", "place", "leaf")

#: The slots of Python's operators: how many operands they have.
SLOTS = {
    "add": 2, "subtract": 2, "multiply": 2, "true_divide": 2, "floor_divide": 2, "remainder": 2,
    "power": 3, "matrix_multiply": 2, "and": 2, "or": 2, "xor": 2, "lshift": 2, "rshift": 2,
    "negative": 1, "absolute": 1, "invert": 1,
}  # fmt: skip

#: Types of numbers that stand in a recipe by their value.
NUMBERS = ("float", "int", "bool")


@dataclass(frozen=True)
class Slots:
    """Byte offsets of the slots of Tensors, Values, recipes and plans, by name."""

    tensor: Mapping[str, int]
    value: Mapping[str, int]
    recipe: Mapping[str, int]
    plan: Mapping[str, int]


def recording_text(slots: Slots) -> str:
    """The module, for objects that lie so."""
    functions = [
        _is_usual(), _operand(slots), _is_number(), _tuple(), _made(slots), _found(slots),
        _apply_one(slots), _apply_two(slots), *(_slot(name) for name in SLOTS), _slots(), _apply(),
        _walk(slots), _settle(slots), _evaluate(slots),
    ]  # fmt: skip
    table = f"@slots = internal global [{len(SLOTS)} x ptr] zeroinitializer\n"
    return table + module_text(functions)


def _let(fn: Native, name: str, instruction: str) -> None:
    """Give what an instruction yields a name, by which all that is written after it knows it."""
    fn.lines.append(f"  %{name} = {instruction}")


def _recorder(fn: Native, name: str, type_: str = "ptr") -> str:
    return fn.word("%recorder", RECORDER, name, type_)


# -- recording --------------------------------------------------------------------------------
def _is_usual() -> Native:
    """Whether the process's own settings are in force, under which nothing is traced."""
    fn = Native("is_usual", [("ptr", "recorder")], "i1", linkage="internal")
    interface = _recorder(fn, "interface")
    place = fn.op("alloca ptr, align 8")
    found = fn.api(interface, "PyContextVar_Get", _recorder(fn, "variable"), "null", place)
    fn.go_unless(fn.op(f"icmp eq i32 {found}, 0"), "unknown")
    state = fn.load("ptr", place, 8)
    fn.go_if(fn.same(state, "null"), "no")
    fn.decref(interface, state)
    fn.do(f"ret i1 {fn.same(state, _recorder(fn, 'none'))}")
    fn.block("unknown")
    fn.api(interface, "PyErr_Clear")
    fn.br("no")
    fn.block("no")
    fn.do("ret i1 false")
    return fn


def _operand(slots: Slots) -> Native:
    """The Value of a Tensor whose Value has a recipe; null for anything else."""
    fn = Native("operand", [("ptr", "recorder"), ("ptr", "object")], "ptr", linkage="internal")
    fn.go_unless(fn.same(fn.field("%object", 8), _recorder(fn, "tensor")), "other")
    value = fn.field("%object", slots.tensor["_value"])
    fn.go_if(fn.same(value, "null"), "other")
    recipe = fn.field(value, slots.value["recipe"])
    fn.go_if(fn.same(recipe, _recorder(fn, "none")), "other")
    fn.do(f"ret ptr {value}")
    fn.block("other")
    fn.do("ret ptr null")
    return fn


def _is_number() -> Native:
    """Whether an object is a Python number; zeros stand in no key as they are."""
    fn = Native("is_number", [("ptr", "recorder"), ("ptr", "object")], "i1", linkage="internal")
    kind = fn.field("%object", 8)
    for name in NUMBERS:
        fn.go_if(fn.same(kind, _recorder(fn, name)), "number")
    fn.do("ret i1 false")
    fn.block("number")
    fn.do("ret i1 true")
    return fn


def _tuple() -> Native:
    """A new tuple of up to three objects, which it takes over; those behind the last are null.
    Null where there is no memory, with no exception set."""
    names = ("a", "b", "c")
    fn = Native("tuple", [("ptr", "interface"), *(("ptr", n) for n in names)], "ptr",
                linkage="internal")  # fmt: skip
    given = [fn.op(f"icmp ne ptr %{name}, null") for name in names]
    count = "0"
    for one in given:
        count = fn.integer("add", count, fn.op(f"zext i1 {one} to i64"))
    made = fn.api("%interface", "PyTuple_New", count)
    fn.go_if(fn.same(made, "null"), "failed")
    for place, (name, one) in enumerate(zip(names, given, strict=True)):
        fn.go_unless(one, "done")
        fn.store("ptr", f"%{name}", fn.gep(made, TUPLE["items"] + 8 * place), 8)
    fn.br("done")
    fn.block("done")
    fn.do(f"ret ptr {made}")
    fn.block("failed")
    for name in names:
        fn.decref("%interface", f"%{name}")
    fn.api("%interface", "PyErr_Clear")
    fn.do("ret ptr null")
    return fn


def _made(slots: Slots) -> Native:
    """A new Tensor made as a recipe says of a tuple of Values, both of which are taken over; null
    where there is no memory, with no exception set."""
    fn = Native("made", [("ptr", "recorder"), ("ptr", "recipe"), ("ptr", "inputs")], "ptr",
                linkage="internal")  # fmt: skip
    interface, none = _recorder(fn, "interface"), _recorder(fn, "none")
    value = fn.api(interface, "PyType_GenericAlloc", _recorder(fn, "value"), 0)
    fn.go_if(fn.same(value, "null"), "failed")
    empty = ("data", "loc", "owner", "tracer")
    fn.incref(none, len(empty))
    for name in empty:
        fn.store("ptr", none, fn.gep(value, slots.value[name]), 8)
    for name in ("type", "step", "requires_grad"):
        field = fn.field("%recipe", slots.recipe[name])
        fn.incref(field)
        fn.store("ptr", field, fn.gep(value, slots.value[name]), 8)
    for name in ("recipe", "inputs"):
        fn.store("ptr", f"%{name}", fn.gep(value, slots.value[name]), 8)
    tensor = fn.api(interface, "PyType_GenericAlloc", _recorder(fn, "tensor"), 0)
    fn.go_if(fn.same(tensor, "null"), "lost")
    fn.store("ptr", value, fn.gep(tensor, slots.tensor["_value"]), 8)
    fn.incref(none)
    fn.store("ptr", none, fn.gep(tensor, slots.tensor["_grad"]), 8)
    fn.do(f"ret ptr {tensor}")
    fn.block("failed")
    fn.decref(interface, "%recipe")
    fn.decref(interface, "%inputs")
    fn.br("clear")
    fn.block("lost")
    fn.decref(interface, value)
    fn.br("clear")
    fn.block("clear")
    fn.api(interface, "PyErr_Clear")
    fn.do("ret ptr null")
    return fn


def _found(slots: Slots) -> Native:
    """What an application gives, from the parts of its key and its inputs; null where it was not
    met before or is unusual.

    References to all are taken first: the new objects may let garbage be collected, and with it
    run code that rebinds Tensors.
    """
    names = ("a", "b", "c", "x", "y")
    fn = Native("found", [("ptr", "operation"), *(("ptr", n) for n in names)], "ptr",
                linkage="internal")  # fmt: skip
    _let(fn, "recorder", "load ptr, ptr %operation, align 8")
    interface = _recorder(fn, "interface")
    for name in names:
        fn.api(interface, "Py_IncRef", f"%{name}")
    key = fn.op(f"call ptr @tuple(ptr {interface}, ptr %a, ptr %b, ptr %c)")
    fn.go_if(fn.same(key, "null"), "other")
    table = fn.word("%operation", OPERATION, "table", "ptr")
    recipe = fn.api(interface, "PyDict_GetItemWithError", table, key)
    fn.go_if(fn.same(recipe, "null"), "unknown")
    usual = fn.field(recipe, slots.recipe["usual"])
    fn.go_unless(fn.same(usual, _recorder(fn, "true")), "unusual")
    fn.incref(recipe)
    fn.decref(interface, key)
    inputs = fn.op(f"call ptr @tuple(ptr {interface}, ptr %x, ptr %y, ptr null)")
    fn.go_if(fn.same(inputs, "null"), "lost")
    made = f"call ptr @made(ptr %recorder, ptr {recipe}, ptr {inputs})"
    fn.do(f"ret ptr {fn.op(made)}")
    fn.block("lost")
    fn.decref(interface, recipe)
    fn.do("ret ptr null")
    fn.block("unknown")
    fn.api(interface, "PyErr_Clear")
    fn.br("unusual")
    fn.block("unusual")
    fn.decref(interface, key)
    fn.br("other")
    fn.block("other")
    for name in ("x", "y"):
        fn.decref(interface, f"%{name}")
    fn.do("ret ptr null")
    return fn


def _begin(fn: Native, *operands: str) -> list[str]:
    """The operands' Values (null for what is no Tensor), once the settings are usual."""
    _let(fn, "recorder", "load ptr, ptr %operation, align 8")
    fn.go_unless(fn.op("call i1 @is_usual(ptr %recorder)"), "other")
    return [fn.op(f"call ptr @operand(ptr %recorder, ptr %{name})") for name in operands]


def _end(fn: Native) -> Native:
    fn.block("other")
    fn.do("ret ptr null")
    return fn


def _return_found(fn: Native, *parts: str) -> None:
    listed = ", ".join(f"ptr {part}" for part in parts)
    fn.do(f"ret ptr {fn.op(f'call ptr @found(ptr %operation, {listed})')}")


def _apply_one(slots: Slots) -> Native:
    """An operation on one Tensor; null where Python must see to it, with no exception set."""
    fn = Native("apply_one", [("ptr", "operation"), ("ptr", "x")], "ptr", linkage="internal")
    (value,) = _begin(fn, "x")
    fn.go_if(fn.same(value, "null"), "other")
    recipe = fn.field(value, slots.value["recipe"])
    _return_found(fn, recipe, "null", "null", value, "null")
    return _end(fn)


def _apply_two(slots: Slots) -> Native:
    """An operation on two Tensors, or a Tensor and a number; null as above."""
    fn = Native("apply_two", [("ptr", "operation"), ("ptr", "x"), ("ptr", "y")], "ptr",
                linkage="internal")  # fmt: skip
    x, y = _begin(fn, "x", "y")
    fn.go_if(fn.same(x, "null"), "number_first")
    of_x = fn.field(x, slots.value["recipe"])
    fn.go_if(fn.same(y, "null"), "number_last")
    _return_found(fn, of_x, fn.field(y, slots.value["recipe"]), "null", x, y)
    fn.block("number_last")
    fn.go_unless(fn.op("call i1 @is_number(ptr %recorder, ptr %y)"), "other")
    _return_found(fn, of_x, fn.field("%y", 8), "%y", x, "null")
    fn.block("number_first")
    fn.go_if(fn.same(y, "null"), "other")
    fn.go_unless(fn.op("call i1 @is_number(ptr %recorder, ptr %x)"), "other")
    _return_found(fn, fn.field("%x", 8), "%x", fn.field(y, slots.value["recipe"]), y, "null")
    return _end(fn)


# -- where it is called from ------------------------------------------------------------------
def _ask_python(fn: Native, way: str, arguments: str, count: str | int) -> None:
    """Return what the operation's `way`, forward or backward, does."""
    function = fn.word("%operation", OPERATION, way, "ptr")
    made = fn.api(_recorder(fn, "interface"), "PyObject_VectorcallDict", function, arguments, count,
                  "null")  # fmt: skip
    fn.do(f"ret ptr {made}")


def _slot(name: str) -> Native:
    """What Python calls for an operator: `z` is the modulus of a power, which must be None.

    Where the first operand is no Tensor, the second one is; Python asks classes that derive from
    Tensor, and those of others, by itself.
    """
    operands = ("x", "y", "z")[: SLOTS[name]]
    fn = Native(f"slot_{name}", [("ptr", n) for n in operands], "ptr")
    entry = fn.gep("@slots", list(SLOTS).index(name), "ptr")
    _let(fn, "operation", f"load ptr, ptr {entry}, align 8")
    _let(fn, "recorder", "load ptr, ptr %operation, align 8")
    if "z" in operands:
        usual, modulus = fn.label("usual"), fn.label("modulus")
        fn.cond_br(fn.same("%z", _recorder(fn, "none")), usual, modulus)
        fn.block(modulus)
        refused = _recorder(fn, "refused")
        fn.incref(refused)
        fn.do(f"ret ptr {refused}")
        fn.block(usual)
    kind, taken = ("one", operands) if len(operands) == 1 else ("two", operands[:2])
    given = fn.op(f"alloca [{len(taken)} x ptr], align 8")
    listed = ", ".join(f"ptr %{n}" for n in taken)
    made = fn.op(f"call ptr @apply_{kind}(ptr %operation, {listed})")
    fn.go_if(fn.same(made, "null"), "other")
    fn.do(f"ret ptr {made}")
    fn.block("other")
    ways = {"forward": taken, "backward": taken[::-1]}
    fn.cond_br(fn.same(fn.field("%x", 8), _recorder(fn, "tensor")), *ways)
    for way, order in ways.items():
        fn.block(way)
        for place, operand in enumerate(order):
            fn.store("ptr", f"%{operand}", fn.gep(given, place, "ptr"), 8)
        _ask_python(fn, way, given, len(order))
    return fn


def _slots() -> Native:
    fn = Native("accel_slots", [], "ptr")
    fn.do("ret ptr @slots")
    return fn


def _apply() -> Native:
    """A built-in function that applies an op to one or two operands."""
    fn = Native("accel_apply", [("ptr", "self"), ("ptr", "arguments"), ("i64", "count")], "ptr")
    _let(fn, "operation", f"load ptr, ptr {fn.gep('%self', ARRAY['data'])}, align 8")
    _let(fn, "recorder", "load ptr, ptr %operation, align 8")
    fn.do("switch i64 %count, label %other [i64 1, label %one i64 2, label %two]")
    for label, count in (("one", 1), ("two", 2)):
        fn.block(label)
        listed = ", ".join(f"ptr {fn.item('%arguments', i, 'ptr')}" for i in range(count))
        made = fn.op(f"call ptr @apply_{label}(ptr %operation, {listed})")
        fn.go_if(fn.same(made, "null"), "other")
        fn.do(f"ret ptr {made}")
    fn.block("other")
    _ask_python(fn, "forward", "%arguments", "%count")
    return fn


# -- evaluating -------------------------------------------------------------------------------
def _walk(slots: Slots) -> Native:
    """Find the leaves of a tree: whether it is one still, of which nobody holds an inner Value,
    and whose leaves all differ."""
    fn = Native("walk", [("ptr", "recorder"), ("ptr", "tree"), ("ptr", "values"),
                         ("ptr", "leaves")], "i1", linkage="internal")  # fmt: skip
    inner_count, leaf_count = fn.op("alloca i64, align 8"), fn.op("alloca i64, align 8")
    fn.store("i64", "1", inner_count, 8)  # the root is there
    fn.store("i64", "0", leaf_count, 8)
    none = _recorder(fn, "none")
    rows = fn.word("%tree", TREE, "rows", "ptr")
    with fn.loop(0, fn.word("%tree", TREE, "paths")) as loop:
        row = fn.gep(rows, fn.integer("mul", loop.index, len(PATH)), "i64")
        user = fn.item("%values", fn.word(row, PATH, "user"), "ptr")
        place = fn.word(row, PATH, "place")
        inputs = fn.field(user, slots.value["inputs"])
        fn.go_unless(fn.icmp("slt", place, fn.field(inputs, TUPLE["size"], "i64")), "no")
        value = fn.item(fn.gep(inputs, TUPLE["items"]), place, "ptr")
        data = fn.field(value, slots.value["data"])
        computed = fn.op(f"icmp ne ptr {data}, {none}")
        is_leaf = fn.icmp("ne", fn.word(row, PATH, "leaf"), 0)
        fn.go_unless(fn.op(f"icmp eq i1 {computed}, {is_leaf}"), "no")
        leaf, inner, on = fn.label("leaf"), fn.label("inner"), fn.label("next")
        fn.cond_br(is_leaf, leaf, inner)
        fn.block(inner)
        fn.go_unless(fn.icmp("eq", fn.field(value, 0, "i64"), 1), "no")
        at = fn.load("i64", inner_count, 8)
        fn.store("ptr", value, fn.gep("%values", at, "ptr"), 8)
        fn.store("i64", fn.integer("add", at, 1), inner_count, 8)
        fn.br(on)
        fn.block(leaf)
        at = fn.load("i64", leaf_count, 8)
        with fn.loop(0, at) as before:
            fn.go_if(fn.same(fn.item("%leaves", before.index, "ptr"), data), "no")
        fn.store("ptr", data, fn.gep("%leaves", at, "ptr"), 8)
        fn.store("i64", fn.integer("add", at, 1), leaf_count, 8)
        fn.br(on)
        fn.block(on)
    fn.do("ret i1 true")
    fn.block("no")
    fn.do("ret i1 false")
    return fn


def _settle(slots: Slots) -> Native:
    """Let a Value have been computed: it takes over `data`, and its history goes."""
    fn = Native("settle", [("ptr", "recorder"), ("ptr", "value"), ("ptr", "data"),
                           ("ptr", "recipe")], linkage="internal")  # fmt: skip
    news = {"data": "%data", "recipe": "%recipe", "step": _recorder(fn, "none"),
            "inputs": _recorder(fn, "nothing")}  # fmt: skip
    olds = []
    for name, new in news.items():
        if name != "data":
            fn.incref(new)
        place = fn.gep("%value", slots.value[name])
        olds.append(fn.load("ptr", place, 8))
        fn.store("ptr", new, place, 8)
    for old in olds:  # only now, because other code may run
        fn.decref(_recorder(fn, "interface"), old)
    fn.do("ret void")
    return fn


def _evaluate(slots: Slots) -> Native:
    """A built-in function of a Value and a compile key: whether it has computed the Value."""
    fn = Native("accel_evaluate", [("ptr", "self"), ("ptr", "arguments"), ("i64", "count")], "ptr")
    _let(fn, "recorder", f"load ptr, ptr {fn.gep('%self', ARRAY['data'])}, align 8")
    interface = _recorder(fn, "interface")
    value, key = (fn.item("%arguments", i, "ptr") for i in range(2))
    fn.go_unless(fn.same(fn.field(value, 8), _recorder(fn, "value")), "no")
    recipe = fn.field(value, slots.value["recipe"])
    fn.go_unless(fn.same(fn.field(recipe, 8), _recorder(fn, "recipe")), "no")
    none = _recorder(fn, "none")
    words = fn.field(recipe, slots.recipe["native"])
    fn.go_unless(fn.same(fn.field(words, 8), _recorder(fn, "block")), "no")
    data = fn.field(value, slots.value["data"])
    fn.go_unless(fn.same(data, none), "no")
    tree = fn.field(words, ARRAY["data"])
    plan = fn.word(tree, TREE, "plan", "ptr")
    fn.go_unless(fn.same(fn.field(plan, slots.plan["settings"]), key), "no")
    values = fn.op(f"alloca ptr, i64 {fn.word(tree, TREE, 'inner')}, align 8")
    leaf_count = fn.word(tree, TREE, "leaves")
    leaves = fn.op(f"alloca ptr, i64 {leaf_count}, align 8")
    fn.store("ptr", value, values, 8)
    walk = f"call i1 @walk(ptr %recorder, ptr {tree}, ptr {values}, ptr {leaves})"
    fn.go_unless(fn.op(walk), "no")
    inputs = fn.word(tree, TREE, "inputs")
    picked = fn.op(f"alloca ptr, i64 {inputs}, align 8")
    picks = fn.word(tree, TREE, "picks", "ptr")
    with fn.loop(0, inputs) as loop:
        buffer = fn.item(leaves, fn.item(picks, loop.index), "ptr")
        fn.store("ptr", buffer, fn.gep(picked, loop.index, "ptr"), 8)
    leaf, run = fn.word(tree, TREE, "leaf", "ptr"), fn.field(plan, slots.plan["run"])
    for held in (value, leaf, run):  # other code may run meanwhile
        fn.incref(held)
    with fn.loop(0, inputs) as loop:
        fn.incref(fn.item(picked, loop.index, "ptr"))
    outputs = fn.api(interface, "PyObject_VectorcallDict", run, picked, inputs, "null")
    with fn.loop(0, inputs) as loop:
        fn.decref(interface, fn.item(picked, loop.index, "ptr"))
    fn.go_if(fn.same(outputs, "null"), "failed")
    result = first(fn, outputs)
    fn.incref(result)
    fn.do(f"call void @settle(ptr %recorder, ptr {value}, ptr {result}, ptr {leaf})")
    hits = _recorder(fn, "hits")
    fn.store("i64", fn.integer("add", fn.load("i64", hits, 8), 1), hits, 8)
    for held in (outputs, value, leaf, run):
        fn.decref(interface, held)
    for label, answer in (("", "true"), ("no", "false")):
        if label:
            fn.block(label)
        found = _recorder(fn, answer)
        fn.incref(found)
        fn.do(f"ret ptr {found}")
    fn.block("failed")
    fn.api(interface, "PyErr_Clear")
    for held in (value, leaf, run):
        fn.decref(interface, held)
    fn.br("no")
    return fn
