"""Every op runs on every target for every dtype that it takes, or says why not; and the pages that
say so are up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from accel.inspect.support import support
from accel.ir import Op, all_ops
from accel.ir.dtypes import ALL

ROOT = Path(__file__).parent.parent
OPS = [op for op in all_ops().values() if op.form != "structure" and op.name != "constant"]


def check(op: Op, target: str) -> None:
    found = support(op, target)
    assert found, "a dtype that it takes"
    for entry in found:
        assert entry.dtype in ALL and entry.by in ("native", "torch", "expansion", "reference")
        assert (entry.by == "reference") == bool(entry.reason)
        if entry.by == "reference" and target == "pure":
            reasons = {o.why_unsupported for o in OPS} - {""}  # of the op or its expansion
            foreign = entry.reason.endswith("has no native kernels")
            half = entry.dtype.bits == 16 and op.name in ("nextafter", "cumargmax", "cumargmin")
            assert entry.reason in reasons or foreign or half


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_dtype_runs_natively_or_for_a_reason(op: Op) -> None:
    check(op, "pure")


@pytest.mark.torch
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_dtype_runs_on_torch_or_for_a_reason(op: Op) -> None:
    check(op, "torch")


#: What models use in their hot paths.
HOT = """
    convolution convolution_input_gradient convolution_weight_gradient max_pool avg_pool
    layer_norm rms_norm softmax log_softmax scaled_dot_product_attention gather take
    scatter_add cumsum argmax embedding cross_entropy matmul linear gelu relu sum mean
""".split()


@pytest.mark.parametrize("name", HOT)
def test_what_models_run_most_is_native(name: str) -> None:
    found = {s.dtype.name: s.by for s in support(all_ops()[name], "pure")}
    for dtype in ("float32", "float64"):
        if dtype in found:
            assert found[dtype] in ("native", "expansion")
    assert "float32" in found or "int64" in found


@pytest.mark.torch
def test_the_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("document_ops", ROOT / "tools/document_ops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wanted = module.pages()
    folder = ROOT / "docs" / "ops"
    assert {p.name for p in folder.iterdir()} == set(wanted)
    stale = [n for n, t in wanted.items() if (folder / n).read_text(encoding="utf-8") != t]
    assert not stale, f"run: python tools/document_ops.py ({', '.join(stale)})"
