"""What steps give: the records of the native program, what `explain` shows, emitted code.

Code is kept by the key of what it was emitted from, so that equal kernels are written once in a
process, whichever step asks first; its name comes from the ops of the step's cluster.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ... import forking
from ...ir.dataclass import dataclass
from ...ir.node import Node
from .clusters import Cluster, Scalar
from .machine.jit import assembly
from .machine.kernels import Kernel

__all__ = ["Code", "KernelInfo", "Record", "code_of", "summary", "symbol"]

#: Characters of emitted code to keep, so that equal nests are written once.
_TEXTS_KEPT = 16 << 20


@dataclass(frozen=True)
class Record:
    """One entry of the native program: the work items ``[0, items)`` of a kernel.

    `checks` are the nodes that its status numbers name; `grain` is the number of work items of
    a part, 0 where one call does all of them; `work` says how long it takes, in multiply-adds;
    `once`, that it need not be repeated while the inputs that are kept stay the same.
    """

    kernel: Kernel
    arguments: tuple[int, ...]
    items: int
    checks: tuple[Node, ...] = ()
    grain: int = 0
    work: int = 0
    once: bool = False


@dataclass(frozen=True)
class KernelInfo:
    """What `explain` shows of a kernel.

    Attributes
    ----------
    region
        The region it belongs to.
    kind
        ``loop``, ``matmul``, ``conv``, ``conv_weight``, ``attention``, ``copy``, ``scatter``,
        ``scan`` or ``reference``.
    ops
        The ops it computes, in order.
    body
        Its loop nest or product; `text` is its printed form.
    name
        Its symbol; empty for reference steps.
    source
        Its LLVM IR.
    reason
        Why a reference step has no kernel.
    """

    region: str
    kind: str
    ops: str
    body: object
    name: str = ""
    source: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        """What it computes, as a person reads it."""
        return str(self.body)

    def ir(self) -> str:
        """Its LLVM IR."""
        return self.source

    def assembly(self) -> str:
        """The machine code as assembly text."""
        return assembly(self.source) if self.source else ""


#: A kernel as it is compiled: its symbol, and the LLVM module that defines it.
Code = tuple[str, str]


class _Texts:
    """Emitted kernels by key, so that equal nests are written once in a process."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._texts: OrderedDict[object, Code] = OrderedDict()
        self._length = 0

    def get(self, key: object, name: str, emit: Callable[[str], str]) -> Code:
        """The code of `key`; the name is that under which it was first emitted."""
        with self._lock:
            code = self._texts.get(key)
            if code is not None:
                self._texts.move_to_end(key)
                return code
        code = name, emit(name)
        with self._lock:
            _, replaced = self._texts.pop(key, ("", ""))  # another thread was quicker
            self._texts[key] = code
            self._length += len(code[1]) - len(replaced)
            while self._length > _TEXTS_KEPT:
                _, (_, oldest) = self._texts.popitem(last=False)
                self._length -= len(oldest)
        return code


_TEXTS = _Texts()


def code_of(key: object, name: str, emit: Callable[[str], str]) -> Code:
    """The kernel of `key`, emitted if it was not yet; its name is the one first given."""
    return _TEXTS.get(key, name, emit)


def summary(cluster: Cluster) -> str:
    """The ops of a cluster in order, those that are only movement left out."""
    if cluster.kind == "copy":
        work = [s.node.op.name for s, _ in cluster.copies if isinstance(s, Scalar)]
        return " ".join(work or ["copy"])
    order = cluster.graph.index
    members = sorted(cluster.axes, key=order.__getitem__)
    names = [n.op.name for n in members if n not in cluster.alias]
    names += ["max_pool"] if cluster.pooled else []
    return " ".join(names or [cluster.node.op.name if cluster.node else cluster.kind])


def symbol(ops: str) -> str:
    """A name for a kernel from its ops."""
    name = "_".join(op.removesuffix("_unchecked") for op in ops.split())
    return name if len(name) <= 48 else name[:44].rstrip("_") + "_etc"
