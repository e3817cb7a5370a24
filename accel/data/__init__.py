"""Data: scaling, splitting, and batches."""

from .loading import DataLoader, TensorDataset
from .preparing import normalize, standardize, train_test_split

__all__ = ["DataLoader", "TensorDataset", "normalize", "standardize", "train_test_split"]
