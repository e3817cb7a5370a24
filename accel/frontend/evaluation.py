"""Evaluation: recorded Values to buffers, through the compile cache."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import AccelError, ArgumentError
from ..ir.graph import Graph
from ..ir.op import Op
from ..runtime import state as runtime_state
from ..runtime.statistics import STATISTICS
from ..runtime.transfer import to_host
from .plans import Plan, PlanCache, describe
from .values import Lowering, Value, hide_frames, leaked, topological

if TYPE_CHECKING:
    from ..runtime.executable import Executable

__all__ = ["PLANS", "evaluate", "executable_of", "get_record_limit", "note_recorded",
           "set_record_limit", "to_host"]  # fmt: skip

#: The executables of lazy code.
PLANS = PlanCache(512)

#: Forms whose results are kept where a gradient may need them: all but cheap elementwise work.
_HEAVY = ("contraction", "reduce", "composite", "indexed", "random", "opaque")


def evaluate(values: Iterable[Value], state: runtime_state.State | None = None) -> None:
    """Compute `values` in one executable and keep the results.

    What else somebody still holds on the way (a Tensor, work recorded later) is kept as well,
    and so are costly intermediates that a gradient will read: nothing is computed twice.
    """
    pending = [v for v in dict.fromkeys(values) if v.data is None]
    if not pending:
        return
    state = state or runtime_state.current()
    order = topological(pending, _is_computed)
    wanted = _wanted(pending, order)
    structure, buffers = describe(order, wanted)
    key = (structure, state.compile_key)
    plan = PLANS.get(key)
    if plan is None:
        plan, buffers = _plan(order, wanted, key, buffers, state)
    else:
        STATISTICS.add(cache_hits=1)
    try:
        outputs = plan.executable(buffers)
    except Exception as error:
        raise hide_frames(_blame(error, plan, order)) from error.__cause__
    for value, (place, type_) in zip(wanted, plan.results, strict=True):
        value.type = type_
        value.settle(outputs[place])
    _counter.reset()


def _blame(error: Exception, plan: Plan, order: Sequence[Value]) -> Exception:
    """`error` of `plan`, naming the line of `order` that recorded what failed."""
    if isinstance(error, AccelError) and error.loc in plan.lines:
        error.loc = order[plan.lines.index(error.loc)].loc
    return error


def _wanted(pending: list[Value], order: Sequence[Value]) -> list[Value]:
    """What an evaluation computes: what was asked for, and what will be read again."""
    held = _held(order)
    kept = [v for v in order if v.data is None and (v in held or _is_needed_by_gradient(v))]
    return list(dict.fromkeys([*pending, *kept]))


def _plan(
    order: Sequence[Value], wanted: Sequence[Value], key: Any, buffers: list[Any],
    state: runtime_state.State,
) -> tuple[Plan, list[Any]]:  # fmt: skip
    """The plan of a new evaluation, and the buffers to run it on."""
    lowering = Lowering(share=True)
    lowering.add(order, _is_computed)
    nodes = [lowering.strong(value) for value in wanted]
    outputs = {node: i for i, node in enumerate(dict.fromkeys(nodes))}
    graph = lowering.builder.graph(lowering.inputs, list(outputs))
    results = tuple([(outputs[n], n.type) for n in nodes])
    plan = Plan(executable_of(graph, state), results, tuple([v.loc for v in order]))
    read = [v.data for v in lowering.sources]
    if len(read) == len(buffers) and all(a is b for a, b in zip(read, buffers, strict=True)):
        PLANS.put(key, plan)  # else another thread computed a Value between the two looks
    return plan, read


def executable_of(graph: Graph, state: runtime_state.State) -> Executable:
    """The executable of `graph`; with ``ACCEL_DUMP`` set, compiles are written down."""
    # Late, because the compiler brings in every target's machinery.
    from ..runtime.compiler import compile_graph

    if "ACCEL_DUMP" in os.environ:
        from ..inspect import enable_dumps

        enable_dumps()
    return compile_graph(graph, state)


def _is_computed(value: Value) -> bool:
    if value.data is not None:
        return True
    if value.op is None:
        raise leaked(value)
    return False


def _is_needed_by_gradient(value: Value) -> bool:
    return value.requires_grad and isinstance(value.op, Op) and value.op.form in _HEAVY


def _references(order: Sequence[Value], uses: Counter[Value]) -> list[int]:
    """How many references each Value has beyond those of `order`'s own Values."""
    return [sys.getrefcount(value) - uses[value] for value in order]


def _held(order: Sequence[Value]) -> set[Value]:
    """The Values that somebody outside of this evaluation still refers to.

    They will be read again. Reference counts tell it with no book-keeping while recording;
    a wrong answer would cost time, never correctness.
    """
    uses: Counter[Value] = Counter()
    for value in order:
        uses.update(value.inputs)
    for value in order:
        uses.setdefault(value, 0)  # every Value is a key, so that all count alike
    counts = _references(order, uses)
    return {
        value for value, count in zip(order, counts, strict=True)
        if count > _BASELINE and value.data is None
        and not (isinstance(value.op, Op) and value.op.form == "creation")
    }  # fmt: skip


def _measure_baseline() -> int:
    """What `_references` says of a Value that only the walk holds."""
    from ..ir.dtypes import float32
    from ..ir.types import TensorType

    order = [Value(TensorType(float32))]
    return _references(order, Counter({order[0]: 0}))[0]


_BASELINE = _measure_baseline()


# -- the cap on recorded work ---------------------------------------------------------------
class _Limit:
    """How much was recorded since the last evaluation.

    One count for the process: threads that record at once reach the limit a little early.
    """

    nodes = 0
    bytes = 0

    def reset(self) -> None:
        self.nodes = self.bytes = 0


_counter = _Limit()
_limits = [10_000, 1 << 33]


def set_record_limit(nodes: int | None = None, nbytes: int | None = None) -> None:
    """Set how many operations, or bytes of their results, may wait before accel evaluates them.

    Lazy code that never reads a result would otherwise hold ever more memory. Automatic
    evaluations are counted in `stats().automatic_evaluations`.

    Raises
    ------
    ArgumentError
        For a limit below 1.
    """
    for place, limit in enumerate((nodes, nbytes)):
        if limit is not None:
            if limit < 1:
                raise ArgumentError(f"a limit of {limit}", remedy="give a positive number")
            _limits[place] = limit


def get_record_limit() -> tuple[int, int]:
    """The limits that `set_record_limit` sets: operations, bytes."""
    return _limits[0], _limits[1]


def note_recorded(value: Value) -> None:
    """Count `value`, recorded outside of a trace; evaluate it when the limit is reached."""
    counter = _counter
    counter.nodes += 1
    counter.bytes += value.type.nbytes
    if counter.nodes >= _limits[0] or counter.bytes >= _limits[1]:
        counter.reset()
        STATISTICS.add(automatic_evaluations=1)
        evaluate([value])
