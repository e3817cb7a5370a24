"""`compile`: functions recorded once per signature and run as executables."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from ... import forking
from ...errors import TracedValueError, TraceError
from ...ir import dtypes
from ...ir.graph import Graph
from ...ir.types import TensorType
from ...log import logger
from ...runtime import state as runtime_state
from ...runtime.collector import collection_paused
from ...runtime.statistics import STATISTICS
from ..native.objects import NativeCallable
from ..tensors import trees
from ..tensors.tensor import Tensor
from ..tensors.values import hide_frames, user_location
from .foreign_random import warn_of_draws
from .native_calls import NativeCalls
from .references import (
    ArrayArgument,
    FloatArgument,
    GradientReference,
    HyperparameterReference,
    TensorArgument,
    array_type,
)  # fmt: skip
from .signature import argument_names, describe_change, signature
from .specialization import Specialization, buffers_of, build
from .tracing import Restart, Tracer
from .watching import Watcher

__all__ = ["CacheInfo", "Compiled", "compile"]

F = TypeVar("F", bound=Callable[..., Any])

#: Signatures kept for one function; the oldest go first.
CAPACITY = 256
#: Recompiles of one function after which they are explained once in the log.
PATIENCE = 8

#: A number for every combination of settings that calls have met.
_tokens: dict[Any, int] = {}

_WEAK_FLOAT = TensorType(dtypes.float64, weak=True)


class CacheInfo(NamedTuple):
    """Calls served by an existing specialisation, calls that traced, specialisations kept."""

    hits: int
    misses: int
    size: int


class Compiled(NativeCallable):
    """A function that is recorded once per signature and then runs as an executable.

    Made by `compile`. Calling it inside another compiled function records its body there.
    """

    def __init__(
        self, function: Callable[..., Any], settings: dict[str, Any], names: Any = None
    ) -> None:
        self.__wrapped__ = function
        self._settings = settings
        self._entries: OrderedDict[Any, tuple[Specialization, ...]] = OrderedDict()
        self._locks: dict[Any, Any] = {}
        self._lock = forking.lock()
        self._hits = 0
        self._misses = 0
        self._last_key: Any = None
        self._reasons: list[str] = []
        self._states: tuple[Any, Any, int] = (None, None, -1)
        self._native = None
        self._plans = NativeCalls()
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))
        if not hasattr(function, "__name__"):
            self.__name__ = type(function).__name__

    # -- calling -----------------------------------------------------------------------------
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = runtime_state.current()
        if state.tracer is not None:
            return self.__wrapped__(*args, **kwargs)
        try:
            return self._call(args, kwargs, state)
        except Exception as error:
            told = _behind(error)
            raise hide_frames(told) from told.__cause__

    def _call(self, args: Any, kwargs: Any, state: runtime_state.State) -> Any:
        effective, token = self._effective(state)
        key, leaves = signature(self.__wrapped__, args, kwargs)
        key = (key, token)
        linked = effective.grad_enabled
        for entry in self._entries.get(key, ()):
            inputs = entry.inputs(leaves)
            if inputs is not None:
                self._count_hit()
                result = entry(leaves, inputs, linked)
                if entry.native is not False and not (linked and entry.links):
                    self._plans.learn(self, entry, args, kwargs, state)
                return result
        entry, inputs = self._specialize(key, args, kwargs, leaves, effective)
        return entry(leaves, inputs, linked)

    def _count_hit(self) -> None:
        with self._lock:
            self._hits += 1
        STATISTICS.add(cache_hits=1)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Bound(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self, '__qualname__', self.__name__)}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled by its name, as functions are

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return self  # functions are not copied either

    def _effective(self, state: runtime_state.State) -> tuple[runtime_state.State, int]:
        """`state` with this function's own mode, device and fallback, and a number for it.

        Equal settings have equal numbers, which are quicker to hash than the settings.
        """
        known, made, token = self._states
        if known is not state:
            with runtime_state.override(**self._settings) as made:
                key = (made.grad_enabled, made.compile_key)
                token = _tokens.setdefault(key, len(_tokens))
                self._states = (state, made, token)
        return made, token

    def _specialize(
        self, key: Any, args: Any, kwargs: Any, leaves: list[Any], state: runtime_state.State
    ) -> tuple[Specialization, list[Any]]:
        """Trace, unless another thread has done so meanwhile."""
        with self._lock:
            lock = self._locks.setdefault(key, forking.lock())
        with lock:
            for entry in self._entries.get(key, ()):
                inputs = entry.inputs(leaves)
                if inputs is not None:
                    self._count_hit()
                    return entry, inputs
            self._note_recompile(key, args, kwargs, leaves)
            entry = self._trace(args, kwargs, leaves, state)
            inputs = entry.inputs(leaves)
            if inputs is None:
                raise TraceError(
                    f"{self.__name__} changes what it reads while it is recorded: "
                    f"{entry.changed(leaves)}", loc=user_location(),
                    remedy="pass it as an argument, or keep it in a Tensor changed in place",
                )  # fmt: skip
            with self._lock:
                self._misses += 1
                self._last_key = key
                self._entries[key] = (entry, *self._entries.get(key, ()))[:PATIENCE]
                while len(self._entries) > CAPACITY:
                    old, _ = self._entries.popitem(last=False)
                    self._locks.pop(old, None)
        return entry, inputs

    # -- tracing -----------------------------------------------------------------------------
    def _trace(
        self, args: Any, kwargs: Any, leaves: list[Any], state: runtime_state.State
    ) -> Specialization:
        names = argument_names(self.__wrapped__, args, kwargs)
        static_floats: set[int] = set()
        static_settings: set[Any] = set()
        while True:
            try:
                with collection_paused():
                    return self._trace_once(
                        args, kwargs, leaves, names, static_floats, static_settings, state
                    )
            except Restart as restart:
                for reference in restart.references:
                    if isinstance(reference, HyperparameterReference):
                        static_settings.add(
                            (id(reference.owner), reference.attribute, reference.place)
                        )
                    elif isinstance(reference, FloatArgument):
                        static_floats.add(reference.index)

    def _trace_once(
        self, args: Any, kwargs: Any, leaves: list[Any], names: Sequence[str],
        static_floats: set[int], static_settings: set[Any], state: runtime_state.State,
    ) -> Specialization:  # fmt: skip
        tracer = Tracer(static_settings)
        handles, seen, traced = _placeholders(tracer, leaves, names, static_floats)
        places = iter(traced)
        new_args = [trees.map_leaves(lambda _: next(places), a) for a in args]
        new_kwargs = {k: trees.map_leaves(lambda _: next(places), a) for k, a in kwargs.items()}
        with runtime_state.override(
            tracer=tracer, mode=state.mode, device=state.device, fallback=state.fallback
        ):
            with warn_of_draws(self.__name__), Watcher(self.__wrapped__) as watcher:
                result = self.__wrapped__(*new_args, **new_kwargs)
            _check_containers((new_args, new_kwargs), traced, names)
            guards = watcher.guards([a for a, _ in tracer.arrays.values()])
            tracer.name_captures({**watcher.labels, **tracer.labels})
            static = [(i, leaves[i]) for i in sorted(static_floats)]
            return build(tracer, result, handles, seen, guards, static, state)

    # -- inspection ----------------------------------------------------------------------------
    def _find(self, args: Any, kwargs: Any) -> Specialization:
        """The specialisation for a call, traced if need be, not run."""
        state, token = self._effective(runtime_state.current())
        key, leaves = signature(self.__wrapped__, args, kwargs)
        key = (key, token)
        for entry in self._entries.get(key, ()):
            if entry.inputs(leaves) is not None:
                return entry
        return self._specialize(key, args, kwargs, leaves, state)[0]

    def _executable(self, args: Any, kwargs: Any) -> Any:
        entry = self._find(args, kwargs)
        if entry.executable is None:
            raise TraceError(
                f"{self.__name__} computes nothing for these arguments", loc=user_location(),
                remedy="return a tensor that depends on an operation",
            )  # fmt: skip
        return entry.executable

    def graph(self, *args: Any, stage: str = "recorded", **kwargs: Any) -> Graph:
        """The graph of a call: ``"recorded"``, ``"optimized"``, ``"fused"`` or ``"placed"``.

        Nothing is run, and nothing written back.
        """
        if stage == "recorded":
            return self._find(args, kwargs).graph
        stages = self.stages(*args, **kwargs)
        if stage not in stages:
            raise TraceError(
                f"there is no stage {stage!r}", loc=user_location(),
                remedy="stages: " + ", ".join(stages),
            )  # fmt: skip
        return stages[stage]

    def stages(self, *args: Any, **kwargs: Any) -> dict[str, Graph]:
        """The graphs of a call at all four stages."""
        stages = self._executable(args, kwargs).stages
        return {n: getattr(stages, n) for n in ("recorded", "optimized", "fused", "placed")}

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        """A table of the regions of a call: ops, kernel, target, size, threshold, reason."""
        from ...inspect import explain

        return explain(self._executable(args, kwargs), self._effective(runtime_state.current())[0])

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """A table of what a call runs: each kernel's time, bytes, work, and the user's line.

        The call is run some times, whole and kernel by kernel, for about 0.2 s. Nothing is
        written back: optimizers, random states and arguments stay as they are.
        """
        from ...inspect import profile

        entry = self._find(args, kwargs)
        executable = self._executable(args, kwargs)
        _, leaves = signature(self.__wrapped__, args, kwargs)
        inputs = entry.inputs(leaves)
        assert inputs is not None  # it was found, or traced, for these very arguments
        return profile(executable, buffers_of(inputs))

    def llvm_ir(self, *args: Any, **kwargs: Any) -> str:
        """The LLVM IR of the kernels of a call."""
        return "\n".join(kernel.ir() for kernel in self._kernels(args, kwargs))

    def assembly(self, *args: Any, **kwargs: Any) -> str:
        """The machine code of the kernels of a call, as assembly."""
        return "\n".join(kernel.assembly() for kernel in self._kernels(args, kwargs))

    def _kernels(self, args: Any, kwargs: Any) -> list[Any]:
        """The native kernels of a call, each once."""
        steps = self._executable(args, kwargs).steps
        every = [k for step in steps for k in getattr(step.run, "kernels", ())]
        return list({k.name: k for k in every if k.kind != "reference"}.values())

    # -- the cache -----------------------------------------------------------------------------
    def cache_info(self) -> CacheInfo:
        """Hits, misses (traces) and the number of specialisations kept."""
        with self._lock:
            hits = self._hits + self._plans.hits
            return CacheInfo(hits, self._misses, sum(map(len, self._entries.values())))

    def clear_cache(self) -> None:
        """Forget every specialisation, and the counts."""
        with self._lock:
            self._entries.clear()
            self._locks.clear()
            self._reasons.clear()
            self._hits = self._misses = 0
            self._last_key = None
            self._plans.clear(self)

    def explain_recompiles(self) -> list[str]:
        """Why the function was recorded again, each time: the argument or guard that changed."""
        return list(self._reasons)

    def _note_recompile(self, key: Any, args: Any, kwargs: Any, leaves: list[Any]) -> None:
        if self._last_key is None:
            return
        known = self._entries.get(key)
        if known:
            reason = known[0].changed(leaves) or "another thread was faster"
        else:
            names = argument_names(self.__wrapped__, args, kwargs)
            reason = describe_change(self._last_key, key, names)
        self._reasons.append(reason)
        if len(self._reasons) == PATIENCE:
            logger().warning(
                "[accel] %s was recorded %d times; the last time because %s. Remedy: pass what "
                "changes as an array or a float argument, or keep it constant; all reasons: "
                "explain_recompiles()", self.__name__, PATIENCE + 1, reason,
            )  # fmt: skip


class Bound:
    """A compiled function as a method of one instance."""

    __slots__ = ("_function", "__self__")

    def __init__(self, function: Compiled, instance: Any) -> None:
        self._function = function
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._function, name)
        if name in ("graph", "stages", "explain", "llvm_ir", "assembly", "profile"):
            return functools.partial(found, self.__self__)
        return found

    def __repr__(self) -> str:
        return f"<bound {self._function!r} of {self.__self__!r}>"


def _behind(error: Exception) -> Exception:
    """What happened where NumPy, which took a Tensor for a number, tells less."""
    cause = error.__cause__
    if not isinstance(cause, TracedValueError) or "array element" not in str(error):
        return error
    return TracedValueError(
        "a recorded tensor assigned into a NumPy array, which holds values that are known now",
        loc=cause.loc, remedy="make the array of a tensor, np.zeros_like(x), or by accel.zeros",
    )  # fmt: skip


def _placeholders(
    tracer: Tracer, leaves: Sequence[Any], names: Sequence[str], static_floats: set[int]
) -> tuple[dict[int, Tensor], dict[int, Any], list[Any]]:
    """Handles on placeholders for the arguments: by leaf, their gradients, and what is passed."""
    handles: dict[int, Tensor] = {}
    seen: dict[int, Any] = {}
    first: dict[int, Tensor] = {}
    traced: list[Any] = []
    for i, (leaf, name) in enumerate(zip(leaves, names, strict=True)):
        if isinstance(leaf, Tensor):
            if id(leaf) not in first:
                first[id(leaf)] = handles[i] = _tensor_handle(tracer, leaf, name, i, seen)
            traced.append(first[id(leaf)])
        elif isinstance(leaf, (np.ndarray, np.generic)):
            reference = ArrayArgument(name, array_type(np.asarray(leaf)), i)
            traced.append(Tensor._of(tracer.placeholder(reference)))
        elif type(leaf) is float and i not in static_floats:
            traced.append(Tensor._of(tracer.placeholder(FloatArgument(name, _WEAK_FLOAT, i))))
        else:
            traced.append(leaf)
    return handles, seen, traced


def _tensor_handle(
    tracer: Tracer, leaf: Tensor, name: str, index: int, seen: dict[int, Any]
) -> Tensor:
    value = leaf._value
    reference = TensorArgument(name, value.type, index)
    handle = object.__new__(type(leaf))
    owner = handle if value.owner is not None else None
    handle._value = tracer.placeholder(reference, value.requires_grad, owner)
    handle._grad = None
    if leaf._grad is not None:
        gradient = GradientReference(f"{name}.grad", leaf._grad._value.type, reference)
        seen[index] = tracer.placeholder(gradient)
        handle._grad = Tensor._of(seen[index])
    return handle


def _check_containers(given: Any, traced: Sequence[Any], names: Sequence[str]) -> None:
    """Containers passed in must not be changed: the caller's own would not be."""
    now = [leaf for part in (*given[0], *given[1].values()) for leaf in trees.leaves(part)]
    pairs = list(zip(names, now, traced, strict=False))
    place = next((name for name, a, b in pairs if a is not b), None)
    if place is not None or len(now) != len(traced):
        raise TraceError(
            f"a compiled function changes a container that it was given ({place or 'its length'}); "
            "the caller's would stay as it is", loc=user_location(),
            remedy="return the new values; Tensors inside may be changed in place",
        )  # fmt: skip


@overload
def compile(fn: F, *, mode: str | None = ..., device: Any = ...,
            fallback: str | None = ...) -> F: ...  # fmt: skip
@overload
def compile(fn: None = None, *, mode: str | None = ..., device: Any = ...,
            fallback: str | None = ...) -> Callable[[F], F]: ...  # fmt: skip
def compile(
    fn: Any = None, *, mode: str | None = None, device: Any = None,
    fallback: str | None = None,
) -> Any:  # fmt: skip
    """Compile a function: record it once per signature, optimise it, run it natively.

    Parameters
    ----------
    fn
        A function, a method or a Module, written with accel or with NumPy.
    mode
        ``"pure"``, ``"torch"`` or ``"auto"``; by default the mode in force at the call.
    device
        Where the torch target runs, such as ``"cuda:0"``.
    fallback
        ``"error"`` forbids that a failed torch region runs elsewhere.

    Returns
    -------
    Compiled
        Called like `fn`. Its results are Tensors, also for NumPy arguments (``np.asarray`` or
        `.numpy()` convert). It has `graph`, `stages`, `explain`, `profile`, `llvm_ir`,
        `assembly`, `cache_info`, `clear_cache` and `explain_recompiles`.

    Notes
    -----
    A call is traced again when the tree of its arguments changes, the dtype, shape or layout of
    an array, a static value (bool, int, str, None, other hashable objects), the mode, or a
    number that the code takes from around it. Floats are inputs, unless their Python value is
    demanded. Tensors and arrays from outside are read anew on every call, and Tensors that the
    function rebinds are written back, when the call succeeds.

    Examples
    --------
    >>> import numpy as np
    >>> @compile
    ... def f(x, slope):
    ...     return x * slope + 1
    >>> f(np.arange(3.0), 2.0).tolist()
    [1.0, 3.0, 5.0]
    >>> f(np.arange(3.0), 3.0).tolist()
    [1.0, 4.0, 7.0]
    >>> f.cache_info().misses
    1
    """
    place = None if device is None else str(device)
    given = {"mode": mode, "device": place, "fallback": fallback}
    settings = {name: value for name, value in given.items() if value is not None}
    if settings:
        with runtime_state.override(**settings):
            pass  # raises at once where a setting is impossible
    if fn is None:
        return lambda function: compile(function, **given)  # type: ignore[call-overload]
    if not callable(fn):
        raise TraceError(
            f"{type(fn).__name__} cannot be compiled: it is not callable", loc=user_location(),
            remedy="decorate a function, or pass a Module",
        )  # fmt: skip
    return Compiled(fn, settings)
