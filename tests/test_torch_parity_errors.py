"""Wrong calls that torch refuses: accel refuses them too, by the class that users of NumPy and
torch expect, with the same words whether the pure target or torch would compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import accel
from accel import errors
from accel.errors import ArgumentError, AxisError, DTypeError, IndexOutOfRangeError, ShapeError

X = np.arange(12, dtype=np.float32).reshape(3, 4)
IMAGE = np.ones((1, 2, 5, 5), np.float32)
PLACES = np.array([[0, 1, 2, 9]])

#: Each is called with accel and with torch.
WRONG: list[tuple[Callable[[Any], Any], type[errors.AccelError]]] = [
    (lambda t: t.sum(t.asarray(X), dim=2), AxisError),
    (lambda t: t.softmax(t.asarray(X), dim=-3), AxisError),
    (lambda t: t.asarray(X).transpose(0, 2), AxisError),
    (lambda t: t.diagonal(t.asarray(X), 0, 0, 5), AxisError),
    (lambda t: t.tensor_split(t.asarray(X), 2, 3), AxisError),
    (lambda t: t.diag_embed(t.asarray(X), 0, 1, 1), ShapeError),
    (lambda t: t.diag(t.asarray(IMAGE)), ShapeError),
    (lambda t: t.diagonal_scatter(t.asarray(X), t.asarray(X)), ShapeError),
    (lambda t: t.block_diag(t.asarray(IMAGE)), ShapeError),
    (lambda t: t.cdist(t.asarray(X), t.asarray(X[:, :3])), ShapeError),
    (lambda t: t.cov(t.asarray(IMAGE)), ShapeError),
    (lambda t: t.combinations(t.asarray(X)), ShapeError),
    (lambda t: t.asarray(X) + t.asarray(X[:, :3]), ShapeError),
    (lambda t: t.matmul(t.asarray(X), t.asarray(X)), ShapeError),
    (lambda t: t.asarray(X).reshape(5, 5), ShapeError),
    (lambda t: t.hsplit(t.asarray(X), 3), ArgumentError),
    (lambda t: t.tensor_split(t.asarray(X), 0), ArgumentError),
    (lambda t: t.split(t.asarray(X), [1, 1], 0), ArgumentError),
    (lambda t: t.narrow(t.asarray(X), 0, 2, 5), ArgumentError),
    (lambda t: t.asarray(X).unfold(1, 7, 1), ArgumentError),
    (lambda t: t.polygamma(-1, t.asarray(X)), ArgumentError),
    (lambda t: t.scatter_reduce(t.asarray(X), 0, t.asarray(PLACES), t.asarray(X), "median"),
     ArgumentError),
    (lambda t: t.scatter_reduce(t.asarray(X), 0, t.asarray(PLACES), t.asarray(X), "amax"),
     IndexOutOfRangeError),
    (lambda t: t.gather(t.asarray(X), 1, t.asarray(PLACES)), IndexOutOfRangeError),
    (lambda t: t.take(t.asarray(X), t.asarray(PLACES + 5)), IndexOutOfRangeError),
    (lambda t: t.asarray(X).put(t.asarray(PLACES + 5), t.asarray(X[:1])), IndexOutOfRangeError),
    (lambda t: t.index_select(t.asarray(X), 0, t.asarray(PLACES[0])), IndexOutOfRangeError),
    (lambda t: t.gcd(t.asarray(X), t.asarray(X)), DTypeError),
    (lambda t: t.bitwise_and(t.asarray(X), t.asarray(X)), DTypeError),
    (lambda t: t.nn.functional.mse_loss(t.asarray(X), t.asarray(X), reduction="avg"),
     ArgumentError),
    (lambda t: t.nn.functional.lp_pool2d(t.asarray(IMAGE), 2, 9), ShapeError),
    (lambda t: t.nn.functional.conv2d(t.asarray(IMAGE), t.ones(3, 5, 3, 3)), ShapeError),
    (lambda t: t.nn.functional.max_unpool2d(t.asarray(IMAGE), t.ones(1, 2, 4, 4), 2), ShapeError),
    (lambda t: t.nn.functional.max_unpool2d(t.asarray(IMAGE), t.asarray(IMAGE.astype("int64")), 2,
                                            output_size=(99, 99)), ArgumentError),
    (lambda t: t.nn.functional.local_response_norm(t.asarray(X), 3), ShapeError),
    (lambda t: t.nn.functional.softshrink(t.asarray(X), -1.0), ArgumentError),
    (lambda t: t.nn.functional.alpha_dropout(t.asarray(X), 1.5), ArgumentError),
    (lambda t: t.nn.functional.embedding(t.asarray(PLACES), t.asarray(X)), IndexOutOfRangeError),
    (lambda t: t.nn.functional.embedding(t.asarray(PLACES % 3), t.asarray(X), 7), ArgumentError),
    (lambda t: t.nn.functional.embedding_bag(t.asarray(PLACES % 3), t.asarray(X), mode="median"),
     ArgumentError),
    (lambda t: t.nn.functional.embedding_bag(t.asarray(PLACES[0] % 3), t.asarray(X)), ShapeError),
    (lambda t: t.nn.functional.multi_margin_loss(t.asarray(X), t.asarray(PLACES[0])), ShapeError),
    (lambda t: t.nn.functional.multi_margin_loss(t.asarray(X), t.asarray([0, 1, 9])),
     IndexOutOfRangeError),
    (lambda t: t.nn.functional.multilabel_margin_loss(t.asarray(X), t.asarray([0, 1])), ShapeError),
    (lambda t: t.nn.functional.ctc_loss(t.asarray(X[:, None]), t.asarray([[1]]), [3], [1], blank=9),
     ArgumentError),
    (lambda t: t.nn.functional.ctc_loss(t.asarray(X[:, None]), t.asarray([[1]]), [3, 3], [1]),
     ShapeError),
    (lambda t: t.nn.functional.interpolate(t.asarray(IMAGE), 3, mode="nearest", antialias=True),
     ArgumentError),
    (lambda t: t.nn.functional.interpolate(t.asarray(IMAGE), 3, mode="cubic"), ArgumentError),
    (lambda t: t.nn.functional.pdist(t.asarray(IMAGE)), ShapeError),
    (lambda t: t.nn.functional.pad(t.asarray(X), (9, 9), mode="reflect"), ShapeError),
]  # fmt: skip


def _error(call: Callable[[Any], Any], mode: str) -> BaseException:
    with accel.mode(mode), pytest.raises(errors.AccelError) as caught:
        result = call(accel)
        for part in result if isinstance(result, tuple) else (result,):
            part.numpy()
    return caught.value


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_refused_as_by_torch(place: int) -> None:
    call, wanted = WRONG[place]
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError, AssertionError)):
        call(torch)
    pure, other = _error(call, "pure"), _error(call, "torch")
    assert type(pure) is type(other) is wanted, (type(pure), type(other))
    assert str(pure) == str(other)
