"""The words and kinds of native calls of compiled functions, for those who write and emit them.

A call is served by a *plan*: rows of words that say what must hold (`CHECKS`), what becomes of
the outputs (`RESULTS`) and what is written back (`WRITES`).
"""

from __future__ import annotations

from collections.abc import Mapping

from ....ir.dataclass import dataclass

__all__ = ["CHECKS", "CHECK_WORDS", "DISPATCH", "FLAGS", "PLAN", "RESULTS", "RESULT_WORDS",
           "STRUCTURES", "WORLD", "WRITES", "WRITE_WORDS", "Layout"]  # fmt: skip

#: What all calls share: addresses of objects, and of the table of a Value's usual fields.
WORLD = (
    "interface", "variable", "settings", "epoch", "none", "true", "false", "float", "tuple",
    "tensor", "value", "method", "usual",
)  # fmt: skip

#: Words of a compiled function's block; `plans` is a table of blocks, `bases` the most bases, and
#: so on, that one of them needs, `hits` the address of a counter.
DISPATCH = ("world", "plans", "count", "bases", "results", "writes", "hits")

#: Words of a plan; `self` is its block as an object, `held` the number of inputs, or 0 where no
#: other code can run while the kernels do; `left` counts the calls before Python is to look again.
PLAN = (
    "self", "run", "state", "epoch", "positional", "keywords", "names", "checks", "check_rows",
    "held", "results", "result_rows", "structure", "finish", "writes", "write_rows", "left",
)  # fmt: skip

#: Kinds of checks and the words `a` to `d` of their rows; `base` is the place of an input.
CHECKS = {
    "same": "argument a is b",
    "equal": "argument a has the type c and equals b",
    "distinct": "arguments a and b are not the same",
    "alias": "arguments a and b are the same",
    "float": "argument a is a float, which is an input",
    "array": "argument a is an array like the spec b, which is an input",
    "tensor": "argument a has the type c, the flags d and an array like b, which is an input",
    "captured": "the Tensor a requires a gradient as d says and has an array like b, an input, and "
                "the value c unless that is 0",
    "gradient": "the gradient of the Tensor a has an array like b, which is an input",
    "argument_gradient": "the gradient of argument a has an array like b, which is an input",
    "constant": "the array a is like b and an input",
    "setting": "the entry b of the dict a, or element c of it, is a float, which is an input",
    "entry": "the entry b of the dict a is c",
    "item": "the item b of the mapping a is c",
    "cell": "the cell a holds b",
    "defaults": "the function a has the defaults b and the keyword defaults c",
    "has_gradient": "the Tensor a has a gradient if b, else none",
    "elements": "the list (or tuple, unless d) a has c elements, those of the table b",
    "pairs": "the dict a has c entries, those of the table b in this order",
    "holds": "the callable a returns True",
}
CHECK_WORDS = ("kind", "a", "b", "c", "d", "base")

#: Kinds of results: output a as a new Tensor of type b; the object a; argument a.
RESULTS = ("output", "object", "argument")
RESULT_WORDS = ("kind", "a", "b")

#: How results make up what is returned: the only one, a tuple, a list, or what `finish` makes
#: of a list.
STRUCTURES = ("leaf", "tuple", "list", "tree")

#: Kinds of writes, to `target` or, where that is 0, to `argument`: the output becomes its value
#: (one that collects gradients if `leaf`) or its gradient, which `none` clears.
WRITES = ("value", "gradient", "none")
WRITE_WORDS = ("kind", "target", "argument", "output", "type", "leaf")

#: Bits of a Tensor argument's flags.
FLAGS = ("requires_grad", "owner", "gradient")


@dataclass(frozen=True)
class Layout:
    """Where the fields of the frontend's objects lie.

    Attributes
    ----------
    tensor, value
        Byte offsets of slots by name.
    usual
        The slots of a Value other than `data`, `type`, `requires_grad` and `owner`: in every
        computed one they hold the same objects, and those of a group one object.
    dispatch
        Offset of the slot of a compiled function that holds its block.
    """

    tensor: Mapping[str, int]
    value: Mapping[str, int]
    usual: tuple[tuple[str, ...], ...]
    dispatch: int
