"""Losses beside torch's: weights, ignored and smoothed classes, margins, alignments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from parity import Case, agree, both, by_name, check_all, draw

import accel
from accel import nn

REDUCTIONS = ("none", "mean", "sum")
X, Y, Z = draw((5, 4)), draw((5, 4), seed=3), draw((5, 4), seed=8)
SIGNS = np.sign(draw((5, 4), seed=4))
DEEP = draw((5, 4, 3))
CLASSES = np.array([2, 2, 0, 3, 1])
DEEP_CLASSES = draw((5, 3), "int64", 0, 4)


def shares(*shape: int, seed: int = 0) -> np.ndarray:
    return draw(shape, low=0.05, high=0.95, seed=seed)


def call(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(f"nn.functional.{name}", *args, **kwargs)


def _elementwise(reduction: str) -> list[Case]:
    r: dict[str, Any] = {"reduction": reduction}
    p, t, w = shares(5, 4), shares(5, 4, seed=2), shares(4, seed=5)
    first: dict[str, Any] = {"gradient": (0,), **r}
    cases = [call(n, X, Y, **r) for n in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")]
    return [
        *cases, call("mse_loss", X, Y, weight=p, **r), call("l1_loss", X, Y, weight=p, **r),
        call("mse_loss", X.astype("float64"), Y.astype("float64"), **r),
        call("smooth_l1_loss", X, Y, beta=0.3, **r), call("smooth_l1_loss", X, Y, beta=0.0, **r),
        call("huber_loss", X, Y, delta=0.4, **r),
        call("huber_loss", X, Y, delta=0.4, weight=p, **r),
        call("binary_cross_entropy", p, t, **r), call("binary_cross_entropy", p, t, w, **first),
        call("binary_cross_entropy", np.float32([0, 1, 0, 1]), np.float32([0, 1, 1, 0]),
             gradient=False, **r),
        call("binary_cross_entropy_with_logits", X, t, **r),
        call("binary_cross_entropy_with_logits", 30 * X, t, p, pos_weight=w, **first),
        call("kl_div", X, t, **r), call("kl_div", X, Y, log_target=True, **r),
        call("kl_div", X, np.float32(t > 0.5), **first),
        call("poisson_nll_loss", X, t, **r),
        call("poisson_nll_loss", p, 5 * t, log_input=False, full=True, eps=1e-3, **first),
        call("gaussian_nll_loss", X, Y, p, **r), call("gaussian_nll_loss", X, Y, shares(5, 1), **r),
        call("gaussian_nll_loss", X, Y, shares(5), True, 1e-2, **r),
    ]  # fmt: skip


def _margins(reduction: str) -> list[Case]:
    r: dict[str, Any] = {"reduction": reduction}
    first: dict[str, Any] = {"gradient": (0,), **r}
    labels = np.array([[0, 2, -1, 1], [3, -1, 0, 0], [1, 0, 2, 3], [-1, 0, 0, 0], [2, 1, -1, -1]])
    cases = [
        call("hinge_embedding_loss", X, SIGNS, 0.7, **first),
        call("margin_ranking_loss", X[:, 0], Y[:, 0], SIGNS[:, 0], 0.3, **r),
        call("soft_margin_loss", X, SIGNS, **first),
        call("multilabel_soft_margin_loss", X, shares(5, 4), shares(4), **first),
        call("cosine_embedding_loss", X, Y, SIGNS[:, 0], 0.1, gradient=(0, 1), **r),
        call("multilabel_margin_loss", X, labels, **r),
        call("multilabel_margin_loss", X[0], labels[0], **r),
        call("triplet_margin_with_distance_loss", X, Y, Z, margin=0.5, swap=True, **r),
    ]
    options: dict[str, Any]
    for options in ({}, {"margin": 0.5, "p": 1.0}, {"swap": True}, {"p": 3.0, "eps": 1e-3}):
        cases.append(call("triplet_margin_loss", X, Y, Z, **options, **r))
    for options in ({}, {"p": 2}, {"margin": 0.5}, {"weight": shares(4)}):
        cases.append(call("multi_margin_loss", X, CLASSES, **options, **r))
    cases.append(call("multi_margin_loss", X[0], np.array(1), **r))
    return cases


def _classes(reduction: str) -> list[Case]:
    r, w = {"reduction": reduction}, shares(4)
    cases = []
    options: dict[str, Any]
    for options in ({}, {"weight": w}, {"ignore_index": 2}, {"label_smoothing": 0.2},
                    {"weight": w, "ignore_index": 2, "label_smoothing": 0.3}):  # fmt: skip
        both_kinds = [(X, CLASSES), (DEEP, DEEP_CLASSES), (draw((4,)), np.array(1))]
        cases += [call("cross_entropy", *args, **options, **r) for args in both_kinds]
        if "label_smoothing" not in options:
            both_kinds.append((draw((5, 4, 3, 2)), draw((5, 3, 2), "int64", 0, 4)))
            cases += [call("nll_loss", *args, **options, **r) for args in both_kinds]
        if "ignore_index" not in options:
            cases += [call("cross_entropy", X, shares(5, 4), **options, **r),
                      call("cross_entropy", DEEP, shares(5, 4, 3), **options, **r)]  # fmt: skip
    return cases


def _similarities() -> list[Case]:
    wide = draw((4, 6, 5))
    return [
        call("cosine_similarity", X, Y), call("cosine_similarity", wide, draw((6, 5)), -1, 1e-3),
        call("pairwise_distance", X, Y), call("pairwise_distance", X, Y, 1.0, 1e-3, True),
        call("pdist", X), call("pdist", X, 1.0), call("pdist", X, 3.0), Case("cdist", X, Y),
        Case("cdist", X, Y[:2], 1.0), Case("cdist", wide, wide[:1] + 1, 3.0),
        Case("cdist", X, Y, float("inf")), Case("dist", X, Y, 3), Case("dist", X, Y),
        Case("renorm", X, 2, 0, 1.0), Case("renorm", wide, 1, 1, 2.0),
    ]  # fmt: skip


TABLE = by_name([
    *_similarities(),
    *[case for reduction in REDUCTIONS for kind in (_elementwise, _margins, _classes)
      for case in kind(reduction)],
])  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_like_torch(name: str) -> None:
    check_all(TABLE[name])


# -- ctc ----------------------------------------------------------------------------------------
SCORES = draw((12, 3, 5))
TARGETS = np.array([[1, 3, 3, 4], [3, 1, 4, 4], [4, 1, 1, 3]])
CTC: list[tuple[Any, ...]] = [
    (TARGETS, np.array([12, 11, 9]), np.array([4, 3, 1])), (TARGETS, (12, 11, 9), (4, 3, 0)),
    (np.array([1, 3, 3, 4, 3, 1, 4, 4]), (12, 11, 9), (4, 3, 1)),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("args", CTC)
@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_loss(args: Any, blank: int, reduction: str) -> None:
    """Through log_softmax, for which torch's gradient is meant."""

    def loss(library: Any) -> Any:
        function = library.nn.functional

        def of(scores: Any, *rest: Any) -> Any:
            rows = function.log_softmax(scores, 2)
            return function.ctc_loss(rows, *rest, blank, reduction)

        return of

    both(loss(accel), loss(torch), [SCORES, *args], ulp=256)


@pytest.mark.parametrize("forgiving", [False, True])
def test_targets_that_no_alignment_reaches(forgiving: bool) -> None:
    rows = torch.log_softmax(torch.tensor(SCORES), 2).numpy()
    case = [rows, TARGETS, (12, 3, 9), (4, 4, 4), 0, "none", forgiving]
    both(nn.functional.ctc_loss, torch.nn.functional.ctc_loss, case, ulp=256, gradient=False)
    x = accel.asarray(rows).requires_grad_()
    nn.functional.ctc_loss(x, accel.asarray(TARGETS), *case[2:]).sum().backward()
    assert x.grad is not None and np.isfinite(x.grad.numpy()).all()


def test_one_sequence_without_a_batch() -> None:
    rows = torch.log_softmax(torch.tensor(SCORES[:, 0]), 1).numpy()
    case = [rows, TARGETS[0], 12, 4, 0, "none"]
    wanted = torch.nn.functional.ctc_loss(
        torch.tensor(rows), torch.tensor(TARGETS[0]), torch.tensor(12), torch.tensor(4), 0, "none"
    )
    agree(nn.functional.ctc_loss(*[accel.asarray(v) for v in case[:2]], *case[2:]), wanted, 256)


MODULES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("CTCLoss", {"blank": 2, "zero_infinity": True}, (SCORES, *CTC[0])),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5}, (X, CLASSES)),
    ("MultiLabelMarginLoss", {}, (X, np.array([[0, 2, -1, 1]] * 5))),
    ("TripletMarginWithDistanceLoss", {"swap": True}, (X, Y, Z)),
]


@pytest.mark.parametrize("name, settings, args", MODULES, ids=[m[0] for m in MODULES])
def test_modules(name: str, settings: Any, args: Any) -> None:
    ours, theirs = getattr(nn, name)(**settings), getattr(torch.nn, name)(**settings)
    agree(ours(*map(accel.asarray, args)), theirs(*map(torch.tensor, args)), 256)
