"""From matmul clusters to product kernels with an epilogue."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.dataclass import dataclass
from ...ir.node import Node
from .clusters import Cluster
from .epilogues import Layout, Work
from .gemm import gemm
from .gemm.gemm import MatmulSpec, Matrix, Problem
from .machine.jit import Machine
from .nests.site import ELEMENTS, HALVES
from .views import Buffer, View

__all__ = ["Product", "product"]


@dataclass(frozen=True)
class Product:
    """A matrix product and the pointwise work on it.

    Attributes
    ----------
    spec, key
        What the code depends on; equal keys mean equal code.
    a, b
        The operands as matrices of the layout (a vector is a row or a column).
    targets
        The views written, one an output.
    work
        The epilogue.
    kept
        Whether B is the same for many calls.
    """

    spec: MatmulSpec
    key: object
    layout: Layout
    k: int
    a: View
    b: View
    targets: tuple[View, ...]
    work: Work
    kept: bool = False

    def problem(self, place: Callable[[Buffer], tuple[int, int]]) -> Problem:
        """The extents and operands, where `place` gives base and offset of a buffer."""
        layout, size = self.layout, self.a.buffer.dtype.itemsize
        batch = tuple([layout.extent(axis) for axis in layout.batch])
        return Problem(
            layout.extent(layout.row), layout.extent(layout.column), self.k, batch,
            _operand(self.a, len(batch), size, place(self.a.buffer)),
            _operand(self.b, len(batch), size, place(self.b.buffer)),
            tuple([self._output(t, place(t.buffer)) for t in self.targets]),
            self.work.operands(place), self.kept,
        )  # fmt: skip

    def _output(self, target: View, place: tuple[int, int]) -> Matrix:
        matrix = self.layout.matrix(target, place)
        return matrix._replace(column=target.buffer.dtype.itemsize)

    def multiply_text(self, name: str) -> str:
        """The LLVM module of the multiply kernel."""
        work = None if self.work.plain else self.work.write
        return gemm.emit_multiply(self.spec, work, name)


def _operand(view: View, batch: int, size: int, place: tuple[int, int]) -> Matrix:
    """A or B, whose last two axes are rows and columns."""
    *outer, row, column = [
        s * size if e != 1 else 0 for s, e in zip(view.strides, view.shape, strict=True)
    ]
    strides = (0,) * (batch - len(outer)) + tuple(outer)
    return Matrix(place[0], place[1] + view.offset * size, row, column, strides)


def product(cluster: Cluster, machine: Machine) -> Product:
    """The product that a matmul cluster describes."""
    node = cluster.node
    assert node is not None
    a, b = [cluster.tables[n] for n in node.inputs]
    layout = _layout(node)
    k = a.shape[-1]
    if len(b.shape) == 1 and len(a.shape) > 1:  # a @ v as v[None] @ a.T: the result is a row
        a, b = _row(b), a.permute((*range(len(a.shape) - 2), len(a.shape) - 1, len(a.shape) - 2))
    else:
        a = _row(a) if len(a.shape) == 1 else a
        b = _column(b) if len(b.shape) == 1 else b
    work = Work(cluster, layout)
    half = HALVES.get(node.type.dtype, "")
    element = "float" if half else ELEMENTS[node.type.dtype]
    spec = MatmulSpec(element, machine, work.outputs, tuple(work.kinds), half)
    targets = tuple(cluster.stores.values())
    return Product(spec, (spec, work.key), layout, k, a, b, targets, work)


def _row(view: View) -> View:
    return View(view.buffer, (1, *view.shape), (0, *view.strides), view.offset)


def _column(view: View) -> View:
    return View(view.buffer, (*view.shape, 1), (*view.strides, 0), view.offset)


def _layout(node: Node) -> Layout:
    """Rows, columns and batch of the result of a matmul node of any rank."""
    shape = node.type.shape
    a, b = (len(n.type.shape) for n in node.inputs)
    last = len(shape) - 1
    if a == 1 and b == 1:
        return Layout(shape, None, None, ())
    if a == 1 or b == 1:
        return Layout(shape, None, last, tuple(range(last)))
    return Layout(shape, last - 1, last, tuple(range(last - 1)))
