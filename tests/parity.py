"""Calls of accel beside the same calls of torch: values, dtypes, shapes and gradients.

What the test_torch_parity files share. Their tables have one line for a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import accel
from accel.ir import dtypes

__all__ = ["Case", "agree", "both", "by_name", "check_all", "draw", "to_accel", "to_torch"]

ROUNDOFF = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52,
            "complex64": 2.0**-23, "complex128": 2.0**-52}  # fmt: skip


def draw(shape: Sequence[int], dtype: str = "float32", low: float = -2.0, high: float = 2.0,
         seed: int = 0) -> np.ndarray:  # fmt: skip
    """Repeatable numbers, all different in all likelihood."""
    rng = np.random.default_rng([seed, *shape])
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    values = rng.uniform(low, high, shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.uniform(low, high, shape)
    return values.astype(dtypes.to_dtype(dtype).numpy)


def to_torch(value: Any) -> Any:
    """The argument for torch: arrays as tensors, dtypes by name, in lists and tuples too."""
    if isinstance(value, np.ndarray):
        if value.dtype == accel.bfloat16.numpy:
            return torch.tensor(value.astype(np.float32)).to(torch.bfloat16)
        return torch.tensor(value)
    if isinstance(value, dtypes.DType):
        return getattr(torch, value.name)
    if isinstance(value, (list, tuple)):
        return type(value)([to_torch(v) for v in value])
    return value


def to_accel(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return accel.asarray(value)
    if isinstance(value, (list, tuple)):
        return type(value)([to_accel(v) for v in value])
    return value


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().resolve_conj().resolve_neg()
        return (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    found = np.asarray(value.detach() if isinstance(value, accel.Tensor) else value)
    return found.astype(np.float32) if found.dtype == accel.bfloat16.numpy else found


def _name(value: Any) -> str:
    return str(value.dtype).rpartition(".")[2]


def agree(found: Any, wanted: Any, ulp: float = 32.0, context: str = "") -> None:
    """Raise unless results, one or several, have torch's shape, dtype and values.

    Values may differ by `ulp` units in the last place of the largest finite element: sums of
    both are rounded in orders of their own.
    """
    ours, theirs = _leaves(found), _leaves(wanted)
    assert len(ours) == len(theirs), f"{context}: {len(ours)} results and not {len(theirs)}"
    for a, b in zip(ours, theirs, strict=True):
        if not isinstance(b, torch.Tensor):  # a number, or nothing
            assert a == b, f"{context}: {a} and not {b}"
            continue
        assert tuple(a.shape) == tuple(b.shape), f"{context}: {a.shape} and not {tuple(b.shape)}"
        assert _name(a) == _name(b), f"{context}: {a.dtype} and not {b.dtype}"
        x, y = _array(a), _array(b)
        if x.dtype.kind in "biu":
            np.testing.assert_array_equal(x, y, context)
            continue
        size = np.abs(y)
        scale = max(1e-30, float(np.max(size[np.isfinite(size)], initial=0.0)))
        bound = ulp * ROUNDOFF[_name(a)]
        np.testing.assert_allclose(x, y, rtol=bound, atol=bound * scale, err_msg=context)


def _differentiable(value: Any) -> bool:
    return isinstance(value, np.ndarray) and dtypes.to_dtype(value.dtype).kind in "fc"


def _weighted_sum(results: Sequence[Any], wanted: Sequence[Any], library: Any) -> Any:
    """One real number of all floating results, each element with a weight of its own."""
    total: Any = 0.0
    for i, (result, like) in enumerate(zip(results, wanted, strict=True)):
        if isinstance(like, torch.Tensor) and (like.is_floating_point() or like.is_complex()):
            weights = draw(tuple(like.shape), "float64", seed=7 + i)
            for part in ("real", "imag") if like.is_complex() else ("real",):
                found = getattr(result, part) if like.is_complex() else result
                kind = getattr(library, _name(found))
                total = total + (found * library.asarray(weights).to(kind)).sum()
                weights = weights * 0.5 + 0.1
    return total


def both(
    ours: Callable[..., Any], theirs: Callable[..., Any], args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None, *, ulp: float = 32.0,
    gradient: bool | Sequence[int] = True,
) -> None:  # fmt: skip
    """Call accel and torch with the same arguments; compare what they return, and the gradients
    for the floating arguments (those at the places `gradient`), by a random cotangent."""
    kwargs = dict(kwargs or {})
    context = f"{getattr(ours, '__name__', ours)}{args}{kwargs}"[:2000]
    left = [to_accel(a) for a in args], {k: to_accel(v) for k, v in kwargs.items()}
    right = [to_torch(a) for a in args], {k: to_torch(v) for k, v in kwargs.items()}
    places = [i for i, a in enumerate(args) if _differentiable(a)] if gradient else []
    if not isinstance(gradient, bool):
        places = list(gradient)
    for i in places:
        left[0][i], right[0][i] = left[0][i].requires_grad_(), right[0][i].requires_grad_()
    found, wanted = ours(*left[0], **left[1]), theirs(*right[0], **right[1])
    agree(found, wanted, ulp, context)
    totals = [_weighted_sum(_leaves(r), _leaves(wanted), library)
              for r, library in ((found, accel), (wanted, torch))]  # fmt: skip
    for total in totals:
        if getattr(total, "requires_grad", False):  # else the gradient is zero
            total.backward()
    for i in places:
        slopes = [side[0][i].grad for side in (left, right)]
        a = accel.zeros_like(left[0][i]) if slopes[0] is None else slopes[0]
        b = torch.zeros_like(right[0][i]) if slopes[1] is None else slopes[1]
        agree(a, b, 4 * ulp, f"gradient {i} of {context}")


class Case:
    """One line of a table: a name, arguments, and how they are compared.

    Parameters
    ----------
    name
        Of the function, in accel and torch alike, dotted where it lies deeper; with a dot in
        front that of a method.
    args, kwargs
        Arrays become tensors of both libraries, dtypes of accel those of torch.
    """

    def __init__(self, name: str, *args: Any, ulp: float = 32.0,
                 gradient: bool | Sequence[int] = True, **kwargs: Any) -> None:  # fmt: skip
        self.name, self.args, self.kwargs = name, args, kwargs
        self.ulp, self.gradient = ulp, gradient

    def __repr__(self) -> str:
        def shown(value: Any) -> str:
            if isinstance(value, np.ndarray):
                return f"{value.dtype}{list(value.shape)}"
            if isinstance(value, (list, tuple)):
                return f"[{', '.join(map(shown, value))}]"
            return str(value)

        listed = [*map(shown, self.args), *[f"{k}={shown(v)}" for k, v in self.kwargs.items()]]
        return f"{self.name}({', '.join(listed)})"

    def check(self) -> None:
        ours, theirs = _function(accel, self.name), _function(torch, self.name)
        both(ours, theirs, self.args, self.kwargs, ulp=self.ulp, gradient=self.gradient)


def _function(library: Any, name: str) -> Any:
    if name.startswith("."):
        return lambda x, *args, **kwargs: getattr(x, name[1:])(*args, **kwargs)
    for part in name.split("."):
        library = getattr(library, part)
    return library


def by_name(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The cases of each function and of the method of its name."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.name.lstrip("."), []).append(case)
    return found


def check_all(cases: Sequence[Case]) -> None:
    """Check all cases and name every one that fails."""
    failures = []
    for case in cases:
        try:
            case.check()
        except Exception as error:
            failures.append(f"{case!r}: {type(error).__name__}: {str(error).strip()[:600]}")
    assert not failures, "\n\n".join(failures)
