"""Scaling, splitting and batches."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel import errors
from accel.data import DataLoader, TensorDataset, normalize, standardize, train_test_split

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = np.arange(10)


def test_normalize_and_standardize() -> None:
    found = normalize(X).numpy()
    np.testing.assert_allclose(found.min(0), 0)
    np.testing.assert_allclose(found.max(0), 1)
    whole = normalize(X, axis=None).numpy()
    assert (whole.min(), whole.max()) == (0, 1)
    found = standardize(X).numpy()
    np.testing.assert_allclose(found, (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)


def test_constant_columns_become_zero() -> None:
    same = np.full((4, 2), 7, np.float32)
    np.testing.assert_array_equal(normalize(same).numpy(), 0)
    np.testing.assert_array_equal(standardize(same).numpy(), 0)


@pytest.mark.parametrize(("size", "expected"), [(3, 3), (0.25, 3), (0.5, 5)])
def test_split(size: float, expected: int) -> None:
    x_train, x_test, y_train, y_test = train_test_split(X, Y, test_size=size, seed=1)
    assert len(y_test) == expected and len(y_train) == 10 - expected
    assert sorted([*y_train, *y_test]) == list(range(10))
    np.testing.assert_array_equal(x_test, X[y_test])
    np.testing.assert_array_equal(x_train, X[y_train])
    again = train_test_split(X, Y, test_size=size, seed=1)
    np.testing.assert_array_equal(again[3], y_test)


def test_split_follows_the_global_seed_and_keeps_the_kind() -> None:
    parts = []
    for _ in range(2):
        accel.manual_seed(4)
        parts.append(train_test_split(accel.asarray(Y))[1])
    assert isinstance(parts[0], accel.Tensor)
    assert parts[0].tolist() == parts[1].tolist()


@pytest.mark.parametrize("size", [0, 10, 1.0, 0.0, -1])
def test_bad_split(size: float) -> None:
    with pytest.raises(errors.ArgumentError, match="leaves a part empty"):
        train_test_split(X, test_size=size)


def test_bad_datasets() -> None:
    with pytest.raises(errors.ShapeError, match="first extent"):
        TensorDataset(X, Y[:5])
    with pytest.raises(errors.ShapeError):
        TensorDataset(np.float32(1))
    with pytest.raises(errors.ArgumentError, match="without arrays"):
        TensorDataset()
    with pytest.raises(errors.ArgumentError, match="batch_size"):
        DataLoader((X,), batch_size=0)


def test_batches_in_order() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=4)
    assert len(loader) == 3
    assert [y.tolist() for _, y in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    loader = DataLoader((X, Y), batch_size=4, drop_last=True)
    assert len(loader) == len(list(loader)) == 2


def test_shuffled_batches_cover_everything_in_another_order_each_time() -> None:
    loader = DataLoader((X, Y), batch_size=3, shuffle=True, seed=0)
    passes = []
    for _ in range(2):
        seen = []
        for x, y in loader:
            np.testing.assert_array_equal(x, X[y])
            seen += y.tolist()
        passes.append(seen)
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]
    again = DataLoader((X, Y), batch_size=3, shuffle=True, seed=0)
    assert [i for _, y in again for i in y.tolist()] == passes[0]


def test_tensors_stay_tensors() -> None:
    (batch,) = next(iter(DataLoader((accel.asarray(X),), batch_size=2, shuffle=True)))
    assert isinstance(batch, accel.Tensor) and batch.shape == (2, 3)
