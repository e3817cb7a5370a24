"""A matrix product at run time: extents and operands, with batch dimensions folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ....ir.dataclass import dataclass
from .spec import MAX_BATCH, Constant, Matrix

__all__ = ["Problem", "cut", "folded"]


@dataclass(frozen=True)
class Problem:
    """One product at run time.

    Attributes
    ----------
    m, n, k
        Extents, each 0 or more.
    batch
        Extents of the batch dimensions.
    a, b
        The operands; each has a batch stride per batch dimension.
    outputs, extras
        As many as the spec names; extras that are constants are given by :class:`Constant`.
    kept
        Whether B is the same for many calls, so that it is packed once for all of them.
    """

    m: int
    n: int
    k: int
    batch: tuple[int, ...]
    a: Matrix
    b: Matrix
    outputs: tuple[Matrix, ...]
    extras: tuple[Matrix | Constant, ...] = ()
    kept: bool = False

    @property
    def operands(self) -> tuple[Matrix | Constant, ...]:
        return self.a, self.b, *self.outputs, *self.extras

    def with_operands(self, operands: Sequence[Matrix | Constant]) -> Problem:
        """The problem with other operands, in the order of `operands`."""
        a, b, *rest = operands
        assert isinstance(a, Matrix) and isinstance(b, Matrix)
        outputs = tuple(o for o in rest[: len(self.outputs)] if isinstance(o, Matrix))
        return replace(self, a=a, b=b, outputs=outputs, extras=tuple(rest[len(outputs) :]))


def folded(problem: Problem) -> Problem:
    """The problem with batch dimensions of extent 1 gone and neighbours merged.

    A batch that only repeats B becomes rows: [T, D] @ [D, N] for each of b is one product of
    b * T rows.
    """
    axes = [i for i, extent in enumerate(problem.batch) if extent != 1]
    operands = [_with_batch(o, [_stride(o, i) for i in axes]) for o in problem.operands]
    batch = [problem.batch[i] for i in axes]
    axis = len(batch) - 1
    while axis > 0:
        if all(_stride(o, axis - 1) == _stride(o, axis) * batch[axis] for o in operands):
            kept = [*range(axis - 1), *range(axis, len(batch))]
            operands = [_with_batch(o, [_stride(o, i) for i in kept]) for o in operands]
            batch[axis - 1 : axis + 1] = [batch[axis - 1] * batch[axis]]
        axis -= 1
    problem = replace(problem.with_operands(operands), batch=tuple(batch))
    if batch and _stride(problem.b, -1) == 0:
        problem = _batch_as_rows(problem)
    return problem


def _batch_as_rows(problem: Problem) -> Problem:
    """The last batch dimension joined with the rows, if every operand but B allows it."""
    operands: list[Matrix | Constant] = []
    for operand in problem.operands:
        if isinstance(operand, Matrix):
            step = operand.batch[-1]
            if operand is not problem.b and problem.m != 1 and step != problem.m * operand.row:
                return problem
            row = step if problem.m == 1 else operand.row
            operand = operand._replace(row=row, batch=operand.batch[:-1])
        operands.append(operand)
    joined = problem.with_operands(operands)
    # B's own row stride runs along k and stays.
    b = joined.b._replace(row=problem.b.row)
    return replace(joined, b=b, m=problem.m * problem.batch[-1], batch=problem.batch[:-1])


def _stride(operand: Matrix | Constant, axis: int) -> int:
    return operand.batch[axis] if isinstance(operand, Matrix) else 0


def _with_batch(operand: Matrix | Constant, strides: list[int]) -> Matrix | Constant:
    return operand._replace(batch=tuple(strides)) if isinstance(operand, Matrix) else operand


def cut(problem: Problem) -> list[Problem]:
    """The problem as several of at most `MAX_BATCH` batch dimensions."""
    if len(problem.batch) <= MAX_BATCH:
        return [problem]
    parts = []
    for index in range(problem.batch[0]):
        operands = [
            o._replace(offset=o.offset + index * o.batch[0], batch=o.batch[1:])
            if isinstance(o, Matrix)
            else o
            for o in problem.operands
        ]
        parts += cut(replace(problem.with_operands(operands), batch=problem.batch[1:]))
    return parts
