"""Do the targets agree? For graphs (`check_graph`) and for users' functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import AccelError, ArgumentError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph
from ..runtime import state as runtime_state
from ..runtime.compiler import compile_graph
from ..runtime.settings import get_num_threads, set_num_threads
from .comparison import Expected, compare
from .tolerance import expected

__all__ = ["Agreement", "Disagreement", "TARGETS", "assert_targets_agree", "available_targets",
           "check_graph"]  # fmt: skip

#: What can be compared with the reference's bounds; `torch` where it is installed. `auto` gives
#: torch what is not tiny, so that both compute parts of a graph.
TARGETS = ("reference", "pure", "torch", "auto")
_AUTO = dict.fromkeys(runtime_state.DEFAULT_THRESHOLDS, 64)


@dataclass(frozen=True)
class Agreement:
    """What a successful comparison covered."""

    targets: tuple[str, ...]
    outputs: int
    elements: int
    excluded: int

    def __str__(self) -> str:
        share = 100 * self.excluded / max(self.elements, 1)
        return (
            f"{', '.join(self.targets)} agree on {self.elements:,} elements of {self.outputs} "
            f"outputs ({share:.1f}% excluded)"
        )


class Disagreement(AssertionError):
    """Targets differ.

    Attributes
    ----------
    target
        The one that is out of bounds.
    graph
        What was computed.
    """

    def __init__(self, target: str, reason: str, graph: Graph) -> None:
        super().__init__(f"{target}: {reason}\n\n{graph}")
        self.target = target
        self.reason = reason
        self.graph = graph


def available_targets() -> tuple[str, ...]:
    """The targets of this installation: `torch` only where it can be imported."""
    from ..targets import torch as torch_target

    return TARGETS[:3] if torch_target.available() else TARGETS[:2]


def _targets(wanted: Iterable[str] | None) -> tuple[str, ...]:
    if wanted is None:
        return available_targets()
    chosen = tuple(wanted)
    for name in chosen:
        if name not in TARGETS:
            raise ArgumentError(f"there is no target {name!r}", remedy=f"use {', '.join(TARGETS)}")
    return chosen


# -- graphs -------------------------------------------------------------------------------
def check_graph(
    graph: Graph,
    arrays: Sequence[np.ndarray],
    targets: Iterable[str] | None = None,
    disabled_passes: Iterable[str] = (),
    threads: int = 1,
    lazily: bool = False,
) -> Agreement:
    """Compile `graph` for each target, run it on `arrays` and compare with the reference.

    Every stage is verified, and the arguments must come back unchanged.

    Parameters
    ----------
    graph
        A recorded graph.
    arrays
        One per input, of any layout.
    targets
        Names from `TARGETS`; those of this installation by default.
    disabled_passes
        Passes to switch off: results must not depend on them.
    threads
        Where it is not 1, the pure target must give the same bits on so many.
    lazily
        Whether the ops are also recorded one by one, as a user's calls are, and evaluated.

    Returns
    -------
    Agreement
        How many elements were compared, and how many nothing could be said about.

    Raises
    ------
    Disagreement
        An AssertionError that names the target, the worst element and the graph.

    Examples
    --------
    >>> from accel.ir import parse
    >>> g = parse("graph(%x: f32[3]) { %0 = exp(%x) : f32[3] return %0 }")
    >>> print(check_graph(g, [np.zeros(3, np.float32)], targets=["pure"]))
    pure agree on 3 elements of 1 outputs (0.0% excluded)
    """
    chosen = _targets(targets)
    wanted = _wanted(graph, arrays)
    lenient = _wanted(graph, arrays, True) if {"torch", "auto"} & set(chosen) else wanted
    copies = [np.array(a) for a in arrays]
    for target in chosen:
        bounds = lenient if target in ("torch", "auto") else wanted
        settings = _settings(target, frozenset(disabled_passes))
        runs = {target: partial(_compiled, graph, arrays, settings)}
        if lazily:
            runs[f"{target} (lazily)"] = partial(_recorded_again, graph, arrays, settings)
        found = []
        for name, run in runs.items():
            found.append(_run(run, name, graph, bounds))
            if isinstance(bounds, list):
                _compare(found[-1], bounds, name, graph)
        if target == "pure" and threads > 1 and isinstance(bounds, list):
            _check_threads(found[0], threads, runs[target], graph)
        for place, (before, after) in enumerate(zip(copies, arrays, strict=True)):
            if before.tobytes() != np.ascontiguousarray(after).tobytes():
                raise Disagreement(target, f"argument {place} was changed", graph)
    return _agreement(chosen, wanted if isinstance(wanted, list) else [])


def _wanted(
    graph: Graph, arrays: Sequence[np.ndarray], lenient: bool = False
) -> list[Expected] | AccelError:
    """What the graph must give, or the error that it must raise."""
    try:
        return expected(graph, arrays, lenient)
    except AccelError as error:
        return error


def _settings(target: str, disabled: frozenset[str]) -> dict[str, Any]:
    thresholds = _AUTO if target == "auto" else runtime_state.current().thresholds
    return {"mode": target, "tracer": None, "verify": True, "fallback": "error",
            "thresholds": thresholds, "disabled_passes": disabled}  # fmt: skip


def _run(
    run: Callable[[], list[np.ndarray]], name: str, graph: Graph, wanted: Any
) -> list[np.ndarray]:
    """What `run` gives; nothing where it raises what it must."""
    try:
        found = run()
    except AccelError as error:
        if type(error) is type(wanted):
            return []
        raise Disagreement(name, f"raises {error!r}", graph) from error
    if isinstance(wanted, AccelError):
        raise Disagreement(name, f"does not raise {wanted!r}", graph)
    return found


def _compiled(
    graph: Graph, arrays: Sequence[np.ndarray], settings: dict[str, Any]
) -> list[np.ndarray]:
    executable = compile_graph(graph, replace(runtime_state.current(), **settings))
    return [_host(a) for a in executable([np.asarray(a) for a in arrays])]


def _recorded_again(
    graph: Graph, arrays: Sequence[np.ndarray], settings: dict[str, Any]
) -> list[np.ndarray]:
    """The outputs, each op recorded as a user's call is, on the arrays where they lie."""
    from ..frontend.functions.creation import asarray
    from ..frontend.tensors.lazy import eval
    from ..frontend.tensors.recording import record

    def leaf(array: np.ndarray) -> Any:
        return asarray(array, copy=None if not array.flags.aligned else False)

    with runtime_state.override(**settings):
        known: dict[Any, Any] = {
            n: leaf(np.asarray(a)) for n, a in zip(graph.inputs, arrays, strict=True)
        }
        for node in graph.nodes[len(graph.inputs) :]:
            if node.type.weak and node.op.name == "constant":
                known[node] = node.attrs["value"]
            elif node.op.name == "constant":
                known[node] = leaf(evaluate(node.op, (), node.attrs, node.type))
            else:
                operands = [known[i] for i in node.inputs]
                known[node] = record(node.op.name, *operands, **node.attrs)
        results = [known[n] for n in graph.outputs]
        eval(*results)
        return [np.asarray(r.numpy()) for r in results]


def _check_threads(
    found: Sequence[np.ndarray], threads: int, run: Callable[[], list[np.ndarray]], graph: Graph
) -> None:
    """The same bits on another number of threads."""
    before = get_num_threads()
    set_num_threads(threads)
    try:
        again = run()
    finally:
        set_num_threads(before)
    for place, (one, other) in enumerate(zip(found, again, strict=True)):
        if one.tobytes() != other.tobytes():
            raise Disagreement("pure", f"output {place}, other bits on {threads} threads", graph)


def _host(buffer: Any) -> np.ndarray:
    if isinstance(buffer, (np.ndarray, np.generic)):
        return np.asarray(buffer)
    from ..targets import torch as torch_target

    return torch_target.to_host(buffer)


def _compare(
    found: Sequence[np.ndarray], wanted: Sequence[Expected], target: str, graph: Graph
) -> None:
    if len(found) != len(wanted):
        raise Disagreement(target, f"{len(found)} results for {len(wanted)} outputs", graph)
    for place, (array, expectation) in enumerate(zip(found, wanted, strict=True)):
        mismatch = compare(array, expectation, zero_signs=not target.startswith(("torch", "auto")))
        if mismatch is not None:
            raise Disagreement(target, f"output {place}, {mismatch}", graph)


def _agreement(targets: tuple[str, ...], wanted: Sequence[Expected]) -> Agreement:
    elements = sum(w.value.size for w in wanted)
    return Agreement(targets, len(wanted), elements, sum(w.excluded for w in wanted))


# -- users' functions -----------------------------------------------------------------------
def assert_targets_agree(
    fn: Callable[..., Any], *args: Any, targets: Iterable[str] | None = None, **kwargs: Any
) -> Agreement:
    """Check that `fn` gives the same on every target, recorded lazily and compiled.

    The results are compared within bounds that follow from the ops' declared precision and the
    values at hand, not within a tolerance that somebody chose. `fn` is called several times,
    each time with fresh Tensors of the arrays in `args`.

    Parameters
    ----------
    fn
        A function of arrays (nested in dicts, lists, tuples as you like) that returns Tensors,
        written with accel or NumPy. It may be decorated with `accel.compile`.
    args, kwargs
        Its arguments: NumPy arrays, Tensors, numbers.
    targets
        Some of ``"reference"``, ``"pure"`` and ``"torch"``; by default what is installed.

    Returns
    -------
    Agreement
        What was compared; prints in one line.

    Raises
    ------
    AssertionError
        Naming the target, the worst element, both values, the bound and the graph.

    Examples
    --------
    >>> import numpy as np
    >>> def f(x):
    ...     return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)
    >>> print(assert_targets_agree(f, np.ones((2, 3), np.float32), targets=["pure"]))
    pure agree on 6 elements of 1 outputs (0.0% excluded)
    """
    from ..frontend.tensors.trees import leaves
    from ..frontend.tracing.compile import Compiled, compile

    chosen = _targets(targets)
    plain = fn.__wrapped__ if isinstance(fn, Compiled) else fn
    with runtime_state.override(mode="reference", disabled_passes=frozenset()):
        fresh = _fresh(args, kwargs)
        graph, arrays, places = _recorded(leaves(_call(plain, fresh)))
    wanted = expected(graph, arrays)
    lenient = expected(graph, arrays, lenient=True)
    for target in chosen:
        bounds = lenient if target == "torch" else wanted
        with runtime_state.override(mode=target, verify=True):
            for how, function in (("lazily", plain), ("compiled", compile(plain))):
                found = leaves(_call(function, _fresh(args, kwargs)))
                buffers = [_numbers(found[i]) for i in places]
                _compare(buffers, bounds, f"{target} ({how})", graph)
    return _agreement(chosen, wanted)


def _call(fn: Callable[..., Any], fresh: tuple[Any, Any]) -> Any:
    return fn(*fresh[0], **fresh[1])


def _fresh(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments with new Tensors of all arrays, so that no call can see another's writes."""
    from ..frontend.tensors.tensor import Tensor
    from ..frontend.tensors.trees import map_leaves

    def fresh(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return Tensor(np.array(leaf.numpy()), requires_grad=leaf.requires_grad)
        return Tensor(np.array(leaf)) if isinstance(leaf, np.ndarray) else leaf

    return (
        tuple(map_leaves(fresh, a) for a in args),
        {k: map_leaves(fresh, a) for k, a in kwargs.items()},
    )


def _numbers(result: Any) -> np.ndarray:
    """A result's values; a zero's sign and a NaN are as computed."""
    return np.asarray(result.numpy())


def _recorded(results: Sequence[Any]) -> tuple[Graph, list[np.ndarray], list[int]]:
    """The graph of the Tensors among `results`, its inputs' arrays, and their places."""
    from ..frontend.tensors.evaluation import to_host
    from ..frontend.tensors.tensor import Tensor
    from ..frontend.tensors.values import Lowering, topological

    places = [i for i, r in enumerate(results) if isinstance(r, Tensor)]
    if not places:
        raise ArgumentError(
            "the function returns no Tensor", remedy="return what accel or NumPy functions give"
        )
    values = [results[i]._value for i in places]
    lowering = Lowering(share=True)
    order = topological(values, lambda v: v.data is not None)
    lowering.add(order, lambda v: v.data is not None)
    graph = lowering.builder.graph(lowering.inputs, [lowering.strong(v) for v in values])
    return graph, [to_host(v.data) for v in lowering.sources], places
