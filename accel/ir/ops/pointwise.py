"""How the families of pointwise ops are declared: common fields, samples, gradient shapes.

A pointwise op computes each element from the elements at the same (broadcast) place, so its
samples differ in dtypes and domain only; `declare` writes them from the op's kinds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ...errors import AccelError, ArgumentError, DTypeError, ShapeError
from .. import dtypes
from ..op import ErrorSample, Op, Sample, register
from ..types import TensorType

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

__all__ = ["FINITE_LATTICE", "FLOAT_LATTICE", "INT_LATTICE", "as_float", "constant_value",
           "declare", "errors_of_kinds", "from_math", "holomorphic", "rounding"]  # fmt: skip

Rule = Callable[["Builder", "Node", "Node", "Node"], "Node"]
Attrs = Mapping[str, Any]

#: Where floating point differs from the real line.
FLOAT_LATTICE = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 7.0, 1e-40, 3e38], np.float32
)
#: The same without the values at which targets may overflow on the way or lack precision.
FINITE_LATTICE = FLOAT_LATTICE[~(np.abs(FLOAT_LATTICE) > 1e30)]
#: Where int32 differs from the integers.
INT_LATTICE = np.array([-(2**31), -7, -1, 0, 1, 3, 31, 32, 2**31 - 1], np.int32)

_BROADCAST = ((4, 1, 3), (5, 3), (3,))


def declare(
    name: str,
    reference: Callable[..., Any],
    doc: str,
    *,
    arity: int = 1,
    low: float = -3.0,
    high: float = 3.0,
    variants: Sequence[Attrs] = ({},),
    errors: Iterable[ErrorSample] = (),
    lattice: np.ndarray | None = FLOAT_LATTICE,
    **fields: Any,
) -> Op:
    """Register a pointwise op; with `expand` targets may take it apart or leave it whole.

    `low` and `high` bound the drawn samples, `lattice` holds the special values, `variants`
    are the attributes to try; the other fields are those of `Op`.
    """
    fields.setdefault("category", "elementwise")
    kinds = fields.get("kinds", "biufc")
    return register(Op(
        name=name, form="pointwise", arity=(arity, arity), reference=_quiet(reference), doc=doc,
        samples=lambda: [*_samples(arity, kinds, fields.get("promote"), low, high, variants),
                         *_special_samples(arity, kinds, variants[0], lattice)],
        error_samples=lambda: [*errors_of_kinds(arity, kinds, variants[0]), *errors],
        **fields,
    ))  # fmt: skip


def _quiet(reference: Callable[..., Any]) -> Callable[..., Any]:
    """`reference` without NumPy's warnings: NaN and infinities are ordinary values here."""

    @functools.wraps(reference)
    def quiet(*operands: np.ndarray, **attrs: Any) -> Any:
        with np.errstate(all="ignore"):
            return reference(*operands, **attrs)

    return quiet


def from_math(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the math module, element by element, for what NumPy lacks."""
    return np.vectorize(function, otypes=[np.float64])


def holomorphic(rule: Rule) -> Callable[[Builder, Node, Node], list[Node]]:
    """The gradient of a one-operand op from ``rule(b, g, x, y)``, y being its result.

    The cotangent of a holomorphic function takes the conjugate of the derivative, which for
    these functions is the derivative at the conjugates.
    """

    def gradient(b: Builder, g: Node, node: Node) -> list[Node]:
        x, y = node.inputs[0], node
        if y.type.dtype.kind == "c":
            x, y = b.conj(x), b.conj(y)
        return [rule(b, g, x, y)]

    return gradient


def rounding(out: np.ndarray) -> float:
    """The distance from 1 to the next number of the result's dtype; 0 for integers."""
    return float(ml_dtypes.finfo(out.dtype).eps) if out.dtype.kind not in "biu" else 0.0


def as_float(op: str, name: str, value: Any) -> float:
    """An attribute as a Python float.

    Raises
    ------
    ArgumentError
        When it is no real number.
    """
    try:
        return float(value)
    except AccelError:  # a traced value explains itself
        raise
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            f"{op}: {name} must be a real number, got {value!r}", remedy="pass a Python float"
        ) from None


def constant_value(node: Node) -> bool | int | float | complex | None:
    """The number that a scalar constant holds; None for other nodes."""
    value = node.attrs["value"] if node.op.name == "constant" else None
    return value if isinstance(value, (bool, int, float, complex)) else None


def errors_of_kinds(arity: int, kinds: str, attrs: Attrs) -> Iterator[ErrorSample]:
    """Operands that do not broadcast, and operands of every dtype kind that is refused."""
    examples = {"b": dtypes.bool_, "i": dtypes.int32, "f": dtypes.float32, "c": dtypes.complex64}
    if arity > 1:
        fitting = examples[next(k for k in "fibc" if k in kinds)]
        shapes = ((2, 3), (4,), (3,))[:arity]
        yield ErrorSample(
            tuple(TensorType(fitting, s) for s in shapes), attrs, ShapeError, "do not broadcast"
        )
    for kind, dtype in examples.items():
        if kind not in kinds and not (kind in "bi" and "f" in kinds and "i" not in kinds):
            yield ErrorSample(
                (TensorType(dtype, (3,)),) * arity, attrs, DTypeError, "does not take"
            )


def _samples(
    arity: int, kinds: str, promote: str | None, low: float, high: float, variants: Sequence[Attrs]
) -> Iterator[Sample]:
    def of(dtype: dtypes.DType, *shapes: tuple[int, ...], attrs: Attrs = variants[0]) -> Sample:
        least = max(low, 0.0) if dtype.kind == "u" else low
        types = tuple(TensorType(dtype, s) for s in shapes[:arity])
        return Sample(types, attrs, low=least, high=high)

    if "f" in kinds:
        yield of(dtypes.float32, *_BROADCAST)
        yield of(dtypes.float64, *((2, 3),) * arity)
        yield of(dtypes.float32, *((),) * arity)
        yield of(dtypes.float32, *((0, 3),) * arity)
        yield of(dtypes.float16, *((5,),) * arity)
        yield of(dtypes.bfloat16, *((5,),) * arity)
    if "i" in kinds or promote == "float":
        yield of(dtypes.int32, *_BROADCAST)
    if "i" in kinds:
        yield of(dtypes.int64, *((3,),) * arity)
        yield of(dtypes.uint8, *((4,),) * arity)
    if "b" in kinds:
        yield of(dtypes.bool_, *_BROADCAST)
    if "c" in kinds:
        yield of(dtypes.complex64, *((3,),) * arity)
    if arity > 1 and "f" in kinds:  # promotion: an integer array meets a floating one
        whole, real = TensorType(dtypes.int32, (3,)), TensorType(dtypes.float64, (3,))
        yield Sample((whole, *(real,) * (arity - 1)), variants[0], low=low, high=high)
    for attrs in variants[1:]:
        yield of(dtypes.float32 if "f" in kinds else dtypes.int32, *((3, 4),) * arity, attrs=attrs)
        if "f" in kinds:
            yield of(dtypes.float64, *((3,),) * arity, attrs=attrs)


def _special_samples(
    arity: int, kinds: str, attrs: Attrs, lattice: np.ndarray | None
) -> Iterator[Sample]:
    """Every special value, for two operands every pair of them."""
    for values, kind in ((lattice, "f"), (INT_LATTICE, "i")):
        if values is not None and kind in kinds and arity <= 2:
            yield Sample((values.reshape(-1, 1), values)[-arity:], attrs)
