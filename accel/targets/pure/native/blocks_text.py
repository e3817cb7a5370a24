"""The pool of blocks as LLVM IR: large arrays begin and end with no Python in between.

``ptr accel_new_array(ptr self, ptr arguments, i64 count)`` is a built-in function that makes an
array on a block; its `self` is a block of words (`KIND`). ``accel_malloc``, ``accel_calloc``,
``accel_renew`` and ``accel_give`` are the functions of NumPy's memory handler, by which the array
gives its block back, and ``accel_clear`` is a built-in function that empties the pool.

A block is mapped from the system; on the line before its data lies its `HEADER`. Free blocks are
lists by size, in rows behind the words of the pool; the last one given back is taken first, whose
pages are still in the caches. When more than the limit lies free, the size that was not used for
longest goes back to the system first.

All of this runs under the interpreter's lock, and calls nothing that lets go of it.
"""

from __future__ import annotations

from ..machine.llvm_text import module_text
from ..machine.memory import ALIGNMENT, HUGE, PLACE, PLACES
from .api import ARRAY
from .text import Native

__all__ = ["HANDLER", "KIND", "POOL", "ROW", "ROWS", "blocks_text"]

#: Words of a pool, in front of its rows: functions of the C library and what they are given; the
#: most bytes to lie free; bytes that lie free, are in use, were in use at once; counters of
#: blocks given back and mapped.
POOL = ("mmap", "munmap", "madvise", "flags", "advice", "limit", "free", "used", "peak", "given",
        "mapped")  # fmt: skip

#: Words of the row of a size: the first of its free blocks, and when one was last given back. An
#: octave has eight sizes.
ROW = ("first", "given")
ROWS = 8 * 47

#: Words in front of a block's data: its mapping, its row (null where it is none to keep), the
#: bytes that it has room for and those in use, and the next free block of its row.
HEADER = ("base", "length", "row", "room", "bytes", "next")

#: Words of what makes arrays of one kind.
KIND = ("interface", "pool", "row", "room", "bytes", "dtype", "ndim", "dims", "handler",
        "exhausted")  # fmt: skip

#: Functions of NumPy's memory handler, in its order.
HANDLER = ("accel_malloc", "accel_calloc", "accel_renew", "accel_give")

_PAGE, _SMALL_PLACE = 4096, 4 * ALIGNMENT
_READ_WRITE = 3
# Flags of an array: C-contiguous, aligned, writable; owner of its data.
_PLAIN, _OWNER = 0x0001 | 0x0100 | 0x0400, 0x0004


def blocks_text() -> str:
    """The module."""
    return module_text([
        _clear(), _evict(), _map(), _new_block(), _take(), _give(), _malloc(), _calloc(), _renew(),
        _new_array(), _clear_all(),
    ])  # fmt: skip


def _pool(fn: Native, name: str, type_: str = "i64") -> str:
    return fn.word("%pool", POOL, name, type_)


def _set(
    fn: Native, block: str, fields: tuple[str, ...], name: str, value: str, type_: str = "i64"
) -> None:
    fn.store(type_, value, fn.gep(block, 8 * fields.index(name)), 8)


def _add(fn: Native, name: str, value: str | int) -> str:
    """Add to a word of the pool; returns the sum."""
    total = fn.integer("add", _pool(fn, name), value)
    _set(fn, "%pool", POOL, name, total)
    return total


def _header(fn: Native, data: str) -> str:
    return fn.gep(data, -ALIGNMENT)


def _null(fn: Native, pointer: str) -> str:
    return fn.same(pointer, "null")


def _unmap(fn: Native, header: str) -> None:
    base, length = fn.word(header, HEADER, "base", "ptr"), fn.word(header, HEADER, "length")
    fn.op(f"call i32 {_pool(fn, 'munmap', 'ptr')}(ptr {base}, i64 {length})")


def _pop(fn: Native, row: str, header: str) -> None:
    """Take the first block from a row."""
    _set(fn, row, ROW, "first", fn.word(header, HEADER, "next", "ptr"), "ptr")
    _add(fn, "free", fn.integer("sub", 0, fn.word(header, HEADER, "room")))


def _row(fn: Native, index: str) -> str:
    return fn.gep("%pool", fn.integer("add", fn.integer("mul", index, len(ROW)), len(POOL)), "i64")


# -- blocks from the system and back ----------------------------------------------------------
def _clear() -> Native:
    """Return all free blocks to the system."""
    fn = Native("clear", [("ptr", "pool")], linkage="internal")
    with fn.loop(0, ROWS) as loop:
        row = _row(fn, loop.index)
        again, some = fn.label("again"), fn.label("some")
        none = fn.label("none")
        fn.br(again)
        fn.block(again)
        header = fn.word(row, ROW, "first", "ptr")
        fn.cond_br(_null(fn, header), none, some)
        fn.block(some)
        _pop(fn, row, header)
        _unmap(fn, header)
        fn.br(again)
        fn.block(none)
    fn.do("ret void")
    return fn


def _evict() -> Native:
    """Return a free block to the system, of the size that was not used for longest."""
    fn = Native("evict", [("ptr", "pool")], linkage="internal")
    with fn.loop(0, ROWS, carried=[("i64", "-1"), ("ptr", "null")]) as loop:
        least, oldest = loop.values
        row = _row(fn, loop.index)
        empty = _null(fn, fn.word(row, ROW, "first", "ptr"))
        given = fn.op(f"select i1 {empty}, i64 -1, i64 {fn.word(row, ROW, 'given')}")
        older = fn.icmp("ult", given, least)
        loop.next = [
            fn.op(f"select i1 {older}, i64 {given}, i64 {least}"),
            fn.op(f"select i1 {older}, ptr {row}, ptr {oldest}"),
        ]
    oldest = loop.values[1]
    header = fn.word(oldest, ROW, "first", "ptr")
    _pop(fn, oldest, header)
    _unmap(fn, header)
    fn.do("ret void")
    return fn


def _map() -> Native:
    """Memory fresh from the system, all zeros; null where it has none, even after all free blocks
    went back to it."""
    fn = Native("map", [("ptr", "pool"), ("i64", "length")], "ptr", linkage="internal")
    mapping = _pool(fn, "mmap", "ptr")
    flags = fn.op(f"trunc i64 {_pool(fn, 'flags')} to i32")
    given = f"ptr null, i64 %length, i32 {_READ_WRITE}, i32 {flags}, i32 -1, i64 0"
    failed = "inttoptr (i64 -1 to ptr)"
    for trial in ("first", "second"):
        base = fn.op(f"call ptr {mapping}({given})")
        fn.go_if(fn.same(base, failed), f"{trial}_failed")
        fn.do(f"ret ptr {base}")
        fn.block(f"{trial}_failed")
        if trial == "first":
            fn.do("call void @clear(ptr %pool)")
    fn.do("ret ptr null")
    return fn


def _new_block() -> Native:
    """The data of a new block; null where there is no memory.

    Large ones are in huge pages, where the system has them. They begin at different places
    within a page, one after the other.
    """
    fn = Native("new_block", [("ptr", "pool"), ("ptr", "row"), ("i64", "room")], "ptr",
                linkage="internal")  # fmt: skip
    huge = fn.icmp("uge", "%room", HUGE)

    def by_size(large: str | int, small: str | int) -> str:
        return fn.op(f"select i1 {huge}, i64 {large}, i64 {small}")

    slack = by_size(ALIGNMENT + HUGE + PLACES * PLACE, _PAGE)
    length = fn.integer("add", "%room", slack)
    base = fn.op(f"call ptr @map(ptr %pool, i64 {length})")
    fn.go_if(_null(fn, base), "failed")
    number = fn.integer("and", fn.integer("sub", _add(fn, "mapped", 1), 1), PLACES - 1)
    offset = fn.integer("mul", number, by_size(PLACE, _SMALL_PLACE))
    address = fn.op(f"ptrtoint ptr {base} to i64")
    first = fn.integer("and", fn.integer("sub", 0, address), HUGE - 1)
    start = by_size(first, 0)
    data = fn.gep(fn.gep(base, fn.integer("add", start, ALIGNMENT)), offset)
    advised = fn.op(f"and i1 {huge}, {fn.icmp('ne', _pool(fn, 'advice'), 0)}")
    with fn.when(advised):
        covered = fn.integer("add", fn.integer("add", "%room", offset), ALIGNMENT)
        advice = fn.op(f"trunc i64 {_pool(fn, 'advice')} to i32")
        advise = _pool(fn, "madvise", "ptr")
        fn.op(f"call i32 {advise}(ptr {fn.gep(base, start)}, i64 {covered}, i32 {advice})")
    header = _header(fn, data)
    for name, value, type_ in (("base", base, "ptr"), ("length", length, "i64"),
                               ("row", "%row", "ptr"), ("room", "%room", "i64")):  # fmt: skip
        _set(fn, header, HEADER, name, value, type_)
    fn.do(f"ret ptr {data}")
    fn.block("failed")
    fn.do("ret ptr null")
    return fn


# -- taking and giving back -------------------------------------------------------------------
def _take() -> Native:
    """The data of a block for so many bytes; null where there is no memory."""
    fn = Native("take", [("ptr", "pool"), ("ptr", "row"), ("i64", "room"), ("i64", "bytes")],
                "ptr", linkage="internal")  # fmt: skip
    fn.go_if(_null(fn, "%row"), "fresh")
    header = fn.word("%row", ROW, "first", "ptr")
    fn.go_if(_null(fn, header), "fresh")
    _pop(fn, "%row", header)
    kept, old = fn.gep(header, ALIGNMENT), fn.block_name
    fn.br("taken")
    fn.block("fresh")
    made = fn.op("call ptr @new_block(ptr %pool, ptr %row, i64 %room)")
    fn.go_if(_null(fn, made), "failed")
    new = fn.block_name
    fn.br("taken")
    fn.block("taken")
    data = fn.phi("ptr", (kept, old), (made, new))
    _set(fn, _header(fn, data), HEADER, "bytes", "%bytes")
    used = _add(fn, "used", "%bytes")
    with fn.when(fn.icmp("ugt", used, _pool(fn, "peak"))):
        _set(fn, "%pool", POOL, "peak", used)
    fn.do(f"ret ptr {data}")
    fn.block("failed")
    fn.do("ret ptr null")
    return fn


def _give() -> Native:
    """Take a block back whose array is gone."""
    fn = Native("accel_give", [("ptr", "pool"), ("ptr", "data"), ("i64", "bytes")])
    fn.go_if(_null(fn, "%data"), "done")
    header = _header(fn, "%data")
    row, room = fn.word(header, HEADER, "row", "ptr"), fn.word(header, HEADER, "room")
    _add(fn, "used", fn.integer("sub", 0, fn.word(header, HEADER, "bytes")))
    fn.go_if(_null(fn, row), "unkept")
    limit = _pool(fn, "limit")
    fn.go_if(fn.icmp("ugt", room, limit), "unkept")
    _set(fn, header, HEADER, "next", fn.word(row, ROW, "first", "ptr"), "ptr")
    _set(fn, row, ROW, "first", header, "ptr")
    _set(fn, row, ROW, "given", _add(fn, "given", 1))
    _add(fn, "free", room)
    fn.br("look")
    fn.block("look")
    fn.go_unless(fn.icmp("ugt", _pool(fn, "free"), limit), "done")
    fn.do("call void @evict(ptr %pool)")
    fn.br("look")
    fn.block("unkept")
    _unmap(fn, header)
    fn.br("done")
    fn.block("done")
    fn.do("ret void")
    return fn


# -- what else a memory handler has -----------------------------------------------------------
def _malloc() -> Native:
    """Memory of no size that is kept."""
    fn = Native("accel_malloc", [("ptr", "pool"), ("i64", "bytes")], "ptr")
    fn.do(f"ret ptr {fn.op('call ptr @take(ptr %pool, ptr null, i64 %bytes, i64 %bytes)')}")
    return fn


def _calloc() -> Native:
    fn = Native("accel_calloc", [("ptr", "pool"), ("i64", "count"), ("i64", "size")], "ptr")
    total = fn.integer("mul", "%count", "%size")
    fn.do(f"ret ptr {fn.op(f'call ptr @accel_malloc(ptr %pool, i64 {total})')}")
    return fn


def _renew() -> Native:
    """The same data in room for more or fewer bytes; null where there is no memory."""
    fn = Native("accel_renew", [("ptr", "pool"), ("ptr", "data"), ("i64", "bytes")], "ptr")
    made = fn.op("call ptr @accel_malloc(ptr %pool, i64 %bytes)")
    fn.go_if(_null(fn, made), "done")
    fn.go_if(_null(fn, "%data"), "done")
    before = fn.word(_header(fn, "%data"), HEADER, "bytes")
    common = fn.call("i64", "llvm.umin.i64", ("i64", before), ("i64", "%bytes"))
    with fn.loop(0, common) as loop:
        byte = fn.load("i8", fn.gep("%data", loop.index), 1)
        fn.store("i8", byte, fn.gep(made, loop.index), 1)
    fn.do(f"call void @accel_give(ptr %pool, ptr %data, i64 {before})")
    fn.br("done")
    fn.block("done")
    fn.do(f"ret ptr {made}")
    return fn


# -- what Python calls ------------------------------------------------------------------------
_BUILTIN = [("ptr", "self"), ("ptr", "arguments"), ("i64", "count")]


def _new_array() -> Native:
    """A new array on a block; null with an exception set."""
    fn = Native("accel_new_array", _BUILTIN, "ptr")
    kind = fn.field("%self", ARRAY["data"])
    interface, pool = (fn.word(kind, KIND, name, "ptr") for name in ("interface", "pool"))
    row = fn.word(kind, KIND, "row", "ptr")
    room, count = fn.word(kind, KIND, "room"), fn.word(kind, KIND, "bytes")
    data = fn.op(f"call ptr @take(ptr {pool}, ptr {row}, i64 {room}, i64 {count})")
    fn.go_if(_null(fn, data), "exhausted")
    dtype, handler = (fn.word(kind, KIND, name, "ptr") for name in ("dtype", "handler"))
    fn.incref(dtype)  # the array takes it over
    ndim = fn.op(f"trunc i64 {fn.word(kind, KIND, 'ndim')} to i32")
    array = fn.api(
        interface, "PyArray_NewFromDescr", fn.object_named(interface, "ndarray"), dtype, ndim,
        fn.word(kind, KIND, "dims", "ptr"), "null", data, _PLAIN, "null",
    )  # fmt: skip
    fn.go_if(_null(fn, array), "lost")
    fn.incref(handler)
    fn.store("ptr", handler, fn.gep(array, ARRAY["handler"]), 8)
    flags = fn.op(f"or i32 {fn.field(array, ARRAY['flags'], 'i32')}, {_OWNER}")
    fn.store("i32", flags, fn.gep(array, ARRAY["flags"]), 4)
    fn.do(f"ret ptr {array}")
    fn.block("lost")
    fn.do(f"call void @accel_give(ptr {pool}, ptr {data}, i64 {count})")
    fn.do("ret ptr null")
    fn.block("exhausted")
    raises = fn.word(kind, KIND, "exhausted", "ptr")
    fn.do(f"ret ptr {fn.api(interface, 'PyObject_VectorcallDict', raises, 'null', 0, 'null')}")
    return fn


def _clear_all() -> Native:
    fn = Native("accel_clear", _BUILTIN, "ptr")
    kind = fn.field("%self", ARRAY["data"])
    fn.do(f"call void @clear(ptr {fn.word(kind, KIND, 'pool', 'ptr')})")
    none = fn.word(kind, KIND, "exhausted", "ptr")
    fn.incref(none)
    fn.do(f"ret ptr {none}")
    return fn
