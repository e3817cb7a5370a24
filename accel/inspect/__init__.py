"""Looking at what the compiler did: the explain table, dumps of every compile."""

from .dump import enable_dumps
from .explain import Explanation, explain
from .profile import Profile, profile

__all__ = ["Explanation", "Profile", "enable_dumps", "explain", "profile"]
