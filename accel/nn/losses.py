"""Losses as modules; each calls the function of the same name."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..frontend import public as accel
from . import functional
from .module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CosineSimilarity",
    "CrossEntropyLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss",
    "MultiMarginLoss", "NLLLoss", "PairwiseDistance", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
]  # fmt: skip


class _Loss(Module):
    """A function of prediction, target and what else it takes; `reduction` is "mean", "sum" or
    "none"."""

    function = ""
    reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, *, reduction: str = "mean", **settings: Any) -> None:
        super().__init__()
        if reduction not in self.reductions:
            raise ArgumentError(
                f"{type(self).__name__}: reduction {reduction!r}",
                remedy=f"use one of {', '.join(self.reductions)}",
            )
        self.reduction = reduction
        self.settings = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, *operands: Any) -> Any:
        settings = {name: getattr(self, name) for name in self.settings}
        function = getattr(functional, self.function)
        return function(*operands, reduction=self.reduction, **settings)

    def extra_repr(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.settings]
        return ", ".join([*shown, f"reduction={self.reduction!r}"])


class _WeightedLoss(_Loss):
    """A loss with weights, which are buffers: part of the state, and not trained."""

    def _weigh(self, **weights: Any) -> None:
        for name, weight in weights.items():
            self.register_buffer(name, None if weight is None else accel.asarray(weight))

    def forward(self, *operands: Any) -> Any:
        weights = {name: getattr(self, name) for name in self._buffer_names}
        settings = {name: getattr(self, name) for name in self.settings}
        function = getattr(functional, self.function)
        return function(*operands, reduction=self.reduction, **settings, **weights)


class CrossEntropyLoss(_WeightedLoss):
    """Minus the log-probability of the target, of logits [N, C, …].

    Targets are class numbers [N, …] or probabilities [N, C, …]; `weight` is [C].
    """

    function = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing
        )
        self._weigh(weight=weight)


class NLLLoss(_WeightedLoss):
    """Of log-probabilities [N, C, …] and class numbers [N, …]; `weight` is [C]."""

    function = "nll_loss"

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        self._weigh(weight=weight)


class MSELoss(_Loss):
    """The squared difference."""

    function = "mse_loss"


class L1Loss(_Loss):
    """The absolute difference."""

    function = "l1_loss"


class SmoothL1Loss(_Loss):
    """Squared within `beta` of the target, absolute beyond."""

    function = "smooth_l1_loss"

    def __init__(self, *, beta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """Squared within `delta` of the target, `delta` times the absolute difference beyond."""

    function = "huber_loss"

    def __init__(self, *, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, delta=delta)


class BCELoss(_WeightedLoss):
    """Binary cross entropy of probabilities."""

    function = "binary_cross_entropy"

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._weigh(weight=weight)


class BCEWithLogitsLoss(_WeightedLoss):
    """Binary cross entropy of logits, computed without overflow."""

    function = "binary_cross_entropy_with_logits"

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction=reduction)
        self._weigh(weight=weight, pos_weight=pos_weight)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities from the target distribution."""

    function = "kl_div"
    reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, *, log_target: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, log_target=log_target)


class GaussianNLLLoss(_Loss):
    """Minus the log-likelihood of targets under normal distributions: of means, targets and
    variances."""

    function = "gaussian_nll_loss"

    def __init__(
        self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction, full=full, eps=eps)


class PoissonNLLLoss(_Loss):
    """Minus the log-likelihood of counts under Poisson distributions."""

    function = "poisson_nll_loss"

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        *,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction, log_input=log_input, full=full, eps=eps)


class HingeEmbeddingLoss(_Loss):
    """Distances where the target is 1, what they lack to `margin` where it is -1."""

    function = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class MarginRankingLoss(_Loss):
    """Of two scores and a target of 1 or -1: which of them is to be greater, by `margin`."""

    function = "margin_ranking_loss"

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class CosineEmbeddingLoss(MarginRankingLoss):
    """Of two vectors and a target: alike (1) or not (-1, up to a cosine of `margin`)."""

    function = "cosine_embedding_loss"


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target x)) for targets 1 and -1."""

    function = "soft_margin_loss"


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """The mean over classes of the binary cross entropy of logits; `weight` is [C]."""

    function = "multilabel_soft_margin_loss"

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._weigh(weight=weight)


class TripletMarginLoss(_Loss):
    """Of anchors, positives and negatives: these farther from the anchor than those, by
    `margin`."""

    function = "triplet_margin_loss"

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with a distance of one's own."""

    function = "triplet_margin_with_distance_loss"

    def __init__(
        self, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False,
        reduction: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__(reduction=reduction, distance_function=distance_function, margin=margin,
                         swap=swap)  # fmt: skip


class MultiMarginLoss(_WeightedLoss):
    """Of scores [N, C] and class numbers [N]: what other scores lack to be `margin` lower."""

    function = "multi_margin_loss"

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Any = None, *, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction, p=p, margin=margin)
        self._weigh(weight=weight)


class MultiLabelMarginLoss(_Loss):
    """Of scores [N, C] and class numbers of the same shape, filled up with -1."""

    function = "multilabel_margin_loss"


class CTCLoss(_Loss):
    """Of log-probabilities [T, N, C], targets and the lengths of both; see
    `functional.ctc_loss`."""

    function = "ctc_loss"

    def __init__(
        self, blank: int = 0, *, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction=reduction, blank=blank, zero_infinity=zero_infinity)


class CosineSimilarity(Module):
    """`functional.cosine_similarity` along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x: Any, y: Any) -> Any:
        return functional.cosine_similarity(x, y, self.dim, self.eps)


class PairwiseDistance(Module):
    """`functional.pairwise_distance` by the `p`-norm."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x: Any, y: Any) -> Any:
        return functional.pairwise_distance(x, y, self.norm, self.eps, self.keepdim)
