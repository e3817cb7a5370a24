"""Batch, group and instance norm as modules."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel
from . import functional
from .module import Module
from .parameter import Parameter

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d",
    "InstanceNorm3d", "LocalResponseNorm",
]  # fmt: skip


class _ChannelNorm(Module):
    """Parameters and running statistics for each channel."""

    #: Legal numbers of dimensions of the input, and their names.
    ranks: tuple[int, ...] = ()
    layout = ""

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: Any,
    ) -> None:
        super().__init__()
        if isinstance(num_features, bool) or not isinstance(num_features, int) or num_features < 0:
            raise ArgumentError(f"{type(self).__name__}: num_features is {num_features!r}",
                                remedy="pass the number of channels")  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = (num_features,)
        self.weight = Parameter(accel.ones(shape, dtype=dtype)) if affine else None
        self.bias = Parameter(accel.zeros(shape, dtype=dtype)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", accel.zeros(shape, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", accel.ones(shape, dtype=dtype) if tracked else None)
        count = accel.asarray(0, dtype=accel.int64) if tracked else None
        self.register_buffer("num_batches_tracked", count)

    def _check(self, x: Any) -> None:
        if x.ndim not in self.ranks:
            raise ShapeError(f"{type(self).__name__}: an input of shape {list(x.shape)}",
                             remedy=f"give {self.layout}")  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, x: Any) -> Any:
        self._check(x)
        share: Any = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if share is None:  # the mean of all batches so far
                share = 1.0 / self.num_batches_tracked.astype(self.running_mean.dtype)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None, share, self.eps,
        )  # fmt: skip


class BatchNorm1d(_BatchNorm):
    """Batch norm of [N, C] or [N, C, L]; arguments as for `BatchNorm2d`."""

    ranks, layout = (2, 3), "[N, C] or [N, C, L]"


class BatchNorm2d(_BatchNorm):
    """Brings each channel of [N, C, H, W] to mean 0 and variance 1 over the batch.

    In training the statistics are the batch's, and the running ones move towards them; after
    `eval()` they are the running ones.

    Parameters
    ----------
    num_features
        Channels.
    eps
        Added to the variance.
    momentum
        Share of a batch in the new running statistics; None: the mean of all batches.
    affine
        Whether there are a weight and a bias.
    track_running_stats
        Whether there are running statistics; without them the batch's are always used.
    dtype
        dtype of parameters and statistics, float32 by default.

    Attributes
    ----------
    weight, bias
        Shape (num_features,) or None; 1 and 0 at first.
    running_mean, running_var
        Shape (num_features,) or None; 0 and 1 at first.
    num_batches_tracked
        How many batches they have seen.

    Examples
    --------
    >>> from accel import nn
    >>> nn.BatchNorm2d(16)
    BatchNorm2d(16, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
    """

    ranks, layout = (4,), "[N, C, H, W]"


class BatchNorm3d(_BatchNorm):
    """Batch norm of [N, C, D, H, W]; arguments as for `BatchNorm2d`."""

    ranks, layout = (5,), "[N, C, D, H, W]"


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, x: Any) -> Any:
        self._check(x)
        if x.ndim == self.ranks[0]:
            return accel.squeeze(self.forward(accel.unsqueeze(x, 0)), 0)
        share: Any = 0.0 if self.momentum is None else self.momentum
        return functional.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, share, self.eps,
        )  # fmt: skip


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of [N, C, L] or [C, L]."""

    ranks, layout = (2, 3), "[N, C, L] or [C, L]"


class InstanceNorm2d(_InstanceNorm):
    """Brings each channel of each sample of [N, C, H, W] or [C, H, W] to mean 0 and variance 1.

    Arguments are those of `BatchNorm2d`; by default there are neither parameters nor running
    statistics.
    """

    ranks, layout = (3, 4), "[N, C, H, W] or [C, H, W]"


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of [N, C, D, H, W] or [C, D, H, W]."""

    ranks, layout = (4, 5), "[N, C, D, H, W] or [C, D, H, W]"


class GroupNorm(Module):
    """Brings each group of channels of each sample to mean 0 and variance 1.

    Parameters
    ----------
    num_groups, num_channels
        The first divides the second.
    eps
        Added to the variance.
    affine
        Whether there are a weight and a bias for each channel.

    Examples
    --------
    >>> from accel import nn
    >>> nn.GroupNorm(4, 16)
    GroupNorm(4, 16, eps=1e-05, affine=True)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: {num_channels} channels in {num_groups} groups",
                                remedy="num_groups must divide num_channels")  # fmt: skip
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        self.weight = Parameter(accel.ones((num_channels,), dtype=dtype)) if affine else None
        self.bias = Parameter(accel.zeros((num_channels,), dtype=dtype)) if affine else None

    def forward(self, x: Any) -> Any:
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LocalResponseNorm(Module):
    """Each element over a power of the mean square of neighbouring channels."""

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Any) -> Any:
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
