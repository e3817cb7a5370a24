"""Hypothesis strategies for arrays and graphs.

Hypothesis is needed only where these are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir import dtypes
from ..ir.types import Shape
from .arrays import LAYOUTS, draw_array
from .generate import EXTENTS, Case, draw_any_case, draw_graph

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from ..ir.graph import Graph

__all__ = ["arrays", "cases", "graphs"]


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError:
        raise ImportError(
            "accel.testing's strategies need hypothesis: pip install hypothesis"
        ) from None
    return strategies


def arrays(
    dtype: Any = None, shape: Shape | SearchStrategy[Shape] | None = None, special: bool = True
) -> SearchStrategy[np.ndarray]:
    """Arrays of every layout: contiguous, strided, reversed, transposed, broadcast, unaligned.

    Parameters
    ----------
    dtype
        A dtype, its name, or a strategy of them; any dtype of accel when None.
    shape
        A tuple or a strategy of tuples; when None, up to three extents, 0 and 1 among them.
    special
        Whether NaN, infinities, signed zeros, subnormal and extreme numbers occur.

    Raises
    ------
    ImportError
        When hypothesis is not installed.
    UnsupportedDTypeError
        For a dtype that accel does not have.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(arrays("float32", shape=(2, 3)))
    ... def test(x):
    ...     assert x.shape == (2, 3) and x.dtype == "float32"
    >>> test()
    """
    st = _strategies()
    if not isinstance(dtype, st.SearchStrategy):
        dtype = st.sampled_from(dtypes.ALL) if dtype is None else st.just(dtypes.to_dtype(dtype))
    extents: Any = shape
    if shape is None:
        extents = st.lists(st.sampled_from(EXTENTS[:10]), max_size=3).map(tuple)
    elif isinstance(shape, tuple):
        extents = st.just(shape)

    def draw(of: Any, drawn: Shape, layout: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return draw_array(rng, dtypes.to_dtype(of), drawn, special, layout)

    return st.builds(draw, dtype, extents, st.sampled_from(LAYOUTS), st.integers(0, 2**32 - 1))


def graphs(max_nodes: int = 12) -> SearchStrategy[Graph]:
    """Random typed graphs over the registry, of about `max_nodes` operations at most.

    Raises
    ------
    ImportError
        When hypothesis is not installed.
    """
    st = _strategies()

    @st.composite
    def drawn(draw: DrawFn) -> Graph:
        return draw_graph(lambda n: draw(st.integers(0, n - 1)), max_nodes)

    return drawn()


def cases(max_nodes: int = 12) -> SearchStrategy[Case]:
    """Graphs as `graphs` gives, some of them gradients, with arrays and a way to run them.

    Raises
    ------
    ImportError
        When hypothesis is not installed.
    """
    st = _strategies()

    @st.composite
    def drawn(draw: DrawFn) -> Case:
        return draw_any_case(
            lambda n: draw(st.integers(0, n - 1)),
            lambda type_, special: draw(arrays(type_.dtype, type_.shape, special)),
            max_nodes,
        )

    return drawn()
