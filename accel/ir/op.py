"""The op schema: everything accel knows of an op, declared once, and the registry.

A declaration gives name, operands, attributes, type rule, NumPy reference, gradient,
category, cost, samples and tolerance. Everything else follows from it: the functions and
methods record it, the text form prints it, the fuzzer draws it, the tables document it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from ..errors import AccelError, ArgumentError, DeviceError, DTypeError
from . import dtypes
from .dataclass import dataclass
from .dtypes import DType
from .types import CPU, TensorType, broadcast_shapes

__all__ = ["REQUIRED", "ErrorSample", "Op", "Resolved", "Sample", "all_ops", "get_op", "register",
           "resolve"]  # fmt: skip

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()

# The rules that write nodes (gradient, expand) are typed loosely: schemas stand below nodes
# and builders, and import neither.

#: What the thresholds of placement know: see `accel.set_threshold`.
CATEGORIES = (
    "matmul", "conv", "elementwise", "activation", "reduction", "movement", "creation",
    "random", "host",
)  # fmt: skip

#: How an op iterates, which decides what may fuse with it:
#: pointwise   each output element from the elements at the same (broadcast) place
#: reduce      folds axes (attributes `axis`: tuple, `keepdims`: bool)
#: movement    the same elements at other places
#: creation    no array operands (constant, iota)
#: composite   has an `expand`; stays whole until a target expands it
#: contraction products over a shared axis
#: indexed     places decided by data (gather, scatter)
#: random      counter-based generators
#: opaque      runs alone
#: structure   input, region, output of a region
FORMS = (
    "pointwise", "reduce", "movement", "creation", "composite", "contraction", "indexed",
    "random", "opaque", "structure",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Operands (types to draw, or fixed arrays and scalars) and attributes to try an op on.

    `operands` are `TensorType`s (an array of that type is drawn) or concrete values.
    `low`/`high` bound the drawn values where the op needs it (indices, domains).
    """

    operands: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None


class ErrorSample(NamedTuple):
    """Operands and attributes that must raise `error`, its message matching `match`."""

    operands: tuple[Any, ...]
    attrs: Mapping[str, Any]
    error: type[AccelError]
    match: str = ""


@dataclass(frozen=True, eq=False)
class Op:
    """The declaration of one op. See the module's documentation and `FORMS`.

    Parameters
    ----------
    name
        Unique; the function's name and the name in graph texts.
    form, category
        One of `FORMS`, one of `CATEGORIES`.
    arity
        Least and greatest number of operands (None: any number).
    reference
        ``reference(*arrays, **attrs) -> ndarray``: the definition, in NumPy. Arrays have the
        promoted dtypes; float32 and half are computed in float64 and rounded by
        `targets.reference`, which calls it with float64 arrays (unless `exact`).
    infer
        ``infer(*types, **attrs) -> TensorType`` with canonical attrs. Pointwise ops need
        none: shapes broadcast, and the dtype is that of the operands or `result`.
    attrs
        Attribute names and defaults; `REQUIRED` where there is none.
    prepare
        ``prepare(types, attrs) -> attrs`` brings attributes into canonical form (axes
        non-negative and sorted tuples, dtypes as DType …) and raises on impossible ones.
    promote
        ``"common"``: operands take their common dtype; ``"float"``: and integers then become
        float32; ``"none"``: operands stay as they are.
    promote_from
        Index of the first operand that takes part in promotion (1 for `where`).
    kinds
        Letters of the dtype kinds that the (promoted) operands may have.
    result
        dtype rule of pointwise ops: None for the operands' dtype, a DType, or a function of
        the promoted dtype.
    gradient
        ``gradient(b, g, node) -> sequence of Node or None``, one per operand: the cotangent
        `g` of `node` carried to its operands, written with the Builder `b`
        (``b.mul(g, b.cos(x))``; Python scalars are fine). Broadcasting is undone by the
        differentiation pass. None: the op has no gradient (its result is piecewise constant
        or an integer).
    tangent
        ``tangent(b, node, tangents) -> Node``: what moving the operands (those that do; the
        others' are None) does to the result. Needed only where the gradient rule is no formula
        that is linear in `g` as it is written; see `passes.push_forward`.
    expand
        ``expand(b, *operands, **attrs) -> Node``: the op in terms of others.
    ulp
        Bound on the error of one application, in units in the last place of the result, for
        inputs taken as exact. 0 means bit for bit.
    exact
        The reference runs in the operands' own dtype (integers, movement, comparisons).
    discontinuous
        Small input errors may change the result by more than they are (floor, casts, ==).
    cost
        Work per element of the result, in units of one addition.
    samples, error_samples
        Functions that return samples.
    unsupported
        Why there is no native kernel, so that the op runs on the NumPy reference.
    joint
        The attribute in which applications to the same operands may differ and yet be computed
        together, with little more work than one of them.
    parts
        The values of `joint`, where an application of the op is one of several results: then the
        `reference`, which is not given that attribute, returns all of them, in this order.
    error
        ``error(values, errors, out, attrs) -> ndarray`` propagates absolute error bounds for
        reductions and contractions; see `accel.testing`. Other forms need none.
    """

    name: str
    form: str
    category: str
    arity: tuple[int, int | None]
    reference: Callable[..., Any]
    infer: Callable[..., TensorType] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Sequence[TensorType], dict[str, Any]], dict[str, Any]] | None = None
    promote: str = "common"
    promote_from: int = 0
    kinds: str = "biufc"
    result: DType | Callable[[DType], DType] | None = None
    gradient: Callable[..., Sequence[Any]] | None = None
    tangent: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None
    ulp: float = 0.0
    exact: bool = False
    discontinuous: bool = False
    cost: float = 1.0
    samples: Callable[[], Iterable[Sample]] | None = None
    error_samples: Callable[[], Iterable[ErrorSample]] | None = None
    error: Callable[..., Any] | None = None
    unsupported: str = ""
    joint: str = ""
    parts: tuple[str, ...] = ()
    doc: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.form not in FORMS or self.category not in CATEGORIES:
            raise ValueError(f"op {self.name}: unknown form or category")

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def why_unsupported(self) -> str:
        """Why it runs on the NumPy reference; empty for what has native kernels."""
        return self.unsupported or ("LAPACK's work is NumPy's" if self.category == "host" else "")

    @property
    def pointwise(self) -> bool:
        return self.form == "pointwise"

    def infer_type(self, types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        """The result type for operands that are already promoted; raises where they misfit."""
        if self.infer is not None:
            return _located(self, types, self.infer(*types, **attrs))
        dtype = types[-1].dtype
        if self.result is not None:
            dtype = self.result if isinstance(self.result, DType) else self.result(dtype)
        shape = broadcast_shapes([t.shape for t in types], self.name)
        weak = dtype.kind != "b" and all(t.weak for t in types)
        return _located(self, types, TensorType(dtype, shape, weak=weak))


def _located(op: Op, types: Sequence[TensorType], result: TensorType) -> TensorType:
    """`result` on the operands' device: that of the one which is not on the CPU."""
    if op.form == "structure" or "device" in op.attrs:
        return result
    device = CPU
    for t in types:
        if t.device != CPU:
            if device not in (CPU, t.device):
                raise DeviceError(
                    f"{op.name} of operands on {device} and {t.device}",
                    remedy="move them to one device: x.to(device)",
                )
            device = t.device
    if result.device == device:
        return result
    return TensorType(result.dtype, result.shape, device, result.weak)


_REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add a declaration to the registry; a name can be taken once."""
    if op.name in _REGISTRY:
        raise ValueError(f"op {op.name} is declared twice")
    _REGISTRY[op.name] = op
    return op


def get_op(name: str) -> Op:
    """The declaration of `name`.

    Raises
    ------
    ArgumentError
        When there is no such op; the message names the nearest one.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name, _REGISTRY, 1)
        remedy = f"did you mean {near[0]!r}?" if near else None
        raise ArgumentError(f"there is no op named {name!r}", remedy=remedy) from None


def all_ops() -> Mapping[str, Op]:
    """All declarations by name."""
    return _REGISTRY


class Resolved(NamedTuple):
    """What an application of an op comes to: operand dtypes, canonical attrs, result type."""

    operand_dtypes: tuple[DType | None, ...]  # None: the operand stays as it is
    attrs: Mapping[str, Any]
    type: TensorType


def _common_dtype(op: Op, types: Sequence[TensorType]) -> tuple[DType, bool]:
    """The promoted dtype and whether all operands are weak."""
    strong = [t.dtype for t in types if not t.weak]
    weak = [t.dtype for t in types if t.weak]
    if strong:
        common = strong[0]
        for d in strong[1:]:
            if d is not common:
                common = dtypes.promote(common, d)
        for d in weak:
            common = dtypes.promote_weak(common, d.kind)
    else:
        common = weak[0]
        for d in weak[1:]:
            common = dtypes.promote(common, d)
    if op.promote == "float" and common.kind in "biu":
        common = dtypes.float32 if strong else dtypes.float64
    return common, not strong


def _stays(op: Op, types: Sequence[TensorType]) -> bool:
    """Whether operands are of one dtype, which the op computes in: nothing is promoted."""
    dtype = types[op.promote_from].dtype
    if dtype.kind not in op.kinds or (op.promote == "float" and dtype.kind in "biu"):
        return False
    for t in types[op.promote_from :]:
        if t.dtype is not dtype or t.weak:
            return False
    return True


def resolve(op: Op, types: Sequence[TensorType], attrs: dict[str, Any]) -> Resolved:
    """Check and complete one application of `op`: defaults, promotion, type rule.

    Raises
    ------
    ArgumentError, DTypeError, ShapeError, AxisError
        As the op's rules say; messages name the op and the operands' types.
    """
    least, most = op.arity
    if len(types) < least or (most is not None and len(types) > most):
        wanted = str(least) if least == most else f"{least} or more"
        raise ArgumentError(
            f"{op.name} takes {wanted} operands, got {len(types)}", remedy=f"give {wanted} arrays"
        )
    if op.attrs:
        full = {**op.attrs, **attrs}
        if len(full) != len(op.attrs) or REQUIRED in full.values():
            _raise_attrs(op, attrs)
    else:
        full = attrs
        if attrs:
            _raise_attrs(op, attrs)
    targets: tuple[DType | None, ...] = (None,) * len(types)
    if op.promote != "none" and len(types) > op.promote_from:
        if not _stays(op, types):
            start = op.promote_from
            common, all_weak = _common_dtype(op, types[start:])
            if common.kind not in op.kinds:
                _raise_kind(op, types)
            targets = (None,) * start + tuple([
                None if t.dtype is common and t.weak == all_weak else common
                for t in types[start:]
            ])  # fmt: skip
            types = [
                t if d is None else TensorType(d, t.shape, t.device, all_weak)
                for t, d in zip(types, targets, strict=True)
            ]
    elif op.kinds != "biufc" and any(t.dtype.kind not in op.kinds for t in types):
        _raise_kind(op, types)
    if op.prepare is not None:
        full = op.prepare(types, full)
    return Resolved(targets, full, op.infer_type(types, full))


def _raise_attrs(op: Op, attrs: Mapping[str, Any]) -> None:
    unknown = sorted(set(attrs) - set(op.attrs))
    missing = sorted(k for k, v in op.attrs.items() if v is REQUIRED and k not in attrs)
    if unknown:
        raise ArgumentError(
            f"{op.name} has no argument {', '.join(unknown)}",
            remedy="its arguments are " + (", ".join(op.attrs) or "operands only"),
        )
    named = ", ".join(missing)
    raise ArgumentError(f"{op.name} needs {named}", remedy=f"pass {named} by name")


def _raise_kind(op: Op, types: Sequence[TensorType]) -> None:
    names = {"b": "bool", "i": "signed", "u": "unsigned", "f": "floating", "c": "complex"}
    raise DTypeError(
        f"{op.name} does not take {', '.join(map(str, types))}",
        remedy="it takes "
        + ", ".join(names[k] for k in op.kinds)
        + " dtypes; convert with .astype(...)",
    )
