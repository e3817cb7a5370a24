"""Random numbers: seeded, and the same on every target, in every mode, compiled or not.

A `Generator` holds the state of Philox4x32-10 (seed and offset) in a Tensor. A draw reads it
and rebinds it to the next offset, so a compiled function takes it as an input and writes it
back, and every call draws new numbers.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ... import forking
from ...errors import ArgumentError, ShapeError
from ...ir import dtypes
from ...ir.axes import one_axis
from ...runtime import state as runtime_state
from ..tensors.arguments import UNSET, extents, public
from ..tensors.leaf_values import array_value
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor, value_of
from .creation import finished

__all__ = [
    "Generator", "bernoulli", "default_generator", "initial_seed", "manual_seed", "multinomial",
    "normal", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "uniform",
]  # fmt: skip


class Generator:
    """A stream of random numbers.

    Parameters
    ----------
    seed
        Any integer; its low 64 bits count.

    Attributes
    ----------
    state
        int64[2]: the seed and the offset of the next draw.

    Examples
    --------
    >>> import accel
    >>> first = accel.rand(2, generator=accel.Generator(7))
    >>> accel.allclose(first, accel.rand(2, generator=accel.Generator(7)))
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = forking.lock()
        self.state = Tensor._of(_state(seed, 0))

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed`; returns the generator."""
        with self._lock:
            self.state._set(_state(seed, 0))
        return self

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return int(self.state.numpy()[0])

    def _draw(self, op: str, attrs: dict[str, Any]) -> Tensor:
        """One draw; the generator moves on unless the arguments are wrong."""
        if runtime_state.current().tracer is not None:
            state = Tensor._of(value_of(self.state))
            drawn = record(op, state, **attrs)
            self.state._set(value_of(record("random_advance", state)))
            return drawn
        # Outside of traces the state is a number at hand: no chain of advances builds up.
        with self._lock:
            seed, offset = (int(v) for v in self.state.numpy())
            drawn = record(op, Tensor._of(value_of(self.state)), **attrs)
            self.state._set(_state(seed, offset + 1))
        return drawn

    def __repr__(self) -> str:
        return f"Generator(seed={self.initial_seed()})"


def _wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def _state(seed: int, offset: int) -> Any:
    try:
        seed = operator.index(seed)
    except TypeError:
        raise ArgumentError(f"a seed of {seed!r}", remedy="give an int") from None
    return array_value(np.array([_wrapped(seed), _wrapped(offset)], np.int64), copy=False)


#: The generator of all functions that are not given one; its seed is 0 until `manual_seed`.
default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Restart the default generator with a seed.

    Examples
    --------
    >>> import accel
    >>> _ = accel.manual_seed(3)
    >>> x = accel.randn(4)
    >>> _ = accel.manual_seed(3)
    >>> accel.allclose(x, accel.randn(4))
    True
    """
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def _draw(op: str, generator: Generator | None, **attrs: Any) -> Tensor:
    return (generator or default_generator)._draw(op, attrs)


# -- continuous --------------------------------------------------------------------------
@public
def rand(
    *size: Any, dtype: Any = None, generator: Generator | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Uniform numbers in [0, 1).

    Parameters
    ----------
    size
        Extents, apart or as one tuple.
    dtype
        A floating dtype, float32 by default.
    generator
        The default generator unless given.
    device
        Where to make them; by default the CPU.
    requires_grad
        Whether `backward` collects gradients.

    Raises
    ------
    ArgumentError
        For negative extents.
    DTypeError
        For a dtype that is not floating.

    Examples
    --------
    >>> import accel
    >>> accel.rand(2, 3).shape
    (2, 3)
    """
    made = _draw("random_uniform", generator, shape=extents("rand", size),
                 dtype=dtype or dtypes.float32)  # fmt: skip
    return finished(made, device, requires_grad)


@public
def randn(
    *size: Any, dtype: Any = None, generator: Generator | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Standard normal numbers; arguments as in `rand`.

    Examples
    --------
    >>> import accel
    >>> accel.randn((2, 3), dtype=accel.float64).dtype
    accel.float64
    """
    made = _draw("random_normal", generator, shape=extents("randn", size),
                 dtype=dtype or dtypes.float32)  # fmt: skip
    return finished(made, device, requires_grad)


@public
def rand_like(
    x: Any, /, *, dtype: Any = None, generator: Generator | None = None, device: Any = None
) -> Tensor:  # fmt: skip
    """Uniform numbers in [0, 1) of the shape and dtype of another Tensor."""
    x = as_tensor(x)
    made = _draw("random_uniform", generator, shape=x.shape, dtype=dtype or x.dtype)
    return finished(made, x.device if device is None else device)


@public
def randn_like(
    x: Any, /, *, dtype: Any = None, generator: Generator | None = None, device: Any = None
) -> Tensor:  # fmt: skip
    """Standard normal numbers of the shape and dtype of another Tensor."""
    x = as_tensor(x)
    made = _draw("random_normal", generator, shape=x.shape, dtype=dtype or x.dtype)
    return finished(made, x.device if device is None else device)


def _placed(op: str, size: Any, operands: tuple[Any, Any]) -> tuple[int, ...]:
    """The shape of a draw: `size`, or that to which the parameters broadcast."""
    from ...ir.types import broadcast_shapes

    if size is not None:
        return extents(op, size if isinstance(size, tuple) else (size,))
    return broadcast_shapes([as_tensor(v).shape for v in operands], op)


def _float_of(dtype: Any, operands: tuple[Any, Any]) -> Any:
    if dtype is not None:
        return dtypes.to_dtype(dtype)
    found = [v.dtype for v in map(as_tensor, operands) if v.ndim and v.dtype.is_floating]
    return found[0] if found else dtypes.float32


@public
def uniform(
    low: Any = 0.0, high: Any = 1.0, size: Any = None, *, dtype: Any = None,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Uniform numbers from `low` to `high`.

    Parameters
    ----------
    low, high
        Numbers or Tensors, which broadcast.
    size
        The shape; by default that of the bounds.
    dtype
        A floating dtype; by default that of the bounds.
    generator
        The default generator unless given.

    Examples
    --------
    >>> import accel
    >>> x = accel.uniform(-1, 1, (100,))
    >>> bool(((x >= -1) & (x <= 1)).all())
    True
    """
    shape, kind = _placed("uniform", size, (low, high)), _float_of(dtype, (low, high))
    unit = _draw("random_uniform", generator, shape=shape, dtype=kind)
    plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
    width = high - low if plain else record("sub", high, low)
    scaled = record("add", record("mul", unit, width), low)
    return record("cast", scaled, dtype=kind) if scaled.dtype is not kind else scaled


@public
def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, dtype: Any = None,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal numbers of the given mean and standard deviation; arguments as in `uniform`."""
    shape, kind = _placed("normal", size, (mean, std)), _float_of(dtype, (mean, std))
    unit = _draw("random_normal", generator, shape=shape, dtype=kind)
    scaled = record("add", record("mul", unit, std), mean)
    return record("cast", scaled, dtype=kind) if scaled.dtype is not kind else scaled


# -- discrete ----------------------------------------------------------------------------
@public
def randint(
    low: int, high: Any = UNSET, size: Any = UNSET, *, dtype: Any = None,
    generator: Generator | None = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """Integers in [low, high), each equally likely; from 0 when only one bound is given.

    Examples
    --------
    >>> import accel
    >>> accel.randint(0, 10, (3,)).dtype
    accel.int64
    """
    if size is UNSET and isinstance(high, (tuple, list)):
        high, size = UNSET, high
    if high is UNSET or high is None:
        low, high = 0, low
    shape = () if size is UNSET else extents("randint", (size,))
    made = _draw("random_integers", generator, low=low, high=high, shape=shape,
                 dtype=dtype or dtypes.int64)  # fmt: skip
    return finished(made, device)


@public
def bernoulli(
    p: Any, size: Any = None, *, dtype: Any = None, generator: Generator | None = None
) -> Tensor:  # fmt: skip
    """1 with probability `p`, else 0.

    Parameters
    ----------
    p
        A probability, or a floating Tensor of them.
    size
        The shape; by default that of p.
    dtype
        By default that of p.
    generator
        The default generator unless given.

    Raises
    ------
    ArgumentError
        For a number outside [0, 1].
    """
    if isinstance(p, (int, float)) and not 0 <= p <= 1:
        raise ArgumentError(f"bernoulli: probability {p}", remedy="give a number from 0 to 1")
    shape, kind = _placed("bernoulli", size, (p, p)), _float_of(None, (p, p))
    drawn = record("lt", _draw("random_uniform", generator, shape=shape, dtype=kind), p)
    return record("cast", drawn, dtype=dtype or kind)


@public
def randperm(
    n: int, *, dtype: Any = None, generator: Generator | None = None, device: Any = None
) -> Tensor:  # fmt: skip
    """The integers from 0 to n - 1 in random order.

    Examples
    --------
    >>> import accel
    >>> accel.randperm(5).sum().item()
    10
    """
    keys = _draw("random_uniform", generator, shape=extents("randperm", (n,)), dtype=dtypes.float64)
    order = record("argsort", keys, axis=0, descending=False)
    return finished(record("cast", order, dtype=dtype or dtypes.int64), device)


@public
def multinomial(
    p: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:  # fmt: skip
    """Places of the last axis, drawn in proportion to the weights `p`.

    Parameters
    ----------
    p
        Weights that are not negative, [n] or [rows, n]; they need not add up to 1.
    num_samples
        How many draws from each row.
    replacement
        Whether a place may be drawn again.

    Returns
    -------
    Tensor
        int64, [num_samples] or [rows, num_samples].

    Raises
    ------
    ArgumentError
        For more draws than places without replacement.
    ShapeError
        For other dimensions.
    """
    p = as_tensor(p)
    if p.ndim not in (1, 2) or not p.shape[-1]:
        raise ShapeError(f"multinomial: weights of shape {list(p.shape)}",
                         remedy="give [n] or [rows, n], not empty")  # fmt: skip
    n = p.shape[one_axis(-1, p.ndim, "multinomial")]
    if num_samples <= 0 or (not replacement and num_samples > n):
        raise ArgumentError(f"multinomial: {num_samples} draws of {n} places",
                            remedy="draw with replacement, or fewer")  # fmt: skip
    if replacement:
        return _drawn_again(p, num_samples, generator)
    # Exponential clocks whose rates are the weights ring first in proportion to them.
    unit = _draw("random_uniform", generator, shape=p.shape, dtype=dtypes.float64)
    clocks = record("div", record("neg", record("log1p", record("neg", unit))), p)
    if num_samples == 1:
        return record("argmin", clocks, axis=-1, keepdims=True)
    first = tuple((0, extent, 1) for extent in (*p.shape[:-1], num_samples))
    start, stop, step = zip(*first, strict=True)
    order = record("argsort", clocks, axis=-1, descending=False)
    return record("slice", order, start=start, stop=stop, step=step)


def _drawn_again(p: Tensor, count: int, generator: Generator | None) -> Tensor:
    """By inversion: how many partial sums do not exceed a uniform share of the total."""
    sums = record("cumsum", record("cast", p, dtype=dtypes.float64), axis=-1)
    places = tuple((0, n, 1) for n in p.shape[:-1]) + ((p.shape[-1] - 1, p.shape[-1], 1),)
    start, stop, step = zip(*places, strict=True)
    total = record("slice", sums, start=start, stop=stop, step=step)
    unit = _draw("random_uniform", generator, shape=(*p.shape[:-1], count), dtype=dtypes.float64)
    share = record("expand_dims", record("mul", unit, total), axis=-1)
    passed = record("le", record("expand_dims", sums, axis=-2), share)
    # A product that rounds up to the total would count one place too many.
    return record("minimum", record("sum", passed, axis=-1), p.shape[-1] - 1)
