"""Values: what Tensors stand for, recorded but perhaps not computed; and their way to nodes.

Undecorated code and tracing record the same Values. They become nodes of a Graph only when
something is evaluated, differentiated, or a trace ends. Nothing here recurses: a chain of
100,000 operations is walked with a list.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ...errors import (
    HIDDEN_FOLDERS,
    OWN_FOLDER,
    AccelError,
    FreedTensorError,
    Location,
    OutOfMemoryError,
    TraceError,
    debug_enabled,
    user_location,
)  # fmt: skip
from ...ir import dtypes
from ...ir.builder import Builder
from ...ir.dtypes import DType
from ...ir.node import Node, attr_key
from ...ir.op import Op, get_op
from ...ir.types import TensorType

__all__ = ["ALIAS", "CALL", "FREED", "HIDDEN_FOLDERS", "Cast", "Lowering", "Step", "Value",
           "hide_frames", "leaked", "strong_type", "topological", "user_location"]  # fmt: skip


class _Form:
    """A kind of Value that is no op: it leaves no node of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


#: The same value as its one input under other gradient rules (detach, a leaf's new value).
ALIAS = _Form("alias")
#: Output `index` of `graph` applied to the inputs: a compiled function's result that can be
#: differentiated.
CALL = _Form("call")
#: What a tensor stands for that was freed: a type, and no value any more.
FREED = _Form("freed")

_NO_ATTRS: Mapping[str, Any] = {}


class Cast(NamedTuple):
    """An operand in another dtype, taken from place `place` of the operands."""

    place: int
    dtype: DType
    weak: bool


class Step:
    """One application of an op, typed and checked, whatever Values it is applied to.

    Attributes
    ----------
    op, attrs, type
        What is applied, its canonical attributes, the result's type.
    takes
        What the op takes where that is not just the inputs: places among them, `Cast`s of them
        and the attributes of constants. None: the inputs as they are.
    """

    __slots__ = ("_number", "attrs", "op", "takes", "type")

    def __init__(
        self, op: Op | _Form, attrs: Mapping[str, Any], type_: TensorType,
        takes: tuple[int | Cast | Mapping[str, Any], ...] | None = None,
    ) -> None:  # fmt: skip
        self.op = op
        self.attrs = attrs
        self.type = type_
        self.takes = takes
        self._number: int | None = None

    @property
    def number(self) -> int:
        """A number that steps have in common if they do the same to inputs of the same types."""
        found = self._number
        if found is None:
            found = self._number = _number_of(self._structure())
        return found

    def _structure(self) -> Any:
        name = self.op.name if isinstance(self.op, Op) else self.op
        attrs = tuple([attr_key(v) for v in self.attrs.values()])
        listed: tuple[Any, ...] = self.takes or ()
        takes = tuple(
            [tuple([attr_key(v) for v in t.values()]) if isinstance(t, Mapping) else t
             for t in listed]
        )  # fmt: skip
        return name, attrs, takes

    def operands(self, builder: Builder, inputs: list[Node], loc: Location | None) -> list[Node]:
        """The nodes that the op takes, for the nodes of the inputs."""
        if self.takes is None:
            return inputs
        builder.loc = loc
        nodes = [_taken(builder, inputs, take) for take in self.takes]
        builder.loc = None
        return nodes


def _taken(builder: Builder, inputs: list[Node], take: Any) -> Node:
    if isinstance(take, int):
        return inputs[take]
    if isinstance(take, Cast):
        return builder.cast(inputs[take.place], take.dtype, weak=take.weak)
    return builder.constant(take["value"], take["dtype"], weak=take["weak"])


#: Numbers of structures. They are never given twice, so that forgetting them is always safe.
_numbers: dict[Any, int] = {}
_next_number = itertools.count().__next__


def _number_of(structure: Any) -> int:
    if len(_numbers) > 20_000:
        _numbers.clear()
    return _numbers.setdefault(structure, _next_number())


class Value:
    """One value: computed (`data`), recorded (`step` on `inputs`), or a tracer's placeholder.

    Attributes
    ----------
    step
        What makes it of `inputs`; None for a leaf.
    data
        The buffer, once computed.
    requires_grad
        Whether gradients flow through it.
    owner
        A leaf that collects gradients: weak reference to the Tensor whose `.grad` gets them.
    tracer
        The tracer that recorded it; None outside of compiled functions.
    recipe
        How it is made of computed ones (see `recipes`), where known.
    """

    __slots__ = ("__weakref__", "data", "inputs", "loc", "owner", "recipe", "requires_grad", "step",
                 "tracer", "type")  # fmt: skip

    def __init__(
        self,
        type_: TensorType,
        op: Op | _Form | None = None,
        inputs: tuple[Value, ...] = (),
        attrs: Mapping[str, Any] = _NO_ATTRS,
        loc: Location | None = None,
        data: Any = None,
        requires_grad: bool = False,
        tracer: Any = None,
        owner: weakref.ref[Any] | None = None,
        step: Step | None = None,
    ) -> None:
        self.type = type_
        self.step = Step(op, attrs, type_) if op is not None else step
        self.inputs = inputs
        self.loc = loc
        self.data = data
        self.requires_grad = requires_grad
        self.tracer = tracer
        self.owner = owner
        self.recipe: Any = None

    @property
    def op(self) -> Op | _Form | None:
        """The op that makes it, `ALIAS`, `CALL`, `FREED`, or None for a leaf."""
        step = self.step
        return None if step is None else step.op

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes of `op`."""
        step = self.step
        return _NO_ATTRS if step is None else step.attrs

    def __repr__(self) -> str:
        state = "computed" if self.data is not None else "recorded"
        return f"<Value {self.op!r} : {self.type}, {state}>"

    def alias(
        self, requires_grad: bool, owner: weakref.ref[Any] | None = None, tracer: Any = None
    ) -> Value:
        """The same value under other gradient rules.

        With `owner` it is a leaf that collects gradients; with `requires_grad` alone it can be
        told apart from this value, to which gradients still flow on.
        """
        linked = requires_grad and owner is None and self.requires_grad
        if self.data is not None and self.tracer is None and tracer is None and not linked:
            return Value(self.type, data=self.data, requires_grad=requires_grad, owner=owner)
        return Value(self.type, ALIAS, (self,), loc=self.loc, requires_grad=requires_grad,
                     owner=owner, tracer=tracer, data=self.data)  # fmt: skip

    def set_requires_grad(self, flag: bool) -> None:
        """Change whether gradients flow through it, before anything else was recorded of it."""
        self.requires_grad = flag
        self.recipe = None

    def settle(self, data: Any, recipe: Any = None) -> None:
        """Keep the computed `data`; the history stays only where gradients need it."""
        self.data = data  # before the rest: a walk that sees no data must still see inputs
        self.recipe = recipe
        if not self.requires_grad or not any(i.requires_grad for i in self.inputs):
            self.step, self.inputs = None, ()


#: What is made of `inputs`: Values, and the nodes of a graph.
Made = TypeVar("Made", Value, Node)


def topological(roots: Iterable[Made], stop: Callable[[Made], bool]) -> list[Made]:
    """`roots` and what they are made of, operands first; not looking behind `stop`."""
    order: list[Made] = []
    done: set[Made] = set()
    stack = list(roots)
    while stack:
        value = stack[-1]
        if value in done:
            stack.pop()
            continue
        pending = () if stop(value) else [i for i in value.inputs if i not in done]
        if pending:
            stack.extend(pending)
        else:
            done.add(value)
            order.append(value)
            stack.pop()
    return order


def strong_type(type_: TensorType) -> TensorType:
    """The type that a weak scalar takes when it stands alone."""
    if not type_.weak:
        return type_
    return TensorType(dtypes.default_dtype(type_.dtype.kind), type_.shape, type_.device)


class Lowering:
    """Turns Values into nodes of one Builder.

    Computed Values and placeholders become graph inputs; `sources` lists those Values in the
    order of `inputs`. With `share`, Values of one buffer share an input (not where they must be
    told apart, for a gradient by one of them). With `again`, what is to be computed again for
    its gradient (see `checkpoint`) becomes a region, which differentiation does not look into.
    """

    def __init__(self, share: bool = False, again: bool = False) -> None:
        self.builder = Builder()
        self._share = share
        self._again = again
        self.nodes: dict[Value, Node] = {}
        self.inputs: list[Node] = []
        self.sources: list[Value] = []
        self._by_buffer: dict[Any, Node] = {}

    def input(self, value: Value, name: str | None = None) -> Node:
        """The graph input for a leaf."""
        shared = self._share and value.data is not None
        key = (id(value.data), value.type.weak) if shared else id(value)
        node = self._by_buffer.get(key)
        if node is None:
            name = name or f"v{len(self.inputs)}"
            node = self.builder.input(name, value.type, value.loc)
            self._by_buffer[key] = node
            self.inputs.append(node)
            self.sources.append(value)
        self.nodes[value] = node
        return node

    def add(self, order: Sequence[Value], known: Callable[[Value], bool]) -> None:
        """Lower `order`, operands first; `known` says which become inputs."""
        nodes = self.nodes
        for value in order:
            if value in nodes:
                continue
            step, inputs = value.step, value.inputs
            if known(value):
                self.input(value)
            elif step is None or step.op is FREED:
                raise leaked(value)
            elif step.op is ALIAS:
                nodes[value] = nodes[inputs[0]]
            else:
                nodes[value] = self._node(step, [nodes[i] for i in inputs], value.loc)

    def _node(self, step: Step, inputs: list[Node], loc: Location | None) -> Node:
        builder, op, attrs = self.builder, step.op, step.attrs
        if op is CALL:
            if self._again and attrs.get("again"):
                return self._output(attrs["graph"], inputs, attrs["index"])
            return builder.inline(attrs["graph"], inputs)[attrs["index"]]
        if not isinstance(op, Op):
            raise AssertionError(f"{op} has no node")
        if op.name == "constant":
            return builder.constant(attrs["value"], attrs["dtype"], weak=attrs["weak"])
        operands = step.operands(builder, inputs, loc)
        return builder.node(op, tuple(operands), attrs, step.type, loc)

    def _output(self, body: Any, inputs: list[Node], index: int) -> Node:
        attrs = {"body": body, "name": "again", "target": None, "reason": ""}
        region = self.builder.node(get_op("region"), tuple(inputs), attrs)
        return self.builder.node(get_op("output"), (region,), {"index": index})

    def strong(self, value: Value) -> Node:
        """The node of `value`, a weak scalar in its default dtype."""
        node = self.nodes[value]
        return self.builder.cast(node, strong_type(node.type).dtype) if node.type.weak else node


def leaked(value: Value) -> AccelError:
    """The error for a value that is gone: freed, or a placeholder that outlived its trace."""
    if value.op is FREED:
        return FreedTensorError(
            f"a tensor ({value.type}) is used after it was freed", loc=user_location(),
            remedy="leave out free(): memory goes back with the last reference anyway",
        )  # fmt: skip
    return TraceError(
        f"a tensor recorded inside a compiled function ({value.type}) is used after the "
        "function was traced",
        loc=user_location() or value.loc,
        remedy="return it from the function; or keep state in a Tensor made outside and change "
        "it in place (state.copy_(x), state += x)",
    )


def hide_frames(error: BaseException) -> BaseException:
    """`error` with its traceback cut to the user's own frames, unless debugging.

    NumPy's report of an array that cannot be allocated becomes accel's own.
    """
    if debug_enabled():
        return error
    kept = []
    inside = False
    trace = error.__traceback__
    while trace is not None:
        inside = trace.tb_frame.f_code.co_filename.startswith(OWN_FOLDER)
        if not inside:
            kept.append(trace)
        trace = trace.tb_next
    if inside and isinstance(error, MemoryError) and not isinstance(error, AccelError):
        error = OutOfMemoryError(
            str(error) or "out of memory",
            remedy="work on smaller pieces, or free arrays that are no longer needed",
        )
    rebuilt: types.TracebackType | None = None
    for part in reversed(kept):
        rebuilt = types.TracebackType(rebuilt, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return error.with_traceback(rebuilt)
