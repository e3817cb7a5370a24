"""From convolution clusters to windows with an epilogue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...forking import cached_property
from ...ir.dataclass import dataclass
from ...ir.node import Node
from ...ir.types import Shape
from .clusters import Cluster
from .conv import conv
from .conv.conv import Axis, Windows
from .conv.depthwise import Depthwise, emit_depthwise
from .conv.strips import Strips, are_better
from .conv.tiles import ROWS
from .conv.weight import WeightGradient
from .epilogues import Layout, Work
from .gemm.spec import MatmulSpec, Matrix
from .machine.jit import Machine
from .machine.memory import ALIGNMENT
from .nests.lowering import ELEMENTS
from .views import Place, View, nowhere

__all__ = ["Convolution", "convolution", "weight_gradient"]


@dataclass(frozen=True)
class Convolution:
    """A convolution, or its gradient with respect to the image, and the pointwise work on it.

    Attributes
    ----------
    spec, key
        What the code depends on, besides whether it is depthwise.
    node
        The op.
    scattered
        Whether columns of the result are written apart from each other.
    x, weight
        The operands: an image, or the gradient of a result, and the weight.
    targets
        The views written, one an output.
    work
        The epilogue.
    pooled
        Whether the targets get the maxima of windows of 2 x 2 places.
    streamed
        Whether the targets pass by the caches.
    """

    spec: MatmulSpec
    key: object
    node: Node
    scattered: bool
    x: View
    weight: View
    targets: tuple[View, ...]
    work: Work
    pooled: bool = False
    streamed: bool = False

    @cached_property
    def depthwise(self) -> Depthwise | None:
        """How to compute it as a depthwise convolution, if that is possible."""
        if self.node.op.name != "convolution":
            return None
        return Depthwise.of(self.spec, self._windows(nowhere))

    @cached_property
    def strips(self) -> Strips | None:
        """How to compute it strip by strip, if that is possible and better."""
        if self.node.op.name != "convolution" or self.depthwise is not None:
            return None
        windows = conv.merged(self._windows(nowhere))
        return Strips(self.streamed) if are_better(self.spec, windows) else None

    def streaming(self) -> Convolution:
        """The convolution with its targets written past the caches, if they are written in
        strips and all their rows are whole vectors that begin on a line."""
        lanes = self.spec.machine.lanes(self.spec.size)
        whole = self.node.type.shape[-1] % lanes == 0 and all(_lined(t) for t in self.targets)
        return replace(self, streamed=True) if whole and self.strips is not None else self

    @property
    def whole(self) -> bool:
        """Whether the output channels of a group fill tiles."""
        o, c = self.weight.shape[0] // self.node.attrs["groups"], self.weight.shape[1]
        return (o if self.node.op.name == "convolution" else c) % ROWS == 0

    @property
    def code(self) -> object:
        """What the code depends on; equal values mean equal code."""
        return self.key, self.depthwise, self.strips

    def text(self, name: str) -> str:
        """The LLVM module of the kernel."""
        work = None if self.work.plain else self.work.write
        if self.depthwise is not None:
            return emit_depthwise(self.spec, self.depthwise, work, name, self.pooled)
        return conv.emit_windows(
            self.spec, work, name, self.scattered, self.pooled, self.strips
        )  # fmt: skip

    def windows(self, place: Place) -> list[Windows]:
        """What to compute, where `place` gives base and offset of a buffer."""
        whole = self._windows(place)
        if self.node.op.name == "convolution":
            return [replace(conv.merged(whole), strips=self.strips is not None)]
        return [w for w in _remainders(whole, _strides(self.node)) if w.size]

    def edges(self, place: Place) -> list[Windows]:
        """The places that see something outside of the source, once more without it: of a
        gradient, which sums over the source alone."""
        if self.node.op.name == "convolution":
            return []
        return [edge for w in self.windows(place) for edge in _edges(w) if edge.size]

    def _windows(self, place: Place) -> Windows:
        """The convolution, or the gradient with axes as if its stride were 1."""
        groups = self.node.attrs["groups"]
        forward = self.node.op.name == "convolution"
        weight = _matrix(self.weight, place)
        outputs, inputs = weight.batch[:2]
        o, c = self.weight.shape[0] // groups, self.weight.shape[1]
        across = weight._replace(
            row=outputs if forward else inputs,
            batch=(o * outputs, inputs if forward else outputs),
        )
        targets = tuple([self._target(t, place) for t in self.targets])
        return Windows(
            self.x.shape[0], groups, o if forward else c, c if forward else o,
            self._axes(forward, (weight.batch[2], weight.row, weight.column)), across,
            _matrix(self.x, place), targets, self.work.operands(place), self.pooled,
        )  # fmt: skip

    def _axes(self, forward: bool, weight: tuple[int, int, int]) -> tuple[Axis, Axis, Axis]:
        extents = self.node.type.shape[2:], self.x.shape[2:]
        kernel = self.weight.shape[2:]
        return _axes(self.node.attrs, *extents, kernel, weight, 1 if forward else -1)

    def _target(self, target: View, place: Place) -> Matrix:
        found = self.work.layout.matrix(target, place(target.buffer))
        return found._replace(column=target.buffer.dtype.itemsize)


def _lined(target: View) -> bool:
    """Whether all rows begin on a line, if the buffer does."""
    steps = (target.offset, *target.strides[:-1])
    return all(step * target.buffer.dtype.itemsize % ALIGNMENT == 0 for step in steps)


def _axes(
    attrs: Mapping[str, Any], results: Shape, sources: Shape, kernel: Shape,
    weight: Sequence[int], sign: int = 1,
) -> tuple[Axis, Axis, Axis]:  # fmt: skip
    """The axes of a convolution; `weight` has the bytes from tap to tap. For a `sign` of -1 of
    its gradient with respect to the image, as if the stride were 1."""
    found = [Axis(1, 1)] * (3 - len(kernel))
    for i, (extent, source, count) in enumerate(zip(results, sources, kernel, strict=True)):
        apart, (low, _) = attrs["dilation"][i], attrs["padding"][i]
        step = weight[3 - len(kernel) + i]
        taps = tuple([(sign * (t * apart - low), t * step) for t in range(count)])
        found.append(Axis(extent, source, attrs["stride"][i] if sign > 0 else 1, taps))
    return found[0], found[1], found[2]


def _remainders(windows: Windows, strides: Sequence[int]) -> Iterator[Windows]:
    """A gradient's windows, one for each remainder of the image's places by the strides: its
    places are `strides` apart, and the taps are those that fall on a source element there."""
    for firsts in itertools.product(*[range(s) for s in strides]):
        axes = []
        for axis, first, step in zip(windows.axes, firsts, strides, strict=True):
            taps = [((first + t) // step, w) for t, w in axis.taps if (first + t) % step == 0]
            extent = max(0, -(-(axis.extent - first) // step))
            axes.append(Axis(extent, axis.source, 1, tuple(taps)))

        yield _part(windows, axes, firsts, strides)


def _edges(windows: Windows) -> Iterator[Windows]:
    """The parts of a window of stride 1 whose places see the same taps, not all of them."""
    ranges = [_ranges(axis) for axis in windows.axes]
    for parts in itertools.product(*ranges):
        axes = []
        for axis, (begin, end) in zip(windows.axes, parts, strict=True):
            taps = [(begin + t, w) for t, w in axis.taps if 0 <= begin + t < axis.source]
            axes.append(Axis(end - begin, axis.source, 1, tuple(taps)))
        if any(len(a.taps) < len(b.taps) for a, b in zip(axes, windows.axes, strict=True)):
            yield _part(windows, axes, [begin for begin, _ in parts], (1, 1, 1))


def _ranges(axis: Axis) -> list[tuple[int, int]]:
    """The places of an axis divided where a tap enters or leaves the source."""
    turns = {0, axis.extent}
    for tap, _ in axis.taps:
        turns.update(t for t in (-tap, axis.source - tap) if 0 < t < axis.extent)
    return list(itertools.pairwise(sorted(turns)))


def _part(
    windows: Windows, axes: Sequence[Axis], firsts: Sequence[int], strides: Sequence[int]
) -> Windows:
    """Every `strides`-th place of a window from `firsts` on, as `axes` describe them."""
    return replace(
        windows, axes=(axes[0], axes[1], axes[2]),
        outputs=tuple([_every(o, firsts, strides) for o in windows.outputs]),
        extras=tuple([
            _every(o, firsts, strides) if isinstance(o, Matrix) else o for o in windows.extras
        ]),
    )  # fmt: skip


def _every(operand: Matrix, firsts: Sequence[int], strides: Sequence[int]) -> Matrix:
    """Every `strides`-th place of an operand from `firsts` on."""
    image, channel, plane = operand.batch
    own = (plane, operand.row, operand.column)
    offset = operand.offset + sum(f * s for f, s in zip(firsts, own, strict=True))
    plane, row, column = [n * s for n, s in zip(strides, own, strict=True)]
    return Matrix(operand.base, offset, row, column, (image, channel, plane))


def _strides(node: Node) -> tuple[int, ...]:
    strides = node.attrs["stride"]
    return (1,) * (3 - len(strides)) + tuple(strides)


def _layout(shape: Sequence[int]) -> Layout:
    """Planes, rows and columns of a shape [N, C, *spatial]."""
    last = len(shape) - 1
    planes, rows, columns = [axis if axis > 1 else None for axis in range(last - 2, last + 1)]
    return Layout(tuple(shape), rows, columns, (0, 1, planes))


def _matrix(view: View, place: Place) -> Matrix:
    """An operand [_, _, *spatial] whose batch axes are the first two and the planes."""
    return _layout(view.shape).matrix(view, place(view.buffer))


def convolution(cluster: Cluster, machine: Machine) -> Convolution:
    """The convolution that a cluster describes."""
    node = cluster.node
    assert node is not None
    x, weight = [cluster.tables[n] for n in node.inputs]
    work = Work(cluster, _layout(node.type.shape))
    scattered = node.op.name != "convolution" and node.attrs["stride"][-1] > 1
    kinds = work.kinds
    if scattered:
        kinds = [k._replace(columns="strided") if k.columns == "unit" else k for k in kinds]
    spec = MatmulSpec(ELEMENTS[node.type.dtype], machine, work.outputs, tuple(kinds))
    targets = tuple(cluster.stores.values())
    key = ("convolution", spec, work.key, scattered, cluster.pooled)
    return Convolution(spec, key, node, scattered, x, weight, targets, work, cluster.pooled)


def weight_gradient(
    node: Node, operands: Sequence[View], target: View, machine: Machine, place: Place
) -> WeightGradient:
    """The weight gradient of a node for an image and the gradient of a result."""
    (x, g), groups = operands, node.attrs["groups"]
    result = _matrix(target, place)
    return WeightGradient(
        ELEMENTS[node.type.dtype], machine, x.shape[0], groups, g.shape[1] // groups,
        x.shape[1] // groups,
        _axes(node.attrs, g.shape[2:], x.shape[2:], node.attrs["kernel"], (0, 0, 0)),
        _matrix(g, place), _matrix(x, place), result,
    )  # fmt: skip
