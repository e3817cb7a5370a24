"""Numbers one after the other, and grids of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ir import dtypes
from ...ir.dtypes import DType
from ...ir.op import get_op, resolve
from ...ir.ops.creation import arange_length, linspace_step
from ...runtime import state as runtime_state
from ..tensors.arguments import UNSET, public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from .creation import finished

__all__ = ["arange", "eye", "linspace", "meshgrid"]


def _python(value: Any) -> Any:
    """A bound as a Python number; a Tensor is read."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.item()
    return value.item() if isinstance(value, np.generic) else value


@public
def arange(
    start: Any, /, stop: Any = UNSET, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, end: Any = UNSET,
) -> Tensor:  # fmt: skip
    """Numbers from `start` up to `stop` (left out) in steps of `step`.

    Integers are exact; floats are computed in float64 and rounded once.

    Raises
    ------
    ArgumentError
        For a step of 0 and bounds that are not finite.

    Examples
    --------
    >>> import accel
    >>> accel.arange(3).tolist(), accel.arange(1, 2, 0.5).tolist()
    ([0, 1, 2], [1.0, 1.5])
    """
    stop = end if stop is UNSET or stop is None else stop
    if stop is UNSET:
        start, stop = 0, start
    bounds = [_python(v) for v in (start, stop, step)]
    attrs = dict(zip(("start", "stop", "step"), bounds, strict=True))
    if runtime_state.current().tracer is not None or (bounds[0], bounds[2]) == (0, 1):
        made = record("arange", **attrs, dtype=dtype)
    else:
        made = _counted(**resolve(get_op("arange"), (), {**attrs, "dtype": dtype}).attrs)
    return finished(made, device, requires_grad)


def _counted(*, start: Any, stop: Any, step: Any, dtype: DType) -> Tensor:
    """`arange` as work with numbers, as it is defined: outside of compiled functions these become
    arguments where they change, as attributes do not."""
    whole = type(start) is type(step) is int
    if whole and not -(2**63) <= min(start, step) <= max(start, step) < 2**63:
        return record("arange", start=start, stop=stop, step=step, dtype=dtype)
    kind, number = (dtypes.int64, int) if whole else (dtypes.float64, float)
    places = record("iota", shape=(arange_length(start, stop, step),), axis=0, dtype=kind)
    moved = record("add", record("mul", places, number(step)), number(start))
    return record("cast", moved, dtype=dtype)


@public
def linspace(
    start: Any, stop: Any = UNSET, /, num: int = 100, *, dtype: Any = None, device: Any = None,
    endpoint: bool = True, requires_grad: bool = False, end: Any = UNSET, steps: int | None = None,
) -> Tensor:  # fmt: skip
    """`num` numbers evenly from `start` to `stop`, computed in float64 and rounded once.

    Examples
    --------
    >>> import accel
    >>> accel.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if stop is UNSET and end is UNSET:
        raise ArgumentError("linspace without an end", remedy="linspace(start, stop, num)")
    ends = [_python(v) for v in (start, end if stop is UNSET else stop)]
    wanted = dtypes.to_dtype(dtype or (complex if complex in map(type, ends) else dtypes.float32))
    count = num if steps is None else steps
    if wanted.kind == "c":
        parts = (_evenly([complex(v).real for v in ends], count, endpoint, wanted.real),
                 _evenly([complex(v).imag for v in ends], count, endpoint, wanted.real))
        return finished(record("complex", *parts), device, requires_grad)
    return finished(_evenly(ends, count, endpoint, wanted), device, requires_grad)


def _evenly(ends: list[Any], count: Any, endpoint: bool, dtype: DType) -> Tensor:
    attrs = {"start": ends[0], "stop": ends[1], "num": count, "endpoint": endpoint, "dtype": dtype}
    if runtime_state.current().tracer is not None:
        return record("linspace", **attrs)
    return _spread(**resolve(get_op("linspace"), (), attrs).attrs)


def _spread(*, start: float, stop: float, num: int, endpoint: bool, dtype: DType) -> Tensor:
    """`linspace` as work with numbers; see `_counted`."""
    places = record("iota", shape=(num,), axis=0, dtype=dtypes.float64)
    step = linspace_step(start, stop, num, endpoint)
    values = record("add", record("mul", places, step), start)
    if endpoint and num > 1:
        values = record("where", record("eq", places, float(num - 1)), stop, values)
    return record("cast", values, dtype=dtype)


@public
def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Ones on the `k`-th diagonal of a matrix, zeros elsewhere.

    Examples
    --------
    >>> import accel
    >>> accel.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    made = record("eye", n=n_rows, m=n_cols, k=k, dtype=dtype or dtypes.float32)
    return finished(made, device, requires_grad)


@public
def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of a grid, one Tensor for each 1-d operand.

    Parameters
    ----------
    arrays
        1-d, or numbers; a single list of them is taken apart.
    indexing
        "xy", the standard's default, gives shape (n2, n1, …), "ij" gives (n1, n2, …).

    Raises
    ------
    ArgumentError
        For another indexing.
    ShapeError
        For operands of more dimensions.

    Examples
    --------
    >>> import accel
    >>> a, b = accel.meshgrid(accel.arange(2), accel.arange(3), indexing="ij")
    >>> a.tolist()
    [[0, 0, 0], [1, 1, 1]]
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing {indexing!r}", remedy="use 'xy' or 'ij'")
    if len(arrays) == 1 and isinstance(arrays[0], (list, tuple)):
        arrays = tuple(arrays[0])
    found = [as_tensor(a) for a in arrays]
    for x in found:
        if x.ndim > 1:
            raise ShapeError(f"meshgrid of shape {list(x.shape)}", remedy="give 1-d operands")
    order = list(range(len(found)))
    if indexing == "xy" and len(found) > 1:
        order[:2] = 1, 0
    sizes = [0] * len(found)
    for x, axis in zip(found, order, strict=True):
        sizes[axis] = x.size
    grid = []
    for x, axis in zip(found, order, strict=True):
        place = tuple(x.size if i == axis else 1 for i in range(len(found)))
        grid.append(record("broadcast_to", record("reshape", x, shape=place), shape=tuple(sizes)))
    return grid
