"""Live modules of PyTorch, in both directions."""

import warnings

import numpy as np
import pytest
from exchange_models import IDS, E, H, T, V, torch_answer, torch_model

from scratchlstm import Sequential, layers, optimizers
from scratchlstm.interop.torch import from_torch, load_torch_weights, save_safetensors, to_torch, torch_state_dict
from scratchlstm.layers import LSTM, Activation, Bidirectional, Dense, Dropout, Embedding

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed here: live modules are NOT tested, only files that it wrote"
)
nn = torch.nn


def same_bits(ours, theirs):
    return [(w.dtype, w.shape, w.tobytes()) for w in ours] == [(w.dtype, w.shape, w.tobytes()) for w in theirs]


def answer(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(np.asarray(x))).numpy()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no bias"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_model_comes_over_live_and_as_a_state_dict(layers, bias, bidirectional):
    module = torch_model(layers, bidirectional, bias)
    ours = from_torch(module, activation="sigmoid")
    assert [layer.name for layer in ours.layers if isinstance(layer, Dropout)] == [
        *(f"lstm_{level}_dropout" for level in range(1, layers)),
        "dropout",
    ]
    for model in (ours, from_torch(module.state_dict(), activation="sigmoid")):
        np.testing.assert_allclose(model.predict(IDS, verbose=0), torch_answer(module), rtol=0, atol=1e-6)
    again = Sequential([Embedding(V, E, input_shape=(T,))])
    for _ in range(layers):
        cell = LSTM(H, use_bias=bias, return_sequences=True)
        again.add(Bidirectional(cell) if bidirectional else cell)
    again.add(Dense(2))
    load_torch_weights(again, module)
    assert same_bits(again.get_weights(), ours.get_weights())


RECURRENT = {
    "LSTM": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 3}),
    "GRU": (nn.GRU, {}),
    "RNN": (nn.RNN, {}),
    "RNN of relu": (nn.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrence_alone(kind, batch_first, dtype):
    make, options = RECURRENT[kind]
    module = make(E, H, 2, batch_first=batch_first, dtype=getattr(torch, dtype), **options).eval()
    ours = from_torch(module, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(3, T, E)).astype(dtype)
    with torch.no_grad():
        steps, state = module(torch.from_numpy(x if batch_first else np.swapaxes(x, 0, 1).copy()))
    h = state[0] if isinstance(state, tuple) else state
    steps = steps.numpy() if batch_first else np.swapaxes(steps.numpy(), 0, 1)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(ours.predict(x, verbose=0), steps, rtol=0, atol=tolerance)
    np.testing.assert_allclose(from_torch(module).predict(x, verbose=0), h[-1].numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no bias"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrence_there_and_back(kind, bias, bidirectional):
    """As a module and as a state dict in, as a module out, and into the module that it came from."""
    make, options = RECURRENT[kind]
    options = options | {"bias": bias, "bidirectional": bidirectional, "batch_first": True}
    module = nn.Sequential(make(E, H, 2, dropout=0.25, dtype=torch.float64, **options)).eval()
    ours = from_torch(module)
    names = [layer.name for layer in ours.layers]
    assert names == ["0", "0_1_dropout", "0_1"]
    x = np.random.default_rng(0).normal(size=(3, T, E))
    wanted = ours.predict(x, verbose=0)
    np.testing.assert_allclose(answer(to_torch(ours), x), wanted, rtol=0, atol=1e-14)
    if kind != "RNN of relu":  # of which a state dict does not tell
        np.testing.assert_allclose(from_torch(module.state_dict()).predict(x, verbose=0), wanted, rtol=0, atol=0)
    state = torch_state_dict(ours, module)
    assert list(state) == list(module.state_dict())
    module.load_state_dict(state)
    assert same_bits(from_torch(module).get_weights(), ours.get_weights())


@pytest.mark.parametrize("make", [layers.GRU, lambda n, **o: layers.RNN(layers.GRUCell(n), **o)], ids=["GRU", "RNN"])
def test_a_gru_goes_over_bit_for_bit(make):
    """Both of its biases, which are two here, too."""
    ours = Sequential([Bidirectional(make(H, return_sequences=True), input_shape=(None, E)), make(3), Dense(2)])
    ours.set_weights([w + 0.1 for w in ours.get_weights()])
    x = np.random.default_rng(0).normal(size=(2, 5, E)).astype("float32")
    module = to_torch(ours)
    np.testing.assert_allclose(answer(module, x), ours.predict(x, verbose=0), rtol=0, atol=1e-6)
    assert same_bits(from_torch(module).get_weights(), ours.get_weights())


def test_a_sequential_of_activations():
    module = nn.Sequential(
        nn.Linear(E, 3), nn.Tanh(), nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Identity(), nn.Dropout(0.25),
        nn.Hardsigmoid(), nn.Linear(4, 3), nn.Softmax(dim=-1),
    ).eval()  # fmt: skip
    ours = from_torch(module)
    x = np.random.default_rng(0).normal(size=(3, E)).astype("float32")
    np.testing.assert_allclose(ours.predict(x, verbose=0), answer(module, x), rtol=0, atol=1e-6)
    assert ours.layers[5].rate == 0.25
    np.testing.assert_allclose(answer(to_torch(ours), x), answer(module, x), rtol=0, atol=0)


def our_model(dtype="float32"):
    model = Sequential([Embedding(V, E, input_shape=(T,), dtype=dtype)], seed=0)
    model.add(LSTM(H, return_sequences=True, name="lower", dtype=dtype))
    model.add(Dropout(0.5, dtype=dtype))
    model.add(LSTM(3, use_bias=False, dtype=dtype))
    model.add(Dense(2, "relu", dtype=dtype))
    model.add(Dense(3, dtype=dtype))
    model.add(Activation("softmax", dtype=dtype))
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_our_model_goes_over_and_comes_back_bit_for_bit(dtype, tmp_path):
    ours = our_model(dtype)
    module = to_torch(ours)
    assert not module.training
    np.testing.assert_allclose(answer(module, IDS), ours.predict(IDS, verbose=0), rtol=0, atol=1e-6)
    back = from_torch(module)
    assert same_bits(back.get_weights(), ours.get_weights())
    np.testing.assert_allclose(back.predict(IDS, verbose=0), ours.predict(IDS, verbose=0), rtol=0, atol=1e-6)
    state = torch_state_dict(ours)
    assert same_bits([w.numpy() for w in state.values()], [w.numpy() for w in module.state_dict().values()])
    assert list(state) == list(module.state_dict())
    from safetensors.torch import load_file

    save_safetensors(ours, tmp_path / "m.safetensors")
    module.load_state_dict(load_file(tmp_path / "m.safetensors"))
    for name in state:
        assert not any(np.shares_memory(state[name].numpy(), param) for param in ours.params), (
            "PyTorch must not write into our arrays"
        )


@pytest.mark.parametrize("last", [LSTM(3), LSTM(3, return_sequences=True)], ids=["last", "sequence"])
def test_both_directions_go_over(last):
    first = Bidirectional(LSTM(H, return_sequences=True), input_shape=(None, E))
    ours = Sequential([first, Bidirectional(last), Dense(2)], seed=0)
    x = np.random.default_rng(0).normal(size=(2, 5, E)).astype("float32")
    module = to_torch(ours)
    np.testing.assert_allclose(answer(module, x), ours.predict(x, verbose=0), rtol=0, atol=1e-6)
    assert same_bits(from_torch(module).get_weights(), ours.get_weights())


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
def test_weights_go_back_into_the_module_that_they_came_from(bidirectional):
    """Under its own names, in its own stack, after training here."""
    module = torch_model(2, bidirectional)
    ours = from_torch(module)
    ours.compile("adam", "mse")
    ours.fit(IDS, np.eye(3)[:, :2], epochs=2, verbose=0)
    for like in (module, module.state_dict()):
        state = torch_state_dict(ours, like)
        assert list(state) == list(module.state_dict())
        module.load_state_dict(state)
        assert same_bits(from_torch(module).get_weights(), ours.get_weights())
    ours.add(Activation("sigmoid"))
    np.testing.assert_allclose(torch_answer(module), ours.predict(IDS, verbose=0), rtol=0, atol=1e-6)
    alone = nn.LSTM(E, H)
    assert list(torch_state_dict(from_torch(alone), alone)) == list(alone.state_dict())
    with pytest.raises(ValueError, match="nothing fits fc"):
        torch_state_dict(ours, nn.Sequential(module.embedding, module.lstm))


def test_every_step_goes_over():
    ours = Sequential([LSTM(H, return_sequences=True, input_shape=(None, E)), Dense(2)])
    x = np.random.default_rng(0).normal(size=(2, 5, E)).astype("float32")
    np.testing.assert_allclose(answer(to_torch(ours), x), ours.predict(x, verbose=0), rtol=0, atol=1e-6)


def test_training_the_module_leaves_our_model_alone():
    ours = our_model()
    before = ours.get_weights()
    module = to_torch(ours)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    assert same_bits(ours.get_weights(), before)


class _Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.scale = nn.LSTM(E, H), nn.Parameter(torch.ones(1))


def _with(module, **attributes):
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


MODULES = {
    "a cell": (lambda: nn.GRUCell(2, 3), "GRUCell '' has no counterpart in scratchlstm"),
    "normalization": (lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "BatchNorm1d '1' has no counterpart"),
    "a parameter of its own": (_Own, "_Own '' has no counterpart"),
    "a class of its own": (lambda: nn.Sequential(type("LSTM", (nn.LSTM,), {})(2, 3)), "LSTM '0' has no counterpart"),
    "max_norm": (lambda: nn.Embedding(3, 2, max_norm=1.0), r"Embedding '' has max_norm=1\.0, which"),
    "frequencies": (lambda: nn.Embedding(3, 2, scale_grad_by_freq=True), "has scale_grad_by_freq=True, which"),
    "another axis": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1)), "Softmax '1' has dim=1"),
    "half precision": (lambda: nn.Linear(2, 3).half(), "weight is torch.float16; it must be float32 or float64"),
    "bfloat16": (lambda: nn.Linear(2, 3).bfloat16(), "weight is torch.bfloat16"),
    "everything dropped": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(1.0)), "Dropout '1': rate must be"),
    "nothing": (nn.Identity, "no Embedding, LSTM, GRU, RNN or Linear"),
    "sizes": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), "kernel of 1 has shape"),
}


@pytest.mark.parametrize(("make", "match"), MODULES.values(), ids=MODULES)
def test_modules_that_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        from_torch(make())


def test_what_is_passed_over():
    """A loss among the attributes, and a padding row, with a warning."""
    module = nn.Module()
    module.embedding, module.loss = nn.Embedding(V, E, padding_idx=0), nn.BCEWithLogitsLoss()
    with pytest.warns(UserWarning, match="Embedding 'embedding' has padding_idx=0; training changes that row here"):
        ours = from_torch(module)
    assert [layer.name for layer in ours.layers] == ["embedding"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_torch(torch_model(2))


def test_two_dtypes_do_not_go_over():
    ours = Sequential([Dense(2, input_shape=(3,)), Dense(2, dtype="float64")])
    with pytest.raises(ValueError, match="compute in float32 and float64; for PyTorch they must agree"):
        to_torch(ours)


# --- what docs/exchange.md says of training ---------------------------------------------------------------------------


def test_two_biases_move_twice_as_far():
    """Both biases get the same gradient, so that their sum takes a doubled step."""
    module = nn.LSTM(E, H, batch_first=True, dtype=torch.float64)
    ours = from_torch(module)
    x = np.random.default_rng(0).normal(size=(3, T, E))
    start = ours.get_weights()
    module(torch.from_numpy(x))[1][0].square().sum().backward()
    y, cache = ours.forward(x)
    grads = ours.backward(2 * y, cache)[1]
    torch.optim.SGD(module.parameters(), lr=0.125).step()
    optimizers.SGD(0.125).apply(ours.params, list(grads.values()))
    theirs = from_torch(module).get_weights()
    for factor, now, then, w0 in zip((1, 1, 2), theirs, ours.get_weights(), start, strict=True):
        np.testing.assert_allclose(now - w0, factor * (then - w0), rtol=1e-9, atol=1e-15)


def test_adams_epsilon_is_added_after_the_bias_correction_there():
    """The same step with epsilon scaled by sqrt(1 - beta_2^t), here for t = 1."""
    gradient, start = np.array([1e-7, -3e-7, 1.0]), np.zeros(3)
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    parameter.grad = torch.from_numpy(gradient)
    torch.optim.Adam([parameter], lr=0.125, eps=1e-7).step()
    steps = {}
    for name, epsilon in (("as it is", 1e-7), ("scaled", 1e-7 * np.sqrt(1 - 0.999))):
        steps[name] = start.copy()
        optimizers.Adam(0.125, epsilon=epsilon).apply([steps[name]], [gradient])
    np.testing.assert_allclose(steps["scaled"], parameter.detach().numpy(), rtol=1e-9)
    assert np.abs(steps["as it is"] / steps["scaled"] - 1).max() > 0.5


def test_tensors_as_data():
    """A tensor on the CPU is an array; one that requires a gradient, a data set and a `DataLoader` are refused."""
    rng = np.random.default_rng(0)
    x, y, weight = rng.random((4, 2), dtype=np.float32), np.array([0, 1, 0, 1.0]), rng.random(4, dtype=np.float32)
    results = []
    for of in np.asarray, torch.tensor:
        model = Sequential([Dense(1, "sigmoid", input_shape=(2,))], seed=0)
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
        history = model.fit(of(x), of(y), sample_weight=of(weight), validation_data=(of(x), of(y)), verbose=0).history
        results.append((history, model.train_on_batch(of(x), of(y)), model.evaluate(of(x), of(y), verbose=0)))
        results[-1] += (model.predict(of(x), verbose=0).tolist(),)
    assert results[0] == results[1]
    with pytest.raises(TypeError, match="x cannot be converted to a NumPy array: .*requires grad"):
        model.predict(torch.tensor(x, requires_grad=True))

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise AssertionError("it was read")

    for source in Items(), torch.utils.data.DataLoader(Items()):
        with pytest.raises(TypeError, match="x must be an array or a list of rows, not a "):
            model.fit(source, verbose=0)
