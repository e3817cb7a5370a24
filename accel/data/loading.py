"""Datasets of equally long arrays, and loaders that take batches from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..frontend import public as accel
from ..frontend.tensors.arguments import public
from ..frontend.tensors.tensor import Tensor

__all__ = ["DataLoader", "TensorDataset", "common_length", "rows_of"]


def common_length(arrays: tuple[Any, ...], what: str) -> int:
    """The extent that all arrays have in their first axis.

    Raises
    ------
    ArgumentError
        Without arrays.
    ShapeError
        When the extents differ, or an array is 0-d.
    """
    if not arrays:
        raise ArgumentError(f"{what} without arrays", remedy="give one array or more")
    shapes = [tuple(array.shape) for array in arrays]
    if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ShapeError(
            f"{what}: arrays of shapes {', '.join(map(str, shapes))} differ in their first extent",
            remedy="give arrays with one row for each example",
        )
    return shapes[0][0]


def rows_of(array: Any, index: np.ndarray | slice) -> Any:
    """Some rows: an array of arrays, a Tensor of Tensors."""
    if isinstance(array, Tensor):
        return accel.from_numpy(np.ascontiguousarray(array.numpy()[index]))
    return array[index]


class TensorDataset:
    """Arrays whose first axis counts the same examples.

    Parameters
    ----------
    *arrays
        NumPy arrays or Tensors; they are not copied.

    Examples
    --------
    >>> import numpy as np
    >>> from accel.data import TensorDataset
    >>> dataset = TensorDataset(np.arange(6).reshape(3, 2), np.array([0, 1, 0]))
    >>> len(dataset)
    3
    >>> dataset[1:]
    (array([[2, 3],
           [4, 5]]), array([1, 0]))
    """

    @public
    def __init__(self, *arrays: Any) -> None:
        converted = [a if isinstance(a, Tensor) else np.asarray(a) for a in arrays]
        self.arrays = tuple(converted)
        self._length = common_length(self.arrays, "TensorDataset")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        """The rows at an index of any kind, one entry for each array."""
        return tuple(rows_of(array, index) for array in self.arrays)


class DataLoader:
    """Batches of a dataset, in order or shuffled anew for every pass.

    Parameters
    ----------
    dataset
        A `TensorDataset`, or a tuple of arrays that becomes one.
    batch_size
        Examples in a batch.
    shuffle
        Whether every pass has another order.
    drop_last
        Whether the rest that fills no batch is left out. A compiled step is recorded once more
        for a last batch of another size.
    seed
        Of the order; None takes it from `accel.manual_seed`'s generator.

    Examples
    --------
    >>> import numpy as np
    >>> from accel.data import DataLoader
    >>> [len(x) for x, in DataLoader((np.arange(10),), batch_size=4)]
    [4, 4, 2]
    """

    @public
    def __init__(
        self,
        dataset: TensorDataset | tuple[Any, ...],
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(
                f"DataLoader: batch_size is {batch_size!r}", remedy="pass a positive int"
            )
        self.dataset = dataset if isinstance(dataset, TensorDataset) else TensorDataset(*dataset)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self._generator = None if seed is None else accel.Generator(seed)

    def __len__(self) -> int:
        """How many batches a pass has."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        order = None
        if self.shuffle:
            order = accel.randperm(len(self.dataset), generator=self._generator).numpy()
        for number in range(len(self)):
            rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield self.dataset[rows if order is None else order[rows]]
