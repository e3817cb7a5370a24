"""Spare Tensors as LLVM IR: results that died are used again, array and all.

Making a small result costs more than computing it: an array, a Value, a Tensor. So a Tensor that
dies with nothing but a computed Value of its own, and that with nothing but a small array of its
own, is laid by as it is, and the next result of that type is written into it. What anybody
still holds, a view of the array included, is in nobody's way: then the Tensor ends as usual.

Spares lie in a table by the address of their type, which they keep alive. They are out of the
collector's sight, and few: at most `_BUCKETS` times `_DEPTH` arrays of `_BYTES` bytes.
"""

from __future__ import annotations

from .api import ARRAY
from .layout import WORLD, Layout
from .text import INLINE, Native

__all__ = ["SPARE_TABLE", "spare_functions"]

_BUCKETS, _DEPTH = 64, 8
#: The largest array that is laid by: from here on the kernels' time prevails.
_BYTES = 4096

# A bucket is its number of spares, then the spares.
_WORDS = 1 + _DEPTH

# Of an array's flags: C-contiguous, owner of its data, aligned, writable; and to be copied back.
_OWN, _COPIED = 0x0001 | 0x0004 | 0x0100 | 0x0400, 0x2000

#: Globals of the module that has the functions.
SPARE_TABLE = (
    f"@buckets = internal global [{_BUCKETS * _WORDS} x i64] zeroinitializer, align 64\n"
    "@world = internal global ptr null\n"
)


def spare_functions(layout: Layout) -> list[Native]:
    """``ptr take_spare`` and ``accel_end_tensor``, which is to end Tensors in Python's place, and
    ``ptr accel_world``, which says where it finds the address of the world."""
    return [_bucket(), _end(layout), _take(layout), _is_spare(layout), _end_tensor(layout),
            _world()]  # fmt: skip


def _bucket() -> Native:
    """The bucket of a type."""
    fn = Native("bucket", [("ptr", "type")], "ptr", attrs=INLINE, linkage="internal")
    number = fn.op("ptrtoint ptr %type to i64")
    mixed = fn.op(f"xor i64 {fn.op(f'lshr i64 {number}, 4')}, {fn.op(f'lshr i64 {number}, 10')}")
    index = fn.integer("mul", fn.integer("and", mixed, _BUCKETS - 1), _WORDS)
    fn.do(f"ret ptr {fn.gep('@buckets', index, 'i64')}")
    return fn


def _end(layout: Layout) -> Native:
    """End a Tensor. Of an instance of a derived class Python has ended what that class has.

    Gradients of gradients are ended in a loop, so that they need no stack.
    """
    fn = Native("end", [("ptr", "world"), ("ptr", "first")], linkage="internal")
    interface = fn.word("%world", WORLD, "interface", "ptr")
    usual = fn.word("%world", WORLD, "tensor", "ptr")
    fn.br("again")
    fn.block("again")
    fn.lines.append("  %tensor = phi ptr [%first, %entry], [%gradient, %following]")
    kind = fn.field("%tensor", 8)
    fn.api(interface, "PyObject_GC_UnTrack", "%tensor")
    fn.api(interface, "PyObject_ClearWeakRefs", "%tensor")
    for name, field in (("gradient", "_grad"), ("value", "_value")):
        place = fn.gep("%tensor", layout.tensor[field])
        fn.lines.append(f"  %{name} = load ptr, ptr {place}, align 8")
        fn.store("ptr", "null", place, 8)
    fn.decref(interface, "%value")
    fn.api(interface, "PyObject_GC_Del", "%tensor")
    fn.decref(interface, kind)
    fn.go_if(fn.same("%gradient", "null"), "done")
    fn.go_unless(fn.same(fn.field("%gradient", 8), usual), "other")
    fn.go_unless(fn.icmp("eq", fn.field("%gradient", 0, "i64"), 1), "other")
    fn.br("following")
    fn.block("following")
    fn.store("i64", "0", "%gradient", 8)
    fn.br("again")
    fn.block("other")
    fn.decref(interface, "%gradient")
    fn.br("done")
    fn.block("done")
    fn.do("ret void")
    return fn


def _take(layout: Layout) -> Native:
    """A spare Tensor of a type, whose array is as the spec says; null where there is none."""
    fn = Native("take_spare", [("ptr", "world"), ("ptr", "type"), ("ptr", "spec")], "ptr",
                attrs=INLINE, linkage="internal")  # fmt: skip
    interface = fn.word("%world", WORLD, "interface", "ptr")
    bucket = fn.op("call ptr @bucket(ptr %type)")
    count = fn.load("i64", bucket, 8)
    fn.go_if(fn.icmp("eq", count, 0), "none")
    tensor = fn.item(bucket, count, "ptr")
    value = fn.field(tensor, layout.tensor["_value"])
    fn.go_unless(fn.same(fn.field(value, layout.value["type"]), "%type"), "none")
    fn.store("i64", fn.integer("sub", count, 1), bucket, 8)
    array = fn.field(value, layout.value["data"])
    data = fn.op(f"call ptr @array_data(ptr {interface}, ptr {array}, ptr %spec)")
    fn.go_if(fn.same(data, "null"), "unlike")
    fn.store("i64", "1", tensor, 8)
    fn.api(interface, "PyObject_GC_Track", tensor)
    fn.do(f"ret ptr {tensor}")
    fn.block("unlike")  # of the same type, but not as kernels write it
    fn.do(f"call void @end(ptr %world, ptr {tensor})")
    fn.br("none")
    fn.block("none")
    fn.do("ret ptr null")
    return fn


def _is_spare(layout: Layout) -> Native:
    """Whether a dying Tensor has what results have, and has it for itself."""
    fn = Native("is_spare", [("ptr", "world"), ("ptr", "tensor")], "i1", attrs=INLINE,
                linkage="internal")  # fmt: skip

    def require(condition: str) -> None:
        fn.go_unless(condition, "no")

    def require_same(a: str, b: str) -> None:
        require(fn.same(a, b))

    none, false = (fn.word("%world", WORLD, name, "ptr") for name in ("none", "false"))
    require_same(fn.field("%tensor", layout.tensor["__weakref__"]), "null")
    require_same(fn.field("%tensor", layout.tensor["_grad"]), none)
    value = fn.field("%tensor", layout.tensor["_value"])
    fn.go_if(fn.same(value, "null"), "no")
    require(fn.icmp("eq", fn.field(value, 0, "i64"), 1))
    require_same(fn.field(value, layout.value["__weakref__"]), "null")
    usual = fn.word("%world", WORLD, "usual", "ptr")
    for place, names in enumerate(layout.usual):
        object_ = fn.item(usual, place, "ptr")
        for name in names:
            require_same(fn.field(value, layout.value[name]), object_)
    require_same(fn.field(value, layout.value["owner"]), none)
    require_same(fn.field(value, layout.value["requires_grad"]), false)
    array = fn.field(value, layout.value["data"])
    require(fn.icmp("eq", fn.field(array, 0, "i64"), 1))
    interface = fn.word("%world", WORLD, "interface", "ptr")
    require_same(fn.field(array, 8), fn.object_named(interface, "ndarray"))
    require_same(fn.field(array, ARRAY["weakrefs"]), "null")
    flags = fn.op(f"and i32 {fn.field(array, ARRAY['flags'], 'i32')}, {_OWN | _COPIED}")
    require(fn.op(f"icmp eq i32 {flags}, {_OWN}"))
    ndim = fn.field(array, ARRAY["ndim"], "i32")
    fn.go_if(fn.op(f"icmp eq i32 {ndim}, 0"), "yes")
    extent, stride = (fn.field(fn.field(array, ARRAY[n]), 0, "i64") for n in ("dims", "strides"))
    require(fn.icmp("ule", fn.integer("mul", extent, stride), _BYTES))
    fn.br("yes")
    for label, answer in (("yes", "true"), ("no", "false")):
        fn.block(label)
        fn.do(f"ret i1 {answer}")
    return fn


def _end_tensor(layout: Layout) -> Native:
    """What Python calls for a Tensor to which nothing refers any more."""
    fn = Native("accel_end_tensor", [("ptr", "tensor")])
    world = fn.load("ptr", "@world", 8)
    interface = fn.word(world, WORLD, "interface", "ptr")
    kind = fn.same(fn.field("%tensor", 8), fn.word(world, WORLD, "tensor", "ptr"))
    fn.go_unless(kind, "end")
    fn.go_unless(fn.op(f"call i1 @is_spare(ptr {world}, ptr %tensor)"), "end")
    type_ = fn.field(fn.field("%tensor", layout.tensor["_value"]), layout.value["type"])
    bucket = fn.op(f"call ptr @bucket(ptr {type_})")
    count = fn.load("i64", bucket, 8)
    fn.go_if(fn.icmp("eq", count, 0), "lay_by")
    last = fn.field(fn.item(bucket, count, "ptr"), layout.tensor["_value"])
    fn.go_unless(fn.same(fn.field(last, layout.value["type"]), type_), "other")
    fn.go_if(fn.icmp("eq", count, _DEPTH), "end")
    fn.br("lay_by")
    fn.block("lay_by")
    fn.api(interface, "PyObject_GC_UnTrack", "%tensor")
    more = fn.integer("add", count, 1)
    fn.store("i64", more, bucket, 8)
    fn.store("ptr", "%tensor", fn.gep(bucket, more, "i64"), 8)
    fn.do("ret void")
    fn.block("other")  # the types share a bucket: make room for this one
    fn.store("i64", fn.integer("sub", count, 1), bucket, 8)
    fn.do(f"call void @end(ptr {world}, ptr {fn.item(bucket, count, 'ptr')})")
    fn.br("end")
    fn.block("end")
    fn.do(f"call void @end(ptr {world}, ptr %tensor)")
    fn.do("ret void")
    return fn


def _world() -> Native:
    fn = Native("accel_world", [], "ptr")
    fn.do("ret ptr @world")
    return fn
