"""Pointwise work on the sums of a product or convolution, written where they are stored."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.node import Node, attr_key
from .clusters import Cluster, Number, Scalar, Source, right_aligned
from .gemm.spec import Constant, Extra, Matrix
from .loops import is_literal
from .machine.llvm_text import Lanes
from .nests.lowering import ELEMENTS, Application, Site, lower
from .views import Buffer, View

__all__ = ["Layout", "Work"]


@dataclass(frozen=True)
class _Operation:
    """One value of the epilogue. `inputs` are places of earlier ones; place 0 is the sum."""

    kind: str  # "sum", "load", "number" or "apply"
    dtype: DType
    inputs: tuple[int, ...] = ()
    node: Node | None = None
    extra: int = 0
    value: bool | int | float = 0

    @property
    def key(self) -> object:
        attrs: tuple[object, ...] = ()
        name = ""
        if self.node is not None:
            name = self.node.op.name
            attrs = tuple((k, attr_key(v)) for k, v in self.node.attrs.items())
        return (self.kind, self.dtype.name, self.inputs, name, attrs, self.extra,
                attr_key(self.value))  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which axes of the result are rows, columns and batch; None: an extent of 1."""

    shape: tuple[int, ...]
    row: int | None
    column: int | None
    batch: tuple[int | None, ...]

    def matrix(self, view: View, place: tuple[int, int]) -> Matrix:
        """A view that broadcasts to the result's shape, as rows and columns."""
        size = view.buffer.dtype.itemsize
        fill = len(self.shape) - len(view.shape)

        def stride(axis: int | None) -> int:
            if axis is None or axis < fill or view.shape[axis - fill] == 1:
                return 0
            return view.strides[axis - fill] * size

        batch = tuple([stride(axis) for axis in self.batch])
        offset = place[1] + view.offset * size
        return Matrix(place[0], offset, stride(self.row), stride(self.column), batch)

    def extent(self, axis: int | None) -> int:
        return 1 if axis is None else self.shape[axis]

    def columns(self, view: View) -> str:
        """The class of an extra operand by its stride along a row."""
        stride = self.matrix(view, (0, 0)).column
        if stride == 0:
            return "zero"
        return "unit" if stride == view.buffer.dtype.itemsize else "strided"


class Work:
    """The pointwise members of a cluster around a sum.

    Attributes
    ----------
    extras, kinds
        What it reads (views that broadcast to the result, and numbers), and how.
    results
        Places of the values that are stored, one a store of the cluster.
    """

    def __init__(self, cluster: Cluster, layout: Layout) -> None:
        product = cluster.node
        assert product is not None
        self.layout = layout
        self.operations = [_Operation("sum", product.type.dtype)]
        self.extras: list[View | Number] = []
        self.kinds: list[Extra] = []
        self.value: dict[Node, int] = {product: 0}
        self.known: dict[int, int] = {}
        order = cluster.graph.index
        for node in sorted(cluster.axes, key=order.__getitem__):
            if node is not product:
                inputs = [
                    self.value[n] if n in cluster.axes else self.read(cluster.sources[n], n, node)
                    for n in node.inputs
                ]
                self.value[node] = self.apply(node, inputs)
        self.results = tuple([self.value[n] for n in cluster.stores])

    @property
    def key(self) -> object:
        """What the code depends on, elements apart."""
        return tuple([o.key for o in self.operations]), self.results

    @property
    def plain(self) -> bool:
        """Whether there is no work."""
        return self.results == (0,)

    def operands(self, place: Callable[[Buffer], tuple[int, int]]) -> tuple[Matrix | Constant, ...]:
        """The extras, where `place` gives base and offset of a buffer."""
        return tuple([
            Constant(_bits(e)) if isinstance(e, Number)
            else self.layout.matrix(e, place(e.buffer)) for e in self.extras
        ])  # fmt: skip

    def write(self, lanes: Lanes, value: str, load: Callable[[int], str]) -> list[str]:
        """Write the work on the sums `value`; see `gemm`."""
        site = Site(lanes.fn, lanes.width)
        values: list[str] = []
        for operation in self.operations:
            if operation.kind == "sum":
                values.append(value)
            elif operation.kind == "load":
                values.append(load(operation.extra))
            elif operation.kind == "number":
                values.append(site.lanes(operation.dtype).const(operation.value))
            else:
                assert operation.node is not None
                node = operation.node
                types = [self.operations[i].dtype for i in operation.inputs]
                application = Application(
                    [values[i] for i in operation.inputs], types, node.type.dtype, node.attrs
                )
                values.append(lower(site, node.op.name, application))
        return [values[place] for place in self.results]

    def add(self, operation: _Operation) -> int:
        self.operations.append(operation)
        return len(self.operations) - 1

    def apply(self, node: Node, inputs: Sequence[int]) -> int:
        return self.add(_Operation("apply", node.type.dtype, tuple(inputs), node))

    def read(self, source: Source, operand: Node | None = None, user: Node | None = None) -> int:
        """The value of something that the epilogue does not compute."""
        key = id(source)
        if key in self.known:
            return self.known[key]
        if isinstance(source, Number):
            assert not isinstance(source.value, complex)
            if is_literal(source.value):
                place = self.add(_Operation("number", source.dtype, value=source.value))
            else:
                place = self.load(source, "constant", source.dtype)
        elif isinstance(source, Scalar):
            place = self.apply(source.node, [self.read(o) for o in source.operands])
        else:
            assert isinstance(source, View)
            view = source
            if operand is not None and user is not None:
                fill = right_aligned(operand, user).start
                view = View(view.buffer, (1,) * fill + view.shape, (0,) * fill + view.strides,
                            view.offset)  # fmt: skip
            place = self.load(view, self.layout.columns(view), view.buffer.dtype)
        self.known[key] = place
        return place

    def load(self, extra: View | Number, columns: str, dtype: DType) -> int:
        self.extras.append(extra)
        self.kinds.append(Extra(ELEMENTS[dtype], columns))
        return self.add(_Operation("load", dtype, extra=len(self.extras) - 1))


def _bits(number: Number) -> int:
    if number.dtype.kind == "f":
        raw = number.dtype.numpy.type(number.value).tobytes().ljust(8, b"\0")
        return int(struct.unpack("<q", raw)[0])
    assert not isinstance(number.value, complex)
    whole = int(number.value) & (2**64 - 1)
    return whole - 2**64 if whole >> 63 else whole
