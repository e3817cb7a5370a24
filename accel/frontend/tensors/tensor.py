"""`Tensor`: a mutable handle on an immutable, lazily computed value."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import forking
from ...errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    NotAnArrayError,
    NotANumberError,
    TraceError,
)  # fmt: skip
from ...ir import dtypes
from ...ir.dtypes import DType
from ...runtime import dlpack
from ...runtime import state as runtime_state
from .devices import CPU, Device
from .evaluation import evaluate, evaluate_one, to_host
from .leaf_values import array_value, leaf_value
from .values import FREED, Value, strong_type, user_location

__all__ = ["Tensor", "value_of"]


class Tensor:
    """An array whose value is recorded and computed when it is read.

    Operations on Tensors are recorded. Reading one (`numpy`, `item`, `print`, `bool` …)
    computes it, once. The Tensor is a handle: ``x += y`` and ``x[i] = v`` give it a new value;
    whatever was computed from the old one stays as it was.

    Parameters
    ----------
    data
        An array, a number, nested lists of numbers, or another Tensor; copied.
    dtype
        The dtype; by default that of an array, float32 for Python floats, int64 for ints.
    requires_grad
        Whether `backward` collects gradients in `grad`.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0, 3.0])
    >>> (x * 2 + 1).tolist()
    [3.0, 5.0, 7.0]
    """

    __slots__ = ("__weakref__", "_grad", "_value")

    _value: Value
    _grad: Tensor | None

    if TYPE_CHECKING:  # attached by `operators` and `methods` from their tables

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...

    def __init__(self, data: Any, dtype: Any = None, *, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            if dtype is not None and dtypes.to_dtype(dtype) is not data.dtype:
                raise ArgumentError(
                    f"Tensor(tensor, dtype={dtype}) does not convert", loc=user_location(),
                    remedy="use tensor.astype(dtype)",
                )  # fmt: skip
            self._value = value_of(data).alias(False, tracer=runtime_state.current().tracer)
        else:
            self._value = leaf_value(data, dtype)
        self._grad = None
        if requires_grad:
            self.requires_grad_()

    @staticmethod
    def _of(value: Value) -> Tensor:
        """A new handle on `value`."""
        tensor = object.__new__(Tensor)
        tensor._value = value
        tensor._grad = None
        return tensor

    # -- what is known without computing -------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the dimensions."""
        return value_of(self).type.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(value_of(self).type.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return value_of(self).type.size

    @property
    def dtype(self) -> DType:
        """The data type."""
        return strong_type(value_of(self).type).dtype

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def device(self) -> Device:
        """Where the value lies, or will once it is computed."""
        value = value_of(self)
        if value.data is None or isinstance(value.data, np.ndarray):
            return CPU if value.type.device == "cpu" else Device(value.type.device)
        return Device(value.data.device)

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise NotAnArrayError("len() of a 0-d tensor", loc=user_location(),
                                  remedy="use .size, or a tensor with dimensions")  # fmt: skip
        return shape[0]

    __hash__ = object.__hash__

    # -- reading: computes the value -----------------------------------------------------
    def _array(self, demand: str) -> np.ndarray:
        """The value as an array, of the buffer's own memory if that is the host's."""
        return to_host(self._buffer(demand))

    def _buffer(self, demand: str) -> Any:
        """The value's buffer, computed if it is not; `demand` says who asks."""
        state = runtime_state.current()
        tracer = state.tracer
        value = self._value if tracer is None else tracer.read(self)
        if value.data is None:
            if tracer is not None and tracer is value.tracer:
                return tracer.value_demanded(value, demand)
            evaluate_one(value, state)
        return value.data

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array: a read-only view, of no copy where it is on the CPU.

        Raises
        ------
        TracedValueError
            Inside a compiled function, where there is no value yet.
        """
        data = self._value.data
        if type(data) is not np.ndarray or runtime_state.overriding() is not None:
            data = self._array("numpy()")
        view = data.view()
        view.setflags(False)  # not writeable
        return view

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises
        ------
        ArgumentError
            When there is not exactly one element.
        TracedValueError
            Inside a compiled function.
        """
        return self._scalar("item()")

    def _scalar(self, demand: str) -> Any:
        if self.size != 1:
            raise NotANumberError(
                f"{demand} of a tensor of shape {list(self.shape)} is ambiguous",
                loc=user_location(), remedy="reduce it first: .all(), .any(), .sum() or an index",
            )  # fmt: skip
        return self._array(demand).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a 0-d tensor."""
        return self._array("tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._array("a NumPy function that accel does not record")
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ArgumentError(f"{array.dtype} cannot become {dtype} without a copy")
            return array.astype(dtype)
        if copy is False:
            array = array.view()
            array.flags.writeable = False
            return array
        return array.copy()

    def __dlpack__(
        self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None, copy: bool | None = None,
    ) -> Any:  # fmt: skip
        """A capsule of the value's memory for another library, which must not write to it
        (consumers that know of versions are told so) unless it is a copy."""
        return dlpack.export(
            self._buffer("__dlpack__"), stream=stream, max_version=max_version,
            dl_device=dl_device, copy=copy,
        )  # fmt: skip

    def __dlpack_device__(self) -> tuple[dlpack.DLDeviceType, int]:
        return dlpack.device_of(self._buffer("__dlpack_device__"))

    def __bool__(self) -> bool:
        return bool(self._scalar("bool()"))

    def __float__(self) -> float:
        return float(self._scalar("float()"))

    def __int__(self) -> int:
        return int(self._scalar("int()"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.ndim:
            raise DTypeError(
                f"a tensor of {self.dtype}{list(self.shape)} is no index",
                loc=user_location(), remedy="use a 0-d integer tensor",
            )  # fmt: skip
        return int(self._scalar("an index"))

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise NotAnArrayError("iteration over a 0-d tensor", loc=user_location(),
                                  remedy="use .item(), or a tensor with dimensions")  # fmt: skip
        return (self[i] for i in range(self.shape[0]))  # type: ignore[index]

    def block_until_ready(self) -> Tensor:
        """Compute the value, if it is not; returns the tensor itself."""
        state = runtime_state.current()
        if state.tracer is None:
            evaluate([self._value], state)
        return self

    def __repr__(self) -> str:
        value = self._value
        tracer = runtime_state.current().tracer
        if (value.data is None and value.tracer is not None) or tracer is not None:
            return f"Tensor(traced {value_of(self).type})"
        with forking.unforked():
            from .display import text_of

        return text_of(self, self._array("repr()"))

    def _repr_html_(self) -> str:
        """What notebooks show."""
        with forking.unforked():
            from .display import html_of

        if runtime_state.current().tracer is not None:
            return repr(self)
        return html_of(self, self._array("_repr_html_()"))

    def __format__(self, spec: str) -> str:
        # A number is written as one, and so is a float argument of a compiled function; another
        # traced value has none.
        value = value_of(self)
        known = not value.type.shape and (value.data is not None or value.tracer is None)
        if spec or value.type.weak or known:
            return format(self._scalar("format()"), spec)
        return repr(self)

    def free(self) -> None:
        """Drop the value and the gradient: their memory is free once nothing else holds it.

        What was recorded from the tensor, views, and arrays that NumPy was given keep it. The
        shape and dtype remain; reading the value raises. Inside a compiled function nothing
        happens: there the compiler plans memory.

        Examples
        --------
        >>> x = Tensor([1.0, 2.0])
        >>> y = x * 2
        >>> x.free()
        >>> y.tolist(), x.shape
        ([2.0, 4.0], (2,))
        """
        if runtime_state.current().tracer is None:
            self._value = Value(self._value.type, FREED)
            self._grad = None

    # -- rebinding -----------------------------------------------------------------------
    def _set(self, value: Value) -> None:
        """Give the handle another value; a trace notes it for tensors from outside."""
        tracer = runtime_state.current().tracer
        if tracer is None:
            self._value = value
        else:
            tracer.write(self, value)

    def _assign(self, source: Tensor) -> Tensor:
        """Rebind to `source`'s value, as all in-place forms do: same shape and dtype.

        A leaf that requires a gradient stays one, and may be changed under `no_grad` only.
        """
        old, new = value_of(self), value_of(source)
        if new.type.shape != old.type.shape or strong_type(new.type) != strong_type(old.type):
            raise DTypeError(
                f"a tensor of {old.type} cannot take a value of {new.type} in place",
                loc=user_location(), remedy="make a new tensor: x = ...",
            )  # fmt: skip
        if old.requires_grad and self._is_leaf(old):
            if runtime_state.current().grad_enabled:
                raise GradientError(
                    "a leaf tensor that requires a gradient is changed in place",
                    loc=user_location(), remedy="change it within `with accel.no_grad():`",
                )  # fmt: skip
            new = self._leaf(new)
        self._set(new)
        return self

    # -- gradients -----------------------------------------------------------------------
    def _leaf(self, value: Value) -> Value:
        """`value` as a leaf that collects gradients in this tensor."""
        return value.alias(True, weakref.ref(self), runtime_state.current().tracer)

    @staticmethod
    def _is_leaf(value: Value) -> bool:
        return not value.requires_grad or value.owner is not None

    @property
    def is_leaf(self) -> bool:
        """Whether gradients stop here: made by the user, not computed from others."""
        return self._is_leaf(value_of(self))

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor."""
        return value_of(self).requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether `backward` collects gradients here; returns the tensor itself.

        Raises
        ------
        GradientError
            For an integer or boolean tensor, and for False on a computed tensor.
        """
        value = value_of(self)
        if requires_grad and not value.type.dtype.is_inexact:
            raise GradientError(
                f"a tensor of {self.dtype} has no gradient", loc=user_location(),
                remedy="convert it to a floating-point dtype first",
            )  # fmt: skip
        if value.requires_grad == requires_grad:
            return self
        if not requires_grad and not self._is_leaf(value):
            raise GradientError(
                "requires_grad_(False) on a computed tensor", loc=user_location(),
                remedy="use x.detach()",
            )  # fmt: skip
        if requires_grad:
            self._set(self._leaf(value))
        else:
            self._set(value.alias(False, tracer=runtime_state.current().tracer))
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` collected, or None."""
        tracer = runtime_state.current().tracer
        return self._grad if tracer is None else tracer.read_grad(self)

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            if not isinstance(gradient, Tensor):
                raise NotAnArrayError(f"a gradient is a Tensor, not {type(gradient).__name__}",
                                      loc=user_location())  # fmt: skip
            if gradient.shape != self.shape:
                raise GradientError(
                    f"a gradient of shape {list(gradient.shape)} for a tensor of shape "
                    f"{list(self.shape)}", loc=user_location(),
                )  # fmt: skip
        tracer = runtime_state.current().tracer
        if tracer is None:
            self._grad = gradient
        else:
            tracer.write_grad(self, gradient)

    def detach(self) -> Tensor:
        """The same value, through which no gradient flows."""
        tracer = runtime_state.current().tracer
        return Tensor._of(value_of(self).alias(False, tracer=tracer))

    def detach_(self) -> Tensor:
        """Let no gradient flow through this tensor from now on; returns it."""
        self._set(value_of(self.detach()))
        return self

    @property
    def data(self) -> Tensor:
        """The same value, detached; assigning rebinds the tensor, whatever its gradients."""
        return self.detach()

    @data.setter
    def data(self, source: Tensor) -> None:
        old, new = value_of(self), value_of(source)
        tracer = runtime_state.current().tracer
        leaf = old.requires_grad and new.type.dtype.is_inexact
        self._set(self._leaf(new) if leaf else new.alias(False, tracer=tracer))

    # -- copies --------------------------------------------------------------------------
    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise GradientError(
                "only leaf tensors can be copied with copy.deepcopy", loc=user_location(),
                remedy="copy x.detach()",
            )  # fmt: skip
        if runtime_state.current().tracer is not None:
            raise TraceError("copy.deepcopy of a tensor inside a compiled function",
                             loc=user_location(), remedy="copy it outside")  # fmt: skip
        made = _rebuild(type(self), self._value.alias(False), self.requires_grad)
        memo[id(self)] = made
        if self._grad is not None:
            made._grad = self._grad.__deepcopy__(memo)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), np.array(self._array("pickling")), self.requires_grad)


def _rebuild(kind: type[Tensor], value: Value, requires_grad: bool) -> Tensor:
    made = object.__new__(kind)
    made._value = value
    made._grad = None
    return made.requires_grad_() if requires_grad else made


def _unpickle(kind: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    return _rebuild(kind, array_value(array, copy=False), requires_grad)


def value_of(tensor: Tensor) -> Value:
    """The Value that `tensor` stands for here: a trace may see another than its owner."""
    tracer = runtime_state.current().tracer
    return tensor._value if tracer is None else tracer.read(tensor)
