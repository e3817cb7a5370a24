"""Reductions and scans.

``axis=`` and ``keepdims=`` are the standard's; ``dim`` (also by position) and ``keepdim``
torch's. They differ where torch does: `max` and `min` along a ``dim`` give values and indices,
`var` and `std` divide by n - 1 unless ``axis=`` or ``keepdims=`` asks for the standard's.
"""

from __future__ import annotations

from builtins import max as builtins_max
from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import ArgumentError
from ...ir import dtypes
from ...ir.axes import one_axis
from ..tensors.arguments import UNSET, axis_of, public, unused
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor

__all__ = [
    "MinAndMax", "ValuesAndIndices", "all", "amax", "amin", "aminmax", "any", "argmax",
    "argmin", "count_nonzero", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff",
    "logcumsumexp", "logsumexp", "max", "mean", "min", "nanmean", "nansum", "prod", "std",
    "std_mean", "sum", "var", "var_mean",
]  # fmt: skip


class ValuesAndIndices(NamedTuple):
    """What `max` and `min` along a dim give."""

    values: Tensor
    indices: Tensor


class MinAndMax(NamedTuple):
    """What `aminmax` gives."""

    min: Tensor
    max: Tensor


def axes_of(op: str, dim: Any, axis: Any) -> Any:
    """Axes to fold; an empty ``dim`` names all of them, as in torch."""
    axis = axis_of(op, dim, axis)
    return None if dim is not UNSET and dim == () else axis


def _fold(op: str, doc: str, example: str) -> Callable[..., Tensor]:
    """A reduction with axes and nothing else."""

    def reduction(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False,
    ) -> Tensor:  # fmt: skip
        return record(op, x, axis=axes_of(op, dim, axis), keepdims=keepdim or keepdims)

    return _documented(op, doc, example)(reduction)


def _documented(op: str, doc: str, example: str) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        function.__name__ = function.__qualname__ = op
        function.__doc__ = f"""{doc}

Parameters
----------
x
    A Tensor, an array or a number.
axis, dim
    One axis or a tuple of axes to fold; all by default.
keepdims, keepdim
    Whether the folded axes stay, with extent 1.

Raises
------
AxisError
    For an axis that does not exist or stands twice.

Examples
--------
>>> import accel
>>> x = accel.asarray([[1, 2], [3, 4]])
>>> {example}
"""
        return public(function)

    return add


amax = _fold(
    "amax", "The greatest elements over axes; NaN wins, equal ones share the gradient.",
    "accel.amax(x, axis=0).tolist()\n[3, 4]",
)  # fmt: skip
amin = _fold(
    "amin", "The least elements over axes; NaN wins, equal ones share the gradient.",
    "accel.amin(x, axis=(0, 1)).item()\n1",
)  # fmt: skip
any = _fold("any", "Whether any element over axes is not zero.",
            "accel.any(x > 3, axis=1).tolist()\n[False, True]")  # fmt: skip
all = _fold("all", "Whether no element over axes is zero.",
            "accel.all(x > 1, axis=1).tolist()\n[False, True]")  # fmt: skip
logsumexp = _fold("logsumexp", "The logarithm of the sum of exponentials, without overflow.",
                  "accel.logsumexp(x, axis=1).shape\n(2,)")  # fmt: skip
count_nonzero = _fold("count_nonzero", "How many elements are not zero.",
                      "accel.count_nonzero(x > 1).item()\n3")  # fmt: skip


def _total(op: str, doc: str, example: str) -> Callable[..., Tensor]:
    """A reduction that takes `dtype` as well."""

    def reduction(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False, dtype: Any = None, out: Any = None,
    ) -> Tensor:  # fmt: skip
        unused(op, out=out)
        axis = axes_of(op, dim, axis)
        if op == "mean":
            x = x if dtype is None else record("cast", x, dtype=dtype)
            return record(op, x, axis=axis, keepdims=keepdim or keepdims)
        return record(op, x, axis=axis, keepdims=keepdim or keepdims, dtype=dtype)

    return _documented(op, doc, example)(reduction)


sum = _total(
    "sum", "The sum over axes. Bool and integers add up in 64 bits; `dtype` converts first.",
    "accel.sum(x, axis=0).tolist()\n[4, 6]",
)  # fmt: skip
prod = _total(
    "prod", "The product over axes. Bool and integers multiply in 64 bits; `dtype` converts first.",
    "accel.prod(x, dim=1).tolist()\n[2, 12]",
)  # fmt: skip
mean = _total("mean", "The arithmetic mean over axes; `dtype` converts first.",
              "accel.mean(x, axis=1).tolist()\n[1.5, 3.5]")  # fmt: skip


# -- extrema -------------------------------------------------------------------------------
def _extremum(name: str, pairwise: str, word: str) -> Callable[..., Any]:
    def extremum(
        x: Any, dim: Any = UNSET, keepdim: bool = False, /, *, axis: Any = UNSET,
        keepdims: bool = False, **torch: Any,
    ) -> Any:  # fmt: skip
        if "dim" in torch:
            dim = torch.pop("dim")
        keepdim = torch.pop("keepdim", keepdim)
        if "other" in torch:
            dim = torch.pop("other")
        if torch:
            raise TypeError(f"{name}() got an unexpected keyword argument {next(iter(torch))!r}")
        if isinstance(dim, Tensor) or hasattr(dim, "__array__"):
            return record(pairwise, x, dim)
        if dim is UNSET or dim is None:
            axis = None if axis is UNSET else axis
            return record(f"a{name}", x, axis=axis, keepdims=keepdims or keepdim)
        axis_of(name, dim, axis)
        values = record(f"a{name}", x, axis=dim, keepdims=keepdim)
        return ValuesAndIndices(values, record(f"arg{name}", x, axis=dim, keepdims=keepdim))

    extremum.__name__ = extremum.__qualname__ = name
    extremum.__doc__ = f"""The {word} element, or the {word} along an axis.

Parameters
----------
x
    Of bool, integer or floating dtype.
dim, keepdim
    torch's: an int gives values and indices along it.
axis, keepdims
    The standard's: an int or a tuple of ints gives values alone.

Returns
-------
Tensor or ValuesAndIndices
    The values; with ``dim`` the named pair (values, indices). Given a second Tensor in place
    of ``dim``, the element-wise {pairwise}.

Raises
------
EmptyReductionError
    Over no elements.

Examples
--------
>>> import accel
>>> x = accel.asarray([[1, 7], [5, 3]])
>>> accel.{name}(x, axis=1).tolist()
{"[7, 5]" if name == "max" else "[1, 3]"}
>>> accel.{name}(x, 1).indices.tolist()
{"[1, 0]" if name == "max" else "[0, 1]"}
"""
    return public(extremum)


max = _extremum("max", "maximum", "greatest")
min = _extremum("min", "minimum", "least")


@public
def aminmax(
    x: Any, /, *, dim: Any = UNSET, keepdim: bool = False, axis: Any = UNSET,
    keepdims: bool = False,
) -> MinAndMax:  # fmt: skip
    """The least and the greatest elements over axes, all by default; NaN wins.

    Examples
    --------
    >>> import accel
    >>> least, greatest = accel.aminmax(accel.asarray([3, 1, 2]))
    >>> least.item(), greatest.item()
    (1, 3)
    """
    over, keep = axes_of("aminmax", dim, axis), keepdim or keepdims
    return MinAndMax(*[record(op, x, axis=over, keepdims=keep) for op in ("amin", "amax")])


def _arg(name: str, word: str) -> Callable[..., Tensor]:
    def place(
        x: Any, /, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
        keepdims: bool = False,
    ) -> Tensor:  # fmt: skip
        axis, keep = axis_of(name, dim, axis), keepdim or keepdims
        if axis is not None:
            return record(name, x, axis=one_axis(axis, as_tensor(x).ndim, name), keepdims=keep)
        x = as_tensor(x)
        found = record(name, record("reshape", x, shape=-1), axis=0)
        return record("reshape", found, shape=(1,) * x.ndim) if keep else found

    place.__name__ = place.__qualname__ = name
    place.__doc__ = f"""The place of the {word} element: the first among equals, NaN before all.

Parameters
----------
x
    Of bool, integer or floating dtype.
axis, dim
    The axis to search; by default the flattened operand.
keepdims, keepdim
    Whether the axis stays, with extent 1.

Raises
------
EmptyReductionError
    Over no elements.

Examples
--------
>>> import accel
>>> accel.{name}(accel.asarray([[1, 7], [5, 3]]), axis=1).tolist()
{"[1, 0]" if name == "argmax" else "[0, 1]"}
"""
    return public(place)


argmax = _arg("argmax", "greatest")
argmin = _arg("argmin", "least")


# -- moments -------------------------------------------------------------------------------
def _correction(
    op: str, standard: bool, correction: Any, unbiased: bool | None, ddof: Any
) -> float:  # fmt: skip
    given = [c for c in (correction, ddof, unbiased) if c is not None]
    if len(given) > 1:
        raise ArgumentError(f"{op}: correction, unbiased and ddof say the same",
                            remedy="give one of them")  # fmt: skip
    return float(given[0]) if given else float(not standard)


def _moment(op: str, word: str) -> Callable[..., Tensor]:
    def moment(
        x: Any, /, dim: Any = UNSET, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None, axis: Any = UNSET, keepdims: bool | None = None,
        ddof: float | None = None,
    ) -> Tensor:  # fmt: skip
        if isinstance(dim, bool):  # torch's older order: var(x, unbiased)
            dim, unbiased = UNSET, dim
        standard = axis is not UNSET or keepdims is not None
        less = _correction(op, standard, correction, unbiased, ddof)
        over = {"axis": axes_of(op, dim, axis), "keepdims": bool(keepdim or keepdims)}
        x = as_tensor(x)
        if x.dtype.kind != "c":
            return record(op, x, correction=less, **over)
        parts = (record("var", record(p, x), correction=less, **over) for p in ("real", "imag"))
        total = record("add", *parts)
        return record("sqrt", total) if op == "std" else total

    moment.__name__ = moment.__qualname__ = op
    moment.__doc__ = f"""The {word} over axes.

Parameters
----------
x
    Of any numeric dtype; of complex numbers it is that of both parts together, and real.
dim, unbiased, keepdim
    torch's spelling, which divides by n - 1.
axis, keepdims
    The standard's spelling, which divides by n.
correction
    What n is lessened by, whatever the spelling; NumPy's `ddof` means the same.

Examples
--------
>>> import accel
>>> x = accel.asarray([1.0, 2.0, 3.0, 4.0, 5.0])
>>> accel.{op}(x, axis=0, correction=1).item() == accel.{op}(x).item()
True
"""
    return public(moment)


var = _moment("var", "variance")
std = _moment("std", "standard deviation")


def std_mean(x: Any, /, dim: Any = UNSET, *more: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """`std` and `mean` over the same axes."""
    return std(x, dim, *more, **options), _mean_beside(x, dim, options)


def var_mean(x: Any, /, dim: Any = UNSET, *more: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """`var` and `mean` over the same axes."""
    return var(x, dim, *more, **options), _mean_beside(x, dim, options)


def _mean_beside(x: Any, dim: Any, options: dict[str, Any]) -> Tensor:
    kept = {k: v for k, v in options.items() if k in ("keepdim", "keepdims", "axis")}
    return mean(x, dim, **kept)


# -- scans ---------------------------------------------------------------------------------
def _scan(op: str, word: str) -> Callable[..., Tensor]:
    def scan(
        x: Any, /, dim: Any = UNSET, dtype: Any = None, *, axis: Any = UNSET,
        include_initial: bool = False,
    ) -> Tensor:  # fmt: skip
        axis = axis_of(op, dim, axis)
        x = as_tensor(x)
        if axis is None:
            if x.ndim != 1:
                raise ArgumentError(f"{op} of shape {list(x.shape)} without an axis",
                                    remedy="name the axis")  # fmt: skip
            axis = 0
        result = record(op, x, axis=axis, dtype=dtype)
        if not include_initial:
            return result
        axis = one_axis(axis, x.ndim, op)
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
        unit = record("cast", int(op == "cumprod"), dtype=result.dtype)
        return record("cat", record("broadcast_to", unit, shape=shape), result, axis=axis)

    scan.__name__ = scan.__qualname__ = op
    scan.__doc__ = f"""The running {word} along an axis; bool and integers run in 64 bits.

Parameters
----------
x
    A Tensor, an array or a number.
axis, dim
    The axis; may be left out of a 1-d operand.
dtype
    Converts first.
include_initial
    Whether the result starts with the empty {word}.

Examples
--------
>>> import accel
>>> accel.{op}(accel.asarray([1, 2, 3]), axis=0).tolist()
{"[1, 3, 6]" if op == "cumsum" else "[1, 2, 6]"}
"""
    return public(scan)


cumsum = cumulative_sum = _scan("cumsum", "sum")
cumprod = cumulative_prod = _scan("cumprod", "product")


@public
def logcumsumexp(x: Any, dim: int) -> Tensor:
    """The logarithm of the running sum of exponentials along an axis.

    Exact to rounding where the exponentials, taken relative to the greatest element of the
    axis, do not underflow.
    """
    top = record("amax", x, axis=dim, keepdims=True)
    top = record("where", record("isfinite", top), top, 0.0)
    total = record("cumsum", record("exp", record("sub", x, top)), axis=dim)
    return record("add", record("log", total), top)


@public
def diff(
    x: Any, /, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None, *,
    axis: Any = UNSET,
) -> Tensor:  # fmt: skip
    """The differences of neighbours along an axis, taken `n` times.

    Parameters
    ----------
    x
        Of one or more dimensions.
    n
        How often.
    dim, axis
        Along which axis.
    prepend, append
        Arrays joined to `x` before and behind, first of all.

    Examples
    --------
    >>> import accel
    >>> accel.diff(accel.asarray([1, 4, 9])).tolist()
    [3, 5]
    """
    from .joining import concat, narrow

    x = as_tensor(x)
    along = one_axis(dim if axis is UNSET else axis, x.ndim, "diff")
    if prepend is not None or append is not None:
        x = concat([part for part in (prepend, x, append) if part is not None], axis=along)
    for _ in range(n):
        rest = builtins_max(x.shape[along] - 1, 0)
        behind = narrow(x, along, x.shape[along] - rest, rest)
        before = narrow(x, along, 0, rest)
        x = record("ne" if x.dtype is dtypes.bool_ else "sub", behind, before)
    return x


@public
def nansum(x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
           keepdims: bool = False, dtype: Any = None) -> Tensor:  # fmt: skip
    """The sum over axes of the elements that are not NaN."""
    known = record("where", record("isnan", x), 0, x)
    return sum(known, axes_of("nansum", dim, axis), keepdim or keepdims, dtype=dtype)


@public
def nanmean(x: Any, dim: Any = UNSET, keepdim: bool = False, *, axis: Any = UNSET,
            keepdims: bool = False, dtype: Any = None) -> Tensor:  # fmt: skip
    """The mean over axes of the elements that are not NaN."""
    over, keep = axes_of("nanmean", dim, axis), keepdim or keepdims
    x = as_tensor(x) if dtype is None else record("cast", x, dtype=dtype)
    missing = record("isnan", x)
    total = record("sum", record("where", missing, 0, x), axis=over, keepdims=keep)
    count = record("sum", record("logical_not", missing), axis=over, keepdims=keep)
    return record("div", total, record("cast", count, dtype=total.dtype))
