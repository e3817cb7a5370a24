"""The loss of sequences whose alignment is not known."""

from __future__ import annotations

from typing import Any

from ...errors import ArgumentError, ShapeError
from ...frontend import public as accel
from ...frontend.tensors.arguments import public
from ...frontend.tensors.recording import as_tensor, record
from ...frontend.tensors.tensor import Tensor
from .class_losses import check_reduction

__all__ = ["ctc_loss"]

#: The logarithm of what cannot be: finite, so that its differences are numbers.
_NEVER = -1e30


@public
def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Minus the log-probability of targets over all alignments with an input (connectionist
    temporal classification).

    Parameters
    ----------
    log_probs
        Logarithms of probabilities, shape (T, N, C), or (T, C) without a batch.
    targets
        Class numbers, shape (N, S); or all targets one after the other as a vector.
    input_lengths, target_lengths
        Shape (N,): how much of each counts. For targets in a vector the lengths are read at
        once.
    blank
        The class that stands for nothing.
    reduction
        ``"mean"`` of the losses divided by the targets' lengths, ``"sum"`` or ``"none"``.
    zero_infinity
        Whether what no alignment leads to counts 0 instead of infinity.

    Raises
    ------
    ArgumentError
        For a blank that is no class.
    ShapeError
        For lengths or targets of another number than the inputs.

    Notes
    -----
    A. Graves et al.: Connectionist temporal classification. ICML 2006. The steps through time
    are recorded one by one.

    Examples
    --------
    >>> import accel
    >>> even = accel.log(accel.full((2, 1, 2), 0.5))
    >>> loss = accel.nn.functional.ctc_loss(even, accel.asarray([[1]]), (2,), (1,))
    >>> round(loss.item(), 4)  # three of four paths
    0.2877
    """
    check_reduction("ctc_loss", reduction)
    log_probs, targets = as_tensor(log_probs), as_tensor(targets)
    if log_probs.ndim not in (2, 3):
        raise ShapeError(f"ctc_loss: log_probs of shape {list(log_probs.shape)}",
                         remedy="give [T, N, C], or [T, C] without a batch")  # fmt: skip
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs.unsqueeze(1), targets.reshape(1, -1)
    count, classes = log_probs.shape[1:]
    if not 0 <= blank < classes:
        raise ArgumentError(f"ctc_loss: blank {blank} of {classes} classes",
                            remedy="name one of the classes")  # fmt: skip
    inputs, lengths = _lengths(input_lengths, count), _lengths(target_lengths, count)
    if targets.ndim == 1:
        targets = _in_rows(targets, lengths)
    if targets.ndim != 2 or targets.shape[0] != count:
        raise ShapeError(f"ctc_loss: targets of shape {list(targets.shape)} for {count} inputs",
                         remedy="give one row for each input")  # fmt: skip
    losses = -_ends(_forward(log_probs, targets, inputs, lengths, blank), lengths)
    impossible = losses > -_NEVER / 2
    losses = accel.where(impossible, 0.0 if zero_infinity else float("inf"), losses)
    if reduction == "mean":
        return accel.mean(losses / accel.maximum(lengths, 1).astype(losses.dtype))
    if reduction == "sum":
        return accel.sum(losses)
    return losses.squeeze(0) if single else losses


def _lengths(given: Any, count: int) -> Tensor:
    found = accel.asarray(given) if isinstance(given, (int, tuple, list)) else as_tensor(given)
    found = found.reshape(-1).astype(accel.int64)
    if found.shape != (count,):
        raise ShapeError(f"ctc_loss: {found.size} lengths for {count} inputs",
                         remedy="give one for each")  # fmt: skip
    return found


def _in_rows(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets that follow one another, as rows that are filled up at the end."""
    if not targets.size:
        return accel.zeros((lengths.shape[0], 0), dtype=accel.int64)
    longest = int(lengths.max().item())
    starts = accel.cumsum(lengths, 0) - lengths
    places = starts.unsqueeze(1) + accel.arange(longest)
    return accel.take(targets, accel.minimum(places, targets.size - 1))


def _forward(
    log_probs: Tensor, targets: Tensor, inputs: Tensor, lengths: Tensor, blank: int
) -> Tensor:
    """The log-probability of all paths to each state, at the end of each input.

    States are the labels with blanks around and between them; a path stays, goes on to the
    next state, or leaves a blank out between two different labels.
    """
    count, labels = targets.shape
    within = accel.arange(labels) < lengths.unsqueeze(1)
    targets = accel.where(within, targets, blank).astype(accel.int64)
    blanks = accel.full((count, labels, 1), blank, dtype=accel.int64)
    states = accel.cat([blanks, targets.unsqueeze(2)], 2).reshape(count, 2 * labels)
    states = accel.cat([states, accel.full((count, 1), blank, dtype=accel.int64)], 1)
    leap = (states != blank) & (states != _shifted(states, 2, blank))
    index = accel.broadcast_to(states, (log_probs.shape[0], *states.shape))
    scores = accel.unbind(accel.gather(accel.maximum(log_probs, _NEVER), 2, index))
    first = accel.arange(states.shape[1]) < 2
    alpha = accel.where(first, scores[0], _NEVER)
    for step, score in enumerate(scores[1:], 1):
        ways = [alpha, _shifted(alpha, 1, _NEVER),
                accel.where(leap, _shifted(alpha, 2, _NEVER), _NEVER)]  # fmt: skip
        most = accel.stop_gradient(accel.maximum(accel.maximum(*ways[:2]), ways[2]))
        terms = [accel.exp(way - most) for way in ways]
        moved = accel.log(terms[0] + terms[1] + terms[2]) + most + score
        alpha = accel.where((inputs > step).unsqueeze(1), accel.maximum(moved, _NEVER), alpha)
    return alpha


def _shifted(states: Tensor, by: int, value: float) -> Tensor:
    """The state before each, or before that."""
    by = min(by, states.shape[1])
    return record("pad", states[:, : states.shape[1] - by], low=(0, by), high=(0, 0), value=value)


def _ends(alpha: Tensor, lengths: Tensor) -> Tensor:
    """The log-probability of ending in the last label or the blank behind it."""
    end = (2 * lengths).unsqueeze(1)
    blank = accel.gather(alpha, 1, end)
    label = accel.gather(alpha, 1, accel.maximum(end - 1, 0))
    label = accel.where(end > 0, label, _NEVER)
    return accel.logaddexp(blank, label).squeeze(1)
