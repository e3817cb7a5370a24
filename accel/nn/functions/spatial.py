"""What functions of images share: batches that may be missing, one number for each dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend.tensors.recording import as_tensor
from ...frontend.tensors.tensor import Tensor

__all__ = ["batched", "numbers"]


def batched(name: str, count: int, x: Any, function: Callable[[Tensor], Any]) -> Any:
    """`function` of `x` as a batch [N, C, *spatial], the result without the batch if x had none.

    Raises
    ------
    ShapeError
        Where `x` has neither `count` spatial dimensions and channels, nor a batch before them.
    """
    x = as_tensor(x)
    if x.ndim == count + 2:
        return function(x)
    if x.ndim != count + 1:
        letters = ("L", "H, W", "D, H, W")[count - 1]
        raise ShapeError(
            f"{name}: an input of shape {list(x.shape)}",
            remedy=f"give [N, C, {letters}], or [C, {letters}] without a batch",
        )
    result = function(x.unsqueeze(0))
    if isinstance(result, tuple):
        return tuple([each.squeeze(0) for each in result])
    return result.squeeze(0)


def numbers(name: str, word: str, value: Any, count: int) -> tuple[Any, ...]:
    """One value for each of `count` dimensions; a single one stands for all.

    >>> numbers("conv2d", "stride", 2, 2)
    (2, 2)
    """
    if not isinstance(value, (tuple, list)):
        return (value,) * count
    listed = tuple(value)
    if len(listed) == 1:
        return listed * count
    if len(listed) != count:
        raise ArgumentError(f"{name}: {word} {value!r} for {count} spatial dimensions",
                            remedy="give one number, or one for each")  # fmt: skip
    return listed
