"""How Tensors are shown: as text, and as HTML in notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir import dtypes

__all__ = ["html_of", "text_of"]

#: More elements than these are shown in part: of the text, and of the table's rows and columns.
_TEXT, _ROWS = 1000, 12
_PLAIN = (dtypes.float32, dtypes.int64, dtypes.bool_)


def text_of(tensor: Any, array: np.ndarray) -> str:
    """The text of a Tensor whose value is `array`."""
    name = type(tensor).__name__ + "("
    text = np.array2string(_printable(array), separator=", ", prefix=name, threshold=_TEXT)
    facts = [] if tensor.dtype in _PLAIN else [f"dtype={tensor.dtype}"]
    if array.size == 0 and array.shape != (0,):
        facts.append(f"shape={array.shape}")
    if tensor.device != "cpu":
        facts.append(f"device='{tensor.device}'")
    if tensor.requires_grad:
        facts.append("requires_grad=True")
    return name + ", ".join([text, *facts]) + ")"


def _printable(array: np.ndarray) -> np.ndarray:
    """bfloat16, which NumPy prints as integers where it can, as float32."""
    return array.astype(np.float32) if array.dtype == dtypes.bfloat16.numpy else array


def html_of(tensor: Any, array: np.ndarray) -> str:
    """A heading and, of one or two dimensions, a table; else the text."""
    shape = " × ".join(map(str, array.shape)) or "a number"
    where = "" if tensor.device == "cpu" else f", {tensor.device}"
    heading = f"<b>{type(tensor).__name__}</b> {shape}, {tensor.dtype}{where}"
    if array.ndim not in (1, 2) or not array.size:
        import html  # a large table, which no program needs that shows nothing

        return f"<div>{heading}<pre>{html.escape(text_of(tensor, array))}</pre></div>"
    rows = np.atleast_2d(_printable(array))
    down, across = (_shown(n) for n in rows.shape)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_cell(rows, i, j)}</td>" for j in across) + "</tr>" for i in down
    )
    return f"<div>{heading}<table>{lines}</table></div>"


def _shown(extent: int) -> list[int | None]:
    """The places that a table shows; None for those between."""
    if extent <= _ROWS:
        return list(range(extent))
    return [*range(_ROWS // 2), None, *range(extent - _ROWS // 2, extent)]


def _cell(rows: np.ndarray, i: int | None, j: int | None) -> str:
    if i is None or j is None:
        return "…"
    number = rows[i, j]
    return f"{number:.4g}" if rows.dtype.kind in "fc" else str(number)
