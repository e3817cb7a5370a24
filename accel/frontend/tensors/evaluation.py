"""Evaluation: recorded Values to buffers, through the compile cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import forking
from ...errors import AccelError, ArgumentError
from ...ir.graph import Graph
from ...ir.op import Op
from ...runtime import state as runtime_state
from ...runtime.statistics import STATISTICS
from ...runtime.transfer import to_host
from .plans import BoundedCache, Plan, describe
from .pullbacks import PULLBACKS
from .recipes import Recipe, forget_recipes, limit_trees, recipe_of
from .shortcuts import ALONE, Shortcut, are_different, find, learn, walk_tree
from .values import Lowering, Value, hide_frames, leaked

if TYPE_CHECKING:
    from ...runtime.executable import Executable

__all__ = ["PLANS", "evaluate", "evaluate_one", "executable_of", "get_record_limit",
           "note_recorded", "set_record_limit", "to_host"]  # fmt: skip

#: The executables of lazy code.
PLANS: BoundedCache[Plan] = BoundedCache(512, Plan.drop)

#: Told when trees of a recipe are evaluated again and again: gives emitted code that evaluates such
#: Values, and the words that it needs of the recipe. `native_recording` enters itself; it knows
#: Tensors, which stand above this module.
TAKE_OVER: list[Callable[[Recipe, Shortcut], tuple[Any, Any]]] = []

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
    if len(pending) == 1:
        evaluate_one(pending[0], state)
    else:
        _evaluate(pending, state)


#: Evaluations that repeat before emitted code takes over: to load it takes as long as thousands.
_PATIENCE = 200
_repeated = 0

#: What is asked first to compute a Value under a compile key, and says whether it has.
_evaluate_natively: Callable[[Value, Any], bool] = lambda value, settings: False  # noqa: E731


def evaluate_one(value: Value, state: runtime_state.State) -> None:
    """Compute `value`: at once where a tree like it was evaluated before."""
    if _evaluate_natively(value, state.compile_key):
        return
    recipe = value.recipe
    if recipe is None or recipe.opaque:
        _evaluate([value], state)
        return
    values, leaves, held = walk_tree(value, recipe, ALONE)
    if not values:
        _evaluate([value], state)
        return
    shortcut = recipe.shortcut
    if held or not are_different(leaves):
        shortcut = find(recipe, held, leaves)
    if shortcut is not None:
        plan, pick, results = shortcut
        run = plan.run  # before the look at `settings`: see `Plan.drop`
        if plan.settings is state.compile_key:
            if pick is not None:
                leaves = [leaves[i] for i in pick]
            try:
                outputs = run(*leaves)
            except Exception as error:
                raise hide_frames(_blame(error, plan, walk([value]))) from error.__cause__
            STATISTICS.hit()
            for out, place, leaf in results:
                values[place].settle(outputs[out], leaf)
            if recipe.native is None and shortcut is recipe.shortcut:
                _leave_to_native(recipe, shortcut)
            return
    places = {id(v): i for i, v in enumerate(values)}
    del values  # or they would be held
    learn(recipe, places, held, leaves, *_evaluate([value], state))


def _leave_to_native(recipe: Recipe, shortcut: Shortcut) -> None:
    """Let emitted code evaluate trees like this one, where there can be any, and it is time."""
    global _evaluate_natively, _repeated
    _repeated += 1
    if _repeated < _PATIENCE:
        return
    for take_over in TAKE_OVER:
        native, recipe.native = take_over(recipe, shortcut)
        _evaluate_natively = native or _evaluate_natively


def _evaluate(
    pending: list[Value], state: runtime_state.State
) -> tuple[Plan, list[Value], list[Recipe], list[Any]]:
    """Compute `pending`, whatever it is made of.

    Returns the plan, the Values that it computed, their recipes now, and the buffers that it read.
    """
    order = walk(pending)
    wanted = _wanted(pending, order)
    described, buffers, sources = describe(order, wanted)
    key = (described, state.compile_key)
    plan = PLANS.get(key)
    run = None if plan is None else plan.run  # before the look at `settings`: see `Plan.drop`
    if plan is None or run is None or plan.settings is None:
        read = buffers
        plan, buffers = _plan(order, wanted, sources, state)
        run = plan.run
        if _are_same(buffers, read):  # else another thread computed a Value between two looks
            PLANS.put(key, plan)
    else:
        STATISTICS.hit()
    try:
        outputs = run(*buffers)
    except Exception as error:
        raise hide_frames(_blame(error, plan, order)) from error.__cause__
    recipes = [recipe_of(value).leaf for value in wanted]
    for value, recipe, (place, type_) in zip(wanted, recipes, plan.results, strict=True):
        value.type = type_
        value.settle(outputs[place], recipe if type_ == recipe.type else None)
    _counter.reset()
    return plan, wanted, recipes, buffers


def _are_same(buffers: Sequence[Any], others: Sequence[Any]) -> bool:
    same = [a is b for a, b in zip(buffers, others, strict=False)]
    return len(buffers) == len(others) and all(same)


def walk(roots: Sequence[Value]) -> list[Value]:
    """`roots` and the recorded Values that they are made of, operands first, left to right."""
    order: list[Value] = []
    done: set[Value] = set()
    stack = list(reversed(roots))
    while stack:
        value = stack[-1]
        if value in done:
            stack.pop()
            continue
        if not _is_computed(value):
            missing = [i for i in value.inputs if i not in done]
            if missing:
                missing.reverse()
                stack += missing
                continue
        done.add(value)
        order.append(value)
        stack.pop()
    return order


def _blame(error: Exception, plan: Plan, order: Sequence[Value]) -> Exception:
    """`error` of `plan`, naming the line of `order` that recorded what failed."""
    if isinstance(error, AccelError) and error.loc in plan.lines:
        error.loc = order[plan.lines.index(error.loc)].loc or error.loc
    return error


def _wanted(pending: list[Value], order: Sequence[Value]) -> list[Value]:
    """What an evaluation computes: what was asked for, and what will be read again."""
    held = _held(order)
    kept = [v for v in order if v.data is None and (v in held or _is_needed_by_gradient(v))]
    return list(dict.fromkeys([*pending, *kept]))


def _plan(
    order: Sequence[Value], wanted: Sequence[Value], sources: Sequence[Value],
    state: runtime_state.State,
) -> tuple[Plan, list[Any]]:  # fmt: skip
    """The plan of a new evaluation, and the buffers to run it on."""
    lowering = Lowering(share=True)
    for source in sources:
        lowering.input(source)
    lowering.add(_early(order), _is_computed)
    nodes = [lowering.strong(value) for value in wanted]
    outputs = {node: i for i, node in enumerate(dict.fromkeys(nodes))}
    graph = lowering.builder.graph(lowering.inputs, list(outputs))
    results = tuple([(outputs[n], n.type) for n in nodes])
    lines = tuple([v.loc for v in order])
    executable = executable_of(graph, state, passing=True)
    settings = None if executable.passing else state.compile_key
    return Plan(executable, results, lines, settings), [v.data for v in lowering.sources]


def _early(order: Sequence[Value]) -> list[Value]:
    """`order` with what makes less than it reads moved to where its operands are there.

    The order is that of the results asked for. Gradients of weights, for example, come long after
    the activations that they are made of, which would have to be held until then.
    """
    places: dict[Value, int] = {}
    found: list[list[Value]] = [[] for _ in order]
    for place, value in enumerate(order):
        inputs = [i for i in value.inputs if i in places]
        if inputs and (_is_view(value) or _shrinks(value)):
            place = max([places[i] for i in inputs])
        places[value] = place
        found[place].append(value)
    return [value for group in found for value in group]


def _is_view(value: Value) -> bool:
    return isinstance(value.op, Op) and value.op.form == "movement" and len(value.inputs) == 1


def _shrinks(value: Value) -> bool:
    return 2 * value.type.nbytes <= max([i.type.nbytes for i in value.inputs])


def executable_of(
    graph: Graph, state: runtime_state.State, passing: bool = False
) -> Executable:
    """The executable of `graph`; with ``ACCEL_DUMP`` set, compiles are written down."""
    # Late, because the compiler brings in every target's machinery.
    with forking.unforked():
        from ...runtime.compiler import ON_CLEAR, compile_graph

    if forget not in ON_CLEAR:
        ON_CLEAR.append(forget)
    if "ACCEL_DUMP" in os.environ:
        from ...inspect import enable_dumps

        enable_dumps()
    return compile_graph(graph, state, passing)


def _is_computed(value: Value) -> bool:
    if value.data is not None:
        return True
    if value.op is None:
        raise leaked(value)
    return False


def _is_needed_by_gradient(value: Value) -> bool:
    if not value.requires_grad or value.step is None:
        return False
    if isinstance(value.op, Op):
        return value.op.form in _HEAVY
    return bool(value.step.attrs.get("again"))  # where computing again begins


def _references(order: Sequence[Value], uses: Mapping[Value, int]) -> list[int]:
    """How many references each Value has beyond those of `order`'s own Values."""
    return [sys.getrefcount(value) - uses[value] for value in order]


def _uses(order: Sequence[Value]) -> dict[Value, int]:
    """How often `order`'s own Values refer to each; every one is a key, so that all count alike."""
    uses = dict.fromkeys(order, 0)
    for value in order:
        for operand in value.inputs:
            if operand in uses:  # not what is behind a computed Value
                uses[operand] += 1
    return uses


def _held(order: Sequence[Value]) -> set[Value]:
    """The Values that somebody outside of this evaluation still refers to.

    They will be read again. Reference counts tell it with no book-keeping while recording;
    a wrong answer would cost time, never correctness.
    """
    uses = _uses(order)
    counts = _references(order, uses)
    return {
        value for value, count in zip(order, counts, strict=True)
        if count > _BASELINE and value.data is None
        and not (isinstance(value.op, Op) and value.op.form == "creation")
    }  # fmt: skip


def _measure_baseline() -> int:
    """What `_references` says of a Value that only the walk holds."""
    from ...ir.dtypes import float32
    from ...ir.types import TensorType

    order = [Value(TensorType(float32))]
    return _references(order, {order[0]: 0})[0]


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
    limit_trees(_limits[0], _limits[1])


def get_record_limit() -> tuple[int, int]:
    """The limits that `set_record_limit` sets: operations, bytes."""
    return _limits[0], _limits[1]


def note_recorded(value: Value, steps: int, nbytes: int) -> None:
    """Count recorded work that ends in `value`; evaluate it when the limit is reached."""
    counter = _counter
    counter.nodes += steps
    counter.bytes += nbytes
    if counter.nodes >= _limits[0] or counter.bytes >= _limits[1]:
        counter.reset()
        STATISTICS.add(automatic_evaluations=1)
        evaluate([value])


def forget() -> None:
    """Forget what was learnt of lazy code: recipes, plans, pullbacks."""
    forget_recipes()
    PULLBACKS.clear()
    PLANS.clear()

