"""Graphs: frozen, in topological order, compared by structure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..forking import cached_property
from .node import Node, attr_key
from .printing import to_text

if TYPE_CHECKING:
    import networkx

__all__ = ["Graph"]


class Graph:
    """A frozen graph.

    Attributes
    ----------
    inputs
        `input` nodes in the order of the arguments; they may be unused.
    outputs
        Nodes in the order of the results; one may stand twice.
    nodes
        Every node, `inputs` first, operands before users.
    """

    def __init__(
        self, inputs: Sequence[Node], outputs: Sequence[Node], nodes: Sequence[Node]
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.nodes = tuple(nodes)

    @classmethod
    def of(cls, inputs: Sequence[Node], outputs: Sequence[Node], ordered: Iterable[Node]) -> Graph:
        """The graph of what `outputs` need, taken from `ordered` (operands before users)."""
        needed = set(inputs)
        pending = [n for n in outputs if n not in needed]
        while pending:
            node = pending.pop()
            if node not in needed:
                needed.add(node)
                pending.extend(i for i in node.inputs if i not in needed)
        first = set(inputs)
        rest = [n for n in ordered if n in needed and n not in first]
        return cls(inputs, outputs, [*inputs, *rest])

    @cached_property
    def index(self) -> dict[Node, int]:
        """Each node's place in `nodes`."""
        return {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """Who reads each node (each user once), in topological order."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in dict.fromkeys(node.inputs):
                users[operand].append(node)
        return {node: tuple(found) for node, found in users.items()}

    def joint(self, node: Node) -> tuple[Node, ...]:
        """The applications of `node`'s op to the same operands that may be computed together
        with it (see `Op.joint`), in topological order; at least `node` itself."""
        name = node.op.joint
        if not name:
            return (node,)

        def shared(n: Node) -> list[object]:
            return [attr_key(v) for k, v in n.attrs.items() if k != name]

        users = self.users[node.inputs[0]]
        return tuple([
            u for u in users
            if u.op is node.op and u.inputs == node.inputs and shared(u) == shared(node)
        ])  # fmt: skip

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each node a big integer whose bit i says that node i is above it.

        Quadratic in memory: for checks and analysis of graphs of some thousand nodes.
        """
        sets: list[int] = []
        for node in self.nodes:
            bits = 0
            for operand in node.inputs:
                i = self.index[operand]
                bits |= sets[i] | (1 << i)
            sets.append(bits)
        return tuple(sets)

    @cached_property
    def key(self) -> Any:
        """A hashable form that is equal for graphs of equal structure (no lines, no names)."""
        index = self.index
        rows = []
        for node in self.nodes:
            attrs: Any = ()
            if node.op.name != "input" and node.attrs:
                attrs = tuple([(k, attr_key(v)) for k, v in node.attrs.items()])
            rows.append((node.op.name, tuple([index[i] for i in node.inputs]), attrs, node.type))
        return (len(self.inputs), tuple(rows), tuple([index[n] for n in self.outputs]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and (self is other or self.key == other.key)

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def text(self, lines: bool = True) -> str:
        """The text form; `lines` adds the user's lines as comments."""
        return to_text(self, lines=lines)

    def __str__(self) -> str:
        """The text form, which `accel.parse` reads back."""
        return to_text(self)

    def __repr__(self) -> str:
        counts = f"{len(self.inputs)} inputs, {len(self.outputs)} outputs"
        return f"<Graph of {len(self.nodes)} nodes, {counts}>"

    def count(self, *names: str) -> int:
        """How many nodes are of the named ops, those inside regions included."""
        total = 0
        for node in self.nodes:
            total += node.op.name in names
            if node.op.name == "region":
                total += node.attrs["body"].count(*names)
        return total

    def to_networkx(self) -> networkx.MultiDiGraph:
        """The graph for analysis and drawing with networkx.

        Nodes are the places in `nodes` with attributes `op`, `type` (text), `shape`,
        `dtype`, `attrs`, `loc` and `output`; an edge carries the operand's position.
        """
        import networkx

        result = networkx.MultiDiGraph()
        outputs = set(self.outputs)
        for i, node in enumerate(self.nodes):
            single = not isinstance(node.type, tuple)
            result.add_node(
                i,
                op=node.op.name,
                type=str(node.type),
                shape=node.type.shape if single else None,
                dtype=node.type.dtype.name if single else None,
                attrs=dict(node.attrs),
                loc=str(node.loc) if node.loc else None,
                output=node in outputs,
            )
            for position, operand in enumerate(node.inputs):
                result.add_edge(self.index[operand], i, position=position)
        return result

    def to_dot(self) -> str:
        """The graph in Graphviz's language; regions are clusters."""
        from .drawing import to_dot

        return to_dot(self)

    def to_html(self) -> str:
        """A page that draws the graph: write it to a file and open it in a browser.

        Examples
        --------
        >>> from accel.ir import parse
        >>> page = parse("graph(%x: f32[3]) { %0 = sin(%x) : f32[3] return %0 }").to_html()
        >>> page.startswith("<!DOCTYPE html>") and "sin(%x)" in page
        True
        """
        from .drawing import to_html

        return to_html(self)
