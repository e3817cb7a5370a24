"""Pointwise work on the sums of a product or convolution, written where they are stored."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ...ir.dataclass import dataclass
from ...ir.dtypes import DType
from ...ir.node import Node, attr_key
from .clusters import Cluster, Number, Scalar, Source, right_aligned
from .gemm.spec import Constant, Extra, Matrix
from .halves import Code, in_memory, in_registers
from .loops import is_literal
from .machine.llvm_text import Lanes
from .nests.lowering import ELEMENTS, Application, Site, lower
from .nests.nest import Const, Instruction, Load, Pointwise
from .views import Buffer, View

__all__ = ["Layout", "Work"]


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


class Work(Code):
    """The pointwise members of a cluster around a sum.

    Its instructions read the sum through access 0, and extra k through access k + 1.

    Attributes
    ----------
    extras, kinds
        What it reads (views that broadcast to the result, and numbers), and how.
    results
        Places of the values that are stored, one a store of the cluster.
    outputs
        The LLVM types of what is stored.
    """

    def __init__(self, cluster: Cluster, layout: Layout) -> None:
        super().__init__()
        product = cluster.node
        assert product is not None
        self.layout = layout
        self.extras: list[View | Number] = []
        self.kinds: list[Extra] = []
        dtype = product.type.dtype
        total = self.add(Load(in_registers(dtype), 0))
        value: dict[Node, int] = {product: self.rounded(total, dtype)}
        order = cluster.graph.index
        for node in sorted(cluster.axes, key=order.__getitem__):
            if node is not product:
                inputs = [
                    value[n] if n in cluster.axes else self.read(cluster.sources[n], n, node)
                    for n in node.inputs
                ]
                value[node] = self.applied(node, inputs)
        stored = {n: n.type.dtype for n in cluster.stores}
        self.results = tuple([self.to_memory(value[n], d) for n, d in stored.items()])
        self.outputs = tuple([ELEMENTS[in_memory(d)] for d in stored.values()])

    @property
    def key(self) -> object:
        """What the code depends on, elements apart."""
        return tuple(map(_key, self.code)), self.results

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
        for i in self.code:
            if isinstance(i, Load):
                values.append(load(i.access - 1) if i.access else value)
            elif isinstance(i, Const):
                values.append(site.lanes(i.dtype).const(i.value))
            else:
                assert isinstance(i, Pointwise)
                types = [self.code[o].dtype for o in i.inputs]
                operands = [values[o] for o in i.inputs]
                values.append(lower(site, i.op, Application(operands, types, i.dtype, i.attrs)))
        return [values[place] for place in self.results]

    def read(self, source: Source, operand: Node | None = None, user: Node | None = None) -> int:
        """The value of something that the epilogue does not compute."""
        if id(source) in self.known:
            return self.known[id(source)]
        if isinstance(source, Number):
            if is_literal(source.value):
                place = self.number(source.value, source.dtype, True)
            else:
                place = self.load(source, "constant", in_registers(source.dtype))
        elif isinstance(source, Scalar):
            place = self.applied(source.node, [self.read(o) for o in source.operands])
        else:
            assert isinstance(source, View)
            view, dtype = source, source.buffer.dtype
            if operand is not None and user is not None:
                fill = right_aligned(operand, user).start
                view = View(view.buffer, (1,) * fill + view.shape, (0,) * fill + view.strides,
                            view.offset)  # fmt: skip
            bits = self.load(view, self.layout.columns(view), in_memory(dtype))
            place = self.from_memory(bits, dtype)
        self.known[id(source)] = place
        return place

    def load(self, extra: View | Number, columns: str, dtype: DType) -> int:
        self.extras.append(extra)
        self.kinds.append(Extra(ELEMENTS[dtype], columns))
        return self.add(Load(dtype, len(self.extras)))


def _key(i: Instruction) -> object:
    content: object
    if isinstance(i, Pointwise):
        content = (i.op, i.inputs, tuple([(k, attr_key(v)) for k, v in i.attrs.items()]))
    else:
        assert isinstance(i, (Load, Const))
        content = i.access if isinstance(i, Load) else attr_key(i.value)
    return type(i).__name__, i.dtype.name, content


def _bits(number: Number) -> int:
    dtype = in_registers(number.dtype)
    if dtype.kind == "f":
        raw = dtype.numpy.type(number.value).tobytes().ljust(8, b"\0")
        return int(struct.unpack("<q", raw)[0])
    assert not isinstance(number.value, complex)
    whole = int(number.value) & (2**64 - 1)
    return whole - 2**64 if whole >> 63 else whole
