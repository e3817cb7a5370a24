"""Shapes, joins, cuts, indices and scatters: accel's functions and methods beside torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from parity import Case, both, by_name, check_all, draw

import accel

X, MATRIX, SCALAR = draw((3, 4, 5)), draw((4, 6)), draw(())
ONES = draw((1, 3, 1, 4))
WHOLE = draw((3, 4, 5), "int32", -9, 9)
MASK = draw((3, 4, 5), "bool")
PLACES = draw((2, 3, 5), "int64", 0, 3)
APART = np.argsort(draw((2, 4, 5)), axis=1)[:, :3]  # no place twice in a line
VALUES = draw((2, 3, 5), seed=3)
SORTED = np.sort(draw((7,)))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def function_and_method(name: str, *args: Any, **kwargs: Any) -> list[Case]:
    return [Case(name, *args, **kwargs), Case("." + name, *args, **kwargs)]


def _shapes() -> list[Case]:
    both_ways: list[tuple[Any, ...]] = [
        ("reshape", X, (5, 12)), ("reshape", X, (-1,)), ("permute", X, (2, 0, 1)),
        ("permute", X, (-1, 0, 1)), ("flatten", X), ("flatten", X, 1), ("flatten", X, 0, 1),
        ("flatten", SCALAR), ("ravel", X), ("t", MATRIX), ("unflatten", X, 1, (2, 2)),
        ("unflatten", X, -1, (5, -1)), ("transpose", X, 0, -1), ("swapaxes", X, 0, 1),
        ("swapdims", X, 0, 1), ("movedim", X, 0, -1), ("movedim", X, (0, 1), (1, 2)),
        ("moveaxis", X, 0, 2), ("broadcast_to", draw((4, 1)), (3, 4, 5)), ("tile", X, (2,)),
        ("tile", X, (2, 1, 1, 2)), ("flip", X, (0,)), ("flip", X, (0, -1)), ("fliplr", X),
        ("flipud", X), ("rot90", X), ("rot90", X, -1, (0, 1)), ("rot90", X, 2, (1, 2)),
        ("roll", X, 2), ("roll", X, 1, 0), ("roll", X, (1, -2), (0, 2)),
        ("repeat_interleave", X, 2), ("repeat_interleave", X, ints(1, 0, 3), 0),
        ("squeeze", ONES), ("squeeze", ONES, 0), ("unsqueeze", X, 0), ("unsqueeze", X, -1),
        ("unsqueeze", SCALAR, 0), ("diagflat", X), ("unbind", X), ("unbind", X, -1),
        ("narrow", X, 1, 1, 2), ("select", X, 1, -1),
    ]  # fmt: skip
    methods: list[tuple[Any, ...]] = [
        ("reshape", X, 5, -1), ("view", X, 12, 5), ("view", X, (-1,)), ("permute", X, 2, 0, 1),
        ("expand", draw((4, 1)), 3, 4, 5), ("expand", draw((4, 1)), -1, 5),
        ("expand", draw((4, 1)), (2, -1, -1)), ("repeat", X, 2, 1, 1), ("repeat", MATRIX, 0, 2),
        ("repeat", X, (2, 2, 1, 1)), ("tile", X, 2, 2), ("flip", X, 0, 1), ("squeeze", X, 0),
        ("squeeze", ONES, (0, 2)), ("squeeze", X, (0, 1)), ("unfold", MATRIX, 1, 3, 2),
        ("unfold", X, -2, 4, 1),
    ]  # fmt: skip
    cases = [c for line in both_ways for c in function_and_method(*line)]
    cases += [Case("." + line[0], *line[1:]) for line in methods]
    cases += [Case("combinations", draw((5,))), Case("combinations", draw((5,)), 3, True)]
    for k in (-2, 0, 1):
        for line in [("tril", X, k), ("triu", X, k), ("tril", MATRIX, k), ("diag", MATRIX, k),
                     ("diag", draw((4,)), k), ("diag_embed", X, k), ("diag_embed", X, k, 0, 2),
                     ("diagonal", X, k), ("diagonal", X, k, 0, 2), ("diagonal", X, k, -1, 0),
                     ("diagflat", draw((4,)), k)]:  # fmt: skip
            cases += function_and_method(*line)
        source = np.diagonal(MATRIX, k).copy()
        cases += function_and_method("diagonal_scatter", MATRIX, source, k)
        source = draw(np.diagonal(X, k, 1, 2).shape)
        cases += function_and_method("diagonal_scatter", X, source, k, 1, 2)
    return cases


def _pads() -> list[Case]:
    pad = "nn.functional.pad"
    image, volume = draw((2, 3, 4, 5)), draw((1, 2, 3, 4, 5))
    cases = [Case(pad, X, widths) for widths in ((1, 2), (1, 2, 0, 3), (-1, 2, 0, -1))]
    cases += [Case(pad, X, (1, 1), value=3.5), Case(pad, WHOLE, (1, 1), "constant", 7)]
    for mode in ("reflect", "replicate", "circular"):
        cases += [Case(pad, X, (1, 2), mode=mode), Case(pad, image, (1, 2, 3, 0), mode=mode),
                  Case(pad, volume, (1, 2, 1, 0, 1, 1), mode=mode)]  # fmt: skip
    return cases


def _joins_and_cuts() -> list[Case]:
    cases = []
    for name in ("cat", "concat", "concatenate"):
        cases += [Case(name, [X, X + 1], 0), Case(name, (X, X), dim=-1), Case(name, [X, WHOLE], 1)]
    cases += [Case("stack", [X, X]), Case("stack", [X, X], dim=-1), Case("stack", (X, WHOLE), 1)]
    vectors = [draw((3,)), draw((3,), seed=2)]
    for name in ("hstack", "vstack", "dstack", "column_stack", "row_stack", "atleast_1d",
                 "atleast_2d", "atleast_3d", "block_diag", "broadcast_tensors"):  # fmt: skip
        apart = name in ("block_diag", "broadcast_tensors")
        for group in (vectors, [MATRIX, MATRIX], [SCALAR, SCALAR]):
            cases.append(Case(name, *group) if apart else Case(name, group))
    cases += [Case("cartesian_prod", *vectors), Case("cartesian_prod", vectors[0]),
              Case("atleast_3d", MATRIX), Case("meshgrid", *vectors, indexing="ij"),
              Case("meshgrid", *vectors, indexing="xy")]  # fmt: skip
    for dim in (0, 1, -1):
        for line in [("split", X, 2), ("split", X, 3), ("chunk", X, 2), ("chunk", X, 3),
                     ("tensor_split", X, 2), ("tensor_split", X, 3), ("tensor_split", X, (1, 2)),
                     ("tensor_split", X, (2, 9))]:  # fmt: skip
            cases += function_and_method(*line, dim=dim)
    cases += function_and_method("split", X, (1, 3), 1)
    cases += function_and_method("split_with_sizes", X, (1, 2, 1), 1)
    deep = draw((4, 6, 2))
    for name in ("hsplit", "vsplit", "dsplit"):
        cases += function_and_method(name, deep, 2) + function_and_method(name, deep, (1,))
    return cases + [Case("hsplit", draw((6,)), 3)]


def _indices() -> list[Case]:
    lines: list[tuple[Any, ...]] = [
        ("gather", X, 1, PLACES), ("gather", X, -1, PLACES),
        ("take_along_dim", X, draw((3, 1, 5), "int64", 0, 3), 1),
        ("take_along_dim", X, draw((7,), "int64", 0, 59)),
        ("index_select", X, 1, ints(0, 2, 2)), ("index_select", X, -1, np.int32([1, 0])),
        ("take", X, ints(0, 59, -3)), ("masked_fill", X, MASK, 2.5),
        ("masked_fill", X, MASK, SCALAR), ("masked_select", X, MASK),
        ("masked_scatter", X, MASK, draw((60,))), ("argwhere", WHOLE),
        ("isin", WHOLE, ints(1, 2)), ("select_scatter", X, draw((3, 5)), 1, 0),
        ("slice_scatter", X, draw((3, 2, 5)), 1, 0, 2), ("index_fill", X, 1, ints(0, 2), 3.5),
        ("index_add", X, 1, ints(0, 2, 0), draw((3, 3, 5))),
        ("index_copy", X, 1, ints(0, 2), draw((3, 2, 5))),
        ("unique_consecutive", WHOLE[0, 0]), ("put", X, ints(0, 1, -1), draw((3,))),
        ("put", X, ints(0, 1, 0), draw((3,)), True),
    ]  # fmt: skip
    cases = [c for line in lines if line[0] != "isin" for c in function_and_method(*line)]
    cases += function_and_method("index_add", X, 1, ints(0, 2, 0), draw((3, 3, 5)), alpha=2.5)
    cases += [
        Case("isin", WHOLE, ints(1, 2)), Case("isin", WHOLE, ints(1, 2), invert=True),
        Case("nonzero", WHOLE, as_tuple=True), Case("nonzero", WHOLE, as_tuple=False),
        Case(".index_put", X, (ints(0, 2), ints(1, 1)), draw((2, 5))),
        Case(".index_put", X, (ints(0, 0), ints(1, 1)), draw((2, 5)), accumulate=True),
        Case("where", MASK, X, X + 1), Case("where", MASK, X, WHOLE), Case("where", MASK, X, 2.0),
        Case("where", MASK, 2, 3), Case("where", MASK, 1.0, 2.0), Case("where", MASK),
        Case("bincount", draw((9,), "int64", 0, 5)),
        Case("bincount", draw((9,), "int64", 0, 5), draw((9,)), 8, gradient=False),
    ]  # fmt: skip
    for right in (False, True):
        options: dict[str, Any] = {"right": right, "gradient": False}
        cases += [Case("searchsorted", SORTED, X, **options),
                  Case("searchsorted", np.sort(draw((3, 7))), draw((3, 2)), **options),
                  Case("bucketize", X, SORTED, **options)]  # fmt: skip
    cases.append(Case("searchsorted", SORTED, X, side="right", out_int32=True, gradient=False))
    cases.append(Case("searchsorted", SORTED[::-1].copy(), X, sorter=ints(*range(6, -1, -1)),
                      gradient=False))  # fmt: skip
    return cases


def _scatters() -> list[Case]:
    whole, add = draw((2, 3, 5), "int32", -9, 9), draw((3, 3, 5))
    cases = []
    for line in [("scatter", X, 1, APART, VALUES), ("scatter", X, 1, PLACES, 2.5),
                 ("scatter_add", X, 1, PLACES, VALUES)]:  # fmt: skip
        cases += function_and_method(*line)
    cases += function_and_method("scatter", X, 1, PLACES, value=2.5)
    cases.append(Case("scatter", X, 1, APART[:, :1], draw((3, 4, 5)), gradient=(0,)))
    for reduce in ("add", "multiply"):
        cases += function_and_method("scatter", X, 1, PLACES, VALUES, reduce=reduce, gradient=False)
        cases += function_and_method("scatter", X, 1, PLACES, 1.5, reduce=reduce, gradient=False)
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include in (True, False):
            options = {"reduce": reduce, "include_self": include}
            cases += function_and_method("scatter_reduce", X, 1, PLACES, VALUES, **options)
            cases += function_and_method("scatter_reduce", WHOLE, 1, PLACES, whole, **options)
            if reduce != "sum":
                cases += function_and_method("index_reduce", X, 1, ints(0, 2, 0), add,
                                             gradient=False, **options)  # fmt: skip
    zeros = np.float32([0.0, 2.0, 0.0])
    at = ints(0, 0, 2, 2)
    cases.append(Case("scatter_reduce", zeros, 0, at, np.float32([3, 0, 0, 5]), "prod"))
    cases.append(Case("scatter_reduce", zeros, 0, at, np.float32([3, 3, 0, 0]), "amax"))
    return cases


TABLE = by_name([*_shapes(), *_pads(), *_joins_and_cuts(), *_indices(), *_scatters()])


@pytest.mark.parametrize("name", TABLE)
def test_like_torch(name: str) -> None:
    check_all(TABLE[name])


def test_where_the_standard_differs() -> None:
    """Functions have the standard's meaning where it defines the name; methods have torch's."""
    with pytest.raises(accel.errors.ShapeError):
        accel.squeeze(accel.asarray(X), 0)  # torch leaves the axis
    assert accel.meshgrid(accel.arange(2), accel.arange(3))[0].shape == (3, 2)  # "xy"
    assert len(accel.nonzero(accel.asarray(WHOLE))) == 3  # a tuple
    with pytest.raises(accel.errors.ShapeError):
        accel.cat([accel.zeros((0,)), accel.asarray(X)])  # torch skips it


@pytest.mark.parametrize("change", [
    lambda x: x.unsqueeze_(0), lambda x: x.squeeze_(), lambda x: x.transpose_(0, 1),
    lambda x: x.t_(), lambda x: x.index_add_(0, _at(x), x[:2] * 0 + 1), lambda x: x.clamp_(0, 1),
    lambda x: x.index_fill_(0, _at(x), 5.0), lambda x: x.masked_fill_(x > 0, 2.0),
    lambda x: x.index_copy_(0, _at(x), x[2:4] * 3), lambda x: x.tril_(),
    lambda x: x.fill_(3), lambda x: x.zero_(),
    lambda x: x.put_(_at(x), x[0, :2] + 1), lambda x: x.renorm_(2, 0, 1.0),
    lambda x: x.scatter_(0, _at(x).reshape(1, 2), 9.0), lambda x: x.cumsum_(1),
    lambda x: x.scatter_reduce_(0, _at(x).reshape(1, 2), x[:1, :2] * 2, "amax"),
])  # fmt: skip
def test_in_place(change: Any) -> None:
    both(lambda x: change(x * 1), lambda x: change(x * 1), [MATRIX])


def _at(x: Any) -> Any:
    library = torch if isinstance(x, torch.Tensor) else accel
    return library.asarray(ints(0, 1))
