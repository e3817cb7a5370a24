"""Convolutions of images: the op and its two gradients, closed under differentiation.

All three share one trilinear form. For an image x [N, C, *spatial], a weight
w [O, C / groups, *kernel] and a result y [N, O, *places] it sums

    y[n, o, p] * w[o, c, t] * padded_x[n, c', p * stride + t * dilation]

over everything, where c' is channel c of o's group. `convolution` solves it for y,
`convolution_input_gradient` for x, `convolution_weight_gradient` for w; the gradients of each
are therefore among the three. As in every neural library the kernel is not flipped: this is
the cross-correlation of signal processing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import Shape, TensorType
from .movement import as_shape
from .reduce import Prepare, bounded, magnitude, unit_roundoff

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["Pairs", "as_counts", "as_pairs", "reach"]

F16, BF16, F32, F64, I32 = (
    dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int32,
)  # fmt: skip

#: (low, high) for each spatial dimension.
Pairs = tuple[tuple[int, int], ...]


# -- geometry, shared with pooling ----------------------------------------------------------
def reach(kernel: int, dilation: int) -> int:
    """How many places a dilated kernel spans.

    >>> reach(3, 1), reach(3, 2)
    (3, 5)
    """
    return dilation * (kernel - 1) + 1


def as_pairs(padding: Any, count: int, what: str) -> Pairs:
    """Padding as (low, high) for each of `count` dimensions; an int stands for both.

    Raises
    ------
    ArgumentError
        For another number of dimensions, and for negative widths.
    """
    listed = padding if isinstance(padding, (tuple, list)) else (padding,) * count
    pairs = []
    for each in listed:
        widths = as_shape(each, what)
        pairs.append((widths[0], widths[-1]) if len(widths) in (1, 2) else (-1, -1))
    if len(pairs) != count or any(width < 0 for pair in pairs for width in pair):
        raise ArgumentError(
            f"{what}: padding {padding!r} for {count} spatial dimensions",
            remedy="give a width of 0 or more for each, or a (low, high) pair",
        )
    return tuple(pairs)


def as_counts(value: Any, count: int, what: str, word: str) -> Shape:
    """One positive int for each of `count` dimensions; an int stands for all."""
    listed = as_shape(value, what)
    if len(listed) == 1 and not isinstance(value, (tuple, list)):
        listed = listed * count
    if len(listed) != count or any(n < 1 for n in listed):
        raise ArgumentError(f"{what}: {word} {value!r} for {count} spatial dimensions",
                            remedy="give an int of 1 or more for each")  # fmt: skip
    return listed


def places_of(
    what: str, extents: Shape, kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape
) -> Shape:
    """At how many places a kernel fits into each padded extent.

    Raises
    ------
    ShapeError
        Where it fits nowhere.
    """
    found = []
    for n, k, s, (low, high), d in zip(extents, kernel, stride, padding, dilation, strict=True):
        room = n + low + high - reach(k, d)
        if room < 0:
            raise ShapeError(
                f"{what}: a kernel that spans {reach(k, d)} is larger than an extent of {n} "
                f"padded to {n + low + high}",
                remedy="use a smaller kernel or dilation, or more padding",
            )
        found.append(room // s + 1)
    return tuple(found)


class Window(NamedTuple):
    """The attributes that all three ops share."""

    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int

    def taps(self, kernel: Shape, places: Shape) -> Iterator[tuple[Any, Any]]:
        """For each place of the kernel the index of its elements in a weight, and of those that
        it meets in a padded image [N, groups, members, *spatial]."""
        rows = list(zip(self.stride, self.dilation, places, strict=True))
        for tap in np.ndindex(*kernel):
            met = [
                slice(t * d, t * d + s * (n - 1) + 1, s)
                for t, (s, d, n) in zip(tap, rows, strict=True)
            ]
            yield (..., *tap), (slice(None), slice(None), slice(None), *met)

    def padded(self, extents: Shape) -> Shape:
        return tuple([n + low + high for n, (low, high) in zip(extents, self.padding, strict=True)])

    def inside(self, extents: Shape) -> Any:
        """The index of the image in the padded one."""
        inner = [slice(low, low + n) for n, (low, _) in zip(extents, self.padding, strict=True)]
        return (..., *inner)


def _window(attrs: Any) -> Window:
    return Window(attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"])


# -- preparation and types ------------------------------------------------------------------
def _prepare(name: str, given: str | None) -> Prepare:
    """Canonical attributes; `given` names the shape that a gradient needs."""

    def prepare(types: Sequence[TensorType], attrs: dict[str, Any]) -> dict[str, Any]:
        first, second = types
        count = first.ndim - 2
        if not 1 <= count <= 3 or second.ndim != first.ndim:
            raise ShapeError(
                f"{name}: {first} with {second}",
                remedy="give a batch, channels and 1 to 3 spatial dimensions in both: images are "
                "[N, C, *spatial], weights [O, C / groups, *kernel]",
            )
        groups = attrs["groups"]
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise ArgumentError(f"{name}: groups {groups!r}", remedy="give an int of 1 or more")
        full = {
            "stride": as_counts(attrs["stride"], count, name, "stride"),
            "padding": as_pairs(attrs["padding"], count, name),
            "dilation": as_counts(attrs["dilation"], count, name, "dilation"),
            "groups": groups,
        }
        if given is not None:
            shape = as_shape(attrs[given], name)
            if len(shape) != count or any(n < 0 for n in shape):
                raise ArgumentError(f"{name}: {given} {shape} for {count} spatial dimensions",
                                    remedy="give an extent for each")  # fmt: skip
            full[given] = shape
        return full

    return prepare


def _check_groups(name: str, inputs: int, weight: Shape, groups: int) -> None:
    if inputs != weight[1] * groups or weight[0] % groups:
        raise ShapeError(
            f"{name}: {inputs} channels and a weight of shape {list(weight)} in {groups} groups",
            remedy="weights are [outputs, channels / groups, *kernel], and groups divides outputs",
        )


def _places(name: str, extents: Shape, kernel: Shape, window: Window) -> Shape:
    if 0 in kernel:
        raise ShapeError(f"{name}: a kernel of shape {list(kernel)}",
                         remedy="give it an extent of 1 or more")  # fmt: skip
    return places_of(name, extents, kernel, window.stride, window.padding, window.dilation)


def _check_places(name: str, g: TensorType, places: Shape) -> None:
    if g.shape[2:] != places:
        raise ShapeError(f"{name}: {g} where the convolution gives {list(places)} places",
                         remedy="give the shape of the convolution's result")  # fmt: skip


def _type(x: TensorType, weight: TensorType, **attrs: Any) -> TensorType:
    window = _window(attrs)
    _check_groups("convolution", x.shape[1], weight.shape, window.groups)
    places = _places("convolution", x.shape[2:], weight.shape[2:], window)
    return x.with_shape((x.shape[0], weight.shape[0], *places))


def _input_type(g: TensorType, weight: TensorType, *, shape: Shape, **attrs: Any) -> TensorType:
    name, window = "convolution_input_gradient", _window(attrs)
    channels = weight.shape[1] * window.groups
    _check_groups(name, channels, weight.shape, window.groups)
    if g.shape[1] != weight.shape[0]:
        raise ShapeError(f"{name}: {g} with a weight of {weight}",
                         remedy="its channels are the weight's first extent")  # fmt: skip
    _check_places(name, g, _places(name, shape, weight.shape[2:], window))
    return g.with_shape((g.shape[0], channels, *shape))


def _weight_type(x: TensorType, g: TensorType, *, kernel: Shape, **attrs: Any) -> TensorType:
    name, window = "convolution_weight_gradient", _window(attrs)
    if x.shape[0] != g.shape[0]:
        raise ShapeError(f"{name}: {x} with {g}", remedy="make the batch extents equal")
    if x.shape[1] % window.groups:
        raise ShapeError(f"{name}: {x} in {window.groups} groups",
                         remedy="groups must divide the channels")  # fmt: skip
    weight = (g.shape[1], x.shape[1] // window.groups, *kernel)
    _check_groups(name, x.shape[1], weight, window.groups)
    _check_places(name, g, _places(name, x.shape[2:], kernel, window))
    return x.with_shape(weight)


# -- references: one product a tap ----------------------------------------------------------
def _padded(x: np.ndarray, window: Window) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), *window.padding])


def _grouped(x: np.ndarray, groups: int, axis: int) -> np.ndarray:
    """`axis` as (groups, members)."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _reference(x: np.ndarray, weight: np.ndarray, **attrs: Any) -> np.ndarray:
    window, kernel = _window(attrs), weight.shape[2:]
    places = _places("convolution", x.shape[2:], kernel, window)
    wide = _grouped(_padded(x, window), window.groups, 1)
    w = _grouped(weight, window.groups, 0)
    result = np.zeros((x.shape[0], *w.shape[:2], *places), np.result_type(x, weight))
    with np.errstate(all="ignore"):
        for tap, met in window.taps(kernel, places):
            result += np.einsum("ngc...,goc->ngo...", wide[met], w[tap], optimize=True)
    return result.reshape(x.shape[0], weight.shape[0], *places)


def _input_reference(
    g: np.ndarray, weight: np.ndarray, *, shape: Shape, **attrs: Any
) -> np.ndarray:
    window = _window(attrs)
    w = _grouped(weight, window.groups, 0)
    y = _grouped(g, window.groups, 1)
    channels = (window.groups, weight.shape[1])
    wide = np.zeros((len(g), *channels, *window.padded(shape)), np.result_type(g, weight))
    with np.errstate(all="ignore"):
        for tap, met in window.taps(weight.shape[2:], g.shape[2:]):
            wide[met] += np.einsum("ngo...,goc->ngc...", y, w[tap], optimize=True)
    inner = wide[window.inside(shape)]
    return inner.reshape(len(g), math.prod(channels), *shape)


def _weight_reference(
    x: np.ndarray, g: np.ndarray, *, kernel: Shape, **attrs: Any
) -> np.ndarray:
    window = _window(attrs)
    wide = _grouped(_padded(x, window), window.groups, 1)
    y = _grouped(g, window.groups, 1)
    flat = y.reshape(*y.shape[:3], math.prod(y.shape[3:]))
    result = np.zeros((*y.shape[1:3], wide.shape[2], *kernel), np.result_type(x, g))
    with np.errstate(all="ignore"):
        for tap, met in window.taps(kernel, g.shape[2:]):
            patch = wide[met].reshape(*wide.shape[:3], flat.shape[3])
            result[tap] = np.einsum("ngcp,ngop->goc", patch, flat, optimize=True)
    return result.reshape(g.shape[1], wide.shape[2], *kernel)


# -- gradients ------------------------------------------------------------------------------
def _extents(node: Node) -> Shape:
    return node.type.shape[2:]


def _gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node]:
    x, weight = node.inputs
    return (
        b.convolution_input_gradient(g, weight, shape=_extents(x), **node.attrs),
        b.convolution_weight_gradient(x, g, kernel=_extents(weight), **node.attrs),
    )


def _input_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node]:
    y, weight = node.inputs
    attrs = {k: v for k, v in node.attrs.items() if k != "shape"}
    return (
        b.convolution(g, weight, **attrs),
        b.convolution_weight_gradient(g, y, kernel=_extents(weight), **attrs),
    )


def _weight_gradient(b: Builder, g: Node, node: Node) -> tuple[Node, Node]:
    x, y = node.inputs
    attrs = {k: v for k, v in node.attrs.items() if k != "kernel"}
    return (
        b.convolution_input_gradient(y, g, shape=_extents(x), **attrs),
        b.convolution(x, g, **attrs),
    )


def _error(reference: Callable[..., np.ndarray], inner: bool) -> Callable[..., np.ndarray]:
    """The bound of a sum of products: each factor moves by its own bound, and every term is
    rounded as often as there are terms. Their number is the op's value for operands of 1.

    `inner` sums may have zeros around the first operand or not; with a second one that is not
    finite this shows at the edges, and nothing is promised.
    """

    def error(values: Any, errors: Any, out: np.ndarray, attrs: Any) -> np.ndarray:
        x, y = (magnitude(v) for v in values)
        if inner and not np.isfinite(y).all():
            return np.full(out.shape, np.inf)
        e, f = (np.broadcast_to(v, w.shape) for v, w in zip(errors, (x, y), strict=True))
        terms = reference(np.ones_like(x), np.ones_like(y), **attrs)
        rounding = (terms + 2) * unit_roundoff(out.dtype)
        with np.errstate(all="ignore"):
            moved = reference(x, f, **attrs) + reference(e, y + f, **attrs)
            bound = moved + rounding * reference(x + e, y + f, **attrs)
        return bounded(bound + terms * float(ml_dtypes.finfo(out.dtype).smallest_subnormal))

    return error


# -- samples --------------------------------------------------------------------------------
def _geometries() -> list[tuple[Shape, Shape, dict[str, Any]]]:
    """Shapes of image and weight, and attributes."""
    return [
        ((2, 3, 7, 6), (4, 3, 3, 3), {"padding": 1}),
        ((1, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 1), "dilation": (1, 2), "groups": 2}),
        ((2, 3, 10), (3, 1, 4), {"stride": 3, "padding": ((2, 1),), "groups": 3}),
        ((1, 2, 4, 5, 3), (3, 2, 2, 3, 1), {"padding": (0, 1, 2)}),
        ((2, 3, 5, 5), (4, 3, 1, 1), {}),
        ((1, 1, 3, 3), (1, 1, 3, 3), {}),
        ((1, 2, 8, 8), (2, 2, 3, 3), {"stride": 3, "padding": ((1, 0), (0, 2))}),
        ((0, 3, 5), (2, 3, 3), {"padding": 1}),
        ((2, 0, 4), (3, 0, 3), {}),
        ((2, 3, 4), (0, 3, 3), {}),
    ]


def _samples() -> list[Sample]:
    cases = _geometries()
    found = [Sample((TensorType(F32, s), TensorType(F32, w)), a) for s, w, a in cases]
    for dtype, (s, w, a) in zip((F64, F16, BF16), cases, strict=False):
        found.append(Sample((TensorType(dtype, s), TensorType(dtype, w)), a))
    found.append(Sample((TensorType(F32, (1, 2, 5)), TensorType(F64, (2, 2, 3)))))
    return found


def _result_of(sample: Sample) -> TensorType:
    attrs = {**_ATTRS, **sample.attrs}
    return _type(*sample.operands, **_prepare("convolution", None)(sample.operands, attrs))


def _gradient_samples(which: str) -> Callable[[], list[Sample]]:
    """The samples of the convolution, its result in place of image or weight."""

    def samples() -> list[Sample]:
        found = []
        for sample in _samples():
            x, weight = sample.operands
            g = _result_of(sample)
            if which == "shape":
                operands, given = (g, weight), x.shape[2:]
            else:
                operands, given = (x, g), weight.shape[2:]
            found.append(Sample(operands, {**sample.attrs, which: given}))
        return found

    return samples


def _f32(*shapes: Shape) -> tuple[TensorType, ...]:
    return tuple([TensorType(F32, s) for s in shapes])


def _error_samples() -> list[ErrorSample]:
    pair = _f32((1, 4, 8, 8), (6, 4, 3, 3))
    return [
        ErrorSample(_f32((4, 8), (6, 4)), {}, ShapeError, "spatial"),
        ErrorSample(_f32((1, 4, 8), (6, 4, 3, 3)), {}, ShapeError, "spatial"),
        ErrorSample(_f32((1, 3, 8, 8), (6, 4, 3, 3)), {}, ShapeError, "3 channels"),
        ErrorSample(pair, {"groups": 2}, ShapeError, "2 groups"),
        ErrorSample(_f32((1, 4, 8), (3, 2, 3)), {"groups": 2}, ShapeError, "2 groups"),
        ErrorSample(_f32((1, 4, 8, 2), (6, 4, 3, 3)), {}, ShapeError, "spans 3"),
        ErrorSample(pair, {"dilation": 5}, ShapeError, "spans 11"),
        ErrorSample(_f32((1, 4, 8), (6, 4, 0)), {}, ShapeError, "kernel"),
        ErrorSample(pair, {"padding": -1}, ArgumentError, "padding"),
        ErrorSample(pair, {"padding": (1, 1, 1)}, ArgumentError, "padding"),
        ErrorSample(pair, {"stride": 0}, ArgumentError, "stride"),
        ErrorSample(pair, {"dilation": (1,)}, ArgumentError, "dilation"),
        ErrorSample(pair, {"groups": 0}, ArgumentError, "groups"),
        ErrorSample((TensorType(I32, (1, 1, 3)), TensorType(I32, (1, 1, 3))), {}, DTypeError),
    ]


def _input_error_samples() -> list[ErrorSample]:
    return [
        ErrorSample(_f32((1, 6, 6), (6, 4, 3)), {"shape": (9,)}, ShapeError, "places"),
        ErrorSample(_f32((1, 5, 6), (6, 4, 3)), {"shape": (8,)}, ShapeError, "first extent"),
        ErrorSample(_f32((1, 6, 6), (6, 4, 3)), {"shape": (8, 8)}, ArgumentError, "shape"),
    ]


def _weight_error_samples() -> list[ErrorSample]:
    return [
        ErrorSample(_f32((1, 4, 8), (1, 6, 5)), {"kernel": (3,)}, ShapeError, "places"),
        ErrorSample(_f32((2, 4, 8), (1, 6, 6)), {"kernel": (3,)}, ShapeError, "batch"),
        ErrorSample(_f32((1, 4, 8), (1, 6, 6)), {"kernel": (3,), "groups": 3}, ShapeError,
                    "groups"),
    ]  # fmt: skip


_ATTRS: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_SOURCE = "V. Dumoulin, F. Visin: A guide to convolution arithmetic for deep learning. 2016"


def _register(
    name: str, given: str | None, infer: Any, reference: Any, gradient: Any, samples: Any,
    error_samples: Any, doc: str,
) -> None:  # fmt: skip
    register(Op(
        name=name, form="contraction", category="conv", arity=(2, 2), kinds="f",
        attrs=_ATTRS if given is None else {**_ATTRS, given: REQUIRED},
        prepare=_prepare(name, given), infer=infer, reference=reference, gradient=gradient,
        error=_error(reference, inner=given == "shape"), samples=samples,
        error_samples=error_samples, cost=2.0,  # of each multiply-add
        doc=doc, source=_SOURCE,
    ))  # fmt: skip


_register(
    "convolution", None, _type, _reference, _gradient, _samples, _error_samples,
    "For an image [N, C, *spatial] and a weight [O, C / groups, *kernel], at each place of the "
    "kernel the sum of its products with the image, with zeros as `padding` around it: "
    "[N, O, *places]. Group i of the outputs sees group i of the channels.",
)  # fmt: skip
_register(
    "convolution_input_gradient", "shape", _input_type, _input_reference, _input_gradient,
    _gradient_samples("shape"), _input_error_samples,
    "The gradient of a `convolution` with respect to its image, whose spatial extents are "
    "`shape`; also the transposed convolution.",
)  # fmt: skip
_register(
    "convolution_weight_gradient", "kernel", _weight_type, _weight_reference, _weight_gradient,
    _gradient_samples("kernel"), _weight_error_samples,
    "The gradient of a `convolution` with respect to its weight, whose spatial extents are "
    "`kernel`.",
)  # fmt: skip
