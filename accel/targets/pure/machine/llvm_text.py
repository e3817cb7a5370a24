"""LLVM IR written as text: functions, blocks, loops and vector arithmetic.

Text is about ten times faster to produce than `llvmlite.ir` objects, and it can be read.
Values are the strings that name them (``%v12`` or a literal). Two classes divide the work:

- :class:`Function` writes one function: instructions, blocks, counted loops.
- :class:`Lanes` writes arithmetic on one element type at one vector width; width 1 writes
  scalars, so the same emitter serves the loop body, its tail and row-level code.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager

__all__ = ["LINE", "Carried", "Function", "Lanes", "Loop", "float_literal", "module_text"]

#: Bytes of a cache line.
LINE = 64

_SUFFIX = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}
ELEMENT_BYTES = {
    "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8,
    "half": 2, "bfloat": 2, "float": 4, "double": 8,
}  # fmt: skip


def float_literal(value: float, element: str) -> str:
    """The LLVM literal of `value` rounded to `element` (``float`` or ``double``).

    LLVM writes both as the 16 hexadecimal digits of a double.
    """
    if element == "float":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return "0x" + struct.pack(">d", value).hex().upper()


class Carried:
    """Values that go through code which may not run, or run again, and their successors."""

    __slots__ = ("next", "values")

    def __init__(self, values: list[str]) -> None:
        self.values = values
        self.next: list[str] = list(values)


class Loop(Carried):
    """A counted loop being written: its index, the carried values and their successors."""

    __slots__ = ("index",)

    def __init__(self, index: str, values: list[str]) -> None:
        super().__init__(values)
        self.index = index


class Function:
    """One LLVM function, written instruction by instruction.

    Parameters
    ----------
    name
        The symbol.
    params
        ``(type, name)`` pairs; a parameter is used as ``%name``.
    ret
        Return type.
    attrs
        Attributes behind the parameter list.
    linkage
        ``""`` for an exported function, ``"internal"`` for a helper.
    instructions
        Which of the machine's own instructions may be used: `jit.Machine.instructions`.
    """

    def __init__(
        self,
        name: str,
        params: Sequence[tuple[str, str]],
        ret: str = "void",
        attrs: str = "nounwind",
        linkage: str = "",
        instructions: str = "",
    ) -> None:
        self.name = name
        self.params = list(params)
        self.ret = ret
        self.attrs = attrs
        self.linkage = linkage
        self.instructions = instructions
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.block_name = "entry"
        self.streams = False
        #: Internal functions that this one calls, by symbol; how often what could be one is in
        #: line; names of what is used several times, so that it should be one.
        self.helpers: dict[str, Function] = {}
        self.in_line: Counter[str] = Counter()
        self.repeated: Set[str] = frozenset()
        self._values = 0
        self._labels = 0

    # -- instructions ---------------------------------------------------------------------
    def op(self, text: str) -> str:
        """Write an instruction that yields a value; returns the value's name."""
        self._values += 1
        name = f"%v{self._values}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write an instruction without a value (a store, a branch)."""
        self.lines.append("  " + text)

    def call(self, ret: str, name: str, *args: tuple[str, str]) -> str:
        """Call an intrinsic or external function, declaring it; `args` are (type, value)."""
        self.declarations.add(f"declare {ret} @{name}({', '.join(t for t, _ in args)})")
        text = f"call {ret} @{name}({', '.join(f'{t} {v}' for t, v in args)})"
        if ret == "void":
            self.do(text)
            return ""
        return self.op(text)

    def helper(
        self, name: str, params: Sequence[tuple[str, str]], ret: str,
        write: Callable[[Function], str], *args: str,
    ) -> str:  # fmt: skip
        """Call an internal function, written once: `write` writes it and returns its result."""
        if name not in self.helpers:
            fn = Function(name, params, ret, self.attrs, "internal", self.instructions)
            fn.helpers = self.helpers
            fn.do(f"ret {ret} {write(fn)}")
            self.helpers[name] = fn
        values = ", ".join(f"{t} {v}" for (t, _), v in zip(params, args, strict=True))
        return self.op(f"call {ret} @{name}({values})")

    def gep(self, pointer: str, index: str | int, element: str = "i8") -> str:
        """`pointer` moved by `index` elements (bytes unless an element type is given)."""
        return self.op(f"getelementptr {element}, ptr {pointer}, i64 {index}")

    def load(self, type_: str, pointer: str, align: int) -> str:
        return self.op(f"load {type_}, ptr {pointer}, align {align}")

    def store(self, type_: str, value: str, pointer: str, align: int) -> None:
        self.do(f"store {type_} {value}, ptr {pointer}, align {align}")

    def stream(self, type_: str, value: str, pointer: str, align: int) -> None:
        """A store that passes by the caches; a fence must follow before others are told."""
        self.do(f"store {type_} {value}, ptr {pointer}, align {align}, !nontemporal !0")
        self.streams = True

    def prefetch(self, pointer: str, writes: bool = False, locality: int = 3) -> None:
        """Ask for the line of memory at `pointer`: 3 for the nearest cache, 2 for the next."""
        self.call("void", "llvm.prefetch.p0", ("ptr", pointer), ("i32", str(int(writes))),
                  ("i32", str(locality)), ("i32", "1"))  # fmt: skip

    def integer(self, operation: str, a: str | int, b: str | int) -> str:
        """i64 arithmetic on extents and offsets: add, sub, mul, sdiv, srem, and, shl …"""
        return self.op(f"{operation} i64 {a}, {b}")

    def icmp(self, predicate: str, a: str | int, b: str | int) -> str:
        return self.op(f"icmp {predicate} i64 {a}, {b}")

    # -- control flow ---------------------------------------------------------------------
    def label(self, stem: str) -> str:
        """A fresh block name."""
        self._labels += 1
        return f"{stem}{self._labels}"

    def block(self, label: str) -> None:
        """Start block `label`; the previous block must have ended with a branch."""
        self.lines.append(f"{label}:")
        self.block_name = label

    def br(self, label: str) -> None:
        self.do(f"br label %{label}")

    def cond_br(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def phi(self, type_: str, *incoming: tuple[str, str]) -> str:
        """`incoming` are (value, block) pairs."""
        return self.op(f"phi {type_} " + ", ".join(f"[{v}, %{b}]" for v, b in incoming))

    @contextmanager
    def loop(
        self,
        begin: str | int,
        end: str | int,
        step: str | int = 1,
        carried: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Loop]:
        """A loop ``for index in range(begin, end, step)`` that may run zero times.

        `carried` are (type, initial value) pairs. The body reads `Loop.values` and leaves
        their successors in `Loop.next`; after the loop `Loop.values` are the final values.
        """
        head, body, done = self.label("head"), self.label("body"), self.label("done")
        before = self.block_name
        self.br(head)
        self.block(head)
        at = len(self.lines)
        self._values += 1
        index = f"%v{self._values}"
        names = []
        for _ in carried:
            self._values += 1
            names.append(f"%v{self._values}")
        self.lines.append("")  # the phis, known only when the body has been written
        self.cond_br(self.icmp("slt", index, end), body, done)
        self.block(body)
        loop = Loop(index, list(names))
        yield loop
        following = self._opaque("i64", self.integer("add", index, step))
        successors = [
            self._opaque(type_, s) if type_ in ("i64", "ptr") and s.startswith("%") else s
            for (type_, _), s in zip(carried, loop.next, strict=True)
        ]
        latch = self.block_name
        self.br(head)
        phis = [f"  {index} = phi i64 [{begin}, %{before}], [{following}, %{latch}]"]
        for name, (type_, initial), successor in zip(names, carried, successors, strict=True):
            phis.append(f"  {name} = phi {type_} [{initial}, %{before}], [{successor}, %{latch}]")
        self.lines[at] = "\n".join(phis)
        self.block(done)
        loop.values = names

    def _opaque(self, type_: str, value: str) -> str:
        """`value`, of which LLVM's analyses know nothing.

        What such steps count is no induction to them. Up to a third of code generation went
        into rewriting the addresses in loops, which are written as processors want them.
        """
        return self.op(f"freeze {type_} {value}")

    @contextmanager
    def when(self, condition: str, carried: Sequence[tuple[str, str]] = ()) -> Iterator[Carried]:
        """Run the body only where `condition` (an i1) holds.

        `carried` are (type, value) pairs: the values where the condition does not hold. The body
        leaves what takes their place in `Carried.next`; `Carried.values` are either, afterwards.
        """
        then, done = self.label("then"), self.label("done")
        before = self.block_name
        self.cond_br(condition, then, done)
        self.block(then)
        branch = Carried([value for _, value in carried])
        yield branch
        latch = self.block_name
        self.br(done)
        self.block(done)
        branch.values = [
            self.phi(type_, (value, before), (successor, latch))
            for (type_, value), successor in zip(carried, branch.next, strict=True)
        ]

    def text(self) -> str:
        params = ", ".join(f"{t} %{n}" for t, n in self.params)
        linkage = self.linkage + " " if self.linkage else ""
        body = "\n".join(self.lines)
        return (
            f"define {linkage}{self.ret} @{self.name}({params}) {self.attrs} {{\n"
            f"entry:\n{body}\n}}\n"
        )


def module_text(functions: Sequence[Function]) -> str:
    """The module of `functions` and their helpers, each intrinsic declared once."""
    functions = [*functions, *{k: h for f in functions for k, h in f.helpers.items()}.values()]
    defined = {f"@{f.name}(" for f in functions}
    declarations = sorted(
        d
        for d in set().union(*(f.declarations for f in functions))
        if not any(name in d for name in defined)
    )
    if any(f.streams for f in functions):
        declarations.append("!0 = !{i32 1}")
    return "\n".join(f.text() for f in functions) + "\n" + "\n".join(declarations) + "\n"


class Lanes:
    """Arithmetic on `width` lanes of one element type, written into a function.

    `element` is an LLVM type: ``float``, ``double``, ``i8`` … ``i64`` or ``i1``. Every
    method takes and returns value names; Python numbers are accepted for constants.
    """

    def __init__(self, fn: Function, element: str, width: int) -> None:
        self.fn = fn
        self.element = element
        self.width = width
        self.is_float = element in _SUFFIX
        self.bits = ELEMENT_BYTES[element] * 8 if element != "i1" else 1
        self.bytes = ELEMENT_BYTES[element]
        self.type = element if width == 1 else f"<{width} x {element}>"
        self.mask_type = "i1" if width == 1 else f"<{width} x i1>"
        scalar = _SUFFIX.get(element, element)
        self.suffix = scalar if width == 1 else f"v{width}{scalar}"

    def like(self, element: str) -> Lanes:
        """The same lanes with another element type."""
        return Lanes(self.fn, element, self.width)

    @property
    def integers(self) -> Lanes:
        """The integer lanes of the same bits."""
        return self.like(f"i{self.bits}")

    # -- constants ------------------------------------------------------------------------
    def const(self, value: float | int) -> str:
        """A constant in every lane."""
        if self.is_float:
            literal = float_literal(float(value), self.element)
        else:
            number = int(value) & ((1 << self.bits) - 1)
            if self.bits > 1 and number >> (self.bits - 1):
                number -= 1 << self.bits
            literal = str(number) if self.bits > 1 else ("true" if number else "false")
        return literal if self.width == 1 else f"splat ({self.element} {literal})"

    def v(self, value: str | float | int) -> str:
        return value if isinstance(value, str) else self.const(value)

    # -- arithmetic -----------------------------------------------------------------------
    def binary(self, operation: str, a: str | float, b: str | float) -> str:
        """Any two-operand instruction: fadd, sub, and, shl, …"""
        return self.fn.op(f"{operation} {self.type} {self.v(a)}, {self.v(b)}")

    def add(self, a: str | float, b: str | float) -> str:
        return self.binary("fadd" if self.is_float else "add", a, b)

    def sub(self, a: str | float, b: str | float) -> str:
        return self.binary("fsub" if self.is_float else "sub", a, b)

    def mul(self, a: str | float, b: str | float) -> str:
        return self.binary("fmul" if self.is_float else "mul", a, b)

    def div(self, a: str | float, b: str | float) -> str:
        """Floating-point division (integer division has traps; see the lowerings)."""
        return self.binary("fdiv", a, b)

    def neg(self, a: str) -> str:
        if self.is_float:
            return self.fn.op(f"fneg {self.type} {a}")
        return self.sub(0, a)

    def intrinsic(self, name: str, *args: str | float) -> str:
        """An overloaded intrinsic whose operands and result all have this type."""
        return self.fn.call(
            self.type, f"llvm.{name}.{self.suffix}", *((self.type, self.v(a)) for a in args)
        )

    def fma(self, a: str | float, b: str | float, c: str | float) -> str:
        return self.intrinsic("fma", a, b, c)

    def abs(self, a: str) -> str:
        if self.is_float:
            return self.intrinsic("fabs", a)
        return self.select(self.cmp("slt", a, 0), self.neg(a), a)

    def copysign(self, a: str | float, sign: str) -> str:
        return self.intrinsic("copysign", a, sign)

    def cmp(self, predicate: str, a: str | float, b: str | float) -> str:
        """A comparison: fcmp predicates (olt, oeq, uno …) or icmp ones (slt, eq, ult …)."""
        instruction = "fcmp" if self.is_float else "icmp"
        return self.fn.op(f"{instruction} {predicate} {self.type} {self.v(a)}, {self.v(b)}")

    def select(self, mask: str, a: str | float, b: str | float) -> str:
        return self.fn.op(
            f"select {self.mask_type} {mask}, {self.type} {self.v(a)}, {self.type} {self.v(b)}"
        )

    def mask_op(self, operation: str, a: str, b: str) -> str:
        """and, or, xor of two masks."""
        return self.fn.op(f"{operation} {self.mask_type} {a}, {b}")

    def bits_of(self, a: str) -> str:
        """The lanes' bits as integers."""
        return self.fn.op(f"bitcast {self.type} {a} to {self.integers.type}")

    def from_bits(self, a: str) -> str:
        return self.fn.op(f"bitcast {self.integers.type} {a} to {self.type}")

    def convert(self, instruction: str, a: str, source: Lanes) -> str:
        """A conversion instruction (sitofp, fpext, trunc …) from `source`'s type to this one."""
        return self.fn.op(f"{instruction} {source.type} {a} to {self.type}")

    # -- memory ---------------------------------------------------------------------------
    def load(self, pointer: str) -> str:
        """Consecutive elements at `pointer`, aligned to the element only, as NumPy's data is."""
        return self.fn.load(self.type, pointer, self.bytes)

    def store(self, value: str, pointer: str) -> None:
        self.fn.store(self.type, value, pointer, self.bytes)

    def lane_mask(self, begin: str | int, end: str | int) -> str:
        """The lanes i with begin + i < end."""
        fn, width = self.fn, self.width
        if width > 63:
            return fn.call(
                self.mask_type, f"llvm.get.active.lane.mask.v{width}i1.i64",
                ("i64", str(begin)), ("i64", str(end)),
            )  # fmt: skip
        # Bits of a number, because lanes are counted in registers of their own otherwise.
        count = fn.call("i64", "llvm.smin.i64", ("i64", fn.integer("sub", end, begin)),
                        ("i64", str(width)))  # fmt: skip
        count = fn.call("i64", "llvm.smax.i64", ("i64", count), ("i64", "0"))
        bits = fn.integer("xor", fn.integer("shl", -1, count), -1)
        if width == 1:
            return fn.op(f"trunc i64 {bits} to i1")
        bits = fn.op(f"trunc i64 {bits} to i{width}")
        return fn.op(f"bitcast i{width} {bits} to {self.mask_type}")

    def masked_load(self, pointer: str, mask: str, otherwise: str | float = 0) -> str:
        return self.fn.call(
            self.type, f"llvm.masked.load.{self.suffix}.p0", ("ptr", pointer),
            ("i32", str(self.bytes)), (self.mask_type, mask), (self.type, self.v(otherwise)),
        )  # fmt: skip

    def masked_store(self, value: str, pointer: str, mask: str) -> None:
        self.fn.call(
            "void", f"llvm.masked.store.{self.suffix}.p0", (self.type, value),
            ("ptr", pointer), ("i32", str(self.bytes)), (self.mask_type, mask),
        )  # fmt: skip

    def gather(self, pointers: str, mask: str | None = None) -> str:
        """What lies at a vector of pointers; zeros where a mask has none."""
        return self.fn.call(
            self.type, f"llvm.masked.gather.{self.suffix}.v{self.width}p0",
            (f"<{self.width} x ptr>", pointers), ("i32", str(self.bytes)),
            (self.mask_type, mask or "splat (i1 true)"), (self.type, "zeroinitializer"),
        )  # fmt: skip

    def scatter(self, value: str, pointers: str, mask: str | None = None) -> None:
        """Store lanes at a vector of pointers, the last of those that meet winning."""
        self.fn.call(
            "void", f"llvm.masked.scatter.{self.suffix}.v{self.width}p0", (self.type, value),
            (f"<{self.width} x ptr>", pointers), ("i32", str(self.bytes)),
            (self.mask_type, mask or "splat (i1 true)"),
        )  # fmt: skip

    def splat(self, scalar: str) -> str:
        """A scalar value in every lane."""
        if self.width == 1:
            return scalar
        one = self.fn.op(f"insertelement {self.type} poison, {self.element} {scalar}, i64 0")
        return self.fn.op(
            f"shufflevector {self.type} {one}, {self.type} poison, "
            f"<{self.width} x i32> zeroinitializer"
        )

    def reversed(self, value: str) -> str:
        """The lanes in the opposite order."""
        order = ", ".join(f"i32 {k}" for k in range(self.width - 1, -1, -1))
        return self.fn.op(
            f"shufflevector {self.type} {value}, {self.type} poison, <{self.width} x i32> <{order}>"
        )
