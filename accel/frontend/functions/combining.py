"""Combinations of elements and rows: products, distances, covariances, areas."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ir.axes import one_axis
from ..tensors.arguments import public
from ..tensors.recording import as_tensor, record
from ..tensors.tensor import Tensor
from . import norms, reductions
from .joining import cut_axis

__all__ = ["cartesian_prod", "cdist", "combinations", "corrcoef", "cov", "cumulative_trapezoid",
           "dist", "renorm", "trapezoid", "trapz"]  # fmt: skip


# -- choices ------------------------------------------------------------------------------
@public
def cartesian_prod(*tensors: Any) -> Tensor:
    """Every choice of one element from each vector, as rows; of one vector itself.

    Examples
    --------
    >>> import accel
    >>> accel.cartesian_prod(accel.asarray([1, 2]), accel.asarray([3, 4])).tolist()
    [[1, 3], [1, 4], [2, 3], [2, 4]]
    """
    found = [as_tensor(x) for x in tensors]
    if not found or any(x.ndim != 1 for x in found):
        raise ShapeError(f"cartesian_prod of shapes {[list(x.shape) for x in found]}",
                         remedy="give vectors")  # fmt: skip
    if len(found) == 1:
        return found[0]
    shape = tuple([x.size for x in found])
    parts = []
    for i, x in enumerate(found):
        along = record("reshape", x, shape=[-1 if j == i else 1 for j in range(len(found))])
        parts.append(record("broadcast_to", along, shape=shape))
    return record("reshape", record("stack", *parts, axis=-1), shape=(-1, len(found)))


@public
def combinations(x: Any, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of `r` elements of a vector in their order, as rows.

    Examples
    --------
    >>> import accel
    >>> accel.combinations(accel.asarray([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    x = as_tensor(x)
    if x.ndim != 1:
        raise ShapeError(f"combinations of shape {list(x.shape)}", remedy="give a vector")
    if r < 0:
        raise ArgumentError(f"combinations: choices of {r}", remedy="choose 0 or more")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(x.size), r)), np.int64).reshape(-1, r)
    return record("take", x, Tensor(places), axis=0)


# -- distances ----------------------------------------------------------------------------
@public
def dist(x: Any, other: Any, p: float = 2) -> Tensor:
    """The p-norm of the difference of two tensors.

    Examples
    --------
    >>> import accel
    >>> accel.dist(accel.asarray([3.0, 0.0]), accel.asarray([0.0, 4.0])).item()
    5.0
    """
    return norms.norm(record("reshape", record("sub", x, other), shape=-1), p)


@public
def cdist(
    x1: Any, x2: Any, p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:  # fmt: skip
    """The p-norm distances between all rows of two tensors.

    Parameters
    ----------
    x1, x2
        Shapes (..., m, width) and (..., n, width); what stands before broadcasts.
    compute_mode
        Taken for torch's sake: distances are always summed from differences.

    Returns
    -------
    Tensor
        Shape (..., m, n).

    Examples
    --------
    >>> import accel
    >>> accel.cdist(accel.asarray([[0.0, 0.0]]), accel.asarray([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[5.0, 1.0]]
    """
    x1, x2 = as_tensor(x1), as_tensor(x2)
    if min(x1.ndim, x2.ndim) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist of shapes {list(x1.shape)} and {list(x2.shape)}",
                         remedy="give matrices of rows of one width")  # fmt: skip
    if p < 0:
        raise ArgumentError(f"cdist: p is {p}", remedy="use 0 or more")
    apart = record("sub", record("expand_dims", x1, axis=-2), record("expand_dims", x2, axis=-3))
    return norms.norm(apart, p, dim=-1)


@public
def renorm(x: Any, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices along `dim` scaled down to a p-norm of `maxnorm` where theirs is greater.

    Examples
    --------
    >>> import accel
    >>> accel.renorm(accel.asarray([[3.0, 4.0], [0.0, 1.0]]), 2, 0, 1.0)[1].tolist()
    [0.0, 1.0]
    """
    x = as_tensor(x)
    axis = one_axis(dim, x.ndim, "renorm")
    if p <= 0 or maxnorm < 0:
        raise ArgumentError(f"renorm: p is {p} and maxnorm {maxnorm}",
                            remedy="give a positive p and a maxnorm of 0 or more")  # fmt: skip
    others = tuple([i for i in range(x.ndim) if i != axis])
    size = norms.norm(x, p, dim=others, keepdim=True)
    factor = record("div", maxnorm, record("add", size, 1e-7))
    return record("mul", x, record("where", record("gt", size, maxnorm), factor, 1.0))


# -- covariances --------------------------------------------------------------------------
@public
def cov(x: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariances of variables in rows, observed in columns.

    Parameters
    ----------
    x
        Shape (variables, observations), or one variable.
    correction
        Taken from the number of observations.
    fweights, aweights
        How often each observation counts, and how much; or None.

    Examples
    --------
    >>> import accel
    >>> accel.cov(accel.asarray([[0.0, 2.0], [2.0, 0.0]])).tolist()
    [[2.0, -2.0], [-2.0, 2.0]]
    """
    x = as_tensor(x)
    if x.ndim > 2:
        raise ShapeError(f"cov of shape {list(x.shape)}", remedy="give variables in rows")
    rows = record("reshape", x, shape=(1, -1)) if x.ndim < 2 else x
    given = [as_tensor(w) for w in (fweights, aweights) if w is not None]
    if any(w.shape != rows.shape[1:] for w in given):
        raise ShapeError(f"cov: weights of shape {[list(w.shape) for w in given]} for "
                         f"{rows.shape[1]} observations", remedy="give one for each")  # fmt: skip
    rows = record("mul", rows, 1.0) if rows.dtype.kind in "biu" else rows
    weight = record("cast", given[0], dtype=rows.dtype.real) if given else None
    if len(given) == 2:
        weight = record("mul", weight, given[1])
    if weight is None:
        total: Any = rows.shape[1]
        centred = record("sub", rows, reductions.mean(rows, axis=1, keepdims=True))
        weighted, count = centred, total - correction
    else:
        total = reductions.sum(weight)
        mean = record("div", reductions.sum(record("mul", rows, weight), axis=1, keepdims=True),
                      total)  # fmt: skip
        centred = record("sub", rows, mean)
        weighted = record("mul", centred, weight)
        count = _effective(total, weight, given, correction, aweights is not None)
    turned = record("permute", record("conj", centred), axes=(1, 0))
    least = max(count, 0) if weight is None else record("maximum", count, 0)
    found = record("div", record("matmul", weighted, turned), least)
    return record("reshape", found, shape=()) if x.ndim < 2 else found


def _effective(total: Tensor, weight: Tensor, given: list[Tensor], correction: int,
               analytic: bool) -> Tensor:  # fmt: skip
    """The number of observations that the sum of squares is divided by."""
    if not analytic or not correction:
        return record("sub", total, correction)
    squares = reductions.sum(record("mul", weight, given[-1]))
    return record("sub", total, record("div", record("mul", squares, correction), total))


@public
def corrcoef(x: Any) -> Tensor:
    """The correlations of variables in rows, observed in columns.

    Examples
    --------
    >>> import accel
    >>> accel.corrcoef(accel.asarray([[0.0, 2.0], [2.0, 0.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    found = cov(x)
    if not found.ndim:
        return record("div", found, found)
    n = found.shape[0]
    own = cut_axis(record("reshape", found, shape=-1), 0, 0, n * n, n + 1)
    size = record("sqrt", record("real", own))
    scaled = record("div", record("div", found, record("reshape", size, shape=(n, 1))), size)
    if scaled.dtype.kind == "c":
        return scaled
    return record("maximum", record("minimum", scaled, 1), -1)


# -- areas --------------------------------------------------------------------------------
def _strips(op: str, y: Any, x: Any, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The areas between neighbours along an axis, and the axis."""
    y = as_tensor(y)
    axis = one_axis(dim, y.ndim, op)
    n = y.shape[axis]
    sums = record("add", cut_axis(y, axis, 1, max(n, 1)), cut_axis(y, axis, 0, max(n - 1, 0)))
    if x is None:
        return record("mul", sums, record("div", dx, 2.0)), axis
    x = as_tensor(x)
    place = 0 if x.ndim == 1 else x.ndim + axis - y.ndim
    if place < 0 or x.shape[place] != n:
        raise ShapeError(f"{op}: places of shape {list(x.shape)} for {list(y.shape)}",
                         remedy="give one for each element along the axis")  # fmt: skip
    widths = record("sub", cut_axis(x, place, 1, max(n, 1)), cut_axis(x, place, 0, max(n - 1, 0)))
    if x.ndim == 1:
        widths = record("reshape", widths, shape=(-1, *[1] * (y.ndim - 1 - axis)))
    return record("mul", record("mul", sums, widths), 0.5), axis


@public
def trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The area below `y` by the trapezoidal rule.

    Parameters
    ----------
    y
        A Tensor or an array.
    x
        Where the elements lie along the axis, or None for a distance of `dx`.

    Examples
    --------
    >>> import accel
    >>> accel.trapezoid(accel.asarray([1.0, 2.0, 3.0])).item()
    4.0
    """
    areas, axis = _strips("trapezoid", y, x, dx, dim)
    return reductions.sum(areas, axis=axis)


@public
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The area below `y` up to each element but the first; as `trapezoid`.

    Examples
    --------
    >>> import accel
    >>> accel.cumulative_trapezoid(accel.asarray([1.0, 2.0, 3.0])).tolist()
    [1.5, 4.0]
    """
    areas, axis = _strips("cumulative_trapezoid", y, x, dx, dim)
    return reductions.cumsum(areas, axis=axis, dtype=areas.dtype)


trapz = trapezoid
