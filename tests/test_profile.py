"""Profiles: every kernel of a call with its time, its work and the user's line."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel import nn, optim
from accel.errors import TraceError


def model():
    accel.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


X = np.linspace(-1, 1, 32 * 64, dtype=np.float32).reshape(32, 64)


def test_rows_are_the_kernels_in_order():
    net = model()

    @accel.compile
    def f(x):
        return accel.softmax(net(x), -1).cumsum(0)  # the line of the softmax

    found = f.profile(X)
    kernels = [row.part.what.rsplit("_", 1)[0] for row in found.rows]
    assert [k for k in kernels if k != "pack"] == [
        "matmul_add_relu", "matmul_add", "amax_sub_exp_sum_reciprocal_mul", "cumsum",
    ]  # fmt: skip
    assert all(row.seconds > 0 and row.part.nbytes > 0 for row in found.rows)
    products = [row.part.flop for row in found.rows if row.part.flop]
    assert products == [2 * 32 * 64 * 128, 2 * 32 * 128 * 10]
    lines = {row.part.loc.line for row in found.rows if row.part.loc and "test_profile" in
             row.part.loc.file}  # fmt: skip
    assert f.__wrapped__.__code__.co_firstlineno + 2 in lines
    assert {row.target for row in found.rows} == {"pure"}
    assert found.runs >= 5 and found.seconds > 0


def test_the_table_names_columns_and_totals():
    text = str(accel.compile(lambda x: accel.exp(x) @ x.T).profile(X))
    head, rule, *rows, summary = text.splitlines()
    assert head.split() == ["time", "share", "what", "region", "target", "line", "GB/s", "GFLOP/s"]
    assert set(rule) == {"-", " "} and len(rows) >= 2
    assert "test_profile.py:" in rows[0]
    assert "in parts" in summary and "as a whole" in summary


def test_nothing_is_written_back():
    net = model()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    before = [p.numpy().copy() for p in net.parameters()]

    @accel.compile
    def step(x):
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    found = step.profile(X)
    assert len(found.rows) > 5
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    step(X)
    assert any((p.numpy() != old).any() for p, old in zip(net.parameters(), before, strict=True))


def test_reference_steps_have_rows_of_their_own():
    rows = accel.compile(lambda x: accel.exp(accel.real(accel.fft.fft(x)))).profile(X).rows
    found = [row.part for row in rows if "(NumPy reference)" in row.part.what]
    (transform,) = [part for part in found if part.what.startswith("fft")]
    assert transform.nbytes == 4 * X.nbytes  # complex numbers in and out


def test_reference_mode_and_what_computes_nothing():
    with accel.mode("reference"):
        (row,) = accel.compile(lambda x: x + 1).profile(X).rows
    assert row.target == "reference"
    with pytest.raises(TraceError, match="computes nothing"):
        accel.compile(lambda x: 3).profile(X)


@pytest.mark.torch
def test_on_torch_every_call_is_a_row():
    net = model()
    with accel.mode("torch"):
        rows = accel.compile(lambda x: accel.tanh(net(x))).profile(X).rows
    assert [row.part.what for row in rows] == ["linear", "relu", "linear", "tanh"]
    assert {row.target for row in rows} == {"torch"}
