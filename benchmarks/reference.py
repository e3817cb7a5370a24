"""The operations in NumPy, as exact as their inputs' dtype allows: what every peer must match."""

from __future__ import annotations

import math

import numpy as np


class Reference:
    """See `benchmarks.programs.Operations`."""

    exp, log, sqrt = staticmethod(np.exp), staticmethod(np.log), staticmethod(np.sqrt)
    sin, cos, tanh = staticmethod(np.sin), staticmethod(np.cos), staticmethod(np.tanh)
    pow, matmul = staticmethod(np.power), staticmethod(np.matmul)
    sum, mean, var = staticmethod(np.sum), staticmethod(np.mean), staticmethod(np.var)

    def erf(self, x: np.ndarray) -> np.ndarray:
        return np.vectorize(math.erf, otypes=[np.float64])(x)

    def relu(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def gelu(self, x: np.ndarray) -> np.ndarray:
        return x * 0.5 * (1 + self.erf(x * math.sqrt(0.5)))

    def softmax(self, x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * weight + bias

    def logsumexp(self, x: np.ndarray) -> np.ndarray:
        top = x.max(axis=-1)
        return top + np.log(np.exp(x - top[..., None]).sum(axis=-1))

    def logsumexp_slope(self, x: np.ndarray) -> np.ndarray:
        return self.softmax(x)

    def cross_entropy(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.mean(self.logsumexp(x) - x[np.arange(len(labels)), labels])

    def cross_entropy_slope(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        slope = self.softmax(x)
        slope[np.arange(len(labels)), labels] -= 1
        slope /= len(labels)
        return slope

    def linear(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return x @ weight.T + bias

    def conv2d(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int,
        groups: int,
    ) -> np.ndarray:  # fmt: skip
        sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
        rows, columns = weight.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, sides), (rows, columns), axis=(2, 3)
        )[:, :, ::stride, ::stride]
        parts = [
            np.tensordot(image, kernel, ((1, 4, 5), (1, 2, 3)))
            for image, kernel in zip(
                np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
            )
        ]
        return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1) + bias[:, None, None]

    def max_pool2d(self, x: np.ndarray) -> np.ndarray:
        batch, channels, rows, columns = x.shape
        blocks = x.reshape(batch, channels, rows // 2, 2, columns // 2, 2)
        return blocks.max(axis=(3, 5))

    def flatten(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1)

    def attention(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
        return self.softmax(scores) @ value

    def heads(self, x: np.ndarray, count: int) -> np.ndarray:
        batch, length, width = x.shape
        return x.reshape(batch, length, count, width // count).transpose(0, 2, 1, 3)

    def merge_heads(self, x: np.ndarray) -> np.ndarray:
        batch, _, length, _ = x.shape
        return x.transpose(0, 2, 1, 3).reshape(batch, length, -1)

    def thirds(self, x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, 3, axis=-1)
