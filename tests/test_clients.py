"""Libraries and modules that take any arrays: what they do with Tensors."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel

Check = Callable[..., None]
X = np.arange(12.0).reshape(3, 4)


def test_the_standard_s_helpers_know_accel() -> None:
    compat = pytest.importorskip("array_api_compat")
    x = accel.asarray(X)
    assert compat.array_namespace(x, 1.0, None) is accel
    assert compat.is_array_api_obj(x) and compat.is_writeable_array(x)
    assert not compat.is_lazy_array(x), "values are there when they are asked for"
    assert compat.device(x) == x.device and compat.size(x) == 12
    assert compat.to_device(x, "cpu") is x or compat.to_device(x, "cpu").tolist() == x.tolist()


EXTRA: dict[str, Any] = {
    "set": lambda xpx, x: xpx.at(x)[1].set(5.0),
    "add": lambda xpx, x: xpx.at(x, (0, slice(1, 3))).add(5.0),
    "multiply where": lambda xpx, x: xpx.at(x, x > 4).multiply(2.0),
    "min": lambda xpx, x: xpx.at(x)[:, 0].min(3.0),
    "power of a copy": lambda xpx, x: xpx.at(x)[0, :].power(2.0, copy=True),
    "atleast_nd": lambda xpx, x: xpx.atleast_nd(x, ndim=4),
    "cov": lambda xpx, x: xpx.cov(x),
    "create_diagonal": lambda xpx, x: xpx.create_diagonal(x[0], offset=1),
    "kron": lambda xpx, x: xpx.kron(x, x),
    "pad": lambda xpx, x: xpx.pad(x, ((1, 2), (0, 1)), constant_values=3.0),
    "setdiff1d": lambda xpx, x: xpx.setdiff1d(x[0], x[0, :2]),
    "sinc": lambda xpx, x: xpx.sinc(x),
    "isclose": lambda xpx, x: xpx.isclose(x, x + 1e-9),
    "apply_where": lambda xpx, x: xpx.apply_where(x > 2, x, lambda t: t * 2, lambda t: -t),
    "nan_to_num": lambda xpx, x: xpx.nan_to_num(x * np.nan, fill_value=2.0),
    "lazy_apply": lambda xpx, x: xpx.lazy_apply(lambda t: np.asarray(t) * 2, x, as_numpy=True),
}


@pytest.mark.parametrize("case", EXTRA.values(), ids=EXTRA.keys())
def test_the_standard_s_extras(case: Any, agrees_with_numpy: Check) -> None:
    xpx = pytest.importorskip("array_api_extra")
    agrees_with_numpy(lambda x: case(xpx, x), X)


def test_scipy_ufuncs_are_recorded(agrees_with_numpy: Check) -> None:
    """They are NumPy's kind of ufunc; those that accel has compile and differentiate."""
    pytest.importorskip("scipy", minversion="1.17")
    from scipy.special import _ufuncs as theirs

    for name in ("erf", "erfc", "expit", "log1p", "expm1", "exp2"):
        function = getattr(theirs, name)
        agrees_with_numpy(function, X / 12)
        compiled = accel.compile(lambda x, function=function: function(x) * 2)
        np.testing.assert_allclose(compiled(X / 12), function(X / 12) * 2, rtol=1e-12)
    agrees_with_numpy(theirs.logit, X / 12 + 0.01)
    agrees_with_numpy(theirs.xlogy, X, X)
    slope = accel.grad(lambda x: theirs.expit(x).sum())(accel.asarray(0.0))
    assert slope.item() == 0.25
    with pytest.raises(accel.errors.UnsupportedFunctionError, match="jv"):
        theirs.jv(1.0, accel.asarray(X))


def test_einsum_libraries(agrees_with_numpy: Check) -> None:
    einops = pytest.importorskip("einops.array_api")
    contract = pytest.importorskip("opt_einsum").contract
    agrees_with_numpy(lambda x: einops.rearrange(x, "a (b c) -> c (a b)", b=2), X)
    agrees_with_numpy(lambda x: einops.reduce(x, "a b -> a", "mean"), X)
    agrees_with_numpy(lambda x: einops.repeat(x, "a b -> a b k", k=2), X)
    agrees_with_numpy(lambda x, y: contract("ab,cb,cd->ad", x, x, y), X, X + 1)


def test_copies_and_files(tmp_path: Path) -> None:
    x = accel.asarray(X)
    for made in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x)):
        assert type(made) is accel.Tensor and made.dtype == x.dtype
        np.testing.assert_array_equal(made, X)
    assert json.loads(json.dumps(x.tolist())) == X.tolist()
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)
    np.savez(tmp_path / "x.npz", x=x, y=x * 2)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["y"], X * 2)
    np.savetxt(tmp_path / "x.txt", x)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "x.txt"), X)
    assert np.array2string(x[0]) == np.array2string(X[0])


def test_progress_bars_know_the_length() -> None:
    from tqdm import tqdm

    bar = tqdm(accel.asarray(X), disable=True)
    assert len(bar) == 3 and [row.shape for row in bar] == [(4,)] * 3


def test_tables_and_plots_take_tensors() -> None:
    pandas = pytest.importorskip("pandas")
    x = accel.asarray(X)
    np.testing.assert_array_equal(pandas.DataFrame(x), X)
    assert pandas.DataFrame({"a": x[0]}).dtypes["a"] == np.float64
    np.testing.assert_array_equal(pandas.Series(X[0]) * x[1], X[0] * X[1])
    np.testing.assert_array_equal(accel.asarray(pandas.DataFrame(X)), X)


def test_bars_broadcast_lists_and_tensors() -> None:
    """As matplotlib's bar calls it."""
    positions, heights, width = np.broadcast_arrays([0, 1, 2, 3], accel.asarray(X[0]), 0.8)
    assert isinstance(heights, accel.Tensor) and width.shape == (4,)
    assert positions.tolist() == [0, 1, 2, 3]
