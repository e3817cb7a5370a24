"""Looking at what the compiler did: the explain table, dumps of every compile."""

from .dump import enable_dumps
from .explain import Explanation, explain

__all__ = ["Explanation", "enable_dumps", "explain"]
