"""What a graph must give, and how far off a target may be.

The reference computes every node; beside each value goes a bound on how far a correct target
may lie from it. A node's bound is what its operands' bounds can do to its result, plus its own
rounding:

- pointwise ops: the reference at operands moved by their bounds, and the op's ULP;
- reductions and products: the op's own `error` rule;
- movement: the bounds, moved;
- composites: their expansion, node by node, for that is what a target may compute.

An operation of correctly rounded ops on exact operands has the bound 0: targets must agree on
every bit. Where moved operands straddle a discontinuity (a comparison, a cast, a pole, the
edge of overflow), nothing can be said: the bound is infinity, the element *excluded*, and with
it all that is made of it. How many are is reported, and capped by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ..ir import dtypes
from ..ir.builder import Builder
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..ir.node import Node
from .comparison import Expected, Known, kind_of, magnitude, spacing, widened
from .perturbation import moved_by

__all__ = ["expected"]

#: Any nonzero bound: for zeros whose sign is not laid down.
_TINY = 5e-324

#: Ops that may give either zero: from -0 and 0, or by the order of a sum.
_EITHER_ZERO = frozenset({
    "maximum", "minimum", "fmax", "fmin", "amax", "amin", "clamp", "sum", "mean", "prod", "relu",
    "matmul", "hardtanh", "relu6", "cumsum", "hardswish", "leaky_relu", "prelu",
    "max_pool", "convolution", "convolution_input_gradient", "convolution_weight_gradient",
})  # fmt: skip

#: Functions that are reflected below 0, in float64 whatever the operand: at zeros the terms cancel.
_CANCELLING = frozenset({"lgamma", "digamma", "polygamma"})

#: Reductions by multiplication, whose partial results may leave the range on the way.
_PRODUCTS = frozenset({"prod", "cumprod"})

#: Reductions of which NaN and infinities in the operands decide the result, in any order.
_ORDER_FREE = frozenset({"sum", "mean", "cumsum", "matmul"})


# -- the walk -----------------------------------------------------------------------------
class _Mode(NamedTuple):
    """`rounds`: bounds also cover how far the reference is from real numbers. `lenient`: they
    allow what vector libraries do at the ends of the range (see `expected`)."""

    rounds: bool = False
    lenient: bool = False


def expected(
    graph: Graph, arrays: Sequence[np.ndarray], lenient: bool = False
) -> list[Expected]:
    """The outputs of a recorded or optimised `graph` on the reference, with their bounds.

    With `lenient` the bounds allow what torch's libraries do at the ends of the range:
    elementary functions overflow a few binades early and flush subnormal results, remainders
    of huge quotients are NaN, gelu of infinity as well, erf of small halves loses digits, parts of
    complex numbers that are subnormal are taken for zero, and a NaN shows through a mask.

    Raises
    ------
    AccelError
        What the values make an op raise (an index out of range).

    Examples
    --------
    >>> from accel.ir import parse
    >>> g = parse("graph(%x: f32[2]) { %0 = exp(%x) : f32[2] return %0 }")
    >>> [e] = expected(g, [np.zeros(2, np.float32)])
    >>> e.value.tolist(), bool((e.bound < 1e-6).all()), e.excluded
    ([1.0, 1.0], True, 0)
    """
    known = _walk(graph, [_exact(np.asarray(a)) for a in arrays], _Mode(lenient=lenient))
    return [Expected(known[n].value, known[n].bound) for n in graph.outputs]


def _exact(value: np.ndarray) -> Known:
    return Known(value, np.zeros(value.shape), True)


def _walk(graph: Graph, operands: Sequence[Known], mode: _Mode) -> dict[Node, Known]:
    known = dict(zip(graph.inputs, operands, strict=True))
    for node in graph.nodes[len(graph.inputs) :]:
        known[node] = _node(node, [known[i] for i in node.inputs], mode)
    return known


def _node(node: Node, operands: list[Known], mode: _Mode) -> Known:
    value = evaluate(node.op, [o.value for o in operands], node.attrs, node.type)
    exact = all(o.exact for o in operands)
    undefined = _undefined(node, operands, mode.lenient)
    if exact and undefined is None and _is_exact(node, mode.rounds):
        return _exact(value)
    with np.errstate(all="ignore"):
        bound = _bound(node, operands, value, exact, mode)
    bound = np.where(np.isnan(bound), np.inf, bound)
    if undefined is not None:
        bound = np.where(undefined, np.inf, bound)
    if value.dtype.kind in "biu":
        bound = np.where(bound > 0, np.inf, 0.0)
    elif node.op.name in _EITHER_ZERO:
        bound = np.where((value == 0) & (bound == 0), _TINY, bound)
    return Known(value, bound, not bound.any())


def _undefined(node: Node, operands: list[Known], lenient: bool) -> np.ndarray | None:
    """Where no standard says what the result is, or (`lenient`) libraries leave it."""
    name = node.op.name
    if name in ("signbit", "copysign"):  # the sign of a NaN
        mask = np.isnan(widened(operands[-1].value))
    elif name.startswith("convolution"):
        # Whether padding takes part, where a NaN or infinity meets it, is left to the library.
        mask = np.array(not all(np.isfinite(widened(o.value)).all() for o in operands))
    elif not lenient:
        return None
    elif name == "gelu":
        mask = np.isinf(widened(operands[0].value))
    elif name == "erf" and node.type.dtype.itemsize == 2:
        mask = np.abs(widened(operands[0].value)) < 1e-4
    elif name in ("fmod", "remainder", "floor_divide") and node.type.dtype.kind == "f":
        with np.errstate(all="ignore"):
            quotient = magnitude(widened(operands[0].value) / widened(operands[1].value))
        mask = np.isfinite(widened(operands[0].value)) & (quotient > 1e6)
    elif name == "scaled_dot_product_attention" and len(operands) > 3:
        # A mask is added: what it hides is -inf, but for a NaN.
        mask = np.array(not all(np.isfinite(widened(o.value)).all() for o in operands[:3]))
    elif node.op.ulp and node.type.dtype.kind == "c" and node.op.pointwise:
        mask = np.zeros((), bool)
        for o in operands:
            mask = mask | _has_subnormal_part(o.value)
    else:
        return None
    return np.broadcast_to(mask, node.type.shape) if mask.any() else None


def _has_subnormal_part(value: np.ndarray) -> np.ndarray:
    """Of complex numbers: whether libraries may take a part of it for zero."""
    tiny = np.finfo(value.dtype).tiny if value.dtype.kind == "c" else 0.0
    parts = np.abs(np.stack([value.real, value.imag]))
    return ((parts > 0) & (parts < tiny)).any(axis=0)


def _is_exact(node: Node, rounds: bool) -> bool:
    op, dtype = node.op, node.type.dtype
    if dtype.kind in "biu" and all(i.type.dtype.kind in "biu" for i in node.inputs):
        return True
    if op.form in ("movement", "creation", "indexed") and op.error is None:
        return True
    if op.exact and not op.ulp:  # but what a graph of its own computes, it may round
        return not any(isinstance(value, Graph) for value in node.attrs.values())
    if op.ulp or op.error is not None or not op.pointwise or _meets_complex(node):
        return False
    return not rounds and op.name not in _EITHER_ZERO  # what is left is correctly rounded


def _meets_complex(node: Node) -> bool:
    """Whether complex numbers take part, whose arithmetic takes several roundings: NumPy's own
    moduli differ by the operand's layout."""
    return "c" in (node.type.dtype.kind, *(i.type.dtype.kind for i in node.inputs))


def _bound(
    node: Node, operands: list[Known], value: np.ndarray, exact: bool, mode: _Mode
) -> np.ndarray:
    op = node.op
    if op.form == "indexed" and not operands[1].exact:
        return np.full(value.shape, np.inf)  # unknown places
    if op.error is not None:
        return _by_rule(node, operands, value, mode)
    if op.pointwise:
        moved = np.zeros(value.shape) if exact else moved_by(node, operands, value)
        return _rounded(node, operands, value, moved, mode)
    if op.form in ("movement", "indexed"):
        return _carried(node, operands)
    if op.expand is not None:
        return _by_expansion(node, operands, value, mode)
    return np.full(value.shape, 0.0 if exact else np.inf)


def _rounded(
    node: Node, operands: list[Known], value: np.ndarray, moved: np.ndarray, mode: _Mode
) -> np.ndarray:
    """`moved` and the op's own rounding; excluded where that may overflow."""
    dtype, exact, complex_ = value.dtype, all(o.exact for o in operands), _meets_complex(node)
    if dtype.kind in "biu" or not (node.op.ulp or mode.rounds or complex_ or not exact):
        return moved
    if node.op.exact and not node.op.ulp and node.op.name != "cast":
        return moved  # a choice among operands rounds nothing
    ulp: Any = node.op.ulp + 1.0
    if complex_:  # the parts round apart
        ulp = max(4.0, 2 * ulp)
    real = value.real.dtype if dtype.kind == "c" else dtype
    if node.op.name in _CANCELLING:
        size = node.op.reference(1.0 + np.abs(widened(operands[0].value)), **node.attrs)
        moved = moved + ulp * spacing(np.maximum(np.abs(size), 1.0), np.dtype(np.float64))
    if dtype.kind == "c":  # intermediates may overflow
        if node.op.name in ("div", "reciprocal"):  # such as what numerators are multiplied by
            least = 4.0 / float(ml_dtypes.finfo(real).max)
            moved = np.where(magnitude(operands[-1].value) < least, np.inf, moved)
        if node.op.name == "pow":  # libraries take exp(y · log(x))
            base, power = (widened(o.value) for o in operands)
            turn = magnitude(power * np.log(base.astype(np.complex128)))
            ulp = ulp * (1 + turn)
            lost = turn * float(ml_dtypes.finfo(real).eps) > 1.0  # every digit of the angle
            moved = np.where(lost, np.inf, moved)
        moved = np.where(kind_of(value) != 0, np.inf, moved)
    bound = moved + ulp * spacing(np.where(np.isfinite(moved), magnitude(value) + moved, 0), real)
    if node.op.expand is not None and node.op.ulp:  # a factor of the result may underflow
        least = float(ml_dtypes.finfo(real).smallest_subnormal)
        for o in operands:
            bound = bound + node.op.ulp * least * np.nan_to_num(magnitude(o.value), posinf=0.0)
    most = float(ml_dtypes.finfo(real).max)
    reach = magnitude(value) + bound
    if mode.lenient and node.op.ulp:
        reach = 4.0 * reach
        bound = bound + _flushed(operands, real)
    return np.where(np.isfinite(value) & (reach >= most), np.inf, bound)


# -- the other forms ----------------------------------------------------------------------
def _flushed(operands: list[Known], real: np.dtype) -> np.ndarray:
    """What a library loses that takes subnormal factors of a result for zero."""
    factor: Any = 1.0
    for o in operands:
        factor = factor + np.nan_to_num(magnitude(o.value), posinf=0.0)
    return 4.0 * float(ml_dtypes.finfo(real).tiny) * factor


def _by_rule(
    node: Node, operands: list[Known], value: np.ndarray, mode: _Mode
) -> np.ndarray:
    """The op's own rule, and the order-free results that it does not know of."""
    values = [widened(o.value) for o in operands]
    bounds = [o.bound for o in operands]
    rule: Any = node.op.error
    bound = np.asarray(rule(values, bounds, value, node.attrs), np.float64)
    bound = np.broadcast_to(np.where(np.isnan(bound), np.inf, bound), value.shape)
    if value.dtype.kind in "biu":
        return bound
    real = value.real.dtype
    if node.op.ulp:
        bound = bound + (node.op.ulp + 1) * spacing(value, real)
        if mode.lenient and node.op.pointwise:
            bound = bound + _flushed(operands, real)
    most, least = (float(v) for v in (ml_dtypes.finfo(real).max,
                                      ml_dtypes.finfo(real).smallest_subnormal))  # fmt: skip
    if not all(o.exact for o in operands):
        bound = bound + least
    reach = magnitude(value) + bound / float(ml_dtypes.finfo(real).eps)  # partial results as well
    if node.op.name in _PRODUCTS:
        grown = _grown(node, values, bounds)
        reach = np.maximum(reach, grown)
        bound = bound + least * values[0].size * grown
    elif node.op.name == "matmul":
        bound = bound + least * values[0].shape[-1]
    bound = np.where(np.isfinite(value) & (bound > 0) & (reach >= most), np.inf, bound)
    if node.op.pointwise:  # intermediate products may overflow in one order and not in another
        product: Any = abs(node.attrs.get("value", 1.0)) + 1.0
        finite: Any = True
        for v in values:
            product = product * np.maximum(magnitude(v), 1.0)
            finite = finite & np.isfinite(v)
        bound = np.where(finite & (product >= most / 4), np.inf, bound)
    if (node.op.name in _ORDER_FREE or node.op.pointwise) and _is_safe(node, operands, most):
        known = ~np.isfinite(value)
        if node.op.pointwise:  # a quotient's divisor may be 0, or may only seem to be
            for b in bounds:
                known = known & ~(np.isinf(bound) & (b > 0))
        return np.where(known, 0.0, bound)
    return np.where(np.isfinite(value) | (bound == 0), bound, np.inf)


def _grown(node: Node, values: list[np.ndarray], bounds: list[np.ndarray]) -> np.ndarray:
    """How far partial products can grow: what underflows early is carried that far, too."""
    attrs = {**node.attrs, "dtype": dtypes.float64}
    grown = node.op.reference(np.maximum(magnitude(values[0]) + bounds[0], 1.0), **attrs)
    return np.where(np.isnan(grown), np.inf, grown)


def _is_safe(node: Node, operands: list[Known], most: float) -> bool:
    """Whether what is not finite in the result comes from the operands alone, not overflow."""
    if node.type.dtype.kind == "c":
        return False
    total = 1.0
    for o in operands:
        if not np.isfinite(o.bound).all() or (not np.isfinite(o.value).all() and not o.exact):
            return False
        finite = magnitude(o.value[np.isfinite(o.value)])
        total *= max(1.0, float(finite.max(initial=0.0)) + float(o.bound.max(initial=0.0)))
        if node.op.name == "matmul" and (finite == 0).any() and not o.exact:
            return False
    return total * max(1, *(o.value.size for o in operands)) < most / 4


def _carried(node: Node, operands: list[Known]) -> np.ndarray:
    """The bounds, moved as the values are; padding has none."""
    if node.op.form == "indexed":
        arrays = [o.value if i == 1 else o.bound for i, o in enumerate(operands)]
    else:
        arrays = [o.bound for o in operands]
    attrs = {**node.attrs, "value": 0.0} if "value" in node.attrs else node.attrs
    return np.asarray(node.op.reference(*arrays, **attrs), np.float64)


def _by_expansion(
    node: Node, operands: list[Known], value: np.ndarray, mode: _Mode
) -> np.ndarray:
    """The bound of the expansion, on both sides of the real result, and the declared ULP."""
    b = Builder()
    inputs = [b.input(f"x{i}", n.type) for i, n in enumerate(node.inputs)]
    expand: Any = node.op.expand
    graph = b.graph(inputs, [b.cast(expand(b, *inputs, **node.attrs), node.type.dtype)])
    found = _walk(graph, operands, mode._replace(rounds=True))[graph.outputs[0]]
    if value.dtype.kind in "biu":
        return np.where(found.value == value, found.bound, np.inf if found.bound.any() else 0.0)
    bound = 2 * found.bound + (node.op.ulp + 1) * spacing(value, value.real.dtype)
    real = ml_dtypes.finfo(value.real.dtype)
    if mode.lenient and _reaches(operands, float(real.max) ** 0.5):
        return np.full(value.shape, np.inf)  # other formulas overflow elsewhere
    if mode.lenient and not all(np.isfinite(widened(o.value)).all() for o in operands):
        bound = np.where(np.isfinite(value), bound, np.inf)  # and meet inf - inf elsewhere
    if _is_tame(operands):
        return bound
    return np.where(kind_of(found.value) == kind_of(value), bound, np.inf)


def _is_tame(operands: list[Known]) -> bool:
    """Whether no intermediate of an expansion can overflow where the reference does not."""
    return all(
        o.exact and not _reaches([o], 1e4) and o.value.dtype != np.float16 for o in operands
    )


def _reaches(operands: list[Known], limit: float) -> bool:
    """Whether a finite element is beyond `limit`."""
    return any((magnitude(o.value)[np.isfinite(o.value)] > limit).any() for o in operands)


