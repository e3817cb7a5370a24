"""Modules: their tree, their state, their layers' values and gradients."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest

import accel
from accel import errors, nn
from accel.ir.dtypes import to_dtype
from accel.nn import functional


def perceptron(hidden: int = 8) -> nn.Sequential:
    accel.manual_seed(0)
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))


class Counter(nn.Module):
    """Keeps a buffer, a transient buffer and no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", accel.zeros(()))
        self.register_buffer("last", accel.zeros((2,)), persistent=False)

    def forward(self, x):
        self.total += x.sum()
        return x


# The tree -----------------------------------------------------------------------------------


def test_parameters_have_torchs_names_and_order() -> None:
    names = [name for name, _ in perceptron().named_parameters()]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_shared_parameter_is_listed_once_and_saved_under_both_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.out = nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight

    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["embed.weight"]
    assert list(model.state_dict()) == ["embed.weight", "out.weight"]


def test_subclass_that_forgets_super_init_still_works() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(2, 2)

    assert len(list(Careless().parameters())) == 2


def test_named_modules_children_and_paths() -> None:
    model = nn.Sequential(perceptron(), nn.Identity())
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.0", "0.1", "0.2", "1"]
    assert [name for name, _ in model.named_children()] == ["0", "1"]
    assert model.get_submodule("0.2") is model[0][2]
    assert model.get_parameter("0.2.bias") is model[0][2].bias
    with pytest.raises(errors.ArgumentError, match="no submodule"):
        model.get_submodule("0.9")
    with pytest.raises(errors.ArgumentError, match="no parameter"):
        model.get_parameter("0.2.gain")


def test_buffers_persistence_and_removal() -> None:
    module = Counter()
    assert [name for name, _ in module.named_buffers()] == ["total", "last"]
    assert list(module.state_dict()) == ["total"]
    assert list(module.parameters()) == []
    del module.last
    assert [name for name, _ in module.named_buffers()] == ["total"]


def test_replacing_a_parameter_by_none_removes_it() -> None:
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer(accel.ones((1, 2))).shape == (1, 2)


def test_train_eval_apply_and_requires_grad() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    assert model.eval() is model and not model[1].training
    assert model.train()[1].training
    seen: list[str] = []
    model.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Dropout", "Sequential"]
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_repr_and_summary() -> None:
    model = perceptron()
    assert repr(model).splitlines()[1] == (
        "  (0): Linear(in_features=4, out_features=8, bias=True)"
    )
    table = model.summary()
    assert "weight (8, 4), bias (8,)" in table
    assert "67 parameters, 67 of them trained" in table
    model[0].requires_grad_(False)
    assert "67 parameters, 27 of them trained" in model.summary()


@pytest.mark.parametrize("name", ["", "a.b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(errors.ArgumentError, match="cannot name"):
        nn.Module().register_buffer(name, accel.zeros(()))


def test_bad_registrations() -> None:
    with pytest.raises(errors.NotAnArrayError, match="Parameter"):
        nn.Module().register_parameter("a", accel.zeros(()))  # type: ignore[arg-type]
    with pytest.raises(errors.NotAnArrayError, match="Tensor"):
        nn.Module().register_buffer("a", 1.0)
    with pytest.raises(errors.NotAnArrayError, match="Module"):
        nn.Module().add_module("a", 1.0)  # type: ignore[arg-type]


# Containers ---------------------------------------------------------------------------------


def test_sequential_indexing_and_names() -> None:
    model = perceptron()
    assert len(model) == 3 and isinstance(model[-1], nn.Linear)
    assert isinstance(model[:2], nn.Sequential) and len(model[:2]) == 2
    with pytest.raises(errors.IndexOutOfRangeError):
        model[3]
    named = nn.Sequential(OrderedDict(first=nn.Linear(2, 2), second=nn.ReLU()))
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert isinstance(named[1], nn.ReLU)
    with pytest.raises(errors.ArgumentError, match="not Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)  # type: ignore[arg-type]


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    layers.append(nn.ReLU())
    layers[2] = nn.Tanh()
    assert [type(layer).__name__ for layer in layers] == ["Linear", "Linear", "Tanh"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    table = nn.ModuleDict({"a": nn.Linear(2, 2)})
    table["b"] = nn.ReLU()
    assert table.keys() == ["a", "b"] and "a" in table and len(table) == 2
    del table["b"]
    assert list(table.state_dict()) == ["a.weight", "a.bias"]
    with pytest.raises(errors.ArgumentError, match="method"):
        table["items"] = nn.ReLU()


# State --------------------------------------------------------------------------------------


def test_state_dict_round_trip() -> None:
    model, other = perceptron(), perceptron()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    result = other.load_state_dict(model.state_dict())
    assert result == ([], [])
    x = accel.ones((2, 4))
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())


def test_state_dict_takes_numpy_and_casts() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.ones((1, 2)), "bias": np.zeros(1)})
    assert layer.weight.dtype is accel.float32
    assert layer.weight.requires_grad
    assert layer(accel.ones((1, 2))).tolist() == [[2.0]]


def test_state_dict_mismatches_change_nothing() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.numpy().copy()
    with pytest.raises(errors.ArgumentError, match=r"missing \['bias'\]"):
        layer.load_state_dict({"weight": np.ones((1, 2))})
    with pytest.raises(errors.ArgumentError, match=r"unexpected \['gain'\]"):
        layer.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(1), "gain": np.ones(1)})
    with pytest.raises(errors.ShapeError, match="bias"):
        layer.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(2)})
    np.testing.assert_array_equal(layer.weight.numpy(), before)
    result = layer.load_state_dict({"weight": np.ones((1, 2)), "gain": 1.0}, strict=False)
    assert result == (["bias"], ["gain"])
    assert layer.weight.tolist() == [[1.0, 1.0]]


def test_state_dict_is_a_snapshot() -> None:
    layer = nn.Linear(2, 1)
    saved = layer.state_dict()
    before = saved["weight"].numpy().copy()
    nn.init.zeros_(layer.weight)
    np.testing.assert_array_equal(saved["weight"].numpy(), before)


def test_deepcopy_is_independent() -> None:
    model = perceptron()
    twin = copy.deepcopy(model)
    nn.init.zeros_(model[0].weight)
    assert isinstance(twin[0].weight, nn.Parameter)
    assert np.abs(twin[0].weight.numpy()).sum() > 0


def test_to_changes_floating_point_only() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("count", accel.zeros((), dtype=accel.int64))
    weight = module.weight
    module.to(accel.float64)
    assert module.weight is weight and weight.dtype is accel.float64 and weight.requires_grad
    assert module.count.dtype is accel.int64
    assert module(accel.ones((1, 2), dtype=accel.float64)).dtype is accel.float64


def test_safetensors_round_trip(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    model, other = perceptron(), perceptron()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    accel.save_safetensors(model.state_dict(), path, {"kind": "perceptron"})
    other.load_state_dict(accel.load_safetensors(path))
    np.testing.assert_array_equal(other[0].weight.numpy(), model[0].weight.numpy())
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "bfloat16", "float64", "complex64"]
)
def test_safetensors_dtypes_and_shapes(tmp_path, dtype: str) -> None:
    path = tmp_path / "a.safetensors"
    dtype_ = to_dtype(dtype)
    saved = {
        "vector": accel.asarray(np.array([0, 1, 2]).astype(dtype_.numpy)),
        "scalar": accel.asarray(np.array(1).astype(dtype_.numpy)),
        "none": accel.asarray(np.zeros((0, 3), dtype_.numpy)),
    }
    accel.save_safetensors(saved, path)
    for name, value in accel.load_safetensors(path).items():
        assert value.dtype is dtype_ and value.shape == saved[name].shape
        np.testing.assert_array_equal(value.numpy(), saved[name].numpy())


def test_safetensors_refusals(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"these are not the bytes of tensors")
    with pytest.raises(errors.ArgumentError, match="not a valid safetensors file"):
        accel.load_safetensors(path)
    with pytest.raises(errors.UnsupportedDTypeError, match="complex128"):
        accel.save_safetensors({"a": np.zeros(1, np.complex128)}, path)
    with pytest.raises(errors.NotAnArrayError, match="float"):
        accel.save_safetensors({"a": 1.0}, path)
    with pytest.raises(errors.ArgumentError, match="metadata"):
        accel.save_safetensors({"a": np.zeros(1)}, path, {"epoch": 1})  # type: ignore[dict-item]
    assert path.read_bytes().startswith(b"these")


# Layers -------------------------------------------------------------------------------------


def test_linear_matches_numpy_and_differentiates() -> None:
    layer = nn.Linear(3, 2)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = x @ layer.weight.numpy().T + layer.bias.numpy()
    out = layer(accel.asarray(x))
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6, atol=1e-6)
    out.sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), np.tile(x.sum(0), (2, 1)), rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad.numpy(), [4.0, 4.0])
    layer.zero_grad()
    assert layer.weight.grad is None


def test_linear_initial_range_and_errors() -> None:
    accel.manual_seed(3)
    layer = nn.Linear(100, 50)
    values = layer.weight.numpy()
    assert np.abs(values).max() <= 0.1 and np.abs(values).max() > 0.095
    assert abs(values.std() - 0.1 / math.sqrt(3)) < 2e-3
    with pytest.raises(errors.ArgumentError, match="in_features"):
        nn.Linear(-1, 2)
    with pytest.raises(errors.ShapeError):
        layer(accel.ones((2, 99))).numpy()


def test_errors_in_a_model_show_the_users_frames_only() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 2))

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(errors.ShapeError) as caught:
        Outer()(accel.ones((2, 4)))
    functions = [entry.name for entry in caught.traceback]
    assert functions[-1] == "forward" and len(functions) == 3  # the test, one call, forward
    assert "test_nn.py" in str(caught.value)


def test_the_seed_decides_initial_values() -> None:
    first, second = perceptron(), perceptron()
    np.testing.assert_array_equal(first[0].weight.numpy(), second[0].weight.numpy())
    assert not np.array_equal(first[0].weight.numpy(), nn.Linear(4, 8).weight.numpy())


@pytest.mark.parametrize("shape", [(5,), (2, 5), (3, 2, 5)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    layer = nn.LayerNorm(5)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(accel.asarray(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_norms_without_affine_and_over_two_axes() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    layer = nn.LayerNorm((3, 4), elementwise_affine=False)
    assert list(layer.parameters()) == []
    found = layer(accel.asarray(x)).numpy()
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(found.var(axis=(1, 2)), 1, rtol=1e-3)
    rms = nn.RMSNorm(4)(accel.asarray(x)).numpy()
    np.testing.assert_allclose((rms * rms).mean(-1), 1, rtol=1e-4)


def test_embedding_values_gradient_and_range() -> None:
    layer = nn.Embedding(6, 3)
    index = accel.asarray(np.array([[0, 5], [5, 2]]))
    out = layer(index)
    np.testing.assert_array_equal(out.numpy(), layer.weight.numpy()[index.numpy()])
    out.sum().backward()
    counts = np.array([1, 0, 1, 0, 0, 2.0])
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.tile(counts[:, None], (1, 3)))
    with pytest.raises(errors.IndexOutOfRangeError):
        layer(accel.asarray(np.array([6]))).numpy()


def test_dropout_scales_what_it_keeps() -> None:
    accel.manual_seed(0)
    layer = nn.Dropout(0.25)
    out = layer(accel.ones((10_000,))).numpy()
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / 0.75)
    assert abs(kept.mean() - 0.75) < 0.02
    assert layer.eval()(accel.ones((10,))).tolist() == [1.0] * 10
    assert np.array_equal(nn.Dropout(1.0)(accel.ones((4,))).numpy(), np.zeros(4))
    with pytest.raises(errors.ArgumentError, match="p is"):
        nn.Dropout(1.5)


def test_dropout_gradient_uses_the_same_mask() -> None:
    x = accel.ones((100,)).requires_grad_()
    out = nn.Dropout(0.5)(x)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), out.numpy())


def test_flatten_and_identity() -> None:
    x = accel.ones((2, 3, 4))
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Identity(5, any="thing")(x) is x


POINTS = np.array([-4.0, -1.0, -0.1, 0.0, 0.5, 3.0, 30.0], dtype=np.float32)
ACTIVATIONS = {
    nn.ReLU(): np.maximum(POINTS, 0),
    nn.ReLU6(): np.clip(POINTS, 0, 6),
    nn.Sigmoid(): 1 / (1 + np.exp(-POINTS)),
    nn.Tanh(): np.tanh(POINTS),
    nn.SiLU(): POINTS / (1 + np.exp(-POINTS)),
    nn.GELU(): [p * 0.5 * (1 + math.erf(p / math.sqrt(2))) for p in POINTS],
    nn.LeakyReLU(0.2): np.where(POINTS > 0, POINTS, 0.2 * POINTS),
    nn.ELU(0.5): np.where(POINTS > 0, POINTS, 0.5 * np.expm1(POINTS)),
    nn.Softplus(): np.log1p(np.exp(POINTS)),
    nn.LogSigmoid(): -np.log1p(np.exp(-POINTS)),
    nn.Hardtanh(-2, 1): np.clip(POINTS, -2, 1),
    nn.Hardswish(): POINTS * np.clip(POINTS + 3, 0, 6) / 6,
    nn.Softmax(0): np.exp(POINTS) / np.exp(POINTS).sum(),
    nn.PReLU(): np.where(POINTS > 0, POINTS, 0.25 * POINTS),
}


@pytest.mark.parametrize("module", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_activations(module: nn.Module) -> None:
    found = module(accel.asarray(POINTS)).numpy()
    np.testing.assert_allclose(found, ACTIVATIONS[module], rtol=2e-5, atol=1e-6)


def test_losses() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3)).astype(np.float32), np.array([0, 2, 1, 1, 0])
    powers = np.exp(logits)
    rows = -np.log(powers / powers.sum(1, keepdims=True))[np.arange(5), labels]
    x, y = accel.asarray(logits), accel.asarray(labels)
    assert nn.CrossEntropyLoss()(x, y).item() == pytest.approx(rows.mean(), rel=1e-5)
    assert nn.CrossEntropyLoss(reduction="sum")(x, y).item() == pytest.approx(rows.sum(), rel=1e-5)
    none = nn.CrossEntropyLoss(reduction="none")(x, y).numpy()
    np.testing.assert_allclose(none, rows, rtol=1e-5)
    other = rng.normal(size=(5, 3)).astype(np.float32)
    difference = logits - other
    mean_square = nn.MSELoss()(x, accel.asarray(other)).item()
    assert mean_square == pytest.approx((difference**2).mean(), rel=1e-5)
    mean = nn.L1Loss()(x, accel.asarray(other)).item()
    assert mean == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    log_probabilities = functional.log_softmax(x, dim=1)
    assert nn.NLLLoss()(log_probabilities, y).item() == pytest.approx(rows.mean(), rel=1e-5)
    with pytest.raises(errors.ArgumentError, match="reduction"):
        nn.MSELoss(reduction="average")
    with pytest.raises(errors.IndexOutOfRangeError):
        nn.CrossEntropyLoss()(x, accel.asarray(np.array([0, 1, 2, 3, 0]))).numpy()


def test_cosine_similarity_of_zero_is_zero() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    y = np.array([[4.0, 3.0], [1.0, 1.0]], np.float32)
    found = functional.cosine_similarity(accel.asarray(x), accel.asarray(y))
    np.testing.assert_allclose(found.numpy(), [0.96, 0.0], rtol=1e-6)


def test_ignored_rows_count_neither_in_the_loss_nor_in_its_gradient() -> None:
    logits = accel.asarray(np.zeros((2, 3), np.float32)).requires_grad_()
    loss = nn.CrossEntropyLoss(ignore_index=-1)(logits, accel.asarray(np.array([1, -1])))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    np.testing.assert_array_equal(logits.grad.numpy()[1], 0)


# Under compile ------------------------------------------------------------------------------


def test_compiled_model_sees_new_parameters_and_training_flag() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    predict = accel.compile(lambda x: model(x))
    x = accel.ones((64, 2))
    model.eval()
    np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    nn.init.zeros_(model[0].weight)
    nn.init.ones_(model[0].bias)
    np.testing.assert_allclose(predict(x).numpy(), np.ones((64, 2)))
    model.train()
    assert set(np.unique(predict(x).numpy())) == {0.0, 2.0}


def test_compiled_forward_writes_buffers_back() -> None:
    module = Counter()
    run = accel.compile(lambda x: module(x) * 2)
    for _ in range(3):
        run(accel.ones((4,)))
    assert module.total.item() == 12.0


def test_replacing_a_layer_retraces() -> None:
    model = nn.Sequential(nn.Identity())
    run = accel.compile(lambda x: model(x))
    assert run(accel.ones((1,))).tolist() == [1.0]
    model[0] = nn.LeakyReLU(0.5)
    assert run(-accel.ones((1,))).tolist() == [-0.5]
    model[0].negative_slope = 0.25
    assert run(-accel.ones((1,))).tolist() == [-0.25]


@pytest.mark.torch
def test_state_dict_fits_torch() -> None:
    import torch

    ours = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Embedding(3, 2))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8), torch.nn.Embedding(3, 2)
    )
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    ours.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.no_grad():
        expected = theirs[:3](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours[:3](accel.asarray(x)).numpy(), expected, rtol=1e-5, atol=1e-5)
