"""numexpr: a program is recorded as one expression over its arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numexpr
import numpy as np

from ..workloads import Workload
from .base import Absent, Partial, Peer


class Expression:
    """An expression as text, with Python's operators."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _join(self, sign: str, other: Any, reverse: bool = False) -> Expression:
        left, right = self.text, other.text if isinstance(other, Expression) else _number(other)
        if reverse:
            left, right = right, left
        return Expression(f"({left} {sign} {right})")

    def __add__(self, other: Any) -> Expression:
        return self._join("+", other)

    def __radd__(self, other: Any) -> Expression:
        return self._join("+", other, reverse=True)

    def __sub__(self, other: Any) -> Expression:
        return self._join("-", other)

    def __mul__(self, other: Any) -> Expression:
        return self._join("*", other)

    def __rmul__(self, other: Any) -> Expression:
        return self._join("*", other, reverse=True)

    def __truediv__(self, other: Any) -> Expression:
        return self._join("/", other)


#: Numbers by the names that stand for them: written out they would make the result float64.
_NUMBERS: dict[str, np.float32] = {}


def _number(value: float) -> str:
    if float(value).is_integer():
        return str(int(value))
    name = next((n for n, known in _NUMBERS.items() if known == np.float32(value)), None)
    if name is None:
        name = f"c{len(_NUMBERS)}"
        _NUMBERS[name] = np.float32(value)
    return name


def _function(name: str) -> Callable[..., Expression]:
    def call(*operands: Expression) -> Expression:
        return Expression(f"{name}({', '.join(operand.text for operand in operands)})")

    return call


class NumexprOperations(Partial):
    """What numexpr's language has; it has no erf."""

    exp, log, sqrt, tanh, sin, cos = (
        staticmethod(_function(name)) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos")
    )

    def relu(self, x: Expression) -> Expression:
        return Expression(f"where({x.text} > 0, {x.text}, 0)")

    def pow(self, x: Expression, y: Expression) -> Expression:
        return Expression(f"({x.text} ** {y.text})")

    def sigmoid(self, x: Expression) -> Expression:
        return Expression(f"(1 / (1 + exp(-{x.text})))")


class Numexpr(Peer):
    """numexpr on NumPy arrays."""

    ops = NumexprOperations()

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        numexpr.set_num_threads(threads)

    def version(self) -> str:
        return f"numexpr {numexpr.__version__}"

    def program(self, workload: Workload) -> Callable[..., Any]:
        if workload.weights is not None:
            raise Absent("no models")
        names = [f"x{i}" for i in range(len(workload.sample()))]
        recorded = workload.function(self.ops, *map(Expression, names))
        if len(recorded.text) > 4096:
            raise Absent("the expression is too long")

        def run(*arrays: np.ndarray) -> np.ndarray:
            scope = {**_NUMBERS, **dict(zip(names, arrays, strict=True))}
            return numexpr.evaluate(recorded.text, local_dict=scope, truediv=True)

        return run
