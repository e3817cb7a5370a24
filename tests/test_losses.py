"""Losses: weights, distributions as targets, margins, likelihoods; gradients by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel import errors, nn

F = nn.functional
RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = START


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def signs(*shape: int) -> np.ndarray:
    return RNG.choice([-1.0, 1.0], shape)


def shares(*shape: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, shape)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rest", [(), (3, 2)])
def test_weighted_cross_entropy(smoothing: float, reduction: str, rest: tuple[int, ...]) -> None:
    """A target counts by the weight of its class; smoothing spreads it by all the weights."""
    x, w = draw(4, 5, *rest), shares(5)
    target = RNG.integers(0, 5, (4, *rest))
    target[1] = 3
    target[2] = -100
    scores = log_softmax(x)
    each, counted = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        if target[place] != -100:
            row = scores[(place[0], slice(None), *place[1:])]
            each[place] = -(1 - smoothing) * w[target[place]] * row[target[place]]
            each[place] -= smoothing * (w * row).mean()
            counted[place] = w[target[place]]
    wanted: Any = {"none": each, "sum": each.sum(), "mean": each.sum() / counted.sum()}[reduction]
    options: dict[str, Any] = {"reduction": reduction}
    found = F.cross_entropy(x, target, w, label_smoothing=smoothing, **options)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)
    module = nn.CrossEntropyLoss(w, label_smoothing=smoothing, **options)
    np.testing.assert_array_equal(module(x, target).numpy(), found.numpy())
    assert list(module.state_dict()) == ["weight"]
    if not smoothing:
        found = F.nll_loss(scores, target, w, **options)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("weight", [None, shares(5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_distributions_as_targets(weight: Any, smoothing: float) -> None:
    x, t = draw(4, 5, 3), RNG.dirichlet(np.ones(5), (4, 3)).transpose(0, 2, 1)
    mixed = t * (1 - smoothing) + smoothing / 5
    factor = 1 if weight is None else weight.reshape(5, 1)
    each = -(log_softmax(x) * mixed * factor).sum(1)
    for reduction, wanted in (("none", each), ("sum", each.sum()), ("mean", each.mean())):
        found = F.cross_entropy(x, t, weight, label_smoothing=smoothing, reduction=reduction)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)
    hard = RNG.integers(0, 5, 4)
    np.testing.assert_allclose(
        F.cross_entropy(x[..., 0], np.eye(5)[hard]).numpy(),
        F.cross_entropy(x[..., 0], hard).numpy(), rtol=1e-12,
    )  # fmt: skip


def test_binary_cross_entropy_with_weights() -> None:
    x, t, w, p = draw(4, 3) * 30, shares(4, 3), shares(3), shares(3) * 4
    softplus = np.logaddexp(0, -x)
    each = w * ((1 - t) * (x + softplus) + p * t * softplus)
    found = F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p, reduction="none")
    np.testing.assert_allclose(found.numpy(), each, rtol=1e-10)
    q = shares(4, 3)
    each = -w * (t * np.log(q) + (1 - t) * np.log(1 - q))
    np.testing.assert_allclose(F.binary_cross_entropy(q, t, w).numpy(), each.mean(), rtol=1e-10)
    module = nn.BCEWithLogitsLoss(pos_weight=p)
    assert list(module.state_dict()) == ["pos_weight"]
    np.testing.assert_allclose(
        module(x, t).numpy(), F.binary_cross_entropy_with_logits(x, t, pos_weight=p).numpy()
    )


CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("mse_loss", (draw(4, 3), draw(4, 3)), {"weight": shares(4, 3)}),
    ("l1_loss", (draw(4, 3), draw(4, 3)), {"weight": shares(4, 3)}),
    ("huber_loss", (draw(4, 3), draw(4, 3)), {"weight": shares(4, 3), "delta": 0.5}),
    ("gaussian_nll_loss", (draw(4, 3), draw(4, 3), shares(4, 3)), {}),
    ("gaussian_nll_loss", (draw(4, 3), draw(4, 3), shares(4)), {"full": True}),
    ("gaussian_nll_loss", (draw(4, 3), draw(4, 3), shares(4, 1)), {}),
    ("poisson_nll_loss", (draw(4, 3), shares(4, 3) * 5), {"full": True}),
    ("poisson_nll_loss", (shares(4, 3), shares(4, 3) * 5), {"log_input": False}),
    ("hinge_embedding_loss", (draw(4, 3), signs(4, 3)), {"margin": 0.7}),
    ("margin_ranking_loss", (draw(4), draw(4), signs(4)), {"margin": 0.3}),
    ("soft_margin_loss", (draw(4, 3), signs(4, 3)), {}),
    ("multilabel_soft_margin_loss", (draw(4, 3), shares(4, 3)), {"weight": shares(3)}),
    ("cosine_embedding_loss", (draw(4, 3), draw(4, 3), signs(4)), {"margin": 0.1}),
    ("triplet_margin_loss", (draw(4, 3), draw(4, 3), draw(4, 3)), {}),
    ("triplet_margin_loss", (draw(4, 3), draw(4, 3), draw(4, 3)), {"swap": True, "p": 1.0}),
    ("kl_div", (draw(4, 3), shares(4, 3)), {}),
]  # fmt: skip
REDUCED = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
NAMED = pytest.mark.parametrize("name, operands, options", CALLS)


@NAMED
def test_gradients_by_differences(name: str, operands: Any, options: Any) -> None:
    def loss(*values: Any) -> Any:
        return getattr(F, name)(*values, **options)

    slope = accel.grad(loss)(*map(accel.Tensor, operands)).numpy()
    step = 1e-6
    for place in [(0,) * slope.ndim, (3,) + (1,) * (slope.ndim - 1)]:
        ends = []
        for sign in (1, -1):
            moved = operands[0].copy()
            moved[place] += sign * step
            ends.append(loss(moved, *operands[1:]).item())
        wanted = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(slope[place], wanted, rtol=1e-5, atol=1e-8)


@REDUCED
@NAMED
def test_reductions(name: str, operands: Any, options: Any, reduction: str) -> None:
    each = getattr(F, name)(*operands, **options, reduction="none").numpy()
    found = getattr(F, name)(*operands, **options, reduction=reduction).numpy()
    if reduction == "mean" and name in ("mse_loss", "l1_loss"):
        np.testing.assert_allclose(found, each.sum() / options["weight"].sum())
    else:
        np.testing.assert_allclose(found, {"mean": each.mean(), "sum": each.sum()}.get(
            reduction, each))  # fmt: skip


def test_values_known_by_hand() -> None:
    one, two, three = (np.full((1, 1), v) for v in (1.0, 2.0, 3.0))
    distances, kinds = np.array([2.0, 0.25]), np.array([1.0, -1.0])
    assert F.hinge_embedding_loss(distances, kinds).item() == (2 + 0.75) / 2
    assert F.margin_ranking_loss(one, three, one, margin=0.5).item() == 2.5
    assert F.triplet_margin_loss(one, two, one + three, eps=0.0).item() == 0
    assert F.triplet_margin_loss(one, three, two, eps=0.0).item() == 2
    ends = np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])
    np.testing.assert_allclose(F.pairwise_distance(*ends, eps=0.0), [5.0])
    found = F.gaussian_nll_loss(one, three, 4 * one).item()
    np.testing.assert_allclose(found, (np.log(4) + 1) / 2, rtol=1e-6)


def test_the_padding_row_is_zero_and_stays() -> None:
    table = nn.Embedding(4, 3, padding_idx=-1)
    assert not table.weight.numpy()[3].any() and table.weight.numpy()[:3].any()
    table(np.array([0, 3, 3, 1])).sum().backward()
    assert table.weight.grad.numpy().tolist() == [[1] * 3, [1] * 3, [0] * 3, [0] * 3]
    assert repr(table) == "Embedding(4, 3, padding_idx=3)"
    with pytest.raises(errors.ArgumentError, match="padding_idx"):
        nn.Embedding(4, 3, padding_idx=4)


def test_one_hot_counts_classes_by_itself() -> None:
    assert F.one_hot(np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("call, error, match", [
    (lambda: F.cross_entropy(draw(2, 3), np.arange(2), shares(2)), errors.ShapeError, "3 classes"),
    (lambda: F.cross_entropy(draw(2, 3), shares(2, 2)), errors.ShapeError, "probabilities"),
    (lambda: F.cross_entropy(draw(2, 3), np.array([0, 3]), shares(3)).item(),
     errors.IndexOutOfRangeError, "index 3"),
    (lambda: F.nll_loss(draw(2, 3), np.arange(2), shares(3), reduction="avg"), errors.ArgumentError,
     "'sum'"),
    (lambda: F.soft_margin_loss(draw(3), signs(3), reduction="avg"), errors.ArgumentError, "'sum'"),
    (lambda: F.triplet_margin_loss(draw(1, 2), draw(1, 2), draw(1, 2), margin=0.0),
     errors.ArgumentError, "margin"),
    (lambda: F.gaussian_nll_loss(draw(4, 3), draw(4, 3), shares(3)), errors.ShapeError,
     "variances"),
])  # fmt: skip
def test_bad_input_names_the_line(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert caught.value.loc is not None and caught.value.loc.file == __file__


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:reduction")  # torch's, of kl_div
@REDUCED
@NAMED
def test_losses_agree_with_torch(name: str, operands: Any, options: Any, reduction: str) -> None:
    import torch

    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    x = torch.tensor(operands[0], requires_grad=True)
    wanted = getattr(torch.nn.functional, name)(
        x, *map(torch.tensor, operands[1:]), **theirs, reduction=reduction
    )
    mine = accel.Tensor(operands[0], requires_grad=True)
    found = getattr(F, name)(mine, *operands[1:], **options, reduction=reduction)
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), rtol=1e-9, atol=1e-12)
    wanted.sum().backward()
    found.sum().backward()
    np.testing.assert_allclose(mine.grad.numpy(), x.grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.torch
@REDUCED
def test_class_losses_agree_with_torch(reduction: Any) -> None:
    import torch

    theirs = torch.nn.functional
    for rest in ((), (3, 2)):
        x, w = draw(4, 5, *rest), shares(5)
        target = RNG.integers(0, 5, (4, *rest))
        target[1] = -100
        soft = RNG.dirichlet(np.ones(5), (4, *rest))
        soft = np.moveaxis(soft, -1, 1)
        for t in (target, soft):
            for weight in (None, w):
                for smoothing in (0.0, 0.1):
                    wanted = theirs.cross_entropy(
                        torch.tensor(x), torch.tensor(t), None if weight is None else
                        torch.tensor(weight), label_smoothing=smoothing, reduction=reduction,
                    )  # fmt: skip
                    found = F.cross_entropy(
                        x, t, weight, label_smoothing=smoothing, reduction=reduction
                    )
                    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-9)
