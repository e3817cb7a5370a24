"""Where the elements that a tap sees lie in a packed block of a source."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.dataclass import dataclass
from ..machine.llvm_text import LINE
from .spec import Axis

__all__ = ["Geometry", "Phases", "ceil_div", "displacements", "even", "phases_of",
           "shared_zeros"]  # fmt: skip


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def even(extent: int, most: int) -> int:
    """The size of a block of at most `most` so that all are about equal.

    >>> even(56, 40), even(9, 100)
    (28, 9)
    """
    return ceil_div(extent, ceil_div(extent, max(1, min(extent, most))))


@dataclass(frozen=True)
class Phases:
    """The taps of an axis by their remainder by the stride.

    Attributes
    ----------
    firsts
        For each remainder in use the source element that the first place sees there.
    places
        For each tap (which remainder, how many places further).
    span
        How many places more than the result the source has.
    """

    firsts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    span: int


def phases_of(axis: Axis) -> Phases:
    """The phases of an axis.

    >>> phases_of(Axis(4, 9, 2, ((-1, 0), (0, 4), (1, 8))))
    Phases(firsts=(0, -1), places=((1, 0), (0, 0), (1, 1)), span=1)
    """
    if not axis.taps:
        return Phases((), (), 0)
    split = [divmod(tap, axis.stride)[::-1] for tap, _ in axis.taps]
    used = sorted({remainder for remainder, _ in split})
    least = {r: min(q for s, q in split if s == r) for r in used}
    firsts = tuple([least[r] * axis.stride + r for r in used])
    places = tuple([(used.index(r), q - least[r]) for r, q in split])
    return Phases(firsts, places, max(q for _, q in places))


def displacements(axis: Axis) -> list[int]:
    """The different displacements of an axis; each has a packed plane of its own."""
    return sorted({tap for tap, _ in axis.taps})


def shared_zeros(axis: Axis) -> int:
    """How many zeros behind a row can be those before the next one, where rows are packed whole.

    >>> shared_zeros(Axis(8, 8, 1, ((-1, 0), (0, 4), (1, 8))))
    1
    """
    taps = [tap for tap, _ in axis.taps]
    if axis.stride != 1 or not taps:
        return 0
    return max(0, min(-min(taps), max(taps) + axis.extent - axis.source))


@dataclass(frozen=True)
class Geometry:
    """A packed block.

    Attributes
    ----------
    pitch, height
        Elements from row to row, and rows.
    phase, channel
        Bytes of a phase, and of a channel.
    """

    pitch: int
    height: int
    phase: int
    channel: int

    @classmethod
    def of(
        cls, axes: Sequence[Axis], rows: int, columns: int, size: int, lanes: int
    ) -> Geometry:
        """The geometry for blocks of `rows` rows and `columns` columns. A vector's room follows
        each phase, and channels are spread over the sets of a cache."""
        planes, *rest = axes
        down, across = (phases_of(axis) for axis in rest)
        pitch, height = columns + across.span, rows + down.span
        phase = ceil_div(height * pitch + lanes, lanes) * lanes * size
        channel = phase * len(displacements(planes)) * len(down.firsts) * len(across.firsts)
        channel += LINE if channel // LINE % 2 == 0 else 0
        return cls(pitch, height, phase, channel)

    def slab(self, channels: int) -> int:
        """Bytes of a packed block."""
        return ceil_div(channels * self.channel + LINE, LINE) * LINE

    def taps(self, axes: Sequence[Axis], size: int) -> list[int]:
        """Where each tap's element for a block's first place lies in a channel, in bytes."""
        planes, *rest = axes
        down, across = (phases_of(axis) for axis in rest)
        deep = displacements(planes)
        found = []
        for tap, _ in planes.taps:
            for f1, q1 in down.places:
                for f2, q2 in across.places:
                    which = (deep.index(tap) * len(down.firsts) + f1) * len(across.firsts) + f2
                    found.append(which * self.phase + (q1 * self.pitch + q2) * size)
        return found

    def header(self, axes: Sequence[Axis]) -> dict[str, int]:
        """The slots of an argument block from which blocks are packed."""
        planes, rows, columns = axes
        return {
            "pitch": self.pitch, "height": self.height, "phase": self.phase,
            "channel": self.channel, "taps0": len(displacements(planes)),
            "phases1": len(phases_of(rows).firsts), "phases2": len(phases_of(columns).firsts),
            **{f"stride{i}": axis.stride for i, axis in enumerate(axes)},
            **{f"source{i}": axis.source for i, axis in enumerate(axes)},
        }  # fmt: skip

    @staticmethod
    def tables(axes: Sequence[Axis]) -> dict[str, list[int]]:
        """The tables of an argument block from which blocks are packed."""
        planes, rows, columns = axes
        return {
            "at_taps0": displacements(planes), "at_phases1": list(phases_of(rows).firsts),
            "at_phases2": list(phases_of(columns).firsts),
        }  # fmt: skip
