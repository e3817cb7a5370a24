"""Tensors as objects: methods that only torch has, containment, text, HTML, copies, pickles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import accel
from accel import errors

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5


def test_facts_about_memory_and_shape() -> None:
    x = accel.asarray(X)
    assert x.stride() == (3, 1) and x.stride(0) == 3 and x.is_contiguous()
    assert x.T.stride() == (2, 1)  # how it lies is accel's affair
    assert (x.ndimension(), x.nelement(), x.get_device()) == (2, 6, -1)
    assert x.is_signed() and not x.astype(accel.uint8).is_signed() and not (x > 0).is_signed()
    assert x.is_same_size(X) and not x.is_same_size(x.T)
    assert x.type() == "accel.float32" and x.type(accel.int8).dtype is accel.int8
    assert accel.asarray([2]).is_nonzero() and not accel.asarray(0.0).is_nonzero()
    with pytest.raises(errors.ArgumentError, match="ambiguous"):
        x.is_nonzero()


def test_equal_is_torchs_as_a_method_and_the_standards_as_a_function() -> None:
    x = accel.asarray(X)
    assert x.equal(X) is True and x.equal(X + 1) is False and x.equal(X[:1]) is False
    assert accel.asarray([np.nan]).equal(accel.asarray([np.nan])) is False
    assert accel.zeros((0, 2)).equal(accel.zeros((0, 2))) is True
    assert accel.equal(x, X).shape == (2, 3)


def test_containment() -> None:
    x = accel.asarray(X)
    assert 0.5 in x and 7 not in x and accel.asarray(-2.5) in x and np.float32(2.5) in x
    assert "a" not in x and None not in x and 1.0 not in accel.zeros((0,))


@pytest.mark.parametrize(("found", "wanted"), [
    (lambda x: x.clamp_min(0), np.maximum(X, 0)), (lambda x: x.clamp_max(0), np.minimum(X, 0)),
    (lambda x: x.frac(), X - np.trunc(X)), (lambda x: x.reshape_as(np.ones(6)), X.reshape(6)),
    (lambda x: x[:1].expand_as(x), np.broadcast_to(X[:1], (2, 3))),
    (lambda x: x.sum_to_size(1, 3), X.sum(0, keepdims=True)),
    (lambda x: x.sum_to_size((3,)), X.sum(0)), (lambda x: x.sum_to_size(2, 3), X),
    (lambda x: x.dist(X * 0), np.sqrt((X * X).sum())), (lambda x: x.dist(X * 0, 1), abs(X).sum()),
    (lambda x: x.index_fill(1, [0, 2], 9), [[9, -1.5, 9], [9, 1.5, 9]]),
    (lambda x: x.abs().float_power(2), np.float64(X) ** 2),
    (lambda x: x.new_tensor([1, 2]), np.float32([1, 2])), (lambda x: x.new_empty(2).shape, (2,)),
])  # fmt: skip
def test_values(found: Any, wanted: Any) -> None:
    for run in (found, accel.compile(found)):
        result = run(accel.asarray(X))
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=1e-6)


def test_shapes_change_in_place() -> None:
    x = accel.asarray(X)
    y = x * 1
    assert x.unsqueeze_(0) is x and x.shape == (1, 2, 3)
    assert x.transpose_(1, 2).shape == (1, 3, 2) and x.squeeze_().shape == (3, 2)
    assert x.t_() is x and x.tolist() == y.tolist() and x.swapaxes_(0, 1).shape == (3, 2)
    with pytest.raises(errors.GradientError, match="unsqueeze_"):
        accel.tensor([1.0], requires_grad=True).unsqueeze_(0)
    with pytest.raises(errors.ShapeError, match="sum_to_size"):
        x.sum_to_size(2, 2, 2)


# -- shown ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("tensor", "text"), [
    (accel.asarray(2.5), "Tensor(2.5)"), (accel.asarray([1, 2]), "Tensor([1, 2])"),
    (accel.asarray(True), "Tensor(True)"), (accel.zeros((0, 3)), "Tensor([], shape=(0, 3))"),
    (accel.zeros((0,), dtype=accel.int8), "Tensor([], dtype=int8)"),
    (accel.ones(2, dtype=accel.float16), "Tensor([1., 1.], dtype=float16)"),
    (accel.ones(2, dtype=accel.bfloat16), "Tensor([1., 1.], dtype=bfloat16)"),
    (accel.asarray([1j]), "Tensor([0.+1.j], dtype=complex64)"),
    (accel.ones(1, requires_grad=True), "Tensor([1.], requires_grad=True)"),
    (accel.asarray([[1.0], [2.0]]), "Tensor([[1.],\n        [2.]])"),
])  # fmt: skip
def test_text(tensor: accel.Tensor, text: str) -> None:
    assert repr(tensor) == str(tensor) == text


def test_large_tensors_are_shown_in_part() -> None:
    x = accel.zeros((1000, 1000))
    assert "..." in repr(x) and len(repr(x)) < 1000
    assert x._repr_html_().count("<td>") == 13 * 13 and "1000 × 1000, float32" in x._repr_html_()


def test_html() -> None:
    assert accel.asarray([[1.0, 2.5]])._repr_html_() == (
        "<div><b>Tensor</b> 1 × 2, float32<table><tr><td>1</td><td>2.5</td></tr></table></div>"
    )
    assert accel.asarray([1, 2])._repr_html_().count("<td>") == 2
    for x in (accel.asarray(3.0), accel.zeros((2, 2, 2)), accel.zeros((0, 2))):
        assert "<pre>Tensor(" in x._repr_html_()
    accel.compile(lambda x: x if "traced" in x._repr_html_() else None)(np.ones(2))


def test_numbers_are_written_as_numbers() -> None:
    x = accel.asarray([1.0, 2.0])
    assert f"{x.sum()} {x.sum():.2f} {accel.asarray(3)}" == "3.0 3.00 3"
    assert f"{x}" == "Tensor([1., 2.])"
    with pytest.raises(errors.ArgumentError, match="format"):
        f"{x:.2f}"
    seen = []
    accel.compile(lambda x: seen.append(f"{x.sum()}") or x)(np.ones(2))
    assert seen == ["Tensor(traced f64[])"]


# -- copies ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["bool", "uint64", "float16", "bfloat16", "complex64"])
def test_copies_and_pickles(name: str) -> None:
    x = accel.ones((2, 0, 3) if name == "bool" else (2, 3), dtype=getattr(accel, name))
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y is not x and y.dtype is x.dtype and y.shape == x.shape and y.device == x.device
        assert y.tolist() == x.tolist()
    leaf = accel.tensor([1.0], requires_grad=True)
    assert pickle.loads(pickle.dumps({"a": leaf}))["a"].requires_grad


# -- dtypes ---------------------------------------------------------------------------------
def test_dtypes_compare_with_numpys() -> None:
    x = accel.ones(2)
    assert x.dtype == np.float32 and x.dtype == np.dtype("f4") and np.dtype("f4") == x.dtype
    assert x.dtype == "float32" and x.dtype != np.float64 and x.dtype != "f8" and x.dtype != 1
    assert x.dtype in (np.float64, np.float32) and accel.bfloat16 != np.float16
    assert len({accel.float32, accel.float64, accel.zeros(1).dtype}) == 2

    def widened(x: Any) -> Any:
        return x * 2 if x.dtype == np.float64 else x.astype(np.float64)

    assert accel.compile(widened)(np.ones(2, np.float32)).tolist() == [1.0, 1.0]
