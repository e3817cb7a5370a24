"""`Module`: a tree of parameters, buffers and child modules with a `forward` method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from ..errors import AccelError, ArgumentError, NotAnArrayError, ShapeError
from ..frontend import public as accel
from ..frontend.tensors.module_state import Stateful
from ..frontend.tensors.tensor import Tensor
from ..frontend.tensors.values import hide_frames
from .parameter import Parameter

__all__ = ["IncompatibleKeys", "Module"]

Self = TypeVar("Self", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` found missing, and what it had no place for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(Stateful):
    """Base class of models and layers.

    Assigning a `Parameter` or a `Module` to an attribute makes it part of the module;
    `register_buffer` does it for tensors that are state but not trained. Names, order and
    `state_dict` keys are torch's.

    Examples
    --------
    >>> import accel
    >>> from accel import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(accel.ones(size))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale(3)(accel.full((3,), 2.0)).tolist()
    [2.0, 2.0, 2.0]
    """

    _unguarded = frozenset({"_buffer_names"})

    training: bool
    _buffer_names: dict[str, bool]  # name -> whether state_dict holds it

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Set here and not in __init__, so that a subclass which forgets to call
        # super().__init__() still works.
        self = super().__new__(cls)
        object.__setattr__(self, "training", True)
        object.__setattr__(self, "_buffer_names", {})
        return self

    def __init__(self) -> None:
        pass

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes; subclasses define it."""
        raise TypeError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.forward(*args, **kwargs)
        except AccelError as error:
            raise hide_frames(error) from error.__cause__

    # Walking the tree ----------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct child modules by attribute name, each once."""
        seen: set[int] = set()
        for name, value in vars(self).items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """Direct child modules."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it by dotted path, parents first, each once."""
        seen: set[int] = set()
        for path, module in self._paths(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _paths(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every path to every module; a shared module appears under each of its names."""
        yield prefix, self
        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                yield from value._paths(_join(prefix, name))

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def _own_buffers(self) -> Iterator[tuple[str, Any]]:
        for name in self._buffer_names:
            value = vars(self).get(name)
            if value is not None:
                yield name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters by dotted path; a shared one appears once, under its first name."""
        return self._named(Module._own_parameters, prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, as optimizers take them."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        """Buffers by dotted path, each once."""
        return self._named(Module._own_buffers, prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """Buffers."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def _named(
        self, own: Callable[[Module], Iterator[tuple[str, Any]]], prefix: str, recurse: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in own(module):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def get_submodule(self, path: str) -> Module:
        """The module at a dotted path; ``""`` is this module."""
        module: Any = self
        for name in path.split(".") if path else ():
            module = vars(module).get(name)
            if not isinstance(module, Module):
                raise ArgumentError(
                    f"{type(self).__name__} has no submodule {path!r}",
                    remedy="named_modules() lists the paths",
                )
        return module

    def get_parameter(self, path: str) -> Parameter:
        """The parameter at a dotted path."""
        owner, _, name = path.rpartition(".")
        value = vars(self.get_submodule(owner)).get(name)
        if not isinstance(value, Parameter):
            raise ArgumentError(
                f"{type(self).__name__} has no parameter {path!r}",
                remedy="named_parameters() lists the paths",
            )
        return value

    # Building ------------------------------------------------------------------------------

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Add a parameter under `name`; None keeps the name for one that is absent."""
        if value is not None and not isinstance(value, Parameter):
            raise NotAnArrayError(
                f"parameter {name!r} is {type(value).__name__}, not Parameter",
                remedy="wrap the tensor in accel.nn.Parameter",
            )
        setattr(self, _checked_name(name), value)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Add a tensor that is state but not trained; `persistent` puts it in `state_dict`."""
        if value is not None and not isinstance(value, Tensor):
            raise NotAnArrayError(
                f"buffer {name!r} is {type(value).__name__}, not Tensor",
                remedy="make a tensor of it with accel.asarray",
            )
        self._buffer_names[_checked_name(name)] = persistent
        setattr(self, name, value)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child under `name`."""
        if module is not None and not isinstance(module, Module):
            raise NotAnArrayError(f"child {name!r} is {type(module).__name__}, not Module")
        setattr(self, _checked_name(name), module)

    register_module = add_module

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._buffer_names.pop(name, None)

    # Changing all at once ------------------------------------------------------------------

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below this one, children first, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` on this module and all below; Dropout and batch norms obey it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Say of every parameter whether it is trained."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        for parameter in self.parameters():
            _clear_gradient(parameter, set_to_none)

    def to(self: Self, dtype: Any = None, device: Any = None) -> Self:
        """Convert floating-point parameters and buffers to `dtype`, and move all to `device`.

        The parameters stay the same objects, so optimizers made before keep working.
        """
        if dtype is not None and str(dtype).partition(":")[0] in ("cpu", "cuda"):
            dtype, device = None, dtype
        for tensor in [*self.parameters(), *self.buffers()]:
            floating = tensor.dtype.is_inexact
            value = tensor.detach()
            if dtype is not None and floating:
                value = value.astype(dtype)
            if device is not None:
                value = value.to(device)
            tensor.data = value
        return self

    def cuda(self: Self, device: Any = "cuda") -> Self:
        """Move all parameters and buffers to a CUDA device.

        Raises
        ------
        CudaNotAvailable
            Without torch or without a CUDA device.
        """
        return self.to(device=accel.device("cuda", device) if isinstance(device, int) else device)

    def cpu(self: Self) -> Self:
        """Move all parameters and buffers to the CPU's memory."""
        return self.to(device="cpu")

    def half(self: Self) -> Self:
        """Convert floating-point parameters and buffers to float16."""
        return self._floating_to(accel.float16)

    def bfloat16(self: Self) -> Self:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._floating_to(accel.bfloat16)

    def float(self: Self) -> Self:
        """Convert floating-point parameters and buffers to float32."""
        return self._floating_to(accel.float32)

    def double(self: Self) -> Self:
        """Convert floating-point parameters and buffers to float64."""
        return self._floating_to(accel.float64)

    def _floating_to(self: Self, dtype: Any) -> Self:
        """As torch, complex ones stay."""
        for tensor in [*self.parameters(), *self.buffers()]:
            if tensor.is_floating_point():
                tensor.data = tensor.detach().astype(dtype)
        return self

    # Saving --------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """Parameters and persistent buffers by torch's names, as detached tensors."""
        return {prefix + name: tensor.detach() for name, tensor in self._state()}

    def _state(self) -> Iterator[tuple[str, Any]]:
        for path, module in self._paths():
            for name, value in module._own_parameters():
                yield _join(path, name), value
            for name, value in module._own_buffers():
                if module._buffer_names[name]:
                    yield _join(path, name), value

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy tensors or arrays into the parameters and buffers of the same names.

        Parameters
        ----------
        state
            Names to arrays of the right shapes; values are cast to the parameters' dtypes.
        strict
            Whether a missing or an unexpected name is an error.

        Raises
        ------
        ArgumentError
            When names do not match and `strict` is true. Nothing has been changed then.
        ShapeError
            When a shape does not match. Nothing has been changed then.
        """
        own = dict(self._state())
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        if strict and (missing or unexpected):
            raise ArgumentError(
                f"state for {type(self).__name__} does not match: "
                f"missing {missing or 'none'}, unexpected {unexpected or 'none'}",
                remedy="build the model as it was saved, or pass strict=False",
            )
        values = {name: accel.asarray(state[name]) for name in own if name in state}
        for name, value in values.items():
            if tuple(value.shape) != tuple(own[name].shape):
                raise ShapeError(
                    f"{name}: the state has shape {tuple(value.shape)}, "
                    f"the model {tuple(own[name].shape)}",
                    remedy="build the model with the sizes it was saved with",
                )
        for name, value in values.items():
            own[name].data = value.astype(own[name].dtype)
        return IncompatibleKeys(missing, unexpected)

    # Showing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's `repr`."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}\n  {body}\n)"

    def summary(self) -> str:
        """A table of the modules that hold parameters, and totals."""
        rows = [("module", "type", "parameters", "count")]
        for path, module in self.named_modules():
            own = list(module._own_parameters())
            if own:
                shapes = ", ".join(f"{name} {tuple(p.shape)}" for name, p in own)
                count = sum(math.prod(p.shape) for _, p in own)
                rows.append((path or "(root)", type(module).__name__, shapes, f"{count:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        table = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        ]
        table.insert(1, "-" * len(table[0]))
        parameters = list(self.parameters())
        total = sum(math.prod(p.shape) for p in parameters)
        trained = sum(math.prod(p.shape) for p in parameters if p.requires_grad)
        size = sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters)
        table.append(f"{total:,} parameters, {trained:,} of them trained, {size / 1e6:.2f} MB")
        return "\n".join(table)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _checked_name(name: str) -> str:
    if not name or "." in name:
        raise ArgumentError(
            f"{name!r} cannot name a parameter, buffer or child",
            remedy="use a non-empty name without dots",
        )
    return name


def _clear_gradient(tensor: Any, set_to_none: bool) -> None:
    if set_to_none:
        tensor.grad = None
    elif tensor.grad is not None:
        tensor.grad = accel.zeros_like(tensor.grad)
