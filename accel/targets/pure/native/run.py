"""The native form of a run: a built-in function from its arrays to a list of fresh results."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .... import forking
from ....ir.dataclass import dataclass
from ..machine.jit import CodeModule, compile_described, driver_address
from .api import Block, builtin, interface
from .entry import Job, pointer
from .text import RUN, native_text

__all__ = ["NativeRun"]

#: What makes an array of outputs' or intermediates' memory.
Allocator = Callable[[], np.ndarray]


@dataclass(frozen=True)
class NativeRun:
    """What a native call needs of a run.

    Attributes
    ----------
    job
        Its program.
    inputs, outputs
        Shapes and dtypes; an output has also what allocates it, None for NumPy itself.
    constants
        Arrays behind the arena in the table of bases.
    arena
        Memory for the intermediates of one call at a time; None where none is kept.
    new_arena
        Makes such memory for a call.
    unlock
        Whether a call takes so long that other Python threads should run meanwhile.
    keep
        What must live as long as calls are made: kernels, argument blocks.
    busy
        A word: whether a call uses the arena at present, or there is none.
    """

    job: Job
    inputs: Sequence[tuple[tuple[int, ...], np.dtype]]
    outputs: Sequence[tuple[tuple[int, ...], np.dtype, Allocator | None]]
    constants: Sequence[np.ndarray]
    arena: np.ndarray | None
    new_arena: Allocator
    unlock: bool
    keep: object
    busy: np.ndarray

    @property
    def runs_others(self) -> bool:
        """Whether other Python code may run before a call's kernels have ended."""
        return self.unlock or self.arena is None or any(new for _, _, new in self.outputs)

    def block(
        self, arguments: int, places: Sequence[int], order: Sequence[int],
        counts: np.ndarray, statistics: np.ndarray, fallback: Callable[..., Any],
    ) -> Block:  # fmt: skip
        """The words of `RUN`.

        Parameters
        ----------
        arguments
            How many arguments a call has.
        places
            For every input, which argument it is.
        order
            For every result of a call, which output it is.
        counts, statistics
            What a call adds to the counters at `statistics`.
        fallback
            Called with the arguments where they are other than expected.
        """
        kept: list[Any] = [self, fallback, counts, statistics, interface()]
        table = functools.partial(_table, kept)
        words = {
            "interface": pointer(interface()), "fallback": id(fallback), "arguments": arguments,
            "inputs": len(self.inputs), "outputs": len(self.outputs),
            "constants": len(self.constants), "driver": driver_address(),
            "program": pointer(self.job.program), "records": self.job.count,
            "unlock": int(self.unlock), "arena": 0 if self.arena is None else pointer(self.arena),
            "busy": pointer(self.busy), "new_arena": id(self.new_arena),
            "counters": len(counts),
            "input_specs": table([
                word for place, (shape, dtype) in zip(places, self.inputs, strict=True)
                for word in (place, id(dtype), len(shape), table(shape), 0)
            ]),
            "output_specs": table([
                word for shape, dtype, new in self.outputs
                for word in (0, id(dtype), len(shape), table(shape), 0 if new is None else id(new))
            ]),
            "constant_data": table([pointer(a) for a in self.constants]),
            "order": table(order), "counts": pointer(counts), "statistics": pointer(statistics),
        }  # fmt: skip
        return Block.of([words[name] for name in RUN], kept)

    @staticmethod
    def function(block: Block) -> Callable[..., list[np.ndarray]]:
        """A built-in function of a call's arguments that gives its results."""
        return builtin(_address(), block)


def _table(kept: list[Any], words: Sequence[int]) -> int:
    """The address of `words`, kept in `kept`."""
    array = np.array([*words, 0], np.int64)  # never empty, so that there is an address
    kept.append(array)
    return pointer(array)


_LOCK = forking.lock()


def _address() -> int:
    """Where `accel_run_arrays` is."""
    with _LOCK:  # of two racing copies one would be unmapped while it runs
        return _code().address("accel_run_arrays")


@functools.cache
def _code() -> CodeModule:
    return compile_described("native run", native_text)


