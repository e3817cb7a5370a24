"""Comparisons, selection, logic, bits, and the check of indices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from .. import dtypes
from ..op import REQUIRED, ErrorSample, Op, Sample, register
from ..types import TensorType, broadcast_shapes
from .pointwise import FLOAT_LATTICE, as_float, declare

if TYPE_CHECKING:
    from ..builder import Builder
    from ..node import Node

Table = tuple[tuple[str, Any, Any, str], ...]

# -- comparisons ---------------------------------------------------------------------------
_COMPARISONS: Table = (
    ("eq", np.equal, "biufc", "Whether the operands are equal; NaN equals nothing."),
    ("ne", np.not_equal, "biufc", "Whether the operands differ; NaN differs from everything."),
    ("lt", np.less, "biuf", "Whether the first operand is less than the second."),
    ("le", np.less_equal, "biuf", "Whether the first operand is less than or equal to the second."),
    ("gt", np.greater, "biuf", "Whether the first operand is greater than the second."),
    ("ge", np.greater_equal, "biuf",
     "Whether the first operand is greater than or equal to the second."),
)  # fmt: skip
for _name, _function, _kinds, _doc in _COMPARISONS:
    declare(_name, _function, _doc, arity=2, kinds=_kinds, result=dtypes.bool_, exact=True,
            discontinuous=True)  # fmt: skip


def _isclose_expand(
    b: Builder, x: Node, y: Node, *, rtol: float, atol: float, equal_nan: bool
) -> Node:
    equal = b.eq(x, y)
    if not x.type.dtype.is_inexact:
        x, y = b.cast(x, dtypes.float64), b.cast(y, dtypes.float64)
    near = b.le(b.abs(b.sub(x, y)), b.add(b.mul(b.abs(y), rtol), atol))
    # An infinite y would allow any distance.
    close = b.logical_or(equal, b.logical_and(near, b.isfinite(y)))
    if equal_nan:
        close = b.logical_or(close, b.logical_and(b.isnan(x), b.isnan(y)))
    return close


def _isclose_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    tolerances = {name: as_float("isclose", name, attrs[name]) for name in ("rtol", "atol")}
    for name, value in tolerances.items():
        if not value >= 0:
            raise ArgumentError(f"isclose: {name} must not be negative, got {value}")
    return {**tolerances, "equal_nan": bool(attrs["equal_nan"])}


declare(
    "isclose", np.isclose, "Whether |x - y| <= atol + rtol · |y|, or both are equal.",
    arity=2, attrs={"rtol": 1e-5, "atol": 1e-8, "equal_nan": False}, prepare=_isclose_prepare,
    variants=({}, {"rtol": 0.5, "atol": 0.1, "equal_nan": True}), result=dtypes.bool_, cost=6,
    discontinuous=True, expand=_isclose_expand,
    errors=[ErrorSample((TensorType(dtypes.float32, (2,)),) * 2, {"atol": -1.0}, ArgumentError,
                        "negative")],
)  # fmt: skip


# -- selection -----------------------------------------------------------------------------
def _where_type(cond: TensorType, x: TensorType, y: TensorType) -> TensorType:
    if cond.dtype is not dtypes.bool_:
        raise DTypeError(
            f"where takes a bool condition, got {cond}",
            remedy="compare it (x != 0) or convert it with .astype(accel.bool)",
        )
    shape = broadcast_shapes((cond.shape, x.shape, y.shape), "where")
    return TensorType(x.dtype, shape, x.device, x.weak and y.weak)


def _where_gradient(b: Builder, g: Node, node: Node) -> list[Node | None]:
    cond = node.inputs[0]
    return [None, b.where(cond, g, 0), b.where(cond, 0, g)]


def _where_samples() -> Iterable[Sample]:
    def of(dtype: dtypes.DType, cond: Any, x: Any, y: Any) -> Sample:
        return Sample((TensorType(dtypes.bool_, cond), TensorType(dtype, x), TensorType(dtype, y)),
                      low=0 if dtype.kind == "u" else -3, high=3)  # fmt: skip

    yield of(dtypes.float32, (4, 1, 3), (5, 3), (3,))
    yield of(dtypes.float64, (3,), (3,), (3,))
    yield of(dtypes.float16, (2, 3), (), (2, 1))
    yield of(dtypes.bfloat16, (), (4,), (4,))
    yield of(dtypes.int32, (0, 3), (3,), (1, 3))
    yield of(dtypes.uint8, (3,), (3,), ())
    yield of(dtypes.bool_, (3,), (3,), (3,))
    yield of(dtypes.complex64, (3,), (3,), (3,))
    yield Sample((np.arange(12) % 2 == 0, FLOAT_LATTICE, FLOAT_LATTICE[::-1]))
    yield Sample((TensorType(dtypes.bool_, (4,)), TensorType(dtypes.int32, (4,)), 0.5),
                 low=-3, high=3)  # fmt: skip


def _where_errors() -> Iterable[ErrorSample]:
    f32 = TensorType(dtypes.float32, (2, 3))
    mask = TensorType(dtypes.bool_, (2, 3))
    yield ErrorSample((f32, f32, f32), {}, DTypeError, "bool condition")
    yield ErrorSample((mask, f32, TensorType(dtypes.float32, (4,))), {}, ShapeError, "where")


register(Op(
    name="where", form="pointwise", category="elementwise", arity=(3, 3), promote_from=1,
    reference=np.where, infer=_where_type, gradient=_where_gradient, exact=True,
    samples=_where_samples, error_samples=_where_errors,
    doc="The second operand where the first is true, else the third.",
))  # fmt: skip


# -- logic ---------------------------------------------------------------------------------
def _truth(function: Any) -> Any:
    return lambda *operands: function(*(x != 0 for x in operands))


_LOGIC: Table = (
    ("logical_and", np.logical_and, 2, "Whether both operands are true (not zero)."),
    ("logical_or", np.logical_or, 2, "Whether an operand is true (not zero)."),
    ("logical_xor", np.logical_xor, 2, "Whether exactly one operand is true (not zero)."),
    ("logical_not", np.logical_not, 1, "Whether the operand is false (zero)."),
)
for _name, _function, _arity, _doc in _LOGIC:
    declare(_name, _truth(_function), _doc, arity=_arity, promote="none", result=dtypes.bool_,
            exact=True, discontinuous=True)  # fmt: skip


# -- bits ----------------------------------------------------------------------------------
_BITS: Table = (
    ("bitwise_and", np.bitwise_and, 2, "The bits that both operands have."),
    ("bitwise_or", np.bitwise_or, 2, "The bits that either operand has."),
    ("bitwise_xor", np.bitwise_xor, 2, "The bits that exactly one operand has."),
    ("bitwise_invert", np.invert, 1, "Every bit reversed; of bools the logical not."),
)
for _name, _function, _arity, _doc in _BITS:
    declare(_name, _function, _doc, arity=_arity, kinds="biu", exact=True)

declare(
    "bitwise_left_shift", np.left_shift,
    "The bits moved up by the second operand; 0 where that is negative or not below the width.",
    arity=2, kinds="iu", low=0, high=10, exact=True,
)  # fmt: skip
declare(
    "bitwise_right_shift", np.right_shift,
    "The bits moved down by the second operand, signed numbers keeping their sign; all sign "
    "bits where that is negative or not below the width.",
    arity=2, kinds="iu", low=0, high=10, exact=True,
)  # fmt: skip


# -- indices -------------------------------------------------------------------------------
def check_index(index: np.ndarray, *, size: int, wrap: bool, what: str) -> np.ndarray:
    """`index` as int64 in [0, size), negative ones counted from the end where they `wrap`.

    Raises
    ------
    IndexOutOfRangeError
        Naming the first index that lies outside.
    """
    if index.dtype == np.uint64:  # beyond int64 is beyond any extent
        index = np.minimum(index, np.uint64(2**63 - 1))
    index = index.astype(np.int64)
    bad = (index >= size) | (index < (-size if wrap else 0))
    if bad.any():
        value = int(index[bad].flat[0]) if index.ndim else int(index)
        least = -size if wrap else 0
        allowed = f"from {least} to {size - 1}" if size else "empty: no index is"
        place = "" if what == "index" else f"{what}: "
        raise IndexOutOfRangeError(
            f"{place}index {value} is out of range for extent {size}",
            remedy=f"valid indices are {allowed}" if size else "index only what has elements",
        )
    return np.where(index < 0, index + size, index)


def _check_index_prepare(types: Any, attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs["size"] < 0:
        raise ArgumentError(f"check_index: size must not be negative, got {attrs['size']}")
    return {"size": int(attrs["size"]), "wrap": bool(attrs["wrap"]), "what": str(attrs["what"])}


def _check_index_errors() -> Iterable[ErrorSample]:
    index = TensorType(dtypes.int64, (3,))
    yield ErrorSample((TensorType(dtypes.float32, (3,)),), {"size": 3}, DTypeError, "does not take")
    yield ErrorSample((index,), {"size": -1}, ArgumentError, "negative")
    yield ErrorSample((index,), {}, ArgumentError, "size")


register(Op(
    name="check_index", form="pointwise", category="elementwise", arity=(1, 1), kinds="iu",
    attrs={"size": REQUIRED, "wrap": True, "what": "index"}, prepare=_check_index_prepare,
    reference=check_index, result=dtypes.int64, exact=True, cost=2,
    samples=lambda: [
        Sample((TensorType(dtypes.int64, (4, 3)),), {"size": 5}, low=-5, high=4),
        Sample((TensorType(dtypes.int32, ()),), {"size": 5, "wrap": False}, low=0, high=4),
        Sample((TensorType(dtypes.uint8, (6,)),), {"size": 9}, low=0, high=8),
        Sample((TensorType(dtypes.int64, (0,)),), {"size": 0}),
    ],
    error_samples=_check_index_errors,
    doc="Indices into an extent of `size`, negative ones counted from its end when `wrap`; one "
    "outside raises IndexOutOfRangeError.",
))  # fmt: skip
