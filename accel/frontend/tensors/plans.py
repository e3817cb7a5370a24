"""Plans of evaluations: lazy code that repeats itself finds its executable again at once.

Lowering recorded Values to a graph costs more than running a small kernel. So an evaluation is
first described by what was recorded, before any node is built; an equal description has an
equal graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ... import forking
from ...errors import Location
from ...ir.types import TensorType
from .recipes import Recipe, recipe_of
from .values import Value

if TYPE_CHECKING:
    from ...runtime.executable import Executable

__all__ = ["BoundedCache", "Plan", "describe"]


class Plan:
    """How an evaluation is run.

    Attributes
    ----------
    run
        From the buffers of the leaves to those of the outputs.
    settings
        The compile key that it holds for; None once the plan is dropped.
    results
        For each wanted Value its place among the outputs and its type.
    lines
        Those that recorded the graph, in the order of its description: another program of the
        same graph has its own.
    """

    __slots__ = ("lines", "results", "run", "settings")

    def __init__(
        self, executable: Executable, results: tuple[tuple[int, TensorType], ...],
        lines: tuple[Location | None, ...], settings: Any,
    ) -> None:  # fmt: skip
        native = getattr(executable, "native", None)
        self.run: Callable[..., list[Any]] = native or _positional(executable)
        self.results = results
        self.lines = lines
        self.settings: Any = settings

    def drop(self) -> None:
        """Let go of the executable, though recipes may still refer to the plan.

        Whoever has read `run` before `settings`, and found these to be theirs, can still run it.
        """
        self.settings = None
        self.run = _dropped


def _dropped(*buffers: Any) -> list[Any]:
    raise AssertionError("a dropped plan is run")


def _positional(executable: Executable) -> Callable[..., list[Any]]:
    def run(*buffers: Any) -> list[Any]:
        return executable(buffers)

    return run


def describe(
    order: Sequence[Value], wanted: Iterable[Value]
) -> tuple[tuple[int | Recipe | None, ...], list[Any], list[Value]]:
    """A key that is equal for equal graphs, and the inputs: their buffers, and the Values.

    `order` has operands first; equal keys say that the same steps are applied to inputs of the
    same types, shared alike, and that the same results are wanted.
    """
    place: dict[Value, int] = {}
    known: dict[int, int] = {}
    buffers: list[Any] = []
    leaves: list[Value] = []
    key: list[Any] = []
    for number, value in enumerate(order):
        place[value] = number
        step, data = value.step, value.data
        if data is None and step is not None:
            key.append(step.number)
            key += [~place[i] for i in value.inputs]  # negative: steps end where the next begins
            continue
        data = value.data  # there by now, if another thread has just computed it
        seen = known.setdefault(id(data), len(buffers))
        key.append(recipe_of(value).leaf)
        if seen == len(buffers):
            buffers.append(data)
            leaves.append(value)
        key.append(~seen)
    key.append(None)
    key += [place[v] for v in wanted]
    return tuple(key), buffers, leaves


T = TypeVar("T")


class BoundedCache(Generic[T]):
    """What was made, by key; the oldest go first.

    Parameters
    ----------
    capacity
        How many are kept.
    drop
        Called with what goes.
    """

    def __init__(self, capacity: int, drop: Callable[[T], None] | None = None) -> None:
        self._capacity = capacity
        self._drop = drop
        self._made: OrderedDict[Any, T] = OrderedDict()
        self._lock = forking.lock()
        self.get = self._made.get

    def put(self, key: Any, made: T) -> None:
        """Keep `made` under `key`."""
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._capacity:
                self._forget(self._made.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._made)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for made in self._made.values():
                self._forget(made)
            self._made.clear()

    def _forget(self, made: T) -> None:
        if self._drop is not None:
            self._drop(made)
