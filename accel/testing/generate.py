"""Random typed graphs over the registry, and arrays for their inputs.

One generator serves the fuzzer, which draws from NumPy's random numbers, and the Hypothesis
strategies, whose draws shrink: it asks a `Choose` for every decision. Ops, attributes and
operand types come from the registry; what does not fit together is refused by the type rules
and drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import AccelError, GradientError
from ..ir import dtypes
from ..ir.builder import Builder
from ..ir.dtypes import DType
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.op import Op, Sample, all_ops
from ..ir.types import Shape, TensorType
from ..passes.differentiate import gradient_graph
from .arrays import draw_array

__all__ = ["Case", "Choose", "draw_case", "draw_graph", "drawable_ops"]

#: ``choose(n)`` is one of 0 … n-1; 0 is the simplest.
Choose = Callable[[int], int]

EXTENTS = (1, 2, 3, 0, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130)
#: Values with more elements are not made; but in one graph of a hundred, whose kernels threads
#: share and reductions cut into chunks.
LARGEST = 4096
_LARGE: tuple[Shape, ...] = ((70_001,), (257, 263), (3, 41, 521), (1030, 64), (2, 65_537))
#: Gradients with more nodes are left out.
MOST_NODES = 150
_COMMON = (
    (dtypes.float32,) * 10 + (dtypes.float64,) * 4
    + (dtypes.float16, dtypes.bfloat16, dtypes.complex64, dtypes.complex128, dtypes.int64)
)  # fmt: skip
_OTHER = (dtypes.int32, dtypes.int64, dtypes.bool_) * 2 + dtypes.ALL
#: How often each way of finding operands is taken.
_KINDS = ("pointwise",) * 9 + ("unary",) * 6 + ("listed",) * 5 + ("sample",) * 2 + ("contraction",)
#: What a sample's float32 becomes.
_INEXACT = (dtypes.float32,) * 9 + (dtypes.float64,) * 2 + (
    dtypes.float16, dtypes.bfloat16, dtypes.complex64, dtypes.complex128,
)  # fmt: skip
#: Python numbers that stand as operands.
_NUMBERS: tuple[Any, ...] = (
    1, 2, 0, -1, 3, 0.5, 1.0, -2.5, 0.0, -0.0, True, float("inf"), float("nan"), 1e-3,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A graph, arrays for its inputs, and how to run it.

    Attributes
    ----------
    disabled
        A pass to switch off, or none.
    threads
        On so many threads the pure target gives the same bits.
    lazily
        Whether it is also recorded op by op, and evaluated.
    """

    graph: Graph
    arrays: tuple[np.ndarray, ...]
    disabled: frozenset[str] = frozenset()
    threads: int = 1
    lazily: bool = False


def drawable_ops(only: Callable[[Op], bool] = lambda op: True) -> dict[str, list[Op]]:
    """The ops that graphs are drawn from, by how operands are found for them."""
    kinds: dict[str, list[Op]] = {
        "pointwise": [], "unary": [], "contraction": [], "listed": [], "sample": []
    }  # fmt: skip
    for op in all_ops().values():
        if op.samples is None or not only(op):
            continue
        kinds["sample"].append(op)
        if op.pointwise and op.name != "check_index":
            kinds["pointwise"].append(op)
        elif op.name == "matmul":
            kinds["contraction"].append(op)
        elif op.arity[0] == 1 and (op.arity == (1, 1) or op.name in ("cat", "stack")):
            if op.category != "host" and not _reads_indices(op):
                kinds["unary"].append(op)
    found = {op for name in ("pointwise", "unary", "contraction") for op in kinds[name]}
    kinds["listed"] = [op for op in kinds["sample"] if op not in found]
    return kinds


def _reads_indices(op: Op) -> bool:
    """Whether the operand holds indices, which random integers would exceed."""
    samples = op.samples() if op.samples else ()
    operands = [(s.operands[0], s.high) for s in samples if s.operands]
    return any(
        x.dtype.is_integer and high is not None if isinstance(x, TensorType)
        else isinstance(x, np.ndarray) and x.dtype.kind in "iu"
        for x, high in operands
    )  # fmt: skip


def draw_graph(
    choose: Choose,
    max_nodes: int = 12,
    only: Callable[[Op], bool] = lambda op: True,
    dtype: DType | None = None,
) -> Graph:
    """A random typed graph of at most about `max_nodes` operations.

    Parameters
    ----------
    choose
        Makes every decision.
    only
        Which ops may occur (beside the constants and casts that operands need).
    dtype
        The dtype of all inputs; a mixture when None.
    """
    return _Drawing(choose, drawable_ops(only), dtype).run(1 + choose(max_nodes))


#: How often graphs are differentiated.
_ORDERS = (0,) * 14 + (1,) * 3 + (2,) * 2

#: Draws an array for an input: all but its layout and numbers is the input's type.
Fill = Callable[[TensorType, bool], np.ndarray]


def draw_case(rng: np.random.Generator, max_nodes: int = 12) -> Case:
    """A random graph, its gradient or that one's, with arrays and a way to run it."""
    return draw_any_case(
        lambda n: int(rng.integers(n)),
        lambda type_, special: draw_array(rng, type_.dtype, type_.shape, special),
        max_nodes,
    )


def draw_any_case(choose: Choose, fill: Fill, max_nodes: int) -> Case:
    """What `draw_case` draws, of any source of choices and arrays."""
    from ..passes.pipeline import OPTIONAL

    drawing = _Drawing(choose, drawable_ops(), None, fixed=True)
    graph = drawing.run(1 + choose(max_nodes))
    for _ in range(_ORDERS[choose(len(_ORDERS))]):
        graph = _gradient(graph, choose)
    special = choose(10) > 5
    arrays = []
    for node in graph.inputs:
        laid_down = drawing.given.get(node.attrs["name"])
        arrays.append(fill(node.type, special) if laid_down is None else laid_down)
    disabled = ("", *OPTIONAL)[choose(len(OPTIONAL) + 1)]
    threads, lazily = (1, 1, 2, 3)[choose(4)], choose(4) == 3
    return Case(graph, tuple(arrays), frozenset({disabled} - {""}), threads, lazily)


def _gradient(graph: Graph, choose: Choose) -> Graph:
    """The gradient of one output by all inputs; `graph` itself where there is none."""
    roots = [i for i, n in enumerate(graph.outputs) if n.type.dtype.is_inexact]
    wrt = [i for i, n in enumerate(graph.inputs) if n.type.dtype.is_inexact]
    if not roots or not wrt:
        return graph
    try:
        found = gradient_graph(graph, wrt, roots[choose(len(roots))])
    except GradientError as error:
        if error.remedy is None:  # a rule that is wrong
            raise
        return graph  # one that says what it is not for
    return graph if len(found) > MOST_NODES else found


class _Drawing:
    """One graph in the making."""

    def __init__(
        self, choose: Choose, ops: dict[str, list[Op]], dtype: DType | None, fixed: bool = False
    ) -> None:
        self.choose = choose
        self.b = Builder()
        self.inputs: list[Node] = []
        self.values: list[Node] = []
        self.ops = ops
        self.kinds = [k for k in _KINDS if ops[k]]
        self.named = 0
        self.mixed = dtype is None
        self.dtype = dtype or self.pick(_COMMON)
        self.large = fixed and self.chance(1)
        self.largest = 150_000 if self.large else LARGEST
        self.root = self.pick(_LARGE) if self.large else self.shape()
        self.fixed = fixed  # whether other ops may come in, and inputs of given values
        self.given: dict[str, np.ndarray] = {}  # what `fixed` inputs hold, by their names

    # -- choices --------------------------------------------------------------------------
    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.choose(len(options))]

    def chance(self, percent: int) -> bool:
        return self.choose(100) >= 100 - percent

    def shape(self) -> Shape:
        while True:
            shape = tuple(self.pick(EXTENTS) for _ in range(self.pick((1, 2, 2, 3, 1, 0, 4))))
            if np.prod(shape, dtype=np.int64) <= LARGEST:
                return shape

    def related(self, shape: Shape) -> Shape:
        """A shape that broadcasts with `shape`."""
        start = self.choose(len(shape) + 1) if self.chance(30) else 0
        return tuple(1 if self.chance(15) else n for n in shape[start:])

    def new_dtype(self) -> DType:
        return self.pick(_OTHER) if self.mixed and self.chance(30) else self.dtype

    def new_input(self, dtype: DType, shape: Shape) -> Node:
        node = self.b.input(f"x{self.named}", TensorType(dtype, shape))
        self.named += 1
        self.inputs.append(node)
        self.values.append(node)
        return node

    def value(self) -> Node:
        """A value that is there already, the latest more often."""
        if len(self.values) > 3 and self.chance(60):
            return self.pick(self.values[-3:])
        return self.pick(self.values)

    # -- the graph ------------------------------------------------------------------------
    def run(self, steps: int) -> Graph:
        steps = min(steps, 4) if self.large else steps
        for _ in range(1 + self.choose(2)):
            self.new_input(self.new_dtype(), self.related(self.root))
        made = tries = 0
        while made < steps and tries < 8 * steps:
            tries += 1
            made += self.step()
        return self.b.graph(self.inputs, self.outputs())

    def outputs(self) -> list[Node]:
        read = {i for n in self.b.nodes for i in n.inputs}
        found = [n for n in self.values if n not in read and n.op.name != "input"]
        if not found or self.chance(20):
            found.append(self.value())
        if self.chance(3):
            found.append(found[0])
        return found[-4:]

    def step(self) -> bool:
        """Try one op; whether it fitted."""
        kind = self.pick(self.kinds)
        op = self.pick(self.ops[kind])
        before = len(self.inputs), len(self.values)
        try:
            node = getattr(self, f"_{kind}")(op)
        except AccelError:
            node = None
        if node is None or node.type.size > self.largest or node.type.weak:
            del self.inputs[before[0] :], self.values[before[1] :]
            return False
        self.values.append(node)
        return True

    def _pointwise(self, op: Op) -> Node:
        operands: list[Any] = [self.value()]
        for _ in range(op.arity[0] - 1):
            operands.append(self.partner(operands[0]))
        if self.chance(50):
            operands.reverse()
        if op.name == "where" and self.chance(80):
            operands[0] = self.b.gt(operands[0], 0)
        return self.b.apply(op, *operands, **self.attrs(op, operands))

    def partner(self, x: Node) -> Any:
        """An operand that broadcasts with `x`: a number, a value, or a new input."""
        if self.chance(25):
            return self.pick(_NUMBERS)
        fitting = [v for v in self.values if _broadcast(v.type.shape, x.type.shape)]
        if self.chance(75):
            return self.pick(fitting)
        dtype = x.type.dtype if self.chance(70) else self.new_dtype()
        return self.new_input(dtype, self.related(x.type.shape))

    def _unary(self, op: Op) -> Node:
        operands = [self.value()]
        if op.arity[1] is None:  # cat, stack
            like = [v for v in self.values if v.type.ndim == operands[0].type.ndim]
            operands += [self.pick(like) for _ in range(self.choose(3))]
        return self.b.apply(op, *operands, **self.attrs(op, operands))

    def _contraction(self, op: Op) -> Node | None:
        x = self.value()
        if not x.type.ndim:
            return None
        inner = x.type.shape[-1]
        fitting = [v for v in self.values if v.type.ndim and v.type.shape[-2:][0] == inner]
        if fitting and self.chance(60):
            return self.b.apply(op, x, self.pick(fitting))
        lead = x.type.shape[:-2] if self.chance(30) else ()
        columns = (self.pick(EXTENTS),) if lead or self.chance(80) else ()
        if inner > LARGEST:
            columns = columns[:0]
        return self.b.apply(op, x, self.new_input(x.type.dtype, (*lead, inner, *columns)))

    def _sample(self, op: Op) -> Node | None:
        """One of the op's own samples, on values at hand where they fit."""
        samples = list(op.samples()) if op.samples else []
        sample: Sample = self.pick(samples)
        dtype = self.pick(_INEXACT) if self.mixed else self.dtype
        operands = [self.operand(o, sample, dtype) for o in sample.operands]
        return self.b.apply(op, *operands, **sample.attrs)

    _listed = _sample

    def operand(self, wanted: Any, sample: Sample, dtype: DType) -> Any:
        """What a sample asks for, its float32 as `dtype`."""
        if isinstance(wanted, (np.ndarray, np.generic)):
            return self.laid_down(np.asarray(wanted), dtype)
        if not isinstance(wanted, TensorType):
            return wanted
        if wanted.dtype is dtypes.float32 or (not self.mixed and wanted.dtype.kind == "f"):
            wanted = wanted.with_dtype(dtype)
        x = self.suited(wanted)
        if wanted.dtype.kind not in "iu" or (sample.low is None and sample.high is None):
            return x
        if self.fixed and self.chance(2):
            return x  # it may lie out of range, and an error is due
        low = -3 if sample.low is None else int(np.ceil(sample.low))
        high = 3 if sample.high is None else int(np.floor(sample.high))
        return self.b.clamp(x, max(low, 0) if wanted.dtype.kind == "u" else low, high)

    def laid_down(self, array: np.ndarray, dtype: DType) -> Node:
        """An array that a sample fixes, such as a regular matrix: a constant or an input."""
        if array.dtype == np.float32:
            with np.errstate(over="ignore"):
                array = array.astype(dtype.numpy)
        known = dtypes.to_dtype(array.dtype)
        if not self.fixed or self.chance(20):
            return self.b.constant(array, known)
        node = self.new_input(known, array.shape)
        self.given[node.attrs["name"]] = array
        return node

    def suited(self, wanted: TensorType) -> Node:
        """A value of a type: one that has it, one made to have it, or a new input."""
        same = [v for v in self.values if v.type == wanted]
        if same and self.chance(80):
            return self.pick(same)
        x = self.value()
        widens = x.type.dtype.kind in ("b", wanted.dtype.kind)
        if not (self.fixed and widens and 0 < wanted.size <= x.type.size and self.chance(50)):
            return self.new_input(wanted.dtype, wanted.shape)
        x = self.b.reshape(x, shape=(x.type.size,))
        x = self.b.slice(x, start=(0,), stop=(wanted.size,), step=(1,))
        return self.b.cast(self.b.reshape(x, shape=wanted.shape), wanted.dtype)

    def attrs(self, op: Op, operands: Sequence[Any]) -> Mapping[str, Any]:
        """Attributes that suit the operands; else those of one of the op's samples."""
        if not op.attrs:
            return {}
        maker = _ATTRS.get(op.name)
        if maker is None and set(op.attrs) <= {"axis", "keepdims", "dtype", "correction"}:
            maker = _reduction_attrs
        if maker is not None:
            x = operands[0]
            shape = x.type.shape if isinstance(x, Node) else ()
            return maker(self, op, shape)
        samples = list(op.samples()) if op.samples else []
        return self.pick(samples).attrs


def _broadcast(a: Shape, b: Shape) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


# -- attributes ---------------------------------------------------------------------------
def _axis(d: _Drawing, shape: Shape) -> int:
    return d.choose(max(2 * len(shape), 1)) - len(shape)


def _reduction_attrs(d: _Drawing, op: Op, shape: Shape) -> dict[str, Any]:
    attrs: dict[str, Any] = {"axis": _axis(d, shape)}
    if op.attrs["axis"] is None:
        several = not op.name.startswith("arg")
        attrs["axis"] = d.pick((
            attrs["axis"], None,
            tuple(i for i in range(len(shape)) if d.chance(50)) if several else None,
        ))  # fmt: skip
    if "keepdims" in op.attrs:
        attrs["keepdims"] = d.chance(40)
    if "correction" in op.attrs:
        attrs["correction"] = d.choose(2)
    return attrs


def _broadcast_attrs(d: _Drawing, op: Op, shape: Shape) -> dict[str, Any]:
    lead = tuple(d.pick((1, 2, 3)) for _ in range(d.choose(3)))
    return {"shape": lead + tuple(d.pick(EXTENTS[:8]) if n == 1 else n for n in shape)}


def _reshape_attrs(d: _Drawing, op: Op, shape: Shape) -> dict[str, Any]:
    """The extents' factors in another grouping."""
    factors = []
    for n in shape:
        small = next((p for p in (2, 3, 5, 13) if n > p and n % p == 0), 1)
        factors += [small, n // small] if small > 1 and d.chance(50) else [n]
    grouped = [1] * d.choose(2)
    for n in factors:
        if grouped and d.chance(50):
            grouped[-1] *= n
        else:
            grouped.append(n)
    return {"shape": tuple(grouped)}


def _slice_attrs(d: _Drawing, op: Op, shape: Shape) -> dict[str, Any]:
    rows = []
    for n in shape:
        start = d.choose(n + 1) if d.chance(50) else 0
        stop = n - (d.choose(n - start + 1) if d.chance(50) else 0)
        step = d.pick((1, 1, 2, 3, -1, -2))
        if step < 0:  # the same places from the end
            start, stop = stop - 1, start - 1
            if start <= stop:
                start, stop, step = 0, 0, 1
        rows.append((start, stop, step))
    return {k: tuple(r[i] for r in rows) for i, k in enumerate(("start", "stop", "step"))}


def _pad_attrs(d: _Drawing, op: Op, shape: Shape) -> dict[str, Any]:
    return {"low": tuple(d.choose(3) for _ in shape), "high": tuple(d.choose(3) for _ in shape),
            "value": float(d.pick((0, 1, -2)))}  # fmt: skip


def _permutation(d: _Drawing, shape: Shape) -> tuple[int, ...]:
    left = list(range(len(shape)))
    return tuple(left.pop(d.choose(len(left))) for _ in shape)


_ATTRS: dict[str, Callable[[_Drawing, Op, Shape], dict[str, Any]]] = {
    "broadcast_to": _broadcast_attrs,
    "reshape": _reshape_attrs,
    "slice": _slice_attrs,
    "pad": _pad_attrs,
    "permute": lambda d, op, s: {"axes": _permutation(d, s)},
    "cast": lambda d, op, s: {"dtype": d.new_dtype()},
    "flip": lambda d, op, s: {"axis": tuple(i for i in range(len(s)) if d.chance(50))},
    "roll": lambda d, op, s: {"shift": d.choose(9) - 4, "axis": d.pick((_axis(d, s), None))},
    "expand_dims": lambda d, op, s: {"axis": d.choose(len(s) + 1)},
    "swapaxes": lambda d, op, s: {"axis0": _axis(d, s), "axis1": _axis(d, s)},
    "moveaxis": lambda d, op, s: {"source": _axis(d, s), "destination": _axis(d, s)},
    "tile": lambda d, op, s: {"reps": tuple(d.choose(3) for _ in range(1 + d.choose(3)))},
    "repeat_interleave": lambda d, op, s: {"repeats": d.choose(4), "axis": _axis(d, s)},
    "squeeze": lambda d, op, s: {"axis": None},
    "stack": lambda d, op, s: {"axis": d.choose(len(s) + 1)},
    "layer_norm": lambda d, op, s: {"normalized_ndim": 1 + d.choose(2), "eps": 1e-5},
    "rms_norm": lambda d, op, s: {"normalized_ndim": 1 + d.choose(2), "eps": 1e-5},
}  # fmt: skip
