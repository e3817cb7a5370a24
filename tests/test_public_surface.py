"""The page of public names holds: each exists, is documented, and runs, lazily and compiled.

`CALLS` has a call for every name of docs/api.md that computes something. The calls run on the
pure target here and on torch as well where it is, and are compared with the reference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel import nn, optim
from accel.errors import AccelError
from accel.ir import parse
from accel.nn import functional
from accel.testing import assert_targets_agree

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text()

#: Where the names of a group live when not in `accel` itself, by what the page says before them.
HOMES = {
    "in `accel.autograd`": accel.autograd,
    "in `accel.linalg`": accel.linalg, "in `accel.fft`": accel.fft,
    "in `accel.nn.functional`": functional, "in `accel.testing`": accel.testing,
    "in `accel.cuda`": accel.cuda, "on a Stream": accel.cuda.Stream, "on a Tensor": accel.Tensor,
    "on a Graph": accel.ir.Graph, "on the result": type(accel.compile(lambda: None)),
}  # fmt: skip


def names() -> list[tuple[str, Any, str]]:
    """Group, home and name of everything in the page's tables of names."""
    found = []
    for group, cell in re.findall(r"^\| ([a-zA-Z, -]+) \| (.*`.*) \|$", PAGE, re.M):
        for clause in cell.split(";"):
            said = next((said for said in HOMES if said in clause), None)
            home = HOMES[said] if said else accel
            for name in re.findall(r"`(\w+)`", clause.replace(said or "", "")):
                found.append((group, home, name))
    return [f for f in found if f[2] not in ("add_", "zero_grad", "None")]


NAMES = names()

X = np.linspace(-1.9, 2.3, 12).reshape(3, 4).astype(np.float32)
Y = np.linspace(3.1, 0.4, 12).reshape(3, 4).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.3)
UNIT = X / np.float32(2.5)
INTS = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]], np.int64)
BITS = np.array([[1, 0, 2, 3], [1, 1, 0, 2], [0, 3, 1, 1]], np.int64)
FLAGS = X > 0
COMPLEX = (X + 1j * Y).astype(np.complex64)
SQUARE = (np.eye(4) * 3 + np.arange(16).reshape(4, 4) / 10).astype(np.float32)
SYMMETRIC = (SQUARE @ SQUARE.T).astype(np.float32)
PLACES = np.array([[0, 2, 1, 0]], np.int64)
CLASSES = np.array([0, 3, 1], np.int64)
IMAGES = np.linspace(-1, 1, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6).astype(np.float32)
SIGNALS = np.linspace(-1, 1, 2 * 4 * 9).reshape(2, 4, 9).astype(np.float32)
KERNELS = np.linspace(-0.5, 0.5, 4 * 4 * 3 * 3).reshape(4, 4, 3, 3).astype(np.float32)
TOKENS = np.linspace(-1, 1, 2 * 3 * 5 * 4).reshape(2, 3, 5, 4).astype(np.float32)

VALUES = {
    "x": X, "y": Y, "p": POSITIVE, "u": UNIT, "i": INTS, "k": BITS, "b": FLAGS, "c": COMPLEX,
    "m": SQUARE, "s": SYMMETRIC, "at": PLACES, "classes": CLASSES, "images": IMAGES,
    "signals": SIGNALS, "kernels": KERNELS, "tokens": TOKENS,
}  # fmt: skip


def each(call: str, listed: str) -> dict[str, str]:
    return {name: call.replace("NAME", name) for name in listed.split()}


#: A call for each name, of some of `VALUES`.
CALLS: dict[str, str] = {
    **each("accel.NAME((2, 3)) + x[0, 0]", "zeros ones"),
    **each("accel.NAME(x)", "zeros_like ones_like tril triu trace diagonal ravel flatten "
           "contiguous"),
    **each("accel.NAME(x) + 1", "from_data asarray tensor"),
    **each("accel.NAME((2, 3)).shape[0] * x", "empty"),
    **each("accel.NAME(x).shape[0] * x", "empty_like"),
    **each("accel.NAME(3, 4)", "rand randn"), "full": "accel.full((2, 3), 1.5) * x[0, 0]",
    "full_like": "accel.full_like(x, 2.5)", "eye": "accel.eye(3, 4) * x",
    "arange": "accel.arange(4) * x", "linspace": "accel.linspace(0, 1, 4) * x",
    "meshgrid": "accel.meshgrid(x[0], y[1])",
    "randint": "accel.randint(0, 9, (3, 4))",
    "normal": "accel.normal(0.0, 1.0, (3, 4))", "uniform": "accel.uniform(0.0, 1.0, (3, 4))",
    "bernoulli": "accel.bernoulli(u * u)",
    "multinomial": "accel.multinomial(p, 2, replacement=True)",
    # element-wise
    **each("accel.NAME(x, y)", "add sub subtract mul multiply div divide floor_divide remainder "
           "fmod logaddexp atan2 hypot copysign maximum minimum nextafter eq ne not_equal lt "
           "less le less_equal gt greater ge greater_equal equal isclose logical_and logical_or "
           "logical_xor"),
    **each("accel.NAME(x, 2.5)", "add_scalar mul_scalar"),
    **each("accel.NAME(x)", "neg negative positive abs exp square sign floor ceil round trunc "
           "exp2 expm1 sin cos tan atan sinh cosh tanh asinh erf erfc isfinite isinf isnan "
           "signbit"),
    **each("accel.NAME(p)", "sqrt log rsqrt reciprocal log1p log2 log10"),
    **each("accel.NAME(u)", "asin acos atanh"), "acosh": "accel.acosh(p + 1)",
    "pow": "accel.pow(p, y)", **each("accel.NAME(x, -1.0, 1.5)", "clip clamp"),
    "lerp": "accel.lerp(x, y, 0.3)", "addcmul": "accel.addcmul(x, y, p, value=0.5)",
    **each("accel.NAME(c)", "real imag conj"), "where": "accel.where(b, x, y)",
    "logical_not": "accel.logical_not(b)", "allclose": "accel.asarray(accel.allclose(x, y))",
    **each("accel.NAME(i, k)", "bitwise_and bitwise_or bitwise_xor bitwise_left_shift "
           "bitwise_right_shift"),
    "bitwise_invert": "accel.bitwise_invert(i)",
    # activations
    **each("accel.NAME(x)", "relu sigmoid leaky_relu gelu elu selu celu silu mish softplus "
           "hardtanh hardswish relu6 logsigmoid"),
    **each("accel.NAME(x, -1)", "softmax log_softmax"), "prelu": "accel.prelu(x, y[0])",
    "glu": "accel.glu(x)",
    # products
    "matmul": "accel.matmul(x, m)", "dot": "accel.dot(x[0], y[0])",
    "transpose": "accel.transpose(x, 0, 1)", "t": "accel.t(x)", "vecdot": "accel.vecdot(x, y)",
    "tensordot": "accel.tensordot(x, m, 1)", "outer": "accel.outer(x[0], y[1])",
    "bmm": "accel.bmm(tokens[0], tokens[1].mT)", "einsum": "accel.einsum('ij,jk->ki', x, m)",
    "kron": "accel.kron(x, y)", "cross": "accel.cross(x[:, :3], y[:, :3])",
    **each("accel.linalg.NAME(x)", "norm vector_norm matrix_norm svdvals pinv matrix_rank"),
    **each("accel.linalg.NAME(m)", "det slogdet inv inverse"),
    **each("accel.linalg.NAME(s)", "eigvalsh cholesky"),
    **each("product_of(accel.linalg.NAME(s))", "svd eig eigh qr"),
    "solve": "accel.linalg.solve(m, s)", "lstsq": "accel.linalg.lstsq(m, s)[0]",
    "matrix_power": "accel.linalg.matrix_power(m, 3)",
    # reductions
    **each("accel.NAME(x, axis=1)", "sum mean max amax min amin argmax argmin std var prod "
           "logsumexp count_nonzero median cumsum cumprod"),
    **each("accel.NAME(b, axis=0)", "any all"), "quantile": "accel.quantile(x, 0.3, axis=1)",
    **each("accel.NAME(x, axis=1)", "cumulative_sum cumulative_prod"),
    # shape
    **each("accel.NAME(x, (4, 3))", "reshape view"),
    **each("accel.NAME(x, (1, 0))", "permute permute_dims"), "squeeze": "accel.squeeze(x[:1], 0)",
    "unsqueeze": "accel.unsqueeze(x, 1)", "expand_dims": "accel.expand_dims(x, axis=1)",
    "swapaxes": "accel.swapaxes(x, 0, 1)", **each("accel.NAME(x, 0, 1)", "movedim moveaxis"),
    **each("accel.NAME(x, (2, 3, 4))", "broadcast_to expand"),
    "repeat": "accel.repeat(x, 2, axis=0)", "tile": "accel.tile(x, (2, 1))",
    "flip": "accel.flip(x, axis=0)", "roll": "accel.roll(x, 1, axis=0)",
    "pad": "accel.pad(x, (1, 2))", "unflatten": "accel.unflatten(x, 1, (2, 2))",
    # indexing
    "slice": "accel.slice(x, 1, 0, 3, 2)", "index_select": "accel.index_select(x, 0, at[0] % 3)",
    "gather": "accel.gather(x, 0, at)", "scatter": "accel.scatter(x, 0, at, y)",
    "scatter_add": "accel.scatter_add(x, 0, at, y)", "take": "accel.take(x, at[0] % 3, axis=0)",
    "take_along_axis": "accel.take_along_axis(x, at, axis=0)",
    "masked_select": "accel.masked_select(x, b)", **each("accel.NAME([x, y], 0)", "cat"),
    **each("accel.NAME([x, y], axis=0)", "concat stack"),
    **each("accel.NAME(x, 2, 1)", "split chunk"), "unbind": "accel.unbind(x, 0)",
    "unstack": "accel.unstack(x, axis=0)", "nonzero": "accel.nonzero(x)",
    "searchsorted": "accel.searchsorted(accel.sort(x[0], axis=0), y[0])",
    **each("accel.NAME(x, axis=1)", "sort argsort"), "topk": "accel.topk(x, 2)",
    "isin": "accel.isin(i, k)",
    **each("accel.NAME(i)", "unique_values unique_counts unique_inverse unique_all"),
    # Fourier transforms
    **each("accel.fft.NAME(c)", "fft ifft fftn ifftn irfft irfftn hfft"),
    **each("accel.fft.NAME(x)", "rfft rfftn ihfft"), **each("accel.fft.NAME(4) * x", "fftfreq"),
    "rfftfreq": "accel.fft.rfftfreq(6) * x", **each("accel.fft.NAME(x)", "fftshift ifftshift"),
    # neural
    "linear": "functional.linear(x, m, y[0])",
    "conv1d": "functional.conv1d(signals, kernels[:, :, 0])",
    "conv2d": "functional.conv2d(images, kernels, padding='same')",
    "conv_transpose2d": "functional.conv_transpose2d(images, kernels, stride=2)",
    **each("functional.NAME(images, 2)", "max_pool2d avg_pool2d adaptive_avg_pool2d"),
    "batch_norm": "functional.batch_norm(images, x[0], p[0])",
    "layer_norm": "functional.layer_norm(x, (4,))",
    "group_norm": "functional.group_norm(images, 2)", "rms_norm": "functional.rms_norm(x, (4,))",
    "dropout": "functional.dropout(x, 0.5)", "embedding": "functional.embedding(classes, m)",
    "one_hot": "functional.one_hot(classes, 5)",
    "scaled_dot_product_attention":
        "functional.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)",
    "interpolate": "functional.interpolate(images, scale_factor=2, mode='bilinear')",
    # losses
    **each("functional.NAME(x, y)", "mse_loss l1_loss smooth_l1_loss huber_loss "
           "cosine_similarity"),
    **each("functional.NAME(x, classes)", "cross_entropy nll_loss"),
    "binary_cross_entropy": "functional.binary_cross_entropy(u * u, p / 4)",
    "binary_cross_entropy_with_logits": "functional.binary_cross_entropy_with_logits(x, p / 4)",
    "kl_div": "functional.kl_div(accel.log(p), p)",
    # autodiff, devices, dtypes
    "grad": "accel.grad(lambda v: (v * v).sum())(x)",
    "value_and_grad": "accel.value_and_grad(lambda v: (v * v).sum())(x)",
    "vjp": "accel.vjp(accel.sin, x)[1](y)[0]", "jvp": "accel.jvp(accel.sin, (x,), (y,))[1]",
    **each("accel.NAME(lambda v: accel.sin(v[0]) * v[1])(x)", "jacobian jacrev jacfwd"),
    "hessian": "accel.hessian(lambda v: (v[0] * v[1] * v[2]).sum())(x)",
    "checkpoint": "accel.checkpoint(accel.sin, x)", "stop_gradient": "accel.stop_gradient(x) * x",
    **each("x.NAME() * 2", "detach cpu clone requires_grad_"), "to": "x.to('cpu', accel.float64)",
    "astype": "accel.astype(x, accel.float64)",
}  # fmt: skip

#: Results whose shapes depend on the values: computed at once, impossible while tracing.
DATA_DEPENDENT = {"masked_select", "nonzero", "unique_values", "unique_counts", "unique_inverse",
                  "unique_all"}  # fmt: skip

#: What gives no arrays, or only outside of functions: these have tests of their own below.
OTHER = set("""
    compile graph explain stages llvm_ir assembly profile cache_info clear_cache
    explain_recompiles set_mode get_mode mode set_threshold get_threshold thresholds use_preset
    calibrate stats reset_stats print_stats enable_logging torch_available torch_version
    cuda_available info set_num_threads get_num_threads eval block_until_ready numpy item tolist
    no_grad enable_grad set_grad_enabled is_grad_enabled inference_mode custom_vjp
    assert_targets_agree graphs arrays parse to_networkx to_dot to_html
    shape ndim numel size dtype device requires_grad backward is_leaf cuda is_cuda to_stream
    Stream synchronize query free memory_allocated max_memory_allocated empty_cache
    reset_peak_memory bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16
    float32 float64 complex64 complex128 can_cast result_type finfo iinfo isdtype from_dlpack
    from_numpy randperm manual_seed
""".split())

RANDOM = set("rand randn normal uniform randint bernoulli multinomial dropout".split())


def product_of(parts: Any) -> Any:
    """What a decomposition is one of: free of the signs that its parts may have."""
    *outer, last = parts
    if len(outer) == 2:  # svd
        return (outer[0] * outer[1]) @ last
    if outer[0].ndim == 1:  # eigenvalues, eigenvectors
        return accel.real((last * outer[0]) @ accel.linalg.inv(last))
    return outer[0] @ last


def function_of(name: str) -> Any:
    """The call of a name as a function of `VALUES`, and those that it takes."""
    text = CALLS[name]
    used = [v for v in VALUES if re.search(rf"(?<![\w.'\"]){v}\b(?!=)", text)]
    seed = "accel.manual_seed(5), " if name in RANDOM else "0, "
    scope = {"accel": accel, "functional": functional, "product_of": product_of}
    function = eval(f"lambda {', '.join(used)}: ({seed}{text})[1]", scope)
    return function, [VALUES[v] for v in used]


def plain(results: Any) -> list[np.ndarray]:
    from accel.frontend.tensors.trees import leaves

    return [np.asarray(r) for r in leaves(results)]


@pytest.mark.parametrize(("group", "home", "name"), NAMES, ids=[f"{g}-{n}" for g, _, n in NAMES])
def test_exists_and_is_documented(group: str, home: Any, name: str) -> None:
    found = getattr(home, name)
    if isinstance(found, type(accel.float32)):
        return
    documentation = found.__doc__ or ""
    assert len(documentation) > 10, "a sentence"
    if home is not accel.Tensor and callable(found) and not isinstance(found, type):
        assert "." in documentation


def test_every_name_has_a_call() -> None:
    listed = {name for _, _, name in NAMES}
    assert listed - set(CALLS) - OTHER == set()
    assert (set(CALLS) | OTHER) - listed == set()


COMPUTED = sorted(set(CALLS) - DATA_DEPENDENT)


@pytest.mark.parametrize("name", COMPUTED)
def test_runs_lazily_and_compiled(name: str) -> None:
    function, args = function_of(name)
    assert_targets_agree(function, *args, targets=["pure"])


@pytest.mark.torch
@pytest.mark.parametrize("name", COMPUTED)
def test_runs_lazily_and_compiled_on_torch(name: str) -> None:
    function, args = function_of(name)
    assert_targets_agree(function, *args, targets=["torch"])


def check_data_dependent(name: str, mode: str) -> None:
    function, args = function_of(name)
    with accel.mode("reference"):
        wanted = plain(function(*map(accel.asarray, args)))
    with accel.mode(mode):
        found = plain(function(*map(accel.asarray, args)))
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(AccelError, match=r"(?s)test_public_surface|<string>") as failure:
            accel.compile(function)(*args)
        assert failure.value.remedy


@pytest.mark.parametrize("name", sorted(DATA_DEPENDENT))
def test_shapes_that_depend_on_values(name: str) -> None:
    check_data_dependent(name, "pure")


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(DATA_DEPENDENT))
def test_shapes_that_depend_on_values_on_torch(name: str) -> None:
    check_data_dependent(name, "torch")


@pytest.mark.torch
def test_what_torch_has_as_a_method_is_one() -> None:
    import torch

    tensor_groups = PAGE.split("## Tensor functions")[1]
    listed = {n for _, home, n in NAMES if home in (accel, accel.linalg, accel.nn.functional)
              and f"`{n}`" in tensor_groups}  # fmt: skip
    listed -= {"eig", "lstsq", "solve"}  # torch's say that they were removed
    missing = {n for n in listed if hasattr(torch.Tensor, n) and not hasattr(accel.Tensor, n)}
    assert not missing
    in_place = {f"{n}_" for n in listed if hasattr(torch.Tensor, f"{n}_")}
    assert not {n for n in in_place if not hasattr(accel.Tensor, n)}


# -- what gives no arrays ---------------------------------------------------------------------
def test_the_library_itself() -> None:
    assert accel.get_mode() in ("pure", "torch", "auto")
    with accel.mode("auto"):
        assert accel.get_mode() == "auto"
    before = accel.get_threshold("matmul")
    accel.set_threshold("matmul", 123)
    assert accel.thresholds()["matmul"] == accel.get_threshold("matmul") == 123
    accel.set_threshold("matmul", before)
    assert accel.stats().pure_count >= 0 and accel.info().mode
    assert isinstance(accel.torch_available(), bool) and isinstance(accel.cuda_available(), bool)
    assert accel.torch_version() is None or isinstance(accel.torch_version(), str)
    assert accel.get_num_threads() >= 1


def test_what_is_made_outside_of_functions() -> None:
    for make in (accel.from_numpy, accel.from_dlpack):
        assert make(X).tolist() == X.tolist()
    accel.manual_seed(4)
    first = accel.randperm(9).tolist()
    assert sorted(first) == list(range(9)) and first != accel.randperm(9).tolist()
    accel.manual_seed(4)
    assert accel.randperm(9).tolist() == first


def test_looking_inside() -> None:
    f = accel.compile(lambda x: accel.exp(x).sum())
    graph = f.graph(X)
    assert parse(str(graph)) == graph
    assert graph.to_dot() and graph.to_html() and len(graph.to_networkx())
    assert set(f.stages(X)) == {"recorded", "optimized", "fused", "placed"}
    assert "pure" in str(f.explain(X)) and "define" in f.llvm_ir(X) and f.assembly(X)
    assert f.profile(X).rows and f.explain_recompiles() == []
    f(X)
    assert f.cache_info().size == 1
    f.clear_cache()
    assert f.cache_info().size == 0


def test_reading() -> None:
    x = accel.asarray(X)
    y = (x * 2).block_until_ready()
    accel.eval(y)
    assert y.tolist() == y.numpy().tolist() and y[0, 0].item() == y.tolist()[0][0]
    assert (x.ndim, x.shape, x.numel(), x.dtype) == (2, (3, 4), 12, accel.float32)
    assert x.device == "cpu" and not x.is_cuda


def test_autograd_as_in_torch() -> None:
    x = accel.asarray(X).requires_grad_()
    assert x.is_leaf and x.requires_grad
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * X)
    model = nn.Linear(4, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for owner in (model, optimizer):
        model(accel.asarray(X)).sum().backward()
        owner.zero_grad()
        assert model.weight.grad is None or not model.weight.grad.numpy().any()
    with accel.no_grad():
        assert not (x * 2).requires_grad
        with accel.enable_grad():
            assert (x * 2).requires_grad


def test_memory() -> None:
    accel.reset_peak_memory()
    x = accel.ones((1024, 1024)) * 2
    accel.eval(x)
    assert accel.max_memory_allocated() >= accel.memory_allocated() > 0
    x.free()
    accel.empty_cache()


def test_dtypes() -> None:
    assert accel.can_cast(accel.int8, accel.int32) and not accel.can_cast(accel.int32, accel.int8)
    assert accel.result_type(accel.int8, accel.uint8) is accel.int16
    assert accel.finfo(accel.float32).bits == 32 and accel.iinfo(accel.uint8).max == 255
    assert accel.isdtype(accel.bfloat16, "real floating")


@pytest.mark.skipif(accel.cuda_available(), reason="there is a CUDA device")
def test_without_cuda_errors_are_clear() -> None:
    x = accel.ones(3)
    for call in (x.cuda, lambda: x.to("cuda:0"), accel.cuda.Stream):
        with pytest.raises(AccelError, match=r"(?i)cuda|torch") as failure:
            call()
        assert failure.value.remedy
